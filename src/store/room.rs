//! Making room: how a write is paid for, and who gives way if it cannot be.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::eviction::domain::{Domain, Member};
use super::eviction::sketch::Sketch;
use super::eviction::{DOMAIN_ITEMS_MIN, Policy, Tuning};
use super::locked::Guards;
use super::shard::Shard;
use super::{Full, Padded, Store};

/// What came of looking for somebody to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Made,
    /// Not here, but another thread was in the way.
    Busy,
    Nobody,
}

/// Who needs room, and how much.
#[derive(Clone, Copy)]
struct Need {
    /// The shard that is written to, if one is.
    shard: Option<usize>,
    bytes: usize,
    now_ms: u64,
}

impl Store {
    /// Changes bound and policy. If more is in use than allowed now, [`Self::shrink`] is to be
    /// called.
    pub fn set_limits(&self, bytes_max: Option<usize>, tuning: Tuning) {
        self.budget.set_max(bytes_max);
        let has_window = bytes_max.is_some() && tuning.policy == Policy::AllKeysTinyLfu;
        for (index, padded) in self.shards.iter().enumerate() {
            let mut shard = padded.lock.lock();
            let same_policy = shard.tuning.policy == tuning.policy;
            shard.tuning = tuning;
            if !has_window || !same_policy {
                shard.forget_uses();
                shard.open_window();
            } else if shard.window_bytes_max > 0 {
                shard.window_bytes_max = self.window_share();
            }
            self.see(index, &shard);
        }
    }

    /// Evicts until the bound holds, for at most `evictions`. True when there is no more to do.
    pub fn shrink(&self, now_ms: u64, evictions: usize) -> bool {
        let mut none = Guards::Many(Vec::new());
        let need = Need {
            shard: None,
            bytes: 0,
            now_ms,
        };
        for _ in 0..evictions {
            if !self.budget.is_over() || self.evict(&mut none, need) == Room::Nobody {
                return true;
            }
        }
        !self.budget.is_over()
    }

    /// Fills up a shard's credit, by the budget or by eviction.
    pub(super) fn reserve(
        &self,
        guards: &mut Guards<'_>,
        index: usize,
        bytes: usize,
        now_ms: u64,
    ) -> Result<(), Full> {
        if bytes > self.budget.max().unwrap_or(isize::MAX.unsigned_abs()) {
            return Err(Full);
        }
        let installment = self.start_counting(guards.find(index).expect(OWN_SHARD));
        let need = Need {
            shard: Some(index),
            bytes: bytes + installment,
            now_ms,
        };
        let mut retries = RETRIES;
        loop {
            let shard = guards.find(index).expect(OWN_SHARD);
            self.see(index, shard);
            if self.take(shard, need.bytes) {
                shard.save(installment);
                return Ok(());
            }
            match self.evict(guards, need) {
                Room::Made => continue,
                Room::Nobody => retries = 0,
                Room::Busy => retries -= 1,
            }
            if retries == 0 {
                // It may be the sketch alone that there is no room for.
                let shard = guards.find(index).expect(OWN_SHARD);
                return self.take(shard, bytes).then_some(()).ok_or(Full);
            }
            std::thread::yield_now();
        }
    }

    /// The same for a write that is never refused: what there is no room for is overdrawn, and who
    /// writes next has to make up for it.
    pub(super) fn reserve_beyond(
        &self,
        guards: &mut Guards<'_>,
        index: usize,
        bytes: usize,
        now_ms: u64,
    ) {
        if self.reserve(guards, index, bytes, now_ms).is_err() {
            let shard = guards.find(index).expect(OWN_SHARD);
            let short = bytes.saturating_sub(shard.credit);
            self.budget.overdraw(short);
            shard.changed = true;
            shard.credit += short;
        }
    }

    /// Puts aside what is missing to so many bytes for each shard, by index. Whether any was
    /// missing: then somebody may have been evicted for it.
    ///
    /// What is put aside is no credit, so that one shard does not get what another was given.
    pub(super) fn pledge(
        &self,
        guards: &mut Guards<'_>,
        pledged: &mut [usize],
        wanted: &[usize],
        now_ms: u64,
    ) -> Result<bool, Full> {
        if wanted.iter().sum::<usize>() > self.budget.max().unwrap_or(isize::MAX.unsigned_abs()) {
            return Err(Full);
        }
        let mut was_missing = false;
        for (index, (pledged, &wanted)) in pledged.iter_mut().zip(wanted).enumerate() {
            let missing = wanted.saturating_sub(*pledged);
            if missing > 0 {
                self.reserve(guards, index, missing, now_ms)?;
                guards.find(index).expect(OWN_SHARD).credit -= missing;
                *pledged += missing;
                was_missing = true;
            }
        }
        Ok(was_missing)
    }

