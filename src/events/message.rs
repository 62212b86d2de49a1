//! What a message says, and the names of keys and tags that are made of it.
//!
//! What stands in a message never becomes anything but bytes of a name. A name that cannot be made
//! (a field is missing, or is no text and no number) makes the message unusable, which is counted
//! and told without its values; the names that can be made count all the same.

use std::fmt;

use crate::config::rules::EventSpec;
use crate::config::rules::naming::{Naming, Piece};
use crate::keyspace::TAG_BYTES_MAX;

/// The longest message, in bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The longest key that is made of a message, in bytes.
const KEY_BYTES_MAX: usize = 64 * 1024;
/// Fields of a message.
const FIELDS_MAX: usize = 1024;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// The channel or the key.
    pub(super) whole: Vec<u8>,
    /// What the stars of its glob caught.
    pub(super) captures: Vec<Vec<u8>>,
    /// The message itself, where it is one text.
    pub(super) payload: Option<Vec<u8>>,
    /// Its fields, where it has any by itself; else those of the JSON object that the payload is.
    pub(super) fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// Why a name could not be made of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Its glob does not fit what came.
    NoCapture,
    /// The payload is no JSON object.
    NotJson,
    /// There are too many fields.
    TooManyFields,
    /// This field is not there.
    NoField(String),
    /// This field is no text and no number.
    NoText(String),
    /// The name is empty, or too long.
    NoName,
    /// The message is too long.
    TooLong,
    /// It was removed before it was read.
    Gone,
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCapture => formatter.write_str("the glob does not fit"),
            Self::NotJson => formatter.write_str("it is no JSON object"),
            Self::TooManyFields => write!(formatter, "it has more than {FIELDS_MAX} fields"),
            Self::NoField(name) => write!(formatter, "it has no field {name:?}"),
            Self::NoText(name) => {
                write!(
                    formatter,
                    "its field {name:?} is no text, number or truth value"
                )
            }
            Self::NoName => formatter.write_str("the name is empty or too long"),
            Self::Gone => formatter.write_str("it was removed before it was read"),
            Self::TooLong => write!(formatter, "it is longer than {MESSAGE_BYTES_MAX} bytes"),
        }
    }
}

/// Names that were made of messages.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) keys: Vec<Box<[u8]>>,
    pub(super) tags: Vec<Box<[u8]>>,
}

impl Names {
    /// Adds those of one message.
    ///
    /// # Errors
    /// Why not all of them could be made; the others are there.
    pub(super) fn add(&mut self, message: &Message, spec: &EventSpec) -> Result<(), Unusable> {
        let mut names = spec.keys.iter().chain(&spec.tags);
        let fields = match &message.fields {
            Some(fields) if fields.len() > FIELDS_MAX => return Err(Unusable::TooManyFields),
            Some(fields) => Fields::Pairs(fields),
            None if names.any(Naming::has_fields) => Fields::parse(message.payload.as_deref()),
            None => Fields::None,
        };
        let mut result = Ok(());
        for (names, bytes_max, into) in [
            (&spec.keys, KEY_BYTES_MAX, &mut self.keys),
            (&spec.tags, TAG_BYTES_MAX, &mut self.tags),
        ] {
            for naming in names {
                match made(naming, message, &fields, bytes_max) {
                    Ok(name) => into.push(name.into()),
                    Err(why) => result = Err(why),
                }
            }
        }
        result
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.tags.len()
    }
}

/// The fields of a message.
enum Fields<'m> {
    None,
    Pairs(&'m [(Vec<u8>, Vec<u8>)]),
    Json(serde_json::Map<String, serde_json::Value>),
}

impl Fields<'_> {
    /// Those of a JSON object.
    fn parse(payload: Option<&[u8]>) -> Self {
        match payload.map(serde_json::from_slice) {
            Some(Ok(serde_json::Value::Object(fields))) => Self::Json(fields),
            Some(Ok(_) | Err(_)) | None => Self::None,
        }
    }

    fn append(&self, name: &str, into: &mut Vec<u8>) -> Result<(), Unusable> {
        use serde_json::Value;
        let missing = || Unusable::NoField(name.to_owned());
        match self {
            Self::None => return Err(Unusable::NotJson),
            Self::Pairs(pairs) => {
                // The last one counts, as in JSON.
                let mut pairs = pairs.iter().rev();
                let found = pairs.find(|(own, _)| own == name.as_bytes());
                into.extend_from_slice(&found.ok_or_else(missing)?.1);
            }
            Self::Json(fields) => match fields.get(name).ok_or_else(missing)? {
                Value::String(text) => into.extend_from_slice(text.as_bytes()),
                Value::Number(number) => into.extend_from_slice(number.to_string().as_bytes()),
                Value::Bool(is_so) => into.extend_from_slice(is_so.to_string().as_bytes()),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(Unusable::NoText(name.to_owned()));
                }
            },
        }
        Ok(())
    }
}

