//! What a client's operations do: core NATS here, channels in `stan`.

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::access::AUTHORIZATION_VIOLATION;
use super::barrier::Then;
use super::{Core, Message};
use crate::ids::{ConnectionId, Subscriber};
use crate::info::{Connect, InfoKind, info_json};
use crate::nats::emit;
use crate::nats::op::Op;
use crate::session::{Greeting, Stop, Subscription};
use crate::stan::subjects::{INBOX_PREFIX, ServerInbox};
use crate::subject::{is_valid_pattern, is_valid_publish};

impl<D: Disk, R: Runtime> Core<D, R> {
    /// One operation of a connection that is open.
    #[inline]
    pub(crate) fn on_op(&mut self, id: ConnectionId, op: &Op<'_>, now: Now) {
        if self.hub.config.details.server_trace {
            self.hub.trace_said(id, op);
        }
        if self.is_premature(id, op) {
            self.hub.close(id, Some(AUTHORIZATION_VIOLATION));
            return;
        }
        match *op {
            Op::Pub { subject, reply, payload } => {
                self.on_publish(id, &Message { reply, ..Message::plain(subject, payload) }, now);
            }
            Op::HPub { subject, reply, headers, block, .. } => {
                let header_bytes = Some(headers.len());
                let message = Message { header_bytes, reply, ..Message::plain(subject, block) };
                self.on_publish(id, &message, now);
            }
            Op::Sub { subject, queue, sid } => self.on_sub(id, subject, queue, sid),
            Op::Unsub { sid, max } => self.on_unsub(id, sid, max),
            Op::Ping => self.on_ping(id, now),
            Op::Connect(json) => self.on_connect(id, json, now),
            Op::Pong => self.hub.on_pong(id, now),
            Op::Info | Op::Ok => {}
            Op::Err(_) => self.hub.close(id, None),
        }
    }

    /// A message, for a channel, for the server or for subscribers.
    #[inline]
    fn on_publish(&mut self, id: ConnectionId, message: &Message<'_>, now: Now) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        session.traffic.received.add(message.block.len());
        self.hub.tally.traffic.received.add(message.block.len());
        let is_verbose = session.options.verbose;
        let no_responders = session.options.no_responders;
        if session.options.pedantic && !is_valid_publish(message.subject) {
            self.hub.write(id, 40, |out| emit::err(out, "Invalid Publish Subject"));
        }
        if !self.may_publish(id, message) {
            return;
        }
        if is_verbose {
            self.hub.write(id, 8, emit::ok);
        }
        if self.serve(id, message, now) {
            if self.hub.eavesdroppers > 0 {
                self.hub.route(message, Some(id));
            }
            return;
        }
        let is_delivered = self.hub.route(message, Some(id));
        if let Some(reply) = message.reply
            && no_responders
            && !is_delivered
        {
            self.hub.answer_no_responders(id, message.subject, reply);
        }
    }

    /// Takes a message if its subject is one of the server's own.
    #[inline]
    pub(crate) fn serve(&mut self, id: ConnectionId, message: &Message<'_>, now: Now) -> bool {
        let payload = message.block.get(message.header_bytes.unwrap_or(0)..).unwrap_or_default();
        if self.stan.subjects.may_be_service(message.subject) {
            if self.stan.subjects.is_publish(message.subject) {
                self.on_channel_message(id, payload, message.reply, now);
                return true;
            }
            let service = self.stan.subjects.service(message.subject);
            if let Some(service) = service {
                self.on_stan_request(id, service, payload, message.reply.unwrap_or_default(), now);
            }
            return service.is_some();
        }
        if message.subject.starts_with(INBOX_PREFIX)
            && let Some(inbox) = ServerInbox::parse(message.subject)
        {
            self.on_server_inbox(id, inbox, payload, now);
            return true;
        }
        false
    }

