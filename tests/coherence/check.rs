//! Judges a history. Pure: it knows neither sockets nor clocks.
//!
//! Each key is a register whose writes are in a known order (see [`super::load`]): state 0 is
//! "never written", state j its j-th write. A *position* is `2j` for "as write j left it" and `2j +
//! 1` for "gone, after write j" (expired, evicted, or its database was emptied). Positions only
//! rise in the server. A read is right if some position can be what it saw, was possible before the
//! read ended, and is not below the read's *floors*: what the reader, its front or the bound say it
//! must know by now. Where several fit, the lowest is taken, so a doubt is never held against a
//! front. An expiry that was set later (PEXPIRE) is a state of its own with the same value: a front
//! that has not heard of it yet may still be at the one before.
//!
//! Noise of the machine is on the front's side too: a write's acknowledgement is timed after it
//! was read, a read's beginning before it was sent, so the gap between them is measured too short.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::history::{
    Act, ClientId, Counter, History, Key, NEVER, Nanos, Op, Outcome, Rest, Route, Seen, Wipe,
    Write, nanos,
};
use super::report::{Property, Report};

/// What may go on in a process between "this copy is within its bound" and its being sent.
pub(crate) const STALENESS_TOLERANCE: Duration = Duration::from_millis(25);
/// Redis counts expiries in whole ms, on a clock of its own.
pub(crate) const TTL_TOLERANCE: Duration = Duration::from_millis(10);

/// Checks everything. `bound` is the `staleness-bound` of the fronts.
pub(crate) fn check(history: &History, bound: Duration) -> Report {
    let mut report = Report::default();
    let mut by_key: HashMap<&Key, Vec<&Op>> = HashMap::new();
    for op in &history.ops {
        by_key.entry(&op.key).or_default().push(op);
    }
    let mut keys: Vec<_> = by_key.into_iter().collect();
    keys.sort_unstable_by_key(|(key, _)| *key);
    for (key, ops) in keys {
        let register = Register::new(key, &ops, history, bound);
        register.check_reads(&ops, &mut report);
        report.writes += register.states.len() - 1;
    }
    for hang in &history.hangs {
        report.found(Property::Hang, || {
            let at = Duration::from_nanos(hang.begin);
            format!("{:?} sent {:?} at {at:?}", hang.client, hang.command)
        });
    }
    for counter in &history.counters {
        check_counter(counter, &mut report);
    }
    for rest in &history.rests {
        check_rest(rest, &mut report);
    }
    report.staleness.sort_unstable();
    report
}

fn check_counter(counter: &Counter, report: &mut Report) {
    let mut values = HashSet::new();
    for value in &counter.set {
        if !values.insert(value) {
            report.found(Property::LostUpdate, || {
                format!("{} was set to {value} by two EXECs", counter.name)
            });
        }
    }
    let sure = counter.set.len() as u64;
    if !(sure..=sure + counter.unknown).contains(&counter.last) {
        report.found(Property::LostUpdate, || {
            let Counter { last, unknown, .. } = counter;
            format!(
                "{} is {last} after {sure} EXECs that succeeded and {unknown} that may have",
                counter.name
            )
        });
    }
}

fn check_rest(rest: &Rest, report: &mut Report) {
    if rest.through_front != rest.in_redis {
        report.found(Property::Quiescence, || {
            let Rest { key, front, .. } = rest;
            let (seen, is) = (&rest.through_front, &rest.in_redis);
            format!("{key} is {seen:?} through front {front} and {is:?} in Redis")
        });
    }
}

/// A write, as a state of its register.
struct State {
    version: Option<u64>,
    begin: Nanos,
    /// When it was acknowledged; [`NEVER`] if it was not.
    end: Nanos,
    route: Option<Route>,
    ttl: Option<Nanos>,
    command: &'static str,
}

impl State {
    fn never_written() -> Self {
        Self {
            version: None,
            begin: 0,
            end: 0,
            route: None,
            ttl: None,
            command: "nothing",
        }
    }

    fn of(op: &Op, write: &Write) -> Self {
        Self {
            version: write.version,
            begin: op.begin,
            end: match write.outcome {
                Outcome::Done => op.end,
                Outcome::Unknown => NEVER,
            },
            route: Some(op.route),
            ttl: write.ttl.map(nanos),
            command: write.command,
        }
    }
}

/// From a time on, a read must see at least a position: the highest of those whose time has come.
#[derive(Default)]
struct Floors(Vec<(Nanos, usize)>);

