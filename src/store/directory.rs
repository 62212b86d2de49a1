//! Where a key's bucket lies, to be asked without the lock of its shard.
//!
//! To announce a key means to prefetch its bucket and then its item: a guess that may be wrong, and
//! that must cost less than the cache misses it hides. Two locks a command cost a tenth of a deep
//! pipeline's time. So buckets can be found and looked at without one:
//!
//! - Slots are atomics. Who holds the shard's lock changes them; who announces may see any mixture
//!   of old and new, and asks for an item's address only, which may be gone by then.
//! - Buckets come in segments that are never freed. What a table gives back, the next that grows
//!   takes. That keeps 13 bytes for each item of the time when there were most of them.
//! - A [`Directory`] lists the segments of one table. It only ever grows, in place.
#![expect(
    unsafe_code,
    reason = "segments are never freed; measured: 8 % less CPU at depth 64"
)]

use std::array;
use std::ptr::{self, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::item::prefetch;

/// Buckets are made 64 at a time: 4 KiB.
pub(super) const SEGMENT: usize = 64;
pub(super) const SLOTS: usize = 8;

/// A cache line of slots, which [`Table`](super::table::Table) gives their meaning.
#[derive(Default)]
#[repr(C, align(64))]
pub(super) struct Bucket([AtomicU64; SLOTS]);

impl Bucket {
    #[inline]
    pub(super) fn get(&self, position: usize) -> u64 {
        self.0[position].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set(&self, position: usize, slot: u64) {
        self.0[position].store(slot, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn slots(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|slot| slot.load(Ordering::Relaxed))
    }

    /// Takes all that is in it.
    pub(super) fn take(&self) -> [u64; SLOTS] {
        array::from_fn(|position| {
            let slot = self.get(position);
            self.set(position, 0);
            slot
        })
    }

    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(ptr::from_ref(self).cast());
    }
}

pub(super) type Segment = [Bucket; SEGMENT];

/// Segments that no table uses.
static UNUSED: Mutex<Vec<&'static Segment>> = Mutex::new(Vec::new());

/// An empty segment.
pub(super) fn new_segment() -> &'static Segment {
    let unused = UNUSED.lock().pop();
    let Some(segment) = unused else {
        return Box::leak(Box::new(array::from_fn(|_| Bucket::default())));
    };
    for bucket in segment {
        bucket.take();
    }
    segment
}

/// Leaves segments to the next table that grows. No slot of theirs may be in use.
pub(super) fn give_back(segments: impl IntoIterator<Item = &'static Segment>) {
    UNUSED.lock().extend(segments);
}

/// The buckets of one table and the counters of its shard, as who announces finds them.
#[derive(Default)]
pub(super) struct Directory {
    /// How many buckets there are.
    buckets: AtomicUsize,
    /// The blocks of the sketch, a power of two of them: only ever an address.
    counters: AtomicUsize,
    counter_blocks: AtomicUsize,
    /// Level n lists 2^n segments, behind those of the levels before.
    levels: [OnceLock<Box<[AtomicPtr<Segment>]>>; LEVELS],
}

impl Directory {
    /// Tells where a segment is.
    pub(super) fn put(&self, index: usize, segment: &'static Segment) {
        let (level, place) = level_of(index);
        let empty = || {
            (0..1usize << level)
                .map(|_| AtomicPtr::new(null_mut()))
                .collect()
        };
        let slots = self.levels[level].get_or_init(empty);
        slots[place].store(ptr::from_ref(segment).cast_mut(), Ordering::Release);
    }

    /// Tells how many buckets there are.
    #[inline]
    pub(super) fn set_buckets(&self, buckets: usize) {
        self.buckets.store(buckets, Ordering::Relaxed);
    }

    /// Tells where the blocks of the sketch are.
    pub(super) fn set_counters<T>(&self, blocks: &[T]) {
        self.counters
            .store(blocks.as_ptr().addr(), Ordering::Relaxed);
        self.counter_blocks.store(blocks.len(), Ordering::Relaxed);
    }

    /// The bucket of a hash, as far as is known.
    #[inline]
    pub(super) fn bucket(&self, hash: u64) -> Option<&'static Bucket> {
        let index = bucket_index(hash, self.buckets.load(Ordering::Relaxed))?;
        let (level, place) = level_of(index / SEGMENT);
        let segment = self
            .levels
            .get(level)?
            .get()?
            .get(place)?
            .load(Ordering::Acquire);
        // SAFETY: null, or what `put` stored there: a segment, which is never freed.
        let segment: &'static Segment = unsafe { segment.as_ref() }?;
        Some(&segment[index % SEGMENT])
    }

    /// Asks the processor for the counters of a hash.
    #[inline]
    pub(super) fn prefetch_counters(&self, hash: u64) {
        let blocks = self.counter_blocks.load(Ordering::Relaxed);
        if blocks > 0 {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the mask keeps the low bits"
            )]
            let index = hash as usize & (blocks - 1);
            let first = self.counters.load(Ordering::Relaxed);
            prefetch(ptr::without_provenance(first + index * size_of::<Bucket>()));
        }
    }
}

/// The bucket of a hash among so many: by one bit more where the bucket is already split.
#[inline]
pub(super) fn bucket_index(hash: u64, buckets: usize) -> Option<usize> {
    let base = 1 << buckets.checked_ilog2()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the mask keeps the low bits"
    )]
    let index = hash as usize & (2 * base - 1);
    Some(if index < buckets { index } else { index - base })
}

/// In which level a segment is listed, and where there.
#[inline]
fn level_of(segment: usize) -> (usize, usize) {
    let level = (segment + 1).ilog2();
    (level as usize, segment + 1 - (1 << level))
}

/// Enough for 2^38 items in a shard.
const LEVELS: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_is_found_where_it_was_put() {
        let directory = Directory::default();
        assert!(directory.bucket(7).is_none(), "there is none yet");
        let segments: Vec<_> = (0..20).map(|_| new_segment()).collect();
        for (index, segment) in segments.iter().enumerate() {
            directory.put(index, segment);
        }
        for buckets in [1, 2, 63, 64, 65, 1000, 20 * SEGMENT] {
            directory.set_buckets(buckets);
            for index in 0..buckets {
                let found = directory.bucket(index as u64);
                let expected = &segments[index / SEGMENT][index % SEGMENT];
                assert!(
                    found.is_some_and(|found| ptr::eq(found, expected)),
                    "{index}"
                );
            }
        }
        give_back(segments);
    }

    #[test]
    fn a_segment_is_empty_when_it_is_used_again() {
        let segment = new_segment();
        segment[5].set(3, 42);
        give_back([segment]);
        let again: Vec<_> = (0..100).map(|_| new_segment()).collect();
        let mut slots = again
            .iter()
            .flat_map(|segment| segment.iter())
            .flat_map(Bucket::slots);
        assert!(slots.all(|slot| slot == 0));
        give_back(again);
    }
}
