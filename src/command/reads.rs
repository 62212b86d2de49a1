//! Reads and writes of keys that rules are about.
//!
//! A handler that misses such a key, or finds its value near its end, asks the policy here. If it
//! has to wait, it fails with [`CommandError::Waits`]: the request is run again, when what it waits
//! for has arrived, as if for the first time. So nothing may be changed or counted before that.

use std::num::NonZeroU64;
use std::time::Duration;

use super::spec::Command;
use super::{CommandError, Context, lookup};
use crate::instance::Instance;
use crate::instance::session::{Passed, Session};
use crate::keyspace::{Place, View};
use crate::policy::{Asker, Hit, Miss, Outcome, xfetch};
use crate::resp::{Protocol, Request};
use crate::store::{Entry, Loaded, Stamp};

type Result<T = ()> = std::result::Result<T, CommandError>;

/// Reads of a pipeline, or of an MGET, that wait together.
const WAITS_MAX: usize = 1024;

/// What a read of a key gets.
enum Got {
    Value,
    Stale,
    Nil,
    /// A value that was loaded and not stored.
    Loaded(bytes::Bytes),
}

/// Whether the policy is to be asked about a value that was found.
#[inline]
pub(super) fn is_near_end(entry: &Entry<'_>, now_ms: u64) -> bool {
    let Some(loaded) = entry.loaded() else {
        return false;
    };
    let left_ms = entry.expires_at().map(|at| at.get().saturating_sub(now_ms));
    left_ms.is_some_and(|left_ms| !xfetch::is_early(left_ms, loaded))
}

/// Replies a value that was found near its end, or nil to who is to make the next one.
#[cold]
pub(super) fn near_end(context: &mut Context<'_>, place: Place<'_>) -> Result {
    let got = found(context, place);
    reply(context, place, &got);
    Ok(())
}

/// Replies what there is for a key that was missed.
#[cold]
pub(super) fn missing(context: &mut Context<'_>, place: Place<'_>) -> Result {
    let got = missed(context, place)?;
    reply(context, place, &got);
    Ok(())
}

/// GET and MGET of keys of which some have been waited for: each was missed, whatever is there now.
#[cold]
pub(super) fn again(context: &mut Context<'_>, place: Place<'_>) -> Result {
    let is_arrived = arrived(context.session, place).is_some();
    let is_there = context.view.find(place).is_some();
    context.view.count_read(is_there && !is_arrived);
    let got = if is_there {
        Got::Value
    } else {
        missed(context, place)?
    };
    reply(context, place, &got);
    Ok(())
}

/// MGET where there are rules: all keys that can be waited for are waited for together, a bounded
/// number at a time. Values that were found are looked at when nothing is to be waited for any
/// more, as a lease that one of them gives away would be lost with this run.
#[cold]
pub(super) fn mget(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let instance = context.instance;
    let table = context.session.reads.table.clone();
    let may_wait = !request.iter_from(1).any(|key| {
        let place = context.place(key);
        let is_missing = !context.view.contains(place);
        let table = table.as_deref();
        is_missing
            && table.is_some_and(|table| {
                let view = &mut context.view;
                instance.policy.has_free_lease(table, view, place)
            })
    });
    let mut got = Vec::with_capacity(request.len() - 1);
    for key in request.iter_from(1) {
        let place = context.place(key);
        let is_arrived = arrived(context.session, place).is_some();
        let is_there = context.view.find(place).is_some();
        context.view.count_read(is_there && !is_arrived);
        got.push(if is_there {
            Got::Value
        } else {
            match ask(context, place, may_wait) {
                Err(CommandError::Waits) => Got::Nil,
                Err(error) => {
                    // It is answered now. The loads that have begun go on.
                    context.session.reads.waits.clear();
                    return Err(error);
                }
                Ok(got) => got,
            }
        });
    }
    if !context.session.reads.waits.is_empty() {
        return Err(CommandError::Waits);
    }
    context.reply.array(request.len() - 1);
    for (key, mut got) in request.iter_from(1).zip(got) {
        let place = context.place(key);
        if matches!(got, Got::Value) && arrived(context.session, place).is_none() {
            got = found(context, place);
        }
        reply(context, place, &got);
    }
    Ok(())
}

/// Replies to a client that is told how old values are: a value that was found, or what a miss
/// comes to.
#[cold]
pub(super) fn told(context: &mut Context<'_>, place: Place<'_>) -> Result {
    let got = if context.view.read(place).is_some() {
        found(context, place)
    } else {
        missed(context, place)?
    };
    reply(context, place, &got);
    Ok(())
}