impl Floors {
    fn new(mut floors: Vec<(Nanos, usize)>) -> Self {
        floors.retain(|(at, _)| *at < NEVER);
        floors.sort_unstable();
        let mut highest = 0;
        for (_, position) in &mut floors {
            highest = highest.max(*position);
            *position = highest;
        }
        Self(floors)
    }

    fn at(&self, now: Nanos) -> usize {
        let passed = self.0.partition_point(|(at, _)| *at <= now);
        passed.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// The times at which a key's database was emptied, by their beginnings.
struct Wipes {
    begins: Vec<Nanos>,
    /// For each, the latest end of it and those before.
    latest: Vec<Nanos>,
    /// For each, the earliest end of it and those behind.
    earliest: Vec<Nanos>,
}

impl Wipes {
    fn new(wipes: &[&Wipe]) -> Self {
        let mut wipes: Vec<_> = wipes.iter().map(|wipe| (wipe.begin, wipe.end)).collect();
        wipes.sort_unstable();
        let (begins, ends): (Vec<_>, Vec<_>) = wipes.into_iter().unzip();
        let (mut latest, mut earliest) = (ends.clone(), ends);
        for index in 1..latest.len() {
            latest[index] = latest[index].max(latest[index - 1]);
        }
        for index in (1..earliest.len()).rev() {
            earliest[index - 1] = earliest[index - 1].min(earliest[index]);
        }
        Self {
            begins,
            latest,
            earliest,
        }
    }

    /// Whether one was under way at some time between these.
    fn any_within(&self, since: Nanos, until: Nanos) -> bool {
        let begun = self.begins.partition_point(|begin| *begin <= until);
        begun > 0 && self.latest[begun - 1] >= since
    }

    /// Of those that began at this time or later, the end of the first to end.
    fn first_end_of_those_begun_at(&self, time: Nanos) -> Nanos {
        let before = self.begins.partition_point(|begin| *begin < time);
        self.earliest.get(before).copied().unwrap_or(NEVER)
    }
}

/// One key: its states in the server's order, and what follows from them.
struct Register<'a> {
    key: &'a Key,
    states: Vec<State>,
    /// The states of each version: more than one where an expiry was set later.
    of_version: HashMap<u64, Vec<usize>>,
    wipes: Wipes,
    evicts: bool,
    /// What must be known where the write was acknowledged.
    by_front: HashMap<Route, Floors>,
    /// What must be known to Redis, at once.
    in_redis: Floors,
    /// What must be known everywhere after the bound.
    bounded: Floors,
    /// For each state: when the first of those behind it was acknowledged.
    outdated_at: Vec<Nanos>,
}

impl<'a> Register<'a> {
    fn new(key: &'a Key, ops: &[&Op], history: &'a History, bound: Duration) -> Self {
        let states = states(ops);
        let mut of_version: HashMap<u64, Vec<usize>> = HashMap::new();
        for (index, state) in states.iter().enumerate() {
            if let Some(version) = state.version {
                of_version.entry(version).or_default().push(index);
            }
        }
        let is_wiped_by = |wipe: &&Wipe| wipe.db.is_none_or(|db| db == key.db);
        let wipes: Vec<&Wipe> = history.wipes.iter().filter(is_wiped_by).collect();
        let mut floors: Vec<(Option<Route>, Nanos, usize)> = Vec::new();
        for (index, state) in states.iter().enumerate() {
            floors.push((state.route, state.end, 2 * index));
        }
        for wipe in &wipes {
            let wiped = states.iter().rposition(|state| state.end <= wipe.begin);
            let position = wiped.map_or(0, |last| 2 * last + 1);
            floors.push((Some(wipe.route), wipe.end, position));
        }
        let mut by_front: HashMap<Route, Vec<(Nanos, usize)>> = HashMap::new();
        for (route, at, position) in &floors {
            if let Some(route) = route {
                by_front.entry(*route).or_default().push((*at, *position));
            }
        }
        let after = |delay: Nanos| {
            let delayed = floors
                .iter()
                .map(|(_, at, position)| (at.saturating_add(delay), *position));
            Floors::new(delayed.collect())
        };
        let mut outdated_at = vec![NEVER; states.len()];
        for index in (1..states.len()).rev() {
            outdated_at[index - 1] = outdated_at[index].min(states[index].end);
        }
        Self {
            key,
            in_redis: after(0),
            bounded: after(nanos(bound + STALENESS_TOLERANCE)),
            by_front: by_front
                .into_iter()
                .map(|(route, floors)| (route, Floors::new(floors)))
                .collect(),
            states,
            of_version,
            wipes: Wipes::new(&wipes),
            evicts: history.evicts,
            outdated_at,
        }
    }

