//! A NATS Streaming client as a small state machine: it speaks the real bytes, answers heartbeats, and does at random
//! what applications do. What it is told it hands to the model.
//!
//! ```text
//! Away -- connect request --> Joining -- answer --> Joined -- close request --> Leaving -- answer --> Away
//! its connection may fail at any moment; a client that has joined goes on over the next one
//! ```

mod inbound;
mod requests;
mod subscriptions;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::{Monotonic, Now};

use super::network::Connection;
use super::script::own_rng;
use super::{Deed, FaultKind, World};
use crate::stan::wire::PubMsg;
use requests::Request;
use subscriptions::Subscription;

/// The cluster of all runs.
pub(super) const CLUSTER_ID: &str = "sim";
/// A request or publish over a connection that works is answered within this.
const ANSWER_MS_MAX: u64 = 10_000;
/// What is published and not acked at most.
const PUBLISHES_MAX: usize = 64;

const HEARTBEAT_SID: u64 = 1;
const RESPONSE_SID: u64 = 2;
const PUB_ACK_SID: u64 = 3;
/// Sids of subscriptions start here.
const SUBSCRIPTION_SID: u64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Away,
    Joining,
    Joined,
    Leaving,
}

/// A connection as its client sees it.
struct Line {
    connection: Rc<Connection>,
    life: u64,
    received: Vec<u8>,
    /// Acks that the server may not have applied yet: when sent, subscription, sequence.
    unconfirmed: VecDeque<(Monotonic, u64, u64)>,
}

/// A message that waits for its ack.
struct Unacked {
    payload: String,
    line: u64,
    sent_at: Monotonic,
}

/// One client.
pub(super) struct Client {
    pub(super) name: String,
    number: usize,
    world: Rc<World>,
    seed: u64,
    rng: Rng,
    /// Turns it has had.
    turns: u64,
    stage: Stage,
    /// Registrations tried so far: each has a connection id of its own.
    registrations: u64,
    line: Option<Line>,
    requests: BTreeMap<u64, Request>,
    numbers: u64,
    publishes: BTreeMap<String, Unacked>,
    subscriptions: BTreeMap<u64, Subscription>,
    /// It does not connect before this.
    wait_until: Monotonic,
    /// It reads nothing before this.
    stalled_until: Monotonic,
    /// When something last kept the server from reaching it.
    disturbed_at: Monotonic,
    pinged_at: Monotonic,
    /// A reader of all channels: it takes no part in anything else.
    is_auditor: bool,
    /// How often state was lost that the client has taken note of.
    state_losses: u64,
}

impl Client {
    /// Client `number`; none: the reader of all channels.
    pub(super) fn new(number: Option<usize>, world: Rc<World>, seed: u64) -> Self {
        Self {
            name: number.map_or_else(|| "auditor".to_owned(), |number| format!("c{number}")),
            number: number.unwrap_or(usize::MAX),
            world,
            seed,
            rng: Rng::with_seed(seed),
            turns: 0,
            stage: Stage::Away,
            registrations: 0,
            line: None,
            requests: BTreeMap::new(),
            numbers: 0,
            publishes: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            wait_until: Monotonic(0),
            stalled_until: Monotonic(0),
            disturbed_at: Monotonic(0),
            pinged_at: Monotonic(0),
            is_auditor: number.is_none(),
            state_losses: 0,
        }
    }

