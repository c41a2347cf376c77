//! The edge of the connection to another NATS server: finds one that answers, carries bytes, and begins anew when the
//! connection is lost. What is said there is [`crate::upstream`]'s.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_io::AsyncRead as _;
use glommio::net::TcpStream;
use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;

use super::Front;
use super::tls::join_tls;
use super::wire::Wire;
use crate::address::Address;
use crate::tls::TlsClient;
use crate::upstream::{GREETING_SIZE_BYTES_MAX, Login, TlsOffer, UpstreamState};

/// A server has this long to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same, until clients are served.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at how far that is.
const JOIN_TICK: Duration = Duration::from_millis(2);
/// When no server answers, all are tried again after this.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A NATS server to be a client of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How to log in there.
    pub login: Login,
    /// Whether it is left again unless it speaks TLS. A server that demands TLS gets it in any case.
    pub is_tls: bool,
}

/// The servers to choose from, and how TLS is spoken there.
#[derive(Debug, Clone)]
pub struct Upstreams {
    /// At least one.
    pub servers: Vec<UpstreamAddress>,
    /// None: there is nothing to check a server's certificate against.
    pub tls: Option<TlsClient>,
}

impl<D: Disk, R: Runtime> Front<D, R> {
    /// Connects to one of the servers, in turn, and returns when clients are served there; then keeps connected.
    ///
    /// # Errors
    /// Why none of them can be joined, one line.
    pub async fn join_upstream(self: &Rc<Self>, upstreams: Upstreams) -> Result<(), String> {
        let Upstreams { servers, tls } = upstreams;
        let tls = tls.as_ref();
        assert!(!servers.is_empty(), "there is one to join");
        let mut reason = String::new();
        for (turn, server) in servers.iter().enumerate() {
            match self.join(server, tls).await {
                Ok(connection) => {
                    let (front, tls) = (self.clone(), tls.cloned());
                    glommio::spawn_local(async move {
                        connection.await;
                        front.keep_joined(Upstreams { servers, tls }, turn).await;
                    })
                    .detach();
                    return Ok(());
                }
                Err(error) => reason = error,
            }
            if let UpstreamState::Failed(failure) = self.core.borrow().upstream_state() {
                return Err(failure);
            }
        }
        Err(reason)
    }

    async fn keep_joined(self: Rc<Self>, upstreams: Upstreams, mut turn: usize) {
        let Upstreams { servers, tls } = upstreams;
        while !self.is_stopping.get() {
            for _ in 0..servers.len() {
                if let Ok(connection) =
                    self.join(&servers[turn % servers.len()], tls.as_ref()).await
                {
                    connection.await;
                }
                turn += 1;
            }
            self.runtime.sleep(RETRY_PAUSE).await;
        }
    }

    /// Connects to one server; when it serves our clients, returns what ends with the connection.
    async fn join(
        self: &Rc<Self>,
        server: &UpstreamAddress,
        tls: Option<&TlsClient>,
    ) -> Result<glommio::Task<()>, String> {
        let name = format!("{}:{}", server.host, server.port);
        let failed = |reason: String| format!("cannot join the NATS server {name}: {reason}");
        let address = resolve(server.host.clone(), server.port).await.map_err(failed)?;
        let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)
            .await
            .map_err(|error| failed(error.to_string()))?;
        // As for clients: small answers must not wait.
        let _ = stream.set_nodelay(true);
        let (greeting, wire) = self.greeted(server, stream, tls).await.map_err(failed)?;
        let login = server.login.clone();
        let there = Address { host: server.host.clone(), port: server.port };
        let id = self.with_core(|core, now| core.upstream_opened(there, login, now));
        let line = self.add_line(id, wire);
        self.with_core(|core, now| core.on_bytes(id, &greeting, now));
        let reading = glommio::spawn_local(self.clone().read_loop(line.clone()));
        let mut waited = Duration::ZERO;
        while self.core.borrow().upstream_state() != UpstreamState::Serving {
            if line.is_finished.get() || self.core.borrow().outbox(id).is_none() {
                reading.await;
                let core = self.core.borrow();
                let said = core.upstream_error().map(str::to_owned);
                return Err(failed(said.unwrap_or_else(|| "it closed the connection".to_owned())));
            }
            if waited >= JOIN_TIMEOUT {
                self.with_core(|core, _| core.leave(id));
                reading.await;
                return Err(failed("no answer".to_owned()));
            }
            self.runtime.sleep(JOIN_TICK).await;
            waited += JOIN_TICK;
        }
        Ok(reading)
    }

    /// Waits for a server's INFO, and begins TLS if either side wants it.
    async fn greeted(
        &self,
        server: &UpstreamAddress,
        mut socket: TcpStream,
        tls: Option<&TlsClient>,
    ) -> Result<(Vec<u8>, Wire), String> {
        let begin = async {
            let greeting = read_greeting(&mut socket).await.map_err(|error| error.to_string())?;
            let offer = TlsOffer::of(&greeting);
            if offer != TlsOffer::Required && !server.is_tls {
                return Ok((greeting, Wire::Plain(socket)));
            }
            if offer == TlsOffer::None {
                return Err("it does not speak TLS".to_owned());
            }
            let tls = tls.ok_or("it demands TLS, and there are no certificates to check it by")?;
            let wire = join_tls(&server.host, socket, tls).await;
            Ok((greeting, wire.map_err(|error| format!("TLS: {error}"))?))
        };
        self.within(CONNECT_TIMEOUT, begin).await.unwrap_or_else(|| Err("no answer".to_owned()))
    }
}

/// Reads a server's INFO, and no byte more: what follows may be TLS.
async fn read_greeting(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut line = vec![0; GREETING_SIZE_BYTES_MAX];
    loop {
        let there =
            socket.peek(&mut line).await.map_err(|error| io::Error::other(error.to_string()))?;
        if let Some(end) = line[..there].iter().position(|byte| *byte == b'\n') {
            line.truncate(end + 1);
            break;
        }
        if there == 0 || there == line.len() {
            return Err(io::Error::other("it is no NATS server"));
        }
        glommio::timer::sleep(JOIN_TICK).await;
    }
    let mut filled = 0;
    while filled < line.len() {
        let room = &mut line[filled..];
        let read = std::future::poll_fn(|context| Pin::new(&mut *socket).poll_read(context, room));
        match read.await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(line)
}

/// The first address of a name. Name servers may take their time: not on the executor.
async fn resolve(host: String, port: u16) -> Result<SocketAddr, String> {
    let addresses = move || (host.as_str(), port).to_socket_addrs();
    let found = glommio::executor().spawn_blocking(addresses).await;
    found
        .map_err(|error| error.to_string())?
        .next()
        .ok_or_else(|| "the name has no address".to_owned())
}
