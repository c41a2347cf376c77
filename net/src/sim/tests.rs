//! Seeds, and that a seed is a run.

use super::{FaultKinds, Outcome, SimPlan, run};

#[test]
fn a_hundred_seeds_keep_all_promises() {
    let mut total = Outcome::default();
    for seed in 0..100 {
        match run(SimPlan { seed, steps: 400, faults: FaultKinds::all() }, None) {
            Ok(outcome) => total.add(&outcome),
            Err(violation) => panic!("{violation}"),
        }
    }
    // What never happens is not tested.
    assert!(total.clustered > 0, "{total}");
    assert!(total.emptied > 0, "{total}");
    assert!(total.rotted > 0, "{total}");
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
