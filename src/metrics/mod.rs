//! What is counted, and what took long.
//!
//! Every I/O thread has counters of its own, which only it writes, so that counting costs a plain
//! add; who asks adds them up. Counters only ever rise: `CONFIG RESETSTAT` remembers what they
//! were.

pub mod counters;
pub mod errors;
pub mod histogram;
pub mod latency;
pub mod process;
pub mod rates;
pub mod slow_log;
pub mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering};

pub use counters::{Counts, Departures, Metrics, ThreadMetrics};
pub use errors::Errors;
pub use histogram::Histogram;
pub use latency::LatencyMonitor;
pub use process::Peak;
pub use rates::Rates;
pub use slow_log::{SlowEntry, SlowLog};
pub use snapshot::Snapshot;

/// How many commands and subcommands there are to be counted: the rows of the command table, which
/// does not compile with any other number of them.
pub const COMMAND_COUNT: usize = 396;

/// A number that one thread counts up and all may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only for the thread whose counter it is.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// Adds to it, from any thread.
    pub fn add_shared(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of one command.
#[derive(Debug, Default)]
pub struct CommandMetrics {
    /// How often it ran.
    pub calls: Counter,
    /// For how long, in ns.
    pub nanos: Counter,
    /// How often it was refused before it ran.
    pub rejected: Counter,
    /// How often it ran and replied an error.
    pub failed: Counter,
    /// The distribution of its run times.
    pub histogram: Histogram,
}

impl CommandMetrics {
    /// Notes `calls` runs of this many ns each.
    #[inline]
    pub fn ran(&self, calls: u64, nanos_each: u64, is_tracked: bool) {
        self.calls.add(calls);
        self.nanos.add(nanos_each * calls);
        if is_tracked {
            self.histogram.add(nanos_each, calls);
        }
    }
}
