//! Random histories beside a plain model: which copies and flights there are is kept as lists, and
//! every answer must be the one they give.
//!
//! The model has a server in it, with values that change and expire, with tracking, with pushes
//! that are on their way and connections that break before anybody notices. So the rules
//! themselves are tested, too: no hit is older than what was acknowledged, applied, or answered
//! before; none is older than the bound on staleness allows; none outlives its value; and when
//! everything has come to rest, a hit is the present value.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::server::{Message, Server, Value};
use super::*;

pub(super) const KEYS: [&[u8]; 3] = [b"a", b"b", b""];
pub(super) const DATABASES: u16 = 2;
const LINES: [Line<'static>; 3] = [
    GET,
    Line {
        id: 2,
        arguments: b"0 1",
    },
    Line {
        id: 2,
        arguments: b"0 2",
    },
];
/// The tracker and two data channels.
pub(super) const CHANNELS: usize = 3;

/// A line of a key in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct At {
    db: u16,
    key: usize,
    line: usize,
}

#[derive(Clone, Debug)]
enum Action {
    Get(At),
    GetStale(At),
    /// All of a read, with nothing in between.
    Read(At),
    Enter {
        at: At,
        channel: u16,
        may_join: bool,
    },
    /// The server answers a read.
    Run {
        flight: usize,
    },
    /// The answer arrives; `knows_ttl` false: PTTL did not answer.
    Finish {
        flight: usize,
        knows_ttl: bool,
    },
    Fail {
        flight: usize,
    },
    /// Somebody else writes, or with `ttl_ms` 0 deletes.
    ForeignWrite {
        at: At,
        ttl_ms: Option<u64>,
    },
    WriteStart(At),
    /// A write of ours goes on: runs, then ends.
    WriteOn {
        write: usize,
    },
    Push,
    ForeignFlush,
    /// A connection breaks, and nobody here knows.
    Break {
        channel: usize,
    },
    /// What is broken is noticed and connected again.
    Reconnect {
        channel: usize,
    },
    /// All channels that are up answer, after all pushes.
    Hear,
    Wait {
        ms: u64,
    },
    Reclaim,
    /// From now on, only what is read for the second time is stored; or everything.
    Pick(bool),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    use Action::*;
    let at = (
        prop_oneof![4 => Just(0u16), 1 => Just(1)],
        prop_oneof![5 => Just(0usize), 2 => Just(1), 1 => Just(2)],
        prop_oneof![5 => Just(0usize), 2 => Just(1), 1 => Just(2)],
    );
    let at = at.prop_map(|(db, key, line)| At { db, key, line });
    let index = 0usize..4;
    let ttl_ms = prop_oneof![3 => Just(None), 1 => Just(Some(0)), 3 => (1u64..900).prop_map(Some)];
    let action = prop_oneof![
        20 => at.clone().prop_map(Get),
        4 => at.clone().prop_map(GetStale),
        15 => at.clone().prop_map(Read),
        12 => (at.clone(), 1u16..3, prop::bool::weighted(0.7))
            .prop_map(|(at, channel, may_join)| Enter { at, channel, may_join }),
        25 => index.clone().prop_map(|flight| Run { flight }),
        20 => (index.clone(), prop::bool::weighted(0.95))
            .prop_map(|(flight, knows_ttl)| Finish { flight, knows_ttl }),
        2 => index.clone().prop_map(|flight| Fail { flight }),
        8 => (at.clone(), ttl_ms).prop_map(|(at, ttl_ms)| ForeignWrite { at, ttl_ms }),
        3 => at.prop_map(WriteStart),
        6 => index.prop_map(|write| WriteOn { write }),
        8 => Just(Push),
        1 => Just(ForeignFlush),
        1 => (0..CHANNELS).prop_map(|channel| Break { channel }),
        5 => (0..CHANNELS).prop_map(|channel| Reconnect { channel }),
        12 => Just(Hear),
        8 => prop_oneof![12 => 0u64..50, 1 => 0u64..1500].prop_map(|ms| Wait { ms }),
        1 => Just(Reclaim),
        4 => prop::bool::ANY.prop_map(Pick),
    ];
    prop::collection::vec(action, 1..250)
}

fn reply_of(at: At, value: Value) -> Vec<u8> {
    if value.is_there {
        format!("+{at:?} {}\r\n", value.version).into_bytes()
    } else {
        b"$-1\r\n".to_vec()
    }
}

/// Generations and flushes, as a read began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    channel: usize,
    lost: usize,
    tracker_lost: usize,
    flushes: usize,
}

