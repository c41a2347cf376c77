//! Publish acks that wait for their commit, in order of the batch their messages are in. An ack is encoded when its
//! message is appended, as the line that goes to the publisher; consecutive acks of one connection and batch share a
//! buffer. So a commit releases whole buffers.

use std::collections::VecDeque;

use weirlog_engine::types::Index;

use super::wire::PubAck;
use crate::flow::Flow;
use crate::ids::{ConnectionId, CoreId};
use crate::nats::emit;

/// Buffers kept for the next waiters of a core.
const SPARE_COUNT_MAX: usize = 64;
/// A buffer of more than this is given back to the allocator.
const SPARE_SIZE_BYTES_MAX: usize = 256 << 10;

/// Who published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The connection's core.
    pub core: CoreId,
    /// The connection.
    pub connection: ConnectionId,
    /// Whether the lines go to the connection as they are; else each is routed by its subject.
    pub is_direct: bool,
}

/// Acks as they go to a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AckLines {
    /// MSG lines with their payloads.
    pub bytes: Vec<u8>,
    /// The same as messages.
    pub flow: Flow,
}

/// Acks of one connection for messages of one batch.
#[derive(Debug)]
pub struct Waiter {
    /// The batch.
    pub index: Index,
    /// Who gets them.
    pub origin: Origin,
    /// The acks.
    pub lines: AckLines,
    /// What the publishes count against the connection's credit.
    pub published_bytes: usize,
}

/// The waiters of one shard. Bounded by the credits of those who publish.
#[derive(Debug, Default)]
pub struct Waiters {
    queue: VecDeque<Waiter>,
}

/// Buffers for waiters of all shards of a core. The one given back last is taken first: it is still in the processor's
/// cache.
#[derive(Debug, Default)]
pub struct SpareBuffers(Vec<Vec<u8>>);

impl Waiters {
    /// A message of an origin, of so many bytes, is in batch `index`: `encode` appends the line of its ack.
    #[inline]
    pub fn push(
        &mut self,
        index: Index,
        (origin, published_bytes): (Origin, usize),
        spares: &mut SpareBuffers,
        encode: impl FnOnce(&mut Vec<u8>) -> Flow,
    ) {
        if let Some(last) = self.queue.back_mut() {
            assert!(last.index <= index, "batches are numbered in order");
            if last.index == index && last.origin == origin {
                last.lines.flow.add_all(encode(&mut last.lines.bytes));
                last.published_bytes += published_bytes;
                return;
            }
        }
        let mut bytes = spares.0.pop().unwrap_or_default();
        assert!(bytes.is_empty(), "a spare buffer is empty");
        let flow = encode(&mut bytes);
        let lines = AckLines { bytes, flow };
        self.queue.push_back(Waiter { index, origin, lines, published_bytes });
    }

    /// Takes the first waiter if its batch is committed.
    pub fn pop_committed(&mut self, committed: Index) -> Option<Waiter> {
        let is_committed = self.queue.front().is_some_and(|waiter| waiter.index <= committed);
        if is_committed { self.queue.pop_front() } else { None }
    }

    /// Takes the first waiter, because nothing more will be committed.
    pub fn pop_failed(&mut self) -> Option<Waiter> {
        self.queue.pop_front()
    }
}

impl SpareBuffers {
    /// Takes a buffer back that is not needed any more.
    pub fn give_back(&mut self, mut bytes: Vec<u8>) {
        if self.0.len() < SPARE_COUNT_MAX && bytes.capacity() <= SPARE_SIZE_BYTES_MAX {
            bytes.clear();
            self.0.push(bytes);
        }
    }
}

/// Appends a line with the ack of a message that was stored. `head`: `MSG <reply> <sid> `. Returns it as a message.
#[inline]
pub fn append_ack(out: &mut Vec<u8>, head: &[u8], guid: &str) -> Flow {
    let ack = PubAck { guid, error: "" };
    let length = ack.encoded_len();
    out.extend_from_slice(head);
    emit::decimal(out, length);
    out.extend_from_slice(emit::LINE_END);
    ack.encode(out);
    out.extend_from_slice(emit::LINE_END);
    Flow { messages: 1, bytes: length as u64 }
}

