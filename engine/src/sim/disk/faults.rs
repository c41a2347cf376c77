//! The knobs of a simulated disk: how often it fails, how much it holds, how long it takes.

use std::time::Duration;

/// How often something happens, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chance(pub u32);

impl Chance {
    /// Not once.
    pub const NEVER: Self = Self(0);
    /// Each time.
    pub const ALWAYS: Self = Self(1_000_000);

    pub(super) fn strikes(self, random: &mut fastrand::Rng) -> bool {
        // Without a draw at the ends, so that switching a fault off changes nothing else in a run.
        self == Self::ALWAYS || (self != Self::NEVER && random.u32(0..1_000_000) < self.0)
    }
}

/// What goes wrong on a simulated disk. By default nothing does, and each operation takes a small random time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// A write fails with EIO; some of its sectors may have been written.
    pub write_error: Chance,
    /// A write stops at a sector before its end.
    pub short_write: Chance,
    /// A read fails with EIO.
    pub read_error: Chance,
    /// A sync fails with EIO, and what it should have covered is lost at the next crash though later syncs succeed.
    pub sync_error: Chance,
    /// The faults above strike only paths that contain this; empty: all.
    pub only_paths_with: String,
    /// Space on the disk; `None`: no end.
    pub space_bytes_max: Option<u64>,
    /// The longest time of an operation but a write.
    pub operation_time_max: Duration,
    /// The longest time until a write begins, and again until it is flushed.
    pub write_time_max: Duration,
    /// An operation takes a hundred times as long.
    pub slow: Chance,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            write_error: Chance::NEVER,
            short_write: Chance::NEVER,
            read_error: Chance::NEVER,
            sync_error: Chance::NEVER,
            only_paths_with: String::new(),
            space_bytes_max: None,
            // As measured on a virtual disk: 0.1 ms for a read or a name, 0.2 ms for a durable write.
            operation_time_max: Duration::from_micros(200),
            write_time_max: Duration::from_micros(200),
            slow: Chance(5_000),
        }
    }
}

impl Faults {
    pub(super) fn concern(&self, path: &str) -> bool {
        path.contains(&self.only_paths_with)
    }
}
