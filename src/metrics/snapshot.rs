//! All that is counted at one moment, and since the last `CONFIG RESETSTAT`.

use std::collections::BTreeMap;

use super::COMMAND_COUNT;
use super::counters::{Counts, Departures, Metrics};
use super::histogram::Totals;

/// Everything that is counted, threads added up.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The plain counters.
    pub counts: Counts,
    /// By the command's index; empty before the first `CONFIG RESETSTAT`.
    pub commands: Vec<CommandCounts>,
    /// Error replies by their code; none is 0.
    pub errors: BTreeMap<String, u64>,
}

/// What is counted of one command, threads added up.
#[derive(Clone, Debug, Default)]
pub struct CommandCounts {
    /// How often it ran.
    pub calls: u64,
    /// For how long, in ns.
    pub nanos: u64,
    /// How often it was refused before it ran.
    pub rejected: u64,
    /// How often it ran and replied an error.
    pub failed: u64,
    /// The distribution of its run times, if it was kept of any.
    pub histogram: Option<Box<Totals>>,
}

impl Metrics {
    /// Everything since the start.
    #[must_use]
    pub fn since_start(&self, departures: Departures) -> Snapshot {
        Snapshot {
            counts: self.counts(departures),
            commands: (0..COMMAND_COUNT)
                .map(|index| self.command(index))
                .collect(),
            errors: self.errors.counts(),
        }
    }

    /// Everything since the last [`Self::reset`].
    #[must_use]
    pub fn since_reset(&self, departures: Departures) -> Snapshot {
        let mut now = self.since_start(departures);
        now.subtract(&self.baseline.lock());
        now
    }

    /// The plain counters since the last [`Self::reset`].
    #[must_use]
    pub fn counts_since_reset(&self, departures: Departures) -> Counts {
        let mut now = self.counts(departures);
        now.subtract(&self.baseline.lock().counts);
        now
    }

    /// Begins to count anew, as far as [`Self::since_reset`] tells.
    pub fn reset(&self, departures: Departures) {
        *self.baseline.lock() = self.since_start(departures);
        self.rates.clear();
    }

    fn command(&self, index: usize) -> CommandCounts {
        let mut sum = CommandCounts::default();
        for thread in &self.threads {
            let command = &thread.commands[index];
            sum.calls += command.calls.value();
            sum.nanos += command.nanos.value();
            sum.rejected += command.rejected.value();
            sum.failed += command.failed.value();
            if command.histogram.is_used() {
                command
                    .histogram
                    .add_to(sum.histogram.get_or_insert_default());
            }
        }
        sum
    }
}

impl Snapshot {
    /// Commands that ran, error replies or not.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.commands.iter().map(|command| command.calls).sum()
    }

    /// Error replies of all codes.
    #[must_use]
    pub fn error_replies(&self) -> u64 {
        self.errors.values().sum()
    }

    fn subtract(&mut self, before: &Self) {
        self.counts.subtract(&before.counts);
        for (command, before) in self.commands.iter_mut().zip(&before.commands) {
            command.subtract(before);
        }
        self.errors.retain(|code, count| {
            *count -= before.errors.get(code).copied().unwrap_or(0).min(*count);
            *count > 0
        });
    }
}

impl CommandCounts {
    /// Whether there is anything to tell of it.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.calls == 0 && self.rejected == 0 && self.failed == 0
    }

    fn subtract(&mut self, before: &Self) {
        self.calls = self.calls.saturating_sub(before.calls);
        self.nanos = self.nanos.saturating_sub(before.nanos);
        self.rejected = self.rejected.saturating_sub(before.rejected);
        self.failed = self.failed.saturating_sub(before.failed);
        if let (Some(now), Some(before)) = (&mut self.histogram, &before.histogram) {
            now.subtract(before);
            if now.count() == 0 {
                self.histogram = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_hides_what_was_before_and_counters_go_on_rising() {
        let metrics = Metrics::new(2);
        let departures = Departures {
            evicted: 3,
            expired: 1,
            ..Departures::default()
        };
        metrics.threads[0].hits.add(5);
        metrics.threads[1].commands[7].ran(2, 1000, true);
        metrics.errors.count(b"ERR no");
        metrics.reset(departures);
        metrics.threads[1].hits.add(2);
        metrics.errors.count(b"OOM full");

        let since = metrics.since_reset(Departures {
            evicted: 4,
            expired: 1,
            ..Departures::default()
        });
        assert_eq!(
            (
                since.counts.hits,
                since.counts.evicted,
                since.counts.expired
            ),
            (2, 1, 0)
        );
        assert!(since.commands[7].is_silent() && since.commands[7].histogram.is_none());
        assert_eq!(
            since.errors.into_iter().collect::<Vec<_>>(),
            [("OOM".to_owned(), 1)]
        );
        assert_eq!(metrics.since_start(departures).counts.hits, 7);
        assert_eq!(metrics.since_start(departures).calls(), 2);
    }
}
