//! Core NATS: who gets a message. Plain subscribers all, of each queue group one member in the whole server, chosen
//! at random among those of all cores.

use bytes::Bytes;

use super::hub::Hub;
use crate::auth::Permissions;
use crate::buffered::Buffered;
use crate::config::{CROWDED_QUARTERS, PUBLISH_OVERHEAD_BYTES};
use crate::ids::{ConnectionId, CoreId, Subscriber};
use crate::interest::{InterestChange, Matches, RemoteMatches, RemoteMembers};
use crate::link::{LinkMessage, RouteBatch, RouteEntry};
use crate::nats::emit::{self, HeaderSizes};
use crate::outbox::{Outbox, SHARED_SIZE_BYTES_MIN};
use crate::session::{Counted, Subscription};
use crate::subject;

/// A message on its way to subscribers.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Where to, taken literally.
    pub subject: &'a [u8],
    /// Where an answer is awaited.
    pub reply: Option<&'a [u8]>,
    /// Length of the headers at the start of the block.
    pub header_bytes: Option<usize>,
    /// Headers and payload.
    pub block: &'a [u8],
    /// The block once more, as a copy which several connections can share; made by `share`.
    pub shared: Option<&'a Bytes>,
}

/// Who gets a message; kept between messages for its memory.
#[derive(Debug, Default)]
pub struct Found {
    /// Subscribers of this core.
    pub here: Matches<Subscriber>,
    /// Other cores with subscribers.
    pub there: RemoteMatches,
}

impl<'a> Message<'a> {
    /// A message without headers and reply.
    #[must_use]
    pub fn plain(subject: &'a [u8], payload: &'a [u8]) -> Self {
        Self { subject, reply: None, header_bytes: None, block: payload, shared: None }
    }
}

impl Hub {
    /// Sends a message to all who shall get it. `from`: the connection that published it, none for the server.
    /// Tells whether anybody got it.
    pub(crate) fn route(&mut self, message: &Message<'_>, from: Option<ConnectionId>) -> bool {
        let mut found = std::mem::take(&mut self.found);
        self.lookup(message.subject, &mut found);
        let excluded =
            from.filter(|id| self.sessions.get(*id).is_some_and(|session| !session.options.echo));
        let mut is_delivered = false;
        let shared = share(&self.buffered, message, &found.here);
        let message = &Message { shared: shared.as_ref(), ..*message };
        for subscriber in found.here.plain() {
            if Some(subscriber.connection) != excluded {
                is_delivered |= self.deliver(*subscriber, message);
            }
        }
        for core in found.there.cores().iter() {
            self.push_route(core, message, None, from);
            is_delivered = true;
        }
        for group in found.here.groups() {
            let members =
                Members { here: group.members(), there: found.there.members(group.name()) };
            is_delivered |= self.route_to_group(group.name(), members, message, (from, excluded));
        }
        for group in found.there.groups() {
            if found.here.members(group.name()).is_empty() {
                let members = Members { here: &[], there: group.members() };
                is_delivered |=
                    self.route_to_group(group.name(), members, message, (from, excluded));
            }
        }
        self.found = found;
        is_delivered
    }

    /// Finds all who get a message to `subject`.
    #[inline]
    pub(crate) fn lookup(&mut self, subject: &[u8], found: &mut Found) {
        self.interest.matches(subject, &mut found.here);
        self.remote.matches(subject, &mut found.there);
        let count = (found.here.plain().len() + found.here.groups().len()) as u64;
        self.tally.lookups += 1;
        self.tally.found += count;
        self.tally.found_max = self.tally.found_max.max(count);
    }

    /// The plain subscriber of this core that alone gets messages to `subject`.
    pub(crate) fn sole_subscriber(&mut self, subject: &[u8]) -> Option<Subscriber> {
        let mut found = std::mem::take(&mut self.found);
        self.lookup(subject, &mut found);
        let is_sole = found.here.groups().is_empty() && found.there.is_empty();
        let subscriber = match found.here.plain() {
            [subscriber] if is_sole => Some(*subscriber),
            _ => None,
        };
        self.found = found;
        subscriber
    }

