//! A failing run made small: as few kinds of faults, steps, clients, operations and faults as still fail.

mod cut;

use std::fmt;

use super::workload::perform;
use super::{FaultKind, History, Script, SimPlan, Violation, run};
use cut::cut;

/// Runs that leaving out kinds and steps may take: enough for all kinds of faults twice and for the steps.
const RUNS_MAX: usize = 60;

/// The least that was found to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The run.
    pub plan: SimPlan,
    /// What of it is done; none: all, since a run by the list of its own deeds does not fail.
    pub script: Option<Script>,
    /// How it fails.
    pub violation: Violation,
    /// What it does.
    pub history: History,
}

/// The command that makes this run.
impl fmt::Display for Shrunk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.plan)?;
        self.script.as_ref().map_or(Ok(()), |script| write!(formatter, " --only {script}"))
    }
}

/// The least found that still breaks a promise, and how it does. A kind of fault is left out if the run fails without
/// it; then steps are halved, later taken away by quarters and eighths, as long as it fails. Then clients, operations and
/// single faults are left out.
///
/// What is broken may be another promise than at first: a small run that fails is worth more than a large one that
/// fails in the same way.
#[must_use]
pub fn shrink(plan: SimPlan, violation: Violation) -> Shrunk {
    let (plan, _) = shrink_by(plan, violation, |plan| run(plan, None).err());
    cut(plan, |script| {
        let (result, history) = perform(plan, script.cloned(), None);
        (result.err(), history)
    })
}

fn shrink_by(
    plan: SimPlan,
    violation: Violation,
    mut fails: impl FnMut(SimPlan) -> Option<Violation>,
) -> (SimPlan, Violation) {
    let mut best = (plan, violation);
    let mut runs_left = RUNS_MAX;
    let mut is_smaller = |best: &mut (SimPlan, Violation), plan: SimPlan| {
        if runs_left == 0 || plan == best.0 {
            return false;
        }
        runs_left -= 1;
        let violation = fails(plan);
        let is_failing = violation.is_some();
        if let Some(violation) = violation {
            *best = (plan, violation);
        }
        is_failing
    };
    loop {
        let before = best.0;
        for kind in FaultKind::ALL {
            let faults = best.0.faults.without(kind);
            let plan = SimPlan { faults, ..best.0 };
            is_smaller(&mut best, plan);
        }
        for part in [2, 4, 8] {
            loop {
                let plan = SimPlan { steps: best.0.steps - best.0.steps / part, ..best.0 };
                if !is_smaller(&mut best, plan) {
                    break;
                }
            }
        }
        if best.0 == before {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::FaultKinds;

    #[test]
    fn what_is_needed_to_fail_is_left() {
        let plan = SimPlan { seed: 7, steps: 10_000, faults: FaultKinds::all() };
        let violation = |plan: SimPlan| Violation { plan, at_ms: 0, what: String::new() };
        let is_failing = |plan: &SimPlan| {
            let faults = plan.faults;
            plan.steps >= 130 && faults.has(FaultKind::Kill) && faults.has(FaultKind::Limits)
        };
        let fails = |plan: SimPlan| is_failing(&plan).then(|| violation(plan));
        let (small, found) = shrink_by(plan, violation(plan), fails);
        assert_eq!(found.plan, small);
        assert!((130..160).contains(&small.steps), "{small:?}");
        let kept: Vec<_> =
            FaultKind::ALL.into_iter().filter(|kind| small.faults.has(*kind)).collect();
        assert_eq!(kept, [FaultKind::Kill, FaultKind::Limits]);
    }
}
