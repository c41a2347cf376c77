//! Reading messages: from memory where they are, else by asking for a read and coming back.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Shard;
use super::read_queue::{ReadKey, ReadQueue};
use crate::channel::{Channel, Channels, Recent};
use crate::disk::{BLOCK_SIZE_BYTES, Disk, SharedBytes};
use crate::error::{Damage, DiskError};
use crate::format::footer::{Footer, FooterPlace};
use crate::format::{self, Table};
use crate::index::Place;
use crate::index::frames::{FrameList, FrameNote};
use crate::index::runs::Run;
use crate::log::cache::{CachedBytes, CachedFrame, FrameCache, FramePlace};
use crate::log::history::{CLUSTERED_READ_BYTES, READ_BYTES};
use crate::log::scan::{FoundFrame, FrameAt, frame_at_without_records};
use crate::log::segment::{Segment, SegmentState};
use crate::subscriptions::{Bounds, Fetch, Messages};
use crate::types::{ChannelId, FastMap, Generation, Now, Position, SegmentNumber, Sequence};
use std::collections::{BTreeMap, BTreeSet};

/// A read to be carried out.
pub(crate) struct ReadWork<F> {
    pub key: ReadKey,
    pub file: Rc<F>,
    pub position: Position,
    /// How much to read at least of frames.
    pub read_bytes: usize,
    pub segment: SegmentNumber,
    pub generation: Generation,
}

/// Footers that were read, the oldest forgotten first.
#[derive(Debug)]
pub(super) struct FooterCache {
    footers: FastMap<SegmentNumber, Rc<Footer>>,
    order: VecDeque<SegmentNumber>,
    size_bytes: usize,
    size_bytes_max: usize,
}

impl FooterCache {
    pub(super) fn new(size_bytes_max: usize) -> Self {
        Self { footers: FastMap::default(), order: VecDeque::new(), size_bytes: 0, size_bytes_max }
    }

    pub(super) fn get(&self, segment: SegmentNumber) -> Option<&Rc<Footer>> {
        self.footers.get(&segment)
    }

    fn insert(&mut self, segment: SegmentNumber, footer: Rc<Footer>) {
        self.size_bytes += footer.size_bytes();
        if let Some(old) = self.footers.insert(segment, footer) {
            self.size_bytes -= old.size_bytes();
        } else {
            self.order.push_back(segment);
        }
        while self.size_bytes > self.size_bytes_max && self.order.len() > 1 {
            let oldest = self.order.pop_front().expect("there are two");
            self.forget(oldest);
        }
    }

    pub(super) fn forget(&mut self, segment: SegmentNumber) {
        self.order.retain(|known| *known != segment);
        if let Some(old) = self.footers.remove(&segment) {
            self.size_bytes -= old.size_bytes();
        }
    }
}

/// What the subscriptions see of the shard.
pub(super) struct MessageView<'a, F> {
    pub channels: &'a mut Channels,
    pub tail: &'a FrameCache,
    pub history: &'a FrameCache,
    pub footers: &'a FooterCache,
    pub reads: &'a mut ReadQueue,
    pub misplaced: &'a mut BTreeSet<FramePlace>,
    pub bad_records: &'a mut BTreeSet<(SegmentNumber, ChannelId, Sequence)>,
    pub skipped: &'a mut BTreeSet<Skipped>,
    pub segments: &'a BTreeMap<SegmentNumber, Segment<F>>,
    pub frames: &'a FrameList,
    /// The frame of the message that was fetched last.
    pub held: Option<Rc<CachedFrame>>,
}

/// Messages that are passed over for want of what they are in, to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Skipped {
    /// 0: no segment has them.
    pub segment: SegmentNumber,
    pub channel: ChannelId,
    pub first: Sequence,
    pub last: Sequence,
}

/// Where a message turned out to be.
enum Found {
    /// In this frame; the channel's `recent` says where.
    Here(Rc<CachedFrame>),
    Gone(Sequence),
    Later,
}

