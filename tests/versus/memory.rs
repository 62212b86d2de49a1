//! Values and bounds while memory is full, and keys that expire unasked.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use corral::clock;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::common::{Client, PATIENCE, Server, elements, request, text};

const MIB: i64 = 1 << 20;
/// What a Redis replies whose memory is full.
const FULL: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

/// What one writer knows of its keys: the value it wrote last, or that the key is gone.
struct Model {
    client: Client,
    keys: Range<u32>,
    known: HashMap<u32, Option<Vec<u8>>>,
    random: StdRng,
    /// Whether every key gets an expiry; otherwise only every other one does.
    all_expire: bool,
    lost: usize,
}

impl Model {
    fn new(server: &Server, keys: Range<u32>, all_expire: bool) -> Self {
        let seed = u64::from(keys.start);
        Self {
            client: server.connect(),
            keys,
            known: HashMap::new(),
            random: StdRng::seed_from_u64(seed),
            all_expire,
            lost: 0,
        }
    }

    fn has_expiry(&self, key: u32) -> bool {
        self.all_expire || key.is_multiple_of(2)
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let key = self.random.random_range(self.keys.clone());
            match self.random.random_range(0..10) {
                0..4 => self.set(key),
                4 => self.append(key),
                5 => self.delete(key),
                _ => self.get(key),
            }
        }
    }

    fn set(&mut self, key: u32) {
        let byte: u8 = self.random.random();
        let mut value = vec![byte; self.random.random_range(0..2000)];
        value.extend_from_slice(key.to_string().as_bytes());
        let name = format!("key:{key}");
        let mut command = vec![b"SET".as_slice(), name.as_bytes(), &value];
        if self.has_expiry(key) {
            command.extend([b"EX".as_slice(), b"10000"]);
        }
        assert_eq!(self.client.ask(&command), b"+OK\r\n", "SET {name}");
        // What was answered OK is there: a write is never the victim of its own insertion.
        self.known.insert(key, Some(value));
    }

    fn get(&mut self, key: u32) {
        let name = format!("key:{key}");
        let reply = self.client.ask(&[b"GET", name.as_bytes()]);
        let Some(expected) = self.known.get_mut(&key) else {
            assert_eq!(reply, b"$-1\r\n", "{name} was never written");
            return;
        };
        if reply == b"$-1\r\n" {
            if expected.take().is_some() {
                self.lost += 1;
                assert!(self.has_expiry(key), "{name} may not be evicted");
            }
            return;
        }
        let expected = expected.as_ref();
        let expected = expected.unwrap_or_else(|| panic!("{name} came back: {reply:?}"));
        assert!(text(&reply) == expected, "{name} has another value");
    }

    fn append(&mut self, key: u32) {
        if !self.has_expiry(key) || !self.all_expire {
            return; // It would lose its expiry, were it evicted before.
        }
        let name = format!("key:{key}");
        let reply = self.client.number(&format!("APPEND {name} xyz"));
        let known = self.known.entry(key).or_default();
        match known {
            Some(value) if reply == len(value) + 3 => value.extend_from_slice(b"xyz"),
            _ => {
                assert_eq!(reply, 3, "{name} is appended to what it was, or to nothing");
                *known = Some(b"xyz".to_vec());
            }
        }
    }

    fn delete(&mut self, key: u32) {
        let name = format!("key:{key}");
        let removed = self.client.number(&format!("DEL {name}"));
        let known = self.known.entry(key).or_default();
        assert!(removed == 0 || known.is_some(), "{name} came back");
        *known = None;
    }
}

fn len(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).expect("a short value")
}

fn used(client: &mut Client) -> i64 {
    client.info("used_memory").parse().expect("a number")
}

/// Three writers at once under this policy; the bound holds at every look.
fn values_stay_right_under(policy: &str, all_expire: bool) {
    let server = Server::corral(&["--maxmemory", "2mb", "--maxmemory-policy", policy]);
    let mut models: Vec<Model> = (0..3)
        .map(|writer| Model::new(&server, writer * 10_000..writer * 10_000 + 1500, all_expire))
        .collect();
    let mut watcher = server.connect();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (models.iter_mut())
            .map(|model| scope.spawn(|| model.run(5000)))
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            let used = used(&mut watcher);
            assert!(used <= 2 * MIB, "{policy}: {used} bytes");
        }
    });
    let lost: usize = models.iter().map(|model| model.lost).sum();
    let evicted: i64 = watcher.info("evicted_keys").parse().expect("a number");
    assert!(lost > 100 && evicted > 100, "{policy}: memory was full");
    assert!(used(&mut watcher) > MIB, "{policy}: memory was used");
}

#[test]
fn values_are_the_last_written_or_absent_under_tinylfu() {
    values_stay_right_under("allkeys-tinylfu", true);
}

#[test]
fn values_are_the_last_written_or_absent_under_lru() {
    values_stay_right_under("allkeys-lru", true);
}

#[test]
fn volatile_ttl_takes_no_key_without_expiry() {
    values_stay_right_under("volatile-ttl", false);
}

