//! Whole files: what each key does, who wins, and what is refused, with file and line.

use std::fs;
use std::time::Duration;

use weirlog_engine::limits::ChannelLimitRules;
use weirlog_engine::types::ChannelLimits;
use weirlog_net::auth::{PermissionSpec, ResponseLimits, RuleSpec};
use weirlog_net::tls::{AUTO_WAIT_MS, ClientCertificates, HandshakeOrder, TlsSpec};

use crate::args::options::{ListenAddress, LoginFile};
use crate::args::{ArgsError, Command, Options, Parsed, StoreKind, Verbosity, parse};

/// Reads a command line in whose words `%1` and `%2` are files with these texts. Messages show them as `1` and `2`.
fn read(line: &str, files: &[&str]) -> Result<Parsed, String> {
    let directory = tempfile::tempdir().unwrap();
    let mut line = line.to_owned();
    for (index, text) in files.iter().enumerate() {
        let path = directory.path().join((index + 1).to_string());
        fs::write(&path, text).unwrap();
        line = line.replace(&format!("%{}", index + 1), path.to_str().unwrap());
    }
    let shown = format!("{}/", directory.path().display());
    let mut parsed = parse(line.split_whitespace().map(Into::into))
        .map_err(|error: ArgsError| error.to_string().replace(&shown, ""))?;
    for warning in &mut parsed.warnings {
        *warning = warning.replace(&shown, "");
    }
    Ok(parsed)
}

fn options_of(parsed: Parsed) -> Options {
    let Command::Serve(options) = parsed.command else { panic!("does not serve") };
    options
}

/// The options of one file for both parts.
fn options(text: &str) -> Options {
    let parsed = read("-c %1", &[text]).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(parsed.warnings, Vec::<String>::new(), "{text}");
    options_of(parsed)
}

fn check_error(text: &str, message: &str) {
    let error = read("-c %1", &[text]).expect_err(text);
    assert_eq!(error, message, "{text}");
    assert!(!error.contains("53cret"), "{error}");
}

/// A change that a key makes.
type Change = fn(&mut Options);

/// Spellings of keys, a value, and what it must change in the default options.
const KEYS: &[(&str, &str, Change)] = &[
    ("listen", "127.0.0.1:5222", |o| {
        o.listen.host = "127.0.0.1".to_owned();
        o.listen.port = Some(5222);
    }),
    ("listen", "5222", |o| o.listen.port = Some(5222)),
    ("host net", "127.0.0.1", |o| o.listen.host = "127.0.0.1".to_owned()),
    ("port PORT", "-1", |o| o.listen.port = None),
    ("server_name", "north", |o| o.server_name = Some("north".to_owned())),
    ("debug", "yes", |o| o.log.server.debug = true),
    ("trace", "on", |o| o.log.server.trace = true),
    ("logtime", "off", |o| o.log.is_time_shown = false),
    ("pid_file", "/run/w.pid", |o| o.pid_file = Some("/run/w.pid".into())),
    ("max_payload", "2MB", |o| o.payload_bytes_max = 2 << 20),
    ("max_connections", "10", |o| o.connections.connections_max = 10),
    ("max_connections", "64k", |o| o.connections.connections_max = 64_000),
    ("max_connections", "-1", |o| o.connections.connections_max = 0),
    ("max_subscriptions", "7", |o| o.connections.subscriptions_max = 7),
    ("max_control_line", "1KB", |o| o.connections.control_line_bytes_max = 1024),
    ("max_pending", "128MB", |o| o.connections.pending_bytes_max = 128 << 20),
    ("max_buffered", "3GB", |o| o.connections.buffered_bytes_max = 3 << 30),
    ("ping_interval", "\"30s\"", |o| o.connections.ping_interval = Duration::from_secs(30)),
    ("ping_interval", "30", |o| o.connections.ping_interval = Duration::from_secs(30)),
    ("ping_max", "5", |o| o.connections.pings_out_max = 5),
    ("write_deadline", "'2s'", |o| o.connections.write_deadline = Duration::from_secs(2)),
    ("cluster_id id cid", "other", |o| o.cluster_id = "other".to_owned()),
    ("discover_prefix", "find.me", |o| o.discover_prefix = "find.me".to_owned()),
    ("store st store_type storetype", "MEMORY", |o| o.store = StoreKind::Memory),
    ("dir datastore", "/data", |o| o.directory = "/data".into()),
    ("hb_interval hbi server_to_client_hb_interval", "1s", |o| {
        o.heartbeat.interval = Duration::from_secs(1);
    }),
    ("hb_timeout hbt server_to_client_hb_timeout", "2s", |o| {
        o.heartbeat.timeout = Duration::from_secs(2);
    }),
    ("hb_fail_count hbf server_to_client_hb_fail_count", "3", |o| o.heartbeat.failures_max = 3),
    ("sd stan_debug", "true", |o| {
        o.log.streaming = Verbosity { debug: true, trace: false };
    }),
    ("sv stan_trace", "true", |o| {
        o.log.streaming = Verbosity { debug: false, trace: true };
    }),
    (
        "replace_durable replace_durables replace_duplicate_durable replace_duplicate_durables",
        "true",
        |o| o.is_durable_replaced = true,
    ),
];

