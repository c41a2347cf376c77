//! The runs of one channel, packed: 3 bytes for a run of small messages that is a few frames behind the one before.
//!
//! ```text
//! a run: varint frames since the run before * 2 + (1: a gap follows) | varint gap: sequences that are missing
//!        | varint count | varint bytes, as the difference (zigzag) to what the size of the messages before lets expect
//! ```
//! A footer has the same bytes. A mark at each 128th run lets a search begin near its end.

use crate::format::fields::{Reader, put_varint, unzigzag, zigzag};
use crate::index::frames::FrameNumber;
use crate::types::Sequence;

/// Runs between two marks: a search reads at most this many.
const MARK_RUNS: u32 = 128;
/// Room is made for so many more bytes at least.
const ROOM_BYTES_MIN: usize = 16;
/// Bytes of removed runs that may stay in front of the others.
const SLACK_BYTES_MAX: usize = 64;

/// Messages of one channel that follow each other in one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first one's sequence.
    pub first: Sequence,
    /// How many; at least 1.
    pub count: u32,
    /// Sum of their records' lengths.
    pub bytes: u32,
    /// Where they are.
    pub frame: FrameNumber,
}

impl Run {
    /// The last one's sequence.
    pub(crate) fn last(&self) -> Sequence {
        Sequence(self.first.0 + u64::from(self.count) - 1)
    }

    /// Whether this message is in it.
    pub(crate) fn holds(&self, sequence: Sequence) -> bool {
        self.first <= sequence && sequence <= self.last()
    }
}

/// What a run is told from: the one before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Coder {
    frame: FrameNumber,
    /// The sequence behind the run before.
    next: u64,
    /// The average size of its messages.
    size_bytes: u32,
}

impl Coder {
    /// Before any run; its frame is told from `frame`.
    pub(crate) fn at(frame: FrameNumber) -> Self {
        Self { frame, ..Self::default() }
    }

    /// Appends a run, which is behind the one before.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, run: &Run) {
        let gap = run.first.0 - self.next;
        put_varint(out, (run.frame.0 - self.frame.0) << 1 | u64::from(gap > 0));
        if gap > 0 {
            put_varint(out, gap);
        }
        put_varint(out, u64::from(run.count));
        put_varint(out, zigzag(i64::from(run.bytes) - self.expected_bytes(run.count)));
        self.pass(run);
    }

    /// Reads a run; `None` if there is none, or what stands there cannot be one.
    pub(crate) fn take(&mut self, get: &mut Reader<'_>) -> Option<Run> {
        let head = get.varint()?;
        let gap = if head & 1 == 1 { get.varint()? } else { 0 };
        let first = self.next.checked_add(gap)?;
        let count = u32::try_from(get.varint()?).ok().filter(|count| *count > 0)?;
        let bytes = self.expected_bytes(count).checked_add(unzigzag(get.varint()?))?;
        first.checked_add(u64::from(count))?;
        let run = Run {
            first: Sequence(first),
            count,
            bytes: u32::try_from(bytes).ok()?,
            frame: FrameNumber(self.frame.0.checked_add(head >> 1)?),
        };
        self.pass(&run);
        Some(run)
    }

    /// Whether `sequence` is behind all that was read.
    pub(crate) fn is_before(&self, sequence: Sequence) -> bool {
        self.next <= sequence.0
    }

    fn pass(&mut self, run: &Run) {
        *self =
            Self { frame: run.frame, next: run.last().0 + 1, size_bytes: run.bytes / run.count };
    }

    fn expected_bytes(&self, count: u32) -> i64 {
        // A product of two numbers below 2^32, of which a wrong one only comes from damage.
        (u64::from(self.size_bytes) * u64::from(count)).cast_signed() & i64::MAX
    }
}

/// Where a run stands in the bytes.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: usize,
    coder: Coder,
}

/// Runs in the order of their sequences and frames. The first one is not packed: limits take from it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunList {
    len: u32,
    head: Run,
    /// Behind the head as it was before anything was taken from it.
    behind_head: Coder,
    /// Behind the last run.
    behind_tail: Coder,
    /// The runs behind the head begin at `start`.
    packed: Vec<u8>,
    start: usize,
    marks: Vec<Mark>,
}

/// What a list holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub count: u64,
    pub bytes: u64,
}

