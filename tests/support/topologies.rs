//! Servers that belong together: a master that a Sentinel names, and a Cluster. They are asked by
//! redis-cli. Each test binary that needs them takes this file in.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use corral::clock;

use super::servers::{PATIENCE, Server, free_port};

/// What a server replies to a command of words without blanks, as redis-cli prints it. Empty if
/// there is no reply.
pub(crate) fn ask(port: u16, words: &str) -> String {
    ask_as("", port, words)
}

fn ask_as(password: &str, port: u16, words: &str) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]);
    if !password.is_empty() {
        command.args(["--no-auth-warning", "-a", password]);
    }
    let output = command.args(words.split(' ')).output().expect("redis-cli");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_right: impl FnMut() -> bool) {
    let since = clock::now();
    while !is_right() {
        assert!(since.elapsed() < 2 * PATIENCE, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
pub(crate) fn ask_for_ok(port: u16, words: &str) {
    assert_eq!(ask(port, words), "OK", "{words}");
}

impl Server {
    /// A Sentinel that alone decides, half a second after it is gone, about the master on this
    /// port, which it calls `mymaster`.
    pub(crate) fn sentinel_of(at: u16, settings: &str) -> Self {
        Self::start(|port, dir| {
            let file = dir.join("sentinel.conf");
            let text = format!(
                "port {port}\nsentinel monitor mymaster 127.0.0.1 {at} 1\n\
                 sentinel down-after-milliseconds mymaster 500\n\
                 sentinel failover-timeout mymaster 3000\n{settings}\n"
            );
            std::fs::write(&file, text).expect("a file");
            let mut command = Command::new("redis-server");
            command.arg(file).arg("--sentinel").current_dir(dir);
            command
        })
    }
}

/// A master, its replica, and the Sentinel that watches over them.
pub(crate) struct Group {
    pub(crate) master: Server,
    pub(crate) replica: Server,
    pub(crate) sentinel: Server,
}

impl Group {
    /// With arguments for both servers, and lines for the Sentinel's settings.
    pub(crate) fn with(args: &[&str], settings: &str) -> Self {
        let args = [&["--repl-diskless-sync-delay", "0"], args].concat();
        let master = Server::redis(&args);
        let at = master.port.to_string();
        let replica = Server::redis(&[&["--replicaof", "127.0.0.1", &at][..], &args].concat());
        let password = args.iter().position(|arg| *arg == "--requirepass");
        let password = password.map_or("", |at| args[at + 1]);
        wait_until("the replica is in order", || {
            ask_as(password, replica.port, "INFO replication").contains("master_link_status:up")
        });
        // It looks for replicas when it starts, and then every ten seconds.
        let sentinel = Server::sentinel_of(master.port, settings);
        let password = settings.strip_prefix("requirepass ");
        let password = password.and_then(|rest| rest.lines().next()).unwrap_or("");
        let port = sentinel.port;
        wait_until("the Sentinel knows the replica", || {
            ask_as(password, port, "SENTINEL REPLICAS mymaster").contains("master-link-status\nok")
        });
        Self {
            master,
            replica,
            sentinel,
        }
    }

    pub(crate) fn url(&self) -> String {
        // The first one is nobody.
        format!(
            "redis+sentinel://127.0.0.1:1,127.0.0.1:{}/mymaster",
            self.sentinel.port
        )
    }
}

/// Three masters with a third of the slots each, and replicas of the first one.
pub(crate) struct Cluster {
    pub(crate) masters: Vec<Server>,
    pub(crate) replicas: Vec<Server>,
    /// Who has the slots that were moved.
    moved: HashMap<u16, usize>,
}

fn node() -> (Server, u16) {
    let bus = free_port();
    let port = bus.to_string();
    let args = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &port,
        "--cluster-node-timeout",
        "1000",
        "--repl-diskless-sync-delay",
        "0",
    ];
    (Server::redis(&args), bus)
}

impl Cluster {
    pub(crate) fn start(replicas: usize) -> Self {
        let mut nodes: Vec<(Server, u16)> = (0..3 + replicas).map(|_| node()).collect();
        for (server, bus) in &nodes[1..] {
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", server.port);
            ask_for_ok(nodes[0].0.port, &meet);
        }
        for (at, range) in ["0 5460", "5461 10922", "10923 16383"].iter().enumerate() {
            let words = format!("CLUSTER ADDSLOTSRANGE {range}");
            ask_for_ok(nodes[at].0.port, &words);
        }
        wait_until("all nodes agree", || {
            nodes.iter().all(|(server, _)| {
                let info = ask(server.port, "CLUSTER INFO");
                info.contains("cluster_state:ok") && info.contains("cluster_size:3")
            })
        });
        let replicas = nodes.split_off(3);
        let replicas: Vec<Server> = replicas.into_iter().map(|(server, _)| server).collect();
        let masters: Vec<Server> = nodes.into_iter().map(|(server, _)| server).collect();
        let id = id_of(&masters[0]);
        for replica in &replicas {
            wait_until("it knows its master", || {
                ask(replica.port, &format!("CLUSTER REPLICATE {id}")) == "OK"
            });
            wait_until("it has what its master has", || {
                ask(replica.port, "INFO replication").contains("master_link_status:up")
            });
        }
        Self {
            masters,
            replicas,
            moved: HashMap::new(),
        }
    }

    pub(crate) fn url(&self) -> String {
        // The first one is nobody.
        format!(
            "redis+cluster://127.0.0.1:1,127.0.0.1:{}",
            self.masters[1].port
        )
    }

    /// Which of the masters has a slot.
    pub(crate) fn owner(&self, slot: u16) -> usize {
        let at_first = usize::from(slot > 5460) + usize::from(slot > 10922);
        self.moved.get(&slot).copied().unwrap_or(at_first)
    }

    /// Moves a slot with its keys, of which each waits so long before it goes.
    pub(crate) fn move_slot(&mut self, slot: u16, target: usize, wait: Duration) {
        let (from, to) = (&self.masters[self.owner(slot)], &self.masters[target]);
        let (from_id, to_id) = (id_of(from), id_of(to));
        let (at_from, at_to) = (from.port, to.port);
        ask_for_ok(
            at_to,
            &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"),
        );
        ask_for_ok(
            at_from,
            &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"),
        );
        loop {
            let key = ask(at_from, &format!("CLUSTER GETKEYSINSLOT {slot} 1"));
            if key.is_empty() {
                break;
            }
            std::thread::sleep(wait);
            let reply = ask(at_from, &format!("MIGRATE 127.0.0.1 {at_to} {key} 0 5000"));
            // It may have gone meanwhile.
            assert!(matches!(&*reply, "OK" | "NOKEY"), "{reply}");
        }
        for port in [at_to, at_from] {
            ask_for_ok(port, &format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
        }
        self.moved.insert(slot, target);
    }
}

fn id_of(server: &Server) -> String {
    ask(server.port, "CLUSTER MYID")
}
