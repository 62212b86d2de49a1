//! Replays traces through the real store and compares its hit ratio with what it should be.
//!
//! ```text
//! cargo bench --bench hit_ratio -- [--policy NAME] [--shards N] [--only TRACE] [--traces DIR]
//! ```
//!
//! The rules: GET looks up and inserts on a miss, SET inserts or overwrites and is not counted, an
//! expired hit is a miss, and the cache holds 1, 3, 10 or 30 % of the trace's footprint, which is
//! what all its objects together cost in the store. In a trace without sizes every object is as
//! large as [`UNIT_VALUE_BYTES`], so that what the store adds per object hardly matters. A trace
//! with a clock drives the store's; else a request takes a millisecond.
//!
//! The gate (only for all traces and the default policy): see [`judge`].
#![expect(
    clippy::disallowed_types,
    reason = "measures real time, without a runtime"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report is what it is for"
)]

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use corral::store::{Options, Policy, Store, Tuning, Write, charge_max, item};

#[derive(Default)]
struct Trace {
    keys: Vec<u64>,
    sizes: Option<Vec<u32>>,
    ttls: Option<Vec<u32>>,
    sets: Option<Vec<u8>>,
    seconds: Option<Vec<u32>>,
}

impl Trace {
    fn of_keys(keys: Vec<u64>) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }

    fn read(path: &Path) -> std::io::Result<Self> {
        let file = std::io::BufReader::new(std::fs::File::open(path)?);
        let mut decoder = zstd::Decoder::new(file)?;
        decoder.window_log_max(27)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut decoder, &mut bytes)?;
        Self::parse(&bytes).ok_or_else(|| std::io::Error::other("not a CTR1 file"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"CTR1")?;
        let flags = u32::from_le_bytes(*rest.split_off(..4)?.as_array()?);
        let len = usize::try_from(u64::from_le_bytes(*rest.split_off(..8)?.as_array()?)).ok()?;
        let mut column = |flag: u32, width: usize| {
            (flags & flag == flag).then(|| rest.split_off(..len * width))?
        };
        let words = |bytes: &[u8]| {
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|&word| u32::from_le_bytes(word))
                .collect()
        };
        let keys = column(0, 8)?
            .as_chunks()
            .0
            .iter()
            .map(|&word| u64::from_le_bytes(word));
        Some(Self {
            keys: keys.collect(),
            sizes: column(1, 4).map(words),
            ttls: column(2, 4).map(words),
            sets: column(4, 1).map(<[u8]>::to_vec),
            seconds: column(8, 4).map(words),
        })
    }

    fn value_len(&self, index: usize) -> usize {
        let unit = UNIT_VALUE_BYTES + KEY_BYTES;
        self.sizes
            .as_ref()
            .map_or(unit, |sizes| sizes[index] as usize)
            .saturating_sub(KEY_BYTES)
    }

    /// What all objects cost together, and how many there are.
    fn footprint(&self) -> (usize, usize) {
        let mut seen = HashSet::new();
        let fresh = self
            .keys
            .iter()
            .enumerate()
            .filter(|(_, key)| seen.insert(**key));
        let lens = fresh.map(|(index, _)| self.value_len(index));
        let extras = item::Extras {
            expiry: self.ttls.is_some(),
            loaded: false,
        };
        let bytes = lens.map(|len| item::charge(KEY_BYTES, len, extras)).sum();
        (bytes, seen.len())
    }
}

/// What a replay came to.
#[derive(Clone, Copy, Default)]
struct Outcome {
    gets: usize,
    hits: usize,
    fresh: usize,
    lost: usize,
    nanoseconds: f64,
}

impl Outcome {
    fn hit_percent(self) -> f64 {
        100.0 * self.hits as f64 / self.gets.max(1) as f64
    }

    fn lost_percent(self) -> f64 {
        100.0 * self.lost as f64 / self.fresh.max(1) as f64
    }
}

/// A cache that a trace is replayed through.
struct Replay<'a> {
    trace: &'a Trace,
    store: Store,
    now_ms: u64,
    outcome: Outcome,
    /// Fresh values that must still be there when their time has come, by request.
    fresh: VecDeque<(usize, u64)>,
    zeros: Vec<u8>,
}

