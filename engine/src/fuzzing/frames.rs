//! Frames: any bytes as one, and written ones that were damaged.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::Choices;
use crate::disk::BLOCK_SIZE_BYTES;
use crate::format::{self, FRAME_HEADER_BYTES, FrameHeader, Table, put_frame, table_crc};
use crate::log::batch::{Batch, BucketHint, ClosedBatch, Spare, Target};
use crate::log::scan::{FoundFrame, FrameAt, frame_at};
use crate::record::StateRecord;
use crate::recovery::replay::replay_frame;
use crate::types::{
    ChannelId, Generation, Index, SegmentNumber, Sequence, TableSlot, Term, Timestamp,
};

const SEGMENT: SegmentNumber = SegmentNumber(3);
const GENERATION: Generation = Generation(0x5eed_0f1a_57c0_ffee);

/// Nothing that is read as a part of a frame may panic.
pub(super) fn any_bytes(input: &[u8]) {
    look_at(input);
    let _ = FrameHeader::decode(input);
    let _ = format::message(input);
    let Some((count, table)) = input.split_first_chunk::<4>() else { return };
    let _ = Table::decode(table, u32::from_le_bytes(*count));
    if let Some((table, previous)) =
        Table::record_count(table).and_then(|count| Table::decode(table, count))
    {
        let written = table.encode(previous);
        let count = Table::record_count(&written).expect("it was written just now");
        assert_eq!(Table::decode(&written, count), Some((table, previous)));
    }
}

/// A frame whose checksums are right around a table that is anything.
pub(super) fn any_table(input: &[u8]) {
    let mut choices = Choices::new(input);
    let record_count = u32::from(choices.byte());
    let table = choices.bytes(2 * BLOCK_SIZE_BYTES);
    let records = choices.rest;
    let length = format::frame_length_bytes(table.len(), records.len());
    let Some(header) = header(length, record_count, table) else { return };
    let mut frame = vec![0; length];
    put_frame(&mut frame, &header, table, [records]);
    look_at(&frame);
}

/// A batch is written as a frame and damaged: what is read of it is what was put in, and one damaged block costs no
/// more than the records in it.
pub(super) fn damaged(choices: &mut Choices<'_>) {
    let (batch, contents) = batch(choices);
    let previous = choices.bytes(64);
    let table = batch.table.encode(previous);
    let length = format::frame_length_bytes(table.len(), batch.size_bytes());
    let count = format::count_u32(batch.offsets.len());
    let Some(header) = header(length, count, &table) else { return };
    let mut frame = vec![0; length];
    let crc = put_frame(&mut frame, &header, &table, batch.pieces());
    assert_eq!(crc, header.crc());
    let written = frame.clone();

    let mut damaged: Option<Range<usize>> = None;
    for _ in 0..8 {
        if choices.is_empty() {
            break;
        }
        let one = damage(&mut frame, choices);
        let all = damaged.get_or_insert(one.clone());
        *all = all.start.min(one.start)..all.end.max(one.end);
    }
    if choices.byte() % 2 == 1 {
        // What follows is another frame, as in a segment.
        frame.extend_from_slice(&written);
    }
    let FrameAt::Whole(found) = frame_at(&frame, SEGMENT, GENERATION) else {
        let damaged = damaged.expect("what is not damaged is found");
        let is_one_block = header.blocks == 1;
        assert!(
            is_one_block || !is_in_one_block(&damaged),
            "one block costs the frame: {damaged:?}"
        );
        return;
    };
    assert_eq!(found.header, header);
    assert_eq!(found.table, batch.table);
    let hit = |start: usize, length: usize| {
        damaged.as_ref().is_some_and(|range| range.start < start + length && start < range.end)
    };
    for (record, content) in (0..).zip(&contents) {
        match found.record(record) {
            Some(read) => assert_eq!(read, content),
            None => {
                let start =
                    FRAME_HEADER_BYTES + table.len() + found.offsets[record as usize] as usize;
                assert!(hit(start, content.len()), "record {record} was not damaged");
            }
        }
    }
}

