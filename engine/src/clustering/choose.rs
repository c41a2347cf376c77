//! Which segments are rewritten next: a pure decision over their sizes.
//!
//! | why | which |
//! |---|---|
//! | its messages are scattered: a run is short, as thousands of channels or lone small commits make it | the oldest such, with those behind it and small ones before it |
//! | the shard takes more than 1.3 times of what its messages need | the one with most to give back, with its small neighbours |
//!
//! Neighbours are taken along where they are small beside what is rewritten anyway, so that each byte is written a few
//! times only: a segment before it joins if it is at most twice as large as the rest together.

use std::ops::Range;

use super::INPUTS_MAX;

/// Runs shorter than this on average are worth to be brought together.
const RUN_BYTES_SCATTERED: u64 = 16 << 10;
/// A segment with fewer runs is read quickly however they lie.
const RUNS_SCATTERED_MIN: u64 = 64;
/// A message's part of a frame beside its record: length and checksum in two tables, padding.
const MESSAGE_OVERHEAD_BYTES: u64 = 24;
/// A segment's header, footer and last blocks.
const SEGMENT_OVERHEAD_BYTES: u64 = 16 << 10;

/// A segment, as far as it matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Whether it may be rewritten: sealed, behind the older checkpoint, not damaged.
    pub is_eligible: bool,
    pub is_clustered: bool,
    /// Up to its footer.
    pub size_bytes: u64,
    /// Bytes of its messages' records when it was sealed or made.
    pub record_bytes: u64,
    /// Those that limits have left.
    pub live_bytes: u64,
    pub live_messages: u64,
    /// Runs in its footer.
    pub runs_count: u64,
}

impl Candidate {
    /// What its messages would take, rewritten.
    fn needed_bytes(&self) -> u64 {
        self.live_bytes + self.live_messages * MESSAGE_OVERHEAD_BYTES + SEGMENT_OVERHEAD_BYTES
    }

    fn is_scattered(&self) -> bool {
        !self.is_clustered
            && self.runs_count > RUNS_SCATTERED_MIN
            && self.record_bytes / self.runs_count < RUN_BYTES_SCATTERED
    }

    /// What rewriting it gives back, if that is worth it.
    fn gain_bytes(&self) -> Option<u64> {
        let gain = self.size_bytes.saturating_sub(self.needed_bytes());
        // What was rewritten once has no padding: only what limits removed since counts.
        let is_shrunk = !self.is_clustered || self.live_bytes < self.record_bytes / 5 * 4;
        (self.is_eligible && is_shrunk && gain * 4 >= self.size_bytes).then_some(gain)
    }
}

/// Which of these, in the order of the log, become one. The output has at most `output_bytes_max`, if more than one is
/// rewritten.
pub(crate) fn choose(segments: &[Candidate], output_bytes_max: u64) -> Option<Range<usize>> {
    // A segment whose messages are all gone is dead without further work.
    let is_input = |segment: &Candidate| segment.is_eligible && segment.live_messages > 0;
    let scattered = segments.iter().position(|segment| is_input(segment) && segment.is_scattered());
    if let Some(first) = scattered {
        let mut range = first..first + 1;
        let mut bytes = segments[first].needed_bytes();
        while let Some(next) = segments
            .get(range.end)
            .filter(|next| is_input(next) && next.is_scattered() && range.len() < INPUTS_MAX)
        {
            if bytes + next.needed_bytes() > output_bytes_max {
                break;
            }
            bytes += next.needed_bytes();
            range.end += 1;
        }
        return Some(with_small_ones_before(segments, range, bytes, output_bytes_max));
    }
    let size: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    let needed: u64 = segments.iter().map(Candidate::needed_bytes).sum();
    if size * 10 <= needed * 13 {
        return None;
    }
    let gains = segments.iter().enumerate().filter(|(_, segment)| is_input(segment));
    let gains = gains.filter_map(|(at, segment)| Some((segment.gain_bytes()?, at)));
    let (_, at) = gains.max()?;
    let bytes = segments[at].needed_bytes();
    Some(with_small_ones_before(segments, at..at + 1, bytes, output_bytes_max))
}

