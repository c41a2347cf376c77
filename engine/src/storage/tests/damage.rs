//! Stores whose files were damaged while the server was down: opening never panics and never ends in a loop, what is
//! left is served, what is lost is reported. Each was found by the fuzz target `recovery`.

use std::rc::Rc;

use super::*;
use crate::disk::{BLOCK_SIZE_BYTES, DiskFile};
use crate::format::FrameHeader;
use crate::log::segment::segment_path;
use crate::sim::disk::{Chance, Faults};
use crate::types::SegmentNumber;
use crate::verify::verify;

const CHANNEL: &str = "a";
const MESSAGES: usize = 300;

/// A store whose channel fills several segments, stopped cleanly; the oldest ones are sealed.
struct Stopped {
    executor: SimExecutor,
    disk: SimDisk,
    shard: ShardId,
}

fn payload(at: usize) -> Vec<u8> {
    let byte = u8::try_from(at % 251).unwrap();
    vec![byte; 1_000 + at]
}

fn stopped_store() -> Stopped {
    let executor = SimExecutor::new(11);
    let disk = SimDisk::new(executor.runtime(), 11);
    let group = executor.group();
    let storage = executor.block_on(open(&disk, &group, &config())).unwrap();
    let mut shard = ShardId(0);
    for at in 0..MESSAGES {
        let (its, index, _) = publish(&storage, &group, CHANNEL, &payload(at));
        if at % 10 == 9 {
            executor.block_on(committed(&storage, &group, its, index));
        }
        shard = its;
    }
    executor.block_on(storage.close());
    group.kill();
    drop(storage);
    Stopped { executor, disk, shard }
}

impl Stopped {
    fn segment(&self, number: u32) -> String {
        segment_path(self.shard, SegmentNumber(number))
    }

    fn overwrite(&self, path: &str, position: u64, bytes: Vec<u8>) {
        self.executor.block_on(async {
            let file = self.disk.open(path).await.unwrap();
            file.write_at(position, Rc::new(bytes)).await.unwrap();
        });
    }

    /// Opens, reads all from the start, and checks that what comes is what was published. How many came, and whether
    /// damage was reported.
    fn read(&self) -> (usize, bool) {
        let group = self.executor.group();
        let storage = self.executor.block_on(open(&self.disk, &group, &config())).unwrap();
        let inbox = self.executor.block_on(read_from(&storage, &group, CHANNEL, StartAt::First));
        for (sequence, got, _) in &inbox.messages {
            assert_eq!(*got, payload(usize::try_from(*sequence).unwrap() - 1), "{sequence}");
        }
        let count = inbox.messages.len();
        let (_, index, sequence) = publish(&storage, &group, CHANNEL, &payload(count));
        assert_eq!(sequence.0, count as u64 + 1, "numbers go on");
        self.executor.block_on(committed(&storage, &group, self.shard, index));
        let late = storage.with(self.shard, |shard| shard.take_damage());
        let is_reported = !late.is_empty() || !storage.report().damage.is_empty();
        self.executor.block_on(storage.close());
        group.kill();
        (count, is_reported)
    }
}

#[test]
fn without_damage_all_is_there() {
    assert_eq!(stopped_store().read(), (MESSAGES, false));
}

