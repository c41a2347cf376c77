//! The retention clock: what age limits are judged by. A wall clock that jumps must not wipe a store.
//!
//! It goes on from the last committed time by monotonic time. It follows the wall clock at once while the two differ by
//! less than a minute, else only after the wall clock has been steady for ten minutes.

use crate::types::{Monotonic, Now, Timestamp};

/// Differences below this are followed at once.
const FOLLOW_AT_ONCE_NS: i64 = 60 * 1_000_000_000;
/// A wall clock that was steady for this long is believed.
const STEADY_NS: u64 = 600 * 1_000_000_000;

/// See the module's head.
#[derive(Debug, Clone)]
pub(crate) struct RetentionClock {
    at: Timestamp,
    seen: Monotonic,
    /// Since when, and by how much, the wall clock differs.
    differs: Option<(Monotonic, i64)>,
    /// Whether it was ever set: a fresh store takes the wall clock as it is.
    is_set: bool,
}

impl RetentionClock {
    /// A clock that goes on from `last`, the newest time that the store holds; 0 for a fresh store.
    pub(crate) fn new(last: Timestamp) -> Self {
        Self { at: last, seen: Monotonic(0), differs: None, is_set: false }
    }

    /// The time to judge ages by.
    pub(crate) fn advance(&mut self, now: Now) -> Timestamp {
        if !self.is_set {
            self.is_set = true;
            self.seen = now.mono;
            if self.at == Timestamp(0) {
                self.at = now.wall;
            }
        }
        let passed = i64::try_from(now.mono.since(self.seen)).unwrap_or(i64::MAX);
        self.at = Timestamp(self.at.0.saturating_add(passed));
        self.seen = now.mono;
        let difference = now.wall.0.saturating_sub(self.at.0);
        if difference.saturating_abs() < FOLLOW_AT_ONCE_NS {
            self.at = now.wall;
            self.differs = None;
            return self.at;
        }
        match self.differs {
            Some((since, by))
                if difference.saturating_sub(by).saturating_abs() < FOLLOW_AT_ONCE_NS =>
            {
                if now.mono.since(since) >= STEADY_NS {
                    self.at = now.wall;
                    self.differs = None;
                }
            }
            _ => self.differs = Some((now.mono, difference)),
        }
        // Messages are stamped by the wall clock: behind one that was set back nothing new is old.
        self.at.min(now.wall)
    }

    /// Whether the wall clock is not believed at present.
    pub(crate) fn is_doubting(&self) -> bool {
        self.differs.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn now(wall_s: i64, mono_s: u64) -> Now {
        Now { wall: Timestamp(wall_s * SECOND), mono: Monotonic(mono_s * 1_000_000_000) }
    }

    #[test]
    fn small_steps_are_followed_and_jumps_are_not() {
        let mut clock = RetentionClock::new(Timestamp(0));
        assert_eq!(clock.advance(now(1_000, 5)), Timestamp(1_000 * SECOND));
        assert_eq!(clock.advance(now(1_030, 6)), Timestamp(1_030 * SECOND));
        assert_eq!(clock.advance(now(5_000, 7)), Timestamp(1_031 * SECOND));
        assert!(clock.is_doubting());
        assert_eq!(clock.advance(now(1_040, 8)), Timestamp(1_040 * SECOND));
        assert!(!clock.is_doubting());
    }

    #[test]
    fn a_steady_wall_clock_is_believed_after_ten_minutes() {
        let mut clock = RetentionClock::new(Timestamp(1_000 * SECOND));
        assert_eq!(clock.advance(now(90_000, 0)), Timestamp(1_000 * SECOND));
        assert_eq!(clock.advance(now(90_599, 599)), Timestamp(1_599 * SECOND));
        assert_eq!(clock.advance(now(90_600, 600)), Timestamp(90_600 * SECOND));
    }

    /// What is stamped now would be as old as the clock was set back.
    #[test]
    fn ages_are_not_judged_by_a_time_that_the_wall_clock_has_not_reached() {
        let mut clock = RetentionClock::new(Timestamp(0));
        assert_eq!(clock.advance(now(9_000, 5)), Timestamp(9_000 * SECOND));
        assert_eq!(clock.advance(now(5_000, 6)), Timestamp(5_000 * SECOND));
        assert!(clock.is_doubting());
        assert_eq!(clock.advance(now(9_002, 7)), Timestamp(9_002 * SECOND));
    }

    /// Found by fuzzing: the difference of the two ends of time overflowed.
    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let mut clock = RetentionClock::new(Timestamp(i64::MAX));
        for wall in [i64::MIN, i64::MAX, i64::MIN, 0] {
            clock.advance(Now { wall: Timestamp(wall), mono: Monotonic(1) });
        }
        let mut clock = RetentionClock::new(Timestamp(i64::MIN));
        for wall in [i64::MAX, i64::MIN, i64::MAX] {
            clock.advance(Now { wall: Timestamp(wall), mono: Monotonic(1) });
        }
    }
}
