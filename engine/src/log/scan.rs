//! Finding frames in bytes of a segment file: used by recovery and by reads of history.

use crate::disk::BLOCK_SIZE_BYTES;
use crate::format::{self, FRAME_HEADER_BYTES, FrameHeader, Table};
use crate::types::{Generation, SegmentNumber};

/// A frame found in bytes.
#[derive(Debug)]
pub(crate) struct FoundFrame<'a> {
    pub header: FrameHeader,
    pub table: Table,
    /// The bytes of the table of the frame before, if this one repeats it.
    previous_table: &'a [u8],
    /// All records.
    pub records: &'a [u8],
    /// Where each record starts.
    pub offsets: Vec<u32>,
    /// Records whose checksum is wrong; nothing if they were not checked.
    pub damaged: Vec<u32>,
    /// Whether the frame's own header or first table was damaged.
    pub is_front_damaged: bool,
}

impl FoundFrame<'_> {
    /// Whether every byte that matters was as written.
    pub(crate) fn is_intact(&self) -> bool {
        self.damaged.is_empty() && !self.is_front_damaged
    }

    /// How far behind the frame's start to go on: behind its end, if its copy stands there. If not, its front may stand in
    /// the place of a shorter frame, behind which others are whole: then the next header within its length counts.
    pub(crate) fn step_bytes(&self, bytes: &[u8]) -> usize {
        let header = self.header;
        let length = header.length_bytes();
        let frame = bytes.get(..length).unwrap_or(bytes);
        let copy = copy_at_end(frame);
        if header.blocks == 1 || copy == Some((header, true)) {
            return length;
        }
        let is_ours = |other: &FrameHeader| {
            other.segment == header.segment && other.generation == header.generation
        };
        let mut others = frame.chunks_exact(BLOCK_SIZE_BYTES).enumerate().skip(1);
        let next = others.find(|(_, block)| {
            FrameHeader::decode(block).is_some_and(|(other, is_copy)| is_ours(&other) && !is_copy)
        });
        next.map_or(length, |(at, _)| at * BLOCK_SIZE_BYTES)
    }

    /// The table of the frame before, if this one repeats it.
    pub(crate) fn previous_table(&self) -> Option<Table> {
        let count = Table::record_count(self.previous_table)?;
        Some(Table::decode(self.previous_table, count)?.0)
    }

    fn check_records(&mut self) {
        for run in &self.table.runs {
            for offset in 0..run.count {
                let record = run.record + offset;
                let at = record as usize;
                let (start, length) = (self.offsets[at] as usize, self.table.lengths[at] as usize);
                let content = &self.records[start..start + length];
                let crc = format::record_crc(run.channel, run.sequence(offset), content);
                if crc != self.table.crcs[at] {
                    self.damaged.push(record);
                }
            }
        }
    }

    /// A record's content; `None` if it is damaged.
    pub(crate) fn record(&self, record: u32) -> Option<&[u8]> {
        if self.damaged.contains(&record) {
            return None;
        }
        let start = *self.offsets.get(record as usize)? as usize;
        let length = *self.table.lengths.get(record as usize)? as usize;
        self.records.get(start..start.checked_add(length)?)
    }
}

/// What stands at a block.
#[derive(Debug)]
pub(crate) enum FrameAt<'a> {
    /// No frame of this segment file starts here.
    None,
    /// A frame starts here, whose bytes are not all there.
    Partial,
    /// A frame.
    Whole(Box<FoundFrame<'a>>),
}

/// Looks for a frame that starts with `bytes`, and checks its records one by one.
pub(crate) fn frame_at(
    bytes: &[u8],
    segment: SegmentNumber,
    generation: Generation,
) -> FrameAt<'_> {
    let mut found = frame_at_without_records(bytes, segment, generation);
    if let FrameAt::Whole(found) = &mut found {
        found.check_records();
    }
    found
}

/// The same, with no look at the records: whoever takes one checks it. Of many channels' messages that are read together
/// only a few are taken.
pub(crate) fn frame_at_without_records(
    bytes: &[u8],
    segment: SegmentNumber,
    generation: Generation,
) -> FrameAt<'_> {
    let is_ours =
        |header: &FrameHeader| header.segment == segment && header.generation == generation;
    let front = FrameHeader::decode(bytes).filter(|(header, is_copy)| is_ours(header) && !is_copy);
    let (header, is_front_damaged) = match front {
        Some((header, _)) => (header, false),
        None => match find_copy(bytes, is_ours) {
            Some(header) => (header, true),
            None => return FrameAt::None,
        },
    };
    let Some(frame) = bytes.get(..header.length_bytes()) else {
        return FrameAt::Partial;
    };
    check_frame(header, frame, is_front_damaged)
        .map_or(FrameAt::None, |found| FrameAt::Whole(Box::new(found)))
}

/// How far behind the start of `bytes` the next frame starts, as its header or the copy at its end says. Whoever finds
/// no frame goes there, so that looking for frames costs each block once.
pub(crate) fn next_frame(
    bytes: &[u8],
    segment: SegmentNumber,
    generation: Generation,
) -> Option<usize> {
    let is_ours = |(header, _): &(FrameHeader, bool)| {
        header.segment == segment && header.generation == generation
    };
    let blocks = bytes.chunks_exact(BLOCK_SIZE_BYTES).enumerate().skip(1);
    for (at, block) in blocks {
        if FrameHeader::decode(block).filter(is_ours).is_some_and(|(_, is_copy)| !is_copy) {
            return Some(at * BLOCK_SIZE_BYTES);
        }
        let copy = block.get(BLOCK_SIZE_BYTES - FRAME_HEADER_BYTES..)?;
        if let Some((header, true)) = FrameHeader::decode(copy).filter(is_ours)
            && let Some(start) =
                (at + 1).checked_sub(usize::from(header.blocks)).filter(|start| *start > 0)
        {
            return Some(start * BLOCK_SIZE_BYTES);
        }
    }
    None
}

