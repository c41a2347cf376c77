//! The structures that are one sealed block: store file, superblock slots, segment headers; and checkpoint chunks.

use super::fields::{Reader, put_bytes, put_i64, put_u16, put_u32, put_u64};
use crate::disk::BLOCK_SIZE_BYTES;
use crate::types::{Generation, Index, Position, SegmentNumber, ShardId, Term, Timestamp};

const STORE_MAGIC: u32 = u32::from_le_bytes(*b"WLST");
const SUPERBLOCK_MAGIC: u32 = u32::from_le_bytes(*b"WLSB");
const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"WLSG");
const CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"WLCK");
const SEAL_BYTES: usize = 12;

/// What a block turned out to be: three different answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sealed<T> {
    /// All zero, or too short: never written.
    Absent,
    /// Written, but not readable.
    Corrupt,
    /// Whole, of this format, but of a later version.
    LaterVersion(u16),
    /// Here it is.
    Valid(T),
}

impl<T> Sealed<T> {
    pub(crate) fn valid(self) -> Option<T> {
        match self {
            Self::Valid(value) => Some(value),
            _ => None,
        }
    }
}

fn seal(magic: u32, body: &[u8]) -> Vec<u8> {
    assert!(body.len() <= BLOCK_SIZE_BYTES - SEAL_BYTES, "the structure fits a block");
    let mut checked = Vec::with_capacity(BLOCK_SIZE_BYTES);
    put_bytes(&mut checked, body);
    let mut block = Vec::with_capacity(BLOCK_SIZE_BYTES);
    put_u32(&mut block, magic);
    put_u32(&mut block, crc32c::crc32c(&checked));
    block.extend_from_slice(&checked);
    block.resize(BLOCK_SIZE_BYTES, 0);
    block
}

fn unseal<T>(magic: u32, block: &[u8], read: impl FnOnce(Reader<'_>) -> Option<T>) -> Sealed<T> {
    if block.len() < SEAL_BYTES || block.iter().all(|byte| *byte == 0) {
        return Sealed::Absent;
    }
    let mut get = Reader::new(block);
    let body = (|| {
        let (found, crc) = (get.u32()?, get.u32()?);
        let rest = get.rest();
        let body = get.bytes()?;
        let checked = rest.get(..body.len() + 4)?;
        (found == magic && crc32c::crc32c(checked) == crc).then_some(body)
    })();
    let Some(body) = body else { return Sealed::Corrupt };
    let mut get = Reader::new(body);
    match get.u16() {
        Some(super::FORMAT_VERSION) => read(get).map_or(Sealed::Corrupt, Sealed::Valid),
        Some(later) => Sealed::LaterVersion(later),
        None => Sealed::Corrupt,
    }
}

/// What all shards share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreBlock {
    pub shard_count: u16,
    pub placement_version: u16,
    pub frame_size_bytes_max: u32,
    pub cluster_id: String,
}

impl StoreBlock {
    fn put(&self, body: &mut Vec<u8>) {
        put_u16(body, self.shard_count);
        put_u16(body, self.placement_version);
        put_u32(body, self.frame_size_bytes_max);
        put_bytes(body, self.cluster_id.as_bytes());
    }

    fn get(get: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            shard_count: get.u16().filter(|count| *count > 0)?,
            placement_version: get.u16()?,
            frame_size_bytes_max: get.u32()?,
            cluster_id: get.string()?,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_u16(&mut body, super::FORMAT_VERSION);
        self.put(&mut body);
        seal(STORE_MAGIC, &body)
    }

    pub(crate) fn decode(block: &[u8]) -> Sealed<Self> {
        unseal(STORE_MAGIC, block, |mut get| Self::get(&mut get))
    }
}

/// A frame's end in the chain: where a log ends, or what a segment follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ChainPoint {
    /// The segment; 0: there is none.
    pub segment: SegmentNumber,
    /// The end of the frame.
    pub end: Position,
    /// The frame's crc.
    pub crc: u32,
    /// The frame's index.
    pub index: Index,
}

impl ChainPoint {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u32(out, self.segment.0);
        put_u32(out, self.crc);
        put_u64(out, self.end.0);
        put_u64(out, self.index.0);
    }

    pub(crate) fn get(get: &mut Reader<'_>) -> Option<Self> {
        let (segment, crc) = (SegmentNumber(get.u32()?), get.u32()?);
        Some(Self { segment, crc, end: Position(get.u64()?), index: Index(get.u64()?) })
    }
}

/// One slot of a shard's superblock; the valid slot with the larger counter counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// +1 for each write.
    pub counter: u64,
    /// The shard.
    pub shard: ShardId,
    /// The writer's term.
    pub term: Term,
    /// For replication: whom this term was given to. 0: itself.
    pub vote: u32,
    /// Frames of earlier terms behind this point do not exist.
    pub log_end: ChainPoint,
    /// A frame that was committed.
    pub hint: ChainPoint,
    /// The retention clock when this was written.
    pub clock: Timestamp,
    /// The newest published checkpoint; 0: none.
    pub checkpoint: u64,
    /// For encryption at rest. 0: none.
    pub key_id: u32,
    /// The hint frame's table, if it is a frame of one block: nothing later repeats it.
    pub hint_table: Vec<u8>,
}

