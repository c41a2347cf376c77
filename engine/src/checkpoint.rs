//! A checkpoint: a shard's whole state at an index, so that recovery replays only what came later.
//!
//! Two are kept; a state record in the log is dead only behind the older one. A checkpoint counts once its END chunk
//! is there, every chunk is whole, and the log it stands on is committed.

use std::borrow::Cow;

use crate::format::blocks::{ChainPoint, ChunkKind, put_chunk, take_chunk};
use crate::format::fields::{Reader, put_bytes, put_i64, put_u32, put_u64};
use crate::format::state::{DecodedState, decode_state, put_state};
use crate::format::{self};
use crate::index::frames::{FrameList, FrameNote, FrameNumber};
use crate::index::runs::Coder;
use crate::index::{ChannelIndex, SealedPart};
use crate::log::segment::shard_directory;
use crate::record::StateRecord;
use crate::types::{
    ChannelId, Generation, Index, Position, SegmentNumber, Sequence, ShardId, Timestamp,
};

/// A chunk is ended when it reaches this.
const CHUNK_BYTES_TARGET: usize = 256 * 1024;

/// No channel and no log gets here in the lifetime of a machine: beyond it, counting up would overflow.
const SEQUENCE_END: Sequence = Sequence(1 << 62);
const INDEX_END: Index = Index(1 << 62);

/// The path of a checkpoint.
pub(crate) fn checkpoint_path(shard: ShardId, number: u64) -> String {
    format!("{}/checkpoint-{number:010}", shard_directory(shard))
}

/// The number in a checkpoint's name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("checkpoint-")?;
    let number: u64 = digits.parse().ok()?;
    // Another spelling of a number is not a name of ours; and there is always one after it.
    (format!("{number:010}") == digits && number < u64::MAX).then_some(number)
}

/// A segment as a checkpoint knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentNote {
    pub number: SegmentNumber,
    pub generation: Generation,
    pub end: Position,
    pub last_index: Index,
    pub is_sealed: bool,
    pub is_damaged: bool,
    pub record_bytes: u64,
    pub runs_count: u32,
}

/// What is not a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CheckpointHead {
    /// The end of the last frame whose effect is in.
    pub end: ChainPoint,
    pub last_channel_id: u64,
    pub last_subscription_id: u64,
    pub last_incarnation: u64,
    pub clock: Timestamp,
    pub segments: Vec<SegmentNote>,
    /// The frames of the channels' runs.
    pub frames: FrameList,
}

/// A channel as a checkpoint knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelNote<'a> {
    pub id: ChannelId,
    pub name: Cow<'a, str>,
    pub first: Sequence,
    pub last: Sequence,
    pub last_time: Timestamp,
    pub index: Cow<'a, ChannelIndex>,
}

/// A checkpoint's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub head: CheckpointHead,
    pub states: Vec<StateRecord>,
    pub channels: Vec<ChannelNote<'static>>,
}

/// Encodes a checkpoint piece by piece.
pub(crate) struct CheckpointWriter {
    as_of: Index,
    /// The first of the channels' frames.
    base: FrameNumber,
    out: Vec<u8>,
    states: Vec<u8>,
    channels: Vec<u8>,
}

impl CheckpointWriter {
    pub(crate) fn new(head: &CheckpointHead) -> Self {
        let mut body = Vec::new();
        head.end.put(&mut body);
        put_u64(&mut body, head.last_channel_id);
        put_u64(&mut body, head.last_subscription_id);
        put_u64(&mut body, head.last_incarnation);
        put_i64(&mut body, head.clock.0);
        put_u32(&mut body, format::count_u32(head.segments.len()));
        for note in &head.segments {
            put_u32(&mut body, note.number.0);
            put_u64(&mut body, note.generation.0);
            put_u64(&mut body, note.end.0);
            put_u64(&mut body, note.last_index.0);
            body.push(u8::from(note.is_sealed));
            body.push(u8::from(note.is_damaged));
            put_u64(&mut body, note.record_bytes);
            put_u32(&mut body, note.runs_count);
        }
        put_frames(&mut body, &head.frames);
        let as_of = head.end.index;
        let mut out = Vec::new();
        put_chunk(&mut out, ChunkKind::Head, as_of, &body);
        let base = head.frames.base();
        Self { as_of, base, out, states: Vec::new(), channels: Vec::new() }
    }

    pub(crate) fn state(&mut self, record: &StateRecord) {
        let mut content = Vec::new();
        put_state(&mut content, record);
        put_bytes(&mut self.states, &content);
        if self.states.len() >= CHUNK_BYTES_TARGET {
            let body = std::mem::take(&mut self.states);
            put_chunk(&mut self.out, ChunkKind::State, self.as_of, &body);
        }
    }

