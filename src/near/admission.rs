//! Whether what is read for the first time is stored.
//!
//! To store a reply costs a second request to upstream, for how long its value lives, and memory;
//! it pays when the copy is read again. Where copies hardly ever are (a scan, an export, keys
//! that are written more often than read), the room becomes *picky*: a first read is only noted,
//! and the second one is stored. What it is at any time follows from what came of the last reads:
//!
//! - benefit: hits, reads that joined another, and reads of a key that is noted and not here,
//!   which had been a hit or had joined if the first one had been stored;
//! - cost: replies stored, and replies not stored for being the first.
//!
//! Keys are noted in a *doorkeeper* (Einziger, Friedman and Manes, "TinyLFU", 2017), in both
//! regimes, so that there is something to go by when it becomes picky: a Bloom filter of two bits
//! a key, both in one word. It never has more than a quarter of its bits set: one that is set
//! beyond that clears the next word in turn, so a note lasts while so many other keys are noted,
//! and nothing ever stops to clear them all. What voids a key clears its note: a copy would be
//! gone, too. (While all is stored, only if a copy was there: a write of a key that nobody reads
//! does not pay for it.)
//!
//! One in sixteen keys that are not noted is taken for one that is. That is too few to pass for
//! benefit, and enough that a cache of more keys than can be noted fills up all the same.
//!
//! Nothing is unsafe whatever is here: all of it is relaxed, and no hit comes by.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use super::stats::Stats;
use super::sync::{IS_SIMULATED, Mutex};
use crate::store::item::prefetch;

/// Bytes of the cache for which there is a bit.
const BYTES_PER_BIT: usize = 64;
/// Fewest bits, and most: 8 KiB and 2 MiB.
const BITS_MIN: usize = if IS_SIMULATED { 64 } else { 1 << 16 };
const BITS_MAX: usize = if IS_SIMULATED { 64 } else { 1 << 24 };
/// Reads that a regime is judged by, at least.
pub(super) const READS_MIN: u64 = 4096;
/// Picky from where the benefit is less than this part of the cost.
const PICKY_BELOW: u64 = 4;
/// Eager again from where it is more than this part.
const EAGER_ABOVE: u64 = 2;

/// What was read lately, and what is made of it.
#[derive(Debug)]
pub(super) struct Admission {
    words: Box<[AtomicU64]>,
    /// Bits that are set, a few more or less while they change.
    ones: AtomicI64,
    /// Words cleared in turn, ever.
    cleared: AtomicUsize,
    is_picky: AtomicBool,
    /// What was counted when the regime was judged last.
    judged: Mutex<Balance>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    benefit: u64,
    cost: u64,
}

