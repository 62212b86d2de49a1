//! The edges: nothing, too much, and what the bound allows.

use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{START_MS, check_accounts, check_empty, get, peek, set, store};
use crate::store::item::{self, Extras, LENGTH_MAX};
use crate::store::{Entry, Full, Locked, Policy, Tuning, Write, charge_max};

#[test]
fn keys_and_values_may_be_empty() {
    let store = store(2, Some(1 << 20), Policy::AllKeysTinyLfu);
    assert_eq!(set(&store, 0, b"", b"", 0, START_MS), Ok(()));
    assert_eq!(peek(&store, 0, b"", START_MS), Some(Vec::new()));
    assert_eq!(set(&store, 0, b"", b"x", START_MS + 5, START_MS), Ok(()));
    assert_eq!(set(&store, 0, b"", b"", START_MS + 5, START_MS), Ok(()));
    assert_eq!(peek(&store, 0, b"", START_MS + 4), Some(Vec::new()));
    assert_eq!(peek(&store, 0, b"", START_MS + 5), None);
    check_empty(&store);
}

#[test]
fn what_is_too_long_costs_more_than_there_is() {
    let store = store(1, None, Policy::AllKeysTinyLfu);
    let key = store.key(b"k");
    assert!(item::charge(1, LENGTH_MAX, Extras::default()) > LENGTH_MAX);
    assert!(charge_max(key, LENGTH_MAX) < usize::MAX);
    for len in [LENGTH_MAX + 1, usize::MAX] {
        assert_eq!(charge_max(key, len), usize::MAX);
        assert_eq!(
            store
                .lock(key.hash)
                .reserve(key.hash, charge_max(key, len), 0),
            Err(Full)
        );
    }
}

#[test]
fn an_unpaid_resize_leaves_the_item_whole() {
    let store = store(1, None, Policy::NoEviction);
    assert_eq!(set(&store, 0, b"k", b"value", 0, START_MS), Ok(()));
    let key = store.key(b"k");
    let mut locked = store.lock(key.hash);
    let shard = locked.shard(key.hash);
    let resize = || shard.resize(0, key, LENGTH_MAX + 1, START_MS).len();
    assert!(catch_unwind(AssertUnwindSafe(resize)).is_err());
    drop(locked);
    assert_eq!(peek(&store, 0, b"k", START_MS), Some(b"value".to_vec()));
    check_accounts(&store);
}

#[test]
fn without_anybody_to_evict_a_write_is_refused_and_nothing_changes() {
    for policy in [
        Policy::NoEviction,
        Policy::VolatileLru,
        Policy::VolatileTtl,
        Policy::VolatileLfu,
    ] {
        let store = store(8, Some(20_000), policy);
        let mut stored = 0u32;
        while set(&store, 0, &stored.to_le_bytes(), &[1; 100], 0, START_MS).is_ok() {
            stored += 1;
        }
        assert!(stored > 50, "{stored} items of 160 bytes in 20 000");
        assert!((0..stored).all(|key| get(&store, 0, &key.to_le_bytes(), START_MS)));
        check_accounts(&store);
    }
}

#[test]
fn what_may_not_be_refused_is_made_up_for_by_the_next() {
    for policy in Policy::ALL {
        let store = store(8, Some(20_000), policy);
        let mut stored = 0u32;
        let fits = |key: u32| set(&store, 0, &key.to_le_bytes(), &[1; 100], 0, START_MS).is_ok();
        while stored < 1000 && fits(stored) {
            stored += 1;
        }
        let key = store.key(b"beyond");
        let mut locked = store.lock(key.hash);
        locked.reserve_beyond(key.hash, 1000, START_MS);
        let write = Write {
            value: &[1; 900],
            expires_at: None,
            ..Write::default()
        };
        locked.shard(key.hash).set(0, key, write, START_MS);
        drop(locked);
        check_accounts(&store);
        let evicts = stored == 1000;
        assert_eq!(store.budget().is_over(), !evicts, "{policy:?}");
        assert_eq!(fits(1_000_000), evicts, "{policy:?}");
        assert!(peek(&store, 0, b"beyond", START_MS).is_some());
    }
}

