//! The sockets of all clients in one loop.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::client::Client;
use super::results::Results;
use super::{BenchError, nanoseconds};

const READ_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;

/// A client and its socket.
struct Wire {
    stream: TcpStream,
    client: Client,
    /// The beginning of an operation that is not whole yet.
    rest: Vec<u8>,
}

/// See the module's head.
pub(super) struct Sockets {
    poll: Poll,
    events: Events,
    wires: Vec<Wire>,
    buffer: Vec<u8>,
    started: Instant,
    address: SocketAddr,
}

impl Sockets {
    /// # Errors
    /// The server's name has no address.
    #[allow(clippy::disallowed_methods, reason = "latency is measured against the real clock")]
    pub(super) fn new(server: &str) -> Result<Self, BenchError> {
        let mut addresses = server.to_socket_addrs()?;
        let address = addresses.next().ok_or(BenchError::NoAddress)?;
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            wires: Vec::new(),
            buffer: vec![0; READ_BYTES],
            started: Instant::now(),
            address,
        })
    }

    /// Nanoseconds since the start.
    pub(super) fn now_ns(&self) -> u64 {
        nanoseconds(self.started.elapsed())
    }

    /// Connects another client.
    ///
    /// # Errors
    /// There is no connection.
    pub(super) fn connect(&mut self, client: Client) -> Result<(), BenchError> {
        let stream = std::net::TcpStream::connect(self.address)
            .map_err(|error| BenchError::Connect(self.address, error))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(self.wires.len()), interest)?;
        self.wires.push(Wire { stream, client, rest: Vec::new() });
        Ok(())
    }

    /// All clients.
    pub(super) fn clients(&self) -> impl Iterator<Item = &Client> {
        self.wires.iter().map(|wire| &wire.client)
    }

    /// Lets each client do something, and sends what comes of it.
    ///
    /// # Errors
    /// A connection is lost.
    pub(super) fn each(&mut self, mut work: impl FnMut(&mut Client)) -> Result<(), BenchError> {
        for wire in &mut self.wires {
            work(&mut wire.client);
            wire.flush()?;
        }
        Ok(())
    }

    /// Waits for sockets, at most for `wait`, and lets their clients take what has come; `work` is done with each of
    /// them before its bytes are sent.
    ///
    /// # Errors
    /// A connection is lost, or a client refused.
    pub(super) fn turn(
        &mut self,
        wait: Duration,
        results: &mut Results,
        mut work: impl FnMut(&mut Client, u64),
    ) -> Result<(), BenchError> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let started = self.started;
        let now_ns = || nanoseconds(started.elapsed());
        for event in &self.events {
            let wire = &mut self.wires[event.token().0];
            if event.is_readable() {
                wire.read(&mut self.buffer, now_ns, results)?;
            }
            work(&mut wire.client, now_ns());
            wire.flush()?;
        }
        Ok(())
    }
}

impl Wire {
    /// Takes all that has come: the system tells of it once.
    fn read(
        &mut self,
        buffer: &mut [u8],
        now_ns: impl Fn() -> u64,
        results: &mut Results,
    ) -> Result<(), BenchError> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(BenchError::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let bytes = &buffer[..count];
            if self.rest.is_empty() {
                let taken = self.client.on_bytes(bytes, now_ns(), results)?;
                self.rest.extend_from_slice(&bytes[taken..]);
            } else {
                self.rest.extend_from_slice(bytes);
                let taken = self.client.on_bytes(&self.rest, now_ns(), results)?;
                self.rest.drain(..taken);
            }
        }
    }

    /// Sends what the socket takes; it tells when it takes more.
    fn flush(&mut self) -> Result<(), BenchError> {
        while !self.client.unsent().is_empty() {
            match self.stream.write(self.client.unsent()) {
                Ok(count) => self.client.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
