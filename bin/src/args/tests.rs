//! Whole command lines: every flag in every spelling, and every kind of refusal.

pub(crate) mod bench;
mod compatible;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use weirlog_net::auth::AuthorizationSpec;
use weirlog_net::front::upstream::UpstreamAddress;
use weirlog_net::sim::{FaultKind, FaultKinds};
use weirlog_net::tls::{ClientCertificates, TlsSpec};
use weirlog_net::upstream::Login;

use super::options::{
    CHANNELS_MAX_DEFAULT, ConnectionOptions, HeartbeatOptions, LameDuckOptions, ListenAddress,
    MonitorOptions, TlsClientOptions,
};
use super::*;
use crate::log::SyslogTarget;

fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

fn options(line: &[&str]) -> Options {
    let parsed = parse(words(line)).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    assert_eq!(parsed.warnings, Vec::<String>::new(), "{line:?}");
    match parsed.command {
        Command::Serve(options) => options,
        other => panic!("{line:?} gives {other:?}"),
    }
}

fn error(line: &[&str]) -> String {
    let text = parse(words(line)).expect_err(&format!("{line:?}")).to_string();
    assert!(!text.contains('\n'), "{text:?}");
    text
}

fn check_error(line: &[&str], expected: &str) {
    assert_eq!(error(line), expected, "{line:?}");
}

#[test]
fn defaults_are_those_of_the_reference_but_for_the_store() {
    let expected = Options {
        upstreams: Vec::new(),
        monitor: MonitorOptions::default(),
        advertised: None,
        cluster_id: "test-cluster".to_owned(),
        store: StoreKind::File,
        directory: PathBuf::from("./weirlog-data"),
        shards: None,
        cores: None,
        channels_max: CHANNELS_MAX_DEFAULT,
        channel_limits: weirlog_engine::types::ChannelLimits::default(),
        heartbeat: HeartbeatOptions {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            failures_max: 10,
        },
        is_durable_replaced: false,
        is_partitioned: false,
        listen: ListenAddress { host: "0.0.0.0".to_owned(), port: Some(4222) },
        server_name: None,
        pid_file: None,
        ports_directory: None,
        payload_bytes_max: 1 << 20,
        discover_prefix: "_STAN.discover".to_owned(),
        limit_rules: Vec::new(),
        connections: ConnectionOptions::default(),
        authorization: None,
        login: LoginOptions::default(),
        login_file: None,
        tls: None,
        tls_there: TlsClientOptions::default(),
        log: LogOptions::default(),
        lame_duck: LameDuckOptions {
            duration: Duration::from_secs(120),
            grace: Duration::from_secs(10),
        },
    };
    assert_eq!(options(&[]), expected);
    assert!(expected.limits_are_default());
    assert!(!options(&["-mc", "0"]).limits_are_default());
    assert!(!options(&["-ma", "1s"]).limits_are_default());
}

/// Who may connect with this login.
fn spec_of(login: &LoginOptions) -> Option<AuthorizationSpec> {
    files::FileAuthorization::default().with_login(login)
}

/// A change that a flag makes.
type Change = fn(&mut Options);

