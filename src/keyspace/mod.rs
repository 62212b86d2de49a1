//! Our own values: databases of keys, as the commands of one request see them.
//!
//! A [`View`] is what a handler works on: the shards of its command's keys, locked, at one moment.
//! Every look-up and write goes through it, so that hits and misses are counted, expired keys are
//! not there, watchers are told, and every write is paid for before it happens.

pub mod dump;
mod lzf;
mod tagged;
#[cfg(test)]
mod tests;

use std::num::NonZeroU64;

use crate::store::{
    Change, Entry, Extras, Full, Garbage, Key, LINK_BYTES, Link, Loaded, Locked, Refusal, Shard,
    Write, charge, charge_max,
};
pub use tagged::{NotStored, TAG_BYTES_MAX, TAGS_PER_KEY_MAX};

/// The keys of one command, or of one transaction.
pub struct View<'a> {
    locked: Locked<'a>,
    /// Unix time in ms; one moment for all of the command.
    now_ms: u64,
    /// Reads that found their key, and reads that did not.
    hits: u64,
    misses: u64,
    /// Keys changed.
    changes: u64,
}

/// A key in a database.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// As `SELECT` numbers them.
    pub db: u16,
    /// The key and its hash.
    pub key: Key<'a>,
}

impl<'a> View<'a> {
    /// The view of these shards at this moment.
    #[must_use]
    pub fn new(locked: Locked<'a>, now_ms: u64) -> Self {
        Self {
            locked,
            now_ms,
            hits: 0,
            misses: 0,
            changes: 0,
        }
    }

    /// Unix time in ms.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Takes what was counted: hits, misses, and keys changed.
    pub fn take_counts(&mut self) -> (u64, u64, u64) {
        let taken = (self.hits, self.misses, self.changes);
        (self.hits, self.misses, self.changes) = (0, 0, 0);
        taken
    }

