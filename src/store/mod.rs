//! The mechanism: a sharded map bounded in bytes, with an expiry per item.
//!
//! A key belongs to one [`Shard`] by its hash, and all there is to know of it lives and changes
//! under that shard's lock. Memory is bounded over all shards by one [`Budget`]: a write is paid
//! for before it happens, and if nothing is left, others go first ([`eviction`]). Where several
//! keys must change at once, their shards are locked in the order of their index ([`Locked`]).
//!
//! Knows nothing of commands, replies, or what a value means. The only room with `unsafe`:
//! [`item`] says under which invariant.

pub mod budget;
pub mod eviction;
pub mod item;
pub mod shard;
mod table;
pub mod watch;
mod wheel;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

pub use budget::Budget;
pub use eviction::{Policy, Tuning};
pub use shard::{Entry, Garbage, Key, Shard, Write, charge_max};

/// There is no room, and nobody who may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How a store is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Locks; a power of two.
    pub shards: usize,
    /// Databases that `SELECT` can choose from.
    pub databases: u16,
    /// Bytes that all items may cost together.
    pub bytes_max: Option<usize>,
    /// Who goes when they would cost more.
    pub tuning: Tuning,
    /// Unix time in ms.
    pub now_ms: u64,
}

/// Shards of their own cache lines, so that two locks never share one.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// The sharded map.
pub struct Store {
    shards: Box<[Padded]>,
    shift: u32,
    hasher: ahash::RandomState,
    budget: Budget,
    /// What each shard's items cost, as last seen: where to look for somebody to evict.
    seen_bytes: Box<[AtomicUsize]>,
    /// Which tables a database's number stands for; `SWAPDB` swaps two, under all locks.
    databases: Box<[AtomicU16]>,
}

