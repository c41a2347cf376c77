//! The log of one shard, without any waiting: batches go in, writes come out, completions come back.
//!
//! ```text
//! push -> open batch -> (full) -> closed batches -> seal -> write in flight -> complete -> committed
//! ```
//! It promises: batches are committed in their order and only when all before them are on disk; a failed write ends
//! the log, and nothing behind it is ever called committed. It never reads: recovery and cold reads do.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::disk::{BLOCK_SIZE_BYTES, DiskFile};
use crate::error::DiskError;
use crate::format::blocks::{ChainPoint, SegmentHeader, SegmentLife, StoreBlock};
use crate::format::{self, FrameHeader};
use crate::record::StateRecord;
use crate::storage::Tuning;
use crate::types::{
    Content, Generation, Index, Monotonic, Position, SegmentNumber, Sequence, ShardId, Term,
    Timestamp,
};

pub(crate) mod batch;
pub(crate) mod cache;
pub(crate) mod history;
mod next_segment;
mod room;
pub(crate) mod scan;
pub(crate) mod sealed;
pub(crate) mod segment;
mod unwritten;

use batch::{Batch, BatchRun, ClosedBatch, Spare, Target};
use cache::CachedBytes;
pub(crate) use next_segment::FillStep;
pub(crate) use room::Need;
use sealed::cached;
pub(crate) use sealed::{FrameWrite, OpenedSegment, RolledSegment, SealedBatch};
use segment::PreparedSegment;

/// Commits of one shard on their way to the disk at once: with 4 the device's latency is hidden (measured: 3-4 times
/// the commits of 1), more only makes batches smaller.
pub(crate) const COMMITS_IN_FLIGHT_MAX: usize = 4;

/// A batch that is on disk with all before it.
#[derive(Debug)]
pub(crate) struct CommittedBatch {
    /// The runs of channels, in order.
    pub runs: Vec<BatchRun>,
}

struct InFlight {
    index: Index,
    sealed: Monotonic,
    is_done: bool,
    size_bytes: usize,
    point: ChainPoint,
    small_table: Vec<u8>,
    runs: Vec<BatchRun>,
}

/// The segment that takes frames now.
struct ActiveSegment<F> {
    number: SegmentNumber,
    generation: Generation,
    file: Rc<F>,
    size_bytes: u64,
    end: Position,
}

impl<F> ActiveSegment<F> {
    fn opened(&self) -> OpenedSegment<F> {
        let (number, generation) = (self.number, self.generation);
        OpenedSegment { number, generation, file: self.file.clone() }
    }
}

/// See the module's head.
pub(crate) struct Log<F: DiskFile> {
    shard: ShardId,
    store: StoreBlock,
    tuning: Tuning,
    term: Term,
    open: Batch,
    closed: VecDeque<ClosedBatch>,
    /// Memory of a sealed batch, for the next one.
    spare: Spare,
    last_sealed: ChainPoint,
    /// The table of the last frame if that was one block: the next frame repeats it.
    last_small_table: Vec<u8>,
    in_flight: VecDeque<InFlight>,
    committed: ChainPoint,
    committed_small_table: Vec<u8>,
    uncommitted_bytes: usize,
    active: Option<ActiveSegment<F>>,
    ready: Option<PreparedSegment<F>>,
    is_preparing: bool,
    /// A batch waits for a segment.
    is_out_of_segments: bool,
    /// The length of the last frames, the latest of most weight.
    frame_bytes_recent: u64,
    finished: Option<DiskError>,
}

impl<F: DiskFile> Log<F> {
    /// A log that goes on behind `end`; its first frame opens a new segment.
    pub(crate) fn new(
        shard: ShardId,
        store: StoreBlock,
        tuning: Tuning,
        term: Term,
        end: ChainPoint,
    ) -> Self {
        Self {
            shard,
            store,
            tuning,
            term,
            open: Batch::default(),
            closed: VecDeque::new(),
            spare: Spare::default(),
            last_sealed: end,
            last_small_table: Vec::new(),
            in_flight: VecDeque::new(),
            committed: end,
            committed_small_table: Vec::new(),
            uncommitted_bytes: 0,
            active: None,
            ready: None,
            is_preparing: false,
            is_out_of_segments: false,
            frame_bytes_recent: 0,
            finished: None,
        }
    }

    /// The index that what is pushed now will have.
    pub(crate) fn open_index(&self) -> Index {
        Index(self.last_sealed.index.0 + self.closed.len() as u64 + 1)
    }

