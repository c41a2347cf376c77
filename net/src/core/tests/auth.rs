//! Who may connect, and what they may do.

use std::sync::Arc;

use super::stan_client::{from_first, pub_msg};
use super::*;
use crate::auth::nkey::tests::key_pair;
use crate::auth::tests::hashed;
use crate::auth::{
    Authorization, AuthorizationSpec, KeySpec, PermissionSpec, ResponseLimits, RuleSpec, UserSpec,
};
use crate::core::STRANGER_SIZE_BYTES_MAX;
use crate::stan::errors;
use crate::stan::wire::PubAck;

pub(super) fn rule(allow: &[&str], deny: &[&str]) -> RuleSpec {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    RuleSpec { allow: (!allow.is_empty()).then(|| owned(allow)), deny: owned(deny) }
}

pub(super) fn user(name: &str, publish: RuleSpec, subscribe: RuleSpec) -> UserSpec {
    let permissions = Some(PermissionSpec { publish, subscribe, responses: None });
    UserSpec { name: name.to_owned(), password: "pw".to_owned(), permissions }
}

fn guarded(spec: AuthorizationSpec) -> Town {
    let authorization = Arc::new(Authorization::new(&spec).unwrap());
    Town::new(1, |config| config.authorization = Some(authorization))
}

fn town_of(users: Vec<UserSpec>) -> Town {
    guarded(AuthorizationSpec { users, ..AuthorizationSpec::default() })
}

const ROOT: &str =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"user\":\"root\",\"pass\":\"pw\"}\r\n";

fn login(town: &mut Town, name: &str) -> Peer {
    let peer = town.join(0);
    let connect = ROOT.replace("root", name);
    assert_eq!(town.say(peer, connect + "PING\r\n"), "PONG\r\n");
    peer
}

/// Makes a connection that of the STAN client `me`.
fn register(town: &mut Town, peer: Peer) {
    town.tell(peer, "SUB answer 1\r\nSUB hb.me.0 2\r\nSUB in.> 3\r\n");
    assert_eq!(town.open(peer, "me"), "");
}

fn root() -> UserSpec {
    user("root", RuleSpec::default(), RuleSpec::default())
}

#[test]
fn the_greeting_says_that_credentials_are_wanted() {
    for (no_auth_user, is_said) in [(None, true), (Some("root".to_owned()), false)] {
        let users = vec![root()];
        let mut town =
            guarded(AuthorizationSpec { users, no_auth_user, ..AuthorizationSpec::default() });
        let now = town.now();
        let id = town.cores[0].connection_opened(Address::default(), now);
        let info = town.heard(Peer { core: 0, id });
        assert_eq!(info.contains("\"auth_required\":true"), is_said, "{info}");
    }
}

#[test]
fn before_connect_any_other_operation_is_a_violation() {
    // The first letter is enough.
    let operations =
        ["PING\r\n", "PUB a 0\r\n\r\n", "SUB a 1\r\n", "PONG\r\n", "P", "x", "\r\n", "PUB a 5\r\n"];
    for operation in operations {
        let mut town = town_of(vec![root()]);
        let peer = town.join(0);
        assert_eq!(town.say(peer, operation), "-ERR 'Authorization Violation'\r\n");
        assert!(town.is_closing(peer), "{operation}");
    }
}

#[test]
fn wrong_credentials_are_a_violation_at_any_connect() {
    let mut town = town_of(vec![root()]);
    let stranger = town.join(0);
    let heard = town.say(stranger, ROOT.replace("pw", "x") + "PING\r\n");
    assert_eq!(heard, "-ERR 'Authorization Violation'\r\n");
    assert!(town.is_closing(stranger));
    let peer = login(&mut town, "root");
    assert_eq!(town.say(peer, "CONNECT {}\r\nPING\r\n"), "-ERR 'Authorization Violation'\r\n");
    assert!(town.is_closing(peer));
}

#[test]
fn who_stays_silent_is_closed_after_the_timeout() {
    let mut town = town_of(vec![root()]);
    let peer = town.join(0);
    let known = login(&mut town, "root");
    town.advance(1_900);
    assert!(!town.is_closing(peer));
    town.advance(200);
    assert_eq!(town.heard(peer), "-ERR 'Authentication Timeout'\r\n");
    assert!(town.is_closing(peer));
    assert!(!town.is_closing(known));
}

