//! Rules and origins of a server that runs: changed by a signal or a command, and what its log,
//! its figures and `CACHE.EXPLAIN` then say of them.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::common::{Client, PATIENCE, Server, free_port, until};
use super::near::coherent;
use super::start::fetch;

/// The files of a server: its settings, its log, and what its origin reads.
struct Files(TempDir);

impl Files {
    fn new(rules: &str) -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.change(rules);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    /// Other rules. Keys of the origin are files: that there is none of that name is a failure.
    fn change(&self, rules: &str) {
        let values = self.0.path().display();
        let origin = format!(
            "[[origin]]\nname = \"files\"\nkind = \"command\"\n\
             load = [\"cat\", \"{values}/{{1}}\"]\n\
             breaker-failures = 2\nbreaker-open = \"200ms\"\n"
        );
        fs::write(self.path("corral.toml"), origin + rules).expect("a file");
    }

    fn put(&self, name: &str, value: &str) {
        fs::write(self.path(name), value).expect("a file");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn server(&self) -> Server {
        let (config, log) = (self.text("corral.toml"), self.text("log"));
        let server = Server::corral(&["--config", &config, "--logfile", &log]);
        assert_eq!(
            server.connect().say("CONFIG SET loglevel notice"),
            "+OK\r\n"
        );
        server
    }
}

const USERS: &str = "[[rule]]\nmatch = \"user:*\"\nname = \"users\"\norigin = \"files\"\n";

fn explained(client: &mut Client, key: &str) -> String {
    client.say(&format!("CACHE.EXPLAIN {key}"))
}

#[test]
fn a_hangup_reads_the_rules_anew_and_drops_no_connection() {
    let files = Files::new("");
    files.put("1", "ann");
    let server = files.server();
    let mut client = server.connect();
    assert_eq!(client.say("GET user:1"), "$-1\r\n");
    files.change(USERS);
    server.signal("HUP");
    until("the rule is in force", || {
        client.say("GET user:1") == "$3\r\nann\r\n"
    });
    let said = "rules and origins were read anew rules=1 origins=1";
    until("the log says so", || files.log().contains(said));

    // What is wrong in the file is said, and changes nothing.
    files.change("[[rule]]\nmatch = \"user:*\"\norigin = \"nowhere\"\n");
    server.signal("HUP");
    until("the log says why not", || {
        let log = files.log();
        log.contains("rules and origins stay as they were") && log.contains("nowhere")
    });
    files.put("2", "bob");
    assert_eq!(client.say("GET user:2"), "$3\r\nbob\r\n");
}

#[test]
fn what_waits_for_a_load_is_answered_though_its_rule_is_gone() {
    let files = Files::new(USERS);
    let slow = files.path("slow");
    let made = std::process::Command::new("mkfifo").arg(&slow).status();
    assert!(made.expect("mkfifo").success());
    let server = files.server();
    let (mut reader, mut other) = (server.connect(), server.connect());
    reader.send(b"GET user:slow\r\nPING\r\n");
    until("it waits", || {
        explained(&mut other, "user:slow").contains("load: under way")
    });
    files.change("");
    assert_eq!(other.say("CORRAL.RELOAD"), "+OK\r\n");
    assert_eq!(other.say("GET user:slow"), "$-1\r\n", "it has no rule now");
    assert_eq!(other.say("SET user:slow new"), "+OK\r\n");
    fs::write(&slow, "late").expect("somebody reads it");
    for wanted in ["$3\r\nnew\r\n", "+PONG\r\n"] {
        let reply = reader.frame_within(PATIENCE).expect("a reply");
        assert_eq!(String::from_utf8_lossy(&reply), wanted);
    }
    assert_eq!(other.say("GET user:slow"), "$3\r\nnew\r\n", "a write wins");
}

#[test]
fn each_change_of_a_breaker_is_a_line_in_the_log() {
    let files = Files::new(&format!("{USERS}error-ttl = \"1ms\"\n"));
    let server = files.server();
    let mut client = server.connect();
    let mut breaker = || {
        let told = client.say("INFO loads");
        let (_, rest) = told.split_once(",breaker=").expect("an origin");
        rest.split(',').next().unwrap_or_default().to_owned()
    };
    assert_eq!(breaker(), "closed");
    let mut reader = server.connect();
    until("it opens", || {
        reader.say("GET user:none");
        files
            .log()
            .contains("origin fails: it is left alone origin=\"files\"")
    });
    until("its time is over", || breaker() == "half-open");
    files.put("1", "ann");
    assert_eq!(reader.say("GET user:1"), "$3\r\nann\r\n");
    assert_eq!(breaker(), "closed");
    let log = files.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" origin "))
        .collect();
    let end = &lines[lines.len() - 2..];
    assert!(
        end[0].contains("origin is probed origin=\"files\""),
        "{log}"
    );
    assert!(end[1].contains("origin is back origin=\"files\""), "{log}");
}

#[test]
fn a_front_tells_of_its_rules_and_takes_new_ones() {
    let (files, admin) = (Files::new(""), free_port());
    files.put("1", "ann");
    let upstream = Server::redis(&[]);
    let (config, port) = (files.text("corral.toml"), admin.to_string());
    let front = coherent(&upstream, &["--config", &config, "--admin-port", &port]);
    let mut client = front.connect();
    let all_told = |client: &mut Client, key: &str, parts: &[&str]| {
        let told = explained(client, key);
        for part in parts {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
    };
    all_told(&mut client, "user:1", &["rule: none: there are no rules"]);
    assert_eq!(client.say("GET user:1"), "$-1\r\n");
    files.change(&format!("{USERS}error-ttl = \"1h\"\n"));
    assert_eq!(client.say("CORRAL.RELOAD"), "+OK\r\n");
    let would = "get-if-nil: wait for a load from files";
    all_told(
        &mut client,
        "user:1",
        &["rule: 1: users (match user:*)", "breaker closed", would],
    );
    all_told(&mut client, "other", &["rule: none of 1 matches"]);
    assert_eq!(client.say("GET user:1"), "$3\r\nann\r\n");
    assert!(client.say("GET user:none").starts_with("-ORIGIN files: "));
    let failed = [
        "remembered: a failure: ORIGIN files: ",
        "get-if-nil: reply the failure that is remembered",
    ];
    all_told(&mut client, "user:none", &failed);

    let loads = client.say("CORRAL.INFO loads");
    assert!(
        loads.contains("rule_0:name=users,origin=files,loads=2,"),
        "{loads}"
    );
    let metrics = fetch(admin, "/metrics");
    for line in [
        "corral_rule_loads_total{rule=\"users\"} 2",
        "corral_origin_calls_total{origin=\"files\"} 2",
        "corral_origin_breaker{origin=\"files\",state=\"closed\"} 1",
    ] {
        assert!(
            metrics.lines().any(|told| told == line),
            "no {line}: {metrics}"
        );
    }

    files.change("[[rule]]\n");
    let refused = client.say("CORRAL.RELOAD");
    assert!(
        refused.starts_with("-ERR ") && refused.contains("match"),
        "{refused}"
    );
    assert!(client.say("CORRAL.INFO loads").contains("loads=2,"));
    let elsewhere = "-ERR 'cache.get' is for keys of corral's own: there is an upstream\r\n";
    assert_eq!(client.say("CACHE.GET user:1"), elsewhere);
}
