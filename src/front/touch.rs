//! `upstream-touch`: keys that are only read here look idle upstream, and would be evicted there.
//! So it is told of them now and then, by `TOUCH`.
//!
//! Of the keys that are hit between two times, each thread remembers the first of them, up to a
//! number: the more often a key is read, the sooner it is among them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::pool::Pool;
use super::waiting::Waiting;
use super::wire::request_of;
use crate::clock;
use crate::store::Key;
use crate::upstream::own;

/// Keys that one thread remembers at most, and how long they are at most.
const KEYS_MAX: usize = 4096;
const KEY_BYTES_MAX: usize = 512;
/// Keys of one `TOUCH`: what upstream does without a pause.
const BATCH_KEYS_MAX: usize = 64;
/// How often it is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keys that were hit, by their hash, in each database.
#[derive(Default)]
pub(super) struct Touches(RefCell<HashMap<u32, Keys>>);

type Keys = HashMap<u64, Box<[u8]>, ahash::RandomState>;

impl Touches {
    pub(super) fn note(&self, database: u32, key: Key<'_>) {
        let mut databases = self.0.borrow_mut();
        let known: usize = databases.values().map(HashMap::len).sum();
        let keys = databases.entry(database).or_default();
        if known < KEYS_MAX && key.bytes.len() <= KEY_BYTES_MAX {
            keys.entry(key.hash).or_insert_with(|| key.bytes.into());
        }
    }
}

impl Pool {
    /// Tells upstream of the keys that were hit, as often as is set.
    pub(super) async fn touch(self: Rc<Self>) {
        let mut last = clock::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let every = self.front.instance.config().upstream_touch;
            if every.is_zero() || last.elapsed() >= every {
                last = clock::now();
                let databases = self.touches.0.take();
                if !every.is_zero() {
                    self.touch_now(&databases);
                }
            }
        }
    }

    fn touch_now(&self, databases: &HashMap<u32, Keys>) {
        let Some(link) = self.any_link() else {
            return;
        };
        for (&database, keys) in databases {
            let keys: Vec<&[u8]> = keys.values().map(|key| &**key).collect();
            for batch in keys.chunks(BATCH_KEYS_MAX) {
                let request = request_of(&[&[own::TOUCH], batch].concat());
                link.send(database, &request, Waiting::Nobody);
            }
            let told = &self.front.touched;
            told.fetch_add(keys.len() as u64, Ordering::Relaxed);
        }
    }
}