    fn on_sub(&mut self, id: ConnectionId, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let subscriptions_max = self.hub.config.subscriptions_max;
        let Some(session) = self.hub.sessions.get(id) else { return };
        let is_verbose = session.options.verbose;
        if session.permissions().is_some_and(|may| !may.may_subscribe(subject, queue)) {
            self.deny_subscription(id, subject, queue);
            return;
        }
        if subscriptions_max > 0 && session.subscriptions.len() >= subscriptions_max {
            self.hub.write(id, 48, |out| emit::err(out, "maximum subscriptions exceeded"));
            return;
        }
        // A sid in use: the first stays.
        if session.subscriptions.index_of(sid).is_none() {
            if !is_valid_pattern(subject) {
                self.hub.write(id, 32, |out| emit::err(out, "Invalid Subject"));
                return;
            }
            let subscription = Subscription {
                sid: sid.into(),
                subject: subject.into(),
                queue: queue.map(Into::into),
                delivered: 0,
                max: 0,
                is_filtered: session.permissions().is_some_and(|may| may.filters(subject)),
            };
            self.hub.add_subscription(id, subscription);
        }
        if is_verbose {
            self.hub.write(id, 8, emit::ok);
        }
    }

    fn on_unsub(&mut self, id: ConnectionId, sid: &[u8], max: Option<u64>) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        let is_verbose = session.options.verbose;
        if let Some(index) = session.subscriptions.index_of(sid) {
            let is_over = session.subscriptions.set_max(index, max.unwrap_or(0));
            // What is known about this connection's ack subject may not hold any more.
            self.hub.interest_version += 1;
            if is_over {
                self.hub.drop_subscription(Subscriber { connection: id, index });
            }
        }
        if is_verbose {
            self.hub.write(id, 8, emit::ok);
        }
    }

    fn on_ping(&mut self, id: ConnectionId, now: Now) {
        let Self { hub, .. } = self;
        let Some(session) = hub.sessions.get_mut(id) else { return };
        if hub.links.is_applied(&session.marks) {
            self.pong(id);
            return;
        }
        session.stop = Some(Stop::Barrier);
        let marks = session.marks.clone();
        self.after_applied(marks, Then::Pong(id), now);
    }

    /// All that a connection did before its PING has happened everywhere: it is answered and read on.
    pub(crate) fn late_pong(&mut self, id: ConnectionId) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        assert!(session.stop == Some(Stop::Barrier), "a PING stops its connection until the PONG");
        session.stop = None;
        self.hub.wakes.push(id);
        self.pong(id);
    }

    fn pong(&mut self, id: ConnectionId) {
        let Self { hub, .. } = self;
        hub.write(id, 8, emit::pong);
        let Some(session) = hub.sessions.get_mut(id) else { return };
        // Only after its CONNECT is it known whether a client understands another INFO.
        if session.greeting != Greeting::Introduced {
            return;
        }
        session.greeting = Greeting::Done;
        if session.options.protocol >= 1 {
            let kind =
                if hub.lame_duck.is_some() { InfoKind::LameDuck } else { InfoKind::Connected };
            let json = info_json(&hub.config, session, kind);
            hub.write(id, json.len() + 16, |out| emit::info(out, &json));
        }
    }

    fn on_connect(&mut self, id: ConnectionId, json: &[u8], now: Now) {
        let Some(session) = self.hub.sessions.get(id) else { return };
        let options = match session.options.updated_by(json, self.hub.config.has_headers) {
            Ok(options) => options,
            Err(error) => {
                self.hub.close(id, error.error_text());
                return;
            }
        };
        if self.identify(id, json, &options) {
            self.connect(id, options, now);
        }
    }

    /// A client that may come in has connected.
    pub(crate) fn connect(&mut self, id: ConnectionId, options: Connect, now: Now) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        let is_verbose = options.verbose;
        session.options = options;
        if session.greeting == Greeting::First {
            session.greeting = Greeting::Introduced;
        }
        // A second CONNECT begins anew.
        let subscriptions = session.subscriptions.take_all();
        self.hub.depart(id, subscriptions, now);
        if is_verbose {
            self.hub.write(id, 8, emit::ok);
        }
    }
}
