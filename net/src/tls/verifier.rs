//! The check of client certificates, as operators and clients of NATS know it.
//!
//! A certificate that stands in the file of CAs itself is known, CA or not: small installations have a single one that
//! has signed itself, for servers and clients. And clients are told of a "bad certificate" where it was signed by
//! somebody else; rustls' word for that, "decrypt error", looks like a broken connection to them.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// Another verifier, with these two exceptions.
#[derive(Debug)]
pub(super) struct ClientCertificateCheck {
    /// The other one.
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    /// What stands in the file of CAs.
    pub(super) known: Vec<CertificateDer<'static>>,
}

impl ClientCertificateCheck {
    /// Whether a certificate stands in the file, and this is its time.
    fn knows(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let is_in_time = || {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            let now = ASN1Time::from_timestamp(i64::try_from(now.as_secs()).ok()?).ok()?;
            Some(parsed.validity().is_valid_at(now))
        };
        self.known.iter().any(|known| known == certificate) && is_in_time().unwrap_or(false)
    }
}

impl ClientCertVerifier for ClientCertificateCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(_) if self.knows(end_entity, now) => Ok(ClientCertVerified::assertion()),
            Err(Error::InvalidCertificate(CertificateError::BadSignature)) => {
                Err(Error::InvalidCertificate(CertificateError::BadEncoding))
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
