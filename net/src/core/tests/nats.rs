//! Core NATS.

use super::*;

/// A town of one core with one peer.
fn alone() -> (Town, Peer) {
    let mut town = Town::new(1, |_| {});
    let peer = town.enter(0);
    (town, peer)
}

#[test]
fn a_message_reaches_plain_and_wildcard_subscribers() {
    let (mut town, peer) = alone();
    town.say(peer, "SUB a.b 1\r\nSUB a.* 2\r\nSUB > 3\r\nSUB b 4\r\n");
    let heard = town.say(peer, "PUB a.b r.x 2\r\nhi\r\n");
    assert_eq!(
        heard,
        "MSG a.b 1 r.x 2\r\nhi\r\nMSG a.b 3 r.x 2\r\nhi\r\nMSG a.b 2 r.x 2\r\nhi\r\n"
    );
}

/// A client with a million subscriptions that went held its core for 1.8 s.
#[test]
fn many_subscriptions_of_one_that_goes_leave_some_at_a_time() {
    let mut town = Town::new(2, |_| {});
    let (peer, member, publisher) = (town.enter(0), town.enter(0), town.enter(1));
    let subscriptions: String =
        (0..5_000).map(|at| format!("SUB work.{at} group {at}\r\n")).collect();
    town.say(peer, subscriptions);
    town.say(member, "SUB work.* group 1\r\n");
    let removed = town.cores[0].hub.tally.removed;
    let now = town.now();
    town.cores[0].connection_closed(peer.id, now);
    let removed_at_once = town.cores[0].hub.tally.removed - removed;
    assert!((1..=1_024).contains(&removed_at_once), "{removed_at_once}");
    // Whose turn has not come takes nothing from those who are there.
    for _ in 0..40 {
        town.tell(publisher, "PUB work.4999 1\r\nx\r\n");
        town.carry(1);
    }
    town.settle();
    assert_eq!(town.heard(member).matches("MSG").count(), 40);
    assert_eq!(town.cores[0].hub.tally.removed - removed, 5_000);
}

#[test]
fn without_connect_everything_is_answered() {
    let mut town = Town::new(1, |_| {});
    let peer = town.join(0);
    assert_eq!(town.say(peer, "SUB a 1\r\nPUB a 1\r\nx\r\n"), "+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n");
    let heard = town.say(peer, "PUB a.* 0\r\n\r\n");
    assert_eq!(heard, "-ERR 'Invalid Publish Subject'\r\n+OK\r\n", "pedantic, but it goes on");
    assert_eq!(town.say(peer, "PING\r\n"), "PONG\r\n", "no INFO for protocol 0");
}

#[test]
fn an_unsubscribe_with_a_maximum_counts_from_the_start() {
    let (mut town, peer) = alone();
    town.say(peer, "SUB a 1\r\nPUB a 1\r\n1\r\nUNSUB 1 2\r\n");
    let heard = town.say(peer, "PUB a 1\r\n2\r\nPUB a 1\r\n3\r\n");
    assert_eq!(heard, "MSG a 1 1\r\n2\r\n");
    town.say(peer, "SUB a 2\r\nSUB other 2\r\nUNSUB 7\r\n");
    assert_eq!(town.say(peer, "PUB other 0\r\n\r\n"), "", "a sid in use stays what it was");
    assert_eq!(town.say(peer, "PUB a 0\r\n\r\nUNSUB 2\r\nPUB a 0\r\n\r\n"), "MSG a 2 0\r\n\r\n");
}

#[test]
fn a_member_of_a_queue_group_is_chosen_among_all_cores() {
    let mut town = Town::new(2, |_| {});
    let members = [0, 0, 1].map(|core| town.enter(core));
    for member in members {
        town.say(member, "SUB work.* group 1\r\nSUB other quiet 2\r\n");
    }
    let publisher = town.enter(1);
    let watcher = town.enter(0);
    town.say(watcher, "SUB work.a 9\r\n");
    for _ in 0..300 {
        town.tell(publisher, "PUB work.a 0\r\n\r\n");
    }
    town.settle();
    let counts = members.map(|member| town.heard(member).matches("MSG").count());
    assert_eq!(counts.iter().sum::<usize>(), 300);
    assert!(counts.iter().all(|count| (60..=140).contains(count)), "{counts:?}");
    assert_eq!(town.heard(watcher).matches("MSG").count(), 300);
    // Who leaves is not chosen any more.
    town.leave(members[0]);
    town.leave(members[2]);
    assert_eq!(town.say(publisher, "PUB work.a 0\r\n\r\nPUB other 0\r\n\r\n"), "");
    assert_eq!(town.heard(members[1]), "MSG work.a 1 0\r\n\r\nMSG other 2 0\r\n\r\n");
}

