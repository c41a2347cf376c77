//! Whether a store holds what it acknowledged: all of it is read, and nothing is changed.
//!
//! Recovery says which channels there are and which sequences each has to have. Then each segment that counts is read
//! from end to end, and each record is checked. What a channel has to have and no whole record brought is missing.

use std::collections::BTreeSet;

use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskFile};
use crate::error::{Damage, OpenError};
use crate::format::blocks::{SegmentHeader, SegmentLife};
use crate::limits::ChannelLimitRules;
use crate::log::history::read_footer;
use crate::log::segment::{Segment, SegmentState};
use crate::ranges::Ranges;
use crate::recovery::replay::{ReplayFrame, Scanned, scan_segment};
use crate::recovery::{Recovered, examine};
use crate::shard::{Shard, ShardConfig};
use crate::storage::{ChannelSlots, StoreInfo, Tuning, find_store, is_store_file_whole};
use crate::types::{
    ChannelId, ChannelLimits, FastMap, Index, Now, Position, SegmentNumber, Sequence, ShardId,
};

/// What was found in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What all shards share.
    pub info: StoreInfo,
    /// Channels there are.
    pub channels: u64,
    /// Messages that would be served.
    pub messages: u64,
    /// Messages that no limit has removed and that no whole record was found of.
    pub missing: u64,
    /// Messages that were lost before, in the store of which this one is the copy.
    pub lost: u64,
    /// Frames at the ends of logs that were never acknowledged: no damage.
    pub cut_frames: usize,
    /// Whatever is not as it was written, whether a message is lost by it or not.
    pub damage: Vec<Damage>,
}

/// Reads the store on `disk`. Its files are opened as for serving and synced; nothing is written. Costs one reading of
/// all segments, and the memory of a checkpoint and of the largest segment's index a shard.
///
/// # Errors
/// See [`OpenError`]: what also keeps a server from starting.
pub async fn verify<D: Disk>(disk: &D, now: Now) -> Result<Verified, OpenError> {
    let info = find_store(disk).await?.ok_or_else(|| OpenError::Format {
        file: "store".into(),
        reason: "it is not there, and no segment repeats it".into(),
    })?;
    let mut verified = Verified {
        info,
        channels: 0,
        messages: 0,
        missing: 0,
        lost: 0,
        cut_frames: 0,
        damage: Vec::new(),
    };
    if !is_store_file_whole(disk).await? {
        let what = "the store file is damaged or gone; segments say the same";
        verified.damage.push(Damage::of_segment(ShardId(0), SegmentNumber(0), what));
    }
    for shard in (0..verified.info.shard_count).map(ShardId) {
        verify_shard(disk, shard, now, &mut verified).await?;
    }
    Ok(verified)
}

