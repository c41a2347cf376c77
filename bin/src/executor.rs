//! glommio's executors, each on a thread of its own, and what keeps one from sleeping too long.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use io_uring::IoUring;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use weirlog_engine::disk::dma::GlommioRuntime;
use weirlog_engine::runtime::Runtime as _;

/// Under load an executor looks for completions at least this often. glommio 0.9.0 goes to sleep with tasks to run if
/// its thread loses the processor for longer than this between two instructions of its loop: with 1 ms that was seen
/// in about one run of ten on a loaded machine.
const PREEMPT_TIMER: Duration = Duration::from_millis(10);
/// An executor that fell asleep like that wakes after these. Ten wake-ups a second cost 1 ms of processor time.
const TICK_INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(130)];
/// An executor looks at its first task within a millisecond, on a loaded machine within some dozens.
const BEGIN_WAIT: Duration = Duration::from_secs(1);
/// Executors that fell asleep before their first task, one after the other.
const BEGIN_TRIES_MAX: usize = 10;
/// glommio registers this much memory on three rings of each executor; registering more gains nothing.
const REGISTERED_MEMORY_BYTES: usize = 1 << 20;
/// glommio starts with no less.
const LOCKED_MEMORY_BYTES: u64 = 512 << 10;
/// Operations in one ring.
const RING_DEPTH: usize = 256;

/// Runs `work` on an executor of its own, and waits for its end.
pub(crate) fn run<T: Send + 'static, F: Future<Output = T> + 'static>(
    name: &str,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, String> {
    let executor = execute(name, || Placement::Unbound, work)?;
    let result = executor.join().map_err(|error| error.to_string())?;
    Ok(result.expect("it took the work"))
}

/// Runs `work` on an executor and a thread of its own. One that was put to sleep before it looked at its first task (see
/// [`PREEMPT_TIMER`]) would sleep for good, since nothing is on its way that could wake it: another one gets the work. One
/// start of 270 hung on a loaded machine.
pub(crate) fn execute<T: Send + 'static, F: Future<Output = T> + 'static>(
    name: &str,
    placement: impl Fn() -> Placement,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<ExecutorJoinHandle<Option<T>>, String> {
    check_system()?;
    let work = Arc::new(Mutex::new(Some(work)));
    for _ in 0..BEGIN_TRIES_MAX {
        let (begin, begun) = channel();
        let chance = work.clone();
        let executor = builder(placement()).name(name).spawn(move || async move {
            let work = chance.lock().expect("nobody panics with it").take()?;
            let _ = begin.send(());
            Some(awake(work()).await)
        });
        let executor = executor.map_err(|error| error.to_string())?;
        let is_taken = || work.lock().expect("nobody panics with it").is_none();
        match begun.recv_timeout(BEGIN_WAIT) {
            Ok(()) => return Ok(executor),
            Err(_) if is_taken() => return Ok(executor),
            // Its thread ended without a look at the work: there are no rings for it.
            Err(RecvTimeoutError::Disconnected) => {
                executor.join().map_err(|error| error.to_string())?;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Err(format!("{name} does not begin"))
}

/// Whether there is what glommio needs; the error says what helps.
fn check_system() -> Result<(), String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|error| error.to_string())?;
    if hard < LOCKED_MEMORY_BYTES {
        return Err(format!(
            "locked memory is limited to {hard} bytes, {LOCKED_MEMORY_BYTES} are needed: \
             raise it with `ulimit -l 512`, or LimitMEMLOCK=512K in a systemd unit"
        ));
    }
    if soft < LOCKED_MEMORY_BYTES {
        setrlimit(Resource::RLIMIT_MEMLOCK, LOCKED_MEMORY_BYTES, hard)
            .map_err(|error| error.to_string())?;
    }
    match IoUring::new(1) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "io_uring cannot be used ({error}): it needs Linux 5.8, kernel.io_uring_disabled = 0, \
             and in a container a seccomp profile that allows it"
        )),
    }
}

/// Polls `work` at least at each tick. There are two, so that one is still to come if the executor falls asleep as the
/// other one wakes it.
async fn awake<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut ticks = TICK_INTERVALS.map(|interval| Box::pin(GlommioRuntime.sleep(interval)));
    poll_fn(|context| {
        for (tick, interval) in ticks.iter_mut().zip(TICK_INTERVALS) {
            while tick.as_mut().poll(context).is_ready() {
                tick.set(GlommioRuntime.sleep(interval));
            }
        }
        work.as_mut().poll(context)
    })
    .await
}

fn builder(placement: Placement) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement)
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(REGISTERED_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
}
