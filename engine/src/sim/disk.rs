//! A disk that crashes, and the model of how.
//!
//! # Fault model
//!
//! - **Writes.** A write waits, lands (readers see it), waits for the flush, and is durable; only then does
//!   [`DiskFile::write_at`] return. Writes in flight land in any order.
//! - **Crash** ([`SimDisk::crash`], power fails): what was durable stays. Each write in flight or not yet flushed
//!   survives wholly, torn (any subset of its 512-byte sectors), or not at all, whatever the others do. An unsynced
//!   change of length survives or not. All handles are dead, all locks gone. Kill the process' tasks as well.
//! - **Kill** (drop the process' tasks and handles, no more): the machine runs on. Writes in flight still land, late:
//!   flushed, not flushed (the next crash may take them back until a [`DiskFile::sync`]), or, if the device had not
//!   begun, not at all. Until the last has ended, the lock on its file is held, and [`Disk::open`] waits.
//! - **Names** made, moved and removed are seen at once, and durable after [`Disk::sync_directory`]; before, each
//!   survives a crash or not. A move between directories may survive by half. A directory made is durable on return.
//! - **Lengths.** [`DiskFile::allocate`] and [`DiskFile::truncate`] are durable after [`DiskFile::sync`]; a durable
//!   write to the file carries earlier ones with it, as a journal does.
//! - **Errors** ([`Faults`]): a failed write leaves any of its sectors written; a short one, a prefix; after a failed
//!   sync what it should have covered counts as clean and is lost at the next crash. No space: nothing was written.
//! - **Rot** ([`SimDisk::flip_bit`], [`SimDisk::damage_sector`], [`SimDisk::misdirect`]): bytes at rest change, or are
//!   those of another place, whose writer missed; the disk does not notice.
//!
//! Not modelled: a flush that lies, old versions that come back, damage to names.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::disk::memory::lock::{FileLock, LockGuard};
use crate::disk::memory::names::split;
use crate::disk::{BLOCK_SIZE_BYTES, DirectoryEntry, Disk, DiskFile, DiskResult};
use crate::error::DiskError;
use crate::runtime::Runtime;
use crate::sim::disk::content::SECTOR_SIZE_BYTES;
use crate::sim::disk::world::{FileNumber, Landing, World, io_error};
use crate::sim::executor::SimRuntime;

mod content;
mod faults;
#[cfg(test)]
mod tests;
mod world;

pub use faults::{Chance, Faults};

/// A simulated disk. Clones are the same disk in the same life: from one crash to the next.
#[derive(Clone)]
pub struct SimDisk {
    world: Rc<RefCell<World>>,
    /// The hardware's tasks: they live on when a process is killed.
    hardware: SimRuntime,
    life: u64,
}

/// An open file of a [`SimDisk`].
pub struct SimFile {
    disk: SimDisk,
    path: Rc<str>,
    file: FileNumber,
    guard: LockGuard,
}

/// Where a write's result is left for the one that waits for it.
#[derive(Default)]
struct Completion {
    result: RefCell<Option<DiskResult<()>>>,
    waiter: Cell<Option<Waker>>,
}

impl SimDisk {
    /// An empty disk. `hardware` is the executor's root group.
    #[must_use]
    pub fn new(hardware: SimRuntime, seed: u64) -> Self {
        Self { world: Rc::new(RefCell::new(World::new(seed))), hardware, life: 0 }
    }

    /// A disk with these files, durable.
    #[cfg(test)]
    pub(crate) fn holding(
        hardware: SimRuntime,
        seed: u64,
        files: &std::collections::BTreeMap<String, Vec<u8>>,
    ) -> Self {
        let disk = Self::new(hardware, seed);
        {
            let world = &mut *disk.world.borrow_mut();
            for (path, bytes) in files {
                let directory = split(path).0;
                world.create_directory(directory).expect("it may be there");
                let file = world.create(path).expect("each has its name");
                let length = bytes.len() as u64;
                world.claim(file, length, path).expect("there is room");
                world.content(file).damage(0, bytes);
            }
        }
        disk
    }

    /// Turns knobs; holds from now on, over crashes too.
    pub fn set_faults(&self, faults: Faults) {
        self.world.borrow_mut().faults = faults;
    }