/// A read that fails says nothing about what is on the disk: what it was for is skipped and told, all else is served,
/// publishing goes on, and a start that can read has all of it.
#[test]
fn what_cannot_be_read_is_skipped_and_told_and_there_after_a_restart() {
    let store = stopped_store();
    let group = store.executor.group();
    let storage = store.executor.block_on(open(&store.disk, &group, &config())).unwrap();
    store.disk.set_faults(Faults {
        read_error: Chance::ALWAYS,
        only_paths_with: store.segment(1),
        ..Faults::default()
    });
    let inbox = store.executor.block_on(read_from(&storage, &group, CHANNEL, StartAt::First));
    let (first, ..) = inbox.messages[0];
    assert!(first > 1, "the first segment cannot be read");
    let got: Vec<_> = inbox.messages.iter().map(|message| message.0).collect();
    assert_eq!(got, (first..=MESSAGES as u64).collect::<Vec<_>>());
    let damage = storage.with(store.shard, |shard| shard.take_damage());
    assert!(damage.iter().all(|one| one.segment == SegmentNumber(1)), "{damage:?}");
    assert!(!damage.is_empty());
    let (_, index, sequence) = publish(&storage, &group, CHANNEL, &payload(MESSAGES));
    assert_eq!(sequence.0, MESSAGES as u64 + 1);
    store.executor.block_on(committed(&storage, &group, store.shard, index));
    store.executor.block_on(storage.close());
    group.kill();
    drop(storage);
    store.disk.set_faults(Faults::default());
    assert_eq!(store.read(), (MESSAGES + 1, false));
}

/// What cannot be read at a start is not taken for something that is not there.
#[test]
fn a_start_that_cannot_read_is_refused_and_changes_nothing() {
    let store = stopped_store();
    for path in ["store", "superblock", "checkpoint-", "segment-"] {
        let only_paths_with = path.to_owned();
        let read_error = Chance::ALWAYS;
        store.disk.set_faults(Faults { read_error, only_paths_with, ..Faults::default() });
        let group = store.executor.group();
        assert!(store.executor.block_on(open(&store.disk, &group, &config())).is_err(), "{path}");
        group.kill();
    }
    store.disk.set_faults(Faults::default());
    assert_eq!(store.read(), (MESSAGES, false));
}

/// A subscription by time asked for the footer of a segment that was not there, again and again in one call.
#[test]
fn a_sealed_segment_that_is_gone_is_reported_and_not_waited_for() {
    let store = stopped_store();
    let first = store.segment(1);
    store.executor.block_on(store.disk.remove(&first)).unwrap();
    let group = store.executor.group();
    let storage = store.executor.block_on(open(&store.disk, &group, &config())).unwrap();
    let damage = storage.report().damage.clone();
    assert_eq!((damage[0].segment, damage[0].first), (SegmentNumber(1), Sequence(1)));
    let start = StartAt::Time(Timestamp(1));
    let inbox = store.executor.block_on(read_from(&storage, &group, CHANNEL, start));
    assert_eq!(inbox.messages.first().map(|message| message.0), Some(damage[0].last.0 + 1));
    assert_eq!(inbox.messages.last().map(|message| message.0), Some(MESSAGES as u64));
}

/// One bad sector cost all messages of a segment: nothing but its header named its generation. Zeroed, the file even
/// was taken for an empty one and written anew.
#[test]
fn the_first_frame_stands_in_for_a_damaged_segment_header() {
    let store = stopped_store();
    store.disk.flip_bit(&store.segment(1), 20, 3);
    store.overwrite(&store.segment(2), 0, vec![0; BLOCK_SIZE_BYTES]);
    assert_eq!(store.read(), (MESSAGES, true));
    assert_eq!(store.read().0, MESSAGES + 1);
}

/// A header that was written to the wrong file made the shard rename the file whose header it was.
#[test]
fn a_header_in_the_wrong_file_costs_neither_file() {
    let store = stopped_store();
    let mut header = store.disk.peek(&store.segment(1)).unwrap();
    header.truncate(BLOCK_SIZE_BYTES);
    store.overwrite(&store.segment(2), 0, header);
    assert_eq!(store.read(), (MESSAGES, true));
    assert_eq!(store.read().0, MESSAGES + 1);
}

/// A superblock made anew said that the log ends at 0, which hid all frames from the open after next.
#[test]
fn a_lost_superblock_does_not_empty_the_log() {
    let store = stopped_store();
    let superblock = format!("shard-{:02}/superblock", store.shard.0);
    store.executor.block_on(store.disk.remove(&superblock)).unwrap();
    assert_eq!(store.read(), (MESSAGES, false));
    assert_eq!(store.read().0, MESSAGES + 1);
}

