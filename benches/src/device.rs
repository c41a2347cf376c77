//! The limit of the device: plain synchronous writes over written blocks, plain reads, and the same writes through
//! the engine's edge to the disk with nothing above it.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;

use weirlog_engine::disk::dma::DmaDisk;
use weirlog_engine::disk::{BLOCK_SIZE_BYTES, Disk as _, DiskFile as _};

use crate::BenchError;
use crate::executor::{fresh_directory, run_on_core};
use crate::measure::{now_ns, seconds_since};

/// Larger than what a device might keep for itself, small enough to be written anew for each run.
const FILE_SIZE_BYTES: u64 = 256 << 20;
const FILL_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 1 << 20;

/// Writes of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WritePlan {
    /// Bytes of each write, whole blocks.
    pub size_bytes: usize,
    /// Writes on their way at once.
    pub in_flight: usize,
    /// For how long.
    pub seconds: f64,
}

/// Durable writes a second with plain system calls: each thread overwrites its own part of a written file.
pub(crate) fn plain_writes(data: &Path, plan: WritePlan) -> Result<f64, BenchError> {
    assert!(plan.size_bytes.is_multiple_of(BLOCK_SIZE_BYTES));
    let path = data.join("device");
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    options.custom_flags(libc::O_DIRECT | libc::O_DSYNC);
    let file = options.open(&path)?;
    let zeros = AlignedBytes::new(FILL_BYTES);
    for position in (0..FILE_SIZE_BYTES).step_by(FILL_BYTES) {
        file.write_all_at(zeros.bytes(), position)?;
    }
    let part_bytes = FILE_SIZE_BYTES / plan.in_flight as u64;
    let part_bytes = part_bytes - part_bytes % BLOCK_SIZE_BYTES as u64;
    let start_ns = now_ns();
    let counts = thread::scope(|scope| {
        let file = &file;
        let writers: Vec<_> = (0..plan.in_flight as u64)
            .map(|part| scope.spawn(move || overwrite(file, part * part_bytes, part_bytes, plan)))
            .collect();
        let joined = writers.into_iter().map(|writer| writer.join().expect("writers do not panic"));
        joined.collect::<Result<Vec<u64>, std::io::Error>>()
    })?;
    let rate = counts.iter().sum::<u64>() as f64 / seconds_since(start_ns);
    fs::remove_file(&path)?;
    Ok(rate)
}

/// Writes over one part of the file, from its start again when its end is reached; returns the number of writes.
fn overwrite(file: &File, start: u64, length: u64, plan: WritePlan) -> std::io::Result<u64> {
    let buffer = AlignedBytes::new(plan.size_bytes);
    let size = plan.size_bytes as u64;
    let start_ns = now_ns();
    let (mut position, mut count) = (0, 0);
    while seconds_since(start_ns) < plan.seconds {
        if position + size > length {
            position = 0;
        }
        file.write_all_at(buffer.bytes(), start + position)?;
        position += size;
        count += 1;
    }
    Ok(count)
}

/// The same through the engine's disk and the executor's ring: what is lost between this and plain writes is lost
/// below the engine.
pub(crate) fn ring_writes(data: &Path, plan: WritePlan) -> Result<f64, BenchError> {
    let root = data.join("ring");
    fresh_directory(&root)?;
    let inside = root.clone();
    let rate = run_on_core(move || async move { overwrite_ring(&inside, plan).await })?;
    fs::remove_dir_all(&root)?;
    Ok(rate)
}

async fn overwrite_ring(root: &Path, plan: WritePlan) -> Result<f64, BenchError> {
    let disk = DmaDisk::new(root).await?;
    let file = Rc::new(disk.create("file").await?);
    let zeros = Rc::new(file.buffer(FILL_BYTES));
    for position in (0..FILE_SIZE_BYTES).step_by(FILL_BYTES) {
        file.write_at(position, zeros.clone()).await?;
    }
    let (position, count) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_u64)));
    let size = plan.size_bytes as u64;
    let start_ns = now_ns();
    let writers: Vec<_> = (0..plan.in_flight)
        .map(|_| {
            let (file, position, count) = (file.clone(), position.clone(), count.clone());
            glommio::spawn_local(async move {
                let buffer = Rc::new(file.buffer(plan.size_bytes));
                while seconds_since(start_ns) < plan.seconds {
                    let at = position.get();
                    let at = if at + size > FILE_SIZE_BYTES { 0 } else { at };
                    position.set(at + size);
                    file.write_at(at, buffer.clone()).await?;
                    count.set(count.get() + 1);
                }
                Ok::<(), BenchError>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await?;
    }
    Ok(count.get() as f64 / seconds_since(start_ns))
}

/// Bytes a second when the files are read one after the other, past the cache of the kernel.
pub(crate) fn plain_reads(files: &[PathBuf]) -> Result<f64, BenchError> {
    let mut buffer = AlignedBytes::new(READ_BYTES);
    let mut total = 0_u64;
    let start_ns = now_ns();
    for path in files {
        let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path)?;
        let mut position = 0;
        loop {
            let read = file.read_at(buffer.bytes_mut(), position)? as u64;
            position += read;
            total += read;
            if read < READ_BYTES as u64 {
                break;
            }
        }
    }
    Ok(total as f64 / seconds_since(start_ns))
}

/// Memory that starts at a block's boundary, as direct I/O wants it.
struct AlignedBytes {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBytes {
    fn new(length: usize) -> Self {
        let memory = vec![0; length + BLOCK_SIZE_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_SIZE_BYTES);
        assert!(start < BLOCK_SIZE_BYTES, "bytes can be aligned to anything");
        Self { memory, start, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}
