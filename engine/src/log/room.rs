//! Room on a full disk: whether what is appended still has a place.

use super::Log;
use crate::disk::{BLOCK_SIZE_BYTES, DiskFile};
use crate::format;

/// Room that messages leave in the active segment while the disk has none for another one: for clients, subscriptions
/// and positions, some dozens of commits.
const RESERVE_BYTES_MAX: u64 = 256 << 10;
/// Segments that are smaller than a server's leave this part of them.
const RESERVE_PART: u64 = 8;

/// Who asks for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A publisher.
    Message,
    /// Clients and subscriptions, which have a part of the reserve.
    State,
}

/// What a frame of so many records takes at most: each may open a run, and the table of the frame before is repeated.
fn frame_bound(records_count: usize, records_length: usize) -> u64 {
    let table = records_count * 32 + BLOCK_SIZE_BYTES;
    format::frame_length_bytes(table, records_length + records_count * 8) as u64
}

impl<F: DiskFile> Log<F> {
    /// Whether one more record has a place in the segments there are, behind all that waits. Asked only while the disk
    /// has no room for another one: what is appended then must not wait for it.
    pub(crate) fn has_room(&self, length: usize, need: Need) -> bool {
        if self.ready.is_some() {
            return true;
        }
        let Some(active) = &self.active else { return false };
        let reserve = (active.size_bytes / RESERVE_PART).min(RESERVE_BYTES_MAX);
        let kept = match need {
            Need::Message => reserve,
            Need::State => reserve / 2,
        };
        let closed =
            self.closed.iter().map(|batch| frame_bound(batch.offsets.len(), batch.size_bytes()));
        let open = frame_bound(self.open.records_count() + 1, self.open.size_bytes() + length);
        active.end.0 + closed.sum::<u64>() + open + kept <= active.size_bytes
    }
}
