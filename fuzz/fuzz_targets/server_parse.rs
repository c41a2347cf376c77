//! The protocol as another NATS server speaks it to us (`-ns`): any bytes, in one piece and cut in two, give the same
//! operations and the same error. The first two bytes say where to cut, the rest is what the server sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weirlog_net::nats::parse::{ParseError, ParseLimits, Parsed};
use weirlog_net::nats::server_op::{ServerOp, parse_server};

/// Small, so that the fuzzer meets them with short inputs.
const LIMITS: ParseLimits =
    ParseLimits { control_line_bytes_max: 64, payload_bytes_max: 100, has_headers: true };

fuzz_target!(|data: &[u8]| {
    let Some((cut, input)) = data.split_first_chunk::<2>() else {
        return;
    };
    let cut = usize::from(u16::from_le_bytes(*cut)) % (input.len() + 1);

    let whole = operations(input);
    let mut pieces = operations(&input[..cut]);
    if pieces.error.is_none() {
        // What the edge does: keep what was not consumed, append what arrives, ask again.
        let rest = operations(&input[pieces.consumed..]);
        pieces.ops.extend(rest.ops);
        pieces.error = rest.error;
        pieces.consumed += rest.consumed;
    }
    assert_eq!(whole, pieces, "cut at {cut}");
});

#[derive(Debug, PartialEq, Eq)]
struct Operations<'a> {
    ops: Vec<ServerOp<'a>>,
    consumed: usize,
    error: Option<ParseError>,
}

/// The operations at the start of `input`, up to an incomplete one or an error.
fn operations(input: &[u8]) -> Operations<'_> {
    let mut all = Operations { ops: Vec::new(), consumed: 0, error: None };
    loop {
        let rest = &input[all.consumed..];
        match parse_server(rest, &LIMITS) {
            Ok(Parsed::Op { op, consumed }) => {
                assert!(0 < consumed && consumed <= rest.len());
                if let ServerOp::Msg { header_bytes, block, .. } = op {
                    assert!(header_bytes.unwrap_or(0) <= block.len());
                    assert!(block.len() <= LIMITS.payload_bytes_max);
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