fn made(
    naming: &Naming,
    message: &Message,
    fields: &Fields<'_>,
    bytes_max: usize,
) -> Result<Vec<u8>, Unusable> {
    let mut name = Vec::new();
    for piece in naming.parts() {
        match piece {
            Piece::Text(text) => name.extend_from_slice(text.as_bytes()),
            Piece::Whole => name.extend_from_slice(&message.whole),
            Piece::Star(number) => {
                let at = usize::from(*number).saturating_sub(1);
                let caught = message.captures.get(at).ok_or(Unusable::NoCapture)?;
                name.extend_from_slice(caught);
            }
            Piece::Payload => name.extend_from_slice(message.payload.as_deref().unwrap_or(b"")),
            Piece::Field(field) => fields.append(field, &mut name)?,
        }
        if name.len() > bytes_max {
            return Err(Unusable::NoName);
        }
    }
    if name.is_empty() {
        return Err(Unusable::NoName);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::parse;

    /// The names that an event of pub/sub makes of a payload of the channel `orders.7`.
    fn names(lists: &str, payload: &str) -> (Vec<String>, Result<(), Unusable>) {
        let spec = parse(&format!(
            "[[event]]\nname = 'e'\nkind = 'pubsub'\nchannels = ['*.*']\n{lists}\n"
        ));
        let message = Message {
            whole: b"orders.7".to_vec(),
            captures: vec![b"orders".to_vec(), b"7".to_vec()],
            payload: Some(payload.into()),
            fields: None,
        };
        let mut names = Names::default();
        let result = names.add(&message, &spec.unwrap().events[0]);
        let all = names.keys.into_iter().chain(names.tags);
        let text = |name: Box<[u8]>| String::from_utf8(name.into()).unwrap();
        (all.map(text).collect(), result)
    }

    #[test]
    fn a_name_is_made_of_captures_payload_and_fields() {
        let lists = "keys = ['{1}:{2}', '{0}', 'p:{payload}']\ntags = ['{id}-{ok}-{user}']";
        let payload = r#"{"id": 7.50, "ok": true, "user": "ä", "more": [1, {"id": 8}]}"#;
        let (made, result) = names(lists, payload);
        assert_eq!(result, Ok(()));
        assert_eq!(
            made,
            [
                "orders:7",
                "orders.7",
                &format!("p:{payload}"),
                "7.5-true-ä"
            ]
        );
    }

    #[test]
    fn a_message_without_what_is_asked_for_is_unusable_but_for_its_other_names() {
        let lists = "keys = ['k', 'user:{id}']";
        let missing = |name: &str| Unusable::NoField(name.to_owned());
        let no_text = |name: &str| Unusable::NoText(name.to_owned());
        for (payload, why) in [
            ("", Unusable::NotJson),
            ("7", Unusable::NotJson),
            ("{\"id\": 7", Unusable::NotJson),
            ("{}", missing("id")),
            ("{\"ID\": 7}", missing("id")),
            ("{\"id\": null}", no_text("id")),
            ("{\"id\": [7]}", no_text("id")),
        ] {
            assert_eq!(
                names(lists, payload),
                (vec!["k".to_owned()], Err(why)),
                "{payload}"
            );
        }
        let deep = format!("{{\"id\": {}", "[".repeat(100_000));
        assert_eq!(names(lists, &deep).1, Err(Unusable::NotJson));
    }

    #[test]
    fn a_name_has_bounds() {
        let at_most = |bytes: usize| "x".repeat(bytes);
        let (made, result) = names("keys = ['{payload}']", &at_most(KEY_BYTES_MAX));
        assert_eq!((made.len(), result), (1, Ok(())));
        for (lists, payload) in [
            ("keys = ['{payload}']", at_most(KEY_BYTES_MAX + 1)),
            ("keys = ['{payload}']", String::new()),
            ("tags = ['{payload}']", at_most(TAG_BYTES_MAX + 1)),
        ] {
            assert_eq!(names(lists, &payload), (Vec::new(), Err(Unusable::NoName)));
        }
    }

    #[test]
    fn fields_of_its_own_go_before_json_and_are_bounded() {
        let text = "[[event]]\nname = 'e'\nkind = 'stream'\nurl = 'redis://h'\nstream = 's'\n\
                    group = 'g'\nkeys = ['{id}']\n";
        let spec = &parse(text).unwrap().events[0];
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let mut message = Message {
            fields: Some(vec![field("id", "old"), field("id", "7"), field("x", "8")]),
            ..Message::default()
        };
        let mut names = Names::default();
        assert_eq!(names.add(&message, spec), Ok(()));
        assert_eq!(names.keys, [Box::from(&b"7"[..])]);
        message.fields = Some(vec![field("id", "7"); FIELDS_MAX + 1]);
        assert_eq!(names.add(&message, spec), Err(Unusable::TooManyFields));
        assert_eq!(names.len(), 1);
    }
}
