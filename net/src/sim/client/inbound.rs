//! What a client receives: NATS lines, and in them heartbeats, answers, acks and messages.

use weirlog_engine::error::RequestError;
use weirlog_engine::types::Monotonic;

use super::{Client, HEARTBEAT_SID, PUB_ACK_SID, RESPONSE_SID, SUBSCRIPTION_SID, Stage};
use crate::sim::script::own_rng;
use crate::stan::wire::{MsgProto, PubAck};

/// One line of the server, with its payload.
enum Line {
    Message { subject: String, sid: u64, reply: Option<String>, payload: Vec<u8> },
    Ping,
    Error(String),
    Other,
    Nonsense(String),
}

impl Client {
    pub(super) fn on_bytes(&mut self, piece: &[u8]) {
        let Some(line) = &mut self.line else { return };
        line.received.extend_from_slice(piece);
        let number = line.connection.number;
        loop {
            // What is handled may end the connection.
            let Some(line) = &mut self.line else { return };
            if line.connection.number != number {
                return;
            }
            let Some((parsed, length)) = parse(&line.received) else { return };
            line.received.drain(..length);
            self.on_line(parsed);
        }
    }

    fn on_line(&mut self, line: Line) {
        match line {
            Line::Message { subject, sid, reply, payload } => {
                self.on_message(&subject, sid, reply, &payload)
            }
            Line::Ping => self.send(b"PONG\r\n"),
            Line::Error(text) => self.violated(&format!("the server says {text}")),
            Line::Nonsense(text) => self.violated(&format!("a line that is none: {text:?}")),
            Line::Other => {}
        }
    }

    fn on_message(&mut self, subject: &str, sid: u64, reply: Option<String>, payload: &[u8]) {
        match sid {
            HEARTBEAT_SID => {
                if let Some(reply) = reply {
                    self.send_pub(&reply, "", b"");
                }
            }
            RESPONSE_SID => {
                let number =
                    subject.rsplit_once('.').and_then(|(_, number)| number.parse::<u64>().ok());
                let request = number.and_then(|number| self.requests.remove(&number));
                match request {
                    Some(request) => self.on_answer(request, payload),
                    None => self.log(|| format!("an answer that comes too late: {subject}")),
                }
            }
            PUB_ACK_SID => self.on_pub_ack(payload),
            _ => self.on_delivery(sid.wrapping_sub(SUBSCRIPTION_SID), payload),
        }
    }

    fn on_pub_ack(&mut self, payload: &[u8]) {
        let Ok(ack) = PubAck::decode(payload) else {
            self.violated("a publish ack that is none");
            return;
        };
        let Some(publish) = self.publishes.remove(ack.guid) else {
            self.violated(&format!("an ack of {:?}, which does not wait for one", ack.guid));
            return;
        };
        if ack.error.is_empty() {
            let now = self.now().mono;
            self.world.model.borrow_mut().acked(&publish.payload, now);
        } else if self.world.may_refuse(self.life(), publish.sent_at) {
            self.log(|| format!("is refused {:?}: {}", publish.payload, ack.error));
        } else if ack.error == RequestError::TooManyChannels.to_string() {
            let (life, payload) = (self.life(), &publish.payload);
            self.log(|| format!("is refused {payload:?}: {}", ack.error));
            self.world.model.borrow_mut().publish_refused(payload, life);
        } else if self.stage == Stage::Joined && self.is_current(publish.line) {
            self.violated(&format!("{:?} was refused: {}", publish.payload, ack.error));
        }
    }

    /// Whether a connection is the present one.
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.line.as_ref().is_some_and(|line| line.connection.number == number)
    }

    fn on_delivery(&mut self, slot: u64, payload: &[u8]) {
        let Ok(message) = MsgProto::decode(payload) else {
            self.violated("a delivery that is none");
            return;
        };
        let now = self.now();
        let Some(line) = &self.line else { return };
        let life = line.life;
        // It may have been on the way when its subscription ended.
        let Some(mut subscription) = self.subscriptions.remove(&slot) else { return };
        let complaint =
            subscription.on_delivery(&message, life, now, self.calm_since(), &self.world);
        if self.is_auditor {
            self.world.model.borrow_mut().audited(&message);
        }
        if let Some(complaint) = complaint {
            self.violated(&format!(
                "channel {}, sequence {}, subscription {slot}: {complaint}",
                message.subject, message.sequence
            ));
        }
        self.log(|| {
            let (sequence, again) = (message.sequence, message.redelivery_count);
            format!("gets {} {sequence} for subscription {slot}, again {again}", message.subject)
        });
        let is_draining = self.world.is_draining.get();
        // When it is acked depends on nothing that happened before.
        let delivery = message.sequence << 8 | u64::from(message.redelivery_count & 0xff);
        let mut rng = own_rng(!self.seed, delivery);
        let delay_ms = subscription.ack_delay_ms(&mut rng, is_draining, self.is_auditor);
        if let Some(delay_ms) = delay_ms {
            subscription.ack_at(message.sequence, now.mono.after_ms(delay_ms));
        }
        self.subscriptions.insert(slot, subscription);
        if delay_ms == Some(0) {
            self.send_acks(slot, now.mono);
        }
    }

    pub(super) fn confirm_acks(&mut self, pinged_at: Monotonic) {
        let now = self.now().mono;
        // A server whose log has ended answers pings, but stores no ack; a slow one stores it later.
        if self.world.has_failed(self.life()) || now < self.world.calm_since() {
            return;
        }
        let Some(line) = &mut self.line else { return };
        let life = line.life;
        while let Some((sent_at, slot, sequence)) = line.unconfirmed.front().copied() {
            // The client was there a while later: nothing ended its subscription before the ack.
            if sent_at.after_ms(300) > pinged_at {
                break;
            }
            line.unconfirmed.pop_front();
            let name = &self.name;
            self.world
                .log(|| format!("{name}: ack of {sequence} of subscription {slot} is confirmed"));
            let active =
                self.subscriptions.get(&slot).filter(|subscription| subscription.is_active());
            if let Some(subscription) = active {
                let mut model = self.world.model.borrow_mut();
                model.ack_confirmed(subscription.group, sequence, life, now);
            }
        }
    }
}

/// The first line of `bytes` and its length; none: it is not complete.
fn parse(bytes: &[u8]) -> Option<(Line, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let behind = end + 2;
    let mut words = text.split(' ');
    let line = match words.next().unwrap_or_default() {
        "MSG" => {
            let words: Vec<&str> = words.collect();
            let (subject, sid, reply, length) = match words.as_slice() {
                [subject, sid, length] => (*subject, *sid, None, *length),
                [subject, sid, reply, length] => {
                    (*subject, *sid, Some((*reply).to_owned()), *length)
                }
                _ => return Some((Line::Nonsense(text.clone()), behind)),
            };
            let (Ok(sid), Ok(length)) = (sid.parse(), length.parse::<usize>()) else {
                return Some((Line::Nonsense(text.clone()), behind));
            };
            let payload = bytes.get(behind..behind + length)?.to_vec();
            let tail = bytes.get(behind + length..behind + length + 2)?;
            if tail != b"\r\n" {
                return Some((Line::Nonsense(text.clone()), behind));
            }
            let subject = subject.to_owned();
            return Some((Line::Message { subject, sid, reply, payload }, behind + length + 2));
        }
        "PING" => Line::Ping,
        "-ERR" => Line::Error(text.clone()),
        "PONG" | "INFO" | "+OK" => Line::Other,
        _ => Line::Nonsense(text.clone()),
    };
    Some((line, behind))
}
