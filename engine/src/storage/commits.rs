//! Commits, paced by core.
//!
//! A commit costs the core 30-50 us, however little is in it. So: nothing on its way -> seal at once, a lone message
//! waits for nothing; else full batches first; else shards take turns, one batch that is not full each
//! [`SEAL_INTERVAL_NS`]. No timer is needed: while something is on its way, its end comes.

use std::rc::Rc;

use super::CoreStorage;
use crate::disk::{Disk, DiskFile};
use crate::log::{Demand, FrameWrite};
use crate::runtime::Runtime;
use crate::types::Now;

/// Commits of one core on their way at once.
const COMMITS_IN_FLIGHT_MAX: usize = 8;
/// Between two seals of batches that are not full, while others are on their way: about one durable write's time.
const SEAL_INTERVAL_NS: u64 = 200_000;

impl<D: Disk, R: Runtime> CoreStorage<D, R> {
    pub(super) fn start_commits(self: &Rc<Self>, now: Now) {
        while self.in_flight.get() < COMMITS_IN_FLIGHT_MAX {
            let is_turn = now.mono.since(self.last_seal.get()) >= SEAL_INTERVAL_NS;
            let wanted =
                if self.in_flight.get() == 0 || is_turn { Demand::Some } else { Demand::Full };
            if !self.start_one(wanted, now) {
                return;
            }
            self.last_seal.set(now.mono);
        }
    }

    /// Seals the batch of the next shard, in turn, that demands it at least this much. The turn goes on behind it.
    fn start_one(self: &Rc<Self>, wanted: Demand, now: Now) -> bool {
        let count = self.shards.len();
        for step in 0..count {
            let at = (self.turn.get() + step) % count;
            let write = {
                let mut shard = self.shards[at].borrow_mut();
                if shard.log.demand() < wanted { None } else { shard.seal(now) }
            };
            if let Some(write) = write {
                self.turn.set((at + 1) % count);
                self.start_write(at, write);
                return true;
            }
        }
        false
    }

    fn start_write(self: &Rc<Self>, at: usize, write: FrameWrite<D::File>) {
        self.in_flight.set(self.in_flight.get() + 1);
        let core = self.clone();
        self.runtime.spawn(async move {
            let result = write.file.write_at(write.position, write.buffer).await;
            core.in_flight.set(core.in_flight.get() - 1);
            core.shards[at].borrow_mut().written(write.index, result, core.runtime.now());
            core.progress(at);
            core.pump();
        });
    }
}
