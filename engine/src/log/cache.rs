//! Frames in memory: the newest of the log, which live subscribers read, and those read back from disk.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use crate::disk::SharedBytes;
use crate::format::{self, TableRun};
use crate::index::runs::Run;
use crate::types::{ChannelId, Content, FastMap, SegmentNumber, Sequence, Timestamp};

/// A frame's contents.
#[derive(Debug)]
pub(crate) struct CachedFrame {
    /// What it holds: the index may stand for another frame than the one that was found in its place.
    pub runs: Vec<TableRun>,
    /// All records.
    pub records: CachedBytes,
    /// Where each record starts.
    pub offsets: Vec<u32>,
    /// Length of each record.
    pub lengths: Vec<u32>,
    /// Checksum of each record, looked at whenever one is taken; none if they were written by this process.
    crcs: Vec<u32>,
    /// The places of `runs`, sorted by channel and sequence: made when a run is looked for among many.
    by_channel: OnceCell<Vec<u32>>,
}

/// Among fewer runs one is found by looking at each.
const RUNS_SORTED_MIN: usize = 16;

/// A frame's records in memory: looked at where the disk takes them from, or where it brought them to.
pub(crate) struct CachedBytes {
    memory: SharedBytes,
    part: Range<usize>,
    /// What goes when this goes.
    cost_bytes: usize,
}

impl CachedBytes {
    /// `part` of a buffer that was written. Where that is less than half of it, a copy is kept instead: a lone small
    /// message would hold a whole block of memory.
    pub(crate) fn written<B: AsRef<[u8]> + 'static>(buffer: Rc<B>, part: Range<usize>) -> Self {
        let bytes = buffer.as_ref().as_ref();
        if part.len() < bytes.len() / 2 {
            return Self::copied(&bytes[part]);
        }
        let cost_bytes = bytes.len();
        Self { memory: buffer, part, cost_bytes }
    }

    /// `part` of bytes that were read, which others look at too: this one bears `cost_bytes` of them.
    pub(crate) fn shared(memory: SharedBytes, part: Range<usize>, cost_bytes: usize) -> Self {
        Self { memory, part, cost_bytes }
    }

    fn copied(bytes: &[u8]) -> Self {
        Self { memory: Rc::new(bytes.to_vec()), part: 0..bytes.len(), cost_bytes: bytes.len() }
    }

    /// The records.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &(*self.memory).as_ref()[self.part.clone()]
    }
}

impl fmt::Debug for CachedBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.part.len())
    }
}

impl CachedFrame {
    pub(crate) fn new(
        runs: Vec<TableRun>,
        records: CachedBytes,
        offsets: Vec<u32>,
        lengths: Vec<u32>,
        crcs: Vec<u32>,
    ) -> Self {
        Self { runs, records, offsets, lengths, crcs, by_channel: OnceCell::new() }
    }

    /// One in whose place nothing could be read.
    pub(crate) fn unreadable() -> Self {
        Self::new(Vec::new(), CachedBytes::copied(&[]), Vec::new(), Vec::new(), Vec::new())
    }

    /// Lets it bear the cost of so many bytes more, which go when it goes.
    pub(crate) fn bear(&mut self, cost_bytes: usize) {
        self.records.cost_bytes += cost_bytes;
    }

    /// A message of the frame; `None` if the record is not as this one was written.
    pub(crate) fn message(
        &self,
        record: u32,
        channel: ChannelId,
        sequence: Sequence,
    ) -> Option<(Timestamp, Content<'_>)> {
        let content = self.record(record)?;
        let is_right = |crc: &u32| *crc == format::record_crc(channel, sequence, content);
        if self.crcs.is_empty() || self.crcs.get(record as usize).is_some_and(is_right) {
            format::message(content)
        } else {
            None
        }
    }

    /// The record of the first message of this run; `None` if not all of the run is here: then another frame than the
    /// index's was found in its place.
    pub(crate) fn record_of(&self, channel: ChannelId, run: &Run) -> Option<u32> {
        let holds = |known: &&TableRun| {
            known.channel == channel
                && known.first <= run.first
                && run.first.0 - known.first.0 + u64::from(run.count) <= u64::from(known.count)
        };
        let known = if self.runs.len() < RUNS_SORTED_MIN {
            self.runs.iter().find(holds)?
        } else {
            let order = self.by_channel.get_or_init(|| self.sort_by_channel());
            let key = |at: &u32| self.key(*at);
            let after = order.partition_point(|at| key(at) <= (channel, run.first));
            let at = *order.get(after.checked_sub(1)?)?;
            self.runs.get(at as usize).filter(holds)?
        };
        known.record.checked_add(u32::try_from(run.first.0 - known.first.0).ok()?)
    }

    fn sort_by_channel(&self) -> Vec<u32> {
        let mut order: Vec<_> = (0..format::count_u32(self.runs.len())).collect();
        order.sort_unstable_by_key(|at| self.key(*at));
        order
    }

    fn key(&self, at: u32) -> (ChannelId, Sequence) {
        self.runs.get(at as usize).map(|run| (run.channel, run.first)).unwrap_or_default()
    }

    /// Length of a record; 0 if there is none.
    pub(crate) fn record_length(&self, record: u32) -> u32 {
        self.lengths.get(record as usize).copied().unwrap_or(0)
    }

    fn record(&self, record: u32) -> Option<&[u8]> {
        let start = *self.offsets.get(record as usize)? as usize;
        let length = *self.lengths.get(record as usize)? as usize;
        self.records.as_slice().get(start..start + length)
    }

    fn cost_bytes(&self) -> usize {
        self.records.cost_bytes + self.offsets.len() * 12 + self.runs.len() * 36 + 128
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
