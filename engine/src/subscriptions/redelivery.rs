//! Sending again what was not acked in time.
//!
//! One timer a subscription. When it fires, the messages whose wait is over become due, oldest
//! expiry first; the group's turns send them, to the member itself or, in a queue group, to the
//! best one, which then has the message. Only when none is due any more the timer is set again.
//! After a resume or a restart all that waits is due at once, goes to the member itself, and new
//! messages wait.

use std::collections::BTreeSet;

use super::dispatch::Turn;
use super::pending::Entry;
use super::queue_group::Purpose;
use super::subscription::{Pass, Subscription};
use super::{Fetch, Messages, Subscriptions};
use crate::request::{Delivery, Sink};
use crate::shard::Dispatched;
use crate::types::{Monotonic, Sequence, SubscriptionId, Timestamp};

/// What expires this much later goes along, so that messages sent one by one do not come back one
/// timer each.
const TOLERANCE_MS: u64 = 15;
/// The least time between two looks at all that waits, for each entry: a look takes 2-3 ns an
/// entry, so a subscription with very many messages in flight spends about 1 % of the time on it
/// and is late by some milliseconds.
const SCAN_REST_NS: u64 = 200;

/// What became of a member's due messages.
enum Outcome {
    /// None is left.
    Drained,
    /// The next one cannot be sent before something else happens.
    Blocked,
    /// The turn is over.
    OutOfTurn,
}

/// A due message and what is to be done with it.
struct Due {
    holder: SubscriptionId,
    taker: SubscriptionId,
    entry: Entry,
}

impl Subscriptions {
    /// A subscription's timer has fired; it is taken out already.
    pub(super) fn fire(&mut self, id: SubscriptionId, now: Monotonic) {
        let subscription = self.table.get_mut(&id).expect("what ended has no timer");
        assert!(subscription.is_active, "what is suspended has no timer");
        assert!(subscription.due.is_empty(), "no timer runs while messages are due");
        assert!(subscription.deadline.is_some(), "it knows of its timer");
        subscription.deadline = None;
        if subscription.pass == Pass::Resumed || subscription.pending.is_empty() {
            return;
        }
        if !subscription.is_queue() && !subscription.is_responsive {
            let at = now.after_ms(subscription.ack_wait_ms);
            arm(&mut self.timers, subscription, at);
            return;
        }
        let expired = subscription.pending.expired(now.after_ms(TOLERANCE_MS));
        if expired.is_empty() {
            arm_for_next(&mut self.timers, subscription, now);
            return;
        }
        subscription.due.extend(expired.into_iter().map(|(_, sequence)| sequence));
        let group = subscription.group;
        self.wake(group);
    }

    /// Sends what is due at any member of the group. `More`: the turn is over and some is left.
    pub(super) fn redeliver(
        &mut self,
        turn: &mut Turn,
        messages: &mut impl Messages,
        sink: &mut impl Sink,
    ) -> Dispatched {
        let group = self.groups.get(&turn.group).expect("it is this group's turn");
        let mut holders = std::mem::take(&mut self.holders);
        let has_due =
            |id: &SubscriptionId| self.table.get(id).is_some_and(|member| !member.due.is_empty());
        holders.extend(group.members.iter().copied().filter(has_due));
        let mut dispatched = Dispatched::Idle;
        for holder in holders.drain(..) {
            let group = self.groups.get(&turn.group).expect("a turn ends no group");
            if group.redelivery_awaits_read {
                break;
            }
            match self.redeliver_from(holder, turn, messages, sink) {
                Outcome::Drained | Outcome::Blocked => {}
                Outcome::OutOfTurn => {
                    dispatched = Dispatched::More;
                    break;
                }
            }
        }
        self.holders = holders;
        dispatched
    }

