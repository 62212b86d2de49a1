//! Gives back the memory of copies that a flush voided, a few buckets at a time.

use crate::store::Store;

use super::variants;

/// Buckets of a table that one slice goes through, under one lock.
const BUCKETS_PER_SLICE: usize = 64;

/// Where it has come to. After a flush it goes once round all shards, from where it stands.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    shards_left: usize,
    shard: usize,
    db: u16,
    cursor: u64,
}

impl Reclaim {
    /// There was a flush. The shard in which it stands is gone through once more.
    pub(super) fn restart(&mut self, store: &Store) {
        self.shards_left = store.shards();
        (self.db, self.cursor) = (0, 0);
    }

    /// Removes what is not of this epoch from the next few buckets of one shard. True when there is
    /// no shard left.
    pub(super) fn slice(&mut self, store: &Store, epoch: u32, now_ms: u64) -> bool {
        if self.shards_left == 0 {
            return true;
        }
        let mut locked = store.lock_index(self.shard);
        locked.with_shard(self.shard, |shard| {
            let mut void: Vec<Vec<u8>> = Vec::new();
            for _ in 0..BUCKETS_PER_SLICE {
                while self.db < store.databases() && shard.database_len(self.db) == 0 {
                    (self.db, self.cursor) = (self.db + 1, 0);
                }
                if self.db == store.databases() {
                    self.next_shard(store);
                    return;
                }
                self.cursor = shard.scan(self.db, self.cursor, |entry| {
                    // The newest is the first: if it is void, all are.
                    let newest = variants::all(entry.value()).next();
                    if newest.is_none_or(|variant| variant.terms.stamp.epoch != epoch) {
                        void.push(entry.key().to_vec());
                    }
                });
                for bytes in void.drain(..) {
                    let hash = store.hash(&bytes);
                    let key = crate::store::Key {
                        bytes: &bytes,
                        hash,
                    };
                    shard.remove(self.db, key, now_ms);
                }
                if self.cursor == 0 {
                    self.db += 1;
                }
            }
        });
        self.shards_left == 0
    }

    fn next_shard(&mut self, store: &Store) {
        self.shard = (self.shard + 1) % store.shards();
        (self.db, self.cursor) = (0, 0);
        self.shards_left -= 1;
    }
}
