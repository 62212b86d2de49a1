//! Tags of keys that are upstream's: the same commands as standalone, shared by all fronts.

use std::time::Duration;

use corral::clock;

use super::common::{Client, PATIENCE, Server, until};
use super::near::coherent;

/// What is asked of tags where every reply is the same, standalone and as a front.
pub(crate) const LINES: &[&str] = &[
    "SET post:1 a EX 300 TAGS 2 user:42 posts",
    "SET page:/home b",
    "TAG.ADD page:/home user:42 user:42",
    "TAG.ADD page:/home user:42",
    "TAG.ADD nothing user:42",
    "TAG.OF page:/home",
    "TAG.CARD user:42",
    "TAG.INVALIDATE user:42",
    "MGET post:1 page:/home",
    "TAG.CARD posts",
    "TAG.MEMBERS posts",
    "TAG.OF post:1",
    "TAG.INVALIDATE user:42 posts never",
    // Options of SET.
    "SET k v TAGS 1 a",
    "TAG.SCAN 0 COUNT 100000",
    "TAG.SCAN 0 MATCH b* COUNT 1000",
    "TAG.REM k a b",
    "TAG.OF k",
    "SET k w GET TAGS 1 b",
    "SET k x NX GET TAGS 1 c",
    "SET k x NX TAGS 1 c",
    "SET other x XX TAGS 1 c",
    "TAG.OF k",
    "SET k y XX GET PX 100000 TAGS 1 c",
    "TAG.OF k",
    "SET k z KEEPTTL TAGS 1 d",
    "TAG.OF k",
    "EXISTS k",
    // What keeps tags, and what leaves them.
    "SET k 1 TAGS 1 t",
    "INCR k",
    "APPEND k 0",
    "SETRANGE k 0 7",
    "EXPIRE k 100",
    "PERSIST k",
    "TAG.MEMBERS t",
    "SET k 2",
    "TAG.CARD t",
    "SET k 1 TAGS 1 t",
    "SET k 2 KEEPTTL",
    "TAG.CARD t",
    "SET k 1 TAGS 1 t",
    "MSET k 2",
    "TAG.CARD t",
    "SET k 1 TAGS 1 t",
    "GETSET k 2",
    "TAG.CARD t",
    "SET k 1 TAGS 1 t",
    "SETEX k 9 2",
    "TAG.CARD t",
    "SET k 1 TAGS 1 t",
    "SETNX k 2",
    "TAG.CARD t",
    "SET k 2 NX",
    "TAG.CARD t",
    "GETDEL k",
    "TAG.CARD t",
    "SET k 1 TAGS 1 t",
    "DEL k other",
    "TAG.CARD t",
    "SET k 1 TAGS 1 t",
    "UNLINK k",
    "TAG.CARD t",
    "TAG.SCAN 0 COUNT 100000",
    // Where a key goes.
    "SET a 1 TAGS 1 t",
    "COPY a b",
    "COPY a b",
    "COPY a b REPLACE",
    "RENAME a c",
    "RENAME a c",
    "TAG.CARD t",
    "SET d 1",
    "RENAMENX c d",
    "RENAMENX c e",
    "TAG.OF e",
    "TAG.OF c",
    "TAG.INVALIDATE t",
    "EXISTS a b c d e",
    // One of several tags counts for each.
    "SET k v TAGS 2 a b",
    "SET k2 v TAGS 2 b a",
    "TAG.INVALIDATE a b",
    "SET k v TAGS 1 t",
    "TAG.INVALIDATE SOFT t",
    "EXISTS k",
    "SET k v TAGS 1 soft",
    "TAG.INVALIDATE soft",
    "FLUSHDB",
    "TAG.SCAN 0",
    // What makes no sense.
    "TAG.ADD k",
    "TAG.INVALIDATE",
    "TAG.SCAN x",
    "TAG.SCAN 0 COUNT 0",
    "TAG.SCAN 0 COUNT x",
    "SET k v TAGS",
    "SET k v TAGS 2 a",
    "SET k v TAGS 1 a TAGS 1 b",
    "SET k v TAGS 1 a b",
    "SET k v EX 0 TAGS 1 a",
];

#[test]
fn a_front_says_of_tags_what_a_standalone_server_says() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let passing = Server::front(&upstream, &["--near-cache", "no"]);
    let standalone = Server::corral(&[]);
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut clients = [standalone.connect(), front.connect()];
        for client in &mut clients {
            client.say(hello);
        }
        for line in LINES {
            let [right, said] = clients.each_mut().map(|client| client.say(line));
            assert_eq!(said, right, "{line}, after {hello}");
        }
        // Over a connection of its own, and what is no matter of what overwriting leaves.
        let mut clients = [standalone.connect(), passing.connect()];
        for client in &mut clients {
            client.say(hello);
        }
        for line in &LINES[..28] {
            let [right, said] = clients.each_mut().map(|client| client.say(line));
            assert_eq!(said, right, "{line}, passed through, after {hello}");
        }
        let mut clients = [standalone.connect(), front.connect()];
        for client in &mut clients {
            client.say("FLUSHALL");
            client.say(hello);
        }
        for line in [
            "MULTI",
            "SET k v TAGS 2 a b",
            "TAG.ADD k c",
            "TAG.OF k",
            "TAG.MEMBERS a",
            "TAG.CARD b",
            "TAG.INVALIDATE c",
            "EXISTS k",
            "SET k w TAGS 1 a",
            "EXEC",
            "GET k",
            "TAG.REM k a",
        ] {
            let replies = clients.each_mut().map(|client| client.say(line));
            assert_eq!(sorted(&replies[1]), sorted(&replies[0]), "{line}");
        }
    }
}