/// A member left while messages for it were on their way from another core: they were dropped, though the group had
/// other members. Now they go on to one of those.
#[test]
fn who_leaves_a_queue_group_takes_no_messages_along() {
    let mut town = Town::new(2, |_| {});
    let [leaving, staying] = [0, 1].map(|core| town.enter(core));
    for member in [leaving, staying] {
        town.say(member, "SUB work group 1\r\n");
    }
    let publisher = town.enter(1);
    town.offer(publisher, "PUB work 0\r\n\r\n".repeat(100).as_bytes());
    let near = town.heard(staying).matches("MSG").count();
    assert!((20..=80).contains(&near), "{near} of 100, the others are on their way");
    town.offer(leaving, b"UNSUB 1\r\n");
    town.settle();
    assert_eq!(town.heard(leaving), "");
    assert_eq!(town.heard(staying).matches("MSG").count(), 100 - near);
}

#[test]
fn a_request_that_nobody_receives_is_answered_with_503() {
    let mut town = Town::new(2, |_| {});
    let peer = town.enter(0);
    town.say(peer, "SUB inbox.* 5\r\n");
    let heard = town.say(peer, "PUB nobody inbox.1 2\r\nhi\r\n");
    assert_eq!(heard, "HMSG inbox.1 5 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n");
    let service = town.enter(1);
    town.say(service, "SUB nobody 1\r\n");
    assert_eq!(town.say(peer, "PUB nobody inbox.1 2\r\nhi\r\n"), "");
    assert_eq!(town.heard(service), "MSG nobody 1 inbox.1 2\r\nhi\r\n");
    assert_eq!(town.say(service, "PUB inbox.1 2\r\nok\r\n"), "");
    assert_eq!(town.heard(peer), "MSG inbox.1 5 2\r\nok\r\n");
}

#[test]
fn headers_travel_to_those_who_understand_them() {
    let mut town = Town::new(2, |_| {});
    let publisher = town.enter(0);
    let plain = town.join(1);
    town.say(plain, "CONNECT {\"verbose\":false}\r\nSUB a 1\r\n");
    let modern = town.enter(1);
    town.say(modern, "SUB a 2\r\n");
    town.say(publisher, "HPUB a 16 18\r\nNATS/1.0\r\nA:\r\n\r\nhi\r\n");
    assert_eq!(town.heard(plain), "MSG a 1 2\r\nhi\r\n");
    assert_eq!(town.heard(modern), "HMSG a 2 16 18\r\nNATS/1.0\r\nA:\r\n\r\nhi\r\n");
    town.say(plain, "HPUB a 0 0\r\n\r\n");
    assert!(town.is_closing(plain), "it did not say that it understands headers");
}

#[test]
fn echo_off_keeps_own_messages_away() {
    let mut town = Town::new(1, |_| {});
    let peer = town.join(0);
    town.say(peer, "CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB a 1\r\nSUB a q 2\r\n");
    assert_eq!(town.say(peer, "PUB a 0\r\n\r\n"), "");
    let other = town.enter(0);
    town.say(other, "PUB a 0\r\n\r\n");
    assert_eq!(town.heard(peer), "MSG a 1 0\r\n\r\nMSG a 2 0\r\n\r\n");
}

#[test]
fn faults_have_their_texts_and_close_as_they_should() {
    let cases: [(&str, &str, bool); 8] = [
        ("SUB a..b 1\r\n", "-ERR 'Invalid Subject'\r\n", false),
        ("NONSENSE\r\n", "-ERR 'Unknown Protocol Operation'\r\n", true),
        ("PUB a 1048577\r\n", "-ERR 'Maximum Payload Violation'\r\n", true),
        ("PUB a b c d\r\n", "", true),
        ("CONNECT {\r\n", "", true),
        ("CONNECT {\"protocol\":9}\r\n", "-ERR 'invalid client protocol'\r\n", true),
        ("-ERR 'I give up'\r\n", "", true),
        ("CONNECT {\"account\":\"A\"}\r\n", "-ERR 'Authorization Violation'\r\n", true),
    ];
    for (input, answer, closes) in cases {
        let (mut town, peer) = alone();
        assert_eq!(town.say(peer, input), answer, "{input:?}");
        assert_eq!(town.is_closing(peer), closes, "{input:?}");
    }
}

