//! Reading a segment's frames back for recovery: what they do to the state and the index, without the payloads.

use crate::disk::{BLOCK_SIZE_BYTES, DiskFile, DiskResult};
use crate::format::blocks::{ChainPoint, SegmentHeader};
use crate::format::state::{DecodedState, decode_state};
use crate::format::{self, FrameHeader, Table};
use crate::index::Run;
use crate::log::cache::FramePlace;
use crate::log::scan::{FoundFrame, FrameAt, frame_at, next_frame};
use crate::log::span_us;
use crate::record::StateRecord;
use std::collections::BTreeMap;

use crate::types::{ChannelId, Generation, Position, SegmentNumber, Sequence};

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
    pub runs: Vec<(ChannelId, Run)>,
    /// Records that cannot be read.
    pub damaged: Vec<(ChannelId, Sequence)>,
    /// Whether its header or first table was damaged.
    pub is_front_damaged: bool,
    /// The table of the frame before, if that was one block.
    pub previous_table: Option<Table>,
}

impl ReplayFrame {
    /// The frame's end.
    pub(crate) fn chain_point(&self) -> ChainPoint {
        let start = u64::from(self.place.1) * BLOCK_SIZE_BYTES as u64;
        ChainPoint {
            segment: self.place.0,
            end: Position(start + self.header.length_bytes() as u64),
            crc: self.header.crc(),
            index: self.header.index,
        }
    }
}

/// Behind so many bytes without a frame none is looked for: writes on their way at a crash lie close together, 4 frames
/// at most, and what lies farther and was committed is named by the hint.
const GAP_BYTES_MAX: u64 = 16 << 20;

/// Appends all frames of this segment file from `from` on to `frames`. Blocks without a frame are passed over: zeros
/// do not end a segment, but [`GAP_BYTES_MAX`] of them behind `witnessed`, where a frame is known to have ended.
pub(crate) async fn scan_segment<F: DiskFile>(
    file: &F,
    header: &SegmentHeader,
    from: Position,
    witnessed: Position,
    frames: &mut Vec<ReplayFrame>,
) -> DiskResult<()> {
    let length = file.length_bytes().await?;
    let frame_max = header.store.frame_size_bytes_max as usize;
    let window_max = WINDOW_BYTES.max(2 * frame_max);
    let mut start = from.0;
    let mut last_end = from.0.max(witnessed.0);
    while start < length && start < last_end + GAP_BYTES_MAX {
        let window = file.read_at(start, window_max).await?;
        if window.is_empty() {
            break;
        }
        let is_last = start + window.len() as u64 >= length;
        // A frame's end must be in the window, so that a damaged front can be told from the copy at the end.
        let usable = if is_last { window.len() } else { window.len() - frame_max };
        let mut at = 0;
        while at < usable {
            let found = frames.len();
            at += scan_frame(&window[at..], usable - at, header, start + at as u64, frames);
            if frames.len() > found {
                last_end = last_end.max(start + at as u64);
            }
        }
        start += at as u64;
    }
    Ok(())
}

/// Takes the frame at the front of `bytes`, if one starts there; returns how far to go, `usable` at most if there is
/// none.
fn scan_frame(
    bytes: &[u8],
    usable: usize,
    header: &SegmentHeader,
    position: u64,
    frames: &mut Vec<ReplayFrame>,
) -> usize {
    match frame_at(bytes, header.number, header.generation) {
        FrameAt::Whole(found) => {
            let length = found.header.length_bytes();
            let block =
                u32::try_from(position / BLOCK_SIZE_BYTES as u64).expect("segments are small");
            frames.push(replay_frame(&found, (header.number, block)));
            length
        }
        FrameAt::Partial | FrameAt::None => {
            next_frame(bytes, header.number, header.generation).unwrap_or(usable).min(usable)
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
        damaged: Vec::new(),
        is_front_damaged: found.is_front_damaged,
        previous_table: found.previous_table.clone(),
    };
    for run in &found.table.runs {
        for offset in 0..run.count {
            let record = run.record + offset;
            let content = found.record(record);
            if run.channel == ChannelId(0) {
                match content.map(decode_state) {
                    Some(DecodedState::Known(state)) => frame.states.push(state),
                    Some(DecodedState::Skipped) => {}
                    Some(DecodedState::Unknown(_) | DecodedState::Corrupt) | None => {
                        frame.damaged.push((ChannelId(0), Sequence(0)));
                    }
                }
            } else if content.is_none() {
                frame.damaged.push((run.channel, run.sequence(offset)));
            }
        }
        if run.channel != ChannelId(0) && run.count > 0 {
            frame.runs.push((run.channel, placed_run(found, *run, place)));
        }
    }
    frame
}

fn placed_run(found: &FoundFrame<'_>, run: format::TableRun, place: FramePlace) -> Run {
    let time =
        |record: u32| found.record(record).and_then(format::message).map(|message| message.0);
    let records = run.record..run.record + run.count;
    let first_time = records.clone().find_map(time).unwrap_or_default();
    let last_time = records.clone().rev().find_map(time).unwrap_or(first_time);
    let bytes: u64 = records.map(|record| u64::from(found.table.lengths[record as usize])).sum();
    Run {
        first: run.first,
        first_time,
        count: run.count,
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        segment: place.0,
        block: place.1,
        record: run.record,
        span_us: span_us(last_time.0.saturating_sub(first_time.0)),
    }
}

/// The runs of each channel in a segment file up to `end`, sorted by channel: what its footer said.
pub(crate) async fn scan_file<F: DiskFile>(
    file: &F,
    segment: SegmentNumber,
    generation: Generation,
    end: Position,
) -> DiskResult<Vec<(ChannelId, Vec<Run>)>> {
    let length = usize::try_from(end.0).expect("segments are small");
    let bytes = file.read_at(0, length).await?;
    let mut channels: BTreeMap<ChannelId, Vec<Run>> = BTreeMap::new();
    let mut at = BLOCK_SIZE_BYTES;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let FrameAt::Whole(found) = frame_at(rest, segment, generation) else {
            at += next_frame(rest, segment, generation).unwrap_or(rest.len());
            continue;
        };
        let block = u32::try_from(at / BLOCK_SIZE_BYTES).expect("segments are small");
        for (channel, run) in replay_frame(&found, (segment, block)).runs {
            channels.entry(channel).or_default().push(run);
        }
        at += found.header.length_bytes();
    }
    Ok(channels.into_iter().collect())
}
