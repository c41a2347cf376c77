//! The one line that says the server is ready, where its data are, and its limits.
//!
//! Tools look for `STREAM: Streaming Server is ready`: the log adds the first word, this module the rest.

use std::fmt;

use crate::args::{Options, StoreKind};

/// What is known only once the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    /// Where clients come in: an address, with `-p -1` with the port that the system picked, or other servers.
    pub(crate) entrance: String,
    /// Where monitoring is served.
    pub(crate) pages: Vec<String>,
    /// Shards of the store, which an old store decides.
    pub(crate) shard_count: u16,
    /// Cores at work.
    pub(crate) core_count: usize,
}

/// The text for [`crate::log::Log::info`].
#[must_use]
pub(crate) fn ready_line(options: &Options, running: &Running) -> String {
    let data = match options.store {
        StoreKind::File => format!("data in {}", options.directory.display()),
        StoreKind::Memory => "data in memory only".to_owned(),
    };
    format!(
        "Streaming Server is ready: cluster {} on {}{}, {data} ({} store, {} on {}), {}",
        options.cluster_id,
        running.entrance,
        monitoring(&running.pages),
        options.store,
        Counted(u64::from(running.shard_count), "shard"),
        Counted(running.core_count as u64, "core"),
        limits(options),
    )
}

fn monitoring(pages: &[String]) -> String {
    if pages.is_empty() { String::new() } else { format!(", monitoring on {}", pages.join(", ")) }
}

fn limits(options: &Options) -> String {
    let limits = &options.channel_limits;
    let word = if options.limits_are_default() { "default limits" } else { "limits" };
    format!(
        "{word}: {}, each {}, {}, {}, {} age, {} inactivity",
        AtMost(options.channels_max, "channel"),
        AtMost(limits.messages_max, "message"),
        AtMost(limits.bytes_max, "byte"),
        AtMost(limits.subscriptions_max, "subscription"),
        AtMostMs(limits.age_ms_max),
        AtMostMs(limits.inactivity_ms_max),
    ) + &own_limits(options.limit_rules.len())
}

fn own_limits(rules_count: usize) -> String {
    match rules_count {
        0 => String::new(),
        count => format!("; {} of limits for some channels", Counted(count as u64, "rule")),
    }
}

/// `1 shard`, `8 shards`.
struct Counted(u64, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, noun) = self;
        write!(f, "{count} {noun}{}", if *count == 1 { "" } else { "s" })
    }
}

/// A limit of things, where 0 is none.
struct AtMost(u64, &'static str);

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(0, noun) => write!(f, "unlimited {noun}s"),
            &Self(count, noun) => Counted(count, noun).fmt(f),
        }
    }
}

/// A limit of time, where 0 is none: `1h30m`, `1.5s`.
struct AtMostMs(u64);

impl fmt::Display for AtMostMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("unlimited");
        }
        let (seconds, ms) = (self.0 / 1000, self.0 % 1000);
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        let (hours, minutes) = (minutes / 60, minutes % 60);
        for (count, unit) in [(hours, "h"), (minutes, "m"), (seconds, "s"), (ms, "ms")] {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, parse};

    fn line(args: &str) -> String {
        let parsed = parse(args.split_whitespace().map(Into::into)).unwrap();
        let Command::Serve(options) = parsed.command else { panic!("{args} does not serve") };
        let entrance = "0.0.0.0:4222".to_owned();
        ready_line(
            &options,
            &Running { entrance, pages: Vec::new(), shard_count: 8, core_count: 2 },
        )
    }

    #[test]
    fn the_places_of_monitoring_are_told() {
        assert_eq!(monitoring(&[]), "");
        let pages = ["http://0.0.0.0:8222".to_owned(), "https://0.0.0.0:8223".to_owned()];
        let told = ", monitoring on http://0.0.0.0:8222, https://0.0.0.0:8223";
        assert_eq!(monitoring(&pages), told);
    }

    #[test]
    fn limits_of_some_channels_are_counted() {
        assert_eq!(own_limits(0), "");
        assert_eq!(own_limits(2), "; 2 rules of limits for some channels");
    }

    #[test]
    fn the_line_says_where_and_how_much() {
        assert_eq!(
            line(""),
            "Streaming Server is ready: cluster test-cluster on 0.0.0.0:4222, data in ./weirlog-data \
             (file store, 8 shards on 2 cores), default limits: 100 channels, each 1000000 messages, \
             1024000000 bytes, 1000 subscriptions, unlimited age, unlimited inactivity"
        );
        assert_eq!(
            line("-st memory -cid other -mc 0 -mm 1 -mb 0 -msu 0 -ma 90m -mi 1h0m1.5s"),
            "Streaming Server is ready: cluster other on 0.0.0.0:4222, data in memory only (memory \
             store, 8 shards on 2 cores), limits: unlimited channels, each 1 message, unlimited bytes, \
             unlimited subscriptions, 1h30m age, 1h1s500ms inactivity"
        );
    }
}