    /// The index of the last batch that has anything in it: what a request must wait for that changed nothing now.
    pub(crate) fn last_index(&self) -> Index {
        if self.open.is_empty() { Index(self.open_index().0 - 1) } else { self.open_index() }
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn committed(&self) -> Index {
        self.committed.index
    }

    /// The committed end, and the table of its frame if nothing else repeats it.
    pub(crate) fn commit_hint(&self) -> (ChainPoint, &[u8]) {
        (self.committed, &self.committed_small_table)
    }

    /// The end of what was sealed, and whether nothing is open behind it.
    pub(crate) fn sealed_end(&self) -> Option<ChainPoint> {
        (self.open.is_empty() && self.closed.is_empty()).then_some(self.last_sealed)
    }

    pub(crate) fn finished(&self) -> Option<&DiskError> {
        self.finished.as_ref()
    }

    /// The size of the segment that takes frames; 0: there is none.
    pub(crate) fn active_size_bytes(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.size_bytes)
    }

    /// Where the last committed frame ends.
    pub(crate) fn committed_end(&self) -> (SegmentNumber, Position) {
        (self.committed.segment, self.committed.end)
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes + self.open.size_bytes()
    }

    /// The largest record that fits a frame.
    pub(crate) fn record_size_max(&self) -> usize {
        self.store.frame_size_bytes_max as usize - 32 * 1024
    }

    /// Appends a message.
    pub(crate) fn push_message(
        &mut self,
        channel: Target<'_>,
        sequence: Sequence,
        time: Timestamp,
        content: Content<'_>,
    ) -> u32 {
        self.make_room(format::message_size_bytes(content));
        self.open.push_message(channel, sequence, time, content)
    }

    /// Appends a state record.
    pub(crate) fn push_state(&mut self, record: &StateRecord, is_urgent: bool) {
        self.make_room(record.size_bytes_estimate());
        self.open.push_state(record, is_urgent);
    }

    /// What rides with the next batch gets one of its own now.
    pub(crate) fn make_urgent(&mut self) {
        self.open.make_urgent();
    }

    /// Whether something waits that nobody waits for.
    pub(crate) fn has_lazy_records(&self) -> bool {
        !self.open.is_empty() && !self.open.is_urgent()
    }

    fn make_room(&mut self, length: usize) {
        if self.open.is_full_for(length, self.store.frame_size_bytes_max as usize) {
            self.close_open();
        }
    }

    fn close_open(&mut self) {
        self.uncommitted_bytes += self.open.size_bytes();
        let spare = std::mem::take(&mut self.spare);
        self.closed.push_back(self.open.close(spare));
    }

    /// How much waits to be sealed: nothing, some, or a full batch.
    pub(crate) fn demand(&self) -> Demand {
        if self.finished.is_some() || self.in_flight.len() >= COMMITS_IN_FLIGHT_MAX {
            Demand::None
        } else if !self.closed.is_empty() || self.open.size_bytes() >= batch::BATCH_BYTES_TARGET / 4
        {
            Demand::Full
        } else if self.open.is_urgent() {
            Demand::Some
        } else {
            Demand::None
        }
    }

    /// Gives the oldest waiting batch its place and its bytes. `None` if nothing waits, or no segment is ready.
    pub(crate) fn seal(&mut self, now: Monotonic) -> Option<(FrameWrite<F>, SealedBatch<F>)> {
        assert!(self.finished.is_none(), "the caller asked for demand first");
        if self.closed.is_empty() {
            if self.open.is_empty() {
                return None;
            }
            self.close_open();
        }
        let table = self.closed.front()?.table.encode(&self.last_small_table);
        let records_length = self.closed.front()?.size_bytes();
        let length = format::frame_length_bytes(table.len(), records_length);
        let rolled = self.roll_for(length)?;
        let batch = self.closed.pop_front().expect("looked at above");
        Some(self.seal_batch(batch, &table, length, rolled, now))
    }

    /// Makes the active segment one with room. The inner option says which segment was left.
    fn roll_for(&mut self, length: usize) -> Option<Roll> {
        if self
            .active
            .as_ref()
            .is_some_and(|active| active.end.0 + length as u64 <= active.size_bytes)
        {
            return Some(Roll::Stay);
        }
        let ready = self
            .ready
            .take_if(|ready| format::SEGMENT_HEADER_BYTES + length as u64 <= ready.size_bytes);
        self.is_out_of_segments = ready.is_none();
        let ready = ready?;
        let previous = self.active.take().map(|active| RolledSegment {
            number: active.number,
            end: active.end,
            last_index: self.last_sealed.index,
        });
        self.active = Some(ActiveSegment {
            number: ready.number,
            generation: ready.generation,
            file: ready.file,
            size_bytes: ready.size_bytes,
            end: Position(format::SEGMENT_HEADER_BYTES),
        });
        Some(Roll::To(previous))
    }

