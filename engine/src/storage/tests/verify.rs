//! What `verify` says of a store is what a server would serve of it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use super::world::{Published, World};
use super::*;
use crate::checkpoint::{checkpoint_path, number_of};
use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskFile};
use crate::log::segment::segment_path;
use crate::types::{Now, SegmentNumber};
use crate::verify::{Verified, verify};

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A store with clustered, sealed and open segments, stopped cleanly: its files, and what is in it.
pub(super) fn stopped() -> (Files, Published) {
    let (mut world, group, storage) = World::filled(21, 1_200);
    world.idle(&storage, &group, 20_000);
    world.publish(&storage, &group, 100);
    assert!(sum_of(&storage, |totals| totals.clustered_segments) > 0);
    world.stop(&group, storage);
    let files = world.disk.paths().into_iter().map(|path| {
        let bytes = world.disk.peek(&path).unwrap();
        (path, bytes)
    });
    (files.collect(), world.published)
}

/// A new disk with these files.
pub(super) fn restored(files: &Files) -> (SimExecutor, SimDisk) {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(executor.runtime(), 1);
    executor.block_on(async {
        for (path, bytes) in files {
            if let Some((directory, _)) = path.rsplit_once('/') {
                disk.create_directory(directory).await.unwrap();
            }
            let file = disk.create(path).await.unwrap();
            if !bytes.is_empty() {
                file.write_at(0, Rc::new(bytes.clone())).await.unwrap();
            }
        }
    });
    (executor, disk)
}

pub(super) fn verified(executor: &SimExecutor, disk: &SimDisk) -> Result<Verified, OpenError> {
    executor.block_on(verify(disk, Now::default()))
}

pub(super) fn contents(disk: &SimDisk) -> Files {
    disk.paths().into_iter().map(|path| (path.clone(), disk.peek(&path).unwrap())).collect()
}

/// How many messages a server does not serve; each one it serves is right.
pub(super) fn lost(executor: &SimExecutor, disk: &SimDisk, published: &Published) -> u64 {
    let group = executor.group();
    let storage = executor.block_on(open(disk, &group, &config())).unwrap();
    let mut lost = 0;
    for (channel, known) in published {
        let inbox = executor.block_on(read_from(&storage, &group, channel, StartAt::First));
        for (sequence, payload, _) in &inbox.messages {
            assert!(known[usize::try_from(*sequence).unwrap() - 1] == *payload, "{channel}");
        }
        lost += (known.len() - inbox.messages.len()) as u64;
    }
    lost
}

#[test]
fn a_store_without_damage_is_whole_and_stays_as_it_is() {
    let (files, published) = stopped();
    let (executor, disk) = restored(&files);
    let found = verified(&executor, &disk).unwrap();
    assert_eq!(found.damage, []);
    assert_eq!((found.missing, found.messages), (0, 1_300));
    assert_eq!(found.channels, published.len() as u64);
    assert!(contents(&disk) == files, "nothing is written");
    assert_eq!(lost(&executor, &disk, &published), 0);
}

/// Each block in turn is zeroed, has one bit flipped, or is another's: a server starts, serves nothing that is wrong, and
/// lacks what `verify` misses, to a message.
#[test]
fn what_is_not_served_is_what_verify_misses() {
    let (files, published) = stopped();
    let total: u64 = published.values().map(|known| known.len() as u64).sum();
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut tried, mut harmed) = (0, 0);
    let mut before = vec![0; BLOCK_SIZE_BYTES];
    for (path, bytes) in &files {
        for (at, block) in bytes.chunks(BLOCK_SIZE_BYTES).enumerate() {
            if block.iter().all(|byte| *byte == 0) {
                continue;
            }
            let mut damaged = files.clone();
            let place = at * BLOCK_SIZE_BYTES..at * BLOCK_SIZE_BYTES + block.len();
            let target = &mut damaged.get_mut(path).unwrap()[place];
            match tried % 3 {
                0 => target.fill(0),
                1 => target[rng.usize(..block.len())] ^= 1 << rng.u8(..8),
                _ => target.copy_from_slice(&before[..block.len()]),
            }
            before[..block.len()].copy_from_slice(block);
            tried += 1;
            let (executor, disk) = restored(&damaged);
            let found = verified(&executor, &disk).unwrap();
            let what = format!("{path}, block {at}: {found:?}");
            assert_eq!(found.messages + found.missing, total, "{what}");
            assert!(contents(&disk) == damaged, "{what}");
            assert_eq!(lost(&executor, &disk, &published), found.missing, "{what}");
            assert_eq!(found.missing, named(&found), "each is named: {what}");
            harmed += u64::from(found.missing > 0);
        }
    }
    assert!(tried > 200 && harmed > 50, "{tried} blocks, {harmed} with losses");
}

