use std::sync::Arc;

use super::{Limits, Link, Refusal, State, Tags};
use crate::store::budget::Budget;

const NOW_MS: u64 = 1_000_000;

fn tags(limits: Limits) -> (Arc<Tags>, Arc<Budget>) {
    let budget = Arc::new(Budget::new(None, 1));
    let tags = Tags::new(&ahash::RandomState::new(), &budget, limits);
    (Arc::new(tags), budget)
}

fn some() -> (Arc<Tags>, Arc<Budget>) {
    tags(Limits::default())
}

fn link(tags: &Tags, name: &str, key: u64) -> Link {
    tags.link(0, name.as_bytes(), key, None).expect("room")
}

#[test]
fn a_tag_is_there_as_long_as_it_has_keys() {
    let (tags, budget) = some();
    let links = [
        link(&tags, "a", 1),
        link(&tags, "a", 2),
        link(&tags, "b", 1),
    ];
    assert_eq!(
        (tags.card(0, b"a"), tags.card(0, b"b"), tags.len()),
        (2, 1, 2)
    );
    assert!(budget.used() > 0, "tags are paid for");
    tags.unlink(links[0]);
    assert_eq!(tags.card(0, b"a"), 1);
    tags.unlink(links[1]);
    tags.unlink(links[2]);
    assert_eq!((tags.len(), tags.heap_bytes(), budget.used()), (0, 0, 0));
}

#[test]
fn databases_have_tags_of_their_own() {
    let (tags, _) = some();
    let link = link(&tags, "a", 1);
    assert_eq!(tags.card(1, b"a"), 0);
    assert_eq!(tags.invalidate(1, b"a"), 0);
    assert_eq!(tags.state(link.generation), State::Valid);
}

#[test]
fn an_invalidation_is_about_the_keys_of_before() {
    let (tags, budget) = some();
    let old = [link(&tags, "a", 1), link(&tags, "a", 2)];
    assert_eq!(tags.invalidate(0, b"a"), 2);
    assert!(tags.has_outdated());
    assert!(
        old.iter()
            .all(|link| tags.state(link.generation) == State::Void)
    );
    assert_eq!(
        (tags.card(0, b"a"), tags.name_of(old[0].generation)),
        (0, None)
    );
    let new = link(&tags, "a", 1);
    assert_eq!(
        (tags.state(new.generation), tags.card(0, b"a")),
        (State::Valid, 1)
    );
    assert_eq!(tags.invalidate(0, b"other"), 0);
    old.iter().for_each(|&link| tags.unlink(link));
    assert!(!tags.has_outdated(), "nobody is left who is outdated");
    tags.unlink(new);
    assert_eq!((tags.len(), tags.heap_bytes(), budget.used()), (0, 0, 0));
}

#[test]
fn who_waits_to_be_looked_at_is_told_once() {
    let (tags, _) = some();
    let links: Vec<Link> = (0..5).map(|key| link(&tags, "a", key)).collect();
    assert!(tags.next_waiting(2).is_none());
    tags.soften(0, b"a", NOW_MS);
    let mut seen = Vec::new();
    while let Some((db, keys)) = tags.next_waiting(2) {
        assert!(db == 0 && keys.len() <= 2);
        seen.extend(keys);
    }
    let expected: Vec<(u64, Link)> = (0..5).zip(links).collect();
    assert_eq!(seen, expected, "the oldest first");
    assert_eq!(tags.stale_since(seen[0].1.generation), NOW_MS);
}

#[test]
fn what_is_stale_is_invalidated_with_the_rest() {
    let (tags, _) = some();
    let stale = link(&tags, "a", 1);
    assert_eq!(tags.soften(0, b"a", NOW_MS), 1);
    assert_eq!(tags.soften(0, b"a", NOW_MS), 0);
    let fresh = link(&tags, "a", 2);
    assert_eq!(tags.state(stale.generation), State::Stale);
    assert_eq!(tags.state(fresh.generation), State::Valid);
    assert_eq!(tags.card(0, b"a"), 2, "it may still be served");
    assert_eq!(tags.invalidate(0, b"a"), 2);
    assert_eq!(tags.state(stale.generation), State::Void);
    assert_eq!(tags.state(fresh.generation), State::Void);
    tags.unlink(stale);
    tags.unlink(fresh);
    assert!(!tags.has_outdated());
}

