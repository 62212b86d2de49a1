//! Standalone, corral replies what Redis replies.

use std::time::Duration;

use super::common::{Client, Missing, elements, request};
use super::script::Pair;

#[test]
fn strings() {
    Pair::standalone().run(include_str!("scripts/strings.txt"));
}

#[test]
fn bitmaps() {
    Pair::standalone().run(include_str!("scripts/bitmaps.txt"));
}

#[test]
fn keys() {
    Pair::standalone().run(include_str!("scripts/keys.txt"));
}

#[test]
fn expiry() {
    Pair::standalone().run(include_str!("scripts/expiry.txt"));
}

#[test]
fn scan() {
    Pair::standalone().run(include_str!("scripts/scan.txt"));
}

#[test]
fn transactions() {
    Pair::standalone().run(include_str!("scripts/transactions.txt"));
}

#[test]
fn connection() {
    Pair::standalone().run(include_str!("scripts/connection.txt"));
}

#[test]
fn client() {
    let pair = Pair::standalone();
    pair.run(include_str!("scripts/client.txt"));
    // Not through a front, where a client outlives its upstream connection.
    pair.run(include_str!("scripts/kill.txt"));
}

#[test]
fn config() {
    Pair::standalone().run(include_str!("scripts/config.txt"));
}

#[test]
fn server() {
    Pair::standalone().run(include_str!("scripts/server.txt"));
}

#[test]
fn known_differences() {
    Pair::standalone().run(include_str!("scripts/differences.txt"));
}

/// Of subcommands that both have, it says the same.
#[test]
fn client_help() {
    let pair = Pair::standalone();
    let lines = |mut client: Client| -> Vec<String> {
        let help = client.say("CLIENT HELP");
        let lines = elements(help.as_bytes()).expect("an array");
        let text = |line: &&[u8]| String::from_utf8_lossy(line).trim_end().to_owned();
        lines.iter().map(text).collect()
    };
    let mut theirs = lines(pair.redis.connect());
    let mut ours = lines(pair.ours.connect());
    let drop_entry = |lines: &mut Vec<String>, name: &str| {
        let at = lines.iter().position(|line| line.starts_with(name));
        let at = at.unwrap_or_else(|| panic!("no {name} in {lines:#?}"));
        let is_explanation = |line: &&String| line.starts_with("+ ");
        let end = at + 1 + lines[at + 1..].iter().take_while(is_explanation).count();
        lines.drain(at..end);
    };
    drop_entry(&mut theirs, "+CACHING ");
    drop_entry(&mut theirs, "+TRACKING ");
    drop_entry(&mut ours, "+CACHE-INFO ");
    drop_entry(&mut ours, "+SETINFO ");
    assert_eq!(ours, theirs);
}

/// Redis lets these connections linger: it closes behind a reply that it never sends.
#[test]
fn who_wants_no_replies_is_closed_all_the_same() {
    let pair = Pair::standalone();
    let off = request(&["CLIENT", "REPLY", "OFF"]);
    for last in [request(&["QUIT"]), b"*1\r\n$x\r\n".to_vec()] {
        let heard = |mut client: Client| {
            client.send(&off);
            client.send(&last);
            client.frame_within(Duration::from_millis(500))
        };
        assert_eq!(heard(pair.redis.connect()), Err(Missing::Silence));
        assert_eq!(heard(pair.ours.connect()), Err(Missing::Closed));
    }
}
