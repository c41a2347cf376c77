//! The keys of configuration files (spec stan.md, section 3), and what each does. A key whose meaning is that of a
//! flag is handed to the flag, and shares its fate: a flag that gets its feature gives it to the key.

use weirlog_net::conf::{Kind, Value};

use super::FileSettings;
use super::connections as net;
use crate::args::options::LoginFile;
use crate::args::values::{self, ValueError};

/// A key in each of its spellings, in any case.
pub(super) struct Key {
    pub(super) names: &'static [&'static str],
    pub(super) action: Action,
}

/// What a key does.
pub(super) enum Action {
    /// The same as this flag.
    Flag(&'static str),
    /// The same as this flag, which takes a whole number without a unit.
    Count(&'static str),
    /// The same as this flag, but only for the login at another NATS server.
    Login(&'static str),
    /// Host and port in one.
    Listen,
    /// What has no flag.
    Set(fn(&mut FileSettings, &str) -> Result<(), ValueError>),
    /// A switch that has no flag.
    SetSwitch(fn(&mut FileSettings, bool)),
    /// A map with keys of its own.
    Block(&'static [Key]),
    /// Limits of single channels.
    Channels,
    /// Users, tokens and permissions.
    Authorization,
    /// TLS for clients.
    Tls,
    /// The user that connections without credentials are.
    NoAuthUser,
    /// Nothing; a warning says why.
    Moot(&'static str),
    /// Refused, unless it asks for nothing.
    Missing {
        /// The missing feature.
        what: &'static str,
        /// What to do for now.
        instead: &'static str,
    },
    /// Nothing: it was read before.
    Done,
}

const fn key(names: &'static [&'static str], action: Action) -> Key {
    Key { names, action }
}

const fn missing(what: &'static str, instead: &'static str) -> Action {
    Action::Missing { what, instead }
}

/// Whether a value asks for the feature at all.
pub(super) fn asks_for_something(value: &Value) -> bool {
    match &value.kind {
        Kind::Scalar(text) => {
            !matches!(text.to_ascii_lowercase().as_str(), "" | "0" | "false" | "no" | "off")
        }
        Kind::List(values) => !values.is_empty(),
        // An empty map asks for a feature with its defaults.
        Kind::Map(_) => true,
    }
}

const NO_ACCOUNTS: Action = missing("accounts", "use users with permissions");
const NO_ROUTES: Action = missing("clusters of servers", "run one server");
const NO_BRIDGE: Action =
    missing("this way to other servers", "let clients connect to this server");
const NO_PROTOCOL: Action = missing("this protocol", "use clients of NATS or NATS Streaming");

/// Stands for what another pass has read.
pub(super) const READ_ALREADY: Key = key(&[super::STREAMING], Action::Done);

/// Keys of the NATS part.
pub(super) static NATS_KEYS: &[Key] = &[
    key(&["listen"], Action::Listen),
    key(&["host", "net"], Action::Flag("addr")),
    key(&["port"], Action::Flag("port")),
    key(&["server_name"], Action::Flag("server_name")),
    key(&["client_advertise"], Action::Flag("client_advertise")),
    key(&["debug"], Action::Flag("debug")),
    key(&["trace"], Action::Flag("trace")),
    key(&["logtime"], Action::Flag("logtime")),
    key(&["logfile", "log_file"], Action::Flag("log")),
    key(&["logfile_size_limit", "log_size_limit"], Action::Flag("log_size_limit")),
    key(&["syslog"], Action::Flag("syslog")),
    key(&["remote_syslog"], Action::Flag("remote_syslog")),
    key(&["pid_file", "pidfile"], Action::Flag("pid")),
    key(&["ports_file_dir"], Action::Flag("ports_file_dir")),
    key(&["prof_port"], Action::Flag("profile")),
    key(&["http", "http_port", "monitor_port"], Action::Flag("http_port")),
    key(&["https", "https_port"], Action::Flag("https_port")),
    key(&["http_base_path"], Action::Set(monitor_base_path)),
    key(&["max_payload"], Action::Flag("max_payload")),
    key(&["max_traced_msg_len"], Action::Flag("max_traced_msg_len")),
    key(&["max_connections", "max_conn"], Action::Set(net::connections_max)),
    key(&["max_subscriptions", "max_subs"], Action::Set(net::subscriptions_max)),
    key(&["max_control_line"], Action::Set(net::control_line_bytes_max)),
    key(&["max_pending"], Action::Set(net::pending_bytes_max)),
    key(&["max_buffered"], Action::Set(net::buffered_bytes_max)),
    key(&["ping_interval"], Action::Set(net::ping_interval)),
    key(&["ping_max"], Action::Set(net::pings_out_max)),
    key(&["write_deadline"], Action::Set(net::write_deadline)),
    key(&["lame_duck_duration"], Action::Flag("lame_duck_duration")),
    key(&["lame_duck_grace_period"], Action::Flag("lame_duck_grace_period")),
    key(&["authorization"], Action::Authorization),
    key(&["no_auth_user"], Action::NoAuthUser),
    key(&["accounts", "system_account", "system", "no_system_account"], NO_ACCOUNTS),
    key(&["operator", "operators", "resolver", "resolver_preload"], NO_ACCOUNTS),
    key(&["trusted_keys", "trusted", "mappings", "maps", "default_permissions"], NO_ACCOUNTS),
    key(&["tls"], Action::Tls),
    key(&["allow_non_tls"], Action::SetSwitch(|settings, is_on| settings.is_plain_allowed = is_on)),
    key(&["cluster"], NO_ROUTES),
    key(&["gateway", "leafnodes", "leaf"], NO_BRIDGE),
    key(&["jetstream", "websocket", "ws", "mqtt"], NO_PROTOCOL),
    key(
        &["no_header_support"],
        Action::SetSwitch(|settings, is_on| settings.connections.has_headers = !is_on),
    ),
    key(&["connect_error_reports", "reconnect_error_reports"], Action::Moot(NO_SUCH_LOG)),
    key(&["disable_sublist_cache", "no_sublist_cache"], Action::Moot("there is no such cache")),
    key(&["server_tags"], Action::Moot("tags place streams, which there are not")),
];

const NO_SUCH_LOG: &str = "this server connects to no others in a cluster";

/// Keys of the streaming part.
pub(super) static STREAMING_KEYS: &[Key] = &[
    key(&["cluster_id", "id", "cid"], Action::Flag("cluster_id")),
    key(&["discover_prefix"], Action::Set(discover_prefix)),
    key(&["store", "st", "store_type", "storetype"], Action::Flag("store")),
    key(&["dir", "datastore"], Action::Flag("dir")),
    key(&["store_limits", "limits", "storelimits"], Action::Block(LIMIT_KEYS)),
    key(&["file_options", "file"], Action::Block(FILE_STORE_KEYS)),
    key(&["sql_options", "sql"], missing("SQL stores", "use file_options and store: file")),
    key(&["nats_server_url", "ns", "nats_server"], Action::Flag("nats_server")),
    key(&["hb_interval", "hbi", "server_to_client_hb_interval"], Action::Flag("hb_interval")),
    key(&["hb_timeout", "hbt", "server_to_client_hb_timeout"], Action::Flag("hb_timeout")),
    key(
        &["hb_fail_count", "hbf", "server_to_client_hb_fail_count"],
        Action::Count("hb_fail_count"),
    ),
    key(&["ft_group", "ft_group_name"], Action::Flag("ft_group")),
    key(&["partitioning"], Action::Flag("partitioning")),
    key(&["sd", "stan_debug"], Action::Flag("stan_debug")),
    key(&["sv", "stan_trace"], Action::Flag("stan_trace")),
    key(&["secure"], Action::Flag("secure")),
    key(&["tls"], Action::Block(TLS_THERE_KEYS)),
    key(&["credentials"], Action::Set(credentials)),
    key(&["nkey_seed_file"], Action::Set(nkey_seed_file)),
    key(&["username", "user"], Action::Login("user")),
    key(&["password", "pass"], Action::Login("pass")),
    key(&["token"], Action::Login("auth")),
    key(&["encrypt"], Action::Flag("encrypt")),
    key(&["encryption_cipher"], Action::Flag("encryption_cipher")),
    key(&["encryption_key"], Action::Flag("encryption_key")),
    key(
        &[
            "replace_durable",
            "replace_durables",
            "replace_duplicate_durable",
            "replace_duplicate_durables",
        ],
        Action::Flag("replace_durable"),
    ),
    key(&["syslog_name"], Action::Flag("syslog_name")),
    key(&["cluster"], missing("clustering", "run one server")),
];

/// Keys in `tls` of the streaming part: TLS towards another NATS server.
static TLS_THERE_KEYS: &[Key] = &[
    key(&["client_cert"], Action::Flag("tls_client_cert")),
    key(&["client_key"], Action::Flag("tls_client_key")),
    key(&["client_ca", "client_cacert"], Action::Flag("tls_client_cacert")),
    key(&["server_name", "server_hostname"], missing("another name to check", "use it in the URL")),
    key(&["insecure", "skip_verify"], missing("TLS without a check", "name the CA's file")),
];

/// Keys in `store_limits`.
static LIMIT_KEYS: &[Key] = &[
    key(&["max_channels", "mc", "maxchannels"], Action::Count("max_channels")),
    key(MAX_SUBS, Action::Count("max_subs")),
    key(MAX_MSGS, Action::Count("max_msgs")),
    key(MAX_BYTES, Action::Count("max_bytes")),
    key(MAX_AGE, Action::Flag("max_age")),
    key(MAX_INACTIVITY, Action::Flag("max_inactivity")),
    key(
        &["channels", "channels_limits", "channelslimits", "per_channel", "per_channel_limits"],
        Action::Channels,
    ),
];

/// Spellings of [`weirlog_engine::types::ChannelLimits::subscriptions_max`].
pub(super) const MAX_SUBS: &[&str] = &["max_subs", "msu", "max_subscriptions", "maxsubscriptions"];
/// The same of `messages_max`.
pub(super) const MAX_MSGS: &[&str] = &["max_msgs", "mm", "maxmsgs", "max_count", "maxcount"];
/// The same of `bytes_max`.
pub(super) const MAX_BYTES: &[&str] = &["max_bytes", "mb", "maxbytes"];
/// The same of `age_ms_max`.
pub(super) const MAX_AGE: &[&str] = &["max_age", "ma", "maxage"];
/// The same of `inactivity_ms_max`.
pub(super) const MAX_INACTIVITY: &[&str] = &["max_inactivity", "mi", "maxinactivity"];

/// Keys in `file_options`: flags without effect, with their reasons.
static FILE_STORE_KEYS: &[Key] = &[
    key(
        &["compact", "compact_enabled", "file_compact_enabled"],
        Action::Flag("file_compact_enabled"),
    ),
    key(&["compact_fragmentation", "compact_frag"], Action::Count("file_compact_frag")),
    key(&["compact_interval"], Action::Count("file_compact_interval")),
    key(&["compact_min_size"], Action::Count("file_compact_min_size")),
    key(&["buffer_size"], Action::Count("file_buffer_size")),
    key(&["crc", "do_crc"], Action::Flag("file_crc")),
    key(&["crc_poly"], Action::Count("file_crc_poly")),
    key(&["sync_on_flush", "sync", "do_sync"], Action::Flag("file_sync")),
    key(
        &["slice_max_msgs", "slice_max_count", "slice_msgs", "slice_count"],
        Action::Count("file_slice_max_msgs"),
    ),
    key(
        &["slice_max_bytes", "slice_max_size", "slice_bytes", "slice_size"],
        Action::Count("file_slice_max_bytes"),
    ),
    key(
        &["slice_max_age", "slice_age", "slice_max_time", "slice_time_limit"],
        Action::Flag("file_slice_max_age"),
    ),
    key(
        &["slice_archive_script", "slice_archive", "slice_script"],
        Action::Flag("file_slice_archive_script"),
    ),
    key(&["file_descriptors_limit", "fds_limit"], Action::Count("file_fds_limit")),
    key(&["parallel_recovery"], Action::Count("file_parallel_recovery")),
    key(&["read_buffer_size", "file_read_buffer_size"], Action::Count("file_read_buffer_size")),
    key(&["auto_sync", "file_auto_sync"], Action::Flag("file_auto_sync")),
];

fn credentials(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    set_login(settings, text, LoginFile::Credentials);
    Ok(())
}

/// Credentials win over a key alone.
fn nkey_seed_file(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    if !matches!(settings.login_file, Some(LoginFile::Credentials(_))) {
        set_login(settings, text, LoginFile::NkeySeed);
    }
    Ok(())
}

fn set_login(settings: &mut FileSettings, text: &str, kind: fn(std::path::PathBuf) -> LoginFile) {
    settings.login_file = (!text.is_empty()).then(|| kind(text.into()));
}

/// A path with a slash at its start and none at its end; empty for the root.
fn monitor_base_path(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    let path = text.trim_matches('/');
    settings.monitor_base_path =
        if path.is_empty() { String::new() } else { format!("/{}", values::name(path)?) };
    Ok(())
}

fn discover_prefix(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    settings.discover_prefix = values::subject_part(text)?;
    Ok(())
}
