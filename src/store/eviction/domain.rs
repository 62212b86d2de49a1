//! Who goes: the choice among the items of a shard, or of several shards that are small.
//!
//! A sample says little about a shard of ten items, and a window of two is none: 64 small shards
//! that each evict for themselves lose up to 17 points of hit ratio to one large. So shards with
//! few items are looked at together, as one [`Domain`]: their windows are one by the stamps of
//! their items, and samples come from all of them.

use super::pool::{Candidate, Pool};
use super::window::Window;
use super::{Policy, SAMPLES_MAX, SAMPLING_ROUNDS, TINYLFU_SAMPLES, idle_seconds};
use crate::store::item::{Flags, Handle};
use crate::store::shard::Shard;

/// A locked shard and its index.
pub(in crate::store) struct Member<'a> {
    pub(in crate::store) index: u16,
    pub(in crate::store) shard: &'a mut Shard,
}

impl<'a> Member<'a> {
    pub(in crate::store) fn new(index: usize, shard: &'a mut Shard) -> Self {
        Self {
            index: u16::try_from(index).expect("at most SHARDS_MAX"),
            shard,
        }
    }
}

/// Shards that evict as one, in order of their index.
pub(in crate::store) struct Domain<'d, 'a> {
    members: &'d mut [Member<'a>],
    /// How much memory their windows may take together.
    window_bytes_max: usize,
    now_ms: u64,
    pool: Pool,
    random: u64,
    /// Items that the policy may choose from.
    eligible: usize,
}

/// An item that is about to go.
#[derive(Clone, Copy)]
struct Victim {
    /// Its member's position.
    member: usize,
    db: u16,
    handle: Handle,
}

