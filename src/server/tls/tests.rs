//! The files, the handshakes and what goes wrong with them.

use super::*;
use certificates::Files;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

#[path = "../../../tests/support/certificates.rs"]
mod certificates;

impl Files {
    fn server(&self, auth_clients: AuthClients) -> TlsSettings {
        TlsSettings {
            cert_file: self.path("server.crt"),
            key_file: self.path("server.key"),
            authorities: self.authorities(),
            auth_clients,
            protocols: Protocols::default(),
            suites: Suites::default(),
        }
    }

    fn authorities(&self) -> Authorities {
        Authorities {
            file: Some(self.path("ca.crt")),
            directory: None,
        }
    }

    fn client(&self, identity: Option<&str>) -> ClientTlsSettings {
        ClientTlsSettings {
            authorities: self.authorities(),
            identity: identity.map(|name| Identity {
                cert_file: self.path(&format!("{name}.crt")),
                key_file: self.path(&format!("{name}.key")),
            }),
            protocols: Protocols::default(),
        }
    }
}

/// One PING over TLS; the version and the cipher suite that were spoken.
async fn ping(
    server: &TlsSettings,
    client: &ClientTlsSettings,
) -> io::Result<(rustls::ProtocolVersion, rustls::CipherSuite)> {
    let (server, client) = (
        server_config(server).unwrap(),
        client_config(client).unwrap(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serve = async {
        let (tcp, _) = listener.accept().await?;
        let mut stream = accept(&server, tcp, Duration::from_secs(10)).await?;
        let mut request = [0; 4];
        stream.read_exact(&mut request).await?;
        stream.write_all(&request).await?;
        stream.flush().await
    };
    let ask = async {
        let tcp = TcpStream::connect(address).await?;
        let name = server_name("localhost").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, tcp).await?;
        stream.write_all(b"PING").await?;
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).await?;
        assert_eq!(&reply, b"PING");
        let (_, spoken) = stream.get_ref();
        let suite = spoken.negotiated_cipher_suite().unwrap().suite();
        Ok((spoken.protocol_version().unwrap(), suite))
    };
    let (served, asked) = tokio::join!(serve, ask);
    served.and(asked)
}

