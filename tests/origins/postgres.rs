//! PostgreSQL.

use std::time::Duration;

use corral::origin::FailureKind;

use crate::common::{failure, failure_within, load, origin, store, until, value};
use crate::databases::{Database, is_ready, postgres, start_postgres};
use crate::servers::Server;
use crate::sql::{Bed, prints_as};

fn bed(database: &Database, table: &'static str) -> Bed {
    Bed {
        kind: "postgres",
        url: database.url.clone(),
        slow: "SELECT pg_sleep(1000)::text",
        table,
    }
}

#[tokio::test]
async fn postgresql_does_what_every_database_does() {
    let database = postgres().await;
    bed(&database, "every").check().await;
}

#[tokio::test]
async fn a_parameter_has_the_type_that_is_inferred() {
    let database = postgres().await;
    let bed = bed(&database, "inferred");
    bed.run(
        "CREATE TABLE inferred (i2 smallint, i4 int, i8 bigint, t text, v varchar(9), u uuid, \
         b bool, x bytea, f float8, j jsonb)",
    )
    .await;
    let uuid = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let origin = bed.origin(
        "load = 'SELECT t FROM inferred WHERE i2 = {1} AND i4 = {1} AND i8 = {1} AND f = {1}'\n\
         store = '''INSERT INTO inferred (i2, i4, i8, f, v, t, u, b, x, j) VALUES \
         ({1}, {1}, {1}, {1}, {1}, {value}, '0f8fad5b-d9cb-469f-a165-70867728950e', true, \
         {value}, '1')'''",
    );
    store(&origin, "42", "text").await.unwrap();
    assert_eq!(value(&origin, "42").await, "text");
    for (column, text) in [
        ("u", uuid),
        ("b", "true"),
        ("x", "text"),
        ("v", "42"),
        ("j", "1"),
    ] {
        let by = bed.loading(&format!("SELECT i4 FROM inferred WHERE {column} = {{1}}"));
        assert_eq!(value(&by, text).await, "42", "{column}");
    }
    let by_small = bed.loading("SELECT t FROM inferred WHERE i2 = {1}");
    assert_eq!(failure(&by_small, "40000").await, FailureKind::Refused);
    let by_text = bed.loading("SELECT t FROM inferred WHERE t = {1}");
    assert_eq!(failure(&by_text, "a\0").await, FailureKind::Refused);
    assert_eq!(failure(&by_text, b"\xff").await, FailureKind::Refused);
    assert_eq!(value(&by_text, "text").await, "text");
}

#[tokio::test]
async fn a_type_that_is_not_known_is_cast_in_the_statement() {
    let database = postgres().await;
    let bed = bed(&database, "casts");
    let plain = bed.loading("SELECT 1 WHERE {1} = '2026-11-21'::date");
    let refused = load(&plain, "2026-11-21").await.unwrap_err();
    assert_eq!(
        refused.text,
        "a parameter of type DATE: write {1:text}::DATE"
    );
    let cast = bed.loading("SELECT 1 WHERE {1:text}::date = '2026-11-21'::date");
    assert_eq!(value(&cast, "2026-11-21").await, "1");
    let column = load(&bed.loading("SELECT '1 day'::interval AS a"), "")
        .await
        .unwrap_err();
    assert_eq!(column.kind, FailureKind::BadValue);
    assert_eq!(
        column.text,
        "the column a is of type INTERVAL: write a::text"
    );
}

