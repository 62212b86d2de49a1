//! Which keys carry which tags, and what is left of them when a tag is invalidated.
//!
//! A tag's keys stand in lists, its *generations*: new keys enter the current one. To invalidate a
//! tag is to declare its generations void and to begin another, however many keys there are: an
//! item is valid iff none of its generations is void. What is void is taken out behind, in slices
//! ([`Store::reclaim`](super::Store::reclaim)), and until then by whoever comes upon it.
//!
//! Generations that are *stale* (a soft invalidation) hold values that expired when that happened.
//!
//! Invariants:
//! - An item and its links change together, under the lock of the item's shard: who leaves the
//!   store leaves its tags, in the same moment.
//! - A room is locked after the shard, never before it.
//! - A value is stored only if none of its tags was invalidated since its making began ([`Stamp`]).
//! - A tag without keys is not there, nor is a generation.

mod index;
mod slab;
mod times;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use index::Room;
pub(super) use slab::Slab;
pub use times::Stamp;
use times::Times;

use super::budget::Budget;

/// A generation, by its number.
pub(super) type Generation = u32;

/// An item's place in a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub(super) generation: Generation,
    /// Its number in the generation's room.
    node: u32,
}

/// Why an item was not linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The tag was invalidated since the value's making began.
    Outdated,
    /// There are as many tags as there can be.
    TooMany,
}

/// What may be said of a generation without its room's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Valid,
    Stale,
    Void,
}

/// How much there may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Generations in a room.
    pub generations: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            generations: GENERATIONS_MAX,
        }
    }
}

/// All tags of a store.
pub struct Tags {
    rooms: Box<[Mutex<Room>]>,
    hasher: ahash::RandomState,
    /// By generation, in chunks.
    states: Box<[OnceLock<Chunk>]>,
    /// Generations that are stale or void. As long as there is none, nobody looks further.
    outdated: AtomicUsize,
    /// Generations whose items wait to be taken out, the oldest first.
    waiting: Mutex<VecDeque<Generation>>,
    times: Times,
    /// Held to read by those who look at several keys at one moment, before the shards of these; to
    /// write by an invalidation that holds no shard.
    pub(super) gate: RwLock<()>,
    /// Where the memory of tags and generations is paid for.
    budget: Arc<Budget>,
    limits: Limits,
}

type Chunk = Box<[AtomicU8]>;

impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tags").finish_non_exhaustive()
    }
}

impl Tags {
    pub(super) fn new(hasher: &ahash::RandomState, budget: &Arc<Budget>, limits: Limits) -> Self {
        let generations = limits.generations.min(GENERATIONS_MAX) as usize * ROOMS;
        Self {
            rooms: (0..ROOMS).map(|_| Mutex::default()).collect(),
            hasher: hasher.clone(),
            states: (0..generations.div_ceil(STATES))
                .map(|_| OnceLock::new())
                .collect(),
            outdated: AtomicUsize::new(0),
            waiting: Mutex::default(),
            times: Times::default(),
            gate: RwLock::new(()),
            budget: Arc::clone(budget),
            limits,
        }
    }

