//! What happened, as the clients saw it: every operation with when it began and when it ended.
//!
//! One process, one monotonic clock: nanoseconds since [`Clock::start`]. An operation begins before
//! its first byte is sent and ends after its reply was read, so the server's own moment lies
//! between.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use corral::clock;
use tokio::time::Instant;

/// A moment: nanoseconds since the run's beginning.
pub(crate) type Nanos = u64;

/// The end of what never ended, or may take effect at any time.
pub(crate) const NEVER: Nanos = Nanos::MAX;

/// The run's one clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(clock::now())
    }

    pub(crate) fn now(self) -> Nanos {
        Nanos::try_from(self.0.elapsed().as_nanos()).unwrap_or(NEVER)
    }
}

/// A duration in the history's unit.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// A client: one thread's one connection, and those that follow it when it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u32);

/// Where an operation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Route {
    /// To Redis, past all fronts.
    Direct,
    /// Through this front.
    Front(usize),
}

/// A register: a key of a database.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) db: u32,
    pub(crate) name: Arc<str>,
}

impl Key {
    /// Whether several clients write it, and the server chooses the versions.
    pub(crate) fn is_shared(&self) -> bool {
        self.name.starts_with("shared:")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "db{} {}", self.db, self.name)
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was acknowledged.
    Done,
    /// An error, or no reply: it may have happened, or happen later.
    Unknown,
}

/// A write of a register.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// What was written: the version, or `None` for the key's removal. Of an unknown write whose
    /// version the server was to choose, the version is 0.
    pub(crate) version: Option<u64>,
    pub(crate) outcome: Outcome,
    /// How long the value was to live.
    pub(crate) ttl: Option<Duration>,
    /// The command, for people.
    pub(crate) command: &'static str,
}

/// What a read returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nil,
    Version(u64),
    /// A value that nobody writes to this key.
    Foreign(String),
}

/// What an operation was.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Write(Write),
    Read {
        seen: Seen,
        /// The command, for people.
        command: &'static str,
    },
}

/// One operation on one key.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) client: ClientId,
    pub(crate) route: Route,
    pub(crate) key: Key,
    pub(crate) begin: Nanos,
    pub(crate) end: Nanos,
    pub(crate) act: Act,
}

/// All keys of a database, or of all, went away: FLUSHALL, SWAPDB, a restart without a file.
#[derive(Clone, Debug)]
pub(crate) struct Wipe {
    /// `None` is every database.
    pub(crate) db: Option<u32>,
    pub(crate) route: Route,
    pub(crate) begin: Nanos,
    pub(crate) end: Nanos,
}

/// A request that was not answered within its limit.
#[derive(Clone, Debug)]
pub(crate) struct Hang {
    pub(crate) client: ClientId,
    pub(crate) command: String,
    pub(crate) begin: Nanos,
}

/// A counter that clients raise with WATCH, GET, MULTI, SET, EXEC.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    pub(crate) name: String,
    /// The values that were set by an EXEC that was not refused.
    pub(crate) set: Vec<u64>,
    /// EXECs that ended without a reply, or with an error of the front.
    pub(crate) unknown: u64,
    /// What it was in the end.
    pub(crate) last: u64,
}

/// A key after the writers had stopped and the bound had passed.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    pub(crate) key: Key,
    pub(crate) front: usize,
    pub(crate) through_front: Seen,
    pub(crate) in_redis: Seen,
}

/// Everything that is checked.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// In each client's order; the clients in any order.
    pub(crate) ops: Vec<Op>,
    pub(crate) wipes: Vec<Wipe>,
    pub(crate) hangs: Vec<Hang>,
    pub(crate) counters: Vec<Counter>,
    pub(crate) rests: Vec<Rest>,
    /// Redis may have evicted any key at any time.
    pub(crate) evicts: bool,
    /// Commands that read, sent to Redis and to fronts.
    pub(crate) reads_sent: [u64; 2],
    /// Commands that read, as Redis counted them before it was restarted.
    pub(crate) reads_counted: u64,
    /// Replies that were errors, and connections that broke.
    pub(crate) failures: u64,
    /// What the first of them were.
    pub(crate) failed: Vec<String>,
}

impl History {
    /// Takes what another one has.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.ops.append(&mut other.ops);
        self.wipes.append(&mut other.wipes);
        self.hangs.append(&mut other.hangs);
        self.counters.append(&mut other.counters);
        self.rests.append(&mut other.rests);
        self.evicts |= other.evicts;
        for (sent, more) in self.reads_sent.iter_mut().zip(other.reads_sent) {
            *sent += more;
        }
        self.reads_counted += other.reads_counted;
        self.failures += other.failures;
        for what in std::mem::take(&mut other.failed) {
            self.note_failure(|| what);
        }
    }

    /// Keeps the first failures.
    pub(crate) fn note_failure(&mut self, what: impl FnOnce() -> String) {
        if self.failed.len() < FAILED_MAX {
            self.failed.push(what());
        }
    }
}

/// Failures that are told in full.
const FAILED_MAX: usize = 5;
