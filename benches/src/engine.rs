//! Appends through `Storage`, on one core, beside the device's own limit for writes of the same size.
//!
//! The store is unlimited and new for each case: segments are made, filled and rolled while it runs, as in a server that
//! fills up. `KiB/commit` and the device's write size are those of the frames, `other MB/s` is what was written beside
//! them: zeros for the next segments, footers, checkpoints, what is written again with each channel's messages together.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use weirlog_engine::disk::BLOCK_SIZE_BYTES;

use crate::BenchError;
use crate::device::{WritePlan, plain_writes, ring_writes};
use crate::executor::{fresh_directory, run_on_core};
use crate::load::{Load, LoadPlan, Share, open};
use crate::report::Row;

/// Commits of one shard on their way at once, as the engine has it: the device is asked for as many.
const IN_FLIGHT_MAX: usize = 4;
/// What `engine` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArguments {
    /// Seconds a case
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often all cases are run
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Bytes of a record's payload
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Messages published and not yet durable, a case each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1_024, 16_384])]
    outstanding: Vec<usize>,
    /// Numbers of channels, a case each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100])]
    channels: Vec<usize>,
    /// Only the engine, without the device beside it
    #[arg(long)]
    alone: bool,
}

/// Runs all cases.
pub(crate) fn run(data: &Path, arguments: &EngineArguments) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for _ in 0..arguments.rounds {
        for channel_count in &arguments.channels {
            for outstanding_max in &arguments.outstanding {
                let plan = LoadPlan {
                    channel_count: *channel_count,
                    payload_bytes: arguments.payload,
                    outstanding_max: *outstanding_max,
                    messages_max: u64::MAX,
                };
                eprintln!("engine: {channel_count} channels, {outstanding_max} outstanding");
                rows.push(case(data, plan, arguments)?);
            }
        }
    }
    Ok(rows)
}

fn case(data: &Path, plan: LoadPlan, arguments: &EngineArguments) -> Result<Row, BenchError> {
    let root = data.join("engine");
    fresh_directory(&root)?;
    let (inside, seconds) = (root.clone(), arguments.seconds);
    let sample = run_on_core(move || async move {
        Load::new(open(&inside, Share::ALL).await?, plan).sample(seconds).await
    })?;
    fs::remove_dir_all(&root)?;

    let (seconds, records) = (sample.usage.seconds(), sample.records as f64);
    let commits = sample.commits as f64;
    let commit_bytes = sample.frame_bytes as f64 / commits;
    let other_bytes = sample.usage.written_bytes.saturating_sub(sample.frame_bytes) as f64;
    let row = Row::new(format!("{} ch, {} out", plan.channel_count, plan.outstanding_max))
        .with("records_per_second", "records/s", records / seconds)
        .with("megabytes_per_second", "MB/s", records * plan.payload_bytes as f64 / seconds / 1e6)
        .with("p50_us", "p50 us", sample.latencies.percentile_us(50.0))
        .with("p99_us", "p99 us", sample.latencies.percentile_us(99.0))
        .with("p999_us", "p999 us", sample.latencies.percentile_us(99.9))
        .with("commits_per_second", "commits/s", commits / seconds)
        .with("messages_per_commit", "msgs/commit", records / commits)
        .with("kibibytes_per_commit", "KiB/commit", commit_bytes / 1024.0)
        .with("other_megabytes_per_second", "other MB/s", other_bytes / seconds / 1e6)
        .with("processor_us_per_message", "CPU us/msg", sample.usage.processor_us() / records)
        .with("processor_percent", "CPU %", sample.usage.processor_us() / seconds / 1e4)
        .with(
            "processor_system_percent",
            "kernel %",
            sample.usage.system_us / sample.usage.processor_us() * 100.0,
        );
    if arguments.alone {
        return Ok(row);
    }
    beside_device(data, row, plan, commits / seconds, commit_bytes, arguments.seconds)
}

/// Adds what the device does with writes of the same size, alone and with as many on their way as a shard may have.
fn beside_device(
    data: &Path,
    row: Row,
    plan: LoadPlan,
    commits_per_second: f64,
    commit_bytes: f64,
    seconds: f64,
) -> Result<Row, BenchError> {
    let is_alone = plan.outstanding_max == 1;
    let blocks = (commit_bytes / BLOCK_SIZE_BYTES as f64).round().max(1.0) as usize;
    let size_bytes = if is_alone { BLOCK_SIZE_BYTES } else { blocks * BLOCK_SIZE_BYTES };
    let write = |in_flight| WritePlan { size_bytes, in_flight, seconds: seconds / 2.0 };
    let one = plain_writes(data, write(1))?;
    let several = plain_writes(data, write(IN_FLIGHT_MAX))?;
    let ring_one = ring_writes(data, write(1))?;
    let ring_several = ring_writes(data, write(IN_FLIGHT_MAX))?;
    let limit = if is_alone { one } else { several };
    Ok(row
        .with("device_writes_per_second_1", "device x1", one)
        .with("device_writes_per_second_4", "device x4", several)
        .with("ring_writes_per_second_1", "ring x1", ring_one)
        .with("ring_writes_per_second_4", "ring x4", ring_several)
        .with("percent_of_device", "% of device", commits_per_second / limit * 100.0))
}

/// All segment files of a store, in order.
pub(crate) fn segment_files(root: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let mut files = Vec::new();
    for shard in fs::read_dir(root)? {
        let shard = shard?.path();
        if !shard.is_dir() {
            continue;
        }
        for entry in fs::read_dir(shard)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("segment-") {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