#[tokio::test]
async fn columns_are_printed_as_a_cast_to_text_prints_them() {
    let database = postgres().await;
    let expressions = [
        "true",
        "false",
        "1::smallint",
        "(-32768)::smallint",
        "2147483647",
        "9223372036854775807",
        "(-9223372036854775808)::bigint",
        "4294967295::oid",
        "'a''b'::varchar(9)",
        "'n'::name",
        "0::float8",
        "1::float8",
        "0.1::float8",
        "1e14::float8",
        "1e15::float8",
        "123456789012345680::float8",
        "1.5e-5::float8",
        "0.0001::float8",
        "'-Infinity'::float8",
        "'NaN'::float8",
        "0.1::float4",
        "1e5::float4",
        "1e6::float4",
        "1.25e-7::float4",
        "0::numeric",
        "1.50::numeric",
        "12345678901234567890.123456789::numeric",
        "-0.00012::numeric",
        "10000::numeric",
        "99999.9::numeric",
        "1e30::numeric",
        "1e-20::numeric",
        "'NaN'::numeric",
        "0.00::numeric",
        "'2026-11-21'::date",
        "'2000-02-29'::date",
        "'1999-12-31'::date",
        "'0001-01-01'::date",
        "'9999-12-31'::date",
        "'1600-03-01'::date",
        "'1900-02-28'::date",
        "'00:00:00'::time",
        "'23:59:59.5'::time",
        "'2026-11-21 14:29:03.000001'::timestamp",
        "'1969-12-31 23:59:59.999999'::timestamp",
        "'2026-11-21 14:29:03+02'::timestamptz",
        "'0f8fad5b-d9cb-469f-a165-70867728950e'::uuid",
        "'[1, 2]'::json",
        "'[1,2]'::jsonb",
    ];
    prints_as(&bed(&database, "printed"), "($)::text", &expressions).await;
}

#[tokio::test]
async fn a_row_is_printed_as_json() {
    let database = postgres().await;
    let bed = bed(&database, "json");
    let sql = "SELECT 1 AS i, 1.50::numeric AS n, true AS b, 'x\"y' AS t, '[1]'::jsonb AS j, \
               'NaN'::float8 AS f, NULL::int AS z, '2026-11-21'::date AS d";
    let expected =
        r#"{"i":1,"n":1.50,"b":true,"t":"x\"y","j":[1],"f":"NaN","z":null,"d":"2026-11-21"}"#;
    assert_eq!(value(&bed.loading(sql), "").await, expected);
    let bytes = bed.loading("SELECT 1 AS a, '\\xff'::bytea AS b");
    assert_eq!(failure(&bytes, "").await, FailureKind::BadValue);
    let alone = load(&bed.loading("SELECT '\\xff00'::bytea"), "")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&alone.value[..], b"\xff\0");
}

#[tokio::test]
async fn an_enum_is_text() {
    let database = postgres().await;
    let bed = bed(&database, "enums");
    bed.run("CREATE TYPE mood AS ENUM ('good', 'bad')").await;
    let origin = bed.loading("SELECT 'bad'::mood WHERE 'good'::mood = {1}");
    assert_eq!(value(&origin, "good").await, "bad");
}

#[tokio::test]
async fn the_database_ends_a_statement_that_nobody_waits_for() {
    let database = postgres().await;
    let bed = bed(&database, "ends");
    let origin = bed.loading("SELECT pg_sleep(1000)::text || 'find me'");
    let kind = failure_within(&origin, Duration::from_millis(200)).await;
    assert_eq!(kind, FailureKind::Timeout);
    let count = bed.loading(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)%find me%' \
         AND state = 'active' AND pid <> pg_backend_pid()",
    );
    let mut left = value(&count, "").await;
    let since = tokio::time::Instant::now();
    while left != "0" {
        assert!(
            since.elapsed() < Duration::from_secs(10),
            "{left} still run"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = value(&count, "").await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_failure_to_connect() {
    let database = postgres().await;
    let url = &database.url;
    let settings = format!("kind = 'postgres'\nurl = '{url}'\npassword = 'x'\nload = 'SELECT 1'\n");
    assert_eq!(failure(&origin(&settings), "").await, FailureKind::Connect);
}

#[tokio::test]
async fn a_server_that_went_away_is_a_failure_and_its_kept_connections_are_not_used() {
    let database = start_postgres();
    is_ready("postgres", &database.url).await;
    let bed = bed(&database, "away");
    let origin = bed.loading("SELECT 1");
    assert_eq!(value(&origin, "").await, "1");
    let Database { server, .. } = database;
    let mut server: Server = server;
    server.signal("QUIT");
    until("it has ended", || {
        server.process.try_wait().unwrap().is_some()
    })
    .await;
    assert_eq!(failure(&origin, "").await, FailureKind::Connect);
}
