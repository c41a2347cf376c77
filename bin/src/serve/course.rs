//! How far the process has come on its way to the end: set by the thread that hears signals, seen by the core that
//! listens. It only goes forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What the executors do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Connections are accepted.
    Serving,
    /// None is accepted any more, and those that stay are closed one after the other.
    LameDuck,
    /// What is open is committed, then the executors end.
    Stopping,
}

/// The phase that all threads see.
#[derive(Debug, Clone)]
pub(super) struct Course(Arc<AtomicU8>);

impl Course {
    /// The beginning.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Phase::Serving as u8)))
    }

    /// Where it stands.
    pub(super) fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Serving,
            1 => Phase::LameDuck,
            _ => Phase::Stopping,
        }
    }

    /// Goes on to `phase`. Tells whether that is further than before.
    pub(super) fn advance(&self, phase: Phase) -> bool {
        self.0.fetch_max(phase as u8, Ordering::Relaxed) < phase as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_goes_forward() {
        let course = Course::new();
        assert_eq!(course.phase(), Phase::Serving);
        assert!(course.advance(Phase::LameDuck));
        assert!(!course.advance(Phase::LameDuck));
        assert_eq!(course.phase(), Phase::LameDuck);
        assert!(course.advance(Phase::Stopping));
        assert!(!course.advance(Phase::LameDuck));
        assert_eq!(course.phase(), Phase::Stopping);
    }
}
