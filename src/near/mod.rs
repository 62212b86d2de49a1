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
//! - A voided copy is never served again, not even as stale. One whose connection was lost, or
//!   that has expired, may be, where `stale_ms` allows it.
//!
//! # Locks
//! The stripe of a key's flights, then the shard of the store; a hit locks the shard only. No
//! other lock of this room is held together with another (but see [`sync`]).
//!
//! Knows no sockets and no commands: keys, opaque lines and the bytes of replies.

mod channels;
mod explain;
mod flights;
mod ghosts;
mod reclaim;
mod stamp;
mod stats;
mod sync;
mod variants;

#[cfg(test)]
mod tests;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

use crate::store::{Key, Locked, Store, Write, charge_max};
use channels::Standing;
pub use channels::{CHANNELS_MAX, Channels, LOSSES_KNOWN, Slot};
pub use explain::{Explained, ExplainedVariant};
pub use flights::{FLIGHTS_PER_KEY_MAX, FLIGHTS_PER_STRIPE_MAX, WAITERS_MAX};
use flights::{Flight, State, Stripe};
pub use ghosts::GHOSTS;
use ghosts::{Fate, Ghosts};
use reclaim::Reclaim;
use stamp::Stamp;
pub use stats::Stats;
use stats::{Tallies, Tally};
use sync::{AtomicU32, Mutex};
pub use variants::{ARGUMENTS_BYTES_MAX, KEY_BYTES_MAX, REPLY_BYTES_MAX, VARIANTS_MAX};
use variants::{Terms, Variant};

/// Which reply of a key.
#[derive(Clone, Copy, Debug, Eq)]
pub struct Line<'a> {
    /// The client's protocol and command.
    pub id: u32,
    /// The command's arguments but for the key; none for GET.
    pub arguments: &'a [u8],
}

/// Nearly all lines have no arguments, and then no bytes are compared: an empty slice may point
/// anywhere, and a masked load from there, even of nothing, costs a microcode assist (a quarter of
/// a deep pipeline's time, measured).
impl PartialEq for Line<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.arguments.len() == other.arguments.len()
            && (self.arguments.is_empty() || self.arguments == other.arguments)
    }
}

/// A key in a database.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// As `SELECT` numbers them.
    pub db: u16,
    /// The key and its hash.
    pub key: Key<'a>,
}

/// A moment, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Unix time in ms, by which the store's items expire.
    pub unix_ms: u64,
    /// The monotonic clock in ns, by which copies are fresh: a step of the other one lengthens no
    /// copy's life.
    pub mono_ns: u64,
}

/// How the room is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Locks on flights; a power of two.
    pub stripes: usize,
    /// See [`Settings::near_ttl_ms`].
    pub near_ttl_ms: u64,
    /// See [`Settings::stale_ms`].
    pub stale_ms: u64,
    /// See [`Settings::value_bytes_max`].
    pub value_bytes_max: usize,
}

/// What can be changed while it runs.
#[derive(Debug)]
pub struct Settings {
    /// How long a copy is fresh at most, in ms; 0: nothing is stored.
    pub near_ttl_ms: AtomicU64,
    /// For how long a copy that is not fresh any more may be served when upstream fails, in ms.
    pub stale_ms: AtomicU64,
    /// Longest reply that is stored, in bytes.
    pub value_bytes_max: AtomicUsize,
}

/// Why a read was not answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The key was never here, as far as is remembered.
    Cold,
    /// Its copy has expired.
    Expired,
    /// Its copy had to go for want of memory.
    Evicted,
    /// Its copy was removed by an invalidation or a local write.
    Invalidated,
    /// Its copy is from before a flush, or from before its connection was lost.
    Flushed,
    /// The connection of its copy, or the tracker, was not heard of for too long.
    Incoherent,
    /// Its last read was voided on its way.
    RaceDiscarded,
    /// Other lines of the key are here.
    Variant,
}

impl Miss {
    /// Its name, for people and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Invalidated => "invalidated",
            Self::Flushed => "flushed",
            Self::Incoherent => "incoherent",
            Self::RaceDiscarded => "race-discarded",
            Self::Variant => "variant",
        }
    }

    fn tally(self) -> Tally {
        match self {
            Self::Cold => Tally::misses_cold,
            Self::Expired => Tally::misses_expired,
            Self::Evicted => Tally::misses_evicted,
            Self::Invalidated => Tally::misses_invalidated,
            Self::Flushed => Tally::misses_flushed,
            Self::Incoherent => Tally::misses_incoherent,
            Self::RaceDiscarded => Tally::misses_race_discarded,
            Self::Variant => Tally::misses_variant,
        }
    }
}

/// How long a stale copy has not been fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleAge {
    /// In ms, rounded down; 0 also for a copy that is still fresh.
    pub ms: u64,
}