#[test]
fn limits_of_connections_and_subscriptions_are_kept() {
    let mut town = Town::new(1, |net| {
        net.subscriptions_max = 1;
    });
    let peer = town.enter(0);
    let heard = town.say(peer, "SUB a 1\r\nSUB b 2\r\nPUB b 0\r\n\r\n");
    assert_eq!(heard, "-ERR 'maximum subscriptions exceeded'\r\n");
    assert!(!town.is_closing(peer));
}

/// Each core allowed its share, rounded up: with one connection allowed two cores let two in, and with ten a core
/// refused its sixth while the other was empty.
#[test]
fn the_limit_of_connections_is_one_for_all_cores() {
    let mut town = Town::new(2, |net| net.connections_max = 2);
    let first = town.enter(0);
    town.enter(0);
    for core in [0, 1] {
        let now = town.now();
        let id = town.cores[core].connection_opened(Address::default(), now);
        let refused = Peer { core, id };
        assert!(town.is_closing(refused));
        assert!(town.heard(refused).ends_with("-ERR 'maximum connections exceeded'\r\n"));
        town.leave(refused);
    }
    town.leave(first);
    let third = town.enter(1);
    assert!(!town.is_closing(third));
}

#[test]
fn a_second_connect_begins_anew() {
    let (mut town, peer) = alone();
    town.say(peer, "SUB a 1\r\n");
    assert_eq!(town.say(peer, "CONNECT {\"verbose\":true}\r\nPUB a 0\r\n\r\n"), "+OK\r\n+OK\r\n");
}

/// Many leave some at a time, and are not taken for those that come meanwhile.
#[test]
fn many_subscriptions_before_a_second_connect_leave_slowly() {
    let (mut town, peer) = alone();
    let many: String = (0..3_000).map(|sid| format!("SUB a.{sid} {sid}\r\n")).collect();
    town.say(peer, many);
    town.tell(peer, "CONNECT {}\r\nSUB a.2999 1\r\n");
    let left = |town: &Town| town.cores[0].hub.interest.len();
    assert!((1_000..3_000).contains(&left(&town)), "{}", left(&town));
    let publish = "PUB a.2999 0\r\n\r\n";
    assert_eq!(town.say(peer, publish), "MSG a.2999 1 0\r\n\r\n");
    town.advance(100);
    assert_eq!(left(&town), 1);
    assert_eq!(town.say(peer, publish), "MSG a.2999 1 0\r\n\r\n");
}

#[test]
fn a_silent_connection_is_pinged_and_then_closed() {
    let mut town = Town::new(1, |net| {
        net.ping_interval_ms = 100;
        net.ping_out_max = 2;
    });
    let peer = town.enter(0);
    town.advance(120);
    assert_eq!(town.heard(peer), "PING\r\n");
    town.say(peer, "PONG\r\n");
    town.advance(400);
    assert_eq!(town.heard(peer), "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    assert!(town.is_closing(peer));
}

#[test]
fn the_first_ping_is_for_all_and_its_answer_tells_the_round_trip() {
    let mut town = Town::new(1, |net| net.first_ping_ms = 100);
    let peer = town.enter(0);
    town.advance(40);
    town.say(peer, "PONG\r\nSUB a 1\r\n");
    assert_eq!(town.cores[0].hub.sessions.get(peer.id).unwrap().round_trip_ns, None);
    town.advance(40);
    assert_eq!(town.heard(peer), "PING\r\n", "though it was not silent");
    town.tell(peer, "PONG\r\n");
    let round_trip_ns = town.cores[0].hub.sessions.get(peer.id).unwrap().round_trip_ns.unwrap();
    assert!((1_000_000..50_000_000).contains(&round_trip_ns), "{round_trip_ns}");
    town.advance(1_000);
    assert_eq!(town.heard(peer), "", "the next one comes after a silence");
}

#[test]
fn a_publisher_waits_while_a_subscriber_hardly_keeps_up() {
    let mut town = Town::new(1, |net| net.pending_bytes_max = 10_000);
    let slow = town.enter(0);
    town.say(slow, "SUB a 1\r\n");
    let fast = town.enter(0);
    let message = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000));
    for _ in 0..7 {
        let Intake { next, .. } = town.offer(fast, message.as_bytes());
        assert!(matches!(next, Next::Read { .. }));
    }
    let Intake { consumed, next } = town.offer(fast, message.as_bytes());
    assert_eq!((consumed, next), (message.len(), Next::Wait), "8,000 of 10,000 bytes wait");
    assert_eq!(town.offer(fast, message.as_bytes()).consumed, 0);
    town.cores[0].take_wakes();
    town.advance(4);
    assert_eq!(town.cores[0].take_wakes(), []);
    town.advance(2);
    assert_eq!(town.cores[0].take_wakes(), [fast.id]);
    town.heard(slow);
    let Intake { next, .. } = town.offer(fast, message.as_bytes());
    assert!(matches!(next, Next::Read { .. }), "there is room again");
}

