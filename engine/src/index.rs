//! The offset index of one channel: which frame holds which sequence.
//!
//! Runs of segments that are not sealed stand in memory; a sealed segment's runs stand in its footer on disk, and
//! memory keeps one [`SealedPart`] for them. So memory does not grow with the number of stored messages.

use std::collections::VecDeque;

use crate::types::{SegmentNumber, Sequence, Timestamp};

/// Messages of one channel that follow each other in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first one's sequence.
    pub first: Sequence,
    /// The first one's time.
    pub first_time: Timestamp,
    /// How many; at least 1.
    pub count: u32,
    /// Sum of their records' lengths.
    pub bytes: u32,
    /// The segment.
    pub segment: SegmentNumber,
    /// The frame's first block in it.
    pub block: u32,
    /// The first one's place among the frame's records.
    pub record: u32,
    /// Microseconds from the first one's time to the last one's, rounded up.
    pub span_us: u32,
}

impl Run {
    /// The last one's sequence.
    pub(crate) fn last(&self) -> Sequence {
        Sequence(self.first.0 + u64::from(self.count) - 1)
    }

    /// A time that is not before the last one's.
    pub(crate) fn last_time(&self) -> Timestamp {
        Timestamp(self.first_time.0.saturating_add(i64::from(self.span_us) * 1_000))
    }
}

/// A channel's messages in one sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedPart {
    /// The segment.
    pub segment: SegmentNumber,
    /// First and last sequence that is left; between them may be gaps, where damage was.
    pub first: Sequence,
    /// See `first`.
    pub last: Sequence,
    /// Messages left.
    pub count: u64,
    /// Bytes left.
    pub bytes: u64,
    /// Time of the first message, before anything was trimmed.
    pub first_time: Timestamp,
    /// A time not before the last message's.
    pub last_time: Timestamp,
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

/// Where the first message of a time or later is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimePlace {
    /// It is the first of, or inside, this run.
    Run(Run),
    /// In this sealed segment.
    Sealed(SegmentNumber),
    /// There is none.
    None,
}

/// What a trim took from a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub segment: SegmentNumber,
    pub count: u64,
    pub bytes: u64,
}

/// The index of one channel. Sealed parts come before runs; both are in the order of their sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChannelIndex {
    pub(crate) sealed: VecDeque<SealedPart>,
    pub(crate) runs: VecDeque<Run>,
}

impl ChannelIndex {
    /// Adds a run behind all others.
    pub(crate) fn push(&mut self, run: Run) {
        assert!(run.count > 0);
        if let Some(last) = self.runs.back() {
            assert!(last.last() < run.first, "runs are pushed in order");
        }
        self.runs.push_back(run);
    }

    /// Finds a sequence.
    pub(crate) fn find(&self, sequence: Sequence) -> Place {
        if self.runs.front().is_some_and(|run| run.first <= sequence) {
            let after = self.runs.partition_point(|run| run.first <= sequence);
            return match self.runs.get(after - 1) {
                Some(run) if sequence <= run.last() => Place::Run(*run),
                _ => Place::Gone(self.runs.get(after).map(|run| run.first)),
            };
        }
        let after = self.sealed.partition_point(|part| part.last < sequence);
        match self.sealed.get(after) {
            Some(part) if part.first <= sequence => Place::Sealed(part.segment),
            Some(part) => Place::Gone(Some(part.first)),
            None => Place::Gone(self.runs.front().map(|run| run.first)),
        }
    }

    /// Finds the first message whose time is `time` or later.
    pub(crate) fn find_time(&self, time: Timestamp) -> TimePlace {
        let part = self.sealed.partition_point(|part| part.last_time < time);
        if let Some(part) = self.sealed.get(part) {
            return TimePlace::Sealed(part.segment);
        }
        let run = self.runs.partition_point(|run| run.last_time() < time);
        self.runs.get(run).map_or(TimePlace::None, |run| TimePlace::Run(*run))
    }

    /// A time not after that of the first message from `sequence` on: that of the first one in its run or sealed
    /// segment. None: there is no such message.
    pub(crate) fn time_before(&self, sequence: Sequence) -> Option<Timestamp> {
        let part = self.sealed.partition_point(|part| part.last < sequence);
        if let Some(part) = self.sealed.get(part) {
            return Some(part.first_time);
        }
        let run = self.runs.partition_point(|run| run.last() < sequence);
        self.runs.get(run).map(|run| run.first_time)
    }

    /// The first sequence there is.
    pub(crate) fn first(&self) -> Option<Sequence> {
        let sealed = self.sealed.front().map(|part| part.first);
        sealed.or_else(|| self.runs.front().map(|run| run.first))
    }

    /// The last sequence there is.
    pub(crate) fn last(&self) -> Option<Sequence> {
        let run = self.runs.back().map(Run::last);
        run.or_else(|| self.sealed.back().map(|part| part.last))
    }

