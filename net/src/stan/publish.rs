//! A message for a channel: checked on the connection's core, appended on the shard's, acked when it is committed.
//! This is the path that must be cheap: what was looked up for one message holds for the next.

use weirlog_engine::disk::Disk;
use weirlog_engine::error::RequestError;
use weirlog_engine::placement::shard_of_channel;
use weirlog_engine::request::ClientKey;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::storage::PREFETCH_MAX;
use weirlog_engine::types::{Content, Now, ShardId};

use super::Stan;
use super::errors;
use super::pub_acks::PubAcks;
use super::waiters::{Origin, Published, Waiter};
use super::wire::{PubAck, PubMsg};
use crate::config::{CONNECTION_UNACKED_BYTES_MAX, CORE_UNACKED_BYTES_MAX, PUBLISH_OVERHEAD_BYTES};
use crate::core::{Core, Hub, Notice, Then};
use crate::flow::Flow;
use crate::ids::{ConnectionId, CoreId};
use crate::link::{LinkMessage, PublishBatch, PublishEntry};
use crate::nats::emit;
use crate::registry::Registry;
use crate::session::{Publisher, Session, Stop};
use crate::subject::is_valid_channel;

/// The sid of an ack line that is routed by its subject.
const NO_SID: &[u8] = b"-";

impl<D: Disk, R: Runtime> Core<D, R> {
    /// A message to `_STAN.pub.<cluster>.<channel>`. The channel is the one inside, as in the reference.
    #[inline]
    pub(crate) fn on_channel_message(
        &mut self,
        id: ConnectionId,
        payload: &[u8],
        reply: Option<&[u8]>,
        now: Now,
    ) {
        let reply = reply.unwrap_or_default();
        let Ok(message) = PubMsg::decode(payload) else {
            self.refuse_publish(reply, "");
            return;
        };
        self.hub.tally.channels.messages.received.add(payload.len());
        if self.hub.config.partition.is_some()
            && (!self.serves_channel(message.subject)
                || self.holds_publish(id, &message, (payload, reply), now))
        {
            return;
        }
        self.hub.trace_streaming(|| {
            let PubMsg { client_id, subject, guid, .. } = &message;
            format!(
                "[Client:{client_id}] Received message from publisher subj={subject} guid={guid}"
            )
        });
        let Some((shard, is_direct)) = self.check_publish(id, &message, reply) else {
            self.refuse_publish(reply, message.guid);
            return;
        };
        let own = self.hub.own();
        let core = self.hub.core_of(shard);
        if core == own && self.must_wait_to_create(id, shard, message.subject) {
            self.hold_publish(id, payload, reply, now);
            return;
        }
        let content = Content { payload: message.data, reply: message.reply.as_bytes() };
        let published_bytes = content.len() + PUBLISH_OVERHEAD_BYTES;
        self.take_credit(id, published_bytes);
        if core != own {
            self.push_publish(core, (id, shard, is_direct), &message);
            return;
        }
        let origin = Origin { core: own, connection: id, is_direct };
        let published = self
            .storage
            .with(shard, |shard| shard.publish_if(message.subject, content, now, is_valid_channel));
        let Some(session) = self.hub.sessions.get(id) else { return };
        let head = &session.publisher.ack_head;
        let guid = (!reply.is_empty()).then_some(message.guid);
        match published {
            Ok(published) => {
                let Stan { waiters, spares, .. } = &mut self.stan;
                let message = Published { origin, head, guid, published_bytes };
                waiters[usize::from(shard.0)].push(published.index, message, spares);
            }
            Err(error) => {
                let text = refusal_of(&error, message.subject);
                let refusal = PubAcks::refusal(head.clone(), guid, text);
                self.acked(id, is_direct, refusal, published_bytes);
            }
        }
    }

