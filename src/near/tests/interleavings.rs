//! Readers, writers, pushes and reconnections under a scheduler that chooses at every lock and
//! atomic who goes on. With a fixed seed each, so a failure comes again:
//!
//! ```text
//! cargo test --lib --features shuttle near::
//! ```
//!
//! The key's value upstream is the number of its version, and a *floor* is kept: the version that
//! this server's own clients may rely on, because a write of it was acknowledged, an invalidation
//! of it was applied, or a read of it was answered. Whoever begins to read then must not get an
//! older one. And when everything has come to rest, a hit is the present value.
//!
//! Each check of a token can be switched off, and for each it is shown that this finds out.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Mutex, mpsc};
use shuttle::{Config, FailurePersistence, Runner, thread};

use super::*;
use Actor::{
    Flusher, Foreign, Local, Loner, Prober, Reader, ReconnectData, ReconnectTracker, Tracker,
};

const KEY: &[u8] = b"k";
/// Runs for each seed and scheduler.
const RUNS: usize = 400;
const SEEDS: u64 = 3;
/// Seeds after which what is wrong must have been found.
const SEEDS_WRONG: u64 = 30;
/// Points at which the second scheduler changes its mind.
const DEPTH: usize = 4;

/// What one thread does, in a loop.
#[derive(Clone, Copy, Debug)]
enum Actor {
    /// Reads over the channel of this number, joining others' reads if it can.
    Reader(u16),
    /// The same, but never joins.
    Loner(u16),
    /// As the first, with another command.
    Prober(u16),
    /// Applies what comes over the tracker.
    Tracker,
    /// Somebody else's writes.
    Foreign,
    /// A write of a client of ours.
    Local,
    /// FLUSHALL by somebody else.
    Flusher,
    /// The channel 1 breaks and comes back.
    ReconnectData,
    /// The tracker breaks and comes back.
    ReconnectTracker,
}

/// How often each does it.
const TIMES: usize = 2;

enum Push {
    Key { version: u32 },
    Flush { version: u32 },
}

/// The server upstream.
struct Server {
    version: u32,
    /// By channel: whether it read the key since its last change.
    tracked: [bool; 4],
    is_tracker_up: bool,
    /// On their way.
    pushes: VecDeque<Push>,
}

impl Server {
    fn read(&mut self, channel: u16) -> u32 {
        // With nobody to tell, what the connection reads is of no interest.
        self.tracked[usize::from(channel)] = self.is_tracker_up;
        self.version
    }

    fn write(&mut self) -> u32 {
        self.version += 1;
        if std::mem::take(&mut self.tracked).contains(&true) {
            let version = self.version;
            self.pushes.push_back(Push::Key { version });
        }
        self.version
    }

    fn flush(&mut self) {
        self.version += 1;
        self.tracked = [false; 4];
        if self.is_tracker_up {
            let version = self.version;
            self.pushes.push_back(Push::Flush { version });
        }
    }
}

struct World {
    near: Near<mpsc::Sender<u32>>,
    store: Store,
    server: Mutex<Server>,
    floor: AtomicU32,
    /// Held by whoever applies what comes over the tracker, or notices its loss: in order.
    tracker: Mutex<()>,
}

/// The other command.
const OTHER: Line<'_> = Line {
    id: 2,
    arguments: b"",
};

impl World {
    fn new(is_picky: bool, omitted: Option<Check>) -> Self {
        let mut near = new_near(1);
        near.omitted = omitted;
        near.admission.set_picky(is_picky);
        for number in 0..3 {
            near.channels.heard(Slot::new(number).unwrap(), u64::MAX);
        }
        Self {
            near,
            store: new_store(1, None),
            server: Mutex::new(Server {
                version: 1,
                tracked: [false; 4],
                is_tracker_up: true,
                pushes: VecDeque::new(),
            }),
            floor: AtomicU32::new(0),
            tracker: Mutex::new(()),
        }
    }

    fn act(&self, actor: Actor) {
        match actor {
            Reader(channel) => self.read(GET, channel, true),
            Loner(channel) => self.read(GET, channel, false),
            Prober(channel) => self.read(OTHER, channel, true),
            Tracker => self.apply_push(),
            Foreign => {
                self.server.lock().unwrap().write();
            }
            Local => self.write(),
            Flusher => self.server.lock().unwrap().flush(),
            ReconnectData => self.reconnect_data(),
            ReconnectTracker => self.reconnect_tracker(),
        }
    }