    /// The first one's average size, and whether its run is in memory.
    pub(crate) fn front(&self) -> Option<(u64, Option<Run>)> {
        if let Some(part) = self.sealed.front() {
            return Some((part.bytes / part.count.max(1), None));
        }
        self.runs.front().map(|run| (u64::from(run.bytes / run.count), Some(*run)))
    }

    /// A time that is not before the oldest run's or part's last message: when it is expired, all of it is.
    pub(crate) fn front_last(&self) -> Option<(Timestamp, Sequence)> {
        let sealed = self.sealed.front().map(|part| (part.last_time, part.last));
        sealed.or_else(|| self.runs.front().map(|run| (run.last_time(), run.last())))
    }

    /// Takes the first message away, which has `size` bytes.
    pub(crate) fn pop_one(&mut self, size: u64) -> Option<Taken> {
        if let Some(part) = self.sealed.front_mut() {
            let taken = Taken { segment: part.segment, count: 1, bytes: size.min(part.bytes) };
            if part.count <= 1 || part.first >= part.last {
                let taken = Taken { count: part.count, bytes: part.bytes, ..taken };
                self.sealed.pop_front();
                return Some(taken);
            }
            part.first = part.first.next();
            part.count -= 1;
            part.bytes -= taken.bytes;
            return Some(taken);
        }
        let run = self.runs.front_mut()?;
        let segment = run.segment;
        if run.count == 1 {
            let bytes = u64::from(run.bytes);
            self.runs.pop_front();
            return Some(Taken { segment, count: 1, bytes });
        }
        let bytes = u32::try_from(size).unwrap_or(u32::MAX).min(run.bytes);
        run.first = run.first.next();
        run.record += 1;
        run.count -= 1;
        run.bytes -= bytes;
        Some(Taken { segment, count: 1, bytes: u64::from(bytes) })
    }

    /// Takes the whole first part or run away if all of it is before `first`.
    pub(crate) fn pop_whole_before(&mut self, first: Sequence) -> Option<Taken> {
        if let Some(part) = self.sealed.front() {
            if part.last >= first {
                return None;
            }
            let taken = Taken { segment: part.segment, count: part.count, bytes: part.bytes };
            self.sealed.pop_front();
            return Some(taken);
        }
        let run = self.runs.front().copied().filter(|run| run.last() < first)?;
        self.runs.pop_front();
        Some(Taken {
            segment: run.segment,
            count: u64::from(run.count),
            bytes: u64::from(run.bytes),
        })
    }

    /// Whether it could have been built message by message up to `last`.
    pub(crate) fn is_sound(&self, last: Sequence) -> bool {
        let mut before = (Sequence(0), SegmentNumber(0));
        for part in &self.sealed {
            let is_range = before.0 < part.first && part.first <= part.last;
            if !is_range || part.segment <= before.1 {
                return false;
            }
            if part.count == 0 || part.count > part.last.0 - part.first.0 + 1 {
                return false;
            }
            before = (part.last, part.segment);
        }
        for run in &self.runs {
            let has_end = run.count > 0
                && run.first.0.checked_add(u64::from(run.count)).is_some()
                && run.record.checked_add(run.count).is_some();
            if !has_end || run.first <= before.0 || run.segment < before.1 {
                return false;
            }
            before = (run.last(), run.segment);
        }
        before.0 <= last
    }

    /// Takes away what is in segments that are not there; returns its ranges.
    pub(crate) fn take_missing(
        &mut self,
        is_there: impl Fn(SegmentNumber) -> bool,
    ) -> Vec<(SegmentNumber, Sequence, Sequence)> {
        let mut missing = Vec::new();
        self.sealed.retain(|part| {
            let stays = is_there(part.segment);
            if !stays {
                missing.push((part.segment, part.first, part.last));
            }
            stays
        });
        self.runs.retain(|run| {
            let stays = is_there(run.segment);
            if !stays {
                missing.push((run.segment, run.first, run.last()));
            }
            stays
        });
        missing
    }

