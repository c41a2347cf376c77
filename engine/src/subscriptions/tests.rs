//! A toy log, sink and journal, and the tests over them: one file for each group of rules.

mod flow;
mod kinds;
mod model;
mod redelivering;
mod restart;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Admission, Bounds, Fetch, Journal, Messages, PositionScope, Recovering, Subscriptions,
};
use crate::error::RequestError;
use crate::record::StateRecord;
use crate::request::{
    ClientKey, Delivery, Sink, StartAt, Subscribe, SubscriptionEnd, SubscriptionKind,
    SubscriptionRef,
};
use crate::shard::Dispatched;
use crate::types::{ChannelId, Monotonic, Now, Sequence, ShardId, SubscriptionId, Timestamp};

/// The channel of most tests.
const ORDERS: ChannelId = ChannelId(7);
/// The ack wait of most tests.
const WAIT_MS: u64 = 1_000;

/// A channel's messages.
#[derive(Debug, Clone)]
struct Kept {
    first: u64,
    timestamps: Vec<Timestamp>,
    lost: BTreeSet<u64>,
    unread: BTreeSet<u64>,
}

/// A log in memory.
#[derive(Debug, Clone, Default)]
struct Log {
    channels: BTreeMap<ChannelId, Kept>,
}

impl Log {
    fn channel(&mut self, channel: ChannelId) -> &mut Kept {
        self.channels.entry(channel).or_insert_with(|| Kept {
            first: 1,
            timestamps: Vec::new(),
            lost: BTreeSet::new(),
            unread: BTreeSet::new(),
        })
    }

    fn last(&self, channel: ChannelId) -> u64 {
        self.channels.get(&channel).map_or(0, |kept| kept.timestamps.len() as u64)
    }
}

impl Messages for Log {
    fn bounds(&self, channel: ChannelId) -> Option<Bounds> {
        let kept = self.channels.get(&channel)?;
        Some(Bounds { first: Sequence(kept.first), last: Sequence(kept.timestamps.len() as u64) })
    }

    fn fetch(&mut self, channel: ChannelId, sequence: Sequence) -> Fetch<'_> {
        let kept = self.channels.get_mut(&channel).expect("only known channels are asked for");
        assert!(sequence.0 >= kept.first, "{sequence} is within the bounds");
        assert!(sequence.0 <= kept.timestamps.len() as u64, "{sequence} is committed");
        if kept.lost.contains(&sequence.0) {
            return Fetch::Gone { next: sequence.next() };
        }
        if kept.unread.contains(&sequence.0) {
            return Fetch::Later;
        }
        let timestamp = kept.timestamps[sequence.0 as usize - 1];
        Fetch::Message { channel: "orders", timestamp, content: b"payload".into() }
    }
}

/// One delivery, as taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    to: SubscriptionId,
    sequence: u64,
    redelivery_count: u32,
}

/// A sink that remembers.
#[derive(Debug, Default)]
struct Inbox {
    sent: Vec<Sent>,
    /// How many more each takes; one without an entry takes all.
    room: BTreeMap<SubscriptionId, usize>,
    refused: BTreeSet<SubscriptionId>,
}

impl Sink for Inbox {
    fn has_room(&mut self, subscription: SubscriptionId, target: &Bytes) -> bool {
        assert!(!target.is_empty(), "the target is handed back");
        let has_room = self.room.get(&subscription).is_none_or(|room| *room > 0);
        if !has_room {
            self.refused.insert(subscription);
        }
        has_room
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        let Delivery { subscription, channel, sequence, content, redelivery_count, .. } = delivery;
        assert_eq!((channel, content.payload), ("orders", &b"payload"[..]));
        if let Some(room) = self.room.get_mut(&subscription) {
            *room = room.checked_sub(1).expect("only where there is room");
        }
        self.sent.push(Sent { to: subscription, sequence: sequence.0, redelivery_count });
    }
}

/// A journal that remembers.
#[derive(Debug, Default)]
struct Records(Vec<StateRecord>);

impl Journal for Records {
    fn append(&mut self, record: StateRecord) {
        self.0.push(record);
    }
}

/// All of it.
#[derive(Debug)]
struct World {
    subscriptions: Subscriptions,
    log: Log,
    inbox: Inbox,
    records: Records,
    now: Now,
    tokens: u64,
}

impl World {
    fn new() -> Self {
        let wall = Timestamp(1_700_000_000_000_000_000);
        Self {
            subscriptions: Subscriptions::default(),
            log: Log::default(),
            inbox: Inbox::default(),
            records: Records::default(),
            now: Now { wall, mono: Monotonic(5_000_000_000) },
            tokens: 0,
        }
    }

    fn publish(&mut self, count: usize) {
        let wall = self.now.wall;
        let kept = self.log.channel(ORDERS);
        kept.timestamps.extend(std::iter::repeat_n(wall, count));
        self.subscriptions.channel_committed(ORDERS);
    }

