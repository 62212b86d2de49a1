//! A front whose rules lend keys: of all who miss one, one makes its value, and the others wait.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::common::{Client, Missing, Server, until};
use super::near::coherent;

/// An upstream, and a front of it with a rule for `l:*`.
struct Bench {
    upstream: Server,
    front: Server,
    _dir: TempDir,
}

impl Bench {
    fn new(lease: &str) -> Self {
        Self::with(lease, "")
    }

    /// The same, where the rule says more.
    fn with(lease: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("corral.toml");
        let rule = format!("[[rule]]\nmatch = \"l:*\"\nlease = \"{lease}\"\n{more}\n");
        fs::write(&file, rule).expect("a file");
        let upstream = Server::redis(&[]);
        let file = file.to_str().expect("text");
        let front = coherent(&upstream, &["--config", file, "--staleness-bound", "5000"]);
        Self {
            upstream,
            front,
            _dir: dir,
        }
    }

    /// A client that holds the lease of a key.
    fn holder(&self, key: &str) -> Client {
        let mut client = self.front.connect();
        assert_eq!(client.say(&format!("GET {key}")), "$-1\r\n");
        client
    }

    /// A client that waits for a key.
    fn waiter(&self, key: &str) -> Client {
        let mut client = self.front.connect();
        client.send(format!("GET {key}\r\n").as_bytes());
        assert!(matches!(
            client.frame_within(SILENCE),
            Err(Missing::Silence)
        ));
        client
    }
}

fn reply(client: &mut Client) -> String {
    String::from_utf8(client.frame().expect("a reply")).expect("text")
}

/// How long nothing must come for a test to believe that it will not.
const SILENCE: Duration = Duration::from_millis(100);

#[test]
fn of_a_herd_one_makes_the_value_and_the_others_get_it() {
    let bench = Bench::new("60s");
    let mut clients: Vec<Client> = (0..100).map(|_| bench.front.connect()).collect();
    for client in &mut clients {
        client.send(b"GET l:1\r\n");
    }
    let mut makers = Vec::new();
    until("somebody is to make it", || {
        makers = (0..clients.len())
            .filter(|&at| clients[at].frame_within(Duration::from_millis(1)).is_ok())
            .collect();
        !makers.is_empty()
    });
    assert_eq!(makers.len(), 1);
    let mut maker = clients.remove(makers[0]);
    assert_eq!(maker.say("SET l:1 made EX 100"), "+OK\r\n");
    for client in &mut clients {
        assert_eq!(reply(client), "$4\r\nmade\r\n");
    }
    assert_eq!(bench.front.connect().say("GET l:1"), "$4\r\nmade\r\n");
}

#[test]
fn who_waits_also_gets_what_somebody_else_stored_wherever() {
    let bench = Bench::new("60s");
    let _holder = bench.holder("l:1");
    let mut waiter = bench.waiter("l:1");
    assert_eq!(bench.upstream.connect().say("SET l:1 direct"), "+OK\r\n");
    assert_eq!(reply(&mut waiter), "$6\r\ndirect\r\n");
}

#[test]
fn exactly_one_inherits_from_a_holder_that_leaves_or_whose_key_is_removed() {
    for removal in [None, Some("DEL l:1"), Some("UNLINK l:1")] {
        let bench = Bench::new("60s");
        let mut holder = Some(bench.holder("l:1"));
        let mut waiters: Vec<Client> = (0..3).map(|_| bench.waiter("l:1")).collect();
        match removal {
            None => drop(holder.take()),
            Some(removal) => {
                holder.as_mut().expect("still here").say(removal);
            }
        }
        let mut heirs = Vec::new();
        until("somebody inherits", || {
            let heard = |at: &usize| waiters[*at].frame_within(SILENCE).is_ok();
            heirs = (0..3).filter(heard).collect();
            !heirs.is_empty()
        });
        assert_eq!(heirs.len(), 1, "{removal:?}");
        let mut heir = waiters.remove(heirs[0]);
        assert_eq!(heir.say("SET l:1 made"), "+OK\r\n");
        for waiter in &mut waiters {
            assert_eq!(reply(waiter), "$4\r\nmade\r\n", "{removal:?}");
        }
    }
}

