//! The mechanism: a sharded map bounded in bytes, with an expiry per item.
//!
//! A key belongs to one [`Shard`] by its hash, and all there is to know of it lives and changes
//! under that shard's lock. Memory is bounded over all shards by one [`Budget`]: a write is paid
//! for before it happens, and if nothing is left, others go first ([`eviction`]). Where several
//! keys must change at once, their shards are locked in the order of their index ([`Locked`]).
//!
//! Knows nothing of commands, replies, or what a value means. The only room with `unsafe`:
//! [`item`] says under which invariant, and `directory` how a bucket is found without the lock.

pub mod budget;
mod chains;
mod directory;
pub mod entry;
pub mod eviction;
pub mod item;
mod locked;
mod observer;
mod room;
pub mod shard;
mod table;
mod tagged;
pub mod tags;
pub mod watch;
mod wheel;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use parking_lot::Mutex;

pub use budget::Budget;
use directory::Directory;
pub use entry::{Entry, Garbage, Key, Write, charge, charge_max};
pub use eviction::{Policy, Tuning};
pub use item::{Extras, Loaded};
use locked::Guards;
pub use locked::Locked;
use observer::Observed;
pub use observer::{Change, Observer};
pub use shard::Shard;
pub use table::Announced;
pub use tags::{LINK_BYTES, Link, Refusal, Stamp, Tags};

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
struct Padded {
    lock: Mutex<Shard>,
    /// What its items cost and how many of them may be evicted, as last seen: where to look for
    /// somebody to evict.
    seen_bytes: AtomicUsize,
    seen_items: AtomicUsize,
}

/// The sharded map.
pub struct Store {
    shards: Box<[Padded]>,
    /// Where to find the keys of the first database, by shard.
    directories: Box<[Arc<Directory>]>,
    shift: u32,
    hasher: ahash::RandomState,
    budget: Arc<Budget>,
    tags: Arc<Tags>,
    /// Which tables a database's number stands for; `SWAPDB` swaps two, under all locks.
    databases: Box<[AtomicU16]>,
    observed: Observed,
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
        let times = Arc::default();
        let budget = Arc::new(Budget::new(options.bytes_max, shards));
        let tags = Arc::new(Tags::new(&hasher, &budget, tags::Limits::default()));
        let directories: Box<[Arc<Directory>]> = (0..shards).map(|_| Arc::default()).collect();
        let padded = |(index, directory)| Padded {
            lock: Mutex::new(Shard::new(
                index,
                &hasher,
                &times,
                directory,
                &tags,
                options.now_ms,
            )),
            seen_bytes: AtomicUsize::new(0),
            seen_items: AtomicUsize::new(0),
        };
        let store = Self {
            shards: (0..).zip(&directories).map(padded).collect(),
            directories,
            shift: 64 - shards.ilog2(),
            hasher: hasher.clone(),
            budget,
            tags,
            databases: (0..options.databases).map(AtomicU16::new).collect(),
            observed: Observed::default(),
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

    /// What tags the items carry.
    #[must_use]
    pub fn tags(&self) -> &Arc<Tags> {
        &self.tags
    }

    /// Takes out what invalidations have outdated, about `count` items. Whether there is more.
    pub fn reclaim(&self, now_ms: u64, count: u32) -> bool {
        let Some((db, keys)) = self.tags.next_waiting(count) else {
            return false;
        };
        for (hash, link) in keys {
            let mut locked = self.lock(hash);
            locked.shard(hash).look_again(db, hash, link, now_ms);
        }
        true
    }

    /// Locks the shard of one key.
    #[inline]
    #[must_use]
    pub fn lock(&self, hash: u64) -> Locked<'_> {
        let index = self.shard_of(hash);
        Locked {
            store: self,
            guards: Guards::One(index, self.shards[index].lock.lock()),
            _gate: None,
        }
    }

    /// Locks the shards of these keys, in order.
    #[must_use]
    pub fn lock_many(&self, mut hashes: impl Iterator<Item = u64>) -> Locked<'_> {
        let (first, second) = (hashes.next(), hashes.next());
        if let (Some(hash), None) = (first, second) {
            return self.lock(hash);
        }
        self.lock_apart(first.into_iter().chain(second).chain(hashes))
    }

    /// The same for requests that are to see one moment, however few keys they have: nor is a tag
    /// invalidated meanwhile.
    #[must_use]
    pub fn lock_apart(&self, hashes: impl Iterator<Item = u64>) -> Locked<'_> {
        let gate = self.tags.gate.read();
        let mut indexes: Vec<usize> = hashes.map(|hash| self.shard_of(hash)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let guards = indexes
            .into_iter()
            .map(|index| (index, self.shards[index].lock.lock()));
        Locked {
            store: self,
            guards: Guards::Many(guards.collect()),
            _gate: Some(gate),
        }
    }

    /// Locks all shards, in order.
    #[must_use]
    pub fn lock_all(&self) -> Locked<'_> {
        let gate = self.tags.gate.read();
        let guards = self
            .shards
            .iter()
            .map(|shard| shard.lock.lock())
            .enumerate();
        Locked {
            store: self,
            guards: Guards::Many(guards.collect()),
            _gate: Some(gate),
        }
    }

    /// Locks nothing yet.
    #[must_use]
    pub fn lock_none(&self) -> Locked<'_> {
        Locked {
            store: self,
            guards: Guards::Many(Vec::new()),
            _gate: None,
        }
    }

    /// Locks one shard by its index.
    #[must_use]
    pub fn lock_index(&self, index: usize) -> Locked<'_> {
        Locked {
            store: self,
            guards: Guards::One(index, self.shards[index].lock.lock()),
            _gate: None,
        }
    }

    /// Asks the processor for what a look-up of this key reads first; then, by what is returned,
    /// for what it reads next: with a pipeline's keys announced in turn before they are used, their
    /// cache misses overlap. Takes no lock for keys of the first database.
    #[inline]
    pub fn announce(&self, db: u16, hash: u64) -> Option<Announced> {
        let (db, index) = (self.physical(db), self.shard_of(hash));
        if db != 0 {
            return self.shards[index].lock.try_lock()?.announce(db, hash);
        }
        let directory = &self.directories[index];
        directory.prefetch_counters(hash);
        Some(Announced::new(directory.bucket(hash)?, hash))
    }

    /// What all items cost, in bytes.
    #[must_use]
    pub fn items_bytes(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock.lock().bytes)
            .sum()
    }

    /// Bytes of tables and queues, a part of which every item pays.
    #[must_use]
    pub fn lists_bytes(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock.lock().lists_bytes())
            .sum()
    }

    /// Items evicted and items expired so far.
    #[must_use]
    pub fn departures(&self) -> (u64, u64) {
        self.shards
            .iter()
            .fold((0, 0), |(evicted, expired), shard| {
                let shard = shard.lock.lock();
                (evicted + shard.evicted, expired + shard.expired)
            })
    }

    /// Sets the counts of evicted and expired items to 0.
    pub fn reset_departures(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock.lock();
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
}

/// Most shards a store can have.
pub const SHARDS_MAX: usize = 1024;
