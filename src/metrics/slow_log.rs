//! Commands that took long: `SLOWLOG`.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// A command that took long.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Counts up.
    pub id: u64,
    /// When it ran, unix time in s.
    pub at: u64,
    /// How long it ran, in µs.
    pub micros: u64,
    /// What was asked, cut to the first arguments and bytes.
    pub arguments: Vec<Vec<u8>>,
    /// Who asked.
    pub peer: String,
    /// The name it had given itself.
    pub name: Vec<u8>,
}

/// The last commands that took long, newest first.
#[derive(Debug, Default)]
pub struct SlowLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    entries: VecDeque<SlowEntry>,
}

impl SlowLog {
    /// Adds an entry, which is given its id, and drops those beyond `len_max`.
    pub fn add(&self, mut entry: SlowEntry, len_max: usize) {
        let mut inner = self.inner.lock();
        entry.id = inner.next_id;
        inner.next_id += 1;
        inner.entries.push_front(entry);
        inner.entries.truncate(len_max);
    }

    /// The newest `count` entries.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.inner
            .lock()
            .entries
            .iter()
            .take(count)
            .cloned()
            .collect()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries; ids go on.
    pub fn clear(&self) {
        self.inner.lock().entries.clear();
    }
}

/// The first arguments of a request, as the slow log keeps them (Redis's limits).
#[must_use]
pub fn shortened<'a>(arguments: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let total = arguments.len();
    let shown = if total > ARGUMENTS_MAX {
        ARGUMENTS_MAX - 1
    } else {
        total
    };
    let mut kept: Vec<Vec<u8>> = arguments
        .take(shown)
        .map(|argument| {
            if argument.len() <= ARGUMENT_BYTES_MAX {
                return argument.to_vec();
            }
            let more = argument.len() - ARGUMENT_BYTES_MAX;
            let mut cut = argument[..ARGUMENT_BYTES_MAX].to_vec();
            cut.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
            cut
        })
        .collect();
    if shown < total {
        kept.push(format!("... ({} more arguments)", total - shown).into_bytes());
    }
    kept
}

/// Redis's `SLOWLOG_ENTRY_MAX_ARGC`.
const ARGUMENTS_MAX: usize = 32;
/// Redis's `SLOWLOG_ENTRY_MAX_STRING`.
const ARGUMENT_BYTES_MAX: usize = 128;
