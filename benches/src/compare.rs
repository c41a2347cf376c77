//! Weirlog beside nats-streaming-server under the same loads, as things grow: channels, publishers that wait for each
//! ack, subscribers of one channel, and the rate of a steady load. The load is `weirlog bench`, for both.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::BenchError;
use crate::client::{Load, Outcome, run_bench, wait_until_served};
use crate::report::Row;
use crate::server::{Kind, Server, peers_directory};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Growth {
    /// 4 publishers with many messages on their way, over more and more channels
    Channels,
    /// 256 publishers with one message on its way each
    Publishers,
    /// Subscribers of one channel
    Subscribers,
    /// A load at fixed times: a tenth, half and nine tenths of the highest rate
    Rate,
}

/// What `compare` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompareArguments {
    /// What grows
    #[arg(value_enum, default_values_t = [Growth::Channels, Growth::Publishers, Growth::Subscribers, Growth::Rate])]
    growths: Vec<Growth>,
    /// The server, and the program of the load
    #[arg(long, default_value = "target/release/weirlog")]
    server: PathBuf,
    /// Where nats-streaming-server is [default: $PEERS_BIN, or ~/.cache/weirlog-peers]
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Weirlog alone
    #[arg(long)]
    alone: bool,
    /// Numbers of channels
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000, 10_000, 100_000])]
    channels: Vec<u64>,
    /// How often each load is run; the median by rate counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Runs what was asked for.
pub(crate) fn run(data: &Path, arguments: &CompareArguments) -> Result<Vec<Row>, BenchError> {
    let peer = peers_directory(arguments.peers.as_deref()).join("nats-streaming-server");
    let mut kinds = vec![Kind::Ours];
    if arguments.alone || !peer.exists() {
        println!("compare: Weirlog alone");
    } else {
        kinds.push(Kind::PeerFile);
    }
    let mut rows = Vec::new();
    for growth in &arguments.growths {
        for kind in &kinds {
            let bench = Bench { data, arguments, peer: &peer, kind: *kind };
            rows.extend(bench.grow(*growth)?);
        }
    }
    Ok(rows)
}

/// A server to be measured.
struct Bench<'a> {
    data: &'a Path,
    arguments: &'a CompareArguments,
    peer: &'a Path,
    kind: Kind,
}

impl Bench<'_> {
    fn grow(&self, growth: Growth) -> Result<Vec<Row>, BenchError> {
        match growth {
            Growth::Channels => {
                let loads = self.arguments.channels.iter().map(|count| self.over_channels(*count));
                self.each(loads)
            }
            Growth::Publishers => {
                let load = |channels: u64| {
                    let name = format!("256 publishers, window 1, {channels} channels");
                    let flags =
                        [("-pub", 256), ("-window", 1), ("-channels", channels), ("-n", 100_000)];
                    Load::new(name, &flags)
                };
                self.each([1, 100].into_iter().map(load))
            }
            Growth::Subscribers => {
                let load = |subscribers: u64| {
                    let messages = 1_000_000 / subscribers;
                    let flags =
                        [("-pub", 1), ("-sub", subscribers), ("-window", 64), ("-n", messages)];
                    Load::new(format!("{subscribers} subscribers"), &flags)
                };
                self.each([1, 10, 100, 1_000].into_iter().map(load))
            }
            Growth::Rate => self.under_rates(),
        }
    }

    fn over_channels(&self, channels: u64) -> Load {
        // A tenth of the peer's own rate, or it would take minutes.
        let messages = match (self.kind, channels) {
            (Kind::Ours, _) => 1_600_000,
            (_, ..=100) => 200_000,
            (_, _) => 20_000,
        };
        Load::new(format!("{channels} channels"), &[("-channels", channels), ("-n", messages)])
    }

    fn each(&self, loads: impl Iterator<Item = Load>) -> Result<Vec<Row>, BenchError> {
        loads.map(|load| Ok(self.row(&load, self.median(&load)?))).collect()
    }

    /// Parts of the rate that this server reaches without a rate, each with its latencies.
    fn under_rates(&self) -> Result<Vec<Row>, BenchError> {
        const FLAGS: [(&str, u64); 2] = [("-sub", 4), ("-channels", 4)];
        let mut flags = FLAGS.to_vec();
        flags.push(("-n", 400_000));
        let all = Load::new("as fast as it goes, 4 subscribers", &flags);
        let highest = self.median(&all)?;
        let mut rows = vec![self.row(&all, highest)];
        for percent in [10.0, 50.0, 90.0] {
            let rate = (highest.rate * percent / 100.0) as u64;
            let mut flags = FLAGS.to_vec();
            flags.extend([("-rate", rate.max(1)), ("-n", (rate * 4).max(1))]);
            let load = Load::new(format!("{percent} % of it"), &flags);
            rows.push(self.row(&load, self.median(&load)?));
        }
        Ok(rows)
    }

    /// The median by rate of some runs, each on a fresh store.
    fn median(&self, load: &Load) -> Result<Outcome, BenchError> {
        let outcomes = (0..self.arguments.rounds.max(1)).map(|_| self.once(load));
        let mut outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
        outcomes.sort_by(|left, right| left.rate.total_cmp(&right.rate));
        Ok(outcomes[outcomes.len() / 2])
    }

    fn once(&self, load: &Load) -> Result<Outcome, BenchError> {
        let program = if self.kind == Kind::Ours { &self.arguments.server } else { self.peer };
        let server = Server::start(self.data, program, self.kind)?;
        wait_until_served(&self.arguments.server, &server)?;
        Ok(run_bench(&self.arguments.server, &server, load)?.unwrap_or(Outcome::NONE))
    }

    fn row(&self, load: &Load, outcome: Outcome) -> Row {
        Row::new(format!("{}: {}", self.kind.name(), load.name))
            .with("messages_per_second", "msgs/s", outcome.rate)
            .with("p50_us", "p50 us", outcome.p50_us)
            .with("p99_us", "p99 us", outcome.p99_us)
            .with("p999_us", "p999 us", outcome.p999_us)
            .with("processor_us_per_message", "CPU us/msg", outcome.processor_us)
            .with("resident_megabytes", "RSS MB", outcome.resident_megabytes)
    }
}
