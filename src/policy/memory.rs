//! What is remembered of keys that have no value: that there is none, or why it is not known.
//!
//! Apart from the values and bounded apart, so that a scan for keys that do not exist can never
//! push out a value. On the way of misses only: a look-up takes about 1 µs.

use std::sync::Arc;
use std::time::Duration;

use mini_moka::sync::Cache;

use crate::store::Stamp;

/// A key, in the tables of a database.
type Key = (u16, Box<[u8]>);

/// What a rule remembers.
pub(super) struct Memory {
    absent: Option<Cache<Key, Stamp>>,
    failed: Option<Cache<Key, Arc<str>>>,
}

/// What is remembered of a key.
#[derive(Debug)]
pub(super) enum Recalled {
    /// There was no value when it was last looked for.
    Absent(Stamp),
    /// It could not be loaded, and why.
    Failed(Arc<str>),
}

impl Memory {
    /// Remembers for so long each; not at all, for zero.
    pub(super) fn new(absent_for: Duration, failed_for: Duration) -> Self {
        Self {
            absent: cache(absent_for, |_| 0),
            failed: cache(failed_for, |text: &Arc<str>| text.len()),
        }
    }

    pub(super) fn recall(&self, db: u16, key: &[u8]) -> Option<Recalled> {
        let key = (db, key.into());
        if let Some(failed) = self.failed.as_ref()
            && let Some(text) = failed.get(&key)
        {
            return Some(Recalled::Failed(text));
        }
        let absent = self.absent.as_ref()?;
        absent.get(&key).map(Recalled::Absent)
    }

    pub(super) fn note_absent(&self, db: u16, key: &[u8], since: Stamp) {
        if let Some(absent) = &self.absent {
            absent.insert((db, key.into()), since);
        }
    }

    pub(super) fn note_failed(&self, db: u16, key: &[u8], text: &Arc<str>) {
        if let Some(failed) = &self.failed {
            failed.insert((db, key.into()), Arc::clone(text));
        }
    }

    /// Forgets a key: it may have a value now.
    pub(super) fn forget(&self, db: u16, key: &[u8]) {
        let key = (db, key.into());
        if let Some(absent) = &self.absent {
            absent.invalidate(&key);
        }
        if let Some(failed) = &self.failed {
            failed.invalidate(&key);
        }
    }

    /// Forgets all keys.
    pub(super) fn forget_all(&self) {
        if let Some(absent) = &self.absent {
            absent.invalidate_all();
        }
        if let Some(failed) = &self.failed {
            failed.invalidate_all();
        }
    }
}

fn cache<V: Clone + Send + Sync + 'static>(
    keep: Duration,
    len: fn(&V) -> usize,
) -> Option<Cache<Key, V>> {
    if keep.is_zero() {
        return None;
    }
    let weigher = move |key: &Key, value: &V| {
        u32::try_from(ENTRY_BYTES + key.1.len() + len(value)).unwrap_or(u32::MAX)
    };
    let cache = Cache::builder()
        .max_capacity(BYTES_MAX)
        .weigher(weigher)
        .time_to_live(keep);
    Some(cache.build())
}

/// What a rule's memory of one kind may take, in bytes.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What an entry costs beside its key and its value, measured.
const ENTRY_BYTES: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_forgotten_when_its_key_changes() {
        let memory = Memory::new(Duration::from_secs(5), Duration::from_secs(5));
        memory.note_absent(0, b"a", Stamp::default());
        memory.note_failed(0, b"b", &"why".into());
        assert!(matches!(memory.recall(0, b"a"), Some(Recalled::Absent(_))));
        assert!(matches!(memory.recall(0, b"b"), Some(Recalled::Failed(text)) if &*text == "why"));
        assert!(memory.recall(1, b"a").is_none(), "of another database");
        memory.forget(0, b"a");
        memory.forget(0, b"b");
        assert!(memory.recall(0, b"a").is_none());
        assert!(memory.recall(0, b"b").is_none());
    }

    #[test]
    fn a_scan_for_absent_keys_takes_bounded_memory() {
        let memory = Memory::new(Duration::from_secs(60), Duration::ZERO);
        for number in 0..200_000_u32 {
            memory.note_absent(0, &number.to_le_bytes(), Stamp::default());
        }
        let absent = memory.absent.as_ref().expect("it remembers");
        // What was written last is weighed with the next read.
        let counted = absent.iter().count() as u64;
        assert!(
            counted * (ENTRY_BYTES as u64 + 4) <= BYTES_MAX + BYTES_MAX / 8,
            "{counted}"
        );
    }
}