/// Reads what may be a frame in every way there is.
fn look_at(bytes: &[u8]) {
    if let FrameAt::Whole(found) = frame_at(bytes, SEGMENT, GENERATION) {
        let replayed = replay_frame(&found, (SEGMENT, 1));
        assert!(replayed.runs.iter().all(|found| found.run.count > 0));
        assert_eq!(readable(&found) + found.damaged.len(), found.offsets.len());
    }
}

fn readable(found: &FoundFrame<'_>) -> usize {
    (0..found.header.record_count).filter(|record| found.record(*record).is_some()).count()
}

fn header(length: usize, record_count: u32, table: &[u8]) -> Option<FrameHeader> {
    Some(FrameHeader {
        is_clustered: false,
        blocks: u16::try_from(length / BLOCK_SIZE_BYTES).ok()?,
        record_count,
        table_length: format::count_u32(table.len()),
        generation: GENERATION,
        segment: SEGMENT,
        term: Term(2),
        index: Index(7),
        committed: Index(5),
        previous_crc: 0x1234_5678,
        table_crc: table_crc(GENERATION, table),
    })
}

/// A batch of records, and the content of each in the order of its table.
fn batch(choices: &mut Choices<'_>) -> (ClosedBatch, Vec<Vec<u8>>) {
    let mut batch = Batch::default();
    let mut contents: BTreeMap<u64, VecDeque<Vec<u8>>> = BTreeMap::new();
    let mut last = [0_u64; 4];
    let mut hints = [BucketHint::default(); 4];
    // A choice may stand for many small records: large tables are where it gets tight.
    for _ in 0..=choices.below(12) {
        let kind = choices.byte();
        let repeat = if kind & 0x80 == 0 { 1 } else { choices.below(200) };
        let length = choices.below(3 * BLOCK_SIZE_BYTES) >> (kind >> 3 & 0x0f);
        let fill = choices.byte();
        for nth in 0..=repeat {
            let mut content = Vec::new();
            let channel = (usize::from(kind) + nth) % 5;
            let id = ChannelId((channel as u64 + 1) % 5);
            if let Some(last) = last.get_mut(channel) {
                *last += 1;
                let payload = vec![fill ^ u8::try_from(nth).unwrap_or(0); length];
                let time = Timestamp(i64::from(fill));
                let slot = TableSlot::default();
                let named = Target { id, slot, bucket: &mut hints[channel] };
                batch.push_message(named, Sequence(*last), time, (&payload).into());
                format::put_message(&mut content, id, Sequence(*last), time, (&payload).into());
            } else {
                let record = StateRecord::ChannelDeleted { id: ChannelId(u64::from(fill)) };
                batch.push_state(&record, false);
                format::state::put_state(&mut content, &record);
            }
            contents.entry(id.0).or_default().push_back(content);
        }
    }
    let batch = batch.close(Spare::default());
    let ids = batch.table.runs.iter().flat_map(|run| (0..run.count).map(|_| run.channel.0));
    let mut next = |id| contents.get_mut(&id).and_then(VecDeque::pop_front);
    let in_order = ids.map(|id| next(id).expect("each record stands once in the table")).collect();
    (batch, in_order)
}

/// Damages a part of the frame and says which.
fn damage(frame: &mut [u8], choices: &mut Choices<'_>) -> Range<usize> {
    let start = choices.below(frame.len());
    let block = start - start % BLOCK_SIZE_BYTES;
    let range = match choices.byte() % 4 {
        0 => start..start + 1,
        1 => start - start % 512..start - start % 512 + 512,
        2 => block..block + BLOCK_SIZE_BYTES,
        _ => start..block + BLOCK_SIZE_BYTES,
    };
    let with = choices.byte();
    for byte in &mut frame[range.clone()] {
        *byte = if range.len() == 1 { *byte ^ with } else { with };
    }
    range
}

fn is_in_one_block(damaged: &Range<usize>) -> bool {
    damaged.start / BLOCK_SIZE_BYTES == (damaged.end - 1) / BLOCK_SIZE_BYTES
}
