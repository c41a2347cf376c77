//! What a piece of time cost: processor, bytes read and written; and latencies.

use std::fs;
use std::time::Duration;

use histogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use weirlog_engine::disk::dma::GlommioRuntime;
use weirlog_engine::runtime::Runtime as _;
use weirlog_engine::types::Now;

use crate::BenchError;

/// Both clocks, as a core of the server reads them.
pub(crate) fn now() -> Now {
    GlommioRuntime.now()
}

/// The monotonic clock in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    now().mono.0
}

/// Nanoseconds from then until now, as seconds.
pub(crate) fn seconds_since(then_ns: u64) -> f64 {
    Duration::from_nanos(now_ns().saturating_sub(then_ns)).as_secs_f64()
}

/// What this process, all its threads together, has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub at_ns: u64,
    pub user_us: f64,
    pub system_us: f64,
    /// Bytes that reached the block layer.
    pub read_bytes: u64,
    pub written_bytes: u64,
}

impl Usage {
    /// As it stands now.
    pub(crate) fn now() -> Result<Self, BenchError> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let (read_bytes, written_bytes) = disk_traffic("self")?;
        Ok(Self {
            at_ns: now_ns(),
            user_us: usage.user_time().num_microseconds() as f64,
            system_us: usage.system_time().num_microseconds() as f64,
            read_bytes,
            written_bytes,
        })
    }

    /// What was used since `earlier`; `at_ns` becomes the time between.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            at_ns: self.at_ns - earlier.at_ns,
            user_us: self.user_us - earlier.user_us,
            system_us: self.system_us - earlier.system_us,
            read_bytes: self.read_bytes - earlier.read_bytes,
            written_bytes: self.written_bytes - earlier.written_bytes,
        }
    }

    /// The time between, for a difference.
    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.at_ns).as_secs_f64()
    }

    /// Processor time in user and kernel mode.
    pub(crate) fn processor_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// Bytes that a process, by its number or `self`, has had read from disks and written to them; 0 where nobody counts.
pub(crate) fn disk_traffic(process: &str) -> Result<(u64, u64), BenchError> {
    let traffic = fs::read_to_string(format!("/proc/{process}/io"))?;
    let bytes = |name: &str| {
        let line = traffic.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    Ok((bytes("read_bytes:"), bytes("write_bytes:")))
}

/// Latencies in nanoseconds, exact to under one percent.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram);

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new(7, 40).expect("these powers are in its range"))
    }

    /// Adds `count` equal ones; what is over 18 minutes is not counted.
    pub(crate) fn add(&mut self, latency_ns: u64, count: u64) {
        let _ = self.0.add(latency_ns, count);
    }

    /// A percentile in microseconds; not a number if there are none.
    pub(crate) fn percentile_us(&self, percentile: f64) -> f64 {
        match self.0.percentile(percentile) {
            Ok(Some(bucket)) => bucket.end() as f64 / 1_000.0,
            _ => f64::NAN,
        }
    }
}
