//! The flags that do something, as clap reads them, and how they become [`Options`].
//!
//! Each is written once: its spellings, its default, its place and text in the help. All spellings are `long` ones,
//! since [`super::go_style`] has already turned `-x y` into `--name=value` when clap sees the words.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weirlog_engine::types::ChannelLimits;
use weirlog_net::sim::{FaultKinds, Script};
use weirlog_net::tls::{TlsClientSpec, TlsSpec};

use super::files::FileSettings;
use super::operation::{self, MonitorAddress};
use super::options::{
    HeartbeatOptions, LameDuckOptions, ListenAddress, LogFormat, LogOptions, LoginOptions,
    MonitorOptions, Options, SignalOptions, SignalTarget, SimOptions, StoreKind, TlsClientOptions,
    TlsFlags, Verbosity,
};
use super::upstreams::Upstreams;
use super::values;
use crate::log::SyslogTarget;

const FILES: &str = "Configuration files";
const STREAMING: &str = "NATS Streaming options";
const STORAGE: &str = "Storage";
const LIMITS: &str = "Limits (0 is unlimited)";
const HEARTBEATS: &str = "Heartbeats";
const NETWORK: &str = "Network";
const AUTHORIZATION: &str = "Authorization (clients are asked if any of these is given)";
const TLS: &str = "TLS (files are PEM)";
const LOGGING: &str = "Logging";
const OPERATION: &str = "Operation";
const OTHER: &str = "Help";