/// Names of one flag, a value, and what it must change in the default options.
const VALUE_FLAGS: [(&[&str], &str, Change); 41] = [
    (&["ns", "nats_server"], "nats://h", |o| {
        o.upstreams = vec![UpstreamAddress {
            host: "h".to_owned(),
            port: 4222,
            login: Login::Open,
            is_tls: false,
        }];
    }),
    (&["cid", "cluster_id"], "other", |o| o.cluster_id = "other".to_owned()),
    (&["st", "store"], "MEMory", |o| o.store = StoreKind::Memory),
    (&["dir"], "/data", |o| o.directory = PathBuf::from("/data")),
    (&["shards"], "64", |o| o.shards = Some(64)),
    (&["cores"], "3", |o| o.cores = Some(3)),
    (&["mc", "max_channels"], "0", |o| o.channels_max = 0),
    (&["msu", "max_subs"], "7", |o| o.channel_limits.subscriptions_max = 7),
    (&["mm", "max_msgs"], "0x10", |o| o.channel_limits.messages_max = 16),
    (&["mb", "max_bytes"], "2gb", |o| o.channel_limits.bytes_max = 2 << 30),
    (&["ma", "max_age"], "1m30s", |o| o.channel_limits.age_ms_max = 90_000),
    (&["mi", "max_inactivity"], "1.5h", |o| o.channel_limits.inactivity_ms_max = 5_400_000),
    (&["hbi", "hb_interval"], "100ms", |o| o.heartbeat.interval = Duration::from_millis(100)),
    (&["hbt", "hb_timeout"], "1s", |o| o.heartbeat.timeout = Duration::from_secs(1)),
    (&["hbf", "hb_fail_count"], "0", |o| o.heartbeat.failures_max = 0),
    (&["a", "addr", "net"], "[::1]", |o| o.listen.host = "::1".to_owned()),
    (&["p", "port"], "-1", |o| o.listen.port = None),
    (&["n", "name", "server_name"], "north", |o| o.server_name = Some("north".to_owned())),
    (&["P", "pid"], "/run/w.pid", |o| o.pid_file = Some(PathBuf::from("/run/w.pid"))),
    (&["ports_file_dir"], "/run", |o| o.ports_directory = Some(PathBuf::from("/run"))),
    (&["max_payload"], "8mb", |o| o.payload_bytes_max = 8 << 20),
    (&["port"], "1", |o| o.listen.port = Some(1)),
    (&["user"], "ann", |o| {
        o.login.user = "ann".to_owned();
        o.authorization = spec_of(&o.login);
    }),
    (&["pass"], "53cret", |o| {
        o.login.password = "53cret".to_owned();
        o.authorization = spec_of(&o.login);
    }),
    (&["auth"], "T", |o| {
        o.login.token = "T".to_owned();
        o.authorization = spec_of(&o.login);
    }),
    (&["log_format"], "JSON", |o| o.log.format = LogFormat::Json),
    (&["l", "log"], "/log", |o| o.log.file = Some(PathBuf::from("/log"))),
    (&["log_size_limit"], "1mb", |o| o.log.file_bytes_max = 1 << 20),
    (&["r", "remote_syslog"], "udp://h:514", |o| {
        o.log.syslog = Some(SyslogTarget::Udp("h:514".to_owned()));
    }),
    (&["m", "http_port"], "h:8222", |o| {
        o.monitor.http = Some(ListenAddress { host: "h".to_owned(), port: Some(8222) });
    }),
    (&["ms", "https_port"], "-1", |o| {
        o.monitor.https = Some(ListenAddress { host: "0.0.0.0".to_owned(), port: None });
    }),
    (&["client_advertise"], "h:4333", |o| {
        o.advertised = Some(ListenAddress { host: "h".to_owned(), port: Some(4333) });
    }),
    (&["max_traced_msg_len"], "64", |o| o.log.traced_bytes_max = 64),
    (&["lame_duck_duration"], "30s", |o| o.lame_duck.duration = Duration::from_secs(30)),
    (&["lame_duck_grace_period"], "1s", |o| o.lame_duck.grace = Duration::from_secs(1)),
    (&["tlscert"], "a.pem", |o| tls(o).cert_file = "a.pem".into()),
    (&["tlskey"], "a.pem", |o| tls(o).key_file = "a.pem".into()),
    (&["tlscacert"], "a.pem", |o| tls(o).ca_file = Some("a.pem".into())),
    (&["tls_client_cert"], "a.pem", |o| o.tls_there.files.cert_file = Some("a.pem".into())),
    (&["tls_client_key"], "a.pem", |o| o.tls_there.files.key_file = Some("a.pem".into())),
    (&["tls_client_cacert"], "a.pem", |o| o.tls_there.files.ca_file = Some("a.pem".into())),
];

fn tls(options: &mut Options) -> &mut TlsSpec {
    options.tls.get_or_insert_default()
}

