//! What comes of a batch when it is sealed: a write for the disk, a place for the index, a frame for the readers.

use std::rc::Rc;

use super::batch::{ClosedBatch, Times};
use super::cache::{CachedBytes, CachedFrame, FramePlace};
use crate::disk::DiskFile;
use crate::types::{Generation, Index, Position, SegmentNumber};

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
    /// The times of its messages.
    pub times: Times,
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

/// The frame for those who read what was just written.
pub(super) fn cached(batch: ClosedBatch, records: CachedBytes) -> Rc<CachedFrame> {
    let crate::format::Table { runs, lengths, .. } = batch.table;
    Rc::new(CachedFrame::new(runs, records, batch.offsets, lengths, Vec::new()))
}
