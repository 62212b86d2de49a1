//! A front whose rules name origins: what neither it nor its upstream has is loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::common::{Client, Server, until};
use super::near::coherent;

/// An origin of shell commands, which notes each call and lets loads end when it is told to.
struct Origin {
    dir: TempDir,
}

impl Origin {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("values")).expect("a directory");
        Self { dir }
    }

    /// The same, whose loads end at once.
    fn open() -> Self {
        let origin = Self::new();
        origin.let_go();
        origin
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn let_go(&self) {
        fs::write(self.path("open"), "").expect("a file");
    }

    fn put(&self, name: &str, value: &str) {
        fs::write(self.path("values").join(name), value).expect("a file");
    }

    fn has(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path("values").join(name)).ok()
    }

    /// The calls so far, in order.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// A front whose keys `user:*` have this origin.
    fn front(&self, upstream: &Server, rule: &str) -> Server {
        let file = self.path("corral.toml");
        fs::write(&file, self.config(rule)).expect("a file");
        let file = file.to_str().expect("text");
        coherent(upstream, &["--config", file])
    }

    fn config(&self, rule: &str) -> String {
        let dir = show(self.dir.path());
        let call =
            |script: &str| format!(r#"["/bin/sh", "-c", '''cd {dir}; {script}''', "sh", "{{1}}"]"#);
        let load = call(
            "echo load $1 >> calls; while [ -e calls ] && [ ! -e open ]; do sleep 0.01; done; \
             cat values/$1 2>/dev/null || exit 1",
        );
        let store = call("echo store $1 >> calls; [ -e values/bad ] && exit 3; cat > values/$1");
        let delete = call("echo delete $1 >> calls; rm -f values/$1");
        format!(
            "[[origin]]\nname = \"files\"\nkind = \"command\"\nabsent-exit = 1\n\
             load = {load}\nstore = {store}\ndelete = {delete}\n\
             [[rule]]\nmatch = \"user:*\"\norigin = \"files\"\nttl = \"60s\"\n\
             timeout = \"30s\"\n{rule}\n"
        )
    }
}

fn show(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn ask_for(client: &mut Client, key: &str) {
    client.send(format!("GET {key}\r\n").as_bytes());
}

fn reply(client: &mut Client) -> String {
    String::from_utf8(client.frame().expect("a reply")).expect("text")
}

#[test]
fn what_is_nowhere_is_loaded_once_for_all_and_stored_upstream() {
    let (upstream, origin) = (Server::redis(&[]), Origin::new());
    origin.put("1", "ann");
    let front = origin.front(&upstream, "");
    let mut clients: Vec<Client> = (0..40).map(|_| front.connect()).collect();
    for client in &mut clients {
        ask_for(client, "user:1");
    }
    until("a load has begun", || origin.calls() == ["load 1"]);
    origin.let_go();
    for client in &mut clients {
        assert_eq!(reply(client), "$3\r\nann\r\n");
    }
    let mut direct = upstream.connect();
    until("it is stored", || {
        direct.say("GET user:1") == "$3\r\nann\r\n"
    });
    let left = direct.number("PTTL user:1");
    assert!((50_000..=60_000).contains(&left), "{left}");
    assert_eq!(clients[0].say("GET user:1"), "$3\r\nann\r\n");
    assert_eq!(origin.calls(), ["load 1"]);
}

#[test]
fn keys_of_one_mget_and_of_one_pipeline_are_loaded_side_by_side() {
    let (upstream, origin) = (Server::redis(&[]), Origin::new());
    for name in ["1", "2", "3", "4"] {
        origin.put(name, name);
    }
    let front = origin.front(&upstream, "");
    let mut client = front.connect();
    client.send(b"MGET user:1 other user:2\r\nGET user:3\r\nGET user:4\r\nPING\r\n");
    // None of them ends before all have begun.
    until("all loads have begun", || origin.calls().len() == 4);
    origin.let_go();
    assert_eq!(reply(&mut client), "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n2\r\n");
    assert_eq!(reply(&mut client), "$1\r\n3\r\n");
    assert_eq!(reply(&mut client), "$1\r\n4\r\n");
    assert_eq!(reply(&mut client), "+PONG\r\n");
}

#[test]
fn that_there_is_no_value_is_remembered_until_somebody_stores_one() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    let front = origin.front(&upstream, "negative-ttl = \"60s\"");
    let mut client = front.connect();
    for _ in 0..3 {
        assert_eq!(client.say("GET user:9"), "$-1\r\n");
    }
    assert_eq!(client.say("HGET user:9 f"), "$-1\r\n", "not a load");
    assert_eq!(origin.calls(), ["load 9"]);
    upstream.connect().say("SET user:9 now");
    until("the write is seen", || {
        client.say("GET user:9") == "$3\r\nnow\r\n"
    });
    assert_eq!(client.say("DEL user:9"), ":1\r\n");
    assert_eq!(client.say("GET user:9"), "$-1\r\n");
    assert_eq!(origin.calls(), ["load 9", "load 9"]);
}

