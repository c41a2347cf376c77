//! What every [`Disk`] promises, as one suite that all of them pass: the real one, the memory store's, the simulator's.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::disk::{BLOCK_SIZE_BYTES, DirectoryEntry, Disk, DiskFile};
use crate::error::DiskError;
use crate::runtime::Runtime;

const BLOCK: u64 = BLOCK_SIZE_BYTES as u64;

/// Runs the whole suite on an empty disk.
pub(crate) async fn check_disk<D: Disk, R: Runtime>(disk: D, runtime: R) {
    disk.create_directory("suite").await.unwrap();
    check_buffers(&disk).await;
    check_writes_and_reads(&disk).await;
    check_reads_across_the_end(&disk).await;
    check_lengths(&disk).await;
    check_concurrent_writes(&disk, &runtime).await;
    check_directories(&disk).await;
    check_names(&disk).await;
    check_rename(&disk).await;
    check_open_files_outlive_their_names(&disk).await;
    check_locks(&disk, &runtime).await;
}

/// `blocks` blocks of bytes that depend on `seed` and place.
pub(crate) fn pattern(seed: u8, blocks: usize) -> Vec<u8> {
    let byte = |at: usize| seed.wrapping_add((at / 7) as u8).wrapping_mul(31) ^ at as u8;
    (0..blocks * BLOCK_SIZE_BYTES).map(byte).collect()
}

async fn write<F: DiskFile>(file: &F, position: u64, bytes: &[u8]) {
    let mut buffer = file.buffer(bytes.len());
    buffer.as_mut().copy_from_slice(bytes);
    file.write_at(position, Rc::new(buffer)).await.unwrap();
}

/// A buffer used before must come back zeroed: padding goes to disk.
async fn check_buffers<D: Disk>(disk: &D) {
    let file = disk.create("suite/buffers").await.unwrap();
    for length_bytes in [BLOCK_SIZE_BYTES, 16 * BLOCK_SIZE_BYTES, 1 << 20, 3 << 20] {
        for round in 0..3 {
            let mut buffer = file.buffer(length_bytes);
            assert_eq!(buffer.as_ref().len(), length_bytes);
            assert!(buffer.as_ref().iter().all(|byte| *byte == 0), "round {round}");
            buffer.as_mut().fill(0xa5);
            file.write_at(0, Rc::new(buffer)).await.unwrap();
        }
    }
}

async fn check_writes_and_reads<D: Disk>(disk: &D) {
    let file = disk.create("suite/bytes").await.unwrap();
    assert_eq!(file.length_bytes().await.unwrap(), 0);
    assert_eq!(file.read_at(0, 10).await.unwrap(), b"");

    let mut expected = pattern(1, 40);
    write(&file, 0, &expected).await;
    assert_eq!(file.length_bytes().await.unwrap(), 40 * BLOCK);
    assert_eq!(file.read_at(0, expected.len()).await.unwrap(), expected);

    let over = pattern(2, 3);
    write(&file, 15 * BLOCK, &over).await;
    expected[15 * BLOCK_SIZE_BYTES..18 * BLOCK_SIZE_BYTES].copy_from_slice(&over);
    assert_eq!(file.length_bytes().await.unwrap(), 40 * BLOCK);

    for position in [0_usize, 1, 511, 512, 513, 4095, 4096, 4097, 61_439, 61_440, 65_535, 65_536] {
        for length in [0_usize, 1, 2, 511, 512, 513, 4095, 4096, 4097, 8193, 70_001] {
            let read = file.read_at(position as u64, length).await.unwrap();
            assert_eq!(read, expected[position..position + length], "{position} + {length}");
        }
    }
    file.sync().await.unwrap();
    drop(file);
    let file = disk.open("suite/bytes").await.unwrap();
    assert_eq!(file.read_at(0, expected.len()).await.unwrap(), expected);
}

async fn check_reads_across_the_end<D: Disk>(disk: &D) {
    let file = disk.create("suite/end").await.unwrap();
    let expected = pattern(3, 2);
    write(&file, 0, &expected).await;
    for (position, length) in [(0, 8193), (8191, 100), (5000, usize::MAX), (4096, 1 << 30)] {
        let read = file.read_at(position as u64, length).await.unwrap();
        assert_eq!(read, expected[position..], "{position} + {length}");
    }
    for position in [8192, 8193, 1 << 40, u64::MAX] {
        assert_eq!(file.read_at(position, 4096).await.unwrap(), b"", "{position}");
    }

    // A length that is no multiple of a block, as a torn file has.
    file.truncate(5001).await.unwrap();
    assert_eq!(file.read_at(0, 8192).await.unwrap(), expected[..5001]);
    assert_eq!(file.read_at(4999, 1000).await.unwrap(), expected[4999..5001]);
    assert_eq!(file.read_at(5001, 1).await.unwrap(), b"");
}

