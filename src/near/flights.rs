//! The reads under way: who leads, who waits, and which were voided meanwhile.
//!
//! A stripe holds the flights of a share of the keys under one lock. A flight is *listed* while
//! nothing has voided it: by its key it is found, to be joined and to be voided; one that is not
//! listed any more only waits for its answer. What is bounded is the list: flights beyond its
//! limits begin unlisted, and what they bring is not stored.
//!
//! Of two reads of a line that were under way together, nobody knows which upstream ran first. So
//! when one is answered, the others cannot be joined any more, and are stored only if they say the
//! same: who was answered by the one must not be answered by an older one next.
//!
//! A read that is not to be stored, as its key was not read before, is a flight for the sake of
//! that alone: what it is answered binds the others. It is not listed. Nobody joins it: whoever
//! asks while it is under way could be answered by a value that expired before, which only PTTL
//! would tell; so that one is the second reader, whose read is listed, and a herd costs two.
//! Nothing needs to void it, as its reply is but the answer to who asked first. And who is answered
//! by another read of the key need not wait for a fence on its account: no copy will come of it.

use smallvec::SmallVec;

use super::stamp::Stamp;
use super::{Line, Now, Place, Waiters};
use crate::store::Key;

/// Most open flights of a stripe.
pub const FLIGHTS_PER_STRIPE_MAX: usize = 4096;
/// Most open flights of keys with the same hash, which a look-up goes through.
pub const FLIGHTS_PER_KEY_MAX: usize = 64;
/// Most who wait for one flight; who comes then begins another.
pub const WAITERS_MAX: usize = 16_384;

/// A key, with its line's arguments, of so many bytes needs no memory of its own.
const KEY_BYTES_INLINE: usize = 48;

/// One read under way.
#[derive(Debug)]
pub(super) struct Flight<W> {
    id: u64,
    is_listed: bool,
    db: u16,
    hash: u64,
    line: u32,
    /// The key and the line's arguments.
    bytes: SmallVec<[u8; KEY_BYTES_INLINE]>,
    key_len: usize,
    pub(super) stamp: Stamp,
    pub(super) state: State,
    /// When it was sent, or before.
    pub(super) sent: Now,
    /// The leader first.
    pub(super) waiters: Waiters<W>,
}

/// What a flight's reply may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// For everything.
    Open,
    /// To be stored only if it is the reply with this hash, with which another flight of the line
    /// was answered meanwhile.
    Echo(u64),
    /// For its waiters: something voided it.
    Void,
    /// For its leader: it could not be watched over from its start.
    Unguarded,
    /// For its leader: it is not to be stored, and nobody asks how long its value lives.
    PassedOver,
}

impl<W> Flight<W> {
    pub(super) fn new(
        place: Place<'_>,
        line: Line<'_>,
        stamp: Stamp,
        sent: Now,
        leader: W,
    ) -> Self {
        let waiters = SmallVec::from_buf([leader]);
        Self::with(place, line, stamp, sent, State::Open, waiters)
    }

    /// One that nobody waits for, and nobody joins: of its reply, the hash is known already.
    pub(super) fn watching(
        place: Place<'_>,
        line: Line<'_>,
        stamp: Stamp,
        sent: Now,
        reply_hash: u64,
    ) -> Self {
        let state = State::Echo(reply_hash);
        Self::with(place, line, stamp, sent, state, Waiters::new())
    }

    fn with(
        place: Place<'_>,
        line: Line<'_>,
        stamp: Stamp,
        sent: Now,
        state: State,
        waiters: Waiters<W>,
    ) -> Self {
        let mut bytes = SmallVec::from_slice(place.key.bytes);
        bytes.extend_from_slice(line.arguments);
        Self {
            id: 0,
            is_listed: false,
            db: place.db,
            hash: place.key.hash,
            line: line.id,
            bytes,
            key_len: place.key.bytes.len(),
            stamp,
            state,
            sent,
            waiters,
        }
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place {
            db: self.db,
            key: Key {
                bytes: &self.bytes[..self.key_len],
                hash: self.hash,
            },
        }
    }

    pub(super) fn line(&self) -> Line<'_> {
        Line {
            id: self.line,
            arguments: &self.bytes[self.key_len..],
        }
    }

    fn is_for(&self, place: Place<'_>, line: Line<'_>) -> bool {
        self.db == place.db && self.place().key.bytes == place.key.bytes && self.line() == line
    }
}

/// The flights of a share of the keys.
#[derive(Debug)]
pub(super) struct Stripe<W> {
    /// In no order. There are few: to look through them costs less than any index.
    flights: Vec<Flight<W>>,
    /// The hashes of their keys, by the same positions.
    hashes: Vec<u64>,
    listed_len: usize,
    next_id: u64,
}

