//! What server and client say about themselves: INFO and CONNECT, both JSON.

use serde::{Deserialize, Serialize};

use crate::config::NetConfig;
use crate::ids::ConnectionId;
use crate::session::Session;

/// Clients gate features on this: all that a server of this version serves without JetStream is served here.
const PROTOCOL_VERSION: &str = "2.10.0";
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
}

/// When an INFO is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InfoKind {
    /// The greeting.
    First,
    /// After the first PING of a client that understands it.
    Connected,
}

/// The JSON of an INFO for a connection.
#[must_use]
pub fn info_json(config: &NetConfig, session: &Session, kind: InfoKind) -> Vec<u8> {
    let is_connected = kind == InfoKind::Connected;
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
        headers: true,
        max_payload: config.payload_size_bytes_max,
        client_id: session.number,
        client_ip: &session.client_ip,
        auth_required: is_auth_required.then_some(true),
        nonce: session.nonce.as_deref(),
        tls_required: tls.and_then(|tls| (!tls.is_plain_allowed).then_some(true)),
        tls_available: tls.and_then(|tls| tls.is_plain_allowed.then_some(true)),
        tls_verify: tls.and_then(|tls| tls.wants_certificates().then_some(true)),
        connect_info: is_connected.then_some(true),
        remote_account: is_connected.then_some("$G"),
    };
    serde_json::to_vec(&info).expect("strings and numbers are JSON")
}

/// The number shown to a client for its connection: unique among all cores, from 1.
#[must_use]
pub fn client_number(connection: ConnectionId, core: u16) -> u64 {
    let slot_of_all = (u64::from(connection.slot) << 16) | u64::from(core);
    (u64::from(connection.generation) << 48 | slot_of_all) + 1
}

/// What a client says in CONNECT; a key that is missing means what the reference takes it for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Connect {
    /// `+OK` for each operation.
    pub verbose: bool,
    /// Subjects of publishes are checked.
    pub pedantic: bool,
    /// A connection gets its own messages.
    pub echo: bool,
    /// HMSG is understood.
    pub headers: bool,
    /// 503 for a request that nobody receives.
    pub no_responders: bool,
    /// 0 or 1.
    pub protocol: i64,
    /// Shown in monitoring.
    pub name: Option<String>,
    /// An account: there are none to choose from.
    pub account: Option<String>,
    /// The same.
    pub new_account: Option<bool>,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            name: None,
            account: None,
            new_account: None,
        }
    }
}

/// Why a CONNECT closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Not JSON, or a field of another type.
    #[error("malformed CONNECT")]
    Malformed,
    /// Neither 0 nor 1.
    #[error("invalid client protocol")]
    Protocol,
    /// `no_responders` without `headers`.
    #[error("no responders requires headers support")]
    NoHeaders,
    /// An account was asked for.
    #[error("Authorization Violation")]
    Account,
}

impl ConnectError {
    /// The text of the `-ERR`; none: close without a word.
    #[must_use]
    pub fn error_text(self) -> Option<&'static str> {
        match self {
            Self::Malformed => None,
            Self::Protocol => Some("invalid client protocol"),
            Self::NoHeaders => Some("no responders requires headers support"),
            Self::Account => Some("Authorization Violation"),
        }
    }
}

impl Connect {
    /// Reads the JSON of a CONNECT.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn parse(json: &[u8]) -> Result<Self, ConnectError> {
        let connect: Self = serde_json::from_slice(json).map_err(|_| ConnectError::Malformed)?;
        if !matches!(connect.protocol, 0 | 1) {
            return Err(ConnectError::Protocol);
        }
        if connect.account.as_ref().is_some_and(|account| !account.is_empty())
            || connect.new_account == Some(true)
        {
            return Err(ConnectError::Account);
        }
        if connect.no_responders && !connect.headers {
            return Err(ConnectError::NoHeaders);
        }
        Ok(connect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_mean_what_the_reference_takes_them_for() {
        let connect = Connect::parse(b"{\"lang\":\"go\",\"x\":{}}").unwrap();
        assert_eq!(connect, Connect::default());
        assert!(connect.verbose);
        assert!(connect.pedantic);
    }

    #[test]
    fn a_wrong_connect_closes_with_its_text() {
        let text = |json: &str| Connect::parse(json.as_bytes()).unwrap_err().error_text();
        assert_eq!(text("{"), None);
        assert_eq!(text("{\"verbose\":3}"), None);
        assert_eq!(text("{\"protocol\":2}"), Some("invalid client protocol"));
        assert_eq!(
            text("{\"no_responders\":true}"),
            Some("no responders requires headers support")
        );
        assert_eq!(text("{\"account\":\"A\"}"), Some("Authorization Violation"));
    }

    #[test]
    fn an_info_is_one_object_with_the_fields_clients_read() {
        let config = NetConfig { server_name: "n\"1".to_owned(), ..NetConfig::default() };
        let id = ConnectionId { slot: 0, generation: 0 };
        let now = weirlog_engine::types::Monotonic::default();
        let session = Session::new(id, 7, "127.0.0.1".to_owned(), now);
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
