//! What a database gave: a row of cells, as text, and how that is a value.

use std::fmt::Write;

use super::super::{Failure, FailureKind};

/// One column of a row, printed as the database prints it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// NULL.
    Null,
    /// Text: a string of JSON.
    Text(Vec<u8>),
    /// Text that is a number of JSON, or a truth value, or JSON itself.
    Json(Vec<u8>),
    /// Bytes that are no text.
    Bytes(Vec<u8>),
}

/// A row: names and cells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row(pub(super) Vec<(String, Cell)>);

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }

    pub(super) fn json(text: impl Into<String>) -> Self {
        Self::Json(text.into().into_bytes())
    }

    /// A floating point number. What JSON has no number for is a text.
    pub(super) fn float(number: f64, text: String) -> Self {
        if number.is_finite() {
            Self::json(text)
        } else {
            Self::text(text)
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Null => b"",
            Self::Text(bytes) | Self::Json(bytes) | Self::Bytes(bytes) => bytes,
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Null => Vec::new(),
            Self::Text(bytes) | Self::Json(bytes) | Self::Bytes(bytes) => bytes,
        }
    }

    /// As a part of JSON.
    fn print(&self, column: &str, json: &mut Vec<u8>) -> Result<(), Failure> {
        let text = match self {
            Self::Null => {
                json.extend_from_slice(b"null");
                return Ok(());
            }
            Self::Json(bytes) => {
                json.extend_from_slice(bytes);
                return Ok(());
            }
            Self::Text(bytes) | Self::Bytes(bytes) => std::str::from_utf8(bytes),
        };
        let text = text.map_err(|_| {
            let text = format!("the column {column} is no text: let the statement encode it");
            Failure::new(FailureKind::BadValue, text)
        })?;
        json.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        Ok(())
    }
}

impl Row {
    /// Takes a column out of the row.
    pub(super) fn take(&mut self, name: &str) -> Result<Cell, Failure> {
        match self.0.iter().position(|(column, _)| column == name) {
            Some(at) => Ok(self.0.remove(at).1),
            None => {
                let text = format!("there is no column {name}");
                Err(Failure::new(FailureKind::BadValue, text))
            }
        }
    }

    /// The value: one column as it is, more as a JSON object, in their order.
    pub(super) fn into_value(mut self) -> Result<Option<Vec<u8>>, Failure> {
        if self.0.len() == 1 {
            return Ok(match self.0.pop() {
                Some((_, Cell::Null)) | None => None,
                Some((_, cell)) => Some(cell.into_bytes()),
            });
        }
        let mut json = vec![b'{'];
        for (index, (name, cell)) in self.0.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            let name_text = serde_json::Value::from(name.as_str()).to_string();
            json.extend_from_slice(name_text.as_bytes());
            json.push(b':');
            cell.print(name, &mut json)?;
        }
        json.push(b'}');
        json.shrink_to_fit();
        Ok(Some(json))
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The shortest text of a number as C's `%g` writes it, with an exponent from 10^`exponent_min` on.
/// `scientific` is Rust's shortest, `1.5e20`, `plain` is `150000000000000000000`.
pub(super) fn number(scientific: &str, plain: String, exponent_min: i32) -> String {
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return plain;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..exponent_min).contains(&exponent) {
        return plain;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, Cell)]) -> Row {
        let cells = cells
            .iter()
            .map(|(name, cell)| ((*name).to_owned(), cell.clone()));
        Row(cells.collect())
    }

    #[test]
    fn one_column_is_the_value_and_more_are_json() {
        let value = |cells: &[(&str, Cell)]| row(cells).into_value().unwrap();
        assert_eq!(value(&[("a", Cell::text("x"))]).unwrap(), b"x");
        assert_eq!(value(&[("a", Cell::Bytes(vec![0xff]))]).unwrap(), [0xff]);
        assert_eq!(value(&[("a", Cell::Null)]), None);
        let both = [
            ("a\"", Cell::text("x\n\"")),
            ("n", Cell::json("1.50")),
            ("j", Cell::json("{\"k\": 1}")),
            ("null", Cell::Null),
        ];
        assert_eq!(
            String::from_utf8(value(&both).unwrap()).unwrap(),
            r#"{"a\"":"x\n\"","n":1.50,"j":{"k": 1},"null":null}"#
        );
        let failure = row(&[("a", Cell::Null), ("b", Cell::Bytes(vec![0xff]))]).into_value();
        assert_eq!(failure.unwrap_err().kind, FailureKind::BadValue);
    }

    #[test]
    fn a_column_of_tags_is_no_part_of_the_value() {
        let mut row = row(&[("body", Cell::text("x")), ("tags", Cell::text("a b"))]);
        assert_eq!(row.take("tags").unwrap(), Cell::text("a b"));
        assert!(row.take("tags").is_err());
        assert_eq!(row.into_value().unwrap().unwrap(), b"x");
    }
}
