//! Random commands against a `HashMap`, for every policy, with a bound and without.

use std::collections::HashMap;
use std::num::NonZeroU64;

use proptest::prelude::*;

use super::{START_MS, Store, check_accounts, check_empty, get, peek, set, store};
use crate::store::{Policy, Tuning, charge_max};

/// The highest bound.
const MAX: usize = 60_000;

#[derive(Clone, Debug)]
enum Action {
    Set {
        db: u16,
        key: u16,
        len: usize,
        ttl_ms: Option<u64>,
    },
    Resize {
        db: u16,
        key: u16,
        len: usize,
    },
    Remove {
        db: u16,
        key: u16,
    },
    Expire {
        db: u16,
        key: u16,
        ttl_ms: Option<u64>,
    },
    Get {
        db: u16,
        key: u16,
    },
    Clear {
        db: u16,
    },
    ClearAll,
    Swap {
        first: u16,
        second: u16,
    },
    /// Moves the clock, forwards or backwards.
    Wait {
        ms: i64,
    },
    RemoveExpired {
        budget: usize,
    },
    SetMax {
        bytes_max: usize,
    },
}

#[derive(Default)]
struct Model {
    items: HashMap<(u16, u16), (Vec<u8>, Option<u64>)>,
    now_ms: u64,
    writes: u8,
}

impl Model {
    fn live(&self, db: u16, key: u16) -> Option<&Vec<u8>> {
        let (value, expires_at) = self.items.get(&(db, key))?;
        expires_at
            .is_none_or(|at| at > self.now_ms)
            .then_some(value)
    }
}

fn actions(len: usize) -> impl Strategy<Value = Vec<Action>> {
    let (db, key) = (0u16..3, prop_oneof![3 => 0u16..24, 2 => 0u16..400]);
    let len_of_value = prop_oneof![4 => 0usize..40, 4 => 40usize..400, 1 => 400usize..9000];
    let ttl_ms = prop_oneof![
        6 => Just(None),
        3 => (0u64..400).prop_map(Some),
        3 => (0u64..1_000_000).prop_map(Some),
        1 => (0u64..u64::MAX).prop_map(Some),
    ];
    let at = (db, key);
    let action = prop_oneof![
        40 => (at.clone(), len_of_value.clone(), ttl_ms.clone())
            .prop_map(|((db, key), len, ttl_ms)| Action::Set { db, key, len, ttl_ms }),
        10 => (at.clone(), len_of_value)
            .prop_map(|((db, key), len)| Action::Resize { db, key, len }),
        8 => at.clone().prop_map(|(db, key)| Action::Remove { db, key }),
        8 => (at.clone(), ttl_ms)
            .prop_map(|((db, key), ttl_ms)| Action::Expire { db, key, ttl_ms }),
        20 => at.prop_map(|(db, key)| Action::Get { db, key }),
        1 => (0u16..3).prop_map(|db| Action::Clear { db }),
        1 => Just(Action::ClearAll),
        1 => (0u16..3, 0u16..3).prop_map(|(first, second)| Action::Swap { first, second }),
        8 => prop_oneof![4 => 0i64..300, 2 => 0i64..300_000, 1 => 0i64..1 << 40, 1 => -500i64..0]
            .prop_map(|ms| Action::Wait { ms }),
        5 => prop_oneof![0usize..8, Just(usize::MAX)]
            .prop_map(|budget| Action::RemoveExpired { budget }),
        1 => (5_000usize..MAX).prop_map(|bytes_max| Action::SetMax { bytes_max }),
    ];
    proptest::collection::vec(action, 1..len)
}

fn name(key: u16) -> Vec<u8> {
    // Keys of many lengths, the empty one among them.
    format!("key:{key}:{}", "-".repeat(usize::from(key % 50))).into_bytes()
        [usize::from(key == 0) * 6..]
        .to_vec()
}

