//! `DEBUG`: what tests of clients, and of the server, need and nobody else.

mod digest;

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::options::{integer, is_word};
use super::super::{CommandError, Context, numbers, strings};
use super::{Result, is_in_transaction, unknown_subcommand};
use crate::keyspace::{Place, View, dump};
use crate::resp::{Protocol, Request};

/// `DEBUG subcommand …`
pub(in crate::command) fn debug(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let word = request.argument(1);
    let subcommand = SUBCOMMANDS
        .iter()
        .find(|(name, from, to, _)| is_word(word, name) && (*from..=*to).contains(&request.len()));
    match subcommand {
        Some((.., run)) => run(context, request),
        None => Err(unknown_subcommand(request)),
    }
}

type Subcommand = fn(&mut Context<'_>, &Request<'_>) -> Result;

/// Name, least and greatest number of words, and what runs it.
const SUBCOMMANDS: &[(&str, usize, usize, Subcommand)] = &[
    ("digest", 2, 2, digest::of_all),
    ("digest-value", 2, usize::MAX, digest::of_values),
    ("error", 3, 3, error),
    ("help", 2, 2, help),
    ("log", 3, 3, log),
    ("object", 3, 3, object),
    ("populate", 3, 5, populate),
    ("protocol", 3, 3, protocol),
    ("reload", 2, usize::MAX, reload),
    ("set-active-expire", 3, 3, set_active_expire),
    ("sleep", 3, 3, sleep),
];

/// `DEBUG ERROR text`: an error of this text.
fn error(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    context.reply.error(request.argument(2));
    Ok(())
}

/// `DEBUG LOG text`
fn log(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let text = String::from_utf8_lossy(request.argument(2));
    tracing::warn!("DEBUG LOG: {}", text.escape_debug());
    context.reply.ok();
    Ok(())
}

/// `DEBUG OBJECT key`
fn object(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(2));
    let now_ms = context.view.now_ms();
    let line = with_key(context, place, |view| {
        let entry = view.peek(place)?;
        let value = entry.value();
        Some(format!(
            "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
            value.as_ptr(),
            strings::encoding(value, entry.is_grown()),
            dump::encode_string(value).len() - DUMP_FRAME_BYTES,
            entry.clock(),
            entry.idle_seconds(now_ms)
        ))
    });
    context.reply.simple(&line.ok_or(CommandError::NoSuchKey)?);
    Ok(())
}

/// What a payload of DUMP has around the value: its type, version and checksum.
const DUMP_FRAME_BYTES: usize = 11;

/// Gives `visit` a view in which a key of no command is locked.
fn with_key<R>(
    context: &mut Context<'_>,
    place: Place<'_>,
    visit: impl FnOnce(&mut View<'_>) -> R,
) -> R {
    if is_in_transaction(context) {
        // A command without keys: EXEC has locked them all.
        return visit(&mut context.view);
    }
    let locked = context.instance.store.lock(place.key.hash);
    visit(&mut View::new(locked, context.view.now_ms()))
}

/// `DEBUG POPULATE count [prefix] [size]`: sets the keys `prefix:0` … that are not there.
fn populate(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let positive = |index: usize| {
        let number = request.get(index).map(integer).transpose();
        let number = number.ok().map(|number| number.map(usize::try_from));
        let refused = || CommandError::other("ERR value is out of range, must be positive");
        number
            .and_then(|number| number.transpose().ok())
            .ok_or_else(refused)
    };
    let count = positive(2)?.unwrap_or(0);
    let size = positive(4)?;
    if size.is_some_and(|size| size > context.string_bytes_max()) {
        return Err(CommandError::StringTooLong);
    }
    let prefix = request.get(3).unwrap_or(b"key");
    let mut digits = itoa::Buffer::new();
    for number in 0..count {
        let digits = digits.format(number).as_bytes();
        let key = [prefix, b":", digits].concat();
        let mut value = [b"value:", digits].concat();
        if let Some(size) = size.filter(|&size| size > 0) {
            value.resize(size, 0);
        }
        let place = context.place(&key);
        let expires_at: Option<NonZeroU64> = None;
        with_key(context, place, |view| {
            if view.contains(place) {
                Ok(())
            } else {
                view.set(place, &value, expires_at)
            }
        })?;
    }
    context.reply.ok();
    Ok(())
}

/// `DEBUG PROTOCOL type`: a reply of this type.
fn protocol(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let name = request.argument(2).to_ascii_lowercase();
    let reply = &mut *context.reply;
    let is_resp3 = reply.protocol() == Protocol::Resp3;
    match name.as_slice() {
        b"string" => reply.text("Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double("3.141"),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if is_resp3 {
                reply.raw(b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n");
            }
            reply.text("Some real reply following the attribute");
        }
        b"push" if is_resp3 => {
            reply.push(2);
            reply.text("server-cpu-usage");
            reply.integer(42);
            reply.text("Some real reply following the push reply");
        }
        b"push" => {
            return Err(CommandError::other(
                "ERR RESP2 is not supported by this command",
            ));
        }
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        _ => {
            return Err(CommandError::other(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

/// `DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]`: the data as it would be after it was written to disk
/// and read again, which is as it is. From the disk alone (`NOSAVE`) there is nothing to be read.
fn reload(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    for option in request.iter_from(2) {
        if is_word(option, "nosave") {
            return Err(CommandError::other(
                "ERR Error trying to load the RDB dump, check server logs.",
            ));
        }
        if !is_word(option, "merge") && !is_word(option, "noflush") {
            return Err(CommandError::other(
                "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
            ));
        }
    }
    context.reply.ok();
    Ok(())
}

/// `DEBUG SET-ACTIVE-EXPIRE 0 | 1`: whether expired keys are removed that nobody asks for.
fn set_active_expire(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    // Anything that is no number is 0, as in Redis.
    let on = integer(request.argument(2)).is_ok_and(|number| number != 0);
    context.instance.active_expiry.store(on, Ordering::Relaxed);
    context.reply.ok();
    Ok(())
}

/// `DEBUG SLEEP seconds`: nobody's command on keys runs meanwhile.
fn sleep(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let seconds = numbers::parse_float(request.argument(2)).unwrap_or(0.0);
    let duration = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .min(SLEEP_MAX);
    let locked = (!is_in_transaction(context)).then(|| context.instance.store.lock_all());
    std::thread::sleep(duration);
    drop(locked);
    context.reply.ok();
    Ok(())
}

/// Who asks for more meant something else.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

fn help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    super::super::help(context, "DEBUG", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "DIGEST",
    "    Output a hex signature representing the current DB content.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of all the specified keys.",
    "ERROR <string>",
    "    Return a Redis protocol error with <string> as message. Useful for clients",
    "    unit tests to simulate Redis errors.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "OBJECT <key>",
    "    Show low level info about `key` and associated value.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys named key:<num>. If <prefix> is specified then",
    "    it is used instead of the 'key' prefix.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    "    true, false.",
    "RELOAD [option ...]",
    "    Succeeds: nothing is kept on disk, so there is nothing to read back.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed. Setting it to 1 reenables back the default.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
];