/// The number after the largest one overflowed.
#[test]
fn names_that_are_not_ours_are_left_alone() {
    let store = stopped_store();
    let directory = format!("shard-{:02}", store.shard.0);
    for name in ["segment-7", "segment-+000000007", "checkpoint-18446744073709551615", "note"] {
        let path = format!("{directory}/{name}");
        store.executor.block_on(store.disk.create(&path)).map(drop).unwrap();
    }
    assert_eq!(store.read(), (MESSAGES, false));
}

/// The damaged checkpoint counted as the newest one, and the one that was whole was removed.
#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let store = stopped_store();
    assert_eq!(store.read(), (MESSAGES, false));
    let is_checkpoint = |path: &String| path.contains("checkpoint-");
    let newest = store.disk.paths().into_iter().rfind(is_checkpoint).unwrap();
    store.disk.flip_bit(&newest, 30, 0);
    let group = store.executor.group();
    let storage = store.executor.block_on(open(&store.disk, &group, &config())).unwrap();
    store.executor.block_on(storage.close());
    let left: Vec<_> = store.disk.paths().into_iter().filter(is_checkpoint).collect();
    assert!(!left.contains(&newest), "{left:?}");
    assert_eq!(left.len(), 2, "{left:?}");
}

/// A frame written over another one of its segment is intact and has the right generation: what it holds was served
/// under the other one's numbers.
#[test]
fn a_frame_in_anothers_place_is_not_served_as_that() {
    let store = stopped_store();
    let path = store.segment(1);
    let bytes = store.disk.peek(&path).unwrap();
    let blocks = bytes.chunks_exact(BLOCK_SIZE_BYTES).enumerate();
    let frames: Vec<_> = blocks
        .filter_map(|(at, block)| Some((at * BLOCK_SIZE_BYTES, FrameHeader::decode(block)?)))
        .filter(|(_, (_, is_copy))| !is_copy)
        .map(|(start, (header, _))| (start, header))
        .collect();
    let mut pairs = frames.iter().flat_map(|one| frames.iter().map(move |two| (one, two)));
    let (from, to) = pairs
        .rfind(|(one, two)| one.0 < two.0 && one.1.blocks == two.1.blocks)
        .expect("some frames are equally long");
    let copied = bytes[from.0..from.0 + from.1.length_bytes()].to_vec();
    store.overwrite(&path, to.0 as u64, copied);

    let group = store.executor.group();
    let storage = store.executor.block_on(open(&store.disk, &group, &config())).unwrap();
    let inbox = store.executor.block_on(read_from(&storage, &group, CHANNEL, StartAt::First));
    for (sequence, got, _) in &inbox.messages {
        assert_eq!(*got, payload(usize::try_from(*sequence).unwrap() - 1), "{sequence}");
    }
    assert_eq!(inbox.messages.len(), MESSAGES - to.1.record_count as usize);
    let damage = storage.with(store.shard, |shard| shard.take_damage());
    assert!(damage.iter().any(|one| one.segment == SegmentNumber(1)), "{damage:?}");
}

/// Found by the simulator's rot: a frame that cannot be read, or in whose place another one stands, was told by its segment
/// only, and nobody knew which messages were gone.
#[test]
fn messages_of_a_frame_that_cannot_be_read_are_named_when_they_are_skipped() {
    for is_another in [false, true] {
        let store = stopped_store();
        let path = store.segment(1);
        let bytes = store.disk.peek(&path).unwrap();
        let (first, _) = FrameHeader::decode(&bytes[BLOCK_SIZE_BYTES..]).unwrap();
        let second = BLOCK_SIZE_BYTES + first.length_bytes();
        let (header, _) = FrameHeader::decode(&bytes[second..]).unwrap();
        let mut there = vec![0; header.length_bytes()];
        if is_another {
            let copied = first.length_bytes().min(there.len());
            there[..copied].copy_from_slice(&bytes[BLOCK_SIZE_BYTES..][..copied]);
        }
        store.overwrite(&path, second as u64, there);

        let group = store.executor.group();
        let storage = store.executor.block_on(open(&store.disk, &group, &config())).unwrap();
        assert_eq!(storage.report().damage, []);
        let inbox = store.executor.block_on(read_from(&storage, &group, CHANNEL, StartAt::First));
        let read: Vec<_> = inbox.messages.iter().map(|(sequence, ..)| *sequence).collect();
        let lost: Vec<_> = (1..=MESSAGES as u64).filter(|at| !read.contains(at)).collect();
        assert_eq!(lost.len(), 10, "{is_another}: a batch");
        let damage = storage.with(store.shard, |shard| shard.take_damage());
        let named = damage.iter().filter(|one| one.name == CHANNEL);
        let named: Vec<_> = named.flat_map(|one| one.first.0..=one.last.0).collect();
        assert_eq!(named, lost, "{is_another}: {damage:?}");
    }
}

