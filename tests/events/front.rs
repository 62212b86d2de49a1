//! As the front of an upstream: what is named is removed there, and is copied nowhere any more.

use crate::bed::{Bed, Server, connected, figure, put, there, until};
use crate::servers::free_port;

const EVENT: &str = "[[event]]\nname = \"e\"\nkind = \"pubsub\"\nchannels = [\"o.*\"]\n\
                     keys = [\"order:{1}\"]\n";

#[test]
fn a_message_removes_keys_upstream_and_copies_of_them() {
    let upstream = Server::redis(&[]);
    let tags = "tags = [\"order:{1}\"]\n";
    let front = Bed::new(&(EVENT.to_owned() + tags)).front(&upstream, &[]);
    let mut client = front.connect();
    put(&mut client, &["order:1", "order:2"]);
    client.say("SET page v TAGS 1 order:1");
    client.say("SET order:1 v TAGS 1 other");
    for key in ["order:1", "page"] {
        assert_eq!(client.say(&format!("GET {key}")), "$1\r\nv\r\n");
        assert_eq!(client.say(&format!("GET {key}")), "$1\r\nv\r\n");
    }
    client.say("PUBLISH o.1 x");
    until("it is done", || figure(&front, 0, "removed") == 1);
    assert_eq!(figure(&front, 0, "of_tags"), 1);
    assert_eq!(client.say("GET order:1"), "$-1\r\n");
    assert_eq!(client.say("GET page"), "$-1\r\n");
    assert_eq!(client.number("TAG.CARD other"), 0);
    assert_eq!(
        there(&mut upstream.connect(), &["order:1", "order:2"]),
        ["order:2"]
    );
}

#[test]
fn what_could_have_been_named_while_the_source_was_gone_is_removed_upstream_and_no_more() {
    let (upstream, source) = (Server::redis(&[]), Server::redis(&[]));
    let url = format!(
        "url = \"redis://127.0.0.1:{}\"\ndb = 2\ntags = [\"t:{{1}}\"]\n",
        source.port
    );
    let front = Bed::new(&(EVENT.to_owned() + &url)).front(&upstream, &[]);
    let mut client = upstream.connect();
    client.say("SELECT 2");
    let keys: Vec<String> = (0..2000).map(|number| format!("order:{number}")).collect();
    for key in &keys {
        client.say(&format!("SET {key} v"));
    }
    put(&mut client, &["orders"]);
    let mut through = front.connect();
    through.say("SELECT 2");
    for tag in ["t:1", "u:1"] {
        assert_eq!(
            through.say(&format!("SET of:{tag} v TAGS 1 {tag}")),
            "+OK\r\n"
        );
    }
    let port = source.port;
    drop(source);
    until("it is lost", || figure(&front, 0, "lost") > 0);
    assert_eq!(client.number("EXISTS order:0 order:1999 of:t:1 of:u:1"), 4);
    let _source = Server::redis_on(port, &[]);
    until("it is swept", || figure(&front, 0, "swept") == 2001);
    assert_eq!(client.say("KEYS o*:*"), "*1\r\n$6\r\nof:u:1\r\n");
    assert_eq!(there(&mut through, &["orders", "of:u:1"]).len(), 2);
    assert_eq!(through.number("TAG.CARD u:1"), 1);
    connected(&front);
}

#[test]
fn while_upstream_is_gone_an_event_waits_and_is_done_when_it_is_back() {
    let (upstream, source) = (Server::redis(&[]), Server::redis(&[]));
    let url = format!("url = \"redis://127.0.0.1:{}\"\n", source.port);
    let front = Bed::new(&(EVENT.to_owned() + &url)).front(&upstream, &[]);
    let port = upstream.port;
    drop(upstream);
    source.connect().say("PUBLISH o.1 x");
    until("it was taken", || figure(&front, 0, "received") == 1);
    let upstream = Server::redis_on(port, &[]);
    until("it is done", || figure(&front, 0, "keys") == 1);
    let ran = upstream.connect().say("INFO commandstats");
    assert!(ran.contains("cmdstat_unlink:calls=1,"), "{ran}");
    assert_eq!(figure(&front, 0, "lost"), 0);
}

#[test]
fn the_admin_port_of_a_front_removes_keys_and_those_of_tags_upstream() {
    let upstream = Server::redis(&[]);
    let admin = free_port().to_string();
    let args = ["--admin-port", &admin, "--admin-token", "secret"];
    let front = Bed::new(EVENT).front(&upstream, &args);
    let mut client = front.connect();
    let post = |body: &str| {
        use std::io::{Read as _, Write as _};
        let port: u16 = admin.parse().expect("a port");
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let len = body.len();
        let request = format!(
            "POST /invalidate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: Bearer secret\r\nContent-Length: {len}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).expect("a status").to_owned();
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        (status, body.trim_end().to_owned())
    };
    put(&mut client, &["a", "b"]);
    assert_eq!(client.say("GET a"), "$1\r\nv\r\n");
    let done = ("200".to_owned(), "{\"keys\":1,\"of_tags\":0}".to_owned());
    assert_eq!(post("{\"keys\": [\"a\", \"none\"]}"), done);
    assert_eq!(client.say("GET a"), "$-1\r\n");
    assert_eq!(there(&mut client, &["a", "b"]), ["b"]);
    // Not where it is: in the database that was asked for, or nowhere.
    let mut other = upstream.connect();
    other.say("SELECT 5");
    put(&mut other, &["b"]);
    assert_eq!(post("{\"keys\": [\"b\"], \"db\": 5}"), done);
    let (status, why) = post("{\"keys\": [\"b\"], \"db\": 99}");
    assert_eq!(
        (&*status, why.contains("out of range")),
        ("502", true),
        "{why}"
    );
    assert_eq!(there(&mut client, &["a", "b"]), ["b"]);
    client.say("SET c v TAGS 1 t");
    assert_eq!(client.say("GET c"), "$1\r\nv\r\n");
    let done = ("200".to_owned(), "{\"keys\":0,\"of_tags\":1}".to_owned());
    assert_eq!(post("{\"tags\": [\"t\"]}"), done);
    assert_eq!(client.say("GET c"), "$-1\r\n");
}
