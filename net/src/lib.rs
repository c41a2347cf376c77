//! The network front of Weirlog: core NATS and NATS Streaming over the engine.
//!
//! ```text
//! socket -> front -> core: session -> stan -> link ==> shard      front and mesh alone know an executor
//! socket <- front <- core: outbox  <------- link <== deliveries, acks after their commit
//! ```
//! A [`core::Core`] is everything of one executor but sockets and channels: events go in with the time, what is to be
//! written or sent comes out. So a simulator can run the whole server.

pub mod address;
pub mod auth;
pub mod buffered;
mod closed_connections;
pub mod conf;
pub mod config;
pub mod connection_count;
pub mod core;
pub mod detail;
pub mod flow;
pub mod front;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod ids;
pub mod info;
pub mod interest;
pub mod lame_duck;
pub mod link;
pub mod mesh;
pub mod monitor;
pub mod nats;
pub mod outbox;
pub mod partition;
pub mod registry;
pub mod session;
pub mod sim;
pub mod stan;
pub mod subject;
pub mod timers;
pub mod tls;
pub mod upstream;
