//! Commits, paced by core.
//!
//! A commit costs the core 30-50 us, however little is in it. So a batch that is not full is sealed at once only while
//! nothing is on its way and no other shard of the core competes: a lone publisher waits for nothing. Where several
//! shards have something, one of them is sealed each [`SEAL_INTERVAL_NS`], in turn. Full batches go first, whenever a
//! write may start.

use std::rc::Rc;
use std::time::Duration;

use super::CoreStorage;
use crate::disk::{Disk, DiskFile};
use crate::log::{Demand, FrameWrite};
use crate::runtime::Runtime;
use crate::types::Now;

/// Commits of one core on their way at once.
const COMMITS_IN_FLIGHT_MAX: usize = 8;
/// Between two seals of batches that are not full, where shards compete. With 64 records outstanding over 100 channels
/// in 8 shards (`just bench`) 500 us gave 24,000/s at a p50 of 2.8 ms, this 95,000/s at 0.6 ms, and none at all 82,000/s.
/// Under 4 publishers of 16,384 outstanding it makes no difference: there the batches are full before.
const SEAL_INTERVAL_NS: u64 = 50_000;

impl<D: Disk, R: Runtime> CoreStorage<D, R> {
    pub(super) fn start_commits(self: &Rc<Self>, now: Now) {
        while self.in_flight.get() < COMMITS_IN_FLIGHT_MAX {
            let waited_ns = now.mono.since(self.last_seal.get());
            let may_start_small = waited_ns >= SEAL_INTERVAL_NS || self.is_without_competition();
            let is_started = self.start_one(Demand::Full, now)
                || (may_start_small && self.start_one(Demand::Some, now));
            if !is_started {
                if !may_start_small
                    && self.shards.iter().any(|shard| shard.borrow().log.demand() > Demand::None)
                {
                    self.look_again_in(SEAL_INTERVAL_NS - waited_ns);
                }
                return;
            }
            self.last_seal.set(now.mono);
        }
    }

    /// Whether nothing is on its way, and nobody but the shard that was sealed last has anything.
    fn is_without_competition(&self) -> bool {
        let has_demand = |at: &usize| self.shards[*at].borrow().log.demand() > Demand::None;
        self.in_flight.get() == 0
            && (0..self.shards.len())
                .filter(has_demand)
                .all(|at| (at + 1) % self.shards.len() == self.turn.get())
    }

    /// Pumps after a while; one such wait at a time.
    fn look_again_in(self: &Rc<Self>, wait_ns: u64) {
        if self.is_waiting.replace(true) {
            return;
        }
        let core = self.clone();
        self.runtime.spawn(async move {
            core.runtime.sleep(Duration::from_nanos(wait_ns)).await;
            core.is_waiting.set(false);
            core.pump();
        });
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