#[test]
fn a_failure_is_told_and_remembered_for_a_while() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    fs::create_dir(origin.path("values").join("7")).expect("a directory, which no cat reads");
    let front = origin.front(&upstream, "error-ttl = \"60s\"");
    fs::write(origin.path("corral.toml"), "").expect("a file");
    let mut client = front.connect();
    assert_eq!(client.say("GET user:7"), "$-1\r\n");
    drop(front);
    let broken = origin
        .config("error-ttl = \"60s\"")
        .replace("exit 1", "exit 2");
    fs::write(origin.path("corral.toml"), broken).expect("a file");
    let file = origin.path("corral.toml");
    let front = coherent(&upstream, &["--config", show(&file)]);
    let mut client = front.connect();
    let calls = origin.calls().len();
    for words in ["GET user:7", "GET user:7", "MGET a user:7"] {
        assert!(client.say(words).starts_with("-ORIGIN files: "), "{words}");
    }
    assert_eq!(origin.calls().len(), calls + 1);
}

#[test]
fn a_write_and_a_removal_during_a_load_win() {
    let (upstream, origin) = (Server::redis(&[]), Origin::new());
    origin.put("1", "old");
    origin.put("2", "old");
    let front = origin.front(&upstream, "");
    let (mut one, mut two, mut other) = (front.connect(), front.connect(), front.connect());
    ask_for(&mut one, "user:1");
    ask_for(&mut two, "user:2");
    until("both loads have begun", || origin.calls().len() == 2);
    assert_eq!(other.say("SET user:1 new"), "+OK\r\n");
    assert_eq!(other.say("DEL user:2"), ":0\r\n");
    origin.put("2", "new");
    // Who comes now does not wait for what began before.
    ask_for(&mut other, "user:2");
    until("a load has begun anew", || origin.calls().len() == 3);
    origin.let_go();
    reply(&mut one);
    reply(&mut two);
    assert_eq!(reply(&mut other), "$3\r\nnew\r\n");
    let mut direct = upstream.connect();
    until("it is stored", || {
        direct.say("GET user:2") == "$3\r\nnew\r\n"
    });
    assert_eq!(direct.say("GET user:1"), "$3\r\nnew\r\n");
    assert_eq!(
        other.say("MGET user:1 user:2"),
        "*2\r\n$3\r\nnew\r\n$3\r\nnew\r\n"
    );
}

#[test]
fn a_client_that_goes_does_not_end_the_load() {
    let (upstream, origin) = (Server::redis(&[]), Origin::new());
    origin.put("1", "ann");
    let front = origin.front(&upstream, "");
    let mut client = front.connect();
    ask_for(&mut client, "user:1");
    until("the load has begun", || origin.calls().len() == 1);
    drop(client);
    origin.let_go();
    let mut direct = upstream.connect();
    until("it is stored", || {
        direct.say("GET user:1") == "$3\r\nann\r\n"
    });
}

#[test]
fn a_rule_caps_how_long_copies_are_kept() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    let front = origin.front(&upstream, "near-ttl = \"1ms\"");
    let mut client = front.connect();
    upstream.connect().say("SET user:1 v");
    let before = upstream.connect().info("total_commands_processed");
    for _ in 0..20 {
        assert_eq!(client.say("GET user:1"), "$1\r\nv\r\n");
        std::thread::sleep(Duration::from_millis(3));
    }
    let after = upstream.connect().info("total_commands_processed");
    let number = |text: String| text.parse::<u64>().expect("a number");
    assert!(number(after) - number(before) >= 40, "each read it anew");
}

