//! The open batch: records that will be one frame, one write, one group commit.

use std::ops::Range;

use crate::format::{self, Table, TableRun};
use crate::record::StateRecord;
use crate::types::{ChannelId, Content, Sequence, TableSlot, Timestamp};

/// A batch is closed when its records reach this. Chosen so that a commit's 30-50 us are small beside it; other sizes
/// are still to be measured with `benches`.
pub(crate) const BATCH_BYTES_TARGET: usize = 256 * 1024;

/// A batch with more runs than this is sorted by channel, which makes fewer runs of them: index, table and commit cost
/// by the run. 1,700 records of 12 channels, as they come from many publishers, become 12 runs.
const SORT_RUNS_MIN: usize = 8;

/// The channel of a message.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// Its number.
    pub id: ChannelId,
    /// Where it stands.
    pub slot: TableSlot,
    /// Stays with it from one message to the next.
    pub bucket: &'a mut BucketHint,
}

/// What is known of a run before its place is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchRun {
    /// Where its channel stands.
    pub slot: TableSlot,
    /// The run in the frame's table.
    pub table: TableRun,
    /// Sum of the records' lengths.
    pub bytes: u32,
}

/// A channel's messages in one batch, which its frame has as one run.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    channel: ChannelId,
    /// The runs of it as they came.
    runs_count: u32,
}

/// Which bucket a channel had in the batch it was last in. The bucket at that place tells whether it is so still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BucketHint(u32);

/// Records in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Each padded to [`format::RECORD_ALIGNMENT`].
    pub(super) records: Vec<u8>,
    /// What the frame's table will say, in this order.
    pub(super) table: Table,
    offsets: Vec<u32>,
    runs: Vec<BatchRun>,
    /// The channels, in the order in which they first appear.
    buckets: Vec<Bucket>,
    /// The bucket of each run of a channel.
    bucket_of: Vec<u32>,
    /// Those of the messages.
    pub(super) times: Times,
    is_urgent: bool,
}

/// The earliest and the latest time of some messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub first: Timestamp,
    pub last: Timestamp,
}

impl Default for Times {
    /// Those of no messages.
    fn default() -> Self {
        Self { first: Timestamp(i64::MAX), last: Timestamp(i64::MIN) }
    }
}

impl Times {
    pub(crate) fn add(&mut self, time: Timestamp) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
    }
}

/// Memory of batches that are gone, for the next ones: with many channels a tenth of a message's cost was to allocate it.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// An empty one.
    batch: Batch,
    pieces: Vec<Range<usize>>,
    order: Vec<u32>,
}

/// A batch that takes no more records.
#[derive(Debug)]
pub(crate) struct ClosedBatch {
    /// All records as they came, each padded to [`format::RECORD_ALIGNMENT`].
    records: Vec<u8>,
    /// The pieces of `records` in the frame's order: they are brought into it on their way to the frame, so that it
    /// costs no copy of its own.
    pieces: Vec<Range<usize>>,
    /// The frame's table.
    pub table: Table,
    /// Where each record starts in the frame's records.
    pub offsets: Vec<u32>,
    /// The runs of channels (not those of state records).
    pub runs: Vec<BatchRun>,
    /// Those of the messages.
    pub times: Times,
    spare: Spare,
}

impl Batch {
    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Whether somebody waits for it: otherwise it may ride with the next one.
    pub(crate) fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Bytes of its records.
    pub(crate) fn size_bytes(&self) -> usize {
        self.records.len()
    }

    /// How many records it has.
    pub(crate) fn records_count(&self) -> usize {
        self.offsets.len()
    }

    /// Whether a record of this length should rather go to the next batch.
    pub(crate) fn is_full_for(&self, length: usize, frame_size_max: usize) -> bool {
        if self.is_empty() {
            return false;
        }
        let records = self.records.len() + length + 64;
        // Each record may open a run: 24 + 8 bytes, twice for the copy. Half of the room for tables is kept for the
        // table of the frame before.
        let tables = (self.offsets.len() + 1) * 64 + 2 * crate::disk::BLOCK_SIZE_BYTES;
        records > BATCH_BYTES_TARGET || records + tables > frame_size_max
    }

