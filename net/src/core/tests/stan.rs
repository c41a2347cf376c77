//! NATS Streaming.

use weirlog_engine::placement::shard_of_channel;

use super::stan_client::{Got, from_first, line, pub_msg, sequences};
use super::*;
use crate::config::CONNECTION_UNACKED_BYTES_MAX;
use crate::stan::errors;
use crate::stan::wire::{
    Ack, CloseRequest, ConnectRequest, ConnectResponse, MsgProto, Ping, PubAck, PubMsg,
    SubscriptionRequest, SubscriptionResponse, UnsubscribeRequest,
};

/// A channel whose shard runs on `core` of two.
fn channel_on(core: u16) -> String {
    let is_there = |name: &String| shard_of_channel(name, SHARD_COUNT).0 % 2 == core;
    (0..).map(|number| format!("channel.{number}")).find(is_there).unwrap()
}

#[test]
fn messages_are_stored_delivered_and_acked_on_either_core() {
    for core in [0, 1] {
        let mut town = Town::new(2, |_| {});
        let peer = town.client(0, "me");
        let channel = channel_on(core);
        for data in ["a", "b", "c"] {
            assert_eq!(town.store(peer, "me", &channel, data), "");
        }
        let (inbox, got) = town.subscribe(peer, &from_first("me", &channel, "in.1"));
        assert_eq!(sequences(&got), [1, 2], "two in flight at most");
        town.acknowledge(peer, &inbox, &channel, 1);
        assert_eq!(sequences(&town.got(peer)), [3]);
        let message = MsgProto::decode(&got[1].payload).unwrap();
        assert_eq!((message.data, message.subject), (b"b".as_slice(), channel.as_str()));
        assert!(!message.is_redelivered);
    }
}

#[test]
fn a_publishers_reply_subject_reaches_subscribers() {
    for core in [0, 1] {
        let mut town = Town::new(2, |_| {});
        let peer = town.client(0, "me");
        let channel = channel_on(core);
        let too_long = "r".repeat(5_000);
        let stored: Vec<bool> = ["answer.here", "", &too_long]
            .into_iter()
            .map(|reply| {
                let message = PubMsg {
                    client_id: "me",
                    guid: "g",
                    subject: &channel,
                    reply,
                    data: b"data",
                    ..Default::default()
                };
                let mut payload = Vec::new();
                message.encode(&mut payload);
                let subject = format!("_STAN.pub.test-cluster.{channel}");
                let ack = town.request(peer, &subject, &payload);
                PubAck::decode(&ack).unwrap().error.is_empty()
            })
            .collect();
        assert_eq!(stored, [true, true, false]);
        let (_, got) = town.subscribe(peer, &from_first("me", &channel, "in.1"));
        let replies: Vec<_> = got
            .iter()
            .map(|got| MsgProto::decode(&got.payload).unwrap())
            .map(|message| (message.reply, message.data))
            .collect();
        assert_eq!(replies, [("answer.here", &b"data"[..]), ("", &b"data"[..])]);
    }
}

/// Publishes are read ahead of their turn: in one piece they do what they do one by one, also where the connection is
/// stopped between them or something else comes between.
#[test]
fn publishes_in_one_piece_do_what_they_do_one_by_one() {
    let channels = [channel_on(0), channel_on(1), "made.by.this".to_owned(), "no.*".to_owned()];
    let mut operations = Vec::new();
    for number in 0..60_usize {
        let channel = &channels[number % channels.len()];
        let size = if number < 23 { 10 } else { CONNECTION_UNACKED_BYTES_MAX / 35 };
        let payload = pub_msg("me", channel, &format!("{number}.{}", "x".repeat(size)));
        operations.push(line(&format!("_STAN.pub.test-cluster.{channel}"), "acks.me", &payload));
        match number {
            20 => operations.push(
                b"CONNECT {\"headers\":true}\r\nSUB answer 1\r\nSUB acks.me 2\r\nSUB in.> 4\r\n"
                    .to_vec(),
            ),
            21 => operations.push(b"HPUB nobody 12 13\r\nNATS/1.0\r\n\r\nx\r\n".to_vec()),
            22 => operations.push(b"PING\r\nSUB other 5\r\n".to_vec()),
            40 => operations.push(b"PUB in.y 1\r\ny\r\n".to_vec()),
            _ => {}
        }
    }
    let run = |pieces: &[Vec<u8>]| {
        let mut town = Town::new(2, |_| {});
        let peer = town.client(0, "me");
        let mut got = Vec::new();
        for piece in pieces {
            town.tell(peer, piece);
            got.extend(town.got(peer));
        }
        let stored: Vec<_> = (0..channels.len() - 1)
            .map(|at| {
                let inbox = format!("in.{at}");
                let all = SubscriptionRequest {
                    max_in_flight: 5,
                    ..from_first("me", &channels[at], &inbox)
                };
                let (_, got) = town.subscribe(peer, &all);
                let data = |got: &Got| MsgProto::decode(&got.payload).unwrap().data.to_vec();
                (town.bounds(&channels[at]), got.iter().map(data).collect::<Vec<_>>())
            })
            .collect();
        got.sort_by(|a, b| (&a.subject, &a.payload).cmp(&(&b.subject, &b.payload)));
        (got, stored)
    };
    let (got, stored) = run(&operations);
    assert!(stored.iter().all(|(bounds, first)| *bounds == (1, 15, 15) && first.len() == 5));
    assert_eq!(got.len(), 60 + 1);
    assert_eq!(run(&[operations.concat()]), (got, stored));
}

