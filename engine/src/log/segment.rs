//! Segment files: their names and sizes, and how one is made ready before it is needed.

use std::rc::Rc;

use crate::checkpoint::SegmentNote;
use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskFile, DiskResult};
use crate::error::DiskError;
use crate::format;
use crate::format::blocks::{ChainPoint, SegmentHeader, SegmentLife, StoreBlock};
use crate::types::{Generation, Index, Position, SegmentNumber, ShardId, Term};

/// Zeros are written in pieces of this size: a commit that comes meanwhile waits for no more of them.
pub(crate) const FILL_BYTES: u64 = 256 << 10;
/// The same while the segment is needed sooner than it will be ready.
pub(crate) const FILL_BYTES_LATE: u64 = 1 << 20;

/// The directory of a shard.
pub(crate) fn shard_directory(shard: ShardId) -> String {
    format!("shard-{:02}", shard.0)
}

/// The path of a segment.
pub(crate) fn segment_path(shard: ShardId, number: SegmentNumber) -> String {
    format!("{}/segment-{:010}", shard_directory(shard), number.0)
}

/// The number in a segment's name.
pub(crate) fn number_of(name: &str) -> Option<SegmentNumber> {
    let digits = name.strip_prefix("segment-")?;
    let number: u32 = digits.parse().ok()?;
    // Another spelling of a number is not a name of ours.
    (format!("{number:010}") == digits).then_some(SegmentNumber(number))
}

/// A segment file with written blocks and no frames, waiting for its turn.
pub(crate) struct PreparedSegment<F> {
    pub number: SegmentNumber,
    pub generation: Generation,
    pub file: Rc<F>,
    pub size_bytes: u64,
}

/// A segment of the log, from the moment it takes frames.
pub(crate) struct Segment<F> {
    pub file: Rc<F>,
    pub generation: Generation,
    pub state: SegmentState,
    /// Where its frames end, once it takes no more.
    pub end: Position,
    /// The last frame's index, once it takes no more.
    pub last_index: Index,
    /// The number of the first checkpoint that knows it as sealed, once it is: those before know its runs by frames.
    pub sealed_since: u64,
    /// Whether it is no part of the log, but stands for some that were.
    pub is_clustered: bool,
    /// Messages that no limit has removed.
    pub live_messages: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Once none is left: behind the batch of this index recovery knows of it.
    pub emptied: Option<Index>,
    /// Once it is sealed: the bytes of all its messages' records then, and the runs in its footer.
    pub record_bytes: u64,
    /// See `record_bytes`.
    pub runs_count: u32,
    /// Records of it could not be read: it is kept until its channels' limits have passed it, and never rewritten.
    pub is_damaged: bool,
}

impl<F> Segment<F> {
    /// One with nothing in it.
    pub(crate) fn new(file: Rc<F>, generation: Generation, state: SegmentState) -> Self {
        Self {
            file,
            generation,
            state,
            end: Position(0),
            last_index: Index(0),
            sealed_since: 0,
            is_clustered: false,
            live_messages: 0,
            live_bytes: 0,
            emptied: None,
            record_bytes: 0,
            runs_count: 0,
            is_damaged: false,
        }
    }

    /// Whether the checkpoint of this number and index, and so both that are kept, cover it and know it as sealed.
    pub(crate) fn is_settled(&self, (number, as_of): (u64, Index)) -> bool {
        self.state == SegmentState::Sealed
            && self.last_index <= as_of
            && self.sealed_since <= number
    }

    /// Whether it only waits for that.
    pub(crate) fn is_settling(&self, older: (u64, Index)) -> bool {
        self.state == SegmentState::Sealed && !self.is_settled(older)
    }

    /// What a checkpoint knows of it.
    pub(crate) fn take_note(&mut self, note: &SegmentNote) {
        self.end = note.end;
        self.last_index = note.last_index;
        self.is_damaged = note.is_damaged;
        self.record_bytes = note.record_bytes;
        self.runs_count = note.runs_count;
        self.state = if note.is_sealed { SegmentState::Sealed } else { SegmentState::Rolled };
    }
}

/// The life of a segment that has frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// Takes frames.
    Active,
    /// Takes no more; its index is in memory.
    Rolled,
    /// Its footer is being written.
    Sealing,
    /// Its footer is on disk.
    Sealed,
}

/// What a new segment file is to be.
pub(crate) struct SegmentPlan {
    pub shard: ShardId,
    pub number: SegmentNumber,
    pub generation: Generation,
    pub size_bytes: u64,
    pub term: Term,
    pub store: StoreBlock,
}