    /// Appends a message; returns its record's length.
    pub(crate) fn push_message(
        &mut self,
        Target { id: channel, slot, bucket }: Target<'_>,
        sequence: Sequence,
        time: Timestamp,
        content: Content<'_>,
    ) -> u32 {
        let start = self.start_record();
        let crc = format::put_message(&mut self.records, channel, sequence, time, content);
        let length = self.end_record(start, crc);
        self.times.add(time);
        match self.runs.last_mut() {
            Some(run) if self.table.runs.last().is_some_and(|last| last.channel == channel) => {
                run.table.count += 1;
                run.bytes += length;
                let last = self.table.runs.last_mut().expect("looked at above");
                assert_eq!(last.sequence(last.count), sequence, "a channel's sequences are dense");
                last.count += 1;
            }
            _ => {
                let record = format::count_u32(self.offsets.len() - 1);
                let table = TableRun { channel, first: sequence, count: 1, record };
                self.table.runs.push(table);
                self.runs.push(BatchRun { slot, table, bytes: length });
                self.put_in_bucket(channel, bucket);
            }
        }
        self.is_urgent = true;
        length
    }

    /// Notes the bucket of the last run, without a search: a channel that has none here has none at its hint's place.
    fn put_in_bucket(&mut self, channel: ChannelId, hint: &mut BucketHint) {
        match self.buckets.get_mut(hint.0 as usize) {
            Some(bucket) if bucket.channel == channel => bucket.runs_count += 1,
            _ => {
                *hint = BucketHint(format::count_u32(self.buckets.len()));
                self.buckets.push(Bucket { channel, runs_count: 1 });
            }
        }
        self.bucket_of.push(hint.0);
    }

    /// Appends a state record. One that is not urgent does not start a commit by itself.
    pub(crate) fn push_state(&mut self, record: &StateRecord, is_urgent: bool) {
        let start = self.start_record();
        format::state::put_state(&mut self.records, record);
        let crc = format::record_crc(ChannelId(0), Sequence(0), &self.records[start..]);
        self.end_record(start, crc);
        match self.table.runs.last_mut() {
            Some(run) if run.channel == ChannelId(0) => run.count += 1,
            _ => {
                let record = format::count_u32(self.offsets.len() - 1);
                self.table.runs.push(TableRun {
                    channel: ChannelId(0),
                    first: Sequence(0),
                    count: 1,
                    record,
                });
            }
        }
        self.is_urgent |= is_urgent;
    }

    /// What waits long enough becomes urgent.
    pub(crate) fn make_urgent(&mut self) {
        self.is_urgent |= !self.is_empty();
    }

    /// Ends the batch and leaves an empty one that expects as much, over the memory of `spare`.
    pub(crate) fn close(&mut self, spare: Spare) -> ClosedBatch {
        assert!(!self.is_empty());
        let Spare { batch: mut next, mut pieces, order } = spare;
        next.expect_as_much_as(self);
        let closed = std::mem::replace(self, next);
        if closed.table.runs.len() > SORT_RUNS_MIN {
            return closed.sorted_by_channel(pieces, order);
        }
        pieces.push(0..closed.records.len());
        ClosedBatch {
            pieces,
            records: closed.records,
            table: closed.table,
            offsets: closed.offsets,
            runs: closed.runs,
            times: closed.times,
            spare: Spare { order, ..Spare::default() },
        }
    }

    fn expect_as_much_as(&mut self, other: &Self) {
        assert!(self.is_empty());
        let records_expected = other.offsets.len();
        self.offsets.reserve(records_expected);
        self.table.lengths.reserve(records_expected);
        self.table.crcs.reserve(records_expected);
        self.table.runs.reserve(other.table.runs.len());
        self.runs.reserve(other.runs.len());
        self.buckets.reserve(other.buckets.len());
        self.bucket_of.reserve(other.bucket_of.len());
    }

