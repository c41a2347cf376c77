//! The decision of recovery, over what was seen: which frames count, what is lost, where the tail is cut.
//!
//! `w`, the witness, is the largest commit index that any frame or the hint names: all up to `w` was acked. The first
//! index that is missing or damaged is damage if it is at most `w`, and the end of the log otherwise.

use crate::types::Index;

/// A frame as recovery saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub index: Index,
    /// The commit index known when it was sealed.
    pub committed: Index,
    /// Whether all of it could be read.
    pub is_intact: bool,
}

/// What recovery decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The log ends with this index.
    pub keep_through: Index,
    /// Ranges of indexes that were committed and of which no frame is left, first and last.
    pub lost: Vec<(Index, Index)>,
    /// Frames behind the end: a tail that was never acked.
    pub cut_frames: usize,
}

/// Decides over frames in ascending order of index, each index once, all behind `start`.
pub(crate) fn decide(start: Index, seen: &[Seen], hint: Index) -> Verdict {
    let witness = seen.iter().map(|frame| frame.committed).fold(hint, Index::max);
    let mut verdict = Verdict { keep_through: start, ..Verdict::default() };
    for (at, frame) in seen.iter().enumerate() {
        assert!(frame.index > verdict.keep_through, "ascending, behind the start");
        let expected = verdict.keep_through.next();
        if frame.index > expected {
            // Missing: [expected, frame.index - 1].
            let last_acked = witness.min(Index(frame.index.0 - 1));
            if last_acked >= expected {
                verdict.lost.push((expected, last_acked));
                verdict.keep_through = last_acked;
            }
            if last_acked.next() < frame.index || last_acked < expected {
                verdict.cut_frames = seen.len() - at;
                return verdict;
            }
        }
        if !frame.is_intact && frame.index > witness {
            verdict.cut_frames = seen.len() - at;
            return verdict;
        }
        verdict.keep_through = frame.index;
    }
    if witness > verdict.keep_through {
        verdict.lost.push((verdict.keep_through.next(), witness));
        verdict.keep_through = witness;
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum State {
        Whole,
        Damaged,
        Missing,
    }

    /// Every combination of five frames, each whole, damaged or missing, each with any commit index that its place
    /// allows, and every hint: 3^5 x 5! x 6 cases against the rule in words.
    #[test]
    fn all_inputs_of_five_frames() {
        let states = [State::Whole, State::Damaged, State::Missing];
        let mut cases = 0;
        for code in 0..3_usize.pow(5) {
            let frames: Vec<_> = (0..5).map(|at| states[code / 3_usize.pow(at) % 3]).collect();
            for commits in 0..120_u64 {
                let committed: Vec<_> = [1, 2, 6, 24, 120]
                    .iter()
                    .zip(1..)
                    .map(|(unit, base)| commits / (120 / unit).max(1) % base)
                    .collect();
                for hint in 0..=5 {
                    check(&frames, &committed, hint);
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 243 * 120 * 6);
    }

    fn check(frames: &[State], committed: &[u64], hint: u64) {
        let seen: Vec<_> = (1..)
            .zip(frames.iter().zip(committed))
            .filter(|(_, (state, _))| **state != State::Missing)
            .map(|(index, (state, committed))| Seen {
                index: Index(index),
                committed: Index(*committed),
                is_intact: *state == State::Whole,
            })
            .collect();
        let verdict = decide(Index(0), &seen, Index(hint));
        let witness = seen.iter().map(|frame| frame.committed.0).max().unwrap_or(0).max(hint);
        let end = verdict.keep_through.0;
        assert!(end >= witness, "what was acked is never cut: {frames:?} {committed:?} {hint}");
        for index in witness + 1..=end {
            let state = frames[usize::try_from(index).unwrap() - 1];
            assert_eq!(state, State::Whole, "behind the witness only whole frames count");
        }
        let is_next_whole = frames.get(usize::try_from(end).unwrap()) == Some(&State::Whole);
        assert!(
            !is_next_whole,
            "a whole frame that continues the log is kept: {frames:?} {committed:?} {hint}"
        );
        for (first, last) in &verdict.lost {
            for index in first.0..=last.0 {
                assert_eq!(frames.get(usize::try_from(index).unwrap() - 1), Some(&State::Missing));
                assert!(index <= witness);
            }
        }
        let lost: u64 = verdict.lost.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        let missing =
            frames.iter().zip(1..=end).filter(|(state, _)| **state == State::Missing).count();
        assert_eq!(lost, missing as u64, "each missing frame up to the end is reported once");
    }
}
