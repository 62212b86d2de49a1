//! What all databases must do, asked of each of them.

use std::sync::Arc;
use std::time::Duration;

use corral::origin::{FailureKind, Origin};

use crate::common::{delete, failure, failure_within, is_absent, load, origin, store, value};
use crate::databases::run_sql;

/// A database under test: its kind, its URL, and how it upserts into a table `users (id, body)`.
pub(crate) struct Bed {
    pub(crate) kind: &'static str,
    pub(crate) url: String,
    /// A statement that takes long.
    pub(crate) slow: &'static str,
    /// The name of a table of this test.
    pub(crate) table: &'static str,
}

impl Bed {
    pub(crate) async fn run(&self, sql: &str) {
        run_sql(self.kind, &self.url, sql).await;
    }

    pub(crate) fn origin(&self, more: &str) -> Arc<Origin> {
        let Self { kind, url, .. } = self;
        origin(&format!(
            "kind = '{kind}'\nurl = '{url}'\npassword = 'p w'\nbreaker-failures = 0\n{more}\n"
        ))
    }

    /// One that loads by this statement, which may have quotes.
    pub(crate) fn loading(&self, sql: &str) -> Arc<Origin> {
        self.origin(&format!("load = '''{sql}'''"))
    }

    /// All that must hold of each database.
    pub(crate) async fn check(&self) {
        self.run(&format!(
            "CREATE TABLE {} (id int PRIMARY KEY, body text, tags text, ttl int)",
            self.table
        ))
        .await;
        self.stores_loads_and_deletes().await;
        self.binds_what_clients_sent().await;
        self.gives_rows_as_json().await;
        self.takes_tags_and_ttl_from_columns().await;
        self.fails_where_it_must().await;
        self.ends_what_nobody_waits_for().await;
    }

    async fn stores_loads_and_deletes(&self) {
        let t = self.table;
        let origin = self.origin(&format!(
            "load = 'SELECT body FROM {t} WHERE id = {{1:int}}'\n\
             store = 'INSERT INTO {t} (id, body) VALUES ({{1:int}}, {{value}})'\n\
             delete = 'DELETE FROM {t} WHERE id = {{1:int}}'"
        ));
        assert!(is_absent(&origin, "1").await);
        store(&origin, "1", "Zoë 'x' \" \\ ; --")
            .await
            .expect("stored");
        assert_eq!(value(&origin, "1").await, "Zoë 'x' \" \\ ; --");
        let again = store(&origin, "1", "other").await.expect_err("a key twice");
        assert_eq!(again.kind, FailureKind::Refused);
        assert_eq!(
            value(&origin, "1").await,
            "Zoë 'x' \" \\ ; --",
            "it is as it was"
        );
        delete(&origin, "1").await.expect("deleted");
        assert!(is_absent(&origin, "1").await);
        delete(&origin, "1").await.expect("nothing to delete");
    }

    async fn binds_what_clients_sent(&self) {
        let t = self.table;
        self.run(&format!("INSERT INTO {t} (id, body) VALUES (2, 'two')"))
            .await;
        let by_body = self.loading(&format!("SELECT id FROM {t} WHERE body = {{1}}"));
        let by_id = self.loading(&format!("SELECT body FROM {t} WHERE id = {{1:int}}"));
        assert_eq!(value(&by_body, "two").await, "2");
        let hostile = [
            "two' OR '1'='1".to_owned(),
            "' UNION SELECT 1 --".to_owned(),
            format!("'; DROP TABLE {t}; --"),
            "two\\".to_owned(),
            "two\\' OR 1=1 -- ".to_owned(),
            "$1 ? {1}".to_owned(),
        ];
        for text in &hostile {
            assert!(is_absent(&by_body, text).await, "{text}");
            assert_eq!(failure(&by_id, text).await, FailureKind::Refused, "{text}");
        }
        for text in [
            "2x",
            " 2",
            "2 ",
            "02",
            "+2",
            "2.0",
            "-0",
            "0x2",
            "",
            "99999999999999999999",
        ] {
            assert_eq!(
                failure(&by_id, text).await,
                FailureKind::Refused,
                "{text:?}"
            );
        }
        assert!(is_absent(&by_id, "-2").await);
        assert_eq!(value(&by_id, "2").await, "two", "it is still there");
    }

