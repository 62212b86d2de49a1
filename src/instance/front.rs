//! What a front tells of itself to those who ask: handlers, and the admin port.
//!
//! The front is built on the instance and not the other way round; here stands what of it can be
//! asked for, in plain numbers.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::near::Stats;
use crate::resp::Protocol;

/// A front, for those who want to know of it.
pub trait Watched: Send + Sync {
    /// How it is.
    fn report(&self) -> Report;

    /// Hits and misses since the start: what the near cache has counted of them.
    fn counted(&self) -> (u64, u64);

    /// Counts anew from here, as far as [`Report::since_reset`] tells.
    fn reset(&self);

    /// There are other rules: a reply that is kept may be none that they allow.
    fn rules_changed(&self);

    /// Removes keys upstream, as a write of its own: how many were there, or why that is not known
    /// of all of them. Who waits is told by the end of the front at the latest.
    fn remove(
        &self,
        database: u32,
        keys: Vec<Box<[u8]>>,
    ) -> oneshot::Receiver<Result<usize, String>>;

    /// Removes the keys of tags upstream: how many there were, or why not all are gone.
    fn invalidate_tags(
        &self,
        database: u32,
        tags: Vec<Box<[u8]>>,
    ) -> oneshot::Receiver<Result<usize, String>>;

    /// Asks upstream for what changes nothing; nobody answers where upstream cannot.
    fn ask(&self, database: u32, words: &[&[u8]]) -> oneshot::Receiver<Vec<u8>>;

    /// What is here of a key, and what a read would get: names and sentences.
    fn explain(&self, asked: &Asked<'_>) -> Vec<(&'static str, String)>;
}

/// Of which key, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The client's database.
    pub database: u16,
    /// The key.
    pub key: &'a [u8],
    /// The client's dialect.
    pub protocol: Protocol,
    /// Whether the client has a connection of its own now.
    pub is_private: bool,
}

/// How a front is.
#[derive(Clone, Debug)]
pub struct Report {
    /// The near cache since the start.
    pub near: Stats,
    /// The same since the last `CONFIG RESETSTAT`.
    pub since_reset: Stats,
    /// Whether upstream tells what changes, and did within the bound.
    pub is_coherent: bool,
    /// How it tells: `tracking`, `broadcast`, `ttl` or `none`.
    pub rung: &'static str,
    /// Replies that waited until what had changed was known.
    pub fences: u64,
    /// Times that a client was given a connection of its own.
    pub private_visits: u64,
    /// Times that the connection was lost over which changes are told.
    pub tracker_losses: u64,
    /// How old a value from memory can be at most.
    pub staleness_bound: Duration,
    /// What `shadow-verify` found.
    pub shadow: ShadowReport,
    /// Keys that upstream was told to take for used (`upstream-touch`).
    pub touched: u64,
    /// The connections that clients share.
    pub links: Vec<LinkReport>,
}

/// Bounds of the ages of stale copies, in ms.
pub const STALE_AGES_MS: [u64; 8] = [1, 10, 100, 1000, 10_000, 60_000, 600_000, 3_600_000];

/// What comparisons of hits with upstream told.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShadowReport {
    /// Hits compared.
    pub checks: u64,
    /// Those that differed as their key was changing.
    pub races: u64,
    /// Those that were stale.
    pub stale: u64,
    /// How long before these had been read: by [`STALE_AGES_MS`], and all above.
    pub ages: [u64; STALE_AGES_MS.len() + 1],
    /// The sum of these times, in ms.
    pub ages_sum_ms: u64,
}

/// How a shared connection is.
#[derive(Clone, Copy, Debug)]
pub struct LinkReport {
    /// The I/O thread it belongs to.
    pub thread: usize,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// `idle` (it was not needed so far), `connecting`, `open` or `lost`.
    pub state: &'static str,
    /// Requests that are not yet answered.
    pub waiting: usize,
    /// Whether changes of what is read over it are told.
    pub is_armed: bool,
}

/// The part of reads that were hits; 0 where nothing was read.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub fn hit_rate(hits: u64, misses: u64) -> f64 {
    match hits + misses {
        0 => 0.0,
        reads => hits as f64 / reads as f64,
    }
}