#[test]
fn a_copy_shares_the_fate_of_its_source() {
    let (tags, _) = some();
    let source = link(&tags, "a", 1);
    tags.invalidate(0, b"a");
    while tags.next_waiting(10).is_some() {}
    let copy = tags.link_like(source, 2);
    assert_eq!(tags.state(copy.generation), State::Void);
    let (_, again) = tags.next_waiting(10).expect("somebody to look at");
    assert!(
        again.contains(&(2, copy)),
        "it is taken out like its source"
    );
}

#[test]
fn what_began_before_an_invalidation_is_not_linked() {
    let (tags, _) = some();
    let before = tags.now();
    tags.invalidate(0, b"a");
    assert_eq!(tags.link(0, b"a", 1, Some(before)), Err(Refusal::Outdated));
    assert!(tags.is_outdated(0, b"a", before));
    assert!(!tags.is_outdated(0, b"b", before) && !tags.is_outdated(1, b"a", before));
    tags.unlink(tags.link(0, b"b", 1, Some(before)).expect("another tag"));
    let after = tags.now();
    tags.unlink(tags.link(0, b"a", 1, Some(after)).expect("began later"));
    tags.soften(0, b"a", NOW_MS);
    assert!(tags.is_outdated(0, b"a", after), "soft or not");
}

#[test]
fn there_are_so_many_tags_at_most() {
    let limits = Limits { generations: 1 };
    let (tags, _) = tags(limits);
    // Some two of many share a room.
    let names: Vec<String> = (0..1000).map(|name| name.to_string()).collect();
    let link = |name: &String| tags.link(0, name.as_bytes(), 1, None);
    let (links, refusals): (Vec<_>, Vec<_>) = names.iter().map(link).partition(Result::is_ok);
    assert_eq!((links.len(), tags.len()), (64, 64), "one in each room");
    assert!(
        refusals
            .iter()
            .all(|refusal| *refusal == Err(Refusal::TooMany))
    );
    links
        .into_iter()
        .flatten()
        .for_each(|link| tags.unlink(link));
    assert!(link(&names[0]).is_ok(), "there is room again");
}

#[test]
fn members_stay_what_they_are_while_they_are_looked_at() {
    let (tags, budget) = some();
    let one = link(&tags, "a", 1);
    let members = tags.members(0, b"a");
    assert_eq!(members.iter().collect::<Vec<_>>(), [(1, one)]);
    tags.unlink(one);
    let other = link(&tags, "b", 1);
    assert_ne!(
        other.generation, one.generation,
        "the number is still in use"
    );
    drop(members);
    tags.unlink(other);
    assert_eq!((tags.len(), budget.used()), (0, 0));
}

#[test]
fn a_scan_visits_each_tag_of_its_database_once() {
    let (tags, _) = some();
    let mut names: Vec<String> = (0..500).map(|name| name.to_string()).collect();
    for name in &names {
        link(&tags, name, 1);
    }
    tags.link(1, b"elsewhere", 1, None).expect("room");
    let (mut seen, mut cursor) = (Vec::new(), 0);
    loop {
        cursor = tags.scan(0, cursor, 7, |name| {
            seen.push(String::from_utf8(name.to_vec()).expect("digits"));
        });
        if cursor == 0 {
            break;
        }
    }
    seen.sort();
    names.sort();
    assert_eq!(seen, names);
    assert_eq!(
        tags.scan(0, u64::MAX, 7, |_| {}),
        0,
        "any cursor is harmless"
    );
}

#[test]
fn forgetting_a_database_leaves_the_others() {
    let (tags, budget) = some();
    for name in 0..200 {
        link(&tags, &name.to_string(), 1);
        tags.link(1, name.to_string().as_bytes(), 1, None)
            .expect("room");
    }
    tags.invalidate(0, b"7");
    let members = tags.members(0, b"8");
    drop(tags.clear(|db| db == 0));
    drop(members);
    assert!(!tags.has_outdated());
    assert_eq!(
        (tags.len(), tags.card(0, b"1"), tags.card(1, b"1")),
        (200, 0, 1)
    );
    let members = tags.members(1, b"8");
    drop(tags.clear(|_| true));
    drop(members);
    assert_eq!((tags.len(), tags.heap_bytes(), budget.used()), (0, 0, 0));
    assert!(tags.next_waiting(10).is_none());
}