#[test]
fn a_holder_waits_for_nobody() {
    let bench = Bench::new("60s");
    let mut holder = bench.holder("l:1");
    let _other = bench.holder("l:2");
    assert_eq!(holder.say("GET l:1"), "$-1\r\n");
    assert_eq!(holder.say("GET l:2"), "$-1\r\n");
    assert_eq!(holder.say("MGET l:2 l:1"), "*2\r\n$-1\r\n$-1\r\n");
}

#[test]
fn nobody_waits_for_longer_than_one_lease() {
    let bench = Bench::new("2s");
    let _holder = bench.holder("l:1");
    let mut waiters: Vec<Client> = (0..2).map(|_| bench.waiter("l:1")).collect();
    for waiter in &mut waiters {
        assert_eq!(reply(waiter), "$-1\r\n");
    }
}

#[test]
fn a_lock_that_is_taken_by_set_nx_is_no_business_of_a_lease() {
    let bench = Bench::new("60s");
    let _holder = bench.holder("l:1");
    let mut other = bench.front.connect();
    assert_eq!(other.say("EXISTS l:1"), ":0\r\n");
    assert_eq!(other.say("SET l:1 mine NX EX 5"), "+OK\r\n");
    assert_eq!(other.say("SET l:1 mine NX EX 5"), "$-1\r\n");
}

#[test]
fn one_reader_is_to_replace_a_value_before_it_expires_while_all_others_get_it() {
    let bench = Bench::with("60s", "beta = 100.0");
    let mut maker = bench.holder("l:1");
    std::thread::sleep(Duration::from_millis(20)); // It is made: Δ.
    assert_eq!(maker.say("SET l:1 one EX 3"), "+OK\r\n");
    let mut readers: Vec<Client> = (0..3).map(|_| bench.front.connect()).collect();
    let mut chosen = None;
    until("one is to make the next", || {
        for (at, reader) in readers.iter_mut().enumerate() {
            match reader.say("GET l:1").as_str() {
                "$-1\r\n" if chosen.is_none() => chosen = Some(at),
                "$3\r\none\r\n" => {}
                other => panic!("{at} of {chosen:?}: {other}"),
            }
        }
        chosen.is_some()
    });
    assert!(
        bench.upstream.connect().number("PTTL l:1") > 0,
        "still there"
    );
    let mut chosen = readers.remove(chosen.expect("somebody"));
    // What it began to make is of now.
    assert_eq!(readers[0].say("TAG.INVALIDATE gone"), ":0\r\n");
    assert_eq!(chosen.say("SET l:2 two EX 3 TAGS 1 gone"), "+OK\r\n");
    assert_eq!(
        chosen.say("EXISTS l:2"),
        ":1\r\n",
        "it has no lease of that one"
    );
    assert_eq!(chosen.say("SET l:1 two EX 3 TAGS 1 kept"), "+OK\r\n");
    for reader in &mut readers {
        assert_eq!(reader.say("GET l:1"), "$3\r\ntwo\r\n");
    }
}

#[test]
fn who_waited_for_a_value_waits_as_long_for_the_next() {
    let bench = Bench::new("2s");
    let mut first = bench.holder("l:1");
    let mut waiter = bench.waiter("l:1");
    assert_eq!(first.say("SET l:1 one"), "+OK\r\n");
    assert_eq!(reply(&mut waiter), "$3\r\none\r\n");
    // As long as it might have waited for that one.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(first.say("DEL l:1"), ":1\r\n");
    let mut second = bench.holder("l:1");
    waiter.send(b"GET l:1\r\n");
    assert!(matches!(
        waiter.frame_within(SILENCE),
        Err(Missing::Silence)
    ));
    assert_eq!(second.say("SET l:1 two"), "+OK\r\n");
    assert_eq!(reply(&mut waiter), "$3\r\ntwo\r\n");
}

