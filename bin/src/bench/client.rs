//! A STAN client of the load, without its socket: bytes go in with the time, bytes to send come out.
//!
//! ```text
//! INFO -> CONNECT, SUB, connect request -> registered -> subscribes, publishes
//! ```
//! It takes the way of the official clients: an inbox a subscription, an ack a message, a guid of 22 letters.

use std::rc::Rc;

use weirlog_net::nats::emit;
use weirlog_net::nats::parse::{ParseLimits, Parsed};
use weirlog_net::nats::server_op::{ServerOp, parse_server};
use weirlog_net::stan::wire::{
    Ack, CloseRequest, ConnectRequest, ConnectResponse, MsgProto, PubAck, PubMsg, StartPosition,
    SubscriptionRequest, SubscriptionResponse,
};

use super::BenchError;
use super::plan::{Plan, Wanted};
use super::results::Results;

/// Letters of a time in a guid or a payload.
const TIME_LETTERS: usize = 16;
/// A publisher writes no more before the socket has taken this much.
const UNSENT_BYTES_MAX: usize = 256 * 1024;
const ACK_WAIT_SECONDS: i32 = 30;

/// See the module's head.
pub(super) struct Client {
    plan: Rc<Plan>,
    id: String,
    inbox: String,
    ack_subject: String,
    subjects: Subjects,
    is_registered: bool,
    is_closed: bool,
    publisher: Option<Publisher>,
    subscriptions: Vec<Subscription>,
    /// Subscriptions that are not answered yet.
    unanswered: usize,
    out: Vec<u8>,
    scratch: Vec<u8>,
}

/// Where the server takes requests.
#[derive(Default)]
struct Subjects {
    publish: String,
    subscribe: String,
    close: String,
}

struct Publisher {
    /// The next message's number among all.
    next: u64,
    unacked: u64,
    /// When publishing began.
    start_ns: u64,
    payload: Vec<u8>,
    /// Memory for the subject of a message.
    subject: String,
}

struct Subscription {
    wanted: Wanted,
    ack_inbox: String,
    /// The last sequence that came.
    last: u64,
}

impl Client {
    /// `publisher` is its number among those that publish.
    pub(super) fn new(
        plan: Rc<Plan>,
        id: String,
        publisher: Option<u64>,
        wanted: Vec<Wanted>,
    ) -> Self {
        let payload = vec![b'x'; plan.options.size_bytes];
        let publisher = publisher.map(|next| Publisher {
            next,
            unacked: 0,
            start_ns: 0,
            payload,
            subject: String::new(),
        });
        let subscription = |wanted| Subscription { wanted, ack_inbox: String::new(), last: 0 };
        Self {
            plan,
            inbox: format!("_INBOX.{id}"),
            ack_subject: format!("_STAN.acks.{id}"),
            id,
            subjects: Subjects::default(),
            is_registered: false,
            is_closed: false,
            publisher,
            subscriptions: wanted.into_iter().map(subscription).collect(),
            unanswered: 0,
            out: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.is_registered
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.unanswered == 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Bytes for the socket.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.out
    }

    /// The socket has taken `count` of them.
    pub(super) fn sent(&mut self, count: usize) {
        self.out.drain(..count);
    }

    /// Takes whole operations; tells how many bytes that were.
    ///
    /// # Errors
    /// The server refuses what a load needs.
    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        results: &mut Results,
    ) -> Result<usize, BenchError> {
        let limits = ParseLimits { payload_bytes_max: usize::MAX, ..ParseLimits::default() };
        let mut taken = 0;
        loop {
            match parse_server(&bytes[taken..], &limits).map_err(|_| BenchError::NotNats)? {
                Parsed::Incomplete { .. } => return Ok(taken),
                Parsed::Op { op, consumed } => {
                    taken += consumed;
                    self.on_op(&op, now_ns, results)?;
                }
            }
        }
    }

    fn on_op(
        &mut self,
        op: &ServerOp<'_>,
        now_ns: u64,
        results: &mut Results,
    ) -> Result<(), BenchError> {
        match op {
            ServerOp::Info(_) if self.subjects.close.is_empty() => self.register(),
            ServerOp::Ping => emit::pong(&mut self.out),
            ServerOp::Err(text) => return Err(BenchError::refused("the connection", text)),
            ServerOp::Msg { subject, reply, block, .. } => {
                return self.on_message(subject, *reply, block, now_ns, results);
            }
            ServerOp::Info(_) | ServerOp::Pong | ServerOp::Ok => {}
        }
        Ok(())
    }

