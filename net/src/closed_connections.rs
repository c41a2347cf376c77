//! The last connections of a core that are gone, for monitoring.

use std::collections::VecDeque;

use crate::monitor::report::ConnectionReport;

/// Closed connections that all cores together remember: as many as the reference does.
const REMEMBERED_MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct ClosedConnections {
    kept: VecDeque<ConnectionReport>,
    kept_max: usize,
}

impl ClosedConnections {
    pub(crate) fn new(core_count: u16) -> Self {
        let kept_max = (REMEMBERED_MAX / usize::from(core_count.max(1))).max(1);
        Self { kept: VecDeque::new(), kept_max }
    }

    /// One more; the oldest makes room.
    pub(crate) fn push(&mut self, closed: ConnectionReport) {
        if self.kept.len() == self.kept_max {
            self.kept.pop_front();
        }
        self.kept.push_back(closed);
    }

    /// Those that are remembered, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ConnectionReport> {
        self.kept.iter()
    }
}
