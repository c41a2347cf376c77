//! Channel messages on their way from a shard to subscribers: into the outbox of a connection of this core, or into
//! what goes to another core, never more than there is room for.

use bytes::Bytes;
use weirlog_engine::request::{Delivery, Sink};
use weirlog_engine::types::{ShardId, SubscriptionId};

use super::hub::Hub;
use super::routing::{Message, take};
use crate::ids::{CoreId, Subscriber};
use crate::link::{Credit, DeliveryBatch, DeliveryEntry, LinkMessage};
use crate::nats::emit;
use crate::session::Counted;
use crate::stan::wire::MsgProto;

/// Where deliveries to a target go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// To nobody: the message counts as sent and comes again.
    Nobody,
    /// To one subscriber of this core.
    Here(Subscriber),
    /// To another core, and nowhere else.
    There(CoreId),
    /// To several, as any message.
    Many,
}

/// Takes a shard's deliveries.
pub(crate) struct Courier<'a> {
    hub: &'a mut Hub,
    scratch: &'a mut Vec<u8>,
    shard: ShardId,
    /// The place of the last subscription asked for, and the interest's version then: messages come in runs.
    last: Option<(SubscriptionId, u64, Place)>,
}

impl<'a> Courier<'a> {
    pub(crate) fn new(hub: &'a mut Hub, scratch: &'a mut Vec<u8>, shard: ShardId) -> Self {
        Self { hub, scratch, shard, last: None }
    }

    fn place(&mut self, subscription: SubscriptionId, target: &Bytes) -> Place {
        let version = self.hub.interest_version;
        if let Some((last, at_version, place)) = self.last
            && last == subscription
            && at_version == version
        {
            return place;
        }
        let place = self.hub.place(target);
        self.last = Some((subscription, version, place));
        place
    }
}

impl Sink for Courier<'_> {
    fn has_room(&mut self, subscription: SubscriptionId, target: &Bytes) -> bool {
        match self.place(subscription, target) {
            Place::Nobody | Place::Many => true,
            Place::Here(subscriber) => {
                let has_room = self.hub.has_outbox_room(subscriber.connection);
                if !has_room && let Some(session) = self.hub.sessions.get_mut(subscriber.connection)
                {
                    session.paused.push((self.shard, subscription));
                }
                has_room
            }
            Place::There(core) => self.hub.windows.has_room(core, (self.shard, subscription)),
        }
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        let message = MsgProto {
            sequence: delivery.sequence.0,
            subject: delivery.channel,
            // What a publisher gave was UTF-8.
            reply: std::str::from_utf8(delivery.content.reply).unwrap_or_default(),
            data: delivery.content.payload,
            timestamp: delivery.timestamp.0,
            is_redelivered: delivery.redelivery_count > 0,
            redelivery_count: delivery.redelivery_count,
            crc32: 0,
        };
        let payload_bytes = message.encoded_len();
        let counters = &mut self.hub.tally.channels;
        counters.messages.sent.add(payload_bytes);
        counters.redelivered += u64::from(message.is_redelivered);
        match self.place(delivery.subscription, delivery.target) {
            Place::Nobody => {}
            Place::Here(subscriber) => {
                self.hub.write_delivery(subscriber, delivery.target, &message, payload_bytes)
            }
            Place::There(core) => {
                self.hub.push_delivery(
                    core,
                    (self.shard, delivery.subscription),
                    delivery.target,
                    (&message, payload_bytes),
                );
            }
            Place::Many => {
                self.scratch.clear();
                message.encode(self.scratch);
                self.hub.route(&Message::plain(delivery.target, self.scratch), None);
            }
        }
    }
}

impl Hub {
    fn place(&mut self, target: &[u8]) -> Place {
        let mut found = std::mem::take(&mut self.found);
        self.lookup(target, &mut found);
        let cores = found.there.cores();
        let has_groups = !found.here.groups().is_empty() || !found.there.groups().is_empty();
        let place = match (found.here.plain(), cores.iter().next()) {
            _ if has_groups || cores.len() > 1 => Place::Many,
            ([], None) => Place::Nobody,
            ([subscriber], None) => Place::Here(*subscriber),
            ([], Some(core)) => Place::There(core),
            _ => Place::Many,
        };
        self.found = found;
        place
    }

    /// Writes `MSG target sid length` and the message to one subscriber of this core.
    fn write_delivery(
        &mut self,
        to: Subscriber,
        target: &[u8],
        message: &MsgProto<'_>,
        payload_bytes: usize,
    ) {
        let Some(session) = self.sessions.get_mut(to.connection) else { return };
        let Some(subscription) = session.subscriptions.get(to.index) else { return };
        if session.is_closing || subscription.is_denied(session.permissions(), target) {
            return;
        }
        let sid = &subscription.sid;
        session.outbox.write_with(payload_bytes + target.len() + 64, |out| {
            emit::msg_head(out, target, sid, None, payload_bytes);
            message.encode(out);
            out.extend_from_slice(emit::LINE_END);
        });
        session.traffic.sent.add(payload_bytes);
        self.tally.traffic.sent.add(payload_bytes);
        let counted = session.subscriptions.count_delivery(to.index);
        self.mark_flush(to.connection);
        if counted == Counted::Last {
            self.drop_subscription(to);
        }
    }

    fn push_delivery(
        &mut self,
        core: CoreId,
        key: super::windows::SubscriptionKey,
        target: &[u8],
        (message, payload_bytes): (&MsgProto<'_>, usize),
    ) {
        let (shard, subscription) = key;
        let entry = DeliveryEntry {
            shard,
            subscription,
            target_bytes: u32::try_from(target.len()).expect("a target came in a payload"),
            payload_bytes: u32::try_from(payload_bytes).expect("a record is below 4 GiB"),
        };
        let append = |batch: &mut DeliveryBatch| {
            batch.bytes.extend_from_slice(target);
            message.encode(&mut batch.bytes);
            batch.entries.push(entry);
        };
        if let Some(LinkMessage::Deliveries(batch)) = self.links.last_mut(core) {
            append(batch);
        } else {
            let mut batch = DeliveryBatch::default();
            append(&mut batch);
            self.links.push(core, LinkMessage::Deliveries(batch));
        }
        self.windows.sent(core, key, payload_bytes);
    }

    /// Deliveries of another core's shards for subscribers of this core.
    pub(crate) fn on_deliveries(&mut self, from: CoreId, batch: &DeliveryBatch) {
        let mut found = std::mem::take(&mut self.found);
        let mut known: &[u8] = &[];
        let mut rest = batch.bytes.as_slice();
        for entry in &batch.entries {
            let target = take(&mut rest, entry.target_bytes);
            let payload = take(&mut rest, entry.payload_bytes);
            if target != known || known.is_empty() {
                self.lookup(target, &mut found);
                known = target;
            }
            let message = Message::plain(target, payload);
            let mut connection = None;
            for subscriber in found.here.plain() {
                if self.deliver(*subscriber, &message) {
                    connection = Some(subscriber.connection);
                }
            }
            let DeliveryEntry { shard, subscription, .. } = *entry;
            self.grant(from, Credit { shard, subscription, connection, bytes: payload.len() });
        }
        assert!(rest.is_empty(), "entries cover the bytes");
        self.found = found;
    }
}
