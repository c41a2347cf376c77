//! Reading segment files back: frames in windows, and footers.

use std::rc::Rc;

use crate::disk::{BLOCK_SIZE_BYTES, DiskFile, DiskResult, SharedBytes};
use crate::format::footer::{Footer, footer_length_bytes};
use crate::format::{FrameHeader, align_block};
use crate::types::{Generation, Position, SegmentNumber};

/// History is read in pieces of this size: a few hundred microseconds each.
pub(crate) const READ_BYTES: usize = 512 * 1024;
/// Of a clustered segment a frame is read with little more: what is behind it is other channels' mostly.
pub(crate) const CLUSTERED_READ_BYTES: usize = 160 * 1024;

/// The frame at this place, whole, and what is read with it: `read_bytes`, if the frame is not longer.
pub(crate) async fn read_window<F: DiskFile>(
    file: &F,
    position: u64,
    read_bytes: usize,
) -> DiskResult<SharedBytes> {
    let window = file.read_blocks(position, read_bytes).await?;
    let bytes = (*window).as_ref();
    let length = FrameHeader::decode(bytes).map_or(0, |(header, _)| header.length_bytes());
    let window =
        if length > bytes.len() { file.read_blocks(position, length).await? } else { window };
    Ok(in_whole_blocks(window))
}

/// The last block of a file that was cut is read as what a write behind it would make of it.
fn in_whole_blocks(window: SharedBytes) -> SharedBytes {
    let bytes = (*window).as_ref();
    if bytes.len().is_multiple_of(BLOCK_SIZE_BYTES) {
        return window;
    }
    let mut whole = bytes.to_vec();
    whole.resize(align_block(bytes.len()), 0);
    Rc::new(whole)
}

/// The footer at this place; `None` if it is damaged.
pub(crate) async fn read_footer<F: DiskFile>(
    file: &F,
    segment: SegmentNumber,
    generation: Generation,
    position: Position,
) -> DiskResult<Option<Footer>> {
    let mut bytes = file.read_at(position.0, READ_BYTES).await?;
    let length = footer_length_bytes(&bytes).unwrap_or(0);
    let file_length = usize::try_from(file.length_bytes().await?).unwrap_or(usize::MAX);
    if length > bytes.len() && length <= file_length {
        bytes = file.read_at(position.0, align_block(length)).await?;
    }
    Ok(Footer::decode(bytes, generation, segment))
}