    /// Takes what is missing to so much credit from the budget, and a little more if it can.
    fn take(&self, shard: &mut Shard, bytes: usize) -> bool {
        let short = bytes.saturating_sub(shard.credit);
        if short == 0 {
            return true;
        }
        for taken in [short + self.budget.chunk(), short] {
            if self.budget.take(taken) {
                shard.changed = true;
                shard.credit += taken;
                return true;
            }
        }
        false
    }

    /// Evicts one item: from the domain of the shard that needs room, unless that has less than its
    /// part, or would lose much of what it has to one large item.
    fn evict(&self, guards: &mut Guards<'_>, need: Need) -> Room {
        if !self.has_evictable(guards) {
            return self.clear_out(guards, need);
        }
        let span = self.span(need.shard);
        let share = self.budget.share() * span;
        if let Some(index) = need.shard
            && need.bytes <= share / 8
            && self.domain_bytes(index, span) + need.bytes > share / 8 * 7
            && self.evict_from(guards, index, span, need) == Room::Made
        {
            return Room::Made;
        }
        let domains = (0..self.shards.len()).step_by(span);
        if let Some(fullest) = domains.max_by_key(|&first| self.domain_bytes(first, span))
            && self.evict_from(guards, fullest, span, need) == Room::Made
        {
            return Room::Made;
        }
        // What was seen of the others may be out of date.
        self.evict_from_any(guards, need)
    }

    /// Evicts one item, or what has expired, from the first shard that has any.
    fn evict_from_any(&self, guards: &mut Guards<'_>, need: Need) -> Room {
        let mut room = Room::Nobody;
        for step in 0..self.shards.len() {
            let index = (need.shard.unwrap_or(0) + step) % self.shards.len();
            match self.evict_from(guards, index, 1, need) {
                Room::Made => return Room::Made,
                Room::Busy => room = Room::Busy,
                Room::Nobody => {}
            }
        }
        room
    }

    /// Whether the policy may evict anybody at all. Of shards that are not locked, as last seen.
    fn has_evictable(&self, guards: &mut Guards<'_>) -> bool {
        let seen = |shard: &Padded| shard.seen_items.load(Ordering::Relaxed);
        self.shards.iter().any(|shard| seen(shard) > 0)
            || guards
                .iter_mut()
                .any(|(_, shard)| shard.evictable_len() > 0)
    }

    /// Without anybody to evict: what has expired, and what other shards of the command have left
    /// over.
    fn clear_out(&self, guards: &mut Guards<'_>, need: Need) -> Room {
        let made = guards.iter_mut().any(|(index, shard)| {
            self.evict_among(&mut [Member::new(index, shard)], 1, need) == Room::Made
        });
        if made {
            return Room::Made;
        }
        self.evict_from_any(guards, need)
    }

    /// How many shards evict together with this one, so that there are enough items to choose
    /// from; without one, how many on average. A power of two.
    fn span(&self, index: Option<usize>) -> usize {
        let seen = |index: usize| self.shards[index].seen_items.load(Ordering::Relaxed);
        let sum = || (0..self.shards.len()).map(seen).sum::<usize>();
        let items = index.map_or_else(|| sum() / self.shards.len(), seen);
        let span = DOMAIN_ITEMS_MIN.div_ceil(items.max(1)).next_power_of_two();
        span.min(self.shards.len())
    }

    /// What the items of a shard and its neighbours cost, as last seen.
    fn domain_bytes(&self, index: usize, span: usize) -> usize {
        let first = index & !(span - 1);
        let seen = |shard: &Padded| shard.seen_bytes.load(Ordering::Relaxed);
        self.shards[first..first + span].iter().map(seen).sum()
    }

