//! A closed loop of publishers on one core's storage: as soon as a message is durable, another is published.

use std::collections::VecDeque;
use std::path::Path;

use weirlog_engine::disk::dma::{DmaDisk, GlommioRuntime};
use weirlog_engine::placement::shard_of_channel;
use weirlog_engine::storage::{ChannelSlots, Storage, StorageConfig, Tuning, open_store};
use weirlog_engine::types::{ChannelLimits, Index, Now, ShardId};

use crate::BenchError;
use crate::executor::yield_to_disk;
use crate::measure::{Latencies, Usage, now};

/// Shards of a store, as a server makes it by default.
const SHARD_COUNT: u16 = 8;
/// Messages between two looks at the disk: what one read of a socket brings.
const BURST_MESSAGES_MAX: usize = 256;

/// Before anything counts: segments have grown by then, and all cores are at work.
const WARM_UP_SECONDS: f64 = 1.0;

/// One of the cores that share a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// Which of them.
    pub own: u16,
    /// How many there are.
    pub core_count: u16,
}

impl Share {
    /// That of a core that has the store for itself.
    pub(crate) const ALL: Self = Self { own: 0, core_count: 1 };

    /// Whether a shard is this core's, as the server has it.
    fn has(self, shard: ShardId) -> bool {
        shard.0 % self.core_count == self.own
    }
}

/// Opens this core's share of the store in `root`.
pub(crate) async fn open(
    root: &Path,
    share: Share,
) -> Result<Storage<DmaDisk, GlommioRuntime>, BenchError> {
    let config = StorageConfig {
        cluster_id: "bench".into(),
        shard_count: Some(SHARD_COUNT),
        payload_size_bytes_max: 1 << 20,
        channels_max: 0,
        limits: ChannelLimits { messages_max: 0, bytes_max: 0, ..ChannelLimits::default() }.into(),
        seed: now().wall.0.cast_unsigned(),
        tuning: Tuning::default(),
    };
    let disk = DmaDisk::new(root).await?;
    let info = open_store(&disk, &config).await?;
    let shards: Vec<_> =
        (0..info.shard_count).map(ShardId).filter(|shard| share.has(*shard)).collect();
    let slots = ChannelSlots::new(config.channels_max);
    Ok(Storage::open(disk, GlommioRuntime, &info, &config, slots, &shards).await?)
}

/// The name of a channel of the load.
pub(crate) fn channel_name(number: usize) -> String {
    format!("bench.channel.{number}")
}

/// What is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadPlan {
    /// Channels that take turns, those of other cores' shards left out.
    pub channel_count: usize,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Messages published and not yet durable.
    pub outstanding_max: usize,
    /// Messages at all.
    pub messages_max: u64,
}

/// What a load did while it was measured.
pub(crate) struct Sample {
    /// Of the whole process.
    pub usage: Usage,
    pub latencies: Latencies,
    pub records: u64,
    pub commits: u64,
    /// Bytes of their frames.
    pub frame_bytes: u64,
}

/// See the module's head.
pub(crate) struct Load {
    pub storage: Storage<DmaDisk, GlommioRuntime>,
    pub latencies: Latencies,
    /// Messages that became durable.
    pub durable_count: u64,
    /// Messages that were published.
    pub published_count: u64,
    plan: LoadPlan,
    channels: Vec<(String, ShardId)>,
    payload: Vec<u8>,
    next_channel: usize,
    /// By shard, in the order of their batches.
    waiting: Vec<VecDeque<Burst>>,
}

/// Messages of one batch that were published at the same time.
#[derive(Debug, Clone, Copy)]
struct Burst {
    index: Index,
    at_ns: u64,
    count: u64,
}

impl Load {
    pub(crate) fn new(storage: Storage<DmaDisk, GlommioRuntime>, plan: LoadPlan) -> Self {
        let place = |number| {
            let name = channel_name(number);
            let shard = shard_of_channel(&name, SHARD_COUNT);
            (name, shard)
        };
        let own = |channel: &(String, ShardId)| storage.shards().contains(&channel.1);
        let channels = (0..plan.channel_count).map(place).filter(own).collect();
        Self {
            storage,
            latencies: Latencies::new(),
            durable_count: 0,
            published_count: 0,
            plan,
            channels,
            payload: vec![b'x'; plan.payload_bytes],
            next_channel: 0,
            waiting: vec![VecDeque::new(); usize::from(SHARD_COUNT)],
        }
    }

