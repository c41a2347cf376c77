//! Which segments of a shard are rewritten, and how the index learns of it.

use std::rc::Rc;

use super::Shard;
use super::turns::Turns;
use crate::clustering::choose::{Candidate, choose};
use crate::clustering::{ClusterPlan, Input, Written};
use crate::disk::Disk;
use crate::log::segment::{Segment, SegmentState};
use crate::types::{ChannelId, Generation, Index, Monotonic, Now, SegmentNumber, Sequence};

/// A checkpoint is taken for what only waits for one, after this.
const CHECKPOINT_WAIT_MS: u64 = 2_000;
/// The same where readers of history would gain by it.
const CHECKPOINT_WAIT_OF_READERS_MS: u64 = 250;
/// Between two looks.
const LOOK_WAIT_MS: u64 = 100;

/// Where rewriting stands.
pub(super) struct ClusteringState<F> {
    /// The segments that are being rewritten: their files stay.
    inputs: Vec<SegmentNumber>,
    /// Files of rewritten segments, and the first checkpoint that does not need them.
    replaced: Vec<(SegmentNumber, Rc<F>, u64)>,
    /// Whether something changed since nothing was found to rewrite.
    is_worth_a_look: bool,
    /// Whether it is time to look.
    may_look: bool,
    /// When it was time last.
    looked: Monotonic,
    /// When the next checkpoint is taken for what waits for one.
    checkpoint_due: Option<Monotonic>,
    /// Whether somebody reads of what waits.
    is_hastened: bool,
}

impl<F> ClusteringState<F> {
    /// At open; `replaced` are files whose successors are known by their headers, perhaps by no checkpoint.
    pub(super) fn new(replaced: Vec<(SegmentNumber, Rc<F>)>, next_checkpoint: u64) -> Self {
        let replaced =
            replaced.into_iter().map(|(number, file)| (number, file, next_checkpoint)).collect();
        Self {
            inputs: Vec::new(),
            replaced,
            is_worth_a_look: true,
            may_look: false,
            looked: Monotonic(0),
            checkpoint_due: None,
            is_hastened: false,
        }
    }
}

/// A rewritten segment on its way into the index.
pub(crate) struct Switch<F> {
    plan: ClusterPlan<F>,
    numbers: Vec<SegmentNumber>,
    turns: Turns,
}

impl<D: Disk> Shard<D> {
    /// The next segments to rewrite, if it is worth it.
    pub(crate) fn take_clustering(
        &mut self,
        random: &mut fastrand::Rng,
    ) -> Option<ClusterPlan<D::File>> {
        // A segment whose runs are on their way out of memory is sealed for some channels only.
        let may_look = std::mem::take(&mut self.clustering.may_look) && !self.is_leaving_to_footer;
        if !may_look || self.look_due().is_none() {
            return None;
        }
        self.clustering.is_worth_a_look = false;
        let older = self.checkpoints.older();
        let mut numbers: Vec<_> = self.segments.keys().copied().collect();
        numbers.sort_by_key(|number| self.segments[number].last_index);
        let candidate = |number: &SegmentNumber| {
            let segment = &self.segments[number];
            let is_sealed = segment.state == SegmentState::Sealed;
            Candidate {
                is_eligible: segment.is_settled(older) && !segment.is_damaged,
                is_clustered: segment.is_clustered,
                // One that takes frames, or has no footer yet, is not looked at.
                size_bytes: if is_sealed { segment.end.0 } else { 0 },
                record_bytes: segment.record_bytes,
                live_bytes: segment.live_bytes,
                live_messages: segment.live_messages,
                runs_count: u64::from(segment.runs_count),
            }
        };
        let candidates: Vec<_> = numbers.iter().map(candidate).collect();
        let chosen = choose(&candidates, self.config.tuning.segment_size_bytes_max)?;
        let numbers = numbers.get(chosen)?.to_vec();
        Some(self.plan_clustering(numbers, random))
    }

