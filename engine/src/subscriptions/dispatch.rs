//! Sending: the ready groups in turn, each a bounded number of messages, so that one that reads a
//! long history does not keep others waiting.

use super::pending::Entry;
use super::queue_group::{GroupId, Purpose};
use super::redelivery::arm;
use super::{Bounds, Fetch, Messages, Subscriptions};
use crate::request::{Delivery, Sink};
use crate::shard::Dispatched;
use crate::types::{Now, Sequence};

/// Messages a group may send before it is the next one's turn: enough for a large send to a socket,
/// few enough that a thousand ready groups all get something within some milliseconds.
pub(super) const TURN_MESSAGES_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// One group's turn.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) group: GroupId,
    pub(super) bounds: Bounds,
    pub(super) now: Now,
    /// Messages it may look at still.
    pub(super) left: usize,
}

impl Subscriptions {
    /// Delivers what can be delivered now, looking at `budget_messages` messages at most.
    pub fn dispatch(
        &mut self,
        now: Now,
        messages: &mut impl Messages,
        sink: &mut impl Sink,
        budget_messages: usize,
    ) -> Dispatched {
        let mut budget = budget_messages;
        while let Some(&id) = self.ready.front() {
            if budget == 0 {
                return Dispatched::More;
            }
            self.ready.pop_front();
            let Some(group) = self.groups.get_mut(&id) else { continue };
            assert!(group.is_queued, "what stands among the ready ones knows it");
            group.is_queued = false;
            // The turn finds out anew; redelivery may free a member for the new messages behind it.
            group.is_stalled = false;
            let Some(bounds) = messages.bounds(group.channel) else { continue };
            let allowance = budget.min(TURN_MESSAGES_MAX);
            let mut turn = Turn { group: id, bounds, now, left: allowance };
            if self.take_turn(&mut turn, messages, sink) == Dispatched::More {
                let group = self.groups.get_mut(&id).expect("a turn ends no group");
                group.is_queued = true;
                self.ready.push_back(id);
            }
            // A turn without a message costs something too.
            budget -= (allowance - turn.left).max(1);
        }
        Dispatched::Idle
    }

    /// `More`: the group wants another turn.
    fn take_turn(
        &mut self,
        turn: &mut Turn,
        messages: &mut impl Messages,
        sink: &mut impl Sink,
    ) -> Dispatched {
        if self.redeliver(turn, messages, sink) == Dispatched::More {
            return Dispatched::More;
        }
        if self.holds_new(turn.group) {
            return Dispatched::Idle;
        }
        self.send_new(turn, messages, sink)
    }

    /// Whether a member must get earlier messages again before the group gets new ones.
    fn holds_new(&self, id: GroupId) -> bool {
        let group = self.groups.get(&id).expect("it is this group's turn");
        group.members.iter().any(|id| self.table.get(id).is_some_and(|member| member.holds_new()))
    }

    fn send_new(
        &mut self,
        turn: &mut Turn,
        messages: &mut impl Messages,
        sink: &mut impl Sink,
    ) -> Dispatched {
        loop {
            let group = self.groups.get_mut(&turn.group).expect("it is this group's turn");
            let sequence = group.last_sent.next();
            if sequence > turn.bounds.last || group.new_awaits_read {
                return Dispatched::Idle;
            }
            if sequence < turn.bounds.first {
                self.jump(turn, turn.bounds.first);
                continue;
            }
            if turn.left == 0 {
                return Dispatched::More;
            }
            let Some(id) = group.pick(Purpose::New, &mut self.table, sink) else {
                group.is_stalled = true;
                return Dispatched::Idle;
            };
            turn.left -= 1;
            let (channel, timestamp, content) = match messages.fetch(group.channel, sequence) {
                Fetch::Message { channel, timestamp, content } => (channel, timestamp, content),
                Fetch::Gone { next } => {
                    self.jump(turn, next);
                    continue;
                }
                Fetch::Later => {
                    group.new_awaits_read = true;
                    return Dispatched::Idle;
                }
            };
            let member = self.table.get_mut(&id).expect("the one picked is in the table");
            assert!(member.is_started && !member.is_full(), "only such are picked for new ones");
            sink.deliver(Delivery {
                subscription: id,
                target: &member.target,
                channel,
                sequence,
                timestamp,
                content,
                redelivery_count: 0,
            });
            let expiry = turn.now.mono.after_ms(member.ack_wait_ms);
            member.pending.push(Entry::new(sequence, expiry));
            if member.deadline.is_none() && member.due.is_empty() {
                arm(&mut self.timers, member, expiry);
            }
            self.dirty.mark(member, turn.now.mono);
            group.last_sent = sequence;
            group.picked(id);
        }
    }

    /// Goes on at `next`: what was before it is gone.
    fn jump(&mut self, turn: &Turn, next: Sequence) {
        let group = self.groups.get_mut(&turn.group).expect("it is this group's turn");
        assert!(next > group.last_sent.next(), "a jump goes forward");
        group.last_sent = next.previous().min(turn.bounds.last);
        let id = group.members.front().expect("a group has members");
        let member = self.table.get_mut(id).expect("members are in the table");
        self.dirty.mark(member, turn.now.mono);
    }
}
