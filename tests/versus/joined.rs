//! A read that waits for another client's, which may go over another connection upstream.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::common::{Client, Server, request};
use super::fake::{answer, without_hello};
use super::near::{number_of, until};

/// An upstream of one key, and when it answers.
#[derive(Default)]
struct Held {
    gets: AtomicUsize,
    is_set: AtomicBool,
    may_answer: AtomicBool,
}

impl Held {
    /// Answers a GET when it may, or when it can be seen that it is run behind a SET.
    fn reply(&self, request: &[u8]) -> &'static str {
        let is = |name: &[u8]| memchr::memmem::find(request, name).is_some();
        if is(b"$3\r\nSET\r\n") {
            self.is_set.store(true, Ordering::Relaxed);
            return "+OK\r\n";
        }
        if !is(b"$3\r\nGET\r\n") {
            return without_hello(request, ":-1\r\n");
        }
        self.gets.fetch_add(1, Ordering::Relaxed);
        until("a GET may be answered", || {
            self.is_set.load(Ordering::Relaxed) || self.may_answer.load(Ordering::Relaxed)
        });
        match self.is_set.load(Ordering::Relaxed) {
            true => "$3\r\nnew\r\n",
            false => "$3\r\nold\r\n",
        }
    }
}

#[test]
fn a_read_that_joins_another_does_not_see_what_its_client_writes_next() {
    const CLIENTS: usize = 4;
    let held = Arc::new(Held::default());
    let upstream = Arc::clone(&held);
    let port = answer(0, move |stream, requests| {
        let starts = memchr::memchr_iter(b'*', requests);
        let ends = starts.clone().skip(1).chain([requests.len()]);
        let replies: String = starts
            .zip(ends)
            .map(|(start, end)| upstream.reply(&requests[start..end]))
            .collect();
        stream.write_all(replies.as_bytes())
    });
    let url = format!("redis://127.0.0.1:{port}");
    let front = Server::corral(&[
        "--upstream",
        &url,
        "--io-threads",
        "2",
        "--staleness-bound",
        "10000",
    ]);
    let mut leader = front.connect();
    // Of both threads, each of which has its own connection upstream.
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| front.connect()).collect();
    for client in &mut clients {
        client.send(&request(&["ECHO", "opens the connection"]));
        client.frame().expect("an answer");
    }
    until("both connections are ready", || {
        let info = front.connect().say("CORRAL.INFO upstream");
        let ready = "protocol=2,state=open,waiting=0,armed=1";
        info.matches(ready).count() == 2
    });
    let get = request(&["GET", "k"]);
    leader.send(&get);
    until("it is under way", || held.gets.load(Ordering::Relaxed) == 1);
    for client in &mut clients {
        client.send(&[&*get, &get, &request(&["SET", "k", "new"])].concat());
    }
    until("they wait for it", || {
        number_of(&front, "near_joined") == CLIENTS as u64
    });
    // What was taken with them has left by now.
    (0..20).for_each(|_| drop(front.connect().say("CORRAL.INFO near")));
    assert!(!held.is_set.load(Ordering::Relaxed));
    held.may_answer.store(true, Ordering::Relaxed);
    for client in clients.iter_mut().chain([&mut leader]) {
        assert_eq!(client.frame(), Ok(b"$3\r\nold\r\n".to_vec()));
    }
    for client in &mut clients {
        client.frame().expect("the second read");
        assert_eq!(client.frame(), Ok(b"+OK\r\n".to_vec()));
    }
}
