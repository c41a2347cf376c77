//! One core's shards with their edges: starts the writes and reads that shards want, and brings their ends back.
//!
//! Everything that waits is a detached task of the core's executor, so that nothing can drop a write under way. A
//! shard is borrowed only between two waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::limits::ChannelLimitRules;
use crate::recovery::recover;
use crate::runtime::{Doorbell, Runtime};
use crate::shard::{Shard, ShardConfig};
use crate::types::{Monotonic, ShardId};

mod clustering;
mod commits;
mod jobs;
mod prefetch;
mod reads;
mod slots;
mod statistics;
mod store;
#[cfg(test)]
mod tests;

pub use prefetch::PREFETCH_MAX;
pub use slots::ChannelSlots;
pub use statistics::{DiskStatistics, Distribution};
pub use store::{StoreInfo, open_store};
pub(crate) use store::{find_store, is_store_file_whole, make_store};

/// Bytes of recent messages that a core keeps in memory. Touching fresh memory for 64 MiB cost a tenth of the CPU of the
/// first half million messages.
const CACHE_BYTES_A_CORE: usize = 32 << 20;
/// Room in a frame beyond the largest payload.
pub(crate) const FRAME_ROOM_BYTES: u32 = 64 * 1024;

/// Sizes that decide how often segments roll and checkpoints are written. Servers take the default; tests and the
/// simulator take small ones, so that a short run does all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// The first segment of a shard: a fresh store of 8 shards takes 32 MiB. Sizes grow with what the log holds.
    pub segment_size_bytes_first: u64,
    /// The largest segment, unless a frame needs more.
    pub segment_size_bytes_max: u64,
    /// What recovery reads at most, over all shards: so much is logged between two checkpoints.
    pub tail_bytes_max: u64,
    /// The largest frame of a store that is made now, unless a payload needs more.
    pub frame_size_bytes_min: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            segment_size_bytes_first: 4 << 20,
            segment_size_bytes_max: 128 << 20,
            tail_bytes_max: 256 << 20,
            frame_size_bytes_min: 512 << 10,
        }
    }
}

impl Tuning {
    /// Sizes for runs of some thousand messages.
    #[must_use]
    pub fn small() -> Self {
        Self {
            segment_size_bytes_first: 64 << 10,
            segment_size_bytes_max: 256 << 10,
            tail_bytes_max: 1 << 20,
            frame_size_bytes_min: 64 << 10,
        }
    }

    /// Bytes of a shard's log between two checkpoints.
    pub(crate) fn checkpoint_bytes(&self, shard_count: u16) -> u64 {
        self.tail_bytes_max / u64::from(shard_count) / 2
    }

    /// The size of the segment after one of `size_bytes`, the first one's if there is none; the segments before have
    /// `stored_bytes`. Sizes double where that is a quarter of the log or less: what is made ready and not used yet costs
    /// zeros on the way to the disk and its space.
    pub(crate) fn segment_size_after(&self, size_bytes: Option<u64>, stored_bytes: u64) -> u64 {
        let Some(size) = size_bytes else { return self.segment_size_bytes_first };
        let is_grown = stored_bytes.saturating_add(size) / 4 >= 2 * size;
        let wanted = if is_grown { 2 * size } else { size };
        wanted.min(self.segment_size_bytes_max)
    }
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// The cluster the store belongs to.
    pub cluster_id: String,
    /// Number of shards wanted; `None` takes the store's, or the default for a new one.
    pub shard_count: Option<u16>,
    /// The largest payload a client may send.
    pub payload_size_bytes_max: u32,
    /// Channels at most; 0: no limit.
    pub channels_max: u64,
    /// Limits of each channel: applied when it is made and at each open.
    pub limits: ChannelLimitRules,
    /// Seed of generations and tokens.
    pub seed: u64,
    /// Sizes of what is written.
    pub tuning: Tuning,
}

/// What recovery found in the shards of a core, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Frames at the ends of logs that were never acknowledged, and are cut.
    pub cut_frames: usize,
    /// Damage, to be shown.
    pub damage: Vec<crate::error::Damage>,
    /// Channels there are.
    pub channels: usize,
}

