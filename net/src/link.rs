//! The links from one core to the others: a first-in-first-out stream of batches to each, with counters of what was
//! sent and what the other side has applied.
//!
//! ```text
//! push, push, push -> outgoing -> take_batches() -> the edge carries it -> accept() -> applied one by one
//!                     sent + 1    number, applied                          received + 1
//! ```
//! A batch tells how many of the other side's batches were applied here, so that who waits for "applied" (a PONG, a
//! close) learns it with the next batch, or asks for one. No core ever waits for room: bounds are credits of those
//! who push.

mod message;

pub use message::{
    Credit, DeliveryBatch, DeliveryEntry, LinkMessage, PublishBatch, PublishEntry, RouteBatch,
    RouteEntry, StanMessage, SubscriptionAck,
};

use crate::ids::CoreId;

/// What goes over a link in one piece.
#[derive(Debug)]
pub struct LinkBatch {
    /// From 1, +1 for each batch of this link.
    pub number: u64,
    /// How many batches of the receiver the sender has applied.
    pub applied: u64,
    /// Whether the sender waits to hear that this batch is applied.
    pub wants_applied: bool,
    /// In order.
    pub messages: Vec<LinkMessage>,
}

/// For each core, up to which batch something was pushed to it: what a barrier waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(Vec<u64>);

#[derive(Debug, Default)]
struct Peer {
    outgoing: Vec<LinkMessage>,
    /// Batches handed to the edge.
    sent: u64,
    /// Batches of ours that the peer has applied, as far as we heard.
    applied: u64,
    /// Batches of the peer that we have applied.
    received: u64,
    wants_applied: bool,
    owes_applied: bool,
}

/// All links of one core.
#[derive(Debug)]
pub struct Links {
    own: CoreId,
    peers: Vec<Peer>,
}

impl Links {
    /// Links of core `own` among `count` cores.
    #[must_use]
    pub fn new(own: CoreId, count: u16) -> Self {
        assert!(own.0 < count);
        Self { own, peers: (0..count).map(|_| Peer::default()).collect() }
    }

    /// The core this is.
    #[must_use]
    pub fn own(&self) -> CoreId {
        self.own
    }

    /// How many cores there are.
    #[must_use]
    pub fn core_count(&self) -> usize {
        self.peers.len()
    }

    /// The other cores, in order.
    pub fn others(&self) -> impl Iterator<Item = CoreId> + use<> {
        let own = self.own;
        let count = u16::try_from(self.peers.len()).expect("made from a u16");
        (0..count).map(CoreId).filter(move |core| *core != own)
    }

    /// Appends a message to the next batch for `core`.
    pub fn push(&mut self, core: CoreId, message: LinkMessage) {
        assert!(core != self.own, "a core has no link to itself");
        self.peers[usize::from(core.0)].outgoing.push(message);
    }

    /// The last message of the next batch for `core`, to append to if it is of the right kind.
    pub fn last_mut(&mut self, core: CoreId) -> Option<&mut LinkMessage> {
        assert!(core != self.own, "a core has no link to itself");
        self.peers[usize::from(core.0)].outgoing.last_mut()
    }

    /// Notes in `marks` what was pushed to `core` so far.
    pub fn mark(&self, core: CoreId, marks: &mut Marks) {
        if marks.0.len() < self.peers.len() {
            marks.0.resize(self.peers.len(), 0);
        }
        let peer = &self.peers[usize::from(core.0)];
        marks.0[usize::from(core.0)] = peer.sent + u64::from(!peer.outgoing.is_empty());
    }

    /// Marks of all that was pushed to all cores so far.
    #[must_use]
    pub fn mark_all(&self) -> Marks {
        let mut marks = Marks::default();
        for core in self.others() {
            self.mark(core, &mut marks);
        }
        marks
    }