/// The same without a checkpoint: replayed from the frames, blocks did not ascend, and the footer could not be made.
#[test]
fn a_frame_that_stands_twice_is_replayed_once() {
    let store = stopped_store();
    let path = store.segment(1);
    let bytes = store.disk.peek(&path).unwrap();
    let (header, _) = FrameHeader::decode(&bytes[BLOCK_SIZE_BYTES..]).unwrap();
    let frame = bytes[BLOCK_SIZE_BYTES..][..header.length_bytes()].to_vec();
    let records =
        bytes.chunks_exact(BLOCK_SIZE_BYTES).enumerate().skip(2).find_map(|(at, block)| {
            let (next, is_copy) = FrameHeader::decode(block)?;
            let is_fit = !is_copy && next.blocks == header.blocks;
            is_fit.then(|| (at * BLOCK_SIZE_BYTES, next.record_count as usize))
        });
    let (place, lost) = records.expect("some frame is as long as the first");
    store.overwrite(&path, place as u64, frame);
    for path in store.disk.paths().iter().filter(|path| path.contains("checkpoint-")) {
        store.executor.block_on(store.disk.remove(path)).unwrap();
    }
    let group = store.executor.group();
    let storage = store.executor.block_on(open(&store.disk, &group, &config())).unwrap();
    let inbox = store.executor.block_on(read_from(&storage, &group, CHANNEL, StartAt::First));
    assert!((MESSAGES - lost..MESSAGES).contains(&inbox.messages.len()));
    assert_ne!(storage.report().damage, []);
}

/// Each name stands in two frames, the second time behind the names of channels made meanwhile; there it was ignored.
#[test]
fn a_channels_second_name_counts_where_the_first_is_lost() {
    let executor = SimExecutor::new(12);
    let disk = SimDisk::new(executor.runtime(), 12);
    let group = executor.group();
    let config = StorageConfig { shard_count: Some(1), ..config() };
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    let shard = ShardId(0);
    // All before the first frame has its place: the first batch is full, the second one has the other name already.
    let mut index = Index(0);
    for channel in ["first"; 12].into_iter().chain(["later"]) {
        let published = storage.with(shard, |s| s.publish(channel, &[0; 8_000], group.now()));
        index = published.unwrap().index;
    }
    assert_eq!(index, Index(2));
    executor.block_on(committed(&storage, &group, shard, index));
    group.kill();
    drop(storage);
    let path = segment_path(shard, SegmentNumber(1));
    let bytes = disk.peek(&path).unwrap();
    let name = b"first";
    let place = bytes.windows(name.len()).position(|window| window == name).unwrap();
    disk.flip_bit(&path, place as u64, 0);

    let group = executor.group();
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    assert_ne!(storage.report().damage, []);
    let bounds = storage.with(shard, |s| s.channel_bounds("first"));
    assert_eq!(bounds, Some((Sequence(1), Sequence(12), 12)));
}

