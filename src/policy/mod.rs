//! Freshness: when a value is served, refreshed, waited for or made by a client, by the rule of its
//! key. Knows neither sockets nor RESP.
//!
//! A read that finds a value only comes here in the last part of that value's life ([`xfetch`]).
//! One that finds none comes to [`Policy::miss`]: what is remembered of the key (`memory`) answers
//! it, or the value that expired and may be served stale; or it waits, for a load from the rule's
//! origin (`flight`) or for the client that has the [`lease`].
//!
//! Invariants:
//! - At most one load of a key is under way, or one lease of it; but who comes after the key was
//!   changed never waits for what began before.
//! - A load is a task of its own: who waits for it and goes cancels nothing. Whatever ends it, its
//!   key is free again.
//! - A write, a removal or an invalidation during a load wins: what the load brings is not stored.
//! - A stale value is never served past a removal.

mod cooperate;
pub mod counts;
mod elsewhere;
pub mod flight;
pub mod lease;
mod loads;
mod memory;
mod reads;
mod report;
pub mod rules;
mod sync;
mod wait;
mod works;
mod writes;
pub mod xfetch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::clock;
use crate::config::rules::{OriginKind, Rules};
use crate::store::{Change, Loaded, Observer, Stamp, Store, Tags};

pub use crate::origin::{BreakerState, FailureKind, Origin, OriginReport};
pub use cooperate::{Offer, Offered};
use counts::Counts;
pub use elsewhere::{Brought, Elsewhere, Ending, Keep, Moment, Turn};
use lease::Terms;
pub use loads::Permit;
use memory::{Memory, Recalled};
pub use reads::{Asker, Hit, Leases, Made, Miss};
pub use report::KeyReport;
use rules::{Rule, RuleSet};
pub use wait::{Arrivals, Arrived, Outcome, Wait};
use works::Works;
pub use writes::{Passage, Passing, Refused, Through};

/// The rules in force, and what is under way by them.
pub struct Policy {
    store: Arc<Store>,
    shared: Arc<Shared>,
    /// What loads run on; there once there is an origin.
    runtime: OnceLock<Handle>,
    writers: Mutex<writes::Writers>,
    /// Told when the thread of that runtime is to end.
    stopped: Arc<Notify>,
    /// Held while other rules are put in force.
    changing: Mutex<()>,
}

/// What the store tells of changes.
#[derive(Default)]
struct Shared {
    works: Works,
    /// How often tags were invalidated elsewhere.
    gone: AtomicU64,
    roles: elsewhere::Roles,
    table: RwLock<Arc<Table>>,
    /// Counts up with every other table.
    generation: AtomicU64,
    is_on: AtomicBool,
}

/// The rules in force, each with what it counts and remembers.
#[expect(clippy::struct_excessive_bools, reason = "independent of each other")]
#[derive(Default)]
pub struct Table {
    set: RuleSet,
    active: Vec<Arc<Active>>,
    /// What rules there are, so that who need not look for one does not.
    has_origins: bool,
    has_leases: bool,
    has_stale: bool,
    has_through: bool,
    has_tags: bool,
}

/// A rule in force.
pub struct Active {
    /// What it says.
    pub rule: Arc<Rule>,
    /// What came of it.
    pub counts: Arc<Counts>,
    memory: Arc<Memory>,
    refreshes: Arc<Semaphore>,
}

impl Policy {
    /// With no rule yet.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Arc<Self> {
        let shared = Arc::<Shared>::default();
        store.set_observer(Box::new(Arc::clone(&shared)));
        Arc::new(Self {
            store,
            shared,
            runtime: OnceLock::new(),
            writers: Mutex::default(),
            stopped: Arc::default(),
            changing: Mutex::new(()),
        })
    }

    /// Puts rules in force, in the place of all others. What was counted for a rule of the same
    /// name goes on; what is under way ends by the rules it began by.
    ///
    /// # Errors
    /// What an origin needs is not there, or no thread can be had; then nothing has changed.
    pub fn set_rules(&self, rules: &Rules) -> Result<(), String> {
        let _changing = self.changing.lock();
        if !rules.origins.is_empty() && self.runtime.get().is_none() {
            self.start_runtime().map_err(|error| error.to_string())?;
        }
        // Some origins start tasks of their own when they are built.
        let entered = self.runtime.get().map(Handle::enter);
        let before = self.table();
        let set = RuleSet::build_after(rules, &before.set)?;
        drop(entered);
        let table = Table::new(set, &before);
        let is_on = !table.set.is_empty();
        // Whoever finds the new rules finds a store that tells of changes. It still does when there
        // are no rules any more, as what began by the old ones is under way.
        if is_on {
            self.store.observe();
        }
        *self.shared.table.write() = Arc::new(table);
        self.shared.is_on.store(is_on, Ordering::Release);
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn start_runtime(&self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let stopped = Arc::clone(&self.stopped);
        std::thread::Builder::new()
            .name("corral-origins".to_owned())
            .spawn(move || runtime.block_on(stopped.notified()))?;
        let is_first = self.runtime.set(handle).is_ok();
        debug_assert!(is_first, "rules are set by one at a time");
        Ok(())
    }

    /// Whether there are rules.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.is_on.load(Ordering::Acquire)
    }

    /// The rules in force.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.shared.table.read())
    }

    /// Counts up when other rules come in force.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Keys for which a load or a lease is under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.works.len()
    }

    /// Forgets what is over; to be called about once a second.
    pub fn sweep(&self) {
        self.shared.works.sweep(clock::now());
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        self.stopped.notify_one();
    }
}

