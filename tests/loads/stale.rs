//! What is left of a value that expired.

use std::time::Duration;

use tokio::time::Instant;

use crate::bench::Bench;
use crate::common::{Client, until};

/// A server that has loaded `o:1`, the value `old`, which has expired since and is kept.
fn expired(of_origin: &str) -> (Bench, Client) {
    let bench = Bench::with(
        &format!("ttl = \"50ms\"\nbeta = 0\n{of_origin}"),
        "lease = \"60s\"\nstale-if-error = \"1h\"",
    );
    bench.has("1", "old");
    let mut client = bench.connect();
    client.ask("GET o:1\r\n", "$3\r\nold\r\n");
    until("it has expired", || {
        client.send("EXISTS o:1\r\n");
        client.line() == ":0"
    });
    (bench, client)
}

const WHILE_REVALIDATE: &str = "timeout = \"60s\"\nstale-while-revalidate = \"1h\"";
const IF_ERROR: &str = "timeout = \"60s\"\nerror-ttl = \"60s\"\nstale-if-error = \"1h\"";

#[test]
fn a_stale_value_is_served_at_once_while_one_load_brings_the_next() {
    let (mut bench, mut client) = expired(WHILE_REVALIDATE);
    bench.has("1", "new");
    bench.hold();
    for _ in 0..5 {
        client.ask(
            "GET o:1\r\nMGET o:1\r\n",
            "$3\r\nold\r\n*1\r\n$3\r\nold\r\n",
        );
    }
    bench.until_asked(2);
    bench.release();
    until("the next is there", || {
        client.send("GET o:1\r\n");
        client.line();
        client.line() == "new"
    });
    assert!(bench.of_origin(|counts| counts.stale_refreshes.get()) >= 1);
}

#[test]
fn a_stale_value_stands_in_for_a_load_that_fails_and_the_origin_is_left_alone() {
    let (bench, mut client) = expired(IF_ERROR);
    bench.fails("1");
    for _ in 0..5 {
        client.ask("GET o:1\r\n", "$3\r\nold\r\n");
    }
    assert_eq!(bench.asked(), 2);
    assert_eq!(bench.of_origin(|counts| counts.stale_if_error.get()), 5);
}

#[test]
fn a_stale_value_stands_in_for_a_load_that_takes_longer_than_the_soft_timeout() {
    let (mut bench, mut client) = expired(&format!("{IF_ERROR}\nsoft-timeout = \"20ms\""));
    bench.has("1", "new");
    bench.hold();
    client.ask("GET o:1\r\n", "$3\r\nold\r\n");
    bench.until_asked(2);
    bench.release();
    until("the load went on", || {
        client.send("EXISTS o:1\r\n");
        client.line() == ":1" || bench.of_origin(|counts| counts.loaded.get()) == 2
    });
    assert_eq!(bench.asked(), 2);
}

#[test]
fn nobody_but_reads_by_rule_sees_what_is_left_of_a_value() {
    let (mut bench, mut client) = expired(WHILE_REVALIDATE);
    bench.hold();
    client.ask(
        "TTL o:1\r\nPTTL o:1\r\nEXISTS o:1\r\nTYPE o:1\r\n",
        ":-2\r\n:-2\r\n:0\r\n+none\r\n",
    );
    client.ask(
        "STRLEN o:1\r\nGETEX o:1\r\nGETRANGE o:1 0 -1\r\n",
        ":0\r\n$-1\r\n$0\r\n\r\n",
    );
    client.ask(
        "KEYS *\r\nSCAN 0 COUNT 1000\r\nRANDOMKEY\r\n",
        "*0\r\n*2\r\n$1\r\n0\r\n*0\r\n$-1\r\n",
    );
    client.ask(
        "EXPIRE o:1 100\r\nPERSIST o:1\r\nTOUCH o:1\r\n",
        ":0\r\n:0\r\n:0\r\n",
    );
    client.ask("RENAME o:1 x\r\n", "-ERR no such key\r\n");
    client.ask(
        "COPY o:1 x\r\nOBJECT ENCODING o:1\r\nDUMP o:1\r\n",
        ":0\r\n$-1\r\n$-1\r\n",
    );
    client.ask("SET o:1 x XX\r\nGET o:1\r\n", "$-1\r\n$3\r\nold\r\n");
    bench.release();
}

#[test]
fn what_is_left_of_a_value_is_gone_when_its_key_is_removed() {
    let (bench, mut client) = expired(WHILE_REVALIDATE);
    bench.has("1", "new");
    client.ask("DEL o:1\r\n", ":0\r\n");
    client.ask("GET o:1\r\n", "$3\r\nnew\r\n");
    assert_eq!(bench.asked(), 2);
}

