//! Subscriptions of a client: asked for, used, acked now, later or never, and ended.

use std::collections::BTreeMap;

use fastrand::Rng;
use weirlog_engine::error::RequestError;
use weirlog_engine::types::{Monotonic, Now};

use super::requests::Question;
use super::{CLUSTER_ID, Client, Line, SUBSCRIPTION_SID};
use crate::sim::World;
use crate::sim::model::{
    DISTURBED_SLACK_MS, GroupIndex, Left, REDELIVERY_SLACK_MS, Received, Start, SubscriptionKey,
};
use crate::stan::errors;
use crate::stan::wire::{Ack, MsgProto, SubscriptionRequest, UnsubscribeRequest};

/// Subscriptions of one client at most.
const SUBSCRIPTIONS_MAX: usize = 5;
/// Messages are this long under way, and expire a little early.
const EXPIRY_SLACK_MS: u64 = 500;

/// How far a subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Asked,
    Active,
    /// The answer was lost: it is ended by its inbox.
    Doubted,
    Ending {
        removes: bool,
        is_asked: bool,
        tries: u32,
    },
}

/// How it acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Now,
    Later,
    Never,
    Mixed,
}

/// A message that was delivered and not acked.
#[derive(Debug, Clone, Copy)]
struct Outstanding {
    delivered_at: Monotonic,
    is_again: bool,
    /// An ack of it was sent before: the server may know of it.
    is_acked: bool,
    ack_at: Option<Monotonic>,
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) group: GroupIndex,
    pub(super) phase: Phase,
    pub(super) life: u64,
    client: String,
    key: SubscriptionKey,
    channel: String,
    inbox: String,
    ack_inbox: String,
    asked_over: u64,
    slot: u64,
    in_flight_max: usize,
    ack_wait_ms: u64,
    policy: Policy,
    outstanding: BTreeMap<u64, Outstanding>,
    last_new: u64,
}

impl Subscription {
    pub(super) fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_active() && self.outstanding.is_empty()
    }

    /// Another server process: what it knows of deliveries may be older.
    pub(super) fn begin_life(&mut self, life: u64) {
        if self.life != life {
            self.life = life;
            self.last_new = 0;
            self.outstanding.clear();
        }
    }

    fn is_queue(&self) -> bool {
        matches!(self.key, SubscriptionKey::Queue { .. })
    }

    /// Checks a delivery and takes it in. Returns what is wrong with it.
    pub(super) fn on_delivery(
        &mut self,
        message: &MsgProto<'_>,
        life: u64,
        now: Now,
        calm_since: Monotonic,
        world: &World,
    ) -> Option<String> {
        let mut model = world.model.borrow_mut();
        match self.phase {
            Phase::Asked | Phase::Doubted | Phase::Ending { .. } => {
                model.seen(message, &self.channel, &self.client);
                return None;
            }
            Phase::Active => {}
        }
        self.begin_life(life);
        let is_acked = model.is_acked(self.group, message.sequence);
        let received = Received { message, group: self.group, life, client: &self.client };
        model.delivered(&received, now.mono);
        let sequence = message.sequence;
        let mut complaint = None;
        if !message.is_redelivered {
            if sequence <= self.last_new {
                complaint = Some(format!("new behind {}", self.last_new));
            }
            self.last_new = sequence;
        }
        let is_again = message.is_redelivered;
        let outstanding = Outstanding { delivered_at: now.mono, is_again, is_acked, ack_at: None };
        self.outstanding.insert(sequence, outstanding);
        let is_held = |(held_sequence, held): &(&u64, &Outstanding)| {
            self.is_held(held, now, calm_since)
                && !model.may_be_gone(&self.channel, **held_sequence, now.mono)
        };
        let held = self.outstanding.iter().filter(is_held).count();
        if !is_again && held > self.in_flight_max {
            let limit = self.in_flight_max;
            complaint = Some(format!("new though {} of {limit} wait for their acks", held - 1));
        }
        complaint
    }

    /// Whether a message certainly still waits for this subscription's ack. A group's message that was not acked in
    /// time may be another member's by now, and of one that came again nobody outside knows when its time is over.
    fn is_held(&self, held: &Outstanding, now: Now, calm_since: Monotonic) -> bool {
        let sure_ms = self.ack_wait_ms - EXPIRY_SLACK_MS;
        if held.is_acked {
            return false;
        }
        !self.is_queue()
            || (!held.is_again
                && held.delivered_at > calm_since.after_ms(self.ack_wait_ms)
                && held.delivered_at.after_ms(sure_ms) > now.mono)
    }

    /// In how many milliseconds to ack; none: not at all.
    pub(super) fn ack_delay_ms(
        &self,
        rng: &mut Rng,
        is_draining: bool,
        is_auditor: bool,
    ) -> Option<u64> {
        if is_draining || is_auditor {
            return Some(0);
        }
        match self.policy {
            Policy::Now => Some(0),
            Policy::Later => Some(rng.u64(1..self.ack_wait_ms * 2)),
            Policy::Never => None,
            Policy::Mixed => match rng.u8(..4) {
                0 => None,
                1 => Some(rng.u64(1..self.ack_wait_ms * 2)),
                _ => Some(0),
            },
        }
    }

    pub(super) fn ack_at(&mut self, sequence: u64, at: Monotonic) {
        if let Some(outstanding) = self.outstanding.get_mut(&sequence) {
            outstanding.ack_at = Some(at);
        }
    }
}

