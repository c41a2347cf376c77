//! The client protocol: any bytes, in one piece and cut in two, give the same operations and the
//! same error. The first two bytes say where to cut, the rest is what the client sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weirlog_net::nats::op::Op;
use weirlog_net::nats::parse::{ParseError, ParseLimits, Parsed, parse};

/// Small, so that the fuzzer meets them with short inputs.
const LIMITS: ParseLimits = ParseLimits { control_line_bytes_max: 64, payload_bytes_max: 100, has_headers: true };

fuzz_target!(|data: &[u8]| {
    let Some((cut, input)) = data.split_first_chunk::<2>() else {
        return;
    };
    let cut = usize::from(u16::from_le_bytes(*cut)) % (input.len() + 1);
    let early = &input[..cut];

    let whole = operations(input);
    let mut pieces = operations(early);
    if pieces.error.is_none() {
        // What a server does: keep what was not consumed, append what arrives, ask again.
        let rest = operations(&input[pieces.consumed..]);
        pieces.ops.extend(rest.ops);
        pieces.error = rest.error;
        pieces.consumed += rest.consumed;
    }
    assert_eq!(whole, pieces, "cut at {cut}");

    if let Ok(Parsed::Incomplete { needed }) = parse(early, &LIMITS) {
        assert!(needed > early.len());
        let not_enough = &input[..input.len().min(needed - 1)];
        assert!(matches!(parse(not_enough, &LIMITS), Ok(Parsed::Incomplete { .. })));
    }
});

#[derive(Debug, PartialEq, Eq)]
struct Operations<'a> {
    ops: Vec<Op<'a>>,
    consumed: usize,
    error: Option<ParseError>,
}

/// The operations at the start of `input`, up to an incomplete one or an error.
fn operations(input: &[u8]) -> Operations<'_> {
    let mut all = Operations { ops: Vec::new(), consumed: 0, error: None };
    loop {
        let rest = &input[all.consumed..];
        match parse(rest, &LIMITS) {
            Ok(Parsed::Op { op, consumed }) => {
                assert!(consumed > 0);
                assert!(consumed <= rest.len());
                if let Op::HPub { headers, payload, block, .. } = op {
                    assert_eq!([headers, payload].concat(), block);
                }
                all.ops.push(op);
                all.consumed += consumed;
            }
            Ok(Parsed::Incomplete { needed }) => {
                assert!(needed > rest.len());
                return all;
            }
            Err(error) => {
                all.error = Some(error);
                return all;
            }
        }
    }
}
