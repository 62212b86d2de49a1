//! Events that took long: `LATENCY HISTORY` and its kin.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

/// When, unix time in s, and how long, in ms.
pub type Sample = (u64, u32);

/// What is kept of one kind of event.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// The last ones, oldest first; one for a second, the longest.
    pub samples: VecDeque<Sample>,
    /// The longest ever, in ms.
    pub max_ms: u32,
}

/// The last events of each kind that took longer than `latency-monitor-threshold`.
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    events: Mutex<BTreeMap<&'static str, Event>>,
}

impl LatencyMonitor {
    /// Adds an event.
    pub fn add(&self, kind: &'static str, at: u64, millis: u32) {
        let mut events = self.events.lock();
        let event = events.entry(kind).or_default();
        event.max_ms = event.max_ms.max(millis);
        if let Some(last) = event.samples.back_mut()
            && last.0 == at
        {
            last.1 = last.1.max(millis);
            return;
        }
        if event.samples.len() == SAMPLES_MAX {
            event.samples.pop_front();
        }
        event.samples.push_back((at, millis));
    }

    /// Everything that is kept, by kind.
    #[must_use]
    pub fn events(&self) -> BTreeMap<&'static str, Event> {
        self.events.lock().clone()
    }

    /// Forgets a kind of event; whether there was one.
    pub fn forget(&self, kind: &[u8]) -> bool {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|name, _| !name.as_bytes().eq_ignore_ascii_case(kind));
        events.len() < before
    }

    /// Forgets all kinds; how many there were.
    pub fn forget_all(&self) -> usize {
        std::mem::take(&mut *self.events.lock()).len()
    }
}

/// Redis's `LATENCY_TS_LEN`.
const SAMPLES_MAX: usize = 160;