#[test]
fn a_slow_subscriber_on_another_core_holds_nobody_back() {
    let mut town = Town::new(2, |net| net.pending_bytes_max = 10_000);
    let slow = town.enter(0);
    let (near, far) = (town.enter(1), town.enter(0));
    for subscriber in [slow, near, far] {
        town.say(subscriber, "SUB a 1\r\n");
    }
    let publisher = town.enter(1);
    let message = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000));
    // More than the slow one may have waiting: all the others get each message as it comes.
    for _ in 0..20 {
        let Intake { consumed, next } = town.offer(publisher, message.as_bytes());
        assert_eq!(consumed, message.len());
        assert!(matches!(next, Next::Read { .. }), "{next:?}");
        town.settle();
        for subscriber in [near, far] {
            assert_eq!(town.heard(subscriber).matches("MSG").count(), 1);
        }
    }
    assert!(town.is_closing(slow), "it is cut");
    assert_eq!(town.cores[1].take_wakes(), []);
}

/// What one core sent to another was bounded by nothing: a fast publisher could fill the memory before the other core
/// had its turn.
#[test]
fn a_publisher_waits_for_other_cores_after_a_window() {
    let mut town = Town::new(2, |_| {});
    let subscriber = town.enter(1);
    town.say(subscriber, "SUB a 1\r\n");
    let publisher = town.enter(0);
    let message = format!("PUB a 100000\r\n{}\r\n", "x".repeat(100_000));
    let many = message.repeat(30);
    let Intake { consumed, next } = town.offer(publisher, many.as_bytes());
    assert_eq!((consumed, next), (11 * message.len(), Next::Wait), "a window is 1 MiB");
    town.settle();
    assert_eq!(town.cores[0].take_wakes(), [publisher.id]);
    town.tell(publisher, &many[consumed..]);
    town.settle();
    assert_eq!(town.heard(subscriber).matches("MSG").count(), 30);
    // Who sends to its own core only waits for nobody.
    let Intake { next, .. } =
        town.offer(publisher, message.replace("PUB a", "PUB b").repeat(30).as_bytes());
    assert!(matches!(next, Next::Read { .. }));
}

#[test]
fn who_does_not_read_is_cut_without_a_word() {
    let mut town = Town::new(2, |net| net.pending_bytes_max = 10_000);
    let slow = town.enter(0);
    town.say(slow, "SUB a 1\r\n");
    let fast = town.enter(1);
    let message = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000));
    for _ in 0..11 {
        town.tell(fast, &message);
    }
    town.settle();
    assert!(town.is_closing(slow));
    assert!(town.cores[0].outbox(slow.id).is_none(), "nothing more is written");
    let notices = town.cores[0].take_notices();
    assert!(
        matches!(notices.as_slice(), [crate::core::Notice::SlowConsumer { .. }]),
        "{notices:?}"
    );
}

#[test]
fn a_write_that_makes_no_progress_closes_the_connection() {
    let mut town = Town::new(1, |net| net.write_deadline_ms = 50);
    let peer = town.enter(0);
    town.tell(peer, "SUB a 1\r\nPUB a 0\r\n\r\n");
    let now = town.now();
    town.cores[0].write_blocked(peer.id, now);
    town.advance(60);
    assert!(town.cores[0].outbox(peer.id).is_none());
    let other = town.enter(0);
    let now = town.now();
    town.tell(other, "SUB a 1\r\nPUB a 0\r\n\r\n");
    town.cores[0].write_blocked(other.id, now);
    town.cores[0].written(other.id, 1, now);
    town.advance(60);
    assert!(town.cores[0].outbox(other.id).is_some(), "one byte is progress");
}

