//! The core as a client of another NATS server: the peer here is that server.

use super::*;
use crate::core::Notice;
use crate::partition::Partition;
use crate::stan::wire::{ConnectRequest, ConnectResponse, CtrlMsg, MsgProto, PubAck, PubMsg};
use crate::upstream::{Login, TlsOffer, UpstreamState};

const HELLO: &str = "INFO {\"server_id\":\"N\",\"version\":\"2.10.0\",\"headers\":true}\r\n";

fn town(core_count: u16) -> Town {
    Town::new(core_count, |config| config.has_upstream = true)
}

/// A connection to a server that has not spoken yet.
fn opened(town: &mut Town, login: Login) -> Peer {
    let now = town.now();
    let id = town.cores[0].upstream_opened("nats:4222".to_owned(), login, now);
    let peer = Peer { core: 0, id };
    assert_eq!(town.heard(peer), "", "the server speaks first");
    peer
}

/// The subject that an answer to the last request in `heard` goes to.
fn reply_of(heard: &str) -> String {
    let line = heard.lines().find(|line| line.starts_with("PUB ")).expect("a request");
    line.split(' ').nth(2).expect("a reply").to_owned()
}

/// A connection that serves: nobody has answered the question who else does.
fn serving(town: &mut Town) -> Peer {
    let peer = opened(town, Login::Open);
    town.say(peer, HELLO);
    let asked = town.say(peer, "PONG\r\n");
    let nobody = reply_of(&asked);
    let subscribed = town.say(peer, format!("HMSG {nobody} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"));
    assert!(subscribed.contains("SUB _STAN.pub.test-cluster.> 2\r\n"), "{subscribed}");
    assert!(subscribed.contains("SUB _STAN.discover.test-cluster 3\r\n"), "{subscribed}");
    assert!(subscribed.ends_with("PING\r\n"), "{subscribed}");
    assert_eq!(town.cores[0].upstream_state(), UpstreamState::Joining);
    assert_eq!(town.say(peer, "PONG\r\n"), "");
    assert_eq!(town.cores[0].upstream_state(), UpstreamState::Serving);
    peer
}

fn message(subject: &str, reply: &str, payload: &[u8]) -> Vec<u8> {
    let mut line = format!("MSG {subject} 9 {reply} {}\r\n", payload.len()).into_bytes();
    line.extend_from_slice(payload);
    line.extend_from_slice(b"\r\n");
    line
}

/// The payload of the only PUB to `subject` among what was heard.
fn published(town: &mut Town, peer: Peer, subject: &str) -> Vec<u8> {
    town.settle();
    let now = town.now();
    let mut heard = Vec::new();
    while let Some(head) = town.cores[0].outbox(peer.id).map(|outbox| outbox.head().to_vec()) {
        if head.is_empty() {
            break;
        }
        town.cores[0].written(peer.id, head.len(), now);
        heard.extend_from_slice(&head);
    }
    let mark = format!("PUB {subject} ");
    let at = heard.windows(mark.len()).position(|part| part == mark.as_bytes());
    let line = &heard[at.unwrap_or_else(|| panic!("no {mark} in {heard:?}")) + mark.len()..];
    let end = line.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let length: usize = std::str::from_utf8(&line[..end]).unwrap().parse().unwrap();
    line[end + 2..end + 2 + length].to_vec()
}

fn connect(town: &mut Town, peer: Peer, id: &str) -> String {
    let request = ConnectRequest {
        client_id: id,
        heartbeat_inbox: "hb.me",
        protocol: 1,
        conn_id: b"c",
        ..Default::default()
    };
    let mut payload = Vec::new();
    request.encode(&mut payload);
    town.tell(peer, message("_STAN.discover.test-cluster", "answer.1", &payload));
    let answer = published(town, peer, "answer.1");
    ConnectResponse::decode(&answer).unwrap().error.to_owned()
}

