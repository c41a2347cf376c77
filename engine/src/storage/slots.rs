//! Slots of `channels_max`, shared by all shards of all cores.
//!
//! The one value that cores share: a limit over the whole store has no other answer at once. An atomic counter costs
//! one operation a channel made, nothing a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module's head. Clone it to each core.
#[derive(Debug, Clone, Default)]
pub struct ChannelSlots {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    used: AtomicU64,
    /// 0: no limit.
    max: u64,
}

impl ChannelSlots {
    /// Slots for `channels_max` channels; 0: no limit.
    #[must_use]
    pub fn new(channels_max: u64) -> Self {
        Self { shared: Arc::new(Shared { used: AtomicU64::new(0), max: channels_max }) }
    }

    /// Takes a slot, if one is left.
    pub(crate) fn take(&self) -> bool {
        let max = if self.shared.max == 0 { u64::MAX } else { self.shared.max };
        let taken = self.shared.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (used < max).then_some(used + 1)
        });
        taken.is_ok()
    }

    /// Takes a slot for a channel that exists: the limit is for new ones.
    pub(crate) fn take_existing(&self) {
        self.shared.used.fetch_add(1, Ordering::Relaxed);
    }

    /// A channel is deleted.
    pub(crate) fn give_back(&self) {
        self.shared.used.fetch_sub(1, Ordering::Relaxed);
    }

    /// Channels there are.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_and_existing_channels_do_not_ask() {
        let slots = ChannelSlots::new(1);
        slots.take_existing();
        slots.take_existing();
        assert!(!slots.take());
        slots.give_back();
        slots.give_back();
        assert!(slots.take());
        assert!(!slots.clone().take());
        assert!(ChannelSlots::new(0).take());
    }
}
