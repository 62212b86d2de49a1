//! Typed, checked reading of arguments that several commands share.

use std::num::NonZeroU64;

use super::{CommandError, numbers};
use crate::resp::Request;

/// Reads an integer.
///
/// # Errors
/// When it is none of 64 bits.
pub fn integer(text: &[u8]) -> Result<i64, CommandError> {
    numbers::parse_integer(text).ok_or(CommandError::NotAnInteger)
}

/// Whether an argument is this word, in any case.
#[must_use]
pub fn is_word(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// How a moment is told: from now or since 1970, in seconds or in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// EX
    Seconds,
    /// PX
    Millis,
    /// EXAT
    UnixSeconds,
    /// PXAT
    UnixMillis,
}

impl Unit {
    /// The unit that an option of SET and GETEX stands for.
    #[must_use]
    pub fn of_option(word: &[u8]) -> Option<Self> {
        [
            ("ex", Self::Seconds),
            ("px", Self::Millis),
            ("exat", Self::UnixSeconds),
            ("pxat", Self::UnixMillis),
        ]
        .into_iter()
        .find_map(|(name, unit)| is_word(word, name).then_some(unit))
    }

    /// The unix time in ms that `value` tells.
    ///
    /// # Errors
    /// When it is beyond 64 bits; `command` is how the text names the command.
    pub fn moment(
        self,
        value: i64,
        now_ms: u64,
        command: &'static str,
    ) -> Result<i64, CommandError> {
        let invalid = CommandError::InvalidExpire { command };
        let millis = match self {
            Self::Seconds | Self::UnixSeconds => value.checked_mul(1000),
            Self::Millis | Self::UnixMillis => Some(value),
        };
        let since = match self {
            Self::Seconds | Self::Millis => i64::try_from(now_ms).unwrap_or(i64::MAX),
            Self::UnixSeconds | Self::UnixMillis => 0,
        };
        millis
            .and_then(|millis| millis.checked_add(since))
            .ok_or(invalid)
    }

    /// As [`Self::moment`], for options whose value must be above 0.
    ///
    /// # Errors
    /// When it is not, or beyond 64 bits.
    pub fn positive_moment(
        self,
        argument: &[u8],
        now_ms: u64,
        command: &'static str,
    ) -> Result<NonZeroU64, CommandError> {
        let value = integer(argument)?;
        if value <= 0 {
            return Err(CommandError::InvalidExpire { command });
        }
        let at = self.moment(value, now_ms, command)?;
        u64::try_from(at)
            .ok()
            .and_then(NonZeroU64::new)
            .ok_or(CommandError::InvalidExpire { command })
    }
}

/// An index from the end (-1 is the last) as one from the start; both may be out of the string.
#[must_use]
pub fn from_start(index: i64, len: usize) -> i64 {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    if index < 0 {
        index.saturating_add(len)
    } else {
        index
    }
}

/// The part of a string that GETRANGE's start and end stand for.
#[must_use]
pub fn substring(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    if len == 0 || (start < 0 && end < 0 && start > end) {
        return 0..0;
    }
    let start = from_start(start, len).max(0);
    let end = from_start(end, len).max(0);
    let last = i64::try_from(len).unwrap_or(i64::MAX) - 1;
    let end = end.min(last);
    if start > end {
        return 0..0;
    }
    let index = |at: i64| usize::try_from(at).unwrap_or(0);
    index(start)..index(end) + 1
}

/// The remaining arguments, one at a time.
pub struct Rest<'a> {
    request: Request<'a>,
    next: usize,
}

impl<'a> Rest<'a> {
    /// The arguments from `first` on.
    #[must_use]
    pub fn from(request: &Request<'a>, first: usize) -> Self {
        Self {
            request: *request,
            next: first,
        }
    }

    /// The next one, which must be there.
    ///
    /// # Errors
    /// A syntax error if there is none.
    pub fn required(&mut self) -> Result<&'a [u8], CommandError> {
        self.next().ok_or(CommandError::Syntax)
    }

    /// How many are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.request.len().saturating_sub(self.next)
    }
}

impl<'a> Iterator for Rest<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let argument = self.request.get(self.next)?;
        self.next += 1;
        Some(argument)
    }
}
