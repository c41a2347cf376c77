//! What is left of a damaged store, in a new one.
//!
//! The copy has the same channels, sequences, times, clients and subscriptions. Messages that no whole record was found
//! of are known to it as lost: their sequences are never given again, and nobody misses them a second time.

use std::time::Duration;

use crate::disk::{BLOCK_SIZE_BYTES, Disk};
use crate::error::{OpenError, RequestError};
use crate::format;
use crate::log::history::read_window;
use crate::log::scan::{FoundFrame, FrameAt, frame_at};
use crate::log::segment::Segment;
use crate::recovery::replay::ReplayFrame;
use crate::recovery::{examine, recover};
use crate::runtime::Runtime;
use crate::shard::{Shard, ShardConfig};
use crate::storage::{OpenReport, Storage, StoreInfo, Tuning, make_store};
use crate::types::{ChannelId, Content, Index, Sequence, ShardId, Timestamp};
use crate::verify::{Verified, config, frames_of, verify};

/// More than this is not on its way to the new store at once.
const UNCOMMITTED_BYTES_MAX: usize = 4 << 20;
/// How long to wait for commits.
const COMMIT_WAIT: Duration = Duration::from_micros(200);

/// What became of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What was found in it.
    pub verified: Verified,
    /// Messages of the new one.
    pub messages: u64,
}

/// Why a store could not be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The damaged one cannot be read at all, or the new one not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new one takes no more.
    #[error("the new store: {0}")]
    Write(#[from] RequestError),
}

/// Copies what can be read of the store on `source` to the empty directory `target`. Nothing of `source` is changed;
/// what is on `target` is no whole store before this returns. Costs two readings of `source`.
///
/// # Errors
/// See [`RepairError`].
pub async fn repair<D: Disk, R: Runtime>(
    source: &D,
    target: &D,
    runtime: &R,
    tuning: Tuning,
) -> Result<Repaired, RepairError> {
    let verified = verify(source, runtime.now()).await?;
    make_store(target, &verified.info).await?;
    let mut messages = 0;
    for id in (0..verified.info.shard_count).map(ShardId) {
        messages += repair_shard(source, target, runtime, &verified.info, (id, tuning)).await?;
    }
    Ok(Repaired { verified, messages })
}

/// Copies a shard; returns how many messages it has.
async fn repair_shard<D: Disk, R: Runtime>(
    source: &D,
    target: &D,
    runtime: &R,
    info: &StoreInfo,
    (id, tuning): (ShardId, Tuning),
) -> Result<u64, RepairError> {
    let recovered = examine(source, id).await?;
    let (random, now) = (fastrand::Rng::with_seed(0), runtime.now());
    let mut original: Shard<D> = Shard::new(id, recovered, config(info), random, now);
    if original.channel_count() == 0 && original.clients().is_empty() {
        return Ok(0);
    }
    let mut recovered = recover(target, id).await?;
    recovered.checkpoint = original.state_of_copy(now);
    let checkpoint_bytes = tuning.checkpoint_bytes(info.shard_count);
    let own_config = ShardConfig { checkpoint_bytes, tuning, ..config(info) };
    let mut random = fastrand::Rng::with_seed(u64::from(id.0));
    let copied = Shard::new(id, recovered, own_config, random.fork(), now);
    let (disk, own, report) = (target.clone(), runtime.clone(), OpenReport::default());
    let storage = Storage::over(disk, own, random, vec![copied], report);
    let mut copy = Copy { storage, runtime, id, appended: Index(0), messages: 0 };
    copy.storage.with(id, Shard::begin_copy);
    let mut segments: Vec<_> = original.segments.iter().collect();
    // One that was rewritten has a later number than those behind it.
    segments.sort_by_key(|(number, segment)| (segment.last_index, **number));
    for (number, segment) in segments {
        let (frames, _) = frames_of(*number, segment, info.frame_size_bytes_max).await;
        for frame in &frames {
            copy.frame(&original, segment, frame).await?;
        }
    }
    copy.end(&original).await?;
    Ok(copy.messages)
}

