//! A front whose upstream fails: what is served meanwhile.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corral::clock;

use super::common::{Client, Missing, Server, request};
use super::fake::{answer, number_of_requests, without_hello};
use super::near::{coherent, keep, number_of, until};

const OK: &str = "+OK\r\n";
const VALUE: &str = "$1\r\nv\r\n";

/// A front with copies of `k` and `l`, and a client of it.
fn with_copies(upstream: &Server, args: &[&str]) -> (Server, Client) {
    let front = coherent(upstream, args);
    let mut client = front.connect();
    assert_eq!(client.say("MSET k v l w"), OK);
    keep(&front, &mut client, "GET k");
    keep(&front, &mut client, "GET l");
    (front, client)
}

/// Waits until reads of what is not here fail.
fn until_down(client: &mut Client) {
    until("upstream is known to be down", || {
        client.say("GET absent").starts_with("-ERR upstream ")
    });
}

#[test]
fn copies_are_served_while_upstream_is_gone_where_that_is_allowed() {
    let upstream = Server::redis(&[]);
    let (front, mut client) = with_copies(&upstream, &["--stale-if-error", "60"]);
    drop(upstream);
    until_down(&mut client);
    let before = number_of(&front, "near_stale_hits");
    assert_eq!(client.say("GET k"), VALUE);
    assert_eq!(client.say("MGET l k"), "*2\r\n$1\r\nw\r\n$1\r\nv\r\n");
    assert_eq!(number_of(&front, "near_stale_hits"), before + 3);
    // Of what was never read, in part or at all, there is nothing to serve.
    for words in ["MGET k absent", "GET absent", "STRLEN k"] {
        let reply = client.say(words);
        assert!(reply.starts_with("-ERR upstream "), "{words}: {reply}");
    }
    // A write that failed may have been run all the same.
    let reply = client.say("SET k new");
    assert!(reply.starts_with("-ERR upstream "), "{reply}");
    let reply = client.say("GET k");
    assert!(reply.starts_with("-ERR upstream "), "{reply}");
    assert_eq!(client.say("CORRAL.CONFIG SET stale-if-error 0"), OK);
    let reply = client.say("GET l");
    assert!(reply.starts_with("-ERR upstream "), "{reply}");
}

#[test]
fn what_was_voided_is_not_served_when_upstream_is_gone() {
    let upstream = Server::redis(&[]);
    let (front, mut client) = with_copies(&upstream, &["--stale-if-error", "60"]);
    let effective = number_of(&front, "near_invalidations_effective");
    assert_eq!(upstream.connect().say("SET k other"), OK);
    until("it is told", || {
        number_of(&front, "near_invalidations_effective") > effective
    });
    drop(upstream);
    until_down(&mut client);
    let reply = client.say("GET k");
    assert!(reply.starts_with("-ERR upstream "), "{reply}");
    assert_eq!(client.say("GET l"), "$1\r\nw\r\n");
}

#[test]
fn copies_are_served_for_so_long_only() {
    let upstream = Server::redis(&[]);
    let (_front, mut client) = with_copies(&upstream, &["--stale-if-error", "1"]);
    drop(upstream);
    until_down(&mut client);
    assert_eq!(client.say("GET k"), VALUE);
    until("it is too old", || {
        client.say("GET k").starts_with("-ERR upstream ")
    });
}

#[test]
fn a_silent_upstream_is_waited_for_once() {
    let upstream = Server::redis(&[]);
    let args = ["--stale-if-error", "60", "--upstream-timeout", "1000"];
    let (front, mut client) = with_copies(&upstream, &args);
    let mut other = front.connect();
    upstream.signal("STOP");
    until("it is not coherent", || number_of(&front, "coherent") == 0);
    // Both wait for the same read.
    client.send(b"GET k\r\n");
    other.send(b"GET k\r\n");
    for client in [&mut client, &mut other] {
        assert_eq!(client.frame(), Ok(VALUE.as_bytes().to_vec()));
    }
    let since = clock::now();
    for _ in 0..10 {
        assert_eq!(client.say("GET k"), VALUE);
    }
    let took = since.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    upstream.signal("CONT");
    assert_eq!(upstream.connect().say("SET k new"), OK);
    until("it is read again", || {
        client.say("GET k") == "$3\r\nnew\r\n"
    });
}

