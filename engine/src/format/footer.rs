//! The footer of a sealed segment: which runs of which channel are in it.
//!
//! ```text
//! magic u32 | crc u32 of all that follows | length u32 of what follows this field
//! generation u64 | segment u32 | channel count u32 | frame count u32 | length of the frames u32
//! directory, sorted by channel: channel u64 | offset u32 | length u32, into the part behind the frames
//! frames: varints of each: block difference (wrapping: a misplaced frame may lie before), first time (zigzag of the
//!         difference), span
//! a channel: name (length u32, bytes) | run count varint | runs, see `index/runs.rs`; a frame's number is its place
//!            among the frames above
//! ```

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::fields::{Reader, put_bytes, put_u32, put_u64, put_varint, unzigzag, zigzag};
use crate::index::frames::{FrameNote, FrameNumber};
use crate::index::runs::{Coder, Run};
use crate::types::{ChannelId, Generation, SegmentNumber, Sequence, Timestamp};

const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"WLFT");
const HEAD_BYTES: usize = 12;
const FIXED_BYTES: usize = 24;
const ENTRY_BYTES: usize = 16;

/// Puts a footer together, channel by channel.
#[derive(Debug, Default)]
pub(crate) struct FooterWriter {
    directory: Vec<u8>,
    lists: Vec<u8>,
    channel_count: u32,
    runs_count: u32,
}

impl FooterWriter {
    /// Adds a channel, of a greater number than those before. Its runs' frames count from `base`; without any it is
    /// left out.
    pub(crate) fn channel(
        &mut self,
        channel: ChannelId,
        name: &str,
        base: FrameNumber,
        runs: impl Iterator<Item = Run> + Clone,
    ) {
        let count = runs.clone().count();
        if count == 0 {
            return;
        }
        let start = self.lists.len();
        put_bytes(&mut self.lists, name.as_bytes());
        put_varint(&mut self.lists, count as u64);
        let mut coder = Coder::at(base);
        for run in runs {
            coder.put(&mut self.lists, &run);
        }
        put_u64(&mut self.directory, channel.0);
        put_u32(&mut self.directory, super::count_u32(start));
        put_u32(&mut self.directory, super::count_u32(self.lists.len() - start));
        self.channel_count += 1;
        self.runs_count = self.runs_count.saturating_add(super::count_u32(count));
    }

    /// Runs of all channels so far.
    pub(crate) fn runs_count(&self) -> u32 {
        self.runs_count
    }

    /// The bytes. `frames` are all of the segment that hold messages, in order.
    pub(crate) fn finish<'a>(
        self,
        generation: Generation,
        segment: SegmentNumber,
        frames: impl Iterator<Item = &'a FrameNote>,
    ) -> Vec<u8> {
        let mut notes = Vec::new();
        let (mut count, mut block, mut time) = (0, 0_u32, 0_i64);
        for frame in frames {
            put_varint(&mut notes, u64::from(frame.block.wrapping_sub(block)));
            put_varint(&mut notes, zigzag(frame.first_time.0.wrapping_sub(time)));
            let span = frame.last_time.0.wrapping_sub(frame.first_time.0);
            put_varint(&mut notes, span.cast_unsigned());
            (block, time) = (frame.block, frame.first_time.0);
            count += 1;
        }
        let length = FIXED_BYTES + self.directory.len() + notes.len() + self.lists.len();
        let mut checked = Vec::with_capacity(length + 4);
        put_u32(&mut checked, super::count_u32(length));
        put_u64(&mut checked, generation.0);
        put_u32(&mut checked, segment.0);
        put_u32(&mut checked, self.channel_count);
        put_u32(&mut checked, count);
        put_u32(&mut checked, super::count_u32(notes.len()));
        checked.extend_from_slice(&self.directory);
        checked.extend_from_slice(&notes);
        checked.extend_from_slice(&self.lists);
        let mut out = Vec::with_capacity(checked.len() + 8);
        put_u32(&mut out, FOOTER_MAGIC);
        put_u32(&mut out, crc32c::crc32c(&checked));
        out.extend_from_slice(&checked);
        out
    }
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
    bytes: Vec<u8>,
    channel_count: usize,
    frames: Vec<FrameNote>,
    /// Where the channels' lists start.
    lists_start: usize,
}

/// Where a reader of a channel's runs got to: the next one is found without reading those before again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FooterCursor {
    segment: SegmentNumber,
    coder: Coder,
    left: u64,
    rest_length: usize,
}

