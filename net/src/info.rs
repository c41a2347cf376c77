//! What server and client say about themselves: INFO here, CONNECT in `connect`, both JSON.

mod connect;

pub use connect::{Connect, ConnectError};

use serde::Serialize;

use crate::config::NetConfig;
use crate::ids::ConnectionId;
use crate::session::Session;

/// Clients gate features on this: all that a server of this version serves without JetStream is served here.
pub(crate) const PROTOCOL_VERSION: &str = "2.10.0";
/// The NATS protocol version: async INFO and echo are understood.
const PROTOCOL: u8 = 1;

/// INFO's fields.
#[derive(Debug, Serialize)]
struct Info<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u8,
    host: &'a str,
    port: u16,
    headers: bool,
    max_payload: usize,
    client_id: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    client_ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_required: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_required: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_available: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_verify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_info: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ldm: Option<bool>,
}

/// When an INFO is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InfoKind {
    /// The greeting.
    First,
    /// After the first PING of a client that understands it.
    Connected,
    /// The server is about to go.
    LameDuck,
}

/// The JSON of an INFO for a connection.
#[must_use]
pub fn info_json(config: &NetConfig, session: &Session, kind: InfoKind) -> Vec<u8> {
    let is_connected = kind != InfoKind::First;
    let authorization = config.authorization.as_ref();
    let is_auth_required = authorization.is_some_and(|auth| auth.no_auth_identity().is_none());
    let tls = config.tls.as_deref();
    let info = Info {
        server_id: &config.server_id,
        server_name: &config.server_name,
        version: PROTOCOL_VERSION,
        proto: PROTOCOL,
        host: &config.host,
        port: config.port,
        headers: config.has_headers,
        max_payload: config.payload_size_bytes_max,
        client_id: session.number,
        client_ip: &session.address.host,
        auth_required: is_auth_required.then_some(true),
        nonce: session.nonce.as_deref(),
        tls_required: tls.and_then(|tls| (!tls.is_plain_allowed).then_some(true)),
        tls_available: tls.and_then(|tls| tls.is_plain_allowed.then_some(true)),
        tls_verify: tls.and_then(|tls| tls.wants_certificates().then_some(true)),
        connect_info: is_connected.then_some(true),
        remote_account: is_connected.then_some("$G"),
        ldm: (kind == InfoKind::LameDuck).then_some(true),
    };
    serde_json::to_vec(&info).expect("strings and numbers are JSON")
}

/// The number shown to a client for its connection: unique among all cores, from 1.
#[must_use]
pub fn client_number(connection: ConnectionId, core: u16) -> u64 {
    let slot_of_all = (u64::from(connection.slot) << 16) | u64::from(core);
    (u64::from(connection.generation) << 48 | slot_of_all) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffered::Buffered;

    #[test]
    fn an_info_is_one_object_with_the_fields_clients_read() {
        let config = NetConfig { server_name: "n\"1".to_owned(), ..NetConfig::default() };
        let id = ConnectionId { slot: 0, generation: 0 };
        let now = weirlog_engine::types::Now::default();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 5000)).into();
        let session = Session::new(id, 7, address, now, &Buffered::default());
        let json = info_json(&config, &session, InfoKind::First);
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["server_name"], "n\"1");
        assert_eq!(value["client_id"], 7);
        assert_eq!(value["max_payload"], 1 << 20);
        assert!(value.get("connect_info").is_none());
        let json = info_json(&config, &session, InfoKind::Connected);
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["connect_info"], true);
        assert_eq!(value["remote_account"], "$G");
    }
}
