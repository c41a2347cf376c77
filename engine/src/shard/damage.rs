//! Damage that was found, each told once: a message that cannot be read is asked for again and again.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Damage;
use crate::ranges::Ranges;
use crate::types::{ChannelId, SegmentNumber, Sequence};

/// Of what is found after the start no more is told than this: a broken disk fills no log.
const TOLD_COUNT_MAX: usize = 10_000;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct DamageList {
    fresh: Vec<Damage>,
    told: BTreeSet<(SegmentNumber, ChannelId, Sequence, &'static str)>,
    /// The messages that are named, by their channel's name.
    missing: BTreeMap<String, Ranges>,
}

/// Messages of a channel that follow each other and are missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingMessages {
    /// The channel's name.
    pub channel: String,
    /// The first of them.
    pub first: Sequence,
    /// The last.
    pub last: Sequence,
}

impl MissingMessages {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last.0.saturating_sub(self.first.0).saturating_add(1)
    }
}

impl DamageList {
    /// What recovery found: all of it is told.
    pub(super) fn recovered(fresh: Vec<Damage>) -> Self {
        let mut list = Self::default();
        for damage in fresh {
            list.told.insert(Self::key(&damage));
            list.take_in(damage);
        }
        list
    }

    pub(super) fn push(&mut self, damage: Damage) {
        if self.told.len() < TOLD_COUNT_MAX && self.told.insert(Self::key(&damage)) {
            self.take_in(damage);
        }
    }

    fn take_in(&mut self, damage: Damage) {
        if !damage.name.is_empty() {
            let missing = self.missing.entry(damage.name.clone()).or_default();
            missing.add(damage.first.0, damage.last.0);
        }
        self.fresh.push(damage);
    }

    /// The messages that are named, in the order of channels and sequences, none twice. Costs by how many damages were
    /// told.
    pub(super) fn missing(&self) -> impl Iterator<Item = MissingMessages> {
        self.missing.iter().flat_map(|(channel, ranges)| {
            ranges.joined().into_iter().map(|(first, last)| MissingMessages {
                channel: channel.clone(),
                first: Sequence(first),
                last: Sequence(last),
            })
        })
    }

    /// What is named of a channel.
    pub(super) fn missing_of(&self, channel: &str) -> Option<&Ranges> {
        self.missing.get(channel)
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
