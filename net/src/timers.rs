//! Deadlines of one core in order of time. Nothing is cancelled: who set a timer checks, when it fires, whether it
//! still means anything.

use std::collections::BTreeMap;

use weirlog_engine::types::Monotonic;

/// Values with a time each, taken out when it has come.
#[derive(Debug)]
pub struct Timers<T> {
    entries: BTreeMap<(Monotonic, u64), T>,
    count: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), count: 0 }
    }
}

impl<T> Timers<T> {
    /// Sets a timer.
    pub fn set(&mut self, at: Monotonic, what: T) {
        self.count += 1;
        self.entries.insert((at, self.count), what);
    }

    /// The earliest one's time.
    #[must_use]
    pub fn next(&self) -> Option<Monotonic> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the earliest one out if it is due; among equals the one set first.
    pub fn take_due(&mut self, now: Monotonic) -> Option<T> {
        let entry = self.entries.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_of_time_then_of_setting() {
        let mut timers = Timers::default();
        for (at, what) in [(30, 'd'), (10, 'a'), (20, 'b'), (20, 'c')] {
            timers.set(Monotonic(at), what);
        }
        assert_eq!(timers.next(), Some(Monotonic(10)));
        let due: String = std::iter::from_fn(|| timers.take_due(Monotonic(20))).collect();
        assert_eq!(due, "abc");
        assert_eq!(timers.next(), Some(Monotonic(30)));
    }
}
