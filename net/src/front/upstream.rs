//! The edge of the connection to another NATS server: finds one that answers, carries bytes, and begins anew when the
//! connection is lost. What is said there is [`crate::upstream`]'s.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::Duration;

use glommio::net::TcpStream;
use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;

use super::Front;
use crate::upstream::{Login, UpstreamState};

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
}

impl<D: Disk, R: Runtime> Front<D, R> {
    /// Connects to one of the servers, in turn, and returns when clients are served there; then keeps connected.
    ///
    /// # Errors
    /// Why none of them can be joined, one line.
    pub async fn join_upstream(
        self: &Rc<Self>,
        servers: Vec<UpstreamAddress>,
    ) -> Result<(), String> {
        assert!(!servers.is_empty(), "there is one to join");
        let mut reason = String::new();
        for (turn, server) in servers.iter().enumerate() {
            match self.join(server).await {
                Ok(connection) => {
                    let front = self.clone();
                    glommio::spawn_local(async move {
                        connection.await;
                        front.keep_joined(servers, turn).await;
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

    async fn keep_joined(self: Rc<Self>, servers: Vec<UpstreamAddress>, mut turn: usize) {
        while !self.is_stopping.get() {
            for _ in 0..servers.len() {
                if let Ok(connection) = self.join(&servers[turn % servers.len()]).await {
                    connection.await;
                }
                turn += 1;
            }
            self.runtime.sleep(RETRY_PAUSE).await;
        }
    }

    /// Connects to one server; when it serves our clients, returns what ends with the connection.
    async fn join(self: &Rc<Self>, server: &UpstreamAddress) -> Result<glommio::Task<()>, String> {
        let name = format!("{}:{}", server.host, server.port);
        let failed = |reason: String| format!("cannot join the NATS server {name}: {reason}");
        let address = resolve(server.host.clone(), server.port).await.map_err(failed)?;
        let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)
            .await
            .map_err(|error| failed(error.to_string()))?;
        // As for clients: small answers must not wait.
        let _ = stream.set_nodelay(true);
        let login = server.login.clone();
        let id = self.with_core(|core, now| core.upstream_opened(name.clone(), login, now));
        let line = self.add_line(id, stream);
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
