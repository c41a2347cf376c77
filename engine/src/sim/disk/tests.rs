//! The simulated disk keeps the contract, and its faults do what the model says: each outcome must be seen.

use std::collections::BTreeSet;

use super::*;
use crate::disk::contract::{self, pattern};
use crate::sim::executor::SimExecutor;

const BLOCK: u64 = BLOCK_SIZE_BYTES as u64;

fn world(seed: u64) -> (SimExecutor, SimDisk, fastrand::Rng) {
    let executor = SimExecutor::new(seed);
    let disk = SimDisk::new(executor.runtime(), seed);
    (executor, disk, fastrand::Rng::with_seed(seed))
}

async fn write(file: &SimFile, position: u64, bytes: &[u8]) -> DiskResult<()> {
    file.write_at(position, Rc::new(bytes.to_vec())).await
}

/// A file of `bytes` whose bytes and name are durable.
async fn durable_file(disk: &SimDisk, path: &str, bytes: &[u8]) -> SimFile {
    let file = disk.create(path).await.unwrap();
    write(&file, 0, bytes).await.unwrap();
    disk.sync_directory("").await.unwrap();
    file
}

#[test]
fn keeps_the_contract() {
    for seed in 0..20 {
        let (executor, disk, _) = world(seed);
        executor.block_on(contract::check_disk(disk, executor.runtime()));
    }
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let (executor, disk, mut random) = world(seed);
        executor.block_on(contract::check_disk(disk.clone(), executor.runtime()));
        let disk = disk.crash(&mut random);
        let contents: Vec<_> = disk.paths().iter().map(|path| disk.peek(path)).collect();
        (executor.trace_hash(), executor.events_count(), contents)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).0, run(4).0);
}

#[test]
fn what_was_answered_survives_and_nothing_else_must() {
    let (old, new) = (pattern(1, 4), pattern(2, 4));
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let (executor, disk, mut random) = world(seed);
        let process = executor.group();
        executor.block_on(async {
            let file = durable_file(&disk, "log", &old).await;
            let bytes = new.clone();
            // The second write is under way, or just begun, when power fails.
            process.spawn(async move { write(&file, 0, &bytes).await.unwrap() });
            executor.runtime().sleep(Duration::from_micros(random.u64(0..300))).await;
        });
        let is_answered = executor.runtime().random(0..2) == 0 && {
            executor.run_for(Duration::from_secs(1));
            true
        };
        let disk = disk.crash(&mut random);
        process.kill();
        let found = disk.peek("log").unwrap();
        assert_eq!(found.len(), old.len());
        for ((found, old), new) in found.chunks(512).zip(old.chunks(512)).zip(new.chunks(512)) {
            assert!(found == old || found == new, "seed {seed}: a sector is torn");
        }
        assert!(!is_answered || found == new, "seed {seed}: lost");
        outcomes.insert((found == old, found == new));
    }
    assert_eq!(outcomes.len(), 3, "old, new and torn must all occur");
}

#[test]
fn writes_in_flight_survive_independently() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let (executor, disk, mut random) = world(seed);
        let process = executor.group();
        executor.block_on(async {
            let file = Rc::new(durable_file(&disk, "log", &[0; 4 * BLOCK_SIZE_BYTES]).await);
            for part in 0..4_u8 {
                let file = Rc::clone(&file);
                process.spawn(async move {
                    let bytes = [part + 1; BLOCK_SIZE_BYTES];
                    write(&file, u64::from(part) * BLOCK, &bytes).await.unwrap();
                });
            }
            executor.runtime().sleep(Duration::from_micros(100)).await;
        });
        let found = disk.crash(&mut random).peek("log").unwrap();
        let is_whole = |(part, bytes): (u8, &[u8])| bytes.iter().all(|byte| *byte == part + 1);
        let survivors: Vec<bool> =
            (0..4_u8).zip(found.chunks(BLOCK_SIZE_BYTES)).map(is_whole).collect();
        outcomes.insert(survivors);
    }
    assert!(outcomes.contains(&vec![false, false, false, true]), "a later one without the earlier");
    assert!(outcomes.contains(&vec![true, false, true, false]), "holes");
}

#[test]
fn names_are_durable_after_the_directory_is_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let (executor, disk, mut random) = world(seed);
        executor.block_on(async {
            disk.create_directory("shard").await.unwrap();
            drop(disk.create("shard/kept").await.unwrap());
            drop(disk.create("shard/moved").await.unwrap());
            disk.sync_directory("shard").await.unwrap();
            drop(disk.create("shard/unsynced").await.unwrap());
            disk.rename("shard/moved", "shard/there").await.unwrap();
            drop(disk.create("later").await.unwrap());
            disk.sync_directory("").await.unwrap();
        });
        let disk = disk.crash(&mut random);
        let names = disk.paths();
        assert!(names.contains(&"shard/kept".to_owned()), "seed {seed}");
        assert!(names.contains(&"later".to_owned()), "seed {seed}");
        let is_at = |name: &str| names.iter().filter(|path| path.as_str() == name).count();
        assert_eq!(is_at("shard/moved") + is_at("shard/there"), 1, "a rename is whole");
        outcomes.insert((is_at("shard/unsynced"), is_at("shard/there")));
    }
    assert_eq!(outcomes.len(), 4, "each may survive without the other");
}

