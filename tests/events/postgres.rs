//! NOTIFY of a PostgreSQL.

use std::fmt::Display;

use crate::bed::{Bed, connected, figure, put, there, until};
use crate::databases::{is_ready, postgres, run_sql};

fn event(url: impl Display, lists: &str) -> String {
    format!(
        "[[event]]\nname = \"e\"\nkind = \"postgres\"\nurl = \"{url}\"\npassword = \"p w\"\n\
         {lists}\n"
    )
}

#[tokio::test]
async fn a_notification_of_a_trigger_removes_what_its_row_names() {
    let database = postgres().await;
    let lists = "channels = [\"Rows\", \"other\"]\n\
                 keys = [\"{0}:{id}\"]\ntags = [\"user:{user}\"]";
    let server = Bed::new(&event(&database.url, lists)).server();
    let mut client = server.connect();
    put(&mut client, &["Rows:7", "Rows:8", "other:8"]);
    client.say("SET page v TAGS 1 user:ann");
    let run = async |sql: &str| run_sql("postgres", &database.url, sql).await;
    run("CREATE TABLE rows_of_events (id int, owner text)").await;
    run(
        "CREATE FUNCTION tell_of_events() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM pg_notify('Rows', json_build_object('id', NEW.id, 'user', NEW.owner)::text); \
         RETURN NEW; END $$",
    )
    .await;
    run(
        "CREATE TRIGGER tell AFTER INSERT OR UPDATE ON rows_of_events FOR EACH ROW \
         EXECUTE FUNCTION tell_of_events()",
    )
    .await;
    run("INSERT INTO rows_of_events VALUES (7, 'ann')").await;
    until("it is done", || figure(&server, 0, "of_tags") == 1);
    let keys = ["Rows:7", "Rows:8", "other:8", "page"];
    assert_eq!(there(&mut client, &keys), ["Rows:8", "other:8"]);
    run("NOTIFY other, 'no json'").await;
    run("NOTIFY other, '{\"id\": \"8\", \"user\": \"x\"}'").await;
    until("it is done", || there(&mut client, &keys) == ["Rows:8"]);
    assert_eq!(figure(&server, 0, "unusable"), 1);
}

#[tokio::test]
async fn what_could_have_been_named_while_the_connection_was_lost_is_removed() {
    let database = postgres().await;
    let lists = "channels = [\"lost\"]\nkeys = [\"row:{payload}\"]";
    let server = Bed::new(&event(&database.url, lists)).server();
    let mut client = server.connect();
    put(&mut client, &["row:1", "row:2", "rows"]);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE query = 'LISTEN \"lost\";'";
    run_sql("postgres", &database.url, end).await;
    until("it is swept", || figure(&server, 0, "swept") == 2);
    connected(&server);
    assert_eq!(figure(&server, 0, "lost"), 1);
    assert_eq!(there(&mut client, &["row:1", "row:2", "rows"]), ["rows"]);
    put(&mut client, &["row:1", "row:2"]);
    is_ready("postgres", &database.url).await;
    run_sql("postgres", &database.url, "NOTIFY lost, '1'").await;
    until("it is done", || {
        there(&mut client, &["row:1", "row:2"]) == ["row:2"]
    });
}

#[test]
fn a_password_is_in_no_log() {
    let bed = Bed::new(&event(
        "postgres://u:hunter2@127.0.0.1:1/x",
        "channels = [\"c\"]\nkeys = [\"k\"]",
    ));
    let server = bed.unconnected(&[]);
    until("it cannot connect", || figure(&server, 0, "lost") > 1);
    let log = bed.log();
    assert!(log.contains("the connection is lost"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains("p w"), "{log}");
}
