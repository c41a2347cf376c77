//! The real disk: files of direct, synchronous I/O through glommio's io_uring, and glommio as the [`Runtime`].
//!
//! What it promises beyond [`Disk`]: memory for writes is reused, the executor never waits for a slow directory, and
//! no writes of a dead process land after [`Disk::open`] has returned. It never retries what failed.
//!
//! What it must mind, all seen with glommio 0.9.0:
//! - The first file that an executor opens decides for its whole device whether reads are polled. If it is empty the
//!   answer is wrong, and every read fails with EOPNOTSUPP: [`DmaDisk::new`] opens a file with bytes in it first.
//! - A write whose future is dropped is cancelled, and nobody knows what is on disk. Writers are detached tasks.
//! - Buffers hold whatever was in that memory before.
//! - `DmaFile::stat` goes by the path, which a rename makes another file's; here lengths come from the descriptor.
//! - `DmaFile::read_at` counts the bytes before an unaligned position as read; only the aligned one is used.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use glommio::GlommioError;
use glommio::io::{DmaBuffer, DmaFile, OpenOptions, ReadResult};
use nix::errno::Errno;
use nix::fcntl::{FlockArg, flock};
use nix::sys::stat::fstat;
use nix::time::{ClockId, clock_gettime};

use crate::disk::{BLOCK_SIZE_BYTES, DirectoryEntry, Disk, DiskFile, DiskResult, SharedBytes};
use crate::error::DiskError;
use crate::runtime::Runtime;
use crate::types::{Monotonic, Now, Timestamp};

#[cfg(test)]
mod tests;

const BLOCK: u64 = BLOCK_SIZE_BYTES as u64;
/// Has bytes, so that opening it first teaches glommio the truth about the device.
const PROBE_FILE: &str = "probe";
const PROBE_BYTE: u8 = 0x57;
/// Locked by the process that serves the directory.
/// Between two tries for a file's lock. Writes of a dead process were seen to hold it for 3 to 11 ms.
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// Tries between two messages: one a second.
const LOCK_TRIES_A_MESSAGE: u32 = 200;
/// The longest single read. Longer ones are cut, so that a buffer for the device stays small.
const READ_SIZE_BYTES_MAX: u64 = 4 << 20;
/// Memory kept for reuse a core: the frames in flight and as many that readers still look at.
const POOL_SIZE_BYTES_MAX: usize = 8 << 20;
/// Buffers kept for reuse, because they are searched one by one.
const POOL_BUFFERS_COUNT_MAX: usize = 64;

/// glommio's executor of this thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct GlommioRuntime;

impl Runtime for GlommioRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(task).detach();
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }

    fn now(&self) -> Now {
        // The machine's monotonic clock, not an `Instant`: the same for all cores, so that they may exchange times.
        let wall = read_clock(ClockId::CLOCK_REALTIME);
        let mono = read_clock(ClockId::CLOCK_MONOTONIC);
        Now { wall: Timestamp(wall), mono: Monotonic(mono.max(0).cast_unsigned()) }
    }
}

