//! As a front, corral passes on the very bytes, and says what is wrong when upstream is not there.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corral::clock;

use super::common::{Client, Missing, Server, free_port, request, until};
use super::fake::{answer, number_of_requests, without_hello};
use super::script::Pair;

/// Redis itself, and corral in front of another Redis, which lives as long as the result: once with
/// its near cache and once without.
fn through(both: impl Fn(&Pair, bool)) {
    for near in [true, false] {
        let upstream = Server::redis(&[]);
        let near_cache = if near { "yes" } else { "no" };
        let ours = Server::front(&upstream, &["--near-cache", near_cache]);
        let pair = Pair {
            redis: Server::redis(&[]),
            ours,
            has_differences: false,
        };
        both(&pair, near);
    }
}

/// The script without one of its sentences.
fn without(script: &str, title: &str) -> String {
    let (before, rest) = script
        .split_once(&format!("== {title}\n"))
        .expect("a sentence");
    let after = rest.find("\n== ").map_or("", |at| &rest[at + 1..]);
    format!("{before}{after}")
}

#[test]
fn what_corral_knows_passes_unchanged() {
    through(|pair, _| {
        for script in [
            include_str!("scripts/strings.txt"),
            include_str!("scripts/bitmaps.txt"),
            include_str!("scripts/keys.txt"),
            include_str!("scripts/expiry.txt"),
            include_str!("scripts/scan.txt"),
            include_str!("scripts/transactions.txt"),
        ] {
            pair.run(script);
        }
    });
}

#[test]
fn what_corral_does_not_know_passes_unchanged() {
    through(|pair, _| pair.run(include_str!("scripts/front.txt")));
}

#[test]
fn what_is_about_the_connection_and_the_server_passes_unchanged() {
    through(|pair, near| {
        let connection = include_str!("scripts/connection.txt");
        if near {
            // The front's own connections are from before the password was set.
            let password = "AUTH and HELLO where there is a password";
            pair.run(&without(connection, password));
        } else {
            pair.run(connection);
        }
        let client = include_str!("scripts/client.txt");
        if near {
            // Other clients' commands come over shared connections, with the front's own.
            let client = without(client, "MONITOR shows what runs");
            pair.run(&without(&client, "CLIENT LIST and CLIENT KILL"));
        } else {
            pair.run(client);
        }
        pair.run(include_str!("scripts/config.txt"));
        let server = include_str!("scripts/server.txt");
        if near {
            pair.run(&without(server, "SLOWLOG"));
        } else {
            pair.run(server);
        }
    });
}

/// What a client is told of an upstream on this port.
fn told(port: u16, what: &str) -> String {
    format!("-ERR upstream 127.0.0.1:{port} {what}\r\n")
}

#[test]
fn an_upstream_that_refuses_is_an_error_until_it_is_there() {
    let port = free_port();
    let front = Server::corral(&["--upstream", &format!("redis://127.0.0.1:{port}")]);
    let mut client = front.connect();
    for _ in 0..3 {
        assert_eq!(
            client.say("GET k"),
            told(port, "refused the connection"),
            "the client stays"
        );
    }
    let _upstream = Server::redis_on(port, &[]);
    answers_again(&mut client);
}

