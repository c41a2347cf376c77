//! One core: its connections, its shards and its links in one value, without any waiting in it.
//!
//! Events go in (`connection_opened`, `on_bytes`, `on_mesh`, `on_storage`, `on_tick`), each with the time; what is to
//! be done comes out (`take_flushes`, `take_wakes`, `take_mesh`). Who performs it, sockets and channels or a
//! simulator, is no matter. After an event the caller pumps the storage and performs what came out.

mod access;
mod barrier;
mod delivery;
mod departures;
mod edge;
mod hub;
mod leave_taking;
mod lookahead;
mod pacing;
mod protocol;
mod reload;
mod reporting;
mod routing;
mod sessions;
mod shedding;
mod startup;
mod stopping;
mod telling;
#[cfg(test)]
mod tests;
mod windows;

pub use access::STRANGER_SIZE_BYTES_MAX;
pub(crate) use barrier::Then;
pub use hub::{Hub, Notice, Tally, TimerEvent};
pub use reload::RuntimeSettings;
pub(crate) use routing::take;
pub use routing::{Found, Message};

use std::rc::Rc;
use std::sync::Arc;

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::shard::{Dispatched, Shard};
use weirlog_engine::storage::Storage;
use weirlog_engine::types::{Monotonic, Now, ShardId};

use crate::address::Address;
use crate::auth::nonce;
use crate::config::NetConfig;
use crate::ids::{ConnectionId, CoreId};
use crate::info::{InfoKind, info_json};
use crate::link::{LinkBatch, LinkMessage};
use crate::nats::emit;
use crate::nats::parse::{ParseError, ParseLimits, Parsed, parse};
use crate::partition::Registrations;
use crate::stan::Stan;
use crate::tls::TlsServer;
use crate::upstream::Upstream;
use access::AUTHORIZATION_VIOLATION;
use barrier::Barrier;
use delivery::Courier;
use lookahead::Lookahead;
use reporting::connection_report;
use startup::Startup;
use stopping::Stopping;

/// What became of a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intake {
    /// So many were taken; the rest is to be offered again, with what came since.
    pub consumed: usize,
    /// What to do next.
    pub next: Next,
}

/// What a connection's reader does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read on; it makes no sense to offer fewer than so many bytes.
    Read {
        /// The least length of the buffer.
        needed: usize,
    },
    /// Wait until `take_wakes` names the connection, then offer the rest again.
    Wait,
    /// Read no more; the connection closes when what waits is written.
    Close,
}

/// Where one core stands. See the module.
pub struct Core<D: Disk, R: Runtime> {
    pub(crate) hub: Hub,
    pub(crate) stan: Stan,
    pub(crate) storage: Rc<Storage<D, R>>,
    pub(crate) barriers: Vec<Barrier>,
    pub(crate) startup: Startup,
    stopping: Stopping,
    pub(crate) upstream: Upstream,
    pub(crate) registrations: Registrations,
    /// Shards to take answers from and to dispatch: all that were touched since the last time.
    touched: Vec<ShardId>,
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// A core with its recovered shards. [`Core::start`] comes next.
    #[must_use]
    pub fn new(
        config: NetConfig,
        own: CoreId,
        core_count: u16,
        storage: Storage<D, R>,
        seed: u64,
    ) -> Self {
        let stan = Stan::new(&config, storage.shards());
        Self {
            hub: Hub::new(config, own, core_count, seed),
            stan,
            storage: Rc::new(storage),
            barriers: Vec::new(),
            startup: Startup::new(core_count),
            stopping: Stopping::default(),
            upstream: Upstream::default(),
            registrations: Registrations::default(),
            touched: Vec::new(),
        }
    }

    /// The shards: to be pumped after each event, with a doorbell to be waited for.
    pub fn storage(&self) -> &Rc<Storage<D, R>> {
        &self.storage
    }

    /// A connection was accepted from `address`.
    pub fn connection_opened(&mut self, address: Address, now: Now) -> ConnectionId {
        let id = self.hub.open(address, now);
        let Some(session) = self.hub.sessions.get_mut(id) else { return id };
        if self.hub.config.authorization.as_ref().is_some_and(|auth| auth.wants_signatures()) {
            session.nonce = Some(nonce(&mut self.hub.rng));
        }
        let json = info_json(&self.hub.config, session, InfoKind::First);
        self.hub.write(id, json.len() + 16, |out| emit::info(out, &json));
        let counted = self.hub.config.connections.enter(self.hub.config.connections_max);
        if counted.is_none() {
            self.hub.close(id, Some("maximum connections exceeded"));
        }
        if let Some(session) = self.hub.sessions.get_mut(id) {
            session.counted = counted;
        }
        self.hub.debug_connection(id, "Client connection created");
        // With TLS that comes behind the handshake, with what is left of the client's time.
        if self.hub.config.tls.is_none() {
            self.await_credentials(id, now);
        }
        let NetConfig { first_ping_ms, ping_interval_ms, .. } = self.hub.config;
        let first_ms = if first_ping_ms > 0 { first_ping_ms } else { ping_interval_ms };
        self.hub.set_timer(now, first_ms.min(ping_interval_ms), TimerEvent::Ping(id));
        id
    }