const SWITCHES: [(&[&str], Change); 11] = [
    (&["tls"], |o| *tls(o) = TlsSpec::default()),
    (&["tlsverify"], |o| tls(o).client_certificates = ClientCertificates::Verified),
    (&["secure"], |o| o.tls_there.is_demanded = true),
    (&["s", "syslog"], |o| o.log.syslog = Some(SyslogTarget::Local)),
    (&["replace_durable"], |o| o.is_durable_replaced = true),
    (&["SD", "stan_debug"], |o| o.log.streaming.debug = true),
    (&["SV", "stan_trace"], |o| o.log.streaming.trace = true),
    (&["SDV"], |o| o.log.streaming = Verbosity { debug: true, trace: true }),
    (&["D", "debug"], |o| o.log.server.debug = true),
    (&["V", "trace", "VV"], |o| o.log.server.trace = true),
    (&["DV", "DVV"], |o| o.log.server = Verbosity { debug: true, trace: true }),
];

#[test]
fn every_flag_with_a_value_in_every_spelling() {
    for (names, value, change) in VALUE_FLAGS {
        let mut expected = options(&[]);
        change(&mut expected);
        for name in names {
            for dashes in ["-", "--"] {
                let flag = format!("{dashes}{name}");
                assert_eq!(options(&[&flag, value]), expected, "{flag} {value}");
                assert_eq!(options(&[&format!("{flag}={value}")]), expected, "{flag}={value}");
                assert_eq!(options(&["serve", &flag, value]), expected, "serve {flag} {value}");
            }
            check_error(
                &[&format!("-{name}")],
                &format!("-{name}: a value must follow (see weirlog --help)"),
            );
        }
    }
}

#[test]
fn every_switch_in_every_spelling() {
    for (names, change) in SWITCHES {
        let unchanged = options(&[]);
        let mut expected = unchanged.clone();
        change(&mut expected);
        for name in names {
            for dashes in ["-", "--"] {
                let flag = format!("{dashes}{name}");
                assert_eq!(options(&[&flag]), expected, "{flag}");
                for on in ["1", "t", "T", "true", "TRUE", "True"] {
                    assert_eq!(options(&[&format!("{flag}={on}")]), expected, "{flag}={on}");
                }
                for off in ["0", "f", "F", "false", "FALSE", "False"] {
                    assert_eq!(options(&[&format!("{flag}={off}")]), unchanged, "{flag}={off}");
                }
            }
            for bad in ["", "yes", "2"] {
                let expected = format!("-{name}: a switch is true or false: {bad:?}");
                check_error(&[&format!("--{name}={bad}")], &expected);
            }
            // A switch takes no value from the next word.
            check_error(
                &[&format!("-{name}"), "false"],
                "no such command: \"false\" (see weirlog --help)",
            );
        }
    }
    assert!(!options(&["-T=false"]).log.is_time_shown);
    assert!(!options(&["--logtime=0"]).log.is_time_shown);
    assert!(options(&["-T"]).log.is_time_shown);
}

#[test]
fn the_last_of_several_wins() {
    let got = options(&[
        "-mm",
        "1",
        "--max_msgs=2",
        "-mm=3",
        "-SD",
        "-SD=false",
        "-p",
        "1",
        "-port",
        "2",
    ]);
    assert_eq!(got.channel_limits.messages_max, 3);
    assert!(!got.log.streaming.debug);
    assert_eq!(got.listen.port, Some(2));
    assert_eq!(options(&["-mm", "1", "serve", "-mm", "2"]).channel_limits.messages_max, 2);
}

#[test]
fn values_may_look_like_flags_or_hold_anything() {
    assert_eq!(options(&["-dir", "-D"]).directory, PathBuf::from("-D"));
    assert_eq!(options(&["-dir=a=b"]).directory, PathBuf::from("a=b"));
    assert_eq!(options(&["-dir", "a b,c"]).directory, PathBuf::from("a b,c"));
    let raw = OsString::from_vec(vec![b'/', 0xff]);
    let parsed = parse([OsString::from("-dir"), raw.clone()]).unwrap();
    let Command::Serve(got) = parsed.command else { panic!("not served") };
    assert_eq!(got.directory, PathBuf::from(raw));
}

