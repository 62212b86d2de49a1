//! Who has to go when memory is full: `maxmemory-policy`.
//!
//! The policies of Redis are sampled as Redis samples: a few items are looked at, the best
//! candidates are remembered in a pool over several evictions, the worst of them goes. The default
//! is our own, [`Policy::AllKeysTinyLfu`]: a window of the newest items by age, then a main area
//! without a list, whose victim is the least of a few samples by (frequency + ¼) / size; what
//! leaves the window must beat it, or goes itself. An item never is the victim of its own
//! insertion. Expired items go before any other. Everything happens under the shard's lock; there
//! is no thread and no queue.

pub(super) mod sketch;
pub(super) mod window;

use super::item::{Flags, Handle};
use super::shard::Shard;

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
    /// `maxmemory-samples`: items looked at for one eviction.
    pub samples: usize,
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

/// A candidate. It may be gone when its turn comes, so it is remembered by its hash.
#[derive(Clone, Copy)]
struct Candidate {
    score: f32,
    hash: u64,
    db: u16,
}

/// The best candidates seen so far, the first to go in front.
#[derive(Default)]
pub(super) struct Pool(Vec<Candidate>);

/// As many as Redis keeps (`EVPOOL_SIZE`).
const POOL_SIZE: usize = 16;

impl Pool {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn offer(&mut self, candidate: Candidate) {
        if self
            .0
            .iter()
            .any(|other| other.hash == candidate.hash && other.db == candidate.db)
        {
            return;
        }
        let position = self
            .0
            .partition_point(|other| other.score <= candidate.score);
        if position < POOL_SIZE {
            self.0.truncate(POOL_SIZE - 1);
            self.0.insert(position, candidate);
        }
    }

    fn take(&mut self) -> Option<Candidate> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }
}

impl Shard {
    /// Makes room by taking out one item, to let in another that costs `incoming` bytes. False if
    /// the policy has nobody to take.
    pub(super) fn evict_one(&mut self, incoming: usize, now_ms: u64) -> bool {
        if self.remove_expired(now_ms, &mut 1) > 0 {
            return true;
        }
        let victim = match self.tuning.policy {
            Policy::NoEviction => None,
            Policy::AllKeysTinyLfu => self.tinylfu_victim(incoming),
            Policy::VolatileTtl => self.wheel.soonest(),
            Policy::VolatileRandom => {
                let random = self.random();
                self.wheel.random(random)
            }
            Policy::AllKeysRandom => self.any_item(),
            Policy::AllKeysLru | Policy::AllKeysLfu | Policy::VolatileLru | Policy::VolatileLfu => {
                self.sampled_victim(self.tuning.samples, now_ms)
            }
        };
        let Some((db, handle)) = victim else {
            return false;
        };
        self.take_out(db, self.hash_of(handle.key()), handle);
        self.evicted += 1;
        true
    }

    /// The lesser of the window's oldest and of main's least, if it is the window's turn; else
    /// main's least.
    fn tinylfu_victim(&mut self, incoming: usize) -> Option<(u16, Handle)> {
        let main_is_empty = self.len() == self.window.len();
        if self.window.bytes() + incoming <= self.window_bytes_max && !main_is_empty {
            return self
                .sampled_victim(TINYLFU_SAMPLES, 0)
                .or_else(|| self.window.pop());
        }
        let Some((db, leaving)) = self.window.pop() else {
            return self.sampled_victim(TINYLFU_SAMPLES, 0);
        };
        // It left the window, and is a part of main unless it is the lesser.
        let Some((victim_db, victim)) = self.sampled_victim(TINYLFU_SAMPLES, 0) else {
            return Some((db, leaving));
        };
        if self.value_of_keeping(leaving) > self.value_of_keeping(victim) {
            Some((victim_db, victim))
        } else {
            Some((db, leaving))
        }
    }

    /// The first to go of the pool, after it saw `samples` more items.
    fn sampled_victim(&mut self, samples: usize, now_ms: u64) -> Option<(u16, Handle)> {
        // A sample can hit empty buckets or items that are not asked for; a few tries each.
        for _ in 0..SAMPLING_ROUNDS {
            self.fill_pool(samples, now_ms);
            while let Some(candidate) = self.pool.take() {
                let Some(handle) = self.candidate(candidate) else {
                    continue;
                };
                let score = self.score(handle, now_ms);
                // It was used since: back into the pool, unless it is still the least.
                if score > candidate.score && self.pool.0.first().is_some_and(|c| c.score < score) {
                    self.pool.offer(Candidate { score, ..candidate });
                    continue;
                }
                return Some((candidate.db, handle));
            }
        }
        self.first_evictable()
    }

