//! STAN's subjects: those of the cluster, and the inboxes this server makes.
//!
//! ```text
//! _INBOX.WL.A ss iiiiiiiiiiiiiiii tttttttttttttttt   acks: shard, subscription, token (hex)
//! _INBOX.WL.R cccc nnnnnnnnnnnnnnnn                  replies to questions of ours: core, nonce (hex)
//! ```
//! An inbox says where it leads, so that nothing is looked up, and nothing is subscribed: a publish to one is
//! recognised before any other subject. Their lengths differ from those of clients' inboxes, so that a random inbox
//! of a client is never taken for one of these.

use weirlog_engine::types::{ShardId, SubscriptionId};

use crate::config::NetConfig;
use crate::ids::CoreId;

/// What a publish to one of the cluster's subjects asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `_STAN.discover.<cluster>`.
    Connect,
    /// `_STAN.discover.<cluster>.pings`.
    Ping,
    /// `_STAN.sub.<cluster>`.
    Subscribe,
    /// `_STAN.unsub.<cluster>`.
    Unsubscribe,
    /// `_STAN.subclose.<cluster>`.
    CloseSubscription,
    /// `_STAN.close.<cluster>`.
    Close,
    /// `_STAN.part.<cluster>`.
    Partition,
}

/// The subjects of one cluster.
#[derive(Debug, Clone)]
pub struct Subjects {
    /// `_STAN.pub.<cluster>`, as a connect response names it.
    pub publish: String,
    /// The same with the dot that comes before a channel.
    publish_prefix: Vec<u8>,
    /// What connect requests begin with, if that is not [`SERVICE_PREFIX`].
    other_prefix: Option<Vec<u8>>,
    /// See [`Service`].
    pub connect: String,
    /// See [`Service`].
    pub ping: String,
    /// See [`Service`].
    pub subscribe: String,
    /// See [`Service`].
    pub unsubscribe: String,
    /// See [`Service`].
    pub close_subscription: String,
    /// See [`Service`].
    pub close: String,
    /// See [`Service`]; none if nobody shares the cluster's name.
    pub partition: Option<String>,
}

/// What an inbox of this server leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerInbox {
    /// Acks of a subscription.
    Ack {
        /// Its shard.
        shard: ShardId,
        /// Its number.
        subscription: SubscriptionId,
        /// Its token.
        token: u64,
    },
    /// The answer to a question.
    Reply {
        /// The core that asked.
        core: CoreId,
        /// Names the question.
        nonce: u64,
    },
}

/// What all subjects of STAN services begin with.
const SERVICE_PREFIX: &[u8] = b"_STAN.";
/// What all inboxes of this server begin with.
pub const INBOX_PREFIX: &[u8] = b"_INBOX.WL.";
/// All of them, for another NATS server.
pub const INBOX_PATTERN: &str = "_INBOX.WL.*";

const ACK_DIGITS: [usize; 3] = [2, 16, 16];
const REPLY_DIGITS: [usize; 2] = [4, 16];

impl Subjects {
    /// Those of a server.
    #[must_use]
    pub fn of(config: &NetConfig) -> Self {
        Self::new(&config.cluster_id, &config.discover_prefix, config.partition.is_some())
    }

    /// Those of `cluster_id`, with connect requests below `discover_prefix`, and for a server that shares the cluster
    /// with others.
    #[must_use]
    pub fn new(cluster_id: &str, discover_prefix: &str, is_partitioned: bool) -> Self {
        let connect = format!("{discover_prefix}.{cluster_id}");
        let is_usual = connect.as_bytes().starts_with(SERVICE_PREFIX);
        Self {
            other_prefix: (!is_usual).then(|| connect.clone().into_bytes()),
            publish: format!("_STAN.pub.{cluster_id}"),
            publish_prefix: format!("_STAN.pub.{cluster_id}.").into_bytes(),
            ping: format!("{connect}.pings"),
            connect,
            subscribe: format!("_STAN.sub.{cluster_id}"),
            unsubscribe: format!("_STAN.unsub.{cluster_id}"),
            close_subscription: format!("_STAN.subclose.{cluster_id}"),
            close: format!("_STAN.close.{cluster_id}"),
            partition: is_partitioned.then(|| format!("_STAN.part.{cluster_id}")),
        }
    }

    /// Patterns of all subjects that the server itself takes messages on, its inboxes too.
    #[must_use]
    pub fn patterns(&self) -> Vec<Vec<u8>> {
        let publishes = format!("{}.>", self.publish);
        let services = [
            &self.connect,
            &self.ping,
            &self.subscribe,
            &self.unsubscribe,
            &self.close_subscription,
            &self.close,
        ];
        let services = services.into_iter().chain(&self.partition).map(String::as_str);
        let all = services.chain([publishes.as_str(), INBOX_PATTERN]);
        all.map(|pattern| pattern.as_bytes().to_vec()).collect()
    }

    /// Whether `subject` may be one of a service; most others are told apart by this.
    #[must_use]
    #[inline]
    pub fn may_be_service(&self, subject: &[u8]) -> bool {
        subject.starts_with(SERVICE_PREFIX)
            || self.other_prefix.as_ref().is_some_and(|prefix| subject.starts_with(prefix))
    }

    /// Whether `subject` is that of a publish to a channel.
    #[must_use]
    #[inline]
    pub fn is_publish(&self, subject: &[u8]) -> bool {
        self.channel_of(subject).is_some()
    }

