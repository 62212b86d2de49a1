//! `/readyz` in front of an upstream.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::common::{TestServer, connect, free_port, until};

/// Answers one request of each connection with PONG. Gone when dropped.
struct Upstream {
    port: u16,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    fn on(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        let is_over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.expect("a connection");
                if asked.load(Ordering::Relaxed) {
                    return;
                }
                let read = client.read(&mut [0; 64]).expect("a request");
                assert!(read > 0);
                client.write_all(b"+PONG\r\n").expect("it waits for it");
            }
        });
        Self {
            port,
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(connect(self.port));
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("it does not panic");
        }
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = connect(port);
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_front_is_ready_while_its_upstream_is() {
    let (port, admin) = (free_port(), free_port());
    let _server = TestServer::with(&[
        ("upstream", &format!("redis://127.0.0.1:{port}")),
        ("admin-port", &admin.to_string()),
    ]);
    let refused = format!("upstream 127.0.0.1:{port} refused the connection\n");
    let is_refused = || {
        let answer = get(admin, "/readyz");
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with(&refused)
    };
    until("it tells of an upstream that is not there", is_refused);
    let upstream = Upstream::on(port);
    until("it is ready once the upstream is there", || {
        get(admin, "/readyz").starts_with("HTTP/1.1 200 ")
    });
    drop(upstream);
    until("it is no longer ready", is_refused);
    // To start it again would not help.
    assert!(get(admin, "/healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_server_of_its_own_is_ready() {
    let admin = free_port();
    let _server = TestServer::with(&[("admin-port", &admin.to_string())]);
    until("it is ready", || {
        get(admin, "/readyz").starts_with("HTTP/1.1 200 ")
    });
}
