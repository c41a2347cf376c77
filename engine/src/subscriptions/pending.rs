//! What was sent to one subscription and waits for its ack.
//!
//! Sorted by sequence. An ack leaves a tombstone, so that acks in any order cost a lookup and no
//! move; tombstones at the ends go at once, those in the middle when they outnumber what is alive.
//! So memory follows the messages in flight, never the distance between the oldest unacked one and
//! the newest.

use std::collections::VecDeque;

use crate::record::PendingRun;
use crate::types::{Monotonic, Sequence};

/// One message that waits for an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number.
    pub(super) sequence: Sequence,
    /// When it is to be sent again; 0: it is overdue.
    pub(super) expiry: Monotonic,
    /// How often it was sent again.
    pub(super) redelivery_count: u32,
    is_acked: bool,
}

impl Entry {
    /// A message that was just sent for the first time.
    pub(super) fn new(sequence: Sequence, expiry: Monotonic) -> Self {
        Self { sequence, expiry, redelivery_count: 0, is_acked: false }
    }
}

const _: () = assert!(size_of::<Entry>() == 24, "a message in flight costs 24 bytes");

/// Tombstones that are kept however few messages are alive: below this a sweep is not worth its
/// call.
const TOMBSTONES_MIN: usize = 64;
/// An empty queue keeps its memory up to this many entries (98 KiB): a burst must not pin more for
/// ever.
const KEPT_CAPACITY_MAX: usize = 4_096;

/// The unacked messages of a subscription.
///
/// Invariants: strictly ascending; the first and the last entry are alive; `live` counts those that
/// are.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: VecDeque<Entry>,
    live: usize,
}

