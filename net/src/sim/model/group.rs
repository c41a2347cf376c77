//! Subscriptions as the model knows them: a plain one or a durable is a group of one, a queue group has members.

use std::collections::{BTreeMap, BTreeSet};

use weirlog_engine::types::{Monotonic, Now, Timestamp};

use super::redelivery::Unacked;
use super::{GroupIndex, Model};

/// What makes a subscription itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) enum SubscriptionKey {
    /// Nothing does: each request makes its own.
    Plain,
    /// Client, channel and durable name.
    Durable { client: String, channel: String, name: String },
    /// Channel and group name.
    Queue { channel: String, group: String, is_durable: bool },
}

/// Who is in a group: client and number of the subscription there.
pub(in crate::sim) type Member = (String, u64);

/// Where a subscription asked to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Start {
    NewOnly,
    LastReceived,
    TimeDelta { ns: i64 },
    Sequence(u64),
    First,
}

/// How a member left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Left {
    /// Closed: a durable stays.
    Closed,
    /// Unsubscribed.
    Removed,
    /// Unsubscribed or not: nobody knows.
    Doubted,
}

/// One subscription or queue group, from its first request on.
#[derive(Debug)]
pub(in crate::sim) struct Group {
    pub(in crate::sim) key: SubscriptionKey,
    pub(in crate::sim) channel: String,
    /// The client that made it.
    pub(in crate::sim) maker: String,
    pub(super) start: Start,
    /// Nobody knows where it starts.
    pub(super) is_vague: bool,
    /// Nobody knows whether it exists: nothing is expected of it.
    pub(super) is_retired: bool,
    pub(super) requested_at: Now,
    /// The earliest time that the wall clock has shown since then: what is published later has none before it.
    pub(super) time_least: Timestamp,
    /// When its maker knew that it exists.
    pub(super) answered_at: Option<Now>,
    /// What was sent before may have been passed over: it could not be read.
    pub(super) unread_until: Monotonic,
    pub(super) delivered: BTreeSet<u64>,
    pub(super) new_seen: BTreeSet<(u64, u64)>,
    /// What was acked; with the life and time at which the server had certainly applied it.
    pub(super) acks: BTreeMap<u64, Option<(u64, Monotonic)>>,
    /// What was delivered and never acked, in whatever life.
    pub(super) unacked: BTreeMap<u64, Unacked>,
    /// The longest ack wait that a member ever asked for.
    pub(super) ack_wait_ms_max: u64,
    /// Members; whether they are known to be there.
    pub(super) members: BTreeMap<Member, bool>,
}

impl Group {
    pub(super) fn title(&self) -> String {
        match &self.key {
            SubscriptionKey::Plain => {
                format!("plain subscription of {} from {:?}", self.maker, self.start)
            }
            SubscriptionKey::Durable { name, .. } => format!("durable {name} of {}", self.maker),
            SubscriptionKey::Queue { group, is_durable, .. } => {
                format!("queue group {group} (durable: {is_durable})")
            }
        }
    }

    /// Whether it exists for certain.
    pub(super) fn is_live(&self) -> bool {
        self.answered_at.is_some() && !self.is_retired
    }

    pub(super) fn is_durable(&self) -> bool {
        match self.key {
            SubscriptionKey::Plain => false,
            SubscriptionKey::Durable { .. } => true,
            SubscriptionKey::Queue { is_durable, .. } => is_durable,
        }
    }
}

impl Model {
    /// The name to use now for a queue group: one that was given up is not used again.
    pub(in crate::sim) fn queue_name(
        &self,
        channel: &str,
        group: &str,
        is_durable: bool,
    ) -> String {
        let key = queue_base(channel, group, is_durable);
        format!("{group}g{}", self.generations.get(&key).copied().unwrap_or(0))
    }

    /// A client asks for a subscription.
    pub(in crate::sim) fn subscribe_sent(
        &mut self,
        key: SubscriptionKey,
        channel: &str,
        start: Start,
        member: Member,
        now: Now,
    ) -> GroupIndex {
        let known =
            if key == SubscriptionKey::Plain { None } else { self.names.get(&key).copied() };
        let index = known.unwrap_or_else(|| {
            let is_vague = self.doubted.remove(&key);
            self.groups.push(Group {
                key: key.clone(),
                channel: channel.to_owned(),
                maker: member.0.clone(),
                start,
                is_vague,
                is_retired: false,
                requested_at: now,
                time_least: now.wall,
                answered_at: None,
                unread_until: Monotonic(0),
                delivered: BTreeSet::new(),
                new_seen: BTreeSet::new(),
                acks: BTreeMap::new(),
                unacked: BTreeMap::new(),
                ack_wait_ms_max: 0,
                members: BTreeMap::new(),
            });
            let index = self.groups.len() - 1;
            if key != SubscriptionKey::Plain {
                self.names.insert(key, index);
            }
            index
        });
        let group = &mut self.groups[index];
        self.admission.channel_asked(channel);
        self.admission.seat_asked(channel, &group.key, &member);
        if known.is_some() && group.answered_at.is_none() {
            // Whichever request comes first decides.
            group.is_vague = true;
        }
        group.members.insert(member, false);
        index
    }

