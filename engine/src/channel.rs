//! A channel: its sequences, its index, its limits.

use std::rc::Weak;

use compact_str::CompactString;

use crate::format::footer::FooterCursor;
use crate::index::frames::FrameList;
use crate::index::runs::Run;
use crate::index::{ChannelIndex, Taken};
use crate::log::batch::{BatchRun, BucketHint};
use crate::log::cache::CachedFrame;
use crate::types::{
    ChannelId, ChannelLimits, Monotonic, SegmentNumber, Sequence, TableSlot, Timestamp,
};

mod table;

pub(crate) use table::{ChannelPlace, Channels, NameHash, NameLookup, TOUCHED_TOGETHER};

/// A channel of a shard.
///
/// With many channels each step finds its channel in none of the processor's nearer caches. So what a step needs is one
/// cache line: for a publish from `name` to `slot` (names of up to 24 bytes), for a commit from `committed` to `limits`,
/// for a seal `index`.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Channel {
    pub name: CompactString,
    pub id: ChannelId,
    /// The last sequence given to a message.
    pub last: Sequence,
    /// The last message's time: times never go back in a channel.
    pub last_time: Timestamp,
    /// When it was last used, for `inactivity_ms_max`.
    pub last_used: Monotonic,
    /// Where its messages are gathered in the open batch.
    pub bucket: BucketHint,
    /// Its place among the channels of its shard.
    pub slot: TableSlot,
    /// The last that is on disk: what subscribers may see.
    pub committed: Sequence,
    /// Messages on disk that no limit has removed.
    pub messages: u64,
    /// Their records' bytes; of partly removed runs that were not in memory by their average.
    pub bytes: u64,
    pub limits: ChannelLimits,
    pub index: ChannelIndex,
    /// The first sequence that no limit has removed; last + 1 if none is left.
    pub first: Sequence,
    /// Whether the last trim still has to be logged.
    pub is_trim_unlogged: bool,
    /// What was read last.
    pub recent: Option<Recent>,
    /// Where the footer that was read last was left.
    pub cursor: Option<FooterCursor>,
}

/// A run in a frame that may be in memory still: the caches decide, not those who read.
#[derive(Debug)]
pub(crate) struct Recent {
    pub run: Run,
    /// The first one's place in the frame.
    pub record: u32,
    /// The frame's segment.
    pub segment: SegmentNumber,
    pub frame: Weak<CachedFrame>,
}

impl Channel {
    pub(crate) fn new(id: ChannelId, name: &str, limits: ChannelLimits, now: Monotonic) -> Self {
        Self {
            name: name.into(),
            id,
            last: Sequence(0),
            last_time: Timestamp(0),
            last_used: now,
            bucket: BucketHint::default(),
            slot: TableSlot::default(),
            committed: Sequence(0),
            messages: 0,
            bytes: 0,
            limits,
            index: ChannelIndex::default(),
            first: Sequence(1),
            is_trim_unlogged: false,
            recent: None,
            cursor: None,
        }
    }

    /// A run of it is on disk.
    pub(crate) fn commit(&mut self, run: &BatchRun) {
        let last = run.table.sequence(run.table.count - 1);
        assert!(last > self.committed, "a run commits once");
        assert!(last <= self.last);
        self.committed = last;
        self.messages += u64::from(run.table.count);
        self.bytes += u64::from(run.bytes);
    }

    /// Whether a message or byte limit wants the first message gone.
    pub(crate) fn is_over(&self) -> bool {
        let limits = &self.limits;
        let is_over_count = limits.messages_max > 0 && self.messages > limits.messages_max;
        let is_over_bytes =
            limits.bytes_max > 0 && self.bytes > limits.bytes_max && self.messages > 1;
        is_over_count || is_over_bytes
    }

    /// Removes the oldest messages until the limits hold; `size_of` gives a record's exact length where it is in
    /// memory. Calls `taken` for what goes from each segment.
    pub(crate) fn trim_to_limits(
        &mut self,
        frames: &FrameList,
        size_of: impl Fn(&Run) -> Option<u64>,
        mut taken: impl FnMut(Taken),
    ) {
        while self.is_over() {
            let Some((average, run)) = self.index.front() else { return };
            let size = run.and_then(|run| size_of(&run)).unwrap_or(average);
            let gone = self.index.pop_one(size, frames).expect("there is a front");
            self.account(gone);
            taken(gone);
        }
    }

    /// Removes what is older than its limit allows, in whole runs.
    pub(crate) fn trim_to_age(
        &mut self,
        clock: Timestamp,
        frames: &FrameList,
        mut taken: impl FnMut(Taken),
    ) {
        let Some(age_ns) = self.age_ns() else { return };
        while let Some((last_time, last)) = self.index.front_last(frames) {
            if last > self.committed || last_time.0.saturating_add(age_ns) > clock.0 {
                return;
            }
            let gone = self.index.pop_whole_before(last.next(), frames).expect("there is a front");
            self.account(gone);
            taken(gone);
        }
    }

    /// Its age limit, if it has one.
    fn age_ns(&self) -> Option<i64> {
        let age_ns = self.limits.age_ms_max.saturating_mul(1_000_000);
        (age_ns > 0).then(|| i64::try_from(age_ns).unwrap_or(i64::MAX))
    }

    /// Makes few parts of those that lie in one segment since it was rewritten.
    pub(crate) fn join_parts(&mut self) {
        self.index.join_parts(self.age_ns());
    }

    /// Removes all before `first`, as a record or a checkpoint says.
    pub(crate) fn trim_before(
        &mut self,
        first: Sequence,
        frames: &FrameList,
        mut taken: impl FnMut(Taken),
    ) {
        while let Some(gone) = self.index.pop_whole_before(first, frames) {
            self.account(gone);
            taken(gone);
        }
        while self.index.first().is_some_and(|front| front < first) {
            let (average, _) = self.index.front().expect("there is a first");
            let gone = self.index.pop_one(average, frames).expect("there is a front");
            self.account(gone);
            taken(gone);
        }
        self.first = self.first.max(first);
    }

    fn account(&mut self, gone: Taken) {
        self.messages = self.messages.saturating_sub(gone.count);
        self.bytes = self.bytes.saturating_sub(gone.bytes);
        self.first = self.index.first().unwrap_or(self.last.next()).max(self.first);
        self.is_trim_unlogged = true;
    }

    /// What the index says once more, after its runs were put in place by recovery.
    pub(crate) fn recount(&mut self, frames: &FrameList) {
        (self.messages, self.bytes) = (0, 0);
        self.index.for_each_segment(frames, |_, totals| {
            self.messages = self.messages.saturating_add(totals.count);
            self.bytes = self.bytes.saturating_add(totals.bytes);
        });
    }
}
