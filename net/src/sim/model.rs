//! What the outside may expect: all that was published, acked, seen and subscribed to, and the checks on it.
//!
//! The model never guesses what the server did with a request whose answer was lost: it then expects less.

mod admission;
mod audit;
mod damage;
mod finish;
mod group;
mod redelivery;

use std::collections::{BTreeMap, BTreeSet};

use weirlog_engine::types::{Monotonic, Timestamp};

use super::limits::Limits;
use crate::stan::wire::MsgProto;
use admission::Admission;
use damage::Losses;
pub(super) use group::{Group, Left, Start, SubscriptionKey};
pub(super) use redelivery::{DISTURBED_SLACK_MS, REDELIVERY_SLACK_MS};

/// Names a [`Group`].
pub(super) type GroupIndex = usize;

/// One published message.
#[derive(Debug, Clone)]
pub(super) struct Publish {
    pub(super) channel: String,
    /// The publisher's connection.
    pub(super) line: u64,
    /// Its place among all messages of the run: of one connection, the order of sending.
    pub(super) order: u64,
    pub(super) sent_at: Monotonic,
    pub(super) acked_at: Option<Monotonic>,
    /// The server says that it is not stored and never will be.
    pub(super) is_refused: bool,
}

/// A message at its sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) payload: String,
    pub(super) timestamp: Timestamp,
}

/// The life of one server process.
#[derive(Debug, Clone, Copy)]
struct Life {
    ended: Option<(Monotonic, bool)>,
}

/// What happened so far. See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    publishes: BTreeMap<String, Publish>,
    channels: BTreeMap<String, BTreeMap<u64, Seen>>,
    lives: Vec<Life>,
    groups: Vec<Group>,
    names: BTreeMap<SubscriptionKey, GroupIndex>,
    /// Durables whose removal was never answered: the next one of the name may be the old one.
    doubted: BTreeSet<SubscriptionKey>,
    generations: BTreeMap<SubscriptionKey, u64>,
    limits: Limits,
    admission: Admission,
    /// What was published to each channel so far.
    published_counts: BTreeMap<String, u64>,
    /// What the reader at the end found.
    audited: BTreeMap<String, BTreeMap<u64, String>>,
    /// Acks that a server had for this long before it was killed are on disk.
    commit_after_ms: u64,
    /// When things took longer than they should, from and to.
    disturbances: Vec<(Monotonic, Monotonic)>,
    /// How far the wall clock jumped forth so far, where the age of messages follows it.
    clock_steps_ms: u64,
    /// Whether the wall clock has jumped so far that the age of messages does not follow it.
    is_clock_doubted: bool,
    losses: Losses,
    violation: Option<String>,
    pub(super) acked_count: u64,
    pub(super) delivered_count: u64,
}

/// A delivery as a client got it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) message: &'a MsgProto<'a>,
    pub(super) group: GroupIndex,
    pub(super) life: u64,
    pub(super) client: &'a str,
}

impl Model {
    /// A model of a server with these limits, on a disk that has an ack in `commit_after_ms` at the latest.
    pub(super) fn new(limits: Limits, commit_after_ms: u64) -> Self {
        Self { limits, commit_after_ms, ..Self::default() }
    }

    /// A promise was broken. The first one counts.
    pub(super) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(super) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    /// A server process begins; returns its number.
    pub(super) fn life_begins(&mut self) -> u64 {
        self.lives.push(Life { ended: None });
        self.life()
    }

    /// It ends, killed or after a clean stop.
    pub(super) fn life_ends(&mut self, now: Monotonic, is_clean: bool) {
        if let Some(life) = self.lives.last_mut() {
            life.ended.get_or_insert((now, is_clean));
        }
    }

    /// The number of the present one, or of the last.
    pub(super) fn life(&self) -> u64 {
        self.lives.len() as u64
    }

    /// From `from` to `to` things take longer.
    pub(super) fn disturbed(&mut self, from: Monotonic, to: Monotonic) {
        self.disturbances.push((from, to));
    }

    /// What was certain at `at` in `life` is so for ever.
    fn is_committed(&self, (life, at): (u64, Monotonic)) -> bool {
        let sure = at.after_ms(self.commit_after_ms);
        if self.disturbances.iter().any(|(from, to)| *from <= sure && at <= *to) {
            return false;
        }
        let index = usize::try_from(life).unwrap_or(usize::MAX).wrapping_sub(1);
        let Some(life) = self.lives.get(index) else { return true };
        match life.ended {
            None | Some((_, true)) => true,
            Some((ended, false)) => ended >= sure,
        }
    }

