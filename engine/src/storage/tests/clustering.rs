//! Segments rewritten by channel, while the shard runs, at every moment of it crashed, and with damage.

use super::world::World;
use super::*;
use crate::log::segment::{segment_path, shard_directory};
use crate::types::SegmentNumber;

/// What the segments take.
fn segment_bytes(storage: &SimStorage) -> u64 {
    sum_of(storage, |totals| totals.segment_bytes)
}

fn clustered(storage: &SimStorage) -> usize {
    sum_of(storage, |totals| totals.clustered_segments)
}

#[test]
fn scattered_messages_come_together_and_stay_after_a_restart() {
    let (mut world, group, storage) = World::filled(1, 3_000);
    world.idle(&storage, &group, 10_000);
    let count = clustered(&storage);
    assert!(count > 0);
    assert!(storage.statistics().clustered_count >= count as u64);
    world.check(&storage, &group);
    world.stop(&group, storage);
    let (group, storage) = world.open();
    assert_eq!(storage.report().damage, []);
    assert_eq!(clustered(&storage), count);
    world.check(&storage, &group);
    // And on: what is clustered is joined with what comes.
    world.publish(&storage, &group, 3_000);
    world.idle(&storage, &group, 10_000);
    world.check(&storage, &group);
    assert_eq!(storage.with(ShardId(0), |s| s.take_damage()), []);
}

/// Small messages in commits of their own take a block each, which the rewritten segment gives back.
#[test]
fn padding_is_given_back() {
    let (world, group, storage) = World::filled(2, 3_000);
    let before = segment_bytes(&storage);
    world.idle(&storage, &group, 20_000);
    let after = segment_bytes(&storage);
    assert!(after < before / 2, "{before} -> {after}");
}

/// What limits removed from the middle of segments is given back, and nothing else goes.
#[test]
fn what_limits_removed_is_given_back() {
    let (mut world, group, storage) = World::filled(3, 4_000);
    world.idle(&storage, &group, 10_000);
    let before = segment_bytes(&storage);
    let limits = ChannelLimits { messages_max: 20, bytes_max: 0, ..ChannelLimits::default() };
    world.config.limits = limits.into();
    for shard in [ShardId(0), ShardId(1)] {
        storage.with(shard, |s| s.set_limits(limits.into(), group.now()));
    }
    world.idle(&storage, &group, 20_000);
    let after = segment_bytes(&storage);
    assert!(after < before / 2, "{before} -> {after}");
    for (channel, known) in &world.published {
        let inbox = world.executor.block_on(read_from(&storage, &group, channel, StartAt::First));
        let expected = &known[known.len() - 20..];
        let got: Vec<_> = inbox.messages.into_iter().map(|(_, payload, _)| payload).collect();
        assert!(got == expected, "{channel}");
    }
}

/// What is joined with newer messages of its channel went with the newest of them, and was joined again before it came
/// to that: messages were kept for many times their age. Neither rewriting nor a restart may make them stay.
#[test]
fn what_is_rewritten_goes_within_twice_its_age() {
    const AGE_MS: u64 = 20_000;
    let mut world = World::new(4);
    let limits = ChannelLimits { age_ms_max: AGE_MS, bytes_max: 0, ..ChannelLimits::default() };
    world.config.limits = limits.into();
    let (mut group, mut storage) = world.open();
    // When each round of messages was published, and the first sequences behind it.
    let mut rounds: Vec<(u64, BTreeMap<String, u64>)> = Vec::new();
    let mut clustered_count = 0;
    for round in 0..40 {
        world.publish(&storage, &group, 120);
        let ends = world.published.iter();
        let ends = ends.map(|(channel, known)| (channel.clone(), known.len() as u64 + 1));
        let now_ms = |group: &SimRuntime| group.now().mono.0 / 1_000_000;
        rounds.push((now_ms(&group), ends.collect()));
        world.idle(&storage, &group, 4_000);
        if round % 5 == 4 {
            clustered_count += storage.statistics().clustered_count;
            group.kill();
            drop(storage);
            (group, storage) = world.open();
            world.idle(&storage, &group, 2_000);
        }
        let is_old = |(at_ms, _): &&(u64, _)| at_ms + 2 * AGE_MS + 3_000 < now_ms(&group);
        let Some((_, behind)) = rounds.iter().rev().find(is_old) else { continue };
        for (channel, behind) in behind {
            let shard = shard_of_channel(channel, 2);
            let bounds = storage.with(shard, |s| s.channel_bounds(channel));
            let (first, ..) = bounds.expect("it was published to");
            assert!(
                first.0 >= *behind,
                "round {round}, {channel}: {first:?} is kept, {behind} is due"
            );
        }
    }
    assert!(clustered_count > 20, "{clustered_count}");
}

