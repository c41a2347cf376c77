//! The beginning of a core's end. It takes nothing in any more, and tells the others; when they have told too, all that
//! any of them had taken in is where it belongs, and the storage may close: an ack that a core has read is logged in
//! another's shard, and nobody hears an answer behind the last hint.

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::Core;
use crate::link::LinkMessage;

/// How far the stop is.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    /// Whether this core has fallen silent.
    is_silent: bool,
    /// How many others have, and all they had sent before is applied.
    silent_others: usize,
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// From now on bytes are not taken, and nobody is closed for what it does not say. A second call changes nothing.
    pub fn fall_silent(&mut self, _now: Now) {
        if std::mem::replace(&mut self.stopping.is_silent, true) {
            return;
        }
        for core in self.hub.links.others() {
            self.hub.links.push(core, LinkMessage::Silent);
        }
    }

    /// Whether [`Core::fall_silent`] was called.
    pub(crate) fn is_silent(&self) -> bool {
        self.stopping.is_silent
    }

    /// Whether all cores have fallen silent, and all that the others had sent before is applied here.
    #[must_use]
    pub fn are_all_silent(&self) -> bool {
        self.stopping.is_silent && self.stopping.silent_others + 1 >= self.core_count()
    }

    /// Another core has fallen silent. A link is first in, first out.
    pub(super) fn on_silent(&mut self) {
        self.stopping.silent_others += 1;
        assert!(self.stopping.silent_others < self.core_count(), "each tells once");
    }
}
