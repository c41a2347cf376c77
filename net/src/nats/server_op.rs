//! Bytes of a NATS server into one [`ServerOp`] at a time, for when this server is the client of another one. The
//! grammar, its bounds and its manners are those of [`super::parse`].

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use nom::character::complete::space0;
use nom::combinator::opt;
use nom::sequence::preceded;
use nom::{Err, Needed};

use super::parse::{
    MALFORMED, ParseError, ParseLimits, Parsed, Step, arguments, bare, fields, name, number,
    parsed, payload, payload_size, token,
};

/// One operation of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerOp<'a> {
    /// `INFO {json}`: not yet known to be JSON.
    Info(&'a [u8]),
    /// `MSG <subject> <sid> [reply] <size>` or HMSG with headers, and what follows.
    Msg {
        /// Where it was published to.
        subject: &'a [u8],
        /// Where an answer is awaited.
        reply: Option<&'a [u8]>,
        /// Length of the headers at the start of the block; none: an MSG.
        header_bytes: Option<usize>,
        /// Headers and payload.
        block: &'a [u8],
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR <text>`, the text with its quotes.
    Err(&'a [u8]),
}

/// The first operation in `input`, which begins where the last one ended.
///
/// # Errors
/// [`ParseError`]: the connection is to be closed.
pub fn parse_server<'a>(
    input: &'a [u8],
    limits: &ParseLimits,
) -> Result<Parsed<ServerOp<'a>>, ParseError> {
    parsed(input, operation(input, limits))
}

fn operation<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, ServerOp<'a>> {
    let second = input.get(1).map(u8::to_ascii_uppercase);
    match (input.first().map(u8::to_ascii_uppercase), second) {
        (None, _) | (Some(b'P'), None) => Err(Err::Incomplete(Needed::new(1))),
        (Some(b'M'), _) => message(input, limits),
        (Some(b'H'), _) => message_with_headers(input, limits),
        (Some(b'P'), Some(b'O')) => bare("PONG", ServerOp::Pong, input, limits),
        (Some(b'P'), _) => bare("PING", ServerOp::Ping, input, limits),
        (Some(b'+'), _) => bare("+OK", ServerOp::Ok, input, limits),
        (Some(b'I'), _) => {
            let (input, _) = name("INFO", input)?;
            let (rest, json) = arguments(input, limits)?;
            Ok((rest, ServerOp::Info(json)))
        }
        (Some(b'-'), _) => {
            let (input, _) = name("-ERR", input)?;
            let (rest, text) = arguments(input, limits)?;
            Ok((rest, ServerOp::Err(text)))
        }
        _ => Err(Err::Error(ParseError::UnknownOperation)),
    }
}

fn message<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, ServerOp<'a>> {
    let (input, _) = name("MSG", input)?;
    let (input, line) = arguments(input, limits)?;
    let next = || preceded(space0, token);
    let (subject, _sid, third, fourth) = fields(line, (token, next(), next(), opt(next())))?;
    let (reply, size) = fourth.map_or((None, third), |fourth| (Some(third), fourth));
    let (rest, block) = payload(input, payload_size(size, limits)?)?;
    Ok((rest, ServerOp::Msg { subject, reply, header_bytes: None, block }))
}

fn message_with_headers<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, ServerOp<'a>> {
    let (input, _) = name("HMSG", input)?;
    let (input, line) = arguments(input, limits)?;
    let next = || preceded(space0, token);
    let (subject, _sid, third, fourth, fifth) =
        fields(line, (token, next(), next(), next(), opt(next())))?;
    let (reply, header_size, size) =
        fifth.map_or((None, third, fourth), |fifth| (Some(third), fourth, fifth));
    let (rest, block) = payload(input, payload_size(size, limits)?)?;
    let header_bytes = number(header_size).filter(|size| *size <= block.len()).ok_or(MALFORMED)?;
    Ok((rest, ServerOp::Msg { subject, reply, header_bytes: Some(header_bytes), block }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(input: &str) -> Result<Parsed<ServerOp<'_>>, ParseError> {
        parse_server(input.as_bytes(), &ParseLimits::default())
    }

    #[test]
    fn what_servers_say() {
        let msg = |reply, header_bytes, block| ServerOp::Msg {
            subject: b"a.b",
            reply,
            header_bytes,
            block,
        };
        for (input, op) in [
            ("INFO {\"x\":1} \r\n", ServerOp::Info(b"{\"x\":1} ")),
            ("MSG a.b 1 2\r\nhi\r\n", msg(None, None, b"hi")),
            ("MSG a.b 1 r 0\r\n\r\n", msg(Some(b"r"), None, b"")),
            ("HMSG a.b 1 3 5\r\nxyzhi\r\n", msg(None, Some(3), b"xyzhi")),
            ("HMSG a.b 1 r 3 3\r\nxyz\r\n", msg(Some(b"r"), Some(3), b"xyz")),
            ("PING\r\n", ServerOp::Ping),
            ("PONG\r\n", ServerOp::Pong),
            ("+OK\r\n", ServerOp::Ok),
            ("-ERR 'no'\r\n", ServerOp::Err(b"'no'")),
        ] {
            assert_eq!(first(input), Ok(Parsed::Op { op, consumed: input.len() }), "{input:?}");
            for length in 0..input.len() {
                let part = first(&input[..length]);
                assert!(matches!(part, Ok(Parsed::Incomplete { .. })), "{:?}", &input[..length]);
            }
        }
    }

    #[test]
    fn nonsense_closes() {
        for input in
            ["SUB a 1\r\n", "MSG a 1\r\n", "HMSG a 1 9 5\r\nxyzhi\r\n", "MSG a 1 2\r\nhi!\r\n"]
        {
            assert!(first(input).is_err(), "{input:?}");
        }
    }
}
