//! Clients of a front that come to have a connection of their own: what that costs them and others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corral::clock;

use super::common::{Client, Server, until};
use super::near::{coherent, keep, number_of};

const OK: &str = "+OK\r\n";

/// As many clients of upstream's are held back.
fn until_blocked(upstream: &Server, clients: &str) {
    let mut direct = upstream.connect();
    until("so many are held back", || {
        direct.info("blocked_clients") == clients
    });
}

fn send(client: &mut Client, words: &[&str]) {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    client.send(request.as_bytes());
}

fn told(client: &mut Client) -> String {
    String::from_utf8(client.frame().expect("a reply")).expect("text")
}

#[test]
fn what_is_about_the_server_waits_for_no_change_of_keys() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    let before = number_of(&front, "fences");
    for words in [
        "CONFIG SET slowlog-max-len 100",
        "SLOWLOG RESET",
        "CLIENT NO-EVICT ON",
        "ACL WHOAMI",
        "LATENCY RESET",
        "INFO server",
    ] {
        let reply = client.say(words);
        assert!(!reply.starts_with('-'), "{words}: {reply}");
    }
    assert_eq!(number_of(&front, "fences"), before);
    client.say("OBJECT FREQ k");
    assert_eq!(
        number_of(&front, "fences"),
        before,
        "there is no older copy"
    );
    keep(&front, &mut client, "GET k");
    client.say("OBJECT FREQ k");
    assert!(
        number_of(&front, "fences") > before,
        "OBJECT tells of a key"
    );
}

#[test]
fn a_transaction_waits_for_no_fence_if_all_of_its_keys_are_known() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    let before = number_of(&front, "fences");
    for words in ["WATCH k", "MULTI", "SET k v", "GET other", "EXEC"] {
        client.say(words);
    }
    client.say("GET k");
    assert_eq!(number_of(&front, "fences"), before);
    for words in ["MULTI", "EVAL return 0", "EXEC"] {
        client.say(words);
    }
    assert!(
        number_of(&front, "fences") > before,
        "a script may write any"
    );
    keep(&front, &mut client, "GET k");
    let before = number_of(&front, "fences");
    for words in ["MULTI", "GET k", "EXEC", "PING"] {
        client.say(words);
    }
    assert!(number_of(&front, "fences") > before, "there is a copy of k");
}

#[test]
fn who_was_told_that_a_watched_key_has_changed_waits_for_what_is_known_of_it() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let (mut client, mut reader) = (front.connect(), front.connect());
    assert_eq!(client.say("WATCH k"), OK);
    assert_eq!(upstream.connect().say("SET k new"), OK);
    keep(&front, &mut reader, "GET k");
    let before = number_of(&front, "fences");
    for (words, reply) in [("MULTI", OK), ("EXEC", "*-1\r\n")] {
        assert_eq!(client.say(words), reply);
    }
    assert_eq!(client.say("GET k"), "$3\r\nnew\r\n");
    assert!(number_of(&front, "fences") > before);
}

#[test]
fn who_needs_a_connection_of_its_own_finds_one_opened_ahead() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut direct = upstream.connect();
    let mut first = front.connect();
    for words in ["SELECT 3", "WATCH k"] {
        assert_eq!(first.say(words), OK);
    }
    until("others are opened", || only_told(&mut direct).len() == 4);
    let mut known = Vec::new();
    for _ in 0..6 {
        let ahead = only_told(&mut direct);
        let mut next = front.connect();
        assert_eq!(next.say("SELECT 3"), OK);
        let id = next.say("CLIENT ID");
        assert!(ahead.contains(&id), "{id} is none of {ahead:?}");
        assert!(!known.contains(&id), "{id} was another client's");
        known.push(id);
        until("as many are there again", || {
            only_told(&mut direct).len() == 4
        });
    }
    // They are killed, and nobody notices.
    assert_eq!(direct.say("CLIENT KILL SKIPME YES").get(..1), Some(":"));
    assert_eq!(direct.say("PING"), "+PONG\r\n");
    let mut next = front.connect();
    assert_eq!(next.say("SELECT 3"), OK);
    assert!(next.say("CLIENT ID").starts_with(':'));
}

