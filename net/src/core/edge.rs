//! What the edge, sockets and links or a simulator, takes from a core and tells it of them.

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::{Core, Notice, TimerEvent};
use crate::ids::{ConnectionId, CoreId};
use crate::link::LinkBatch;
use crate::outbox::Outbox;

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Connections whose outbox is to be written or that are to be closed. Each is named once until [`Core::flushed`].
    pub fn take_flushes(&mut self) -> Vec<ConnectionId> {
        let upstream = &self.upstream;
        self.hub.shed(|id| upstream.is(id));
        let flushes = std::mem::take(&mut self.hub.flushes);
        for id in &flushes {
            if let Some(session) = self.hub.sessions.get_mut(*id) {
                session.is_flush_due = false;
            }
        }
        flushes
    }

    /// Connections whose rest may be offered again.
    pub fn take_wakes(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.hub.wakes)
    }

    /// Connections that were closed for what they hold: what the front keeps of their messages goes at once.
    pub fn take_releases(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.hub.releases)
    }

    /// Batches for other cores.
    pub fn take_mesh(&mut self) -> Vec<(CoreId, LinkBatch)> {
        if self.hub.links.has_outgoing() { self.hub.links.take_batches() } else { Vec::new() }
    }

    /// What the operator should hear about.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.hub.notices)
    }

    /// What waits to be written to a connection; none: it is gone or cut, close the socket.
    #[must_use]
    pub fn outbox(&self, id: ConnectionId) -> Option<&Outbox> {
        let session = self.hub.sessions.get(id)?;
        (!session.is_cut).then_some(&session.outbox)
    }

    /// Whether a connection is to be closed once its outbox is empty.
    #[must_use]
    pub fn is_closing(&self, id: ConnectionId) -> bool {
        self.hub.sessions.get(id).is_none_or(|session| session.is_closing)
    }

    /// Whether what waits for a connection should still be written, though it is read no more.
    #[must_use]
    pub fn is_open_for_write(&self, id: ConnectionId) -> bool {
        self.hub.sessions.get(id).is_some_and(|session| session.is_closing && !session.is_cut)
    }

    /// The front keeps so many bytes of a message that came in part.
    pub fn keep_received(&mut self, id: ConnectionId, bytes: usize) {
        self.hub.keep_received(id, bytes);
    }

    /// `count` bytes of a connection's outbox were written. Tells whether there is something to
    /// perform now.
    pub fn written(&mut self, id: ConnectionId, count: usize, now: Now) -> bool {
        if self.hub.config.details.server_trace {
            self.hub.trace_sent(id, count);
        }
        let Some(session) = self.hub.sessions.get_mut(id) else { return false };
        session.outbox.advance(count);
        if session.paused.is_empty() && session.held_credits.is_empty() {
            return !self.hub.notices.is_empty();
        }
        for (shard, subscription) in self.hub.take_paused(id) {
            self.with_shard(shard, |shard| shard.resume(subscription));
        }
        self.settle(now);
        true
    }

    /// A connection's socket takes no more for the moment.
    pub fn write_blocked(&mut self, id: ConnectionId, now: Now) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        if !std::mem::replace(&mut session.has_write_deadline, true) {
            let sent_total = session.outbox.sent_total();
            let deadline_ms = self.hub.config.write_deadline_ms;
            self.hub.set_timer(now, deadline_ms, TimerEvent::Write(id, sent_total));
        }
    }
}