impl Superblock {
    /// Tables up to this length fit beside the rest.
    pub(crate) const HINT_TABLE_BYTES_MAX: usize = 3_800;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_u16(&mut body, super::FORMAT_VERSION);
        put_u16(&mut body, self.shard.0);
        put_u64(&mut body, self.counter);
        put_u32(&mut body, self.term.0);
        put_u32(&mut body, self.vote);
        self.log_end.put(&mut body);
        self.hint.put(&mut body);
        put_i64(&mut body, self.clock.0);
        put_u64(&mut body, self.checkpoint);
        put_u32(&mut body, self.key_id);
        put_bytes(&mut body, &self.hint_table);
        seal(SUPERBLOCK_MAGIC, &body)
    }

    pub(crate) fn decode(block: &[u8]) -> Sealed<Self> {
        unseal(SUPERBLOCK_MAGIC, block, |mut get| {
            let shard = ShardId(get.u16()?);
            let counter = get.u64()?;
            Some(Self {
                counter,
                shard,
                term: Term(get.u32()?),
                vote: get.u32()?,
                log_end: ChainPoint::get(&mut get)?,
                hint: ChainPoint::get(&mut get)?,
                clock: Timestamp(get.i64()?),
                checkpoint: get.u64()?,
                key_id: get.u32()?,
                hint_table: get.bytes()?.to_vec(),
            })
        })
    }
}

/// What a segment file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SegmentLife {
    /// It is being made or waits for its turn: it has no frames of this generation that count.
    Ready,
    /// A part of the log.
    Log,
    /// It stands for these segments, whose messages it has sorted by channel.
    Clustered { inputs: Vec<SegmentNumber> },
}

/// The first block of a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// What it is.
    pub life: SegmentLife,
    /// The shard.
    pub shard: ShardId,
    /// The segment.
    pub number: SegmentNumber,
    /// Random for each life of the file.
    pub generation: Generation,
    /// The first frame's index and term.
    pub base_index: Index,
    /// See `base_index`.
    pub base_term: Term,
    /// The length the file was made with; of a clustered one, where its footer is.
    pub size_bytes: u64,
    /// What this segment follows.
    pub previous: ChainPoint,
    /// For encryption at rest. 0: none.
    pub key_id: u32,
    /// The store file's content, so that it can be rebuilt.
    pub store: StoreBlock,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_u16(&mut body, super::FORMAT_VERSION);
        put_u16(&mut body, self.shard.0);
        let life = match self.life {
            SegmentLife::Ready => 0,
            SegmentLife::Log => 1,
            SegmentLife::Clustered { .. } => 2,
        };
        put_u32(&mut body, life);
        put_u32(&mut body, self.number.0);
        put_u64(&mut body, self.generation.0);
        put_u64(&mut body, self.base_index.0);
        put_u32(&mut body, self.base_term.0);
        put_u64(&mut body, self.size_bytes);
        self.previous.put(&mut body);
        put_u32(&mut body, self.key_id);
        self.store.put(&mut body);
        if let SegmentLife::Clustered { inputs } = &self.life {
            put_u32(&mut body, super::count_u32(inputs.len()));
            inputs.iter().for_each(|number| put_u32(&mut body, number.0));
        }
        seal(SEGMENT_MAGIC, &body)
    }

    pub(crate) fn decode(block: &[u8]) -> Sealed<Self> {
        unseal(SEGMENT_MAGIC, block, |mut get| {
            let shard = ShardId(get.u16()?);
            let life = get.u32()?;
            let mut header = Self {
                life: SegmentLife::Ready,
                shard,
                number: SegmentNumber(get.u32()?),
                generation: Generation(get.u64()?),
                base_index: Index(get.u64()?),
                base_term: Term(get.u32()?),
                size_bytes: get.u64()?,
                previous: ChainPoint::get(&mut get)?,
                key_id: get.u32()?,
                store: StoreBlock::get(&mut get)?,
            };
            header.life = match life {
                0 => SegmentLife::Ready,
                1 => SegmentLife::Log,
                2 => {
                    let count = usize::try_from(get.u32()?).ok()?;
                    let inputs = get.u32s(count)?.into_iter().map(SegmentNumber).collect();
                    SegmentLife::Clustered { inputs }
                }
                _ => return None,
            };
            Some(header)
        })
    }
}

/// What a chunk of a checkpoint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkKind {
    /// Ids, and where to go on.
    Head,
    /// State records: clients, subscriptions.
    State,
    /// Channels with their part of the index.
    Channels,
    /// The end: a checkpoint without it is none.
    End,
}

impl ChunkKind {
    fn code(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::State => 2,
            Self::Channels => 3,
            Self::End => 4,
        }
    }
}

/// Appends one chunk.
pub(crate) fn put_chunk(out: &mut Vec<u8>, kind: ChunkKind, as_of: Index, body: &[u8]) {
    let mut checked = Vec::with_capacity(body.len() + 16);
    super::fields::put_u32(&mut checked, super::count_u32(body.len()));
    checked.push(kind.code());
    put_u64(&mut checked, as_of.0);
    checked.extend_from_slice(body);
    put_u32(out, CHUNK_MAGIC);
    put_u32(out, crc32c::crc32c(&checked));
    out.extend_from_slice(&checked);
}

/// Takes one chunk from the front; `None` if there is none that is whole.
pub(crate) fn take_chunk<'a>(get: &mut Reader<'a>) -> Option<(ChunkKind, Index, &'a [u8])> {
    if get.u32()? != CHUNK_MAGIC {
        return None;
    }
    let crc = get.u32()?;
    let rest = get.rest();
    let length = usize::try_from(get.u32()?).ok()?;
    let kind = match get.u8()? {
        1 => ChunkKind::Head,
        2 => ChunkKind::State,
        3 => ChunkKind::Channels,
        4 => ChunkKind::End,
        _ => return None,
    };
    let as_of = Index(get.u64()?);
    let body = get.take(length)?;
    let checked = rest.get(..length.checked_add(13)?)?;
    (crc32c::crc32c(checked) == crc).then_some((kind, as_of, body))
}
