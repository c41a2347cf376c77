//! A subscriber's ack: its inbox names shard, subscription and token, so it goes straight to the shard.

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::{Now, Sequence, ShardId, SubscriptionId};

use super::wire::Ack;
use crate::core::Core;
use crate::ids::ConnectionId;
use crate::link::{LinkMessage, SubscriptionAck};

impl<D: Disk, R: Runtime> Core<D, R> {
    /// An ack came over a connection. One that makes no sense is ignored; none is answered.
    #[inline]
    pub(crate) fn on_ack_message(
        &mut self,
        id: ConnectionId,
        inbox: (ShardId, SubscriptionId, u64),
        payload: &[u8],
        now: Now,
    ) {
        let (shard, subscription, token) = inbox;
        let Ok(ack) = Ack::decode(payload) else { return };
        if shard.0 >= self.hub.config.shard_count {
            return;
        }
        let ack = SubscriptionAck { shard, subscription, token, sequence: Sequence(ack.sequence) };
        let core = self.hub.core_of(shard);
        if core == self.hub.own() {
            self.on_subscription_ack(ack, now);
            return;
        }
        if let Some(LinkMessage::Acks(acks)) = self.hub.links.last_mut(core) {
            acks.push(ack);
        } else {
            self.hub.links.push(core, LinkMessage::Acks(vec![ack]));
        }
        if let Some(session) = self.hub.sessions.get_mut(id) {
            self.hub.links.mark(core, &mut session.marks);
        }
    }

    /// An ack for a shard of this core.
    #[inline]
    pub(crate) fn on_subscription_ack(&mut self, ack: SubscriptionAck, now: Now) {
        self.hub.tally.channels.acked += 1;
        let SubscriptionAck { shard, subscription, token, sequence } = ack;
        self.with_shard(shard, |shard| shard.ack(subscription, token, sequence, now));
    }
}