    fn place(&self) -> Place<'static> {
        Place {
            db: 0,
            key: self.store.key(KEY),
        }
    }

    fn raise_floor(&self, version: u32) {
        self.floor.fetch_max(version, Ordering::SeqCst);
    }

    fn hit(&self, line: Line<'_>) -> Option<u32> {
        let mut reply = Vec::new();
        let place = self.place();
        self.near
            .get(&self.store, place, line, START, &mut reply)
            .ok()?;
        std::str::from_utf8(&reply[1..])
            .unwrap()
            .trim_end()
            .parse()
            .ok()
    }

    fn read(&self, line: Line<'_>, channel: u16, may_join: bool) {
        let floor = self.floor.load(Ordering::SeqCst);
        let version = self.hit(line).unwrap_or_else(|| {
            let (sender, receiver) = mpsc::channel();
            let slot = Slot::new(channel).unwrap();
            let entered = self
                .near
                .enter(self.place(), line, may_join, slot, START, sender);
            if let Entered::Leads(token) = entered {
                let version = self.server.lock().unwrap().read(channel);
                let reply = format!(":{version}\r\n");
                let reply = reply.as_bytes();
                let (near, store) = (&self.near, &self.store);
                let finished = near.try_finish(store, token, reply, Ttl::None, START);
                let finished = finished.unwrap_or_else(|token| {
                    self.fence();
                    near.finish(store, token, reply, Ttl::None, START)
                });
                for waiter in finished.waiters {
                    waiter.send(version).unwrap();
                }
            }
            receiver.recv().unwrap()
        });
        assert!(
            version >= floor,
            "read {version}, though {floor} was known before"
        );
        self.raise_floor(version);
    }

    fn write(&self) {
        self.near.void(&self.store, KEY, Why::WriteStart);
        let version = self.server.lock().unwrap().write();
        self.near.void(&self.store, KEY, Why::WriteEnd);
        self.raise_floor(version);
    }

    /// Waits until the tracker has told what changed before.
    fn fence(&self) {
        let version = self.server.lock().unwrap().version;
        while self.next_push().is_some_and(|next| next <= version) {
            self.apply_push();
        }
        // Another may still be at the last one.
        drop(self.tracker.lock().unwrap());
    }

    fn next_push(&self) -> Option<u32> {
        let server = self.server.lock().unwrap();
        server.pushes.front().map(|push| match push {
            Push::Key { version } | Push::Flush { version } => *version,
        })
    }

    fn apply_push(&self) {
        let _in_order = self.tracker.lock().unwrap();
        let push = self.server.lock().unwrap().pushes.pop_front();
        match push {
            None => {}
            Some(Push::Key { version }) => {
                self.near.void(&self.store, KEY, Why::Push);
                self.raise_floor(version);
            }
            Some(Push::Flush { version }) => {
                self.near.void_all(&self.store, START);
                self.raise_floor(version);
            }
        }
    }

    /// Only where all read over it: copies that came over others are still as good as before.
    fn reconnect_data(&self) {
        let slot = Slot::new(1).unwrap();
        let version = {
            let mut server = self.server.lock().unwrap();
            server.tracked[1] = false;
            server.version
        };
        self.near.channels.lose(slot);
        self.raise_floor(version);
        self.near.channels.heard(slot, u64::MAX);
    }

    fn reconnect_tracker(&self) {
        // A fence passes over what works, or fails once the loss is known.
        let _in_order = self.tracker.lock().unwrap();
        let version = {
            let mut server = self.server.lock().unwrap();
            server.is_tracker_up = false;
            server.tracked = [false; 4];
            server.pushes.clear();
            server.version
        };
        self.near.channels.lose(Slot::TRACKER);
        self.raise_floor(version);
        self.server.lock().unwrap().is_tracker_up = true;
        self.near.channels.heard(Slot::TRACKER, u64::MAX);
    }

    fn rest(&self) {
        while !self.server.lock().unwrap().pushes.is_empty() {
            self.apply_push();
        }
        let version = self.server.lock().unwrap().version;
        for line in [GET, OTHER] {
            let is_right = self.hit(line).is_none_or(|hit| hit == version);
            assert!(is_right, "stale for good");
        }
    }
}

