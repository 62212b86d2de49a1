//! How often keys were asked for lately: TinyLFU's count-min sketch.
//!
//! Four 4-bit counters per key, all in one 64-byte block, so an access costs one cache miss.
//! Only the smallest of the four are counted up (conservative update: Estan and Varghese, SIGCOMM
//! 2002), and all are halved after ten times as many counts as there are keys, so that the past
//! fades. Source: Einziger, Friedman, Manes, "TinyLFU", ACM ToS 13(4), 2017.

/// 128 counters: 64 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([u64; 8]);

/// Counters per key: 16 bytes' worth.
const COUNTERS_PER_KEY: usize = 32;
const COUNTERS_PER_BLOCK: usize = 128;
const KEYS_PER_BLOCK: usize = COUNTERS_PER_BLOCK / COUNTERS_PER_KEY;
const COUNTS_PER_KEY_UNTIL_HALVED: usize = 10;
const COUNT_MAX: u64 = 15;

#[derive(Default)]
pub(in crate::store) struct Sketch {
    /// A power of two of them, or none: then nothing is counted.
    blocks: Box<[Block]>,
    counted: usize,
}

impl Sketch {
    /// Grows to this many keys; what was counted stays.
    pub(in crate::store) fn grow(&mut self, keys: usize) {
        let wanted = keys.div_ceil(KEYS_PER_BLOCK).next_power_of_two();
        if self.blocks.is_empty() {
            self.blocks = vec![Block([0; 8]); wanted].into_boxed_slice();
        }
        while self.blocks.len() < wanted {
            // A block is chosen by the low bits: a key's counters are in both copies.
            self.blocks = [&self.blocks[..], &self.blocks[..]]
                .concat()
                .into_boxed_slice();
        }
    }

    /// Forgets everything and gives the memory back.
    pub(in crate::store) fn clear(&mut self) {
        *self = Self::default();
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
    pub(in crate::store) fn count(&mut self, hash: u64) {
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
        if self.counted >= self.capacity() * COUNTS_PER_KEY_UNTIL_HALVED {
            self.halve();
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
        self.counted /= 2;
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
        #[expect(clippy::cast_possible_truncation, reason = "five bits")]
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