#[test]
fn lengths_are_durable_after_a_sync() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let (executor, disk, mut random) = world(seed);
        executor.block_on(async {
            let file = durable_file(&disk, "a", &pattern(1, 4)).await;
            file.truncate(BLOCK).await.unwrap();
            let file = durable_file(&disk, "b", &pattern(1, 4)).await;
            file.allocate(8 * BLOCK).await.unwrap();
            file.sync().await.unwrap();
            let file = durable_file(&disk, "c", &pattern(1, 4)).await;
            file.truncate(BLOCK).await.unwrap();
            write(&file, BLOCK, &pattern(2, 1)).await.unwrap();
        });
        let disk = disk.crash(&mut random);
        assert_eq!(disk.peek("b").unwrap().len() as u64, 8 * BLOCK);
        assert_eq!(disk.peek("c").unwrap()[BLOCK_SIZE_BYTES..], pattern(2, 1));
        outcomes.insert(disk.peek("a").unwrap().len() as u64);
    }
    assert_eq!(outcomes, BTreeSet::from([BLOCK, 4 * BLOCK]));
}

/// After `kill -9` a write of the dead process may land late: an open that did not wait for it would let it land over
/// the new process' bytes.
#[test]
fn an_open_waits_for_the_writes_of_a_dead_process() {
    let (dead, new) = (pattern(1, 2), pattern(2, 2));
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let (executor, disk, mut random) = world(seed);
        let faults = Faults { write_time_max: Duration::from_millis(800), ..Faults::default() };
        disk.set_faults(faults);
        let process = executor.group();
        let found = executor.block_on(async {
            let file = durable_file(&disk, "log", &[0; 2 * BLOCK_SIZE_BYTES]).await;
            let bytes = dead.clone();
            process.spawn(async move { write(&file, 0, &bytes).await.unwrap() });
            executor.runtime().sleep(Duration::from_micros(10)).await;
            process.kill();
            let file = disk.open("log").await.unwrap();
            let found = file.read_at(0, dead.len()).await.unwrap();
            assert!(found == dead || found == [0; 2 * BLOCK_SIZE_BYTES]);
            write(&file, 0, &new).await.unwrap();
            found
        });
        executor.run_for(Duration::from_secs(1000));
        assert_eq!(disk.peek("log").unwrap(), new, "seed {seed}: a zombie landed");
        assert_eq!(disk.crash(&mut random).peek("log").unwrap(), new, "seed {seed}");
        outcomes.insert(found == dead);
    }
    assert_eq!(outcomes.len(), 2);
}

/// What a dead process left may be seen and yet not be durable: whoever builds on it must sync first.
#[test]
fn bytes_of_a_dead_process_need_a_sync() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let (executor, disk, mut random) = world(seed);
        let process = executor.group();
        let is_synced = random.bool();
        let seen = executor.block_on(async {
            let file = durable_file(&disk, "log", &[0; BLOCK_SIZE_BYTES]).await;
            process.spawn(async move { write(&file, 0, &pattern(1, 1)).await.unwrap() });
            executor.runtime().sleep(Duration::from_micros(10)).await;
            process.kill();
            let file = disk.open("log").await.unwrap();
            if is_synced {
                file.sync().await.unwrap();
            }
            file.read_at(0, BLOCK_SIZE_BYTES).await.unwrap()
        });
        let is_same = disk.crash(&mut random).peek("log").unwrap() == seen;
        assert!(is_same || !is_synced, "seed {seed}");
        outcomes.insert((is_synced, is_same));
    }
    assert_eq!(outcomes.len(), 3);
}

#[test]
fn handles_of_an_earlier_life_are_dead() {
    let (executor, disk, mut random) = world(1);
    executor.block_on(async {
        let file = durable_file(&disk, "log", &pattern(1, 1)).await;
        let next = disk.crash(&mut random);
        assert_eq!(write(&file, 0, &pattern(2, 1)).await, Err(DiskError::Off));
        assert_eq!(file.read_at(0, 1).await, Err(DiskError::Off));
        assert_eq!(disk.list("").await, Err(DiskError::Off));
        let file = next.open("log").await.unwrap();
        assert_eq!(file.read_at(0, BLOCK_SIZE_BYTES).await.unwrap(), pattern(1, 1));
    });
}

