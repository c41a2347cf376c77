//! What cores are asked for monitoring, and what they tell.

use std::cmp::Ordering;

use compact_str::CompactString;
use weirlog_engine::limits::ChannelLimitRules;
use weirlog_engine::request::{Client, ClientKey};
use weirlog_engine::shard::{ChannelView, Lag, MissingMessages, ShardTotals};
use weirlog_engine::storage::DiskStatistics;
use weirlog_engine::types::{ShardId, Timestamp};

use crate::address::Address;
use crate::core::Tally;
use crate::flow::Traffic;

/// Names a question on the core that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReportTicket(pub u64);

/// A question to one core. Questions about a shard go to the core that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inquiry {
    /// All that is counted.
    Totals,
    /// Connections.
    Connections(ConnectionsInquiry),
    /// Subscriptions of connections, the first `count_max` of those that `subject` matches; none: of all.
    Subscriptions {
        /// How many at most.
        count_max: usize,
        /// A subject without wildcards.
        subject: Option<Box<str>>,
    },
    /// The first names of a shard's channels.
    ChannelNames {
        /// The shard.
        shard: ShardId,
        /// How many at most.
        count_max: usize,
    },
    /// Channels of a shard.
    Channels {
        /// The shard.
        shard: ShardId,
        /// Their names.
        names: Vec<CompactString>,
        /// Whether their subscriptions are wanted, or only how many.
        has_subscriptions: bool,
    },
    /// The first clients whose home a shard is.
    Clients {
        /// The shard.
        shard: ShardId,
        /// How many at most.
        count_max: usize,
    },
    /// The client of this id, of its home.
    Client {
        /// The home.
        shard: ShardId,
        /// The id.
        id: String,
    },
    /// Active subscriptions of clients in a shard.
    ClientSubscriptions {
        /// The shard.
        shard: ShardId,
        /// The clients.
        clients: Vec<ClientKey>,
        /// Whether all about them is wanted, or only how many.
        has_subscriptions: bool,
    },
}

/// Which connections, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionsInquiry {
    /// Open, closed or both.
    pub state: ConnectionState,
    /// Only the one of this number.
    pub number: Option<u64>,
    /// Only those that came in as this user.
    pub user: Option<String>,
    /// The order.
    pub order: ConnectionOrder,
    /// The first so many.
    pub count_max: usize,
    /// Whether their subscriptions are wanted.
    pub has_subscriptions: bool,
}

/// See [`ConnectionsInquiry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Those that are there.
    Open,
    /// The last that are gone.
    Closed,
    /// Both.
    All,
}

impl ConnectionState {
    /// Whether a connection that is gone, or one that is there, is meant.
    pub(crate) fn includes(self, is_closed: bool) -> bool {
        match self {
            Self::All => true,
            Self::Open => !is_closed,
            Self::Closed => is_closed,
        }
    }
}

/// What connections are sorted by; numbers from the greatest to the smallest, but for the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionOrder {
    /// Their number.
    Number,
    /// When they came.
    Start,
    /// Subscriptions.
    Subscriptions,
    /// Bytes that wait for them.
    Pending,
    /// Messages to them.
    MessagesTo,
    /// Messages from them.
    MessagesFrom,
    /// Bytes to them.
    BytesTo,
    /// Bytes from them.
    BytesFrom,
    /// When bytes came last.
    Last,
    /// How long no bytes came.
    Idle,
    /// How long they have been there.
    Uptime,
    /// When they went.
    Stop,
    /// Why they went, by the alphabet.
    Reason,
    /// Their round trip.
    RoundTrip,
}

impl ConnectionOrder {
    /// Which of two connections comes first. Those that are equal are sorted by number before.
    pub(crate) fn compare(
        self,
        one: (&Standing, Option<&str>),
        other: (&Standing, Option<&str>),
        now: Timestamp,
    ) -> Ordering {
        let (one, reason) = one;
        let (other, other_reason) = other;
        match self {
            Self::Reason => reason.cmp(&other_reason),
            _ => self.key(one, now).cmp(&self.key(other, now)),
        }
    }

    /// What comes first has the smallest key.
    fn key(self, standing: &Standing, now: Timestamp) -> i128 {
        let nanoseconds = |time: Timestamp| i128::from(time.0);
        let end = standing.closed_at.unwrap_or(now);
        let traffic = &standing.traffic;
        match self {
            // Sorted by already.
            Self::Number | Self::Reason => 0,
            Self::Start => nanoseconds(standing.opened_at),
            Self::Subscriptions => -(standing.subscriptions_count as i128),
            Self::Pending => -(standing.pending_bytes as i128),
            Self::MessagesTo => -i128::from(traffic.sent.messages),
            Self::MessagesFrom => -i128::from(traffic.received.messages),
            Self::BytesTo => -i128::from(traffic.sent.bytes),
            Self::BytesFrom => -i128::from(traffic.received.bytes),
            Self::Last => -nanoseconds(standing.active_at),
            Self::Idle => nanoseconds(standing.active_at) - nanoseconds(end),
            Self::Uptime => nanoseconds(standing.opened_at) - nanoseconds(end),
            Self::Stop => -standing.closed_at.map_or(0, nanoseconds),
            Self::RoundTrip => -i128::from(standing.round_trip_ns.unwrap_or(0)),
        }
    }
}