/// A shard of the new store.
struct Copy<'a, D: Disk, R: Runtime> {
    storage: Storage<D, R>,
    runtime: &'a R,
    id: ShardId,
    /// The batch of what was appended last.
    appended: Index,
    messages: u64,
}

impl<D: Disk, R: Runtime> Copy<'_, D, R> {
    /// Copies the messages of a frame. What cannot be read is missing later.
    async fn frame(
        &mut self,
        original: &Shard<D>,
        segment: &Segment<D::File>,
        frame: &ReplayFrame,
    ) -> Result<(), RepairError> {
        let length = frame.header.length_bytes().max(BLOCK_SIZE_BYTES);
        let Ok(bytes) = read_window(&*segment.file, frame.start().0, length).await else {
            return Ok(());
        };
        let FrameAt::Whole(found) = frame_at((*bytes).as_ref(), frame.place.0, segment.generation)
        else {
            return Ok(());
        };
        for run in found.table.runs.iter().filter(|run| run.channel != ChannelId(0)) {
            let Some(kept) = original.kept_channel(run.channel) else { continue };
            let (first, last) = (kept.first, kept.last);
            for offset in 0..run.count {
                let sequence = run.sequence(offset);
                if sequence < first || sequence > last {
                    continue;
                }
                if let Some((time, content)) = message(&found, run.record + offset) {
                    self.message((run.channel, sequence), time, content).await?;
                }
            }
        }
        Ok(())
    }

    async fn message(
        &mut self,
        (channel, sequence): (ChannelId, Sequence),
        time: Timestamp,
        content: Content<'_>,
    ) -> Result<(), RepairError> {
        let Some(before) = self.storage.with(self.id, |shard| shard.copied_up_to(channel)) else {
            return Ok(());
        };
        // A frame that stands twice, or in another's place.
        if sequence <= before {
            return Ok(());
        }
        if sequence > before.next() {
            self.gap(channel, (before.next(), sequence.previous())).await?;
        }
        self.appended = self
            .storage
            .with(self.id, |shard| shard.copy_message((channel, sequence), time, content))?;
        self.messages += 1;
        while self.storage.with(self.id, |shard| shard.uncommitted_bytes()) > UNCOMMITTED_BYTES_MAX
        {
            self.wait().await?;
        }
        Ok(())
    }

    async fn gap(
        &mut self,
        channel: ChannelId,
        range: (Sequence, Sequence),
    ) -> Result<(), RepairError> {
        self.committed().await?;
        self.storage.with(self.id, |shard| {
            shard.copy_gap(channel, range);
            self.appended = shard.open_index();
        });
        self.committed().await
    }

    async fn end(&mut self, original: &Shard<D>) -> Result<(), RepairError> {
        self.committed().await?;
        for end in original.channel_ends() {
            let before = self.storage.with(self.id, |shard| shard.copied_up_to(end.id));
            if let Some(before) = before.filter(|before| *before < end.last) {
                self.gap(end.id, (before.next(), end.last)).await?;
            }
            self.storage.with(self.id, |shard| shard.end_copy(&end));
        }
        self.storage.close().await;
        match self.storage.with(self.id, |shard| shard.failure()) {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Waits until all that was appended is on disk.
    async fn committed(&self) -> Result<(), RepairError> {
        while self.storage.with(self.id, |shard| shard.committed()) < self.appended {
            self.wait().await?;
        }
        Ok(())
    }

    async fn wait(&self) -> Result<(), RepairError> {
        if let Some(failure) = self.storage.with(self.id, |shard| shard.failure()) {
            return Err(failure.into());
        }
        self.storage.pump();
        self.runtime.sleep(COMMIT_WAIT).await;
        Ok(())
    }
}

/// A message of a frame; `None` if it is damaged.
fn message<'a>(found: &'a FoundFrame<'_>, record: u32) -> Option<(Timestamp, Content<'a>)> {
    format::message(found.record(record)?)
}
