//! What the operator, or a client of CONFIG, must change.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::kind::{Kind, ValueError};
use super::rules;
use super::table::{Setting, closest, settings, variable};

/// Why the server does not start. Printed by `main`, which exits with code 2.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The command line is not understood: clap's words.
    Usage(String),
    /// The file at this path cannot be read.
    Unreadable(PathBuf, io::Error),
    /// What stands at one place is refused, for this reason.
    Refused(Source, String),
    /// Settings do not go together, for this reason.
    Conflict(&'static str),
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag, with its dashes.
    Flag(String),
    /// An environment variable.
    Variable(String),
    /// A line of the file.
    Line {
        /// The file, as it was named.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
        /// The line itself.
        text: String,
    },
}

impl ConfigError {
    /// There is no setting of this name; says which one was probably meant.
    pub(super) fn unknown(source: Source, name: &str) -> Self {
        let names = settings().flat_map(|setting| [Some(setting.name), setting.shape.alias]);
        let meant = closest(name, names.flatten()).map(|meant| match source {
            Source::Flag(_) => format!("; did you mean --{meant}?"),
            Source::Variable(_) => format!("; did you mean {}?", variable(meant)),
            Source::Line { .. } => format!("; did you mean {meant}?"),
        });
        let why = format!("there is no such setting{}", meant.unwrap_or_default());
        Self::Refused(source, why)
    }

    /// The setting cannot have this value; says what it can have.
    pub(super) fn bad_value(
        source: Source,
        setting: &Setting,
        value: &str,
        error: &ValueError,
    ) -> Self {
        let shown = if setting.shape.is_sensitive {
            "the value"
        } else {
            &format!("{value:?}")
        };
        let kind = setting.shape.kind;
        let why = if setting.is_fixed() && kind.canonical(value).is_ok() {
            format!("{shown} is {error}")
        } else if let Kind::CipherSuites(_) = kind {
            format!("{shown} is refused: {error}")
        } else {
            let meant = if let Kind::Choice(words) = kind {
                closest(value, words.iter().copied())
            } else {
                None
            };
            let meant = meant
                .map(|word| format!("; did you mean {word}?"))
                .unwrap_or_default();
            format!("{shown} is not {}{meant}", kind.expectation())
        };
        Self::Refused(source, why)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Unreadable(path, error) => write!(f, "{}: {}", path.display(), plain(error)),
            Self::Refused(source, why) => write!(f, "{source}: {why}{}", source.excerpt()),
            Self::Conflict(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Unreadable(_, error) = self {
            Some(error)
        } else {
            None
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::Line { path, number, .. } => write!(f, "{}:{number}", path.display()),
        }
    }
}

impl Source {
    /// The line of a file, to be shown below the message, without what is secret in it.
    fn excerpt(&self) -> String {
        let Self::Line { number, text, .. } = self else {
            return String::new();
        };
        let key = text.split('=').next().unwrap_or_default();
        let key = key.trim().trim_matches(['"', '\'']);
        let is_secret = settings().any(|row| row.name == key && row.shape.is_sensitive);
        let text = if is_secret {
            format!("{key} = ...")
        } else {
            rules::shown(text)
        };
        format!("\n  {number} | {text}")
    }
}

/// Why CONFIG SET changed nothing: the error reply, without its leading `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetError {
    /// There is no setting of this name.
    Unknown(String),
    /// The setting cannot have this value.
    Failed {
        /// The name the client gave.
        name: String,
        /// Redis's words.
        why: String,
    },
}

impl SetError {
    /// For the part of the server that could not put a new value into effect: a port that is taken.
    #[must_use]
    pub fn failed(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Failed {
            name: name.into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A reply is one line, whatever a client called its setting.
        let line = |text: &str| text.replace(['\r', '\n'], " ");
        match self {
            Self::Unknown(name) => {
                let name = line(name);
                write!(
                    f,
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                )
            }
            Self::Failed { name, why } => {
                let (name, why) = (line(name), line(why));
                write!(
                    f,
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
                )
            }
        }
    }
}

impl std::error::Error for SetError {}

/// Why CONFIG REWRITE wrote nothing: the error reply, without its leading `-`.
#[derive(Debug)]
pub enum RewriteError {
    /// The settings came from no file.
    NoFile,
    /// The file cannot be read or written.
    Io(io::Error),
    /// The file has become something else than TOML.
    Syntax(String),
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("ERR The server is running without a config file"),
            Self::Io(error) => write!(f, "ERR Rewriting config file: {}", plain(error)),
            Self::Syntax(why) => write!(f, "ERR Rewriting config file: {why}"),
        }
    }
}

impl std::error::Error for RewriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Io(error) = self {
            Some(error)
        } else {
            None
        }
    }
}

impl From<io::Error> for RewriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The system's words for an error, without the number Rust adds.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
