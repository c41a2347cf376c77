//! From the command line to the settings of engine and front.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use weirlog_engine::storage::{StorageConfig, Tuning};
use weirlog_net::auth::{AuthError, Authorization, AuthorizationSpec, UserSpec};
use weirlog_net::config::NetConfig;
use weirlog_net::detail::Details;

use super::error::ServeError;
use crate::args::{ListenAddress, LogOptions, LoginOptions, Options};

/// Letters of a server id: those of base 32, as clients expect them.
const ID_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Length of a server id behind its first letter.
const ID_LETTERS_COUNT: usize = 55;
/// A server on this machine answers at once.
const KNOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// A server that was killed a moment ago may still be on its way out.
const KNOCKS_COUNT_MAX: u32 = 10;
/// The pause between two of them.
const KNOCK_INTERVAL: Duration = Duration::from_millis(100);

/// What the engine is told.
pub(super) fn storage_config(options: &Options, seed: u64) -> Result<StorageConfig, ServeError> {
    let payload_size_bytes_max = u32::try_from(options.payload_bytes_max)
        .map_err(|_| ServeError::Payload(options.payload_bytes_max))?;
    Ok(StorageConfig {
        cluster_id: options.cluster_id.clone(),
        shard_count: options.shards,
        payload_size_bytes_max,
        channels_max: options.channels_max,
        limits: options.channel_limits,
        seed,
        tuning: Tuning::default(),
    })
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
        ..NetConfig::default()
    }
}

/// What was asked for and is not done, because something else was asked for too.
pub(super) fn contradictions(options: &Options) -> Vec<&'static str> {
    let Options { log, lame_duck, .. } = options;
    let mut found = Vec::new();
    if log.file_bytes_max > 0 && log.file.is_none() {
        found.push("-log_size_limit has no effect: there is no log file (-l)");
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
pub(super) fn authorization(login: &LoginOptions) -> Result<Option<Arc<Authorization>>, AuthError> {
    let LoginOptions { user, password, token } = login;
    if *login == LoginOptions::default() {
        return Ok(None);
    }
    let mut spec = AuthorizationSpec::default();
    if !user.is_empty() || !password.is_empty() {
        let (name, password) = (user.clone(), password.clone());
        spec.users.push(UserSpec { name, password, permissions: None });
    }
    spec.token = (!token.is_empty()).then(|| token.clone());
    Authorization::new(&spec).map(Arc::new).map(Some)
}

/// The address to listen on, which nobody else does: the listener itself would share its port with another server of
/// the same user, so that is found out here, by knocking. (Binding once without sharing would not do: a port whose last
/// connections are still in TIME_WAIT could not be had.) Port `None` becomes a free one.
pub(super) fn free_address(listen: &ListenAddress) -> Result<SocketAddr, ServeError> {
    let failed = |reason: std::io::Error| ServeError::Listen {
        host: listen.host.clone(),
        port: listen.port.unwrap_or(0),
        reason: reason.to_string(),
    };
    let mut addresses =
        (listen.host.as_str(), listen.port.unwrap_or(0)).to_socket_addrs().map_err(failed)?;
    let address =
        addresses.next().ok_or_else(|| failed(std::io::Error::other("the name has no address")))?;
    if address.port() == 0 {
        return TcpListener::bind(address).and_then(|probe| probe.local_addr()).map_err(failed);
    }
    let mut door = address;
    if door.ip().is_unspecified() {
        door.set_ip(if door.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    for _ in 0..KNOCKS_COUNT_MAX {
        if TcpStream::connect_timeout(&door, KNOCK_TIMEOUT).is_err() {
            return Ok(address);
        }
        std::thread::sleep(KNOCK_INTERVAL);
    }
    Err(failed(std::io::ErrorKind::AddrInUse.into()))
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
            let [user, password, token] = [user, password, token].map(str::to_owned);
            authorization(&LoginOptions { user, password, token }).map(|made| made.is_some())
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

    #[test]
    fn a_port_in_use_is_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let listen = |port| ListenAddress { host: "127.0.0.1".to_owned(), port };
        assert!(matches!(free_address(&listen(Some(port))), Err(ServeError::Listen { .. })));
        assert_ne!(free_address(&listen(None)).unwrap().port(), 0);
    }
}
