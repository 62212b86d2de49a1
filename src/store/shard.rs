//! What lives under one lock: the items of a share of the keys, and every list that knows them.
//!
//! Table, bytes in use, eviction state and expiry wheel change together here, so an item that
//! leaves leaves everything. Every insertion is paid for before it happens: its credit is memory
//! taken from the [budget](super::Budget) and not yet used; [`reserve`](super::Locked::reserve)
//! fills it up, and what a write costs is taken from it.

use std::mem::offset_of;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::chains::Chains;
use super::directory::Directory;
use super::entry::{Entry, Garbage, Key, Write};
use super::eviction::Times;
use super::eviction::sketch::Sketch;
use super::eviction::window::Window;
use super::eviction::{Pool, Tuning};
use super::item::{Extras, Flags, Handle};
use super::table::{Announced, Table};
use super::tags::{LINK_BYTES, Tags};
use super::watch::Watchers;
use super::wheel::Wheel;

/// One lock's share of the items. The fields stand in the order of their use: what every look-up
/// reads comes first, on the cache line of the lock.
#[repr(C)]
pub struct Shard {
    /// By database.
    pub(super) tables: Vec<Table>,
    pub(super) tuning: Tuning,
    /// Whether bytes, credit or the number of evictable items changed since it was
    /// [settled](super::Store::settle).
    pub(super) changed: bool,
    /// Its number in the store.
    pub(super) index: u16,
    pub(super) sketch: Sketch,
    pub(super) wheel: Wheel,
    pub(super) window: Window,
    pub(super) pool: Pool,
    /// How much of this shard's memory the window may take; 0: no window.
    pub(super) window_bytes_max: usize,
    /// What the items and the sketch cost, and what is put aside for the sketch.
    pub(super) bytes: usize,
    /// Put aside to let the sketch grow.
    pub(super) saved: usize,
    /// Memory that the budget gave and no item uses yet.
    pub(super) credit: usize,
    pub(super) evicted: u64,
    pub(super) expired: u64,
    /// The links of its items to tags.
    pub(super) chains: Chains,
    pub(super) tags: Arc<Tags>,
    /// Who watches keys of this shard.
    pub watchers: Watchers,
    /// Of the first database.
    directory: Arc<Directory>,
    hasher: ahash::RandomState,
    random: u64,
    /// What all shards count together.
    pub(super) times: Arc<Times>,
}

/// The lock's word comes before the shard, and the sketch begins with its blocks, a fat pointer.
const _: () = assert!(
    offset_of!(Shard, sketch) + size_of::<&[u64]>() <= 64 - size_of::<usize>(),
    "a look-up reads one cache line of the shard"
);

impl Shard {
    pub(super) fn new(
        index: u16,
        hasher: &ahash::RandomState,
        times: &Arc<Times>,
        directory: &Arc<Directory>,
        tags: &Arc<Tags>,
        now_ms: u64,
    ) -> Self {
        let mut table = Table::default();
        table.tell(directory);
        Self {
            tables: vec![table],
            tuning: Tuning::default(),
            changed: false,
            index,
            sketch: Sketch::default(),
            wheel: Wheel::new(now_ms),
            window: Window::default(),
            pool: Pool::default(),
            window_bytes_max: 0,
            bytes: 0,
            saved: 0,
            credit: 0,
            evicted: 0,
            expired: 0,
            chains: Chains::default(),
            tags: Arc::clone(tags),
            watchers: Watchers::default(),
            random: hasher.hash_one(index) | 1,
            directory: Arc::clone(directory),
            hasher: hasher.clone(),
            times: Arc::clone(times),
        }
    }

    /// Items in all databases.
    pub(super) fn len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    /// Items in one database, expired ones that are still there included.
    #[must_use]
    pub fn database_len(&self, db: u16) -> usize {
        self.tables.get(usize::from(db)).map_or(0, Table::len)
    }

    /// Items of a database that have an expiry.
    #[must_use]
    pub fn volatile_len(&self, db: u16) -> usize {
        self.wheel.database_len(db)
    }

