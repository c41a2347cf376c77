//! Disks that fail or are full: what the log does, and that the core has its rest.

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

/// Found by `faults/run disk full`: a message that came between two looks at a full disk had its place in the log's
/// memory, but none on disk, and its publisher heard nothing until there was room again.
#[test]
fn a_full_disk_refuses_messages_and_lets_none_wait() {
    let executor = SimExecutor::new(5);
    let runtime = executor.runtime();
    let disk = SimDisk::new(runtime.clone(), 5);
    let tuning = Tuning { segment_size_bytes_first: 256 << 10, ..Tuning::small() };
    let config = StorageConfig { tuning, ..config() };
    executor.block_on(async {
        let storage = open(&disk, &runtime, &config).await.unwrap();
        let (shard, index, _) = publish(&storage, &runtime, "a", b"one");
        committed(&storage, &runtime, shard, index).await;
        runtime.sleep(Duration::from_secs(1)).await;
        let space_bytes_max = Some(disk.used_bytes());
        disk.set_faults(Faults { space_bytes_max, ..Faults::default() });
        let mut taken = 0;
        let refused = loop {
            let now = runtime.now();
            match storage.with(shard, |shard| shard.publish("a", &[7; 3000][..], now)) {
                // The disk is full, and yet each message that was taken gets there.
                Ok(published) => committed(&storage, &runtime, shard, published.index).await,
                Err(refused) => break refused,
            }
            taken += 1;
        };
        assert_eq!(refused, RequestError::Full);
        assert!(taken > 20, "the active segment is used: {taken}");
        // Clients still come: there is a reserve.
        let now = runtime.now();
        storage.with(shard, |shard| shard.open_client("late", b"", b"", Ticket(1), now));
        storage.pump();
        runtime.sleep(Duration::from_millis(500)).await;
        let answers = storage.with(shard, |shard| shard.take_answers());
        assert!(matches!(answers[..], [(Ticket(1), Answer::ClientOpened(_))]), "{answers:?}");
        disk.set_faults(Faults::default());
        runtime.sleep(Duration::from_secs(2)).await;
        let (_, index, _) = publish(&storage, &runtime, "a", b"there is room again");
        committed(&storage, &runtime, shard, index).await;
    });
}

/// Found by `faults/run disk full`: the footer of a segment that was left stands behind its blocks, and a disk without
/// room for it ended the log until a restart.
#[test]
fn a_footer_waits_for_room_on_a_full_disk() {
    let executor = SimExecutor::new(6);
    let runtime = executor.runtime();
    let disk = SimDisk::new(runtime.clone(), 6);
    executor.block_on(async {
        let storage = open(&disk, &runtime, &config()).await.unwrap();
        // The second segment is ready when the first is half full.
        for _ in 0..8 {
            let (shard, index, _) = publish(&storage, &runtime, "a", &[7; 3000]);
            committed(&storage, &runtime, shard, index).await;
        }
        runtime.sleep(Duration::from_secs(1)).await;
        let first = format!("shard-{:02}/segment-0000000001", shard_of_channel("a", 2).0);
        let length = |path| disk.peek(path).map_or(0, |bytes| bytes.len());
        let before = length(&first);
        let space_bytes_max = Some(disk.used_bytes());
        disk.set_faults(Faults { space_bytes_max, ..Faults::default() });
        for _ in 0..12 {
            let (shard, index, _) = publish(&storage, &runtime, "a", &[7; 3000]);
            committed(&storage, &runtime, shard, index).await;
        }
        runtime.sleep(Duration::from_secs(3)).await;
        disk.set_faults(Faults::default());
        runtime.sleep(Duration::from_secs(3)).await;
        let (shard, index, _) = publish(&storage, &runtime, "a", b"there is room again");
        committed(&storage, &runtime, shard, index).await;
        assert!(length(&first) > before, "it has its footer");
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

/// Found by the simulator when damage became a notice: what a failed write had left behind a log's end was read along with
/// the messages before it, and counted as damage of theirs.
#[test]
fn what_a_failed_write_left_is_no_damage() {
    for seed in 0..30 {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(executor.runtime(), seed);
        let group = executor.group();
        let storage = executor.block_on(open(&disk, &group, &config())).unwrap();
        let mut shard = ShardId(0);
        for _ in 0..8 {
            let (its, index, _) = publish(&storage, &group, "a", &[7; 3_000]);
            executor.block_on(committed(&storage, &group, its, index));
            shard = its;
        }
        disk.set_faults(Faults { write_error: Chance::ALWAYS, ..Faults::default() });
        for _ in 0..8 {
            publish(&storage, &group, "a", &[8; 3_000]);
        }
        executor.block_on(async {
            storage.pump();
            while storage.with(shard, |shard| shard.failure()).is_none() {
                group.sleep(Duration::from_millis(1)).await;
            }
        });
        group.kill();
        drop(storage);

        disk.set_faults(Faults::default());
        let group = executor.group();
        let storage = executor.block_on(open(&disk, &group, &config())).unwrap();
        assert_eq!(storage.report().damage, [], "seed {seed}");
        let inbox = executor.block_on(read_from(&storage, &group, "a", StartAt::First));
        assert!(inbox.messages.len() >= 8, "seed {seed}");
        assert_eq!(storage.with(shard, |shard| shard.take_damage()), [], "seed {seed}");
    }
}
