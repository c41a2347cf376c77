//! A seeded executor with a virtual clock: one thread, the next ready task drawn by chance, time only when all wait.
//!
//! A simulated process is a group of tasks: [`SimRuntime::kill`] drops them all between two polls, as `kill -9` or a
//! power cut would. The root group stands for the hardware and is never killed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::hash::Hasher;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use twox_hash::XxHash64;

use crate::runtime::Runtime;
use crate::types::{Monotonic, Now, Timestamp};

#[cfg(test)]
mod tests;

/// Where the monotonic clock starts: not 0, so that "0 means never" bugs show as wrong waits.
const START_MONOTONIC_NS: u64 = 1_000_000_000;
/// Where the wall clock starts: 2026-01-01T00:00:00Z.
const START_WALL_NS: i64 = 1_767_225_600_000_000_000;
/// Polls without any time passing, after which the tasks are taken to wake each other for ever. The longest honest
/// run, a recovery over a disk without delays, takes some ten thousand.
const POLLS_AT_ONE_TIME_MAX: u64 = 10_000_000;

/// The executor. Dropping it drops all tasks.
pub struct SimExecutor {
    core: Rc<Core>,
}

/// A group of tasks on a [`SimExecutor`]. Clones are the same group.
#[derive(Clone)]
pub struct SimRuntime {
    core: Rc<Core>,
    group: u64,
}

struct Core {
    woken: Arc<Woken>,
    state: RefCell<State>,
}

struct State {
    random: fastrand::Rng,
    now_ns: u64,
    wall_offset_ns: i64,
    tasks: BTreeMap<u64, Task>,
    ready: Vec<u64>,
    timers: BTreeMap<(u64, u64), Waker>,
    killed_groups: BTreeSet<u64>,
    is_closed: bool,
    id_last: u64,
    polls_at_one_time: u64,
    trace: XxHash64,
    events_count: u64,
}

struct Task {
    group: u64,
    /// Absent while it is being polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Arc<TaskWaker>,
}

/// Tasks woken since the last look. A waker must be `Send`, by the standard library's contract only: all of this
/// stays on one thread.
type Woken = Mutex<Vec<u64>>;

struct TaskWaker {
    task: u64,
    is_queued: AtomicBool,
    woken: Arc<Woken>,
}

/// What to do next.
enum Next {
    Poll(u64),
    /// The deadline is reached.
    Deadline,
    /// Nothing is ready and no timer runs.
    Idle,
}

impl SimExecutor {
    /// An executor whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            now_ns: START_MONOTONIC_NS,
            wall_offset_ns: START_WALL_NS,
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            timers: BTreeMap::new(),
            killed_groups: BTreeSet::new(),
            is_closed: false,
            id_last: 0,
            polls_at_one_time: 0,
            trace: XxHash64::with_seed(seed),
            events_count: 0,
        };
        Self { core: Rc::new(Core { woken: Arc::default(), state: RefCell::new(state) }) }
    }

    /// The root group: the hardware, and tests.
    #[must_use]
    pub fn runtime(&self) -> SimRuntime {
        SimRuntime { core: Rc::clone(&self.core), group: 0 }
    }

    /// A new group: a process that can be killed.
    #[must_use]
    pub fn group(&self) -> SimRuntime {
        let group = self.core.next_id();
        SimRuntime { core: Rc::clone(&self.core), group }
    }

    /// Runs all tasks until `future` is done. The others stay where they are.
    ///
    /// # Panics
    /// If everything waits and nothing can ever wake it.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let task = self.core.next_id();
        let waker = self.core.waker(task);
        let raw_waker = Waker::from(Arc::clone(&waker));
        raw_waker.wake_by_ref();
        loop {
            match self.core.next(None) {
                Next::Poll(id) if id == task => {
                    waker.is_queued.store(false, Ordering::Relaxed);
                    let mut context = Context::from_waker(&raw_waker);
                    if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                        return value;
                    }
                }
                Next::Poll(id) => self.core.poll_task(id),
                Next::Deadline | Next::Idle => panic!("deadlock: all tasks wait, no timer runs"),
            }
        }
    }

    /// Runs all tasks until the virtual clock stands at `deadline`.
    pub fn run_until(&self, deadline: Monotonic) {
        loop {
            match self.core.next(Some(deadline.0)) {
                Next::Poll(id) => self.core.poll_task(id),
                Next::Deadline | Next::Idle => {
                    let mut state = self.core.state.borrow_mut();
                    state.now_ns = state.now_ns.max(deadline.0);
                    return;
                }
            }
        }
    }

    /// Runs all tasks for this long.
    pub fn run_for(&self, duration: Duration) {
        let deadline = self.core.state.borrow().now_ns.saturating_add(nanoseconds(duration));
        self.run_until(Monotonic(deadline));
    }

    /// Lets the wall clock jump, as an operator or NTP would.
    pub fn shift_wall_clock(&self, by_ns: i64) {
        self.core.state.borrow_mut().wall_offset_ns += by_ns;
    }

    /// A hash over all that happened so far, in order: equal for two runs that were the same.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.core.state.borrow().trace.finish()
    }

    /// Events in [`SimExecutor::trace_hash`].
    #[must_use]
    pub fn events_count(&self) -> u64 {
        self.core.state.borrow().events_count
    }
}