impl<'d, 'a> Domain<'d, 'a> {
    pub(in crate::store) fn new(
        members: &'d mut [Member<'a>],
        window_bytes_max: usize,
        now_ms: u64,
    ) -> Self {
        Self {
            members,
            window_bytes_max,
            now_ms,
            pool: Pool::default(),
            random: 0,
            eligible: 0,
        }
    }

    /// Makes room by taking out one item, to let in another that costs `incoming` bytes. False if
    /// the policy has nobody to take.
    pub(in crate::store) fn evict_one(&mut self, incoming: usize) -> bool {
        for member in &mut *self.members {
            let shard = &mut *member.shard;
            shard.sketch.grow_old(&shard.times);
            if member
                .shard
                .remove_expired(self.now_ms, &mut { EXPIRY_STEPS })
                > 0
            {
                return true;
            }
        }
        let Some(first) = self.members.first_mut() else {
            return false;
        };
        // The pool is the first member's, whoever asks.
        self.pool = std::mem::take(&mut first.shard.pool);
        self.random = first.shard.random() | 1;
        let victim = self.victim(incoming);
        if let Some(first) = self.members.first_mut() {
            first.shard.pool = std::mem::take(&mut self.pool);
        }
        let Some(Victim { member, db, handle }) = victim else {
            return false;
        };
        let shard = &mut *self.members[member].shard;
        shard.take_out(db, shard.hash_of(handle.key()), handle);
        shard.evicted += 1;
        true
    }

    fn policy(&self) -> Policy {
        self.members
            .first()
            .map_or(Policy::NoEviction, |member| member.shard.tuning.policy)
    }

    fn victim(&mut self, incoming: usize) -> Option<Victim> {
        let policy = self.policy();
        let eligible = |member: &Member<'_>| member.shard.eligible_len();
        self.eligible = self.members.iter().map(eligible).sum();
        match policy {
            Policy::NoEviction => None,
            Policy::AllKeysTinyLfu => self.tinylfu_victim(incoming),
            Policy::VolatileTtl => self.soonest(),
            Policy::AllKeysRandom | Policy::VolatileRandom => self.any(),
            Policy::AllKeysLru | Policy::AllKeysLfu | Policy::VolatileLru | Policy::VolatileLfu => {
                let samples = self.members.first()?.shard.tuning.samples;
                self.sampled_victim(usize::from(samples))
                    .map(|(victim, _)| victim)
            }
        }
    }

    /// The lesser of the window's oldest and of main's least, if it is the window's turn; else
    /// main's least.
    fn tinylfu_victim(&mut self, incoming: usize) -> Option<Victim> {
        while self.window_bytes() > self.window_bytes_max && self.window_len() > 1 {
            // Small shards leave it to us to hold the window's bound. Before memory was full it
            // may have grown far beyond, so here a second chance would favour the oldest.
            if let Some(leaving) = self.leave_first(|window, _| window.first()) {
                self.offer(leaving, self.hash_of(leaving));
            }
        }
        let main_is_empty = self.eligible == 0;
        if self.window_bytes() + incoming <= self.window_bytes_max && !main_is_empty {
            let least = self
                .sampled_victim(TINYLFU_SAMPLES)
                .map(|(victim, _)| victim);
            return least.or_else(|| self.leave_window());
        }
        let leaving = self.leave_window();
        let least = if main_is_empty {
            None
        } else {
            self.sampled_victim(TINYLFU_SAMPLES)
        };
        let (Some(leaving), Some((victim, candidate))) = (leaving, least) else {
            return leaving.or_else(|| least.map(|(victim, _)| victim));
        };
        if self.score(leaving, self.hash_of(leaving)) > candidate.score {
            return Some(victim);
        }
        self.pool.offer(candidate);
        Some(leaving)
    }

    fn window_bytes(&self) -> usize {
        self.members
            .iter()
            .map(|member| member.shard.window.bytes())
            .sum()
    }

    fn window_len(&self) -> usize {
        self.members
            .iter()
            .map(|member| member.shard.window.len())
            .sum()
    }

    /// The item whose turn it is in the windows moves to main.
    fn leave_window(&mut self) -> Option<Victim> {
        self.leave_first(Window::oldest)
    }

    /// The first item of all windows moves to main, by the stamps that `stamp` tells.
    fn leave_first(&mut self, stamp: fn(&mut Window, u32) -> Option<u32>) -> Option<Victim> {
        let (mut first, mut age) = (None, 0);
        for (position, member) in self.members.iter_mut().enumerate() {
            let now = member.shard.times.stamp();
            if let Some(stamp) = stamp(&mut member.shard.window, now)
                && (first.is_none() || now.wrapping_sub(stamp) > age)
            {
                (first, age) = (Some(position), now.wrapping_sub(stamp));
            }
        }
        let member = first?;
        let (db, handle) = self.members[member].shard.window.pop()?;
        self.eligible += 1;
        Some(Victim { member, db, handle })
    }

    /// The first to go of the pool, after it saw `samples` more items.
    fn sampled_victim(&mut self, samples: usize) -> Option<(Victim, Candidate)> {
        // A sample can hit empty buckets or items that are not asked for; a few tries each.
        for _ in 0..SAMPLING_ROUNDS {
            self.fill_pool(samples);
            while let Some(candidate) = self.pool.take() {
                let Some(victim) = self.still_there(candidate) else {
                    continue;
                };
                let candidate = Candidate {
                    score: self.score(victim, candidate.hash),
                    ..candidate
                };
                // It was used since: back into the pool, unless it is still the least.
                if self.pool.has_less_than(candidate.score) {
                    self.pool.offer(candidate);
                    continue;
                }
                return Some((victim, candidate));
            }
        }
        None
    }

    fn fill_pool(&mut self, samples: usize) {
        let mut found: [Option<Victim>; SAMPLES_MAX] = [None; SAMPLES_MAX];
        let mut count = 0;
        let wanted = samples.min(SAMPLES_MAX);
        let volatile = self.policy().is_volatile();
        for _ in 0..wanted * 2 {
            if count >= wanted {
                break;
            }
            let Some(member) = self.any_member() else {
                return;
            };
            let random = self.random();
            let shard = &mut *self.members[member].shard;
            if volatile {
                if let Some((db, handle)) = shard.wheel.random(random) {
                    found[count] = Some(Victim { member, db, handle });
                    count += 1;
                }
                continue;
            }
            let Some(db) = shard.any_database(random) else {
                return;
            };
            shard.tables[usize::from(db)].sample(random >> 8, |handle| {
                if count < wanted {
                    handle.prefetch();
                    found[count] = Some(Victim { member, db, handle });
                    count += 1;
                }
            });
        }
        // In two steps, so that the cache misses of one sample overlap with the others'.
        let mut hashes = [0; SAMPLES_MAX];
        for (victim, hash) in found.iter().flatten().zip(&mut hashes) {
            let shard = &*self.members[victim.member].shard;
            *hash = shard.hash_of(victim.handle.key());
            shard.sketch.prefetch(*hash);
        }
        for (&victim, hash) in found.iter().flatten().zip(hashes) {
            if !victim.handle.has(Flags::WINDOW) {
                self.offer(victim, hash);
            }
        }
    }

    /// Remembers a candidate.
    fn offer(&mut self, victim: Victim, hash: u64) {
        let (db, shard) = (victim.db, self.members[victim.member].index);
        let score = self.score(victim, hash);
        self.pool.offer(Candidate {
            score,
            db,
            shard,
            hash,
        });
    }

    fn hash_of(&self, victim: Victim) -> u64 {
        self.members[victim.member]
            .shard
            .hash_of(victim.handle.key())
    }

    /// The item a candidate stands for, if it is still there and still evictable.
    fn still_there(&self, candidate: Candidate) -> Option<Victim> {
        let by_index = |member: &Member<'_>| member.index;
        let member = self
            .members
            .binary_search_by_key(&candidate.shard, by_index)
            .ok()?;
        let shard = &*self.members[member].shard;
        let table = shard.tables.get(usize::from(candidate.db))?;
        let volatile = shard.tuning.policy.is_volatile();
        let handle = table.find_by_hash(candidate.hash, |handle| {
            !handle.has(Flags::WINDOW)
                && (!volatile || handle.expires_at().is_some())
                && shard.hash_of(handle.key()) == candidate.hash
        })?;
        Some(Victim {
            member,
            db: candidate.db,
            handle,
        })
    }

    /// The one that expires first.
    fn soonest(&mut self) -> Option<Victim> {
        let each = self
            .members
            .iter_mut()
            .enumerate()
            .filter_map(|(member, each)| {
                each.shard
                    .wheel
                    .soonest()
                    .map(|(db, handle)| Victim { member, db, handle })
            });
        each.min_by_key(|victim| victim.handle.expires_at())
    }

    fn any(&mut self) -> Option<Victim> {
        let volatile = self.policy().is_volatile();
        for _ in 0..SAMPLES_MAX {
            let member = self.any_member()?;
            let random = self.random();
            let shard = &mut *self.members[member].shard;
            let found = if volatile {
                shard.wheel.random(random)
            } else {
                shard.any_item(random)
            };
            if let Some((db, handle)) = found {
                return Some(Victim { member, db, handle });
            }
        }
        None
    }

    /// A member, each with a chance by its number of items.
    fn any_member(&mut self) -> Option<usize> {
        if self.members.len() == 1 {
            return (self.eligible > 0).then_some(0);
        }
        let mut index = usize::try_from(self.random() % self.eligible.max(1) as u64).ok()?;
        for (position, member) in self.members.iter().enumerate() {
            let len = member.shard.eligible_len();
            if index < len {
                return Some(position);
            }
            index -= len;
        }
        None
    }

    /// An xorshift step; good enough to choose samples.
    fn random(&mut self) -> u64 {
        crate::store::shard::xorshift(&mut self.random)
    }

    /// What goes first has the lowest score.
    fn score(&self, victim: Victim, hash: u64) -> f32 {
        let shard = &*self.members[victim.member].shard;
        let clock = victim.handle.clock();
        match shard.tuning.policy {
            Policy::AllKeysTinyLfu => shard.value_of_keeping(hash, victim.handle),
            Policy::AllKeysLfu | Policy::VolatileLfu => {
                f32::from(shard.tuning.decayed(clock, self.now_ms))
            }
            Policy::NoEviction
            | Policy::AllKeysLru
            | Policy::AllKeysRandom
            | Policy::VolatileLru
            | Policy::VolatileRandom
            | Policy::VolatileTtl => {
                #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
                let idle = idle_seconds(clock, self.now_ms) as f32;
                -idle
            }
        }
    }
}

/// How many items an eviction may move within the expiry wheel to find an expired one.
const EXPIRY_STEPS: usize = 64;
