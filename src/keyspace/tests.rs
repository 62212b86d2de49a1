//! Random writes of keys with tags beside a plain map.

mod races;

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU64;

use proptest::prelude::*;

use super::{Place, View};
use crate::store::tests::{START_MS, check_accounts, check_empty, store};
use crate::store::{Loaded, Policy, Store, Write};

type Tags = BTreeSet<u8>;
/// A database, and a key in it.
type At = (u16, u16);

#[derive(Clone, Debug)]
enum Action {
    Set(At, usize, Option<u64>, u64, Tags),
    Append(At),
    Add(At, Tags),
    Remove(At, Tags),
    Delete(At),
    Expire(At, Option<u64>),
    Copy(At, At),
    Move(At, At),
    Invalidate(u16, Tags),
    Soften(u16, Tags),
    Clear(Option<u16>),
    Swap(u16, u16),
    Wait(u64),
    Reclaim(u32),
    /// Takes out all that is outdated or past its time, so that counts must be exact.
    Purge,
}

#[derive(Clone, Debug)]
struct Item {
    value: Vec<u8>,
    expires_at: Option<u64>,
    stale_ms: u64,
    is_grown: bool,
    tags: Tags,
}

impl Item {
    fn is_live(&self, now_ms: u64) -> bool {
        self.expires_at.is_none_or(|at| at > now_ms)
    }

    /// Whether it is there at least for who may be served a stale value.
    fn is_kept(&self, now_ms: u64) -> bool {
        self.expires_at.is_none_or(|at| at + self.stale_ms > now_ms)
    }
}

struct Bed {
    store: Store,
    items: HashMap<At, Item>,
    now_ms: u64,
    is_bounded: bool,
    writes: u8,
}

