//! Subscriptions that share one position in a channel. A queue group has members; a plain or
//! durable subscription is a group of one, so that there is one way of sending.

use std::collections::VecDeque;

use super::subscription::Table;
use crate::request::Sink;
use crate::types::{ChannelId, Sequence, SubscriptionId};

/// A group's number; never stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(pub(super) u64);

/// What a message is picked a member for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be sent for the first time: never over a member's limit.
    New,
    /// To be sent again: limits do not count.
    Redelivery,
}

/// A group's state.
#[derive(Debug)]
pub(super) struct Group {
    /// What it listens to.
    pub(super) channel: ChannelId,
    /// The last message it was sent; 0: none.
    pub(super) last_sent: Sequence,
    /// What of it is in the log.
    pub(super) logged: Sequence,
    /// Its members, the next in turn first. Never empty.
    pub(super) members: VecDeque<SubscriptionId>,
    /// Whether it stands among the ready ones.
    pub(super) is_queued: bool,
    /// Whether there was a message and no member to take it.
    pub(super) is_stalled: bool,
    /// Whether its next new message is being read from the disk.
    pub(super) new_awaits_read: bool,
    /// Whether its next redelivery is being read from the disk.
    pub(super) redelivery_awaits_read: bool,
}

impl Group {
    /// A group without members yet.
    pub(super) fn new(channel: ChannelId, last_sent: Sequence) -> Self {
        Self {
            channel,
            last_sent,
            logged: last_sent,
            members: VecDeque::new(),
            is_queued: false,
            is_stalled: false,
            new_awaits_read: false,
            redelivery_awaits_read: false,
        }
    }

    /// The member for the next message, with room in its sink; members found without room are
    /// parked.
    pub(super) fn pick(
        &self,
        purpose: Purpose,
        table: &mut Table,
        sink: &mut impl Sink,
    ) -> Option<SubscriptionId> {
        loop {
            let id = self.best(purpose, table)?;
            let member = table.get_mut(&id).expect("members are in the table");
            if sink.has_room(id, &member.target) {
                return Some(id);
            }
            member.is_parked = true;
        }
    }

    /// Notes that a message went to `id`: the first in turn goes behind the others when it was its
    /// turn.
    pub(super) fn picked(&mut self, id: SubscriptionId) {
        if self.members.len() > 1 && self.members.front() == Some(&id) {
            self.members.rotate_left(1);
        }
    }

    /// The least laden member below its limit whose client answers, the first of equals; else the
    /// first in turn.
    fn best(&self, purpose: Purpose, table: &Table) -> Option<SubscriptionId> {
        let mut best = None;
        for id in &self.members {
            let member = table.get(id).expect("members are in the table");
            let is_full = member.is_full();
            if !member.can_take() || (is_full && purpose == Purpose::New) {
                continue;
            }
            let rank = match (member.is_responsive, is_full) {
                (true, false) => (0, member.pending.len()),
                (true, true) => (1, 0),
                (false, _) => (2, 0),
            };
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, *id));
            }
        }
        best.map(|(_, id)| id)
    }
}
