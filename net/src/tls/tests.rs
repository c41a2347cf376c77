//! Files as operators have them, and what is said when they are wrong.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

use super::*;

/// A CA of its own with what it has signed, in files of a directory that ends with it.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the CA");
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a certificate for `name`; gives its file and its key's.
    pub(crate) fn sign(&self, name: &str, names: Vec<SanType>) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Wild, Ltd");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (self.file(&format!("{name}.pem")), self.file(&format!("{name}-key.pem")));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    /// What a server on this machine needs.
    pub(crate) fn server(&self) -> TlsSpec {
        let names = vec![
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::DnsName("localhost".try_into().unwrap()),
        ];
        let (cert_file, key_file) = self.sign("server", names);
        TlsSpec { cert_file, key_file, ca_file: Some(self.file("ca.pem")), ..TlsSpec::default() }
    }

    /// What a client needs that shows the CA's own certificate.
    pub(crate) fn itself(&self) -> TlsClientSpec {
        let key = self.file("ca-key.pem");
        std::fs::write(&key, self.issuer.key().serialize_pem()).unwrap();
        let ca_file = Some(self.file("ca.pem"));
        TlsClientSpec { cert_file: ca_file.clone(), key_file: Some(key), ca_file }
    }

    /// What a client needs that shows a certificate for the mail address `mail`.
    pub(crate) fn client(&self, mail: &str) -> TlsClientSpec {
        let (cert, key) = self.sign("client", vec![SanType::Rfc822Name(mail.try_into().unwrap())]);
        let ca_file = Some(self.file("ca.pem"));
        TlsClientSpec { cert_file: Some(cert), key_file: Some(key), ca_file }
    }
}

#[track_caller]
fn refused(spec: &TlsSpec) -> String {
    let text = TlsServer::load(spec).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text:?}");
    text
}

fn is_in(path: &Path, text: &str) -> bool {
    text.contains(path.to_str().unwrap())
}

#[test]
fn good_files_are_taken() {
    let authority = Authority::new();
    let server = authority.server();
    assert!(!TlsServer::load(&server).unwrap().wants_certificates());
    let client_certificates = ClientCertificates::Verified;
    let verified = TlsServer::load(&TlsSpec { client_certificates, ..server }).unwrap();
    assert!(verified.wants_certificates());
    assert!(TlsClient::load(&authority.client("a@b")).is_ok());
}

#[test]
fn a_wrong_file_is_named() {
    let authority = Authority::new();
    let good = authority.server();
    let nothing = authority.file("nothing.pem");
    let text = refused(&TlsSpec { cert_file: nothing.clone(), ..good.clone() });
    assert!(is_in(&nothing, &text) && text.starts_with("cannot read"), "{text}");
    let garbage = authority.file("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
        .unwrap();
    for spec in [
        TlsSpec { cert_file: garbage.clone(), ..good.clone() },
        TlsSpec {
            ca_file: Some(garbage.clone()),
            client_certificates: ClientCertificates::Verified,
            ..good.clone()
        },
    ] {
        assert!(is_in(&garbage, &refused(&spec)));
    }
    let text = refused(&TlsSpec { key_file: good.cert_file.clone(), ..good.clone() });
    assert!(is_in(&good.cert_file, &text) && text.ends_with("no key in it"), "{text}");
    let text = refused(&TlsSpec { cert_file: good.key_file.clone(), ..good.clone() });
    assert!(text.ends_with("no certificate in it"), "{text}");
    let (_, other_key) = authority.sign("other", Vec::new());
    let text = refused(&TlsSpec { key_file: other_key, ..good.clone() });
    assert!(is_in(&good.cert_file, &text), "{text}");
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let authority = Authority::new();
    let good = authority.server();
    let half = TlsSpec { key_file: PathBuf::new(), ..good.clone() };
    assert_eq!(TlsServer::load(&half).unwrap_err(), TlsError::Half);
    let client_certificates = ClientCertificates::Mapped;
    let no_ca = TlsSpec { ca_file: None, client_certificates, ..good.clone() };
    assert_eq!(TlsServer::load(&no_ca).unwrap_err(), TlsError::NoAuthority);
    let order = HandshakeOrder::HandshakeFirst;
    let never_plain = TlsSpec { is_plain_allowed: true, order, ..good };
    assert_eq!(TlsServer::load(&never_plain).unwrap_err(), TlsError::NeverPlain);
    let half = TlsClientSpec { key_file: None, ..authority.client("a@b") };
    assert_eq!(TlsClient::load(&half).unwrap_err(), TlsError::Half);
}

#[test]
fn names_are_given_in_the_order_of_the_reference() {
    let authority = Authority::new();
    let (file, _) = authority.sign(
        "me",
        vec![
            SanType::DnsName("host".try_into().unwrap()),
            SanType::Rfc822Name("me@host".try_into().unwrap()),
        ],
    );
    let der = pem::certificates(&file).unwrap().remove(0);
    let names = certificate_names(&der);
    assert_eq!(names, ["me@host", "host", "CN=me,O=Wild\\, Ltd"]);
    assert_eq!(certificate_names(b"garbage"), Vec::<String>::new());
}
