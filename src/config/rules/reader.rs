//! Typed reading of one table of the file.
//!
//! Each kind of table has one list of its keys with what they mean, from which unknown keys are
//! told and docs/CONFIG.md is made.

use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml_edit::{Document, Item, Table as TomlTable, Value};

use super::error::Error;
use super::template::{Allowed, Template};
use super::{Secret, Text};
use crate::config::table::closest;
use crate::config::value::memory;

/// The most tables of one name, and the most elements of a list.
const ITEMS_MAX: usize = 10_000;
/// The longest duration: 100 years, so that sums of two of them fit every clock.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A key of a table: its name, what it may be, its default, and what it means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) values: &'static str,
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

/// A row of a list of keys.
pub(super) const fn key(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        values,
        default,
        doc,
    }
}

/// One table of the file.
pub(super) struct Table<'a> {
    file: &'a str,
    table: &'a TomlTable,
    name: &'static str,
}

/// The tables `[[name]]`, in order.
pub(super) fn tables<'a>(
    document: &'a Document<&'a str>,
    name: &'static str,
    file: &'a str,
) -> Result<Vec<Table<'a>>, Error> {
    let root = document.as_table();
    let Some((key, item)) = root.get_key_value(name) else {
        return Ok(Vec::new());
    };
    let at = key
        .span()
        .or_else(|| item.span())
        .map_or(0, |span| span.start);
    let Some(array) = item.as_array_of_tables() else {
        let why = format!("{name} must be written as tables: [[{name}]]");
        return Err(Error::at(file, at, why));
    };
    if array.len() > ITEMS_MAX {
        let why = format!("there are more than {ITEMS_MAX} of [[{name}]]");
        return Err(Error::at(file, at, why));
    }
    Ok(array
        .iter()
        .map(|table| Table { file, table, name })
        .collect())
}

impl<'a> Table<'a> {
    /// An error at this key, or at the table's head where it has no such key.
    pub(super) fn error(&self, key: &str, why: impl Display) -> Error {
        let of_key = self
            .table
            .get_key_value(key)
            .and_then(|(name, item)| name.span().or_else(|| item.span()));
        match of_key {
            Some(span) => Error::at(self.file, span.start, format!("{key}: {why}")),
            None => Error::at(
                self.file,
                self.table.span().map_or(0, |span: Range<usize>| span.start),
                format!("[[{}]]: {why}", self.name),
            ),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Refuses keys that are in none of these lists.
    pub(super) fn only(&self, lists: &[&[Key]]) -> Result<(), Error> {
        let known = || {
            lists
                .iter()
                .flat_map(|keys| keys.iter())
                .map(|key| key.name)
        };
        for (name, _) in self.table {
            if known().any(|known| known == name) {
                continue;
            }
            let meant = closest(name, known())
                .map(|meant| format!("; did you mean {meant}?"))
                .unwrap_or_default();
            return Err(self.error(name, format!("there is no such setting here{meant}")));
        }
        Ok(())
    }

    fn value(&self, key: &str, expected: &str) -> Result<Option<&'a Value>, Error> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Item::Value(value)) => Ok(Some(value)),
            Some(other) => Err(self.expected(key, expected, other.type_name())),
        }
    }

    fn expected(&self, key: &str, expected: &str, found: &str) -> Error {
        self.error(key, format!("expected {expected}, found a TOML {found}"))
    }

    /// Reads a value of a key that may be missing.
    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.value(key, expected)? else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None if super::error::is_secret(key) => {
                Err(self.error(key, format!("the value is not {expected}")))
            }
            None => {
                let shown = value.to_string();
                let why = format!("{} is not {expected}", shown.trim());
                Err(self.error(key, why))
            }
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Error> {
        self.read(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// A text that may not be missing or empty.
    pub(super) fn needed_text(&self, key: &str) -> Result<String, Error> {
        match self.text(key)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.error(key, "may not be empty".to_owned())),
            None => Err(self.error(key, format!("{key} is missing"))),
        }
    }

    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, Error> {
        Ok(self.text(key)?.map(PathBuf::from))
    }

