//! How much memory all shards together may use: a hard bound.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes allowed and bytes given out. A shard takes some before it uses them, a little more than it
/// needs, so that this shared word is seldom touched.
#[derive(Debug)]
#[repr(align(128))]
pub struct Budget {
    /// `usize::MAX`: no bound.
    max: AtomicUsize,
    used: AtomicUsize,
    /// What a shard takes at once beyond its need; follows from `max`, and is read at each unlock.
    chunk: AtomicUsize,
    shards: usize,
}

impl Budget {
    pub(super) fn new(max: Option<usize>, shards: usize) -> Self {
        let budget = Self {
            max: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            chunk: AtomicUsize::new(0),
            shards,
        };
        budget.set_max(max);
        budget
    }

    /// The bound, if there is one.
    #[must_use]
    pub fn max(&self) -> Option<usize> {
        Some(self.max.load(Ordering::Relaxed)).filter(|&max| max != usize::MAX)
    }

    pub(super) fn set_max(&self, max: Option<usize>) {
        let max = max.unwrap_or(usize::MAX);
        let chunk = (max / self.shards / CHUNKS_PER_SHARE).min(CHUNK_BYTES_MAX);
        self.max.store(max, Ordering::Relaxed);
        self.chunk.store(chunk, Ordering::Relaxed);
    }

    /// Bytes given out, used or not.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more is given out than there is, after the bound was lowered.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.used() > self.max.load(Ordering::Relaxed)
    }

    /// Whether so much is in use that it matters who will have to go.
    pub(super) fn is_filling(&self) -> bool {
        self.max().is_some_and(|max| self.used() > max / 2)
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= max)
            })
            .is_ok()
    }

    /// Gives out what there may not be: see
    /// [`reserve_beyond`](super::Locked::reserve_beyond).
    pub(super) fn overdraw(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What a shard takes at once beyond its need.
    #[inline]
    pub(super) fn chunk(&self) -> usize {
        self.chunk.load(Ordering::Relaxed)
    }

    /// A shard's part, if all had the same.
    pub(super) fn share(&self) -> usize {
        self.max.load(Ordering::Relaxed) / self.shards
    }
}

/// All shards together keep 1/512 of the memory unused.
const CHUNKS_PER_SHARE: usize = 512;
const CHUNK_BYTES_MAX: usize = 64 * 1024;