#[test]
fn no_more_of_a_stranger_is_kept_than_a_connect_may_be_long() {
    let authorization = Authorization::new(&AuthorizationSpec {
        users: vec![root()],
        ..AuthorizationSpec::default()
    });
    let authorization = Arc::new(authorization.unwrap());
    // What known clients may send does not count before.
    let mut town = Town::new(1, |config| {
        config.authorization = Some(authorization);
        config.control_line_bytes_max = 1 << 20;
    });
    let connect = |length: usize| {
        let head = "CONNECT {\"verbose\":false,\"user\":\"root\",\"pass\":\"pw\",\"name\":\"";
        let name = "n".repeat(length - head.len() - 2);
        format!("{head}{name}\"}}")
    };
    let longest = town.join(0);
    assert_eq!(town.say(longest, connect(4_096 + 8) + "\r\nPING\r\n"), "PONG\r\n");
    for endless in [connect(STRANGER_SIZE_BYTES_MAX), "CONNECT".to_owned() + &" ".repeat(5_000)] {
        let stranger = town.join(0);
        let heard = town.say(stranger, endless);
        assert_eq!(heard, "-ERR 'maximum control line exceeded'\r\n");
        assert!(town.is_closing(stranger));
    }
    // A known client has its maximum.
    assert_eq!(town.say(longest, connect(10_000) + "\r\nPING\r\n"), "PONG\r\n");
}

#[test]
fn without_credentials_the_no_auth_user_works_at_once() {
    let spec = AuthorizationSpec {
        users: vec![user("guest", rule(&["open"], &[]), RuleSpec::default())],
        no_auth_user: Some("guest".to_owned()),
        ..AuthorizationSpec::default()
    };
    let mut town = guarded(spec);
    let peer = town.join(0);
    let heard = town.say(peer, "PUB open 0\r\n\r\nPUB shut 0\r\n\r\n");
    assert_eq!(heard, "+OK\r\n-ERR 'Permissions Violation for Publish to \"shut\"'\r\n");
    town.advance(2_500);
    assert!(!town.is_closing(peer));
}

#[test]
fn what_is_not_permitted_is_dropped_and_the_connection_stays() {
    let publish = rule(&["a.>"], &["a.x"]);
    let subscribe = rule(&["a.>", "q grp"], &["a.secret"]);
    let mut town = town_of(vec![user("u", publish, subscribe), root()]);
    let peer = login(&mut town, "u");
    let heard =
        town.say(peer, "PUB b 0\r\n\r\nPUB a.x 0\r\n\r\nSUB b 1\r\nSUB q 2\r\nSUB q no 3\r\n");
    let expected = "-ERR 'Permissions Violation for Publish to \"b\"'\r\n\
         -ERR 'Permissions Violation for Publish to \"a.x\"'\r\n\
         -ERR 'Permissions Violation for Subscription to \"b\"'\r\n\
         -ERR 'Permissions Violation for Subscription to \"q\"'\r\n\
         -ERR 'Permissions Violation for Subscription to \"q\" using queue \"no\"'\r\n";
    assert_eq!(heard, expected);
    assert_eq!(town.say(peer, "SUB a.* 4\r\nSUB q grp 5\r\n"), "");
    let other = login(&mut town, "root");
    town.say(other, "PUB b 0\r\n\r\nPUB a.secret 0\r\n\r\nPUB a.open 0\r\n\r\nPUB q 0\r\n\r\n");
    assert_eq!(town.heard(peer), "MSG a.open 4 0\r\n\r\nMSG q 5 0\r\n\r\n");
}

#[test]
fn the_channel_inside_a_publish_needs_the_permission_too() {
    let publish = rule(&["_STAN.discover.>", "_STAN.pub.test-cluster.mine", "_STAN.sub.>"], &[]);
    let mut town = town_of(vec![user("u", publish, RuleSpec::default())]);
    let peer = login(&mut town, "u");
    register(&mut town, peer);
    let mut store = |channel: &str, data: &str| {
        let payload = pub_msg("me", channel, data);
        town.publish(peer, "_STAN.pub.test-cluster.mine", "answer", &payload);
        let got = town.got(peer);
        assert_eq!(got.len(), 1, "one ack");
        PubAck::decode(&got[0].payload).unwrap().error.to_owned()
    };
    assert_eq!(store("mine", "1"), "");
    assert_eq!(store("other", "2"), errors::INVALID_PUBLISH);
    assert_eq!(store("mine", "3"), "");
}

