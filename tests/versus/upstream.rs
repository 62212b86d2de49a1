//! The ways in which an upstream is reached, each with the near cache on.

use corral::upstream::topology::slot_of;

use super::certificates::Files;
use super::common::{Client, Server, free_port, reads, until, value};

/// That reads are answered from memory, that changes are told, and that what needs a connection of
/// its own has one. `direct`: a client of the upstream.
fn serves(front: &Server, direct: &mut Client) {
    let mut client = front.connect();
    assert_eq!(client.say("SET k v"), "+OK\r\n");
    until("it is answered from memory", || {
        let before = reads(direct);
        (0..20).for_each(|_| assert_eq!(value(&mut client, "k"), "v"));
        reads(direct) == before
    });
    for round in 0..20 {
        assert_eq!(direct.say(&format!("SET k {round}")), "+OK\r\n");
        until("the change is told", || {
            value(&mut client, "k") == round.to_string()
        });
    }
    assert_eq!(client.say("MULTI"), "+OK\r\n");
    assert_eq!(client.say("SET k w"), "+QUEUED\r\n");
    assert_eq!(client.say("EXEC"), "*1\r\n+OK\r\n");
    assert_eq!(value(&mut client, "k"), "w");
}

impl Files {
    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The settings of a server that asks for certificates.
    fn of_server(&self) -> [String; 8] {
        [
            "tls-cert-file".to_owned(),
            self.shown("server.crt"),
            "tls-key-file".to_owned(),
            self.shown("server.key"),
            "tls-ca-cert-file".to_owned(),
            self.shown("ca.crt"),
            "tls-auth-clients".to_owned(),
            "yes".to_owned(),
        ]
    }

    /// A server with a TLS port, and that port.
    fn redis(&self) -> (Server, u16) {
        self.redis_with(&[])
    }

    fn redis_with(&self, more: &[&str]) -> (Server, u16) {
        let port = free_port();
        let mut args = vec!["--tls-port".to_owned(), port.to_string()];
        args.extend(more.iter().map(|&word| word.to_owned()));
        for (at, word) in self.of_server().into_iter().enumerate() {
            args.push(if at % 2 == 0 {
                format!("--{word}")
            } else {
                word
            });
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        (Server::redis(&args), port)
    }

    /// A front, which shows this certificate and expects this name.
    fn front(&self, url: &str, identity: &str, name: &str) -> Server {
        let (cert, key) = (format!("{identity}.crt"), format!("{identity}.key"));
        Server::corral(&[
            "--upstream",
            url,
            "--upstream-tls-ca-cert-file",
            &self.shown("ca.crt"),
            "--upstream-tls-cert-file",
            &self.shown(&cert),
            "--upstream-tls-key-file",
            &self.shown(&key),
            "--upstream-tls-server-name",
            name,
        ])
    }
}

#[test]
fn over_a_unix_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("redis.sock");
    let path = path.to_str().expect("a UTF-8 path");
    let upstream = Server::redis(&["--unixsocket", path]);
    let front = Server::corral(&["--upstream", &format!("unix:{path}")]);
    serves(&front, &mut upstream.connect());
}

#[test]
fn over_tls_with_a_client_certificate_and_another_name() {
    let files = Files::of("redis.test");
    let (upstream, port) = files.redis();
    let url = format!("rediss://127.0.0.1:{port}");
    let front = files.front(&url, "client", "redis.test");
    serves(&front, &mut upstream.connect());
    // Nobody vouches for what another server's name would stand for.
    let front = files.front(&url, "client", "other.test");
    let reply = front.connect().say("GET k");
    let told = format!("-ERR upstream 127.0.0.1:{port} failed the TLS handshake: ");
    assert!(reply.starts_with(&told), "{reply}");
}

#[test]
fn over_tls_with_sentinel() {
    let files = Files::of("redis.test");
    let (upstream, port) = files.redis();
    let own = free_port();
    let mut settings = format!("tls-port {own}\ntls-replication yes\n");
    for pair in files.of_server().chunks(2) {
        settings.push_str(&format!("{} {}\n", pair[0], pair[1]));
    }
    let _sentinel = Server::sentinel_of(port, &settings);
    let url = format!("rediss+sentinel://127.0.0.1:{own}/mymaster");
    let front = files.front(&url, "client", "redis.test");
    serves(&front, &mut upstream.connect());
}

#[test]
fn over_tls_with_a_cluster_as_a_user_of_an_access_list() {
    const HALF: u16 = 8192;
    let files = Files::of("redis.test");
    let nodes = [0, HALF].map(|first| {
        let bus = free_port();
        let settings = [
            "--cluster-enabled",
            "yes",
            "--tls-cluster",
            "yes",
            "--cluster-port",
            &bus.to_string(),
        ];
        let (server, port) = files.redis_with(&settings);
        let mut direct = server.connect();
        let user = "ACL SETUSER front on >pass ~* &* +@all -@admin -@dangerous +info +client";
        assert_eq!(direct.say(user), "+OK\r\n");
        let slots = format!("CLUSTER ADDSLOTSRANGE {first} {}", first + HALF - 1);
        assert_eq!(direct.say(&slots), "+OK\r\n");
        (server, port, bus, direct)
    });
    let [
        (_first, port, _, mut direct),
        (_second, other, bus, mut second),
    ] = nodes;
    let meet = format!("CLUSTER MEET 127.0.0.1 {other} {bus}");
    assert_eq!(direct.say(&meet), "+OK\r\n");
    until("both agree", || {
        [&mut direct, &mut second].into_iter().all(|node| {
            let info = node.say("CLUSTER INFO");
            info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
        })
    });
    let url = format!("rediss+cluster://front:pass@127.0.0.1:{port}");
    let front = files.front(&url, "client", "redis.test");
    serves(&front, &mut direct);
    let mut client = front.connect();
    for at in 0..100 {
        let key = format!("key:{at}");
        assert_eq!(client.say(&format!("SET {key} {at}")), "+OK\r\n");
        let node = usize::from(slot_of(key.as_bytes()) >= HALF);
        let node = [&mut direct, &mut second].into_iter().nth(node);
        assert_eq!(value(node.expect("there are two"), &key), at.to_string());
    }
    for node in [&mut direct, &mut second] {
        assert!(node.say("CLIENT LIST").contains(" user=front "));
    }
}

#[test]
fn as_a_user_of_an_access_list() {
    let upstream = Server::redis(&[]);
    let mut direct = upstream.connect();
    let rules = "ACL SETUSER front on >pass:word ~* &* +@all -@admin -@dangerous +info +client";
    assert_eq!(direct.say(rules), "+OK\r\n");
    let url = format!("redis://front:pass%3Aword@127.0.0.1:{}", upstream.port);
    let front = Server::corral(&["--upstream", &url]);
    serves(&front, &mut direct);
    assert!(direct.say("CLIENT LIST").contains(" user=front "));
    // The default user may do nothing here any more.
    assert_eq!(
        direct.say("ACL SETUSER admin on >admin ~* &* +@all"),
        "+OK\r\n"
    );
    assert_eq!(direct.say("AUTH admin admin"), "+OK\r\n");
    assert_eq!(direct.say("ACL SETUSER default off"), "+OK\r\n");
    serves(&Server::corral(&["--upstream", &url]), &mut direct);
}
