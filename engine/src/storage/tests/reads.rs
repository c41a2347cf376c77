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

/// Serves all until nothing more comes; returns how many messages came and how many reads were on their way at most.
fn catch_up(publishes: bool) -> (usize, usize, usize) {
    let (world, group, storage) = World::filled(4, 2_000);
    world.stop(&group, storage);
    let (group, storage) = world.open();
    let expected = subscribe_everywhere(&world, &storage, &group);
    let (mut got, mut most, mut quiet) = (0, 0, 0);
    while quiet < 5_000 {
        if publishes && got < expected {
            publish(&storage, &group, "beside", b"new");
        }
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

/// 64 reads at a time, of 1,000 subscribers that caught up, left publishers an eighth of their rate.
#[test]
fn few_reads_are_on_their_way_beside_publishers_and_all_are_served() {
    let (got, expected, most) = catch_up(true);
    assert_eq!(got, expected);
    assert!(most <= 2 + 2, "{most}: two, and those that were on their way at the first publish");
    let (got, expected, most) = catch_up(false);
    assert_eq!(got, expected);
    assert!((8..=16).contains(&most), "{most}");
}
