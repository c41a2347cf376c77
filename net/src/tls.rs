//! TLS: what the operator wrote about it, read and checked once, and the names in a client's certificate. The bytes
//! between a socket and a session are carried by `front/tls`.
//!
//! The values are built before the cores start and never change, so all of them share them.

mod client;
mod names;
mod pem;
#[cfg(test)]
pub(crate) mod tests;
mod verifier;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;

pub use client::{TlsClient, TlsClientSpec};
pub use names::certificate_names;
use verifier::ClientCertificateCheck;

use crate::auth;

/// How long a handshake may take, unless told otherwise: two seconds, as in the reference.
pub const TIMEOUT_MS_DEFAULT: u64 = 2_000;
/// How long `handshake_first: auto` waits for a client that speaks TLS at once, as in the reference.
pub const AUTO_WAIT_MS: u64 = 50;

/// Why TLS cannot be set up. One line, with the file that is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// A file is no PEM, or not whole.
    #[error("{}: not a PEM file: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file without what it is there for.
    #[error("{}: no {what} in it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate or key cannot be used, or not together.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file with the certificate.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("a certificate needs its key, and a key its certificate")]
    Half,
    /// A client without TLS would wait for an INFO that never comes.
    #[error("allow_non_tls has no meaning with handshake_first: true; use handshake_first: auto")]
    NeverPlain,
    /// Client certificates are to be checked, and nothing says against what.
    #[error("client certificates can be verified only with the certificates of a CA")]
    NoAuthority,
    /// The system's own root certificates are missing.
    #[error("the system has no root certificates: name a file with those of the CA")]
    NoRoots,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They need none.
    #[default]
    Ignored,
    /// One that was signed by the CA.
    Verified,
    /// The same, and it says which user the client is.
    Mapped,
}

/// Who speaks first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HandshakeOrder {
    /// INFO in plain, then the handshake.
    #[default]
    InfoFirst,
    /// The handshake; nothing is ever sent in plain.
    HandshakeFirst,
    /// The handshake if the client begins one within so many milliseconds, else INFO in plain.
    WaitMs(u64),
}

/// What the operator wrote about TLS for clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSpec {
    /// The server's certificate and those between it and its CA, as PEM.
    pub cert_file: PathBuf,
    /// Its key, as PEM.
    pub key_file: PathBuf,
    /// The certificates that clients' are checked against.
    pub ca_file: Option<PathBuf>,
    /// Whether clients must show one.
    pub client_certificates: ClientCertificates,
    /// How long a handshake may take; none: [`TIMEOUT_MS_DEFAULT`].
    pub timeout_ms: Option<u64>,
    /// Who speaks first.
    pub order: HandshakeOrder,
    /// Whether clients without TLS are served too.
    pub is_plain_allowed: bool,
}

/// TLS for clients, ready to be used.
#[derive(Clone)]
pub struct TlsServer {
    pub(crate) config: Arc<ServerConfig>,
    /// The same certificate for those that need none of their own: see [`crate::monitor`].
    pub(crate) open_config: Arc<ServerConfig>,
    pub(crate) timeout_ms: u64,
    pub(crate) order: HandshakeOrder,
    pub(crate) client_certificates: ClientCertificates,
    pub(crate) is_plain_allowed: bool,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("order", &self.order).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Whether clients must show a certificate.
    #[must_use]
    pub fn wants_certificates(&self) -> bool {
        self.client_certificates != ClientCertificates::Ignored
    }

    /// How long a client may take from its connection to its CONNECT, unless told otherwise: as long as for its
    /// handshake, and not less than without TLS.
    #[must_use]
    pub fn login_timeout_ms(&self) -> u64 {
        self.timeout_ms.max(auth::TIMEOUT_MS_DEFAULT)
    }

    /// Reads the files and checks that they belong together.
    ///
    /// # Errors
    /// They do not, or one of them cannot be read.
    pub fn load(spec: &TlsSpec) -> Result<Self, TlsError> {
        if spec.cert_file.as_os_str().is_empty() || spec.key_file.as_os_str().is_empty() {
            return Err(TlsError::Half);
        }
        if spec.is_plain_allowed && spec.order == HandshakeOrder::HandshakeFirst {
            return Err(TlsError::NeverPlain);
        }
        let unusable = |reason: String| TlsError::Unusable { path: spec.cert_file.clone(), reason };
        let certificates = pem::certificates(&spec.cert_file)?;
        let key = pem::key(&spec.key_file)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?;
        let builder = match (spec.client_certificates, &spec.ca_file) {
            (ClientCertificates::Ignored, _) => builder.with_no_client_auth(),
            (_, None) => return Err(TlsError::NoAuthority),
            (_, Some(file)) => {
                let roots = Arc::new(pem::roots(file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|error| TlsError::Unusable {
                        path: file.clone(),
                        reason: error.to_string(),
                    })?;
                let known = pem::certificates(file)?;
                let check = ClientCertificateCheck { inner: verifier, known };
                builder.with_client_cert_verifier(Arc::new(check))
            }
        };
        let config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| unusable(error.to_string()))?;
        let open_config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(config.cert_resolver.clone());
        Ok(Self {
            config: Arc::new(config),
            open_config: Arc::new(open_config),
            timeout_ms: spec.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT),
            order: spec.order,
            client_certificates: spec.client_certificates,
            is_plain_allowed: spec.is_plain_allowed,
        })
    }
}

/// The cryptography underneath, named here and not installed for the whole process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
