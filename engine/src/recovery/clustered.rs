//! Clustered segments at open: their headers say for which segments they stand, whether a checkpoint knows it yet or not.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::SegmentFile;
use crate::checkpoint::{ChannelNote, Checkpoint, SegmentNote};
use crate::disk::{DiskFile, DiskResult};
use crate::format::blocks::SegmentLife;
use crate::format::footer::Footer;
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
            notes.push(SegmentNote {
                number,
                generation: header.generation,
                end: Position(header.size_bytes),
                last_index,
                is_sealed: true,
                is_damaged: false,
                is_clustered: true,
                record_bytes: 0,
                runs_count: 0,
            });
        }
        notes.retain(|note| !inputs.contains(&note.number));
        let record_bytes = move_parts(checkpoint, inputs, number);
        let note = checkpoint.head.segments.iter_mut().find(|note| note.number == number);
        if let Some(note) = note.filter(|note| note.record_bytes == 0 || !note.is_sealed) {
            (note.record_bytes, note.is_sealed) = (record_bytes, true);
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

/// Channels' parts in the inputs are in `output`. Returns the bytes of all that is there.
fn move_parts(checkpoint: &mut Checkpoint, inputs: &[SegmentNumber], output: SegmentNumber) -> u64 {
    let mut bytes = 0;
    for channel in &mut checkpoint.channels {
        if channel.index.sealed.iter().any(|part| inputs.contains(&part.segment)) {
            channel.index.to_mut().replace(inputs, output);
        }
        let parts = channel.index.sealed.iter().filter(|part| part.segment == output);
        bytes += parts.map(|part| part.bytes).sum::<u64>();
    }
    bytes
}

fn segment_of<F>(checkpoint: &Checkpoint, number: SegmentNumber, file: Rc<F>) -> Segment<F> {
    let note = checkpoint.head.segments.iter().find(|note| note.number == number);
    let note = note.expect("it is named by now");
    let mut segment = Segment::new(file, note.generation, SegmentState::Sealed);
    segment.end = note.end;
    segment.last_index = note.last_index;
    segment.is_damaged = note.is_damaged;
    segment.is_clustered = true;
    segment.record_bytes = note.record_bytes;
    segment.runs_count = note.runs_count;
    segment
}

/// Both checkpoints are lost: what the segment's footer says of channels and messages is taken for theirs. False: its
/// footer is lost too.
async fn salvage<F: DiskFile>(
    checkpoint: &mut Checkpoint,
    header: &crate::format::blocks::SegmentHeader,
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
        let part = part_of(&footer, header.number, runs.filter(|run| run.first > behind));
        let Some(part) = part else { continue };
        if note.first == Sequence(0) {
            note.first = part.first;
        }
        (note.last, note.last_time) = (part.last, note.last_time.max(part.last_time));
        note.index.to_mut().sealed.push_back(part);
    }
    checkpoint.channels = known.into_values().collect();
    let last_id = checkpoint.channels.last().map_or(0, |note| note.id.0);
    checkpoint.head.last_channel_id = checkpoint.head.last_channel_id.max(last_id);
    checkpoint.head.segments.push(SegmentNote {
        number: header.number,
        generation: header.generation,
        end: Position(header.size_bytes),
        last_index: header.base_index,
        is_sealed: true,
        is_damaged: false,
        is_clustered: true,
        record_bytes: 0,
        runs_count: 0,
    });
    Ok(true)
}

fn part_of(
    footer: &Footer,
    segment: SegmentNumber,
    runs: impl Iterator<Item = crate::index::runs::Run>,
) -> Option<SealedPart> {
    let mut part: Option<SealedPart> = None;
    for run in runs {
        let note = footer.frame(run.frame)?;
        let part = part.get_or_insert(SealedPart {
            segment,
            count: 0,
            first: run.first,
            last: run.last(),
            bytes: 0,
            first_time: note.first_time,
            last_time: note.last_time,
        });
        part.last = run.last();
        part.last_time = part.last_time.max(note.last_time);
        part.count = part.count.saturating_add(run.count);
        part.bytes += u64::from(run.bytes);
    }
    part
}
