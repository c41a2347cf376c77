//! Subscriptions begin and end: requests are checked on the connection's core in the order of the reference, and done
//! on the shard's. The answer leaves from there too, before the first delivery, over the same link.

use bytes::Bytes;
use weirlog_engine::disk::Disk;
use weirlog_engine::placement::shard_of_channel;
use weirlog_engine::request::{
    Answer, ClientKey, StartAt, Subscribe, SubscriptionEnd, SubscriptionKind, SubscriptionRef,
};
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::{Now, Sequence, ShardId, Timestamp};

use super::Pending;
use super::errors;
use super::subjects::{ServerInbox, Service};
use super::wire::{StartPosition, SubscriptionRequest, SubscriptionResponse, UnsubscribeRequest};
use crate::config::NetConfig;
use crate::core::Core;
use crate::ids::ConnectionId;
use crate::link::StanMessage;
use crate::registry::Registry;
use crate::subject::{is_valid_channel, is_valid_publish};

/// Stands for a client that is not registered: a home's incarnations begin at 1.
const NOBODY: ClientKey = ClientKey { home: ShardId(0), incarnation: 0 };

impl<D: Disk, R: Runtime> Core<D, R> {
    /// A message to the subscribe subject.
    pub(crate) fn on_subscription_request(
        &mut self,
        id: ConnectionId,
        payload: &[u8],
        reply: &[u8],
        now: Now,
    ) {
        if self.hub.config.partition.is_some()
            && let Ok(request) = SubscriptionRequest::decode(payload)
            && (!self.serves_channel(request.subject)
                || self.holds_subscription(id, &request, (payload, reply), now))
        {
            return;
        }
        let checked = check_subscribe(payload, &self.hub.config, &self.hub.registry, now);
        let request = match checked {
            Ok(request) => request,
            Err(error) => {
                self.answer_subscription(reply, error);
                return;
            }
        };
        let may_subscribe = self.may_subscribe_channel(id, &request.channel)
            && self.may_use_inbox(id, &request.target);
        if !may_subscribe {
            self.answer_subscription(reply, errors::CHANNEL_DENIED);
            return;
        }
        let shard = shard_of_channel(&request.channel, self.hub.config.shard_count);
        let message = StanMessage::Subscribe {
            shard,
            request: Box::new(request),
            reply: Bytes::copy_from_slice(reply),
        };
        self.send_stan_from(id, self.hub.core_of(shard), message);
    }

    /// A subscription request on the shard's core.
    pub(crate) fn on_subscribe_call(
        &mut self,
        shard: ShardId,
        request: Subscribe,
        reply: Bytes,
        now: Now,
    ) {
        // Its client may have been closed while the request was on its way: then nothing would ever end it.
        if !self.hub.registry.contains(request.client) {
            self.answer_subscription(&reply, errors::UNKNOWN_CLIENT);
            return;
        }
        let channel = request.channel.clone();
        let ticket = self.stan.ticket(Pending::Subscribe { shard, channel, reply });
        self.with_shard(shard, |shard| shard.subscribe(request, ticket, now));
    }

    /// The engine has made a subscription, or not.
    pub(crate) fn on_subscribed(
        &mut self,
        shard: ShardId,
        channel: &str,
        reply: &[u8],
        answer: Answer,
        now: Now,
    ) {
        match answer {
            Answer::Subscribed { id, token } => {
                let inbox = ServerInbox::Ack { shard, subscription: id, token }.to_subject();
                self.respond(reply, |out| {
                    SubscriptionResponse { ack_inbox: &inbox, error: "" }.encode(out);
                });
                self.hub.debug_streaming(|| {
                    format!("Started subscription, channel={channel}, subid={}", id.0)
                });
                self.with_shard(shard, |shard| shard.activate(id, now));
            }
            Answer::Refused(error) => {
                self.answer_subscription(reply, &errors::text_of(&error, channel))
            }
            Answer::Done | Answer::ClientOpened(_) => unreachable!("a subscribe has two answers"),
        }
    }