/// The ids, as `CLIENT ID` has them, of upstream's clients that have been told their database and
/// nothing else.
fn only_told(direct: &mut Client) -> Vec<String> {
    let clients = direct.say("CLIENT LIST");
    let lines = clients.lines().filter(|line| line.contains("cmd=select"));
    let ids = lines.filter_map(|line| line.strip_prefix("id=")?.split_once(' '));
    ids.map(|(id, _)| format!(":{id}\r\n")).collect()
}

#[test]
fn writes_that_a_client_has_paused_hold_up_only_who_sent_them() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut operator = front.connect();
    let (mut writer, mut publisher, mut reader) =
        (front.connect(), front.connect(), front.connect());
    assert_eq!(operator.say("CLIENT PAUSE 60000 WRITE"), OK);
    send(&mut writer, &["SET", "k", "v"]);
    send(&mut publisher, &["PUBLISH", "c", "m"]);
    until_blocked(&upstream, "2");
    assert_eq!(reader.say("GET k"), "$-1\r\n");
    assert_eq!(reader.say("ECHO e"), "$1\r\ne\r\n");
    assert_eq!(
        reader.say("SET k"),
        "-ERR wrong number of arguments for 'set' command\r\n"
    );
    assert_eq!(operator.say("CLIENT UNPAUSE"), OK);
    assert_eq!(told(&mut writer), OK);
    assert_eq!(told(&mut publisher), ":0\r\n");
    assert_eq!(reader.say("GET k"), "$1\r\nv\r\n");
    let visits = number_of(&front, "private_visits");
    assert_eq!(writer.say("SET k w"), OK);
    assert_eq!(number_of(&front, "private_visits"), visits, "it is over");
}

#[test]
fn a_pause_within_a_transaction_begins_with_exec() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let (mut operator, mut writer) = (front.connect(), front.connect());
    for words in [
        "MULTI",
        "SET before v",
        "CLIENT PAUSE 60000 WRITE",
        "SET behind v",
    ] {
        operator.say(words);
    }
    let visits = number_of(&front, "private_visits");
    assert_eq!(writer.say("SET k v"), OK);
    assert_eq!(
        number_of(&front, "private_visits"),
        visits,
        "it has not begun"
    );
    operator.say("EXEC");
    send(&mut writer, &["SET", "k", "w"]);
    until_blocked(&upstream, "1");
    assert_eq!(
        operator.say("MGET before behind k"),
        "*3\r\n$1\r\nv\r\n$1\r\nv\r\n$1\r\nv\r\n"
    );
    operator.say("CLIENT UNPAUSE");
    assert_eq!(told(&mut writer), OK);
}

#[test]
fn a_paused_write_may_take_longer_than_the_timeout() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &["--upstream-timeout", "250"]);
    let mut client = front.connect();
    assert_eq!(client.say("CLIENT PAUSE 1000 WRITE"), OK);
    let since = clock::now();
    assert_eq!(client.say("SET k v"), OK);
    assert!(
        since.elapsed() >= Duration::from_millis(500),
        "it was not paused"
    );
}

