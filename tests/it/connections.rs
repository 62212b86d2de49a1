//! The life of a connection: who it is, pause, kill, monitor, and the server's end.

use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::common::{Client, TestServer, bulk, request, until, until_at_rest};

const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";

/// What HELLO says behind its header, to the client of id 1.
fn hello(header: &str, proto: u8) -> String {
    format!(
        "{header}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n\
         $5\r\nproto\r\n:{proto}\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
         $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
    )
}

/// Asks each of these as a line; the replies are given without their line ends.
#[track_caller]
fn ask_all(client: &mut Client, requests: &[(&str, &str)]) {
    for (request, reply) in requests {
        client.ask(format!("{request}\r\n"), format!("{reply}\r\n"));
    }
}

/// A value that no socket takes at once, under the key `big`.
fn set_big(client: &mut Client, bytes: usize) {
    client.ask(request(&[b"SET", b"big", &vec![b'v'; bytes]]), "+OK\r\n");
}

/// Waits until a client does not take its replies.
fn until_stuck(server: &TestServer) {
    until_at_rest("somebody is stuck", || {
        let clients = server.instance.clients.list();
        let unread = clients.iter().map(|client| &client.doing.reply);
        unread
            .map(|unread| unread.load(Ordering::Relaxed) as u64)
            .sum()
    });
}

#[test]
fn hello_introduces_the_server_and_chooses_the_dialect() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask("HELLO\r\n", hello("*14", 2));
    client.ask("HELLO 3\r\n", hello("%7", 3));
    client.ask("GET nosuch\r\n", "_\r\n");
    client.ask("HELLO\r\n", hello("%7", 3));
    client.ask("HELLO 2\r\n", hello("*14", 2));
    client.ask("GET nosuch\r\n", "$-1\r\n");
    client.ask("HELLO 3 SETNAME x AUTH default any\r\n", hello("%7", 3));
    client.ask("CLIENT GETNAME\r\n", "$1\r\nx\r\n");
    client.ask("HELLO 2 SETNAME ''\r\n", hello("*14", 2));
    client.ask("CLIENT GETNAME\r\n", "$-1\r\n");
}

#[test]
fn hello_refuses_in_redis_words() {
    let server = TestServer::start();
    let mut client = server.connect();
    ask_all(
        &mut client,
        &[
            ("HELLO 1", "-NOPROTO unsupported protocol version"),
            ("HELLO 4", "-NOPROTO unsupported protocol version"),
            (
                "HELLO a",
                "-ERR Protocol version is not an integer or out of range",
            ),
            ("HELLO 3 AUTH nobody x", WRONGPASS.trim_end()),
            ("HELLO 3 AUTH nobody x FOO", WRONGPASS.trim_end()),
            (
                "HELLO 3 AUTH default",
                "-ERR Syntax error in HELLO option 'AUTH'",
            ),
            (
                "HELLO 3 SETNAME",
                "-ERR Syntax error in HELLO option 'SETNAME'",
            ),
            ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'"),
            (
                "HELLO 3 \"a\\r\\nb\"",
                "-ERR Syntax error in HELLO option 'a  b'",
            ),
            (
                "HELLO 3 SETNAME 'a b'",
                "-ERR Client names cannot contain spaces, newlines or special characters.",
            ),
        ],
    );
    client.ask("GET nosuch\r\n", "$-1\r\n");
}

#[test]
fn without_a_password_auth_is_a_mistake() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask(
        "AUTH x\r\n",
        "-ERR AUTH <password> called without any password configured for the default user. Are \
         you sure your configuration is correct?\r\n",
    );
    client.ask("AUTH default x\r\n", "+OK\r\n");
    client.ask("AUTH nobody x\r\n", WRONGPASS);
    client.ask("AUTH a b c\r\n", SYNTAX);
    client.ask(
        "AUTH\r\n",
        "-ERR wrong number of arguments for 'auth' command\r\n",
    );
}

