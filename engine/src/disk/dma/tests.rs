//! The real disk keeps the contract, in a temporary directory; and what it promises on top.

use std::os::unix::fs::FileExt;

use super::*;
use crate::disk::contract;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs a test on one core, with a disk in a new directory.
fn run<T: Future<Output = ()> + 'static>(test: impl FnOnce(DmaDisk) -> T + Send + 'static) {
    let directory = directory();
    let root = directory.path().to_owned();
    let core = run_on_core(|| async move { test(DmaDisk::new(&root).await.unwrap()).await });
    core.join().unwrap();
}

#[test]
fn keeps_the_contract() {
    run(|disk| contract::check_disk(disk, GlommioRuntime));
}

/// glommio 0.9.0 takes the device for pollable when the first file it opens is empty; then no read works. All cores
/// start at once, and none may see the probe of another half made.
#[test]
fn reads_work_on_all_cores_from_the_first_start() {
    let directory = directory();
    let cores: Vec<_> = (0..6)
        .map(|core| {
            let root = directory.path().to_owned();
            run_on_core(move || async move {
                let disk = DmaDisk::new(&root).await.unwrap();
                let file = disk.create(&format!("core-{core}")).await.unwrap();
                file.allocate(BLOCK).await.unwrap();
                assert_eq!(file.read_at(0, 1).await.unwrap(), [0]);
            })
        })
        .collect();
    for core in cores {
        core.join().unwrap();
    }
    let names = list(directory.path()).unwrap();
    assert_eq!(names.iter().filter(|entry| entry.name.starts_with(PROBE_FILE)).count(), 1);
}

#[test]
fn a_damaged_probe_is_made_anew() {
    let directory = directory();
    for bytes in [&b""[..], &[0; 4096], &[PROBE_BYTE; 100]] {
        fs::write(directory.path().join(PROBE_FILE), bytes).unwrap();
        let root = directory.path().to_owned();
        run_on_core(|| async move { drop(DmaDisk::new(&root).await.unwrap()) }).join().unwrap();
    }
}

#[test]
fn files_are_direct_and_synchronous() {
    run(|disk| async move {
        let file = disk.create("file").await.unwrap();
        let flags =
            nix::fcntl::fcntl(file.file.as_raw_fd(), nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_DSYNC, libc::O_DSYNC);
        let kind = nix::sys::statfs::statfs(&disk.full_path("file")).unwrap().filesystem_type();
        let is_direct = flags & libc::O_DIRECT == libc::O_DIRECT;
        assert!(is_direct || kind == nix::sys::statfs::TMPFS_MAGIC);
    });
}

#[test]
fn buffers_are_reused_and_their_number_is_bounded() {
    run(|disk| async move {
        let file = disk.create("file").await.unwrap();
        let buffer = Rc::new(file.buffer(1 << 20));
        let place = buffer.memory.as_ptr();
        file.write_at(0, Rc::clone(&buffer)).await.unwrap();
        // A second file shares them.
        let other = disk.create("other").await.unwrap();
        assert_ne!(other.buffer(1 << 20).memory.as_ptr(), place);
        drop(buffer);
        assert_eq!(other.buffer(1 << 20).memory.as_ptr(), place);

        let many: Vec<_> = (0..20).map(|_| file.buffer(1 << 20)).collect();
        drop(many);
        let kept = || disk.pool.buffers.borrow().iter().map(|buffer| buffer.len()).sum::<usize>();
        assert_eq!(kept(), POOL_SIZE_BYTES_MAX);
        let many: Vec<_> = (0..100).map(|_| file.buffer(BLOCK_SIZE_BYTES)).collect();
        drop(many);
        assert_eq!(disk.pool.buffers.borrow().len(), POOL_BUFFERS_COUNT_MAX);
        assert!(kept() <= POOL_SIZE_BYTES_MAX);
    });
}

/// A read longer than one device read, from and to odd places.
#[test]
fn long_reads_are_put_together() {
    run(|disk| async move {
        let bytes = contract::pattern(1, 3000);
        let outside = File::create(disk.full_path("file")).unwrap();
        outside.write_all_at(&bytes[..12_000_001], 0).unwrap();
        let file = disk.open("file").await.unwrap();
        let read = file.read_at(4095, usize::MAX).await.unwrap();
        assert_eq!(read, bytes[4095..12_000_001]);
        let read = file.read_at(4_194_303, 4_194_306).await.unwrap();
        assert_eq!(read, bytes[4_194_303..8_388_609]);
    });
}

/// Clients may see errors: they name files as the program does, never a place on this machine.
#[test]
fn errors_show_no_outer_path() {
    run(|disk| async move {
        disk.create_directory("shard").await.unwrap();
        drop(disk.create("shard/file").await.unwrap());
        let errors = [
            disk.open("shard").await.err(),
            disk.open("shard/file/below").await.err(),
            disk.list("shard/file").await.err(),
            disk.remove("shard").await.err(),
            disk.sync_directory("shard/file").await.err(),
            disk.rename("shard/none", "shard/x").await.err(),
        ];
        for error in errors {
            let text = error.unwrap().to_string();
            assert!(text.starts_with("shard"), "{text}");
            assert!(!text.contains(&*disk.root.to_string_lossy()), "{text}");
        }
    });
}

#[test]
fn clocks_run() {
    run(|_| async {
        let before = GlommioRuntime.now();
        GlommioRuntime.sleep(Duration::from_millis(2)).await;
        let after = GlommioRuntime.now();
        assert!(after.mono.since(before.mono) >= 2_000_000);
        assert!(after.wall.0 > 1_700_000_000_000_000_000);
    });
}