fn with_small_ones_before(
    segments: &[Candidate],
    mut range: Range<usize>,
    mut bytes: u64,
    output_bytes_max: u64,
) -> Range<usize> {
    while let Some(before) = range.start.checked_sub(1).and_then(|at| segments.get(at)) {
        let more = before.needed_bytes();
        let is_small = more <= 2 * bytes && bytes + more <= output_bytes_max;
        if !before.is_eligible
            || before.live_messages == 0
            || !is_small
            || range.len() == INPUTS_MAX
        {
            break;
        }
        bytes += more;
        range.start -= 1;
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn segment(mib: u64, runs_count: u64) -> Candidate {
        Candidate {
            is_eligible: true,
            size_bytes: mib * MIB,
            record_bytes: mib * MIB * 9 / 10,
            live_bytes: mib * MIB * 9 / 10,
            live_messages: 100,
            runs_count,
            ..Candidate::default()
        }
    }

    fn clustered(mib: u64) -> Candidate {
        Candidate { is_clustered: true, ..segment(mib, mib * 1_000) }
    }

    #[test]
    fn scattered_ones_are_sorted_together_with_small_ones_before() {
        let scattered = segment(16, 10_000);
        assert_eq!(choose(&[segment(16, 200)], 128 * MIB), None, "long runs");
        assert_eq!(choose(&[scattered; 4], 128 * MIB), Some(0..4));
        assert_eq!(choose(&[scattered; 4], 32 * MIB), Some(0..2));
        assert_eq!(choose(&[clustered(24), scattered], 128 * MIB), Some(0..2));
        assert_eq!(choose(&[clustered(64), scattered], 128 * MIB), Some(1..2), "large before");
        let busy = Candidate { is_eligible: false, ..scattered };
        assert_eq!(choose(&[busy], 128 * MIB), None);
        assert_eq!(choose(&[scattered, busy, scattered], 128 * MIB), Some(0..1));
        let dead = Candidate { live_messages: 0, live_bytes: 0, ..scattered };
        assert_eq!(choose(&[dead], 128 * MIB), None);
    }

    #[test]
    fn space_is_taken_back_where_most_is_to_gain() {
        let shrunk = |mib, left| Candidate { live_bytes: left * MIB, ..clustered(mib) };
        assert_eq!(choose(&[clustered(64), shrunk(64, 44)], 128 * MIB), None, "below 1.3");
        let segments = [shrunk(64, 30), shrunk(64, 20), clustered(64)];
        assert_eq!(choose(&segments, 128 * MIB), Some(0..2), "and the one before is not large");
        assert_eq!(choose(&[clustered(64), shrunk(64, 2)], 128 * MIB), Some(1..2));
    }

    /// Rewriting goes on only while it gives something back: what was just rewritten is not chosen again.
    #[test]
    fn it_comes_to_an_end() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut segments: Vec<_> = (0..rng.usize(1..40))
                .map(|_| {
                    let size_bytes = rng.u64(1..128) * MIB;
                    let live_messages = rng.u64(..100_000).min(size_bytes / 100);
                    let record_bytes = rng.u64(..=size_bytes);
                    Candidate {
                        is_eligible: rng.u32(..5) > 0,
                        is_clustered: rng.bool(),
                        size_bytes,
                        record_bytes,
                        live_bytes: rng.u64(..=record_bytes),
                        live_messages,
                        runs_count: rng.u64(1..100_000),
                    }
                })
                .collect();
            let mut rewritten = 0;
            while let Some(range) = choose(&segments, 128 * MIB) {
                assert!(range.len() <= INPUTS_MAX);
                let inputs = segments.drain(range.clone());
                let mut output =
                    Candidate { is_eligible: true, is_clustered: true, ..Candidate::default() };
                for input in inputs {
                    assert!(input.is_eligible);
                    output.live_bytes += input.live_bytes;
                    output.live_messages += input.live_messages;
                    output.runs_count += input.runs_count;
                }
                output.record_bytes = output.live_bytes;
                // More than was reckoned with, as many short runs make it.
                output.size_bytes = output.needed_bytes() * 2;
                segments.insert(range.start, output);
                rewritten += 1;
                assert!(rewritten < 200, "seed {seed}");
            }
        }
    }
}
