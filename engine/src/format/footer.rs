//! The footer of a sealed segment: which runs of which channel are in it.
//!
//! ```text
//! magic u32 | crc u32 of all that follows | length u32 of what follows this field
//! generation u64 | segment u32 | channel count u32
//! directory, sorted by channel: channel u64 | offset u32 | length u32, into the part behind the directory
//! a channel: name (length u32, bytes) | varints: run count, and of each run: gap to the run before, time difference
//!            (zigzag), count, block difference (wrapping: a misplaced frame may lie before), record, bytes, span
//! ```

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::fields::{Reader, put_bytes, put_u32, put_u64, put_varint};
use crate::index::Run;
use crate::types::{ChannelId, Generation, SegmentNumber, Sequence, Timestamp};

const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"WLFT");
const HEAD_BYTES: usize = 12;
const FIXED_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16;

/// The bytes of a footer; `channels` is sorted by channel and each list by sequence.
pub(crate) fn put_footer(
    generation: Generation,
    segment: SegmentNumber,
    channels: &[(ChannelId, &str, Vec<Run>)],
) -> Vec<u8> {
    let mut directory = Vec::with_capacity(channels.len() * ENTRY_BYTES);
    let mut lists = Vec::new();
    for (channel, name, runs) in channels {
        let start = lists.len();
        put_bytes(&mut lists, name.as_bytes());
        put_runs(&mut lists, runs);
        put_u64(&mut directory, channel.0);
        put_u32(&mut directory, super::count_u32(start));
        put_u32(&mut directory, super::count_u32(lists.len() - start));
    }
    let mut checked = Vec::with_capacity(directory.len() + lists.len() + FIXED_BYTES + 4);
    put_u32(&mut checked, super::count_u32(directory.len() + lists.len() + FIXED_BYTES));
    put_u64(&mut checked, generation.0);
    put_u32(&mut checked, segment.0);
    put_u32(&mut checked, super::count_u32(channels.len()));
    checked.extend_from_slice(&directory);
    checked.extend_from_slice(&lists);
    let mut out = Vec::with_capacity(checked.len() + 8);
    put_u32(&mut out, FOOTER_MAGIC);
    put_u32(&mut out, crc32c::crc32c(&checked));
    out.extend_from_slice(&checked);
    out
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    put_varint(out, runs.len() as u64);
    let (mut next, mut time, mut block) = (0_u64, 0_i64, 0_u32);
    for run in runs {
        put_varint(out, run.first.0 - next);
        put_varint(out, zigzag(run.first_time.0.wrapping_sub(time)));
        put_varint(out, u64::from(run.count));
        put_varint(out, u64::from(run.block.wrapping_sub(block)));
        put_varint(out, u64::from(run.record));
        put_varint(out, u64::from(run.bytes));
        put_varint(out, u64::from(run.span_us));
        next = run.last().0 + 1;
        time = run.first_time.0;
        block = run.block;
    }
}

fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The length of a whole footer, from its first bytes.
pub(crate) fn footer_length_bytes(start: &[u8]) -> Option<usize> {
    let mut get = Reader::new(start);
    if get.u32()? != FOOTER_MAGIC {
        return None;
    }
    get.u32()?;
    usize::try_from(get.u32()?).ok()?.checked_add(HEAD_BYTES)
}

/// A footer as read from disk, checked once.
#[derive(Debug)]
pub(crate) struct Footer {
    segment: SegmentNumber,
    bytes: Vec<u8>,
    channel_count: usize,
}

impl Footer {
    /// Takes the bytes of a footer, longer or not; `None` if they are none of this segment file.
    pub(crate) fn decode(
        mut bytes: Vec<u8>,
        generation: Generation,
        segment: SegmentNumber,
    ) -> Option<Self> {
        let length = footer_length_bytes(&bytes)?;
        bytes.truncate(length);
        let mut get = Reader::new(&bytes);
        get.u32()?;
        let crc = get.u32()?;
        if bytes.len() != length || crc32c::crc32c(get.rest()) != crc {
            return None;
        }
        get.u32()?;
        if (get.u64()?, get.u32()?) != (generation.0, segment.0) {
            return None;
        }
        let channel_count = usize::try_from(get.u32()?).ok()?;
        get.take(channel_count.checked_mul(ENTRY_BYTES)?)?;
        Some(Self { segment, bytes, channel_count })
    }

    /// Stands for a footer that cannot be read: no channel has anything there.
    pub(crate) fn empty(segment: SegmentNumber) -> Self {
        Self { segment, bytes: Vec::new(), channel_count: 0 }
    }

    /// What it costs in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn entry(&self, at: usize) -> Option<(ChannelId, usize, usize)> {
        let start = HEAD_BYTES + FIXED_BYTES + at * ENTRY_BYTES;
        let mut get = Reader::new(self.bytes.get(start..)?);
        let channel = ChannelId(get.u64()?);
        Some((channel, usize::try_from(get.u32()?).ok()?, usize::try_from(get.u32()?).ok()?))
    }

    fn list(&self, at: usize) -> Option<Reader<'_>> {
        let (_, offset, length) = self.entry(at)?;
        let lists =
            self.bytes.get(HEAD_BYTES + FIXED_BYTES + self.channel_count * ENTRY_BYTES..)?;
        Some(Reader::new(lists.get(offset..offset.checked_add(length)?)?))
    }

    /// The runs of a channel, in order; empty if it has none here.
    pub(crate) fn runs(&self, channel: ChannelId) -> Vec<Run> {
        let (mut low, mut high) = (0, self.channel_count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.entry(middle) {
                Some((found, ..)) if found < channel => low = middle + 1,
                Some((found, ..)) if found == channel => {
                    return self.runs_at(middle).unwrap_or_default();
                }
                _ => high = middle,
            }
        }
        Vec::new()
    }

    fn runs_at(&self, at: usize) -> Option<Vec<Run>> {
        let mut get = self.list(at)?;
        get.bytes()?;
        let count = get.varint()?;
        let mut runs = Vec::new();
        let (mut next, mut time, mut block) = (0_u64, 0_i64, 0_u32);
        for _ in 0..count {
            let first = next.checked_add(get.varint()?)?;
            time = time.wrapping_add(unzigzag(get.varint()?));
            let count = u32::try_from(get.varint()?).ok().filter(|count| *count > 0)?;
            block = block.wrapping_add(u32::try_from(get.varint()?).ok()?);
            let run = Run {
                first: Sequence(first),
                first_time: Timestamp(time),
                count,
                segment: self.segment,
                block,
                record: u32::try_from(get.varint()?).ok()?,
                bytes: u32::try_from(get.varint()?).ok()?,
                span_us: u32::try_from(get.varint()?).ok()?,
            };
            next = first.checked_add(u64::from(count))?;
            run.record.checked_add(count)?;
            runs.push(run);
        }
        Some(runs)
    }
}