    /// Adds a key to a tag.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn link(
        &self,
        db: u16,
        name: &[u8],
        key_hash: u64,
        since: Option<Stamp>,
    ) -> Result<Link, Refusal> {
        let hash = self.hash(db, name);
        let at = room_of(hash);
        let mut room = self.rooms[at].lock();
        if since.is_some_and(|since| self.times.is_outdated(hash, since)) {
            return Err(Refusal::Outdated);
        }
        let known = room.find(hash, db, name);
        let local = match known.and_then(|tag| room.current(tag)) {
            Some(local) => local,
            None if room.generations() >= self.limits.generations as usize => {
                return Err(Refusal::TooMany);
            }
            None => room.begin(hash, db, name),
        };
        let node = room.push(local, key_hash);
        self.settle(&mut room);
        Ok(Link {
            generation: generation(local, at),
            node,
        })
    }

    /// Adds another key to a generation: what becomes of the one becomes of the other.
    #[must_use]
    pub fn link_like(&self, link: Link, key_hash: u64) -> Link {
        let (local, at) = place(link.generation);
        let node = self.rooms[at].lock().push(local, key_hash);
        let generation = link.generation;
        if self.state(generation) != State::Valid {
            // Who looks through it may be done with it.
            self.waiting.lock().push_back(generation);
        }
        Link { generation, node }
    }

    /// Takes a key out of a generation.
    pub fn unlink(&self, link: Link) {
        let (local, at) = place(link.generation);
        let mut room = self.rooms[at].lock();
        let was_outdated = room.take(local, link.node);
        self.generation_ended(&mut room, link.generation, was_outdated);
    }

    /// A generation may be no more; if it was outdated, that is over.
    fn generation_ended(&self, room: &mut Room, generation: Generation, was_outdated: bool) {
        if was_outdated {
            self.outdated.fetch_sub(1, Ordering::SeqCst);
            self.set_state(generation, State::Valid);
        }
        self.settle(room);
    }

    /// Pays for what tags cost now. Never refused, as it is little: who writes next makes up for
    /// it.
    fn settle(&self, room: &mut Room) {
        if room.bytes > room.paid {
            self.budget.overdraw(room.bytes - room.paid);
        } else if room.bytes < room.paid {
            self.budget.give(room.paid - room.bytes);
        }
        room.paid = room.bytes;
    }

    /// Declares all that carries a tag void; returns how many keys that is.
    pub fn invalidate(&self, db: u16, name: &[u8]) -> usize {
        let hash = self.hash(db, name);
        let at = room_of(hash);
        let mut room = self.rooms[at].lock();
        self.times.note(hash);
        let Some(tag) = room.find(hash, db, name) else {
            return 0;
        };
        let generations = room.detach(tag);
        self.settle(&mut room);
        let void = |local| {
            self.outdate(generation(local, at), State::Void);
            room.len(local)
        };
        generations.into_iter().map(void).sum()
    }

    /// Declares all that carries a tag stale from `now_ms` on (Unix time in ms); returns how many
    /// keys that is.
    pub fn soften(&self, db: u16, name: &[u8], now_ms: u64) -> usize {
        let hash = self.hash(db, name);
        let at = room_of(hash);
        let mut room = self.rooms[at].lock();
        self.times.note(hash);
        let Some(local) = room
            .find(hash, db, name)
            .and_then(|tag| room.retire(tag, now_ms))
        else {
            return 0;
        };
        self.outdate(generation(local, at), State::Stale);
        room.len(local)
    }

    fn outdate(&self, generation: Generation, state: State) {
        if self.state(generation) == State::Valid {
            self.outdated.fetch_add(1, Ordering::SeqCst);
        }
        self.set_state(generation, state);
        self.waiting.lock().push_back(generation);
    }

    /// Whether anything at all is stale or void.
    #[inline]
    pub(super) fn has_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire) > 0
    }

    pub(super) fn state(&self, generation: Generation) -> State {
        let (chunk, at) = (generation as usize / STATES, generation as usize % STATES);
        let states = self.states[chunk].get();
        match states.map_or(0, |states| states[at].load(Ordering::Acquire)) {
            0 => State::Valid,
            1 => State::Stale,
            _ => State::Void,
        }
    }

    fn set_state(&self, generation: Generation, state: State) {
        let (chunk, at) = (generation as usize / STATES, generation as usize % STATES);
        let none = || (0..STATES).map(|_| AtomicU8::new(0)).collect();
        self.states[chunk].get_or_init(none)[at].store(state as u8, Ordering::Release);
    }

    /// When a generation became stale, in Unix time in ms.
    pub(super) fn stale_since(&self, generation: Generation) -> u64 {
        let (local, at) = place(generation);
        self.rooms[at].lock().stale_since(local)
    }

    /// How many keys carry a tag.
    #[must_use]
    pub fn card(&self, db: u16, name: &[u8]) -> usize {
        let hash = self.hash(db, name);
        let room = self.rooms[room_of(hash)].lock();
        let Some(tag) = room.find(hash, db, name) else {
            return 0;
        };
        room.all(tag).map(|local| room.len(local)).sum()
    }

    /// The name of a generation's tag, unless it is void.
    pub(super) fn name_of(&self, generation: Generation) -> Option<Box<[u8]>> {
        let (local, at) = place(generation);
        self.rooms[at].lock().name_of(local).map(Box::from)
    }

    /// The generation that a tag's new keys enter.
    pub(super) fn current(&self, db: u16, name: &[u8]) -> Option<Generation> {
        self.current_since(db, name, None)
    }

    /// The same, unless the tag was invalidated since.
    pub(super) fn current_since(
        &self,
        db: u16,
        name: &[u8],
        since: Option<Stamp>,
    ) -> Option<Generation> {
        let hash = self.hash(db, name);
        let room = self.rooms[room_of(hash)].lock();
        if since.is_some_and(|since| self.times.is_outdated(hash, since)) {
            return None;
        }
        let local = room.current(room.find(hash, db, name)?)?;
        Some(generation(local, room_of(hash)))
    }

    /// Keeps out those who look at several keys at one moment. No shard must be locked.
    pub fn close_gate(&self) -> impl Drop + '_ {
        self.gate.write()
    }

    /// The keys of a tag at this moment.
    #[must_use]
    pub fn members(&self, db: u16, name: &[u8]) -> Members<'_> {
        let hash = self.hash(db, name);
        let at = room_of(hash);
        let mut room = self.rooms[at].lock();
        let tag = room.find(hash, db, name);
        let generations: Vec<u32> = tag.map_or_else(Vec::new, |tag| room.all(tag).collect());
        let mut keys = Vec::new();
        for &local in &generations {
            room.pin(local);
            let generation = generation(local, at);
            room.each(local, |node, hash| {
                keys.push((hash, Link { generation, node }));
            });
        }
        Members {
            tags: self,
            at,
            epoch: room.epoch,
            generations,
            keys,
        }
    }

    /// Keys of a database that an invalidation has outdated and nobody has looked at yet, about
    /// `count`; nothing, if there are none.
    pub(super) fn next_waiting(&self, count: u32) -> Option<(u16, Vec<(u64, Link)>)> {
        loop {
            let next = *self.waiting.lock().front()?;
            let (local, at) = place(next);
            let (db, keys) = self.rooms[at].lock().next_unseen(local, count);
            let link = |(node, hash)| {
                let generation = next;
                (hash, Link { generation, node })
            };
            if !keys.is_empty() {
                return Some((db, keys.into_iter().map(link).collect()));
            }
            let mut waiting = self.waiting.lock();
            if waiting.front() == Some(&next) {
                waiting.pop_front();
            }
        }
    }

    /// Forgets all keys of some databases. No shard may know of a link to them any more; all are
    /// locked. Takes time where a key of another database carries a tag, too.
    pub(super) fn clear(&self, is_cleared: impl Fn(u16) -> bool) -> Vec<Forgotten> {
        let mut forgotten = Vec::new();
        for (at, room) in self.rooms.iter().enumerate() {
            let mut room = room.lock();
            let bound = 0..room.generations_bound();
            let is_kept = |local| room.database_of(local).is_some_and(|db| !is_cleared(db));
            let keeps_any = bound.clone().any(is_kept);
            if !keeps_any {
                let is_outdated = |local: &u32| self.state(generation(*local, at)) != State::Valid;
                for local in bound.filter(is_outdated) {
                    self.generation_ended(&mut room, generation(local, at), true);
                }
                self.budget.give(room.paid);
                let fresh = room.renewed();
                let _room = std::mem::replace(&mut *room, fresh);
                forgotten.push(Forgotten { _room });
                continue;
            }
            for local in bound {
                if room.database_of(local).is_some_and(&is_cleared) {
                    let was_outdated = room.empty(local);
                    self.generation_ended(&mut room, generation(local, at), was_outdated);
                }
            }
        }
        forgotten
    }

    /// What the names of tags and their generations cost, in bytes: what no item pays for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rooms.iter().map(|room| room.lock().paid).sum()
    }

    /// What tags cost, the links of their keys included, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.rooms.iter().map(|room| room.lock().heap_bytes()).sum()
    }

    /// How many tags there are, in all databases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms.iter().map(|room| room.lock().tags()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The present moment: what is begun now is outdated by later invalidations.
    #[must_use]
    pub fn now(&self) -> Stamp {
        self.times.now()
    }

    /// Whether a tag was invalidated since; rarely, another.
    #[must_use]
    pub fn is_outdated(&self, db: u16, name: &[u8], since: Stamp) -> bool {
        self.times.is_outdated(self.hash(db, name), since)
    }

    fn hash(&self, db: u16, name: &[u8]) -> u64 {
        self.hasher.hash_one((db, name))
    }

    /// Calls `visit` with some names of tags of a database, at least `count` places on; returns the
    /// cursor to go on with, 0 at the end.
    ///
    /// A tag that is there from the first call to the last is visited once.
    pub fn scan(&self, db: u16, cursor: u64, count: usize, mut visit: impl FnMut(&[u8])) -> u64 {
        let mut at = usize::try_from(cursor % ROOMS as u64).unwrap_or(0);
        let mut from = u32::try_from(cursor / ROOMS as u64).unwrap_or(u32::MAX);
        let mut left = count.max(1);
        loop {
            let room = self.rooms[at].lock();
            while from < room.tags_bound() {
                if left == 0 {
                    return u64::from(from) * ROOMS as u64 + at as u64;
                }
                if let Some(name) = room.tag(from, db) {
                    visit(name);
                }
                (from, left) = (from + 1, left - 1);
            }
            (from, at) = (0, at + 1);
            if at == ROOMS {
                return 0;
            }
        }
    }
}

