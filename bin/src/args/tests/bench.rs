//! The loads of `weirlog bench`.

use super::*;

/// A load as `weirlog bench` alone runs it.
pub(crate) fn bench_options() -> BenchOptions {
    BenchOptions {
        server: "127.0.0.1:4222".to_owned(),
        cluster_id: "test-cluster".to_owned(),
        publishers: 4,
        subscribers: 0,
        idle: 0,
        channels: 1,
        prefix: "bench".to_owned(),
        messages: 800_000,
        size_bytes: 128,
        window: 16_384,
        messages_per_second: 0,
        start: BenchStart::New,
        in_flight_max: 1024,
        is_durable: false,
        hold: Duration::from_secs(10),
        timeout: Duration::from_secs(120),
        process: None,
        is_json: false,
        append: None,
        help: false,
    }
}

#[test]
fn a_load_is_what_its_flags_say() {
    let line = "bench -s nats://host:1/ -cid c -pub 1 -sub 2 -idle 3 -channels 4 -prefix p -n 5 -size 1kb -window 6 \
                -rate 7 -start spread -in_flight 8 -durable -hold 1s -timeout 2s -pid 9 -json -append f";
    let line: Vec<&str> = line.split_whitespace().collect();
    let wanted = BenchOptions {
        server: "host:1".to_owned(),
        cluster_id: "c".to_owned(),
        publishers: 1,
        subscribers: 2,
        idle: 3,
        channels: 4,
        prefix: "p".to_owned(),
        messages: 5,
        size_bytes: 1024,
        window: 6,
        messages_per_second: 7,
        start: BenchStart::Spread,
        in_flight_max: 8,
        is_durable: true,
        hold: Duration::from_secs(1),
        timeout: Duration::from_secs(2),
        process: Some(9),
        is_json: true,
        append: Some("f".into()),
        help: false,
    };
    assert_eq!(parse(words(&line)).unwrap().command, Command::Bench(wanted));
}

#[test]
fn a_load_has_a_command_of_its_own() {
    let command = |line: &[&str]| parse(words(line)).unwrap().command;
    assert_eq!(command(&["bench"]), Command::Bench(bench_options()));
    assert_eq!(command(&["bench", "--help"]), Command::BenchHelp);
    check_error(&["bench", "-s", "host"], "-s: not a server (such as nats://host:4222): \"host\"");
    check_error(
        &["bench", "-start", "last"],
        "-start: not a place to start at, use new, first or spread: \"last\"",
    );
    check_error(&["-D", "bench"], "flags of bench must follow the word bench (see weirlog --help)");
}
