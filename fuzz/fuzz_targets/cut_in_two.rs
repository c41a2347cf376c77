//! What both sides' parsers promise: any bytes, in one piece and cut in two, give the same operations and the same
//! error. The first two bytes of a fuzzer's input say where to cut.

use std::fmt::Debug;

use weirlog_net::nats::parse::{ParseError, ParseLimits, Parsed};

/// Small, so that the fuzzer meets them with short inputs.
pub(crate) const LIMITS: ParseLimits =
    ParseLimits { control_line_bytes_max: 64, payload_bytes_max: 100, has_headers: true };

#[derive(Debug, PartialEq, Eq)]
struct Operations<O> {
    ops: Vec<O>,
    consumed: usize,
    error: Option<ParseError>,
}

/// Checks it for one input. `look` checks an operation by itself.
pub(crate) fn check<'a, O: Debug + PartialEq>(
    data: &'a [u8],
    parse: impl Fn(&'a [u8]) -> Result<Parsed<O>, ParseError>,
    look: impl Fn(&O),
) {
    let Some((cut, input)) = data.split_first_chunk::<2>() else {
        return;
    };
    let cut = usize::from(u16::from_le_bytes(*cut)) % (input.len() + 1);
    let early = &input[..cut];

    let whole = operations(input, &parse, &look);
    let mut pieces = operations(early, &parse, &look);
    if pieces.error.is_none() {
        // What the edge does: keep what was not consumed, append what arrives, ask again.
        let rest = operations(&input[pieces.consumed..], &parse, &look);
        pieces.ops.extend(rest.ops);
        pieces.error = rest.error;
        pieces.consumed += rest.consumed;
    }
    assert_eq!(whole, pieces, "cut at {cut}");

    if let Ok(Parsed::Incomplete { needed }) = parse(early) {
        assert!(needed > early.len());
        let not_enough = &input[..input.len().min(needed - 1)];
        assert!(matches!(parse(not_enough), Ok(Parsed::Incomplete { .. })));
    }
}

/// The operations at the start of `input`, up to an incomplete one or an error.
fn operations<'a, O>(
    input: &'a [u8],
    parse: impl Fn(&'a [u8]) -> Result<Parsed<O>, ParseError>,
    look: impl Fn(&O),
) -> Operations<O> {
    let mut all = Operations { ops: Vec::new(), consumed: 0, error: None };
    loop {
        let rest = &input[all.consumed..];
        match parse(rest) {
            Ok(Parsed::Op { op, consumed }) => {
                assert!(consumed > 0);
                assert!(consumed <= rest.len());
                look(&op);
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
