//! SIGHUP: the configuration is read again, and what can change while the server runs is handed to the cores. A
//! configuration with an error changes nothing.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use weirlog_engine::limits::NamePart;
use weirlog_net::core::RuntimeSettings;

use super::entrance::Entrance;
use super::settings;
use super::wall_time;
use crate::args::{self, Command, Options};
use crate::log::Log;

/// What is kept for it.
pub(super) struct Reloader<'a> {
    /// What the server was started with.
    pub(super) started: &'a Options,
    /// Where its clients come in.
    pub(super) entrance: Entrance,
    /// Shards of the store.
    pub(super) shard_count: u16,
    /// To the core that leads.
    pub(super) settings: Sender<Arc<RuntimeSettings>>,
    pub(super) log: Log,
}

impl Reloader<'_> {
    /// Reads command line and files once more.
    pub(super) fn reload(&self) {
        match self.read() {
            Ok((options, settings)) => {
                let stuck = needs_restart(self.started, &options);
                if !stuck.is_empty() {
                    let text = format!("Takes effect at the next start only: {}", stuck.join(", "));
                    self.log.warning(wall_time(), text);
                }
                // If the core is gone the server is about to end.
                if self.settings.send(Arc::new(settings)).is_ok() {
                    self.log.info(wall_time(), "Reloaded the configuration");
                }
            }
            Err(error) => {
                let text = format!("The configuration stays as it was: {error}");
                self.log.error(wall_time(), text);
            }
        }
    }

    fn read(&self) -> Result<(Options, RuntimeSettings), String> {
        let parsed = args::parse(std::env::args_os().skip(1)).map_err(|error| error.to_string())?;
        let Command::Serve(options) = parsed.command else {
            return Err("the command line asks for something else".to_owned());
        };
        for warning in parsed.warnings {
            self.log.warning(wall_time(), warning);
        }
        let entrance = match &self.entrance {
            Entrance::Port { address, .. } => {
                let tls = settings::tls(&options).map_err(|error| error.to_string())?;
                let authorization = settings::authorization(&options, tls.as_deref());
                let authorization = authorization.map_err(|error| error.to_string())?;
                Entrance::Port { address: *address, authorization, tls }
            }
            Entrance::Upstreams { servers, .. } => {
                let tls = settings::tls(&options).map_err(|error| error.to_string())?;
                Entrance::Upstreams { servers: servers.clone(), tls }
            }
        };
        let mut net = entrance.net_config(&options, self.shard_count);
        net.payload_size_bytes_max = net.payload_size_bytes_max.min(self.started.payload_bytes_max);
        let limits = settings::limits(&options);
        Ok((options, RuntimeSettings::of(&net, limits)))
    }
}

/// The channels of a server that shares its cluster id with others.
fn partition(options: &Options) -> Option<Vec<&[NamePart]>> {
    let channels = options.limit_rules.iter().map(|rule| rule.pattern.as_slice());
    options.is_partitioned.then(|| channels.collect())
}

/// The names of options that differ and that only a start can change.
fn needs_restart(started: &Options, now: &Options) -> Vec<&'static str> {
    let has_upstream = !started.upstreams.is_empty();
    let differing = [
        ("cluster_id", started.cluster_id != now.cluster_id),
        ("discover_prefix", started.discover_prefix != now.discover_prefix),
        ("store", started.store != now.store),
        ("dir", started.directory != now.directory),
        ("shards", started.shards != now.shards),
        ("cores", started.cores != now.cores),
        ("max_channels", started.channels_max != now.channels_max),
        ("heartbeats", started.heartbeat != now.heartbeat),
        ("replace_durable", started.is_durable_replaced != now.is_durable_replaced),
        ("partitioning", partition(started) != partition(now)),
        ("listen", started.listen != now.listen),
        ("client_advertise", started.advertised != now.advertised),
        ("monitoring", started.monitor != now.monitor),
        ("lame_duck_duration and lame_duck_grace_period", started.lame_duck != now.lame_duck),
        ("nats_server", started.upstreams != now.upstreams),
        ("TLS towards the NATS server", has_upstream && started.tls_there != now.tls_there),
        (
            "login at the NATS server",
            has_upstream && (started.login != now.login || started.login_file != now.login_file),
        ),
        ("server_name", started.server_name != now.server_name),
        ("pid_file", started.pid_file != now.pid_file),
        ("ports_file_dir", started.ports_directory != now.ports_directory),
        // The log was opened for messages up to this size.
        ("a larger max_payload", started.payload_bytes_max < now.payload_bytes_max),
        ("files and form of the log", !started.log.differs_in_detail_only(&now.log)),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::parse;

    fn options(line: &str) -> Options {
        let parsed = parse(line.split_whitespace().map(Into::into)).unwrap();
        let Command::Serve(options) = parsed.command else { panic!("{line} does not serve") };
        options
    }

    #[test]
    fn what_needs_a_start_is_named() {
        let started = options("-auth a");
        let named = |line: &str| needs_restart(&started, &options(line));
        assert_eq!(named("-auth b -mm 5 -ma 1h -max_payload 1k -D -SDV"), Vec::<&str>::new());
        for (line, name) in [
            ("-cid x", "cluster_id"),
            ("-st memory", "store"),
            ("-dir x", "dir"),
            ("-shards 3", "shards"),
            ("-cores 3", "cores"),
            ("-mc 3", "max_channels"),
            ("-hbi 3s", "heartbeats"),
            ("-replace_durable", "replace_durable"),
            ("-p 3", "listen"),
            ("-client_advertise x", "client_advertise"),
            ("-m 8222", "monitoring"),
            ("-lame_duck_duration 31s", "lame_duck_duration and lame_duck_grace_period"),
            ("-ns a", "nats_server"),
            ("-n x", "server_name"),
            ("-P x", "pid_file"),
            ("-ports_file_dir x", "ports_file_dir"),
            ("-max_payload 2mb", "a larger max_payload"),
            ("-l x", "files and form of the log"),
        ] {
            assert_eq!(named(line), [name], "{line}");
        }
    }
}