#[tokio::test]
async fn a_client_talks_to_a_server_over_tls() {
    let files = Files::of("localhost");
    for auth in [AuthClients::No, AuthClients::Optional] {
        ping(&files.server(auth), &files.client(None))
            .await
            .unwrap();
    }
    for auth in [AuthClients::No, AuthClients::Optional, AuthClients::Yes] {
        ping(&files.server(auth), &files.client(Some("client")))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_needed() {
    let files = Files::of("localhost");
    assert!(
        ping(&files.server(AuthClients::Yes), &files.client(None))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let (files, others) = (Files::of("localhost"), Files::of("localhost"));
    for auth in [AuthClients::Optional, AuthClients::Yes] {
        let mut client = files.client(None);
        client.identity = others.client(Some("client")).identity;
        assert!(ping(&files.server(auth), &client).await.is_err());
    }
    assert!(
        ping(&files.server(AuthClients::No), &others.client(None))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn only_the_versions_named_are_spoken() {
    let files = Files::of("localhost");
    for (name, version) in [
        ("TLSv1.2", rustls::ProtocolVersion::TLSv1_2),
        ("tlsv1.3", rustls::ProtocolVersion::TLSv1_3),
    ] {
        let mut server = files.server(AuthClients::No);
        server.protocols = name.parse().unwrap();
        let (spoken, _) = ping(&server, &files.client(None)).await.unwrap();
        assert_eq!(spoken, version);
    }
}

#[tokio::test]
async fn only_the_suites_named_are_spoken_in_the_order_that_is_asked_for() {
    use crate::config::CipherSuite as Ours;
    use rustls::CipherSuite as Theirs;
    let files = Files::of("localhost");
    let mut server = files.server(AuthClients::No);
    let spoken = async |server: &TlsSettings| {
        let (_, suite) = ping(server, &files.client(None)).await.unwrap();
        suite
    };
    server.suites.tls13 = vec![
        Ours::Tls13Chacha20Poly1305Sha256,
        Ours::Tls13Aes128GcmSha256,
    ];
    // The client's first is one that is not there; its next is our second.
    let of_client = Theirs::TLS13_AES_128_GCM_SHA256;
    assert_eq!(spoken(&server).await, of_client);
    server.suites.is_order_ours = true;
    let of_server = Theirs::TLS13_CHACHA20_POLY1305_SHA256;
    assert_eq!(spoken(&server).await, of_server);

    server.protocols = "TLSv1.2".parse().unwrap();
    server.suites.tls12 = vec![Ours::EcdheEcdsaAes128GcmSha256];
    let only = Theirs::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    assert_eq!(spoken(&server).await, only);
    // The certificate is no RSA certificate.
    server.suites.tls12 = vec![Ours::EcdheRsaAes128GcmSha256];
    assert!(ping(&server, &files.client(None)).await.is_err());
}

#[tokio::test]
async fn a_directory_of_authorities_serves_as_a_file_does() {
    let files = Files::of("localhost");
    let directory = files.path("authorities");
    fs::create_dir(&directory).unwrap();
    fs::copy(files.path("ca.crt"), directory.join("any-name")).unwrap();
    fs::write(directory.join("README"), "no certificate").unwrap();
    let authorities = Authorities {
        file: None,
        directory: Some(directory),
    };
    let mut server = files.server(AuthClients::Yes);
    server.authorities = authorities.clone();
    let mut client = files.client(Some("client"));
    client.authorities = authorities;
    ping(&server, &client).await.unwrap();
}

#[test]
fn errors_name_the_file_and_what_is_wrong_with_it() {
    let files = Files::of("localhost");
    files.write("empty", "");
    files.write(
        "broken",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    );
    files.write(
        "junk",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    files.write(
        "locked",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let because = |cert: &str, key: &str, ca: &str| {
        let mut settings = files.server(AuthClients::Yes);
        settings.cert_file = files.path(cert);
        settings.key_file = files.path(key);
        settings.authorities.file = Some(files.path(ca));
        let text = server_config(&settings).unwrap_err().to_string();
        text.replace(&format!("{}/", files.0.path().display()), "")
    };
    let (cert, key, ca) = ("server.crt", "server.key", "ca.crt");
    assert_eq!(
        because("none", key, ca),
        "none: No such file or directory (os error 2)"
    );
    assert_eq!(because("empty", key, ca), "empty: holds no certificate");
    assert!(because("broken", key, ca).starts_with("broken: not a PEM file: "));
    assert!(because("junk", key, ca).starts_with("junk: invalid peer certificate"));
    assert_eq!(because(cert, "empty", ca), "empty: holds no private key");
    assert!(because(cert, "locked", ca).starts_with("locked: the private key needs a pass"));
    assert_eq!(
        because(cert, "client.key", ca),
        "client.key: not the private key of the certificate in server.crt"
    );
    assert_eq!(because(cert, key, "empty"), "empty: holds no certificate");
    assert!(because(cert, key, "junk").starts_with("junk: "));
}

#[test]
fn clients_cannot_be_authenticated_without_an_authority() {
    let files = Files::of("localhost");
    let mut settings = files.server(AuthClients::Yes);
    settings.authorities = Authorities::default();
    assert!(matches!(
        server_config(&settings),
        Err(TlsError::NoClientAuthority)
    ));
    settings.auth_clients = AuthClients::No;
    assert!(server_config(&settings).is_ok());
}

#[test]
fn settings_are_read_as_redis_reads_them() {
    assert_eq!("".parse::<Protocols>().unwrap(), Protocols::default());
    let both = "TLSv1.2  tlsV1.3".parse::<Protocols>().unwrap();
    assert_eq!(both, Protocols::default());
    let error = "TLSv1.2 TLSv1.1".parse::<Protocols>().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("'TLSv1.1' is not a TLS version")
    );
    assert_eq!(
        "Optional".parse::<AuthClients>().unwrap(),
        AuthClients::Optional
    );
    assert!("maybe".parse::<AuthClients>().is_err());
    assert!(server_name("10.0.0.1").is_ok());
    assert!(server_name("not a name").is_err());
}
