//! What goes wrong while the clients are at work. Each fault ends healed, and what empties a
//! database is noted in the history.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use corral::clock;
use corral::upstream::topology::slot_of;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use super::bed::BOUND;
use super::client::{Client, Value, reads_counted, words};
use super::history::{History, Route, Wipe};
use super::load::TAGS;
use super::relay::{Link, Relay, Way};
use super::servers::Server;
use super::topologies::{Cluster, ask, ask_for_ok, wait_until};
use super::upstream::{Door, Upstream};

/// Longer than any copy may be believed.
const SETTLED: Duration = BOUND.saturating_mul(4);
/// A replica that has not taken its master's place by then never will; Redis's own limit is 5 s.
const PROMOTED_WITHIN: Duration = Duration::from_secs(6);
/// Keys that a scan reads at once.
const SCANNED_AT_ONCE: u64 = 500;

/// The means to make things go wrong.
pub(crate) struct Faults<'a> {
    upstream: &'a mut Upstream,
    upstream_args: &'a [&'a str],
    door: &'a Door,
    relays: &'a [Relay],
    direct: Client,
    admins: Vec<Client>,
    random: StdRng,
    history: History,
    until: Instant,
    /// Keys read by [`Self::scan`].
    scanned: u64,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(
        (upstream, upstream_args, door): (&'a mut Upstream, &'a [&'a str], &'a Door),
        relays: &'a [Relay],
        (direct, admins): (Client, Vec<Client>),
        seed: u64,
        duration: Duration,
    ) -> Self {
        Self {
            upstream,
            upstream_args,
            door,
            relays,
            direct,
            admins,
            random: StdRng::seed_from_u64(seed),
            history: History::default(),
            until: clock::now() + duration,
            scanned: 0,
        }
    }

    /// Whether there is time left for another fault.
    pub(crate) fn goes_on(&self) -> bool {
        clock::now() < self.until
    }

    /// Lets some time pass, in ms, but not more than there is.
    pub(crate) fn wait(&mut self, ms: Range<u64>) {
        let wait = Duration::from_millis(self.random.random_range(ms));
        let left = self.until.saturating_duration_since(clock::now());
        std::thread::sleep(wait.min(left));
    }

    /// Lets traffic go on for longer than a copy may be believed, also where no time is left.
    pub(crate) fn settle(&mut self) {
        std::thread::sleep(SETTLED);
    }

    /// What it did to the data.
    pub(crate) fn end(self) -> History {
        for link in self.links() {
            link.heal();
        }
        let mut history = self.history;
        history.hangs.extend(self.direct.history.hangs);
        for admin in self.admins {
            history.hangs.extend(admin.history.hangs);
        }
        history
    }

    /// Says this to Redis, past the fronts.
    pub(crate) fn tell(&mut self, command: &str) -> Option<Value> {
        self.direct.ask(command)
    }

    /// The same, with another database chosen.
    pub(crate) fn tell_in(&mut self, db: u32, command: &str) -> Option<Value> {
        let requests = [&format!("SELECT {db}"), command, "SELECT 0"].map(words);
        let (_, mut answers) = self.direct.run(&requests);
        answers.truncate(2);
        answers.pop().map(|answer| answer.value)
    }

    /// A number below this.
    pub(crate) fn random_choice(&mut self, count: u32) -> u32 {
        self.random.random_range(0..count)
    }

    /// Ends some of the connections that fronts have to Redis, or all of them.
    pub(crate) fn kill_connections(&mut self) {
        match self.random.random_range(0..6) {
            0 => drop(self.tell("CLIENT KILL TYPE normal SKIPME yes")),
            1 => drop(self.tell("CLIENT KILL TYPE pubsub")),
            all => {
                let Some(Value::Text(list)) = self.tell("CLIENT LIST") else {
                    return;
                };
                let list = String::from_utf8_lossy(&list).into_owned();
                for line in list.lines().filter(|line| !line.contains(" name=direct ")) {
                    if let (Some(id), true) =
                        (id_in(line), all == 2 || self.random.random_range(0..3) == 0)
                    {
                        self.tell(&format!("CLIENT KILL ID {id}"));
                    }
                }
            }
        }
    }

    /// Stops Redis for a while: its connections are open, and silent.
    pub(crate) fn freeze(&mut self, ms: Range<u64>) {
        self.upstream.one().signal("STOP");
        self.wait(ms);
        self.upstream.one().signal("CONT");
    }

    /// Kills Redis and starts an empty one in its place.
    pub(crate) fn restart(&mut self, ms_between: Range<u64>) {
        self.history.reads_counted += reads_counted(&mut self.direct);
        let begin = self.direct.clock.now();
        let process = &mut self.upstream.one().process;
        // It cannot have ended by itself; if so, its clients say it.
        process.kill().ok();
        process.wait().ok();
        let end = self.direct.clock.now();
        let route = Route::Direct;
        let db = None;
        self.history.wipes.push(Wipe {
            db,
            route,
            begin,
            end,
        });
        self.wait(ms_between);
        let server = self.upstream.one();
        *server = Server::redis_on(server.port, self.upstream_args);
    }

    /// A Sentinel puts the replica in the master's place, and tells so. Writes are held back before
    /// it begins, until the replica has all of them: Redis itself may lose the last.
    pub(crate) fn fail_over(&mut self) {
        let Upstream::Group(group) = &mut *self.upstream else {
            panic!("there is no Sentinel");
        };
        let (old, new, sentinel) = (group.master.port, group.replica.port, group.sentinel.port);
        wait_until("the Sentinel knows the replica", || {
            ask(sentinel, "SENTINEL REPLICAS mymaster").contains("master-link-status\nok")
        });
        ask_for_ok(old, "CLIENT PAUSE 60000 WRITE");
        wait_until("the replica has all", || {
            let offset = |port| number(&ask(port, "INFO replication"), "master_repl_offset:");
            offset(old) == offset(new)
        });
        wait_until("the Sentinel begins", || {
            ask(sentinel, "SENTINEL FAILOVER mymaster") == "OK"
        });
        wait_until("the replica is the master", || {
            let address = ask(sentinel, "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster");
            address == format!("127.0.0.1\n{new}")
        });
        // What is held back is given up, and nobody reads here any more who goes past the fronts.
        self.door.close();
        if self.random.random() {
            ask(old, "CLIENT KILL TYPE normal");
        } else {
            let list = ask(old, "CLIENT LIST");
            let direct = list.lines().filter(|line| line.contains(" name=direct "));
            for id in direct.filter_map(id_in) {
                ask(old, &format!("CLIENT KILL ID {id}"));
            }
        }
        self.door.open(new);
        // Who does not leave the old one is told nothing any more.
        std::thread::sleep(SETTLED);
        ask_for_ok(old, &format!("REPLICAOF 127.0.0.1 {new}"));
        ask_for_ok(old, "CLIENT UNPAUSE");
        std::mem::swap(&mut group.master, &mut group.replica);
    }

    /// A replica takes its master's place, as they agree.
    pub(crate) fn promote(&mut self) {
        let cluster = self.cluster();
        let (master, replica) = (&mut cluster.masters[0], &mut cluster.replicas[0]);
        wait_until("the replica is in order", || {
            ask(replica.port, "INFO replication").contains("master_link_status:up")
        });
        let mut asked = None;
        wait_until("they have changed places", || {
            // On a busy machine they refuse, or give up, at times.
            let is_due = asked.is_none_or(|asked: Instant| asked.elapsed() > PROMOTED_WITHIN);
            if is_due && ask(replica.port, "CLUSTER FAILOVER") == "OK" {
                asked = Some(clock::now());
            }
            let is = |server: &Server, role| ask(server.port, "ROLE").starts_with(role);
            is(replica, "master") && is(master, "slave")
        });
        std::mem::swap(master, replica);
    }

    /// Moves a slot to another master, with its keys.
    pub(crate) fn move_slot(&mut self, ms_of_each: Range<u64>) {
        let tag = TAGS[self.random.random_range(0..TAGS.len())];
        let (slot, hops) = (slot_of(tag.as_bytes()), self.random.random_range(1..3));
        let wait = Duration::from_millis(self.random.random_range(ms_of_each));
        let cluster = self.cluster();
        let target = (cluster.owner(slot) + hops) % cluster.masters.len();
        cluster.move_slot(slot, target, wait);
    }

    fn cluster(&mut self) -> &mut Cluster {
        match &mut *self.upstream {
            Upstream::Cluster(cluster, _) => cluster,
            Upstream::One(_) | Upstream::Group(_) => panic!("there is no Cluster"),
        }
    }

    /// Sends a command that empties a database (`None`: all), past the fronts or through one.
    pub(crate) fn empty(&mut self, command: &str, db: Option<u32>) {
        let chosen = self.random.random_range(0..=self.admins.len());
        let client = self.admins.get_mut(chosen).unwrap_or(&mut self.direct);
        wipe(client, command, db, &mut self.history);
    }

    /// The same, through a front.
    pub(crate) fn empty_through_front(&mut self, command: &str, db: Option<u32>) {
        // Another front can know of a SWAPDB only by a flush, so there is but one.
        wipe(&mut self.admins[0], command, db, &mut self.history);
    }

    /// Reads keys that nobody has read, through each front.
    pub(crate) fn scan(&mut self) {
        for client in &mut self.admins {
            let keys = self.scanned..self.scanned + SCANNED_AT_ONCE;
            self.scanned = keys.end;
            let requests: Vec<_> = keys.map(|key| words(&format!("GET scan:{key}"))).collect();
            client.run(&requests);
        }
    }

    /// Whether a front keeps what is read for the second time only.
    pub(crate) fn is_picky(&mut self) -> bool {
        let is_picky = |client: &mut Client| {
            let info = client.ask("CORRAL.INFO near");
            let info = info.as_ref().and_then(Value::text).unwrap_or_default();
            String::from_utf8_lossy(info).contains("near_picky:1\r\n")
        };
        self.admins.iter_mut().any(is_picky)
    }

    /// All connections between fronts and Redis.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.relays.iter().flat_map(Relay::links).collect()
    }

    /// All of these connections, or each with a chance of a half.
    fn some_links(&mut self) -> Vec<Arc<Link>> {
        let mut links = self.links();
        if self.random.random() {
            links.retain(|_| self.random.random());
        }
        links
    }

    /// Makes some connections slow for a while, in one direction or both.
    pub(crate) fn delay(&mut self, ways: &[Way], delay_ms: Range<u64>, ms: Range<u64>) {
        let links = self.some_links();
        for link in &links {
            for way in ways {
                let delay = self.random.random_range(delay_ms.clone());
                link.delay(*way, Duration::from_millis(delay));
            }
        }
        self.wait(ms);
        for link in links {
            link.heal();
        }
    }

    /// Makes the oldest connection of each front late for a while: the toy's tracking connection.
    pub(crate) fn delay_oldest(&mut self, way: Way, delay_ms: Range<u64>, ms: Range<u64>) {
        let oldest = self.relays.iter().map(Relay::links);
        let oldest: Vec<_> = oldest.filter_map(|links| links.first().cloned()).collect();
        for link in &oldest {
            let delay = self.random.random_range(delay_ms.clone());
            link.delay(way, Duration::from_millis(delay));
        }
        self.wait(ms);
        for link in oldest {
            link.heal();
        }
    }

    /// Makes some connections silent for a while, in one direction or both; then they go on, or
    /// end.
    pub(crate) fn hold(&mut self, ms: Range<u64>) {
        let links = self.some_links();
        let ways: &[Way] = match self.random.random_range(0..3) {
            0 => &[Way::ToFront],
            1 => &[Way::ToServer],
            _ => &[Way::ToServer, Way::ToFront],
        };
        for link in &links {
            for way in ways {
                link.hold(*way);
            }
        }
        self.wait(ms);
        let ends = self.random.random();
        for link in links {
            if ends {
                link.cut();
            } else {
                link.heal();
            }
        }
    }

    /// Ends some connections.
    pub(crate) fn cut(&mut self) {
        for link in self.some_links() {
            link.cut();
        }
    }
}

/// The id in a line of CLIENT LIST.
fn id_in(line: &str) -> Option<&str> {
    line.strip_prefix("id=")?.split(' ').next()
}

/// A number of INFO.
fn number(info: &str, name: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_end().parse().ok()
}

/// Sends a command that empties a database, and notes it. If its outcome is unknown, so is its end.
fn wipe(client: &mut Client, command: &str, db: Option<u32>, history: &mut History) {
    let begin = client.clock.now();
    let reply = client.ask(command);
    let is_done = reply.is_some_and(|value| !value.is_error());
    let now = client.clock.now();
    history.wipes.push(Wipe {
        db,
        route: client.route,
        begin,
        end: if is_done { now } else { super::history::NEVER },
    });
}
