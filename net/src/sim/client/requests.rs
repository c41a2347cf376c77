//! Requests of a client, their answers, and what is done when an answer never comes.

use weirlog_engine::types::{Monotonic, Now};

use super::subscriptions::Phase;
use super::{CLUSTER_ID, Client, Stage};
use crate::sim::model::{Left, SubscriptionKey};
use crate::stan::errors;
use crate::stan::wire::{
    CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, Ping, PingResponse,
    SubscriptionResponse,
};

/// The least time between two pings of a client.
const PING_MS_MIN: u64 = 400;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Connect,
    Close,
    Subscribe { slot: u64 },
    End { slot: u64 },
    Ping,
}

/// A request without answer so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) question: Question,
    pub(super) sent_at: Monotonic,
}

impl Request {
    /// Whether it leaves something behind at the server.
    pub(super) fn changes_something(&self) -> bool {
        self.question != Question::Ping
    }
}

impl Client {
    pub(super) fn ask(&mut self, subject: &str, question: Question, payload: &[u8]) {
        let number = self.number();
        let sent_at = self.now().mono;
        self.requests.insert(number, Request { question, sent_at });
        if question != Question::Ping {
            self.world.count_operation();
        }
        let reply = format!("_INBOX.r.{}.{number}", self.connection_id());
        self.send_pub(subject, &reply, payload);
    }

    pub(super) fn send_connect(&mut self) {
        self.registrations += 1;
        self.send_base_subscriptions();
        let id = self.connection_id();
        let inbox = format!("_INBOX.hb.{id}");
        let request = ConnectRequest {
            client_id: &self.name,
            heartbeat_inbox: &inbox,
            protocol: 1,
            conn_id: id.as_bytes(),
            ping_interval: 5,
            ping_max_out: 3,
        };
        let mut payload = Vec::new();
        request.encode(&mut payload);
        self.stage = Stage::Joining;
        self.log(|| format!("connects as {id}"));
        self.ask(&format!("_STAN.discover.{CLUSTER_ID}"), Question::Connect, &payload);
    }

    pub(super) fn send_close(&mut self) {
        let mut payload = Vec::new();
        CloseRequest { client_id: &self.name }.encode(&mut payload);
        self.stage = Stage::Leaving;
        self.leave_all();
        self.ask(&format!("_STAN.close.{CLUSTER_ID}"), Question::Close, &payload);
    }

    /// From now on nothing is expected of what dies with a registration.
    fn leave_all(&mut self) {
        let mut model = self.world.model.borrow_mut();
        for (slot, subscription) in &self.subscriptions {
            model.leaving(subscription.group, &(self.name.clone(), *slot), false);
        }
    }

    /// The client gives its registration up without a word.
    pub(super) fn forget_registration(&mut self) {
        self.leave_all();
        self.stage = Stage::Away;
    }

    /// The old registration is certainly gone, and its subscriptions with it.
    fn registration_gone(&mut self) {
        let now = self.now().mono;
        let mut model = self.world.model.borrow_mut();
        for (slot, subscription) in std::mem::take(&mut self.subscriptions) {
            let how = match subscription.phase {
                Phase::Ending { removes: true, .. } => Left::Doubted,
                _ => Left::Closed,
            };
            model.left(subscription.group, &(self.name.clone(), slot), how, now);
        }
    }

    pub(super) fn ping_if_due(&mut self, now: Now) {
        let is_due = now.mono > self.pinged_at.after_ms(PING_MS_MIN);
        let is_asked = self.requests.values().any(|request| request.question == Question::Ping);
        if is_due && !is_asked {
            self.send_ping();
        }
    }

    /// Asks whether it is still registered; the NATS ping before it is answered when all that was sent has happened.
    pub(super) fn send_ping(&mut self) {
        self.pinged_at = self.now().mono;
        let mut payload = Vec::new();
        Ping { conn_id: self.connection_id().as_bytes() }.encode(&mut payload);
        self.send(b"PING\r\n");
        self.ask(&format!("_STAN.discover.{CLUSTER_ID}.pings"), Question::Ping, &payload);
    }

