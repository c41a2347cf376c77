//! All subscriptions of a shard: who gets which message when, what was acked, what comes again.
//!
//! Plain sync state with time as an argument. Messages come from [`Messages`], deliveries go to a
//! [`Sink`](crate::request::Sink), changes that must survive go to a [`Journal`]. Nothing here
//! waits, reads a clock or knows a protocol.
//!
//! ```text
//!  channel_committed ─┐                     ┌─> new messages: next after last_sent, to the member picked
//!  activate, resume ──┼─> ready: FIFO of ───┤
//!  ack below limit ───┤   groups, a turn    └─> redelivery: each member's `due`, before new ones after
//!  tick (ack waits) ──┘   each                  a resume or a restart, else between them
//! ```
//!
//! A plain or durable subscription is a group of one; so there is one way of sending. A group
//! leaves the ready ones when it is caught up, when no member may take a message (it is stalled
//! until an ack, room or a member comes), or when its next message is being read from the disk.
//!
//! What is promised: a group's new messages go out in order of sequence, each to one member; a
//! message that was sent stays pending at exactly one member until it is acked or gone from its
//! channel; no member has more new messages unacked than it asked for.

mod directory;
mod dispatch;
mod lifecycle;
mod pending;
mod positions;
mod queue_group;
mod recovering;
mod redelivery;
mod subscription;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

pub use lifecycle::Admission;
pub use positions::PositionScope;
pub use recovering::Recovering;
pub use view::SubscriptionView;

use crate::record::StateRecord;
use crate::request::ClientKey;
use crate::types::{
    ChannelId, Content, FastMap, Monotonic, Now, Sequence, SubscriptionId, Timestamp,
};
use directory::Directory;
use positions::Dirty;
use queue_group::{Group, GroupId};
use subscription::{Pass, Subscription, Table};

/// The messages a channel has on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first that is kept; `last + 1` if none is.
    pub first: Sequence,
    /// The last that was committed; 0 if the channel was never used.
    pub last: Sequence,
}

/// A message, or why there is none.
#[derive(Debug, Clone, Copy)]
pub enum Fetch<'a> {
    /// Here it is.
    Message {
        /// Its channel's name.
        channel: &'a str,
        /// When it was published.
        timestamp: Timestamp,
        /// The message.
        content: Content<'a>,
    },
    /// Trimmed, or lost by damage.
    Gone {
        /// The next one that may exist: behind the one asked for.
        next: Sequence,
    },
    /// It is being read from the disk; [`Subscriptions::channel_ready`] follows.
    Later,
}

/// What is needed of the log. Only committed messages are asked for.
pub trait Messages {
    /// Which messages a channel has; `None`: there is no such channel.
    fn bounds(&self, channel: ChannelId) -> Option<Bounds>;

    /// A message within the bounds. A group may ask for two places of a channel in turn: its next
    /// redelivery and its next new message.
    fn fetch(&mut self, channel: ChannelId, sequence: Sequence) -> Fetch<'_>;
}

/// Takes state records for the open batch. They may become durable one by one, as long as it is in
/// this order: wherever the log ends after a crash, no message that was sent is missing.
pub trait Journal {
    /// Takes one record.
    fn append(&mut self, record: StateRecord);
}

/// All subscriptions of one shard.
#[derive(Debug, Default)]
pub struct Subscriptions {
    table: Table,
    groups: FastMap<GroupId, Group>,
    directory: Directory,
    /// At most one entry a subscription: [`Subscription::deadline`].
    timers: BTreeSet<(Monotonic, SubscriptionId)>,
    /// Groups that may have something to send, in turn. Each stands here once at most; those that
    /// ended meanwhile are skipped.
    ready: VecDeque<GroupId>,
    dirty: Dirty,
    /// The last number given.
    last_id: SubscriptionId,
    last_group: GroupId,
    /// Memory of [`Subscriptions::redeliver`], kept between its calls.
    holders: Vec<SubscriptionId>,
}

impl Subscriptions {
    /// The number that the next new subscription gets.
    pub fn next_id(&self) -> SubscriptionId {
        SubscriptionId(self.last_id.0 + 1)
    }

    /// Lets deliveries begin: the subscriber knows its subscription now. Unknown ones are ignored.
    pub fn activate(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.table.get_mut(&id) else { return };
        if !subscription.is_active || subscription.is_started {
            return;
        }
        subscription.is_started = true;
        if subscription.pass == Pass::Resumed {
            redelivery::disarm(&mut self.timers, subscription);
            subscription.make_all_due(Pass::Resumed);
        }
        let group = subscription.group;
        self.wake(group);
    }