struct Copied {
    begun: Begun,
    value: Value,
    reply: Vec<u8>,
    expires_ns: u64,
}

struct Flying {
    token: Token,
    at: At,
    begun: Begun,
    sent_ns: u64,
    is_guarded: bool,
    is_kept: bool,
    is_void: bool,
    /// Replies that others of the line were answered with meanwhile.
    answered: HashSet<Vec<u8>>,
    answer: Option<(Value, Ttl)>,
    /// What each waiter may rely on.
    floors: BTreeMap<u32, u64>,
}

struct Write {
    at: At,
    version: Option<u64>,
}

struct World {
    room: Fixture,
    server: Server,
    flying: Vec<Flying>,
    copies: HashMap<At, Copied>,
    writes: Vec<Write>,
    /// Keys that were read and not voided since.
    noted: HashSet<usize>,
    is_picky: bool,
    waiters: u32,
    flushes: usize,
    /// By channel: until when it is fresh, and was fresh at each loss.
    fresh_until_ns: [u64; CHANNELS],
    losses: [Vec<u64>; CHANNELS],
    floors: HashMap<At, u64>,
    hits: usize,
}

impl World {
    fn new() -> Self {
        let room = Fixture::new();
        let fresh = room.now().mono_ns + BOUND_MS * NS_PER_MS;
        Self {
            room,
            server: Server {
                is_up: [true; CHANNELS],
                ..Server::default()
            },
            flying: Vec::new(),
            copies: HashMap::new(),
            writes: Vec::new(),
            noted: HashSet::new(),
            is_picky: false,
            waiters: 0,
            flushes: 0,
            fresh_until_ns: [fresh; CHANNELS],
            losses: Default::default(),
            floors: HashMap::new(),
            hits: 0,
        }
    }

    fn now_ns(&self) -> u64 {
        self.room.now().mono_ns
    }

    fn begun(&self, channel: usize) -> Begun {
        Begun {
            channel,
            lost: self.losses[channel].len(),
            tracker_lost: self.losses[0].len(),
            flushes: self.flushes,
        }
    }

    fn is_whole(&self, begun: Begun) -> bool {
        let is_fresh = |channel: usize| self.fresh_until_ns[channel] > self.now_ns();
        begun == self.begun(begun.channel) && is_fresh(begun.channel) && is_fresh(0)
    }

    fn raise_floor(&mut self, at: At, version: u64) {
        let floor = self.floors.entry(at).or_default();
        *floor = version.max(*floor);
    }

    /// Of all lines of a key in all databases, or of all keys.
    fn raise_floors(&mut self, key: Option<usize>, version: u64) {
        for db in 0..DATABASES {
            for of in (0..KEYS.len()).filter(|&of| key.is_none_or(|key| key == of)) {
                // What is there of a database may be older than a write to another.
                let mut there = self.server.history.get(&(db, of)).into_iter().flatten();
                let written = there.rfind(|(_, written)| *written <= version);
                let version = written.map_or(0, |(_, written)| *written);
                for line in 0..LINES.len() {
                    self.raise_floor(At { db, key: of, line }, version);
                }
            }
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Get(at) => self.get(at),
            Action::GetStale(at) => self.get_stale(at),
            Action::Read(at) => {
                self.enter(at, 1, false);
                self.run(self.flying.len() - 1);
                self.finish(self.flying.len() - 1, true);
            }
            Action::Enter {
                at,
                channel,
                may_join,
            } => self.enter(at, channel, may_join),
            Action::Run { flight } => self.run(flight),
            Action::Finish { flight, knows_ttl } => self.finish(flight, knows_ttl),
            Action::Fail { flight } => self.fail(flight),
            Action::ForeignWrite { at, ttl_ms } => {
                let now_ns = self.now_ns();
                self.server.write(at.db, at.key, ttl_ms, now_ns);
            }
            Action::WriteStart(at) => {
                self.void(at.key, Why::WriteStart);
                self.writes.push(Write { at, version: None });
            }
            Action::WriteOn { write } => self.write_on(write),
            Action::Push => self.push(),
            Action::ForeignFlush => {
                let now_ns = self.now_ns();
                self.server.flush(now_ns);
            }
            Action::Break { channel } => self.break_connection(channel),
            Action::Reconnect { channel } => self.reconnect(channel),
            Action::Hear => self.hear(),
            Action::Wait { ms } => self.room.wait_in_silence(ms),
            Action::Reclaim => drop(self.room.near.reclaim(&self.room.store, self.room.now())),
            Action::Pick(is_picky) => {
                self.is_picky = is_picky;
                self.room.near.admission.set_picky(is_picky);
            }
        }
    }

