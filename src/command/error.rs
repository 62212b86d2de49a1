//! What a client must change. Goes out as an error reply; the connection stays open.

use std::borrow::Cow;
use std::fmt;

use crate::keyspace::{NotStored, TAGS_PER_KEY_MAX};
use crate::store::Full;

/// Why a command failed, in Redis's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// Options that do not go together, or are none.
    Syntax,
    /// An argument or a value that should be a 64-bit integer.
    NotAnInteger,
    /// An argument or a value that should be a float.
    NotAFloat,
    /// An index or a number outside of its range.
    OutOfRange,
    /// A database that there is not.
    InvalidDbIndex,
    /// An expiry that is not above 0, or beyond what can be told.
    InvalidExpire {
        /// The command, as the text names it.
        command: &'static str,
    },
    /// A string would become longer than allowed.
    StringTooLong,
    /// The wrong number of arguments, where the table's arity cannot tell.
    WrongArity {
        /// The command's name.
        command: &'static str,
    },
    /// A key that must be there.
    NoSuchKey,
    /// Memory is full and nobody may be evicted.
    OutOfMemory,
    /// A command that is not run here, only passed to an upstream.
    Unsupported(&'static str),
    /// The request has to wait, and is to be run again then. Never told to a client.
    Waits,
    /// Anything else, its code included.
    Other(Cow<'static, str>),
}

impl CommandError {
    /// An error with a text of its own, its code included.
    pub fn other(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Other(text.into())
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Syntax => "ERR syntax error",
            Self::NotAnInteger => "ERR value is not an integer or out of range",
            Self::NotAFloat => "ERR value is not a valid float",
            Self::OutOfRange => "ERR value is out of range",
            Self::InvalidDbIndex => "ERR DB index is out of range",
            Self::InvalidExpire { command } => {
                return write!(formatter, "ERR invalid expire time in '{command}' command");
            }
            Self::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::WrongArity { command } => {
                return write!(
                    formatter,
                    "ERR wrong number of arguments for '{command}' command"
                );
            }
            Self::NoSuchKey => "ERR no such key",
            Self::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::Unsupported(name) => {
                return write!(
                    formatter,
                    "ERR '{name}' is not supported by corral without an upstream"
                );
            }
            Self::Waits => "ERR the command has to wait",
            Self::Other(text) => text,
        })
    }
}

impl std::error::Error for CommandError {}

impl From<NotStored> for CommandError {
    fn from(why: NotStored) -> Self {
        match why {
            NotStored::Full => Self::OutOfMemory,
            NotStored::TooManyTags => Self::other(TOO_MANY_TAGS),
            NotStored::Outdated => Self::other("ERR a tag was invalidated meanwhile"),
        }
    }
}

impl From<Full> for CommandError {
    fn from(_: Full) -> Self {
        Self::OutOfMemory
    }
}

pub(crate) const TOO_MANY_TAGS: &str = "ERR a key has at most 128 tags";
const _: () = assert!(TAGS_PER_KEY_MAX == 128, "as the text says");
