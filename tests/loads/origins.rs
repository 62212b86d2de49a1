//! Values that are loaded.

use std::time::Duration;

use crate::bench::Bench;
use crate::common::{Client, bulk, until};

fn is_there(client: &mut Client, key: &str) -> bool {
    client.send(format!("EXISTS {key}\r\n"));
    client.line() == ":1"
}

#[test]
fn a_herd_on_a_missing_key_costs_one_load() {
    let mut bench = Bench::start();
    bench.has("1", "one");
    bench.hold();
    let mut clients: Vec<Client> = (0..200).map(|_| bench.connect()).collect();
    clients
        .iter_mut()
        .for_each(|client| client.send("GET o:1\r\n"));
    until("all wait for one", || {
        bench.of_origin(|counts| counts.coalesced.get()) == 199
    });
    bench.release();
    for client in &mut clients {
        client.expect("$3\r\none\r\n");
    }
    assert_eq!(bench.asked(), 1);
    clients[0].ask("GET o:1\r\n", "$3\r\none\r\n");
    assert_eq!(bench.asked(), 1, "it is there now");
}

#[test]
fn the_misses_of_a_pipeline_are_loaded_side_by_side_and_answered_in_order() {
    let mut bench = Bench::start();
    for key in ["1", "3"] {
        bench.has(key, key);
    }
    bench.hold();
    let mut client = bench.connect();
    client.send("SET o:2 here\r\nGET o:1\r\nGET o:2\r\nMGET o:3 o:4\r\nGET o:1\r\nPING\r\n");
    // It is held: had it been asked one by one, it would have been asked once.
    bench.until_asked(3);
    bench.release();
    client.expect("+OK\r\n$1\r\n1\r\n$4\r\nhere\r\n*2\r\n$1\r\n3\r\n$-1\r\n$1\r\n1\r\n+PONG\r\n");
    assert_eq!(bench.asked(), 3);
}

#[test]
fn the_missing_keys_of_an_mget_are_loaded_side_by_side() {
    let mut bench = Bench::start();
    for key in 0..20 {
        bench.has(&key.to_string(), &key.to_string());
    }
    bench.hold();
    let mut client = bench.connect();
    let keys: Vec<String> = (0..20).map(|key| format!("o:{key}")).collect();
    client.send(format!("MGET {} plain o:0\r\n", keys.join(" ")));
    bench.until_asked(20);
    bench.release();
    client.expect("*22\r\n");
    for key in 0..20 {
        client.expect(bulk(key.to_string().as_bytes()));
    }
    client.expect("$-1\r\n$1\r\n0\r\n");
    assert_eq!(bench.asked(), 20);
}

#[test]
fn more_keys_than_may_wait_together_are_loaded_in_turns() {
    let mut bench = Bench::with(
        "timeout = \"60s\"\nnegative-ttl = \"60s\"",
        "lease = \"60s\"",
    );
    let mut client = bench.connect();
    let keys: Vec<String> = (0..1100).map(|key| format!("o:{key}")).collect();
    bench.hold();
    client.send(format!("MGET {}\r\n", keys.join(" ")));
    until("as many as may wait together wait", || {
        bench.server.instance.policy.under_way() >= 1024
    });
    assert_eq!(bench.server.instance.policy.under_way(), 1024);
    bench.release();
    client.expect("*1100\r\n");
    for _ in 0..1100 {
        client.expect("$-1\r\n");
    }
    assert_eq!(bench.asked(), 1100);
}

#[test]
fn a_caller_that_hangs_up_cancels_nothing() {
    let mut bench = Bench::start();
    bench.has("1", "one");
    bench.hold();
    let mut caller = bench.connect();
    caller.send("GET o:1\r\n");
    bench.until_asked(1);
    drop(caller);
    bench.until_clients(0);
    bench.release();
    let mut other = bench.connect();
    until("it is loaded", || is_there(&mut other, "o:1"));
    assert_eq!(bench.asked(), 1);
    assert_eq!(bench.server.instance.policy.under_way(), 0);
}

