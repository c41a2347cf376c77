//! What it costs and what it gives that segments are rewritten with each channel's messages together: the latency of
//! publishers meanwhile, bytes written and kept, and replays of channels that were written finely interleaved.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;

use crate::BenchError;
use crate::client::{Load, Outcome, run_bench, wait_until_served};
use crate::measure::{disk_traffic, now_ns, seconds_since};
use crate::report::Row;
use crate::server::{Kind, Server};

/// Nothing was rewritten for so long: it is done.
const DONE_SECONDS: f64 = 8.0;
/// It is waited for that long at most.
const WAIT_SECONDS_MAX: f64 = 240.0;
/// Disk use is looked at after so much quiet.
const QUIET: Duration = Duration::from_secs(60);

/// What `clustering` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusteringArguments {
    /// The server, and the program of the load
    #[arg(long, default_value = "target/release/weirlog")]
    server: PathBuf,
    /// Channels that are written interleaved
    #[arg(long, default_value_t = 10_000)]
    channels: u64,
    /// Their messages
    #[arg(long, default_value_t = 4_000_000)]
    messages: u64,
    /// Messages a second of the publishers whose latency is measured
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// How often all is done
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

/// Runs all rounds.
pub(crate) fn run(data: &Path, arguments: &ClusteringArguments) -> Result<Vec<Row>, BenchError> {
    (0..arguments.rounds.max(1)).map(|_| round(data, arguments)).collect()
}

fn round(data: &Path, arguments: &ClusteringArguments) -> Result<Row, BenchError> {
    let server = Server::start(data, &arguments.server, Kind::Ours)?;
    wait_until_served(&arguments.server, &server)?;
    let bench = |prefix: &str, flags: &[(&str, u64)], start: &str| -> Result<Outcome, BenchError> {
        let mut load = Load::new(prefix, flags);
        load.arguments.extend(["-prefix", prefix, "-start", start].map(str::to_owned));
        let outcome = run_bench(&arguments.server, &server, &load)?;
        outcome.ok_or_else(|| format!("the load {prefix} did not come to its end").into())
    };
    let publish = |prefix: &str, flags: &[(&str, u64)]| bench(prefix, flags, "new");

    let written_before = written_bytes(server.id())?;
    let mixed = [("-channels", arguments.channels), ("-n", arguments.messages)];
    let filled = publish("mixed", &mixed)?;
    let foreground = [("-rate", arguments.rate), ("-n", arguments.rate * 4)];
    let rewritten = || metric(&server, "weirlog_clustered_segments");
    let (before, busy, after) = (rewritten()?, publish("busy", &foreground)?, rewritten()?);
    if after <= before {
        return Err("nothing was rewritten beside the publishers".into());
    }
    wait_until_done(&server)?;
    let quiet = publish("quiet", &foreground)?;
    wait_until_done(&server)?;
    thread::sleep(QUIET);
    let stored_bytes = metric(&server, "weirlog_stored_bytes")?;
    let written = (written_bytes(server.id())? - written_before) / stored_bytes;
    let kept = disk_bytes(server.root())? / stored_bytes;
    // Without files that wait for their turn: a few a shard, however much is stored.
    let segments = metric(&server, "weirlog_segment_bytes")? / stored_bytes;

    let apart = [("-channels", 4), ("-n", arguments.messages)];
    publish("apart", &apart)?;
    wait_until_done(&server)?;
    let replay = |prefix: &str, written: [(&str, u64); 2]| {
        bench(prefix, &[("-pub", 0), ("-sub", 4), written[0], written[1]], "first")
    };
    let (together, alone) = (replay("mixed", mixed)?, replay("apart", apart)?);
    Ok(Row::new(format!("{} channels, {} messages", arguments.channels, arguments.messages))
        .with("filled_per_second", "filled/s", filled.rate)
        .with("quiet_p99_us", "p99 us", quiet.p99_us)
        .with("busy_p99_us", "p99 us meanwhile", busy.p99_us)
        .with("p99_ratio", "ratio", busy.p99_us / quiet.p99_us)
        .with("stored_megabytes", "stored MB", stored_bytes / 1e6)
        .with("written_ratio", "written", written)
        .with("segments_ratio", "segments", segments)
        .with("disk_ratio", "on disk", kept)
        .with("replay_per_second", "replay/s", together.rate)
        .with("replay_apart_per_second", "apart/s", alone.rate)
        .with("replay_ratio", "ratio", together.rate / alone.rate))
}

/// Waits until no more segments are rewritten.
fn wait_until_done(server: &Server) -> Result<(), BenchError> {
    let start_ns = now_ns();
    let (mut known, mut since_ns) = (f64::NAN, now_ns());
    while seconds_since(since_ns) < DONE_SECONDS {
        let now = written_bytes(server.id())?;
        // Hints are some blocks a second.
        if known.is_nan() || now - known > 1e6 {
            (known, since_ns) = (now, now_ns());
        }
        if seconds_since(start_ns) > WAIT_SECONDS_MAX {
            return Err("segments are still being rewritten".into());
        }
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Bytes that a process has had written to disks.
fn written_bytes(process: u32) -> Result<f64, BenchError> {
    Ok(disk_traffic(&process.to_string())?.1 as f64)
}

/// Space that a directory takes.
fn disk_bytes(directory: &Path) -> Result<f64, BenchError> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let known = entry.metadata()?;
        bytes +=
            if known.is_dir() { disk_bytes(&entry.path())? } else { known.blocks() as f64 * 512.0 };
    }
    Ok(bytes)
}

/// A figure of the server's `/metrics`.
fn metric(server: &Server, name: &str) -> Result<f64, BenchError> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, server.monitor_port()))?;
    socket.write_all(b"GET /metrics HTTP/1.0\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    socket.read_to_string(&mut page)?;
    let is_wanted =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let line = page.lines().find(is_wanted).ok_or_else(|| format!("no {name} in /metrics"))?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}
