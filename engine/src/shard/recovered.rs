//! From what recovery found to a running shard: checkpoint, then frames, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::checkpoints::CheckpointState;
use super::clustering::ClusteringState;
use super::damage::DamageList;
use super::hints::HintState;
use super::read_queue::ReadQueue;
use super::reads::FooterCache;
use super::{Shard, ShardConfig, Stored};
use crate::channel::{Channel, Channels};
use crate::checkpoint::Checkpoint;
use crate::clock::RetentionClock;
use crate::disk::Disk;
use crate::error::Damage;
use crate::format::Table;
use crate::index::frames::FrameList;
use crate::index::runs::Run;
use crate::log::Log;
use crate::log::cache::FrameCache;
use crate::ranges::Ranges;
use crate::record::StateRecord;
use crate::recovery::Recovered;
use crate::recovery::replay::{ReplayFrame, ReplayRun};
use crate::request::{Client, ClientKey};
use crate::subscriptions::Recovering;
use crate::types::{
    ChannelId, Index, Monotonic, Now, SegmentNumber, Sequence, ShardId, SubscriptionId, Timestamp,
};

const BAD_HEADER: &str = "the header of a segment is damaged";

/// The state while it is put together.
struct Rebuilding {
    shard: ShardId,
    channels: Channels,
    deleted: BTreeSet<ChannelId>,
    /// Names that stand anywhere in the frames: where the first record of one is lost, the second comes behind messages.
    names: BTreeMap<ChannelId, String>,
    clients: BTreeMap<ClientKey, Client>,
    last_incarnation: u64,
    subscriptions: Recovering,
    lost: BTreeMap<ChannelId, Ranges>,
    damage: Vec<Damage>,
    /// The time of the oldest message that was found in the log, as the wall clock said; none: there was none.
    oldest_time: Option<Timestamp>,
    /// The frames of the channels' runs.
    frames: FrameList,
    /// How far the retention clock was.
    clock_time: Timestamp,
    config: ShardConfig,
    now: Monotonic,
}

impl Rebuilding {
    fn start(checkpoint: &Checkpoint, shard: ShardId, config: &ShardConfig, now: Now) -> Self {
        let mut state = Self {
            shard,
            channels: Channels::default(),
            deleted: BTreeSet::new(),
            names: BTreeMap::new(),
            clients: BTreeMap::new(),
            last_incarnation: checkpoint.head.last_incarnation,
            subscriptions: Recovering::default(),
            lost: BTreeMap::new(),
            damage: Vec::new(),
            frames: checkpoint.head.frames.clone(),
            oldest_time: None,
            clock_time: checkpoint.head.clock,
            config: config.clone(),
            now: now.mono,
        };
        state.channels.use_ids(checkpoint.head.last_channel_id);
        state.subscriptions.set_next_id(SubscriptionId(checkpoint.head.last_subscription_id + 1));
        for note in &checkpoint.channels {
            let mut channel =
                Channel::new(note.id, &note.name, config.limits.of(&note.name), now.mono);
            channel.first = note.first;
            channel.last = note.last;
            channel.last_time = note.last_time;
            channel.index = note.index.clone().into_owned();
            channel.join_parts();
            state.channels.insert(channel);
        }
        for record in &checkpoint.states {
            state.apply(record);
        }
        state
    }

    fn apply(&mut self, record: &StateRecord) {
        self.subscriptions.apply(record);
        match record {
            StateRecord::ChannelCreated { id, name } => {
                self.create(*id, name);
            }
            StateRecord::ChannelDeleted { id } => {
                self.deleted.insert(*id);
                self.channels.remove(*id);
                self.lost.remove(id);
            }
            StateRecord::Trimmed { id, first } => {
                if let Some(channel) = self.channels.get_mut(*id) {
                    channel.trim_before(*first, &self.frames, |_| {});
                    channel.last = channel.last.max(first.previous());
                }
            }
            StateRecord::Lost { id, first, last } => {
                if let Some(channel) = self.channels.get_mut(*id) {
                    channel.last = channel.last.max(*last);
                    self.lost.entry(*id).or_default().add(first.0, last.0);
                }
            }
            StateRecord::ClientOpened(client) => {
                if client.key.home == self.shard {
                    self.last_incarnation = self.last_incarnation.max(client.key.incarnation);
                }
                self.clients.insert(client.key, client.clone());
            }
            StateRecord::ClientClosed(key) => {
                self.clients.remove(key);
            }
            StateRecord::Subscription(_)
            | StateRecord::SubscriptionRemoved(_)
            | StateRecord::Position(_) => {}
        }
    }

