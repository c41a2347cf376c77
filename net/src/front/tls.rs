//! How a connection with TLS begins: who speaks first, the first byte that tells whether a client wants TLS at all,
//! the handshake and its time, in which the client also has to say who it is. The session starts behind it. A client
//! whose handshake fails is told nothing: it could not read it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_io::AsyncWrite as _;
use glommio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};
use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use super::wire::{Tls, Wire};
use super::{Front, first_of};
use crate::address::Address;
use crate::core::Notice;
use crate::ids::ConnectionId;
use crate::tls::{ClientCertificates, HandshakeOrder, TlsClient, TlsServer, certificate_names};

/// Handshakes of one core at a time; whoever comes beyond is closed and may come again. Each holds some tens of KiB,
/// and a core does a thousand in well under their time.
const HANDSHAKES_COUNT_MAX: usize = 1_024;
/// What a TLS client says first: the type of a handshake record.
const HANDSHAKE_RECORD: u8 = 0x16;

impl<D: Disk, R: Runtime> Front<D, R> {
    /// Takes over a socket whose client may, or must, speak TLS.
    pub(super) fn welcome(
        self: &Rc<Self>,
        address: Address,
        socket: TcpStream,
        tls: Arc<TlsServer>,
    ) {
        if self.handshakes.get() >= HANDSHAKES_COUNT_MAX {
            return;
        }
        self.handshakes.set(self.handshakes.get() + 1);
        let front = self.clone();
        glommio::spawn_local(async move {
            front.clone().greet(address, socket, &tls).await;
            front.handshakes.set(front.handshakes.get() - 1);
        })
        .detach();
    }

    async fn greet(self: Rc<Self>, address: Address, socket: TcpStream, tls: &TlsServer) {
        let accepted = self.runtime.now();
        let is_client_first = match tls.order {
            HandshakeOrder::InfoFirst => false,
            HandshakeOrder::HandshakeFirst => true,
            HandshakeOrder::WaitMs(ms) => {
                let said = self.within(Duration::from_millis(ms), speaks_tls(&socket)).await;
                matches!(said, Some(Ok(true)))
            }
        };
        let open =
            |address: Address| self.with_core(|core, now| core.connection_opened(address, now));
        let greeted = (!is_client_first).then(|| open(address.clone()));
        let time = Duration::from_millis(tls.timeout_ms);
        // Boxed: the task of one that only waits is small.
        let secured = self.within(time, Box::pin(self.secure(greeted, socket, tls))).await;
        let reason = match secured {
            Some(Ok(wire)) => {
                let id = greeted.unwrap_or_else(|| open(address.clone()));
                self.enter(id, wire, accepted, tls);
                return;
            }
            Some(Err(error)) => error.to_string(),
            None => "timeout".to_owned(),
        };
        if let Some(id) = greeted {
            self.with_core(|core, now| core.connection_closed(id, now));
        }
        (self.on_notice)(Notice::HandshakeFailed { client_ip: address.host, reason });
    }

    /// Begins the session of a connection that was `accepted` then.
    fn enter(self: &Rc<Self>, id: ConnectionId, wire: Wire, accepted: Now, tls: &TlsServer) {
        let names = match (&wire, tls.client_certificates) {
            (Wire::Tls(tls), ClientCertificates::Mapped) => {
                Some(tls.peer_certificate().map(certificate_names).unwrap_or_default())
            }
            _ => None,
        };
        self.with_core(|core, _| core.connection_secured(id, names, accepted));
        let line = self.add_line(id, wire);
        glommio::spawn_local(self.clone().read_loop(line)).detach();
    }

    /// From the greeting of a connection, if it has one, to the end of the handshake.
    async fn secure(
        &self,
        greeted: Option<ConnectionId>,
        mut socket: TcpStream,
        tls: &TlsServer,
    ) -> io::Result<Wire> {
        if let Some(id) = greeted {
            self.write_greeting(id, &mut socket).await?;
        }
        // What TLS needs is made for those that begin.
        let is_tls = speaks_tls(&socket).await?;
        if tls.is_plain_allowed && !is_tls {
            return Ok(Wire::Plain(socket));
        }
        let session = ServerConnection::new(tls.config.clone()).map_err(io::Error::other)?;
        handshake(socket, session.into()).await
    }

    /// Writes what the core has to say to a connection before all else.
    async fn write_greeting(&self, id: ConnectionId, socket: &mut TcpStream) -> io::Result<()> {
        loop {
            let written = poll_fn(|context| {
                let core = self.core.borrow();
                match core.outbox(id).map(crate::outbox::Outbox::head) {
                    Some([]) | None => std::task::Poll::Ready(Ok(0)),
                    Some(head) => Pin::new(&mut *socket).poll_write(context, head),
                }
            });
            let count = written.await?;
            if count == 0 {
                break;
            }
            let now = self.runtime.now();
            self.core.borrow_mut().written(id, count, now);
        }
        if self.core.borrow().is_closing(id) { Err(io::Error::other("refused")) } else { Ok(()) }
    }

    /// What comes of `work`, or none if it takes longer.
    pub(super) async fn within<T>(
        &self,
        time: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut result = None;
        {
            let work = pin!(async { result = Some(work.await) });
            first_of(work, pin!(self.runtime.sleep(time))).await;
        }
        result
    }
}

/// Begins TLS on a connection to the server `host`, after its greeting.
pub(super) async fn join_tls(host: &str, socket: TcpStream, tls: &TlsClient) -> io::Result<Wire> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let session = ClientConnection::new(tls.config.clone(), name).map_err(io::Error::other)?;
    handshake(socket, session.into()).await
}

pub(super) fn handshake(
    socket: TcpStream,
    session: Connection,
) -> impl Future<Output = io::Result<Wire>> {
    let mut tls = Box::new(Tls::new(socket, session));
    async move {
        poll_fn(|context| tls.poll_handshake(context)).await?;
        Ok(Wire::Tls(tls))
    }
}

/// Whether the first byte of a client, which stays where it is, begins a handshake.
async fn speaks_tls(socket: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match socket.peek(&mut first).await {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(first == [HANDSHAKE_RECORD]),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}