/// A crash at any moment of rewriting loses nothing, again and again.
#[test]
fn a_crash_at_any_moment_of_it_loses_nothing() {
    let mut clustered_count = 0;
    for seed in 0..25 {
        let mut world = World::new(seed);
        for _ in 0..4 {
            let (group, storage) = world.open();
            assert_eq!(storage.report().damage, [], "seed {seed}");
            world.check(&storage, &group);
            let count = world.rng.u64(200..1_500);
            world.publish(&storage, &group, count);
            let millis = world.rng.u64(1..6_000);
            world.idle(&storage, &group, millis);
            world.executor.run_for(Duration::from_micros(world.rng.u64(..3_000)));
            clustered_count += clustered(&storage);
            group.kill();
            drop(storage);
            world.disk = world.disk.crash(&mut world.rng);
        }
        let (group, storage) = world.open();
        world.check(&storage, &group);
        group.kill();
    }
    assert!(clustered_count > 20, "{clustered_count}");
}

/// The first frame stands in for a damaged header; what the segment stands for, the checkpoint knows.
#[test]
fn a_damaged_header_of_a_clustered_segment_costs_nothing() {
    let (world, group, storage) = World::filled(5, 3_000);
    world.idle(&storage, &group, 20_000);
    let numbers =
        [ShardId(0), ShardId(1)].map(|shard| storage.with(shard, |s| s.clustered_numbers()));
    world.stop(&group, storage);
    let mut flipped = 0;
    for (shard, numbers) in [ShardId(0), ShardId(1)].into_iter().zip(numbers) {
        for number in numbers {
            world.disk.flip_bit(&segment_path(shard, number), 20, 3);
            flipped += 1;
        }
    }
    assert!(flipped > 0);
    let (group, storage) = world.open();
    assert_eq!(storage.report().damage.len(), flipped, "each is reported");
    world.check(&storage, &group);
}

/// A damaged segment is kept as it is: no rewriting makes damage look right, and all else of it is served.
#[test]
fn a_damaged_segment_is_not_rewritten() {
    let (world, group, storage) = World::filled(6, 3_000);
    let first = segment_path(ShardId(0), SegmentNumber(1));
    // In the records of the frame behind the header, whose table is repeated by the next one.
    for block in 3..6 {
        world.disk.flip_bit(&first, block * 4096 + 1_000, 3);
    }
    world.idle(&storage, &group, 20_000);
    let damage = storage.with(ShardId(0), |s| s.take_damage());
    assert!(damage.iter().any(|damage| damage.segment == SegmentNumber(1)), "{damage:?}");
    world.stop(&group, storage);
    let (group, storage) = world.open();
    let names = world.executor.block_on(world.disk.list(&shard_directory(ShardId(0)))).unwrap();
    assert!(names.iter().any(|entry| first.ends_with(&entry.name)));
    let mut missing = 0;
    for (channel, known) in &world.published {
        let inbox = world.executor.block_on(read_from(&storage, &group, channel, StartAt::First));
        for (sequence, payload, _) in &inbox.messages {
            assert!(known[usize::try_from(*sequence).unwrap() - 1] == *payload);
        }
        missing += known.len() - inbox.messages.len();
    }
    assert!((1..100).contains(&missing), "{missing}");
}

/// Found by the simulator when damage became a notice: of a run that limits had cut after a restart the index knows the
/// bytes by their average only, and its messages found no room; their segment counted as damaged.
#[test]
fn runs_that_were_cut_by_average_are_rewritten_too() {
    let mut world = World::new(31);
    let (group, storage) = world.open();
    let payload = |at: u64| vec![b'p'; if at < 5 { 8 } else { 2_000 }];
    for round in 0..4 {
        for channel in (0..12).map(|number| format!("c{number}")) {
            let mut published = (ShardId(0), Index(0));
            for at in 0..10 {
                let (shard, index, _) = publish(&storage, &group, &channel, &payload(at));
                published = (shard, index);
            }
            let (shard, index) = published;
            world.executor.block_on(committed(&storage, &group, shard, index));
            let known = world.published.entry(channel).or_default();
            known.extend((0..10).map(payload).skip(if round < 3 { 10 } else { 5 }));
        }
    }
    world.stop(&group, storage);
    let limits = ChannelLimits { messages_max: 5, bytes_max: 0, ..ChannelLimits::default() };
    world.config.limits = limits.into();
    let (group, storage) = world.open();
    for channel in (0..250).map(|number| format!("d{number}")) {
        let (shard, index, _) = publish(&storage, &group, &channel, &payload(0));
        world.executor.block_on(committed(&storage, &group, shard, index));
        world.published.insert(channel, vec![payload(0)]);
    }
    world.idle(&storage, &group, 20_000);
    for shard in [ShardId(0), ShardId(1)] {
        assert_eq!(storage.with(shard, |s| s.take_damage()), []);
        let totals = storage.with(shard, |s| s.totals());
        assert!(totals.clustered_segments > 0, "{shard}: {totals:?}");
    }
    world.check(&storage, &group);
}