    fn fill_pool(&mut self, samples: usize, now_ms: u64) {
        let mut found: [Option<(u16, Handle)>; SAMPLES_MAX] = [None; SAMPLES_MAX];
        let mut count = 0;
        let wanted = samples.min(SAMPLES_MAX);
        let volatile = self.tuning.policy.is_volatile();
        for _ in 0..wanted * 2 {
            if count >= wanted {
                break;
            }
            let random = self.random();
            if volatile {
                if let Some(sample) = self.wheel.random(random) {
                    found[count] = Some(sample);
                    count += 1;
                }
                continue;
            }
            let Some(db) = self.any_database(random) else {
                return;
            };
            self.tables[usize::from(db)].sample(random >> 8, |handle| {
                if count < wanted && !handle.has(Flags::WINDOW) {
                    handle.prefetch();
                    found[count] = Some((db, handle));
                    count += 1;
                }
            });
        }
        for (db, handle) in found.into_iter().flatten() {
            let (score, hash) = (self.score(handle, now_ms), self.hash_of(handle.key()));
            self.pool.offer(Candidate { score, hash, db });
        }
    }

    /// The item a candidate stands for, if it is still there and still evictable.
    fn candidate(&self, candidate: Candidate) -> Option<Handle> {
        let table = self.tables.get(usize::from(candidate.db))?;
        let volatile = self.tuning.policy.is_volatile();
        table.find_by_hash(candidate.hash, |handle| {
            !handle.has(Flags::WINDOW)
                && (!volatile || handle.expires_at().is_some())
                && self.hash_of(handle.key()) == candidate.hash
        })
    }

    /// When sampling found nobody: the first that comes, so that eviction never fails while
    /// there is somebody.
    fn first_evictable(&mut self) -> Option<(u16, Handle)> {
        if self.tuning.policy.is_volatile() {
            return self.wheel.soonest();
        }
        for (db, table) in (0u16..).zip(&self.tables) {
            let (mut cursor, mut found) = (0, None);
            while table.len() > 0 && found.is_none() {
                cursor = table.scan(cursor, |handle| {
                    if !handle.has(Flags::WINDOW) {
                        found = Some((db, handle));
                    }
                });
                if cursor == 0 {
                    break;
                }
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn any_item(&mut self) -> Option<(u16, Handle)> {
        for _ in 0..SAMPLING_ROUNDS {
            let random = self.random();
            let db = self.any_database(random)?;
            let (mut found, mut seen) = (None, 0);
            self.tables[usize::from(db)].sample(random >> 8, |handle| {
                seen += 1;
                // Each item of the bucket with the same chance.
                if (random >> 40) % seen == 0 {
                    found = Some((db, handle));
                }
            });
            if found.is_some() {
                return found;
            }
        }
        self.first_evictable()
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

    /// What goes first has the lowest score.
    fn score(&self, handle: Handle, now_ms: u64) -> f32 {
        match self.tuning.policy {
            Policy::AllKeysTinyLfu => self.value_of_keeping(handle),
            Policy::AllKeysLfu | Policy::VolatileLfu => {
                f32::from(self.tuning.decayed(handle.clock(), now_ms))
            }
            Policy::NoEviction
            | Policy::AllKeysLru
            | Policy::AllKeysRandom
            | Policy::VolatileLru
            | Policy::VolatileRandom
            | Policy::VolatileTtl => {
                #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
                let idle = idle_seconds(handle.clock(), now_ms) as f32;
                -idle
            }
        }
    }

    /// Hits that may be expected of a byte.
    fn value_of_keeping(&self, handle: Handle) -> f32 {
        let frequency = self.sketch.frequency(self.hash_of(handle.key()));
        #[expect(clippy::cast_precision_loss, reason = "a weight needs no precision")]
        let bytes = handle.charge() as f32;
        (f32::from(frequency) + NEVER_SEEN) / bytes
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
            self.sketch.count(hash);
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
        self.window.push(db, handle);
        // Without need for room, what is too old for the window goes to main unasked. The
        // newest stays, whatever its size.
        while self.window.bytes() > self.window_bytes_max && self.window.len() > 1 {
            self.window.pop();
        }
    }
}

impl Tuning {
    /// The clock of a new item.
    fn first_clock(&self, now_ms: u64) -> u32 {
        if self.policy.is_lfu() {
            minutes_clock(now_ms) << 8 | LFU_FIRST_COUNT
        } else {
            seconds_clock(now_ms)
        }
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
    u32::try_from(now_ms / 1000 & 0xff_ffff).unwrap_or(0)
}

/// Minutes, in 16 bits: Redis's LFU clock.
fn minutes_clock(now_ms: u64) -> u32 {
    u32::try_from(now_ms / 60_000 & 0xffff).unwrap_or(0)
}

/// How long ago an item with this clock was used.
pub(super) fn idle_seconds(clock: u32, now_ms: u64) -> u32 {
    seconds_clock(now_ms).wrapping_sub(clock) & 0xff_ffff
}

/// Items looked at for a victim of TinyLFU.
const TINYLFU_SAMPLES: usize = 8;
/// Bound of `maxmemory-samples`, as in Redis.
pub(super) const SAMPLES_MAX: usize = 64;
const SAMPLING_ROUNDS: usize = 4;
/// What an item is worth that was never asked for: a tie goes by size.
const NEVER_SEEN: f32 = 0.25;
/// Redis's `LFU_INIT_VAL`.
const LFU_FIRST_COUNT: u32 = 5;
