//! What operators see of the near cache: its counters, why it does what it does, its metrics.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use corral::clock;
use prometheus_parse::{Scrape, Value};

use super::common::{Client, PATIENCE, Server, free_port};

const OK: &str = "+OK\r\n";

/// corral in front of a Redis, once it is coherent with it.
pub(crate) fn coherent(upstream: &Server, args: &[&str]) -> Server {
    let front = Server::front(upstream, args);
    let is_password = args.windows(2).find(|pair| pair[0] == "--requirepass");
    let mut client = front.connect();
    if let Some(pair) = is_password {
        assert_eq!(client.say(&format!("AUTH {}", pair[1])), OK);
    }
    until("it is coherent", || {
        let info = client.say("CORRAL.INFO");
        info.contains("coherent:1\r\n") && info.contains("protocol=2,state=open,waiting=0,armed=1")
    });
    front
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = clock::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number of the section `near`.
pub(crate) fn number_of(front: &Server, name: &str) -> u64 {
    number_in(&front.connect().say("CORRAL.INFO near upstream"), name)
}

fn number_in(info: &str, name: &str) -> u64 {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find(|(key, _)| *key == name);
    let (_, number) = line.unwrap_or_else(|| panic!("no {name}: {info}"));
    number
        .parse()
        .unwrap_or_else(|_| panic!("{name}: {number}"))
}

/// What rises by one, of hits and of misses by cause, through what is done.
fn counted(front: &Server, mut what: impl FnMut()) -> Vec<(String, u64)> {
    let numbers = || -> Vec<(String, u64)> {
        let info = front.connect().say("CORRAL.INFO near");
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(name, _)| *name == "near_hits" || name.starts_with("near_misses_"))
            .map(|(name, number)| (name.to_owned(), number.parse().expect("a number")))
            .collect()
    };
    let before = numbers();
    what();
    let risen = numbers().into_iter().zip(before);
    risen
        .map(|((name, after), (_, before))| (name, after - before))
        .filter(|(_, rise)| *rise > 0)
        .collect()
}

/// Reads a key until it is answered from memory.
pub(crate) fn keep(front: &Server, client: &mut Client, words: &str) {
    until("it is kept", || {
        let hits = number_of(front, "near_hits");
        client.say(words);
        number_of(front, "near_hits") > hits
    });
}

fn one(name: &str) -> Vec<(String, u64)> {
    vec![(name.to_owned(), 1)]
}

#[test]
fn each_read_counts_once_as_a_hit_or_by_the_cause_of_its_miss() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut direct = upstream.connect();
    let mut client = front.connect();
    assert_eq!(direct.say("MSET k v l w m x"), OK);
    let mut read = |words: &str| counted(&front, || drop(client.say(words)));
    assert_eq!(read("GET k"), one("near_misses_cold"));
    assert_eq!(read("GET k"), one("near_hits"));
    assert_eq!(read("STRLEN k"), one("near_misses_variant"));
    assert_eq!(read("TTL k"), one("near_misses_uncacheable"));
    assert_eq!(read("PING"), vec![]);
    assert_eq!(direct.say("SET k v2"), OK);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(read("GET k"), one("near_misses_invalidated"));
    assert_eq!(read("GET k"), one("near_hits"));
    assert_eq!(direct.say("SET l v PX 100"), OK);
    assert_eq!(read("GET l"), one("near_misses_cold"));
    std::thread::sleep(Duration::from_millis(200));
    let cause = read("GET l");
    // Upstream may have told of the expiry before it was found here.
    assert!(
        cause == one("near_misses_expired") || cause == one("near_misses_invalidated"),
        "{cause:?}"
    );
    assert_eq!(read("GET k"), one("near_hits"));
    let fills = number_of(&front, "near_fills");
    assert!(fills >= 3, "{fills}");
    assert_eq!(direct.say("FLUSHALL"), OK);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(read("GET k"), one("near_misses_flushed"));
    assert!(number_of(&front, "near_flushes") >= 1);
    assert!(number_of(&front, "near_invalidations_effective") >= 1);
}

