//! Channels shared out among servers of one cluster id.

use super::stan_client::{from_first, line, pub_msg};
use super::upstream::{HELLO, connect, connect_payload, message, opened, published, reply_of};
use super::*;
use crate::partition::Partition;
use crate::stan::wire::{CtrlMsg, PubAck, PubMsg};
use crate::upstream::{Login, UpstreamState};

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
        let payload = pub_msg("me", channel, "g");
        let heard = town.say(peer, message("_STAN.pub.test-cluster.other", "acks", &payload));
        assert_eq!(heard.starts_with("PUB acks "), is_own, "{channel}: {heard}");
        let mut payload = Vec::new();
        from_first("me", channel, "in.1").encode(&mut payload);
        let heard = town.say(peer, message("_STAN.sub.test-cluster", "answer.2", &payload));
        assert_eq!(heard.starts_with("PUB answer.2 "), is_own, "{channel}: {heard}");
    }
}

/// Cores that have some channels, for clients of their own.
fn alone(core_count: u16) -> Town {
    let own = Some(std::sync::Arc::new(Partition::new(vec!["mine.*".to_owned()])));
    Town::new(core_count, |config| config.partition = own.clone())
}

#[test]
fn without_other_servers_a_channel_of_nobody_is_not_answered() {
    let mut town = alone(2);
    let peer = town.client(0, "me");
    for (channel, answers) in [("mine.1", 1), ("theirs", 0)] {
        town.publish(
            peer,
            "_STAN.pub.test-cluster.mine.1",
            "acks.me",
            &pub_msg("me", channel, "g"),
        );
        assert_eq!(town.got(peer).len(), answers, "{channel}");
    }
}

/// Another server has answered the client's connect before this one has it on disk.
#[test]
fn a_publish_waits_for_its_client() {
    for core_count in [1, 2] {
        for (connection_id, is_registered) in [(&b"connection-me"[..], true), (b"x", false)] {
            let (mut town, peer) = serving_partition(core_count);
            let mut both =
                message("_STAN.discover.test-cluster", "answer.1", &connect_payload("me"));
            let stored = PubMsg {
                client_id: "me",
                guid: "g",
                subject: "mine.1",
                conn_id: connection_id,
                ..Default::default()
            };
            let mut payload = Vec::new();
            stored.encode(&mut payload);
            both.extend(message("_STAN.pub.test-cluster.mine.1", "acks", &payload));
            town.tell(peer, both);
            let ack = published(&mut town, peer, "acks");
            let error = PubAck::decode(&ack).unwrap().error.to_owned();
            assert_eq!(error.is_empty(), is_registered, "{error}");
        }
    }
}

/// Found reading the change again: the second that waited took the place of the first, which was never read on.
#[test]
fn several_connections_may_wait_for_a_client() {
    let mut town = alone(1);
    let peers = [town.enter(0), town.enter(0), town.enter(0)];
    for peer in peers {
        town.tell(peer, "SUB acks.> 1\r\n");
    }
    town.settle();
    let connect = line("_STAN.discover.test-cluster", "answer.1", &connect_payload("me"));
    town.offer(peers[0], &connect);
    for (at, peer) in peers.into_iter().enumerate() {
        let publish = line(
            "_STAN.pub.test-cluster.mine.1",
            &format!("acks.{at}"),
            &pub_msg("me", "mine.1", "g"),
        );
        assert_eq!(town.offer(peer, &publish).next, Next::Wait, "its client is not there yet");
    }
    town.settle();
    for (at, peer) in peers.into_iter().enumerate() {
        let got = town.got(peer);
        let acked = got.iter().any(|got| got.subject == format!("acks.{at}"));
        assert!(acked, "{at}: {got:?}");
        assert_eq!(town.say(peer, "PING\r\n"), "PONG\r\n", "{at} is read on");
    }
}