/// Every client's ack subject counted as one that might hear the server, so that each publish was looked up for
/// subscribers: with 1,000 channels that was an eighth of its cost.
#[test]
fn who_listens_to_the_servers_subjects_hears_them_and_nobody_else_is_looked_for() {
    let mut town = Town::new(2, |_| {});
    let peer = town.client(0, "me");
    town.say(peer, "SUB _STAN.acks.me 9\r\nSUB _STAN.pub.other.> 10\r\nSUB _INBOX.a.b 11\r\n");
    let before = town.cores[0].hub.tally.lookups;
    assert_eq!(town.store(peer, "me", "foo", "x"), "");
    assert_eq!(town.cores[0].hub.tally.lookups, before + 1, "the way of its acks, and no more");
    assert_eq!(town.store(peer, "me", "foo", "y"), "");
    assert_eq!(town.cores[0].hub.tally.lookups, before + 1);
    for pattern in [">", "_STAN.>", "*.pub.*.foo", "_STAN.pub.test-cluster.foo", "_STAN.pub.*.>"] {
        let listener = town.enter(1);
        town.say(listener, format!("SUB {pattern} 1\r\n"));
        assert_eq!(town.store(peer, "me", "foo", "z"), "");
        let heard = town.got(listener);
        assert!(heard.iter().any(|got| got.subject == "_STAN.pub.test-cluster.foo"), "{pattern}");
        town.leave(listener);
    }
    let before = town.cores[0].hub.tally.lookups;
    assert_eq!(town.store(peer, "me", "foo", "x"), "");
    assert_eq!(town.cores[0].hub.tally.lookups, before + 1, "the listeners are gone");
}

#[test]
fn an_ack_comes_after_the_commit_and_not_before() {
    let mut town = Town::new(1, |_| {});
    let peer = town.client(0, "me");
    let payload = pub_msg("me", "foo", "x");
    town.offer(peer, &line("_STAN.pub.test-cluster.foo", "acks.me", &payload));
    assert_eq!(town.heard(peer), "", "nothing is on disk yet");
    assert_eq!(town.got(peer).len(), 1);
}

#[test]
fn an_ack_finds_its_way_to_whoever_has_its_subject() {
    let mut town = Town::new(2, |_| {});
    let peer = town.client(0, "me");
    let other = town.enter(1);
    town.say(other, "SUB elsewhere 7\r\n");
    for core in [0, 1] {
        let channel = channel_on(core);
        let payload = pub_msg("me", &channel, "x");
        town.publish(peer, &format!("_STAN.pub.test-cluster.{channel}"), "elsewhere", &payload);
        assert!(town.got(peer).is_empty());
        assert_eq!(town.got(other).len(), 1);
    }
}

#[test]
fn a_wrong_publish_is_refused() {
    let mut town = Town::new(2, |_| {});
    let peer = town.client(0, "me");
    assert_eq!(town.store(peer, "me", "foo.*", "x"), errors::INVALID_PUBLISH);
    // A connection id that is not registered, though the client id is.
    let stale = PubMsg {
        client_id: "me",
        guid: "g",
        subject: "foo",
        conn_id: b"old",
        ..Default::default()
    };
    let no_guid = PubMsg { client_id: "me", subject: "foo", ..Default::default() };
    for message in [stale, no_guid] {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        let answer = town.request(peer, "_STAN.pub.test-cluster.foo", &payload);
        let answer = PubAck::decode(&answer).unwrap();
        assert_eq!((answer.guid, answer.error), (message.guid, errors::INVALID_PUBLISH));
    }
    let by_client_id = PubMsg { client_id: "me", guid: "g", subject: "foo", ..Default::default() };
    let mut payload = Vec::new();
    by_client_id.encode(&mut payload);
    let answer = town.request(peer, "_STAN.pub.test-cluster.foo", &payload);
    assert_eq!(PubAck::decode(&answer).unwrap().error, "");
}

