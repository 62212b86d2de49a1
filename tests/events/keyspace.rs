//! What a `redis-server` tells of its keys.

use crate::bed::{Bed, Server, figure, put, there, until};

fn event(lists: &str) -> String {
    format!("[[event]]\nname = \"e\"\nkind = \"keyspace\"\n{lists}\n")
}

#[test]
fn what_happens_to_a_key_there_removes_keys_here() {
    let source = Server::redis(&["--notify-keyspace-events", "KA"]);
    let url = format!("url = \"redis://127.0.0.1:{}/2\"\n", source.port);
    let lists = "match = \"user:*:*\"\nevents = [\"set\", \"expired\"]\n\
                 keys = [\"{key}\", \"page:{2}\", \"{payload}\"]";
    let bed = Bed::new(&event(&(url + lists)));
    let server = bed.server();
    let mut client = server.connect();
    let keys = ["user:1:a", "page:a", "set", "expired", "del"];
    put(&mut client, &keys);
    let mut changed = source.connect();
    // In another database, of another name, and of other kinds: none of that counts.
    changed.say("SET user:1:a v");
    changed.say("SELECT 2");
    changed.say("SET other:1:a v");
    changed.say("SET user:1:b v");
    until("the one that counts was taken", || {
        figure(&server, 0, "received") == 1
    });
    assert_eq!(
        there(&mut client, &keys),
        ["user:1:a", "page:a", "expired", "del"]
    );
    changed.say("DEL user:1:b");
    changed.say("SET user:1:a v PX 1");
    until("it has expired", || {
        changed.say("GET user:1:a");
        figure(&server, 0, "received") == 3
    });
    until("it is done", || there(&mut client, &keys) == ["del"]);
    assert!(!bed.log().contains("CONFIG SET"), "{}", bed.log());
}

#[test]
fn a_redis_that_does_not_notify_of_enough_is_told_of_and_left_as_it_is() {
    let source = Server::redis(&["--notify-keyspace-events", "Ex"]);
    let url = format!("url = \"redis://127.0.0.1:{}\"\n", source.port);
    let lists = "match = \"*\"\nevents = [\"set\", \"expired\"]\nkeys = [\"{key}\"]";
    let bed = Bed::new(&event(&(url + lists)));
    let _server = bed.server();
    let log = bed.log();
    let say = "CONFIG SET notify-keyspace-events xEK$";
    assert!(log.contains(say), "{log}");
    let reply = source.connect().say("CONFIG GET notify-keyspace-events");
    assert!(reply.ends_with("xE\r\n"), "{reply}");
}

#[test]
fn a_front_is_told_of_the_keys_of_its_upstream() {
    let upstream = Server::redis(&["--notify-keyspace-events", "KA"]);
    let lists = "match = \"user:*\"\nevents = [\"set\"]\nkeys = [\"page:{1}\"]\ndb = 1";
    let front = Bed::new(&event(lists)).front(&upstream, &[]);
    let mut client = front.connect();
    client.say("SELECT 1");
    put(&mut client, &["page:7", "page:8"]);
    assert_eq!(client.say("GET page:7"), "$1\r\nv\r\n");
    put(&mut client, &["user:7"]);
    until("it is done", || figure(&front, 0, "removed") == 1);
    assert_eq!(client.say("GET page:7"), "$-1\r\n");
    assert_eq!(
        there(&mut client, &["page:7", "page:8", "user:7"]),
        ["page:8", "user:7"]
    );
}
