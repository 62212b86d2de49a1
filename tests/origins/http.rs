//! A small HTTP server in the test, and ones that misbehave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use corral::origin::{BreakerState, FailureKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::common::{
    call, delete, failure, failure_within, is_absent, load, origin, store, until, value,
};
use crate::servers::free_port;

const SECOND: Duration = Duration::from_secs(1);

/// What the server was asked.
#[derive(Clone)]
pub(crate) struct Asked {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A server whose answers a test gives.
struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    async fn start(
        answer: impl Fn(&Asked) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let router = axum::Router::new().fallback(move |request: Request<Body>| {
            let (answer, log) = (answer.clone(), Arc::clone(&log));
            async move {
                let (parts, body) = request.into_parts();
                let asked = Asked {
                    method: parts.method,
                    uri: parts.uri.to_string(),
                    headers: parts.headers,
                    body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
                };
                log.lock().unwrap().push(asked.clone());
                answer(&asked)
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }

    fn settings(&self, path: &str, more: &str) -> String {
        let address = self.address;
        format!("kind = 'http'\nurl = 'http://{address}{path}'\n{more}\n")
    }

    fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// The same, where a variable has its name.
fn origin_of(settings: &str) -> Arc<corral::origin::Origin> {
    origin(settings)
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

#[tokio::test]
async fn statuses_say_whether_there_is_a_value() {
    let service = Service::start(|asked| {
        let status: u16 = asked.uri.rsplit('/').next().unwrap().parse().unwrap();
        answer(status, &[], if status == 204 { "" } else { "body" })
    })
    .await;
    let origin = origin(&service.settings("/s/{1}", "breaker-failures = 0"));
    for status in ["200", "201", "299"] {
        assert_eq!(value(&origin, status).await, "body");
    }
    assert_eq!(value(&origin, "204").await, "");
    for status in ["404", "410"] {
        assert!(is_absent(&origin, status).await, "{status}");
    }
    for status in [
        "206", "301", "304", "400", "401", "403", "429", "500", "503",
    ] {
        assert_eq!(
            failure(&origin, status).await,
            FailureKind::Refused,
            "{status}"
        );
    }
    let own = origin_of(&service.settings("/s/{1}", "absent-status = [204, 403]"));
    assert!(is_absent(&own, "204").await && is_absent(&own, "403").await);
    assert_eq!(failure(&own, "404").await, FailureKind::Refused);
}

#[tokio::test]
async fn a_value_is_stored_by_put_and_deleted_by_delete() {
    let service = Service::start(|_| answer(200, &[], "x")).await;
    let origin = origin(&service.settings("/users/{1}", ""));
    store(&origin, "a/b", b"\x00v\xff").await.unwrap();
    let asked = service.last();
    assert_eq!(
        (asked.method, asked.uri.as_str()),
        (Method::PUT, "/users/a%2Fb")
    );
    assert_eq!(asked.body, b"\x00v\xff");
    delete(&origin, "a").await.unwrap();
    assert_eq!(service.last().method, Method::DELETE);
    let other = service.settings("/{1}", "store-method = 'POST'\ndelete-method = 'none'");
    let other = origin_of(&other);
    assert!(other.can_store() && !other.can_delete());
    store(&other, "a", "v").await.unwrap();
    assert_eq!(service.last().method, Method::POST);
    assert_eq!(
        delete(&other, "a").await.unwrap_err().kind,
        FailureKind::Refused
    );
}

#[tokio::test]
async fn a_store_that_is_refused_is_an_error_and_deleting_what_is_absent_is_none() {
    let service = Service::start(|asked| {
        let status = if asked.uri == "/gone" { 404 } else { 409 };
        answer(status, &[], "no")
    })
    .await;
    let origin = origin(&service.settings("/{1}", ""));
    for capture in ["gone", "other"] {
        let failure = store(&origin, capture, "v").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused);
    }
    delete(&origin, "gone").await.unwrap();
    assert_eq!(
        delete(&origin, "other").await.unwrap_err().text,
        "status 409"
    );
}

#[tokio::test]
async fn headers_and_credentials_are_sent() {
    let service = Service::start(|_| answer(200, &[], "x")).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let headers = format!(
        "headers = {{ accept = 'text/plain', x-id = 'id-{{1}}', x-key = 'file:{}' }}",
        token.display()
    );
    let bearer = format!("{headers}\nbearer-token = 'file:{}'", token.display());
    let origin = origin(&service.settings("/", &bearer));
    load(&origin, "42").await.unwrap();
    let sent = service.last().headers;
    assert_eq!(sent["accept"], "text/plain");
    assert_eq!(
        (&sent["x-id"], &sent["x-key"]),
        (&"id-42".parse().unwrap(), &"s3cret".parse().unwrap())
    );
    assert_eq!(sent["authorization"], "Bearer s3cret");
    assert!(
        !sent.contains_key("accept-encoding"),
        "nobody would unpack it"
    );
    let basic = origin_of(&service.settings("/", "basic-auth = 'user:pass:word'"));
    load(&basic, "42").await.unwrap();
    assert_eq!(
        service.last().headers["authorization"],
        "Basic dXNlcjpwYXNzOndvcmQ="
    );
}

#[tokio::test]
async fn what_a_client_sent_is_no_structure_of_a_request() {
    let service = Service::start(|_| answer(200, &[], "x")).await;
    let settings = service.settings("/users/{1}?full=1&id={1}", "headers = { x-id = '{1}' }");
    let origin = origin(&settings);
    let plain = origin_of(&service.settings("/users/{1}?full=1&id={1}", ""));
    for hostile in [
        "../admin",
        "a?b&c=d#e",
        "%2e%2e",
        "a/b",
        "a b",
        "a\r\nx-evil: 1\r\n\r\n",
    ] {
        load(&plain, hostile).await.unwrap();
        let asked = service.last();
        let (path, query) = asked.uri.split_once('?').unwrap();
        assert_eq!(path.matches('/').count(), 2, "{}", asked.uri);
        assert!(path.starts_with("/users/") && query.starts_with("full=1&id="));
        assert_eq!(query.matches('&').count(), 1, "{}", asked.uri);
        assert!(!asked.headers.contains_key("x-evil"));
    }
    let count = service.count();
    for hostile in ["..", ".", ""] {
        assert_eq!(failure(&plain, hostile).await, FailureKind::Refused);
    }
    for hostile in ["a\r\nx-evil: 1", "a;b", "a,b", "\u{e9}"] {
        assert_eq!(failure(&origin, hostile).await, FailureKind::Refused);
    }
    assert_eq!(service.count(), count, "nothing was sent");
}

#[tokio::test]
async fn freshness_and_tags_come_from_headers_where_they_are_asked_for() {
    let service = Service::start(|_| {
        let headers = [
            ("cache-control", "public, max-age=60"),
            ("age", "10"),
            ("cache-tag", "a, b"),
            ("cache-tag", "c a"),
        ];
        answer(200, &headers, "x")
    })
    .await;
    let without = load(&origin(&service.settings("/", "")), "x")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((without.ttl, without.tags.len()), (None, 0));
    let asking = "ttl-from = 'cache-control'\ntag-header = 'Cache-Tag'";
    let found = load(&origin(&service.settings("/", asking)), "x")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.ttl, Some(Duration::from_secs(50)));
    assert_eq!(found.tags, [b"a", b"b", b"c"]);
}

#[tokio::test]
async fn redirects_are_followed_only_where_asked_and_within_the_server() {
    let elsewhere = Service::start(|_| answer(200, &[], "elsewhere")).await;
    let away = format!("http://{}/x", elsewhere.address);
    let service = Service::start(move |asked| match asked.uri.as_str() {
        "/from" => answer(302, &[("location", "/to")], ""),
        "/away" => answer(302, &[("location", &away)], ""),
        "/loop" => answer(302, &[("location", "/loop")], ""),
        _ => answer(200, &[], "here"),
    })
    .await;
    let strict = origin(&service.settings("/{1}", ""));
    assert_eq!(failure(&strict, "from").await, FailureKind::Refused);
    let following = origin(&service.settings("/{1}", "follow-redirects = true"));
    assert_eq!(value(&following, "from").await, "here");
    assert_eq!(failure(&following, "away").await, FailureKind::Refused);
    let before = service.count();
    assert_eq!(failure(&following, "loop").await, FailureKind::Refused);
    assert_eq!((service.count() - before, elsewhere.count()), (6, 0));
}

#[tokio::test]
async fn a_body_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
    let service = Service::start(|asked| {
        let bytes: usize = asked.uri[1..].parse().unwrap();
        let pieces = vec![b'x'; bytes];
        // Without a length before it.
        let stream = futures_util::stream::iter(
            pieces
                .chunks(1000)
                .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
                .collect::<Vec<_>>(),
        );
        answer(200, &[], Body::from_stream(stream))
    })
    .await;
    let origin = origin(&service.settings("/{1}", "max-value = 100000"));
    assert_eq!(value(&origin, "100000").await.len(), 100_000);
    assert_eq!(failure(&origin, "100001").await, FailureKind::TooLarge);
}

#[tokio::test]
async fn absent_keys_are_asked_for_over_one_connection() {
    let ports = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let (listener, seen) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        Arc::clone(&ports),
    );
    let address = listener.local_addr().unwrap();
    let handler = move |peer: axum::extract::ConnectInfo<SocketAddr>| async move {
        seen.lock().unwrap().insert(peer.0.port());
        (StatusCode::NOT_FOUND, "there is no such thing".repeat(2500))
    };
    let router = axum::Router::new()
        .fallback(handler)
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let origin = origin(&format!("kind = 'http'\nurl = 'http://{address}/{{1}}'\n"));
    for key in 0..20 {
        assert!(is_absent(&origin, key.to_string()).await);
    }
    assert_eq!(ports.lock().unwrap().len(), 1);
}

/// A server that reads a request, answers it with these bytes, and closes the connection. Counts
/// them.
async fn raw(bytes: impl Into<Vec<u8>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let (bytes, count) = (bytes.into(), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::clone(&count));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&bytes).await;
            });
        }
    });
    (address, count)
}

