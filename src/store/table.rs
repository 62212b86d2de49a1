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

use std::sync::Arc;

use super::directory::{
    Bucket, Directory, SEGMENT, SLOTS, Segment, bucket_index, give_back, new_segment,
};
use super::item::Handle;

/// Average number of items in a bucket of eight.
pub(super) const ITEMS_PER_BUCKET: usize = 5;

/// Below this many items in a bucket on average, the table gives buckets back.
const ITEMS_PER_BUCKET_MIN: usize = 2;

const LAST: usize = SLOTS - 1;
const TAG_SHIFT: u32 = 48;
/// A slot is 0 if it is empty. Its lowest bit is 0 for a tag and a handle; it is 1, in the last
/// slot only, for the index of an overflow bucket, shifted left by one.
const LINK: u64 = 1;

#[derive(Default)]
pub(super) struct Table {
    segments: Vec<&'static Segment>,
    buckets: usize,
    overflow: Vec<Bucket>,
    overflow_free: Vec<u32>,
    /// What is moved at the moment; empty otherwise.
    moving: Vec<u64>,
    len: usize,
    /// Where the buckets are told to those who announce.
    directory: Option<Arc<Directory>>,
}

/// A bucket of which an item is to be looked for.
#[derive(Clone, Copy)]
pub struct Announced {
    bucket: &'static Bucket,
    tag: u64,
}

impl Announced {
    /// For a hash whose bucket this is; asks for the bucket.
    #[inline]
    pub(super) fn new(bucket: &'static Bucket, hash: u64) -> Self {
        bucket.prefetch();
        Self {
            bucket,
            tag: tag(hash),
        }
    }