    /// Whether write `index` may have left the key absent before `end`, other than by removing it.
    fn may_be_gone(&self, index: usize, end: Nanos) -> bool {
        let state = &self.states[index];
        let expires = state.ttl.is_some_and(|ttl| {
            state.begin.saturating_add(ttl) <= end.saturating_add(nanos(TTL_TOLERANCE))
        });
        let replaced = self.states.get(index + 1).map_or(NEVER, |next| next.end);
        let wiped = self
            .wipes
            .any_within(state.begin, end.saturating_sub(1).min(replaced));
        self.evicts || expires || wiped
    }

    /// Whether a read can have seen this at this position, but for the value's expiry.
    fn fits(&self, op: &Op, seen: &Seen, position: usize) -> bool {
        let index = position / 2;
        let state = &self.states[index];
        if state.begin >= op.end && index > 0 {
            return false;
        }
        match seen {
            Seen::Version(version) => position.is_multiple_of(2) && state.version == Some(*version),
            Seen::Nil if position.is_multiple_of(2) => state.version.is_none(),
            Seen::Nil => self.may_be_gone(index, op.end),
            Seen::Foreign(_) => false,
        }
    }

    /// Whether the value of this position had expired before the read began.
    fn is_expired(&self, op: &Op, position: usize) -> bool {
        let State { ttl, end, .. } = &self.states[position / 2];
        let expiry = ttl.map(|ttl| end.saturating_add(ttl.saturating_add(nanos(TTL_TOLERANCE))));
        position.is_multiple_of(2) && expiry.is_some_and(|expiry| expiry < op.begin)
    }

