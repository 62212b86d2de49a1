//! What a hit in the near cache takes, beside the look-up in the store that it stands on: 100 000
//! keys of 20 bytes with replies of 107, read one by one at random, each copied out.
//!
//! ```text
//! cargo bench --bench near
//! ```

use std::hint::black_box;

use corral::near::{Entered, Line, Near, Now, Options, Place, Slot, Ttl, Why};
use corral::store::{self, Store, Tuning};
use criterion::{Criterion, criterion_group, criterion_main};

const KEYS: u64 = 100_000;
const GET: Line<'static> = Line {
    id: 1,
    arguments: b"",
};
const NOW: Now = Now {
    unix_ms: 1_700_000_000_000,
    mono_ns: 1,
};

fn name(key: u64) -> Vec<u8> {
    format!("key:{key:016}").into_bytes()
}

fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) % KEYS).unwrap_or(0)
}

fn read(near: &Near<()>, store: &Store, key: &[u8], reply: &[u8]) {
    let place = Place {
        db: 0,
        key: store.key(key),
    };
    let slot = Slot::new(1).unwrap_or(Slot::TRACKER);
    if let Entered::Leads(token) = near.enter(place, GET, true, slot, NOW, ()) {
        drop(black_box(near.finish(store, token, reply, Ttl::None, NOW)));
    }
}

fn benches(criterion: &mut Criterion) {
    let store = Store::new(&store::Options {
        shards: 64,
        databases: 16,
        bytes_max: Some(1 << 30),
        tuning: Tuning::default(),
        now_ms: NOW.unix_ms,
    });
    let near = Near::new(&Options {
        stripes: 64,
        near_ttl_ms: 60_000,
        stale_ms: 0,
        value_bytes_max: 1 << 20,
        bytes_max: 1 << 30,
    });
    for number in 0..2 {
        if let Some(slot) = Slot::new(number) {
            near.channels.heard(slot, u64::MAX);
        }
    }
    let value = format!("$100\r\n{}\r\n", "v".repeat(100)).into_bytes();
    let names: Vec<Vec<u8>> = (0..KEYS).map(name).collect();
    names
        .iter()
        .for_each(|key| read(&near, &store, key, &value));

    let (mut state, mut reply) = (1, Vec::with_capacity(1024));
    criterion.bench_function("look-up in the store", |bencher| {
        bencher.iter(|| {
            let key = store.key(&names[next(&mut state)]);
            let mut locked = store.lock(key.hash);
            let db = locked.physical(0);
            reply.clear();
            if let Some(entry) = locked.shard(key.hash).get(db, key, NOW.unix_ms) {
                reply.extend_from_slice(entry.value());
            }
        });
    });
    criterion.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let key = store.key(&names[next(&mut state)]);
            reply.clear();
            black_box(near.get(&store, Place { db: 0, key }, GET, NOW, &mut reply)).is_ok()
        });
    });
    criterion.bench_function("miss, flight and fill", |bencher| {
        bencher.iter(|| {
            let key = &names[next(&mut state)];
            near.void(&store, key, Why::Push);
            read(&near, &store, key, &value);
        });
    });
}

criterion_group!(all, benches);
criterion_main!(all);