    /// Sends a message to one member of a queue group. `by`: who published, and the connection that may not get it.
    fn route_to_group(
        &mut self,
        queue: &[u8],
        members: Members<'_>,
        message: &Message<'_>,
        by: (Option<ConnectionId>, Option<ConnectionId>),
    ) -> bool {
        let (from, excluded) = by;
        let remote_count: usize = members.there.iter().map(|remote| remote.count).sum();
        let count = members.here.len() + remote_count;
        assert!(count > 0, "a group has members");
        let chosen = self.rng.usize(..count);
        // A member that cannot take it leaves it to the next one.
        for offset in 0..count {
            let mut index = (chosen + offset) % count;
            if let Some(member) = members.here.get(index) {
                if Some(member.connection) != excluded && self.deliver(*member, message) {
                    return true;
                }
                continue;
            }
            index -= members.here.len();
            for remote in members.there {
                if index < remote.count {
                    self.push_route(remote.core, message, Some(queue), from);
                    return true;
                }
                index -= remote.count;
            }
        }
        false
    }

    /// Writes a message to one subscriber of this core. Tells whether it took it.
    pub(crate) fn deliver(&mut self, to: Subscriber, message: &Message<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(to.connection) else { return false };
        let Some(subscription) = session.subscriptions.get(to.index) else { return false };
        if session.is_closing {
            return false;
        }
        if subscription.is_denied(session.permissions(), message.subject) {
            return false;
        }
        let has_headers = session.options.headers;
        let bytes = write_message(&mut session.outbox, subscription, message, has_headers);
        session.traffic.sent.add(bytes);
        self.tally.traffic.sent.add(bytes);
        if let Some(reply) = message.reply
            && let Some(limits) = session.permissions().and_then(Permissions::responses)
        {
            session.responses.expect(reply, limits, self.now);
        }
        let counted = session.subscriptions.count_delivery(to.index);
        self.after_write(to.connection);
        if counted == Counted::Last {
            self.drop_subscription(to);
        }
        true
    }

    /// Appends a message to what goes to `core`: for its plain subscribers, or for one member of a queue group.
    fn push_route(
        &mut self,
        core: CoreId,
        message: &Message<'_>,
        queue: Option<&[u8]>,
        from: Option<ConnectionId>,
    ) {
        let reply = message.reply.unwrap_or_default();
        let entry = RouteEntry {
            subject_bytes: length(message.subject),
            reply_bytes: length(reply),
            queue_bytes: queue.map(length),
            header_bytes: message
                .header_bytes
                .map(|count| u32::try_from(count).expect("below max_payload")),
            block_bytes: length(message.block),
        };
        let append = |batch: &mut RouteBatch| {
            for part in [message.subject, reply, queue.unwrap_or_default(), message.block] {
                batch.bytes.extend_from_slice(part);
            }
            batch.entries.push(entry);
        };
        if let Some(LinkMessage::Routes(batch)) = self.links.last_mut(core) {
            append(batch);
        } else {
            let mut batch = RouteBatch::default();
            append(&mut batch);
            self.links.push(core, LinkMessage::Routes(batch));
        }
        if let Some(session) = from.and_then(|id| self.sessions.get_mut(id)) {
            session.routed_bytes += message.block.len() + PUBLISH_OVERHEAD_BYTES;
            self.links.mark(core, &mut session.marks);
        }
    }