impl<W> Stripe<W> {
    pub(super) fn new() -> Self {
        Self {
            flights: Vec::new(),
            hashes: Vec::new(),
            listed_len: 0,
            next_id: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Where the flights of this hash are.
    fn positions(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let hashes = self.hashes.iter().enumerate();
        hashes
            .filter(move |(_, other)| **other == hash)
            .map(|(position, _)| position)
    }

    /// The listed flights of this hash.
    fn listed_of(&self, hash: u64) -> impl Iterator<Item = &Flight<W>> {
        let flights = self.positions(hash).map(|position| &self.flights[position]);
        flights.filter(|flight| flight.is_listed)
    }

    /// The oldest open flight for this line, if there is one that `accept` accepts and has room.
    pub(super) fn joinable(
        &mut self,
        place: Place<'_>,
        line: Line<'_>,
        accept: impl Fn(&Flight<W>) -> bool,
    ) -> Option<&mut Flight<W>> {
        let fits = |position: &usize| {
            let flight = &self.flights[*position];
            flight.is_listed
                && flight.state == State::Open
                && flight.is_for(place, line)
                && flight.waiters.len() < WAITERS_MAX
                && accept(flight)
        };
        let open = self.positions(place.key.hash).filter(fits);
        let found = open.min_by_key(|position| self.flights[*position].id)?;
        Some(&mut self.flights[found])
    }

    /// Begins a flight and returns its id. An open one beyond the limits becomes unguarded.
    pub(super) fn begin(&mut self, mut flight: Flight<W>) -> u64 {
        flight.id = self.next_id;
        self.next_id += 1;
        if matches!(flight.state, State::Open | State::Echo(_)) {
            if self.listed_len < FLIGHTS_PER_STRIPE_MAX
                && self.listed_of(flight.hash).count() < FLIGHTS_PER_KEY_MAX
            {
                flight.is_listed = true;
                self.listed_len += 1;
            } else {
                flight.state = State::Unguarded;
            }
        }
        let id = flight.id;
        self.hashes.push(flight.hash);
        self.flights.push(flight);
        id
    }

    /// A flight.
    pub(super) fn find(&self, hash: u64, id: u64) -> Option<&Flight<W>> {
        let mut flights = self.positions(hash).map(|position| &self.flights[position]);
        flights.find(|flight| flight.id == id)
    }

    /// Takes a flight out.
    pub(super) fn end(&mut self, hash: u64, id: u64) -> Option<Flight<W>> {
        let is_it = |position: &usize| self.flights[*position].id == id;
        let position = self.positions(hash).find(is_it)?;
        self.hashes.swap_remove(position);
        let flight = self.flights.swap_remove(position);
        self.listed_len -= usize::from(flight.is_listed);
        Some(flight)
    }

    /// The reply with this hash was the answer to a flight that has ended: other flights for its
    /// line may only say the same.
    pub(super) fn answered(&mut self, ended: &Flight<W>, reply_hash: impl Fn() -> u64) {
        self.unlist(ended.hash, |flight| {
            if !flight.is_for(ended.place(), ended.line()) {
                return false;
            }
            let reply_hash = reply_hash();
            flight.state = match flight.state {
                State::Open => State::Echo(reply_hash),
                State::Echo(other) if other == reply_hash => State::Echo(other),
                State::Echo(_) | State::Void | State::Unguarded | State::PassedOver => State::Void,
            };
            flight.state == State::Void
        });
    }

    /// Voids the flights of a key in all databases. Returns how many.
    pub(super) fn void(&mut self, key: Key<'_>) -> usize {
        self.unlist(key.hash, |flight| {
            let is_of_key = flight.place().key.bytes == key.bytes;
            if is_of_key {
                flight.state = State::Void;
            }
            is_of_key
        })
    }

    /// Whether flights of a key of this hash are listed.
    pub(super) fn has_listed(&self, hash: u64) -> bool {
        self.listed_of(hash).next().is_some()
    }

    /// Whether flights of other lines of this one's key are listed.
    pub(super) fn has_other_lines(&self, flight: &Flight<W>) -> bool {
        self.listed_of(flight.hash).any(|other| {
            let is_of_key =
                (other.db, other.place().key.bytes) == (flight.db, flight.place().key.bytes);
            is_of_key && other.line() != flight.line()
        })
    }

    /// How many flights of a key in a database are listed.
    pub(super) fn listed(&self, place: Place<'_>) -> usize {
        let is_of = |flight: &&Flight<W>| {
            flight.db == place.db && flight.place().key.bytes == place.key.bytes
        };
        self.listed_of(place.key.hash).filter(is_of).count()
    }

    /// Takes flights of a hash off the list, those for which `leaves` is true. Returns how many.
    fn unlist(&mut self, hash: u64, mut leaves: impl FnMut(&mut Flight<W>) -> bool) -> usize {
        let mut unlisted = 0;
        for (position, other) in self.hashes.iter().enumerate() {
            let flight = &mut self.flights[position];
            if *other == hash && flight.is_listed && leaves(flight) {
                flight.is_listed = false;
                unlisted += 1;
            }
        }
        self.listed_len -= unlisted;
        unlisted
    }
}