#[test]
fn it_logs_in_as_it_was_told() {
    for (login, expected) in [
        (Login::Open, "\"name\":\"_NSS-test-cluster-weirlog\"}"),
        (Login::Token("t".to_owned()), "\"auth_token\":\"t\"}"),
        (
            Login::User { name: "n".to_owned(), password: "p".to_owned() },
            "\"user\":\"n\",\"pass\":\"p\"}",
        ),
    ] {
        let mut town = town(1);
        let peer = opened(&mut town, login);
        let heard = town.say(peer, HELLO);
        let (connect, ping) = heard.split_once("\r\n").unwrap();
        assert!(connect.starts_with("CONNECT {\"verbose\":false") && connect.ends_with(expected));
        assert_eq!(ping, "PING\r\n");
    }
}

#[test]
fn clients_of_the_other_server_are_served_on_either_core() {
    for channel in ["channel.0", "channel.1", "channel.2", "channel.3"] {
        let mut town = town(2);
        let peer = serving(&mut town);
        assert_eq!(connect(&mut town, peer, "me"), "");
        let stored = PubMsg {
            client_id: "me",
            guid: "g",
            subject: channel,
            data: b"data",
            conn_id: b"c",
            ..Default::default()
        };
        let mut payload = Vec::new();
        stored.encode(&mut payload);
        town.tell(peer, message(&format!("_STAN.pub.test-cluster.{channel}"), "acks", &payload));
        let ack = published(&mut town, peer, "acks");
        assert_eq!(PubAck::decode(&ack).unwrap(), PubAck { guid: "g", error: "" });

        let request = crate::stan::wire::SubscriptionRequest {
            client_id: "me",
            subject: channel,
            inbox: "in.1",
            max_in_flight: 2,
            ack_wait_seconds: 30,
            start_position: 4,
            ..Default::default()
        };
        let mut payload = Vec::new();
        request.encode(&mut payload);
        town.tell(peer, message("_STAN.sub.test-cluster", "answer.2", &payload));
        let delivered = published(&mut town, peer, "in.1");
        let delivered = MsgProto::decode(&delivered).unwrap();
        assert_eq!((delivered.sequence, delivered.data), (1, &b"data"[..]));
    }
}

#[test]
fn another_server_of_the_same_cluster_id_is_not_joined_by_a_second() {
    let mut town = town(1);
    let peer = opened(&mut town, Login::Open);
    town.say(peer, HELLO);
    let asked = town.say(peer, "PONG\r\n");
    assert!(asked.starts_with("SUB _INBOX.WL.* 1\r\nPUB _STAN.discover.test-cluster _INBOX.WL.R"));
    town.say(peer, message(&reply_of(&asked), "", b"x").as_slice());
    assert!(town.is_closing(peer));
    let failure = "discovered another streaming server with cluster ID \"test-cluster\"";
    assert_eq!(town.cores[0].upstream_state(), UpstreamState::Failed(failure.to_owned()));
}

/// A server without "nobody is there" is waited for, for a moment.
#[test]
fn silence_means_that_nobody_else_serves() {
    let mut town = town(1);
    let peer = opened(&mut town, Login::Open);
    town.say(peer, HELLO);
    town.say(peer, "PONG\r\n");
    town.advance(260);
    assert!(town.heard(peer).contains("SUB _STAN.sub.test-cluster "));
}

#[test]
fn a_lost_connection_is_told_and_made_anew_without_a_question() {
    let mut town = town(1);
    let peer = serving(&mut town);
    assert_eq!(connect(&mut town, peer, "me"), "");
    town.leave(peer);
    let notices = town.cores[0].take_notices();
    assert_eq!(notices, [Notice::UpstreamJoined, Notice::UpstreamLost]);
    let peer = opened(&mut town, Login::Open);
    town.say(peer, HELLO);
    assert!(town.say(peer, "PONG\r\n").contains("SUB _STAN.sub.test-cluster "));
    town.say(peer, "PONG\r\n");
    // The client of before is still registered: it is asked whether it is there.
    let request = ConnectRequest { client_id: "me", heartbeat_inbox: "hb.2", ..Default::default() };
    let mut payload = Vec::new();
    request.encode(&mut payload);
    town.tell(peer, message("_STAN.discover.test-cluster", "answer.3", &payload));
    town.settle();
    assert!(town.heard(peer).starts_with("PUB hb.me _INBOX.WL.R"));
}