/// The client's connection works, at the latest a moment after its upstream does.
fn answers_again(client: &mut Client) {
    let since = clock::now();
    loop {
        let reply = client.say("SET k v");
        if reply == "+OK\r\n" {
            break;
        }
        assert!(reply.starts_with("-ERR upstream "), "{reply}");
        assert!(since.elapsed() < Duration::from_secs(5), "{reply}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(client.say("GET k"), "$1\r\nv\r\n");
}

#[test]
fn an_upstream_that_is_killed_is_an_error_and_clients_stay() {
    let port = free_port();
    let upstream = Server::redis_on(port, &[]);
    let front = Server::front(&upstream, &[]);
    let mut client = front.connect();
    assert_eq!(client.say("SELECT 3"), "+OK\r\n");
    assert_eq!(client.say("SET k v"), "+OK\r\n");
    drop(upstream);
    let reply = client.say("GET k");
    assert!(reply.starts_with(&told(port, "")[..20]), "{reply}");
    // A connection begun while it dies is reset.
    let since = clock::now();
    loop {
        let reply = client.say("GET k");
        if reply == told(port, "refused the connection") {
            break;
        }
        assert!(reply.starts_with("-ERR upstream "), "{reply}");
        assert!(since.elapsed() < Duration::from_secs(5), "{reply}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let upstream = Server::redis_on(port, &[]);
    answers_again(&mut client);
    let keyspace = upstream.connect().say("INFO keyspace");
    assert!(
        keyspace.contains("db3:keys=1"),
        "the database is chosen again: {keyspace}"
    );
}

#[test]
fn an_upstream_that_hangs_is_an_error_within_its_time() {
    let upstream = Server::redis(&[]);
    // Of a shared connection, others may have been waiting for a while.
    let front = Server::front(
        &upstream,
        &["--upstream-timeout", "300", "--near-cache", "no"],
    );
    let mut client = front.connect();
    let mut other = front.connect();
    assert_eq!(client.say("SET k v"), "+OK\r\n");
    upstream.signal("STOP");
    for client in [&mut client, &mut other] {
        let since = clock::now();
        let reply = client.say("GET k");
        let took = since.elapsed();
        assert!(reply.starts_with("-ERR upstream "), "{reply}");
        assert!(
            reply.ends_with(" did not answer within 300ms\r\n"),
            "{reply}"
        );
        assert!(took >= Duration::from_millis(290), "{took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    upstream.signal("CONT");
    answers_again(&mut client);
    answers_again(&mut other);
}

#[test]
fn a_blocked_command_outlasts_the_timeout_but_not_its_upstream() {
    let upstream = Server::redis(&[]);
    let front = Server::front(&upstream, &["--upstream-timeout", "100"]);
    let mut client = front.connect();
    client.send(b"*3\r\n$5\r\nBLPOP\r\n$1\r\nl\r\n$1\r\n0\r\n");
    let silent = client.frame_within(Duration::from_millis(500));
    assert_eq!(silent, Err(Missing::Silence));
    assert_eq!(front.connect().number("RPUSH l a"), 1);
    assert_eq!(client.frame(), Ok(b"*2\r\n$1\r\nl\r\n$1\r\na\r\n".to_vec()));
    client.send(b"*3\r\n$5\r\nBLPOP\r\n$1\r\nl\r\n$1\r\n0\r\n");
    std::thread::sleep(Duration::from_millis(50));
    drop(upstream);
    let reply = client.frame().expect("an error");
    assert!(reply.starts_with(b"-ERR upstream "), "{reply:?}");
}

#[test]
fn a_transaction_that_lost_its_upstream_never_runs_in_part() {
    let port = free_port();
    let upstream = Server::redis_on(port, &[]);
    let front = Server::front(&upstream, &[]);
    let mut client = front.connect();
    assert_eq!(client.say("MULTI"), "+OK\r\n");
    assert_eq!(client.say("SET k v"), "+QUEUED\r\n");
    drop(upstream);
    let upstream = Server::redis_on(port, &[]);
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nl\r\n$1\r\nv\r\n*1\r\n$4\r\nEXEC\r\n");
    // An error, or the end of the connection; but no +OK for a SET that was meant to be queued.
    while let Ok(reply) = client.frame() {
        assert!(reply.starts_with(b"-"), "{reply:?}");
    }
    assert_eq!(upstream.connect().number("DBSIZE"), 0);
}

#[test]
fn the_upstream_may_be_a_unix_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("redis.sock");
    let path = path.to_str().expect("a UTF-8 path");
    let upstream = Server::redis(&["--unixsocket", path]);
    let front = Server::corral(&["--upstream", &format!("unix://{path}")]);
    let mut client = front.connect();
    assert_eq!(client.say("SET k v"), "+OK\r\n");
    assert_eq!(upstream.connect().say("GET k"), "$1\r\nv\r\n");
}

#[test]
fn the_upstream_url_may_name_a_password_and_a_database() {
    let upstream = Server::redis(&["--requirepass", "p@ss:w/rd"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/5", upstream.port);
    let front = Server::corral(&["--upstream", &url("p%40ss%3Aw%2Frd")]);
    let mut client = front.connect();
    assert_eq!(client.say("SET k v"), "+OK\r\n");
    let mut direct = upstream.connect();
    assert_eq!(direct.say("AUTH p@ss:w/rd"), "+OK\r\n");
    assert!(direct.say("INFO keyspace").contains("db5:keys=1"));
    let front = Server::corral(&["--upstream", &url("wrong")]);
    let reply = front.connect().say("GET k");
    let rejected = "rejected AUTH: WRONGPASS";
    assert!(
        reply.starts_with("-ERR upstream ") && reply.contains(rejected),
        "{reply}"
    );
}

#[test]
fn the_password_in_a_url_is_shown_to_nobody() {
    let front = Server::corral(&["--upstream", "redis://:hidden@127.0.0.1:1"]);
    let mut client = front.connect();
    for words in ["GET k", "CORRAL.INFO", "CORRAL.CONFIG GET *"] {
        assert!(!client.say(words).contains("hidden"), "{words}");
    }
}

#[test]
fn who_has_much_unread_for_long_is_cut_at_the_soft_limit() {
    let upstream = Server::redis(&[]);
    let limit = ["--client-output-buffer-limit", "normal 0 1mb 1"];
    let front = Server::front(&upstream, &limit);
    let mut other = front.connect();
    assert!(other.say("SETRANGE big 67108863 x").starts_with(':'));
    assert_eq!(other.ask(&[b"GET", b"big"]).len(), (64 << 20) + 13);
    let mut greedy = front.connect();
    assert_eq!(greedy.say("PING"), "+PONG\r\n");
    let since = clock::now();
    greedy.send(b"GET big\r\n");
    until("it is cut", || {
        let clients = other.say("CORRAL.CLIENT LIST");
        clients.matches("id=").count() == 1
    });
    assert!(since.elapsed() >= Duration::from_secs(1));
    assert_eq!(greedy.frame(), Err(Missing::Closed));
}

#[test]
fn a_client_has_so_many_bytes_of_requests_under_way() {
    const REQUESTS: usize = 30;
    /// And one request more, which is at most 256 KiB, and what the front asks for itself.
    const BYTES_MAX: usize = 1024 * 1024 + 256 * 1024 + 1024;
    let most = Arc::new(AtomicUsize::new(0));
    let most_ever = Arc::clone(&most);
    let port = answer(0, move |stream, requests| {
        let mut all = requests.to_vec();
        // Until nothing more comes.
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut bytes = vec![0; 1 << 16];
        while let Ok(len @ 1..) = stream.read(&mut bytes) {
            all.extend_from_slice(&bytes[..len]);
        }
        stream.set_read_timeout(None)?;
        most_ever.fetch_max(all.len(), Ordering::Relaxed);
        let replies = without_hello(&all, "+PONG\r\n").repeat(number_of_requests(&all));
        stream.write_all(replies.as_bytes())
    });
    let front = Server::corral(&["--upstream", &format!("redis://127.0.0.1:{port}")]);
    let mut client = front.connect();
    client.send(&request(&["ECHO", &"x".repeat(200 * 1024)]).repeat(REQUESTS));
    for _ in 0..REQUESTS {
        assert_eq!(client.frame(), Ok(b"+PONG\r\n".to_vec()));
    }
    let most = most.load(Ordering::Relaxed);
    assert!((200 * 1024..BYTES_MAX).contains(&most), "{most}");
}

#[test]
fn a_client_kills_scripts_one_connection_at_a_time() {
    const KILLS: usize = 20;
    const NOT_BUSY: &str = "-NOTBUSY No scripts in execution right now.\r\n";
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let most_ever = Arc::clone(&most);
    let port = answer(0, move |stream, requests| {
        let is_kill = memchr::memmem::find(requests, b"KILL").is_some();
        if is_kill {
            most_ever.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // Others come meanwhile, if any may.
            std::thread::sleep(Duration::from_millis(10));
            now.fetch_sub(1, Ordering::Relaxed);
        }
        let reply = if is_kill { NOT_BUSY } else { "+PONG\r\n" };
        let replies = without_hello(requests, reply).repeat(number_of_requests(requests));
        stream.write_all(replies.as_bytes())
    });
    let url = format!("redis://127.0.0.1:{port}");
    let front = Server::corral(&["--upstream", &url]);
    let mut client = front.connect();
    client.send(&request(&["SCRIPT", "KILL"]).repeat(KILLS));
    for _ in 0..KILLS {
        assert_eq!(client.frame(), Ok(NOT_BUSY.into()));
    }
    assert_eq!(most.load(Ordering::Relaxed), 1);
}