#[test]
fn with_a_password_nothing_goes_before_auth() {
    let server = TestServer::with(&[("requirepass", "secret")]);
    let mut client = server.connect();
    client.ask("PING\r\n", NOAUTH);
    client.ask("GET k\r\n", NOAUTH);
    client.ask("AUTH wrong\r\n", WRONGPASS);
    client.ask("AUTH default wrong\r\n", WRONGPASS);
    client.ask("AUTH nobody secret\r\n", WRONGPASS);
    client.ask(
        "HELLO 3\r\n",
        "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
         AUTH <user> <pass> option can be used to authenticate the client and select the RESP \
         protocol version at the same time\r\n",
    );
    client.ask("HELLO 3 AUTH default wrong\r\n", WRONGPASS);
    client.ask("PING\r\n", NOAUTH);
    client.ask("AUTH secret\r\n", "+OK\r\n");
    client.ask("PING\r\n", "+PONG\r\n");
    client.ask("RESET\r\nPING\r\n", format!("+RESET\r\n{NOAUTH}"));
    client.ask("HELLO 2 AUTH default secret\r\n", hello("*14", 2));
    client.ask("PING\r\n", "+PONG\r\n");
    let mut leaving = server.connect();
    leaving.ask("QUIT\r\n", "+OK\r\n");
    leaving.expect_closed();
}

#[test]
fn a_password_set_later_is_asked_of_those_who_come_later() {
    let server = TestServer::start();
    let mut before = server.connect();
    before.ask("CONFIG SET requirepass secret\r\n", "+OK\r\n");
    before.ask("PING\r\n", "+PONG\r\n");
    let mut after = server.connect();
    after.ask("PING\r\n", NOAUTH);
    before.ask("CONFIG SET requirepass ''\r\n", "+OK\r\n");
    after.ask("PING\r\n", "+PONG\r\n");
}

#[test]
fn quit_answers_what_came_before_it_and_nothing_behind_it() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask("PING\r\nQUIT\r\nSET k v\r\n", "+PONG\r\n+OK\r\n");
    client.expect_closed();
    let mut client = server.connect();
    client.ask("MULTI\r\nQUIT now please\r\n", "+OK\r\n+OK\r\n");
    client.expect_closed();
    server.connect().ask("EXISTS k\r\n", ":0\r\n");
}

#[test]
fn reset_forgets_all_that_was_chosen() {
    let server = TestServer::start();
    let mut client = server.connect();
    client.ask("HELLO 3 SETNAME me\r\n", hello("%7", 3));
    client.ask(
        "SELECT 3\r\nSET k v\r\nWATCH k\r\n",
        "+OK\r\n+OK\r\n+OK\r\n",
    );
    client.ask("MULTI\r\nGET k\r\n", "+OK\r\n+QUEUED\r\n");
    client.ask("RESET\r\n", "+RESET\r\n");
    client.ask("EXEC\r\n", "-ERR EXEC without MULTI\r\n");
    client.ask("GET k\r\nCLIENT GETNAME\r\n", "$-1\r\n$-1\r\n");
    client.ask(
        "RESET now\r\n",
        "-ERR wrong number of arguments for 'reset' command\r\n",
    );
    client.ask("MONITOR\r\nRESET\r\n", "+OK\r\n+RESET\r\n");
    server.connect().ask("PING\r\n", "+PONG\r\n");
    client.expect_silence();
    client.ask(
        "CLIENT REPLY OFF\r\nPING\r\nRESET\r\nPING\r\n",
        "+RESET\r\n+PONG\r\n",
    );
}

#[test]
fn replies_are_switched_off_and_skipped() {
    let server = TestServer::start();
    let mut client = server.connect();
    let off = "CLIENT REPLY OFF\r\n";
    let on = "CLIENT REPLY ON\r\n";
    let skip = "CLIENT REPLY SKIP\r\n";
    client.ask(
        format!("{off}PING\r\nNOSUCH\r\n{on}PING\r\n"),
        "+OK\r\n+PONG\r\n",
    );
    client.ask(format!("{skip}PING\r\nECHO a\r\n"), "$1\r\na\r\n");
    client.ask(format!("{skip}NOSUCH\r\nECHO b\r\n"), "$1\r\nb\r\n");
    client.ask(format!("{skip}{skip}PING\r\nECHO c\r\n"), "$1\r\nc\r\n");
    client.ask(format!("{skip}{on}ECHO d\r\n"), "+OK\r\n$1\r\nd\r\n");
    client.ask(format!("{off}{skip}PING\r\n{on}"), "+OK\r\n");
    client.ask("CLIENT REPLY maybe\r\n", SYNTAX);
    // Who wants no replies gets none to what is no request, either.
    client.send(format!("{off}*1\r\n:1\r\n"));
    client.expect_closed();
}