#[test]
fn what_is_written_through_goes_to_the_origin_first() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    let front = origin.front(&upstream, "write = \"through\"");
    let (mut client, mut direct) = (front.connect(), upstream.connect());
    assert_eq!(client.say("SET user:1 ann EX 50"), "+OK\r\n");
    assert_eq!(origin.has("1").as_deref(), Some("ann"));
    assert_eq!(direct.say("GET user:1"), "$3\r\nann\r\n");
    assert_eq!(client.say("MSET user:2 b other c"), "+OK\r\n");
    assert_eq!(origin.calls(), ["store 1", "store 2"]);
    assert_eq!(client.say("DEL user:2 other"), ":2\r\n");
    assert_eq!(origin.has("2"), None);
    let refused =
        "-ERR the rule 'user:*' writes through to its origin: its keys are only written by";
    assert!(client.say("APPEND user:1 x").starts_with(refused));
    assert!(client.say("SET user:1 x NX").starts_with(refused));
    assert_eq!(client.say("EXPIRE user:1 40"), ":1\r\n");
    client.send(b"SET user:3 a\r\nSET user:3 b\r\nGET user:3\r\n");
    assert_eq!(reply(&mut client), "+OK\r\n");
    assert_eq!(reply(&mut client), "+OK\r\n");
    assert_eq!(reply(&mut client), "$1\r\nb\r\n");
}

#[test]
fn what_the_origin_refuses_is_written_nowhere() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    let front = origin.front(&upstream, "write = \"through\"");
    let (mut client, mut direct) = (front.connect(), upstream.connect());
    assert_eq!(client.say("SET user:1 ann"), "+OK\r\n");
    origin.put("bad", "");
    assert!(client.say("SET user:1 bob").starts_with("-ORIGIN files: "));
    assert_eq!(client.say("GET user:1"), "$3\r\nann\r\n");
    assert_eq!(direct.say("GET user:1"), "$3\r\nann\r\n");
    assert_eq!(origin.has("1").as_deref(), Some("ann"));
}

#[test]
fn a_value_is_loaded_anew_before_it_expires_while_readers_get_the_old_one() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    origin.put("1", "one");
    let front = origin.front(&upstream, "beta = 100.0");
    let mut client = front.connect();
    assert_eq!(client.say("GET user:1"), "$3\r\none\r\n");
    let mut direct = upstream.connect();
    until("it is stored", || direct.number("PTTL user:1") > 0);
    // As if most of its time were over.
    assert_eq!(direct.number("PEXPIRE user:1 3000"), 1);
    origin.put("1", "two");
    until("the next one is there", || {
        let value = client.say("GET user:1");
        assert!(
            ["$3\r\none\r\n", "$3\r\ntwo\r\n"].contains(&value.as_str()),
            "{value}"
        );
        value == "$3\r\ntwo\r\n"
    });
    assert!(direct.number("PTTL user:1") > 50_000);
    assert_eq!(origin.calls(), ["load 1", "load 1"]);
}

const TOGETHER: &str = "coalesce-across-fronts = true";

#[test]
fn fronts_of_one_upstream_load_a_key_once_together() {
    let (upstream, origin) = (Server::redis(&[]), Origin::new());
    origin.put("1", "ann");
    let fronts = [0, 1, 2].map(|_| origin.front(&upstream, TOGETHER));
    let mut clients: Vec<Client> = fronts
        .iter()
        .flat_map(|front| [front.connect(), front.connect()])
        .collect();
    for client in &mut clients {
        ask_for(client, "user:1");
    }
    until("a load has begun", || origin.calls() == ["load 1"]);
    // Long enough for a placeholder to end that nobody renews.
    std::thread::sleep(Duration::from_millis(1500));
    origin.let_go();
    for client in &mut clients {
        assert_eq!(reply(client), "$3\r\nann\r\n");
    }
    assert_eq!(origin.calls(), ["load 1"]);
    let mut direct = upstream.connect();
    until("nothing else is left upstream", || {
        direct.say("KEYS *") == "*1\r\n$6\r\nuser:1\r\n"
    });
}

