//! Opening a shard: from files to a state, and to a new term.
//!
//! First every file and the directory are locked and synced: a killed server's writes may sit in the device's cache,
//! and nothing is decided on what is not durable. Then:
//!
//! | what is found | what is done |
//! |---|---|
//! | no directory, or one without any live segment | an empty shard |
//! | a frame of an older term behind the superblock's log end, or at or behind a later segment's base index | it does not exist |
//! | the next index, whole | applied |
//! | the next index, missing or damaged, and some frame or the hint says that it was committed | damage: what can be read of it is applied, the rest is reported as lost, and reading goes on behind it |
//! | the next index, missing or damaged, and nothing says that it was committed | the tail ends here, never acked; cut and logged |
//! | a clustered segment that the checkpoint names, or whose inputs it names | it stands for its inputs; their files wait for two checkpoints more |
//! | any other clustered segment | its place was taken by a later one: a spare file |
//! | a header that is damaged, or an older one, or another file's, before a first frame of this segment | that frame stands in for it |
//! | a segment of whose frames none is left, though some were committed | left as it is: neither served nor used again |
//!
//! The cut is a new segment: the new term's log end is written to both superblock slots, and the first write opens a
//! new segment. No file is shortened.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::checkpoint::{self, Checkpoint};
use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskFile};
use crate::error::{DiskError, OpenError};
use crate::format::FrameHeader;
use crate::format::blocks::{
    ChainPoint, Sealed, SegmentHeader, SegmentLife, StoreBlock, Superblock,
};
use crate::log::segment::{self, Segment, SegmentState, segment_path, shard_directory};
use crate::superblock::SuperblockFile;
use crate::types::{Index, Position, SegmentNumber, ShardId, Term};

mod clustered;
pub(crate) mod decide;
pub(crate) mod replay;

use clustered::adopt;
use decide::{Seen, Verdict, decide};
use replay::{ReplayFrame, Scanned, scan_segment};

/// A shard's files, brought into order.
pub(crate) struct Recovered<F: DiskFile> {
    /// `None`: the shard has no files yet.
    pub superblock: Option<SuperblockFile<F>>,
    /// Whether there are segments of the log, with frames or without.
    pub has_log: bool,
    /// The term to write in.
    pub term: Term,
    /// Where the log ends.
    pub end: ChainPoint,
    /// The segments with frames that count.
    pub segments: BTreeMap<SegmentNumber, Segment<F>>,
    /// Files without a frame that counts, to be used again.
    pub spare: Vec<(SegmentNumber, Rc<F>)>,
    /// Files of segments that were rewritten: their successors are among `segments`.
    pub replaced: Vec<(SegmentNumber, Rc<F>)>,
    /// Greater than all segment numbers ever used.
    pub next_segment: SegmentNumber,
    /// The state to start from.
    pub checkpoint: Checkpoint,
    /// Its number; `None` if there is none that is whole.
    pub checkpoint_number: Option<u64>,
    /// Numbers of the checkpoints there are, the newest last.
    pub checkpoints: Vec<u64>,
    /// What to apply to it, in order.
    pub frames: Vec<ReplayFrame>,
    /// Segments whose header is damaged.
    pub damaged_headers: Vec<SegmentNumber>,
    /// Segments whose header is damaged if they have messages: dead ones otherwise, about to become others, or never whole.
    pub doubted_headers: Vec<SegmentNumber>,
    /// What recovery found out.
    pub verdict: Verdict,
}

struct SegmentFile<F> {
    header: SegmentHeader,
    file: Rc<F>,
    /// The first index that is not its own any more.
    below: Index,
}

/// Reads and decides; writes the new term.
pub(crate) async fn recover<D: Disk>(
    disk: &D,
    shard: ShardId,
) -> Result<Recovered<D::File>, OpenError> {
    let mut recovered = examine(disk, shard).await?;
    let (term, end) = (recovered.term, recovered.end);
    match &mut recovered.superblock {
        Some(superblock) => superblock.begin_term(term, end).await?,
        // Its name is lost. The new one must not say that the log is empty.
        None if recovered.has_log => {
            recovered.superblock = Some(SuperblockFile::create(disk, shard, term, end).await?);
        }
        None => {}
    }
    Ok(recovered)
}

