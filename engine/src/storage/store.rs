//! The `store` file: what all shards share. Written last when a store is made.

use super::{FRAME_ROOM_BYTES, StorageConfig};
use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskFile};
use crate::error::{DiskError, OpenError};
use crate::format::blocks::{Sealed, SegmentHeader, SegmentLife, StoreBlock};
use crate::log::segment::{number_of, write_block};
use crate::placement::PLACEMENT_VERSION;

const STORE_PATH: &str = "store";
const STORE_PATH_NEW: &str = "store.new";
/// Shards of a new store: more than most machines have cores, so that the directory fits other machines too.
const SHARD_COUNT_DEFAULT: u16 = 8;

/// What all shards of a store share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// The cluster the store belongs to.
    pub cluster_id: String,
    /// Number of shards, fixed when the store was made.
    pub shard_count: u16,
    /// The largest frame in bytes.
    pub frame_size_bytes_max: u32,
}

impl StoreInfo {
    fn of(block: StoreBlock) -> Self {
        Self {
            cluster_id: block.cluster_id,
            shard_count: block.shard_count,
            frame_size_bytes_max: block.frame_size_bytes_max,
        }
    }

    pub(crate) fn block(&self) -> StoreBlock {
        StoreBlock {
            shard_count: self.shard_count,
            placement_version: PLACEMENT_VERSION,
            frame_size_bytes_max: self.frame_size_bytes_max,
            cluster_id: self.cluster_id.clone(),
        }
    }
}

/// Opens or makes the `store` file. Called once, before any [`super::Storage::open`].
///
/// # Errors
/// See [`OpenError`]; then nothing was changed.
pub async fn open_store<D: Disk>(disk: &D, config: &StorageConfig) -> Result<StoreInfo, OpenError> {
    let block = match read_store(disk).await? {
        Some(block) => block,
        None => match store_of_segments(disk).await? {
            Some(block) => {
                check(&block, config)?;
                write_store(disk, &block).await?;
                block
            }
            None => {
                refuse_foreign(disk).await?;
                let block = new_store(config);
                write_store(disk, &block).await?;
                block
            }
        },
    };
    check(&block, config)?;
    Ok(StoreInfo::of(block))
}

/// Makes the `store` file of a copy.
pub(crate) async fn make_store<D: Disk>(disk: &D, info: &StoreInfo) -> Result<(), OpenError> {
    refuse_foreign(disk).await?;
    write_store(disk, &info.block()).await
}

/// What the `store` file says, or the segments in its place; `None` if there is no store.
pub(crate) async fn find_store<D: Disk>(disk: &D) -> Result<Option<StoreInfo>, OpenError> {
    let block = match read_store(disk).await? {
        Some(block) => Some(block),
        None => store_of_segments(disk).await?,
    };
    Ok(block.map(StoreInfo::of))
}

