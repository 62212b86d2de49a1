//! `CACHE.GET` and `CACHE.REFRESH`: for clients that know that they read from a cache.

use super::options::{Rest, is_word};
use super::reads::State;
use super::{CommandError, Context, reads};
use crate::keyspace::Place;
use crate::policy::{Offer, Offered};
use crate::resp::Request;

type Result<T = ()> = std::result::Result<T, CommandError>;

/// `CACHE.GET key [BETA b]`: an array of the value, ms until it expires (-1: never, 0: it has, and
/// may be served stale, -2: there is none), how many ms it took to make (0: not known), and 1 for
/// the one client that is to make the next value, else 0. The same in both protocols.
pub(super) fn get(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    refuse_in_front(context, "cache.get")?;
    let place = context.place(request.argument(1));
    let beta = beta(request)?;
    context.view.read(place);
    let offer = offer(context, place, beta);
    let now_ms = context.view.now_ms();
    match offer.offered {
        Offered::Fresh => reads::tell_of(context, place, State::Fresh),
        Offered::Stale => reads::tell_of(context, place, State::Stale),
        Offered::Nothing => {}
    }
    let entry = match offer.offered {
        Offered::Fresh => context.view.peek(place),
        Offered::Stale => context.view.peek_stale(place),
        Offered::Nothing => None,
    };
    let reply = &mut *context.reply;
    reply.array(4);
    let left_ms = match &entry {
        Some(entry) => {
            reply.bulk(entry.value());
            let left = |at: std::num::NonZeroU64| at.get().saturating_sub(now_ms);
            let left_ms = entry.expires_at().map(left);
            left_ms.map_or(-1, |left_ms| i64::try_from(left_ms).unwrap_or(i64::MAX))
        }
        None => {
            reply.null();
            -2
        }
    };
    reply.integer(left_ms);
    let loaded = entry.and_then(|entry| entry.loaded());
    reply.integer(loaded.map_or(0, |loaded| i64::from(loaded.delta_ms)));
    reply.integer(i64::from(offer.is_to_refresh));
    Ok(())
}

fn offer(context: &mut Context<'_>, place: Place<'_>, beta: Option<f64>) -> Offer {
    let session = &mut *context.session;
    let is_atomic = session.reads.is_atomic;
    let table = session.reads.table.clone();
    let mut asker = reads::asker(session, false);
    // In a transaction nothing begins.
    let beta = if is_atomic { Some(0.0) } else { beta };
    let table = table.as_deref().filter(|_| !is_atomic);
    let policy = &context.instance.policy;
    policy.offer(table, &mut context.view, place, beta, &mut asker)
}

/// `BETA b`, in place of the rule's.
fn beta(request: &Request<'_>) -> Result<Option<f64>> {
    let mut rest = Rest::from(request, 2);
    let mut beta = None;
    while let Some(word) = rest.next() {
        if !is_word(word, "beta") || beta.is_some() {
            return Err(CommandError::Syntax);
        }
        let number = std::str::from_utf8(rest.required()?).ok();
        let number = number.and_then(|text| text.parse().ok());
        let number = number.filter(|beta| (0.0..=BETA_MAX).contains(beta));
        beta = Some(number.ok_or_else(|| CommandError::other(BETA_RANGE))?);
    }
    Ok(beta)
}

/// As for a rule.
const BETA_MAX: f64 = 100.0;
const BETA_RANGE: &str = "ERR BETA is a number from 0 to 100";

/// `CACHE.REFRESH key …`: begins to load keys from their origins, and replies how many loads began.
/// Waits for none of them.
pub(super) fn refresh(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    refuse_in_front(context, "cache.refresh")?;
    let mut began = 0;
    if let Some(table) = context.session.reads.table.clone() {
        for key in request.iter_from(1) {
            let place = context.place(key);
            let policy = &context.instance.policy;
            began += usize::from(policy.reload(&table, &mut context.view, place));
        }
    }
    context.reply.count(began);
    Ok(())
}

/// Keys are upstream's there.
pub(super) fn refuse_in_front(context: &Context<'_>, command: &str) -> Result {
    if context.instance.upstream.is_none() {
        return Ok(());
    }
    let text = format!("ERR '{command}' is for keys of corral's own: there is an upstream");
    Err(CommandError::other(text))
}
