//! Settings that change while connections are open, told to one core of two.

use std::sync::Arc;

use super::*;
use crate::auth::{Authorization, AuthorizationSpec, PermissionSpec, RuleSpec, UserSpec};
use crate::core::RuntimeSettings;

fn user(name: &str, password: &str, deny: &[&str]) -> UserSpec {
    let deny = deny.iter().map(|&text| text.to_owned()).collect();
    let publish = RuleSpec { allow: None, deny };
    let permissions = Some(PermissionSpec { publish, ..PermissionSpec::default() });
    UserSpec { name: name.to_owned(), password: password.to_owned(), permissions }
}

fn authorization(users: &[UserSpec], token: &str) -> Option<Arc<Authorization>> {
    let token = (!token.is_empty()).then(|| token.to_owned());
    let spec = AuthorizationSpec { users: users.to_vec(), token, ..AuthorizationSpec::default() };
    Some(Arc::new(Authorization::new(&spec).unwrap()))
}

fn come_in(town: &mut Town, core: usize, credentials: &str) -> Peer {
    let peer = town.join(core);
    let answer = town.say(peer, format!("CONNECT {{\"protocol\":1,{credentials}}}\r\nPING\r\n"));
    assert!(answer.contains("PONG\r\n"), "{credentials}: {answer}");
    town.heard(peer);
    peer
}

/// Changes the settings of all cores through the first.
fn reload(town: &mut Town, change: impl FnOnce(&mut RuntimeSettings)) {
    let limits = ChannelLimits::default().into();
    let mut settings = RuntimeSettings::of(&town.cores[0].hub.config, limits);
    change(&mut settings);
    let now = town.now();
    town.cores[0].reload(&Arc::new(settings), now);
    town.settle();
}

#[test]
fn those_are_closed_whose_user_is_gone_or_changed() {
    const VIOLATION: &str = "-ERR 'Authorization Violation'\r\n";
    let before = [
        user("same", "pw", &["x"]),
        user("gone", "pw", &[]),
        user("other_password", "pw", &[]),
        user("other_permissions", "pw", &["x"]),
    ];
    let after = [
        user("same", "pw", &["x"]),
        user("other_password", "new", &[]),
        user("other_permissions", "pw", &["x", "y"]),
        user("new", "pw", &[]),
    ];
    for core in [0, 1] {
        let mut town = Town::new(2, |net| net.authorization = authorization(&before, "t"));
        let names = ["same", "gone", "other_password", "other_permissions"];
        let mut peers: Vec<(&str, Peer)> = Vec::new();
        for name in names {
            let credentials = format!("\"user\":\"{name}\",\"pass\":\"pw\"");
            peers.push((name, come_in(&mut town, core, &credentials)));
        }
        peers.push(("token", come_in(&mut town, core, "\"auth_token\":\"t\"")));
        let stranger = town.join(core);
        reload(&mut town, |settings| settings.authorization = authorization(&after, "t"));
        for (name, peer) in peers {
            let stays = matches!(name, "same" | "token");
            assert_eq!(town.is_closing(peer), !stays, "{name} on core {core}");
            assert_eq!(town.heard(peer), if stays { "" } else { VIOLATION }, "{name}");
        }
        assert!(!town.is_closing(stranger));
        let credentials = "CONNECT {\"user\":\"new\",\"pass\":\"pw\"}\r\nPING\r\n";
        assert!(town.say(stranger, credentials).contains("PONG"));
    }
}

#[test]
fn authorization_may_begin_and_end() {
    let mut town = Town::new(2, |_| {});
    let early = town.enter(1);
    reload(&mut town, |settings| settings.authorization = authorization(&[], "t"));
    assert!(town.is_closing(early));
    let peer = come_in(&mut town, 1, "\"auth_token\":\"t\"");
    reload(&mut town, |settings| settings.authorization = None);
    assert!(!town.is_closing(peer));
    town.enter(0);
}

#[test]
fn a_smaller_payload_is_announced_and_kept_to_on_all_cores() {
    let mut town = Town::new(2, |_| {});
    let peers = [town.enter(0), town.enter(1)];
    reload(&mut town, |settings| settings.payload_size_bytes_max = 8);
    for peer in peers {
        let info = town.heard(peer);
        assert!(info.starts_with("INFO {") && info.contains("\"max_payload\":8,"), "{info}");
        let answer = town.say(peer, "PUB a 9\r\n123456789\r\n");
        assert!(answer.contains("-ERR 'Maximum Payload Violation'"), "{answer}");
    }
}

#[test]
fn other_limits_hold_for_what_comes() {
    let mut town = Town::new(2, |_| {});
    let peer = town.enter(1);
    assert_eq!(town.say(peer, "SUB a 1\r\n"), "");
    reload(&mut town, |settings| {
        settings.subscriptions_max = 1;
        settings.connections_max = 1;
    });
    assert_eq!(town.say(peer, "SUB b 2\r\n"), "-ERR 'maximum subscriptions exceeded'\r\n");
    let late = town.join(1);
    assert!(town.is_closing(late));
}

/// nats-server closes whom the new limit leaves no place; found by the client library's own tests.
#[test]
fn a_lower_limit_of_connections_closes_those_that_are_too_many() {
    let mut town = Town::new(2, |_| {});
    let peers = [town.enter(0), town.enter(1), town.enter(1), town.enter(0)];
    reload(&mut town, |settings| settings.connections_max = 2);
    town.settle();
    let closing = peers.iter().filter(|peer| town.is_closing(**peer)).count();
    assert_eq!(closing, 2);
    for peer in peers.into_iter().filter(|peer| town.is_closing(*peer)).collect::<Vec<_>>() {
        assert_eq!(town.heard(peer), "-ERR 'maximum connections exceeded'\r\n");
        town.leave(peer);
    }
    let late = town.join(0);
    assert!(town.is_closing(late), "the others are still counted, once");
    town.leave(late);
    reload(&mut town, |settings| settings.connections_max = 3);
    town.enter(0);
}