#[test]
fn commands() {
    let command = |line: &[&str]| parse(words(line)).unwrap().command;
    for line in [
        &["-h"][..],
        &["--help"],
        &["-help=true"],
        &["-h=1"],
        &["help"],
        &["-D", "-h", "-nonsense"],
        &["-clustered", "-h"],
        &["serve", "--help"],
    ] {
        assert_eq!(command(line), Command::Help, "{line:?}");
    }
    for line in [&["-v"][..], &["--version"], &["version"], &["-mm", "x", "-v"], &["-v=T"]] {
        assert_eq!(command(line), Command::Version, "{line:?}");
    }
    let to = |order, target| Command::Signal(SignalOptions { order, target });
    let one = to(SignalOrder::Quit, SignalTarget::Process(7));
    assert_eq!(command(&["-sl", "quit=7"]), one);
    assert_eq!(command(&["--signal=quit=7", "-P", "/run/w.pid"]), one);
    assert_eq!(command(&["-sl", "ldm"]), to(SignalOrder::LameDuck, SignalTarget::OnlyOne));
    let in_file = to(SignalOrder::LameDuck, SignalTarget::PidFile("/run/w.pid".into()));
    assert_eq!(command(&["-P", "/run/w.pid", "-sl", "ldm"]), in_file);
    check_error(&["-sl", "stop=0"], "-sl: a process id is at least 1: \"stop=0\"");
    assert!(version_line().starts_with("weirlog version 0."));
    check_error(&["sim", "x"], "unexpected argument: \"x\" (see weirlog --help)");
    check_error(&["-D", "sim"], "flags of sim must follow the word sim (see weirlog --help)");
    check_error(&["serve", "sim"], "unexpected argument: \"sim\" (see weirlog --help)");
    assert_eq!(command(&["verify", "./data"]), Command::Verify("./data".into()));
    assert_eq!(command(&["verify", "--", "-h"]), Command::Verify("-h".into()));
    assert_eq!(command(&["verify", "--help"]), Command::VerifyHelp);
    check_error(&["verify"], "verify: a store's directory must follow");
    assert_eq!(command(&["repair", "a", "b"]), Command::Repair("a".into(), "b".into()));
    assert_eq!(command(&["repair", "--help"]), Command::RepairHelp);
    let both = "repair: a store's directory and that of the new one must follow";
    check_error(&["repair"], both);
    check_error(&["repair", "a"], both);
    check_error(&["repair", "a", "b", "c"], "unexpected argument: \"c\" (see weirlog --help)");
    check_error(&["verify", "a", "b"], "unexpected argument: \"b\" (see weirlog --help)");
    check_error(
        &["-D", "verify"],
        "flags of verify must follow the word verify (see weirlog --help)",
    );
    check_error(&["start"], "no such command: \"start\" (see weirlog --help)");
    check_error(&["-", "-mm"], "no such command: \"-\" (see weirlog --help)");
    check_error(&["--", "-mm"], "no such command: \"-mm\" (see weirlog --help)");
}