/// A frame that ends with these bytes, whose start another one was written over: its copies say which records it had, and
/// none of them counts, for nobody finds the frame where it is looked for.
pub(crate) fn overwritten_frame(
    bytes: &[u8],
    segment: SegmentNumber,
    generation: Generation,
) -> Option<FoundFrame<'_>> {
    let (header, is_copy) = copy_at_end(bytes)?;
    let is_ours = header.segment == segment && header.generation == generation;
    let start = bytes.len().checked_sub(header.length_bytes())?;
    let mut found =
        check_frame(header, bytes.get(start..)?, true).filter(|_| is_ours && is_copy)?;
    found.damaged = (0..header.record_count).collect();
    Some(found)
}

fn copy_at_end(bytes: &[u8]) -> Option<(FrameHeader, bool)> {
    FrameHeader::decode(bytes.get(bytes.len().checked_sub(FRAME_HEADER_BYTES)?..)?)
}

/// The header's copy at the end of a frame that starts with these bytes. Only headers of this segment file are looked
/// at: a payload may hold anything else.
fn find_copy(bytes: &[u8], is_ours: impl Fn(&FrameHeader) -> bool) -> Option<FrameHeader> {
    let decode = |bytes| FrameHeader::decode(bytes).filter(|(header, _)| is_ours(header));
    bytes.chunks_exact(BLOCK_SIZE_BYTES).enumerate().skip(1).find_map(|(at, block)| {
        // Another frame starts here: ours ended before, without a copy that can be read.
        if decode(block).is_some_and(|(_, is_copy)| !is_copy) {
            return Some(None);
        }
        let copy = block.get(BLOCK_SIZE_BYTES - FRAME_HEADER_BYTES..)?;
        let (header, is_copy) = decode(copy)?;
        Some((is_copy && usize::from(header.blocks) == at + 1).then_some(header))
    })?
}

fn check_frame(
    header: FrameHeader,
    frame: &[u8],
    is_front_damaged: bool,
) -> Option<FoundFrame<'_>> {
    let table_bytes = format::find_table(&header, frame)?;
    let (table, previous_table) = Table::decode(table_bytes, header.record_count)?;
    let records = frame.get(format::records_start(&header)?..)?;
    let mut offsets = Vec::with_capacity(table.lengths.len());
    let mut start = 0_usize;
    for length in &table.lengths {
        offsets.push(u32::try_from(start).ok()?);
        let end = start.checked_add(*length as usize).filter(|end| *end <= records.len())?;
        start = format::align_record(end);
    }
    let is_front_damaged = is_front_damaged
        || format::table_crc(
            header.generation,
            frame.get(FRAME_HEADER_BYTES..)?.get(..table_bytes.len())?,
        ) != header.table_crc;
    let damaged = Vec::new();
    Some(FoundFrame { header, table, previous_table, records, offsets, damaged, is_front_damaged })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{frame_length_bytes, put_frame, table_crc};
    use crate::log::batch::{Batch, BucketHint, Spare, Target};
    use crate::types::{ChannelId, Index, Sequence, TableSlot, Term, Timestamp};

    const SEGMENT: SegmentNumber = SegmentNumber(1);

    fn frame(generation: Generation, payload: &[u8]) -> Vec<u8> {
        let mut batch = Batch::default();
        let bucket = &mut BucketHint::default();
        let channel = Target { id: ChannelId(1), slot: TableSlot::default(), bucket };
        batch.push_message(channel, Sequence(1), Timestamp(1), payload.into());
        let batch = batch.close(Spare::default());
        let table = batch.table.encode(&[]);
        let mut frame = vec![0; frame_length_bytes(table.len(), batch.size_bytes())];
        let header = FrameHeader {
            is_clustered: false,
            blocks: u16::try_from(frame.len() / BLOCK_SIZE_BYTES).unwrap(),
            record_count: 1,
            table_length: u32::try_from(table.len()).unwrap(),
            generation,
            segment: SEGMENT,
            term: Term(1),
            index: Index(1),
            committed: Index(0),
            previous_crc: 0,
            table_crc: table_crc(generation, &table),
        };
        put_frame(&mut frame, &header, &table, batch.pieces());
        frame
    }

    /// A message that holds a frame of its own making must not end the search for the copy of the frame it is in.
    #[test]
    fn a_payload_does_not_hide_the_copy() {
        let ours = Generation(7);
        let forged = frame(Generation(8), b"forged");
        for shift in 0..BLOCK_SIZE_BYTES / 8 {
            // Somewhere the forged header stands at the start of a block, and somewhere at a block's end.
            let payload = [vec![0; shift * 8 + 4], forged.clone(), vec![0; 5_000]].concat();
            let mut written = frame(ours, &payload);
            written[0] ^= 1;
            let FrameAt::Whole(found) = frame_at(&written, SEGMENT, ours) else {
                panic!("hidden at {shift}");
            };
            assert!(found.is_front_damaged);
            assert!(found.record(0).is_some_and(|record| record.ends_with(&payload)));
        }
    }
}
