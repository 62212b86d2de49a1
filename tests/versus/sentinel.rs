//! A front of the master that a Sentinel names, while that changes.

use std::time::Duration;

use corral::clock;

use super::common::{Client, Missing, PATIENCE, Server, elements, reads, text, until, value};
use super::topologies::Group;

/// A front of its master.
fn front(group: &Group, near_cache: &str) -> Server {
    Server::corral(&["--upstream", &group.url(), "--near-cache", near_cache])
}

/// The port of the server that answers a client in the end.
fn port_behind(client: &mut Client) -> Option<u16> {
    let reply = client.say("CONFIG GET port");
    let parts = elements(reply.as_bytes())?;
    std::str::from_utf8(text(parts[1])).ok()?.parse().ok()
}

/// Writes through the front until it is done, and tells how long that took.
fn writes_again(client: &mut Client, words: &str) -> Duration {
    let since = clock::now();
    loop {
        let reply = client.say(words);
        if reply == "+OK\r\n" {
            return since.elapsed();
        }
        let is_told = reply.starts_with("-ERR upstream ") || reply.starts_with("-READONLY ");
        assert!(is_told, "{reply}");
        assert!(since.elapsed() < PATIENCE, "{reply}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the Sentinel does not doubt the new master any more: its patience is less than the
/// time between its questions.
fn wait_until_content(sentinel: &Server) {
    let mut asking = sentinel.connect();
    let mut calm = 0;
    until("the Sentinel is content", || {
        let master = asking.say("SENTINEL MASTER mymaster");
        let is_calm = master.contains("flags\r\n$6\r\nmaster\r\n");
        calm = if is_calm { calm + 1 } else { 0 };
        calm > 150
    });
}

#[test]
fn a_master_that_dies_or_hangs_is_replaced_and_what_it_said_is_forgotten() {
    for (near_cache, signal) in [
        ("yes", "KILL"),
        ("no", "KILL"),
        ("yes", "STOP"),
        ("no", "STOP"),
    ] {
        let Group {
            mut master,
            replica,
            sentinel,
        } = Group::with(&[], "");
        let url = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port);
        let front = Server::corral(&["--upstream", &url, "--near-cache", near_cache]);
        let mut clients: Vec<Client> = (0..8).map(|_| front.connect()).collect();
        for client in &mut clients[4..] {
            client.say("HELLO 3");
        }
        assert_eq!(clients[0].say("SET k old"), "+OK\r\n");
        for _ in 0..3 {
            for client in &mut clients {
                assert_eq!(value(client, "k"), "old");
            }
        }
        let mut bound = front.connect();
        assert_eq!(bound.say("MULTI"), "+OK\r\n");
        let port = master.port;
        master.signal(signal);
        if signal == "KILL" {
            master.process.wait().expect("it ends");
        }
        let took = writes_again(&mut clients[0], "SET k new");
        println!("{signal}, near-cache {near_cache}: written again after {took:?}");
        assert_eq!(port_behind(&mut clients[1]), Some(replica.port));
        for round in 0..20 {
            for client in &mut clients {
                assert_eq!(
                    value(client, "k"),
                    if round == 0 {
                        "new".to_owned()
                    } else {
                        round.to_string()
                    }
                );
            }
            let next = (round + 1).to_string();
            assert_eq!(clients[0].say(&format!("SET k {next}")), "+OK\r\n");
        }
        // What belonged together did not survive.
        bound.send(b"*1\r\n$4\r\nEXEC\r\n");
        while let Ok(reply) = bound.frame() {
            assert!(reply.starts_with(b"-"), "{reply:?}");
        }
        wait_until_content(&sentinel);
        // The old master comes back, and is none any more.
        let old = if signal == "KILL" {
            Server::redis_on(port, &[])
        } else {
            master.signal("CONT");
            master
        };
        old.connect().say("SET k stale");
        for _ in 0..50 {
            assert_eq!(value(&mut clients[2], "k"), "20");
            assert_eq!(front.connect().say("GET k"), "$2\r\n20\r\n");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(port_behind(&mut clients[3]), Some(replica.port));
    }
}

#[test]
fn a_failover_that_is_asked_for_moves_the_front() {
    for near_cache in ["yes", "no"] {
        let group = Group::with(&[], "");
        let front = front(&group, near_cache);
        let mut client = front.connect();
        assert_eq!(client.say("SET k old"), "+OK\r\n");
        let mut direct = [&group.master, &group.replica].map(Server::connect);
        until("it is replicated", || value(&mut direct[1], "k") == "old");
        assert_eq!(value(&mut client, "k"), "old");
        let mut bound = front.connect();
        bound.say("SUBSCRIBE news");
        assert_eq!(
            group.sentinel.connect().say("SENTINEL FAILOVER mymaster"),
            "+OK\r\n"
        );
        let since = clock::now();
        until("the front is in front of the other one", || {
            // A reply of the near cache must never be older than what the master has.
            port_behind(&mut front.connect()) == Some(group.replica.port)
        });
        println!("near-cache {near_cache}: moved after {:?}", since.elapsed());
        // Its clients were cut.
        direct[1] = group.replica.connect();
        for round in 0..50 {
            let words = format!("SET k {round}");
            assert_eq!(direct[1].say(&words), "+OK\r\n");
            until("the change is told", || {
                value(&mut client, "k") == round.to_string()
            });
        }
        assert_eq!(
            bound.frame(),
            Err(Missing::Closed),
            "its messages would have been lost"
        );
        writes_again(&mut client, "SET k new");
        assert_eq!(value(&mut direct[1], "k"), "new");
        if near_cache == "yes" {
            let mut reader = front.connect();
            until("it is tracked again", || {
                let before = reads(&mut direct[1]);
                (0..50).for_each(|_| assert_eq!(value(&mut reader, "k"), "new"));
                reads(&mut direct[1]) < before + 50
            });
        }
    }
}

#[test]
fn a_master_that_became_a_replica_is_left() {
    let group = Group::with(&[], "");
    let other = Server::redis(&[]);
    let front = front(&group, "yes");
    let mut client = front.connect();
    assert_eq!(client.say("SET k v"), "+OK\r\n");
    let at = other.port;
    // Nobody is told; its connections stay.
    let mut direct = group.master.connect();
    assert_eq!(direct.say(&format!("REPLICAOF 127.0.0.1 {at}")), "+OK\r\n");
    let reply = client.say("SET k w");
    assert!(reply.starts_with("-READONLY "), "{reply}");
    let is = format!(
        "has no master now: 127.0.0.1:{} is a replica\r\n",
        group.master.port
    );
    until("it is left", || {
        let reply = client.say("GET k");
        reply.starts_with("-ERR upstream ") && reply.ends_with(&is) || reply.starts_with("$")
    });
}

#[test]
fn sentinels_and_the_master_each_have_their_own_password() {
    let args = ["--requirepass", "of:master", "--masterauth", "of:master"];
    let settings = "requirepass of/sentinel\nsentinel auth-pass mymaster of:master";
    let group = Group::with(&args, settings);
    let at = group.sentinel.port;
    let url = |own: &str| {
        format!("redis+sentinel://:of%3Amaster@127.0.0.1:{at}/mymaster/3?sentinel_password={own}")
    };
    let front = Server::corral(&["--upstream", &url("of%2Fsentinel")]);
    let mut client = front.connect();
    assert_eq!(client.say("SET k v"), "+OK\r\n");
    let mut direct = group.master.connect();
    direct.say("AUTH of:master");
    assert!(direct.say("INFO keyspace").contains("db3:keys=1"));
    let front = Server::corral(&["--upstream", &url("wrong")]);
    let reply = front.connect().say("GET k");
    let told = format!(
        "-ERR upstream 'mymaster' has no master now: \
         Sentinel 127.0.0.1:{at} rejected AUTH: WRONGPASS"
    );
    assert!(reply.starts_with(&told), "{reply}");
}

#[test]
fn without_a_sentinel_there_is_an_error_that_says_so() {
    let front = Server::corral(&["--upstream", "redis+sentinel://127.0.0.1:1/mymaster"]);
    let reply = front.connect().say("GET k");
    let told = "-ERR upstream 'mymaster' has no master now: \
                Sentinel 127.0.0.1:1 refused the connection\r\n";
    assert_eq!(reply, told);
    let group = Group::with(&[], "");
    let url = group.url().replace("mymaster", "other");
    let front = Server::corral(&["--upstream", &url]);
    let reply = front.connect().say("GET k");
    assert!(reply.ends_with(" knows no such master\r\n"), "{reply}");
}
