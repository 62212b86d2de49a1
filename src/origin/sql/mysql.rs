//! MySQL and MariaDB.
//!
//! A parameter is text unless its place says `{1:int}` or `{1:bytes}`. Compared with a number a
//! text is read as far as it is one, so that `42x` finds 42: where a column is a number, say `int`.

use std::str::FromStr;
use std::time::Duration;

use sqlx::error::Error as SqlError;
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow,
};
use sqlx::{
    Arguments, Column, ConnectOptions, Connection as _, Executor, Row as _, TypeInfo, ValueRef,
};

use super::cell::{Cell, Row, number};
use super::{Bind, Error, Statement, Verdict, next_limit};
use crate::config::rules::template::Type;
use crate::origin::{Failure, FailureKind};

pub(super) struct Options(MySqlConnectOptions);

pub(super) struct Connection {
    connection: MySqlConnection,
    /// How long a statement may run, as it was last set.
    limit: Duration,
    /// MariaDB limits all statements, in seconds, MySQL those that read, in milliseconds.
    is_mariadb: bool,
}

impl Options {
    pub(super) fn new(url: &str, password: Option<&str>) -> Result<Self, String> {
        // Its own words have the URL in them.
        let options = MySqlConnectOptions::from_str(url).map_err(|_| "the URL is none of MySQL")?;
        let options = options.disable_statement_logging();
        Ok(Self(match password {
            Some(password) => options.password(password),
            None => options,
        }))
    }

    pub(super) async fn connect(&self) -> Result<Connection, SqlError> {
        let mut connection = MySqlConnection::connect_with(&self.0).await?;
        let row = connection.fetch_one("SELECT VERSION()").await?;
        let version: String = row.try_get_unchecked(0)?;
        Ok(Connection {
            connection,
            limit: Duration::ZERO,
            is_mariadb: version.contains("MariaDB"),
        })
    }
}

impl Connection {
    pub(super) async fn ping(&mut self) -> Result<(), SqlError> {
        self.connection.ping().await
    }

