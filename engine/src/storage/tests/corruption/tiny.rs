//! Two stores so small that everything can be done to each of their bytes, and what they have to hold.

use super::super::verify::{Files, contents};
use super::super::*;
use crate::shard::Shard;
use crate::sim::{Chance, Faults};

pub(super) const CHANNELS: [&str; 3] = ["a", "b", "c"];
const SHARD: ShardId = ShardId(0);
/// More than the rest of its frame's first block: such a frame has two, and its header and table twice.
const LONG_BYTES: usize = 4_500;
/// A second, of the virtual clock: whatever is waited for came long before.
const WAITS_MAX: usize = 50_000;

pub(super) type Key = (String, u64);
pub(super) type Messages = BTreeMap<Key, Vec<u8>>;

/// A durable as it is shown: channel, name, last sent, waiting for an ack.
pub(super) type Durable = (String, String, u64, usize);

/// A store at rest.
pub(super) struct Tiny {
    pub files: Files,
    /// The same directory at moments before.
    pub older: Vec<Files>,
    pub published: Messages,
    pub durables: Vec<Durable>,
}

/// Its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A clean stop.
    Stopped,
    /// A kill, two seconds after the last message.
    Killed,
    /// The same in its first life: there is no checkpoint yet, and all is in one segment.
    KilledYoung,
}

impl Tiny {
    /// One life, or three, so that there are two sealed segments, two checkpoints, an active segment and one that is ready. In
    /// each life there are frames of messages, of state, of both, and one of two blocks.
    pub(super) fn new(end: End) -> Self {
        let executor = SimExecutor::new(31);
        let disk = SimDisk::new(executor.runtime(), 31);
        fast(&disk);
        let mut tiny = Self {
            files: Files::new(),
            older: Vec::new(),
            published: Messages::new(),
            durables: Vec::new(),
        };
        let lives = if end == End::KilledYoung { 1 } else { 3 };
        for nth in 0..lives {
            let life = Life::open(&executor, &disk).unwrap();
            life.pass(10);
            tiny.older.push(contents(&disk));
            life.subscribe_durably(nth);
            tiny.publish(&life, &[("a", 20), ("b", 30)]);
            tiny.publish(&life, &[("a", LONG_BYTES)]);
            tiny.older.push(contents(&disk));
            life.deliver_and_ack();
            tiny.publish(&life, &[("c", 10)]);
            tiny.publish(&life, &[("b", 25), ("b", 5)]);
            tiny.durables = life.durables();
            if nth + 1 < lives || end == End::Stopped {
                life.pass(200);
                life.stop();
            } else {
                life.pass(2_000);
                life.kill();
                executor.run_for(Duration::from_millis(10));
            }
        }
        tiny.files = contents(&disk);
        tiny
    }

    /// In one batch.
    fn publish(&mut self, life: &Life<'_>, messages: &[(&str, usize)]) {
        let mut index = Index(0);
        for (channel, size) in messages {
            let mut payload = format!("{channel} {} ", self.published.len()).into_bytes();
            payload.resize(payload.len() + size, b'.');
            let published = life.publish(channel, &payload);
            index = published.0;
            self.published.insert(((*channel).to_owned(), published.1), payload);
        }
        life.wait(index);
    }

    /// The last sequence of a channel.
    pub(super) fn last(&self, channel: &str) -> u64 {
        self.published.keys().filter(|(name, _)| name == channel).count() as u64
    }
}

/// Nothing takes long.
pub(super) fn fast(disk: &SimDisk) {
    let time_max = Duration::from_micros(1);
    disk.set_faults(Faults {
        operation_time_max: time_max,
        write_time_max: time_max,
        slow: Chance::NEVER,
        ..Faults::default()
    });
}

/// A store from its opening to its end.
pub(super) struct Life<'a> {
    executor: &'a SimExecutor,
    runtime: SimRuntime,
    pub storage: SimStorage,
}

