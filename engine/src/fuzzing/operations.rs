//! A store is used, ended and opened again, in any order; a model beside it knows what it promised.
//!
//! What must hold after each opening: what was committed, and what was ever served, is there with its bytes under its
//! number; numbers are dense; limits removed what they must and nothing else; a durable gets what it has not acked, and
//! nothing whose ack was on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;

use super::Choices;
use super::life::{CHANNELS, Inbox, Key, Life, new_disk, request};
use crate::request::{Answer, StartAt, SubscriptionEnd, SubscriptionKind, SubscriptionRef, Ticket};
use crate::runtime::Runtime;
use crate::sim::{SimDisk, SimExecutor};
use crate::types::{Index, Sequence, SubscriptionId};

const OPERATIONS_MAX: usize = 200;
const LIVES_MAX: usize = 12;
const PAYLOAD_BYTES_MAX: usize = 4_000;
/// What is asked is answered, and acks are on disk, within this.
const SETTLED: Duration = Duration::from_secs(1);
const DURABLE: Ticket = Ticket(10);
const ENDED: Ticket = Ticket(11);

/// What is known of a channel.
#[derive(Default)]
struct Channel {
    published: BTreeMap<u64, Bytes>,
    /// The last number that is on disk for sure.
    committed: u64,
    durable: Durable,
}

/// What is known of a channel's durable.
#[derive(Default)]
struct Durable {
    is_there: bool,
    /// While it is active: its number, and the token that its acks name.
    active: Option<(SubscriptionId, u64)>,
    /// Delivered since it was taken up, and not acked.
    pending: BTreeSet<u64>,
    /// Acked; whether the ack is on disk for sure.
    acked: BTreeMap<u64, bool>,
}

impl Channel {
    fn last(&self) -> u64 {
        self.published.last_key_value().map_or(0, |(last, _)| *last)
    }
}

impl Durable {
    /// All its acks are on disk.
    fn settle(&mut self) {
        self.acked.values_mut().for_each(|is_on_disk| *is_on_disk = true);
    }
}

struct Model {
    /// A channel keeps so many.
    kept_max: u64,
    channels: [Channel; CHANNELS.len()],
    /// What waits for its commit.
    waiting: Vec<(Index, usize, u64)>,
}

/// See the module's head.
pub(super) fn lives(choices: &mut Choices<'_>) {
    let messages_max = [0, 1, 5, 20][choices.below(4)];
    let executor = SimExecutor::new(1);
    let mut disk = new_disk(&executor);
    let kept_max = if messages_max == 0 { u64::MAX } else { messages_max };
    let mut model = Model { kept_max, channels: Default::default(), waiting: Vec::new() };
    for life in 0..LIVES_MAX {
        let opened = Life::open(&executor, &disk, messages_max).expect("the disk is fine");
        assert_eq!(opened.storage().report().damage, []);
        if life == 0 {
            opened.register_client();
            opened.wait(opened.with(|shard| shard.open_index()));
        }
        model.check(&opened);
        let end = model.live(&opened, choices);
        assert_eq!(opened.with(|shard| shard.take_damage()), []);
        model.end(&opened, end);
        disk = close(opened, end, disk);
        if choices.is_empty() && life > 0 {
            break;
        }
    }
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
    /// What was not durable is drawn from this.
    Power(u64),
}

fn close(opened: Life<'_>, end: End, disk: SimDisk) -> SimDisk {
    match end {
        End::Stop => opened.stop(),
        End::Kill => opened.kill(),
        End::Power(seed) => {
            opened.kill();
            return disk.crash(&mut Rng::with_seed(seed));
        }
    }
    disk
}

