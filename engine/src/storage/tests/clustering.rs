//! Segments rewritten by channel, while the shard runs, at every moment of it crashed, and with damage.

use super::*;
use crate::log::segment::{segment_path, shard_directory};
use crate::types::SegmentNumber;

const CHANNELS: u64 = 12;

/// What was published, by channel; a sequence is the place + 1.
type Published = BTreeMap<String, Vec<Vec<u8>>>;

struct World {
    executor: SimExecutor,
    disk: SimDisk,
    rng: fastrand::Rng,
    published: Published,
    config: StorageConfig,
}

impl World {
    fn new(seed: u64) -> Self {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(executor.runtime(), seed);
        let rng = fastrand::Rng::with_seed(seed);
        Self { executor, disk, rng, published: Published::new(), config: config() }
    }

    /// One whose store has so many messages.
    fn filled(seed: u64, count: u64) -> (Self, SimRuntime, SimStorage) {
        let mut world = Self::new(seed);
        let (group, storage) = world.open();
        world.publish(&storage, &group, count);
        (world, group, storage)
    }

    fn open(&self) -> (SimRuntime, SimStorage) {
        let group = self.executor.group();
        let storage = self.executor.block_on(open(&self.disk, &group, &self.config)).unwrap();
        (group, storage)
    }