    pub(super) async fn run(
        &mut self,
        statement: &Statement,
        binds: &[Bind<'_>],
        left: Duration,
    ) -> Result<Option<Row>, Error> {
        if let Some(limit) = next_limit(self.limit, left) {
            let set = if self.is_mariadb {
                format!(
                    "SET SESSION max_statement_time = {:.3}",
                    limit.as_secs_f64()
                )
            } else {
                format!("SET SESSION max_execution_time = {}", limit.as_millis())
            };
            self.connection.execute(set.as_str()).await?;
            self.limit = limit;
        }
        let mut arguments = MySqlArguments::default();
        for bind in binds {
            let added = match bind.of_type {
                Type::Int => arguments.add(bind.int()?),
                Type::Bytes => arguments.add(bind.bytes),
                Type::Text => arguments.add(bind.text()?),
                // A value may be anything, a key is text where it is.
                Type::Inferred => match bind.text() {
                    Ok(text) => arguments.add(text),
                    Err(_) => arguments.add(bind.bytes),
                },
            };
            added.map_err(SqlError::Encode)?;
        }
        let row = sqlx::query_with(&statement.sql, arguments)
            .fetch_optional(&mut self.connection)
            .await?;
        row.as_ref().map(printed).transpose()
    }
}

fn printed(row: &MySqlRow) -> Result<Row, Error> {
    let mut cells = Vec::with_capacity(row.columns().len());
    for (index, column) in row.columns().iter().enumerate() {
        let cell = if row.try_get_raw(index)?.is_null() {
            Cell::Null
        } else {
            let name = column.type_info().name().to_ascii_uppercase();
            let cell = print(row, index, &name)?;
            cell.ok_or_else(|| {
                let column = column.name();
                let text = format!("the column {column} is of type {name}: cast it to CHAR");
                Failure::new(FailureKind::BadValue, text)
            })?
        };
        cells.push((column.name().to_owned(), cell));
    }
    Ok(Row(cells))
}

/// A column as text. `None`: it is not known how.
fn print(row: &MySqlRow, index: usize, of_type: &str) -> Result<Option<Cell>, SqlError> {
    let bytes: &[u8] = row.try_get_unchecked(index)?;
    Ok(Some(match of_type {
        "BOOLEAN" => Cell::json(row.try_get_unchecked::<i8, _>(index)?.to_string()),
        name if name.contains("INT") => match int(bytes, name.contains("UNSIGNED")) {
            Some(text) => Cell::json(text),
            None => return Ok(None),
        },
        "YEAR" => match int(bytes, true) {
            Some(text) => Cell::json(text),
            None => return Ok(None),
        },
        "FLOAT" => {
            let value: f32 = row.try_get_unchecked(index)?;
            let text = number(&format!("{value:e}"), value.to_string(), 15);
            Cell::float(value.into(), text.replace("e+", "e"))
        }
        "DOUBLE" => {
            let value: f64 = row.try_get_unchecked(index)?;
            let text = number(&format!("{value:e}"), value.to_string(), 15);
            Cell::float(value, text.replace("e+", "e"))
        }
        "DECIMAL" | "JSON" => Cell::Json(bytes.to_vec()),
        "DATE" | "DATETIME" | "TIMESTAMP" => match moment(bytes, of_type == "DATE") {
            Some(text) => Cell::text(text),
            None => return Ok(None),
        },
        "TIME" => match time(bytes) {
            Some(text) => Cell::text(text),
            None => return Ok(None),
        },
        name if name.contains("CHAR") || name.contains("TEXT") => Cell::Text(bytes.to_vec()),
        "ENUM" | "SET" => Cell::Text(bytes.to_vec()),
        name if name.contains("BLOB") || name.contains("BINARY") || name == "BIT" => {
            Cell::Bytes(bytes.to_vec())
        }
        _ => return Ok(None),
    }))
}

/// A whole number, the least significant byte first.
fn int(bytes: &[u8], is_unsigned: bool) -> Option<String> {
    Some(match (bytes, is_unsigned) {
        ([byte], true) => byte.to_string(),
        ([byte], false) => byte.cast_signed().to_string(),
        (&[a, b], true) => u16::from_le_bytes([a, b]).to_string(),
        (&[a, b], false) => i16::from_le_bytes([a, b]).to_string(),
        (&[a, b, c, d], true) => u32::from_le_bytes([a, b, c, d]).to_string(),
        (&[a, b, c, d], false) => i32::from_le_bytes([a, b, c, d]).to_string(),
        (bytes, true) => u64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        (bytes, false) => i64::from_le_bytes(bytes.try_into().ok()?).to_string(),
    })
}

/// A date and time: length, year, month, day, and what is not 0 behind.
fn moment(bytes: &[u8], is_date: bool) -> Option<String> {
    let (&length, fields) = bytes.split_first()?;
    let fields = fields.get(..usize::from(length))?;
    let mut all = [0_u8; 11];
    all.get_mut(..fields.len())?.copy_from_slice(fields);
    let [y0, y1, month, day, hour, minute, second, micros @ ..] = all;
    let year = u16::from_le_bytes([y0, y1]);
    let date = format!("{year:04}-{month:02}-{day:02}");
    if is_date {
        return Some(date);
    }
    let fraction = fraction(u32::from_le_bytes(micros));
    Some(format!(
        "{date} {hour:02}:{minute:02}:{second:02}{fraction}"
    ))
}

/// A time: length, sign, days, hour, minute, second, microseconds.
fn time(bytes: &[u8]) -> Option<String> {
    let (&length, fields) = bytes.split_first()?;
    let fields = fields.get(..usize::from(length))?;
    let mut all = [0_u8; 12];
    all.get_mut(..fields.len())?.copy_from_slice(fields);
    let [sign, d0, d1, d2, d3, hour, minute, second, micros @ ..] = all;
    let hours = u64::from(u32::from_le_bytes([d0, d1, d2, d3])) * 24 + u64::from(hour);
    let sign = if sign == 0 { "" } else { "-" };
    let fraction = fraction(u32::from_le_bytes(micros));
    Some(format!(
        "{sign}{hours:02}:{minute:02}:{second:02}{fraction}"
    ))
}

fn fraction(micros: u32) -> String {
    if micros == 0 {
        String::new()
    } else {
        format!(".{micros:06}")
    }
}

pub(super) fn verdict(error: &MySqlDatabaseError) -> Verdict {
    match error.number() {
        // Interrupted; max_statement_time of MariaDB, max_execution_time of MySQL.
        1317 | 1969 | 3024 => Verdict::TooLong,
        // Shut down, killed.
        1053 | 1927 | 4031 => Verdict::Over,
        // Too many connections, a lock that was waited for too long, a user's limit, a full disk.
        1040 | 1203 | 1205 | 1226 | 1021 | 1114 => Verdict::Ill,
        _ => Verdict::Wrong,
    }
}