    fn clear(&mut self) {
        let Self { records, table, offsets, runs, buckets, bucket_of, times, is_urgent } = self;
        records.clear();
        table.runs.clear();
        table.lengths.clear();
        table.crcs.clear();
        offsets.clear();
        runs.clear();
        buckets.clear();
        bucket_of.clear();
        *times = Times::default();
        *is_urgent = false;
    }

    /// With the records of each channel together. State records come first; within a channel, and among state records,
    /// the order stays. The vectors are empty, and used for their memory.
    fn sorted_by_channel(mut self, pieces: Vec<Range<usize>>, mut order: Vec<u32>) -> ClosedBatch {
        self.order_by_bucket(&mut order);
        let mut sorted = Sorted::with_room_for(&self, pieces);
        let is_state = |run: &&TableRun| run.channel == ChannelId(0);
        for run in self.table.runs.iter().filter(is_state) {
            sorted.append_run(&self, *run, None);
        }
        for at in &order {
            let run = &self.runs[*at as usize];
            sorted.append_run(&self, run.table, Some(run));
        }
        let records = std::mem::take(&mut self.records);
        let times = self.times;
        self.clear();
        order.clear();
        ClosedBatch {
            records,
            pieces: sorted.pieces,
            table: sorted.table,
            offsets: sorted.offsets,
            runs: sorted.runs,
            times,
            spare: Spare { batch: self, pieces: Vec::new(), order },
        }
    }

    /// The places of the channels' runs, bucket by bucket. The buckets' counts become the ends of their places.
    fn order_by_bucket(&mut self, order: &mut Vec<u32>) {
        let mut end = 0;
        for bucket in &mut self.buckets {
            let start = end;
            end += bucket.runs_count;
            bucket.runs_count = start;
        }
        order.resize(self.bucket_of.len(), 0);
        for (at, bucket) in self.bucket_of.iter().enumerate() {
            let place = &mut self.buckets[*bucket as usize].runs_count;
            order[*place as usize] = format::count_u32(at);
            *place += 1;
        }
    }

    fn start_record(&mut self) -> usize {
        let start = self.records.len();
        assert!(start.is_multiple_of(format::RECORD_ALIGNMENT));
        start
    }

    fn end_record(&mut self, start: usize, crc: u32) -> u32 {
        let length = format::count_u32(self.records.len() - start);
        self.table.crcs.push(crc);
        self.table.lengths.push(length);
        self.offsets.push(format::count_u32(start));
        self.records.resize(format::align_record(self.records.len()), 0);
        length
    }
}

impl ClosedBatch {
    /// Bytes of its records.
    pub(crate) fn size_bytes(&self) -> usize {
        self.records.len()
    }

    /// The records in the frame's order, in pieces.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &self.records[piece.clone()])
    }

    /// The memory of what the frame does not keep, for another batch.
    pub(crate) fn take_spare(&mut self) -> Spare {
        let mut spare = std::mem::take(&mut self.spare);
        spare.batch.records = std::mem::take(&mut self.records);
        spare.batch.records.clear();
        spare.pieces = std::mem::take(&mut self.pieces);
        spare.pieces.clear();
        spare
    }
}

impl Spare {
    /// How large a batch it holds the memory of.
    pub(crate) fn size_bytes(&self) -> usize {
        self.batch.records.capacity()
    }
}

/// A batch on its way to another order.
struct Sorted {
    pieces: Vec<Range<usize>>,
    /// Sum of the pieces' lengths.
    size_bytes: usize,
    table: Table,
    offsets: Vec<u32>,
    runs: Vec<BatchRun>,
}

impl Sorted {
    fn with_room_for(batch: &Batch, pieces: Vec<Range<usize>>) -> Self {
        let runs_count = batch.buckets.len() + 1;
        Self {
            pieces,
            size_bytes: 0,
            table: Table {
                runs: Vec::with_capacity(runs_count),
                lengths: Vec::with_capacity(batch.offsets.len()),
                crcs: Vec::with_capacity(batch.offsets.len()),
            },
            offsets: Vec::with_capacity(batch.offsets.len()),
            runs: Vec::with_capacity(runs_count),
        }
    }

