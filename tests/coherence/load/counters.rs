//! Counters that are raised as everybody does it: WATCH, GET, MULTI, SET, EXEC.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Load, command, pause};
use crate::client::{Client, Value, words};
use crate::history::{Counter, History};

/// How many counters there are: few, so that transactions meet.
const COUNTERS: usize = 2;
/// The longest pause between WATCH and EXEC, and between two transactions.
const PAUSE_MAX: Duration = Duration::from_millis(3);

/// What became of an attempt.
enum Raise {
    To(u64),
    Refused,
    Unknown,
}

/// Raises counters until the load is over.
pub(crate) fn raise_counters(load: &Load, mut client: Client, seed: u64) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    let mut counters: Vec<Counter> = (0..COUNTERS)
        .map(|index| Counter {
            name: format!("counter:{{c{index}}}"),
            ..Counter::default()
        })
        .collect();
    while load.goes_on() {
        let counter = &mut counters[random.random_range(0..COUNTERS)];
        match raise(&mut client, &counter.name, &mut random) {
            Raise::To(value) => counter.set.push(value),
            Raise::Refused => {}
            Raise::Unknown => counter.unknown += 1,
        }
        pause(&mut random, PAUSE_MAX);
    }
    let mut history = client.history;
    history.counters = counters;
    history
}

fn raise(client: &mut Client, name: &str, random: &mut StdRng) -> Raise {
    // A front has a copy now, which the GET behind WATCH must not be answered from.
    client.ask(&format!("GET {name}"));
    let (_, watched) = client.run(&[words(&format!("WATCH {name}"))]);
    if watched.last().is_none_or(|answer| answer.value.is_error()) {
        return Raise::Refused;
    }
    let (_, read) = client.run_here(&[words(&format!("GET {name}"))]);
    let old = match read.last().map(|answer| &answer.value) {
        Some(Value::Text(text)) => String::from_utf8_lossy(text).parse().unwrap_or(0),
        Some(Value::Nil) => 0,
        _ => return Raise::Refused,
    };
    pause(random, PAUSE_MAX);
    let new = old + 1;
    let set = command(&["SET", name, &new.to_string()]);
    let (_, replies) = client.run_here(&[words("MULTI"), set, words("EXEC")]);
    match replies.get(2).map(|answer| &answer.value) {
        Some(Value::Array(_)) => Raise::To(new),
        Some(Value::Nil) => Raise::Refused,
        _ => Raise::Unknown,
    }
}