impl Model {
    fn live(&mut self, life: &Life<'_>, choices: &mut Choices<'_>) -> End {
        for _ in 0..OPERATIONS_MAX {
            if choices.is_empty() {
                break;
            }
            let kind = choices.byte() % 16;
            let at = choices.below(CHANNELS.len());
            match kind {
                0..5 => self.publish(life, at, choices.below(PAYLOAD_BYTES_MAX)),
                5 => {
                    let index = self.waiting.last().map_or(Index(0), |waiting| waiting.0);
                    life.wait(index);
                }
                6 => life.pass(Duration::from_micros(choices.below(1 << 16) as u64)),
                7 => self.settle(life),
                8 => self.take_up(life, at),
                9 => self.deliver(life, Inbox::default()),
                10 | 11 => self.ack(life, at, choices.byte()),
                12 => self.end_durable(life, at, SubscriptionEnd::Close),
                13 => self.end_durable(life, at, SubscriptionEnd::Remove),
                14 => return End::Kill,
                _ if choices.byte() % 8 == 0 => return End::Stop,
                _ => return End::Power(choices.below(1 << 16) as u64),
            }
            self.hear(life);
        }
        End::Power(0)
    }

    fn publish(&mut self, life: &Life<'_>, at: usize, size: usize) {
        let channel = &mut self.channels[at];
        let mut payload = format!("{} ", channel.published.len()).into_bytes();
        payload.resize(payload.len() + size, b'.');
        let now = life.runtime().now();
        let published = life.with(|shard| shard.publish(CHANNELS[at], &payload, now));
        let published = published.expect("the disk is fine");
        let sequence = published.sequence.0;
        assert_eq!(sequence, channel.last() + 1, "numbers are dense");
        channel.published.insert(sequence, Bytes::from(payload));
        self.waiting.push((published.index, at, sequence));
        life.storage().pump();
    }

    /// Notes what has been committed.
    fn hear(&mut self, life: &Life<'_>) {
        let committed = life.with(|shard| shard.committed());
        let Self { waiting, channels, .. } = self;
        waiting.retain(|(index, at, sequence)| {
            if *index <= committed {
                channels[*at].committed = channels[*at].committed.max(*sequence);
            }
            *index > committed
        });
    }

    /// Waits until all that was asked for is on disk.
    fn settle(&mut self, life: &Life<'_>) {
        life.pass(SETTLED);
        self.hear(life);
        assert!(self.waiting.is_empty(), "{:?} is not committed within a second", self.waiting);
        for channel in &mut self.channels {
            channel.durable.settle();
        }
    }

    /// Makes the durable, or resumes it.
    fn take_up(&mut self, life: &Life<'_>, at: usize) {
        self.forget_active(at);
        let durable = SubscriptionKind::Durable { name: "durable".into() };
        let asked = request(CHANNELS[at], durable, StartAt::First);
        life.with(|shard| shard.subscribe(asked, DURABLE, life.runtime().now()));
        let mut inbox = Inbox::default();
        life.deliver(&mut inbox);
        let answer = inbox.answers.iter().find(|(ticket, _)| *ticket == DURABLE);
        let Some((_, Answer::Subscribed { id, token })) = answer else {
            panic!("no durable: {answer:?}");
        };
        let durable = &mut self.channels[at].durable;
        durable.is_there = true;
        durable.active = Some((*id, *token));
        self.deliver(life, inbox);
    }

    fn deliver(&mut self, life: &Life<'_>, mut inbox: Inbox) {
        life.deliver(&mut inbox);
        self.hear(life);
        self.check_served(&inbox);
        for (id, Sequence(sequence)) in inbox.last {
            let is_it = |channel: &&mut Channel| {
                channel.durable.active.is_some_and(|(active, _)| active == id)
            };
            // The others are those that read all, and those that have ended.
            let Some(channel) = self.channels.iter_mut().find(is_it) else { continue };
            assert!(sequence <= channel.committed, "{sequence} is not committed");
            assert!(!channel.durable.acked.contains_key(&sequence), "{sequence} was acked");
            channel.durable.pending.insert(sequence);
        }
    }

    fn check_served(&self, inbox: &Inbox) {
        for ((name, sequence), payload) in &inbox.served {
            let at = CHANNELS.iter().position(|channel| channel == name).expect("one of them");
            let known = self.channels[at].published.get(sequence);
            assert_eq!(known, Some(payload), "{name} {sequence} was published as this");
        }
    }

    fn ack(&mut self, life: &Life<'_>, at: usize, choice: u8) {
        let durable = &mut self.channels[at].durable;
        let Some((id, token)) = durable.active else { return };
        let nth = usize::from(choice) % durable.pending.len().max(1);
        let Some(sequence) = durable.pending.iter().nth(nth).copied() else { return };
        durable.pending.remove(&sequence);
        durable.acked.insert(sequence, false);
        life.with(|shard| shard.ack(id, token, Sequence(sequence), life.runtime().now()));
    }

