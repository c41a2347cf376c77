//! When a checkpoint is taken, what is in it, and when it counts.

use std::borrow::Cow;

use super::Shard;
use crate::checkpoint::{ChannelNote, CheckpointHead, CheckpointWriter, SegmentNote};
use crate::disk::Disk;
use crate::log::segment::SegmentState;
use crate::record::StateRecord;
use crate::types::{Index, Now, Sequence};

/// A checkpoint to be written.
#[derive(Debug)]
pub(crate) struct CheckpointWork {
    pub number: u64,
    pub as_of: Index,
    pub bytes: Vec<u8>,
}

/// Where checkpoints stand.
#[derive(Debug, Default)]
pub(super) struct CheckpointState {
    /// Numbers and indexes of those on disk, the newest last; two are kept.
    published: Vec<(u64, Index)>,
    next_number: u64,
    /// Taken, to be written once the log it stands on is committed.
    taken: Option<CheckpointWork>,
    is_writing: bool,
    /// Bytes logged since the last one was taken.
    pub(super) log_bytes: u64,
    /// Files to remove.
    outdated: Vec<u64>,
}

impl CheckpointState {
    /// From the files found at open; only the newest one's index is known.
    /// `log_bytes` were replayed: a server that is killed again and again takes checkpoints too.
    pub(super) fn recovered(numbers: &[u64], newest: Option<(u64, Index)>, log_bytes: u64) -> Self {
        let next_number = numbers.last().map_or(1, |last| last + 1);
        let outdated =
            numbers.iter().copied().filter(|number| newest.is_none_or(|(kept, _)| *number != kept));
        Self {
            published: newest.into_iter().collect(),
            next_number,
            outdated: outdated.collect(),
            log_bytes,
            ..Self::default()
        }
    }

    /// Number and index of the older of the two; 0: there are no two. State records up to the index are dead: both
    /// cover them.
    pub(super) fn older(&self) -> (u64, Index) {
        match self.published.as_slice() {
            [.., older, _] => *older,
            _ => (0, Index(0)),
        }
    }

    /// The number of the next that is taken.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number.max(1)
    }

    /// What the newest one covers; 0: nothing, or there is none.
    fn newest_as_of(&self) -> Index {
        self.published.last().map_or(Index(0), |(_, as_of)| *as_of)
    }

    /// The newest one's number; 0: none.
    pub(super) fn newest(&self) -> u64 {
        self.published.last().map_or(0, |(number, _)| *number)
    }
}

impl<D: Disk> Shard<D> {
    /// Takes a checkpoint if enough was logged since the last. Only right behind a sealed batch with nothing open: then
    /// the state is that of the log's end.
    pub(super) fn take_checkpoint_if_due(&mut self, now: Now) {
        let enough = self.config.checkpoint_bytes;
        let is_due = self.checkpoints.log_bytes >= enough
            || (self.checkpoints.log_bytes >= enough / 16
                && (self.has_nearly_dead() || self.has_replaced()));
        if is_due {
            self.take_checkpoint(now);
        }
    }

    /// Takes a checkpoint now, if the state allows it.
    pub(crate) fn take_checkpoint(&mut self, now: Now) -> bool {
        if self.checkpoints.taken.is_some()
            || self.checkpoints.is_writing
            || self.superblock.is_none()
        {
            return false;
        }
        let Some(end) = self.log.sealed_end() else { return false };
        if end.index <= self.checkpoints.newest_as_of() && !self.waits_for_checkpoint() {
            // Nothing was logged since, and nothing waits for a second one.
            return false;
        }
        let head = CheckpointHead {
            end,
            segments: self.segment_notes(end.index),
            frames: self.frames.clone(),
            ..self.head_of_state(now)
        };
        let mut writer = CheckpointWriter::new(&head);
        self.snapshot(|record| writer.state(&record));
        for place in self.channels.places() {
            let channel = self.channels.in_place(place).expect("listed just now");
            writer.channel(&ChannelNote {
                id: place.id,
                name: Cow::Borrowed(&channel.name),
                first: channel.first,
                last: channel.last,
                last_time: channel.last_time,
                index: Cow::Borrowed(&channel.index),
            });
        }
        let number = self.checkpoints.next_number();
        self.checkpoints.next_number = number + 1;
        self.checkpoints.log_bytes = 0;
        self.checkpoints.taken =
            Some(CheckpointWork { number, as_of: end.index, bytes: writer.finish() });
        true
    }

    /// A head that says nothing of the log.
    pub(super) fn head_of_state(&mut self, now: Now) -> CheckpointHead {
        CheckpointHead {
            last_channel_id: self.channels.last_id(),
            last_subscription_id: self.subscriptions.next_id().0 - 1,
            last_incarnation: self.last_incarnation,
            clock: self.clock_time(now),
            ..CheckpointHead::default()
        }
    }

    /// The state records that make all of the state but channels and their messages.
    pub(super) fn snapshot(&self, mut out: impl FnMut(StateRecord)) {
        for client in self.clients.values() {
            out(StateRecord::ClientOpened(client.clone()));
        }
        for (id, lost) in &self.lost {
            for (first, last) in lost.iter() {
                out(StateRecord::Lost { id: *id, first: Sequence(first), last: Sequence(last) });
            }
        }
        self.subscriptions.snapshot(out);
    }

    fn segment_notes(&self, last: Index) -> Vec<SegmentNote> {
        let end = self.log.sealed_end().map(|end| end.end).unwrap_or_default();
        let note = |(number, segment): (&_, &crate::log::segment::Segment<D::File>)| {
            let is_active = segment.state == SegmentState::Active;
            SegmentNote {
                number: *number,
                generation: segment.generation,
                end: if is_active { end } else { segment.end },
                last_index: if is_active { last } else { segment.last_index },
                is_sealed: segment.state == SegmentState::Sealed,
                is_damaged: segment.is_damaged,
                record_bytes: segment.record_bytes,
                runs_count: segment.runs_count,
            }
        };
        self.segments.iter().map(note).collect()
    }

    /// The checkpoint to write now: its log is committed.
    pub(crate) fn take_checkpoint_work(&mut self) -> Option<CheckpointWork> {
        let committed = self.log.committed();
        let work = self.checkpoints.taken.take_if(|work| work.as_of <= committed)?;
        self.checkpoints.is_writing = true;
        Some(work)
    }

    /// Whether a checkpoint is taken or being written.
    pub(crate) fn is_checkpoint_pending(&self) -> bool {
        self.checkpoints.taken.is_some() || self.checkpoints.is_writing
    }

    /// A checkpoint is on disk, or could not be written.
    pub(crate) fn checkpoint_written(&mut self, number: u64, as_of: Index, is_written: bool) {
        self.checkpoints.is_writing = false;
        if !is_written {
            self.checkpoints.outdated.push(number);
            return;
        }
        self.checkpoints.published.push((number, as_of));
        self.look_for_clustering();
        while self.checkpoints.published.len() > 2 {
            let (oldest, _) = self.checkpoints.published.remove(0);
            self.checkpoints.outdated.push(oldest);
        }
    }

    /// A checkpoint file to remove. Nothing is removed while fewer than two stand.
    pub(crate) fn take_outdated_checkpoint(&mut self) -> Option<u64> {
        if self.checkpoints.published.len() < 2 {
            return None;
        }
        self.checkpoints.outdated.pop()
    }
}
