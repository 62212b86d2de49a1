//! The TLS port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use corral::server::tls::{Authorities, ClientTlsSettings, Identity, Protocols, client_config};
use rustls::{ClientConnection, StreamOwned};

use crate::certificates::Files;
use crate::common::{Client, Patience, TestServer, bulk, connect, free_port, request, until};

type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Patience for Stream {
    fn set_patience(&self, patience: Duration) {
        self.sock.set_patience(patience);
    }
}

impl Files {
    /// A server with a TLS port, and that port.
    fn server(&self, auth_clients: &str) -> (TestServer, u16) {
        let port = free_port();
        let path = |name: &str| self.path(name).display().to_string();
        let server = TestServer::with(&[
            ("tls-port", &port.to_string()),
            ("tls-cert-file", &path("server.crt")),
            ("tls-key-file", &path("server.key")),
            ("tls-ca-cert-file", &path("ca.crt")),
            ("tls-auth-clients", auth_clients),
        ]);
        (server, port)
    }

    fn connect(&self, port: u16, identity: Option<&str>) -> Client<Stream> {
        let settings = ClientTlsSettings {
            authorities: Authorities {
                file: Some(self.path("ca.crt")),
                directory: None,
            },
            identity: identity.map(|name| Identity {
                cert_file: self.path(&format!("{name}.crt")),
                key_file: self.path(&format!("{name}.key")),
            }),
            protocols: Protocols::default(),
        };
        let config = client_config(&settings).expect("valid files");
        let name = "localhost".try_into().expect("a name");
        let connection = ClientConnection::new(config, name).expect("valid settings");
        Client::new(StreamOwned::new(connection, connect(port)))
    }
}

#[test]
fn clients_are_served_over_tls() {
    let files = Files::of("localhost");
    let (server, port) = files.server("no");
    let mut client = files.connect(port, None);
    client.ask("SET k v\r\nGET k\r\n", "+OK\r\n$1\r\nv\r\n");
    server.connect().ask("GET k\r\n", "$1\r\nv\r\n");
    let big = vec![b'v'; 1 << 20];
    client.ask(request(&[b"ECHO", &big]), bulk(&big));
}

#[test]
fn the_end_is_told_so_that_it_is_not_taken_for_a_cut() {
    let files = Files::of("localhost");
    let (_server, port) = files.server("no");
    let mut client = files.connect(port, None);
    client.ask("QUIT\r\n", "+OK\r\n");
    assert_eq!(client.stream.read(&mut [0; 10]).expect("a close_notify"), 0);
}

#[test]
fn a_client_certificate_is_asked_for() {
    let files = Files::of("localhost");
    let (_server, port) = files.server("yes");
    let mut client = files.connect(port, Some("client"));
    client.ask("PING\r\n", "+PONG\r\n");
    let mut without = files.connect(port, None);
    let said = without.stream.write_all(b"PING\r\n");
    let heard = said.and_then(|()| without.stream.read(&mut [0; 10]));
    let error = heard.expect_err("it has no certificate").to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
}

#[test]
fn a_client_certificate_may_be_optional() {
    let files = Files::of("localhost");
    let (_server, port) = files.server("optional");
    for identity in [None, Some("client")] {
        files.connect(port, identity).ask("PING\r\n", "+PONG\r\n");
    }
}

#[test]
fn who_speaks_no_tls_on_the_tls_port_is_closed() {
    let files = Files::of("localhost");
    let (server, port) = files.server("no");
    let mut client = Client::new(connect(port));
    client.send("PING\r\n*1\r\n$4\r\nPING\r\n");
    let mut said = Vec::new();
    let _ = client.stream.read_to_end(&mut said);
    // At most a TLS alert (content type 21), never a reply.
    assert!(
        said.first().is_none_or(|kind| *kind == 21),
        "{}",
        said.escape_ascii()
    );
    assert!(server.instance.clients.is_empty());
    files.connect(port, None).ask("PING\r\n", "+PONG\r\n");
}

#[test]
fn the_cipher_suites_are_those_that_were_set_last() {
    let files = Files::of("localhost");
    let (server, port) = files.server("no");
    let mut control = server.connect();
    for name in ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"] {
        control.ask(
            format!("CONFIG SET tls-ciphersuites {name}:TLS_AES_128_CCM_SHA256\r\n"),
            "+OK\r\n",
        );
        // The sockets are taken over behind the reply.
        let spoken = || {
            let mut client = files.connect(port, None);
            client.ask("PING\r\n", "+PONG\r\n");
            let suite = client.stream.conn.negotiated_cipher_suite();
            format!("{:?}", suite.expect("a handshake").suite())
        };
        let wanted = name.replace("TLS_", "TLS13_");
        until(name, || spoken() == wanted);
    }
    control.ask(
        "CONFIG SET tls-ciphers HIGH:!aNULL\r\n",
        "-ERR CONFIG SET failed (possibly related to argument 'tls-ciphers') - OpenSSL's keywords \
         and operators, such as 'HIGH', are not supported: name the suites, or none for all of \
         them\r\n",
    );
}
