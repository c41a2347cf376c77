//! A ceiling over what all connections of a core hold in memory: above it the one that holds most is closed, so that
//! one who sends halves of messages, never reads, or subscribes without end, takes nothing from the others.

use super::Notice;
use super::hub::Hub;
use crate::ids::ConnectionId;

/// What a connection is told that was closed for what it sent in part.
const TOO_MUCH_IS_HALF: &str = "Too Many Bytes Buffered";
/// And one that was closed for what it subscribed to.
const TOO_MANY_SUBSCRIPTIONS: &str = "Too Many Bytes Buffered (Subscriptions)";
/// Why one was closed for what waited for it.
const TOO_MUCH_WAITS: &str = "Slow Consumer (Bytes Buffered)";

impl Hub {
    /// A connection has sent part of a message, and so many bytes of it are kept.
    pub(super) fn keep_received(&mut self, id: ConnectionId, bytes: usize) {
        if let Some(session) = self.sessions.get_mut(id)
            && !session.is_closing
        {
            session.received.set(bytes);
        }
    }

    /// Closes connections until the rest is within the ceiling. `spared` stays.
    pub(super) fn shed(&mut self, spared: impl Fn(ConnectionId) -> bool) {
        while self.buffered.bytes() > self.config.buffered_bytes_max {
            let open = self.sessions.iter().filter(|session| !session.is_cut);
            let held = open.map(|session| (session.buffered_bytes(), session.id));
            let most = held.filter(|(bytes, id)| *bytes > 0 && !spared(*id)).max();
            let Some((bytes, id)) = most else { return };
            self.close_for_memory(id, bytes);
        }
    }

    fn close_for_memory(&mut self, id: ConnectionId, buffered_bytes: usize) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        self.tally.shed += 1;
        self.notices.push(Notice::Shed {
            number: session.number,
            client_ip: session.address.host.clone(),
            buffered_bytes,
        });
        let (half, waiting) = (session.received.bytes(), session.outbox.len());
        let subscribed = session.subscriptions.size_bytes();
        // The front lets go of it before anybody reads more, and its subscriptions leave when its reader has ended.
        session.received.set(0);
        session.subscriptions.discharge();
        self.releases.push(id);
        if waiting < half.max(subscribed) && !session.is_closing {
            let text = if half > subscribed { TOO_MUCH_IS_HALF } else { TOO_MANY_SUBSCRIPTIONS };
            self.close(id, Some(text));
        } else {
            session.closing_text.get_or_insert_with(|| TOO_MUCH_WAITS.into());
            self.cut(id);
        }
    }

    /// Closes a connection at once, with all that waits for it.
    pub(super) fn cut(&mut self, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.is_closing = true;
        session.is_cut = true;
        session.outbox.clear();
        self.mark_flush(id);
    }
}
