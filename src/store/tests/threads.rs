//! Many threads on one store: bound, sums and values hold.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{START_MS, check_accounts, check_empty, store};
use crate::store::shard::xorshift;
use crate::store::{Policy, Store, Write, charge_max};

const THREADS: u64 = 4;
const STEPS: u64 = 2000;
/// How often the bound is looked at meanwhile.
const CHECKS: usize = 300;

fn value_of(key: u64, random: u64) -> Vec<u8> {
    vec![u8::try_from(key % 251).unwrap_or(0); usize::try_from(random % 700).unwrap_or(0)]
}

fn write(store: &Store, keys: &[u64], random: u64) {
    let names: Vec<[u8; 8]> = keys.iter().map(|key| key.to_le_bytes()).collect();
    let hashes = names.iter().map(|name| store.hash(name));
    let mut locked = match random % 16 {
        0 => store.lock_all(),
        _ if keys.len() == 1 => store.lock(store.hash(&names[0])),
        _ => store.lock_many(hashes),
    };
    for (&id, name) in keys.iter().zip(&names) {
        let (key, value) = (store.key(name), value_of(id, random >> 8));
        if locked
            .reserve(key.hash, charge_max(key, value.len()), START_MS)
            .is_ok()
        {
            let expires_at = NonZeroU64::new((random >> 20) % 3 * (START_MS / 2 + random % 50));
            let write = Write {
                value: &value,
                expires_at,
                ..Write::default()
            };
            locked.shard(key.hash).set(0, key, write, START_MS);
        }
    }
}

fn read(store: &Store, id: u64) {
    let name = id.to_le_bytes();
    let key = store.key(&name);
    if let Some(announced) = store.announce(0, key.hash) {
        announced.prefetch_item();
    }
    let mut locked = store.lock(key.hash);
    if let Some(entry) = locked.shard(key.hash).get(0, key, START_MS) {
        assert!(
            entry
                .value()
                .iter()
                .all(|&byte| u64::from(byte) == id % 251)
        );
    }
}

fn work(store: &Store, seed: u64) {
    let mut state = seed;
    for _ in 0..STEPS {
        let random = xorshift(&mut state);
        let key = random >> 32 & 0x7ff;
        match random % 8 {
            0..3 => write(store, &[key], random >> 3),
            3 => write(store, &[key, key + 7, key * 3], random >> 3),
            4 => {
                let name = key.to_le_bytes();
                let key = store.key(&name);
                store
                    .lock(key.hash)
                    .shard(key.hash)
                    .remove(0, key, START_MS);
            }
            _ => read(store, key),
        }
    }
}

fn stress(shards: usize, bytes_max: Option<usize>, policy: Policy) {
    let store = store(shards, bytes_max, policy);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (1..=THREADS)
            .map(|seed| {
                let store = &store;
                scope.spawn(move || work(store, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            })
            .collect();
        scope.spawn(|| {
            for _ in 0..CHECKS {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                assert!(
                    bytes_max.is_none_or(|max| store.budget().used() <= max),
                    "the bound"
                );
                for index in 0..store.shards() {
                    let mut locked = store.lock_index(index);
                    locked.with_shard(index, |shard| shard.remove_expired(START_MS, &mut 10));
                }
                thread::yield_now();
            }
        });
        for worker in workers {
            assert!(worker.join().is_ok());
        }
        done.store(true, Ordering::Relaxed);
    });
    check_accounts(&store);
    for index in 0..store.shards() {
        drop(
            store
                .lock_index(index)
                .with_shard(index, |shard| shard.clear_all(START_MS)),
        );
    }
    check_empty(&store);
}

#[test]
fn threads_share_an_unbounded_store() {
    stress(8, None, Policy::AllKeysTinyLfu);
}

#[test]
fn threads_share_a_bound_under_every_policy() {
    for policy in Policy::ALL {
        stress(16, Some(200_000), policy);
    }
}

#[test]
fn threads_share_a_bound_of_a_few_items() {
    for policy in [Policy::AllKeysTinyLfu, Policy::AllKeysLru] {
        stress(64, Some(8_000), policy);
    }
}
