//! What a front answers itself, among all that it passes on: `CORRAL.*`, a section of INFO, and who
//! its clients are.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use super::common::{Client, Server, request};
use super::near::{coherent, number_of};

const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";
const OK: &str = "+OK\r\n";

/// Standalone, and in front of the Redis given with and without a near cache.
fn all_modes(upstream: &Server) -> [Server; 3] {
    [
        Server::corral(&[]),
        coherent(upstream, &[]),
        Server::front(upstream, &["--near-cache", "no"]),
    ]
}

fn bulk(client: &mut Client, words: &str) -> String {
    let reply = client.say(words);
    assert!(reply.starts_with(['$', '=']), "{words}: {reply}");
    let (_, text) = reply.split_once("\r\n").expect("a header");
    text.strip_suffix("\r\n").expect("an end").to_owned()
}

#[test]
fn corral_s_own_commands_are_answered_in_every_mode() {
    let upstream = Server::redis(&[]);
    for (server, mode) in all_modes(&upstream)
        .iter()
        .zip(["standalone", "front", "front"])
    {
        let mut client = server.connect();
        assert_eq!(client.say("PING"), "+PONG\r\n");
        let info = bulk(&mut client, "CORRAL.INFO");
        assert!(
            info.contains(&format!("\ncorral_mode:{mode}\r\n")),
            "{info}"
        );
        assert!(
            info.contains(&format!("\ntcp_port:{}\r\n", server.port)),
            "{info}"
        );
        assert_eq!(info.contains("# Upstream\r\n"), mode == "front", "{info}");
        let port = server.port.to_string();
        assert_eq!(
            client.say("CORRAL.CONFIG GET port"),
            format!("*2\r\n$4\r\nport\r\n${}\r\n{port}\r\n", port.len())
        );
        assert_eq!(
            client.say("CORRAL.CONFIG SET slowlog-log-slower-than 0"),
            OK
        );
        let list = bulk(&mut client, "CORRAL.CLIENT LIST");
        assert!(list.contains(" cmd=corral.client|list "), "{list}");
        assert_eq!(list.lines().count(), 1, "{list}");
        assert!(client.number("CORRAL.SLOWLOG LEN") > 0);
        assert!(
            client
                .say("CORRAL.SLOWLOG GET 1")
                .starts_with("*1\r\n*6\r\n")
        );
        assert_eq!(client.say("CORRAL.SLOWLOG RESET"), OK);
        assert_eq!(client.say("CORRAL.CONFIG RESETSTAT"), OK);
        assert_eq!(
            client.say("CORRAL.CONFIG REWRITE"),
            "-ERR The server is running without a config file\r\n"
        );
        assert!(
            client
                .say("CORRAL.CONFIG HELP")
                .contains("CORRAL.CONFIG <subcommand>")
        );
        assert_eq!(client.say("CORRAL.CLIENT KILL ID 99999"), ":0\r\n");
        assert_eq!(
            client.say("CORRAL.CLIENT KILL 1.2.3.4:5"),
            "-ERR No such client\r\n"
        );
        let mut other = server.connect();
        assert_eq!(other.say("PING"), "+PONG\r\n");
        assert_eq!(client.say("CORRAL.CLIENT KILL TYPE normal"), ":1\r\n");
        assert!(other.frame().is_err(), "it was killed");
    }
    let errors = upstream.connect().say("INFO errorstats");
    assert!(
        !errors.contains("errorstat_"),
        "upstream saw none: {errors}"
    );
}

