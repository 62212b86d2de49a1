//! What all shards of a store count together: the order of insertions, and the age of the counts.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Small shards evict as one, so they must agree on which item is older and how much a count says.
/// Only they write here often; a large shard tells of many uses at once.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(in crate::store) struct Times {
    /// Insertions into small shards.
    stamps: AtomicU32,
    /// How often all counts were halved.
    age: AtomicU32,
    /// Uses counted since, and half of those before.
    uses: AtomicUsize,
    /// Keys that all sketches together are made for.
    keys: AtomicUsize,
}

impl Times {
    /// The time in insertions.
    pub(super) fn stamp(&self) -> u32 {
        self.stamps.load(Ordering::Relaxed)
    }

    /// The same, one later for everybody.
    pub(super) fn next_stamp(&self) -> u32 {
        self.stamps.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn age(&self) -> u32 {
        self.age.load(Ordering::Relaxed)
    }

    /// All grow older after so many uses per key.
    pub(super) fn add_uses(&self, added: usize) {
        let uses = self.uses.fetch_add(added, Ordering::Relaxed) + added;
        let is_time = uses >= self.keys.load(Ordering::Relaxed) * USES_PER_KEY_UNTIL_HALVED;
        let relaxed = Ordering::Relaxed;
        if is_time
            && self
                .uses
                .compare_exchange(uses, uses / 2, relaxed, relaxed)
                .is_ok()
        {
            self.age.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn add_keys(&self, added: usize) {
        self.keys.fetch_add(added, Ordering::Relaxed);
    }

    pub(super) fn remove_keys(&self, removed: usize) {
        self.keys.fetch_sub(removed, Ordering::Relaxed);
    }
}

/// Less forgets what loops bring back, more what was hot yesterday: 10 and 40 lose half a point.
pub(super) const USES_PER_KEY_UNTIL_HALVED: usize = 20;