impl<'a> Life<'a> {
    pub(super) fn open(executor: &'a SimExecutor, disk: &SimDisk) -> Result<Self, OpenError> {
        let config = StorageConfig { shard_count: Some(1), ..config() };
        let runtime = executor.group();
        let storage = executor.block_on(open(disk, &runtime, &config))?;
        Ok(Self { executor, runtime, storage })
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Shard<SimDisk>) -> T) -> T {
        self.storage.with(SHARD, work)
    }

    pub(super) fn publish(&self, channel: &str, payload: &[u8]) -> (Index, u64) {
        let published = self.with(|shard| shard.publish(channel, payload, self.runtime.now()));
        let published = published.unwrap();
        (published.index, published.sequence.0)
    }

    pub(super) fn wait(&self, index: Index) {
        for _ in 0..WAITS_MAX {
            self.storage.pump();
            assert_eq!(self.with(|shard| shard.failure()), None);
            if self.with(|shard| shard.committed()) >= index {
                return;
            }
            self.executor.run_for(Duration::from_micros(20));
        }
        panic!("a commit takes for ever");
    }

    /// So many milliseconds, with the ticks of a server.
    fn pass(&self, millis: u64) {
        for _ in 0..millis.div_ceil(10) {
            self.with(|shard| shard.tick(self.runtime.now()));
            self.storage.pump();
            self.executor.run_for(Duration::from_millis(10));
        }
    }

    fn subscribe_durably(&self, nth: usize) {
        let now = self.runtime.now();
        self.with(|shard| {
            if shard.client("me").is_none() {
                shard.open_client("me", b"connection", b"about", Ticket(2), now);
            }
            for (channel, name) in [("a", "d".to_owned()), ("b", format!("d{nth}"))] {
                let kind = SubscriptionKind::Durable { name };
                let request = subscription(channel, StartAt::First, kind);
                shard.subscribe(Subscribe { replaces_durable: true, ..request }, Ticket(3), now);
            }
        });
        self.deliver(&mut Taken::default());
    }

    /// All but the last message of each subscription.
    fn deliver_and_ack(&self) {
        let mut taken = Taken::default();
        self.deliver(&mut taken);
        let mut last = BTreeMap::new();
        for (id, sequence) in taken.sequences.drain(..) {
            if let Some(before) = last.insert(id, sequence) {
                let token = self.with(|shard| {
                    let views = CHANNELS.iter().filter_map(|name| shard.channel_view(name));
                    let mut views = views.flat_map(|(_, views)| views.map(|(view, _)| view));
                    views.find(|view| view.id == id).map(|view| view.token)
                });
                let token = token.unwrap();
                self.with(|shard| shard.ack(id, token, before, self.runtime.now()));
            }
        }
        self.pass(30);
    }

    /// Reads all channels from their first message.
    pub(super) fn read_all(&self) -> Messages {
        let now = self.runtime.now();
        self.with(|shard| {
            for channel in CHANNELS {
                if shard.channel_bounds(channel).is_some() {
                    let request = subscription(channel, StartAt::First, SubscriptionKind::Plain);
                    shard.subscribe(request, Ticket(1), now);
                }
            }
        });
        let mut taken = Taken::default();
        self.deliver(&mut taken);
        taken.messages
    }

    /// Takes answers and deliveries until nothing more comes.
    fn deliver(&self, taken: &mut Taken) {
        let mut quiet = 0;
        while quiet < 8 {
            self.storage.pump();
            self.executor.run_for(Duration::from_micros(100));
            quiet += 1;
            self.with(|shard| {
                for (_, answer) in shard.take_answers() {
                    quiet = 0;
                    if let Answer::Subscribed { id, .. } = answer {
                        shard.activate(id, self.runtime.now());
                    }
                }
                let before = taken.sequences.len();
                while shard.dispatch(self.runtime.now(), taken) == Dispatched::More {}
                if taken.sequences.len() > before {
                    quiet = 0;
                }
            });
        }
    }

    pub(super) fn durables(&self) -> Vec<Durable> {
        let mut durables = Vec::new();
        self.with(|shard| {
            for channel in CHANNELS {
                let views = shard.channel_view(channel).into_iter().flat_map(|(_, views)| views);
                for (view, _) in views {
                    if let SubscriptionKind::Durable { name } = view.kind {
                        let (sent, pending) = (view.last_sent.0, view.pending_count);
                        durables.push((channel.to_owned(), name.to_string(), sent, pending));
                    }
                }
            }
        });
        durables.sort_unstable();
        durables
    }

    pub(super) fn stop(self) {
        self.executor.block_on(self.storage.close());
        self.runtime.kill();
    }

    pub(super) fn kill(self) {
        self.runtime.kill();
    }
}

/// All deliveries.
#[derive(Default)]
struct Taken {
    messages: Messages,
    sequences: Vec<(SubscriptionId, Sequence)>,
}

impl Sink for Taken {
    fn has_room(&mut self, _: SubscriptionId, _: &Bytes) -> bool {
        true
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        self.sequences.push((delivery.subscription, delivery.sequence));
        let key = (delivery.channel.to_owned(), delivery.sequence.0);
        let payload = delivery.content.payload.to_vec();
        let old = self.messages.insert(key, payload.clone());
        assert!(old.is_none_or(|old| old == payload), "a message is the same each time");
    }
}