    /// A message to the unsubscribe or to the subscription close subject.
    pub(crate) fn on_unsubscribe_request(
        &mut self,
        id: ConnectionId,
        service: Service,
        payload: &[u8],
        reply: &[u8],
    ) {
        let Ok(request) = UnsubscribeRequest::decode(payload) else {
            self.answer_subscription(reply, errors::INVALID_UNSUBSCRIBE);
            return;
        };
        if !self.serves_channel(request.subject) {
            return;
        }
        let how = match service {
            Service::Unsubscribe => SubscriptionEnd::Remove,
            _ => SubscriptionEnd::Close,
        };
        let inbox = request.inbox.as_bytes();
        let shard = shard_of_channel(request.subject, self.hub.config.shard_count);
        let subscription = match ServerInbox::parse(inbox) {
            Some(ServerInbox::Ack { subscription, token, .. }) => {
                SubscriptionRef::Id(subscription, token)
            }
            _ => SubscriptionRef::Target(Bytes::copy_from_slice(inbox)),
        };
        // The shard says first whether channel and subscription exist.
        let client = self.hub.registry.by_id(request.client_id).map_or(NOBODY, |client| client.key);
        let message = StanMessage::Unsubscribe {
            shard,
            channel: request.subject.to_owned(),
            subscription,
            client,
            how,
            reply: Bytes::copy_from_slice(reply),
        };
        self.send_stan_from(id, self.hub.core_of(shard), message);
    }

    /// The engine has ended a subscription, or not.
    pub(crate) fn on_unsubscribed(&mut self, reply: &[u8], answer: &Answer) {
        match answer {
            Answer::Done => {
                self.hub.debug_streaming(|| "Ended a subscription".to_owned());
                self.answer_subscription(reply, "");
            }
            Answer::Refused(error) => self.answer_subscription(reply, &errors::text_of(error, "")),
            Answer::ClientOpened(_) | Answer::Subscribed { .. } => {
                unreachable!("an unsubscribe has two answers")
            }
        }
    }

    fn answer_subscription(&mut self, reply: &[u8], error: &str) {
        self.respond(reply, |out| SubscriptionResponse { ack_inbox: "", error }.encode(out));
    }
}

/// Reads a subscription request and checks it in the order of the reference.
fn check_subscribe(
    payload: &[u8],
    config: &NetConfig,
    registry: &Registry,
    now: Now,
) -> Result<Subscribe, &'static str> {
    let request =
        SubscriptionRequest::decode(payload).map_err(|_| errors::INVALID_SUBSCRIPTION_REQUEST)?;
    if request.client_id.is_empty() {
        return Err(errors::CLIENT_ID_MISSING);
    }
    let ack_wait_seconds = u64::try_from(request.ack_wait_seconds).unwrap_or(0);
    if ack_wait_seconds == 0 {
        return Err(errors::INVALID_ACK_WAIT);
    }
    let in_flight_max = u32::try_from(request.max_in_flight).unwrap_or(0);
    if in_flight_max == 0 {
        return Err(errors::INVALID_MAX_IN_FLIGHT);
    }
    let start = start_of(&request, now).ok_or(errors::INVALID_START)?;
    if !is_valid_channel(request.subject) {
        return Err(errors::INVALID_SUBJECT);
    }
    let client = registry.by_id(request.client_id).ok_or(errors::UNKNOWN_CLIENT)?;
    if !request.queue_group.is_empty() && request.durable_name.contains(':') {
        return Err(errors::INVALID_DURABLE_NAME);
    }
    // An inbox that is no subject could never be written into a line of the protocol.
    if !is_valid_publish(request.inbox.as_bytes()) {
        return Err(errors::INVALID_SUBSCRIPTION_REQUEST);
    }
    Ok(Subscribe {
        channel: request.subject.to_owned(),
        client: client.key,
        client_id: request.client_id.to_owned(),
        kind: kind_of(&request),
        target: Bytes::copy_from_slice(request.inbox.as_bytes()),
        in_flight_max,
        ack_wait_ms: ack_wait_seconds * 1_000,
        start,
        replaces_durable: config.replaces_durable,
    })
}