/// One core's shards.
pub struct Storage<D: Disk, R: Runtime> {
    core: Rc<CoreStorage<D, R>>,
    report: OpenReport,
}

/// What the tasks of a core share.
pub(crate) struct CoreStorage<D: Disk, R: Runtime> {
    disk: D,
    runtime: R,
    ids: Vec<ShardId>,
    shards: Vec<RefCell<Shard<D>>>,
    rng: RefCell<fastrand::Rng>,
    /// Commits on their way, of all shards.
    in_flight: Cell<usize>,
    /// Reads of history on their way, of all shards.
    reads_in_flight: Cell<usize>,
    /// What they bring.
    read_bytes_in_flight: Cell<usize>,
    /// The shard whose turn it is to read.
    read_turn: Cell<usize>,
    /// When a batch with messages was sealed last.
    published_at: Cell<Monotonic>,
    /// When a batch was sealed last that a request's answer waits for.
    answering_at: Cell<Monotonic>,
    /// Until then no batch is sealed that is not full, if shards compete.
    pause_end: Cell<Monotonic>,
    /// Whether a wait for the next seal runs.
    is_waiting: Cell<bool>,
    /// Whether the core stops: nothing is done slowly any more.
    is_closing: Cell<bool>,
    /// Whether nothing is started any more: the hints say where the logs end.
    is_closed: Cell<bool>,
    /// The shard whose turn it is to seal.
    turn: Cell<usize>,
    statistics: RefCell<DiskStatistics>,
    bell: Doorbell,
    progressed: RefCell<BTreeSet<ShardId>>,
    /// Superblock, checkpoint and removal tasks on their way, per shard: one at a time each.
    busy: RefCell<BTreeSet<(ShardId, jobs::Job)>>,
}

impl<D: Disk, R: Runtime> Storage<D, R> {
    /// Recovers `shards` and makes them ready.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        disk: D,
        runtime: R,
        info: &StoreInfo,
        config: &StorageConfig,
        slots: ChannelSlots,
        shards: &[ShardId],
    ) -> Result<Self, OpenError> {
        let shard_config = ShardConfig {
            store: info.block(),
            limits: config.limits.clone(),
            slots,
            cache_bytes: (CACHE_BYTES_A_CORE / shards.len().max(1)).max(4 << 20),
            checkpoint_bytes: config.tuning.checkpoint_bytes(info.shard_count),
            tuning: config.tuning,
        };
        let first = shards.first().map_or(0, |shard| u64::from(shard.0));
        let mut rng = fastrand::Rng::with_seed(config.seed ^ (first << 32));
        let mut report = OpenReport::default();
        let mut opened = Vec::with_capacity(shards.len());
        for id in shards {
            let recovered = recover(&disk, *id).await?;
            report.cut_frames += recovered.verdict.cut_frames;
            let rng = rng.fork();
            let mut shard = Shard::new(*id, recovered, shard_config.clone(), rng, runtime.now());
            report.damage.extend(shard.take_damage());
            report.channels += shard.channel_count();
            opened.push(shard);
        }
        Ok(Self::over(disk, runtime, rng, opened, report))
    }

    /// Over these shards, in the order of their numbers, which are no other core's.
    pub(crate) fn over(
        disk: D,
        runtime: R,
        rng: fastrand::Rng,
        shards: Vec<Shard<D>>,
        report: OpenReport,
    ) -> Self {
        let core = CoreStorage {
            disk,
            runtime,
            ids: shards.iter().map(Shard::id).collect(),
            shards: shards.into_iter().map(RefCell::new).collect(),
            rng: RefCell::new(rng),
            in_flight: Cell::new(0),
            reads_in_flight: Cell::new(0),
            read_bytes_in_flight: Cell::new(0),
            read_turn: Cell::new(0),
            published_at: Cell::default(),
            answering_at: Cell::default(),
            pause_end: Cell::default(),
            is_waiting: Cell::new(false),
            is_closing: Cell::new(false),
            is_closed: Cell::new(false),
            turn: Cell::new(0),
            statistics: RefCell::default(),
            bell: Doorbell::default(),
            progressed: RefCell::default(),
            busy: RefCell::default(),
        };
        let storage = Self { core: Rc::new(core), report };
        storage.pump();
        storage
    }

    /// What recovery found.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// The shards of this core.
    pub fn shards(&self) -> &[ShardId] {
        &self.core.ids
    }

    /// Lends a shard of this core to `work`. Panics if the shard is another core's.
    pub fn with<T>(&self, shard: ShardId, work: impl FnOnce(&mut Shard<D>) -> T) -> T {
        self.core.with_shard(self.core.place_of(shard), work)
    }

    /// Starts what the shards want started: commits (paced), reads, segments, checkpoints. Call it after changing
    /// shards. Returns at once; completions ring the doorbell.
    pub fn pump(&self) {
        self.core.pump();
    }

    /// Rung when a completion may have moved `committed()`, brought answers, or made a dispatch possible.
    pub fn doorbell(&self) -> &Doorbell {
        &self.core.bell
    }

    /// The shards that moved since the last call: visit these after the doorbell.
    pub fn take_progressed(&self) -> Vec<ShardId> {
        std::mem::take(&mut *self.core.progressed.borrow_mut()).into_iter().collect()
    }

    /// What its commits and reads have cost since the start.
    pub fn statistics(&self) -> DiskStatistics {
        self.core.statistics.borrow().clone()
    }

    /// Commits what is open, writes checkpoints and hints, and returns when all is on disk. What is asked for meanwhile is
    /// committed and witnessed too, or never answered: callers take in nothing more before they close, or it may wait for
    /// them.
    pub async fn close(&self) {
        self.core.close().await;
    }
}

