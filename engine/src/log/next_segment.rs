//! The segment behind the active one: when it is made, how much of it is filled, and when it has to be taken.

use super::Log;
use super::batch::BATCH_BYTES_TARGET;
use super::segment::{FILL_BYTES, FILL_BYTES_LATE, PreparedSegment};
use crate::disk::DiskFile;
use crate::format;

/// Frames from this length on have no zeros written ahead of them: a batch that is full is as long. Such a frame is
/// written to new blocks about as fast as over zeros (4 at once, O_DSYNC on ext4: 256 KiB at 0.8 to 1.0 of the rate, 64
/// KiB at 0.65), where zeros first would make it half.
const LARGE_FRAME_BYTES: u64 = BATCH_BYTES_TARGET as u64 / 4;

/// How to go on with making a segment ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FillStep {
    /// It has time.
    Later,
    /// So many bytes more are filled now.
    Piece(u64),
    /// It is ready as it is.
    Enough,
}

impl<F: DiskFile> Log<F> {
    /// Whether a segment should be made ready now, and how large; the caller makes it and brings it. The segments before
    /// the active one have `stored_bytes`.
    pub(crate) fn wants_segment(&mut self, stored_bytes: impl FnOnce() -> u64) -> Option<u64> {
        if self.is_preparing || self.finished.is_some() {
            return None;
        }
        match (&self.active, &self.ready) {
            (_, Some(_)) => return None,
            // A start makes the first one at once, so that the first message does not wait for it; later ones are made
            // when a quarter is used: a fresh store stays small.
            (Some(active), None) if active.end.0 < active.size_bytes / 4 => return None,
            _ => {}
        }
        self.is_preparing = true;
        let frame_max =
            u64::from(self.store.frame_size_bytes_max) + 2 * format::SEGMENT_HEADER_BYTES;
        let active_size = self.active.as_ref().map(|active| active.size_bytes);
        Some(self.tuning.segment_size_after(active_size, stored_bytes()).max(frame_max))
    }

    /// How to go on with the next segment, of `size_bytes`, of which `filled_bytes` are filled: from the first to the
    /// third quarter of the active one it is filled in step with its use. When its turn has come it is taken as it is.
    ///
    /// Large frames are written as fast where nothing was written yet, and zeros would take half of the disk's time from
    /// them: while the log takes such, none are written.
    pub(crate) fn fill_step(&self, filled_bytes: u64, size_bytes: u64) -> FillStep {
        let Some(active) = &self.active else { return FillStep::Piece(FILL_BYTES_LATE) };
        let (quarter, half) = (active.size_bytes / 4, active.size_bytes / 2);
        let used_bytes = active.end.0.saturating_sub(quarter);
        let takes_large_frames = self.frame_bytes_recent >= LARGE_FRAME_BYTES;
        if self.is_out_of_segments || (takes_large_frames && used_bytes >= half) {
            return FillStep::Enough;
        }
        // filled / size <= used / half
        let is_due = |filled: u64| {
            u128::from(filled) * u128::from(half) <= u128::from(used_bytes) * u128::from(size_bytes)
        };
        if takes_large_frames {
            FillStep::Later
        } else if is_due(filled_bytes + FILL_BYTES_LATE) {
            FillStep::Piece(FILL_BYTES_LATE)
        } else if is_due(filled_bytes) {
            FillStep::Piece(FILL_BYTES)
        } else {
            FillStep::Later
        }
    }

    /// The segment that `wants_segment` asked for.
    pub(crate) fn bring_segment(&mut self, ready: Option<PreparedSegment<F>>) {
        assert!(self.is_preparing, "it was asked for");
        self.is_preparing = false;
        self.ready = ready;
    }

