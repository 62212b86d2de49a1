//! When to refresh a value before it expires, so that nobody has to wait for the next one.
//!
//! XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
//! PVLDB 8(8), 2015: refresh at a read iff `now + Δ·β·(−ln u) ≥ expiry`, with u uniform in (0, 1].
//! The more often a key is read, the earlier one of its readers is chosen, and the longer a value
//! takes to make (Δ), the earlier too; with β = 0, never.
//!
//! The lead is capped at a third of the time to live: with Δ near that, the plain rule holds from
//! the first read on and never stops refreshing.

use crate::store::Loaded;

/// Whether the reader of a value that has `left_ms` to live should see to the next one.
///
/// `random` is uniform in [0, 1), as generators give it; u is what it lacks to 1, so that its
/// logarithm exists. It is only asked for where the answer depends on it.
#[must_use]
pub fn is_due(left_ms: u64, loaded: Loaded, beta: f64, random: impl FnOnce() -> f64) -> bool {
    if loaded.delta_ms == 0 || beta <= 0.0 || is_early(left_ms, loaded) {
        return false;
    }
    let lead_ms = f64::from(loaded.delta_ms) * beta * -(1.0 - random()).ln();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a third of 49 days in ms is exact"
    )]
    let left_ms = left_ms as f64;
    lead_ms >= left_ms
}

/// The chance that a reader now is the one: what [`is_due`] draws by.
#[must_use]
pub fn chance(left_ms: u64, loaded: Loaded, beta: f64) -> f64 {
    if loaded.delta_ms == 0 || beta <= 0.0 || is_early(left_ms, loaded) {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "told to people")]
    let left_ms = left_ms as f64;
    (-left_ms / (f64::from(loaded.delta_ms) * beta)).exp()
}

/// Whether it is too early to refresh a value, whatever its rule says: what nearly every read
/// finds.
#[inline]
#[must_use]
pub fn is_early(left_ms: u64, loaded: Loaded) -> bool {
    left_ms > u64::from(loaded.ttl_ms) / LEAD_SHARE
}

/// The lead is at most this part of the time to live: a third.
const LEAD_SHARE: u64 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn share_due(left_ms: u64, loaded: Loaded, beta: f64, seed: u64) -> f64 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let due = (0..DRAWS).filter(|_| is_due(left_ms, loaded, beta, || random.random()));
        f64::from(u32::try_from(due.count()).expect("few")) / f64::from(DRAWS)
    }

    const DRAWS: u32 = 20_000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_chance_to_refresh_is_exp_of_minus_left_over_delta_beta(
            left_ms in 0_u64..1000, delta_ms in 1_u64..1000, beta in 0.1_f64..4.0, seed: u64,
        ) {
            let loaded = Loaded::new(3000, delta_ms, 0);
            let expected = (-(left_ms as f64) / (delta_ms as f64 * beta)).exp();
            let share = share_due(left_ms, loaded, beta, seed);
            // Five standard deviations of a share of so many draws.
            let error = 5.0 * (expected * (1.0 - expected) / f64::from(DRAWS)).sqrt() + 1e-3;
            prop_assert!((share - expected).abs() <= error, "{share} for {expected}");
        }
    }

    #[test]
    fn nothing_is_refreshed_before_the_last_third_of_its_time() {
        let loaded = Loaded::new(3000, 1_000_000, 0);
        assert!(!is_due(1001, loaded, 100.0, || 0.999_999));
        assert!(is_due(1000, loaded, 100.0, || 0.999_999));
    }

    #[test]
    fn beta_zero_and_an_unknown_delta_never_refresh() {
        assert!(!is_due(0, Loaded::new(3000, 100, 0), 0.0, || 0.999_999));
        assert!(!is_due(0, Loaded::new(3000, 0, 0), 1.0, || 0.999_999));
    }

    #[test]
    fn the_least_and_the_largest_number_that_may_be_drawn_are_harmless() {
        let loaded = Loaded::new(3000, 100, 0);
        assert!(!is_due(1, loaded, 1.0, || 0.0), "u = 1: no lead");
        assert!(is_due(1, loaded, 1.0, || 1.0 - f64::EPSILON / 2.0));
    }
}