    /// A name stands twice in the log, the second time perhaps behind later channels' names; the channel may have been
    /// deleted between.
    fn create(&mut self, id: ChannelId, name: &str) {
        if self.channels.get(id).is_none() && !self.deleted.contains(&id) {
            let limits = self.config.limits.of(name);
            self.channels.insert(Channel::new(id, name, limits, self.now));
        }
    }

    fn apply_frame(&mut self, frame: &ReplayFrame) {
        for record in &frame.states {
            self.apply(record);
        }
        if !frame.runs.is_empty() {
            let number = self.frames.push(frame.note());
            for found in &frame.runs {
                let run = Run { frame: number, ..found.run };
                self.apply_run(frame.place.0, ReplayRun { run, ..*found });
            }
        }
        for (channel, sequence) in &frame.damaged {
            self.report(frame.place.0, *channel, (*sequence, *sequence), Damage::BAD_RECORD);
        }
    }

    fn apply_run(&mut self, segment: SegmentNumber, found: ReplayRun) {
        let ReplayRun { channel: id, run, last_time } = found;
        if let Some(name) = self.names.remove(&id) {
            self.create(id, &name);
        }
        let Some(channel) = self.channels.get_mut(id) else {
            let range = (run.first, run.last());
            self.report(segment, id, range, "the name of these messages' channel is lost");
            return;
        };
        if run.first <= channel.last
            && channel.index.runs.last().is_some_and(|known| run.first <= known)
        {
            return;
        }
        let expected = channel.last.next();
        channel.last = channel.last.max(run.last());
        channel.last_time = channel.last_time.max(last_time);
        self.oldest_time = Some(self.oldest_time.map_or(last_time, |time| time.min(last_time)));
        if run.first >= channel.first {
            channel.index.push(run);
        }
        if run.first > expected {
            let range = (expected, run.first.previous());
            self.report(segment, id, range, "acknowledged messages are missing from the log");
        }
    }

    fn report(
        &mut self,
        segment: SegmentNumber,
        id: ChannelId,
        range: (Sequence, Sequence),
        what: &'static str,
    ) {
        let name =
            self.channels.get(id).map(|channel| channel.name.to_string()).unwrap_or_default();
        let (first, last) = range;
        self.damage.push(Damage {
            shard: self.shard,
            segment,
            channel: id,
            name,
            first,
            last,
            what,
        });
    }

    /// Frames that are lost may have held state, or messages of channels that have none later: they are reported even
    /// where no gap shows.
    fn report_lost(&mut self, lost: &[(Index, Index)], damaged_headers: &[SegmentNumber]) {
        let none = (Sequence(0), Sequence(0));
        for _ in lost {
            self.report(SegmentNumber(0), ChannelId(0), none, "acknowledged batches are lost");
        }
        for segment in damaged_headers {
            self.report(*segment, ChannelId(0), none, BAD_HEADER);
        }
    }

    /// A lost frame's table, as the next frame or the hint repeats it: its sequences are never given again.
    fn apply_lost_table(&mut self, table: &Table) {
        for run in table.runs.iter().filter(|run| run.channel.0 != 0 && run.count > 0) {
            let last = run.sequence(run.count - 1);
            // The channel may have been made in the lost frame: its name stands behind it once more.
            if let Some(name) = self.names.remove(&run.channel) {
                self.create(run.channel, &name);
            }
            let Some(channel) = self.channels.get_mut(run.channel) else { continue };
            if last > channel.last {
                let first = run.first.min(channel.last.next());
                channel.last = last;
                self.report(
                    SegmentNumber(0),
                    run.channel,
                    (first, last),
                    "acknowledged messages are lost",
                );
            }
        }
    }
}

fn is_lost(lost: &[(Index, Index)], index: Index) -> bool {
    lost.iter().any(|(first, last)| (*first..=*last).contains(&index))
}

