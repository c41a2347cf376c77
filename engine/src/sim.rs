//! The simulator's edges: an executor with a virtual clock, and a disk that crashes.
//!
//! The production log runs on them unchanged. One seed is one run: tasks, delays, faults and the fate of each write
//! at a crash are drawn from seeded generators, and a running hash over all events tells whether two runs were the
//! same. Nothing here reads a clock, a file or the environment.

pub mod disk;
pub mod executor;

pub use disk::{Chance, Faults, SimDisk, SimFile};
pub use executor::{SimExecutor, SimRuntime};