    /// A client publishes.
    pub(super) fn published(&mut self, payload: String, channel: &str, line: u64, now: Monotonic) {
        let order = self.publishes.len() as u64;
        *self.published_counts.entry(channel.to_owned()).or_default() += 1;
        self.admission.channel_asked(channel);
        let publish = Publish {
            channel: channel.to_owned(),
            line,
            order,
            sent_at: now,
            acked_at: None,
            is_refused: false,
        };
        let old = self.publishes.insert(payload, publish);
        assert!(old.is_none(), "payloads are unique");
    }

    /// The server says that a message is stored.
    pub(super) fn acked(&mut self, payload: &str, now: Monotonic) {
        let publish =
            self.publishes.get_mut(payload).expect("only what was published is waited for");
        if publish.acked_at.is_some() {
            self.violated(format!("{payload} was acked twice"));
            return;
        }
        publish.acked_at = Some(now);
        self.acked_count += 1;
        let (admission, limits) = (&mut self.admission, &self.limits);
        if let Some(what) = admission.channel_sure(&publish.channel, limits, now) {
            self.violated(what);
        }
    }

    /// Checks a message, from wherever it came, against all that is known of its sequence.
    pub(super) fn seen(&mut self, message: &MsgProto<'_>, channel: &str, client: &str) {
        self.delivered_count += 1;
        let payload = String::from_utf8_lossy(message.data).into_owned();
        let sequence = message.sequence;
        let place = format!("channel {channel}, sequence {sequence}, client {client}");
        if message.subject != channel {
            self.violated(format!("{place}: it names channel {:?}", message.subject));
        }
        match self.publishes.get(&payload) {
            None => self.violated(format!("{place}: a ghost, {payload:?} was never published")),
            Some(publish) if publish.channel != channel => {
                let other = publish.channel.clone();
                self.violated(format!("{place}: {payload:?} was published to {other}"));
            }
            Some(publish) if publish.is_refused => {
                self.violated(format!("{place}: {payload:?} was refused, and is stored"));
            }
            Some(_) => {}
        }
        let seen = Seen { payload, timestamp: Timestamp(message.timestamp) };
        let known = self.channels.entry(channel.to_owned()).or_default();
        match known.get(&sequence) {
            Some(known) if *known != seen => {
                let text = format!("{place}: it was {known:?} and is now {seen:?}");
                self.violated(text);
            }
            Some(_) => {}
            None => {
                known.insert(sequence, seen);
            }
        }
    }

    /// Checks a delivery to a subscription.
    pub(super) fn delivered(&mut self, received: &Received<'_>, now: Monotonic) {
        let Received { message, group: index, life, client, .. } = *received;
        let channel = self.groups[index].channel.clone();
        self.seen(message, &channel, client);
        let sequence = message.sequence;
        let group = &mut self.groups[index];
        group.delivered.insert(sequence);
        group.note_delivery(sequence, life, now);
        let is_again = !message.is_redelivered && !group.new_seen.insert((life, sequence));
        let certain = group.acks.get(&sequence).copied().flatten();
        let place =
            format!("channel {channel}, sequence {sequence}, client {client}, {}", group.title());
        if group.is_retired {
            return;
        }
        if is_again {
            self.violated(format!("{place}: delivered as new twice in one life of the server"));
        }
        // What was sent in the ack's life or before may have been on the way to a slow reader since before the ack.
        if let Some(ack) = certain
            && ack.0 < life
            && self.is_committed(ack)
        {
            let text =
                format!("{place}: delivered again though its ack was committed in life {}", ack.0);
            self.violated(text);
        }
    }

    /// Whether a subscriber has acked a message before, in whatever life.
    pub(super) fn is_acked(&self, group: GroupIndex, sequence: u64) -> bool {
        self.groups[group].acks.contains_key(&sequence)
    }

    /// A subscriber acks.
    pub(super) fn ack_sent(&mut self, group: GroupIndex, sequence: u64) {
        self.groups[group].acks.entry(sequence).or_insert(None);
        self.groups[group].unacked.remove(&sequence);
    }

    /// The server has applied an ack.
    pub(super) fn ack_confirmed(
        &mut self,
        group: GroupIndex,
        sequence: u64,
        life: u64,
        now: Monotonic,
    ) {
        self.groups[group].acks.entry(sequence).or_insert(None).get_or_insert((life, now));
    }
}