    /// A subscriber's ack. Whether a message waited for it; acks with an old token, or of what does
    /// not wait, are ignored.
    pub fn ack(
        &mut self,
        id: SubscriptionId,
        token: u64,
        sequence: Sequence,
        now: Monotonic,
    ) -> bool {
        let Some(subscription) = self.table.get_mut(&id) else { return false };
        if !subscription.is_active || subscription.token != token {
            return false;
        }
        let group = subscription.group;
        if let Some(is_free_again) = take_acked(subscription, &mut self.dirty, sequence, now) {
            if is_free_again {
                self.wake(group);
            }
            return true;
        }
        subscription.is_queue() && self.ack_elsewhere(group, sequence, now)
    }

    /// An ack for a message that meanwhile waits at another member.
    fn ack_elsewhere(&mut self, group: GroupId, sequence: Sequence, now: Monotonic) -> bool {
        let members = &self.groups.get(&group).expect("a subscription's group exists").members;
        for id in members {
            let member = self.table.get_mut(id).expect("members are in the table");
            if let Some(is_free_again) = take_acked(member, &mut self.dirty, sequence, now) {
                if is_free_again {
                    self.wake(group);
                }
                return true;
            }
        }
        false
    }

    /// A client answers its heartbeats again, or fails to.
    pub fn set_client_responsive(&mut self, client: ClientKey, is_responsive: bool) {
        self.directory.set_responsive(client, is_responsive);
        let ids: Vec<_> = self.directory.of_client(client).collect();
        for id in ids {
            let subscription = self.table.get_mut(&id).expect("clients own what is in the table");
            assert_eq!(subscription.client, client, "a client owns its own");
            subscription.is_responsive = is_responsive;
            let group = subscription.group;
            if is_responsive {
                self.wake(group);
            }
        }
    }

    /// A channel has new committed messages.
    pub fn channel_committed(&mut self, channel: ChannelId) {
        let Some(channel) = self.directory.channel(channel) else { return };
        for id in &channel.groups {
            let group = self.groups.get_mut(id).expect("a channel's groups exist");
            if !group.is_queued && !group.is_stalled && !group.new_awaits_read {
                group.is_queued = true;
                self.ready.push_back(*id);
            }
        }
    }

    /// What was being read of a channel is there.
    pub fn channel_ready(&mut self, channel: ChannelId) {
        let Some(channel) = self.directory.channel(channel) else { return };
        for id in &channel.groups {
            let group = self.groups.get_mut(id).expect("a channel's groups exist");
            if !group.new_awaits_read && !group.redelivery_awaits_read {
                continue;
            }
            group.new_awaits_read = false;
            group.redelivery_awaits_read = false;
            if !group.is_queued {
                group.is_queued = true;
                self.ready.push_back(*id);
            }
        }
    }

    /// There is room again for this subscription. Unknown ones are ignored.
    pub fn resume(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.table.get_mut(&id) else { return };
        if subscription.is_parked {
            subscription.is_parked = false;
            let group = subscription.group;
            self.wake(group);
        }
    }

    /// When [`Subscriptions::tick`] wants to be called next.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Time has passed: what is to be sent again becomes so. Then call [`Subscriptions::dispatch`].
    pub fn tick(&mut self, now: Now) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now.mono {
                break;
            }
            self.timers.pop_first();
            self.fire(id, now.mono);
        }
    }

    /// Whether [`Subscriptions::dispatch`] has anything to look at.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Puts a group among the ready ones: something changed that may let it send.
    fn wake(&mut self, id: GroupId) {
        let group = self.groups.get_mut(&id).expect("a subscription's group exists");
        if !group.is_queued {
            group.is_queued = true;
            self.ready.push_back(id);
        }
    }
}

/// Takes an acked message from a subscription. `None`: it did not wait there; else whether it was
/// this ack that lets new messages flow.
fn take_acked(
    subscription: &mut Subscription,
    dirty: &mut Dirty,
    sequence: Sequence,
    now: Monotonic,
) -> Option<bool> {
    let was_full = subscription.is_full();
    subscription.pending.remove(sequence)?;
    dirty.mark(subscription, now);
    Some(was_full && !subscription.is_full())
}
