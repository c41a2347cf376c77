//! The command line as meant: plain values that the server starts from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use weirlog_engine::limits::LimitRule;
use weirlog_engine::types::ChannelLimits;
use weirlog_net::auth::AuthorizationSpec;
use weirlog_net::config::NetConfig;
use weirlog_net::front::upstream::UpstreamAddress;
use weirlog_net::sim::{FaultKinds, Script};
use weirlog_net::tls::{ClientCertificates, TlsClientSpec, TlsSpec};

use crate::log::SyslogTarget;

/// How many channels a server has room for unless told otherwise, as in the reference.
pub(crate) const CHANNELS_MAX_DEFAULT: u64 = 100;

/// What a server was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Part of all subjects, fixed when the store is made.
    pub(crate) cluster_id: String,
    /// Where messages are kept.
    pub(crate) store: StoreKind,
    /// The root of the file store; unused by the memory store.
    pub(crate) directory: PathBuf,
    /// Shards of a store that is made now; `None`: as the machine suggests. An old store keeps its number.
    pub(crate) shards: Option<u16>,
    /// Cores to run on; `None`: all there are.
    pub(crate) cores: Option<usize>,
    /// Channels at once; 0 is unlimited.
    pub(crate) channels_max: u64,
    /// The limits of each channel.
    pub(crate) channel_limits: ChannelLimits,
    /// How clients are watched.
    pub(crate) heartbeat: HeartbeatOptions,
    /// Whether a durable subscription that is in use goes to whoever asks for it next.
    pub(crate) is_durable_replaced: bool,
    /// Whether only the channels of `limit_rules` are served: other servers of this cluster id have the rest.
    pub(crate) is_partitioned: bool,
    /// Where clients connect.
    pub(crate) listen: ListenAddress,
    /// Where monitoring is served.
    pub(crate) monitor: MonitorOptions,
    /// The address that INFO shows instead; its port `None`: the one listened on.
    pub(crate) advertised: Option<ListenAddress>,
    /// NATS servers whose clients are served; if there are none, this server listens.
    pub(crate) upstreams: Vec<UpstreamAddress>,
    /// The name shown to clients; `None`: one is made up.
    pub(crate) server_name: Option<String>,
    /// The file that holds the process id while the server runs.
    pub(crate) pid_file: Option<PathBuf>,
    /// What the subject of connect requests begins with.
    pub(crate) discover_prefix: String,
    /// Limits of channels that are not those of all.
    pub(crate) limit_rules: Vec<LimitRule>,
    /// What connections may do.
    pub(crate) connections: ConnectionOptions,
    /// Who may connect; `None`: everybody.
    pub(crate) authorization: Option<AuthorizationSpec>,
    /// Where a file with the port is written while the server listens.
    pub(crate) ports_directory: Option<PathBuf>,
    /// The largest message, headers included, that a client may publish.
    pub(crate) payload_bytes_max: usize,
    /// The login on the command line: part of `authorization`, or for the servers of `upstreams`.
    pub(crate) login: LoginOptions,
    /// A login at the servers of `upstreams` that stands in a file; the command line's wins.
    pub(crate) login_file: Option<LoginFile>,
    /// How the server goes at SIGUSR2.
    pub(crate) lame_duck: LameDuckOptions,
    /// TLS for clients; `None`: there is none.
    pub(crate) tls: Option<TlsSpec>,
    /// TLS towards `upstreams`.
    pub(crate) tls_there: TlsClientOptions,
    /// What is logged.
    pub(crate) log: LogOptions,
}

impl Options {
    /// Whether all limits have their default values, whoever set them.
    #[must_use]
    pub(crate) fn limits_are_default(&self) -> bool {
        self.channels_max == CHANNELS_MAX_DEFAULT && self.channel_limits == ChannelLimits::default()
    }
}

/// What connections may do, and how they are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectionOptions {
    /// Connections at once; 0 is unlimited.
    pub(crate) connections_max: usize,
    /// Subscriptions of one; 0 is unlimited.
    pub(crate) subscriptions_max: usize,
    /// The longest control line.
    pub(crate) control_line_bytes_max: usize,
    /// Bytes that may wait for one.
    pub(crate) pending_bytes_max: usize,
    /// Bytes that all connections of a core hold in memory at most.
    pub(crate) buffered_bytes_max: usize,
    /// Whether messages may have headers.
    pub(crate) has_headers: bool,
    /// A silent one is pinged after this time.
    pub(crate) ping_interval: Duration,
    /// Pings without an answer that are forgiven.
    pub(crate) pings_out_max: u32,
    /// A write may take this long.
    pub(crate) write_deadline: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        let net = NetConfig::default();
        Self {
            connections_max: net.connections_max,
            has_headers: net.has_headers,
            subscriptions_max: net.subscriptions_max,
            control_line_bytes_max: net.control_line_bytes_max,
            pending_bytes_max: net.pending_bytes_max,
            buffered_bytes_max: net.buffered_bytes_max,
            ping_interval: Duration::from_millis(net.ping_interval_ms),
            pings_out_max: net.ping_out_max,
            write_deadline: Duration::from_millis(net.write_deadline_ms),
        }
    }
}

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// Segment files in a directory.
    File,
    /// Gone with the process.
    Memory,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Memory => "memory",
        })
    }
}

/// When a silent client counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeartbeatOptions {
    /// The time between two heartbeats.
    pub(crate) interval: Duration,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// Failures in a row that are forgiven; one more closes the client.
    pub(crate) failures_max: u32,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    /// An address or a host's name; an IPv6 address without brackets.
    pub(crate) host: String,
    /// `None`: the system picks a free one.
    pub(crate) port: Option<u16>,
}

