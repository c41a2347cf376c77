//! Messages that have no place yet, in the closed batches and the open one: the index does not know them.

use super::Log;
use super::batch::Times;
use crate::disk::DiskFile;
use crate::format::{self, Table};
use crate::types::{ChannelId, Sequence, Timestamp};

impl<F: DiskFile> Log<F> {
    /// The first of the channel's messages without a place that is not before `time`. It looks at each of their records
    /// in turn: at most the batches that wait.
    pub(crate) fn first_unwritten_since(
        &self,
        channel: ChannelId,
        time: Timestamp,
    ) -> Option<Sequence> {
        let mut closed = self.closed.iter();
        let found = closed.find_map(|batch| {
            find_since(&batch.table, batch.times, batch.pieces(), (channel, time))
        });
        let open = &self.open;
        let records = std::iter::once(&open.records[..]);
        found.or_else(|| find_since(&open.table, open.times, records, (channel, time)))
    }
}

/// The first message of `channel` since `time` in a batch; `pieces` are its records in the table's order.
fn find_since<'a>(
    table: &Table,
    times: Times,
    mut pieces: impl Iterator<Item = &'a [u8]>,
    (channel, time): (ChannelId, Timestamp),
) -> Option<Sequence> {
    if times.last < time {
        return None;
    }
    let mut rest: &[u8] = &[];
    let records = table.lengths.iter().map(|length| {
        if rest.is_empty() {
            rest = pieces.next().unwrap_or_default();
        }
        let length = *length as usize;
        let (record, others) = rest.split_at(format::align_record(length));
        rest = others;
        &record[..length]
    });
    let names = table.runs.iter().flat_map(|run| (0..run.count).map(move |at| (run, at)));
    let is_since = |record| format::message(record).is_some_and(|(of, _)| of >= time);
    names
        .zip(records)
        .find(|((run, _), record)| run.channel == channel && is_since(record))
        .map(|((run, at), _)| run.sequence(at))
}
