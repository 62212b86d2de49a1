//! PostgreSQL.
//!
//! A parameter has the type that the database infers where it stands: an integer where it is
//! compared with an integer. What was sent is read as that type here, since parameters are sent in
//! the database's binary form; a type that is not known here is asked to be cast in the statement:
//! `{1:text}::date`. Columns come in binary form too, and are printed as `::text` prints them.

use std::str::FromStr;
use std::time::Duration;

use sqlx::encode::IsNull;
use sqlx::error::{BoxDynError, Error as SqlError};
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnectOptions, PgConnection, PgDatabaseError, PgRow,
    PgTypeInfo, PgTypeKind, Postgres,
};
use sqlx::{
    Arguments, Column, ConnectOptions, Connection as _, Encode, Executor, Row as _, Statement as _,
    Type as SqlType, TypeInfo, ValueRef,
};

use super::cell::{Cell, Row, hex, number};
use super::{Bind, Error, Statement, Verdict, next_limit};
use crate::config::rules::template::Type;
use crate::origin::{Failure, FailureKind, fill};

pub(super) struct Options(PgConnectOptions);

pub(super) struct Connection {
    connection: PgConnection,
    /// `statement_timeout`, as it was last set.
    limit: Duration,
}

impl Options {
    pub(super) fn new(url: &str, password: Option<&str>) -> Result<Self, String> {
        // Its own words have the URL in them.
        let options =
            PgConnectOptions::from_str(url).map_err(|_| "the URL is none of PostgreSQL")?;
        let options = options
            .application_name("corral")
            .disable_statement_logging();
        Ok(Self(match password {
            Some(password) => options.password(password),
            None => options,
        }))
    }

    pub(super) async fn connect(&self) -> Result<Connection, SqlError> {
        Ok(Connection {
            connection: PgConnection::connect_with(&self.0).await?,
            limit: Duration::ZERO,
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
            let set = format!("SET statement_timeout = {}", limit.as_millis());
            self.connection.execute(set.as_str()).await?;
            self.limit = limit;
        }
        // Known to the connection after the first time.
        let types: Vec<_> = binds.iter().map(declared).collect();
        let prepared = self.connection.prepare_with(&statement.sql, &types).await?;
        let inferred = match prepared.parameters() {
            Some(sqlx::Either::Left(types)) => types,
            Some(sqlx::Either::Right(_)) | None => &[],
        };
        let mut arguments = PgArguments::default();
        for (index, bind) in binds.iter().enumerate() {
            let of_type = inferred.get(index).cloned();
            let of_type = of_type.ok_or_else(|| fill::unfit("it has no type"))?;
            let bytes = encode(*bind, &of_type)?;
            arguments
                .add(Parameter { bytes, of_type })
                .map_err(SqlError::Encode)?;
        }
        let row = prepared
            .query_with(arguments)
            .fetch_optional(&mut self.connection)
            .await?;
        row.as_ref().map(printed).transpose()
    }
}

/// The type that a parameter is declared with. 0: the database is to infer it.
fn declared(bind: &Bind<'_>) -> PgTypeInfo {
    match bind.of_type {
        Type::Inferred => PgTypeInfo::with_oid(sqlx::postgres::types::Oid(0)),
        Type::Text => <str as SqlType<Postgres>>::type_info(),
        Type::Int => <i64 as SqlType<Postgres>>::type_info(),
        Type::Bytes => <[u8] as SqlType<Postgres>>::type_info(),
    }
}

/// A parameter in the binary form of its type.
struct Parameter {
    bytes: Vec<u8>,
    of_type: PgTypeInfo,
}

impl SqlType<Postgres> for Parameter {
    fn type_info() -> PgTypeInfo {
        <str as SqlType<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Parameter {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.of_type.clone())
    }
}

fn encode(bind: Bind<'_>, of_type: &PgTypeInfo) -> Result<Vec<u8>, Failure> {
    let text = || {
        let text = bind.text()?;
        if text.contains('\0') {
            return Err(fill::unfit("a NUL byte cannot be part of a text"));
        }
        Ok(text)
    };
    fn parsed<T: FromStr>(text: &str) -> Result<T, Failure> {
        text.parse().map_err(|_| fill::unfit("it is no number"))
    }
    let small = |_| fill::unfit("it is too great a number");
    Ok(match of_type.name().to_ascii_uppercase().as_str() {
        "INT2" => i16::try_from(bind.int()?)
            .map_err(small)?
            .to_be_bytes()
            .to_vec(),
        "INT4" => i32::try_from(bind.int()?)
            .map_err(small)?
            .to_be_bytes()
            .to_vec(),
        "OID" => u32::try_from(bind.int()?)
            .map_err(small)?
            .to_be_bytes()
            .to_vec(),
        "INT8" => bind.int()?.to_be_bytes().to_vec(),
        "FLOAT4" => parsed::<f32>(text()?)?.to_be_bytes().to_vec(),
        "FLOAT8" => parsed::<f64>(text()?)?.to_be_bytes().to_vec(),
        "BOOL" => match text()? {
            "true" | "t" | "1" => vec![1],
            "false" | "f" | "0" => vec![0],
            _ => return Err(fill::unfit("it is no truth value")),
        },
        "UUID" => uuid(text()?).ok_or_else(|| fill::unfit("it is no UUID"))?,
        "BYTEA" => bind.bytes.to_vec(),
        "JSONB" => [b"\x01", text()?.as_bytes()].concat(),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "JSON" | "CITEXT" => {
            text()?.as_bytes().to_vec()
        }
        _ if is_text(of_type) => text()?.as_bytes().to_vec(),
        name => {
            let why = format!("a parameter of type {name}: write {{1:text}}::{name}");
            return Err(Failure::new(FailureKind::Refused, why));
        }
    })
}

/// Types of a user's own whose binary form is text.
fn is_text(of_type: &PgTypeInfo) -> bool {
    match of_type.kind() {
        PgTypeKind::Enum(_) => true,
        PgTypeKind::Domain(base) => is_text(base) || matches!(base.name(), "TEXT" | "VARCHAR"),
        PgTypeKind::Simple
        | PgTypeKind::Pseudo
        | PgTypeKind::Composite(_)
        | PgTypeKind::Array(_)
        | PgTypeKind::Range(_) => false,
    }
}

/// 32 hexadecimal digits, with or without dashes.
fn uuid(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 {
        return None;
    }
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| {
            let is_hex = pair.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(pair).ok().filter(|_| is_hex)?;
            u8::from_str_radix(text, 16).ok()
        })
        .collect()
}