    async fn gives_rows_as_json(&self) {
        let t = self.table;
        let sql = format!("SELECT id, body, ttl FROM {t} WHERE id = {{1:int}}");
        assert_eq!(
            value(&self.loading(&sql), "2").await,
            r#"{"id":2,"body":"two","ttl":null}"#
        );
        let null = self.loading(&format!("SELECT ttl FROM {t} WHERE id = {{1:int}}"));
        assert!(is_absent(&null, "2").await, "NULL is no value");
        self.run(&format!("INSERT INTO {t} (id, body) VALUES (3, 'three')"))
            .await;
        let first = self.loading(&format!("SELECT body FROM {t} ORDER BY id"));
        assert_eq!(value(&first, "").await, "two", "the first of several rows");
        assert_eq!(value(&first, "").await, "two", "the connection is whole");
    }

    async fn takes_tags_and_ttl_from_columns(&self) {
        let t = self.table;
        self.run(&format!(
            "UPDATE {t} SET tags = 'a, b', ttl = 90 WHERE id = 2"
        ))
        .await;
        let origin = self.origin(&format!(
            "load = 'SELECT body, tags, ttl FROM {t} WHERE id = {{1:int}}'\n\
             tag-column = 'tags'\nttl-column = 'ttl'"
        ));
        let found = load(&origin, "2")
            .await
            .expect("no failure")
            .expect("a row");
        assert_eq!(&found.value[..], b"two");
        assert_eq!(
            (found.ttl, found.tags),
            (
                Some(Duration::from_secs(90)),
                vec![b"a".to_vec(), b"b".to_vec()]
            )
        );
        let found = load(&origin, "3")
            .await
            .expect("no failure")
            .expect("a row");
        assert_eq!((found.ttl, found.tags.len()), (None, 0));
        let missing = self.origin(&format!(
            "load = 'SELECT body FROM {t}'\nttl-column = 'nowhere'"
        ));
        assert_eq!(failure(&missing, "2").await, FailureKind::BadValue);
    }

    async fn fails_where_it_must(&self) {
        assert_eq!(
            failure(&self.loading("SELECT nonsense FROM"), "").await,
            FailureKind::Refused
        );
        assert_eq!(
            failure(&self.loading("SELECT 1 FROM nowhere"), "").await,
            FailureKind::Refused
        );
        let long = self.origin("max-value = 3\nload = \"SELECT 'long'\"");
        assert_eq!(failure(&long, "").await, FailureKind::TooLarge);
        let reads = self.loading("SELECT 1");
        assert!(!reads.can_store() && !reads.can_delete());
        let stored = store(&reads, "1", "x")
            .await
            .expect_err("there is no such statement");
        assert_eq!(stored.kind, FailureKind::Refused);
    }

    async fn ends_what_nobody_waits_for(&self) {
        let origin = self.loading(self.slow);
        let kind = failure_within(&origin, Duration::from_millis(300)).await;
        assert_eq!(kind, FailureKind::Timeout);
        assert_eq!(origin.report().under_way, 0);
        // What comes next does not wait for it.
        assert_eq!(value(&self.loading("SELECT 1"), "").await, "1");
    }
}

/// Whether values are printed as the database's own cast to text prints them.
pub(crate) async fn prints_as(bed: &Bed, cast: &str, expressions: &[&str]) {
    for expression in expressions {
        let own = value(&bed.loading(&format!("SELECT {expression} AS a")), "").await;
        let cast = cast.replace("$", expression);
        let expected = value(&bed.loading(&format!("SELECT {cast} AS a")), "").await;
        assert_eq!(own, expected, "{expression}");
    }
}
