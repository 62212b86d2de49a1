//! What this room promises. With the feature `shuttle`, only what its scheduler runs.

#[cfg(not(feature = "shuttle"))]
mod behaviour;
#[cfg(feature = "shuttle")]
mod interleavings;

use super::*;
use crate::store::{self, Tuning};

/// The line of GET.
const GET: Line<'static> = Line {
    id: 1,
    arguments: b"",
};
const STALE_MS: u64 = 1000;
/// Cap of a copy's life.
const NEAR_TTL_MS: u64 = 60_000;
const VALUE_BYTES_MAX: usize = 1000;
const START: Now = Now {
    unix_ms: 1_700_000_000_000,
    mono_ns: 5_000_000_000,
};

fn new_near<W>(stripes: usize) -> Near<W> {
    Near::new(&Options {
        stripes,
        near_ttl_ms: NEAR_TTL_MS,
        stale_ms: STALE_MS,
        value_bytes_max: VALUE_BYTES_MAX,
        bytes_max: 1 << 20,
    })
}

fn new_store(shards: usize, bytes_max: Option<usize>) -> Store {
    Store::new(&store::Options {
        shards,
        databases: 4,
        bytes_max,
        tuning: Tuning::default(),
        now_ms: START.unix_ms,
    })
}
