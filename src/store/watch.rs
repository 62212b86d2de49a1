//! Who wants to know that a key changed: the optimistic locks of `WATCH`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once a watched key was touched; shared by a client and the shards of its keys.
pub type Dirty = Arc<AtomicBool>;

/// The watched keys of one shard.
#[derive(Default)]
pub struct Watchers {
    keys: HashMap<(u16, Box<[u8]>), Vec<Dirty>>,
}

impl Watchers {
    /// From now on, tells `dirty` when the key changes.
    pub fn add(&mut self, db: u16, key: &[u8], dirty: &Dirty) {
        let watching = self.keys.entry((db, key.into())).or_default();
        if !watching.iter().any(|other| Arc::ptr_eq(other, dirty)) {
            watching.push(Arc::clone(dirty));
        }
    }

    /// Tells `dirty` no more.
    pub fn remove(&mut self, db: u16, key: &[u8], dirty: &Dirty) {
        let place = (db, key.into());
        if let Some(watching) = self.keys.get_mut(&place) {
            watching.retain(|other| !Arc::ptr_eq(other, dirty));
            if watching.is_empty() {
                self.keys.remove(&place);
            }
        }
    }

    /// Tells all who watch the key.
    #[inline]
    pub fn touch(&self, db: u16, key: &[u8]) {
        if !self.keys.is_empty()
            && let Some(watching) = self.keys.get(&(db, key.into()))
        {
            set(watching);
        }
    }

    /// Tells all who watch a key of this database of which `changed` is true.
    pub fn touch_where(&self, db: u16, mut changed: impl FnMut(&[u8]) -> bool) {
        for ((watched_db, key), watching) in &self.keys {
            if *watched_db == db && changed(key) {
                set(watching);
            }
        }
    }

    /// Lets those who watch keys of one database watch the other's, and the other way round: a
    /// client watches a database by its number, whichever tables stand behind it.
    pub fn swap(&mut self, first: u16, second: u16) {
        let keys = std::mem::take(&mut self.keys);
        self.keys
            .extend(keys.into_iter().map(|((db, key), watching)| match db {
                db if db == first => ((second, key), watching),
                db if db == second => ((first, key), watching),
                db => ((db, key), watching),
            }));
    }

    /// Whether nobody watches any key here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn set(watching: &[Dirty]) {
    for dirty in watching {
        dirty.store(true, Ordering::Release);
    }
}