    fn plan_clustering(
        &mut self,
        numbers: Vec<SegmentNumber>,
        random: &mut fastrand::Rng,
    ) -> ClusterPlan<D::File> {
        let input = |number: &SegmentNumber| {
            let segment = &self.segments[number];
            Input {
                number: *number,
                generation: segment.generation,
                file: segment.file.clone(),
                end: segment.end,
            }
        };
        let inputs = numbers.iter().map(input).collect();
        let last_indexes = numbers.iter().map(|number| self.segments[number].last_index);
        let last_index = last_indexes.max().unwrap_or_default();
        let number = self.next_segment;
        self.next_segment = SegmentNumber(number.0 + 1);
        self.clustering.inputs = numbers;
        ClusterPlan {
            inputs,
            last_index,
            number,
            generation: Generation(random.u64(1..)),
            recycled: self.spare.pop(),
        }
    }

    /// The first sequence that limits have left of a channel; `None`: it is gone.
    pub(crate) fn live_from(&self, channel: ChannelId) -> Option<Sequence> {
        self.channels.get(channel).map(|channel| channel.first)
    }

    /// Logs what limits removed so far; it is on disk when the batch of the returned index is.
    pub(crate) fn log_trims_now(&mut self) -> Index {
        self.log_trims();
        self.log.make_urgent();
        self.log.last_index()
    }

    /// The output is on disk and stands for its inputs from now on. The channels learn of it by and by: until then they
    /// read from the inputs.
    pub(crate) fn begin_switch(
        &mut self,
        plan: ClusterPlan<D::File>,
        file: Rc<D::File>,
        written: Written,
    ) -> Switch<D::File> {
        let numbers = plan.numbers();
        let mut segment = Segment::new(file, plan.generation, SegmentState::Sealing);
        segment.is_clustered = true;
        segment.end = written.end;
        segment.runs_count = written.runs_count;
        segment.last_index = plan.last_index;
        self.segments.insert(plan.number, segment);
        Switch { plan, numbers, turns: Turns::of(&self.channels) }
    }

    /// Some more channels learn of the output. True when all have: then the inputs are nobody's.
    pub(crate) fn go_on_switching(&mut self, switch: &mut Switch<D::File>, now: Now) -> bool {
        let output = switch.plan.number;
        for place in switch.turns.next() {
            let Some(channel) = self.channels.in_place_mut(*place) else { continue };
            let moved = channel.index.replace(&switch.numbers, output);
            if !moved.is_empty() {
                channel.join_parts();
            }
            for (input, moved) in moved {
                if let Some(segment) = self.segments.get_mut(&input) {
                    segment.live_messages = segment.live_messages.saturating_sub(moved.count);
                    segment.live_bytes = segment.live_bytes.saturating_sub(moved.bytes);
                }
                if let Some(segment) = self.segments.get_mut(&output) {
                    segment.live_messages += moved.count;
                    segment.live_bytes += moved.bytes;
                }
            }
        }
        if !switch.turns.are_over() {
            return false;
        }
        if let Some(segment) = self.segments.get_mut(&output) {
            segment.state = SegmentState::Sealed;
            segment.record_bytes = segment.live_bytes;
            segment.sealed_since = self.checkpoints.next_number();
        }
        let needless = self.checkpoints.next_number();
        for number in &switch.numbers {
            let Some(segment) = self.segments.remove(number) else { continue };
            self.history.forget_segment(*number);
            self.tail.forget_segment(*number);
            self.footers.forget(*number);
            self.clustering.replaced.push((*number, segment.file, needless));
        }
        self.clustering.checkpoint_due = Some(now.mono.after_ms(CHECKPOINT_WAIT_MS));
        self.end_clustering();
        true
    }

    /// Nothing came of it, or all did.
    pub(crate) fn end_clustering(&mut self) {
        self.clustering.inputs.clear();
        self.clustering.is_worth_a_look = true;
    }

