//! HTTP over TLS: who the server must be, who we are, and HTTP/2.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use corral::origin::FailureKind;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::common::{failure, origin, value};

/// An authority (`ca.crt`) and what it signed for a server and a client.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        files.write("ca.crt", &ca.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            files.write(
                &format!("{name}.crt"),
                &params.signed_by(&key, &ca).unwrap().pem(),
            );
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A server that demands a certificate and answers with the version of HTTP.
    async fn server(&self, protocols: &[&[u8]]) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("ca.crt")).unwrap())
            .unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(self.path("server.crt")).unwrap()],
                PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let (io, answer) = (TokioIo::new(stream), service_fn(answer));
                    if is_http2 {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = server.serve_connection(io, answer).await;
                    } else {
                        let server = hyper::server::conn::http1::Builder::new();
                        let _ = server.serve_connection(io, answer).await;
                    }
                });
            }
        });
        address
    }

    fn settings(&self, address: SocketAddr, keys: &[(&str, &str)]) -> String {
        let mut text = format!(
            "kind = 'http'\nurl = 'https://localhost:{}/'\n",
            address.port()
        );
        for (key, file) in keys {
            text += &format!("{key} = '{}'\n", self.path(file).display());
        }
        text
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    Ok(Response::new(Full::from(format!(
        "{:?}",
        request.version()
    ))))
}

const ALL: &[(&str, &str)] = &[
    ("tls-ca-cert-file", "ca.crt"),
    ("tls-cert-file", "client.crt"),
    ("tls-key-file", "client.key"),
];

#[tokio::test]
async fn the_server_and_we_show_certificates_and_speak_what_both_know() {
    let files = Files::new();
    for (protocols, version) in [
        (&[&b"h2"[..], b"http/1.1"][..], "HTTP/2.0"),
        (&[b"http/1.1"], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        let origin = origin(&files.settings(files.server(protocols).await, ALL));
        assert_eq!(value(&origin, "").await, version);
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_asked() {
    let files = Files::new();
    let address = files.server(&[]).await;
    let without = origin(&files.settings(address, &ALL[1..]));
    assert_eq!(failure(&without, "").await, FailureKind::Connect);
    let other = Files::new();
    let settings = other.settings(address, ALL);
    assert_eq!(failure(&origin(&settings), "").await, FailureKind::Connect);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_refuses_us_without_one() {
    let files = Files::new();
    let origin = origin(&files.settings(files.server(&[]).await, &ALL[..1]));
    // Of TLS 1.3, we only learn it when we ask.
    let kind = failure(&origin, "").await;
    assert!(
        matches!(kind, FailureKind::Connect | FailureKind::Lost),
        "{kind:?}"
    );
}
