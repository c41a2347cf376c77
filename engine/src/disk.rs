//! The edge to storage: five verbs on files, five on names. `dma` is the real disk through io_uring, `memory` the
//! memory store, `sim::disk` one that crashes. `contract` is the suite that all of them pass.
//!
//! Paths are relative to the disk's root, `/` between parts, and never contain a name that a client chose.

use std::future::Future;
use std::rc::Rc;

use crate::error::DiskError;

#[cfg(test)]
pub(crate) mod contract;
pub mod dma;
pub mod lock;
pub mod memory;

/// Writes start and end at multiples of this, in the file and in memory.
pub const BLOCK_SIZE_BYTES: usize = 4096;

/// Bytes that several look at, wherever they are.
pub type SharedBytes = Rc<dyn AsRef<[u8]>>;

/// The answer of a disk.
pub type DiskResult<T> = Result<T, DiskError>;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// The last part of the path.
    pub name: String,
    /// Length in bytes; 0 for a directory.
    pub length_bytes: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// A directory tree of files for direct, synchronous I/O.
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: DiskFile;

    /// Creates a file that must not exist, and locks it. The name is durable only after [`Disk::sync_directory`].
    fn create(&self, path: &str) -> impl Future<Output = DiskResult<Self::File>>;

    /// Opens a file for reading and writing, and waits for the lock on it: writes of a dead process may still be on
    /// their way (spec reliability.md, 0.2). Absent is `DiskError::Absent`.
    fn open(&self, path: &str) -> impl Future<Output = DiskResult<Self::File>>;

    /// The names in a directory, sorted. Absent is `DiskError::Absent`.
    fn list(&self, directory: &str) -> impl Future<Output = DiskResult<Vec<DirectoryEntry>>>;

    /// Makes a directory durably (it and its parent synced); one that exists is fine. Parents must exist.
    fn create_directory(&self, directory: &str) -> impl Future<Output = DiskResult<()>>;

    /// Moves a name over another in the same directory or not. Durable after both directories are synced.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = DiskResult<()>>;

    /// Removes a file's name.
    fn remove(&self, path: &str) -> impl Future<Output = DiskResult<()>>;

    /// Returns when all names made, moved and removed in `directory` before are durable. "" is the root.
    fn sync_directory(&self, directory: &str) -> impl Future<Output = DiskResult<()>>;
}

/// An open file. Dropping it closes it.
pub trait DiskFile: 'static {
    /// Aligned memory for writing.
    type Buffer: AsRef<[u8]> + AsMut<[u8]> + 'static;

    /// A zeroed buffer of `length_bytes`, a multiple of [`BLOCK_SIZE_BYTES`].
    fn buffer(&self, length_bytes: usize) -> Self::Buffer;

    /// Writes the whole buffer at `position` (a multiple of [`BLOCK_SIZE_BYTES`]); it is on stable storage when this
    /// returns. Extends the file. A short write is an error. After an error the state of those blocks is unknown.
    fn write_at(
        &self,
        position: u64,
        buffer: Rc<Self::Buffer>,
    ) -> impl Future<Output = DiskResult<()>>;

    /// Reads `length_bytes` from `position`; any alignment. Shorter at the end of the file.
    fn read_at(
        &self,
        position: u64,
        length_bytes: usize,
    ) -> impl Future<Output = DiskResult<Vec<u8>>>;

    /// The same from `position` at a multiple of [`BLOCK_SIZE_BYTES`], in the memory that the disk brought it to: what is
    /// read in windows and looked at in part costs no copy.
    fn read_blocks(
        &self,
        position: u64,
        length_bytes: usize,
    ) -> impl Future<Output = DiskResult<SharedBytes>> {
        async move { Ok(Rc::new(self.read_at(position, length_bytes).await?) as SharedBytes) }
    }

    /// Returns when all that this file holds is on stable storage, whoever wrote it.
    fn sync(&self) -> impl Future<Output = DiskResult<()>>;

    /// Allocates blocks up to `length_bytes`; `DiskError::Full` leaves nothing behind that a later call needs to know.
    fn allocate(&self, length_bytes: u64) -> impl Future<Output = DiskResult<()>>;

    /// Cuts the file to `length_bytes`.
    fn truncate(&self, length_bytes: u64) -> impl Future<Output = DiskResult<()>>;

    /// The file's length in bytes.
    fn length_bytes(&self) -> impl Future<Output = DiskResult<u64>>;
}
