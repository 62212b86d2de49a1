//! Who goes, and who does not.

use super::{START_MS, Store, check_accounts, get, peek, set, store};
use crate::store::{Policy, charge_max};

/// A cache in front of something: looks up, and stores on a miss. Returns whether it hit.
fn fetch(store: &Store, key: u64, value: &[u8]) -> bool {
    let bytes = key.to_le_bytes();
    let hit = get(store, 0, &bytes, START_MS);
    if !hit {
        assert_eq!(set(store, 0, &bytes, value, 0, START_MS), Ok(()));
    }
    hit
}

/// The bound for so many items of this size, with what the counts of their uses take.
fn bound(store: &Store, items: usize, value: &[u8]) -> usize {
    items * (charge_max(store.key(&[0; 8]), value.len()) + 32) * 21 / 20
}

fn bounded(items: usize, value: &[u8], policy: Policy) -> Store {
    let any = store(1, None, policy);
    store(64, Some(bound(&any, items, value)), policy)
}

#[test]
fn a_scan_does_not_push_out_what_is_used() {
    let value = [1; 500];
    for items in [200, 5000] {
        let store = bounded(items, &value, Policy::AllKeysTinyLfu);
        let hot = items as u64 / 2;
        for _ in 0..6 {
            (0..hot).for_each(|key| {
                fetch(&store, key, &value);
            });
        }
        for key in 0..20 * items as u64 {
            fetch(&store, 1_000_000 + key, &value);
            fetch(&store, key % hot, &value);
        }
        let kept = (0..hot)
            .filter(|key| get(&store, 0, &key.to_le_bytes(), START_MS))
            .count();
        assert!(kept as u64 > hot * 9 / 10, "{kept} of {hot}");
        check_accounts(&store);
    }
}

#[test]
fn a_loop_larger_than_the_cache_hits_nonetheless() {
    let value = [1; 1000];
    let store = bounded(300, &value, Policy::AllKeysTinyLfu);
    let hits = (0..100_000)
        .filter(|step| fetch(&store, step % 1000, &value))
        .count();
    assert!(hits > 10_000, "{hits} of 100 000; LRU has none");
}

#[test]
fn a_fresh_item_outlives_as_many_others_as_the_window_holds() {
    let value = [1; 500];
    let items = 1500;
    let store = bounded(items, &value, Policy::AllKeysTinyLfu);
    for _ in 0..8 {
        (0..1400).for_each(|key| {
            fetch(&store, key, &value);
        });
    }
    // Until memory is full the window is not held to its bound: the first evictions do not count.
    (10_000..10_600).for_each(|key| {
        fetch(&store, key, &value);
    });
    let mut lost = 0;
    for key in 10_600..12_000u64 {
        fetch(&store, key, &value);
        lost += u32::from(peek(&store, 0, &(key - 100).to_le_bytes(), START_MS).is_none());
    }
    assert!(lost <= 1, "{lost} of 1400 gone after 100 others");
}

#[test]
fn expired_items_go_before_any_other() {
    for policy in Policy::ALL {
        let store = store(8, Some(100_000), policy);
        for key in 0..200u32 {
            assert_eq!(
                set(
                    &store,
                    0,
                    &key.to_le_bytes(),
                    &[1; 100],
                    START_MS + 10,
                    START_MS
                ),
                Ok(())
            );
        }
        let later = START_MS + 100;
        for key in 1000..1500u32 {
            assert_eq!(
                set(&store, 0, &key.to_le_bytes(), &[1; 100], 0, later),
                Ok(()),
                "{policy:?}"
            );
        }
        let (evicted, expired) = store.departures();
        assert_eq!(evicted, 0, "{policy:?}");
        assert!(expired > 0, "{policy:?}");
    }
}

#[test]
fn what_has_expired_in_another_shard_makes_room_where_nobody_may_be_evicted() {
    let store = store(8, Some(100_000), Policy::NoEviction);
    let is_in = |key: &u32, index: u64| store.hash(&key.to_le_bytes()) >> 61 == index;
    let mut filling = (0..u32::MAX).filter(|key| is_in(key, 0));
    let expires_at = START_MS + 10;
    while set(
        &store,
        0,
        &filling.next().unwrap().to_le_bytes(),
        &[1; 100],
        expires_at,
        START_MS,
    )
    .is_ok()
    {}
    let other = (0..u32::MAX).find(|key| is_in(key, 5)).unwrap();
    let later = START_MS + 100;
    assert_eq!(
        set(&store, 0, &other.to_le_bytes(), &[1; 100], 0, later),
        Ok(())
    );
}

#[test]
fn one_large_value_does_not_empty_the_shard_it_falls_into() {
    let value = [1; 100];
    let store = bounded(100_000, &value, Policy::AllKeysTinyLfu);
    (0..120_000).for_each(|key| {
        fetch(&store, key, &value);
    });
    let lens = |store: &Store| -> Vec<usize> {
        let len = |index| {
            store
                .lock_index(index)
                .with_shard(index, |shard| shard.len())
        };
        (0..store.shards()).map(len).collect()
    };
    let before = lens(&store);
    let large = store.budget().max().unwrap_or(0) / 50;
    assert_eq!(
        set(&store, 0, b"large", &vec![1; large], 0, START_MS),
        Ok(())
    );
    let after = lens(&store);
    let least = before
        .iter()
        .zip(&after)
        .map(|(before, after)| after * 100 / before)
        .min();
    assert!(least > Some(80), "{least:?} % left");
    check_accounts(&store);
}

#[test]
fn the_least_recently_used_goes_first_under_lru() {
    let value = [1; 100];
    let store = bounded(1000, &value, Policy::AllKeysLru);
    let at = |key: u64| START_MS + key * 1000;
    for key in 0..3000u64 {
        assert_eq!(
            set(&store, 0, &key.to_le_bytes(), &value, 0, at(key)),
            Ok(())
        );
        get(&store, 0, &0u64.to_le_bytes(), at(key));
    }
    assert!(
        peek(&store, 0, &0u64.to_le_bytes(), at(3000)).is_some(),
        "used all the time"
    );
    let recent =
        (2500..3000u64).filter(|key| peek(&store, 0, &key.to_le_bytes(), at(3000)).is_some());
    assert!(recent.count() > 450);
}

#[test]
fn the_first_to_expire_goes_first_under_volatile_ttl() {
    let value = [1; 100];
    let store = bounded(1000, &value, Policy::VolatileTtl);
    for key in 0..2000u64 {
        let at = START_MS + 1_000_000 - key * 100;
        assert_eq!(
            set(&store, 0, &key.to_le_bytes(), &value, at, START_MS),
            Ok(())
        );
    }
    let kept = (0..500u64).filter(|key| peek(&store, 0, &key.to_le_bytes(), START_MS).is_some());
    assert!(kept.count() > 450, "those that live longest");
}

#[test]
fn counts_grow_with_the_items_and_are_paid_for() {
    let store = store(4, Some(4 << 20), Policy::AllKeysTinyLfu);
    // Large items first, then ever smaller ones: more and more keys are to be counted.
    for (round, len) in [4000usize, 1000, 200, 40].into_iter().enumerate() {
        for key in 0..40_000u64 {
            let key = (round as u64) << 32 | key;
            assert_eq!(
                set(&store, 0, &key.to_le_bytes(), &vec![1; len], 0, START_MS),
                Ok(())
            );
        }
        check_accounts(&store);
        for index in 0..4 {
            store.lock_index(index).with_shard(index, |shard| {
                assert!(shard.sketch.capacity() * 2 >= shard.len(), "round {round}");
            });
        }
    }
}
