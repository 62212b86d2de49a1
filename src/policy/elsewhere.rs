//! Loads of values that are kept elsewhere: by the Redis behind a front.
//!
//! The register is the same, and so is the rule that a load whose key was changed is void; but who
//! reads and who changes a key holds no lock of a shard, so the lock of the register itself orders
//! them. A load stays registered until its value is kept, and is remembered for a while then: a
//! read that began before that, and found nothing, is to look again rather than to load.

mod leases;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) use leases::Roles;
pub use leases::Turn;

use super::flight::Flight;
use super::lease::ClientId;
use super::loads::{Keeper, Permit};
use super::memory::Recalled;
use super::reads::{TOO_MANY, WORKS_MAX};
use super::works::Work;
use super::{Active, Policy, Wait, millis, xfetch};
use crate::clock;
use crate::store::Loaded;

/// What a read that found nothing elsewhere comes to.
pub enum Elsewhere {
    /// Nothing.
    Nil,
    /// An error, of which this is the text with its code.
    Failed(Arc<str>),
    /// It has been stored since the read began: it is to be read again.
    Again,
    /// A load is waited for. Who began it also has to keep what it brings.
    Wait(Wait, Option<Keep>),
}

/// What is known of a change elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It is about to happen.
    Begins,
    /// It has happened.
    Ended,
    /// It has happened, and may be that a value was kept that was brought: any other value that is
    /// there by then is one that this did not replace.
    Told,
}

/// What is left to do for a load that was begun.
pub struct Keep {
    /// The database, as clients number it.
    pub db: u16,
    /// The key.
    pub key: Box<[u8]>,
    /// What the load brings, if it brings anything.
    pub brought: oneshot::Receiver<Brought>,
    /// To be told when the load may begin, where that is to be prepared.
    pub permit: Option<oneshot::Sender<Permit>>,
    /// Whether other fronts may be loading it already.
    pub is_shared: bool,
    /// Whether the value may have tags.
    pub has_tags: bool,
}

impl Keep {
    /// The two ends.
    fn new(active: &Active, (db, key): (u16, &[u8])) -> (Keeper, Self) {
        let (sender, brought) = oneshot::channel();
        let is_shared = active.rule.spec.coalesce_across;
        let has_tags = active.tags_values();
        let gate = (is_shared || has_tags).then(oneshot::channel);
        let (permit, permitted) = gate.unzip();
        let keeper = Keeper {
            brought: sender,
            permit: permitted,
        };
        let keep = Self {
            db,
            key: key.into(),
            brought,
            permit,
            is_shared,
            has_tags,
        };
        (keeper, keep)
    }
}

/// A value that was loaded, and is to be kept. No other load of its key begins before this is
/// dropped, unless the key is changed.
pub struct Brought {
    /// The database, as clients number it.
    pub db: u16,
    /// The key.
    pub key: Box<[u8]>,
    /// The value.
    pub value: Bytes,
    /// How long it is to live, in ms; none: without end.
    pub ttl_ms: Option<u64>,
    /// Its tags.
    pub tags: Vec<Vec<u8>>,
    flight: Arc<Flight>,
    policy: Arc<Policy>,
}

impl Brought {
    pub(super) fn new(
        policy: &Arc<Policy>,
        flight: &Arc<Flight>,
        (db, key): (u16, &[u8]),
        (value, ttl_ms): (Bytes, Option<u64>),
        tags: Vec<Vec<u8>>,
    ) -> Self {
        Self {
            db,
            key: key.into(),
            value,
            ttl_ms,
            tags,
            flight: Arc::clone(flight),
            policy: Arc::clone(policy),
        }
    }

    /// Whether the key was changed since the load began: then it must not be kept.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.flight.is_void()
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        let works = &self.policy.shared.works;
        works.with(self.db, &self.key, |work| {
            if matches!(work, Some(Work::Load(flight)) if Arc::ptr_eq(flight, &self.flight)) {
                // What is only remembered leaves room for loads.
                let has_room = works.len() < WORKS_MAX / 2;
                *work = has_room.then(|| Work::Kept(clock::now()));
            }
        });
    }
}

/// What a read comes to that is answered by a value near its end.
pub enum Ending {
    /// The value.
    Serve,
    /// The value; the next one is being loaded, and is to be kept in its place.
    Keep(Keep),
    /// Nil: this client is to make the next one, while all others get the present one.
    Nil,
}

