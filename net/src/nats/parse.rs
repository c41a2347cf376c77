//! Bytes of a client into one [`Op`] at a time, by a nom grammar over the read buffer.
//!
//! ```text
//! op      = name arguments [payload]            name: any case, nothing before it
//! line    = blanks arguments ["\r"] "\n"        blanks: spaces and tabs
//! payload = size bytes "\r\n"                   exactly: no bare line feed
//! ```
//!
//! The parser keeps no state: the caller appends to its buffer and asks again, but not before it
//! holds the `needed` bytes of [`Parsed::Incomplete`]. So a payload that comes in a thousand reads
//! is looked at three times at most once its control line is whole, and an unfinished control line
//! is at most twice `control_line_bytes_max` long, its blanks and its arguments: beyond that is an
//! error, however much is still to come. A wrong letter in a name, a line too long and a payload
//! that ends wrongly are reported at their first wrong byte; arguments when their line is whole.
//!
//! It never allocates, never panics, and never trusts a size that is not below its maximum.
//! Where nats-server has no bound this parser has one: blanks before the arguments, and what
//! follows `PING`, `PONG` and `+OK`, are held to the maximum of a control line too.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use nom::branch::alt;
use nom::bytes::complete::take_until;
use nom::bytes::streaming;
use nom::character::complete::space0;
use nom::combinator::{all_consuming, opt};
use nom::error::ErrorKind;
use nom::sequence::{preceded, terminated};
use nom::{Err, IResult, Needed, Parser};

use super::op::Op;

#[cfg(test)]
mod tests;

/// The sizes a client is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseLimits {
    /// The arguments of a control line, without the operation's name and the line's end.
    pub control_line_bytes_max: usize,
    /// A message, its headers included. A size has at most nine digits, whatever this says.
    pub payload_bytes_max: usize,
    /// Whether the client may send headers: if not, its HPUB is malformed.
    pub has_headers: bool,
}

impl Default for ParseLimits {
    /// Those of nats-server.
    fn default() -> Self {
        Self { control_line_bytes_max: 4096, payload_bytes_max: 1 << 20, has_headers: true }
    }
}

/// What the buffer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole operation.
    Op {
        /// The operation.
        op: T,
        /// How many bytes it took.
        consumed: usize,
    },
    /// The beginning of one, without fault so far.
    Incomplete {
        /// The least length of the buffer with which it makes sense to ask again: more than it has
        /// now. With any less it is still incomplete, and without fault.
        needed: usize,
    },
}

/// Why the connection has to be closed: none of these can be recovered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No such operation, or a payload that does not end where it should.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// A control line longer than its maximum.
    #[error("control line too long")]
    ControlLine,
    /// A message larger than its maximum.
    #[error("payload too large")]
    Payload,
    /// Wrong arguments: their number, or a size.
    #[error("malformed arguments")]
    Malformed,
}

impl ParseError {
    /// The text of the `-ERR` to be sent before closing; none: close without a word.
    #[must_use]
    pub fn error_text(&self) -> Option<&'static str> {
        match self {
            Self::UnknownOperation => Some("Unknown Protocol Operation"),
            Self::ControlLine => Some("maximum control line exceeded"),
            Self::Payload => Some("Maximum Payload Violation"),
            Self::Malformed => None,
        }
    }
}

/// What a combinator does not recognise is an unknown operation, unless its caller knows better.
impl<'a> nom::error::ParseError<&'a [u8]> for ParseError {
    fn from_error_kind(_input: &'a [u8], _kind: ErrorKind) -> Self {
        Self::UnknownOperation
    }

    fn append(_input: &'a [u8], _kind: ErrorKind, other: Self) -> Self {
        other
    }
}

/// A step of the grammar over the read buffer.
pub(super) type Step<'a, T> = IResult<&'a [u8], T, ParseError>;

/// The first operation in `input`, which begins where the last one ended.
///
/// # Errors
/// [`ParseError`]: the connection is to be closed.
#[inline]
pub fn parse<'a>(input: &'a [u8], limits: &ParseLimits) -> Result<Parsed<Op<'a>>, ParseError> {
    parsed(input, operation(input, limits))
}

/// What a step over the whole of `input` has come to.
pub(super) fn parsed<'a, T>(input: &'a [u8], step: Step<'a, T>) -> Result<Parsed<T>, ParseError> {
    match step {
        Ok((rest, op)) => Ok(Parsed::Op { op, consumed: input.len() - rest.len() }),
        Err(Err::Incomplete(Needed::Size(more))) => {
            Ok(Parsed::Incomplete { needed: input.len() + more.get() })
        }
        Err(Err::Incomplete(Needed::Unknown)) => Ok(Parsed::Incomplete { needed: input.len() + 1 }),
        Err(Err::Error(error) | Err::Failure(error)) => Err(error),
    }
}

