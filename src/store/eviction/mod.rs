//! Who has to go when memory is full: `maxmemory-policy`.
//!
//! The policies of Redis are sampled as Redis samples: a few items are looked at, the best
//! candidates are remembered in a pool over several evictions, the worst of them goes. The default
//! is our own, [`Policy::AllKeysTinyLfu`]: a window of the newest items by age, then a main area
//! without a list, whose victim is the least of a few samples by (frequency + ¼) / size; what
//! leaves the window must beat it, or goes itself. An item never is the victim of its own
//! insertion. Expired items go before any other. Everything happens under the shard's lock; there
//! is no thread and no queue. Shards with few items choose together (`domain`).

pub(super) mod domain;
mod pool;
pub(super) mod sketch;
mod times;
pub(super) mod window;

use super::item::{Flags, Handle};
use super::shard::Shard;
pub(super) use pool::Pool;
pub(super) use times::Times;

/// Which item goes when there is no room, as `maxmemory-policy` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// None: writes that need memory are refused.
    NoEviction,
    /// The least recently used of a sample.
    AllKeysLru,
    /// The least frequently used of a sample, by Redis's logarithmic counter.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// The least of a sample by frequency and size, with a window for new items. The default.
    AllKeysTinyLfu,
    /// The least recently used of a sample of those with an expiry.
    VolatileLru,
    /// The least frequently used of a sample of those with an expiry.
    VolatileLfu,
    /// Any with an expiry.
    VolatileRandom,
    /// The one that expires first.
    VolatileTtl,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 9] = [
        Self::VolatileLru,
        Self::VolatileLfu,
        Self::VolatileRandom,
        Self::VolatileTtl,
        Self::AllKeysLru,
        Self::AllKeysLfu,
        Self::AllKeysRandom,
        Self::AllKeysTinyLfu,
        Self::NoEviction,
    ];

    /// Its name in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEviction => "noeviction",
            Self::AllKeysLru => "allkeys-lru",
            Self::AllKeysLfu => "allkeys-lfu",
            Self::AllKeysRandom => "allkeys-random",
            Self::AllKeysTinyLfu => "allkeys-tinylfu",
            Self::VolatileLru => "volatile-lru",
            Self::VolatileLfu => "volatile-lfu",
            Self::VolatileRandom => "volatile-random",
            Self::VolatileTtl => "volatile-ttl",
        }
    }

    /// The policy of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name().eq_ignore_ascii_case(name))
    }

    /// Whether items carry Redis's frequency counter rather than the time of their last use.
    #[must_use]
    pub fn is_lfu(self) -> bool {
        matches!(self, Self::AllKeysLfu | Self::VolatileLfu)
    }

    fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl
        )
    }
}

