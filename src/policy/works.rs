//! What is under way for keys: loads and leases, at most one per key.
//!
//! Whoever looks for the work on a key, begins it or ends it, holds the lock of the key's shard,
//! and so does whoever changes the key and tells of it here. Hence: what is still registered when
//! it ends began after the last change of its key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use tokio::time::Instant;

use super::elsewhere::{KEPT_FOR, Moment};
use super::flight::Flight;
use super::lease::Lease;
use super::sync::Mutex;
use crate::clock;
use crate::store::Change;

/// What is at work on a key.
pub(super) enum Work {
    Load(Arc<Flight>),
    Lease(Lease),
    /// Nothing any more: a load of it was kept elsewhere at that time.
    Kept(Instant),
}

/// All of it, by key.
pub(super) struct Works {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: ahash::RandomState,
    len: AtomicUsize,
    /// Beyond the highest database of which a key was worked on.
    databases: AtomicU16,
}

/// By database (as its tables are numbered) and key.
type Stripe = HashMap<u16, HashMap<Box<[u8]>, Work>>;

impl Default for Works {
    fn default() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: ahash::RandomState::new(),
            len: AtomicUsize::new(0),
            databases: AtomicU16::new(0),
        }
    }
}

impl Works {
    /// How many keys are worked on.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether a key was ever worked on.
    pub(super) fn is_used(&self) -> bool {
        self.databases.load(Ordering::Relaxed) > 0
    }

    /// Calls `with` with the work on a key. It may end it by taking it.
    pub(super) fn with<R>(
        &self,
        db: u16,
        key: &[u8],
        with: impl FnOnce(&mut Option<Work>) -> R,
    ) -> R {
        let mut stripe = self.stripe(key).lock();
        let removed = stripe.get_mut(&db).and_then(|keys| keys.remove_entry(key));
        let was_there = removed.is_some();
        let (kept, mut present) = removed.unzip();
        let result = with(&mut present);
        match (was_there, present.is_some()) {
            (false, true) => {
                self.databases.fetch_max(db + 1, Ordering::Relaxed);
                self.len.fetch_add(1, Ordering::Relaxed)
            }
            (true, false) => self.len.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => 0,
        };
        if let Some(present) = present {
            let key = kept.unwrap_or_else(|| key.into());
            stripe.entry(db).or_default().insert(key, present);
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
                (Some(Work::Kept(_)), _) => true,
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
                    Work::Kept(_) => true,
                };
                if !stays {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                }
                stays
            });
        }
    }

    /// As [`Self::changed`], of a key in all databases. Returns how many of these there may be.
    ///
    /// Who waits for a lease looks again once the change has happened.
    pub(super) fn changed_everywhere(&self, key: &[u8], moment: Moment) -> u16 {
        let databases = self.databases.load(Ordering::Relaxed);
        for db in 0..databases {
            if self.len() == 0 {
                break;
            }
            self.with(db, key, |work| {
                let stays = match work {
                    Some(Work::Load(flight)) if moment == Moment::Told && flight.is_kept() => true,
                    Some(Work::Load(flight)) => {
                        flight.void();
                        false
                    }
                    Some(Work::Lease(_)) if moment == Moment::Begins => true,
                    // It may be that the value expired which its holder is to replace.
                    Some(Work::Lease(lease)) if moment == Moment::Told && lease.is_early() => {
                        lease.tell_all();
                        true
                    }
                    Some(Work::Lease(lease)) => {
                        lease.tell_all();
                        false
                    }
                    Some(Work::Kept(_)) | None => true,
                };
                if !stays {
                    *work = None;
                }
            });
        }
        databases
    }

    /// All keys were changed.
    pub(super) fn void_all(&self) {
        let now = clock::now();
        for db in 0..self.databases.load(Ordering::Relaxed) {
            self.all_changed(db, now);
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
                        Work::Kept(at) => now >= *at + KEPT_FOR,
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