fn read_clock(clock: ClockId) -> i64 {
    let time = clock_gettime(clock).expect("Linux has both clocks");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

/// A directory of the real disk, seen from one executor. Clones share their buffers.
#[derive(Clone)]
pub struct DmaDisk {
    root: Rc<Path>,
    pool: Rc<BufferPool>,
    on_wait: fn(&str),
}

/// An open file of a [`DmaDisk`]. Dropping it closes it in the executor's next round.
pub struct DmaDiskFile {
    file: DmaFile,
    /// As it was opened: for errors.
    path: Rc<str>,
    pool: Rc<BufferPool>,
}

impl DmaDisk {
    /// The directory `root`, which must exist. Call it in each executor before that opens any other file.
    ///
    /// # Errors
    /// If the directory cannot be written, or direct reads do not work in it.
    pub async fn new(root: &Path) -> DiskResult<Self> {
        let target = root.to_owned();
        let unique = glommio::executor().id();
        blocking(PROBE_FILE, "write", move || write_probe(&target, unique)).await?;
        let file = DmaFile::open(root.join(PROBE_FILE))
            .await
            .map_err(|error| from_glommio(PROBE_FILE, "open for direct reads", error))?;
        let read = file
            .read_at_aligned(0, BLOCK_SIZE_BYTES)
            .await
            .map_err(|error| from_glommio(PROBE_FILE, "read directly", error))?;
        if *read != [PROBE_BYTE; BLOCK_SIZE_BYTES] {
            let reason = "other bytes than were written".to_owned();
            let file = PROBE_FILE.to_owned();
            return Err(DiskError::Io { file, what: "read directly", reason });
        }
        file.close().await.map_err(|error| from_glommio(PROBE_FILE, "close", error))?;
        let on_wait = |message: &str| eprintln!("{message}");
        Ok(Self { root: root.into(), pool: Rc::default(), on_wait })
    }

    /// Sends the messages about waiting for a file's lock, one a second, elsewhere than to standard error.
    #[must_use]
    pub fn with_on_wait(self, on_wait: fn(&str)) -> Self {
        Self { on_wait, ..self }
    }

    fn full_path(&self, path: &str) -> PathBuf {
        let is_inside = path.split('/').all(|part| part != ".." && part != ".");
        assert!(is_inside && !path.starts_with('/'), "path {path:?} leaves the data directory");
        self.root.join(path)
    }

    async fn open_locked(&self, path: &str, options: &OpenOptions) -> DiskResult<DmaDiskFile> {
        let file = options
            .dma_open(self.full_path(path))
            .await
            .map_err(|error| from_glommio(path, "open", error))?;
        let mut tries: u32 = 0;
        // Without a maximum: to go on earlier would let dead writes land over new ones. The lock is on the very
        // descriptor that the ring writes through: only that one stays locked as long as a write is in flight.
        while !try_lock(&file, path)? {
            tries = tries.wrapping_add(1);
            if tries.is_multiple_of(LOCK_TRIES_A_MESSAGE) {
                (self.on_wait)(&format!("{path}: waiting for writes of an earlier process"));
            }
            glommio::timer::sleep(LOCK_RETRY).await;
        }
        Ok(DmaDiskFile { file, path: path.into(), pool: Rc::clone(&self.pool) })
    }
}

// Names change rarely, and a slow disk may take seconds to sync a directory: all that is done on the executor's
// blocking thread, 12 us away, so that sockets and other shards are served meanwhile.
impl Disk for DmaDisk {
    type File = DmaDiskFile;

    async fn create(&self, path: &str) -> DiskResult<DmaDiskFile> {
        self.open_locked(path, synchronous_options().create_new(true)).await
    }

    async fn open(&self, path: &str) -> DiskResult<DmaDiskFile> {
        self.open_locked(path, &synchronous_options()).await
    }

    async fn list(&self, directory: &str) -> DiskResult<Vec<DirectoryEntry>> {
        let target = self.full_path(directory);
        blocking(directory, "list", move || list(&target)).await
    }

    async fn create_directory(&self, directory: &str) -> DiskResult<()> {
        let target = self.full_path(directory);
        blocking(directory, "create directory", move || {
            create_directory(&target)?;
            sync_directory(&target)
        })
        .await
    }

    async fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        let (source, target) = (self.full_path(from), self.full_path(to));
        blocking(from, "rename", move || fs::rename(source, target)).await
    }

    async fn remove(&self, path: &str) -> DiskResult<()> {
        let target = self.full_path(path);
        blocking(path, "remove", move || fs::remove_file(target)).await
    }

    async fn sync_directory(&self, directory: &str) -> DiskResult<()> {
        let target = self.full_path(directory);
        blocking(directory, "sync directory", move || sync_directory(&target)).await
    }
}

impl DmaDiskFile {
    fn length(&self) -> DiskResult<u64> {
        let stat = fstat(self.file.as_raw_fd());
        let stat = stat.map_err(|errno| from_errno(&self.path, "stat", errno as i32))?;
        Ok(stat.st_size.max(0).cast_unsigned())
    }

    /// How much of `length_bytes` from `position` on the file has: looked at before anything is allocated.
    fn available(&self, position: u64, length_bytes: usize) -> DiskResult<usize> {
        let available = self.length()?.saturating_sub(position);
        Ok(usize::try_from(available).map_or(length_bytes, |all| all.min(length_bytes)))
    }

    fn error(&self, what: &'static str, error: GlommioError<()>) -> DiskError {
        from_glommio(&self.path, what, error)
    }
}

/// What a read brought, without what only fills its last block.
struct DmaRead {
    read: ReadResult,
    length_bytes: usize,
}

impl AsRef<[u8]> for DmaRead {
    fn as_ref(&self) -> &[u8] {
        &self.read[..self.length_bytes]
    }
}

