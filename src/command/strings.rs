//! Strings.

use std::num::NonZeroU64;

use super::options::{Rest, Unit, integer, is_word, substring};
use super::{Command, CommandError, Context, lcs, long_double, numbers, reads, tags};
use crate::keyspace::{NotStored, Place};
use crate::resp::Request;
use crate::store::{Stamp, Write};

type Result = std::result::Result<(), CommandError>;

/// What SET does beyond storing.
#[derive(Clone, Copy, Debug, Default)]
struct SetOptions {
    expiry: Expiry,
    condition: Option<Condition>,
    /// Replies the old value instead of OK.
    get: bool,
    /// How long the value took to make, in ms.
    delta_ms: Option<u64>,
    /// Where the tags stand among the arguments: the first, and how many.
    tags: Option<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expiry {
    #[default]
    None,
    Keep,
    At(NonZeroU64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// NX
    Absent,
    /// XX
    Present,
}

/// When a value expires, as it was said.
type Moment<'r> = (Unit, &'r [u8]);

impl SetOptions {
    fn parse(request: &Request<'_>, now_ms: u64) -> std::result::Result<Self, CommandError> {
        let (mut options, unit) = Self::scan(request)?;
        if let Some((unit, argument)) = unit {
            options.expiry = Expiry::At(unit.positive_moment(argument, now_ms, "set")?);
        }
        Ok(options)
    }

