//! What is written, and what a restart makes of it.

use super::*;
use crate::record::{PendingRun, SubscriptionPosition, SubscriptionState};

fn snapshot(subscriptions: &Subscriptions) -> Vec<StateRecord> {
    let mut records = Vec::new();
    subscriptions.snapshot(|record| records.push(record));
    records
}

#[test]
fn durable_positions_are_written_once_with_all_that_happened() {
    let mut world = World::new();
    let id = world.subscribe(&durable(1));
    world.subscribe(&plain(2));
    world.publish(3);
    assert_eq!(world.subscriptions.positions_dirty_since(), None);
    let since = world.now.mono;
    world.run();
    world.advance(5);
    world.ack(id, 2);
    assert_eq!(world.subscriptions.positions_dirty_since(), Some(since));
    let mut records = Records::default();
    assert_eq!(world.subscriptions.log_positions(PositionScope::Durable, &mut records), 1);
    let run = |first| PendingRun { first: Sequence(first), count: 1, redelivery_count: 0 };
    let position =
        SubscriptionPosition { id, last_sent: Sequence(3), pending: vec![run(1), run(3)] };
    assert_eq!(records.0, [StateRecord::Position(position)]);
    assert_eq!(world.subscriptions.positions_dirty_since(), None);
    assert_eq!(world.subscriptions.log_positions(PositionScope::Durable, &mut records), 0);
    assert_eq!(world.subscriptions.log_positions(PositionScope::All, &mut records), 1);
}

#[test]
fn a_restart_goes_on_where_the_records_end() {
    let mut world = World::new();
    let (one, two) = (world.subscribe(&durable(1)), world.subscribe(&plain(2)));
    world.publish(3);
    world.run();
    world.ack(one, 1);
    world.advance(WAIT_MS);
    world.restart_cleanly();
    assert_eq!(world.subscriptions.clients(), [key(1), key(2)]);
    world.publish(1);
    let sent = world.run();
    // All were published a wait ago: they come at once, before the new one, with their counts.
    assert_eq!(of(&sent, one), [(2, 2), (3, 2), (4, 0)]);
    assert_eq!(of(&sent, two), [(1, 2), (2, 2), (3, 2), (4, 0)]);
}

#[test]
fn after_a_restart_the_wait_is_counted_from_the_timestamp() {
    let mut world = World::new();
    let id = world.subscribe(&with_max(durable(1), 3));
    world.publish(1);
    world.run();
    world.advance(WAIT_MS - 300);
    world.publish(2);
    world.run();
    world.restart_cleanly();
    assert!(world.subscriptions.view(id).unwrap().is_stalled);
    world.publish(1);
    assert_eq!(world.run(), []);
    assert_eq!(world.advance(299), []);
    assert_eq!(seen(&world.advance(1)), [(1, 1)]);
    assert_eq!(seen(&world.advance(WAIT_MS - 300)), [(2, 1), (3, 1)]);
    world.ack(id, 2);
    assert_eq!(seen(&world.run()), [(4, 0)]);
}

#[test]
fn a_clock_set_back_does_not_make_the_wait_longer() {
    let mut world = World::new();
    world.subscribe(&durable(1));
    world.publish(1);
    world.run();
    world.restart_cleanly();
    world.now.wall.0 -= 3_600_000_000_000;
    assert_eq!(world.run(), []);
    assert_eq!(seen(&world.advance(WAIT_MS)), [(1, 1)]);
}

#[test]
fn after_a_restart_each_member_gets_its_own_first() {
    let mut world = World::new();
    let (one, two) = (world.subscribe(&queue(1, true)), world.subscribe(&queue(2, true)));
    world.publish(4);
    let before = world.run();
    world.advance(WAIT_MS / 2);
    world.restart_cleanly();
    world.now.wall.0 += i64::try_from(WAIT_MS).unwrap() * 1_000_000;
    let sent = world.run();
    for id in [one, two] {
        let again: Vec<_> = of(&before, id).iter().map(|(sequence, _)| (*sequence, 1)).collect();
        assert_eq!(of(&sent, id), again);
    }
}

#[test]
fn an_offline_durable_and_a_shadow_stay_so() {
    let mut world = World::new();
    let (one, two) = (world.subscribe(&durable(1)), world.subscribe(&queue(2, true)));
    world.publish(1);
    world.run();
    world.end_client(1);
    world.end_client(2);
    world.restart(usize::MAX);
    assert_eq!(world.subscriptions.clients(), []);
    assert_eq!(world.advance(5 * WAIT_MS), []);
    assert_eq!(world.subscribe(&queue(3, true)), two);
    assert_eq!(world.subscribe(&durable(1)), one);
    let sent = world.run();
    assert_eq!((of(&sent, one), of(&sent, two)), (vec![(1, 1)], vec![(1, 1)]));
}

#[test]
fn the_position_of_a_group_outlives_the_member_that_moved_it() {
    let mut world = World::new();
    let one = world.subscribe(&queue(1, true));
    let two = world.subscribe(&with_max(queue(2, true), 1));
    world.publish(5);
    world.run();
    for sequence in 1..=5 {
        world.ack(one, sequence);
    }
    world.end(one, SubscriptionEnd::Close);
    world.restart(usize::MAX);
    assert_eq!(world.subscriptions.view(two).unwrap().last_sent, Sequence(5));
    world.publish(1);
    assert_eq!(seen(&world.run()), [(6, 0)]);
}