impl Client {
    /// Listens to a subscription's inbox.
    pub(super) fn send_interest(&self, subscription: &Subscription) {
        if subscription.is_active() || subscription.phase == Phase::Asked {
            let sid = SUBSCRIPTION_SID + subscription.slot;
            self.send(format!("SUB {} {sid}\r\n", subscription.inbox).as_bytes());
        }
    }

    /// Returns what it did, if it could do anything.
    pub(super) fn subscribe_at_random(&mut self) -> Option<String> {
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return None;
        }
        let channel = self.world.random_channel(&mut self.rng);
        let key = match self.rng.u8(..4) {
            0 => SubscriptionKey::Plain,
            1 => SubscriptionKey::Durable {
                client: self.name.clone(),
                channel: channel.clone(),
                name: format!("d{}", self.rng.u8(1..3)),
            },
            kind => {
                let is_durable = kind == 2;
                let base = format!("q{}", self.rng.u8(1..3));
                let group = self.world.model.borrow().queue_name(&channel, &base, is_durable);
                SubscriptionKey::Queue { channel: channel.clone(), group, is_durable }
            }
        };
        let is_in_use = matches!(key, SubscriptionKey::Durable { .. })
            && self.subscriptions.values().any(|subscription| subscription.key == key);
        if is_in_use {
            return None;
        }
        let start = self.random_start();
        self.subscribe(key, channel, start)
    }

    fn random_start(&mut self) -> Start {
        match self.rng.u8(..6) {
            0 => Start::NewOnly,
            1 => Start::LastReceived,
            2 => Start::TimeDelta { ns: self.rng.i64(1..20_000_000_000) },
            3 => Start::Sequence(self.rng.u64(1..200)),
            _ => Start::First,
        }
    }

    /// Subscribes again to a durable that has nobody.
    pub(super) fn take_up(&mut self, key: SubscriptionKey, channel: String) {
        if self.subscriptions.values().all(|subscription| subscription.key != key) {
            self.subscribe(key, channel, Start::NewOnly);
        }
    }

    /// Returns what it did, if it is connected.
    fn subscribe(&mut self, key: SubscriptionKey, channel: String, start: Start) -> Option<String> {
        let (number, life) = self.line.as_ref().map(|line| (line.connection.number, line.life))?;
        let slot = self.number();
        let member = (self.name.clone(), slot);
        let now = self.now();
        let group =
            self.world.model.borrow_mut().subscribe_sent(key.clone(), &channel, start, member, now);
        let policies = [Policy::Now, Policy::Now, Policy::Later, Policy::Never, Policy::Mixed];
        let subscription = Subscription {
            group,
            phase: Phase::Asked,
            life,
            client: self.name.clone(),
            key,
            channel,
            inbox: format!("_INBOX.m.{}.{slot}", self.connection_id()),
            ack_inbox: String::new(),
            asked_over: number,
            slot,
            in_flight_max: if self.is_auditor { 10_000 } else { self.rng.usize(1..=50) },
            ack_wait_ms: if self.is_auditor { 30_000 } else { self.rng.u64(1..6) * 1_000 },
            policy: policies[self.rng.usize(..policies.len())],
            outstanding: BTreeMap::new(),
            last_new: 0,
        };
        let ack_wait_ms = subscription.ack_wait_ms;
        self.world.model.borrow_mut().may_wait(group, ack_wait_ms);
        self.send_interest(&subscription);
        self.send_subscribe(&subscription, start);
        let Subscription { channel, key, in_flight_max, ack_wait_ms, policy, .. } = &subscription;
        let text = format!(
            "subscribes to {channel} from {start:?}, number {slot}: {key:?}, max in flight {in_flight_max}, \
             ack wait {ack_wait_ms} ms, acks {policy:?}"
        );
        self.subscriptions.insert(slot, subscription);
        Some(text)
    }

    fn send_subscribe(&mut self, subscription: &Subscription, start: Start) {
        let (durable, group) = match &subscription.key {
            SubscriptionKey::Plain => ("", ""),
            SubscriptionKey::Durable { name, .. } => (name.as_str(), ""),
            SubscriptionKey::Queue { group, is_durable, .. } => {
                (if *is_durable { "dq" } else { "" }, group.as_str())
            }
        };
        let (position, sequence, delta) = match start {
            Start::NewOnly => (0, 0, 0),
            Start::LastReceived => (1, 0, 0),
            Start::TimeDelta { ns } => (2, 0, ns),
            Start::Sequence(sequence) => (3, sequence, 0),
            Start::First => (4, 0, 0),
        };
        let request = SubscriptionRequest {
            client_id: &self.name,
            subject: &subscription.channel,
            queue_group: group,
            inbox: &subscription.inbox,
            max_in_flight: i32::try_from(subscription.in_flight_max).expect("a small number"),
            ack_wait_seconds: i32::try_from(subscription.ack_wait_ms / 1_000)
                .expect("a small number"),
            durable_name: durable,
            start_position: position,
            start_sequence: sequence,
            start_time_delta: delta,
        };
        let mut payload = Vec::new();
        request.encode(&mut payload);
        self.log(|| format!("subscribes {subscription:?} from {start:?}"));
        self.ask(
            &format!("_STAN.sub.{CLUSTER_ID}"),
            Question::Subscribe { slot: subscription.slot },
            &payload,
        );
    }

    pub(super) fn on_subscribed(
        &mut self,
        slot: u64,
        ack_inbox: &str,
        error: &str,
        sent_at: Monotonic,
    ) {
        let now = self.now();
        if is_limit(error) {
            self.on_over_limit(slot, error, sent_at);
            return;
        }
        let Some(subscription) = self.subscriptions.get_mut(&slot) else { return };
        if !error.is_empty() {
            let what = format!("{subscription:?} was refused: {error}");
            self.violated(&what);
            return;
        }
        // It may have been closed with the whole client meanwhile.
        if subscription.phase != Phase::Asked {
            return;
        }
        subscription.phase = Phase::Active;
        ack_inbox.clone_into(&mut subscription.ack_inbox);
        let group = subscription.group;
        let over = subscription.asked_over;
        self.log(|| format!("subscription {slot} is active, asked over connection {over}"));
        if self.stage == super::Stage::Joined {
            self.world.model.borrow_mut().subscribed(group, (self.name.clone(), slot), now);
        }
    }

    /// It is one too many: whether that is so the model knows.
    fn on_over_limit(&mut self, slot: u64, error: &str, sent_at: Monotonic) {
        let Some(subscription) = self.subscriptions.remove(&slot) else { return };
        self.log(|| format!("subscription {slot} is refused: {error}"));
        let is_channel = error == RequestError::TooManyChannels.to_string();
        let (member, asked) = ((self.name.clone(), slot), (self.life(), sent_at));
        let now = self.now().mono;
        let mut model = self.world.model.borrow_mut();
        model.subscribe_refused(subscription.group, &member, is_channel, asked, now);
    }

    /// Ends one of the subscriptions. Returns what it did, if there are any.
    pub(super) fn end_at_random(&mut self) -> Option<String> {
        let active: Vec<u64> =
            self.subscriptions.values().filter(|sub| sub.is_active()).map(|sub| sub.slot).collect();
        if active.is_empty() {
            return None;
        }
        let slot = active[self.rng.usize(..active.len())];
        let removes = self.rng.u8(..3) == 0;
        if let Some(subscription) = self.subscriptions.get_mut(&slot) {
            subscription.phase = Phase::Ending { removes, is_asked: false, tries: 0 };
            self.world.model.borrow_mut().leaving(
                subscription.group,
                &(self.name.clone(), slot),
                removes,
            );
        }
        self.settle_subscriptions();
        let verb = if removes { "removes" } else { "closes" };
        Some(format!("{verb} subscription {slot}"))
    }

    /// Asks for the ends that are wanted and not asked for.
    pub(super) fn settle_subscriptions(&mut self) {
        let mut wanted = Vec::new();
        for subscription in self.subscriptions.values_mut() {
            if subscription.phase == Phase::Doubted {
                subscription.phase = Phase::Ending { removes: false, is_asked: false, tries: 1 };
            }
            if let Phase::Ending { removes, is_asked, tries } = &mut subscription.phase
                && !*is_asked
            {
                *is_asked = true;
                *tries += 1;
                wanted.push((subscription.slot, *removes));
            }
        }
        for (slot, removes) in wanted {
            self.send_end(slot, removes);
        }
    }

    fn send_end(&mut self, slot: u64, removes: bool) {
        let Some(subscription) = self.subscriptions.get(&slot) else { return };
        let is_known = !subscription.ack_inbox.is_empty();
        let request = UnsubscribeRequest {
            client_id: &self.name,
            subject: &subscription.channel,
            inbox: if is_known { &subscription.ack_inbox } else { &subscription.inbox },
            durable_name: "",
        };
        let mut payload = Vec::new();
        request.encode(&mut payload);
        self.log(|| format!("ends subscription {slot}, removes it: {removes}"));
        self.send(format!("UNSUB {}\r\n", SUBSCRIPTION_SID + slot).as_bytes());
        let service = if removes { "unsub" } else { "subclose" };
        self.ask(&format!("_STAN.{service}.{CLUSTER_ID}"), Question::End { slot }, &payload);
    }

    pub(super) fn on_ended(&mut self, slot: u64, error: &str) {
        let Some(subscription) = self.subscriptions.remove(&slot) else { return };
        self.log(|| format!("ended subscription {slot}: {error:?}"));
        let Phase::Ending { removes, tries, .. } = subscription.phase else { return };
        let is_tried_before = tries > 1;
        match error {
            "" => {}
            errors::INVALID_SUBSCRIPTION | errors::UNKNOWN_CHANNEL if is_tried_before => {}
            other => {
                let what = format!("the end of {subscription:?} was refused: {other}");
                self.violated(&what);
            }
        }
        let how = if removes { Left::Removed } else { Left::Closed };
        let (member, now) = ((self.name.clone(), slot), self.now().mono);
        self.world.model.borrow_mut().left(subscription.group, &member, how, now);
    }

    /// Sends the acks whose time has come; when faults have stopped, all.
    pub(super) fn send_due_acks(&mut self, now: Now) {
        let is_draining = self.world.is_draining.get();
        let slots: Vec<u64> = self.subscriptions.keys().copied().collect();
        for slot in slots {
            if is_draining && let Some(subscription) = self.subscriptions.get_mut(&slot) {
                subscription.outstanding.values_mut().for_each(|held| held.ack_at = Some(now.mono));
            }
            self.send_acks(slot, now.mono);
        }
    }

    pub(super) fn send_acks(&mut self, slot: u64, now: Monotonic) {
        let Some(subscription) = self.subscriptions.get_mut(&slot) else { return };
        if !subscription.is_active() {
            return;
        }
        let Some(Line { unconfirmed, connection, .. }) = &mut self.line else { return };
        let is_due = |held: &Outstanding| held.ack_at.is_some_and(|at| at <= now);
        let due: Vec<u64> = subscription
            .outstanding
            .iter()
            .filter(|(_, held)| is_due(held))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in due {
            subscription.outstanding.remove(&sequence);
            let mut payload = Vec::new();
            Ack { subject: &subscription.channel, sequence }.encode(&mut payload);
            let mut bytes =
                format!("PUB {} {}\r\n", subscription.ack_inbox, payload.len()).into_bytes();
            bytes.extend_from_slice(&payload);
            bytes.extend_from_slice(b"\r\n");
            connection.send_to_server(&bytes, now);
            unconfirmed.push_back((now, slot, sequence));
            self.world.model.borrow_mut().ack_sent(subscription.group, sequence);
            self.world.count_operation();
            let (name, channel) = (&self.name, &subscription.channel);
            self.world.log(|| format!("{name}: acks {channel} {sequence} of subscription {slot}"));
        }
    }

    /// What was not acked comes again in time; of queue groups the model knows, since another member may get it.
    pub(super) fn check_redeliveries(&self, now: Now) {
        for subscription in
            self.subscriptions.values().filter(|sub| sub.is_active() && !sub.is_queue())
        {
            let calm =
                self.calm_since().after_ms(2 * subscription.ack_wait_ms + DISTURBED_SLACK_MS);
            if calm > now.mono {
                continue;
            }
            let limit_ms = subscription.ack_wait_ms + REDELIVERY_SLACK_MS;
            for (sequence, held) in &subscription.outstanding {
                let is_due = !held.is_acked && held.delivered_at.after_ms(limit_ms) < now.mono;
                let model = self.world.model.borrow();
                if is_due && !model.may_be_gone(&subscription.channel, *sequence, now.mono) {
                    drop(model);
                    self.violated(&format!(
                        "channel {}, sequence {sequence}, subscription {}: not acked and not sent again for {limit_ms} ms",
                        subscription.channel, subscription.slot
                    ));
                }
            }
        }
    }

    /// Reads all channels from their start.
    pub(super) fn audit(&mut self) {
        for channel in self.world.channels.clone() {
            if self.subscriptions.values().all(|subscription| subscription.channel != channel) {
                self.subscribe(SubscriptionKey::Plain, channel, Start::First);
            }
        }
    }
}

/// Whether a refusal is for a limit on who may come.
pub(super) fn is_limit(error: &str) -> bool {
    let limits = [RequestError::TooManyChannels, RequestError::TooManySubscriptions];
    limits.iter().any(|limit| error == limit.to_string())
}