#[test]
fn their_errors_are_in_redis_s_words() {
    let upstream = Server::redis(&[]);
    for server in &all_modes(&upstream) {
        let mut client = server.connect();
        assert_eq!(client.say("PING"), "+PONG\r\n");
        for (words, error) in [
            (
                "CORRAL.CONFIG",
                "wrong number of arguments for 'corral.config' command",
            ),
            (
                "corral.config get",
                "wrong number of arguments for 'corral.config|get' command",
            ),
            (
                "Corral.Config nope",
                "unknown subcommand 'nope'. Try CORRAL.CONFIG HELP.",
            ),
            (
                "CORRAL.SLOWLOG GET 1 2",
                "unknown subcommand or wrong number of arguments for 'GET'. \
                 Try CORRAL.SLOWLOG HELP.",
            ),
            (
                "CACHE.EXPLAIN",
                "wrong number of arguments for 'cache.explain' command",
            ),
            (
                "CACHE.STATS x",
                "wrong number of arguments for 'cache.stats' command",
            ),
            (
                "CORRAL.NOPE a",
                "unknown command 'CORRAL.NOPE', with args beginning with: 'a' ",
            ),
        ] {
            assert_eq!(client.say(words), format!("-ERR {error}\r\n"), "{words}");
        }
    }
}

#[test]
fn who_kills_itself_is_told_so_and_goes() {
    let upstream = Server::redis(&[]);
    for server in &all_modes(&upstream) {
        let mut client = server.connect();
        assert_eq!(client.say("PING"), "+PONG\r\n");
        assert_eq!(
            client.say("CORRAL.CLIENT KILL TYPE normal SKIPME no"),
            ":1\r\n"
        );
        assert!(client.frame().is_err());
    }
}

#[test]
fn own_commands_keep_their_place_among_those_that_pass() {
    let upstream = Server::redis(&[]);
    for near in ["yes", "no"] {
        let front = Server::front(&upstream, &["--near-cache", near]);
        let mut client = front.connect();
        assert_eq!(client.say("SET k v"), OK);
        client.send(
            b"GET k\r\nCORRAL.SLOWLOG LEN\r\nCLIENT NO-EVICT off\r\nCORRAL.SLOWLOG LEN\r\n\
              GET k\r\nCORRAL.SLOWLOG LEN\r\nCORRAL.SLOWLOG LEN\r\nECHO e\r\n",
        );
        let replies: Vec<_> = (0..8).map(|_| client.frame().expect("a reply")).collect();
        let expected: [&[u8]; 8] = [
            b"$1\r\nv\r\n",
            b":0\r\n",
            b"+OK\r\n",
            b":0\r\n",
            b"$1\r\nv\r\n",
            b":0\r\n",
            b":0\r\n",
            b"$1\r\ne\r\n",
        ];
        assert_eq!(replies, expected);
    }
}

#[test]
fn own_commands_are_answered_while_the_client_has_a_connection_of_its_own() {
    let upstream = Server::redis(&[]);
    let front = coherent(&upstream, &[]);
    let mut client = front.connect();
    assert_eq!(client.say("HELLO 3").as_bytes()[0], b'%');
    assert_eq!(client.say("SELECT 3"), OK);
    assert_eq!(client.say("WATCH k"), OK);
    assert!(client.say("CORRAL.INFO near").starts_with("=") && client.number("DBSIZE") == 0);
    let told = client.say("CACHE.EXPLAIN k");
    assert!(
        told.starts_with("%") && told.contains("private: it has"),
        "{told}"
    );
    assert!(told.contains("\r\n3\r\n"), "its database: {told}");
    assert_eq!(client.say("MULTI"), OK);
    let refused = client.say("CORRAL.INFO");
    assert!(refused.starts_with("-ERR unknown command"), "{refused}");
    assert_eq!(client.say("DISCARD"), OK);
    client.send(b"SUBSCRIBE c\r\n");
    assert!(client.frame().expect("confirmed").starts_with(b">3\r\n"));
    assert_eq!(client.number("CORRAL.SLOWLOG LEN"), 0);
    assert_eq!(upstream.connect().number("PUBLISH c m"), 1);
    assert!(client.frame().expect("a message").starts_with(b">3\r\n"));
}

