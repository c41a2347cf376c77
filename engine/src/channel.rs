//! A channel: its sequences, its index, its limits.

use std::rc::Rc;

use crate::index::{ChannelIndex, Run, Taken};
use crate::log::batch::BatchRun;
use crate::log::cache::CachedFrame;
use crate::types::{
    ChannelId, ChannelLimits, FastMap, Monotonic, SegmentNumber, Sequence, Timestamp,
};

/// A channel of a shard.
#[derive(Debug)]
pub(crate) struct Channel {
    pub id: ChannelId,
    pub name: Rc<str>,
    pub index: ChannelIndex,
    pub limits: ChannelLimits,
    /// The first sequence that no limit has removed; last + 1 if none is left.
    pub first: Sequence,
    /// The last sequence given to a message.
    pub last: Sequence,
    /// The last that is on disk: what subscribers may see.
    pub committed: Sequence,
    /// Messages on disk that no limit has removed.
    pub messages: u64,
    /// Their records' bytes; of partly removed runs that were not in memory by their average.
    pub bytes: u64,
    /// The last message's time: times never go back in a channel.
    pub last_time: Timestamp,
    /// When it was last used, for `inactivity_ms_max`.
    pub last_used: Monotonic,
    /// Whether the last trim still has to be logged.
    pub is_trim_unlogged: bool,
    /// The run and frame that was read last.
    pub recent: Option<(Run, Rc<CachedFrame>)>,
    /// The runs of the sealed segment that was read last.
    pub recent_sealed: Option<(SegmentNumber, Vec<Run>)>,
}

impl Channel {
    pub(crate) fn new(id: ChannelId, name: &str, limits: ChannelLimits, now: Monotonic) -> Self {
        Self {
            id,
            name: name.into(),
            index: ChannelIndex::default(),
            limits,
            first: Sequence(1),
            last: Sequence(0),
            committed: Sequence(0),
            messages: 0,
            bytes: 0,
            last_time: Timestamp(0),
            last_used: now,
            is_trim_unlogged: false,
            recent: None,
            recent_sealed: None,
        }
    }

    /// A run of it is on disk.
    pub(crate) fn commit(&mut self, run: &BatchRun) {
        let last = run.table.sequence(run.table.count - 1);
        assert!(last > self.committed, "a run commits once");
        assert!(last <= self.last);
        self.committed = last;
        self.messages += u64::from(run.table.count);
        self.bytes += u64::from(run.bytes);
    }

    /// Whether a message or byte limit wants the first message gone.
    fn is_over(&self) -> bool {
        let limits = &self.limits;
        let is_over_count = limits.messages_max > 0 && self.messages > limits.messages_max;
        let is_over_bytes =
            limits.bytes_max > 0 && self.bytes > limits.bytes_max && self.messages > 1;
        is_over_count || is_over_bytes
    }

    /// Removes the oldest messages until the limits hold; `size_of` gives a record's exact length where it is in
    /// memory. Calls `taken` for what goes from each segment.
    pub(crate) fn trim_to_limits(
        &mut self,
        size_of: impl Fn(&Run) -> Option<u64>,
        mut taken: impl FnMut(Taken),
    ) {
        while self.is_over() {
            let Some((average, run)) = self.index.front() else { return };
            let size = run.and_then(|run| size_of(&run)).unwrap_or(average);
            let gone = self.index.pop_one(size).expect("there is a front");
            self.account(gone);
            taken(gone);
        }
    }

    /// Removes what is older than its limit allows, in whole runs.
    pub(crate) fn trim_to_age(&mut self, clock: Timestamp, mut taken: impl FnMut(Taken)) {
        let age_ns =
            i64::try_from(self.limits.age_ms_max.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        while let Some((last_time, last)) = self.index.front_last() {
            if age_ns == 0 || last > self.committed || last_time.0.saturating_add(age_ns) > clock.0
            {
                return;
            }
            let gone = self.index.pop_whole_before(last.next()).expect("there is a front");
            self.account(gone);
            taken(gone);
        }
    }

    /// Removes all before `first`, as a record or a checkpoint says.
    pub(crate) fn trim_before(&mut self, first: Sequence, mut taken: impl FnMut(Taken)) {
        while let Some(gone) = self.index.pop_whole_before(first) {
            self.account(gone);
            taken(gone);
        }
        while self.index.first().is_some_and(|front| front < first) {
            let (average, _) = self.index.front().expect("there is a first");
            let gone = self.index.pop_one(average).expect("there is a front");
            self.account(gone);
            taken(gone);
        }
        self.first = self.first.max(first);
    }

    fn account(&mut self, gone: Taken) {
        self.messages = self.messages.saturating_sub(gone.count);
        self.bytes = self.bytes.saturating_sub(gone.bytes);
        self.first = self.index.first().unwrap_or(self.last.next()).max(self.first);
        self.is_trim_unlogged = true;
    }

    /// What the index says once more, after its runs were put in place by recovery.
    pub(crate) fn recount(&mut self) {
        let sealed = self.index.sealed.iter().map(|part| (part.count, part.bytes));
        let runs = self.index.runs.iter().map(|run| (u64::from(run.count), u64::from(run.bytes)));
        (self.messages, self.bytes) =
            sealed.chain(runs).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    }
}

/// The channels of a shard, by number and by name.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    by_id: FastMap<ChannelId, Channel>,
    by_name: FastMap<Rc<str>, ChannelId>,
    /// Names in lower case: two channels may not differ by case only.
    by_folded_name: FastMap<String, ChannelId>,
    last_id: u64,
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
        if let Some(id) = self.by_name.get(name) {
            return NameLookup::Found(*id);
        }
        match self.by_folded_name.get(&name.to_ascii_lowercase()) {
            Some(id) => NameLookup::OtherCase(*id),
            None => NameLookup::Free,
        }
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

    pub(crate) fn insert(&mut self, channel: Channel) {
        self.use_ids(channel.id.0);
        self.by_name.insert(channel.name.clone(), channel.id);
        self.by_folded_name.insert(channel.name.to_ascii_lowercase(), channel.id);
        let id = channel.id;
        let old = self.by_id.insert(id, channel);
        assert!(old.is_none(), "channel ids are never reused");
    }

    pub(crate) fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.by_id.remove(&id)?;
        // Where damage has cost the record of a deletion, the name may be a later channel's already.
        if self.by_name.get(&channel.name) == Some(&id) {
            self.by_name.remove(&channel.name);
        }
        let folded = channel.name.to_ascii_lowercase();
        if self.by_folded_name.get(&folded) == Some(&id) {
            self.by_folded_name.remove(&folded);
        }
        Some(channel)
    }

    pub(crate) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All numbers, in order.
    pub(crate) fn ids(&self) -> Vec<ChannelId> {
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
