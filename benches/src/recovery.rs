//! Opening a store whose server was killed, beside plain reads of the same bytes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use weirlog_engine::placement::shard_of_channel;

use crate::BenchError;
use crate::device::plain_reads;
use crate::engine::segment_files;
use crate::executor::{fresh_directory, run_on_core};
use crate::load::{Load, LoadPlan, Share, channel_name, open};
use crate::measure::Usage;
use crate::report::Row;

/// Messages on their way while the store is filled.
const FILL_OUTSTANDING_MAX: usize = 4_096;
/// What the filling process says when all is durable.
const FILLED: &str = "filled";

/// What `recovery` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecoveryArguments {
    /// Messages in the store
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Bytes of each payload
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Numbers of channels, a case each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000])]
    channels: Vec<usize>,
    /// How often each store is opened
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What the filling process is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct FillArguments {
    #[arg(long)]
    messages: u64,
    #[arg(long)]
    payload: usize,
    #[arg(long)]
    channels: usize,
}

/// What an open did.
#[derive(Debug, Clone, Copy)]
struct Opened {
    usage: Usage,
    messages: u64,
    cut_frames: usize,
}

/// Runs all cases.
pub(crate) fn run(data: &Path, arguments: &RecoveryArguments) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    let root = data.join("recovery");
    for channels in arguments.channels.iter().copied() {
        for round in 1..=arguments.rounds {
            eprintln!("recovery: {channels} channels, round {round}");
            // Filled each time: an open writes a new term, and the next would find less to do.
            fresh_directory(&root)?;
            fill_and_kill(&root, channels, arguments)?;
            let inside = root.clone();
            let opened = run_on_core(move || async move { reopen(&inside, channels).await })?;
            if opened.messages != arguments.messages {
                let (found, messages) = (opened.messages, arguments.messages);
                return Err(format!("{found} of {messages} messages were found").into());
            }
            rows.push(row(&root, channels, opened)?);
        }
    }
    fs::remove_dir_all(&root)?;
    Ok(rows)
}

fn row(root: &Path, channels: usize, opened: Opened) -> Result<Row, BenchError> {
    let files = segment_files(root)?;
    let mut stored_bytes = 0;
    for file in &files {
        stored_bytes += fs::metadata(file)?.len();
    }
    let device = plain_reads(&files)?;
    let seconds = opened.usage.seconds();
    let read_bytes = opened.usage.read_bytes as f64;
    Ok(Row::new(format!("{channels} ch"))
        .with("open_ms", "open ms", seconds * 1e3)
        .with("messages_per_second", "msgs/s", opened.messages as f64 / seconds)
        .with("segment_megabytes", "segments MB", stored_bytes as f64 / 1e6)
        .with("read_megabytes", "read MB", read_bytes / 1e6)
        .with("read_megabytes_per_second", "MB/s", read_bytes / seconds / 1e6)
        .with("processor_ms", "CPU ms", opened.usage.processor_us() / 1e3)
        .with("cut_frames", "cut frames", opened.cut_frames as f64)
        .with("device_megabytes_per_second", "device MB/s", device / 1e6)
        .with("device_ms", "device ms", read_bytes / device * 1e3)
        .with("percent_of_device", "% of device", read_bytes / device / seconds * 100.0))
}

async fn reopen(root: &Path, channels: usize) -> Result<Opened, BenchError> {
    let before = Usage::now()?;
    let storage = open(root, Share::ALL).await?;
    let usage = Usage::now()?.since(&before);
    let messages = (0..channels).filter_map(|number| {
        let name = channel_name(number);
        let shard = shard_of_channel(&name, storage.shards().len() as u16);
        storage.with(shard, |s| s.channel_bounds(&name)).map(|(_, _, count)| count)
    });
    let messages = messages.sum();
    let cut_frames = storage.report().cut_frames;
    storage.close().await;
    Ok(Opened { usage, messages, cut_frames })
}

/// Fills a store in another process and kills that: nothing is closed, as after a power cut.
fn fill_and_kill(
    root: &Path,
    channels: usize,
    arguments: &RecoveryArguments,
) -> Result<(), BenchError> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("fill")
        .arg("--data")
        .arg(root)
        .args(["--channels", &channels.to_string()])
        .args(["--messages", &arguments.messages.to_string()])
        .args(["--payload", &arguments.payload.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let mut line = String::new();
    let read = BufReader::new(output).read_line(&mut line);
    child.kill()?;
    child.wait()?;
    read?;
    if line.trim() == FILLED { Ok(()) } else { Err("the store could not be filled".into()) }
}

/// The process that is killed.
pub(crate) fn fill(root: &Path, arguments: &FillArguments) -> Result<(), BenchError> {
    let root = root.to_owned();
    let plan = LoadPlan {
        channel_count: arguments.channels,
        payload_bytes: arguments.payload,
        outstanding_max: FILL_OUTSTANDING_MAX,
        messages_max: arguments.messages,
    };
    run_on_core(move || async move {
        let mut load = Load::new(open(&root, Share::ALL).await?, plan);
        load.run_until(move |load, _| load.published_count == plan.messages_max).await?;
        load.drain().await?;
        println!("{FILLED}");
        // The shards stay open until the kill comes.
        loop {
            glommio::timer::sleep(Duration::from_secs(1)).await;
        }
    })
}
