//! Streams of a `redis-server`.

use crate::bed::{Bed, Client, Server, connected, figure, put, there, until};

fn event(source: &Server, lists: &str) -> String {
    format!(
        "[[event]]\nname = \"e\"\nkind = \"stream\"\nurl = \"redis://127.0.0.1:{}\"\n\
         stream = \"events\"\ngroup = \"g\"\nkeys = [\"order:{{id}}\"]\n{lists}\n",
        source.port
    )
}

/// How many entries the group owes.
fn pending(told: &mut Client) -> String {
    let reply = told.say("XPENDING events g");
    reply.lines().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn an_entry_is_acknowledged_when_it_is_done_be_it_usable_or_not() {
    let source = Server::redis(&[]);
    let server = Bed::new(&event(&source, "tags = [\"user:{user}\"]")).server();
    let (mut client, mut told) = (server.connect(), source.connect());
    put(&mut client, &["order:7", "order:8"]);
    client.say("SET page v TAGS 1 user:ann");
    told.say("XADD events * nothing x");
    told.say("XADD events * id 7 user ann");
    until("it is done", || figure(&server, 0, "of_tags") == 1);
    assert_eq!(
        there(&mut client, &["order:7", "order:8", "page"]),
        ["order:8"]
    );
    assert_eq!(figure(&server, 0, "unusable"), 1);
    until("all is acknowledged", || pending(&mut told) == ":0");
}

#[test]
fn what_was_sent_while_the_server_was_gone_is_done_when_it_is_back() {
    let (source, upstream) = (Server::redis(&[]), Server::redis(&[]));
    let bed = Bed::new(&event(&source, "consumer = \"me\""));
    let server = bed.front(&upstream, &[]);
    let mut told = source.connect();
    drop(server);
    let mut there_upstream = upstream.connect();
    put(&mut there_upstream, &["order:1", "order:2", "order:3"]);
    told.say("XADD events * id 1");
    told.say("XADD events * id 2");
    // As if the server had ended between taking the first and its effect.
    told.say("XREADGROUP GROUP g me COUNT 1 STREAMS events >");
    let server = bed.front(&upstream, &[]);
    until("both are done", || figure(&server, 0, "removed") == 2);
    assert_eq!(
        there(&mut there_upstream, &["order:1", "order:2", "order:3"]),
        ["order:3"]
    );
    assert_eq!(figure(&server, 0, "swept"), 0);
    until("all is acknowledged", || pending(&mut told) == ":0");
}

#[test]
fn after_a_lost_connection_it_goes_on_where_it_was_and_nothing_is_swept() {
    let source = Server::redis(&[]);
    let server = Bed::new(&event(&source, "")).server();
    let (mut client, mut told) = (server.connect(), source.connect());
    put(&mut client, &["order:1", "order:2"]);
    told.say("CLIENT KILL TYPE normal SKIPME yes");
    told.say("XADD events * id 1");
    until("it is done", || {
        there(&mut client, &["order:1", "order:2"]) == ["order:2"]
    });
    assert_eq!(
        (figure(&server, 0, "lost"), figure(&server, 0, "swept")),
        (1, 0)
    );
}

#[test]
fn what_another_consumer_left_lying_is_taken_over() {
    let source = Server::redis(&[]);
    let server = Bed::new(&event(&source, "claim-after = \"200ms\"")).server();
    let (mut client, mut told) = (server.connect(), source.connect());
    put(&mut client, &["order:1", "order:2"]);
    // Both at once, so that this consumer cannot have it first.
    told.send(
        b"MULTI\r\nXADD events * id 1\r\nXREADGROUP GROUP g dead STREAMS events >\r\nEXEC\r\n",
    );
    until("it is done", || {
        there(&mut client, &["order:1", "order:2"]) == ["order:2"]
    });
    let mut told = source.connect();
    until("all is acknowledged", || pending(&mut told) == ":0");
}

#[test]
fn what_was_removed_before_it_was_read_is_swept() {
    let source = Server::redis(&[]);
    let server = Bed::new(&event(&source, "")).server();
    let (mut client, mut told) = (server.connect(), source.connect());
    put(&mut client, &["order:1", "order:2", "other"]);
    told.send(
        b"MULTI\r\nXADD events * id 1\r\nXADD events * id 2\r\nXTRIM events MAXLEN 0\r\n\
          CLIENT KILL TYPE normal SKIPME yes\r\nEXEC\r\n",
    );
    until("all is swept", || figure(&server, 0, "swept") == 2);
    assert_eq!(
        there(&mut client, &["order:1", "order:2", "other"]),
        ["other"]
    );
    connected(&server);
    assert_eq!(figure(&server, 0, "received"), 0);
}

#[test]
fn a_group_that_is_gone_is_made_again_and_what_it_owed_is_swept() {
    let source = Server::redis(&[]);
    let server = Bed::new(&event(&source, "")).server();
    let (mut client, mut told) = (server.connect(), source.connect());
    put(&mut client, &["order:1", "order:2"]);
    told.say("FLUSHALL");
    told.say("XADD events * id 3");
    until("it is swept", || figure(&server, 0, "swept") == 2);
    put(&mut client, &["order:3"]);
    told.say("XADD events * id 3");
    until("it is done", || there(&mut client, &["order:3"]).is_empty());
    until("what came before as well", || {
        figure(&server, 0, "received") == 2
    });
}

#[test]
fn an_entry_that_is_too_long_is_passed_over() {
    let source = Server::redis(&[]);
    let server = Bed::new(&event(&source, "")).server();
    let (mut client, mut told) = (server.connect(), source.connect());
    put(&mut client, &["order:1", "order:2"]);
    let long = vec![b'x'; 40 << 20];
    let add = |told: &mut Client, id: &[u8], more: &[u8]| {
        told.ask(&[b"XADD", b"events", b"*", b"id", id, b"more", more]);
    };
    add(&mut told, b"1", b"");
    add(&mut told, b"2", &long);
    add(&mut told, b"2", &long[..2 << 20]);
    add(&mut told, b"2", b"");
    until("the others are done", || {
        there(&mut client, &["order:1", "order:2"]).is_empty()
    });
    until("all is acknowledged", || pending(&mut told) == ":0");
    let figure = |name| figure(&server, 0, name);
    assert_eq!((figure("unusable"), figure("lost")), (2, 0));
}