    /// The knobs as they stand.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.world.borrow().faults.clone()
    }

    /// Power fails and comes back: returns the disk as the next life finds it. Older handles answer
    /// [`DiskError::Off`]; kill their tasks too.
    #[must_use]
    pub fn crash(&self, random: &mut fastrand::Rng) -> Self {
        self.world.borrow_mut().crash(random);
        let life = self.world.borrow().life;
        self.hardware.record("crash", &[life]);
        Self { world: Rc::clone(&self.world), hardware: self.hardware.clone(), life }
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.world.borrow().names().files().map(|(path, _)| path.to_owned()).collect()
    }

    /// A file's bytes as a reader would see them now, without delay, lock or fault. `None`: no such file.
    #[must_use]
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        let mut world = self.world.borrow_mut();
        let file = world.names().file(path).ok()?;
        Some(world.content(file).read(0, usize::MAX))
    }

    /// Space that all files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.world.borrow().used_bytes()
    }

    /// Flips one bit at rest.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip_bit(&self, path: &str, position: u64, bit: u8) {
        self.damage(path, position, 1, |bytes, _| bytes[0] ^= 1 << (bit % 8));
    }

    /// Fills the 512-byte sector around `position` with random bytes at rest.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn damage_sector(&self, path: &str, position: u64) {
        let start = position - position % SECTOR_SIZE_BYTES as u64;
        self.damage(path, start, SECTOR_SIZE_BYTES, |bytes, random| random.fill(bytes));
    }

    /// A write went to a wrong place: a block at `to` holds at rest what the block at `from` holds. `to` grows no longer.
    ///
    /// # Panics
    /// If there is nothing in one of the places.
    pub fn misdirect(&self, from: (&str, u64), to: (&str, u64)) {
        let start = |position: u64| position - position % BLOCK_SIZE_BYTES as u64;
        let written = {
            let world = &mut *self.world.borrow_mut();
            let file = world.names().file(from.0).expect("what is written has a file");
            world.content(file).read(start(from.1), BLOCK_SIZE_BYTES)
        };
        assert!(!written.is_empty(), "{} ends before {}", from.0, from.1);
        self.damage(to.0, start(to.1), written.len(), |bytes, _| {
            bytes.copy_from_slice(&written[..bytes.len()]);
        });
    }

    fn damage(
        &self,
        path: &str,
        position: u64,
        length_bytes: usize,
        change: impl FnOnce(&mut [u8], &mut fastrand::Rng),
    ) {
        let world = &mut *self.world.borrow_mut();
        let file = world.names().file(path).expect("damage is done to a file that exists");
        let mut bytes = world.content(file).read(position, length_bytes);
        assert!(!bytes.is_empty(), "{path} ends before {position}");
        change(&mut bytes, &mut world.random);
        world.content(file).damage(position, &bytes);
        self.hardware.record("damage", &[file, position, u64::from(crc32c::crc32c(&bytes))]);
    }

    fn check_alive(&self) -> DiskResult<()> {
        if self.world.borrow().life == self.life { Ok(()) } else { Err(DiskError::Off) }
    }

    /// Waits as long as an operation takes. What the operation does, it does after this, at once.
    async fn take_time(&self, what: &str) -> DiskResult<()> {
        self.check_alive()?;
        let time_max = self.world.borrow().faults.operation_time_max;
        self.delay(time_max).await;
        self.check_alive()?;
        self.hardware.record(what, &[self.life]);
        Ok(())
    }

    async fn delay(&self, time_max: Duration) {
        let duration = {
            let world = &mut *self.world.borrow_mut();
            let is_slow = world.faults.slow.strikes(&mut world.random);
            let time_max_us = u64::try_from(time_max.as_micros()).unwrap_or(u64::MAX);
            let duration = Duration::from_micros(world.random.u64(0..=time_max_us));
            duration * if is_slow { 100 } else { 1 }
        };
        self.hardware.sleep(duration).await;
    }

    async fn lock(&self, path: &str, file: FileNumber) -> DiskResult<SimFile> {
        let lock = self.world.borrow_mut().lock(file);
        let guard = FileLock::acquire(lock).await;
        self.check_alive()?;
        Ok(SimFile { disk: self.clone(), path: path.into(), file, guard })
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    async fn create(&self, path: &str) -> DiskResult<SimFile> {
        self.take_time("create").await?;
        let file = self.world.borrow_mut().create(path)?;
        self.lock(path, file).await
    }

    async fn open(&self, path: &str) -> DiskResult<SimFile> {
        self.take_time("open").await?;
        let file = self.world.borrow().names().file(path)?;
        self.lock(path, file).await
    }

    async fn list(&self, directory: &str) -> DiskResult<Vec<DirectoryEntry>> {
        self.take_time("list").await?;
        let world = &mut *self.world.borrow_mut();
        let mut entries = world.names().list(directory, |file| *file)?;
        for entry in entries.iter_mut().filter(|entry| !entry.is_directory) {
            // The length stands for the file's number until here.
            entry.length_bytes = world.content(entry.length_bytes).length_bytes();
        }
        Ok(entries)
    }

    async fn create_directory(&self, directory: &str) -> DiskResult<()> {
        self.take_time("create directory").await?;
        self.world.borrow_mut().create_directory(directory)?;
        self.sync_directory(split(directory).0).await?;
        self.sync_directory(directory).await
    }

    async fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        self.take_time("rename").await?;
        self.world.borrow_mut().rename(from, to)
    }

    async fn remove(&self, path: &str) -> DiskResult<()> {
        self.take_time("remove").await?;
        self.world.borrow_mut().remove(path)
    }

    async fn sync_directory(&self, directory: &str) -> DiskResult<()> {
        // What is changed while the sync runs is not covered by it.
        let order = self.world.borrow_mut().next_number();
        self.take_time("sync directory").await?;
        let world = &mut *self.world.borrow_mut();
        world.names().check_directory(directory)?;
        if world.strikes(|faults| faults.sync_error, directory) {
            return Err(io_error(directory, "sync directory"));
        }
        world.settle_names(directory, order);
        Ok(())
    }
}

