//! Names of keys and tags, made of what a message says.
//!
//! `{1}` to `{9}` is what the first to the ninth star of a channel's or key's glob caught, `{0}`
//! the whole channel or key, `{payload}` the whole message, and any other word the field of that
//! name. `{{` and `}}` are braces. What a kind of event does not have is refused when the file is
//! read.

use super::template::parts_of;

/// The longest name of a field, in bytes.
const FIELD_BYTES_MAX: usize = 256;

/// A name with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    parts: Vec<Piece>,
}

/// A part of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// The whole channel, or key.
    Whole,
    /// What the star of this number caught, counted from 1.
    Star(u8),
    /// The whole message.
    Payload,
    /// A field of the message.
    Field(String),
}

/// What the messages of a kind have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Says {
    /// A channel or a key: what `{0}` is. `key`: `{key}` is the same, and not a field.
    pub whole: Whole,
    /// Stars of its glob.
    pub stars: u8,
    /// A payload that is no field.
    pub payload: bool,
    /// Fields.
    pub fields: bool,
}

/// What `{0}` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// Nothing: it is refused.
    None,
    /// A channel.
    Channel,
    /// A key.
    Key,
}

impl Naming {
    /// Reads a name.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str, says: Says) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a name may not be empty".to_owned());
        }
        let parts = parts_of(text, Piece::Text, |name| place(name, says))?;
        Ok(Self { parts })
    }

    /// Its parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Piece] {
        &self.parts
    }

    /// Whether it names a field.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        let is_field = |part: &Piece| matches!(part, Piece::Field(_));
        self.parts.iter().any(is_field)
    }

    /// The glob of all names that it can make.
    #[must_use]
    pub fn glob(&self) -> Vec<u8> {
        let mut glob = Vec::new();
        for part in &self.parts {
            match part {
                Piece::Text(text) => {
                    for byte in text.bytes() {
                        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
                            glob.push(b'\\');
                        }
                        glob.push(byte);
                    }
                }
                Piece::Whole | Piece::Star(_) | Piece::Payload | Piece::Field(_) => {
                    if glob.last() != Some(&b'*') || glob.ends_with(b"\\*") {
                        glob.push(b'*');
                    }
                }
            }
        }
        glob
    }
}

fn place(name: &str, says: Says) -> Result<Piece, String> {
    match name.as_bytes() {
        b"0" if says.whole == Whole::None => {
            Err("{0} is a channel or a key, and there is none".to_owned())
        }
        b"0" => Ok(Piece::Whole),
        b"key" if says.whole == Whole::Key => Ok(Piece::Whole),
        [digit @ b'1'..=b'9'] => {
            let (star, stars) = (digit - b'0', says.stars);
            if star > stars {
                return Err(format!(
                    "{{{star}}} is asked for, and there are {stars} stars"
                ));
            }
            Ok(Piece::Star(star))
        }
        b"payload" if says.payload => Ok(Piece::Payload),
        [] => Err("{}: the name of a field is missing".to_owned()),
        _ if !says.fields => Err(format!("{{{name}}}: these messages have no fields")),
        _ if name.len() > FIELD_BYTES_MAX => Err(format!(
            "the name of a field is longer than {FIELD_BYTES_MAX} bytes"
        )),
        _ => Ok(Piece::Field(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Says = Says {
        whole: Whole::Channel,
        stars: 2,
        payload: true,
        fields: true,
    };

    fn glob(text: &str) -> String {
        String::from_utf8(Naming::parse(text, ALL).unwrap().glob()).unwrap()
    }

    #[test]
    fn a_name_is_made_of_texts_and_places() {
        let name = Naming::parse("a{{{1}:{0}{payload}{key}", ALL).unwrap();
        assert_eq!(
            name.parts(),
            [
                Piece::Text("a{".to_owned()),
                Piece::Star(1),
                Piece::Text(":".to_owned()),
                Piece::Whole,
                Piece::Payload,
                Piece::Field("key".to_owned()),
            ]
        );
        let says = Says {
            whole: Whole::Key,
            ..ALL
        };
        assert_eq!(
            Naming::parse("{key}", says).unwrap().parts(),
            [Piece::Whole]
        );
    }

    #[test]
    fn what_a_kind_does_not_have_is_refused() {
        let none = Says {
            whole: Whole::None,
            stars: 0,
            payload: false,
            fields: false,
        };
        for (text, says, why) in [
            ("", ALL, "a name may not be empty"),
            ("a{3}", ALL, "{3} is asked for, and there are 2 stars"),
            ("a{}", ALL, "{}: the name of a field is missing"),
            ("a{id", ALL, "a brace alone: {{ and }} are braces"),
            ("{0}", none, "{0} is a channel or a key, and there is none"),
            ("{id}", none, "{id}: these messages have no fields"),
            (
                "{payload}",
                none,
                "{payload}: these messages have no fields",
            ),
        ] {
            assert_eq!(Naming::parse(text, says), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn its_glob_fits_all_that_it_can_make() {
        assert_eq!(glob("user:{id}"), "user:*");
        assert_eq!(glob("{1}{2}:x"), "*:x");
        assert_eq!(glob("a*{1}[?]\\"), "a\\**\\[\\?\\]\\\\");
        assert_eq!(glob("plain"), "plain");
    }
}