impl RunList {
    /// How many.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Adds a run behind all others.
    pub(crate) fn push(&mut self, run: Run) {
        assert!(run.count > 0);
        if self.len == 0 {
            *self = Self {
                len: 1,
                head: run,
                packed: std::mem::take(&mut self.packed),
                ..Self::default()
            };
            self.packed.clear();
            self.behind_head.pass(&run);
            self.behind_tail = self.behind_head;
            return;
        }
        assert!(self.behind_tail.next <= run.first.0, "runs are pushed in order");
        if self.len.is_multiple_of(MARK_RUNS) {
            self.marks.push(Mark { at: self.packed.len(), coder: self.behind_tail });
        }
        if self.packed.capacity() - self.packed.len() < ROOM_BYTES_MIN {
            // Less than doubling: with many channels this is most of the memory.
            self.packed.reserve_exact(ROOM_BYTES_MIN.max(self.packed.len() / 8));
        }
        self.behind_tail.put(&mut self.packed, &run);
        self.len += 1;
    }

    /// Reads what [`push`](Self::push) needs of it besides its packed bytes.
    pub(crate) fn touch(&self) -> u64 {
        u64::from(self.len) ^ self.behind_tail.next ^ self.packed.len() as u64
    }

    /// Reads the last of its packed bytes.
    pub(crate) fn touch_end(&self) -> u8 {
        self.packed.last().copied().unwrap_or_default()
    }

    /// The first run.
    pub(crate) fn front(&self) -> Option<&Run> {
        (self.len > 0).then_some(&self.head)
    }

    /// The last one's last sequence.
    pub(crate) fn last(&self) -> Option<Sequence> {
        (self.len > 0).then(|| Sequence(self.behind_tail.next - 1))
    }

    /// The runs from the one that holds `sequence` on, or if none does, from the next.
    pub(crate) fn from(&self, sequence: Sequence) -> impl Iterator<Item = Run> {
        let after = self.marks.partition_point(|mark| mark.coder.next <= sequence.0);
        let mark = after.checked_sub(1).and_then(|at| self.marks.get(at));
        let runs = match mark.filter(|mark| mark.at >= self.start) {
            Some(mark) => Runs { head: None, coder: mark.coder, rest: self.packed_from(mark.at) },
            None => self.iter(),
        };
        runs.skip_while(move |run| run.last() < sequence)
    }

    /// All runs.
    pub(crate) fn iter(&self) -> Runs<'_> {
        Runs {
            head: self.front().copied(),
            coder: self.behind_head,
            rest: self.packed_from(self.start),
        }
    }

    fn packed_from(&self, at: usize) -> Reader<'_> {
        Reader::new(self.packed.get(at..).unwrap_or_default())
    }

    /// Takes the first message away, which has `size` bytes; returns what it was counted with.
    pub(crate) fn pop_one(&mut self, size: u64) -> Totals {
        if self.head.count <= 1 {
            return self.pop();
        }
        let bytes = u32::try_from(size).unwrap_or(u32::MAX).min(self.head.bytes);
        self.head.first = self.head.first.next();
        self.head.count -= 1;
        self.head.bytes -= bytes;
        Totals { count: 1, bytes: u64::from(bytes) }
    }

    /// Takes the first run away.
    pub(crate) fn pop(&mut self) -> Totals {
        let gone = Totals { count: u64::from(self.head.count), bytes: u64::from(self.head.bytes) };
        self.len -= 1;
        let mut rest = self.packed_from(self.start);
        if self.len > 0 {
            let mut coder = self.behind_head;
            let next = coder.take(&mut rest).expect("the list counts its runs");
            let start = self.packed.len() - rest.rest().len();
            (self.head, self.behind_head, self.start) = (next, coder, start);
        } else {
            self.start = self.packed.len();
        }
        if self.start > SLACK_BYTES_MAX && self.start * 2 >= self.packed.len() {
            self.drop_slack();
        }
        gone
    }

    fn drop_slack(&mut self) {
        self.packed.drain(..self.start);
        self.packed.shrink_to(self.packed.len() + ROOM_BYTES_MIN);
        self.marks.retain_mut(|mark| {
            let is_left = mark.at >= self.start;
            mark.at = mark.at.saturating_sub(self.start);
            is_left
        });
        self.start = 0;
    }

    /// Takes the runs of frames before `end` away, and gives each of them to `taken`.
    pub(crate) fn take_before(&mut self, end: FrameNumber, mut taken: impl FnMut(&Run)) {
        let mut runs = self.iter();
        let mut kept = None;
        let mut gone = 0;
        for run in runs.by_ref() {
            if run.frame >= end {
                kept = Some(run);
                break;
            }
            taken(&run);
            gone += 1;
        }
        if gone == 0 {
            return;
        }
        let (coder, start) = (runs.coder, self.packed.len() - runs.rest.rest().len());
        let Some(head) = kept else {
            *self = Self::default();
            return;
        };
        (self.head, self.behind_head, self.start) = (head, coder, start);
        self.len -= gone;
        self.drop_slack();
    }

    /// Bytes of memory beyond the list itself.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.packed.capacity() + self.marks.capacity() * size_of::<Mark>()
    }
}