/// The same in `store_limits`.
const LIMITS: &[(&str, &str, Change)] = &[
    ("max_channels mc maxchannels", "0", |o| o.channels_max = 0),
    ("max_subs msu max_subscriptions maxsubscriptions", "7", |o| {
        o.channel_limits.subscriptions_max = 7;
    }),
    ("max_msgs mm maxmsgs max_count maxcount", "10k", |o| o.channel_limits.messages_max = 10_000),
    ("max_bytes mb maxbytes", "64MB", |o| o.channel_limits.bytes_max = 64 << 20),
    ("max_age ma maxage", "\"1h\"", |o| o.channel_limits.age_ms_max = 3_600_000),
    ("max_inactivity mi maxinactivity", "'1s'", |o| o.channel_limits.inactivity_ms_max = 1_000),
];

#[test]
fn every_key_in_every_spelling() {
    let plain = options("");
    assert_eq!(plain, options_of(read("", &[]).unwrap()));
    for (names, value, change) in KEYS {
        let mut expected = plain.clone();
        change(&mut expected);
        for name in names.split(' ') {
            assert_eq!(options(&format!("{name}: {value}")), expected, "{name}");
            assert_eq!(options(&format!("{} = {value}", name.to_uppercase())), expected, "{name}");
        }
    }
    for (names, value, change) in LIMITS {
        let mut expected = plain.clone();
        change(&mut expected);
        for name in names.split(' ') {
            for map in ["store_limits", "limits", "storelimits"] {
                assert_eq!(options(&format!("{map} {{ {name}: {value} }}")), expected, "{name}");
            }
        }
    }
}

#[test]
fn the_command_line_wins_over_files_and_files_over_defaults() {
    let file = "port: 1\nstreaming { store: memory, sd: true, store_limits { mm: 5, mb: 6 } }";
    let got = options_of(read("-c %1 -mm 7 -SD=false serve -p 2", &[file]).unwrap());
    assert_eq!((got.listen.port, got.store), (Some(2), StoreKind::Memory));
    assert_eq!((got.channel_limits.messages_max, got.channel_limits.bytes_max), (7, 6));
    assert!(!got.log.streaming.debug);
    // In a file the later of two wins.
    assert_eq!(options("port: 1\nport: 2").listen.port, Some(2));
    assert_eq!(options_of(read("-c= -sc=", &[]).unwrap()), options(""));
}

