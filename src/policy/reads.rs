//! What a read comes to, by the rule of its key.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lease::{Asked, ClientId, Lease};
use super::loads::Refresh;
use super::memory::Recalled;
use super::wait::Wait;
use super::works::Work;
use super::{Active, Policy, Table, millis, xfetch};
use crate::clock;
use crate::keyspace::{Place, View};

/// Who reads.
pub struct Asker<'a> {
    /// The connection.
    pub client: ClientId,
    /// The leases that it holds.
    pub leases: &'a mut Leases,
    /// Whether it may be made to wait for another client.
    pub may_wait: bool,
}

/// What a read that found a value comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// The value.
    Serve,
    /// Nil, although there is a value: this client is to make the next one, while all others get
    /// the present one.
    Nil,
}

/// What a read that found no value comes to.
#[derive(Debug)]
pub enum Miss {
    /// Nil.
    Nil,
    /// What is left of the value that expired.
    Stale,
    /// An error, of which this is the text with its code.
    Failed(Arc<str>),
    /// To be asked again when this is over.
    Wait(Wait),
}

/// The leases that a client holds, so that others get them when it leaves.
#[derive(Default)]
pub struct Leases {
    held: Vec<Held>,
}

struct Held {
    db: u16,
    key: Box<[u8]>,
    /// It is none of ours any more, if it ended without a value.
    until: Instant,
}

/// Which stale value may be served.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Window {
    /// At once, while the next one is loaded.
    WhileRevalidate,
    /// Once a load has failed or takes too long.
    IfError,
}

impl Policy {
    /// A read found a value that a rule may be about.
    pub fn hit(
        self: &Arc<Self>,
        table: &Table,
        view: &mut View<'_>,
        place: Place<'_>,
        asker: &mut Asker<'_>,
    ) -> Hit {
        let now_ms = view.now_ms();
        let Some((left_ms, loaded)) = view.peek(place).and_then(|entry| {
            let left_ms = entry.expires_at()?.get().saturating_sub(now_ms);
            Some((left_ms, entry.loaded()?))
        }) else {
            return Hit::Serve;
        };
        let Some(active) = table.find(place.key.bytes) else {
            return Hit::Serve;
        };
        if !xfetch::is_due(left_ms, loaded, active.rule.spec.beta, rand::random) {
            return Hit::Serve;
        }
        if active.rule.origin.is_some() {
            let db = view.locked().physical(place.db);
            // An origin that failed is left alone for a while.
            if active.memory.recall(db, place.key.bytes).is_none() {
                self.refresh(view, place, active, Refresh::Early);
            }
            return Hit::Serve;
        }
        if active.has_lease() && self.lease_early(view, place, active, asker) {
            return Hit::Nil;
        }
        Hit::Serve
    }

    /// A read found no value.
    pub fn miss(
        self: &Arc<Self>,
        table: &Table,
        view: &mut View<'_>,
        place: Place<'_>,
        asker: &mut Asker<'_>,
    ) -> Miss {
        match table.find(place.key.bytes) {
            Some(active) if active.rule.origin.is_some() => {
                self.miss_of_origin(view, place, active, asker)
            }
            Some(active) if active.has_lease() => self.miss_of_lease(view, place, active, asker),
            Some(_) | None => Miss::Nil,
        }
    }

    fn miss_of_origin(
        self: &Arc<Self>,
        view: &mut View<'_>,
        place: Place<'_>,
        active: &Arc<Active>,
        asker: &Asker<'_>,
    ) -> Miss {
        let (counts, spec) = (&active.counts, &active.rule.spec);
        let db = view.locked().physical(place.db);
        let window = active.window(view, place);
        let recalled = active.memory.recall(db, place.key.bytes);
        match (recalled, window) {
            (Some(Recalled::Absent), _) => {
                counts.negative_hits.add();
                return Miss::Nil;
            }
            // A failure is remembered so that a dead origin is not asked by every read.
            (Some(Recalled::Failed(_)), Some(_)) => {
                counts.stale_if_error.add();
                return Miss::Stale;
            }
            (Some(Recalled::Failed(text)), None) => {
                counts.error_hits.add();
                return Miss::Failed(text);
            }
            (None, Some(Window::WhileRevalidate)) => {
                self.refresh(view, place, active, Refresh::Stale);
                counts.stale_while_revalidate.add();
                return Miss::Stale;
            }
            (None, Some(Window::IfError) | None) => {}
        }
        if !asker.may_wait {
            return Miss::Nil;
        }
        let (flight, is_joined) = self.load(view, place, active);
        if is_joined {
            counts.coalesced.add();
        }
        let soft = spec.soft_timeout;
        let patience = if window.is_some() && !soft.is_zero() {
            soft.min(spec.timeout)
        } else {
            spec.timeout
        };
        Miss::Wait(Wait::for_load(
            (place.db, place.key.bytes),
            active,
            &flight,
            clock::now() + patience,
        ))
    }

