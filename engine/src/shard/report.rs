//! What monitoring is told of a shard. Totals are kept as things change, so that telling them costs the same with one
//! channel and with 100,000; all else is told by the page.

use compact_str::CompactString;

use super::{MissingMessages, Shard};
use crate::channel::{Channel, NameLookup};
use crate::disk::Disk;
use crate::index::frames::FrameList;
use crate::limits::ChannelLimitRules;
use crate::log::Need;
use crate::log::segment::SegmentState;
use crate::request::{Client, ClientKey};
use crate::subscriptions::SubscriptionView;
use crate::types::{ChannelId, Monotonic, Sequence, Timestamp};

/// Messages that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Messages on disk that no limit has removed.
    pub messages: u64,
    /// Their records' bytes.
    pub bytes: u64,
}

/// A shard's totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Messages of all channels.
    pub stored: Stored,
    /// Channels there are.
    pub channels: usize,
    /// Subscriptions, offline ones and shadows included.
    pub subscriptions: usize,
    /// Clients whose home this shard is.
    pub clients: usize,
    /// Segment files with frames in them.
    pub segments: usize,
    /// Those of them that were rewritten, each channel's messages together.
    pub clustered_segments: usize,
    /// Bytes of frames in them, or of the whole file where frames may still come.
    pub segment_bytes: u64,
    /// Bytes appended that are not committed.
    pub uncommitted_bytes: usize,
    /// Places where it was not as written, 10,000 found after the start at most.
    pub damage: usize,
    /// Whether messages are refused until the disk has room again.
    pub is_full: bool,
    /// Whether nothing more is written before a restart.
    pub is_finished: bool,
    /// When the oldest write that has not ended was begun.
    pub oldest_write: Option<Monotonic>,
}

/// One channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelView {
    /// What is kept.
    pub stored: Stored,
    /// The first sequence that no limit has removed; one behind `last` if none is left.
    pub first: Sequence,
    /// The last one committed.
    pub last: Sequence,
}

/// How far a subscription is behind its channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Messages that were never sent to it.
    pub messages: u64,
    /// Their bytes, by the average of the channel.
    pub bytes: u64,
    /// A time not after that of the first of them; none: there is none.
    pub oldest: Option<Timestamp>,
}

impl Stored {
    /// What a channel keeps.
    pub(super) fn of(channel: &Channel) -> Self {
        Self { messages: channel.messages, bytes: channel.bytes }
    }

    /// A part of it has changed.
    pub(super) fn replace(&mut self, before: Self, after: Self) {
        self.messages = self.messages - before.messages + after.messages;
        self.bytes = self.bytes - before.bytes + after.bytes;
    }
}

impl ShardTotals {
    /// Adds another shard's.
    pub fn add_all(&mut self, other: &Self) {
        self.stored.messages += other.stored.messages;
        self.stored.bytes += other.stored.bytes;
        self.channels += other.channels;
        self.subscriptions += other.subscriptions;
        self.clients += other.clients;
        self.segments += other.segments;
        self.clustered_segments += other.clustered_segments;
        self.segment_bytes += other.segment_bytes;
        self.uncommitted_bytes += other.uncommitted_bytes;
        self.damage += other.damage;
        self.is_full |= other.is_full;
        self.is_finished |= other.is_finished;
        self.oldest_write = self.oldest_write.into_iter().chain(other.oldest_write).min();
    }
}

impl Lag {
    fn of(channel: &Channel, last_sent: Sequence, frames: &FrameList) -> Self {
        let next = last_sent.next().max(channel.first);
        let messages = channel.committed.next().0.saturating_sub(next.0).min(channel.messages);
        if messages == 0 {
            return Self::default();
        }
        let bytes = u128::from(channel.bytes) * u128::from(messages) / u128::from(channel.messages);
        Self {
            messages,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            oldest: channel.index.time_before(next, frames),
        }
    }
}

/// A channel and the sequences it has to have: none if `last` is before `first`.
pub(crate) struct KeptChannel<'a> {
    pub id: ChannelId,
    pub name: &'a str,
    pub first: Sequence,
    pub last: Sequence,
}

