//! Deeds of a failing run left out, one client at a time, then in ranges that are halved down to single ones.

use std::collections::BTreeSet;

use super::Shrunk;
use crate::sim::{Deed, History, Script, SimPlan, Violation};

/// Runs that leaving out deeds may take: a thousand deeds come down to ten within some two hundred.
const CUTS_MAX: usize = 600;

/// A script that fails, and how.
struct Best {
    script: Script,
    violation: Violation,
    history: History,
}

/// How a run failed, if it did, and what it did.
type Tried = (Option<Violation>, History);

struct Cutter<Trial> {
    best: Best,
    runs_left: usize,
    trial: Trial,
}

/// The least found of the run of a plan that fails. `trial` makes the run by a script, without one the whole run.
///
/// # Panics
/// The whole run does not fail.
pub(super) fn cut(plan: SimPlan, mut trial: impl FnMut(Option<&Script>) -> Tried) -> Shrunk {
    let (violation, history) = trial(None);
    let violation = violation.expect("a plan is made small because it fails");
    let script = history.script();
    let (found, again) = trial(Some(&script));
    let Some(found) = found else {
        return Shrunk { plan, script: None, violation, history };
    };
    let best = Best { script, violation: found, history: again };
    let mut cutter = Cutter { best, runs_left: CUTS_MAX, trial };
    cutter.cut_all();
    let Best { script, violation, history } = cutter.best;
    Shrunk { plan, script: Some(script), violation, history }
}

impl<Trial: FnMut(Option<&Script>) -> Tried> Cutter<Trial> {
    fn cut_all(&mut self) {
        loop {
            let before = self.best.script.deeds.len();
            self.cut_clients();
            self.cut_ranges();
            if self.best.script.deeds.len() == before || self.runs_left == 0 {
                break;
            }
        }
    }

    /// Leaves out what `is_cut`, if it fails without. What then has no effect any more is left out too.
    fn fails_without(&mut self, is_cut: impl Fn(usize, &Deed) -> bool) -> bool {
        if self.runs_left == 0 {
            return false;
        }
        self.runs_left -= 1;
        let best = &self.best.script;
        let kept = self.best.history.done.iter().enumerate();
        let deeds: BTreeSet<Deed> =
            kept.filter(|(at, done)| !is_cut(*at, &done.deed)).map(|(_, done)| done.deed).collect();
        let script = Script { deeds, ends_at_us: best.ends_at_us };
        let (Some(violation), history) = (self.trial)(Some(&script)) else { return false };
        // Without others some find nothing to do, and the end may come sooner.
        let ends_at_us = best.ends_at_us.min(history.ended_at_us);
        self.best = Best { script: Script { ends_at_us, ..script }, violation, history };
        true
    }

    fn cut_clients(&mut self) {
        let client_of = |deed: &Deed| match deed {
            Deed::Operation { client, .. } => Some(*client),
            Deed::Fault { .. } => None,
        };
        let clients: BTreeSet<usize> =
            self.best.script.deeds.iter().filter_map(client_of).collect();
        for client in clients {
            self.fails_without(|_, deed| client_of(deed) == Some(client));
        }
    }

    fn cut_ranges(&mut self) {
        let mut length = self.best.history.done.len().div_ceil(2);
        while length > 0 {
            let mut start = 0;
            while start < self.best.history.done.len() {
                let range = start..start + length;
                if !self.fails_without(|at, _| range.contains(&at)) {
                    start += length;
                }
            }
            length /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::workload::perform;
    use crate::sim::{FaultKind, FaultKinds};

    /// An artificial failure: client 1 publishes, and some time later power fails or the process is killed.
    fn fails(plan: SimPlan, script: Option<&Script>) -> Tried {
        let (_, history) = perform(plan, script.cloned(), None);
        let publishes = |done: &&crate::sim::Done| {
            matches!(done.deed, Deed::Operation { client: 1, .. })
                && done.text.starts_with("publishes")
        };
        let published = history.done.iter().find(publishes).map(|done| done.at_us);
        let is_blow = |kind| matches!(kind, FaultKind::Power | FaultKind::Kill);
        let blow = history
            .done
            .iter()
            .rev()
            .find(|done| matches!(done.deed, Deed::Fault { kind, .. } if is_blow(kind)));
        let is_failing = published.zip(blow).is_some_and(|(at_us, blow)| at_us < blow.at_us);
        let violation = Violation { plan, at_ms: 0, what: "artificial".to_owned() };
        (is_failing.then_some(violation), history)
    }

    #[test]
    fn a_failing_run_comes_down_to_a_short_list_that_fails_again() {
        let mut found = 0;
        for seed in 0..60 {
            let plan = SimPlan { seed, steps: 300, faults: FaultKinds::all() };
            let (Some(_), whole) = fails(plan, None) else { continue };
            found += 1;
            if found > 3 {
                break;
            }
            let small = cut(plan, |script| fails(plan, script));
            let script = small.script.expect("it fails again by its own list");
            assert!(whole.done.len() > 50, "seed {seed}: {}", whole.done.len());
            assert_eq!(script.deeds.len(), 2, "seed {seed}: {script}");
            let read: Script = script.to_string().parse().unwrap();
            let (again, history) = fails(plan, Some(&read));
            assert_eq!((again, history), (Some(small.violation), small.history), "seed {seed}");
        }
        assert!(found > 2, "{found} of the seeds fail");
    }

    #[test]
    fn what_is_left_out_changes_nothing_of_what_the_others_draw() {
        let plan = SimPlan { seed: 5, steps: 300, faults: FaultKinds::all() };
        let (_, whole) = perform(plan, None, None);
        // Every second deed.
        let mut script = whole.script();
        let is_odd = |deed: &Deed| {
            whole.done.iter().position(|done| done.deed == *deed).is_some_and(|at| at % 2 == 1)
        };
        script.deeds.retain(is_odd);
        let (_, half) = perform(plan, Some(script.clone()), None);
        let verb = |done: &crate::sim::Done| done.text.split(' ').next().map(str::to_owned);
        let mut same = 0;
        for done in &half.done {
            let before = whole.done.iter().find(|other| other.deed == done.deed);
            let before = before.expect("nothing is done that the script does not have");
            assert_eq!(
                (verb(done), done.at_us),
                (verb(before), before.at_us),
                "{done:?}, {before:?}"
            );
            same += 1;
        }
        // What was to end or to be sent over a connection may find nothing any more.
        assert!(same * 4 > script.deeds.len() * 3, "{same} of {}", script.deeds.len());
    }
}