#[test]
fn a_caller_that_is_killed_is_closed_at_once_and_cancels_nothing() {
    let mut bench = Bench::start();
    bench.has("1", "one");
    bench.hold();
    let mut caller = bench.connect();
    caller.ask("CLIENT ID\r\n", ":");
    let id = caller.line();
    caller.send("GET o:1\r\n");
    bench.until_asked(1);
    let mut other = bench.connect();
    other.ask(format!("CLIENT KILL ID {id}\r\n"), ":1\r\n");
    caller.expect_closed();
    bench.release();
    until("it is loaded", || is_there(&mut other, "o:1"));
}

#[test]
fn a_server_that_stops_does_not_wait_for_loads() {
    let mut bench = Bench::start();
    bench.hold();
    let mut clients: Vec<Client> = (0..20).map(|_| bench.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET o:{number}\r\n"));
    }
    bench.until_asked(20);
    let Bench { server, .. } = bench;
    assert!(server.stop() < Duration::from_secs(5));
}

#[test]
fn what_a_load_brings_is_not_stored_when_its_key_was_removed_meanwhile() {
    for removal in ["DEL o:1", "FLUSHALL", "SET o:1 x PXAT 1", "GETDEL o:1"] {
        let mut bench = Bench::start();
        bench.has("1", "old");
        bench.hold();
        let mut first = bench.connect();
        first.send("GET o:1\r\n");
        bench.until_asked(1);
        bench.has("1", "new");
        let mut other = bench.connect();
        other.send(format!("{removal}\r\n"));
        other.line();
        other.send("GET o:1\r\n");
        bench.until_asked(2);
        bench.release();
        other.expect("$3\r\nnew\r\n");
        first.expect("$3\r\n");
        // It may find the newer one, if that was quicker.
        let got = first.line();
        assert!(got == "old" || got == "new", "{got}");
        other.ask("GET o:1\r\n", "$3\r\nnew\r\n");
        assert_eq!(bench.of_origin(|counts| counts.void.get()), 1, "{removal}");
    }
}

#[test]
fn a_value_that_is_stored_during_a_load_stays() {
    let mut bench = Bench::start();
    bench.has("1", "loaded");
    bench.hold();
    let mut first = bench.connect();
    first.send("GET o:1\r\n");
    bench.until_asked(1);
    let mut other = bench.connect();
    other.ask("SET o:1 set\r\n", "+OK\r\n");
    other.ask("GET o:1\r\n", "$3\r\nset\r\n");
    bench.release();
    // There is a newer one by now.
    first.expect("$3\r\nset\r\n");
    other.ask("GET o:1\r\n", "$3\r\nset\r\n");
}

#[test]
fn a_database_that_is_swapped_away_during_a_load_gets_nothing_of_it() {
    let mut bench = Bench::start();
    bench.has("1", "one");
    bench.hold();
    let mut first = bench.connect();
    first.send("GET o:1\r\n");
    bench.until_asked(1);
    let mut other = bench.connect();
    other.ask("SWAPDB 0 1\r\n", "+OK\r\n");
    bench.release();
    first.expect("$3\r\none\r\n");
    assert!(!is_there(&mut other, "o:1"));
    other.ask("SELECT 1\r\n", "+OK\r\n");
    assert!(!is_there(&mut other, "o:1"));
}

#[test]
fn a_read_behind_ones_own_removal_in_a_pipeline_is_loaded_anew() {
    let bench = Bench::start();
    bench.has("1", "one");
    let mut client = bench.connect();
    client.ask(
        "GET o:1\r\nDEL o:1\r\nGET o:1\r\n",
        "$3\r\none\r\n:1\r\n$3\r\none\r\n",
    );
    assert_eq!(bench.asked(), 2);
}

#[test]
fn an_mget_with_a_key_that_is_known_to_fail_is_answered_once() {
    let mut bench = Bench::with("timeout = \"60s\"\nerror-ttl = \"60s\"", "lease = \"60s\"");
    bench.has("1", "one");
    bench.fails("bad");
    let mut client = bench.connect();
    client.ask("GET o:bad\r\n", "-ORIGIN o: ");
    client.line();
    bench.hold();
    client.ask("MGET o:1 o:bad\r\n", "-ORIGIN o: ");
    client.line();
    client.ask("PING\r\n", "+PONG\r\n");
    bench.until_asked(2);
    bench.release();
    client.ask("GET o:1\r\n", "$3\r\none\r\n");
    assert_eq!(bench.asked(), 2, "what was begun went on");
}

