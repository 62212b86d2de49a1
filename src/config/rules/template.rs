//! Texts with places for what a rule's stars caught.
//!
//! `{1}` to `{9}` is what the first to the ninth star caught, `{0}` and `{key}` are the whole key,
//! `{value}` is the value to store, where there is one. `{{` and `}}` are braces. A place of a SQL
//! statement may say its type: `{1:int}`. Whoever fills a template in escapes for where it goes.

/// The longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(String),
    /// What a place is filled with, and how it is to be understood.
    Place(Place, Type),
}

/// What a place is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The whole key.
    Key,
    /// What the star of this number caught, counted from 1.
    Star(u8),
    /// The value to store.
    Value,
}

/// What a database is told a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// What the database expects where it stands.
    Inferred,
    /// Text.
    Text,
    /// A whole number of 64 bits.
    Int,
    /// Bytes.
    Bytes,
}

/// What a kind of template may have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// The key and what stars caught.
    Captures,
    /// The same, with types.
    TypedCaptures,
    /// The same, with types, and the value.
    TypedCapturesAndValue,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str, allowed: Allowed) -> Result<Self, String> {
        let parts = parts_of(text, Part::Text, |name| place(name, allowed))?;
        Ok(Self { parts })
    }

    /// Its parts, in order. No two texts follow each other.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The greatest number of a star that it names.
    #[must_use]
    pub fn last_star(&self) -> Option<u8> {
        let star = |part: &Part| match part {
            Part::Place(Place::Star(number), _) => Some(*number),
            Part::Place(Place::Key | Place::Value, _) | Part::Text(_) => None,
        };
        self.parts.iter().filter_map(star).max()
    }

    /// Its bytes, places filled in by what this gives for them as they are. For where no byte means
    /// anything but itself.
    pub fn fill<'a>(&'a self, of: impl Fn(Place) -> &'a [u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            bytes.extend_from_slice(match part {
                Part::Text(text) => text.as_bytes(),
                Part::Place(place, _) => of(*place),
            });
        }
        bytes
    }
}

/// Takes a text with places apart: what stands as it is, and what stands in braces.
///
/// # Errors
/// Why it is no such text.
pub(super) fn parts_of<P>(
    text: &str,
    literally: impl Fn(String) -> P,
    place: impl Fn(&str) -> Result<P, String>,
) -> Result<Vec<P>, String> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(format!("is longer than {TEMPLATE_BYTES_MAX} bytes"));
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{{") {
            literal.push('{');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("}}") {
            literal.push('}');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        {
            if !literal.is_empty() {
                parts.push(literally(std::mem::take(&mut literal)));
            }
            parts.push(place(name)?);
            rest = after;
        } else {
            return Err("a brace alone: {{ and }} are braces".to_owned());
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(literally(literal));
    }
    Ok(parts)
}

fn place(inner: &str, allowed: Allowed) -> Result<Part, String> {
    let (name, of_type) = match inner.split_once(':') {
        Some((name, type_name)) if allowed != Allowed::Captures => (
            name,
            match type_name {
                "text" => Type::Text,
                "int" => Type::Int,
                "bytes" => Type::Bytes,
                _ => return Err(format!("{{{inner}}}: the types are text, int and bytes")),
            },
        ),
        Some(_) => return Err(format!("{{{inner}}}: only SQL statements have types")),
        None => (inner, Type::Inferred),
    };
    let place = match name.as_bytes() {
        b"0" | b"key" => Place::Key,
        [digit @ b'1'..=b'9'] => Place::Star(digit - b'0'),
        b"value" if allowed == Allowed::TypedCapturesAndValue => Place::Value,
        b"value" => return Err("{value} stands in SQL's store statements only".to_owned()),
        _ => {
            let why = "the places are {0} or {key}, and {1} to {9}; {{ and }} are braces";
            return Err(format!("{{{inner}}}: {why}"));
        }
    };
    Ok(Part::Place(place, of_type))
}
