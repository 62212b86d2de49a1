//! What holds for all kinds of origins, with one that does what a test says.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::config::rules::{BreakerSpec, CommandSpec};

/// What a test's origin does with a call.
type Answer = Box<dyn Fn() -> Step + Send + Sync>;

/// What it does next.
pub(crate) enum Step {
    Answer(Result<Option<Found>, Failure>),
    /// This after that time; after none, once others that are ready had their turn. What is held
    /// goes with the call, however it ends.
    Later(Duration, Box<Self>, Box<dyn Any + Send>),
    Panic,
    Never,
}

pub(crate) struct Fake(Answer);

impl Fake {
    pub(super) async fn run(&self, _: &Call<'_>) -> Result<Option<Found>, Failure> {
        let mut step = (self.0)();
        let mut all_held = Vec::new();
        loop {
            match step {
                Step::Answer(answer) => return answer,
                Step::Later(by, then, held) => {
                    all_held.push(held);
                    if by.is_zero() {
                        tokio::task::yield_now().await;
                    } else {
                        tokio::time::sleep(by).await;
                    }
                    step = *then;
                }
                Step::Panic => panic!("as the test wants it"),
                Step::Never => std::future::pending().await,
            }
        }
    }
}

const NOBODY: BreakerSpec = BreakerSpec {
    failures: 0,
    open: Duration::from_secs(1),
    probes: 1,
};

pub(crate) fn origin(answer: impl Fn() -> Step + Send + Sync + 'static) -> Arc<Origin> {
    origin_with(|_| {}, answer)
}

pub(crate) fn origin_with(
    change: impl Fn(&mut OriginSpec),
    answer: impl Fn() -> Step + Send + Sync + 'static,
) -> Arc<Origin> {
    let command = CommandSpec {
        load: Vec::new(),
        store: None,
        delete: None,
        absent_exit: 66,
        environment: Vec::new(),
        directory: "/".into(),
    };
    let mut spec = OriginSpec::new("fake", OriginKind::Command(command));
    change(&mut spec);
    Origin::with(&spec, Loader::Fake(Fake(Box::new(answer))))
}

/// Loads with this long to the deadline.
async fn load(origin: &Origin, left: Duration) -> Result<Option<Found>, FailureKind> {
    let call = Call {
        key: b"k",
        captures: &[],
        deadline: Instant::now() + left,
    };
    origin.load(&call).await.map_err(|failure| failure.kind)
}

