//! Loads from origins: how one begins, and what becomes of what it brings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::counts::Count;
use super::elsewhere::Brought;
use super::flight::{Flight, Outcome};
use super::reads::WORKS_MAX;
use super::works::Work;
use super::{Active, Policy, millis};
use crate::clock;
use crate::keyspace::{NotStored, Place, View};
use crate::origin::{Call, Failure, Found};
use crate::store::{Loaded, Write};

/// Why a load begins behind a read that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    /// The value will expire soon.
    Early,
    /// It has expired.
    Stale,
    /// A client asks for it.
    Asked,
}

/// A load on its way, and where what it brings belongs. Lands in any case: a panic, a runtime that
/// is shut down and a task that is dropped are failures.
struct Journey {
    policy: Arc<Policy>,
    active: Arc<Active>,
    flight: Arc<Flight>,
    db: u16,
    key: Box<[u8]>,
    has_landed: bool,
    /// Who keeps the value, if that is not our own store.
    keeper: Option<Keeper>,
    _refresh: Option<OwnedSemaphorePermit>,
}

/// Who keeps what a load brings, if that is not our own store.
pub(super) struct Keeper {
    pub(super) brought: oneshot::Sender<Brought>,
    /// Where others may be loading the same value, the load begins when this says so.
    pub(super) permit: Option<oneshot::Receiver<Permit>>,
}

/// What becomes of a load that others may be doing already.
#[derive(Debug)]
pub enum Permit {
    /// It begins.
    Load,
    /// Somebody else has stored the value.
    Found(Bytes),
}

impl Policy {
    /// The load of a key that is under way, or one that begins now; and whether it was under way.
    /// None, if too many are.
    ///
    /// The shard of the key is locked. A lease of it ends: who waits for that is told to look.
    pub(super) fn load(
        self: &Arc<Self>,
        view: &mut View<'_>,
        place: Place<'_>,
        active: &Arc<Active>,
    ) -> Option<(Arc<Flight>, bool)> {
        let db = view.locked().physical(place.db);
        let works = &self.shared.works;
        works.with(db, place.key.bytes, |work| {
            self.void_if_outdated(work, db, place.key.bytes, active);
            if let Some(Work::Load(flight)) = work {
                return Some((Arc::clone(flight), true));
            }
            if works.len() >= WORKS_MAX {
                return None;
            }
            let flight = self.depart((place.db, place.key.bytes), active, None, None)?;
            active.counts.loads.add();
            *work = Some(Work::Load(Arc::clone(&flight)));
            Some((flight, false))
        })
    }

    /// Sees to it that a load is under way behind a read that is served, if there is room for one.
    ///
    /// The shard of the key is locked.
    pub(super) fn refresh(
        self: &Arc<Self>,
        view: &mut View<'_>,
        place: Place<'_>,
        active: &Arc<Active>,
        why: Refresh,
    ) -> bool {
        let db = view.locked().physical(place.db);
        self.shared.works.with(db, place.key.bytes, |work| {
            self.void_if_outdated(work, db, place.key.bytes, active);
            match work {
                // Who has the lease was to see to what is asked for here.
                Some(Work::Lease(lease)) if why == Refresh::Asked => lease.tell_all(),
                Some(_) => return false,
                None => {}
            }
            let Ok(permit) = Arc::clone(&active.refreshes).try_acquire_owned() else {
                active.counts.refreshes_put_off.add();
                return false;
            };
            let from = (place.db, place.key.bytes);
            let Some(flight) = self.depart(from, active, None, Some(permit)) else {
                return false;
            };
            match why {
                Refresh::Early => active.counts.early_refreshes.add(),
                Refresh::Stale => active.counts.stale_refreshes.add(),
                Refresh::Asked => active.counts.asked_refreshes.add(),
            }
            *work = Some(Work::Load(flight));
            true
        })
    }

    /// Nobody joins a load any more whose value will be refused, as a tag of its key was
    /// invalidated since it began.
    fn void_if_outdated(&self, work: &mut Option<Work>, db: u16, key: &[u8], active: &Active) {
        if let Some(Work::Load(flight)) = work
            && active.is_outdated(self.store.tags(), (db, key), flight.since)
        {
            flight.void();
            *work = None;
        }
    }

