//! A `redis-server`.

use std::time::Duration;

use corral::origin::FailureKind;

use crate::common::{PATIENCE, call, delete, failure, failure_within, is_absent, load, origin};
use crate::common::{store, value};
use crate::servers::{Server, free_port};

fn settings(port: u16, more: &str) -> String {
    format!("kind = 'redis'\nurl = 'redis://127.0.0.1:{port}/'\nkey = 'k:{{1}}'\n{more}\n")
}

/// Runs a command at the server itself.
fn run(server: &Server, args: &[&str]) -> String {
    let port = server.port.to_string();
    let output = std::process::Command::new("redis-cli")
        .args(["-p", &port])
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn a_key_is_loaded_stored_and_deleted() {
    let server = Server::redis(&[]);
    let origin = origin(&settings(server.port, ""));
    assert!(is_absent(&origin, "a").await);
    store(&origin, "a", "x\r\ny").await.unwrap();
    assert_eq!(run(&server, &["STRLEN", "k:a"]), "4");
    assert_eq!(value(&origin, "a").await, "x\r\ny");
    run(&server, &["SET", "k:empty", ""]);
    assert_eq!(value(&origin, "empty").await, "");
    delete(&origin, "a").await.unwrap();
    assert_eq!(run(&server, &["EXISTS", "k:a"]), "0");
    delete(&origin, "a").await.unwrap();
}

#[tokio::test]
async fn what_a_client_sent_is_one_key() {
    let server = Server::redis(&[]);
    let origin = origin(&settings(server.port, ""));
    for key in [
        &b"a b"[..],
        b"a\r\nFLUSHALL\r\n",
        b"*1\r\n",
        b"\xff\0",
        b"{}",
    ] {
        store(&origin, key, "v").await.unwrap();
        let found = load(&origin, key).await.unwrap().unwrap();
        assert_eq!(&found.value[..], b"v");
    }
    assert_eq!(run(&server, &["DBSIZE"]), "5");
}

#[tokio::test]
async fn a_time_to_live_is_given_and_taken() {
    let server = Server::redis(&[]);
    let origin = origin(&settings(server.port, "ttl-from = 'pttl'"));
    let ttl = Some(Duration::from_secs(100));
    origin
        .store(&call(&[b"a"], PATIENCE), b"v", ttl)
        .await
        .unwrap();
    let left: i64 = run(&server, &["PTTL", "k:a"]).parse().unwrap();
    assert!((90_000..=100_000).contains(&left), "{left}");
    let found = load(&origin, "a").await.unwrap().unwrap();
    assert!(
        found
            .ttl
            .is_some_and(|ttl| ttl.as_secs() >= 90 && ttl.as_secs() <= 100)
    );
    run(&server, &["PERSIST", "k:a"]);
    assert_eq!(load(&origin, "a").await.unwrap().unwrap().ttl, None);
}

#[tokio::test]
async fn a_value_that_is_no_string_or_too_long_is_a_failure() {
    let server = Server::redis(&[]);
    let origin = origin(&settings(server.port, "max-value = 10"));
    run(&server, &["LPUSH", "k:list", "x"]);
    assert_eq!(failure(&origin, "list").await, FailureKind::BadValue);
    run(&server, &["SET", "k:ten", "0123456789"]);
    assert_eq!(value(&origin, "ten").await, "0123456789");
    run(&server, &["SET", "k:long", "0123456789a"]);
    assert_eq!(failure(&origin, "long").await, FailureKind::TooLarge);
    assert_eq!(
        value(&origin, "ten").await,
        "0123456789",
        "the connection is whole"
    );
}

#[tokio::test]
async fn a_password_may_stand_apart() {
    let server = Server::redis(&["--requirepass", "p w"]);
    let without = origin(&settings(server.port, ""));
    assert_eq!(failure(&without, "a").await, FailureKind::Refused);
    let with = origin(&settings(server.port, "password = 'p w'"));
    let wrong = origin(&settings(server.port, "password = 'x'"));
    assert_eq!(failure(&wrong, "a").await, FailureKind::Connect);
    assert!(is_absent(&with, "a").await);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_to_connect() {
    let origin = origin(&settings(free_port(), ""));
    assert_eq!(failure(&origin, "a").await, FailureKind::Connect);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_until_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let origin = origin(&settings(port, "connect-timeout = '10s'"));
    let kind = failure_within(&origin, Duration::from_millis(100)).await;
    assert_eq!(kind, FailureKind::Timeout);
}

#[tokio::test]
async fn a_server_that_was_started_again_costs_no_failure() {
    let mut server = Server::redis(&[]);
    let origin = origin(&settings(server.port, ""));
    store(&origin, "a", "v").await.unwrap();
    for _ in 0..2 {
        let port = server.port;
        drop(server);
        server = Server::redis_on(port, &[]);
        assert!(is_absent(&origin, "a").await);
    }
    let port = server.port;
    drop(server);
    let _server = Server::redis_on(port, &[]);
    store(&origin, "a", "v").await.unwrap();
}