impl<F> Messages for MessageView<'_, F> {
    fn bounds(&self, channel: ChannelId) -> Option<Bounds> {
        let channel = self.channels.get(channel)?;
        Some(Bounds { first: channel.first, last: channel.committed })
    }

    fn fetch(&mut self, id: ChannelId, sequence: Sequence) -> Fetch<'_> {
        let Some(channel) = self.channels.get_mut(id) else {
            return Fetch::Gone { next: sequence.next() };
        };
        if sequence < channel.first {
            return Fetch::Gone { next: channel.first };
        }
        let recent = channel.recent.as_ref().filter(|recent| recent.run.holds(sequence));
        let frame = match recent.and_then(|recent| recent.frame.upgrade()) {
            Some(frame) => frame,
            None => {
                let mut finder = Finder {
                    tail: self.tail,
                    history: self.history,
                    footers: self.footers,
                    frames: self.frames,
                    reads: self.reads,
                    misplaced: self.misplaced,
                    skipped: self.skipped,
                };
                let is_segment = |segment| self.segments.contains_key(&segment);
                match finder.find(channel, sequence, is_segment) {
                    Found::Here(frame) => frame,
                    Found::Gone(next) => return Fetch::Gone { next },
                    Found::Later => return Fetch::Later,
                }
            }
        };
        let recent = channel.recent.as_ref().expect("it says where in the frame");
        let offset = u32::try_from(sequence.0 - recent.run.first.0).expect("within the run");
        let record = recent.record + offset;
        match self.held.insert(frame).message(record, id, sequence) {
            Some((timestamp, content)) => {
                Fetch::Message { channel: &channel.name, timestamp, content }
            }
            None => {
                self.bad_records.insert((recent.segment, id, sequence));
                Fetch::Gone { next: sequence.next() }
            }
        }
    }
}

struct Finder<'a> {
    tail: &'a FrameCache,
    history: &'a FrameCache,
    footers: &'a FooterCache,
    frames: &'a FrameList,
    reads: &'a mut ReadQueue,
    misplaced: &'a mut BTreeSet<FramePlace>,
    skipped: &'a mut BTreeSet<Skipped>,
}

impl Finder<'_> {
    /// Brings the frame of `sequence` into the channel's `recent`, if it is in memory.
    fn find(
        &mut self,
        channel: &mut Channel,
        sequence: Sequence,
        is_segment: impl Fn(SegmentNumber) -> bool,
    ) -> Found {
        let (run, note) = match channel.index.find(sequence) {
            Place::Run(run) => (run, self.frames.of(&run)),
            Place::Gone(next) => {
                let next = next.unwrap_or(channel.committed.next()).max(sequence.next());
                return self.gone(channel, SegmentNumber(0), sequence, next);
            }
            Place::Sealed(segment) => {
                if !is_segment(segment) {
                    return Found::Gone(sequence.next());
                }
                match self.find_sealed(channel, segment, sequence) {
                    Ok(found) => found,
                    Err(found) => return found,
                }
            }
        };
        let place = note.place();
        let Some(frame) = self.tail.get(place).or_else(|| self.history.get(place)) else {
            self.reads.want(ReadKey::Frame(place), channel.id);
            return Found::Later;
        };
        match frame.record_of(channel.id, &run) {
            Some(record) => {
                let (segment, weak) = (place.0, Rc::downgrade(frame));
                channel.recent = Some(Recent { run, record, segment, frame: weak });
                Found::Here(frame.clone())
            }
            // It cannot be read, or another frame was written to its place.
            None => {
                if !frame.runs.is_empty() {
                    self.misplaced.insert(place);
                }
                let first = run.first.max(channel.first);
                self.gone(channel, place.0, first, run.last().next())
            }
        }
    }

    fn find_sealed(
        &mut self,
        channel: &mut Channel,
        segment: SegmentNumber,
        sequence: Sequence,
    ) -> Result<(Run, FrameNote), Found> {
        let Some(footer) = self.footers.get(segment) else {
            self.reads.want(ReadKey::Footer(segment), channel.id);
            return Err(Found::Later);
        };
        match footer.find(channel.id, sequence, segment, &mut channel.cursor) {
            FooterPlace::Run(run, note) => Ok((run, note)),
            FooterPlace::Gone(next) => {
                let next = next.unwrap_or(sequence.next());
                Err(self.gone(channel, segment, sequence, next))
            }
        }
    }

    /// The messages from `first` to before `next` are nowhere.
    fn gone(
        &mut self,
        channel: &Channel,
        segment: SegmentNumber,
        first: Sequence,
        next: Sequence,
    ) -> Found {
        let last = next.previous().min(channel.committed);
        if first <= last {
            self.skipped.insert(Skipped { segment, channel: channel.id, first, last });
        }
        Found::Gone(next)
    }
}

