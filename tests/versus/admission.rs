//! A front whose copies are hardly ever read again stores what is read for the second time.

use std::fmt::Write as _;

use super::common::{Client, Server};
use super::near::{coherent, number_of, until};

/// Keys read at once.
const BATCH: usize = 500;

/// A front, of an upstream that has no key, that has seen nothing but a scan.
fn scanned(upstream: &Server, args: &[&str]) -> Server {
    let front = coherent(upstream, args);
    let mut client = front.connect();
    let mut scans = 0;
    until("it is picky", || {
        scan(&mut client, &format!("scan:{scans}"), 4 * BATCH);
        scans += 1;
        number_of(&front, "near_picky") == 1
    });
    front
}

/// Reads so many keys that nobody has read.
fn scan(client: &mut Client, name: &str, count: usize) {
    for from in (0..count).step_by(BATCH) {
        let mut requests = String::new();
        for number in from..from + BATCH {
            write!(requests, "GET {name}:{number}\r\n").expect("it fits");
        }
        client.send(requests.as_bytes());
        for _ in 0..BATCH {
            client.frame().expect("a reply");
        }
    }
}

/// How often upstream has run a command.
fn calls(direct: &mut Client, command: &str) -> u64 {
    let info = direct.say("INFO commandstats");
    let line = format!("cmdstat_{command}:calls=");
    let mut lines = info.lines().filter_map(|rest| rest.strip_prefix(&*line));
    let calls = lines.next().and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

/// Keys that upstream remembers to tell changes of.
fn tracked(direct: &mut Client) -> u64 {
    let info = direct.say("INFO stats");
    let mut lines = info.lines();
    let keys = lines.find_map(|line| line.strip_prefix("tracking_total_keys:"));
    keys.expect("it tells").parse().expect("a number")
}

#[test]
fn a_scan_costs_upstream_one_command_a_read_and_is_not_kept() {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    let front = scanned(&upstream, &[]);
    let mut client = front.connect();
    let counted = |direct: &mut Client| (calls(direct, "get"), calls(direct, "pttl"));
    let before = (counted(&mut direct), number_of(&front, "near_passed_over"));
    let entries = number_of(&front, "near_entries");
    scan(&mut client, "new", 2 * BATCH);
    let after = (counted(&mut direct), number_of(&front, "near_passed_over"));
    assert_eq!(after.0.0 - before.0.0, 1000);
    // By chance, a key is taken for one that was read.
    let kept = after.0.1 - before.0.1;
    assert!(kept < 50, "{kept}");
    assert_eq!(after.1 - before.1, 1000 - kept);
    assert_eq!(number_of(&front, "near_entries"), entries + kept);
}

#[test]
fn upstream_tracks_no_more_of_a_scan_than_is_kept() {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    let front = scanned(&upstream, &[]);
    let mut client = front.connect();
    scan(&mut client, "first", BATCH);
    let counted = |direct: &mut Client| {
        let announced = calls(direct, "client|caching");
        (
            tracked(direct),
            announced,
            number_of(&front, "near_entries"),
        )
    };
    let before = counted(&mut direct);
    scan(&mut client, "new", 2 * BATCH);
    let after = counted(&mut direct);
    let kept = after.2 - before.2;
    assert!(kept < 50, "{kept}");
    assert_eq!((after.0 - before.0, after.1 - before.1), (kept, kept));
    // What is kept is tracked.
    assert_eq!(direct.say("SET k old"), "+OK\r\n");
    for _ in 0..3 {
        assert_eq!(client.say("GET k"), "$3\r\nold\r\n");
    }
    assert_eq!(direct.say("SET k new"), "+OK\r\n");
    until("the change is seen", || client.say("GET k").contains("new"));
}

#[test]
fn an_upstream_that_cannot_be_told_which_reads_to_track_tracks_them_all() {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    assert_eq!(direct.say("ACL SETUSER default -client|caching"), "+OK\r\n");
    let front = scanned(&upstream, &[]);
    let mut client = front.connect();
    for key in ["a", "b", "c"] {
        assert_eq!(direct.say(&format!("SET {key} old")), "+OK\r\n");
        until("it is kept", || {
            let hits = number_of(&front, "near_hits");
            assert_eq!(client.say(&format!("GET {key}")), "$3\r\nold\r\n");
            number_of(&front, "near_hits") > hits
        });
        assert_eq!(direct.say(&format!("SET {key} new")), "+OK\r\n");
        until("the change is seen", || {
            client.say(&format!("GET {key}")).contains("new")
        });
    }
    let before = tracked(&mut direct);
    scan(&mut client, "new", 2 * BATCH);
    assert_eq!(tracked(&mut direct) - before, 1000);
}

#[test]
fn an_upstream_that_is_busy_for_a_while_is_told_again_which_reads_to_track() {
    let upstream = Server::redis(&["--busy-reply-threshold", "10"]);
    let mut direct = upstream.connect();
    let front = scanned(&upstream, &[]);
    let mut client = front.connect();
    // Noted, so that the next read of it is announced.
    client.say("GET k");
    upstream.connect().send(b"EVAL \"while true do end\" 0\r\n");
    until("it is busy", || direct.say("PING").starts_with("-BUSY"));
    let reply = client.say("GET k");
    assert!(reply.starts_with("-BUSY"), "{reply}");
    assert_eq!(direct.say("SCRIPT KILL"), "+OK\r\n");
    until("it is told again", || {
        let announced = calls(&mut direct, "client|caching");
        scan(&mut client, "first", BATCH);
        calls(&mut direct, "client|caching") > announced
    });
    let before = (tracked(&mut direct), number_of(&front, "near_entries"));
    scan(&mut client, "new", 2 * BATCH);
    let kept = number_of(&front, "near_entries") - before.1;
    assert_eq!(tracked(&mut direct) - before.0, kept);
    assert!(kept < 50, "{kept}");
}

#[test]
fn what_is_read_again_is_kept_whichever_command_reads_it() {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    assert_eq!(direct.say("MSET a 1 b 2 c 3 d 4"), "+OK\r\n");
    let front = scanned(&upstream, &[]);
    let mut client = front.connect();
    let mut read = |words: &str| {
        let before = number_of(&front, "near_hits");
        let reply = client.say(words);
        (reply, number_of(&front, "near_hits") - before)
    };
    for hits in [0, 0, 1] {
        assert_eq!(read("GET a"), ("$1\r\n1\r\n".to_owned(), hits));
    }
    let both = "*2\r\n$1\r\n2\r\n$1\r\n3\r\n".to_owned();
    for hits in [0, 0, 2] {
        assert_eq!(read("MGET b c"), (both.clone(), hits));
    }
    for hits in [0, 0, 1] {
        assert_eq!(read("STRLEN d"), (":1\r\n".to_owned(), hits));
    }
    // A change is seen all the same, and what it left is kept when it is read again.
    assert_eq!(client.say("SET a new"), "+OK\r\n");
    let explained = client.say("CACHE.EXPLAIN a");
    assert!(
        explained.contains("not keep the reply before it is read again"),
        "{explained}"
    );
    let mut read = |words: &str| client.say(words);
    assert_eq!(read("GET a"), "$3\r\nnew\r\n");
    assert_eq!(read("GET a"), "$3\r\nnew\r\n");
    let hits = number_of(&front, "near_hits");
    assert_eq!(read("GET a"), "$3\r\nnew\r\n");
    assert_eq!(number_of(&front, "near_hits"), hits + 1);
}

#[test]
fn a_value_that_expires_is_served_no_longer_however_it_was_read() {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    let front = scanned(&upstream, &[]);
    let mut clients: Vec<Client> = (0..4).map(|_| front.connect()).collect();
    assert_eq!(direct.say("SET k v PX 200"), "+OK\r\n");
    let mut replies = Vec::new();
    until("it is gone", || {
        for client in &mut clients {
            client.send(b"GET k\r\n");
        }
        let mut is_gone = false;
        for client in &mut clients {
            let reply = client.frame().expect("a reply");
            is_gone |= reply == b"$-1\r\n";
            replies.push(reply);
        }
        is_gone
    });
    // Nobody sees it again.
    let gone = replies.iter().position(|reply| reply == b"$-1\r\n");
    let next = gone.expect("it is gone").next_multiple_of(4);
    assert!(replies[next..].iter().all(|reply| reply == b"$-1\r\n"));
    assert_eq!(clients[0].say("GET k"), "$-1\r\n");
}

#[test]
fn when_copies_are_read_again_all_is_kept_at_once() {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    let front = scanned(&upstream, &[]);
    let mut client = front.connect();
    until("it is not picky any more", || {
        scan(&mut client, "hot", 2 * BATCH);
        number_of(&front, "near_picky") == 0
    });
    client.say("GET once");
    let hits = number_of(&front, "near_hits");
    client.say("GET once");
    assert_eq!(number_of(&front, "near_hits"), hits + 1);
    // Upstream tracks all again.
    assert_eq!(direct.say("SET once new"), "+OK\r\n");
    until("the change is seen", || {
        client.say("GET once").contains("new")
    });
}