/// Whether the `store` file itself can be read, and not only what repeats it.
pub(crate) async fn is_store_file_whole<D: Disk>(disk: &D) -> Result<bool, OpenError> {
    let file = match disk.open(STORE_PATH).await {
        Ok(file) => file,
        Err(DiskError::Absent { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let block = file.read_at(0, BLOCK_SIZE_BYTES).await?;
    Ok(StoreBlock::decode(&block).valid().is_some())
}

fn new_store(config: &StorageConfig) -> StoreBlock {
    let frame_max = config
        .payload_size_bytes_max
        .saturating_add(FRAME_ROOM_BYTES)
        .max(config.tuning.frame_size_bytes_min);
    StoreBlock {
        shard_count: config.shard_count.unwrap_or(SHARD_COUNT_DEFAULT),
        placement_version: PLACEMENT_VERSION,
        frame_size_bytes_max: frame_max.next_multiple_of(BLOCK_SIZE_BYTES as u32),
        cluster_id: config.cluster_id.clone(),
    }
}

fn check(block: &StoreBlock, config: &StorageConfig) -> Result<(), OpenError> {
    if block.cluster_id != config.cluster_id {
        return Err(OpenError::OtherCluster {
            wanted: config.cluster_id.clone(),
            found: block.cluster_id.clone(),
        });
    }
    if let Some(wanted) = config.shard_count.filter(|wanted| *wanted != block.shard_count) {
        return Err(OpenError::OtherShards { wanted, found: block.shard_count });
    }
    let largest = u64::from(config.payload_size_bytes_max) + u64::from(FRAME_ROOM_BYTES);
    if largest > u64::from(block.frame_size_bytes_max) {
        let reason = format!(
            "it was made for payloads of at most {} bytes",
            block.frame_size_bytes_max.saturating_sub(FRAME_ROOM_BYTES)
        );
        return Err(OpenError::Format { file: STORE_PATH.into(), reason });
    }
    if block.placement_version != PLACEMENT_VERSION {
        let reason = format!("placement version {}", block.placement_version);
        return Err(OpenError::Format { file: STORE_PATH.into(), reason });
    }
    Ok(())
}

async fn read_store<D: Disk>(disk: &D) -> Result<Option<StoreBlock>, OpenError> {
    let file = match disk.open(STORE_PATH).await {
        Ok(file) => file,
        Err(DiskError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    file.sync().await?;
    match StoreBlock::decode(&file.read_at(0, BLOCK_SIZE_BYTES).await?) {
        Sealed::Valid(block) => Ok(Some(block)),
        Sealed::LaterVersion(version) => {
            Err(OpenError::Format { file: STORE_PATH.into(), reason: format!("version {version}") })
        }
        // Rebuilt from the segments if there are any; a foreign file is refused then.
        Sealed::Absent | Sealed::Corrupt => match store_of_segments(disk).await? {
            Some(block) => Ok(Some(block)),
            None => Err(OpenError::Format {
                file: STORE_PATH.into(),
                reason: "it is damaged, and no segment repeats it".into(),
            }),
        },
    }
}

/// Segment headers repeat the store file.
async fn store_of_segments<D: Disk>(disk: &D) -> Result<Option<StoreBlock>, OpenError> {
    for directory in disk.list("").await? {
        if !directory.is_directory || !directory.name.starts_with("shard-") {
            continue;
        }
        for entry in disk.list(&directory.name).await? {
            if number_of(&entry.name).is_none() {
                continue;
            }
            let file = disk.open(&format!("{}/{}", directory.name, entry.name)).await?;
            let header = SegmentHeader::decode(&file.read_at(0, BLOCK_SIZE_BYTES).await?);
            if let Some(header) = header.valid().filter(|header| header.life != SegmentLife::Ready)
            {
                return Ok(Some(header.store));
            }
        }
    }
    Ok(None)
}

/// A directory with other things in it is not made a store. `probe.` begins the name of a probe that was not finished
/// before the power went: the first start ended there.
async fn refuse_foreign<D: Disk>(disk: &D) -> Result<(), OpenError> {
    let (ours, parts) = (["LOCK", "probe", STORE_PATH_NEW, "lost+found"], ["shard-", "probe."]);
    let entries = disk.list("").await?;
    let is_foreign =
        |name: &str| !ours.contains(&name) && !parts.iter().any(|part| name.starts_with(part));
    match entries.iter().find(|entry| is_foreign(&entry.name)) {
        Some(entry) => Err(OpenError::Format {
            file: entry.name.clone(),
            reason: "the directory holds something else".into(),
        }),
        None => Ok(()),
    }
}

async fn write_store<D: Disk>(disk: &D, block: &StoreBlock) -> Result<(), OpenError> {
    match disk.remove(STORE_PATH_NEW).await {
        Ok(()) | Err(DiskError::Absent { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let file = disk.create(STORE_PATH_NEW).await?;
    write_block(&file, 0, &block.encode()).await?;
    file.sync().await?;
    drop(file);
    disk.rename(STORE_PATH_NEW, STORE_PATH).await?;
    disk.sync_directory("").await?;
    Ok(())
}
