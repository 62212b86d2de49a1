//! Who is told of every change of a key, while it happens.
//!
//! What is under way for a key (a load of its value, the right of a client to make it) must learn
//! of a write or a removal before anybody can see it: so it is told under the lock of the key's
//! shard, and who looks at what is under way holds that lock as well.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Store;

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has a value that somebody stored.
    Written,
    /// Somebody saw to it that it is not there, whether or not it was.
    Removed,
}

/// Who is told. Databases are told by their tables, as [`Store::physical`] numbers them.
pub trait Observer: Send + Sync {
    /// A key was changed. Called under the lock of its shard.
    fn changed(&self, db: u16, key: &[u8], change: Change);

    /// All keys of a database were removed, or are others. Called under all locks.
    fn all_changed(&self, db: u16);

    /// Calls `visit` with the tags that a key carries whoever stores it. Called under the lock of
    /// its shard.
    fn tags(&self, key: &[u8], visit: &mut dyn FnMut(&[u8]));
}

/// Room for one observer, and whether it wants to be told.
#[derive(Default)]
pub(super) struct Observed {
    observer: OnceLock<Box<dyn Observer>>,
    is_on: AtomicBool,
}

impl Store {
    /// Makes known who is to be told of changes. There is one at most; it is told nothing before
    /// [`Self::observe`].
    pub fn set_observer(&self, observer: Box<dyn Observer>) {
        let is_first = self.observed.observer.set(observer).is_ok();
        debug_assert!(is_first, "a store has one observer");
    }

    /// From the next change on, tells the observer.
    pub fn observe(&self) {
        if self.observed.is_on.load(Ordering::Acquire) {
            return;
        }
        // Who changes a key now holds a lock: what it has not told yet is nobody's business.
        drop(self.lock_all());
        self.observed.is_on.store(true, Ordering::Release);
    }

    /// The observer, where it wants to be told.
    #[inline]
    pub(super) fn observer(&self) -> Option<&dyn Observer> {
        if !self.observed.is_on.load(Ordering::Acquire) {
            return None;
        }
        self.observed.observer.get().map(|observer| &**observer)
    }
}
