//! The storage engine of Weirlog: channels, clients and subscriptions over one segmented log a shard.
//!
//! It knows neither protocol nor clock: requests are plain values, time is an argument, and a request is answered
//! only when what it changed is on disk. See ARCHITECTURE.md for the way of a message.

mod channel;
mod checkpoint;
mod clock;
mod clustering;
pub mod disk;
pub mod error;
mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
mod index;
pub mod limits;
mod log;
pub mod placement;
mod ranges;
pub mod record;
mod recovery;
pub mod repair;
pub mod request;
pub mod runtime;
pub mod shard;
pub mod sim;
pub mod storage;
pub mod subscriptions;
mod superblock;
pub mod types;
pub mod verify;
