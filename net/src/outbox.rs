//! What waits to be written to one connection: chunks of bytes, sent from the front. Bounded by its owner: above the
//! soft limit deliveries pause, above the hard limit the connection is closed (see `config`). A chunk is a buffer of
//! the outbox's own, or a large payload that it shares with the outboxes of other connections: both count in full.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::buffered::{Buffered, Charge};

/// A payload of this size or more that goes to several connections is one copy which all of them share; a smaller one
/// is copied for each. Sharing costs a send of its own and a buffer for what stands between two payloads, some 1.5 us
/// together; copying costs as much at about this size.
pub const SHARED_SIZE_BYTES_MIN: usize = 16 << 10;
/// A chunk is not grown beyond this: one send takes it, and growing copies.
const CHUNK_SIZE_BYTES_MAX: usize = 256 << 10;
/// A new chunk starts with this much room.
const CHUNK_SIZE_BYTES_MIN: usize = 512;
/// An idle connection keeps a buffer of at most this size.
const KEPT_SIZE_BYTES_MAX: usize = 4 << 10;

/// Bytes on their way to a connection.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are sent.
    sent: usize,
    len: usize,
    /// The part of them that nobody shares.
    own: Charge,
    sent_total: u64,
}

#[derive(Debug)]
enum Chunk {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Outbox {
    /// An empty one, whose bytes count among `buffered`.
    #[must_use]
    pub fn new(buffered: &Buffered) -> Self {
        Self { own: buffered.charge(), ..Self::default() }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes sent since the connection was opened: what a write deadline looks at.
    #[must_use]
    pub fn sent_total(&self) -> u64 {
        self.sent_total
    }

    /// Lets `work` append to the last chunk; it must not shorten it. `size_hint` is about what it will add.
    pub fn write_with<T>(&mut self, size_hint: usize, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let tail = self.tail(size_hint);
        let before = tail.len();
        let result = work(tail);
        let after = tail.len();
        assert!(after >= before);
        self.len += after - before;
        self.own.set(self.own.bytes() + after - before);
        result
    }

    /// Appends a copy of `bytes`.
    pub fn append(&mut self, bytes: &[u8]) {
        self.write_with(bytes.len(), |tail| tail.extend_from_slice(bytes));
    }

    /// Appends `bytes` without a copy: whoever else holds them shares them.
    pub fn append_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.drop_empty_tail();
        self.len += bytes.len();
        self.chunks.push_back(Chunk::Shared(bytes));
    }

    /// The bytes to send next; empty only if the outbox is.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.chunks.front().and_then(|chunk| chunk.bytes().get(self.sent..)).unwrap_or_default()
    }

    /// The first `count` bytes of [`Outbox::head`] were sent.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.head().len(), "more was sent than there was");
        self.sent += count;
        self.len -= count;
        if let Some(Chunk::Own(_)) = self.chunks.front() {
            self.own.set(self.own.bytes() - count);
        }
        self.sent_total += count as u64;
        let is_chunk_sent =
            self.chunks.front().is_some_and(|chunk| self.sent == chunk.bytes().len());
        if is_chunk_sent && let Some(chunk) = self.chunks.pop_front() {
            self.sent = 0;
            if let Chunk::Own(mut buffer) = chunk
                && self.chunks.is_empty()
                && buffer.capacity() <= KEPT_SIZE_BYTES_MAX
            {
                buffer.clear();
                self.chunks.push_back(Chunk::Own(buffer));
            }
        }
    }

    /// Drops all that waits.
    pub fn clear(&mut self) {
        self.chunks.clear();
        (self.sent, self.len) = (0, 0);
        self.own.set(0);
    }

    fn tail(&mut self, size_hint: usize) -> &mut Vec<u8> {
        let has_room = self.chunks.back().is_some_and(|chunk| match chunk {
            Chunk::Own(bytes) => {
                bytes.len() + size_hint <= bytes.capacity().max(CHUNK_SIZE_BYTES_MAX)
            }
            Chunk::Shared(_) => false,
        });
        if !has_room {
            self.drop_empty_tail();
            let size_bytes = size_hint.max(CHUNK_SIZE_BYTES_MIN);
            self.chunks.push_back(Chunk::Own(Vec::with_capacity(size_bytes)));
        }
        match self.chunks.back_mut() {
            Some(Chunk::Own(bytes)) => bytes,
            _ => unreachable!("one was pushed if there was none with room"),
        }
    }

    /// Nothing empty may stand before what waits: the head would be empty, and the outbox not.
    fn drop_empty_tail(&mut self) {
        if self.chunks.back().is_some_and(|chunk| chunk.bytes().is_empty()) {
            self.chunks.pop_back();
        }
    }

    /// Bytes of memory that are this outbox's alone, and those it shares.
    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> (usize, usize) {
        self.chunks.iter().fold((0, 0), |(own, shared), chunk| match chunk {
            Chunk::Own(bytes) => (own + bytes.capacity(), shared),
            Chunk::Shared(bytes) => (own, shared + bytes.len()),
        })
    }

    /// Where the first shared payload lies.
    #[cfg(test)]
    pub(crate) fn shared_place(&self) -> Option<*const u8> {
        self.chunks.iter().find_map(|chunk| match chunk {
            Chunk::Own(_) => None,
            Chunk::Shared(bytes) => Some(bytes.as_ptr()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acks of 8,000 small messages came at once, behind the small chunk that an idle connection keeps: the head was
    /// empty, a write of nothing looked like the end, and the connection was closed.
    #[test]
    fn nothing_empty_stands_before_what_waits() {
        let mut outbox = Outbox::default();
        outbox.append(b"small");
        outbox.advance(5);
        let large = vec![7; CHUNK_SIZE_BYTES_MAX + 1];
        outbox.append(&large);
        assert_eq!(outbox.head(), large);
        // The same in the middle, where something was said to come and did not.
        outbox.write_with(10, |_| ());
        outbox.append(&large);
        outbox.advance(large.len());
        assert_eq!(outbox.head(), large);
        outbox.advance(large.len());
        outbox.write_with(10, |_| ());
        outbox.append_shared(large.clone().into());
        assert_eq!(outbox.head(), large);
    }

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !outbox.is_empty() {
            let count = outbox.head().len().min(step);
            assert!(count > 0);
            all.extend_from_slice(&outbox.head()[..count]);
            outbox.advance(count);
        }
        all
    }

    #[test]
    fn bytes_leave_in_order_whatever_the_steps() {
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for round in 0..50_u8 {
            let piece = vec![round; usize::from(round) * 977];
            match round % 3 {
                1 => outbox.append_shared(piece.clone().into()),
                _ => outbox.append(&piece),
            }
            expected.extend_from_slice(&piece);
        }
        assert_eq!(outbox.len(), expected.len());
        assert_eq!(drain(&mut outbox, 3_001), expected);
        assert_eq!(outbox.sent_total(), expected.len() as u64);
        assert_eq!(outbox.head(), b"");
    }

    #[test]
    fn an_idle_outbox_keeps_little() {
        let mut outbox = Outbox::default();
        outbox.append(&vec![7; 100_000]);
        drain(&mut outbox, usize::MAX);
        assert!(outbox.memory_bytes().0 <= KEPT_SIZE_BYTES_MAX);
        outbox.append_shared(Bytes::from_static(&[8; 100_000]));
        drain(&mut outbox, 3_000);
        assert_eq!(outbox.memory_bytes().1, 0, "what is sent is not held");
        outbox.append(b"small");
        assert_eq!(outbox.head(), b"small");
    }
}