impl<D: Disk> Shard<D> {
    /// The next read to carry out.
    pub(crate) fn take_read(&mut self) -> Option<ReadWork<D::File>> {
        loop {
            let segments = &self.segments;
            let read_bytes = |number| match segments.get(&number) {
                Some(segment) if segment.is_clustered => CLUSTERED_READ_BYTES,
                _ => READ_BYTES,
            };
            let key = self.reads.take(|number| blocks_of(read_bytes(number)))?;
            let number = key.segment();
            let Some(segment) = segments.get(&number) else {
                // The segment went away meanwhile, and its messages with it.
                self.read_done(key, Err(DiskError::Off), Now::default());
                continue;
            };
            let position = match key {
                ReadKey::Frame((_, block)) => Position(u64::from(block) * BLOCK_SIZE_BYTES as u64),
                ReadKey::Footer(_) => segment.end,
            };
            return Some(ReadWork {
                key,
                file: segment.file.clone(),
                position,
                read_bytes: read_bytes(number),
                segment: number,
                generation: segment.generation,
            });
        }
    }

    /// A read ended.
    pub(crate) fn read_done(
        &mut self,
        key: ReadKey,
        result: Result<ReadResult, DiskError>,
        now: Now,
    ) {
        self.reads.ended(key);
        // What was read of a segment that went away meanwhile is nothing: who waits looks where it is now.
        match (key, result) {
            (ReadKey::Frame(place), Ok(ReadResult::Window(bytes))) => {
                self.keep_frames(place, bytes);
                self.hasten_clustering(place.0, now);
            }
            (ReadKey::Frame(place), _) if !self.segments.contains_key(&place.0) => {}
            (ReadKey::Footer(segment), _) if !self.segments.contains_key(&segment) => {}
            (ReadKey::Footer(segment), Ok(ReadResult::Footer(footer))) => {
                self.footers.insert(segment, footer);
            }
            (ReadKey::Frame(place), _) => self.keep_nothing(place),
            // Without any footer those who wait would ask for ever.
            (ReadKey::Footer(segment), _) => {
                self.footers.insert(segment, Rc::new(Footer::empty()));
                self.note_damage(segment, "a footer cannot be read; its messages are skipped");
            }
        }
        self.wake(key);
        self.retry_lookups(now);
    }

    /// Those who waited for this look again.
    fn wake(&mut self, key: ReadKey) {
        for channel in self.reads.settle(key) {
            self.subscriptions.channel_ready(channel);
        }
    }

    fn keep_frames(&mut self, place: FramePlace, window: SharedBytes) {
        let Some(segment) = self.segments.get(&place.0) else { return };
        let generation = segment.generation;
        // What lies behind is being written, or failed to be, or is of the footer.
        let end = self.frames_end(place.0, segment).0 / BLOCK_SIZE_BYTES as u64;
        let blocks = end.saturating_sub(place.1.into());
        let length = usize::try_from(blocks).map_or(usize::MAX, |blocks| blocks * BLOCK_SIZE_BYTES);
        let bytes = (*window).as_ref();
        let readable = bytes.get(..length).unwrap_or(bytes);
        let mut frames: Vec<(FramePlace, CachedFrame)> = Vec::new();
        let mut at = 0;
        while let Some(rest) = readable.get(at..).filter(|rest| !rest.is_empty()) {
            let block = place.1 + blocks_of(at);
            match frame_at_without_records(rest, place.0, generation) {
                FrameAt::Whole(found) => {
                    if found.is_front_damaged
                        && let Some(segment) = self.segments.get_mut(&place.0)
                    {
                        segment.is_damaged = true;
                    }
                    let length = found.header.length_bytes();
                    frames.push(((place.0, block), cached(*found, &window, at)));
                    at += length;
                }
                FrameAt::Partial | FrameAt::None => break,
            }
        }
        let Some((_, last)) = frames.last_mut() else { return self.keep_nothing(place) };
        // The last one to go takes along what is behind the frames.
        last.bear(bytes.len() - at);
        for (at, frame) in frames {
            self.history.insert(at, Rc::new(frame));
            // Who waits for what came along needs no read of his own.
            self.wake(ReadKey::Frame(at));
        }
    }