impl Drop for SimExecutor {
    fn drop(&mut self) {
        // Tasks hold the executor's core: without this neither would ever be freed.
        self.core.state.borrow_mut().is_closed = true;
        let tasks = std::mem::take(&mut self.core.state.borrow_mut().tasks);
        drop(tasks);
        let timers = std::mem::take(&mut self.core.state.borrow_mut().timers);
        drop(timers);
    }
}

impl SimRuntime {
    /// Drops all tasks of this group, and all that are spawned into it later.
    pub fn kill(&self) {
        assert!(self.group != 0, "the root group is the hardware");
        let tasks: Vec<Task> = {
            let mut state = self.core.state.borrow_mut();
            state.killed_groups.insert(self.group);
            let is_member = |task: &Task| task.group == self.group;
            state.tasks.extract_if(.., |_, task| is_member(task)).map(|(_, task)| task).collect()
        };
        self.record("kill", &[self.group, tasks.len() as u64]);
    }

    /// A number drawn from `range` by the executor's seed.
    #[must_use]
    pub fn random(&self, range: Range<u64>) -> u64 {
        self.core.state.borrow_mut().random.u64(range)
    }

    /// Adds an event to the trace.
    pub fn record(&self, what: &str, numbers: &[u64]) {
        self.core.state.borrow_mut().record(what, numbers);
    }
}

impl Runtime for SimRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let id = self.core.next_id();
        let waker = self.core.waker(id);
        let mut state = self.core.state.borrow_mut();
        let is_alive = !state.is_closed && !state.killed_groups.contains(&self.group);
        if is_alive {
            let task = Task { group: self.group, future: Some(Box::pin(task)), waker };
            task.waker.is_queued.store(true, Ordering::Relaxed);
            state.tasks.insert(id, task);
            state.ready.push(id);
        } else {
            // The task's destructors may come back here.
            drop(state);
            drop(task);
        }
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let now_ns = self.core.state.borrow().now_ns;
        Sleep {
            core: Rc::clone(&self.core),
            deadline_ns: now_ns.saturating_add(nanoseconds(duration)),
            timer: None,
        }
    }

    fn now(&self) -> Now {
        let state = self.core.state.borrow();
        let passed_ns = (state.now_ns - START_MONOTONIC_NS).cast_signed();
        Now { wall: Timestamp(state.wall_offset_ns + passed_ns), mono: Monotonic(state.now_ns) }
    }
}

impl Core {
    fn next_id(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.id_last += 1;
        state.id_last
    }

