//! What is counted per rule, for who tunes it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only rises.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A gauge of something in ms, that follows what it is told.
#[derive(Default)]
pub struct Average(AtomicU64);

impl Average {
    /// Takes one more into account: an eighth of it, as TCP does for round trips.
    pub fn note(&self, ms: u64) {
        let before = self.0.load(Ordering::Relaxed);
        let micros = ms.saturating_mul(1000);
        let after = if before == 0 {
            micros
        } else {
            before - before / 8 + micros / 8
        };
        self.0.store(after, Ordering::Relaxed);
    }

    /// The average so far, in ms; 0 if there is none.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / 1000
    }
}

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What came of the reads and writes that a rule is about.
        #[derive(Default)]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $name: Count,)+
            /// How long its loads took lately (Δ), in ms.
            pub delta: Average,
        }

        impl Counts {
            /// Each count with its name.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)+].into_iter()
            }

            /// The names of the counts, and what each is of: a sentence with a space before it.
            pub const MEANINGS: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+)),)+];
        }
    };
}

counts! {
    /// Loads that reads waited for.
    loads,
    /// Loads in the last part of a value's life, behind a read that was served.
    early_refreshes,
    /// Loads behind a read that was served a stale value.
    stale_refreshes,
    /// Loads that were asked for (`CACHE.REFRESH`).
    asked_refreshes,
    /// Refreshes that found no free place (`refresh-concurrency`).
    refreshes_put_off,
    /// Reads that waited for a load that was under way.
    coalesced,
    /// Loads that brought a value.
    loaded,
    /// Loads that found that there is none.
    absent,
    /// Loads that failed.
    failed,
    /// Loaded values that were not stored, as the key was changed meanwhile.
    void,
    /// Loaded values that were not stored, as a tag of theirs was invalidated meanwhile.
    outdated,
    /// Loaded values that found no room in memory.
    not_stored,
    /// Reads that gave up waiting (`timeout`).
    timed_out,
    /// Stale values served while the next one is loaded (`stale-while-revalidate`).
    stale_while_revalidate,
    /// Stale values served as the load failed or took too long (`stale-if-error`).
    stale_if_error,
    /// Reads answered by what is remembered not to be there (`negative-ttl`).
    negative_hits,
    /// Reads answered by a failure that is remembered (`error-ttl`).
    error_hits,
    /// Leases given to the first who missed a key.
    leases,
    /// Leases given to one reader of a value in the last part of its life.
    early_leases,
    /// Leases that a waiting client inherited.
    leases_inherited,
    /// Leases that ended with a value.
    leases_kept,
    /// Reads that waited for the holder of a lease.
    lease_waits,
    /// Reads that were told nil at once, as their connection must not wait.
    lease_nils,
    /// Writes that went through to the origin.
    stores,
    /// Removals that went through to the origin.
    deletes,
    /// Writes and removals that the origin did not take.
    writes_failed,
}