    /// The item of a key, if it is there and not expired. Nothing is noted of the look-up.
    #[inline]
    pub fn peek(&mut self, db: u16, key: Key<'_>, now_ms: u64) -> Option<Entry<'_>> {
        let handle = self
            .tables
            .get(usize::from(db))?
            .find(key.hash, key.bytes)?;
        if is_due(handle.expires_at(), now_ms) {
            self.outlived(db, key.hash, handle, now_ms);
            return None;
        }
        if self.is_outdated(db, key.hash, handle, now_ms) {
            return None;
        }
        Some(Entry::new(handle))
    }

    /// What is left of a key that expired, for as long as it may be served stale.
    pub fn peek_stale(&mut self, db: u16, key: Key<'_>, now_ms: u64) -> Option<Entry<'_>> {
        if self.peek(db, key, now_ms).is_some() {
            return None;
        }
        let handle = self.find(db, key)?;
        if self.is_outdated(db, key.hash, handle, now_ms) {
            return self.find(db, key).map(Entry::new);
        }
        Some(Entry::new(handle))
    }

    /// The item of a key, if it is there and not expired. Counts as a use of it.
    #[inline]
    pub fn get(&mut self, db: u16, key: Key<'_>, now_ms: u64) -> Option<Entry<'_>> {
        let Some(entry) = self.peek(db, key, now_ms) else {
            // What is asked for and not there is worth keeping when it comes.
            self.sketch.count(key.hash, &self.times);
            return None;
        };
        let handle = entry.handle();
        self.used(key.hash, handle, now_ms);
        Some(Entry::new(handle))
    }

    /// Stores a string. What was under the key before is gone, its expiry included.
    ///
    /// There must be [`credit`](Self::has_credit) for [`charge`](super::charge) bytes.
    pub fn set(&mut self, db: u16, key: Key<'_>, write: Write<'_>, now_ms: u64) {
        let expires_at = write.expires_at.map_or(0, NonZeroU64::get);
        let mut extras = write.extras();
        let loaded = write.loaded.unwrap_or_default();
        let Some(old) = self.find(db, key) else {
            let handle = Handle::new(key.bytes, write.value, extras, 0);
            handle.set_loaded(loaded);
            self.insert(db, key.hash, handle, expires_at, now_ms);
            return;
        };
        self.used(key.hash, old, now_ms);
        if !write.keeps_tags || is_due(old.expires_at(), now_ms) {
            self.leave_tags(old);
        }
        let chain = old.chain();
        extras.loaded |= chain != 0;
        if old.overwrite(write.value, extras) {
            let stale_ms = old.loaded().map_or(0, |loaded| loaded.stale_ms);
            old.set_loaded(loaded);
            if extras.expiry {
                self.move_deadline(db, old, expires_at, stale_ms != loaded.stale_ms);
            }
            return;
        }
        self.stop_expiry(old);
        let flags = old.flags() & (Flags::WINDOW | Flags::TOUCHED);
        let new = Handle::new(key.bytes, write.value, extras, flags);
        new.set_loaded(loaded);
        new.set_chain(chain);
        new.set_clock(old.clock());
        new.set_place(old.place());
        self.put_in_place(db, key.hash, old, new);
        old.free();
        if extras.expiry {
            self.start_expiry(db, new, expires_at);
        }
    }

    /// Makes the value of a key `len` bytes long; what is new is zero, and a key that is not there
    /// comes to be. The expiry stays. Returns the value.
    ///
    /// There must be [`credit`](Self::has_credit) for [`charge_max`](super::charge_max) bytes.
    pub fn resize(&mut self, db: u16, key: Key<'_>, len: usize, now_ms: u64) -> &mut [u8] {
        let handle = match self.find_live(db, key, now_ms) {
            None => {
                let new = Handle::new(key.bytes, &[], Extras::default(), Flags::GROWN).resize(len);
                self.insert(db, key.hash, new, 0, now_ms);
                new
            }
            Some(old) => {
                self.used(key.hash, old, now_ms);
                let old_charge = old.charge();
                let new = old.resize(len);
                self.relocated(db, key.hash, old, new, old_charge);
                if new.expires_at().is_some() {
                    self.wheel.replace(new);
                }
                new
            }
        };
        handle.value_mut()
    }

    /// Removes a key. False if it was not there, or only as an expired item.
    pub fn remove(&mut self, db: u16, key: Key<'_>, now_ms: u64) -> bool {
        let Some(handle) = self.find(db, key) else {
            return false;
        };
        if is_due(handle.expires_at(), now_ms) {
            // Nothing that was removed is served stale.
            self.expire(db, key.hash, handle);
            return false;
        }
        if self.is_outdated(db, key.hash, handle, now_ms) {
            if let Some(stale) = self.find(db, key) {
                self.expire(db, key.hash, stale);
            }
            return false;
        }
        self.take_out(db, key.hash, handle);
        true
    }

    /// Sets when a key expires, or that it does not. False if it is not there.
    ///
    /// There must be [`credit`](Self::has_credit) for [`charge_max`](super::charge_max) bytes.
    pub fn set_expiry(&mut self, db: u16, key: Key<'_>, expires_at: Option<NonZeroU64>) -> bool {
        let Some(old) = self.find(db, key) else {
            return false;
        };
        let Some(expires_at) = expires_at else {
            // The room in the item stays: a key that had an expiry often gets one again.
            self.stop_expiry(old);
            old.set_expires_at(0);
            return true;
        };
        // It is as old as before, and is to live for as much longer.
        let mut loaded = old.loaded().unwrap_or_default();
        if let Some(before) = old.expires_at() {
            let ttl_ms = u64::from(loaded.ttl_ms).saturating_add(expires_at.get());
            loaded = loaded.with_ttl(ttl_ms.saturating_sub(before.get()));
        }
        if old.has(Flags::EXPIRY) {
            old.set_loaded(loaded);
            self.move_deadline(db, old, expires_at.get(), false);
            return true;
        }
        old.set_loaded(loaded);
        let extras = Extras {
            expiry: true,
            ..old.extras()
        };
        let new = self.rebuild(db, key.hash, old, extras);
        self.start_expiry(db, new, expires_at.get());
        true
    }

    /// Gives an item that is not in the wheel room for something else beside key and value.
    pub(super) fn rebuild(&mut self, db: u16, hash: u64, old: Handle, extras: Extras) -> Handle {
        let new = Handle::new(old.key(), old.value(), extras, old.flags());
        new.set_loaded(old.loaded().unwrap_or_default());
        new.set_chain(old.chain());
        new.set_clock(old.clock());
        new.set_place(old.place());
        self.put_in_place(db, hash, old, new);
        old.free();
        new
    }

    /// Sets how often a key is said to have been used, where items carry Redis's counter; without
    /// a number, as often as a new one.
    pub fn set_frequency(&mut self, db: u16, key: Key<'_>, count: Option<u8>, now_ms: u64) {
        if self.tuning.policy.is_lfu()
            && let Some(handle) = self.find(db, key)
        {
            handle.set_clock(self.tuning.clock_with(count, now_ms));
        }
    }

    /// Removes items that are due, at most about `budget` of them; what is left of the budget tells
    /// whether there is more to do. Returns how many were removed.
    pub fn remove_expired(&mut self, now_ms: u64, budget: &mut usize) -> usize {
        let mut removed = 0;
        while let Some((db, handle)) = self.wheel.due(now_ms, budget) {
            self.expire(db, self.hash_of(handle.key()), handle);
            removed += 1;
        }
        removed
    }

    /// Calls `visit` with the items of the next bucket of a scan, expired ones included; returns
    /// the cursor to go on with, 0 at the end.
    pub fn scan(&self, db: u16, cursor: u64, mut visit: impl FnMut(Entry<'_>)) -> u64 {
        let Some(table) = self.tables.get(usize::from(db)) else {
            return 0;
        };
        table.scan(cursor, |handle| {
            if !self.is_void(handle) {
                visit(Entry::new(handle));
            }
        })
    }

    /// Calls `visit` with every item of a database, expired ones included.
    pub fn for_each(&self, db: u16, mut visit: impl FnMut(Entry<'_>)) {
        if let Some(table) = self.tables.get(usize::from(db)) {
            table.for_each(|handle| {
                if !self.is_void(handle) {
                    visit(Entry::new(handle));
                }
            });
        }
    }

    /// Calls `visit` with the items of a bucket that `random` chooses.
    pub fn sample(&self, db: u16, random: u64, mut visit: impl FnMut(Entry<'_>)) {
        if let Some(table) = self.tables.get(usize::from(db)) {
            table.sample(random, |handle| {
                if !self.is_void(handle) {
                    visit(Entry::new(handle));
                }
            });
        }
    }

    /// Removes all items of a database. What is returned holds them: to drop it frees them.
    pub fn clear(&mut self, db: u16, now_ms: u64) -> Garbage {
        let Some(table) = self.tables.get_mut(usize::from(db)) else {
            return Garbage::default();
        };
        let table = table.take();
        if self.len() == 0 {
            return self.clear_lists(vec![table], now_ms);
        }
        let mut freed = 0;
        table.for_each(|handle| {
            self.unlist(handle);
            freed += handle.charge() + self.chains.take(handle.chain()).len() * LINK_BYTES;
        });
        self.unpay(freed);
        Garbage::new(vec![table])
    }

    /// Removes all items. What is returned holds them: to drop it frees them.
    pub fn clear_all(&mut self, now_ms: u64) -> Garbage {
        let tables = self.tables.iter_mut().map(Table::take).collect();
        self.clear_lists(tables, now_ms)
    }

    /// With no item left in the tables, empties all lists at once.
    fn clear_lists(&mut self, tables: Vec<Table>, now_ms: u64) -> Garbage {
        self.wheel = Wheel::new(now_ms);
        self.window = Window::default();
        self.chains = Chains::default();
        self.forget_uses();
        self.unpay(self.bytes);
        Garbage::new(tables)
    }

    /// Whether a write that may cost this much is paid for.
    #[must_use]
    pub fn has_credit(&self, bytes: usize) -> bool {
        self.credit >= bytes
    }

    /// The policy in force.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// How often a key was used, as the policy counts: Redis's counter, or TinyLFU's.
    #[must_use]
    pub fn frequency(&self, entry_clock: u32, hash: u64, now_ms: u64) -> u8 {
        if self.tuning.policy.is_lfu() {
            self.tuning.decayed(entry_clock, now_ms)
        } else {
            self.sketch.frequency(hash)
        }
    }

    /// Asks the processor for what a look-up of this key reads first.
    pub(super) fn announce(&self, db: u16, hash: u64) -> Option<Announced> {
        self.sketch.prefetch(hash);
        self.tables.get(usize::from(db))?.announce(hash)
    }

    /// What the items and what belongs to them cost, in bytes.
    #[must_use]
    pub fn items_bytes(&self) -> usize {
        self.bytes
    }

    /// Items evicted and items expired so far.
    #[must_use]
    pub fn departures(&self) -> (u64, u64) {
        (self.evicted, self.expired)
    }

    /// Bytes of the lists, which items pay for by their share.
    #[must_use]
    pub fn lists_bytes(&self) -> usize {
        self.tables.iter().map(Table::heap_bytes).sum::<usize>() + self.window.heap_bytes()
    }

    /// Takes an item out of everything and gives its memory back.
    pub(super) fn take_out(&mut self, db: u16, hash: u64, handle: Handle) {
        let hasher = &self.hasher;
        self.tables[usize::from(db)].remove(hash, handle, |key| hasher.hash_one(key));
        self.unlist(handle);
        self.leave_tags(handle);
        let charge = handle.charge();
        self.unpay(charge);
        handle.free();
    }

    /// The hash by which a key is stored.
    #[must_use]
    pub fn hash_of(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Forgets how often keys were used, and who was to be evicted next.
    pub(super) fn forget_uses(&mut self) {
        let freed = self.sketch.heap_bytes() + std::mem::take(&mut self.saved);
        self.unpay(freed);
        self.sketch.clear(&self.times);
        self.directory.set_counters(self.sketch.blocks());
        self.pool.clear();
    }

    /// Puts credit aside to let the sketch grow.
    pub(super) fn save(&mut self, bytes: usize) {
        self.pay(0, bytes);
        self.saved += bytes;
    }

    /// Makes the sketch large enough for one item more, of what was put aside for it.
    pub(super) fn grow_sketch(&mut self) {
        let before = self.sketch.heap_bytes();
        self.sketch.grow(self.len() + 1, &self.times);
        self.directory.set_counters(self.sketch.blocks());
        let left = (self.saved + before).saturating_sub(self.sketch.heap_bytes());
        self.saved = 0;
        self.unpay(left);
    }

    /// Lets everybody in the window go to main, and no more in.
    pub(super) fn open_window(&mut self) {
        self.window_bytes_max = 0;
        while self.window.pop().is_some() {}
    }

    /// A random number, to choose samples.
    pub(super) fn random(&mut self) -> u64 {
        xorshift(&mut self.random)
    }

    pub(super) fn find(&self, db: u16, key: Key<'_>) -> Option<Handle> {
        self.tables.get(usize::from(db))?.find(key.hash, key.bytes)
    }

    /// The same without what expired, of which nothing is left then.
    fn find_live(&mut self, db: u16, key: Key<'_>, now_ms: u64) -> Option<Handle> {
        let handle = self.find(db, key)?;
        if is_due(handle.expires_at(), now_ms) {
            self.expire(db, key.hash, handle);
            return None;
        }
        if self.is_outdated(db, key.hash, handle, now_ms) {
            if let Some(stale) = self.find(db, key) {
                self.expire(db, key.hash, stale);
            }
            return None;
        }
        Some(handle)
    }

    /// What expired goes, unless it may be served stale.
    #[cold]
    fn outlived(&mut self, db: u16, hash: u64, handle: Handle, now_ms: u64) {
        if is_due(handle.leaves_at(), now_ms) {
            self.expire(db, hash, handle);
        } else {
            self.watchers.touch(db, handle.key());
        }
    }

    pub(super) fn expire(&mut self, db: u16, hash: u64, handle: Handle) {
        self.watchers.touch(db, handle.key());
        self.take_out(db, hash, handle);
        self.expired += 1;
    }

    fn insert(&mut self, db: u16, hash: u64, handle: Handle, expires_at: u64, now_ms: u64) {
        let index = usize::from(db);
        if index >= self.tables.len() {
            self.tables.resize_with(index + 1, Table::default);
        }
        let hasher = &self.hasher;
        self.tables[index].insert(hash, handle, |key| hasher.hash_one(key));
        self.pay(0, handle.charge());
        if expires_at != 0 {
            self.start_expiry(db, handle, expires_at);
        }
        self.admit(db, handle, now_ms);
    }

    /// Puts `new` where `old` was in table and window. Neither is in the wheel.
    fn put_in_place(&mut self, db: u16, hash: u64, old: Handle, new: Handle) {
        self.relocated(db, hash, old, new, old.charge());
    }

    /// The same when `old` may be gone already and is only a name.
    fn relocated(&mut self, db: u16, hash: u64, old: Handle, new: Handle, old_charge: usize) {
        if old != new {
            self.tables[usize::from(db)].replace(hash, old, new);
        }
        if new.has(Flags::WINDOW) {
            self.window.replace(new, old_charge);
        }
        self.pay(old_charge, new.charge());
    }

    /// What cost `before` costs `after` now.
    pub(super) fn pay(&mut self, before: usize, after: usize) {
        debug_assert!(
            self.credit + before >= after,
            "writes are paid for before they happen"
        );
        self.changed = true;
        self.bytes = self.bytes + after - before;
        self.credit = (self.credit + before).saturating_sub(after);
    }

    /// What cost so much is gone.
    pub(super) fn unpay(&mut self, bytes: usize) {
        self.changed = true;
        self.bytes -= bytes;
        self.credit += bytes;
    }

    /// Notes an expiry, which the item has room for.
    pub(super) fn start_expiry(&mut self, db: u16, handle: Handle, expires_at: u64) {
        self.changed = true;
        handle.set_expires_at(expires_at);
        let leaves_at = handle.leaves_at().map_or(0, NonZeroU64::get);
        self.wheel.insert(db, handle, leaves_at);
    }

    /// Takes an item out of window and wheel.
    fn unlist(&mut self, handle: Handle) {
        self.stop_expiry(handle);
        if handle.has(Flags::WINDOW) {
            self.window.remove(handle, handle.charge());
        }
    }

    pub(super) fn stop_expiry(&mut self, handle: Handle) {
        if handle.expires_at().is_some() {
            self.changed = true;
            self.wheel.remove(handle);
        }
    }

    /// Moves an item's expiry; `is_moved`: how long it stays past that is another already.
    pub(super) fn move_deadline(
        &mut self,
        db: u16,
        handle: Handle,
        expires_at: u64,
        is_moved: bool,
    ) {
        if !is_moved && handle.expires_at().is_some_and(|at| at.get() == expires_at) {
            return;
        }
        self.stop_expiry(handle);
        self.start_expiry(db, handle, expires_at);
    }
}

/// Whether a moment has come.
#[inline]
pub(super) fn is_due(at: Option<NonZeroU64>, now_ms: u64) -> bool {
    at.is_some_and(|at| at.get() <= now_ms)
}

/// A step of xorshift64*: good enough to choose samples. The state must not be 0.
pub(super) fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

impl Drop for Shard {
    fn drop(&mut self) {
        drop(Garbage::new(std::mem::take(&mut self.tables)));
    }
}