async fn check_lengths<D: Disk>(disk: &D) {
    let file = disk.create("suite/lengths").await.unwrap();
    file.allocate(0).await.unwrap();
    file.allocate(10 * BLOCK).await.unwrap();
    assert_eq!(file.length_bytes().await.unwrap(), 10 * BLOCK);
    let read = file.read_at(BLOCK, 4 * BLOCK_SIZE_BYTES).await.unwrap();
    assert_eq!(read, vec![0; 4 * BLOCK_SIZE_BYTES]);

    let bytes = pattern(4, 2);
    write(&file, 3 * BLOCK, &bytes).await;
    file.allocate(2 * BLOCK).await.unwrap();
    assert_eq!(file.length_bytes().await.unwrap(), 10 * BLOCK);
    assert_eq!(file.read_at(3 * BLOCK, bytes.len()).await.unwrap(), bytes);

    for length in [1, 4096, 9_000, usize::MAX] {
        let shared = file.read_blocks(3 * BLOCK, length).await.unwrap();
        let copied = file.read_at(3 * BLOCK, length).await.unwrap();
        assert_eq!((*shared).as_ref(), copied);
        assert_eq!((*file.read_blocks(10 * BLOCK, length).await.unwrap()).as_ref(), b"");
    }

    // What was cut off must not come back.
    file.truncate(4 * BLOCK + 100).await.unwrap();
    assert_eq!(file.length_bytes().await.unwrap(), 4 * BLOCK + 100);
    file.truncate(6 * BLOCK).await.unwrap();
    let read = file.read_at(3 * BLOCK, 3 * BLOCK_SIZE_BYTES).await.unwrap();
    assert_eq!(read[..BLOCK_SIZE_BYTES + 100], bytes[..BLOCK_SIZE_BYTES + 100]);
    assert!(read[BLOCK_SIZE_BYTES + 100..].iter().all(|byte| *byte == 0));

    // A write beyond the end leaves zeros between.
    write(&file, 8 * BLOCK, &bytes).await;
    assert_eq!(file.length_bytes().await.unwrap(), 10 * BLOCK);
    let read = file.read_at(6 * BLOCK, 2 * BLOCK_SIZE_BYTES).await.unwrap();
    assert!(read.iter().all(|byte| *byte == 0));
    file.truncate(0).await.unwrap();
    assert_eq!(file.length_bytes().await.unwrap(), 0);
}

async fn check_concurrent_writes<D: Disk, R: Runtime>(disk: &D, runtime: &R) {
    let file = Rc::new(disk.create("suite/concurrent").await.unwrap());
    let done = Rc::new(Cell::new(0));
    for part in 0..8_u8 {
        let (file, done) = (Rc::clone(&file), Rc::clone(&done));
        runtime.spawn(async move {
            write(&*file, u64::from(part) * 4 * BLOCK, &pattern(part, 4)).await;
            done.set(done.get() + 1);
        });
    }
    while done.get() < 8 {
        runtime.sleep(Duration::from_millis(1)).await;
    }
    let read = file.read_at(0, 32 * BLOCK_SIZE_BYTES).await.unwrap();
    for (part, bytes) in (0..).zip(read.chunks(4 * BLOCK_SIZE_BYTES)) {
        assert_eq!(bytes, pattern(part, 4), "part {part}");
    }
}

async fn check_directories<D: Disk>(disk: &D) {
    assert_eq!(disk.list("none").await, Err(absent("none")));
    assert_eq!(disk.sync_directory("none").await, Err(absent("none")));
    assert_eq!(disk.create_directory("none/below").await, Err(absent("none/below")));
    disk.create_directory("tree").await.unwrap();
    disk.create_directory("tree").await.unwrap();
    assert_eq!(disk.list("tree").await, Ok(vec![]));

    for name in ["tree/b", "tree/a10", "tree/a2"] {
        let file = disk.create(name).await.unwrap();
        write(&file, 0, &pattern(1, name.len())).await;
    }
    disk.create_directory("tree/a1").await.unwrap();
    drop(disk.create("tree/a1/below").await.unwrap());
    let entry = |name: &str, blocks: u64, is_directory| DirectoryEntry {
        name: name.to_owned(),
        length_bytes: blocks * BLOCK,
        is_directory,
    };
    let expected =
        [entry("a1", 0, true), entry("a10", 8, false), entry("a2", 7, false), entry("b", 6, false)];
    assert_eq!(disk.list("tree").await.unwrap(), expected);
    disk.sync_directory("tree").await.unwrap();
    disk.sync_directory("").await.unwrap();
    let root = disk.list("").await.unwrap();
    assert!(root.contains(&entry("tree", 0, true)));
    assert!(root.is_sorted());

    assert!(disk.list("tree/b").await.is_err());
    assert!(disk.open("tree/a1").await.is_err());
    assert!(disk.remove("tree/a1").await.is_err());
    assert_eq!(disk.create_directory("tree/b").await, Err(exists("tree/b")));
}

