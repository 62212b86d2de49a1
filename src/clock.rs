//! The only reader of clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Unix time in ms, by which keys expire.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(unix_micros() / 1000).unwrap_or(u64::MAX)
}

/// Unix time in µs.
#[must_use]
pub fn unix_micros() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros())
}

/// Now, on a clock that never goes back.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