    fn redeliver_from(
        &mut self,
        id: SubscriptionId,
        turn: &mut Turn,
        messages: &mut impl Messages,
        sink: &mut impl Sink,
    ) -> Outcome {
        loop {
            let holder = self.table.get_mut(&id).expect("members are in the table");
            let Some(&sequence) = holder.due.front() else {
                holder.pass = Pass::Expired;
                arm_for_next(&mut self.timers, holder, turn.now.mono);
                return Outcome::Drained;
            };
            let Some(entry) = holder.pending.get(sequence) else {
                holder.due.pop_front();
                continue;
            };
            if turn.left == 0 {
                return Outcome::OutOfTurn;
            }
            if sequence < turn.bounds.first || sequence > turn.bounds.last {
                turn.left -= 1;
                self.forget(id, sequence, turn);
                continue;
            }
            let Some(taker) = self.taker(id, turn, sink) else { return Outcome::Blocked };
            turn.left -= 1;
            let due = Due { holder: id, taker, entry };
            let group = self.groups.get_mut(&turn.group).expect("it is this group's turn");
            match messages.fetch(group.channel, sequence) {
                Fetch::Gone { .. } => self.forget(id, sequence, turn),
                Fetch::Later => {
                    group.redelivery_awaits_read = true;
                    return Outcome::Blocked;
                }
                Fetch::Message { channel, timestamp, content } => {
                    if self.is_early(&due, timestamp, turn) {
                        continue;
                    }
                    let taker = self.table.get(&taker).expect("the one picked is in the table");
                    sink.deliver(Delivery {
                        subscription: taker.id,
                        target: &taker.target,
                        channel,
                        sequence,
                        timestamp,
                        content,
                        redelivery_count: entry.redelivery_count.saturating_add(1),
                    });
                    self.resent(&due, turn);
                }
            }
        }
    }

    /// Who gets the next due message of `holder`.
    fn taker(
        &mut self,
        holder: SubscriptionId,
        turn: &Turn,
        sink: &mut impl Sink,
    ) -> Option<SubscriptionId> {
        let group = self.groups.get(&turn.group).expect("it is this group's turn");
        let holder = self.table.get_mut(&holder).expect("members are in the table");
        if holder.is_queue() && holder.pass == Pass::Expired {
            return group.pick(Purpose::Redelivery, &mut self.table, sink);
        }
        if !holder.can_take() {
            return None;
        }
        if holder.pass == Pass::Expired && !holder.is_responsive {
            // Its client stopped answering since these became due: they are looked at again one
            // wait later.
            holder.due.clear();
            let at = turn.now.mono.after_ms(holder.ack_wait_ms);
            arm(&mut self.timers, holder, at);
            return None;
        }
        if !sink.has_room(holder.id, &holder.target) {
            holder.is_parked = true;
            return None;
        }
        Some(holder.id)
    }

    /// After a restart a message's wait is counted from its timestamp. If it is not over the
    /// message is postponed.
    fn is_early(&mut self, due: &Due, timestamp: Timestamp, turn: &Turn) -> bool {
        let holder = self.table.get_mut(&due.holder).expect("members are in the table");
        if holder.pass != Pass::Restarted {
            return false;
        }
        // A timestamp in the future does not make the wait longer.
        let age_ms = turn.now.wall.0.saturating_sub(timestamp.0).max(0).unsigned_abs() / 1_000_000;
        let left_ms = holder.ack_wait_ms.saturating_sub(age_ms);
        if left_ms <= TOLERANCE_MS {
            return false;
        }
        holder.pending.postpone(due.entry.sequence, turn.now.mono.after_ms(left_ms));
        holder.due.pop_front();
        true
    }