async fn check_names<D: Disk>(disk: &D) {
    assert_eq!(disk.open("suite/none").await.err(), Some(absent("suite/none")));
    assert_eq!(disk.remove("suite/none").await, Err(absent("suite/none")));
    assert_eq!(disk.create("none/file").await.err(), Some(absent("none/file")));
    drop(disk.create("suite/name").await.unwrap());
    assert_eq!(disk.create("suite/name").await.err(), Some(exists("suite/name")));
    assert_eq!(disk.create("suite").await.err(), Some(exists("suite")));
    disk.remove("suite/name").await.unwrap();
    assert_eq!(disk.open("suite/name").await.err(), Some(absent("suite/name")));
    let file = disk.create("suite/name").await.unwrap();
    assert_eq!(file.length_bytes().await.unwrap(), 0);
}

async fn check_rename<D: Disk>(disk: &D) {
    let bytes = pattern(9, 1);
    let file = disk.create("suite/from").await.unwrap();
    write(&file, 0, &bytes).await;
    drop(disk.create("suite/to").await.unwrap());

    disk.rename("suite/from", "suite/to").await.unwrap();
    // The open file is the same one under its new name.
    write(&file, BLOCK, &bytes).await;
    assert_eq!(file.length_bytes().await.unwrap(), 2 * BLOCK);
    drop(file);
    assert_eq!(disk.open("suite/from").await.err(), Some(absent("suite/from")));
    let file = disk.open("suite/to").await.unwrap();
    assert_eq!(file.read_at(0, 3 * BLOCK_SIZE_BYTES).await.unwrap(), [&bytes[..], &bytes].concat());
    drop(file);

    disk.create_directory("other").await.unwrap();
    disk.rename("suite/to", "other/moved").await.unwrap();
    disk.sync_directory("suite").await.unwrap();
    disk.sync_directory("other").await.unwrap();
    assert_eq!(disk.list("other").await.unwrap().len(), 1);
    assert_eq!(disk.rename("suite/to", "suite/x").await, Err(absent("suite/to")));
    assert!(disk.rename("other/moved", "none/x").await.is_err());
    assert!(disk.rename("other/moved", "suite").await.is_err());
    assert_eq!(disk.open("other/moved").await.unwrap().length_bytes().await, Ok(2 * BLOCK));
}

async fn check_open_files_outlive_their_names<D: Disk>(disk: &D) {
    let file = disk.create("suite/nameless").await.unwrap();
    disk.remove("suite/nameless").await.unwrap();
    let bytes = pattern(5, 1);
    write(&file, 0, &bytes).await;
    disk.sync_directory("suite").await.unwrap();
    assert_eq!(file.read_at(0, BLOCK_SIZE_BYTES).await.unwrap(), bytes);
    assert_eq!(file.length_bytes().await.unwrap(), BLOCK);
}

/// The second open waits until the first handle is dropped, and sees what was written through it.
async fn check_locks<D: Disk, R: Runtime>(disk: &D, runtime: &R) {
    let bytes = pattern(6, 1);
    for is_new in [true, false] {
        let first = match is_new {
            true => disk.create("suite/locked").await.unwrap(),
            false => disk.open("suite/locked").await.unwrap(),
        };
        let second = Rc::new(Cell::new(None));
        let (slot, other) = (Rc::clone(&second), disk.clone());
        runtime.spawn(async move {
            let file = other.open("suite/locked").await.unwrap();
            slot.set(Some(file.read_at(0, BLOCK_SIZE_BYTES).await.unwrap()));
        });
        runtime.sleep(Duration::from_millis(50)).await;
        assert_eq!(second.take(), None, "the second open did not wait");
        write(&first, 0, &bytes).await;
        drop(first);
        let mut read = second.take();
        while read.is_none() {
            runtime.sleep(Duration::from_millis(1)).await;
            read = second.take();
        }
        assert_eq!(read, Some(bytes.clone()));
    }
}

fn absent(path: &str) -> DiskError {
    DiskError::Absent { file: path.to_owned() }
}

fn exists(path: &str) -> DiskError {
    DiskError::Exists { file: path.to_owned() }
}
