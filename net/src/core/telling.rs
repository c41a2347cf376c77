//! What a core tells about its work, if it is asked to: see [`crate::detail`].

use super::Notice;
use super::hub::Hub;
use crate::detail::{Detail, payload_of, said};
use crate::ids::ConnectionId;
use crate::nats::op::Op;

impl Hub {
    /// A debug line about a connection.
    pub(crate) fn debug_connection(&mut self, id: ConnectionId, text: &str) {
        if self.config.details.server_debug {
            self.tell_of(id, false, text);
        }
    }

    /// A debug line about a STAN client or subscription.
    pub(crate) fn debug_streaming(&mut self, text: impl FnOnce() -> String) {
        if self.config.details.streaming_debug {
            self.tell_streaming(false, text());
        }
    }

    /// A trace line about a channel.
    pub(crate) fn trace_streaming(&mut self, text: impl FnOnce() -> String) {
        if self.config.details.streaming_trace {
            self.tell_streaming(true, text());
        }
    }

    fn tell_streaming(&mut self, is_trace: bool, text: String) {
        self.notices.push(Notice::Detail(Detail { is_streaming: true, is_trace, text }));
    }

    /// Trace lines of an operation that came.
    #[cold]
    pub(crate) fn trace_said(&mut self, id: ConnectionId, op: &Op<'_>) {
        self.tell_of(id, true, &format!("<<- {}", said(op)));
        if let Some(payload) = payload_of(op, self.config.details.payload_bytes_max) {
            self.tell_of(id, true, &format!("<<- MSG_PAYLOAD: {payload}"));
        }
    }

    /// Trace lines of the first `count` bytes that wait for a connection and are written now.
    #[cold]
    pub(crate) fn trace_sent(&mut self, id: ConnectionId, count: usize) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let sent = session.outbox.head().get(..count).unwrap_or_default();
        let mut lines = Vec::new();
        session.sent_lines.feed(sent, |line| lines.push(format!("->> [{line}]")));
        for line in lines {
            self.tell_of(id, true, &line);
        }
    }

    fn tell_of(&mut self, id: ConnectionId, is_trace: bool, text: &str) {
        let Some(session) = self.sessions.get(id) else { return };
        let text = format!("{} - cid:{} - {text}", session.address.host, session.number);
        self.notices.push(Notice::Detail(Detail { is_streaming: false, is_trace, text }));
    }
}
