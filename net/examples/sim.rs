//! `sim SEEDS STEPS`: the simulator alone, as `mutants/run` builds it. `weirlog sim` is the one to work with; it costs
//! twice the time to build, since it has the real edges too.

use std::process::ExitCode;

use weirlog_net::sim::{FaultKinds, Outcome, SimPlan, run};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse());
    let (Some(Ok(seeds)), Some(Ok(steps))) = (numbers.next(), numbers.next()) else {
        eprintln!("usage: sim SEEDS STEPS");
        return ExitCode::FAILURE;
    };
    let mut total = Outcome::default();
    for seed in 0..seeds {
        match run(SimPlan { seed, steps, faults: FaultKinds::all() }, None) {
            Ok(outcome) => total.add(&outcome),
            Err(violation) => {
                eprintln!("weirlog: {violation}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{seeds} seeds keep all promises: {total}");
    ExitCode::SUCCESS
}
