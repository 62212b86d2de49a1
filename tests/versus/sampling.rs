//! Hits of a front that are looked at more closely: compared with upstream, and told to it.

use std::time::Duration;

use corral::clock;

use super::common::{Client, PATIENCE, Server, free_port};
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
    let upstream = Server::redis(&["--enable-debug-command", "yes"]);
    let bound = ["--shadow-verify", "1", "--staleness-bound", "5000"];
    let front = coherent(&upstream, &bound);
    let mut writer = upstream.connect();
    let mut clients: Vec<_> = (0..8).map(|_| front.connect()).collect();
    let since = clock::now();
    let (mut number, mut seen) = (0, (0, 0));
    while seen.0 <= 100 || seen.1 <= 20 {
        let (checks, races) = seen;
        assert!(
            since.elapsed() < PATIENCE * 3,
            "in {number} rounds {checks} are compared, {races} race"
        );
        number += 1;
        // Nothing is changed meanwhile, so what is read the third time comes from memory.
        for _ in 0..3 {
            all_say(&mut clients, "GET k\r\nHGETALL h\r\n", 2);
        }
        // Upstream tells of a change when it has slept. Who reads meanwhile is served what was
        // there before, and it is compared with what upstream says when it tells of the change.
        let change = format!("SET k {number}\r\nHSET h f {number}\r\nDEBUG SLEEP 0.02\r\n");
        writer.send(format!("MULTI\r\n{change}EXEC\r\n").as_bytes());
        all_say(&mut clients, "GET k\r\nHGETALL h\r\nGET k\r\nGET k\r\n", 4);
        for _ in 0..5 {
            writer.frame().expect("a reply");
        }
        // A write of the front's own.
        assert_eq!(clients[0].say("SET k mine"), OK);
        seen = (
            number_of(&front, "shadow_checks"),
            number_of(&front, "shadow_races"),
        );
        assert_eq!(number_of(&front, "stale_served_total"), 0);
    }
}

/// All of them at once.
fn all_say(clients: &mut [Client], requests: &str, count: usize) {
    for client in &mut *clients {
        client.send(requests.as_bytes());
    }
    for client in clients {
        for _ in 0..count {
            client.frame().expect("a reply");
        }
    }
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