#[test]
fn a_client_whose_lease_ended_without_a_value_waits_as_others_do() {
    let bench = Bench::new("1s");
    let mut late = bench.holder("l:1");
    std::thread::sleep(Duration::from_secs(1)); // It was late.
    let mut other = bench.holder("l:2");
    late.send(b"GET l:2\r\n");
    assert!(matches!(late.frame_within(SILENCE), Err(Missing::Silence)));
    assert_eq!(other.say("SET l:2 made"), "+OK\r\n");
    assert_eq!(reply(&mut late), "$4\r\nmade\r\n");
}

#[test]
fn who_left_before_it_was_given_a_lease_keeps_nobody_waiting() {
    let bench = Bench::new("60s");
    let mut direct = bench.upstream.connect();
    let (mut next, mut gone) = (bench.front.connect(), bench.front.connect());
    // Upstream answers once the client has gone. Had it closed its end, it would still be answered.
    assert_eq!(direct.say("CLIENT PAUSE 500 ALL"), "+OK\r\n");
    gone.send(b"GET l:1\r\n");
    until("it reads", || {
        next.say("CORRAL.INFO near").contains("near_flights:1\r\n")
    });
    next.say("CORRAL.CLIENT KILL TYPE normal");
    assert_eq!(gone.frame(), Err(Missing::Closed));
    assert_eq!(next.say("GET l:1"), "$-1\r\n");
    assert_eq!(next.say("SET l:1 made"), "+OK\r\n");
}

#[test]
fn what_a_holder_began_to_make_before_its_tag_was_invalidated_is_not_stored() {
    let bench = Bench::new("60s");
    let other = coherent(&bench.upstream, &[]);
    for round in 0..3 {
        let mut holder = bench.holder("l:1");
        assert_eq!(other.connect().say("TAG.INVALIDATE t"), ":0\r\n");
        assert_eq!(holder.say("SET l:1 old TAGS 1 t"), "+OK\r\n", "{round}");
        assert_eq!(holder.say("SET l:2 other TAGS 1 t"), "+OK\r\n");
        // Who makes it now began after that.
        assert_eq!(holder.say("GET l:1"), "$-1\r\n", "{round}");
        assert_eq!(holder.say("SET l:1 new TAGS 1 t"), "+OK\r\n");
        assert_eq!(holder.say("GET l:1"), "$3\r\nnew\r\n", "{round}");
        assert_eq!(holder.say("TAG.INVALIDATE t"), ":2\r\n");
    }
}

#[test]
fn an_heir_makes_a_value_of_its_own_time() {
    let bench = Bench::new("60s");
    let holder = bench.holder("l:1");
    let mut heir = bench.waiter("l:1");
    let other = coherent(&bench.upstream, &[]);
    assert_eq!(other.connect().say("TAG.INVALIDATE t"), ":0\r\n");
    drop(holder);
    assert_eq!(reply(&mut heir), "$-1\r\n");
    assert_eq!(heir.say("SET l:1 new TAGS 1 t"), "+OK\r\n");
    assert_eq!(heir.say("GET l:1"), "$3\r\nnew\r\n");
}

#[test]
fn who_replaces_a_value_early_stores_none_whose_tag_was_invalidated_meanwhile() {
    let bench = Bench::with("60s", "beta = 100.0");
    let mut maker = bench.holder("l:1");
    std::thread::sleep(Duration::from_millis(20)); // It is made: Δ.
    assert_eq!(maker.say("SET l:1 one EX 3"), "+OK\r\n");
    let mut chosen = bench.front.connect();
    until("it is to make the next", || {
        chosen.say("GET l:1") == "$-1\r\n"
    });
    assert_eq!(maker.say("TAG.INVALIDATE t"), ":0\r\n");
    assert_eq!(chosen.say("SET l:1 two EX 3 TAGS 1 t"), "+OK\r\n");
    assert_eq!(maker.say("EXISTS l:1"), ":0\r\n");
}
