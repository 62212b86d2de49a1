//! The ways in which an upstream can tell what changes: each works, and is called by its name.

use std::time::Duration;

use super::common::{Client, Server, text, until};

/// What the section `near` says under a name.
fn told(front: &Server, name: &str) -> String {
    let info = front.connect().say("CORRAL.INFO near");
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find(|(key, _)| *key == name);
    line.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// Reads a key until it was answered from memory.
fn until_kept(front: &Server, client: &mut Client) {
    let hits = told(front, "near_hits");
    until("the key is answered from memory", || {
        client.say("GET k");
        told(front, "near_hits") != hits
    });
}

fn follows_foreign_writes(upstream: &Server, front: &Server) {
    let (mut direct, mut client) = (upstream.connect(), front.connect());
    for version in 0..5 {
        direct.say(&format!("SET k {version}"));
        until("the new value is seen", || {
            text(client.say("GET k").as_bytes()) == version.to_string().as_bytes()
        });
        until_kept(front, &mut client);
    }
}

#[test]
fn tracking_with_redirect_is_the_first_rung() {
    let upstream = Server::redis(&[]);
    let front = Server::front(&upstream, &[]);
    follows_foreign_writes(&upstream, &front);
    assert_eq!(told(&front, "rung"), "tracking");
    assert_eq!(told(&front, "coherent"), "1");
}

#[test]
fn broadcast_is_the_second() {
    let upstream = Server::redis(&[]);
    let front = Server::front(&upstream, &["--upstream-tracking", "broadcast"]);
    follows_foreign_writes(&upstream, &front);
    assert_eq!(told(&front, "rung"), "broadcast");
    assert_eq!(told(&front, "coherent"), "1");
}

#[test]
fn without_either_copies_are_kept_for_the_bound_and_called_incoherent() {
    let upstream = Server::redis(&[]);
    let front = Server::front(&upstream, &["--upstream-tracking", "none"]);
    follows_foreign_writes(&upstream, &front);
    assert_eq!(told(&front, "rung"), "ttl");
    assert_eq!(told(&front, "coherent"), "0");
}

#[test]
fn who_may_not_track_falls_to_the_last_rung_by_itself() {
    let upstream = Server::redis(&[]);
    let allowed = "ACL SETUSER front on >secret ~* &* +@all -client|tracking";
    assert_eq!(upstream.connect().say(allowed), "+OK\r\n");
    let port = upstream.port;
    let url = format!("redis://front:secret@127.0.0.1:{port}");
    let front = Server::corral(&["--upstream", &url]);
    until("the last rung is reached", || told(&front, "rung") == "ttl");
    follows_foreign_writes(&upstream, &front);
    assert_eq!(told(&front, "coherent"), "0");
}

#[test]
fn an_upstream_that_is_full_costs_no_rung_and_is_not_hammered() {
    let upstream = Server::redis(&[]);
    let front = Server::front(&upstream, &[]);
    follows_foreign_writes(&upstream, &front);
    let mut direct = upstream.connect();
    assert_eq!(direct.say("CONFIG SET maxclients 1"), "+OK\r\n");
    direct.say("CLIENT KILL SKIPME yes");
    std::thread::sleep(Duration::from_secs(1));
    let rejected: u64 = direct.info("rejected_connections").parse().unwrap();
    assert!((1..100).contains(&rejected), "{rejected} in a second");
    let reply = front.connect().say("GET k");
    assert!(reply.starts_with("-ERR "), "{reply}");
    assert_eq!(direct.say("CONFIG SET maxclients 1000"), "+OK\r\n");
    until("it is back", || {
        !front.connect().say("GET k").starts_with('-')
    });
    follows_foreign_writes(&upstream, &front);
    assert_eq!(told(&front, "rung"), "tracking");
    assert_eq!(told(&front, "coherent"), "1");
}

#[test]
fn a_script_that_runs_for_ever_is_killed_past_the_connection_it_holds_up() {
    let upstream = Server::redis(&["--busy-reply-threshold", "10"]);
    let front = Server::front(&upstream, &[]);
    let (mut runs, mut kills) = (front.connect(), front.connect());
    assert_eq!(kills.say("SELECT 3"), "+OK\r\n");
    runs.send(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile 1 do end --\r\n$1\r\n0\r\n");
    until("it is killed", || kills.say("SCRIPT KILL") == "+OK\r\n");
    let reply = runs.frame().expect("a reply");
    assert!(
        reply.starts_with(b"-ERR Script killed by user"),
        "{}",
        reply.escape_ascii()
    );
    follows_foreign_writes(&upstream, &front);
}