    /// The channel that `subject` names, if it is that of a publish to one.
    #[must_use]
    #[inline]
    pub fn channel_of<'a>(&self, subject: &'a [u8]) -> Option<&'a [u8]> {
        subject.strip_prefix(self.publish_prefix.as_slice()).filter(|channel| !channel.is_empty())
    }

    /// The service behind `subject`, if there is one.
    #[must_use]
    pub fn service(&self, subject: &[u8]) -> Option<Service> {
        let services = [
            (&self.subscribe, Service::Subscribe),
            (&self.connect, Service::Connect),
            (&self.ping, Service::Ping),
            (&self.unsubscribe, Service::Unsubscribe),
            (&self.close_subscription, Service::CloseSubscription),
            (&self.close, Service::Close),
        ];
        let found = services.iter().find(|(name, _)| name.as_bytes() == subject);
        found.map(|(_, service)| *service).or_else(|| {
            let is_partition = self.partition.as_ref().map(String::as_bytes) == Some(subject);
            is_partition.then_some(Service::Partition)
        })
    }
}

impl ServerInbox {
    /// The inbox as a subject.
    #[must_use]
    pub fn to_subject(self) -> String {
        match self {
            Self::Ack { shard, subscription, token } => {
                assert!(shard.0 < 256, "a store has at most 64 shards");
                format!("_INBOX.WL.A{:02x}{:016x}{token:016x}", shard.0, subscription.0)
            }
            Self::Reply { core, nonce } => format!("_INBOX.WL.R{:04x}{nonce:016x}", core.0),
        }
    }

    /// The inbox behind a subject, if it is one of this server's.
    #[must_use]
    pub fn parse(subject: &[u8]) -> Option<Self> {
        let (kind, digits) = subject.strip_prefix(INBOX_PREFIX)?.split_first()?;
        match kind {
            b'A' => {
                let [shard, subscription, token] = hex_fields(digits, ACK_DIGITS)?;
                let shard = ShardId(u16::try_from(shard).ok()?);
                Some(Self::Ack { shard, subscription: SubscriptionId(subscription), token })
            }
            b'R' => {
                let [core, nonce] = hex_fields(digits, REPLY_DIGITS)?;
                Some(Self::Reply { core: CoreId(u16::try_from(core).ok()?), nonce })
            }
            _ => None,
        }
    }
}

/// Numbers of fixed widths that fill `digits` exactly.
fn hex_fields<const N: usize>(mut digits: &[u8], widths: [usize; N]) -> Option<[u64; N]> {
    let mut values = [0; N];
    for (value, width) in values.iter_mut().zip(widths) {
        let (field, rest) = digits.split_at_checked(width)?;
        for digit in field {
            let nibble = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *value = (*value << 4) | u64::from(nibble);
        }
        digits = rest;
    }
    digits.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_comes_back_as_it_was_made() {
        for inbox in [
            ServerInbox::Ack {
                shard: ShardId(63),
                subscription: SubscriptionId(u64::MAX),
                token: 1,
            },
            ServerInbox::Ack {
                shard: ShardId(0),
                subscription: SubscriptionId(1),
                token: u64::MAX,
            },
            ServerInbox::Reply { core: CoreId(u16::MAX), nonce: 0x0123_4567_89ab_cdef },
        ] {
            assert_eq!(ServerInbox::parse(inbox.to_subject().as_bytes()), Some(inbox));
        }
    }

    #[test]
    fn an_inbox_of_a_client_is_none_of_ours() {
        let good = ServerInbox::Reply { core: CoreId(1), nonce: 0xab }.to_subject();
        let long = format!("{good}0");
        for subject in [
            "_INBOX.WL.A",
            "_INBOX.WL.Aabcdefghijklmnopqrs",
            "_INBOX.WL.Rabcdefghijklmnopqrs",
            "_INBOX.WL",
            &good[..good.len() - 1],
            long.as_str(),
            &good.to_uppercase(),
        ] {
            assert_eq!(ServerInbox::parse(subject.as_bytes()), None, "{subject}");
        }
    }

    #[test]
    fn subjects_lead_to_services() {
        let subjects = Subjects::new("c1", "_STAN.discover", false);
        assert!(subjects.is_publish(b"_STAN.pub.c1.foo.bar"));
        assert!(!subjects.is_publish(b"_STAN.pub.c1."));
        assert!(!subjects.is_publish(b"_STAN.pub.c12.foo"));
        assert_eq!(subjects.service(b"_STAN.discover.c1"), Some(Service::Connect));
        assert_eq!(subjects.service(b"_STAN.discover.c1.pings"), Some(Service::Ping));
        assert_eq!(subjects.service(b"_STAN.subclose.c1"), Some(Service::CloseSubscription));
        assert_eq!(subjects.service(b"_STAN.discover.c2"), None);
        let subjects = Subjects::new("c1", "find.me", false);
        assert_eq!(subjects.service(b"find.me.c1"), Some(Service::Connect));
        assert_eq!(subjects.service(b"find.me.c1.pings"), Some(Service::Ping));
        assert_eq!(subjects.service(b"_STAN.discover.c1"), None);
        assert!(subjects.may_be_service(b"find.me.c1.pings"));
        assert!(subjects.may_be_service(b"_STAN.sub.c1"));
        assert!(!subjects.may_be_service(b"find.you.c1"));
    }
}