impl<'a> KeptChannel<'a> {
    fn of(channel: &'a Channel) -> Self {
        let Channel { id, name, first, committed, .. } = channel;
        Self { id: *id, name, first: *first, last: *committed }
    }
}

impl<D: Disk> Shard<D> {
    /// Its totals. Costs by the number of segments.
    pub fn totals(&self) -> ShardTotals {
        let active_bytes = self.log.active_size_bytes();
        let segment_bytes = self.segments.values().map(|segment| match segment.state {
            SegmentState::Active => active_bytes,
            _ => segment.end.0,
        });
        ShardTotals {
            stored: self.stored,
            channels: self.channels.len(),
            subscriptions: self.subscriptions.len(),
            clients: self.clients.len(),
            segments: self.segments.len(),
            clustered_segments: self
                .segments
                .values()
                .filter(|segment| segment.is_clustered)
                .count(),
            segment_bytes: segment_bytes.sum(),
            uncommitted_bytes: self.log.uncommitted_bytes(),
            damage: self.damage.len(),
            is_full: self.is_full && !self.log.has_room(0, Need::Message),
            oldest_write: self.log.oldest_write(),
            is_finished: self.log.finished().is_some(),
        }
    }

    /// The messages that are known to be missing, in the order of channels and sequences: the first `count_max` ranges, and
    /// how many messages the others have. Costs by how many damages were found.
    pub fn missing_messages(&self, count_max: usize) -> (Vec<MissingMessages>, u64) {
        let mut all = self.damage.missing();
        let first = all.by_ref().take(count_max).collect();
        (first, all.map(|missing| missing.count()).sum())
    }

    /// The limits of its channels.
    pub fn limits(&self) -> &ChannelLimitRules {
        &self.config.limits
    }

    /// The first `count` names of channels, in order. Costs by the number of channels: a name each is compared.
    pub fn first_channel_names(&self, count: usize) -> Vec<CompactString> {
        let mut names: Vec<&CompactString> =
            self.channels.iter().map(|channel| &channel.name).collect();
        if count < names.len() {
            if count == 0 {
                return Vec::new();
            }
            names.select_nth_unstable(count);
            names.truncate(count);
        }
        names.sort_unstable();
        names.into_iter().cloned().collect()
    }

    /// All channels with the sequences that no limit has removed.
    pub(crate) fn kept_channels(&self) -> impl Iterator<Item = KeptChannel<'_>> {
        self.channels.iter().map(KeptChannel::of)
    }

    /// One of them.
    pub(crate) fn kept_channel(&self, id: ChannelId) -> Option<KeptChannel<'_>> {
        self.channels.get(id).map(KeptChannel::of)
    }

    /// A channel with its subscriptions.
    pub fn channel_view(
        &self,
        name: &str,
    ) -> Option<(ChannelView, impl Iterator<Item = (SubscriptionView<'_>, Lag)>)> {
        let NameLookup::Found(id) = self.channels.look_up(name) else { return None };
        let channel = self.channels.get(id)?;
        let view = ChannelView {
            stored: Stored::of(channel),
            first: channel.first,
            last: channel.committed,
        };
        let subscriptions = self.subscriptions.of_channel(id);
        Some((
            view,
            subscriptions.map(|view| {
                let lag = Lag::of(channel, view.last_sent, &self.frames);
                (view, lag)
            }),
        ))
    }

    /// A client's active subscriptions in this shard, each with its channel's name.
    pub fn client_subscriptions(
        &self,
        client: ClientKey,
    ) -> impl Iterator<Item = (&str, SubscriptionView<'_>)> {
        self.subscriptions
            .of_client(client)
            .filter_map(|view| Some((self.channels.get(view.channel)?.name.as_str(), view)))
    }

    /// How many clients have their home here.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// The first `count` clients whose home this is, in order of id.
    pub fn first_clients(&self, count: usize) -> impl Iterator<Item = &Client> {
        self.clients.values().take(count)
    }
}