    /// What the words say; the expiry is told apart, and not looked at.
    fn scan<'r>(
        request: &Request<'r>,
    ) -> std::result::Result<(Self, Option<Moment<'r>>), CommandError> {
        let mut options = Self::default();
        let mut unit = None;
        let mut rest = Rest::from(request, 3);
        while let Some(word) = rest.next() {
            if is_word(word, "nx") && options.condition != Some(Condition::Present) {
                options.condition = Some(Condition::Absent);
            } else if is_word(word, "xx") && options.condition != Some(Condition::Absent) {
                options.condition = Some(Condition::Present);
            } else if is_word(word, "get") {
                options.get = true;
            } else if is_word(word, "keepttl") && unit.is_none() {
                options.expiry = Expiry::Keep;
            } else if is_word(word, "delta") && options.delta_ms.is_none() {
                options.delta_ms = Some(delta(rest.required()?)?);
            } else if is_word(word, "tags") && options.tags.is_none() {
                options.tags = Some(tags::given(request, &mut rest)?);
            } else if let Some(given) = Unit::of_option(word)
                && unit.is_none_or(|(present, _)| present == given)
                && options.expiry == Expiry::None
            {
                unit = Some((given, rest.required()?));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok((options, unit))
    }
}

pub(super) fn get(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    if !context.session.reads.arrived.is_empty() {
        return reads::again(context, place);
    }
    if context.session.reads.are_told {
        return reads::told(context, place);
    }
    let now_ms = context.view.now_ms();
    match context.view.read(place) {
        Some(entry) if reads::is_near_end(&entry, now_ms) => reads::near_end(context, place)?,
        Some(entry) => context.reply.bulk(entry.value()),
        None if context.session.reads.table.is_some() => reads::missing(context, place)?,
        None => context.reply.null(),
    }
    Ok(())
}

pub(super) fn set(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let value = request.argument(2);
    if request.len() == 3 && context.session.reads.table.is_none() {
        check_len(context, value.len())?;
        context.view.set(place, value, None)?;
        context.reply.ok();
        return Ok(());
    }
    let options = SetOptions::parse(request, context.view.now_ms())?;
    check_len(context, value.len())?;
    let old = if options.get {
        // GET makes it a read as well: a hit or a miss.
        context
            .view
            .read(place)
            .map(|entry| (entry.value().to_vec(), entry.expires_at()))
    } else {
        context
            .view
            .peek(place)
            .map(|entry| (Vec::new(), entry.expires_at()))
    };
    let is_refused = match options.condition {
        Some(Condition::Absent) => old.is_some(),
        Some(Condition::Present) => old.is_none(),
        None => false,
    };
    if !is_refused {
        let expires_at = match options.expiry {
            Expiry::None => None,
            Expiry::Keep => old.as_ref().and_then(|(_, expires_at)| *expires_at),
            Expiry::At(at) => Some(at),
        };
        let (first, count) = options.tags.unwrap_or_default();
        let tags = request.iter_from(first).take(count);
        store(context, place, (value, expires_at, options.delta_ms), tags)?;
    }
    match old {
        Some((old, _)) if options.get => context.reply.bulk(&old),
        Some(_) | None if options.get || is_refused => context.reply.null(),
        Some(_) | None => context.reply.ok(),
    }
    Ok(())
}

/// Stores a value; one that has expired already is removed instead.
fn store<'t>(
    context: &mut Context<'_>,
    place: Place<'_>,
    (value, expires_at, delta_ms): (&[u8], Option<NonZeroU64>, Option<u64>),
    tags: impl ExactSizeIterator<Item = &'t [u8]>,
) -> Result {
    if expires_at.is_some_and(|at| at.get() <= context.view.now_ms()) {
        if !context.view.remove(place) {
            // Nothing was there and nothing is, but it was set: who watches it is told.
            let locked = context.view.locked();
            let db = locked.physical(place.db);
            let shard = locked.shard(place.key.hash);
            shard.watchers.touch(db, place.key.bytes);
        }
        return Ok(());
    }
    let reads::Known { loaded, since } = reads::known_of(context, place, expires_at, delta_ms);
    let write = Write {
        value,
        expires_at,
        loaded,
        ..Write::default()
    };
    keep(context, place, write, tags, since)
}

/// Stores a value with these tags, whose making began at that time.
fn keep<'t>(
    context: &mut Context<'_>,
    place: Place<'_>,
    write: Write<'_>,
    tags: impl ExactSizeIterator<Item = &'t [u8]>,
    since: Option<Stamp>,
) -> Result {
    if tags.len() == 0 && since.is_none() {
        return Ok(context.view.write(place, write)?);
    }
    match context.view.write_tagged(place, write, tags, since) {
        // It was stored, and then came the invalidation.
        Err(NotStored::Outdated) => {
            context.view.remove(place);
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Where the tags stand in a `SET` that has any: the first, and how many. Nothing where the words
/// make no sense.
pub(crate) fn tags_in_set(request: &Request<'_>) -> Option<(usize, usize)> {
    SetOptions::scan(request).ok()?.0.tags
}

/// How long a value took to make, in ms: above 0, and less than 50 days.
fn delta(argument: &[u8]) -> std::result::Result<u64, CommandError> {
    let delta_ms = u32::try_from(integer(argument)?).ok().filter(|ms| *ms > 0);
    let refused = "ERR DELTA is how long the value took to make, in milliseconds, above 0";
    delta_ms
        .map(u64::from)
        .ok_or_else(|| CommandError::other(refused))
}

fn check_len(context: &Context<'_>, len: usize) -> Result {
    if len > context.string_bytes_max() {
        return Err(CommandError::StringTooLong);
    }
    Ok(())
}

/// What a command would store if it ran now, without looking at what is there: its pairs, and how
/// many ms they are to live. None: it depends on what is there.
///
/// # Errors
/// What is wrong with the request.
#[expect(
    clippy::type_complexity,
    reason = "pairs and a time, taken apart at once"
)]
pub(super) fn written<'r>(
    command: &Command,
    request: &Request<'r>,
    now_ms: u64,
    value_max: usize,
) -> std::result::Result<Option<(Vec<(&'r [u8], &'r [u8])>, Option<u64>)>, CommandError> {
    let (first, moment) = match command.name {
        "set" => {
            let options = SetOptions::parse(request, now_ms)?;
            if options.condition.is_some() || options.get {
                return Ok(None);
            }
            match options.expiry {
                Expiry::At(at) => (2, Some(at)),
                Expiry::None | Expiry::Keep => (2, None),
            }
        }
        "setex" | "psetex" => {
            let is_millis = command.name == "psetex";
            let unit = if is_millis {
                Unit::Millis
            } else {
                Unit::Seconds
            };
            let at = unit.positive_moment(request.argument(2), now_ms, command.name)?;
            (3, Some(at))
        }
        "mset" if !request.len().is_multiple_of(2) => (2, None),
        _ => return Ok(None),
    };
    let keys = request.iter_from(1).step_by(2);
    let values = request.iter_from(first).step_by(2);
    let count = if command.name == "mset" {
        usize::MAX
    } else {
        1
    };
    let pairs: Vec<_> = keys.zip(values).take(count).collect();
    if pairs.iter().any(|(_, value)| value.len() > value_max) {
        return Err(CommandError::StringTooLong);
    }
    Ok(Some((
        pairs,
        moment.map(|at| at.get().saturating_sub(now_ms)),
    )))
}