/// The header of a file that is to be a segment.
fn ready_header(plan: &SegmentPlan) -> SegmentHeader {
    SegmentHeader {
        life: SegmentLife::Ready,
        shard: plan.shard,
        number: plan.number,
        generation: plan.generation,
        base_index: Index(0),
        base_term: plan.term,
        size_bytes: plan.size_bytes,
        previous: ChainPoint::default(),
        key_id: 0,
        store: plan.store.clone(),
    }
}

/// Makes a segment file ready: header, name and blocks are durable when this returns. `recycled` is a dead segment's
/// number and file, whose blocks are used again. `pace` is asked behind so many filled bytes, and tells, in its time, how
/// many more to fill at once, or that the rest stays as it is.
pub(crate) async fn prepare<D: Disk>(
    disk: &D,
    plan: &SegmentPlan,
    recycled: Option<(SegmentNumber, Rc<D::File>)>,
    pace: impl AsyncFn(u64) -> Option<u64>,
) -> DiskResult<PreparedSegment<D::File>> {
    let file = prepare_unfilled(disk, plan, recycled).await?;
    let written = file.length_bytes().await?;
    if let Err(error) = fill(&*file, written, plan.size_bytes, &pace).await {
        // A failed preallocation leaves no stray blocks, nor a dead segment's file under a name that nobody knows.
        drop(file);
        disk.remove(&segment_path(plan.shard, plan.number)).await?;
        return Err(error);
    }
    Ok(PreparedSegment {
        number: plan.number,
        generation: plan.generation,
        file,
        size_bytes: plan.size_bytes,
    })
}

/// The same without filling blocks: frames of a clustered segment are written where nothing was. Until its header says
/// otherwise the file is nothing.
pub(crate) async fn prepare_unfilled<D: Disk>(
    disk: &D,
    plan: &SegmentPlan,
    recycled: Option<(SegmentNumber, Rc<D::File>)>,
) -> DiskResult<Rc<D::File>> {
    let path = segment_path(plan.shard, plan.number);
    let header = ready_header(plan).encode();
    let file = match recycled {
        Some((old, file)) => {
            // The new generation is durable before the new name: no moment shows old frames under the new number.
            write_block(&*file, 0, &header).await?;
            disk.rename(&segment_path(plan.shard, old), &path).await?;
            file
        }
        None => {
            let file = Rc::new(disk.create(&path).await?);
            if let Err(error) = write_block(&*file, 0, &header).await {
                drop(file);
                disk.remove(&path).await?;
                return Err(error);
            }
            file
        }
    };
    disk.sync_directory(&shard_directory(plan.shard)).await?;
    Ok(file)
}

/// The switch: from now on a clustered segment stands for its inputs. All else of it is on disk.
pub(crate) async fn declare_clustered<F: DiskFile>(
    file: &F,
    plan: &SegmentPlan,
    inputs: Vec<SegmentNumber>,
    last_index: Index,
) -> DiskResult<()> {
    let life = SegmentLife::Clustered { inputs };
    let header = SegmentHeader { life, base_index: last_index, ..ready_header(plan) };
    write_block(file, 0, &header.encode()).await
}

/// Zeros from `from` to `to`: overwriting written blocks later is several times faster than writing fresh ones.
async fn fill<F: DiskFile>(
    file: &F,
    from: u64,
    to: u64,
    pace: &impl AsyncFn(u64) -> Option<u64>,
) -> DiskResult<()> {
    let from = format::align_block(usize::try_from(from).expect("segments are small")) as u64;
    if from >= to {
        return Ok(());
    }
    file.allocate(to).await?;
    let mut position = from;
    let mut zeros: Option<Rc<F::Buffer>> = None;
    while position < to {
        let Some(piece) = pace(position).await else { break };
        let piece = usize::try_from(piece.min(to - position)).expect("a piece");
        let ready = zeros.take().filter(|zeros| (**zeros).as_ref().len() == piece);
        let buffer = ready.unwrap_or_else(|| Rc::new(file.buffer(piece)));
        file.write_at(position, buffer.clone()).await?;
        zeros = Some(buffer);
        position += piece as u64;
    }
    Ok(())
}

/// Writes whole blocks of bytes.
pub(crate) async fn write_block<F: DiskFile>(
    file: &F,
    position: u64,
    bytes: &[u8],
) -> DiskResult<()> {
    let mut buffer = file.buffer(format::align_block(bytes.len()).max(BLOCK_SIZE_BYTES));
    buffer.as_mut()[..bytes.len()].copy_from_slice(bytes);
    file.write_at(position, Rc::new(buffer)).await
}

/// Whether an error means that space may come back.
pub(crate) fn is_full(error: &DiskError) -> bool {
    matches!(error, DiskError::Full { .. })
}