/// Reads and decides, and writes nothing.
pub(crate) async fn examine<D: Disk>(
    disk: &D,
    shard: ShardId,
) -> Result<Recovered<D::File>, OpenError> {
    let directory = shard_directory(shard);
    let entries = match disk.list(&directory).await {
        Ok(entries) => entries,
        Err(DiskError::Absent { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let superblock =
        if entries.is_empty() { None } else { SuperblockFile::open(disk, shard).await? };
    let names: Vec<_> =
        entries.iter().filter_map(|entry| segment::number_of(&entry.name)).collect();
    let slot = superblock.as_ref().map(SuperblockFile::newest).cloned().unwrap_or_default();
    let (mut checkpoint, checkpoint_number, checkpoints) =
        newest_checkpoint(disk, shard, &entries).await?;
    let witness = slot.hint.index.max(checkpoint.head.end.index);
    let Opened { mut live, clustered, spare, damaged, doubted } =
        open_segments(disk, shard, &names, witness).await?;
    if !entries.is_empty() {
        disk.sync_directory(&directory).await?;
    }
    let mut adopted = adopt(clustered, &mut live, spare, &mut checkpoint).await?;
    set_bounds(&mut live, &slot);

    let start = checkpoint.head.end;
    let mut frames = Vec::new();
    for (number, segment) in live.range(start.segment.max(SegmentNumber(1))..) {
        let from =
            if *number == start.segment { start.end } else { Position(BLOCK_SIZE_BYTES as u64) };
        let is_hinted = slot.hint.segment == *number;
        let witnessed = if is_hinted { slot.hint.end } else { Position(0) };
        let scanned = Scanned::from(&segment.header);
        scan_segment(&*segment.file, scanned, from, witnessed, &mut frames).await?;
    }
    frames.retain(|frame| frame.header.index > start.index);
    frames.retain(|frame| {
        live.get(&frame.place.0).is_some_and(|segment| frame.header.index < segment.below)
    });
    let verdict = judge(&mut frames, start.index, slot.hint.index);
    frames.retain(|frame| frame.header.index <= verdict.keep_through);

    let end = frames.last().map_or(start, ReplayFrame::chain_point);
    let end = ChainPoint { index: verdict.keep_through, ..end };
    let next_segment = live.keys().chain(&names).max().map_or(1, |last| last.0.saturating_add(1));
    let term = next_term(&slot, live.values().map(|segment| &segment.header), &frames);
    let has_log = !live.is_empty();
    let (mut segments, spare) =
        sort_segments(live, adopted.spare, &checkpoint, &frames, (&slot.hint, &verdict.lost));
    segments.append(&mut adopted.segments);
    Ok(Recovered {
        superblock,
        has_log,
        term,
        end,
        segments,
        spare,
        replaced: adopted.replaced,
        next_segment: SegmentNumber(next_segment),
        checkpoint,
        checkpoint_number,
        checkpoints,
        frames,
        damaged_headers: damaged,
        doubted_headers: doubted,
        verdict,
    })
}

/// Segment files by what their first block says.
struct Opened<F> {
    live: BTreeMap<SegmentNumber, SegmentFile<F>>,
    clustered: BTreeMap<SegmentNumber, SegmentFile<F>>,
    spare: Vec<(SegmentNumber, Rc<F>)>,
    /// Those whose header is damaged, whether the first frame could stand in for it or not.
    damaged: Vec<SegmentNumber>,
    /// Those whose header is damaged if they have messages.
    doubted: Vec<SegmentNumber>,
}

/// Opens, locks and syncs all segment files. All up to `witness` was committed.
async fn open_segments<D: Disk>(
    disk: &D,
    shard: ShardId,
    names: &[SegmentNumber],
    witness: Index,
) -> Result<Opened<D::File>, OpenError> {
    let mut opened = Opened {
        live: BTreeMap::new(),
        clustered: BTreeMap::new(),
        spare: Vec::new(),
        damaged: Vec::new(),
        doubted: Vec::new(),
    };
    for name in names {
        let path = segment_path(shard, *name);
        let file = Rc::new(disk.open(&path).await?);
        file.sync().await?;
        let start = file.read_at(0, 2 * BLOCK_SIZE_BYTES).await?;
        let (block, first) = start.split_at(start.len().min(BLOCK_SIZE_BYTES));
        match SegmentHeader::decode(block) {
            Sealed::Valid(header)
                if header.life != SegmentLife::Ready
                    && header.shard == shard
                    && header.number == *name =>
            {
                opened.insert(header, file);
            }
            Sealed::Valid(header) if header.life == SegmentLife::Ready => {
                let found = header_from_first_frame(shard, *name, first);
                opened.insert_ready((*name, header), found, file, (shard, witness));
            }
            // Being made when the server stopped: then nothing is in it.
            Sealed::Absent if first.iter().all(|byte| *byte == 0) => {
                opened.spare.push((*name, file));
            }
            Sealed::LaterVersion(version) => {
                return Err(OpenError::Format { file: path, reason: format!("version {version}") });
            }
            // Only its header is lost, or another file's or an older one stands there. Without it and without the first frame's the
            // file is left as it is, and its frames are found missing.
            Sealed::Valid(_) | Sealed::Absent | Sealed::Corrupt => {
                opened.damaged.push(*name);
                if let Some(header) = header_from_first_frame(shard, *name, first) {
                    opened.insert(header, file);
                }
            }
        }
    }
    Ok(opened)
}

impl<F> Opened<F> {
    fn insert(&mut self, header: SegmentHeader, file: Rc<F>) {
        let below = Index(u64::MAX);
        let segments =
            if header.life == SegmentLife::Log { &mut self.live } else { &mut self.clustered };
        segments.insert(header.number, SegmentFile { header, file, below });
    }

    /// A file whose header says that it waits for its turn; `found` is what the first frame behind that says.
    fn insert_ready(
        &mut self,
        (name, header): (SegmentNumber, SegmentHeader),
        found: Option<SegmentHeader>,
        file: Rc<F>,
        (shard, witness): (ShardId, Index),
    ) {
        let is_own = header.shard == shard && header.number == name;
        match found {
            // With its first frame the header was written that says so: this is an older one that came back. A frame that
            // was not committed is what a power loss left of that write, and nothing.
            Some(found)
                if is_own
                    && found.life == SegmentLife::Log
                    && (header.generation != found.generation || found.base_index > witness) =>
            {
                self.spare.push((name, file));
            }
            // That, or what a power loss left before other frames took its place in the log; a dead segment's file, whose
            // new name a crash has kept from the disk; a clustered one that was not whole when the server ended; or another
            // file's header in one that is alive. What is alive shows once all is replayed.
            Some(found) => {
                self.doubted.push(name);
                self.insert(found, file);
            }
            None => self.spare.push((name, file)),
        }
    }
}

/// A segment's header, from the first frame: that one starts where a payload cannot, and names segment and generation.
fn header_from_first_frame(
    shard: ShardId,
    number: SegmentNumber,
    first: &[u8],
) -> Option<SegmentHeader> {
    let (frame, is_copy) = FrameHeader::decode(first)?;
    (frame.segment == number && !is_copy).then(|| SegmentHeader {
        // Which segments a clustered one stands for, only its header and the checkpoints know.
        life: if frame.is_clustered {
            SegmentLife::Clustered { inputs: Vec::new() }
        } else {
            SegmentLife::Log
        },
        shard,
        number,
        generation: frame.generation,
        base_index: frame.index,
        base_term: frame.term,
        size_bytes: 0,
        previous: ChainPoint::default(),
        key_id: 0,
        // Only the frame's bound is looked at: the largest that a frame can say.
        store: StoreBlock {
            shard_count: 1,
            placement_version: 0,
            frame_size_bytes_max: u32::from(u16::MAX) * BLOCK_SIZE_BYTES as u32,
            cluster_id: String::new(),
        },
    })
}

/// The newest checkpoint that is whole with its number, and the numbers of all.
async fn newest_checkpoint<D: Disk>(
    disk: &D,
    shard: ShardId,
    entries: &[crate::disk::DirectoryEntry],
) -> Result<(Checkpoint, Option<u64>, Vec<u64>), OpenError> {
    let mut numbers: Vec<_> =
        entries.iter().filter_map(|entry| checkpoint::number_of(&entry.name)).collect();
    numbers.sort_unstable();
    for number in numbers.iter().rev() {
        let file = disk.open(&checkpoint::checkpoint_path(shard, *number)).await?;
        file.sync().await?;
        let length =
            usize::try_from(file.length_bytes().await?).expect("a checkpoint fits in memory");
        let bytes = file.read_at(0, length).await?;
        if let Some(checkpoint) = Checkpoint::decode(&bytes) {
            return Ok((checkpoint, Some(*number), numbers));
        }
    }
    Ok((Checkpoint::default(), None, numbers))
}

/// Tells each segment which frames are not its own any more: a later segment's base index takes over, and the log end
/// of the superblock's term.
fn set_bounds<F>(live: &mut BTreeMap<SegmentNumber, SegmentFile<F>>, slot: &Superblock) {
    let mut below = Index(u64::MAX);
    for segment in live.values_mut().rev() {
        segment.below = below;
        if segment.header.base_term < slot.term {
            segment.below = below.min(slot.log_end.index.next());
        }
        below = below.min(segment.header.base_index);
    }
}

fn judge(frames: &mut Vec<ReplayFrame>, start: Index, hint: Index) -> Verdict {
    let is_intact = |frame: &ReplayFrame| frame.damaged.is_empty() && !frame.is_front_damaged;
    frames.sort_by_key(|frame| {
        (frame.header.index, frame.header.term, is_intact(frame), Reverse(frame.place))
    });
    // The same index twice: the later term's, then the one that can be read, then the first: the others stand in the
    // places of those behind it.
    frames.reverse();
    frames.dedup_by_key(|frame| frame.header.index);
    frames.reverse();
    let seen: Vec<_> = frames
        .iter()
        .map(|frame| Seen {
            index: frame.header.index,
            committed: frame.header.committed,
            is_intact: is_intact(frame),
        })
        .collect();
    decide(start, &seen, hint)
}

fn next_term<'a>(
    slot: &Superblock,
    headers: impl Iterator<Item = &'a SegmentHeader>,
    frames: &[ReplayFrame],
) -> Term {
    let in_headers = headers.map(|header| header.base_term).max().unwrap_or_default();
    let in_frames = frames.iter().map(|frame| frame.header.term).max().unwrap_or_default();
    Term(slot.term.max(in_headers).max(in_frames).0 + 1)
}

type Sorted<F> = (BTreeMap<SegmentNumber, Segment<F>>, Vec<(SegmentNumber, Rc<F>)>);

/// Segments with frames that count, and those without.
fn sort_segments<F>(
    live: BTreeMap<SegmentNumber, SegmentFile<F>>,
    mut spare: Vec<(SegmentNumber, Rc<F>)>,
    checkpoint: &Checkpoint,
    frames: &[ReplayFrame],
    (hint, lost): (&ChainPoint, &[(Index, Index)]),
) -> Sorted<F> {
    let is_lost = |index| lost.iter().any(|(first, last)| (*first..=*last).contains(&index));
    let mut segments = BTreeMap::new();
    for (number, opened) in live {
        let generation = opened.header.generation;
        let mut segment = Segment::new(opened.file, generation, SegmentState::Rolled);
        let note = checkpoint.head.segments.iter().find(|note| note.number == number);
        if let Some(note) = note.filter(|note| note.generation == segment.generation) {
            segment.take_note(note);
        }
        for frame in frames.iter().filter(|frame| frame.place.0 == number) {
            // The footer goes behind all frames, wherever a misplaced one lies.
            segment.end = segment.end.max(frame.chain_point().end);
            segment.last_index = frame.header.index;
            segment.is_damaged |= !frame.damaged.is_empty() || frame.is_front_damaged;
        }
        if hint.segment == number {
            // What cannot be read of it is not written over either.
            segment.end = segment.end.max(hint.end);
        }
        if segment.last_index == Index(0) {
            // What is lost may have been in it: then it stays as it is.
            if !is_lost(opened.header.base_index) {
                spare.push((number, segment.file));
            }
        } else {
            segments.insert(number, segment);
        }
    }
    (segments, spare)
}
