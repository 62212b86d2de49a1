//! What a read comes to, by the rule of its key.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lease::{Asked, ClientId, Lease, Terms};
use super::loads::Refresh;
use super::memory::Recalled;
use super::wait::Wait;
use super::works::Work;
use super::{Active, Policy, Table, millis, xfetch};
use crate::clock;
use crate::keyspace::{Place, View};
use crate::store::Stamp;

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
    /// When it was given, to be compared with when tags were invalidated.
    since: Stamp,
}

/// A value that was made under a lease.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// How long that took (Δ).
    pub took: Duration,
    /// When it began.
    pub since: Stamp,
}

/// Which stale value may be served.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
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
            if self.recall(active, db, place.key.bytes).is_none() {
                self.refresh(view, place, active, Refresh::Early);
            }
            return Hit::Serve;
        }
        if active.has_lease() && self.lease_early(view, place, active.terms(), asker) {
            active.counts.early_leases.add();
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
                self.miss_of_origin(view, place, active)
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
    ) -> Miss {
        let (counts, spec) = (&active.counts, &active.rule.spec);
        let db = view.locked().physical(place.db);
        let window = active.window(view, place);
        let recalled = self.recall(active, db, place.key.bytes);
        match (recalled, window) {
            (Some(Recalled::Absent(_)), _) => {
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
        let Some((flight, is_joined)) = self.load(view, place, active) else {
            if window.is_some() {
                counts.stale_if_error.add();
                return Miss::Stale;
            }
            return Miss::Failed(Arc::from(TOO_MANY));
        };
        if is_joined {
            counts.coalesced.add();
        }
        let soft = spec.soft_timeout;
        let patience = if window.is_some() && !soft.is_zero() {
            soft.min(spec.timeout)
        } else {
            spec.timeout
        };
        let until = (self.store.tags().now(), clock::now() + patience);
        let place = (place.db, place.key.bytes);
        Miss::Wait(Wait::for_load(place, active, &flight, until))
    }

    /// What is remembered of a key without a value, unless a tag of it was invalidated since.
    pub(super) fn recall(&self, active: &Active, db: u16, key: &[u8]) -> Option<Recalled> {
        let recalled = active.memory.recall(db, key)?;
        let tags = self.store.tags();
        let is_outdated = matches!(recalled, Recalled::Absent(since)
            if active.is_outdated(tags, (db, key), since));
        (!is_outdated).then_some(recalled)
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
        self: &Arc<Self>,
        view: &mut View<'_>,
        place: Place<'_>,
        active: &Arc<Active>,
        asker: &mut Asker<'_>,
    ) -> Miss {
        let now = clock::now();
        let db = view.locked().physical(place.db);
        let counts = &active.counts;
        let asked = self.shared.works.with(db, place.key.bytes, |work| {
            if let Some(Work::Lease(lease)) = work {
                let has_stale = active.window(view, place).is_some();
                let asked = if has_stale {
                    lease.ask_beside_stale(asker.client, now)
                } else {
                    lease.ask(asker.client, now)
                };
                return match asked {
                    Asked::Held if has_stale => Answer::Stale,
                    Asked::Held => Answer::Held,
                    Asked::Nil => Answer::Nil,
                    Asked::Leased => Answer::Leased,
                };
            }
            if work.is_some() || self.shared.works.len() >= WORKS_MAX || asker.leases.is_full(now) {
                return Answer::Nil;
            }
            *work = Some(Work::Lease(Lease::new(asker.client, now, active.terms())));
            Answer::Leased
        });
        match asked {
            Answer::Nil => Miss::Nil,
            Answer::Leased => {
                counts.leases.add();
                asker.leases.add(
                    (db, place.key.bytes),
                    now + active.rule.spec.lease,
                    self.store.tags().now(),
                );
                Miss::Nil
            }
            Answer::Stale => {
                counts.stale_while_revalidate.add();
                Miss::Stale
            }
            Answer::Held => self.wait_for_lease((place, db), active, asker),
        }
    }

    /// Another client has the lease of a key whose shard is locked.
    fn wait_for_lease(
        self: &Arc<Self>,
        (place, db): (Place<'_>, u16),
        active: &Arc<Active>,
        asker: &mut Asker<'_>,
    ) -> Miss {
        let client = asker.client;
        let may_wait = asker.may_wait && !self.is_holder(asker);
        let works = &self.shared.works;
        let waiting = works.with(db, place.key.bytes, |work| match work {
            Some(Work::Lease(lease)) if may_wait => Some(lease.wait(client)),
            Some(_) | None => None,
        });
        let Some(waiting) = waiting else {
            active.counts.lease_nils.add();
            return Miss::Nil;
        };
        active.counts.lease_waits.add();
        Miss::Wait(Wait::for_lease(
            (place, db),
            (self, active),
            client,
            waiting,
        ))
    }

    /// Gives one reader of a value that is still fresh the lease of the next one.
    pub(super) fn lease_early(
        &self,
        view: &mut View<'_>,
        place: Place<'_>,
        terms: Terms,
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
            if !is_over || asker.leases.is_full(now) {
                return false;
            }
            *work = Some(Work::Lease(Lease::early(asker.client, now, terms)));
            true
        });
        if is_leased {
            let since = self.store.tags().now();
            asker
                .leases
                .add((db, place.key.bytes), now + terms.lease, since);
        }
        is_leased
    }

    /// Whether a client holds a lease: then others may wait for it, and it must not wait.
    ///
    /// Those that have ended are forgotten until one is found that has not.
    fn is_holder(&self, asker: &mut Asker<'_>) -> bool {
        let (now, works) = (clock::now(), &self.shared.works);
        while let Some(held) = asker.leases.held.last() {
            let is_held = |work: &mut Option<Work>| match work {
                Some(Work::Lease(lease)) => lease.holder() == Some(asker.client),
                Some(Work::Load(_) | Work::Kept(_)) | None => false,
            };
            if now < held.until && works.with(held.db, &held.key, is_held) {
                return true;
            }
            asker.leases.held.pop();
        }
        false
    }

    /// How a client made the value that it is about to store, if it has the lease of the key.
    ///
    /// The shard of the key is locked.
    pub fn made_in(
        &self,
        view: &mut View<'_>,
        place: Place<'_>,
        asker: &mut Asker<'_>,
    ) -> Option<Made> {
        if self.shared.works.len() == 0 || asker.leases.held.is_empty() {
            return None;
        }
        let db = view.locked().physical(place.db);
        let held = asker.leases.remove(db, place.key.bytes);
        let works = &self.shared.works;
        let took = works.with(db, place.key.bytes, |work| match work {
            Some(Work::Lease(lease)) => lease.held_for(asker.client, clock::now()),
            Some(Work::Load(_) | Work::Kept(_)) | None => None,
        })?;
        if let Some(active) = self.shared.table.read().find(place.key.bytes) {
            active.counts.leases_kept.add();
            active.counts.delta.note(millis(took));
        }
        let since = held?.since;
        Some(Made { took, since })
    }

    /// Whether a client that misses this key would get its lease.
    ///
    /// The shard of the key is locked.
    pub fn has_free_lease(&self, table: &Table, view: &mut View<'_>, place: Place<'_>) -> bool {
        let db = view.locked().physical(place.db);
        let is_free = |work: &mut Option<Work>| match work {
            None => true,
            Some(Work::Lease(lease)) => lease.is_free(clock::now()),
            Some(Work::Load(_) | Work::Kept(_)) => false,
        };
        let active = table.find(place.key.bytes);
        active.is_some_and(|active| active.has_lease())
            && self.shared.works.with(db, place.key.bytes, is_free)
    }

    /// As [`Self::miss`], for a read whose turn has not come: only its load begins now, if that is
    /// what it will need.
    pub fn ahead(
        self: &Arc<Self>,
        table: &Table,
        view: &mut View<'_>,
        place: Place<'_>,
    ) -> Option<Wait> {
        let active = table.find(place.key.bytes)?;
        active.rule.origin.as_ref()?;
        let db = view.locked().physical(place.db);
        if self.recall(active, db, place.key.bytes).is_some()
            || active.window(view, place) == Some(Window::WhileRevalidate)
        {
            // It is answered without a load, and counted then.
            return None;
        }
        match self.miss_of_origin(view, place, active) {
            Miss::Wait(wait) => Some(wait),
            Miss::Nil | Miss::Stale | Miss::Failed(_) => None,
        }
    }

    /// A client leaves: others inherit its leases.
    pub fn leave(&self, client: ClientId, leases: &mut Leases) {
        for Held { db, key, .. } in leases.held.drain(..) {
            self.pass_on(db, &key, client);
        }
    }

    /// Lets another client inherit the lease of a key, if this one has it.
    pub(super) fn pass_on(&self, db: u16, key: &[u8], client: ClientId) {
        let key = self.store.key(key);
        let _locked = self.store.lock(key.hash);
        self.shared.works.with(db, key.bytes, |work| {
            if let Some(Work::Lease(lease)) = work
                && lease.holder() == Some(client)
                && !lease.hand_over(clock::now())
            {
                *work = None;
            }
        });
    }
}

