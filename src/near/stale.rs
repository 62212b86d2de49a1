//! What is served when upstream fails.

use std::sync::atomic::Ordering;

use super::stats::Tally;
use super::variants::Terms;
use super::{NS_PER_MS, Near, Now, StaleAge, Token, Waiters};
use crate::store::Store;

impl<W> Near<W> {
    /// The read failed. Returns whom to tell, the leader first, and appends to `reply` what to
    /// tell them, if there is a copy to serve as stale.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a token is given back once")]
    pub fn fail_to_stale(
        &self,
        store: &Store,
        token: Token,
        now: Now,
        reply: &mut Vec<u8>,
    ) -> (Waiters<W>, Option<StaleAge>) {
        let flight = self.stripe(token.hash).lock().end(token.hash, token.id);
        let Some(flight) = flight else {
            return (Waiters::new(), None);
        };
        let age = self.get_stale(store, flight.place(), flight.line(), now, reply);
        if age.is_some() {
            for _ in 1..flight.waiters.len() {
                self.tallies.count(Tally::stale_hits);
            }
        }
        (flight.waiters, age)
    }

    /// Whether stale copies may be served at all.
    #[inline]
    #[must_use]
    pub fn serves_stale(&self) -> bool {
        self.settings.stale_ms.load(Ordering::Relaxed) > 0
    }

    /// For how long a copy has not been fresh, if it may be served as stale.
    pub(super) fn stale_age(&self, terms: Terms, now: Now) -> Option<StaleAge> {
        if terms.stamp.epoch != self.epoch() {
            return None;
        }
        let channels_ns = terms.stamp.was_fresh_until(&self.channels)?;
        let fresh_until_ns = channels_ns.min(terms.expires_at_ns);
        let ms = now.mono_ns.saturating_sub(fresh_until_ns) / NS_PER_MS;
        let stale_ms = self.settings.stale_ms.load(Ordering::Relaxed);
        (ms < stale_ms || fresh_until_ns > now.mono_ns).then_some(StaleAge { ms })
    }
}
