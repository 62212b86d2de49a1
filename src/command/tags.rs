//! `TAG.*`: which keys belong together, and to invalidate them together.
//!
//! A tag belongs to a database, as its keys do. What a tag is, and when its keys are not there any
//! more, is `store::tags`' business.

use super::keys::{Pattern, parse_cursor};
use super::options::{Rest, integer, is_word};
use super::{CommandError, Context};
pub(crate) use crate::keyspace::TAGS_PER_KEY_MAX;
use crate::keyspace::{NotStored, TAG_BYTES_MAX};
use crate::resp::{Reply, Request};

type Result<T = ()> = std::result::Result<T, CommandError>;

/// `TAG.ADD key tag [tag ...]`: how many of them are new to the key; 0 where there is no such key.
pub(super) fn add(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    check(request.iter_from(2))?;
    refuse_in_front(context, "tag.add")?;
    let place = context.place(request.argument(1));
    let added = context.view.add_tags(place, request.iter_from(2))?;
    context.reply.count(added);
    Ok(())
}

/// `TAG.REM key tag [tag ...]`: how many of them the key had.
pub(super) fn rem(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    refuse_in_front(context, "tag.rem")?;
    let place = context.place(request.argument(1));
    let removed = context.view.remove_tags(place, request.iter_from(2));
    context.reply.count(removed);
    Ok(())
}

/// `TAG.OF key`: its tags, in the order in which it got them.
pub(super) fn of(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    refuse_in_front(context, "tag.of")?;
    let place = context.place(request.argument(1));
    let tags = context.view.tags_of(place);
    context.reply.set(tags.len());
    tags.iter().for_each(|tag| context.reply.bulk(tag));
    Ok(())
}

/// `TAG.MEMBERS tag`: its keys.
pub(super) fn members(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    refuse_in_front(context, "tag.members")?;
    let keys = context
        .view
        .tag_members(context.session.db, request.argument(1));
    context.reply.set(keys.len());
    keys.iter().for_each(|key| context.reply.bulk(key));
    Ok(())
}

/// `TAG.CARD tag`: how many keys it has.
pub(super) fn card(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    refuse_in_front(context, "tag.card")?;
    let card = context
        .view
        .tag_card(context.session.db, request.argument(1));
    context.reply.count(card);
    Ok(())
}

/// `TAG.SCAN cursor [MATCH pattern] [COUNT count]`: tags that have keys, as SCAN does it.
pub(super) fn scan(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let Scan {
        cursor,
        pattern,
        count,
    } = Scan::parse(request)?;
    refuse_in_front(context, "tag.scan")?;
    let mut names = Reply::new(context.reply.protocol());
    let mut names_len = 0;
    let db = context.session.db;
    let cursor = context.view.scan_tags(db, cursor, count, |tag| {
        if pattern.matches(tag) {
            names.bulk(tag);
            names_len += 1;
        }
    });
    let mut digits = itoa::Buffer::new();
    context.reply.array(2);
    context.reply.text(digits.format(cursor));
    context.reply.array(names_len);
    context.reply.raw(names.bytes());
    Ok(())
}

/// What a `TAG.SCAN` asks for.
pub(crate) struct Scan<'r> {
    cursor: u64,
    pattern: Pattern<'r>,
    count: usize,
}

impl<'r> Scan<'r> {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(request: &Request<'r>) -> Result<Self> {
        let cursor = parse_cursor(request.argument(1))
            .ok_or_else(|| CommandError::other("ERR invalid cursor"))?;
        let (mut pattern, mut count) = (Pattern::Any, SCAN_COUNT);
        let mut rest = Rest::from(request, 2);
        while let Some(word) = rest.next() {
            if is_word(word, "match") && rest.left() > 0 {
                pattern = Pattern::of(rest.required()?);
            } else if is_word(word, "count") && rest.left() > 0 {
                count = match integer(rest.required()?)? {
                    count @ 1.. => usize::try_from(count).unwrap_or(usize::MAX),
                    _ => return Err(CommandError::Syntax),
                };
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(Self {
            cursor,
            pattern,
            count,
        })
    }
}

/// `TAG.INVALIDATE [SOFT] tag [tag ...]`: how many keys that outdates, one that carries several
/// of the tags counted for each. A lone argument is a tag, whatever it says.
pub(super) fn invalidate(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    refuse_in_front(context, "tag.invalidate")?;
    let (db, tags) = (context.session.db, invalidated(request));
    let keys = context.view.invalidate_tags(db, tags, is_soft(request));
    context.reply.count(keys);
    Ok(())
}

fn is_soft(request: &Request<'_>) -> bool {
    request.len() > 2 && is_word(request.argument(1), "soft")
}

/// The tags that a `TAG.INVALIDATE` names.
pub(crate) fn invalidated<'r>(request: &Request<'r>) -> impl Iterator<Item = &'r [u8]> {
    request.iter_from(if is_soft(request) { 2 } else { 1 })
}

/// `TAGS n tag [tag ...]`: where the tags stand.
pub(super) fn given(request: &Request<'_>, rest: &mut Rest<'_>) -> Result<(usize, usize)> {
    let count = integer(rest.required()?)?;
    let first = request.len() - rest.left();
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| CommandError::other("ERR TAGS is followed by how many"))?;
    if count > rest.left() {
        return Err(CommandError::Syntax);
    }
    check(request.iter_from(first).take(count))?;
    for _ in 0..count {
        rest.required()?;
    }
    Ok((first, count))
}

/// As a front, what comes here is what cannot go upstream as one request.
fn refuse_in_front(context: &Context<'_>, command: &str) -> Result {
    if context.instance.upstream.is_none() {
        return Ok(());
    }
    let text = format!("ERR '{command}' needs a shared connection in front of a cluster");
    Err(CommandError::other(text))
}

/// What is wrong with tags that a client gives to a key.
///
/// # Errors
/// There are too many, or one is too long or empty.
pub(crate) fn check<'t>(tags: impl Iterator<Item = &'t [u8]>) -> Result {
    for (index, tag) in tags.enumerate() {
        if index == TAGS_PER_KEY_MAX {
            return Err(NotStored::TooManyTags.into());
        }
        if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
            let text = format!("ERR a tag has 1 to {TAG_BYTES_MAX} bytes");
            return Err(CommandError::other(text));
        }
    }
    Ok(())
}

/// Tags that TAG.SCAN looks at where the client does not say.
const SCAN_COUNT: usize = 10;
