//! Values that clients make, one at a time.

use crate::bench::Bench;
use crate::common::{Client, until};

/// A server where a lease lasts as long as any test.
fn bench() -> Bench {
    Bench::start()
}

/// A client that holds the lease of a key.
fn holder(bench: &Bench, key: &str) -> Client {
    let mut client = bench.connect();
    client.ask(format!("GET {key}\r\n"), "$-1\r\n");
    client
}

/// A client that waits for a key.
fn waiter(bench: &Bench, key: &str) -> Client {
    let before = bench.of_leases(|counts| counts.lease_waits.get());
    let mut client = bench.connect();
    client.send(format!("GET {key}\r\n"));
    bench.until_waits(before + 1);
    client
}

#[test]
fn who_reads_a_missing_key_second_waits_for_the_first_to_store_it() {
    let bench = bench();
    let mut first = holder(&bench, "l:1");
    let mut others: Vec<Client> = (0..20).map(|_| waiter(&bench, "l:1")).collect();
    first.ask("SET l:1 made EX 100\r\n", "+OK\r\n");
    for other in &mut others {
        other.expect("$4\r\nmade\r\n");
    }
    assert_eq!(bench.of_leases(|counts| counts.leases_kept.get()), 1);
    assert_eq!(bench.server.instance.policy.under_way(), 0);
}

#[test]
fn exactly_one_of_those_who_wait_inherits_from_a_holder_that_leaves() {
    let bench = bench();
    let first = holder(&bench, "l:1");
    let mut heir = waiter(&bench, "l:1");
    let mut others: Vec<Client> = (0..3).map(|_| waiter(&bench, "l:1")).collect();
    drop(first);
    heir.expect("$-1\r\n");
    for other in &mut others {
        other.expect_silence();
    }
    assert_eq!(bench.of_leases(|counts| counts.leases_inherited.get()), 1);
    heir.ask("SET l:1 made\r\n", "+OK\r\n");
    for other in &mut others {
        other.expect("$4\r\nmade\r\n");
    }
}

#[test]
fn removing_the_key_lets_one_of_those_who_wait_make_it_anew() {
    for removal in ["DEL l:1", "UNLINK l:1", "FLUSHDB", "FLUSHALL"] {
        let bench = bench();
        let mut first = holder(&bench, "l:1");
        let mut heir = waiter(&bench, "l:1");
        let mut other = waiter(&bench, "l:1");
        first.send(format!("{removal}\r\n"));
        first.line();
        heir.expect("$-1\r\n");
        other.expect_silence();
        heir.ask("SET l:1 made\r\n", "+OK\r\n");
        other.expect("$4\r\nmade\r\n");
    }
}

#[test]
fn a_holder_waits_for_nobody() {
    let bench = bench();
    let mut first = holder(&bench, "l:1");
    let _second = holder(&bench, "l:2");
    first.ask("GET l:1\r\n", "$-1\r\n");
    first.ask("GET l:2\r\n", "$-1\r\n");
    first.ask("MGET l:1 l:2 l:3\r\n", "*3\r\n$-1\r\n$-1\r\n$-1\r\n");
    assert_eq!(bench.of_leases(|counts| counts.lease_waits.get()), 0);
}

#[test]
fn an_mget_that_gets_a_lease_does_not_wait_and_one_that_gets_none_does() {
    let bench = bench();
    let mut first = holder(&bench, "l:1");
    let mut second = bench.connect();
    second.ask("MGET l:1 l:2\r\n", "*2\r\n$-1\r\n$-1\r\n");
    let mut third = bench.connect();
    third.send("MGET l:1 l:2 plain l:1\r\n");
    bench.until_waits(2);
    first.ask("SET l:1 one\r\n", "+OK\r\n");
    third.expect_silence();
    second.ask("SET l:2 two\r\n", "+OK\r\n");
    third.expect("*4\r\n$3\r\none\r\n$3\r\ntwo\r\n$-1\r\n$3\r\none\r\n");
}

#[test]
fn an_mget_does_not_wait_while_it_gets_a_lease_that_has_run_out() {
    let bench = Bench::with("", "lease = \"300ms\"\nnegative-ttl = \"0\"");
    let _late = holder(&bench, "l:late");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let _other = holder(&bench, "l:held");
    let mut client = bench.connect();
    client.ask("MGET l:held l:late\r\n", "*2\r\n$-1\r\n$-1\r\n");
    assert_eq!(bench.of_leases(|counts| counts.lease_waits.get()), 0);
}

#[test]
fn a_key_that_is_asked_for_twice_is_inherited_once_and_not_waited_for() {
    let bench = bench();
    let first = holder(&bench, "l:1");
    let mut second = bench.connect();
    second.send("MGET l:1 l:1\r\n");
    bench.until_waits(1);
    drop(first);
    second.expect("*2\r\n$-1\r\n$-1\r\n");
    assert_eq!(bench.of_leases(|counts| counts.leases_inherited.get()), 1);
}

