//! What is counted here. A hit counts in a cell of its own thread, so that it costs a plain add.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Miss, Near};

/// Threads with cells of their own; those that come later share one.
const CELLS: usize = 64;

/// Names each number once: the cells and their sums.
macro_rules! tallies {
    ($( $(#[doc = $doc:literal])+ $name:ident; )+) => {
        /// Which number.
        #[derive(Clone, Copy, Debug)]
        #[expect(non_camel_case_types, reason = "the name of the field")]
        pub(super) enum Tally { $( $name, )+ }

        const TALLIES: usize = [$( Tally::$name ),+].len();

        /// What was counted since the start, and what is there now.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $( $(#[doc = $doc])+ pub $name: u64, )+
            /// Reads under way.
            pub flights: usize,
            /// Keys with copies, those that are void and not yet removed included.
            pub entries: usize,
            /// Bytes they take.
            pub bytes: usize,
            /// Whether only what is read for the second time is stored.
            pub is_picky: bool,
        }

        impl Stats {
            /// What was counted since `before`; what is there stays as it is.
            #[must_use]
            pub fn since(self, before: &Self) -> Self {
                Self { $( $name: self.$name.saturating_sub(before.$name), )+ ..self }
            }
        }

        impl Tallies {
            /// The sums.
            pub(super) fn sum(&self) -> Stats {
                Stats { $( $name: self.of(Tally::$name), )+ ..Stats::default() }
            }
        }
    };
}

tallies! {
    /// Reads answered by a fresh copy.
    hits;
    /// Reads answered by a stale one, the upstream having failed.
    stale_hits;
    /// Misses of keys that were never here, as far as is remembered.
    misses_cold;
    /// Misses of copies that had reached their expiry.
    misses_expired;
    /// Misses of copies that had to go for want of memory.
    misses_evicted;
    /// Misses of copies that an invalidation or a local write had removed.
    misses_invalidated;
    /// Misses of copies from before a flush, or before their connection was lost.
    misses_flushed;
    /// Misses of copies whose connection had not been heard of for too long.
    misses_incoherent;
    /// Misses of keys whose last read was voided on its way.
    misses_race_discarded;
    /// Misses of lines of keys of which only other lines were here.
    misses_variant;
    /// Reads that could not be answered from here whatever was here.
    misses_uncacheable;
    /// Reads that joined one under way.
    joined;
    /// Reads that led one, of keys that were read before and not voided since.
    second_reads;
    /// Replies stored.
    fills;
    /// Replies not stored because something had voided them on their way.
    race_discards;
    /// Replies not stored for what they are: errors, too long, about to expire.
    refused_fills;
    /// Replies not stored because there was no room.
    full_fills;
    /// Replies not stored because they were the first of their key, while copies were hardly
    /// ever read again.
    passed_over;
    /// Invalidations received from upstream.
    invalidations;
    /// Those of them that removed a copy or voided a read.
    invalidations_effective;
    /// Times everything was voided at once.
    flushes;
}

impl<W> Near<W> {
    /// A read passes by that cannot be answered from here.
    #[inline]
    pub fn note_uncacheable(&self) {
        self.tallies.count(Tally::misses_uncacheable);
    }

    /// What was counted, without a look at what is there.
    #[must_use]
    pub fn counted(&self) -> Stats {
        self.tallies.sum()
    }
}

impl Stats {
    /// Misses by their cause.
    #[must_use]
    pub fn causes(&self) -> [(&'static str, u64); 9] {
        [
            (Miss::Cold.name(), self.misses_cold),
            (Miss::Expired.name(), self.misses_expired),
            (Miss::Evicted.name(), self.misses_evicted),
            (Miss::Invalidated.name(), self.misses_invalidated),
            (Miss::Flushed.name(), self.misses_flushed),
            (Miss::Incoherent.name(), self.misses_incoherent),
            (Miss::RaceDiscarded.name(), self.misses_race_discarded),
            (Miss::Variant.name(), self.misses_variant),
            ("uncacheable", self.misses_uncacheable),
        ]
    }

    /// Misses of all causes.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.causes().iter().map(|(_, count)| count).sum()
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell([AtomicU64; TALLIES]);

/// The numbers, by thread.
#[derive(Debug)]
pub(super) struct Tallies(Box<[Cell]>);

impl Tallies {
    pub(super) fn new() -> Self {
        Self((0..CELLS).map(|_| Cell::default()).collect())
    }

    #[inline]
    pub(super) fn count(&self, tally: Tally) {
        let index = THREAD.with(|index| *index);
        if let Some(own) = self.0[..CELLS - 1].get(index) {
            let number = &own.0[tally as usize];
            number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            self.0[CELLS - 1].0[tally as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, tally: Tally) -> u64 {
        let cells = self.0.iter();
        cells
            .map(|cell| cell.0[tally as usize].load(Ordering::Relaxed))
            .sum()
    }
}

thread_local! {
    /// The number of this thread among all that ever counted.
    static THREAD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}
