//! The ceiling over what all connections of a core hold in memory.

use super::*;
use crate::core::Notice;

/// What was closed, after the edge has looked what is to be written.
fn shed(town: &mut Town) -> Vec<(u64, usize)> {
    let _ = town.cores[0].take_flushes();
    let notices = town.cores[0].take_notices();
    let shed = notices.into_iter().map(|notice| match notice {
        Notice::Shed { number, buffered_bytes, .. } => (number, buffered_bytes),
        other => panic!("{other:?}"),
    });
    shed.collect()
}

#[test]
fn who_keeps_most_of_half_messages_is_closed_with_a_word() {
    let mut town = Town::new(1, |net| net.buffered_bytes_max = 100_000);
    let peers = [30_000, 50_000, 20_000].map(|bytes| {
        let peer = town.enter(0);
        town.cores[0].keep_received(peer.id, bytes);
        peer
    });
    assert_eq!(shed(&mut town), []);
    let last = town.enter(0);
    town.cores[0].keep_received(last.id, 1);
    assert_eq!(shed(&mut town), [(2, 50_000)]);
    assert_eq!(town.heard(peers[1]), "-ERR 'Too Many Bytes Buffered'\r\n");
    assert!(town.is_closing(peers[1]));
    // It counts no more, whatever its reader still says.
    town.cores[0].keep_received(peers[1].id, 60_000);
    town.cores[0].keep_received(last.id, 49_000);
    assert_eq!(shed(&mut town), []);
    for peer in [peers[0], peers[2], last] {
        assert_eq!(town.say(peer, "PING\r\n"), "PONG\r\n");
    }
    assert_eq!(shed(&mut town), []);
}

#[test]
fn who_subscribes_to_most_is_closed_with_a_word() {
    let mut town = Town::new(1, |net| net.buffered_bytes_max = 100_000);
    let subscribe = |town: &mut Town, peer: Peer, sids: std::ops::Range<u32>| {
        let many: String = sids.map(|sid| format!("SUB a.{sid} {sid}\r\n")).collect();
        town.tell(peer, many);
    };
    let peers = [100, 120].map(|count| {
        let peer = town.enter(0);
        subscribe(&mut town, peer, 0..count);
        peer
    });
    assert_eq!(shed(&mut town), []);
    subscribe(&mut town, peers[0], 200..250);
    assert!(matches!(shed(&mut town).as_slice(), [(1, 60_000..70_000)]));
    assert_eq!(town.heard(peers[0]), "-ERR 'Too Many Bytes Buffered (Subscriptions)'\r\n");
    assert!(town.is_closing(peers[0]));
    assert_eq!(shed(&mut town), [], "it counts no more");
    assert_eq!(town.say(peers[1], "PUB a.7 0\r\n\r\nPING\r\n"), "MSG a.7 7 0\r\n\r\nPONG\r\n");
    // One that gives back what it has makes room for another.
    let unsubscribe: String = (0..120).map(|sid| format!("UNSUB {sid}\r\n")).collect();
    town.tell(peers[1], unsubscribe);
    let third = town.enter(0);
    subscribe(&mut town, third, 0..200);
    assert_eq!(shed(&mut town), []);
}

#[test]
fn who_has_most_waiting_is_cut_and_what_waited_is_gone() {
    let mut town = Town::new(1, |net| net.buffered_bytes_max = 11_600);
    let publisher = town.enter(0);
    let slow: Vec<_> = (0..4).map(|_| town.enter(0)).collect();
    for (at, peer) in slow.iter().enumerate() {
        town.say(*peer, format!("SUB a{at} 1\r\n"));
    }
    let publish = |town: &mut Town, at: usize| {
        town.tell(publisher, format!("PUB a{at} 1000\r\n{}\r\n", "x".repeat(1_000)));
    };
    for at in [0, 1, 2, 3, 0, 1, 2, 3, 2] {
        publish(&mut town, at);
    }
    assert_eq!(shed(&mut town), []);
    publish(&mut town, 2);
    assert!(matches!(shed(&mut town).as_slice(), [(4, 4_400..4_600)]));
    assert!(town.cores[0].outbox(slow[2].id).is_none());
    for _ in 0..3 {
        publish(&mut town, 0);
    }
    assert_eq!(shed(&mut town), [], "there is room again");
    town.leave(slow[2]);
    assert_eq!(town.heard(slow[0]).matches("MSG").count(), 5);
}

/// It is in memory once, and so it counts once.
#[test]
fn a_large_message_to_many_counts_once() {
    let mut town = Town::new(1, |net| net.buffered_bytes_max = 100_000);
    let publisher = town.enter(0);
    let many: Vec<_> = (0..20).map(|_| town.enter(0)).collect();
    for peer in &many {
        town.say(*peer, "SUB a 1\r\n");
    }
    let message = format!("PUB a 40000\r\n{}\r\n", "x".repeat(40_000));
    town.tell(publisher, &message);
    town.tell(publisher, &message);
    assert_eq!(shed(&mut town), []);
    town.tell(publisher, &message);
    assert_ne!(shed(&mut town), []);
}