/// Where monitoring is served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MonitorOptions {
    /// In plain; `None`: nowhere.
    pub(crate) http: Option<ListenAddress>,
    /// With TLS; `None`: nowhere.
    pub(crate) https: Option<ListenAddress>,
    /// What all paths begin with: empty, or with a slash at its start and none at its end.
    pub(crate) base_path: String,
}

/// What clients must know; all empty: nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct LoginOptions {
    /// The only user.
    pub(crate) user: String,
    /// Its password.
    pub(crate) password: String,
    /// The token.
    pub(crate) token: String,
}

/// A file with a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoginFile {
    /// The seed of a user's key.
    NkeySeed(PathBuf),
    /// A JWT and a seed.
    Credentials(PathBuf),
}

impl fmt::Debug for LoginOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginOptions").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The flags for TLS towards clients: it is on if any of them is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFlags {
    /// Whether it was asked for by name.
    pub(super) is_on: bool,
    /// The server's certificate.
    pub(super) cert_file: Option<PathBuf>,
    /// Its key.
    pub(super) key_file: Option<PathBuf>,
    /// Whether clients must show a certificate.
    pub(super) is_verified: bool,
    /// What it is checked against.
    pub(super) ca_file: Option<PathBuf>,
}

impl TlsFlags {
    /// What flags and files mean together; the flags win.
    pub(super) fn over(self, file: Option<TlsSpec>, is_plain_allowed: bool) -> Option<TlsSpec> {
        if self == Self::default() && file.is_none() {
            return None;
        }
        let mut spec = TlsSpec { is_plain_allowed, ..file.unwrap_or_default() };
        spec.cert_file = self.cert_file.unwrap_or(spec.cert_file);
        spec.key_file = self.key_file.unwrap_or(spec.key_file);
        spec.ca_file = self.ca_file.or(spec.ca_file);
        if self.is_verified && spec.client_certificates == ClientCertificates::Ignored {
            spec.client_certificates = ClientCertificates::Verified;
        }
        Some(spec)
    }
}

/// TLS towards other servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsClientOptions {
    /// Whether all of them must speak it.
    pub(crate) is_demanded: bool,
    /// The files it needs.
    pub(crate) files: TlsClientSpec,
}

/// What is logged beyond information, warnings and errors, how, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// What connections and the NATS protocol log.
    pub(crate) server: Verbosity,
    /// What channels, clients and subscriptions log.
    pub(crate) streaming: Verbosity,
    /// Bytes that a trace line shows of a payload; 0: all.
    pub(crate) traced_bytes_max: usize,
    /// Whether each line starts with the time.
    pub(crate) is_time_shown: bool,
    /// How lines are written.
    pub(crate) format: LogFormat,
    /// The file that lines go to; none: syslog, or else standard error.
    pub(crate) file: Option<PathBuf>,
    /// Above this the file is moved away; 0: never.
    pub(crate) file_bytes_max: u64,
    /// The syslog that lines go to if there is no file.
    pub(crate) syslog: Option<SyslogTarget>,
}

impl LogOptions {
    /// Whether another log differs from this one only in what it is told.
    #[must_use]
    pub(crate) fn differs_in_detail_only(&self, other: &Self) -> bool {
        let Self { server, streaming, traced_bytes_max, .. } = *other;
        *other == Self { server, streaming, traced_bytes_max, ..self.clone() }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            server: Verbosity::default(),
            streaming: Verbosity::default(),
            traced_bytes_max: 0,
            is_time_shown: true,
            format: LogFormat::Text,
            file: None,
            file_bytes_max: 0,
            syslog: None,
        }
    }
}

/// A form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// The reference's.
    Text,
    /// An object a line.
    Json,
}

/// How the server goes when it shall go slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LameDuckOptions {
    /// From the first word to the last closed connection.
    pub(crate) duration: Duration,
    /// The part of it, at its start, in which clients may leave by themselves.
    pub(crate) grace: Duration,
}

/// The two levels below information, each by itself as in the reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Verbosity {
    /// Rare events that explain what the server does.
    pub(crate) debug: bool,
    /// Each operation.
    pub(crate) trace: bool,
}

/// A signal for a server that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignalOptions {
    /// What it shall do.
    pub(crate) order: SignalOrder,
    /// Which one.
    pub(crate) target: SignalTarget,
}

/// What a server is told by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalOrder {
    /// SIGKILL, as in the reference.
    Stop,
    /// SIGINT: commit what is open, then end.
    Quit,
    /// SIGTERM: the same here.
    Term,
    /// SIGUSR1: open the log file anew.
    Reopen,
    /// SIGHUP: read the configuration anew.
    Reload,
    /// SIGUSR2: lame duck mode.
    LameDuck,
}

/// How to find the process to signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignalTarget {
    /// The only other one of this program's name.
    OnlyOne,
    /// This one; at least 1.
    Process(i32),
    /// The one whose id stands in this file.
    PidFile(PathBuf),
}

/// What a simulation was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SimOptions {
    /// Run this seed only.
    pub(crate) seed: Option<u64>,
    /// Otherwise run this many seeds.
    pub(crate) seeds: u64,
    /// Steps of each run.
    pub(crate) steps: u64,
    /// The kinds of faults there are.
    pub(crate) faults: FaultKinds,
    /// What is done of that seed's run; none: all.
    pub(crate) only: Option<Script>,
    /// Whether a failing seed of many is made small.
    pub(crate) is_shrinking: bool,
}
