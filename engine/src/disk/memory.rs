//! The memory store's disk: files are sparse pages on the heap, gone when the last clone of the disk is dropped.
//!
//! It keeps the promises of [`Disk`] in form (names, locks, errors), so that the engine above needs no second way.
//! What it never does: wait for anything but a lock, fail for want of space, or survive the process.

use std::cell::RefCell;
use std::rc::Rc;

use crate::disk::memory::lock::{FileLock, LockGuard};
use crate::disk::memory::names::Names;
use crate::disk::memory::pages::Pages;
use crate::disk::{BLOCK_SIZE_BYTES, DirectoryEntry, Disk, DiskFile, DiskResult};

pub(crate) mod lock;
pub(crate) mod names;
pub(crate) mod pages;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    names: Rc<RefCell<Names<Rc<MemoryNode>>>>,
}

/// An open file of a [`MemoryDisk`].
pub struct MemoryFile {
    node: Rc<MemoryNode>,
    _guard: LockGuard,
}

#[derive(Default)]
struct MemoryNode {
    content: RefCell<Pages>,
    lock: Rc<FileLock>,
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    async fn create(&self, path: &str) -> DiskResult<MemoryFile> {
        let node = Rc::new(MemoryNode::default());
        self.names.borrow_mut().insert(path, Rc::clone(&node))?;
        let guard = FileLock::acquire(Rc::clone(&node.lock)).await;
        Ok(MemoryFile { node, _guard: guard })
    }

    async fn open(&self, path: &str) -> DiskResult<MemoryFile> {
        let node = self.names.borrow().file(path)?;
        let guard = FileLock::acquire(Rc::clone(&node.lock)).await;
        Ok(MemoryFile { node, _guard: guard })
    }

    async fn list(&self, directory: &str) -> DiskResult<Vec<DirectoryEntry>> {
        self.names.borrow().list(directory, |node| node.content.borrow().length_bytes())
    }

    async fn create_directory(&self, directory: &str) -> DiskResult<()> {
        self.names.borrow_mut().create_directory(directory)
    }

    async fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        self.names.borrow_mut().rename(from, to)
    }

    async fn remove(&self, path: &str) -> DiskResult<()> {
        self.names.borrow_mut().remove(path)
    }

    async fn sync_directory(&self, directory: &str) -> DiskResult<()> {
        self.names.borrow().check_directory(directory)
    }
}

impl DiskFile for MemoryFile {
    type Buffer = Vec<u8>;

    fn buffer(&self, length_bytes: usize) -> Vec<u8> {
        assert!(length_bytes.is_multiple_of(BLOCK_SIZE_BYTES));
        vec![0; length_bytes]
    }

    async fn write_at(&self, position: u64, buffer: Rc<Vec<u8>>) -> DiskResult<()> {
        assert!(position.is_multiple_of(BLOCK_SIZE_BYTES as u64));
        assert!(buffer.len().is_multiple_of(BLOCK_SIZE_BYTES));
        self.node.content.borrow_mut().write(position, &buffer);
        Ok(())
    }

    async fn read_at(&self, position: u64, length_bytes: usize) -> DiskResult<Vec<u8>> {
        Ok(self.node.content.borrow().read(position, length_bytes))
    }

    async fn sync(&self) -> DiskResult<()> {
        Ok(())
    }

    async fn allocate(&self, length_bytes: u64) -> DiskResult<()> {
        self.node.content.borrow_mut().extend(length_bytes);
        Ok(())
    }

    async fn truncate(&self, length_bytes: u64) -> DiskResult<()> {
        self.node.content.borrow_mut().set_length(length_bytes);
        Ok(())
    }

    async fn length_bytes(&self) -> DiskResult<u64> {
        Ok(self.node.content.borrow().length_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::contract;
    use crate::sim::SimExecutor;

    #[test]
    fn keeps_the_contract() {
        let executor = SimExecutor::new(1);
        let runtime = executor.runtime();
        executor.block_on(contract::check_disk(MemoryDisk::default(), runtime));
    }

    /// A memory store prepares segments like any other: neither allocating nor filling with zeros may cost memory.
    #[test]
    fn prepared_zeros_cost_no_pages() {
        let executor = SimExecutor::new(1);
        executor.block_on(async {
            let disk = MemoryDisk::default();
            let file = disk.create("segment").await.unwrap();
            file.allocate(1 << 30).await.unwrap();
            let zeros = Rc::new(file.buffer(1 << 20));
            for part in 0..8 {
                file.write_at(part << 20, Rc::clone(&zeros)).await.unwrap();
            }
            assert_eq!(file.node.content.borrow().page_count(), 0);
            assert_eq!(file.length_bytes().await.unwrap(), 1 << 30);
        });
    }
}
