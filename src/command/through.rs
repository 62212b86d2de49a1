//! Writes of keys whose rule says that the origin is written first (`write = "through"`).
//!
//! Before such a command runs, its origins have to take it: the connection waits for them, and the
//! command is then run as always. What such a rule's origin could not be told (an APPEND, an INCR)
//! is refused, as the two would differ from there on.

use std::time::Duration;

use super::keys_of::for_each_key;
use super::{Command, CommandError, Flags, strings};
use crate::clock;
use crate::instance::Instance;
use crate::keyspace::Place;
use crate::policy::{Table, Through};
use crate::resp::Request;

/// What a command needs before it may run.
pub enum Needs {
    /// Nothing.
    Nothing,
    /// That origins take this.
    Origins(Vec<Through>),
    /// To be another one.
    Refusal(CommandError),
}

/// What a command that is about to run needs.
#[cold]
pub fn needs(
    instance: &Instance,
    table: &Table,
    db: u16,
    (command, request): (&Command, &Request<'_>),
    is_queued: bool,
) -> Needs {
    if !command.flags.contains(Flags::WRITE) || keeps_values(command) {
        return Needs::Nothing;
    }
    let mut rule = None;
    for_each_key(command, request, |index| {
        if let Some(active) = table.writes_through(request.argument(index)) {
            rule = rule.or(Some(active.rule.spec.name.as_str()));
        }
    });
    let Some(rule) = rule else {
        return Needs::Nothing;
    };
    let place = |bytes| Place {
        db,
        key: instance.store.key(bytes),
    };
    let writes = match command.name {
        "del" | "unlink" => {
            let keys = request.iter_from(1);
            keys.filter_map(|key| table.through(place(key), None, None))
                .collect()
        }
        _ => {
            let value_max = instance.config().proto_max_bulk_len;
            match strings::written(command, request, clock::unix_ms(), value_max) {
                // It is told what is wrong with it when it runs.
                Err(_) => return Needs::Nothing,
                Ok(None) => Vec::new(),
                Ok(Some((pairs, ttl_ms))) => {
                    let ttl = ttl_ms.map(Duration::from_millis);
                    let writes = pairs.iter();
                    writes
                        .filter_map(|(key, value)| table.through(place(key), Some(value), ttl))
                        .collect()
                }
            }
        }
    };
    let is_removal = matches!(command.name, "del" | "unlink");
    if writes.is_empty() && is_removal {
        return Needs::Nothing;
    }
    if writes.is_empty() {
        return Needs::Refusal(CommandError::other(format!(
            "ERR the rule '{rule}' writes through to its origin: its keys are only written by SET \
             (without NX, XX and GET), SETEX, PSETEX, MSET, DEL and UNLINK"
        )));
    }
    if is_queued {
        return Needs::Refusal(CommandError::other(format!(
            "ERR the rule '{rule}' writes through to its origin, which cannot be part of a \
             transaction"
        )));
    }
    Needs::Origins(writes)
}

/// Whether a command that writes leaves values as they are.
fn keeps_values(command: &Command) -> bool {
    matches!(
        command.name,
        "expire" | "pexpire" | "expireat" | "pexpireat" | "persist" | "getex"
    )
}