impl DiskFile for DmaDiskFile {
    type Buffer = DmaDiskBuffer;

    fn buffer(&self, length_bytes: usize) -> DmaDiskBuffer {
        assert!(length_bytes > 0);
        assert!(length_bytes.is_multiple_of(BLOCK_SIZE_BYTES));
        let reused = self.pool.take(length_bytes);
        let mut memory =
            reused.unwrap_or_else(|| Rc::new(self.file.alloc_dma_buffer(length_bytes)));
        let bytes = Rc::get_mut(&mut memory).expect("the pool keeps only buffers of its own");
        bytes.as_bytes_mut().fill(0);
        DmaDiskBuffer { memory, pool: Rc::clone(&self.pool) }
    }

    /// Must not be dropped before it returns: run it in a detached task.
    async fn write_at(&self, position: u64, buffer: Rc<DmaDiskBuffer>) -> DiskResult<()> {
        assert!(position.is_multiple_of(BLOCK));
        let wanted = buffer.memory.len();
        let written = self
            .file
            .write_rc_at(Rc::clone(&buffer.memory), position)
            .await
            .map_err(|error| self.error("write", error))?;
        if written == wanted {
            return Ok(());
        }
        Err(DiskError::Short { file: self.path.to_string(), written, wanted })
    }

    async fn read_at(&self, position: u64, length_bytes: usize) -> DiskResult<Vec<u8>> {
        let wanted = self.available(position, length_bytes)?;
        let mut bytes = Vec::with_capacity(wanted);
        while bytes.len() < wanted {
            let at = position + bytes.len() as u64;
            let start = at - at % BLOCK;
            let end = (position + wanted as u64).min(start + READ_SIZE_BYTES_MAX);
            let length = (end - start).next_multiple_of(BLOCK) as usize;
            let read = self.file.read_at_aligned(start, length).await;
            let read = read.map_err(|error| self.error("read", error))?;
            let (first, last) = ((at - start) as usize, (end - start) as usize);
            // Nothing new: the file was cut meanwhile.
            let Some(part) = read.get(first..last.min(read.len())) else { break };
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }

    async fn read_blocks(&self, position: u64, length_bytes: usize) -> DiskResult<SharedBytes> {
        assert!(position.is_multiple_of(BLOCK));
        if length_bytes as u64 > READ_SIZE_BYTES_MAX {
            return Ok(Rc::new(self.read_at(position, length_bytes).await?));
        }
        let wanted = self.available(position, length_bytes)?;
        if wanted == 0 {
            return Ok(Rc::new([]));
        }
        let read = self.file.read_at_aligned(position, wanted.next_multiple_of(BLOCK_SIZE_BYTES));
        let read = read.await.map_err(|error| self.error("read", error))?;
        if read.len() < wanted {
            return Ok(Rc::new(self.read_at(position, length_bytes).await?));
        }
        Ok(Rc::new(DmaRead { read, length_bytes: wanted }))
    }

    async fn sync(&self) -> DiskResult<()> {
        self.file.fdatasync().await.map_err(|error| self.error("sync", error))
    }

    async fn allocate(&self, length_bytes: u64) -> DiskResult<()> {
        let before = self.length()?;
        if length_bytes == 0 {
            return Ok(());
        }
        let error = match self.file.pre_allocate(length_bytes, false).await {
            Ok(()) => return Ok(()),
            Err(error) => self.error("allocate", error),
        };
        if matches!(error, DiskError::Full { .. }) {
            // ext4 keeps the blocks that it got before it ran out: a full disk would stay full.
            self.truncate(before).await?;
        }
        Err(error)
    }

    async fn truncate(&self, length_bytes: u64) -> DiskResult<()> {
        self.file.truncate(length_bytes).await.map_err(|error| self.error("truncate", error))
    }

    async fn length_bytes(&self) -> DiskResult<u64> {
        self.length()
    }
}

/// Memory for a write, aligned to pages. Dropping it gives it back for reuse.
pub struct DmaDiskBuffer {
    memory: Rc<DmaBuffer>,
    pool: Rc<BufferPool>,
}

impl AsRef<[u8]> for DmaDiskBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_bytes()
    }
}

impl AsMut<[u8]> for DmaDiskBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        let memory =
            Rc::get_mut(&mut self.memory).expect("a buffer is changed before it is written");
        memory.as_bytes_mut()
    }
}

