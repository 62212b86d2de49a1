//! `SLOWLOG`: the commands that took longest.

use super::super::options::integer;
use super::super::{CommandError, Context, help};
use super::{Result, unknown_subcommand};
use crate::resp::Request;

/// Entries that `SLOWLOG GET` replies where it is not told how many.
const COUNT_DEFAULT: usize = 10;

/// `SLOWLOG GET [count]`; -1 is all of them.
pub(in crate::command) fn slowlog_get(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    if request.len() > 3 {
        return Err(unknown_subcommand(request));
    }
    let count = match request.get(2).map(integer) {
        None => COUNT_DEFAULT,
        Some(Ok(-1)) => usize::MAX,
        Some(count) => count
            .ok()
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| {
                CommandError::other("ERR count should be greater than or equal to -1")
            })?,
    };
    let entries = context.instance.slow_log.newest(count);
    let reply = &mut *context.reply;
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        for number in [entry.id, entry.at, entry.micros] {
            reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
        }
        reply.array(entry.arguments.len());
        entry
            .arguments
            .iter()
            .for_each(|argument| reply.bulk(argument));
        reply.text(&entry.peer);
        reply.bulk(&entry.name);
    }
    Ok(())
}

/// `SLOWLOG LEN`
pub(in crate::command) fn slowlog_len(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context.reply.count(context.instance.slow_log.len());
    Ok(())
}

/// `SLOWLOG RESET`
pub(in crate::command) fn slowlog_reset(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context.instance.slow_log.clear();
    context.reply.ok();
    Ok(())
}

/// `SLOWLOG HELP`
pub(in crate::command) fn slowlog_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    help(context, "SLOWLOG", SLOWLOG_HELP);
    Ok(())
}

pub(in crate::command) const SLOWLOG_HELP: &[&str] = &[
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];