impl SimFile {
    /// The device's part of a write: goes on when the process is gone, and keeps the file locked until the end.
    async fn carry_out(self, write: u64, completion: Rc<Completion>) {
        let time_max = self.disk.world.borrow().faults.write_time_max;
        self.disk.delay(time_max).await;
        let result = self.land_and_flush(write, time_max, &completion).await;
        let is_alive = self.disk.check_alive();
        completion.finish(is_alive.and(result));
    }

    async fn land_and_flush(
        &self,
        write: u64,
        time_max: Duration,
        completion: &Rc<Completion>,
    ) -> DiskResult<()> {
        self.disk.check_alive()?;
        let is_abandoned = Completion::is_abandoned(completion);
        let landing = self.disk.world.borrow_mut().land(write, &self.path, is_abandoned);
        self.disk.hardware.record("land", &[self.file, write]);
        let order = match landing {
            Landing::Landed(order) => order,
            Landing::Nothing => return Ok(()),
            Landing::Failed(error) => return Err(error),
        };
        self.disk.delay(time_max).await;
        self.disk.check_alive()?;
        let is_abandoned = Completion::is_abandoned(completion);
        self.disk.world.borrow_mut().complete(self.file, order, is_abandoned);
        self.disk.hardware.record("complete", &[self.file, write]);
        Ok(())
    }

    fn device_handle(&self) -> Self {
        let (disk, path) = (self.disk.clone(), Rc::clone(&self.path));
        Self { disk, path, file: self.file, guard: self.guard.clone() }
    }
}

impl DiskFile for SimFile {
    type Buffer = Vec<u8>;

    fn buffer(&self, length_bytes: usize) -> Vec<u8> {
        assert!(length_bytes.is_multiple_of(BLOCK_SIZE_BYTES));
        vec![0; length_bytes]
    }

    async fn write_at(&self, position: u64, buffer: Rc<Vec<u8>>) -> DiskResult<()> {
        assert!(position.is_multiple_of(BLOCK_SIZE_BYTES as u64));
        assert!(buffer.len().is_multiple_of(BLOCK_SIZE_BYTES));
        assert!(!buffer.is_empty());
        self.disk.check_alive()?;
        let checksum = u64::from(crc32c::crc32c(&buffer));
        let write = self.disk.world.borrow_mut().submit(self.file, position, buffer.to_vec());
        self.disk.hardware.record("write", &[self.file, write, position, checksum]);
        let completion = Rc::new(Completion::default());
        let device = self.device_handle();
        self.disk.hardware.spawn(device.carry_out(write, Rc::clone(&completion)));
        completion.wait().await
    }

    async fn read_at(&self, position: u64, length_bytes: usize) -> DiskResult<Vec<u8>> {
        self.disk.take_time("read").await?;
        let world = &mut *self.disk.world.borrow_mut();
        if world.strikes(|faults| faults.read_error, &self.path) {
            return Err(io_error(&self.path, "read"));
        }
        let bytes = world.content(self.file).read(position, length_bytes);
        let checksum = u64::from(crc32c::crc32c(&bytes));
        self.disk.hardware.record("read", &[self.file, position, checksum]);
        Ok(bytes)
    }

    async fn sync(&self) -> DiskResult<()> {
        self.disk.check_alive()?;
        // What lands while the sync runs is not covered by it.
        let order = self.disk.world.borrow_mut().next_number();
        self.disk.take_time("sync").await?;
        let world = &mut *self.disk.world.borrow_mut();
        if world.strikes(|faults| faults.sync_error, &self.path) {
            world.content(self.file).forget_up_to(order);
            return Err(io_error(&self.path, "sync"));
        }
        world.content(self.file).settle_up_to(order);
        Ok(())
    }

    async fn allocate(&self, length_bytes: u64) -> DiskResult<()> {
        self.disk.take_time("allocate").await?;
        let world = &mut *self.disk.world.borrow_mut();
        world.claim(self.file, length_bytes, &self.path)?;
        if length_bytes > world.content(self.file).length_bytes() {
            world.set_length(self.file, length_bytes);
        }
        Ok(())
    }

    async fn truncate(&self, length_bytes: u64) -> DiskResult<()> {
        self.disk.take_time("truncate").await?;
        self.disk.world.borrow_mut().set_length(self.file, length_bytes);
        Ok(())
    }

    async fn length_bytes(&self) -> DiskResult<u64> {
        self.disk.take_time("length").await?;
        Ok(self.disk.world.borrow_mut().content(self.file).length_bytes())
    }
}

impl Completion {
    /// Whether the process that waited is gone: only the device still holds the completion.
    fn is_abandoned(completion: &Rc<Self>) -> bool {
        Rc::strong_count(completion) == 1
    }

    fn finish(&self, result: DiskResult<()>) {
        *self.result.borrow_mut() = Some(result);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    async fn wait(&self) -> DiskResult<()> {
        poll_fn(|context| match self.result.borrow_mut().take() {
            Some(result) => Poll::Ready(result),
            None => {
                self.waiter.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}
