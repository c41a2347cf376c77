//! Plain, durable, queue group, durable queue group: what makes each itself, and how each ends.

use super::*;

#[test]
fn nothing_is_sent_before_the_subscriber_knows() {
    let mut world = World::new();
    world.publish(2);
    let id = world.try_subscribe(&plain(1), 0, 0).unwrap();
    world.publish(1);
    assert_eq!(world.run(), []);
    world.subscriptions.activate(id);
    assert_eq!(seen(&world.run()), first_time(1..=3));
    world.subscriptions.activate(id);
    assert_eq!(world.run(), []);
}

#[test]
fn starts_behind_what_counts_as_sent() {
    let mut world = World::new();
    world.publish(5);
    let id = world.try_subscribe(&plain(1), 3, 0).unwrap();
    world.subscriptions.activate(id);
    assert_eq!(seen(&world.run()), first_time(4..=5));
    let ahead = world.try_subscribe(&plain(2), 7, 0).unwrap();
    world.subscriptions.activate(ahead);
    world.publish(3);
    assert_eq!(of(&world.run(), ahead), [(8, 0)]);
}

#[test]
fn a_plain_subscription_dies_with_its_client() {
    for how in [SubscriptionEnd::Close, SubscriptionEnd::Remove] {
        let mut world = World::new();
        let id = world.subscribe(&plain(1));
        world.end(id, how);
        assert_eq!(world.records.0.last(), Some(&StateRecord::SubscriptionRemoved(id)));
        assert!(world.subscriptions.is_empty());
    }
    let mut world = World::new();
    let (one, two) = (world.subscribe(&plain(1)), world.subscribe(&plain(1)));
    let other = world.subscribe(&plain(2));
    assert_ne!(one, two);
    assert_eq!(world.end_client(1), 2);
    assert_eq!(world.end_client(1), 0);
    assert_eq!(world.subscriptions.clients(), [key(2)]);
    assert_eq!(world.subscriptions.of_channel(ORDERS).next().unwrap().id, other);
    assert_eq!(world.subscriptions.next_deadline(), None);
}

#[test]
fn a_durable_resumes_with_its_number_and_position_and_new_settings() {
    let mut world = World::new();
    world.publish(3);
    let id = world.subscribe(&durable(1));
    assert_eq!(seen(&world.run()), first_time(1..=3));
    world.ack(id, 2);
    let old_token = world.token(id);
    world.end(id, SubscriptionEnd::Close);
    assert!(!world.subscriptions.view(id).unwrap().is_active);
    assert_eq!(world.subscriptions.next_deadline(), None);
    world.publish(2);
    assert_eq!(world.advance(10 * WAIT_MS), []);

    let mut again = with_max(durable(1), 1);
    (again.client, again.target) = (key(9), Bytes::from_static(b"other"));
    assert!(world.subscriptions.would_resume(&again, ORDERS));
    // Where a new one would start does not count.
    assert_eq!(world.try_subscribe(&again, 5, 1), Ok(id));
    let view = world.subscriptions.view(id).unwrap();
    assert_eq!((view.client, view.in_flight_max, &view.target[..]), (key(9), 1, &b"other"[..]));
    assert!(!world.subscriptions.ack(id, old_token, Sequence(1), world.now.mono));
    assert_eq!(world.run(), []);
    world.subscriptions.activate(id);
    // More than in flight at once, in order, and the new ones not yet.
    assert_eq!(seen(&world.run()), [(1, 1), (3, 1)]);
    world.ack(id, 1);
    assert_eq!(world.run(), []);
    world.ack(id, 3);
    assert_eq!(seen(&world.run()), [(4, 0)]);
}

#[test]
fn a_durable_is_known_by_client_channel_and_name() {
    let mut world = World::new();
    world.subscribe(&durable(1));
    assert_eq!(world.try_subscribe(&durable(1), 0, 0), Err(RequestError::DuplicateDurable));
    assert!(world.try_subscribe(&durable(2), 0, 0).is_ok());
    // Joined by a character these two would be one.
    let named = |client_id: &str, name: &str| Subscribe {
        client_id: client_id.to_owned(),
        ..request(3, SubscriptionKind::Durable { name: name.to_owned() })
    };
    assert!(world.try_subscribe(&named("a", "foo-x"), 0, 0).is_ok());
    assert!(world.try_subscribe(&named("a-foo", "x"), 0, 0).is_ok());
    assert_eq!(world.subscriptions.len(), 4);
}

#[test]
fn an_active_durable_is_replaced_when_asked() {
    let mut world = World::new();
    world.publish(2);
    let id = world.subscribe(&durable(1));
    world.run();
    world.ack(id, 1);
    let again = Subscribe { client: key(5), replaces_durable: true, ..durable(1) };
    assert_eq!(world.try_subscribe(&again, 0, 0), Ok(id));
    assert_eq!(world.subscriptions.clients(), [key(5)]);
    assert_eq!(world.end_client(1), 0);
    world.subscriptions.activate(id);
    assert_eq!(seen(&world.run()), [(2, 1)]);
}

#[test]
fn a_removed_durable_starts_anew() {
    let mut world = World::new();
    world.publish(2);
    let id = world.subscribe(&durable(1));
    world.run();
    world.end(id, SubscriptionEnd::Remove);
    assert!(!world.subscriptions.would_resume(&durable(1), ORDERS));
    let other = world.subscribe(&durable(1));
    assert_ne!(other, id);
    assert_eq!(seen(&world.run()), first_time(1..=2));
}

