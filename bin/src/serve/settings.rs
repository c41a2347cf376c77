//! From the command line to the settings of engine and front.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weirlog_engine::limits::{ChannelLimitRules, LimitRule};
use weirlog_engine::storage::{StorageConfig, Tuning};
use weirlog_net::auth::{AuthError, Authorization};
use weirlog_net::config::NetConfig;
use weirlog_net::detail::Details;
use weirlog_net::partition::Partition;
use weirlog_net::tls::{TlsError, TlsServer};

use super::error::ServeError;
use crate::args::{LogOptions, Options};

/// Letters of a server id: those of base 32, as clients expect them.
const ID_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Length of a server id behind its first letter.
const ID_LETTERS_COUNT: usize = 55;

/// What the engine is told.
pub(super) fn storage_config(options: &Options, seed: u64) -> Result<StorageConfig, ServeError> {
    let payload_size_bytes_max = u32::try_from(options.payload_bytes_max)
        .map_err(|_| ServeError::Payload(options.payload_bytes_max))?;
    Ok(StorageConfig {
        cluster_id: options.cluster_id.clone(),
        shard_count: options.shards,
        payload_size_bytes_max,
        channels_max: options.channels_max,
        limits: limits(options),
        seed,
        tuning: Tuning::default(),
    })
}

/// The limits of all channels.
pub(super) fn limits(options: &Options) -> ChannelLimitRules {
    ChannelLimitRules::new(options.channel_limits, options.limit_rules.clone())
}

/// What the front is told.
pub(super) fn net_config(options: &Options, address: SocketAddr, shard_count: u16) -> NetConfig {
    let server_id = server_id();
    let (host, port) = match &options.advertised {
        Some(shown) => (shown.host.clone(), shown.port.unwrap_or(address.port())),
        None => (address.ip().to_string(), address.port()),
    };
    NetConfig {
        cluster_id: options.cluster_id.clone(),
        server_name: options.server_name.clone().unwrap_or_else(|| server_id.clone()),
        server_id,
        host,
        port,
        shard_count,
        channels_max: options.channels_max,
        payload_size_bytes_max: options.payload_bytes_max,
        details: details(&options.log),
        lame_duck_ms: milliseconds(options.lame_duck.duration),
        lame_duck_grace_ms: milliseconds(options.lame_duck.grace),
        heartbeat_interval_ms: milliseconds(options.heartbeat.interval),
        heartbeat_timeout_ms: milliseconds(options.heartbeat.timeout),
        heartbeat_fail_count_max: options.heartbeat.failures_max,
        replaces_durable: options.is_durable_replaced,
        discover_prefix: options.discover_prefix.clone(),
        has_headers: options.connections.has_headers,
        connections_max: options.connections.connections_max,
        subscriptions_max: options.connections.subscriptions_max,
        control_line_bytes_max: options.connections.control_line_bytes_max,
        pending_bytes_max: options.connections.pending_bytes_max,
        buffered_bytes_max: options.connections.buffered_bytes_max,
        ping_interval_ms: milliseconds(options.connections.ping_interval).max(1),
        ping_out_max: options.connections.pings_out_max,
        write_deadline_ms: milliseconds(options.connections.write_deadline).max(1),
        partition: partition(options),
        ..NetConfig::default()
    }
}

/// The channels of this server, if it shares its cluster id.
fn partition(options: &Options) -> Option<Arc<Partition>> {
    let channels = options.limit_rules.iter().map(LimitRule::pattern_text);
    options.is_partitioned.then(|| Arc::new(Partition::new(channels.collect())))
}

/// What was asked for and is not done, because something else was asked for too.
pub(super) fn contradictions(options: &Options) -> Vec<&'static str> {
    let Options { log, lame_duck, .. } = options;
    let mut found = Vec::new();
    if log.file_bytes_max > 0 && log.file.is_none() {
        found.push("-log_size_limit has no effect: there is no log file (-l)");
    }
    if options.login_file.is_some() && options.upstreams.is_empty() {
        found.push(
            "credentials and nkey_seed_file have no effect: there is no nats_server to log in at",
        );
    }
    if log.syslog.is_some() && log.file.is_some() {
        found.push("-s and -r have no effect: the log goes to a file (-l)");
    }
    if lame_duck.grace > lame_duck.duration {
        found.push("-lame_duck_grace_period is cut to -lame_duck_duration");
    }
    found
}

