//! Publishers of core NATS messages held back: nobody acks these messages, so what is on the way from a fast
//! publisher to slow receivers is bounded by reading the publisher more slowly.
//!
//! ```text
//! a window of bytes went to other cores  -> read on when they have applied them
//! a subscriber has 3/4 of max_pending    -> read on after a pause
//! ```
//! Both are looked at between two operations of the publisher; what it has sent already is in its socket.

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::barrier::Then;
use super::{Core, TimerEvent};
use crate::config::{CORE_ROUTED_BYTES_MAX, CROWDED_PAUSE_MS, ROUTED_BYTES_MAX, ROUTED_BYTES_MIN};
use crate::ids::ConnectionId;
use crate::session::Stop;

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Bytes that a connection may send to other cores before it waits for them: its share of what all may.
    pub(crate) fn route_window(&self) -> usize {
        let share = CORE_ROUTED_BYTES_MAX / self.hub.sessions.len().max(1);
        share.clamp(ROUTED_BYTES_MIN, ROUTED_BYTES_MAX)
    }

    /// A connection has used up its window: it is read on when all cores have applied what it sent them.
    pub(crate) fn await_routes(&mut self, id: ConnectionId, now: Now) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        session.routed_bytes = 0;
        if self.hub.links.has_applied(&session.marks) {
            return;
        }
        assert!(session.stop.is_none(), "a stopped connection routes nothing");
        session.stop = Some(Stop::Barrier);
        let marks = session.marks.clone();
        self.after_applied(marks, Then::ReadOn(id), now);
    }

    /// Pauses a connection if one of those that its messages went to, on this core, hardly keeps up. Tells whether it
    /// did.
    pub(crate) fn pause_if_crowded(&mut self, id: ConnectionId, now: Now) -> bool {
        if !std::mem::take(&mut self.hub.is_crowded) {
            return false;
        }
        let Some(session) = self.hub.sessions.get_mut(id) else { return false };
        if session.stop.is_some() || session.is_closing {
            return false;
        }
        session.stop = Some(Stop::Crowded);
        self.hub.set_timer(now, CROWDED_PAUSE_MS, TimerEvent::Crowded(id));
        true
    }

    /// The pause is over.
    pub(crate) fn end_pause(&mut self, id: ConnectionId) {
        self.read_on(id, Stop::Crowded);
    }

    /// All cores have applied what a connection sent them.
    pub(crate) fn routes_applied(&mut self, id: ConnectionId) {
        self.read_on(id, Stop::Barrier);
    }

    fn read_on(&mut self, id: ConnectionId, reason: Stop) {
        let Some(session) = self.hub.sessions.get_mut(id) else { return };
        assert!(session.stop == Some(reason), "one stop at a time");
        session.stop = None;
        self.hub.wakes.push(id);
    }
}
