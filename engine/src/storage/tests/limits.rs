//! Limits of single channels: at creation, at the next open, and when they change in between.

use super::world::World;
use super::*;
use crate::error::RequestError;
use crate::limits::{ChannelLimitRules, LimitRule, NamePart};

fn rule(part: &str, messages_max: u64) -> LimitRule {
    let exactly = NamePart::Exactly(part.into());
    LimitRule { messages_max: Some(messages_max), ..LimitRule::new(vec![exactly]) }
}

fn config_with(rules: Vec<LimitRule>) -> StorageConfig {
    let none = ChannelLimits { messages_max: 0, bytes_max: 0, ..ChannelLimits::default() };
    StorageConfig { limits: ChannelLimitRules::new(none, rules), ..config() }
}

fn count(storage: &SimStorage, channel: &str) -> u64 {
    let bounds = storage.with(shard_of_channel(channel, 2), |s| s.channel_bounds(channel));
    bounds.map_or(0, |(_, _, count)| count)
}

fn publish_some(executor: &SimExecutor, storage: &SimStorage, group: &SimRuntime, channel: &str) {
    let mut last = None;
    for _ in 0..10 {
        last = Some(publish(storage, group, channel, b"x"));
    }
    let (shard, index, _) = last.unwrap();
    executor.block_on(committed(storage, group, shard, index));
}

#[test]
fn a_channel_has_its_own_limits_at_creation_and_at_each_open() {
    let executor = SimExecutor::new(6);
    let disk = SimDisk::new(executor.runtime(), 6);
    let group = executor.group();
    let config = config_with(vec![rule("a", 5)]);
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    publish_some(&executor, &storage, &group, "a");
    publish_some(&executor, &storage, &group, "b");
    assert_eq!((count(&storage, "a"), count(&storage, "b")), (5, 10));
    group.kill();
    drop(storage);

    let disk = disk.crash(&mut fastrand::Rng::with_seed(1));
    let group = executor.group();
    let config = config_with(vec![rule("a", 3), rule("b", 7)]);
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    assert_eq!((count(&storage, "a"), count(&storage, "b")), (3, 7));
}

#[test]
fn limits_that_change_apply_to_channels_there_are() {
    let executor = SimExecutor::new(7);
    let disk = SimDisk::new(executor.runtime(), 7);
    let group = executor.group();
    let storage = executor.block_on(open(&disk, &group, &config_with(Vec::new()))).unwrap();
    publish_some(&executor, &storage, &group, "a");
    let limits = config_with(vec![rule("a", 4)]).limits;
    let shard = shard_of_channel("a", 2);
    storage.with(shard, |s| s.set_limits(limits, group.now()));
    assert_eq!(count(&storage, "a"), 4);
    publish_some(&executor, &storage, &group, "a");
    assert_eq!(count(&storage, "a"), 4);
}

#[test]
fn subscriptions_are_limited_by_channel() {
    let executor = SimExecutor::new(8);
    let disk = SimDisk::new(executor.runtime(), 8);
    let group = executor.group();
    let one = LimitRule { subscriptions_max: Some(1), ..rule("a", 0) };
    let storage = executor.block_on(open(&disk, &group, &config_with(vec![one]))).unwrap();
    for (channel, wanted, allowed) in [("a", 3, 1), ("b", 3, 3)] {
        let shard = shard_of_channel(channel, 2);
        for number in 0..wanted {
            let request = subscription(channel, StartAt::NewOnly, SubscriptionKind::Plain);
            storage.with(shard, |s| s.subscribe(request, Ticket(number), group.now()));
        }
        executor.run_for(Duration::from_millis(20));
        storage.pump();
        executor.run_for(Duration::from_millis(20));
        storage.pump();
        let answers = storage.with(shard, |s| s.take_answers());
        let refused = Answer::Refused(RequestError::TooManySubscriptions);
        let refusals = answers.iter().filter(|(_, answer)| *answer == refused).count();
        assert_eq!((answers.len(), answers.len() - refusals), (3, allowed), "{channel}");
    }
}

