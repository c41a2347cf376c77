//! Every byte on disk is made and read here: little endian, fixed width unless said otherwise, version 1.
//!
//! ```text
//! store, superblock (two slots), segment header: one sealed block of 4096 bytes each
//!   0 magic u32 | 4 crc u32 of bytes 8..12+n | 8 length n u32 | 12 body, then zeros
//!
//! segment file: header block | frame | frame | ... | footer (once sealed)
//!   header: ready for frames, a part of the log, or clustered: then the numbers of the segments it stands for
//! frame: 64-byte header | table | records, each padded to 8 | zeros to 4096
//!        over one block: ... | zeros | table again | header again (flag COPY), ending on the frame's last byte
//!   header   0 magic u32            4 crc u32 of bytes 8..64
//!            8 blocks u16          10 version u8   11 kind u8 (1 log, 2 clustered)   12 flags u16   14 zero u16
//!           16 record count u32    20 table length u32
//!           24 generation u64
//!           32 segment u32         36 term u32
//!           40 index u64
//!           48 committed u64: the commit index known when the frame was sealed
//!           56 crc of the header before it in the chain u32   60 crc of the table u32, seeded with the generation
//!   table    0 run count u32        4 length of the previous table u32
//!            runs, 24 each: channel u64 (0: state) | first sequence u64 | count u32 | first record u32
//!            lengths u32 each, crcs u32 each
//!            the table of the frame before, without its own previous table, if that frame was one block; padded to 8
//!   record   crc32c(channel u64, sequence u64, content): does not depend on the place
//!            content: kind u8 (0x80: must be understood) | ...
//!            message  1 slot count u8 | 2 slots length u16 | 4 timestamp i64 | 12 slots | payload
//!            slot     0 kind u8 (1: reply; others are skipped) | 1 length u16 | 3 value
//! footer: magic u32 | crc u32 of the rest | length u32 | generation u64 | segment u32 | frames, channels: see `footer`
//! checkpoint: chunks: magic u32 | crc u32 of the rest | length u32 | kind u8 | as_of u64 | body; the last is of kind END
//! ```
//!
//! The generation is 64 random bits that never leave the server: a payload cannot imitate a frame, and the old bytes
//! of a recycled file are never taken for new ones.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::disk::BLOCK_SIZE_BYTES;
use crate::types::{
    ChannelId, Content, Generation, Index, SegmentNumber, Sequence, Term, Timestamp,
};

pub(crate) mod blocks;
pub(crate) mod fields;
pub(crate) mod footer;
pub(crate) mod state;
#[cfg(test)]
mod tests;

/// The version of all structures below.
pub(crate) const FORMAT_VERSION: u16 = 1;
/// Length of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: usize = 64;
/// Where the first frame of a segment starts.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = BLOCK_SIZE_BYTES as u64;
/// Records start at multiples of this in a frame.
pub(crate) const RECORD_ALIGNMENT: usize = 8;
/// Length of a message record before its slots and payload.
pub(crate) const MESSAGE_HEAD_BYTES: usize = 12;

const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"WLFR");
const FRAME_VERSION: u8 = 1;
const FRAME_KIND_BATCH: u8 = 1;
const FRAME_KIND_CLUSTERED: u8 = 2;
const FLAG_COPY: u16 = 1;
const TABLE_HEAD_BYTES: usize = 8;
const RUN_BYTES: usize = 24;
const RECORD_ENTRY_BYTES: usize = 8;
const KIND_MESSAGE: u8 = 0x81;
const SLOT_REPLY: u8 = 1;
const SLOT_HEAD_BYTES: usize = 3;

/// Rounds up to the next record start.
pub(crate) const fn align_record(length: usize) -> usize {
    length.div_ceil(RECORD_ALIGNMENT) * RECORD_ALIGNMENT
}