#[test]
fn messages_are_written_where_they_went_before_the_member_that_left_goes() {
    let mut world = World::new();
    let one = world.subscribe(&queue(1, true));
    world.publish(3);
    world.run();
    let two = world.subscribe(&queue(2, true));
    let start = world.records.0.len();
    world.end(one, SubscriptionEnd::Close);
    let records = &world.records.0[start..];
    let StateRecord::Position(position) = &records[0] else { panic!("{records:?}") };
    assert_eq!((position.id, position.pending.len()), (two, 1));
    assert_eq!(records[1..], [StateRecord::SubscriptionRemoved(one)]);
    world.restart(usize::MAX);
    assert_eq!(world.pending(two), 3);
}

#[test]
fn a_client_with_several_members_leaves_everything_in_the_shadow() {
    let mut world = World::new();
    let one = world.subscribe(&queue(1, true));
    let two = world.subscribe(&queue(1, true));
    world.publish(4);
    world.run();
    world.end_client(1);
    assert_eq!((world.subscriptions.len(), world.pending(two)), (1, 4));
    assert!(world.subscriptions.view(one).is_none());
    let live = snapshot(&world.subscriptions);
    world.restart(usize::MAX);
    assert_eq!(snapshot(&world.subscriptions), live);
}

#[test]
fn numbers_are_never_given_twice() {
    let mut world = World::new();
    let one = world.subscribe(&plain(1));
    world.end_client(1);
    world.restart(usize::MAX);
    assert!(world.subscribe(&plain(1)) > one);
    let mut recovering = Recovering::default();
    recovering.set_next_id(SubscriptionId(40));
    recovering.set_next_id(SubscriptionId(9));
    assert_eq!(recovering.finish().next_id(), SubscriptionId(40));
}

#[test]
fn a_snapshot_is_all_that_recovery_needs() {
    let mut world = World::new();
    for subscribe in [durable(1), plain(2), queue(1, true), queue(2, true), queue(3, false)] {
        world.subscribe(&with_max(subscribe, 3));
    }
    world.publish(7);
    world.run();
    world.end_client(1);
    let records = snapshot(&world.subscriptions);
    let mut recovering = Recovering::default();
    records.iter().for_each(|record| recovering.apply(record));
    assert_eq!(snapshot(&recovering.finish()), records);
    let mut recovering = Recovering::default();
    records.iter().for_each(|record| recovering.apply(record));
    recovering.apply(&StateRecord::ChannelDeleted { id: ORDERS });
    recovering.apply(&records[0].clone());
    assert_eq!(snapshot(&recovering.finish()), records[..1]);
}

/// Damage can cost a record: a member's end, a shadow's adoption, one of two positions that belong
/// together.
#[test]
fn records_that_contradict_each_other_are_settled() {
    let run = |first, count| PendingRun { first: Sequence(first), count, redelivery_count: 0 };
    let state = |id, request: Subscribe, is_active, last_sent, pending| SubscriptionState {
        channel: ORDERS,
        client: request.client,
        client_id: if is_active { request.client_id } else { String::new() },
        kind: request.kind,
        target: request.target,
        token: id,
        in_flight_max: 10,
        ack_wait_ms: WAIT_MS,
        is_active,
        position: SubscriptionPosition {
            id: SubscriptionId(id),
            last_sent: Sequence(last_sent),
            pending,
        },
    };
    let check = |states: Vec<SubscriptionState>, expected: Vec<(u64, u64, Vec<PendingRun>)>| {
        let ids: Vec<_> = states.iter().map(|state| state.position.id).collect();
        let mut recovering = Recovering::default();
        for state in states {
            recovering.apply(&StateRecord::Subscription(state));
        }
        let mut subscriptions = recovering.finish();
        let found: Vec<_> = snapshot(&subscriptions)
            .into_iter()
            .map(|record| {
                let StateRecord::Subscription(state) = record else { panic!("{record:?}") };
                let position = state.position;
                (position.id.0, position.last_sent.0, position.pending)
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(subscriptions.count(ORDERS), expected.len() as u64);
        // Once it is written, the log says it too.
        let dropped: Vec<_> = ids.iter().filter(|id| subscriptions.view(**id).is_none()).collect();
        let mut records = Records::default();
        subscriptions.log_positions(PositionScope::Durable, &mut records);
        let is_removed = |id| records.0.contains(&StateRecord::SubscriptionRemoved(id));
        assert!(dropped.into_iter().all(|id| is_removed(*id)), "{records:?}");
    };
    let two_durables =
        vec![state(1, durable(1), true, 5, vec![run(5, 1)]), state(3, durable(1), true, 2, vec![])];
    check(two_durables, vec![(3, 2, vec![])]);
    let at_two_members = vec![
        state(1, queue(1, true), true, 5, vec![run(2, 2)]),
        state(2, queue(2, true), true, 9, vec![run(3, 2)]),
    ];
    check(at_two_members, vec![(1, 9, vec![run(2, 2)]), (2, 9, vec![run(4, 1)])]);
    let shadow_and_member = vec![
        state(1, queue(1, true), false, 5, vec![run(1, 1), run(4, 1)]),
        state(2, queue(2, true), true, 3, vec![run(2, 2)]),
    ];
    check(shadow_and_member, vec![(2, 5, vec![run(1, 4)])]);
    let two_shadows = vec![
        state(1, queue(1, true), false, 3, vec![run(3, 1)]),
        state(2, queue(1, true), false, 2, vec![run(1, 2)]),
    ];
    check(two_shadows, vec![(1, 3, vec![run(1, 3)])]);
    check(vec![state(4, plain(1), true, 2, vec![run(2, 3)])], vec![(4, 2, vec![run(2, 1)])]);
}
