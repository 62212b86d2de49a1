//! `CACHE.STATS`: how well the cache does, and if it does badly, why.

use super::super::Context;
use super::Result;
use super::totals::Totals;
use crate::config::{Config, MaxmemoryPolicy};
use crate::instance::front::{Report, hit_rate};
use crate::metrics::Counts;
use crate::resp::Request;

/// `CACHE.STATS`: a map of numbers, with a sentence where the hit rate is low.
pub(in crate::command) fn cache_stats(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    if let Some(front) = context.instance.front() {
        of_front(context, &front.report());
        return Ok(());
    }
    let totals = Totals::of(context.instance, &mut context.view);
    let counts = context
        .instance
        .metrics
        .counts_since_reset(totals.departures);
    let hint = hint(&counts, &context.instance.config());
    let reply = &mut *context.reply;
    reply.map(if hint.is_some() { 8 } else { 7 });
    for (name, count) in [("hits", counts.hits), ("misses", counts.misses)] {
        reply.text(name);
        reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
    reply.text("hit-rate");
    let hit_rate = hit_rate(counts.hits, counts.misses);
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

/// The same of a near cache, with its misses by cause.
fn of_front(context: &mut Context<'_>, report: &Report) {
    let near = &report.since_reset;
    let (misses, causes) = (near.misses(), near.causes());
    let hint = near_hint(report);
    let integer = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let reply = &mut *context.reply;
    reply.map(if hint.is_some() { 11 } else { 10 });
    reply.text("hits");
    reply.integer(integer(near.hits));
    reply.text("misses");
    reply.integer(integer(misses));
    reply.text("hit-rate");
    reply.double(&format!("{:.4}", hit_rate(near.hits, misses)));
    reply.text("misses-by-cause");
    reply.map(causes.len());
    for (cause, count) in causes {
        reply.text(cause);
        reply.integer(integer(count));
    }
    for (name, count) in [
        ("joined", near.joined),
        ("fills", near.fills),
        ("invalidations", near.invalidations),
        ("keys", near.entries as u64),
        ("bytes", near.bytes as u64),
    ] {
        reply.text(name);
        reply.integer(integer(count));
    }
    reply.text("coherent");
    reply.boolean(report.is_coherent);
    if let Some(hint) = hint {
        reply.text("hint");
        reply.text(hint);
    }
}

/// The likely reason of a near cache's low hit rate: the most frequent cause of its misses.
fn near_hint(report: &Report) -> Option<&'static str> {
    let near = &report.since_reset;
    if !report.is_coherent {
        return Some(
            "Upstream tells no changes now, so nothing or little is answered from memory: look at \
             coherent and rung in CORRAL.INFO near, and at the log.",
        );
    }
    let reads = near.hits + near.misses();
    if reads < READS_MIN || near.hits >= reads / 5 * 4 {
        return None;
    }
    let causes = near.causes();
    let (cause, _) = causes.iter().max_by_key(|(_, count)| *count)?;
    Some(match *cause {
        "cold" => "Most misses are first reads of a key: there are more keys than are read again.",
        "expired" => "Most misses had expired: look at near-ttl, and at the TTL of the keys.",
        "evicted" => "Most of what is missed was evicted: look at maxmemory.",
        "invalidated" | "race-discarded" => {
            "Most misses are of keys that had changed: they are written about as often as read. \
             near-keys-except can leave them out."
        }
        "flushed" | "incoherent" => {
            "Most misses are of copies that were not trusted any more: look at FLUSHALL, at lost \
             connections, and at staleness-bound."
        }
        "variant" => {
            "Most misses ask for other replies of keys that are here: look at the commands."
        }
        _ => {
            "Most reads cannot be cached: look at near-keys, near-keys-except, and at the commands \
             (docs/COMMANDS.md tells which are cached)."
        }
    })
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
