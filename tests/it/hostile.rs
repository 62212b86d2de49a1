//! What must not hurt: broken framing, false claims, silence, too much of anything.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use crate::common::{
    Client, TestServer, bulk, connect, field, free_port, request, until, until_at_rest,
};

const INVALID_MULTIBULK: &[u8] = b"-ERR Protocol error: invalid multibulk length\r\n";
const INVALID_BULK: &[u8] = b"-ERR Protocol error: invalid bulk length\r\n";
const UNBALANCED: &[u8] = b"-ERR Protocol error: unbalanced quotes in request\r\n";

/// Larger than what the kernel takes for somebody who does not read.
const BIG: usize = 32 << 20;

/// The server as a process of its own, so that its memory can be told from that of the tests.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    /// On another port, if somebody else was quicker to take the first.
    fn start() -> Self {
        let started = (0..5).find_map(|_| Self::try_start(free_port()));
        started.expect("a server starts")
    }

    fn try_start(port: u16) -> Option<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corral"));
        // Variables of the tests are no settings.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CORRAL_") {
                command.env_remove(name);
            }
        }
        let child = command
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut server = Self { child, port };
        let mut has_ended = false;
        until("it listens", || {
            has_ended = server.child.try_wait().expect("a child").is_some();
            has_ended || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        (!has_ended).then_some(server)
    }

    fn connect(&self) -> Client {
        Client::new(connect(self.port))
    }

    /// Its memory in use, in bytes.
    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: Option<u64> = kib.and_then(|kib| kib.parse().ok());
        kib.expect("a number of kB") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What CLIENT LIST says of the client of this id.
fn client_line(asking: &mut Client, id: u64) -> Option<String> {
    let list = asking.bulk("CLIENT LIST\r\n");
    let mut lines = list.lines();
    lines
        .find(|line| field(line, "id") == id)
        .map(str::to_owned)
}

fn id_of(client: &mut Client) -> u64 {
    client.send("CLIENT ID\r\n");
    let line = client.line();
    let id = line.strip_prefix(':').and_then(|id| id.parse().ok());
    id.expect("an id")
}

#[test]
fn broken_framing_is_answered_in_redis_words_and_closes() {
    let server = TestServer::start();
    for (bytes, reply) in [
        (&b"*2147483648\r\n"[..], INVALID_MULTIBULK),
        (b"*99999999999999999999\r\n", INVALID_MULTIBULK),
        (b"*-9223372036854775809\r\n", INVALID_MULTIBULK),
        (b"*a\r\n", INVALID_MULTIBULK),
        (b"*+1\r\n", INVALID_MULTIBULK),
        (b"*\r\n", INVALID_MULTIBULK),
        (b"*1\r\n$-1\r\n", INVALID_BULK),
        (b"*1\r\n$536870913\r\n", INVALID_BULK),
        (b"*1\r\n$9223372036854775807\r\n", INVALID_BULK),
        (b"*1\r\n$x\r\n", INVALID_BULK),
        (
            b"*1\r\n:4\r\n",
            b"-ERR Protocol error: expected '$', got ':'\r\n",
        ),
        (
            b"*1\r\n\r\n",
            b"-ERR Protocol error: expected '$', got ' '\r\n",
        ),
        (
            b"*1\r\n\xff\r\n",
            b"-ERR Protocol error: expected '$', got '\xff'\r\n",
        ),
        (b"ECHO \"a\"b\r\n", UNBALANCED),
        (b"ECHO 'a\r\n", UNBALANCED),
    ] {
        let mut client = server.connect();
        client.ask(bytes, reply);
        client.expect_closed();
    }
}

#[test]
fn negative_and_empty_requests_are_passed_over() {
    let server = TestServer::start();
    let requests = "*-1\r\n*0\r\n*-2147483649\r\n\r\n\n  \r\nPING\r\n";
    server.connect().ask(requests, "+PONG\r\n");
}

#[test]
fn valid_requests_before_a_protocol_error_are_answered_first() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send("SET k v\r\nGET k\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n*1\r\n:1\r\nPING\r\n");
    client.expect("+OK\r\n$1\r\nv\r\n+PONG\r\n+PONG\r\n");
    client.expect("-ERR Protocol error: expected '$', got ':'\r\n");
    client.expect_closed();
}

