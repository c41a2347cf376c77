//! The records that change a shard's state, as values. `format` gives them their bytes. All carry absolute values, so
//! that applying one twice is the same as once.

use bytes::Bytes;

use crate::request::{Client, ClientKey, SubscriptionKind};
use crate::types::{ChannelId, Sequence, SubscriptionId};

/// A change of a shard's state, other than a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateRecord {
    /// A channel exists from here on.
    ChannelCreated {
        /// Its number.
        id: ChannelId,
        /// Its name, as first used.
        name: String,
    },
    /// A channel with all its messages and subscriptions is gone.
    ChannelDeleted {
        /// Its number.
        id: ChannelId,
    },
    /// A channel's messages before `first` are gone by its limits.
    Trimmed {
        /// Its number.
        id: ChannelId,
        /// The first that is left; last + 1 if none is.
        first: Sequence,
    },
    /// Messages that damage has cost: nobody looks for them any more, and their sequences are never given again.
    Lost {
        /// Their channel.
        id: ChannelId,
        /// The first of them.
        first: Sequence,
        /// The last of them.
        last: Sequence,
    },
    /// A client is registered.
    ClientOpened(Client),
    /// A client is forgotten.
    ClientClosed(ClientKey),
    /// A subscription is this now: made, resumed, suspended or moved.
    Subscription(SubscriptionState),
    /// A subscription is forgotten.
    SubscriptionRemoved(SubscriptionId),
    /// How far a subscription is.
    Position(SubscriptionPosition),
}

impl StateRecord {
    /// Not less than its bytes on disk.
    pub(crate) fn size_bytes_estimate(&self) -> usize {
        let names = match self {
            Self::ChannelCreated { name, .. } => name.len(),
            Self::ClientOpened(client) => {
                client.id.len() + client.connection_id.len() + client.about.len()
            }
            Self::Subscription(state) => {
                let kind = match &state.kind {
                    SubscriptionKind::Plain => 0,
                    SubscriptionKind::Durable { name } => name.len(),
                    SubscriptionKind::Queue { group, .. } => group.len(),
                };
                state.client_id.len()
                    + state.target.len()
                    + kind
                    + state.position.pending.len() * 16
            }
            Self::Position(position) => position.pending.len() * 16,
            _ => 0,
        };
        names + 128
    }
}

/// All of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState {
    /// The channel.
    pub channel: ChannelId,
    /// The registration that owns it; stale when suspended.
    pub client: ClientKey,
    /// The owner's id; the last one's for the shadow of a durable queue group without members.
    pub client_id: String,
    /// What kind.
    pub kind: SubscriptionKind,
    /// Where deliveries go.
    pub target: Bytes,
    /// What an ack must name.
    pub token: u64,
    /// Unacked messages at once.
    pub in_flight_max: u32,
    /// Milliseconds until redelivery.
    pub ack_wait_ms: u64,
    /// Whether somebody listens: false for an offline durable or a shadow.
    pub is_active: bool,
    /// How far it is, and its number.
    pub position: SubscriptionPosition,
}

/// How far a subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionPosition {
    /// Whose.
    pub id: SubscriptionId,
    /// The last message sent to it; for a queue member, the last that its group sent to anybody.
    pub last_sent: Sequence,
    /// Sent to it and not acked, in order, without overlap.
    pub pending: Vec<PendingRun>,
}

/// A run of messages that wait for an ack and were redelivered equally often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRun {
    /// The first.
    pub first: Sequence,
    /// How many.
    pub count: u32,
    /// How often each was sent again.
    pub redelivery_count: u32,
}