#[test]
fn paused_writes_wait_while_reads_go_on() {
    let server = TestServer::start();
    let (mut admin, mut writer) = (server.connect(), server.connect());
    admin.ask("SET k old\r\n", "+OK\r\n");
    admin.ask("CLIENT PAUSE 60000 WRITE\r\n", "+OK\r\n");
    writer.send("GET k\r\nSET k new\r\nGET k\r\n");
    writer.expect("$3\r\nold\r\n");
    writer.expect_silence();
    admin.ask("GET k\r\n", "$3\r\nold\r\n");
    let reading = "MULTI\r\nGET k\r\nEXEC\r\n";
    admin.ask(reading, "+OK\r\n+QUEUED\r\n*1\r\n$3\r\nold\r\n");
    admin.ask("CLIENT UNPAUSE\r\n", "+OK\r\n");
    writer.expect("+OK\r\n$3\r\nnew\r\n");
}

#[test]
fn a_pause_of_all_ends_by_itself() {
    let server = TestServer::start();
    let mut client = server.connect();
    let since = Instant::now();
    client.ask("CLIENT PAUSE 300\r\n", "+OK\r\n");
    client.ask("PING\r\n", "+PONG\r\n");
    assert!(
        since.elapsed() >= Duration::from_millis(300),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn pause_and_unblock_refuse_in_redis_words() {
    let server = TestServer::start();
    ask_all(
        &mut server.connect(),
        &[
            (
                "CLIENT PAUSE a",
                "-ERR timeout is not an integer or out of range",
            ),
            ("CLIENT PAUSE -1", "-ERR timeout is negative"),
            (
                "CLIENT PAUSE 1 x",
                "-ERR CLIENT PAUSE mode must be WRITE or ALL",
            ),
            (
                "CLIENT PAUSE 1 WRITE x",
                "-ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT \
                 HELP.",
            ),
            (
                "CLIENT PAUSE",
                "-ERR wrong number of arguments for 'client|pause' command",
            ),
            (
                "CLIENT UNBLOCK a x",
                "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ),
            (
                "CLIENT UNBLOCK a",
                "-ERR value is not an integer or out of range",
            ),
        ],
    );
}

#[test]
fn clients_are_killed_by_id_and_address_and_by_themselves() {
    let server = TestServer::start();
    let mut admin = server.connect();
    admin.ask("CLIENT ID\r\n", ":1\r\n");
    let mut by_id = server.connect();
    by_id.ask("CLIENT ID\r\n", ":2\r\n");
    admin.ask("CLIENT KILL ID 2\r\n", ":1\r\n");
    by_id.expect_closed();
    let mut by_address = server.connect();
    by_address.ask("PING\r\n", "+PONG\r\n");
    let address = by_address.stream.local_addr().expect("a TCP socket");
    admin.ask(format!("CLIENT KILL {address}\r\n"), "+OK\r\n");
    by_address.expect_closed();
    until("both are gone", || server.instance.clients.len() == 1);
    admin.ask("CLIENT KILL TYPE normal\r\n", ":0\r\n");
    admin.ask("CLIENT KILL TYPE normal SKIPME no\r\nPING\r\n", ":1\r\n");
    admin.expect_closed();
}

#[test]
fn kill_refuses_in_redis_words() {
    let server = TestServer::start();
    ask_all(
        &mut server.connect(),
        &[
            ("CLIENT KILL 1.2.3.4:5", "-ERR No such client"),
            (
                "CLIENT KILL ID a",
                "-ERR client-id should be greater than 0",
            ),
            (
                "CLIENT KILL ID 0",
                "-ERR client-id should be greater than 0",
            ),
            ("CLIENT KILL ID 999", ":0"),
            ("CLIENT KILL TYPE x", "-ERR Unknown client type 'x'"),
            ("CLIENT KILL USER nobody", "-ERR No such user 'nobody'"),
            ("CLIENT KILL ID 1 FOO", "-ERR syntax error"),
            ("CLIENT KILL SKIPME maybe", "-ERR syntax error"),
        ],
    );
}

#[test]
fn a_client_that_is_paused_or_stuck_can_be_killed() {
    let server = TestServer::start();
    let mut admin = server.connect();
    set_big(&mut admin, 32 << 20);
    let mut stuck = server.connect();
    stuck.ask("CLIENT ID\r\n", ":2\r\n");
    stuck.send("GET big\r\n");
    let mut paused = server.connect();
    paused.ask("CLIENT ID\r\n", ":3\r\n");
    admin.ask("CLIENT PAUSE 60000 WRITE\r\n", "+OK\r\n");
    paused.send("SET k v\r\n");
    paused.expect_silence();
    admin.ask("CLIENT KILL ID 2\r\nCLIENT KILL ID 3\r\n", ":1\r\n:1\r\n");
    paused.expect_closed();
    until("both are gone", || server.instance.clients.len() == 1);
    assert!(stuck.drain() < 32 << 20);
}

#[test]
fn a_monitor_sees_what_the_others_ask_for() {
    let server = TestServer::start();
    let mut monitor = server.connect();
    monitor.ask("MONITOR\r\n", "+OK\r\n");
    let mut other = server.connect();
    let address = other.stream.local_addr().expect("a TCP socket");
    other.ask("SELECT 2\r\n", "+OK\r\n");
    other.ask("SET \"a\\x00\\\"\" \"b\\n\"\r\n", "+OK\r\n");
    for wanted in [
        format!("[2 {address}] \"SELECT\" \"2\""),
        format!("[2 {address}] \"SET\" \"a\\x00\\\"\" \"b\\n\""),
    ] {
        let line = monitor.line();
        let (at, shown) = line.split_once(' ').expect("a time");
        let micros = at.split_once('.').map(|(_, micros)| micros.len());
        assert_eq!((micros, shown), (Some(6), wanted.as_str()));
    }
    monitor.ask("QUIT\r\n", "+OK\r\n");
    monitor.expect_closed();
}

#[test]
fn a_pipeline_that_was_read_is_answered_before_the_server_ends() {
    let server = TestServer::start();
    let mut admin = server.connect();
    set_big(&mut admin, 1 << 20);
    let mut client = server.connect();
    client.send("GET big\r\n".repeat(20));
    until_stuck(&server);
    let stopping = std::thread::spawn(|| server.stop());
    admin.expect_closed();
    let reply = bulk(&vec![b'v'; 1 << 20]);
    assert_eq!(client.drain(), 20 * reply.len());
    stopping.join().expect("no panic");
}

#[test]
fn an_idle_server_ends_at_once() {
    let server = TestServer::start();
    let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("PING\r\n", "+PONG\r\n");
    }
    let took = server.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    for client in &mut clients {
        client.expect_closed();
    }
}

#[test]
fn who_does_not_read_delays_the_end_no_longer_than_its_deadline() {
    let server = TestServer::with(&[("shutdown-timeout", "1")]);
    let mut client = server.connect();
    set_big(&mut client, 1 << 20);
    client.send("GET big\r\n".repeat(50));
    until_stuck(&server);
    let took = server.stop();
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(5));
    assert!((least..most).contains(&took), "{took:?}");
}

#[test]
fn the_unix_socket_serves_and_goes_with_the_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sock");
    let server = TestServer::with(&[("unixsocket", path.to_str().expect("text"))]);
    let mut client = Client::new(UnixStream::connect(&path).expect("somebody listens"));
    client.ask("SET k v\r\n", "+OK\r\n");
    let line = client.bulk("CLIENT INFO\r\n");
    let address = format!(" addr={0}:0 laddr={0}:0 ", path.display());
    assert!(
        line.contains(&address) && line.contains(" flags=U "),
        "{line}"
    );
    server.connect().ask("GET k\r\n", "$1\r\nv\r\n");
    drop(server);
    client.expect_closed();
    assert!(!path.exists());
}
