//! What shards want done besides commits and reads: segments made ready, footers, checkpoints, hints, removals.

use std::rc::Rc;
use std::time::Duration;

use super::CoreStorage;
use crate::checkpoint::checkpoint_path;
use crate::disk::{Disk, DiskFile, DiskResult};
use crate::error::DiskError;
use crate::format::align_block;
use crate::format::blocks::ChainPoint;
use crate::log::FillStep;
use crate::log::segment::{
    FILL_BYTES, FILL_BYTES_LATE, SegmentPlan, is_full, prepare, segment_path, shard_directory,
    write_block,
};
use crate::runtime::Runtime;
use crate::shard::{CheckpointWork, FooterWork};
use crate::superblock::SuperblockFile;
use crate::types::{Generation, Now, SegmentNumber, ShardId, Term};

/// A sealed segment with more unused bytes than this is cut.
const CUT_BYTES_MIN: u64 = 1 << 20;
/// A full disk is tried again after this.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// Between two looks whether more of the next segment is due.
const FILL_WAIT: Duration = Duration::from_millis(1);
/// Such looks at most before the next piece is written: so a segment of 128 MiB is ready after 10 s at the latest.
const FILL_WAITS_MAX: usize = 20;
/// Clients have their turn between two pieces of long work.
const TURN: Duration = Duration::from_micros(50);

/// Tasks of which a shard runs one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    Segment,
    Superblock,
    Checkpoint,
    Removal,
    Clustering,
}

impl<D: Disk, R: Runtime> CoreStorage<D, R> {
    /// Starts all that the shard wants.
    pub(super) fn start_jobs(self: &Rc<Self>, at: usize, now: Now) {
        self.start_segment(at);
        if let Some(work) = self.with_shard(at, |shard| shard.take_footer()) {
            let core = self.clone();
            self.runtime.spawn(async move { core.write_footer(at, work).await });
        }
        if !self.is_busy(at, Job::Checkpoint)
            && let Some(work) = self.with_shard(at, |shard| shard.take_checkpoint_work())
        {
            self.spawn_job(at, Job::Checkpoint, async move |core| {
                core.write_checkpoint(at, work).await
            });
        }
        if !self.is_busy(at, Job::Superblock)
            && let Some(write) = self.with_shard(at, |shard| shard.take_hint(now))
        {
            self.spawn_job(at, Job::Superblock, async move |core| {
                let result = write_block(&*write.file, write.position, &write.block).await;
                core.note(at, result);
            });
        }
        self.start_removal(at);
        self.start_clustering(at);
    }

    pub(super) fn with_shard<T>(
        &self,
        at: usize,
        work: impl FnOnce(&mut crate::shard::Shard<D>) -> T,
    ) -> T {
        work(&mut self.shards[at].borrow_mut())
    }

    fn is_busy(&self, at: usize, job: Job) -> bool {
        self.busy.borrow().contains(&(self.ids[at], job))
    }

    pub(super) fn spawn_job(
        self: &Rc<Self>,
        at: usize,
        job: Job,
        work: impl AsyncFnOnce(Rc<Self>) + 'static,
    ) {
        let key: (ShardId, Job) = (self.ids[at], job);
        let is_new = self.busy.borrow_mut().insert(key);
        assert!(is_new, "one at a time");
        let core = self.clone();
        self.runtime.spawn(async move {
            work(core.clone()).await;
            core.busy.borrow_mut().remove(&key);
            core.pump();
        });
    }

    /// A failed write of what the log depends on finishes the log.
    fn note(&self, at: usize, result: DiskResult<()>) {
        if let Err(error) = result {
            self.with_shard(at, |shard| shard.fail(error));
            self.progress(at);
        }
    }

    fn start_segment(self: &Rc<Self>, at: usize) {
        if self.is_busy(at, Job::Segment) {
            return;
        }
        let Some(size_bytes) = self.with_shard(at, |shard| shard.wants_segment()) else {
            return;
        };
        self.spawn_job(at, Job::Segment, async move |core| core.make_segment(at, size_bytes).await);
    }

    async fn make_segment(self: &Rc<Self>, at: usize, size_bytes: u64) {
        loop {
            match self.try_segment(at, size_bytes).await {
                Ok(ready) => {
                    self.with_shard(at, |shard| {
                        shard.set_full(false);
                        shard.log.bring_segment(Some(ready));
                    });
                    return;
                }
                Err(error) if is_full(&error) => {
                    // Publishers are refused from when the active segment has only its reserve left.
                    self.with_shard(at, |shard| shard.set_full(true));
                    self.progress(at);
                    self.runtime.sleep(FULL_RETRY).await;
                }
                Err(error) => {
                    self.with_shard(at, |shard| {
                        shard.log.bring_segment(None);
                        shard.fail(error);
                    });
                    self.progress(at);
                    return;
                }
            }
        }
    }

    async fn try_segment(
        &self,
        at: usize,
        size_bytes: u64,
    ) -> DiskResult<crate::log::segment::PreparedSegment<D::File>> {
        let (id, term, has_files) =
            self.with_shard(at, |shard| (shard.id(), shard.log.term(), shard.superblock.is_some()));
        if !has_files {
            let made = self.make_shard(id, term).await?;
            self.with_shard(at, |shard| shard.superblock = Some(made));
        }
        let plan = SegmentPlan {
            shard: id,
            number: self.with_shard(at, |shard| {
                let number = shard.next_segment;
                shard.next_segment = SegmentNumber(number.0 + 1);
                number
            }),
            generation: Generation(self.rng.borrow_mut().u64(1..)),
            size_bytes,
            term,
            store: self.with_shard(at, |shard| shard.config.store.clone()),
        };
        let recycled = self.with_shard(at, |shard| shard.spare.pop());
        let pace = async |filled_bytes| self.pace_fill(at, (filled_bytes, size_bytes)).await;
        prepare(&self.disk, &plan, recycled, pace).await
    }

