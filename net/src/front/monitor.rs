//! The sockets of monitoring: a listener of its own, some connections at a time, one request after the other on each.
//! Asking cores waits for their answers; nothing here is urgent.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use jiff::Timestamp;
use rustls::ServerConnection;
use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::{Doorbell, Runtime};
use weirlog_engine::types::{FastMap, Now};

use super::tls::handshake;
use super::wire::Wire;
use super::{Front, yield_now};
use crate::config::NetConfig;
use crate::ids::CoreId;
use crate::monitor::cores::Cores;
use crate::monitor::http::{HEAD_SIZE_BYTES_MAX, ParsedHead, Request, Response, Status};
use crate::monitor::pages::Pages;
pub use crate::monitor::pages::Site;
use crate::monitor::process::{LastSample, ProcessReport};
use crate::monitor::report::{Inquiry, Report, ReportTicket};
use crate::tls::TlsServer;

/// Connections at a time; whoever comes beyond is closed. Each costs a core's time.
const CONNECTIONS_COUNT_MAX: usize = 64;
/// From one response to the end of the next request's head.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// After a failed accept (no descriptors left) the listener waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Answers of cores that have come, and who waits for others.
#[derive(Default)]
pub(super) struct Reports {
    arrived: RefCell<FastMap<ReportTicket, Report>>,
    waiting: RefCell<FastMap<ReportTicket, Doorbell>>,
}

/// A front that serves monitoring.
struct Monitor<D: Disk, R: Runtime> {
    front: Rc<Front<D, R>>,
    pages: Pages,
    connections: Cell<usize>,
    sample: Cell<LastSample>,
}

/// What is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorPort {
    /// The address, which is free.
    pub address: SocketAddr,
    /// Whether TLS is spoken, with the certificate that clients of the server see. None of their own is asked for.
    pub is_tls: bool,
}

impl Reports {
    /// A core has answered.
    pub(super) fn arrive(&self, ticket: ReportTicket, report: Report) {
        self.arrived.borrow_mut().insert(ticket, report);
        if let Some(bell) = self.waiting.borrow_mut().remove(&ticket) {
            bell.ring();
        }
    }

    async fn wait(&self, ticket: ReportTicket) -> Report {
        loop {
            if let Some(report) = self.arrived.borrow_mut().remove(&ticket) {
                return report;
            }
            let bell = Doorbell::default();
            self.waiting.borrow_mut().insert(ticket, bell.clone());
            bell.wait().await;
        }
    }
}

impl<D: Disk, R: Runtime> Front<D, R> {
    /// Serves the pages of `site` on some ports, as long as the server runs.
    ///
    /// # Errors
    /// A port cannot be listened on.
    pub fn monitor(self: &Rc<Self>, site: Site, ports: &[MonitorPort]) -> io::Result<()> {
        let monitor = Rc::new(Monitor {
            front: self.clone(),
            pages: Pages::new(site),
            connections: Cell::new(0),
            sample: Cell::default(),
        });
        for port in ports {
            let listener = TcpListener::bind(port.address)
                .map_err(|error| io::Error::other(format!("{}: {error}", port.address)))?;
            glommio::spawn_local(monitor.clone().accept(listener, port.is_tls)).detach();
        }
        Ok(())
    }
}

impl<D: Disk, R: Runtime> Monitor<D, R> {
    async fn accept(self: Rc<Self>, listener: TcpListener, is_tls: bool) {
        loop {
            let Ok(socket) = listener.accept().await else {
                self.front.runtime.sleep(ACCEPT_PAUSE).await;
                continue;
            };
            if self.connections.get() >= CONNECTIONS_COUNT_MAX {
                continue;
            }
            let _ = socket.set_nodelay(true);
            let _ = socket2::SockRef::from(&socket).set_reuse_address(true);
            let tls = if is_tls { self.front.core.borrow().tls() } else { None };
            // Without a certificate, after a reload, there is nothing to say.
            if is_tls && tls.is_none() {
                continue;
            }
            self.connections.set(self.connections.get() + 1);
            let monitor = self.clone();
            glommio::spawn_local(async move {
                // A client that breaks off has what it wanted.
                let _ = monitor.serve(socket, tls).await;
                monitor.connections.set(monitor.connections.get() - 1);
            })
            .detach();
        }
    }

