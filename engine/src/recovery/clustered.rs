//! Clustered segments at open: their headers say for which segments they stand, whether a checkpoint knows it yet or not.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::SegmentFile;
use crate::checkpoint::{ChannelNote, Checkpoint, SegmentNote};
use crate::disk::{DiskFile, DiskResult};
use crate::format::blocks::{SegmentHeader, SegmentLife};
use crate::index::{ChannelIndex, SealedPart};
use crate::log::history::read_footer;
use crate::log::segment::{Segment, SegmentState};
use crate::types::{ChannelId, Index, Position, SegmentNumber, Sequence, Timestamp};

/// Clustered segments that count, and what follows from them.
pub(super) struct Adopted<F> {
    pub segments: BTreeMap<SegmentNumber, Segment<F>>,
    /// Files of the segments they stand for.
    pub replaced: Vec<(SegmentNumber, Rc<F>)>,
    /// Files without a frame that counts.
    pub spare: Vec<(SegmentNumber, Rc<F>)>,
}

/// Brings the checkpoint up to the segments' headers, oldest first: one may stand for others that were rewritten before.
pub(super) async fn adopt<F: DiskFile>(
    clustered: BTreeMap<SegmentNumber, SegmentFile<F>>,
    live: &mut BTreeMap<SegmentNumber, SegmentFile<F>>,
    spare: Vec<(SegmentNumber, Rc<F>)>,
    checkpoint: &mut Checkpoint,
) -> DiskResult<Adopted<F>> {
    let mut adopted = Adopted { segments: BTreeMap::new(), replaced: Vec::new(), spare };
    let is_without_checkpoint = checkpoint.head.end.index == Index(0);
    for (number, SegmentFile { header, file, .. }) in clustered {
        let SegmentLife::Clustered { inputs } = &header.life else { continue };
        let notes = &mut checkpoint.head.segments;
        let is_named =
            notes.iter().any(|note| note.number == number && note.generation == header.generation);
        let last_index = notes
            .iter()
            .filter(|note| inputs.contains(&note.number))
            .map(|note| note.last_index)
            .max();
        if !is_named && last_index.is_none() {
            if is_without_checkpoint && salvage(checkpoint, &header, &*file).await? {
                adopted.segments.insert(number, segment_of(checkpoint, number, file));
            } else {
                adopted.spare.push((number, file));
            }
            continue;
        }
        if let Some(last_index) = last_index.filter(|_| !is_named) {
            notes.push(note_of(&header, last_index));
        }
        notes.retain(|note| !inputs.contains(&note.number));
        for channel in &mut checkpoint.channels {
            if channel.index.sealed.iter().any(|part| inputs.contains(&part.segment)) {
                channel.index.to_mut().replace(inputs, number);
            }
        }
        for input in inputs {
            let file = live.remove(input).map(|segment| segment.file);
            let file = file.or_else(|| adopted.segments.remove(input).map(|segment| segment.file));
            adopted.replaced.extend(file.map(|file| (*input, file)));
        }
        adopted.segments.insert(number, segment_of(checkpoint, number, file));
    }
    Ok(adopted)
}

/// What a checkpoint would know of it.
fn note_of(header: &SegmentHeader, last_index: Index) -> SegmentNote {
    SegmentNote {
        number: header.number,
        generation: header.generation,
        end: Position(header.size_bytes),
        last_index,
        is_sealed: true,
        is_damaged: false,
        record_bytes: 0,
        runs_count: 0,
    }
}

fn segment_of<F>(checkpoint: &Checkpoint, number: SegmentNumber, file: Rc<F>) -> Segment<F> {
    let note = checkpoint.head.segments.iter().find(|note| note.number == number);
    let note = note.expect("it is named by now");
    let mut segment = Segment::new(file, note.generation, SegmentState::Sealed);
    segment.take_note(note);
    // Channels may have been on their way to it when the checkpoint was taken.
    segment.state = SegmentState::Sealed;
    segment.is_clustered = true;
    segment
}

/// Both checkpoints are lost: what the segment's footer says of channels and messages is taken for theirs. False: its
/// footer is lost too.
async fn salvage<F: DiskFile>(
    checkpoint: &mut Checkpoint,
    header: &SegmentHeader,
    file: &F,
) -> DiskResult<bool> {
    let end = Position(header.size_bytes);
    let footer = read_footer(file, header.number, header.generation, end).await?;
    let Some(footer) = footer else { return Ok(false) };
    let mut known: BTreeMap<ChannelId, ChannelNote<'static>> =
        std::mem::take(&mut checkpoint.channels).into_iter().map(|note| (note.id, note)).collect();
    for (id, name, runs) in footer.channels_from(ChannelId(0)) {
        let note = known.entry(id).or_insert_with(|| ChannelNote {
            id,
            name: name.to_string().into(),
            first: Sequence(0),
            last: Sequence(0),
            last_time: Timestamp(0),
            index: std::borrow::Cow::Owned(ChannelIndex::default()),
        });
        let behind = note.last;
        let mut runs = runs.filter(|run| run.first > behind);
        let part = runs.try_fold(None, |part, run| {
            let note = footer.frame(run.frame)?;
            Some(Some(SealedPart::with(part, header.number, &run, note)))
        });
        let Some(Some(part)) = part else { continue };
        if note.first == Sequence(0) {
            note.first = part.first;
        }
        (note.last, note.last_time) = (part.last, note.last_time.max(part.last_time));
        note.index.to_mut().sealed.push_back(part);
    }
    checkpoint.channels = known.into_values().collect();
    let last_id = checkpoint.channels.last().map_or(0, |note| note.id.0);
    checkpoint.head.last_channel_id = checkpoint.head.last_channel_id.max(last_id);
    checkpoint.head.segments.push(note_of(header, header.base_index));
    Ok(true)
}