#[test]
fn flags_of_sim() {
    let command = |line: &[&str]| parse(words(line)).unwrap().command;
    let faults = FaultKinds::all();
    let sim = |seed, seeds, steps| {
        Command::Sim(SimOptions { seed, seeds, steps, faults, only: None, is_shrinking: true })
    };
    assert_eq!(command(&["sim"]), sim(None, 100, 10_000));
    assert_eq!(command(&["sim", "--seed", "0xff", "-steps=5"]), sim(Some(255), 100, 5));
    assert_eq!(command(&["--", "sim", "-seeds", "3"]), sim(None, 3, 10_000));
    let faults = faults.without(FaultKind::Power).without(FaultKind::Lag);
    let list = "c0:3,kill:42@53210123,end@60000000";
    let only = Some(list.parse().unwrap());
    let without =
        SimOptions { seed: Some(1), seeds: 100, steps: 10_000, faults, only, is_shrinking: false };
    let line = ["sim", "-seed", "1", "--without", "power,lag", "--only", list, "--shrink=false"];
    assert_eq!(command(&line), Command::Sim(without));
    check_error(
        &["sim", "-seed", "1", "--only", "c0"],
        "-only: not a list of operations and faults (such as c0:3,kill:42@53210123,end@60000000): \"c0\"",
    );
    check_error(&["sim", "--only", list], "-only needs -seed (see weirlog --help)");
    check_error(
        &["sim", "--without", "power,rain"],
        "-without: unknown fault, there are power, kill, stop, write-errors, read-errors, full-disk, \
         slow-disk, clock, cuts, lag, stalls, cores, limits, rot: \"power,rain\"",
    );
    assert_eq!(command(&["sim", "-h"]), Command::SimHelp);
    check_error(&["sim", "-mm", "1"], "flag provided but not defined: -mm (see weirlog --help)");
    check_error(&["sim", "-seeds", "0"], "-seeds: must be from 1 to 18446744073709551615: \"0\"");
}

#[test]
fn bad_words() {
    check_error(&["--xyz"], "flag provided but not defined: -xyz (see weirlog --help)");
    check_error(&["-xyz=1"], "flag provided but not defined: -xyz (see weirlog --help)");
    check_error(&["-a\nb"], "flag provided but not defined: -a\\nb (see weirlog --help)");
    // Neither prefixes nor another case will do.
    check_error(&["-max_msg", "1"], "flag provided but not defined: -max_msg (see weirlog --help)");
    check_error(&["-CID", "1"], "flag provided but not defined: -CID (see weirlog --help)");
    check_error(&["-mm5"], "flag provided but not defined: -mm5 (see weirlog --help)");
    check_error(&["---mm", "5"], "not a flag: \"---mm\" (see weirlog --help)");
    check_error(&["-=5"], "not a flag: \"-=5\" (see weirlog --help)");
    let raw = OsString::from_vec(vec![b'-', 0xff]);
    assert!(matches!(parse([raw]), Err(ArgsError::UnknownFlag { .. })));
    let raw = OsString::from_vec(vec![0xff]);
    let refused = parse([OsString::from("-cid"), raw]).unwrap_err();
    assert_eq!(refused.to_string(), "-cid: not valid UTF-8: \"\u{fffd}\"");
}

#[test]
fn bad_values_name_the_flag_as_typed() {
    for name in ["mc", "max_channels", "msu", "max_subs", "mm", "max_msgs", "mb", "max_bytes"] {
        check_error(
            &[&format!("--{name}"), "-5"],
            &format!("-{name}: limit cannot be negative: \"-5\""),
        );
    }
    for name in ["ma", "max_age", "mi", "max_inactivity"] {
        check_error(
            &[&format!("-{name}=-5s")],
            &format!("-{name}: limit cannot be negative: \"-5s\""),
        );
    }
    check_error(&["-hbf", "-1"], "-hbf: limit cannot be negative: \"-1\"");
    check_error(&["-mm", "1", "-max_msgs", "x"], "-max_msgs: not a whole number: \"x\"");
    check_error(&["-mm", "1k"], "-mm: not a whole number: \"1k\"");
    check_error(&["-mb", "1x"], "-mb: not a size (such as 1048576, 64kb, 1mb): \"1x\"");
    check_error(&["-ma", "10"], "-ma: not a duration (such as 100ms, 30s, 1m30s, 1.5h, 0): \"10\"");
    check_error(&["-hbi", "0"], "-hbi: must be longer than 0: \"0\"");
    check_error(&["-hb_timeout", "-1s"], "-hb_timeout: must be longer than 0: \"-1s\"");
    check_error(&["-p", "70000"], "-p: must be from 1 to 65535: \"70000\"");
    check_error(&["--shards", "0"], "-shards: must be from 1 to 64: \"0\"");
    check_error(&["--shards", "65"], "-shards: must be from 1 to 64: \"65\"");
    check_error(&["--cores", "0"], "-cores: must be from 1 to 1024: \"0\"");
    check_error(&["--max_payload", "0"], "-max_payload: must be from 1 to 67108864: \"0\"");
    check_error(&["-st", "bolt"], "-st: unsupported store type, use file or memory: \"bolt\"");
    check_error(
        &["--store", "SQL"],
        "-store: not available: SQL stores, use file or memory: \"SQL\"",
    );
    check_error(&["-dir", ""], "-dir: must not be empty: \"\"");
    check_error(&["-P="], "-P: must not be empty: \"\"");
    check_error(
        &["-cid", "a b"],
        "-cid: must be a word that can stand in a subject: no blanks, no wildcards: \"a b\"",
    );
    check_error(&["-n", "a b"], "-n: must be a name without blanks: \"a b\"");
    check_error(&["-mm", "1\n2"], "-mm: not a whole number: \"1\\n2\"");
    check_error(&["-ns", "http://a"], "-ns: not a server (such as nats://host:4222): \"\"");
    check_error(&["-mm="], "-mm: not a whole number: \"\"");
}

