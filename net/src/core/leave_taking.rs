//! A core in lame duck mode: it tells its clients, then closes them at the pace of [`LameDuck`].

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::{Core, TimerEvent};
use crate::ids::ConnectionId;
use crate::info::{InfoKind, info_json};
use crate::lame_duck::LameDuck;
use crate::nats::emit;
use crate::session::Greeting;

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Tells clients to go elsewhere, and begins to close those that stay. The caller accepts no more connections.
    /// A second call changes nothing.
    pub fn enter_lame_duck(&mut self, now: Now) {
        if self.hub.lame_duck.is_some() {
            return;
        }
        let duck = LameDuck::new(&self.hub.config, now.mono);
        self.hub.lame_duck = Some(duck);
        for id in self.clients() {
            self.tell_lame_duck(id);
        }
        self.hub.timers.set(duck.close_from(), TimerEvent::LameDuck);
    }

    /// Whether the grace period has passed and no client is left.
    #[must_use]
    pub fn is_lame_duck_over(&self, now: Now) -> bool {
        self.hub.lame_duck.is_some_and(|duck| now.mono >= duck.close_from())
            && self.hub.sessions.iter().all(|session| self.upstream.is(session.id))
    }

    /// Closes those whose turn it is, in the order of their slots.
    pub(crate) fn take_leave(&mut self, now: Now) {
        let Some(duck) = self.hub.lame_duck else { return };
        let open = self.clients();
        let turn = duck.turn(open.len(), now.mono);
        assert!(turn.closes <= open.len(), "no more are closed than there are");
        for id in &open[..turn.closes] {
            self.hub.close(*id, None);
        }
        // With nobody left too: one may still be on its way from the listener.
        self.hub.timers.set(turn.next, TimerEvent::LameDuck);
    }

    /// A client that is still being greeted hears it with its first PONG.
    fn tell_lame_duck(&mut self, id: ConnectionId) {
        let Some(session) = self.hub.sessions.get(id) else { return };
        if session.options.protocol < 1 || session.greeting != Greeting::Done {
            return;
        }
        let json = info_json(&self.hub.config, session, InfoKind::LameDuck);
        self.hub.write(id, json.len() + 16, |out| emit::info(out, &json));
    }
}
