//! The traffic: who writes, who reads, and how the order of writes is known.
//!
//! - A key of one writer (`text:`, `hash:`) takes every form of write there is, each with the next
//!   version in its value. Its writer waits for each outcome, so their order is the order in which
//!   they were sent. A write of unknown outcome may happen later still: its key is *retired*, that
//!   is read but never written again, and a fresh one takes its place.
//! - A shared key (`shared:`) is written by everybody at once, past the fronts and through them.
//!   Its versions come from the server: a script takes the greater of the last plus one and the
//!   server's clock in µs, so that they rise even when the key was lost in between.
//! - One writer writes past all fronts alone, and some clients do nothing but read its keys, one of
//!   them for a while: no fault between fronts and Redis makes either of them wait, so these say
//!   how long a front believes its copies.
//! - A counter (`counter:`) is raised with WATCH, GET, MULTI, SET, EXEC.

mod counters;
mod readers;
mod writers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::client::{Client, Request};
use super::history::Key;

pub(crate) use counters::raise_counters;
pub(crate) use readers::{Reading, dig, poll_for_a_while, read_for_a_while};
pub(crate) use writers::write_for_a_while;

/// The hash tags of all keys, by which they are of different slots of a Cluster: of a writer's
/// keys, of shared ones and of counters.
pub(crate) const TAGS: [&str; 10] = ["w0", "w1", "w2", "w3", "s0", "s1", "s2", "s3", "c0", "c1"];
/// The name of the only field of a hash.
const FIELD: &str = "v";
/// How many shared keys each database has.
const SHARED_KEYS: u32 = 4;
/// One read in so many is of a retired key.
const RETIRED_IN: u32 = 16;
/// How many of the retired keys are still read.
const RETIRED_MAX: usize = 200;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Hash,
    Shared,
}

/// A key and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) key: Key,
    pub(crate) kind: Kind,
    /// Whether it is written past the fronts only, so that nothing but pushes tells them.
    is_outside: bool,
}

impl Slot {
    /// The hash tag of its key.
    fn tag(&self) -> &str {
        let tag = self.key.name.split(['{', '}']).nth(1);
        tag.expect("each key has one")
    }
}

/// What to send, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Databases 0 to this less one, with keys of the same names in each.
    pub(crate) dbs: u32,
    /// Keys of each writer.
    pub(crate) keys: u32,
    /// Bytes of a value, beside its name and version.
    pub(crate) padding: usize,
    /// Whether nothing but its writers removes a key. Where it may vanish, INCR would start again.
    pub(crate) keeps_keys: bool,
    /// Whether the keys of what belongs together are of one slot, and named.
    pub(crate) is_clustered: bool,
}

/// The keys, and whether to go on: what all threads of a run share.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) traffic: Traffic,
    slots: Mutex<Vec<Slot>>,
    retired: Mutex<Vec<Slot>>,
    is_over: AtomicBool,
}

impl Load {
    pub(crate) fn new(traffic: Traffic) -> Self {
        let shared = (0..traffic.dbs).flat_map(|db| {
            (0..SHARED_KEYS).map(move |index| Slot {
                key: Key {
                    db,
                    name: shared(index),
                },
                kind: Kind::Shared,
                is_outside: false,
            })
        });
        Self {
            traffic,
            slots: Mutex::new(shared.collect()),
            retired: Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }

    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().expect("no thread panics with it")
    }

    /// Every key, with those that were retired.
    pub(crate) fn all(&self) -> Vec<Slot> {
        let retired = self.retired.lock().expect("no thread panics with it");
        let mut all = self.slots().clone();
        all.extend_from_slice(&retired);
        all
    }

    /// Adds a key; the result is its place.
    fn add(&self, slot: Slot) -> usize {
        let mut slots = self.slots();
        slots.push(slot);
        slots.len() - 1
    }

    /// Puts a fresh key in the place of another.
    fn retire(&self, place: usize, fresh: Slot) {
        let old = std::mem::replace(&mut self.slots()[place], fresh);
        let mut retired = self.retired.lock().expect("no thread panics with it");
        if retired.len() < RETIRED_MAX {
            retired.push(old);
        }
    }

    /// Some key of a database.
    fn pick(&self, random: &mut StdRng, db: u32) -> Slot {
        if random.random_range(0..RETIRED_IN) == 0 {
            let retired = self.retired.lock().expect("no thread panics with it");
            let of_db = |slot: &&Slot| slot.key.db == db;
            let count = retired.iter().filter(of_db).count();
            if count > 0 {
                let index = random.random_range(0..count);
                let slot = retired.iter().filter(of_db).nth(index);
                return slot.expect("it was counted").clone();
            }
        }
        let slots = self.slots();
        let of_db = |slot: &&Slot| slot.key.db == db;
        let count = slots.iter().filter(of_db).count();
        let index = random.random_range(0..count);
        let slot = slots.iter().filter(of_db).nth(index);
        slot.expect("it was counted").clone()
    }

    /// Some key that is written past the fronts only.
    fn pick_outside(&self, random: &mut StdRng) -> Option<Slot> {
        let slots = self.slots();
        let count = slots.iter().filter(|slot| slot.is_outside).count();
        let index = random.random_range(0..count.max(1));
        slots
            .iter()
            .filter(|slot| slot.is_outside)
            .nth(index)
            .cloned()
    }

    /// So many keys of a database whose values are strings, all of one slot where it matters.
    fn pick_together(&self, random: &mut StdRng, db: u32, count: usize) -> Vec<Slot> {
        let mut slots: Vec<Slot> = (0..count).map(|_| self.pick_string(random, db)).collect();
        if self.traffic.is_clustered {
            let tag = slots[0].tag().to_owned();
            slots.retain(|slot| slot.tag() == tag);
        }
        slots
    }

    /// Some key of a database whose value is a string.
    fn pick_string(&self, random: &mut StdRng, db: u32) -> Slot {
        loop {
            let slot = self.pick(random, db);
            if slot.kind != Kind::Hash {
                return slot;
            }
        }
    }
}

/// The name of a shared key.
fn shared(number: u32) -> Arc<str> {
    format!("shared:{{s{number}}}").into()
}

/// A command of these words.
fn command(words: &[&str]) -> Request {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Puts `SELECT` in front where there is more than one database.
fn selecting(load: &Load, db: u32, requests: &mut Vec<Request>) {
    if load.traffic.dbs > 1 {
        requests.push(command(&["SELECT", &db.to_string()]));
    }
}

/// Waits a little, so that all together leave the machine some of its time.
fn pause(random: &mut StdRng, max: Duration) {
    std::thread::sleep(max.mul_f64(random.random()));
}

/// Reads this key the plainest way.
fn look(load: &Load, client: &mut Client, slot: &Slot) {
    let mut reading = Reading::new(load, slot.key.db);
    reading.plain(slot);
    reading.run(client);
}
