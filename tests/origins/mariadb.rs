//! MariaDB, by the protocol of MySQL.

use std::time::Duration;

use corral::origin::FailureKind;

use crate::common::{failure, failure_within, load, origin, value};
use crate::databases::{Database, mariadb};
use crate::sql::{Bed, prints_as};

fn bed(database: &Database, table: &'static str) -> Bed {
    Bed {
        kind: "mysql",
        url: database.url.clone(),
        slow: "SELECT SLEEP(1000)",
        table,
    }
}

#[tokio::test]
async fn mariadb_does_what_every_database_does() {
    let database = mariadb().await;
    bed(&database, "every").check().await;
}

#[tokio::test]
async fn columns_are_printed_as_a_cast_to_text_prints_them() {
    let database = mariadb().await;
    let bed = bed(&database, "printed");
    let expressions = [
        "1",
        "-1",
        "9223372036854775807",
        "18446744073709551615",
        "1.50",
        "CAST(-0.00012 AS DECIMAL(20,8))",
        "'text'",
        "CAST('2026-11-21' AS DATE)",
        "CAST('2026-11-21 14:29:03' AS DATETIME)",
        "CAST('2026-11-21 14:29:03.000001' AS DATETIME(6))",
        "CAST('2026-11-21' AS DATETIME)",
        "CAST('-100:30:00' AS TIME)",
        "CAST('00:00:00' AS TIME)",
        "CAST('25:00:01.5' AS TIME(1))",
        "TRUE",
        "CAST(0.1 AS DOUBLE)",
        "CAST(1e20 AS DOUBLE)",
        "CAST(1e14 AS DOUBLE)",
        "JSON_OBJECT('a', 1)",
    ];
    // A fraction of a second has the digits of its column there, and six here.
    let expressions: Vec<_> = expressions
        .into_iter()
        .filter(|expression| !expression.contains("TIME(1)"))
        .collect();
    prints_as(&bed, "CAST($ AS CHAR)", &expressions).await;
    bed.run(
        "CREATE TABLE printed (a TINYINT, b TINYINT UNSIGNED, c SMALLINT, d MEDIUMINT, \
         e INT UNSIGNED, f FLOAT, y YEAR, n ENUM('x','y'), s SET('p','q'), k VARBINARY(9), \
         m TIMESTAMP(6))",
    )
    .await;
    bed.run(
        "INSERT INTO printed VALUES (-128, 255, -32768, -8388608, 4294967295, 0.5, 2026, 'y', \
         'p,q', 'bin', '2026-11-21 14:29:03.5')",
    )
    .await;
    let expected = "{\"a\":-128,\"b\":255,\"c\":-32768,\"d\":-8388608,\"e\":4294967295,\"f\":0.5,\
                    \"y\":2026,\"n\":\"y\",\"s\":\"p,q\",\"k\":\"bin\",\
                    \"m\":\"2026-11-21 14:29:03.500000\"}";
    assert_eq!(
        value(&bed.loading("SELECT * FROM printed"), "").await,
        expected
    );
}

#[tokio::test]
async fn bytes_are_bytes() {
    let database = mariadb().await;
    let bed = bed(&database, "bytes");
    let origin = bed.loading("SELECT UNHEX({1})");
    let found = load(&origin, "ff00").await.unwrap().unwrap();
    assert_eq!(&found.value[..], b"\xff\0");
    let typed = bed.loading("SELECT HEX({1:bytes})");
    assert_eq!(value(&typed, b"\xff\0").await, "FF00");
    let text = bed.loading("SELECT HEX({1:text})");
    assert_eq!(failure(&text, b"\xff").await, FailureKind::Refused);
}

#[tokio::test]
async fn the_database_ends_a_statement_that_nobody_waits_for() {
    let database = mariadb().await;
    let bed = bed(&database, "ends");
    let origin = bed.loading("SELECT BENCHMARK(100000000000, SHA2('a', 512))");
    let kind = failure_within(&origin, Duration::from_millis(200)).await;
    assert_eq!(kind, FailureKind::Timeout);
    let count = bed.loading(
        "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%BENCHMARK(%' \
         AND id <> CONNECTION_ID()",
    );
    let since = tokio::time::Instant::now();
    while value(&count, "").await != "0" {
        assert!(since.elapsed() < Duration::from_secs(10), "it still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_failure_to_connect() {
    let database = mariadb().await;
    let url = &database.url;
    let settings = format!("kind = 'mysql'\nurl = '{url}'\npassword = 'x'\nload = 'SELECT 1'\n");
    assert_eq!(failure(&origin(&settings), "").await, FailureKind::Connect);
}
