//! Whole databases, emptied or exchanged at once: with all shards locked.
//!
//! What was removed is freed after the locks were given up.

use super::{Result, existing_database};
use crate::command::options::{integer, is_word};
use crate::command::{CommandError, Context};
use crate::keyspace::View;
use crate::resp::Request;
use crate::store::Garbage;

pub(in crate::command) fn flushdb(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    flush(context, request, Some(context.session.db))
}

pub(in crate::command) fn flushall(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    flush(context, request, None)
}

/// Who waits until the memory of what was flushed is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freeing {
    /// SYNC: the client.
    Sync,
    /// ASYNC: nobody.
    Async,
}

impl Freeing {
    fn parse(request: &Request<'_>) -> Result<Self> {
        match (request.get(1), request.len()) {
            (None, _) => Ok(Self::Sync),
            (Some(word), 2) if is_word(word, "sync") => Ok(Self::Sync),
            (Some(word), 2) if is_word(word, "async") => Ok(Self::Async),
            (Some(_), _) => Err(CommandError::Syntax),
        }
    }
}

/// Removes all keys of a database, or of all.
fn flush(context: &mut Context<'_>, request: &Request<'_>, db: Option<u16>) -> Result {
    let freeing = Freeing::parse(request)?;
    let garbage = with_all_locked(context, |view| view.clear(db));
    // The shards of a transaction stay locked until its end, and are not to wait for this.
    if freeing == Freeing::Async || context.view.locked().is_all() {
        free_behind(garbage);
    } else {
        drop(garbage);
    }
    context.reply.ok();
    Ok(())
}

/// Runs `change` with all shards locked, and releases them unless they were locked before.
fn with_all_locked<'a, T>(context: &mut Context<'a>, change: impl FnOnce(&mut View<'a>) -> T) -> T {
    if context.view.locked().is_all() {
        return change(&mut context.view);
    }
    let (store, now_ms) = (&context.instance.store, context.view.now_ms());
    debug_assert!(
        context.view.locked().is_none(),
        "to lock more would break the order"
    );
    change(&mut View::new(store.lock_all(), now_ms))
}

/// Frees memory on a thread of its own. To fill a database takes longer than to free it, so the
/// threads do not pile up.
fn free_behind(garbage: Garbage) {
    if garbage.len() <= FREED_AT_ONCE {
        return;
    }
    let thread = std::thread::Builder::new().name("free".to_owned());
    if let Err(error) = thread.spawn(move || drop(garbage)) {
        tracing::warn!(%error, "no thread to free memory, so a client waited for it");
    }
}

pub(in crate::command) fn swapdb(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let number = |index: usize, error: &'static str| {
        let number = integer(request.argument(index)).ok();
        number
            .and_then(|number| i32::try_from(number).ok())
            .ok_or_else(|| CommandError::other(error))
    };
    let first = number(1, "ERR invalid first DB index")?;
    let second = number(2, "ERR invalid second DB index")?;
    let first = existing_database(context, first)?;
    let second = existing_database(context, second)?;
    if first != second {
        with_all_locked(context, |view| view.swap(first, second));
    }
    context.reply.ok();
    Ok(())
}

/// Keys that are freed faster than a thread starts.
const FREED_AT_ONCE: usize = 64;
