//! Readers of a key that is kept elsewhere, their loads, and writers, under a scheduler that
//! chooses at every lock and atomic of the register who goes on. With a fixed seed each, so a
//! failure comes again:
//!
//! ```text
//! cargo test --lib --features shuttle policy::tests::interleavings
//! ```
//!
//! What the origin has is the number of its version, and at odd versions nothing. The *floor* is
//! the version that clients may rely on, because a write of it was acknowledged: who begins to read
//! then gets no older one from a load, nor the memory of an older absence.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::AtomicUsize;
use shuttle::{Config, Runner, thread};
use tokio::sync::oneshot;

use super::*;

const KEY: &[u8] = b"k";
const REMEMBERED: &str = "[[origin]]\nname = 'o'\nkind = 'command'\nload = ['true']\n\
    [[rule]]\nmatch = '*'\norigin = 'o'\nttl = '1h'\njitter = 0.0\nbeta = 0\n\
    timeout = '60s'\nnegative-ttl = '1h'\nerror-ttl = '0'\n";
/// Runs for each seed and scheduler.
const RUNS: usize = 200;
const SEEDS: std::ops::Range<u64> = 0..3;
/// Points at which the second scheduler changes its mind.
const DEPTH: usize = 4;
const STACK_BYTES: usize = 512 * 1024;
/// How often each reads, or writes.
const TIMES: usize = 2;

struct World {
    policy: Arc<Policy>,
    /// The version that the origin has.
    origin: Arc<Mutex<usize>>,
    /// What the Redis behind the front has.
    upstream: Mutex<Option<usize>>,
    floor: AtomicUsize,
    /// Readers and writers that are not done.
    busy: AtomicUsize,
    runtime: Handle,
}

fn has_value(version: usize) -> bool {
    version.is_multiple_of(2)
}

impl World {
    fn new(runtime: Handle, busy: usize) -> Self {
        let origin = Arc::new(Mutex::new(0));
        let source = Arc::clone(&origin);
        let answer = move || {
            let version = *source.lock().unwrap();
            let answer = Step::Answer(Ok(has_value(version).then(|| value(version))));
            Step::Later(Duration::ZERO, Box::new(answer), Box::new(()))
        };
        Self {
            policy: policy_on(runtime.clone(), REMEMBERED, answer),
            origin,
            upstream: Mutex::new(None),
            floor: AtomicUsize::new(0),
            busy: AtomicUsize::new(busy),
            runtime,
        }
    }

    /// A write of a client of ours: the origin has it, and the key is removed upstream.
    fn write(&self) {
        self.policy.changed_elsewhere(KEY, Moment::Begins);
        let version = {
            let mut version = self.origin.lock().unwrap();
            *version += 1;
            *version
        };
        *self.upstream.lock().unwrap() = None;
        self.policy.changed_elsewhere(KEY, Moment::Ended);
        self.floor.fetch_max(version, SeqCst);
    }

    fn read(&self) {
        let floor = self.floor.load(SeqCst);
        // It may have to look again each time that another's value is kept.
        loop {
            let began = clock::now();
            if self.upstream.lock().unwrap().is_some() {
                return;
            }
            let table = self.policy.table();
            let active = &table.rules()[0];
            match self.policy.elsewhere(active, (0, KEY), began) {
                Elsewhere::Again => thread::yield_now(),
                Elsewhere::Nil => return self.check(floor, None),
                Elsewhere::Failed(text) => panic!("{text}"),
                Elsewhere::Wait(wait, keep) => {
                    let (sender, mut arrived) = oneshot::channel();
                    self.runtime.spawn(async move {
                        let arrived = wait.end(&mut Leases::default()).await;
                        let _ = sender.send(arrived.outcome);
                    });
                    if let Some(keep) = keep {
                        self.keep(keep);
                    }
                    return match polled(&mut arrived).expect("it ends") {
                        Outcome::Value(value) => self.check(floor, Some(number(&value))),
                        Outcome::Absent | Outcome::Again => self.check(floor, None),
                        Outcome::Failed(text) => panic!("{text}"),
                    };
                }
            }
        }
    }

    /// As a front stores upstream what a load brought.
    fn keep(&self, mut keep: Keep) {
        let Some(brought) = polled(&mut keep.brought) else {
            return;
        };
        if brought.is_void() {
            return;
        }
        let version = number(&brought.value);
        let is_stored = {
            let mut upstream = self.upstream.lock().unwrap();
            let is_stored = upstream.is_none();
            *upstream = upstream.or(Some(version));
            is_stored
        };
        if is_stored && brought.is_void() {
            let mut upstream = self.upstream.lock().unwrap();
            if *upstream == Some(version) {
                *upstream = None;
            }
        }
    }

    fn check(&self, floor: usize, got: Option<usize>) {
        let present = *self.origin.lock().unwrap();
        let is_old = match got {
            Some(version) => version < floor,
            // There was a value all the time.
            None => present == floor && has_value(present),
        };
        assert!(
            !is_old,
            "read {got:?} at {present}, though {floor} was known"
        );
    }

    fn rest(&self) {
        let present = *self.origin.lock().unwrap();
        let upstream = *self.upstream.lock().unwrap();
        assert!(
            upstream.is_none_or(|version| version == present),
            "{upstream:?} for good, at {present}"
        );
        self.read();
        let later = clock::now() + elsewhere::KEPT_FOR;
        self.policy.shared.works.sweep(later);
        assert_eq!(self.policy.under_way(), 0);
    }
}

fn number(value: &[u8]) -> usize {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// What comes, or nothing if nobody sends any more.
fn polled<T>(receiver: &mut oneshot::Receiver<T>) -> Option<T> {
    loop {
        match receiver.try_recv() {
            Ok(got) => return Some(got),
            Err(oneshot::error::TryRecvError::Closed) => return None,
            Err(oneshot::error::TryRecvError::Empty) => thread::yield_now(),
        }
    }
}

fn run_once(readers: usize, writers: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    // The last to be done is the main thread, with a last read.
    let world = Arc::new(World::new(runtime.handle().clone(), readers + writers + 1));
    let of_loads = Arc::clone(&world);
    let loads = thread::spawn(move || {
        runtime.block_on(async {
            while of_loads.busy.load(SeqCst) > 0 {
                thread::yield_now();
                tokio::task::yield_now().await;
            }
        });
    });
    let actors = (0..readers + writers).map(|index| {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            for _ in 0..TIMES {
                if index < readers {
                    world.read();
                } else {
                    world.write();
                }
            }
            world.busy.fetch_sub(1, SeqCst);
        })
    });
    for actor in actors.collect::<Vec<_>>() {
        actor.join().unwrap();
    }
    world.rest();
    world.busy.fetch_sub(1, SeqCst);
    loads.join().unwrap();
}

fn run(scheduler: impl Scheduler + 'static, readers: usize, writers: usize) {
    let mut config = Config::new();
    config.silence_warnings = true;
    config.stack_size = STACK_BYTES;
    Runner::new(scheduler, config).run(move || run_once(readers, writers));
}

fn run_all(readers: usize, writers: usize) {
    for seed in SEEDS {
        run(RandomScheduler::new_from_seed(seed, RUNS), readers, writers);
        run(
            PctScheduler::new_from_seed(seed, DEPTH, RUNS),
            readers,
            writers,
        );
    }
}

#[test]
fn one_writer_races_with_reads_and_their_loads() {
    run_all(2, 1);
}

#[test]
fn writers_race_with_each_other_and_with_reads() {
    run_all(2, 2);
}