    /// Messages of another core for subscribers of this one.
    pub(crate) fn on_routes(&mut self, batch: &RouteBatch) {
        let mut rest = batch.bytes.as_slice();
        for entry in &batch.entries {
            let subject = take(&mut rest, entry.subject_bytes);
            let reply = take(&mut rest, entry.reply_bytes);
            let queue = entry.queue_bytes.map(|count| take(&mut rest, count));
            let block = take(&mut rest, entry.block_bytes);
            let reply = (!reply.is_empty()).then_some(reply);
            let header_bytes = entry.header_bytes.map(|count| count as usize);
            let message = Message { subject, reply, header_bytes, block, shared: None };
            self.route_here(&message, queue);
        }
        assert!(rest.is_empty(), "entries cover the bytes");
    }

    /// Delivers to plain subscribers of this core, or to one of its members of `queue`.
    fn route_here(&mut self, message: &Message<'_>, queue: Option<&[u8]>) {
        let mut found = std::mem::take(&mut self.found);
        self.lookup(message.subject, &mut found);
        if let Some(queue) = queue {
            // The other core chose this one. If the last member has gone in between, as one that drains does, another
            // core's gets it. It cannot come back: that core has heard of the going before.
            let here = found.here.members(queue);
            let there = if here.is_empty() { found.there.members(queue) } else { &[] };
            if !here.is_empty() || !there.is_empty() {
                self.route_to_group(queue, Members { here, there }, message, (None, None));
            }
        } else {
            let shared = share(&self.buffered, message, &found.here);
            let message = &Message { shared: shared.as_ref(), ..*message };
            for subscriber in found.here.plain() {
                self.deliver(*subscriber, message);
            }
        }
        self.found = found;
    }

    /// Tells a requester that nobody listens, on a plain subscription of its own for the reply.
    pub(crate) fn answer_no_responders(&mut self, id: ConnectionId, subject: &[u8], reply: &[u8]) {
        let mut found = std::mem::take(&mut self.found);
        self.lookup(reply, &mut found);
        let own = found.here.plain().iter().find(|subscriber| subscriber.connection == id).copied();
        self.found = found;
        let Some(to) = own else { return };
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(subscription) = session.subscriptions.get(to.index) else { return };
        let hint = 2 * subject.len() + reply.len() + 64;
        session
            .outbox
            .write_with(hint, |out| emit::no_responders(out, reply, &subscription.sid, subject));
        // It does not count for the maximum of an UNSUB: the answer awaited may still come.
        self.after_write(id);
    }

    /// Adds a subscription of a connection and tells the other cores.
    pub(crate) fn add_subscription(&mut self, id: ConnectionId, subscription: Subscription) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let subject = subscription.subject.clone();
        let queue = subscription.queue.clone();
        let index = session.subscriptions.insert(subscription);
        self.tally.inserted += 1;
        let subscriber = Subscriber { connection: id, index };
        let change = self.interest.insert(&subject, queue.as_deref(), subscriber);
        self.announce(id, change);
    }

    /// Removes a subscription and tells the other cores.
    pub(crate) fn drop_subscription(&mut self, subscriber: Subscriber) {
        let Some(session) = self.sessions.get_mut(subscriber.connection) else { return };
        let Some(subscription) = session.subscriptions.remove(subscriber.index) else { return };
        self.forget_interest(subscriber, subscription);
    }

    /// Forgets a subscription that its connection no longer has, and tells the other cores.
    pub(crate) fn forget_interest(&mut self, subscriber: Subscriber, subscription: Subscription) {
        self.tally.removed += 1;
        let Subscription { subject, queue, .. } = subscription;
        let change = self.interest.remove(&subject, queue.as_deref(), subscriber);
        self.announce(subscriber.connection, change);
    }

    /// Tells the other cores what a connection has changed, if they need to know it.
    fn announce(&mut self, id: ConnectionId, change: Option<InterestChange>) {
        self.interest_version += 1;
        let Some(change) = change else { return };
        self.count_eavesdroppers(&change);
        for core in self.links.others() {
            self.links.push(core, LinkMessage::Interest(change.clone()));
            if let Some(session) = self.sessions.get_mut(id) {
                self.links.mark(core, &mut session.marks);
            }
        }
    }

    /// Another core tells of its subscribers.
    pub(crate) fn on_remote_interest(&mut self, from: CoreId, change: &InterestChange) {
        self.interest_version += 1;
        self.count_eavesdroppers(change);
        self.remote.apply(from, change);
    }

    /// Messages for the server itself have no subscribers, as a rule: so that they need no lookup, those patterns are
    /// counted that could match one.
    fn count_eavesdroppers(&mut self, change: &InterestChange) {
        // The one subscription to everything is another server's, where eavesdroppers are served.
        if self.config.has_upstream {
            return;
        }
        match change {
            InterestChange::Added { pattern, .. } if self.hears_server(pattern) => {
                self.eavesdroppers += 1
            }
            InterestChange::Removed { pattern, .. } if self.hears_server(pattern) => {
                assert!(self.eavesdroppers > 0, "who goes has come");
                self.eavesdroppers -= 1;
            }
            InterestChange::Added { .. } | InterestChange::Removed { .. } => {}
        }
    }

    /// Whether a pattern could match a subject that the server itself takes messages on.
    fn hears_server(&self, pattern: &[u8]) -> bool {
        self.own_patterns.iter().any(|own| subject::overlap(pattern, own))
    }

    fn after_write(&mut self, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let pending_bytes_max = self.config.pending_bytes_max;
        self.is_crowded |= session.outbox.len() > pending_bytes_max / 4 * CROWDED_QUARTERS;
        if session.outbox.len() > pending_bytes_max {
            self.cut_slow_consumer(id);
        } else if !session.is_flush_due {
            session.is_flush_due = true;
            self.flushes.push(id);
        }
    }
}

