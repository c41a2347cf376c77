//! Space: what limits remove, which segments are sealed, which are dead.

use std::rc::Rc;

use super::turns::Turns;
use super::{Shard, Stored};
use crate::disk::Disk;
use crate::format::count_u32;
use crate::format::footer::FooterWriter;
use crate::index::Taken;
use crate::index::frames::FrameNumber;
use crate::index::runs::{Run, Totals};
use crate::limits::ChannelLimitRules;
use crate::log::segment::{Segment, SegmentState};
use crate::log::{OpenedSegment, RolledSegment};
use crate::record::StateRecord;
use crate::types::{ChannelId, FastMap, Now, Position, SegmentNumber};

/// Dead files kept for the next segments; more are removed.
const SPARE_FILES_MAX: usize = 2;

/// A footer to be written.
pub(crate) struct FooterWork<F> {
    pub segment: SegmentNumber,
    pub file: Rc<F>,
    pub position: Position,
    /// Whether what lies behind the footer may be given back: not from a damaged file.
    pub may_be_cut: bool,
    /// The number behind the last of its frames.
    frames_end: FrameNumber,
    turns: Turns,
    writer: FooterWriter,
    runs_count: u32,
}

impl<D: Disk> Shard<D> {
    pub(super) fn segment_opened(&mut self, opened: OpenedSegment<D::File>) {
        let segment = Segment::new(opened.file, opened.generation, SegmentState::Active);
        let old = self.segments.insert(opened.number, segment);
        assert!(old.is_none(), "segment numbers are never reused");
    }

    /// Whether the disk has no room for another segment.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// The size of the segment that should be made ready now, if one should be. Costs by the number of segments if so.
    pub(crate) fn wants_segment(&mut self) -> Option<u64> {
        let Self { log, segments, .. } = self;
        log.wants_segment(|| segments.values().map(|segment| segment.end.0).sum())
    }

    pub(super) fn segment_rolled(&mut self, rolled: RolledSegment) {
        let segment = self.segments.get_mut(&rolled.number).expect("it took frames");
        assert_eq!(segment.state, SegmentState::Active);
        segment.state = SegmentState::Rolled;
        segment.end = rolled.end;
        self.hint.is_due = true;
        segment.last_index = rolled.last_index;
    }

    /// Applies a channel's limits after a commit.
    pub(super) fn trim_channel(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let tail = &self.tail;
        let frames = &self.frames;
        let size_of = |run: &Run| {
            let frame = tail.get(frames.of(run).place())?;
            Some(u64::from(frame.record_length(frame.record_of(id, run)?)))
        };
        let segments = &mut self.segments;
        let before = Stored::of(channel);
        channel.trim_to_limits(frames, size_of, |gone| note_gone(segments, gone));
        self.stored.replace(before, Stored::of(channel));
        if channel.is_trim_unlogged {
            self.trimmed.insert(id);
        }
    }

    /// Other limits, for the channels there are and those to come. What they no longer allow goes at once, or by age
    /// within [`SWEEP_MS`](super::SWEEP_MS).
    pub fn set_limits(&mut self, limits: ChannelLimitRules, now: Now) {
        self.config.limits = limits;
        for place in self.channels.places() {
            let channel = self.channels.in_place_mut(place).expect("listed just now");
            channel.limits = self.config.limits.of(&channel.name);
            if self.log.finished().is_none() {
                self.trim_channel(place.id);
            }
        }
        if self.log.finished().is_none() {
            self.log_trims_lazily(now);
        }
    }

    /// Looks at ages and idle channels.
    pub(super) fn sweep(&mut self, now: Now) {
        let clock = self.clock.advance(now);
        for place in self.channels.places() {
            let channel = self.channels.in_place_mut(place).expect("listed just now");
            let id = place.id;
            let segments = &mut self.segments;
            let before = Stored::of(channel);
            channel.trim_to_age(clock, &self.frames, |gone| note_gone(segments, gone));
            self.stored.replace(before, Stored::of(channel));
            if channel.is_trim_unlogged {
                self.trimmed.insert(id);
            }
            let idle_ms = channel.limits.inactivity_ms_max;
            if self.subscriptions.has_active(id) {
                channel.last_used = now.mono;
            } else if idle_ms > 0 && channel.last_used.after_ms(idle_ms) <= now.mono {
                let is_settled = channel.last == channel.committed;
                if is_settled {
                    self.delete_channel(id);
                }
            }
        }
        self.log_trims_lazily(now);
    }

