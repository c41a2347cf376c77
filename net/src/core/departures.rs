//! Subscriptions of connections that are gone leave some at a time: a client may have a million of them.
//!
//! Until its turn a subscription is found and takes no message, as one whose connection is about to close.

use std::collections::VecDeque;

use weirlog_engine::types::Now;

use super::hub::{Hub, TimerEvent};
use crate::ids::{ConnectionId, Subscriber};
use crate::session::Leaving;

/// Subscriptions that leave in one go: a millisecond's work.
const SUBSCRIPTIONS_A_TURN: usize = 1_024;
/// Others have their turn between.
const TURN_WAIT_MS: u64 = 1;

/// Those that have not left yet, by connection.
#[derive(Debug, Default)]
pub(crate) struct Departures(VecDeque<(ConnectionId, Leaving)>);

impl Hub {
    /// The subscriptions of a connection that is no longer among the sessions leave, the first ones at once.
    pub(crate) fn depart(&mut self, id: ConnectionId, subscriptions: Leaving, now: Now) {
        let is_first = self.departures.0.is_empty();
        self.departures.0.push_back((id, subscriptions));
        if is_first {
            self.go_on_departing(now);
        }
    }

    /// Some more leave.
    pub(crate) fn go_on_departing(&mut self, now: Now) {
        let mut left = SUBSCRIPTIONS_A_TURN;
        while let Some((connection, subscriptions)) = self.departures.0.front_mut() {
            if left == 0 {
                self.set_timer(now, TURN_WAIT_MS, TimerEvent::Departures);
                return;
            }
            let connection = *connection;
            match subscriptions.next() {
                Some((index, subscription)) => {
                    left -= 1;
                    self.forget_interest(Subscriber { connection, index }, subscription);
                }
                None => drop(self.departures.0.pop_front()),
            }
        }
    }
}