#[test]
fn commands_that_are_no_plain_reads_know_nothing_of_leases() {
    let bench = bench();
    let _first = holder(&bench, "l:1");
    let mut other = bench.connect();
    other.ask(
        "EXISTS l:1\r\nSTRLEN l:1\r\nTTL l:1\r\nGETRANGE l:1 0 1\r\n",
        ":0\r\n:0\r\n:-2\r\n$0\r\n\r\n",
    );
    other.ask("GETEX l:1\r\n", "$-1\r\n");
    other.ask("SET l:1 mine NX EX 100\r\n", "+OK\r\n");
    other.ask("SET l:1 mine NX EX 100\r\n", "$-1\r\n");
    assert_eq!(bench.of_leases(|counts| counts.lease_waits.get()), 0);
}

#[test]
fn a_lock_that_is_set_while_others_wait_lets_them_go_on() {
    let bench = bench();
    let _first = holder(&bench, "l:lock");
    let mut waiting = waiter(&bench, "l:lock");
    let mut locker = bench.connect();
    locker.ask("SET l:lock me NX PX 60000\r\n", "+OK\r\n");
    waiting.expect("$2\r\nme\r\n");
}

#[test]
fn a_key_opens_when_its_second_holder_was_late_too() {
    let bench = Bench::with("", "lease = \"300ms\"\nnegative-ttl = \"60s\"");
    let _first = holder(&bench, "l:1");
    let mut second = waiter(&bench, "l:1");
    // The first is late.
    second.expect("$-1\r\n");
    let mut third = waiter(&bench, "l:1");
    // So is the second.
    third.expect("$-1\r\n");
    assert_eq!(bench.of_leases(|counts| counts.leases_inherited.get()), 1);
    for _ in 0..5 {
        holder(&bench, "l:1");
    }
    assert_eq!(bench.of_leases(|counts| counts.lease_waits.get()), 2);
    assert_eq!(bench.of_leases(|counts| counts.leases.get()), 1);
}

#[test]
fn who_goes_while_it_waits_never_inherits() {
    let bench = bench();
    let first = holder(&bench, "l:1");
    let gone = waiter(&bench, "l:1");
    let mut stays = waiter(&bench, "l:1");
    drop(gone);
    bench.until_clients(2);
    drop(first);
    stays.expect("$-1\r\n");
}

#[test]
fn who_is_killed_while_it_waits_never_inherits() {
    let bench = bench();
    let first = holder(&bench, "l:1");
    let mut killed = bench.connect();
    killed.ask("CLIENT ID\r\n", ":");
    let id = killed.line();
    killed.send("GET l:1\r\n");
    bench.until_waits(1);
    let mut stays = waiter(&bench, "l:1");
    let mut killer = bench.connect();
    killer.ask(format!("CLIENT KILL ID {id}\r\n"), ":1\r\n");
    killed.expect_closed();
    bench.until_clients(3);
    drop(first);
    stays.expect("$-1\r\n");
}

#[test]
fn who_inherits_a_lease_while_it_waits_for_another_key_waits_no_more() {
    let bench = bench();
    let _first = holder(&bench, "l:1");
    let second = holder(&bench, "l:2");
    let mut both = bench.connect();
    both.send("MGET l:1 l:2\r\n");
    bench.until_waits(2);
    let mut other = waiter(&bench, "l:2");
    drop(second);
    // Others wait for what it has to make.
    both.expect("*2\r\n$-1\r\n$-1\r\n");
    other.expect_silence();
    drop(both);
    other.expect("$-1\r\n");
}

#[test]
fn what_is_sent_behind_a_read_that_waits_runs_after_it() {
    let bench = bench();
    let mut first = holder(&bench, "l:1");
    let mut other = bench.connect();
    other.send("GET l:1\r\nSET l:1 later\r\nGET l:1\r\nPING\r\n");
    bench.until_waits(1);
    first.ask("GET l:1\r\n", "$-1\r\n");
    first.ask("SET l:1 made\r\n", "+OK\r\n");
    other.expect("$4\r\nmade\r\n+OK\r\n$5\r\nlater\r\n+PONG\r\n");
}

#[test]
fn a_client_without_replies_waits_and_says_nothing() {
    let bench = bench();
    let mut first = holder(&bench, "l:1");
    let mut silent = bench.connect();
    silent.send("CLIENT REPLY OFF\r\nGET l:1\r\nSET seen yes\r\n");
    bench.until_waits(1);
    first.ask("EXISTS seen\r\n", ":0\r\n");
    first.ask("SET l:1 made\r\n", "+OK\r\n");
    until("it goes on", || {
        first.send("EXISTS seen\r\n");
        first.line() == ":1"
    });
    silent.ask("CLIENT REPLY ON\r\n", "+OK\r\n");
}

