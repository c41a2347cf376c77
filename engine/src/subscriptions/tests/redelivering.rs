//! Redelivery: when, to whom, with what count, and what ends it.

use super::*;

#[test]
fn an_unacked_message_comes_again_after_each_wait() {
    let mut world = World::new();
    let id = world.subscribe(&plain(1));
    world.publish(2);
    world.run();
    world.ack(id, 1);
    assert_eq!(world.advance(WAIT_MS - 1), []);
    assert_eq!(seen(&world.advance(1)), [(2, 1)]);
    assert_eq!(world.advance(WAIT_MS - 1), []);
    assert_eq!(seen(&world.advance(1)), [(2, 2)]);
    world.ack(id, 2);
    assert_eq!(world.advance(5 * WAIT_MS), []);
    assert_eq!(world.subscriptions.next_deadline(), None);
}

#[test]
fn what_expires_within_the_tolerance_goes_along_and_keeps_its_pace() {
    let mut world = World::new();
    world.subscribe(&plain(1));
    world.publish(1);
    world.run();
    world.advance(10);
    world.publish(1);
    world.run();
    world.advance(30);
    world.publish(1);
    world.run();
    assert_eq!(seen(&world.advance(WAIT_MS - 40)), [(1, 1), (2, 1)]);
    assert_eq!(seen(&world.advance(40)), [(3, 1)]);
    // The second was sent early: its next time is one wait after it was due, not after it was sent.
    assert_eq!(seen(&world.advance(WAIT_MS - 40)), [(1, 2), (2, 2)]);
}

#[test]
fn redelivery_ignores_the_limit_and_new_ones_do_not() {
    let mut world = World::new();
    let id = world.subscribe(&with_max(plain(1), 2));
    world.publish(3);
    world.run();
    assert_eq!(seen(&world.advance(WAIT_MS)), [(1, 1), (2, 1)]);
    world.ack(id, 1);
    assert_eq!(seen(&world.run()), [(3, 0)]);
}

#[test]
fn redelivery_waits_for_room_and_skips_what_was_acked_meanwhile() {
    let mut world = World::new();
    let id = world.subscribe(&plain(1));
    world.publish(3);
    world.run();
    world.inbox.room.insert(id, 1);
    assert_eq!(seen(&world.advance(WAIT_MS)), [(1, 1)]);
    world.ack(id, 2);
    world.advance(3 * WAIT_MS);
    world.inbox.room.clear();
    world.subscriptions.resume(id);
    // Late ones count from now on, and the first has expired again.
    assert_eq!(seen(&world.run()), [(3, 1)]);
    assert_eq!(seen(&world.advance(1)), [(1, 2)]);
    assert_eq!(seen(&world.advance(WAIT_MS)), [(3, 2), (1, 3)]);
}

#[test]
fn a_client_that_does_not_answer_is_not_sent_again() {
    let mut world = World::new();
    let id = world.subscribe(&plain(1));
    world.publish(1);
    world.run();
    world.subscriptions.set_client_responsive(key(1), false);
    assert_eq!(world.advance(3 * WAIT_MS), []);
    world.subscriptions.set_client_responsive(key(1), true);
    assert_eq!(seen(&world.advance(WAIT_MS)), [(1, 1)]);
    // It stops answering while messages wait for room.
    world.inbox.room.insert(id, 0);
    world.advance(WAIT_MS);
    world.subscriptions.set_client_responsive(key(1), false);
    world.inbox.room.clear();
    world.subscriptions.resume(id);
    assert_eq!(world.run(), []);
    world.subscriptions.set_client_responsive(key(1), true);
    assert_eq!(seen(&world.advance(WAIT_MS)), [(1, 2)]);
}

#[test]
fn a_group_of_clients_that_do_not_answer_is_sent_again() {
    let mut world = World::new();
    world.subscribe(&queue(1, false));
    world.publish(1);
    world.run();
    world.subscriptions.set_client_responsive(key(1), false);
    assert_eq!(seen(&world.advance(WAIT_MS)), [(1, 1)]);
}

