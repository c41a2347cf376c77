//! Configuration files that are right, changed at random: whatever becomes of them is understood or refused in one line
//! that names the place, and nothing panics. The fuzz target `options` looks for the same with
//! coverage; this runs with each test.

use std::io::ErrorKind;
use std::path::Path;

use fastrand::Rng;
use weirlog_engine::limits::{ChannelLimitRules, LimitRule};
use weirlog_net::auth::Authorization;
use weirlog_net::conf::Outside;
use weirlog_net::partition::Partition;

use crate::args::{ArgsError, Command, Options, Parsed, parse_with};

/// Changed files of each text.
const ROUNDS: u32 = 700;
/// Changes of one file at most: with more hardly any gets behind its syntax.
const CHANGES_MAX: u32 = 3;

/// Right as they are; the seeds of the fuzz target have a command line before them.
const FILES: [&str; 4] = [
    include_str!("../../../../fuzz/corpus/options/seed-one-file"),
    include_str!("../../../../fuzz/corpus/options/seed-upstream"),
    "store_limits { channels { \"a.*\" { max_msgs: 1, max_age: '1h' }, b {} } }\npartitioning: yes\n\
     nats_server: 'nats://ann:pw@a'\nusername: ann\npassword: pw\ntoken: pw",
    "authorization { user: ann, pass: pw, timeout: 0.5, permissions { sub: [\"a q\"], publish: { deny: x } } }\n\
     tls { cert_file: c, key_file: k, verify_and_map: on }\nhttps: 'localhost:8223'\nport: -1",
];

/// Put in places of words and values.
const WORDS: &[&str] = &[
    "-1",
    "0",
    "0x",
    "-0x1",
    "1_000",
    "18446744073709551616",
    "9223372036854775807",
    "1e9",
    "8eb",
    "-8EB",
    "1kµ",
    "µ",
    "1h",
    "-1ns",
    ".s",
    "2562047h48m",
    "99999999999999999999s",
    "''",
    "\"\\n\"",
    "\"a\\nb\"",
    "\u{fffd}",
    "$HOME",
    "$",
    "$2a$",
    "true",
    "off",
    "[]",
    "{}",
    "[[1], {a: b}]",
    "{ user: u, password: pw }",
    "()",
    "(\nx\n)",
    ">",
    "a.>.b",
    "*",
    "a b",
    ":",
    "[::1]:4222",
    ":::",
    "nats://@:0",
    "tls://u:pw@h",
    "%ff@a",
    "include x",
    "streaming",
    "user",
    "channels",
    "nkey: U",
    "#",
    "//",
];

#[test]
fn a_changed_file_is_understood_or_refused_in_one_line() {
    let (mut understood, mut refused) = (0, 0);
    for (number, text) in (0..).zip(FILES) {
        let text = text.strip_prefix("-c f\n").unwrap_or(text);
        let text = text.strip_prefix("-sc f -p -1\n").unwrap_or(text);
        assert!(check(text).is_ok(), "{text}");
        for round in 0..ROUNDS {
            let seed = number << 32 | u64::from(round);
            let mut rng = Rng::with_seed(seed);
            let mut changed = text.to_owned();
            for _ in 0..rng.u32(1..=CHANGES_MAX) {
                change(&mut changed, &mut rng);
            }
            match std::panic::catch_unwind(|| check(&changed)) {
                Ok(Ok(())) => understood += 1,
                Ok(Err(())) => refused += 1,
                Err(_) => panic!("seed {seed:#x}: {changed}"),
            }
        }
    }
    // Changes that leave nothing right, or nothing wrong, would show little.
    assert!(understood > 200, "{understood} of {refused}");
    assert!(refused > 200, "{refused} of {understood}");
}

/// Reads a file with this text; an error: it was refused.
fn check(text: &str) -> Result<(), ()> {
    let read = |file: &Path| match file == Path::new("f") {
        true => Ok(text.to_owned()),
        false => Err(ErrorKind::NotFound.into()),
    };
    let outside = Outside { read: &read, variable: &|name| Some(name.to_owned()) };
    match parse_with(["-c", "f"].map(Into::into), outside) {
        Ok(Parsed { command, warnings }) => {
            warnings.iter().for_each(|warning| check_line(warning));
            if let Command::Serve(options) = command {
                check_options(options);
            }
            Ok(())
        }
        Err(error) => {
            check_line(&error.to_string());
            if let ArgsError::File(error) = &error {
                assert!(error.to_string().starts_with("f:"), "{error}");
            }
            Err(())
        }
    }
}

fn check_line(line: &str) {
    assert!(!line.contains('\n'), "{line:?}");
}

/// What the start makes of options, and believes to have been checked here.
fn check_options(options: Options) {
    if let Some(spec) = &options.authorization {
        assert!(Authorization::new(spec).is_ok());
    }
    let _ = Partition::new(options.limit_rules.iter().map(LimitRule::pattern_text).collect());
    let _ = ChannelLimitRules::new(options.channel_limits, options.limit_rules);
}

/// One change, which leaves text. Half of them leave the syntax as it is.
fn change(text: &mut String, rng: &mut Rng) {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut some = || *rng.choice(&places).expect("there is the end");
    let (from, other) = (some(), some());
    let word_end = |from: usize| {
        let rest = &text[from..];
        from + rest.find(|c: char| c.is_whitespace() || ",;{}[]:".contains(c)).unwrap_or(rest.len())
    };
    let line_start = text[..from].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[from..].find('\n').map_or(text.len(), |length| from + length + 1);
    let word = WORDS[rng.usize(..WORDS.len())];
    match rng.u8(..10) {
        0 => text.insert_str(from, word),
        1 | 2 => text.replace_range(from..word_end(from), word),
        3 => {
            let copied = text[other..word_end(other)].to_owned();
            text.replace_range(from..word_end(from), &copied);
        }
        4 => text.insert(from, char::from(rng.u8(..128))),
        5 => text.replace_range(line_start..line_end, ""),
        6 => {
            let line = text[line_start..line_end].to_owned();
            text.insert_str(line_start, &line);
        }
        7 => {
            let upper = text[from..word_end(from)].to_ascii_uppercase();
            text.replace_range(from..word_end(from), &upper);
        }
        _ => {
            if let Some(length) = text[from..].find(|c: char| c.is_ascii_digit()) {
                let digit = rng.u8(b'0'..=b'9');
                text.replace_range(from + length..=from + length, &char::from(digit).to_string());
            }
        }
    }
}
