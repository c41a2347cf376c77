//! Debug and trace lines.

use super::super::Notice;
use super::*;
use crate::detail::Details;

fn told(town: &mut Town) -> Vec<String> {
    let notices = town.cores[0].take_notices().into_iter();
    notices
        .map(|notice| match notice {
            Notice::Detail(detail) => {
                let part = if detail.is_streaming { "STREAM " } else { "" };
                let level = if detail.is_trace { "TRC" } else { "DBG" };
                format!("{level} {part}{}", detail.text)
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_connections_life_is_told_where_debug_is_on() {
    let mut town = Town::new(1, |config| config.details.server_debug = true);
    let peer = town.enter(0);
    town.say(peer, "PUB a 1\r\nx\r\n");
    town.say(peer, "NONSENSE\r\n");
    town.leave(peer);
    assert_eq!(
        told(&mut town),
        [
            "DBG 10.0.0.1 - cid:1 - Client connection created",
            "DBG 10.0.0.1 - cid:1 - Closing: Unknown Protocol Operation",
            "DBG 10.0.0.1 - cid:1 - Client connection closed",
        ]
    );
}

#[test]
fn both_directions_are_told_where_trace_is_on() {
    let mut town = Town::new(1, |config| {
        config.details = Details { server_trace: true, payload_bytes_max: 2, ..Details::default() };
    });
    let peer = town.enter(0);
    told(&mut town);
    town.say(peer, "SUB a 1\r\nPUB a 3\r\nxyz\r\n");
    assert_eq!(
        told(&mut town),
        [
            "TRC 10.0.0.1 - cid:1 - <<- [SUB a 1]",
            "TRC 10.0.0.1 - cid:1 - <<- [PUB a 3]",
            "TRC 10.0.0.1 - cid:1 - <<- MSG_PAYLOAD: [\"xy\"...]",
            "TRC 10.0.0.1 - cid:1 - ->> [MSG a 1 3]",
        ]
    );
}

/// The front performed nothing after a write that had only trace lines to tell: they came with the next event.
#[test]
fn what_was_sent_is_told_at_once() {
    let mut town = Town::new(1, |config| config.details.server_trace = true);
    let peer = town.enter(0);
    told(&mut town);
    town.tell(peer, "PING\r\n");
    town.settle();
    told(&mut town);
    let now = town.now();
    assert!(town.cores[0].written(peer.id, "PONG\r\n".len(), now));
    assert_eq!(told(&mut town), ["TRC 10.0.0.1 - cid:1 - ->> [PONG]"]);
}

#[test]
fn streaming_clients_and_their_messages_are_told_by_their_own_switches() {
    let mut town = Town::new(1, |config| {
        config.details =
            Details { streaming_debug: true, streaming_trace: true, ..Details::default() };
    });
    let peer = town.client(0, "ann");
    town.store(peer, "ann", "orders", "guid-1");
    assert_eq!(
        told(&mut town),
        [
            "DBG STREAM [Client:ann] Connected",
            "TRC STREAM [Client:ann] Received message from publisher subj=orders guid=guid-1",
        ]
    );
}

#[test]
fn nothing_is_told_unless_asked_for() {
    let mut town = Town::new(1, |_| {});
    let peer = town.enter(0);
    town.say(peer, "SUB a 1\r\nPUB a 3\r\nxyz\r\n");
    town.leave(peer);
    assert_eq!(told(&mut town), Vec::<String>::new());
}