impl PartialEq for RunList {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for RunList {}

/// Runs, read one by one.
#[derive(Debug, Clone)]
pub(crate) struct Runs<'a> {
    head: Option<Run>,
    coder: Coder,
    rest: Reader<'a>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        self.head.take().or_else(|| self.coder.take(&mut self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u32, frame: u64) -> Run {
        Run { first: Sequence(first), count, bytes: count * 140, frame: FrameNumber(frame) }
    }

    /// Against a plain list, with gaps, all sizes, and everything that takes from the front.
    #[test]
    fn it_is_the_list_that_was_pushed() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut plain: Vec<Run> = Vec::new();
            let mut list = RunList::default();
            let (mut next, mut frame) = (rng.u64(1..1 << 40), rng.u64(..1 << 40));
            for _ in 0..rng.usize(1..600) {
                match rng.u32(..20) {
                    0 if !plain.is_empty() => {
                        let size = rng.u64(..300);
                        let gone = list.pop_one(size);
                        let head = &mut plain[0];
                        assert_eq!(gone.count, 1);
                        head.bytes -= u32::try_from(gone.bytes).unwrap();
                        head.first = head.first.next();
                        head.count -= 1;
                        plain.retain(|run| run.count > 0);
                    }
                    1 if !plain.is_empty() => {
                        let gone = plain.remove(0);
                        assert_eq!(list.pop().count, u64::from(gone.count));
                    }
                    2 if rng.u32(..10) == 0 => {
                        let end = FrameNumber(frame - rng.u64(..20).min(frame));
                        let mut taken = Vec::new();
                        list.take_before(end, |run| taken.push(*run));
                        let kept = plain.partition_point(|run| run.frame < end);
                        assert_eq!(taken, plain.drain(..kept).collect::<Vec<_>>());
                    }
                    _ => {
                        next += if rng.u32(..30) == 0 { rng.u64(..1 << 33) } else { 0 };
                        frame += if rng.bool() { 1 } else { rng.u64(..200) };
                        let mut run = run(next, rng.u32(1..5), frame);
                        let bits = rng.u32(..32);
                        run.bytes = rng.u32(..u32::MAX >> bits);
                        next += u64::from(run.count);
                        list.push(run);
                        plain.push(run);
                    }
                }
                check(&list, &plain, &mut rng);
            }
        }
    }

    fn check(list: &RunList, plain: &[Run], rng: &mut fastrand::Rng) {
        assert_eq!(list.len as usize, plain.len());
        assert_eq!(list.front(), plain.first());
        assert_eq!(list.last(), plain.last().map(Run::last));
        if rng.u32(..20) == 0 {
            assert!(list.iter().eq(plain.iter().copied()));
        }
        let Some(last) = plain.last() else { return };
        let sequence = Sequence(rng.u64(plain[0].first.0.saturating_sub(2)..last.last().0 + 3));
        let expected = plain.iter().find(|run| run.last() >= sequence).copied();
        assert_eq!(list.from(sequence).next(), expected);
    }

    /// The bound of the index (issue 3, 5): at most 4 bytes a message of finely interleaved small messages.
    #[test]
    fn a_run_of_small_messages_takes_less_than_4_bytes() {
        let mut list = RunList::default();
        for at in 0..1_000 {
            list.push(Run { bytes: 140 + u32::from(at % 3 == 0), ..run(at + 1, 1, at * 4) });
        }
        let bytes = list.heap_bytes();
        assert!(bytes <= 4_000, "{bytes} bytes for 1,000 messages");
    }

    #[test]
    fn bytes_that_no_list_has_are_no_runs() {
        for bytes in [&[0, 0, 0][..], &[0, 1], &[1, 0xff], &[0, 1, 1]] {
            assert_eq!(Coder::default().take(&mut Reader::new(bytes)), None);
        }
        let mut wide = Vec::new();
        put_varint(&mut wide, 1);
        put_varint(&mut wide, u64::MAX);
        put_varint(&mut wide, 2);
        put_varint(&mut wide, 0);
        assert_eq!(Coder::default().take(&mut Reader::new(&wide)), None);
    }
}
