//! What a core has beside its shards: connections, interest, links, timers, the registry copy. The parts of the core
//! that deliver need these while a shard is lent out, so they are one value of their own.

use fastrand::Rng;
use weirlog_engine::error::Damage;
use weirlog_engine::types::{Monotonic, Now, ShardId};

use super::sessions::Sessions;
use super::windows::Windows;
use crate::address::Address;
use crate::auth::PasswordCheck;
use crate::buffered::Buffered;
use crate::closed_connections::ClosedConnections;
use crate::config::{NetConfig, OUTBOX_RESUME_BYTES, OUTBOX_SOFT_BYTES};
use crate::detail::Detail;
use crate::flow::{ChannelTraffic, Flow, Traffic};
use crate::ids::{ConnectionId, CoreId, Subscriber};
use crate::interest::{Interest, RemoteInterest};
use crate::lame_duck::LameDuck;
use crate::link::{Credit, LinkMessage, Links};
use crate::monitor::report::{Report, ReportTicket};
use crate::nats::emit;
use crate::nats::parse::ParseLimits;
use crate::registry::Registry;
use crate::session::Session;
use crate::stan::TimerCall;
use crate::stan::subjects::Subjects;
use crate::timers::Timers;

use super::departures::Departures;
use super::routing::Found;

/// What a timer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerEvent {
    /// Look whether a connection is still alive.
    Ping(ConnectionId),
    /// Read on a connection that publishes to somebody who hardly keeps up.
    Crowded(ConnectionId),
    /// Look whether a connection has said who it is.
    Authentication(ConnectionId),
    /// Look whether a write has made progress since so many bytes were sent.
    Write(ConnectionId, u64),
    /// Let more subscriptions go whose connections are gone.
    Departures,
    /// Close those clients whose turn it is.
    LameDuck,
    /// STAN's.
    Stan(TimerCall),
}

/// Something the operator should hear about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A connection was closed because all together held too much in memory, and it most of that.
    Shed {
        /// Its number.
        number: u64,
        /// Its address.
        client_ip: String,
        /// What it held.
        buffered_bytes: usize,
    },
    /// A connection was closed because it did not read what was sent to it.
    SlowConsumer {
        /// The number shown to the client.
        number: u64,
        /// Its address.
        client_ip: String,
        /// What waited for it.
        pending_bytes: usize,
    },
    /// A debug or trace line.
    Detail(Detail),
    /// A STAN client was closed because its heartbeats failed.
    ClientTimedOut {
        /// Its id.
        client_id: String,
    },
    /// A client and this server did not come to speak TLS.
    HandshakeFailed {
        /// The client's address.
        client_ip: String,
        /// Why.
        reason: String,
    },
    /// The other NATS server said so.
    UpstreamError {
        /// Its words.
        text: String,
    },
    /// Clients of the other NATS server are served.
    UpstreamJoined,
    /// The connection to the other NATS server is gone; it is made anew.
    UpstreamLost,
    /// Something on disk is not as it was written. Each place is told once.
    Damage(Damage),
    /// A shard's log takes no more writes.
    LogFinished {
        /// The shard.
        shard: ShardId,
        /// Why.
        reason: String,
    },
}

/// Why a slow consumer was closed, in the words of the reference's `/connz`; it is not told.
const TOO_MUCH_WAITS: &str = "Slow Consumer (Pending Bytes)";
const WRITES_MAKE_NO_PROGRESS: &str = "Slow Consumer (Write Deadline)";

/// What a core has done since its start, for monitoring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages of core NATS, STAN's own among them.
    pub traffic: Traffic,
    /// Messages of channels.
    pub channels: ChannelTraffic,
    /// Connections closed because they did not read.
    pub slow_consumers: u64,
    /// Connections closed because all together held too much in memory.
    pub shed: u64,
    /// Subscriptions made.
    pub inserted: u64,
    /// Subscriptions ended.
    pub removed: u64,
    /// Lookups of who gets a message.
    pub lookups: u64,
    /// Subscribers found by them, other cores not counted.
    pub found: u64,
    /// The most that one lookup found.
    pub found_max: u64,
}

impl Tally {
    /// Adds another core's.
    pub(crate) fn add_all(&mut self, other: &Self) {
        self.traffic.add_all(other.traffic);
        self.channels.add_all(other.channels);
        self.slow_consumers += other.slow_consumers;
        self.shed += other.shed;
        self.inserted += other.inserted;
        self.removed += other.removed;
        self.lookups += other.lookups;
        self.found += other.found;
        self.found_max = self.found_max.max(other.found_max);
    }
}

