//! The rules of the wire, one row each; then what must hold for any bytes: no panic, no byte taken
//! twice, and the same operations however the bytes are cut.

use super::*;

const LIMITS: ParseLimits =
    ParseLimits { control_line_bytes_max: 64, payload_bytes_max: 32, has_headers: true };

fn first(input: &[u8]) -> Result<Parsed<Op<'_>>, ParseError> {
    parse(input, &LIMITS)
}

fn pub_op<'a>(subject: &'a str, reply: Option<&'a str>, payload: &'a str) -> Op<'a> {
    let (subject, payload) = (subject.as_bytes(), payload.as_bytes());
    Op::Pub { subject, reply: reply.map(str::as_bytes), payload }
}

fn sub_op<'a>(subject: &'a str, queue: Option<&'a str>, sid: &'a str) -> Op<'a> {
    let (subject, sid) = (subject.as_bytes(), sid.as_bytes());
    Op::Sub { subject, queue: queue.map(str::as_bytes), sid }
}

fn unsub_op(sid: &str, max: Option<u64>) -> Op<'_> {
    Op::Unsub { sid: sid.as_bytes(), max }
}

fn hpub_op<'a>(
    subject: &'a str,
    reply: Option<&'a str>,
    block: &'a str,
    headers_bytes: usize,
) -> Op<'a> {
    let (headers, payload) = block.as_bytes().split_at(headers_bytes);
    let (subject, reply) = (subject.as_bytes(), reply.map(str::as_bytes));
    Op::HPub { subject, reply, headers, payload, block: block.as_bytes() }
}

/// Every valid form of every operation, whole, with its meaning.
fn valid() -> Vec<(&'static str, Op<'static>)> {
    vec![
        // The plain forms.
        ("PUB a 5\r\nhello\r\n", pub_op("a", None, "hello")),
        ("PUB a r 5\r\nhello\r\n", pub_op("a", Some("r"), "hello")),
        ("PUB a 0\r\n\r\n", pub_op("a", None, "")),
        ("HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", hpub_op("a", None, "NATS/1.0\r\n\r\nhi", 12)),
        ("HPUB a r 12 12\r\nNATS/1.0\r\n\r\n\r\n", hpub_op("a", Some("r"), "NATS/1.0\r\n\r\n", 12)),
        ("SUB a.* 1\r\n", sub_op("a.*", None, "1")),
        ("SUB a.> q 1\r\n", sub_op("a.>", Some("q"), "1")),
        ("UNSUB 1\r\n", unsub_op("1", None)),
        ("UNSUB 1 5\r\n", unsub_op("1", Some(5))),
        ("UNSUB 1 0\r\n", unsub_op("1", Some(0))),
        ("PING\r\n", Op::Ping),
        ("PONG\r\n", Op::Pong),
        ("CONNECT {\"verbose\":false}\r\n", Op::Connect(b"{\"verbose\":false}")),
        ("INFO {}\r\n", Op::Info),
        ("+OK\r\n", Op::Ok),
        ("-ERR 'x y'\r\n", Op::Err(b"'x y'")),
        // Names in any case.
        ("pub a 1\r\nx\r\n", pub_op("a", None, "x")),
        ("hPuB a 0 1\r\nx\r\n", hpub_op("a", None, "x", 0)),
        ("sUb a 1\r\n", sub_op("a", None, "1")),
        ("unsub 1\r\n", unsub_op("1", None)),
        ("pINg\r\n", Op::Ping),
        ("pOnG\r\n", Op::Pong),
        ("Connect {}\r\n", Op::Connect(b"{}")),
        ("info {}\r\n", Op::Info),
        ("+ok\r\n", Op::Ok),
        ("-err x\r\n", Op::Err(b"x")),
        // Blanks: several, tabs, trailing.
        ("PUB\t \ta  \t r\t1 \t\r\nx\r\n", pub_op("a", Some("r"), "x")),
        ("SUB  a  1  \r\n", sub_op("a", None, "1")),
        ("CONNECT\t {} \r\n", Op::Connect(b"{} ")),
        // A bare line feed ends a control line.
        ("PUB a 1\nx\r\n", pub_op("a", None, "x")),
        ("SUB a 1\n", sub_op("a", None, "1")),
        ("PING\n", Op::Ping),
        // A payload is opaque.
        ("PUB a 4\r\n\r\n\r\n\r\n", pub_op("a", None, "\r\n\r\n")),
        ("PUB a 6\r\nPING\r\n\r\n", pub_op("a", None, "PING\r\n")),
        // Headers are not looked at: junk, or none.
        ("HPUB a 5 5\r\njunk!\r\n", hpub_op("a", None, "junk!", 5)),
        ("HPUB a 0 0\r\n\r\n", hpub_op("a", None, "", 0)),
        // Without a blank, and with junk behind.
        ("CONNECT{}\r\n", Op::Connect(b"{}")),
        ("CONNECT\r\n", Op::Connect(b"")),
        ("CONNECT \r\n", Op::Connect(b"")),
        ("INFO\r\n", Op::Info),
        ("PINGpong\r\n", Op::Ping),
        ("PONG and more\r\n", Op::Pong),
        ("+OKAY\r\n", Op::Ok),
        ("-ERR \r\n", Op::Err(b"")),
        // Fields are opaque.
        ("SUB a..b\x00\x0c\u{e4}\r> 1\r\n", sub_op("a..b\x00\x0c\u{e4}\r>", None, "1")),
        ("SUB a sid-of.any*kind\r\n", sub_op("a", None, "sid-of.any*kind")),
        // Sizes: leading zeros, up to nine digits; of UNSUB, what is no number is none.
        ("PUB a 000000001\r\nx\r\n", pub_op("a", None, "x")),
        ("UNSUB 1 999999999\r\n", unsub_op("1", Some(999_999_999))),
        ("UNSUB 1 9999999999\r\n", unsub_op("1", None)),
        ("UNSUB 1 -1\r\n", unsub_op("1", None)),
        ("UNSUB 1 abc\r\n", unsub_op("1", None)),
    ]
}

