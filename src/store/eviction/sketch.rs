//! How often keys were asked for lately: TinyLFU's count-min sketch.
//!
//! Four 4-bit counters per key, all in one 64-byte block, so an access costs one cache miss.
//! Only the smallest of the four are counted up (conservative update: Estan and Varghese, SIGCOMM
//! 2002), and all are halved after twenty times as many counts as there are keys, so that the past
//! fades. Source: Einziger, Friedman, Manes, "TinyLFU", ACM ToS 13(4), 2017.
//!
//! The sketches of all shards age together ([`Times`]): small shards compare their items with one
//! another, and a count that was just halved must not meet one that soon will be.

use super::Times;
use crate::store::item::prefetch;

/// 128 counters: 64 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([u64; 8]);

/// Counters per key: 16 bytes' worth.
const COUNTERS_PER_KEY: usize = 32;
const COUNTERS_PER_BLOCK: usize = 128;
const KEYS_PER_BLOCK: usize = COUNTERS_PER_BLOCK / COUNTERS_PER_KEY;
const COUNT_MAX: u64 = 15;
/// [`Times`] are told after a fourth as many counts as there are keys.
const TOLD_PER_KEY: usize = 4;

#[derive(Default)]
#[repr(C)]
pub(in crate::store) struct Sketch {
    /// First, as every look-up reads it. A power of two of them, or none: then nothing is counted.
    blocks: Box<[Block]>,
    /// What was counted and [`Times`] were not told of yet.
    counted: usize,
    /// How often it was halved.
    age: u32,
}

impl Sketch {
    /// Grows to this many keys; what was counted stays.
    pub(in crate::store) fn grow(&mut self, keys: usize, times: &Times) {
        let before = self.capacity();
        let wanted = keys.div_ceil(KEYS_PER_BLOCK).next_power_of_two();
        if self.blocks.is_empty() {
            self.blocks = vec![Block([0; 8]); wanted].into_boxed_slice();
        }
        if before == 0 {
            self.age = times.age();
        }
        while self.blocks.len() < wanted {
            // A block is chosen by the low bits: a key's counters are in both copies.
            self.blocks = [&self.blocks[..], &self.blocks[..]]
                .concat()
                .into_boxed_slice();
        }
        times.add_keys(self.capacity() - before);
    }

    /// Forgets everything and gives the memory back.
    pub(in crate::store) fn clear(&mut self, times: &Times) {
        times.remove_keys(self.capacity());
        *self = Self::default();
    }

    /// What a key's counters are one of: the low bits of its hash say which.
    pub(in crate::store) fn blocks(&self) -> &[impl Sized] {
        &self.blocks
    }

    /// How many keys it is made for.
    pub(in crate::store) fn capacity(&self) -> usize {
        self.blocks.len() * KEYS_PER_BLOCK
    }

    pub(in crate::store) fn heap_bytes(&self) -> usize {
        self.blocks.len() * size_of::<Block>()
    }

    /// Bytes that a sketch for this many keys takes.
    pub(in crate::store) fn bytes_for(keys: usize) -> usize {
        keys.div_ceil(KEYS_PER_BLOCK).next_power_of_two() * size_of::<Block>()
    }

    /// Counts one access.
    #[inline]
    pub(in crate::store) fn count(&mut self, hash: u64, times: &Times) {
        if self.blocks.is_empty() {
            return;
        }
        let index = self.index(hash);
        let block = &mut self.blocks[index].0;
        let least = places(hash)
            .map(|place| read(block, place))
            .into_iter()
            .min()
            .unwrap_or(0);
        if least == COUNT_MAX {
            return;
        }
        for place in places(hash) {
            if read(block, place) == least {
                block[place.0] += 1 << place.1;
            }
        }
        self.counted += 1;
        if self.counted * TOLD_PER_KEY >= self.capacity() {
            times.add_uses(std::mem::take(&mut self.counted));
            self.grow_old(times);
        }
    }

