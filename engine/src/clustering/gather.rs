//! One pass: the live records of a range of channels, brought from their frames into the order of channel and sequence.
//!
//! The footers tell beforehand how much each channel has, so that each record is copied straight to its place: nothing is
//! sorted, and a frame is done in one go of about 100 us.

use std::iter::Peekable;

use compact_str::CompactString;

use crate::format::footer::{Footer, FooterRuns};
use crate::format::{self, TableRun};
use crate::index::frames::FrameNumber;
use crate::log::scan::FoundFrame;
use crate::types::{ChannelId, FastMap, Sequence};

/// How much room is made in one step, for bytes and for records each: memory that was not used yet costs a fault a page.
const ROOM_STEP_BYTES: usize = 256 << 10;

/// A channel of the pass.
#[derive(Debug)]
pub(crate) struct GatherChannel {
    pub id: ChannelId,
    pub name: CompactString,
    /// What is before this is not taken.
    live_from: Sequence,
    /// Its records so far, in [`Gather::records`].
    start: usize,
    end: usize,
    /// Where the next record's bytes go, and where its room for them ends.
    at: usize,
    room_end: usize,
    /// Its records, and their bytes as far as is known: of a run that limits have cut, by the average.
    count: usize,
    size_bytes: usize,
}

/// A record in its place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Record {
    pub sequence: Sequence,
    pub start: usize,
    pub length: u32,
    pub crc: u32,
}

/// Something is not as a footer says: its segment is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    channels: Vec<GatherChannel>,
    by_id: FastMap<ChannelId, usize>,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

/// A channel's runs in one input, as the frames come.
pub(crate) type InputRuns<'a> = Vec<Peekable<FooterRuns<'a>>>;

/// What a channel has in all inputs.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Share {
    count: usize,
    size_bytes: usize,
}

impl Share {
    /// Of the runs that are live from `live_from` on; what of a run is gone is counted too.
    pub(crate) fn of(runs: FooterRuns<'_>, live_from: Sequence) -> Self {
        let mut share = Self::default();
        for run in runs.filter(|run| run.last() >= live_from) {
            share.count += run.count as usize;
            // Each record is padded.
            share.size_bytes +=
                run.bytes as usize + run.count as usize * (format::RECORD_ALIGNMENT - 1);
        }
        share
    }

    /// The memory that it takes.
    pub(crate) fn cost_bytes(&self) -> usize {
        self.size_bytes + self.count * size_of::<Record>()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.size_bytes += other.size_bytes;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Gather {
    /// Adds a channel, of a greater number than those before.
    pub(crate) fn add(&mut self, id: ChannelId, name: &str, live_from: Sequence, share: Share) {
        self.by_id.insert(id, self.channels.len());
        self.channels.push(GatherChannel {
            id,
            name: name.into(),
            live_from,
            start: 0,
            end: 0,
            at: 0,
            room_end: 0,
            count: share.count,
            size_bytes: format::align_record(share.size_bytes),
        });
    }

    /// Forgets all but the memory that it has.
    pub(crate) fn clear(&mut self) {
        self.channels.clear();
        self.by_id.clear();
        self.bytes.clear();
        self.records.clear();
    }

    /// All channels are added: says where each one's records go. There is room for them when
    /// [`Gather::make_room`] says so.
    pub(crate) fn begin(&mut self) {
        let (mut records, mut bytes) = (0, 0);
        for channel in &mut self.channels {
            (channel.start, channel.end, channel.at) = (records, records, bytes);
            records += channel.count;
            bytes += channel.size_bytes;
            channel.room_end = bytes;
        }
        self.records.reserve_exact(records);
        self.bytes.reserve_exact(bytes);
    }

    /// Makes some room, a step of about 100 us; whether that was all. The whole of a pass at once took 15 to 25 ms.
    pub(crate) fn make_room(&mut self) -> bool {
        let end = |last: &GatherChannel| (last.start + last.count, last.room_end);
        let (records_wanted, bytes_wanted) = self.channels.last().map(end).unwrap_or_default();
        let bytes = bytes_wanted.min(self.bytes.len() + ROOM_STEP_BYTES);
        self.bytes.resize(bytes, 0);
        let step = ROOM_STEP_BYTES / size_of::<Record>();
        let records = records_wanted.min(self.records.len() + step);
        self.records.resize(records, Record::default());
        (records, bytes) == (records_wanted, bytes_wanted)
    }

    /// The channels' runs in an input.
    pub(crate) fn runs_of<'a>(&self, footer: &'a Footer) -> InputRuns<'a> {
        self.channels.iter().map(|channel| footer.runs(channel.id).peekable()).collect()
    }