#[test]
fn valid_operations() {
    for (input, op) in valid() {
        let consumed = input.len();
        assert_eq!(first(input.as_bytes()), Ok(Parsed::Op { op, consumed }), "{input:?}");
        // What follows belongs to the next operation, whatever it is.
        let followed = format!("{input}\0 no operation");
        assert_eq!(first(followed.as_bytes()), Ok(Parsed::Op { op, consumed }), "{followed:?}");
    }
}

fn check_errors(table: &[(&str, ParseError)]) {
    for (input, error) in table {
        assert_eq!(first(input.as_bytes()), Err(*error), "{input:?}");
    }
}

#[test]
fn unknown_operations() {
    use ParseError::UnknownOperation;
    check_errors(&[
        // Nothing may stand before an operation.
        ("\r\n", UnknownOperation),
        ("\n", UnknownOperation),
        (" PING\r\n", UnknownOperation),
        ("\tPING\r\n", UnknownOperation),
        // Strangers, and what only servers say; at their first wrong byte.
        ("GET / HTTP/1.1\r\n", UnknownOperation),
        ("\x16\x03\x01", UnknownOperation),
        ("MSG a 1 0\r\n\r\n", UnknownOperation),
        ("HMSG", UnknownOperation),
        ("RS+", UnknownOperation),
        ("A+", UnknownOperation),
        ("+A", UnknownOperation),
        ("PUX", UnknownOperation),
        ("PIM", UnknownOperation),
        ("CONNECX", UnknownOperation),
        // A name that needs a blank behind it.
        ("PUB\r\n", UnknownOperation),
        ("PUBa 1\r\n", UnknownOperation),
        ("HPUB\r\n", UnknownOperation),
        ("SUB\r\n", UnknownOperation),
        ("UNSUB\r\n", UnknownOperation),
        ("-ERR\r\n", UnknownOperation),
        ("-ERRx\r\n", UnknownOperation),
        // A payload that does not end where it should, at its first wrong byte.
        ("PUB a 1\r\nx\n", UnknownOperation),
        ("PUB a 1\r\nxy", UnknownOperation),
        ("PUB a 1\r\nx\rz", UnknownOperation),
        ("HPUB a 0 1\r\nx\n", UnknownOperation),
    ]);
}