/// Rounds up to whole blocks.
pub(crate) const fn align_block(length: usize) -> usize {
    length.div_ceil(BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES
}

/// The checksum of a record: of what it is, not of where it lies.
pub(crate) fn record_crc(channel: ChannelId, sequence: Sequence, content: &[u8]) -> u32 {
    crc32c::crc32c_append(key_crc(channel, sequence), content)
}

fn key_crc(channel: ChannelId, sequence: Sequence) -> u32 {
    let mut key = [0; 16];
    let (low, high) = key.split_at_mut(8);
    low.copy_from_slice(&channel.0.to_le_bytes());
    high.copy_from_slice(&sequence.0.to_le_bytes());
    crc32c::crc32c(&key)
}

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Whole frame in blocks.
    pub blocks: u16,
    /// Whether it is no part of the log, but of what a clustered segment has of it; its index counts that segment's
    /// frames.
    pub is_clustered: bool,
    /// Records in it.
    pub record_count: u32,
    /// Bytes of its table.
    pub table_length: u32,
    /// Of the segment file.
    pub generation: Generation,
    /// The segment.
    pub segment: SegmentNumber,
    /// The writer's term.
    pub term: Term,
    /// The batch's number.
    pub index: Index,
    /// The commit index known when it was sealed.
    pub committed: Index,
    /// The crc of the frame before.
    pub previous_crc: u32,
    /// The crc of the table.
    pub table_crc: u32,
}

impl FrameHeader {
    /// Length of the whole frame.
    pub(crate) fn length_bytes(&self) -> usize {
        usize::from(self.blocks) * BLOCK_SIZE_BYTES
    }

    /// The header's bytes, and its crc, which is the frame's: it covers the table's crc and so all records' crcs.
    fn encode(&self, flags: u16) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let mut put = fields::SliceWriter::new(&mut bytes);
        put.u32(FRAME_MAGIC);
        put.u32(0);
        put.u16(self.blocks);
        put.u8(FRAME_VERSION);
        put.u8(if self.is_clustered { FRAME_KIND_CLUSTERED } else { FRAME_KIND_BATCH });
        put.u16(flags);
        put.u16(0);
        put.u32(self.record_count);
        put.u32(self.table_length);
        put.u64(self.generation.0);
        put.u32(self.segment.0);
        put.u32(self.term.0);
        put.u64(self.index.0);
        put.u64(self.committed.0);
        put.u32(self.previous_crc);
        put.u32(self.table_crc);
        let (head, rest) = bytes.split_at_mut(8);
        let crc = crc32c::crc32c(rest);
        head.split_at_mut(4).1.copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// Reads a header from the first 64 bytes; `None` if they are none. Returns whether it is the copy.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, bool)> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES)?;
        let mut get = fields::Reader::new(bytes);
        if get.u32()? != FRAME_MAGIC {
            return None;
        }
        if get.u32()? != crc32c::crc32c(bytes.get(8..)?) {
            return None;
        }
        let blocks = get.u16()?;
        let (version, kind, flags, _) = (get.u8()?, get.u8()?, get.u16()?, get.u16()?);
        let is_clustered = kind == FRAME_KIND_CLUSTERED;
        if version != FRAME_VERSION || !(is_clustered || kind == FRAME_KIND_BATCH) || blocks == 0 {
            return None;
        }
        let header = Self {
            blocks,
            is_clustered,
            record_count: get.u32()?,
            table_length: get.u32()?,
            generation: Generation(get.u64()?),
            segment: SegmentNumber(get.u32()?),
            term: Term(get.u32()?),
            index: Index(get.u64()?),
            committed: Index(get.u64()?),
            previous_crc: get.u32()?,
            table_crc: get.u32()?,
        };
        Some((header, flags & FLAG_COPY != 0))
    }

    /// The frame's crc, for the next frame's `previous_crc`.
    pub(crate) fn crc(&self) -> u32 {
        self.encode(0).1
    }
}

/// Records of one channel that follow each other in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableRun {
    /// The channel; 0 for state records.
    pub channel: ChannelId,
    /// The sequence of the first; the next ones count up. 0 for state records, which have none.
    pub first: Sequence,
    /// How many.
    pub count: u32,
    /// Which record of the frame is the first.
    pub record: u32,
}

impl TableRun {
    /// The sequence of the record `offset` places behind the first.
    pub(crate) fn sequence(&self, offset: u32) -> Sequence {
        if self.channel.0 == 0 { Sequence(0) } else { Sequence(self.first.0 + u64::from(offset)) }
    }
}