    fn seal_batch(
        &mut self,
        mut batch: ClosedBatch,
        table: &[u8],
        length: usize,
        roll: Roll,
        now: Monotonic,
    ) -> (FrameWrite<F>, SealedBatch<F>) {
        let active = self.active.as_mut().expect("roll_for made one");
        let index = self.last_sealed.index.next();
        let header = FrameHeader {
            blocks: u16::try_from(length / BLOCK_SIZE_BYTES)
                .expect("frame_size_bytes_max is below 2^28"),
            is_clustered: false,
            record_count: format::count_u32(batch.offsets.len()),
            table_length: format::count_u32(table.len()),
            generation: active.generation,
            segment: active.number,
            term: self.term,
            index,
            committed: self.committed.index,
            previous_crc: self.last_sealed.crc,
            table_crc: format::table_crc(active.generation, table),
        };
        // A new segment's header and first frame are one write: no ack before the header that links to it is durable.
        let lead = if matches!(roll, Roll::To(_)) { BLOCK_SIZE_BYTES } else { 0 };
        let mut buffer = active.file.buffer(lead + length);
        let (head, frame) = buffer.as_mut().split_at_mut(lead);
        if lead > 0 {
            let block =
                segment_header(self.shard, &self.store, self.term, active, index, self.last_sealed)
                    .encode();
            head.copy_from_slice(&block);
        }
        self.frame_bytes_recent = (self.frame_bytes_recent * 3 + length as u64) / 4;
        let size_bytes = batch.size_bytes();
        let crc = format::put_frame(frame, &header, table, batch.pieces());
        let start = active.end;
        active.end = Position(start.0 + length as u64);
        let place = (
            active.number,
            u32::try_from(start.0 / BLOCK_SIZE_BYTES as u64).expect("segments are small"),
        );
        self.last_sealed = ChainPoint { segment: active.number, end: active.end, crc, index };
        self.last_small_table =
            if header.blocks == 1 { batch.table.encode(&[]) } else { Vec::new() };
        let runs = std::mem::take(&mut batch.runs);
        self.in_flight.push_back(InFlight {
            index,
            sealed: now,
            is_done: false,
            size_bytes,
            point: self.last_sealed,
            small_table: self.last_small_table.clone(),
            runs,
        });
        let buffer = Rc::new(buffer);
        let write = FrameWrite {
            file: active.file.clone(),
            position: start.0 - lead as u64,
            buffer: buffer.clone(),
            index,
            records_count: batch.offsets.len(),
        };
        let spare = batch.take_spare();
        // That of a single giant message is not kept.
        if spare.size_bytes() <= 2 * batch::BATCH_BYTES_TARGET {
            self.spare = spare;
        }
        let records = lead + format::FRAME_HEADER_BYTES + table.len();
        let records = CachedBytes::written(buffer, records..records + size_bytes);
        let opened = matches!(roll, Roll::To(_)).then(|| active.opened());
        let rolled = match roll {
            Roll::Stay => None,
            Roll::To(previous) => previous,
        };
        let times = batch.times;
        (write, SealedBatch { place, times, frame: cached(batch, records), opened, rolled })
    }

    /// The runs of the batch that was sealed last.
    pub(crate) fn sealed_runs(&self) -> &[BatchRun] {
        self.in_flight.back().map_or(&[], |write| &write.runs)
    }

    /// A write is done; later ones may be done before earlier ones.
    pub(crate) fn complete(&mut self, index: Index, result: Result<(), DiskError>) {
        match result {
            Ok(()) if self.finished.is_none() => {
                let write = self.in_flight.iter_mut().find(|write| write.index == index);
                let write = write.expect("only writes in flight complete");
                assert!(!write.is_done, "a write completes once");
                write.is_done = true;
            }
            // Behind a failed write nothing counts, even if it arrived.
            Ok(()) => {}
            Err(error) => {
                self.finished.get_or_insert(error);
            }
        }
    }

    /// The next batch that is on disk with all before it.
    pub(crate) fn next_committed(&mut self) -> Option<CommittedBatch> {
        if self.finished.is_some() || !self.in_flight.front().is_some_and(|write| write.is_done) {
            return None;
        }
        let write = self.in_flight.pop_front().expect("looked at above");
        assert_eq!(write.index, self.committed.index.next(), "batches commit in order");
        self.committed = write.point;
        self.committed_small_table = write.small_table;
        self.uncommitted_bytes -= write.size_bytes;
        Some(CommittedBatch { runs: write.runs })
    }

    /// The log takes no more: a write of what it needs failed.
    pub(crate) fn finish(&mut self, error: DiskError) {
        self.finished.get_or_insert(error);
    }

    /// When the oldest write that has not ended was begun.
    pub(crate) fn oldest_write(&self) -> Option<Monotonic> {
        self.in_flight.iter().find(|write| !write.is_done).map(|write| write.sealed)
    }
}

/// How much waits to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Demand {
    None,
    Some,
    Full,
}

enum Roll {
    Stay,
    To(Option<RolledSegment>),
}

fn segment_header<F>(
    shard: ShardId,
    store: &StoreBlock,
    term: Term,
    active: &ActiveSegment<F>,
    base_index: Index,
    previous: ChainPoint,
) -> SegmentHeader {
    SegmentHeader {
        life: SegmentLife::Log,
        shard,
        number: active.number,
        generation: active.generation,
        base_index,
        base_term: term,
        size_bytes: active.size_bytes,
        previous,
        key_id: 0,
        store: store.clone(),
    }
}
