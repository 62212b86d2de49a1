//! SQL: a statement loads a value, stores one, deletes one.
//!
//! What a client sent is a bind parameter, always: the statement is the same text for all keys. A
//! row of one column is that column, as the database prints it; a row of more is a JSON object. No
//! row, and NULL alone, is no value; of several rows the first counts.
//!
//! A connection of a call that did not end is closed, and the database is told how long a
//! statement may run when the connection is made, so that what nobody waits for ends too.

mod cell;
mod mysql;
mod postgres;
mod sqlite;

use std::time::Duration;

use sqlx::error::{DatabaseError, Error as SqlError};

use crate::clock;
use crate::config::rules::template::{Part, Place, Template, Type};
use crate::config::rules::{Dialect, SqlSpec};

use super::pool::Pool;
use super::{Call, Failure, FailureKind, Found, Verb, fill, read};
use cell::{Cell, Row};

/// How much longer a statement may run in the database than its caller waits, so that the limit
/// need not be told anew for each call.
const LIMIT_FACTOR: u32 = 2;

pub(super) struct Loader {
    driver: Driver,
    load: Statement,
    store: Option<Statement>,
    delete: Option<Statement>,
    tag_column: Option<String>,
    ttl_column: Option<String>,
    pool: Pool<Connection>,
}

/// How to connect.
enum Driver {
    Postgres(postgres::Options),
    Mysql(mysql::Options),
    Sqlite(sqlite::Options),
}

/// One connection.
enum Connection {
    Postgres(Box<postgres::Connection>),
    Mysql(Box<mysql::Connection>),
    Sqlite(Box<sqlite::Connection>),
}

/// A statement, and what its parameters stand for, in their order.
struct Statement {
    sql: String,
    binds: Vec<(Place, Type)>,
}

/// What is bound to a parameter.
#[derive(Clone, Copy)]
struct Bind<'a> {
    bytes: &'a [u8],
    of_type: Type,
}