    /// Which frames of an input hold anything of this pass.
    pub(crate) fn needed_frames(&self, footer: &Footer) -> Vec<FrameNumber> {
        let mut is_needed = vec![false; footer.frames().len()];
        for channel in &self.channels {
            for run in footer.runs(channel.id).filter(|run| run.last() >= channel.live_from) {
                if let Ok(at) = usize::try_from(run.frame.0)
                    && let Some(is_needed) = is_needed.get_mut(at)
                {
                    *is_needed = true;
                }
            }
        }
        let numbers = is_needed.iter().enumerate().filter(|(_, is_needed)| **is_needed);
        numbers.map(|(at, _)| FrameNumber(at as u64)).collect()
    }

    /// Takes what a frame has for this pass.
    pub(crate) fn take_frame(
        &mut self,
        found: &FoundFrame<'_>,
        number: FrameNumber,
        runs: &mut InputRuns<'_>,
    ) -> Result<(), Damaged> {
        if !found.is_intact() {
            return Err(Damaged);
        }
        for in_table in &found.table.runs {
            let Some(at) = self.by_id.get(&in_table.channel).copied() else { continue };
            let runs = &mut runs[at];
            let live_from = self.channels[at].live_from;
            // Those of frames that nothing is needed of.
            while runs.next_if(|run| run.last() < live_from).is_some() {}
            while let Some(run) = runs.next_if(|run| {
                run.frame == number
                    && in_table.first <= run.first
                    && run.last() <= in_table.sequence(in_table.count - 1)
            }) {
                let first = run.first.max(live_from);
                self.take_records(at, found, in_table, first..=run.last())?;
            }
        }
        Ok(())
    }

    fn take_records(
        &mut self,
        at: usize,
        found: &FoundFrame<'_>,
        in_table: &TableRun,
        sequences: std::ops::RangeInclusive<Sequence>,
    ) -> Result<(), Damaged> {
        let channel = &mut self.channels[at];
        for sequence in sequences.start().0..=sequences.end().0 {
            let offset = u32::try_from(sequence - in_table.first.0).map_err(|_| Damaged)?;
            let record = in_table.record + offset;
            let content = found.record(record).ok_or(Damaged)?;
            let length = format::align_record(content.len());
            if channel.at + length > channel.room_end {
                // Its room was too small: the rest goes behind all others'.
                channel.at = self.bytes.len();
                self.bytes.resize(channel.at + length, 0);
                channel.room_end = self.bytes.len();
            }
            let end = channel.at + length;
            self.bytes[channel.at..][..content.len()].copy_from_slice(content);
            let entry = self.records.get_mut(channel.end).ok_or(Damaged)?;
            *entry = Record {
                sequence: Sequence(sequence),
                start: channel.at,
                length: format::count_u32(content.len()),
                crc: found.table.crcs[record as usize],
            };
            channel.at = end;
            channel.end += 1;
        }
        Ok(())
    }

    /// Whether all that an input's footer says was found.
    pub(crate) fn check_input(&self, runs: &mut InputRuns<'_>) -> Result<(), Damaged> {
        for (channel, runs) in self.channels.iter().zip(runs) {
            if runs.any(|run| run.last() >= channel.live_from) {
                return Err(Damaged);
            }
        }
        Ok(())
    }

    /// The channels with their records, in order.
    pub(crate) fn channels(&self) -> impl Iterator<Item = (&GatherChannel, &[Record])> {
        self.channels.iter().map(|channel| (channel, &self.records[channel.start..channel.end]))
    }

    /// A record's bytes, with or without its padding.
    pub(crate) fn bytes(&self, part: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[part]
    }
}
