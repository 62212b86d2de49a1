//! One thing after the other.

mod admission;
mod causes;
mod fills;
mod layout;
mod model;
mod server;
mod voids;

use std::cell::Cell;

use super::*;

/// How long a channel is fresh after it was heard of.
const BOUND_MS: u64 = 250;

/// A data channel.
fn slot() -> Slot {
    Slot::new(1).unwrap()
}

/// A room with two channels that were just heard of, its store and its clock.
struct Fixture {
    near: Near<u32>,
    store: Store,
    now: Cell<Now>,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            near: new_near(2),
            store: new_store(4, None),
            now: Cell::new(START),
        };
        fixture.hear();
        fixture
    }

    fn now(&self) -> Now {
        self.now.get()
    }

    fn place<'a>(&self, db: u16, key: &'a [u8]) -> Place<'a> {
        Place {
            db,
            key: self.store.key(key),
        }
    }

    /// All channels in use are heard of.
    fn hear(&self) {
        let until = self.now().mono_ns + BOUND_MS * NS_PER_MS;
        for slot in [Slot::TRACKER, slot(), Slot::new(2).unwrap()] {
            self.near.channels.heard(slot, until);
        }
    }

    /// Time passes without a word from anybody.
    fn wait_in_silence(&self, ms: u64) {
        let Now { unix_ms, mono_ns } = self.now();
        self.now.set(Now {
            unix_ms: unix_ms + ms,
            mono_ns: mono_ns + ms * NS_PER_MS,
        });
    }

    fn wait(&self, ms: u64) {
        self.wait_in_silence(ms);
        self.hear();
    }

    fn get_line(&self, db: u16, key: &[u8], line: Line<'_>) -> Result<Vec<u8>, Miss> {
        let mut reply = b"before".to_vec();
        let place = self.place(db, key);
        let got = self
            .near
            .get(&self.store, place, line, self.now(), &mut reply);
        let added = reply.split_off(b"before".len());
        got.map(|()| added)
    }

    fn get(&self, key: &[u8]) -> Result<Vec<u8>, Miss> {
        self.get_line(0, key, GET)
    }

    fn get_stale(&self, key: &[u8]) -> Option<(u64, Vec<u8>)> {
        let mut reply = Vec::new();
        let place = self.place(0, key);
        let age = self
            .near
            .get_stale(&self.store, place, GET, self.now(), &mut reply);
        assert!(age.is_some() || reply.is_empty());
        age.map(|age| (age.ms, reply))
    }

    /// Begins a flight of one's own.
    fn lead_line(&self, db: u16, key: &[u8], line: Line<'_>) -> Token {
        let place = self.place(db, key);
        match self.near.enter(place, line, false, slot(), self.now(), 0) {
            Entered::Leads(token) => token,
            Entered::Joined => unreachable!("it may not join"),
        }
    }

    fn lead(&self, key: &[u8]) -> Token {
        self.lead_line(0, key, GET)
    }

    fn enter(&self, key: &[u8], waiter: u32) -> Entered {
        let place = self.place(0, key);
        self.near
            .enter(place, GET, true, slot(), self.now(), waiter)
    }

    fn finish(&self, token: Token, reply: &[u8], ttl: Ttl) -> Fill {
        self.near
            .finish(&self.store, token, reply, ttl, self.now())
            .fill
    }

    fn try_finish(&self, token: Token, reply: &[u8]) -> Result<Fill, Token> {
        let now = self.now();
        let finished = self
            .near
            .try_finish(&self.store, token, reply, Ttl::None, now);
        finished.map(|finished| finished.fill)
    }

    fn fill_line(&self, db: u16, key: &[u8], line: Line<'_>, reply: &[u8], ttl: Ttl) -> Fill {
        let token = self.lead_line(db, key, line);
        self.finish(token, reply, ttl)
    }

    fn fill(&self, key: &[u8], reply: &[u8]) {
        let fill = self.fill_line(0, key, GET, reply, Ttl::None);
        assert_eq!(fill, Fill::Stored);
    }

    fn void(&self, key: &[u8], why: Why) -> Voided {
        self.near.void(&self.store, key, why)
    }

    fn stats(&self) -> Stats {
        self.near.stats(&self.store)
    }
}