#[test]
fn hits_and_misses_are_those_of_the_keyspace_and_begin_anew_by_resetstat() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    client.say("SET k v");
    keep(&front, &mut client, "GET k");
    assert_eq!(client.say("CORRAL.CONFIG RESETSTAT"), OK);
    for _ in 0..3 {
        client.say("GET k");
    }
    client.say("GET absent");
    let info = client.say("CORRAL.INFO");
    for (name, number) in [
        ("near_hits", 3),
        ("near_misses", 1),
        ("near_misses_cold", 1),
        ("near_round_trips_saved", 3),
        ("keyspace_hits", 3),
        ("keyspace_misses", 1),
    ] {
        assert_eq!(number_in(&info, name), number, "{name} of {info}");
    }
    assert!(info.contains("near_hit_rate:0.7500\r\n"), "{info}");
    assert!(number_in(&info, "near_entries") >= 1 && number_in(&info, "near_bytes") > 0);
    let stats = client.say("CACHE.STATS");
    assert!(
        stats.contains("$4\r\nhits\r\n:3\r\n$6\r\nmisses\r\n:1\r\n"),
        "{stats}"
    );
    assert!(
        stats.contains("$15\r\nmisses-by-cause\r\n*18\r\n$4\r\ncold\r\n:1\r\n"),
        "{stats}"
    );
}

#[test]
fn what_had_to_go_is_missed_as_evicted() {
    let upstream = Server::redis(&[]);
    let args = ["--maxmemory", "1mb", "--maxmemory-policy", "allkeys-lru"];
    let front = coherent(&upstream, &args);
    let mut client = front.connect();
    let value = "v".repeat(1000);
    let mut causes = 0;
    for number in 0..3000 {
        client.say(&format!("SET k{number} {value}"));
        client.say(&format!("GET k{number}"));
    }
    for number in 0..20 {
        client.say(&format!("GET k{number}"));
        causes = number_of(&front, "near_misses_evicted");
    }
    assert!(causes > 0, "{}", client.say("CORRAL.INFO near"));
}

#[test]
fn a_silent_upstream_makes_misses_and_a_front_that_is_not_coherent() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    client.say("SET k v");
    keep(&front, &mut client, "GET k");
    upstream.signal("STOP");
    until("it is not coherent", || number_of(&front, "coherent") == 0);
    client.send(b"GET k\r\n");
    until("the miss is counted", || {
        number_of(&front, "near_misses_incoherent") == 1
    });
    let told = front.connect().say("CACHE.EXPLAIN k");
    assert!(
        told.contains("coherence: no: upstream was not heard of"),
        "{told}"
    );
    upstream.signal("CONT");
    assert_eq!(client.frame(), Ok(b"$1\r\nv\r\n".to_vec()));
}

#[test]
fn the_state_of_upstream_and_of_its_connections_is_told() {
    let upstream = Server::redis(&[]);
    let front = coherent(
        &upstream,
        &["--io-threads", "2", "--upstream-connections", "2"],
    );
    let info = front.connect().say("CORRAL.INFO upstream");
    let url = format!("upstream_url:redis://127.0.0.1:{}\r\n", upstream.port);
    assert!(info.contains(&url), "{info}");
    for (number, thread, protocol) in [(1, 0, 2), (2, 0, 3), (3, 1, 2), (4, 1, 3)] {
        let state = if protocol == 2 { "open" } else { "idle" };
        let line = format!(
            "upstream_connection_{number}:thread={thread},protocol={protocol},state={state},"
        );
        assert!(info.contains(&line), "{line} in {info}");
    }
    assert!(number_in(&info, "upstream_connections") >= 3, "{info}");
    drop(upstream);
    until("they are lost", || {
        let info = front.connect().say("CORRAL.INFO upstream near");
        info.contains("protocol=2,state=lost,waiting=0,armed=0")
            && info.contains("coherent:0")
            && number_in(&info, "tracker_losses") > 0
    });
}