fn run_once(actors: &'static [Actor], is_picky: bool, omitted: Option<Check>) {
    let world = Arc::new(World::new(is_picky, omitted));
    let threads = actors.iter().map(|&actor| {
        let world = Arc::clone(&world);
        thread::spawn(move || (0..TIMES).for_each(|_| world.act(actor)))
    });
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        thread.join().unwrap();
    }
    world.rest();
}

fn run(
    scheduler: impl Scheduler + 'static,
    actors: &'static [Actor],
    is_picky: bool,
    omitted: Option<Check>,
) {
    let mut config = Config::new();
    config.silence_warnings = true;
    config.stack_size = STACK_BYTES;
    if omitted.is_some() {
        config.failure_persistence = FailurePersistence::None;
    }
    Runner::new(scheduler, config).run(move || run_once(actors, is_picky, omitted));
}

const STACK_BYTES: usize = 256 * 1024;

/// Where everything is stored, and where only second reads are.
fn run_all(actors: &'static [Actor], omitted: Option<Check>) {
    let seeds = omitted.map_or(SEEDS, |_| SEEDS_WRONG);
    for is_picky in [false, true] {
        for seed in 0..seeds {
            let scheduler = RandomScheduler::new_from_seed(seed, RUNS);
            run(scheduler, actors, is_picky, omitted);
            let scheduler = PctScheduler::new_from_seed(seed, DEPTH, RUNS);
            run(scheduler, actors, is_picky, omitted);
        }
    }
}

#[track_caller]
fn assert_found_out(actors: &'static [Actor], omitted: Check) {
    let result = catch_unwind(AssertUnwindSafe(|| run_all(actors, Some(omitted))));
    assert!(
        result.is_err(),
        "without the check nothing went wrong: {omitted:?}"
    );
}

const WRITES: &[Actor] = &[Reader(1), Reader(2), Foreign, Tracker, Local];
const OVERLAPS: &[Actor] = &[Loner(1), Loner(2), Foreign, Tracker];
const LINES: &[Actor] = &[Reader(1), Prober(2), Reader(2), Foreign, Tracker];
const FLUSHES: &[Actor] = &[Reader(1), Reader(2), Flusher, Tracker];
const LOST_DATA: &[Actor] = &[Reader(1), Reader(1), Foreign, Tracker, ReconnectData];
const LOST_TRACKER: &[Actor] = &[Reader(1), Reader(2), Foreign, Tracker, ReconnectTracker];
const EVERYTHING: &[Actor] = &[
    Reader(1),
    Loner(2),
    Prober(1),
    Foreign,
    Local,
    Tracker,
    Flusher,
    ReconnectTracker,
];

#[test]
fn foreign_and_local_writes_race_with_reads() {
    run_all(WRITES, None);
}

#[test]
fn reads_of_one_line_race_with_each_other() {
    run_all(OVERLAPS, None);
}

#[test]
fn reads_of_two_lines_race_with_each_other() {
    run_all(LINES, None);
}

#[test]
fn flushes_race_with_reads() {
    run_all(FLUSHES, None);
}

#[test]
fn a_data_connection_breaks_while_reads_are_under_way() {
    run_all(LOST_DATA, None);
}

#[test]
fn the_tracker_breaks_while_reads_are_under_way() {
    run_all(LOST_TRACKER, None);
}

#[test]
fn everything_happens_at_once() {
    run_all(EVERYTHING, None);
}

#[test]
fn storing_what_was_voided_is_found_out() {
    assert_found_out(WRITES, Check::Void);
}

#[test]
fn storing_what_disagrees_with_another_answer_is_found_out() {
    assert_found_out(OVERLAPS, Check::Echo);
}

#[test]
fn storing_what_disagrees_with_an_answer_that_is_not_stored_is_found_out() {
    assert_found_out(OVERLAPS, Check::PassedOver);
}

#[test]
fn telling_what_is_newer_than_another_line_is_found_out() {
    assert_found_out(LINES, Check::Others);
}

#[test]
fn joining_a_read_from_before_a_flush_is_found_out() {
    assert_found_out(FLUSHES, Check::Epoch);
}

#[test]
fn joining_a_read_over_a_lost_connection_is_found_out() {
    assert_found_out(LOST_DATA, Check::Generation);
}

#[test]
fn storing_what_was_read_while_nobody_tracked_is_found_out() {
    assert_found_out(LOST_TRACKER, Check::Freshness);
}
