//! A log whose segments are used again and again, ended at any moment by a kill or by power failing: what was committed
//! is there, what was served stays, and nothing counts as damaged.

use super::*;
use crate::disk::BLOCK_SIZE_BYTES;
use crate::format::blocks::{Sealed, SegmentHeader, Superblock};
use crate::placement::home_of_client;
use crate::types::Term;

const MESSAGES_MAX: u64 = 10;

/// A disk through its lives, and what is known of its channels.
struct Lives {
    executor: SimExecutor,
    disk: SimDisk,
    rng: fastrand::Rng,
    seed: u64,
    config: StorageConfig,
    /// What was published, by channel and sequence.
    published: BTreeMap<(String, u64), Vec<u8>>,
    /// The last committed sequence of each channel.
    committed: BTreeMap<String, u64>,
}

impl Lives {
    fn new(seed: u64) -> Self {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(executor.runtime(), seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let limits = ChannelLimits { messages_max: MESSAGES_MAX, ..ChannelLimits::default() };
        // With rare checkpoints too, and without any.
        let tail_bytes_max = [1 << 20, 16 << 20, 1 << 30][rng.usize(..3)];
        let tuning = Tuning { tail_bytes_max, ..Tuning::small() };
        let config = StorageConfig { limits: limits.into(), tuning, ..config() };
        let (published, committed) = (BTreeMap::new(), BTreeMap::new());
        Self { executor, disk, rng, seed, config, published, committed }
    }

    /// A process with the store open.
    fn open(&self, config: &StorageConfig) -> (SimRuntime, Storage<SimDisk, SimRuntime>) {
        let group = self.executor.group();
        let storage = self.executor.block_on(open(&self.disk, &group, config)).unwrap();
        (group, storage)
    }

    /// Publishes for a while, and ends at some moment: by a kill, or by power failing.
    fn live(&mut self) {
        let (group, storage) = self.open(&self.config);
        for _ in 0..self.rng.u32(1..60) {
            let mut last = Vec::new();
            for _ in 0..self.rng.u32(1..8) {
                let channel = format!("c{}", self.rng.u32(..3));
                let payload = vec![self.rng.u8(..); self.rng.usize(2_000..6_000)];
                let (shard, index, sequence) = publish(&storage, &group, &channel, &payload);
                self.published.insert((channel.clone(), sequence.0), payload);
                last.push((channel, shard, index, sequence));
            }
            storage.pump();
            if self.rng.u8(..4) > 0 {
                for (channel, shard, index, sequence) in last {
                    self.executor.block_on(committed(&storage, &group, shard, index));
                    self.committed.insert(channel, sequence.0);
                }
            }
            self.executor.run_for(Duration::from_micros(self.rng.u64(..300)));
        }
        group.kill();
        drop(storage);
    }

    fn power_fails(&mut self) {
        self.disk = self.disk.crash(&mut self.rng);
    }

    /// Each slot of a superblock that can be read has the newest term that any segment has: a term is in both before it
    /// is used, so that no later start takes the same one.
    fn check_terms(&self) {
        let mut newest: BTreeMap<ShardId, Term> = BTreeMap::new();
        let mut slots = Vec::new();
        for path in self.disk.paths() {
            let bytes = self.disk.peek(&path).unwrap();
            let blocks = bytes.chunks(BLOCK_SIZE_BYTES);
            if path.ends_with("superblock") {
                slots.extend(blocks.filter_map(|block| match Superblock::decode(block) {
                    Sealed::Valid(slot) => Some((slot.shard, slot.term)),
                    _ => None,
                }));
            } else if let Some(Sealed::Valid(header)) = blocks.map(SegmentHeader::decode).next() {
                let term = newest.entry(header.shard).or_default();
                *term = header.base_term.max(*term);
            }
        }
        let seed = self.seed;
        assert!(newest.keys().all(|shard| slots.iter().any(|slot| slot.0 == *shard)));
        for (shard, term) in slots {
            let used = newest.get(&shard).copied().unwrap_or_default();
            assert!(term >= used, "seed {seed}: {shard:?} used {used:?}, a slot has {term:?}");
        }
    }

    /// What a server without limits serves: nothing that limits removed from its files is missed.
    fn served(&self) -> BTreeMap<(String, u64), Vec<u8>> {
        let limits = ChannelLimits { messages_max: 0, bytes_max: 0, ..ChannelLimits::default() };
        let config = StorageConfig { limits: limits.into(), ..self.config.clone() };
        let (group, storage) = self.open(&config);
        let seed = self.seed;
        assert_eq!(storage.report().damage, [], "seed {seed}");
        let mut served = BTreeMap::new();
        for channel in ["c0", "c1", "c2"] {
            let read = read_from(&storage, &group, channel, StartAt::First);
            let inbox = self.executor.block_on(read);
            let first = inbox.messages.first().map_or(1, |message| message.0);
            for (at, (sequence, payload, _)) in inbox.messages.into_iter().enumerate() {
                assert_eq!(sequence, first + at as u64, "seed {seed}: {channel} is dense");
                let known = self.published.get(&(channel.to_owned(), sequence));
                assert_eq!(known, Some(&payload), "seed {seed}: {channel} {sequence}");
                served.insert((channel.to_owned(), sequence), payload);
            }
            let committed = self.committed.get(channel).copied().unwrap_or(0);
            let last = served.keys().filter(|key| key.0 == channel).map(|key| key.1).max();
            let last = last.unwrap_or(0);
            assert!(last >= committed, "seed {seed}: {channel} {committed} was acked");
            // More may have been committed than was heard of, and limits have made room for it.
            let kept = last - first.min(last) + 1;
            assert!(kept >= last.min(MESSAGES_MAX), "seed {seed}: {channel} has {first} to {last}");
        }
        for shard in [ShardId(0), ShardId(1)] {
            assert_eq!(storage.with(shard, |s| s.take_damage()), [], "seed {seed}");
        }
        group.kill();
        served
    }
}

#[test]
fn what_was_committed_is_there_and_what_was_served_stays() {
    for seed in 0..150 {
        let mut lives = Lives::new(seed);
        for _ in 0..3 {
            lives.live();
            let is_kill = lives.rng.bool();
            if !is_kill {
                lives.power_fails();
                lives.check_terms();
            }
            let served = lives.served();
            lives.power_fails();
            let again = lives.served();
            for key in served.keys() {
                assert!(again.contains_key(key), "seed {seed}: {key:?} was served before");
            }
            // A sequence that nobody heard of may be given again.
            lives.published.retain(|key, _| again.contains_key(key));
            for (channel, sequence) in again.keys() {
                lives.committed.insert(channel.clone(), *sequence);
            }
        }
    }
}

/// Not only messages: who is told that it is connected or subscribed is so, whatever happens then.
#[test]
fn what_was_answered_is_there_after_power_loss_at_any_moment() {
    const CONNECTED: Ticket = Ticket(1);
    const SUBSCRIBED: Ticket = Ticket(2);
    let mut answered_count = 0;
    for seed in 0..150 {
        let mut lives = Lives::new(seed);
        let (group, storage) = lives.open(&lives.config);
        let (home, shard) = (home_of_client("me", 2), shard_of_channel("c0", 2));
        lives.executor.run_for(Duration::from_millis(20));
        storage.with(home, |s| s.open_client("me", b"", b"", CONNECTED, group.now()));
        let kind = SubscriptionKind::Durable { name: "d".into() };
        let durable = subscription("c0", StartAt::First, kind);
        storage.with(shard, |s| s.subscribe(durable, SUBSCRIBED, group.now()));
        storage.pump();
        lives.executor.run_for(Duration::from_micros(lives.rng.u64(..600)));
        let mut answered = Vec::new();
        for shard in [ShardId(0), ShardId(1)] {
            let answers = storage.with(shard, |s| s.take_answers());
            answered.extend(answers.into_iter().map(|(ticket, _)| ticket));
        }
        answered_count += answered.len();
        group.kill();
        drop(storage);
        lives.power_fails();
        let (group, storage) = lives.open(&lives.config);
        if answered.contains(&CONNECTED) {
            let clients = storage.with(home, |s| s.clients());
            assert!(clients.iter().any(|client| client.id == "me"), "seed {seed}");
        }
        if answered.contains(&SUBSCRIBED) {
            let count = storage.with(shard, |s| s.totals().subscriptions);
            assert_eq!(count, 1, "seed {seed}");
        }
        group.kill();
    }
    assert!((50..250).contains(&answered_count), "{answered_count}: moments before and behind");
}

/// A segment without messages has state records still. Until two checkpoints stand for them its file is not used again:
/// the one there is may be lost.
#[test]
fn a_subscription_outlives_the_messages_of_its_segment_and_a_checkpoint() {
    let lives = Lives::new(1);
    let tuning = Tuning { tail_bytes_max: 16 << 20, ..Tuning::small() };
    let config = StorageConfig { tuning, ..lives.config.clone() };
    let (group, storage) = lives.open(&config);
    let shard = shard_of_channel("c0", 2);
    let kind = SubscriptionKind::Durable { name: "d".into() };
    let durable = subscription("c0", StartAt::NewOnly, kind);
    storage.with(shard, |s| s.subscribe(durable, Ticket(1), group.now()));
    let checkpoints = || -> Vec<String> {
        let paths = lives.disk.paths();
        paths.into_iter().filter(|path| path.contains("checkpoint")).collect()
    };
    let publish_one = || {
        let (_, index, _) = publish(&storage, &group, "c0", &[7; 6_000]);
        lives.executor.block_on(committed(&storage, &group, shard, index));
    };
    while checkpoints().is_empty() {
        publish_one();
    }
    for _ in 0..30 {
        publish_one();
    }
    group.kill();
    drop(storage);
    let [checkpoint] = checkpoints().try_into().unwrap();
    lives.executor.block_on(lives.disk.remove(&checkpoint)).unwrap();
    let (_group, storage) = lives.open(&config);
    let segments = storage.with(shard, |s| s.totals().segments);
    assert!(segments > 5, "{segments}: nothing was removed");
    assert_eq!(storage.report().damage, []);
    assert_eq!(storage.with(shard, |s| s.totals().subscriptions), 1);
}