/// Which debug and trace lines are told.
fn details(log: &LogOptions) -> Details {
    Details {
        server_debug: log.server.debug,
        server_trace: log.server.trace,
        streaming_debug: log.streaming.debug,
        streaming_trace: log.streaming.trace,
        payload_bytes_max: log.traced_bytes_max,
    }
}

/// Who may connect; none: everybody.
pub(super) fn authorization(
    options: &Options,
    tls: Option<&TlsServer>,
) -> Result<Option<Arc<Authorization>>, AuthError> {
    let Some(mut spec) = options.authorization.clone() else { return Ok(None) };
    if let Some(tls) = tls {
        spec.timeout_ms.get_or_insert(tls.login_timeout_ms());
    }
    Authorization::new(&spec).map(Arc::new).map(Some)
}

/// TLS for clients; none: nothing of it was asked for.
pub(super) fn tls(options: &Options) -> Result<Option<Arc<TlsServer>>, TlsError> {
    let loaded = options.tls.as_ref().map(TlsServer::load).transpose()?;
    Ok(loaded.map(Arc::new))
}

/// 64 bits that differ from start to start.
pub(super) fn random_bits() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn server_id() -> String {
    let mut id = String::from("N");
    let mut bits = 0;
    for position in 0..ID_LETTERS_COUNT {
        if position % 12 == 0 {
            bits = random_bits();
        }
        let letter = usize::try_from(bits & 31).expect("five bits");
        id.push(char::from(ID_LETTERS[letter]));
        bits >>= 5;
    }
    id
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, parse};

    #[test]
    fn a_server_id_has_56_letters_and_is_new_each_time() {
        let id = server_id();
        assert_eq!(id.len(), 56);
        assert!(id.bytes().skip(1).all(|letter| ID_LETTERS.contains(&letter)));
        assert_ne!(id, server_id());
    }

    #[test]
    fn a_login_is_a_user_with_a_password_or_a_token() {
        let made = |user: &str, password: &str, token: &str| {
            let line = [("-user", user), ("-pass", password), ("-auth", token)];
            let parsed = parse(line.map(|(flag, value)| format!("{flag}={value}").into())).unwrap();
            let Command::Serve(options) = parsed.command else { panic!("does not serve") };
            authorization(&options, None).map(|made| made.is_some())
        };
        assert_eq!(made("", "", ""), Ok(false));
        assert_eq!(made("ann", "pw", ""), Ok(true));
        assert_eq!(made("", "", "T"), Ok(true));
        assert_eq!(made("ann", "", "T"), Err(AuthError::Empty));
        assert_eq!(made("", "pw", ""), Err(AuthError::Empty));
    }

    #[test]
    fn clients_are_shown_the_advertised_address() {
        let shown = |line: &str| {
            let parsed = crate::args::parse(line.split_whitespace().map(Into::into)).unwrap();
            let crate::args::Command::Serve(options) = parsed.command else { panic!("{line}") };
            let config = net_config(&options, SocketAddr::from(([10, 0, 0, 1], 4222)), 1);
            (config.host, config.port)
        };
        assert_eq!(shown(""), ("10.0.0.1".to_owned(), 4222));
        assert_eq!(shown("-client_advertise h"), ("h".to_owned(), 4222));
        assert_eq!(shown("-client_advertise h:7"), ("h".to_owned(), 7));
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let count = |line: &str| {
            let parsed = crate::args::parse(line.split_whitespace().map(Into::into)).unwrap();
            let crate::args::Command::Serve(options) = parsed.command else { panic!("{line}") };
            contradictions(&options).len()
        };
        assert_eq!(count(""), 0);
        assert_eq!(count("-l f -log_size_limit 1mb -lame_duck_duration 1m"), 0);
        assert_eq!(count("-log_size_limit 1mb"), 1);
        assert_eq!(count("-l f -s"), 1);
        assert_eq!(count("-lame_duck_duration 5s"), 1);
    }
}
