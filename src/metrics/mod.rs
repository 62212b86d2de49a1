//! What is counted, and what took long.
//!
//! Every I/O thread has counters of its own, which only it writes, so that counting costs a plain add;
//! who asks adds them up. Counters only ever rise: `CONFIG RESETSTAT` remembers what they
//! were.

pub mod errors;
pub mod histogram;
pub mod latency;
pub mod slow_log;

use std::sync::atomic::{AtomicU64, Ordering};

pub use errors::Errors;
pub use histogram::Histogram;
pub use latency::LatencyMonitor;
pub use slow_log::{SlowEntry, SlowLog};

use crate::command::table::COMMAND_COUNT;

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

/// What one thread counts.
#[derive(Debug)]
pub struct ThreadMetrics {
    /// By the command's index.
    pub commands: Box<[CommandMetrics]>,
    /// Reads that found their key.
    pub hits: Counter,
    /// Reads that did not.
    pub misses: Counter,
    /// Requests run.
    pub requests: Counter,
    /// Bytes from clients.
    pub bytes_in: Counter,
    /// Bytes to clients.
    pub bytes_out: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Times a socket was read.
    pub reads: Counter,
    /// Times a socket was written.
    pub writes: Counter,
}

impl ThreadMetrics {
    fn new() -> Self {
        Self {
            commands: (0..COMMAND_COUNT)
                .map(|_| CommandMetrics::default())
                .collect(),
            hits: Counter::default(),
            misses: Counter::default(),
            requests: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            connections: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
        }
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    /// One for each I/O thread.
    pub threads: Box<[ThreadMetrics]>,
    /// Connections refused because of `maxclients`.
    pub rejected_connections: Counter,
    /// Clients closed because they did not take their replies.
    pub output_limit_closes: Counter,
    /// Clients closed because they sent too much ahead.
    pub query_limit_closes: Counter,
    /// AUTH and HELLO with a wrong password.
    pub denied_logins: Counter,
    /// Error replies by their code.
    pub errors: Errors,
}

impl Metrics {
    /// Counters for this many I/O threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            threads: (0..threads).map(|_| ThreadMetrics::new()).collect(),
            rejected_connections: Counter::default(),
            output_limit_closes: Counter::default(),
            query_limit_closes: Counter::default(),
            denied_logins: Counter::default(),
            errors: Errors::default(),
        }
    }

    /// One of the threads' counters, all added up.
    #[must_use]
    pub fn sum(&self, counter: impl Fn(&ThreadMetrics) -> &Counter) -> u64 {
        self.threads
            .iter()
            .map(|thread| counter(thread).value())
            .sum()
    }
}
