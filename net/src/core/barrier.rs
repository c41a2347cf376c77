//! What waits until other cores have applied what was sent to them before.

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::Core;
use crate::ids::{ConnectionId, CoreId};
use crate::link::{Marks, StanMessage};

/// A step and what has to be applied before it.
#[derive(Debug)]
pub(crate) struct Barrier {
    marks: Marks,
    then: Then,
}

/// The steps that wait.
#[derive(Debug)]
pub(crate) enum Then {
    /// Answer a PING and read on.
    Pong(ConnectionId),
    /// Read on a connection that has sent much to other cores.
    ReadOn(ConnectionId),
    /// Publish a message that was kept.
    Publish {
        /// Who publishes.
        connection: ConnectionId,
        /// The encoded message.
        payload: Box<[u8]>,
        /// Where its ack goes; empty: nowhere.
        reply: Box<[u8]>,
    },
    /// Send a STAN request on.
    Send(CoreId, StanMessage),
    /// All cores know a new client: answer its connect.
    Connected {
        /// Its id.
        client_id: String,
    },
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Does `then` when all cores have applied what `marks` says: now, or when the last of them tells.
    pub(crate) fn after_applied(&mut self, marks: Marks, then: Then, now: Now) {
        if self.hub.links.is_applied(&marks) {
            self.pass(then, now);
        } else {
            self.barriers.push(Barrier { marks, then });
        }
    }

    /// Some core has applied more: does what waited for it, in the order it came.
    pub(crate) fn check_barriers(&mut self, now: Now) {
        let mut waiting = Vec::new();
        for barrier in std::mem::take(&mut self.barriers) {
            if self.hub.links.is_applied(&barrier.marks) {
                self.pass(barrier.then, now);
            } else {
                waiting.push(barrier);
            }
        }
        // What `pass` has added came later than what waits.
        waiting.append(&mut self.barriers);
        self.barriers = waiting;
    }

    fn pass(&mut self, then: Then, now: Now) {
        match then {
            Then::Pong(id) => self.late_pong(id),
            Then::ReadOn(id) => self.routes_applied(id),
            Then::Publish { connection, payload, reply } => {
                self.on_held_publish(connection, &payload, &reply, now);
            }
            Then::Send(core, message) => self.send_stan(core, message),
            Then::Connected { client_id } => self.on_client_spread(&client_id, now),
        }
    }
}