#[test]
fn lines_without_an_end_are_cut_at_their_limit() {
    let server = TestServer::start();
    for (before, kind, error) in [
        ("", "", "too big inline request"),
        ("", "*", "too big mbulk count string"),
        ("*1\r\n", "$", "too big bulk count string"),
    ] {
        let mut client = server.connect();
        client.send(before);
        client.send(kind);
        client.send("1".repeat(65536 - kind.len()));
        client.expect_silence();
        client.ask("1", format!("-ERR Protocol error: {error}\r\n"));
        client.expect_closed();
    }
}

#[test]
fn what_is_announced_and_not_sent_takes_no_memory() {
    let server = Process::start();
    let before = server.resident();
    let mut claims: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for client in &mut claims {
        client.send("*2147483647\r\n$536870912\r\nabc");
    }
    let mut other = server.connect();
    for line in other.bulk("CLIENT LIST\r\n").lines() {
        assert!(field(line, "tot-mem") < 64 * 1024, "{line}");
    }
    let grown = server.resident().saturating_sub(before);
    assert!(
        grown < 16 << 20,
        "{grown} bytes for 200 claims of half a gigabyte"
    );
}

#[test]
fn a_hundred_thousand_nested_arrays_cost_one_connection() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send("*1\r\n*1\r\n");
    client.try_send(b"*1\r\n".repeat(100_000));
    client.expect("-ERR Protocol error: expected '$', got '*'\r\n");
    client.expect_closed();
    server.connect().ask("PING\r\n", "+PONG\r\n");
}

/// Some hundred requests of all forms, and their replies.
fn long_pipeline() -> (Vec<u8>, Vec<u8>) {
    let (mut sent, mut replies) = (Vec::new(), Vec::new());
    for number in 0..150 {
        let value = vec![b'v'; number * 3 % 101];
        sent.extend(request(&[b"SET", b"key", &value]));
        replies.extend(b"+OK\r\n");
        sent.extend(b"GET 'key'\r\n*0\r\n\r\n");
        replies.extend(bulk(&value));
        sent.extend(request(&[b"NOSUCH", b"\r\n"]));
        replies.extend(b"-ERR unknown command 'NOSUCH', with args beginning with: '  ' \r\n");
    }
    (sent, replies)
}

#[test]
fn a_pipeline_byte_by_byte_is_answered_like_one_in_a_piece() {
    let server = TestServer::start();
    let (sent, replies) = long_pipeline();
    server.connect().ask(&sent, &replies);
    let mut client = server.connect();
    for byte in &sent {
        client.send([*byte]);
    }
    client.expect(&replies);
}

#[test]
fn a_pipeline_in_random_pieces_is_answered_like_one_in_a_piece() {
    let server = TestServer::start();
    let (sent, replies) = long_pipeline();
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut client = server.connect();
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let piece;
            (piece, rest) = rest.split_at(random.random_range(1..=rest.len().min(700)));
            client.send(piece);
            if random.random_bool(0.2) {
                std::thread::yield_now();
            }
        }
        client.expect(&replies);
    }
}

#[test]
fn a_pipeline_larger_than_all_buffers_is_answered_whole() {
    const COUNT: usize = 500_000;
    let server = TestServer::start();
    let mut client = server.connect();
    let mut writer = Client::new(client.stream.try_clone().expect("a socket"));
    let writing = std::thread::spawn(move || writer.send(b"PING\r\n".repeat(COUNT)));
    for _ in 0..COUNT / 1000 {
        client.expect("+PONG\r\n".repeat(1000));
    }
    writing.join().expect("all was taken");
}

#[test]
fn browsers_are_cut_off() {
    let server = TestServer::start();
    for bytes in [
        "POST / HTTP/1.1\r\nHost: a\r\n\r\nSET k v\r\n",
        "Host: a\r\nPING\r\n",
        "hOsT:\r\nPING\r\n",
        "*1\r\n$4\r\npost\r\n",
    ] {
        let mut client = server.connect();
        client.send(bytes);
        client.expect_closed();
    }
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nSET k v\r\n");
    client.expect("-ERR wrong number of arguments for 'get' command\r\n");
    client.expect_closed();
    let mut other = server.connect();
    other.ask("EXISTS k\r\n", ":0\r\n");
    let error = "-ERR unknown command 'hosts:', with args beginning with: \r\n";
    other.ask("hosts:\r\n", error);
}

#[test]
fn a_tls_hello_on_the_plain_port_is_a_line_that_never_ends() {
    let server = TestServer::start();
    let mut client = server.connect();
    // Behind its zero byte no line's end is looked for, as in Redis.
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n\n");
    client.expect_silence();
    client.try_send([b'\n'; 65537]);
    client.expect("-ERR Protocol error: too big inline request\r\n");
    client.expect_closed();
}