impl<D: Disk> Shard<D> {
    /// Makes the shard that recovery found.
    pub(crate) fn new(
        id: ShardId,
        recovered: Recovered<D::File>,
        config: ShardConfig,
        mut rng: fastrand::Rng,
        now: Now,
    ) -> Self {
        let mut state = Rebuilding::start(&recovered.checkpoint, id, &config, now);
        let lost = &recovered.verdict.lost;
        for record in recovered.frames.iter().flat_map(|frame| &frame.states) {
            if let StateRecord::ChannelCreated { id, name } = record {
                state.names.insert(*id, name.clone());
            }
        }
        for frame in &recovered.frames {
            let before = Index(frame.header.index.0 - 1);
            if let Some(table) = frame.previous_table.as_ref().filter(|_| is_lost(lost, before)) {
                state.apply_lost_table(table);
            }
            state.apply_frame(frame);
        }
        if let Some(superblock) = &recovered.superblock {
            let slot = superblock.newest();
            state.clock_time = state.clock_time.max(slot.clock);
            let table = Table::record_count(&slot.hint_table)
                .and_then(|count| Table::decode(&slot.hint_table, count).map(|found| found.0));
            if let Some(table) = table.filter(|_| is_lost(lost, slot.hint.index)) {
                state.apply_lost_table(&table);
            }
        }
        state.report_lost(lost, &recovered.damaged_headers);
        let doubted = recovered.doubted_headers.clone();
        let seed = rng.u64(..);
        let mut shard =
            Self::assemble(id, recovered, config, fastrand::Rng::with_seed(seed), state);
        shard.settle();
        for number in doubted {
            if shard.segments.get(&number).is_some_and(|segment| segment.live_messages > 0) {
                shard.damage.push(Damage::of_segment(id, number, BAD_HEADER));
            }
        }
        shard
    }

    fn assemble(
        id: ShardId,
        recovered: Recovered<D::File>,
        config: ShardConfig,
        rng: fastrand::Rng,
        state: Rebuilding,
    ) -> Self {
        let as_of = recovered.checkpoint.head.end.index;
        let newest =
            recovered.checkpoint_number.filter(|_| as_of > Index(0)).map(|number| (number, as_of));
        let hint = recovered.superblock.as_ref().map(|superblock| superblock.newest().hint.index);
        let cache_bytes = config.cache_bytes;
        let replayed = recovered.frames.iter().map(|frame| frame.header.length_bytes() as u64);
        let replayed_bytes = replayed.sum();
        let checkpoints =
            CheckpointState::recovered(&recovered.checkpoints, newest, replayed_bytes);
        Self {
            id,
            log: Log::new(id, config.store.clone(), config.tuning, recovered.term, recovered.end),
            channels: state.channels,
            frames: state.frames,
            stored: Stored::default(),
            clients: state
                .clients
                .into_values()
                .map(|client| (client.id.clone(), client))
                .collect(),
            last_incarnation: state.last_incarnation,
            subscriptions: state.subscriptions.finish(),
            lost: state.lost,
            rng,
            // Messages are stamped by the wall clock, which may have jumped: their time counts only where there is no
            // other, before the first hint, and then the oldest one's, by which none is old.
            clock: RetentionClock::new(match (state.clock_time, state.oldest_time) {
                (Timestamp(0), Some(oldest)) => oldest,
                (time, _) => time,
            }),
            superblock: recovered.superblock,
            segments: recovered.segments,
            spare: recovered.spare,
            next_segment: recovered.next_segment,
            clustering: ClusteringState::new(recovered.replaced, checkpoints.next_number()),
            checkpoints,
            tail: FrameCache::new(cache_bytes),
            history: FrameCache::new(cache_bytes / 2),
            footers: FooterCache::new(cache_bytes / 4),
            reads: ReadQueue::default(),
            misplaced: BTreeSet::new(),
            bad_records: BTreeSet::new(),
            skipped: BTreeSet::new(),
            waiting: VecDeque::new(),
            answers: Vec::new(),
            lookups: Vec::new(),
            made: Vec::new(),
            trimmed: BTreeSet::new(),
            lazy_since: None,
            swept: Monotonic(0),
            hint: HintState { written: hint.unwrap_or_default(), ..HintState::default() },
            is_full: false,
            is_leaving_to_footer: false,
            damage: DamageList::recovered(state.damage),
            config,
        }
    }

    /// What follows from the rebuilt state: counts, limits, slots.
    fn settle(&mut self) {
        let (segments, frames) = (&self.segments, &self.frames);
        for place in self.channels.places() {
            let channel = self.channels.in_place_mut(place).expect("listed just now");
            // A checkpoint knows segments whose files are gone or have lost their headers.
            for (segment, first, last) in
                channel.index.take_missing(|segment| segments.contains_key(&segment), frames)
            {
                self.damage.push(Damage {
                    shard: self.id,
                    segment,
                    channel: place.id,
                    name: channel.name.to_string(),
                    first,
                    last,
                    what: "acknowledged messages are in a segment that is gone",
                });
            }
            channel.committed = channel.last;
            channel.recount(frames);
            self.stored.replace(Stored::default(), Stored::of(channel));
            channel.first = channel.index.first().unwrap_or(channel.last.next()).max(channel.first);
            self.config.slots.take_existing();
        }
        self.finish_leaving();
        self.count_live();
        for place in self.channels.places() {
            self.trim_channel(place.id);
        }
    }
}