#[test]
fn an_mget_that_gets_a_lease_waits_for_loads_all_the_same() {
    let bench = Bench::start();
    bench.has("1", "one");
    let mut client = bench.connect();
    client.ask("MGET l:1 o:1 l:2\r\n", "*3\r\n$-1\r\n$3\r\none\r\n$-1\r\n");
    assert_eq!(bench.of_leases(|counts| counts.leases.get()), 2);
}

#[test]
fn a_reply_that_is_to_be_skipped_is_skipped_when_it_comes_late() {
    let bench = Bench::start();
    bench.has("1", "one");
    let mut client = bench.connect();
    client.ask("CLIENT REPLY SKIP\r\nGET o:1\r\nPING\r\n", "+PONG\r\n");
    client.ask(
        "CLIENT REPLY OFF\r\nGET o:2\r\nCLIENT REPLY ON\r\n",
        "+OK\r\n",
    );
    assert_eq!(bench.asked(), 2);
}

#[test]
fn a_transaction_neither_waits_nor_loads() {
    let bench = Bench::start();
    bench.has("1", "one");
    let mut client = bench.connect();
    client.ask(
        "MULTI\r\nGET o:1\r\nMGET o:1 l:1\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n*2\r\n$-1\r\n$-1\r\n",
    );
    assert_eq!(bench.asked(), 0);
    assert_eq!(bench.server.instance.policy.under_way(), 0);
}

#[test]
fn what_is_sent_behind_a_read_that_waits_runs_in_order_however_much_it_is() {
    let mut bench = Bench::start();
    bench.has("1", "one");
    bench.hold();
    let mut client = bench.connect();
    client.send("GET o:1\r\n");
    bench.until_asked(1);
    let value = "v".repeat(1000);
    let ahead: String = (0..300)
        .map(|number| format!("ECHO {number}{value}\r\n"))
        .collect();
    client.send(ahead);
    client.expect_silence();
    bench.release();
    client.expect("$3\r\none\r\n");
    for number in 0..300 {
        client.expect(bulk(format!("{number}{value}").as_bytes()));
    }
}

#[test]
fn a_failure_and_an_absence_are_remembered_until_the_key_changes() {
    let bench = Bench::with(
        "timeout = \"60s\"\nerror-ttl = \"60s\"\nnegative-ttl = \"60s\"",
        "lease = \"60s\"",
    );
    bench.fails("bad");
    let mut client = bench.connect();
    for _ in 0..3 {
        client.ask("GET o:bad\r\n", "-ORIGIN o: ");
        client.line();
        client.ask("GET o:none\r\n", "$-1\r\n");
    }
    assert_eq!(bench.asked(), 2);
    assert_eq!(bench.of_origin(|counts| counts.negative_hits.get()), 2);
    assert_eq!(bench.of_origin(|counts| counts.error_hits.get()), 2);
    client.ask("DEL o:bad o:none\r\n", ":0\r\n");
    client.ask("GET o:none\r\n", "$-1\r\n");
    assert_eq!(bench.asked(), 3);
    client.ask("SET o:none here\r\nGET o:none\r\n", "+OK\r\n$4\r\nhere\r\n");
    client.ask("FLUSHDB\r\nGET o:none\r\n", "+OK\r\n$-1\r\n");
    assert_eq!(bench.asked(), 4);
}

#[test]
fn who_waits_gets_an_error_at_the_timeout_and_the_load_goes_on() {
    let mut bench = Bench::with("timeout = \"1s\"", "lease = \"60s\"");
    bench.has("1", "one");
    bench.hold();
    let mut client = bench.connect();
    client.ask("GET o:1\r\n", "-ORIGIN o: no answer in time\r\n");
    bench.release();
    until("it is loaded", || is_there(&mut client, "o:1"));
    assert_eq!(bench.asked(), 1);
}

#[test]
fn a_value_there_is_no_room_for_is_served_all_the_same() {
    let settings = [("maxmemory", "2mb"), ("maxmemory-policy", "noeviction")];
    let bench = Bench::of("timeout = \"60s\"", "lease = \"60s\"", &settings);
    let value = "v".repeat(100_000);
    bench.has("1", &value);
    let mut client = bench.connect();
    let mut number = 0;
    let fill = "f".repeat(50_000);
    loop {
        client.send(format!("SET {number} {fill}\r\n"));
        if client.line() != "+OK" {
            break;
        }
        number += 1;
    }
    client.ask("GET o:1\r\n", bulk(value.as_bytes()));
    assert!(!is_there(&mut client, "o:1"));
    assert_eq!(bench.of_origin(|counts| counts.not_stored.get()), 1);
    client.ask("GET o:1\r\n", bulk(value.as_bytes()));
    assert_eq!(bench.server.instance.policy.under_way(), 0);
}