    /// The handshake of a connection has ended, or it is served without one. `names` are those in its certificate, if
    /// they are to say who it is. Its time to say so began when it was `accepted`.
    pub fn connection_secured(
        &mut self,
        id: ConnectionId,
        names: Option<Vec<String>>,
        accepted: Now,
    ) {
        if let Some(session) = self.hub.sessions.get_mut(id) {
            session.certificate_names = names;
        }
        self.await_credentials(id, accepted);
    }

    /// How many cores there are.
    #[must_use]
    pub fn core_count(&self) -> usize {
        self.hub.links.core_count()
    }

    /// The settings of now.
    #[must_use]
    pub fn config(&self) -> &NetConfig {
        &self.hub.config
    }

    /// TLS for clients.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<TlsServer>> {
        self.hub.config.tls.clone()
    }

    /// A connection's unprocessed bytes, from the first on. None are taken behind [`Core::fall_silent`].
    pub fn on_bytes(&mut self, id: ConnectionId, input: &[u8], now: Now) -> Intake {
        if self.is_silent() {
            return Intake { consumed: 0, next: Next::Wait };
        }
        self.hub.now = now.mono;
        if let Some(session) = self.hub.sessions.get_mut(id) {
            session.active_at = now.mono;
            session.pings_out = 0;
        }
        let is_upstream = self.upstream.is(id);
        let route_window = self.route_window();
        self.hub.is_crowded = false;
        let mut consumed = 0;
        let mut ahead = Lookahead::default();
        let mut next = loop {
            match self.hub.sessions.get(id) {
                Some(session) if !session.is_closing => {
                    if session.stop.is_some() {
                        break Next::Wait;
                    }
                    if session.routed_bytes >= route_window {
                        self.await_routes(id, now);
                        continue;
                    }
                }
                _ => break Next::Close,
            }
            let step = if is_upstream {
                self.upstream_step(id, &input[consumed..], now)
            } else {
                self.client_step(id, &mut ahead, &input[consumed..], now)
            };
            match step {
                Ok(Parsed::Op { consumed: length, .. }) => consumed += length,
                Ok(Parsed::Incomplete { needed }) => break Next::Read { needed },
                Err(error) => self.hub.close(id, error.error_text()),
            }
        };
        if !is_upstream && self.pause_if_crowded(id, now) {
            next = Next::Wait;
        }
        self.settle(now);
        Intake { consumed, next }
    }

    /// One operation of a client.
    #[inline]
    fn client_step<'a>(
        &mut self,
        id: ConnectionId,
        ahead: &mut Lookahead<'a>,
        input: &'a [u8],
        now: Now,
    ) -> Result<Parsed<()>, ParseError> {
        if self.is_out_of_turn(id, input) {
            self.hub.close(id, Some(AUTHORIZATION_VIOLATION));
            return Ok(Parsed::Op { op: (), consumed: 0 });
        }
        let (op, consumed) = if let Some(next) = ahead.next() {
            next
        } else {
            let has_headers =
                self.hub.sessions.get(id).is_some_and(|session| session.options.headers);
            let limits = ParseLimits { has_headers, ..self.hub.limits };
            match parse(input, &limits)? {
                Parsed::Op { op, consumed } => {
                    self.look_ahead(ahead, &op, &input[consumed..], &limits);
                    (op, consumed)
                }
                Parsed::Incomplete { .. }
                    if input.len() >= STRANGER_SIZE_BYTES_MAX && self.is_stranger(id) =>
                {
                    return Err(ParseError::ControlLine);
                }
                Parsed::Incomplete { needed } => return Ok(Parsed::Incomplete { needed }),
            }
        };
        self.on_op(id, &op, now);
        Ok(Parsed::Op { op: (), consumed })
    }

    /// A connection is gone.
    pub fn connection_closed(&mut self, id: ConnectionId, now: Now) {
        self.hub.debug_connection(id, "Client connection closed");
        let Some(mut session) = self.hub.sessions.remove(id) else { return };
        if self.upstream.is(id) {
            self.upstream_closed();
        } else {
            let mut gone = connection_report(&session, now);
            gone.standing.closed_at = Some(now.wall);
            self.hub.closed.push(gone);
        }
        self.hub.unacked_bytes -= session.unacked_bytes;
        self.hub.depart(id, session.subscriptions.take_all(), now);
        for (core, mut credit) in session.held_credits {
            credit.connection = None;
            self.hub.push_credit(core, credit);
        }
        for (shard, subscription) in session.paused {
            self.with_shard(shard, |shard| shard.resume(subscription));
        }
        self.feed_starved();
        self.settle(now);
    }

    /// Ends a connection from this side.
    pub fn leave(&mut self, id: ConnectionId) {
        self.hub.close(id, None);
    }

    /// A batch came from another core.
    pub fn on_mesh(&mut self, from: CoreId, batch: LinkBatch, now: Now) {
        self.hub.now = now.mono;
        let (messages, has_moved) = self.hub.links.accept(from, batch);
        for message in messages {
            self.on_link_message(from, message, now);
        }
        if has_moved {
            self.check_barriers(now);
        }
        self.settle(now);
    }

    /// The storage's doorbell rang.
    pub fn on_storage(&mut self, now: Now) {
        for shard in self.storage.take_progressed() {
            self.release_acks(shard);
            let damage = self.storage.with(shard, |shard| shard.take_damage());
            self.hub.notices.extend(damage.into_iter().map(Notice::Damage));
            self.touch(shard);
        }
        self.settle(now);
    }

    /// Time has passed: see [`Core::next_deadline`].
    pub fn on_tick(&mut self, now: Now) {
        while !self.is_silent()
            && let Some(event) = self.hub.timers.take_due(now.mono)
        {
            match event {
                TimerEvent::Ping(id) => self.hub.check_alive(id, now),
                TimerEvent::Crowded(id) => self.end_pause(id),
                TimerEvent::Authentication(id) => self.check_credentials_came(id),
                TimerEvent::Write(id, sent_total) => self.hub.check_write(id, sent_total, now),
                TimerEvent::Departures => self.hub.go_on_departing(now),
                TimerEvent::LameDuck => self.take_leave(now),
                TimerEvent::Stan(call) => self.on_stan_timer(call, now),
            }
        }
        for index in 0..self.storage.shards().len() {
            let shard = self.storage.shards()[index];
            let is_due = self.storage.with(shard, |shard| {
                let is_due = shard.next_deadline().is_some_and(|at| at <= now.mono);
                if is_due {
                    shard.tick(now);
                }
                is_due
            });
            if is_due {
                self.touch(shard);
            }
        }
        self.settle(now);
    }

    /// When [`Core::on_tick`] wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let shards = self.storage.shards().iter();
        let deadlines =
            shards.filter_map(|shard| self.storage.with(*shard, |shard| shard.next_deadline()));
        let timers = self.hub.timers.next().filter(|_| !self.is_silent());
        deadlines.chain(timers).min()
    }

    /// Whether there is more to deliver than one turn does: call [`Core::on_storage`] again after others had theirs.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Lends a shard of this core to `work` and remembers to look after it.
    pub(crate) fn with_shard<T>(
        &mut self,
        shard: ShardId,
        work: impl FnOnce(&mut Shard<D>) -> T,
    ) -> T {
        self.touch(shard);
        self.storage.with(shard, work)
    }

    fn touch(&mut self, shard: ShardId) {
        if !self.touched.contains(&shard) {
            self.touched.push(shard);
        }
    }

    /// Does what the event has made possible: requests to this core itself, answers, deliveries. Each touched shard
    /// has one turn; what is left stays for the next call.
    pub(crate) fn settle(&mut self, now: Now) {
        self.run_stan_calls(now);
        let turns = std::mem::take(&mut self.touched);
        for shard in turns {
            for (ticket, answer) in self.storage.with(shard, |shard| shard.take_answers()) {
                self.on_answer(ticket, answer, now);
            }
            let Self { hub, stan, storage, .. } = self;
            let dispatched = storage.with(shard, |shard| {
                let mut courier = Courier::new(hub, &mut stan.scratch, shard.id());
                shard.dispatch(now, &mut courier)
            });
            if dispatched == Dispatched::More {
                self.touch(shard);
            }
        }
        self.run_stan_calls(now);
    }

    fn on_link_message(&mut self, from: CoreId, message: LinkMessage, now: Now) {
        match message {
            LinkMessage::Interest(change) => self.hub.on_remote_interest(from, &change),
            LinkMessage::Routes(batch) => self.hub.on_routes(&batch),
            LinkMessage::Publishes(batch) => self.on_publishes(from, &batch, now),
            LinkMessage::PubAcks { connection, is_direct, acks, published_bytes } => {
                self.acked(connection, is_direct, acks, published_bytes);
            }
            LinkMessage::Acks(acks) => {
                for ack in acks {
                    self.on_subscription_ack(ack, now);
                }
            }
            LinkMessage::Deliveries(batch) => self.hub.on_deliveries(from, &batch),
            LinkMessage::Credits(credits) => {
                let mut resumed = Vec::new();
                for credit in credits {
                    self.hub.windows.credit(from, credit, &mut resumed);
                }
                for (shard, subscription) in resumed {
                    self.with_shard(shard, |shard| shard.resume(subscription));
                }
            }
            LinkMessage::Stan(message) => self.on_stan_message(from, message, now),
            LinkMessage::Settings(settings) => self.on_settings(&settings, now),
            LinkMessage::Inquiry(ticket, inquiry) => {
                let report = self.report(&inquiry, now);
                self.hub.links.push(from, LinkMessage::Report(ticket, report));
            }
            LinkMessage::Report(ticket, report) => self.hub.reports.push((ticket, report)),
            LinkMessage::Silent => self.on_silent(),
        }
    }
}
