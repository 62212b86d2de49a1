//! Tags: keys that belong together, and leave together.

use std::collections::BTreeSet;

use crate::common::{Client, TestServer, bulk, request, until};

/// A request of words, in wire form.
fn words(line: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    request(&words)
}

/// A set as RESP2 sends it.
fn list(words: &[&str]) -> String {
    let head = format!("*{}\r\n", words.len());
    let bulks = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()));
    head + &bulks.collect::<String>()
}

/// Reads an array of bulk strings.
#[track_caller]
fn names(client: &mut Client) -> Vec<String> {
    let header = client.line();
    let len: usize = header[1..].parse().expect("a length");
    (0..len).map(|_| client.bulk("")).collect()
}

#[test]
fn keys_of_a_tag_leave_at_once() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask(words("SET post:1 a EX 300 TAGS 2 user:42 posts"), "+OK\r\n");
    client.ask(words("SET page:/home b"), "+OK\r\n");
    client.ask(words("TAG.ADD page:/home user:42 user:42"), ":1\r\n");
    client.ask(words("TAG.ADD page:/home user:42"), ":0\r\n");
    client.ask(words("TAG.ADD nothing user:42"), ":0\r\n");
    client.ask(words("TAG.OF post:1"), list(&["user:42", "posts"]));
    client.ask(words("TAG.CARD user:42"), ":2\r\n");
    client.ask(words("TAG.INVALIDATE user:42"), ":2\r\n");
    client.ask(words("MGET post:1 page:/home"), "*2\r\n$-1\r\n$-1\r\n");
    client.ask(words("TAG.CARD posts"), ":0\r\n");
    client.ask(words("TAG.MEMBERS posts"), "*0\r\n");
    client.ask(words("TAG.OF post:1"), "*0\r\n");
    client.ask(words("TAG.INVALIDATE user:42 posts never"), ":0\r\n");
    client.ask(words("DBSIZE"), ":0\r\n");
}

#[test]
fn tags_are_sets_to_a_client_of_resp3() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send(words("HELLO 3"));
    client.send(words("SET k v TAGS 1 a"));
    while client.line() != "+OK" {}
    client.ask(words("TAG.OF k"), "~1\r\n$1\r\na\r\n");
    client.ask(words("TAG.MEMBERS a"), "~1\r\n$1\r\nk\r\n");
    client.ask(
        words("TAG.SCAN 0 COUNT 100000"),
        "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n",
    );
    client.ask(words("TAG.REM k a b"), ":1\r\n");
    client.ask(words("TAG.OF k"), "~0\r\n");
    client.ask(words("SET k w GET TAGS 1 b"), "$1\r\nv\r\n");
    client.ask(words("SET k x NX GET TAGS 1 c"), "$1\r\nw\r\n");
    client.ask(words("SET k x NX TAGS 1 c"), "_\r\n");
    client.ask(words("SET other x XX TAGS 1 c"), "_\r\n");
    client.ask(words("TAG.OF k"), "~1\r\n$1\r\nb\r\n");
}

#[test]
fn a_write_leaves_the_tags_of_before_and_a_change_keeps_them() {
    let server = TestServer::start();
    let mut client = server.connect();
    for change in [
        "INCR k",
        "APPEND k 0",
        "SETRANGE k 0 7",
        "EXPIRE k 100",
        "PERSIST k",
    ] {
        client.ask(words("SET k 1 TAGS 1 t"), "+OK\r\n");
        client.send(words(change));
        client.line();
        client.ask(words("TAG.MEMBERS t"), list(&["k"]));
    }
    for write in [
        "SET k 2",
        "SET k 2 KEEPTTL",
        "MSET k 2",
        "GETSET k 2",
        "SETEX k 9 2",
    ] {
        client.ask(words("SET k 1 TAGS 1 t"), "+OK\r\n");
        client.send(words(write));
        if client.line() == "$1" {
            client.expect("1\r\n");
        }
        client.ask(words("TAG.CARD t"), ":0\r\n");
    }
    for removal in [
        "DEL k",
        "UNLINK k",
        "PEXPIRE k 0",
        "SET k v PXAT 1",
        "FLUSHDB",
        "FLUSHALL ASYNC",
    ] {
        client.ask(words("SET k 1 TAGS 1 t"), "+OK\r\n");
        client.send(words(removal));
        client.line();
        client.ask(words("TAG.CARD t"), ":0\r\n");
        client.ask(words("TAG.SCAN 0 COUNT 100000"), "*2\r\n$1\r\n0\r\n*0\r\n");
    }
    client.ask(words("SET k 1 PX 1 TAGS 1 t"), "+OK\r\n");
    until("the key has left its tag", || {
        client.send(words("TAG.CARD t"));
        client.line() == ":0"
    });
}