    fn waker(&self, task: u64) -> Arc<TaskWaker> {
        let is_queued = AtomicBool::new(false);
        Arc::new(TaskWaker { task, is_queued, woken: Arc::clone(&self.woken) })
    }

    /// Draws the next ready task; with none, lets time pass to the next timer, but not beyond `deadline_ns`.
    fn next(&self, deadline_ns: Option<u64>) -> Next {
        loop {
            let due = {
                let mut state = self.state.borrow_mut();
                let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
                state.ready.append(&mut woken);
                drop(woken);
                if !state.ready.is_empty() {
                    return Next::Poll(state.draw());
                }
                let Some((&(at_ns, _), _)) = state.timers.first_key_value() else {
                    return Next::Idle;
                };
                if deadline_ns.is_some_and(|deadline| at_ns > deadline) {
                    return Next::Deadline;
                }
                state.advance(at_ns)
            };
            for waker in due {
                waker.wake();
            }
        }
    }

    fn poll_task(&self, id: u64) {
        let (mut future, waker) = {
            let mut state = self.state.borrow_mut();
            // A killed task may still stand in the queue.
            let Some(task) = state.tasks.get_mut(&id) else { return };
            let Some(future) = task.future.take() else { return };
            task.waker.is_queued.store(false, Ordering::Relaxed);
            (future, Waker::from(Arc::clone(&task.waker)))
        };
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = self.state.borrow_mut();
        match (poll, state.tasks.get_mut(&id)) {
            (Poll::Pending, Some(task)) => task.future = Some(future),
            (Poll::Ready(()), _) => {
                let task = state.tasks.remove(&id);
                // Destructors may spawn, wake or sleep: never under the borrow.
                drop(state);
                drop(task);
                drop(future);
            }
            // It killed its own group.
            (Poll::Pending, None) => {
                drop(state);
                drop(future);
            }
        }
    }
}

impl State {
    fn draw(&mut self) -> u64 {
        self.polls_at_one_time += 1;
        assert!(
            self.polls_at_one_time < POLLS_AT_ONE_TIME_MAX,
            "livelock: tasks wake each other and no time passes"
        );
        let chosen = self.random.usize(0..self.ready.len());
        let id = self.ready.swap_remove(chosen);
        self.record("poll", &[id]);
        id
    }

    /// Lets time pass, and returns the wakers of all timers that are due then.
    fn advance(&mut self, to_ns: u64) -> Vec<Waker> {
        if to_ns > self.now_ns {
            self.now_ns = to_ns;
            self.polls_at_one_time = 0;
        }
        let later = self.timers.split_off(&(self.now_ns + 1, 0));
        let due = std::mem::replace(&mut self.timers, later);
        for (at_ns, timer) in due.keys() {
            self.record("timer", &[*at_ns, *timer]);
        }
        due.into_values().collect()
    }

    fn record(&mut self, what: &str, numbers: &[u64]) {
        self.trace.write(what.as_bytes());
        for number in numbers {
            self.trace.write(&number.to_le_bytes());
        }
        self.events_count += 1;
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.task);
        }
    }
}

/// A timer: waits at least once, also for no time at all, so that it lets others run.
struct Sleep {
    core: Rc<Core>,
    deadline_ns: u64,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let timer = match self.timer {
            Some(timer) => timer,
            None => self.core.next_id(),
        };
        let key = (self.deadline_ns, timer);
        let is_fired = {
            let timers = &mut self.core.state.borrow_mut().timers;
            let is_fired = self.timer.is_some() && !timers.contains_key(&key);
            if !is_fired {
                timers.insert(key, context.waker().clone());
            }
            is_fired
        };
        self.timer = Some(timer);
        if is_fired { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some(timer) = self.timer else { return };
        let waker = self.core.state.borrow_mut().timers.remove(&(self.deadline_ns, timer));
        drop(waker);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
