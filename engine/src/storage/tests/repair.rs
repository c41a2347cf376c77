//! What `repair` makes of a damaged store is all that a server would serve of it.

use super::verify::{Files, contents, lost, restored, stopped, verified};
use super::world::World;
use super::*;
use crate::disk::BLOCK_SIZE_BYTES;
use crate::log::segment::segment_path;
use crate::repair::{Repaired, repair};
use crate::types::SegmentNumber;

fn repaired(executor: &SimExecutor, source: &SimDisk) -> (Repaired, SimDisk) {
    let target = SimDisk::new(executor.runtime(), 2);
    let group = executor.group();
    let repaired = executor.block_on(repair(source, &target, &group, Tuning::small())).unwrap();
    group.kill();
    (repaired, target)
}

/// Every message with its sequence, by channel.
fn served(executor: &SimExecutor, disk: &SimDisk, channels: &[String]) -> Vec<Vec<(u64, Vec<u8>)>> {
    let group = executor.group();
    let storage = executor.block_on(open(disk, &group, &config())).unwrap();
    let of = |channel: &String| {
        let inbox = executor.block_on(read_from(&storage, &group, channel, StartAt::First));
        inbox.messages.into_iter().map(|(sequence, payload, _)| (sequence, payload)).collect()
    };
    let served = channels.iter().map(of).collect();
    drop(storage);
    group.kill();
    served
}

#[test]
fn a_whole_store_is_copied_with_all_it_has() {
    let (files, published) = stopped();
    let (executor, disk) = restored(&files);
    let (found, target) = repaired(&executor, &disk);
    assert!(contents(&disk) == files, "nothing of it is changed");
    assert_eq!((found.messages, found.verified.missing), (1_300, 0));
    let again = verified(&executor, &target).unwrap();
    assert_eq!(again.damage, []);
    assert_eq!((again.messages, again.missing, again.lost), (1_300, 0, 0));
    assert_eq!(lost(&executor, &target, &published), 0);
}

/// With some block zeroed, the copy serves what the original does, at the same sequences; nothing of it is missing, and
/// what was lost is known as that. The next message has the sequence it would have had.
#[test]
fn the_copy_of_a_damaged_store_serves_what_that_serves() {
    let (files, published) = stopped();
    let channels: Vec<String> = published.keys().cloned().collect();
    let mut harmed = 0;
    for (path, bytes) in files.iter().filter(|(path, _)| path.contains("segment-")) {
        for (at, block) in bytes.chunks(BLOCK_SIZE_BYTES).enumerate().skip(1).step_by(3) {
            if block.iter().all(|byte| *byte == 0) {
                continue;
            }
            let mut damaged = files.clone();
            let place = at * BLOCK_SIZE_BYTES..at * BLOCK_SIZE_BYTES + block.len();
            damaged.get_mut(path).unwrap()[place].fill(0);
            harmed += check_copy(&damaged, &channels, &format!("{path}, block {at}"));
        }
    }
    assert!(harmed > 20, "{harmed}");
}

/// Whether messages were lost.
fn check_copy(damaged: &Files, channels: &[String], what: &str) -> usize {
    let (executor, disk) = restored(damaged);
    let (found, target) = repaired(&executor, &disk);
    assert!(contents(&disk) == *damaged, "{what}");
    assert_eq!(found.messages, found.verified.messages, "{what}: {found:?}");
    let again = verified(&executor, &target).unwrap();
    assert_eq!(again.damage, [], "{what}");
    assert_eq!((again.messages, again.missing), (found.messages, 0), "{what}");
    let copy = served(&executor, &target, channels);
    assert!(copy == served(&executor, &disk, channels), "{what}");
    usize::from(found.verified.missing > 0)
}

/// A copy goes on where the original was, also if all its checkpoints are lost, and a copy of a copy is the same.
#[test]
fn positions_sequences_and_what_is_lost_are_kept() {
    let (mut world, group, storage) = World::filled(23, 60);
    let shard = shard_of_channel("c0", 2);
    let durable = || {
        let kind = SubscriptionKind::Durable { name: "d".into() };
        subscription("c0", StartAt::First, kind)
    };
    storage.with(shard, |s| s.subscribe(durable(), Ticket(1), group.now()));
    world.idle(&storage, &group, 50);
    storage.with(shard, |s| {
        let Answer::Subscribed { id, token, .. } = s.take_answers().remove(0).1 else { panic!() };
        s.activate(id, group.now());
        let mut inbox = Inbox { subscription: id, ..Inbox::default() };
        s.dispatch(group.now(), &mut inbox);
        assert_eq!(inbox.messages.len(), 5);
        for sequence in [1, 2] {
            s.ack(id, token, Sequence(sequence), group.now());
        }
    });
    world.idle(&storage, &group, 200);
    let (count, last) = (world.published["c0"].len() as u64, world.published["c0"][4].clone());
    world.stop(&group, storage);
    // The last message of the channel, and the third.
    let third = world.published["c0"][2].clone();
    let path = segment_path(shard, SegmentNumber(1));
    let bytes = world.disk.peek(&path).unwrap();
    for payload in [&third, &last] {
        let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
        world.disk.flip_bit(&path, at as u64 + 3, 2);
    }
    let (found, copy) = repaired(&world.executor, &world.disk);
    assert_eq!((found.verified.missing, found.messages), (2, 58));
    let (again, second) = repaired(&world.executor, &copy);
    assert_eq!((again.verified.missing, again.verified.lost, again.messages), (0, 2, 58));
    for path in second.paths().iter().filter(|path| path.contains("checkpoint")) {
        world.executor.block_on(second.remove(path)).unwrap();
    }
    world.disk = second;
    let (group, storage) = world.open();
    assert_eq!(storage.report().damage, []);
    let (_, _, sequence) = publish(&storage, &group, "c0", b"next");
    assert_eq!(sequence.0, count + 1, "the last one's sequence is not given again");
    let names: Vec<_> = storage.with(shard, |s| {
        let (_, views) = s.channel_view("c0").unwrap();
        views.map(|(view, _)| (view.last_sent.0, view.pending_count)).collect()
    });
    assert_eq!(names, [(5, 3)]);
}
