//! `tls{}` of the NATS part: TLS for clients.

use weirlog_net::conf::{Entry, Map};
use weirlog_net::tls::{AUTO_WAIT_MS, ClientCertificates, HandshakeOrder, TlsSpec};

use super::authorization::timeout_ms;
use super::error::FileError;
use super::keys::asks_for_something;

/// Reads the block. Whether the files can be used is seen when they are opened.
pub(super) fn read(map: &Map) -> Result<TlsSpec, FileError> {
    let mut spec = TlsSpec::default();
    let (mut is_verified, mut is_mapped) = (false, false);
    for entry in &map.entries {
        let file = || entry.value.text().map(Into::into);
        match entry.key.to_ascii_lowercase().as_str() {
            "cert_file" => spec.cert_file = file()?,
            "key_file" => spec.key_file = file()?,
            "ca_file" => spec.ca_file = Some(file()?),
            "verify" => is_verified = entry.value.boolean()?,
            "verify_and_map" => is_mapped = entry.value.boolean()?,
            "timeout" => spec.timeout_ms = Some(timeout_ms(entry)?),
            "handshake_first" | "first" | "immediate" => spec.order = order(entry)?,
            name => match missing(name) {
                None => return Err(FileError::unknown(entry, "tls.")),
                Some(_) if !asks_for_something(&entry.value) => {}
                Some(what) => {
                    return Err(FileError::not_available(entry, &entry.key, what, "leave it out"));
                }
            },
        }
    }
    spec.client_certificates = match (is_mapped, is_verified) {
        (true, _) => ClientCertificates::Mapped,
        (false, true) => ClientCertificates::Verified,
        (false, false) => ClientCertificates::Ignored,
    };
    Ok(spec)
}

/// A switch, `auto`, or how long to wait for the client.
fn order(entry: &Entry) -> Result<HandshakeOrder, FileError> {
    match entry.value.text()?.to_ascii_lowercase().as_str() {
        "auto" | "auto_fallback" => Ok(HandshakeOrder::WaitMs(AUTO_WAIT_MS)),
        text if text.starts_with(|letter: char| letter.is_ascii_digit()) => {
            timeout_ms(entry).map(HandshakeOrder::WaitMs)
        }
        _ => Ok(match entry.value.boolean()? {
            true => HandshakeOrder::HandshakeFirst,
            false => HandshakeOrder::InfoFirst,
        }),
    }
}

/// What a key of the reference asks for that there is not.
fn missing(name: &str) -> Option<&'static str> {
    Some(match name {
        "cipher_suites" | "curve_preferences" | "min_version" => "a choice of algorithms",
        "insecure" | "skip_verify" => "TLS without a check",
        "pinned_certs" => "pinned certificates",
        "connection_rate_limit" => "a limit of handshakes a second",
        "ocsp_peer" | "ocsp_staple" => "OCSP",
        "cert_store" | "cert_match" | "cert_match_by" | "cert_match_skip_invalid" => {
            "certificates of the system"
        }
        "certs" => "several certificates",
        _ => return None,
    })
}
