//! Origins from their settings, and calls of them.

use std::sync::Arc;
use std::time::Duration;

use corral::config::rules;
use corral::origin::{Call, Failure, FailureKind, Found, Origin};
use tokio::time::Instant;

/// How long a call may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An origin with these settings.
pub(crate) fn origin(settings: &str) -> Arc<Origin> {
    let text = format!("[[origin]]\nname = 'o'\n{settings}");
    let rules = rules::parse(&text).expect("settings");
    Origin::build(&rules.origins[0]).expect("an origin")
}

/// What a call is made with.
pub(crate) fn call<'a>(captures: &'a [&'a [u8]], left: Duration) -> Call<'a> {
    Call {
        key: b"the:key",
        captures,
        deadline: Instant::now() + left,
    }
}

/// Loads the value of one capture.
pub(crate) async fn load(
    origin: &Origin,
    capture: impl AsRef<[u8]>,
) -> Result<Option<Found>, Failure> {
    origin.load(&call(&[capture.as_ref()], PATIENCE)).await
}

/// The text of a value that is there.
pub(crate) async fn value(origin: &Origin, capture: impl AsRef<[u8]>) -> String {
    let found = load(origin, capture).await.expect("no failure");
    let value = found.expect("a value").value;
    String::from_utf8_lossy(&value).into_owned()
}

/// Whether there is none.
pub(crate) async fn is_absent(origin: &Origin, capture: impl AsRef<[u8]>) -> bool {
    load(origin, capture).await.expect("no failure").is_none()
}

/// How a load fails.
pub(crate) async fn failure(origin: &Origin, capture: impl AsRef<[u8]>) -> FailureKind {
    load(origin, capture).await.expect_err("a failure").kind
}

/// How a load with this long to go fails.
pub(crate) async fn failure_within(origin: &Origin, left: Duration) -> FailureKind {
    let outcome = origin.load(&call(&[b"1"], left)).await;
    outcome.expect_err("a failure").kind
}

/// Stores the value of one capture.
pub(crate) async fn store(
    origin: &Origin,
    capture: impl AsRef<[u8]>,
    value: impl AsRef<[u8]>,
) -> Result<(), Failure> {
    let captures = [capture.as_ref()];
    let call = call(&captures, PATIENCE);
    origin.store(&call, value.as_ref(), None).await
}

/// Deletes the value of one capture.
pub(crate) async fn delete(origin: &Origin, capture: impl AsRef<[u8]>) -> Result<(), Failure> {
    origin.delete(&call(&[capture.as_ref()], PATIENCE)).await
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
