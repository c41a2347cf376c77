//! One subscription: whose it is, what it may have in flight, what waits for its ack and what is to
//! be sent again.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::pending::Pending;
use super::queue_group::GroupId;
use crate::record::{SubscriptionPosition, SubscriptionState};
use crate::request::{ClientKey, SubscriptionKind};
use crate::types::{ChannelId, FastMap, Monotonic, Sequence, SubscriptionId};

/// All subscriptions by number.
pub(super) type Table = FastMap<SubscriptionId, Subscription>;

/// Unacked messages at once, whatever the client asks for: so a position with a gap behind each
/// message still fits into a frame of the smallest default (16 bytes each, 1 MiB), and a client
/// that never acks holds at most 1.5 MiB here.
pub(super) const IN_FLIGHT_MAX: usize = 65_536;

/// Why messages are being sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Their ack wait is over.
    Expired,
    /// Somebody took over: all go to this subscription, before new ones.
    Resumed,
    /// The server was started: those whose wait is over by their timestamp go to this subscription,
    /// before new ones.
    Restarted,
}

/// A subscription's state.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Its number.
    pub(super) id: SubscriptionId,
    /// What it listens to.
    pub(super) channel: ChannelId,
    /// With whom it shares its position.
    pub(super) group: GroupId,
    /// Whose it is; stale when not active.
    pub(super) client: ClientKey,
    /// Whose it is, by name; the last owner's for a shadow.
    pub(super) client_id: String,
    /// What kind.
    pub(super) kind: SubscriptionKind,
    /// Where deliveries go.
    pub(super) target: Bytes,
    /// What an ack must name.
    pub(super) token: u64,
    /// As asked for; [`Subscription::is_full`] knows the bound.
    pub(super) in_flight_max: u32,
    /// Milliseconds until redelivery.
    pub(super) ack_wait_ms: u64,
    /// Whether somebody listens.
    pub(super) is_active: bool,
    /// Whether the subscriber knows: no delivery before.
    pub(super) is_started: bool,
    /// Whether its client answers.
    pub(super) is_responsive: bool,
    /// Whether its sink had no room.
    pub(super) is_parked: bool,
    /// Whether its position is not in the log as it is.
    pub(super) is_dirty: bool,
    /// What waits for an ack.
    pub(super) pending: Pending,
    /// What other members of its group were sent instead since its position was written.
    pub(super) moved: BTreeSet<Sequence>,
    /// What is to be sent again now, in this order; acked ones are skipped. No timer runs while
    /// there are any.
    pub(super) due: VecDeque<Sequence>,
    /// Why.
    pub(super) pass: Pass,
    /// The one entry it has among the timers.
    pub(super) deadline: Option<Monotonic>,
}

impl Subscription {
    /// From the log or a request.
    pub(super) fn new(state: &SubscriptionState, group: GroupId) -> Self {
        Self {
            id: state.position.id,
            channel: state.channel,
            group,
            client: state.client,
            client_id: state.client_id.clone(),
            kind: state.kind.clone(),
            target: state.target.clone(),
            token: state.token,
            in_flight_max: state.in_flight_max.max(1),
            ack_wait_ms: state.ack_wait_ms.max(1),
            is_active: state.is_active,
            is_started: false,
            is_responsive: true,
            is_parked: false,
            is_dirty: false,
            pending: Pending::from_runs(&state.position.pending),
            moved: BTreeSet::new(),
            due: VecDeque::new(),
            pass: Pass::Expired,
            deadline: None,
        }
    }

    /// All of it, for the log.
    pub(super) fn state(&self, last_sent: Sequence) -> SubscriptionState {
        SubscriptionState {
            channel: self.channel,
            client: self.client,
            client_id: self.client_id.clone(),
            kind: self.kind.clone(),
            target: self.target.clone(),
            token: self.token,
            in_flight_max: self.in_flight_max,
            ack_wait_ms: self.ack_wait_ms,
            is_active: self.is_active,
            position: self.position(last_sent),
        }
    }

    /// How far it is, for the log.
    pub(super) fn position(&self, last_sent: Sequence) -> SubscriptionPosition {
        SubscriptionPosition { id: self.id, last_sent, pending: self.pending.runs() }
    }

    /// Whether it is a member of a queue group.
    pub(super) fn is_queue(&self) -> bool {
        matches!(self.kind, SubscriptionKind::Queue { .. })
    }

    /// Whether it outlives its client: then its position goes to the log as it moves.
    pub(super) fn is_durable(&self) -> bool {
        match self.kind {
            SubscriptionKind::Plain => false,
            SubscriptionKind::Durable { .. } => true,
            SubscriptionKind::Queue { is_durable, .. } => is_durable,
        }
    }

    /// Whether no new message may be sent to it before an ack.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= IN_FLIGHT_MAX.min(self.in_flight_max as usize)
    }

    /// Whether anything may be sent to it.
    pub(super) fn can_take(&self) -> bool {
        assert!(!self.is_started || self.is_active, "nothing is sent where nobody listens");
        self.is_started && !self.is_parked
    }

    /// Whether messages that were sent before come first, and more of them can be sent.
    pub(super) fn holds_new(&self) -> bool {
        self.pass != Pass::Expired && !self.due.is_empty() && !self.is_parked
    }

    /// Nobody listens any more. The caller has taken its timer away.
    pub(super) fn suspend(&mut self) {
        assert!(self.is_active, "what is suspended was active");
        assert!(self.deadline.is_none(), "no timer runs for it");
        self.is_active = false;
        self.is_started = false;
        self.is_parked = false;
        self.pass = Pass::Expired;
        self.due = VecDeque::new();
    }

    /// Makes all that waits due, in order.
    pub(super) fn make_all_due(&mut self, pass: Pass) {
        assert_ne!(pass, Pass::Expired, "expiry is judged one by one");
        assert!(self.deadline.is_none(), "no timer runs while messages are due");
        self.due.clear();
        self.due.extend(self.pending.iter().map(|entry| entry.sequence));
        self.pass = if self.due.is_empty() { Pass::Expired } else { pass };
    }
}
