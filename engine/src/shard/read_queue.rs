//! Which reads of history are wanted, by whom, and in what order they are carried out.
//!
//! Mostly the first in the log's order: who is behind catches up with the others, and then all go through the log together,
//! one read for all whose messages are finely interleaved. Each fourth read is the one wanted longest, so that those who
//! are behind keep nobody waiting for ever.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::log::cache::FramePlace;
use crate::types::{ChannelId, SegmentNumber};

/// The turns of which one is that of the read wanted longest.
const TURNS: u8 = 4;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadKey {
    /// The frame at this place, and those behind it.
    Frame(FramePlace),
    /// A sealed segment's footer.
    Footer(SegmentNumber),
}

impl ReadKey {
    /// Where it stands in the order: a footer before its segment's frames, whose first block is the header's.
    fn place(self) -> FramePlace {
        match self {
            ReadKey::Frame(place) => place,
            ReadKey::Footer(segment) => (segment, 0),
        }
    }

    /// The segment it is of.
    pub(crate) fn segment(self) -> SegmentNumber {
        self.place().0
    }
}

#[derive(Debug)]
struct Wanted {
    key: ReadKey,
    channels: Vec<ChannelId>,
    number: u64,
}

/// Reads that are wanted or on their way, each once, with the channels that wait.
#[derive(Debug, Default)]
pub(super) struct ReadQueue {
    wanted: BTreeMap<FramePlace, Wanted>,
    /// The same by number, the one wanted longest first.
    by_age: BTreeMap<u64, FramePlace>,
    next_number: u64,
    turn: u8,
    /// What reads on their way bring: what is wanted within comes along.
    coming: Vec<Range<FramePlace>>,
}

impl ReadQueue {
    /// `channel` waits for this.
    pub(super) fn want(&mut self, key: ReadKey, channel: ChannelId) {
        let wanted = self.wanted.entry(key.place()).or_insert_with(|| {
            self.next_number += 1;
            self.by_age.insert(self.next_number, key.place());
            Wanted { key, channels: Vec::new(), number: self.next_number }
        });
        if !wanted.channels.contains(&channel) {
            wanted.channels.push(channel);
        }
    }

    /// The next one to carry out. Of its segment so many blocks are read at once.
    pub(super) fn take(
        &mut self,
        blocks_at_once: impl Fn(SegmentNumber) -> u32,
    ) -> Option<ReadKey> {
        self.turn = (self.turn + 1) % TURNS;
        let place = if self.turn == 0 { self.oldest() } else { self.first() }?;
        let key = self.wanted.get(&place).expect("just found").key;
        let blocks = match key {
            ReadKey::Frame(_) => blocks_at_once(place.0),
            ReadKey::Footer(_) => 1,
        };
        self.coming.push(place..(place.0, place.1.saturating_add(blocks)));
        Some(key)
    }

    fn oldest(&self) -> Option<FramePlace> {
        self.by_age.values().find(|place| self.coming_with(place).is_none()).copied()
    }

    fn first(&self) -> Option<FramePlace> {
        let mut from = FramePlace::default();
        loop {
            let (&place, _) = self.wanted.range(from..).next()?;
            match self.coming_with(&place) {
                Some(end) => from = end,
                None => return Some(place),
            }
        }
    }

    /// Where the read ends that is on its way and brings this.
    fn coming_with(&self, place: &FramePlace) -> Option<FramePlace> {
        self.coming.iter().find(|range| range.contains(place)).map(|range| range.end)
    }

    /// The read ended.
    pub(super) fn ended(&mut self, key: ReadKey) {
        self.coming.retain(|range| range.start != key.place());
    }

    /// It is there, or never will be: those who waited for it.
    pub(super) fn settle(&mut self, key: ReadKey) -> Vec<ChannelId> {
        let Some(wanted) = self.wanted.remove(&key.place()) else { return Vec::new() };
        self.by_age.remove(&wanted.number);
        wanted.channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(segment: u32, block: u32) -> ReadKey {
        ReadKey::Frame((SegmentNumber(segment), block))
    }

    fn taken(queue: &mut ReadQueue, count: usize) -> Vec<ReadKey> {
        (0..count).map_while(|_| queue.take(|_| 8)).collect()
    }

    fn end(queue: &mut ReadQueue, key: ReadKey) -> Vec<ChannelId> {
        queue.ended(key);
        queue.settle(key)
    }

    #[test]
    fn the_first_in_the_log_is_next_and_each_fourth_time_the_oldest() {
        let mut queue = ReadQueue::default();
        for block in [90, 10, 50, 30, 70, 20] {
            queue.want(frame(1, block), ChannelId(7));
        }
        let order = [10, 20, 30, 90, 50, 70].map(|block| frame(1, block));
        assert_eq!(taken(&mut queue, 9), order);
    }

    #[test]
    fn what_comes_along_needs_no_read() {
        let mut queue = ReadQueue::default();
        for block in [10, 12, 17, 18] {
            queue.want(frame(1, block), ChannelId(block.into()));
        }
        assert_eq!(taken(&mut queue, 4), [frame(1, 10), frame(1, 18)]);
        assert_eq!(queue.settle(frame(1, 12)), [ChannelId(12)]);
        assert_eq!(end(&mut queue, frame(1, 10)), [ChannelId(10)]);
        // The read did not bring it.
        assert_eq!(taken(&mut queue, 4), [frame(1, 17)]);
        assert_eq!(end(&mut queue, frame(1, 17)), [ChannelId(17)]);
        assert_eq!(end(&mut queue, frame(1, 17)), []);
    }

    #[test]
    fn a_footer_is_read_before_frames_of_its_segment() {
        let mut queue = ReadQueue::default();
        queue.want(frame(2, 1), ChannelId(1));
        queue.want(ReadKey::Footer(SegmentNumber(2)), ChannelId(2));
        queue.want(frame(1, 900), ChannelId(3));
        let order = [frame(1, 900), ReadKey::Footer(SegmentNumber(2)), frame(2, 1)];
        assert_eq!(taken(&mut queue, 4), order);
    }

    #[test]
    fn who_waits_ahead_of_one_that_reads_on_and_on_has_his_turn() {
        let mut queue = ReadQueue::default();
        queue.want(frame(9, 1), ChannelId(1));
        for at in 0..4 {
            queue.want(frame(1, 1 + at * 8), ChannelId(2));
            let taken = queue.take(|_| 8).expect("two are wanted");
            if taken == frame(9, 1) {
                return;
            }
            assert_eq!(end(&mut queue, taken), [ChannelId(2)]);
        }
        panic!("he still waits");
    }

    #[test]
    fn all_who_wait_for_a_read_are_told_once() {
        let mut queue = ReadQueue::default();
        for channel in [1, 2, 1] {
            queue.want(frame(1, 1), ChannelId(channel));
        }
        assert_eq!(taken(&mut queue, 4), [frame(1, 1)]);
        queue.want(frame(1, 1), ChannelId(3));
        assert_eq!(taken(&mut queue, 4), []);
        assert_eq!(end(&mut queue, frame(1, 1)), [1, 2, 3].map(ChannelId));
    }
}