#[test]
fn a_transaction_gets_no_lease_and_waits_for_none() {
    let bench = bench();
    let _first = holder(&bench, "l:1");
    let mut other = bench.connect();
    other.ask(
        "MULTI\r\nGET l:1\r\nGET l:2\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n$-1\r\n",
    );
    assert_eq!(bench.of_leases(|counts| counts.leases.get()), 1);
}

#[test]
fn near_its_end_a_value_is_nil_to_exactly_one_client() {
    let bench = Bench::with("", "lease = \"60s\"\nbeta = 100");
    let mut first = holder(&bench, "l:1");
    first.ask("SET l:1 old PX 6000 DELTA 3000\r\n", "+OK\r\n");
    let mut clients: Vec<Client> = (0..10).map(|_| bench.connect()).collect();
    let mut chosen = None;
    until("one is told to make it", || {
        let index = clients.iter_mut().position(|client| {
            client.send("GET l:1\r\n");
            let is_nil = client.line() == "$-1";
            if !is_nil {
                client.expect("old\r\n");
            }
            is_nil
        });
        chosen = index;
        index.is_some()
    });
    let chosen = chosen.expect("somebody was");
    for client in &mut clients {
        client.ask("GET l:1\r\n", "$3\r\nold\r\n");
    }
    clients[chosen].ask("SET l:1 new PX 60000\r\n", "+OK\r\n");
    for client in &mut clients {
        client.ask("GET l:1\r\n", "$3\r\nnew\r\n");
    }
    assert_eq!(bench.of_leases(|counts| counts.early_leases.get()), 1);
    assert_eq!(bench.of_leases(|counts| counts.leases_kept.get()), 2);
}

#[test]
fn an_mget_that_must_wait_gives_away_no_early_lease_that_its_client_never_hears_of() {
    let bench = Bench::with("timeout = \"60s\"", "lease = \"60s\"\nbeta = 100");
    let mut client = bench.connect();
    client.ask("SET l:1 old PX 6000 DELTA 3000\r\n", "+OK\r\n");
    bench.has("1", "one");
    // In its last third, where nearly every read is due.
    until("it is near its end", || {
        client.send("PTTL l:1\r\n");
        client.line()[1..].parse::<i64>().expect("a number") < 1900
    });
    client.ask("MGET l:1 o:1\r\n", "*2\r\n");
    let line = client.line();
    if line == "$3" {
        // One in fifty draws is so high: then no lease is out.
        client.expect("old\r\n");
    }
    client.expect("$3\r\none\r\n");
    let leases = bench.of_leases(|counts| counts.early_leases.get());
    assert_eq!(leases, u64::from(line == "$-1"), "{line}");
}

#[test]
fn a_scan_for_absent_keys_takes_bounded_memory() {
    let bench = Bench::with("negative-ttl = \"60s\"", "lease = \"60s\"");
    let mut client = bench.connect();
    for batch in 0..20 {
        let reads: String = (0..1000)
            .map(|key| format!("GET l:{batch}:{key}\r\n"))
            .collect();
        client.send(reads);
        client.expect("$-1\r\n".repeat(1000));
    }
    let under_way = bench.server.instance.policy.under_way();
    assert!(under_way <= 128, "{under_way}");
    drop(client);
    bench.until_clients(0);
    until("all leases are over", || {
        bench.server.instance.policy.under_way() == 0
    });
}

#[test]
fn a_holder_that_fails_beside_a_stale_value_is_served_it_and_the_key_never_opens() {
    let of_leases = "lease = \"1s\"\nstale-while-revalidate = \"1h\"\nnegative-ttl = \"60s\"";
    let bench = Bench::with("", of_leases);
    let mut others = [bench.connect(), bench.connect()];
    others[0].ask("SET l:1 old PX 1\r\n", "+OK\r\n");
    until("it has expired", || {
        others[0].send("EXISTS l:1\r\n");
        others[0].line() == ":0"
    });
    for round in 1..=2 {
        let mut failing = holder(&bench, "l:1");
        // It looks again under a lock of its own, perhaps; then it fails, and serves somebody else.
        failing.ask("GET l:1\r\n", "$-1\r\n");
        failing.ask("GET l:1\r\nGET l:1\r\n", "$3\r\nold\r\n$3\r\nold\r\n");
        for other in &mut others {
            other.ask("GET l:1\r\n", "$3\r\nold\r\n");
        }
        assert_eq!(bench.of_leases(|counts| counts.leases.get()), round);
        std::thread::sleep(std::time::Duration::from_secs(1)); // It is late.
    }
    assert_eq!(bench.of_leases(|counts| counts.lease_waits.get()), 0);
}