#[test]
fn one_file_serves_both_parts_and_two_serve_one_each() {
    for line in ["-c %1", "-config=%1", "-sc %1", "--stan_config %1", "-c %1 -sc %1"] {
        let file = "port: 1\nstreaming { id: x }";
        let got = options_of(read(line, &[file]).unwrap());
        assert_eq!((got.listen.port, got.cluster_id.as_str()), (Some(1), "x"), "{line}");
    }
    let two = |nats, streaming| read("-c %1 -sc %2", &[nats, streaming]);
    let got = options_of(two("port: 1", "id: x").unwrap());
    assert_eq!((got.listen.port, got.cluster_id.as_str()), (Some(1), "x"));
    assert_eq!(two("id: x", ""), Err("1:1: no such option: id".to_owned()));
    assert_eq!(two("", "port: 1"), Err("2:1: no such option: port".to_owned()));
    let shared = two("", "streaming { id: x }\nport: 1").unwrap();
    let warning = "2:2: port has no effect: beside streaming{} it belongs into the file of -config";
    assert_eq!(shared.warnings, [warning]);
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    check_error("port: 1\nprot: 2", "1:2: no such option: prot");
    check_error("streaming {\n max_msgs: 2 }", "1:2: no such option: streaming.max_msgs");
    check_error("streaming {}\nid: x", "1:2: no such option: id");
    check_error("limits {\n\n x: 2 }", "1:3: no such option: limits.x");
    check_error("limits { channels {\n a { x: 1 } } }", "1:2: no such option: a.x");
    check_error("authorization { x: 1 }", "1:1: no such option: authorization.x");
    check_error("port: [", "1:1: a list that starts here is not closed");
}

#[test]
fn a_wrong_value_is_refused_with_its_line() {
    check_error("\nport: x", "1:2: port: not a whole number: \"x\"");
    check_error("limits { mm: -1 }", "1:1: limits.mm: limit cannot be negative: \"-1\"");
    check_error("limits { mm: x }", "1:1: limits.mm: not a whole number");
    check_error("debug: 1", "1:1: expected true or false");
    check_error("port: {}", "1:1: expected a value");
    check_error("hbi: 5", "1:1: hbi: not a duration (such as 100ms, 30s, 1m30s, 1.5h, 0): \"5\"");
    check_error("store: bolt", "1:1: store: unsupported store type, use file or memory: \"bolt\"");
    check_error("max_pending: 0", "1:1: max_pending: must be longer than 0");
    check_error("max_buffered: 0", "1:1: max_buffered: must be longer than 0");
    check_error("max_buffered: 1MB", "max_pending cannot be higher than max_buffered");
    check_error("max_pending: 1k", "max_payload cannot be higher than max_pending");
    check_error("max_control_line: 2MB", "1:1: max_control_line: must be from 256 to 1048576");
    let missing = read("-c /nowhere/w.conf", &[]).unwrap_err();
    assert!(missing.starts_with("/nowhere/w.conf:0: cannot read /nowhere/w.conf: No such file"));
}

#[test]
fn keys_of_the_file_store_give_a_warning() {
    let keys = "compact_enabled: true, compact_frag: 50, compact_interval: 300, \
                compact_min_size: 1MB, buffer_size: 2MB, crc: false, crc_poly: 3988292384, \
                sync: false, slice_max_msgs: 1, slice_max_bytes: 64MB, slice_max_age: \"1h\", \
                slice_archive_script: x, fds_limit: 1, parallel_recovery: 4, \
                read_buffer_size: 2MB, auto_sync: \"1m\"";
    let parsed = read("-c %1", &[&format!("file_options {{ {keys} }}")]).unwrap();
    assert_eq!(parsed.warnings.len(), 16);
    assert!(
        parsed.warnings.contains(
            &"1:1: file_options.sync has no effect: every acknowledgement waits for the disk"
                .to_owned()
        )
    );
    // What is done anyway needs no warning.
    assert_eq!(options("file { sync_on_flush: true, crc: true }"), options(""));
    check_error("file { crc_poly: x }", "1:1: file.crc_poly: not a whole number");
}

#[test]
fn what_is_not_there_yet_is_refused_and_says_what_to_do() {
    for text in [
        "sql_options { driver: x }",
        "ft_group: x",
        "cluster { node_id: x }",
        "streaming { cluster { node_id: x } }",
        "encrypt: true",
        "encryption_key: 53cret",
        "accounts {}",
        "system_account: x",
        "operator: x",
        "streaming { tls { insecure: true } }",
        "jetstream: true",
        "jetstream {}",
        "leafnodes {}",
        "gateway {}",
        "websocket {}",
        "mqtt {}",
        "prof_port: 65432",
        "tls { cipher_suites: [x] }",
        "authorization { auth_callout {} }",
    ] {
        let error = read("-c %1", &[text]).expect_err(text);
        assert!(error.starts_with("1:1: "), "{error}");
        let (_, what) = error.split_once(": not available yet: ").expect(&error);
        assert!(what.contains("; "), "{error} does not say what to do instead");
        assert!(!error.contains("53cret"), "{error}");
    }
    // Asking for nothing is fine.
    let nothing = "ft_group: \"\"\npartitioning: false\nencrypt: no\njetstream: off\nhttp: 0\nhttp_base_path: /";
    assert_eq!(options(nothing), options(""));
}