impl<'a> Replay<'a> {
    fn new(trace: &'a Trace, percent: usize, setup: Setup) -> Self {
        let (bytes, objects) = trace.footprint();
        // Beside the items, the counts of uses are paid for, and a part is always under way.
        let bytes_max = (bytes + objects * COUNTS_BYTES) * percent / 100;
        let longest = (0..trace.keys.len())
            .map(|index| trace.value_len(index))
            .max();
        Self {
            trace,
            store: Store::new(&Options {
                shards: setup.shards,
                databases: 1,
                bytes_max: Some(bytes_max + bytes_max / 400),
                tuning: Tuning {
                    policy: setup.policy,
                    ..Tuning::default()
                },
                now_ms: START_MS,
            }),
            now_ms: START_MS,
            outcome: Outcome::default(),
            fresh: VecDeque::new(),
            zeros: vec![0; longest.unwrap_or(0)],
        }
    }

    fn run(mut self) -> Outcome {
        let started = Instant::now();
        for index in 0..self.trace.keys.len() {
            self.advance(index);
            self.request(index);
            self.look_for_lost(index);
        }
        self.outcome.nanoseconds =
            started.elapsed().as_nanos() as f64 / self.trace.keys.len().max(1) as f64;
        self.outcome
    }

    /// Moves the clock, and lets go what has expired, as the server's timer does.
    fn advance(&mut self, index: usize) {
        let seconds = self
            .trace
            .seconds
            .as_ref()
            .map(|seconds| u64::from(seconds[index]));
        let at = START_MS + seconds.map_or(index as u64, |seconds| seconds * 1000);
        if at <= self.now_ms {
            return;
        }
        self.now_ms = at;
        if self.trace.ttls.is_none() {
            return;
        }
        for shard in 0..self.store.shards() {
            let mut all = usize::MAX;
            let mut locked = self.store.lock_index(shard);
            locked.with_shard(shard, |shard| shard.remove_expired(at, &mut all));
        }
    }

    fn request(&mut self, index: usize) {
        let name = self.trace.keys[index].to_le_bytes();
        let (key, now_ms) = (self.store.key(&name), self.now_ms);
        let mut locked = self.store.lock(key.hash);
        let is_set = self
            .trace
            .sets
            .as_ref()
            .is_some_and(|sets| sets[index] == 1);
        let is_there = if is_set {
            locked.shard(key.hash).peek(0, key, now_ms).is_some()
        } else {
            let hit = locked.shard(key.hash).get(0, key, now_ms).is_some();
            self.outcome.gets += 1;
            self.outcome.hits += usize::from(hit);
            hit
        };
        if is_there && !is_set {
            return;
        }
        let value = &self.zeros[..self.trace.value_len(index)];
        if locked
            .reserve(key.hash, charge_max(key, value.len()), now_ms)
            .is_err()
        {
            return;
        }
        let ttl_ms = self
            .trace
            .ttls
            .as_ref()
            .map_or(0, |ttls| u64::from(ttls[index]) * 1000);
        let expires_at = NonZeroU64::new(ttl_ms).map(|ttl_ms| ttl_ms.saturating_add(now_ms));
        let write = Write {
            value,
            expires_at,
            ..Write::default()
        };
        locked.shard(key.hash).set(0, key, write, now_ms);
        if !is_there && index < FRESH_REQUESTS {
            self.fresh
                .push_back((index + FRESH_FOR, self.trace.keys[index]));
        }
    }

    /// Whether a fresh value is still there after [`FRESH_FOR`] requests.
    fn look_for_lost(&mut self, index: usize) {
        while let Some((_, id)) = self.fresh.pop_front_if(|(due, _)| *due <= index) {
            let name = id.to_le_bytes();
            let key = self.store.key(&name);
            let mut locked = self.store.lock(key.hash);
            let is_there = locked.shard(key.hash).peek(0, key, self.now_ms).is_some();
            self.outcome.fresh += 1;
            self.outcome.lost += usize::from(!is_there);
        }
    }
}