#[test]
fn jitter_only_shortens() {
    let bench = Bench::with("ttl = \"100s\"\njitter = 0.5", "lease = \"60s\"");
    let mut client = bench.connect();
    let mut shortest = i64::MAX;
    for key in 0..20 {
        bench.has(&key.to_string(), "v");
        client.ask(format!("GET o:{key}\r\n"), "$1\r\nv\r\n");
        client.send(format!("PTTL o:{key}\r\n"));
        let left: i64 = client.line()[1..].parse().expect("a number");
        assert!((40_000..=100_000).contains(&left), "{left}");
        shortest = shortest.min(left);
    }
    assert!(shortest < 95_000, "{shortest}");
}

#[test]
fn the_expiry_of_a_loaded_value_can_be_changed_and_taken_away() {
    let bench = Bench::with("ttl = \"100s\"", "lease = \"60s\"");
    bench.has("1", "one");
    let mut client = bench.connect();
    client.ask(
        "GET o:1\r\nPERSIST o:1\r\nTTL o:1\r\n",
        "$3\r\none\r\n:1\r\n:-1\r\n",
    );
    client.ask("EXPIRE o:1 1000\r\nTTL o:1\r\n", ":1\r\n:1000\r\n");
    client.ask("EXPIRE o:1 0\r\nEXISTS o:1\r\n", ":1\r\n:0\r\n");
    client.ask("GET o:1\r\n", "$3\r\none\r\n");
    assert_eq!(bench.asked(), 2);
}

#[test]
fn what_is_written_through_is_as_old_as_its_beginning() {
    for write in ["SET o:1 v\r\n", "MSET o:1 v other v\r\n"] {
        let mut bench = Bench::with("timeout = \"60s\"\nwrite = \"through\"\ntags = [\"t\"]", "");
        let (mut client, mut other) = (bench.connect(), bench.connect());
        bench.hold();
        client.send(write);
        bench.until_asked(1);
        // Of what the value was made from, something has changed.
        other.ask("TAG.INVALIDATE t\r\n", ":0\r\n");
        bench.release();
        client.expect("+OK\r\n");
        assert!(!is_there(&mut other, "o:1"), "{write}");
        // What begins after it is kept.
        client.ask(write, "+OK\r\n");
        assert!(is_there(&mut other, "o:1"), "{write}");
    }
}

#[test]
fn a_read_is_loaded_once_more_at_most_however_often_tags_are_invalidated() {
    let mut bench = Bench::with("timeout = \"60s\"\ntags = [\"t\"]", "");
    let joined = |bench: &Bench, count: u64| {
        until("it waits with another", || {
            bench.of_origin(|counts| counts.coalesced.get()) == count
        });
    };
    bench.has("1", "one");
    let mut clients: Vec<Client> = (0..4).map(|_| bench.connect()).collect();
    let [first, late, second, other] = &mut clients[..] else {
        unreachable!("there are four")
    };
    bench.hold();
    first.send("GET o:1\r\n");
    bench.until_asked(1);
    // It comes after an invalidation, though not of this key as far as is known.
    other.ask("TAG.INVALIDATE another\r\n", ":0\r\n");
    late.send("GET o:1\r\n");
    joined(&bench, 1);
    other.ask("TAG.INVALIDATE t\r\n", ":0\r\n");
    bench.has("1", "two");
    let held = bench.hold_apart();
    second.send("GET o:1\r\n");
    bench.until_asked(2);
    other.ask("TAG.INVALIDATE another\r\n", ":0\r\n");
    drop(held);
    first.expect("$3\r\none\r\n");
    joined(&bench, 2);
    other.ask("TAG.INVALIDATE t\r\n", ":0\r\n");
    bench.release();
    second.expect("$3\r\ntwo\r\n");
    late.expect("$3\r\ntwo\r\n");
    assert_eq!(bench.asked(), 2);
    assert!(!is_there(other, "o:1"), "it is outdated");
}