    fn register(&mut self) {
        // Until the answer tells more.
        self.subjects.close = "-".to_owned();
        emit::connect(
            &mut self.out,
            b"{\"verbose\":false,\"pedantic\":false,\"name\":\"weirlog bench\"}",
        );
        let heartbeat_inbox = format!("{}.heartbeat", self.inbox);
        let names =
            [self.ack_subject.clone(), heartbeat_inbox.clone(), format!("{}.answer.*", self.inbox)];
        for (sid, subject) in names.iter().enumerate() {
            emit::sub(&mut self.out, subject.as_bytes(), sid + 1);
        }
        for number in 0..self.subscriptions.len() {
            let subject = format!("{}.{number}", self.inbox);
            emit::sub(&mut self.out, subject.as_bytes(), number + 10);
        }
        self.scratch.clear();
        let request = ConnectRequest {
            client_id: &self.id,
            heartbeat_inbox: &heartbeat_inbox,
            protocol: 1,
            conn_id: self.id.as_bytes(),
            ..ConnectRequest::default()
        };
        request.encode(&mut self.scratch);
        let subject = format!("_STAN.discover.{}", self.plan.options.cluster_id);
        let reply = format!("{}.answer.connect", self.inbox);
        put_pub(&mut self.out, subject.as_bytes(), Some(reply.as_bytes()), &self.scratch);
    }

