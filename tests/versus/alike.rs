//! Standalone, corral replies what Redis replies.

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