    /// Appends a run of the batch, and makes one of it and the last run if it continues that.
    fn append_run(&mut self, from: &Batch, run: TableRun, of_channel: Option<&BatchRun>) {
        let record = format::count_u32(self.offsets.len());
        let records = run.record as usize..(run.record + run.count) as usize;
        let start = from.offsets[records.start] as usize;
        let end = from.offsets.get(records.end).map_or(from.records.len(), |end| *end as usize);
        let moved = self.size_bytes;
        self.pieces.push(start..end);
        self.size_bytes += end - start;
        let place = |offset: &u32| format::count_u32(*offset as usize - start + moved);
        self.offsets.extend(from.offsets[records.clone()].iter().map(place));
        self.table.lengths.extend_from_slice(&from.table.lengths[records.clone()]);
        self.table.crcs.extend_from_slice(&from.table.crcs[records]);
        match self.table.runs.last_mut() {
            Some(last) if last.channel == run.channel => {
                last.count += run.count;
                if let (Some(more), Some(known)) = (of_channel, self.runs.last_mut()) {
                    assert_eq!(
                        last.sequence(last.count - 1),
                        run.sequence(run.count - 1),
                        "a channel's records are dense"
                    );
                    known.table.count += run.count;
                    known.bytes += more.bytes;
                }
            }
            _ => {
                let table = TableRun { record, ..run };
                self.table.runs.push(table);
                self.runs.extend(of_channel.map(|run| BatchRun { table, ..*run }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::FastMap;

    /// Sorting keeps every record with its checksum, makes one run of each channel and leaves state records in order.
    #[test]
    fn sorting_keeps_every_record() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut batch = Batch::default();
            let mut next = [0_u64; 6];
            // As left by earlier batches.
            let mut hints = [(); 6].map(|()| BucketHint(rng.u32(..8)));
            let mut states = Vec::new();
            let mut payloads: FastMap<(ChannelId, Sequence), Vec<u8>> = FastMap::default();
            for at in 0..200_i64 {
                let channel = rng.usize(..6);
                if channel == 0 {
                    let record = StateRecord::ChannelDeleted { id: ChannelId(rng.u64(..)) };
                    batch.push_state(&record, false);
                    states.push(record);
                    continue;
                }
                next[channel] += 1;
                let payload = vec![rng.u8(..); rng.usize(..40)];
                let (id, sequence) = (ChannelId(channel as u64), Sequence(next[channel]));
                let slot = TableSlot::default();
                let named = Target { id, slot, bucket: &mut hints[channel] };
                batch.push_message(named, sequence, Timestamp(at), (&payload).into());
                payloads.insert((id, sequence), payload);
            }
            let closed = batch.close(Spare::default());
            check_sorted(&closed, &states, &payloads);
        }
    }

    fn check_sorted(
        closed: &ClosedBatch,
        states: &[StateRecord],
        payloads: &FastMap<(ChannelId, Sequence), Vec<u8>>,
    ) {
        assert!(closed.table.runs.len() <= 6, "one run a channel");
        assert_eq!(
            closed.runs.len(),
            closed.table.runs.iter().filter(|run| run.channel.0 != 0).count()
        );
        let records: Vec<u8> = closed.pieces().flatten().copied().collect();
        assert_eq!(records.len(), closed.size_bytes());
        let mut seen = 0;
        let mut read_states = Vec::new();
        for run in &closed.table.runs {
            for offset in 0..run.count {
                let record = (run.record + offset) as usize;
                let start = closed.offsets[record] as usize;
                let content = &records[start..start + closed.table.lengths[record] as usize];
                let sequence = run.sequence(offset);
                assert_eq!(
                    closed.table.crcs[record],
                    format::record_crc(run.channel, sequence, content)
                );
                if run.channel.0 == 0 {
                    read_states.push(format::state::decode_state(content));
                } else {
                    let payload =
                        format::message(content).map(|message| message.1.payload.to_vec());
                    assert_eq!(payload.as_ref(), payloads.get(&(run.channel, sequence)));
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, payloads.len());
        let expected: Vec<_> =
            states.iter().cloned().map(format::state::DecodedState::Known).collect();
        assert_eq!(read_states, expected);
    }
}