    /// Logs what was trimmed, with the next batch or a while from now.
    fn log_trims_lazily(&mut self, now: Now) {
        if !self.trimmed.is_empty() {
            self.log_trims();
            self.lazy_since.get_or_insert(now.mono);
        }
    }

    /// Forgets a channel with its messages and subscriptions.
    fn delete_channel(&mut self, id: ChannelId) {
        self.append(&StateRecord::ChannelDeleted { id });
        self.drop_channel(id);
        self.look_for_clustering();
        self.config.slots.give_back();
    }

    pub(super) fn drop_channel(&mut self, id: ChannelId) {
        self.subscriptions.end_channel(id);
        if let Some(mut channel) = self.channels.remove(id) {
            self.stored.replace(Stored::of(&channel), Stored::default());
            let after = channel.last.next();
            let segments = &mut self.segments;
            channel.trim_before(after, &self.frames, |gone| note_gone(segments, gone));
        }
        self.trimmed.remove(&id);
        self.lost.remove(&id);
    }

    /// What limits removed is logged before its space is used again.
    pub(super) fn log_trims(&mut self) {
        if self.trimmed.is_empty() {
            return;
        }
        self.look_for_clustering();
        while let Some(id) = self.trimmed.pop_first() {
            if let Some(channel) = self.channels.get_mut(id)
                && std::mem::take(&mut channel.is_trim_unlogged)
            {
                let first = channel.first;
                self.log.push_state(&StateRecord::Trimmed { id, first }, false);
            }
        }
        self.note_emptied();
    }

    /// All that was removed so far is logged: segments that are empty now are so for recovery too, once that is on disk.
    fn note_emptied(&mut self) {
        let known = self.log.last_index();
        for segment in self.segments.values_mut() {
            if segment.live_messages == 0 && segment.state == SegmentState::Sealed {
                segment.emptied.get_or_insert(known);
            }
        }
    }

    /// The next footer to write: of the oldest segment that takes no more and is committed.
    pub(crate) fn take_footer(&mut self) -> Option<FooterWork<D::File>> {
        let is_busy = self.segments.values().any(|segment| segment.state == SegmentState::Sealing);
        if is_busy || self.is_leaving_to_footer {
            return None;
        }
        let committed = self.log.committed();
        let (number, segment) =
            self.segments.iter_mut().find(|(_, segment)| segment.state != SegmentState::Sealed)?;
        if segment.state != SegmentState::Rolled || segment.last_index > committed {
            return None;
        }
        segment.state = SegmentState::Sealing;
        Some(FooterWork {
            segment: *number,
            file: segment.file.clone(),
            position: segment.end,
            frames_end: self.frames.end_of(*number),
            may_be_cut: !segment.is_damaged,
            turns: Turns::of(&self.channels),
            writer: FooterWriter::default(),
            runs_count: 0,
        })
    }

    /// Puts some more channels into the footer; when all are in, its bytes.
    pub(crate) fn go_on_with_footer(&self, work: &mut FooterWork<D::File>) -> Option<Vec<u8>> {
        let base = self.frames.base();
        for place in work.turns.next() {
            if let Some(channel) = self.channels.in_place(*place) {
                let runs = channel.index.runs.iter();
                let runs = runs.take_while(|run| run.frame < work.frames_end);
                work.writer.channel(place.id, &channel.name, base, runs);
            }
        }
        if !work.turns.are_over() {
            return None;
        }
        work.turns.begin_again();
        work.runs_count = work.writer.runs_count();
        let generation = self.segments.get(&work.segment)?.generation;
        let count = usize::try_from(work.frames_end.0 - base.0).expect("a segment's frames");
        let frames = self.frames.iter().take(count);
        Some(std::mem::take(&mut work.writer).finish(generation, work.segment, frames))
    }

    /// The footer is on disk: some more channels' part of the index leaves memory. True when all have. A checkpoint that
    /// is taken meanwhile finds some channels' part there and some others' in memory; see [`finish_leaving`].
    ///
    /// [`finish_leaving`]: Self::finish_leaving
    pub(crate) fn leave_to_footer(&mut self, work: &mut FooterWork<D::File>) -> bool {
        self.is_leaving_to_footer = true;
        if let Some(segment) = self.segments.get_mut(&work.segment) {
            segment.state = SegmentState::Sealed;
        }
        for place in work.turns.next() {
            if let Some(channel) = self.channels.in_place_mut(*place)
                && channel.index.runs.front().is_some_and(|run| run.frame < work.frames_end)
            {
                channel.index.seal(work.segment, work.frames_end, &self.frames);
            }
        }
        if !work.turns.are_over() {
            return false;
        }
        self.frames.forget_before(work.frames_end);
        self.is_leaving_to_footer = false;
        if let Some(segment) = self.segments.get_mut(&work.segment) {
            segment.record_bytes = segment.live_bytes;
            segment.runs_count = work.runs_count;
            segment.sealed_since = self.checkpoints.next_number();
        }
        self.look_for_clustering();
        true
    }