/// A flight of whose read the holder is the leader. Every token is given back, to
/// [`Near::finish`] or [`Near::fail`]: until then, its waiters wait.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    hash: u64,
    id: u64,
}

/// What came of asking to read.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// Somebody else reads; the waiter is given back with the answer.
    Joined,
    /// The caller is to read.
    Leads(Token),
}

/// What PTTL said beside the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// So many ms.
    Millis(u64),
    /// −1: the key has no expiry.
    None,
    /// −2: there is no such key.
    Absent,
    /// It was not asked, or did not answer.
    Unknown,
}

/// What became of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// It is here now.
    Stored,
    /// Something voided it on its way.
    Raced,
    /// Nobody watched over it: a channel was not fresh when it began, or there were too many
    /// flights.
    Unguarded,
    /// It is an error.
    Error,
    /// It is too long.
    TooLong,
    /// It is about to expire, or nobody knows when.
    Fleeting,
    /// There was no room.
    Full,
}

/// What a read that is answered leaves to do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Finished<W> {
    /// Whom to answer, the leader first.
    pub waiters: Vec<W>,
    /// What became of the reply.
    pub fill: Fill,
}

/// What voided a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Upstream said so.
    Push,
    /// A write is about to be sent.
    WriteStart,
    /// A write was answered, or failed in whatever way.
    WriteEnd,
    /// Somebody asked for it.
    Request,
}

