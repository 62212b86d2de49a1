//! Copies of an upstream's values, for a server that stands in front of it.
//!
//! A read that is not here begins a *flight*, or joins the one under way. Its leader asks upstream
//! over one of several connections (*channels*), while the server's invalidations for all of them
//! arrive over another, the *tracker*. So replies and invalidations have no order, and all safety
//! rests on this: a flight is registered before its read is sent, and whatever voids the key
//! meanwhile (an invalidation, the start or end of a local write, a flush, a lost connection) makes
//! it impossible to store the reply. The waiters are answered in any case.
//!
//! # What holds
//! - A copy is served only while the key was not voided, the flush, the channel and the tracker
//!   are those of when its read began, both were heard of lately, and it has not expired.
//! - Whoever reads a key after it was voided never waits for a read that began before.
//! - Once a read of a line is answered, no hit of that line is older than that answer.
//! - Nor is a hit of another line of the key: where there are copies or reads of others, an answer
//!   is neither told nor stored before the tracker has told what changed before it.
//! - A voided copy is never served again, not even as stale. One whose connection was lost, or
//!   that has expired, may be, where `stale_ms` allows it.
//!
//! # Locks
//! The stripe of a key's flights, then the shard of the store; a hit locks the shard only. No
//! other lock of this room is held together with another (but see [`sync`]).
//!
//! Knows no sockets and no commands: keys, opaque lines and the bytes of replies.

mod admission;
mod channels;
mod explain;
mod fill;
mod flights;
mod ghosts;
mod reclaim;
mod shadow;
mod stale;
mod stamp;
mod stats;
mod sync;
mod types;
mod variants;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU16, Ordering};

use crate::store::{Locked, Store};
use admission::Admission;
use channels::Standing;
pub use channels::{CHANNELS_MAX, Channels, LOSSES_KNOWN, Slot};
pub use explain::{Explained, ExplainedVariant};
use fill::{WRONG_TYPE, drop_contradicted};
pub use flights::{FLIGHTS_PER_KEY_MAX, FLIGHTS_PER_STRIPE_MAX, WAITERS_MAX};
use flights::{Flight, State, Stripe};
pub use ghosts::GHOSTS;
use ghosts::{Fate, Ghosts};
use reclaim::Reclaim;
pub use shadow::Watch;
use stamp::Stamp;
pub use stats::Stats;
use stats::{Tallies, Tally};
use sync::{AtomicU32, Mutex};
pub use types::{
    Entered, Fill, Finished, Late, Line, Miss, Now, Options, Place, Settings, StaleAge, Token, Ttl,
    Voided, Waiters, Why,
};
pub use variants::{ARGUMENTS_BYTES_MAX, KEY_BYTES_MAX, REPLY_BYTES_MAX, VARIANTS_MAX};
use variants::{Terms, Variant};

/// The copies and the reads under way. The copies themselves are in a [`Store`] that belongs to
/// them alone.
#[derive(Debug)]
pub struct Near<W> {
    /// The connections that copies come over.
    pub channels: Channels,
    /// What can be changed.
    pub settings: Settings,
    stripes: Box<[Mutex<Stripe<W>>]>,
    /// How often everything was flushed.
    epoch: AtomicU32,
    /// One more than the highest database a copy was ever stored for.
    databases: AtomicU16,
    ghosts: Ghosts,
    admission: Admission,
    tallies: Tallies,
    reply_hasher: ahash::RandomState,
    reclaim: Mutex<Reclaim>,
    #[cfg(test)]
    omitted: Option<Check>,
}