#[test]
fn a_login_is_never_shown_and_an_empty_one_is_none() {
    let got = options(&["-user", "ann", "-pass", "53cret", "-auth", "53cret"]);
    assert!(!format!("{got:?}").contains("53cret"));
    assert_eq!(options(&["-user=", "-pass=", "-auth="]), options(&[]));
    assert_eq!(got.login.user, "ann");
}

#[test]
fn an_empty_file_name_is_none() {
    let line = ["-tlscert=", "-tlskey=", "-tlscacert=", "-tls_client_cert=", "-tls_client_key="];
    assert_eq!(options(&line), options(&[]));
}

#[test]
fn these_tables_cover_all_flags() {
    let mut tested: BTreeSet<&str> = [
        "T",
        "sl",
        "signal",
        "partitioning",
        "logtime",
        "h",
        "help",
        "v",
        "version",
        "t",
        "c",
        "config",
        "sc",
        "stan_config",
    ]
    .into();
    tested.extend(VALUE_FLAGS.iter().flat_map(|(names, ..)| names.iter()));
    tested.extend(SWITCHES.iter().flat_map(|(names, _)| names.iter()));
    tested.extend(compatible::MOOT.iter().filter_map(|(flag, _)| flag.split('=').next()));
    let refused = compatible::REFUSED.iter().flat_map(|(_, flags)| flags.split_whitespace());
    tested.extend(refused.filter_map(|flag| flag.split('=').next()));
    let mut known: BTreeSet<String> =
        super::compatible::names().map(|(name, _)| name.to_owned()).collect();
    for argument in ServeFlags::command().get_arguments() {
        let names = argument.get_long_and_visible_aliases().unwrap();
        known.extend(names.into_iter().map(str::to_owned));
    }
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(tested, known);
}

#[test]
fn clap_finds_no_fault_with_the_definitions() {
    ServeFlags::command().debug_assert();
    SimFlags::command().debug_assert();
}

#[test]
fn command_lines_in_use() {
    let line = "-p 4333 --store file --dir /data --max_msgs 0 --max_bytes 0 --max_channels 0";
    let got = options(&line.split(' ').collect::<Vec<_>>());
    assert_eq!((got.channels_max, got.channel_limits.bytes_max), (0, 0));
    assert_eq!(got.channel_limits.messages_max, 0);
    let line =
        "-cid test-cluster -a 127.0.0.1 -p 4333 -st file --dir d -mm 0 -mb 0 --file_sync=false";
    let parsed = parse(words(&line.split(' ').collect::<Vec<_>>())).unwrap();
    assert_eq!(
        parsed.warnings,
        ["-file_sync has no effect: every acknowledgement waits for the disk"]
    );
}