#[test]
fn an_id_in_use_is_refused_while_its_holder_answers() {
    let mut town = Town::new(2, |_| {});
    let holder = town.client(0, "me");
    let rival = town.enter(1);
    town.tell(rival, "SUB answer 1\r\n");
    let mut payload = Vec::new();
    let request =
        ConnectRequest { client_id: "me", heartbeat_inbox: "hb.me2", ..Default::default() };
    request.encode(&mut payload);
    town.publish(rival, "_STAN.discover.test-cluster", "answer", &payload);
    let probe = town.got(holder).remove(0);
    assert_eq!((probe.subject.as_str(), probe.payload.len()), ("hb.me.0", 0));
    town.publish(holder, &probe.reply, "", b"");
    let answer = town.got(rival).into_iter().find(|got| got.subject == "answer").unwrap();
    assert_eq!(ConnectResponse::decode(&answer.payload).unwrap().error, errors::CLIENT_EXISTS);
}

#[test]
fn a_silent_holder_is_replaced_and_learns_it_by_its_ping() {
    let mut town = Town::new(2, |_| {});
    let holder = town.client(0, "me");
    let heir = town.enter(1);
    town.tell(heir, "SUB answer 1\r\n");
    let mut payload = Vec::new();
    let request = ConnectRequest {
        client_id: "me",
        heartbeat_inbox: "hb.heir",
        conn_id: b"other",
        ..Default::default()
    };
    request.encode(&mut payload);
    town.publish(heir, "_STAN.discover.test-cluster", "answer", &payload);
    town.advance(400);
    assert!(town.got(heir).is_empty(), "the holder has half a second");
    town.advance(200);
    let answer = town.got(heir).remove(0);
    assert_eq!(ConnectResponse::decode(&answer.payload).unwrap().error, "");
    // The test's answers have one subject.
    town.got(holder);
    let mut ping = Vec::new();
    Ping { conn_id: b"connection-me" }.encode(&mut ping);
    let answer = town.request(holder, "_STAN.discover.test-cluster.pings", &ping);
    assert_eq!(
        PubAck::decode(&answer).unwrap().guid,
        errors::CLIENT_REPLACED,
        "field 1 is the error"
    );
    assert_eq!(town.store(holder, "me", "foo", "x"), errors::INVALID_PUBLISH);
}

#[test]
fn a_holder_that_is_gone_is_replaced_at_once() {
    let mut town = Town::new(2, |_| {});
    let holder = town.client(0, "me");
    town.leave(holder);
    town.client(1, "me");
}

#[test]
fn close_ends_a_client_once() {
    let mut town = Town::new(2, |_| {});
    let peer = town.client(0, "me");
    let channel = channel_on(1);
    town.store(peer, "me", &channel, "x");
    let (_, got) = town.subscribe(peer, &from_first("me", &channel, "in.1"));
    assert_eq!(got.len(), 1);
    assert_eq!(town.close(peer, "me"), "");
    assert_eq!(town.close(peer, "me"), errors::UNKNOWN_CLIENT);
    let (error, _) = town.subscribe(peer, &from_first("me", &channel, "in.1"));
    assert_eq!(error, errors::UNKNOWN_CLIENT);
}

#[test]
fn acks_before_a_close_are_seen_before_it() {
    let mut town = Town::new(2, |_| {});
    let peer = town.client(0, "me");
    let channel = channel_on(1);
    for data in ["a", "b"] {
        town.store(peer, "me", &channel, data);
    }
    let request = SubscriptionRequest { durable_name: "d", ..from_first("me", &channel, "in.1") };
    let (inbox, got) = town.subscribe(peer, &request);
    assert_eq!(sequences(&got), [1, 2]);
    // Ack and close in one read: the ack is for the other core.
    let (mut ack, mut close) = (Vec::new(), Vec::new());
    Ack { subject: &channel, sequence: 1 }.encode(&mut ack);
    CloseRequest { client_id: "me" }.encode(&mut close);
    let both =
        [line(&inbox, "", &ack), line("_STAN.close.test-cluster", "answer", &close)].concat();
    town.tell(peer, both);
    town.settle();
    town.leave(peer);
    let peer = town.client(0, "me");
    let (_, got) = town.subscribe(peer, &request);
    assert_eq!(sequences(&got), [2], "1 was acked before the close");
}