impl Policy {
    /// A client's read found a value elsewhere that ends in so many ms.
    pub fn hit_elsewhere(
        self: &Arc<Self>,
        (db, key): (u16, &[u8]),
        left_ms: u32,
        client: ClientId,
    ) -> Ending {
        let table = self.table();
        let Some(active) = table.find(key) else {
            return Ending::Serve;
        };
        let spec = &active.rule.spec;
        let ttl_ms = spec.ttl.map_or_else(|| u64::from(left_ms) * 3, millis);
        let loaded = Loaded::new(ttl_ms, active.counts.delta.get(), 0);
        if !xfetch::is_due(u64::from(left_ms), loaded, spec.beta, rand::random) {
            return Ending::Serve;
        }
        if active.rule.origin.is_none() {
            let is_leased =
                active.has_lease() && self.lease_early_elsewhere(active, (db, key), client);
            return if is_leased {
                Ending::Nil
            } else {
                Ending::Serve
            };
        }
        // An origin that failed is left alone for a while.
        if self.recall(active, db, key).is_some() {
            return Ending::Serve;
        }
        self.shared.works.with(db, key, |work| {
            if matches!(work, Some(Work::Load(_) | Work::Lease(_))) {
                return Ending::Serve;
            }
            let Ok(permit) = Arc::clone(&active.refreshes).try_acquire_owned() else {
                active.counts.refreshes_put_off.add();
                return Ending::Serve;
            };
            let (keeper, keep) = Keep::new(active, (db, key));
            let Some(flight) = self.depart((db, key), active, Some(keeper), Some(permit)) else {
                return Ending::Serve;
            };
            active.counts.early_refreshes.add();
            *work = Some(Work::Load(flight));
            Ending::Keep(keep)
        })
    }

    /// A read that began at `began` found nothing under a key whose rule has an origin.
    pub fn elsewhere(
        self: &Arc<Self>,
        active: &Arc<Active>,
        (db, key): (u16, &[u8]),
        began: Instant,
    ) -> Elsewhere {
        let counts = &active.counts;
        match self.recall(active, db, key) {
            Some(Recalled::Absent(_)) => {
                counts.negative_hits.add();
                return Elsewhere::Nil;
            }
            Some(Recalled::Failed(text)) => {
                counts.error_hits.add();
                return Elsewhere::Failed(text);
            }
            None => {}
        }
        let deadline = clock::now() + active.rule.spec.timeout;
        let works = &self.shared.works;
        let gone = self.shared.gone.load(Ordering::Acquire);
        works.with(db, key, |work| {
            let (flight, keep) = match work {
                Some(Work::Kept(at)) if began <= *at => return Elsewhere::Again,
                Some(Work::Load(flight)) if !active.tags_values() || flight.gone == gone => {
                    counts.coalesced.add();
                    (Arc::clone(flight), None)
                }
                // What began before a tag was invalidated, perhaps one of its own, is for those
                // who came before.
                Some(Work::Load(_) | Work::Lease(_) | Work::Kept(_)) | None => {
                    let (keeper, keep) = Keep::new(active, (db, key));
                    let has_room = works.len() < WORKS_MAX;
                    let flight =
                        has_room.then(|| self.depart((db, key), active, Some(keeper), None));
                    let Some(flight) = flight.flatten() else {
                        return Elsewhere::Failed(Arc::from(TOO_MANY));
                    };
                    counts.loads.add();
                    *work = Some(Work::Load(Arc::clone(&flight)));
                    (flight, Some(keep))
                }
            };
            let until = (self.store.tags().now(), deadline);
            Elsewhere::Wait(Wait::for_load((db, key), active, &flight, until), keep)
        })
    }

    /// Whether something may be under way, or be remembered: also by rules that are gone.
    fn has_worked(&self) -> bool {
        self.shared.works.is_used()
    }

    /// A key was changed elsewhere, in whichever database.
    ///
    pub fn changed_elsewhere(&self, key: &[u8], moment: Moment) {
        if !self.has_worked() {
            return;
        }
        let databases = self.shared.works.changed_everywhere(key, moment);
        let table = self.shared.table.read();
        if let Some(active) = table.find(key)
            && active.rule.origin.is_some()
        {
            for db in 0..databases {
                active.memory.forget(db, key);
            }
        }
    }

    /// Tags were invalidated elsewhere; which is not told.
    pub fn tags_gone_elsewhere(&self) {
        self.shared.gone.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a write of this key goes to an origin first.
    #[must_use]
    pub fn writes_through(&self, key: &[u8]) -> bool {
        let table = self.shared.table.read();
        table.has_through()
            && table
                .find(key)
                .is_some_and(|active| active.writes_through())
    }

    /// The tags that a rule gives to the value of a key.
    #[must_use]
    pub fn tags_of(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let table = self.shared.table.read();
        let active = table.has_tags.then(|| table.find(key)).flatten();
        active.map_or_else(Vec::new, |active| active.rule.tags_of(key))
    }

    /// All keys were changed elsewhere.
    pub fn all_changed_elsewhere(&self) {
        if !self.has_worked() {
            return;
        }
        self.shared.works.void_all();
        for active in self.shared.table.read().rules() {
            active.memory.forget_all();
        }
    }
}

/// How long it is remembered that a value was kept: longer than any read is under way.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(2);