/// Lets a call go as far as it can.
fn is_pending(call: &mut (impl Future + Unpin)) -> bool {
    call.now_or_never().is_none()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_and_frees_its_slot() {
    let origin = origin_with(|spec| spec.concurrency = 1, || Step::Panic);
    for _ in 0..3 {
        assert_eq!(load(&origin, SECOND).await, Err(FailureKind::Crashed));
    }
    assert_eq!(origin.report().under_way, 0);
    assert_eq!(origin.report().failures[FailureKind::Crashed as usize], 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_and_frees_its_slot() {
    let origin = origin_with(|spec| spec.concurrency = 1, || Step::Never);
    let since = Instant::now();
    assert_eq!(load(&origin, SECOND).await, Err(FailureKind::Timeout));
    assert_eq!((since.elapsed(), origin.report().under_way), (SECOND, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_gone_frees_slot_and_place() {
    let origin = origin_with(|spec| spec.concurrency = 1, || Step::Never);
    let mut under_way = Box::pin(load(&origin, SECOND));
    assert!(is_pending(&mut under_way));
    let mut queued = Box::pin(load(&origin, SECOND));
    assert!(is_pending(&mut queued));
    assert_eq!((origin.report().under_way, origin.report().queued), (1, 1));
    drop(queued);
    assert_eq!((origin.report().under_way, origin.report().queued), (1, 0));
    drop(under_way);
    assert_eq!((origin.report().under_way, origin.report().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_call_more_than_the_queue_holds_fails_at_once() {
    let limits = |spec: &mut OriginSpec| (spec.concurrency, spec.queue) = (2, 3);
    let origin = origin_with(limits, || Step::Never);
    let mut calls: Vec<_> = (0..5).map(|_| Box::pin(load(&origin, SECOND))).collect();
    for call in &mut calls {
        assert!(is_pending(call));
    }
    let since = Instant::now();
    assert_eq!(load(&origin, SECOND).await, Err(FailureKind::QueueFull));
    assert_eq!(since.elapsed(), Duration::ZERO);
    drop(calls.pop());
    let mut next = Box::pin(load(&origin, SECOND));
    assert!(is_pending(&mut next), "the place is free again");
}

#[tokio::test(start_paused = true)]
async fn the_time_in_the_queue_counts() {
    let origin = origin_with(|spec| spec.concurrency = 1, || Step::Never);
    let mut first = Box::pin(load(&origin, 10 * SECOND));
    assert!(is_pending(&mut first));
    let since = Instant::now();
    assert_eq!(load(&origin, SECOND).await, Err(FailureKind::Timeout));
    assert_eq!(since.elapsed(), SECOND);
    assert_eq!(origin.report().calls, 1, "it was never made");
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_than_allowed_are_under_way_and_turns_are_in_order() {
    let limits = |spec: &mut OriginSpec| (spec.concurrency, spec.queue) = (1, 10);
    let made = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&made);
    let origin = origin_with(limits, move || {
        seen.fetch_add(1, Ordering::Relaxed);
        Step::Never
    });
    let mut calls: Vec<_> = (1..=5)
        .map(|n| Box::pin(load(&origin, n * SECOND)))
        .collect();
    for call in &mut calls {
        assert!(is_pending(call));
    }
    for (index, call) in calls.iter_mut().enumerate() {
        assert!(is_pending(call));
        assert_eq!(made.load(Ordering::Relaxed), index + 1, "one at a time");
        // Each has its turn when the one before it is over, and not sooner.
        assert_eq!(call.await, Err(FailureKind::Timeout));
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_fails_is_left_alone_until_a_probe_succeeds() {
    let is_ill = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_ill);
    let breaker = BreakerSpec {
        failures: 3,
        ..NOBODY
    };
    let origin = origin_with(
        |spec| spec.breaker = breaker,
        move || {
            Step::Answer(if seen.load(Ordering::Relaxed) {
                Err(Failure::ill("status 503"))
            } else {
                Ok(None)
            })
        },
    );
    for _ in 0..3 {
        assert_eq!(load(&origin, SECOND).await, Err(FailureKind::Refused));
    }
    for _ in 0..100 {
        assert_eq!(load(&origin, SECOND).await, Err(FailureKind::BreakerOpen));
    }
    let report = origin.report();
    assert_eq!(
        (report.calls, report.breaker, report.breaker_opened),
        (3, BreakerState::Open, 1)
    );
    // It may stay open for a quarter more.
    tokio::time::advance(SECOND.mul_f64(1.25)).await;
    assert_eq!(origin.report().breaker, BreakerState::HalfOpen);
    assert_eq!(load(&origin, SECOND).await, Err(FailureKind::Refused));
    assert_eq!(load(&origin, SECOND).await, Err(FailureKind::BreakerOpen));
    is_ill.store(false, Ordering::Relaxed);
    tokio::time::advance(SECOND.mul_f64(1.25)).await;
    assert_eq!(load(&origin, SECOND).await, Ok(None));
    let report = origin.report();
    assert_eq!(
        (report.breaker, report.calls, report.absent),
        (BreakerState::Closed, 5, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_while_the_breaker_opened_is_not_made() {
    let breaker = BreakerSpec {
        failures: 1,
        ..NOBODY
    };
    let limits = |spec: &mut OriginSpec| (spec.concurrency, spec.breaker) = (1, breaker);
    let origin = origin_with(limits, || Step::Never);
    let mut first = Box::pin(load(&origin, SECOND));
    assert!(is_pending(&mut first));
    let second = load(&origin, 10 * SECOND);
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, Err(FailureKind::Timeout));
    assert_eq!(second, Err(FailureKind::BreakerOpen));
    assert_eq!(origin.report().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_of_the_origin_does_not_open_its_breaker() {
    let failures = [
        Failure::new(FailureKind::Refused, "status 403"),
        Failure::too_large(1),
        Failure::new(FailureKind::BadValue, "WRONGTYPE"),
    ];
    for failure in failures {
        let answer = failure.clone();
        let breaker = BreakerSpec {
            failures: 1,
            ..NOBODY
        };
        let origin = origin_with(
            |spec| spec.breaker = breaker,
            move || Step::Answer(Err(answer.clone())),
        );
        for _ in 0..10 {
            assert_eq!(load(&origin, SECOND).await, Err(failure.kind));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_longer_than_allowed_is_a_failure_and_one_as_long_is_not() {
    for (bytes, is_found) in [(10, true), (11, false)] {
        let origin = origin_with(
            |spec| spec.max_value = 10,
            move || Step::Answer(Ok(Some(Found::of(vec![b'x'; bytes])))),
        );
        let loaded = load(&origin, SECOND).await;
        assert_eq!(loaded.is_ok(), is_found);
        assert_eq!(
            loaded.is_err_and(|kind| kind == FailureKind::TooLarge),
            !is_found
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_the_origin_has_no_place_for_is_refused() {
    let origin = origin(|| Step::Answer(Ok(None)));
    let call = Call {
        key: b"k",
        captures: &[],
        deadline: Instant::now() + SECOND,
    };
    let failure = origin.store(&call, b"v", None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(
        origin.delete(&call).await,
        Ok(()),
        "it has none: all is well"
    );
}

#[test]
fn what_an_origin_says_is_one_line_that_can_be_printed() {
    let failure = Failure::new(FailureKind::Refused, "  a\x1b[31mb\r\nc");
    assert_eq!(failure.text, "a?[31mb");
    let long = Failure::new(FailureKind::Refused, "é".repeat(1000));
    assert_eq!(long.text.len(), 200);
    assert_eq!(
        Failure::new(FailureKind::Refused, "x".to_owned() + &"é".repeat(1000))
            .text
            .len(),
        199
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_is_gone_makes_room_for_another() {
    let breaker = BreakerSpec {
        failures: 1,
        ..NOBODY
    };
    let origin = origin_with(|spec| spec.breaker = breaker, || Step::Never);
    assert_eq!(load(&origin, SECOND).await, Err(FailureKind::Timeout));
    tokio::time::advance(SECOND.mul_f64(1.25)).await;
    let mut probe = Box::pin(load(&origin, SECOND));
    assert!(is_pending(&mut probe));
    assert_eq!(load(&origin, SECOND).await, Err(FailureKind::BreakerOpen));
    drop(probe);
    assert_eq!(
        load(&origin, SECOND).await,
        Err(FailureKind::Timeout),
        "it was made"
    );
}