/// The flags of the server.
#[derive(Debug, clap::Parser)]
#[command(
    name = "weirlog",
    rename_all = "snake_case",
    no_binary_name = true,
    args_override_self = true
)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(super) struct ServeFlags {
    /// NATS configuration file, also for streaming if it is the only one; flags win over files
    #[arg(long, visible_alias = "c", value_name = "FILE", help_heading = FILES)]
    #[arg(default_value = "", hide_default_value = true, value_hint = clap::ValueHint::AnyPath)]
    config: OsString,
    /// Streaming configuration file, also for the NATS part if it is the only one
    #[arg(long, visible_alias = "sc", value_name = "FILE", help_heading = FILES)]
    #[arg(default_value = "", hide_default_value = true, value_hint = clap::ValueHint::AnyPath)]
    stan_config: OsString,
    /// Check flags and files, and exit with 0 if they are valid, with 1 if not
    #[arg(long = "t", help_heading = FILES, default_value = "false", num_args = 0..=1)]
    #[arg(action = clap::ArgAction::Set, value_parser = values::switch)]
    pub(super) check: bool,

    /// Cluster ID, part of all subjects; fixed when the store is made
    #[arg(long, visible_alias = "cid", value_name = "ID", help_heading = STREAMING)]
    #[arg(default_value = "test-cluster", value_parser = values::subject_part)]
    cluster_id: String,
    /// Give a durable subscription that is in use to whoever asks for it next
    #[arg(long, help_heading = STREAMING, default_value = "false", num_args = 0..=1)]
    #[arg(action = clap::ArgAction::Set, value_parser = values::switch)]
    replace_durable: bool,
    /// Serve only the channels in store_limits.channels: others of this cluster ID on the same -ns have the rest
    #[arg(long, help_heading = STREAMING, default_value = "false", num_args = 0..=1)]
    #[arg(action = clap::ArgAction::Set, value_parser = values::switch)]
    partitioning: bool,

    /// Where messages are kept: file or memory (nats-streaming-server: memory unless told)
    #[arg(long, visible_alias = "st", value_name = "KIND", help_heading = STORAGE)]
    #[arg(default_value = "file", value_parser = values::store_kind)]
    store: StoreKind,
    /// Root directory of the file store
    #[arg(long, value_name = "DIRECTORY", help_heading = STORAGE, default_value = "./weirlog-data")]
    dir: PathBuf,
    /// Shards of a new store, 1 to 64; an old store keeps its number [default: 8 or the cores]
    #[arg(long, value_name = "COUNT", help_heading = STORAGE, value_parser = values::shard_count)]
    shards: Option<u16>,
    /// Cores to run on [default: all processors but one, at least 1]
    #[arg(long, value_name = "COUNT", help_heading = STORAGE, value_parser = values::core_count)]
    cores: Option<usize>,

    /// Channels
    #[arg(long, visible_alias = "mc", value_name = "COUNT", help_heading = LIMITS)]
    #[arg(default_value = "100", value_parser = values::limit_count)]
    max_channels: u64,
    /// Subscriptions of a channel, offline durables included
    #[arg(long, visible_alias = "msu", value_name = "COUNT", help_heading = LIMITS)]
    #[arg(default_value = "1000", value_parser = values::limit_count)]
    max_subs: u64,
    /// Messages of a channel; the oldest make room for new ones
    #[arg(long, visible_alias = "mm", value_name = "COUNT", help_heading = LIMITS)]
    #[arg(default_value = "1000000", value_parser = values::limit_count)]
    max_msgs: u64,
    /// Bytes of a channel's messages; the oldest make room for new ones
    #[arg(long, visible_alias = "mb", value_name = "SIZE", help_heading = LIMITS)]
    #[arg(default_value = "1024000000", value_parser = values::limit_bytes)]
    max_bytes: u64,
    /// How long a message is kept
    #[arg(long = "max_age", visible_alias = "ma", value_name = "DURATION", help_heading = LIMITS)]
    #[arg(default_value = "0s", value_parser = values::limit_ms)]
    age_ms_max: u64,
    /// How long a channel without publish and active subscription is kept
    #[arg(long = "max_inactivity", visible_alias = "mi", value_name = "DURATION", help_heading = LIMITS)]
    #[arg(default_value = "0s", value_parser = values::limit_ms)]
    inactivity_ms_max: u64,

    /// Time between two heartbeats to a client
    #[arg(long, visible_alias = "hbi", value_name = "DURATION", help_heading = HEARTBEATS)]
    #[arg(default_value = "30s", value_parser = values::positive_duration)]
    hb_interval: Duration,
    /// How long a client may take to answer
    #[arg(long, visible_alias = "hbt", value_name = "DURATION", help_heading = HEARTBEATS)]
    #[arg(default_value = "10s", value_parser = values::positive_duration)]
    hb_timeout: Duration,
    /// Failed heartbeats in a row that are forgiven; one more closes the client
    #[arg(long, visible_alias = "hbf", value_name = "COUNT", help_heading = HEARTBEATS)]
    #[arg(default_value = "10", value_parser = values::failure_count)]
    hb_fail_count: u32,

    /// Address or host name to listen on
    #[arg(long, visible_aliases = ["a", "net"], value_name = "HOST", help_heading = NETWORK)]
    #[arg(default_value = "0.0.0.0", value_parser = values::host)]
    addr: String,
    /// Port for clients; -1 picks a free one
    #[arg(long, visible_alias = "p", value_name = "PORT", help_heading = NETWORK)]
    #[arg(default_value = "4222", value_parser = Port::parse)]
    port: Port,
    /// Serve monitoring over HTTP on this port, or HOST:PORT; -1 picks a free one [default: 0, nowhere]
    #[arg(long, visible_alias = "m", value_name = "PORT", help_heading = NETWORK)]
    #[arg(default_value = "0", hide_default_value = true, value_parser = operation::monitor_port)]
    http_port: MonitorAddress,
    /// The same over HTTPS, with the certificate of -tlscert
    #[arg(long, visible_alias = "ms", value_name = "PORT", help_heading = NETWORK)]
    #[arg(default_value = "0", hide_default_value = true, value_parser = operation::monitor_port)]
    https_port: MonitorAddress,
    /// Address shown to clients, HOST or HOST:PORT [default: the one listened on]
    #[arg(long, value_name = "ADDRESS", help_heading = NETWORK, value_parser = operation::advertised)]
    client_advertise: Option<ListenAddress>,
    /// Name shown to clients [default: a random one]
    #[arg(long, visible_aliases = ["n", "name"], value_name = "NAME", help_heading = NETWORK)]
    #[arg(value_parser = values::name)]
    server_name: Option<String>,
    /// Serve the clients of these NATS servers, URLs with commas between, instead of listening here
    #[arg(long, visible_alias = "ns", value_name = "URLS", help_heading = NETWORK)]
    #[arg(default_value = "", hide_default_value = true, value_parser = Upstreams::parse)]
    nats_server: Upstreams,
    /// Largest message a client may publish, headers included; at most 64mb
    #[arg(long, value_name = "SIZE", help_heading = NETWORK)]
    #[arg(default_value = "1048576", value_parser = values::payload_bytes)]
    max_payload: usize,
    /// File to keep the process id in while the server runs
    #[arg(long, visible_alias = "P", value_name = "FILE", help_heading = NETWORK)]
    pid: Option<PathBuf>,
    /// Directory for a file weirlog_PID.ports with the URL that clients use, while the server listens
    #[arg(long, value_name = "DIRECTORY", help_heading = NETWORK)]
    ports_file_dir: Option<PathBuf>,

    /// The user that clients connect as; needs -pass
    #[arg(long, value_name = "NAME", help_heading = AUTHORIZATION)]
    user: Option<String>,
    /// Its password; other users of the machine can see it in the process list
    #[arg(long, value_name = "PASSWORD", help_heading = AUTHORIZATION)]
    pass: Option<String>,
    /// A token that lets clients in instead
    #[arg(long, value_name = "TOKEN", help_heading = AUTHORIZATION)]
    auth: Option<String>,

    /// Serve clients over TLS only; needs -tlscert and -tlskey
    #[arg(long, help_heading = TLS, default_value = "false", num_args = 0..=1)]
    #[arg(action = clap::ArgAction::Set, value_parser = values::switch)]
    tls: bool,
    /// The server's certificate, with those between it and its CA
    #[arg(long, value_name = "FILE", help_heading = TLS, value_hint = clap::ValueHint::AnyPath)]
    tlscert: Option<OsString>,
    /// Its key
    #[arg(long, value_name = "FILE", help_heading = TLS, value_hint = clap::ValueHint::AnyPath)]
    tlskey: Option<OsString>,
    /// Serve only clients whose certificate was signed by one of -tlscacert
    #[arg(long, help_heading = TLS, default_value = "false", num_args = 0..=1)]
    #[arg(action = clap::ArgAction::Set, value_parser = values::switch)]
    tlsverify: bool,
    /// Certificates that clients' are checked against
    #[arg(long, value_name = "FILE", help_heading = TLS, value_hint = clap::ValueHint::AnyPath)]
    tlscacert: Option<OsString>,
    /// With -ns: leave a server that does not speak TLS; tls:// in its URL means the same
    #[arg(long, help_heading = TLS, default_value = "false", num_args = 0..=1)]
    #[arg(action = clap::ArgAction::Set, value_parser = values::switch)]
    secure: bool,
    /// With -ns: the certificate to show there
    #[arg(long, value_name = "FILE", help_heading = TLS, value_hint = clap::ValueHint::AnyPath)]
    tls_client_cert: Option<OsString>,
    /// With -ns: its key
    #[arg(long, value_name = "FILE", help_heading = TLS, value_hint = clap::ValueHint::AnyPath)]
    tls_client_key: Option<OsString>,
    /// With -ns: certificates that the server's is checked against [default: the system's]
    #[arg(long, value_name = "FILE", help_heading = TLS, value_hint = clap::ValueHint::AnyPath)]
    tls_client_cacert: Option<OsString>,

    /// Debug lines of streaming (channels, clients, subscriptions)
    #[arg(long, visible_alias = "SD", help_heading = LOGGING, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    stan_debug: bool,
    /// Trace lines of streaming
    #[arg(long, visible_alias = "SV", help_heading = LOGGING, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    stan_trace: bool,
    /// Both of them
    #[arg(long = "SDV", help_heading = LOGGING, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    stan_debug_and_trace: bool,
    /// Debug lines of connections and the NATS protocol
    #[arg(long, visible_alias = "D", help_heading = LOGGING, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    debug: bool,
    /// Trace lines of them
    #[arg(long, visible_aliases = ["V", "VV"], help_heading = LOGGING, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    trace: bool,
    /// Both of them
    #[arg(long = "DV", visible_alias = "DVV", help_heading = LOGGING, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    debug_and_trace: bool,
    /// Bytes that a trace line shows of a payload; 0 is all
    #[arg(long, value_name = "COUNT", help_heading = LOGGING, default_value = "0")]
    #[arg(value_parser = operation::traced_bytes)]
    max_traced_msg_len: usize,
    /// Start each line with the time
    #[arg(long, visible_alias = "T", help_heading = LOGGING, default_value = "true")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    logtime: bool,
    /// The form of the lines: text or json
    #[arg(long, value_name = "FORM", help_heading = LOGGING, default_value = "text")]
    #[arg(value_parser = operation::log_format)]
    log_format: LogFormat,
    /// Log to this file instead of standard error; SIGUSR1 opens it anew
    #[arg(long, visible_alias = "l", value_name = "FILE", help_heading = LOGGING)]
    log: Option<PathBuf>,
    /// Above this size the log file is moved to a name with the time; 0 is never
    #[arg(long, value_name = "SIZE", help_heading = LOGGING, default_value = "0")]
    #[arg(value_parser = values::limit_bytes)]
    log_size_limit: u64,
    /// Log to the machine's syslog
    #[arg(long, visible_alias = "s", help_heading = LOGGING, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    syslog: bool,
    /// Log to the syslog behind udp://host:port or unix:///path
    #[arg(long, visible_alias = "r", value_name = "URL", help_heading = LOGGING)]
    #[arg(value_parser = operation::syslog_target)]
    remote_syslog: Option<SyslogTarget>,

    /// At SIGUSR2, clients are told to go elsewhere; the last is closed after this
    #[arg(long, value_name = "DURATION", help_heading = OPERATION, default_value = "2m")]
    #[arg(value_parser = values::positive_duration)]
    lame_duck_duration: Duration,
    /// None is closed before this
    #[arg(long, value_name = "DURATION", help_heading = OPERATION, default_value = "10s")]
    #[arg(value_parser = values::positive_duration)]
    lame_duck_grace_period: Duration,
    /// Send a signal to a running server and end: stop, quit, term, reopen, reload or ldm, with =PID or
    /// =PIDFILE behind it; without, the process that -pid names, or the only one there is
    #[arg(long, visible_alias = "sl", value_name = "ORDER", help_heading = OPERATION)]
    #[arg(value_parser = operation::signal)]
    signal: Option<SignalOptions>,

    /// Print this text
    #[arg(long, visible_alias = "h", help_heading = OTHER, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    pub(super) help: bool,
    /// Print the version
    #[arg(long, visible_alias = "v", help_heading = OTHER, default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    pub(super) version: bool,
}