/// Does to both what the action says.
fn apply(store: &Store, model: &mut Model, policy: Policy, action: &Action) {
    let now_ms = model.now_ms;
    match *action {
        Action::Set {
            db,
            key,
            len,
            ttl_ms,
        } => {
            model.writes = model.writes.wrapping_add(1);
            let value = vec![model.writes; len];
            let expires_at = ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
            if set(
                store,
                db,
                &name(key),
                &value,
                expires_at.unwrap_or(0),
                now_ms,
            )
            .is_err()
            {
                return;
            }
            model.items.insert((db, key), (value, expires_at));
            // Never the victim of its own insertion.
            assert_eq!(
                peek(store, db, &name(key), now_ms).as_ref(),
                model.live(db, key)
            );
        }
        Action::Resize { db, key, len } => resize(store, model, db, key, len),
        Action::Remove { db, key } => remove(store, model, db, key),
        Action::Expire { db, key, ttl_ms } => expire(store, model, db, key, ttl_ms),
        Action::Get { db, key } => {
            let found = get(store, db, &name(key), now_ms);
            assert!(!found || model.live(db, key).is_some());
        }
        Action::Clear { db } => {
            for index in 0..store.shards() {
                let mut locked = store.lock_index(index);
                let physical = locked.physical(db);
                drop(locked.with_shard(index, |shard| shard.clear(physical, now_ms)));
            }
            model.items.retain(|(of, _), _| *of != db);
        }
        Action::ClearAll => {
            let mut locked = store.lock_all();
            for index in 0..store.shards() {
                drop(locked.with_shard(index, |shard| shard.clear_all(now_ms)));
            }
            model.items.clear();
            drop(locked);
            check_empty(store);
        }
        Action::Swap { first, second } => swap(store, model, first, second),
        Action::Wait { ms } => model.now_ms = now_ms.saturating_add_signed(ms),
        Action::RemoveExpired { budget } => remove_expired(store, model, budget),
        Action::SetMax { bytes_max } => {
            if store.budget().max().is_some() {
                store.set_limits(
                    Some(bytes_max),
                    Tuning {
                        policy,
                        ..Tuning::default()
                    },
                );
                assert!(store.shrink(now_ms, usize::MAX));
            }
        }
    }
}

fn remove(store: &Store, model: &mut Model, db: u16, key: u16) {
    let (bytes, was_live) = (name(key), model.live(db, key).is_some());
    model.items.remove(&(db, key));
    let mut locked = store.lock(store.hash(&bytes));
    let (physical, key) = (locked.physical(db), store.key(&bytes));
    let removed = locked.shard(key.hash).remove(physical, key, model.now_ms);
    assert!(was_live || !removed);
}

fn swap(store: &Store, model: &mut Model, first: u16, second: u16) {
    store.lock_all().swap_databases(first, second);
    let swapped = |db| match db {
        db if db == first => second,
        db if db == second => first,
        db => db,
    };
    let items = std::mem::take(&mut model.items);
    model.items = items
        .into_iter()
        .map(|((db, key), item)| ((swapped(db), key), item))
        .collect();
}

fn resize(store: &Store, model: &mut Model, db: u16, key: u16, len: usize) {
    let (bytes, now_ms) = (name(key), model.now_ms);
    let key_and_hash = store.key(&bytes);
    let mut locked = store.lock(key_and_hash.hash);
    let physical = locked.physical(db);
    if locked
        .reserve(key_and_hash.hash, charge_max(key_and_hash, len), now_ms)
        .is_err()
    {
        return;
    }
    let shard = locked.shard(key_and_hash.hash);
    // A command looks the key up first, which removes it if it has expired.
    let before = shard
        .peek(physical, key_and_hash, now_ms)
        .map(|entry| entry.value().to_vec());
    let value = shard.resize(physical, key_and_hash, len, now_ms);
    let old = before.as_deref().unwrap_or_default();
    let common = old.len().min(len);
    assert_eq!(value[..common], old[..common]);
    assert!(value[common..].iter().all(|&byte| byte == 0));
    if let Some(last) = value.last_mut() {
        *last = 7;
    }
    let (value, is_new) = (value.to_vec(), before.is_none());
    let item = model.items.entry((db, key)).or_default();
    *item = (value, if is_new { None } else { item.1 });
}

fn expire(store: &Store, model: &mut Model, db: u16, key: u16, ttl_ms: Option<u64>) {
    let (bytes, now_ms) = (name(key), model.now_ms);
    let key_and_hash = store.key(&bytes);
    let mut locked = store.lock(key_and_hash.hash);
    let physical = locked.physical(db);
    let found = locked
        .shard(key_and_hash.hash)
        .peek(physical, key_and_hash, now_ms);
    let Some(len) = found.map(|entry| entry.value().len()) else {
        return;
    };
    if locked
        .reserve(key_and_hash.hash, charge_max(key_and_hash, len), now_ms)
        .is_err()
    {
        return;
    }
    let at = ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
    let shard = locked.shard(key_and_hash.hash);
    let is_there = shard.set_expiry(physical, key_and_hash, at.and_then(NonZeroU64::new));
    if let (true, Some(item)) = (is_there, model.items.get_mut(&(db, key))) {
        item.1 = at;
    }
}

fn remove_expired(store: &Store, model: &mut Model, budget: usize) {
    let now_ms = model.now_ms;
    for index in 0..store.shards() {
        let mut left = budget;
        store
            .lock_index(index)
            .with_shard(index, |shard| shard.remove_expired(now_ms, &mut left));
        assert!(left <= budget);
    }
}

