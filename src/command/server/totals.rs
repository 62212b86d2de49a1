//! Sums over the whole store, under whatever locks a command holds.

use crate::instance::Instance;
use crate::keyspace::View;
use crate::metrics::Departures;
use crate::store::Shard;

/// What the store holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// What all items and their tags cost, in bytes.
    pub(crate) items_bytes: usize,
    /// The part of it that tables and queues take.
    pub(crate) lists_bytes: usize,
    pub(crate) departures: Departures,
    /// By the database's number.
    pub(crate) databases: Vec<Database>,
}

/// What a database holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Database {
    pub(crate) keys: usize,
    /// Keys that expire.
    pub(crate) volatile: usize,
    /// Of those that were looked at: how many, and the time until they expire, in ms.
    sampled: u64,
    sampled_ms: u64,
}

impl Totals {
    /// Adds up all shards, one after the other unless all are locked.
    pub(crate) fn of(instance: &Instance, view: &mut View<'_>) -> Self {
        let now_ms = view.now_ms();
        let numbers = 0..view.locked().store().databases();
        let physical: Vec<u16> = numbers.map(|db| view.locked().physical(db)).collect();
        let mut sum = Self {
            databases: vec![Database::default(); physical.len()],
            ..Self::default()
        };
        for_each_shard(view, |shard| {
            sum.items_bytes += shard.items_bytes();
            sum.lists_bytes += shard.lists_bytes();
            add_departures(&mut sum.departures, shard);
            for (database, &physical) in sum.databases.iter_mut().zip(&physical) {
                database.add(shard, physical, now_ms);
            }
        });
        sum.items_bytes += instance.store.tags().bytes();
        add_copies(&mut sum.departures, instance);
        sum
    }

    /// Keys in all databases.
    pub(super) fn keys(&self) -> usize {
        self.databases.iter().map(|database| database.keys).sum()
    }
}

impl Database {
    /// The mean time until its keys expire, in ms: an estimate.
    pub(super) fn ttl_ms(&self) -> u64 {
        self.sampled_ms.checked_div(self.sampled).unwrap_or(0)
    }

    fn add(&mut self, shard: &Shard, physical: u16, now_ms: u64) {
        self.keys += shard.database_len(physical);
        let volatile = shard.volatile_len(physical);
        self.volatile += volatile;
        if volatile == 0 {
            return;
        }
        // One bucket of each shard, a few keys.
        shard.sample(physical, rand::random(), |entry| {
            if let Some(at) = entry.expires_at() {
                self.sampled += 1;
                let left_ms = at.get().saturating_sub(now_ms);
                self.sampled_ms = self.sampled_ms.saturating_add(left_ms);
            }
        });
    }
}

/// How many items have left the store so far.
pub(super) fn departures(instance: &Instance, view: &mut View<'_>) -> Departures {
    let mut sum = Departures::default();
    for_each_shard(view, |shard| add_departures(&mut sum, shard));
    add_copies(&mut sum, instance);
    sum
}

/// A near cache counts hits and misses itself.
fn add_copies(sum: &mut Departures, instance: &Instance) {
    if let Some(front) = instance.front() {
        (sum.near_hits, sum.near_misses) = front.counted();
    }
}

fn add_departures(sum: &mut Departures, shard: &Shard) {
    let (evicted, expired) = shard.departures();
    sum.evicted += evicted;
    sum.expired += expired;
}

fn for_each_shard(view: &mut View<'_>, mut visit: impl FnMut(&Shard)) {
    let locked = view.locked();
    for index in 0..locked.store().shards() {
        locked.with_shard(index, |shard| visit(shard));
    }
}