    /// Whether batches wait for a segment.
    pub(crate) fn lacks_segment(&self) -> bool {
        self.ready.is_none() && (self.active.is_none() || !self.closed.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::disk::Disk;
    use crate::disk::memory::{MemoryDisk, MemoryFile};
    use crate::format::blocks::{ChainPoint, StoreBlock};
    use crate::log::batch::{BucketHint, Target};
    use crate::sim::executor::SimExecutor;
    use crate::storage::Tuning;
    use crate::types::{
        ChannelId, Generation, Monotonic, SegmentNumber, Sequence, ShardId, TableSlot, Term,
        Timestamp,
    };

    /// 64 MiB, as there are many of in a store that has grown.
    const SIZE_BYTES: u64 = 64 << 20;

    struct Writer {
        log: Log<MemoryFile>,
        next: u64,
    }

    impl Writer {
        /// A log with a segment that takes frames.
        fn new() -> Self {
            let store = StoreBlock {
                shard_count: 1,
                placement_version: 1,
                frame_size_bytes_max: 1 << 20,
                cluster_id: "c".into(),
            };
            let end = ChainPoint::default();
            let mut log = Log::new(ShardId(0), store, Tuning::default(), Term(1), end);
            assert_eq!(
                log.fill_step(0, SIZE_BYTES),
                FillStep::Piece(FILL_BYTES_LATE),
                "the first one, at once"
            );
            assert!(log.wants_segment(|| 0).is_some());
            log.bring_segment(Some(segment(1)));
            Self { log, next: 1 }
        }

        /// Frames of one message of so many bytes, until so much of the segment is used.
        fn write_until(&mut self, payload_bytes: usize, used: f64) {
            let payload = vec![b'x'; payload_bytes];
            while self.used() < used {
                assert!(self.write(&payload));
            }
        }

        /// Whether there was room for a frame.
        fn write(&mut self, payload: &[u8]) -> bool {
            let mut bucket = BucketHint::default();
            let target =
                Target { id: ChannelId(1), slot: TableSlot::default(), bucket: &mut bucket };
            self.log.push_message(target, Sequence(self.next), Timestamp(0), payload.into());
            self.next += 1;
            let Some((write, _)) = self.log.seal(Monotonic(0)) else { return false };
            self.log.complete(write.index, Ok(()));
            self.log.next_committed().unwrap();
            true
        }

        fn used(&self) -> f64 {
            self.log.active.as_ref().map_or(0.0, |active| active.end.0 as f64 / SIZE_BYTES as f64)
        }

        fn step(&self, filled: f64) -> FillStep {
            self.log.fill_step((filled * SIZE_BYTES as f64) as u64, SIZE_BYTES)
        }
    }

    fn segment(number: u32) -> PreparedSegment<MemoryFile> {
        let disk = MemoryDisk::default();
        let file = SimExecutor::new(1).block_on(async { disk.create("segment").await.unwrap() });
        PreparedSegment {
            number: SegmentNumber(number),
            generation: Generation(u64::from(number)),
            file: Rc::new(file),
            size_bytes: SIZE_BYTES,
        }
    }

    #[test]
    fn small_frames_have_the_next_segment_filled_in_step_with_their_use() {
        let mut writer = Writer::new();
        writer.write_until(10_000, 0.1);
        assert!(
            writer.log.wants_segment(|| 0).is_none(),
            "a store that is hardly used stays small"
        );
        writer.write_until(10_000, 0.26);
        assert!(writer.log.wants_segment(|| 0).is_some());
        assert_eq!(writer.step(0.0), FillStep::Piece(FILL_BYTES_LATE));
        assert_eq!(writer.step(0.019), FillStep::Piece(FILL_BYTES));
        assert_eq!(writer.step(0.1), FillStep::Later);
        writer.write_until(10_000, 0.7);
        assert_eq!(writer.step(0.8), FillStep::Piece(FILL_BYTES_LATE));
        assert_eq!(writer.step(0.95), FillStep::Later);
    }

    #[test]
    fn large_frames_are_written_where_nothing_was() {
        let mut writer = Writer::new();
        writer.write_until(200_000, 0.7);
        assert!(writer.log.wants_segment(|| 0).is_some());
        assert_eq!(writer.step(0.0), FillStep::Later, "no zeros beside them");
        writer.write_until(200_000, 0.76);
        assert_eq!(writer.step(0.0), FillStep::Enough, "ready before it is needed");
        // A load that has become small again.
        writer.write_until(1_000, 0.77);
        assert_eq!(writer.step(0.0), FillStep::Piece(FILL_BYTES_LATE));
    }

    #[test]
    fn a_segment_that_is_needed_is_taken_as_it_is() {
        let mut writer = Writer::new();
        writer.write_until(10_000, 0.3);
        assert!(writer.log.wants_segment(|| 0).is_some());
        writer.write_until(10_000, 0.995);
        assert_eq!(writer.step(0.1), FillStep::Piece(FILL_BYTES_LATE));
        while writer.write(&[b'x'; 100_000]) {}
        assert!(writer.log.lacks_segment());
        assert_eq!(writer.step(0.1), FillStep::Enough);
        writer.log.bring_segment(Some(segment(2)));
        assert!(!writer.log.lacks_segment());
        let (write, sealed) = writer.log.seal(Monotonic(0)).unwrap();
        assert_eq!(sealed.rolled.map(|rolled| rolled.number), Some(SegmentNumber(1)));
        writer.log.complete(write.index, Ok(()));
        assert_eq!(writer.step(0.1), FillStep::Later);
    }
}