    /// Where the committed frames of a segment end.
    fn frames_end(&self, number: SegmentNumber, segment: &Segment<D::File>) -> Position {
        match (segment.state, self.log.committed_end()) {
            (SegmentState::Active, (active, end)) if active == number => end,
            (SegmentState::Active, _) => Position(0),
            _ => segment.end,
        }
    }

    /// The frame cannot be read: its messages are skipped and reported.
    fn keep_nothing(&mut self, place: FramePlace) {
        self.history.insert(place, Rc::new(CachedFrame::unreadable()));
        self.note_damage(place.0, "a frame of the log cannot be read; its messages are skipped");
    }

    /// Damage of a segment that is still there, whose messages are not known.
    pub(super) fn note_damage(&mut self, number: SegmentNumber, what: &'static str) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        segment.is_damaged = true;
        self.damage.push(Damage::of_segment(self.id, number, what));
    }

    pub(super) fn report_misplaced(&mut self) {
        while let Some((segment, _)) = self.misplaced.pop_first() {
            self.note_damage(segment, "a frame was written to another's place");
        }
    }

    pub(super) fn report_bad_records(&mut self) {
        while let Some((number, channel, sequence)) = self.bad_records.pop_first() {
            let name = self.channels.get(channel).map(|channel| channel.name.to_string());
            let channel = (channel, name.unwrap_or_default());
            self.damage.push(Damage::of_record(self.id, number, channel, sequence));
            if let Some(segment) = self.segments.get_mut(&number) {
                segment.is_damaged = true;
            }
        }
    }
}

impl<D: Disk> Shard<D> {
    /// Each message once: another place may have told of it before, or another store, of which this one is the copy.
    pub(super) fn report_skipped(&mut self) {
        while let Some(Skipped { segment, channel: id, first, last }) = self.skipped.pop_first() {
            let Some(channel) = self.channels.get(id) else { continue };
            let known = self.damage.missing_of(&channel.name);
            let lost = self.lost.get(&id);
            let unknown = known.map_or(vec![(first.0, last.0)], |k| k.missing_of(first.0, last.0));
            let unknown = unknown.into_iter().flat_map(|(first, last)| {
                lost.map_or(vec![(first, last)], |lost| lost.missing_of(first, last))
            });
            let name = channel.name.to_string();
            for (first, last) in unknown.collect::<Vec<_>>() {
                self.damage.push(Damage {
                    shard: self.id,
                    segment,
                    channel: id,
                    name: name.clone(),
                    first: Sequence(first),
                    last: Sequence(last),
                    what: "acknowledged messages cannot be read",
                });
            }
        }
    }
}

fn blocks_of(length_bytes: usize) -> u32 {
    u32::try_from(length_bytes / BLOCK_SIZE_BYTES).expect("a window is small")
}

/// What a read brings.
pub(crate) enum ReadResult {
    /// Bytes from the frame's start on.
    Window(SharedBytes),
    /// A footer, read or made anew from the segment's frames.
    Footer(Rc<Footer>),
}

/// A frame that was found at this place of a window.
fn cached(found: FoundFrame<'_>, window: &SharedBytes, at: usize) -> CachedFrame {
    let FoundFrame { header, table: Table { runs, lengths, crcs }, offsets, .. } = found;
    let end = at + header.length_bytes();
    let start = format::records_start(&header).map_or(end, |start| (at + start).min(end));
    let records = CachedBytes::shared(window.clone(), start..end, end - at);
    CachedFrame::new(runs, records, offsets, lengths, crcs)
}