/// Clients used to be closed when the other server was away for some heartbeats.
#[test]
fn clients_outlive_a_lost_connection() {
    let mut town = Town::new(1, |config| {
        config.has_upstream = true;
        config.heartbeat_interval_ms = 100;
        config.heartbeat_fail_count_max = 1;
    });
    let peer = serving(&mut town);
    assert_eq!(connect(&mut town, peer, "me"), "");
    town.leave(peer);
    town.advance(1_000);
    let notices = town.cores[0].take_notices();
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::ClientTimedOut { .. })));
}

#[test]
fn what_an_info_says_about_tls() {
    let offer = |json: &str| TlsOffer::of(format!("INFO {json}\r\n").as_bytes());
    assert_eq!(offer("{}"), TlsOffer::None);
    assert_eq!(offer("no json"), TlsOffer::None);
    assert_eq!(offer("{\"tls_available\":true}"), TlsOffer::Available);
    assert_eq!(offer("{\"tls_required\":true,\"tls_available\":true}"), TlsOffer::Required);
    assert_eq!(TlsOffer::of(b"+OK\r\n"), TlsOffer::None);
    assert_eq!(TlsOffer::of(b"INFO {"), TlsOffer::None);
}

#[test]
fn refusals_are_told() {
    let mut town = town(1);
    let peer = opened(&mut town, Login::Open);
    town.say(peer, "-ERR 'Authorization Violation'\r\n");
    assert_eq!(town.cores[0].upstream_error(), Some("Authorization Violation"));
}

/// A town that has some channels of the cluster, up to where it asks who else has them.
fn partitioned(core_count: u16) -> (Town, Peer, String) {
    let own = Partition::new(vec!["mine.*".to_owned(), "other".to_owned()]);
    let own = Some(std::sync::Arc::new(own));
    let mut town = Town::new(core_count, |config| {
        config.has_upstream = true;
        config.partition = own.clone();
    });
    let peer = opened(&mut town, Login::Open);
    town.say(peer, HELLO);
    let asked = town.say(peer, "PONG\r\n");
    let start = "SUB _INBOX.WL.* 1\r\nSUB _STAN.part.test-cluster 0\r\nPUB _STAN.part.test-cluster _INBOX.WL.R";
    assert!(asked.starts_with(start), "{asked}");
    (town, peer, reply_of(&asked))
}

fn serving_partition(core_count: u16) -> (Town, Peer) {
    let (mut town, peer, nobody) = partitioned(core_count);
    let subscribed = town.say(peer, format!("HMSG {nobody} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"));
    assert!(subscribed.contains("SUB _STAN.pub.test-cluster.mine.* 2\r\n"), "{subscribed}");
    assert!(subscribed.contains("SUB _STAN.pub.test-cluster.other 3\r\n"), "{subscribed}");
    assert!(!subscribed.contains("_STAN.pub.test-cluster.>"), "{subscribed}");
    town.say(peer, "PONG\r\n");
    (town, peer)
}

#[test]
fn a_channel_that_another_server_has_ends_the_start() {
    let (mut town, peer, question) = partitioned(1);
    town.say(peer, message(&question, "", b"mine.1").as_slice());
    assert!(town.is_closing(peer));
    let failure = "another server has the channel \"mine.1\"";
    assert_eq!(town.cores[0].upstream_state(), UpstreamState::Failed(failure.to_owned()));
}

