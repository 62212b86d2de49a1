//! When keys expire: setting it, telling it, taking it back.

use std::num::NonZeroU64;

use super::Result;
use crate::command::options::{Unit, integer, is_word};
use crate::command::{CommandError, Context};
use crate::resp::Request;

/// On which keys EXPIRE sets an expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ExpireOptions {
    /// NX, XX: those that have none, or that have one.
    has_expiry: Option<bool>,
    /// GT, LT: those whose own is earlier, or later. No expiry is later than any.
    only: Option<Only>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    /// GT
    Later,
    /// LT
    Earlier,
}

impl ExpireOptions {
    fn parse(words: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<Self> {
        let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
        for word in words {
            let word = word.as_ref();
            match () {
                () if is_word(word, "nx") => nx = true,
                () if is_word(word, "xx") => xx = true,
                () if is_word(word, "gt") => gt = true,
                () if is_word(word, "lt") => lt = true,
                () => return Err(unsupported_option(word)),
            }
        }
        if nx && (xx || gt || lt) {
            return Err(CommandError::other(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if gt && lt {
            return Err(CommandError::other(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(Self {
            has_expiry: (nx || xx).then_some(xx),
            only: if gt {
                Some(Only::Later)
            } else {
                lt.then_some(Only::Earlier)
            },
        })
    }

    /// Whether a key with this expiry gets the one at `at`, both in unix time in ms.
    fn admit(self, present: Option<NonZeroU64>, at: i64) -> bool {
        let present = present.map(millis);
        let is_moved_as_asked = match (self.only, present) {
            (None, _) | (Some(Only::Earlier), None) => true,
            (Some(Only::Later), None) => false,
            (Some(Only::Later), Some(present)) => at > present,
            (Some(Only::Earlier), Some(present)) => at < present,
        };
        is_moved_as_asked
            && self
                .has_expiry
                .is_none_or(|wanted| wanted == present.is_some())
    }
}

/// Quotes an option as C prints it, up to a zero byte.
fn unsupported_option(word: &[u8]) -> CommandError {
    let end = word
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(word.len());
    let word = String::from_utf8_lossy(&word[..end]);
    CommandError::other(format!("ERR Unsupported option {word}"))
}

pub(in crate::command) fn expire(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    set_expiry(context, request, Unit::Seconds, "expire")
}

pub(in crate::command) fn pexpire(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    set_expiry(context, request, Unit::Millis, "pexpire")
}

pub(in crate::command) fn expireat(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    set_expiry(context, request, Unit::UnixSeconds, "expireat")
}

pub(in crate::command) fn pexpireat(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    set_expiry(context, request, Unit::UnixMillis, "pexpireat")
}

fn set_expiry(
    context: &mut Context<'_>,
    request: &Request<'_>,
    unit: Unit,
    command: &'static str,
) -> Result {
    let place = context.place(request.argument(1));
    let options = ExpireOptions::parse(request.iter_from(3))?;
    let at = unit.moment(
        integer(request.argument(2))?,
        context.view.now_ms(),
        command,
    )?;
    let Some(present) = context.view.find(place).map(|entry| entry.expires_at()) else {
        context.reply.integer(0);
        return Ok(());
    };
    if !options.admit(present, at) {
        context.reply.integer(0);
        return Ok(());
    }
    // What is not after 1970 has passed as well.
    match u64::try_from(at).ok().and_then(NonZeroU64::new) {
        Some(at) => context.view.set_expiry(place, Some(at)),
        None => {
            context.view.remove(place);
        }
    }
    context.reply.integer(1);
    Ok(())
}

pub(in crate::command) fn persist(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let place = context.place(request.argument(1));
    let had_expiry = context
        .view
        .find(place)
        .is_some_and(|entry| entry.expires_at().is_some());
    if had_expiry {
        context.view.set_expiry(place, None);
    }
    context.reply.integer(i64::from(had_expiry));
    Ok(())
}

pub(in crate::command) fn ttl(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    tell_expiry(context, request, |at, now| seconds(at.saturating_sub(now)))
}

pub(in crate::command) fn pttl(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    tell_expiry(context, request, i64::saturating_sub)
}

pub(in crate::command) fn expiretime(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    tell_expiry(context, request, |at, _| seconds(at))
}

pub(in crate::command) fn pexpiretime(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    tell_expiry(context, request, |at, _| at)
}

/// Replies what `told` makes of the expiry and of now, both in unix time in ms.
fn tell_expiry(
    context: &mut Context<'_>,
    request: &Request<'_>,
    told: fn(i64, i64) -> i64,
) -> Result {
    let place = context.place(request.argument(1));
    let now_ms = i64::try_from(context.view.now_ms()).unwrap_or(i64::MAX);
    let found = context.view.look(place).map(|entry| entry.expires_at());
    context.reply.integer(match found {
        None => NO_KEY,
        Some(None) => NO_EXPIRY,
        Some(Some(at)) => told(millis(at), now_ms),
    });
    Ok(())
}

/// Milliseconds, not below 0, as the nearest number of seconds.
fn seconds(millis: i64) -> i64 {
    millis / 1000 + i64::from(millis % 1000 >= 500)
}

fn millis(at: NonZeroU64) -> i64 {
    i64::try_from(at.get()).unwrap_or(i64::MAX)
}

/// What TTL and its like reply.
const NO_KEY: i64 = -2;
const NO_EXPIRY: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<ExpireOptions> {
        ExpireOptions::parse(words.iter())
    }

    fn admits(words: &[&str], present: u64, at: i64) -> bool {
        options(words).unwrap().admit(NonZeroU64::new(present), at)
    }

    #[test]
    fn expire_takes_options_that_go_together() {
        for words in [
            &[][..],
            &["NX", "nx"],
            &["xx", "gt"],
            &["Lt", "xX"],
            &["gt", "gt"],
        ] {
            assert!(options(words).is_ok(), "{words:?}");
        }
        for words in [["nx", "xx"], ["gt", "nx"], ["lt", "nx"], ["gt", "lt"]] {
            assert!(
                options(&words)
                    .unwrap_err()
                    .to_string()
                    .contains("not compatible")
            );
        }
        let error = options(&["nx", "xx", "a\0b"]).unwrap_err().to_string();
        assert_eq!(
            error, "ERR Unsupported option a",
            "looked for before incompatible ones"
        );
    }

    #[test]
    fn no_expiry_is_later_than_any() {
        assert!(admits(&[], 0, 5) && admits(&[], 9, 5));
        assert!(admits(&["nx"], 0, 5) && !admits(&["nx"], 9, 5));
        assert!(!admits(&["xx"], 0, 5) && admits(&["xx"], 9, 5));
        assert!(!admits(&["gt"], 0, 5) && !admits(&["gt"], 5, 5) && admits(&["gt"], 4, 5));
        assert!(admits(&["lt"], 0, 5) && !admits(&["lt"], 5, 5) && admits(&["lt"], 6, 5));
        assert!(!admits(&["xx", "lt"], 0, 5) && admits(&["xx", "lt"], 6, 5));
    }

    #[test]
    fn seconds_are_the_nearest() {
        assert_eq!([0, 499, 500, 1_499, 1_500].map(seconds), [0, 0, 1, 1, 2]);
        assert_eq!(seconds(i64::MAX), i64::MAX / 1000 + 1);
    }
}
