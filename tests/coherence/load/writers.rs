//! Writes of every form, past the fronts and through them.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{FIELD, Kind, Load, Slot, command, dig, look, pause, selecting};
use crate::client::{Answer, Client, Request, Value, value_of};
use crate::history::{History, Key, Outcome, Route, Write};

/// The longest pause between two writes of a writer.
const PAUSE_MAX: Duration = Duration::from_millis(4);
/// The same outside. A push voids also what was read after the write it tells of, so most keys must
/// be left alone for longer than the bound, or no stale copy would last.
const OUTSIDE_PAUSE_MAX: Duration = Duration::from_millis(40);
/// How long a value with an expiry lives, in ms. Shorter than the bound, so that a run's end finds
/// none.
const TTL_MS: std::ops::Range<u64> = 10..150;
/// One key in so many holds a hash.
const HASH_IN: u32 = 4;

const SET_DECLARED: &str = "return redis.call('SET', KEYS[1], ARGV[1])";
const SET_UNDECLARED: &str = "return redis.call('SET', ARGV[1], ARGV[2])";
const DEL_UNDECLARED: &str = "return redis.call('DEL', ARGV[1])";
const HSET_UNDECLARED: &str = "return redis.call('HSET', ARGV[1], ARGV[2], ARGV[3])";
/// The next version of a shared key, and its value. See [`super`].
const RISE: &str = "local key = KEYS[1] or ARGV[1] \
    local last = tonumber(redis.call('GET', key) or '0') \
    local time = redis.call('TIME') \
    local next = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2])) \
    redis.call('SET', key, next) \
    return next";

/// A key of this writer.
struct Own {
    slot: Slot,
    place: usize,
    version: u64,
    /// The version of its value, unless it was removed.
    value: Option<u64>,
}

/// A write that is on its way.
struct Pending {
    /// Which of the writer's keys.
    own: usize,
    version: Option<u64>,
    ttl: Option<Duration>,
    /// The reply that tells its outcome.
    reply: usize,
}

/// What a reply says happened.
fn outcome(value: &Value) -> Outcome {
    let failed = value.is_error() || value.elements().iter().any(Value::is_error);
    if failed {
        Outcome::Unknown
    } else {
        Outcome::Done
    }
}

/// Commands that are sent in one go.
struct Batch {
    requests: Vec<Request>,
    pending: Vec<Pending>,
    form: &'static str,
}

impl Batch {
    fn push(&mut self, words: &[&str]) {
        self.requests.push(command(words));
    }

    /// The last command decides about this write.
    fn pend(&mut self, own: usize, version: Option<u64>, ttl_ms: Option<u64>) {
        self.pending.push(Pending {
            own,
            version,
            ttl: ttl_ms.map(Duration::from_millis),
            reply: self.requests.len() - 1,
        });
    }
}

struct Writer<'a> {
    load: &'a Load,
    random: StdRng,
    index: u32,
    db: u32,
    own: Vec<Own>,
    fresh: u64,
    /// To Redis, through a front, and another client of that front.
    direct: Client,
    front: Client,
    witness: Client,
}

/// Writes until the load is over. The clients: to Redis, through a front, and another one through
/// the same front, which reads what the second has just written. If they all go to Redis, it is the
/// writer outside.
pub(crate) fn write_for_a_while(
    load: &Load,
    [direct, front, witness]: [Client; 3],
    index: u32,
    seed: u64,
) -> History {
    let db = index % load.traffic.dbs;
    let mut writer = Writer {
        load,
        random: StdRng::seed_from_u64(seed),
        index: index / load.traffic.dbs,
        db,
        own: Vec::new(),
        fresh: 0,
        direct: direct.in_db(db),
        front: front.in_db(db),
        witness: witness.in_db(db),
    };
    for number in 0..load.traffic.keys {
        let kind = if number % HASH_IN == HASH_IN - 1 {
            Kind::Hash
        } else {
            Kind::Text
        };
        let slot = writer.fresh_slot(kind);
        let place = load.add(slot.clone());
        let (version, value) = (0, None);
        writer.own.push(Own {
            slot,
            place,
            version,
            value,
        });
    }
    let is_outside = writer.front.route == Route::Direct;
    let pause_max = if is_outside {
        OUTSIDE_PAUSE_MAX
    } else {
        PAUSE_MAX
    };
    while load.goes_on() {
        if writer.random.random_range(0..4) == 0 {
            writer.raise_shared();
        } else {
            writer.write_own();
        }
        pause(&mut writer.random, pause_max);
    }
    let mut history = writer.direct.history;
    history.append(writer.front.history);
    history.append(writer.witness.history);
    history
}

