//! Checkpoints, footers, and the structures of one block: any bytes, and any body under the right checksum.

use std::collections::BTreeMap;

use super::states::{PENDING_MAX, pending};
use super::{Choices, block_of, seal, with_body};
use crate::checkpoint::{Checkpoint, CheckpointHead, CheckpointWriter};
use crate::format::blocks::{
    ChunkKind, Sealed, SegmentHeader, SegmentLife, StoreBlock, Superblock, put_chunk,
};
use crate::format::footer::{Footer, FooterWriter};
use crate::index::frames::FrameNumber;
use crate::recovery::Recovered;
use crate::recovery::decide::Verdict;
use crate::shard::{Shard, ShardConfig};
use crate::sim::{SimDisk, SimFile};
use crate::storage::{ChannelSlots, Tuning};
use crate::types::{
    ChannelId, ChannelLimits, Generation, Index, Monotonic, Now, SegmentNumber, ShardId, Term,
    Timestamp,
};

const SEGMENT: SegmentNumber = SegmentNumber(3);
const GENERATION: Generation = Generation(0x5eed_0f1a_57c0_ffee);

/// A chunk without a body; an empty checkpoint has three behind its head.
const CHUNK_BYTES_MIN: usize = 21;

/// A checkpoint that is read is written and read again as the same.
pub(super) fn checkpoint(input: &[u8]) {
    check_checkpoint(input);
    // The head is right, so that what is behind it is looked at.
    let mut sealed = CheckpointWriter::new(&CheckpointHead::default()).finish();
    sealed.truncate(sealed.len() - 3 * CHUNK_BYTES_MIN);
    let mut choices = Choices::new(input);
    while !choices.is_empty() {
        let kind = match choices.byte() % 4 {
            0 => ChunkKind::Head,
            1 => ChunkKind::State,
            2 => ChunkKind::Channels,
            _ => break,
        };
        put_chunk(&mut sealed, kind, Index(0), choices.bytes(1_000));
    }
    put_chunk(&mut sealed, ChunkKind::End, Index(0), &[]);
    check_checkpoint(&sealed);
}

fn check_checkpoint(bytes: &[u8]) {
    let Some(checkpoint) = Checkpoint::decode(bytes) else { return };
    make_shard(&checkpoint);
    let mut writer = CheckpointWriter::new(&checkpoint.head);
    checkpoint.states.iter().for_each(|record| writer.state(record));
    checkpoint.channels.iter().for_each(|note| writer.channel(note));
    assert_eq!(Checkpoint::decode(&writer.finish()), Some(checkpoint));
}

/// What is read of a checkpoint makes a shard.
fn make_shard(checkpoint: &Checkpoint) {
    if checkpoint.states.iter().map(pending).sum::<u64>() > PENDING_MAX {
        return;
    }
    let recovered = Recovered::<SimFile> {
        has_log: false,
        superblock: None,
        term: Term(1),
        end: checkpoint.head.end,
        segments: BTreeMap::new(),
        spare: Vec::new(),
        replaced: Vec::new(),
        next_segment: SEGMENT,
        checkpoint: checkpoint.clone(),
        checkpoint_number: Some(1),
        checkpoints: vec![1],
        frames: Vec::new(),
        damaged_headers: Vec::new(),
        doubted_headers: Vec::new(),
        verdict: Verdict::default(),
    };
    let config = ShardConfig {
        store: store(),
        limits: ChannelLimits { messages_max: 3, bytes_max: 100, ..ChannelLimits::default() }
            .into(),
        slots: ChannelSlots::new(0),
        cache_bytes: 4 << 20,
        checkpoint_bytes: 1 << 20,
        tuning: Tuning::small(),
    };
    let random = fastrand::Rng::with_seed(1);
    let mut shard = Shard::<SimDisk>::new(ShardId(0), recovered, config, random, Now::default());
    for note in checkpoint.channels.iter().take(10) {
        if let Ok(published) = shard.publish(&note.name, b"next", Now::default()) {
            assert!(published.sequence > note.last || published.channel != note.id);
        }
    }
    shard.tick(Now { wall: Timestamp(i64::MAX), mono: Monotonic(u64::MAX) });
}

/// A footer's runs are in order, and those that are read are written and read again as the same.
pub(super) fn footer(input: &[u8]) {
    check_footer(input.to_vec());
    let empty = FooterWriter::default().finish(GENERATION, SEGMENT, [].iter());
    // Generation and segment stay, so that the rest is looked at.
    check_footer(with_body(&empty, &[&empty[12..24], input].concat()));
}

fn check_footer(bytes: Vec<u8>) {
    let ids: Vec<_> = bytes.chunks(4).filter_map(|id| id.try_into().ok()).take(16).collect();
    let Some(footer) = Footer::decode(bytes, GENERATION, SEGMENT) else { return };
    let mut writer = FooterWriter::default();
    let mut channels = Vec::new();
    for id in ids.into_iter().map(u32::from_le_bytes) {
        let id = ChannelId(u64::from(id));
        let runs: Vec<_> = footer.runs(id).collect();
        assert!(runs.is_sorted_by(|one, two| one.last() < two.first));
        assert!(runs.iter().all(|run| run.count > 0));
        for run in &runs {
            let mut cursor = None;
            let place = footer.find(id, run.last(), SEGMENT, &mut cursor);
            assert_eq!(footer.find(id, run.last(), SEGMENT, &mut cursor), place);
        }
        if channels.last().is_none_or(|(last, _)| *last < id) {
            writer.channel(id, "", FrameNumber(0), runs.iter().copied());
            channels.push((id, runs));
        }
    }
    let again = writer.finish(GENERATION, SEGMENT, footer.frames().iter());
    let again = Footer::decode(again, GENERATION, SEGMENT).expect("written just now");
    assert_eq!(again.frames(), footer.frames());
    for (id, runs) in channels {
        assert!(again.runs(id).eq(runs));
    }
}

fn store() -> StoreBlock {
    StoreBlock {
        shard_count: 1,
        placement_version: 1,
        frame_size_bytes_max: 1 << 20,
        cluster_id: String::new(),
    }
}

/// Blocks that are read are written and read again as the same.
pub(super) fn blocks(input: &[u8]) {
    let store = store();
    check_block(input, &store.encode(), StoreBlock::decode, StoreBlock::encode);
    let superblock = Superblock::default().encode();
    check_block(input, &superblock, Superblock::decode, Superblock::encode);
    let header = SegmentHeader {
        life: SegmentLife::Log,
        shard: Default::default(),
        number: SEGMENT,
        generation: GENERATION,
        base_index: Index(1),
        base_term: Default::default(),
        size_bytes: 1 << 20,
        previous: Default::default(),
        key_id: 0,
        store,
    };
    check_block(input, &header.encode(), SegmentHeader::decode, SegmentHeader::encode);
}

fn check_block<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    example: &[u8],
    decode: impl Fn(&[u8]) -> Sealed<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let check = |block: &[u8]| {
        if let Sealed::Valid(found) = decode(block) {
            let written = encode(&found);
            assert_eq!(decode(&written), Sealed::Valid(found));
        }
    };
    check(input);
    // The version stays, so that the rest is looked at.
    if let Some(block) = block_of(with_body(example, &[&example[12..14], input].concat())) {
        check(&block);
    }
    // And the example with some bytes changed.
    let mut changed =
        example[..12 + usize::from(example[8]) + (usize::from(example[9]) << 8)].to_vec();
    for (byte, change) in changed[14..].iter_mut().zip(input) {
        *byte ^= *change;
    }
    seal(&mut changed);
    if let Some(block) = block_of(changed) {
        check(&block);
    }
}
