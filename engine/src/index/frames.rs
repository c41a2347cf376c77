//! The frames that runs in memory stand in, in the order of the log.
//!
//! A run names its frame by its number in this list: the next run of a channel is mostly a few frames on, which takes
//! one byte. Place and times, which all runs of a frame share, stand here once.

use std::collections::VecDeque;

use crate::index::runs::Run;
use crate::log::cache::FramePlace;
use crate::types::{SegmentNumber, Timestamp};

/// A frame's number: frames with messages count up while the shard is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameNumber(pub u64);

/// What is known of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameNote {
    /// The segment.
    pub segment: SegmentNumber,
    /// The frame's first block in it.
    pub block: u32,
    /// The earliest time of its messages.
    pub first_time: Timestamp,
    /// The latest time of its messages.
    pub last_time: Timestamp,
}

impl FrameNote {
    pub(crate) fn place(&self) -> FramePlace {
        (self.segment, self.block)
    }
}

/// The frames of the segments that are not sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FrameList {
    /// The number of the first one.
    base: FrameNumber,
    notes: VecDeque<FrameNote>,
}

impl FrameList {
    /// A list whose first frame has this number.
    pub(crate) fn starting_at(base: FrameNumber) -> Self {
        Self { base, notes: VecDeque::new() }
    }

    /// Adds a frame behind all others.
    pub(crate) fn push(&mut self, note: FrameNote) -> FrameNumber {
        self.notes.push_back(note);
        FrameNumber(self.end().0 - 1)
    }

    /// The frame of a run that is in memory.
    pub(crate) fn of(&self, run: &Run) -> FrameNote {
        let at = run.frame.0.checked_sub(self.base.0).and_then(|at| usize::try_from(at).ok());
        let note = at.and_then(|at| self.notes.get(at));
        *note.expect("the frames of all runs are listed")
    }

    /// The number of the first one.
    pub(crate) fn base(&self) -> FrameNumber {
        self.base
    }

    /// The number that the next one gets.
    pub(crate) fn end(&self) -> FrameNumber {
        FrameNumber(self.base.0 + self.notes.len() as u64)
    }

    /// The first number behind the frames of this segment; [`FrameList::base`] if it has none. What is before it is of
    /// this segment, or of one that is gone.
    pub(crate) fn end_of(&self, segment: SegmentNumber) -> FrameNumber {
        let before = self.notes.iter().rposition(|note| note.segment == segment);
        FrameNumber(self.base.0 + before.map_or(0, |at| at as u64 + 1))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &FrameNote> {
        self.notes.iter()
    }

    /// Forgets those before `end`: their runs are in a footer.
    pub(crate) fn forget_before(&mut self, end: FrameNumber) {
        let count = end.0.saturating_sub(self.base.0).min(self.notes.len() as u64);
        self.notes.drain(..usize::try_from(count).expect("not more than there are"));
        self.base = FrameNumber(self.base.0 + count);
    }
}
