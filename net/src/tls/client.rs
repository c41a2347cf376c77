//! TLS towards another NATS server: this server as its client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::{TlsError, pem, provider};

/// What the operator wrote about TLS towards other servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsClientSpec {
    /// The certificate to show, as PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    pub key_file: Option<PathBuf>,
    /// The certificates that the server's is checked against; none: those of the system.
    pub ca_file: Option<PathBuf>,
}

/// TLS towards other servers, ready to be used.
#[derive(Clone)]
pub struct TlsClient {
    pub(crate) config: Arc<ClientConfig>,
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads the files and checks that they belong together.
    ///
    /// # Errors
    /// They do not, or one of them cannot be read.
    pub fn load(spec: &TlsClientSpec) -> Result<Self, TlsError> {
        let roots = match &spec.ca_file {
            Some(file) => pem::roots(file)?,
            None => system_roots()?,
        };
        let own = match (&spec.cert_file, &spec.key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err(TlsError::Half),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::NoRoots)?
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(pem::certificates(certificate)?, pem::key(key)?)
                .map_err(|error| TlsError::Unusable {
                    path: certificate.clone(),
                    reason: error.to_string(),
                })?,
        };
        Ok(Self { config: Arc::new(config) })
    }
}

/// Those of the system that can be used; a few in such a list never can.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}