#[test]
fn monitoring_has_a_place() {
    let monitor = |text: &str| options(text).monitor;
    let at = |host: &str, port| Some(ListenAddress { host: host.to_owned(), port: Some(port) });
    assert_eq!(monitor("http: 8222").http, at("0.0.0.0", 8222));
    assert_eq!(monitor("host: h\nmonitor_port: 8222").http, at("h", 8222));
    let both = monitor("http: \"localhost:8222\"\nhttps: \"[::1]:8223\"\nhttp_base_path: a/b/");
    assert_eq!((both.http, both.https), (at("localhost", 8222), at("::1", 8223)));
    assert_eq!(both.base_path, "/a/b");
    check_error("http: x", "1:1: http: not a whole number: \"x\"");
}

#[test]
fn tls_for_clients_and_towards_another_server() {
    let got = options(
        "allow_non_tls: true\ntls {\n cert_file: c.pem\n key_file: \"k.pem\"\n ca_file: ca.pem\n \
         verify: true\n timeout: 0.5\n handshake_first: auto\n cipher_suites: []\n}\n\
         streaming { tls { client_cert: x, client_key: y, client_ca: z } }",
    );
    let expected = TlsSpec {
        cert_file: "c.pem".into(),
        key_file: "k.pem".into(),
        ca_file: Some("ca.pem".into()),
        client_certificates: ClientCertificates::Verified,
        timeout_ms: Some(500),
        order: HandshakeOrder::WaitMs(AUTO_WAIT_MS),
        is_plain_allowed: true,
    };
    assert_eq!(got.tls, Some(expected));
    assert_eq!(got.tls_there.files.cert_file, Some("x".into()));
    assert_eq!(got.tls_there.files.key_file, Some("y".into()));
    assert_eq!(got.tls_there.files.ca_file, Some("z".into()));
    for (text, order) in [
        ("true", HandshakeOrder::HandshakeFirst),
        ("false", HandshakeOrder::InfoFirst),
        ("\"300ms\"", HandshakeOrder::WaitMs(300)),
    ] {
        let got = options(&format!("tls {{ handshake_first: {text} }}"));
        assert_eq!(got.tls.map(|tls| tls.order), Some(order), "{text}");
    }
    assert_eq!(options("allow_non_tls: true").tls, None);
    check_error("tls { verfy: true }", "1:1: no such option: tls.verfy");
}

#[test]
fn keys_answers_and_users_by_certificate() {
    let key = "UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN";
    let got = options(&format!(
        "tls {{ verify_and_map: true }}\nauthorization {{ users [ {{user: \"a@b\", \
         permissions {{allow_responses: {{max: 5, expires: \"1m\"}}}}}}, {{nkey: {key}}} ] }}"
    ));
    let spec = got.authorization.unwrap();
    assert!(spec.has_certificate_users);
    assert_eq!((spec.users[0].password.as_str(), spec.keys[0].key.as_str()), ("", key));
    let responses = spec.users[0].permissions.as_ref().unwrap().responses;
    let expected = ResponseLimits { count_max: Some(5), expires_ms: Some(60_000) };
    assert_eq!(responses, Some(expected));
    let with = |text: &str| {
        let user = format!("{{user: a, password: b, permissions {{allow_responses: {text}}}}}");
        let spec = options(&format!("authorization {{ users [ {user} ] }}")).authorization.unwrap();
        spec.users[0].permissions.as_ref().unwrap().responses
    };
    assert_eq!(with("true"), Some(ResponseLimits::default()));
    assert_eq!(with("false"), None);
    let endless = ResponseLimits { count_max: None, expires_ms: None };
    assert_eq!(with("{max: -1, expires: \"-1\"}"), Some(endless));
    check_error(
        "authorization { users [ {user: a} ] }",
        "1:1: a user needs a name and a password, a token must not be empty",
    );
    check_error(
        &format!("authorization {{ users [ {{nkey: {key}, password: x}} ] }}"),
        "1:1: a user with an nkey has no name and no password",
    );
}

