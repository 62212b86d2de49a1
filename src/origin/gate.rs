//! What all calls of an origin pass through: its breaker, its queue, its slots, its counters.
//!
//! A call that may not be made fails before it waits. Turns are taken in order. What was taken is
//! given back by `Drop`, so a caller that is gone leaves nothing behind.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::config::rules::OriginSpec;

use super::breaker::{Breaker, End, Pass, State};
use super::{Failure, FailureKind, Found};

/// How an origin fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginReport {
    /// Calls under way.
    pub under_way: usize,
    /// Calls that wait for their turn.
    pub queued: usize,
    /// Where its breaker stands.
    pub breaker: State,
    /// How often it opened.
    pub breaker_opened: u64,
    /// Calls that were made.
    pub calls: u64,
    /// Those that a value came from, or that stored or deleted one.
    pub succeeded: u64,
    /// Those that said that there is none.
    pub absent: u64,
    /// Failures by their kind, in the order of [`FailureKind::ALL`].
    pub failures: [u64; FailureKind::ALL.len()],
}

pub(super) struct Gate {
    name: String,
    concurrency: usize,
    queue: usize,
    slots: Semaphore,
    queued: AtomicUsize,
    breaker: Mutex<Breaker>,
    breaker_opened: AtomicU64,
    calls: AtomicU64,
    succeeded: AtomicU64,
    absent: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
}

/// The right to make one call.
pub(super) struct Slot<'a> {
    gate: &'a Gate,
    pass: Option<Pass>,
    _permit: SemaphorePermit<'a>,
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl Gate {
    pub(super) fn new(spec: &OriginSpec) -> Self {
        let concurrency = spec.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            name: spec.name.clone(),
            concurrency,
            queue: spec.queue,
            slots: Semaphore::new(concurrency),
            queued: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new(spec.breaker)),
            breaker_opened: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            absent: AtomicU64::new(0),
            failures: Default::default(),
        }
    }

    /// Waits for a turn, until the deadline.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Slot<'_>, Failure> {
        let open = || Failure::new(FailureKind::BreakerOpen, "the origin fails, left alone");
        let now = clock::now();
        if !self.breaker.lock().would_pass(now) {
            return Err(open());
        }
        if deadline <= now {
            return Err(Failure::new(
                FailureKind::Timeout,
                "its time was over before it began",
            ));
        }
        let permit = self.turn(deadline).await?;
        // It may have opened meanwhile.
        let (pass, is_first_probe) = {
            let mut breaker = self.breaker.lock();
            let was_open = breaker.is_open();
            let pass = breaker.enter(clock::now()).ok_or_else(open)?;
            (pass, was_open)
        };
        if is_first_probe {
            tracing::info!(origin = self.name, "origin is probed");
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(Slot {
            gate: self,
            pass: Some(pass),
            _permit: permit,
        })
    }

    async fn turn(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        let closed = || Failure::new(FailureKind::Crashed, "the origin is closed");
        match self.slots.try_acquire() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::NoPermits) => {}
            Err(TryAcquireError::Closed) => return Err(closed()),
        }
        let Some(_place) = Place::take(&self.queued, self.queue) else {
            let text = "too many calls wait for the origin";
            return Err(Failure::new(FailureKind::QueueFull, text));
        };
        match timeout_at(deadline, self.slots.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(closed()),
            Err(_) => {
                let text = "its turn did not come in time";
                Err(Failure::new(FailureKind::Timeout, text))
            }
        }
    }

    /// Counts a call that was not made.
    pub(super) fn refused(&self, failure: Failure) -> Failure {
        self.count(failure.kind);
        failure
    }

    fn count(&self, kind: FailureKind) {
        self.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn report(&self) -> OriginReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OriginReport {
            under_way: self.concurrency - self.slots.available_permits(),
            queued: self.queued.load(Ordering::Relaxed),
            breaker: self.breaker.lock().state(clock::now()),
            breaker_opened: read(&self.breaker_opened),
            calls: read(&self.calls),
            succeeded: read(&self.succeeded),
            absent: read(&self.absent),
            failures: std::array::from_fn(|index| read(&self.failures[index])),
        }
    }

    fn end(&self, pass: Pass, end: End, why: &str) {
        let changed = {
            let mut breaker = self.breaker.lock();
            breaker.leave(pass, end, clock::now(), rand::random())
        };
        match changed {
            Some(State::Open) => {
                self.breaker_opened.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(origin = self.name, why, "origin fails: it is left alone");
            }
            Some(State::Closed) => tracing::info!(origin = self.name, "origin is back"),
            Some(State::HalfOpen) | None => {}
        }
    }
}

impl Slot<'_> {
    /// Takes note of how the call ended.
    pub(super) fn leave(mut self, outcome: &Result<Option<Found>, Failure>) {
        let gate = self.gate;
        let (end, why) = match outcome {
            Ok(found) => {
                let counter = if found.is_some() {
                    &gate.succeeded
                } else {
                    &gate.absent
                };
                counter.fetch_add(1, Ordering::Relaxed);
                (End::Well, "")
            }
            Err(failure) => {
                gate.count(failure.kind);
                let end = if failure.is_ill { End::Ill } else { End::Well };
                (end, failure.text.as_str())
            }
        };
        if let Some(pass) = self.pass.take() {
            gate.end(pass, end, why);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.gate.end(pass, End::Unknown, "");
        }
    }
}

impl<'a> Place<'a> {
    fn take(queued: &'a AtomicUsize, max: usize) -> Option<Self> {
        let one_more = |queued: usize| (queued < max).then_some(queued + 1);
        queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()
            .map(|_| Self(queued))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