    /// A text that may say where it is to be read.
    pub(super) fn secret(&self, key: &str) -> Result<Option<Secret<Text>>, Error> {
        Ok(self.text(key)?.map(|text| Secret(Text::new(&text))))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        let flag = self.read(key, "true or false", |value| match value {
            Value::Boolean(flag) => Some(*flag.value()),
            Value::String(text) => match text.value().to_ascii_lowercase().as_str() {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
            Value::Integer(_)
            | Value::Float(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::InlineTable(_) => None,
        })?;
        Ok(flag.unwrap_or(default))
    }

    pub(super) fn number(
        &self,
        key: &str,
        bounds: std::ops::RangeInclusive<i64>,
        default: i64,
    ) -> Result<i64, Error> {
        let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let number = self.read(key, &expected, |value| {
            value.as_integer().filter(|number| bounds.contains(number))
        })?;
        Ok(number.unwrap_or(default))
    }

    pub(super) fn count(&self, key: &str, min: u32, default: usize) -> Result<usize, Error> {
        let default = i64::try_from(default).unwrap_or(i64::MAX);
        let number = self.number(key, i64::from(min)..=1_000_000, default)?;
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    }

    pub(super) fn real(&self, key: &str, min: f64, max: f64) -> Result<Option<f64>, Error> {
        let expected = format!("a number from {min} to {max}");
        self.read(key, &expected, |value| {
            #[expect(clippy::cast_precision_loss, reason = "the bounds are small")]
            let whole = value.as_integer().map(|number| number as f64);
            let number = value.as_float().or(whole)?;
            (number >= min && number <= max).then_some(number)
        })
    }

    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>, Error> {
        let expected = "a duration such as \"250ms\", \"2s\", \"5m\", \"1h\" or \"7d\"";
        self.read(key, expected, |value| match value {
            Value::String(text) => duration(text.value()),
            Value::Integer(number) if *number.value() == 0 => Some(Duration::ZERO),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::InlineTable(_) => None,
        })
    }

    /// A duration of more than nothing.
    pub(super) fn positive(&self, key: &str) -> Result<Option<Duration>, Error> {
        match self.duration(key)? {
            Some(Duration::ZERO) => Err(self.error(key, "must be more than 0".to_owned())),
            other => Ok(other),
        }
    }

    pub(super) fn bytes(&self, key: &str, max: u64) -> Result<Option<usize>, Error> {
        let expected = format!("a number of bytes from 0 to {max}, such as \"1mb\"");
        self.read(key, &expected, |value| {
            let bytes = match value {
                Value::String(text) => memory(text.value()),
                Value::Integer(number) => u64::try_from(*number.value()).ok(),
                Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Array(_)
                | Value::InlineTable(_) => None,
            };
            usize::try_from(bytes.filter(|bytes| *bytes <= max)?).ok()
        })
    }

    /// One word of a list.
    pub(super) fn choice(&self, key: &str, words: &[&'static str]) -> Result<Option<usize>, Error> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let found = words.iter().position(|word| *word == text);
        found.map(Some).ok_or_else(|| {
            let meant = closest(&text, words.iter().copied())
                .map(|meant| format!("; did you mean {meant:?}?"))
                .unwrap_or_default();
            let list = words.join(", ");
            self.error(key, format!("{text:?} is not one of {list}{meant}"))
        })
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        self.read(key, "a list of texts", |value| {
            let array = value.as_array().filter(|array| array.len() <= ITEMS_MAX)?;
            let texts = array.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect()
        })
    }

    pub(super) fn numbers(&self, key: &str, min: u16, max: u16) -> Result<Option<Vec<u16>>, Error> {
        let expected = format!("a list of whole numbers from {min} to {max}");
        self.read(key, &expected, |value| {
            let array = value.as_array().filter(|array| array.len() <= ITEMS_MAX)?;
            let number = |value: &Value| u16::try_from(value.as_integer()?).ok();
            let in_bounds = |number: &u16| (min..=max).contains(number);
            let numbers = array.iter().map(|value| number(value).filter(in_bounds));
            numbers.collect()
        })
    }

    /// An inline table, or a table, of texts.
    pub(super) fn pairs(&self, key: &str) -> Result<Vec<(String, String)>, Error> {
        let Some(item) = self.table.get(key) else {
            return Ok(Vec::new());
        };
        let expected = "a table of texts such as { accept = \"text/plain\" }";
        let Some(table) = item.as_table_like() else {
            return Err(self.expected(key, expected, item.type_name()));
        };
        let pair = |(name, item): (&str, &Item)| Some((name.to_owned(), item.as_str()?.to_owned()));
        let pairs: Option<Vec<_>> = table.iter().map(pair).collect();
        pairs.ok_or_else(|| self.error(key, format!("the value is not {expected}")))
    }

    pub(super) fn template(&self, key: &str, allowed: Allowed) -> Result<Option<Template>, Error> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        self.parsed(key, &text, allowed).map(Some)
    }

    pub(super) fn parsed(
        &self,
        key: &str,
        text: &str,
        allowed: Allowed,
    ) -> Result<Template, Error> {
        Template::parse(text, allowed).map_err(|why| self.error(key, why))
    }

    /// A list of templates.
    pub(super) fn templates(&self, key: &str) -> Result<Option<Vec<Template>>, Error> {
        let Some(texts) = self.texts(key)? else {
            return Ok(None);
        };
        let parse = |text: &String| self.parsed(key, text, Allowed::Captures);
        texts.iter().map(parse).collect::<Result<_, _>>().map(Some)
    }
}

/// A duration: a whole number and its unit. Nothing but 0 may be without one.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let duration = match &text[digits..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        "d" => Duration::from_secs(number.checked_mul(24 * 3600)?),
        _ => return None,
    };
    (duration <= DURATION_MAX).then_some(duration)
}
