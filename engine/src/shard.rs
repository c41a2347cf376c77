//! A shard: channels, clients and subscriptions over one log, as a plain state machine.
//!
//! Requests change its state at once and append what they changed to the open batch; what they answer comes out of
//! `take_answers` when that batch is on disk. `storage` does the waiting: it carries out writes and reads and brings
//! their ends back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use compact_str::CompactString;

use crate::channel::{ChannelPlace, Channels, NameLookup, TOUCHED_TOGETHER};
use crate::clock::RetentionClock;
use crate::disk::Disk;
use crate::error::{Damage, DiskError, RequestError};
use crate::format::TableRun;
use crate::format::blocks::StoreBlock;
use crate::index::frames::{FrameList, FrameNote};
use crate::index::runs::Run;
use crate::limits::ChannelLimitRules;
use crate::log::batch::{BatchRun, Times};
use crate::log::cache::{FrameCache, FramePlace};
use crate::log::segment::Segment;
use crate::log::{FrameWrite, Log, Need, SealedBatch};
use crate::ranges::Ranges;
use crate::record::StateRecord;
use crate::request::{Answer, Client, ClientKey, Sink, Subscribe, Ticket};
use crate::storage::{ChannelSlots, Tuning};
use crate::subscriptions::{PositionScope, Subscriptions};
use crate::superblock::SuperblockFile;
use crate::types::{
    ChannelId, Index, Monotonic, Now, SegmentNumber, Sequence, ShardId, SubscriptionId, Timestamp,
};

mod checkpoints;
mod clustering;
mod damage;
mod hints;
mod publish;
mod read_queue;
mod reads;
mod recovered;
mod report;
mod requests;
mod salvage;
mod space;
mod turns;

use checkpoints::CheckpointState;
pub(crate) use checkpoints::CheckpointWork;
use clustering::ClusteringState;
use damage::DamageList;
pub use damage::MissingMessages;
use hints::HintState;
pub(crate) use read_queue::ReadKey;
use read_queue::ReadQueue;
use reads::{FooterCache, MessageView, Skipped};
pub(crate) use reads::{ReadResult, ReadWork};
pub use report::{ChannelView, Lag, ShardTotals, Stored};
pub(crate) use space::FooterWork;

/// Positions of subscriptions ride with the next batch; alone they wait this long.
const POSITIONS_WAIT_MS: u64 = 10;
/// The same of subscriptions that die with their client.
const PLAIN_POSITIONS_WAIT_MS: u64 = 100;
/// Records that nobody waits for ride with the next batch; alone they wait this long.
const LAZY_WAIT_MS: u64 = 1_000;
/// How often ages and idle channels are looked at.
const SWEEP_MS: u64 = 1_000;
/// At most this many messages are delivered in one call of `dispatch`.
const DISPATCH_BUDGET: usize = 512;

/// What a shard needs to know from outside.
#[derive(Debug, Clone)]
pub(crate) struct ShardConfig {
    pub store: StoreBlock,
    pub limits: ChannelLimitRules,
    pub slots: ChannelSlots,
    /// Bytes of cached frames, newest and read back.
    pub cache_bytes: usize,
    /// Bytes of log between two checkpoints.
    pub checkpoint_bytes: u64,
    /// Sizes of segments.
    pub tuning: Tuning,
}

/// What `dispatch` left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatched {
    /// Nothing can be delivered before something else happens.
    Idle,
    /// The budget of this call is used up: call again after others had their turn.
    More,
}

/// A shard's state, without any waiting in it.
pub struct Shard<D: Disk> {
    pub(crate) id: ShardId,
    pub(crate) config: ShardConfig,
    pub(crate) log: Log<D::File>,
    channels: Channels,
    /// The frames of the channels' runs.
    frames: FrameList,
    /// What all channels keep.
    stored: Stored,
    clients: BTreeMap<String, Client>,
    last_incarnation: u64,
    subscriptions: Subscriptions,
    /// Messages that were lost in another store, of which this one is the copy.
    lost: BTreeMap<ChannelId, Ranges>,
    rng: fastrand::Rng,
    clock: RetentionClock,

    pub(crate) superblock: Option<SuperblockFile<D::File>>,
    pub(crate) segments: BTreeMap<SegmentNumber, Segment<D::File>>,
    pub(crate) spare: Vec<(SegmentNumber, Rc<D::File>)>,
    pub(crate) next_segment: SegmentNumber,
    checkpoints: CheckpointState,
    clustering: ClusteringState<D::File>,