async fn verify_shard<D: Disk>(
    disk: &D,
    id: ShardId,
    now: Now,
    verified: &mut Verified,
) -> Result<(), OpenError> {
    let recovered = examine(disk, id).await?;
    verified.cut_frames += recovered.verdict.cut_frames;
    let mut findings =
        Findings { shard: id, damage: Vec::new(), found: FastMap::default(), has_bad_state: false };
    // A newer file than the superblock knows may be one whose writing ended early.
    let known = recovered.superblock.as_ref().map_or(0, |file| file.newest().checkpoint);
    if recovered.checkpoint_number.unwrap_or(0) < known {
        findings.note(SegmentNumber(0), "the newest checkpoint is damaged; another way was taken");
    }
    findings.look_at_superblock(&recovered);
    let info = &verified.info;
    let mut shard: Shard<D> =
        Shard::new(id, recovered, config(info), fastrand::Rng::with_seed(0), now);
    let told = shard.take_damage();
    for (number, segment) in &shard.segments {
        findings.read(*number, segment, info.frame_size_bytes_max).await;
        let is_state = |damage: &Damage| damage.channel == ChannelId(0);
        if findings.has_bad_state && !told.iter().any(|d| d.segment == *number && is_state(d)) {
            findings.note(*number, "a record of clients or subscriptions is damaged");
        }
    }
    findings.forget_copies();
    findings.damage.retain_mut(|damage| {
        let Some(kept) = shard.kept_channel(damage.channel) else {
            // What channels had that are gone is nobody's loss.
            return damage.channel == ChannelId(0);
        };
        kept.name.clone_into(&mut damage.name);
        damage.last >= kept.first
    });
    findings.damage.extend(told.iter().cloned());
    let (told, known) = (ranges_of(&told), ranges_of(&findings.damage));
    let none = Ranges::default();
    for kept in shard.kept_channels() {
        verified.channels += 1;
        let missing =
            findings.found.get(&kept.id).unwrap_or(&none).missing_of(kept.first.0, kept.last.0);
        let all_missing = count(missing.iter().copied());
        verified.messages +=
            kept.last.0.saturating_add(1).saturating_sub(kept.first.0) - all_missing;
        let lost = shard.lost_of(kept.id).unwrap_or(&none);
        let is_new = |(first, last)| lost.missing_of(first, last);
        let missing: Vec<_> = missing.into_iter().flat_map(is_new).collect();
        let missing_count = count(missing.iter().copied());
        verified.lost += count(lost.iter());
        // Of a channel whose first messages are lost, recovery has moved the beginning behind them.
        let before = kept.first.0.saturating_sub(1);
        let lost_before = before - count(told.get(&kept.id).unwrap_or(&none).missing_of(1, before));
        verified.missing += missing_count + lost_before;
        let known = known.get(&kept.id).unwrap_or(&none);
        let untold = missing.into_iter().flat_map(|(first, last)| known.missing_of(first, last));
        let damage = untold.map(|(first, last)| Damage {
            shard: id,
            segment: SegmentNumber(0),
            channel: kept.id,
            name: kept.name.to_owned(),
            first: Sequence(first),
            last: Sequence(last),
            what: "no record of them was found",
        });
        findings.damage.extend(damage);
    }
    verified.damage.append(&mut findings.damage);
    Ok(())
}

fn count(ranges: impl IntoIterator<Item = (u64, u64)>) -> u64 {
    ranges.into_iter().map(|(first, last)| last - first + 1).sum()
}

/// The sequences that damage names.
fn ranges_of(damage: &[Damage]) -> FastMap<ChannelId, Ranges> {
    let mut named: FastMap<ChannelId, Ranges> = FastMap::default();
    for damage in damage.iter().filter(|damage| damage.channel != ChannelId(0)) {
        named.entry(damage.channel).or_default().add(damage.first.0, damage.last.0);
    }
    named
}

/// Without limits, so that none removes anything, and without caches.
pub(crate) fn config(info: &StoreInfo) -> ShardConfig {
    let unlimited = ChannelLimits { messages_max: 0, bytes_max: 0, ..ChannelLimits::default() };
    ShardConfig {
        store: info.block(),
        limits: ChannelLimitRules::from(unlimited),
        slots: ChannelSlots::new(0),
        cache_bytes: 0,
        checkpoint_bytes: u64::MAX,
        tuning: Tuning::default(),
    }
}

/// The frames of a segment that are part of the log, and whether all of it could be read.
pub(crate) async fn frames_of<F: DiskFile>(
    number: SegmentNumber,
    segment: &Segment<F>,
    frame_size_bytes_max: u32,
) -> (Vec<ReplayFrame>, bool) {
    let scanned = Scanned { number, generation: segment.generation, frame_size_bytes_max };
    let mut frames = Vec::new();
    let (start, end) = (Position(crate::format::SEGMENT_HEADER_BYTES), segment.end);
    let read = scan_segment(&*segment.file, scanned, start, end, &mut frames).await;
    // What lies behind was never acknowledged, or is no part of the log any more.
    frames.retain(|frame| frame.start() < end);
    (frames, read.is_ok())
}

/// What the files of a shard hold.
struct Findings {
    shard: ShardId,
    damage: Vec<Damage>,
    /// The sequences of each channel that whole records were found of.
    found: FastMap<ChannelId, Ranges>,
    /// Whether the segment that was read last has records without a message that cannot be read.
    has_bad_state: bool,
}