    /// A segment turned out not to be as its footer says: it is not rewritten again.
    pub(crate) fn keep_from_clustering(&mut self, number: SegmentNumber) {
        self.note_damage(number, "a segment is not as its footer says; it is kept as it is");
    }

    /// The segments that were rewritten.
    #[cfg(test)]
    pub(crate) fn clustered_numbers(&self) -> Vec<SegmentNumber> {
        let clustered = self.segments.iter().filter(|(_, segment)| segment.is_clustered);
        clustered.map(|(number, _)| *number).collect()
    }

    /// Something was sealed, removed, or covered by a checkpoint.
    pub(super) fn look_for_clustering(&mut self) {
        self.clustering.is_worth_a_look = true;
    }

    pub(super) fn is_being_clustered(&self, number: SegmentNumber) -> bool {
        self.clustering.inputs.contains(&number)
    }

    /// Files that both checkpoints do without become spare ones.
    pub(super) fn collect_replaced(&mut self) {
        let (known, _) = self.checkpoints.older();
        let (spare, kept) = std::mem::take(&mut self.clustering.replaced)
            .into_iter()
            .partition(|(.., needless)| *needless <= known);
        self.clustering.replaced = kept;
        self.spare.extend(Vec::into_iter(spare).map(|(number, file, _)| (number, file)));
    }

    /// Whether files wait only for checkpoints.
    pub(super) fn has_replaced(&self) -> bool {
        !self.clustering.replaced.is_empty()
    }

    /// Whether there is anything that only two checkpoints more would let go on: then they are taken without a load too.
    pub(super) fn waits_for_checkpoint(&self) -> bool {
        let older = self.checkpoints.older();
        let mut segments = self.segments.values();
        self.has_replaced()
            || self.has_nearly_dead()
            || segments.any(|segment| segment.is_settling(older))
    }

    /// Somebody reads of this segment. If it can be rewritten as soon as checkpoints know it, these come sooner.
    pub(super) fn hasten_clustering(&mut self, number: SegmentNumber, now: Now) {
        let Some(segment) = self.segments.get(&number) else { return };
        if !segment.is_clustered && segment.is_settling(self.checkpoints.older()) {
            self.clustering.is_hastened = true;
            let soon = now.mono.after_ms(CHECKPOINT_WAIT_OF_READERS_MS);
            let due = &mut self.clustering.checkpoint_due;
            *due = Some(due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// When it is worth to look what could be rewritten.
    fn look_due(&self) -> Option<Monotonic> {
        let is_idle = self.clustering.inputs.is_empty() && self.log.finished().is_none();
        (is_idle && self.clustering.is_worth_a_look)
            .then(|| self.clustering.looked.after_ms(LOOK_WAIT_MS))
    }

    /// When there is something to do without a load.
    pub(super) fn clustering_deadline(&self) -> Option<Monotonic> {
        [self.clustering.checkpoint_due, self.look_due()].into_iter().flatten().min()
    }

    /// Time has passed: perhaps it is time to look, or for a checkpoint that no load may bring.
    pub(super) fn tick_clustering(&mut self, now: Now) {
        if self.look_due().is_some_and(|due| due <= now.mono) {
            self.clustering.looked = now.mono;
            self.clustering.may_look = true;
        }
        let is_due = match self.clustering.checkpoint_due {
            Some(due) => due <= now.mono,
            None => self.clustering.may_look,
        };
        if !is_due {
            return;
        }
        if self.clustering.checkpoint_due.is_some() {
            self.take_checkpoint(now);
        }
        let is_wanted = self.waits_for_checkpoint();
        self.clustering.is_hastened &= is_wanted;
        let wait_ms = if self.clustering.is_hastened {
            CHECKPOINT_WAIT_OF_READERS_MS
        } else {
            CHECKPOINT_WAIT_MS
        };
        self.clustering.checkpoint_due = is_wanted.then(|| now.mono.after_ms(wait_ms));
    }
}
