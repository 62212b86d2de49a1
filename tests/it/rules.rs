//! Rules and origins as clients see them: what `CACHE.*`, `CORRAL.RELOAD`, `CORRAL.INFO loads` and
//! `CLIENT CACHE-INFO` say.
//!
//! The origin is a command that writes a line for each of its loads, so that they can be counted.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;

use super::common::{Client, TestServer, request, until};

/// A server whose rules are in a file of its own.
struct Ruled {
    server: TestServer,
    directory: tempfile::TempDir,
}

impl Ruled {
    fn with(rules: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("corral.toml");
        fs::write(&file, rules_in(&directory, rules)).expect("it can be written");
        let server = TestServer::with(&[("config", &file.display().to_string())]);
        Self { server, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("corral.toml")
    }

    /// Other rules in its file.
    fn change(&self, rules: &str) {
        fs::write(self.file(), rules_in(&self.directory, rules)).expect("it can be written");
    }

    /// How often the origin was asked.
    fn loads(&self) -> usize {
        let asked = fs::read_to_string(self.directory.path().join("asked"));
        asked.unwrap_or_default().lines().count()
    }
}

/// An origin `count`, which has no keys with `absent` and fails for those with `fail`; the rules.
fn rules_in(directory: &tempfile::TempDir, rules: &str) -> String {
    let asked = directory.path().join("asked");
    format!(
        r#"
[[origin]]
name = "count"
kind = "command"
load = ["sh", "-c", '''
echo "$1" >> {asked}
case "$1" in absent*) exit 66;; fail*) echo "as asked" >&2; exit 3;; esac
printf %s "$1"
''', "sh", "{{1}}"]

{rules}"#,
        asked = asked.display()
    )
}

const ORIGIN: &str = r#"
[[rule]]
match = "o:*"
name = "of-origin"
origin = "count"
"#;

const LEASE: &str = r#"
[[rule]]
match = "l:*"
name = "leased"
lease = "20s"
"#;

fn words(line: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    request(&words)
}

trait Talks {
    fn say(&mut self, line: &str, reply: &str);
    fn offered(&mut self, line: &str) -> (String, [i64; 3]);
    fn told(&mut self, line: &str) -> String;
}

impl Talks for Client<TcpStream> {
    #[track_caller]
    fn say(&mut self, line: &str, reply: &str) {
        self.ask(words(line), reply);
    }

    /// The reply of CACHE.GET: the value or `-`, and three numbers.
    #[track_caller]
    fn offered(&mut self, line: &str) -> (String, [i64; 3]) {
        self.send(words(line));
        assert_eq!(self.line(), "*4");
        let value = match self.line().as_str() {
            "$-1" => "-".to_owned(),
            _ => self.line(),
        };
        let number = |line: String| line[1..].parse().expect("a number");
        let numbers = [self.line(), self.line(), self.line()].map(number);
        (value, numbers)
    }