    /// The subscription exists.
    pub(in crate::sim) fn subscribed(&mut self, index: GroupIndex, member: Member, now: Now) {
        self.admitted(index, &member, now.mono);
        let group = &mut self.groups[index];
        group.members.insert(member, true);
        group.answered_at.get_or_insert(now);
    }

    /// The answer was lost.
    pub(in crate::sim) fn subscribe_lost(&mut self, index: GroupIndex) {
        let group = &mut self.groups[index];
        if group.answered_at.is_none() {
            group.is_vague = true;
        }
        let is_durable = group.is_durable();
        if !is_durable
            && matches!(group.key, SubscriptionKey::Queue { .. })
            && group.answered_at.is_none()
        {
            self.retire(index);
        }
    }

    /// A member begins to leave: from now on it is not known to be there. A queue group that one `removes` itself from
    /// is gone if it was the last, and who is the last while others come and go nobody knows.
    pub(in crate::sim) fn leaving(&mut self, index: GroupIndex, member: &Member, removes: bool) {
        let group = &mut self.groups[index];
        let Some(is_there) = group.members.get_mut(member) else { return };
        *is_there = false;
        let is_deserted = group.members.values().all(|is_there| !is_there);
        let is_queue = matches!(group.key, SubscriptionKey::Queue { .. });
        if removes || !matches!(group.key, SubscriptionKey::Durable { .. }) {
            self.admission.seat_doubted(&group.channel, &group.key, member);
        }
        if (is_deserted && !group.is_durable()) || (removes && is_queue) {
            self.retire(index);
        }
    }

    /// A member is gone.
    pub(in crate::sim) fn left(
        &mut self,
        index: GroupIndex,
        member: &Member,
        how: Left,
        now: Monotonic,
    ) {
        self.leaving(index, member, how != Left::Closed);
        let group = &mut self.groups[index];
        group.members.remove(member);
        let stays = matches!(group.key, SubscriptionKey::Durable { .. }) && how != Left::Removed;
        if !stays {
            self.admission.seat_gone(&group.channel, &group.key, member, now);
        }
        match (&group.key, how) {
            (SubscriptionKey::Durable { .. }, Left::Removed) => self.retire(index),
            (SubscriptionKey::Durable { .. }, Left::Doubted) => {
                let key = group.key.clone();
                self.retire(index);
                self.doubted.insert(key);
            }
            _ => {}
        }
    }

    /// Nothing is expected of a group any more; its name is free, or for queue groups never used again.
    pub(super) fn retire(&mut self, index: GroupIndex) {
        let group = &mut self.groups[index];
        if std::mem::replace(&mut group.is_retired, true) {
            return;
        }
        self.names.remove(&group.key);
        if let SubscriptionKey::Queue { channel, group, is_durable } = &group.key {
            let base = group.rsplit_once('g').map_or(group.as_str(), |(base, _)| base);
            *self.generations.entry(queue_base(channel, base, *is_durable)).or_default() += 1;
        }
    }

    /// State is lost: nothing is expected of what there was, and a durable of a name that was used may be the old one.
    pub(super) fn retire_all(&mut self) {
        for index in 0..self.groups.len() {
            self.retire(index);
            let key = &self.groups[index].key;
            if matches!(key, SubscriptionKey::Durable { .. }) {
                self.doubted.insert(key.clone());
            }
        }
        self.admission.all_doubted();
    }

    /// The durables of `client`, and durable groups it made, that exist and have nobody.
    pub(in crate::sim) fn deserted(&self, client: &str) -> Vec<(SubscriptionKey, String)> {
        let is_deserted = |group: &&Group| {
            group.is_live()
                && group.is_durable()
                && group.maker == client
                && group.members.is_empty()
        };
        self.groups
            .iter()
            .filter(is_deserted)
            .map(|group| (group.key.clone(), group.channel.clone()))
            .collect()
    }
}

fn queue_base(channel: &str, group: &str, is_durable: bool) -> SubscriptionKey {
    SubscriptionKey::Queue { channel: channel.to_owned(), group: group.to_owned(), is_durable }
}