/// Messages are kept for a minute.
fn config_for_a_minute() -> StorageConfig {
    let limits = ChannelLimits { age_ms_max: 60_000, ..ChannelLimits::default() };
    StorageConfig { limits: limits.into(), ..config() }
}

/// The clock that ages are judged by went on from the newest message's time, and that one was stamped by a wall clock
/// that had jumped: a restart wiped the older ones.
#[test]
fn a_wall_clock_that_jumps_ages_nothing_not_even_over_a_restart() {
    let executor = SimExecutor::new(9);
    let disk = SimDisk::new(executor.runtime(), 9);
    let config = config_for_a_minute();
    let hour_ns = 3_600_000_000_000;
    for (round, jump_ns) in [hour_ns, -hour_ns, 87_600 * hour_ns].into_iter().enumerate() {
        let group = executor.group();
        let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
        let channels = [format!("old-{round}"), format!("new-{round}")];
        publish_some(&executor, &storage, &group, &channels[0]);
        executor.run_for(Duration::from_secs(2));
        tick_all(&storage, &group);
        executor.shift_wall_clock(jump_ns);
        publish_some(&executor, &storage, &group, &channels[1]);
        tick_all(&storage, &group);
        group.kill();
        drop(storage);
        let group = executor.group();
        let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
        for _ in 0..3 {
            executor.run_for(Duration::from_secs(2));
            tick_all(&storage, &group);
        }
        let counts = channels.map(|channel| count(&storage, &channel));
        assert_eq!(counts, [10, 10], "round {round}");
        group.kill();
    }
}

/// A store that was never told how far time is has only its messages to go by: the newest of them made those before a
/// jump ten years old. Found by the simulator.
#[test]
fn a_wall_clock_that_jumps_in_a_first_second_ages_nothing() {
    let executor = SimExecutor::new(10);
    let disk = SimDisk::new(executor.runtime(), 10);
    let config = config_for_a_minute();
    let group = executor.group();
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    publish_some(&executor, &storage, &group, "a");
    executor.shift_wall_clock(315_360_000_000_000_000);
    publish_some(&executor, &storage, &group, "a");
    group.kill();
    drop(storage);
    let disk = disk.crash(&mut fastrand::Rng::with_seed(1));
    let group = executor.group();
    let storage = executor.block_on(open(&disk, &group, &config)).unwrap();
    for _ in 0..60 {
        tick_all(&storage, &group);
        executor.run_for(Duration::from_millis(100));
    }
    assert_eq!(count(&storage, "a"), 20);
}

fn tick_all(storage: &SimStorage, runtime: &SimRuntime) {
    for shard in storage.shards() {
        storage.with(*shard, |shard| shard.tick(runtime.now()));
    }
    storage.pump();
}

/// A segment that limits have emptied was used again before the log knew of it: a kill then left a checkpoint with messages
/// in a segment that was gone.
#[test]
fn a_segment_is_used_again_when_it_is_on_disk_that_it_is_empty() {
    let (world, group, storage) = World::filled(31, 2_000);
    world.idle(&storage, &group, 10_000);
    let limits = ChannelLimits { messages_max: 1, bytes_max: 0, ..ChannelLimits::default() };
    let shard = ShardId(0);
    let before = storage.with(shard, |s| {
        let before = s.totals().segments;
        s.set_limits(limits.into(), group.now());
        s.collect_dead(group.now());
        assert_eq!(s.totals().segments, before, "what was removed is not on disk yet");
        before
    });
    world.idle(&storage, &group, 5_000);
    let late = storage.with(shard, |s| s.collect_dead(group.now()));
    let after = storage.with(shard, |s| s.totals().segments);
    assert!(after < before, "{before} -> {after}");
    let counted = storage.statistics().emptied_count + late;
    assert!(counted > 0, "{before} -> {after}");
}