    /// Whether all cores have applied what `marks` says. Asks those for news that have not.
    pub fn is_applied(&mut self, marks: &Marks) -> bool {
        let mut is_applied = true;
        for (peer, mark) in self.peers.iter_mut().zip(&marks.0) {
            if peer.applied < *mark {
                is_applied = false;
                peer.wants_applied = true;
            }
        }
        is_applied
    }

    /// The same, without asking.
    #[must_use]
    pub fn has_applied(&self, marks: &Marks) -> bool {
        self.peers.iter().zip(&marks.0).all(|(peer, mark)| peer.applied >= *mark)
    }

    /// Whether there is something to carry.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        self.peers.iter().any(Peer::has_outgoing)
    }

    /// Takes what there is to carry: at most one batch for each core.
    pub fn take_batches(&mut self) -> Vec<(CoreId, LinkBatch)> {
        let mut batches = Vec::new();
        for (core, peer) in (0_u16..).map(CoreId).zip(&mut self.peers) {
            if !peer.has_outgoing() {
                continue;
            }
            peer.sent += 1;
            batches.push((
                core,
                LinkBatch {
                    number: peer.sent,
                    applied: peer.received,
                    wants_applied: std::mem::take(&mut peer.wants_applied),
                    messages: std::mem::take(&mut peer.outgoing),
                },
            ));
            peer.owes_applied = false;
        }
        batches
    }

    /// Takes note of a batch from `core` and returns its messages, which the caller applies before it does anything
    /// else. Tells whether the count of applied batches has moved.
    pub fn accept(&mut self, core: CoreId, batch: LinkBatch) -> (Vec<LinkMessage>, bool) {
        let peer = &mut self.peers[usize::from(core.0)];
        assert!(batch.number == peer.received + 1, "a link is first in, first out");
        assert!(batch.applied <= peer.sent, "applied is part of sent");
        assert!(batch.applied >= peer.applied, "applied never goes back");
        peer.received = batch.number;
        peer.owes_applied |= batch.wants_applied;
        let has_moved = batch.applied > peer.applied;
        peer.applied = batch.applied;
        (batch.messages, has_moved)
    }
}

impl Peer {
    fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty() || self.wants_applied || self.owes_applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carry(from: &mut Links, to: &mut Links) -> usize {
        let mut count = 0;
        for (core, batch) in from.take_batches() {
            assert_eq!(core, to.own());
            count += to.accept(from.own(), batch).0.len();
        }
        count
    }

    #[test]
    fn a_barrier_costs_one_batch_each_way_and_then_silence() {
        let mut left = Links::new(CoreId(0), 2);
        let mut right = Links::new(CoreId(1), 2);
        left.push(CoreId(1), LinkMessage::Credits(Vec::new()));
        left.push(CoreId(1), LinkMessage::Credits(Vec::new()));
        let marks = left.mark_all();
        assert!(!left.is_applied(&marks));
        assert_eq!(carry(&mut left, &mut right), 2);
        assert_eq!(carry(&mut right, &mut left), 0);
        assert!(left.is_applied(&marks));
        assert!(!left.has_outgoing());
        assert!(!right.has_outgoing());
    }

    #[test]
    fn a_late_question_is_asked_with_an_empty_batch() {
        let mut left = Links::new(CoreId(0), 2);
        let mut right = Links::new(CoreId(1), 2);
        left.push(CoreId(1), LinkMessage::Credits(Vec::new()));
        let marks = left.mark_all();
        carry(&mut left, &mut right);
        assert!(right.take_batches().is_empty(), "nobody asked");
        assert!(!left.is_applied(&marks));
        assert!(left.has_outgoing());
        carry(&mut left, &mut right);
        carry(&mut right, &mut left);
        assert!(left.is_applied(&marks));
    }

    #[test]
    fn nothing_sent_is_applied_at_once() {
        let mut links = Links::new(CoreId(1), 3);
        assert_eq!(links.others().collect::<Vec<_>>(), [CoreId(0), CoreId(2)]);
        assert!(links.is_applied(&Marks::default()));
        let marks = links.mark_all();
        assert!(links.is_applied(&marks));
    }
}