    /// The positions from `floor` on that fit, but for expiry. Ascending.
    fn fitting<'b>(
        &'b self,
        op: &'b Op,
        seen: &'b Seen,
        floor: usize,
    ) -> Box<dyn DoubleEndedIterator<Item = usize> + 'b> {
        let fits = move |position: &usize| *position >= floor && self.fits(op, seen, *position);
        match seen {
            Seen::Version(version) => {
                let indexes = self.of_version.get(version).map_or(&[][..], Vec::as_slice);
                Box::new(indexes.iter().map(|index| 2 * index).filter(fits))
            }
            Seen::Nil => Box::new((floor..2 * self.states.len()).filter(fits)),
            Seen::Foreign(_) => Box::new(std::iter::empty()),
        }
    }

    fn check_reads(&self, ops: &[&Op], report: &mut Report) {
        let order: HashMap<(ClientId, Nanos, Option<u64>), usize> = self.positions_of(ops);
        // What each client knows of this key: by its writes, and by its reads.
        let mut written: HashMap<ClientId, usize> = HashMap::new();
        let mut read: HashMap<ClientId, usize> = HashMap::new();
        for op in ops {
            let (seen, command) = match &op.act {
                Act::Write(write) => {
                    let position = order.get(&(op.client, op.begin, write.version));
                    if let (Outcome::Done, Some(position)) = (write.outcome, position) {
                        let known = written.entry(op.client).or_default();
                        *known = (*known).max(*position);
                    }
                    continue;
                }
                Act::Read { seen, command } => (seen, *command),
            };
            let own = written.get(&op.client).copied().unwrap_or(0);
            let known = read.get(&op.client).copied().unwrap_or(0);
            let floors = self.floors(op, own, known);
            let floor = floors.iter().map(|(_, floor)| *floor).max().unwrap_or(0);
            let mut fitting = self.fitting(op, seen, floor);
            match fitting.find(|position| !self.is_expired(op, *position)) {
                Some(position) => {
                    read.insert(op.client, position);
                    self.measure(op, seen, position, report);
                }
                None => self.blame(op, seen, command, &floors, report),
            }
        }
    }

    /// Where each write of these operations stands.
    fn positions_of(&self, ops: &[&Op]) -> HashMap<(ClientId, Nanos, Option<u64>), usize> {
        let at: HashMap<(Nanos, Option<u64>), usize> = self
            .states
            .iter()
            .enumerate()
            .map(|(index, state)| ((state.begin, state.version), 2 * index))
            .collect();
        let writes = ops.iter().filter_map(|op| match &op.act {
            Act::Write(write) => {
                let position = at.get(&(op.begin, write.version))?;
                Some(((op.client, op.begin, write.version), *position))
            }
            Act::Read { .. } => None,
        });
        writes.collect()
    }

    /// What this read must at least see, and why.
    fn floors(&self, op: &Op, own: usize, known: usize) -> Vec<(Property, usize)> {
        let mut floors = vec![
            (Property::MonotonicReads, known),
            (Property::ReadYourWrites, own),
        ];
        match op.route {
            Route::Direct => floors.push((Property::RedisItself, self.in_redis.at(op.begin))),
            Route::Front(_) => {
                let here = self.by_front.get(&op.route);
                let here = here.map_or(0, |floors| floors.at(op.begin));
                floors.push((Property::ReadYourWrites, here));
                floors.push((Property::BoundedStaleness, self.bounded.at(op.begin)));
            }
        }
        floors
    }

    /// How stale the read was. Where several states fit, it saw the newest: an expiry that was set
    /// later leaves the value as it was.
    fn measure(&self, op: &Op, seen: &Seen, lowest: usize, report: &mut Report) {
        if op.route == Route::Direct {
            return;
        }
        report.reads += 1;
        if *seen == Seen::Nil {
            return;
        }
        let newest = self.fitting(op, seen, lowest).next_back().unwrap_or(lowest) / 2;
        let wiped = self
            .wipes
            .first_end_of_those_begun_at(self.states[newest].end);
        let outdated = wiped.min(self.outdated_at[newest]);
        if let Some(staleness) = op.begin.checked_sub(outdated) {
            report.staleness.push(staleness);
        }
    }

    /// Says which properties a read breaks that nothing fits.
    fn blame(
        &self,
        op: &Op,
        seen: &Seen,
        command: &str,
        floors: &[(Property, usize)],
        report: &mut Report,
    ) {
        let floor = floors.iter().map(|(_, floor)| *floor).max().unwrap_or(0);
        let older = self
            .fitting(op, seen, 0)
            .take_while(|fit| *fit < floor)
            .last();
        let is_below = |(_, floor): &&(Property, usize)| older.is_some_and(|older| older < *floor);
        let mut broken: Vec<_> = floors.iter().filter(is_below).copied().collect();
        if op.route == Route::Direct {
            broken = vec![(Property::RedisItself, floor)];
        } else if let Some(expired) = self.fitting(op, seen, floor).next() {
            broken.push((Property::TtlOutlived, expired + 1));
        } else if broken.is_empty() {
            broken.push((Property::InventedValue, floor));
        }
        broken.sort_unstable();
        broken.dedup_by_key(|(property, _)| *property);
        for (property, floor) in broken {
            report.found(property, || {
                let state = &self.states[floor / 2];
                let gone = if floor % 2 == 1 { ", gone since" } else { "" };
                format!(
                    "{:?} through {:?}: {command} {} at {:.3}-{:.3} ms saw {seen:?}, but must see \
                     {:?} ({} through {:?} at {:.3}-{:.3} ms{gone}) or later",
                    op.client,
                    op.route,
                    self.key,
                    ms(op.begin),
                    ms(op.end),
                    state.version,
                    state.command,
                    state.route,
                    ms(state.begin),
                    ms(state.end),
                )
            });
        }
    }
}

/// The states of a key in the server's order.
///
/// A key with one writer was written in the order of that writer's operations. A shared key gets
/// its versions from the server, so it was written in their order; a version that was read and not
/// acknowledged is one of the writes whose outcome is unknown, if there are so many.
fn states(ops: &[&Op]) -> Vec<State> {
    let writes = ops.iter().filter_map(|op| match &op.act {
        Act::Write(write) => Some(State::of(op, write)),
        Act::Read { .. } => None,
    });
    let (unnamed, mut named): (Vec<_>, Vec<_>) = writes.partition(|state| state.version == Some(0));
    if ops.first().is_some_and(|op| op.key.is_shared()) {
        let mut known: HashSet<u64> = named.iter().filter_map(|state| state.version).collect();
        let mut left = unnamed.len();
        let begin = unnamed.iter().map(|state| state.begin).min();
        for op in ops {
            if let (Act::Read { seen, .. }, Some(begin)) = (&op.act, begin)
                && let Seen::Version(version) = seen
                && left > 0
                && known.insert(*version)
            {
                left -= 1;
                named.push(State {
                    version: Some(*version),
                    begin,
                    command: "a write of unknown outcome",
                    end: NEVER,
                    ..State::never_written()
                });
            }
        }
        named.sort_by_key(|state| state.version);
    } else {
        named.sort_by_key(|state| state.begin);
    }
    named.insert(0, State::never_written());
    named
}

fn ms(nanos: Nanos) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1000.0
}