    /// Asks the processor for the items in the bucket that may be the one.
    #[inline]
    pub fn prefetch_item(self) {
        for slot in self.bucket.slots() {
            if slot >> TAG_SHIFT == self.tag
                && slot & LINK == 0
                && let Some(handle) = Handle::from_bits(slot)
            {
                handle.prefetch();
            }
        }
    }
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
            for slot in bucket.slots() {
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

    /// The bucket of this hash, which is asked for.
    #[inline]
    pub(super) fn announce(&self, hash: u64) -> Option<Announced> {
        let index = bucket_index(hash, self.buckets)?;
        let bucket = &self.segments[index / SEGMENT][index % SEGMENT];
        Some(Announced::new(bucket, hash))
    }

    /// From now on, tells this directory where the buckets are.
    pub(super) fn tell(&mut self, directory: &Arc<Directory>) {
        debug_assert!(self.buckets == 0, "told from the first bucket on");
        directory.set_buckets(0);
        self.directory = Some(Arc::clone(directory));
    }

    /// Leaves an empty table behind, which tells the same directory.
    pub(super) fn take(&mut self) -> Self {
        let directory = self.directory.take();
        let taken = std::mem::take(self);
        if let Some(directory) = directory {
            self.tell(&directory);
        }
        taken
    }

    /// Adds an item whose key is not there yet.
    pub(super) fn insert(&mut self, hash: u64, handle: Handle, hash_of: impl Fn(&[u8]) -> u64) {
        if self.buckets == 0 {
            self.add_segment();
            self.set_buckets(1);
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
        self.bucket(at).set(position, slot(hash, new));
    }

    /// Takes out an item, which must be there.
    pub(super) fn remove(&mut self, hash: u64, handle: Handle, hash_of: impl Fn(&[u8]) -> u64) {
        let (at, position) = self.locate(hash, handle).expect("the item is in its table");
        self.bucket(at).set(position, 0);
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
                for slot in bucket.slots() {
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
            for slot in bucket.slots() {
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

    /// The index of the bucket of a hash; there must be one.
    #[inline]
    fn index(&self, hash: u64) -> usize {
        bucket_index(hash, self.buckets).unwrap_or(0)
    }

    #[inline]
    fn bucket(&self, at: At) -> &Bucket {
        match at {
            At::Main(index) => &self.segments[index / SEGMENT][index % SEGMENT],
            At::Overflow(index) => &self.overflow[index],
        }
    }

    fn locate(&self, hash: u64, handle: Handle) -> Option<(At, usize)> {
        let wanted = slot(hash, handle);
        let mut at = At::Main(self.index(hash));
        loop {
            let bucket = self.bucket(at);
            if let Some(position) = bucket.slots().position(|slot| slot == wanted) {
                return Some((at, position));
            }
            at = next(bucket)?;
        }
    }

    /// Puts a slot into the first room of a chain, lengthening it if there is none.
    fn put(&mut self, mut at: At, slot: u64) {
        loop {
            let bucket = self.bucket(at);
            if let Some(empty) = bucket.slots().position(|slot| slot == 0) {
                bucket.set(empty, slot);
                return;
            }
            if let Some(after) = next(bucket) {
                at = after;
                continue;
            }
            let index = self.new_overflow();
            let bucket = self.bucket(at);
            let displaced = bucket.get(LAST);
            bucket.set(LAST, (index as u64) << 1 | LINK);
            self.overflow[index].set(0, displaced);
            self.overflow[index].set(1, slot);
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
        let end = &self.overflow[index];
        if last != at
            && let Some(filled) = end.slots().position(|slot| slot != 0)
        {
            self.bucket(at).set(position, end.get(filled));
            end.set(filled, 0);
        }
        if end.slots().all(|slot| slot == 0) {
            self.bucket(before).set(LAST, 0);
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
            self.overflow[index as usize] = Bucket::default();
            return index as usize;
        }
        self.overflow.push(Bucket::default());
        self.overflow.len() - 1
    }

    /// Takes all slots out of a chain, to `moving`, and frees its overflow buckets.
    fn drain_chain(&mut self, index: usize) {
        let mut at = At::Main(index);
        loop {
            let slots = self.bucket(at).take();
            let items = slots.iter().filter(|&&slot| slot != 0 && slot & LINK == 0);
            self.moving.extend(items);
            let after = next_of(slots[LAST]);
            if let At::Overflow(index) = at {
                self.free_overflow(index);
            }
            let Some(after) = after else { return };
            at = after;
        }
    }

    fn add_segment(&mut self) {
        let segment = new_segment();
        if let Some(directory) = &self.directory {
            directory.put(self.segments.len(), segment);
        }
        self.segments.push(segment);
    }

    fn set_buckets(&mut self, buckets: usize) {
        self.buckets = buckets;
        if let Some(directory) = &self.directory {
            directory.set_buckets(buckets);
        }
    }

    /// Adds one bucket and moves to it what belongs there.
    fn split(&mut self, hash_of: impl Fn(&[u8]) -> u64) {
        let added = self.buckets;
        if added.is_multiple_of(SEGMENT) {
            self.add_segment();
        }
        self.drain_chain(added - self.base());
        self.set_buckets(added + 1);
        self.put_moving(hash_of);
    }

    /// Takes the last bucket away and moves what it held to where it came from.
    fn merge(&mut self, hash_of: impl Fn(&[u8]) -> u64) {
        self.drain_chain(self.buckets - 1);
        self.set_buckets(self.buckets - 1);
        self.put_moving(hash_of);
        if self.buckets.is_multiple_of(SEGMENT) {
            give_back(self.segments.drain(self.buckets / SEGMENT..));
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

impl Drop for Table {
    fn drop(&mut self) {
        give_back(self.segments.drain(..));
    }
}

fn next(bucket: &Bucket) -> Option<At> {
    next_of(bucket.get(LAST))
}

fn next_of(last: u64) -> Option<At> {
    (last & LINK != 0).then_some(At::Overflow((last >> 1) as usize))
}

fn slot(hash: u64, handle: Handle) -> u64 {
    tag(hash) << TAG_SHIFT | handle.to_bits()
}

/// 16 bits that take no part in choosing the bucket or the shard.
fn tag(hash: u64) -> u64 {
    (hash >> 40) & 0xffff
}