#[test]
fn a_server_that_wants_a_channel_of_this_one_is_told() {
    let (mut town, peer) = serving_partition(1);
    let announce = |names: &[&str]| {
        let mut data = Vec::new();
        for name in names {
            data.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
            data.extend_from_slice(name.as_bytes());
        }
        let mut payload = Vec::new();
        CtrlMsg { kind: 4, server_id: "second", data: &data }.encode(&mut payload);
        message("_STAN.part.test-cluster", "answer.9", &payload)
    };
    town.tell(peer, announce(&["theirs", "mine.2"]));
    assert_eq!(published(&mut town, peer, "answer.9"), b"mine.2");
    assert_eq!(town.say(peer, announce(&["theirs", "mine"]).as_slice()), "");
}

#[test]
fn what_concerns_a_channel_of_another_server_is_not_answered() {
    let (mut town, peer) = serving_partition(2);
    assert_eq!(connect(&mut town, peer, "me"), "");
    for (channel, is_own) in [("mine.1", true), ("other", true), ("theirs", false), ("mine", false)]
    {
        let stored = PubMsg {
            client_id: "me",
            guid: "g",
            subject: channel,
            conn_id: b"c",
            ..Default::default()
        };
        let mut payload = Vec::new();
        stored.encode(&mut payload);
        let heard =
            town.say(peer, message("_STAN.pub.test-cluster.other", "acks", &payload).as_slice());
        assert_eq!(heard.starts_with("PUB acks "), is_own, "{channel}: {heard}");
        let request = crate::stan::wire::SubscriptionRequest {
            client_id: "me",
            subject: channel,
            inbox: "in.1",
            max_in_flight: 2,
            ack_wait_seconds: 30,
            ..Default::default()
        };
        let mut payload = Vec::new();
        request.encode(&mut payload);
        let heard =
            town.say(peer, message("_STAN.sub.test-cluster", "answer.2", &payload).as_slice());
        assert_eq!(heard.starts_with("PUB answer.2 "), is_own, "{channel}: {heard}");
    }
}

#[test]
fn without_other_servers_a_channel_of_nobody_is_not_answered() {
    let own = Some(std::sync::Arc::new(Partition::new(vec!["mine.*".to_owned()])));
    let mut town = Town::new(2, |config| config.partition = own.clone());
    let peer = town.enter(0);
    town.tell(peer, "SUB answer.> 1\r\nSUB hb.me 2\r\n");
    let request =
        ConnectRequest { client_id: "me", heartbeat_inbox: "hb.me", ..Default::default() };
    let mut payload = Vec::new();
    request.encode(&mut payload);
    town.publish(peer, "_STAN.discover.test-cluster", "answer.1", &payload);
    for (channel, answers) in [("mine.1", 1), ("theirs", 0)] {
        let message = PubMsg { client_id: "me", guid: "g", subject: channel, ..Default::default() };
        let mut payload = Vec::new();
        message.encode(&mut payload);
        town.got(peer);
        town.publish(peer, "_STAN.pub.test-cluster.mine.1", "answer.2", &payload);
        assert_eq!(town.got(peer).len(), answers, "{channel}");
    }
}

/// Another server has answered the client's connect before this one has it on disk.
#[test]
fn a_publish_waits_for_its_client() {
    for core_count in [1, 2] {
        for (connection_id, is_registered) in [(&b"c"[..], true), (b"x", false)] {
            let (mut town, peer) = serving_partition(core_count);
            let request = ConnectRequest {
                client_id: "me",
                heartbeat_inbox: "hb.me",
                protocol: 1,
                conn_id: b"c",
                ..Default::default()
            };
            let mut payload = Vec::new();
            request.encode(&mut payload);
            let mut both = message("_STAN.discover.test-cluster", "answer.1", &payload);
            let stored = PubMsg {
                client_id: "me",
                guid: "g",
                subject: "mine.1",
                conn_id: connection_id,
                ..Default::default()
            };
            payload.clear();
            stored.encode(&mut payload);
            both.extend(message("_STAN.pub.test-cluster.mine.1", "acks", &payload));
            town.tell(peer, both);
            let ack = published(&mut town, peer, "acks");
            let error = PubAck::decode(&ack).unwrap().error.to_owned();
            assert_eq!(error.is_empty(), is_registered, "{error}");
        }
    }
}
