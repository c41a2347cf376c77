//! Benchmarks of Weirlog. Each stands beside what the machine itself, or a peer, reaches in the same run: a figure
//! alone says more about the machine than about the program.
//!
//! Figures are printed as a table and appended to `benches/runs/DATE-MACHINE.jsonl`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod client;
mod clustering;
mod compare;
mod cores;
mod device;
mod end_to_end;
mod engine;
mod executor;
mod load;
mod measure;
mod parser;
mod recovery;
mod report;
mod server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever went wrong: a benchmark only shows it.
pub(crate) type BenchError = Box<dyn std::error::Error + Send + Sync>;

/// Benchmarks of Weirlog, each beside the device's limit or a peer.
#[derive(Debug, Parser)]
#[command(name = "weirlog-benches")]
struct Arguments {
    /// Where data goes while a benchmark runs: on the disk that is to be measured
    #[arg(long, global = true, default_value = "target/bench-data")]
    data: PathBuf,
    /// Where figures are kept
    #[arg(long, global = true, default_value = "benches/runs")]
    runs: PathBuf,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Appends through the engine in process, beside plain synchronous writes
    Engine(engine::EngineArguments),
    /// Appends on one core and on two, with the same directory
    Cores(cores::CoresArguments),
    /// The NATS and STAN codecs
    Parser,
    /// Opening a store whose server was killed, beside plain reads
    Recovery(recovery::RecoveryArguments),
    /// The server over sockets, beside nats-streaming-server
    EndToEnd(end_to_end::EndToEndArguments),
    /// What rewriting segments costs and gives: latency meanwhile, bytes written and kept, replays
    Clustering(clustering::ClusteringArguments),
    /// Servers beside each other as things grow: channels, publishers, subscribers, load
    Compare(compare::CompareArguments),
    /// Fills a store and waits to be killed
    #[command(hide = true)]
    Fill(recovery::FillArguments),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weirlog-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let data = arguments.data.as_path();
    if let Bench::Fill(fill) = &arguments.bench {
        return recovery::fill(data, fill);
    }
    std::fs::create_dir_all(data)?;
    let machine = report::Machine::of(data)?;
    let (name, rows) = match &arguments.bench {
        Bench::Engine(options) => ("engine", engine::run(data, options)?),
        Bench::Cores(options) => ("cores", cores::run(data, options)?),
        Bench::Parser => ("parser", parser::run()?),
        Bench::Recovery(options) => ("recovery", recovery::run(data, options)?),
        Bench::EndToEnd(options) => ("end-to-end", end_to_end::run(data, options)?),
        Bench::Clustering(options) => ("clustering", clustering::run(data, options)?),
        Bench::Compare(options) => ("compare", compare::run(data, options)?),
        Bench::Fill(_) => unreachable!("handled above"),
    };
    report::print(name, &machine, &rows);
    report::keep(&arguments.runs, name, &machine, &rows)
}