#[test]
fn without_its_upstream_a_front_still_tells_of_itself() {
    for near in ["yes", "no"] {
        let front = Server::corral(&["--upstream", "redis://:p@127.0.0.1:1", "--near-cache", near]);
        let mut client = front.connect();
        let info = bulk(&mut client, "CORRAL.INFO");
        assert!(
            info.contains("upstream_url:redis://:***@127.0.0.1:1\r\n"),
            "{info}"
        );
        client.send(b"SET k v\r\nCORRAL.SLOWLOG LEN\r\nSET k v\r\n");
        let firsts: Vec<_> = (0..3)
            .map(|_| client.frame().expect("a reply")[0])
            .collect();
        assert_eq!(firsts, *b"-:-", "near-cache {near}");
    }
}

const SECTION: &str = "# Corral\r\ncorral_version:";

#[test]
fn info_has_one_section_more_in_both_dialects() {
    let upstream = Server::redis(&[]);
    for near in ["yes", "no"] {
        let front = Server::front(&upstream, &["--near-cache", near]);
        let mut client = front.connect();
        for protocol in [2, 3] {
            client.say(&format!("HELLO {protocol}"));
            for words in ["INFO", "info all", "INFO everything", "INFO server DEFAULT"] {
                let info = bulk(&mut client, words);
                let at = info
                    .find(SECTION)
                    .unwrap_or_else(|| panic!("{words}: {info}"));
                assert!(info[..at].ends_with("\r\n\r\n"), "{words}: {info}");
                assert!(info.contains("redis_version:7.0.15"), "{words}: {info}");
                assert!(
                    info.ends_with("\r\n") && !info.ends_with("\r\n\r\n"),
                    "{info}"
                );
                assert_eq!(info.matches("# Corral").count(), 1);
            }
            for words in ["INFO server", "INFO keyspace clients"] {
                assert!(!bulk(&mut client, words).contains("# Corral"), "{words}");
            }
            let alone = bulk(&mut client, "INFO Corral");
            let alone = alone.strip_prefix("txt:").unwrap_or(&alone);
            assert!(alone.starts_with(SECTION), "{alone}");
            assert!(alone.contains("\r\nmode:front\r\n"), "{alone}");
            assert_eq!(client.say("MULTI"), OK);
            assert_eq!(client.say("INFO"), "+QUEUED\r\n");
            assert!(!client.say("EXEC").contains("# Corral"));
        }
        client.send(b"INFO\r\nPING\r\nINFO server\r\nINFO\r\nECHO e\r\n");
        let replies: Vec<_> = (0..5).map(|_| client.frame().expect("a reply")).collect();
        let has = replies.iter().map(|reply| {
            let reply = String::from_utf8_lossy(reply);
            reply.contains(SECTION)
        });
        assert_eq!(has.collect::<Vec<_>>(), [true, false, false, true, false]);
        assert_eq!(replies[4], b"$1\r\ne\r\n");
    }
}

/// What a front makes of a reply to INFO that its upstream sends in pieces of this many bytes.
fn info_of(reply: &[u8], piece: usize) -> Vec<u8> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let reply = reply.to_vec();
    let upstream = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the front");
        stream.set_nodelay(true).expect("an option");
        assert!(stream.read(&mut [0; 64]).expect("a request") > 0);
        for bytes in reply.chunks(piece) {
            stream.write_all(bytes).expect("it reads");
            if piece < 100 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    });
    let url = format!("redis://127.0.0.1:{port}");
    let front = Server::corral(&["--upstream", &url, "--near-cache", "no"]);
    let mut client = front.connect();
    client.send(b"INFO\r\n");
    let told = client.frame().expect("a reply");
    drop((client, front));
    upstream.join().expect("it does not panic");
    told
}

