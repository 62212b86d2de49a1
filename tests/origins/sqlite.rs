//! A file of SQLite.

use std::time::Duration;

use corral::origin::FailureKind;
use tempfile::TempDir;

use crate::common::{failure, failure_within, load, origin, value};
use crate::sql::{Bed, prints_as};

/// A statement that has much to do.
const SLOW: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                    WHERE i < 100000000000) SELECT count(*) FROM n";

fn bed() -> (Bed, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed {
        kind: "sqlite",
        url: format!("sqlite:{}?mode=rwc", dir.path().join("file.db").display()),
        slow: SLOW,
        table: "every",
    };
    (bed, dir)
}

#[tokio::test]
async fn sqlite_does_what_every_database_does() {
    let (bed, _dir) = bed();
    bed.check().await;
}

#[tokio::test]
async fn columns_are_printed_as_a_cast_to_text_prints_them() {
    let (bed, _dir) = bed();
    let expressions = [
        "1",
        "-9223372036854775808",
        "1.5",
        "1.0",
        "1e20",
        "0.1",
        "1e-7",
        "1e14",
        "1e15",
        "'text'",
        "date('2026-11-21')",
        "x'4142'",
    ];
    prints_as(&bed, "CAST($ AS TEXT)", &expressions).await;
}

#[tokio::test]
async fn a_value_is_what_it_is_whatever_its_column_was_declared_as() {
    let (bed, _dir) = bed();
    bed.run("CREATE TABLE t (b BOOLEAN, d DATETIME, n NUMERIC, x)")
        .await;
    bed.run("INSERT INTO t VALUES (1, '2026-11-21 14:29:03', 1.5, x'ff')")
        .await;
    let sql = "SELECT b, d, n FROM t";
    let expected = r#"{"b":1,"d":"2026-11-21 14:29:03","n":1.5}"#;
    assert_eq!(value(&bed.loading(sql), "").await, expected);
    let bytes = load(&bed.loading("SELECT x FROM t"), "")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&bytes.value[..], b"\xff");
    assert_eq!(
        failure(&bed.loading("SELECT x, b FROM t"), "").await,
        FailureKind::BadValue
    );
}

#[tokio::test]
async fn a_text_finds_a_number_only_if_it_is_that_number() {
    let (bed, _dir) = bed();
    bed.run("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        .await;
    bed.run("INSERT INTO t VALUES (42, 'x')").await;
    let origin = bed.loading("SELECT body FROM t WHERE id = {1}");
    assert_eq!(value(&origin, "42").await, "x");
    assert!(load(&origin, "42x").await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_that_is_not_there_is_a_failure_to_connect() {
    let settings = "kind = 'sqlite'\nurl = 'sqlite:/nowhere/file.db'\nload = 'SELECT 1'\n";
    assert_eq!(failure(&origin(settings), "").await, FailureKind::Connect);
}

/// How much CPU time this process's threads of SQLite have used, in ticks.
fn busy_ticks() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let ticks = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        head.contains("sqlx-sqlite")
            .then(|| fields[11].parse::<u64>().ok())?
    });
    ticks.sum()
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_interrupted() {
    let (bed, _dir) = bed();
    let origin = bed.loading(SLOW);
    let kind = failure_within(&origin, Duration::from_millis(200)).await;
    assert_eq!(kind, FailureKind::Timeout);
    let since = tokio::time::Instant::now();
    loop {
        let before = busy_ticks();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if busy_ticks() <= before {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "it still runs");
    }
}