    /// Checks a message against what this core knows. Returns its shard, and whether its ack goes straight to the
    /// connection, with the head of the ack's line in the session.
    #[inline]
    fn check_publish(
        &mut self,
        id: ConnectionId,
        message: &PubMsg<'_>,
        reply: &[u8],
    ) -> Option<(ShardId, bool)> {
        // Restricted publishers are checked once a channel, for as long as they stay with it.
        let is_new = |session: &Session| {
            session.permissions().is_some() && session.publisher.channel != message.subject
        };
        if self.hub.sessions.get(id).is_some_and(is_new)
            && !self.may_publish_channel(id, message.subject)
        {
            return None;
        }
        let hub = &mut self.hub;
        let session = hub.sessions.get_mut(id)?;
        let publisher = &mut session.publisher;
        if message.guid.is_empty() || message.subject.is_empty() {
            return None;
        }
        if publisher.channel != message.subject {
            publisher.shard = shard_of_channel(message.subject, hub.config.shard_count);
            publisher.channel.clear();
            publisher.channel.push_str(message.subject);
            publisher.is_channel_there = false;
        }
        publisher.client_of(message, &hub.registry)?;
        let shard = publisher.shard;
        if publisher.interest_version != hub.interest_version || publisher.reply != reply {
            hub.find_ack_way(id, reply);
        }
        let session = hub.sessions.get(id)?;
        Some((shard, session.publisher.is_direct))
    }

    /// Whether a message makes a channel here while earlier ones of its connection are on their way to other cores,
    /// where they may make channels too: with a limit on channels, who comes first must be served first.
    #[inline]
    fn must_wait_to_create(&mut self, id: ConnectionId, shard: ShardId, channel: &str) -> bool {
        let hub = &mut self.hub;
        let Some(session) = hub.sessions.get_mut(id) else { return false };
        if session.publisher.is_channel_there || hub.config.channels_max == 0 {
            return false;
        }
        session.publisher.is_channel_there = true;
        if hub.links.has_applied(&session.marks) {
            return false;
        }
        let is_there = self.storage.with(shard, |shard| shard.channel_bounds(channel).is_some());
        session.publisher.is_channel_there = is_there;
        !is_there
    }

