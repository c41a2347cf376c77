//! A simulator of the whole server: the production cores, sessions, links, subscriptions, shards and log, on a virtual
//! clock, a disk that crashes and a network that fails, under clients that speak the real protocol.
//!
//! ```text
//! workload: starts, kills, stops the server, cuts power and connections        one seed, one run
//! client -- network: bytes, delays, cuts --> server: cores, links, storage --> simulated disk
//!    |                                                                          of the engine
//!    +--> model: what may be expected, and the checks
//! ```
//! A run ends at the first promise that is broken. The same seed gives the same run: see [`Outcome::trace_hash`].

mod client;
mod model;
mod network;
mod server;
#[cfg(test)]
mod tests;
mod workload;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use fastrand::Rng;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::sim::SimRuntime;

use model::Model;
use network::Connection;
use server::Server;
pub use workload::run;

/// How a run is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimPlan {
    /// All follows from it.
    pub seed: u64,
    /// Faults stop after so many operations of clients.
    pub steps: u64,
}

/// What a run without violation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Requests, publishes and acks of clients.
    pub operations: u64,
    /// Power losses, kills and stops.
    pub crashes: u64,
    /// Messages whose publisher heard that they are stored.
    pub acked: u64,
    /// Messages that subscribers got.
    pub delivered: u64,
    /// A hash over all events, in order.
    pub trace_hash: u64,
    /// A hash over all that is on the disk in the end.
    pub disk_hash: u64,
}

/// A broken promise. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, {at_ms} ms: {what}")]
pub struct Violation {
    /// The run.
    pub seed: u64,
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// What, with channel, sequence and client where they are known.
    pub what: String,
}

/// Takes what a run has to tell, line by line.
pub type Log = Box<dyn Fn(&str)>;

/// What clients, network and workload share.
struct World {
    runtime: SimRuntime,
    model: RefCell<Model>,
    server: RefCell<Option<Rc<Server>>>,
    channels: Vec<String>,
    connections: RefCell<Vec<Rc<Connection>>>,
    connections_count: Cell<u64>,
    operations: Cell<u64>,
    /// Faults have stopped: clients publish no more, ack all and take up all durables.
    is_draining: Cell<bool>,
    /// A disk failed under the server that runs: whoever is refused does not know what was stored.
    is_disk_failing: Cell<bool>,
    log: Option<Log>,
}

impl World {
    fn violated(&self, what: String) {
        self.model.borrow_mut().violated(what);
    }

    fn log(&self, text: impl FnOnce() -> String) {
        if let Some(log) = &self.log {
            let us = self.runtime.now().mono.0 / 1_000;
            log(&format!("{:>7}.{:03} {}", us / 1_000, us % 1_000, text()));
        }
    }

    fn count_operation(&self) {
        self.operations.set(self.operations.get() + 1);
    }

    fn random_channel(&self, rng: &mut Rng) -> String {
        self.channels[rng.usize(..self.channels.len())].clone()
    }

    /// A connection to the server, with the number of its process; none: nobody listens.
    fn connect(&self, rng: &mut Rng) -> Option<(Rc<Connection>, u64)> {
        let server = self.server.borrow().clone().filter(|server| server.is_listening())?;
        self.connections_count.set(self.connections_count.get() + 1);
        let connection = Connection::new(self.connections_count.get(), rng.fork());
        let mut connections = self.connections.borrow_mut();
        connections.retain(|known| !known.is_cut());
        connections.push(connection.clone());
        server.accept(connection.clone());
        Some((connection, self.model.borrow().life()))
    }
}
