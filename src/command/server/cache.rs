//! `CACHE.STATS`: how well the cache does, and if it does badly, why.

use super::super::Context;
use super::Result;
use super::totals::Totals;
use crate::config::{Config, MaxmemoryPolicy};
use crate::metrics::Counts;
use crate::resp::Request;

/// `CACHE.STATS`: a map of numbers, with a sentence where the hit rate is low.
pub(in crate::command) fn cache_stats(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let totals = Totals::of(&mut context.view);
    let counts = context
        .instance
        .metrics
        .counts_since_reset(totals.departures);
    let hint = hint(&counts, &context.instance.config());
    let reads = counts.hits + counts.misses;
    let reply = &mut *context.reply;
    reply.map(if hint.is_some() { 8 } else { 7 });
    for (name, count) in [("hits", counts.hits), ("misses", counts.misses)] {
        reply.text(name);
        reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
    reply.text("hit-rate");
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let hit_rate = if reads == 0 {
        0.0
    } else {
        counts.hits as f64 / reads as f64
    };
    reply.double(&format!("{hit_rate:.4}"));
    for (name, count) in [
        ("keys", u64::try_from(totals.keys()).unwrap_or(u64::MAX)),
        (
            "bytes",
            u64::try_from(totals.items_bytes).unwrap_or(u64::MAX),
        ),
        ("evictions", counts.evicted),
        ("expirations", counts.expired),
    ] {
        reply.text(name);
        reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
    if let Some(hint) = hint {
        reply.text("hint");
        reply.text(&hint);
    }
    Ok(())
}

/// The likely reason of a low hit rate, and the setting to look at.
///
/// A miss asks for a key that was evicted, that expired, or that never was. Which it was is not
/// known of a single one; but each key that left can have been missed, once, until it was written
/// again: if those who left are few beside the misses, most keys were never there.
fn hint(counts: &Counts, config: &Config) -> Option<String> {
    let reads = counts.hits + counts.misses;
    if reads < READS_MIN || counts.hits >= reads / 5 * 4 {
        return None;
    }
    let left = counts.evicted + counts.expired;
    Some(if left < counts.misses / 4 {
        "Most misses ask for keys that were never there: look at the keys. Do readers and writers \
         spell them alike, and is what was missing written after a miss?"
            .to_owned()
    } else if counts.evicted >= counts.expired {
        let policy = config.maxmemory_policy;
        let other = if policy == MaxmemoryPolicy::AllkeysTinylfu {
            ""
        } else {
            ", and maxmemory-policy allkeys-tinylfu keeps more of what is asked for"
        };
        format!(
            "Most of what is missed was evicted: memory is too small for what is asked for. Look \
             at maxmemory (now {}){other}.",
            config.maxmemory
        )
    } else {
        "Most of what is missed had expired: look at the TTL that clients give their keys (EX, \
         EXPIRE); it is short beside the time between two reads."
            .to_owned()
    })
}

/// With fewer reads a rate says nothing.
const READS_MIN: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_of(hits: u64, misses: u64, evicted: u64, expired: u64) -> Option<String> {
        hint(
            &Counts {
                hits,
                misses,
                evicted,
                expired,
                ..Counts::default()
            },
            &Config::default(),
        )
    }

    #[test]
    fn a_good_rate_and_few_reads_give_no_hint() {
        assert_eq!(hint_of(800, 200, 1000, 0), None);
        assert_eq!(hint_of(0, 999, 1000, 0), None);
    }

    #[test]
    fn a_low_rate_is_explained_by_what_left() {
        assert!(
            hint_of(500, 500, 300, 100)
                .unwrap()
                .contains("maxmemory (now")
        );
        assert!(hint_of(500, 500, 100, 300).unwrap().contains("TTL"));
        assert!(hint_of(500, 500, 50, 50).unwrap().contains("never there"));
    }
}