#[test]
fn errors_are_given_and_leave_what_they_may() {
    let (executor, disk, mut random) = world(1);
    executor.block_on(async {
        let file = durable_file(&disk, "log", &[0; BLOCK_SIZE_BYTES]).await;
        let always = Chance::ALWAYS;

        disk.set_faults(Faults { write_error: always, ..Faults::default() });
        let error = write(&file, 0, &pattern(1, 1)).await.unwrap_err();
        assert!(matches!(error, DiskError::Io { what: "write", .. }));
        disk.set_faults(Faults { short_write: always, ..Faults::default() });
        let error = write(&file, 0, &pattern(1, 1)).await.unwrap_err();
        assert!(matches!(error, DiskError::Short { wanted: 4096, written: 0..4096, .. }));
        disk.set_faults(Faults { read_error: always, ..Faults::default() });
        assert!(matches!(file.read_at(0, 1).await, Err(DiskError::Io { what: "read", .. })));
        disk.set_faults(Faults {
            read_error: always,
            only_paths_with: "elsewhere".to_owned(),
            ..Faults::default()
        });
        assert!(file.read_at(0, 1).await.is_ok());
        disk.set_faults(Faults { sync_error: always, ..Faults::default() });
        assert!(matches!(disk.sync_directory("").await, Err(DiskError::Io { .. })));

        // A sync that failed once and succeeds again has not saved what the first should have.
        file.truncate(8 * BLOCK).await.unwrap();
        assert!(matches!(file.sync().await, Err(DiskError::Io { what: "sync", .. })));
        disk.set_faults(Faults::default());
        file.sync().await.unwrap();
        assert_eq!(file.length_bytes().await.unwrap(), 8 * BLOCK);
    });
    assert_eq!(disk.crash(&mut random).peek("log").unwrap().len() as u64, BLOCK);
}

#[test]
fn a_full_disk_refuses_and_takes_nothing() {
    let (executor, disk, _) = world(1);
    disk.set_faults(Faults { space_bytes_max: Some(10 * BLOCK), ..Faults::default() });
    executor.block_on(async {
        let full = |path: &str| Err(DiskError::Full { file: path.to_owned() });
        let first = disk.create("first").await.unwrap();
        first.allocate(8 * BLOCK).await.unwrap();
        let second = disk.create("second").await.unwrap();
        assert_eq!(second.allocate(3 * BLOCK).await, full("second"));
        assert_eq!(second.length_bytes().await.unwrap(), 0);
        write(&second, 0, &pattern(1, 2)).await.unwrap();
        assert_eq!(write(&second, 2 * BLOCK, &pattern(1, 1)).await, full("second"));
        write(&first, 0, &pattern(1, 8)).await.unwrap();
        assert_eq!(disk.used_bytes(), 10 * BLOCK);

        // Space comes back with the last handle of a file without a name.
        disk.remove("first").await.unwrap();
        assert_eq!(second.allocate(4 * BLOCK).await, full("second"));
        drop(first);
        second.allocate(4 * BLOCK).await.unwrap();
        second.truncate(BLOCK).await.unwrap();
        assert_eq!(disk.used_bytes(), BLOCK);
    });
}

#[test]
fn rot_changes_bytes_at_rest() {
    let (executor, disk, mut random) = world(1);
    let bytes = pattern(1, 2);
    executor.block_on(async { drop(durable_file(&disk, "log", &bytes).await) });
    disk.flip_bit("log", 5000, 3);
    let mut expected = bytes.clone();
    expected[5000] ^= 8;
    assert_eq!(disk.peek("log").unwrap(), expected);
    disk.damage_sector("log", 1000);
    let found = disk.crash(&mut random).peek("log").unwrap();
    assert_ne!(found[512..1024], expected[512..1024]);
    assert_eq!(found[1024..], expected[1024..]);
    assert_eq!(found[..512], expected[..512]);
}

#[test]
fn a_misdirected_write_lands_in_anothers_place() {
    let (executor, disk, mut random) = world(1);
    let (bytes, others) = (pattern(1, 3), pattern(2, 2));
    executor.block_on(async {
        drop(durable_file(&disk, "log", &bytes).await);
        drop(durable_file(&disk, "other", &others).await);
    });
    let block = usize::try_from(BLOCK).unwrap();
    disk.misdirect(("log", BLOCK + 5), ("other", 7));
    let expected = [&bytes[block..2 * block], &others[block..]].concat();
    assert_eq!(disk.peek("other").unwrap(), expected);
    // Within one file too; the place that it was written for is as it was.
    disk.misdirect(("log", 0), ("log", 2 * BLOCK));
    let disk = disk.crash(&mut random);
    assert_eq!(disk.peek("log").unwrap(), [&bytes[..2 * block], &bytes[..block]].concat());
    assert_eq!(disk.peek("other").unwrap(), expected);
}
