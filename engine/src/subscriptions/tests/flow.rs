//! Flow: limits of messages in flight, room in the sink, whose turn it is, messages that are gone
//! or being read.

use super::*;

#[test]
fn a_full_subscription_waits_for_an_ack() {
    let mut world = World::new();
    let id = world.subscribe(&with_max(plain(1), 2));
    world.publish(4);
    assert_eq!(seen(&world.run()), first_time(1..=2));
    assert!(world.subscriptions.view(id).unwrap().is_stalled);
    world.publish(1);
    assert!(!world.subscriptions.has_ready(), "commits do not look at a stalled group");
    assert!(!world.ack(id, 3), "not sent yet");
    assert!(world.ack(id, 2));
    assert!(!world.ack(id, 2), "acked already");
    assert_eq!(seen(&world.run()), [(3, 0)]);
    world.ack(id, 1);
    world.ack(id, 3);
    assert_eq!(seen(&world.run()), first_time(4..=5));
}

#[test]
fn a_subscription_without_room_waits_for_resume() {
    let mut world = World::new();
    let id = world.subscribe(&plain(1));
    world.inbox.room.insert(id, 1);
    world.publish(3);
    assert_eq!(seen(&world.run()), [(1, 0)]);
    world.inbox.room.clear();
    world.publish(1);
    assert_eq!(world.run(), [], "it is not asked again before resume");
    world.subscriptions.resume(id);
    assert_eq!(seen(&world.run()), first_time(2..=4));
    world.subscriptions.resume(SubscriptionId(99));
}

#[test]
fn each_message_goes_to_the_least_laden_member_the_first_of_equals() {
    let mut world = World::new();
    let ids: Vec<_> = (1..=3).map(|client| world.subscribe(&queue(client, false))).collect();
    world.publish(6);
    let to: Vec<_> = world.run().iter().map(|sent| sent.to).collect();
    // The first in turn goes behind the others when it gets one: 1 2 3, 2 3 1, 3 1 2 and so on.
    assert_eq!(to, [ids[0], ids[1], ids[2], ids[0], ids[1], ids[2]]);
    world.ack(ids[1], 2);
    world.ack(ids[1], 5);
    world.publish(2);
    assert!(world.run().iter().all(|sent| sent.to == ids[1]));
}

#[test]
fn clients_that_do_not_answer_come_last() {
    let mut world = World::new();
    let one = world.subscribe(&queue(1, false));
    let two = world.subscribe(&with_max(queue(2, false), 2));
    world.subscriptions.set_client_responsive(key(1), false);
    world.publish(3);
    let to: Vec<_> = world.run().iter().map(|sent| sent.to).collect();
    assert_eq!(to, [two, two, one]);
    world.subscriptions.set_client_responsive(key(1), true);
    world.publish(1);
    assert_eq!(of(&world.run(), one), [(4, 0)]);
    // What a client's later subscriptions get depends on it too.
    world.subscriptions.set_client_responsive(key(3), false);
    let three = world.subscribe(&queue(3, false));
    world.publish(1);
    assert_eq!(of(&world.run(), three), []);
}

#[test]
fn a_group_is_stalled_only_when_all_its_members_are() {
    let mut world = World::new();
    let one = world.subscribe(&with_max(queue(1, false), 1));
    let two = world.subscribe(&with_max(queue(2, false), 2));
    world.publish(5);
    let sent = world.run();
    assert_eq!(of(&sent, one), [(1, 0)]);
    assert_eq!(of(&sent, two), [(2, 0), (3, 0)]);
    world.ack(one, 1);
    assert_eq!(of(&world.run(), one), [(4, 0)]);
    let three = world.subscribe(&with_max(queue(3, false), 1));
    assert_eq!(of(&world.run(), three), [(5, 0)]);
}

#[test]
fn a_member_without_room_does_not_hold_the_others() {
    let mut world = World::new();
    let one = world.subscribe(&queue(1, false));
    let two = world.subscribe(&queue(2, false));
    world.inbox.room.insert(one, 0);
    world.publish(3);
    assert_eq!(of(&world.run(), two), first_time(1..=3));
    world.inbox.room.insert(two, 0);
    world.publish(1);
    assert_eq!(world.run(), []);
    world.inbox.room.remove(&one);
    world.subscriptions.resume(one);
    assert_eq!(of(&world.run(), one), [(4, 0)]);
}

#[test]
fn ready_subscriptions_take_turns() {
    let mut world = World::new();
    world.publish(20);
    let (one, two) = (world.subscribe(&plain(1)), world.subscribe(&plain(2)));
    let World { subscriptions, log, inbox, now, .. } = &mut world;
    assert_eq!(subscriptions.dispatch(*now, log, inbox, 0), Dispatched::More);
    // A turn is 4 messages under test.
    assert_eq!(subscriptions.dispatch(*now, log, inbox, 10), Dispatched::More);
    let sent = std::mem::take(&mut inbox.sent);
    assert_eq!(of(&sent, one), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)]);
    assert_eq!(of(&sent, two), first_time(1..=4));
    assert_eq!(subscriptions.dispatch(*now, log, inbox, 100), Dispatched::Idle);
    let sent = std::mem::take(&mut inbox.sent);
    assert_eq!((of(&sent, one).len(), of(&sent, two).len()), (14, 16));
    assert_eq!(sent[0].to, two, "the one that was interrupted goes behind");
}

#[test]
fn what_is_trimmed_or_lost_is_jumped_over() {
    let mut world = World::new();
    world.publish(10);
    world.log.channel(ORDERS).first = 4;
    world.log.channel(ORDERS).lost.extend([6, 7, 10]);
    let id = world.subscribe(&plain(1));
    assert_eq!(seen(&world.run()), [(4, 0), (5, 0), (8, 0), (9, 0)]);
    assert_eq!(world.subscriptions.view(id).unwrap().last_sent, Sequence(10));
    world.publish(3);
    world.log.channel(ORDERS).first = 14;
    assert_eq!(world.run(), []);
    assert_eq!(world.subscriptions.view(id).unwrap().last_sent, Sequence(13));
    world.publish(1);
    assert_eq!(seen(&world.run()), [(14, 0)]);
}

#[test]
fn what_is_being_read_comes_when_it_is_there() {
    let mut world = World::new();
    world.publish(5);
    world.log.channel(ORDERS).unread.insert(3);
    world.subscribe(&plain(1));
    assert_eq!(seen(&world.run()), first_time(1..=2));
    world.publish(1);
    assert!(!world.subscriptions.has_ready(), "commits do not ask for it again");
    world.log.channel(ORDERS).unread.clear();
    world.subscriptions.channel_ready(ORDERS);
    assert_eq!(seen(&world.run()), first_time(3..=6));
    world.subscriptions.channel_ready(ORDERS);
    assert!(!world.subscriptions.has_ready());
}

#[test]
fn a_subscription_ahead_of_its_channel_gets_nothing_until_it_catches_up() {
    let mut world = World::new();
    world.publish(2);
    let id = world.try_subscribe(&durable(1), 4, 0).unwrap();
    world.subscriptions.activate(id);
    world.publish(2);
    assert_eq!(world.run(), []);
    world.publish(1);
    assert_eq!(seen(&world.run()), [(5, 0)]);
}