    pub(crate) fn channel(&mut self, note: &ChannelNote<'_>) {
        put_channel(&mut self.channels, note, self.base);
        if self.channels.len() >= CHUNK_BYTES_TARGET {
            let body = std::mem::take(&mut self.channels);
            put_chunk(&mut self.out, ChunkKind::Channels, self.as_of, &body);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        put_chunk(&mut self.out, ChunkKind::State, self.as_of, &self.states);
        put_chunk(&mut self.out, ChunkKind::Channels, self.as_of, &self.channels);
        put_chunk(&mut self.out, ChunkKind::End, self.as_of, &[]);
        self.out
    }
}

fn put_channel(out: &mut Vec<u8>, note: &ChannelNote<'_>, base: FrameNumber) {
    put_u64(out, note.id.0);
    put_bytes(out, note.name.as_bytes());
    put_u64(out, note.first.0);
    put_u64(out, note.last.0);
    put_i64(out, note.last_time.0);
    put_u32(out, format::count_u32(note.index.sealed.len()));
    for part in &note.index.sealed {
        put_u32(out, part.segment.0);
        put_u32(out, part.count);
        put_u64(out, part.first.0);
        put_u64(out, part.last.0);
        put_u64(out, part.bytes);
        put_i64(out, part.first_time.0);
        put_i64(out, part.last_time.0);
    }
    put_u32(out, note.index.runs.len());
    let mut coder = Coder::at(base);
    for run in note.index.runs.iter() {
        coder.put(out, &run);
    }
}

fn put_frames(body: &mut Vec<u8>, frames: &FrameList) {
    put_u64(body, frames.base().0);
    put_u32(body, format::count_u32(frames.iter().count()));
    for note in frames.iter() {
        put_u32(body, note.segment.0);
        put_u32(body, note.block);
        put_i64(body, note.first_time.0);
        put_i64(body, note.last_time.0);
    }
}

fn get_frames(get: &mut Reader<'_>) -> Option<FrameList> {
    let base = get.u64().filter(|base| *base < INDEX_END.0)?;
    let mut frames = FrameList::starting_at(FrameNumber(base));
    for _ in 0..get.u32()? {
        frames.push(FrameNote {
            segment: SegmentNumber(get.u32()?),
            block: get.u32()?,
            first_time: Timestamp(get.i64()?),
            last_time: Timestamp(get.i64()?),
        });
    }
    Some(frames)
}

impl Checkpoint {
    /// Reads a whole checkpoint; `None` if any of it is missing, damaged, or nothing that a shard could have been.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut get = Reader::new(bytes);
        let mut checkpoint = Self::default();
        let mut has_head = false;
        loop {
            let (kind, _as_of, body) = take_chunk(&mut get)?;
            let mut body = Reader::new(body);
            match kind {
                ChunkKind::Head => {
                    checkpoint.head = get_head(&mut body)?;
                    has_head = true;
                }
                ChunkKind::State => {
                    while !body.rest().is_empty() {
                        match decode_state(body.bytes()?) {
                            DecodedState::Known(record) => checkpoint.states.push(record),
                            DecodedState::Skipped => {}
                            DecodedState::Unknown(_) | DecodedState::Corrupt => return None,
                        }
                    }
                }
                ChunkKind::Channels => {
                    while !body.rest().is_empty() {
                        let base = checkpoint.head.frames.base();
                        checkpoint.channels.push(get_channel(&mut body, base)?);
                    }
                }
                ChunkKind::End => {
                    let is_sound = has_head && checkpoint.is_sound();
                    return is_sound.then_some(checkpoint);
                }
            }
        }
    }

    /// Whether a shard can be made of it: the checksum says who wrote it, not that it was right.
    fn is_sound(&self) -> bool {
        let ids = self.channels.iter().map(|note| note.id.0);
        let are_ids_in_order =
            [0].into_iter().chain(ids.clone()).zip(ids).all(|(before, id)| before < id);
        let is_last_id_right =
            self.channels.last().is_none_or(|note| note.id.0 <= self.head.last_channel_id);
        let are_channels_sound = self.channels.iter().all(|note| {
            note.last < SEQUENCE_END && note.index.is_sound(note.last, &self.head.frames)
        });
        are_ids_in_order
            && is_last_id_right
            && are_channels_sound
            && self.head.last_channel_id < u64::MAX
            && self.head.last_subscription_id < u64::MAX
            && self.head.last_incarnation < u64::MAX
            && self.head.end.index < INDEX_END
    }
}