#[test]
fn a_channel_subscription_needs_the_permission_where_rules_speak_of_channels() {
    let subscribe = rule(&[], &["_STAN.sub.test-cluster.secret"]);
    let mut town = town_of(vec![user("u", RuleSpec::default(), subscribe)]);
    let peer = login(&mut town, "u");
    register(&mut town, peer);
    let mut subscribe = |channel: &str| town.subscribe(peer, &from_first("me", channel, "in.1")).0;
    assert!(subscribe("open").starts_with("_INBOX."));
    assert_eq!(subscribe("secret"), errors::CHANNEL_DENIED);
}

/// Answers of nats-server 2.15.2 to the same user. A denied message of a pedantic client lost the first of its two
/// errors.
#[test]
fn what_is_denied_is_not_ok_and_a_wrong_subject_is_told_first() {
    let denied = |how: &str, subject: &str| {
        format!("-ERR 'Permissions Violation for {how} \"{subject}\"'\r\n")
    };
    let wrong = "-ERR 'Invalid Publish Subject'\r\n";
    let cases = [
        ("PUB no 0\r\n\r\n", denied("Publish to", "no")),
        ("PUB no.* 0\r\n\r\n", wrong.to_owned() + &denied("Publish to", "no.*")),
        ("PUB ok..a 0\r\n\r\n", wrong.to_owned() + &denied("Publish to", "ok..a")),
        ("PUB ok.* 0\r\n\r\n", wrong.to_owned() + "+OK\r\n"),
        ("PUB ok.a no.b 0\r\n\r\n", "+OK\r\n".to_owned()),
        ("PUB ok.a $JS.x 0\r\n\r\n", denied("Publish with Reply of", "$JS.x")),
        ("SUB no 1\r\n", denied("Subscription to", "no")),
        ("SUB no..x 1\r\n", denied("Subscription to", "no..x")),
        ("SUB ok..x 1\r\n", denied("Subscription to", "ok..x")),
    ];
    let rule = || rule(&["ok.>"], &["ok.no"]);
    let mut town = town_of(vec![user("ann", rule(), rule())]);
    for (input, answer) in cases {
        let peer = town.join(0);
        let connect = "CONNECT {\"user\":\"ann\",\"pass\":\"pw\"}\r\n";
        assert_eq!(
            town.say(peer, connect.to_owned() + input),
            format!("+OK\r\n{answer}"),
            "{input}"
        );
    }
}

#[test]
fn the_limit_of_subscriptions_stands_between_permission_and_subject() {
    let mut town = Town::new(1, |config| {
        let users = vec![user("ann", RuleSpec::default(), rule(&["ok.>"], &[]))];
        let spec = AuthorizationSpec { users, ..AuthorizationSpec::default() };
        config.authorization = Some(Arc::new(Authorization::new(&spec).unwrap()));
        config.subscriptions_max = 2;
    });
    let peer = login(&mut town, "ann");
    assert_eq!(town.say(peer, "SUB ok.a 1\r\nSUB ok.b 2\r\n"), "");
    let full = "-ERR 'maximum subscriptions exceeded'\r\n";
    assert_eq!(town.say(peer, "SUB ok.a 1\r\n"), full, "though the sid is in use");
    let heard = town.say(peer, "SUB no 4\r\n");
    assert_eq!(heard, "-ERR 'Permissions Violation for Subscription to \"no\"'\r\n");
}

/// Compares what waits to be compared, as the edge does.
fn check_passwords(town: &mut Town) -> usize {
    let now = town.now();
    let core = &mut town.cores[0];
    let checks = core.take_password_checks();
    let count = checks.len();
    for (id, check) in checks {
        core.password_checked(id, check.run(), now);
    }
    count
}

fn town_with_hash() -> Town {
    let password = hashed();
    town_of(vec![UserSpec { name: "ann".to_owned(), password, permissions: None }])
}

const ANN: &[u8] = b"CONNECT {\"verbose\":false,\"user\":\"ann\",\"pass\":\"secret\"}\r\nPING\r\n";

