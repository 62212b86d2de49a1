//! Connections that are kept for the next call.
//!
//! A call takes one, or makes its own, and gives it back only if it ended well: one that was broken
//! off is closed with what was under way on it, by whoever drops it. How many there are at once is
//! bounded by the calls under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock;
use crate::config::rules::PoolSpec;

use super::{Failure, FailureKind};

pub(super) struct Pool<C> {
    spec: PoolSpec,
    /// The one that was used last is the last.
    idle: Mutex<Vec<(C, Instant)>>,
}

impl<C> Pool<C> {
    pub(super) fn new(spec: PoolSpec) -> Self {
        Self {
            spec,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// One that was used before.
    pub(super) fn take(&self) -> Option<C> {
        let now = clock::now();
        let mut idle = self.idle.lock();
        let is_old = |since: &Instant| now.duration_since(*since) > self.spec.idle_timeout;
        let old = idle.iter().take_while(|(_, since)| is_old(since)).count();
        let old: Vec<_> = idle.drain(..old).collect();
        let taken = idle.pop().map(|(connection, _)| connection);
        drop(idle);
        // Closed without the lock.
        drop(old);
        taken
    }

    pub(super) fn give(&self, connection: C) {
        let mut idle = self.idle.lock();
        if idle.len() < self.spec.idle {
            idle.push((connection, clock::now()));
            return;
        }
        drop(idle);
        drop(connection);
    }

    /// Closes them all: one of them was dead, and then most are.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }

    /// Connects, within the time there is for that.
    pub(super) async fn connect<E: std::fmt::Display>(
        &self,
        connecting: impl Future<Output = Result<C, E>>,
    ) -> Result<C, Failure> {
        within(self.spec.connect_timeout, connecting).await
    }
}

async fn within<C, E: std::fmt::Display>(
    limit: Duration,
    connecting: impl Future<Output = Result<C, E>>,
) -> Result<C, Failure> {
    match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            let text = format!("cannot connect: {error}");
            Err(Failure::new(FailureKind::Connect, text))
        }
        Err(_) => {
            let text = format!("cannot connect within {} ms", limit.as_millis());
            Err(Failure::new(FailureKind::Connect, text))
        }
    }
}

/// Whether an origin answered when it was last asked. A kept connection that turns out to be closed
/// is then no sign of an origin that fails, and a load is worth a second attempt over a new one.
pub(super) struct Health(AtomicBool);

impl Health {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(super) fn is_well(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, is_well: bool) {
        self.0.store(is_well, Ordering::Relaxed);
    }
}
