//! What monitoring is told of a shard is what is in it.

use super::*;
use crate::types::ChannelLimits;

/// The totals of all shards are the sums over their channels, whatever limits, age and restarts have done.
#[test]
fn totals_are_the_sums_over_all_channels() {
    let executor = SimExecutor::new(3);
    let runtime = executor.runtime();
    let disk = SimDisk::new(runtime.clone(), 5);
    let limits = ChannelLimits {
        messages_max: 40,
        bytes_max: 3_000,
        age_ms_max: 5_000,
        inactivity_ms_max: 20_000,
        ..ChannelLimits::default()
    };
    let config = StorageConfig { limits: limits.into(), ..config() };
    executor.block_on(async {
        let storage = open(&disk, &runtime, &config).await.unwrap();
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..400 {
            let channel = format!("c{}", rng.u8(..20));
            let payload = vec![b'x'; rng.usize(..200)];
            let (shard, index, _) = publish(&storage, &runtime, &channel, &payload);
            if rng.u8(..10) == 0 {
                committed(&storage, &runtime, shard, index).await;
                check(&storage);
            }
        }
        runtime.sleep(Duration::from_secs(3)).await;
        let (shard, index, _) = publish(&storage, &runtime, "c1", b"young");
        committed(&storage, &runtime, shard, index).await;
        for shard in storage.shards() {
            let last = storage.with(*shard, |shard| Index(shard.open_index().0 - 1));
            committed(&storage, &runtime, *shard, last).await;
        }
        let before = check(&storage);
        assert!(before > 100, "{before} are left by count and size");
        let statistics = storage.statistics();
        assert!(statistics.latency_us.sum() > 0);
        assert!(statistics.records.sum() >= 401, "each record is in a batch that was counted");
        assert!(statistics.bytes.sum() >= statistics.records.count() * 4096);
        storage.close().await;
        drop(storage);

        let storage = open(&disk, &runtime, &config).await.unwrap();
        assert_eq!(check(&storage), before, "a restart changes nothing");
        runtime.sleep(Duration::from_millis(2_500)).await;
        tick(&storage, &runtime);
        let young = check(&storage);
        assert!((1..before).contains(&young), "the old ones are gone by age");
        runtime.sleep(Duration::from_secs(21)).await;
        tick(&storage, &runtime);
        assert_eq!(check(&storage), 0);
        let channels: usize = totals(&storage).map(|totals| totals.channels).sum();
        assert_eq!(channels, 0, "nobody used them");
        storage.close().await;
    });
}

fn totals(storage: &SimStorage) -> impl Iterator<Item = crate::shard::ShardTotals> {
    storage.shards().iter().map(|shard| storage.with(*shard, |shard| shard.totals()))
}

fn tick(storage: &SimStorage, runtime: &SimRuntime) {
    for shard in storage.shards() {
        storage.with(*shard, |shard| shard.tick(runtime.now()));
    }
    storage.pump();
}

/// Messages there are.
fn check(storage: &SimStorage) -> u64 {
    let mut messages = 0;
    for id in storage.shards() {
        storage.with(*id, |shard| {
            let mut sum = crate::shard::Stored::default();
            for name in shard.first_channel_names(usize::MAX) {
                let (view, _) = shard.channel_view(&name).unwrap();
                assert!(view.stored.messages <= 40);
                sum.messages += view.stored.messages;
                sum.bytes += view.stored.bytes;
            }
            let totals = shard.totals();
            assert_eq!(totals.stored, sum);
            assert_eq!(totals.channels, shard.first_channel_names(usize::MAX).len());
            assert!(totals.segment_bytes >= sum.bytes);
            messages += sum.messages;
        });
    }
    messages
}

#[test]
fn names_come_in_order_and_only_as_many_as_asked_for() {
    let executor = SimExecutor::new(3);
    let runtime = executor.runtime();
    let disk = SimDisk::new(runtime.clone(), 5);
    executor.block_on(async {
        let storage = open(&disk, &runtime, &config()).await.unwrap();
        for number in (0..50).rev() {
            publish(&storage, &runtime, &format!("c{number:02}"), b"x");
        }
        for shard in storage.shards() {
            storage.with(*shard, |shard| {
                let all = shard.first_channel_names(usize::MAX);
                assert!(all.is_sorted() && all.len() > 10);
                for count in 0..=all.len() {
                    assert_eq!(shard.first_channel_names(count), all[..count]);
                }
                assert!(shard.channel_view("C01").is_none(), "names are exact");
            });
        }
        storage.close().await;
    });
}

/// A subscription that was sent nothing is behind by all messages, with a time not after the first one's.
#[test]
fn a_subscription_lags_by_what_it_was_not_sent() {
    let executor = SimExecutor::new(3);
    let runtime = executor.runtime();
    let disk = SimDisk::new(runtime.clone(), 5);
    executor.block_on(async {
        let storage = open(&disk, &runtime, &config()).await.unwrap();
        let shard = shard_of_channel("a", 2);
        let request = subscription("a", StartAt::First, SubscriptionKind::Plain);
        storage.with(shard, |s| s.subscribe(request, Ticket(1), runtime.now()));
        let begun = runtime.now().wall;
        let mut last = Index(0);
        for _ in 0..10 {
            last = publish(&storage, &runtime, "a", b"hello").1;
        }
        committed(&storage, &runtime, shard, last).await;
        // Nobody tells the subscriber, so that nothing is sent to it.
        assert_eq!(storage.with(shard, |shard| shard.take_answers()).len(), 1);
        storage.with(shard, |shard| {
            let (view, subscriptions) = shard.channel_view("a").unwrap();
            let lags: Vec<_> = subscriptions.map(|(_, lag)| lag).collect();
            assert_eq!(lags.len(), 1);
            assert_eq!((lags[0].messages, lags[0].bytes), (10, view.stored.bytes));
            assert!(
                lags[0].oldest.unwrap() >= begun && lags[0].oldest.unwrap() <= runtime.now().wall
            );
        });
        let inbox = read_from(&storage, &runtime, "a", StartAt::First).await;
        assert_eq!(inbox.messages.len(), 10);
        storage.with(shard, |shard| {
            let (_, subscriptions) = shard.channel_view("a").unwrap();
            let least = subscriptions.map(|(_, lag)| lag.messages).min();
            assert_eq!(least, Some(0), "one was sent all");
        });
        storage.close().await;
    });
}
