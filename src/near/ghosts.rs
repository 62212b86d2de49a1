//! What became of keys that are not here: why a miss is one.
//!
//! A fixed table of fingerprints: of the keys that share an index, the last is remembered.
//! A key that is not here but noted as present was evicted, or has expired.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sync::IS_SIMULATED;
use super::{Miss, Place};
use crate::store::item::prefetch;

/// Keys that are remembered, eight bytes each.
pub const GHOSTS: usize = if IS_SIMULATED { 1 } else { 1 << 16 };

/// | 20: fingerprint | 4: fate | 8: epoch | 32: expiry, in units of 2²⁶ ns |
#[derive(Debug)]
pub(super) struct Ghosts(Box<[AtomicU64]>);

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Present = 1,
    Invalidated = 2,
    RaceDiscarded = 3,
}

const FINGERPRINT_SHIFT: u32 = 44;
const FATE_SHIFT: u32 = 40;
const EPOCH_SHIFT: u32 = 32;
/// 67 ms, so that 32 bits last for nine years.
const EXPIRY_UNIT_SHIFT: u32 = 26;

impl Ghosts {
    pub(super) fn new() -> Self {
        Self((0..GHOSTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Remembers it. A present key expires at `expires_at_ns`.
    pub(super) fn note(&self, place: Place<'_>, fate: Fate, epoch: u32, expires_at_ns: u64) {
        let hash = hash_of(place.db, place.key.hash);
        let expiry = (expires_at_ns >> EXPIRY_UNIT_SHIFT).min(u64::from(u32::MAX));
        let ghost = fingerprint(hash) << FINGERPRINT_SHIFT
            | (fate as u64) << FATE_SHIFT
            | u64::from(epoch & 0xff) << EPOCH_SHIFT
            | expiry;
        self.at(hash).store(ghost, Ordering::Relaxed);
    }

    /// Asks the processor for what is remembered of a key.
    pub(super) fn prefetch(&self, db: u16, hash: u64) {
        prefetch(ptr::from_ref(self.at(hash_of(db, hash))).cast());
    }

    /// Why a key that is not here is not.
    pub(super) fn why(&self, place: Place<'_>, epoch: u32, now_ns: u64) -> Miss {
        let hash = hash_of(place.db, place.key.hash);
        let ghost = self.at(hash).load(Ordering::Relaxed);
        if ghost >> FINGERPRINT_SHIFT != fingerprint(hash) {
            return Miss::Cold;
        }
        match ghost >> FATE_SHIFT & 0xf {
            fate if fate == Fate::Invalidated as u64 => Miss::Invalidated,
            fate if fate == Fate::RaceDiscarded as u64 => Miss::RaceDiscarded,
            fate if fate == Fate::Present as u64 => {
                if ghost >> EPOCH_SHIFT & 0xff != u64::from(epoch & 0xff) {
                    Miss::Flushed
                } else if now_ns >> EXPIRY_UNIT_SHIFT >= ghost & u64::from(u32::MAX) {
                    Miss::Expired
                } else {
                    Miss::Evicted
                }
            }
            _ => Miss::Cold,
        }
    }

    fn at(&self, hash: u64) -> &AtomicU64 {
        let index = usize::try_from(hash >> 20 & (GHOSTS as u64 - 1)).expect("below GHOSTS");
        &self.0[index]
    }
}

/// A key has another one in each database.
fn hash_of(db: u16, hash: u64) -> u64 {
    hash ^ u64::from(db).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Bits that take no part in choosing the index.
fn fingerprint(hash: u64) -> u64 {
    hash & 0xf_ffff
}