/// The keys of a tag, by their hashes and links. Whoever looks at one has to lock its shard, and
/// may find it gone; but its generation stays what it is for as long as this is kept.
pub struct Members<'a> {
    tags: &'a Tags,
    at: usize,
    epoch: u32,
    generations: Vec<u32>,
    keys: Vec<(u64, Link)>,
}

impl Members<'_> {
    /// How many there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Their hashes and links, by generations, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Link)> {
        self.keys.iter().copied()
    }
}

impl Drop for Members<'_> {
    fn drop(&mut self) {
        let mut room = self.tags.rooms[self.at].lock();
        if room.epoch != self.epoch {
            return;
        }
        for &local in &self.generations {
            let was_outdated = room.unpin(local);
            let generation = generation(local, self.at);
            self.tags
                .generation_ended(&mut room, generation, was_outdated);
        }
    }
}

/// Tags that are no more. To drop it frees them, which takes its time.
pub(super) struct Forgotten {
    _room: Room,
}

/// A generation's number in all rooms, by its number in one.
fn generation(local: u32, room: usize) -> Generation {
    local * ROOMS_U32 + u32::try_from(room).unwrap_or(0)
}

/// The same the other way round.
fn place(generation: Generation) -> (u32, usize) {
    (generation / ROOMS_U32, (generation % ROOMS_U32) as usize)
}

fn room_of(hash: u64) -> usize {
    usize::try_from(hash % ROOMS as u64).unwrap_or(0)
}

/// Locks.
const ROOMS: usize = 64;
const ROOMS_U32: u32 = 64;
/// Generations in a room at most: one for each tag with keys, and those that wait to be looked
/// through.
const GENERATIONS_MAX: u32 = 1 << 20;
/// States in a chunk.
const STATES: usize = 1 << 16;

/// What an item's place in a tag costs, in bytes: in the tag, and in the item's own list.
pub const LINK_BYTES: usize = index::NODE_BYTES + super::chains::CHAIN_BYTES;
