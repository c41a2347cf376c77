//! A core as the server has it: an executor of its own, on a thread of its own, pinned.

use std::future::Future;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use crate::BenchError;

/// glommio's default. When this timer fires before the first runnable task could run, glommio 0.9.0 goes to sleep with
/// that task in its queue, and only an event wakes it: with 1 ms a busy machine made executors hang for good.
const PREEMPT_TIMER: Duration = Duration::from_millis(100);
/// As the server's.
const REGISTERED_MEMORY_BYTES: usize = 1 << 20;
/// As the server's.
const RING_DEPTH: usize = 256;
/// An event that comes in any case, so that such a sleep ends once the executor has begun.
const PULSE_INTERVAL: Duration = Duration::from_millis(50);
/// After the work: dropped files are closed in the executor's next rounds.
const CLOSE_TIME: Duration = Duration::from_millis(20);

/// Runs work on a core and waits for it. `make` is called there.
pub(crate) fn run_on_core<T, W>(make: impl FnOnce() -> W + Send + 'static) -> Result<T, BenchError>
where
    T: Send + 'static,
    W: Future<Output = Result<T, BenchError>>,
{
    join(start_on_core(0, make))
}

/// Runs work on each of the first cores at once and waits for all. `make` is called there.
pub(crate) fn run_on_cores<T, W>(
    count: u16,
    make: impl FnOnce(u16) -> W + Clone + Send + 'static,
) -> Result<Vec<T>, BenchError>
where
    T: Send + 'static,
    W: Future<Output = Result<T, BenchError>>,
{
    let start = |core| {
        let make = make.clone();
        start_on_core(core, move || make(core))
    };
    let cores: Vec<_> = (0..count).map(start).collect();
    cores.into_iter().map(join).collect()
}

fn join<T>(core: JoinHandle<Result<T, BenchError>>) -> Result<T, BenchError> {
    core.join().map_err(|_| "the core panicked")?
}

fn start_on_core<T, W>(
    core: u16,
    make: impl FnOnce() -> W + Send + 'static,
) -> JoinHandle<Result<T, BenchError>>
where
    T: Send + 'static,
    W: Future<Output = Result<T, BenchError>>,
{
    let work = move || {
        let builder = LocalExecutorBuilder::new(Placement::Fixed(usize::from(core)))
            .io_memory(REGISTERED_MEMORY_BYTES)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT_TIMER);
        let executor = builder.make().map_err(|error| error.to_string())?;
        executor.run(async {
            glommio::spawn_local(pulse()).detach();
            let result = make().await;
            glommio::timer::sleep(CLOSE_TIME).await;
            result
        })
    };
    thread::spawn(work)
}

async fn pulse() {
    loop {
        glommio::timer::sleep(PULSE_INTERVAL).await;
    }
}

/// Lets completions in and writes out, as a front does between two reads of its sockets.
pub(crate) async fn yield_to_disk() {
    glommio::executor().yield_task_queue_now().await;
}

/// Empties a directory, or makes it.
pub(crate) fn fresh_directory(path: &Path) -> Result<(), BenchError> {
    if path.exists() {
        std::fs::remove_dir_all(path)?;
    }
    std::fs::create_dir_all(path)?;
    Ok(())
}
