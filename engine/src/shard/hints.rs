//! The superblock's commit hint: what is committed, told beside the log, so that recovery knows a torn tail from damage.
//! It is written while the shard is idle, at a roll, and at a clean stop.

use super::Shard;
use crate::disk::Disk;
use crate::format::blocks::Superblock;
use crate::superblock::SlotWrite;
use crate::types::{Index, Monotonic, Now};

/// After this long without a commit the hint is written.
const HINT_IDLE_MS: u64 = 50;
/// But not more often than this.
const HINT_INTERVAL_MS: u64 = 1_000;

/// When the commit hint was and is to be written.
#[derive(Debug, Default)]
pub(super) struct HintState {
    pub(super) written: Index,
    pub(super) is_due: bool,
    pub(super) last_commit: Monotonic,
    pub(super) last_write: Monotonic,
}

impl<D: Disk> Shard<D> {
    /// When the hint is to be written, if nothing more is committed until then.
    pub(super) fn hint_deadline(&self) -> Monotonic {
        self.hint
            .last_commit
            .after_ms(HINT_IDLE_MS)
            .max(self.hint.last_write.after_ms(HINT_INTERVAL_MS))
    }

    /// The commit hint to write now, if it is due.
    pub(crate) fn take_hint(&mut self, now: Now) -> Option<SlotWrite<D::File>> {
        if !std::mem::take(&mut self.hint.is_due) || self.log.finished().is_some() {
            return None;
        }
        self.hint_write(now)
    }

    /// The commit hint as it is now.
    pub(crate) fn hint_write(&mut self, now: Now) -> Option<SlotWrite<D::File>> {
        let (point, table) = self.log.commit_hint();
        let clock = self.clock.advance(now);
        let superblock = self.superblock.as_mut()?;
        self.hint.written = point.index;
        self.hint.last_write = now.mono;
        let fits = table.len() <= Superblock::HINT_TABLE_BYTES_MAX;
        let hint_table = if fits { table.to_vec() } else { Vec::new() };
        let checkpoint = self.checkpoints.newest();
        Some(superblock.update(|slot| {
            slot.hint = point;
            slot.hint_table = hint_table;
            slot.clock = clock;
            slot.checkpoint = checkpoint;
        }))
    }
}