#[test]
fn wrong_arguments() {
    use ParseError::{ControlLine, Malformed, Payload};
    let too_long = "a".repeat(65);
    let blanks = " ".repeat(65);
    check_errors(&[
        // The number of arguments.
        ("PUB \r\n", Malformed),
        ("PUB \n", Malformed),
        ("PUB a\r\n", Malformed),
        ("PUB 1\r\n", Malformed),
        ("PUB a b c 1\r\n", Malformed),
        ("HPUB \r\n", Malformed),
        ("HPUB a 5\r\n", Malformed),
        ("HPUB a b c 1 2\r\n", Malformed),
        ("SUB \r\n", Malformed),
        ("SUB a\r\n", Malformed),
        ("SUB a b c d\r\n", Malformed),
        ("UNSUB \r\n", Malformed),
        ("UNSUB 1 2 3\r\n", Malformed),
        // Sizes that are none.
        ("PUB a -1\r\n", Malformed),
        ("PUB a +1\r\n", Malformed),
        ("PUB a 0x10\r\n", Malformed),
        ("PUB a 1x\r\n", Malformed),
        ("PUB a 1\r\r\n", Malformed),
        ("PUB a 0000000001\r\n", Malformed),
        ("PUB a 9999999999\r\n", Malformed),
        ("PUB a 18446744073709551616\r\n", Malformed),
        ("HPUB a x 3\r\n", Malformed),
        ("HPUB a 3 x\r\n", Malformed),
        ("HPUB a 5 4\r\n", Malformed),
        ("HPUB a 34 33\r\n", Malformed),
        // Too large: known from the control line alone.
        ("PUB a 33\r\n", Payload),
        ("PUB a r 999999999\r\n", Payload),
        ("HPUB a 12 33\r\n", Payload),
        // Too long: known before the line ends, for every operation.
        (&format!("PUB {too_long}"), ControlLine),
        (&format!("PUB {too_long} 1\r\nx\r\n"), ControlLine),
        (&format!("HPUB {too_long}"), ControlLine),
        (&format!("SUB {too_long}"), ControlLine),
        (&format!("SUB {too_long}\r\n"), ControlLine),
        (&format!("UNSUB {too_long}"), ControlLine),
        (&format!("CONNECT {too_long}"), ControlLine),
        (&format!("CONNECT{too_long}"), ControlLine),
        (&format!("INFO {too_long}"), ControlLine),
        (&format!("PING{too_long}"), ControlLine),
        (&format!("-ERR {too_long}"), ControlLine),
        (&format!("SUB {blanks}"), ControlLine),
    ]);
}

#[test]
fn texts_of_the_errors() {
    assert_eq!(ParseError::UnknownOperation.error_text(), Some("Unknown Protocol Operation"));
    assert_eq!(ParseError::ControlLine.error_text(), Some("maximum control line exceeded"));
    assert_eq!(ParseError::Payload.error_text(), Some("Maximum Payload Violation"));
    assert_eq!(ParseError::Malformed.error_text(), None);
}

#[test]
fn a_line_of_the_maximum_is_fine_however_it_ends() {
    let subject = "a".repeat(62);
    for (blanks, end) in [(" ", "\r\n"), (" ", "\n"), (&*" ".repeat(64), "\r\n")] {
        let line = format!("SUB{blanks}{subject} 1{end}");
        let op = sub_op(&subject, None, "1");
        assert_eq!(first(line.as_bytes()), Ok(Parsed::Op { op, consumed: line.len() }));
        check_each_cut(line.as_bytes(), op);
    }
}

#[test]
fn the_default_limits_are_those_of_the_reference() {
    let limits = ParseLimits::default();
    for (subject_bytes, is_fine) in [(4094, true), (4095, false)] {
        let line = format!("SUB {} 1\r\n", "a".repeat(subject_bytes));
        assert_eq!(parse(line.as_bytes(), &limits).is_ok(), is_fine);
    }
    let incomplete = Parsed::Incomplete { needed: 15 + (1 << 20) + 1 };
    assert_eq!(parse(b"PUB a 1048576\r\n", &limits), Ok(incomplete));
    assert_eq!(parse(b"PUB a 1048577\r\n", &limits), Err(ParseError::Payload));
}

/// Each proper prefix is incomplete and promises no more than the whole needs.
fn check_each_cut(input: &[u8], op: Op<'_>) {
    for cut in 0..input.len() {
        match first(&input[..cut]) {
            Ok(Parsed::Incomplete { needed }) => {
                assert!(needed > cut, "{input:?} cut at {cut}: asks for nothing more");
                assert!(needed <= input.len(), "{input:?} cut at {cut}: asks for too much");
            }
            other => panic!("{input:?} cut at {cut}: {other:?}"),
        }
    }
    assert_eq!(first(input), Ok(Parsed::Op { op, consumed: input.len() }));
}

#[test]
fn each_operation_cut_at_each_byte_is_incomplete() {
    for (input, op) in valid() {
        check_each_cut(input.as_bytes(), op);
    }
}

#[test]
fn an_incomplete_payload_asks_for_all_of_it_at_once() {
    for (input, whole) in [("PUB a 20\r\n", 31), ("PUB a 20\r\nabc", 31), ("HPUB a 1 2\nx", 14)] {
        assert_eq!(first(input.as_bytes()), Ok(Parsed::Incomplete { needed: whole }), "{input:?}");
    }
}

