//! `CLIENT PAUSE`: for a while, no commands, or none that write.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;

/// What is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paused {
    /// Commands that write.
    Writes,
    /// All commands.
    All,
}

/// Whether clients are paused, how, and until when.
#[derive(Default)]
pub struct Pause {
    /// 0: no; 1: writes; 2: all. What every command looks at.
    state: AtomicU8,
    until: Mutex<Option<(Paused, Instant)>>,
    changed: Notify,
}

impl Pause {
    /// Whether a command has to wait.
    #[inline]
    #[must_use]
    pub fn concerns(&self, writes: bool) -> bool {
        match self.state.load(Ordering::Relaxed) {
            0 => false,
            1 => writes,
            _ => true,
        }
    }

    /// Pauses for `duration` from now. A pause that is in force is only ever extended (as in
    /// Redis).
    pub fn begin(&self, what: Paused, duration: Duration) {
        let mut until = self.until.lock();
        // A pause of years is one for ever, which the clock can hold.
        let end = clock::now() + duration.min(PAUSE_MAX);
        let next = match *until {
            Some((before, at)) if at > clock::now() => (before.max(what), at.max(end)),
            Some(_) | None => (what, end),
        };
        *until = Some(next);
        let state = if next.0 == Paused::All { 2 } else { 1 };
        self.state.store(state, Ordering::Relaxed);
        drop(until);
        self.changed.notify_waiters();
    }

    /// Ends the pause.
    pub fn end(&self) {
        *self.until.lock() = None;
        self.state.store(0, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Waits until a command need not wait any more.
    pub async fn wait(&self, writes: bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.concerns(writes) {
                return;
            }
            let until = *self.until.lock();
            let Some((_, at)) = until else { return };
            tokio::select! {
                () = tokio::time::sleep_until(at) => self.end_if_due(),
                () = changed => {}
            }
        }
    }

    fn end_if_due(&self) {
        let mut until = self.until.lock();
        if until.is_some_and(|(_, at)| at <= clock::now()) {
            *until = None;
            self.state.store(0, Ordering::Relaxed);
            drop(until);
            self.changed.notify_waiters();
        }
    }
}

/// Ten years.
const PAUSE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