fn start_of(request: &SubscriptionRequest<'_>, now: Now) -> Option<StartAt> {
    let start = match StartPosition::from_number(request.start_position)? {
        StartPosition::NewOnly => StartAt::NewOnly,
        StartPosition::LastReceived => StartAt::LastReceived,
        StartPosition::TimeDeltaStart => {
            StartAt::Time(Timestamp(now.wall.0.saturating_sub(request.start_time_delta)))
        }
        StartPosition::SequenceStart => StartAt::Sequence(Sequence(request.start_sequence)),
        StartPosition::First => StartAt::First,
    };
    Some(start)
}

fn kind_of(request: &SubscriptionRequest<'_>) -> SubscriptionKind {
    let SubscriptionRequest { queue_group: group, durable_name: durable, .. } = *request;
    match (group.is_empty(), durable.is_empty()) {
        (true, true) => SubscriptionKind::Plain,
        (true, false) => SubscriptionKind::Durable { name: durable.to_owned() },
        (false, true) => SubscriptionKind::Queue { group: group.to_owned(), is_durable: false },
        (false, false) => {
            SubscriptionKind::Queue { group: format!("{durable}:{group}"), is_durable: true }
        }
    }
}

#[cfg(test)]
mod tests {
    use weirlog_engine::request::Client;
    use weirlog_engine::types::Monotonic;

    use super::*;

    fn check(change: impl FnOnce(&mut SubscriptionRequest<'_>)) -> Result<Subscribe, &'static str> {
        let mut registry = Registry::default();
        let key = ClientKey { home: ShardId(1), incarnation: 7 };
        registry.insert(&Client {
            key,
            id: "me".to_owned(),
            connection_id: Bytes::new(),
            about: Bytes::new(),
        });
        let mut request = SubscriptionRequest {
            client_id: "me",
            subject: "foo",
            inbox: "_INBOX.x",
            max_in_flight: 1,
            ack_wait_seconds: 2,
            ..Default::default()
        };
        change(&mut request);
        let mut payload = Vec::new();
        request.encode(&mut payload);
        let now = Now { wall: Timestamp(1_000), mono: Monotonic(0) };
        check_subscribe(&payload, &NetConfig::default(), &registry, now)
    }

    #[test]
    fn faults_are_reported_in_the_order_of_the_reference() {
        type Change = fn(&mut SubscriptionRequest<'_>);
        // Each line has the fault of the lines after it too.
        let faults: [(Change, &str); 7] = [
            (|r| r.client_id = "", errors::CLIENT_ID_MISSING),
            (|r| r.ack_wait_seconds = -1, errors::INVALID_ACK_WAIT),
            (|r| r.max_in_flight = 0, errors::INVALID_MAX_IN_FLIGHT),
            (|r| r.start_position = 5, errors::INVALID_START),
            (|r| r.subject = "foo.*", errors::INVALID_SUBJECT),
            (|r| r.client_id = "other", errors::UNKNOWN_CLIENT),
            (
                |r| {
                    r.queue_group = "q";
                    r.durable_name = "a:b";
                },
                errors::INVALID_DURABLE_NAME,
            ),
        ];
        for (first, (_, expected)) in faults.iter().enumerate() {
            let result = check(|request| {
                faults[first..].iter().rev().for_each(|(change, _)| change(request))
            });
            assert_eq!(result.unwrap_err(), *expected);
        }
    }

    #[test]
    fn an_inbox_cannot_smuggle_in_a_line() {
        assert_eq!(check(|r| r.inbox = "a\r\nPING"), Err(errors::INVALID_SUBSCRIPTION_REQUEST));
    }

    #[test]
    fn kinds_and_starts() {
        let plain = check(|_| {}).unwrap();
        assert_eq!((plain.kind, plain.start), (SubscriptionKind::Plain, StartAt::NewOnly));
        let queue = check(|r| {
            r.queue_group = "q:1";
            r.durable_name = "d";
            r.start_position = 2;
            r.start_time_delta = 400;
        })
        .unwrap();
        assert_eq!(
            queue.kind,
            SubscriptionKind::Queue { group: "d:q:1".to_owned(), is_durable: true }
        );
        assert_eq!(queue.start, StartAt::Time(Timestamp(600)));
        assert_eq!(queue.ack_wait_ms, 2_000);
    }
}
