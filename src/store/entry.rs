//! What goes into the store, what is found in it, and what is left of what was.

use std::marker::PhantomData;
use std::num::NonZeroU64;

use super::eviction::idle_seconds;
use super::item::{self, Extras, Flags, Handle, Loaded};
use super::shard::Shard;
use super::table::Table;
use super::tags::{Forgotten, Tags};

/// A key and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// What the client calls it.
    pub bytes: &'a [u8],
    /// [`Store::hash`](super::Store::hash) of it.
    pub hash: u64,
}

/// What [`Shard::set`](super::Shard::set) stores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Write<'a> {
    /// The new value.
    pub value: &'a [u8],
    /// Unix time in ms at which it expires.
    pub expires_at: Option<NonZeroU64>,
    /// How the value came to be, if that is to be kept.
    pub loaded: Option<Loaded>,
    /// Whether the key stays in the tags it is in; else it leaves them.
    pub keeps_tags: bool,
}

impl Write<'_> {
    /// What its item has beside key and value.
    #[must_use]
    pub fn extras(&self) -> Extras {
        Extras {
            expiry: self.expires_at.is_some(),
            loaded: self.loaded.is_some(),
        }
    }
}

/// An item that was found; it cannot outlive the lock on its shard.
pub struct Entry<'a> {
    handle: Handle,
    shard: PhantomData<&'a mut Shard>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            shard: PhantomData,
        }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.handle.key()
    }

    /// The string.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.handle.value()
    }

    /// Unix time in ms at which it expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<NonZeroU64> {
        self.handle.expires_at()
    }

    /// How its value came to be, if that was told.
    #[inline]
    #[must_use]
    pub fn loaded(&self) -> Option<Loaded> {
        self.handle.loaded()
    }

    /// Whether it is there for a client: not yet expired.
    #[must_use]
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.expires_at().is_none_or(|at| at.get() > now_ms)
    }

    /// Whether the value was written in part since it was set (Redis's `raw` encoding).
    #[must_use]
    pub fn is_grown(&self) -> bool {
        self.handle.has(Flags::GROWN)
    }

    /// Seconds since its last use.
    #[must_use]
    pub fn idle_seconds(&self, now_ms: u64) -> u32 {
        idle_seconds(self.handle.clock(), now_ms)
    }

    /// The policy's 24 bits.
    #[must_use]
    pub fn clock(&self) -> u32 {
        self.handle.clock()
    }

    /// Bytes of memory it costs.
    #[must_use]
    pub fn charge(&self) -> usize {
        self.handle.charge()
    }
}

/// What [`Shard::set`](super::Shard::set) makes the item of a key cost, with a value of `value_len`
/// bytes.
#[inline]
#[must_use]
pub fn charge(key: Key<'_>, value_len: usize, extras: Extras) -> usize {
    item::charge(key.bytes.len(), value_len, extras)
}

/// What the item of a key costs at most, with a value of `value_len` bytes.
#[must_use]
pub fn charge_max(key: Key<'_>, value_len: usize) -> usize {
    item::charge_max(key.bytes.len(), value_len)
}

/// Items that no shard knows any more. To drop it frees them, which takes its time.
#[derive(Default)]
pub struct Garbage {
    tables: Vec<Table>,
    tags: Vec<Forgotten>,
}

impl Garbage {
    pub(super) fn new(tables: Vec<Table>) -> Self {
        Self {
            tables,
            tags: Vec::new(),
        }
    }

    /// Adds the tags of databases whose items it holds all of. All shards must be locked.
    pub fn forget_tags(&mut self, tags: &Tags, is_cleared: impl Fn(u16) -> bool) {
        self.tags.append(&mut tags.clear(is_cleared));
    }

    /// How many items it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds another's items.
    pub fn append(&mut self, mut other: Self) {
        self.tables.append(&mut other.tables);
        self.tags.append(&mut other.tags);
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        for table in &self.tables {
            table.for_each(Handle::free);
        }
    }
}
