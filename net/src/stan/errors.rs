//! The error texts that STAN clients know, to the letter.

use weirlog_engine::error::RequestError;

/// A connect request that is none, or without heartbeat inbox.
pub const INVALID_CONNECT: &str = "stan: invalid connection request";
/// A client id outside its alphabet.
pub const INVALID_CLIENT_ID: &str =
    "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed";
/// The id belongs to a client that is there.
pub const CLIENT_EXISTS: &str = "stan: clientID already registered";
/// A publish that is none, or to no channel, or by nobody known.
pub const INVALID_PUBLISH: &str = "stan: invalid publish request";
/// A subscription request that is none.
pub const INVALID_SUBSCRIPTION_REQUEST: &str = "stan: invalid subscription request";
/// A subscription request without client.
pub const CLIENT_ID_MISSING: &str = "stan: clientID missing";
/// No time to ack.
pub const INVALID_ACK_WAIT: &str = "stan: invalid ack wait time, should be >= 1s";
/// Nothing may be in flight.
pub const INVALID_MAX_IN_FLIGHT: &str = "stan: invalid MaxInflight, should be >= 1";
/// A start position without meaning.
pub const INVALID_START: &str = "stan: invalid start position";
/// Not the name of a channel.
pub const INVALID_SUBJECT: &str = "stan: invalid subject";
/// The channel is not for this user: a text of ours, since the reference never refuses one.
pub const CHANNEL_DENIED: &str = "stan: permissions violation for subscription";
/// A durable queue group's name would not be unique.
pub const INVALID_DURABLE_NAME: &str =
    "stan: durable name of a durable queue subscriber can't contain the character ':'";
/// The durable is in use.
pub const DUPLICATE_DURABLE: &str = "stan: duplicate durable registration";
/// Nobody is registered by this id, or the subscription is another's.
pub const UNKNOWN_CLIENT: &str = "stan: unknown clientID";
/// No such subscription.
pub const INVALID_SUBSCRIPTION: &str = "stan: invalid subscription";
/// No such channel.
pub const UNKNOWN_CHANNEL: &str = "stan: unknown channel";
/// An unsubscribe or close request of a subscription that is none.
pub const INVALID_UNSUBSCRIBE: &str = "stan: invalid unsubscribe request";
/// A close request that is none.
pub const INVALID_CLOSE: &str = "stan: invalid close request";
/// A ping of a client that is not registered (any more).
pub const CLIENT_REPLACED: &str = "client has been replaced or is no longer registered";

/// The text for a request that the engine refuses. `channel` is what the client asked for. No file of the server is
/// named: the operator finds it in the log.
#[must_use]
pub fn text_of(error: &RequestError, channel: &str) -> String {
    match error {
        RequestError::OtherCase { existing } => format!(
            "rejecting channel {channel:?} because channel {existing:?} alreay exists (different cases not allowed)"
        ),
        RequestError::UnknownChannel => UNKNOWN_CHANNEL.to_owned(),
        RequestError::UnknownSubscription => INVALID_SUBSCRIPTION.to_owned(),
        RequestError::UnknownClient => UNKNOWN_CLIENT.to_owned(),
        RequestError::DuplicateDurable => DUPLICATE_DURABLE.to_owned(),
        RequestError::LogFinished(failure) => {
            format!("the shard's log takes no more writes: {}", failure.reason())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use weirlog_engine::error::DiskError;

    use super::*;

    #[test]
    fn a_failed_write_names_no_file() {
        let file = || "shard-03/segment-0000000001".to_owned();
        let failed =
            DiskError::Io { file: file(), what: "write", reason: "input/output error".to_owned() };
        let short = DiskError::Short { file: file(), written: 512, wanted: 4096 };
        let told = |failure| text_of(&RequestError::LogFinished(failure), "a");
        assert_eq!(told(failed), "the shard's log takes no more writes: write: input/output error");
        assert_eq!(
            told(short),
            "the shard's log takes no more writes: short write of 512 of 4096 bytes"
        );
        for failure in [
            DiskError::Absent { file: file() },
            DiskError::Exists { file: file() },
            DiskError::Full { file: file() },
        ] {
            assert!(!told(failure).contains("segment"));
        }
    }

    #[test]
    fn limits_have_the_texts_clients_know() {
        assert_eq!(text_of(&RequestError::TooManyChannels, "a"), "too many channels");
        assert_eq!(
            text_of(&RequestError::TooManySubscriptions, "a"),
            "too many subscriptions per channel"
        );
        let other_case = RequestError::OtherCase { existing: "Foo".to_owned() };
        assert_eq!(
            text_of(&other_case, "foo"),
            "rejecting channel \"foo\" because channel \"Foo\" alreay exists (different cases not allowed)"
        );
    }
}
