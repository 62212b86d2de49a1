//! Certificates for the tests. Each that speaks TLS takes this file in.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A directory with an authority (`ca.crt`) and what it signed for a `server` and a `client`.
pub(crate) struct Files(pub(crate) tempfile::TempDir);

impl Files {
    /// Both certificates are for this name.
    pub(crate) fn of(host: &str) -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        let mut params = CertificateParams::new([]).expect("no names");
        // OpenSSL takes what is issued under its own name for self-signed.
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = "an authority";
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        files.write("ca.crt", &ca.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new([host.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &ca).expect("a certificate");
            files.write(&format!("{name}.crt"), &certificate.pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("room");
    }
}
