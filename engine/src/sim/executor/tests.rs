//! The simulated executor: order by seed, virtual time, groups that die.

use std::cell::Cell;

use super::*;

/// Draws a run of ten tasks that sleep and log, and returns the order with the trace's hash.
fn run(seed: u64) -> (Vec<u64>, u64) {
    let executor = SimExecutor::new(seed);
    let order = Rc::new(RefCell::new(Vec::new()));
    for task in 0..10 {
        let runtime = executor.runtime();
        let order = Rc::clone(&order);
        executor.runtime().spawn(async move {
            for round in 0..5 {
                runtime.sleep(Duration::from_millis(round % 3)).await;
                order.borrow_mut().push(task);
            }
        });
    }
    executor.run_for(Duration::from_secs(1));
    (order.take(), executor.trace_hash())
}

#[test]
fn one_seed_is_one_run() {
    assert_eq!(run(7), run(7));
    let (order, hash) = run(7);
    let (other_order, other_hash) = run(8);
    assert_eq!(order.len(), 50);
    assert_ne!(order, other_order);
    assert_ne!(hash, other_hash);
}

#[test]
fn time_passes_only_when_all_wait() {
    let executor = SimExecutor::new(1);
    let runtime = executor.runtime();
    let before = runtime.now();
    executor.block_on(async {
        runtime.sleep(Duration::ZERO).await;
        assert_eq!(runtime.now(), before);
        runtime.sleep(Duration::from_secs(3600)).await;
    });
    assert_eq!(runtime.now().mono, before.mono.after_ms(3_600_000));
    executor.run_until(before.mono.after_ms(3_700_000));
    assert_eq!(runtime.now().mono, before.mono.after_ms(3_700_000));
    assert_eq!(runtime.now().wall.0 - before.wall.0, 3_700_000_000_000);
    executor.shift_wall_clock(-5);
    assert_eq!(runtime.now().wall.0 - before.wall.0, 3_699_999_999_995);
}

#[test]
fn kill_drops_a_group_and_all_it_would_become() {
    let executor = SimExecutor::new(1);
    let process = executor.group();
    let alive = Rc::new(());
    let finished = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let (alive, finished) = (Rc::clone(&alive), Rc::clone(&finished));
        let runtime = process.clone();
        process.spawn(async move {
            runtime.sleep(Duration::from_millis(10)).await;
            finished.set(finished.get() + 1);
            drop(alive);
        });
    }
    executor.run_for(Duration::from_millis(5));
    assert_eq!(Rc::strong_count(&alive), 4);
    process.kill();
    assert_eq!(Rc::strong_count(&alive), 1);
    let late = Rc::clone(&alive);
    process.spawn(async move { drop(late) });
    assert_eq!(Rc::strong_count(&alive), 1);
    executor.run_for(Duration::from_secs(1));
    assert_eq!(finished.get(), 0);
}

#[test]
fn a_task_may_kill_its_own_group() {
    let executor = SimExecutor::new(1);
    let process = executor.group();
    let alive = Rc::new(());
    let (held, runtime) = (Rc::clone(&alive), process.clone());
    process.spawn(async move {
        runtime.kill();
        runtime.sleep(Duration::from_millis(1)).await;
        drop(held);
    });
    executor.run_for(Duration::from_secs(1));
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
fn dropping_the_executor_frees_its_tasks() {
    let alive = Rc::new(());
    let executor = SimExecutor::new(1);
    let (held, runtime) = (Rc::clone(&alive), executor.runtime());
    executor.runtime().spawn(async move {
        runtime.sleep(Duration::from_secs(1)).await;
        drop(held);
    });
    executor.run_for(Duration::from_millis(1));
    drop(executor);
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn waiting_for_nothing_is_a_deadlock() {
    SimExecutor::new(1).block_on(std::future::pending::<()>());
}