impl<W> Near<W> {
    /// With no copies, and no channel heard of.
    ///
    /// # Panics
    /// If the number of stripes is no power of two.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        assert!(
            options.stripes.is_power_of_two(),
            "a constant of the caller"
        );
        Self {
            channels: Channels::new(),
            settings: Settings {
                near_ttl_ms: options.near_ttl_ms.into(),
                stale_ms: options.stale_ms.into(),
                value_bytes_max: options.value_bytes_max.into(),
            },
            stripes: (0..options.stripes)
                .map(|_| Mutex::new(Stripe::new()))
                .collect(),
            epoch: AtomicU32::new(0),
            databases: AtomicU16::new(0),
            ghosts: Ghosts::new(),
            admission: Admission::new(options.bytes_max),
            tallies: Tallies::new(),
            reply_hasher: ahash::RandomState::new(),
            reclaim: Mutex::new(Reclaim::default()),
            #[cfg(test)]
            omitted: None,
        }
    }

    /// Has the memory fetched that is looked at for a key that is not here, if most are not.
    pub fn prefetch(&self, db: u16, hash: u64) {
        if self.is_picky() {
            self.admission.prefetch(hash);
            self.ghosts.prefetch(db, hash);
        }
    }

    /// Looks for a fresh copy. A hit appends its bytes to `reply`; a miss leaves it as it was.
    ///
    /// # Errors
    /// Why there is none.
    #[inline]
    pub fn get(
        &self,
        store: &Store,
        place: Place<'_>,
        line: Line<'_>,
        now: Now,
        reply: &mut Vec<u8>,
    ) -> Result<(), Miss> {
        self.get_with_end(store, place, line, now, reply).map(drop)
    }

    /// The same; tells how many ms a value still has, if it is in the last part of its life.
    ///
    /// # Errors
    /// Why there is no fresh copy.
    #[inline]
    pub fn get_with_end(
        &self,
        store: &Store,
        place: Place<'_>,
        line: Line<'_>,
        now: Now,
        reply: &mut Vec<u8>,
    ) -> Result<Option<u32>, Miss> {
        let len = reply.len();
        let found = look_up(store, place, line, now, |variant| {
            if variant.terms.expires_at_ns > now.mono_ns {
                reply.extend_from_slice(variant.reply);
            }
        });
        // Judged after the copy was made: what holds now held while it was there.
        let verdict = self.judge(place, found, now);
        match verdict {
            Ok(()) => self.tallies.count(Tally::hits),
            Err(miss) => {
                reply.truncate(len);
                self.tallies.count(miss.tally());
            }
        }
        verdict.map(|()| match found {
            Found::Copy(terms) if terms.is_end => last_part(&terms, now),
            Found::Copy(_) | Found::Others { .. } | Found::Nothing => None,
        })
    }

    /// Looks for a copy to serve when upstream fails: not voided, and not fresh any more since at
    /// most `stale_ms`. Tells since when.
    pub fn get_stale(
        &self,
        store: &Store,
        place: Place<'_>,
        line: Line<'_>,
        now: Now,
        reply: &mut Vec<u8>,
    ) -> Option<StaleAge> {
        let len = reply.len();
        let found = look_up(store, place, line, now, |variant| {
            reply.extend_from_slice(variant.reply);
        });
        let age = match found {
            Found::Copy(terms) => self.stale_age(terms, now),
            Found::Others { .. } | Found::Nothing => None,
        };
        match age {
            Some(_) => self.tallies.count(Tally::stale_hits),
            None => reply.truncate(len),
        }
        age
    }

    /// Joins the flight under way for this line, or begins one, whose read is to be sent over the
    /// channel `slot` after this. With `may_join` false, begins one that nobody joined before: for
    /// a client whose own writes may have changed any key.
    pub fn enter(
        &self,
        place: Place<'_>,
        line: Line<'_>,
        may_join: bool,
        slot: Slot,
        now: Now,
        waiter: W,
    ) -> Entered {
        let mut stripe = self.stripe(place.key.hash).lock();
        if may_join {
            let is_whole = |flight: &Flight<W>| self.is_whole(&flight.stamp, now);
            if let Some(flight) = stripe.joinable(place, line, is_whole) {
                flight.waiters.push(waiter);
                self.tallies.count(Tally::joined);
                return Entered::Joined;
            }
        }
        let stamp = Stamp::new(&self.channels, slot, self.epoch());
        let mut flight = Flight::new(place, line, stamp, now, waiter);
        // Upstream may not be tracking yet for this tracker, however fresh that is later.
        if !self.is_whole(&stamp, now) || line.arguments.len() > ARGUMENTS_BYTES_MAX {
            flight.state = State::Unguarded;
        } else if !self.admits(place) {
            flight.state = State::PassedOver;
        }
        let is_kept = flight.state != State::PassedOver;
        let id = stripe.begin(flight);
        Entered::Leads(Token {
            hash: place.key.hash,
            id,
            is_kept,
        })
    }

    /// Whether a read of a key is to be stored: every one, or only the second one.
    fn admits(&self, place: Place<'_>) -> bool {
        let is_second = self.admission.note(place.key.hash);
        if is_second {
            self.tallies.count(Tally::second_reads);
        }
        is_second || !self.admission.is_picky()
    }

    /// Whether only what is read for the second time is stored.
    #[must_use]
    pub fn is_picky(&self) -> bool {
        self.admission.is_picky()
    }

    /// Judges by what was read lately whether what is read for the first time is stored; to be
    /// called a few times a second.
    pub fn adapt(&self) {
        self.admission.judge(&self.tallies.sum());
    }

    /// The read is answered by `reply`, in full. Stores it if nothing has voided the flight.
    ///
    /// # Errors
    /// The token: there are copies or flights of other lines of the key, which may be older than
    /// this reply. Once the tracker has told what changed before now, it is to be given to
    /// [`Self::finish`]; until then nobody is to see the reply.
    pub fn try_finish(
        &self,
        store: &Store,
        token: Token,
        reply: &[u8],
        ttl: Ttl,
        now: Now,
    ) -> Result<Finished<W>, Token> {
        let mut stripe = self.stripe(token.hash).lock();
        let has_others = stripe.find(token.hash, token.id).is_some_and(|flight| {
            stripe.has_other_lines(flight) || self.has_copies_of_others(store, flight, now)
        });
        if has_others && !self.omits(Check::Others) {
            return Err(token);
        }
        Ok(self.finish_in(&mut stripe, store, &token, (reply, ttl), now))
    }

    /// The same, however many others there are.
    #[expect(clippy::needless_pass_by_value, reason = "a token is given back once")]
    pub fn finish(
        &self,
        store: &Store,
        token: Token,
        reply: &[u8],
        ttl: Ttl,
        now: Now,
    ) -> Finished<W> {
        let mut stripe = self.stripe(token.hash).lock();
        self.finish_in(&mut stripe, store, &token, (reply, ttl), now)
    }

    fn finish_in(
        &self,
        stripe: &mut Stripe<W>,
        store: &Store,
        token: &Token,
        (reply, ttl): (&[u8], Ttl),
        now: Now,
    ) -> Finished<W> {
        let Some(mut flight) = stripe.end(token.hash, token.id) else {
            debug_assert!(false, "a token is given back once, to the room it is from");
            return Finished {
                waiters: Waiters::new(),
                late: None,
                fill: Fill::Unguarded,
            };
        };
        let fill = match self.life_ms(&flight, reply, ttl, now) {
            Ok(life) => self.store(store, &flight, reply, life, now),
            Err(fill) => fill,
        };
        let is_heeded = fill != Fill::PassedOver || !self.omits(Check::PassedOver);
        if is_heeded && (fill != Fill::Error || reply.starts_with(WRONG_TYPE)) {
            stripe.answered(&flight, || self.reply_hasher.hash_one(reply));
            let is_gone = fill != Fill::Stored && drop_contradicted(store, &flight, reply, now);
            if is_gone && fill == Fill::Raced {
                let epoch = flight.stamp.epoch;
                self.ghosts
                    .note(flight.place(), Fate::RaceDiscarded, epoch, 0);
            }
        }
        self.tallies.count(match fill {
            Fill::Stored => Tally::fills,
            Fill::Raced => Tally::race_discards,
            Fill::Full => Tally::full_fills,
            Fill::PassedOver => Tally::passed_over,
            Fill::Unguarded | Fill::Error | Fill::TooLong | Fill::Fleeting => Tally::refused_fills,
        });
        let late = is_past(&flight, reply, ttl, now).then(|| late(&mut flight));
        Finished {
            late: late.filter(|late| !late.waiters.is_empty()).map(Box::new),
            waiters: flight.waiters,
            fill,
        }
    }

    /// Whether there are copies of a key, or reads of it under way, in any database.
    #[must_use]
    pub fn knows(&self, store: &Store, key: &[u8]) -> bool {
        let key = store.key(key);
        if self.stripe(key.hash).lock().has_listed(key.hash) {
            return true;
        }
        let mut locked = sync::lock(store, key.hash);
        let databases = self.databases.load(Ordering::Relaxed);
        (0..databases).any(|db| {
            let db = locked.physical(db);
            locked.shard(key.hash).peek(db, key, 0).is_some()
        })
    }

    /// The read failed. Returns whom to tell, the leader first.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a token is given back once")]
    pub fn fail(&self, token: Token) -> Waiters<W> {
        let flight = self.stripe(token.hash).lock().end(token.hash, token.id);
        flight.map_or_else(Waiters::new, |flight| flight.waiters)
    }

    /// Voids a key in all databases: removes its copies, and lets no flight store any. Their
    /// waiters still get their answers; who comes later begins anew.
    pub fn void(&self, store: &Store, key: &[u8], why: Why) -> Voided {
        let key = store.key(key);
        let mut stripe = self.stripe(key.hash).lock();
        let flights = stripe.void(key);
        let epoch = self.epoch();
        let copies = {
            let mut locked = sync::lock(store, key.hash);
            let remove = |&db: &u16| {
                let physical = locked.physical(db);
                // To the beginning of time, nothing has expired.
                let is_removed = locked.shard(key.hash).remove(physical, key, 0);
                if is_removed {
                    self.ghosts
                        .note(Place { db, key }, Fate::Invalidated, epoch, 0);
                }
                is_removed
            };
            // Whoever stored a copy of this key held the same stripe.
            let databases = self.databases.load(Ordering::Relaxed);
            (0..databases).filter(remove).count()
        };
        let may_be_noted = copies + flights > 0 || self.admission.is_picky();
        if why != Why::WriteEnd && may_be_noted {
            self.admission.forget(key.hash);
        }
        drop(stripe);
        if why == Why::Push {
            self.tallies.count(Tally::invalidations);
            if copies + flights > 0 {
                self.tallies.count(Tally::invalidations_effective);
            }
        }
        Voided { copies, flights }
    }

    /// Voids everything at once. What memory it holds is given back by [`Self::reclaim`], of which
    /// this does the first slice.
    pub fn void_all(&self, store: &Store, now: Now) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.tallies.count(Tally::flushes);
        self.reclaim.lock().restart(store);
        self.reclaim(store, now);
    }

    /// Removes some of the copies that are void since a flush. True when there are none left.
    pub fn reclaim(&self, store: &Store, now: Now) -> bool {
        let epoch = self.epoch();
        self.reclaim
            .try_lock()
            .is_none_or(|mut reclaim| reclaim.slice(store, epoch, now.unix_ms))
    }

    /// What was counted, and what is there.
    #[must_use]
    pub fn stats(&self, store: &Store) -> Stats {
        let items = |index| {
            store.lock_index(index).with_shard(index, |shard| {
                (0..store.databases())
                    .map(|db| shard.database_len(db))
                    .sum::<usize>()
            })
        };
        Stats {
            flights: self.stripes.iter().map(|stripe| stripe.lock().len()).sum(),
            entries: (0..store.shards()).map(items).sum(),
            bytes: store.items_bytes(),
            is_picky: self.admission.is_picky(),
            ..self.tallies.sum()
        }
    }

    fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    fn stripe(&self, hash: u64) -> &Mutex<Stripe<W>> {
        let index = usize::try_from(hash >> 32).unwrap_or(0) & (self.stripes.len() - 1);
        &self.stripes[index]
    }

    /// Whether what a look-up found may be served.
    #[inline]
    fn judge(&self, place: Place<'_>, found: Found, now: Now) -> Result<(), Miss> {
        match found {
            Found::Copy(terms) => self.judge_copy(&terms, now),
            Found::Others { epoch } if epoch != self.epoch() => Err(Miss::Flushed),
            Found::Others { .. } => Err(Miss::Variant),
            Found::Nothing => Err(self.ghosts.why(place, self.epoch(), now.mono_ns)),
        }
    }

    #[inline]
    fn judge_copy(&self, terms: &Terms, now: Now) -> Result<(), Miss> {
        if terms.stamp.epoch != self.epoch() {
            return Err(Miss::Flushed);
        }
        if terms.expires_at_ns <= now.mono_ns {
            return Err(Miss::Expired);
        }
        match terms.stamp.standing(&self.channels, now.mono_ns) {
            Standing::Fresh => Ok(()),
            Standing::Silent => Err(Miss::Incoherent),
            Standing::Lost => Err(Miss::Flushed),
        }
    }

    /// Whether nothing has happened to everything or to the channels of a read since it began.
    fn is_whole(&self, stamp: &Stamp, now: Now) -> bool {
        (self.omits(Check::Epoch) || stamp.epoch == self.epoch())
            && match stamp.standing(&self.channels, now.mono_ns) {
                Standing::Fresh => true,
                Standing::Silent => self.omits(Check::Freshness),
                Standing::Lost => self.omits(Check::Generation),
            }
    }

    /// Whether a test has switched this check off.
    #[inline]
    fn omits(&self, check: Check) -> bool {
        #[cfg(test)]
        return self.omitted == Some(check);
        #[cfg(not(test))]
        {
            let _ = check;
            false
        }
    }
}