/// One core but for its shards.
#[derive(Debug)]
pub struct Hub {
    pub(crate) config: NetConfig,
    pub(crate) limits: ParseLimits,
    pub(crate) links: Links,
    pub(crate) sessions: Sessions,
    /// What they hold in memory.
    pub(crate) buffered: Buffered,
    pub(crate) connections_count: u64,
    pub(crate) tally: Tally,
    pub(crate) closed: ClosedConnections,
    /// Answers of cores to questions of monitoring, and how many were asked.
    pub(crate) reports: Vec<(ReportTicket, Report)>,
    pub(crate) inquiries_count: u64,
    pub(crate) interest: Interest<Subscriber>,
    pub(crate) remote: RemoteInterest,
    /// Grows with each change of either interest.
    pub(crate) interest_version: u64,
    /// Patterns that could match subjects which the server itself takes messages on.
    pub(crate) eavesdroppers: usize,
    /// Of the subjects that the server itself takes messages on.
    pub(crate) own_patterns: Vec<Vec<u8>>,
    pub(crate) found: Found,
    /// Whether somebody who got a message has three quarters of what may wait.
    pub(crate) is_crowded: bool,
    pub(crate) registry: Registry,
    pub(crate) timers: Timers<TimerEvent>,
    pub(crate) rng: Rng,
    pub(crate) windows: Windows,
    /// Published over this core's connections and not acked.
    pub(crate) unacked_bytes: usize,
    /// Connections that wait because all together have published too much.
    pub(crate) starved: Vec<ConnectionId>,
    /// Subscriptions whose connections are gone.
    pub(crate) departures: Departures,
    /// Connections with something to write, or to be closed.
    pub(crate) flushes: Vec<ConnectionId>,
    /// Connections whose input may be processed further.
    pub(crate) wakes: Vec<ConnectionId>,
    /// Connections that were closed for what they hold in memory.
    pub(crate) releases: Vec<ConnectionId>,
    pub(crate) notices: Vec<Notice>,
    /// Set when the server is about to go.
    pub(crate) lame_duck: Option<LameDuck>,
    /// The time of the present event, for what is deep below it.
    pub(crate) now: Monotonic,
    /// Passwords for the edge to compare, and how many it was given and has not answered.
    pub(crate) checks: Vec<(ConnectionId, PasswordCheck)>,
    pub(crate) checks_count: usize,
}

impl Hub {
    pub(crate) fn new(config: NetConfig, own: CoreId, core_count: u16, seed: u64) -> Self {
        let limits = ParseLimits {
            control_line_bytes_max: config.control_line_bytes_max,
            payload_bytes_max: config.payload_size_bytes_max,
            has_headers: true,
        };
        Self {
            limits,
            links: Links::new(own, core_count),
            sessions: Sessions::default(),
            buffered: Buffered::default(),
            connections_count: 0,
            tally: Tally::default(),
            closed: ClosedConnections::new(core_count),
            reports: Vec::new(),
            inquiries_count: 0,
            interest: Interest::default(),
            remote: RemoteInterest::default(),
            interest_version: 1,
            eavesdroppers: 0,
            own_patterns: Subjects::of(&config).patterns(),
            found: Found::default(),
            is_crowded: false,
            registry: Registry::default(),
            timers: Timers::default(),
            rng: Rng::with_seed(seed),
            windows: Windows::default(),
            unacked_bytes: 0,
            starved: Vec::new(),
            departures: Departures::default(),
            flushes: Vec::new(),
            wakes: Vec::new(),
            releases: Vec::new(),
            notices: Vec::new(),
            lame_duck: None,
            now: Monotonic::default(),
            checks: Vec::new(),
            checks_count: 0,
            config,
        }
    }

    pub(crate) fn own(&self) -> CoreId {
        self.links.own()
    }

    pub(crate) fn core_of(&self, shard: ShardId) -> CoreId {
        CoreId::of_shard(shard, self.links.core_count())
    }

    /// Lets `work` append to a connection's outbox, if the connection is there and open. A connection that does not
    /// read is cut.
    #[inline]
    pub(crate) fn write(
        &mut self,
        id: ConnectionId,
        size_hint: usize,
        work: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.is_closing {
            return;
        }
        session.outbox.write_with(size_hint, work);
        if session.outbox.len() > self.config.pending_bytes_max {
            self.cut_slow_consumer(id);
        } else if !session.is_flush_due {
            session.is_flush_due = true;
            self.flushes.push(id);
        }
    }

