//! Reads of every shape: alone, many at once, pipelined, in transactions, by scripts.

use std::time::Duration;

use corral::clock;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{FIELD, Kind, Load, Slot, command, look, pause, selecting};
use crate::client::{Client, Request, Value};
use crate::history::{History, Key, Seen};

/// The longest pause between two reads of a client.
const PAUSE_MAX: Duration = Duration::from_millis(2);
/// The longest time for which one key is polled.
const POLLED_MAX: Duration = Duration::from_millis(1500);
/// Keys of one MGET, or commands of one pipeline.
const MANY_MAX: usize = 6;

const READ_SCRIPT: &str = "return redis.call('GET', KEYS[1])";

/// Where in the replies a key's value is.
struct Expected {
    reply: usize,
    /// Indexes of nested arrays.
    path: Vec<usize>,
    key: Key,
    command: &'static str,
}

/// Some commands that are sent in one go, and what they read.
pub(crate) struct Reading {
    requests: Vec<Request>,
    expected: Vec<Expected>,
}

/// What is in there. An empty array holds nil everywhere: HGETALL of an absent key.
pub(crate) fn dig<'a>(value: &'a Value, path: &[usize]) -> Option<&'a Value> {
    let mut value = value;
    for index in path {
        value = if *value == Value::Array(Vec::new()) {
            &Value::Nil
        } else {
            value.elements().get(*index)?
        };
    }
    Some(value)
}

impl Reading {
    pub(crate) fn new(load: &Load, db: u32) -> Self {
        let mut requests = Vec::new();
        selecting(load, db, &mut requests);
        Self {
            requests,
            expected: Vec::new(),
        }
    }

    fn push(&mut self, words: &[&str]) {
        self.requests.push(command(words));
    }

    /// The last command's reply holds this key's value, at this path.
    fn expect(&mut self, slot: &Slot, path: &[usize], command: &'static str) {
        self.expected.push(Expected {
            reply: self.requests.len() - 1,
            path: path.to_vec(),
            key: slot.key.clone(),
            command,
        });
    }

    /// GET, or HGET.
    pub(crate) fn plain(&mut self, slot: &Slot) {
        let name = &slot.key.name;
        match slot.kind {
            Kind::Text | Kind::Shared => {
                self.push(&["GET", name]);
                self.expect(slot, &[], "GET");
            }
            Kind::Hash => {
                self.push(&["HGET", name, FIELD]);
                self.expect(slot, &[], "HGET");
            }
        }
    }

    /// One of the other commands that read all of a value.
    fn otherwise(&mut self, slot: &Slot, random: &mut StdRng) {
        let name = &slot.key.name;
        let choice = random.random_range(0..4);
        match (slot.kind, choice) {
            (Kind::Hash, 0 | 1) => {
                self.push(&["HGETALL", name]);
                self.expect(slot, &[1], "HGETALL");
            }
            (Kind::Hash, _) => {
                self.push(&["HMGET", name, FIELD, "none"]);
                self.expect(slot, &[0], "HMGET");
            }
            (Kind::Text | Kind::Shared, 0 | 1) => {
                self.push(&["GETRANGE", name, "0", "-1"]);
                self.expect(slot, &[], "GETRANGE");
            }
            (Kind::Text | Kind::Shared, 2) => {
                self.push(&["EVAL", READ_SCRIPT, "1", name]);
                self.expect(slot, &[], "EVAL");
            }
            (Kind::Text | Kind::Shared, _) => {
                self.push(&["MGET", name]);
                self.expect(slot, &[0], "MGET");
            }
        }
    }

    fn many(&mut self, slots: &[Slot]) {
        let mut words = vec!["MGET"];
        words.extend(slots.iter().map(|slot| &*slot.key.name));
        self.push(&words);
        for (index, slot) in slots.iter().enumerate() {
            self.expect(slot, &[index], "MGET");
        }
    }

    fn transaction(&mut self, slots: &[Slot], is_watched: bool) {
        if is_watched {
            self.push(&["WATCH", &slots[0].key.name]);
            self.plain(&slots[0]);
            self.push(&["UNWATCH"]);
        }
        self.push(&["MULTI"]);
        for slot in slots {
            self.push(&["GET", &slot.key.name]);
        }
        self.push(&["EXEC"]);
        for (index, slot) in slots.iter().enumerate() {
            self.expect(slot, &[index], "GET in EXEC");
        }
    }

    /// Sends it, and notes what was read.
    pub(crate) fn run(&self, client: &mut Client) {
        let (begin, answers) = client.run(&self.requests);
        for expected in &self.expected {
            let Some(answer) = answers.get(expected.reply) else {
                break;
            };
            let value = dig(&answer.value, &expected.path);
            let seen: Option<Seen> = value.and_then(|value| value.seen(&expected.key));
            if let Some(seen) = seen {
                let span = (begin, answer.end);
                client.note_read(&expected.key, span, seen, expected.command);
            }
        }
    }
}

/// Some reading.
fn draw(load: &Load, random: &mut StdRng) -> Reading {
    let db = random.random_range(0..load.traffic.dbs);
    let mut reading = Reading::new(load, db);
    match random.random_range(0..20) {
        0..9 => reading.plain(&load.pick(random, db)),
        9..12 => {
            let slot = load.pick(random, db);
            reading.otherwise(&slot, random);
        }
        12..15 => {
            let count = random.random_range(2..=MANY_MAX);
            let slots: Vec<_> = (0..count).map(|_| load.pick_string(random, db)).collect();
            reading.many(&slots);
        }
        15 => {
            let count = random.random_range(2..=MANY_MAX);
            let slots = load.pick_together(random, db, count);
            reading.transaction(&slots, random.random());
        }
        16 => {
            let slot = load.pick(random, db);
            for _ in 0..2 {
                reading.plain(&slot);
                reading.otherwise(&slot, random);
            }
            reading.plain(&slot);
        }
        _ => {
            for _ in 0..random.random_range(2..=MANY_MAX) {
                let slot = load.pick(random, db);
                if random.random() {
                    reading.plain(&slot);
                } else {
                    reading.otherwise(&slot, random);
                }
            }
        }
    }
    reading
}

/// Reads one key of the writer outside for a while, and then another, until the load is over.
pub(crate) fn poll_for_a_while(load: &Load, mut client: Client, seed: u64) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    while load.goes_on() {
        let slot = load.pick_outside(&mut random);
        let since = clock::now();
        let stay = POLLED_MAX.mul_f64(random.random());
        while load.goes_on() && since.elapsed() < stay {
            if let Some(slot) = &slot {
                look(load, &mut client, slot);
            }
            pause(&mut random, PAUSE_MAX);
        }
    }
    client.history
}

/// Reads until the load is over.
pub(crate) fn read_for_a_while(load: &Load, mut client: Client, seed: u64) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    while load.goes_on() {
        draw(load, &mut random).run(&mut client);
        pause(&mut random, PAUSE_MAX);
    }
    client.history
}