/// Where a sequence is in a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FooterPlace {
    /// In this run of this frame.
    Run(Run, FrameNote),
    /// Nowhere; the next sequence that there is in this segment, if any.
    Gone(Option<Sequence>),
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
        let (frame_count, notes_length) = (get.u32()?, usize::try_from(get.u32()?).ok()?);
        get.take(channel_count.checked_mul(ENTRY_BYTES)?)?;
        let frames = get_frames(get.take(notes_length)?, frame_count, segment)?;
        let lists_start = bytes.len() - get.rest().len();
        Some(Self { bytes, channel_count, frames, lists_start })
    }

    /// Stands for a footer that cannot be read: no channel has anything there.
    pub(crate) fn empty() -> Self {
        Self { bytes: Vec::new(), channel_count: 0, frames: Vec::new(), lists_start: 0 }
    }

    /// What it costs in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len() + self.frames.len() * size_of::<FrameNote>()
    }

    /// The frames, in order.
    pub(crate) fn frames(&self) -> &[FrameNote] {
        &self.frames
    }

    pub(crate) fn frame(&self, number: FrameNumber) -> Option<&FrameNote> {
        self.frames.get(usize::try_from(number.0).ok()?)
    }

    fn entry(&self, at: usize) -> Option<(ChannelId, usize, usize)> {
        let start = HEAD_BYTES + FIXED_BYTES + at * ENTRY_BYTES;
        let mut get = Reader::new(self.bytes.get(start..)?);
        let channel = ChannelId(get.u64()?);
        Some((channel, usize::try_from(get.u32()?).ok()?, usize::try_from(get.u32()?).ok()?))
    }

    /// The channels from this one on, with their names and runs.
    pub(crate) fn channels_from(
        &self,
        first: ChannelId,
    ) -> impl Iterator<Item = (ChannelId, &str, FooterRuns<'_>)> {
        (self.place_of(first)..self.channel_count).filter_map(|at| {
            let (name, runs) = self.list(at)?;
            Some((self.entry(at)?.0, name, runs))
        })
    }

    /// The place of the first channel whose number is this or greater.
    fn place_of(&self, channel: ChannelId) -> usize {
        let (mut low, mut high) = (0, self.channel_count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.entry(middle) {
                Some((found, ..)) if found < channel => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    fn list(&self, at: usize) -> Option<(&str, FooterRuns<'_>)> {
        let (_, offset, length) = self.entry(at)?;
        let lists = self.bytes.get(self.lists_start..)?;
        let mut get = Reader::new(lists.get(offset..offset.checked_add(length)?)?);
        let name = std::str::from_utf8(get.bytes()?).ok()?;
        Some((name, FooterRuns { left: get.varint()?, coder: Coder::default(), rest: get }))
    }

    /// The runs of a channel, in order; none if it has nothing here.
    pub(crate) fn runs(&self, channel: ChannelId) -> FooterRuns<'_> {
        let at = self.place_of(channel);
        match self.entry(at) {
            Some((found, ..)) if found == channel && at < self.channel_count => {
                self.list(at).map_or_else(FooterRuns::none, |list| list.1)
            }
            _ => FooterRuns::none(),
        }
    }

    /// The first run of a channel, from `from` on, in which a message of `time` or later may be.
    pub(crate) fn find_time(
        &self,
        channel: ChannelId,
        from: Sequence,
        time: Timestamp,
    ) -> Option<(Run, FrameNote)> {
        self.runs(channel)
            .skip_while(|run| run.last() < from)
            .filter_map(|run| Some((run, *self.frame(run.frame)?)))
            .find(|(_, note)| note.last_time >= time)
    }

    /// Finds a sequence of a channel. Going up from where `cursor` was left, it reads each run once.
    pub(crate) fn find(
        &self,
        channel: ChannelId,
        sequence: Sequence,
        segment: SegmentNumber,
        cursor: &mut Option<FooterCursor>,
    ) -> FooterPlace {
        let mut runs = self.runs(channel);
        if let Some(cursor) =
            cursor.filter(|cursor| cursor.segment == segment && cursor.coder.is_before(sequence))
        {
            runs.go_on_at(&cursor);
        }
        loop {
            let before = FooterCursor {
                segment,
                coder: runs.coder,
                left: runs.left,
                rest_length: runs.rest.rest().len(),
            };
            let Some(run) = runs.next() else { return FooterPlace::Gone(None) };
            if run.last() < sequence {
                continue;
            }
            *cursor = Some(before);
            return match self.frame(run.frame) {
                Some(note) if run.first <= sequence => FooterPlace::Run(run, *note),
                // Only damage under a right checksum names a frame that is not there.
                None if run.first <= sequence => FooterPlace::Gone(None),
                _ => FooterPlace::Gone(Some(run.first)),
            };
        }
    }
}

fn get_frames(bytes: &[u8], count: u32, segment: SegmentNumber) -> Option<Vec<FrameNote>> {
    let mut get = Reader::new(bytes);
    let mut frames = Vec::new();
    let (mut block, mut time) = (0_u32, 0_i64);
    for _ in 0..count {
        block = block.wrapping_add(u32::try_from(get.varint()?).ok()?);
        time = time.wrapping_add(unzigzag(get.varint()?));
        let last_time = time.wrapping_add(get.varint()?.cast_signed());
        frames.push(FrameNote {
            segment,
            block,
            first_time: Timestamp(time),
            last_time: Timestamp(last_time),
        });
    }
    Some(frames)
}

/// The runs of a channel in a sealed segment.
#[derive(Debug, Clone)]
pub(crate) struct FooterRuns<'a> {
    left: u64,
    coder: Coder,
    rest: Reader<'a>,
}

impl FooterRuns<'_> {
    fn none() -> Self {
        Self { left: 0, coder: Coder::default(), rest: Reader::new(&[]) }
    }

    fn go_on_at(&mut self, cursor: &FooterCursor) {
        let rest = self.rest.rest();
        if let Some(rest) =
            rest.len().checked_sub(cursor.rest_length).and_then(|start| rest.get(start..))
        {
            (self.left, self.coder, self.rest) = (cursor.left, cursor.coder, Reader::new(rest));
        }
    }
}

impl Iterator for FooterRuns<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        self.left = self.left.checked_sub(1)?;
        self.coder.take(&mut self.rest)
    }
}
