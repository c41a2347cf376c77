//! One life of a store with one shard, on the simulated disk: from its opening to a stop or a kill.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::error::OpenError;
use crate::request::{
    Answer, ClientKey, Delivery, Sink, StartAt, Subscribe, SubscriptionKind, Ticket,
};
use crate::runtime::Runtime;
use crate::shard::{Dispatched, Shard};
use crate::sim::{Chance, Faults, SimDisk, SimExecutor, SimRuntime};
use crate::storage::{ChannelSlots, Storage, StorageConfig, Tuning, open_store};
use crate::types::{ChannelLimits, Index, Sequence, ShardId, SubscriptionId};

const SHARD: ShardId = ShardId(0);
/// The channels that are used.
pub(super) const CHANNELS: [&str; 4] = ["one", "two", "three", "four"];
/// The client that has all subscriptions.
const CLIENT_ID: &str = "me";
const CLIENT: ClientKey = ClientKey { home: SHARD, incarnation: 1 };
/// Two seconds: a retry on a full disk is the longest wait, and the disk is not full.
const WAITS_MAX: usize = 100_000;

/// A message, by channel and number.
pub(super) type Key = (String, u64);
/// Messages that a subscriber got.
pub(super) type Served = BTreeMap<Key, Bytes>;

/// See the module's head.
pub(super) struct Life<'a> {
    executor: &'a SimExecutor,
    runtime: SimRuntime,
    storage: SimStorage,
}

type SimStorage = Storage<SimDisk, SimRuntime>;

/// A disk on which little takes no time.
pub(super) fn new_disk(executor: &SimExecutor) -> SimDisk {
    let disk = SimDisk::new(executor.runtime(), 1);
    let time_max = Duration::from_micros(1);
    disk.set_faults(Faults {
        operation_time_max: time_max,
        write_time_max: time_max,
        slow: Chance::NEVER,
        ..Faults::default()
    });
    disk
}

/// A subscription of the client.
pub(super) fn request(channel: &str, kind: SubscriptionKind, start: StartAt) -> Subscribe {
    Subscribe {
        channel: channel.into(),
        client: CLIENT,
        client_id: CLIENT_ID.into(),
        kind,
        target: Bytes::from_static(b"inbox"),
        in_flight_max: 1_000,
        ack_wait_ms: 30_000,
        start,
        replaces_durable: true,
    }
}

impl<'a> Life<'a> {
    /// Opens the store, whose channels keep so many messages (0: all).
    ///
    /// # Errors
    /// It can't be opened.
    pub(super) fn open(
        executor: &'a SimExecutor,
        disk: &SimDisk,
        messages_max: u64,
    ) -> Result<Self, OpenError> {
        let config = StorageConfig {
            cluster_id: "test".into(),
            shard_count: Some(1),
            payload_size_bytes_max: 4 * 1024,
            channels_max: 0,
            limits: ChannelLimits { messages_max, bytes_max: 0, ..ChannelLimits::default() }.into(),
            seed: 7,
            tuning: Tuning::small(),
        };
        let runtime = executor.group();
        let opened = async {
            let info = open_store(disk, &config).await?;
            let shards: Vec<_> = (0..info.shard_count).map(ShardId).collect();
            let slots = ChannelSlots::new(config.channels_max);
            Storage::open(disk.clone(), runtime.clone(), &info, &config, slots, &shards).await
        };
        let storage = executor.block_on(opened)?;
        Ok(Self { executor, runtime, storage })
    }

    /// The open store.
    pub(super) fn storage(&self) -> &SimStorage {
        &self.storage
    }

    /// The clock.
    pub(super) fn runtime(&self) -> &SimRuntime {
        &self.runtime
    }

    /// Works on the shard.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Shard<SimDisk>) -> T) -> T {
        self.storage.with(SHARD, work)
    }

    /// Makes the client that the subscriptions are of, if it isn't there.
    pub(super) fn register_client(&self) {
        self.with(|shard| {
            if shard.client(CLIENT_ID).is_none() {
                let now = self.runtime.now();
                shard.open_client(CLIENT_ID, b"connection", b"about", Ticket(2), now);
            }
        });
    }

    /// Waits until `index` is committed, or never will be.
    pub(super) fn wait(&self, index: Index) {
        for _ in 0..WAITS_MAX {
            self.storage.pump();
            if self.with(|shard| shard.committed() >= index || shard.failure().is_some()) {
                return;
            }
            self.executor.run_for(Duration::from_micros(20));
        }
        panic!("a commit takes for ever");
    }

    /// Lets time pass, with the ticks a server has.
    pub(super) fn pass(&self, duration: Duration) {
        const TICK: Duration = Duration::from_millis(10);
        let mut left = duration;
        loop {
            self.with(|shard| shard.tick(self.runtime.now()));
            self.storage.pump();
            self.executor.run_for(left.min(TICK));
            if left <= TICK {
                return;
            }
            left -= TICK;
        }
    }

    /// Reads every channel from its start, until nothing more comes, besides other subscriptions of the same channels.
    pub(super) fn read_all(&self, others: &[(&str, StartAt)]) -> Served {
        let mut inbox = Inbox::default();
        let all = CHANNELS.map(|channel| (channel, StartAt::First));
        self.with(|shard| {
            for (channel, start) in all.iter().chain(others) {
                if shard.channel_bounds(channel).is_some() {
                    let request = request(channel, SubscriptionKind::Plain, *start);
                    shard.subscribe(request, Ticket(1), self.runtime.now());
                }
            }
        });
        self.deliver(&mut inbox);
        inbox.served
    }

    /// Takes answers and deliveries until nothing more comes.
    pub(super) fn deliver(&self, inbox: &mut Inbox) {
        let mut quiet = 0;
        while quiet < 20 {
            self.storage.pump();
            self.executor.run_for(Duration::from_micros(100));
            quiet += 1;
            self.with(|shard| {
                for (ticket, answer) in shard.take_answers() {
                    quiet = 0;
                    if let Answer::Subscribed { id, token } = answer {
                        inbox.tokens.insert(id, token);
                        shard.activate(id, self.runtime.now());
                    }
                    inbox.answers.push((ticket, answer));
                }
                let before = inbox.count;
                while shard.dispatch(self.runtime.now(), inbox) == Dispatched::More {}
                if inbox.count > before {
                    quiet = 0;
                }
            });
        }
    }

    /// A clean stop.
    pub(super) fn stop(self) {
        self.executor.block_on(self.storage.close());
        self.runtime.kill();
    }

    /// The process ends.
    pub(super) fn kill(self) {
        self.runtime.kill();
    }
}

/// Takes all deliveries.
#[derive(Default)]
pub(super) struct Inbox {
    pub served: Served,
    pub last: Vec<(SubscriptionId, Sequence)>,
    pub tokens: BTreeMap<SubscriptionId, u64>,
    pub answers: Vec<(Ticket, Answer)>,
    count: usize,
}

impl Sink for Inbox {
    fn has_room(&mut self, _: SubscriptionId, _: &Bytes) -> bool {
        true
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        self.count += 1;
        self.last.push((delivery.subscription, delivery.sequence));
        let key = (delivery.channel.to_owned(), delivery.sequence.0);
        let payload = Bytes::copy_from_slice(delivery.content.payload);
        if let Some(old) = self.served.insert(key, payload.clone()) {
            assert_eq!(old, payload, "a message is the same each time");
        }
    }
}
