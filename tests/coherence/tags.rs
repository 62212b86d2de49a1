//! Tags of keys that are upstream's: who begins to read after a tag was invalidated finds nothing
//! that was stored before that began. Through the front that did it at once, through another after
//! the bound.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::bed::{BOUND, duration, seed};
use super::check::STALENESS_TOLERANCE;
use super::client::{Client, Value, words};
use super::history::{Clock, NEVER, Nanos, Route, nanos};
use super::relay::{Link, Relay};
use super::scenarios::own_delay;
use super::servers::Server;
use super::upstream::Door;

const FRONTS: usize = 2;
const KEYS: u64 = 12;
const TAGS: u64 = 3;

/// What was done, with when it began and when it ended.
#[derive(Default)]
struct Seen {
    /// Values that were stored, and with which tag.
    writes: HashMap<String, (u64, Nanos)>,
    /// Through which front, of which tag.
    invalidations: Vec<(usize, u64, Nanos, Nanos)>,
    /// Through which front, and when it began, what was read.
    reads: Vec<(usize, Nanos, String)>,
}

impl Seen {
    fn join(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.invalidations.extend(other.invalidations);
        self.reads.extend(other.reads);
    }

    /// Reads that should have found nothing.
    fn judge(mut self) -> Vec<String> {
        self.invalidations
            .sort_unstable_by_key(|(_, _, begin, _)| *begin);
        let mut wrong = Vec::new();
        let bound = nanos(BOUND + STALENESS_TOLERANCE);
        for (front, read, value) in &self.reads {
            let Some((tag, stored)) = self.writes.get(value) else {
                wrong.push(format!("{value} was never stored"));
                continue;
            };
            let after = self
                .invalidations
                .partition_point(|(_, _, begin, _)| begin < stored);
            for (at, of, begin, end) in &self.invalidations[after..] {
                if begin > read {
                    break;
                }
                let by = if at == front {
                    *end
                } else {
                    end.saturating_add(bound)
                };
                if of == tag && by < *read {
                    wrong.push(format!(
                        "front {front} had {value}, stored by {stored}, at {read}: front {at} \
                         invalidated its tag from {begin} to {end}"
                    ));
                }
            }
        }
        wrong
    }
}

/// One client, which does as its choices go until the time is over.
struct Actor {
    client: Client,
    front: usize,
    random: SmallRng,
    until: Nanos,
    seen: Seen,
    number: u64,
}

impl Actor {
    fn run(mut self, kind: usize) -> Seen {
        while self.client.clock.now() < self.until {
            match kind {
                0 => self.store(),
                1 | 2 => self.read(),
                _ => {
                    self.invalidate();
                    let pause = self.random.random_range(0..4000);
                    thread::sleep(Duration::from_micros(pause));
                }
            }
        }
        self.seen
    }

    fn store(&mut self) {
        let key = self.random.random_range(0..KEYS);
        let tag = self.random.random_range(0..TAGS);
        self.number += 1;
        let value = format!(
            "{}-{}-{}",
            self.front,
            self.number,
            self.random.random::<u32>()
        );
        let request = match self.random.random_range(0..3) {
            0 => format!("SET k{key} {value} EX 100 TAGS 2 t{tag} of:{key}"),
            _ => format!("SET k{key} {value} TAGS 1 t{tag}"),
        };
        let (_, answers) = self.client.run(&[words(&request)]);
        // Where it failed, it is not known when it is stored.
        let end = answers.first().filter(|answer| !answer.value.is_error());
        let end = end.map_or(NEVER, |answer| answer.end);
        self.seen.writes.insert(value, (tag, end));
    }

    fn read(&mut self) {
        let keys: Vec<u64> = (0..8).map(|_| self.random.random_range(0..KEYS)).collect();
        let request = |key: &u64| match self.random.random_range(0..8) {
            0 => words(&format!("MGET k{key}")),
            _ => words(&format!("GET k{key}")),
        };
        let requests: Vec<_> = keys.iter().map(request).collect();
        let (begin, answers) = self.client.run(&requests);
        for answer in answers {
            let first = answer.value.elements().first();
            let value = first.unwrap_or(&answer.value).text();
            if let Some(value) = value.filter(|_| !answer.value.is_error()) {
                let value = String::from_utf8_lossy(value).into_owned();
                self.seen.reads.push((self.front, begin, value));
            }
        }
    }

    fn invalidate(&mut self) {
        let tag = self.random.random_range(0..TAGS);
        let (begin, answers) = self.client.run(&[words(&format!("TAG.INVALIDATE t{tag}"))]);
        if let Some(answer) = answers.first()
            && matches!(answer.value, Value::Integer(_))
        {
            let invalidation = (self.front, tag, begin, answer.end);
            self.seen.invalidations.push(invalidation);
        }
    }
}

/// Runs it all, with something that goes wrong meanwhile.
fn holds(name: &str, prepare: fn(&Link), fault: fn(&Server, &mut SmallRng)) {
    let (upstream, seed, clock) = (Server::redis(&[]), seed(), Clock::start());
    let relays: Vec<Relay> = (0..FRONTS)
        .map(|_| Relay::start(upstream.port, prepare))
        .collect();
    let fronts = relays.iter().map(|relay| {
        let url = format!("redis://127.0.0.1:{}", relay.port);
        Server::corral(&["--upstream", &url, "--upstream-timeout", "1000"])
    });
    let fronts: Vec<Server> = fronts.collect();
    let until = clock.now() + nanos(duration());
    let actors = (0..FRONTS * 4).map(|number| {
        let (front, kind) = (number % FRONTS, number / FRONTS);
        let id = u32::try_from(number).expect("few");
        let actor = Actor {
            client: Client::new(
                id,
                Route::Front(front),
                Door::new(fronts[front].port),
                clock,
            ),
            front,
            random: SmallRng::seed_from_u64(seed + u64::from(id)),
            until,
            seen: Seen::default(),
            number: 0,
        };
        thread::spawn(move || actor.run(kind))
    });
    let actors: Vec<_> = actors.collect();
    let mut random = SmallRng::seed_from_u64(seed);
    while clock.now() < until {
        fault(&upstream, &mut random);
    }
    let mut seen = Seen::default();
    for actor in actors {
        seen.join(actor.join().expect("it did as it was told"));
    }
    let (reads, invalidations) = (seen.reads.len(), seen.invalidations.len());
    let wrong = seen.judge();
    println!("tags, {name}: {reads} values read, {invalidations} invalidations, seed {seed}");
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} wrong: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    assert!(reads > 100 && invalidations > 10, "too little came to pass");
}

fn nothing(_: &Server, _: &mut SmallRng) {
    thread::sleep(Duration::from_millis(50));
}

/// Ends connections of the fronts, those that tell of changes among them.
fn kills(upstream: &Server, random: &mut SmallRng) {
    thread::sleep(Duration::from_millis(random.random_range(100..600)));
    let mut direct = Client::new(99, Route::Direct, Door::new(upstream.port), Clock::start());
    direct.ask(if random.random() {
        "CLIENT KILL TYPE pubsub"
    } else {
        "CLIENT KILL TYPE normal"
    });
}

#[test]
fn nothing_is_read_that_was_invalidated_with_its_tag() {
    holds("quiet", |_| {}, nothing);
}

#[test]
fn nothing_is_read_that_was_invalidated_when_what_upstream_tells_comes_late() {
    holds("late", own_delay, nothing);
}

#[test]
fn nothing_is_read_that_was_invalidated_when_connections_are_killed() {
    holds("killed", own_delay, kills);
}