/// Found by the simulator, seed 2934 of its day: what a full disk or a kill had left of a checkpoint counted as damage.
#[test]
fn a_checkpoint_that_was_never_whole_is_no_damage() {
    let (files, _) = stopped();
    let shard = ShardId(0);
    let number = |path: &String| {
        let number = number_of(path.rsplit_once('/')?.1)?;
        (*path == checkpoint_path(shard, number)).then_some(number)
    };
    let number = files.keys().filter_map(number).max().unwrap();
    let newest = &checkpoint_path(shard, number);
    let damage = |files: &Files| {
        let (executor, disk) = restored(files);
        verified(&executor, &disk).unwrap().damage
    };
    for length in [0, BLOCK_SIZE_BYTES] {
        let mut files = files.clone();
        files.insert(checkpoint_path(shard, number + 1), files[newest][..length].to_vec());
        assert_eq!(damage(&files), []);
    }
    // The one that the superblock knows is missed.
    let mut files = files.clone();
    files.remove(newest);
    let damage = damage(&files);
    assert!(damage.iter().any(|damage| damage.what.contains("checkpoint")), "{damage:?}");
}

/// Messages that its damage names.
fn named(found: &Verified) -> u64 {
    let mut sequences: Vec<_> = found
        .damage
        .iter()
        .filter(|damage| !damage.name.is_empty())
        .flat_map(|damage| (damage.first.0..=damage.last.0).map(|at| (damage.name.clone(), at)))
        .collect();
    sequences.sort_unstable();
    sequences.dedup();
    sequences.len() as u64
}

/// Files that are gone, cut in half, or changed places with the next one, each in turn.
#[test]
fn files_that_are_gone_or_not_themselves_are_told() {
    let (files, published) = stopped();
    let total: u64 = published.values().map(|known| known.len() as u64).sum();
    let mut harmed = [0; 3];
    for (path, bytes) in &files {
        let mut next = files.range::<str, _>((Bound::Excluded(path.as_str()), Bound::Unbounded));
        for (kind, harmed) in harmed.iter_mut().enumerate() {
            let mut left = files.clone();
            match (kind, next.next()) {
                (0, _) => drop(left.remove(path)),
                (1, _) => {
                    let half = bytes.len() / 2 / BLOCK_SIZE_BYTES * BLOCK_SIZE_BYTES;
                    left.get_mut(path).unwrap().truncate(half);
                }
                (_, Some((other, others))) => {
                    left.insert(path.clone(), others.clone());
                    left.insert(other.clone(), bytes.clone());
                }
                _ => continue,
            }
            let (executor, disk) = restored(&left);
            let found = match verified(&executor, &disk) {
                Ok(found) => found,
                // Another file's bytes as the one that names the store.
                Err(error) => panic!("{path}, {kind}: {error}"),
            };
            let what = format!("{path}, {kind}: {found:?}");
            assert_eq!(found.messages + found.missing, total, "{what}");
            assert_eq!(lost(&executor, &disk, &published), found.missing, "{what}");
            *harmed += u64::from(found.missing > 0);
        }
    }
    assert!(harmed.iter().all(|harmed| *harmed > 0), "{harmed:?}");
}

#[test]
fn an_empty_directory_is_no_store() {
    let (executor, disk) = restored(&Files::new());
    let refused = verified(&executor, &disk).unwrap_err();
    assert!(matches!(refused, OpenError::Format { .. }), "{refused}");
    assert_eq!(disk.paths(), [""; 0]);
}

/// A record with a flipped bit is told with its channel, its sequence and its segment.
#[test]
fn a_flipped_bit_in_a_record_is_told_exactly() {
    let world = World::filled(22, 60);
    let (world, group, storage) = world;
    world.stop(&group, storage);
    let path = segment_path(ShardId(0), SegmentNumber(1));
    let bytes = world.disk.peek(&path).unwrap();
    let (channel, payload) = world
        .published
        .iter()
        .find(|(channel, _)| shard_of_channel(channel, 2) == ShardId(0))
        .map(|(channel, known)| (channel, &known[1]))
        .unwrap();
    let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
    world.disk.flip_bit(&path, at as u64 + 3, 2);
    let found = verified(&world.executor, &world.disk).unwrap();
    assert_eq!(found.missing, 1);
    let [damage] = &found.damage[..] else { panic!("{found:?}") };
    assert_eq!((damage.name.as_str(), damage.first), (channel.as_str(), Sequence(2)));
    assert_eq!((damage.last, damage.segment), (Sequence(2), SegmentNumber(1)));
}