/// Tells, before a value that follows, how old it is, how long it is fresh, and in which state it
/// is: what `CLIENT CACHE-INFO ON` asks for.
pub(super) fn tell_of(context: &mut Context<'_>, place: Place<'_>, state: State) {
    if !context.session.reads.are_told || context.reply.protocol() != Protocol::Resp3 {
        return;
    }
    let now_ms = context.view.now_ms();
    let entry = match state {
        State::Stale => context.view.peek_stale(place),
        State::Fresh | State::Loaded => context.view.peek(place),
    };
    let (age_ms, ttl_ms) = match entry {
        Some(entry) => times(entry.expires_at(), entry.loaded(), now_ms),
        // It was loaded, and is not kept.
        None => (0, 0),
    };
    let reply = &mut *context.reply;
    reply.attribute(3);
    reply.text("age");
    reply.integer(age_ms);
    reply.text("ttl");
    reply.integer(ttl_ms);
    reply.text("state");
    reply.text(state.name());
}

/// How many ms a value has lived, and has to live; -1: not known, and without end.
fn times(expires_at: Option<NonZeroU64>, loaded: Option<Loaded>, now_ms: u64) -> (i64, i64) {
    let Some(expires_at) = expires_at.map(NonZeroU64::get) else {
        return (-1, -1);
    };
    let integer = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let age_ms = loaded
        .filter(|loaded| loaded.ttl_ms > 0)
        .map_or(-1, |loaded| {
            integer((now_ms + u64::from(loaded.ttl_ms)).saturating_sub(expires_at))
        });
    (age_ms, integer(expires_at.saturating_sub(now_ms)))
}

/// In which state a value is that a client is told of.
#[derive(Clone, Copy)]
pub(super) enum State {
    Fresh,
    Stale,
    /// It was loaded for this read.
    Loaded,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Loaded => "loaded",
        }
    }
}

fn reply(context: &mut Context<'_>, place: Place<'_>, got: &Got) {
    let is_loaded = matches!(arrived(context.session, place), Some(Outcome::Value(_)));
    match got {
        Got::Nil => {}
        Got::Stale => tell_of(context, place, State::Stale),
        Got::Value | Got::Loaded(_) if is_loaded => tell_of(context, place, State::Loaded),
        Got::Value | Got::Loaded(_) => tell_of(context, place, State::Fresh),
    }
    let entry = match got {
        Got::Value => context.view.peek(place),
        Got::Stale => context.view.peek_stale(place),
        Got::Nil => None,
        Got::Loaded(value) => {
            context.reply.bulk(value);
            return;
        }
    };
    match entry {
        Some(entry) => context.reply.bulk(entry.value()),
        None => context.reply.null(),
    }
}

/// What a value that was found comes to.
fn found(context: &mut Context<'_>, place: Place<'_>) -> Got {
    let now_ms = context.view.now_ms();
    let is_near_end = context
        .view
        .peek(place)
        .is_some_and(|entry| is_near_end(&entry, now_ms));
    let session = &mut *context.session;
    let Some(table) = session.reads.table.clone() else {
        return Got::Value;
    };
    if !is_near_end || session.reads.is_atomic {
        return Got::Value;
    }
    let mut asker = asker(session, true);
    let policy = &context.instance.policy;
    match policy.hit(&table, &mut context.view, place, &mut asker) {
        Hit::Serve => Got::Value,
        Hit::Nil => Got::Nil,
    }
}

fn missed(context: &mut Context<'_>, place: Place<'_>) -> Result<Got> {
    ask(context, place, true)
}

/// What a miss comes to.
fn ask(context: &mut Context<'_>, place: Place<'_>, may_wait: bool) -> Result<Got> {
    let session = &mut *context.session;
    let Some(table) = session.reads.table.clone() else {
        return Ok(Got::Nil);
    };
    let policy = &context.instance.policy;
    let is_again = match arrived(session, place) {
        Some(Outcome::Value(value)) => return Ok(Got::Loaded(value.clone())),
        Some(Outcome::Absent) => return Ok(Got::Nil),
        Some(Outcome::Failed(_)) if policy.stale_if_error(&table, &mut context.view, place) => {
            return Ok(Got::Stale);
        }
        Some(Outcome::Failed(text)) => return Err(CommandError::other(text.to_string())),
        Some(Outcome::Again) => true,
        None => false,
    };
    if session.reads.is_atomic {
        return Ok(Got::Nil);
    }
    // What comes twice is waited for once; what is too much now is asked for when these are there.
    let waits = &session.reads.waits;
    if waits.len() >= WAITS_MAX || waits.iter().any(|wait| wait.is_for(place)) {
        return Err(CommandError::Waits);
    }
    let mut asker = asker(session, may_wait);
    match policy.miss(&table, &mut context.view, place, &mut asker) {
        Miss::Nil => Ok(Got::Nil),
        Miss::Stale => Ok(Got::Stale),
        Miss::Failed(text) => Err(CommandError::other(text.to_string())),
        Miss::Wait(wait) => {
            let wait = if is_again { wait.once_more() } else { wait };
            session.reads.waits.push(wait);
            Err(CommandError::Waits)
        }
    }
}

