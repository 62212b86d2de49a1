//! What a setting's value may look like.
//!
//! A [`Kind`] is data: help, documentation, error texts and reading are all derived from it.

use std::borrow::Cow;
use std::fmt;

use super::value::print_memory;

/// The form of a setting's value, with its bounds (inclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    YesNo,
    /// A whole number.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
        /// What is counted.
        unit: Unit,
    },
    /// A number of bytes, with or without a unit: `100`, `1k`, `1kb`, `64mb`, `2g`.
    Memory {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A number of bytes as above, or a share of `maxmemory` such as `5%`.
    MemoryOrPercent,
    /// File permissions, in octal.
    Octal {
        /// All bits that may be set.
        max: u32,
    },
    /// One word of a list.
    Choice(&'static [&'static str]),
    /// Any text, the empty one included.
    Text,
    /// A path; empty is none.
    Path,
    /// Addresses separated by spaces.
    Addresses,
    /// Groups of `class hard soft seconds`, separated by spaces.
    BufferLimits,
    /// A number from 0 to 1.
    Share,
    /// Percentages separated by spaces; empty is none.
    Percentiles,
    /// TLS versions separated by spaces.
    TlsVersions,
    /// Names of the list separated by colons, and others that are left out; empty is all of them.
    CipherSuites(&'static [&'static str]),
    /// Pairs of `seconds changes`; empty is none.
    SavePoints,
    /// Letters of Redis's keyspace event classes; empty is none.
    EventClasses,
}

/// What an integer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    None,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
}

/// Why a text is not a value of its kind: Redis's words, as CONFIG SET replies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError(pub(super) Cow<'static, str>);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

impl From<&'static str> for ValueError {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for ValueError {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl Kind {
    /// What a value must be, as a phrase for an operator: "a whole number from 0 to 65535".
    #[must_use]
    pub fn expectation(self) -> String {
        match self {
            Self::YesNo => "yes or no".to_owned(),
            Self::Integer { min, max, unit } => {
                let what = match unit {
                    Unit::None => "a whole number",
                    Unit::Seconds => "a whole number of seconds",
                    Unit::Milliseconds => "a whole number of milliseconds",
                    Unit::Microseconds => "a whole number of microseconds",
                };
                format!("{what} {}", range(i128::from(min), i128::from(max)))
            }
            Self::Memory { min, max } if max >= SIZE_MAX => {
                format!(
                    "a number of bytes from {}, such as 100mb or 2gb",
                    print_memory(min)
                )
            }
            Self::Memory { min, max } => {
                format!(
                    "a number of bytes from {} to {}",
                    print_memory(min),
                    print_memory(max)
                )
            }
            Self::MemoryOrPercent => "a number of bytes, such as 100mb, or a percentage".to_owned(),
            Self::Octal { max } => format!("an octal number from 0 to {max:o}"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Addresses => "at most 16 addresses or host names separated by spaces, each with \
                                a leading - if it may be missing"
                .to_owned(),
            Self::BufferLimits => {
                "groups of: normal, replica or pubsub, a hard limit, a soft limit, seconds"
                    .to_owned()
            }
            Self::Share => "a number from 0 to 1".to_owned(),
            Self::Percentiles => "numbers from 0 to 100 separated by spaces".to_owned(),
            Self::TlsVersions => "TLSv1.2, TLSv1.3 or both".to_owned(),
            Self::CipherSuites(names) => format!("names of {}, with : between", names.join(", ")),
            Self::SavePoints => "pairs of seconds and changes".to_owned(),
            Self::EventClasses => "letters of Ag$lshzxeKEtmdn".to_owned(),
        }
    }

    /// What stands for the value in `--help`.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::YesNo => "yes|no",
            Self::Integer { unit, .. } => match unit {
                Unit::None => "number",
                Unit::Seconds => "seconds",
                Unit::Milliseconds => "ms",
                Unit::Microseconds => "us",
            },
            Self::Memory { .. } | Self::MemoryOrPercent => "bytes",
            Self::Octal { .. } => "octal",
            Self::Choice(_) => "word",
            Self::Text => "text",
            Self::Path => "path",
            Self::Addresses => "addresses",
            Self::BufferLimits => "limits",
            Self::Share => "share",
            Self::Percentiles => "percentages",
            Self::TlsVersions => "versions",
            Self::CipherSuites(_) => "names",
            Self::SavePoints => "points",
            Self::EventClasses => "letters",
        }
    }

    /// Whether the value is a list with spaces between, which a TOML array may stand for.
    pub(super) fn is_list(self) -> bool {
        match self {
            Self::Addresses | Self::BufferLimits | Self::Percentiles | Self::TlsVersions => true,
            Self::SavePoints => true,
            Self::YesNo
            | Self::Integer { .. }
            | Self::Memory { .. }
            | Self::MemoryOrPercent
            | Self::Octal { .. }
            | Self::Choice(_)
            | Self::Share
            | Self::Text
            | Self::Path
            | Self::CipherSuites(_)
            | Self::EventClasses => false,
        }
    }
}

/// The upper bound of Redis's sizes, which says nothing to an operator.
const SIZE_MAX: u64 = 9_223_372_036_854_775_807;

/// "from 0 to 65535", or "from 0" where the upper bound is only the type's.
fn range(min: i128, max: i128) -> String {
    if max >= i128::from(SIZE_MAX) {
        format!("from {min}")
    } else {
        format!("from {min} to {max}")
    }
}
