//! What the process takes of the machine, as the kernel tells.

use procfs::ProcResult;
use procfs::process::{LimitValue, Process};
use weirlog_engine::types::Monotonic;

/// Numbers of the process; 0 where the kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ProcessReport {
    /// Memory that is in use.
    pub(crate) resident_bytes: u64,
    /// Processor time since the start.
    pub(crate) cpu_seconds: f64,
    /// Processors in use since the last report, in percent of one.
    pub(crate) cpu_percent: f64,
    /// Open descriptors.
    pub(crate) open_files: usize,
    /// How many there may be.
    pub(crate) open_files_max: u64,
}

/// What a process has used of processor and memory.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time since its start.
    pub cpu_seconds: f64,
    /// Memory that is in use.
    pub resident_bytes: u64,
}

impl Usage {
    /// That of the process with this id.
    ///
    /// # Errors
    /// There is none, or the kernel tells nothing of it.
    pub fn of(process: i32) -> ProcResult<Self> {
        Self::read(&Process::new(process)?)
    }

    fn read(process: &Process) -> ProcResult<Self> {
        let stat = process.stat()?;
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
        })
    }
}

/// The last report's processor time and moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastSample {
    cpu_seconds: f64,
    at: Monotonic,
}

impl ProcessReport {
    /// Asks the kernel: a few reads of `/proc`.
    pub(crate) fn read(last: &mut LastSample, now: Monotonic) -> Self {
        let Ok(process) = Process::myself() else { return Self::default() };
        let mut report = Self {
            open_files: process.fd_count().unwrap_or(0),
            open_files_max: process.limits().map_or(0, |limits| {
                match limits.max_open_files.soft_limit {
                    LimitValue::Value(count) => count,
                    LimitValue::Unlimited => 0,
                }
            }),
            ..Self::default()
        };
        let usage = Usage::read(&process).unwrap_or_default();
        report.resident_bytes = usage.resident_bytes;
        report.cpu_seconds = usage.cpu_seconds;
        let seconds = now.since(last.at) as f64 / 1e9;
        if seconds > 0.0 {
            report.cpu_percent = (report.cpu_seconds - last.cpu_seconds).max(0.0) / seconds * 100.0;
        }
        *last = LastSample { cpu_seconds: report.cpu_seconds, at: now };
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_costs_of_a_process_are_known() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(Usage::of(own).unwrap().resident_bytes > 1 << 20);
        assert!(Usage::of(i32::MAX).is_err());
    }

    #[test]
    fn the_kernel_tells_about_this_process() {
        let mut last = LastSample::default();
        let report = ProcessReport::read(&mut last, Monotonic(1_000_000_000));
        assert!(report.resident_bytes > 1 << 20, "{report:?}");
        assert!(report.open_files > 2 && report.open_files_max > 2, "{report:?}");
        let again = ProcessReport::read(&mut last, Monotonic(2_000_000_000));
        assert!(again.cpu_seconds >= report.cpu_seconds);
        assert!(again.cpu_percent <= 100.0 * (again.cpu_seconds - report.cpu_seconds) + 0.1);
    }
}
