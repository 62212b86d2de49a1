//! A copy is compared with what upstream says now.
//!
//! A flight that nobody waits for is registered while the copy is still there, so that whatever
//! voids the key from then on is seen: a difference says something only if nothing did.

use super::flights::{Flight, State};
use super::stamp::Stamp;
use super::{Found, Line, NS_PER_MS, Near, Now, Place, Slot, Token, look_up};
use crate::store::Store;

/// A copy that is watched. To be given back to [`Near::unwatch`].
#[must_use]
#[derive(Debug)]
pub struct Watch {
    token: Token,
    expires_at_ns: u64,
    /// The copy.
    pub reply: Vec<u8>,
    /// How long before it was read, in ms.
    pub age_ms: u64,
}

impl<W> Near<W> {
    /// Watches over a copy that is served now, while it is read again over this channel. None if
    /// there is no fresh one, or a read of its key is under way.
    pub fn watch(
        &self,
        store: &Store,
        place: Place<'_>,
        line: Line<'_>,
        slot: Slot,
        now: Now,
    ) -> Option<Watch> {
        let mut stripe = self.stripe(place.key.hash).lock();
        if stripe.has_listed(place.key.hash) {
            return None;
        }
        let stamp = Stamp::new(&self.channels, slot, self.epoch());
        let mut reply = Vec::new();
        let found = look_up(store, place, line, now, |variant| {
            reply.extend_from_slice(variant.reply);
        });
        let Found::Copy(terms) = found else {
            return None;
        };
        self.judge_copy(&terms, now).ok()?;
        let reply_hash = self.reply_hasher.hash_one(&reply[..]);
        let id = stripe.begin(Flight::watching(place, line, stamp, now, reply_hash));
        let life_ns = u64::from(terms.life_ms) * NS_PER_MS;
        let read_at_ns = terms.expires_at_ns.saturating_sub(life_ns);
        Some(Watch {
            token: Token {
                hash: place.key.hash,
                id,
                is_kept: false,
            },
            expires_at_ns: terms.expires_at_ns,
            reply,
            age_ms: now.mono_ns.saturating_sub(read_at_ns) / NS_PER_MS,
        })
    }

    /// Whether nothing has voided the copy since [`Self::watch`], so that it was to be served until
    /// now.
    #[expect(clippy::needless_pass_by_value, reason = "a watch is given back once")]
    pub fn unwatch(&self, watch: Watch, now: Now) -> bool {
        let Token { hash, id, .. } = watch.token;
        let flight = self.stripe(hash).lock().end(hash, id);
        flight.is_some_and(|flight| {
            matches!(flight.state, State::Echo(_))
                && self.is_whole(&flight.stamp, now)
                && now.mono_ns < watch.expires_at_ns
        })
    }
}