/// Why a statement gave nothing: in the library's words, or in ours.
enum Error {
    Sql(SqlError),
    Failure(Failure),
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Loader {
    pub(super) fn build(spec: &SqlSpec) -> Result<Self, String> {
        let url = read(&spec.url)?;
        let password = spec.password.as_ref().map(read).transpose()?;
        let password = password.as_deref();
        let driver = match spec.dialect {
            Dialect::Postgres => Driver::Postgres(postgres::Options::new(&url, password)?),
            Dialect::Mysql => Driver::Mysql(mysql::Options::new(&url, password)?),
            Dialect::Sqlite => Driver::Sqlite(sqlite::Options::new(&url, spec.pool)?),
        };
        let statement = |template: &Template| Statement::new(template, spec.dialect);
        Ok(Self {
            driver,
            load: statement(&spec.load),
            store: spec.store.as_ref().map(statement),
            delete: spec.delete.as_ref().map(statement),
            tag_column: spec.tag_column.clone(),
            ttl_column: spec.ttl_column.clone(),
            pool: Pool::new(spec.pool),
        })
    }

    pub(super) async fn run(
        &self,
        call: &Call<'_>,
        verb: Verb<'_>,
    ) -> Result<Option<Found>, Failure> {
        let none = || Failure::new(FailureKind::Refused, "the origin has no such statement");
        let (statement, value) = match verb {
            Verb::Load => (&self.load, &b""[..]),
            Verb::Store(value, _) => (self.store.as_ref().ok_or_else(none)?, value),
            Verb::Delete => (self.delete.as_ref().ok_or_else(none)?, &b""[..]),
        };
        let bind = |&(place, of_type): &(Place, Type)| Bind {
            bytes: fill::bytes_of(call, value, place),
            of_type,
        };
        let binds: Vec<_> = statement.binds.iter().map(bind).collect();
        let row = self.first_row(call, statement, &binds, verb).await?;
        match verb {
            Verb::Load => row.map_or(Ok(None), |row| self.found(row)),
            Verb::Store(..) => Ok(Some(Found::of(Vec::new()))),
            Verb::Delete => Ok(None),
        }
    }

    async fn first_row(
        &self,
        call: &Call<'_>,
        statement: &Statement,
        binds: &[Bind<'_>],
        verb: Verb<'_>,
    ) -> Result<Option<Row>, Failure> {
        let is_load = matches!(verb, Verb::Load);
        let left = || call.deadline.saturating_duration_since(clock::now());
        if let Some(mut connection) = self.pool.take() {
            // One that has been closed meanwhile is no failure. What writes must know before.
            let is_there = is_load || connection.ping().await.is_ok();
            if is_there {
                match connection.run(statement, binds, left()).await {
                    Err(Error::Sql(error)) if is_load && is_broken(&error) => {}
                    outcome => return self.end(connection, outcome),
                }
            }
            self.pool.clear();
        }
        let mut connection = self.pool.connect(self.driver.connect()).await?;
        let outcome = connection.run(statement, binds, left()).await;
        self.end(connection, outcome)
    }

    fn end(
        &self,
        connection: Connection,
        outcome: Result<Option<Row>, Error>,
    ) -> Result<Option<Row>, Failure> {
        let is_whole = match &outcome {
            Ok(_) | Err(Error::Failure(_)) => true,
            Err(Error::Sql(error)) => !is_broken(error),
        };
        if is_whole {
            self.pool.give(connection);
        }
        outcome.map_err(|error| match error {
            Error::Sql(error) => failed(&error),
            Error::Failure(failure) => failure,
        })
    }

    /// A row as a value.
    fn found(&self, mut row: Row) -> Result<Option<Found>, Failure> {
        let ttl = match self.ttl_column.as_deref() {
            Some(name) => match row.take(name)? {
                Cell::Null => None,
                cell @ (Cell::Text(_) | Cell::Json(_) | Cell::Bytes(_)) => Some(seconds(&cell)?),
            },
            None => None,
        };
        let mut tags = Vec::new();
        if let Some(name) = self.tag_column.as_deref() {
            fill::add_tags(&mut tags, &row.take(name)?.into_bytes())?;
        }
        let Some(value) = row.into_value()? else {
            return Ok(None);
        };
        let mut found = Found::of(value);
        (found.ttl, found.tags) = (ttl, tags);
        Ok(Some(found))
    }
}

/// How long a value is fresh, from a column.
fn seconds(cell: &Cell) -> Result<Duration, Failure> {
    let text = String::from_utf8_lossy(cell.bytes());
    let seconds: Option<f64> = text.trim().parse().ok();
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    duration.ok_or_else(|| {
        let text = "the column of the time to live is no number of seconds";
        Failure::new(FailureKind::BadValue, text)
    })
}

impl Driver {
    async fn connect(&self) -> Result<Connection, SqlError> {
        Ok(match self {
            Self::Postgres(options) => Connection::Postgres(Box::new(options.connect().await?)),
            Self::Mysql(options) => Connection::Mysql(Box::new(options.connect().await?)),
            Self::Sqlite(options) => Connection::Sqlite(Box::new(options.connect().await?)),
        })
    }
}

impl Connection {
    async fn ping(&mut self) -> Result<(), SqlError> {
        match self {
            Self::Postgres(connection) => connection.ping().await,
            Self::Mysql(connection) => connection.ping().await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    async fn run(
        &mut self,
        statement: &Statement,
        binds: &[Bind<'_>],
        left: Duration,
    ) -> Result<Option<Row>, Error> {
        match self {
            Self::Postgres(connection) => connection.run(statement, binds, left).await,
            Self::Mysql(connection) => connection.run(statement, binds, left).await,
            Self::Sqlite(connection) => connection.run(statement, binds).await,
        }
    }
}

impl Statement {
    fn new(template: &Template, dialect: Dialect) -> Self {
        let mut statement = Self {
            sql: String::new(),
            binds: Vec::new(),
        };
        for part in template.parts() {
            match part {
                Part::Text(text) => statement.sql.push_str(text),
                Part::Place(place, of_type) => {
                    statement.binds.push((*place, *of_type));
                    match dialect {
                        Dialect::Postgres => {
                            statement.sql.push('$');
                            statement.sql.push_str(&statement.binds.len().to_string());
                        }
                        Dialect::Mysql | Dialect::Sqlite => statement.sql.push('?'),
                    }
                }
            }
        }
        statement
    }
}

impl<'a> Bind<'a> {
    fn text(self) -> Result<&'a str, Failure> {
        std::str::from_utf8(self.bytes).map_err(|_| fill::unfit("it is no UTF-8"))
    }

    fn int(self) -> Result<i64, Failure> {
        // As digits only: what else a database takes for a number would give one row many keys.
        let text = self.text()?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" && text == "0" || !digits.starts_with('0'));
        let number = if is_plain { text.parse().ok() } else { None };
        number.ok_or_else(|| fill::unfit("it is no whole number"))
    }
}

/// The next limit to tell a database for how long a statement may run, if the present one is not
/// about right.
fn next_limit(present: Duration, left: Duration) -> Option<Duration> {
    let left = left.max(Duration::from_millis(1));
    let is_right = present >= left && present <= left * LIMIT_FACTOR * 2;
    (!is_right).then_some(left * LIMIT_FACTOR)
}

/// What an error of the database itself says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The statement is wrong, or does not fit the value.
    Wrong,
    /// The database is not well.
    Ill,
    /// The statement took too long.
    TooLong,
    /// The connection is of no use any more.
    Over,
}

fn verdict(error: &dyn DatabaseError) -> Verdict {
    if let Some(error) = error.try_downcast_ref() {
        postgres::verdict(error)
    } else if let Some(error) = error.try_downcast_ref() {
        mysql::verdict(error)
    } else {
        sqlite::verdict(error)
    }
}

/// Whether the connection is of no use any more.
fn is_broken(error: &SqlError) -> bool {
    if let SqlError::Database(error) = error {
        verdict(error.as_ref()) == Verdict::Over
    } else {
        !is_of_value(error)
    }
}

/// Whether an error says of a value that it could not be read or sent.
fn is_of_value(error: &SqlError) -> bool {
    matches!(
        error,
        SqlError::Decode(_) | SqlError::ColumnDecode { .. } | SqlError::Encode(_)
    )
}

fn failed(error: &SqlError) -> Failure {
    let SqlError::Database(database) = error else {
        let kind = if is_of_value(error) {
            FailureKind::BadValue
        } else {
            FailureKind::Lost
        };
        return Failure::new(kind, error.to_string());
    };
    let text = database.message();
    match verdict(database.as_ref()) {
        Verdict::Wrong => Failure::new(FailureKind::Refused, text),
        Verdict::Ill => Failure::ill(text),
        Verdict::TooLong => Failure::new(FailureKind::Timeout, text),
        Verdict::Over => Failure::new(FailureKind::Lost, text),
    }
}