#[test]
fn users_tokens_and_permissions() {
    let got = options(
        "authorization {\n timeout: 0.5\n token: 53cret\n default_permissions { publish: x }\n \
         users = [\n  {user: ann, password: 53cret, allowed_connection_types: [\"STANDARD\"]}\n  \
         {username: bob, pass: 0123, permissions { pub { allow: [a, b.>], deny: a }, \
         sub: \"c q\" } }\n ]\n}\nno_auth_user: ann",
    );
    assert!(!format!("{got:?}").contains("53cret"));
    let spec = got.authorization.expect("there are users");
    assert_eq!((spec.timeout_ms, spec.token.as_deref()), (Some(500), Some("53cret")));
    assert_eq!(spec.no_auth_user.as_deref(), Some("ann"));
    let allow = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
    let only_x = RuleSpec { allow: allow(&["x"]), deny: Vec::new() };
    let default = PermissionSpec { publish: only_x, ..PermissionSpec::default() };
    assert_eq!(spec.default_permissions, Some(default));
    assert_eq!((spec.users[0].name.as_str(), &spec.users[0].permissions), ("ann", &None));
    let bob = PermissionSpec {
        publish: RuleSpec { allow: allow(&["a", "b.>"]), deny: vec!["a".to_owned()] },
        subscribe: RuleSpec { allow: allow(&["c q"]), deny: Vec::new() },
        responses: None,
    };
    assert_eq!((spec.users[1].password.as_str(), &spec.users[1].permissions), ("0123", &Some(bob)));
}

#[test]
fn users_that_make_no_sense_are_refused() {
    let empty = "a user needs a name and a password, a token must not be empty";
    check_error("authorization {\n users [\n {user: a} ] }", &format!("1:3: {empty}"));
    check_error("authorization {\n user: a }", &format!("1:2: {empty}"));
    check_error(
        "authorization {\n user: a, password: b, users [ {user: c, password: d} ] }",
        "1:2: one user and a list of users cannot stand together",
    );
    check_error("\nno_auth_user: x", "1:2: no_auth_user \"x\" is not among the users");
    check_error(
        "authorization { users [ {user: a, password: b,\n permissions { pub: \"a..b\" }} ] }",
        "1:2: \"a..b\" is no subject and no \"subject queue\"",
    );
    let user = "{user: a, password: b}";
    check_error(
        &format!("authorization {{ users [ {user}, {user} ] }}"),
        "1:1: user \"a\" is there twice",
    );
}

#[test]
fn a_login_on_the_command_line_takes_the_place_of_the_single_one() {
    let single = "authorization { user: a, password: b }";
    let spec = |line: &str, file: &str| {
        let parsed = read(line, &[file]).unwrap();
        let count = parsed.warnings.len();
        let spec = options_of(parsed).authorization.expect("somebody is asked");
        (spec.users.iter().map(|user| user.name.clone()).collect::<Vec<_>>(), spec.token, count)
    };
    assert_eq!(spec("-c %1", single), (vec!["a".to_owned()], None, 0));
    assert_eq!(spec("-c %1 -user c -pass d", single), (vec!["c".to_owned()], None, 0));
    assert_eq!(spec("-c %1", "authorization { token: t }").1.as_deref(), Some("t"));
    let list = "authorization { users [ {user: a, password: b} ] }";
    assert_eq!(spec("-c %1 -user c -pass d", list), (vec!["a".to_owned()], None, 1));
}

#[test]
fn the_streaming_login_is_for_another_nats_server() {
    let login = "username: me, password: 53cret";
    let got = options(&format!("{login}, nats_server_url: \"nats://a:1, nats://b\""));
    assert_eq!((got.login.user.as_str(), got.login.password.as_str()), ("me", "53cret"));
    assert_eq!((got.upstreams.len(), got.authorization), (2, None));
    let parsed = read("-c %1 -ns a -user you -pass x", &[login]).unwrap();
    assert_eq!(options_of(parsed).login.user, "you");
    let alone = read("-c %1", &[login]).unwrap();
    assert_eq!(alone.warnings.len(), 2);
    assert!(alone.warnings.concat().contains("username has no effect: "));
    assert_eq!(options_of(alone).authorization, None);
}