    /// Publishes to all channels in turn, a few messages a commit: scattered as much as can be.
    fn publish(&mut self, storage: &SimStorage, runtime: &SimRuntime, count: u64) {
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
    fn idle(&self, storage: &SimStorage, runtime: &SimRuntime, millis: u64) {
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
    fn check(&self, storage: &SimStorage, runtime: &SimRuntime) {
        for (channel, known) in &self.published {
            let read = read_from(storage, runtime, channel, StartAt::First);
            let inbox = self.executor.block_on(read);
            let got: Vec<_> = inbox.messages.into_iter().map(|(_, payload, _)| payload).collect();
            assert!(got == *known, "{channel}: {} of {}", got.len(), known.len());
        }
    }

    fn stop(&self, group: &SimRuntime, storage: SimStorage) {
        self.executor.block_on(storage.close());
        group.kill();
    }
}

/// What the segments take.
fn segment_bytes(storage: &SimStorage) -> u64 {
    [ShardId(0), ShardId(1)]
        .map(|shard| storage.with(shard, |s| s.totals().segment_bytes))
        .iter()
        .sum()
}

fn clustered(storage: &SimStorage) -> usize {
    [ShardId(0), ShardId(1)]
        .map(|shard| storage.with(shard, |s| s.totals().clustered_segments))
        .iter()
        .sum()
}

#[test]
fn scattered_messages_come_together_and_stay_after_a_restart() {
    let (mut world, group, storage) = World::filled(1, 3_000);
    world.idle(&storage, &group, 10_000);
    let count = clustered(&storage);
    assert!(count > 0);
    world.check(&storage, &group);
    world.stop(&group, storage);
    let (group, storage) = world.open();
    assert_eq!(storage.report().damage, []);
    assert_eq!(clustered(&storage), count);
    world.check(&storage, &group);
    // And on: what is clustered is joined with what comes.
    world.publish(&storage, &group, 3_000);
    world.idle(&storage, &group, 10_000);
    world.check(&storage, &group);
    assert_eq!(storage.with(ShardId(0), |s| s.take_damage()), []);
}

/// Small messages in commits of their own take a block each, which the rewritten segment gives back.
#[test]
fn padding_is_given_back() {
    let (world, group, storage) = World::filled(2, 3_000);
    let before = segment_bytes(&storage);
    world.idle(&storage, &group, 20_000);
    let after = segment_bytes(&storage);
    assert!(after < before / 2, "{before} -> {after}");
}

/// What limits removed from the middle of segments is given back, and nothing else goes.
#[test]
fn what_limits_removed_is_given_back() {
    let (mut world, group, storage) = World::filled(3, 4_000);
    world.idle(&storage, &group, 10_000);
    let before = segment_bytes(&storage);
    let limits = ChannelLimits { messages_max: 20, bytes_max: 0, ..ChannelLimits::default() };
    world.config.limits = limits.into();
    for shard in [ShardId(0), ShardId(1)] {
        storage.with(shard, |s| s.set_limits(limits.into(), group.now()));
    }
    world.idle(&storage, &group, 20_000);
    let after = segment_bytes(&storage);
    assert!(after < before / 2, "{before} -> {after}");
    for (channel, known) in &world.published {
        let inbox = world.executor.block_on(read_from(&storage, &group, channel, StartAt::First));
        let expected = &known[known.len() - 20..];
        let got: Vec<_> = inbox.messages.into_iter().map(|(_, payload, _)| payload).collect();
        assert!(got == expected, "{channel}");
    }
}

/// A crash at any moment of rewriting loses nothing, again and again.
#[test]
fn a_crash_at_any_moment_of_it_loses_nothing() {
    let mut clustered_count = 0;
    for seed in 0..25 {
        let mut world = World::new(seed);
        for _ in 0..4 {
            let (group, storage) = world.open();
            assert_eq!(storage.report().damage, [], "seed {seed}");
            world.check(&storage, &group);
            let count = world.rng.u64(200..1_500);
            world.publish(&storage, &group, count);
            let millis = world.rng.u64(1..6_000);
            world.idle(&storage, &group, millis);
            world.executor.run_for(Duration::from_micros(world.rng.u64(..3_000)));
            clustered_count += clustered(&storage);
            group.kill();
            drop(storage);
            world.disk = world.disk.crash(&mut world.rng);
        }
        let (group, storage) = world.open();
        world.check(&storage, &group);
        group.kill();
    }
    assert!(clustered_count > 20, "{clustered_count}");
}

/// The first frame stands in for a damaged header; what the segment stands for, the checkpoint knows.
#[test]
fn a_damaged_header_of_a_clustered_segment_costs_nothing() {
    let (world, group, storage) = World::filled(5, 3_000);
    world.idle(&storage, &group, 20_000);
    let numbers =
        [ShardId(0), ShardId(1)].map(|shard| storage.with(shard, |s| s.clustered_numbers()));
    world.stop(&group, storage);
    let mut flipped = 0;
    for (shard, numbers) in [ShardId(0), ShardId(1)].into_iter().zip(numbers) {
        for number in numbers {
            world.disk.flip_bit(&segment_path(shard, number), 20, 3);
            flipped += 1;
        }
    }
    assert!(flipped > 0);
    let (group, storage) = world.open();
    assert_eq!(storage.report().damage.len(), flipped, "each is reported");
    world.check(&storage, &group);
}

/// A damaged segment is kept as it is: no rewriting makes damage look right, and all else of it is served.
#[test]
fn a_damaged_segment_is_not_rewritten() {
    let (world, group, storage) = World::filled(6, 3_000);
    let first = segment_path(ShardId(0), SegmentNumber(1));
    // In the records of the frame behind the header, whose table is repeated by the next one.
    for block in 3..6 {
        world.disk.flip_bit(&first, block * 4096 + 1_000, 3);
    }
    world.idle(&storage, &group, 20_000);
    let damage = storage.with(ShardId(0), |s| s.take_damage());
    assert!(damage.iter().any(|damage| damage.segment == SegmentNumber(1)), "{damage:?}");
    world.stop(&group, storage);
    let (group, storage) = world.open();
    let names = world.executor.block_on(world.disk.list(&shard_directory(ShardId(0)))).unwrap();
    assert!(names.iter().any(|entry| first.ends_with(&entry.name)));
    let mut missing = 0;
    for (channel, known) in &world.published {
        let inbox = world.executor.block_on(read_from(&storage, &group, channel, StartAt::First));
        for (sequence, payload, _) in &inbox.messages {
            assert!(known[usize::try_from(*sequence).unwrap() - 1] == *payload);
        }
        missing += known.len() - inbox.messages.len();
    }
    assert!((1..100).contains(&missing), "{missing}");
}
