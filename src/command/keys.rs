//! Keys, whatever is under them: removing, expiring, renaming, listing, moving, inspecting.
//!
//! Commands whose arguments name keys find the shards of these keys locked. Those about whole
//! databases find nothing locked, or everything inside of a transaction: what may be seen shard by
//! shard ([`listing`]) locks one shard at a time, what must happen at once ([`flush`]) locks all.

mod expiry;
mod flush;
mod inspect;
mod listing;

pub(super) use expiry::{
    expire, expireat, expiretime, persist, pexpire, pexpireat, pexpiretime, pttl, ttl,
};
pub(super) use flush::{flushall, flushdb, swapdb};
pub(super) use inspect::{
    dump, object_encoding, object_freq, object_help, object_idletime, object_refcount, restore,
};
pub(super) use listing::{Pattern, dbsize, keys, parse_cursor, randomkey, scan};

use super::options::{Rest, integer, is_word};
use super::{CommandError, Context};
use crate::keyspace::{Place, View};
use crate::resp::Request;

type Result<T = ()> = std::result::Result<T, CommandError>;

pub(super) fn del(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    count_keys(context, request, |view, place| view.remove(place))
}

pub(super) fn unlink(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    del(context, request)
}

pub(super) fn exists(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    count_keys(context, request, |view, place| view.look(place).is_some())
}

pub(super) fn touch(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    count_keys(context, request, |view, place| view.touch(place))
}

/// Replies of how many of the keys `is_counted` was true.
fn count_keys(
    context: &mut Context<'_>,
    request: &Request<'_>,
    is_counted: fn(&mut View<'_>, Place<'_>) -> bool,
) -> Result {
    let mut count = 0;
    for key in request.iter_from(1) {
        let place = context.place(key);
        count += usize::from(is_counted(&mut context.view, place));
    }
    context.reply.count(count);
    Ok(())
}

pub(super) fn r#type(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    context.reply.simple(match context.view.look(place) {
        Some(_) => STRING,
        None => "none",
    });
    Ok(())
}

pub(super) fn rename(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let (from, to) = (
        context.place(request.argument(1)),
        context.place(request.argument(2)),
    );
    if context.view.find(from).is_none() {
        return Err(CommandError::NoSuchKey);
    }
    if from.key.bytes != to.key.bytes {
        context.view.relocate(from, to);
    }
    context.reply.ok();
    Ok(())
}

pub(super) fn renamenx(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let (from, to) = (
        context.place(request.argument(1)),
        context.place(request.argument(2)),
    );
    if context.view.find(from).is_none() {
        return Err(CommandError::NoSuchKey);
    }
    let is_free = from.key.bytes != to.key.bytes && context.view.find(to).is_none();
    if is_free {
        context.view.relocate(from, to);
    }
    context.reply.integer(i64::from(is_free));
    Ok(())
}

pub(super) fn copy(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let from = context.place(request.argument(1));
    let mut to = context.place(request.argument(2));
    let mut replaces = false;
    let mut rest = Rest::from(request, 3);
    while let Some(word) = rest.next() {
        if is_word(word, "replace") {
            replaces = true;
        } else if is_word(word, "db") && rest.left() > 0 {
            to.db = database(context, rest.required()?)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if from.db == to.db && from.key.bytes == to.key.bytes {
        return Err(same_object());
    }
    let is_copied = context.view.read(from).is_some()
        && (context.view.find(to).is_none() || replaces)
        && context.view.copy(from, to)?;
    context.reply.integer(i64::from(is_copied));
    Ok(())
}

pub(super) fn r#move(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let from = context.place(request.argument(1));
    let to = Place {
        db: database(context, request.argument(2))?,
        ..from
    };
    if from.db == to.db {
        return Err(same_object());
    }
    let is_moved = context.view.find(from).is_some()
        && context.view.find(to).is_none()
        && context.view.relocate(from, to);
    context.reply.integer(i64::from(is_moved));
    Ok(())
}

fn same_object() -> CommandError {
    CommandError::other("ERR source and destination objects are the same")
}

/// The database that an argument names.
pub(super) fn database(context: &Context<'_>, argument: &[u8]) -> Result<u16> {
    let number = i32::try_from(integer(argument)?).map_err(|_| {
        CommandError::other(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        )
    })?;
    existing_database(context, number)
}

fn existing_database(context: &Context<'_>, number: i32) -> Result<u16> {
    u16::try_from(number)
        .ok()
        .filter(|db| *db < context.instance.store.databases())
        .ok_or(CommandError::InvalidDbIndex)
}

/// The type of all values.
const STRING: &str = "string";
