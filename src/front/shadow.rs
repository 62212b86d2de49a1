//! `shadow-verify`: a part of what is served from memory is read again from upstream, and compared.
//!
//! What differs was not stale if its key was voided meanwhile: by a write here, by what upstream
//! told before the fence behind the second reply. All else is a change that upstream did not
//! tell (an external `SWAPDB`), or an error here.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::Shared;
use super::pool::Pool;
use super::waiting::Waiting;
use super::{Front, channel};
use crate::clock;
use crate::command::spec::Command;
use crate::config::Config;
use crate::instance::front::{STALE_AGES_MS, ShadowReport};
use crate::near::{Line, Now, Place, Watch, Why};
use crate::resp::frame::Kind;

/// Copies compared at a time, for each thread.
const CHECKS_MAX: usize = 64;
/// Stale copies are logged no more often.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Which hits are looked at more closely.
#[derive(Default)]
pub(super) struct Sampling {
    /// Whether any are.
    is_on: AtomicBool,
    touches: AtomicBool,
    /// Of 2^32 hits, so many are compared.
    shadows: AtomicU32,
}

impl Sampling {
    /// What a hit costs where nothing is sampled.
    #[inline]
    pub(super) fn are_sampled(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    pub(super) fn follow(&self, config: &Config) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share is within 0 and 1"
        )]
        let shadows = (config.shadow_verify * f64::from(u32::MAX)).ceil() as u32;
        let touches = !config.upstream_touch.is_zero();
        self.shadows.store(shadows, Ordering::Relaxed);
        self.touches.store(touches, Ordering::Relaxed);
        self.is_on.store(touches || shadows > 0, Ordering::Relaxed);
    }
}

/// What the comparisons told.
#[derive(Default)]
pub(super) struct Shadow {
    checks: AtomicU64,
    races: AtomicU64,
    stale: AtomicU64,
    /// Of stale ones: how long before they had been read, by the first bound that is not less; the
    /// last is for all others.
    ages: [AtomicU64; STALE_AGES_MS.len() + 1],
    ages_sum_ms: AtomicU64,
    warned: Mutex<Option<Instant>>,
}

impl Shadow {
    pub(super) fn report(&self) -> ShadowReport {
        ShadowReport {
            checks: self.checks.load(Ordering::Relaxed),
            races: self.races.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            ages: std::array::from_fn(|at| self.ages[at].load(Ordering::Relaxed)),
            ages_sum_ms: self.ages_sum_ms.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    /// A hit: is it to be touched upstream, is it to be compared?
    #[cold]
    pub(super) fn sample_hit(
        &self,
        raw: &[u8],
        command: &Command,
        place: Place<'_>,
        line: Line<'_>,
        now: Now,
    ) {
        let sampling = &self.front.hits;
        if sampling.touches.load(Ordering::Relaxed) {
            self.pool.touches.note(self.session.database, place.key);
        }
        let shadows = sampling.shadows.load(Ordering::Relaxed);
        if shadows > 0 && rand::random::<u32>() <= shadows {
            self.check(raw, command, place, line, now);
        }
    }

    fn check(&self, raw: &[u8], command: &Command, place: Place<'_>, line: Line<'_>, now: Now) {
        let (link, checks) = (self.link(), &self.pool.checks);
        if checks.get() >= CHECKS_MAX || !self.is_armed(link) {
            return;
        }
        let (near, store) = (&self.front.near, &self.front.instance.store);
        let Some(watch) = near.watch(store, place, line, channel(link.slot()), now) else {
            return;
        };
        checks.set(checks.get() + 1);
        let check = Check {
            pool: Rc::clone(&self.pool),
            key: place.key.bytes.into(),
            is_unordered: UNORDERED.contains(&command.name),
            watch: Some(watch),
            reply: Vec::new(),
        };
        self.send(raw, Waiting::Shadow(Box::new(check)));
    }
}

/// The elements of what they reply come in any order.
const UNORDERED: [&str; 7] = [
    "hgetall", "hkeys", "hvals", "smembers", "sinter", "sunion", "sdiff",
];

/// A copy that was served and is compared with what upstream says now.
pub(super) struct Check {
    pool: Rc<Pool>,
    key: Box<[u8]>,
    is_unordered: bool,
    watch: Option<Watch>,
    /// What came so far; no more of it than makes it differ.
    reply: Vec<u8>,
}

impl Check {
    /// The next bytes of the reply.
    pub(super) fn take(&mut self, bytes: &[u8], ended: Option<Kind>) {
        let Some(watch) = &self.watch else { return };
        let room = (watch.reply.len() + 1).saturating_sub(self.reply.len());
        self.reply
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some(kind) = ended else { return };
        let is_other_type = self.reply.starts_with(b"-WRONGTYPE");
        if kind == Kind::Error && !is_other_type {
            return self.give_up();
        }
        let is_same = watch.reply == self.reply
            || (self.is_unordered && is_permuted(&watch.reply, &self.reply));
        let front = &self.pool.front;
        front.shadow.checks.fetch_add(1, Ordering::Relaxed);
        if is_same {
            return self.give_up();
        }
        let Some(watch) = self.watch.take() else {
            return;
        };
        let (pool, key) = (Rc::clone(&self.pool), std::mem::take(&mut self.key));
        tokio::task::spawn_local(async move {
            // What upstream has to tell of this change is applied by then.
            let _ = pool.front.tracker.fence().await;
            pool.front.judge_difference(watch, &key);
            pool.checks.set(pool.checks.get() - 1);
        });
    }

    /// It is not compared any more.
    pub(super) fn give_up(&mut self) {
        if let Some(watch) = self.watch.take() {
            let front = &self.pool.front;
            front.near.unwatch(watch, front.now());
            self.pool.checks.set(self.pool.checks.get() - 1);
        }
    }
}

/// Whether two replies are the same but for the order of their lines.
fn is_permuted(one: &[u8], other: &[u8]) -> bool {
    let sorted = |reply: &[u8]| {
        let mut lines: Vec<Vec<u8>> = reply.split(|byte| *byte == b'\n').map(Vec::from).collect();
        lines.sort_unstable();
        lines
    };
    one.len() == other.len() && sorted(one) == sorted(other)
}

impl Front {
    fn judge_difference(&self, watch: Watch, key: &[u8]) {
        let shadow = &self.shadow;
        let age_ms = watch.age_ms;
        if !self.near.unwatch(watch, self.now()) {
            shadow.races.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let at = STALE_AGES_MS.partition_point(|bound| *bound < age_ms);
        shadow.ages[at].fetch_add(1, Ordering::Relaxed);
        shadow.ages_sum_ms.fetch_add(age_ms, Ordering::Relaxed);
        let stale_served_total = shadow.stale.fetch_add(1, Ordering::Relaxed) + 1;
        self.void(key, Why::Request);
        let mut warned = shadow.warned.lock();
        if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            *warned = Some(clock::now());
            let key_hash = format!("{:016x}", self.instance.store.hash(key));
            tracing::warn!(
                key_hash,
                age_ms,
                stale_served_total,
                "a stale copy was served: its key changed, and upstream did not tell (SWAPDB?)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_permuted;

    #[test]
    fn elements_in_another_order_are_the_same() {
        let one = b"*2\r\n$1\r\na\r\n$1\r\nb\r\n";
        assert!(is_permuted(one, b"*2\r\n$1\r\nb\r\n$1\r\na\r\n"));
        assert!(!is_permuted(one, b"*2\r\n$1\r\na\r\n$1\r\nc\r\n"));
        assert!(!is_permuted(one, b"*1\r\n$1\r\na\r\n"));
    }
}