    fn try_subscribe(
        &mut self,
        request: &Subscribe,
        start_after: u64,
        subscriptions_max: u64,
    ) -> Result<SubscriptionId, RequestError> {
        self.tokens += 1;
        let admission = Admission {
            channel: ORDERS,
            start_after: Sequence(start_after),
            subscriptions_max,
            token: self.tokens,
        };
        self.subscriptions.subscribe(request, admission, &mut self.records)
    }

    /// Subscribes from the first message on, and activates.
    fn subscribe(&mut self, request: &Subscribe) -> SubscriptionId {
        let id = self.try_subscribe(request, 0, 0).unwrap();
        self.subscriptions.activate(id);
        id
    }

    fn token(&self, id: SubscriptionId) -> u64 {
        self.subscriptions.view(id).unwrap().token
    }

    fn ack(&mut self, id: SubscriptionId, sequence: u64) -> bool {
        let token = self.token(id);
        self.subscriptions.ack(id, token, Sequence(sequence), self.now.mono)
    }

    fn end(&mut self, id: SubscriptionId, how: SubscriptionEnd) {
        let (client, token) = (self.subscriptions.view(id).unwrap().client, self.token(id));
        let wanted = SubscriptionRef::Id(id, token);
        let now = self.now.mono;
        self.subscriptions.end(ORDERS, &wanted, client, how, now, &mut self.records).unwrap();
    }

    fn end_client(&mut self, client: u64) -> usize {
        self.subscriptions.end_client(key(client), self.now.mono, &mut self.records)
    }

    /// Sends all that can be sent now; what was sent.
    fn run(&mut self) -> Vec<Sent> {
        let Self { subscriptions, log, inbox, now, .. } = self;
        subscriptions.tick(*now);
        while subscriptions.dispatch(*now, log, inbox, 3) == Dispatched::More {}
        std::mem::take(&mut self.inbox.sent)
    }

    /// Lets time pass, with each deadline on the way; what was sent.
    fn advance(&mut self, ms: u64) -> Vec<Sent> {
        let end = self.now.mono.after_ms(ms);
        let mut sent = self.run();
        while let Some(at) = self.subscriptions.next_deadline().filter(|at| *at <= end) {
            self.set_time(at.max(self.now.mono));
            sent.extend(self.run());
        }
        self.set_time(end);
        sent
    }

    fn set_time(&mut self, mono: Monotonic) {
        self.now.wall.0 += i64::try_from(mono.since(self.now.mono)).unwrap();
        self.now.mono = mono;
    }

    /// Stops and starts with the first `count` records, or all.
    fn restart(&mut self, count: usize) {
        let mut recovering = Recovering::default();
        self.records.0.truncate(count);
        self.records.0.iter().for_each(|record| recovering.apply(record));
        self.subscriptions = recovering.finish();
        self.inbox = Inbox::default();
        self.now.mono = Monotonic(1);
    }

    /// Stops cleanly and starts again.
    fn restart_cleanly(&mut self) {
        self.subscriptions.log_positions(PositionScope::All, &mut self.records);
        self.restart(usize::MAX);
    }

    fn pending(&self, id: SubscriptionId) -> usize {
        self.subscriptions.view(id).unwrap().pending_count
    }
}

fn key(client: u64) -> ClientKey {
    ClientKey { home: ShardId(0), incarnation: client }
}

fn request(client: u64, kind: SubscriptionKind) -> Subscribe {
    Subscribe {
        channel: "orders".to_owned(),
        client: key(client),
        client_id: format!("client-{client}"),
        kind,
        target: Bytes::from(format!("inbox-{client}")),
        in_flight_max: 100,
        ack_wait_ms: WAIT_MS,
        start: StartAt::First,
        replaces_durable: false,
    }
}

fn plain(client: u64) -> Subscribe {
    request(client, SubscriptionKind::Plain)
}

fn durable(client: u64) -> Subscribe {
    request(client, SubscriptionKind::Durable { name: "dur".to_owned() })
}

fn queue(client: u64, is_durable: bool) -> Subscribe {
    request(client, SubscriptionKind::Queue { group: "workers".to_owned(), is_durable })
}

/// With another bound of messages in flight.
fn with_max(subscribe: Subscribe, in_flight_max: u32) -> Subscribe {
    Subscribe { in_flight_max, ..subscribe }
}

/// The sequences, and how often each was sent again.
fn seen(sent: &[Sent]) -> Vec<(u64, u32)> {
    sent.iter().map(|sent| (sent.sequence, sent.redelivery_count)).collect()
}

/// Sequences sent for the first time.
fn first_time(sequences: std::ops::RangeInclusive<u64>) -> Vec<(u64, u32)> {
    sequences.map(|sequence| (sequence, 0)).collect()
}

/// What one subscription was sent.
fn of(sent: &[Sent], id: SubscriptionId) -> Vec<(u64, u32)> {
    let own: Vec<_> = sent.iter().copied().filter(|sent| sent.to == id).collect();
    seen(&own)
}
