//! What monitoring and the shard see of the subscriptions.

use bytes::Bytes;

use super::Subscriptions;
use super::subscription::Subscription;
use crate::request::{ClientKey, SubscriptionKind};
use crate::types::{ChannelId, Sequence, SubscriptionId};

/// One subscription, to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionView<'a> {
    /// Its number.
    pub id: SubscriptionId,
    /// Its channel.
    pub channel: ChannelId,
    /// The client that owns it; stale when it is not active.
    pub client: ClientKey,
    /// The client's id; of the last owner for an offline durable and the shadow of a durable queue group.
    pub client_id: &'a str,
    /// What kind.
    pub kind: &'a SubscriptionKind,
    /// Where deliveries go.
    pub target: &'a Bytes,
    /// What an ack must name.
    pub token: u64,
    /// Unacked messages at once, as asked for.
    pub in_flight_max: u32,
    /// Milliseconds until redelivery.
    pub ack_wait_ms: u64,
    /// The last message sent; for a queue member, to any member of its group.
    pub last_sent: Sequence,
    /// Messages that wait for an ack.
    pub pending_count: usize,
    /// Whether somebody listens.
    pub is_active: bool,
    /// Whether it has as many unacked messages as it may have.
    pub is_stalled: bool,
}

impl Subscriptions {
    /// How many there are, offline ones and shadows included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many a channel has, offline ones and shadows included.
    pub fn count(&self, channel: ChannelId) -> u64 {
        self.directory.channel(channel).map_or(0, |known| known.subscriptions_count)
    }

    /// Whether somebody listens to a channel.
    pub fn has_active(&self, channel: ChannelId) -> bool {
        self.members(channel).any(|member| member.is_active)
    }

    /// A subscription.
    pub fn view(&self, id: SubscriptionId) -> Option<SubscriptionView<'_>> {
        self.table.get(&id).map(|subscription| self.show(subscription))
    }

    /// A channel's subscriptions, group by group in order of making.
    pub fn of_channel(&self, channel: ChannelId) -> impl Iterator<Item = SubscriptionView<'_>> {
        self.members(channel).map(|member| self.show(member))
    }

    /// A client's active subscriptions, in order of number.
    pub fn of_client(&self, client: ClientKey) -> impl Iterator<Item = SubscriptionView<'_>> {
        self.directory.of_client(client).filter_map(|id| self.view(id))
    }

    /// The clients that own active subscriptions, in order.
    pub fn clients(&self) -> Vec<ClientKey> {
        self.directory.clients().collect()
    }

    fn members(&self, channel: ChannelId) -> impl Iterator<Item = &Subscription> {
        let groups = self.directory.channel(channel).into_iter().flat_map(|known| &known.groups);
        let groups = groups.filter_map(|group| self.groups.get(group));
        groups.flat_map(|group| &group.members).filter_map(|id| self.table.get(id))
    }

    fn show<'a>(&'a self, subscription: &'a Subscription) -> SubscriptionView<'a> {
        let group = self.groups.get(&subscription.group).expect("its group exists");
        SubscriptionView {
            id: subscription.id,
            channel: subscription.channel,
            client: subscription.client,
            client_id: &subscription.client_id,
            kind: &subscription.kind,
            target: &subscription.target,
            token: subscription.token,
            in_flight_max: subscription.in_flight_max,
            ack_wait_ms: subscription.ack_wait_ms,
            last_sent: group.last_sent,
            pending_count: subscription.pending.len(),
            is_active: subscription.is_active,
            is_stalled: subscription.is_full(),
        }
    }
}
