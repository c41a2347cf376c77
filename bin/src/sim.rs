//! `weirlog sim`: runs the simulator of the whole server over seeds, or over one of them and tells what happens.

use std::process::ExitCode;
use std::time::Instant;

use weirlog_net::sim::{Log, Outcome, Script, SimPlan, Violation, run, run_script, shrink};

use crate::args::SimOptions;

/// Runs what was asked for; fails at the first broken promise. Of many seeds the failing one is made small.
pub(crate) fn simulate(options: &SimOptions) -> ExitCode {
    match options.seed {
        Some(seed) => {
            let plan = SimPlan { seed, steps: options.steps, faults: options.faults };
            replay(plan, options.only.clone())
        }
        None => run_all(options),
    }
}

/// One seed, or only some of what is done there, with all that happens.
fn replay(plan: SimPlan, only: Option<Script>) -> ExitCode {
    let log: Log = Box::new(|line| println!("{line}"));
    let result = match only {
        Some(script) => run_script(plan, script, Some(log)),
        None => run(plan, Some(log)),
    };
    match result {
        Ok(outcome) => {
            println!("{outcome:?}");
            println!("trace hash {:016x}", outcome.trace_hash);
            ExitCode::SUCCESS
        }
        Err(violation) => {
            eprintln!("weirlog: {violation}");
            ExitCode::FAILURE
        }
    }
}

/// Many seeds, from 0.
fn run_all(options: &SimOptions) -> ExitCode {
    let started = now();
    let mut total = Outcome::default();
    for seed in 0..options.seeds {
        match run(SimPlan { seed, steps: options.steps, faults: options.faults }, None) {
            Ok(outcome) => {
                total.add(&outcome);
            }
            Err(violation) => return fail(violation, options.is_shrinking),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} seeds, {total}, {:.1} seeds/s",
        options.seeds,
        options.seeds as f64 / seconds.max(f64::MIN_POSITIVE)
    );
    ExitCode::SUCCESS
}

/// Tells what failed, the shortest command found that fails, and what is done then.
fn fail(violation: Violation, is_shrinking: bool) -> ExitCode {
    eprintln!("weirlog: {violation}\n  {}", violation.plan);
    if !is_shrinking {
        return ExitCode::FAILURE;
    }
    let small = shrink(violation.plan, violation);
    eprintln!("weirlog: the least found that fails, and how:\n  {small}\n  {}", small.violation);
    eprint!("{} operations and faults:\n{}", small.history.deeds_count(), small.history);
    ExitCode::FAILURE
}

#[allow(clippy::disallowed_methods, reason = "how fast seeds run is told, nothing depends on it")]
fn now() -> Instant {
    Instant::now()
}