impl ServeFlags {
    /// The file of `-config`.
    pub(super) fn config_file(&self) -> Option<&Path> {
        Some(Path::new(&self.config)).filter(|path| !path.as_os_str().is_empty())
    }

    /// The file of `-stan_config`.
    pub(super) fn stan_config_file(&self) -> Option<&Path> {
        Some(Path::new(&self.stan_config)).filter(|path| !path.as_os_str().is_empty())
    }

    /// Whether another NATS server has the clients.
    pub(super) fn has_upstream(&self) -> bool {
        !self.nats_server.0.is_empty()
    }

    /// The signal to send, if that is what is asked for.
    pub(super) fn signal(&self) -> Option<SignalOptions> {
        let mut signal = self.signal.clone()?;
        if let (SignalTarget::OnlyOne, Some(path)) = (&signal.target, &self.pid) {
            signal.target = SignalTarget::PidFile(path.clone());
        }
        Some(signal)
    }

    /// What these flags mean together, with what only files can set. Both keep their login: see [`Options::login`].
    pub(super) fn into_options(self, file: FileSettings) -> Options {
        let (tls, tls_there, log) = (self.tls(&file), self.tls_there(), self.log());
        let login = LoginOptions {
            user: self.user.unwrap_or_default(),
            password: self.pass.unwrap_or_default(),
            token: self.auth.unwrap_or_default(),
        };
        let monitor = MonitorOptions {
            http: self.http_port.on(&self.addr),
            https: self.https_port.on(&self.addr),
            base_path: file.monitor_base_path,
        };
        let authorization = if self.nats_server.0.is_empty() {
            file.authorization.with_login(&login)
        } else {
            None
        };
        Options {
            discover_prefix: file.discover_prefix,
            limit_rules: file.limit_rules,
            connections: file.connections,
            authorization,
            cluster_id: self.cluster_id,
            store: self.store,
            directory: self.dir,
            shards: self.shards,
            cores: self.cores,
            channels_max: self.max_channels,
            channel_limits: ChannelLimits {
                messages_max: self.max_msgs,
                bytes_max: self.max_bytes,
                age_ms_max: self.age_ms_max,
                subscriptions_max: self.max_subs,
                inactivity_ms_max: self.inactivity_ms_max,
            },
            heartbeat: HeartbeatOptions {
                interval: self.hb_interval,
                timeout: self.hb_timeout,
                failures_max: self.hb_fail_count,
            },
            is_durable_replaced: self.replace_durable,
            is_partitioned: self.partitioning,
            listen: ListenAddress { host: self.addr, port: self.port.0 },
            monitor,
            advertised: self.client_advertise,
            upstreams: self.nats_server.0,
            server_name: self.server_name,
            pid_file: self.pid,
            ports_directory: self.ports_file_dir,
            payload_bytes_max: self.max_payload,
            login,
            login_file: file.login_file,
            tls,
            tls_there,
            log,
            lame_duck: LameDuckOptions {
                duration: self.lame_duck_duration,
                grace: self.lame_duck_grace_period,
            },
        }
    }

