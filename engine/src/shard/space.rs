//! Space: what limits remove, which segments are sealed, which are dead.

use std::rc::Rc;

use super::{Shard, Stored};
use crate::disk::Disk;
use crate::format::footer::put_footer;
use crate::index::{Run, Taken};
use crate::limits::ChannelLimitRules;
use crate::log::segment::{Segment, SegmentState};
use crate::log::{OpenedSegment, RolledSegment};
use crate::record::StateRecord;
use crate::types::{ChannelId, FastMap, Index, Now, Position, SegmentNumber};

/// Dead files kept for the next segments; more are removed.
const SPARE_FILES_MAX: usize = 2;

/// A footer to be written.
pub(crate) struct FooterWork<F> {
    pub segment: SegmentNumber,
    pub file: Rc<F>,
    pub position: Position,
    pub bytes: Vec<u8>,
    /// Whether what lies behind the footer may be given back: not from a damaged file.
    pub may_be_cut: bool,
}

impl<D: Disk> Shard<D> {
    pub(super) fn segment_opened(&mut self, opened: OpenedSegment<D::File>) {
        let segment = Segment {
            file: opened.file,
            generation: opened.generation,
            state: SegmentState::Active,
            end: Position(0),
            last_index: Index(0),
            live_messages: 0,
            is_damaged: false,
        };
        let old = self.segments.insert(opened.number, segment);
        assert!(old.is_none(), "segment numbers are never reused");
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
        let size_of = |run: &Run| {
            Some(u64::from(tail.get((run.segment, run.block))?.record_length(run.record)))
        };
        let segments = &mut self.segments;
        let before = Stored::of(channel);
        channel.trim_to_limits(size_of, |gone| note_gone(segments, gone));
        self.stored.replace(before, Stored::of(channel));
        if channel.is_trim_unlogged {
            self.trimmed.insert(id);
        }
    }

    /// Other limits, for the channels there are and those to come. What they no longer allow goes at once, or by age
    /// within [`SWEEP_MS`](super::SWEEP_MS).
    pub fn set_limits(&mut self, limits: ChannelLimitRules, now: Now) {
        self.config.limits = limits;
        for id in self.channels.ids() {
            let channel = self.channels.get_mut(id).expect("listed just now");
            channel.limits = self.config.limits.of(&channel.name);
            if self.log.finished().is_none() {
                self.trim_channel(id);
            }
        }
        if self.log.finished().is_none() {
            self.log_trims_lazily(now);
        }
    }

    /// Looks at ages and idle channels.
    pub(super) fn sweep(&mut self, now: Now) {
        let clock = self.clock.advance(now);
        for id in self.channels.ids() {
            let channel = self.channels.get_mut(id).expect("listed just now");
            let segments = &mut self.segments;
            let before = Stored::of(channel);
            channel.trim_to_age(clock, |gone| note_gone(segments, gone));
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
        self.config.slots.give_back();
    }

    pub(super) fn drop_channel(&mut self, id: ChannelId) {
        self.subscriptions.end_channel(id);
        if let Some(mut channel) = self.channels.remove(id) {
            self.stored.replace(Stored::of(&channel), Stored::default());
            let after = channel.last.next();
            let segments = &mut self.segments;
            channel.trim_before(after, |gone| note_gone(segments, gone));
        }
        self.trimmed.remove(&id);
    }

    /// What limits removed is logged before its space is used again.
    pub(super) fn log_trims(&mut self) {
        while let Some(id) = self.trimmed.pop_first() {
            if let Some(channel) = self.channels.get_mut(id)
                && std::mem::take(&mut channel.is_trim_unlogged)
            {
                let first = channel.first;
                self.log.push_state(&StateRecord::Trimmed { id, first }, false);
            }
        }
    }

    /// The next footer to write: of the oldest segment that takes no more and is committed.
    pub(crate) fn take_footer(&mut self) -> Option<FooterWork<D::File>> {
        if self.segments.values().any(|segment| segment.state == SegmentState::Sealing) {
            return None;
        }
        let committed = self.log.committed();
        let (number, segment) =
            self.segments.iter_mut().find(|(_, segment)| segment.state != SegmentState::Sealed)?;
        if segment.state != SegmentState::Rolled || segment.last_index > committed {
            return None;
        }
        segment.state = SegmentState::Sealing;
        let (number, generation) = (*number, segment.generation);
        let (file, position) = (segment.file.clone(), segment.end);
        let may_be_cut = !segment.is_damaged;
        let mut channels = Vec::new();
        for id in self.channels.ids() {
            let channel = self.channels.get(id).expect("listed just now");
            let runs: Vec<_> = channel.index.runs_of(number).copied().collect();
            if !runs.is_empty() {
                channels.push((id, channel.name.as_ref(), runs));
            }
        }
        Some(FooterWork {
            segment: number,
            file,
            position,
            bytes: put_footer(generation, number, &channels),
            may_be_cut,
        })
    }

    /// A footer is on disk: its part of the index leaves memory.
    pub(crate) fn footer_written(&mut self, number: SegmentNumber) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        assert_eq!(segment.state, SegmentState::Sealing);
        segment.state = SegmentState::Sealed;
        for id in self.channels.ids() {
            if let Some(channel) = self.channels.get_mut(id)
                && channel.index.runs.front().is_some_and(|run| run.segment == number)
            {
                channel.index.seal(number);
            }
        }
    }

    /// Segments whose messages are all gone and whose state records are dead: behind the older checkpoint. Their files
    /// become spare ones.
    pub(crate) fn collect_dead(&mut self) {
        let behind = self.checkpoints.older_as_of();
        let is_dead = |segment: &Segment<D::File>| {
            segment.state == SegmentState::Sealed
                && segment.live_messages == 0
                && segment.last_index <= behind
        };
        let dead: Vec<_> =
            self.segments.iter().filter(|(_, segment)| is_dead(segment)).map(|(n, _)| *n).collect();
        for number in dead {
            let segment = self.segments.remove(&number).expect("listed just now");
            self.tail.forget_segment(number);
            self.history.forget_segment(number);
            self.footers.forget(number);
            self.spare.push((number, segment.file));
        }
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
        let mut live: FastMap<SegmentNumber, u64> = FastMap::default();
        for id in self.channels.ids() {
            let index = &self.channels.get(id).expect("listed just now").index;
            for part in &index.sealed {
                *live.entry(part.segment).or_default() += part.count;
            }
            for run in &index.runs {
                *live.entry(run.segment).or_default() += u64::from(run.count);
            }
        }
        for (number, segment) in &mut self.segments {
            segment.live_messages = live.get(number).copied().unwrap_or(0);
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
    }
}