    /// At open: what a sealed segment's footer has does not stay in memory, however far a server got with that before
    /// it was killed.
    pub(super) fn finish_leaving(&mut self) {
        let is_sealed = |segment: &Segment<D::File>| segment.state == SegmentState::Sealed;
        let sealed: Vec<_> = self
            .segments
            .iter()
            .filter(|(_, segment)| is_sealed(segment))
            .map(|(n, _)| *n)
            .collect();
        for segment in sealed {
            let end = self.frames.end_of(segment);
            if end == self.frames.base() {
                continue;
            }
            let mut runs_count = 0;
            for place in self.channels.places() {
                let channel = self.channels.in_place_mut(place).expect("listed just now");
                runs_count += channel.index.runs.iter().take_while(|run| run.frame < end).count();
                channel.index.seal(segment, end, &self.frames);
            }
            self.frames.forget_before(end);
            if let Some(segment) = self.segments.get_mut(&segment) {
                segment.runs_count = segment.runs_count.max(count_u32(runs_count));
                segment.sealed_since = self.checkpoints.next_number();
            }
        }
    }

    /// Segments whose messages are all gone and whose state records are dead: behind the older checkpoint. Their files
    /// become spare ones. How many of them had messages.
    pub(crate) fn collect_dead(&mut self, now: Now) -> u64 {
        if self.log.finished().is_none() {
            self.log_trims_lazily(now);
            self.note_emptied();
        }
        let (_, behind) = self.checkpoints.older();
        let committed = self.log.committed();
        let is_dead = |segment: &Segment<D::File>| {
            segment.state == SegmentState::Sealed
                && segment.live_messages == 0
                && segment.emptied.is_some_and(|known| known <= committed)
                && segment.last_index <= behind
        };
        let dead = self.segments.iter().filter(|(_, segment)| is_dead(segment));
        let dead = dead.map(|(number, _)| *number);
        let dead: Vec<_> = dead.filter(|number| !self.is_being_clustered(*number)).collect();
        let mut emptied_count = 0;
        for number in dead {
            let segment = self.segments.remove(&number).expect("listed just now");
            emptied_count += u64::from(segment.record_bytes > 0);
            self.tail.forget_segment(number);
            self.history.forget_segment(number);
            self.footers.forget(number);
            self.spare.push((number, segment.file));
        }
        self.collect_replaced();
        emptied_count
    }

    /// Whether segments wait only for a checkpoint to be dead.
    pub(super) fn has_nearly_dead(&self) -> bool {
        self.segments
            .values()
            .any(|segment| segment.state == SegmentState::Sealed && segment.live_messages == 0)
    }

    /// A spare file beyond those that are kept for new segments.
    pub(crate) fn take_surplus(&mut self) -> Option<(SegmentNumber, Rc<D::File>)> {
        (self.spare.len() > SPARE_FILES_MAX).then(|| self.spare.remove(0))
    }

    /// Counts again which segments have live messages, from the index.
    pub(super) fn count_live(&mut self) {
        let mut live: FastMap<SegmentNumber, Totals> = FastMap::default();
        for channel in self.channels.iter() {
            channel.index.for_each_segment(&self.frames, |segment, totals| {
                let known = live.entry(segment).or_default();
                known.count = known.count.saturating_add(totals.count);
                known.bytes = known.bytes.saturating_add(totals.bytes);
            });
        }
        for (number, segment) in &mut self.segments {
            let live = live.get(number).copied().unwrap_or_default();
            (segment.live_messages, segment.live_bytes) = (live.count, live.bytes);
            if segment.record_bytes == 0 {
                segment.record_bytes = live.bytes;
            }
        }
    }
}

/// Messages of a segment are gone.
pub(super) fn note_gone<F>(
    segments: &mut std::collections::BTreeMap<SegmentNumber, Segment<F>>,
    gone: Taken,
) {
    if let Some(segment) = segments.get_mut(&gone.segment) {
        segment.live_messages = segment.live_messages.saturating_sub(gone.count);
        segment.live_bytes = segment.live_bytes.saturating_sub(gone.bytes);
    }
}
