//! How cores stop taking in, before their storages close.

use super::*;

#[test]
fn a_silent_core_takes_no_bytes_and_waits_for_what_others_have_taken() {
    let mut town = Town::new(2, |_| ());
    let peers = [town.enter(0), town.enter(1)];
    let now = town.now();
    town.cores[0].fall_silent(now);
    town.settle();
    assert!(!town.cores[0].are_all_silent(), "the other still takes what is for it");
    assert!(!town.cores[1].are_all_silent());
    let untaken = Intake { consumed: 0, next: Next::Wait };
    assert_eq!(town.offer(peers[0], b"PING\r\n"), untaken);
    assert_eq!(town.say(peers[1], "PING\r\n"), "PONG\r\n");
    let now = town.now();
    town.cores[1].fall_silent(now);
    assert!(town.cores[1].are_all_silent());
    assert!(!town.cores[0].are_all_silent(), "what it has sent is still on its way");
    town.carry(1);
    assert!(town.cores[0].are_all_silent());
    assert_eq!(town.offer(peers[1], b"PING\r\n"), untaken);
    assert_eq!(town.heard(peers[0]), "");
}

/// Who cannot be heard is not closed for it: a stop may take longer than heartbeats do.
#[test]
fn nobody_is_closed_by_a_silent_core() {
    let is_there = |is_silent: bool| {
        let mut town = Town::new(1, |net| {
            net.ping_interval_ms = 100;
            net.ping_out_max = 2;
        });
        let peer = town.enter(0);
        if is_silent {
            let now = town.now();
            town.cores[0].fall_silent(now);
        }
        town.advance(2_000);
        !town.heard(peer).contains("-ERR")
    };
    assert!(is_there(true));
    assert!(!is_there(false));
}