    /// Publishes until `is_enough` says so of the load.
    pub(crate) async fn run_until(
        &mut self,
        is_enough: impl Fn(&Self, Now) -> bool,
    ) -> Result<(), BenchError> {
        loop {
            let now = now();
            self.collect(now)?;
            if is_enough(self, now) {
                return Ok(());
            }
            let room = self.plan.outstanding_max - self.outstanding();
            self.publish(room.min(BURST_MESSAGES_MAX), now)?;
            self.storage.pump();
            if room > BURST_MESSAGES_MAX {
                yield_to_disk().await;
            } else {
                self.storage.doorbell().wait().await;
            }
        }
    }

    /// Runs first to warm up, then to be measured; closes the store.
    pub(crate) async fn sample(mut self, seconds: f64) -> Result<Sample, BenchError> {
        let end_ns = now().mono.0 + nanoseconds(WARM_UP_SECONDS);
        self.run_until(|_, now| now.mono.0 >= end_ns).await?;
        self.latencies = Latencies::new();
        let before = Usage::now()?;
        let (records, commits) = (self.durable_count, self.commit_count());
        let frame_bytes = self.frame_bytes();

        let end_ns = before.at_ns + nanoseconds(seconds);
        self.run_until(|_, now| now.mono.0 >= end_ns).await?;
        let sample = Sample {
            usage: Usage::now()?.since(&before),
            latencies: self.latencies.clone(),
            records: self.durable_count - records,
            commits: self.commit_count() - commits,
            frame_bytes: self.frame_bytes() - frame_bytes,
        };
        self.drain().await?;
        self.storage.close().await;
        Ok(sample)
    }

    /// Waits until all that was published is durable.
    pub(crate) async fn drain(&mut self) -> Result<(), BenchError> {
        while self.outstanding() > 0 {
            self.storage.pump();
            self.storage.doorbell().wait().await;
            self.collect(now())?;
        }
        Ok(())
    }

    /// Commits of all shards since the store was made.
    fn commit_count(&self) -> u64 {
        let committed = |shard: &ShardId| self.storage.with(*shard, |s| s.committed().0);
        self.storage.shards().iter().map(committed).sum()
    }

    /// Bytes of frames that were written since the store was opened.
    fn frame_bytes(&self) -> u64 {
        self.storage.statistics().bytes.sum()
    }

    fn outstanding(&self) -> usize {
        (self.published_count - self.durable_count) as usize
    }

    fn publish(&mut self, count: usize, now: Now) -> Result<(), BenchError> {
        if self.channels.is_empty() {
            return Err("none of the channels is in a shard of this core".into());
        }
        let left = usize::try_from(self.plan.messages_max - self.published_count);
        for _ in 0..left.map_or(count, |left| left.min(count)) {
            let (name, shard) = &self.channels[self.next_channel];
            self.next_channel = (self.next_channel + 1) % self.channels.len();
            let published = self.storage.with(*shard, |s| s.publish(name, &self.payload, now))?;
            self.published_count += 1;
            let waiting = &mut self.waiting[usize::from(shard.0)];
            match waiting.back_mut() {
                Some(burst) if burst.index == published.index && burst.at_ns == now.mono.0 => {
                    burst.count += 1;
                }
                _ => {
                    waiting.push_back(Burst {
                        index: published.index,
                        at_ns: now.mono.0,
                        count: 1,
                    });
                }
            }
        }
        Ok(())
    }

    fn collect(&mut self, now: Now) -> Result<(), BenchError> {
        for shard in self.storage.take_progressed() {
            let (committed, failure) = self.storage.with(shard, |s| (s.committed(), s.failure()));
            if let Some(failure) = failure {
                return Err(failure.into());
            }
            let waiting = &mut self.waiting[usize::from(shard.0)];
            while let Some(burst) = waiting.front().copied().filter(|b| b.index <= committed) {
                waiting.pop_front();
                self.durable_count += burst.count;
                self.latencies.add(now.mono.0.saturating_sub(burst.at_ns), burst.count);
            }
        }
        Ok(())
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}
