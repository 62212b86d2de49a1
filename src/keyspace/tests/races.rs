//! Threads that write, invalidate and read what carries one tag.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::Instant;

use super::super::{NotStored, Place, View};
use crate::store::{Options, Store, Tuning, Write};

const NOW_MS: u64 = 1_000_000;
const KEYS: [&[u8]; 2] = [b"a", b"b"];
const TAG: &[u8] = b"t";
const LASTS: Duration = Duration::from_millis(500);

struct World {
    store: Store,
    /// Ticks with each beginning of a value and of an invalidation.
    clock: AtomicU64,
    /// Nothing that began before may be seen by who reads now.
    floor: AtomicU64,
    is_over: AtomicBool,
}

impl World {
    fn new() -> Self {
        Self {
            store: Store::new(&Options {
                shards: 16,
                databases: 1,
                bytes_max: None,
                tuning: Tuning::default(),
                now_ms: NOW_MS,
            }),
            clock: AtomicU64::new(1),
            floor: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    fn places(&self) -> [Place<'static>; 2] {
        KEYS.map(|key| Place {
            db: 0,
            key: self.store.key(key),
        })
    }

    fn view(&self) -> View<'_> {
        let hashes = self.places().map(|place| place.key.hash);
        View::new(self.store.lock_apart(hashes.into_iter()), NOW_MS)
    }

    /// Stores one new value under both keys, unless it is outdated by then.
    fn write(&self) {
        let since = self.store.tags().now();
        let began = self.clock.fetch_add(1, SeqCst).to_be_bytes();
        std::thread::yield_now();
        let mut view = self.view();
        for place in self.places() {
            let write = Write {
                value: &began,
                ..Write::default()
            };
            let stored = view.write_tagged(place, write, [TAG].into_iter(), Some(since));
            assert!(matches!(stored, Ok(()) | Err(NotStored::Outdated)));
        }
    }

    fn invalidate(&self, is_soft: bool) {
        let began = self.clock.fetch_add(1, SeqCst);
        let mut view = View::new(self.store.lock_none(), NOW_MS);
        view.invalidate_tags(0, [TAG].into_iter(), is_soft);
        self.floor.fetch_max(began, SeqCst);
    }

    fn read(&self) {
        let floor = self.floor.load(SeqCst);
        let mut view = self.view();
        let seen = self.places().map(|place| {
            std::thread::yield_now();
            let entry = view.peek(place)?;
            let bytes = entry.value().try_into().expect("a tick");
            Some(u64::from_be_bytes(bytes))
        });
        assert_eq!(seen[0], seen[1], "both are written and outdated together");
        assert!(
            seen[0].is_none_or(|began| began > floor),
            "{seen:?} {floor}"
        );
    }

    fn reclaim(&self) {
        if !self.store.reclaim(NOW_MS, 4) {
            std::thread::yield_now();
        }
    }

    fn until_over(&self, mut step: impl FnMut()) {
        while !self.is_over.load(SeqCst) {
            step();
        }
    }
}

#[test]
fn who_reads_after_an_invalidation_sees_nothing_that_began_before() {
    for is_soft in [false, true] {
        let world = World::new();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| world.until_over(|| world.write()));
                scope.spawn(|| world.until_over(|| world.read()));
            }
            scope.spawn(|| world.until_over(|| world.invalidate(is_soft)));
            scope.spawn(|| world.until_over(|| world.reclaim()));
            let since = Instant::now();
            while since.elapsed() < LASTS {
                std::thread::yield_now();
            }
            world.is_over.store(true, SeqCst);
        });
        let mut view = world.view();
        for place in world.places() {
            view.remove(place);
        }
        drop(view);
        assert!(world.store.tags().is_empty());
    }
}