#[test]
fn a_key_is_explained_in_plain_words() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &["--near-keys-except", "tmp:*"]);
    let mut client = front.connect();
    assert_eq!(client.say("SET k value PX 60000"), OK);
    let told = client.say("CACHE.EXPLAIN k");
    assert!(told.starts_with("*9\r\n"), "{told}");
    for line in [
        "mode: front\r\n",
        "database: 0\r\n",
        "coherence: yes: upstream tells what changes (tracking)",
        "copies: 0\r\n",
        "lost: the key was not read before",
        "reads-under-way: 0\r\n",
        "client: shared",
        "rule: none: there are no rules\r\n",
        "get: ask upstream, and keep the reply: ",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    keep(&front, &mut client, "GET k");
    keep(&front, &mut client, "GETRANGE k 0 2");
    let told = client.say("CACHE.EXPLAIN k");
    for line in [
        "copies: 2\r\n",
        "copy: GETRANGE 0 2 (RESP2): 9 bytes, read ",
        "copy: GET (RESP2): 11 bytes, read ",
        "get: be answered from memory\r\n",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let hits = number_of(&front, "near_hits");
    client.say("CACHE.EXPLAIN k");
    assert_eq!(
        number_of(&front, "near_hits"),
        hits,
        "an explanation is no read"
    );
    client.say("HELLO 3");
    let told = client.say("CACHE.EXPLAIN k");
    assert!(
        told.starts_with("%9\r\n$4\r\nmode\r\n$5\r\nfront\r\n"),
        "{told}"
    );
    assert!(told.contains("$4\r\ncopy\r\n*2\r\n"), "{told}");
    assert!(
        told.contains("only other replies of the key are here"),
        "{told}"
    );
    let told = client.say("CACHE.EXPLAIN tmp:1");
    assert!(told.contains("pass plainly: near-keys"), "{told}");
}

#[test]
fn standalone_a_key_is_explained_too() {
    let server = Server::corral(&[
        "--maxmemory-policy",
        "allkeys-tinylfu",
        "--maxmemory",
        "10mb",
    ]);
    let mut client = server.connect();
    let told = client.say("CACHE.EXPLAIN k");
    assert!(told.contains("get: reply nil, and count a miss"), "{told}");
    assert_eq!(client.say("SET k 12 EX 100"), OK);
    let misses = client.info("keyspace_misses");
    let told = client.say("CACHE.EXPLAIN k");
    for line in [
        "mode: standalone\r\n",
        "type: string (int)\r\n",
        "value-bytes: 2\r\n",
        "frequency: ",
        "idle-seconds: 0\r\n",
        "get: be answered with the value",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert_eq!(
        (client.info("keyspace_hits"), client.info("keyspace_misses")),
        ("0".to_owned(), misses)
    );
}

#[test]
fn only_keys_that_the_settings_name_are_kept() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &["--near-keys", "user:* page:*"]);
    let mut client = front.connect();
    client.say("MSET user:1 a order:1 b");
    keep(&front, &mut client, "GET user:1");
    for words in ["GET order:1", "MGET user:1 order:1"] {
        let rise = counted(&front, || drop(client.say(words)));
        assert_eq!(rise, one("near_misses_uncacheable"), "{words}");
    }
    assert_eq!(
        client.say("CORRAL.CONFIG SET near-keys * near-keys-except user:*"),
        OK
    );
    keep(&front, &mut client, "GET order:1");
    let rise = counted(&front, || drop(client.say("GET user:1")));
    assert_eq!(rise, one("near_misses_uncacheable"));
}

pub(crate) fn fetch(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the admin port");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn scraped(port: u16, name: &str, label: Option<&str>) -> Option<f64> {
    let page = fetch(port, "/metrics");
    let body = page.split_once("\r\n\r\n").expect("a body").1;
    let lines = body
        .lines()
        .map(|line| Ok::<_, std::io::Error>(line.to_owned()));
    let parsed = Scrape::parse(lines).expect("Prometheus's format");
    let sample = parsed.samples.iter().find(|sample| {
        let is_labelled =
            label.is_none_or(|label| sample.labels.values().any(|value| value == label));
        sample.metric == name && is_labelled
    })?;
    match sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(value),
        Value::Histogram(_) | Value::Summary(_) => None,
    }
}