/// What a frame holds, without the contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// The runs, covering all records in order.
    pub runs: Vec<TableRun>,
    /// Length of each record.
    pub lengths: Vec<u32>,
    /// Checksum of each record.
    pub crcs: Vec<u32>,
}

impl Table {
    /// The bytes of the table, with `previous` (another table's bytes) in it.
    pub(crate) fn encode(&self, previous: &[u8]) -> Vec<u8> {
        let own = TABLE_HEAD_BYTES
            + self.runs.len() * RUN_BYTES
            + self.lengths.len() * RECORD_ENTRY_BYTES;
        let mut out = Vec::with_capacity(align_record(own + previous.len()));
        fields::put_u32(&mut out, count_u32(self.runs.len()));
        fields::put_u32(&mut out, count_u32(previous.len()));
        for run in &self.runs {
            fields::put_u64(&mut out, run.channel.0);
            fields::put_u64(&mut out, run.first.0);
            fields::put_u32(&mut out, run.count);
            fields::put_u32(&mut out, run.record);
        }
        for length in &self.lengths {
            fields::put_u32(&mut out, *length);
        }
        for crc in &self.crcs {
            fields::put_u32(&mut out, *crc);
        }
        out.extend_from_slice(previous);
        out.resize(align_record(out.len()), 0);
        out
    }

    /// Reads a table of `record_count` records; also gives the bytes of the previous frame's table, if any is there.
    pub(crate) fn decode(bytes: &[u8], record_count: u32) -> Option<(Self, &[u8])> {
        let mut get = fields::Reader::new(bytes);
        let (run_count, previous_length) = (get.u32()?, get.u32()?);
        let records = usize::try_from(record_count).ok()?;
        let run_bytes = get.take(usize::try_from(run_count).ok()?.checked_mul(RUN_BYTES)?)?;
        let mut run_fields = fields::Reader::new(run_bytes);
        let mut runs = Vec::with_capacity(run_bytes.len() / RUN_BYTES);
        let mut next_record = 0_u32;
        while let Some(channel) = run_fields.u64() {
            let run = TableRun {
                channel: ChannelId(channel),
                first: Sequence(run_fields.u64()?),
                count: run_fields.u32()?,
                record: run_fields.u32()?,
            };
            if run.record != next_record {
                return None;
            }
            next_record = next_record.checked_add(run.count)?;
            run.first.0.checked_add(u64::from(run.count))?;
            runs.push(run);
        }
        if next_record != record_count {
            return None;
        }
        let lengths = get.u32s(records)?;
        let crcs = get.u32s(records)?;
        let previous = get.take(usize::try_from(previous_length).ok()?)?;
        Some((Self { runs, lengths, crcs }, previous))
    }

    /// Number of records of a table whose count is not known from a header: the sum of its runs.
    pub(crate) fn record_count(bytes: &[u8]) -> Option<u32> {
        let mut get = fields::Reader::new(bytes);
        let (run_count, _) = (get.u32()?, get.u32()?);
        let mut total = 0_u32;
        for _ in 0..run_count {
            get.take(16)?;
            total = total.checked_add(get.u32()?)?;
            get.take(4)?;
        }
        Some(total)
    }
}

/// The crc of a table's bytes, bound to its segment file.
pub(crate) fn table_crc(generation: Generation, table: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&generation.0.to_le_bytes()), table)
}

/// Length of a frame with this table and these record bytes. Over one block, no block holds a part of both tables: one
/// damaged block must not cost the frame.
pub(crate) fn frame_length_bytes(table_length: usize, records_length: usize) -> usize {
    let head = FRAME_HEADER_BYTES + table_length;
    let once = head + records_length;
    if once <= BLOCK_SIZE_BYTES {
        BLOCK_SIZE_BYTES
    } else {
        align_block(once + head).max(align_block(head) + align_block(head))
    }
}

