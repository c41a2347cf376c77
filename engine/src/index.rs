//! The offset index of one channel: which frame holds which sequence.
//!
//! Runs of segments that are not sealed stand in memory, packed ([`runs`]), with their frames in one list for all
//! channels ([`frames`]); a sealed segment's runs stand in its footer on disk, and memory keeps one [`SealedPart`] for
//! them. So memory does not grow with the number of stored messages.
//!
//! Times are those of whole frames: bounds, which the messages of other channels may have widened. Who needs the exact
//! one looks at the messages.

use std::collections::VecDeque;

use crate::types::{SegmentNumber, Sequence, Timestamp};

pub(crate) mod frames;
pub(crate) mod runs;

use frames::{FrameList, FrameNote, FrameNumber};
use runs::{Run, RunList, Totals};

/// Messages of a channel in one sealed segment: all that it has there, unless an age limit sets them apart. See
/// [`ChannelIndex::join_parts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedPart {
    /// The segment.
    pub segment: SegmentNumber,
    /// Messages left.
    pub count: u32,
    /// First and last sequence that is left; between them may be gaps, where damage was.
    pub first: Sequence,
    /// See `first`.
    pub last: Sequence,
    /// Bytes left.
    pub bytes: u64,
    /// A time not after the first message's, before anything was trimmed.
    pub first_time: Timestamp,
    /// A time not before the last message's.
    pub last_time: Timestamp,
}

impl SealedPart {
    /// With another run of the segment, which is in this frame, behind what is known.
    pub(crate) fn with(
        part: Option<Self>,
        segment: SegmentNumber,
        run: &Run,
        note: &FrameNote,
    ) -> Self {
        let known = part.unwrap_or(Self {
            segment,
            count: 0,
            first: run.first,
            last: run.last(),
            bytes: 0,
            first_time: note.first_time,
            last_time: note.last_time,
        });
        Self {
            last: run.last(),
            last_time: known.last_time.max(note.last_time),
            count: known.count.saturating_add(run.count),
            bytes: known.bytes.saturating_add(u64::from(run.bytes)),
            ..known
        }
    }
}

/// Where a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this run.
    Run(Run),
    /// In this sealed segment: its footer knows.
    Sealed(SegmentNumber),
    /// Nowhere; the next sequence that there is, if any.
    Gone(Option<Sequence>),
}

/// Where the first message of a time or later may be: none is before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimePlace {
    /// In this run, in this frame, or behind it.
    Run(Run, FrameNote),
    /// In this sealed segment, or behind this sequence, which is the last there.
    Sealed(SegmentNumber, Sequence),
    /// Behind all that has a place.
    None,
}

/// What a trim took from a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub segment: SegmentNumber,
    pub count: u64,
    pub bytes: u64,
}

impl Taken {
    fn of(gone: Totals, segment: SegmentNumber) -> Self {
        Self { segment, count: gone.count, bytes: gone.bytes }
    }
}

/// The index of one channel. Sealed parts come before runs; both are in the order of their sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChannelIndex {
    pub(crate) sealed: VecDeque<SealedPart>,
    pub(crate) runs: RunList,
}

