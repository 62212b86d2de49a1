//! What the store's operations take: a million keys of 20 bytes with values of 100.
//!
//! ```text
//! cargo bench --bench store
//! ```
//!
//! Hot: all accesses go to 1000 keys. Cold: to any. Announced: as a pipeline of 32 does it.
//! Threads work on the same store; a time is per operation and thread.
#![expect(
    clippy::disallowed_types,
    reason = "measures real time, without a runtime"
)]
#![expect(clippy::print_stdout, reason = "memory per key is part of the report")]

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use corral::store::{Announced, Options, Store, Tuning, Write, charge_max};
use criterion::{Criterion, criterion_group, criterion_main};

const KEYS: u64 = 1_000_000;
const HOT_KEYS: u64 = 1000;
const VALUE: [u8; 100] = [b'v'; 100];
const PIPELINE: usize = 32;
const NOW_MS: u64 = 1_700_000_000_000;

fn name(key: u64) -> [u8; 20] {
    let mut name = *b"key:0000000000000000";
    let (mut rest, mut at) = (key, name.len());
    while rest > 0 {
        at -= 1;
        name[at] += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    name
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20
}

fn store(bytes_max: Option<usize>) -> Store {
    let tuning = Tuning::default();
    Store::new(&Options {
        shards: 64,
        databases: 16,
        bytes_max,
        tuning,
        now_ms: NOW_MS,
    })
}

fn set(store: &Store, id: u64) {
    let name = name(id);
    let key = store.key(&name);
    let mut locked = store.lock(key.hash);
    if locked
        .reserve(key.hash, charge_max(key, VALUE.len()), NOW_MS)
        .is_ok()
    {
        let write = Write {
            value: &VALUE,
            expires_at: None,
            ..Write::default()
        };
        locked.shard(key.hash).set(0, key, write, NOW_MS);
    }
}

fn get(store: &Store, id: u64) {
    let name = name(id);
    let key = store.key(&name);
    let mut locked = store.lock(key.hash);
    let entry = locked.shard(key.hash).get(0, key, NOW_MS);
    black_box(entry.map(|entry| entry.value()[0]));
}

/// As the server runs a batch: announce, announce, run.
fn get_announced(store: &Store, ids: &[u64; PIPELINE]) {
    let names = ids.map(name);
    let keys = names.each_ref().map(|name| store.key(name));
    let announced = keys.each_ref().map(|key| store.announce(0, key.hash));
    announced
        .into_iter()
        .flatten()
        .for_each(Announced::prefetch_item);
    for &key in &keys {
        let mut locked = store.lock(key.hash);
        let entry = locked.shard(key.hash).get(0, key, NOW_MS);
        black_box(entry.map(|entry| entry.value()[0]));
    }
}

/// Runs `work` so often in each of `threads`, with a random state of its own. Returns how long a
/// thread was on a processor for it: what else the machine does counts only by what it does to
/// the processor's caches.
fn time(threads: u64, times: u64, work: impl Fn(&mut u64) + Sync) -> Duration {
    let run = &|thread: u64| {
        let mut state = (thread + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ times;
        let before = on_processor();
        (0..times).for_each(|_| work(&mut state));
        on_processor().saturating_sub(before)
    };
    let total: Duration = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        all.into_iter()
            .filter_map(|thread| thread.join().ok())
            .sum()
    });
    total / u32::try_from(threads).unwrap_or(1)
}

/// How long this thread has been running; where the system does not tell, the time that passed.
fn on_processor() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|told| told.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * 4096
}

fn report(label: &str, store: &Store, before: usize) {
    let keys: usize = (0..store.shards())
        .map(|index| {
            store
                .lock_index(index)
                .with_shard(index, |shard| shard.database_len(0))
        })
        .sum();
    let per_key = |bytes: usize| bytes / keys.max(1);
    println!(
        "{label}: {keys} keys; {} bytes per key accounted, {} resident, of which {} in lists",
        per_key(store.items_bytes()),
        per_key(resident_bytes().saturating_sub(before)),
        per_key(store.lists_bytes()),
    );
}

fn benches(criterion: &mut Criterion) {
    let before = resident_bytes();
    let unbounded = store(None);
    (0..KEYS).for_each(|key| set(&unbounded, key));
    report("unbounded", &unbounded, before);
    reads(criterion, "", &unbounded);
    for threads in [1, 2] {
        let id = format!("set overwrite, {threads} threads");
        criterion.bench_function(&id, |bencher| {
            bencher.iter_custom(|times| {
                time(threads, times, |state| set(&unbounded, next(state) % KEYS))
            });
        });
    }
    let bytes_max = unbounded.items_bytes();
    drop(unbounded);

    let before = resident_bytes();
    let bounded = store(Some(bytes_max));
    (0..KEYS * 2).for_each(|key| set(&bounded, key));
    report("at its bound", &bounded, before);
    reads(criterion, "at the bound, ", &bounded);
    for threads in [1, 2] {
        let id = format!("set new at the bound, {threads} threads");
        criterion.bench_function(&id, |bencher| {
            bencher.iter_custom(|times| {
                time(threads, times, |state| {
                    set(&bounded, KEYS * 3 + next(state));
                })
            });
        });
    }
    report("afterwards", &bounded, before);
}

fn reads(criterion: &mut Criterion, at: &str, store: &Store) {
    for threads in [1, 2] {
        criterion.bench_function(&format!("{at}hot get, {threads} threads"), |bencher| {
            bencher.iter_custom(|times| {
                time(threads, times, |state| get(store, next(state) % HOT_KEYS))
            });
        });
        criterion.bench_function(&format!("{at}cold get, {threads} threads"), |bencher| {
            bencher
                .iter_custom(|times| time(threads, times, |state| get(store, next(state) % KEYS)));
        });
        let id = format!("{at}cold get announced, {threads} threads");
        criterion.bench_function(&id, |bencher| {
            bencher.iter_custom(|times| {
                time(threads, times.div_ceil(PIPELINE as u64), |state| {
                    get_announced(store, &std::array::from_fn(|_| next(state) % KEYS));
                })
            });
        });
    }
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = benches
}
criterion_main!(all);