    pub(super) fn on_answer(&mut self, request: Request, payload: &[u8]) {
        if self.world.may_refuse(self.life(), request.sent_at)
            && request.changes_something()
            && is_refusal(request, payload)
        {
            self.log(|| format!("is refused {request:?}"));
            self.request_lost(request);
            self.drop_line();
            return;
        }
        let is_read = match request.question {
            Question::Connect => {
                ConnectResponse::decode(payload).map(|answer| self.on_connected(answer.error))
            }
            Question::Close => {
                CloseResponse::decode(payload).map(|answer| self.on_closed(answer.error))
            }
            Question::Subscribe { slot } => SubscriptionResponse::decode(payload).map(|answer| {
                self.on_subscribed(slot, answer.ack_inbox, answer.error, request.sent_at)
            }),
            Question::End { slot } => SubscriptionResponse::decode(payload)
                .map(|answer| self.on_ended(slot, answer.error)),
            Question::Ping => PingResponse::decode(payload)
                .map(|answer| self.on_pinged(request.sent_at, answer.error)),
        };
        if is_read.is_err() {
            self.violated(&format!("an answer that is none to {request:?}"));
        }
    }

    fn on_connected(&mut self, error: &str) {
        self.log(|| format!("connected: {error:?}"));
        match error {
            "" => {
                self.registration_gone();
                self.stage = Stage::Joined;
                self.disturbed_at = self.now().mono;
            }
            // An earlier connect of its own, whose answer was lost, may just be under way.
            errors::CLIENT_EXISTS => {
                self.stage = Stage::Away;
                self.drop_line();
                self.wait_until = self.now().mono.after_ms(1_500);
            }
            other => self.violated(&format!("its connect was refused: {other}")),
        }
    }

    fn on_closed(&mut self, error: &str) {
        self.log(|| format!("closed: {error:?}"));
        if !error.is_empty() {
            self.violated(&format!("its close was refused: {error}"));
        }
        self.registration_gone();
        self.stage = Stage::Away;
        self.drop_line();
    }

    fn on_pinged(&mut self, sent_at: Monotonic, error: &str) {
        if self.stage != Stage::Joined {
            return;
        }
        if error.is_empty() {
            self.confirm_acks(sent_at);
        } else {
            self.violated(&format!("its ping was refused: {error}"));
        }
    }

    /// The connection ended before the answer.
    pub(super) fn request_lost(&mut self, request: Request) {
        match request.question {
            // The next connect replaces whatever there is.
            Question::Connect | Question::Close => self.stage = Stage::Away,
            Question::Subscribe { slot } => {
                if let Some(subscription) = self.subscriptions.get_mut(&slot) {
                    subscription.phase = Phase::Doubted;
                    self.world.model.borrow_mut().subscribe_lost(subscription.group);
                }
            }
            Question::End { slot } => {
                if let Some(subscription) = self.subscriptions.get_mut(&slot)
                    && let Phase::Ending { is_asked, .. } = &mut subscription.phase
                {
                    *is_asked = false;
                }
            }
            Question::Ping => {}
        }
    }

    /// In the end each durable has a subscriber again.
    pub(super) fn take_up_durables(&mut self) {
        let deserted = self.world.model.borrow().deserted(&self.name);
        for (key, channel) in deserted {
            if !matches!(key, SubscriptionKey::Plain) {
                self.take_up(key, channel);
            }
        }
    }
}

/// Whether the answer to a request has an error in it.
fn is_refusal(request: Request, payload: &[u8]) -> bool {
    let error = match request.question {
        Question::Connect => ConnectResponse::decode(payload).map(|answer| answer.error),
        Question::Close => CloseResponse::decode(payload).map(|answer| answer.error),
        Question::Subscribe { .. } | Question::End { .. } => {
            SubscriptionResponse::decode(payload).map(|answer| answer.error)
        }
        Question::Ping => PingResponse::decode(payload).map(|answer| answer.error),
    };
    error.is_ok_and(|error| !error.is_empty())
}
