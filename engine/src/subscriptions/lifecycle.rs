//! How subscriptions begin and end: made, joined, resumed, replaced; suspended, left as a shadow,
//! forgotten.
//!
//! | ends              | close                      | remove                     |
//! |-------------------|----------------------------|----------------------------|
//! | plain             | forgotten                  | forgotten                  |
//! | durable           | suspended                  | forgotten                  |
//! | member of several | forgotten, messages spread | forgotten, messages spread |
//! | last of a group   | forgotten with the group   | forgotten with the group   |
//! | last of a durable group | kept as its shadow   | forgotten with the group   |

use std::collections::BTreeSet;

use super::redelivery::{disarm, receive};
use super::subscription::{Pass, Subscription};
use super::{Journal, Subscriptions};
use crate::error::RequestError;
use crate::record::{StateRecord, SubscriptionPosition, SubscriptionState};
use crate::request::{ClientKey, Subscribe, SubscriptionEnd, SubscriptionKind, SubscriptionRef};
use crate::types::{ChannelId, Monotonic, Sequence, SubscriptionId};

use super::queue_group::{Group, GroupId};

/// Milliseconds until messages of a member that left go to others: its client's other members may
/// be leaving too, and should not be sent them.
const SPREAD_DELAY_MS: u64 = 100;

/// What the shard has found out about a request for a subscription.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// The channel's number.
    pub channel: ChannelId,
    /// What counts as sent if the subscription begins here; unused when it resumes or joins.
    pub start_after: Sequence,
    /// Subscriptions of the channel, offline ones and shadows included; 0: unlimited.
    pub subscriptions_max: u64,
    /// What an ack must name.
    pub token: u64,
}

/// What ending subscriptions changes in the log.
#[derive(Debug, Default)]
struct Changes {
    /// Groups that members have left.
    groups: BTreeSet<GroupId>,
    /// What is suspended or a shadow now.
    kept: Vec<SubscriptionId>,
    removed: Vec<SubscriptionId>,
}

impl Subscriptions {
    /// Whether the request resumes a durable or joins a group, so that its start does not count.
    pub fn would_resume(&self, request: &Subscribe, channel: ChannelId) -> bool {
        self.directory.group(channel, &request.client_id, &request.kind).is_some()
    }

    /// Makes a subscription, resumes a durable, or joins a queue group. Nothing is delivered before
    /// [`Subscriptions::activate`].
    ///
    /// # Errors
    /// The durable is active, or the channel has its maximum of subscriptions. Nothing has changed
    /// then.
    pub fn subscribe(
        &mut self,
        request: &Subscribe,
        admission: Admission,
        journal: &mut impl Journal,
    ) -> Result<SubscriptionId, RequestError> {
        let group = self.directory.group(admission.channel, &request.client_id, &request.kind);
        let id = match self.resumable(group, request)? {
            Some(id) => {
                self.take_over(id, request, admission.token);
                id
            }
            None => self.begin(group, request, admission)?,
        };
        let subscription = self.table.get_mut(&id).expect("it was just made");
        subscription.is_responsive = self.directory.is_responsive(request.client);
        let group = subscription.group;
        self.directory.add_to_client(request.client, id);
        // Its record says how far the group is: what others were sent up to there comes first.
        self.log_group(group, journal);
        journal.append(StateRecord::Subscription(self.state_of(id)));
        self.logged(id);
        Ok(id)
    }

    /// The durable or shadow that the request continues.
    fn resumable(
        &self,
        group: Option<GroupId>,
        request: &Subscribe,
    ) -> Result<Option<SubscriptionId>, RequestError> {
        let Some(group) = group else { return Ok(None) };
        let group = self.groups.get(&group).expect("a group that is known exists");
        let id = *group.members.front().expect("a group has members");
        let first = self.table.get(&id).expect("members are in the table");
        match first.kind {
            SubscriptionKind::Durable { .. } if first.is_active && !request.replaces_durable => {
                Err(RequestError::DuplicateDurable)
            }
            SubscriptionKind::Durable { .. } => Ok(Some(id)),
            _ => Ok((!first.is_active).then_some(id)),
        }
    }

