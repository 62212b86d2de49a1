//! Values that are being made: since when, so that one that is older than an invalidation of its
//! tags is told apart when it comes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Tags;

/// When somebody began to make a value, in invalidations. As long as it is kept, it is remembered
/// which tags were invalidated since.
#[derive(Debug)]
pub struct Stamp {
    seq: u64,
    tags: Arc<Tags>,
}

impl Stamp {
    /// How many invalidations there had been.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether one of these tags was invalidated since.
    pub fn is_outdated<'a>(&self, db: u16, mut names: impl Iterator<Item = &'a [u8]>) -> bool {
        self.tags.flights.seq() != self.seq
            && names.any(|name| self.tags.is_outdated(db, name, self.seq))
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        self.tags.ended(self.seq);
    }
}

/// The clock of invalidations, and who looks at it.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// How many invalidations there were.
    seq: AtomicU64,
    /// What began before this is outdated, whatever its tags: there were too many to remember.
    floor: AtomicU64,
    /// Marks in all rooms.
    marks: AtomicUsize,
    /// So many are worth looking through them while others are still needed.
    forget_at: AtomicUsize,
    /// Stamps that are kept, and how many of each.
    kept: Mutex<BTreeMap<u64, usize>>,
}

impl Flights {
    pub(super) fn seq(&self) -> u64 {
        self.seq.load(Ordering::SeqCst)
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::SeqCst)
    }

    /// One invalidation more; its number, and whether anything that began before is still under
    /// way.
    fn advance(&self) -> (u64, bool) {
        let seq = self.seq.fetch_add(1, Ordering::SeqCst) + 1;
        // Who takes a stamp from here on has seen it.
        (seq, !self.kept.lock().is_empty())
    }
}

/// Which tags of a room were invalidated while something was under way, and when.
pub(super) type Marks = HashMap<(u16, Box<[u8]>), u64>;

impl Tags {
    /// From here on, invalidations are remembered, until what is returned is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Stamp {
        let mut kept = self.flights.kept.lock();
        let seq = self.flights.seq();
        *kept.entry(seq).or_default() += 1;
        Stamp {
            seq,
            tags: Arc::clone(self),
        }
    }

    /// Remembers an invalidation for those who are making a value, if anybody is.
    pub(super) fn mark(&self, marks: &mut Marks, db: u16, name: &[u8]) {
        let flights = &self.flights;
        let (seq, is_flying) = flights.advance();
        if !is_flying {
            return;
        }
        if flights.marks.load(Ordering::Relaxed) >= self.limits.marks {
            flights.floor.fetch_max(seq, Ordering::SeqCst);
        } else if marks.insert((db, name.into()), seq).is_none() {
            flights.marks.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ended(&self, seq: u64) {
        let flights = &self.flights;
        let mut kept = flights.kept.lock();
        let Some(count) = kept.get_mut(&seq) else {
            debug_assert!(false, "a stamp ends once");
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let was_oldest = kept.first_key_value().map(|(&oldest, _)| oldest) == Some(seq);
        kept.remove(&seq);
        // Who takes a stamp after this has one that is as young as what is forgotten, at least.
        let next = kept.first_key_value().map(|(&oldest, _)| oldest);
        let oldest = next.unwrap_or_else(|| flights.seq());
        drop(kept);
        let marks = flights.marks.load(Ordering::Relaxed);
        let is_worth_it = next.is_none() || marks >= flights.forget_at.load(Ordering::Relaxed);
        if was_oldest && marks > 0 && is_worth_it {
            self.forget_marks(oldest);
        }
    }

    /// Forgets the invalidations that nobody is older than.
    fn forget_marks(&self, oldest: u64) {
        for room in &self.rooms {
            let mut room = room.lock();
            let before = room.marks.len();
            room.marks.retain(|_, seq| *seq > oldest);
            if room.marks.is_empty() {
                room.marks = Marks::new();
            }
            let forgotten = before - room.marks.len();
            self.flights.marks.fetch_sub(forgotten, Ordering::Relaxed);
        }
        let forget_at = (self.marks() * 2).max(FORGET_MIN);
        self.flights.forget_at.store(forget_at, Ordering::Relaxed);
    }

    /// How many invalidations are remembered.
    #[must_use]
    pub fn marks(&self) -> usize {
        self.flights.marks.load(Ordering::Relaxed)
    }
}

/// Fewer marks than this are only looked through when none is needed any more.
const FORGET_MIN: usize = 1024;