#[test]
fn a_connection_waits_while_its_password_is_compared() {
    let mut town = town_with_hash();
    let peer = town.join(0);
    let Intake { consumed, next } = town.offer(peer, ANN);
    assert_eq!(next, Next::Wait);
    town.advance(3_000);
    assert_eq!(town.heard(peer), "", "nothing is answered, and the time is not the client's");
    assert!(!town.is_closing(peer));
    assert_eq!(check_passwords(&mut town), 1);
    assert_eq!(town.cores[0].take_wakes(), [peer.id]);
    assert_eq!(town.say(peer, &ANN[consumed..]), "PONG\r\n");
}

#[test]
fn a_password_that_does_not_fit_its_hash_is_a_violation() {
    let mut town = town_with_hash();
    let peer = town.join(0);
    let wrong = String::from_utf8_lossy(ANN).replace("secret", "guess");
    town.offer(peer, wrong.as_bytes());
    check_passwords(&mut town);
    assert_eq!(town.heard(peer), "-ERR 'Authorization Violation'\r\n");
    assert!(town.is_closing(peer));
}

#[test]
fn no_more_passwords_wait_than_have_a_turn() {
    let mut town = town_with_hash();
    let peers: Vec<Peer> = (0..65).map(|_| town.join(0)).collect();
    for peer in &peers {
        town.offer(*peer, ANN);
    }
    assert_eq!(town.heard(peers[64]), "-ERR 'Authentication Timeout'\r\n");
    town.leave(peers[0]);
    assert_eq!(check_passwords(&mut town), 64);
    let late = town.join(0);
    town.offer(late, ANN);
    assert_eq!(check_passwords(&mut town), 1);
}

#[test]
fn the_owner_of_a_key_signs_the_nonce_of_its_connection() {
    let (pair, key) = key_pair(1);
    let keys = vec![KeySpec { key: key.clone(), permissions: None }];
    let mut town = guarded(AuthorizationSpec { keys, ..AuthorizationSpec::default() });
    let now = town.now();
    let mut greeted = || {
        let id = town.cores[0].connection_opened(Address::default(), now);
        let peer = Peer { core: 0, id };
        let info = town.heard(peer);
        let start = info.find("\"nonce\":\"").unwrap() + 9;
        (peer, info[start..start + 15].to_owned())
    };
    let ((peer, nonce), (other, _)) = (greeted(), greeted());
    let signature = data_encoding::BASE64URL_NOPAD.encode(pair.sign(nonce.as_bytes()).as_ref());
    let connect = format!(
        "CONNECT {{\"verbose\":false,\"nkey\":\"{key}\",\"sig\":\"{signature}\"}}\r\nPING\r\n"
    );
    assert_eq!(town.say(peer, &connect), "PONG\r\n");
    assert_eq!(town.say(other, &connect), "-ERR 'Authorization Violation'\r\n");
}

#[test]
fn a_certificate_says_who_it_is() {
    let users = vec![UserSpec {
        password: String::new(),
        ..user("a@b", rule(&["x"], &[]), rule(&[], &[]))
    }];
    let spec =
        AuthorizationSpec { users, has_certificate_users: true, ..AuthorizationSpec::default() };
    for (name, answer) in [
        ("a@b", "-ERR 'Permissions Violation for Publish to \"y\"'\r\nPONG\r\n"),
        ("c@d", "-ERR 'Authorization Violation'\r\n"),
    ] {
        let mut town = guarded(spec.clone());
        let peer = town.join(0);
        let now = town.now();
        town.cores[0].connection_secured(peer.id, Some(vec![name.to_owned()]), now);
        let text = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPUB x 0\r\n\r\nPUB y 0\r\n\r\nPING\r\n";
        assert_eq!(town.say(peer, text), answer);
    }
}

/// A handshake that takes long leaves less time for the CONNECT.
#[test]
fn a_handshake_is_within_the_time_of_the_credentials() {
    let mut town = town_of(vec![root()]);
    let accepted = town.now();
    town.advance(1_500);
    let peer = town.join(0);
    town.cores[0].connection_secured(peer.id, None, accepted);
    town.heard(peer);
    town.advance(499);
    assert_eq!(town.heard(peer), "");
    town.advance(2);
    assert_eq!(town.heard(peer), "-ERR 'Authentication Timeout'\r\n");
}

