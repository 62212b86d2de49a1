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

/// The most tags of one value, and the longest of them in bytes.
const TAGS_MAX: usize = 256;
const TAG_BYTES_MAX: usize = 1024;

/// Adds the tags of a text that has commas or spaces between them. A value whose tags are too many
/// is none: without all of its tags it could not be invalidated.
pub(super) fn add_tags(tags: &mut Vec<Vec<u8>>, text: &[u8]) -> Result<(), Failure> {
    let is_between = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
    for tag in text.split(is_between).filter(|tag| !tag.is_empty()) {
        if tags.len() == TAGS_MAX || tag.len() > TAG_BYTES_MAX {
            let text =
                format!("more than {TAGS_MAX} tags, or one of more than {TAG_BYTES_MAX} bytes");
            return Err(Failure::new(FailureKind::BadValue, text));
        }
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_vec());
        }
    }
    Ok(())
}
