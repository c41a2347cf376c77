//! Where channels live, remembered: checking a name and hashing it for its place cost as much as parsing a message,
//! and publishers name the same channels again and again.
//!
//! A table of fixed size in which each name has one slot, by a cheap hash; another name with that slot takes it over.
//! So it costs the same for any number of channels, and never grows.

use std::hash::BuildHasher as _;

use compact_str::CompactString;
use rustc_hash::FxBuildHasher;
use weirlog_engine::placement::shard_of_channel;
use weirlog_engine::types::ShardId;

use crate::subject::is_valid_channel;

/// Slots: a quarter of a mebibyte, made at the first use. Names of up to 24 bytes stand in them.
const SLOTS_COUNT: usize = 8192;

/// See the module's head.
#[derive(Debug)]
pub struct Places {
    shard_count: u16,
    slots: Vec<Slot>,
}

/// An empty name is no channel's.
#[derive(Debug, Clone, Default)]
struct Slot {
    name: CompactString,
    shard: ShardId,
}

impl Places {
    /// Of a store with so many shards.
    #[must_use]
    pub fn new(shard_count: u16) -> Self {
        Self { shard_count, slots: Vec::new() }
    }

    /// The shard of a channel; none if the name is no channel's.
    #[inline]
    pub fn shard_of(&mut self, channel: &str) -> Option<ShardId> {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS_COUNT, Slot::default);
        }
        let hash = FxBuildHasher.hash_one(channel);
        let at = usize::try_from(hash % SLOTS_COUNT as u64).expect("below the count");
        let slot = &mut self.slots[at];
        if slot.name == channel && !channel.is_empty() {
            return Some(slot.shard);
        }
        if !is_valid_channel(channel) {
            return None;
        }
        slot.name.clear();
        slot.name.push_str(channel);
        slot.shard = shard_of_channel(channel, self.shard_count);
        Some(slot.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_same_at_each_time_and_beyond_its_size() {
        let mut places = Places::new(8);
        for round in 0..2 {
            for number in 0..3 * SLOTS_COUNT {
                let name = format!("channel.{number}");
                let shard = Some(shard_of_channel(&name, 8));
                assert_eq!(places.shard_of(&name), shard, "round {round}");
            }
        }
    }

    #[test]
    fn no_channel_has_no_place() {
        let mut places = Places::new(8);
        for name in ["", "a..b", "*", "a b"] {
            assert_eq!(places.shard_of(name), None, "{name:?}");
        }
    }
}
