//! What is known of a key besides its value: OBJECT; and DUMP and RESTORE, which carry it away.

use std::num::NonZeroU64;

use super::Result;
use crate::command::options::{Rest, integer, is_word};
use crate::command::{CommandError, Context, numbers, strings};
use crate::keyspace::Place;
use crate::keyspace::dump::{self, Payload};
use crate::resp::Request;
use crate::store::{Entry, Policy};

pub(in crate::command) fn dump(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    match context.view.read(place) {
        Some(entry) => context.reply.bulk(&dump::encode_string(entry.value())),
        None => context.reply.null(),
    }
    Ok(())
}

/// What RESTORE does beyond storing.
#[derive(Clone, Copy, Debug, Default)]
struct RestoreOptions {
    replaces: bool,
    /// ABSTTL: the expiry is a unix time.
    is_absolute: bool,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl RestoreOptions {
    fn parse(request: &Request<'_>) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = Rest::from(request, 4);
        while let Some(word) = rest.next() {
            if is_word(word, "replace") {
                options.replaces = true;
            } else if is_word(word, "absttl") {
                options.is_absolute = true;
            } else if is_word(word, "idletime") && rest.left() > 0 && options.frequency.is_none() {
                let seconds = u64::try_from(integer(rest.required()?)?)
                    .map_err(|_| CommandError::other("ERR Invalid IDLETIME value, must be >= 0"))?;
                options.idle_seconds = Some(seconds);
            } else if is_word(word, "freq") && rest.left() > 0 && options.idle_seconds.is_none() {
                let frequency = u8::try_from(integer(rest.required()?)?).map_err(|_| {
                    CommandError::other("ERR Invalid FREQ value, must be >= 0 and <= 255")
                })?;
                options.frequency = Some(frequency);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// When the key expires, given RESTORE's ttl argument: 0 is never.
    fn expires_at(self, ttl: u64, now_ms: u64) -> Option<NonZeroU64> {
        let ttl = NonZeroU64::new(ttl)?;
        if self.is_absolute {
            return Some(ttl);
        }
        // Beyond the end of time Redis's sum is negative, which is long ago.
        let at = ttl.checked_add(now_ms);
        Some(
            at.filter(|at| i64::try_from(at.get()).is_ok())
                .unwrap_or(NonZeroU64::MIN),
        )
    }
}

pub(in crate::command) fn restore(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let options = RestoreOptions::parse(request)?;
    let now_ms = context.view.now_ms();
    if !options.replaces && context.view.find(place).is_some() {
        return Err(CommandError::other(
            "BUSYKEY Target key name already exists.",
        ));
    }
    let ttl = u64::try_from(integer(request.argument(2))?)
        .map_err(|_| CommandError::other("ERR Invalid TTL value, must be >= 0"))?;
    let Payload::String(value) = dump::decode(request.argument(3), context.string_bytes_max())
        .map_err(|error| CommandError::other(error.to_string()))?;
    let expires_at = options.expires_at(ttl, now_ms);
    if expires_at.is_some_and(|at| at.get() <= now_ms) {
        context.view.remove(place);
    } else {
        context.view.set(place, &value, expires_at)?;
        context.view.set_frequency(place, options.frequency);
        if let Some(seconds) = options.idle_seconds {
            let last_use = now_ms.saturating_sub(seconds.saturating_mul(1000));
            context.view.set_last_use(place, last_use);
        }
    }
    context.reply.ok();
    Ok(())
}

pub(in crate::command) fn object_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context.reply.array(OBJECT_HELP.len());
    for line in OBJECT_HELP {
        context.reply.simple(line);
    }
    Ok(())
}

pub(in crate::command) fn object_encoding(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result {
    let place = context.place(request.argument(2));
    match context.view.look(place) {
        Some(entry) => context
            .reply
            .text(strings::encoding(entry.value(), entry.is_grown())),
        None => context.reply.null(),
    }
    Ok(())
}

pub(in crate::command) fn object_refcount(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result {
    let place = context.place(request.argument(2));
    match context.view.look(place) {
        // Redis shares the small integers among all keys, and says so.
        Some(entry) if is_shared(&entry) => context.reply.integer(SHARED_REFCOUNT),
        Some(_) => context.reply.integer(1),
        None => context.reply.null(),
    }
    Ok(())
}

fn is_shared(entry: &Entry<'_>) -> bool {
    let value = numbers::parse_integer(entry.value());
    !entry.is_grown() && value.is_some_and(|value| (0..SHARED_INTEGERS).contains(&value))
}

/// Redis's `OBJ_SHARED_INTEGERS`.
const SHARED_INTEGERS: i64 = 10_000;
/// Redis's `OBJ_SHARED_REFCOUNT`.
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

pub(in crate::command) fn object_idletime(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result {
    let place = context.place(request.argument(2));
    let now_ms = context.view.now_ms();
    let Some(idle) = context
        .view
        .look(place)
        .map(|entry| entry.idle_seconds(now_ms))
    else {
        context.reply.null();
        return Ok(());
    };
    if policy(context, place).is_lfu() {
        return Err(CommandError::other(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
             when switching between policies at runtime LRU and LFU data will take some time to \
             adjust.",
        ));
    }
    context.reply.integer(i64::from(idle));
    Ok(())
}

pub(in crate::command) fn object_freq(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(2));
    let now_ms = context.view.now_ms();
    let Some(clock) = context.view.look(place).as_ref().map(Entry::clock) else {
        context.reply.null();
        return Ok(());
    };
    let policy = policy(context, place);
    if !policy.is_lfu() && policy != Policy::AllKeysTinyLfu {
        return Err(CommandError::other(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
             note that when switching between policies at runtime LRU and LFU data will take \
             some time to adjust.",
        ));
    }
    let hash = place.key.hash;
    let frequency = context
        .view
        .locked()
        .shard(hash)
        .frequency(clock, hash, now_ms);
    context.reply.integer(i64::from(frequency));
    Ok(())
}

fn policy(context: &mut Context<'_>, place: Place<'_>) -> Policy {
    context.view.locked().shard(place.key.hash).tuning().policy
}

const OBJECT_HELP: [&str; 15] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_key_expires_from_now_on_or_at_a_moment() {
        let relative = RestoreOptions::default();
        let absolute = RestoreOptions {
            is_absolute: true,
            ..relative
        };
        assert_eq!(relative.expires_at(0, 100), None);
        assert_eq!(relative.expires_at(5, 100), NonZeroU64::new(105));
        assert_eq!(absolute.expires_at(5, 100), NonZeroU64::new(5));
    }
}