impl Store {
    /// An empty store. Its hash function is seeded at random.
    ///
    /// # Panics
    /// If the number of shards is no power of two from 1 to [`SHARDS_MAX`].
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let shards = options.shards;
        assert!(
            shards.is_power_of_two() && shards <= SHARDS_MAX,
            "checked by the settings"
        );
        let hasher = ahash::RandomState::new();
        let seed = |index: usize| hasher.hash_one(index);
        let store = Self {
            shards: (0..shards)
                .map(|index| {
                    let shard = Shard::new(hasher.clone(), seed(index), options.now_ms);
                    Padded(Mutex::new(shard))
                })
                .collect(),
            shift: 64 - shards.ilog2(),
            hasher,
            budget: Budget::new(options.bytes_max, shards),
            seen_bytes: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            databases: (0..options.databases).map(AtomicU16::new).collect(),
        };
        store.set_limits(options.bytes_max, options.tuning);
        store
    }

    /// The hash by which a key is stored.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The key with its hash.
    #[inline]
    #[must_use]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key {
            bytes,
            hash: self.hash(bytes),
        }
    }

    /// Number of locks.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Number of databases.
    #[must_use]
    pub fn databases(&self) -> u16 {
        u16::try_from(self.databases.len()).expect("made from a u16")
    }

    /// The memory's bound and use.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Changes bound and policy. If more is in use than allowed now, [`Self::shrink`] is to be
    /// called.
    pub fn set_limits(&self, bytes_max: Option<usize>, tuning: Tuning) {
        self.budget.set_max(bytes_max);
        let window_bytes_max = match (bytes_max, tuning.policy) {
            (Some(_), Policy::AllKeysTinyLfu) => self.budget.share() / WINDOW_SHARE,
            _ => 0,
        };
        for shard in &self.shards {
            let mut shard = shard.0.lock();
            let same_policy = shard.tuning.policy == tuning.policy;
            shard.tuning = tuning;
            shard.window_bytes_max = window_bytes_max;
            if !same_policy || window_bytes_max == 0 {
                shard.forget_uses();
                while shard.window.pop().is_some() {}
            }
        }
    }

    /// Evicts until the bound holds, for at most `evictions`. True when there is no more to do.
    pub fn shrink(&self, now_ms: u64, evictions: usize) -> bool {
        for _ in 0..evictions {
            if !self.budget.is_over() {
                return true;
            }
            if !self.evict_elsewhere(None, 0, now_ms) {
                return true;
            }
        }
        !self.budget.is_over()
    }

    /// Locks the shard of one key.
    #[inline]
    #[must_use]
    pub fn lock(&self, hash: u64) -> Locked<'_> {
        let index = self.shard_of(hash);
        Locked {
            store: self,
            guards: Guards::One(index, self.shards[index].0.lock()),
        }
    }

    /// Locks the shards of these keys, in order.
    #[must_use]
    pub fn lock_many(&self, hashes: impl Iterator<Item = u64>) -> Locked<'_> {
        let mut indexes: Vec<usize> = hashes.map(|hash| self.shard_of(hash)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let guards = indexes
            .into_iter()
            .map(|index| (index, self.shards[index].0.lock()));
        Locked {
            store: self,
            guards: Guards::Many(guards.collect()),
        }
    }

    /// Locks all shards, in order.
    #[must_use]
    pub fn lock_all(&self) -> Locked<'_> {
        let guards = self.shards.iter().map(|shard| shard.0.lock()).enumerate();
        Locked {
            store: self,
            guards: Guards::Many(guards.collect()),
        }
    }

    /// Locks nothing yet.
    #[must_use]
    pub fn lock_none(&self) -> Locked<'_> {
        Locked {
            store: self,
            guards: Guards::Many(Vec::new()),
        }
    }

    /// Locks one shard by its index.
    #[must_use]
    pub fn lock_index(&self, index: usize) -> Locked<'_> {
        Locked {
            store: self,
            guards: Guards::One(index, self.shards[index].0.lock()),
        }
    }

    /// Asks the processor for what a look-up of this key reads first, then, by
    /// [`Self::announce_item`], for what it reads next: with a pipeline's keys announced in turn
    /// before they are used, their cache misses overlap.
    #[inline]
    pub fn announce(&self, db: u16, hash: u64) {
        if let Some(shard) = self.shards[self.shard_of(hash)].0.try_lock() {
            shard.prefetch_bucket(self.physical(db), hash);
        }
    }

    /// See [`Self::announce`].
    #[inline]
    pub fn announce_item(&self, db: u16, hash: u64) {
        if let Some(shard) = self.shards[self.shard_of(hash)].0.try_lock() {
            shard.prefetch_item(self.physical(db), hash);
        }
    }

    /// What all items cost, in bytes.
    #[must_use]
    pub fn items_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().bytes).sum()
    }

    /// Bytes of tables and queues, a part of which every item pays.
    #[must_use]
    pub fn lists_bytes(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.0.lock().lists_bytes())
            .sum()
    }

    /// Items evicted and items expired so far.
    #[must_use]
    pub fn departures(&self) -> (u64, u64) {
        self.shards
            .iter()
            .fold((0, 0), |(evicted, expired), shard| {
                let shard = shard.0.lock();
                (evicted + shard.evicted, expired + shard.expired)
            })
    }

    /// Sets the counts of evicted and expired items to 0.
    pub fn reset_departures(&self) {
        for shard in &self.shards {
            let mut shard = shard.0.lock();
            (shard.evicted, shard.expired) = (0, 0);
        }
    }

    /// Which tables a database's number stands for. To be asked under a lock.
    #[inline]
    #[must_use]
    pub fn physical(&self, db: u16) -> u16 {
        self.databases[usize::from(db)].load(Ordering::Relaxed)
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> usize {
        // With one shard the shift would be by 64 bits.
        usize::try_from(hash.checked_shr(self.shift).unwrap_or(0)).expect("fewer than 2^16 shards")
    }

    /// Fills up a shard's credit, by the budget or by eviction.
    fn reserve(
        &self,
        index: usize,
        shard: &mut Shard,
        bytes: usize,
        now_ms: u64,
    ) -> Result<(), Full> {
        if self.budget.max().is_some_and(|max| bytes > max) {
            return Err(Full);
        }
        self.grow_sketch(shard, now_ms);
        let mut retries = RETRIES;
        loop {
            if shard.credit >= bytes {
                return Ok(());
            }
            let short = bytes - shard.credit;
            let chunk = self.budget.chunk();
            if self.budget.take(short + chunk) {
                shard.credit += short + chunk;
                continue;
            }
            if self.budget.take(short) {
                shard.credit += short;
                continue;
            }
            self.seen_bytes[index].store(shard.bytes, Ordering::Relaxed);
            // Who has more than the fair part gives way first.
            let own_turn = shard.bytes + bytes > self.budget.share();
            if own_turn && shard.evict_one(bytes, now_ms)
                || self.evict_elsewhere(Some(index), bytes, now_ms)
                || shard.evict_one(bytes, now_ms)
            {
                continue;
            }
            retries -= 1;
            if retries == 0 || shard.tuning.policy == Policy::NoEviction {
                return Err(Full);
            }
            std::thread::yield_now();
        }
    }

    /// Evicts from the fullest shard that is free, `except` one, for the budget.
    fn evict_elsewhere(&self, except: Option<usize>, incoming: usize, now_ms: u64) -> bool {
        let mut tried = [false; SHARDS_MAX];
        if let Some(index) = except {
            tried[index] = true;
        }
        for _ in 0..self.shards.len() {
            let fullest = (0..self.shards.len())
                .filter(|&index| !tried[index])
                .max_by_key(|&index| self.seen_bytes[index].load(Ordering::Relaxed));
            let Some(index) = fullest else { return false };
            tried[index] = true;
            let Some(mut shard) = self.shards[index].0.try_lock() else {
                continue;
            };
            let evicted = shard.evict_one(incoming, now_ms);
            self.seen_bytes[index].store(shard.bytes, Ordering::Relaxed);
            self.budget.give(std::mem::take(&mut shard.credit));
            if evicted {
                return true;
            }
        }
        false
    }

    /// Starts to count uses when memory fills up, for as many keys as there are.
    fn grow_sketch(&self, shard: &mut Shard, now_ms: u64) {
        if shard.window_bytes_max == 0
            || shard.len() <= shard.sketch.capacity()
            || !self.budget.is_filling()
        {
            return;
        }
        let keys = shard.len().max(SKETCH_KEYS_MIN);
        let added = eviction::sketch::Sketch::bytes_for(keys) - shard.sketch.heap_bytes();
        while shard.credit < added {
            if self.budget.take(added - shard.credit) {
                shard.credit = added;
            } else if !shard.evict_one(0, now_ms) {
                return;
            }
        }
        shard.credit -= added;
        shard.bytes += added;
        shard.sketch.grow(keys);
    }
}