/// Chooses by the first letter, so that the common operations compare one name only.
fn operation<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, Op<'a>> {
    let Some(first) = input.first() else {
        return Err(Err::Incomplete(Needed::new(1)));
    };
    match first {
        b'P' | b'p' => alt((
            |input| publish(input, limits),
            |input| bare("PING", Op::Ping, input, limits),
            |input| bare("PONG", Op::Pong, input, limits),
        ))
        .parse(input),
        b'H' | b'h' => publish_with_headers(input, limits),
        b'S' | b's' => subscribe(input, limits),
        b'U' | b'u' => unsubscribe(input, limits),
        b'C' | b'c' => connect(input, limits),
        b'I' | b'i' => bare("INFO", Op::Info, input, limits),
        b'+' => bare("+OK", Op::Ok, input, limits),
        b'-' => error(input, limits),
        _ => Err(Err::Error(ParseError::UnknownOperation)),
    }
}

fn publish<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, Op<'a>> {
    let (input, _) = name("PUB", input)?;
    let (input, line) = arguments(input, limits)?;
    let (subject, second, third) =
        fields(line, (token, preceded(space0, token), opt(preceded(space0, token))))?;
    let (reply, size) = third.map_or((None, second), |third| (Some(second), third));
    let size = payload_size(size, limits)?;
    let (rest, payload) = payload(input, size)?;
    Ok((rest, Op::Pub { subject, reply, payload }))
}

fn publish_with_headers<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, Op<'a>> {
    let (input, _) = name("HPUB", input)?;
    let (input, line) = arguments(input, limits)?;
    if !limits.has_headers {
        return Err(MALFORMED);
    }
    let next = || preceded(space0, token);
    let (subject, second, third, fourth) = fields(line, (token, next(), next(), opt(next())))?;
    let (reply, headers_size, total_size) =
        fourth.map_or((None, second, third), |fourth| (Some(second), third, fourth));
    let headers_size = number(headers_size).ok_or(MALFORMED)?;
    // The sizes are compared before the maximum is: headers beyond their message are closed upon
    // without a word, however large both are.
    if number(total_size).is_none_or(|total| headers_size > total) {
        return Err(MALFORMED);
    }
    let total_size = payload_size(total_size, limits)?;
    let (rest, block) = payload(input, total_size)?;
    let (headers, payload) = block.split_at_checked(headers_size).ok_or(MALFORMED)?;
    Ok((rest, Op::HPub { subject, reply, headers, payload, block }))
}

fn subscribe<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, Op<'a>> {
    let (input, _) = name("SUB", input)?;
    let (rest, line) = arguments(input, limits)?;
    let (subject, second, third) =
        fields(line, (token, preceded(space0, token), opt(preceded(space0, token))))?;
    let (queue, sid) = third.map_or((None, second), |third| (Some(second), third));
    Ok((rest, Op::Sub { subject, queue, sid }))
}

fn unsubscribe<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, Op<'a>> {
    let (input, _) = name("UNSUB", input)?;
    let (rest, line) = arguments(input, limits)?;
    let (sid, max) = fields(line, (token, opt(preceded(space0, token))))?;
    // A maximum that is no number counts as none, as with nats-server: the subscription ends.
    let max = max.and_then(number).and_then(|max| u64::try_from(max).ok());
    Ok((rest, Op::Unsub { sid, max }))
}

/// The JSON may follow the name without a blank.
fn connect<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, Op<'a>> {
    let (input, _) = name("CONNECT", input)?;
    let (rest, json) = control_line(input, limits)?;
    Ok((rest, Op::Connect(json)))
}

fn error<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, Op<'a>> {
    let (input, _) = name("-ERR", input)?;
    let (rest, text) = arguments(input, limits)?;
    Ok((rest, Op::Err(text)))
}

/// An operation whose line says no more than its name: what follows is skipped.
pub(super) fn bare<'a, T>(
    text: &'static str,
    op: T,
    input: &'a [u8],
    limits: &ParseLimits,
) -> Step<'a, T> {
    let (input, _) = name(text, input)?;
    let (rest, _) = control_line(input, limits)?;
    Ok((rest, op))
}

/// The operation's name. Streaming: a part of it is incomplete, a wrong letter is an error at once.
pub(super) fn name<'a>(text: &'static str, input: &'a [u8]) -> Step<'a, &'a [u8]> {
    match streaming::tag_no_case(text).parse(input) {
        // Not all that is missing of the name: its next letter may be wrong already.
        Err(Err::Incomplete(_)) => Err(Err::Incomplete(Needed::new(1))),
        other => other,
    }
}