/// One line of a waiter, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckLine<'a> {
    /// The line up to the length: `MSG <reply> <sid> `.
    pub head: &'a [u8],
    /// The reply subject.
    pub reply: &'a [u8],
    /// The encoded ack.
    pub payload: &'a [u8],
}

/// Goes through the lines that [`append_ack`] has written.
pub fn ack_lines(bytes: &[u8]) -> impl Iterator<Item = AckLine<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, behind) = split_line(rest);
        rest = behind;
        Some(line)
    })
}

fn split_line(bytes: &[u8]) -> (AckLine<'_>, &[u8]) {
    const OURS: &str = "append_ack wrote it";
    let line_end = bytes.windows(2).position(|pair| pair == emit::LINE_END).expect(OURS);
    let (line, behind) = bytes.split_at(line_end);
    let head_end = line.iter().rposition(|byte| *byte == b' ').expect(OURS) + 1;
    let (head, digits) = line.split_at(head_end);
    let length = digits.iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
    let (payload, behind) = behind[emit::LINE_END.len()..].split_at(length);
    let reply = head.split(|byte| *byte == b' ').nth(1).expect(OURS);
    (AckLine { head, reply, payload }, &behind[emit::LINE_END.len()..])
}

/// Turns acks into refusals with the same guids.
#[must_use]
pub fn refuse_all(bytes: &[u8], error: &str) -> AckLines {
    let mut lines = AckLines::default();
    let out = &mut lines.bytes;
    for line in ack_lines(bytes) {
        let guid = PubAck::decode(line.payload).map(|ack| ack.guid).unwrap_or_default();
        let refusal = PubAck { guid, error };
        out.extend_from_slice(line.head);
        emit::decimal(out, refusal.encoded_len());
        out.extend_from_slice(emit::LINE_END);
        refusal.encode(out);
        out.extend_from_slice(emit::LINE_END);
        lines.flow.add(refusal.encoded_len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin {
        core: CoreId(0),
        connection: ConnectionId { slot: 1, generation: 2 },
        is_direct: true,
    };

    #[test]
    fn acks_of_one_connection_and_batch_share_a_buffer() {
        let mut waiters = Waiters::default();
        let mut spares = SpareBuffers::default();
        let other = Origin { is_direct: false, ..ORIGIN };
        for (index, origin, guid) in
            [(1, ORIGIN, "a"), (1, ORIGIN, "b"), (1, other, "c"), (2, other, "d")]
        {
            let encode = |out: &mut Vec<u8>| append_ack(out, b"MSG r 1 ", guid);
            waiters.push(Index(index), (origin, 10), &mut spares, encode);
        }
        assert!(waiters.pop_committed(Index(0)).is_none());
        let first = waiters.pop_committed(Index(1)).unwrap();
        assert_eq!(first.lines.flow, Flow { messages: 2, bytes: 6 });
        assert_eq!(first.lines.bytes, b"MSG r 1 3\r\n\x0a\x01a\r\nMSG r 1 3\r\n\x0a\x01b\r\n");
        assert_eq!(first.published_bytes, 20);
        spares.give_back(first.lines.bytes);
        assert_eq!(waiters.pop_committed(Index(1)).unwrap().origin, other);
        assert!(waiters.pop_committed(Index(1)).is_none());
        assert_eq!(waiters.pop_failed().unwrap().index, Index(2));
    }

    #[test]
    fn a_refusal_keeps_reply_and_guid() {
        let mut lines = Vec::new();
        // A guid with a line end in it must not be taken for the end of a line.
        for guid in ["one", "t\r\nwo"] {
            append_ack(&mut lines, b"MSG _STAN.acks.x 7 ", guid);
        }
        let refused = refuse_all(&lines, "no");
        let bytes: usize = ack_lines(&refused.bytes).map(|line| line.payload.len()).sum();
        assert_eq!(refused.flow, Flow { messages: 2, bytes: bytes as u64 });
        let answers: Vec<_> = ack_lines(&refused.bytes)
            .map(|line| {
                let ack = PubAck::decode(line.payload).unwrap();
                (line.reply.to_vec(), ack.guid.to_owned(), ack.error.to_owned())
            })
            .collect();
        let reply = b"_STAN.acks.x".to_vec();
        let expected =
            ["one", "t\r\nwo"].map(|guid| (reply.clone(), guid.to_owned(), "no".to_owned()));
        assert_eq!(answers, expected);
    }
}