    fn get(&mut self, at: At) {
        let got = self.room.get_line(at.db, KEYS[at.key], LINES[at.line]);
        let copy = self.copies.get(&at);
        let live = copy.filter(|copy| copy.expires_ns > self.now_ns() && self.is_whole(copy.begun));
        assert_eq!(got.is_ok(), live.is_some(), "{at:?}: {got:?}");
        let Some(copy) = live else { return };
        assert_eq!(got.as_ref(), Ok(&copy.reply));
        let (version, now_ns) = (copy.value.version, self.now_ns());
        let floor = self.floors.get(&at).copied().unwrap_or(0);
        assert!(version >= floor, "older than what was known");
        let bound_ns = now_ns - BOUND_MS * NS_PER_MS;
        let due = self.server.version_at(at.db, at.key, bound_ns);
        assert!(version >= due, "older than the bound allows");
        let lives = !copy.value.is_there || copy.value.expires_ns > now_ns;
        assert!(lives, "its value has expired");
        self.raise_floor(at, version);
        self.hits += 1;
    }

    fn get_stale(&mut self, at: At) {
        let mut reply = Vec::new();
        let place = self.room.place(at.db, KEYS[at.key]);
        let (store, now) = (&self.room.store, self.room.now());
        let near = &self.room.near;
        let got = near.get_stale(store, place, LINES[at.line], now, &mut reply);
        let copy = self.copies.get(&at);
        let expected = copy
            .filter(|copy| copy.begun.flushes == self.flushes)
            .and_then(|copy| {
                let Begun {
                    channel,
                    lost,
                    tracker_lost,
                    ..
                } = copy.begun;
                let channel_ns = self.was_fresh_until(channel, lost)?;
                let tracker_ns = self.was_fresh_until(0, tracker_lost)?;
                let fresh_ns = channel_ns.min(tracker_ns).min(copy.expires_ns);
                let ms = now.mono_ns.saturating_sub(fresh_ns) / NS_PER_MS;
                (ms < STALE_MS).then_some((ms, copy.reply.clone()))
            });
        assert_eq!(got.map(|age| (age.ms, reply)), expected, "{at:?}");
    }

    fn was_fresh_until(&self, channel: usize, lost: usize) -> Option<u64> {
        let losses = &self.losses[channel];
        if lost == losses.len() {
            return Some(self.fresh_until_ns[channel]);
        }
        (losses.len() - lost <= LOSSES_KNOWN).then(|| losses[lost])
    }

    fn enter(&mut self, at: At, channel: u16, may_join: bool) {
        let place = self.room.place(at.db, KEYS[at.key]);
        let now = self.room.now();
        self.waiters += 1;
        let floor = self.floors.get(&at).copied().unwrap_or(0);
        let slot = Slot::new(channel).unwrap();
        let near = &self.room.near;
        let entered = near.enter(place, LINES[at.line], may_join, slot, now, self.waiters);
        let joinable = |flying: &&Flying| {
            flying.at == at
                && flying.is_guarded
                && flying.is_kept
                && !flying.is_void
                && flying.answered.is_empty()
                && self.is_whole(flying.begun)
        };
        let joined = self
            .flying
            .iter()
            .position(|flying| may_join && joinable(&flying));
        let begun = self.begun(usize::from(channel));
        let is_guarded = self.is_whole(begun);
        match (entered, joined) {
            (Entered::Joined, Some(index)) => {
                self.flying[index].floors.insert(self.waiters, floor);
            }
            (Entered::Leads(token), None) => {
                let is_second = is_guarded && !self.noted.insert(at.key);
                let is_kept = !is_guarded || is_second || !self.is_picky;
                assert_eq!(token.is_kept(), is_kept, "{at:?}");
                self.flying.push(Flying {
                    token,
                    at,
                    begun,
                    sent_ns: now.mono_ns,
                    is_guarded,
                    is_kept,
                    is_void: false,
                    answered: HashSet::new(),
                    answer: None,
                    floors: [(self.waiters, floor)].into(),
                });
            }
            (entered, joined) => panic!("{entered:?}, and not {joined:?}"),
        }
    }