fn printed(row: &PgRow) -> Result<Row, Error> {
    let mut cells = Vec::with_capacity(row.columns().len());
    for (index, column) in row.columns().iter().enumerate() {
        let value = row.try_get_raw(index)?;
        let cell = if value.is_null() {
            Cell::Null
        } else {
            let bytes = value.as_bytes().map_err(SqlError::Decode)?;
            let of_type = column.type_info();
            let cell = print(of_type, bytes);
            cell.ok_or_else(|| {
                let (name, of_type) = (column.name(), of_type.name());
                let text = format!("the column {name} is of type {of_type}: write {name}::text");
                Failure::new(FailureKind::BadValue, text)
            })?
        };
        cells.push((column.name().to_owned(), cell));
    }
    Ok(Row(cells))
}

/// A column's binary form as text. `None`: it is not known how.
fn print(of_type: &PgTypeInfo, bytes: &[u8]) -> Option<Cell> {
    let int = |number: i64| Cell::json(number.to_string());
    Some(match of_type.name().to_ascii_uppercase().as_str() {
        "BOOL" => Cell::json(if bytes == [0] { "false" } else { "true" }),
        "INT2" => int(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        "INT4" => int(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        "OID" => int(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        "INT8" => int(i64::from_be_bytes(bytes.try_into().ok()?)),
        "FLOAT4" => {
            let value = f32::from_be_bytes(bytes.try_into().ok()?);
            Cell::float(
                value.into(),
                float(&format!("{value:e}"), value.to_string(), 6),
            )
        }
        "FLOAT8" => {
            let value = f64::from_be_bytes(bytes.try_into().ok()?);
            Cell::float(value, float(&format!("{value:e}"), value.to_string(), 15))
        }
        "NUMERIC" => numeric(bytes)?,
        "JSON" => Cell::Json(bytes.to_vec()),
        "JSONB" => Cell::Json(bytes.strip_prefix(b"\x01")?.to_vec()),
        "BYTEA" => Cell::Bytes(bytes.to_vec()),
        "UUID" => {
            let text = hex(bytes);
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| text.get(part));
            let parts: Option<Vec<_>> = parts.into_iter().collect();
            Cell::text(parts?.join("-"))
        }
        "DATE" => Cell::text(date(i32::from_be_bytes(bytes.try_into().ok()?).into())?),
        "TIME" => Cell::text(time(i64::from_be_bytes(bytes.try_into().ok()?))),
        "TIMESTAMP" => Cell::text(timestamp(bytes)?),
        "TIMESTAMPTZ" => Cell::text(format!("{}+00", timestamp(bytes)?)),
        "TEXT" | "VARCHAR" | "CHAR" | "\"CHAR\"" | "NAME" | "UNKNOWN" | "CITEXT" => {
            Cell::Text(bytes.to_vec())
        }
        _ if is_text(of_type) => Cell::Text(bytes.to_vec()),
        _ => return None,
    })
}

fn float(scientific: &str, plain: String, exponent_min: i32) -> String {
    match plain.as_str() {
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        _ => number(scientific, plain, exponent_min),
    }
}

/// A decimal number: how many groups of four digits, the weight of the first, sign, digits behind
/// the point, groups.
fn numeric(bytes: &[u8]) -> Option<Cell> {
    const NEGATIVE: u16 = 0x4000;
    let words: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    let [_, weight, sign, scale, groups @ ..] = words.as_slice() else {
        return None;
    };
    match *sign {
        0 | NEGATIVE => {}
        0xc000 => return Some(Cell::text("NaN")),
        0xd000 => return Some(Cell::text("Infinity")),
        0xf000 => return Some(Cell::text("-Infinity")),
        _ => return None,
    }
    let weight = i32::from(weight.cast_signed());
    let scale = usize::from(*scale);
    let group = |at: i32| {
        let index = usize::try_from(at).ok();
        index
            .and_then(|index| groups.get(index))
            .copied()
            .unwrap_or(0)
    };
    let digits = |range: std::ops::RangeInclusive<i32>| {
        range
            .map(|at| format!("{:04}", group(at)))
            .collect::<String>()
    };
    let whole = digits(0..=weight);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let groups_behind = i32::try_from(scale.div_ceil(4)).ok()?;
    let behind = digits(weight + 1..=weight + groups_behind);
    let sign = if *sign == NEGATIVE { "-" } else { "" };
    Some(Cell::json(match behind.get(..scale) {
        Some(behind) if scale > 0 => format!("{sign}{whole}.{behind}"),
        _ => format!("{sign}{whole}"),
    }))
}

/// Microseconds since 2000.
fn timestamp(bytes: &[u8]) -> Option<String> {
    const DAY: i64 = 24 * 3600 * 1_000_000;
    let micros = i64::from_be_bytes(bytes.try_into().ok()?);
    if micros == i64::MAX || micros == i64::MIN {
        return None;
    }
    let date = date(micros.div_euclid(DAY))?;
    Some(format!("{date} {}", time(micros.rem_euclid(DAY))))
}

/// Microseconds since midnight.
fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match fraction {
        0 => String::new(),
        micros => format!(".{micros:06}").trim_end_matches('0').to_owned(),
    };
    format!("{hours:02}:{minutes:02}:{seconds:02}{fraction}")
}

/// Days since 2000. `None`: infinity, or before our era, which are for the statement to print.
fn date(days: i64) -> Option<String> {
    if days >= i64::from(i32::MAX) || days <= i64::from(i32::MIN) {
        return None;
    }
    // Howard Hinnant's civil_from_days: eras of 400 years that begin in March.
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year > 0).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

pub(super) fn verdict(error: &PgDatabaseError) -> Verdict {
    let code = error.code();
    let is_one_of = |classes: &[&str]| classes.iter().any(|class| code.starts_with(class));
    if code == "57014" {
        Verdict::TooLong
    } else if is_one_of(&["08", "57P"]) {
        Verdict::Over
    } else if is_one_of(&["53", "57", "58", "XX"]) {
        Verdict::Ill
    } else {
        Verdict::Wrong
    }
}
