//! Shards that are locked: what a command works on.

use std::sync::atomic::Ordering;

use parking_lot::{MutexGuard, RwLockReadGuard};

use super::entry::Key;
use super::observer::{Change, Observer};
use super::shard::Shard;
use super::{Announced, Full, Store};

pub(super) enum Guards<'a> {
    One(usize, MutexGuard<'a, Shard>),
    /// By index.
    Many(Vec<(usize, MutexGuard<'a, Shard>)>),
}

impl<'a> Guards<'a> {
    /// The shard of this index, if it is among them.
    #[inline]
    pub(super) fn find(&mut self, index: usize) -> Option<&mut Shard> {
        match self {
            Self::One(locked, shard) => (*locked == index).then_some(&mut **shard),
            Self::Many(guards) => {
                let position = guards
                    .binary_search_by_key(&index, |(locked, _)| *locked)
                    .ok()?;
                Some(&mut guards[position].1)
            }
        }
    }

    /// The same, to read.
    fn peek(&self, index: usize) -> Option<&Shard> {
        match self {
            Self::One(locked, shard) => (*locked == index).then_some(&**shard),
            Self::Many(guards) => {
                let position = guards
                    .binary_search_by_key(&index, |(locked, _)| *locked)
                    .ok()?;
                Some(&guards[position].1)
            }
        }
    }

    /// All of them, in order of their index.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Shard)> {
        let (one, many) = match self {
            Self::One(index, shard) => (Some((*index, &mut **shard)), &mut [][..]),
            Self::Many(guards) => (None, &mut guards[..]),
        };
        one.into_iter()
            .chain(many.iter_mut().map(|(index, shard)| (*index, &mut **shard)))
    }
}

/// Shards that are locked, until it is dropped.
pub struct Locked<'a> {
    pub(super) store: &'a Store,
    pub(super) guards: Guards<'a>,
    /// Keeps tags from being invalidated, where what is seen of several keys must be of one moment.
    pub(super) _gate: Option<RwLockReadGuard<'a, ()>>,
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
                debug_assert_eq!(index, *locked, "{OWN_KEYS}");
                shard
            }
            many @ Guards::Many(_) => many.find(index).expect(OWN_KEYS),
        }
    }

    /// Sees to it that a write to this key is paid for, by eviction if need be.
    ///
    /// # Errors
    /// [`Full`], if it cannot be; nothing has changed then but for what was evicted.
    #[inline]
    pub fn reserve(&mut self, hash: u64, bytes: usize, now_ms: u64) -> Result<(), Full> {
        let index = self.store.shard_of(hash);
        if self.shard(hash).has_credit(bytes) {
            return Ok(());
        }
        self.store.reserve(&mut self.guards, index, bytes, now_ms)
    }

    /// The same for a write that is never refused, as it adds little or nothing: what there is no
    /// room for goes beyond the bound, until the next write that may be refused makes up for it.
    pub fn reserve_beyond(&mut self, hash: u64, bytes: usize, now_ms: u64) {
        let index = self.store.shard_of(hash);
        if !self.shard(hash).has_credit(bytes) {
            self.store
                .reserve_beyond(&mut self.guards, index, bytes, now_ms);
        }
    }

    /// Leaves what the shard of this key has left over to all.
    pub fn give_back(&mut self, hash: u64) {
        let left_over = std::mem::take(&mut self.shard(hash).credit);
        self.store.budget.give(left_over);
    }

    /// Sees to it that all writes of a command are paid for before the first of them.
    ///
    /// `missing` tells for each of them its key's hash and the bytes that it costs beyond what the
    /// key costs now. It is asked again after somebody was evicted, who may be one of the keys.
    ///
    /// # Errors
    /// [`Full`], if they cannot be; nothing has changed then but for what was evicted.
    pub fn reserve_all(
        &mut self,
        mut missing: impl FnMut(&mut Self, &mut dyn FnMut(u64, usize)),
        now_ms: u64,
    ) -> Result<(), Full> {
        let store = self.store;
        let mut pledged = vec![0; store.shards()];
        let paid = loop {
            let mut wanted = vec![0usize; store.shards()];
            missing(self, &mut |hash, bytes| {
                let wanted = &mut wanted[store.shard_of(hash)];
                *wanted = wanted.saturating_add(bytes);
            });
            match store.pledge(&mut self.guards, &mut pledged, &wanted, now_ms) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(full) => break Err(full),
            }
        };
        for (index, shard) in self.guards.iter_mut() {
            shard.credit += pledged[index];
        }
        paid
    }

    /// As [`Store::announce`], for keys whose shards are locked.
    pub fn announce(&self, db: u16, hashes: &[u64]) {
        let db = self.physical(db);
        let announced = |&hash: &u64| {
            let shard = self.guards.peek(self.store.shard_of(hash))?;
            shard.announce(db, hash)
        };
        let announced: Vec<Announced> = hashes.iter().filter_map(announced).collect();
        announced.into_iter().for_each(Announced::prefetch_item);
    }

    /// Tells who watches a key, whose shard must be locked, that it changed.
    #[inline]
    pub fn tell(&mut self, db: u16, key: Key<'_>, change: Change) {
        self.shard(key.hash).watchers.touch(db, key.bytes);
        self.tell_observer(db, key, change);
    }

    /// Who is told of changes, if anybody is.
    #[inline]
    #[must_use]
    pub fn observer(&self) -> Option<&'a dyn Observer> {
        self.store.observer()
    }

    /// Tells only the observer, of what no client can see.
    #[inline]
    pub fn tell_observer(&self, db: u16, key: Key<'_>, change: Change) {
        if let Some(observer) = self.store.observer() {
            observer.changed(db, key.bytes, change);
        }
    }

    /// Tells the observer that all keys of a database changed. All shards must be locked.
    pub fn tell_all(&self, db: u16) {
        debug_assert!(self.is_all(), "of a key whose shard is not locked");
        if let Some(observer) = self.store.observer() {
            observer.all_changed(db);
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
    /// Either no shard is locked before, or this one is: to lock one more would break the order.
    pub fn with_shard<R>(&mut self, index: usize, visit: impl FnOnce(&mut Shard) -> R) -> R {
        if let Some(shard) = self.guards.find(index) {
            return visit(shard);
        }
        assert!(self.is_none(), "all shards are locked, or none");
        let mut one = self.store.lock_index(index);
        visit(one.shard_at(index))
    }

    /// The same for the shard of a key.
    pub fn with_shard_of<R>(&mut self, hash: u64, visit: impl FnOnce(&mut Shard) -> R) -> R {
        self.with_shard(self.store.shard_of(hash), visit)
    }

    fn shard_at(&mut self, index: usize) -> &mut Shard {
        self.guards.find(index).expect("just locked")
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
        match &mut self.guards {
            Guards::One(index, shard) => self.store.settle(*index, shard),
            Guards::Many(guards) => {
                for (index, shard) in guards {
                    self.store.settle(*index, shard);
                }
            }
        }
    }
}

const OWN_KEYS: &str = "a handler uses the keys of its command only";