impl Table {
    fn new(set: RuleSet, before: &Self) -> Self {
        // Else a key may have changed while it was another rule's, which this one was not told.
        let patterns = |set: &RuleSet| -> Vec<String> {
            let rules = set.rules().iter();
            rules.map(|rule| rule.spec.pattern.clone()).collect()
        };
        let has_same_keys = patterns(&set) == patterns(&before.set);
        let renewed = |rule: &Arc<Rule>| {
            let of_name = |active: &&Arc<Active>| active.rule.spec.name == rule.spec.name;
            let known = before.active.iter().find(of_name);
            Active::new(rule, known, has_same_keys)
        };
        let active: Vec<Arc<Active>> = set.rules().iter().map(renewed).collect();
        let any = |is: fn(&Active) -> bool| active.iter().any(|active| is(active));
        Self {
            has_origins: any(|active| active.rule.origin.is_some()),
            has_leases: any(Active::has_lease),
            has_stale: any(|active| !active.stale_for().is_zero()),
            has_through: any(Active::writes_through),
            has_tags: any(Active::has_tags),
            set,
            active,
        }
    }

    /// The rule of a key.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<&Arc<Active>> {
        self.active.get(self.set.find(key)?.index)
    }

    /// All rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Active>] {
        &self.active
    }

    /// All rules and origins, as they were read.
    #[must_use]
    pub fn set(&self) -> &RuleSet {
        &self.set
    }

    /// Whether a write may have to go to an origin first.
    #[inline]
    #[must_use]
    pub fn has_through(&self) -> bool {
        self.has_through
    }

    /// What is to be kept with a value that a client stores under this key, to live for `ttl_ms`.
    ///
    /// `delta_ms`: how long it took to make, where the client said so.
    #[must_use]
    pub fn loaded_by_client(
        &self,
        key: &[u8],
        ttl_ms: u64,
        delta_ms: Option<u64>,
    ) -> Option<Loaded> {
        let stale_ms = if self.has_stale || self.has_leases {
            self.find(key)
                .map_or(0, |active| millis(active.stale_for()))
        } else {
            0
        };
        let delta_ms = delta_ms.unwrap_or(0).min(ttl_ms / 2);
        (stale_ms > 0 || delta_ms > 0).then(|| Loaded::new(ttl_ms, delta_ms, stale_ms))
    }
}

impl Active {
    /// A rule, which may go on from what there was by its name.
    fn new(rule: &Arc<Rule>, before: Option<&Arc<Self>>, has_same_keys: bool) -> Arc<Self> {
        let spec = &rule.spec;
        let origin = |rule: &Rule| rule.origin.as_ref().map(|origin| origin.spec().clone());
        let is_same = |before: &&Arc<Self>| {
            has_same_keys && before.rule.spec == *spec && origin(&before.rule) == origin(rule)
        };
        let memory = before.filter(is_same).map_or_else(
            || Arc::new(Memory::new(spec.negative_ttl, spec.error_ttl)),
            |before| Arc::clone(&before.memory),
        );
        let refreshes = rule
            .origin
            .as_ref()
            .map_or(0, |origin| origin.spec().refresh_concurrency);
        Arc::new(Self {
            memory,
            counts: before
                .map(|before| Arc::clone(&before.counts))
                .unwrap_or_default(),
            refreshes: Arc::new(Semaphore::new(refreshes)),
            rule: Arc::clone(rule),
        })
    }

    /// Whether clients get leases: those of a rule with an origin never need one.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.rule.origin.is_none() && !self.rule.spec.lease.is_zero()
    }

    /// Whether a tag that its rule gives a key was invalidated since.
    fn is_outdated(&self, tags: &Tags, (db, key): (u16, &[u8]), since: Stamp) -> bool {
        self.has_tags() && tags.now() != since && {
            let names = self.rule.tags_of(key);
            names.iter().any(|name| tags.is_outdated(db, name, since))
        }
    }

    fn has_tags(&self) -> bool {
        !self.rule.spec.tags.is_empty()
    }

    /// Whether what is loaded may have tags: the rule's, or such as the origin tells.
    fn tags_values(&self) -> bool {
        let told = self
            .rule
            .origin
            .as_ref()
            .is_some_and(|origin| match &origin.spec().kind {
                OriginKind::Http(http) => http.tag_header.is_some(),
                OriginKind::Sql(sql) => sql.tag_column.is_some(),
                OriginKind::Command(_) | OriginKind::Redis(_) => false,
            });
        told || self.has_tags()
    }

    fn writes_through(&self) -> bool {
        self.rule.origin.is_some()
            && self.rule.spec.write == crate::config::rules::WriteMode::Through
    }

    /// Whether it is remembered that a load of this key failed.
    fn has_failed(&self, db: u16, key: &[u8]) -> bool {
        matches!(self.memory.recall(db, key), Some(Recalled::Failed(_)))
    }

    /// How long past its expiry a value may be served at all.
    fn stale_for(&self) -> Duration {
        let spec = &self.rule.spec;
        spec.stale_while_revalidate.max(spec.stale_if_error)
    }

    fn terms(&self) -> Terms {
        Terms {
            lease: self.rule.spec.lease,
            open: self.rule.spec.negative_ttl,
        }
    }
}

impl Observer for Arc<Shared> {
    fn changed(&self, db: u16, key: &[u8], change: Change) {
        self.works.changed(db, key, change);
        let table = self.table.read();
        if table.has_origins
            && let Some(active) = table.find(key)
        {
            active.memory.forget(db, key);
        }
    }

    fn all_changed(&self, db: u16) {
        self.works.all_changed(db, clock::now());
        for active in self.table.read().rules() {
            active.memory.forget_all();
        }
    }

    fn tags(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) {
        let table = self.table.read();
        if table.has_tags
            && let Some(active) = table.find(key)
        {
            let tags = active.rule.tags_of(key);
            tags.iter().for_each(|tag| visit(tag));
        }
    }
}

/// A time in whole ms.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