/// The members of a queue group: never none.
#[derive(Debug, Clone, Copy)]
struct Members<'a> {
    here: &'a [Subscriber],
    there: &'a [RemoteMembers],
}

/// A copy of a message's block for all who get it here to share, if it is large and they are several.
fn share(buffered: &Buffered, message: &Message<'_>, here: &Matches<Subscriber>) -> Option<Bytes> {
    let is_worth_it = message.block.len() >= SHARED_SIZE_BYTES_MIN
        && here.plain().len() + here.groups().len() > 1;
    is_worth_it.then(|| buffered.shared_copy(message.block))
}

/// Returns the length of what was sent behind the head.
fn write_message(
    outbox: &mut Outbox,
    subscription: &Subscription,
    message: &Message<'_>,
    has_headers: bool,
) -> usize {
    let Message { subject, reply, block, .. } = *message;
    let sid = &subscription.sid;
    // Who does not understand headers gets what is behind them.
    let headers_bytes = message.header_bytes.unwrap_or(0);
    let skipped_bytes = if has_headers { 0 } else { headers_bytes };
    let content = block.get(skipped_bytes..).unwrap_or_default();
    let head = |out: &mut Vec<u8>| {
        if has_headers && headers_bytes > 0 {
            let sizes = HeaderSizes { headers_bytes, total_bytes: content.len() };
            emit::hmsg_head(out, subject, sid, reply, sizes);
        } else {
            emit::msg_head(out, subject, sid, reply, content.len());
        }
    };
    let head_bytes = subject.len() + sid.len() + reply.map_or(0, <[u8]>::len) + 64;
    if let Some(shared) = message.shared {
        outbox.write_with(head_bytes, head);
        outbox.append_shared(shared.slice(skipped_bytes..));
        outbox.append(emit::LINE_END);
    } else {
        outbox.write_with(head_bytes + content.len(), |out| {
            head(out);
            out.extend_from_slice(content);
            out.extend_from_slice(emit::LINE_END);
        });
    }
    content.len()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("below max_payload and max_control_line")
}

/// The next `count` bytes of an arena.
pub(crate) fn take<'a>(rest: &mut &'a [u8], count: u32) -> &'a [u8] {
    let (part, behind) = rest.split_at(count as usize);
    *rest = behind;
    part
}
