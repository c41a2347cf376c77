//! The addresses to listen on: nobody else does, nor another server that is just starting.
//!
//! glommio's listeners share their port with others of the same user, without a word to either. So it is found out here:
//! by knocking who listens already, and by a claim who is about to. (Binding once without sharing would not do: a port
//! whose last connections are still in `TIME_WAIT` could not be had.)

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{self, UnixListener};
use std::time::Duration;

use super::error::ServeError;
use crate::args::ListenAddress;

/// Whether somebody listens shows within this.
const KNOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// A server that has ended a moment ago may still be heard: for a second.
const TRIES_COUNT_MAX: u32 = 100;
/// Between two tries.
const TRY_INTERVAL: Duration = Duration::from_millis(10);

/// Addresses that this process is about to listen on, and that it has claimed until it does.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Each has a name that only one process at a time can have, on this machine or in this network namespace.
    claims: Vec<UnixListener>,
}

impl Addresses {
    /// Claims the address that is asked for, if it is free. Port `None` becomes a free one.
    pub(super) fn claim(&mut self, listen: &ListenAddress) -> Result<SocketAddr, ServeError> {
        let failed = |reason: io::Error| ServeError::Listen {
            host: listen.host.clone(),
            port: listen.port.unwrap_or(0),
            reason: reason.to_string(),
        };
        let mut addresses =
            (listen.host.as_str(), listen.port.unwrap_or(0)).to_socket_addrs().map_err(failed)?;
        let wanted =
            addresses.next().ok_or_else(|| failed(io::Error::other("the name has no address")))?;
        for _ in 0..TRIES_COUNT_MAX {
            let address = match wanted.port() {
                0 => any_port(wanted).map_err(failed)?,
                _ => wanted,
            };
            if let Some(claim) = try_claim(address).filter(|_| !is_served(address)) {
                self.claims.push(claim);
                return Ok(address);
            }
            std::thread::sleep(TRY_INTERVAL);
        }
        Err(failed(ErrorKind::AddrInUse.into()))
    }

    /// It listens: who knocks from now on hears it.
    pub(super) fn release(&mut self) {
        self.claims.clear();
    }
}

/// Claims an address by an abstract socket of its name: in the machine's, or the container's, only one process has it,
/// until it ends.
fn try_claim(address: SocketAddr) -> Option<UnixListener> {
    let name = net::SocketAddr::from_abstract_name(format!("weirlog-starts-on-{address}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

/// A free port of an address.
fn any_port(address: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(address)?.local_addr()
}

/// Whether somebody listens there.
fn is_served(mut address: SocketAddr) -> bool {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    TcpStream::connect_timeout(&address, KNOCK_TIMEOUT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(port: Option<u16>) -> ListenAddress {
        ListenAddress { host: "127.0.0.1".to_owned(), port }
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let refused = Addresses::default().claim(&listen(Some(port)));
        assert!(matches!(refused, Err(ServeError::Listen { .. })));
        assert_ne!(Addresses::default().claim(&listen(None)).unwrap().port(), 0);
    }

    /// Nobody listens yet, and two are about to.
    #[test]
    fn a_port_that_somebody_is_about_to_use_is_refused() {
        let mut first = Addresses::default();
        let address = first.claim(&listen(None)).unwrap();
        let again = listen(Some(address.port()));
        let refused = Addresses::default().claim(&again);
        assert!(matches!(refused, Err(ServeError::Listen { .. })));
        assert!(first.claim(&again).is_err(), "nor twice by one process");
        first.release();
        assert_eq!(Addresses::default().claim(&again), Ok(address));
    }
}
