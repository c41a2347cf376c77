//! A log that a failed write has ended: nothing more is committed, and the core has its rest.

use super::*;
use crate::error::RequestError;
use crate::sim::disk::{Chance, Faults};
use crate::types::Monotonic;

/// Found by the simulator: a shard whose log had ended asked for a tick to log positions, and again at once, because
/// the tick did nothing: the core spun. The failing write must come while something lazy waits to be logged.
#[test]
fn an_ended_log_asks_for_no_more_ticks() {
    let executor = SimExecutor::new(3);
    let runtime = executor.runtime();
    let disk = SimDisk::new(runtime.clone(), 3);
    executor.block_on(async {
        let storage = open(&disk, &runtime, &config()).await.unwrap();
        let (shard, index, _) = publish(&storage, &runtime, "a", b"one");
        committed(&storage, &runtime, shard, index).await;
        disk.set_faults(Faults { write_error: Chance::ALWAYS, ..Faults::default() });
        publish(&storage, &runtime, "a", b"two");
        storage.pump();
        while storage.with(shard, |shard| shard.failure()).is_none() {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        runtime.sleep(Duration::from_secs(2)).await;
        let now = runtime.now();
        let next = storage.with(shard, |shard| {
            shard.tick(now);
            shard.next_deadline()
        });
        assert!(next.is_none_or(|at: Monotonic| at > now.mono), "{next:?} at {now:?}");
        let refused = storage.with(shard, |shard| shard.publish("a", b"three", now));
        assert!(matches!(refused, Err(RequestError::LogFinished(_))), "{refused:?}");
    });
}
