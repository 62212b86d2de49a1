//! The hash table of one database in one shard: linear hashing over cache-line buckets.
//!
//! A bucket is 64 bytes: eight slots of a 16-bit tag and a 48-bit pointer, so a look-up costs one
//! cache miss for the bucket and one for the item, and a tag keeps other items' misses away. What
//! does not fit goes to an overflow bucket, which the last slot links to.
//!
//! The table grows and shrinks by one bucket at a time (Litwin, "Linear Hashing", VLDB 1980):
//! bucket n is split off from bucket n − 2^k. So there is no pause for rehashing, no moment with
//! two tables, and memory per item is the same at every size. And since a bucket only ever splits
//! into itself and itself + 2^k, Redis's reverse-binary SCAN cursor keeps its guarantee: what is
//! there from the first call to the last is returned.

use super::item::{Handle, prefetch};

/// Average number of items in a bucket of eight.
pub(super) const ITEMS_PER_BUCKET: usize = 5;

/// Below this many items in a bucket on average, the table gives buckets back.
const ITEMS_PER_BUCKET_MIN: usize = 2;

const SLOTS: usize = 8;
const LAST: usize = SLOTS - 1;
/// Buckets are allocated 64 at a time: 4 KiB.
const SEGMENT: usize = 64;
const TAG_SHIFT: u32 = 48;
const LINK: u64 = 1;

/// 0: empty. Lowest bit 0: tag and handle. Lowest bit 1, in the last slot only: the index of an
/// overflow bucket, shifted left by one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket([u64; SLOTS]);

const EMPTY: Bucket = Bucket([0; SLOTS]);

#[derive(Default)]
pub(super) struct Table {
    segments: Vec<Box<[Bucket; SEGMENT]>>,
    buckets: usize,
    overflow: Vec<Bucket>,
    overflow_free: Vec<u32>,
    /// What is moved at the moment; empty otherwise.
    moving: Vec<u64>,
    len: usize,
}