impl Findings {
    /// What recovery can do without: one slot is enough, and segments say the same.
    fn look_at_superblock<F: DiskFile>(&mut self, recovered: &Recovered<F>) {
        match &recovered.superblock {
            Some(file) if file.is_damaged() => {
                self.note(SegmentNumber(0), "a slot of the superblock is damaged");
            }
            Some(file) if file.newest().counter == 0 && recovered.has_log => {
                self.note(
                    SegmentNumber(0),
                    "the superblock is damaged; segments say where the log ends",
                );
            }
            None if recovered.has_log => {
                self.note(
                    SegmentNumber(0),
                    "the superblock is gone; segments say where the log ends",
                );
            }
            _ => {}
        }
    }

    /// Reads a segment from end to end.
    async fn read<F: DiskFile>(
        &mut self,
        number: SegmentNumber,
        segment: &Segment<F>,
        frame_size_bytes_max: u32,
    ) {
        let (frames, is_read) = frames_of(number, segment, frame_size_bytes_max).await;
        if !is_read {
            self.note(number, "reading it failed");
        }
        self.has_bad_state = false;
        for frame in &frames {
            self.take(frame);
        }
        if !segment.is_clustered && !is_dense(&frames, segment, number).await {
            self.note(number, "a frame of it is missing");
        }
        if segment.state == SegmentState::Sealed {
            match read_footer(&*segment.file, number, segment.generation, segment.end).await {
                Ok(Some(_)) => {}
                Ok(None) => self.note(number, "its footer is damaged; its frames say the same"),
                Err(_) => self.note(number, "reading its footer failed"),
            }
        }
    }

    fn take(&mut self, frame: &ReplayFrame) {
        let number = frame.place.0;
        if frame.is_front_damaged {
            self.note(number, "a frame's front is damaged; its copies are whole");
        }
        for run in &frame.runs {
            let is_damaged =
                |sequence: &Sequence| frame.damaged.contains(&(run.channel, *sequence));
            let found = self.found.entry(run.channel).or_default();
            let sequences = (run.run.first.0..=run.run.last().0).map(Sequence);
            if frame.damaged.is_empty() {
                found.add(run.run.first.0, run.run.last().0);
            } else {
                for sequence in sequences.filter(|sequence| !is_damaged(sequence)) {
                    found.add(sequence.0, sequence.0);
                }
            }
        }
        for (channel, sequence) in &frame.damaged {
            if *channel == ChannelId(0) {
                self.has_bad_state = true;
            } else {
                let channel = (*channel, String::new());
                self.damage.push(Damage::of_record(self.shard, number, channel, *sequence));
            }
        }
    }

    /// Records that are damaged in one place and whole in another cost nothing: the front of their frame was written over
    /// another one.
    fn forget_copies(&mut self) {
        let Self { damage, found, .. } = self;
        let mut segments = BTreeSet::new();
        damage.retain(|damage| {
            let found = found.get(&damage.channel).filter(|_| damage.channel != ChannelId(0));
            let (first, last) = (damage.first.0, damage.last.0);
            let is_copy = found.is_some_and(|found| found.missing_of(first, last).is_empty());
            if is_copy {
                segments.insert(damage.segment);
            }
            !is_copy
        });
        for segment in segments {
            self.note(segment, "a frame was written to another's place");
        }
    }

    /// Damage that costs no message by itself.
    fn note(&mut self, segment: SegmentNumber, what: &'static str) {
        self.damage.push(Damage::of_segment(self.shard, segment, what));
    }
}

/// Whether all frames of a segment of the log are there: their indexes follow each other, from the one that its header
/// names, if that can be read, to the last that counts.
async fn is_dense<F: DiskFile>(
    frames: &[ReplayFrame],
    segment: &Segment<F>,
    number: SegmentNumber,
) -> bool {
    let found: BTreeSet<Index> = frames.iter().map(|frame| frame.header.index).collect();
    let block = segment.file.read_at(0, BLOCK_SIZE_BYTES).await.unwrap_or_default();
    let header = SegmentHeader::decode(&block).valid().filter(|header| {
        header.life == SegmentLife::Log
            && (header.number, header.generation) == (number, segment.generation)
    });
    let first = header.map(|header| header.base_index).or(found.first().copied());
    first.is_none_or(|first| (first.0..=segment.last_index.0).all(|at| found.contains(&Index(at))))
}
