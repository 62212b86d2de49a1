//! The admin port as a scraper and an orchestrator see it.

use prometheus_parse::{Scrape, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::VERSION;
use crate::command::run::{BATCH_MAX, Runner};
use crate::config::SetError;
use crate::instance::Listeners;
use crate::instance::clients::Arrival;
use crate::instance::session::Session;
use crate::resp::{Decoder, Limits, Protocol, Reply};

fn instance() -> Arc<Instance> {
    Arc::new(Instance::new(Config::default(), None))
}

/// Runs inline commands as a client would.
fn run(instance: &Instance, lines: &str) {
    let arrival = Arrival {
        peer: "p".to_owned(),
        local: "l".to_owned(),
        is_unix: false,
        is_local: true,
        fd: 0,
    };
    let client = instance.clients.add(arrival, 10).unwrap();
    let mut session = Session::new(instance, client, 0);
    let mut reply = Reply::new(Protocol::Resp2);
    let mut decoder = Decoder::default();
    let bytes = lines.replace('\n', "\r\n").into_bytes();
    decoder
        .decode(&bytes, BATCH_MAX, &Limits::default())
        .unwrap();
    Runner {
        instance,
        session: &mut session,
        reply: &mut reply,
    }
    .run(&decoder, &bytes, 0);
}

fn scrape(text: &str) -> Scrape {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    Scrape::parse(lines).unwrap()
}

fn value(scrape: &Scrape, name: &str, label: &str) -> Option<f64> {
    let mut samples = scrape.samples.iter().filter(|sample| sample.metric == name);
    let found = samples
        .find(|sample| label.is_empty() || sample.labels.values().any(|value| value == label))?;
    match &found.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(*value),
        Value::Histogram(_) | Value::Summary(_) => None,
    }
}

#[test]
fn metrics_are_in_the_text_format_and_tell_what_happened() {
    let instance = instance();
    run(
        &instance,
        "set k v ex 100\nget k\nget k\nget absent\nincr k\nget\nnonsense\n",
    );
    let text = metrics::render(&instance).unwrap();
    let scrape = scrape(&text);
    for (name, label, expected) in [
        ("corral_keyspace_hits_total", "", 2.0),
        ("corral_keyspace_misses_total", "", 1.0),
        ("corral_commands_total", "get", 3.0),
        ("corral_command_failures_total", "incr", 1.0),
        ("corral_command_rejections_total", "get", 1.0),
        ("corral_error_replies_total", "ERR", 3.0),
        ("corral_keys", "0", 1.0),
        ("corral_keys_with_expiry", "0", 1.0),
        ("corral_connected_clients", "", 1.0),
        ("corral_build_info", VERSION, 1.0),
    ] {
        assert_eq!(
            value(&scrape, name, label),
            Some(expected),
            "{name} in\n{text}"
        );
    }
    assert!(value(&scrape, "corral_memory_used_bytes", "").unwrap() > 0.0);
    assert!(value(&scrape, "corral_process_resident_memory_bytes", "").unwrap() > 0.0);
}

#[test]
fn durations_are_a_histogram_whose_last_bucket_has_them_all() {
    let instance = instance();
    run(&instance, "set k v\nget k\nget k\n");
    let scrape = scrape(&metrics::render(&instance).unwrap());
    let name = "corral_command_duration_seconds";
    let mut histograms = scrape.samples.iter().filter(|sample| sample.metric == name);
    let of_get = histograms.find(|sample| sample.labels.values().any(|value| value == "get"));
    let Value::Histogram(buckets) = &of_get.unwrap().value else {
        panic!("no histogram")
    };
    assert_eq!(
        buckets.last().map(|last| (last.less_than, last.count)),
        Some((f64::INFINITY, 2.0))
    );
    assert!(
        buckets
            .windows(2)
            .all(|pair| pair[0].count <= pair[1].count)
    );
    assert_eq!(
        value(&scrape, "corral_command_duration_seconds_count", "get"),
        Some(2.0)
    );
}

#[test]
fn every_metric_has_help_and_type_and_the_prefix() {
    let instance = instance();
    run(&instance, "set k v\nnonsense\n");
    let text = metrics::render(&instance).unwrap();
    let names = |word: &str| -> Vec<&str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|line| line.split(' ').next().unwrap()).collect()
    };
    assert_eq!(names("# HELP "), names("# TYPE "));
    assert!(
        names("# TYPE ")
            .iter()
            .all(|name| name.starts_with("corral_"))
    );
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(sample.starts_with("corral_"), "{sample}");
    }
}

#[test]
fn counters_go_on_rising_whatever_config_resetstat_does() {
    let instance = instance();
    run(&instance, "set k v\nget k\nconfig resetstat\nget k\n");
    let scrape = scrape(&metrics::render(&instance).unwrap());
    assert_eq!(value(&scrape, "corral_keyspace_hits_total", ""), Some(2.0));
}