/// One slot, by its bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Main(usize),
    Overflow(usize),
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the buckets themselves.
    pub(super) fn heap_bytes(&self) -> usize {
        (self.segments.len() * SEGMENT + self.overflow.capacity()) * size_of::<Bucket>()
            + self.overflow_free.capacity() * 4
            + self.moving.capacity() * 8
            + self.segments.capacity() * 8
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Handle> {
        if self.buckets == 0 {
            return None;
        }
        let tag = tag(hash);
        let mut bucket = self.bucket(At::Main(self.index(hash)));
        loop {
            for &slot in &bucket.0 {
                if slot >> TAG_SHIFT == tag
                    && slot & LINK == 0
                    && let Some(handle) = Handle::from_bits(slot)
                    && handle.key() == key
                {
                    return Some(handle);
                }
            }
            bucket = self.bucket(next(bucket)?);
        }
    }

    /// Asks for the bucket of this hash.
    #[inline]
    pub(super) fn prefetch_bucket(&self, hash: u64) {
        if self.buckets > 0 {
            prefetch(std::ptr::from_ref(self.bucket(At::Main(self.index(hash)))).cast());
        }
    }

    /// Asks for the items in the bucket of this hash that may be the one.
    #[inline]
    pub(super) fn prefetch_item(&self, hash: u64) {
        if self.buckets == 0 {
            return;
        }
        let tag = tag(hash);
        for &slot in &self.bucket(At::Main(self.index(hash))).0 {
            if slot >> TAG_SHIFT == tag
                && slot & LINK == 0
                && let Some(handle) = Handle::from_bits(slot)
            {
                handle.prefetch();
            }
        }
    }

    /// Adds an item whose key is not there yet.
    pub(super) fn insert(&mut self, hash: u64, handle: Handle, hash_of: impl Fn(&[u8]) -> u64) {
        if self.buckets == 0 {
            self.segments.push(Box::new([EMPTY; SEGMENT]));
            self.buckets = 1;
        } else if self.len >= self.buckets * ITEMS_PER_BUCKET {
            self.split(hash_of);
        }
        let index = self.index(hash);
        self.put(At::Main(index), slot(hash, handle));
        self.len += 1;
    }

    /// Puts `new` where `old` was. `old` must be there.
    pub(super) fn replace(&mut self, hash: u64, old: Handle, new: Handle) {
        let (at, position) = self.locate(hash, old).expect("the item is in its table");
        self.bucket_mut(at).0[position] = slot(hash, new);
    }

    /// Takes out an item, which must be there.
    pub(super) fn remove(&mut self, hash: u64, handle: Handle, hash_of: impl Fn(&[u8]) -> u64) {
        let (at, position) = self.locate(hash, handle).expect("the item is in its table");
        self.bucket_mut(at).0[position] = 0;
        self.close_gap(At::Main(self.index(hash)), at, position);
        self.len -= 1;
        if self.buckets > 1 && self.len < (self.buckets - 1) * ITEMS_PER_BUCKET_MIN {
            self.merge(hash_of);
        }
    }

    /// Calls `visit` with every item of the next bucket of a scan, and returns the cursor that
    /// continues it; 0 when all was visited.
    pub(super) fn scan(&self, cursor: u64, mut visit: impl FnMut(Handle)) -> u64 {
        if self.buckets == 0 {
            return 0;
        }
        let base = self.base();
        let mask = base as u64 - 1;
        let index = usize::try_from(cursor & mask).expect("below the number of buckets");
        self.visit_chain(index, &mut visit);
        if index + base < self.buckets {
            self.visit_chain(index + base, &mut visit);
        }
        // Counting up with the bits reversed: the high bits first. See dict.c's dictScan.
        ((cursor | !mask).reverse_bits().wrapping_add(1)).reverse_bits()
    }

    /// Calls `visit` with every item.
    pub(super) fn for_each(&self, mut visit: impl FnMut(Handle)) {
        for index in 0..self.buckets {
            self.visit_chain(index, &mut visit);
        }
    }

    /// Calls `visit` with every item of some bucket; `random` chooses which.
    pub(super) fn sample(&self, random: u64, mut visit: impl FnMut(Handle)) {
        if self.buckets > 0 {
            let index = usize::try_from(random % self.buckets as u64).expect("a bucket's index");
            self.visit_chain(index, &mut visit);
        }
    }

    /// The item of `hash`, if one has it that `accept` accepts.
    pub(super) fn find_by_hash(
        &self,
        hash: u64,
        mut accept: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        let mut found = None;
        if self.buckets > 0 {
            let tag = tag(hash);
            let mut bucket = self.bucket(At::Main(self.index(hash)));
            loop {
                for &slot in &bucket.0 {
                    if slot >> TAG_SHIFT == tag
                        && slot & LINK == 0
                        && let Some(handle) = Handle::from_bits(slot)
                        && accept(handle)
                    {
                        found = Some(handle);
                    }
                }
                let Some(at) = next(bucket) else { break };
                bucket = self.bucket(at);
            }
        }
        found
    }

    fn visit_chain(&self, index: usize, visit: &mut impl FnMut(Handle)) {
        let mut bucket = self.bucket(At::Main(index));
        loop {
            for &slot in &bucket.0 {
                if slot & LINK == 0
                    && let Some(handle) = Handle::from_bits(slot)
                {
                    visit(handle);
                }
            }
            let Some(at) = next(bucket) else { return };
            bucket = self.bucket(at);
        }
    }

    /// The greatest power of two that is not above the number of buckets.
    fn base(&self) -> usize {
        1 << self.buckets.ilog2()
    }

    /// The bucket of a hash: by one bit more where the bucket is already split.
    #[inline]
    fn index(&self, hash: u64) -> usize {
        let base = self.base();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the mask keeps the low bits anyway"
        )]
        let index = hash as usize & (2 * base - 1);
        if index < self.buckets {
            index
        } else {
            index - base
        }
    }

    #[inline]
    fn bucket(&self, at: At) -> &Bucket {
        match at {
            At::Main(index) => &self.segments[index / SEGMENT][index % SEGMENT],
            At::Overflow(index) => &self.overflow[index],
        }
    }

    fn bucket_mut(&mut self, at: At) -> &mut Bucket {
        match at {
            At::Main(index) => &mut self.segments[index / SEGMENT][index % SEGMENT],
            At::Overflow(index) => &mut self.overflow[index],
        }
    }

    fn locate(&self, hash: u64, handle: Handle) -> Option<(At, usize)> {
        let wanted = slot(hash, handle);
        let mut at = At::Main(self.index(hash));
        loop {
            let bucket = self.bucket(at);
            if let Some(position) = bucket.0.iter().position(|&slot| slot == wanted) {
                return Some((at, position));
            }
            at = next(bucket)?;
        }
    }

    /// Puts a slot into the first room of a chain, lengthening it if there is none.
    fn put(&mut self, mut at: At, slot: u64) {
        loop {
            let bucket = self.bucket_mut(at);
            if let Some(empty) = bucket.0.iter_mut().find(|slot| **slot == 0) {
                *empty = slot;
                return;
            }
            if let Some(after) = next(bucket) {
                at = after;
                continue;
            }
            let displaced = bucket.0[LAST];
            let index = self.new_overflow();
            self.bucket_mut(at).0[LAST] = (index as u64) << 1 | LINK;
            let added = &mut self.overflow[index].0;
            added[0] = displaced;
            added[1] = slot;
            return;
        }
    }

    /// Fills the hole at `position` from the end of its chain, and drops the last overflow bucket
    /// if that leaves it empty. So all buckets of a chain but the last are full.
    fn close_gap(&mut self, head: At, at: At, position: usize) {
        let (mut before, mut last) = (head, head);
        while let Some(after) = next(self.bucket(last)) {
            (before, last) = (last, after);
        }
        let At::Overflow(index) = last else { return };
        if last != at
            && let Some(filled) = self.overflow[index].0.iter_mut().find(|slot| **slot != 0)
        {
            let moved = std::mem::take(filled);
            self.bucket_mut(at).0[position] = moved;
        }
        if self.overflow[index].0.iter().all(|&slot| slot == 0) {
            self.bucket_mut(before).0[LAST] = 0;
            self.free_overflow(index);
        }
    }

    fn free_overflow(&mut self, index: usize) {
        self.overflow_free
            .push(u32::try_from(index).expect("made by new_overflow"));
        if self.overflow_free.len() == self.overflow.len() {
            self.overflow = Vec::new();
            self.overflow_free = Vec::new();
        }
    }

    fn new_overflow(&mut self) -> usize {
        if let Some(index) = self.overflow_free.pop() {
            self.overflow[index as usize] = EMPTY;
            return index as usize;
        }
        self.overflow.push(EMPTY);
        self.overflow.len() - 1
    }

    /// Takes all slots out of a chain, to `moving`, and frees its overflow buckets.
    fn drain_chain(&mut self, index: usize) {
        let mut at = At::Main(index);
        loop {
            let bucket = std::mem::replace(self.bucket_mut(at), EMPTY);
            self.moving.extend(
                bucket
                    .0
                    .iter()
                    .filter(|&&slot| slot != 0 && slot & LINK == 0),
            );
            let after = next(&bucket);
            if let At::Overflow(index) = at {
                self.free_overflow(index);
            }
            let Some(after) = after else { return };
            at = after;
        }
    }

    /// Adds one bucket and moves to it what belongs there.
    fn split(&mut self, hash_of: impl Fn(&[u8]) -> u64) {
        let added = self.buckets;
        if added.is_multiple_of(SEGMENT) {
            self.segments.push(Box::new([EMPTY; SEGMENT]));
        }
        self.drain_chain(added - self.base());
        self.buckets += 1;
        self.put_moving(hash_of);
    }

    /// Takes the last bucket away and moves what it held to where it came from.
    fn merge(&mut self, hash_of: impl Fn(&[u8]) -> u64) {
        self.drain_chain(self.buckets - 1);
        self.buckets -= 1;
        self.put_moving(hash_of);
        if self.buckets.is_multiple_of(SEGMENT) {
            self.segments.truncate(self.buckets / SEGMENT);
        }
    }

    fn put_moving(&mut self, hash_of: impl Fn(&[u8]) -> u64) {
        let mut moving = std::mem::take(&mut self.moving);
        for handle in moving.iter().filter_map(|&slot| Handle::from_bits(slot)) {
            handle.prefetch();
        }
        for slot in moving.drain(..) {
            if let Some(handle) = Handle::from_bits(slot) {
                let index = self.index(hash_of(handle.key()));
                self.put(At::Main(index), slot);
            }
        }
        // Its room is for the next move.
        self.moving = moving;
    }
}

fn next(bucket: &Bucket) -> Option<At> {
    let last = bucket.0[LAST];
    (last & LINK != 0).then_some(At::Overflow((last >> 1) as usize))
}

fn slot(hash: u64, handle: Handle) -> u64 {
    tag(hash) << TAG_SHIFT | handle.to_bits()
}

/// 16 bits that take no part in choosing the bucket or the shard.
fn tag(hash: u64) -> u64 {
    (hash >> 40) & 0xffff
}