#[test]
fn an_upstream_that_is_loading_has_failed() {
    let upstream = Server::redis(&[]);
    let (front, mut client) = with_copies(&upstream, &["--stale-if-error", "60"]);
    let port = upstream.port;
    drop(upstream);
    until_down(&mut client);
    loading(port);
    until("it says so", || {
        client.say("GET absent").starts_with("-LOADING")
    });
    assert_eq!(client.say("GET k"), VALUE);
    assert!(number_of(&front, "near_stale_hits") > 0);
}

/// What answers everything as a Redis that loads its data.
fn loading(port: u16) {
    answer(port, |stream, requests| {
        let reply = "-LOADING Redis is loading the dataset in memory\r\n";
        stream.write_all(reply.repeat(number_of_requests(requests)).as_bytes())
    });
}

#[test]
fn a_reply_that_breaks_off_ends_its_clients_connection_and_no_others() {
    let front = before_one_that_breaks_off(b"ECHO");
    let (mut torn, mut other) = (front.connect(), front.connect());
    until("it is connected", || other.say("PING") == "+PONG\r\n");
    torn.send(b"ECHO something\r\nPING\r\n");
    assert_eq!(torn.frame(), Err(Missing::Closed));
    until("others are answered", || other.say("PING") == "+PONG\r\n");
}

#[test]
fn a_reply_that_breaks_off_while_it_is_held_back_is_an_error() {
    let front = before_one_that_breaks_off(b"SOME.COMMAND");
    let mut client = front.connect();
    until("it is connected", || client.say("PING") == "+PONG\r\n");
    let reply = client.say("SOME.COMMAND k");
    assert!(reply.starts_with("-ERR upstream "), "{reply}");
    until("it is answered", || client.say("PING") == "+PONG\r\n");
}

/// A front of what answers every request with PONG, and closes in the middle of the reply to one of
/// this name.
fn before_one_that_breaks_off(name: &'static [u8]) -> Server {
    let port = answer(0, move |stream, requests| {
        if memchr::memmem::find(requests, name).is_some() {
            stream.write_all(b"$10\r\nhalf")?;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let pong = without_hello(requests, "+PONG\r\n");
        stream.write_all(pong.repeat(number_of_requests(requests)).as_bytes())
    });
    let url = format!("redis://127.0.0.1:{port}");
    Server::corral(&["--upstream", &url, "--io-threads", "1"])
}

#[test]
fn a_connection_that_was_opened_is_not_stormed() {
    const CLIENTS: usize = 600;
    /// 64 reads, and what the front asks for itself.
    const UNDER_WAY_MAX: usize = 128;
    let most = Arc::new(AtomicUsize::new(0));
    let url = format!("redis://127.0.0.1:{}", slow(&most));
    let front = Server::corral(&["--upstream", &url, "--io-threads", "1"]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| front.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&request(&["GET", &format!("key:{number}")]));
        client.send(&request(&["GET", &format!("other:{number}")]));
    }
    for client in &mut clients {
        assert_eq!(client.frame(), Ok(b"$-1\r\n".to_vec()));
        assert_eq!(client.frame(), Ok(b"$-1\r\n".to_vec()));
    }
    let stormed = most.swap(0, Ordering::Relaxed);
    assert!((2..=UNDER_WAY_MAX).contains(&stormed), "{stormed}");
    // Later they may go together.
    std::thread::sleep(Duration::from_millis(2100));
    front.connect().ask(&[b"GET", b"k"]);
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&request(&["GET", &format!("new:{number}")]));
    }
    for client in &mut clients {
        assert_eq!(client.frame(), Ok(b"$-1\r\n".to_vec()));
    }
    assert!(most.load(Ordering::Relaxed) > UNDER_WAY_MAX);
}

/// Answers all that it has been sent within a while with nil, and remembers how much that was at
/// most. It tells no changes. Returns its port.
fn slow(most: &Arc<AtomicUsize>) -> u16 {
    let most = Arc::clone(most);
    answer(0, move |stream, requests| {
        std::thread::sleep(Duration::from_millis(20));
        stream.set_nonblocking(true)?;
        let mut bytes = vec![0; 1 << 20];
        let len = stream.read(&mut bytes).unwrap_or(0);
        stream.set_nonblocking(false)?;
        let number = number_of_requests(requests) + number_of_requests(&bytes[..len]);
        most.fetch_max(number, Ordering::Relaxed);
        stream.write_all(without_hello(requests, "$-1\r\n").repeat(number).as_bytes())
    })
}
