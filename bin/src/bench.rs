//! `weirlog bench`: a load of STAN clients against a running server, this one or another, and what it took.
//!
//! ```text
//! connect all -> subscribe -> publish | watch -> all acked and delivered -> tell -> close
//! ```
//! Without publishers the time runs from the subscribing on: then history is read.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use weirlog_net::monitor::process::Usage;

use crate::args::BenchOptions;
use crate::descriptors;

mod client;
mod plan;
mod results;
mod sockets;

use client::Client;
use plan::Plan;
use results::{Results, to_text};
use sockets::Sockets;

/// A turn of the loop waits this long for sockets.
const TURN: Duration = Duration::from_millis(100);
/// With a rate a turn sleeps this long: what became due meanwhile goes out together, and its latency counts from when it
/// was due. A loop that never sleeps would take the processor that the server's disk writes complete on: on two
/// processors commits then took 2 to 4 ms instead of 0.2.
const PACED_TURN: Duration = Duration::from_micros(100);
/// Servers need not answer a close.
const CLOSE_NS_MAX: u64 = 5_000_000_000;
/// Clients that connect before the earlier ones are looked after.
const CONNECT_AT_ONCE: u64 = 64;

/// Why a load ended early. `Display` is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// Of a socket or a file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Of the system.
    #[error("{0}")]
    System(#[from] nix::errno::Errno),
    /// Nobody listens there, most likely.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// The host's name leads nowhere.
    #[error("the server's name has no address")]
    NoAddress,
    /// Not the protocol.
    #[error("the server does not speak the NATS protocol")]
    NotNats,
    /// Not the streaming protocol.
    #[error("the server does not speak the protocol of NATS Streaming")]
    NotStan,
    /// The server hung up.
    #[error("the server closed a connection")]
    Closed,
    /// The server's own words.
    #[error("the server refuses {what}: {text}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its words.
        text: String,
    },
    /// No process of this number.
    #[error("process {0}: {1}")]
    Process(i32, String),
    /// Not all came in time.
    #[error("not done in time: {0}")]
    Timeout(String),
}

impl BenchError {
    fn refused(what: &'static str, text: &[u8]) -> Self {
        Self::Refused { what, text: String::from_utf8_lossy(text).into_owned() }
    }
}

/// Runs a load and prints its figures.
///
/// # Errors
/// It could not be run to its end.
pub(crate) fn bench(options: BenchOptions) -> Result<(), BenchError> {
    let plan = Rc::new(Plan::new(options));
    let options = &plan.options;
    descriptors::allow_most()?;
    let mut load = Load::connect(plan.clone())?;
    let before = usage(options)?;
    load.run()?;
    let after = usage(options)?;
    let all = load.results.to_json(&plan, before.zip(after));
    let text = if options.is_json { format!("{all}\n") } else { to_text(&all) };
    io::stdout().write_all(text.as_bytes())?;
    if let Some(path) = &options.append {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{all}")?;
    }
    load.close()
}

/// What the server's process has used so far, if it is known.
fn usage(options: &BenchOptions) -> Result<Option<Usage>, BenchError> {
    let Some(process) = options.process else { return Ok(None) };
    let usage = Usage::of(process);
    usage.map(Some).map_err(|error| BenchError::Process(process, error.to_string()))
}

/// As many nanoseconds as fit.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A load on its way.
struct Load {
    plan: Rc<Plan>,
    sockets: Sockets,
    results: Results,
    deadline_ns: u64,
}

impl Load {
    /// With all clients registered.
    fn connect(plan: Rc<Plan>) -> Result<Self, BenchError> {
        let options = &plan.options;
        let sockets = Sockets::new(&options.server)?;
        let deadline_ns = nanoseconds(options.timeout);
        let mut load =
            Self { plan: plan.clone(), sockets, results: Results::default(), deadline_ns };
        let process = std::process::id();
        let (publishers, subscribers) = (options.publishers, options.subscribers);
        for number in 0..publishers + subscribers + options.idle {
            let wanted = number.checked_sub(publishers).filter(|number| *number < subscribers);
            let wanted = wanted.map(|number| plan.wanted_by(number)).unwrap_or_default();
            let publisher = (number < publishers).then_some(number);
            // A durable subscription is its client's: that of the next run is to be the same.
            let run = if options.is_durable { 0 } else { process };
            let id = format!("bench-{run}-{number}");
            load.sockets.connect(Client::new(plan.clone(), id, publisher, wanted))?;
            if (number + 1) % CONNECT_AT_ONCE == 0 {
                load.until_registered()?;
            }
        }
        load.until_registered()?;
        Ok(load)
    }

    fn until_registered(&mut self) -> Result<(), BenchError> {
        self.until("clients registered", |load| load.sockets.clients().all(Client::is_registered))
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let plan = self.plan.clone();
        let options = &plan.options;
        let mut start_ns = self.sockets.now_ns();
        let wanted = (0..options.subscribers).flat_map(|number| plan.wanted_by(number));
        let deliveries: u64 = wanted.map(|wanted| wanted.count).sum();
        self.sockets.each(Client::subscribe)?;
        self.until("subscribed", |load| load.sockets.clients().all(Client::is_subscribed))?;
        let acks = if options.publishers > 0 { options.messages } else { 0 };
        if acks > 0 {
            start_ns = self.sockets.now_ns();
            self.sockets.each(|client| client.begin(start_ns))?;
            self.sockets.each(|client| client.publish(start_ns))?;
        }
        while self.results.acks.count < acks || self.results.deliveries.count < deliveries {
            self.check_time("all published and delivered")?;
            self.turn()?;
        }
        self.results.seconds = self.seconds_since(start_ns);
        if acks + deliveries == 0 {
            let end_ns = start_ns.saturating_add(nanoseconds(options.hold));
            while self.sockets.now_ns() < end_ns {
                self.turn()?;
            }
            self.results.seconds = self.seconds_since(start_ns);
        }
        Ok(())
    }

    fn seconds_since(&self, start_ns: u64) -> f64 {
        Duration::from_nanos(self.sockets.now_ns() - start_ns).as_secs_f64()
    }

    /// A turn of the loop.
    fn turn(&mut self) -> Result<(), BenchError> {
        if self.plan.options.rate().is_none() {
            return self.sockets.turn(TURN, &mut self.results, Client::publish);
        }
        std::thread::sleep(PACED_TURN);
        self.sockets.turn(Duration::ZERO, &mut self.results, Client::publish)?;
        let now_ns = self.sockets.now_ns();
        self.sockets.each(|client| client.publish(now_ns))
    }

    fn until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) -> Result<(), BenchError> {
        while !is_done(self) {
            self.check_time(what)?;
            self.sockets.turn(TURN, &mut self.results, |_, _| {})?;
        }
        Ok(())
    }

    fn check_time(&self, what: &str) -> Result<(), BenchError> {
        if self.sockets.now_ns() < self.deadline_ns {
            return Ok(());
        }
        let (acks, deliveries) = (self.results.acks.count, self.results.deliveries.count);
        Err(BenchError::Timeout(format!("{what} ({acks} acks, {deliveries} deliveries so far)")))
    }

    /// Durable subscriptions stay, and so do their clients' names.
    fn close(&mut self) -> Result<(), BenchError> {
        self.sockets.each(Client::close)?;
        let end_ns = self.sockets.now_ns() + CLOSE_NS_MAX;
        while self.sockets.now_ns() < end_ns && !self.sockets.clients().all(Client::is_closed) {
            self.sockets.turn(TURN, &mut self.results, |_, _| {})?;
        }
        Ok(())
    }
}
