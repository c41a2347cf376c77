//! The other end of a connection.

use std::net::SocketAddr;

/// A host and a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// An IP address, or the name that was connected to; empty: not known.
    pub host: String,
    /// The port; 0: not known.
    pub port: u16,
}

impl Address {
    /// What transcripts and simulations call a client.
    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        Self { host: "10.0.0.1".to_owned(), port: 5000 }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}