    /// A load that begins now. Its value goes to the keeper, or else into our own store.
    pub(super) fn depart(
        self: &Arc<Self>,
        (db, key): (u16, &[u8]),
        active: &Arc<Active>,
        keeper: Option<Keeper>,
        refresh: Option<OwnedSemaphorePermit>,
    ) -> Option<Arc<Flight>> {
        // There is a runtime once there is an origin, and it ends with the last who could begin
        // a load on it: so none is dropped here, under the lock of its key.
        let runtime = self.runtime.get()?;
        let gone = self.shared.gone.load(Ordering::Acquire);
        let flight = Arc::new(Flight::new(self.store.tags().now(), gone));
        let journey = Journey {
            policy: Arc::clone(self),
            active: Arc::clone(active),
            flight: Arc::clone(&flight),
            db,
            key: key.into(),
            has_landed: false,
            keeper,
            _refresh: refresh,
        };
        runtime.spawn(journey.run());
        Some(flight)
    }
}

impl Journey {
    async fn run(mut self) {
        let Some(origin) = self.active.rule.origin.clone() else {
            return;
        };
        let began = clock::now();
        // Who waits gives up at the timeout; what comes later is still worth keeping.
        let deadline = began + self.active.rule.spec.timeout * BACKGROUND_FACTOR;
        let permit = self.keeper.as_mut().and_then(|keeper| keeper.permit.take());
        if let Some(permit) = permit {
            match timeout_at(deadline, permit).await {
                Ok(Ok(Permit::Load)) => {}
                Ok(Ok(Permit::Found(value))) => return self.leave(Outcome::Value(value)),
                Ok(Err(_)) | Err(_) => {
                    let why = self.told("no other front has stored it in time");
                    return self.leave(Outcome::Failed(why));
                }
            }
        }
        let loaded = {
            let captures = self.active.rule.captures(&self.key);
            let call = Call {
                key: &self.key,
                captures: &captures,
                deadline,
            };
            origin.load(&call).await
        };
        self.land(loaded, began);
    }

    /// It ends without a call of the origin.
    fn leave(&mut self, outcome: Outcome) {
        self.has_landed = true;
        self.policy.shared.works.with(self.db, &self.key, |work| {
            if matches!(work, Some(Work::Load(flight)) if Arc::ptr_eq(flight, &self.flight)) {
                *work = None;
            }
        });
        self.flight.land(outcome);
    }

    fn land(&mut self, loaded: Result<Option<Found>, Failure>, began: Instant) {
        self.has_landed = true;
        let counts = &self.active.counts;
        let (count, mut outcome) = match &loaded {
            Ok(Some(found)) => (&counts.loaded, Outcome::Value(found.value.clone())),
            Ok(None) => (&counts.absent, Outcome::Absent),
            Err(failure) => (&counts.failed, Outcome::Failed(self.told(&failure.text))),
        };
        count.add();
        let delta = clock::now().duration_since(began);
        if loaded.is_ok() {
            counts.delta.note(millis(delta));
        }
        if let Some(Keeper { brought, .. }) = self.keeper.take() {
            if let Some(lost) = self.hand_over(loaded.ok().flatten().as_ref(), &outcome, brought) {
                lost.add();
            }
            return self.flight.land(outcome);
        }
        let lost = self.keep(loaded.ok().flatten().as_ref(), &outcome, delta);
        if let Some(lost) = lost {
            lost.add();
            // One that is void may be outdated as well.
            let overtaken = [&raw const counts.outdated, &raw const counts.void];
            if overtaken.contains(&std::ptr::from_ref(lost))
                && let Outcome::Value(value) = outcome
            {
                outcome = Outcome::Outdated(value);
            }
        }
        self.flight.land(outcome);
    }

    /// The text of a failure, as clients are told.
    fn told(&self, why: &str) -> Arc<str> {
        let origin = self.active.rule.spec.origin.as_deref().unwrap_or_default();
        format!("ORIGIN {origin}: {why}").into()
    }

