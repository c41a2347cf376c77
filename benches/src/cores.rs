//! Appends on one core and on several, in turn, over the same directory: what more cores are worth to the engine. Each
//! core has its shards, and publishers of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use clap::Args;

use crate::BenchError;
use crate::executor::{fresh_directory, run_on_core, run_on_cores};
use crate::load::{Load, LoadPlan, Sample, Share, open};
use crate::measure::Usage;
use crate::report::Row;

/// What `cores` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct CoresArguments {
    /// Seconds a case
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often each number of cores has its turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of a record's payload
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Messages published and not yet durable, on all cores together
    #[arg(long, default_value_t = 16_384)]
    outstanding: usize,
    /// Channels, on all cores together
    #[arg(long, default_value_t = 100)]
    channels: usize,
    /// Numbers of cores
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    cores: Vec<u16>,
}

/// Runs all cases.
pub(crate) fn run(data: &Path, arguments: &CoresArguments) -> Result<Vec<Row>, BenchError> {
    let root = data.join("cores");
    fresh_directory(&root)?;
    // Several cores would make it at once.
    let inside = root.clone();
    run_on_core(move || async move {
        let storage = open(&inside, Share::ALL).await?;
        storage.close().await;
        Ok(())
    })?;
    let mut rows = Vec::new();
    for round in 1..=arguments.rounds {
        let mut first = None;
        for core_count in &arguments.cores {
            eprintln!("cores: {core_count}, round {round}");
            let (records, usage) = case(&root, *core_count, arguments)?;
            let rate = records / usage.seconds();
            let row = Row::new(format!("{core_count} cores, round {round}"))
                .with("records_per_second", "records/s", rate)
                .with("times_the_first", "times the first", rate / *first.get_or_insert(rate))
                .with("processor_us_per_message", "CPU us/msg", usage.processor_us() / records)
                .with("processor_percent", "CPU %", usage.processor_us() / usage.seconds() / 1e4)
                .with(
                    "written_megabytes_per_second",
                    "written MB/s",
                    usage.written_bytes as f64 / usage.seconds() / 1e6,
                );
            rows.push(row);
        }
    }
    fs::remove_dir_all(&root)?;
    Ok(rows)
}

/// The messages that became durable, and what that cost the process.
fn case(
    root: &Path,
    core_count: u16,
    arguments: &CoresArguments,
) -> Result<(f64, Usage), BenchError> {
    let plan = LoadPlan {
        channel_count: arguments.channels,
        payload_bytes: arguments.payload,
        outstanding_max: arguments.outstanding / usize::from(core_count),
        messages_max: u64::MAX,
    };
    let (root, seconds) = (root.to_owned(), arguments.seconds);
    let all_open = Arc::new(Barrier::new(usize::from(core_count)));
    let shares = run_on_cores(core_count, move |own| {
        append(root, Share { own, core_count }, plan, seconds, all_open)
    })?;
    let records = shares.iter().map(|share| share.records as f64).sum();
    Ok((records, shares[0].usage))
}

/// One core's part.
async fn append(
    root: PathBuf,
    share: Share,
    plan: LoadPlan,
    seconds: f64,
    all_open: Arc<Barrier>,
) -> Result<Sample, BenchError> {
    let load = Load::new(open(&root, share).await?, plan);
    all_open.wait();
    load.sample(seconds).await
}
