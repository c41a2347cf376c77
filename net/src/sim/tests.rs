//! Seeds, and that a seed is a run.

use super::{FaultKinds, SimPlan, run};

#[test]
fn a_hundred_seeds_keep_all_promises() {
    for seed in 0..100 {
        if let Err(violation) = run(SimPlan { seed, steps: 400, faults: FaultKinds::all() }, None) {
            panic!("{violation}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run_to_the_last_byte() {
    for seed in [3, 7] {
        let plan = SimPlan { seed, steps: 1_000, faults: FaultKinds::all() };
        let outcome = run(plan, None);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(outcome, run(plan, None));
    }
}
