//! Settings that change while the server runs: the core that is told tells the others over the links, so that each
//! core sees them between two events.

use std::sync::Arc;

use weirlog_engine::disk::Disk;
use weirlog_engine::limits::ChannelLimitRules;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::Core;
use super::access::AUTHORIZATION_VIOLATION;
use crate::auth::Authorization;
use crate::config::NetConfig;
use crate::detail::Details;
use crate::ids::ConnectionId;
use crate::info::{InfoKind, info_json};
use crate::link::LinkMessage;
use crate::nats::emit;
use crate::nats::parse::ParseLimits;
use crate::tls::TlsServer;

/// What may change while the server runs. The names are those of [`NetConfig`].
#[derive(Debug, Clone)]
pub struct RuntimeSettings {
    /// Headers and payload of one message at most; never more than at the start, which the log was opened for.
    pub payload_size_bytes_max: usize,
    /// Arguments of one control line at most.
    pub control_line_bytes_max: usize,
    /// Bytes waiting for one connection at most.
    pub pending_bytes_max: usize,
    /// What all connections of a core hold in memory at most.
    pub buffered_bytes_max: usize,
    /// How long a write may make no progress.
    pub write_deadline_ms: u64,
    /// Connections at most, for those to come; 0: no limit.
    pub connections_max: usize,
    /// Subscriptions of a connection at most, for those to come; 0: no limit.
    pub subscriptions_max: usize,
    /// From the next ping on.
    pub ping_interval_ms: u64,
    /// Pings without answer.
    pub ping_out_max: u32,
    /// Debug and trace lines that are told.
    pub details: Details,
    /// Who may connect. Connections of users that are gone or changed are closed.
    pub authorization: Option<Arc<Authorization>>,
    /// TLS, for connections to come.
    pub tls: Option<Arc<TlsServer>>,
    /// Limits of channels, applied to those there are.
    pub limits: ChannelLimitRules,
}

impl RuntimeSettings {
    /// Those of `config`, with the limits of the store.
    #[must_use]
    pub fn of(config: &NetConfig, limits: ChannelLimitRules) -> Self {
        Self {
            payload_size_bytes_max: config.payload_size_bytes_max,
            control_line_bytes_max: config.control_line_bytes_max,
            pending_bytes_max: config.pending_bytes_max,
            buffered_bytes_max: config.buffered_bytes_max,
            write_deadline_ms: config.write_deadline_ms,
            connections_max: config.connections_max,
            subscriptions_max: config.subscriptions_max,
            ping_interval_ms: config.ping_interval_ms,
            ping_out_max: config.ping_out_max,
            details: config.details,
            authorization: config.authorization.clone(),
            tls: config.tls.clone(),
            limits,
        }
    }
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Takes other settings, and hands them to all other cores.
    pub fn reload(&mut self, settings: &Arc<RuntimeSettings>, now: Now) {
        for core in self.hub.links.others() {
            self.hub.links.push(core, LinkMessage::Settings(settings.clone()));
        }
        self.on_settings(settings, now);
        self.settle(now);
    }

    /// Takes other settings on this core.
    pub(super) fn on_settings(&mut self, settings: &RuntimeSettings, now: Now) {
        let config = &mut self.hub.config;
        let is_payload_changed = config.payload_size_bytes_max != settings.payload_size_bytes_max;
        config.payload_size_bytes_max = settings.payload_size_bytes_max;
        config.control_line_bytes_max = settings.control_line_bytes_max;
        config.pending_bytes_max = settings.pending_bytes_max;
        config.buffered_bytes_max = settings.buffered_bytes_max;
        config.write_deadline_ms = settings.write_deadline_ms;
        config.connections_max = settings.connections_max;
        config.subscriptions_max = settings.subscriptions_max;
        config.ping_interval_ms = settings.ping_interval_ms;
        config.ping_out_max = settings.ping_out_max;
        config.details = settings.details;
        config.tls.clone_from(&settings.tls);
        self.hub.limits = ParseLimits {
            has_headers: self.hub.limits.has_headers,
            control_line_bytes_max: settings.control_line_bytes_max,
            payload_bytes_max: settings.payload_size_bytes_max,
        };
        for index in 0..self.storage.shards().len() {
            let shard = self.storage.shards()[index];
            self.with_shard(shard, |shard| shard.set_limits(settings.limits.clone(), now));
        }
        self.close_excess();
        self.change_users(settings.authorization.clone());
        if is_payload_changed {
            self.tell_payload();
        }
    }

    /// Closes the connections of those who could not come in again, or who may do something else now.
    fn change_users(&mut self, new: Option<Arc<Authorization>>) {
        let old = std::mem::replace(&mut self.hub.config.authorization, new.clone());
        for id in self.clients() {
            let Some(session) = self.hub.sessions.get_mut(id) else { continue };
            let is_stranger = session.identity.is_none();
            match (&old, &new) {
                (None, None) => return,
                (_, None) => {
                    // Everybody may do everything now.
                    session.publisher.channel.clear();
                    session.identity = Some(None);
                }
                // Who it is will be seen by the new rules.
                (Some(_), Some(_)) if is_stranger => {}
                (Some(old), Some(new)) if old.holds_under(new, &session.login) => {}
                (_, Some(_)) => self.hub.close(id, Some(AUTHORIZATION_VIOLATION)),
            }
        }
    }

    /// Tells clients that understand it how large a message may be now.
    fn tell_payload(&mut self) {
        for id in self.clients() {
            let Some(session) = self.hub.sessions.get(id) else { continue };
            if session.options.protocol < 1 {
                continue;
            }
            let json = info_json(&self.hub.config, session, InfoKind::Connected);
            self.hub.write(id, json.len() + 16, |out| emit::info(out, &json));
        }
    }

    /// Closes connections, the newest first, while all cores together have more than may be.
    fn close_excess(&mut self) {
        let max = self.hub.config.connections_max;
        let mut own = self.clients();
        while let Some(id) = own.pop() {
            let Some(session) = self.hub.sessions.get_mut(id) else { continue };
            if session.counted.is_none() {
                continue;
            }
            if !self.hub.config.connections.shed(max) {
                return;
            }
            if let Some(counted) = session.counted.take() {
                counted.forget();
            }
            self.hub.close(id, Some("maximum connections exceeded"));
        }
    }

    /// The open connections that are not those to another NATS server.
    pub(super) fn clients(&self) -> Vec<ConnectionId> {
        let open = self.hub.sessions.iter().filter(|session| !session.is_closing);
        open.map(|session| session.id).filter(|id| !self.upstream.is(*id)).collect()
    }
}
