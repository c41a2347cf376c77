//! Which bytes of a store mean something: whatever happens to one of them, `verify` tells.
//!
//! The others are padding, blocks that were never written, a segment that waits for its turn, and what is there twice for
//! the sake of the first: the superblock's slots, the header and table at the end of a long frame, the older checkpoint.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::verify::Files;
use crate::checkpoint;
use crate::disk::BLOCK_SIZE_BYTES;
use crate::format::blocks::{Sealed, SegmentHeader, SegmentLife, Superblock, take_chunk};
use crate::format::fields::Reader;
use crate::format::footer::footer_length_bytes;
use crate::format::records_start;
use crate::log::scan::{FrameAt, frame_at};

/// By file, in order.
pub(super) type Meaning = BTreeMap<String, Vec<Range<usize>>>;

pub(super) fn meaning(files: &Files) -> Meaning {
    let is_checkpoint = |path: &str| name(path).is_some_and(|n| checkpoint::number_of(n).is_some());
    let announced = announced_checkpoint(files);
    let newest = files.keys().rfind(|path| is_checkpoint(path) && path.ends_with(&announced));
    let ranges = |(path, bytes): (&String, &Vec<u8>)| {
        let ranges = if path == "store" {
            vec![sealed(bytes)]
        } else if Some(path) == newest {
            let whole = 0..checkpoint_length(bytes);
            vec![whole]
        } else if path.contains("segment-") {
            of_segment(bytes)
        } else {
            Vec::new()
        };
        (path.clone(), ranges)
    };
    files.iter().map(ranges).collect()
}

/// The end of the newest checkpoint's name that the superblock knows. One that is newer may be one whose writing ended
/// early, and then it is nothing.
fn announced_checkpoint(files: &Files) -> String {
    let slots = files.iter().filter(|(path, _)| path.ends_with("/superblock"));
    let slots = slots.flat_map(|(_, bytes)| bytes.chunks(BLOCK_SIZE_BYTES));
    let numbers = slots.filter_map(|slot| Some(Superblock::decode(slot).valid()?.checkpoint));
    format!("checkpoint-{:010}", numbers.max().unwrap_or_default())
}

fn name(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(_, name)| name)
}

/// The used part of a sealed block.
fn sealed(block: &[u8]) -> Range<usize> {
    let length = u32::from_le_bytes(block[8..12].try_into().unwrap());
    0..12 + length as usize
}

fn checkpoint_length(bytes: &[u8]) -> usize {
    let mut get = Reader::new(bytes);
    let mut left = bytes.len();
    while take_chunk(&mut get).is_some() {
        left = get.rest().len();
    }
    bytes.len() - left
}

fn of_segment(bytes: &[u8]) -> Vec<Range<usize>> {
    let Sealed::Valid(header) = SegmentHeader::decode(&bytes[..BLOCK_SIZE_BYTES]) else {
        panic!("it is whole")
    };
    // It waits for its turn, and nothing is in it.
    if header.life == SegmentLife::Ready {
        return Vec::new();
    }
    let mut ranges = vec![sealed(bytes)];
    let mut at = BLOCK_SIZE_BYTES;
    while let FrameAt::Whole(found) = frame_at(&bytes[at..], header.number, header.generation) {
        assert!(found.is_intact());
        let start = at + records_start(&found.header).unwrap();
        ranges.push(at..start);
        let records = found.offsets.iter().zip(&found.table.lengths);
        ranges.extend(records.map(|(offset, length)| {
            let begin = start + *offset as usize;
            begin..begin + *length as usize
        }));
        at += found.header.length_bytes();
    }
    if let Some(length) = footer_length_bytes(&bytes[at..]) {
        ranges.push(at..at + length);
    }
    ranges
}

/// Where the frames of a segment end; 0: it has none.
pub(super) fn frames_end(bytes: &[u8]) -> usize {
    let Sealed::Valid(header) = SegmentHeader::decode(&bytes[..bytes.len().min(BLOCK_SIZE_BYTES)])
    else {
        return 0;
    };
    let mut at = BLOCK_SIZE_BYTES;
    while let Some(rest) = bytes.get(at..)
        && let FrameAt::Whole(found) = frame_at(rest, header.number, header.generation)
    {
        at += found.header.length_bytes();
    }
    if at > BLOCK_SIZE_BYTES { at } else { 0 }
}