    /// The lines of an array of bulk strings.
    #[track_caller]
    fn told(&mut self, line: &str) -> String {
        self.send(words(line));
        let header = self.line();
        let count = header
            .strip_prefix('*')
            .and_then(|count| count.parse().ok());
        let count: usize = count.unwrap_or_else(|| panic!("no array: {header}"));
        (0..count)
            .map(|_| {
                self.line();
                self.line() + "\n"
            })
            .collect()
    }
}

#[test]
fn cache_get_gives_the_lease_of_a_missing_key_to_one_caller() {
    let ruled = Ruled::with(LEASE);
    let (mut first, mut second) = (ruled.server.connect(), ruled.server.connect());
    let nothing = "*4\r\n$-1\r\n:-2\r\n:0\r\n";
    first.say("CACHE.GET l:1", &format!("{nothing}:1\r\n"));
    second.say("CACHE.GET l:1", &format!("{nothing}:0\r\n"));
    first.say("CACHE.GET l:1", &format!("{nothing}:0\r\n"));
    first.say("SET l:1 v EX 100", "+OK\r\n");
    let (value, [left_ms, delta_ms, refresh]) = second.offered("CACHE.GET l:1");
    assert_eq!((value.as_str(), refresh), ("v", 0));
    assert!((90_000..=100_000).contains(&left_ms), "{left_ms}");
    assert!(
        delta_ms >= 1,
        "it took its time, from its miss on: {delta_ms}"
    );

    // Who leaves passes it on.
    first.say("CACHE.GET l:2", &format!("{nothing}:1\r\n"));
    drop(first);
    until("the other has the lease", || {
        second.offered("CACHE.GET l:2").1[2] == 1
    });
}

#[test]
fn a_get_waits_for_who_was_told_to_refresh_by_cache_get() {
    let ruled = Ruled::with(LEASE);
    let (mut holder, mut reader) = (ruled.server.connect(), ruled.server.connect());
    assert_eq!(holder.offered("CACHE.GET l:1").1[2], 1);
    reader.send(words("GET l:1"));
    until("it waits", || {
        holder.told("CACHE.EXPLAIN l:1").contains("1 wait for it")
    });
    holder.say("SET l:1 v", "+OK\r\n");
    reader.expect("$1\r\nv\r\n");
}

#[test]
fn cache_get_tells_one_caller_to_replace_a_value_near_its_end() {
    let server = TestServer::start();
    let (mut first, mut second) = (server.connect(), server.connect());
    first.say("SET k v PX 6000 DELTA 2800", "+OK\r\n");
    let (_, [_, delta_ms, refresh]) = first.offered("CACHE.GET k BETA 100");
    assert_eq!((delta_ms, refresh), (2800, 0), "too early for anybody");
    until("it is the last third of its time", || {
        let (value, [left_ms, ..]) = second.offered("CACHE.GET k BETA 0");
        assert_eq!(value, "v");
        left_ms < 1990
    });
    until("one is told", || {
        first.offered("CACHE.GET k BETA 100").1[2] == 1
    });
    for _ in 0..50 {
        let (value, [.., refresh]) = second.offered("CACHE.GET k BETA 100");
        assert_eq!((value.as_str(), refresh), ("v", 0), "another has it to do");
    }
}

#[test]
fn cache_get_never_loads_and_takes_no_other_words() {
    let ruled = Ruled::with(ORIGIN);
    let mut client = ruled.server.connect();
    client.say("CACHE.GET o:1", "*4\r\n$-1\r\n:-2\r\n:0\r\n:0\r\n");
    assert_eq!(ruled.loads(), 0);
    client.say("SET k v", "+OK\r\n");
    client.say("CACHE.GET k", "*4\r\n$1\r\nv\r\n:-1\r\n:0\r\n:0\r\n");
    let range = "-ERR BETA is a number from 0 to 100\r\n";
    for wrong in ["x", "-1", "101", "nan", "inf"] {
        client.say(&format!("CACHE.GET k BETA {wrong}"), range);
    }
    client.say("CACHE.GET k GAMMA 1", "-ERR syntax error\r\n");
    client.say("CACHE.GET k BETA", "-ERR syntax error\r\n");
}

#[test]
fn cache_refresh_begins_a_load_of_each_key_that_has_an_origin() {
    let ruled = Ruled::with(ORIGIN);
    let mut client = ruled.server.connect();
    client.say("CACHE.REFRESH o:1 plain o:2 o:1", ":2\r\n");
    client.say("GET o:1", "$1\r\n1\r\n");
    client.say("GET o:2", "$1\r\n2\r\n");
    assert_eq!(ruled.loads(), 2, "who read it meanwhile joined them");
    client.say("CACHE.REFRESH o:1", ":1\r\n");
    until("it was loaded again", || ruled.loads() == 3);
    client.say("MULTI", "+OK\r\n");
    client.say(
        "CACHE.REFRESH o:1",
        "-ERR Command not allowed inside a transaction\r\n",
    );
}

#[test]
fn cache_explain_tells_rule_freshness_origin_and_what_a_get_would_do() {
    let ruled = Ruled::with(&format!(
        "{ORIGIN}ttl = \"60s\"\nstale-if-error = \"10s\"\n{LEASE}"
    ));
    let mut client = ruled.server.connect();
    let mut holds = |key: &str, lines: &[&str]| {
        let told = client.told(&format!("CACHE.EXPLAIN {key}"));
        for line in lines {
            assert!(told.contains(line), "no {line:?} in:\n{told}");
        }
    };
    holds(
        "plain",
        &["rule: none of 2 matches\n", "freshness: absent\n"],
    );
    holds(
        "o:1",
        &[
            "rule: 1: of-origin (match o:*)\n",
            "freshness: absent\n",
            "beta: 1\n",
            "stale-served: 10000 ms if that fails\n",
            "origin: count: breaker closed, 0 calls under way, 0 wait\n",
            "get: wait for a load from count\n",
        ],
    );
    assert_eq!(ruled.loads(), 0, "to explain loads nothing");
    let mut reader = ruled.server.connect();
    reader.say("GET o:1", "$1\r\n1\r\n");
    holds(
        "o:1",
        &[
            "freshness: fresh\n",
            " ms of 60000\n",
            " ms to make it\n",
            "a chance of 0.0",
        ],
    );
    reader.say("GET o:absent", "$-1\r\n");
    holds(
        "o:absent",
        &[
            "freshness: remembered absent",
            "get: reply nil: it is remembered",
        ],
    );
    reader.say("GET o:fail", "-ORIGIN count: exit code 3: as asked\r\n");
    let failed = "freshness: remembered failure: ORIGIN count: exit code 3: as asked\n";
    // For half a second.
    holds(
        "o:fail",
        &[failed, "get: reply the failure that is remembered\n"],
    );
    holds("l:1", &["get: reply nil, and give this client the lease"]);
    reader.say("GET l:1", "$-1\r\n");
    holds(
        "l:1",
        &[
            "lease: held by client ",
            " 0 wait for it\n",
            "get: wait until client ",
        ],
    );
}

#[test]
fn corral_reload_puts_new_rules_in_force_and_keeps_what_was_counted() {
    let ruled = Ruled::with(&format!("{ORIGIN}negative-ttl = \"1h\"\n"));
    let mut client = ruled.server.connect();
    client.say("GET o:1", "$1\r\n1\r\n");
    client.say("GET o:absent", "$-1\r\n");
    client.say("GET p:1", "$-1\r\n");
    // One rule more, and the others as they were.
    let more = ORIGIN.replace("o:*", "p:*").replace("of-origin", "more");
    ruled.change(&format!("{ORIGIN}negative-ttl = \"1h\"\n{more}"));
    client.say("CORRAL.RELOAD", "+OK\r\n");
    client.say("GET p:1", "$1\r\n1\r\n");
    let loads = client.bulk(words("CORRAL.INFO loads"));
    assert!(
        loads.contains("rule_0:name=of-origin,origin=count,loads=2,"),
        "{loads}"
    );
    assert!(
        loads.contains("rule_1:name=more,origin=count,loads=1,"),
        "{loads}"
    );

    // The same once more: nothing is forgotten.
    client.say("GET o:absent", "$-1\r\n");
    let asked = ruled.loads();
    client.say("CORRAL.RELOAD", "+OK\r\n");
    client.say("GET o:absent", "$-1\r\n");
    assert_eq!(ruled.loads(), asked, "it is remembered that there is none");

    // No rules at all.
    ruled.change("");
    client.say("CORRAL.RELOAD", "+OK\r\n");
    client.say("GET p:2", "$-1\r\n");
}

#[test]
fn who_waits_for_a_lease_is_answered_though_its_rule_is_gone() {
    let ruled = Ruled::with(&LEASE.replace("20s", "1h"));
    let (mut holder, mut reader) = (ruled.server.connect(), ruled.server.connect());
    holder.say("GET l:1", "$-1\r\n");
    reader.send(words("GET l:1"));
    until("it waits", || {
        holder.told("CACHE.EXPLAIN l:1").contains("1 wait for it")
    });
    ruled.change("");
    holder.say("CORRAL.RELOAD", "+OK\r\n");
    holder.say("SET l:1 v", "+OK\r\n");
    reader.expect("$1\r\nv\r\n");
}

#[test]
fn a_bad_file_is_refused_whole_and_the_old_rules_stay() {
    let ruled = Ruled::with(ORIGIN);
    let mut client = ruled.server.connect();
    ruled.change(&format!(
        "{LEASE}\n[[rule]]\nmatch = \"x:*\"\norigin = \"nowhere\"\n"
    ));
    client.send(words("CORRAL.RELOAD"));
    let error = client.line();
    assert!(
        error.starts_with("-ERR ") && error.contains("nowhere"),
        "{error}"
    );
    client.say("GET l:1", "$-1\r\n");
    client.say("CACHE.GET l:1", "*4\r\n$-1\r\n:-2\r\n:0\r\n:0\r\n");
    client.say("GET o:1", "$1\r\n1\r\n");
    fs::remove_file(ruled.file()).expect("it is there");
    client.send(words("CORRAL.RELOAD"));
    assert!(client.line().starts_with("-ERR "));
    client.say("GET o:2", "$1\r\n2\r\n");

    let server = TestServer::start();
    let mut plain = server.connect();
    plain.say(
        "CORRAL.RELOAD",
        "-ERR The server is running without a config file\r\n",
    );
}

#[test]
fn info_tells_of_loads_by_rule_and_of_calls_by_origin() {
    let ruled = Ruled::with(&format!("{ORIGIN}{LEASE}"));
    let mut client = ruled.server.connect();
    client.say("GET o:1", "$1\r\n1\r\n");
    client.say("GET o:absent", "$-1\r\n");
    client.say("GET o:absent", "$-1\r\n");
    client.say("GET o:fail", "-ORIGIN count: exit code 3: as asked\r\n");
    client.say("GET l:1", "$-1\r\n");
    for asked in ["INFO", "INFO loads", "CORRAL.INFO loads"] {
        let told = client.bulk(words(asked));
        for part in [
            "# Loads\r\n",
            "rules:2\r\n",
            "keys_under_way:1\r\n",
            "rule_0:name=of-origin,origin=count,loads=3,",
            ",loaded=1,absent=1,failed=1,",
            ",negative_hits=1,",
            "rule_1:name=leased,origin=,loads=0,",
            ",leases=1,",
            "origin_0:name=count,breaker=closed,breaker_opened=0,under_way=0,queued=0,calls=3,",
            ",failed_refused=1,",
        ] {
            assert!(told.contains(part), "no {part:?} in {asked}:\n{told}");
        }
    }
    let server = TestServer::start();
    let mut plain = server.connect();
    assert!(!plain.bulk(words("INFO")).contains("# Loads"));
    assert_eq!(
        plain.bulk(words("CORRAL.INFO loads")),
        "# Loads\r\nrules:0\r\norigins:0\r\nkeys_under_way:0\r\n"
    );
}

#[test]
fn cache_info_precedes_values_by_an_attribute_in_resp3_only() {
    let ruled = Ruled::with(ORIGIN);
    let mut client = ruled.server.connect();
    client.say(
        "CLIENT CACHE-INFO ON",
        "-ERR CLIENT CACHE-INFO needs RESP3: RESP2 has no attributes (HELLO 3)\r\n",
    );
    client.say("CLIENT CACHE-INFO OFF", "+OK\r\n");
    client.say("CLIENT CACHE-INFO maybe", "-ERR syntax error\r\n");
    client.send(words("HELLO 3"));
    for _ in 0..client.line()[1..].parse::<usize>().expect("a map") * 2 {
        skip(&mut client);
    }
    let attribute = |state: &str| {
        let len = state.len();
        format!(
            "|3\r\n$3\r\nage\r\n:-1\r\n$3\r\nttl\r\n:-1\r\n$5\r\nstate\r\n${len}\r\n{state}\r\n"
        )
    };
    let (fresh, loaded) = (attribute("fresh"), attribute("loaded"));
    client.say("SET k v", "+OK\r\n");
    client.say("GET k", "$1\r\nv\r\n");
    client.say("CLIENT CACHE-INFO ON", "+OK\r\n");
    client.say("GET k", &format!("{fresh}$1\r\nv\r\n"));
    client.say("GET nothing", "_\r\n");
    client.say("GET o:1", &format!("{loaded}$1\r\n1\r\n"));
    client.say("GET o:1", &format!("{fresh}$1\r\n1\r\n"));
    client.say(
        "MGET k nothing o:2",
        &format!("*3\r\n{fresh}$1\r\nv\r\n_\r\n{loaded}$1\r\n2\r\n"),
    );
    client.say(
        "CACHE.GET k",
        &format!("{fresh}*4\r\n$1\r\nv\r\n:-1\r\n:0\r\n:0\r\n"),
    );
    client.say("STRLEN k", ":1\r\n");
    client.say("CLIENT CACHE-INFO OFF", "+OK\r\n");
    client.say("GET k", "$1\r\nv\r\n");
    client.say("CLIENT CACHE-INFO ON", "+OK\r\n");
    client.say("RESET", "+RESET\r\n");
    client.say("GET k", "$1\r\nv\r\n");
}

/// Reads one word or number of HELLO's reply.
fn skip(client: &mut Client<TcpStream>) {
    if client.line().starts_with('$') {
        client.line();
    }
}

#[test]
fn cache_info_tells_age_and_time_to_live_of_a_value_that_has_them() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.send(words("HELLO 3"));
    for _ in 0..client.line()[1..].parse::<usize>().expect("a map") * 2 {
        skip(&mut client);
    }
    client.say("CLIENT CACHE-INFO ON", "+OK\r\n");
    client.say("SET k v EX 100 DELTA 5", "+OK\r\n");
    client.send(words("GET k"));
    let lines: Vec<String> = (0..11).map(|_| client.line()).collect();
    let number = |at: usize| lines[at][1..].parse::<i64>().expect("a number");
    let (age_ms, left_ms) = (number(3), number(6));
    assert!((0..10_000).contains(&age_ms), "{lines:?}");
    assert_eq!(age_ms + left_ms, 100_000, "{lines:?}");
    client.expect("$1\r\nv\r\n");
}
