//! A server for the model: values that change and expire, connections it tracks reads for, and
//! pushes on their way.

use std::collections::{HashMap, HashSet, VecDeque};

use super::NS_PER_MS;
use super::model::{CHANNELS, DATABASES, KEYS};

/// A value at the server. The version tells it from all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) version: u64,
    pub(super) is_there: bool,
    pub(super) expires_ns: u64,
}

pub(super) enum Message {
    Key(usize, u64),
    Flush(u64),
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) values: HashMap<(u16, usize), Value>,
    /// When which version came to be, the oldest first.
    pub(super) history: HashMap<(u16, usize), Vec<(u64, u64)>>,
    pub(super) versions: u64,
    /// Whether a connection is up, and the keys it has read.
    pub(super) is_up: [bool; CHANNELS],
    pub(super) tracked: [HashSet<usize>; CHANNELS],
    pub(super) messages: VecDeque<Message>,
}

impl Server {
    pub(super) fn write(&mut self, db: u16, key: usize, ttl_ms: Option<u64>, now_ns: u64) -> u64 {
        self.versions += 1;
        let version = self.versions;
        let value = Value {
            version,
            is_there: ttl_ms != Some(0),
            expires_ns: ttl_ms.map_or(u64::MAX, |ms| now_ns + ms * NS_PER_MS),
        };
        self.values.insert((db, key), value);
        let history = self.history.entry((db, key)).or_default();
        history.push((now_ns, version));
        // The tracking knows no databases.
        let mut is_tracked = false;
        for tracked in &mut self.tracked {
            is_tracked |= tracked.remove(&key);
        }
        if is_tracked {
            self.messages.push_back(Message::Key(key, version));
        }
        version
    }

    pub(super) fn flush(&mut self, now_ns: u64) {
        for db in 0..DATABASES {
            for key in 0..KEYS.len() {
                self.write(db, key, Some(0), now_ns);
            }
        }
        self.tracked = Default::default();
        if self.is_up[0] {
            self.messages.push_back(Message::Flush(self.versions));
        }
    }

    pub(super) fn read(&mut self, db: u16, key: usize, now_ns: u64) -> Value {
        let absent = Value {
            version: 0,
            is_there: false,
            expires_ns: u64::MAX,
        };
        let value = *self.values.get(&(db, key)).unwrap_or(&absent);
        if value.is_there && value.expires_ns <= now_ns {
            self.write(db, key, Some(0), now_ns);
            return self.values[&(db, key)];
        }
        value
    }

    /// The version that was there at a moment.
    pub(super) fn version_at(&self, db: u16, key: usize, ns: u64) -> u64 {
        let history = self.history.get(&(db, key)).into_iter().flatten();
        let before = history.take_while(|(at_ns, _)| *at_ns <= ns);
        before.last().map_or(0, |(_, version)| *version)
    }
}