/// The frame that a channel was made in is lost, and its one message with it. The next frame repeats the table and the
/// name, but the table was looked at first: the channel had no messages, and the lost one's sequence was given again.
#[test]
fn the_sequence_of_a_lost_first_message_is_not_given_again() {
    let executor = SimExecutor::new(13);
    let disk = SimDisk::new(executor.runtime(), 13);
    let group = executor.group();
    let config = StorageConfig { shard_count: Some(1), ..config() };
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    let shard = ShardId(0);
    let publish = |storage: &SimStorage, group: &SimRuntime, channel| {
        let published = storage.with(shard, |s| s.publish(channel, b"m", group.now())).unwrap();
        executor.block_on(committed(storage, group, shard, published.index));
        published.sequence
    };
    for channel in ["before", "first", "later", "later"] {
        publish(&storage, &group, channel);
    }
    group.kill();
    drop(storage);
    let path = segment_path(shard, SegmentNumber(1));
    let bytes = disk.peek(&path).unwrap();
    let name = b"first";
    let place = bytes.windows(name.len()).position(|window| window == name).unwrap();
    // All of its one block: header, table, name and message.
    let block = place - place % BLOCK_SIZE_BYTES;
    for sector in 0..BLOCK_SIZE_BYTES / 512 {
        disk.damage_sector(&path, (block + 512 * sector) as u64);
    }

    let group = executor.group();
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    let damage = &storage.report().damage;
    let named = damage.iter().find(|one| one.name == "first");
    assert_eq!(named.map(|one| (one.first, one.last)), Some((Sequence(1), Sequence(1))));
    assert_eq!(publish(&storage, &group, "first"), Sequence(2));
}

/// Found by the simulator's rot: the first block of a long frame was written over a frame of one block. Looking for frames
/// went on behind the long one's length, and what stood there whole was lost at the next start.
#[test]
fn the_front_of_a_long_frame_in_anothers_place_hides_no_frame_behind_it() {
    let executor = SimExecutor::new(14);
    let disk = SimDisk::new(executor.runtime(), 14);
    let group = executor.group();
    let config = StorageConfig { shard_count: Some(1), ..config() };
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    let shard = ShardId(0);
    for batch in [&[8_000; 4][..], &[10], &[10], &[10], &[10], &[10], &[10]] {
        let mut index = Index(0);
        for length in batch {
            let payload = vec![1; *length];
            index = storage.with(shard, |s| s.publish("a", &payload, group.now())).unwrap().index;
        }
        executor.block_on(committed(&storage, &group, shard, index));
    }
    // The hint says that all of it was committed.
    executor.block_on(async {
        for _ in 0..20 {
            storage.with(shard, |s| s.tick(group.now()));
            storage.pump();
            group.sleep(Duration::from_millis(100)).await;
        }
    });
    group.kill();
    drop(storage);
    let path = segment_path(shard, SegmentNumber(1));
    let bytes = disk.peek(&path).unwrap();
    let frames = bytes.chunks_exact(BLOCK_SIZE_BYTES).enumerate().filter_map(|(at, block)| {
        let header = FrameHeader::decode(block).filter(|(_, is_copy)| !is_copy)?.0;
        Some((at * BLOCK_SIZE_BYTES, usize::from(header.blocks)))
    });
    let frames: Vec<_> = frames.collect();
    let long = frames.iter().position(|(_, blocks)| *blocks > 6).expect("one is long");
    let (from, to) = (frames[long].0, frames[long + 2].0);
    disk.misdirect((&path, from as u64), (&path, to as u64));

    let found = executor.block_on(verify(&disk, group.now())).unwrap();
    let named: Vec<_> = found.damage.iter().filter(|one| !one.name.is_empty()).collect();
    assert_eq!((found.messages, found.missing), (9, 1), "{found:?}");
    assert_eq!(named.len(), 1, "those of the long frame are whole: {named:?}");

    let group = executor.group();
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    let damage = &storage.report().damage;
    let named: Vec<_> = damage.iter().filter(|one| one.name == "a").collect();
    assert_eq!(named.len(), 1, "{damage:?}");
    assert_eq!((named[0].first, named[0].last), (Sequence(6), Sequence(6)));
    assert_eq!(
        storage.with(shard, |s| s.channel_bounds("a")),
        Some((Sequence(1), Sequence(10), 9))
    );
}
