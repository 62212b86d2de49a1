//! What is promised, and what a check found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::history::Nanos;

/// How many examples of each violation are shown.
const SHOWN_MAX: usize = 5;

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Property {
    /// A write acknowledged through a front is seen by whoever begins to read there afterwards.
    ReadYourWrites,
    /// A client never reads an older state of a key than it has read.
    MonotonicReads,
    /// A write acknowledged by Redis is seen through every front after the bound.
    BoundedStaleness,
    /// When nobody writes any more, a front says what Redis says.
    Quiescence,
    /// What is read was written to that key, and nil only where it may be absent.
    InventedValue,
    /// A value is not read after its expiry.
    TtlOutlived,
    /// Each EXEC that succeeded counts.
    LostUpdate,
    /// Every request is answered.
    Hang,
    /// Reads past all fronts are current: if not, the checker or Redis is wrong.
    RedisItself,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    counts: BTreeMap<Property, usize>,
    examples: Vec<String>,
    /// Reads through fronts.
    pub(crate) reads: usize,
    pub(crate) writes: usize,
    /// For each read through a front that did not see a write acknowledged before it: how long
    /// before. Sorted.
    pub(crate) staleness: Vec<Nanos>,
}

impl Report {
    pub(crate) fn has(&self, property: Property) -> bool {
        self.counts.contains_key(&property)
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// Counts a violation; the first of each kind are told.
    pub(crate) fn found(&mut self, property: Property, what: impl FnOnce() -> String) {
        let count = self.counts.entry(property).or_default();
        *count += 1;
        if *count <= SHOWN_MAX {
            self.examples.push(format!("{property:?}: {}", what()));
        }
    }

    /// The staleness that this share of the stale reads do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = share * self.staleness.len().saturating_sub(1) as f64;
        let index = (0..self.staleness.len()).find(|&index| index as f64 >= rank);
        index.map_or(Duration::ZERO, |index| {
            Duration::from_nanos(self.staleness[index])
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        write!(
            formatter,
            "{} writes, {} reads, {} of them stale (p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms)",
            self.writes,
            self.reads,
            self.staleness.len(),
            ms(self.quantile(0.5)),
            ms(self.quantile(0.99)),
            ms(self.quantile(1.0)),
        )?;
        if !self.is_clean() {
            write!(formatter, "; violations {:?}", self.counts)?;
            for example in &self.examples {
                write!(formatter, "\n    {example}")?;
            }
        }
        Ok(())
    }
}