/// An admin port on a port that is free.
async fn serving(instance: &Arc<Instance>) -> (Admin, SocketAddr) {
    let socket = Socket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = AdminPort(vec![socket]);
    let address = port.addresses()[0];
    (port.serve(instance), address)
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

struct Open;

impl Listeners for Open {
    fn change(&self, _: &Config, _: &Config) -> Result<(), SetError> {
        Ok(())
    }
}

#[tokio::test]
async fn the_port_answers_metrics_and_health() {
    let instance = instance();
    let (admin, address) = serving(&instance).await;
    let metrics = ask(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4\r\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("\ncorral_keyspace_hits_total 0\n"),
        "{metrics}"
    );
    assert!(ask(address, "/healthz").await.ends_with("\r\n\r\nok\n"));
    assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404 "));
    drop(admin);
    tokio::task::yield_now().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn readiness_begins_with_the_listeners_and_ends_with_the_wish_to_stop() {
    let instance = instance();
    let (_admin, address) = serving(&instance).await;
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
    assert!(instance.listeners.set(Box::new(Open)).is_ok());
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
    instance.stopping.ask(false);
    let answer = ask(address, "/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("stopping\n"),
        "{answer}"
    );
    assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_port_that_is_taken_is_told_with_its_address() {
    let taken = Socket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut config = Config::clone(&instance().config());
    config.admin_port = port;
    let error = AdminPort::open(&config).unwrap_err().to_string();
    let expected = format!("cannot listen on 127.0.0.1:{port} (admin-port): ");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn metrics_tell_of_rules_and_origins_by_their_names() {
    let instance = instance();
    let rules = crate::config::rules::parse(
        "[[origin]]\nname = \"here\"\nkind = \"command\"\nload = [\"true\"]\n\
         [[rule]]\nmatch = \"o:*\"\norigin = \"here\"\n\
         [[rule]]\nmatch = \"l:*\"\nlease = \"1s\"\n",
    );
    instance.policy.set_rules(&rules.unwrap()).unwrap();
    run(&instance, "get l:1\n");
    let page = scrape(&metrics::render(&instance).unwrap());
    assert_eq!(value(&page, "corral_rule_leases_total", "l:*"), Some(1.0));
    assert_eq!(value(&page, "corral_rule_leases_total", "o:*"), Some(0.0));
    assert_eq!(value(&page, "corral_rule_delta_seconds", "o:*"), Some(0.0));
    assert_eq!(value(&page, "corral_origin_calls_total", "here"), Some(0.0));
    assert_eq!(
        value(&page, "corral_origin_failures_total", "timeout"),
        Some(0.0)
    );
    assert_eq!(value(&page, "corral_origin_breaker", "closed"), Some(1.0));
    assert_eq!(value(&page, "corral_origin_breaker", "open"), Some(0.0));
}

/// The status and the body that a request is answered with.
async fn post(instance: &Arc<Instance>, head: &str, body: &str) -> (u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(accept(
        listener,
        router(instance),
        Arc::new(Semaphore::new(1)),
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /invalidate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {}\r\n\
         \r\n{body}",
        body.len()
    );
    // It may be refused before all of it was sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    serving.abort();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.trim_end().to_owned())
}

const BEARER: &str = "Authorization: Bearer secret\r\n";

fn with_token() -> Arc<Instance> {
    let mut config = Config::default();
    "secret".clone_into(&mut config.admin_token);
    Arc::new(Instance::new(config, None))
}

#[tokio::test]
async fn who_knows_that_something_changed_invalidates_keys_and_tags() {
    let instance = with_token();
    run(
        &instance,
        "set a 1 TAGS 1 t\nset b 1 TAGS 1 t\nset c 1\nset d 1\n",
    );
    let body = r#"{"keys": ["c", "absent"], "tags": ["t", "none"]}"#;
    let answer = post(&instance, BEARER, body).await;
    assert_eq!(answer, (200, r#"{"keys":1,"of_tags":2}"#.to_owned()));
    let mut view = crate::keyspace::View::new(instance.store.lock_none(), 0);
    let mut left = Vec::new();
    view.for_each(0, |entry| left.push(entry.key().to_vec()));
    assert_eq!(left, [b"d"]);
    let elsewhere = post(
        &instance,
        BEARER,
        r#"{"keys": ["d"], "db": 1, "soft": true}"#,
    )
    .await;
    assert_eq!(elsewhere, (200, r#"{"keys":0,"of_tags":0}"#.to_owned()));
}

#[tokio::test]
async fn nobody_invalidates_without_the_token() {
    let closed = instance();
    assert_eq!(post(&closed, BEARER, "{}").await.0, 403);
    let instance = with_token();
    run(&instance, "set a 1\n");
    let before = instance.store.items_bytes();
    for head in [
        "",
        "Authorization: Bearer secre\r\n",
        "Authorization: Basic secret\r\n",
    ] {
        assert_eq!(
            post(&instance, head, r#"{"keys": ["a"]}"#).await.0,
            401,
            "{head}"
        );
    }
    assert_eq!(instance.store.items_bytes(), before);
}

#[tokio::test]
async fn what_is_wrong_with_an_invalidation_is_said() {
    let instance = with_token();
    for (body, expected) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[]", "an object is expected"),
        (r#"{"keys": "a"}"#, "keys: not understood"),
        (r#"{"tags": [1]}"#, "tags: a list of texts is expected"),
        (r#"{"db": 16}"#, "db: there is no such database"),
        (r#"{"key": ["a"]}"#, "key: unknown"),
    ] {
        let expected = serde_json::json!({ "error": expected }).to_string();
        assert_eq!(
            post(&instance, BEARER, body).await,
            (400, expected),
            "{body}"
        );
    }
    let key = "k".repeat(invalidate::BODY_MAX - r#"{"keys": [""]}"#.len());
    let body = format!(r#"{{"keys": ["{key}"]}}"#);
    assert_eq!(post(&instance, BEARER, &body).await.0, 200);
    assert_eq!(post(&instance, BEARER, &format!("{body} ")).await.0, 413);
}
