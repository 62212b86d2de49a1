//! What clients sent, as it goes into templates.

use crate::config::rules::template::{Place, Template};

use super::{Call, Failure, FailureKind};

/// The bytes that a place stands for. A star that there is none of is empty; a checked file has no
/// such place.
pub(super) fn bytes_of<'a>(call: &Call<'a>, value: &'a [u8], place: Place) -> &'a [u8] {
    match place {
        Place::Key => call.key,
        Place::Value => value,
        Place::Star(number) => {
            let captures: &'a [&'a [u8]] = call.captures;
            let index = usize::from(number).saturating_sub(1);
            captures.get(index).copied().unwrap_or_default()
        }
    }
}

/// A template's bytes, for where no byte means anything but itself.
pub(super) fn plain(template: &Template, call: &Call<'_>) -> Vec<u8> {
    template.fill(|place| bytes_of(call, b"", place))
}

/// A key that cannot be asked for: what it holds has no place where it would go.
pub(super) fn unfit(why: &str) -> Failure {
    Failure::new(FailureKind::Refused, format!("the key does not fit: {why}"))
}