fn settings(address: SocketAddr, more: &str) -> String {
    format!("kind = 'http'\nurl = 'http://{address}/{{1}}'\n{more}\n")
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure() {
    let cases = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe",
        "HTTP/1.1 200 O",
        "",
        "not HTTP at all\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    ];
    for bytes in cases {
        let (address, count) = raw(bytes).await;
        assert_eq!(
            failure(&origin(&settings(address, "")), "x").await,
            FailureKind::Lost,
            "{bytes}"
        );
        assert_eq!(count.load(Ordering::Relaxed), 1, "asked once: {bytes}");
    }
}

#[tokio::test]
async fn an_announced_length_beyond_the_bound_is_refused_without_reading() {
    let bytes = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\nx";
    let (address, _) = raw(bytes).await;
    assert_eq!(
        failure(&origin(&settings(address, "")), "x").await,
        FailureKind::TooLarge
    );
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_no_failure() {
    // It answers once on each connection, and closes it when it is asked again.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
                    .await;
                let _ = stream.read(&mut request).await;
            });
        }
    });
    let origin = origin(&settings(address, ""));
    for _ in 0..10 {
        assert_eq!(value(&origin, "x").await, "x");
    }
    // A write may have happened, so it is not sent twice.
    let stored = store(&origin, "x", "v").await;
    assert_eq!(stored.unwrap_err().kind, FailureKind::Lost);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_to_connect() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    assert_eq!(
        failure(&origin(&settings(address, "")), "x").await,
        FailureKind::Connect
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_until_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = origin(&settings(listener.local_addr().unwrap(), ""));
    let since = Instant::now();
    assert_eq!(failure_within(&origin, SECOND).await, FailureKind::Timeout);
    assert!(since.elapsed() >= SECOND && since.elapsed() < 10 * SECOND);
    assert_eq!(origin.report().under_way, 0);
}

