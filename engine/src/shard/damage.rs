//! Damage that was found, each told once: a message that cannot be read is asked for again and again.

use std::collections::BTreeSet;

use crate::error::Damage;
use crate::types::{ChannelId, SegmentNumber, Sequence};

/// Of what is found after the start no more is told than this: a broken disk fills no log.
const TOLD_COUNT_MAX: usize = 10_000;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct DamageList {
    fresh: Vec<Damage>,
    told: BTreeSet<(SegmentNumber, ChannelId, Sequence, &'static str)>,
}

impl DamageList {
    /// What recovery found: all of it is told.
    pub(super) fn recovered(fresh: Vec<Damage>) -> Self {
        let told = fresh.iter().map(Self::key).collect();
        Self { fresh, told }
    }

    pub(super) fn push(&mut self, damage: Damage) {
        if self.told.len() < TOLD_COUNT_MAX && self.told.insert(Self::key(&damage)) {
            self.fresh.push(damage);
        }
    }

    /// What was not told yet.
    pub(super) fn take(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.fresh)
    }

    /// How much was found.
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    fn key(damage: &Damage) -> (SegmentNumber, ChannelId, Sequence, &'static str) {
        (damage.segment, damage.channel, damage.first, damage.what)
    }
}
