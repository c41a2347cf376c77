//! How far subscriptions are, for the log: which positions changed since they were last written,
//! and all state for a checkpoint.

use super::pending::Pending;
use super::queue_group::{Group, GroupId};
use super::subscription::Subscription;
use super::{Journal, Subscriptions};
use crate::record::{StateRecord, SubscriptionPosition, SubscriptionState};
use crate::types::{Monotonic, Sequence, SubscriptionId};

/// Whose positions are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionScope {
    /// Those that outlive their clients: soon.
    Durable,
    /// Those that do not as well: now and then, and at a clean stop, so that live clients go on
    /// about where they were.
    All,
}

/// The subscriptions whose position is not in the log as it is.
///
/// [`Subscription::is_dirty`] decides; a number that stands here without it, because the position
/// was written with something else meanwhile, is skipped.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    durable: Vec<SubscriptionId>,
    /// What the log has and recovery has not kept, with the group that has its messages now.
    dropped: Vec<(GroupId, SubscriptionId)>,
    other: Vec<SubscriptionId>,
    durable_since: Option<Monotonic>,
    other_since: Option<Monotonic>,
}

impl Dirty {
    /// Notes a change of position.
    pub(super) fn mark(&mut self, subscription: &mut Subscription, now: Monotonic) {
        if subscription.is_dirty {
            return;
        }
        subscription.is_dirty = true;
        if subscription.is_durable() {
            self.durable.push(subscription.id);
            self.durable_since.get_or_insert(now);
        } else {
            self.other.push(subscription.id);
            self.other_since.get_or_insert(now);
        }
    }

    /// Notes that recovery did not keep some of a group.
    pub(super) fn mark_dropped(&mut self, group: GroupId, ids: Vec<SubscriptionId>) {
        if !ids.is_empty() {
            self.durable_since = Some(Monotonic(0));
            self.dropped.extend(ids.into_iter().map(|id| (group, id)));
        }
    }
}

impl Subscriptions {
    /// Since when a durable position is not in the log as it is.
    pub fn positions_dirty_since(&self) -> Option<Monotonic> {
        self.dirty.durable_since
    }

    /// Since when a position that dies with its client is not in the log as it is.
    pub fn plain_positions_dirty_since(&self) -> Option<Monotonic> {
        self.dirty.other_since
    }

    /// Appends the positions that changed, one record a subscription, whatever has happened to it.
    /// How many.
    pub fn log_positions(&mut self, scope: PositionScope, journal: &mut impl Journal) -> usize {
        for (group, id) in std::mem::take(&mut self.dirty.dropped) {
            if self.groups.contains_key(&group) {
                self.log_group(group, journal);
            }
            journal.append(StateRecord::SubscriptionRemoved(id));
        }
        let mut ids = std::mem::take(&mut self.dirty.durable);
        let count = self.log_dirty(&ids, journal);
        ids.clear();
        self.dirty.durable = ids;
        self.dirty.durable_since = None;
        if scope == PositionScope::Durable {
            return count;
        }
        let mut ids = std::mem::take(&mut self.dirty.other);
        self.dirty.other_since = None;
        let count = count + self.log_dirty(&ids, journal);
        ids.clear();
        self.dirty.other = ids;
        count
    }

    fn log_dirty(&mut self, ids: &[SubscriptionId], journal: &mut impl Journal) -> usize {
        let mut count = 0;
        for id in ids {
            let Some(subscription) = self.table.get(id) else { continue };
            if subscription.is_dirty {
                count += self.log_group(subscription.group, journal);
            }
        }
        count
    }

    /// Appends the changed positions of a group, so that no message is missing wherever the log is
    /// cut: how far the group is stands in the last record only, when all that was sent up to there
    /// is written; and a message that moved between members is written where it went before it is
    /// missing where it was. How many.
    pub(super) fn log_group(&mut self, id: GroupId, journal: &mut impl Journal) -> usize {
        let group = self.groups.get_mut(&id).expect("a subscription's group exists");
        let logged = std::mem::replace(&mut group.logged, group.last_sent);
        let group = self.groups.get(&id).expect("it was just there");
        let is_dirty =
            |id: &&SubscriptionId| self.table.get(id).is_some_and(|member| member.is_dirty);
        let dirty: Vec<_> = group.members.iter().filter(is_dirty).collect();
        let mut count = 0;
        for (index, id) in dirty.iter().enumerate() {
            let last_sent = if index + 1 == dirty.len() { group.last_sent } else { logged };
            let position = self.position_with_moved(group, **id, last_sent);
            journal.append(StateRecord::Position(position));
            count += 1;
        }
        for id in dirty {
            let member = self.table.get_mut(id).expect("members are in the table");
            member.is_dirty = false;
            if !std::mem::take(&mut member.moved).is_empty() {
                journal.append(StateRecord::Position(member.position(group.last_sent)));
                count += 1;
            }
        }
        count
    }

    /// A member's position with the messages that others have now.
    fn position_with_moved(
        &self,
        group: &Group,
        id: SubscriptionId,
        last_sent: Sequence,
    ) -> SubscriptionPosition {
        let member = self.table.get(&id).expect("members are in the table");
        let mut position = member.position(last_sent);
        let find = |sequence: &Sequence| {
            let members = group.members.iter().filter_map(|member| self.table.get(member));
            members.filter(|other| other.id != id).find_map(|other| other.pending.get(*sequence))
        };
        let moved: Vec<_> = member.moved.iter().filter_map(find).collect();
        if !moved.is_empty() {
            let mut pending = Pending::from_runs(&position.pending);
            pending.merge(moved);
            position.pending = pending.runs();
        }
        position
    }

    /// Notes that a group's one record with all of it was written.
    pub(super) fn logged(&mut self, id: SubscriptionId) {
        let subscription = self.table.get_mut(&id).expect("it was just written");
        subscription.is_dirty = false;
        subscription.moved.clear();
        let group = self.groups.get_mut(&subscription.group).expect("its group exists");
        group.logged = group.last_sent;
    }

    /// Every subscription as a record, in order of number, for a checkpoint. With
    /// [`Subscriptions::next_id`] this is all that [`Recovering`](super::Recovering) needs.
    pub fn snapshot(&self, mut out: impl FnMut(StateRecord)) {
        let mut ids: Vec<_> = self.table.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            out(StateRecord::Subscription(self.state_of(id)));
        }
    }

    pub(super) fn state_of(&self, id: SubscriptionId) -> SubscriptionState {
        let subscription = self.table.get(&id).expect("asked for what exists");
        let group = self.groups.get(&subscription.group).expect("its group exists");
        subscription.state(group.last_sent)
    }
}
