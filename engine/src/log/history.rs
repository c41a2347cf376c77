//! Reading segment files back: frames in windows, and footers.

use crate::disk::{DiskFile, DiskResult, SharedBytes};
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
    if length > bytes.len() { file.read_blocks(position, length).await } else { Ok(window) }
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
