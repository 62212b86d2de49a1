//! Hits of a front that are looked at more closely: compared with upstream, and told to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corral::clock;

use super::common::{PATIENCE, Server, free_port};
use super::near::{coherent, fetch, keep, number_of, until};

const OK: &str = "+OK\r\n";

#[test]
fn a_change_that_upstream_does_not_tell_is_found() {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    let admin = free_port().to_string();
    let front = coherent(&upstream, &["--shadow-verify", "1", "--admin-port", &admin]);
    let mut client = front.connect();
    assert_eq!(direct.say("SET k old"), OK);
    assert_eq!(direct.say("SADD set a b c d e"), ":5\r\n");
    keep(&front, &mut client, "GET k");
    keep(&front, &mut client, "MGET k");
    keep(&front, &mut client, "SMEMBERS set");
    until("they are compared", || {
        client.say("GET k");
        number_of(&front, "shadow_checks") >= 5
    });
    assert_eq!(number_of(&front, "stale_served_total"), 0);
    // Nothing is told of this.
    assert_eq!(direct.say("SWAPDB 0 3"), OK);
    assert_eq!(client.say("GET k"), "$3\r\nold\r\n");
    until("it is found", || {
        number_of(&front, "stale_served_total") == 1
    });
    // And not served again.
    assert_eq!(client.say("GET k"), "$-1\r\n");
    let page = fetch(admin.parse().expect("a port"), "/metrics");
    assert!(page.contains("corral_stale_served_total 1\n"), "{page}");
    assert!(
        page.contains("corral_stale_served_age_seconds_count 1\n"),
        "{page}"
    );
    assert!(
        page.contains("corral_stale_served_age_seconds_bucket{le=\"3600\"} 1\n"),
        "{page}"
    );
}

#[test]
fn a_change_that_upstream_tells_is_no_stale_hit() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &["--shadow-verify", "1"]);
    let port = upstream.port;
    let since = clock::now();
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_over);
    let writing = std::thread::spawn(move || {
        let address = (std::net::Ipv4Addr::LOCALHOST, port);
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let request = format!("SET k {number}\r\nHSET h f {number}\r\n");
            std::io::Write::write_all(&mut stream, request.as_bytes()).expect("it is there");
            let mut reply = [0; 64];
            let len = std::io::Read::read(&mut stream, &mut reply).expect("a reply");
            assert!(len > 0, "it is there");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut clients: Vec<_> = (0..8).map(|_| front.connect()).collect();
    // On a busy machine most reads race with a write: longer, until enough were compared.
    while since.elapsed() < Duration::from_secs(2) || number_of(&front, "shadow_checks") <= 100 {
        assert!(since.elapsed() < PATIENCE * 3, "too few are compared");
        for client in &mut clients {
            client.send(b"GET k\r\nHGETALL h\r\nGET k\r\nGET k\r\n");
        }
        for client in &mut clients {
            for _ in 0..4 {
                client.frame().expect("a reply");
            }
        }
        // Writes of the front's own.
        clients[0].say("SET k mine");
    }
    is_over.store(true, Ordering::Relaxed);
    writing.join().expect("it wrote");
    let checks = number_of(&front, "shadow_checks");
    let races = number_of(&front, "shadow_races");
    println!("{checks} compared, {races} races");
    assert_eq!(number_of(&front, "stale_served_total"), 0);
}

#[test]
fn what_is_only_read_from_memory_is_not_idle_upstream() {
    let upstream = Server::redis(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut direct = upstream.connect();
    let front = coherent(&upstream, &["--upstream-touch", "1"]);
    let mut client = front.connect();
    assert_eq!(client.say("MSET hot v cold v"), OK);
    assert_eq!(client.say("SELECT 1"), OK);
    assert_eq!(client.say("SET hot v"), OK);
    keep(&front, &mut client, "GET hot");
    assert_eq!(client.say("SELECT 0"), OK);
    keep(&front, &mut client, "GET hot");
    keep(&front, &mut client, "GET cold");
    let since = clock::now();
    while since.elapsed() < Duration::from_millis(6500) {
        client.say("GET hot");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut idle = |key: &str| -> u64 {
        let reply = direct.say(&format!("OBJECT IDLETIME {key}"));
        let digits = reply.trim_start_matches(':').trim_end();
        digits.parse().unwrap_or_else(|_| panic!("{reply}"))
    };
    let (hot, cold) = (idle("hot"), idle("cold"));
    assert!(hot <= 3 && cold >= 4, "{hot} s and {cold} s");
    assert!(number_of(&front, "upstream_touched_keys") >= 3);
    // Nothing was missed for that.
    assert_eq!(number_of(&front, "near_misses_invalidated"), 0);
}