impl Writer<'_> {
    fn fresh_slot(&mut self, kind: Kind) -> Slot {
        self.fresh += 1;
        let name = match kind {
            Kind::Hash => format!("hash:{{w{}}}:{}", self.index, self.fresh),
            Kind::Text | Kind::Shared => format!("text:{{w{}}}:{}", self.index, self.fresh),
        };
        let name = name.into();
        let key = Key { db: self.db, name };
        let is_outside = self.front.route == Route::Direct;
        Slot {
            key,
            kind,
            is_outside,
        }
    }

    /// The next version of one of its keys, and the value that says so.
    fn next(&mut self, own: usize) -> (u64, String) {
        let Own { slot, version, .. } = &mut self.own[own];
        *version += 1;
        (
            *version,
            value_of(&slot.key, *version, self.load.traffic.padding),
        )
    }

    fn write_own(&mut self) {
        let batch = self.draw();
        let through_front = self.random.random::<bool>();
        let client = if through_front {
            &mut self.front
        } else {
            &mut self.direct
        };
        let (begin, answers) = client.run(&batch.requests);
        let mut lost = Vec::new();
        for pending in &batch.pending {
            let answer = answers.get(pending.reply);
            if batch.form == "PEXPIRE" && answer.is_some_and(is_zero) {
                // The key was not there: nothing was written.
                continue;
            }
            let outcome = answer.map_or(Outcome::Unknown, |answer| outcome(&answer.value));
            let write = Write {
                version: pending.version,
                outcome,
                ttl: pending.ttl,
                command: batch.form,
            };
            let end = answer.map_or(begin, |answer| answer.end);
            let own = &mut self.own[pending.own];
            own.value = pending.version;
            client.note_write(&own.slot.key, (begin, end), write);
            if outcome == Outcome::Unknown {
                lost.push(pending.own);
            }
        }
        for pending in &batch.pending {
            let slot = self.own[pending.own].slot.clone();
            self.look_at(&slot, through_front);
        }
        for own in lost {
            self.retire(own);
        }
    }

    /// Puts a fresh key in the place of one whose last write may happen at any time.
    fn retire(&mut self, own: usize) {
        let slot = self.fresh_slot(self.own[own].slot.kind);
        let Own { place, .. } = self.own[own];
        self.load.retire(place, slot.clone());
        self.own[own] = Own {
            slot,
            place,
            version: 0,
            value: None,
        };
    }

    /// Reads what was written: by the client that wrote it, by another one of the same front, or
    /// past all fronts.
    fn look_at(&mut self, slot: &Slot, through_front: bool) {
        if through_front && self.random.random_range(0..3) == 0 {
            look(self.load, &mut self.front, slot);
        }
        if self.random.random() {
            look(self.load, &mut self.witness, slot);
        }
        if self.random.random_range(0..8) == 0 {
            look(self.load, &mut self.direct, slot);
        }
    }

    /// One of its keys. The first are written all the time, and the last so seldom that a copy
    /// which is wrong stays wrong for longer than the bound.
    fn choose(&mut self) -> usize {
        let share = self.random.random::<f64>().powi(4);
        let keys = self.own.len();
        let place = (0..keys).rfind(|&place| place as f64 <= share * keys as f64);
        place.unwrap_or(0)
    }

    /// Some of its keys of one kind, each once.
    fn some(&mut self, kind: Kind, max: usize) -> Vec<usize> {
        let mut chosen = Vec::new();
        let count = self.random.random_range(1..=max);
        for _ in 0..100 {
            let own = self.choose();
            if self.own[own].slot.kind == kind && !chosen.contains(&own) {
                chosen.push(own);
            }
            if chosen.len() == count {
                break;
            }
        }
        chosen
    }

    /// Some write of its own keys.
    fn draw(&mut self) -> Batch {
        let mut batch = Batch {
            requests: Vec::new(),
            pending: Vec::new(),
            form: "",
        };
        selecting(self.load, self.db, &mut batch.requests);
        let own = self.choose();
        match self.own[own].slot.kind {
            Kind::Hash => self.draw_hash(own, &mut batch),
            Kind::Text | Kind::Shared => match self.random.random_range(0..4) {
                0 => self.draw_many(&mut batch),
                1 => self.draw_with_expiry(own, &mut batch),
                _ => self.draw_one(own, &mut batch),
            },
        }
        batch
    }

    fn draw_one(&mut self, own: usize, batch: &mut Batch) {
        let name = self.own[own].slot.key.name.clone();
        if self.random.random_range(0..6) == 0 {
            batch.form = ["DEL", "UNLINK", "EVAL DEL"][self.random.random_range(0..3)];
            match batch.form {
                "EVAL DEL" => self.push_script(batch, DEL_UNDECLARED, &[&name]),
                form => batch.push(&[form, &name]),
            }
            return batch.pend(own, None, None);
        }
        let (version, value) = self.next(own);
        let forms = [
            "SET",
            "SET GET",
            "GETSET",
            "EVAL",
            "EVAL undeclared",
            "RENAME",
            "SETRANGE",
        ];
        // Scripts that name no keys are the hardest to follow, so they come often.
        let form = self.random.random_range(0..forms.len() + 2);
        batch.form = forms.get(form).copied().unwrap_or("EVAL undeclared");
        match batch.form {
            "SET" => batch.push(&["SET", &name, &value]),
            "SET GET" => batch.push(&["SET", &name, &value, "GET"]),
            "GETSET" => batch.push(&["GETSET", &name, &value]),
            "EVAL" => batch.push(&["EVAL", SET_DECLARED, "1", &name, &value]),
            "EVAL undeclared" => self.push_script(batch, SET_UNDECLARED, &[&name, &value]),
            "RENAME" => {
                let other = format!("rename:{{w{}}}", self.index);
                batch.push(&["MULTI"]);
                batch.push(&["SET", &other, &value]);
                batch.push(&["RENAME", &other, &name]);
                batch.push(&["EXEC"]);
            }
            _ => {
                batch.push(&["MULTI"]);
                batch.push(&["DEL", &name]);
                batch.push(&["SETRANGE", &name, "0", &value]);
                batch.push(&["EXEC"]);
            }
        }
        batch.pend(own, Some(version), None);
    }

    /// A script that names no key, but is given one first among its arguments. A Cluster has to be
    /// told where it belongs.
    fn script(&self, script: &str, arguments: &[&str]) -> Request {
        let keys = if self.load.traffic.is_clustered {
            vec!["1", arguments[0]]
        } else {
            vec!["0"]
        };
        command(&[&["EVAL", script], &keys[..], arguments].concat())
    }

    fn push_script(&self, batch: &mut Batch, script: &str, arguments: &[&str]) {
        batch.requests.push(self.script(script, arguments));
    }

    fn draw_with_expiry(&mut self, own: usize, batch: &mut Batch) {
        let name = self.own[own].slot.key.name.clone();
        let ttl_ms = self.random.random_range(TTL_MS);
        let ttl = ttl_ms.to_string();
        if let (Some(version), true) = (self.own[own].value, self.random.random()) {
            batch.form = "PEXPIRE";
            batch.push(&["PEXPIRE", &name, &ttl]);
            return batch.pend(own, Some(version), Some(ttl_ms));
        }
        let (version, value) = self.next(own);
        if self.random.random() {
            batch.form = "SET PX";
            batch.push(&["SET", &name, &value, "PX", &ttl]);
        } else {
            batch.form = "PSETEX";
            batch.push(&["PSETEX", &name, &ttl, &value]);
        }
        batch.pend(own, Some(version), Some(ttl_ms));
    }

    fn draw_many(&mut self, batch: &mut Batch) {
        let owns = self.some(Kind::Text, 4);
        let mut pairs = Vec::new();
        let mut versions = Vec::new();
        for own in owns {
            let (version, value) = self.next(own);
            pairs.push([self.own[own].slot.key.name.to_string(), value]);
            versions.push((own, version));
        }
        batch.form = ["MSET", "SET in EXEC", "SET pipelined"][self.random.random_range(0..3)];
        match batch.form {
            "MSET" => {
                let mut words = vec!["MSET"];
                words.extend(pairs.iter().flatten().map(String::as_str));
                batch.push(&words);
            }
            "SET in EXEC" => {
                batch.push(&["MULTI"]);
                for [name, value] in &pairs {
                    batch.push(&["SET", name, value]);
                }
                batch.push(&["EXEC"]);
            }
            _ => {
                for ([name, value], (own, version)) in pairs.iter().zip(versions) {
                    batch.push(&["SET", name, value]);
                    batch.pend(own, Some(version), None);
                }
                return;
            }
        }
        for (own, version) in versions {
            batch.pend(own, Some(version), None);
        }
    }

    fn draw_hash(&mut self, own: usize, batch: &mut Batch) {
        let name = self.own[own].slot.key.name.clone();
        if self.random.random_range(0..6) == 0 {
            batch.form = ["DEL", "HDEL"][self.random.random_range(0..2)];
            match batch.form {
                "DEL" => batch.push(&["DEL", &name]),
                _ => batch.push(&["HDEL", &name, FIELD]),
            }
            return batch.pend(own, None, None);
        }
        let (version, value) = self.next(own);
        batch.form = ["HSET", "HSET in EXEC", "EVAL HSET"][self.random.random_range(0..3)];
        match batch.form {
            "HSET" => batch.push(&["HSET", &name, FIELD, &value]),
            "HSET in EXEC" => {
                batch.push(&["MULTI"]);
                batch.push(&["HSET", &name, FIELD, &value]);
                batch.push(&["EXEC"]);
            }
            _ => self.push_script(batch, HSET_UNDECLARED, &[&name, FIELD, &value]),
        }
        batch.pend(own, Some(version), None);
    }

    /// Raises a shared key, as everybody else does meanwhile.
    fn raise_shared(&mut self) {
        let number = self.random.random_range(0..super::SHARED_KEYS);
        let name = super::shared(number);
        let key = Key { db: self.db, name };
        let mut requests = Vec::new();
        selecting(self.load, self.db, &mut requests);
        let forms = if self.load.traffic.keeps_keys { 5 } else { 2 };
        let (form, path): (_, &[usize]) = match self.random.random_range(0..forms) {
            0 => ("EVAL RISE", &[]),
            1 => ("EVAL RISE undeclared", &[]),
            2 => ("INCR", &[]),
            3 => ("INCRBY", &[]),
            _ => ("INCR in EXEC", &[0]),
        };
        match form {
            "EVAL RISE" => requests.push(command(&["EVAL", RISE, "1", &key.name])),
            "EVAL RISE undeclared" => requests.push(self.script(RISE, &[&key.name])),
            "INCR" => requests.push(command(&["INCR", &key.name])),
            "INCRBY" => requests.push(command(&["INCRBY", &key.name, "7"])),
            _ => {
                let words = ["MULTI", "EXEC"].map(|word| command(&[word]));
                let [multi, exec] = words;
                requests.extend([multi, command(&["INCR", &key.name]), exec]);
            }
        }
        let through_front = self.random.random::<bool>();
        let client = if through_front {
            &mut self.front
        } else {
            &mut self.direct
        };
        let (begin, answers) = client.run(&requests);
        let answer = answers.get(requests.len() - 1);
        let version = answer.and_then(|answer| raised_to(&answer.value, path));
        let write = Write {
            version: Some(version.unwrap_or(0)),
            outcome: version.map_or(Outcome::Unknown, |_| Outcome::Done),
            ttl: None,
            command: form,
        };
        let end = answer.map_or(begin, |answer| answer.end);
        client.note_write(&key, (begin, end), write);
        let kind = Kind::Shared;
        let is_outside = false;
        let slot = Slot {
            key,
            kind,
            is_outside,
        };
        self.look_at(&slot, through_front);
    }
}

fn is_zero(answer: &Answer) -> bool {
    answer.value == Value::Integer(0)
}

/// The version that a reply tells.
fn raised_to(value: &Value, path: &[usize]) -> Option<u64> {
    match dig(value, path)? {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Text(text) => String::from_utf8_lossy(text).parse().ok(),
        Value::Nil | Value::Error(_) | Value::Array(_) | Value::Push(_) => None,
    }
}