pub(super) fn setnx(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    check_len(context, request.argument(2).len())?;
    if context.view.contains(place) {
        context.reply.integer(0);
    } else {
        context.view.set(place, request.argument(2), None)?;
        context.reply.integer(1);
    }
    Ok(())
}

pub(super) fn setex(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    set_expiring(context, request, Unit::Seconds, "setex")
}

pub(super) fn psetex(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    set_expiring(context, request, Unit::Millis, "psetex")
}

fn set_expiring(
    context: &mut Context<'_>,
    request: &Request<'_>,
    unit: Unit,
    command: &'static str,
) -> Result {
    let place = context.place(request.argument(1));
    let at = unit.positive_moment(request.argument(2), context.view.now_ms(), command)?;
    check_len(context, request.argument(3).len())?;
    store(
        context,
        place,
        (request.argument(3), Some(at), None),
        [].into_iter(),
    )?;
    context.reply.ok();
    Ok(())
}

pub(super) fn getset(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    check_len(context, request.argument(2).len())?;
    match context.view.read(place) {
        Some(entry) => context.reply.bulk(entry.value()),
        None => context.reply.null(),
    }
    Ok(context.view.set(place, request.argument(2), None)?)
}

pub(super) fn getdel(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    match context.view.read(place) {
        Some(entry) => context.reply.bulk(entry.value()),
        None => context.reply.null(),
    }
    context.view.remove(place);
    Ok(())
}

pub(super) fn getex(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let mut rest = Rest::from(request, 2);
    let mut change = None;
    let mut unit = None;
    while let Some(word) = rest.next() {
        if is_word(word, "persist") && unit.is_none() {
            change = Some(None);
        } else if let Some(given) = Unit::of_option(word)
            && unit.is_none_or(|(present, _)| present == given)
            && change.is_none()
        {
            unit = Some((given, rest.required()?));
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let now_ms = context.view.now_ms();
    let Some(entry) = context.view.read(place) else {
        context.reply.null();
        return Ok(());
    };
    context.reply.bulk(entry.value());
    let had_expiry = entry.expires_at().is_some();
    if let Some((unit, argument)) = unit {
        change = Some(Some(unit.positive_moment(argument, now_ms, "getex")?));
    }
    match change {
        Some(None) if !had_expiry => {}
        Some(expires_at) => context.view.set_expiry(place, expires_at),
        None => {}
    }
    Ok(())
}

pub(super) fn mget(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    if context.session.reads.table.is_some() || context.session.reads.are_told {
        return reads::mget(context, request);
    }
    context.reply.array(request.len() - 1);
    for key in request.iter_from(1) {
        let place = context.place(key);
        match context.view.read(place) {
            Some(entry) => context.reply.bulk(entry.value()),
            None => context.reply.null(),
        }
    }
    Ok(())
}

pub(super) fn mset(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    check_pairs(context, request, "mset")?;
    set_pairs(context, request)?;
    context.reply.ok();
    Ok(())
}

pub(super) fn msetnx(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    check_pairs(context, request, "msetnx")?;
    for key in request.iter_from(1).step_by(2) {
        let place = context.place(key);
        if context.view.contains(place) {
            context.reply.integer(0);
            return Ok(());
        }
    }
    set_pairs(context, request)?;
    context.reply.integer(1);
    Ok(())
}

fn check_pairs(context: &Context<'_>, request: &Request<'_>, command: &'static str) -> Result {
    if request.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity { command });
    }
    request
        .iter_from(2)
        .step_by(2)
        .try_for_each(|value| check_len(context, value.len()))
}