    /// Keeps one message, and its connection's input, until other cores have applied what came before.
    #[cold]
    fn hold_publish(&mut self, id: ConnectionId, payload: &[u8], reply: &[u8], now: Now) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        session.stop = Some(Stop::Barrier);
        let marks = session.marks.clone();
        let held = Then::Publish { connection: id, payload: payload.into(), reply: reply.into() };
        self.after_applied(marks, held, now);
    }

    /// The message that was kept has its turn, and its connection is read on.
    pub(crate) fn on_held_publish(
        &mut self,
        id: ConnectionId,
        payload: &[u8],
        reply: &[u8],
        now: Now,
    ) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        assert!(session.stop == Some(Stop::Barrier), "a kept message stops its connection");
        session.stop = None;
        self.on_channel_message(id, payload, (!reply.is_empty()).then_some(reply), now);
        self.hub.wakes.push(id);
    }

    /// Counts a publish; above its bound the connection is not read further.
    #[inline]
    fn take_credit(&mut self, id: ConnectionId, published_bytes: usize) {
        let hub = &mut self.hub;
        let Some(session) = hub.sessions.get_mut(id) else { return };
        session.unacked_bytes += published_bytes;
        hub.unacked_bytes += published_bytes;
        if session.unacked_bytes >= CONNECTION_UNACKED_BYTES_MAX {
            session.stop = Some(Stop::Credit);
        } else if hub.unacked_bytes >= CORE_UNACKED_BYTES_MAX {
            session.stop = Some(Stop::Credit);
            hub.starved.push(id);
        }
    }

    /// Hands a message to the core of its shard.
    fn push_publish(
        &mut self,
        core: CoreId,
        by: (ConnectionId, ShardId, bool),
        message: &PubMsg<'_>,
    ) {
        let (connection, shard, is_direct) = by;
        let hub = &mut self.hub;
        let Some(session) = hub.sessions.get_mut(connection) else { return };
        let head = &session.publisher.ack_head;
        let append = |batch: &mut PublishBatch| {
            batch.bytes.extend_from_slice(message.subject.as_bytes());
            batch.bytes.extend_from_slice(message.data);
            batch.bytes.extend_from_slice(message.reply.as_bytes());
            batch.bytes.extend_from_slice(message.guid.as_bytes());
            if batch.heads.last() != Some(head) {
                batch.heads.push(head.clone());
            }
            let length = |count: usize| u32::try_from(count).expect("part of one payload");
            batch.entries.push(PublishEntry {
                shard,
                connection,
                is_direct,
                channel_bytes: length(message.subject.len()),
                payload_bytes: length(message.data.len()),
                reply_bytes: length(message.reply.len()),
                guid_bytes: length(message.guid.len()),
                head: length(batch.heads.len() - 1),
            });
        };
        if let Some(LinkMessage::Publishes(batch)) = hub.links.last_mut(core) {
            append(batch);
        } else {
            let mut batch = PublishBatch::default();
            append(&mut batch);
            hub.links.push(core, LinkMessage::Publishes(batch));
        }
        hub.links.mark(core, &mut session.marks);
    }

    /// Messages of another core's connections for shards of this core.
    pub(crate) fn on_publishes(&mut self, from: CoreId, batch: &PublishBatch, now: Now) {
        let mut rest = batch.bytes.as_slice();
        for (at, entry) in batch.entries.iter().enumerate() {
            if at.is_multiple_of(PREFETCH_MAX) {
                self.storage.prefetch(channels_of(&batch.entries[at..], rest));
            }
            let channel = crate::core::take(&mut rest, entry.channel_bytes);
            let payload = crate::core::take(&mut rest, entry.payload_bytes);
            let reply = crate::core::take(&mut rest, entry.reply_bytes);
            let guid = crate::core::take(&mut rest, entry.guid_bytes);
            let head = &batch.heads[entry.head as usize];
            let guid = std::str::from_utf8(guid).expect("checked by the other core");
            let guid = (!head.is_empty()).then_some(guid);
            let content = Content { payload, reply };
            let channel = std::str::from_utf8(channel).expect("checked by the other core");
            let published_bytes = content.len() + PUBLISH_OVERHEAD_BYTES;
            let PublishEntry { shard, connection, is_direct, .. } = *entry;
            let origin = Origin { core: from, connection, is_direct };
            let published = self
                .storage
                .with(shard, |shard| shard.publish_if(channel, content, now, is_valid_channel));
            match published {
                Ok(published) => {
                    let Stan { waiters, spares, .. } = &mut self.stan;
                    let message = Published { origin, head, guid, published_bytes };
                    waiters[usize::from(shard.0)].push(published.index, message, spares);
                }
                Err(error) => {
                    let text = refusal_of(&error, channel);
                    let acks = PubAcks::refusal(head.clone(), guid, text);
                    let message =
                        LinkMessage::PubAcks { connection, is_direct, acks, published_bytes };
                    self.hub.links.push(from, message);
                }
            }
        }
        assert!(rest.is_empty(), "entries cover the bytes");
    }

    /// Sends the acks of what a shard has committed; refuses the rest if it will commit nothing more.
    pub(crate) fn release_acks(&mut self, shard: ShardId) {
        let (committed, failure) =
            self.storage.with(shard, |shard| (shard.committed(), shard.failure()));
        let slot = usize::from(shard.0);
        while let Some(waiter) = self.stan.waiters[slot].pop_committed(committed) {
            self.release(waiter);
        }
        let Some(failure) = failure else { return };
        if !self.stan.finished.contains(&shard) {
            self.stan.finished.push(shard);
            self.hub.notices.push(Notice::LogFinished { shard, reason: failure.to_string() });
        }
        let text = errors::text_of(&failure, "");
        while let Some(mut waiter) = self.stan.waiters[slot].pop_failed() {
            waiter.acks.refuse(&text);
            self.release(waiter);
        }
    }

    fn release(&mut self, waiter: Waiter) {
        let Waiter { origin, acks, published_bytes, .. } = waiter;
        let Origin { core, connection, is_direct } = origin;
        if core != self.hub.own() {
            self.hub
                .links
                .push(core, LinkMessage::PubAcks { connection, is_direct, acks, published_bytes });
            return;
        }
        self.acked(connection, is_direct, acks, published_bytes);
    }

    /// Acks for a connection of this core, or for whoever has their subjects.
    pub(crate) fn acked(
        &mut self,
        id: ConnectionId,
        is_direct: bool,
        acks: PubAcks,
        published_bytes: usize,
    ) {
        if is_direct {
            let mut flow = Flow::default();
            self.hub.write(id, acks.lines_size_hint(), |out| flow = acks.append_lines(out));
            self.hub.count_sent(id, flow);
        } else {
            let (reply, each) = acks.each();
            each.for_each(|ack| self.respond(reply, |out| ack.encode(out)));
        }
        self.stan.spares.give_back(acks.into_memory());
        self.give_credit(id, published_bytes);
    }

    /// Gives credit back; the connection is read on when half of its bound is free.
    fn give_credit(&mut self, id: ConnectionId, published_bytes: usize) {
        let hub = &mut self.hub;
        if let Some(session) = hub.sessions.get_mut(id) {
            assert!(
                session.unacked_bytes >= published_bytes,
                "no more is acked than was published"
            );
            session.unacked_bytes -= published_bytes;
            hub.unacked_bytes -= published_bytes;
            let has_credit = session.unacked_bytes < CONNECTION_UNACKED_BYTES_MAX / 2;
            if has_credit && session.stop == Some(Stop::Credit) {
                if hub.unacked_bytes < CORE_UNACKED_BYTES_MAX {
                    session.stop = None;
                    hub.wakes.push(id);
                } else if !hub.starved.contains(&id) {
                    hub.starved.push(id);
                }
            }
        }
        self.feed_starved();
    }

    /// Lets connections go on that waited because all together had published too much.
    pub(crate) fn feed_starved(&mut self) {
        let hub = &mut self.hub;
        if hub.starved.is_empty() || hub.unacked_bytes >= CORE_UNACKED_BYTES_MAX / 2 {
            return;
        }
        for id in std::mem::take(&mut hub.starved) {
            if let Some(session) = hub.sessions.get_mut(id)
                && session.stop == Some(Stop::Credit)
                && session.unacked_bytes < CONNECTION_UNACKED_BYTES_MAX
            {
                session.stop = None;
                hub.wakes.push(id);
            }
        }
    }

    fn refuse_publish(&mut self, reply: &[u8], guid: &str) {
        self.respond(reply, |out| PubAck { guid, error: errors::INVALID_PUBLISH }.encode(out));
    }
}

