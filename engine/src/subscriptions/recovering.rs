//! Subscriptions while the log is being replayed: states by number and nothing else, so that
//! applying a record twice is the same as once, and records from a log that lost some of them do no
//! harm.

use std::collections::{BTreeMap, BTreeSet};

use super::Subscriptions;
use super::pending::Pending;
use super::subscription::Pass;
use crate::record::{PendingRun, StateRecord, SubscriptionState};
use crate::request::SubscriptionKind;
use crate::types::{FastMap, Monotonic, Sequence, SubscriptionId};

/// Takes the records of checkpoint and log, in their order.
#[derive(Debug, Default)]
pub struct Recovering {
    states: BTreeMap<SubscriptionId, SubscriptionState>,
    last_id: SubscriptionId,
}

impl Recovering {
    /// Applies a record; those of other things, and of unknown subscriptions, are ignored.
    pub fn apply(&mut self, record: &StateRecord) {
        match record {
            StateRecord::Subscription(state) => {
                self.last_id = self.last_id.max(state.position.id);
                self.states.insert(state.position.id, state.clone());
            }
            StateRecord::SubscriptionRemoved(id) => {
                self.last_id = self.last_id.max(*id);
                self.states.remove(id);
            }
            StateRecord::Position(position) => {
                self.last_id = self.last_id.max(position.id);
                if let Some(state) = self.states.get_mut(&position.id) {
                    state.position.clone_from(position);
                }
            }
            StateRecord::ChannelDeleted { id } => {
                self.states.retain(|_, state| state.channel != *id)
            }
            _ => {}
        }
    }

    /// Numbers below this were given, as a checkpoint knows it.
    pub fn set_next_id(&mut self, next: SubscriptionId) {
        self.last_id = self.last_id.max(SubscriptionId(next.0.saturating_sub(1)));
    }

    /// The subscriptions as they were, ready to send: those that were active are so at once. When
    /// their unacked messages were sent is not known, so the messages' timestamps decide when they
    /// come again, and new ones wait for that.
    #[must_use]
    pub fn finish(self) -> Subscriptions {
        let mut subscriptions = Subscriptions { last_id: self.last_id, ..Default::default() };
        for states in grouped(self.states) {
            subscriptions.restore(settle(states));
        }
        subscriptions
    }
}

/// The states that belong to one group each, in order of their lowest numbers.
fn grouped(states: BTreeMap<SubscriptionId, SubscriptionState>) -> Vec<Vec<SubscriptionState>> {
    let mut groups: Vec<Vec<SubscriptionState>> = Vec::new();
    let mut known = FastMap::default();
    for (_, state) in states {
        let key = match &state.kind {
            SubscriptionKind::Plain => None,
            SubscriptionKind::Durable { name } => {
                Some((state.channel, state.client_id.clone(), name.clone(), false))
            }
            SubscriptionKind::Queue { group, is_durable } => {
                // A group's key has no client; neither can it be a durable's, whose client id is
                // never empty.
                Some((state.channel, String::new(), group.clone(), *is_durable))
            }
        };
        let index = match key {
            None => groups.len(),
            Some(key) => *known.entry(key).or_insert(groups.len()),
        };
        if index == groups.len() {
            groups.push(Vec::new());
        }
        groups[index].push(state);
    }
    groups
}

/// A group's states as the running table could have had them.
struct Settled {
    states: Vec<SubscriptionState>,
    /// Of those, the ones that the log has otherwise.
    changed: Vec<SubscriptionId>,
    /// What the log has and the table has not.
    dropped: Vec<SubscriptionId>,
}

/// Settles what a log contradicts itself in, be it cut within what one call wrote, be it damaged:
/// one state a durable, no shadow beside members, each message at one member, none pending that was
/// not sent.
fn settle(mut states: Vec<SubscriptionState>) -> Settled {
    let logged: Vec<_> = states.iter().map(|state| state.position.clone()).collect();
    let newest = states.last().expect("a group has a member");
    if matches!(newest.kind, SubscriptionKind::Durable { .. }) {
        states.drain(..states.len() - 1);
    }
    let last_sent = states.iter().map(|state| state.position.last_sent).max().unwrap_or_default();
    for state in &mut states {
        state.position.last_sent = last_sent;
        // The last of the group's positions was not written: these will be sent as new ones.
        keep_sent(&mut state.position.pending, last_sent);
    }
    if states.len() > 1 {
        settle_members(&mut states);
    }
    let find = |id| states.iter().find(|state: &&SubscriptionState| state.position.id == id);
    let (mut changed, mut dropped) = (Vec::new(), Vec::new());
    for position in logged {
        match find(position.id) {
            None => dropped.push(position.id),
            Some(state) if state.position.pending != position.pending => changed.push(position.id),
            Some(_) => {}
        }
    }
    if !dropped.is_empty() {
        // How far the group is may stand in what goes.
        changed.push(states.first().expect("one is left").position.id);
    }
    Settled { states, changed, dropped }
}

/// Leaves each message at one member, and members or one shadow.
fn settle_members(states: &mut Vec<SubscriptionState>) {
    let mut heirless = Vec::new();
    let mut seen = BTreeSet::new();
    for state in states.iter_mut() {
        let pending = Pending::from_runs(&state.position.pending);
        let mut own = Pending::default();
        for entry in pending.iter().filter(|entry| seen.insert(entry.sequence)) {
            own.push(*entry);
        }
        if state.is_active {
            state.position.pending = own.runs();
        } else {
            heirless.extend(own.take_overdue());
            state.position.pending.clear();
        }
    }
    if states.iter().any(|state| state.is_active) {
        states.retain(|state| state.is_active);
    } else {
        states.truncate(1);
    }
    heirless.sort_unstable_by_key(|entry| entry.sequence);
    let heir = states.first_mut().expect("one is left");
    let mut pending = Pending::from_runs(&heir.position.pending);
    pending.merge(heirless);
    heir.position.pending = pending.runs();
}

/// Cuts off what is behind `last`.
fn keep_sent(runs: &mut Vec<PendingRun>, last: Sequence) {
    runs.retain_mut(|run| {
        let count = (last.0 + 1).saturating_sub(run.first.0);
        run.count = run.count.min(u32::try_from(count).unwrap_or(u32::MAX));
        run.count > 0
    });
}

impl Subscriptions {
    /// Puts a settled group into the table.
    fn restore(&mut self, settled: Settled) {
        let Settled { states, changed, dropped } = settled;
        let first = states.first().expect("a group has a member");
        let group = self.add_group(first);
        for state in &states {
            self.add_member(group, state);
            let member = self.table.get_mut(&state.position.id).expect("it was just added");
            if changed.contains(&member.id) {
                self.dirty.mark(member, Monotonic(0));
            }
            if state.is_active {
                member.is_started = true;
                member.make_all_due(Pass::Restarted);
                self.directory.add_to_client(state.client, state.position.id);
            }
        }
        self.dirty.mark_dropped(group, dropped);
        self.wake(group);
    }
}