    async fn serve(&self, socket: TcpStream, tls: Option<Arc<TlsServer>>) -> io::Result<()> {
        let mut wire = match tls {
            None => Wire::Plain(socket),
            Some(tls) => {
                let session =
                    ServerConnection::new(tls.open_config.clone()).map_err(io::Error::other)?;
                let secured = handshake(socket, session.into());
                let limit = Duration::from_millis(tls.timeout_ms);
                self.front.within(limit, secured).await.ok_or(io::ErrorKind::TimedOut)??
            }
        };
        let mut input = Vec::new();
        loop {
            let head = self.front.within(REQUEST_TIMEOUT, read_head(&mut wire, &mut input)).await;
            let (response, is_head, is_kept) = match head.ok_or(io::ErrorKind::TimedOut)?? {
                None => break,
                Some(Ok(request)) => {
                    input.drain(..request.length);
                    let response = self.pages.answer(&request, self).await;
                    (response, request.is_head, request.is_kept)
                }
                Some(Err(refusal)) => (refusal, false, false),
            };
            let now = Timestamp::from_nanosecond(i128::from(self.now().wall.0)).unwrap_or_default();
            let bytes = response.to_bytes(is_head, is_kept, now);
            let written = self.front.within(RESPONSE_TIMEOUT, write_all(&mut wire, &bytes)).await;
            written.ok_or(io::ErrorKind::TimedOut)??;
            if !is_kept {
                break;
            }
        }
        wire.end(Shutdown::Write);
        Ok(())
    }
}

/// The next request, or what is answered to what is none; nothing: the client has gone between two requests.
async fn read_head(
    wire: &mut Wire,
    input: &mut Vec<u8>,
) -> io::Result<Option<Result<Request, Response>>> {
    loop {
        match Request::parse(input) {
            ParsedHead::Request(request) => return Ok(Some(Ok(request))),
            ParsedHead::Refused(response) => return Ok(Some(Err(response))),
            ParsedHead::Partial => {}
        }
        let mut room = [0; HEAD_SIZE_BYTES_MAX];
        let count = poll_fn(|context| wire.poll_read(context, &mut room)).await?;
        if count == 0 {
            let text = "the request ends early";
            let refusal = Response::text(Status::BadRequest, text);
            return Ok((!input.is_empty()).then_some(Err(refusal)));
        }
        input.extend_from_slice(room.get(..count).unwrap_or_default());
    }
}

async fn write_all(wire: &mut Wire, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|context| wire.poll_write(context, bytes)).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
    }
    poll_fn(|context| wire.poll_flush(context)).await
}

impl<D: Disk, R: Runtime> Cores for Monitor<D, R> {
    fn core_count(&self) -> u16 {
        u16::try_from(self.front.core.borrow().core_count()).expect("a core's number is a u16")
    }

    fn shard_count(&self) -> u16 {
        self.front.core.borrow().config().shard_count
    }

    fn config(&self) -> NetConfig {
        self.front.core.borrow().config().clone()
    }

    fn now(&self) -> Now {
        self.front.runtime.now()
    }

    fn process(&self) -> ProcessReport {
        let mut sample = self.sample.get();
        let report = ProcessReport::read(&mut sample, self.now().mono);
        self.sample.set(sample);
        report
    }

    async fn ask(&self, core: CoreId, inquiry: Inquiry) -> Report {
        // Clients have their turn between two questions.
        yield_now().await;
        let ticket = self.front.with_core(|own, now| own.inquire(core, inquiry, now));
        self.front.reports.wait(ticket).await
    }
}