fn get_head(get: &mut Reader<'_>) -> Option<CheckpointHead> {
    let mut head = CheckpointHead {
        end: ChainPoint::get(get)?,
        last_channel_id: get.u64()?,
        last_subscription_id: get.u64()?,
        last_incarnation: get.u64()?,
        clock: Timestamp(get.i64()?),
        segments: Vec::new(),
        frames: FrameList::default(),
    };
    for _ in 0..get.u32()? {
        head.segments.push(SegmentNote {
            number: SegmentNumber(get.u32()?),
            generation: Generation(get.u64()?),
            end: Position(get.u64()?),
            last_index: Index(get.u64()?),
            is_sealed: get.u8()? != 0,
            is_damaged: get.u8()? != 0,
            record_bytes: get.u64()?,
            runs_count: get.u32()?,
        });
    }
    head.frames = get_frames(get)?;
    Some(head)
}

fn get_channel(get: &mut Reader<'_>, base: FrameNumber) -> Option<ChannelNote<'static>> {
    let mut index = ChannelIndex::default();
    let mut note = ChannelNote {
        id: ChannelId(get.u64()?),
        name: get.string()?.into(),
        first: Sequence(get.u64()?),
        last: Sequence(get.u64()?),
        last_time: Timestamp(get.i64()?),
        index: Cow::default(),
    };
    for _ in 0..get.u32()? {
        index.sealed.push_back(SealedPart {
            segment: SegmentNumber(get.u32()?),
            count: get.u32()?,
            first: Sequence(get.u64()?),
            last: Sequence(get.u64()?),
            bytes: get.u64()?,
            first_time: Timestamp(get.i64()?),
            last_time: Timestamp(get.i64()?),
        });
    }
    let mut coder = Coder::at(base);
    for _ in 0..get.u32()? {
        index.push(coder.take(get)?);
    }
    note.index = Cow::Owned(index);
    Some(note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::runs::Run;

    /// Found by fuzzing: a right checksum over what no shard was.
    #[test]
    fn what_no_shard_was_is_no_checkpoint() {
        let note = |id, last| ChannelNote {
            id: ChannelId(id),
            name: "a".into(),
            first: Sequence(1),
            last: Sequence(last),
            last_time: Timestamp(0),
            index: Cow::default(),
        };
        let is_read = |head: CheckpointHead, notes: &[ChannelNote]| {
            let mut writer = CheckpointWriter::new(&head);
            notes.iter().for_each(|note| writer.channel(note));
            Checkpoint::decode(&writer.finish()).is_some()
        };
        let head = CheckpointHead { last_channel_id: 9, ..CheckpointHead::default() };
        assert!(is_read(head.clone(), &[note(1, 4), note(9, 0)]));
        assert!(!is_read(head.clone(), &[note(1, 4), note(1, 4)]));
        assert!(!is_read(head.clone(), &[note(0, 4)]));
        assert!(!is_read(head.clone(), &[note(10, 4)]));
        assert!(!is_read(head.clone(), &[note(1, u64::MAX)]));
        assert!(!is_read(CheckpointHead { last_subscription_id: u64::MAX, ..head }, &[]));
    }

    #[test]
    fn what_goes_in_comes_out_and_half_of_it_is_nothing() {
        let mut index = ChannelIndex::default();
        let mut frames = FrameList::starting_at(FrameNumber(6));
        for (block, time) in [(7, -5), (9, 7)] {
            frames.push(FrameNote {
                segment: SegmentNumber(4),
                block,
                first_time: Timestamp(time),
                last_time: Timestamp(time + 7),
            });
        }
        index.push(Run { first: Sequence(2), count: 1, bytes: 48, frame: FrameNumber(6) });
        index.push(Run { first: Sequence(3), count: 2, bytes: 99, frame: FrameNumber(7) });
        let note = ChannelNote {
            id: ChannelId(9),
            name: "a.b".into(),
            first: Sequence(2),
            last: Sequence(4),
            last_time: Timestamp(77),
            index: Cow::Owned(index),
        };
        let head = CheckpointHead { last_channel_id: 9, frames, ..CheckpointHead::default() };
        let state = StateRecord::ChannelDeleted { id: ChannelId(1) };
        let mut writer = CheckpointWriter::new(&head);
        writer.channel(&note);
        writer.state(&state);
        let bytes = writer.finish();
        let expected = Checkpoint { head, states: vec![state], channels: vec![note] };
        assert_eq!(Checkpoint::decode(&bytes), Some(expected));
        for end in 0..bytes.len() {
            assert_eq!(Checkpoint::decode(&bytes[..end]), None, "cut at {end}");
        }
        for flipped in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[flipped] ^= 0x10;
            assert_eq!(Checkpoint::decode(&damaged), None, "flipped at {flipped}");
        }
    }
}