/// The answer to an [`Inquiry`].
#[derive(Debug)]
pub enum Report {
    /// Of [`Inquiry::Totals`].
    Totals(Box<CoreTotals>),
    /// Of [`Inquiry::Connections`]: how many there are, and those that were wanted.
    Connections(usize, Vec<ConnectionReport>),
    /// Of [`Inquiry::Subscriptions`]: how many there are, and those that were wanted.
    Subscriptions(usize, Vec<InterestReport>),
    /// Of [`Inquiry::ChannelNames`]: how many there are, and those that were wanted, in order.
    ChannelNames(usize, Vec<CompactString>),
    /// Of [`Inquiry::Channels`]: one for each name; none: there is no such channel.
    Channels(Vec<Option<ChannelReport>>),
    /// Of [`Inquiry::Clients`], in order, and of [`Inquiry::Client`]: how many there are, and those that were wanted.
    Clients(usize, Vec<Client>),
    /// Of [`Inquiry::ClientSubscriptions`]: how many for each client, and what they are.
    ClientSubscriptions(Vec<(usize, Vec<SubscriptionReport>)>),
}

/// What a core counts.
#[derive(Debug, Clone)]
pub struct CoreTotals {
    /// Connections that are open.
    pub connections: usize,
    /// Connections there ever were.
    pub connections_ever: u64,
    /// What it has done.
    pub tally: Tally,
    /// What its commits and reads have cost.
    pub disk: DiskStatistics,
    /// Its shards.
    pub shards: Vec<(ShardId, ShardTotals)>,
    /// Messages of its shards that are missing.
    pub missing: Missing,
    /// Limits of the channels, if it has shards.
    pub limits: Option<ChannelLimitRules>,
}

/// Messages that are known to be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// The first in the order of channels and sequences, [`Missing::COUNT_MAX`] at most.
    pub named: Vec<MissingMessages>,
    /// How many messages the others have.
    pub others: u64,
}

impl Missing {
    /// So many places are named: enough to see where to look. All are in the log, and `weirlog verify` tells them.
    pub const COUNT_MAX: usize = 100;

    /// Of these, too.
    pub fn add(&mut self, named: Vec<MissingMessages>, others: u64) {
        self.named.extend(named);
        self.named.sort_unstable();
        let beyond = self.named.drain(Self::COUNT_MAX.min(self.named.len())..);
        self.others += others + beyond.map(|missing| missing.count()).sum::<u64>();
    }
}

/// A connection's numbers: what connections can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When it came.
    pub opened_at: Timestamp,
    /// When bytes came last.
    pub active_at: Timestamp,
    /// When it went; none: it is there.
    pub closed_at: Option<Timestamp>,
    /// The round trip of its last ping.
    pub round_trip_ns: Option<u64>,
    /// What waits for it.
    pub pending_bytes: usize,
    /// What was said on it.
    pub traffic: Traffic,
    /// How many subscriptions it has, or had.
    pub subscriptions_count: usize,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionReport {
    /// Its number.
    pub number: u64,
    /// The other end.
    pub address: Address,
    /// Its numbers.
    pub standing: Standing,
    /// Why it was closed, as the client was told.
    pub closing_text: Option<Box<str>>,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its client library's language.
    pub language: Option<String>,
    /// Its client library's version.
    pub version: Option<String>,
    /// As whom it came in.
    pub user: Option<String>,
    /// Its subscriptions, if they are wanted.
    pub subscriptions: Vec<InterestReport>,
}

/// One subscription of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterestReport {
    /// Its connection's number.
    pub connection: u64,
    /// The pattern.
    pub subject: String,
    /// The queue group.
    pub queue: Option<String>,
    /// The client's name for it.
    pub sid: String,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages after which it ends; 0: never.
    pub max: u64,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelReport {
    /// Its messages.
    pub view: ChannelView,
    /// How many subscriptions it has, offline ones and shadows included.
    pub subscriptions_count: usize,
    /// What they are, if they are wanted.
    pub subscriptions: Vec<SubscriptionReport>,
}

/// One subscription of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionReport {
    /// Its channel.
    pub channel: CompactString,
    /// Whose it is, or was.
    pub client_id: String,
    /// Where deliveries go.
    pub inbox: String,
    /// Where acks go.
    pub ack_inbox: String,
    /// Its durable name; of a queue group's member none.
    pub durable_name: Option<String>,
    /// Its queue group; of a durable one with the durable name before a colon.
    pub queue_name: Option<String>,
    /// Whether it outlives its client.
    pub is_durable: bool,
    /// Whether nobody listens.
    pub is_offline: bool,
    /// Unacked messages at once.
    pub in_flight_max: u32,
    /// Milliseconds until redelivery.
    pub ack_wait_ms: u64,
    /// The last message sent.
    pub last_sent: u64,
    /// Messages that wait for an ack.
    pub pending_count: usize,
    /// Whether it has as many of them as it may have.
    pub is_stalled: bool,
    /// How far it is behind; of a client's subscription not told.
    pub lag: Lag,
}
