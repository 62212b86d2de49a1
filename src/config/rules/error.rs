//! What is wrong with a file's rules, and where.

use std::fmt;
use std::path::Path;

use crate::config::{ConfigError, Source};

/// How much of a line a message shows.
const EXCERPT_CHARS_MAX: usize = 100;
/// Keys whose values may be secret.
const SECRETS: &[&str] = &["url", "password", "basic-auth", "bearer-token", "headers"];

/// What is wrong in one line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// What stands there, without what may be secret.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Error {
    /// Wrong at this byte of the file.
    pub(super) fn at(file: &str, byte: usize, why: String) -> Self {
        let before = &file.as_bytes()[..byte.min(file.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let text = file.lines().nth(line - 1).unwrap_or_default();
        let text = shown(text);
        Self { line, text, why }
    }

    /// The same as an error of the settings' file.
    #[must_use]
    pub fn in_file(self, path: &Path) -> ConfigError {
        let source = Source::Line {
            path: path.to_owned(),
            number: self.line,
            text: self.text,
        };
        ConfigError::Refused(source, self.why)
    }
}

/// Whether what a key is set to must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// A line as it may be shown: of one with a secret, or a URL that may have a password, only the
/// key.
pub(in crate::config) fn shown(line: &str) -> String {
    let (key, _) = line.split_once('=').unwrap_or((line, ""));
    let key = key.trim();
    if is_secret(key.trim_matches(['"', '\''])) || line.contains("://") {
        let key: String = key.chars().take_while(|c| !c.is_whitespace()).collect();
        format!("{key} = ...")
    } else {
        line.chars().take(EXCERPT_CHARS_MAX).collect()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}: {}\n  {} | {}",
            self.line, self.why, self.line, self.text
        )
    }
}

impl std::error::Error for Error {}