/// Stores the pairs, all or none of them as far as memory goes.
fn set_pairs(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let pairs = || {
        request
            .iter_from(1)
            .step_by(2)
            .zip(request.iter_from(2).step_by(2))
    };
    let (store, db) = (&context.instance.store, context.session.db);
    let writes = || {
        pairs().map(|(key, value)| {
            let key = store.key(key);
            (Place { db, key }, value.len())
        })
    };
    context.view.reserve_all(writes)?;
    for (key, value) in pairs() {
        let place = context.place(key);
        let since = reads::known_of(context, place, None, None).since;
        let write = Write {
            value,
            ..Write::default()
        };
        keep(context, place, write, [].into_iter(), since)?;
    }
    Ok(())
}

pub(super) fn append(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let added = request.argument(2);
    let len = match context.view.shape(place) {
        None => {
            check_len(context, added.len())?;
            context.view.set(place, added, None)?;
            added.len()
        }
        Some((old_len, _)) => {
            check_len(context, old_len.saturating_add(added.len()))?;
            let mut len = 0;
            context.view.update(
                place,
                |old_len| old_len + added.len(),
                |value, old_len| {
                    value[old_len..].copy_from_slice(added);
                    len = value.len();
                    true
                },
            )?;
            len
        }
    };
    context.reply.count(len);
    Ok(())
}

pub(super) fn strlen(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let len = context
        .view
        .read(place)
        .map_or(0, |entry| entry.value().len());
    context.reply.count(len);
    Ok(())
}

pub(super) fn getrange(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let (start, end) = (integer(request.argument(2))?, integer(request.argument(3))?);
    match context.view.read(place) {
        Some(entry) => {
            let value = entry.value();
            context
                .reply
                .bulk(&value[substring(start, end, value.len())]);
        }
        None => context.reply.bulk(b""),
    }
    Ok(())
}

pub(super) fn substr(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    getrange(context, request)
}

pub(super) fn setrange(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let offset = integer(request.argument(2))?;
    let written = request.argument(3);
    let Ok(offset) = usize::try_from(offset) else {
        return Err(CommandError::other("ERR offset is out of range"));
    };
    let old_len = context.view.shape(place).map_or(0, |(len, _)| len);
    if written.is_empty() {
        context.reply.count(old_len);
        return Ok(());
    }
    check_len(context, offset.saturating_add(written.len()))?;
    let range = offset..offset + written.len();
    let mut len = 0;
    context.view.update(
        place,
        |old_len| old_len.max(range.end),
        |value, _| {
            value[range.clone()].copy_from_slice(written);
            len = value.len();
            true
        },
    )?;
    context.reply.count(len);
    Ok(())
}

pub(super) fn incr(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    add(context, request.argument(1), 1)
}

pub(super) fn decr(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    add(context, request.argument(1), -1)
}

pub(super) fn incrby(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    add(context, request.argument(1), integer(request.argument(2))?)
}

pub(super) fn decrby(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let by = integer(request.argument(2))?
        .checked_neg()
        .ok_or_else(|| CommandError::other("ERR decrement would overflow"))?;
    add(context, request.argument(1), by)
}

