//! A front of a Redis Cluster: its clients see one plain Redis.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use corral::clock;
use corral::upstream::topology::slot_of;

use super::common::{Client, Server, elements, free_port, reads, request, text, until, value};
use super::tags::{LINES, sorted};
use super::topologies::Cluster;

/// A front of it.
fn front(cluster: &Cluster, near_cache: &str) -> Server {
    Server::corral(&["--upstream", &cluster.url(), "--near-cache", near_cache])
}

fn reads_of(cluster: &Cluster) -> u64 {
    let servers = cluster.masters.iter();
    servers.map(|server| reads(&mut server.connect())).sum()
}

#[test]
fn keys_of_all_slots_are_read_and_written_and_kept() {
    let cluster = Cluster::start(0);
    for near_cache in ["yes", "no"] {
        let front = front(&cluster, near_cache);
        let mut clients = [front.connect(), front.connect()];
        assert!(clients[1].say("HELLO 3").starts_with('%'));
        for at in 0..3000 {
            let (key, value) = (format!("key:{at}"), format!("{near_cache}{at}"));
            assert_eq!(
                clients[at % 2].say(&format!("SET {key} {value}")),
                "+OK\r\n"
            );
        }
        for at in 0..3000 {
            let key = format!("key:{at}");
            assert_eq!(
                value(&mut clients[at % 2], &key),
                format!("{near_cache}{at}")
            );
            let owner = &cluster.masters[cluster.owner(slot_of(key.as_bytes()))];
            if at % 100 == 0 {
                assert_eq!(
                    value(&mut owner.connect(), &key),
                    format!("{near_cache}{at}")
                );
            }
        }
        assert_eq!(clients[0].number("DBSIZE"), 3000);
        let long = "v".repeat(3 << 20);
        assert_eq!(clients[0].say(&format!("SET key:0 {long}")), "+OK\r\n");
        assert!(value(&mut clients[1], "key:0") == long);
        let reply = clients[0].say(&format!("SET key:0 {near_cache}0"));
        assert_eq!(reply, "+OK\r\n");
        if near_cache == "no" {
            continue;
        }
        let before = reads_of(&cluster);
        for at in 0..3000 {
            assert_eq!(
                value(&mut clients[at % 2], &format!("key:{at}")),
                format!("yes{at}")
            );
        }
        let asked = reads_of(&cluster) - before;
        assert!(asked < 100, "{asked} of 3000 were not answered from memory");
        for at in (0..3000).step_by(97) {
            let key = format!("key:{at}");
            let owner = &cluster.masters[cluster.owner(slot_of(key.as_bytes()))];
            assert_eq!(owner.connect().say(&format!("SET {key} other")), "+OK\r\n");
            until("the change is told", || {
                value(&mut clients[at % 2], &key) == "other"
            });
        }
    }
}