impl Drop for DmaDiskBuffer {
    fn drop(&mut self) {
        // A cancelled write may still hold it.
        if Rc::strong_count(&self.memory) == 1 {
            self.pool.give_back(Rc::clone(&self.memory));
        }
    }
}

/// Buffers for reuse: fresh ones of this size come from the kernel page by page, at each commit, and cost more than
/// filling old ones with zeros. When full it lets the oldest go.
#[derive(Default)]
struct BufferPool {
    /// The latest last: it is the one still in the processor's cache.
    buffers: RefCell<VecDeque<Rc<DmaBuffer>>>,
}

impl BufferPool {
    fn take(&self, length_bytes: usize) -> Option<Rc<DmaBuffer>> {
        let mut buffers = self.buffers.borrow_mut();
        let index = buffers.iter().rposition(|buffer| buffer.len() == length_bytes)?;
        buffers.remove(index)
    }

    fn give_back(&self, buffer: Rc<DmaBuffer>) {
        let mut buffers = self.buffers.borrow_mut();
        buffers.push_back(buffer);
        let mut size_bytes: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        while buffers.len() > POOL_BUFFERS_COUNT_MAX || size_bytes > POOL_SIZE_BYTES_MAX {
            size_bytes -= buffers.pop_front().map_or(0, |oldest| oldest.len());
        }
    }
}

/// glommio adds O_DIRECT to each file that is not in memory anyway, and refuses those that cannot.
fn synchronous_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DSYNC);
    options
}

fn try_lock(file: &DmaFile, path: &str) -> DiskResult<bool> {
    match flock(file.as_raw_fd(), FlockArg::LockExclusiveNonblock) {
        Ok(()) => Ok(true),
        Err(Errno::EWOULDBLOCK | Errno::EINTR) => Ok(false),
        Err(errno) => Err(from_errno(path, "lock", errno as i32)),
    }
}

/// Makes the probe file, or finds it. Other cores do the same at the same time, and none may ever see it empty:
/// it appears by rename. It stays, so that a start on a full disk needs no space.
fn write_probe(root: &Path, unique: usize) -> io::Result<()> {
    let path = root.join(PROBE_FILE);
    let bytes = [PROBE_BYTE; BLOCK_SIZE_BYTES];
    if fs::read(&path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let new = root.join(format!("{PROBE_FILE}.{}.{unique}", std::process::id()));
    let mut file = File::create(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}

fn list(directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed since: as if it had been before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_directory = metadata.is_dir();
        let length_bytes = if is_directory { 0 } else { metadata.len() };
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(DirectoryEntry { name, length_bytes, is_directory });
    }
    entries.sort();
    Ok(entries)
}

/// Makes one directory and syncs its parent; one that exists is fine, but may not have been synced when it was made.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        other => other?,
    }
    match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")),
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    let file = File::open(directory)?;
    if !file.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    file.sync_all()
}

async fn blocking<T: Send + 'static>(
    path: &str,
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> DiskResult<T> {
    let result = glommio::executor().spawn_blocking(work).await;
    result.map_err(|error| from_io(path, what, &error))
}

fn from_glommio(path: &str, what: &'static str, error: GlommioError<()>) -> DiskError {
    match error.raw_os_error() {
        Some(code) => from_errno(path, what, code),
        // Without the path, which glommio's own words would show.
        None => from_io(path, what, &io::Error::from(error)),
    }
}

pub(super) fn from_io(path: &str, what: &'static str, error: &io::Error) -> DiskError {
    match error.raw_os_error() {
        Some(code) => from_errno(path, what, code),
        None => DiskError::Io { file: path.to_owned(), what, reason: error.kind().to_string() },
    }
}

fn from_errno(path: &str, what: &'static str, code: i32) -> DiskError {
    let file = path.to_owned();
    match Errno::from_i32(code) {
        Errno::ENOENT => DiskError::Absent { file },
        Errno::EEXIST => DiskError::Exists { file },
        Errno::ENOSPC | Errno::EDQUOT => DiskError::Full { file },
        errno => DiskError::Io { file, what, reason: errno.desc().to_owned() },
    }
}

/// Runs a test on a thread and an executor of its own, as a core of the server does.
#[cfg(test)]
fn run_on_core<T: Future<Output = ()> + 'static>(
    test: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let builder = glommio::LocalExecutorBuilder::default().io_memory(1 << 20);
        builder.make().expect("io_uring works here").run(test());
    })
}
