//! What `repair` takes from a shard and gives to its copy.

use std::borrow::Cow;

use super::Shard;
use crate::checkpoint::{ChannelNote, Checkpoint};
use crate::disk::Disk;
use crate::error::RequestError;
use crate::index::ChannelIndex;
use crate::log::batch::Target;
use crate::ranges::Ranges;
use crate::record::StateRecord;
use crate::types::{ChannelId, Content, Index, Now, Sequence, Timestamp};

/// A channel as its copy is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelEnd {
    pub id: ChannelId,
    pub last: Sequence,
    pub last_time: Timestamp,
}

impl<D: Disk> Shard<D> {
    /// All that it knows but its messages: a copy starts from it, with each channel just before its first message.
    pub(crate) fn state_of_copy(&mut self, now: Now) -> Checkpoint {
        let mut states = Vec::new();
        // What was lost before shows as a gap once more.
        let is_known = |record: &StateRecord| !matches!(record, StateRecord::Lost { .. });
        self.snapshot(|record| states.extend(Some(record).filter(is_known)));
        let note = |channel: &crate::channel::Channel| ChannelNote {
            id: channel.id,
            name: Cow::Owned(channel.name.to_string()),
            first: channel.first,
            last: channel.first.previous(),
            last_time: Timestamp(0),
            index: Cow::Owned(ChannelIndex::default()),
        };
        let head = self.head_of_state(now);
        let channels = self.channels.places().into_iter();
        let channels = channels.filter_map(|place| self.channels.in_place(place));
        Checkpoint { head, states, channels: channels.map(note).collect() }
    }

    /// Logs what the copy starts from, so that its log says all, whatever becomes of its checkpoints.
    pub(crate) fn begin_copy(&mut self) {
        let mut records = Vec::new();
        for channel in
            self.channels.places().into_iter().filter_map(|at| self.channels.in_place(at))
        {
            let (id, first) = (channel.id, channel.first);
            records.push(StateRecord::ChannelCreated { id, name: channel.name.to_string() });
            records.push(StateRecord::Trimmed { id, first });
        }
        self.snapshot(|record| records.push(record));
        records.iter().for_each(|record| self.append(record));
    }

    /// Where each channel ends.
    pub(crate) fn channel_ends(&self) -> Vec<ChannelEnd> {
        let end = |channel: &crate::channel::Channel| ChannelEnd {
            id: channel.id,
            last: channel.committed,
            last_time: channel.last_time,
        };
        self.channels.iter().map(end).collect()
    }

    /// The last message of a channel of the copy, or what comes before its first; `None`: there is no such channel.
    pub(crate) fn copied_up_to(&self, id: ChannelId) -> Option<Sequence> {
        self.channels.get(id).map(|channel| channel.last)
    }

    /// Appends a message of the original. Behind a gap it may not be in the batch of what is before the gap.
    pub(crate) fn copy_message(
        &mut self,
        (id, sequence): (ChannelId, Sequence),
        time: Timestamp,
        content: Content<'_>,
    ) -> Result<Index, RequestError> {
        self.check_writable(content)?;
        let Some(channel) = self.channels.get_mut(id) else {
            return Err(RequestError::UnknownChannel);
        };
        assert!(sequence > channel.last, "in the order of their sequences");
        channel.last = sequence;
        channel.last_time = channel.last_time.max(time);
        let target = Target { id, slot: channel.slot, bucket: &mut channel.bucket };
        self.log.push_message(target, sequence, time, content);
        Ok(self.log.open_index())
    }

    /// Messages of the original that are lost: the copy knows them as that, and goes on behind them. What was copied
    /// before is committed.
    pub(crate) fn copy_gap(&mut self, id: ChannelId, (first, last): (Sequence, Sequence)) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.last = last;
        channel.committed = last;
        self.lost.entry(id).or_default().add(first.0, last.0);
        self.append(&StateRecord::Lost { id, first, last });
    }

    /// All messages have been copied and are committed.
    pub(crate) fn end_copy(&mut self, end: &ChannelEnd) {
        let Some(channel) = self.channels.get_mut(end.id) else { return };
        channel.last_time = channel.last_time.max(end.last_time);
        if channel.messages == 0 {
            channel.first = end.last.next();
        }
    }

    /// Messages of a channel that were lost before this store was made.
    pub(crate) fn lost_of(&self, id: ChannelId) -> Option<&Ranges> {
        self.lost.get(&id)
    }
}