#[derive(Clone, Copy)]
struct Setup {
    policy: Policy,
    shards: usize,
}

struct Row {
    name: String,
    outcomes: [Outcome; PERCENTS.len()],
}

impl Row {
    fn new(name: &str, trace: &Trace, setup: Setup) -> Self {
        let outcomes = PERCENTS.map(|percent| Replay::new(trace, percent, setup).run());
        Self {
            name: name.to_owned(),
            outcomes,
        }
    }

    fn hits(&self) -> [f64; PERCENTS.len()] {
        self.outcomes.map(Outcome::hit_percent)
    }

    /// By how much it is better than expected, on the mean of 3 and 10 %.
    fn advantage(&self) -> Option<f64> {
        let (_, at_3, at_10) = EXPECTED.iter().find(|(name, ..)| *name == self.name)?;
        let hits = self.hits();
        Some((hits[1] - at_3 + hits[2] - at_10) / 2.0)
    }

    fn print(&self) {
        print!("{:20}", self.name);
        self.hits().iter().for_each(|hit| print!(" {hit:5.1}"));
        self.advantage()
            .map_or_else(|| print!("        "), |points| print!("  {points:+6.1}"));
        self.outcomes
            .iter()
            .for_each(|outcome| print!(" {:6.2}", outcome.lost_percent()));
        let time = self
            .outcomes
            .iter()
            .map(|outcome| outcome.nanoseconds)
            .sum::<f64>();
        println!(" {:6.0}", time / PERCENTS.len() as f64);
    }
}

fn main() -> ExitCode {
    let mut setup = Setup {
        policy: Policy::AllKeysTinyLfu,
        shards: 64,
    };
    let mut directory = PathBuf::from("../shared/traces");
    let mut only = String::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--policy" => setup.policy = Policy::named(&value()).expect("the name of a policy"),
            "--shards" => setup.shards = value().parse().expect("a power of two"),
            "--traces" => directory = value().into(),
            "--only" => only = value(),
            _ => {}
        }
    }
    let paths = trace_files(&directory, &only);
    println!(
        "{:20} hits of GETs, % at 1, 3, 10, 30 % | points above what is expected | fresh values \
         lost, % at the same | ns per request",
        setup.policy.name()
    );
    if paths.is_empty() {
        eprintln!(
            "no traces in {}: synthetic ones instead, which judge nothing",
            directory.display()
        );
        synthetic()
            .iter()
            .for_each(|(name, trace)| Row::new(name, trace, setup).print());
        return ExitCode::SUCCESS;
    }
    let rows = replay_all(&paths, setup);
    rows.iter().for_each(Row::print);
    let is_complete = EXPECTED
        .iter()
        .all(|(name, ..)| rows.iter().any(|row| row.name == *name));
    if is_complete && setup.policy == Policy::AllKeysTinyLfu {
        judge(&rows)
    } else {
        ExitCode::SUCCESS
    }
}

/// The gate: a mean of 45 %, no trace more than 2 points below what is expected of it, and hardly
/// a fresh value lost where the window holds a hundred of them.
fn judge(rows: &[Row]) -> ExitCode {
    let mean = rows.iter().flat_map(Row::hits).sum::<f64>() / (rows.len() * PERCENTS.len()) as f64;
    let worst = rows
        .iter()
        .filter_map(Row::advantage)
        .fold(f64::MAX, f64::min);
    let fresh = rows
        .iter()
        .filter(|row| FRESH_TRACES.contains(&row.name.as_str()));
    let lost = fresh
        .flat_map(|row| [row.outcomes[1], row.outcomes[2]])
        .map(Outcome::lost_percent);
    let lost = lost.fold(0.0, f64::max);
    println!("mean {mean:.2} % (45) | worst trace {worst:+.2} (-2) | fresh lost {lost:.2} % (0.1)");
    if mean >= 45.0 && worst >= -2.0 && lost <= 0.1 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn trace_files(directory: &Path, only: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(SUFFIX))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains(only))
        })
        .collect();
    // The longest first, so that all processors are done at about the same time.
    paths.sort_by_key(|path| std::cmp::Reverse(path.metadata().map_or(0, |file| file.len())));
    paths
}

