//! What is under way for keys: loads and leases, at most one per key.
//!
//! Whoever looks for the work on a key, begins it or ends it, holds the lock of the key's shard,
//! and so does whoever changes the key and tells of it here. Hence: what is still registered when
//! it ends began after the last change of its key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::flight::Flight;
use super::lease::Lease;
use crate::clock;
use crate::store::Change;

/// What is at work on a key.
pub(super) enum Work {
    Load(Arc<Flight>),
    Lease(Lease),
}

/// All of it, by key.
pub(super) struct Works {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: ahash::RandomState,
    len: AtomicUsize,
}

/// By database (as its tables are numbered) and key.
type Stripe = HashMap<u16, HashMap<Box<[u8]>, Work>>;

impl Default for Works {
    fn default() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: ahash::RandomState::new(),
            len: AtomicUsize::new(0),
        }
    }
}

impl Works {
    /// How many keys are worked on.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Calls `with` with the work on a key. It may end it by taking it.
    pub(super) fn with<R>(
        &self,
        db: u16,
        key: &[u8],
        with: impl FnOnce(&mut Option<Work>) -> R,
    ) -> R {
        let mut stripe = self.stripe(key).lock();
        let mut present = stripe.get_mut(&db).and_then(|keys| keys.remove(key));
        let was_there = present.is_some();
        let result = with(&mut present);
        match (was_there, present.is_some()) {
            (false, true) => self.len.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.len.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => 0,
        };
        if let Some(present) = present {
            stripe.entry(db).or_default().insert(key.into(), present);
        }
        result
    }

    /// The key was changed: loads of it are void, and who waits for a lease is told.
    pub(super) fn changed(&self, db: u16, key: &[u8], change: Change) {
        // What is under way for this key was registered under the lock that is held now.
        if self.len() == 0 {
            return;
        }
        self.with(db, key, |work| {
            let stays = match (&mut *work, change) {
                (Some(Work::Lease(lease)), Change::Removed) => lease.hand_over(clock::now()),
                (Some(Work::Lease(lease)), Change::Written) => {
                    lease.tell_all();
                    false
                }
                (Some(Work::Load(flight)), _) => {
                    flight.void();
                    false
                }
                (None, _) => false,
            };
            if !stays {
                *work = None;
            }
        });
    }

    /// All keys of a database were changed.
    pub(super) fn all_changed(&self, db: u16, now: Instant) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            let Some(keys) = stripe.get_mut(&db) else {
                continue;
            };
            keys.retain(|_, work| {
                let stays = match work {
                    Work::Lease(lease) => lease.hand_over(now),
                    Work::Load(flight) => {
                        flight.void();
                        false
                    }
                };
                if !stays {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                }
                stays
            });
        }
    }

    /// Forgets leases that are over.
    pub(super) fn sweep(&self, now: Instant) {
        if self.len() == 0 {
            return;
        }
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            for keys in stripe.values_mut() {
                keys.retain(|_, work| {
                    let is_over = match work {
                        Work::Lease(lease) => lease.is_over(now),
                        Work::Load(_) => false,
                    };
                    if is_over {
                        self.len.fetch_sub(1, Ordering::Relaxed);
                    }
                    !is_over
                });
            }
        }
    }

    fn stripe(&self, key: &[u8]) -> &Mutex<Stripe> {
        let index = usize::try_from(self.hasher.hash_one(key) % STRIPES as u64);
        &self.stripes[index.unwrap_or(0)]
    }
}

/// Locks of the register.
const STRIPES: usize = 64;
