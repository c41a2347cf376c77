//! Reading a segment's frames back for recovery: what they do to the state and the index, without the payloads.

use crate::disk::{BLOCK_SIZE_BYTES, DiskFile, DiskResult};
use crate::format::blocks::{ChainPoint, SegmentHeader};
use crate::format::footer::FooterWriter;
use crate::format::state::{DecodedState, decode_state};
use crate::format::{self, FrameHeader, Table};
use crate::index::frames::{FrameList, FrameNote, FrameNumber};
use crate::index::runs::{Run, RunList};
use crate::log::batch::Times;
use crate::log::cache::FramePlace;
use crate::log::scan::{FoundFrame, FrameAt, frame_at, next_frame, overwritten_frame};
use crate::record::StateRecord;
use std::collections::BTreeMap;

use crate::types::{ChannelId, Generation, Position, SegmentNumber, Sequence, Timestamp};

/// How much is read at once.
const WINDOW_BYTES: usize = 4 << 20;

/// What a frame does when it is applied.
#[derive(Debug)]
pub(crate) struct ReplayFrame {
    pub place: FramePlace,
    pub header: FrameHeader,
    /// State records, in order.
    pub states: Vec<StateRecord>,
    /// Runs of messages, in order.
    pub runs: Vec<ReplayRun>,
    /// The times of all messages that can be read.
    pub times: Times,
    /// Records that cannot be read.
    pub damaged: Vec<(ChannelId, Sequence)>,
    /// Whether its header or first table was damaged.
    pub is_front_damaged: bool,
    /// The table of the frame before, if that was one block.
    pub previous_table: Option<Table>,
}

/// Messages of one channel that follow each other in a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplayRun {
    pub channel: ChannelId,
    /// Without the frame's number, which it gets where it is applied.
    pub run: Run,
    /// Of the last one that can be read.
    pub last_time: Timestamp,
}

impl ReplayFrame {
    /// What the index knows of it.
    pub(crate) fn note(&self) -> FrameNote {
        let (segment, block) = self.place;
        // Without any that can be read: no time is before or behind it.
        let known = self.times.first <= self.times.last;
        let Times { first, last } = if known {
            self.times
        } else {
            Times { first: Timestamp(i64::MIN), last: Timestamp(i64::MIN) }
        };
        FrameNote { segment, block, first_time: first, last_time: last }
    }

    /// Where it starts in its segment.
    pub(crate) fn start(&self) -> Position {
        Position(u64::from(self.place.1) * BLOCK_SIZE_BYTES as u64)
    }

    /// The frame's end.
    pub(crate) fn chain_point(&self) -> ChainPoint {
        ChainPoint {
            segment: self.place.0,
            end: Position(self.start().0 + self.header.length_bytes() as u64),
            crc: self.header.crc(),
            index: self.header.index,
        }
    }
}

/// Behind so many bytes without a frame none is looked for: writes on their way at a crash lie close together, 4 frames
/// at most, and what lies farther and was committed is named by the hint.
const GAP_BYTES_MAX: u64 = 16 << 20;

/// A segment file to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scanned {
    pub number: SegmentNumber,
    pub generation: Generation,
    /// No frame is longer.
    pub frame_size_bytes_max: u32,
}

impl From<&SegmentHeader> for Scanned {
    fn from(header: &SegmentHeader) -> Self {
        let SegmentHeader { number, generation, store, .. } = header;
        let frame_size_bytes_max = store.frame_size_bytes_max;
        Self { number: *number, generation: *generation, frame_size_bytes_max }
    }
}

/// Appends all frames of this segment file from `from` on to `frames`. Blocks without a frame are passed over: zeros
/// do not end a segment, but [`GAP_BYTES_MAX`] of them behind `witnessed`, where a frame is known to have ended.
pub(crate) async fn scan_segment<F: DiskFile>(
    file: &F,
    segment: Scanned,
    from: Position,
    witnessed: Position,
    frames: &mut Vec<ReplayFrame>,
) -> DiskResult<()> {
    let length = file.length_bytes().await?;
    let frame_max = segment.frame_size_bytes_max as usize;
    let window_max = WINDOW_BYTES.max(2 * frame_max);
    let mut start = from.0;
    let mut last_end = from.0.max(witnessed.0);
    while start < length && start < last_end + GAP_BYTES_MAX {
        let mut window = file.read_at(start, window_max).await?;
        // The last block of a file that was cut: what a write behind it would make of it.
        window.resize(format::align_block(window.len()), 0);
        if window.is_empty() {
            break;
        }
        let is_last = start + window.len() as u64 >= length;
        // A frame's end must be in the window, so that a damaged front can be told from the copy at the end.
        let usable = if is_last { window.len() } else { window.len() - frame_max };
        let mut at = 0;
        while at < usable {
            let found = frames.len();
            at += scan_frame(&window, (at, usable), segment, start, frames);
            if frames.len() > found {
                last_end = last_end.max(start + at as u64);
            }
        }
        start += at as u64;
    }
    Ok(())
}

