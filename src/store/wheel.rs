//! Which items expire when: a hierarchical timing wheel, so that expired items go at once.
//!
//! An item that may be served stale past its expiry goes when that is over.
//!
//! Six levels of 64 buckets; a bucket of level n is 64^(n+1) ms wide, so the first covers 4 s
//! and the last a century. An item stands in one bucket and knows its place in it: to take it out
//! or to move it is O(1), and nothing of a deleted item stays behind. Source: Varghese and Lauck,
//! "Hashed and Hierarchical Timing Wheels", SOSP 1987.

use super::item::Handle;

const LEVELS: usize = 6;
const BUCKETS: usize = 64;
const BUCKET_BITS: u32 = 6;
/// Width of a bucket of the first level: how late an item may go that nobody asks for.
const TICK_MS: u64 = 64;
const DB_SHIFT: u32 = 48;

pub(super) struct Wheel {
    /// Allocated a level at a time: an item's handle and, above it, its database.
    levels: [Option<Box<[Vec<u64>; BUCKETS]>>; LEVELS],
    occupied: [u64; LEVELS],
    /// All buckets before this tick are empty.
    tick: u64,
    len: usize,
    /// Items by database.
    by_db: Vec<usize>,
}

impl Wheel {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            levels: [const { None }; LEVELS],
            occupied: [0; LEVELS],
            tick: now_ms / TICK_MS,
            len: 0,
            by_db: Vec::new(),
        }
    }

    /// Items that have an expiry.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Items of a database that have an expiry.
    pub(super) fn database_len(&self, db: u16) -> usize {
        self.by_db.get(usize::from(db)).copied().unwrap_or(0)
    }

    pub(super) fn insert(&mut self, db: u16, handle: Handle, at_ms: u64) {
        // Rounded up: when its bucket is due, so is the item.
        let tick = (at_ms.div_ceil(TICK_MS)).max(self.tick);
        let (level, bucket) = self.position(tick);
        let list = &mut self.level(level)[bucket];
        let index = u32::try_from(list.len()).expect("fewer items than 2^32 in a shard");
        list.push(handle.to_bits() | u64::from(db) << DB_SHIFT);
        self.occupied[level] |= 1 << bucket;
        self.count(db, true);
        let place = u16::try_from(level * BUCKETS + bucket).expect("6 × 64");
        handle.set_wheel_place(place, index);
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        let Some((place, index)) = handle.wheel_place() else {
            return;
        };
        let (level, bucket) = (usize::from(place) / BUCKETS, usize::from(place) % BUCKETS);
        let list = &mut self.level(level)[bucket];
        let removed = list.swap_remove(index as usize);
        if let Some(moved) = list
            .get(index as usize)
            .copied()
            .and_then(Handle::from_bits)
        {
            moved.set_wheel_place(place, index);
        }
        self.count(u16::try_from(removed >> DB_SHIFT).expect("16 bits"), false);
        self.tidy(level, bucket);
    }

    /// Puts `new` where `old` was; `new` already knows its place.
    pub(super) fn replace(&mut self, new: Handle) {
        let Some((place, index)) = new.wheel_place() else {
            return;
        };
        let (level, bucket) = (usize::from(place) / BUCKETS, usize::from(place) % BUCKETS);
        let entry = &mut self.level(level)[bucket][index as usize];
        *entry = *entry >> DB_SHIFT << DB_SHIFT | new.to_bits();
    }

    /// The next item that is due, with its database. It stays in the wheel: the caller removes it.
    ///
    /// Moves items down a level where time has come nearer. `budget` bounds how many, and what
    /// is left of it is for the caller; at 0 there may be more to do.
    pub(super) fn due(&mut self, now_ms: u64, budget: &mut usize) -> Option<(u16, Handle)> {
        let now = now_ms / TICK_MS;
        while let Some((level, bucket, start)) = self.next_bucket() {
            if start > now {
                break;
            }
            if *budget == 0 {
                return None;
            }
            self.tick = self.tick.max(start);
            if level == 0 {
                *budget -= 1;
                return self.level(0)[bucket].last().copied().and_then(split);
            }
            self.move_down(level, bucket, budget);
        }
        self.tick = self.tick.max(now);
        None
    }

    /// Moves items of a bucket whose time has begun to the levels below.
    fn move_down(&mut self, level: usize, bucket: usize, budget: &mut usize) {
        while *budget > 0 {
            let Some(entry) = self.level(level)[bucket].pop() else {
                break;
            };
            *budget -= 1;
            if let Some((db, handle)) = split(entry) {
                self.count(db, false);
                self.insert(db, handle, handle.leaves_at().map_or(0, |at| at.get()));
            }
        }
        self.tidy(level, bucket);
    }

    /// An item among those that expire first.
    pub(super) fn soonest(&mut self) -> Option<(u16, Handle)> {
        let (level, bucket, _) = self.next_bucket()?;
        let list = &self.level(level)[bucket];
        // Within the bucket the order is not kept: the least of a few.
        let few = list
            .iter()
            .rev()
            .take(SOONEST_SAMPLES)
            .copied()
            .filter_map(split);
        few.min_by_key(|(_, handle)| handle.expires_at())
    }

    /// Any item, chosen by `random`; every one with the same chance.
    pub(super) fn random(&mut self, random: u64) -> Option<(u16, Handle)> {
        let mut index = usize::try_from(random % self.len.max(1) as u64).ok()?;
        for level in 0..LEVELS {
            let mut occupied = self.occupied[level];
            while occupied != 0 {
                let bucket = occupied.trailing_zeros() as usize;
                occupied &= occupied - 1;
                let list = &self.level(level)[bucket];
                if let Some(&entry) = list.get(index) {
                    return split(entry);
                }
                index -= list.len();
            }
        }
        None
    }

    /// The occupied bucket that comes first, and the tick at which it is due.
    fn next_bucket(&self) -> Option<(usize, usize, u64)> {
        let mut first: Option<(usize, usize, u64)> = None;
        for level in 0..LEVELS {
            if self.occupied[level] == 0 {
                continue;
            }
            let shift = BUCKET_BITS * u32::try_from(level).unwrap_or(0);
            let now = u32::try_from(self.tick >> shift & (BUCKETS as u64 - 1)).unwrap_or(0);
            let ahead = self.occupied[level].rotate_right(now).trailing_zeros();
            let start = ((self.tick >> shift) + u64::from(ahead)) << shift;
            let start = start.max(self.tick);
            // At the same time the higher level goes first: its items belong into the lower.
            if first.is_none_or(|(_, _, earliest)| start <= earliest) {
                first = Some((level, (now + ahead) as usize % BUCKETS, start));
            }
        }
        first
    }

    /// The level whose buckets tell `tick` and now apart, and the bucket there.
    fn position(&self, tick: u64) -> (usize, usize) {
        let differing = (tick ^ self.tick) | (BUCKETS as u64 - 1);
        let level = (63 - differing.leading_zeros()) / BUCKET_BITS;
        let level = (level as usize).min(LEVELS - 1);
        let shift = BUCKET_BITS * u32::try_from(level).unwrap_or(0);
        // Beyond the last level's span: its last bucket before now; it is put off again from there.
        let span = 1u64 << (shift + BUCKET_BITS);
        let tick = tick.min(self.tick + span - (1 << shift));
        #[expect(clippy::cast_possible_truncation, reason = "below BUCKETS")]
        let bucket = (tick >> shift) as usize % BUCKETS;
        (level, bucket)
    }

    fn count(&mut self, db: u16, added: bool) {
        let index = usize::from(db);
        if index >= self.by_db.len() {
            self.by_db.resize(index + 1, 0);
        }
        if added {
            self.len += 1;
            self.by_db[index] += 1;
        } else {
            self.len -= 1;
            self.by_db[index] -= 1;
        }
    }

    fn level(&mut self, level: usize) -> &mut [Vec<u64>; BUCKETS] {
        self.levels[level].get_or_insert_with(|| Box::new([const { Vec::new() }; BUCKETS]))
    }

    fn tidy(&mut self, level: usize, bucket: usize) {
        let list = &mut self.level(level)[bucket];
        if list.is_empty() {
            *list = Vec::new();
            self.occupied[level] &= !(1 << bucket);
        } else if list.capacity() > 64 && list.len() < list.capacity() / 4 {
            list.shrink_to(list.len() * 2);
        }
    }
}

fn split(entry: u64) -> Option<(u16, Handle)> {
    let db = u16::try_from(entry >> DB_SHIFT).ok()?;
    Handle::from_bits(entry).map(|handle| (db, handle))
}

/// How many of the first bucket's items are compared for the one that expires first.
const SOONEST_SAMPLES: usize = 16;
