//! How many reads of history are on their way.

use super::world::World;
use super::*;

/// Subscriptions at several places of each channel of a store that was just opened, and all that they have to get.
fn subscribe_everywhere(world: &World, storage: &SimStorage, runtime: &SimRuntime) -> usize {
    let mut expected = 0;
    let mut ticket = 0;
    for (channel, known) in &world.published {
        for part in 0..4 {
            let start = known.len() * part / 4;
            let start_at = StartAt::Sequence(Sequence(start as u64 + 1));
            expected += known.len() - start;
            ticket += 1;
            let request = subscription(channel, start_at, SubscriptionKind::Plain);
            storage.with(shard_of_channel(channel, 2), |shard| {
                shard.subscribe(request, Ticket(ticket), runtime.now());
            });
        }
    }
    expected
}

/// Serves all, with `beside` each time, until nothing more comes; returns how many messages came and how many reads were
/// on their way at most.
fn serve(
    (world, storage, group): (&World, &SimStorage, &SimRuntime),
    beside: impl Fn(usize),
) -> (usize, usize) {
    let (mut got, mut most, mut quiet) = (0, 0, 0);
    while quiet < 5_000 {
        beside(got);
        storage.pump();
        most = most.max(storage.core.reads_in_flight.get());
        world.executor.run_for(Duration::from_micros(100));
        quiet += 1;
        for id in [ShardId(0), ShardId(1)] {
            storage.with(id, |shard| {
                for (_, answer) in shard.take_answers() {
                    let Answer::Subscribed { id, .. } = answer else { panic!("{answer:?}") };
                    shard.activate(id, group.now());
                }
                let mut counter = Counter(0);
                while shard.dispatch(group.now(), &mut counter) == Dispatched::More {}
                if counter.0 > 0 {
                    (got, quiet) = (got + counter.0, 0);
                }
            });
        }
    }
    (got, most)
}

/// A store that was just opened, with all its messages on disk only.
fn cold(seed: u64) -> (World, SimRuntime, SimStorage) {
    let (world, group, storage) = World::filled(seed, 2_000);
    world.stop(&group, storage);
    let (group, storage) = world.open();
    (world, group, storage)
}

/// Returns how many messages came, how many had to, and how many reads were on their way at most. Deliveries begin so long
/// after the subscriptions.
fn catch_up(publishes: bool, wait: Duration) -> (usize, usize, usize) {
    let (world, group, storage) = cold(4);
    let expected = subscribe_everywhere(&world, &storage, &group);
    storage.pump();
    world.executor.run_for(wait);
    let (got, most) = serve((&world, &storage, &group), |got| {
        if publishes && got < expected {
            publish(&storage, &group, "beside", b"new");
        }
    });
    (got, expected, most)
}

struct Counter(usize);

impl Sink for Counter {
    fn has_room(&mut self, _: SubscriptionId, _: &Bytes) -> bool {
        true
    }

    fn deliver(&mut self, _: Delivery<'_>) {
        self.0 += 1;
    }
}

/// Channels that are scattered over the log go through it together: what one read brings serves all.
#[test]
fn readers_of_scattered_channels_share_their_reads() {
    let (world, group, storage) = cold(5);
    let mut expected = 0;
    for (at, (channel, known)) in world.published.iter().enumerate() {
        expected += known.len();
        let request = subscription(channel, StartAt::First, SubscriptionKind::Plain);
        storage.with(shard_of_channel(channel, 2), |shard| {
            shard.subscribe(request, Ticket(at as u64), group.now());
        });
    }
    assert_eq!(serve((&world, &storage, &group), |_| ()).0, expected);
    let reads = storage.statistics().history_reads;
    let segments = sum_of(&storage, |totals| totals.segments);
    assert!(segments > 4, "{segments}");
    assert!(reads <= 2 * segments as u64, "{reads} reads of {segments} segments and their footers");
}

/// Checkpoints that let segments be rewritten come sooner where somebody reads of them.
#[test]
fn what_is_read_is_brought_together_sooner() {
    let clustered_after_a_second = |reads: bool| {
        let (world, group, storage) = cold(6);
        if reads {
            world.check(&storage, &group);
        }
        world.idle(&storage, &group, 1_000);
        sum_of(&storage, |totals| totals.clustered_segments)
    };
    assert_eq!(clustered_after_a_second(false), 0);
    assert_ne!(clustered_after_a_second(true), 0);
}

/// 64 reads at a time, of 1,000 subscribers that caught up, left publishers an eighth of their rate.
#[test]
fn few_reads_are_on_their_way_beside_commits_and_all_are_served() {
    let late = Duration::from_millis(30);
    for (publishes, wait, reads_max) in [
        (true, late, 2),
        // Answers to subscriptions wait for the disk too.
        (false, Duration::ZERO, 2),
        // Of 512 KiB each, 2 MiB together.
        (false, late, 4),
    ] {
        let (got, expected, most) = catch_up(publishes, wait);
        assert_eq!(got, expected);
        assert_eq!(most, reads_max, "publishes: {publishes}, {wait:?}");
    }
}
