//! The `weirlog` program: reads the command line and does what it asks.

use std::io::Write as _;
use std::process::ExitCode;

mod args;
mod banner;
mod bench;
mod descriptors;
mod executor;
mod log;
mod repair;
mod serve;
mod signal;
mod sim;
mod verify;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let parsed = match args::parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => return fail(&error),
    };
    for warning in &parsed.warnings {
        eprintln!("weirlog: {warning}");
    }
    let text = match parsed.command {
        args::Command::Serve(options) => {
            return match serve::serve(&options) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            };
        }
        args::Command::Checked => "the configuration is valid\n".to_owned(),
        args::Command::Signal(options) => {
            return match signal::send(&options) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            };
        }
        args::Command::Help => args::serve_help(),
        args::Command::SimHelp => args::sim_help(),
        args::Command::BenchHelp => args::bench_help(),
        args::Command::VerifyHelp => args::verify_help(),
        args::Command::RepairHelp => args::repair_help(),
        args::Command::Version => format!("{}\n", args::version_line()),
        args::Command::Sim(options) => return sim::simulate(&options),
        args::Command::Verify(directory) => {
            return verify::verify_directory(&directory).unwrap_or_else(|error| fail(&error));
        }
        args::Command::Repair(from, to) => {
            return repair::repair_directory(&from, &to).unwrap_or_else(|error| fail(&error));
        }
        args::Command::Bench(options) => {
            return match bench::bench(options) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            };
        }
    };
    // Who closes the pipe early has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("weirlog: {error}");
    ExitCode::FAILURE
}