/// Takes the frame that starts at `at` in a window, if one does; returns how far to go, to `usable` at most if there is
/// none. `start` is the window's place.
fn scan_frame(
    window: &[u8],
    (at, usable): (usize, usize),
    segment: Scanned,
    start: u64,
    frames: &mut Vec<ReplayFrame>,
) -> usize {
    let Scanned { number, generation, .. } = segment;
    let bytes = &window[at..];
    let place = |at: usize| {
        let block = (start + at as u64) / BLOCK_SIZE_BYTES as u64;
        (number, u32::try_from(block).expect("segments are small"))
    };
    match frame_at(bytes, number, generation) {
        FrameAt::Whole(found) => {
            frames.push(replay_frame(&found, place(at)));
            found.step_bytes(bytes)
        }
        FrameAt::Partial | FrameAt::None => {
            let length = next_frame(bytes, number, generation).unwrap_or(usable - at);
            let length = length.min(usable - at);
            let ends = (at + BLOCK_SIZE_BYTES..=at + length).step_by(BLOCK_SIZE_BYTES);
            for end in ends {
                let found = overwritten_frame(&window[..end], number, generation);
                // One that starts here was looked for.
                if let Some(found) = found.filter(|found| end - found.header.length_bytes() < at) {
                    let first = end - found.header.length_bytes();
                    frames.push(replay_frame(&found, place(first)));
                }
            }
            length
        }
    }
}

/// What a found frame does.
pub(crate) fn replay_frame(found: &FoundFrame<'_>, place: FramePlace) -> ReplayFrame {
    let mut frame = ReplayFrame {
        place,
        header: found.header,
        states: Vec::new(),
        runs: Vec::new(),
        times: Times::default(),
        damaged: Vec::new(),
        is_front_damaged: found.is_front_damaged,
        previous_table: found.previous_table(),
    };
    for run in &found.table.runs {
        if run.channel == ChannelId(0) {
            replay_states(&mut frame, found, run);
        } else if run.count > 0 {
            replay_messages(&mut frame, found, run);
        }
    }
    frame
}

fn replay_states(frame: &mut ReplayFrame, found: &FoundFrame<'_>, run: &format::TableRun) {
    for record in run.record..run.record + run.count {
        match found.record(record).map(decode_state) {
            Some(DecodedState::Known(state)) => frame.states.push(state),
            Some(DecodedState::Skipped) => {}
            Some(DecodedState::Unknown(_) | DecodedState::Corrupt) | None => {
                frame.damaged.push((ChannelId(0), Sequence(0)));
            }
        }
    }
}

fn replay_messages(frame: &mut ReplayFrame, found: &FoundFrame<'_>, run: &format::TableRun) {
    let mut last_time = Timestamp(i64::MIN);
    let mut bytes = 0;
    for offset in 0..run.count {
        let record = run.record + offset;
        bytes += u64::from(found.table.lengths[record as usize]);
        match found.record(record) {
            Some(content) => {
                if let Some((time, _)) = format::message(content) {
                    frame.times.add(time);
                    last_time = last_time.max(time);
                }
            }
            None => frame.damaged.push((run.channel, run.sequence(offset))),
        }
    }
    let placed = Run {
        first: run.first,
        count: run.count,
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        frame: FrameNumber(0),
    };
    frame.runs.push(ReplayRun { channel: run.channel, run: placed, last_time });
}

/// What the footer of a segment file up to `end` said.
pub(crate) async fn rebuild_footer<F: DiskFile>(
    file: &F,
    segment: SegmentNumber,
    generation: Generation,
    end: Position,
) -> DiskResult<Vec<u8>> {
    let length = usize::try_from(end.0).expect("segments are small");
    let mut bytes = file.read_at(0, length).await?;
    bytes.resize(format::align_block(bytes.len()), 0);
    let mut channels: BTreeMap<ChannelId, RunList> = BTreeMap::new();
    let mut frames = FrameList::default();
    let mut at = BLOCK_SIZE_BYTES;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let FrameAt::Whole(found) = frame_at(rest, segment, generation) else {
            at += next_frame(rest, segment, generation).unwrap_or(rest.len());
            continue;
        };
        let block = u32::try_from(at / BLOCK_SIZE_BYTES).expect("segments are small");
        let frame = replay_frame(&found, (segment, block));
        let number = frames.push(frame.note());
        for ReplayRun { channel, run, .. } in frame.runs {
            let runs = channels.entry(channel).or_default();
            // A misplaced frame may come out of its order.
            if runs.last().is_none_or(|last| last < run.first) {
                runs.push(Run { frame: number, ..run });
            }
        }
        at += found.step_bytes(rest);
    }
    let mut writer = FooterWriter::default();
    for (channel, runs) in channels {
        writer.channel(channel, "", frames.base(), runs.iter());
    }
    Ok(writer.finish(generation, segment, frames.iter()))
}