#[tokio::test]
async fn a_body_that_never_ends_is_waited_for_until_the_deadline() {
    let service = Service::start(|_| {
        answer(
            200,
            &[],
            Body::from_stream(futures_util::stream::pending::<
                Result<Vec<u8>, std::io::Error>,
            >()),
        )
    })
    .await;
    let origin = origin(&service.settings("/", ""));
    assert_eq!(failure_within(&origin, SECOND).await, FailureKind::Timeout);
}

#[tokio::test]
async fn a_caller_that_is_gone_frees_the_slot_and_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = origin(&settings(listener.local_addr().unwrap(), ""));
    let caller = Arc::clone(&origin);
    let task = tokio::spawn(async move { load(&caller, "x").await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 4096];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    assert_eq!(origin.report().under_way, 1);
    task.abort();
    assert_eq!(
        stream.read(&mut bytes).await.unwrap_or(0),
        0,
        "it is closed"
    );
    until("its slot is free", || origin.report().under_way == 0).await;
}

#[tokio::test]
async fn no_more_requests_than_allowed_are_under_way() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, peak) = (Arc::clone(&now), Arc::clone(&most));
    let router = axum::Router::new().fallback(move || async move {
        peak.fetch_max(seen.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        seen.fetch_sub(1, Ordering::SeqCst);
        "x"
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let origin = origin(&settings(address, "concurrency = 3\nqueue = 20"));
    let captures: Vec<String> = (0..24).map(|key| key.to_string()).collect();
    let loads = captures.iter().map(|key| load(&origin, key));
    let outcomes = futures_util::future::join_all(loads).await;
    let full = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    // Three under way, twenty in the queue, and one too many.
    assert_eq!((full, most.load(Ordering::SeqCst)), (1, 3));
    assert_eq!(origin.report().failures[FailureKind::QueueFull as usize], 1);
}

#[tokio::test]
async fn an_origin_that_is_down_is_asked_seldom_and_found_when_it_is_back() {
    let is_down = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_down);
    let service = Service::start(move |_| {
        let status = if seen.load(Ordering::Relaxed) {
            503
        } else {
            200
        };
        answer(status, &[], "x")
    })
    .await;
    let more = "breaker-failures = 3\nbreaker-open = '200ms'";
    let origin = origin(&service.settings("/", more));
    let since = Instant::now();
    while since.elapsed() < 2 * SECOND {
        assert!(load(&origin, "x").await.is_err());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Three to open it, and a probe each 200 to 250 ms.
    assert!((4..=14).contains(&service.count()), "{}", service.count());
    is_down.store(false, Ordering::Relaxed);
    while load(&origin, "x").await.is_err() {
        assert!(since.elapsed() < 10 * SECOND, "it is back");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(origin.report().breaker, BreakerState::Closed);
    assert_eq!(value(&origin, "x").await, "x");
}

#[tokio::test]
async fn the_deadline_of_a_call_that_is_over_lets_nothing_through() {
    let service = Service::start(|_| answer(200, &[], "x")).await;
    let origin = origin(&service.settings("/", ""));
    let outcome = origin.load(&call(&[b"x"], Duration::ZERO)).await;
    assert_eq!(outcome.unwrap_err().kind, FailureKind::Timeout);
}