    /// TLS for clients.
    fn tls(&self, file: &FileSettings) -> Option<TlsSpec> {
        let flags = TlsFlags {
            is_on: self.tls,
            cert_file: given(&self.tlscert),
            key_file: given(&self.tlskey),
            is_verified: self.tlsverify,
            ca_file: given(&self.tlscacert),
        };
        flags.over(file.tls.clone(), file.is_plain_allowed)
    }

    /// TLS towards other servers.
    fn tls_there(&self) -> TlsClientOptions {
        let files = TlsClientSpec {
            cert_file: given(&self.tls_client_cert),
            key_file: given(&self.tls_client_key),
            ca_file: given(&self.tls_client_cacert),
        };
        TlsClientOptions { is_demanded: self.secure, files }
    }

    fn log(&self) -> LogOptions {
        LogOptions {
            server: Verbosity {
                debug: self.debug || self.debug_and_trace,
                trace: self.trace || self.debug_and_trace,
            },
            streaming: Verbosity {
                debug: self.stan_debug || self.stan_debug_and_trace,
                trace: self.stan_trace || self.stan_debug_and_trace,
            },
            traced_bytes_max: self.max_traced_msg_len,
            is_time_shown: self.logtime,
            format: self.log_format,
            file: self.log.clone(),
            file_bytes_max: self.log_size_limit,
            syslog: self
                .remote_syslog
                .clone()
                .or_else(|| self.syslog.then_some(SyslogTarget::Local)),
        }
    }
}

