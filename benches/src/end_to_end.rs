//! The server over sockets: the release binary and nats-streaming-server with its memory store, one after the other,
//! under the same load from the same client program.
//!
//! Neither peer is part of this project: they are looked for in `$PEERS_BIN`, and left out where they are absent.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::Args;

use crate::BenchError;
use crate::executor::fresh_directory;
use crate::measure::{now_ns, seconds_since};
use crate::report::Row;

const START_SECONDS_MAX: f64 = 20.0;
const START_POLL: Duration = Duration::from_millis(20);

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

/// A load and its name.
struct Load {
    name: String,
    arguments: Vec<String>,
}

/// What the client program said of a load.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    processor_us: f64,
    resident_megabytes: f64,
}

/// Runs all loads against both servers.
pub(crate) fn run(data: &Path, arguments: &EndToEndArguments) -> Result<Vec<Row>, BenchError> {
    let peers = peers_directory(arguments);
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
        let ours = run_server(data, &arguments.server, &client, arguments, true)?;
        let theirs = if peer.exists() {
            run_server(data, &peer, &client, arguments, false)?
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

fn peers_directory(arguments: &EndToEndArguments) -> PathBuf {
    let named =
        || arguments.peers.clone().or_else(|| std::env::var_os("PEERS_BIN").map(Into::into));
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    named().unwrap_or_else(|| home().join(".cache/weirlog-peers"))
}

fn loads(arguments: &EndToEndArguments) -> Vec<Load> {
    let load = |clients: u32, window: u32, messages: u64| Load {
        name: format!("{clients} clients, window {window}"),
        arguments: [
            ("-clients", u64::from(clients)),
            ("-window", u64::from(window)),
            ("-n", messages),
        ]
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), value.to_string()])
        .collect(),
    };
    vec![load(4, 16_384, arguments.messages), load(1, 1, arguments.messages_alone)]
}

fn row(case: &str, ours: Outcome, theirs: Option<Outcome>) -> Row {
    let nothing = Outcome {
        rate: f64::NAN,
        p50_us: f64::NAN,
        p99_us: f64::NAN,
        processor_us: f64::NAN,
        resident_megabytes: f64::NAN,
    };
    let theirs = theirs.unwrap_or(nothing);
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
    is_ours: bool,
) -> Result<Vec<Outcome>, BenchError> {
    let root = data.join("server");
    fresh_directory(&root)?;
    let port = free_port()?;
    let log = File::create(data.join("server.log"))?;
    let mut command = Command::new(program);
    command.args(["-p", &port.to_string()]);
    if is_ours {
        command.arg("-dir").arg(&root);
    } else {
        command.args(["-store", "memory"]);
    }
    command.stdout(log.try_clone()?).stderr(log);
    let mut server = Stopped(command.spawn()?);
    eprintln!("end-to-end: {}", program.display());
    wait_until_listening(&mut server.0, port)?;
    let process = server.0.id();
    wait_until_ready(client, port, process)?;
    let outcomes = loads(arguments).into_iter().map(|load| run_load(client, port, process, &load));
    let outcomes = outcomes.collect::<Result<Vec<_>, _>>();
    drop(server);
    std::fs::remove_dir_all(&root)?;
    outcomes
}

/// A server that is stopped when this is dropped, whatever happened.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nothing listens on, most likely still so in a moment.
fn free_port() -> Result<u16, BenchError> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn wait_until_listening(server: &mut Child, port: u16) -> Result<(), BenchError> {
    let start_ns = now_ns();
    while seconds_since(start_ns) < START_SECONDS_MAX {
        if let Some(status) = server.try_wait()? {
            return Err(format!("the server ended at once: {status}, see server.log").into());
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        thread::sleep(START_POLL);
    }
    Err("the server does not listen".into())
}

/// A peer listens before it answers streaming clients: a message of a probe has to come through.
fn wait_until_ready(client: &Path, port: u16, server: u32) -> Result<(), BenchError> {
    let arguments = ["-clients", "1", "-n", "1", "-prefix", "probe"].map(str::to_owned).to_vec();
    let probe = Load { name: "probe".into(), arguments };
    let start_ns = now_ns();
    loop {
        match run_load(client, port, server, &probe) {
            Ok(_) => return Ok(()),
            Err(error) if seconds_since(start_ns) > START_SECONDS_MAX => return Err(error),
            Err(_) => thread::sleep(START_POLL),
        }
    }
}

fn run_load(client: &Path, port: u16, server: u32, load: &Load) -> Result<Outcome, BenchError> {
    let output = Command::new(client)
        .args(["-mode", "pub", "-s", &format!("nats://127.0.0.1:{port}")])
        .args(["-pid", &server.to_string()])
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