    /// The id of the present registration's connection.
    fn connection_id(&self) -> String {
        format!("{}-{}", self.name, self.registrations)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn now(&self) -> Now {
        self.world.runtime.now()
    }

    fn violated(&self, what: &str) {
        self.world.violated(format!("client {}: {what}", self.name));
    }

    fn log(&self, text: impl FnOnce() -> String) {
        self.world.log(|| format!("{}: {}", self.name, text()));
    }

    fn send(&self, bytes: &[u8]) {
        if let Some(line) = &self.line {
            line.connection.send_to_server(bytes, self.now().mono);
        }
    }

    fn send_pub(&self, subject: &str, reply: &str, payload: &[u8]) {
        let mut bytes = if reply.is_empty() {
            format!("PUB {subject} {}\r\n", payload.len()).into_bytes()
        } else {
            format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes()
        };
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.send(&bytes);
    }

    /// Has a turn.
    pub(super) fn turn(client: &Rc<RefCell<Self>>) {
        let mut this = client.borrow_mut();
        this.turns += 1;
        let now = this.now();
        if this.line.is_none() {
            if now.mono >= this.wait_until {
                this.connect_line(client);
            }
            return;
        }
        if now.mono < this.stalled_until {
            return;
        }
        this.check_answers(now);
        this.send_due_acks(now);
        match this.stage {
            Stage::Away => this.send_connect(),
            Stage::Joining | Stage::Leaving => {}
            Stage::Joined => {
                this.ping_if_due(now);
                this.settle_subscriptions();
                if this.is_auditor {
                    this.audit();
                } else if this.world.is_draining.get() {
                    this.take_up_durables();
                } else if !this.world.is_quiet.get() {
                    this.act(now);
                }
            }
        }
    }

    fn connect_line(&mut self, client: &Rc<RefCell<Self>>) {
        let Some((connection, life)) = self.world.connect(&mut self.rng) else {
            self.wait_until = self.now().mono.after_ms(self.rng.u64(5..200));
            return;
        };
        let number = connection.number;
        self.log(|| format!("opens connection {number}"));
        let state_losses = self.world.model.borrow().state_losses();
        if std::mem::replace(&mut self.state_losses, state_losses) < state_losses {
            self.log(|| "starts anew: the server lost state".to_owned());
            self.forget_registration();
        }
        let is_other_life =
            self.subscriptions.values().any(|subscription| subscription.life != life);
        if is_other_life {
            self.subscriptions.values_mut().for_each(|subscription| subscription.begin_life(life));
        }
        self.line = Some(Line {
            connection: connection.clone(),
            life,
            received: Vec::new(),
            unconfirmed: VecDeque::new(),
        });
        self.disturbed_at = self.now().mono;
        let mut text =
            "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"lang\":\"sim\"}\r\n"
                .to_owned();
        text += "PING\r\n";
        self.send(text.as_bytes());
        if self.stage == Stage::Joined {
            self.send_base_subscriptions();
            for subscription in self.subscriptions.values() {
                self.send_interest(subscription);
            }
            self.send_ping();
        }
        let (client, runtime) = (Rc::downgrade(client), self.world.runtime.clone());
        self.world.runtime.spawn(async move {
            loop {
                let piece = connection.receive_at_client(&runtime).await;
                let Some(client) = client.upgrade() else { return };
                let stalled_until = client.borrow().stalled_until;
                let wait_ns = stalled_until.since(runtime.now().mono);
                if wait_ns > 0 {
                    runtime.sleep(Duration::from_nanos(wait_ns)).await;
                }
                let mut client = client.borrow_mut();
                let is_current =
                    client.line.as_ref().is_some_and(|line| line.connection.number == number);
                match piece {
                    Some(piece) if is_current => client.on_bytes(&piece),
                    None if is_current => {
                        client.log(|| format!("connection {number} has ended"));
                        client.line_lost();
                        return;
                    }
                    _ => return,
                }
            }
        });
    }

    fn send_base_subscriptions(&self) {
        let id = self.connection_id();
        let text = format!(
            "SUB _INBOX.hb.{id} {HEARTBEAT_SID}\r\nSUB _INBOX.r.{id}.* {RESPONSE_SID}\r\n\
             SUB _STAN.acks.{id} {PUB_ACK_SID}\r\n"
        );
        self.send(text.as_bytes());
    }

    /// The connection is gone: nobody knows what became of the requests sent over it.
    fn line_lost(&mut self) {
        let Some(line) = self.line.take() else { return };
        let now = self.now().mono;
        let requests = std::mem::take(&mut self.requests);
        // A late request must not come behind what is done about it over the next connection.
        let is_quiet_needed = requests.values().any(Request::changes_something);
        let pause_ms = if self.world.is_draining.get() { 10 } else { self.rng.u64(1..2_000) };
        self.wait_until = now.after_ms(pause_ms);
        if is_quiet_needed {
            let end = line.connection.to_server.ends_at().unwrap_or(now);
            self.wait_until = self.wait_until.max(end.max(now).after_ms(1_000));
        }
        for request in requests.into_values() {
            self.request_lost(request);
        }
    }

    /// Leaves the connection.
    fn drop_line(&mut self) {
        let now = self.now().mono;
        if let Some(line) = &self.line {
            if self.rng.bool() {
                line.connection.client_closes(now);
            } else {
                let after = Duration::from_millis(self.rng.u64(0..3_000));
                line.connection.cut(now, after, Duration::ZERO);
                line.connection.to_client.end_now();
            }
        }
        self.line_lost();
    }

    /// Does something at random, as an application would, unless it is left out. What it draws for that is drawn from
    /// this turn's own chance.
    fn act(&mut self, now: Now) {
        let deed = Deed::Operation { client: self.number, turn: self.turns };
        if !self.world.may_do(&deed) {
            return;
        }
        let others = std::mem::replace(&mut self.rng, own_rng(self.seed, self.turns));
        let text = self.do_something(now);
        self.rng = others;
        if let Some(text) = text {
            self.world.history.borrow_mut().note(deed, now.mono, text);
        }
    }

    /// Returns what it did, if that was anything.
    fn do_something(&mut self, now: Now) -> Option<String> {
        let text = match self.rng.u32(0..1_000) {
            0..600 => return self.publish_some(),
            600..700 => return self.subscribe_at_random(),
            700..740 => return self.end_at_random(),
            740..745 => {
                self.send_close();
                "closes".to_owned()
            }
            745..750 => {
                self.drop_line();
                "leaves its connection".to_owned()
            }
            750..753 => {
                self.drop_line();
                self.forget_registration();
                "starts anew with the same id".to_owned()
            }
            753..756 if self.world.faults.has(FaultKind::Stalls) => {
                let ms = self.rng.u64(100..8_000);
                self.stalled_until = now.mono.after_ms(ms);
                self.disturbed_at = self.stalled_until;
                format!("reads nothing for {ms} ms")
            }
            756..800 => {
                self.send(b"PING\r\n");
                "pings".to_owned()
            }
            _ => return None,
        };
        self.log(|| text.clone());
        Some(text)
    }

    fn publish_some(&mut self) -> Option<String> {
        let count =
            if self.rng.u8(..8) == 0 { self.rng.usize(1..30) } else { self.rng.usize(1..4) };
        let (mut orders, mut channels) = (Vec::new(), BTreeSet::new());
        for _ in 0..count {
            let Some(number) = self.line.as_ref().map(|line| line.connection.number) else {
                break;
            };
            if self.publishes.len() >= PUBLISHES_MAX {
                break;
            }
            let channel = self.world.random_channel(&mut self.rng);
            let order = self.number();
            let mut payload = format!("{}-{order:05}", self.name);
            let padding = match (self.world.limits.payload_bytes(&channel), self.rng.u8(..10)) {
                (Some(lengths), _) => self.rng.usize(lengths).saturating_sub(payload.len()),
                (None, 0) => self.rng.usize(..4_000),
                (None, _) => self.rng.usize(..self.world.padding_bytes_max),
            };
            payload.extend(std::iter::repeat_n('.', padding));
            let guid = format!("{}g{order}", self.name);
            let id = self.connection_id();
            let message = PubMsg {
                client_id: &self.name,
                guid: &guid,
                subject: &channel,
                data: payload.as_bytes(),
                conn_id: id.as_bytes(),
                ..Default::default()
            };
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let sent_at = self.now().mono;
            self.world.model.borrow_mut().published(payload.clone(), &channel, number, sent_at);
            self.world.count_operation();
            self.send_pub(
                &format!("_STAN.pub.{CLUSTER_ID}.{channel}"),
                &format!("_STAN.acks.{id}"),
                &bytes,
            );
            orders.push(order);
            channels.insert(channel);
            self.publishes.insert(guid, Unacked { payload, line: number, sent_at });
        }
        let (first, last) = (orders.first()?, orders.last()?);
        let (name, count) = (&self.name, orders.len());
        let channels = channels.into_iter().collect::<Vec<_>>().join(", ");
        Some(format!("publishes {count}: {name}-{first:05} to {name}-{last:05}, to {channels}"))
    }

    /// Whatever was sent over a connection that works has its answer soon, if the server does not stop.
    fn check_answers(&mut self, now: Now) {
        let Some(line) = &self.line else { return };
        let is_served = self.world.server.borrow().as_ref().is_some_and(|it| it.is_listening());
        if line.connection.is_cut() || !is_served {
            return;
        }
        let number = line.connection.number;
        let calm_since = self.calm_since();
        let is_late =
            |sent_at: Monotonic| now.mono > sent_at.max(calm_since).after_ms(ANSWER_MS_MAX);
        if let Some(late) = self.requests.values().find(|request| is_late(request.sent_at)) {
            self.violated(&format!("no answer to {late:?} over connection {number}"));
        }
        let late =
            self.publishes.values().find(|late| late.line == number && is_late(late.sent_at));
        if let Some(late) = late {
            self.violated(&format!("no ack of {:?} over connection {number}", late.payload));
        }
        self.check_redeliveries(now);
    }

    /// The server process at the other end; 0: none.
    fn life(&self) -> u64 {
        self.line.as_ref().map_or(0, |line| line.life)
    }

    /// When something last kept the server and this client from doing things in time.
    fn calm_since(&self) -> Monotonic {
        self.disturbed_at.max(self.world.calm_since())
    }

    /// Since when the server can reach it without delay; none: it cannot.
    pub(super) fn reachable_since(&self) -> Option<Monotonic> {
        let now = self.now().mono;
        let line = self.line.as_ref().filter(|line| !line.connection.is_cut())?;
        let is_there = self.stage == Stage::Joined
            && now >= self.stalled_until
            && line.life == self.world.model.borrow().life();
        is_there.then(|| self.calm_since())
    }

    /// Whether nothing of it is open: all is answered and acked.
    pub(super) fn is_settled(&self) -> bool {
        self.stage == Stage::Joined
            && self.line.as_ref().is_some_and(|line| !line.connection.is_cut())
            && self.requests.values().all(|request| !request.changes_something())
            && self.is_published()
            && self.subscriptions.values().all(Subscription::is_settled)
            && self.world.model.borrow().deserted(&self.name).is_empty()
    }

    /// Whether all that it published over its present connection is answered.
    pub(super) fn is_published(&self) -> bool {
        let number = self.line.as_ref().map(|line| line.connection.number);
        self.publishes.values().all(|publish| Some(publish.line) != number)
    }

    /// What keeps it from being settled, for the report.
    pub(super) fn state(&self) -> String {
        format!(
            "{} {:?}, connection {:?}, requests {:?}, {} publishes, subscriptions {:?}",
            self.name,
            self.stage,
            self.line.as_ref().map(|line| line.connection.number),
            self.requests.values().collect::<Vec<_>>(),
            self.publishes.len(),
            self.subscriptions.values().filter(|sub| !sub.is_settled()).collect::<Vec<_>>(),
        )
    }
}
