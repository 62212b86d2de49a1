//! Channels of a `redis-server`.

use std::fs;

use crate::bed::{Bed, Server, connected, figure, put, received, there, until};

fn event(source: &Server, lists: &str) -> String {
    format!(
        "[[event]]\nname = \"e\"\nkind = \"pubsub\"\nurl = \"redis://127.0.0.1:{}\"\n{lists}\n",
        source.port
    )
}

const ORDERS: &str = "channels = [\"orders.*\", \"news.*\"]\nkeys = [\"order:{1}\", \"{payload}\"]";

#[test]
fn a_message_removes_the_keys_that_it_names() {
    let source = Server::redis(&[]);
    let server = Bed::new(&event(&source, ORDERS)).server();
    let mut client = server.connect();
    let keys = ["order:7", "order:8", "front page", "x"];
    for key in keys {
        client.ask(&[b"SET", key.as_bytes(), b"v"]);
    }
    let mut told = source.connect();
    assert_eq!(
        told.ask(&[b"PUBLISH", b"orders.7", b"front page"]),
        b":1\r\n"
    );
    received(&server, 0, 1);
    until("it is done", || figure(&server, 0, "removed") == 2);
    let left = |key: &&str| client.ask(&[b"EXISTS", key.as_bytes()]) == b":1\r\n";
    let left: Vec<&str> = keys.into_iter().filter(left).collect();
    assert_eq!(left, ["order:8", "x"]);
    assert_eq!(
        (figure(&server, 0, "keys"), figure(&server, 0, "unusable")),
        (2, 0)
    );
}

#[test]
fn fields_of_a_message_name_keys_and_tags_of_a_database() {
    let source = Server::redis(&[]);
    let lists = "channels = [\"c\"]\nkeys = [\"order:{id}\"]\ntags = [\"user:{user}\"]\ndb = 3";
    let server = Bed::new(&event(&source, lists)).server();
    let mut client = server.connect();
    put(&mut client, &["order:7"]);
    client.say("SELECT 3");
    put(&mut client, &["order:7", "order:8"]);
    client.say("SET page v TAGS 1 user:ann");
    client.say("SET other v TAGS 1 user:bob");
    source
        .connect()
        .say("PUBLISH c {\"id\":7,\"user\":\"ann\"}");
    until("it is done", || figure(&server, 0, "of_tags") == 1);
    let keys = ["order:7", "order:8", "page", "other"];
    assert_eq!(there(&mut client, &keys), ["order:8", "other"]);
    client.say("SELECT 0");
    assert_eq!(there(&mut client, &["order:7"]), ["order:7"]);
}