#[test]
fn noeviction_refuses_writes_and_loses_nothing() {
    let server = Server::corral(&["--maxmemory", "2mb", "--maxmemory-policy", "noeviction"]);
    let mut client = server.connect();
    let value = "v".repeat(1000);
    let mut written = 0;
    let refused = loop {
        let reply = client.say(&format!("SET key:{written} {value}"));
        if reply != "+OK\r\n" {
            break reply;
        }
        written += 1;
        assert!(written < 3000, "2 MiB hold no 3000 kB");
    };
    assert_eq!(refused, FULL);
    assert!(written > 1500, "{written} kB of 2 MiB");
    assert_eq!(client.number("DBSIZE"), written);
    assert!(used(&mut client) <= 2 * MIB);
    for key in 0..written {
        let reply = client.say(&format!("GET key:{key}"));
        assert_eq!(text(reply.as_bytes()), value.as_bytes());
    }
    // What little is left goes to short values, so these are long.
    let long = "v".repeat(200_000);
    for write in [
        format!("APPEND key:0 {long}"),
        format!("SETRANGE key:0 5000 {long}"),
        format!("SETEX new 100 {long}"),
        format!("GETSET key:0 {long}"),
        format!("MSET new {value} other {long}"),
        "SETBIT key:0 2000000 1".to_owned(),
        "BITFIELD key:0 SET u8 2000000 1".to_owned(),
    ] {
        assert_eq!(client.say(&write), FULL, "{write:.20}");
    }
    assert_eq!(client.number("STRLEN key:0"), 1000, "nothing is half done");
    assert_eq!(client.number("EXISTS new other"), 0);
    assert_eq!(client.info("evicted_keys"), "0");
    assert_eq!(client.number("DEL key:0 key:1 key:2"), 3);
    assert_eq!(client.say(&format!("SET new {value}")), "+OK\r\n");
    assert_eq!(client.say("CONFIG SET maxmemory 3mb"), "+OK\r\n");
    assert_eq!(client.say(&format!("MSET a {value} b {value}")), "+OK\r\n");
}

/// Fills a server that evicts nobody with 1 kB values until it refuses one, then with less.
fn fill(client: &mut Client) -> i64 {
    let mut written = 0;
    for len in [1000, 100, 1] {
        let value = "v".repeat(len);
        while client.say(&format!("SET key:{written} {value}")) == "+OK\r\n" {
            written += 1;
            assert!(written < 5000, "2 MiB hold no 5000 keys");
        }
    }
    written
}

#[test]
fn what_redis_never_refuses_is_not_refused_when_memory_is_full() {
    let server = Server::corral(&["--maxmemory", "2mb", "--maxmemory-policy", "noeviction"]);
    let mut client = server.connect();
    let keys = fill(&mut client);
    let long = "n".repeat(200);
    for key in 0..keys {
        let other = format!("{long}:{key}");
        assert_eq!(client.number(&format!("EXPIRE key:{key} 1000")), 1);
        match key % 3 {
            0 => assert_eq!(client.say(&format!("RENAME key:{key} {other}")), "+OK\r\n"),
            1 => assert_eq!(client.number(&format!("RENAMENX key:{key} {other}")), 1),
            _ => assert_eq!(client.number(&format!("MOVE key:{key} 1")), 1),
        }
    }
    assert_eq!(client.number("DBSIZE"), keys - keys / 3);
    assert_eq!(client.info("evicted_keys"), "0");
    assert!(
        used(&mut client) > 2 * MIB,
        "names and expiries came on top"
    );
    let value = "v".repeat(5000);
    for refused in [
        format!("SET new {value}"),
        format!("COPY {long}:0 copy"),
        format!("APPEND {long}:0 {value}"),
    ] {
        assert_eq!(client.say(&refused), FULL, "{refused:.20}");
    }
    assert_eq!(client.say("FLUSHALL"), "+OK\r\n");
    assert_eq!(client.say(&format!("SET new {value}")), "+OK\r\n");
}

