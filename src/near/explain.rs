//! What is there of a key, and what a read of it would get: for people.

use std::sync::atomic::Ordering;

use super::{Line, Miss, NS_PER_MS, Near, Now, Place, Slot, physical, sync, variants};
use crate::store::Store;

/// What is there of one key in one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its copies, the newest first.
    pub variants: Vec<ExplainedVariant>,
    /// Why a line that is not among them is not here.
    pub otherwise: Miss,
    /// Reads under way whose replies may be stored.
    pub flights: usize,
    /// Whether the reply to the next read of it would not be stored, as the first one.
    pub is_passed_over: bool,
}

/// One copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedVariant {
    /// [`Line::id`]
    pub line_id: u32,
    /// [`Line::arguments`]
    pub arguments: Vec<u8>,
    /// How long the reply is.
    pub reply_bytes: usize,
    /// How long ago it was read, in ms.
    pub age_ms: u64,
    /// For how long it is fresh yet, in ms; 0: it has expired.
    pub expires_in_ms: u64,
    /// The channel it was read over.
    pub slot: Slot,
    /// What a read would get now: this copy, or a miss.
    pub verdict: Result<(), Miss>,
    /// Whether it would be served if upstream failed.
    pub is_stale_candidate: bool,
}

impl<W> Near<W> {
    /// Tells what is there of a key, without a trace: this is no use of it, and nothing is counted.
    #[must_use]
    pub fn explain(&self, store: &Store, place: Place<'_>, now: Now) -> Explained {
        let hash = place.key.hash;
        let flights = self.stripe(hash).lock().listed(place);
        let value = {
            let mut locked = sync::lock(store, hash);
            let db = physical(&locked, place.db);
            let shard = locked.shard(hash);
            let entry = db.and_then(|db| shard.peek(db, place.key, now.unix_ms));
            entry.map(|entry| entry.value().to_vec())
        };
        let value = value.unwrap_or_default();
        let explained = variants::all(&value).map(|variant| {
            let Line { id, arguments } = variant.line;
            let terms = variant.terms;
            let left_ns = terms.expires_at_ns.saturating_sub(now.mono_ns);
            let life_ns = u64::from(terms.life_ms) * NS_PER_MS;
            let read_at_ns = terms.expires_at_ns.saturating_sub(life_ns);
            ExplainedVariant {
                line_id: id,
                arguments: arguments.to_vec(),
                reply_bytes: variant.reply.len(),
                age_ms: now.mono_ns.saturating_sub(read_at_ns) / NS_PER_MS,
                expires_in_ms: left_ns / NS_PER_MS,
                slot: terms.stamp.slot,
                verdict: self.judge_copy(&terms, now),
                is_stale_candidate: self.stale_age(terms, now).is_some(),
            }
        });
        let variants: Vec<_> = explained.collect();
        let epoch = self.epoch.load(Ordering::Acquire);
        let otherwise = match variants.first() {
            Some(_) => Miss::Variant,
            None => self.ghosts.why(place, epoch, now.mono_ns),
        };
        Explained {
            variants,
            otherwise,
            flights,
            is_passed_over: self.admission.is_picky() && !self.admission.is_noted(hash),
        }
    }
}