enum Guards<'a> {
    One(usize, MutexGuard<'a, Shard>),
    /// By index.
    Many(Vec<(usize, MutexGuard<'a, Shard>)>),
}

/// Shards that are locked, until it is dropped.
pub struct Locked<'a> {
    store: &'a Store,
    guards: Guards<'a>,
}

impl<'a> Locked<'a> {
    /// The store whose shards these are.
    #[must_use]
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// The shard of a key, which must be locked.
    #[inline]
    pub fn shard(&mut self, hash: u64) -> &mut Shard {
        let index = self.store.shard_of(hash);
        match &mut self.guards {
            Guards::One(locked, shard) => {
                debug_assert_eq!(
                    *locked, index,
                    "a handler uses the keys of its command only"
                );
                shard
            }
            Guards::Many(guards) => {
                let position = guards
                    .binary_search_by_key(&index, |(locked, _)| *locked)
                    .expect("a handler uses the keys of its command only");
                &mut guards[position].1
            }
        }
    }

    /// Sees to it that a write to this key is paid for, by eviction if need be.
    ///
    /// # Errors
    /// [`Full`], if it cannot be; nothing has changed then but for what was evicted.
    #[inline]
    pub fn reserve(&mut self, hash: u64, bytes: usize, now_ms: u64) -> Result<(), Full> {
        let (store, index) = (self.store, self.store.shard_of(hash));
        let shard = self.shard(hash);
        if shard.has_credit(bytes) {
            return Ok(());
        }
        store.reserve(index, shard, bytes, now_ms).or_else(|full| {
            // Others that this command has locked itself may have to give way.
            self.evict_among_locked(index, bytes, now_ms)
                .then_some(())
                .ok_or(full)
        })
    }

    fn evict_among_locked(&mut self, index: usize, bytes: usize, now_ms: u64) -> bool {
        let (store, Guards::Many(guards)) = (self.store, &mut self.guards) else {
            return false;
        };
        if store.budget.max().is_some_and(|max| bytes > max) {
            return false;
        }
        for position in 0..guards.len() {
            while guards[position].0 != index && guards[position].1.evict_one(bytes, now_ms) {
                let freed = std::mem::take(&mut guards[position].1.credit);
                store.budget.give(freed);
                let own = guards.iter_mut().find(|(locked, _)| *locked == index);
                let Some((_, shard)) = own else { return false };
                let short = bytes.saturating_sub(shard.credit);
                if store.budget.take(short) {
                    shard.credit += short;
                    return true;
                }
            }
        }
        false
    }

    /// As [`Store::announce`] and [`Store::announce_item`], for keys whose shards are locked.
    pub fn announce(&self, db: u16, hashes: &[u64]) {
        let physical = self.physical(db);
        let Guards::Many(guards) = &self.guards else {
            return;
        };
        let shard = |hash: u64| {
            let index = self.store.shard_of(hash);
            let position = guards
                .binary_search_by_key(&index, |(locked, _)| *locked)
                .ok()?;
            Some(&guards[position].1)
        };
        for &hash in hashes {
            if let Some(shard) = shard(hash) {
                shard.prefetch_bucket(physical, hash);
            }
        }
        for &hash in hashes {
            if let Some(shard) = shard(hash) {
                shard.prefetch_item(physical, hash);
            }
        }
    }

    /// Whether all shards are locked.
    #[must_use]
    pub fn is_all(&self) -> bool {
        match &self.guards {
            Guards::One(..) => self.store.shards() == 1,
            Guards::Many(guards) => guards.len() == self.store.shards(),
        }
    }

    /// Whether none is.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(&self.guards, Guards::Many(guards) if guards.is_empty())
    }

    /// Gives `visit` the shard of this index, locked for as long as that takes.
    ///
    /// Either no shard is locked before, or all are: to lock one more would break the order.
    pub fn with_shard<R>(&mut self, index: usize, visit: impl FnOnce(&mut Shard) -> R) -> R {
        match &mut self.guards {
            Guards::One(locked, shard) if *locked == index => visit(shard),
            Guards::Many(guards) if !guards.is_empty() => {
                let position = guards
                    .binary_search_by_key(&index, |(locked, _)| *locked)
                    .expect("all shards are locked, or none");
                visit(&mut guards[position].1)
            }
            Guards::One(..) | Guards::Many(_) => {
                let store = self.store;
                let mut shard = store.shards[index].0.lock();
                let result = visit(&mut shard);
                settle(&store.budget, &mut shard);
                result
            }
        }
    }

    /// Which tables a database's number stands for.
    #[inline]
    #[must_use]
    pub fn physical(&self, db: u16) -> u16 {
        self.store.physical(db)
    }

    /// Lets two numbers stand for each other's tables. All shards must be locked.
    pub fn swap_databases(&mut self, first: u16, second: u16) {
        debug_assert!(
            self.is_all(),
            "others would see one of the two databases only"
        );
        let databases = &self.store.databases;
        let (first, second) = (
            &databases[usize::from(first)],
            &databases[usize::from(second)],
        );
        let swapped = first.swap(second.load(Ordering::Relaxed), Ordering::Relaxed);
        second.store(swapped, Ordering::Relaxed);
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let budget = &self.store.budget;
        match &mut self.guards {
            Guards::One(_, shard) => settle(budget, shard),
            Guards::Many(guards) => {
                for (_, shard) in guards {
                    settle(budget, shard);
                }
            }
        }
    }
}

/// Gives back what a shard has left over.
#[inline]
fn settle(budget: &Budget, shard: &mut Shard) {
    let kept = budget.chunk();
    if shard.credit > 2 * kept {
        budget.give(shard.credit - kept);
        shard.credit = kept;
    }
}

/// The window's part of the memory: a fifth.
const WINDOW_SHARE: usize = 5;
/// Below this many keys a sketch is not worth growing step by step.
const SKETCH_KEYS_MIN: usize = 64;
/// Most shards a store can have.
pub const SHARDS_MAX: usize = 1024;
/// How often a write that finds all other shards busy tries again before it is refused.
const RETRIES: usize = 1000;
