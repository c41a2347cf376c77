use super::*;

fn user(name: &str, permissions: Option<PermissionSpec>) -> UserSpec {
    UserSpec { name: name.to_owned(), password: format!("{name}-pw"), permissions }
}

fn credentials(json: &str) -> Credentials {
    Credentials::parse(json.as_bytes()).unwrap()
}

/// Who a client with nothing but these credentials is.
fn who(authorization: &Authorization, json: &str) -> Result<Identity, Violation> {
    match authorization.decide(&credentials(json), Proof::default())? {
        Decision::Known(identity) => Ok(identity),
        Decision::Hashed(check) => check.run().ok_or(Violation),
    }
}

fn rule(allow: Option<&[&str]>, deny: &[&str]) -> RuleSpec {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    RuleSpec { allow: allow.map(owned), deny: owned(deny) }
}

fn subscriber(allow: Option<&[&str]>, deny: &[&str]) -> Permissions {
    let subscribe = rule(allow, deny);
    Permissions::new(&PermissionSpec { subscribe, ..PermissionSpec::default() }).unwrap()
}

#[test]
fn only_the_right_secret_lets_in() {
    let spec = AuthorizationSpec {
        users: vec![user("a", None), user("b", Some(PermissionSpec::default()))],
        token: Some("T".to_owned()),
        ..AuthorizationSpec::default()
    };
    let authorization = Authorization::new(&spec).unwrap();
    let decide = |json: &str| who(&authorization, json).map(|who| who.is_some());
    assert_eq!(decide(r#"{"user":"a","pass":"a-pw"}"#), Ok(false));
    assert_eq!(decide(r#"{"user":"b","pass":"b-pw"}"#), Ok(true));
    assert_eq!(decide(r#"{"auth_token":"T"}"#), Ok(false));
    for wrong in [
        "{}",
        r#"{"user":"a"}"#,
        r#"{"user":"a","pass":""}"#,
        r#"{"user":"a","pass":"b-pw"}"#,
        r#"{"user":"a","pass":"a-pw "}"#,
        r#"{"user":"","pass":""}"#,
        r#"{"user":"c","pass":"a-pw"}"#,
        r#"{"auth_token":"t"}"#,
        r#"{"auth_token":""}"#,
    ] {
        assert_eq!(decide(wrong), Err(Violation), "{wrong}");
    }
}

#[test]
fn who_says_nothing_is_the_no_auth_user_and_who_lies_is_nobody() {
    let spec = AuthorizationSpec {
        users: vec![user("guest", Some(PermissionSpec::default()))],
        no_auth_user: Some("guest".to_owned()),
        ..AuthorizationSpec::default()
    };
    let authorization = Authorization::new(&spec).unwrap();
    assert!(who(&authorization, "{}").unwrap().is_some());
    assert!(who(&authorization, r#"{"user":"guest","pass":"x"}"#).is_err());
    assert!(who(&authorization, r#"{"auth_token":"x"}"#).is_err());
}

/// A client that wrote `"sig":null`, or its name under `User`, was let in nowhere: the rest of CONNECT is read with keys
/// in any case, the last of several counts, and null says nothing.
#[test]
fn credentials_are_read_as_the_rest_of_connect_is() {
    let spec = AuthorizationSpec { users: vec![user("a", None)], ..AuthorizationSpec::default() };
    let authorization = Authorization::new(&spec).unwrap();
    for right in [
        r#"{"user":"a","pass":"a-pw","sig":null,"nkey":null}"#,
        r#"{"User":"a","PASS":"a-pw"}"#,
        r#"{"user":"b","pass":"b-pw","user":"a","pass":"a-pw"}"#,
        r#"{"user":"a","pass":"a-pw","pass":null}"#,
    ] {
        assert_eq!(who(&authorization, right), Ok(None), "{right}");
    }
    assert_eq!(who(&authorization, "null"), Err(Violation));
    assert!(Credentials::parse(br#"{"user":1}"#).is_none());
    assert!(Credentials::parse(br#"{"user":"a"} x"#).is_none());
}

#[test]
fn specs_without_meaning_are_refused() {
    let refusal = |change: fn(&mut AuthorizationSpec)| {
        let mut spec =
            AuthorizationSpec { users: vec![user("a", None)], ..AuthorizationSpec::default() };
        change(&mut spec);
        Authorization::new(&spec).unwrap_err()
    };
    assert_eq!(refusal(|spec| spec.token = Some(String::new())), AuthError::Empty);
    assert_eq!(refusal(|spec| spec.users[0].password.clear()), AuthError::Empty);
    assert_eq!(refusal(|spec| spec.users[0].password = "$2a$11$x".to_owned()), AuthError::Bcrypt);
    let twice = refusal(|spec| spec.users.push(user("a", None)));
    assert_eq!(twice, AuthError::Duplicate("a".to_owned()));
    let nobody = refusal(|spec| spec.no_auth_user = Some("b".to_owned()));
    assert_eq!(nobody, AuthError::NoAuthUser("b".to_owned()));
    for wrong in ["", "a..b", ">.a", "a b c"] {
        let publish = rule(Some(&[wrong]), &[]);
        let spec = PermissionSpec { publish, ..PermissionSpec::default() };
        assert!(matches!(Permissions::new(&spec), Err(AuthError::Subject(_))), "{wrong:?}");
    }
    let spec = PermissionSpec { publish: rule(None, &["a q"]), ..PermissionSpec::default() };
    assert!(matches!(Permissions::new(&spec), Err(AuthError::Queue(_))));
}

#[test]
fn no_secret_is_shown() {
    let spec = AuthorizationSpec {
        users: vec![user("a", None)],
        token: Some("T0ken".to_owned()),
        ..AuthorizationSpec::default()
    };
    let shown = format!("{spec:?} {:?}", Authorization::new(&spec).unwrap());
    assert!(!shown.contains("a-pw"), "{shown}");
    assert!(!shown.contains("T0ken"), "{shown}");
}

#[test]
fn deny_wins_over_allow_for_publishes() {
    let publish = rule(Some(&["a.*", "b.>"]), &["a.secret", "b.x.>"]);
    let spec = PermissionSpec { publish, ..PermissionSpec::default() };
    let permissions = Permissions::new(&spec).unwrap();
    for subject in ["a.b", "b.y", "b.x"] {
        assert!(permissions.may_publish(subject.as_bytes()), "{subject}");
    }
    for subject in ["a", "a.b.c", "c", "a.secret", "b.x.y", ""] {
        assert!(!permissions.may_publish(subject.as_bytes()), "{subject}");
    }
    let nothing = PermissionSpec { publish: rule(Some(&[]), &[]), ..PermissionSpec::default() };
    assert!(!Permissions::new(&nothing).unwrap().may_publish(b"a"));
}

#[test]
fn a_subscription_lies_within_an_allowed_entry() {
    let permissions = subscriber(Some(&["a.*", "b.>"]), &["a.secret", "b.x.>"]);
    for pattern in ["a.b", "a.*", "b.>", "b.*", "b.c.>"] {
        assert!(permissions.may_subscribe(pattern.as_bytes(), None), "{pattern}");
    }
    for pattern in ["a.>", ">", "*", "a", "*.b", "a.secret", "b.x.y", "b.x.*", "b.x.>"] {
        assert!(!permissions.may_subscribe(pattern.as_bytes(), None), "{pattern}");
    }
    assert!(permissions.filters(b"a.*"));
    assert!(permissions.filters(b"b.>"));
    assert!(!permissions.filters(b"a.b"));
    assert!(permissions.may_receive(b"a.b"));
    assert!(!permissions.may_receive(b"a.secret"));
}

#[test]
fn a_queue_entry_allows_its_queue_only() {
    let permissions = subscriber(Some(&["q.* grp", "p"]), &["p bad.*"]);
    let may = |pattern: &str, queue: Option<&str>| {
        permissions.may_subscribe(pattern.as_bytes(), queue.map(str::as_bytes))
    };
    assert!(may("q.a", Some("grp")));
    assert!(!may("q.a", Some("other")));
    assert!(!may("q.a", None));
    assert!(may("p", None));
    assert!(may("p", Some("any")));
    assert!(!may("p", Some("bad.1")));
}

#[test]
fn channels_are_restricted_by_lists_that_speak_of_them() {
    let check = |allow: Option<&[&str]>, deny: &[&str], expected: [bool; 2]| {
        let permissions = subscriber(allow, deny);
        let got = [b"_STAN.sub.c.foo", b"_STAN.sub.c.bar"]
            .map(|subject| permissions.may_subscribe_channel(subject));
        assert_eq!(got, expected, "{allow:?} {deny:?}");
    };
    check(None, &[], [true, true]);
    check(Some(&["_INBOX.>"]), &["secret.>"], [true, true]);
    check(Some(&["_INBOX.>", "_STAN.sub.c.foo"]), &[], [true, false]);
    check(Some(&["_INBOX.>", "_STAN.sub.c.>"]), &["_STAN.sub.c.foo"], [false, true]);
    check(None, &["_STAN.sub.*.bar"], [true, false]);
}

/// "secret" with the least cost.
pub(crate) fn hashed() -> String {
    bcrypt::hash("secret", 4).unwrap()
}

#[test]
fn a_hash_stands_for_its_password() {
    for prefix in ["$2a$", "$2b$", "$2y$"] {
        let password = hashed().replacen("$2b$", prefix, 1);
        let users =
            vec![UserSpec { name: "a".to_owned(), password: password.clone(), permissions: None }];
        let token = Some(password.clone());
        let spec = AuthorizationSpec { users, token, ..AuthorizationSpec::default() };
        let authorization = Authorization::new(&spec).unwrap();
        assert!(who(&authorization, r#"{"user":"a","pass":"secret"}"#).is_ok());
        assert!(who(&authorization, r#"{"auth_token":"secret"}"#).is_ok());
        assert!(who(&authorization, r#"{"user":"a","pass":"Secret"}"#).is_err());
        let itself = format!("{{\"user\":\"a\",\"pass\":\"{password}\"}}");
        assert!(who(&authorization, &itself).is_err());
    }
}

#[test]
fn a_certificate_says_who_a_client_is_whatever_it_says_itself() {
    let mut spec = AuthorizationSpec {
        users: vec![user("a@b", Some(PermissionSpec::default())), user("root", None)],
        ..AuthorizationSpec::default()
    };
    spec.users[0].password = String::new();
    assert_eq!(Authorization::new(&spec).unwrap_err(), AuthError::Empty);
    spec.has_certificate_users = true;
    let authorization = Authorization::new(&spec).unwrap();
    let decide = |names: &[&str], json: &str| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let proof = Proof { certificate_names: Some(&names), ..Proof::default() };
        authorization.decide(&credentials(json), proof).is_ok()
    };
    assert!(decide(&["x", "a@b"], "{}"));
    assert!(!decide(&["x"], r#"{"user":"root","pass":"root-pw"}"#));
    assert!(!decide(&[], "{}"));
    // An empty password is never right.
    assert!(who(&authorization, r#"{"user":"a@b","pass":""}"#).is_err());
}

#[test]
fn keys_are_checked_and_unique() {
    let (_, key) = super::nkey::tests::key_pair(1);
    let with = |keys: &[&str]| {
        let keys = keys.iter().map(|key| KeySpec { key: (*key).to_owned(), permissions: None });
        let keys = keys.collect();
        Authorization::new(&AuthorizationSpec { keys, ..AuthorizationSpec::default() })
    };
    assert!(with(&[&key]).unwrap().wants_signatures());
    assert!(!with(&[]).unwrap().wants_signatures());
    assert_eq!(with(&["UABC"]).unwrap_err(), AuthError::Key("UABC".to_owned()));
    assert_eq!(with(&[&key, &key]).unwrap_err(), AuthError::Duplicate(key.clone()));
}

#[test]
fn who_may_only_answer_may_publish_nothing_else() {
    let responses = Some(ResponseLimits::default());
    let only =
        Permissions::new(&PermissionSpec { responses, ..PermissionSpec::default() }).unwrap();
    assert!(!only.may_publish(b"a"));
    let publish = rule(Some(&["a"]), &[]);
    let also = PermissionSpec { responses, publish, ..PermissionSpec::default() };
    assert!(Permissions::new(&also).unwrap().may_publish(b"a"));
}