impl<D: Disk, R: Runtime> CoreStorage<D, R> {
    pub(crate) fn pump(self: &Rc<Self>) {
        if self.is_closed.get() {
            return;
        }
        let now = self.runtime.now();
        self.start_commits(now);
        self.start_reads(now);
        for at in 0..self.shards.len() {
            self.start_jobs(at, now);
        }
    }

    /// Where a shard of this core stands among them.
    fn place_of(&self, shard: ShardId) -> usize {
        self.ids.binary_search(&shard).expect("the shard is this core's")
    }

    /// A shard has something for the core.
    fn progress(&self, at: usize) {
        self.progressed.borrow_mut().insert(self.ids[at]);
        self.bell.ring();
    }

    async fn close(self: &Rc<Self>) {
        self.is_closing.set(true);
        // Each wait is bounded by the disk: what is under way ends, or fails and finishes its log. Rounds end when nobody
        // asks for anything any more.
        loop {
            while self.is_committing() {
                self.runtime.sleep(Duration::from_millis(1)).await;
            }
            let now = self.runtime.now();
            for shard in &self.shards {
                shard.borrow_mut().take_checkpoint(now);
            }
            while self.is_working() {
                self.runtime.sleep(Duration::from_millis(1)).await;
            }
            if !self.is_committing() && !self.is_working() {
                break;
            }
        }
        // From here on nothing is committed, so nothing is answered: the hints are true to the end.
        self.is_closed.set(true);
        for at in 0..self.shards.len() {
            self.write_hint_now(at).await;
        }
    }

    /// Starts the commit of all that is open, and tells whether there was any, or a commit is on its way.
    fn is_committing(self: &Rc<Self>) -> bool {
        // Each time: a commit may leave records that would wait for company, such as a new channel's name.
        for shard in &self.shards {
            shard.borrow_mut().prepare_close();
        }
        self.pump();
        // On a full disk a shard's open batch waits for room, and its commits end all the same.
        self.in_flight.get() > 0 || self.shards.iter().any(|shard| shard.borrow().is_uncommitted())
    }

    /// Starts what the shards want done beside commits, and tells whether some of it has not ended.
    fn is_working(self: &Rc<Self>) -> bool {
        self.pump();
        // A segment is tried again for as long as the disk is full, and nobody needs it any more.
        let is_awaited = |(shard, job): &(ShardId, jobs::Job)| {
            *job != jobs::Job::Segment || !self.shards[self.place_of(*shard)].borrow().is_full()
        };
        self.shards.iter().any(|shard| shard.borrow().is_checkpoint_pending())
            || self.busy.borrow().iter().any(is_awaited)
    }
}
