//! What the store promises, checked against a plain model.

mod eviction;
mod limits;
mod model;
mod scan;
mod threads;

use std::num::NonZeroU64;

use super::eviction::Tuning;
use super::item::Flags;
use super::{Full, LINK_BYTES, Options, Policy, Store, Write, charge_max};

pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// A store of three databases.
pub(crate) fn store(shards: usize, bytes_max: Option<usize>, policy: Policy) -> Store {
    Store::new(&Options {
        shards,
        databases: 3,
        bytes_max,
        tuning: Tuning {
            policy,
            ..Tuning::default()
        },
        now_ms: START_MS,
    })
}

/// Reserves and sets, as a command does.
pub(super) fn set(
    store: &Store,
    db: u16,
    key: &[u8],
    value: &[u8],
    expires_at: u64,
    now_ms: u64,
) -> Result<(), Full> {
    let key = store.key(key);
    let mut locked = store.lock(key.hash);
    let db = locked.physical(db);
    locked.reserve(key.hash, charge_max(key, value.len()), now_ms)?;
    let write = Write {
        value,
        expires_at: NonZeroU64::new(expires_at),
        ..Write::default()
    };
    locked.shard(key.hash).set(db, key, write, now_ms);
    Ok(())
}

/// A copy of the value, not counted as a use.
pub(super) fn peek(store: &Store, db: u16, key: &[u8], now_ms: u64) -> Option<Vec<u8>> {
    let key = store.key(key);
    let mut locked = store.lock(key.hash);
    let db = locked.physical(db);
    let entry = locked.shard(key.hash).peek(db, key, now_ms)?;
    Some(entry.value().to_vec())
}

/// The same, counted.
pub(super) fn get(store: &Store, db: u16, key: &[u8], now_ms: u64) -> bool {
    let key = store.key(key);
    let mut locked = store.lock(key.hash);
    let db = locked.physical(db);
    locked.shard(key.hash).get(db, key, now_ms).is_some()
}

/// Recomputes what every shard says of itself from its items alone.
///
/// # Panics
/// If a list, a sum or the budget disagrees with the items.
pub(crate) fn check_accounts(store: &Store) {
    let mut given_out = 0;
    let mut locked = store.lock_all();
    for index in 0..store.shards() {
        locked.with_shard(index, |shard| {
            let (mut bytes, mut window, mut window_bytes) = (0, 0, 0);
            for db in 0..store.databases() {
                let (mut items, mut volatile) = (0, 0);
                if let Some(table) = shard.tables.get(usize::from(db)) {
                    table.for_each(|handle| {
                        items += 1;
                        volatile += usize::from(handle.expires_at().is_some());
                        let links = shard.chains.iter(handle.chain()).count();
                        bytes += handle.charge() + links * LINK_BYTES;
                    });
                }
                assert_eq!(shard.database_len(db), items, "items of database {db}");
                assert_eq!(
                    shard.volatile_len(db),
                    volatile,
                    "expiries of database {db}"
                );
            }
            for table in &shard.tables {
                table.for_each(|handle| {
                    if handle.has(Flags::WINDOW) {
                        window += 1;
                        window_bytes += handle.charge();
                    }
                });
            }
            assert_eq!(shard.window.len(), window, "items in the window");
            assert_eq!(shard.window.bytes(), window_bytes, "bytes in the window");
            let sketch = shard.sketch.heap_bytes() + shard.saved;
            assert_eq!(shard.bytes, bytes + sketch, "bytes of shard {index}");
            given_out += shard.bytes + shard.credit;
        });
    }
    given_out += store.tags().bytes();
    assert_eq!(store.budget().used(), given_out, "bytes given out");
}

/// Checks that nothing is left behind by what is gone.
pub(crate) fn check_empty(store: &Store) {
    check_accounts(store);
    let tags = store.tags();
    assert_eq!((tags.len(), tags.heap_bytes()), (0, 0), "tags of nobody");
    assert!(!tags.has_outdated(), "nobody is left who is outdated");
    for index in 0..store.shards() {
        store.lock_index(index).with_shard(index, |shard| {
            assert_eq!(
                (shard.len(), shard.window.len(), shard.wheel.len()),
                (0, 0, 0)
            );
            assert_eq!(shard.chains.heap_bytes(), 0, "links of nobody");
            assert_eq!(shard.bytes, shard.sketch.heap_bytes() + shard.saved);
            for table in &shard.tables {
                assert!(
                    table.heap_bytes() <= EMPTY_TABLE_BYTES,
                    "{} bytes",
                    table.heap_bytes()
                );
            }
        });
    }
}

/// One segment of 64 buckets, and what the lists keep room for.
const EMPTY_TABLE_BYTES: usize = 64 * 64 + 4096;