#[test]
fn all_writes_of_a_command_are_paid_for_or_none() {
    for policy in Policy::ALL {
        let store = store(8, Some(40_000), policy);
        let names: Vec<Vec<u8>> = (0..60u32).map(|key| key.to_le_bytes().to_vec()).collect();
        let (mut paid, mut refused) = (0, 0);
        for round in 0..200usize {
            let first = round * 7 % 40;
            let keys: Vec<_> = names[first..first + 20]
                .iter()
                .map(|key| store.key(key))
                .collect();
            let len = 50 + round * 37 % 3000;
            let mut locked = store.lock_many(keys.iter().map(|key| key.hash));
            let missing = |locked: &mut Locked<'_>, add: &mut dyn FnMut(u64, usize)| {
                for &key in &keys {
                    let charge = |entry: Entry<'_>| entry.charge();
                    let present = locked.shard(key.hash).peek(0, key, START_MS).map(charge);
                    add(
                        key.hash,
                        charge_max(key, len).saturating_sub(present.unwrap_or(0)),
                    );
                }
            };
            if locked.reserve_all(missing, START_MS).is_err() {
                refused += 1;
                continue;
            }
            // Nothing is reserved here: `set` asserts that it is paid for.
            for &key in &keys {
                let write = Write {
                    value: &vec![1; len],
                    expires_at: NonZeroU64::new(START_MS + 1000),
                    ..Write::default()
                };
                locked.shard(key.hash).set(0, key, write, START_MS);
            }
            paid += 1;
            drop(locked);
            check_accounts(&store);
            assert!(!store.budget().is_over());
        }
        assert!(paid > 20 && refused > 20, "{policy:?}: {paid}, {refused}");
    }
}

#[test]
fn a_value_may_take_the_whole_bound_and_no_more() {
    let store = store(16, Some(100_000), Policy::AllKeysTinyLfu);
    for key in 0..500u32 {
        assert_eq!(
            set(&store, 0, &key.to_le_bytes(), &[1; 100], 0, START_MS),
            Ok(())
        );
    }
    let key = store.key(b"big");
    let fits = (90_000..100_000)
        .rev()
        .find(|&len| charge_max(key, len) <= 100_000);
    let fits = fits.unwrap_or_default();
    assert_eq!(
        set(&store, 0, b"big", &vec![2; fits + 100], 0, START_MS),
        Err(Full)
    );
    assert!((0..500u32).any(|key| get(&store, 0, &key.to_le_bytes(), START_MS)));
    check_accounts(&store);
}

#[test]
fn a_lower_bound_holds_after_shrinking() {
    for policy in Policy::ALL {
        let store = store(64, Some(1 << 20), policy);
        for key in 0..1000u32 {
            let at = if key % 2 == 0 { START_MS + 60_000 } else { 0 };
            assert_eq!(
                set(&store, 0, &key.to_le_bytes(), &[1; 100], at, START_MS),
                Ok(())
            );
        }
        let tuning = Tuning {
            policy,
            ..Tuning::default()
        };
        store.set_limits(Some(130_000), tuning);
        while !store.shrink(START_MS, 10) {}
        assert_eq!(
            store.budget().is_over(),
            policy == Policy::NoEviction,
            "{policy:?}"
        );
        check_accounts(&store);
        store.set_limits(None, tuning);
        assert_eq!(set(&store, 0, b"k", &[1; 100_000], 0, START_MS), Ok(()));
        check_accounts(&store);
    }
}

#[test]
fn changing_the_policy_forgets_nothing_but_the_counts() {
    let store = store(4, Some(200_000), Policy::AllKeysTinyLfu);
    for policy in Policy::ALL.into_iter().chain(Policy::ALL.into_iter().rev()) {
        store.set_limits(
            Some(200_000),
            Tuning {
                policy,
                ..Tuning::default()
            },
        );
        check_accounts(&store);
        let mut stored = 0;
        for key in 0..3000u32 {
            let written = set(
                &store,
                0,
                &key.to_le_bytes(),
                &[1; 64],
                START_MS + 9,
                START_MS,
            );
            stored += u32::from(written.is_ok());
        }
        assert!(
            stored == 3000 || policy == Policy::NoEviction,
            "{policy:?}: {stored}"
        );
        check_accounts(&store);
    }
}
