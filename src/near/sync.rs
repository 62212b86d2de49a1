//! The locks and atomics on which the safety of this room rests, so that a test can take their
//! place: with the feature `shuttle`, tests run on primitives that let a scheduler choose at each
//! of them who goes on (see `tests/interleavings.rs`). Counters and ghosts, on which nothing
//! rests, are the standard library's.
//!
//! A shard's lock is the store's own, which that scheduler does not know: none of these primitives
//! is touched while one is held.

use crate::store::{Locked, Store};

/// Whether these are a test's primitives: then tables are small, as they are made for every run.
pub(super) const IS_SIMULATED: bool = cfg!(all(test, feature = "shuttle"));

#[cfg(not(all(test, feature = "shuttle")))]
mod chosen {
    pub(in crate::near) use parking_lot::Mutex;
    pub(in crate::near) use std::sync::atomic::{AtomicU32, AtomicU64};

    pub(super) fn pass() {}
}

#[cfg(all(test, feature = "shuttle"))]
mod chosen {
    pub(in crate::near) use shuttle::sync::atomic::{AtomicU32, AtomicU64};

    /// With the methods of `parking_lot`'s.
    #[derive(Debug)]
    pub(in crate::near) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in crate::near) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(in crate::near) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a test that panicked has failed")
        }

        pub(in crate::near) fn try_lock(&self) -> Option<shuttle::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// A step like any other: a yield would tell the scheduler to prefer the others.
    pub(super) fn pass() {
        AtomicU32::new(0).load(std::sync::atomic::Ordering::SeqCst);
    }
}

pub(super) use chosen::{AtomicU32, AtomicU64, Mutex};

/// Locks the shard of a key; here, too, another thread may come first.
#[inline]
pub(super) fn lock(store: &Store, hash: u64) -> Locked<'_> {
    chosen::pass();
    store.lock(hash)
}