/// The lines of a reply, in an order that does not depend on that of a set.
pub(crate) fn sorted(reply: &str) -> Vec<&str> {
    let mut lines: Vec<_> = reply.split("\r\n").collect();
    lines.sort_unstable();
    lines
}

/// What a client reads of keys.
fn values(client: &mut Client, keys: &[&str]) -> Vec<String> {
    let get = |key: &&str| client.say(&format!("GET {key}"));
    keys.iter().map(get).collect()
}

const NIL: &str = "$-1\r\n";

#[test]
fn no_front_serves_what_another_has_invalidated() {
    let upstream = Server::redis(&[]);
    let (here, there) = (coherent(&upstream, &[]), coherent(&upstream, &[]));
    let (mut here, mut there) = (here.connect(), there.connect());
    let mut direct = upstream.connect();
    for _ in 0..20 {
        assert_eq!(here.say("SET a 1 TAGS 1 t"), "+OK\r\n");
        assert_eq!(there.say("SET b 2 TAGS 2 t u"), "+OK\r\n");
        assert_eq!(direct.say("SET c 3"), "+OK\r\n");
        for client in [&mut here, &mut there] {
            until("each has heard of what the other wrote", || {
                values(client, &["a", "b", "c"]).concat() == "$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"
            });
        }
        assert_eq!(here.say("TAG.INVALIDATE t"), ":2\r\n");
        assert_eq!(values(&mut here, &["a", "b"]), [NIL, NIL]);
        assert_eq!(direct.say("EXISTS a b c"), ":1\r\n");
        until("the other front has heard of it", || {
            values(&mut there, &["a", "b"]) == [NIL, NIL]
        });
        assert_eq!(there.say("TAG.CARD u"), ":0\r\n");
    }
}

#[test]
fn what_is_asked_behind_an_invalidation_is_answered_after_it() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    for key in 0..1000 {
        client.send(format!("SET k{key} v TAGS 1 t\r\n").as_bytes());
    }
    for _ in 0..1000 {
        assert_eq!(client.frame().expect("a reply"), b"+OK\r\n");
    }
    client.send(b"GET k999\r\nTAG.INVALIDATE t\r\nGET k999\r\nEXISTS k0 k500 k998\r\n");
    for right in ["$1\r\nv\r\n", ":1000\r\n", NIL, ":0\r\n"] {
        let frame = client.frame().expect("a reply");
        assert_eq!(String::from_utf8_lossy(&frame), right);
    }
    // Keys of many tags, some of which have none.
    for key in 0..1000 {
        client.send(format!("SET k{key} v TAGS 2 a{} b{}\r\n", key / 3, key % 7).as_bytes());
    }
    for _ in 0..1000 {
        assert_eq!(client.frame().expect("a reply"), b"+OK\r\n");
    }
    let tags: Vec<String> = (0..500).map(|tag| format!("a{tag} b{tag}")).collect();
    let words = format!("TAG.INVALIDATE {}", tags.join(" "));
    assert_eq!(client.say(&words), ":2000\r\n");
    assert_eq!(client.say("EXISTS k0 k1 k500 k999"), ":0\r\n");
    // In a transaction, all of them in one go.
    for key in 0..2100 {
        client.send(format!("SET k{key} v TAGS 2 t u\r\n").as_bytes());
    }
    for _ in 0..2100 {
        assert_eq!(client.frame().expect("a reply"), b"+OK\r\n");
    }
    assert_eq!(client.say("MULTI"), "+OK\r\n");
    assert_eq!(client.say("TAG.INVALIDATE t u"), "+QUEUED\r\n");
    assert_eq!(client.say("EXEC"), "*1\r\n:4200\r\n");
    assert_eq!(client.say("EXISTS k0 k2099"), ":0\r\n");
    assert_eq!(client.say("TAG.SCAN 0"), "*2\r\n$1\r\n0\r\n*0\r\n");
    let names = upstream.connect().say("KEYS corral:*");
    for left in ["corral:members:", "corral:of:", "corral:tags"] {
        assert!(!names.contains(left), "{names}");
    }
}