    /// A read waited, and its load failed or took too long: what there is in place of a value.
    pub fn stale_if_error(&self, table: &Table, view: &mut View<'_>, place: Place<'_>) -> bool {
        let Some(active) = table.find(place.key.bytes) else {
            return false;
        };
        let is_there = active.window(view, place).is_some();
        if is_there {
            active.counts.stale_if_error.add();
        }
        is_there
    }

    fn miss_of_lease(
        &self,
        view: &mut View<'_>,
        place: Place<'_>,
        active: &Arc<Active>,
        asker: &mut Asker<'_>,
    ) -> Miss {
        let now = clock::now();
        let db = view.locked().physical(place.db);
        let is_holder = self.is_holder(asker, now);
        let counts = &active.counts;
        let asked = self.shared.works.with(db, place.key.bytes, |work| {
            if let Some(Work::Lease(lease)) = work {
                return match lease.ask(asker.client, now) {
                    Asked::Held if is_holder || !asker.may_wait => Answer::CannotWait,
                    Asked::Held => Answer::Wait(lease.wait(asker.client)),
                    Asked::Nil => Answer::Nil,
                    Asked::Leased => Answer::Leased,
                };
            }
            if work.is_some() || self.shared.works.len() >= WORKS_MAX || asker.leases.is_full() {
                return Answer::Nil;
            }
            *work = Some(Work::Lease(Lease::new(asker.client, now, active.terms())));
            Answer::Leased
        });
        match asked {
            Answer::Nil => Miss::Nil,
            Answer::Leased => {
                counts.leases.add();
                asker
                    .leases
                    .add(db, place.key.bytes, now + active.rule.spec.lease);
                Miss::Nil
            }
            Answer::Wait(_) | Answer::CannotWait if active.window(view, place).is_some() => {
                counts.stale_while_revalidate.add();
                Miss::Stale
            }
            Answer::CannotWait => {
                counts.lease_nils.add();
                Miss::Nil
            }
            Answer::Wait((told, until)) => {
                counts.lease_waits.add();
                Miss::Wait(Wait::for_lease((place, db), active, told, until))
            }
        }
    }

    /// Gives one reader of a value that is still fresh the lease of the next one.
    fn lease_early(
        &self,
        view: &mut View<'_>,
        place: Place<'_>,
        active: &Arc<Active>,
        asker: &mut Asker<'_>,
    ) -> bool {
        let now = clock::now();
        let db = view.locked().physical(place.db);
        let works = &self.shared.works;
        let is_leased = works.with(db, place.key.bytes, |work| {
            let is_over = match work {
                Some(Work::Lease(lease)) => lease.is_over(now),
                Some(Work::Load(_) | Work::Kept(_)) => false,
                None => works.len() < WORKS_MAX,
            };
            if !is_over || asker.leases.is_full() {
                return false;
            }
            *work = Some(Work::Lease(Lease::early(asker.client, now, active.terms())));
            true
        });
        if is_leased {
            active.counts.early_leases.add();
            asker
                .leases
                .add(db, place.key.bytes, now + active.rule.spec.lease);
        }
        is_leased
    }

    /// Whether a client holds a lease: then others may wait for it, and it must not wait.
    fn is_holder(&self, asker: &mut Asker<'_>, now: Instant) -> bool {
        let client = asker.client;
        asker.leases.held.retain(|held| {
            now < held.until
                && self.shared.works.with(held.db, &held.key, |work| {
                    matches!(work, Some(Work::Lease(lease)) if lease.holder() == Some(client))
                })
        });
        !asker.leases.held.is_empty()
    }

