//! What comes of a batch when it is sealed: a write for the disk, runs for the index, a frame for the readers.

use std::rc::Rc;

use super::batch::{BatchRun, ClosedBatch};
use super::cache::{CachedBytes, CachedFrame, FramePlace};
use crate::disk::DiskFile;
use crate::index::Run;
use crate::types::{ChannelId, Generation, Index, Position, SegmentNumber, TableSlot};

/// A frame to be written: one write, durable when it returns.
pub(crate) struct FrameWrite<F: DiskFile> {
    pub file: Rc<F>,
    pub position: u64,
    pub buffer: Rc<F::Buffer>,
    pub index: Index,
    pub records_count: usize,
}

/// What the shard learns when a batch gets its place.
pub(crate) struct SealedBatch<F> {
    pub place: FramePlace,
    pub frame: Rc<CachedFrame>,
    /// The runs with their channels, in order.
    pub runs: Vec<PlacedRun>,
    /// If it is the first of a segment: that segment.
    pub opened: Option<OpenedSegment<F>>,
    /// If another segment was left for that: it takes no more.
    pub rolled: Option<RolledSegment>,
}

/// A segment that begins to take frames.
pub(crate) struct OpenedSegment<F> {
    pub number: SegmentNumber,
    pub generation: Generation,
    pub file: Rc<F>,
}

/// A segment that takes no more frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RolledSegment {
    pub number: SegmentNumber,
    pub end: Position,
    pub last_index: Index,
}

/// A run with its place, as the index keeps it, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlacedRun {
    pub slot: TableSlot,
    pub channel: ChannelId,
    pub run: Run,
}

/// Runs with their place.
pub(super) fn place_runs(runs: &[BatchRun], place: FramePlace) -> Vec<PlacedRun> {
    let placed = |run: &BatchRun| {
        let span_ns = run.last_time.0.saturating_sub(run.first_time.0);
        let run_in_place = Run {
            first: run.table.first,
            first_time: run.first_time,
            count: run.table.count,
            bytes: run.bytes,
            segment: place.0,
            block: place.1,
            record: run.table.record,
            span_us: span_us(span_ns),
        };
        PlacedRun { slot: run.slot, channel: run.table.channel, run: run_in_place }
    };
    runs.iter().map(placed).collect()
}

/// Nanoseconds as microseconds, rounded up and bounded.
pub(crate) fn span_us(span_ns: i64) -> u32 {
    u32::try_from(span_ns.cast_unsigned().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// The frame for those who read what was just written.
pub(super) fn cached(batch: ClosedBatch, records: CachedBytes) -> Rc<CachedFrame> {
    Rc::new(CachedFrame {
        records,
        offsets: batch.offsets,
        lengths: batch.table.lengths,
        runs: batch.table.runs,
    })
}
