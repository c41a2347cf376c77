//! The channels of a shard, by number and by name.
//!
//! Channels stand in slots, which deleted ones leave to later ones; two tables lead to the slots. What a publish touches
//! is a few bytes of the table of names, small enough to stay in the processor's cache with thousands of channels, and
//! its channel.

use std::hash::BuildHasher as _;
use std::hint::black_box;
use std::ops::BitXor;

use compact_str::CompactString;
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::Channel;
use crate::log::batch::BatchRun;
use crate::types::{ChannelId, FastMap, Sequence, TableSlot};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    slots: Vec<Option<Channel>>,
    free: Vec<TableSlot>,
    /// Slots by their channels' names. Of two channels of one name (after damage) the newer.
    by_name: HashTable<TableSlot>,
    by_id: FastMap<ChannelId, TableSlot>,
    /// Names in lower case: two channels may not differ by case only.
    by_folded_name: FastMap<CompactString, ChannelId>,
    last_id: u64,
}

/// Channels that are brought from memory together. A processor has about a dozen reads on their way at once.
pub(crate) const TOUCHED_TOGETHER: usize = 16;

/// Leads to a channel without a search. A later channel may have the slot after a deletion, with another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelPlace {
    pub id: ChannelId,
    pub slot: TableSlot,
}

/// Finds a channel in the table of names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NameHash(u64);

impl NameHash {
    #[inline]
    pub(crate) fn of(name: &str) -> Self {
        Self(FxBuildHasher.hash_one(name))
    }
}

/// What a name turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameLookup {
    /// A channel.
    Found(ChannelId),
    /// A channel has this name in another case.
    OtherCase(ChannelId),
    /// Free.
    Free,
}

impl Channels {
    pub(crate) fn look_up(&self, name: &str) -> NameLookup {
        if let Some(channel) = self.slot_of_name(name).and_then(|slot| self.at(slot)) {
            return NameLookup::Found(channel.id);
        }
        match self.by_folded_name.get(name.to_ascii_lowercase().as_str()) {
            Some(id) => NameLookup::OtherCase(*id),
            None => NameLookup::Free,
        }
    }

    /// The channel of exactly this name.
    #[inline]
    pub(crate) fn named_mut(&mut self, name: &str) -> Option<&mut Channel> {
        let slot = self.slot_of_name(name)?;
        self.at_mut(slot)
    }

    /// A number that no channel of this shard ever had.
    pub(crate) fn new_id(&mut self) -> ChannelId {
        self.last_id += 1;
        ChannelId(self.last_id)
    }

    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Numbers up to this are used.
    pub(crate) fn use_ids(&mut self, last: u64) {
        self.last_id = self.last_id.max(last);
    }

    pub(crate) fn insert(&mut self, mut channel: Channel) {
        self.use_ids(channel.id.0);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            TableSlot(u32::try_from(self.slots.len() - 1).expect("fewer channels than 2^32"))
        });
        channel.slot = slot;
        let old = self.by_id.insert(channel.id, slot);
        assert!(old.is_none(), "channel ids are never reused");
        self.by_folded_name.insert(channel.name.to_ascii_lowercase(), channel.id);
        let Self { slots, by_name, .. } = self;
        let NameHash(hash) = NameHash::of(&channel.name);
        match by_name.find_mut(hash, |slot| is_named(slots, *slot, &channel.name)) {
            Some(older) => *older = slot,
            None => {
                by_name.insert_unique(hash, slot, |slot| hash_of_slot(slots, *slot));
            }
        }
        self.slots[slot.0 as usize] = Some(channel);
    }

    pub(crate) fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let slot = self.by_id.remove(&id)?;
        // Where damage has cost the record of a deletion, the name may be a later channel's already.
        if let Some(channel) = self.at(slot) {
            let NameHash(hash) = NameHash::of(&channel.name);
            if let Ok(entry) = self.by_name.find_entry(hash, |named| *named == slot) {
                entry.remove();
            }
        }
        let channel = self.slots[slot.0 as usize].take()?;
        self.free.push(slot);
        let folded = channel.name.to_ascii_lowercase();
        if self.by_folded_name.get(&folded) == Some(&id) {
            self.by_folded_name.remove(&folded);
        }
        Some(channel)
    }

    pub(crate) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.at(*self.by_id.get(&id)?)
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let slot = *self.by_id.get(&id)?;
        self.at_mut(slot)
    }

    /// The channel that had this place, if it is there still.
    pub(crate) fn in_place(&self, place: ChannelPlace) -> Option<&Channel> {
        self.at(place.slot).filter(|channel| channel.id == place.id)
    }

    /// See [`in_place`](Self::in_place).
    #[inline]
    pub(crate) fn in_place_mut(&mut self, place: ChannelPlace) -> Option<&mut Channel> {
        self.at_mut(place.slot).filter(|channel| channel.id == place.id)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All channels, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.slots.iter().flatten()
    }

    /// The places of all, in the order of their numbers, which is all but that of their slots: who goes through them
    /// goes through memory in its order.
    pub(crate) fn places(&self) -> Vec<ChannelPlace> {
        let place = |channel: &Channel| ChannelPlace { id: channel.id, slot: channel.slot };
        let mut places: Vec<_> = self.iter().map(place).collect();
        places.sort_unstable_by_key(|place| place.id);
        places
    }

    /// The slot that the channel of this name has, if there is one; told without a look at any channel, so that it may
    /// be another's.
    #[inline]
    pub(crate) fn likely_slot(&self, name: NameHash) -> Option<TableSlot> {
        self.by_name.find(name.0, |_| true).copied()
    }

    /// Reads what a publish needs of a channel.
    #[inline]
    pub(crate) fn touch(&self, slot: TableSlot) -> Sequence {
        self.at(slot).map_or(Sequence(0), |channel| channel.last)
    }

    /// Reads what a seal needs of these channels, all at once.
    pub(crate) fn touch_to_seal(&self, runs: &[BatchRun]) {
        let channels = || runs.iter().filter_map(|run| self.at(run.slot));
        let touched = channels().map(|channel| channel.id.0 ^ channel.index.runs.touch());
        black_box(touched.fold(0, BitXor::bitxor));
        let ends = channels().map(|channel| channel.index.runs.touch_end());
        black_box(ends.fold(0, BitXor::bitxor));
    }

    /// Reads what a commit needs of these channels, all at once.
    pub(crate) fn touch_to_commit(&self, runs: &[BatchRun]) {
        let channels = runs.iter().filter_map(|run| self.at(run.slot));
        let touched = channels.map(|channel| channel.id.0 ^ channel.committed.0);
        black_box(touched.fold(0, BitXor::bitxor));
    }

    fn slot_of_name(&self, name: &str) -> Option<TableSlot> {
        self.by_name.find(NameHash::of(name).0, |slot| is_named(&self.slots, *slot, name)).copied()
    }

    fn at(&self, slot: TableSlot) -> Option<&Channel> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    #[inline]
    fn at_mut(&mut self, slot: TableSlot) -> Option<&mut Channel> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }
}

