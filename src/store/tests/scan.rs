//! SCAN's guarantee: what is there from the first call to the last is returned.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{START_MS, Store, check_accounts, check_empty, set, store};
use crate::store::Policy;

/// Goes through a database as SCAN does, and calls `between` after every step.
fn scan_all(store: &Store, mut between: impl FnMut()) -> HashSet<Vec<u8>> {
    let mut seen = HashSet::new();
    for index in 0..store.shards() {
        let mut cursor = 0;
        loop {
            let mut locked = store.lock_index(index);
            cursor = locked.with_shard(index, |shard| {
                shard.scan(0, cursor, |entry| {
                    seen.insert(entry.key().to_vec());
                })
            });
            drop(locked);
            if cursor == 0 {
                break;
            }
            between();
        }
    }
    seen
}

fn remove(store: &Store, key: &[u8]) {
    let key = store.key(key);
    store
        .lock(key.hash)
        .shard(key.hash)
        .remove(0, key, START_MS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_scan_returns_all_that_stays_while_the_table_grows_and_shrinks(
        stable in 0u32..300,
        others in 0u32..2000,
        changes in proptest::collection::vec((any::<bool>(), 0u32..400), 1..60),
        shards in proptest::sample::select(&[1usize, 4][..]),
    ) {
        let store = store(shards, None, Policy::NoEviction);
        let stable = (0..stable).map(|key| format!("s{key}").into_bytes());
        let stable: HashSet<Vec<u8>> = stable.collect();
        for key in &stable {
            prop_assert!(set(&store, 0, key, b"", 0, START_MS).is_ok());
        }
        let name = |key: u32| format!("o{key}").into_bytes();
        let mut top = others;
        for key in 0..top {
            prop_assert!(set(&store, 0, &name(key), b"v", 0, START_MS).is_ok());
        }
        let mut changes = changes.iter().cycle();
        let mut steps = 0;
        let seen = scan_all(&store, || {
            steps += 1;
            // The scan must come to an end although the table goes on changing.
            let Some(&(grow, by)) = changes.next().filter(|_| steps < 3000) else { return };
            for _ in 0..by {
                if grow && top < 6000 {
                    assert!(set(&store, 0, &name(top), b"v", 0, START_MS).is_ok());
                    top += 1;
                } else if !grow && top > 0 {
                    top -= 1;
                    remove(&store, &name(top));
                }
            }
        });
        prop_assert!(stable.is_subset(&seen));
        check_accounts(&store);
        for key in (0..top).map(name).chain(stable) {
            remove(&store, &key);
        }
        check_empty(&store);
    }
}

#[test]
fn a_table_finds_every_item_at_every_size() {
    let store = store(1, None, Policy::NoEviction);
    let name = |key: u32| key.to_string().into_bytes();
    let has = |key: u32| super::peek(&store, 0, &name(key), START_MS).is_some();
    for len in 0..3000 {
        assert!(set(&store, 0, &name(len), b"", 0, START_MS).is_ok());
        if len % 97 == 0 {
            assert!((0..=len).all(has) && !has(len + 1));
        }
    }
    for len in (0..3000).rev() {
        remove(&store, &name(len));
        if len % 97 == 0 {
            assert!((0..len).all(has) && !has(len));
        }
    }
    check_empty(&store);
}

#[test]
fn any_cursor_a_client_sends_is_harmless() {
    let store = store(1, None, Policy::NoEviction);
    for key in 0..100u32 {
        assert!(set(&store, 0, &key.to_le_bytes(), b"", 0, START_MS).is_ok());
    }
    for cursor in [1, 63, 64, 1 << 40, u64::MAX / 2, u64::MAX] {
        store.lock_index(0).with_shard(0, |shard| {
            shard.scan(0, cursor, |_| ());
            assert_eq!(
                shard.scan(9, cursor, |_| ()),
                0,
                "a database nobody wrote to"
            );
        });
    }
}
