//! Flags, environment and file; exit codes and what is said with them; the admin port.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Output;

use super::common::{PATIENCE, Server, corral, free_port};

/// Runs corral until it ends by itself.
fn run(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = corral(dir);
    command.args(args).envs(variables.iter().copied());
    command.output().expect("corral runs")
}

/// That it ends with this exit code, and what it said.
fn ended(code: i32, args: &[&str], variables: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    ended_in(dir.path(), code, args, variables)
}

fn ended_in(dir: &Path, code: i32, args: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(dir, args, variables);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

fn all_said(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not said: {said}");
    }
}

#[test]
fn a_flag_that_is_none_exits_2_and_names_the_nearest() {
    let said = ended(2, &["--maxmemroy", "1gb"], &[]);
    all_said(&said, &["--maxmemroy", "--maxmemory"]);
    all_said(&ended(2, &["surplus"], &[]), &["surplus"]);
    all_said(&ended(2, &["--port"], &[]), &["--port"]);
}

#[test]
fn a_bad_value_exits_2_and_says_what_would_be_good() {
    for (args, words) in [
        (["--port", "99999"], ["--port", "99999", "65535"]),
        (["--port", "abc"], ["--port", "abc", "65535"]),
        (["--maxmemory", "10x"], ["--maxmemory", "10x", "memory"]),
        (
            ["--maxmemory-policy", "lru"],
            ["--maxmemory-policy", "lru", "allkeys-lru"],
        ),
        (
            ["--protected-mode", "maybe"],
            ["--protected-mode", "maybe", "yes"],
        ),
        (["--io-threads", "0"], ["--io-threads", "0", "128"]),
        (["--loglevel", "loud"], ["--loglevel", "loud", "notice"]),
    ] {
        all_said(&ended(2, &args, &[]), &words);
    }
}

#[test]
fn a_bad_upstream_exits_2() {
    for url in [
        "http://x",
        "redis://",
        "redis://host:99999",
        "redis://host/abc",
        "host",
    ] {
        all_said(
            &ended(2, &["--check-config", "--upstream", url], &[]),
            &["upstream"],
        );
    }
}

#[test]
fn a_variable_that_is_none_exits_2() {
    let said = ended(2, &["--check-config"], &[("CORRAL_MAXMEMROY", "1gb")]);
    all_said(&said, &["CORRAL_MAXMEMROY", "CORRAL_MAXMEMORY"]);
    let said = ended(2, &["--check-config"], &[("CORRAL_PORT", "abc")]);
    all_said(&said, &["CORRAL_PORT", "abc"]);
}

#[test]
fn a_bad_line_in_the_file_exits_2_and_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("corral.toml");
    for (content, words) in [
        ("port = 6380\nmaxmemory = \n", ["corral.toml", "2"]),
        (
            "port = 6380\nmaxmemroy = \"1gb\"\n",
            ["maxmemroy", "maxmemory"],
        ),
        ("port = \"many\"\n", ["port", "many"]),
        ("port = 6380\nport = 6381\n", ["port", "corral.toml"]),
    ] {
        std::fs::write(&path, content).expect("a file");
        let args = ["--config", "corral.toml", "--check-config"];
        all_said(&ended_in(dir.path(), 2, &args, &[]), &words);
    }
    let said = ended_in(dir.path(), 2, &["--config", "missing.toml"], &[]);
    all_said(&said, &["missing.toml"]);
}

#[test]
fn check_config_says_that_all_is_well_and_starts_nothing() {
    let said = ended(0, &["--check-config", "--port", "1"], &[]);
    all_said(&said, &["the settings are valid"]);
}

#[test]
fn help_and_version_exit_0() {
    all_said(
        &ended(0, &["--help"], &[]),
        &["--maxmemory", "--upstream", "--config"],
    );
    all_said(&ended(0, &["--version"], &[]), &["corral", corral::VERSION]);
}

#[test]
fn settings_that_do_not_go_together_exit_2() {
    all_said(&ended(2, &["--tls-port", "7000"], &[]), &["tls-cert-file"]);
    all_said(&ended(2, &["--port", "0"], &[]), &["nothing to listen on"]);
}

#[test]
fn a_port_that_is_taken_exits_1_and_says_what_to_do() {
    let server = Server::corral(&[]);
    let port = server.port.to_string();
    let said = ended(1, &["--port", &port, "--bind", "127.0.0.1"], &[]);
    all_said(&said, &[&port, "ss -ltnp", "--port"]);
    let said = ended(
        1,
        &[
            "--port",
            &free_port().to_string(),
            "--bind",
            "127.0.0.1",
            "--admin-port",
            &port,
        ],
        &[],
    );
    all_said(&said, &[&port, "admin-port"]);
}