#[test]
fn a_thousand_half_requests_leave_the_server_to_the_others() {
    let server = Process::start();
    let before = server.resident();
    let halves: Vec<_> = (0..1000)
        .map(|number| {
            let mut client = server.connect();
            client.send(&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nabc"[..number % 30]);
            client
        })
        .collect();
    let mut other = server.connect();
    let since = Instant::now();
    for _ in 0..100 {
        other.ask("PING\r\n", "+PONG\r\n");
    }
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    let each = server.resident().saturating_sub(before) / 1000;
    assert!(each < 40 * 1024, "{each} bytes for each connection");
    drop(halves);
    until("they are gone", || {
        other.bulk("CLIENT LIST\r\n").lines().count() == 1
    });
}

#[test]
fn a_connection_that_ends_in_mid_request_leaves_nothing_behind() {
    let server = TestServer::start();
    for bytes in [
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\nabc",
        "SET k v",
        "*",
        "MULTI\r\nSET k v\r\n",
    ] {
        server.connect().send(bytes);
    }
    let mut other = server.connect();
    until("they are gone", || {
        other.bulk("CLIENT LIST\r\n").lines().count() == 1
    });
    other.ask("EXISTS k\r\n", ":0\r\n");
}

#[test]
fn who_never_reads_waits_alone_and_gets_all_in_the_end() {
    const REPLIES: usize = 300;
    let server = TestServer::start();
    let value = vec![b'v'; 1 << 20];
    let mut other = server.connect();
    other.ask(request(&[b"SET", b"big", &value]), "+OK\r\n");
    let mut greedy = server.connect();
    let id = id_of(&mut greedy);
    greedy.send("GET big\r\n".repeat(REPLIES));
    until_at_rest("it is stuck", || {
        client_line(&mut other, id).map_or(0, |line| field(&line, "obl"))
    });
    for _ in 0..100 {
        other.ask("PING\r\n", "+PONG\r\n");
    }
    let line = client_line(&mut other, id).expect("it is there");
    assert!(field(&line, "obl") < 4 << 20, "{line}");
    for _ in 0..REPLIES {
        greedy.expect(bulk(&value));
    }
    greedy.ask("PING\r\n", "+PONG\r\n");
    let line = client_line(&mut other, id).expect("it is there");
    assert!(field(&line, "tot-mem") < 256 * 1024, "{line}");
}

#[test]
fn who_has_too_much_unread_is_cut_at_the_hard_limit() {
    let server = TestServer::with(&[("client-output-buffer-limit", "normal 1mb 0 0")]);
    let mut other = server.connect();
    other.ask(request(&[b"SET", b"big", &vec![b'v'; BIG]]), "+OK\r\n");
    let mut greedy = server.connect();
    let id = id_of(&mut greedy);
    greedy.send("GET big\r\n");
    until("it is cut", || client_line(&mut other, id).is_none());
    assert!(greedy.drain() < BIG);
    assert_eq!(server.instance.metrics.output_limit_closes.value(), 1);
}

#[test]
fn who_has_much_unread_for_long_is_cut_at_the_soft_limit() {
    let server = TestServer::with(&[("client-output-buffer-limit", "normal 0 1mb 1")]);
    let mut other = server.connect();
    other.ask(request(&[b"SET", b"big", &vec![b'v'; BIG]]), "+OK\r\n");
    let mut greedy = server.connect();
    let id = id_of(&mut greedy);
    let since = Instant::now();
    greedy.send("GET big\r\n");
    until("it is cut", || client_line(&mut other, id).is_none());
    assert!(
        since.elapsed() >= Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
    assert!(greedy.drain() < BIG);
    assert_eq!(server.instance.metrics.output_limit_closes.value(), 1);
}

#[test]
fn who_reads_gets_replies_above_the_soft_limit() {
    let server = TestServer::with(&[("client-output-buffer-limit", "normal 0 1mb 10")]);
    let mut client = server.connect();
    let value = vec![b'v'; BIG];
    client.ask(request(&[b"SET", b"big", &value]), "+OK\r\n");
    client.ask("GET big\r\n", bulk(&value));
}

#[test]
fn a_query_that_outgrows_its_limit_is_cut_without_a_word() {
    let server = TestServer::with(&[("client-query-buffer-limit", "1mb")]);
    let mut client = server.connect();
    client.ask(request(&[b"SET", b"k", &vec![b'v'; 1_000_000]]), "+OK\r\n");
    client.try_send(request(&[b"SET", b"k", &vec![b'v'; 2_000_000]]));
    client.expect_closed();
    server.connect().ask("STRLEN k\r\n", ":1000000\r\n");
    assert_eq!(server.instance.metrics.query_limit_closes.value(), 1);
}

#[test]
fn who_has_not_authenticated_may_send_little() {
    let server = TestServer::with(&[("requirepass", "secret")]);
    let noauth = "-NOAUTH Authentication required.\r\n";
    let mut client = server.connect();
    client.ask(request(&[&b"MGET"[..]; 10]), noauth);
    client.ask(request(&[b"SET", b"k", &[b'v'; 16384]]), noauth);
    let error = "-ERR unknown command 'NOSUCH', with args beginning with: \r\n";
    client.ask("NOSUCH\r\n", error);
    client.ask(
        "GET\r\n",
        "-ERR wrong number of arguments for 'get' command\r\n",
    );
    client.ask(
        "*11\r\n",
        "-ERR Protocol error: unauthenticated multibulk length\r\n",
    );
    client.expect_closed();
    for (length, reply) in [
        (
            16385,
            &b"-ERR Protocol error: unauthenticated bulk length\r\n"[..],
        ),
        (536_870_913, INVALID_BULK),
    ] {
        let mut client = server.connect();
        client.ask(format!("*2\r\n$4\r\nECHO\r\n${length}\r\n"), reply);
        client.expect_closed();
    }
}

#[test]
fn the_limits_go_with_the_authentication_in_mid_pipeline() {
    let server = TestServer::with(&[("requirepass", "secret")]);
    let mut client = server.connect();
    client.send([&b"AUTH secret\r\n"[..], &request(&[&b"DEL"[..]; 12])].concat());
    client.expect("+OK\r\n:0\r\n");
    client.ask("RESET\r\n", "+RESET\r\n");
    client.ask(
        "*11\r\n",
        "-ERR Protocol error: unauthenticated multibulk length\r\n",
    );
    client.expect_closed();
}

#[test]
fn one_client_too_many_is_told_and_its_place_is_free_again_later() {
    let server = TestServer::with(&[("maxclients", "3")]);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("PING\r\n", "+PONG\r\n");
    }
    for _ in 0..5 {
        let mut refused = server.connect();
        refused.expect("-ERR max number of clients reached\r\n");
        refused.expect_closed();
    }
    assert_eq!(server.instance.metrics.rejected_connections.value(), 5);
    clients.pop();
    until("a place is free", || {
        let mut client = server.connect();
        client.try_send("PING\r\n");
        // Refused or served, a line comes.
        client.line() == "+PONG"
    });
}

#[test]
fn idle_clients_are_closed_and_busy_ones_are_not() {
    let server = TestServer::with(&[("timeout", "1")]);
    let (mut idle, mut busy) = (server.connect(), server.connect());
    let id = id_of(&mut idle);
    let since = Instant::now();
    until("the idle one is closed", || {
        client_line(&mut busy, id).is_none()
    });
    assert!(
        since.elapsed() >= Duration::from_millis(900),
        "{:?}",
        since.elapsed()
    );
    idle.expect_closed();
    busy.ask("PING\r\n", "+PONG\r\n");
}

#[test]
fn a_monitor_that_does_not_read_is_cut_and_delays_nobody() {
    let server = TestServer::with(&[("client-output-buffer-limit", "normal 1mb 0 0")]);
    let mut monitor = server.connect();
    let id = id_of(&mut monitor);
    monitor.ask("MONITOR\r\n", "+OK\r\n");
    let mut other = server.connect();
    let value = vec![b'v'; 100_000];
    for _ in 0..300 {
        other.ask(request(&[b"ECHO", &value]), bulk(&value));
    }
    until("it is cut", || client_line(&mut other, id).is_none());
    assert!(monitor.drain() < 300 * value.len());
    assert!(!server.instance.clients.has_monitors());
}

#[test]
fn wide_and_long_requests_give_their_memory_back() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask(request(&[&b"DEL"[..]; 100_000]), ":0\r\n");
    let value = vec![b'v'; 1 << 20];
    client.ask(request(&[b"ECHO", &value]), bulk(&value));
    client.ask("PING\r\n", "+PONG\r\n");
    let line = client.bulk("CLIENT INFO\r\n");
    assert!(field(&line, "tot-mem") < 256 * 1024, "{line}");
}