#[test]
fn a_group_sends_again_to_its_best_member_which_then_has_the_message() {
    let mut world = World::new();
    let one = world.subscribe(&queue(1, false));
    world.publish(2);
    world.run();
    let two = world.subscribe(&queue(2, false));
    let sent = world.advance(WAIT_MS);
    assert_eq!(of(&sent, two).len() + of(&sent, one).len(), 2);
    assert_eq!(of(&sent, two), [(1, 1)], "the least laden, then equal: the first in turn");
    assert_eq!((world.pending(one), world.pending(two)), (1, 1));
    // The ack may come from the one that had it before.
    assert!(world.ack(one, 1));
    assert_eq!((world.pending(one), world.pending(two)), (1, 0));
    assert!(!world.ack(two, 1));
}

#[test]
fn a_member_that_gives_a_message_away_gets_new_ones() {
    let mut world = World::new();
    let one = world.subscribe(&with_max(queue(1, false), 1));
    world.publish(2);
    world.run();
    let two = world.subscribe(&Subscribe { in_flight_max: 1, ..queue(2, false) });
    assert_eq!(of(&world.run(), two), [(2, 0)]);
    world.ack(two, 2);
    world.publish(1);
    assert_eq!(of(&world.run(), two), [(3, 0)]);
    world.publish(1);
    world.ack(two, 3);
    assert_eq!(of(&world.run(), two), [(4, 0)]);
    world.ack(two, 4);
    world.publish(0);
    let sent = world.advance(WAIT_MS);
    assert_eq!(of(&sent, two), [(1, 1)]);
    world.publish(1);
    assert_eq!(of(&world.run(), one), [(5, 0)]);
}

#[test]
fn a_leaving_member_deals_its_messages_to_the_others_soon() {
    let mut world = World::new();
    let one = world.subscribe(&queue(1, false));
    world.publish(4);
    world.run();
    let (two, three) = (world.subscribe(&queue(2, false)), world.subscribe(&queue(3, false)));
    world.end(one, SubscriptionEnd::Close);
    assert_eq!((world.pending(two), world.pending(three)), (2, 2));
    assert_eq!(world.advance(99), []);
    let mut sent = seen(&world.advance(1));
    sent.sort_unstable();
    assert_eq!(sent, [(1, 1), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(world.advance(WAIT_MS - 1), []);
    assert_eq!(world.advance(1).len(), 4);
}

#[test]
fn what_is_gone_counts_as_acked() {
    let mut world = World::new();
    let id = world.subscribe(&with_max(plain(1), 3));
    world.publish(4);
    world.run();
    world.log.channel(ORDERS).first = 2;
    world.log.channel(ORDERS).lost.insert(3);
    assert_eq!(seen(&world.advance(WAIT_MS)), [(2, 1), (4, 0)]);
    assert_eq!(world.pending(id), 2);
}

#[test]
fn redeliveries_being_read_do_not_hold_new_messages() {
    let mut world = World::new();
    world.subscribe(&plain(1));
    world.publish(2);
    world.run();
    world.log.channel(ORDERS).unread.insert(1);
    assert_eq!(world.advance(WAIT_MS), []);
    world.publish(1);
    assert_eq!(seen(&world.run()), [(3, 0)]);
    world.log.channel(ORDERS).unread.clear();
    world.subscriptions.channel_ready(ORDERS);
    assert_eq!(seen(&world.run()), [(1, 1), (2, 1)]);
}

#[test]
fn new_messages_wait_until_a_resumed_durable_has_its_old_ones() {
    let mut world = World::new();
    let id = world.subscribe(&durable(1));
    world.publish(3);
    world.run();
    world.end(id, SubscriptionEnd::Close);
    world.publish(1);
    world.subscribe(&durable(1));
    world.log.channel(ORDERS).unread.insert(2);
    assert_eq!(seen(&world.run()), [(1, 1)]);
    world.publish(1);
    assert_eq!(world.run(), []);
    world.log.channel(ORDERS).unread.clear();
    world.subscriptions.channel_ready(ORDERS);
    assert_eq!(seen(&world.run()), [(2, 1), (3, 1), (4, 0), (5, 0)]);
}

#[test]
fn counts_are_cleared_by_the_ack_and_go_with_the_message() {
    let mut world = World::new();
    let one = world.subscribe(&queue(1, true));
    world.publish(1);
    world.run();
    world.advance(WAIT_MS);
    world.end(one, SubscriptionEnd::Close);
    assert_eq!(world.subscribe(&queue(2, true)), one);
    assert_eq!(seen(&world.run()), [(1, 2)]);
    let two = world.subscribe(&queue(3, true));
    assert_eq!(of(&world.advance(WAIT_MS), two), [(1, 3)]);
}