#[test]
fn tags_go_where_their_key_goes() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask(words("SET a 1 TAGS 1 t"), "+OK\r\n");
    client.ask(words("COPY a b"), ":1\r\n");
    client.ask(words("RENAME a c"), "+OK\r\n");
    client.ask(words("TAG.CARD t"), ":2\r\n");
    client.ask(words("MOVE b 1"), ":1\r\n");
    client.ask(words("TAG.MEMBERS t"), list(&["c"]));
    client.ask(words("COPY c d DB 1"), ":1\r\n");
    client.ask(words("SELECT 1"), "+OK\r\n");
    client.ask(words("TAG.CARD t"), ":2\r\n");
    client.ask(words("SWAPDB 0 1"), "+OK\r\n");
    client.ask(words("TAG.MEMBERS t"), list(&["c"]));
    client.ask(words("TAG.INVALIDATE t"), ":1\r\n");
    client.ask(words("EXISTS c"), ":0\r\n");
    client.ask(words("SELECT 0"), "+OK\r\n");
    client.ask(words("EXISTS b d"), ":2\r\n");
    client.ask(words("FLUSHDB"), "+OK\r\n");
    client.ask(words("TAG.CARD t"), ":0\r\n");
}

#[test]
fn a_key_has_128_tags_of_1024_bytes_at_most() {
    let server = TestServer::start();
    let mut client = server.connect();
    let names: Vec<String> = (0..129).map(|name| name.to_string()).collect();
    let line = |count: usize| format!("SET k v TAGS {count} {}", names[..count].join(" "));
    client.ask(words(&line(128)), "+OK\r\n");
    let refused = "-ERR a key has at most 128 tags\r\n";
    client.ask(words(&line(129)), refused);
    client.ask(words("TAG.ADD k 0 127"), ":0\r\n");
    client.ask(words("TAG.ADD k one-more"), refused);
    client.ask(words(&format!("TAG.ADD k {}", names.join(" "))), refused);
    let (long, longer) = ([b'l'; 1024], [b'l'; 1025]);
    let refused = "-ERR a tag has 1 to 1024 bytes\r\n";
    client.ask(
        request(&[b"SET", b"l", b"v", b"TAGS", b"1", &long]),
        "+OK\r\n",
    );
    client.ask(
        request(&[b"SET", b"l", b"w", b"TAGS", b"1", &longer]),
        refused,
    );
    client.ask(request(&[b"SET", b"l", b"w", b"TAGS", b"1", b""]), refused);
    client.ask(request(&[b"TAG.ADD", b"l", &longer]), refused);
    client.ask(request(&[b"TAG.ADD", b"l", b""]), refused);
    client.ask(
        request(&[b"TAG.OF", b"l"]),
        [b"*1\r\n", &bulk(&long)[..]].concat(),
    );
    client.ask(request(&[b"TAG.INVALIDATE", &longer]), ":0\r\n");
    client.ask(request(&[b"TAG.INVALIDATE", &long]), ":1\r\n");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let server = TestServer::start();
    let mut client = server.connect();
    for (line, error) in [
        ("SET k v TAGS", "ERR syntax error"),
        ("SET k v TAGS 2 a", "ERR syntax error"),
        ("SET k v TAGS 1 a TAGS 1 b", "ERR syntax error"),
        ("SET k v TAGS 1 a b", "ERR syntax error"),
        (
            "SET k v TAGS x a",
            "ERR value is not an integer or out of range",
        ),
        ("SET k v TAGS 0", "ERR TAGS is followed by how many"),
        ("SET k v TAGS -1 a", "ERR TAGS is followed by how many"),
        ("SET k v TAGS 9223372036854775807 a", "ERR syntax error"),
        (
            "TAG.ADD k",
            "ERR wrong number of arguments for 'tag.add' command",
        ),
        (
            "TAG.INVALIDATE",
            "ERR wrong number of arguments for 'tag.invalidate' command",
        ),
        ("TAG.SCAN x", "ERR invalid cursor"),
        ("TAG.SCAN 0 COUNT 0", "ERR syntax error"),
        (
            "TAG.SCAN 0 COUNT x",
            "ERR value is not an integer or out of range",
        ),
        ("TAG.SCAN 0 TYPE string", "ERR syntax error"),
    ] {
        client.ask(words(line), format!("-{error}\r\n"));
    }
    client.ask(words("EXISTS k"), ":0\r\n");
    // A lone argument is a tag, whatever it says.
    client.ask(words("SET k v TAGS 1 soft"), "+OK\r\n");
    client.ask(words("TAG.INVALIDATE soft"), ":1\r\n");
}