#[test]
fn who_gets_a_request_may_answer_it_once_and_not_too_late() {
    let responses = Some(ResponseLimits { count_max: Some(1), expires_ms: Some(1_000) });
    let mut server = user("server", RuleSpec::default(), rule(&["ask"], &[]));
    server.permissions.as_mut().unwrap().responses = responses;
    let mut town = town_of(vec![server, root()]);
    let (peer, asker) = (login(&mut town, "server"), login(&mut town, "root"));
    let denied = "-ERR 'Permissions Violation for Publish to \"in.1\"'\r\n";
    town.say(peer, "SUB ask 1\r\n");
    town.say(asker, "SUB in.* 1\r\n");
    assert_eq!(town.say(peer, "PUB in.1 0\r\n\r\n"), denied);
    town.say(asker, "PUB ask in.1 0\r\n\r\n");
    assert_eq!(town.heard(peer), "MSG ask 1 in.1 0\r\n\r\n");
    assert_eq!(town.say(peer, "PUB in.1 2\r\nhi\r\n"), "");
    assert_eq!(town.heard(asker), "MSG in.1 1 2\r\nhi\r\n");
    assert_eq!(town.say(peer, "PUB in.1 0\r\n\r\n"), denied);
    town.say(asker, "PUB ask in.1 0\r\n\r\n");
    town.advance(1_100);
    town.heard(peer);
    assert_eq!(town.say(peer, "PUB in.1 0\r\n\r\n"), denied);
}

#[test]
fn default_permissions_are_for_those_without_their_own_and_for_the_token() {
    let plain = UserSpec { name: "plain".to_owned(), password: "pw".to_owned(), permissions: None };
    let publish = rule(&["common"], &[]);
    let spec = AuthorizationSpec {
        users: vec![plain, root()],
        token: Some("T".to_owned()),
        default_permissions: Some(PermissionSpec { publish, ..PermissionSpec::default() }),
        ..AuthorizationSpec::default()
    };
    let mut town = guarded(spec);
    let denied = "-ERR 'Permissions Violation for Publish to \"else\"'\r\n";
    let text = "PUB common 0\r\n\r\nPUB else 0\r\n\r\n";
    let peer = login(&mut town, "plain");
    assert_eq!(town.say(peer, text), denied);
    let peer = login(&mut town, "root");
    assert_eq!(town.say(peer, text), "");
    let peer = town.join(0);
    let connect = "CONNECT {\"verbose\":false,\"pedantic\":false,\"auth_token\":\"T\"}\r\n";
    assert_eq!(town.say(peer, format!("{connect}{text}")), denied);
}

#[test]
fn channel_messages_go_only_where_the_client_may_listen() {
    let mut town = town_of(vec![user("u", RuleSpec::default(), rule(&[], &["in.secret"]))]);
    let peer = login(&mut town, "u");
    register(&mut town, peer);
    let mut subscribe = |inbox: &str| town.subscribe(peer, &from_first("me", "foo", inbox)).0;
    assert_eq!(subscribe("in.secret"), errors::CHANNEL_DENIED);
    assert!(subscribe("in.open").starts_with("_INBOX."));
}

/// An unrestricted client names an inbox that another listens to with a wildcard, and may not hear.
#[test]
fn what_is_denied_is_left_out_of_channel_deliveries() {
    let denied = user("u", RuleSpec::default(), rule(&[], &["in.secret"]));
    let mut town = town_of(vec![denied, root()]);
    let (peer, other) = (login(&mut town, "u"), login(&mut town, "root"));
    town.say(peer, "SUB in.* 9\r\n");
    town.tell(other, "SUB answer 1\r\nSUB hb.me.0 2\r\n");
    assert_eq!(town.open(other, "me"), "");
    for inbox in ["in.secret", "in.open"] {
        town.subscribe(other, &from_first("me", "foo", inbox));
    }
    let payload = pub_msg("me", "foo", "1");
    town.publish(other, "_STAN.pub.test-cluster.foo", "answer", &payload);
    let got = town.got(peer);
    assert_eq!(got.len(), 1, "the other is denied");
    assert_eq!(got[0].subject, "in.open");
}