    /// Messages go to a connection.
    pub(crate) fn count_sent(&mut self, id: ConnectionId, flow: Flow) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.traffic.sent.add_all(flow);
            self.tally.traffic.sent.add_all(flow);
        }
    }

    /// Closes a connection, after an `-ERR` if there is a text and after what waits is written.
    pub(crate) fn close(&mut self, id: ConnectionId, error_text: Option<&str>) {
        if let Some(text) = error_text {
            self.debug_connection(id, &format!("Closing: {text}"));
            self.write(id, text.len() + 16, |out| emit::err(out, text));
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.is_closing = true;
            if let Some(text) = error_text {
                session.closing_text.get_or_insert_with(|| text.into());
            }
        }
        self.mark_flush(id);
    }

    /// Puts a connection on the list of those the edge has to look at.
    pub(crate) fn mark_flush(&mut self, id: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(id)
            && !std::mem::replace(&mut session.is_flush_due, true)
        {
            self.flushes.push(id);
        }
    }

    /// Closes a connection at once, with all that waits for it.
    pub(crate) fn cut_slow_consumer(&mut self, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.is_cut {
            return;
        }
        self.tally.slow_consumers += 1;
        let is_too_much = session.outbox.len() > self.config.pending_bytes_max;
        let text = if is_too_much { TOO_MUCH_WAITS } else { WRITES_MAKE_NO_PROGRESS };
        session.closing_text.get_or_insert_with(|| text.into());
        self.notices.push(Notice::SlowConsumer {
            number: session.number,
            client_ip: session.address.host.clone(),
            pending_bytes: session.outbox.len(),
        });
        self.cut(id);
    }

    /// Whether a connection can take more of history.
    pub(crate) fn has_outbox_room(&self, id: ConnectionId) -> bool {
        self.sessions.get(id).is_none_or(|session| session.outbox.len() < OUTBOX_SOFT_BYTES)
    }

    /// Gives credit back for deliveries from `core`, or keeps it until the connection has read on.
    pub(crate) fn grant(&mut self, core: CoreId, credit: Credit) {
        let full = credit.connection.filter(|id| !self.has_outbox_room(*id));
        match full.and_then(|id| self.sessions.get_mut(id)) {
            Some(session) => session.held_credits.push((core, credit)),
            None => self.push_credit(core, credit),
        }
    }

    /// Sends a credit to `core`, together with the one before it if they are for the same.
    pub(crate) fn push_credit(&mut self, core: CoreId, credit: Credit) {
        if let Some(LinkMessage::Credits(credits)) = self.links.last_mut(core) {
            match credits.last_mut() {
                Some(last)
                    if last.shard == credit.shard
                        && last.subscription == credit.subscription
                        && last.connection == credit.connection =>
                {
                    last.bytes += credit.bytes;
                }
                _ => credits.push(credit),
            }
        } else {
            self.links.push(core, LinkMessage::Credits(vec![credit]));
        }
    }

    /// Takes what waits for room in a connection's outbox, if there is room now.
    pub(crate) fn take_paused(&mut self, id: ConnectionId) -> Vec<super::windows::SubscriptionKey> {
        let Some(session) = self.sessions.get_mut(id) else { return Vec::new() };
        if session.outbox.len() > OUTBOX_RESUME_BYTES {
            return Vec::new();
        }
        let paused = std::mem::take(&mut session.paused);
        for (core, credit) in std::mem::take(&mut session.held_credits) {
            self.push_credit(core, credit);
        }
        paused
    }

    /// Sets a timer `ms` from now.
    pub(crate) fn set_timer(&mut self, now: Now, ms: u64, event: TimerEvent) {
        self.timers.set(now.mono.after_ms(ms), event);
    }

    /// Looks whether a connection is alive: pings it if it was silent, closes it if it stayed so.
    pub(crate) fn check_alive(&mut self, id: ConnectionId, now: Now) {
        let interval_ms = self.config.ping_interval_ms;
        let pings_out_max = self.config.ping_out_max;
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.is_closing {
            return;
        }
        // The first ping comes early and to everybody: the answer tells the round trip.
        let is_first = self.config.first_ping_ms > 0
            && session.pinged_at.is_none()
            && session.round_trip_ns.is_none();
        let due = session.active_at.after_ms(interval_ms);
        if due > now.mono && !is_first {
            self.timers.set(due, TimerEvent::Ping(id));
            return;
        }
        if session.pings_out >= pings_out_max {
            self.close(id, Some("Stale Connection"));
            return;
        }
        session.pings_out += 1;
        session.pinged_at = Some(now.mono);
        self.write(id, 8, emit::ping);
        self.set_timer(now, interval_ms, TimerEvent::Ping(id));
    }

    /// A connection has answered a ping.
    pub(crate) fn on_pong(&mut self, id: ConnectionId, now: Now) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.pings_out = 0;
        // One that nobody asked for tells nothing.
        if let Some(pinged_at) = session.pinged_at.take() {
            session.round_trip_ns = Some(now.mono.since(pinged_at));
        }
    }

    /// Looks whether a connection has read on since `sent_total` bytes were sent.
    pub(crate) fn check_write(&mut self, id: ConnectionId, sent_total: u64, now: Now) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.outbox.is_empty() {
            session.has_write_deadline = false;
        } else if session.outbox.sent_total() == sent_total {
            self.cut_slow_consumer(id);
        } else {
            let sent_total = session.outbox.sent_total();
            let deadline_ms = self.config.write_deadline_ms;
            self.set_timer(now, deadline_ms, TimerEvent::Write(id, sent_total));
        }
    }

    /// Adds a connection and greets it.
    pub(crate) fn open(&mut self, address: Address, now: Now) -> ConnectionId {
        self.connections_count += 1;
        let core_count = self.links.core_count() as u64;
        let number = (self.connections_count - 1) * core_count + u64::from(self.own().0) + 1;
        self.sessions.insert(|id| Session::new(id, number, address, now, &self.buffered))
    }
}