    /// Stores what came, unless the key was changed meanwhile. What was lost, if something was.
    fn keep(&self, found: Option<&Found>, outcome: &Outcome, delta: Duration) -> Option<&Count> {
        let counts = &self.active.counts;
        let store = &self.policy.store;
        let key = store.key(&self.key);
        let place = Place { db: self.db, key };
        let mut view = View::new(store.lock(key.hash), clock::unix_ms());
        let db = view.locked().physical(self.db);
        if self.flight.is_void() {
            return Some(&counts.void);
        }
        self.policy.shared.works.with(db, &self.key, |work| {
            *work = None;
        });
        match outcome {
            Outcome::Value(_) | Outcome::Outdated(_) => {
                let found = found?;
                let write = self.write(found, delta, view.now_ms())?;
                let tags = found.tags.iter().map(Vec::as_slice);
                match view.write_tagged(place, write, tags, Some(self.flight.since)) {
                    Ok(()) => None,
                    Err(NotStored::Outdated) => Some(&counts.outdated),
                    Err(NotStored::Full | NotStored::TooManyTags) => Some(&counts.not_stored),
                }
            }
            Outcome::Absent => {
                view.remove(place);
                let memory = &self.active.memory;
                memory.note_absent(db, &self.key, self.flight.since);
                None
            }
            Outcome::Failed(text) => {
                self.active.memory.note_failed(db, &self.key, text);
                None
            }
        }
    }

    /// Gives what came to who keeps it, unless the key was changed meanwhile. What was lost, if
    /// something was.
    fn hand_over(
        &self,
        found: Option<&Found>,
        outcome: &Outcome,
        keeper: oneshot::Sender<Brought>,
    ) -> Option<&Count> {
        let memory = &self.active.memory;
        let (db, key) = (self.db, &self.key);
        let write = found.and_then(|found| self.write(found, Duration::ZERO, 0));
        // A change that comes later finds what is noted here, and takes it back.
        let is_void = self.policy.shared.works.with(db, key, |work| {
            if self.flight.is_void() {
                return true;
            }
            match outcome {
                Outcome::Absent => memory.note_absent(db, key, self.flight.since),
                Outcome::Failed(text) => memory.note_failed(db, key, text),
                Outcome::Value(_) | Outcome::Outdated(_) => {}
            }
            if write.is_some() {
                self.flight.keep();
            } else if matches!(work, Some(Work::Load(flight)) if Arc::ptr_eq(flight, &self.flight))
            {
                *work = None;
            }
            false
        });
        if is_void {
            return Some(&self.active.counts.void);
        }
        let (found, write) = (found?, write?);
        let ttl_ms = write.expires_at.map(std::num::NonZeroU64::get);
        let kept = (found.value.clone(), ttl_ms);
        let mut tags = found.tags.clone();
        tags.extend(self.active.rule.tags_of(key));
        let brought = Brought::new(&self.policy, &self.flight, (db, key), kept, tags);
        // Where nobody is there to keep it any more, the load is over here.
        drop(keeper.send(brought));
        None
    }

    /// What is to be stored, if it is to be.
    fn write<'f>(&self, found: &'f Found, delta: Duration, now_ms: u64) -> Option<Write<'f>> {
        let spec = &self.active.rule.spec;
        let delta_ms = millis(delta).max(1);
        let stale_ms = millis(self.active.stale_for());
        let Some(ttl) = found.ttl.or(spec.ttl) else {
            return Some(Write {
                value: &found.value,
                expires_at: None,
                loaded: Some(Loaded::new(0, delta_ms, stale_ms)),
                ..Write::default()
            });
        };
        let shorter = 1.0 - spec.jitter * rand::random::<f64>();
        let ttl_ms = millis(ttl.min(TTL_MAX).mul_f64(shorter));
        if ttl_ms == 0 {
            return None;
        }
        Some(Write {
            value: &found.value,
            expires_at: now_ms
                .checked_add(ttl_ms)
                .and_then(std::num::NonZeroU64::new),
            loaded: Some(Loaded::new(ttl_ms, delta_ms, stale_ms)),
            ..Write::default()
        })
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        if !self.has_landed {
            let failure = Failure::crashed();
            self.land(Err(failure), clock::now());
        }
    }
}

/// What an origin says may be more than a clock can count to: 100 years.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// A load may take so much longer than those who wait for it have.
const BACKGROUND_FACTOR: u32 = 4;
