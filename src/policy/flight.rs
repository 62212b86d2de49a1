//! A load under way, and those who wait for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::watch;

use crate::store::Stamp;

use super::sync::AtomicBool;

/// What came of a load.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The value.
    Value(Bytes),
    /// The value; but its key was changed or a tag of it invalidated meanwhile: it is for those
    /// only who came before.
    Outdated(Bytes),
    /// There is none.
    Absent,
    /// It is not known, and why.
    Failed(Arc<str>),
}

/// A load under way.
pub struct Flight {
    /// When it began, to be compared with when its tags were invalidated.
    pub(super) since: Stamp,
    /// How often tags had been invalidated elsewhere when it began, as far as was known.
    pub(super) gone: u64,
    is_void: AtomicBool,
    /// Whether what it brought is on its way to where it is kept.
    is_kept: AtomicBool,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    pub(super) fn new(since: Stamp, gone: u64) -> Self {
        Self {
            since,
            gone,
            is_void: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
            outcome: watch::Sender::new(None),
        }
    }

    /// Its key was changed: what it brings must not be stored. Under the lock of the key's shard.
    pub(super) fn void(&self) {
        self.is_void.store(true, Ordering::Relaxed);
    }

    /// Whether its key was changed since it began. Under the lock of the key's shard.
    pub(super) fn is_void(&self) -> bool {
        self.is_void.load(Ordering::Relaxed)
    }

    /// What it brought is about to be kept elsewhere.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Whether it is about to be kept elsewhere, or has been.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// Tells what came of it to all who wait.
    pub(super) fn land(&self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }

    /// Waits for it.
    pub(super) fn join(&self) -> watch::Receiver<Option<Outcome>> {
        self.outcome.subscribe()
    }
}