    fn run(&mut self, flight: usize) {
        let now_ns = self.now_ns();
        let Some(flying) = self.flying.get_mut(flight) else {
            return;
        };
        let (at, channel) = (flying.at, flying.begun.channel);
        if flying.answer.is_some() || !self.server.is_up[channel] {
            return;
        }
        let value = self.server.read(at.db, at.key, now_ns);
        // With the tracker gone there is nobody to tell.
        if self.server.is_up[0] {
            self.server.tracked[channel].insert(at.key);
        }
        let ttl = match value {
            Value {
                is_there: false, ..
            } => Ttl::Absent,
            Value {
                expires_ns: u64::MAX,
                ..
            } => Ttl::None,
            Value { expires_ns, .. } => Ttl::Millis((expires_ns - now_ns) / NS_PER_MS),
        };
        flying.answer = Some((value, ttl));
    }

    fn finish(&mut self, flight: usize, knows_ttl: bool) {
        if self
            .flying
            .get(flight)
            .is_none_or(|flying| flying.answer.is_none())
        {
            return;
        }
        let flying = self.flying.remove(flight);
        let (at, now_ns) = (flying.at, self.now_ns());
        let (value, ttl) = flying.answer.unwrap();
        let ttl = if knows_ttl && flying.is_kept {
            ttl
        } else {
            Ttl::Unknown
        };
        let reply = reply_of(at, value);
        let life_ms = match ttl {
            Ttl::Millis(ms) | Ttl::Within(ms) => ms.min(NEAR_TTL_MS),
            Ttl::None | Ttl::Absent => NEAR_TTL_MS,
            Ttl::Unknown => 0,
        };
        let expires_ns = flying.sent_ns + life_ms * NS_PER_MS;
        let agrees = flying.answered.iter().all(|answer| *answer == reply);
        let expected = if !flying.is_kept {
            Fill::PassedOver
        } else if life_ms == 0 || expires_ns <= now_ns {
            Fill::Fleeting
        } else if !flying.is_guarded {
            Fill::Unguarded
        } else if flying.is_void || !agrees || !self.is_whole(flying.begun) {
            Fill::Raced
        } else {
            Fill::Stored
        };
        let contradicts = self.is_in_store(at) && self.copies[&at].reply != reply;
        let now = self.room.now();
        let finished = self
            .room
            .near
            .finish(&self.room.store, flying.token, &reply, ttl, now);
        assert_eq!(finished.fill, expected, "{at:?}");
        check_waiters(finished, (&flying.floors, flying.sent_ns), ttl, now_ns);
        let newest = flying.floors.values().max().unwrap();
        assert!(value.version >= *newest, "a waiter knew better");
        for other in self.flying.iter_mut().filter(|other| other.at == at) {
            other.answered.insert(reply.clone());
        }
        if expected == Fill::Stored {
            let begun = flying.begun;
            let mut value = value;
            if flying.answered.contains(&reply) {
                // It says what was said meanwhile, which may be of a later version.
                let floor = self.floors.get(&at).copied().unwrap_or(0);
                value.version = value.version.max(floor);
            }
            let copied = Copied {
                begun,
                value,
                reply,
                expires_ns,
            };
            self.copies.insert(at, copied);
        } else if contradicts {
            self.copies
                .retain(|other, _| (other.db, other.key) != (at.db, at.key));
        } else if let Some(copy) = self.copies.get_mut(&at)
            && copy.reply == reply
        {
            // An absent key looks the same before and after a flush.
            copy.value.version = copy.value.version.max(value.version);
        }
        self.raise_floor(at, value.version);
    }

    /// Whether the copy is still kept, be it as stale only.
    fn is_in_store(&self, at: At) -> bool {
        let explained = self.room.near.explain(
            &self.room.store,
            self.room.place(at.db, KEYS[at.key]),
            self.room.now(),
        );
        let is_it = |variant: &ExplainedVariant| {
            let line = Line {
                id: variant.line_id,
                arguments: &variant.arguments,
            };
            line == LINES[at.line]
        };
        self.copies.contains_key(&at) && explained.variants.iter().any(is_it)
    }

    fn fail(&mut self, flight: usize) {
        if flight < self.flying.len() {
            let flying = self.flying.remove(flight);
            let waiters = self.room.near.fail(flying.token);
            assert!(waiters.iter().eq(flying.floors.keys()));
        }
    }

    fn void(&mut self, key: usize, why: Why) {
        let Voided { copies, flights } = self.room.void(KEYS[key], why);
        if why != Why::WriteEnd && (self.is_picky || copies + flights > 0) {
            self.noted.remove(&key);
        }
        self.copies.retain(|at, _| at.key != key);
        for flying in self.flying.iter_mut().filter(|flying| flying.at.key == key) {
            flying.is_void = true;
        }
    }