/// The channels of the entries whose bytes these are.
fn channels_of<'a>(
    entries: &'a [PublishEntry],
    mut bytes: &'a [u8],
) -> impl Iterator<Item = (ShardId, &'a str)> {
    entries.iter().map_while(move |entry| {
        let channel = crate::core::take(&mut bytes, entry.channel_bytes);
        for others in [entry.payload_bytes, entry.reply_bytes, entry.guid_bytes] {
            crate::core::take(&mut bytes, others);
        }
        Some((entry.shard, std::str::from_utf8(channel).ok()?))
    })
}

/// The text for a message that the engine refuses.
fn refusal_of(error: &RequestError, channel: &str) -> String {
    match error {
        // The name is none for a channel.
        RequestError::UnknownChannel => errors::INVALID_PUBLISH.to_owned(),
        other => errors::text_of(other, channel),
    }
}

impl Publisher {
    /// The registered client behind a message: by its connection id if it has one, else by its client id.
    #[inline]
    fn client_of(&mut self, message: &PubMsg<'_>, registry: &Registry) -> Option<ClientKey> {
        let is_connection_id = !message.conn_id.is_empty();
        let wanted = if is_connection_id { message.conn_id } else { message.client_id.as_bytes() };
        let is_known = self.registry_version == registry.version()
            && self.is_connection_id == is_connection_id
            && self.client == wanted;
        if !is_known {
            let found = if is_connection_id {
                registry.by_connection(wanted)
            } else {
                registry.by_id(message.client_id)
            };
            self.key = found.map(|client| client.key);
            self.client.clear();
            self.client.extend_from_slice(wanted);
            self.is_connection_id = is_connection_id;
            self.registry_version = registry.version();
        }
        self.key
    }
}

impl Hub {
    /// Finds out how acks get to `reply` and remembers it in the session: straight into the connection if its only
    /// subscriber is a plain subscription of the connection itself, which never ends by a count.
    fn find_ack_way(&mut self, id: ConnectionId, reply: &[u8]) {
        let subscriber = self.sole_subscriber(reply);
        let version = self.interest_version;
        let Some(session) = self.sessions.get_mut(id) else { return };
        let own = subscriber.filter(|subscriber| subscriber.connection == id);
        let subscription = own.and_then(|subscriber| session.subscriptions.get(subscriber.index));
        let sid = subscription
            .filter(|subscription| subscription.max == 0 && !subscription.is_filtered)
            .map(|subscription| &subscription.sid);
        let publisher = &mut session.publisher;
        publisher.is_direct = sid.is_some();
        let mut head = Vec::new();
        if !reply.is_empty() {
            emit::msg_name(&mut head, reply, sid.map_or(NO_SID, |sid| sid));
        }
        publisher.ack_head = head.into();
        publisher.reply.clear();
        publisher.reply.extend_from_slice(reply);
        publisher.interest_version = version;
    }
}