#[test]
fn a_login_at_another_nats_server_may_stand_in_a_file() {
    let login = |text: &str| options(&format!("nats_server_url: \"nats://a\"\n{text}")).login_file;
    assert_eq!(login("nkey_seed_file: a.nk"), Some(LoginFile::NkeySeed("a.nk".into())));
    let credentials = Some(LoginFile::Credentials("a.creds".into()));
    assert_eq!(login("credentials: a.creds"), credentials);
    assert_eq!(login("credentials: a.creds\nnkey_seed_file: a.nk"), credentials);
    assert_eq!(login("nkey_seed_file: a.nk\ncredentials: a.creds"), credentials);
    assert_eq!(login("nkey_seed_file: \"\""), None);
}

#[test]
fn channels_have_limits_of_their_own() {
    let got = options(
        "store_limits { mm: 5, channels {\n foo { max_msgs: 1, mb: 2KB, msu: 0, ma: \"1500us\" }\n \
         \"foo.>\": { max_msgs: -1, max_age: \"-1s\" }\n Foo.* { mi: \"1h\" } } }",
    );
    let general = ChannelLimits { messages_max: 5, ..ChannelLimits::default() };
    let rules = ChannelLimitRules::new(got.channel_limits, got.limit_rules);
    assert_eq!(rules.of("bar"), general);
    let foo = ChannelLimits {
        messages_max: 1,
        bytes_max: 2048,
        subscriptions_max: 0,
        age_ms_max: 2,
        ..general
    };
    assert_eq!(rules.of("foo"), foo);
    assert_eq!(rules.of("foo.bar"), ChannelLimits { messages_max: 0, ..general });
    assert_eq!(rules.of("Foo.bar"), ChannelLimits { inactivity_ms_max: 3_600_000, ..general });
    check_error(
        "limits { channels { foo..x {} } }",
        "1:1: foo..x: not a channel's name or pattern",
    );
    check_error(
        "limits { channels {\n a { mm: x } } }",
        "1:2: a.mm: not a size (such as 1048576, 64kb, 1mb)",
    );
}

#[test]
fn literal_channels_count_against_the_limit_of_channels() {
    let file =
        |max: u32| format!("limits {{ mc: {max}, channels {{ a {{}}, b {{}}, c.* {{}} }} }}");
    assert_eq!(options(&file(2)).limit_rules.len(), 3);
    assert_eq!(options(&file(0)).limit_rules.len(), 3);
    check_error(&file(1), "too many channels defined (2). The max channels limit is set to 1");
}

#[test]
fn a_check_says_that_all_is_valid() {
    assert_eq!(read("-c %1 -t", &["port: 1"]).unwrap().command, Command::Checked);
    assert_eq!(read("-t", &[]).unwrap().command, Command::Checked);
    assert_eq!(read("-t -c %1", &["prot: 1"]), Err("1:1: no such option: prot".to_owned()));
}

#[test]
fn partitioning_needs_channels() {
    let with = "nats_server_url: \"nats://h\"\npartitioning: true\n";
    let got = options(&format!("{with}store_limits {{ channels {{ a.b {{}}, \"c.>\" {{}} }} }}"));
    assert!(got.is_partitioned);
    assert_eq!(got.limit_rules.len(), 2);
    let error = read("-c %1", &[with]).unwrap_err();
    assert!(error.starts_with("partitioning needs this server's channels"), "{error}");
}

#[test]
fn headers_can_be_left_out() {
    assert!(!options("no_header_support: true").connections.has_headers);
    assert!(options("no_header_support: false").connections.has_headers);
}

/// A name with a line feed in it made two lines of an error, the second one as the file wanted it to be.
#[test]
fn an_error_about_a_name_of_two_lines_is_one_line() {
    check_error(
        "limits { channels { \"a\\nb\" {} } }",
        "1:1: a\\nb: not a channel's name or pattern",
    );
    let error = read("-c %1", &["include \"a\\nb\""]).unwrap_err();
    assert!(error.starts_with("1:1: cannot read a\\nb: "), "{error:?}");
}