#[test]
fn what_another_has_stored_meanwhile_is_not_loaded_once_more() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    origin.put("1", "ann");
    let front = origin.front(&upstream, TOGETHER);
    let (mut client, mut writer, mut direct) =
        (front.connect(), upstream.connect(), upstream.connect());
    let held = |direct: &mut Client| direct.say("CLIENT LIST").matches("flags=b").count();
    assert_eq!(direct.say("CLIENT PAUSE 60000 WRITE"), "+OK\r\n");
    writer.send(b"SET user:1 bob\r\n");
    until("the write is held", || held(&mut direct) == 1);
    ask_for(&mut client, "user:1");
    until("the front's is held behind it", || held(&mut direct) == 2);
    assert_eq!(direct.say("CLIENT UNPAUSE"), "+OK\r\n");
    assert_eq!(reply(&mut writer), "+OK\r\n");
    assert_eq!(reply(&mut client), "$3\r\nbob\r\n");
    assert_eq!(origin.calls(), [""; 0]);
    until("nothing else is left upstream", || {
        direct.say("KEYS *") == "*1\r\n$6\r\nuser:1\r\n"
    });
}

#[test]
fn a_front_that_dies_while_it_loads_is_replaced_by_another() {
    let (upstream, origin) = (Server::redis(&[]), Origin::new());
    origin.put("1", "ann");
    let first = origin.front(&upstream, TOGETHER);
    let mut client = first.connect();
    ask_for(&mut client, "user:1");
    until("a load has begun", || origin.calls() == ["load 1"]);
    let second = origin.front(&upstream, TOGETHER);
    let mut other = second.connect();
    ask_for(&mut other, "user:1");
    drop(first);
    until("the other front loads it", || {
        origin.calls() == ["load 1", "load 1"]
    });
    origin.let_go();
    assert_eq!(reply(&mut other), "$3\r\nann\r\n");
}

#[test]
fn a_front_that_may_not_say_that_it_loads_does_so_all_the_same() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    origin.put("1", "ann");
    let mut direct = upstream.connect();
    assert_eq!(
        direct.say("ACL SETUSER default resetkeys ~user:*"),
        "+OK\r\n"
    );
    let front = origin.front(&upstream, TOGETHER);
    assert_eq!(front.connect().say("GET user:1"), "$3\r\nann\r\n");
}

#[test]
fn a_loaded_value_has_the_tags_of_its_rule() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    origin.put("1", "ann");
    let front = origin.front(&upstream, "tags = [\"user:{1}\", \"users\"]");
    let mut client = front.connect();
    assert_eq!(client.say("GET user:1"), "$3\r\nann\r\n");
    until("it is stored", || client.say("TAG.CARD users") == ":1\r\n");
    assert_eq!(client.say("SET user:2 bob EX 100 TAGS 1 more"), "+OK\r\n");
    assert_eq!(client.say("TAG.INVALIDATE more"), ":1\r\n");
    assert_eq!(client.say("SET user:2 bob"), "+OK\r\n");
    assert_eq!(client.say("MSET user:3 c other d"), "+OK\r\n");
    assert_eq!(client.say("HSET user:4 f v"), ":1\r\n");
    origin.put("1", "eve");
    assert_eq!(client.say("TAG.INVALIDATE users"), ":4\r\n");
    assert_eq!(client.say("GET user:1"), "$3\r\neve\r\n");
    until("it is stored", || client.say("TAG.CARD user:1") == ":1\r\n");
    assert_eq!(client.say("TAG.INVALIDATE user:1"), ":1\r\n");
}

#[test]
fn what_was_being_loaded_when_its_tag_was_invalidated_is_for_those_who_came_before() {
    for is_here in [true, false] {
        let (upstream, origin) = (Server::redis(&[]), Origin::new());
        origin.put("1", "old");
        origin.put("2", "kept");
        let front = origin.front(&upstream, "tags = [\"user:{1}\"]");
        let other = coherent(&upstream, &[]);
        let (mut one, mut two) = (front.connect(), front.connect());
        ask_for(&mut one, "user:1");
        ask_for(&mut two, "user:2");
        until("both loads have begun", || origin.calls().len() == 2);
        let mut invalidates = if is_here { &front } else { &other }.connect();
        assert_eq!(invalidates.say("TAG.INVALIDATE user:1"), ":0\r\n");
        let mut direct = upstream.connect();
        let mut late: Vec<Client> = Vec::new();
        until("another load has begun", || {
            // Here it is so at once; elsewhere when the front has heard of it.
            if late.is_empty() || !is_here {
                late.push(front.connect());
                ask_for(late.last_mut().expect("the one"), "user:1");
            }
            let calls = origin.calls();
            calls.iter().filter(|call| *call == "load 1").count() == 2
        });
        origin.let_go();
        assert_eq!(reply(&mut one), "$3\r\nold\r\n");
        assert_eq!(reply(&mut two), "$4\r\nkept\r\n");
        until("what has other tags is stored", || {
            direct.say("EXISTS user:2") == ":1\r\n"
        });
    }
}

