//! `MULTI`, `EXEC` and optimistic locks.
//!
//! EXEC locks the shards of all keys of all queued commands, in order, and runs the commands one
//! after the other under these locks: nobody sees a part of it. Where a queued command names no
//! keys, all shards are locked.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lookup::LookupError;
use super::run::{book_slow, hashes_of, invoke};
use super::spec::{Command, Flags};
use super::table::COMMANDS;
use super::{CommandError, Context};
use crate::clock;
use crate::instance::Instance;
use crate::instance::session::{Session, Transaction};
use crate::keyspace::View;
use crate::resp::{Reply, Request};

type Result = std::result::Result<(), CommandError>;

/// Whether a command is queued rather than run.
pub(super) fn is_queued(session: &Session, command: &Command) -> bool {
    session.transaction.is_some()
        && !matches!(
            command.name,
            "exec" | "discard" | "multi" | "watch" | "quit" | "reset"
        )
}

/// Whether running this command would run queued ones that write.
pub(super) fn writes(session: &Session, command: &Command) -> bool {
    runs_queued(session, command, Flags::WRITE)
}

/// Whether running this command would run queued ones that may need memory.
pub(super) fn needs_memory(session: &Session, command: &Command) -> bool {
    runs_queued(session, command, Flags::DENYOOM)
}

fn runs_queued(session: &Session, command: &Command, flag: Flags) -> bool {
    command.name == "exec"
        && session.transaction.as_ref().is_some_and(|transaction| {
            let mut queued = transaction.queue.iter().map(|(index, _)| &COMMANDS[*index]);
            queued.any(|command| command.flags.contains(flag))
        })
}

/// Queues a command. A client that queues more than it may send ahead is closed.
pub(super) fn queue(
    session: &mut Session,
    reply: &mut Reply,
    command: &Command,
    request: &Request<'_>,
) {
    let limit = session.config.client_query_buffer_limit;
    let Some(transaction) = &mut session.transaction else {
        return;
    };
    let request = request.to_owned();
    transaction.bytes += request.heap_bytes();
    transaction.queue.push((command.index(), request));
    if transaction.bytes > limit {
        session.closing = true;
        return;
    }
    reply.simple("QUEUED");
}

/// The reply to a command that is refused for `error`: of EXEC, that the transaction is over.
pub(super) fn refusal(
    command: std::result::Result<&Command, LookupError>,
    error: Vec<u8>,
) -> Vec<u8> {
    let (Ok(command) | Err(LookupError::WrongArity(command))) = command else {
        return error;
    };
    if command.name != "exec" || error.starts_with(b"EXECABORT") {
        return error;
    }
    let reason = error.strip_prefix(b"ERR ").unwrap_or(&error);
    [b"EXECABORT Transaction discarded because of: ", reason].concat()
}

/// A command could not be queued: the transaction will not run. If it was EXEC itself, it is over.
pub(super) fn spoil(session: &mut Session, instance: &Instance, error: &[u8]) {
    if error.starts_with(b"EXECABORT") {
        session.transaction = None;
        session.unwatch(instance);
    } else if let Some(transaction) = &mut session.transaction {
        transaction.is_broken = true;
    }
}

pub(super) fn multi(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    if context.session.transaction.is_some() {
        return Err(CommandError::other("ERR MULTI calls can not be nested"));
    }
    context.session.transaction = Some(Transaction::default());
    context.reply.ok();
    Ok(())
}

pub(super) fn discard(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    if context.session.transaction.take().is_none() {
        return Err(CommandError::other("ERR DISCARD without MULTI"));
    }
    context.session.unwatch(context.instance);
    context.reply.ok();
    Ok(())
}

pub(super) fn watch(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    if context.session.transaction.is_some() {
        return Err(CommandError::other("ERR WATCH inside MULTI is not allowed"));
    }
    let now_ms = context.view.now_ms();
    for key in request.iter_from(1) {
        let place = context.place(key);
        // What has expired is removed now, so that its removal is no change later; so is what is
        // kept of it to be served stale, which whoever looks at it finds to have expired.
        let is_there = context.view.contains(place);
        let watching = &mut context.session.watching;
        let locked = context.view.locked();
        let db = locked.physical(place.db);
        let shard = locked.shard(place.key.hash);
        if !is_there {
            shard.remove(db, place.key, now_ms);
        }
        shard.watchers.add(db, key, &watching.dirty);
        if !watching
            .keys
            .iter()
            .any(|(db, other)| *db == place.db && **other == *key)
        {
            watching.keys.push((place.db, key.into()));
        }
    }
    context
        .session
        .client
        .doing
        .watches
        .store(true, Ordering::Relaxed);
    context.reply.ok();
    Ok(())
}

pub(super) fn unwatch(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    // In a transaction the shards are locked, and its end unwatches all keys anyway.
    if context.view.locked().is_none() {
        context.session.unwatch(context.instance);
    }
    context.reply.ok();
    Ok(())
}

pub(super) fn exec(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let Some(transaction) = context.session.transaction.take() else {
        return Err(CommandError::other("ERR EXEC without MULTI"));
    };
    if transaction.is_broken {
        context.session.unwatch(context.instance);
        return Err(CommandError::other(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    lock(context, &transaction);
    expire_watched(context);
    let is_dirty = context.session.is_dirty();
    if is_dirty {
        context.reply.null_array();
    } else {
        context.session.reads.is_atomic = true;
        run_queue(context, &transaction);
        context.session.reads.is_atomic = false;
    }
    context.view = View::new(context.instance.store.lock_none(), context.view.now_ms());
    context.session.unwatch(context.instance);
    Ok(())
}

/// Locks the keys of all commands, and those that are watched.
fn lock(context: &mut Context<'_>, transaction: &Transaction) {
    let instance = context.instance;
    let mut hashes = Vec::new();
    let mut all = false;
    for (index, request) in &transaction.queue {
        let keys = hashes_of(instance, &COMMANDS[*index], &request.as_request());
        all |= keys.is_empty();
        hashes.extend(keys);
    }
    let watched = context.session.watching.keys.iter();
    hashes.extend(watched.map(|(_, key)| instance.store.hash(key)));
    let locked = if all {
        instance.store.lock_all()
    } else {
        instance.store.lock_apart(hashes.into_iter())
    };
    context.view = View::new(locked, clock::unix_ms());
}

/// A watched key that has expired meanwhile has changed.
fn expire_watched(context: &mut Context<'_>) {
    let watched = std::mem::take(&mut context.session.watching.keys);
    for (db, key) in &watched {
        let place = crate::keyspace::Place {
            db: *db,
            key: context.instance.store.key(key),
        };
        context.view.contains(place);
    }
    context.session.watching.keys = watched;
}

fn run_queue(context: &mut Context<'_>, transaction: &Transaction) {
    context.reply.array(transaction.queue.len());
    let config = Arc::clone(&context.session.config);
    for (index, request) in &transaction.queue {
        let (command, request) = (&COMMANDS[*index], request.as_request());
        let since = clock::now();
        invoke(context, command, &request);
        let took = clock::now() - since;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        context.metrics.commands[*index].ran(1, nanos, config.latency_tracking);
        book_slow(context.instance, context.session, command, &request, took);
    }
}
