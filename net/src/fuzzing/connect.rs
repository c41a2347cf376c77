//! What client and server say about themselves.

use serde_json::{Map, Value};

use crate::auth::{Authorization, AuthorizationSpec, Credentials, Decision, KeySpec, Proof, Seed};
use crate::detail::said;
use crate::info::Connect;
use crate::nats::op::Op;
use crate::upstream::{Greeting, Login, TlsOffer, hello};

/// Keys whose values are in no trace line.
const SECRETS: [&str; 4] = ["pass", "auth_token", "jwt", "sig"];
/// The seed of a user's key, with which the client signs.
const SEED: &str = "SUAAKBIFAUCQKBIFAUCQKBIFAUCQKBIFAUCQKBIFAUCQKBIFAUCQKBKDFQ";

/// A CONNECT that is accepted leaves a connection as the protocol allows, says the same when it comes twice, holds
/// credentials that can be read, and shows none of its secrets in a trace.
pub(super) fn at_a_server(json: &[u8]) {
    check_trace(json);
    let before = Connect::default();
    for has_headers in [false, true] {
        let Ok(connect) = before.updated_by(json, has_headers) else { continue };
        assert!(matches!(connect.protocol, 0 | 1));
        assert!(has_headers || !connect.headers);
        assert!(connect.headers || !connect.no_responders);
        assert!(!connect.new_account);
        assert_eq!(connect.updated_by(json, has_headers).as_ref(), Ok(&connect));
        assert_eq!(connect.updated_by(b"{}", has_headers).as_ref(), Ok(&connect));
        assert!(Credentials::parse(json).is_some(), "who it is can be read, too");
    }
}

fn check_trace(json: &[u8]) {
    let line = said(&Op::Connect(json));
    let shown = line.strip_prefix("[CONNECT ").and_then(|line| line.strip_suffix(']'));
    let shown = shown.expect("it is told as a CONNECT");
    if shown.is_empty() {
        return;
    }
    let fields: Map<String, Value> = serde_json::from_str(shown).expect("it was an object");
    let mut secrets = fields
        .iter()
        .filter(|(key, _)| SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(key)));
    assert!(secrets.all(|(_, value)| value == "[REDACTED]"), "{shown}");
}

/// Whatever another server says of itself, the answer is a CONNECT that this server would accept; a signature in it is
/// right for the nonce that was given.
pub(super) fn at_a_client(json: &[u8]) {
    let line = [b"INFO ", json, b"\r\n"].concat();
    let _ = TlsOffer::of(&line);
    let seed = Seed::parse(SEED).expect("it is one");
    let Greeting { nonce, .. } = Greeting::read(json);
    let hello = hello("cluster", &Login::Key(seed.clone()), &nonce);
    let connect = Connect::default().updated_by(&hello, true).expect("our own is right");
    assert!(connect.headers);
    let spec = AuthorizationSpec {
        keys: vec![KeySpec { key: seed.public_key(), permissions: None }],
        ..AuthorizationSpec::default()
    };
    let authorization = Authorization::new(&spec).expect("one key");
    let credentials = Credentials::parse(&hello).expect("our own are right");
    let proof = Proof { nonce: Some(&nonce), certificate_names: None };
    let decision = authorization.decide(&credentials, proof);
    assert_eq!(matches!(decision, Ok(Decision::Known(None))), !nonce.is_empty());
}
