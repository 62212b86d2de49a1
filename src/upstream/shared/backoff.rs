//! How long to leave an upstream alone that cannot be connected to.

use std::time::Duration;

use rand::Rng as _;

/// After a failed attempt to connect, requests fail at once for so long, and longer each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
/// The longest such time.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long to wait before the next attempt.
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_FIRST)
    }
}

impl Backoff {
    /// With jitter, so that many do not come back at once.
    pub(crate) fn next(&mut self) -> Duration {
        let present = self.0;
        self.0 = (present * 2).min(BACKOFF_MAX);
        present.mul_f64(rand::rng().random_range(0.5..1.0))
    }
}