impl Bed {
    fn with<R>(&self, work: impl FnOnce(&mut View<'_>) -> R) -> R {
        work(&mut View::new(self.store.lock_all(), self.now_ms))
    }

    fn unlocked<R>(&self, work: impl FnOnce(&mut View<'_>) -> R) -> R {
        work(&mut View::new(self.store.lock_none(), self.now_ms))
    }

    fn at<R>(&self, at: At, work: impl FnOnce(&mut View<'_>, Place<'_>) -> R) -> R {
        let bytes = name(at.1);
        let key = self.store.key(&bytes);
        self.with(|view| work(view, Place { db: at.0, key }))
    }

    fn live(&mut self, at: At) -> Option<&mut Item> {
        let now_ms = self.now_ms;
        self.items.get_mut(&at).filter(|item| item.is_live(now_ms))
    }

    /// Forgets who was evicted; everybody else must be as the model has it.
    fn compare(&mut self) {
        check_accounts(&self.store);
        if !self.is_bounded {
            // Before anybody looks at a key, and so takes it out where its time has passed.
            self.compare_tags();
        }
        for (at, item) in self.items.clone() {
            let (live, stale, tags) = self.at(at, |view, place| {
                let live = view.peek(place).map(|entry| entry.value().to_vec());
                let stale = view.peek_stale(place).map(|entry| entry.value().to_vec());
                let tags: Tags = view.tags_of(place).iter().map(|tag| tag[0]).collect();
                (live, stale, tags)
            });
            let found = if item.is_live(self.now_ms) {
                assert!(stale.is_none(), "what is live is not stale");
                live
            } else {
                assert!(live.is_none() && tags.is_empty(), "{at:?} has expired");
                stale
            };
            match found {
                Some(value) => assert_eq!(value, item.value),
                None => {
                    let may_be_gone = self.is_bounded || !item.is_kept(self.now_ms);
                    assert!(may_be_gone, "{at:?} is lost: {item:?}");
                    self.items.remove(&at);
                    continue;
                }
            }
            if item.is_live(self.now_ms) {
                assert_eq!(tags, item.tags, "the tags of {at:?}");
            }
        }
        self.compare_tags();
    }

    fn compare_tags(&self) {
        for db in 0..2 {
            for tag in 0..TAGS {
                self.compare_tag(db, tag);
            }
        }
    }

    fn carriers(&self, db: u16, tag: u8) -> Vec<Vec<u8>> {
        let carries = |(at, item): &(&At, &Item)| {
            at.0 == db && item.tags.contains(&tag) && item.is_kept(self.now_ms)
        };
        let carriers = self.items.iter().filter(carries);
        let mut names: Vec<_> = carriers.map(|(at, _)| name(at.1)).collect();
        names.sort();
        names
    }

    fn compare_tag(&self, db: u16, tag: u8) {
        let wanted = self.carriers(db, tag);
        let card = self.with(|view| view.tag_card(db, &[tag]));
        assert!(card >= wanted.len(), "who is outdated may still be counted");
        for mut members in [
            self.with(|view| view.tag_members(db, &[tag])),
            self.unlocked(|view| view.tag_members(db, &[tag])),
        ] {
            members.sort();
            assert_eq!(members, wanted, "the keys of tag {tag}");
        }
    }

    fn set(&mut self, at: At, len: usize, ttl_ms: Option<u64>, stale_ms: u64, tags: Tags) {
        self.writes = self.writes.wrapping_add(1);
        let value = vec![self.writes; len];
        let expires_at = ttl_ms.map(|ttl| self.now_ms + ttl + 1);
        let stale_ms = if ttl_ms.is_some() { stale_ms } else { 0 };
        let stored = self.at(at, |view, place| {
            let write = Write {
                value: &value,
                expires_at: expires_at.and_then(NonZeroU64::new),
                loaded: (stale_ms > 0).then(|| Loaded::new(1, 1, stale_ms)),
                ..Write::default()
            };
            let names: Vec<[u8; 1]> = tags.iter().map(|&tag| [tag]).collect();
            view.write_tagged(place, write, names.iter().map(|name| &name[..]), None)
        });
        if stored.is_ok() {
            let item = Item {
                value,
                expires_at,
                stale_ms,
                is_grown: false,
                tags,
            };
            self.items.insert(at, item);
        }
    }

    fn append(&mut self, at: At) {
        let write = |value: &mut [u8], old: usize| {
            value[old..].fill(b'+');
            true
        };
        if self
            .at(at, |view, place| view.update(place, |len| len + 9, write))
            .is_err()
        {
            return;
        }
        if let Some(item) = self.live(at) {
            // To pay for it may have evicted the very key.
            item.value.extend([b'+'; 9]);
            item.is_grown = true;
            let lost = self.at(at, |view, place| view.shape(place).map(|(len, _)| len));
            if lost != self.items.get(&at).map(|item| item.value.len()) {
                assert!(self.is_bounded);
                self.items.insert(at, grown());
            }
        } else {
            self.items.insert(at, grown());
        }
    }

    fn retag(&mut self, at: At, tags: &Tags, is_added: bool) {
        let names: Vec<[u8; 1]> = tags.iter().map(|&tag| [tag]).collect();
        let names = names.iter().map(|name| &name[..]);
        let changed = self.at(at, |view, place| match is_added {
            true => view.add_tags(place, names),
            false => Ok(view.remove_tags(place, names)),
        });
        let (Ok(changed), is_bounded) = (changed, self.is_bounded) else {
            return;
        };
        let Some(item) = self.live(at) else {
            assert_eq!(changed, 0, "of a key that is not there");
            return;
        };
        let before = item.tags.len();
        if is_added {
            item.tags.extend(tags);
        } else {
            item.tags.retain(|tag| !tags.contains(tag));
        }
        let is_right = changed == before.abs_diff(item.tags.len());
        assert!(
            is_right || changed == 0 && is_bounded,
            "tags changed: {changed}"
        );
    }

    fn expire(&mut self, at: At, ttl_ms: Option<u64>) {
        let expires_at = ttl_ms.map(|ttl| self.now_ms + ttl);
        self.at(at, |view, place| {
            view.set_expiry(place, expires_at.and_then(NonZeroU64::new));
        });
        if let Some(item) = self.live(at) {
            item.expires_at = expires_at;
            if ttl_ms == Some(0) {
                self.items.remove(&at);
            }
        }
    }

    fn relocate(&mut self, from: At, to: At, is_copy: bool) {
        if from == to {
            return;
        }
        let bytes = (name(from.1), name(to.1));
        let keys = (self.store.key(&bytes.0), self.store.key(&bytes.1));
        let place = |at: At, key| Place { db: at.0, key };
        let (source, target) = (place(from, keys.0), place(to, keys.1));
        let is_done = self.with(|view| match is_copy {
            true => view.copy(source, target).unwrap_or(false),
            false => view.relocate(source, target),
        });
        let Some(mut item) = self.live(from).cloned() else {
            assert!(!is_done, "nothing was there");
            return;
        };
        if !is_done {
            assert!(self.is_bounded && is_copy, "it was there");
            return;
        }
        if item.is_grown {
            item.stale_ms = 0;
        }
        if !is_copy {
            self.items.remove(&from);
        }
        self.items.insert(to, item);
    }

    fn invalidate(&mut self, db: u16, tags: &Tags, is_soft: bool) {
        let names: Vec<[u8; 1]> = tags.iter().map(|&tag| [tag]).collect();
        let names = names.iter().map(|name| &name[..]);
        let live: usize = (self.items.iter())
            .filter(|(at, item)| at.0 == db && item.is_live(self.now_ms))
            .map(|(_, item)| item.tags.intersection(tags).count())
            .sum();
        let counted = self.unlocked(|view| view.invalidate_tags(db, names, is_soft));
        assert!(counted >= live, "each of them counts: {counted} of {live}");
        let now_ms = self.now_ms;
        self.items.retain(|at, item| {
            if at.0 != db || item.tags.is_disjoint(tags) {
                return true;
            }
            item.expires_at = item.expires_at.map(|at| at.min(now_ms));
            is_soft && item.expires_at.is_some() && item.is_kept(now_ms)
        });
    }

    fn swap(&mut self, one: u16, other: u16) {
        self.with(|view| view.swap(one, other));
        let items = std::mem::take(&mut self.items);
        let swapped = |db| match db {
            db if db == one => other,
            db if db == other => one,
            db => db,
        };
        let moved = items
            .into_iter()
            .map(|((db, key), item)| ((swapped(db), key), item));
        self.items = moved.collect();
    }

    fn purge(&mut self) {
        while self.store.reclaim(self.now_ms, 3) {}
        for key in 0..KEYS {
            // What is past its time goes when it is looked at.
            for db in 0..2 {
                self.at((db, key), |view, place| view.contains(place));
            }
        }
        for db in 0..2 {
            for tag in 0..TAGS {
                let card = self.with(|view| view.tag_card(db, &[tag]));
                let members = self.with(|view| view.tag_members(db, &[tag]));
                assert_eq!(card, members.len(), "nobody is counted who is not there");
            }
        }
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Set(at, len, ttl_ms, stale_ms, tags) => {
                self.set(at, len, ttl_ms, stale_ms, tags);
            }
            Action::Append(at) => self.append(at),
            Action::Add(at, tags) => self.retag(at, &tags, true),
            Action::Remove(at, tags) => self.retag(at, &tags, false),
            Action::Delete(at) => {
                self.at(at, |view, place| view.remove(place));
                self.items.remove(&at);
            }
            Action::Expire(at, ttl_ms) => self.expire(at, ttl_ms),
            Action::Copy(from, to) => self.relocate(from, to, true),
            Action::Move(from, to) => self.relocate(from, to, false),
            Action::Invalidate(db, tags) => self.invalidate(db, &tags, false),
            Action::Soften(db, tags) => self.invalidate(db, &tags, true),
            Action::Clear(db) => {
                drop(self.with(|view| view.clear(db)));
                self.items.retain(|at, _| db.is_some_and(|db| at.0 != db));
            }
            Action::Swap(one, other) => self.swap(one, other),
            Action::Wait(ms) => self.now_ms += ms,
            Action::Reclaim(count) => {
                self.store.reclaim(self.now_ms, count);
            }
            Action::Purge => self.purge(),
        }
    }
}

fn grown() -> Item {
    Item {
        value: vec![b'+'; 9],
        expires_at: None,
        stale_ms: 0,
        is_grown: true,
        tags: Tags::new(),
    }
}

fn name(key: u16) -> Vec<u8> {
    format!("key:{key}:{}", "-".repeat(usize::from(key % 50))).into_bytes()
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let db = 0u16..2;
    let at = (0u16..2, 0..KEYS);
    let tags = proptest::collection::btree_set(0..TAGS, 0..4);
    let ttl = prop_oneof![2 => Just(None), 2 => (0u64..300).prop_map(Some)];
    let stale = prop_oneof![1 => Just(0u64), 1 => 1u64..300];
    let set = (at.clone(), 0usize..200, ttl.clone(), stale, tags.clone());
    let action = prop_oneof![
        30 => set.prop_map(|(at, len, ttl, stale, tags)| Action::Set(at, len, ttl, stale, tags)),
        5 => at.clone().prop_map(Action::Append),
        8 => (at.clone(), tags.clone()).prop_map(|(at, tags)| Action::Add(at, tags)),
        5 => (at.clone(), tags.clone()).prop_map(|(at, tags)| Action::Remove(at, tags)),
        4 => at.clone().prop_map(Action::Delete),
        4 => (at.clone(), ttl).prop_map(|(at, ttl)| Action::Expire(at, ttl)),
        4 => (at.clone(), at.clone()).prop_map(|(from, to)| Action::Copy(from, to)),
        4 => (at.clone(), at).prop_map(|(from, to)| Action::Move(from, to)),
        6 => (db.clone(), tags.clone()).prop_map(|(db, tags)| Action::Invalidate(db, tags)),
        4 => (db, tags).prop_map(|(db, tags)| Action::Soften(db, tags)),
        1 => prop_oneof![Just(None), (0u16..2).prop_map(Some)].prop_map(Action::Clear),
        1 => (0u16..2, 0u16..2).prop_map(|(one, other)| Action::Swap(one, other)),
        6 => (0u64..200).prop_map(Action::Wait),
        4 => (1u32..5).prop_map(Action::Reclaim),
        3 => Just(Action::Purge),
    ];
    proptest::collection::vec(action, 1..120)
}

fn run(policy: Policy, bytes_max: Option<usize>, actions: Vec<Action>) {
    let mut bed = Bed {
        store: store(4, bytes_max, policy),
        items: HashMap::new(),
        now_ms: START_MS,
        is_bounded: bytes_max.is_some(),
        writes: 0,
    };
    for action in actions {
        bed.apply(action);
        bed.compare();
    }
    for key in 0..KEYS {
        for db in 0..2 {
            bed.apply(Action::Delete((db, key)));
        }
    }
    bed.now_ms += 1_000_000;
    bed.purge();
    drop(bed.with(|view| view.clear(None)));
    check_empty(&bed.store);
}

/// Tags there are.
const TAGS: u8 = 6;
/// Keys in each database.
const KEYS: u16 = 20;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn keys_are_in_their_tags_as_long_as_they_are_there(actions in actions()) {
        run(Policy::AllKeysTinyLfu, None, actions);
    }

    #[test]
    fn who_is_evicted_leaves_its_tags(
        policy in proptest::sample::select(&[Policy::AllKeysTinyLfu, Policy::AllKeysLru][..]),
        bytes_max in 4_000usize..20_000,
        actions in actions(),
    ) {
        run(policy, Some(bytes_max), actions);
    }
}
