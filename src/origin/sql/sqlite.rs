//! A file of SQLite. Each connection has a thread of its own, which its library starts.
//!
//! A parameter is text unless its place says `{1:int}` or `{1:bytes}`; compared with a column of
//! whole numbers, SQLite reads it as one if it is one.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::error::{DatabaseError, Error as SqlError};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{Arguments, Column, ConnectOptions, Connection as _, Row as _, TypeInfo, ValueRef};

use super::cell::{Cell, Row, number};
use super::{Bind, Error, Statement, Verdict};
use crate::config::rules::PoolSpec;
use crate::config::rules::template::Type;
use crate::origin::{Failure, FailureKind};

/// Steps of SQLite's machine between two looks at whether anybody still waits.
const STEPS: i32 = 10_000;

pub(super) struct Options(SqliteConnectOptions);

pub(super) struct Connection {
    connection: SqliteConnection,
    /// Nobody waits for it any more: its statement is to end.
    is_over: Arc<AtomicBool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Options {
    pub(super) fn new(url: &str, pool: PoolSpec) -> Result<Self, String> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| format!("the URL: {error}"))?
            // Another's lock is waited for as long as another's connection.
            .busy_timeout(pool.connect_timeout)
            .disable_statement_logging();
        Ok(Self(options))
    }

    pub(super) async fn connect(&self) -> Result<Connection, SqlError> {
        let mut connection = SqliteConnection::connect_with(&self.0).await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        connection
            .lock_handle()
            .await?
            .set_progress_handler(STEPS, move || !seen.load(Ordering::Relaxed));
        Ok(Connection {
            connection,
            is_over,
        })
    }
}

impl Connection {
    pub(super) async fn run(
        &mut self,
        statement: &Statement,
        binds: &[Bind<'_>],
    ) -> Result<Option<Row>, Error> {
        let mut arguments = SqliteArguments::default();
        for bind in binds {
            let added = match bind.of_type {
                Type::Int => arguments.add(bind.int()?),
                Type::Bytes => arguments.add(bind.bytes),
                Type::Text => arguments.add(bind.text()?),
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

fn printed(row: &SqliteRow) -> Result<Row, Error> {
    let mut cells = Vec::with_capacity(row.columns().len());
    for (index, column) in row.columns().iter().enumerate() {
        let value = row.try_get_raw(index)?;
        let cell = if value.is_null() {
            Cell::Null
        } else {
            // What the value is, whatever its column was declared as.
            match value.type_info().name() {
                "REAL" => float(row.try_get_unchecked(index)?),
                "BLOB" => Cell::Bytes(row.try_get_unchecked(index)?),
                "TEXT" | "DATE" | "TIME" | "DATETIME" => Cell::Text(row.try_get_unchecked(index)?),
                "INTEGER" | "BOOLEAN" | "NUMERIC" | "INT4" => {
                    let number: i64 = row.try_get_unchecked(index)?;
                    Cell::json(number.to_string())
                }
                name => {
                    let column = column.name();
                    let text = format!("the column {column} is of type {name}: cast it to TEXT");
                    return Err(Failure::new(FailureKind::BadValue, text).into());
                }
            }
        };
        cells.push((column.name().to_owned(), cell));
    }
    Ok(Row(cells))
}

/// A number with a point, as SQLite has it.
fn float(value: f64) -> Cell {
    let text = number(&format!("{value:e}"), value.to_string(), 15);
    let (digits, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
    let text = if digits.contains('.') || !value.is_finite() {
        text
    } else {
        format!("{digits}.0{exponent}")
    };
    Cell::float(value, text)
}

pub(super) fn verdict(error: &dyn DatabaseError) -> Verdict {
    let code: Option<u32> = error.code().and_then(|code| code.parse().ok());
    // The low byte is the error, the others say more about it.
    match code.map(|code| code & 0xff) {
        // SQLITE_INTERRUPT.
        Some(9) => Verdict::TooLong,
        // SQLITE_BUSY, _LOCKED, _IOERR, _FULL, _CANTOPEN, _CORRUPT, _NOTADB.
        Some(5 | 6 | 10 | 11 | 13 | 14 | 26) => Verdict::Ill,
        Some(_) | None => Verdict::Wrong,
    }
}