/// One after the other.
const REPLIES: &[(&str, &str)] = &[
    ("FLUSHALL", "+OK\r\n"),
    ("MSET a 1 b 2 c 3 d 4", "+OK\r\n"),
    (
        "MGET a b nope d c",
        "*5\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n$1\r\n4\r\n$1\r\n3\r\n",
    ),
    ("LPUSH l x", ":1\r\n"),
    ("MGET l a", "*2\r\n$-1\r\n$1\r\n1\r\n"),
    ("EXISTS a b c nope a", ":4\r\n"),
    ("TOUCH a b nope", ":2\r\n"),
    ("DBSIZE", ":5\r\n"),
    ("UNLINK a l", ":2\r\n"),
    ("DEL b nope c", ":2\r\n"),
    ("KEYS *", "*1\r\n$1\r\nd\r\n"),
    ("RANDOMKEY", "$1\r\nd\r\n"),
    (
        "MSET a 1 b",
        "-ERR wrong number of arguments for 'mset' command\r\n",
    ),
    (
        "RENAME a b",
        "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    ),
    (
        "MSETNX a 1 b 2",
        "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    ),
    ("MSETNX {t}a 1 {t}b 2", ":1\r\n"),
    ("RENAME {t}a {t}c", "+OK\r\n"),
    (
        "CLUSTER INFO",
        "-ERR This instance has cluster support disabled\r\n",
    ),
    (
        "READONLY",
        "-ERR This instance has cluster support disabled\r\n",
    ),
    ("SELECT 0", "+OK\r\n"),
    ("SELECT 1", "-ERR SELECT is not allowed in cluster mode\r\n"),
    ("GET d", "$1\r\n4\r\n"),
    ("MULTI", "+OK\r\n"),
    ("SET {t}x 1", "+QUEUED\r\n"),
    ("INCR {t}x", "+QUEUED\r\n"),
    ("EXEC", "*2\r\n+OK\r\n:2\r\n"),
    ("MULTI", "+OK\r\n"),
    ("SET {t}x 5", "+QUEUED\r\n"),
    (
        "SET d 5",
        "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    ),
    (
        "EXEC",
        "-EXECABORT Transaction discarded because of previous errors.\r\n",
    ),
    ("GET {t}x", "$1\r\n2\r\n"),
    ("MULTI", "+OK\r\n"),
    ("EXEC", "*0\r\n"),
    ("EXEC", "-ERR EXEC without MULTI\r\n"),
    (
        "CLIENT TRACKING ON REDIRECT 3",
        "-ERR The client ID you want redirect to does not exist\r\n",
    ),
    ("WATCH d", "+OK\r\n"),
    ("SET d 6", "+OK\r\n"),
    ("MULTI", "+OK\r\n"),
    ("GET d", "+QUEUED\r\n"),
    ("EXEC", "*-1\r\n"),
    ("GET d", "$1\r\n6\r\n"),
    ("BLPOP nolist 0.01", "*-1\r\n"),
];

#[test]
fn commands_of_many_slots_are_split_or_refused_as_one_server_would_reply() {
    let cluster = Cluster::start(0);
    for near_cache in ["yes", "no"] {
        let front = front(&cluster, near_cache);
        let mut client = front.connect();
        for (words, reply) in REPLIES {
            assert_eq!(
                client.say(words),
                *reply,
                "{words}, near-cache {near_cache}"
            );
        }
        for at in 0..200 {
            client.say(&format!("SET scanned:{at} v"));
        }
        let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let reply = client.say(&format!("SCAN {cursor} MATCH scanned:* COUNT 20"));
            let parts = elements(reply.as_bytes()).expect("an array");
            cursor = String::from_utf8_lossy(text(parts[0])).into_owned();
            let keys = elements(parts[1]).expect("an array");
            found.extend(keys.into_iter().map(|key| text(key).to_vec()));
            if cursor == "0" {
                break;
            }
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 200);
        subscribes(&front);
    }
}

/// Messages arrive, whoever publishes.
fn subscribes(front: &Server) {
    let mut subscriber = front.connect();
    let confirmed = subscriber.say("SUBSCRIBE news");
    assert!(confirmed.ends_with(":1\r\n"), "{confirmed}");
    assert_eq!(front.connect().say("PUBLISH news a"), ":1\r\n");
    let message = subscriber.frame().expect("a message");
    assert!(
        message.ends_with(b"$4\r\nnews\r\n$1\r\na\r\n"),
        "{message:?}"
    );
}

/// A value only ever grows, as one client sees it who is told of each write.
fn grows(client: &mut Client, key: &str, least: u64) -> u64 {
    let found = value(client, key).parse().expect("a number");
    assert!(found >= least, "{key}: {found} after {least}");
    found
}

#[test]
fn a_slot_that_moves_under_traffic_shows_no_old_value() {
    let mut cluster = Cluster::start(0);
    let front = front(&cluster, "yes");
    let keys: Vec<String> = (0..20).map(|at| format!("{{moving}}{at}")).collect();
    let slot = slot_of(b"moving");
    let from = cluster.owner(slot);
    let mut client = front.connect();
    for key in keys.iter().map(String::as_str).chain(["{moving}own"]) {
        assert_eq!(client.say(&format!("SET {key} 0")), "+OK\r\n");
    }
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for dialect in ["HELLO 2", "HELLO 3", "HELLO 2"] {
            let (mut client, keys, is_over) = (front.connect(), &keys, &is_over);
            scope.spawn(move || {
                client.say(dialect);
                let mut known = vec![0; keys.len()];
                let mut round = 0_u32;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    for (at, key) in keys.iter().enumerate() {
                        known[at] = grows(&mut client, key, known[at]);
                        if round.is_multiple_of(3) {
                            let grown = client.say(&format!("INCR {key}"));
                            let grown = grown.trim_start_matches(':').trim_end();
                            let grown: u64 = grown.parse().unwrap_or_else(|_| panic!("{grown}"));
                            assert!(grown > known[at], "{key}: {grown} after {}", known[at]);
                            known[at] = grown;
                        }
                    }
                    round += 1;
                }
                assert!(round > 10, "there was traffic");
            });
        }
        let (mut pipelining, keys, ended) = (front.connect(), &keys, &is_over);
        scope.spawn(move || {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                // A value of its own, between requests for others.
                let incr = |key: &str| request(&["INCR", key]);
                let batch: Vec<u8> = keys
                    .iter()
                    .flat_map(|key| [incr(key), incr("foo"), incr("{moving}own")].concat())
                    .collect();
                pipelining.send(&batch);
                let mut own = 0;
                for at in 0..keys.len() * 3 {
                    let reply = pipelining.frame().expect("a reply");
                    let digits = String::from_utf8_lossy(&reply[1..]).into_owned();
                    let grown: u64 = digits.trim_end().parse().expect("a number");
                    if at % 3 == 2 {
                        assert!(own == 0 || grown == own + 1, "{grown} after {own}");
                        own = grown;
                    }
                }
            }
        });
        // Also when a move fails.
        let _over = Over(&is_over);
        // To the next master, and on to the one after that.
        for hop in 0..4 {
            cluster.move_slot(slot, (from + hop + 1) % 3, Duration::from_millis(10));
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let last = &cluster.masters[(from + 4) % 3];
    for key in &keys {
        let there = value(&mut last.connect(), key);
        assert_eq!(value(&mut client, key), there);
    }
}

#[test]
fn what_was_watched_in_a_slot_that_moves_counts_as_changed() {
    let mut cluster = Cluster::start(0);
    let front = front(&cluster, "yes");
    let slot = slot_of(b"moving");
    for (hello, nil) in [("HELLO 2", "*-1\r\n"), ("HELLO 3", "_\r\n")] {
        let mut client = front.connect();
        client.say(hello);
        assert_eq!(client.say("SET {moving}k 1"), "+OK\r\n");
        assert_eq!(client.say("WATCH {moving}k"), "+OK\r\n");
        let target = (cluster.owner(slot) + 1) % 3;
        cluster.move_slot(slot, target, Duration::ZERO);
        until("the front has heard of it", || {
            front.connect().say("SET {moving}other v") == "+OK\r\n"
        });
        // As a client does that begins anew.
        assert_eq!(client.say("WATCH {moving}k"), "+OK\r\n");
        assert_eq!(value(&mut client, "{moving}k"), "1");
        assert_eq!(client.say("MULTI"), "+OK\r\n");
        assert_eq!(client.say("SET {moving}k 2"), "+QUEUED\r\n");
        assert_eq!(client.say("EXEC"), nil);
        assert_eq!(client.say("WATCH {moving}k"), "+OK\r\n");
        assert_eq!(client.say("MULTI"), "+OK\r\n");
        assert_eq!(client.say("SET {moving}k 2"), "+QUEUED\r\n");
        assert_eq!(client.say("EXEC"), "*1\r\n+OK\r\n");
    }
}

#[test]
fn what_could_not_be_watched_binds_to_no_slot() {
    let cluster = Cluster::start(0);
    let slot = slot_of(b"moving");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    let mut owner = cluster.masters[from].connect();
    let id = cluster.masters[to].connect().say("CLUSTER MYID");
    let id = String::from_utf8_lossy(text(id.as_bytes())).into_owned();
    let migrating = format!("CLUSTER SETSLOT {slot} MIGRATING {id}");
    assert_eq!(owner.say(&migrating), "+OK\r\n");
    let front = front(&cluster, "yes");
    let mut client = front.connect();
    let told = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
    assert_eq!(client.say("WATCH {moving}k"), told);
    assert_eq!(client.say("WATCH foo"), "+OK\r\n");
    assert_eq!(client.say("MULTI"), "+OK\r\n");
    assert_eq!(client.say("SET foo 1"), "+QUEUED\r\n");
    assert_eq!(client.say("EXEC"), "*1\r\n+OK\r\n");
    // Behind one that is watched, it changes nothing.
    assert_eq!(client.say("WATCH foo"), "+OK\r\n");
    let told = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    assert_eq!(client.say("WATCH {moving}k"), told);
    assert_eq!(client.say("SET foo 2"), "+OK\r\n");
    assert_eq!(client.say("MULTI"), "+OK\r\n");
    assert_eq!(client.say("SET foo 3"), "+QUEUED\r\n");
    assert_eq!(client.say("EXEC"), "*-1\r\n");
}

/// Ends the traffic when dropped.
struct Over<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_master_that_dies_is_replaced_by_its_replica() {
    let mut cluster = Cluster::start(1);
    let front = front(&cluster, "yes");
    let mut client = front.connect();
    // Of the first master, and of another one.
    let lost = (0..).map(|at| format!("key:{at}"));
    let lost = lost.into_iter().find(|key| slot_of(key.as_bytes()) <= 5460);
    let (lost, kept) = (lost.expect("there are some"), "foo");
    for key in [&lost[..], kept] {
        assert_eq!(client.say(&format!("SET {key} old")), "+OK\r\n");
        assert_eq!(value(&mut client, key), "old");
    }
    let mut replica = cluster.replicas[0].connect();
    until("it is replicated", || replica.number("DBSIZE") == 1);
    cluster.masters[0].process.kill().expect("it runs");
    cluster.masters[0].process.wait().expect("it ends");
    until("the other masters serve on", || {
        client.say(&format!("SET {kept} on")) == "+OK\r\n"
    });
    let since = clock::now();
    until("its replica serves", || {
        client.say(&format!("SET {lost} new")) == "+OK\r\n"
    });
    println!("written again after {:?}", since.elapsed());
    assert_eq!(value(&mut client, &lost), "new");
    assert_eq!(value(&mut replica, &lost), "new");
    for round in 0..50 {
        assert_eq!(replica.say(&format!("SET {lost} {round}")), "+OK\r\n");
        until("the change is told", || {
            value(&mut client, &lost) == round.to_string()
        });
    }
    until("it is answered from memory again", || {
        let before = reads(&mut replica);
        (0..50).for_each(|_| assert_eq!(value(&mut client, &lost), "49"));
        reads(&mut replica) == before
    });
}

#[test]
fn tags_are_as_one_server_would_have_them() {
    let cluster = Cluster::start(0);
    let (front, other) = (front(&cluster, "yes"), front(&cluster, "yes"));
    let standalone = Server::corral(&[]);
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut clients = [standalone.connect(), front.connect()];
        for client in &mut clients {
            client.say(hello);
        }
        let mut has_renamed = false;
        for line in LINES {
            // Tags stay behind, and those without keys are listed for a while.
            has_renamed =
                (has_renamed || *line == "SET a 1 TAGS 1 t") && !line.starts_with("EXISTS");
            if has_renamed || line.starts_with("TAG.SCAN 0") {
                continue;
            }
            let [right, said] = clients.each_mut().map(|client| client.say(line));
            assert_eq!(sorted(&said), sorted(&right), "{line}, after {hello}");
        }
    }
    let (mut here, mut there) = (front.connect(), other.connect());
    for round in 0..5 {
        let keys = 600;
        for key in 0..keys {
            here.send(format!("SET k{key} {round} TAGS 2 t of:{key}\r\n").as_bytes());
        }
        for _ in 0..keys {
            assert_eq!(here.frame().expect("a reply"), b"+OK\r\n");
        }
        until("the other front has heard of it", || {
            there.say("GET k7") == format!("$1\r\n{round}\r\n")
        });
        assert_eq!(there.say("TAG.CARD t"), format!(":{keys}\r\n"));
        assert_eq!(here.say("TAG.INVALIDATE t"), format!(":{keys}\r\n"));
        for key in 0..keys {
            assert_eq!(here.say(&format!("GET k{key}")), "$-1\r\n");
        }
        until("the other front has heard of that", || {
            there.say("GET k7") == "$-1\r\n"
        });
        assert_eq!(there.say("TAG.CARD of:7"), ":0\r\n");
    }
    assert_eq!(here.say("TAG.INVALIDATE \"\""), ":0\r\n");
    let many = "for key = 1, 100001 do redis.call('ZADD', KEYS[1], 0, key) end";
    let members = "corral:members:{many}";
    here.ask(&[b"EVAL", many.as_bytes(), b"1", members.as_bytes()]);
    let refused = "-ERR the tag has 100001 keys, of which 100000 are looked at\r\n";
    assert_eq!(here.say("TAG.CARD many"), refused);
    assert_eq!(here.say("TAG.MEMBERS many"), refused);
    assert_eq!(here.say(&format!("DEL {members}")), ":1\r\n");
    until("tags without keys are forgotten", || {
        here.say("TAG.SCAN 0 COUNT 10000") == "*2\r\n$1\r\n0\r\n*0\r\n"
    });
}

#[test]
fn what_is_told_over_http_invalidates_tags_in_all_slots() {
    let cluster = Cluster::start(0);
    let (admin, master) = (free_port(), cluster.masters[1].port);
    let url = format!("redis+cluster://127.0.0.1:{master}");
    let admin_port = admin.to_string();
    let args = ["--upstream", &url, "--admin-port", &admin_port];
    let front = Server::corral(&[&args[..], &["--admin-token", "t0ken"]].concat());
    let mut client = front.connect();
    for key in 0..50 {
        assert_eq!(client.say(&format!("SET k{key} v TAGS 1 t")), "+OK\r\n");
    }
    let body = r#"{"tags": ["t"]}"#;
    let request = format!(
        "POST /invalidate HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t0ken\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, admin)).expect("a connection");
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains(r#""of_tags":50"#), "{answer}");
    for key in 0..50 {
        assert_eq!(client.say(&format!("GET k{key}")), "$-1\r\n");
    }
}