#[test]
fn a_closed_durable_cannot_be_ended_again() {
    let mut world = World::new();
    let id = world.subscribe(&durable(1));
    let by_id = SubscriptionRef::Id(id, world.token(id));
    let by_target = SubscriptionRef::Target(Bytes::from_static(b"inbox-1"));
    let mut end = |channel, wanted: &SubscriptionRef, client| {
        let World { subscriptions, records, now, .. } = &mut world;
        let how = SubscriptionEnd::Close;
        subscriptions.end(channel, wanted, key(client), how, now.mono, records)
    };
    let elsewhere = ChannelId(8);
    assert_eq!(end(elsewhere, &by_id, 1), Err(RequestError::UnknownSubscription));
    assert_eq!(end(elsewhere, &by_target, 1), Err(RequestError::UnknownSubscription));
    assert_eq!(end(ORDERS, &by_id, 2), Err(RequestError::UnknownClient));
    let stale = SubscriptionRef::Id(id, 99);
    assert_eq!(end(ORDERS, &stale, 1), Err(RequestError::UnknownSubscription));
    assert_eq!(end(ORDERS, &by_target, 1), Ok(()));
    assert_eq!(end(ORDERS, &by_target, 1), Err(RequestError::UnknownSubscription));
    assert_eq!(end(ORDERS, &by_id, 1), Err(RequestError::UnknownSubscription));
}

#[test]
fn the_first_member_says_where_a_group_starts() {
    let mut world = World::new();
    world.publish(4);
    let one = world.try_subscribe(&queue(1, false), 2, 0).unwrap();
    assert!(world.subscriptions.would_resume(&queue(2, false), ORDERS));
    assert!(!world.subscriptions.would_resume(&queue(2, true), ORDERS));
    let two = world.try_subscribe(&queue(2, false), 0, 0).unwrap();
    assert_ne!(one, two);
    world.subscriptions.activate(one);
    world.subscriptions.activate(two);
    assert_eq!(seen(&world.run()), first_time(3..=4));
    assert_eq!(world.subscriptions.view(two).unwrap().last_sent, Sequence(4));
}

#[test]
fn a_group_ends_with_its_last_member() {
    for (is_durable, how) in [
        (false, SubscriptionEnd::Close),
        (false, SubscriptionEnd::Remove),
        (true, SubscriptionEnd::Remove),
    ] {
        let mut world = World::new();
        world.publish(2);
        let one = world.subscribe(&queue(1, is_durable));
        let two = world.subscribe(&queue(2, is_durable));
        world.run();
        world.end(one, SubscriptionEnd::Close);
        assert_eq!(world.subscriptions.count(ORDERS), 1);
        world.end(two, how);
        assert_eq!(world.subscriptions.count(ORDERS), 0);
        assert_eq!(world.records.0.last(), Some(&StateRecord::SubscriptionRemoved(two)));
        assert!(!world.subscriptions.would_resume(&queue(1, is_durable), ORDERS));
    }
}

#[test]
fn a_durable_group_keeps_a_shadow_that_the_next_member_adopts() {
    let mut world = World::new();
    world.publish(3);
    let one = world.subscribe(&queue(1, true));
    world.run();
    world.ack(one, 2);
    world.end_client(1);
    let shadow = world.subscriptions.view(one).unwrap();
    assert_eq!((shadow.client_id, shadow.is_active, shadow.pending_count), ("client-1", false, 2));
    assert_eq!(world.subscriptions.clients(), []);
    assert!(!world.subscriptions.has_active(ORDERS));
    world.publish(1);
    assert_eq!(world.advance(5 * WAIT_MS), []);
    // It counts against the maximum, but adopting it takes no further place.
    assert_eq!(world.try_subscribe(&plain(3), 0, 1), Err(RequestError::TooManySubscriptions));
    assert_eq!(world.try_subscribe(&queue(2, true), 0, 1), Ok(one));
    world.subscriptions.activate(one);
    assert_eq!(seen(&world.run()), [(1, 1), (3, 1), (4, 0)]);
}

#[test]
fn removing_one_of_several_members_leaves_the_group() {
    let mut world = World::new();
    world.publish(1);
    let one = world.subscribe(&queue(1, true));
    world.run();
    let two = world.subscribe(&queue(2, true));
    world.end(one, SubscriptionEnd::Remove);
    assert_eq!(world.pending(two), 1);
    assert_eq!(seen(&world.advance(200)), [(1, 1)]);
    world.ack(two, 1);
    world.publish(1);
    assert_eq!(seen(&world.run()), [(2, 0)]);
}

#[test]
fn the_maximum_counts_offline_ones() {
    let mut world = World::new();
    let id = world.try_subscribe(&durable(1), 0, 2).unwrap();
    world.end(id, SubscriptionEnd::Close);
    world.try_subscribe(&plain(1), 0, 2).unwrap();
    assert_eq!(world.try_subscribe(&plain(1), 0, 2), Err(RequestError::TooManySubscriptions));
    assert_eq!(world.try_subscribe(&durable(1), 0, 2), Ok(id));
    assert_eq!(world.subscriptions.count(ORDERS), 2);
}

#[test]
fn a_deleted_channel_takes_all_its_subscriptions() {
    let mut world = World::new();
    world.publish(3);
    let closed = world.subscribe(&durable(1));
    world.end(closed, SubscriptionEnd::Close);
    for subscribe in [plain(1), durable(2), queue(1, true), queue(2, true), queue(3, false)] {
        world.subscribe(&subscribe);
    }
    let next = world.subscriptions.next_id();
    world.subscriptions.end_channel(ORDERS);
    assert!(world.subscriptions.is_empty());
    assert_eq!(world.subscriptions.clients(), []);
    assert_eq!(world.advance(3 * WAIT_MS), []);
    assert_eq!(world.subscribe(&plain(1)), next);
}