/// What there was to void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voided {
    /// Databases with copies of the key.
    pub copies: usize,
    /// Reads under way.
    pub flights: usize,
}

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
            tallies: Tallies::new(),
            reply_hasher: ahash::RandomState::new(),
            reclaim: Mutex::new(Reclaim::default()),
            #[cfg(test)]
            omitted: None,
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
        verdict
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
        }
        let id = stripe.begin(flight);
        Entered::Leads(Token {
            hash: place.key.hash,
            id,
        })
    }

    /// The read is answered by `reply`, in full. Stores it if nothing has voided the flight.
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
        let Some(flight) = stripe.end(token.id) else {
            debug_assert!(false, "a token is given back once, to the room it is from");
            return Finished {
                waiters: Vec::new(),
                fill: Fill::Unguarded,
            };
        };
        let fill = match self.life_ms(&flight, reply, ttl, now) {
            Ok(life_ms) => self.store(store, &flight, reply, life_ms, now),
            Err(fill) => fill,
        };
        if fill != Fill::Error || reply.starts_with(WRONG_TYPE) {
            stripe.answered(&flight, || self.reply_hasher.hash_one(reply));
            if fill != Fill::Stored {
                drop_contradicted(store, &flight, reply, now);
            }
        }
        if fill == Fill::Raced {
            let epoch = flight.stamp.epoch;
            self.ghosts
                .note(flight.place(), Fate::RaceDiscarded, epoch, 0);
        }
        drop(stripe);
        self.tallies.count(match fill {
            Fill::Stored => Tally::fills,
            Fill::Raced => Tally::race_discards,
            Fill::Full => Tally::full_fills,
            Fill::Unguarded | Fill::Error | Fill::TooLong | Fill::Fleeting => Tally::refused_fills,
        });
        Finished {
            waiters: flight.waiters,
            fill,
        }
    }

    /// The read failed. Returns whom to tell, the leader first.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a token is given back once")]
    pub fn fail(&self, token: Token) -> Vec<W> {
        let flight = self.stripe(token.hash).lock().end(token.id);
        flight.map_or_else(Vec::new, |flight| flight.waiters)
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

    /// For how long a copy has not been fresh, if it may be served as stale.
    fn stale_age(&self, terms: Terms, now: Now) -> Option<StaleAge> {
        if terms.stamp.epoch != self.epoch() {
            return None;
        }
        let channels_ns = terms.stamp.was_fresh_until(&self.channels)?;
        let fresh_until_ns = channels_ns.min(terms.expires_at_ns);
        let ms = now.mono_ns.saturating_sub(fresh_until_ns) / NS_PER_MS;
        let stale_ms = self.settings.stale_ms.load(Ordering::Relaxed);
        (ms < stale_ms || fresh_until_ns > now.mono_ns).then_some(StaleAge { ms })
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

    /// For how many ms from its beginning a read's reply is fresh, or why it is not to be stored.
    fn life_ms(&self, flight: &Flight<W>, reply: &[u8], ttl: Ttl, now: Now) -> Result<u32, Fill> {
        let bytes_max = self.settings.value_bytes_max.load(Ordering::Relaxed);
        if matches!(reply.first(), None | Some(b'-' | b'!')) {
            return Err(Fill::Error);
        }
        if reply.len() > bytes_max.min(REPLY_BYTES_MAX) {
            return Err(Fill::TooLong);
        }
        let cap_ms = self.settings.near_ttl_ms.load(Ordering::Relaxed);
        let life_ms = match ttl {
            Ttl::Millis(ms) => ms.min(cap_ms),
            Ttl::None => cap_ms,
            Ttl::Absent if OF_ABSENT_KEYS.contains(&reply) => cap_ms,
            Ttl::Absent | Ttl::Unknown => 0,
        };
        let life_ms = u32::try_from(life_ms).unwrap_or(u32::MAX);
        if life_ms == 0 || expiry_ns(flight.sent, life_ms) <= now.mono_ns {
            return Err(Fill::Fleeting);
        }
        match flight.state {
            State::Unguarded => Err(Fill::Unguarded),
            State::Void if !self.omits(Check::Void) => Err(Fill::Raced),
            State::Echo(hash)
                if hash != self.reply_hasher.hash_one(reply) && !self.omits(Check::Echo) =>
            {
                Err(Fill::Raced)
            }
            State::Open | State::Echo(_) | State::Void if self.is_whole(&flight.stamp, now) => {
                Ok(life_ms)
            }
            State::Open | State::Echo(_) | State::Void => Err(Fill::Raced),
        }
    }

    /// Puts a copy in. The flight's stripe is locked.
    fn store(
        &self,
        store: &Store,
        flight: &Flight<W>,
        reply: &[u8],
        life_ms: u32,
        now: Now,
    ) -> Fill {
        let Place { db, key } = flight.place();
        let (stamp, epoch) = (flight.stamp, self.epoch());
        let expires_at_ns = expiry_ns(flight.sent, life_ms);
        let variant = Variant {
            line: flight.line(),
            terms: Terms {
                stamp,
                expires_at_ns,
                life_ms,
            },
            reply,
        };
        let stale_ms = self.settings.stale_ms.load(Ordering::Relaxed);
        let is_of_use = |terms: &Terms| {
            let stale_ns = stale_ms.saturating_mul(NS_PER_MS);
            terms.stamp.epoch == epoch && terms.expires_at_ns.saturating_add(stale_ns) > now.mono_ns
        };
        {
            let mut locked = sync::lock(store, key.hash);
            let Some(physical) = physical(&locked, db) else {
                return Fill::Unguarded;
            };
            self.databases.fetch_max(db + 1, Ordering::Relaxed);
            let db = physical;
            let old = locked.shard(key.hash).peek(db, key, now.unix_ms);
            let old = old.as_ref().map_or(&[][..], |entry| entry.value());
            let (value, last_ns) = variants::with(old, variant, is_of_use);
            let bytes = charge_max(key, value.len());
            if locked.reserve(key.hash, bytes, now.unix_ms).is_err() {
                return Fill::Full;
            }
            let left_ms = last_ns.saturating_sub(now.mono_ns).div_ceil(NS_PER_MS);
            let expires_at = now.unix_ms.saturating_add(left_ms).saturating_add(stale_ms);
            let write = Write {
                value: &value,
                expires_at: NonZeroU64::new(expires_at),
            };
            locked.shard(key.hash).set(db, key, write, now.unix_ms);
        }
        self.ghosts
            .note(flight.place(), Fate::Present, stamp.epoch, expires_at_ns);
        Fill::Stored
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

/// Removes the copies of a key of which one says something else than the reply that just came:
/// whoever saw this reply must not be served an older one next.
fn drop_contradicted<W>(store: &Store, flight: &Flight<W>, reply: &[u8], now: Now) {
    let Place { db, key } = flight.place();
    let mut locked = sync::lock(store, key.hash);
    let Some(db) = physical(&locked, db) else {
        return;
    };
    let shard = locked.shard(key.hash);
    let is_contradicted = shard.peek(db, key, now.unix_ms).is_some_and(|entry| {
        variants::find(entry.value(), flight.line()).is_some_and(|copy| copy.reply != reply)
    });
    if is_contradicted {
        shard.remove(db, key, now.unix_ms);
    }
}

/// The tables of a database, if the store has it: upstream may have more.
#[inline]
fn physical(locked: &Locked<'_>, db: u16) -> Option<u16> {
    (db < locked.store().databases()).then(|| locked.physical(db))
}

/// When a read's reply ceases to be fresh. Upstream counted its time to live from when it ran the
/// read, which is later than it was sent.
fn expiry_ns(sent: Now, life_ms: u32) -> u64 {
    sent.mono_ns.saturating_add(u64::from(life_ms) * NS_PER_MS)
}

/// Replies that a key that is not there has, and that may be stored though PTTL found none. Any
/// other reply is of a key that was there a moment ago.
const OF_ABSENT_KEYS: [&[u8]; 8] = [
    b"$-1\r\n",
    b"_\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"%0\r\n",
    b"~0\r\n",
    b":0\r\n",
    b"+none\r\n",
];

/// The one error that tells something of the value.
const WRONG_TYPE: &[u8] = b"-WRONGTYPE ";

const NS_PER_MS: u64 = 1_000_000;