#[test]
fn a_load_that_began_before_its_tag_was_invalidated_is_not_stored() {
    let (upstream, origin) = (Server::redis(&[]), Origin::new());
    origin.put("1", "old");
    origin.put("2", "kept");
    let front = origin.front(&upstream, "tags = [\"user:{1}\"]");
    let (mut one, mut two) = (front.connect(), front.connect());
    ask_for(&mut one, "user:1");
    ask_for(&mut two, "user:2");
    until("both loads have begun", || origin.calls().len() == 2);
    let other = coherent(&upstream, &[]);
    assert_eq!(other.connect().say("TAG.INVALIDATE user:1"), ":0\r\n");
    origin.let_go();
    assert_eq!(reply(&mut one), "$3\r\nold\r\n");
    assert_eq!(reply(&mut two), "$4\r\nkept\r\n");
    let mut direct = upstream.connect();
    until("what has other tags is stored", || {
        direct.say("EXISTS user:2") == ":1\r\n"
    });
    until("both were to be stored", || {
        let stats = direct.say("INFO commandstats");
        stats.contains("cmdstat_eval:") && direct.say("EXISTS user:1") == ":0\r\n"
    });
    origin.put("1", "new");
    assert_eq!(one.say("GET user:1"), "$3\r\nnew\r\n");
    until("it is stored", || {
        direct.say("GET user:1") == "$3\r\nnew\r\n"
    });
}

#[test]
fn a_write_that_the_origin_refuses_takes_no_tags_away() {
    let (upstream, origin) = (Server::redis(&[]), Origin::open());
    let front = origin.front(&upstream, "write = \"through\"");
    let mut client = front.connect();
    assert_eq!(client.say("SET user:1 one TAGS 1 t"), "+OK\r\n");
    assert_eq!(origin.has("1").as_deref(), Some("one"));
    origin.put("bad", "");
    assert!(client.say("SET user:1 two").starts_with("-ORIGIN"));
    assert!(client.say("SETEX user:1 100 two").starts_with("-ORIGIN"));
    assert_eq!(client.say("TAG.INVALIDATE t"), ":1\r\n");
    fs::remove_file(origin.path("values").join("bad")).expect("it was there");
    assert_eq!(client.say("SET user:1 three TAGS 1 t"), "+OK\r\n");
    assert_eq!(client.say("SET user:1 four"), "+OK\r\n");
    assert_eq!(origin.has("1").as_deref(), Some("four"));
    assert_eq!(client.say("TAG.CARD t"), ":0\r\n");
}

#[test]
fn a_loaded_value_has_the_tags_that_its_origin_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("corral.toml");
    let config = format!(
        "[[origin]]\nname = \"rows\"\nkind = \"sqlite\"\nurl = \"sqlite:{}/rows?mode=rwc\"\n\
         load = \"SELECT 'v' || {{1}} AS body, 'all,row:' || {{1}} AS tags\"\n\
         tag-column = \"tags\"\n\
         [[rule]]\nmatch = \"n:*\"\norigin = \"rows\"\ntags = [\"n\"]\n",
        show(dir.path())
    );
    fs::write(&file, config).expect("a file");
    let upstream = Server::redis(&[]);
    for server in [
        Server::corral(&["--config", show(&file)]),
        coherent(&upstream, &["--config", show(&file)]),
    ] {
        let mut client = server.connect();
        for key in ["1", "2", "3"] {
            let value = format!("$2\r\nv{key}\r\n");
            assert_eq!(client.say(&format!("GET n:{key}")), value);
        }
        until("they are stored", || client.say("TAG.CARD n") == ":3\r\n");
        assert_eq!(client.say("TAG.MEMBERS row:2"), "*1\r\n$3\r\nn:2\r\n");
        assert_eq!(client.say("TAG.INVALIDATE row:2"), ":1\r\n");
        assert_eq!(client.say("TAG.INVALIDATE all"), ":2\r\n");
        assert_eq!(client.say("TAG.CARD n"), ":0\r\n");
    }
}
