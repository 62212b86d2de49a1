//! When tags were last invalidated, as far as it matters to what is being made meanwhile.
//!
//! Time is counted in invalidations. A tag shares its last one with the few others that have its
//! slot: so a value may be refused that none of its tags outdates (one in 65 536 per invalidation
//! during its making and tag), but none is stored that one does. Nothing has to be forgotten.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A moment, in invalidations: when the making of a value began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// The clock of invalidations, and what it said at the last ones.
#[derive(Debug, Default)]
pub(super) struct Times {
    now: AtomicU64,
    last: OnceLock<Box<[AtomicU64]>>,
}

impl Times {
    pub(super) fn now(&self) -> Stamp {
        Stamp(self.now.load(Ordering::SeqCst))
    }

    /// A tag of this hash is invalidated: what was begun before is outdated.
    pub(super) fn note(&self, hash: u64) {
        let none = || (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        let last = self.last.get_or_init(none);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        last[slot(hash)].fetch_max(now, Ordering::SeqCst);
    }

    /// Whether a tag of this hash was invalidated since.
    pub(super) fn is_outdated(&self, hash: u64, since: Stamp) -> bool {
        let last = self.last.get();
        last.is_some_and(|last| last[slot(hash)].load(Ordering::SeqCst) > since.0)
    }
}

/// The low bits choose the tag's room.
fn slot(hash: u64) -> usize {
    usize::try_from(hash >> 32).unwrap_or(0) % SLOTS
}

/// Last invalidations that are kept apart: 512 KiB, from the first one on.
const SLOTS: usize = 1 << 16;