#[test]
fn flags_beat_variables_and_variables_beat_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("corral.toml");
    let content = "maxclients = 11\ntimeout = 12\nmaxmemory-samples = 3\n";
    std::fs::write(&path, content).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let variables = [("CORRAL_TIMEOUT", "22"), ("CORRAL_MAXMEMORY_SAMPLES", "4")];
    let server = Server::corral_with(&["--config", path, "--maxmemory-samples", "7"], &variables);
    let mut client = server.connect();
    for (name, value) in [
        ("maxclients", "11"),
        ("timeout", "22"),
        ("maxmemory-samples", "7"),
    ] {
        let reply = client.say(&format!("CONFIG GET {name}"));
        let wanted = format!("${}\r\n{value}\r\n", value.len());
        assert!(reply.ends_with(&wanted), "{name}: {reply}");
    }
}

#[test]
fn config_rewrite_keeps_the_file_and_adds_what_was_set() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("corral.toml");
    std::fs::write(&path, "# ours\ntimeout = 12 # seconds\nmaxclients = 100\n").expect("a file");
    let name = path.to_str().expect("UTF-8").to_owned();
    let server = Server::corral(&["--config", &name]);
    let mut client = server.connect();
    assert_eq!(
        client.say("CONFIG SET timeout 34 slowlog-max-len 77"),
        "+OK\r\n"
    );
    assert_eq!(client.say("CONFIG SET maxmemory 100mb"), "+OK\r\n");
    assert_eq!(client.say("CONFIG REWRITE"), "+OK\r\n");
    let content = std::fs::read_to_string(&path).expect("a file");
    all_said(
        &content,
        &["# ours", "timeout = 34", "# seconds", "maxclients = 100"],
    );
    all_said(&content, &["slowlog-max-len = 77", "maxmemory = "]);
    drop(server);
    let again = Server::corral_with(&["--config", &name], &[]);
    let mut client = again.connect();
    for (name, value) in [
        ("timeout", "34"),
        ("slowlog-max-len", "77"),
        ("maxclients", "100"),
    ] {
        let reply = client.say(&format!("CONFIG GET {name}"));
        assert!(
            reply.ends_with(&format!("\r\n{value}\r\n")),
            "{name}: {reply}"
        );
    }
}

/// One request over HTTP, and all that is answered.
fn http(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the admin port");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

pub(crate) fn fetch(port: u16, path: &str) -> String {
    http(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn the_admin_port_tells_metrics_and_health() {
    let admin = free_port();
    let server = Server::corral(&["--admin-port", &admin.to_string()]);
    let mut client = server.connect();
    client.say("SET k v");
    client.say("GET k");
    client.say("GET absent");
    client.say("NOSUCH");
    let metrics = fetch(admin, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    let body = metrics.split_once("\r\n\r\n").expect("a body").1;
    let lines = body
        .lines()
        .map(|line| Ok::<_, std::io::Error>(line.to_owned()));
    let parsed = prometheus_parse::Scrape::parse(lines).expect("Prometheus's format");
    let has = |word: &str| {
        parsed
            .samples
            .iter()
            .any(|sample| sample.metric.contains(word))
    };
    for word in ["hits", "misses", "memory", "clients"] {
        assert!(has(word), "{word}: {body}");
    }
    for path in ["/healthz", "/readyz"] {
        let answer = fetch(admin, path);
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{path}: {answer}"
        );
    }
    assert!(fetch(admin, "/nothing").starts_with("HTTP/1.1 404 "));
    let posted =
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(http(admin, posted).starts_with("HTTP/1.1 405 "));
}

#[test]
fn sigterm_ends_it_with_0_and_shutdown_too() {
    for ending in ["TERM", "INT", "SHUTDOWN"] {
        let mut server = Server::corral(&[]);
        let mut client = server.connect();
        assert_eq!(client.say("SET k v"), "+OK\r\n");
        if ending == "SHUTDOWN" {
            client.send(b"SHUTDOWN NOSAVE\r\n");
        } else {
            server.signal(ending);
        }
        assert_eq!(
            client.frame(),
            Err(super::common::Missing::Closed),
            "{ending}"
        );
        let status = server.process.wait().expect("a child");
        assert_eq!(status.code(), Some(0), "{ending}");
    }
}
