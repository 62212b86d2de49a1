//! Events of a server that runs: put in force, changed, and ended.

use std::process::Stdio;

use crate::bed::{Bed, Server, connected, figure, put, there, until};
use crate::servers::corral;

fn event(source: &Server, name: &str, lists: &str) -> String {
    let port = source.port;
    format!(
        "[[event]]\nname = \"{name}\"\nkind = \"pubsub\"\nurl = \"redis://127.0.0.1:{port}\"\n\
         {lists}\n"
    )
}

/// The ids of those who are subscribed to something.
fn subscribers(source: &Server) -> Vec<String> {
    let list = source.connect().say("CLIENT LIST TYPE pubsub");
    let ids = list.lines().filter_map(|line| line.strip_prefix("id="));
    let id = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    ids.map(id).collect()
}

#[test]
fn an_event_that_is_as_it_was_keeps_its_connection_and_others_begin_change_and_end() {
    let source = Server::redis(&[]);
    let a = event(&source, "a", "channels = [\"a\"]\nkeys = [\"{payload}\"]");
    let b = event(&source, "b", "channels = [\"b\"]\nkeys = [\"{payload}\"]");
    let bed = Bed::new(&(a.clone() + &b));
    let server = bed.server();
    let mut client = server.connect();
    until("both are there", || subscribers(&source).len() == 2);
    let before = subscribers(&source);

    let changed = event(&source, "b", "channels = [\"c\"]\nkeys = [\"b:{payload}\"]");
    bed.change(&(a.clone() + &changed));
    put(&mut client, &["x", "b:x", "y"]);
    assert_eq!(client.say("CORRAL.RELOAD"), "+OK\r\n");
    // Between the one and the other nobody listened.
    until("what it may have missed is swept", || {
        figure(&server, 1, "swept") == 1
    });
    connected(&server);
    assert_eq!(there(&mut client, &["x", "b:x", "y"]), ["x", "y"]);
    let after = subscribers(&source);
    let kept = before.iter().filter(|id| after.contains(id)).count();
    assert_eq!((after.len(), kept), (2, 1));

    bed.change(&a);
    assert_eq!(client.say("CORRAL.RELOAD"), "+OK\r\n");
    until("one has ended", || subscribers(&source).len() == 1);
    source.connect().say("PUBLISH a x");
    until("the other has not", || figure(&server, 0, "received") == 1);
    assert!(client.say("CORRAL.INFO events").contains("events:1\r\n"));

    bed.change(
        &(a + "[[event]]\nname = \"c\"\nkind = \"pubsub\"\nchannels = [\"c\"]\nkeys = [\"k\"]"),
    );
    let refused = client.say("CORRAL.RELOAD");
    assert!(
        refused.contains("event \"c\": url is missing: there is no upstream"),
        "{refused}"
    );
    assert_eq!(subscribers(&source).len(), 1);
}

#[test]
fn a_server_that_stops_leaves_its_sources() {
    let source = Server::redis(&[]);
    let bed = Bed::new(&event(
        &source,
        "a",
        "channels = [\"a\"]\nkeys = [\"{payload}\"]",
    ));
    let mut server = bed.server();
    server.signal("TERM");
    assert!(server.process.wait().expect("a child").success());
    until("nobody is there", || subscribers(&source).is_empty());
}

#[test]
fn a_check_of_the_settings_refuses_events_that_cannot_be() {
    let bed = Bed::new(
        "[[event]]\nname = \"e\"\nkind = \"pubsub\"\nchannels = [\"c\"]\nkeys = [\"k\"]\n",
    );
    let check = |args: &[&str]| {
        let mut command = corral(&bed.path(""));
        command
            .args(["--config", "corral.toml", "--check-config"])
            .args(args);
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("event \"e\": url is missing: there is no upstream"),
        "{said}"
    );
    assert_eq!(check(&["--upstream", "redis://127.0.0.1:1"]).0, Some(0));
}