impl ChannelIndex {
    /// Adds a run behind all others.
    pub(crate) fn push(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// Finds a sequence.
    pub(crate) fn find(&self, sequence: Sequence) -> Place {
        if self.runs.front().is_some_and(|run| run.first <= sequence) {
            return match self.runs.from(sequence).next() {
                Some(run) if run.first <= sequence => Place::Run(run),
                next => Place::Gone(next.map(|run| run.first)),
            };
        }
        let after = self.sealed.partition_point(|part| part.last < sequence);
        match self.sealed.get(after) {
            Some(part) if part.first <= sequence => Place::Sealed(part.segment),
            Some(part) => Place::Gone(Some(part.first)),
            None => Place::Gone(self.runs.front().map(|run| run.first)),
        }
    }

    /// Finds the first message from `from` on whose time may be `time` or later.
    pub(crate) fn find_time(
        &self,
        time: Timestamp,
        from: Sequence,
        frames: &FrameList,
    ) -> TimePlace {
        let part = self.sealed.iter().find(|part| part.last >= from && part.last_time >= time);
        if let Some(part) = part {
            return TimePlace::Sealed(part.segment, part.last);
        }
        let mut runs = self.runs.from(from).map(|run| (run, frames.of(&run)));
        match runs.find(|(_, note)| note.last_time >= time) {
            Some((run, note)) => TimePlace::Run(run, note),
            None => TimePlace::None,
        }
    }

    /// A time not after that of the first message from `sequence` on. None: there is no such message.
    pub(crate) fn time_before(&self, sequence: Sequence, frames: &FrameList) -> Option<Timestamp> {
        let part = self.sealed.partition_point(|part| part.last < sequence);
        if let Some(part) = self.sealed.get(part) {
            return Some(part.first_time);
        }
        self.runs.from(sequence).next().map(|run| frames.of(&run).first_time)
    }

    /// The first sequence there is.
    pub(crate) fn first(&self) -> Option<Sequence> {
        let sealed = self.sealed.front().map(|part| part.first);
        sealed.or_else(|| self.runs.front().map(|run| run.first))
    }

    /// The last sequence there is.
    pub(crate) fn last(&self) -> Option<Sequence> {
        self.runs.last().or_else(|| self.sealed.back().map(|part| part.last))
    }

    /// The first one's average size, and whether its run is in memory.
    pub(crate) fn front(&self) -> Option<(u64, Option<Run>)> {
        if let Some(part) = self.sealed.front() {
            return Some((part.bytes / u64::from(part.count.max(1)), None));
        }
        self.runs.front().map(|run| (u64::from(run.bytes / run.count), Some(*run)))
    }

    /// A time that is not before the oldest run's or part's last message: when it is expired, all of it is.
    pub(crate) fn front_last(&self, frames: &FrameList) -> Option<(Timestamp, Sequence)> {
        let sealed = self.sealed.front().map(|part| (part.last_time, part.last));
        let run = || self.runs.front().map(|run| (frames.of(run).last_time, run.last()));
        sealed.or_else(run)
    }

    /// Takes the first message away, which has `size` bytes.
    pub(crate) fn pop_one(&mut self, size: u64, frames: &FrameList) -> Option<Taken> {
        if let Some(part) = self.sealed.front_mut() {
            let taken = Taken { segment: part.segment, count: 1, bytes: size.min(part.bytes) };
            if part.count <= 1 || part.first >= part.last {
                let taken = Taken { count: u64::from(part.count), bytes: part.bytes, ..taken };
                self.sealed.pop_front();
                return Some(taken);
            }
            part.first = part.first.next();
            part.count -= 1;
            part.bytes -= taken.bytes;
            return Some(taken);
        }
        let segment = frames.of(self.runs.front()?).segment;
        Some(Taken::of(self.runs.pop_one(size), segment))
    }

    /// Takes the whole first part or run away if all of it is before `first`.
    pub(crate) fn pop_whole_before(
        &mut self,
        first: Sequence,
        frames: &FrameList,
    ) -> Option<Taken> {
        if let Some(part) = self.sealed.front() {
            if part.last >= first {
                return None;
            }
            let gone = Totals { count: u64::from(part.count), bytes: part.bytes };
            let taken = Taken::of(gone, part.segment);
            self.sealed.pop_front();
            return Some(taken);
        }
        let run = self.runs.front().filter(|run| run.last() < first)?;
        let segment = frames.of(run).segment;
        Some(Taken::of(self.runs.pop(), segment))
    }

    /// Whether it could have been built message by message up to `last`, over these frames.
    pub(crate) fn is_sound(&self, last: Sequence, frames: &FrameList) -> bool {
        let mut before = Sequence(0);
        for part in &self.sealed {
            let is_range = before < part.first && part.first <= part.last;
            if !is_range || part.count == 0 {
                return false;
            }
            if u64::from(part.count) > part.last.0 - part.first.0 + 1 {
                return false;
            }
            before = part.last;
        }
        let is_known = |run: Run| run.frame >= frames.base() && run.frame < frames.end();
        self.runs.front().is_none_or(|run| run.first > before)
            && self.runs.iter().all(is_known)
            && self.last().is_none_or(|end| end <= last)
    }

    /// Takes away what is in segments that are not there; returns its ranges.
    pub(crate) fn take_missing(
        &mut self,
        is_there: impl Fn(SegmentNumber) -> bool,
        frames: &FrameList,
    ) -> Vec<(SegmentNumber, Sequence, Sequence)> {
        let mut missing = Vec::new();
        self.sealed.retain(|part| {
            let stays = is_there(part.segment);
            if !stays {
                missing.push((part.segment, part.first, part.last));
            }
            stays
        });
        let mut kept = RunList::default();
        for run in self.runs.iter() {
            let segment = frames.of(&run).segment;
            if is_there(segment) {
                kept.push(run);
            } else {
                missing.push((segment, run.first, run.last()));
            }
        }
        if !missing.is_empty() {
            self.runs = kept;
        }
        missing
    }

    /// How many messages and bytes are in each segment.
    pub(crate) fn for_each_segment(
        &self,
        frames: &FrameList,
        mut count: impl FnMut(SegmentNumber, Totals),
    ) {
        for part in &self.sealed {
            count(part.segment, Totals { count: u64::from(part.count), bytes: part.bytes });
        }
        for run in self.runs.iter() {
            let totals = Totals { count: u64::from(run.count), bytes: u64::from(run.bytes) };
            count(frames.of(&run).segment, totals);
        }
    }

    /// The segment is sealed: its runs, in frames before `end`, are in its footer from now on.
    pub(crate) fn seal(&mut self, segment: SegmentNumber, end: FrameNumber, frames: &FrameList) {
        let mut part: Option<SealedPart> = None;
        self.runs.take_before(end, |run| {
            let note = frames.of(run);
            assert_eq!(note.segment, segment, "segments are sealed in their order");
            part = Some(SealedPart::with(part, segment, run, &note));
        });
        self.sealed.extend(part);
    }

    /// Segments that follow each other were rewritten as `output`; returns what moved there, by part. The parts stay what
    /// they were: see [`ChannelIndex::join_parts`].
    pub(crate) fn replace(
        &mut self,
        inputs: &[SegmentNumber],
        output: SegmentNumber,
    ) -> Vec<(SegmentNumber, Totals)> {
        let mut moved = Vec::new();
        for part in self.sealed.iter_mut().filter(|part| inputs.contains(&part.segment)) {
            let totals = Totals { count: u64::from(part.count), bytes: part.bytes };
            moved.push((part.segment, totals));
            part.segment = output;
        }
        moved
    }

    /// Makes one part of those that lie in one segment. A part goes when its last message is too old, so none gets to span
    /// more than the age limit, if there is one: its first message then goes within twice its age. Of what is not too old
    /// itself few parts stay in a segment: two neighbours span more than the age, all together about twice as much.
    pub(crate) fn join_parts(&mut self, age_ns: Option<i64>) {
        let may_join = |known: &SealedPart, part: &SealedPart| {
            let first_time = known.first_time.min(part.first_time);
            let span_ns = part.last_time.max(known.last_time).0.saturating_sub(first_time.0);
            known.segment == part.segment && age_ns.is_none_or(|age_ns| span_ns <= age_ns)
        };
        let mut neighbours = self.sealed.iter().zip(self.sealed.iter().skip(1));
        if !neighbours.any(|(known, part)| may_join(known, part)) {
            return;
        }
        let mut kept: VecDeque<SealedPart> = VecDeque::new();
        for part in &self.sealed {
            match kept.back_mut() {
                Some(known) if may_join(known, part) => {
                    known.last = part.last;
                    known.count = known.count.saturating_add(part.count);
                    known.bytes = known.bytes.saturating_add(part.bytes);
                    known.first_time = known.first_time.min(part.first_time);
                    known.last_time = known.last_time.max(part.last_time);
                }
                _ => kept.push_back(*part),
            }
        }
        kept.shrink_to_fit();
        self.sealed = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u32, frame: u64) -> Run {
        Run { first: Sequence(first), count, bytes: count * 100, frame: FrameNumber(frame) }
    }

    fn frames() -> FrameList {
        let mut frames = FrameList::starting_at(FrameNumber(7));
        for (segment, block, time) in [(1, 1, 1_000), (1, 3, 10_000), (2, 1, 20_000)] {
            frames.push(FrameNote {
                segment: SegmentNumber(segment),
                block,
                first_time: Timestamp(time),
                last_time: Timestamp(time + 1_000),
            });
        }
        frames
    }

    fn index() -> ChannelIndex {
        let mut index = ChannelIndex::default();
        index.push(run(1, 10, 7));
        index.push(run(11, 5, 8));
        index.push(run(20, 5, 9));
        index
    }

    fn seal_first(index: &mut ChannelIndex) {
        let frames = frames();
        index.seal(SegmentNumber(1), frames.end_of(SegmentNumber(1)), &frames);
    }

    #[test]
    fn finds_runs_gaps_and_sealed_parts() {
        let mut index = index();
        assert_eq!(index.find(Sequence(11)), Place::Run(run(11, 5, 8)));
        assert_eq!(index.find(Sequence(16)), Place::Gone(Some(Sequence(20))));
        assert_eq!(index.find(Sequence(25)), Place::Gone(None));
        seal_first(&mut index);
        assert_eq!(index.find(Sequence(10)), Place::Sealed(SegmentNumber(1)));
        assert_eq!(index.find(Sequence(0)), Place::Gone(Some(Sequence(1))));
        assert_eq!(index.find(Sequence(17)), Place::Gone(Some(Sequence(20))));
        assert_eq!(index.sealed.front().map(|part| (part.count, part.bytes)), Some((15, 1_500)));
    }

    #[test]
    fn finds_the_run_of_a_time() {
        let (mut index, frames) = (index(), frames());
        let note = |frame| frames.of(&run(1, 1, frame));
        let find = |index: &ChannelIndex, time, from| {
            index.find_time(Timestamp(time), Sequence(from), &frames)
        };
        assert_eq!(find(&index, 0, 0), TimePlace::Run(run(1, 10, 7), note(7)));
        assert_eq!(find(&index, 2_001, 0), TimePlace::Run(run(11, 5, 8), note(8)));
        assert_eq!(find(&index, 2_001, 16), TimePlace::Run(run(20, 5, 9), note(9)));
        assert_eq!(find(&index, 21_001, 0), TimePlace::None);
        assert_eq!(index.time_before(Sequence(12), &frames), Some(Timestamp(10_000)));
        seal_first(&mut index);
        assert_eq!(find(&index, 2_001, 0), TimePlace::Sealed(SegmentNumber(1), Sequence(15)));
        assert_eq!(find(&index, 2_001, 16), TimePlace::Run(run(20, 5, 9), note(9)));
        assert_eq!(find(&index, 15_000, 0), TimePlace::Run(run(20, 5, 9), note(9)));
        assert_eq!(index.time_before(Sequence(12), &frames), Some(Timestamp(1_000)));
    }

    #[test]
    fn pops_messages_and_whole_runs() {
        let (mut index, frames) = (index(), frames());
        let taken = index.pop_one(40, &frames).unwrap();
        assert_eq!((taken.count, taken.bytes), (1, 40));
        assert_eq!(index.first(), Some(Sequence(2)));
        assert!(index.pop_whole_before(Sequence(10), &frames).is_none());
        let taken = index.pop_whole_before(Sequence(11), &frames);
        assert_eq!(taken.map(|taken| taken.bytes), Some(960));
        seal_first(&mut index);
        for _ in 0..5 {
            let taken = index.pop_one(100, &frames);
            assert_eq!(taken.map(|taken| taken.segment), Some(SegmentNumber(1)));
        }
        assert_eq!(index.first(), Some(Sequence(20)));
        assert!(index.sealed.is_empty());
    }

    #[test]
    fn what_is_in_missing_segments_goes_away() {
        let (mut index, frames) = (index(), frames());
        seal_first(&mut index);
        assert!(index.is_sound(Sequence(24), &frames));
        let missing = index.take_missing(|segment| segment != SegmentNumber(1), &frames);
        assert_eq!(missing, [(SegmentNumber(1), Sequence(1), Sequence(15))]);
        let missing = index.take_missing(|_| false, &frames);
        assert_eq!(missing, [(SegmentNumber(2), Sequence(20), Sequence(24))]);
        assert_eq!(index, ChannelIndex::default());
    }

    #[test]
    fn parts_of_rewritten_segments_become_one() {
        let part = |segment, first: u64, count: u32| SealedPart {
            segment: SegmentNumber(segment),
            count,
            first: Sequence(first),
            last: Sequence(first + u64::from(count) - 1),
            bytes: u64::from(count) * 10,
            first_time: Timestamp(1),
            last_time: Timestamp(2),
        };
        let mut index = ChannelIndex::default();
        index.sealed.extend([part(1, 1, 5), part(2, 6, 5), part(3, 20, 5), part(4, 25, 5)]);
        let moved = index.replace(&[SegmentNumber(2), SegmentNumber(3)], SegmentNumber(9));
        let totals = Totals { count: 5, bytes: 50 };
        assert_eq!(moved, [(SegmentNumber(2), totals), (SegmentNumber(3), totals)]);
        index.join_parts(None);
        let merged = SealedPart { last: Sequence(24), count: 10, bytes: 100, ..part(9, 6, 5) };
        assert_eq!(index.sealed, [part(1, 1, 5), merged, part(4, 25, 5)]);
        assert_eq!(index.replace(&[SegmentNumber(2)], SegmentNumber(9)), []);
    }

    #[test]
    fn a_part_spans_no_more_than_the_age_limit() {
        let part = |first: u64, last: u64| SealedPart {
            segment: SegmentNumber(1),
            count: u32::try_from(last - first + 1).unwrap(),
            first: Sequence(first),
            last: Sequence(last),
            bytes: (last - first + 1) * 10,
            first_time: Timestamp(first.cast_signed() * 10),
            last_time: Timestamp(last.cast_signed() * 10),
        };
        let mut index = ChannelIndex::default();
        index.sealed.extend((1..=12).map(|at| part(at, at)));
        let joined = [part(1, 5), part(6, 10), part(11, 12)];
        for _ in 0..2 {
            index.join_parts(Some(49));
            assert_eq!(index.sealed, joined, "the second time nothing is left to join");
        }
        assert!(index.is_sound(Sequence(12), &frames()));
        assert_eq!(index.find(Sequence(7)), Place::Sealed(SegmentNumber(1)));
        index.join_parts(None);
        assert_eq!(index.sealed, [part(1, 12)]);
    }

    /// Found by fuzzing: an index from a checkpoint with a right checksum divided by a count of 0.
    #[test]
    fn an_index_that_no_messages_make_is_not_sound() {
        let is_sound = |change: fn(&mut ChannelIndex)| {
            let mut index = index();
            seal_first(&mut index);
            change(&mut index);
            index.is_sound(Sequence(24), &frames())
        };
        assert!(is_sound(|_| {}));
        assert!(!is_sound(|index| index.sealed[0].count = 0));
        assert!(!is_sound(|index| index.sealed[0].count = 16));
        assert!(!is_sound(|index| index.sealed[0].last = Sequence(20)));
        assert!(!is_sound(|index| index.sealed[0].first = Sequence(16)));
        assert!(!is_sound(|index| index.push(run(25, 1, 9))));
        assert!(!is_sound(|index| {
            index.runs = RunList::default();
            index.push(run(20, 1, 10));
        }));
        assert!(!is_sound(|index| {
            index.runs = RunList::default();
            index.push(run(20, 1, 6));
        }));
    }
}