/// An empty name is no name: scripts spell out defaults.
fn given(path: &Option<OsString>) -> Option<PathBuf> {
    path.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A port, or none to let the system choose: a type of its own, since clap takes an `Option` for a flag left out.
#[derive(Debug, Clone, Copy)]
struct Port(Option<u16>);

impl Port {
    fn parse(text: &str) -> Result<Self, values::ValueError> {
        values::port(text).map(Self)
    }
}

/// The flags of `weirlog sim`.
#[derive(Debug, clap::Parser)]
#[command(
    name = "sim",
    rename_all = "snake_case",
    no_binary_name = true,
    args_override_self = true
)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(super) struct SimFlags {
    /// Run this seed only
    #[arg(long, value_name = "NUMBER", value_parser = values::unsigned)]
    pub(super) seed: Option<u64>,
    /// Run this many seeds, from 0
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = values::at_least_one)]
    seeds: u64,
    /// Steps of each run
    #[arg(long, value_name = "COUNT", default_value = "10000", value_parser = values::at_least_one)]
    steps: u64,
    /// Leave these faults out, names with commas
    #[arg(long, value_name = "FAULTS", value_parser = values::faults_without)]
    without: Option<FaultKinds>,
    /// Of -seed, do only these operations and faults
    #[arg(long, value_name = "LIST", value_parser = values::script)]
    pub(super) only: Option<Script>,
    /// Look for the least that fails
    #[arg(long, default_value = "true")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    shrink: bool,
    /// Print this text
    #[arg(long, visible_alias = "h", default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    pub(super) help: bool,
}

impl SimFlags {
    /// What these flags mean together.
    pub(super) fn into_options(self) -> SimOptions {
        let faults = self.without.unwrap_or(FaultKinds::all());
        let Self { seed, seeds, steps, only, shrink: is_shrinking, .. } = self;
        SimOptions { seed, seeds, steps, faults, only, is_shrinking }
    }
}

/// The flags of `weirlog verify` and `weirlog repair`.
#[derive(Debug, clap::Parser)]
#[command(
    name = "store",
    rename_all = "snake_case",
    no_binary_name = true,
    args_override_self = true
)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(super) struct StoreFlags {
    /// Print this text
    #[arg(long, visible_alias = "h", default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    pub(super) help: bool,
}