    fn write_on(&mut self, write: usize) {
        let now_ns = self.now_ns();
        let Some(Write { at, version }) = self.writes.get_mut(write) else {
            return;
        };
        let (at, ended) = (*at, *version);
        let Some(version) = ended else {
            *version = Some(self.server.write(at.db, at.key, None, now_ns));
            return;
        };
        self.writes.remove(write);
        self.void(at.key, Why::WriteEnd);
        for line in 0..LINES.len() {
            self.raise_floor(At { line, ..at }, version);
        }
    }

    fn push(&mut self) {
        match self.server.messages.pop_front() {
            None => {}
            Some(Message::Key(key, version)) => {
                self.void(key, Why::Push);
                self.raise_floors(Some(key), version);
            }
            Some(Message::Flush(version)) => {
                self.room.near.void_all(&self.room.store, self.room.now());
                self.flushes += 1;
                self.raise_floors(None, version);
            }
        }
    }

    fn break_connection(&mut self, channel: usize) {
        self.server.is_up[channel] = false;
        self.server.tracked[channel].clear();
        if channel == 0 {
            self.server.tracked = Default::default();
            self.server.messages.clear();
        }
    }

    fn reconnect(&mut self, channel: usize) {
        if self.server.is_up[channel] {
            return;
        }
        let slot = Slot::new(u16::try_from(channel).unwrap()).unwrap();
        self.room.near.channels.lose(slot);
        self.losses[channel].push(self.fresh_until_ns[channel]);
        self.fresh_until_ns[channel] = 0;
        self.server.is_up[channel] = true;
        if channel == 0 {
            self.raise_floors(None, self.server.versions);
        }
    }

    fn hear(&mut self) {
        while !self.server.messages.is_empty() {
            self.push();
        }
        let until_ns = self.now_ns() + BOUND_MS * NS_PER_MS;
        for channel in (0..CHANNELS).filter(|&channel| self.server.is_up[channel]) {
            let slot = Slot::new(u16::try_from(channel).unwrap()).unwrap();
            self.room.near.channels.heard(slot, until_ns);
            self.fresh_until_ns[channel] = self.fresh_until_ns[channel].max(until_ns);
        }
    }

    fn rest(&mut self) {
        (0..CHANNELS).for_each(|channel| self.reconnect(channel));
        while !self.flying.is_empty() {
            self.run(0);
            self.finish(0, true);
        }
        self.hear();
        assert_eq!(self.room.stats().flights, 0);
        for at in every_line() {
            let now_ns = self.now_ns();
            let value = self.server.read(at.db, at.key, now_ns);
            let got = self.room.get_line(at.db, KEYS[at.key], LINES[at.line]);
            assert!(
                got.is_err() || got == Ok(reply_of(at, value)),
                "stale for good"
            );
        }
    }
}

fn every_line() -> impl Iterator<Item = At> {
    let keys = (0..DATABASES).flat_map(|db| (0..KEYS.len()).map(move |key| (db, key)));
    keys.flat_map(|(db, key)| (0..LINES.len()).map(move |line| At { db, key, line }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_history_is_the_models_and_no_hit_is_older_than_it_may_be(actions in actions()) {
        let mut world = World::new();
        for action in &actions {
            world.act(action);
        }
        world.rest();
    }
}

#[test]
fn the_models_histories_have_hits_in_them() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let hits = (0..50).map(|_| {
        let mut world = World::new();
        let tree = actions().new_tree(&mut runner).unwrap();
        tree.current().iter().for_each(|action| world.act(action));
        world.hits
    });
    let hits: usize = hits.sum();
    assert!(hits > 100, "{hits}");
}

/// All waiters are answered, the leader first, but for those who may have come too late.
fn check_waiters<T>(
    finished: Finished<u32>,
    (floors, sent_ns): (&BTreeMap<u32, T>, u64),
    ttl: Ttl,
    now_ns: u64,
) {
    let late = finished.late.map(|late| late.waiters).unwrap_or_default();
    assert!(
        finished.waiters.iter().chain(&late).eq(floors.keys()),
        "all of them, the leader first"
    );
    let is_past = matches!(ttl, Ttl::Millis(ms) if sent_ns + ms * NS_PER_MS <= now_ns);
    let expected = if is_past { floors.len() - 1 } else { 0 };
    assert_eq!(late.len(), expected, "who joined may have come too late");
}