/// The policy and its knobs, with Redis's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// `maxmemory-policy`
    pub policy: Policy,
    /// `maxmemory-samples`: items looked at for one eviction, at most [`SAMPLES_MAX`].
    pub samples: u16,
    /// `lfu-log-factor`: the higher, the more accesses a counter can tell apart.
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`: minutes until a counter that nobody raises falls by one; 0: never.
    pub lfu_decay_minutes: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            policy: Policy::AllKeysTinyLfu,
            samples: 5,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
        }
    }
}

impl Shard {
    /// Items that the policy may ever evict.
    pub(super) fn evictable_len(&self) -> usize {
        let policy = self.tuning.policy;
        if policy == Policy::NoEviction {
            0
        } else if policy.is_volatile() {
            self.wheel.len()
        } else {
            self.len()
        }
    }

    /// Those of them that are not in the window.
    fn eligible_len(&self) -> usize {
        self.evictable_len() - self.window.len()
    }

    /// An item of a bucket that `random` chooses.
    fn any_item(&self, random: u64) -> Option<(u16, Handle)> {
        let db = self.any_database(random)?;
        let mut handles = [None; SAMPLES_MAX];
        let mut count = 0;
        self.tables[usize::from(db)].sample(random >> 8, |handle| {
            if count < SAMPLES_MAX {
                handles[count] = Some(handle);
                count += 1;
            }
        });
        let chosen = usize::try_from((random >> 40) % count.max(1) as u64).ok()?;
        handles[chosen].map(|handle| (db, handle))
    }

    /// A database, each with a chance by its number of items.
    fn any_database(&self, random: u64) -> Option<u16> {
        if let [table] = &self.tables[..] {
            return (table.len() > 0).then_some(0);
        }
        let mut index = usize::try_from(random % self.len().max(1) as u64).ok()?;
        for (db, table) in (0u16..).zip(&self.tables) {
            if index < table.len() {
                return Some(db);
            }
            index -= table.len();
        }
        None
    }

    /// Notes that an item was used.
    #[inline]
    pub(super) fn used(&mut self, hash: u64, handle: Handle, now_ms: u64) {
        if self.tuning.policy.is_lfu() {
            let random = self.random();
            handle.set_clock(self.tuning.counted(handle.clock(), now_ms, random));
            return;
        }
        let clock = seconds_clock(now_ms);
        if handle.clock() != clock {
            handle.set_clock(clock);
        }
        if self.tuning.policy == Policy::AllKeysTinyLfu {
            self.sketch.count(hash, &self.times);
            if handle.has(Flags::WINDOW) && !handle.has(Flags::TOUCHED) {
                handle.set_flag(Flags::TOUCHED, true);
            }
        }
    }

    /// Gives a new item its place and its clock.
    pub(super) fn admit(&mut self, db: u16, handle: Handle, now_ms: u64) {
        handle.set_clock(self.tuning.first_clock(now_ms));
        if self.tuning.policy != Policy::AllKeysTinyLfu || self.window_bytes_max == 0 {
            return;
        }
        let is_small = self.is_small();
        let stamp = if is_small {
            self.times.next_stamp()
        } else {
            self.times.stamp()
        };
        self.window.push(db, handle, stamp);
        if is_small {
            // The window is the domain's.
            return;
        }
        // Without need for room, what is too old for the window goes to main unasked. The
        // newest stays, whatever its size.
        while self.window.bytes() > self.window_bytes_max && self.window.len() > 1 {
            let leaving = self.window.oldest(stamp).and_then(|_| self.window.pop());
            if let Some((db, handle)) = leaving {
                self.offer(db, handle);
            }
        }
    }

    /// Remembers an item as a candidate for eviction.
    fn offer(&mut self, db: u16, handle: Handle) {
        let hash = self.hash_of(handle.key());
        let score = self.value_of_keeping(hash, handle);
        self.pool.offer(pool::Candidate {
            score,
            hash,
            db,
            shard: self.index,
        });
    }

    /// Hits that may be expected of a byte.
    fn value_of_keeping(&self, hash: u64, handle: Handle) -> f32 {
        let frequency = self.sketch.frequency(hash);
        #[expect(clippy::cast_precision_loss, reason = "a weight needs no precision")]
        let bytes = handle.charge() as f32;
        (f32::from(frequency) + NEVER_SEEN) / bytes
    }

    /// Whether there are too few items to evict among them alone.
    pub(super) fn is_small(&self) -> bool {
        self.len() < DOMAIN_ITEMS_MIN
    }
}

impl Tuning {
    /// The clock of a new item.
    fn first_clock(&self, now_ms: u64) -> u32 {
        if self.policy.is_lfu() {
            self.clock_with(None, now_ms)
        } else {
            seconds_clock(now_ms)
        }
    }

    /// The clock of an item that was used so often, under a policy that counts.
    pub(super) fn clock_with(&self, count: Option<u8>, now_ms: u64) -> u32 {
        minutes_clock(now_ms) << 8 | count.map_or(LFU_FIRST_COUNT, u32::from)
    }

    /// The clock after one more use: Redis's `LFULogIncr` on the decayed counter.
    fn counted(&self, clock: u32, now_ms: u64, random: u64) -> u32 {
        let count = u32::from(self.decayed(clock, now_ms));
        let above = count.saturating_sub(LFU_FIRST_COUNT);
        #[expect(clippy::cast_precision_loss, reason = "a chance needs no precision")]
        let dice = (random >> 11) as f64 / (1u64 << 53) as f64;
        let chance = 1.0 / f64::from(above * self.lfu_log_factor + 1);
        let count = if count < 255 && dice < chance {
            count + 1
        } else {
            count
        };
        minutes_clock(now_ms) << 8 | count
    }

    /// The counter of an item now: one less for each `lfu-decay-time` that passed.
    pub(super) fn decayed(&self, clock: u32, now_ms: u64) -> u8 {
        let elapsed = minutes_clock(now_ms).wrapping_sub(clock >> 8) & 0xffff;
        let periods = elapsed.checked_div(self.lfu_decay_minutes).unwrap_or(0);
        u8::try_from((clock & 0xff).saturating_sub(periods)).unwrap_or(0)
    }
}

/// Seconds, in 24 bits: Redis's LRU clock.
fn seconds_clock(now_ms: u64) -> u32 {
    u32::try_from((now_ms / 1000) & 0xff_ffff).unwrap_or(0)
}

/// Minutes, in 16 bits: Redis's LFU clock.
fn minutes_clock(now_ms: u64) -> u32 {
    u32::try_from((now_ms / 60_000) & 0xffff).unwrap_or(0)
}

/// How long ago an item with this clock was used.
pub(super) fn idle_seconds(clock: u32, now_ms: u64) -> u32 {
    seconds_clock(now_ms).wrapping_sub(clock) & 0xff_ffff
}

/// An eviction among fewer items than this chooses badly; shards with fewer evict together.
pub(super) const DOMAIN_ITEMS_MIN: usize = 1024;
/// Items looked at for a victim of TinyLFU.
const TINYLFU_SAMPLES: usize = 8;
/// Bound of `maxmemory-samples`, as in Redis.
pub(super) const SAMPLES_MAX: usize = 64;
const SAMPLING_ROUNDS: usize = 4;
/// What an item is worth that was never asked for: a tie goes by size.
const NEVER_SEEN: f32 = 0.25;
/// Redis's `LFU_INIT_VAL`.
const LFU_FIRST_COUNT: u32 = 5;