/// A control line whose name has to be followed by a blank.
pub(super) fn arguments<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, &'a [u8]> {
    match input.first() {
        Some(b' ' | b'\t') => control_line(input, limits),
        Some(_) => Err(Err::Error(ParseError::UnknownOperation)),
        None => Err(Err::Incomplete(Needed::new(1))),
    }
}

/// The rest of a control line without the blanks before it and the end of it, held to its maximum
/// also while it is incomplete.
pub(super) fn control_line<'a>(input: &'a [u8], limits: &ParseLimits) -> Step<'a, &'a [u8]> {
    let line_bytes_max = limits.control_line_bytes_max;
    let (body, blanks) = space0(input)?;
    if blanks.len() > line_bytes_max {
        return Err(Err::Failure(ParseError::ControlLine));
    }
    // No further than a line may reach: a long buffer without a line feed is not searched whole.
    let window = body.get(..line_bytes_max.saturating_add(2)).unwrap_or(body);
    let found: Step<'a, &'a [u8]> = take_until("\n").parse(window);
    let line = found.map_or(window, |(_, line)| line);
    let arguments = line.strip_suffix(b"\r").unwrap_or(line);
    if arguments.len() > line_bytes_max {
        return Err(Err::Failure(ParseError::ControlLine));
    }
    match body.get(line.len()..).and_then(<[u8]>::split_first) {
        Some((_, rest)) => Ok((rest, arguments)),
        None => Err(Err::Incomplete(Needed::new(1))),
    }
}

/// The fields of a line, all of it: trailing blanks are fine, one field too many is not.
pub(super) fn fields<'a, T>(
    line: &'a [u8],
    grammar: impl Parser<&'a [u8], Output = T, Error = ParseError>,
) -> Result<T, Err<ParseError>> {
    match all_consuming(terminated(grammar, space0)).parse(line) {
        Ok((_, fields)) => Ok(fields),
        Err(_) => Err(MALFORMED),
    }
}

/// One field. A blank never begins one, so two of them need no separator in the grammar but blanks.
pub(super) fn token(input: &[u8]) -> Step<'_, &[u8]> {
    match input.split_at_checked(blank_position(input)) {
        Some((token @ [_, ..], rest)) => Ok((rest, token)),
        // An error, not a failure: the field may be an optional one.
        _ => Err(Err::Error(ParseError::Malformed)),
    }
}

/// Where the first blank or tab is; without one, the length. Eight bytes a step: fields are most
/// of a control line, and each of its bytes is looked at here.
fn blank_position(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<WORD_BYTES>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zero_bytes(word ^ BLANKS) | zero_bytes(word ^ TABS);
        if found != 0 {
            // Little endian: the lowest mark is the first byte's.
            return index * WORD_BYTES + found.trailing_zeros() as usize / 8;
        }
    }
    let in_tail = tail.iter().position(|&byte| byte == b' ' || byte == b'\t');
    bytes.len() - tail.len() + in_tail.unwrap_or(tail.len())
}

/// The highest bit of each byte that is zero. A borrow may mark bytes above a zero one, never below
/// it: the lowest mark is right.
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & (LOW_BITS << 7)
}

/// A size that is a number and not above the maximum of a message.
pub(super) fn payload_size(digits: &[u8], limits: &ParseLimits) -> Result<usize, Err<ParseError>> {
    match number(digits) {
        None => Err(MALFORMED),
        Some(size) if size > limits.payload_bytes_max => Err(Err::Failure(ParseError::Payload)),
        Some(size) => Ok(size),
    }
}

/// Unsigned decimal digits, as many as can never overflow.
pub(super) fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > NUMBER_DIGITS_MAX {
        return None;
    }
    digits.iter().try_fold(0_usize, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + usize::from(digit))
    })
}

/// `size` bytes and the line end behind them.
pub(super) fn payload<'a>(input: &'a [u8], size: usize) -> Step<'a, &'a [u8]> {
    match input.split_at_checked(size) {
        Some((payload, [b'\r', b'\n', rest @ ..])) => Ok((rest, payload)),
        Some((_, [] | [b'\r'])) => Err(Err::Incomplete(Needed::new(1))),
        Some(_) => Err(Err::Failure(ParseError::UnknownOperation)),
        // With the first byte behind it, but no more: if that one is wrong, no other may follow.
        None => Err(Err::Incomplete(Needed::new(size - input.len() + 1))),
    }
}

pub(super) const MALFORMED: Err<ParseError> = Err::Failure(ParseError::Malformed);

/// nats-server's own maximum. Nine digits fit 32 bits, so that no sum of a size and a line wraps.
const NUMBER_DIGITS_MAX: usize = 9;

const WORD_BYTES: usize = 8;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const BLANKS: u64 = LOW_BITS * 0x20;
const TABS: u64 = LOW_BITS * 0x09;