    /// Halves the counts, if it is time.
    pub(in crate::store) fn grow_old(&mut self, times: &Times) {
        let age = times.age();
        while self.age != age {
            self.age = self.age.wrapping_add(1);
            self.halve();
        }
    }

    /// Asks the processor for the counters of a key.
    #[inline]
    pub(in crate::store) fn prefetch(&self, hash: u64) {
        if let Some(block) = self.blocks.get(self.index(hash)) {
            prefetch(std::ptr::from_ref(block).cast());
        }
    }

    /// How often, at most 15.
    #[inline]
    pub(in crate::store) fn frequency(&self, hash: u64) -> u8 {
        let Some(block) = self.blocks.get(self.index(hash)) else {
            return 0;
        };
        let least = places(hash)
            .map(|place| read(&block.0, place))
            .into_iter()
            .min();
        u8::try_from(least.unwrap_or(0)).unwrap_or(0)
    }

    fn halve(&mut self) {
        for word in self.blocks.iter_mut().flat_map(|block| &mut block.0) {
            *word = (*word >> 1) & 0x7777_7777_7777_7777;
        }
    }

    fn index(&self, hash: u64) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the mask keeps the low bits anyway"
        )]
        let index = hash as usize & self.blocks.len().wrapping_sub(1);
        index
    }
}

/// Four counters of a block: word and shift. Two words of the block each give two.
fn places(hash: u64) -> [(usize, u32); 4] {
    // The block took the low bits; mixed, so that the high ones alone decide.
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    std::array::from_fn(|row| {
        let bits = mixed >> (row * 16);
        let counter = (bits & 31) as usize;
        // Row r has words 2r and 2r+1: four rows never share a counter.
        (
            row * 2 + counter / 16,
            u32::try_from(counter % 16 * 4).unwrap_or(0),
        )
    })
}

fn read(block: &[u64; 8], (word, shift): (usize, u32)) -> u64 {
    block[word] >> shift & COUNT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::eviction::times::USES_PER_KEY_UNTIL_HALVED;

    fn hash(key: u64) -> u64 {
        (key + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn counts_survive_growth_and_stop_at_fifteen() {
        let (mut sketch, times) = (Sketch::default(), Times::default());
        sketch.count(hash(1), &times);
        assert_eq!(
            sketch.frequency(hash(1)),
            0,
            "nothing is counted before there is memory for it"
        );
        sketch.grow(1000, &times);
        (0..3).for_each(|_| sketch.count(hash(1), &times));
        (0..40).for_each(|_| sketch.count(hash(2), &times));
        sketch.grow(10_000, &times);
        assert_eq!(
            (sketch.frequency(hash(1)), sketch.frequency(hash(2))),
            (3, 15)
        );
        assert!(sketch.capacity() >= 10_000);
        assert_eq!(sketch.heap_bytes(), Sketch::bytes_for(10_000));
    }

    #[test]
    fn all_sketches_of_a_store_are_halved_at_the_same_age() {
        let times = Times::default();
        let mut sketches = [Sketch::default(), Sketch::default()];
        for sketch in &mut sketches {
            sketch.grow(64, &times);
        }
        let [busy, idle] = &mut sketches;
        (0..8).for_each(|_| idle.count(hash(0), &times));
        for round in 0..128 * USES_PER_KEY_UNTIL_HALVED as u64 {
            busy.count(hash(round % 640), &times);
        }
        idle.grow_old(&times);
        assert_eq!(idle.frequency(hash(0)), 4);
    }

    #[test]
    fn few_keys_are_mistaken_for_others() {
        let (mut sketch, times) = (Sketch::default(), Times::default());
        sketch.grow(1000, &times);
        for key in 0..1000 {
            (0..key % 4).for_each(|_| sketch.count(hash(key), &times));
        }
        let wrong = (0..1000).filter(|&key| u64::from(sketch.frequency(hash(key))) != key % 4);
        assert!(wrong.count() < 60);
    }
}
