//! Frames in memory: the newest of the log, which live subscribers read, and those read back from disk.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use crate::format::{self, TableRun};
use crate::index::Run;
use crate::types::{ChannelId, Content, FastMap, SegmentNumber, Timestamp};

/// A frame's contents.
#[derive(Debug)]
pub(crate) struct CachedFrame {
    /// What it holds: the index may stand for another frame than the one that was found in its place.
    pub runs: Vec<TableRun>,
    /// All records.
    pub records: CachedBytes,
    /// Where each record starts.
    pub offsets: Vec<u32>,
    /// Length of each record; 0 for one that was damaged on disk.
    pub lengths: Vec<u32>,
}

/// A frame's records in memory: those just written are looked at where the disk takes them from.
pub(crate) struct CachedBytes {
    memory: Rc<dyn AsRef<[u8]>>,
    part: Range<usize>,
}

impl CachedBytes {
    /// `part` of a buffer that was written. Where that is less than half of it, a copy is kept instead: a lone small
    /// message would hold a whole block of memory.
    pub(crate) fn written<B: AsRef<[u8]> + 'static>(buffer: Rc<B>, part: Range<usize>) -> Self {
        let bytes = buffer.as_ref().as_ref();
        if part.len() < bytes.len() / 2 {
            return Self::copied(&bytes[part]);
        }
        Self { memory: buffer, part }
    }

    /// A copy.
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        Self { memory: Rc::new(bytes.to_vec()), part: 0..bytes.len() }
    }

    /// The records.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &(*self.memory).as_ref()[self.part.clone()]
    }

    fn cost_bytes(&self) -> usize {
        (*self.memory).as_ref().len()
    }
}

impl fmt::Debug for CachedBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.part.len())
    }
}

impl CachedFrame {
    /// A message of the frame; `None` if the record is damaged or is none.
    pub(crate) fn message(&self, record: u32) -> Option<(Timestamp, Content<'_>)> {
        format::message(self.record(record)?)
    }

    /// Whether `run` of `channel` is in it, where the index says.
    pub(crate) fn holds(&self, channel: ChannelId, run: &Run) -> bool {
        let after = self.runs.partition_point(|known| known.record <= run.record);
        let Some(known) = after.checked_sub(1).and_then(|at| self.runs.get(at)) else {
            return false;
        };
        let offset = run.record - known.record;
        known.channel == channel
            && known.sequence(offset) == run.first
            && offset.checked_add(run.count).is_some_and(|end| end <= known.count)
    }

    /// Length of a record; 0 if it is damaged.
    pub(crate) fn record_length(&self, record: u32) -> u32 {
        self.lengths.get(record as usize).copied().unwrap_or(0)
    }

    fn record(&self, record: u32) -> Option<&[u8]> {
        let start = *self.offsets.get(record as usize)? as usize;
        let length = *self.lengths.get(record as usize)? as usize;
        self.records.as_slice().get(start..start + length)
    }

    fn cost_bytes(&self) -> usize {
        self.records.cost_bytes() + self.offsets.len() * 8 + self.runs.len() * 32 + 128
    }
}

/// A frame's place: segment and block.
pub(crate) type FramePlace = (SegmentNumber, u32);

/// Frames by place, the oldest insertion evicted first.
#[derive(Debug)]
pub(crate) struct FrameCache {
    frames: FastMap<FramePlace, Rc<CachedFrame>>,
    order: VecDeque<FramePlace>,
    size_bytes: usize,
    size_bytes_max: usize,
}

impl FrameCache {
    /// A cache that holds at most `size_bytes_max`, but always the newest frame.
    pub(crate) fn new(size_bytes_max: usize) -> Self {
        Self { frames: FastMap::default(), order: VecDeque::new(), size_bytes: 0, size_bytes_max }
    }

    pub(crate) fn get(&self, place: FramePlace) -> Option<&Rc<CachedFrame>> {
        self.frames.get(&place)
    }

    pub(crate) fn insert(&mut self, place: FramePlace, frame: Rc<CachedFrame>) {
        self.size_bytes += frame.cost_bytes();
        if let Some(old) = self.frames.insert(place, frame) {
            self.size_bytes -= old.cost_bytes();
        } else {
            self.order.push_back(place);
        }
        while self.size_bytes > self.size_bytes_max && self.order.len() > 1 {
            let oldest = self.order.pop_front().expect("there are two");
            let frame = self.frames.remove(&oldest).expect("what is in order is in frames");
            self.size_bytes -= frame.cost_bytes();
        }
    }

    /// Forgets all frames of a segment whose file goes away.
    pub(crate) fn forget_segment(&mut self, segment: SegmentNumber) {
        self.order.retain(|place| place.0 != segment);
        let mut freed = 0;
        self.frames.retain(|place, frame| {
            let stays = place.0 != segment;
            freed += if stays { 0 } else { frame.cost_bytes() };
            stays
        });
        self.size_bytes -= freed;
    }
}