fn add(context: &mut Context<'_>, key: &[u8], by: i64) -> Result {
    let place = context.place(key);
    let (old, expires_at) = match context.view.peek(place) {
        Some(entry) => (integer(entry.value())?, entry.expires_at()),
        None => (0, None),
    };
    let sum = old
        .checked_add(by)
        .ok_or_else(|| CommandError::other("ERR increment or decrement would overflow"))?;
    let mut digits = itoa::Buffer::new();
    let write = Write {
        value: digits.format(sum).as_bytes(),
        expires_at,
        keeps_tags: true,
        ..Write::default()
    };
    context.view.write(place, write)?;
    context.reply.integer(sum);
    Ok(())
}

pub(super) fn incrbyfloat(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let found = context.view.peek(place);
    let expires_at = found.as_ref().and_then(|entry| entry.expires_at());
    let old = found.as_ref().map_or(&b"0"[..], |entry| entry.value());
    let sum = long_double::add(old, request.argument(2))
        .map_err(|error| CommandError::other(error.to_string()))?;
    let write = Write {
        value: sum.as_bytes(),
        expires_at,
        keeps_tags: true,
        ..Write::default()
    };
    context.view.write(place, write)?;
    context.reply.text(&sum);
    Ok(())
}

/// What LCS replies.
#[derive(Clone, Copy, Debug, Default)]
struct LcsOptions {
    len: bool,
    idx: bool,
    with_match_len: bool,
    match_len_min: usize,
}

impl LcsOptions {
    fn parse(request: &Request<'_>) -> std::result::Result<Self, CommandError> {
        let mut options = Self::default();
        let mut rest = Rest::from(request, 3);
        while let Some(word) = rest.next() {
            if is_word(word, "idx") {
                options.idx = true;
            } else if is_word(word, "len") {
                options.len = true;
            } else if is_word(word, "withmatchlen") {
                options.with_match_len = true;
            } else if is_word(word, "minmatchlen") && rest.left() > 0 {
                options.match_len_min = usize::try_from(integer(rest.required()?)?).unwrap_or(0);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.idx && options.len {
            return Err(CommandError::other(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

pub(super) fn lcs(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let mut value = |index: usize| {
        let place = context.place(request.argument(index));
        context
            .view
            .read(place)
            .map_or_else(Vec::new, |entry| entry.value().to_vec())
    };
    let (first, second) = (value(1), value(2));
    let options = LcsOptions::parse(request)?;
    let bytes_max = context.string_bytes_max() as u64;
    let failed = |error: lcs::LcsError| CommandError::other(error.to_string());
    if options.len {
        let len = lcs::length(&first, &second, bytes_max).map_err(failed)?;
        context.reply.integer(i64::from(len));
        return Ok(());
    }
    let found = lcs::longest(&first, &second, bytes_max).map_err(failed)?;
    if options.idx {
        write_matches(context, &found, options);
    } else {
        context.reply.bulk(&found.bytes);
    }
    Ok(())
}

fn write_matches(context: &mut Context<'_>, found: &lcs::Lcs, options: LcsOptions) {
    let long_enough: Vec<_> = found
        .matches
        .iter()
        .filter(|one| one.byte_len() >= options.match_len_min)
        .collect();
    let reply = &mut *context.reply;
    reply.map(2);
    reply.text("matches");
    reply.array(long_enough.len());
    for one in long_enough {
        reply.array(if options.with_match_len { 3 } else { 2 });
        for range in [&one.a, &one.b] {
            reply.array(2);
            reply.count(*range.start());
            reply.count(*range.end());
        }
        if options.with_match_len {
            reply.count(one.byte_len());
        }
    }
    reply.text("len");
    reply.count(found.bytes.len());
}

/// The value as Redis would keep it, by OBJECT ENCODING.
pub(super) fn encoding(value: &[u8], is_grown: bool) -> &'static str {
    if !is_grown && numbers::parse_integer(value).is_some() {
        "int"
    } else if !is_grown && value.len() <= EMBSTR_BYTES_MAX {
        "embstr"
    } else {
        "raw"
    }
}

/// Redis's `OBJ_ENCODING_EMBSTR_SIZE_LIMIT`.
const EMBSTR_BYTES_MAX: usize = 44;
