//! A simulator of the whole server: the production cores, sessions, links, subscriptions, shards and log, on a virtual
//! clock, a disk that crashes and a network that fails, under clients that speak the real protocol.
//!
//! ```text
//! workload: starts, kills, stops the server, does what faults.rs lists         one seed, one run
//! client -- network: bytes, delays, cuts --> server: cores, links, storage --> simulated disk
//!    |                                                                          of the engine
//!    +--> model: what may be expected, and the checks
//! ```
//! A run ends at the first promise that is broken. The same seed gives the same run: see [`Outcome::trace_hash`].

mod client;
mod faults;
mod limits;
mod model;
mod network;
mod rot;
mod script;
mod server;
mod shrink;
#[cfg(test)]
mod tests;
mod trouble;
mod workload;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use fastrand::Rng;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::sim::SimRuntime;
use weirlog_engine::types::Monotonic;

pub use faults::{FaultKind, FaultKinds, UnknownFault};
use limits::Limits;
use model::Model;
use network::Connection;
pub use script::{Deed, Done, History, Script, UnknownDeed};
use server::Server;
pub use shrink::{Shrunk, shrink};
pub use workload::{run, run_script};

/// How a run is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimPlan {
    /// All follows from it.
    pub seed: u64,
    /// Faults stop after so many operations of clients.
    pub steps: u64,
    /// The kinds of faults there are.
    pub faults: FaultKinds,
}

/// The command that makes this run.
impl fmt::Display for SimPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "weirlog sim --seed {} --steps {}", self.seed, self.steps)?;
        let left_out = self.faults.left_out();
        if left_out.is_empty() { Ok(()) } else { write!(formatter, " --without {left_out}") }
    }
}

/// What a run without violation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests, publishes and acks of clients.
    pub operations: u64,
    /// Power losses, kills and stops.
    pub crashes: u64,
    /// Messages whose publisher heard that they are stored.
    pub acked: u64,
    /// Messages that subscribers got.
    pub delivered: u64,
    /// Segments that came of rewriting others.
    pub clustered: u64,
    /// Segments that limits emptied and whose space was used again.
    pub emptied: u64,
    /// Places where bytes changed at rest.
    pub rotted: u64,
    /// A hash over all events, in order.
    pub trace_hash: u64,
    /// A hash over all that is on the disk in the end.
    pub disk_hash: u64,
}

impl Outcome {
    /// Counts another run too, but for its hashes.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.crashes += other.crashes;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.clustered += other.clustered;
        self.emptied += other.emptied;
        self.rotted += other.rotted;
    }
}

/// What it did, in words.
impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} operations, {} crashes, {} messages acked, {} segments clustered, {} emptied by limits, {} places rotten",
            self.operations, self.crashes, self.acked, self.clustered, self.emptied, self.rotted
        )
    }
}

/// A broken promise. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {}, {at_ms} ms: {what}", plan.seed)]
pub struct Violation {
    /// The run.
    pub plan: SimPlan,
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
    /// Faults have stopped, and clients begin nothing more: they ack, or do not, as before.
    is_quiet: Cell<bool>,
    /// A disk failed under the server that runs: whoever is refused does not know what was stored.
    is_disk_failing: Cell<bool>,
    /// The last server process under which a disk failed.
    failing_life: Cell<u64>,
    /// Until then the disk is full, or just was: who is refused knows that nothing was stored.
    is_full_until: Cell<Monotonic>,
    /// Until then something keeps all from being done in time: a slow disk or network.
    is_slow_until: Cell<Monotonic>,
    /// The longest delay that is added now to all that is sent.
    lag_us_max: Rc<Cell<u64>>,
    /// Most messages are no larger: in some runs segments fill and roll.
    padding_bytes_max: usize,
    /// Whether bytes have changed at rest.
    has_rotted: Cell<bool>,
    faults: FaultKinds,
    /// As they are while clients work.
    limits: Limits,
    /// What is done, of all that chance draws; none: all of it.
    script: Option<Script>,
    /// What was done so far.
    history: RefCell<History>,
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

    /// Whether a deed is not left out.
    fn may_do(&self, deed: &Deed) -> bool {
        self.script.as_ref().is_none_or(|script| script.has(deed))
    }

    fn count_operation(&self) {
        self.operations.set(self.operations.get() + 1);
    }

    /// Whether a server process may refuse a request that was sent then, for the disk's sake; who reads late hears of it
    /// late.
    fn may_refuse(&self, life: u64, sent_at: Monotonic) -> bool {
        self.has_failed(life) || sent_at < self.is_full_until.get()
    }

    /// Whether the disk failed under this process: what it says may arrive when the next one is there.
    fn has_failed(&self, life: u64) -> bool {
        life <= self.failing_life.get()
    }

    /// When all was last as it should be, for what must be done in time.
    fn calm_since(&self) -> Monotonic {
        self.is_slow_until.get().max(self.is_full_until.get())
    }

    /// Something keeps all from being done in time, until so long from now.
    fn disturb(&self, ms: u64) {
        let now = self.runtime.now().mono;
        let until = self.is_slow_until.get().max(now.after_ms(ms));
        self.is_slow_until.set(until);
        self.model.borrow_mut().disturbed(now, until);
    }

    fn random_channel(&self, rng: &mut Rng) -> String {
        self.channels[rng.usize(..self.channels.len())].clone()
    }

    /// A connection to the server, with the number of its process; none: nobody listens.
    fn connect(&self, rng: &mut Rng) -> Option<(Rc<Connection>, u64)> {
        let server = self.server.borrow().clone().filter(|server| server.is_listening())?;
        self.hear_damage(&server);
        self.connections_count.set(self.connections_count.get() + 1);
        let connection =
            Connection::new(self.connections_count.get(), rng.fork(), self.lag_us_max.clone());
        let mut connections = self.connections.borrow_mut();
        connections.retain(|known| !known.is_cut());
        connections.push(connection.clone());
        server.accept(connection.clone());
        Some((connection, self.model.borrow().life()))
    }
}
