//! Publish acks that wait for their commit, in order of the batch their messages are in. Consecutive acks of one
//! connection, reply subject and batch are one piece, so that a commit releases whole pieces.

use std::collections::VecDeque;

use bytes::Bytes;
use weirlog_engine::types::Index;

use super::pub_acks::PubAcks;
use crate::ids::{ConnectionId, CoreId};

/// Buffers kept for the next waiters of a core: those of some publishers in each batch that may be on its way.
const SPARE_COUNT_MAX: usize = 256;
/// A buffer of more than this is given back to the allocator.
const SPARE_SIZE_BYTES_MAX: usize = 64 << 10;

/// Who published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The connection's core.
    pub core: CoreId,
    /// The connection.
    pub connection: ConnectionId,
    /// Whether the acks go to the connection as they are; else each is routed by its subject.
    pub is_direct: bool,
}

/// A message that waits.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// Who published it.
    pub origin: Origin,
    /// How the line of its ack begins; empty if nobody awaits one.
    pub head: &'a Bytes,
    /// What its ack names; none if nobody awaits one.
    pub guid: Option<&'a str>,
    /// What it counts against the connection's credit.
    pub published_bytes: usize,
}

/// Acks of one connection for messages of one batch.
#[derive(Debug)]
pub struct Waiter {
    /// The batch.
    pub index: Index,
    /// Who gets them.
    pub origin: Origin,
    /// The acks.
    pub acks: PubAcks,
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
    /// A message is in batch `index`.
    #[inline]
    pub fn push(&mut self, index: Index, message: Published<'_>, spares: &mut SpareBuffers) {
        let Published { origin, head, guid, published_bytes } = message;
        if let Some(last) = self.queue.back_mut() {
            assert!(last.index <= index, "batches are numbered in order");
            if last.index == index && last.origin == origin && last.acks.has_head(head) {
                guid.into_iter().for_each(|guid| last.acks.push(guid));
                last.published_bytes += published_bytes;
                return;
            }
        }
        let mut acks = PubAcks::new(head.clone(), spares.0.pop().unwrap_or_default());
        guid.into_iter().for_each(|guid| acks.push(guid));
        self.queue.push_back(Waiter { index, origin, acks, published_bytes });
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

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin {
        core: CoreId(0),
        connection: ConnectionId { slot: 1, generation: 2 },
        is_direct: true,
    };

    #[test]
    fn acks_of_one_connection_and_batch_are_one_piece() {
        let mut waiters = Waiters::default();
        let mut spares = SpareBuffers::default();
        let other = Origin { is_direct: false, ..ORIGIN };
        let (head, other_head) = (Bytes::from_static(b"MSG r 1 "), Bytes::from_static(b"MSG q 1 "));
        for (index, origin, head, guid) in [
            (1, ORIGIN, &head, Some("a")),
            (1, ORIGIN, &head, None),
            (1, ORIGIN, &head, Some("b")),
            (1, other, &head, Some("c")),
            (2, other, &head, Some("d")),
            (2, other, &other_head, Some("e")),
        ] {
            let message = Published { origin, head, guid, published_bytes: 10 };
            waiters.push(Index(index), message, &mut spares);
        }
        assert!(waiters.pop_committed(Index(0)).is_none());
        let first = waiters.pop_committed(Index(1)).unwrap();
        let guids: Vec<_> = first.acks.each().1.map(|ack| ack.guid.to_owned()).collect();
        assert_eq!((guids, first.published_bytes), (vec!["a".to_owned(), "b".to_owned()], 30));
        spares.give_back(first.acks.into_memory());
        assert_eq!(waiters.pop_committed(Index(1)).unwrap().origin, other);
        assert!(waiters.pop_committed(Index(1)).is_none());
        assert_eq!(waiters.pop_failed().unwrap().index, Index(2));
        assert_eq!(waiters.pop_failed().unwrap().acks.each().0, b"q");
        assert!(waiters.pop_failed().is_none());
    }
}