    /// Evicts one item from a shard and its neighbours.
    fn evict_from(&self, guards: &mut Guards<'_>, index: usize, span: usize, need: Need) -> Room {
        if span == 1 {
            if let Some(shard) = guards.find(index) {
                return self.evict_among(&mut [Member::new(index, shard)], span, need);
            }
            // Who may not be evicted may have expired.
            if self.shards[index].seen_bytes.load(Ordering::Relaxed) == 0 {
                return Room::Nobody;
            }
            let Some(mut shard) = self.shards[index].lock.try_lock() else {
                return Room::Busy;
            };
            return self.evict_among(&mut [Member::new(index, &mut shard)], span, need);
        }
        let first = index & !(span - 1);
        let mut busy = false;
        let mut locked: Vec<(usize, MutexGuard<'_, Shard>)> = Vec::new();
        for other in first..first + span {
            let is_empty = self.shards[other].seen_items.load(Ordering::Relaxed) == 0;
            if is_empty || guards.find(other).is_some() {
                continue;
            }
            match self.shards[other].lock.try_lock() {
                Some(guard) => locked.push((other, guard)),
                None => busy = true,
            }
        }
        let held = guards
            .iter_mut()
            .filter(|(held, _)| *held & !(span - 1) == first);
        let others = locked
            .iter_mut()
            .map(|(other, shard)| (*other, &mut **shard));
        let members = held
            .chain(others)
            .map(|(index, shard)| Member::new(index, shard));
        let mut members: Vec<Member<'_>> = members.collect();
        members.sort_unstable_by_key(|member| member.index);
        match self.evict_among(&mut members, span, need) {
            Room::Made => Room::Made,
            Room::Busy | Room::Nobody if busy => Room::Busy,
            Room::Busy | Room::Nobody => Room::Nobody,
        }
    }

    fn evict_among(&self, members: &mut [Member<'_>], span: usize, need: Need) -> Room {
        let is_own = |member: &Member<'_>| Some(usize::from(member.index)) == need.shard;
        let give_back = |members: &mut [Member<'_>]| {
            let others = members.iter_mut().filter(|member| !is_own(member));
            let left_over = others
                .map(|member| std::mem::take(&mut member.shard.credit))
                .sum();
            self.budget.give(left_over);
            left_over
        };
        if give_back(members) > 0 {
            return Room::Made;
        }
        let has_window = members
            .iter()
            .any(|member| member.shard.window_bytes_max > 0);
        let window_bytes_max = if has_window {
            self.window_share() * span
        } else {
            0
        };
        // What is to come is for the window of its own domain.
        let incoming = if members.iter().any(is_own) {
            need.bytes
        } else {
            0
        };
        let evicted = Domain::new(members, window_bytes_max, need.now_ms).evict_one(incoming);
        for member in &*members {
            self.see(usize::from(member.index), member.shard);
        }
        give_back(members);
        if evicted { Room::Made } else { Room::Nobody }
    }

    /// When memory fills up, starts to count uses and to keep new items apart; and sees to it that
    /// counts are kept for as many keys as there are. Returns what the shard should put aside with
    /// this write to pay for it.
    fn start_counting(&self, shard: &mut Shard) -> usize {
        if shard.tuning.policy != Policy::AllKeysTinyLfu || !self.budget.is_filling() {
            return 0;
        }
        if shard.window_bytes_max == 0 {
            shard.window_bytes_max = self.window_share();
        }
        if shard.len() < shard.sketch.capacity() {
            return 0;
        }
        let bytes = Sketch::bytes_for(shard.len() + 1);
        if bytes > self.budget.share() / SKETCH_SHARE {
            return 0;
        }
        let missing = (bytes - shard.sketch.heap_bytes()).saturating_sub(shard.saved);
        if self.budget.take(missing) {
            shard.changed = true;
            shard.credit += missing;
            shard.save(missing);
        }
        if (bytes - shard.sketch.heap_bytes()).saturating_sub(shard.saved) == 0 {
            shard.grow_sketch();
            return 0;
        }
        missing.min(INSTALLMENT_BYTES)
    }

    /// A shard's part of the window.
    fn window_share(&self) -> usize {
        self.budget.share() / WINDOW_SHARE
    }

    /// Remembers how full a shard is.
    #[inline]
    fn see(&self, index: usize, shard: &Shard) {
        let padded = &self.shards[index];
        padded.seen_bytes.store(shard.bytes, Ordering::Relaxed);
        padded
            .seen_items
            .store(shard.evictable_len(), Ordering::Relaxed);
    }

    /// Before a shard is unlocked: tells how full it is and gives back what it has left over.
    #[inline]
    pub(super) fn settle(&self, index: usize, shard: &mut Shard) {
        if shard.changed {
            self.settle_changed(index, shard);
        }
    }

    #[inline(never)]
    fn settle_changed(&self, index: usize, shard: &mut Shard) {
        shard.changed = false;
        self.see(index, shard);
        let kept = self.budget.chunk();
        if shard.credit > 2 * kept {
            self.budget.give(shard.credit - kept);
            shard.credit = kept;
        }
    }
}

const OWN_SHARD: &str = "the shard of a key of the command is locked";
/// The window's part of the memory: a fifth.
const WINDOW_SHARE: usize = 5;
/// Counts may take at most this part of the memory: a quarter, where items are very small.
const SKETCH_SHARE: usize = 4;
/// What one write puts aside at most when the counts need more memory: about a dozen evictions.
const INSTALLMENT_BYTES: usize = 2048;
/// How often a write that finds all other shards busy tries again before it is refused.
const RETRIES: usize = 1000;
