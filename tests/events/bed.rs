//! A server with events, and what it tells of them.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

pub(crate) use crate::servers::Server;
pub(crate) use crate::wire::{Client, until};

/// The file and the log of a server.
pub(crate) struct Bed(TempDir);

impl Bed {
    pub(crate) fn new(file: &str) -> Self {
        let bed = Self(tempfile::tempdir().expect("a directory"));
        bed.change(file);
        bed
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    pub(crate) fn change(&self, file: &str) {
        fs::write(self.path("corral.toml"), file).expect("a file");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A server of its own memory, all of whose events are connected.
    pub(crate) fn server(&self) -> Server {
        let server = self.unconnected(&[]);
        connected(&server);
        server
    }

    /// The same in front of an upstream.
    pub(crate) fn front(&self, upstream: &Server, args: &[&str]) -> Server {
        let url = format!("redis://127.0.0.1:{}", upstream.port);
        let server = self.unconnected(&[&["--upstream", &url], args].concat());
        until("it is coherent", || {
            let info = server.connect().say("CORRAL.INFO");
            info.contains("coherent:1\r\n")
                && info.contains("protocol=2,state=open,waiting=0,armed=1")
        });
        connected(&server);
        server
    }

    /// A server that may still be connecting.
    pub(crate) fn unconnected(&self, args: &[&str]) -> Server {
        let (config, log) = (self.text("corral.toml"), self.text("log"));
        let own = ["--config", &config, "--logfile", &log];
        Server::corral(&[&own, args].concat())
    }
}

/// Waits until all events come.
pub(crate) fn connected(server: &Server) {
    let mut client = server.connect();
    until("all events come", || {
        let info = client.say("CORRAL.INFO events");
        info.contains("state=connected")
            && !info.contains("state=lost")
            && !info.contains("state=connecting")
    });
}

/// A number that INFO tells of an event, the first of the file being 0.
pub(crate) fn figure(server: &Server, event: usize, name: &str) -> u64 {
    let info = server.connect().say("CORRAL.INFO events");
    let head = format!("event_{event}:");
    let line = info.lines().find_map(|line| line.strip_prefix(&head));
    let line = line.unwrap_or_else(|| panic!("no {head} {info}"));
    let mut parts = line.split(',').filter_map(|part| part.split_once('='));
    let value = parts.find(|(key, _)| *key == name);
    let value = value.unwrap_or_else(|| panic!("no {name}: {line}")).1;
    value.trim().parse().expect("a number")
}

/// Waits until an event took so many messages.
pub(crate) fn received(server: &Server, event: usize, count: u64) {
    until(&format!("{count} messages"), || {
        figure(server, event, "received") >= count
    });
}

/// Keys that are there, with the value `v`.
pub(crate) fn put(client: &mut Client, keys: &[&str]) {
    for key in keys {
        assert_eq!(client.say(&format!("SET {key} v")), "+OK\r\n");
    }
}

/// Which of these keys are there.
pub(crate) fn there<'k>(client: &mut Client, keys: &[&'k str]) -> Vec<&'k str> {
    let is_there = |key: &&&str| client.say(&format!("EXISTS {key}")) == ":1\r\n";
    keys.iter().filter(is_there).copied().collect()
}
