//! Channels that publishes are about to need, brought into the processor's cache together.
//!
//! With many channels a publish finds its own in no near cache, and waits for memory: a quarter of a microsecond with
//! 10,000 of them, most of what they cost. Reads that do not depend on each other wait once.

use std::hint::black_box;

use super::Storage;
use crate::channel::{NameHash, TOUCHED_TOGETHER};
use crate::disk::Disk;
use crate::runtime::Runtime;
use crate::types::ShardId;

/// Publishes that are read ahead, at most.
pub const PREFETCH_MAX: usize = TOUCHED_TOGETHER;

impl<D: Disk, R: Runtime> Storage<D, R> {
    /// Publishes to these channels come next: their state is brought near, that of the first [`PREFETCH_MAX`]. Changes
    /// nothing. Panics if a shard is another core's.
    pub fn prefetch<'a>(&self, channels: impl Iterator<Item = (ShardId, &'a str)>) {
        let mut wanted = [(0, NameHash::default()); PREFETCH_MAX];
        let mut count = 0;
        for ((shard, name), wanted) in channels.zip(&mut wanted) {
            *wanted = (self.core.place_of(shard), NameHash::of(name));
            count += 1;
        }
        // Each step is nothing but reads that do not wait for each other.
        let mut slots = [None; PREFETCH_MAX];
        for ((at, hash), slot) in wanted[..count].iter().zip(&mut slots) {
            *slot = self.core.shards[*at].borrow().likely_slot(*hash);
        }
        for ((at, _), slot) in wanted[..count].iter().zip(&slots) {
            black_box(slot.map(|slot| self.core.shards[*at].borrow().touch(slot)));
        }
    }
}
