//! What the front asks of a shard, and what it hears back: plain values that any protocol can fill in.

use bytes::Bytes;

use crate::error::RequestError;
use crate::types::{ChannelId, Content, Index, Sequence, ShardId, SubscriptionId, Timestamp};

/// Names a request whose answer comes later; the caller's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One registration of a client, unique for the store's life: its home shard and a number that is never reused there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey {
    /// Where the truth about the client is: [`crate::placement::home_of_client`].
    pub home: ShardId,
    /// Grows with each registration in the home shard.
    pub incarnation: u64,
}

/// A registered client as its home shard keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// This registration.
    pub key: ClientKey,
    /// The id that is unique among registered clients.
    pub id: String,
    /// The id of the client's connection, empty if it sent none.
    pub connection_id: Bytes,
    /// What the front wants to keep with it (heartbeat inbox, protocol, ping settings): opaque here.
    pub about: Bytes,
}

/// A message that was appended to the open batch: it is durable once `committed() >= index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its channel.
    pub channel: ChannelId,
    /// Its number there.
    pub sequence: Sequence,
    /// The batch it is in.
    pub index: Index,
}

/// Where a new subscription starts (spec stan.md, 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// Behind the last message.
    NewOnly,
    /// At the last message.
    LastReceived,
    /// At this sequence, or the nearest there is.
    Sequence(Sequence),
    /// At the first message of this time or later.
    Time(Timestamp),
    /// At the first message there is.
    First,
}

/// What kind of subscription, with what makes it itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionKind {
    /// Dies with its client.
    Plain,
    /// Known by client id, channel and this name; outlives the client's connection.
    Durable {
        /// The durable name.
        name: String,
    },
    /// A member of the channel's queue group of this name.
    Queue {
        /// The group's name, for a durable one with the durable name in it.
        group: String,
        /// Whether the group outlives its last member.
        is_durable: bool,
    },
}

/// A request for a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The channel's name; made if it does not exist.
    pub channel: String,
    /// Who asks.
    pub client: ClientKey,
    /// Who asks, by name: part of a durable's key.
    pub client_id: String,
    /// What kind.
    pub kind: SubscriptionKind,
    /// Where deliveries go (an inbox): opaque here, handed back with each delivery.
    pub target: Bytes,
    /// Unacked messages at once, at least 1.
    pub in_flight_max: u32,
    /// Milliseconds after which an unacked message comes again, at least 1.
    pub ack_wait_ms: u64,
    /// Where to start, unless a durable resumes.
    pub start: StartAt,
    /// Whether an active durable of the same key is closed first, instead of refusing.
    pub replaces_durable: bool,
}

/// Which subscription is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionRef {
    /// By number and the random token it was given.
    Id(SubscriptionId, u64),
    /// By the target given at subscribe.
    Target(Bytes),
}

/// How a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionEnd {
    /// A durable is suspended, a durable group keeps a shadow; others are forgotten.
    Close,
    /// Forgotten.
    Remove,
}

/// The answer to a ticketed request. It comes only when what it says is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done and on disk.
    Done,
    /// The client is registered (answer to `open_client`).
    ClientOpened(Client),
    /// The subscription exists; deliveries begin after `activate`.
    Subscribed {
        /// Its number.
        id: SubscriptionId,
        /// 64 random bits: an ack must name them. Made anew at each resume.
        token: u64,
    },
    /// Not done.
    Refused(RequestError),
}

/// One message on its way to a subscription.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Whose.
    pub subscription: SubscriptionId,
    /// The subscription's target.
    pub target: &'a Bytes,
    /// The channel's name.
    pub channel: &'a str,
    /// The message's number.
    pub sequence: Sequence,
    /// When it was published.
    pub timestamp: Timestamp,
    /// The message.
    pub content: Content<'a>,
    /// 0: the first time. Else how often it was sent again.
    pub redelivery_count: u32,
}

/// Takes deliveries. Called while the shard is borrowed: it must not call back into the shard.
pub trait Sink {
    /// Whether one more message for this subscription may come now. After `false` the caller of `dispatch` owes a
    /// `resume(subscription)` once there is room again.
    fn has_room(&mut self, subscription: SubscriptionId, target: &Bytes) -> bool;

    /// Takes one message.
    fn deliver(&mut self, delivery: Delivery<'_>);
}