/// What a lease answers.
enum Answer {
    Nil,
    Leased,
    Stale,
    Held,
}

impl Active {
    /// In which window the value that expired is, if it is in any.
    pub(super) fn window(&self, view: &mut View<'_>, place: Place<'_>) -> Option<Window> {
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

    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        if self.held.len() >= LEASES_MAX {
            self.held.retain(|held| now < held.until);
        }
        self.held.len() >= LEASES_MAX
    }

    pub(super) fn add(&mut self, (db, key): (u16, &[u8]), until: Instant, since: Stamp) {
        self.remove(db, key);
        if self.held.len() == LEASES_MAX {
            self.held.remove(0);
        }
        self.held.push(Held {
            db,
            key: key.into(),
            until,
            since,
        });
    }

    fn remove(&mut self, db: u16, key: &[u8]) -> Option<Held> {
        let is_it = |held: &Held| held.db == db && *held.key == *key;
        let at = self.held.iter().position(is_it)?;
        Some(self.held.swap_remove(at))
    }
}

/// Leases that one client may hold; beyond that it gets nil as without a rule.
const LEASES_MAX: usize = 128;
/// Keys that may be worked on at a time; beyond that no more leases are given.
pub(super) const WORKS_MAX: usize = 65_536;
/// What a reader is told whose load would be one too many.
pub(super) const TOO_MANY: &str = "ORIGIN too many keys are being loaded";