    /// The locks themselves.
    pub fn locked(&mut self) -> &mut Locked<'a> {
        &mut self.locked
    }

    /// Reads a key: counts as a use of it, and as a hit or a miss.
    #[inline]
    pub fn read(&mut self, place: Place<'_>) -> Option<Entry<'_>> {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let found = self.locked.shard(place.key.hash).get(db, place.key, now_ms);
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    /// Looks at a key: a hit or a miss, but no use of it.
    pub fn look(&mut self, place: Place<'_>) -> Option<Entry<'_>> {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let found = self
            .locked
            .shard(place.key.hash)
            .peek(db, place.key, now_ms);
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    /// What is left of a key that expired, for as long as it may be served stale; nothing is
    /// counted.
    pub fn peek_stale(&mut self, place: Place<'_>) -> Option<Entry<'_>> {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        self.locked
            .shard(place.key.hash)
            .peek_stale(db, place.key, now_ms)
    }

    /// Counts a hit or a miss that was found some other way.
    pub fn count_read(&mut self, is_hit: bool) {
        if is_hit {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
    }

    /// Finds a key to change it: counts as a use of it, but as no hit or miss.
    pub fn find(&mut self, place: Place<'_>) -> Option<Entry<'_>> {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        self.locked.shard(place.key.hash).get(db, place.key, now_ms)
    }

    /// Looks at a key before a write; nothing is counted.
    #[inline]
    pub fn peek(&mut self, place: Place<'_>) -> Option<Entry<'_>> {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        self.locked
            .shard(place.key.hash)
            .peek(db, place.key, now_ms)
    }

    /// Whether the key is there; nothing is counted.
    pub fn contains(&mut self, place: Place<'_>) -> bool {
        self.peek(place).is_some()
    }

    /// How long the key's value is, and when it expires, if it is there; nothing is counted.
    pub fn shape(&mut self, place: Place<'_>) -> Option<(usize, Option<NonZeroU64>)> {
        self.peek(place)
            .map(|entry| (entry.value().len(), entry.expires_at()))
    }

    /// Pays for several calls of [`Self::set`] without an expiry before the first of them, given
    /// the lengths of the values.
    ///
    /// # Errors
    /// When memory is full and nobody may be evicted; then none is paid for.
    pub fn reserve_all<'k, I>(&mut self, writes: impl Fn() -> I) -> Result<(), Full>
    where
        I: Iterator<Item = (Place<'k>, usize)>,
    {
        let costs = writes().map(|(place, len)| charge(place.key, len, Extras::default()));
        let total = costs.fold(0, usize::saturating_add);
        let mut places = writes().map(|(place, _)| place);
        if places.all(|place| self.locked.shard(place.key.hash).has_credit(total)) {
            return Ok(());
        }
        let now_ms = self.now_ms;
        let missing = |locked: &mut Locked<'_>, add: &mut dyn FnMut(u64, usize)| {
            for (place, len) in writes() {
                let cost = charge(place.key, len, Extras::default());
                add(place.key.hash, missing(locked, place, now_ms, |_| cost).1);
            }
        };
        self.locked.reserve_all(missing, now_ms)
    }

    /// Stores a string, with this expiry or none.
    ///
    /// # Errors
    /// When memory is full and nobody may be evicted.
    #[inline]
    pub fn set(
        &mut self,
        place: Place<'_>,
        value: &[u8],
        expires_at: Option<NonZeroU64>,
    ) -> Result<(), Full> {
        let write = Write {
            value,
            expires_at,
            loaded: None,
            ..Write::default()
        };
        self.write(place, write)
    }

    /// As [`Self::set`], where more is known of the value.
    ///
    /// # Errors
    /// When memory is full and nobody may be evicted.
    #[inline]
    pub fn write(&mut self, place: Place<'_>, write: Write<'_>) -> Result<(), Full> {
        let mut extras = write.extras();
        extras.loaded |= write.keeps_tags;
        let cost = charge(place.key, write.value.len(), extras);
        if !self.locked.shard(place.key.hash).has_credit(cost) {
            self.pay_for(place, |_| cost)?;
        }
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let shard = self.locked.shard(place.key.hash);
        shard.set(db, place.key, write, now_ms);
        self.written(place);
        Ok(())
    }

    /// A key has another value.
    #[inline]
    fn written(&mut self, place: Place<'_>) {
        if let Some(observer) = self.locked.observer() {
            self.tag_by_rule(place, observer);
        }
        let db = self.locked.physical(place.db);
        self.locked.tell(db, place.key, Change::Written);
        self.changes += 1;
    }

    /// Changes a value in place and keeps its expiry; a key that is not there comes to be.
    ///
    /// `len_of` tells from the present length how long the value is to be; `write` gets the value
    /// at that length, what is new being zero, and the length before, and tells whether who watches
    /// the key is to know. To make room may evict the very key, so a length that was seen before
    /// may not hold: hence the two functions.
    ///
    /// # Errors
    /// When memory is full and nobody may be evicted.
    pub fn update(
        &mut self,
        place: Place<'_>,
        len_of: impl Fn(usize) -> usize,
        write: impl FnOnce(&mut [u8], usize) -> bool,
    ) -> Result<(), Full> {
        let old_len = self.pay_for(place, |old_len| charge_max(place.key, len_of(old_len)))?;
        let len = len_of(old_len);
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let shard = self.locked.shard(place.key.hash);
        if write(shard.resize(db, place.key, len, now_ms), old_len) {
            self.written(place);
        }
        Ok(())
    }

    /// Pays for a key to cost what `cost` tells from the present length of its value. What it
    /// costs already is not paid again. Returns the present length, 0 if there is no such key.
    fn pay_for(&mut self, place: Place<'_>, cost: impl Fn(usize) -> usize) -> Result<usize, Full> {
        loop {
            let (old_len, missing) = missing(&mut self.locked, place, self.now_ms, &cost);
            if self.locked.shard(place.key.hash).has_credit(missing) {
                return Ok(old_len);
            }
            // Whoever has to go for this may be the key itself: then its length is another.
            self.locked.reserve(place.key.hash, missing, self.now_ms)?;
        }
    }

    /// The same for a write that is never refused: it may go beyond the bound.
    fn pay_beyond(&mut self, place: Place<'_>, cost: usize) {
        loop {
            let (_, missing) = missing(&mut self.locked, place, self.now_ms, |_| cost);
            if self.locked.shard(place.key.hash).has_credit(missing) {
                return;
            }
            self.locked
                .reserve_beyond(place.key.hash, missing, self.now_ms);
        }
    }

    /// Stores under `to` what is under `from`, its expiry included. What was under `to` is gone.
    /// False if there is nothing under `from`.
    ///
    /// # Errors
    /// When memory is full and nobody may be evicted, or there are as many tags as there can be;
    /// then nothing has changed.
    pub fn copy(&mut self, from: Place<'_>, to: Place<'_>) -> Result<bool, Full> {
        let Some(content) = self.content(from) else {
            return Ok(false);
        };
        // Before it is paid for, which may evict the very key that is copied.
        let links = match self.links_like(from, to) {
            Ok(links) => links,
            Err(Refusal::Outdated) => return Ok(false),
            Err(Refusal::TooMany) => return Err(Full),
        };
        let tags = links.len() * LINK_BYTES;
        let paid = self.pay_for(to, |_| charge_max(to.key, content.value.len()) + tags);
        if let Err(full) = paid {
            self.unlink(&links);
            return Err(full);
        }
        self.put(to, &content, &links);
        Ok(true)
    }

    /// As [`Self::copy`], and nothing is left under `from`, which is another place than `to`. How
    /// often it was used goes with it.
    ///
    /// Never fails: what is removed pays for what is stored, and what a longer name costs beyond
    /// that may go beyond the bound, as in Redis.
    pub fn relocate(&mut self, from: Place<'_>, to: Place<'_>) -> bool {
        let Some(content) = self.content(from) else {
            return false;
        };
        let (db, now_ms) = (self.locked.physical(from.db), self.now_ms);
        let shard = self.locked.shard(from.key.hash);
        let count = shard
            .peek(db, from.key, now_ms)
            .map(|entry| entry.clock())
            .map(|clock| shard.frequency(clock, from.key.hash, now_ms));
        // It stays where it is rather than go where its tags cannot.
        let Ok(links) = self.links_like(from, to) else {
            return false;
        };
        let tags = links.len() * LINK_BYTES;
        self.remove(from);
        self.locked.give_back(from.key.hash);
        self.pay_beyond(to, charge_max(to.key, content.value.len()) + tags);
        self.put(to, &content, &links);
        self.set_frequency(to, count);
        true
    }

    fn content(&mut self, place: Place<'_>) -> Option<Content> {
        self.peek(place).map(|entry| Content {
            value: entry.value().to_vec(),
            expires_at: entry.expires_at(),
            loaded: entry.loaded(),
            is_grown: entry.is_grown(),
        })
    }

    /// Stores what has been paid for.
    fn put(&mut self, place: Place<'_>, content: &Content, links: &[Link]) {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let shard = self.locked.shard(place.key.hash);
        let Content {
            value,
            expires_at,
            loaded,
            is_grown,
        } = content;
        if *is_grown {
            shard.remove(db, place.key, now_ms);
            shard
                .resize(db, place.key, value.len(), now_ms)
                .copy_from_slice(value);
            shard.set_expiry(db, place.key, *expires_at);
        } else {
            shard.set(
                db,
                place.key,
                Write {
                    value,
                    expires_at: *expires_at,
                    loaded: *loaded,
                    ..Write::default()
                },
                now_ms,
            );
        }
        self.attach(place, links);
        self.written(place);
    }

    /// Removes a key. Whether it was there.
    pub fn remove(&mut self, place: Place<'_>) -> bool {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let shard = self.locked.shard(place.key.hash);
        let removed = shard.remove(db, place.key, now_ms);
        if removed {
            self.locked.tell(db, place.key, Change::Removed);
            self.changes += 1;
        } else {
            // A load may be under way, of a value from before.
            self.locked.tell_observer(db, place.key, Change::Removed);
        }
        removed
    }

    /// Lets a key expire just now: it may be served stale where a rule allows that, else it is
    /// gone, as by [`Self::remove`]. Whether it was there.
    pub fn soften(&mut self, place: Place<'_>) -> bool {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let shard = self.locked.shard(place.key.hash);
        let was_there = shard.soften_key(db, place.key, now_ms);
        // A load may be under way, of a value from before.
        self.locked.tell_observer(db, place.key, Change::Removed);
        self.changes += u64::from(was_there);
        was_there
    }

    /// Sets when a key expires, or that it does not. A moment that has passed removes it.
    ///
    /// Never fails: the few bytes of a first expiry may go beyond the bound, as in Redis.
    pub fn set_expiry(&mut self, place: Place<'_>, expires_at: Option<NonZeroU64>) {
        let Some((len, present_expiry)) = self.shape(place) else {
            return;
        };
        if expires_at.is_some_and(|at| at.get() <= self.now_ms) {
            self.remove(place);
            return;
        }
        if present_expiry.is_none() && expires_at.is_some() {
            self.pay_beyond(place, charge_max(place.key, len));
        }
        let db = self.locked.physical(place.db);
        let shard = self.locked.shard(place.key.hash);
        // To pay for it may have evicted the very key.
        if shard.set_expiry(db, place.key, expires_at) {
            shard.watchers.touch(db, place.key.bytes);
            self.changes += 1;
        }
    }

    /// Notes a use of a key that was only looked at.
    pub fn touch(&mut self, place: Place<'_>) -> bool {
        self.read(place).is_some()
    }

    /// Notes that a key was last used at an earlier moment, where the policy goes by that.
    pub fn set_last_use(&mut self, place: Place<'_>, at_ms: u64) {
        let db = self.locked.physical(place.db);
        let shard = self.locked.shard(place.key.hash);
        if !shard.tuning().policy.is_lfu() {
            shard.get(db, place.key, at_ms);
        }
    }

    /// Sets how often a key is said to have been used, where the policy goes by Redis's counter;
    /// without a number, as often as a new key.
    pub fn set_frequency(&mut self, place: Place<'_>, count: Option<u8>) {
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let shard = self.locked.shard(place.key.hash);
        shard.set_frequency(db, place.key, count, now_ms);
    }

    /// Number of keys in a database, expired ones that are still there included (as in Redis).
    pub fn len(&mut self, db: u16) -> usize {
        let physical = self.locked.physical(db);
        self.sum(|shard| shard.database_len(physical))
    }

    /// Whether a database has no key.
    pub fn is_empty(&mut self, db: u16) -> bool {
        self.len(db) == 0
    }

    /// Adds up something over all shards.
    pub fn sum(&mut self, mut count: impl FnMut(&Shard) -> usize) -> usize {
        (0..self.locked.store().shards())
            .map(|index| self.locked.with_shard(index, |shard| count(shard)))
            .sum()
    }

    /// Calls `visit` with each live key of a database, shard by shard.
    pub fn for_each(&mut self, db: u16, mut visit: impl FnMut(&Entry<'_>)) {
        let (physical, now_ms) = (self.locked.physical(db), self.now_ms);
        for index in 0..self.locked.store().shards() {
            self.locked.with_shard(index, |shard| {
                shard.for_each(physical, |entry| {
                    if entry.is_live(now_ms) {
                        visit(&entry);
                    }
                });
            });
        }
    }

    /// Calls `visit` with the live keys of some buckets, until about `count` were seen; returns the
    /// cursor to go on with, 0 at the end.
    ///
    /// The guarantee is Redis's: a key that is there from the first call to the last is visited.
    /// The low bits of a cursor are the shard, the high ones the place in its table.
    pub fn scan(
        &mut self,
        db: u16,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(&Entry<'_>),
    ) -> u64 {
        let (physical, now_ms) = (self.locked.physical(db), self.now_ms);
        let shards = self.locked.store().shards() as u64;
        let mut index = usize::try_from(cursor % shards).unwrap_or(0);
        let mut place = cursor / shards;
        let (mut seen, mut buckets) = (0, 0);
        while seen < count && buckets < count.saturating_mul(EMPTY_BUCKETS_PER_KEY) {
            place = self.locked.with_shard(index, |shard| {
                shard.scan(physical, place, |entry| {
                    seen += 1;
                    if entry.is_live(now_ms) {
                        visit(&entry);
                    }
                })
            });
            buckets += 1;
            if place == 0 {
                index += 1;
                if index as u64 == shards {
                    return 0;
                }
            }
        }
        place * shards + index as u64
    }

    /// A live key of a database, by chance.
    pub fn random_key(&mut self, db: u16) -> Option<Vec<u8>> {
        let (physical, now_ms) = (self.locked.physical(db), self.now_ms);
        let shards = self.locked.store().shards();
        for _ in 0..RANDOM_KEY_TRIES {
            let total = self.len(db);
            if total == 0 {
                return None;
            }
            let mut nth = rand::random_range(0..total);
            for index in 0..shards {
                let len = self
                    .locked
                    .with_shard(index, |shard| shard.database_len(physical));
                if nth >= len {
                    nth -= len;
                    continue;
                }
                let found = self.locked.with_shard(index, |shard| {
                    let mut keys = Vec::new();
                    shard.sample(physical, rand::random(), |entry| {
                        if entry.is_live(now_ms) {
                            keys.push(entry.key().to_vec());
                        }
                    });
                    (!keys.is_empty()).then(|| keys.swap_remove(rand::random_range(0..keys.len())))
                });
                if found.is_some() {
                    return found;
                }
                break;
            }
        }
        // Chance found only empty buckets and expired keys: the first live one, if there is any.
        let mut first = None;
        self.for_each(db, |entry| {
            if first.is_none() {
                first = Some(entry.key().to_vec());
            }
        });
        first
    }

    /// Removes all keys of a database, or of all. To drop what is returned frees their memory.
    /// All shards must be locked.
    pub fn clear(&mut self, db: Option<u16>) -> Garbage {
        debug_assert!(
            self.locked.is_all(),
            "nobody may see a half-emptied database"
        );
        let databases = self.locked.store().databases();
        let cleared: Vec<u16> = match db {
            Some(db) => vec![self.locked.physical(db)],
            None => (0..databases).collect(),
        };
        cleared.iter().for_each(|&db| self.locked.tell_all(db));
        let now_ms = self.now_ms;
        let mut garbage = Garbage::default();
        for index in 0..self.locked.store().shards() {
            self.locked.with_shard(index, |shard| {
                for &physical in &cleared {
                    touch_watchers(shard, physical, physical, now_ms);
                }
                garbage.append(match db {
                    Some(_) => shard.clear(cleared[0], now_ms),
                    None => shard.clear_all(now_ms),
                });
            });
        }
        garbage.forget_tags(self.locked.store().tags(), |db| cleared.contains(&db));
        garbage
    }

    /// Exchanges the keys of two databases. All shards must be locked.
    pub fn swap(&mut self, first: u16, second: u16) {
        let (one, other) = (self.locked.physical(first), self.locked.physical(second));
        self.locked.tell_all(one);
        self.locked.tell_all(other);
        let now_ms = self.now_ms;
        for index in 0..self.locked.store().shards() {
            self.locked.with_shard(index, |shard| {
                touch_watchers(shard, one, other, now_ms);
                touch_watchers(shard, other, one, now_ms);
                shard.watchers.swap(one, other);
            });
        }
        self.locked.swap_databases(first, second);
    }
}

/// How long the value of a key is, and what is missing to what `cost` tells from that.
fn missing(
    locked: &mut Locked<'_>,
    place: Place<'_>,
    now_ms: u64,
    cost: impl Fn(usize) -> usize,
) -> (usize, usize) {
    let db = locked.physical(place.db);
    let found = locked
        .shard(place.key.hash)
        .peek(db, place.key, now_ms)
        .map(|entry| (entry.value().len(), entry.charge()));
    let (old_len, paid) = found.unwrap_or((0, 0));
    (old_len, cost(old_len).saturating_sub(paid))
}

/// A key's value, copied.
struct Content {
    value: Vec<u8>,
    expires_at: Option<NonZeroU64>,
    loaded: Option<Loaded>,
    is_grown: bool,
}

/// Tells who watches a key of `db` that is there, or comes to be there from `other`.
fn touch_watchers(shard: &mut Shard, db: u16, other: u16, now_ms: u64) {
    if shard.watchers.is_empty() {
        return;
    }
    let watchers = std::mem::take(&mut shard.watchers);
    watchers.touch_where(db, |key| {
        let key = Key {
            bytes: key,
            hash: shard.hash_of(key),
        };
        shard.peek(db, key, now_ms).is_some() || shard.peek(other, key, now_ms).is_some()
    });
    shard.watchers = watchers;
}

/// How often RANDOMKEY draws before it takes the first key that is there.
const RANDOM_KEY_TRIES: usize = 100;
/// SCAN passes this many empty buckets for each key that it was asked to return, as Redis does.
const EMPTY_BUCKETS_PER_KEY: usize = 10;
