//! The open batch: records that will be one frame, one write, one group commit.

use bytes::Bytes;

use crate::format::{self, Table, TableRun};
use crate::record::StateRecord;
use crate::types::{ChannelId, Sequence, Timestamp};

/// A batch is closed when its records reach this: larger ones gain nothing per message and cost latency.
/// Found with `benches` (engine append, 16,384 outstanding): 64 KiB and 512 KiB are both slower.
pub(crate) const BATCH_BYTES_TARGET: usize = 256 * 1024;

/// What is known of a run before its place is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchRun {
    /// The run in the frame's table.
    pub table: TableRun,
    /// The first one's time.
    pub first_time: Timestamp,
    /// The last one's time.
    pub last_time: Timestamp,
    /// Sum of the records' lengths.
    pub bytes: u32,
}

/// Records in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    records: Vec<u8>,
    table: Table,
    offsets: Vec<u32>,
    runs: Vec<BatchRun>,
    is_urgent: bool,
}

/// A batch that takes no more records.
#[derive(Debug)]
pub(crate) struct ClosedBatch {
    /// All records, each padded to [`format::RECORD_ALIGNMENT`].
    pub records: Bytes,
    /// The frame's table.
    pub table: Table,
    /// Where each record starts in `records`.
    pub offsets: Vec<u32>,
    /// The runs of channels (not those of state records).
    pub runs: Vec<BatchRun>,
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
        channel: ChannelId,
        sequence: Sequence,
        time: Timestamp,
        payload: &[u8],
    ) -> u32 {
        let start = self.start_record();
        format::put_message(&mut self.records, time, payload);
        let length = self.end_record(start, channel, sequence);
        match self.runs.last_mut() {
            Some(run) if self.table.runs.last().is_some_and(|last| last.channel == channel) => {
                run.table.count += 1;
                run.bytes += length;
                run.last_time = time;
                let last = self.table.runs.last_mut().expect("looked at above");
                assert_eq!(last.sequence(last.count), sequence, "a channel's sequences are dense");
                last.count += 1;
            }
            _ => {
                let record = format::count_u32(self.offsets.len() - 1);
                let table = TableRun { channel, first: sequence, count: 1, record };
                self.table.runs.push(table);
                self.runs.push(BatchRun {
                    table,
                    first_time: time,
                    last_time: time,
                    bytes: length,
                });
            }
        }
        self.is_urgent = true;
        length
    }

    /// Appends a state record. One that is not urgent does not start a commit by itself.
    pub(crate) fn push_state(&mut self, record: &StateRecord, is_urgent: bool) {
        let start = self.start_record();
        format::state::put_state(&mut self.records, record);
        self.end_record(start, ChannelId(0), Sequence(0));
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

    /// Ends the batch and leaves an empty one that expects as much.
    pub(crate) fn close(&mut self) -> ClosedBatch {
        assert!(!self.is_empty());
        let records_expected = self.offsets.len();
        let next = Self {
            records: Vec::with_capacity(self.records.len()),
            offsets: Vec::with_capacity(records_expected),
            table: Table {
                runs: Vec::new(),
                lengths: Vec::with_capacity(records_expected),
                crcs: Vec::with_capacity(records_expected),
            },
            ..Self::default()
        };
        let mut closed = std::mem::replace(self, next);
        if closed.records.capacity() / 2 > closed.records.len() {
            // It stays in memory for a while: the cache counts what is used.
            closed.records.shrink_to_fit();
        }
        ClosedBatch {
            records: closed.records.into(),
            table: closed.table,
            offsets: closed.offsets,
            runs: closed.runs,
        }
    }

    fn start_record(&mut self) -> usize {
        let start = self.records.len();
        assert!(start.is_multiple_of(format::RECORD_ALIGNMENT));
        start
    }

    fn end_record(&mut self, start: usize, channel: ChannelId, sequence: Sequence) -> u32 {
        let content = &self.records[start..];
        let length = format::count_u32(content.len());
        self.table.crcs.push(format::record_crc(channel, sequence, content));
        self.table.lengths.push(length);
        self.offsets.push(format::count_u32(start));
        self.records.resize(format::align_record(self.records.len()), 0);
        length
    }
}