#[test]
fn who_carries_several_tags_counts_for_each() {
    let server = TestServer::start();
    let mut client = server.connect();
    for keys in [1, 40] {
        for key in 0..keys {
            client.ask(words(&format!("SET k{key} v TAGS 2 a b")), "+OK\r\n");
        }
        client.ask(words("TAG.INVALIDATE a b"), format!(":{}\r\n", 2 * keys));
    }
}

#[test]
fn soft_takes_what_may_not_be_served_stale() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask(words("SET k v TAGS 1 t"), "+OK\r\n");
    client.ask(words("SET timed v EX 100 TAGS 1 t"), "+OK\r\n");
    client.ask(words("TAG.INVALIDATE SOFT t"), ":2\r\n");
    client.ask(words("EXISTS k timed"), ":0\r\n");
    client.ask(words("TAG.MEMBERS t"), "*0\r\n");
    client.ask(words("SET k w TAGS 1 t"), "+OK\r\n");
    client.ask(words("GET k"), "$1\r\nw\r\n");
}

#[test]
fn a_scan_returns_every_tag_that_stays() {
    let server = TestServer::start();
    let mut client = server.connect();
    for tag in 0..300 {
        client.ask(
            words(&format!("SET k{tag} v TAGS 2 stays:{tag} goes:{tag}")),
            "+OK\r\n",
        );
    }
    let (mut seen, mut cursor, mut round) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        client.send(words(&format!("TAG.SCAN {cursor} MATCH stays:* COUNT 20")));
        client.expect("*2\r\n");
        cursor = client.bulk("");
        for name in names(&mut client) {
            assert!(seen.insert(name.clone()), "{name} is returned once");
        }
        if cursor == "0" {
            break;
        }
        // Others come and go meanwhile.
        client.ask(words(&format!("TAG.INVALIDATE none:{round}")), ":0\r\n");
        client.ask(words(&format!("TAG.REM k{round} goes:{round}")), ":1\r\n");
        client.ask(
            words(&format!("SET new{round} v TAGS 1 new:{round}")),
            "+OK\r\n",
        );
        round = (round + 1) % 300;
    }
    assert_eq!(seen.len(), 300);
}

#[test]
fn a_transaction_is_void_when_the_tag_of_a_watched_key_is_invalidated() {
    let server = TestServer::start();
    let (mut client, mut other) = (server.connect(), server.connect());
    for (keys, is_soft) in [(1, false), (1, true), (100, false), (100, true)] {
        for key in 0..keys {
            client.ask(words(&format!("SET k{key} v EX 100 TAGS 1 t")), "+OK\r\n");
        }
        let last = keys - 1;
        client.ask(words(&format!("WATCH k{last}")), "+OK\r\n");
        // In a transaction of its own, nothing is taken out at once.
        let line = if is_soft {
            "TAG.INVALIDATE SOFT t"
        } else {
            "TAG.INVALIDATE t"
        };
        other.ask(words("MULTI"), "+OK\r\n");
        other.ask(words(line), "+QUEUED\r\n");
        other.ask(words("EXEC"), format!("*1\r\n:{keys}\r\n"));
        client.ask(words("MULTI"), "+OK\r\n");
        client.ask(words("PING"), "+QUEUED\r\n");
        client.ask(words("EXEC"), "*-1\r\n");
        // What was void before it was watched is no change.
        client.ask(words("WATCH k0"), "+OK\r\n");
        client.ask(words("MULTI"), "+OK\r\n");
        client.ask(words("GET k0"), "+QUEUED\r\n");
        client.ask(words("TAG.MEMBERS t"), "+QUEUED\r\n");
        client.ask(words("EXEC"), "*2\r\n$-1\r\n*0\r\n");
    }
}