    tail: FrameCache,
    history: FrameCache,
    footers: FooterCache,
    reads: ReadQueue,
    /// Places where another frame than the index's was found, to be reported.
    misplaced: BTreeSet<FramePlace>,
    /// Records whose checksum was wrong when they were taken, to be reported.
    bad_records: BTreeSet<(SegmentNumber, ChannelId, Sequence)>,
    /// Messages that are in nothing that can be read, to be reported.
    skipped: BTreeSet<Skipped>,

    /// Answers that wait for an index, in its order.
    waiting: VecDeque<(Index, Ticket, Answer)>,
    answers: Vec<(Ticket, Answer)>,
    /// Subscriptions whose start depends on a read.
    lookups: Vec<(Subscribe, Ticket)>,
    /// Channels made in the open batch: the next one repeats their names.
    made: Vec<(Index, ChannelId, CompactString)>,
    trimmed: BTreeSet<ChannelId>,
    lazy_since: Option<Monotonic>,
    swept: Monotonic,
    hint: HintState,
    is_full: bool,
    /// Whether a segment's runs are on their way out of memory.
    is_leaving_to_footer: bool,
    damage: DamageList,
}

impl<D: Disk> Shard<D> {
    /// Its number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The index that what is appended now will have.
    pub fn open_index(&self) -> Index {
        self.log.open_index()
    }

    /// The last index that is on disk with all before it.
    pub fn committed(&self) -> Index {
        self.log.committed()
    }

    /// Why no more is written, if so. Then all that is not committed never will be.
    pub fn failure(&self) -> Option<RequestError> {
        self.log.finished().map(|error| RequestError::LogFinished(error.clone()))
    }

    /// Bytes appended that are not committed: what backpressure looks at.
    pub fn uncommitted_bytes(&self) -> usize {
        self.log.uncommitted_bytes()
    }

    /// Channels there are.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// First, last sequence and number of messages of a channel, as committed.
    pub fn channel_bounds(&self, name: &str) -> Option<(Sequence, Sequence, u64)> {
        match self.channels.look_up(name) {
            NameLookup::Found(id) => {
                self.channels.get(id).map(|c| (c.first, c.committed, c.messages))
            }
            _ => None,
        }
    }

    /// Whether the wall clock jumped and age limits are judged by time since then, until it was steady for a while.
    pub fn is_clock_doubted(&self) -> bool {
        self.clock.is_doubting()
    }

