//! The distribution of durations: four buckets per power of two, from 1 ns to hours.

use std::sync::OnceLock;

use super::Counter;

/// Buckets per power of two: a value is known to 25 %.
const STEPS: usize = 4;
const POWERS: usize = 44;
const BUCKETS: usize = POWERS * STEPS;

/// A histogram of ns, written by one thread. Takes no memory before it is used.
#[derive(Debug, Default)]
pub struct Histogram(OnceLock<Box<[Counter; BUCKETS]>>);

impl Histogram {
    /// Counts `count` times this many ns.
    #[inline]
    pub fn add(&self, nanos: u64, count: u64) {
        let buckets = self.0.get_or_init(|| Box::new([const { EMPTY }; BUCKETS]));
        buckets[bucket(nanos)].add(count);
    }

    /// Whether anything was ever counted.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.0.get().is_some()
    }

    /// Adds what was counted to `totals`, which has one number per bucket.
    pub fn add_to(&self, totals: &mut Totals) {
        if let Some(buckets) = self.0.get() {
            for (total, bucket) in totals.0.iter_mut().zip(buckets.iter()) {
                *total += bucket.value();
            }
        }
    }
}

#[expect(
    clippy::declare_interior_mutable_const,
    reason = "an array's initial element"
)]
const EMPTY: Counter = Counter(std::sync::atomic::AtomicU64::new(0));

/// Several histograms, added up.
#[derive(Clone, Debug)]
pub struct Totals([u64; BUCKETS]);

impl Default for Totals {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Totals {
    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Takes away what was counted before.
    pub fn subtract(&mut self, before: &Self) {
        for (total, before) in self.0.iter_mut().zip(&before.0) {
            *total = total.saturating_sub(*before);
        }
    }

    /// Each bucket that is not empty: the ns it reaches up to, and how many it has.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let bounds = (0..BUCKETS).map(upper_bound);
        bounds
            .zip(self.0.iter().copied())
            .filter(|&(_, count)| count > 0)
    }

    /// How many took less than `nanos`, which must be a power of two from 4 on.
    #[must_use]
    pub fn count_below(&self, nanos: u64) -> u64 {
        debug_assert!(
            nanos.is_power_of_two() && nanos >= STEPS as u64,
            "where a bucket ends"
        );
        self.buckets()
            .take_while(|&(bound, _)| bound < nanos)
            .map(|(_, count)| count)
            .sum()
    }

    /// The ns that `percent` of all stay within.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        let total = self.count();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a percentile is an estimate"
        )]
        let wanted = ((total as f64 * percent / 100.0).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (bound, count) in self.buckets() {
            seen += count;
            if seen >= wanted {
                return bound;
            }
        }
        0
    }
}

/// The bucket of a value: its power of two, and the two bits below its highest.
fn bucket(nanos: u64) -> usize {
    if nanos < STEPS as u64 {
        return usize::try_from(nanos).unwrap_or(0);
    }
    let power = nanos.ilog2() as usize;
    let step = usize::try_from(nanos >> (power - 2) & 3).unwrap_or(0);
    ((power - 1) * STEPS + step).min(BUCKETS - 1)
}

/// The greatest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let power = bucket / STEPS + 1;
    let step = (bucket % STEPS) as u64;
    (1 << power) + ((step + 1) << (power - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_bucket_that_reaches_up_to_it() {
        for nanos in (0..10_000).chain([1 << 20, (1 << 30) + 12_345, 1 << 43]) {
            let bucket = bucket(nanos);
            assert!(nanos <= upper_bound(bucket), "{nanos} in {bucket}");
            assert!(
                bucket == 0 || nanos > upper_bound(bucket - 1),
                "{nanos} in {bucket}"
            );
        }
    }

    #[test]
    fn a_value_beyond_the_last_bucket_is_in_the_last() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