#[test]
fn a_write_of_very_many_keys_passes_while_there_are_tags() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    for pairs in [2047, 2048, 10_000] {
        assert_eq!(client.say("SET k0 v TAGS 1 t"), "+OK\r\n");
        let words: Vec<String> = (0..pairs).map(|key| format!("k{key} w")).collect();
        assert_eq!(client.say(&format!("MSET {}", words.join(" "))), "+OK\r\n");
        assert_eq!(client.say("GET k0"), "$1\r\nw\r\n");
        let last = format!("GET k{}", pairs - 1);
        assert_eq!(client.say(&last), "$1\r\nw\r\n");
        let keeps = usize::from(2 * pairs + 1 > 4096);
        assert_eq!(client.say("TAG.CARD t"), format!(":{keeps}\r\n"), "{pairs}");
        let names: Vec<String> = (0..pairs).map(|key| format!("k{key}")).collect();
        let removed = client.say(&format!("DEL {}", names.join(" ")));
        assert_eq!(removed, format!(":{pairs}\r\n"));
    }
}

#[test]
fn tags_outlive_the_front() {
    let upstream = Server::redis(&[]);
    {
        let front = coherent(&upstream, &[]);
        let mut client = front.connect();
        assert_eq!(client.say("SELECT 3"), "+OK\r\n");
        assert_eq!(client.say("SET k v TAGS 1 t"), "+OK\r\n");
    }
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    assert_eq!(
        client.say("TAG.INVALIDATE t"),
        ":0\r\n",
        "in another database"
    );
    assert_eq!(client.say("SELECT 3"), "+OK\r\n");
    assert_eq!(client.say("TAG.OF k"), "*1\r\n$1\r\nt\r\n");
    assert_eq!(client.say("TAG.INVALIDATE t"), ":1\r\n");
    assert_eq!(client.say("GET k"), NIL);
}

#[test]
fn keys_that_are_gone_upstream_leave_their_tags() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let (mut client, mut direct) = (front.connect(), upstream.connect());
    for key in 0..300 {
        let line = format!("SET k{key} v PX 1 TAGS 2 t tag:{key}");
        assert_eq!(client.say(&line), "+OK\r\n");
    }
    assert_eq!(client.say("SET stays v TAGS 1 t"), "+OK\r\n");
    assert_eq!(client.say("SET deleted v TAGS 1 t"), "+OK\r\n");
    assert_eq!(direct.say("DEL deleted"), ":1\r\n");
    until("their keys have expired", || {
        client.say("TAG.MEMBERS t") == "*1\r\n$5\r\nstays\r\n"
    });
    let since = clock::now();
    while client.say("TAG.CARD t") != ":1\r\n" || direct.say("HLEN corral:of:k1") != ":0\r\n" {
        assert!(since.elapsed() < PATIENCE * 3, "they are still remembered");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn values_of_any_type_have_tags() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    assert_eq!(client.say("RPUSH l 1 2"), ":2\r\n");
    assert_eq!(client.say("HSET h f v"), ":1\r\n");
    assert_eq!(client.say("TAG.ADD l t u"), ":2\r\n");
    assert_eq!(client.say("TAG.ADD h u"), ":1\r\n");
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    assert_eq!(client.say("SET l v GET TAGS 1 t"), wrong);
    assert_eq!(client.say("LRANGE l 0 -1"), "*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(client.say("HGET h f"), "$1\r\nv\r\n");
    assert_eq!(client.say("TAG.INVALIDATE u"), ":2\r\n");
    assert_eq!(client.say("LRANGE l 0 -1"), "*0\r\n");
    assert_eq!(client.say("HGET h f"), NIL);
    assert_eq!(client.say("TAG.CARD t"), ":0\r\n");
}

#[test]
fn what_others_do_with_sets_of_their_own_works_as_it_did() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let (mut client, mut direct) = (front.connect(), upstream.connect());
    for line in [
        "SET page:1 a",
        "SET page:2 b",
        "SADD tag:news page:1 page:2",
        "EXPIRE tag:news 60",
    ] {
        direct.say(line);
    }
    assert_eq!(
        values(&mut client, &["page:1", "page:2"]).concat(),
        "$1\r\na\r\n$1\r\nb\r\n"
    );
    let members = client.say("SMEMBERS tag:news");
    assert_eq!(
        sorted(&members),
        sorted("*2\r\n$6\r\npage:1\r\n$6\r\npage:2\r\n")
    );
    assert_eq!(client.say("DEL page:1 page:2 tag:news"), ":3\r\n");
    assert_eq!(values(&mut client, &["page:1", "page:2"]), [NIL, NIL]);
}

#[test]
fn an_upstream_that_lets_no_script_run_says_so() {
    let upstream = Server::redis(&["--rename-command", "EVAL", "NOEVAL"]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    for line in ["SET k v TAGS 1 t", "TAG.INVALIDATE t", "TAG.OF k"] {
        let reply = client.say(line);
        assert!(reply.starts_with("-ERR unknown command 'EVAL'"), "{reply}");
    }
    assert_eq!(client.say("GET k"), NIL);
}
