//! Monitoring over HTTP: what a server tells about itself, in the form that tools for NATS and NATS Streaming read, and
//! for Prometheus.
//!
//! ```text
//! socket -> front/monitor -> http: request -> pages -> one inquiry after the other -> (link) -> core/reporting
//! socket <- front/monitor <- http: response <- pages <- one report each            <- (link) <-
//! ```
//! A core is asked for little at a time: for totals, or for one shard's part of a page. So a scrape costs a core some
//! hundred microseconds between two other events, however many channels and connections there are.

pub(crate) mod cores;
pub(crate) mod http;
pub(crate) mod pages;
pub mod process;
pub mod report;
pub(crate) mod uptime;
