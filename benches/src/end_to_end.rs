//! The server over sockets: the release binary and nats-streaming-server with its memory store, one after the other,
//! under the same load from the same client program.
//!
//! Neither peer is part of this project: they are looked for in `$PEERS_BIN`, and left out where they are absent.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::BenchError;
use crate::client::{Load, Outcome, wait_until_ready};
use crate::report::Row;
use crate::server::{Kind, Server, peers_directory};

/// What `end-to-end` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct EndToEndArguments {
    /// The server
    #[arg(long, default_value = "target/release/weirlog")]
    server: PathBuf,
    /// Where stanload and nats-streaming-server are [default: $PEERS_BIN, or ~/.cache/weirlog-peers]
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Messages of the load with many on their way
    #[arg(long, default_value_t = 800_000)]
    messages: u64,
    /// Messages of the load with one on its way
    #[arg(long, default_value_t = 20_000)]
    messages_alone: u64,
    /// How often both servers are run
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

/// Runs all loads against both servers.
pub(crate) fn run(data: &Path, arguments: &EndToEndArguments) -> Result<Vec<Row>, BenchError> {
    let peers = peers_directory(arguments.peers.as_deref());
    let client = peers.join("stanload");
    for needed in [&client, &arguments.server] {
        if !needed.exists() {
            println!("end-to-end: skipped, {} is absent", needed.display());
            return Ok(Vec::new());
        }
    }
    let peer = peers.join("nats-streaming-server");
    let mut rows = Vec::new();
    for _ in 0..arguments.rounds {
        let ours = run_server(data, &arguments.server, &client, arguments, Kind::Ours)?;
        let theirs = if peer.exists() {
            run_server(data, &peer, &client, arguments, Kind::PeerMemory)?
        } else {
            println!("end-to-end: {} is absent, so nothing stands beside", peer.display());
            Vec::new()
        };
        for (at, load) in loads(arguments).into_iter().enumerate() {
            if let Some(ours) = ours.get(at) {
                rows.push(row(&load.name, *ours, theirs.get(at).copied()));
            }
        }
    }
    Ok(rows)
}

fn loads(arguments: &EndToEndArguments) -> Vec<Load> {
    let load = |clients: u64, window: u64, messages: u64| {
        let flags = [("-clients", clients), ("-window", window), ("-n", messages)];
        Load::new(format!("{clients} clients, window {window}"), &flags)
    };
    vec![load(4, 16_384, arguments.messages), load(1, 1, arguments.messages_alone)]
}

fn row(case: &str, ours: Outcome, theirs: Option<Outcome>) -> Row {
    let theirs = theirs.unwrap_or(Outcome::NONE);
    Row::new(case)
        .with("messages_per_second", "msgs/s", ours.rate)
        .with("p50_us", "p50 us", ours.p50_us)
        .with("p99_us", "p99 us", ours.p99_us)
        .with("processor_us_per_message", "CPU us/msg", ours.processor_us)
        .with("resident_megabytes", "RSS MB", ours.resident_megabytes)
        .with("peer_messages_per_second", "peer msgs/s", theirs.rate)
        .with("peer_p50_us", "peer p50", theirs.p50_us)
        .with("peer_p99_us", "peer p99", theirs.p99_us)
        .with("peer_processor_us_per_message", "peer CPU us", theirs.processor_us)
        .with("peer_resident_megabytes", "peer RSS MB", theirs.resident_megabytes)
        .with("ratio_to_peer", "x peer", ours.rate / theirs.rate)
        .with("processor_ratio_to_peer", "x peer CPU", ours.processor_us / theirs.processor_us)
}

/// Starts a server, runs all loads against it, and stops it.
fn run_server(
    data: &Path,
    program: &Path,
    client: &Path,
    arguments: &EndToEndArguments,
    kind: Kind,
) -> Result<Vec<Outcome>, BenchError> {
    let server = Server::start(data, program, kind)?;
    let probe = Load::probe(&[("-clients", 1), ("-n", 1)]);
    wait_until_ready(|| run_load(client, &server, &probe))?;
    loads(arguments).into_iter().map(|load| run_load(client, &server, &load)).collect()
}

fn run_load(client: &Path, server: &Server, load: &Load) -> Result<Outcome, BenchError> {
    let output = Command::new(client)
        .args(["-mode", "pub", "-s", &format!("nats://127.0.0.1:{}", server.port())])
        .args(["-pid", &server.id().to_string()])
        .args(&load.arguments)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().unwrap_or_default();
    let outcome = read_outcome(line);
    outcome
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("{}: {text}", load.name).into())
}

/// Reads `name=value name=value ...`.
fn read_outcome(line: &str) -> Option<Outcome> {
    let value = |name: &str| {
        let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find_map(|(found, value)| (found == name).then_some(value))
    };
    let number = |name: &str| value(name)?.parse::<f64>().ok();
    Some(Outcome {
        rate: value("rate")?.strip_suffix("/s")?.parse().ok()?,
        p50_us: microseconds(value("p50")?)?,
        p99_us: microseconds(value("p99")?)?,
        p999_us: value("p999").and_then(microseconds).unwrap_or(f64::NAN),
        processor_us: number("server_cpu_us_per_msg").unwrap_or(f64::NAN),
        resident_megabytes: number("server_rss_kB").map_or(f64::NAN, |size| size / 1e3),
    })
}

/// Go's way to write a duration, when it has one unit.
fn microseconds(text: &str) -> Option<f64> {
    let units = [("ns", 1e-3), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
    units.iter().find_map(|(unit, factor)| {
        let value: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(value * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_line_is_read() {
        let line = "pub channels=1 clients=4 size=128 n=100000 rate=187974/s MBps=24.1 p50=181.01ms \
                    p99=299µs server_cpu_us_per_msg=3.90 server_rss_kB=90244";
        let outcome = read_outcome(line).unwrap();
        assert_eq!((outcome.rate, outcome.p50_us, outcome.p99_us), (187_974.0, 181_010.0, 299.0));
        assert_eq!((outcome.processor_us, outcome.resident_megabytes), (3.9, 90.244));
        assert!(read_outcome("timeout").is_none());
        assert_eq!(microseconds("1.5s"), Some(1_500_000.0));
    }
}