    /// Gives an existing subscription to the one who asks; its number, position and unacked
    /// messages stay.
    fn take_over(&mut self, id: SubscriptionId, request: &Subscribe, token: u64) {
        let subscription = self.table.get_mut(&id).expect("what is resumed exists");
        if subscription.is_active {
            assert!(request.replaces_durable, "an active durable is replaced only when asked");
            self.directory.remove_from_client(subscription.client, id);
            disarm(&mut self.timers, subscription);
            subscription.suspend();
        }
        assert!(subscription.deadline.is_none(), "nothing is timed where nobody listens");
        subscription.client = request.client;
        subscription.client_id.clone_from(&request.client_id);
        subscription.target = request.target.clone();
        subscription.token = token;
        subscription.in_flight_max = request.in_flight_max.max(1);
        subscription.ack_wait_ms = request.ack_wait_ms.max(1);
        subscription.is_active = true;
        subscription.is_dirty = false;
        subscription.pass = Pass::Resumed;
    }

    /// Makes a new subscription, in `group` if there is one.
    fn begin(
        &mut self,
        group: Option<GroupId>,
        request: &Subscribe,
        admission: Admission,
    ) -> Result<SubscriptionId, RequestError> {
        let Admission { channel, start_after, subscriptions_max, token } = admission;
        if subscriptions_max > 0 && self.count(channel) >= subscriptions_max {
            return Err(RequestError::TooManySubscriptions);
        }
        let id = self.next_id();
        self.last_id = id;
        let state = SubscriptionState {
            channel,
            client: request.client,
            client_id: request.client_id.clone(),
            kind: request.kind.clone(),
            target: request.target.clone(),
            token,
            in_flight_max: request.in_flight_max,
            ack_wait_ms: request.ack_wait_ms,
            is_active: true,
            position: SubscriptionPosition { id, last_sent: start_after, pending: Vec::new() },
        };
        let group = group.unwrap_or_else(|| self.add_group(&state));
        self.add_member(group, &state);
        Ok(id)
    }

    /// Makes a group for the subscription; its first member comes next.
    pub(super) fn add_group(&mut self, state: &SubscriptionState) -> GroupId {
        let id = GroupId(self.last_group.0 + 1);
        self.last_group = id;
        self.directory.add_group(id, state.channel, &state.client_id, &state.kind);
        self.groups.insert(id, Group::new(state.channel, state.position.last_sent));
        id
    }

    /// Puts a subscription into the table and its group.
    pub(super) fn add_member(&mut self, group: GroupId, state: &SubscriptionState) {
        let id = state.position.id;
        self.groups.get_mut(&group).expect("its group was made").members.push_back(id);
        let replaced = self.table.insert(id, Subscription::new(state, group));
        assert!(replaced.is_none(), "numbers are never reused");
        self.directory.count_one_more(state.channel);
    }

    /// Ends a subscription of `client`.
    ///
    /// # Errors
    /// There is no such active subscription, or it is another client's.
    pub fn end(
        &mut self,
        channel: ChannelId,
        subscription: &SubscriptionRef,
        client: ClientKey,
        how: SubscriptionEnd,
        now: Monotonic,
        journal: &mut impl Journal,
    ) -> Result<(), RequestError> {
        let id = self.find(channel, subscription).ok_or(RequestError::UnknownSubscription)?;
        if self.table.get(&id).is_none_or(|found| found.client != client) {
            return Err(RequestError::UnknownClient);
        }
        let mut changes = Changes::default();
        self.end_one(id, how, now, &mut changes);
        self.write(changes, journal);
        Ok(())
    }

    /// Closes all subscriptions of a client that is gone. How many there were.
    pub fn end_client(
        &mut self,
        client: ClientKey,
        now: Monotonic,
        journal: &mut impl Journal,
    ) -> usize {
        let ids: Vec<_> = self.directory.of_client(client).collect();
        let mut changes = Changes::default();
        for id in &ids {
            self.end_one(*id, SubscriptionEnd::Close, now, &mut changes);
        }
        self.directory.set_responsive(client, true);
        self.write(changes, journal);
        ids.len()
    }

    /// Forgets all subscriptions of a channel. Nothing is journaled: the channel's deletion says it
    /// all.
    pub fn end_channel(&mut self, channel: ChannelId) {
        let Some(known) = self.directory.channel(channel) else { return };
        let members = |id| &self.groups.get(id).expect("a channel's groups exist").members;
        let ids: Vec<_> = known.groups.iter().flat_map(members).copied().collect();
        for id in ids {
            self.retire(id);
            self.remove(id);
        }
        assert!(self.directory.channel(channel).is_none(), "nothing is left of it");
    }

