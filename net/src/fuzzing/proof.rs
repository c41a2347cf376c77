//! Seeds and credentials from files, users as an operator may write them, and what clients send to be one of them.

use super::parts;
use crate::auth::{
    Authorization, AuthorizationSpec, Credentials, Decision, KeySpec, PermissionSpec, Permissions,
    Proof, ResponseLimits, RuleSpec, Seed, UserCredentials, UserSpec,
};

/// The cost at which a hash is made here at most, as it stands in the hash: each step above doubles the time.
const COST: &str = "$04$";

/// A file with a seed or credentials: what is found in it is what stands there.
pub(super) fn files(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let seed = Seed::find(text).ok();
    if let Some(seed) = &seed {
        assert!(text.lines().any(|line| Seed::parse(line.trim()).as_ref() == Some(seed)));
        assert_eq!(seed.sign("nonce"), seed.sign("nonce"));
    }
    if let Ok(credentials) = UserCredentials::find(text) {
        assert_eq!(Some(&credentials.seed), seed.as_ref());
        assert!(text.contains(&credentials.jwt));
    }
}

/// A name, a password or its hash, a key, a token and rules of an operator, then what a client says: if it is let in
/// it has said one of them.
pub(super) fn users(input: &[u8]) {
    let parts: [&[u8]; 8] = parts(input);
    let Some([name, password, key, token, allowed, denied]) = text_of(parts) else { return };
    let [.., subject, json] = parts;
    let list = |text: &str| text.split(',').map(ToOwned::to_owned).collect::<Vec<_>>();
    let permissions = PermissionSpec {
        publish: RuleSpec { allow: Some(list(&allowed)), deny: list(&denied) },
        subscribe: RuleSpec { allow: Some(list(&allowed)), deny: list(&denied) },
        responses: Some(ResponseLimits::default()),
    };
    let permissions = Permissions::new(&permissions).is_ok().then_some(permissions);
    if let Some(spec) = &permissions {
        let may = Permissions::new(spec).expect("it was right before");
        assert!(!may.may_publish(subject) || !allowed.is_empty());
        let _ = may.may_subscribe(subject, Some(b"queue"));
        let _ = may.may_subscribe_channel(subject);
        let _ = may.filters(subject);
    }
    let keys = Some(key).filter(|key| !key.is_empty());
    let spec = AuthorizationSpec {
        users: vec![UserSpec { name: name.clone(), password: password.clone(), permissions }],
        keys: keys.map(|key| KeySpec { key, permissions: None }).into_iter().collect(),
        token: Some(token.clone()).filter(|token| !token.is_empty()),
        ..AuthorizationSpec::default()
    };
    let Ok(authorization) = Authorization::new(&spec) else { return };
    let Some(credentials) = Credentials::parse(json) else { return };
    let proof = Proof { nonce: Some("nonce"), certificate_names: None };
    match authorization.decide(&credentials, proof) {
        Ok(Decision::Known(_)) => {
            let said = String::from_utf8_lossy(json);
            assert!(said.contains('{'), "who says nothing is nobody");
        }
        Ok(Decision::Hashed(check)) => {
            assert!(password.starts_with("$2") || token.starts_with("$2"));
            if password.contains(COST) && !token.starts_with("$2") {
                let _ = check.run();
            }
        }
        Err(_) => {}
    }
}

/// The first of the parts as text; none: one of them is not.
fn text_of<const N: usize, const M: usize>(parts: [&[u8]; N]) -> Option<[String; M]> {
    let mut texts = parts.into_iter().map(|part| String::from_utf8(part.to_vec()).ok());
    let texts: [Option<String>; M] = std::array::from_fn(|_| texts.next().flatten());
    texts.iter().all(Option::is_some).then(|| texts.map(Option::unwrap_or_default))
}
