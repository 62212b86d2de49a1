//! Reads of clients that cooperate: they are told what is there, and whether the next value is
//! theirs to make. Such a read never waits and never loads.
//!
//! Exactly one is told so at a time: it holds the lease of the key, for as long as the rule says,
//! or where no rule has leases, for twice as long as the value took to make.

use std::sync::Arc;
use std::time::Duration;

use super::lease::{Asked, Lease, Terms};
use super::loads::Refresh;
use super::reads::{Asker, WORKS_MAX, Window};
use super::works::Work;
use super::{Active, Policy, Table, xfetch};
use crate::clock;
use crate::keyspace::{Place, View};
use crate::store::Loaded;

/// What a client that cooperates is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What there is.
    pub offered: Offered,
    /// Whether it is to make the next value.
    pub is_to_refresh: bool,
}

/// What there is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// A value that is fresh.
    Fresh,
    /// One that has expired, and may still be served.
    Stale,
    /// None.
    Nothing,
}

impl Policy {
    /// Tells what there is for a key, and who is to see to the next value. `beta` stands in the
    /// place of the rule's.
    ///
    /// The shard of the key is locked.
    pub fn offer(
        &self,
        table: Option<&Table>,
        view: &mut View<'_>,
        place: Place<'_>,
        beta: Option<f64>,
        asker: &mut Asker<'_>,
    ) -> Offer {
        let active = table.and_then(|table| table.find(place.key.bytes));
        let now_ms = view.now_ms();
        let Some(entry) = view.peek(place) else {
            return match active {
                Some(active) => self.offer_stale(view, place, active, asker),
                None => Offer::nothing(),
            };
        };
        let left_ms = entry.expires_at().map(|at| at.get().saturating_sub(now_ms));
        let known = left_ms.zip(entry.loaded());
        let beta = beta.unwrap_or_else(|| active.map_or(BETA, |active| active.rule.spec.beta));
        let is_to_refresh = known.is_some_and(|(left_ms, loaded)| {
            xfetch::is_due(left_ms, loaded, beta, rand::random)
                && self.lease_to_replace(view, place, active, loaded, asker)
        });
        Offer {
            offered: Offered::Fresh,
            is_to_refresh,
        }
    }

    /// A key without a fresh value.
    fn offer_stale(
        &self,
        view: &mut View<'_>,
        place: Place<'_>,
        active: &Arc<Active>,
        asker: &mut Asker<'_>,
    ) -> Offer {
        let window = active.window(view, place);
        if active.has_lease() {
            let is_to_refresh = self.lease_missing(view, place, active, asker);
            let offered = match window {
                Some(_) => Offered::Stale,
                None => Offered::Nothing,
            };
            return Offer {
                offered,
                is_to_refresh,
            };
        }
        let db = view.locked().physical(place.db);
        let is_known_to_fail = active.has_failed(db, place.key.bytes);
        let is_served = match window {
            Some(Window::WhileRevalidate) => true,
            Some(Window::IfError) => is_known_to_fail,
            None => false,
        };
        let loaded = view.peek_stale(place).and_then(|entry| entry.loaded());
        let Some(loaded) = loaded.filter(|_| is_served) else {
            return Offer::nothing();
        };
        let is_to_refresh =
            !is_known_to_fail && self.lease_to_replace(view, place, Some(active), loaded, asker);
        Offer {
            offered: Offered::Stale,
            is_to_refresh,
        }
    }

    /// Gives one client the right to replace a value that is there.
    fn lease_to_replace(
        &self,
        view: &mut View<'_>,
        place: Place<'_>,
        active: Option<&Arc<Active>>,
        loaded: Loaded,
        asker: &mut Asker<'_>,
    ) -> bool {
        let terms = match active {
            Some(active) if active.has_lease() => active.terms(),
            Some(_) | None => Terms {
                lease: Duration::from_millis(u64::from(loaded.delta_ms))
                    .saturating_mul(2)
                    .clamp(HOLD_MIN, HOLD_MAX),
                open: Duration::ZERO,
            },
        };
        let is_leased = self.lease_early(view, place, terms, asker);
        if is_leased && let Some(active) = active {
            active.counts.early_leases.add();
        }
        is_leased
    }

    /// Gives one client the lease of a key without a value; who does not get it does not wait.
    fn lease_missing(
        &self,
        view: &mut View<'_>,
        place: Place<'_>,
        active: &Arc<Active>,
        asker: &mut Asker<'_>,
    ) -> bool {
        let now = clock::now();
        let db = view.locked().physical(place.db);
        let works = &self.shared.works;
        let is_leased = works.with(db, place.key.bytes, |work| match work {
            Some(Work::Lease(lease)) => matches!(lease.ask(asker.client, now), Asked::Leased),
            Some(Work::Load(_) | Work::Kept(_)) => false,
            None if works.len() >= WORKS_MAX || asker.leases.is_full(now) => false,
            None => {
                *work = Some(Work::Lease(Lease::new(asker.client, now, active.terms())));
                true
            }
        });
        if is_leased {
            active.counts.leases.add();
            let until = now + active.rule.spec.lease;
            let since = self.store.tags().now();
            asker.leases.add((db, place.key.bytes), until, since);
        }
        is_leased
    }

    /// Begins to load a key anew, behind everybody's back. Whether it began: not if its rule has no
    /// origin, if a load is under way already, or if there is no room for another refresh.
    ///
    /// The shard of the key is locked.
    pub fn reload(self: &Arc<Self>, table: &Table, view: &mut View<'_>, place: Place<'_>) -> bool {
        match table.find(place.key.bytes) {
            Some(active) if active.rule.origin.is_some() => {
                self.refresh(view, place, active, Refresh::Asked)
            }
            Some(_) | None => false,
        }
    }
}

impl Offer {
    fn nothing() -> Self {
        Self {
            offered: Offered::Nothing,
            is_to_refresh: false,
        }
    }
}

/// XFetch's β where no rule has another.
const BETA: f64 = 1.0;
/// The least and the longest time for which one client alone is to replace a value that no rule
/// has a lease for.
const HOLD_MIN: Duration = Duration::from_millis(100);
const HOLD_MAX: Duration = Duration::from_secs(60);