#[test]
fn a_pause_waits_for_writes_under_way_on_shared_connections() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let (mut operator, mut reader) = (front.connect(), front.connect());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let mut writer = front.connect();
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(writer.say("SET k v"), OK);
                }
            });
        }
        for _ in 0..20 {
            let before = writes_of(&upstream);
            until("writes are under way", || {
                writes_of(&upstream) > before + 100
            });
            assert_eq!(operator.say("CLIENT PAUSE 60000 WRITE"), OK);
            until_blocked(&upstream, "8");
            assert_eq!(reader.say("ECHO e"), "$1\r\ne\r\n");
            assert_eq!(operator.say("CLIENT UNPAUSE"), OK);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// How many SETs upstream has run.
fn writes_of(upstream: &Server) -> u64 {
    calls_of(upstream, "set")
}

/// How often upstream has run a command.
fn calls_of(upstream: &Server, name: &str) -> u64 {
    let stats = upstream.connect().say("INFO commandstats");
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    let calls = line.and_then(|line| line.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

#[test]
fn a_client_that_knows_its_id_keeps_it_when_it_changes_the_protocol() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let (mut told, mut reader) = (front.connect(), front.connect());
    let id = told.number("CLIENT ID");
    let hello = told.say("HELLO 3");
    assert!(hello.contains(&format!("$2\r\nid\r\n:{id}\r\n")), "{hello}");
    told.say("SUBSCRIBE __redis__:invalidate");
    assert_eq!(reader.say(&format!("CLIENT TRACKING ON REDIRECT {id}")), OK);
    reader.say("GET k");
    reader.say("SET k v");
    assert!(self::told(&mut told).starts_with(">2\r\n$10\r\ninvalidate\r\n"));
}

#[test]
fn a_transaction_that_begins_while_a_script_runs_is_refused_as_a_whole() {
    const BUSY: &str = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or \
                        SHUTDOWN NOSAVE.\r\n";
    let upstream = Server::redis(&["--busy-reply-threshold", "10"]);
    let front = coherent(&upstream, &[]);
    let (mut runner, mut client, mut killer) = (front.connect(), front.connect(), front.connect());
    assert_eq!(client.say("SELECT 1"), OK);
    assert_eq!(killer.say("SET k 1"), OK);
    send(&mut runner, &["EVAL", "while true do end", "0"]);
    until("the script holds up others", || {
        killer.say("GET other") == BUSY
    });
    assert_eq!(client.say("OBJECT FREQ k"), BUSY);
    assert_eq!(client.say("MULTI"), OK);
    assert_eq!(client.say("INCR k"), BUSY);
    assert_eq!(killer.say("SCRIPT KILL"), OK);
    assert!(told(&mut runner).contains("Script killed by user"));
    assert_eq!(client.say("INCR k"), BUSY, "it is refused until its end");
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    assert_eq!(client.say("EXEC"), aborted);
    assert_eq!(client.say("GET k"), "$-1\r\n");
    assert_eq!(client.say("PING"), "+PONG\r\n");
    assert_eq!(client.say("MULTI"), OK);
    assert_eq!(client.say("INCR k"), "+QUEUED\r\n");
    assert_eq!(client.say("EXEC"), "*1\r\n:1\r\n");
}

#[test]
fn a_monitor_shows_what_clients_ask_for_and_nothing_of_the_fronts_own() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let (mut watcher, mut client) = (front.connect(), front.connect());
    let mut direct = upstream.connect();
    assert_eq!(watcher.say("MONITOR"), OK);
    assert_eq!(direct.say("PING"), "+PONG\r\n");
    assert_eq!(client.say("SELECT 1"), OK);
    assert_eq!(client.say("GET k"), "$-1\r\n");
    for (words, reply) in [
        ("MULTI", OK),
        ("SET k v", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n+OK\r\n"),
    ] {
        assert_eq!(client.say(words), reply);
    }
    let beats = calls_of(&upstream, "ping");
    until("it has sent heartbeats", || {
        calls_of(&upstream, "ping") > beats + 10
    });
    assert_eq!(client.say("ECHO end"), "$3\r\nend\r\n");
    let mut shown = Vec::new();
    while !shown.iter().any(|name| name == "ECHO") {
        let line = told(&mut watcher);
        let name = line.split('"').nth(1).expect("a name").to_owned();
        if name != "INFO" {
            shown.push(name);
        }
    }
    assert_eq!(
        shown,
        ["PING", "SELECT", "GET", "MULTI", "SET", "EXEC", "ECHO"]
    );
}

#[test]
fn while_writes_are_paused_it_is_not_remembered_that_a_key_is_absent() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let (mut operator, mut reader) = (front.connect(), front.connect());
    assert_eq!(operator.say("CLIENT PAUSE 60000 WRITE"), OK);
    for _ in 0..2 {
        assert_eq!(reader.say("GET k"), "$-1\r\n");
    }
    assert_eq!(calls_of(&upstream, "get"), 2);
    assert_eq!(operator.say("CLIENT UNPAUSE"), OK);
    keep(&front, &mut reader, "GET k");
}
