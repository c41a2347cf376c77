//! The core as a client of another NATS server: the peer here is that server.

use super::stan_client::{from_first, pub_msg};
use super::*;
use crate::core::Notice;
use crate::stan::wire::{ConnectRequest, ConnectResponse, MsgProto, PubAck};
use crate::upstream::{Login, TlsOffer, UpstreamState};

pub(super) const HELLO: &str =
    "INFO {\"server_id\":\"N\",\"version\":\"2.10.0\",\"headers\":true}\r\n";

fn town(core_count: u16) -> Town {
    Town::new(core_count, |config| config.has_upstream = true)
}

/// A connection to a server that has not spoken yet.
pub(super) fn opened(town: &mut Town, login: Login) -> Peer {
    let now = town.now();
    let id = town.cores[0].upstream_opened(Address::default(), login, now);
    let peer = Peer { core: 0, id };
    assert_eq!(town.heard(peer), "", "the server speaks first");
    peer
}

/// The subject that an answer to the last request in `heard` goes to.
pub(super) fn reply_of(heard: &str) -> String {
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

pub(super) fn message(subject: &str, reply: &str, payload: &[u8]) -> Vec<u8> {
    let mut line = format!("MSG {subject} 9 {reply} {}\r\n", payload.len()).into_bytes();
    line.extend_from_slice(payload);
    line.extend_from_slice(b"\r\n");
    line
}

/// The payload of the only PUB to `subject` among what was heard.
pub(super) fn published(town: &mut Town, peer: Peer, subject: &str) -> Vec<u8> {
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

/// The request of [`connect`].
pub(super) fn connect_payload(id: &str) -> Vec<u8> {
    let connection = format!("connection-{id}");
    let request = ConnectRequest {
        client_id: id,
        heartbeat_inbox: "hb.me",
        protocol: 1,
        conn_id: connection.as_bytes(),
        ..Default::default()
    };
    let mut payload = Vec::new();
    request.encode(&mut payload);
    payload
}

pub(super) fn connect(town: &mut Town, peer: Peer, id: &str) -> String {
    town.tell(peer, message("_STAN.discover.test-cluster", "answer.1", &connect_payload(id)));
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
        let payload = pub_msg("me", channel, "data");
        town.tell(peer, message(&format!("_STAN.pub.test-cluster.{channel}"), "acks", &payload));
        let ack = published(&mut town, peer, "acks");
        assert_eq!(PubAck::decode(&ack).unwrap(), PubAck { guid: "data", error: "" });

        let mut payload = Vec::new();
        from_first("me", channel, "in.1").encode(&mut payload);
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
fn a_key_signs_what_the_server_gives() {
    let seed = crate::auth::Seed::parse(&crate::auth::nkey::tests::seed_text(6)).unwrap();
    let (_, public) = crate::auth::nkey::tests::key_pair(6);
    let jwt = "ey.ey.sig".to_owned();
    let credentials = crate::auth::UserCredentials { jwt, seed: seed.clone() };
    let info = HELLO.replace("\"headers\"", "\"nonce\":\"abc\",\"headers\"");
    let connect = |login| {
        let mut town = town(1);
        let peer = opened(&mut town, login);
        let said = town.say(peer, &info);
        let json = said.lines().next().unwrap().strip_prefix("CONNECT ").unwrap().to_owned();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    };
    let by_key = connect(Login::Key(seed.clone()));
    assert_eq!((&by_key["nkey"], &by_key["sig"]), (&public.into(), &seed.sign("abc").into()));
    assert!(by_key.get("jwt").is_none() && by_key.get("user").is_none());
    let by_jwt = connect(Login::Credentials(credentials));
    assert_eq!((&by_jwt["jwt"], &by_jwt["sig"]), (&"ey.ey.sig".into(), &seed.sign("abc").into()));
    assert!(by_jwt.get("nkey").is_none());
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