    /// Zeros of the next segment are written no sooner than its turn comes near: in one go they would keep commits
    /// waiting. Without a load they are written in a while all the same. Tells how many to write now; none if the
    /// segment is needed as it is.
    async fn pace_fill(&self, at: usize, (filled_bytes, size_bytes): (u64, u64)) -> Option<u64> {
        for _ in 0..FILL_WAITS_MAX {
            match self.with_shard(at, |shard| shard.log.fill_step(filled_bytes, size_bytes)) {
                FillStep::Enough => return None,
                _ if self.is_closing.get() => return Some(FILL_BYTES_LATE),
                FillStep::Piece(bytes) => return Some(bytes),
                FillStep::Later => self.runtime.sleep(FILL_WAIT).await,
            }
        }
        Some(FILL_BYTES)
    }

    /// A shard makes its files at its first start.
    async fn make_shard(&self, id: ShardId, term: Term) -> DiskResult<SuperblockFile<D::File>> {
        SuperblockFile::create(&self.disk, id, term, ChainPoint::default()).await
    }

    async fn write_footer(self: &Rc<Self>, at: usize, mut work: FooterWork<D::File>) {
        let bytes = loop {
            let bytes = self.with_shard(at, |shard| shard.go_on_with_footer(&mut work));
            if let Some(bytes) = bytes {
                break bytes;
            }
            self.runtime.sleep(TURN).await;
        };
        let end = work.position.0 + align_block(bytes.len()) as u64;
        let result = self.place_footer(&work, &bytes, end).await;
        if result.is_ok() {
            // A restart leaves segments that are hardly used: what lies behind the footer is zeros.
            let length = work.file.length_bytes().await.unwrap_or(end);
            if work.may_be_cut && length > end + CUT_BYTES_MIN {
                // It only frees space; a failure costs nothing else.
                let _ = work.file.truncate(end).await;
            }
            while !self.with_shard(at, |shard| shard.leave_to_footer(&mut work)) {
                self.runtime.sleep(TURN).await;
            }
        }
        self.note(at, result);
        self.pump();
    }

    /// A footer may stand behind the blocks that its segment has. On a full disk it waits for room: nothing but memory is
    /// lost without it.
    async fn place_footer(
        &self,
        work: &FooterWork<D::File>,
        bytes: &[u8],
        end: u64,
    ) -> DiskResult<()> {
        loop {
            let result = write_block(&*work.file, work.position.0, bytes).await;
            let lacks_room = match &result {
                Err(DiskError::Short { .. }) => work.file.length_bytes().await? < end,
                Err(error) => is_full(error),
                Ok(()) => false,
            };
            if !lacks_room {
                return result;
            }
            self.runtime.sleep(FULL_RETRY).await;
        }
    }

    async fn write_checkpoint(self: &Rc<Self>, at: usize, work: CheckpointWork) {
        let result = self.try_checkpoint(self.ids[at], &work).await;
        let is_written = result.is_ok();
        let emptied_count = self.with_shard(at, |shard| {
            shard.checkpoint_written(work.number, work.as_of, is_written);
            shard.collect_dead(self.runtime.now())
        });
        self.statistics.borrow_mut().emptied_count += emptied_count;
        // A full disk only means a longer recovery; anything else is the end of the log.
        if result.as_ref().is_err_and(|error| !is_full(error)) {
            self.note(at, result);
        }
    }

    async fn try_checkpoint(&self, id: ShardId, work: &CheckpointWork) -> DiskResult<()> {
        let file = self.disk.create(&checkpoint_path(id, work.number)).await?;
        for (piece, bytes) in work.bytes.chunks(1 << 20).enumerate() {
            write_block(&file, (piece << 20) as u64, bytes).await?;
        }
        self.disk.sync_directory(&shard_directory(id)).await
    }

    fn start_removal(self: &Rc<Self>, at: usize) {
        if self.is_busy(at, Job::Removal) {
            return;
        }
        let id = self.ids[at];
        let path = self.with_shard(at, |shard| {
            let outdated =
                shard.take_outdated_checkpoint().map(|number| checkpoint_path(id, number));
            outdated.or_else(|| shard.take_surplus().map(|(number, _)| segment_path(id, number)))
        });
        if let Some(path) = path {
            self.spawn_job(at, Job::Removal, async move |core| {
                // What cannot be removed now is found and removed after the next open.
                let _ = core.disk.remove(&path).await;
            });
        }
    }

    /// Writes the commit hint and waits for it.
    pub(super) async fn write_hint_now(self: &Rc<Self>, at: usize) {
        let now = self.runtime.now();
        let write = self.with_shard(at, |shard| {
            if shard.log.finished().is_some() { None } else { shard.hint_write(now) }
        });
        if let Some(write) = write {
            let result = write_block(&*write.file, write.position, &write.block).await;
            self.note(at, result);
        }
    }
}