fn is_named(slots: &[Option<Channel>], slot: TableSlot, name: &str) -> bool {
    slots[slot.0 as usize].as_ref().is_some_and(|channel| channel.name == name)
}

fn hash_of_slot(slots: &[Option<Channel>], slot: TableSlot) -> u64 {
    slots[slot.0 as usize].as_ref().map_or(0, |channel| NameHash::of(&channel.name).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ChannelLimits, Monotonic};

    fn channel(id: u64, name: &str) -> Channel {
        Channel::new(ChannelId(id), name, ChannelLimits::default(), Monotonic(0))
    }

    /// Found by reading: where the record of a deletion is lost two channels have one name, and deleting the old one
    /// hid the new one.
    #[test]
    fn the_old_channel_of_a_name_does_not_take_it_along() {
        let mut channels = Channels::default();
        channels.insert(channel(1, "A"));
        channels.insert(channel(2, "A"));
        channels.remove(ChannelId(1));
        assert_eq!(channels.look_up("A"), NameLookup::Found(ChannelId(2)));
        assert_eq!(channels.look_up("a"), NameLookup::OtherCase(ChannelId(2)));
        channels.remove(ChannelId(2));
        assert_eq!(channels.look_up("A"), NameLookup::Free);
    }

    /// Against plain maps, with many channels that come and go: slots are used again and every name leads to its own.
    #[test]
    fn names_and_numbers_lead_to_the_same_channels_as_plain_maps() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut channels = Channels::default();
        let mut known = std::collections::BTreeMap::new();
        for _ in 0..5_000 {
            let name = format!("some.rather.long.channel.name.{}", rng.u8(..));
            match known.remove(&name) {
                Some(id) if rng.bool() => {
                    assert_eq!(channels.remove(id).map(|gone| gone.name.into()), Some(name));
                }
                Some(id) => {
                    known.insert(name, id);
                }
                None => {
                    let id = channels.new_id();
                    channels.insert(Channel::new(
                        id,
                        &name,
                        ChannelLimits::default(),
                        Monotonic(0),
                    ));
                    known.insert(name, id);
                }
            }
            assert_eq!(channels.len(), known.len());
        }
        let places = channels.places();
        assert!(places.is_sorted_by_key(|place| place.id));
        let in_places: Vec<_> = places.iter().map(|place| channels.in_place(*place)).collect();
        let ids: std::collections::BTreeSet<_> = in_places.iter().flatten().map(|c| c.id).collect();
        assert_eq!(ids, known.values().copied().collect());
        let gone = ChannelPlace { id: ChannelId(0), ..places[0] };
        assert!(channels.in_place(gone).is_none(), "another channel has the slot");
        assert!(channels.slots.len() <= 256, "slots are used again");
        let mut rightly_guessed = 0;
        for number in 0..=255_u8 {
            let name = format!("some.rather.long.channel.name.{number}");
            let id = channels.named_mut(&name).map(|channel| channel.id);
            assert_eq!(id, known.get(&name).copied());
            if let Some(id) = id {
                let likely = channels.likely_slot(NameHash::of(&name)).unwrap();
                rightly_guessed += usize::from(channels.at(likely).unwrap().id == id);
                assert_eq!(channels.look_up(&name), NameLookup::Found(id));
                assert_eq!(channels.get(id).map(|channel| channel.name.as_str()), Some(&*name));
            }
        }
        assert!(rightly_guessed > known.len() * 9 / 10, "one in 128 tags is another's by chance");
    }
}
