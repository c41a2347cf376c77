//! A log that a failed write has ended: nothing more is committed, and the core has its rest.

use super::*;
use crate::error::RequestError;
use crate::sim::disk::{Chance, Faults};
use crate::types::Monotonic;

/// Found by the simulator: a shard whose log had ended asked for a tick to log positions, and again at once, because
/// the tick did nothing: the core spun. The failing write must come while something lazy waits to be logged.
#[test]
fn an_ended_log_asks_for_no_more_ticks() {
    let executor = SimExecutor::new(3);
    let runtime = executor.runtime();
    let disk = SimDisk::new(runtime.clone(), 3);
    executor.block_on(async {
        let storage = open(&disk, &runtime, &config()).await.unwrap();
        let (shard, index, _) = publish(&storage, &runtime, "a", b"one");
        committed(&storage, &runtime, shard, index).await;
        disk.set_faults(Faults { write_error: Chance::ALWAYS, ..Faults::default() });
        publish(&storage, &runtime, "a", b"two");
        storage.pump();
        while storage.with(shard, |shard| shard.failure()).is_none() {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        runtime.sleep(Duration::from_secs(2)).await;
        let now = runtime.now();
        let next = storage.with(shard, |shard| {
            shard.tick(now);
            shard.next_deadline()
        });
        assert!(next.is_none_or(|at: Monotonic| at > now.mono), "{next:?} at {now:?}");
        let refused = storage.with(shard, |shard| shard.publish("a", b"three", now));
        assert!(matches!(refused, Err(RequestError::LogFinished(_))), "{refused:?}");
    });
}

/// A shard's files were half made when the disk was full; the next try found them there and ended the log for good.
#[test]
fn a_disk_that_is_full_at_the_first_start_ends_no_log() {
    for space_bytes in [0, 4_096, 8_192, 40_000] {
        let executor = SimExecutor::new(4);
        let runtime = executor.runtime();
        let disk = SimDisk::new(runtime.clone(), 4);
        executor.block_on(async {
            open_store(&disk, &config()).await.unwrap();
            let full = Some(disk.used_bytes() + space_bytes);
            disk.set_faults(Faults { space_bytes_max: full, ..Faults::default() });
            let storage = open(&disk, &runtime, &config()).await.unwrap();
            runtime.sleep(Duration::from_secs(5)).await;
            disk.set_faults(Faults::default());
            runtime.sleep(Duration::from_secs(2)).await;
            let (shard, index, _) = publish(&storage, &runtime, "a", b"one");
            committed(&storage, &runtime, shard, index).await;
        });
    }
}

/// A segment that is filled to its end has its footer behind that: on a full disk the footer's write ended the log.
#[test]
fn a_disk_that_is_full_at_a_roll_ends_no_log() {
    let executor = SimExecutor::new(5);
    let runtime = executor.runtime();
    let disk = SimDisk::new(runtime.clone(), 5);
    executor.block_on(async {
        let storage = open(&disk, &runtime, &config()).await.unwrap();
        // A block each: the next segment is ready long before this one is full.
        for at in 0..40 {
            if at == 12 {
                runtime.sleep(Duration::from_secs(1)).await;
                let full = Some(disk.used_bytes());
                disk.set_faults(Faults { space_bytes_max: full, ..Faults::default() });
            }
            let (shard, index, _) = publish(&storage, &runtime, "a", b"one");
            committed(&storage, &runtime, shard, index).await;
        }
        runtime.sleep(Duration::from_secs(3)).await;
        disk.set_faults(Faults::default());
        runtime.sleep(Duration::from_secs(2)).await;
        for _ in 0..40 {
            let (shard, index, _) = publish(&storage, &runtime, "a", b"two");
            committed(&storage, &runtime, shard, index).await;
        }
    });
}