/// What is checked of a token before its reply is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// That its key was not voided.
    Void,
    /// That its channel and the tracker were not lost.
    Generation,
    /// That both are fresh, at its beginning and at its end.
    Freshness,
    /// That nothing was flushed.
    Epoch,
    /// That no other read of its line was answered differently meanwhile.
    Echo,
    /// The same, of reads that were not to be stored themselves.
    PassedOver,
    /// That there is nothing of other lines.
    Others,
}

/// What a look-up finds.
#[derive(Clone, Copy, Debug)]
enum Found {
    Copy(Terms),
    /// Copies of other lines; the newest of them is of this epoch.
    Others {
        epoch: u32,
    },
    Nothing,
}

/// Looks for a copy, whatever it is worth now, and shows it to `take`.
#[inline]
fn look_up(
    store: &Store,
    place: Place<'_>,
    line: Line<'_>,
    now: Now,
    take: impl FnOnce(&Variant<'_>),
) -> Found {
    let mut locked = sync::lock(store, place.key.hash);
    let Some(db) = physical(&locked, place.db) else {
        return Found::Nothing;
    };
    let shard = locked.shard(place.key.hash);
    let Some(entry) = shard.get(db, place.key, now.unix_ms) else {
        return Found::Nothing;
    };
    if let Some(variant) = variants::find(entry.value(), line) {
        take(&variant);
        return Found::Copy(variant.terms);
    }
    let newest = variants::all(entry.value()).next();
    newest.map_or(Found::Nothing, |variant| Found::Others {
        epoch: variant.terms.stamp.epoch,
    })
}

/// Whether a value may have expired since it was read.
fn is_past<W>(flight: &Flight<W>, reply: &[u8], ttl: Ttl, now: Now) -> bool {
    match ttl {
        Ttl::Millis(ms) => {
            let life_ns = ms.saturating_mul(NS_PER_MS);
            flight.sent.mono_ns.saturating_add(life_ns) <= now.mono_ns
        }
        Ttl::Absent => !fill::OF_ABSENT_KEYS.contains(&reply),
        Ttl::Within(_) | Ttl::None | Ttl::Unknown => false,
    }
}

/// Takes all but the leader, whose read began before it was sent, out of a flight.
fn late<W>(flight: &mut Flight<W>) -> Late<W> {
    let (place, line) = (flight.place(), flight.line());
    let (db, key) = (place.db, place.key.bytes.into());
    let (line_id, arguments) = (line.id, line.arguments.into());
    Late {
        waiters: flight
            .waiters
            .drain(1.min(flight.waiters.len())..)
            .collect(),
        db,
        key,
        line_id,
        arguments,
    }
}

/// How many ms a value still has, in the last third of its life.
fn last_part(terms: &Terms, now: Now) -> Option<u32> {
    let left_ms = terms.expires_at_ns.saturating_sub(now.mono_ns) / NS_PER_MS;
    u32::try_from(left_ms)
        .ok()
        .filter(|left_ms| *left_ms <= terms.life_ms / 3)
}

/// The tables of a database, if the store has it: upstream may have more.
#[inline]
fn physical(locked: &Locked<'_>, db: u16) -> Option<u16> {
    (db < locked.store().databases()).then(|| locked.physical(db))
}

const NS_PER_MS: u64 = 1_000_000;
