//! Commits, paced by core.
//!
//! A commit costs the core 30-50 us, however little is in it. So a batch that is not full is sealed at once only while
//! nothing is on its way and no other shard of the core competes: a lone publisher waits for nothing. Where several
//! shards have something, they are sealed in turn, with a pause behind each that grows with what it carried
//! ([`pause_ns`]). Full batches go first, whenever a write may start.

use std::rc::Rc;
use std::time::Duration;

use super::CoreStorage;
use crate::disk::{Disk, DiskFile};
use crate::log::{Demand, FrameWrite};
use crate::runtime::Runtime;
use crate::types::{Monotonic, Now};

/// Commits of one core on their way at once.
const COMMITS_IN_FLIGHT_MAX: usize = 8;
/// The pause behind the seal of a batch that is not full, for each record in it. Where so few are outstanding that batches stay small, as few as
/// come at once, nobody waits for long; where many come, batches fill. It lets a core commit 625,000 records a second in
/// batches that are not full.
const PAUSE_NS_A_RECORD: u64 = 1_600;
/// The shortest pause. With 64 records outstanding over 100 channels in 8 shards (`just bench`) a pause of 500 us gave
/// 24,000/s at a p50 of 2.8 ms, this 95,000/s at 0.6 ms, and none at all 82,000/s.
const PAUSE_NS_MIN: u64 = 50_000;
/// The longest pause: with 8 shards a record waits at most 1.6 ms for its turn.
const PAUSE_NS_MAX: u64 = 200_000;

/// How long a core pauses behind the seal of a batch of so many records.
fn pause_ns(records_count: usize) -> u64 {
    (records_count as u64 * PAUSE_NS_A_RECORD).clamp(PAUSE_NS_MIN, PAUSE_NS_MAX)
}

impl<D: Disk, R: Runtime> CoreStorage<D, R> {
    pub(super) fn start_commits(self: &Rc<Self>, now: Now) {
        let wait_ns = self.pause_end.get().since(now.mono);
        let may_start_small = wait_ns == 0 || self.is_without_competition();
        let mut round_pause_ns = 0;
        while self.in_flight.get() < COMMITS_IN_FLIGHT_MAX {
            if self.start_one(Demand::Full, now).is_some() {
                continue;
            }
            let small = if may_start_small { self.start_one(Demand::Some, now) } else { None };
            let Some(records_count) = small else { break };
            round_pause_ns += pause_ns(records_count);
        }
        if round_pause_ns > 0 {
            self.pause_end.set(Monotonic(now.mono.0 + round_pause_ns));
        } else if !may_start_small
            && self.in_flight.get() < COMMITS_IN_FLIGHT_MAX
            && self.shards.iter().any(|shard| shard.borrow().log.demand() > Demand::None)
        {
            self.look_again_in(wait_ns);
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

    /// Seals the batch of the next shard, in turn, that demands it at least this much; tells how many records that are.
    /// The turn goes on behind it.
    fn start_one(self: &Rc<Self>, wanted: Demand, now: Now) -> Option<usize> {
        let count = self.shards.len();
        for step in 0..count {
            let at = (self.turn.get() + step) % count;
            let write = {
                let mut shard = self.shards[at].borrow_mut();
                if shard.log.demand() < wanted { None } else { shard.seal(now) }
            };
            if let Some(write) = write {
                let shard = self.shards[at].borrow();
                if !shard.log.sealed_runs().is_empty() {
                    self.published_at.set(now.mono);
                }
                if shard.owes_answers() {
                    self.answering_at.set(now.mono);
                }
                drop(shard);
                self.turn.set((at + 1) % count);
                let records_count = write.records_count;
                self.start_write(at, write, now);
                return Some(records_count);
            }
        }
        None
    }

    fn start_write(self: &Rc<Self>, at: usize, write: FrameWrite<D::File>, sealed: Now) {
        self.in_flight.set(self.in_flight.get() + 1);
        let core = self.clone();
        let (records, bytes) = (write.records_count as u64, (*write.buffer).as_ref().len() as u64);
        self.runtime.spawn(async move {
            let result = write.file.write_at(write.position, write.buffer).await;
            core.in_flight.set(core.in_flight.get() - 1);
            let now = core.runtime.now();
            let took_ns = now.mono.since(sealed.mono);
            core.statistics.borrow_mut().count(took_ns, (records, bytes), &result);
            core.shards[at].borrow_mut().written(write.index, result, now);
            core.progress(at);
            core.pump();
        });
    }
}
