//! Reads a socket into the core. All connections of a core read into one scratch buffer; what is left of it, part of
//! an operation, is all that a connection keeps. Only a large message is read into a buffer of its connection's own.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;

use super::Front;
use super::line::Line;
use crate::core::{Next, STRANGER_SIZE_BYTES_MAX};

/// Room to read into: some hundred messages in one call.
pub(super) const SCRATCH_SIZE_BYTES: usize = 128 << 10;
/// A rest of up to this is copied in front of what is read next; a larger one is read on where it lies.
const COPIED_SIZE_BYTES_MAX: usize = 32 << 10;
/// The core is not told of less than this: halves of small messages are behind every other read.
const TOLD_SIZE_BYTES_MIN: usize = 4 << 10;

/// What a connection has sent and the core has not taken.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Its first `filled` bytes count.
    pub(super) bytes: Vec<u8>,
    pub(super) filled: usize,
    /// The core is not asked before there are so many.
    needed: usize,
    /// What the core knows of its size.
    told_bytes: usize,
    /// It has said who it is.
    is_known: bool,
}

impl Rest {
    /// Takes `consumed` bytes from the front.
    fn consume(&mut self, consumed: usize) {
        assert!(consumed <= self.filled, "no more is consumed than there was");
        self.bytes.copy_within(consumed..self.filled, 0);
        self.filled -= consumed;
        self.fit();
    }

    /// Keeps what is left of the scratch buffer.
    fn keep(&mut self, left: &[u8]) {
        self.bytes.clear();
        self.bytes.reserve_exact(left.len());
        self.bytes.extend_from_slice(left);
        self.filled = left.len();
        self.fit();
    }

    /// Memory follows what is there, so that idle connections cost nothing.
    fn fit(&mut self) {
        if self.filled == 0 {
            self.bytes = Vec::new();
        }
    }
}

impl<D: Disk, R: Runtime> Front<D, R> {
    /// Feeds a connection's bytes to the core, until either side ends it.
    pub(super) async fn read_loop(self: Rc<Self>, line: Rc<Line>) {
        loop {
            let read = |context: &mut Context<'_>| {
                let read = self.poll_read(context, &line, &mut line.rest.borrow_mut());
                self.tell_capacity(&line);
                read
            };
            let Ok(mut next) = std::future::poll_fn(read).await else { break };
            while next == Next::Wait {
                line.reader.wait().await;
                if line.is_finished.get() {
                    break;
                }
                next = self.offer(&line, &mut line.rest.borrow_mut());
                self.tell_capacity(&line);
            }
            if next == Next::Close || line.is_finished.get() {
                break;
            }
            // Others on this core have their turn, if this one has used up its own.
            glommio::yield_if_needed().await;
        }
        line.let_go();
        // A connection that the core closes has still to be told why.
        while self.core.borrow().is_open_for_write(line.id) && !line.is_finished.get() {
            line.reader.wait().await;
        }
        self.with_core(|core, now| core.connection_closed(line.id, now));
        if let Some(slot) = self.lines.borrow_mut().get_mut(line.id.slot as usize) {
            slot.take_if(|other| other.id == line.id);
        }
        line.writer.ring();
    }

    /// What the connection holds in memory counts.
    fn tell_capacity(&self, line: &Line) {
        let size_bytes = line.rest.borrow().bytes.capacity();
        self.tell_size(line, &mut line.rest.borrow_mut(), size_bytes);
    }

    fn tell_size(&self, line: &Line, rest: &mut Rest, size_bytes: usize) {
        let told_bytes = if size_bytes < TOLD_SIZE_BYTES_MIN { 0 } else { size_bytes };
        if told_bytes != rest.told_bytes {
            rest.told_bytes = told_bytes;
            self.with_core(|core, _| core.keep_received(line.id, told_bytes));
        }
    }

    /// Reads once and offers all there is to the core.
    fn poll_read(
        &self,
        context: &mut Context<'_>,
        line: &Line,
        rest: &mut Rest,
    ) -> Poll<io::Result<Next>> {
        if rest.filled > COPIED_SIZE_BYTES_MAX || rest.needed > SCRATCH_SIZE_BYTES {
            return self.poll_read_on(context, line, rest);
        }
        let mut scratch = self.scratch.borrow_mut();
        let Some((front, room)) = scratch.split_at_mut_checked(rest.filled) else {
            unreachable!("a rest of this size fits")
        };
        front.copy_from_slice(&rest.bytes[..rest.filled]);
        rest.is_known = rest.is_known || !self.core.borrow().is_stranger(line.id);
        let room =
            if rest.is_known { room } else { &mut room[..STRANGER_SIZE_BYTES_MAX - rest.filled] };
        let count = ready!(poll_socket(context, line, room))?;
        let filled = rest.filled + count;
        if filled < rest.needed {
            rest.keep(&scratch[..filled]);
            return Poll::Ready(Ok(Next::Read { needed: rest.needed }));
        }
        let intake = self.with_core(|core, now| core.on_bytes(line.id, &scratch[..filled], now));
        rest.keep(&scratch[intake.consumed..filled]);
        rest.note(intake.next);
        Poll::Ready(Ok(intake.next))
    }

    /// Reads behind what is there already.
    fn poll_read_on(
        &self,
        context: &mut Context<'_>,
        line: &Line,
        rest: &mut Rest,
    ) -> Poll<io::Result<Next>> {
        // No more than the message needs, as far as that is known.
        let is_known = rest.needed > rest.filled;
        let wanted = if is_known { rest.needed } else { rest.filled + SCRATCH_SIZE_BYTES };
        if rest.bytes.len() < wanted {
            // Told before it is taken: whoever is closed for it has let go by then, and may be this one.
            self.tell_size(line, rest, wanted);
            if self.core.borrow().is_closing(line.id) {
                return Poll::Ready(Ok(Next::Close));
            }
            rest.bytes.reserve_exact(wanted - rest.bytes.len());
            rest.bytes.resize(wanted, 0);
        }
        let count = ready!(poll_socket(context, line, &mut rest.bytes[rest.filled..]))?;
        rest.filled += count;
        if rest.filled < rest.needed {
            return Poll::Ready(Ok(Next::Read { needed: rest.needed }));
        }
        Poll::Ready(Ok(self.offer(line, rest)))
    }

    /// Offers what is there to the core once more.
    fn offer(&self, line: &Line, rest: &mut Rest) -> Next {
        let intake =
            self.with_core(|core, now| core.on_bytes(line.id, &rest.bytes[..rest.filled], now));
        rest.consume(intake.consumed);
        rest.note(intake.next);
        intake.next
    }
}

impl Rest {
    fn note(&mut self, next: Next) {
        self.needed = if let Next::Read { needed } = next { needed } else { 0 };
    }
}

/// Reads what the socket has. The end of the stream is an error like the others: the connection is over.
fn poll_socket(context: &mut Context<'_>, line: &Line, room: &mut [u8]) -> Poll<io::Result<usize>> {
    assert!(!room.is_empty(), "a read of nothing looks like the end");
    let mut wire = line.wire.borrow_mut();
    let polled = wire.poll_read(context, room);
    if wire.has_answer() {
        line.writer.ring();
    }
    let count = ready!(polled)?;
    Poll::Ready(if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) })
}
