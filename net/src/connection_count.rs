//! How many connections are open on all cores together: a limit over the whole server needs an answer at once, and an
//! atomic counter is the simplest one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The counter; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ConnectionCount(Arc<AtomicUsize>);

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub struct CountedConnection(Arc<AtomicUsize>);

impl ConnectionCount {
    /// Counts a connection, unless there are `max` already; 0: no limit.
    #[must_use]
    pub fn enter(&self, max: usize) -> Option<CountedConnection> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let counted = CountedConnection(self.0.clone());
        (max == 0 || before < max).then_some(counted)
    }

    /// Counts one connection less if there are more than `max`; 0: no limit. Whoever asked closes one of those it has,
    /// and forgets that it was counted.
    #[must_use]
    pub fn shed(&self, max: usize) -> bool {
        let less = |count| (max > 0 && count > max).then(|| count - 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Connections that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl CountedConnection {
    /// It is not counted any more: see [`ConnectionCount::shed`].
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "who goes has come");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let count = ConnectionCount::default();
        let first = count.enter(2);
        let second = count.clone().enter(2);
        assert!(first.is_some() && second.is_some());
        assert!(count.enter(2).is_none());
        assert!(count.enter(0).is_some(), "0 is no limit");
        drop(first);
        assert_eq!(count.len(), 1);
        assert!(count.enter(2).is_some());
        drop(second);
        assert!(count.is_empty());
    }
}
