//! What a client can say: one operation, its fields borrowed from the read buffer.
//!
//! Subjects, replies, queue groups and subscription ids are opaque bytes without blank, tab or line
//! feed. They need not be UTF-8 and may hold NUL or a bare carriage return: whoever gives a subject
//! a meaning has to check it.

/// One operation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// `INFO {json}`: only a server has something to announce, so a client's is ignored unread.
    Info,
    /// `CONNECT {json}`: the bytes are not yet known to be JSON, and may be empty.
    Connect(&'a [u8]),
    /// `PUB <subject> [reply] <size>` and its payload.
    Pub {
        /// Where to: taken literally, wildcards have no meaning here.
        subject: &'a [u8],
        /// Where an answer is awaited.
        reply: Option<&'a [u8]>,
        /// The message.
        payload: &'a [u8],
    },
    /// `HPUB <subject> [reply] <header size> <total size>`, its header block and its payload.
    HPub {
        /// Where to: taken literally, wildcards have no meaning here.
        subject: &'a [u8],
        /// Where an answer is awaited.
        reply: Option<&'a [u8]>,
        /// The header block, unchecked; a well-formed one ends with an empty line.
        headers: &'a [u8],
        /// The message behind the headers.
        payload: &'a [u8],
        /// Headers and payload in one piece, as they lie in the buffer.
        block: &'a [u8],
    },
    /// `SUB <subject> [queue group] <sid>`.
    Sub {
        /// The pattern.
        subject: &'a [u8],
        /// The queue group to share the messages with.
        queue: Option<&'a [u8]>,
        /// The client's own name for the subscription.
        sid: &'a [u8],
    },
    /// `UNSUB <sid> [max]`.
    Unsub {
        /// The subscription's name.
        sid: &'a [u8],
        /// Remove it after so many messages since the SUB; none, or 0: now.
        max: Option<u64>,
    },
    /// `PING`: to be answered in its place among the operations.
    Ping,
    /// `PONG`: the answer to a ping of ours.
    Pong,
    /// `+OK`: ignored.
    Ok,
    /// `-ERR <text>`: the client gives up; the text with its quotes.
    Err(&'a [u8]),
}