#[test]
fn info_may_come_in_pieces_and_what_is_too_long_or_an_error_is_as_it_was() {
    for reply in [
        &b"$10\r\n# A\r\na:1\r\n\r\n"[..],
        b"=14\r\ntxt:# A\r\na:1\r\n\r\n",
    ] {
        for piece in [1, 3, 1000] {
            let told = String::from_utf8(info_of(reply, piece)).expect("text");
            assert!(told.contains("# A\r\na:1\r\n\r\n# Corral\r\n"), "{told}");
            let (digits, rest) = told[1..].split_once("\r\n").expect("a header");
            assert_eq!(digits.parse::<usize>().ok(), Some(rest.len() - 2), "{told}");
        }
    }
    let error = b"-NOPERM no\r\n";
    assert_eq!(info_of(error, 1), error);
    let long = format!("$100000\r\n{}\r\n", "x".repeat(100_000));
    assert!(info_of(long.as_bytes(), 10_000) == long.as_bytes());
}

#[test]
fn a_front_s_password_is_asked_for_before_all_else() {
    let upstream = Server::redis(&["--requirepass", "up"]);
    let url = format!("redis://:up@127.0.0.1:{}", upstream.port);
    let front = Server::corral(&["--upstream", &url, "--requirepass", "front"]);
    let mut client = front.connect();
    for words in [
        "GET k",
        "SET k v",
        "CORRAL.INFO",
        "CORRAL.CONFIG GET *",
        "INFO",
        "MULTI",
    ] {
        assert_eq!(client.say(words), NOAUTH, "{words}");
    }
    assert!(
        client
            .say("HELLO 3")
            .starts_with("-NOAUTH HELLO must be called")
    );
    assert!(client.say("AUTH wrong").starts_with("-WRONGPASS "));
    assert_eq!(client.say("GET k"), NOAUTH);
    assert_eq!(client.say("CORRAL.INFO"), NOAUTH);
    assert_eq!(client.say("AUTH front"), OK);
    assert_eq!(client.say("SET k v"), OK);
    assert!(client.say("CORRAL.INFO").starts_with('$'));
    assert!(client.say("INFO").contains("# Corral"));
    // What comes behind a refused AUTH waits for nothing, and gets nothing.
    let mut client = front.connect();
    client.send(b"AUTH wrong\r\nGET k\r\nCORRAL.INFO\r\nHELLO 3\r\nAUTH front\r\nGET k\r\n");
    let said: Vec<_> = (0..6).map(|_| client.frame().expect("a reply")).collect();
    let is_refusal = |at: usize, code: &[u8]| said[at].starts_with(code);
    assert!(
        is_refusal(0, b"-WRONGPASS ") && is_refusal(4, b"-WRONGPASS "),
        "{said:?}"
    );
    assert!(
        [1, 2, 3, 5].iter().all(|&at| is_refusal(at, b"-NOAUTH ")),
        "{said:?}"
    );
    assert_eq!(client.say("AUTH front"), OK);
    assert_eq!(
        client.say("SUBSCRIBE c"),
        "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    );
    assert_eq!(client.say("RESET"), "+RESET\r\n");
    assert_eq!(client.say("GET k"), NOAUTH, "RESET ends who it was");
    // Those of the URL are the front's, too.
    let mut client = front.connect();
    assert_eq!(client.say("AUTH default up"), OK);
    assert_eq!(client.say("GET k"), "$1\r\nv\r\n");
    let mut client = front.connect();
    assert!(client.say("HELLO 3 AUTH default front").starts_with('%'));
    assert_eq!(client.say("GET k"), "$1\r\nv\r\n");
}

#[test]
fn a_request_behind_auth_may_be_as_long_as_any() {
    let upstream = Server::redis(&[]);
    let front = Server::front(&upstream, &["--requirepass", "front"]);
    let (many, value) = ("k v ".repeat(10), "v".repeat(20_000));
    let many: Vec<_> = ["MSET"]
        .into_iter()
        .chain(many.split_whitespace())
        .collect();
    for long in [request(&many), request(&["SET", "k", &value])] {
        let mut client = front.connect();
        client.send(&[b"AUTH front\r\n", &long[..], b"GET k\r\n"].concat());
        assert_eq!(client.frame(), Ok(OK.into()));
        assert_eq!(client.frame(), Ok(OK.into()));
        assert!(client.frame().is_ok());
        // Before it, there is no such long one.
        let mut client = front.connect();
        client.send(&long);
        let refused = client.frame().expect("an error");
        assert!(refused.starts_with(b"-ERR Protocol error: unauthenticated "));
    }
}

#[test]
fn a_front_s_settings_change_while_it_runs() {
    let upstream = Server::redis(&[]);
    let front = Server::front(&upstream, &["--near-cache", "no"]);
    let mut client = front.connect();
    assert_eq!(client.say("PING"), "+PONG\r\n");
    assert_eq!(client.say("CORRAL.CONFIG SET upstream-timeout 200"), OK);
    upstream.signal("STOP");
    let reply = client.say("GET k");
    assert!(
        reply.ends_with(" did not answer within 200ms\r\n"),
        "{reply}"
    );
    upstream.signal("CONT");
    let front = Server::front(&upstream, &[]);
    let mut before = front.connect();
    assert_eq!(before.say("CORRAL.CONFIG SET requirepass p"), OK);
    assert_eq!(before.say("SET k v"), OK, "it was there before");
    let mut after = front.connect();
    assert_eq!(after.say("GET k"), NOAUTH);
    assert_eq!(
        before.ask(&[b"CORRAL.CONFIG", b"SET", b"requirepass", b""]),
        b"+OK\r\n"
    );
    assert_eq!(
        after.say("GET k"),
        "$1\r\nv\r\n",
        "nobody is asked any more"
    );
}

/// A Redis with a user who may read only what begins with `a:`.
fn with_reader() -> Server {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    assert_eq!(direct.say("ACL SETUSER reader on >r ~a:* +@all"), OK);
    assert_eq!(direct.say("MSET a:k v b:k w"), OK);
    upstream
}

#[test]
fn another_user_reads_under_its_own_rights() {
    let upstream = with_reader();
    let front = coherent(&upstream, &["--requirepass", "front"]);
    let mut own = front.connect();
    assert_eq!(own.say("AUTH front"), OK);
    assert_eq!(own.say("GET b:k"), "$1\r\nw\r\n");
    let mut reader = front.connect();
    assert!(
        reader
            .say("AUTH reader nonsense")
            .starts_with("-WRONGPASS ")
    );
    assert_eq!(reader.say("AUTH reader r"), OK);
    for _ in 0..3 {
        assert!(reader.say("GET b:k").starts_with("-NOPERM "));
        assert_eq!(reader.say("GET a:k"), "$1\r\nv\r\n");
    }
    assert!(reader.say("CACHE.EXPLAIN a:k").contains("client: private"));
    assert_eq!(
        reader.say("CORRAL.CONFIG SET requirepass mine"),
        "-NOPERM this user has no permissions to run the 'corral.config|set' command\r\n"
    );
}

#[test]
fn where_the_front_s_identity_is_everybody_s_another_user_shares() {
    let upstream = with_reader();
    let front = coherent(&upstream, &["--client-identity", "front"]);
    let mut reader = front.connect();
    assert_eq!(reader.say("AUTH reader r"), OK);
    assert!(reader.say("CACHE.EXPLAIN a:k").contains("client: shared"));
    assert_eq!(reader.say("GET b:k"), "$1\r\nw\r\n");
    let hits = number_of(&front, "near_hits");
    assert_eq!(reader.say("GET b:k"), "$1\r\nw\r\n");
    assert_eq!(number_of(&front, "near_hits"), hits + 1);
}

#[test]
fn without_a_near_cache_a_front_has_no_password_of_its_own() {
    let upstream = Server::redis(&[]);
    let front = Server::front(&upstream, &["--near-cache", "no"]);
    let mut client = front.connect();
    let refused = client.say("CORRAL.CONFIG SET requirepass x");
    assert!(
        refused.starts_with("-NOPERM "),
        "nobody knows it yet: {refused}"
    );
    assert_eq!(client.say("PING"), "+PONG\r\n");
    let refused = client.say("CORRAL.CONFIG SET requirepass x");
    assert!(refused.contains("it needs the near cache"), "{refused}");
}