impl Admission {
    /// For a cache of so many bytes at most; 0: without bound.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = if bytes_max == 0 {
            usize::MAX
        } else {
            bytes_max
        };
        let bits = (bytes_max / BYTES_PER_BIT).clamp(BITS_MIN, BITS_MAX);
        let bits = 1 << bits.ilog2();
        let words: Box<[_]> = (0..bits / 64).map(|_| AtomicU64::new(0)).collect();
        Self {
            words,
            ones: AtomicI64::new(0),
            cleared: AtomicUsize::new(0),
            is_picky: AtomicBool::new(false),
            judged: Mutex::new(Balance::default()),
        }
    }

    pub(super) fn is_picky(&self) -> bool {
        self.is_picky.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn set_picky(&self, is_picky: bool) {
        self.is_picky.store(is_picky, Ordering::Relaxed);
    }

    /// Notes a key that is not here. Whether it was noted before.
    pub(super) fn note(&self, hash: u64) -> bool {
        let (word, bits) = self.at(hash);
        let added = bits & !word.fetch_or(bits, Ordering::Relaxed);
        if added == 0 {
            return true;
        }
        let added = i64::from(added.count_ones());
        let ones = self.ones.fetch_add(added, Ordering::Relaxed) + added;
        if ones > self.ones_max() {
            let turn = self.cleared.fetch_add(1, Ordering::Relaxed);
            let word = &self.words[turn & (self.words.len() - 1)];
            let ones = word.swap(0, Ordering::Relaxed).count_ones();
            self.ones.fetch_sub(ones.into(), Ordering::Relaxed);
        }
        false
    }

    /// Asks the processor for where a key is noted.
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(ptr::from_ref(self.at(hash).0).cast());
    }

    /// Whether a key is noted.
    pub(super) fn is_noted(&self, hash: u64) -> bool {
        let (word, bits) = self.at(hash);
        bits & !word.load(Ordering::Relaxed) == 0
    }

    /// The key was voided.
    pub(super) fn forget(&self, hash: u64) {
        if self.is_noted(hash) {
            let (word, bits) = self.at(hash);
            let cleared = bits & word.fetch_and(!bits, Ordering::Relaxed);
            let cleared = i64::from(cleared.count_ones());
            self.ones.fetch_sub(cleared, Ordering::Relaxed);
        }
    }

    /// Judges the regime by what was counted since the last time, if that says enough.
    pub(super) fn judge(&self, counted: &Stats) {
        let now = Balance {
            benefit: counted.hits + counted.joined + counted.second_reads,
            cost: counted.fills + counted.passed_over,
        };
        let mut judged = self.judged.lock();
        let benefit = now.benefit.saturating_sub(judged.benefit);
        let cost = now.cost.saturating_sub(judged.cost);
        if benefit + cost < READS_MIN {
            return;
        }
        *judged = now;
        drop(judged);
        let is_picky = if self.is_picky() {
            benefit <= cost / EAGER_ABOVE
        } else {
            benefit < cost / PICKY_BELOW
        };
        self.is_picky.store(is_picky, Ordering::Relaxed);
    }

    fn ones_max(&self) -> i64 {
        i64::try_from(self.words.len() * 64 / 4).unwrap_or(i64::MAX)
    }

    /// The word of a key, and its bits there.
    fn at(&self, hash: u64) -> (&AtomicU64, u64) {
        // The store and the stripes choose by the hash itself.
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let index = usize::try_from(mixed >> 32).unwrap_or(0) & (self.words.len() - 1);
        let (first, more) = (mixed >> 20 & 63, mixed >> 26 & 63);
        let second = (first + 1 + more % 63) & 63;
        (&self.words[index], 1 << first | 1 << second)
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    /// As a hash.
    fn scattered(number: u64) -> u64 {
        let mixed = number.wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    #[test]
    fn there_is_a_bit_for_some_bytes_of_the_cache_within_limits() {
        let bits = |bytes_max| Admission::new(bytes_max).words.len() * 64;
        assert_eq!(bits(64 << 20), 1 << 20);
        assert_eq!(bits(100 << 20), 1 << 20, "a power of two");
        assert_eq!(bits(1), BITS_MIN);
        assert_eq!(bits(64 * BITS_MIN), BITS_MIN);
        assert_eq!(bits(64 * BITS_MAX), BITS_MAX);
        assert_eq!(bits(256 * BITS_MAX), BITS_MAX);
        assert_eq!(bits(0), BITS_MAX, "without bound");
    }

    #[test]
    fn a_note_lasts_while_an_eighth_of_the_bits_is_set_anew_and_ends() {
        let admission = Admission::new(1);
        let bits = BITS_MIN as u64;
        let mut known = 0;
        for number in 0..4 * bits {
            let is_known = admission.note(scattered(number));
            known += u64::from(is_known && number >= bits);
            if number % 1024 == 0 {
                let words = admission.words.iter();
                let ones: u32 = words
                    .map(|word| word.load(Ordering::Relaxed).count_ones())
                    .sum();
                assert_eq!(i64::from(ones), admission.ones.load(Ordering::Relaxed));
                assert!(i64::from(ones) <= admission.ones_max());
            }
        }
        let ends = 4 * bits;
        let lasting =
            (ends - bits / 16..ends).filter(|number| admission.is_noted(scattered(*number)));
        assert!(lasting.count() as u64 > bits / 16 * 3 / 4);
        let old = (0..bits).filter(|number| admission.is_noted(scattered(*number)));
        // No more than of keys that were never noted.
        assert!((old.count() as u64) < bits / 12);
        assert!(known < 3 * bits / 12, "{known} of {}", 3 * bits);
        assert!(known > 3 * bits / 24, "{known} of {}", 3 * bits);
    }

    #[test]
    fn what_is_forgotten_is_noted_no_more() {
        let admission = Admission::new(1);
        assert!(!admission.note(7));
        assert!(admission.is_noted(7));
        admission.forget(7);
        admission.forget(8);
        assert_eq!(admission.ones.load(Ordering::Relaxed), 0);
        assert!(!admission.note(7));
    }
}