impl Pending {
    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The last of them.
    pub(super) fn last(&self) -> Option<Sequence> {
        self.entries.back().map(|entry| entry.sequence)
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_acked)
    }

    /// The message of this number, if it waits.
    pub(super) fn get(&self, sequence: Sequence) -> Option<Entry> {
        let entry = self.entries.get(self.find(sequence).ok()?)?;
        (!entry.is_acked).then_some(*entry)
    }

    /// Adds a message behind all others.
    pub(super) fn push(&mut self, entry: Entry) {
        assert!(!entry.is_acked, "a message starts unacked");
        assert!(self.last().is_none_or(|last| last < entry.sequence), "new messages come in order");
        self.entries.push_back(entry);
        self.live += 1;
    }

    /// Adds a message anywhere; one that waits already is replaced.
    pub(super) fn insert(&mut self, entry: Entry) {
        assert!(!entry.is_acked, "a message starts unacked");
        match self.find(entry.sequence) {
            Ok(index) => {
                let old = std::mem::replace(&mut self.entries[index], entry);
                self.live += usize::from(old.is_acked);
            }
            Err(index) => {
                self.entries.insert(index, entry);
                self.live += 1;
            }
        }
    }

    /// Adds many in one pass; `others` is in order and has none of those that wait here.
    pub(super) fn merge(&mut self, others: Vec<Entry>) {
        if others.is_empty() {
            return;
        }
        debug_assert!(others.is_sorted_by(|one, two| one.sequence < two.sequence), "in order");
        let mut merged = VecDeque::with_capacity(self.live + others.len());
        let mut others = others.into_iter().peekable();
        for entry in self.entries.drain(..).filter(|entry| !entry.is_acked) {
            while let Some(other) = others.next_if(|other| other.sequence < entry.sequence) {
                merged.push_back(other);
            }
            // A message is on one member of a group only; should it be on two, one of them is
            // enough.
            others.next_if(|other| other.sequence == entry.sequence);
            merged.push_back(entry);
        }
        merged.extend(others);
        self.live = merged.len();
        self.entries = merged;
    }

    /// Takes a message out, as acked or because another member has it now.
    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Entry> {
        let index = self.find(sequence).ok()?;
        let entry = self.entries.get_mut(index)?;
        if entry.is_acked {
            return None;
        }
        let removed = *entry;
        entry.is_acked = true;
        self.live -= 1;
        self.sweep();
        Some(removed)
    }

    /// Notes that a message was sent again.
    pub(super) fn resent(&mut self, sequence: Sequence, expiry: Monotonic) {
        let index = self.find(sequence).expect("only what waits is sent again");
        let entry = &mut self.entries[index];
        assert!(!entry.is_acked, "what is acked is not sent again");
        entry.expiry = expiry;
        entry.redelivery_count = entry.redelivery_count.saturating_add(1);
    }

    /// Sets when a message is to be sent again, without having sent it.
    pub(super) fn postpone(&mut self, sequence: Sequence, expiry: Monotonic) {
        let index = self.find(sequence).expect("only what waits is postponed");
        self.entries[index].expiry = expiry;
    }

    /// Takes all out, as overdue.
    pub(super) fn take_overdue(&mut self) -> Vec<Entry> {
        self.live = 0;
        let entries = std::mem::take(&mut self.entries).into_iter();
        entries
            .filter(|entry| !entry.is_acked)
            .map(|entry| Entry { expiry: Monotonic(0), ..entry })
            .collect()
    }

    /// The messages to be sent again by `limit`, oldest expiry first.
    pub(super) fn expired(&self, limit: Monotonic) -> Vec<(Monotonic, Sequence)> {
        let due = self.iter().filter(|entry| entry.expiry <= limit);
        let mut due: Vec<_> = due.map(|entry| (entry.expiry, entry.sequence)).collect();
        due.sort_unstable();
        due
    }

    /// When the next one is to be sent again.
    pub(super) fn earliest_expiry(&self) -> Option<Monotonic> {
        self.iter().map(|entry| entry.expiry).min()
    }

    /// Entries that a look at all of them passes, tombstones included.
    pub(super) fn scan_length(&self) -> usize {
        self.entries.len()
    }

    /// As runs of messages that were redelivered equally often, for the log.
    pub(super) fn runs(&self) -> Vec<PendingRun> {
        let mut runs: Vec<PendingRun> = Vec::new();
        for entry in self.iter() {
            if let Some(run) = runs.last_mut() {
                let follows = run.first.0 + u64::from(run.count) == entry.sequence.0;
                if follows && run.redelivery_count == entry.redelivery_count && run.count < u32::MAX
                {
                    run.count += 1;
                    continue;
                }
            }
            let redelivery_count = entry.redelivery_count;
            runs.push(PendingRun { first: entry.sequence, count: 1, redelivery_count });
        }
        runs
    }

    /// From the log; when they were sent is not in it, so all are overdue. What is not in order is
    /// left out.
    pub(super) fn from_runs(runs: &[PendingRun]) -> Self {
        let mut pending = Self::default();
        for run in runs {
            let sequences = (0..u64::from(run.count)).map(|offset| Sequence(run.first.0 + offset));
            for sequence in sequences {
                if pending.last().is_none_or(|last| last < sequence) {
                    let entry = Entry::new(sequence, Monotonic(0));
                    pending.push(Entry { redelivery_count: run.redelivery_count, ..entry });
                }
            }
        }
        pending
    }

    /// Where the message is, or would be.
    fn find(&self, sequence: Sequence) -> Result<usize, usize> {
        let Some(front) = self.entries.front() else { return Err(0) };
        let Some(offset) = sequence.0.checked_sub(front.sequence.0) else { return Err(0) };
        // Without gaps before it the message is exactly here; with gaps it can only be nearer.
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if self.entries.get(offset).is_some_and(|entry| entry.sequence == sequence) {
            return Ok(offset);
        }
        self.entries.binary_search_by_key(&sequence, |entry| entry.sequence)
    }

    fn sweep(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.is_acked) {
            self.entries.pop_front();
        }
        while self.entries.back().is_some_and(|entry| entry.is_acked) {
            self.entries.pop_back();
        }
        if self.entries.len() > 2 * self.live + TOMBSTONES_MIN {
            self.entries.retain(|entry| !entry.is_acked);
            assert_eq!(self.entries.len(), self.live, "what is alive was counted");
        }
        if self.live == 0 && self.entries.capacity() > KEPT_CAPACITY_MAX {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Entry, Pending, TOMBSTONES_MIN};
    use crate::record::PendingRun;
    use crate::types::{Monotonic, Sequence};

    fn pending(sequences: impl IntoIterator<Item = u64>) -> Pending {
        let mut pending = Pending::default();
        for sequence in sequences {
            pending.push(Entry::new(Sequence(sequence), Monotonic(sequence)));
        }
        pending
    }

    #[test]
    fn acks_in_any_order_leave_what_is_unacked() {
        let mut pending = pending([1, 2, 3, 7, 9]);
        assert!(pending.remove(Sequence(4)).is_none());
        assert!(pending.remove(Sequence(0)).is_none());
        assert_eq!(pending.remove(Sequence(3)).unwrap().sequence, Sequence(3));
        assert!(pending.remove(Sequence(3)).is_none());
        assert!(pending.get(Sequence(3)).is_none());
        assert_eq!(pending.remove(Sequence(9)).unwrap().sequence, Sequence(9));
        assert_eq!(pending.last(), Some(Sequence(7)));
        assert_eq!(pending.len(), 3);
        let left: Vec<_> = pending.iter().map(|entry| entry.sequence.0).collect();
        assert_eq!(left, [1, 2, 7]);
    }

    #[test]
    fn one_unacked_message_does_not_hold_the_memory_of_all_behind_it() {
        let mut pending = pending([1]);
        for sequence in 2..10_000 {
            pending.push(Entry::new(Sequence(sequence), Monotonic(0)));
            if sequence > 2 {
                pending.remove(Sequence(sequence - 1)).unwrap();
            }
            assert!(pending.scan_length() <= 2 * pending.len() + TOMBSTONES_MIN + 1);
        }
        assert_eq!(pending.len(), 2);
    }

    #[test]
    fn runs_split_at_gaps_and_redeliveries_and_come_back() {
        let mut pending = pending([1, 2, 3, 4, 6]);
        pending.resent(Sequence(2), Monotonic(9));
        let runs = pending.runs();
        let run = |first, count, redelivery_count| PendingRun {
            first: Sequence(first),
            count,
            redelivery_count,
        };
        assert_eq!(runs, [run(1, 1, 0), run(2, 1, 1), run(3, 2, 0), run(6, 1, 0)]);
        assert_eq!(Pending::from_runs(&runs).runs(), runs);
    }

    #[test]
    fn agrees_with_a_map_under_random_operations() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut pending, mut model) = (Pending::default(), BTreeMap::new());
            let mut last = 0;
            for _ in 0..2_000 {
                match random.u32(..10) {
                    0..4 => {
                        last += random.u64(1..4);
                        let entry = Entry::new(Sequence(last), Monotonic(random.u64(..100)));
                        pending.push(entry);
                        model.insert(entry.sequence, entry);
                    }
                    4..8 => {
                        let sequence = Sequence(random.u64(last.saturating_sub(40)..=last));
                        assert_eq!(pending.remove(sequence), model.remove(&sequence), "{seed}");
                    }
                    8 => {
                        let entry = Entry::new(Sequence(random.u64(1..=last + 1)), Monotonic(7));
                        last = last.max(entry.sequence.0);
                        pending.insert(entry);
                        model.insert(entry.sequence, entry);
                    }
                    _ => {
                        let others = (last.saturating_sub(20)..last).map(Sequence);
                        let others: Vec<_> = others
                            .filter(|sequence| !model.contains_key(sequence) && random.bool())
                            .map(|sequence| Entry::new(sequence, Monotonic(3)))
                            .collect();
                        model.extend(others.iter().map(|entry| (entry.sequence, *entry)));
                        pending.merge(others);
                    }
                }
                assert!(pending.iter().eq(model.values()), "seed {seed}");
                assert_eq!(pending.len(), model.len(), "seed {seed}");
            }
        }
    }
}