#[test]
fn what_a_rename_adds_is_made_up_for_by_eviction() {
    let server = Server::corral(&["--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.connect();
    let value = "v".repeat(1000);
    for key in 0..3000 {
        client.say(&format!("SET key:{key} {value}"));
        let renamed = client.say(&format!("RENAME key:{key} {}:{key}", "n".repeat(200)));
        assert_eq!(renamed, "+OK\r\n");
        assert!(used(&mut client) <= 2 * MIB);
    }
    assert!(client.number("DBSIZE") > 1000);
}

#[test]
fn mset_stores_all_or_nothing_when_memory_is_full() {
    for command in ["MSET", "MSETNX"] {
        let server = Server::corral(&["--maxmemory", "2mb", "--maxmemory-policy", "noeviction"]);
        let mut client = server.connect();
        let keys = fill(&mut client);
        // Room for some of what follows.
        assert_eq!(client.number("DEL key:0 key:1 key:2 key:3 key:4"), 5);
        let mut stored = 0;
        for round in 0..40 {
            let pairs = (0..8).map(|key| format!(" {round}:{key} {}", "v".repeat(50 + round)));
            let reply = client.say(&format!("{command}{}", pairs.collect::<String>()));
            let held = client.number("DBSIZE") - (keys - 5) - stored;
            assert_eq!(held, if reply == FULL { 0 } else { 8 }, "{reply}");
            stored += held;
        }
        assert!(0 < stored && stored < 8 * 40, "{stored}");
        // What is overwritten pays for itself.
        let value = "w".repeat(1000);
        let pairs: String = (5..500).map(|key| format!(" key:{key} {value}")).collect();
        assert_eq!(client.say(&format!("MSET{pairs}")), "+OK\r\n");
    }
}

#[test]
fn a_full_server_refuses_within_a_transaction_too() {
    let server = Server::corral(&["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]);
    let mut client = server.connect();
    let value = "v".repeat(900_000);
    assert_eq!(client.say(&format!("SET a {value}")), "+OK\r\n");
    assert_eq!(client.say("MULTI"), "+OK\r\n");
    assert_eq!(client.say("GET nothing"), "+QUEUED\r\n");
    assert_eq!(client.say(&format!("SET b {value}")), "+QUEUED\r\n");
    assert_eq!(client.say("EXEC"), format!("*2\r\n$-1\r\n{FULL}"));
    assert_eq!(client.number("EXISTS a b"), 1);
}

#[test]
fn maxmemory_may_be_lowered_while_it_runs() {
    let server = Server::corral(&["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.connect();
    let value = "v".repeat(500);
    let fill = |client: &mut Client| {
        for key in 0..8000 {
            client.say(&format!("SET key:{key} {value}"));
        }
    };
    fill(&mut client);
    assert!(used(&mut client) > 3 * MIB);
    assert_eq!(client.say("CONFIG SET maxmemory 1mb"), "+OK\r\n");
    let since = clock::now();
    while used(&mut client) > MIB {
        assert!(since.elapsed() < PATIENCE, "it is still above");
        std::thread::sleep(Duration::from_millis(10));
    }
    fill(&mut client);
    assert!(used(&mut client) <= MIB);
    assert_eq!(client.say("CONFIG SET maxmemory 3mb"), "+OK\r\n");
    fill(&mut client);
    assert!(used(&mut client) > 2 * MIB);
}

#[test]
fn scan_finds_every_key_that_stays_while_others_come_and_go() {
    const STAY: usize = 1000;
    let server = Server::corral(&[]);
    let mut client = server.connect();
    for key in 0..STAY {
        client.say(&format!("SET stay:{key} v"));
    }
    let mut writer = server.connect();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            // Grows the tables, empties them, and grows them again.
            for round in 0..3 {
                for first in (0..15_000).step_by(100) {
                    let keys = (first..first + 100).map(|key| format!("go:{round}:{key}"));
                    let words = keys.flat_map(|key| [key, "v".to_owned()]);
                    let mset: Vec<String> = ["MSET".to_owned()].into_iter().chain(words).collect();
                    writer.send(&request(&mset));
                    writer.frame().expect("a reply");
                }
                for key in 0..15_000 {
                    writer.send(&request(&[
                        "UNLINK".to_owned(),
                        format!("go:{round}:{key}"),
                    ]));
                    if key % 100 == 99 {
                        (0..100).for_each(|_| drop(writer.frame().expect("a reply")));
                    }
                }
            }
        });
        let mut scans = 0;
        while !writing.is_finished() || scans == 0 {
            let mut seen = vec![false; STAY];
            let mut cursor = "0".to_owned();
            loop {
                let page = client.say(&format!("SCAN {cursor} COUNT 200"));
                let page = elements(page.as_bytes()).expect("two elements");
                for key in elements(page[1]).expect("keys") {
                    let key = std::str::from_utf8(text(key)).expect("a key of ours");
                    if let Some(number) = key.strip_prefix("stay:") {
                        seen[number.parse::<usize>().expect("a number")] = true;
                    }
                }
                cursor = String::from_utf8_lossy(text(page[0])).into_owned();
                if cursor == "0" {
                    break;
                }
            }
            let missing = seen.iter().filter(|seen| !**seen).count();
            assert_eq!(missing, 0, "keys that stayed were not seen by scan {scans}");
            scans += 1;
        }
    });
}

#[test]
fn keys_expire_within_a_second_without_being_asked_for() {
    const KEYS: i64 = 3000;
    let server = Server::corral(&[]);
    let mut client = server.connect();
    client.say("SET stays v");
    client.say("SET later v EX 1000");
    for key in 0..KEYS {
        client.send(&request(&[
            "SET".to_owned(),
            format!("key:{key}"),
            "v".to_owned(),
            "PX".to_owned(),
            (100 + key % 200).to_string(),
        ]));
    }
    (0..KEYS).for_each(|_| drop(client.frame().expect("a reply")));
    let since = clock::now();
    while client.number("DBSIZE") > 2 {
        let waited = since.elapsed();
        // 300 ms until the last is due, a second, and what a busy machine takes.
        assert!(
            waited < Duration::from_millis(300 + 1000 + 500),
            "{waited:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.info("expired_keys"), KEYS.to_string());
    assert_eq!(client.number("EXISTS stays later"), 2);
}