#[test]
fn a_pong_says_that_all_cores_know_of_a_subscription() {
    let mut town = Town::new(2, |_| {});
    let subscriber = town.enter(0);
    let publisher = town.enter(1);
    let Intake { next, .. } = town.offer(subscriber, b"SUB a 1\r\nPING\r\n");
    assert_eq!(next, Next::Wait, "the other core does not know yet");
    assert_eq!(town.heard(subscriber), "");
    town.carry(0);
    town.tell(publisher, "PUB a 0\r\n\r\n");
    town.settle();
    let heard = town.heard(subscriber);
    assert!(heard.contains("PONG\r\n"));
    assert!(heard.contains("MSG a 1 0\r\n\r\n"), "{heard}");
}

/// 100 subscribers of a message of a megabyte held 100 megabytes: now they hold one, and each is still judged by what
/// waits for it.
#[test]
fn a_large_message_is_kept_once_for_all_its_subscribers() {
    let mut town = Town::new(2, |net| net.pending_bytes_max = 3 << 20);
    let subscribers: Vec<Peer> = (0..100).map(|at| town.enter(at % 2)).collect();
    for (at, peer) in subscribers.iter().enumerate() {
        let queue = if at < 4 { " workers" } else { "" };
        town.tell(*peer, format!("SUB a{queue} 1\r\nUNSUB 1 50\r\n"));
    }
    let publisher = town.enter(0);
    let payload = "x".repeat((1 << 20) - 12);
    let hpub = format!("HPUB a 12 {}\r\nNATS/1.0\r\n\r\n{payload}\r\n", 1 << 20);
    for _ in 0..2 {
        town.tell(publisher, &hpub);
        town.settle();
    }
    let mut places = std::collections::BTreeSet::new();
    for peer in &subscribers[4..] {
        let outbox = town.cores[peer.core].outbox(peer.id).unwrap();
        let (own_bytes, shared_bytes) = outbox.memory_bytes();
        assert!(own_bytes <= 2048, "{own_bytes} for what stands around two payloads");
        assert_eq!(shared_bytes, 2 << 20);
        assert!(outbox.len() > shared_bytes, "what is shared counts for each");
        places.insert(outbox.shared_place());
    }
    assert_eq!(places.len(), 2, "one copy a core");
    let heard = town.heard(subscribers[99]);
    let expected = format!("HMSG a 1 12 {}\r\nNATS/1.0\r\n\r\n{payload}\r\n", 1 << 20).repeat(2);
    assert!(heard == expected, "as it was sent");
    town.tell(publisher, &hpub);
    town.settle();
    assert!(town.is_closing(subscribers[50]), "three such messages are more than may wait");
    assert!(!town.is_closing(subscribers[99]), "it has read the first two");
}

#[test]
fn a_shared_payload_loses_its_headers_for_who_does_not_know_them() {
    let mut town = Town::new(1, |_| {});
    let publisher = town.enter(0);
    let plain = town.join(0);
    town.say(plain, "CONNECT {\"verbose\":false}\r\nSUB a 1\r\n");
    let modern = town.enter(0);
    town.say(modern, "SUB a 2\r\n");
    let payload = "x".repeat(100_000);
    town.say(publisher, format!("HPUB a r 12 100012\r\nNATS/1.0\r\n\r\n{payload}\r\n"));
    assert!(town.heard(plain) == format!("MSG a 1 r 100000\r\n{payload}\r\n"));
    let expected = format!("HMSG a 2 r 12 100012\r\nNATS/1.0\r\n\r\n{payload}\r\n");
    assert!(town.heard(modern) == expected);
}

#[test]
fn a_server_without_headers_says_so_and_takes_none() {
    let mut town = Town::new(1, |config| config.has_headers = false);
    let now = town.now();
    let id = town.cores[0].connection_opened(Address::default(), now);
    let peer = Peer { core: 0, id };
    assert!(town.heard(peer).contains("\"headers\":false"));
    let connect = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";
    assert_eq!(town.say(peer, connect), "-ERR 'no responders requires headers support'\r\n");
    let peer = town.join(0);
    let connect =
        "CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n";
    assert_eq!(town.say(peer, connect), "");
    assert!(town.is_closing(peer));
}
