//! What one core tells another. Runs of the same kind share one arena of bytes: an entry costs a few integers, not
//! an allocation.

use std::sync::Arc;

use bytes::Bytes;
use weirlog_engine::request::{Client, ClientKey, Subscribe, SubscriptionEnd, SubscriptionRef};
use weirlog_engine::types::{Sequence, ShardId, SubscriptionId};

use crate::core::RuntimeSettings;
use crate::ids::{ConnectionId, CoreId};
use crate::interest::InterestChange;
use crate::monitor::report::{Inquiry, Report, ReportTicket};
use crate::stan::connect::ConnectCall;
use crate::stan::pub_acks::PubAcks;

/// One message of a link; they are applied in order.
#[derive(Debug)]
pub enum LinkMessage {
    /// The sender's subscribers have changed.
    Interest(InterestChange),
    /// Core NATS messages for subscribers of the receiver.
    Routes(RouteBatch),
    /// Channel messages for shards of the receiver.
    Publishes(PublishBatch),
    /// Publish acks for a connection of the receiver.
    PubAcks {
        /// The connection.
        connection: ConnectionId,
        /// Whether they go to the connection as they are; else each is routed by its subject.
        is_direct: bool,
        /// The acks.
        acks: PubAcks,
        /// What is to be given back to the connection's credit.
        published_bytes: usize,
    },
    /// Acks of subscribers for shards of the receiver.
    Acks(Vec<SubscriptionAck>),
    /// Channel messages for subscribers of the receiver.
    Deliveries(DeliveryBatch),
    /// Deliveries that the sender has taken in.
    Credits(Vec<Credit>),
    /// A STAN request or its continuation.
    Stan(StanMessage),
    /// Settings that have changed.
    Settings(Arc<RuntimeSettings>),
    /// A question of monitoring; it is answered by a report of the same ticket.
    Inquiry(ReportTicket, Inquiry),
    /// Its answer.
    Report(ReportTicket, Report),
    /// The sender takes nothing in any more: the process stops.
    Silent,
}

/// Messages for channels, each `channel, payload, reply, guid` in one piece.
#[derive(Debug, Default)]
pub struct PublishBatch {
    /// The bytes of all entries, one after the other.
    pub bytes: Vec<u8>,
    /// How lines of acks begin; an empty one: nobody awaits them.
    pub heads: Vec<Bytes>,
    /// In order.
    pub entries: Vec<PublishEntry>,
}

/// One message of a [`PublishBatch`].
#[derive(Debug, Clone, Copy)]
pub struct PublishEntry {
    /// The channel's shard.
    pub shard: ShardId,
    /// Who published.
    pub connection: ConnectionId,
    /// See [`LinkMessage::PubAcks`].
    pub is_direct: bool,
    /// Length of the channel's name.
    pub channel_bytes: u32,
    /// Length of the payload.
    pub payload_bytes: u32,
    /// Length of the reply subject for subscribers.
    pub reply_bytes: u32,
    /// Length of the guid.
    pub guid_bytes: u32,
    /// Its ack's place in `heads`.
    pub head: u32,
}

/// Channel messages, each `target, encoded message` in one piece.
#[derive(Debug, Default)]
pub struct DeliveryBatch {
    /// The bytes of all entries, one after the other.
    pub bytes: Vec<u8>,
    /// In order.
    pub entries: Vec<DeliveryEntry>,
}

/// One message of a [`DeliveryBatch`].
#[derive(Debug, Clone, Copy)]
pub struct DeliveryEntry {
    /// The subscription's shard.
    pub shard: ShardId,
    /// The subscription, to name it in the credit.
    pub subscription: SubscriptionId,
    /// Length of the target.
    pub target_bytes: u32,
    /// Length of the encoded message.
    pub payload_bytes: u32,
}

/// Core NATS messages, each `subject, reply, queue, block` in one piece.
#[derive(Debug, Default)]
pub struct RouteBatch {
    /// The bytes of all entries, one after the other.
    pub bytes: Vec<u8>,
    /// In order.
    pub entries: Vec<RouteEntry>,
}

/// One message of a [`RouteBatch`].
#[derive(Debug, Clone, Copy)]
pub struct RouteEntry {
    /// Length of the subject.
    pub subject_bytes: u32,
    /// Length of the reply subject; 0: none.
    pub reply_bytes: u32,
    /// For one member of this queue group; none: for the plain subscribers.
    pub queue_bytes: Option<u32>,
    /// Length of the headers at the start of the block; none: a message without.
    pub header_bytes: Option<u32>,
    /// Length of headers and payload.
    pub block_bytes: u32,
}

/// A subscriber's ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionAck {
    /// The subscription's shard.
    pub shard: ShardId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// Its token.
    pub token: u64,
    /// The message.
    pub sequence: Sequence,
}

/// Deliveries to one subscription that were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The subscription's shard.
    pub shard: ShardId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The connection that has its target; none if nobody has.
    pub connection: Option<ConnectionId>,
    /// Encoded bytes.
    pub bytes: usize,
}

/// STAN's requests and their continuations on other cores. `reply` is where the answer goes; empty: nowhere.
#[derive(Debug)]
pub enum StanMessage {
    /// To the client's home: register it.
    Connect(Box<ConnectCall>),
    /// To the client's home: close it.
    Close {
        /// The client.
        client_id: String,
        /// Where the answer goes.
        reply: Bytes,
    },
    /// To the client's home: it pinged though its heartbeats fail.
    Nudge(ClientKey),
    /// To all: a client is registered.
    Registered(Client),
    /// To all: a client is closed; forget it and end its subscriptions, then answer `ClientEnded`.
    EndClient {
        /// The client.
        key: ClientKey,
        /// The home's number for this.
        operation: u64,
    },
    /// To the home: done, and committed.
    ClientEnded {
        /// The home's number.
        operation: u64,
    },
    /// To all: a client answers its heartbeats again, or does not.
    Responsive {
        /// The client.
        key: ClientKey,
        /// Whether it answers.
        is_responsive: bool,
    },
    /// To the shard's core.
    Subscribe {
        /// The channel's shard.
        shard: ShardId,
        /// The request.
        request: Box<Subscribe>,
        /// Where the answer goes.
        reply: Bytes,
    },
    /// To the shard's core: a subscription ends.
    Unsubscribe {
        /// The channel's shard.
        shard: ShardId,
        /// The channel.
        channel: String,
        /// Which subscription.
        subscription: SubscriptionRef,
        /// Who asks.
        client: ClientKey,
        /// Whether durables stay.
        how: SubscriptionEnd,
        /// Where the answer goes.
        reply: Bytes,
    },
    /// To the core that made the inbox: somebody answered.
    InboxReply {
        /// What it says; most say nothing.
        payload: Bytes,
        /// Names the question.
        nonce: u64,
    },
    /// To the core that made the inbox: nobody is there to answer.
    NobodyToAsk {
        /// Names the question.
        nonce: u64,
    },
    /// At start: the sender has told all clients it is the home of.
    CopiesSent,
    /// At start: the sender has ended the subscriptions of clients that are gone.
    Ready(CoreId),
}
