//! Who is where: the groups of each channel with their keys, and the subscriptions of each client.

use std::collections::{BTreeMap, BTreeSet};

use super::queue_group::GroupId;
use crate::request::{ClientKey, SubscriptionKind};
use crate::types::{ChannelId, FastMap, FastSet, SubscriptionId};

/// A channel with subscriptions.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Its groups, in order of making.
    pub(super) groups: BTreeSet<GroupId>,
    /// By client id and durable name. The pair is the key: joined by a character, two of them could
    /// meet.
    durables: BTreeMap<(String, String), GroupId>,
    /// By group name and whether it is durable.
    queues: BTreeMap<(String, bool), GroupId>,
    /// Its subscriptions, offline ones and shadows included.
    pub(super) subscriptions_count: u64,
}

/// The indexes over subscriptions and groups.
#[derive(Debug, Default)]
pub(super) struct Directory {
    channels: FastMap<ChannelId, Channel>,
    /// The active subscriptions of each client; a client without any is not in it.
    clients: BTreeMap<ClientKey, BTreeSet<SubscriptionId>>,
    unresponsive: FastSet<ClientKey>,
}

impl Directory {
    /// The channel, if it has subscriptions.
    pub(super) fn channel(&self, channel: ChannelId) -> Option<&Channel> {
        self.channels.get(&channel)
    }

    /// The group that a subscription of this kind belongs to, if it exists; a plain one never does.
    pub(super) fn group(
        &self,
        channel: ChannelId,
        client_id: &str,
        kind: &SubscriptionKind,
    ) -> Option<GroupId> {
        let channel = self.channels.get(&channel)?;
        match kind {
            SubscriptionKind::Plain => None,
            SubscriptionKind::Durable { name } => {
                channel.durables.get(&(client_id.to_owned(), name.clone())).copied()
            }
            SubscriptionKind::Queue { group, is_durable } => {
                channel.queues.get(&(group.clone(), *is_durable)).copied()
            }
        }
    }

    /// Makes a group known.
    pub(super) fn add_group(
        &mut self,
        id: GroupId,
        channel: ChannelId,
        client_id: &str,
        kind: &SubscriptionKind,
    ) {
        let channel = self.channels.entry(channel).or_default();
        let is_new = channel.groups.insert(id);
        assert!(is_new, "a group is added once");
        let replaced = match kind {
            SubscriptionKind::Plain => None,
            SubscriptionKind::Durable { name } => {
                channel.durables.insert((client_id.to_owned(), name.clone()), id)
            }
            SubscriptionKind::Queue { group, is_durable } => {
                channel.queues.insert((group.clone(), *is_durable), id)
            }
        };
        assert!(replaced.is_none(), "a key names one group");
    }

    /// Forgets a group without members.
    pub(super) fn remove_group(
        &mut self,
        id: GroupId,
        channel_id: ChannelId,
        client_id: &str,
        kind: &SubscriptionKind,
    ) {
        let channel = self.channels.get_mut(&channel_id).expect("a group's channel is known");
        let was_known = channel.groups.remove(&id);
        assert!(was_known, "a group is removed once");
        let removed = match kind {
            SubscriptionKind::Plain => Some(id),
            SubscriptionKind::Durable { name } => {
                channel.durables.remove(&(client_id.to_owned(), name.clone()))
            }
            SubscriptionKind::Queue { group, is_durable } => {
                channel.queues.remove(&(group.clone(), *is_durable))
            }
        };
        assert_eq!(removed, Some(id), "its key named this group");
        if channel.groups.is_empty() {
            assert_eq!(channel.subscriptions_count, 0, "subscriptions are in groups");
            self.channels.remove(&channel_id);
        }
    }

    /// Counts one more subscription of a channel that has a group for it.
    pub(super) fn count_one_more(&mut self, channel: ChannelId) {
        let channel = self.channels.get_mut(&channel).expect("its group came first");
        channel.subscriptions_count += 1;
    }

    /// Counts one less; before its group goes.
    pub(super) fn count_one_less(&mut self, channel: ChannelId) {
        let channel = self.channels.get_mut(&channel).expect("its group is there still");
        channel.subscriptions_count -= 1;
    }

    /// Gives an active subscription to a client.
    pub(super) fn add_to_client(&mut self, client: ClientKey, id: SubscriptionId) {
        let is_new = self.clients.entry(client).or_default().insert(id);
        assert!(is_new, "a subscription is given to its client once");
    }

    /// Takes it away again.
    pub(super) fn remove_from_client(&mut self, client: ClientKey, id: SubscriptionId) {
        let subscriptions = self.clients.get_mut(&client).expect("an active one has a client");
        let was_there = subscriptions.remove(&id);
        assert!(was_there, "a subscription is taken from its client once");
        if subscriptions.is_empty() {
            self.clients.remove(&client);
        }
    }

    /// A client's active subscriptions, in order.
    pub(super) fn of_client(&self, client: ClientKey) -> impl Iterator<Item = SubscriptionId> {
        self.clients.get(&client).into_iter().flatten().copied()
    }

    /// The clients with active subscriptions, in order.
    pub(super) fn clients(&self) -> impl Iterator<Item = ClientKey> {
        self.clients.keys().copied()
    }

    /// Whether the client answers.
    pub(super) fn is_responsive(&self, client: ClientKey) -> bool {
        !self.unresponsive.contains(&client)
    }

    /// Notes whether the client answers; one that does, or is gone, takes no memory.
    pub(super) fn set_responsive(&mut self, client: ClientKey, is_responsive: bool) {
        if is_responsive {
            self.unresponsive.remove(&client);
        } else {
            self.unresponsive.insert(client);
        }
    }
}