#[test]
fn an_unsubscribe_names_the_ack_inbox_or_the_message_inbox() {
    let mut town = Town::new(2, |_| {});
    let peer = town.client(0, "me");
    let channel = channel_on(1);
    town.store(peer, "me", &channel, "x");
    let end = |town: &mut Town, inbox: &str, id: &str, channel: &str| {
        let request =
            UnsubscribeRequest { client_id: id, subject: channel, inbox, durable_name: "" };
        let mut payload = Vec::new();
        request.encode(&mut payload);
        let answer = town.request(peer, "_STAN.unsub.test-cluster", &payload);
        SubscriptionResponse::decode(&answer).unwrap().error.to_owned()
    };
    let (inbox, _) = town.subscribe(peer, &from_first("me", &channel, "in.1"));
    assert_eq!(end(&mut town, &inbox, "me", "none"), errors::UNKNOWN_CHANNEL);
    assert_eq!(end(&mut town, &inbox, "you", &channel), errors::UNKNOWN_CLIENT);
    assert_eq!(end(&mut town, &inbox, "me", &channel), "");
    assert_eq!(end(&mut town, &inbox, "me", &channel), errors::INVALID_SUBSCRIPTION);
    town.subscribe(peer, &from_first("me", &channel, "in.1"));
    assert_eq!(end(&mut town, "in.1", "me", &channel), "");
}

#[test]
fn a_client_whose_heartbeats_fail_is_closed() {
    let mut town = Town::new(2, |net| {
        net.heartbeat_interval_ms = 100;
        net.heartbeat_timeout_ms = 50;
        net.heartbeat_fail_count_max = 1;
    });
    let peer = town.client(0, "me");
    town.advance(90);
    let heartbeat = town.got(peer).remove(0);
    assert_eq!(heartbeat.subject, "hb.me.0");
    town.publish(peer, &heartbeat.reply, "", b"");
    town.advance(100);
    assert_eq!(town.store(peer, "me", "foo", "x"), "", "it has answered");
    // Silent from now on: two heartbeats with their timeouts.
    town.advance(400);
    town.got(peer);
    assert_eq!(town.store(peer, "me", "foo", "y"), errors::INVALID_PUBLISH);
}

#[test]
fn a_connection_that_publishes_too_much_waits_for_its_acks() {
    let mut town = Town::new(2, |_| {});
    let peer = town.client(0, "me");
    let payload = pub_msg("me", &channel_on(1), &"x".repeat(500_000));
    let one = line("_STAN.pub.test-cluster.foo", "acks.me", &payload);
    let count = CONNECTION_UNACKED_BYTES_MAX / 500_000 + 5;
    let all = one.repeat(count);
    let Intake { consumed, next } = town.offer(peer, &all);
    assert_eq!(next, Next::Wait);
    assert!(consumed < all.len());
    let bystander = town.enter(0);
    assert_eq!(town.say(bystander, "PING\r\n"), "PONG\r\n", "others never notice");
    town.settle();
    assert!(town.cores[0].take_wakes().contains(&peer.id));
    town.tell(peer, &all[consumed..]);
    assert_eq!(town.got(peer).len(), count);
}

#[test]
fn history_waits_for_a_slow_reader() {
    for core in [0, 1] {
        let mut town = Town::new(2, |_| {});
        let peer = town.client(0, "me");
        let channel = channel_on(core);
        let data = "x".repeat(100_000);
        for _ in 0..40 {
            town.store(peer, "me", &channel, &data);
        }
        let request =
            SubscriptionRequest { max_in_flight: 1000, ..from_first("me", &channel, "in.1") };
        let mut payload = Vec::new();
        request.encode(&mut payload);
        town.publish(peer, "_STAN.sub.test-cluster", "answer", &payload);
        town.advance(200);
        let waiting = town.cores[0].outbox(peer.id).unwrap().len();
        assert!(waiting < 2_000_000, "{waiting} bytes wait for somebody who does not read");
        let mut got = Vec::new();
        for _ in 0..60 {
            got.extend(town.got(peer));
        }
        assert_eq!(sequences(&got[1..]), (1..=40).collect::<Vec<_>>());
    }
}

#[test]
fn a_limit_on_channels_serves_who_comes_first() {
    // Two messages in one read, the first for the other core: the second must not take the last channel.
    let mut town = Town::new(2, |net| net.channels_max = 1);
    let peer = town.client(0, "me");
    let mut all = Vec::new();
    for channel in [channel_on(1), channel_on(0)] {
        let payload = pub_msg("me", &channel, &channel);
        all.extend(line(&format!("_STAN.pub.test-cluster.{channel}"), "acks.me", &payload));
    }
    town.tell(peer, all);
    let got = town.got(peer);
    let errors: Vec<(String, String)> = got
        .iter()
        .map(|got| PubAck::decode(&got.payload).unwrap())
        .map(|ack| (ack.guid.to_owned(), ack.error.to_owned()))
        .collect();
    assert!(errors.contains(&(channel_on(1), String::new())), "{errors:?}");
    assert!(errors.contains(&(channel_on(0), "too many channels".to_owned())), "{errors:?}");
}