    fn on_message(
        &mut self,
        subject: &[u8],
        reply: Option<&[u8]>,
        block: &[u8],
        now_ns: u64,
        results: &mut Results,
    ) -> Result<(), BenchError> {
        if subject == self.ack_subject.as_bytes() {
            return self.on_ack(block, now_ns, results);
        }
        let name =
            subject.strip_prefix(self.inbox.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        match name {
            Some(b"heartbeat") => {
                if let Some(reply) = reply {
                    put_pub(&mut self.out, reply, None, b"");
                }
                Ok(())
            }
            Some(b"answer.connect") => self.on_registered(block),
            Some(b"answer.close") => {
                self.is_closed = true;
                Ok(())
            }
            Some(name) => match name.strip_prefix(b"answer.") {
                Some(number) => self.on_subscribed(number, block),
                None => self.on_delivery(name, block, now_ns, results),
            },
            None => Ok(()),
        }
    }

    fn on_registered(&mut self, block: &[u8]) -> Result<(), BenchError> {
        let answer = ConnectResponse::decode(block).map_err(|_| BenchError::NotStan)?;
        if !answer.error.is_empty() {
            return Err(BenchError::refused("a client", answer.error.as_bytes()));
        }
        self.subjects = Subjects {
            publish: answer.pub_prefix.to_owned(),
            subscribe: answer.sub_requests.to_owned(),
            close: answer.close_requests.to_owned(),
        };
        self.is_registered = true;
        Ok(())
    }

    /// Asks for all its subscriptions.
    pub(super) fn subscribe(&mut self) {
        for number in 0..self.subscriptions.len() {
            let wanted = self.subscriptions[number].wanted;
            let inbox = format!("{}.{number}", self.inbox);
            let position = if wanted.first.is_some() {
                StartPosition::SequenceStart
            } else {
                StartPosition::NewOnly
            };
            let request = SubscriptionRequest {
                client_id: &self.id,
                subject: &self.plan.channels[wanted.channel],
                inbox: &inbox,
                max_in_flight: self.plan.options.in_flight_max,
                ack_wait_seconds: ACK_WAIT_SECONDS,
                durable_name: if self.plan.options.is_durable { "bench" } else { "" },
                start_position: position as i32,
                start_sequence: wanted.first.unwrap_or(0),
                ..SubscriptionRequest::default()
            };
            self.scratch.clear();
            request.encode(&mut self.scratch);
            let reply = format!("{}.answer.{number}", self.inbox);
            let subject = self.subjects.subscribe.as_bytes();
            put_pub(&mut self.out, subject, Some(reply.as_bytes()), &self.scratch);
            self.unanswered += 1;
        }
    }

    fn on_subscribed(&mut self, number: &[u8], block: &[u8]) -> Result<(), BenchError> {
        let answer = SubscriptionResponse::decode(block).map_err(|_| BenchError::NotStan)?;
        if !answer.error.is_empty() {
            return Err(BenchError::refused("a subscription", answer.error.as_bytes()));
        }
        if let Some(subscription) = self.subscription(number) {
            subscription.ack_inbox = answer.ack_inbox.to_owned();
            self.unanswered -= 1;
        }
        Ok(())
    }

    fn subscription(&mut self, number: &[u8]) -> Option<&mut Subscription> {
        let number: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
        self.subscriptions.get_mut(number)
    }

    /// Publishing begins.
    pub(super) fn begin(&mut self, now_ns: u64) {
        if let Some(publisher) = &mut self.publisher {
            publisher.start_ns = now_ns;
        }
    }

    /// Publishes what is due and fits.
    pub(super) fn publish(&mut self, now_ns: u64) {
        let Self { plan, publisher: Some(publisher), out, scratch, .. } = self else { return };
        let options = &plan.options;
        while publisher.next < options.messages
            && publisher.unacked < options.window
            && out.len() < UNSENT_BYTES_MAX
        {
            let due_ns = plan.due_ns(publisher.next).map(|due_ns| publisher.start_ns + due_ns);
            if due_ns.is_some_and(|due_ns| due_ns > now_ns) {
                return;
            }
            let time = format_time(due_ns.unwrap_or(now_ns));
            if let Some(place) = publisher.payload.get_mut(..TIME_LETTERS) {
                place.copy_from_slice(&time);
            }
            let channel =
                &plan.channels[usize::try_from(publisher.next % options.channels).unwrap_or(0)];
            let mut guid = *b"xxxxxxxxxxxxxxxxxxxxxx";
            guid[..TIME_LETTERS].copy_from_slice(&time);
            scratch.clear();
            let message = PubMsg {
                client_id: &self.id,
                guid: std::str::from_utf8(&guid).unwrap_or_default(),
                subject: channel,
                data: &publisher.payload,
                conn_id: self.id.as_bytes(),
                ..PubMsg::default()
            };
            message.encode(scratch);
            publisher.subject.clear();
            for part in [self.subjects.publish.as_str(), ".", channel] {
                publisher.subject.push_str(part);
            }
            let reply = self.ack_subject.as_bytes();
            put_pub(out, publisher.subject.as_bytes(), Some(reply), scratch);
            publisher.next += options.publishers;
            publisher.unacked += 1;
        }
    }

    fn on_ack(
        &mut self,
        block: &[u8],
        now_ns: u64,
        results: &mut Results,
    ) -> Result<(), BenchError> {
        let ack = PubAck::decode(block).map_err(|_| BenchError::NotStan)?;
        if !ack.error.is_empty() {
            return Err(BenchError::refused("a message", ack.error.as_bytes()));
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.unacked = publisher.unacked.saturating_sub(1);
        }
        results.acks.add(time_in(ack.guid.as_bytes()), now_ns);
        Ok(())
    }

    fn on_delivery(
        &mut self,
        number: &[u8],
        block: &[u8],
        now_ns: u64,
        results: &mut Results,
    ) -> Result<(), BenchError> {
        let message = MsgProto::decode(block).map_err(|_| BenchError::NotStan)?;
        let is_live = self.plan.options.publishers > 0;
        let Some(subscription) = self.subscription(number) else { return Ok(()) };
        if message.sequence > subscription.last {
            subscription.last = message.sequence;
            let sent_ns = time_in(message.data).filter(|_| is_live);
            results.deliveries.add(sent_ns, now_ns);
        } else {
            results.redelivered += 1;
        }
        let ack_inbox = std::mem::take(&mut subscription.ack_inbox);
        self.scratch.clear();
        Ack { subject: message.subject, sequence: message.sequence }.encode(&mut self.scratch);
        put_pub(&mut self.out, ack_inbox.as_bytes(), None, &self.scratch);
        if let Some(subscription) = self.subscription(number) {
            subscription.ack_inbox = ack_inbox;
        }
        Ok(())
    }

    /// Asks to be forgotten.
    pub(super) fn close(&mut self) {
        self.scratch.clear();
        CloseRequest { client_id: &self.id }.encode(&mut self.scratch);
        let reply = format!("{}.answer.close", self.inbox);
        let subject = self.subjects.close.as_bytes();
        put_pub(&mut self.out, subject, Some(reply.as_bytes()), &self.scratch);
    }
}

/// What a client publishes: an MSG without sid.
fn put_pub(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
    emit::msg(out, subject, b"", reply, payload);
}

fn format_time(time_ns: u64) -> [u8; TIME_LETTERS] {
    std::array::from_fn(|at| {
        let digit = time_ns >> (4 * (TIME_LETTERS - 1 - at)) & 0xf;
        b"0123456789abcdef"[usize::try_from(digit).unwrap_or(0)]
    })
}

fn time_in(text: &[u8]) -> Option<u64> {
    let letters = std::str::from_utf8(text.get(..TIME_LETTERS)?).ok()?;
    u64::from_str_radix(letters, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written() {
        for time in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(time_in(&format_time(time)), Some(time));
        }
        assert_eq!(time_in(b"short"), None);
        assert_eq!(time_in(b"no time at all in here"), None);
    }
}