#[test]
fn metrics_tell_of_the_near_cache_and_of_coherence() {
    let upstream = Server::redis(&[]);
    let admin = free_port();
    let front = coherent(&upstream, &["--admin-port", &admin.to_string()]);
    let mut client = front.connect();
    client.say("SET k v");
    client.say("GET cold");
    keep(&front, &mut client, "GET k");
    let hits = number_of(&front, "near_hits");
    for (name, label, is_right) in [
        ("corral_near_hits_total", None, Some(hits)),
        ("corral_near_misses_total", Some("cold"), Some(2)),
        ("corral_near_misses_total", Some("uncacheable"), Some(0)),
        ("corral_coherent", None, Some(1)),
        ("corral_rung", Some("tracking"), Some(1)),
        ("corral_rung", Some("ttl"), Some(0)),
        ("corral_near_entries", None, Some(2)),
        ("corral_keyspace_hits_total", None, Some(hits)),
        ("corral_keys", None, None),
    ] {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let expected = is_right.map(|number| number as f64);
        assert_eq!(scraped(admin, name, label), expected, "{name} {label:?}");
    }
    assert!(scraped(admin, "corral_upstream_shared_connections", Some("open")) >= Some(1.0));
    assert!(fetch(admin, "/readyz").ends_with("\r\n\r\nready\n"));
    assert_eq!(client.say("CORRAL.CONFIG RESETSTAT"), OK);
    assert_eq!(number_of(&front, "near_hits"), 0);
    assert!(
        scraped(admin, "corral_near_hits_total", None) >= Some(1.0),
        "it only rises"
    );
    // A user who may not track: ready all the same.
    let mut direct = upstream.connect();
    assert_eq!(
        direct.say("ACL SETUSER front on >p ~* +@all -client|tracking"),
        OK
    );
    let admin = free_port();
    let url = format!("redis://front:p@127.0.0.1:{}", upstream.port);
    let _blind = Server::corral(&["--upstream", &url, "--admin-port", &admin.to_string()]);
    until("it has given up", || {
        scraped(admin, "corral_rung", Some("ttl")) == Some(1.0)
    });
    let answer = fetch(admin, "/readyz");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("ready (degraded"),
        "{answer}"
    );
}

#[test]
fn where_nothing_is_told_copies_are_kept_for_the_bound() {
    let upstream = Server::redis(&[]);
    let admin = free_port();
    let url = format!("redis://127.0.0.1:{}", upstream.port);
    let args = [
        "--upstream",
        &url,
        "--upstream-tracking",
        "none",
        "--admin-port",
        &admin.to_string(),
    ];
    let front = Server::corral(&args);
    let mut client = front.connect();
    assert_eq!(client.say("SET k v"), OK);
    until("a read is a hit", || {
        client.say("GET k");
        client.say("GET k");
        scraped(admin, "corral_near_hits_total", None) > Some(0.0)
    });
    assert_eq!(upstream.connect().say("SET k new"), OK);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.say("GET k"), "$3\r\nnew\r\n");
}

#[test]
fn where_nothing_is_told_a_client_still_reads_what_it_wrote() {
    let upstream = Server::redis(&["--rename-command", "SET", "PUT.IT"]);
    let args = ["--upstream-tracking", "none", "--staleness-bound", "4000"];
    let front = Server::front(&upstream, &args);
    let mut client = front.connect();
    let writes = [
        "MSET k 1",
        "PUT.IT k 2",
        "EVAL redis.call('MSET','k','3') 0",
        "MULTI|MSET k 4|EXEC",
    ];
    for (number, write) in (1..).zip(writes) {
        for words in write.split('|') {
            let reply = client.say(words);
            assert!(!reply.starts_with('-'), "{words}: {reply}");
        }
        assert_eq!(
            client.say("GET k"),
            format!("$1\r\n{number}\r\n"),
            "{write}"
        );
        keep(&front, &mut client, "GET k");
    }
}

#[test]
fn a_transaction_voids_the_keys_that_it_names_and_no_others() {
    let upstream = Server::redis(&[]);
    let args = ["--upstream-tracking", "none", "--staleness-bound", "60000"];
    let front = Server::front(&upstream, &args);
    let mut client = front.connect();
    for key in ["k", "other"] {
        keep(&front, &mut client, &format!("GET {key}"));
    }
    assert_eq!(upstream.connect().say("SET other new"), OK);
    for (words, reply) in [
        ("MULTI", OK),
        ("SET k v", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n+OK\r\n"),
        ("GET k", "$1\r\nv\r\n"),
        ("GET other", "$-1\r\n"),
    ] {
        assert_eq!(client.say(words), reply);
    }
}
