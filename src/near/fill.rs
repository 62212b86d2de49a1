//! Whether a reply is stored, and how.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;

use super::flights::{Flight, State};
use super::ghosts::Fate;
use super::variants::{self, LIFE_MS_MAX, REPLY_BYTES_MAX, Terms, Variant};
use super::{Check, Fill, NS_PER_MS, Near, Now, Place, Ttl, physical, sync};
use crate::store::{Store, Write, charge_max};

impl<W> Near<W> {
    /// For how many ms from its beginning a read's reply is fresh, and whether its value ends then;
    /// or why it is not to be stored.
    pub(super) fn life_ms(
        &self,
        flight: &Flight<W>,
        reply: &[u8],
        ttl: Ttl,
        now: Now,
    ) -> Result<(u32, bool), Fill> {
        let bytes_max = self.settings.value_bytes_max.load(Ordering::Relaxed);
        if matches!(reply.first(), None | Some(b'-' | b'!')) {
            return Err(Fill::Error);
        }
        if flight.state == State::PassedOver {
            return Err(Fill::PassedOver);
        }
        if reply.len() > bytes_max.min(REPLY_BYTES_MAX) {
            return Err(Fill::TooLong);
        }
        let cap_ms = self.settings.near_ttl_ms.load(Ordering::Relaxed);
        let life_ms = match ttl {
            Ttl::Millis(ms) | Ttl::Within(ms) => ms.min(cap_ms),
            Ttl::None => cap_ms,
            Ttl::Absent if OF_ABSENT_KEYS.contains(&reply) => cap_ms,
            Ttl::Absent | Ttl::Unknown => 0,
        };
        let is_end = matches!(ttl, Ttl::Millis(ms) if ms <= cap_ms);
        let life_ms = u32::try_from(life_ms).unwrap_or(u32::MAX).min(LIFE_MS_MAX);
        if life_ms == 0 || expiry_ns(flight.sent, life_ms) <= now.mono_ns {
            return Err(Fill::Fleeting);
        }
        match flight.state {
            State::Unguarded => Err(Fill::Unguarded),
            State::PassedOver => Err(Fill::PassedOver),
            State::Void if !self.omits(Check::Void) => Err(Fill::Raced),
            State::Echo(hash)
                if hash != self.reply_hasher.hash_one(reply) && !self.omits(Check::Echo) =>
            {
                Err(Fill::Raced)
            }
            State::Open | State::Echo(_) | State::Void if self.is_whole(&flight.stamp, now) => {
                Ok((life_ms, is_end))
            }
            State::Open | State::Echo(_) | State::Void => Err(Fill::Raced),
        }
    }

    /// Puts a copy in. The flight's stripe is locked.
    pub(super) fn store(
        &self,
        store: &Store,
        flight: &Flight<W>,
        reply: &[u8],
        (life_ms, is_end): (u32, bool),
        now: Now,
    ) -> Fill {
        let Place { db, key } = flight.place();
        let stamp = flight.stamp;
        let expires_at_ns = expiry_ns(flight.sent, life_ms);
        let variant = Variant {
            line: flight.line(),
            terms: Terms {
                stamp,
                expires_at_ns,
                life_ms,
                is_end,
            },
            reply,
        };
        let stale_ms = self.settings.stale_ms.load(Ordering::Relaxed);
        let is_of_use = self.is_of_use(now);
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
                loaded: None,
                ..Write::default()
            };
            locked.shard(key.hash).set(db, key, write, now.unix_ms);
        }
        self.ghosts
            .note(flight.place(), Fate::Present, stamp.epoch, expires_at_ns);
        Fill::Stored
    }

    /// Whether a copy may be served, be it as stale.
    fn is_of_use(&self, now: Now) -> impl Fn(&Terms) -> bool {
        let stale_ns = self.settings.stale_ms.load(Ordering::Relaxed);
        let stale_ns = stale_ns.saturating_mul(NS_PER_MS);
        let epoch = self.epoch();
        move |terms| {
            terms.stamp.epoch == epoch && terms.expires_at_ns.saturating_add(stale_ns) > now.mono_ns
        }
    }

    /// Whether there are copies of other lines of a flight's key.
    pub(super) fn has_copies_of_others(&self, store: &Store, flight: &Flight<W>, now: Now) -> bool {
        let (Place { db, key }, line) = (flight.place(), flight.line());
        let is_of_use = self.is_of_use(now);
        let mut locked = sync::lock(store, key.hash);
        let Some(db) = physical(&locked, db) else {
            return false;
        };
        let entry = locked.shard(key.hash).peek(db, key, now.unix_ms);
        entry.is_some_and(|entry| {
            let mut others = variants::all(entry.value()).filter(|copy| copy.line != line);
            others.any(|copy| is_of_use(&copy.terms))
        })
    }
}

/// Removes the copies of a key of which one says something else than the reply that just came:
/// whoever saw this reply must not be served an older one next. True if there are none now.
pub(super) fn drop_contradicted<W>(
    store: &Store,
    flight: &Flight<W>,
    reply: &[u8],
    now: Now,
) -> bool {
    let Place { db, key } = flight.place();
    let mut locked = sync::lock(store, key.hash);
    let Some(db) = physical(&locked, db) else {
        return true;
    };
    let shard = locked.shard(key.hash);
    let Some(entry) = shard.peek(db, key, now.unix_ms) else {
        return true;
    };
    let copy = variants::find(entry.value(), flight.line());
    let is_contradicted = copy.is_some_and(|copy| copy.reply != reply);
    if is_contradicted {
        shard.remove(db, key, now.unix_ms);
    }
    is_contradicted
}

/// When a read's reply ceases to be fresh. Upstream counted its time to live from when it ran the
/// read, which is later than it was sent.
fn expiry_ns(sent: Now, life_ms: u32) -> u64 {
    sent.mono_ns.saturating_add(u64::from(life_ms) * NS_PER_MS)
}

/// Replies that a key that is not there has, and that may be stored though PTTL found none. Any
/// other reply is of a key that was there a moment ago.
pub(super) const OF_ABSENT_KEYS: [&[u8]; 8] = [
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
pub(super) const WRONG_TYPE: &[u8] = b"-WRONGTYPE ";
