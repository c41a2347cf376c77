//! Who is still there: the server's heartbeats to clients, sent by the client's home, and the clients' pings, answered
//! by the core they come to.
//!
//! A heartbeat is an empty message to the client's heartbeat inbox; any reply answers it. The first failure tells all
//! shards (redelivery waits), more than the maximum in a row close the client.

use bytes::Bytes;
use weirlog_engine::disk::Disk;
use weirlog_engine::request::{Client, ClientKey};
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::about::About;
use super::errors;
use super::wire::{Ping, PingResponse};
use super::{Question, TimerCall};
use crate::config::HEARTBEAT_NUDGE_MS;
use crate::core::{Core, Notice, TimerEvent};
use crate::ids::ConnectionId;
use crate::link::StanMessage;

/// A client as the sender of its heartbeats sees it.
#[derive(Debug)]
pub(crate) struct Heart {
    client_id: String,
    inbox: Bytes,
    failures: u32,
    /// A heartbeat is on the way.
    is_asked: bool,
    /// The timer that counts.
    round: u64,
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Begins the heartbeats to a client of this home.
    pub(crate) fn watch_client(&mut self, client: &Client, now: Now) {
        let inbox =
            About::parse(&client.about).map(|about| about.heartbeat_inbox).unwrap_or_default();
        let heart =
            Heart { client_id: client.id.clone(), inbox, failures: 0, is_asked: false, round: 0 };
        self.stan.hearts.insert(client.key, heart);
        let interval_ms = self.hub.config.heartbeat_interval_ms;
        self.set_heartbeat(client.key, interval_ms, now);
    }

    /// Sets a client's next heartbeat; one set before does not count any more.
    fn set_heartbeat(&mut self, key: ClientKey, ms: u64, now: Now) {
        let Some(heart) = self.stan.hearts.get_mut(&key) else { return };
        heart.round += 1;
        let round = heart.round;
        self.hub.set_timer(now, ms, TimerEvent::Stan(TimerCall::Heartbeat { key, round }));
    }

    pub(crate) fn on_heartbeat_due(&mut self, key: ClientKey, round: u64, now: Now) {
        let Some(heart) = self.stan.hearts.get_mut(&key) else { return };
        if heart.round != round || heart.is_asked {
            return;
        }
        heart.is_asked = true;
        let inbox = heart.inbox.clone();
        let timeout_ms = self.hub.config.heartbeat_timeout_ms;
        if self.ask(&inbox, Question::Heartbeat(key), timeout_ms, now).is_some() {
            return;
        }
        if self.hub.config.has_upstream {
            // It is this server that has lost its connection, which hears everything: no client is to blame.
            self.put_heartbeat_off(key, now);
        } else {
            self.on_heartbeat_failed(key, now);
        }
    }

    fn put_heartbeat_off(&mut self, key: ClientKey, now: Now) {
        if let Some(heart) = self.stan.hearts.get_mut(&key) {
            heart.is_asked = false;
        }
        let interval_ms = self.hub.config.heartbeat_interval_ms;
        self.set_heartbeat(key, interval_ms, now);
    }

    pub(crate) fn on_heartbeat_answered(&mut self, key: ClientKey, now: Now) {
        let Some(heart) = self.stan.hearts.get_mut(&key) else { return };
        heart.is_asked = false;
        if std::mem::take(&mut heart.failures) > 0 {
            self.tell_responsive(key, true);
        }
        let interval_ms = self.hub.config.heartbeat_interval_ms;
        self.set_heartbeat(key, interval_ms, now);
    }

    pub(crate) fn on_heartbeat_failed(&mut self, key: ClientKey, now: Now) {
        let fail_count_max = self.hub.config.heartbeat_fail_count_max;
        let interval_ms = self.hub.config.heartbeat_interval_ms;
        let Some(heart) = self.stan.hearts.get_mut(&key) else { return };
        heart.is_asked = false;
        heart.failures += 1;
        let failures = heart.failures;
        if failures > fail_count_max {
            let client_id = heart.client_id.clone();
            self.stan.hearts.remove(&key);
            self.hub.notices.push(Notice::ClientTimedOut { client_id: client_id.clone() });
            self.expire_client(client_id, key, now);
            return;
        }
        if failures == 1 {
            self.tell_responsive(key, false);
        }
        self.set_heartbeat(key, interval_ms, now);
    }

    /// A client pinged though its heartbeats fail: it is asked again at once.
    pub(crate) fn on_nudge(&mut self, key: ClientKey, now: Now) {
        let is_failing =
            self.stan.hearts.get(&key).is_some_and(|heart| heart.failures > 0 && !heart.is_asked);
        if is_failing {
            self.set_heartbeat(key, HEARTBEAT_NUDGE_MS, now);
        }
    }

    fn tell_responsive(&mut self, key: ClientKey, is_responsive: bool) {
        self.broadcast_stan(|| StanMessage::Responsive { key, is_responsive });
        let own = self.hub.own();
        self.send_stan(own, StanMessage::Responsive { key, is_responsive });
    }

    /// A client asks whether it is still registered. One that names no connection is ignored.
    pub(crate) fn on_client_ping(&mut self, id: ConnectionId, payload: &[u8], reply: &[u8]) {
        let Ok(ping) = Ping::decode(payload) else { return };
        if ping.conn_id.is_empty() {
            return;
        }
        let found = self.hub.registry.by_connection(ping.conn_id);
        let Some((key, is_responsive)) = found.map(|client| (client.key, client.is_responsive))
        else {
            self.respond(reply, |out| PingResponse { error: errors::CLIENT_REPLACED }.encode(out));
            return;
        };
        self.respond(reply, |_| {});
        if !is_responsive {
            let core = self.hub.core_of(key.home);
            self.send_stan_from(id, core, StanMessage::Nudge(key));
        }
    }
}