    fn find(&self, channel: ChannelId, wanted: &SubscriptionRef) -> Option<SubscriptionId> {
        let is_meant = |found: &Subscription| found.is_active && found.channel == channel;
        match wanted {
            SubscriptionRef::Id(id, token) => {
                let found = self.table.get(id)?;
                (is_meant(found) && found.token == *token).then_some(*id)
            }
            SubscriptionRef::Target(target) => {
                let groups = &self.directory.channel(channel)?.groups;
                let groups = groups.iter().filter_map(|group| self.groups.get(group));
                let mut found = groups.flat_map(|group| &group.members);
                found
                    .find(|id| {
                        let found = self.table.get(id).expect("members are in the table");
                        is_meant(found) && found.target == *target
                    })
                    .copied()
            }
        }
    }

    fn end_one(
        &mut self,
        id: SubscriptionId,
        how: SubscriptionEnd,
        now: Monotonic,
        changes: &mut Changes,
    ) {
        let group = self.retire(id);
        let group = self.groups.get(&group).expect("a subscription's group exists");
        let is_last = group.members.len() == 1;
        let subscription = self.table.get_mut(&id).expect("what ends exists");
        let is_kept = is_last && subscription.is_durable() && how == SubscriptionEnd::Close;
        if is_kept {
            self.logged(id);
            changes.kept.push(id);
            return;
        }
        if !is_last {
            self.spread(id, now, changes);
        }
        self.remove(id);
        changes.removed.push(id);
    }

    /// Nobody listens any more: takes the subscription from its client and the timers.
    fn retire(&mut self, id: SubscriptionId) -> GroupId {
        let subscription = self.table.get_mut(&id).expect("what ends exists");
        if subscription.is_active {
            disarm(&mut self.timers, subscription);
            subscription.suspend();
            self.directory.remove_from_client(subscription.client, id);
        }
        subscription.group
    }

    /// Deals the unacked messages of a member that leaves to the others.
    fn spread(&mut self, id: SubscriptionId, now: Monotonic, changes: &mut Changes) {
        let leaver = self.table.get_mut(&id).expect("what ends exists");
        let overdue = leaver.pending.take_overdue();
        let group_id = leaver.group;
        let group = self.groups.get(&group_id).expect("a subscription's group exists");
        let takers: Vec<_> = group.members.iter().copied().filter(|member| *member != id).collect();
        assert!(!takers.is_empty(), "others remain");
        let mut parts: Vec<_> = takers.iter().map(|_| Vec::new()).collect();
        for (index, entry) in overdue.into_iter().enumerate() {
            parts[index % takers.len()].push(entry);
        }
        changes.groups.insert(group_id);
        for (index, (taker, part)) in takers.into_iter().zip(parts).enumerate() {
            let member = self.table.get_mut(&taker).expect("members are in the table");
            // The leaver's record may be the one that says how far the group is: the first one's
            // does so from now on, even if it takes no message.
            if index == 0 || !part.is_empty() {
                self.dirty.mark(member, now);
            }
            if !part.is_empty() {
                receive(&mut self.timers, member, part, now.after_ms(SPREAD_DELAY_MS));
            }
        }
    }

    /// Takes a retired subscription out of group, channel and table.
    fn remove(&mut self, id: SubscriptionId) {
        let subscription = self.table.remove(&id).expect("what is removed exists");
        assert!(!subscription.is_active, "it was retired first");
        let group = self.groups.get_mut(&subscription.group).expect("its group exists");
        group.members.retain(|member| *member != id);
        self.directory.count_one_less(subscription.channel);
        if group.members.is_empty() {
            self.groups.remove(&subscription.group);
            let Subscription { group, channel, client_id, kind, .. } = subscription;
            self.directory.remove_group(group, channel, &client_id, &kind);
        } else {
            self.wake(subscription.group);
        }
    }

    /// Appends positions first, then what is kept, then what is gone: so each message is written
    /// where it went before it is missing where it was.
    fn write(&mut self, changes: Changes, journal: &mut impl Journal) {
        for group in changes.groups {
            if self.groups.contains_key(&group) {
                self.log_group(group, journal);
            }
        }
        for id in changes.kept {
            journal.append(StateRecord::Subscription(self.state_of(id)));
        }
        for id in changes.removed {
            journal.append(StateRecord::SubscriptionRemoved(id));
        }
    }
}
