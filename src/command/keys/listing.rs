//! Which keys there are. The shards are looked at one after the other, each locked for itself.

use super::{Result, STRING};
use crate::command::options::{Rest, integer, is_word};
use crate::command::{CommandError, Context, glob};
use crate::resp::{Reply, Request};

pub(in crate::command) fn randomkey(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    match context.view.random_key(context.session.db) {
        Some(key) => context.reply.bulk(&key),
        None => context.reply.null(),
    }
    Ok(())
}

pub(in crate::command) fn dbsize(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let len = context.view.len(context.session.db);
    context.reply.count(len);
    Ok(())
}

pub(in crate::command) fn keys(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let pattern = Pattern::of(request.argument(1));
    let reply = &mut *context.reply;
    let header = reply.deferred();
    let mut count = 0;
    context.view.for_each(context.session.db, |entry| {
        if pattern.matches(entry.key()) {
            reply.bulk(entry.key());
            count += 1;
        }
    });
    reply.finish_array(header, count);
    Ok(())
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::command) enum Pattern<'a> {
    Any,
    Glob(&'a [u8]),
}

impl<'a> Pattern<'a> {
    /// A lone star is no glob: it stands for the empty key as well.
    pub(in crate::command) fn of(pattern: &'a [u8]) -> Self {
        if pattern == b"*" {
            Self::Any
        } else {
            Self::Glob(pattern)
        }
    }

    pub(in crate::command) fn matches(self, key: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Glob(pattern) => glob::matches(pattern, key, glob::Case::Sensitive),
        }
    }
}

/// What SCAN returns.
struct ScanOptions<'a> {
    pattern: Pattern<'a>,
    /// About how many keys it looks at.
    count: usize,
    /// Whether keys of the type asked for, if one is, can be there.
    has_type: bool,
}

impl<'a> ScanOptions<'a> {
    fn parse(request: &Request<'a>) -> Result<Self> {
        let mut options = Self {
            pattern: Pattern::Any,
            count: SCAN_COUNT,
            has_type: true,
        };
        let mut rest = Rest::from(request, 2);
        while let Some(word) = rest.next() {
            if is_word(word, "count") && rest.left() > 0 {
                options.count = match integer(rest.required()?)? {
                    count @ 1.. => usize::try_from(count).unwrap_or(usize::MAX),
                    _ => return Err(CommandError::Syntax),
                };
            } else if is_word(word, "match") && rest.left() > 0 {
                options.pattern = Pattern::of(rest.required()?);
            } else if is_word(word, "type") && rest.left() > 0 {
                options.has_type = is_word(rest.required()?, STRING);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

pub(in crate::command) fn scan(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let cursor = parse_cursor(request.argument(1))
        .ok_or_else(|| CommandError::other("ERR invalid cursor"))?;
    let ScanOptions {
        pattern,
        count,
        has_type,
    } = ScanOptions::parse(request)?;
    // The cursor is replied before the keys, and known after them.
    let mut keys = Reply::new(context.reply.protocol());
    let mut keys_len = 0;
    let cursor = context
        .view
        .scan(context.session.db, cursor, count, |entry| {
            if has_type && pattern.matches(entry.key()) {
                keys.bulk(entry.key());
                keys_len += 1;
            }
        });
    let mut digits = itoa::Buffer::new();
    context.reply.array(2);
    context.reply.text(digits.format(cursor));
    context.reply.array(keys_len);
    context.reply.raw(keys.bytes());
    Ok(())
}

/// Reads a cursor as C's `strtoul` does: a sign is taken (and wraps around), nothing is zero, and
/// a zero byte ends it; but no space may lead.
pub(in crate::command) fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let (is_negative, digits) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let cursor = std::str::from_utf8(digits).ok()?.parse::<u64>().ok()?;
    Some(if is_negative {
        cursor.wrapping_neg()
    } else {
        cursor
    })
}

/// Keys that SCAN looks at unless told otherwise.
const SCAN_COUNT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_strtoul_takes() {
        let accepted: [(&[u8], u64); 8] = [
            (b"0", 0),
            (b"", 0),
            (b"007", 7),
            (b"+7", 7),
            (b"-1", u64::MAX),
            (b"18446744073709551615", u64::MAX),
            (b"5\0x", 5),
            (b"\0", 0),
        ];
        for (text, cursor) in accepted {
            assert_eq!(parse_cursor(text), Some(cursor), "{}", text.escape_ascii());
        }
        let refused: [&[u8]; 8] = [
            b" 1",
            b"1 ",
            b"-",
            b"+",
            b"+-1",
            b"1x",
            b"18446744073709551616",
            b"\xff",
        ];
        for text in refused {
            assert_eq!(parse_cursor(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_lone_star_stands_for_the_empty_key_too() {
        assert!(Pattern::of(b"*").matches(b""));
        assert!(!Pattern::of(b"**").matches(b""));
        assert!(Pattern::of(b"").matches(b""));
        assert!(Pattern::of(b"a*").matches(b"ab"));
    }
}