    /// The runs of `segment`.
    pub(crate) fn runs_of(&self, segment: SegmentNumber) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.segment == segment)
    }

    /// The segment is sealed: its runs are in its footer from now on.
    pub(crate) fn seal(&mut self, segment: SegmentNumber) {
        let mut part: Option<SealedPart> = None;
        for run in self.runs.iter().take_while(|run| run.segment <= segment) {
            assert_eq!(run.segment, segment, "segments are sealed in their order");
            let part = part.get_or_insert(SealedPart {
                segment,
                first: run.first,
                last: run.last(),
                count: 0,
                bytes: 0,
                first_time: run.first_time,
                last_time: run.last_time(),
            });
            part.last = run.last();
            part.last_time = part.last_time.max(run.last_time());
            part.count += u64::from(run.count);
            part.bytes += u64::from(run.bytes);
        }
        let sealed = self.runs.partition_point(|run| run.segment <= segment);
        self.runs.drain(..sealed);
        self.sealed.extend(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u32, segment: u32, time: i64) -> Run {
        Run {
            first: Sequence(first),
            first_time: Timestamp(time),
            count,
            bytes: count * 100,
            segment: SegmentNumber(segment),
            block: 1,
            record: 0,
            span_us: 1,
        }
    }

    fn index() -> ChannelIndex {
        let mut index = ChannelIndex::default();
        index.push(run(1, 10, 1, 1_000));
        index.push(run(11, 5, 1, 10_000));
        index.push(run(20, 5, 2, 20_000));
        index
    }

    #[test]
    fn finds_runs_gaps_and_sealed_parts() {
        let mut index = index();
        assert_eq!(index.find(Sequence(11)), Place::Run(run(11, 5, 1, 10_000)));
        assert_eq!(index.find(Sequence(16)), Place::Gone(Some(Sequence(20))));
        assert_eq!(index.find(Sequence(25)), Place::Gone(None));
        index.seal(SegmentNumber(1));
        assert_eq!(index.find(Sequence(10)), Place::Sealed(SegmentNumber(1)));
        assert_eq!(index.find(Sequence(0)), Place::Gone(Some(Sequence(1))));
        assert_eq!(index.find(Sequence(17)), Place::Gone(Some(Sequence(20))));
        assert_eq!(index.sealed.front().map(|part| (part.count, part.bytes)), Some((15, 1_500)));
    }

    #[test]
    fn finds_the_run_of_a_time() {
        let mut index = index();
        assert_eq!(index.find_time(Timestamp(0)), TimePlace::Run(run(1, 10, 1, 1_000)));
        assert_eq!(index.find_time(Timestamp(2_001)), TimePlace::Run(run(11, 5, 1, 10_000)));
        assert_eq!(index.find_time(Timestamp(21_001)), TimePlace::None);
        index.seal(SegmentNumber(1));
        assert_eq!(index.find_time(Timestamp(2_001)), TimePlace::Sealed(SegmentNumber(1)));
        assert_eq!(index.find_time(Timestamp(15_000)), TimePlace::Run(run(20, 5, 2, 20_000)));
    }

    #[test]
    fn pops_messages_and_whole_runs() {
        let mut index = index();
        let taken = index.pop_one(40).unwrap();
        assert_eq!((taken.count, taken.bytes), (1, 40));
        assert_eq!(index.first(), Some(Sequence(2)));
        assert!(index.pop_whole_before(Sequence(10)).is_none());
        assert_eq!(index.pop_whole_before(Sequence(11)).map(|taken| taken.bytes), Some(960));
        index.seal(SegmentNumber(1));
        for _ in 0..5 {
            assert_eq!(index.pop_one(100).map(|taken| taken.segment), Some(SegmentNumber(1)));
        }
        assert_eq!(index.first(), Some(Sequence(20)));
        assert!(index.sealed.is_empty());
    }

    #[test]
    fn what_is_in_missing_segments_goes_away() {
        let mut index = index();
        index.seal(SegmentNumber(1));
        assert!(index.is_sound(Sequence(24)));
        let missing = index.take_missing(|segment| segment != SegmentNumber(1));
        assert_eq!(missing, [(SegmentNumber(1), Sequence(1), Sequence(15))]);
        let missing = index.take_missing(|_| false);
        assert_eq!(missing, [(SegmentNumber(2), Sequence(20), Sequence(24))]);
        assert_eq!(index, ChannelIndex::default());
    }

    /// Found by fuzzing: an index from a checkpoint with a right checksum divided by a count of 0.
    #[test]
    fn an_index_that_no_messages_make_is_not_sound() {
        let is_sound = |change: fn(&mut ChannelIndex)| {
            let mut index = index();
            index.seal(SegmentNumber(1));
            change(&mut index);
            index.is_sound(Sequence(24))
        };
        assert!(is_sound(|_| {}));
        assert!(!is_sound(|index| index.runs[0].count = 0));
        assert!(!is_sound(|index| index.runs[0].first = Sequence(15)));
        assert!(!is_sound(|index| index.runs[0].first = Sequence(u64::MAX)));
        assert!(!is_sound(|index| index.runs[0].record = u32::MAX));
        assert!(!is_sound(|index| index.runs[0].segment = SegmentNumber(0)));
        assert!(!is_sound(|index| index.sealed[0].count = 16));
        assert!(!is_sound(|index| index.sealed[0].first = Sequence(0)));
        assert!(!is_sound(|index| index.sealed[0].last = Sequence(0)));
        assert!(!is_sound(|index| index.runs[0].count = 6));
    }
}