    /// Damage found since the last call, each once.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        self.report_misplaced();
        self.report_bad_records();
        self.report_skipped();
        self.damage.take()
    }

    /// Appends a state record that somebody waits for.
    fn append(&mut self, record: &StateRecord) {
        self.log.push_state(record, true);
    }

    /// The answer goes out when all that is appended now is on disk.
    fn answer_when_committed(&mut self, ticket: Ticket, answer: Answer) {
        let index = self.log.last_index();
        if index <= self.log.committed() {
            self.answers.push((ticket, answer));
        } else {
            // The open batch may hold only what nobody waited for so far.
            self.log.make_urgent();
            self.waiting.push_back((index, ticket, answer));
        }
    }

    /// The answers that are due, oldest first.
    pub fn take_answers(&mut self) -> Vec<(Ticket, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// Delivers what can be delivered now, up to a budget.
    pub fn dispatch(&mut self, now: Now, sink: &mut impl Sink) -> Dispatched {
        let mut view = MessageView {
            channels: &mut self.channels,
            tail: &self.tail,
            history: &self.history,
            footers: &self.footers,
            reads: &mut self.reads,
            misplaced: &mut self.misplaced,
            bad_records: &mut self.bad_records,
            skipped: &mut self.skipped,
            segments: &self.segments,
            frames: &self.frames,
            held: None,
        };
        self.subscriptions.dispatch(now, &mut view, sink, DISPATCH_BUDGET)
    }

    /// There is room again for this subscription.
    pub fn resume(&mut self, id: SubscriptionId) {
        self.subscriptions.resume(id);
    }

    /// When `tick` wants to be called next.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.log.finished().is_some() {
            return self.subscriptions.next_deadline();
        }
        // What has no room is not waited for.
        let has_room = !self.is_out_of_room();
        let positions = self
            .subscriptions
            .positions_dirty_since()
            .filter(|_| has_room)
            .map(|since| since.after_ms(POSITIONS_WAIT_MS));
        let plain = self.subscriptions.plain_positions_dirty_since().filter(|_| has_room);
        let plain = plain.map(|since| since.after_ms(PLAIN_POSITIONS_WAIT_MS));
        let lazy = self.lazy_since.map(|since| since.after_ms(LAZY_WAIT_MS));
        let has_sweep = self.config.limits.has_time_limit();
        let sweep = (has_sweep && self.channels.len() > 0).then(|| self.swept.after_ms(SWEEP_MS));
        let hint = (self.hint.written < self.log.committed() && !self.hint.is_due)
            .then(|| self.hint_deadline());
        let clustering = self.clustering_deadline();
        [positions, plain, lazy, sweep, hint, clustering, self.subscriptions.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed: redelivery, age limits, positions to log, idle channels. Then call `dispatch`.
    pub fn tick(&mut self, now: Now) {
        self.subscriptions.tick(now);
        if self.log.finished().is_some() {
            return;
        }
        self.log_due_positions(now);
        if self.lazy_since.is_some_and(|since| since.after_ms(LAZY_WAIT_MS) <= now.mono) {
            self.log.make_urgent();
            self.lazy_since = None;
        }
        if self.swept.after_ms(SWEEP_MS) <= now.mono {
            self.swept = now.mono;
            self.sweep(now);
        }
        if self.hint.written < self.log.committed() && self.hint_deadline() <= now.mono {
            self.hint.is_due = true;
        }
        self.tick_clustering(now);
    }

    /// Whether the disk is full and the reserve used: positions stay in memory until there is room again.
    fn is_out_of_room(&self) -> bool {
        self.is_full && !self.log.has_room(0, Need::State)
    }

    fn log_positions(&mut self, scope: PositionScope) {
        let mut journal = requests::Journaled { log: &mut self.log };
        self.subscriptions.log_positions(scope, &mut journal);
    }

    /// Logs the positions whose time has come: durable ones soon, those that die with their client now and then, so
    /// that a live client goes on about where it was after a restart of the server.
    fn log_due_positions(&mut self, now: Now) {
        if self.is_out_of_room() {
            return;
        }
        let is_due = |since: Option<Monotonic>, wait_ms| {
            since.is_some_and(|since| since.after_ms(wait_ms) <= now.mono)
        };
        if is_due(self.subscriptions.plain_positions_dirty_since(), PLAIN_POSITIONS_WAIT_MS) {
            self.log_positions(PositionScope::All);
        } else if is_due(self.subscriptions.positions_dirty_since(), POSITIONS_WAIT_MS) {
            self.log_positions(PositionScope::Durable);
        }
    }

    /// Seals the next batch, if one waits and has a place.
    pub(crate) fn seal(&mut self, now: Now) -> Option<FrameWrite<D::File>> {
        self.log_due_positions(now);
        self.log_trims();
        let (write, sealed) = self.log.seal(now.mono)?;
        self.place(sealed);
        self.repeat_names(write.index, now);
        self.take_checkpoint_if_due(now);
        Some(write)
    }

    /// A sealed batch has its place: the index and the cache learn it.
    fn place(&mut self, sealed: SealedBatch<D::File>) {
        if let Some(rolled) = sealed.rolled {
            self.segment_rolled(rolled);
        }
        if let Some(opened) = sealed.opened {
            self.segment_opened(opened);
        }
        let runs = self.log.sealed_runs();
        if !runs.is_empty() {
            let (segment, block) = sealed.place;
            let Times { first: first_time, last: last_time } = sealed.times;
            let frame = self.frames.push(FrameNote { segment, block, first_time, last_time });
            let (mut count, mut size_bytes) = (0, 0);
            for runs in runs.chunks(TOUCHED_TOGETHER) {
                self.channels.touch_to_seal(runs);
                for BatchRun { slot, table, bytes } in runs {
                    count += u64::from(table.count);
                    size_bytes += u64::from(*bytes);
                    let place = ChannelPlace { id: table.channel, slot: *slot };
                    if let Some(channel) = self.channels.in_place_mut(place) {
                        let TableRun { first, count, .. } = *table;
                        channel.index.push(Run { first, count, bytes: *bytes, frame });
                    }
                }
            }
            let segment = self.segments.get_mut(&segment).expect("frames go to the open segment");
            segment.live_messages += count;
            segment.live_bytes += size_bytes;
        }
        self.checkpoints.log_bytes += sealed.frame.records.as_slice().len() as u64;
        self.tail.insert(sealed.place, sealed.frame);
    }

    /// Names of channels made in the sealed batch stand once more in the next: no block is their only copy.
    fn repeat_names(&mut self, sealed: Index, now: Now) {
        let made = std::mem::take(&mut self.made);
        for (index, id, name) in made {
            if index > sealed {
                self.made.push((index, id, name));
            } else {
                self.log
                    .push_state(&StateRecord::ChannelCreated { id, name: name.to_string() }, false);
            }
        }
        if self.log.has_lazy_records() {
            self.lazy_since.get_or_insert(now.mono);
        }
    }

    /// A frame's write ended.
    pub(crate) fn written(&mut self, index: Index, result: Result<(), DiskError>, now: Now) {
        self.log.complete(index, result);
        while let Some(batch) = self.log.next_committed() {
            for runs in batch.runs.chunks(TOUCHED_TOGETHER) {
                self.channels.touch_to_commit(runs);
                runs.iter().for_each(|run| self.run_committed(run));
            }
            self.hint.last_commit = now.mono;
        }
        self.release_answers();
    }

    fn run_committed(&mut self, run: &BatchRun) {
        let id = run.table.channel;
        let Some(channel) = self.channels.in_place_mut(ChannelPlace { id, slot: run.slot }) else {
            return;
        };
        channel.commit(run);
        self.stored.messages += u64::from(run.table.count);
        self.stored.bytes += u64::from(run.bytes);
        let is_over = channel.is_over();
        self.subscriptions.channel_committed(id);
        if is_over {
            self.trim_channel(id);
        }
    }

    /// Whether answers wait for commits.
    pub(crate) fn owes_answers(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn release_answers(&mut self) {
        if let Some(failure) = self.failure() {
            let waiting = std::mem::take(&mut self.waiting);
            self.answers.extend(
                waiting
                    .into_iter()
                    .map(|(_, ticket, _)| (ticket, Answer::Refused(failure.clone()))),
            );
            let lookups = std::mem::take(&mut self.lookups);
            self.answers.extend(
                lookups.into_iter().map(|(_, ticket)| (ticket, Answer::Refused(failure.clone()))),
            );
            return;
        }
        while let Some((index, ..)) = self.waiting.front() {
            if *index > self.log.committed() {
                break;
            }
            let (_, ticket, answer) = self.waiting.pop_front().expect("looked at above");
            self.answers.push((ticket, answer));
        }
    }

    /// A write that the log depends on failed: nothing more is committed.
    pub(crate) fn fail(&mut self, error: DiskError) {
        self.log.finish(error);
        self.release_answers();
    }

    /// Whether the disk has no room for another segment.
    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Everything that waits for company goes out now: the core stops.
    pub(crate) fn prepare_close(&mut self) {
        if self.log.finished().is_none() {
            self.log_positions(PositionScope::All);
            self.log_trims();
            self.log.make_urgent();
        }
    }

    /// Whether something is appended that may still get committed.
    pub(crate) fn is_uncommitted(&self) -> bool {
        self.log.finished().is_none()
            && self.log.last_index() > self.log.committed()
            && !(self.is_full && self.log.lacks_segment())
    }

    /// The registered client of this id (home shard only).
    pub fn client(&self, id: &str) -> Option<&Client> {
        self.clients.get(id)
    }

    /// All clients whose home is this shard, in order of id.
    pub fn clients(&self) -> Vec<Client> {
        self.clients.values().cloned().collect()
    }

    /// The clients that own subscriptions in this shard (for the check at open).
    pub fn subscribed_clients(&self) -> Vec<ClientKey> {
        self.subscriptions.clients()
    }

    /// A subscriber's ack. Unknown ones are ignored.
    pub fn ack(&mut self, id: SubscriptionId, token: u64, sequence: Sequence, now: Now) {
        self.subscriptions.ack(id, token, sequence, now.mono);
    }

    /// A client answered its heartbeat again, or failed to: redelivery to it waits while it does not.
    pub fn set_client_responsive(&mut self, client: ClientKey, is_responsive: bool) {
        self.subscriptions.set_client_responsive(client, is_responsive);
    }

    /// Lets deliveries begin: the subscriber knows its subscription now.
    pub fn activate(&mut self, id: SubscriptionId, _now: Now) {
        self.subscriptions.activate(id);
    }

    /// The time of the newest message or of the clock, for the superblock.
    pub(crate) fn clock_time(&mut self, now: Now) -> Timestamp {
        self.clock.advance(now)
    }
}
