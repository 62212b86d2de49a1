//! Where a scenario runs: a Redis, fronts, relays between them, clients, and the end of it.

use std::collections::HashMap;
use std::time::Duration;

use super::check::{STALENESS_TOLERANCE, check};
use super::client::{Client, Value};
use super::faults::Faults;
use super::history::{Clock, Counter, History, Rest, Route, Seen};
use super::load::{
    Kind, Load, Slot, Traffic, poll_for_a_while, raise_counters, read_for_a_while,
    write_for_a_while,
};
use super::relay::{Link, Relay};
use super::report::Report;
use super::servers::{PATIENCE, Server};
use super::toy::{Toy, Wrong};
use super::upstream::{Door, Topology, Upstream};

/// The fronts' `staleness-bound`.
pub(crate) const BOUND: Duration = Duration::from_millis(250);
/// Beyond the bound, before all must be equal: a write that nobody waits for any more arrives.
const SETTLING: Duration = Duration::from_millis(100);
/// The fronts' `upstream-timeout`, in ms.
const UPSTREAM_TIMEOUT_MS: &str = "1000";
const WRITERS: u32 = 3;
const POLLERS_OF_A_FRONT: usize = 2;
const COUNTING_CLIENTS: usize = 3;
/// The variable that makes scenarios longer.
const SECONDS: &str = "CORRAL_COHERENCE_SECONDS";
const SECONDS_DEFAULT: u64 = 3;

/// How long a scenario lasts.
pub(crate) fn duration() -> Duration {
    let seconds = std::env::var(SECONDS).map_or(SECONDS_DEFAULT, |seconds| {
        seconds.parse().expect("a number of seconds")
    });
    Duration::from_secs(seconds)
}

/// What a run's choices are drawn from.
pub(crate) fn seed() -> u64 {
    std::env::var("CORRAL_SEED").map_or_else(
        |_| rand::random_range(0..1_000_000),
        |seed| seed.parse().expect("CORRAL_SEED is a number"),
    )
}

/// What lies between a front and its Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Network {
    Direct,
    /// A relay, which does this to each new connection.
    Relayed(fn(&Link)),
}

/// What a scenario needs.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) topology: Topology,
    /// The toy that stands for corral.
    pub(crate) toy: Option<Wrong>,
    pub(crate) upstream: &'static [&'static str],
    pub(crate) front: &'static [&'static str],
    pub(crate) fronts: usize,
    /// Clients of each front that read.
    pub(crate) readers: usize,
    pub(crate) network: Network,
    pub(crate) traffic: Traffic,
    /// Whether Redis may evict keys.
    pub(crate) evicts: bool,
    /// Whether nothing goes wrong, so that no request may fail.
    pub(crate) is_calm: bool,
}

impl Setup {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            topology: Topology::One,
            toy: None,
            upstream: &["--databases", "512"],
            front: &[
                "--maxmemory",
                "64mb",
                "--maxmemory-policy",
                "allkeys-tinylfu",
            ],
            fronts: 2,
            readers: 2,
            network: Network::Direct,
            traffic: Traffic {
                dbs: 1,
                keys: 16,
                padding: 20,
                keeps_keys: true,
                is_clustered: false,
            },
            evicts: false,
            is_calm: false,
        }
    }
}

/// A front, whichever it is.
enum Front {
    Corral(Server),
    Toy(Toy),
}

impl Front {
    fn start(setup: &Setup, upstream: &Upstream, relay: Option<u16>) -> Self {
        if let Some(wrong) = setup.toy {
            let port = relay.unwrap_or_else(|| upstream.port());
            return Self::Toy(Toy::start(port, wrong));
        }
        let args = [
            "--upstream",
            &upstream.url(relay),
            "--upstream-timeout",
            UPSTREAM_TIMEOUT_MS,
        ];
        Self::Corral(Server::corral(&[&args, setup.front].concat()))
    }

    fn port(&self) -> u16 {
        match self {
            Self::Corral(server) => server.port,
            Self::Toy(toy) => toy.port,
        }
    }
}

/// The servers of a run, and how to make clients of them.
struct Bed {
    upstream: Upstream,
    door: Door,
    relays: Vec<Relay>,
    fronts: Vec<Front>,
    clock: Clock,
    clients: u32,
}

impl Bed {
    fn new(setup: &Setup) -> Self {
        let upstream = Upstream::start(setup.topology, setup.upstream);
        let relays: Vec<Relay> = match setup.network {
            Network::Direct => Vec::new(),
            Network::Relayed(prepare) => (0..setup.fronts)
                .map(|_| Relay::start(upstream.port(), prepare))
                .collect(),
        };
        let fronts = (0..setup.fronts).map(|index| {
            let relay = relays.get(index).map(|relay| relay.port);
            Front::start(setup, &upstream, relay)
        });
        Self {
            fronts: fronts.collect(),
            door: Door::new(upstream.port()),
            upstream,
            relays,
            clock: Clock::start(),
            clients: 0,
        }
    }

    fn client(&mut self, route: Route) -> Client {
        let door = match route {
            Route::Direct => self.door.clone(),
            Route::Front(index) => Door::new(self.fronts[index].port()),
        };
        self.clients += 1;
        Client::new(self.clients, route, door, self.clock)
    }

    /// One for each front, round robin, and one past them for the last.
    fn spread(&mut self, count: usize) -> Vec<Client> {
        let fronts = self.fronts.len();
        let clients = (0..count).map(|index| {
            let is_last = index + 1 == count;
            let front = Route::Front(index % fronts);
            self.client(if is_last { Route::Direct } else { front })
        });
        clients.collect()
    }
}

