//! A store that is filled, left alone, stopped and looked at.

use super::*;

const CHANNELS: u64 = 12;

/// What was published, by channel; a sequence is the place + 1.
pub(super) type Published = BTreeMap<String, Vec<Vec<u8>>>;

/// A simulated disk with a store on it, and what the store has to hold.
pub(super) struct World {
    pub executor: SimExecutor,
    pub disk: SimDisk,
    pub rng: fastrand::Rng,
    pub published: Published,
    pub config: StorageConfig,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(executor.runtime(), seed);
        let rng = fastrand::Rng::with_seed(seed);
        Self { executor, disk, rng, published: Published::new(), config: config() }
    }

    /// One whose store has so many messages.
    pub(super) fn filled(seed: u64, count: u64) -> (Self, SimRuntime, SimStorage) {
        let mut world = Self::new(seed);
        let (group, storage) = world.open();
        world.publish(&storage, &group, count);
        (world, group, storage)
    }

    pub(super) fn open(&self) -> (SimRuntime, SimStorage) {
        let group = self.executor.group();
        let storage = self.executor.block_on(open(&self.disk, &group, &self.config)).unwrap();
        (group, storage)
    }

    /// Publishes to all channels in turn, a few messages a commit: scattered as much as can be.
    pub(super) fn publish(&mut self, storage: &SimStorage, runtime: &SimRuntime, count: u64) {
        let mut last = BTreeMap::new();
        for at in 0..count {
            let channel = format!("c{}", at % CHANNELS);
            let payload = vec![self.rng.u8(..); self.rng.usize(100..300)];
            let (shard, index, sequence) = publish(storage, runtime, &channel, &payload);
            let known = self.published.entry(channel).or_default();
            known.push(payload);
            assert_eq!(sequence.0, known.len() as u64);
            last.insert(shard, index);
            if at % 7 == 6 || at + 1 == count {
                for (shard, index) in std::mem::take(&mut last) {
                    self.executor.block_on(committed(storage, runtime, shard, index));
                }
            }
        }
    }

    /// Time passes without any load.
    pub(super) fn idle(&self, storage: &SimStorage, runtime: &SimRuntime, millis: u64) {
        self.executor.block_on(async {
            for _ in 0..millis / 5 {
                for shard in [ShardId(0), ShardId(1)] {
                    storage.with(shard, |s| s.tick(runtime.now()));
                }
                storage.pump();
                runtime.sleep(Duration::from_millis(5)).await;
            }
        });
    }

    /// All messages from `first` on of each channel are there, and right.
    pub(super) fn check(&self, storage: &SimStorage, runtime: &SimRuntime) {
        for (channel, known) in &self.published {
            let read = read_from(storage, runtime, channel, StartAt::First);
            let inbox = self.executor.block_on(read);
            let got: Vec<_> = inbox.messages.into_iter().map(|(_, payload, _)| payload).collect();
            assert!(got == *known, "{channel}: {} of {}", got.len(), known.len());
        }
    }

    pub(super) fn stop(&self, group: &SimRuntime, storage: SimStorage) {
        self.executor.block_on(storage.close());
        group.kill();
    }
}
