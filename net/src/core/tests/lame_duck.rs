//! Lame duck mode.

use super::*;

const LDM: &str = "\"ldm\":true";

fn town(core_count: u16) -> Town {
    Town::new(core_count, |config| {
        config.lame_duck_ms = 2_000;
        config.lame_duck_grace_ms = 500;
    })
}

fn enter_lame_duck(town: &mut Town) {
    let now = town.now();
    town.cores.iter_mut().for_each(|core| core.enter_lame_duck(now));
    town.settle();
}

#[test]
fn only_clients_that_understand_are_told_and_none_is_closed_in_the_grace_period() {
    let mut town = town(1);
    let modern = town.enter(0);
    let old = town.join(0);
    town.say(old, "CONNECT {\"verbose\":false,\"protocol\":0}\r\nPING\r\n");
    let greeted = town.join(0);
    enter_lame_duck(&mut town);
    let told = town.heard(modern);
    assert!(told.starts_with("INFO {"), "{told}");
    assert_eq!(told.matches(LDM).count(), 1, "{told}");
    assert_eq!(town.heard(old), "");
    assert_eq!(town.heard(greeted), "", "nothing comes between a PING and its PONG");
    let heard = town.say(greeted, "CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
    assert!(heard.starts_with("PONG\r\nINFO {"), "{heard}");
    assert!(heard.contains(LDM), "{heard}");
    enter_lame_duck(&mut town);
    assert_eq!(town.heard(modern), "", "once is enough");
    assert_eq!(town.say(modern, "SUB a 1\r\nPUB a 1\r\nx\r\n"), "MSG a 1 1\r\nx\r\n");
    town.advance(400);
    assert!([modern, old, greeted].iter().all(|peer| !town.is_closing(*peer)));
}

#[test]
fn those_who_stay_are_closed_without_an_error_one_after_the_other() {
    let mut town = town(2);
    let peers: Vec<Peer> = (0..10).map(|number| town.enter(number % 2)).collect();
    enter_lame_duck(&mut town);
    peers.iter().for_each(|peer| drop(town.heard(*peer)));
    let closing = |town: &Town| peers.iter().filter(|peer| town.is_closing(**peer)).count();
    town.advance(500);
    let first = closing(&town);
    assert!((1..=4).contains(&first), "{first} at the end of the grace period");
    town.advance(700);
    let half = closing(&town);
    assert!((4..=8).contains(&half), "{half} in the middle");
    town.advance(900);
    assert_eq!(closing(&town), 10);
    for peer in &peers {
        assert_eq!(town.heard(*peer), "");
        let now = town.now();
        assert!(!town.cores[peer.core].is_lame_duck_over(now));
        if peer.core == 0 {
            town.leave(*peer);
        }
    }
    let now = town.now();
    assert!(town.cores[0].is_lame_duck_over(now));
    assert!(!town.cores[1].is_lame_duck_over(now), "each core for itself");
}

#[test]
fn with_nobody_there_it_is_over_after_the_grace_period() {
    let mut town = town(1);
    let is_over = |town: &Town| town.cores[0].is_lame_duck_over(town.now());
    assert!(!is_over(&town));
    enter_lame_duck(&mut town);
    town.advance(300);
    assert!(!is_over(&town), "one may be on its way");
    town.advance(300);
    assert!(is_over(&town));
}