/// The operations at the start of a buffer, the bytes they took, and what stopped it.
fn all(mut input: &[u8]) -> (Vec<Op<'_>>, usize, Option<ParseError>) {
    let (whole, mut ops) = (input.len(), Vec::new());
    loop {
        match first(input) {
            Ok(Parsed::Op { op, consumed }) => {
                assert!(consumed > 0);
                assert!(consumed <= input.len());
                ops.push(op);
                input = &input[consumed..];
            }
            Ok(Parsed::Incomplete { needed }) => {
                assert!(needed > input.len());
                return (ops, whole - input.len(), None);
            }
            Err(error) => return (ops, whole - input.len(), Some(error)),
        }
    }
}

/// What arrived first gives a beginning of the operations of the whole, and no error that the whole
/// does not give at the same place.
fn check_cut(input: &[u8], cut: usize) {
    let (ops, _, error) = all(input);
    if let Ok(Parsed::Incomplete { needed }) = first(&input[..cut]) {
        let not_enough = &input[..input.len().min(needed - 1)];
        let waits = matches!(first(not_enough), Ok(Parsed::Incomplete { .. }));
        assert!(waits, "{input:?}: {cut} bytes asked for {needed}");
    }
    let (early_ops, early_consumed, early_error) = all(&input[..cut]);
    let (late_ops, _, late_error) = match early_error {
        Some(_) => (Vec::new(), 0, early_error),
        None => all(&input[early_consumed..]),
    };
    assert_eq!(ops, [early_ops, late_ops].concat(), "{input:?} cut at {cut}");
    assert_eq!(error, late_error, "{input:?} cut at {cut}");
}

#[test]
fn random_bytes_and_damaged_operations_never_panic() {
    let seed = 0x5EED_0001;
    let mut random = fastrand::Rng::with_seed(seed);
    let valid = valid();
    println!("seed {seed:#x}");
    for _ in 0..20_000 {
        let mut input = Vec::new();
        for _ in 0..random.usize(1..5) {
            match random.u8(0..4) {
                0 => input.extend((0..random.usize(0..40)).map(|_| random.u8(..))),
                1 => {
                    let alphabet = b"PUBHSINGO \t\r\n0123456789a+-";
                    let letters = (0..random.usize(0..120)).map(|_| random.choice(alphabet));
                    input.extend(letters.flatten());
                }
                _ => input.extend(valid[random.usize(..valid.len())].0.bytes()),
            }
        }
        for _ in 0..random.usize(0..3) {
            if !input.is_empty() {
                let at = random.usize(..input.len());
                input[at] = random.u8(..);
            }
        }
        let cut = random.usize(..=input.len());
        check_cut(&input, cut);
    }
}

/// A caller that heeds `needed` looks at a payload a constant number of times, though it comes byte
/// by byte.
#[test]
fn a_payload_byte_by_byte_is_not_parsed_byte_by_byte() {
    let input = format!("PUB a 32\r\n{}\r\n", "x".repeat(32));
    let line = "PUB a 32\r\n".len();
    let (mut calls_after_line, mut needed) = (0, 0);
    for length in line..=input.len() {
        if length < needed {
            continue;
        }
        calls_after_line += 1;
        match first(&input.as_bytes()[..length]).unwrap() {
            Parsed::Incomplete { needed: more } => needed = more,
            Parsed::Op { consumed, .. } => assert_eq!(consumed, input.len()),
        }
    }
    assert_eq!(calls_after_line, 3);
}

/// Words of neighbours of blank and tab: a borrow between bytes must not find a blank too early.
#[test]
fn the_first_blank_is_found_wherever_it_is() {
    let seed = 0x5EED_0002;
    let mut random = fastrand::Rng::with_seed(seed);
    println!("seed {seed:#x}");
    let alphabet = [0x20, 0x09, 0x21, 0x08, 0x0a, 0x1f, 0xa0, 0x89, 0x00, 0xff, b'a', b'b', b'c'];
    for _ in 0..50_000 {
        let letters = (0..random.usize(0..28)).map(|_| random.choice(alphabet));
        let bytes: Vec<u8> = letters.flatten().collect();
        let naive = bytes.iter().position(|byte| matches!(byte, b' ' | b'\t'));
        assert_eq!(blank_position(&bytes), naive.unwrap_or(bytes.len()), "{bytes:?}");
    }
}