/// Runs a scenario: `go_wrong` does its faults until its time is over.
pub(crate) fn run(
    setup: &Setup,
    seed: u64,
    duration: Duration,
    go_wrong: fn(&mut Faults<'_>),
) -> Report {
    let mut bed = Bed::new(setup);
    let load = Load::new(setup.traffic);
    let mut history = traffic(setup, &mut bed, &load, seed, duration, go_wrong);
    history.evicts = setup.evicts;
    let failures = history.failures;
    let counted = history.reads_counted + bed.upstream.reads_counted(bed.clock);
    let [sent_direct, sent] = history.reads_sent;
    let reached = counted.saturating_sub(sent_direct);
    let mut direct = bed.client(Route::Direct);
    std::thread::sleep(BOUND + STALENESS_TOLERANCE + SETTLING);
    history.counters = merge(std::mem::take(&mut history.counters), &mut direct);
    for front in 0..bed.fronts.len() {
        let mut client = bed.client(Route::Front(front));
        history
            .rests
            .extend(rests(&load, front, &mut client, &mut direct));
        history.hangs.append(&mut client.history.hangs);
    }
    let report = check(&history, BOUND);
    println!(
        "{}: seed {seed}, {duration:?}: {report}; {failures} failures; {reached} of {sent} reading \
         commands reached Redis",
        setup.name
    );
    if setup.is_calm {
        assert_eq!(
            failures, 0,
            "{}: nothing went wrong, but requests failed: {:?}",
            setup.name, history.failed
        );
    }
    assert!(
        report.reads > 0 && report.writes > 0,
        "{}: no traffic",
        setup.name
    );
    report
}

fn traffic(
    setup: &Setup,
    bed: &mut Bed,
    load: &Load,
    seed: u64,
    duration: Duration,
    go_wrong: fn(&mut Faults<'_>),
) -> History {
    let fronts = bed.fronts.len();
    let writers: Vec<[Client; 3]> = (0..WRITERS as usize)
        .map(|index| {
            let front = Route::Front(index % fronts);
            [Route::Direct, front, front].map(|route| bed.client(route))
        })
        .collect();
    let outside = [Route::Direct; 3].map(|route| bed.client(route));
    let writers: Vec<_> = writers.into_iter().chain([outside]).collect();
    let pollers: Vec<_> = (0..fronts * POLLERS_OF_A_FRONT)
        .map(|index| bed.client(Route::Front(index % fronts)))
        .collect();
    let readers = bed.spread(fronts * setup.readers + 1);
    let counting = if setup.traffic.keeps_keys {
        COUNTING_CLIENTS
    } else {
        0
    };
    let counting = bed.spread(counting);
    let admins = (0..fronts)
        .map(|index| bed.client(Route::Front(index)))
        .collect();
    let direct = bed.client(Route::Direct);
    let mut seeds = seed..;
    let mut next_seed = || seeds.next().expect("seeds are endless");
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, clients) in (0..).zip(writers) {
            let seed = next_seed();
            threads.push(scope.spawn(move || write_for_a_while(load, clients, index, seed)));
        }
        for client in readers {
            let seed = next_seed();
            threads.push(scope.spawn(move || read_for_a_while(load, client, seed)));
        }
        for client in pollers {
            let seed = next_seed();
            threads.push(scope.spawn(move || poll_for_a_while(load, client, seed)));
        }
        for client in counting {
            let seed = next_seed();
            threads.push(scope.spawn(move || raise_counters(load, client, seed)));
        }
        let mut faults = Faults::new(
            (&mut bed.upstream, setup.upstream, &bed.door),
            &bed.relays,
            (direct, admins),
            next_seed(),
            duration,
        );
        // Also when a fault cannot be done.
        let stops = Stops(load);
        go_wrong(&mut faults);
        let mut history = faults.end();
        drop(stops);
        for thread in threads {
            history.append(thread.join().expect("a client does not panic"));
        }
        history
    })
}

/// Ends the traffic when dropped.
struct Stops<'a>(&'a Load);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// One counter of what several clients know of it, and what it is now.
fn merge(parts: Vec<Counter>, direct: &mut Client) -> Vec<Counter> {
    let mut counters: HashMap<String, Counter> = HashMap::new();
    for part in parts {
        let name = part.name.clone();
        let counter = counters.entry(name.clone()).or_default();
        counter.name = name;
        counter.set.extend(part.set);
        counter.unknown += part.unknown;
    }
    for counter in counters.values_mut() {
        let last = direct.ask(&format!("GET {}", counter.name));
        counter.last = match last {
            Some(Value::Text(text)) => String::from_utf8_lossy(&text).parse().unwrap_or(0),
            _ => 0,
        };
    }
    counters.into_values().collect()
}

/// Every key as a front and as Redis have it now.
fn rests(load: &Load, front: usize, client: &mut Client, direct: &mut Client) -> Vec<Rest> {
    let slots = load.all();
    let rests = slots.iter().map(|slot| Rest {
        key: slot.key.clone(),
        front,
        through_front: peek(client, slot),
        in_redis: peek(direct, slot),
    });
    rests.collect()
}

/// What this key is, as soon as there is an answer.
fn peek(client: &mut Client, slot: &Slot) -> Seen {
    let name = &slot.key.name;
    let select = format!("SELECT {}", slot.key.db);
    let read = match slot.kind {
        Kind::Hash => format!("HGET {name} v"),
        Kind::Text | Kind::Shared => format!("GET {name}"),
    };
    let since = corral::clock::now();
    let mut last = None;
    while since.elapsed() < PATIENCE {
        if client.ask(&select).is_some_and(|value| !value.is_error()) {
            last = client.ask(&read);
            if let Some(seen) = last.as_ref().and_then(|value| value.seen(&slot.key)) {
                return seen;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Seen::Foreign(format!("no answer, but {last:?}"))
}