    /// Notes that a due message was sent to its taker.
    fn resent(&mut self, due: &Due, turn: &Turn) {
        let sequence = due.entry.sequence;
        let holder = self.table.get_mut(&due.holder).expect("members are in the table");
        let popped = holder.due.pop_front();
        assert_eq!(popped, Some(sequence), "the first that is due was sent");
        self.dirty.mark(holder, turn.now.mono);
        if due.holder == due.taker {
            let is_expired = holder.pass == Pass::Expired;
            let previous = if is_expired { due.entry.expiry } else { turn.now.mono };
            let expiry = next_expiry(previous, holder.ack_wait_ms, turn.now.mono);
            holder.pending.resent(sequence, expiry);
        } else {
            holder.pending.remove(sequence);
            holder.moved.insert(sequence);
            let taker = self.table.get_mut(&due.taker).expect("the one picked is in the table");
            let expiry = turn.now.mono.after_ms(taker.ack_wait_ms);
            taker.pending.insert(due.entry);
            taker.pending.resent(sequence, expiry);
            arm_by(&mut self.timers, taker, expiry);
            self.dirty.mark(taker, turn.now.mono);
        }
        if self.table.get(&due.taker).is_some_and(|taker| taker.is_queue()) {
            let group = self.groups.get_mut(&turn.group).expect("it is this group's turn");
            group.picked(due.taker);
        }
    }

    /// A message that is gone counts as acked.
    fn forget(&mut self, id: SubscriptionId, sequence: Sequence, turn: &Turn) {
        let holder = self.table.get_mut(&id).expect("members are in the table");
        holder.due.pop_front();
        holder.pending.remove(sequence);
        self.dirty.mark(holder, turn.now.mono);
    }
}

/// Sets the timer of a subscription that has none.
pub(super) fn arm(
    timers: &mut BTreeSet<(Monotonic, SubscriptionId)>,
    subscription: &mut Subscription,
    at: Monotonic,
) {
    assert!(subscription.is_active, "a timer runs only where somebody listens");
    assert!(subscription.deadline.is_none(), "one timer a subscription");
    assert!(subscription.due.is_empty(), "no timer runs while messages are due");
    subscription.deadline = Some(at);
    timers.insert((at, subscription.id));
}

/// Takes a subscription's timer away.
pub(super) fn disarm(
    timers: &mut BTreeSet<(Monotonic, SubscriptionId)>,
    subscription: &mut Subscription,
) {
    if let Some(at) = subscription.deadline.take() {
        let was_armed = timers.remove(&(at, subscription.id));
        assert!(was_armed, "its deadline stands among the timers");
    }
}

/// Sees that the timer fires at `at` or before. While messages are due that is not needed: it is
/// set after them.
pub(super) fn arm_by(
    timers: &mut BTreeSet<(Monotonic, SubscriptionId)>,
    subscription: &mut Subscription,
    at: Monotonic,
) {
    if !subscription.due.is_empty() || subscription.deadline.is_some_and(|armed| armed <= at) {
        return;
    }
    disarm(timers, subscription);
    arm(timers, subscription, at);
}

/// Sets the timer for the message that expires next.
fn arm_for_next(
    timers: &mut BTreeSet<(Monotonic, SubscriptionId)>,
    subscription: &mut Subscription,
    now: Monotonic,
) {
    let Some(expiry) = subscription.pending.earliest_expiry() else { return };
    let rest = SCAN_REST_NS * subscription.pending.scan_length() as u64;
    arm(timers, subscription, expiry.max(Monotonic(now.0 + rest)));
}

/// Makes all that waits due at `at`: a member left and its messages are here now.
pub(super) fn receive(
    timers: &mut BTreeSet<(Monotonic, SubscriptionId)>,
    subscription: &mut Subscription,
    overdue: Vec<Entry>,
    at: Monotonic,
) {
    assert!(overdue.iter().all(|entry| entry.expiry == Monotonic(0)), "they are overdue");
    subscription.pending.merge(overdue);
    arm_by(timers, subscription, at);
}

/// When a message that was to be sent again at `previous` and was so only now comes again: one wait
/// after `previous`, unless that has passed too.
fn next_expiry(previous: Monotonic, ack_wait_ms: u64, now: Monotonic) -> Monotonic {
    let next = previous.after_ms(ack_wait_ms);
    if next <= now.after_ms(TOLERANCE_MS) {
        return now.after_ms(ack_wait_ms);
    }
    next
}