fn arrived<'s>(session: &'s Session, place: Place<'_>) -> Option<&'s Outcome> {
    session.reads.arrived.get(place)
}

/// A request ran: what it and those before it have waited for does not answer those behind one that
/// is no such read, and may have changed the key.
#[inline]
pub(super) fn ran(session: &mut Session, command: Option<&Command>) {
    if !session.reads.arrived.is_empty() && !command.is_some_and(is_waiting_read) {
        session.reads.arrived.clear();
    }
}

/// Whether a command's reads may wait.
fn is_waiting_read(command: &Command) -> bool {
    matches!(command.name, "get" | "mget")
}

pub(super) fn asker(session: &mut Session, may_wait: bool) -> Asker<'_> {
    Asker {
        client: session.client.id,
        leases: &mut session.reads.leases,
        may_wait,
    }
}

/// Begins the loads of reads that come right behind one that waits, so that a pipeline of misses
/// is loaded side by side.
#[cold]
pub(super) fn look_ahead<'r>(
    instance: &Instance,
    session: &mut Session,
    behind: impl Iterator<Item = Request<'r>>,
    now_ms: u64,
) {
    let Some(table) = session.reads.table.clone() else {
        return;
    };
    let is_read = |request: &Request<'_>| lookup::resolve(request).is_ok_and(is_waiting_read);
    let is_queued = session.transaction.is_some();
    for request in behind.take_while(|request| !is_queued && is_read(request)) {
        for bytes in request.iter_from(1) {
            if session.reads.waits.len() >= WAITS_MAX {
                return;
            }
            let key = instance.store.key(bytes);
            let place = Place {
                db: session.db,
                key,
            };
            let mut view = View::new(instance.store.lock(key.hash), now_ms);
            let is_known = view.contains(place)
                || arrived(session, place).is_some()
                || session.reads.waits.iter().any(|wait| wait.is_for(place));
            if is_known {
                continue;
            }
            let wait = instance.policy.ahead(&table, &mut view, place);
            session.reads.waits.extend(wait);
        }
    }
}

/// What is known of a value that a client is about to store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// What is to be kept with it.
    pub(super) loaded: Option<Loaded>,
    /// When its making began, where the client has the lease of the key, or origins were asked to
    /// take it first.
    pub(super) since: Option<Stamp>,
}

/// What is known of a value that a client is about to store, to expire at that time.
///
/// `delta_ms`: how long it took to make, where the client says so; else, how long the client has
/// had the lease of the key.
#[inline]
pub(super) fn known_of(
    context: &mut Context<'_>,
    place: Place<'_>,
    expires_at: Option<NonZeroU64>,
    delta_ms: Option<u64>,
) -> Known {
    if context.session.reads.table.is_none() && delta_ms.is_none() {
        return Known::default();
    }
    known_by_rule(context, place, expires_at, delta_ms)
}

#[cold]
fn known_by_rule(
    context: &mut Context<'_>,
    place: Place<'_>,
    expires_at: Option<NonZeroU64>,
    delta_ms: Option<u64>,
) -> Known {
    let session = &mut *context.session;
    let made = {
        let mut asker = asker(session, true);
        let policy = &context.instance.policy;
        policy.made_in(&mut context.view, place, &mut asker)
    };
    let millis = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let passed = match &session.reads.through {
        Passed::Open(passage) => Some(passage.since()),
        Passed::No | Passed::Asked(_) | Passed::Answered(_) => None,
    };
    let delta_ms = delta_ms.or_else(|| made.map(|made| millis(made.took)));
    let now_ms = context.view.now_ms();
    let ttl_ms = expires_at.map(|at| at.get().saturating_sub(now_ms));
    let loaded = ttl_ms.and_then(|ttl_ms| match &session.reads.table {
        Some(table) => table.loaded_by_client(place.key.bytes, ttl_ms, delta_ms),
        None => delta_ms.map(|delta_ms| Loaded::new(ttl_ms, delta_ms, 0)),
    });
    Known {
        loaded,
        since: made.map(|made| made.since).into_iter().chain(passed).min(),
    }
}
