//! How fast counters rise: `instantaneous_ops_per_sec` and its kin.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Metrics;
use crate::clock;

/// Samples that a rate is the mean of (Redis's `STATS_METRIC_SAMPLES`).
const SAMPLES: usize = 16;
/// The least time between two samples; Redis's too.
const PERIOD: Duration = Duration::from_millis(100);

/// The last samples of each rate.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// When it was last looked, and what the counters were.
    last: Option<(Instant, Rate)>,
    samples: [Rate; SAMPLES],
    next: usize,
}

/// How much of each in a second; before a sample is taken, how much at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Requests.
    pub requests: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

impl Rate {
    fn map2(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: combine(self.requests, other.requests),
            bytes_in: combine(self.bytes_in, other.bytes_in),
            bytes_out: combine(self.bytes_out, other.bytes_out),
        }
    }
}

impl Rates {
    /// Takes a sample, if the last one is long enough ago.
    pub fn sample(&self, metrics: &Metrics) {
        let now = clock::now();
        let counts = Rate {
            requests: metrics.sum(|thread| &thread.requests),
            bytes_in: metrics.sum(|thread| &thread.bytes_in),
            bytes_out: metrics.sum(|thread| &thread.bytes_out),
        };
        self.add(now, counts);
    }

    fn add(&self, now: Instant, counts: Rate) {
        let mut inner = self.0.lock();
        let Some((then, before)) = inner.last else {
            inner.last = Some((now, counts));
            return;
        };
        let passed = now.duration_since(then);
        if passed < PERIOD {
            return;
        }
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let per_second = |now: u64, before: u64| now.saturating_sub(before) * 1000 / millis;
        let next = inner.next;
        inner.samples[next] = counts.map2(before, per_second);
        inner.next = (next + 1) % SAMPLES;
        inner.last = Some((now, counts));
    }

    /// The mean of the last samples, each per second.
    #[must_use]
    pub fn mean(&self) -> Rate {
        let samples = self.0.lock().samples;
        let sum = samples
            .into_iter()
            .fold(Rate::default(), |sum, one| sum.map2(one, |a, b| a + b));
        sum.map2(sum, |sum, _| sum / SAMPLES as u64)
    }

    /// Forgets all samples.
    pub fn clear(&self) {
        *self.0.lock() = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_the_mean_of_sixteen_samples_of_a_tenth_of_a_second() {
        let rates = Rates::default();
        for step in 0..=SAMPLES as u64 {
            rates.add(
                clock::now(),
                Rate {
                    requests: step * 100,
                    ..Rate::default()
                },
            );
            // Too soon for a sample: it counts in the next.
            rates.add(
                clock::now(),
                Rate {
                    requests: step * 100 + 1,
                    ..Rate::default()
                },
            );
            tokio::time::advance(PERIOD).await;
        }
        assert_eq!(
            rates.mean(),
            Rate {
                requests: 1000,
                ..Rate::default()
            }
        );
        rates.clear();
        assert_eq!(rates.mean(), Rate::default());
    }
}
