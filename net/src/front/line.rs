//! One socket: the wire that reader and writer share, and their bells. Writes what waits in the outbox.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::{Doorbell, Runtime};

use super::Front;
use super::reader::Rest;
use super::wire::Wire;
use crate::ids::ConnectionId;

/// After so many bytes other connections have their turn: history is written as fast as the reader takes it.
const TURN_SIZE_BYTES: usize = 1 << 20;

/// One connection's socket.
pub(super) struct Line {
    pub(super) id: ConnectionId,
    /// Borrowed only while it is polled.
    pub(super) wire: RefCell<Wire>,
    /// Borrowed only while it is read and offered.
    pub(super) rest: RefCell<Rest>,
    pub(super) reader: Doorbell,
    pub(super) writer: Doorbell,
    /// Nothing more is written, and nothing needs to be read.
    pub(super) is_finished: Cell<bool>,
}

/// What a writer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Wait for the bell.
    Wait,
    /// Look again.
    Again,
    /// End.
    Finish,
}

impl Line {
    pub(super) fn new(id: ConnectionId, wire: Wire) -> Self {
        Self {
            id,
            wire: RefCell::new(wire),
            rest: RefCell::default(),
            reader: Doorbell::default(),
            writer: Doorbell::default(),
            is_finished: Cell::new(false),
        }
    }

    /// Frees what was received and not taken. Its reader, if that is who asks, does so itself when it learns of the end.
    pub(super) fn let_go(&self) {
        if let Ok(mut rest) = self.rest.try_borrow_mut() {
            *rest = Rest::default();
        }
    }

    /// Ends the connection: what was written still goes out, the reader wakes.
    pub(super) fn finish(&self) {
        self.is_finished.set(true);
        self.wire.borrow_mut().end(Shutdown::Both);
        self.reader.ring();
    }
}

impl<D: Disk, R: Runtime> Front<D, R> {
    /// Writes a connection's outbox whenever the bell rings, until the connection ends.
    pub(super) async fn write_loop(self: Rc<Self>, line: Rc<Line>) {
        loop {
            let mut ring = pin!(line.writer.wait());
            let step =
                std::future::poll_fn(|context| self.poll_write(context, &line, ring.as_mut()))
                    .await;
            match step {
                Step::Again => glommio::yield_if_needed().await,
                Step::Wait => ring.await,
                Step::Finish => break,
            }
        }
        line.finish();
    }

    /// Writes until the outbox is empty or the socket full. While it is full a ring makes it look again: the
    /// connection may have been cut.
    fn poll_write(
        &self,
        context: &mut Context<'_>,
        line: &Line,
        mut ring: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Step> {
        let mut written_bytes = 0;
        while written_bytes < TURN_SIZE_BYTES {
            let written = {
                let core = self.core.borrow();
                let Some(outbox) = core.outbox(line.id) else { return Poll::Ready(Step::Finish) };
                let mut wire = line.wire.borrow_mut();
                if outbox.is_empty() {
                    let is_over = core.is_closing(line.id);
                    return match wire.poll_flush(context) {
                        Poll::Ready(Ok(())) if !is_over => Poll::Ready(Step::Wait),
                        Poll::Ready(_) => Poll::Ready(Step::Finish),
                        Poll::Pending => ring.as_mut().poll(context).map(|()| Step::Again),
                    };
                }
                wire.poll_write(context, outbox.head())
            };
            let now = self.runtime.now();
            match written {
                Poll::Ready(Ok(count)) if count > 0 => {
                    written_bytes += count;
                    let has_work = self.core.borrow_mut().written(line.id, count, now);
                    if has_work {
                        self.perform();
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Step::Finish),
                Poll::Pending => {
                    self.core.borrow_mut().write_blocked(line.id, now);
                    return ring.as_mut().poll(context).map(|()| Step::Again);
                }
            }
        }
        Poll::Ready(Step::Again)
    }
}