fn replay_all(paths: &[PathBuf], setup: Setup) -> Vec<Row> {
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    match Trace::read(path) {
                        Ok(trace) => {
                            let row = Row::new(name.trim_end_matches(SUFFIX), &trace, setup);
                            rows.lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(row);
                        }
                        Err(error) => eprintln!("{}: {error}", path.display()),
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by(|a: &Row, b: &Row| a.name.cmp(&b.name));
    rows
}

/// Small traces that show what a policy is made of, for where the real ones are not at hand.
fn synthetic() -> Vec<(&'static str, Trace)> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    };
    // Zipf with an exponent near 1, by the inverse of its continuous form.
    let mut zipf = |objects: f64| (objects.powf(random()) - 1.0).max(0.0).floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small, above 0"
    )]
    let mut zipf = |objects: u32| zipf(f64::from(objects)) as u64;
    let popular: Vec<u64> = (0..400_000).map(|_| zipf(50_000)).collect();
    let with_scans = popular.iter().enumerate().map(|(index, &key)| {
        if index % 20_000 < 5000 {
            1_000_000 + index as u64
        } else {
            key
        }
    });
    let size =
        |key: &u64| 40 + u32::try_from(key.wrapping_mul(0x9e37_79b9) >> 7 & 0x7ff).unwrap_or(0);
    let sized = Trace {
        sizes: Some(popular.iter().map(size).collect()),
        ttls: Some(
            popular
                .iter()
                .map(|key| if key % 3 == 0 { 20 } else { 86_400 })
                .collect(),
        ),
        sets: Some(popular.iter().map(|key| u8::from(key % 7 == 0)).collect()),
        seconds: Some((0..400_000).map(|index| index / 1000).collect()),
        keys: popular.clone(),
    };
    vec![
        ("zipf with scans", Trace::of_keys(with_scans.collect())),
        ("zipf", Trace::of_keys(popular)),
        (
            "loop",
            Trace::of_keys((0..400_000).map(|index| index % 5000).collect()),
        ),
        ("zipf, sizes and TTLs", sized),
    ]
}

const PERCENTS: [usize; 4] = [1, 3, 10, 30];
const KEY_BYTES: usize = 8;
const UNIT_VALUE_BYTES: usize = 1000;
/// What the counts of uses take of the bound, per object.
const COUNTS_BYTES: usize = 24;
const SUFFIX: &str = ".ctr.zst";
const START_MS: u64 = 1_700_000_000_000;
/// A fresh value must still be there after so many requests.
const FRESH_FOR: usize = 100;
const FRESH_REQUESTS: usize = 300_000;

/// Traces in which fresh values are looked for, at 3 and 10 %: there the window holds a hundred.
const FRESH_TRACES: [&str; 4] = ["arc_oltp", "cp_w92_sized", "scarab_recs", "syn_tw_mix"];

/// Object hit ratio of the simulated policy at 3 and 10 %.
const EXPECTED: [(&str, f64, f64); 19] = [
    ("adaptsize_web_sized", 36.9, 41.4),
    ("arc_oltp", 57.2, 67.5),
    ("arc_p3", 5.4, 20.7),
    ("arc_p6", 7.2, 20.3),
    ("corda_vault", 33.3, 33.3),
    ("cp_w106", 81.7, 86.0),
    ("cp_w92_sized", 22.0, 31.7),
    ("lirs_gli", 3.0, 14.0),
    ("lirs_loop", 0.3, 8.0),
    ("lirs_multi3", 33.0, 46.8),
    ("mooncake_conv", 13.2, 21.0),
    ("orm_busy", 78.4, 86.4),
    ("scarab_recs", 51.2, 61.4),
    ("syn_meta_cdn", 26.1, 43.5),
    ("syn_meta_kv", 81.0, 84.3),
    ("syn_tw_c4_c12", 68.4, 70.5),
    ("syn_tw_mix", 60.6, 66.0),
    ("web07", 51.8, 58.6),
    ("web12", 59.4, 73.0),
];
