//! Why a call did not do what it was to do.

use std::fmt;

/// The longest text of a failure, in bytes: it may be what an origin said.
const TEXT_BYTES_MAX: usize = 200;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// There was no answer by the deadline. What it did is unknown.
    Timeout,
    /// Too many calls waited already. It was not made.
    QueueFull,
    /// The origin failed lately and is left alone. It was not made.
    BreakerOpen,
    /// There is no connection to it, or no such program. It was not made.
    Connect,
    /// The origin answered: no.
    Refused,
    /// The value is longer than allowed.
    TooLarge,
    /// What it answered is no value.
    BadValue,
    /// It was broken off. What it did is unknown.
    Lost,
    /// A bug of ours.
    Crashed,
}

impl FailureKind {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::QueueFull,
        Self::BreakerOpen,
        Self::Connect,
        Self::Refused,
        Self::TooLarge,
        Self::BadValue,
        Self::Lost,
        Self::Crashed,
    ];

    /// What figures call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::QueueFull => "queue_full",
            Self::BreakerOpen => "breaker_open",
            Self::Connect => "connect",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::BadValue => "bad_value",
            Self::Lost => "lost",
            Self::Crashed => "crashed",
        }
    }
}

/// Why a call did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it was.
    pub kind: FailureKind,
    /// What it was, in one line of printable characters: ours, or the origin's own words.
    pub text: String,
    /// Whether it says that the origin is not well, rather than that this one call was wrong.
    pub(super) is_ill: bool,
}

impl Failure {
    /// A failure of this kind; of its text, the first line counts.
    #[must_use]
    pub fn new(kind: FailureKind, text: impl AsRef<str>) -> Self {
        let is_ill = matches!(
            kind,
            FailureKind::Timeout | FailureKind::Connect | FailureKind::Lost | FailureKind::Crashed
        );
        Self {
            kind,
            text: line(text.as_ref()),
            is_ill,
        }
    }

    /// A call that was dropped before it ended, by a bug of ours.
    #[must_use]
    pub fn crashed() -> Self {
        Self::new(FailureKind::Crashed, "the loader crashed")
    }

    /// The origin said no because of how it is, not because of what was asked.
    pub(super) fn ill(text: impl AsRef<str>) -> Self {
        Self {
            is_ill: true,
            ..Self::new(FailureKind::Refused, text)
        }
    }

    pub(super) fn too_large(max: usize) -> Self {
        let text = format!("the value is longer than max-value, {max} bytes");
        Self::new(FailureKind::TooLarge, text)
    }
}

/// The first line, as far as it can be printed.
fn line(text: &str) -> String {
    let text = text.trim().lines().next().unwrap_or_default();
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    let mut end = line.len().min(TEXT_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