    fn end_durable(&mut self, life: &Life<'_>, at: usize, how: SubscriptionEnd) {
        let Some((id, token)) = self.channels[at].durable.active else { return };
        self.forget_active(at);
        let durable = SubscriptionRef::Id(id, token);
        let client = request(CHANNELS[at], SubscriptionKind::Plain, StartAt::First).client;
        let now = life.runtime().now();
        life.with(|shard| shard.end_subscription(CHANNELS[at], &durable, client, how, ENDED, now));
        let mut inbox = Inbox::default();
        life.deliver(&mut inbox);
        assert!(inbox.answers.contains(&(ENDED, Answer::Done)), "{:?}", inbox.answers);
        if how == SubscriptionEnd::Remove {
            self.channels[at].durable = Durable::default();
        } else {
            // Its position is on disk with the answer.
            self.channels[at].durable.settle();
        }
        self.deliver(life, inbox);
    }

    fn forget_active(&mut self, at: usize) {
        let durable = &mut self.channels[at].durable;
        durable.active = None;
        durable.pending.clear();
    }

    /// The life is over. Whoever waited for a commit does not know.
    fn end(&mut self, life: &Life<'_>, end: End) {
        self.hear(life);
        if end == End::Stop {
            for channel in &mut self.channels {
                channel.committed = channel.last();
                channel.durable.settle();
            }
        }
        self.waiting.clear();
        for at in 0..CHANNELS.len() {
            self.forget_active(at);
        }
    }

    /// What a new life has.
    fn check(&mut self, life: &Life<'_>) {
        let served = life.read_all(&[]);
        for (at, name) in CHANNELS.iter().enumerate() {
            let of = |sequence: u64| -> Key { ((*name).to_owned(), sequence) };
            let (first, last) = {
                let mut found = served.range(of(0)..=of(u64::MAX)).map(|(key, _)| key.1);
                let first = found.next();
                (first.unwrap_or(1), found.last().or(first).unwrap_or(0))
            };
            let channel = &mut self.channels[at];
            for (nth, (key, payload)) in served.range(of(0)..=of(u64::MAX)).enumerate() {
                assert_eq!(key.1, first + nth as u64, "numbers are dense");
                let known = channel.published.get(&key.1);
                assert_eq!(known, Some(payload), "{key:?} was published as this");
            }
            assert!(last >= channel.committed, "{name} {} was committed", channel.committed);
            assert_eq!(last + 1 - first, last.min(self.kept_max), "{name} has {first} to {last}");
            // The numbers behind are given again.
            channel.published.retain(|sequence, _| *sequence <= last);
            channel.committed = last;
        }
        for at in 0..CHANNELS.len() {
            self.check_durable(life, at);
        }
    }

    /// A durable gets what is there and it has not acked.
    fn check_durable(&mut self, life: &Life<'_>, at: usize) {
        if !self.channels[at].durable.is_there {
            return;
        }
        let durable = &mut self.channels[at].durable;
        let unsure: Vec<u64> = durable
            .acked
            .iter()
            .filter(|(_, is_on_disk)| !**is_on_disk)
            .map(|ack| *ack.0)
            .collect();
        // An ack that was not on disk may be forgotten.
        durable.acked.retain(|_, is_on_disk| *is_on_disk);
        self.take_up(life, at);
        let channel = &mut self.channels[at];
        let first = channel.committed - channel.committed.min(self.kept_max) + 1;
        for sequence in first..=channel.committed {
            let Durable { pending, acked, .. } = &mut channel.durable;
            if !pending.contains(&sequence) && unsure.contains(&sequence) {
                acked.insert(sequence, true);
            }
            let (is_pending, is_acked) =
                (pending.contains(&sequence), acked.contains_key(&sequence));
            assert!(is_pending != is_acked, "{} {sequence}: {is_pending}", CHANNELS[at]);
        }
        self.end_durable(life, at, SubscriptionEnd::Close);
    }
}