#[test]
fn a_message_that_cannot_be_used_is_counted_and_the_next_one_taken() {
    let source = Server::redis(&[]);
    let bed = Bed::new(&event(
        &source,
        "channels = [\"c\"]\nkeys = [\"order:{id}\"]",
    ));
    let server = bed.server();
    let mut client = server.connect();
    put(&mut client, &["order:7"]);
    let mut told = source.connect();
    told.say("PUBLISH c secret-text");
    told.say("PUBLISH c {\"ID\":7}");
    told.ask(&[b"PUBLISH", b"c", &vec![b'x'; 3 << 20]]);
    told.say("PUBLISH c {\"id\":7}");
    until("it is gone", || there(&mut client, &["order:7"]).is_empty());
    received(&server, 0, 4);
    assert_eq!(figure(&server, 0, "unusable"), 3);
    assert_eq!(figure(&server, 0, "lost"), 0);
    let log = bed.log();
    assert!(log.contains("a message cannot be used"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn what_could_have_been_named_while_the_source_was_gone_is_removed_and_told() {
    let source = Server::redis(&[]);
    let lists = "channels = [\"o.*\"]\nkeys = [\"order:{1}:x\", \"page\"]\ntags = [\"t:{1}\"]";
    let bed = Bed::new(&event(&source, lists));
    let server = bed.server();
    let mut client = server.connect();
    put(&mut client, &["order:1:x", "order:1:y", "page", "pages"]);
    client.say("SET a v TAGS 1 t:1");
    client.say("SET b v TAGS 1 u:1");
    let port = source.port;
    drop(source);
    until("it is lost", || figure(&server, 0, "lost") > 0);
    let all = ["order:1:x", "order:1:y", "page", "pages", "a", "b"];
    assert_eq!(there(&mut client, &all), all);
    let source = Server::redis_on(port, &[]);
    connected(&server);
    until("it is swept", || figure(&server, 0, "swept") == 3);
    assert_eq!(there(&mut client, &all), ["order:1:y", "pages", "b"]);
    let log = bed.log();
    assert!(log.contains("events may have been lost"), "{log}");
    assert!(log.contains("keys=3"), "{log}");
    put(&mut client, &["order:1:x"]);
    source.connect().say("PUBLISH o.1 m");
    until("it is gone", || {
        there(&mut client, &["order:1:x"]).is_empty()
    });
}

#[test]
fn what_is_lost_or_softly_invalidated_is_served_stale_by_a_rule_that_allows_it() {
    let source = Server::redis(&[]);
    let bed = Bed::new("");
    let values = bed.text("value");
    fs::write(&values, "old").expect("a file");
    let rule = format!(
        "[[origin]]\nname = \"files\"\nkind = \"command\"\nload = [\"cat\", \"{values}\"]\n\
         [[rule]]\nmatch = \"order:*\"\norigin = \"files\"\nttl = \"100s\"\n\
         stale-if-error = \"100s\"\nbeta = 0\nerror-ttl = 0\n"
    );
    let lists = "channels = [\"c\"]\nkeys = [\"{payload}\"]\nsoft = true";
    bed.change(&(event(&source, lists) + &rule));
    let server = bed.server();
    let mut client = server.connect();
    assert_eq!(client.say("GET order:1"), "$3\r\nold\r\n");
    fs::remove_file(&values).expect("a file");
    source.connect().say("PUBLISH c order:1");
    until("it is done", || figure(&server, 0, "removed") == 1);
    // It has expired, and the origin fails: nothing but the stale value is left.
    assert_eq!(client.say("GET order:1"), "$3\r\nold\r\n");
    assert!(client.say("CORRAL.INFO loads").contains("failed_"));
    fs::write(&values, "new").expect("a file");
    until("it is loaded again", || {
        client.say("GET order:1") == "$3\r\nnew\r\n"
    });
    let port = source.port;
    drop(source);
    until("it is lost", || figure(&server, 0, "lost") > 0);
    fs::remove_file(&values).expect("a file");
    let _source = Server::redis_on(port, &[]);
    until("it is swept", || figure(&server, 0, "swept") == 1);
    assert_eq!(client.say("GET order:1"), "$3\r\nnew\r\n");
}

#[test]
fn a_load_that_began_before_a_message_leaves_nothing_behind() {
    let source = Server::redis(&[]);
    let bed = Bed::new("");
    let directory = bed.text("");
    let script = format!(
        "cd {directory}; echo >> calls; cat value; while [ ! -e open ]; do sleep 0.01; done"
    );
    let rule = format!(
        "[[origin]]\nname = \"files\"\nkind = \"command\"\n\
         load = [\"/bin/sh\", \"-c\", '''{script}''']\n\
         [[rule]]\nmatch = \"order:*\"\norigin = \"files\"\nttl = \"100s\"\ntimeout = \"20s\"\n"
    );
    let lists = "channels = [\"c\"]\nkeys = [\"{payload}\"]";
    bed.change(&(event(&source, lists) + &rule));
    fs::write(bed.path("value"), "old").expect("a file");
    let server = bed.server();
    let mut reader = server.connect();
    reader.send(b"GET order:1\r\n");
    let calls = || fs::read(bed.path("calls")).unwrap_or_default().len();
    until("it is being loaded", || calls() == 1);
    fs::write(bed.path("value"), "new").expect("a file");
    source.connect().say("PUBLISH c order:1");
    until("it is done", || figure(&server, 0, "keys") == 1);
    fs::write(bed.path("open"), "").expect("a file");
    reader.frame().expect("a reply");
    assert_eq!(server.connect().say("GET order:1"), "$3\r\nnew\r\n");
}