/// Writes a frame over `out`, which is zeroed and exactly [`frame_length_bytes`] long; returns the frame's crc.
/// `records` come in pieces, one behind the other.
pub(crate) fn put_frame<'a>(
    out: &mut [u8],
    header: &FrameHeader,
    table: &[u8],
    records: impl IntoIterator<Item = &'a [u8]>,
) -> u32 {
    assert_eq!(out.len(), header.length_bytes(), "the caller sized the frame");
    let (bytes, crc) = header.encode(0);
    let mut put = fields::SliceWriter::new(out);
    put.bytes(&bytes);
    put.bytes(table);
    let mut records_length = 0;
    for piece in records {
        put.bytes(piece);
        records_length += piece.len();
    }
    assert_eq!(out.len(), frame_length_bytes(table.len(), records_length));
    if header.blocks > 1 {
        let (copy, _) = header.encode(FLAG_COPY);
        let mut put = fields::SliceWriter::at_end(out, table.len() + copy.len());
        put.bytes(table);
        put.bytes(&copy);
    }
    crc
}

/// A frame's table as found in its bytes: from the front, or from the copy at the end where the front is damaged.
pub(crate) fn find_table<'a>(header: &FrameHeader, frame: &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(header.table_length).ok()?;
    let is_good = |bytes: &&[u8]| table_crc(header.generation, bytes) == header.table_crc;
    let front = frame.get(FRAME_HEADER_BYTES..)?.get(..length).filter(is_good);
    front.or_else(|| {
        let end = frame.len().checked_sub(FRAME_HEADER_BYTES)?;
        frame.get(end.checked_sub(length)?..end).filter(is_good)
    })
}

/// Where a frame's records start.
pub(crate) fn records_start(header: &FrameHeader) -> Option<usize> {
    usize::try_from(header.table_length).ok()?.checked_add(FRAME_HEADER_BYTES)
}

/// What a message takes in a record.
pub(crate) fn message_size_bytes(content: Content<'_>) -> usize {
    let slots = if content.reply.is_empty() { 0 } else { SLOT_HEAD_BYTES + content.reply.len() };
    MESSAGE_HEAD_BYTES + slots + content.payload.len()
}

/// Appends a message record to `out` (not padded) and returns its checksum. The record just written is not read for
/// that: its memory may not be in the processor's cache yet, its parts are.
pub(crate) fn put_message(
    out: &mut Vec<u8>,
    channel: ChannelId,
    sequence: Sequence,
    timestamp: Timestamp,
    content: Content<'_>,
) -> u32 {
    let reply_length =
        u16::try_from(content.reply.len()).expect("REPLY_BYTES_MAX is checked before");
    let has_reply = reply_length > 0;
    let slots_length = message_size_bytes(content) - MESSAGE_HEAD_BYTES - content.payload.len();
    let mut head = [0; MESSAGE_HEAD_BYTES + SLOT_HEAD_BYTES];
    let mut put = fields::SliceWriter::new(&mut head);
    put.u8(KIND_MESSAGE);
    put.u8(u8::from(has_reply));
    put.u16(u16::try_from(slots_length).expect("one slot, of a reply"));
    put.u64(timestamp.0.cast_unsigned());
    put.u8(SLOT_REPLY);
    put.u16(reply_length);
    let (message_head, _) = head.split_at(MESSAGE_HEAD_BYTES);
    let head = if has_reply { head.as_slice() } else { message_head };
    let mut crc = key_crc(channel, sequence);
    for part in [head, content.reply, content.payload] {
        out.extend_from_slice(part);
        crc = crc32c::crc32c_append(crc, part);
    }
    crc
}

/// A message record's timestamp and content; `None` if it is none.
pub(crate) fn message(record: &[u8]) -> Option<(Timestamp, Content<'_>)> {
    let mut get = fields::Reader::new(record);
    if get.u8()? != KIND_MESSAGE {
        return None;
    }
    let (slot_count, slots_length) = (get.u8()?, get.u16()?);
    let timestamp = Timestamp(get.u64()?.cast_signed());
    let mut slots = fields::Reader::new(get.take(usize::from(slots_length))?);
    let mut content = Content { payload: get.rest(), reply: &[] };
    for _ in 0..slot_count {
        let (kind, length) = (slots.u8()?, slots.u16()?);
        let value = slots.take(usize::from(length))?;
        if kind == SLOT_REPLY {
            content.reply = value;
        }
    }
    Some((timestamp, content))
}

/// A count that a frame's bounds keep far below 2^32.
pub(crate) fn count_u32(count: usize) -> u32 {
    u32::try_from(count).expect("frames hold less than 2^32 of anything")
}
