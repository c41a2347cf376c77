//! A shard's superblock file: two slots of one block, written in turn. Term and log end go to both before use.

use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskFile, DiskResult};
use crate::error::{DiskError, OpenError};
use crate::format::blocks::{ChainPoint, Sealed, Superblock};
use crate::log::segment::{shard_directory, write_block};
use crate::types::{ShardId, Term};

fn superblock_path(shard: ShardId) -> String {
    format!("{}/superblock", shard_directory(shard))
}

/// The open file, and what is in its newest slot.
pub(crate) struct SuperblockFile<F: DiskFile> {
    file: std::rc::Rc<F>,
    newest: Superblock,
    /// Whether a slot is not as it was written, and was not torn while it was written either.
    is_damaged: bool,
}

/// A write of one slot.
pub(crate) struct SlotWrite<F: DiskFile> {
    pub file: std::rc::Rc<F>,
    pub position: u64,
    pub block: Vec<u8>,
}

impl<F: DiskFile> SuperblockFile<F> {
    /// Opens the file of a shard; `None` if there is none.
    pub(crate) async fn open<D: Disk<File = F>>(
        disk: &D,
        shard: ShardId,
    ) -> Result<Option<Self>, OpenError> {
        let path = superblock_path(shard);
        let file = match disk.open(&path).await {
            Ok(file) => file,
            Err(DiskError::Absent { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        file.sync().await?;
        let mut newest = Superblock { shard, ..Superblock::default() };
        let mut is_damaged = false;
        for slot in 0..2 {
            let block = file.read_at(slot * BLOCK_SIZE_BYTES as u64, BLOCK_SIZE_BYTES).await?;
            match Superblock::decode(&block) {
                Sealed::Valid(found) if found.shard == shard => {
                    if found.counter > newest.counter {
                        newest = found;
                    }
                }
                Sealed::Corrupt => is_damaged |= !may_be_torn(&block),
                Sealed::LaterVersion(version) => {
                    return Err(OpenError::Format {
                        file: path,
                        reason: format!("version {version}"),
                    });
                }
                // A torn slot: the other one counts. Both torn: term and end come from the segments.
                Sealed::Absent => {}
                // Another shard's.
                Sealed::Valid(_) => is_damaged = true,
            }
        }
        Ok(Some(Self { file: std::rc::Rc::new(file), newest, is_damaged }))
    }

    /// Makes a shard's directory and superblock, durably; `log_end` is where its log ends already.
    pub(crate) async fn create<D: Disk<File = F>>(
        disk: &D,
        shard: ShardId,
        term: Term,
        log_end: ChainPoint,
    ) -> DiskResult<Self> {
        disk.create_directory(&shard_directory(shard)).await?;
        let path = superblock_path(shard);
        let file = match disk.create(&path).await {
            // An earlier try made it, and then there was no space.
            Err(DiskError::Exists { .. }) => disk.open(&path).await?,
            made => made?,
        };
        let mut made = Self {
            file: std::rc::Rc::new(file),
            newest: Superblock { shard, ..Superblock::default() },
            is_damaged: false,
        };
        made.begin_term(term, log_end).await?;
        disk.sync_directory(&shard_directory(shard)).await?;
        Ok(made)
    }

    /// Whether it was found damaged. Nothing is lost by that: the other slot counts, or the segments.
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// What counts.
    pub(crate) fn newest(&self) -> &Superblock {
        &self.newest
    }

    /// Writes term and log end to both slots.
    pub(crate) async fn begin_term(&mut self, term: Term, log_end: ChainPoint) -> DiskResult<()> {
        for _ in 0..2 {
            let write = self.update(|slot| {
                slot.term = term;
                slot.log_end = log_end;
            });
            write_block(&*write.file, write.position, &write.block).await?;
        }
        Ok(())
    }

    /// Changes the content and says what to write; one write at a time, in order.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Superblock)) -> SlotWrite<F> {
        change(&mut self.newest);
        self.newest.counter += 1;
        let slot = self.newest.counter % 2;
        SlotWrite {
            file: self.file.clone(),
            position: slot * BLOCK_SIZE_BYTES as u64,
            block: self.newest.encode(),
        }
    }
}

/// Whether a slot that cannot be read may be what a power loss left of a write: parts of two versions. One that is
/// shorter than a sector is written whole or not at all.
fn may_be_torn(slot: &[u8]) -> bool {
    const SECTOR_BYTES: usize = 512;
    const LENGTH_AT: usize = 8;
    let length = slot.get(LENGTH_AT..LENGTH_AT + 4).and_then(|bytes| bytes.try_into().ok());
    let length = length.map_or(0, |bytes| u32::from_le_bytes(bytes) as usize);
    (SECTOR_BYTES..BLOCK_SIZE_BYTES).contains(&(LENGTH_AT + 4 + length))
}