    /// How long a client took to make the value that it is about to store, if it has the lease of
    /// the key.
    ///
    /// The shard of the key is locked.
    pub fn made_in(
        &self,
        view: &mut View<'_>,
        place: Place<'_>,
        asker: &mut Asker<'_>,
    ) -> Option<Duration> {
        if self.shared.works.len() == 0 || asker.leases.held.is_empty() {
            return None;
        }
        let db = view.locked().physical(place.db);
        asker.leases.remove(db, place.key.bytes);
        let works = &self.shared.works;
        let took = works.with(db, place.key.bytes, |work| match work {
            Some(Work::Lease(lease)) => lease.held_for(asker.client, clock::now()),
            Some(Work::Load(_) | Work::Kept(_)) | None => None,
        })?;
        if let Some(active) = self.shared.table.read().find(place.key.bytes) {
            active.counts.leases_kept.add();
            active.counts.delta.note(millis(took));
        }
        Some(took)
    }

    /// Whether a client that misses this key would get its lease.
    ///
    /// The shard of the key is locked.
    pub fn has_free_lease(&self, table: &Table, view: &mut View<'_>, place: Place<'_>) -> bool {
        let db = view.locked().physical(place.db);
        table
            .find(place.key.bytes)
            .is_some_and(|active| active.has_lease())
            && self
                .shared
                .works
                .with(db, place.key.bytes, |work| work.is_none())
    }

    /// As [`Self::miss`], for a read whose turn has not come: only its load begins now.
    pub fn ahead(
        self: &Arc<Self>,
        table: &Table,
        view: &mut View<'_>,
        place: Place<'_>,
        asker: &mut Asker<'_>,
    ) -> Option<Wait> {
        let active = table.find(place.key.bytes)?;
        active.rule.origin.as_ref()?;
        match self.miss_of_origin(view, place, active, asker) {
            Miss::Wait(wait) => Some(wait),
            Miss::Nil | Miss::Stale | Miss::Failed(_) => None,
        }
    }

    /// A client leaves: others inherit its leases.
    pub fn leave(&self, client: ClientId, leases: &mut Leases) {
        let now = clock::now();
        for Held { db, key, .. } in leases.held.drain(..) {
            let key = self.store.key(&key);
            let _locked = self.store.lock(key.hash);
            self.shared.works.with(db, key.bytes, |work| {
                if let Some(Work::Lease(lease)) = work
                    && lease.holder() == Some(client)
                    && !lease.hand_over(now)
                {
                    *work = None;
                }
            });
        }
    }
}

/// What a lease answers.
enum Answer {
    Nil,
    Leased,
    CannotWait,
    Wait((tokio::sync::oneshot::Receiver<super::lease::Told>, Instant)),
}

impl Active {
    /// In which window the value that expired is, if it is in any.
    fn window(&self, view: &mut View<'_>, place: Place<'_>) -> Option<Window> {
        if self.stale_for().is_zero() {
            return None;
        }
        let now_ms = view.now_ms();
        let expired_at = view.peek_stale(place)?.expires_at()?;
        let since_ms = now_ms.saturating_sub(expired_at.get());
        let spec = &self.rule.spec;
        if since_ms < millis(spec.stale_while_revalidate) {
            Some(Window::WhileRevalidate)
        } else if since_ms < millis(spec.stale_if_error) {
            Some(Window::IfError)
        } else {
            None
        }
    }
}

impl Leases {
    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn is_full(&self) -> bool {
        self.held.len() >= LEASES_MAX
    }

    pub(super) fn add(&mut self, db: u16, key: &[u8], until: Instant) {
        self.remove(db, key);
        if self.held.len() == LEASES_MAX {
            self.held.remove(0);
        }
        self.held.push(Held {
            db,
            key: key.into(),
            until,
        });
    }

    fn remove(&mut self, db: u16, key: &[u8]) {
        self.held.retain(|held| held.db != db || *held.key != *key);
    }
}

/// Leases that one client may hold; beyond that it gets nil as without a rule.
const LEASES_MAX: usize = 128;
/// Keys that may be worked on at a time; beyond that no more leases are given.
const WORKS_MAX: usize = 65_536;