/// What is in the store is what is in the model; the model may know of more that was evicted.
fn compare(store: &Store, model: &mut Model, may_lose: impl Fn(Option<u64>) -> bool) {
    let mut present = HashMap::new();
    for index in 0..store.shards() {
        let mut locked = store.lock_index(index);
        for db in 0..store.databases() {
            let physical = locked.physical(db);
            locked.with_shard(index, |shard| {
                shard.for_each(physical, |entry| {
                    let at = entry.expires_at().map(NonZeroU64::get);
                    present.insert((db, entry.key().to_vec()), (entry.value().to_vec(), at));
                });
            });
        }
    }
    let now_ms = model.now_ms;
    let live = |at: Option<u64>| at.is_none_or(|at| at > now_ms);
    model.items.retain(|(db, key), (value, at)| {
        let found = present.remove(&(*db, name(*key)));
        if let Some(found) = &found {
            assert_eq!((&found.0, found.1), (&*value, *at));
        } else {
            assert!(
                !live(*at) || may_lose(*at),
                "key {key} of database {db} is lost"
            );
        }
        // An expired item may still be there, and is, for a clock that goes backwards.
        found.is_some()
    });
    assert!(present.is_empty(), "{present:?} came from nowhere");
}

fn evicts_all(policy: Policy) -> bool {
    policy.name().starts_with("allkeys")
}

fn run(policy: Policy, shards: usize, bytes_max: Option<usize>, actions: &[Action]) {
    let store = store(shards, bytes_max, policy);
    let mut model = Model {
        now_ms: START_MS,
        ..Model::default()
    };
    for action in actions {
        apply(&store, &mut model, policy, action);
        check_accounts(&store);
        // After the bound was lowered, what may not be evicted stays.
        let allowed = if evicts_all(policy) {
            store.budget().max()
        } else {
            bytes_max.map(|_| MAX)
        };
        assert!(
            allowed.is_none_or(|max| store.budget().used() <= max),
            "the bound"
        );
        compare(&store, &mut model, |expires_at| {
            bytes_max.is_some()
                && (evicts_all(policy) || expires_at.is_some() && policy != Policy::NoEviction)
        });
    }
    let keys: Vec<(u16, u16)> = model.items.keys().copied().collect();
    for (db, key) in keys {
        apply(&store, &mut model, policy, &Action::Remove { db, key });
    }
    // What had expired is gone once its time has come, however far the clock went.
    apply(&store, &mut model, policy, &Action::Wait { ms: i64::MAX });
    for db in 0..3 {
        apply(&store, &mut model, policy, &Action::Clear { db });
    }
    check_empty(&store);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_unbounded_store_is_a_map(actions in actions(250)) {
        run(Policy::AllKeysTinyLfu, 4, None, &actions);
    }

    #[test]
    fn a_bounded_store_is_a_part_of_a_map_under_every_policy(
        policy in proptest::sample::select(&Policy::ALL[..]),
        shards in proptest::sample::select(&[1usize, 4, 64][..]),
        bytes_max in 2_000usize..MAX,
        actions in actions(250),
    ) {
        run(policy, shards, Some(bytes_max), &actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The wheel alone: whatever the expiries and the steps of the clock.
    #[test]
    fn items_expire_within_a_tick_and_never_early(
        items in proptest::collection::vec(
            prop_oneof![
                0u64..70,
                0u64..5_000,
                (0u32..52, -2i64..3)
                    .prop_map(|(bits, off)| (1u64 << bits).saturating_add_signed(off)),
                Just(u64::MAX),
            ],
            1..80,
        ),
        steps in proptest::collection::vec((0u32..46, 1u64..64), 1..40),
        budget in prop_oneof![1usize..5, Just(usize::MAX)],
    ) {
        let store = store(1, None, Policy::NoEviction);
        for (key, ttl) in (0u64..).zip(&items) {
            let at = START_MS.saturating_add(*ttl).max(1);
            let written = set(&store, 0, &key.to_le_bytes(), b"", at, START_MS);
            prop_assert_eq!(written, Ok(()));
        }
        let mut now_ms = START_MS;
        for (bits, factor) in steps {
            now_ms += (1 << bits) / 64 * factor + factor;
            loop {
                let mut left = budget;
                let mut locked = store.lock_index(0);
                locked.with_shard(0, |shard| shard.remove_expired(now_ms, &mut left));
                if left > 0 {
                    break;
                }
            }
            let mut locked = store.lock_index(0);
            let mut ends = Vec::new();
            locked.with_shard(0, |shard| {
                shard.for_each(0, |entry| ends.extend(entry.expires_at()));
            });
            let due = |ttl: &&u64| START_MS.saturating_add(**ttl) > now_ms;
            prop_assert!(ends.iter().all(|at| at.get() > now_ms.saturating_sub(64)), "late");
            prop_assert!(ends.len() >= items.iter().filter(due).count(), "early");
        }
        check_accounts(&store);
    }
}