#[test]
fn writes_find_no_value_where_one_has_expired() {
    for (write, reply, value) in [
        ("APPEND o:1 x", ":1", "x"),
        ("SETRANGE o:1 0 x", ":1", "x"),
        ("INCR o:1", ":1", "1"),
        ("GETSET o:1 x", "$-1", "x"),
        ("SETNX o:1 x", ":1", "x"),
        ("SET o:1 x GET", "$-1", "x"),
        ("SET o:1 x NX", "+OK", "x"),
    ] {
        let (_bench, mut client) = expired(WHILE_REVALIDATE);
        client.ask(format!("{write}\r\n"), format!("{reply}\r\n"));
        client.ask("GET o:1\r\n", format!("$1\r\n{value}\r\n"));
        client.ask("TTL o:1\r\n", ":-1\r\n");
    }
}

#[test]
fn a_key_takes_the_place_of_what_is_left_of_a_value() {
    for write in ["RENAME plain o:1", "COPY plain o:1"] {
        let (_bench, mut client) = expired(WHILE_REVALIDATE);
        client.ask("SET plain p\r\n", "+OK\r\n");
        client.send(format!("{write}\r\n"));
        client.line();
        client.ask("GET o:1\r\nTTL o:1\r\n", "$1\r\np\r\n:-1\r\n");
    }
}

#[test]
fn a_transaction_over_a_key_that_had_expired_before_it_was_watched_runs() {
    let (mut bench, mut client) = expired(WHILE_REVALIDATE);
    bench.hold();
    client.ask("WATCH o:1\r\n", "+OK\r\n");
    let mut other = bench.connect();
    other.ask("EXISTS o:1\r\n", ":0\r\n");
    client.ask(
        "MULTI\r\nSET o:1 x\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
    );
    bench.release();
}

#[test]
fn others_get_the_stale_value_while_the_holder_of_a_lease_makes_the_next() {
    let bench = Bench::with(
        "",
        "lease = \"60s\"\nstale-while-revalidate = \"1h\"\nbeta = 0",
    );
    let mut client = bench.connect();
    client.ask("SET l:1 old PX 50\r\n", "+OK\r\n");
    until("it has expired", || {
        client.send("EXISTS l:1\r\n");
        client.line() == ":0"
    });
    client.ask("GET l:1\r\n", "$-1\r\n");
    let mut other = bench.connect();
    other.ask("GET l:1\r\nGET l:1\r\n", "$3\r\nold\r\n$3\r\nold\r\n");
    client.ask("SET l:1 new PX 60000\r\n", "+OK\r\n");
    other.ask("GET l:1\r\n", "$3\r\nnew\r\n");
    assert_eq!(bench.of_leases(|counts| counts.lease_waits.get()), 0);
}

#[test]
fn an_origin_that_has_no_value_any_more_ends_what_is_left_of_it() {
    let (bench, mut client) = expired(IF_ERROR);
    bench.has("1", "");
    client.ask("GET o:1\r\nGET o:1\r\n", "$-1\r\n$-1\r\n");
    bench.fails("1");
    client.ask("DEL o:1\r\n", ":0\r\n");
    client.ask("GET o:1\r\n", "-ORIGIN o: ");
    client.line();
}

#[test]
fn an_origin_that_is_down_for_five_seconds_costs_no_error_and_is_asked_ten_times_at_most() {
    let bench = Bench::with(
        "ttl = \"50ms\"\nbeta = 0\nstale-if-error = \"1h\"",
        "lease = \"60s\"",
    );
    bench.has("1", "old");
    let mut clients: Vec<Client> = (0..8).map(|_| bench.connect()).collect();
    clients[0].ask("GET o:1\r\n", "$3\r\nold\r\n");
    until("it has expired", || {
        clients[0].send("EXISTS o:1\r\n");
        clients[0].line() == ":0"
    });
    bench.fails("1");
    let asked = bench.asked();
    let since = Instant::now();
    let mut served = 0;
    while since.elapsed() < Duration::from_millis(4950) {
        for client in &mut clients {
            client.send("GET o:1\r\n");
        }
        for client in &mut clients {
            client.expect("$3\r\nold\r\n");
            served += 1;
        }
    }
    let attempts = bench.asked() - asked;
    assert!((2..=10).contains(&attempts), "{attempts}");
    assert_eq!(
        bench.of_origin(|counts| counts.stale_if_error.get()),
        served
    );
}
