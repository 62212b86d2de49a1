//! What the latency events tell an operator, in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::config::Config;
use crate::metrics::latency::Event;

/// A report of all events, and what to look at.
pub(super) fn report(events: &BTreeMap<&'static str, Event>, config: &Config) -> String {
    if events.is_empty() {
        return nothing_seen(config);
    }
    let mut report = String::from("Events that took longer than latency-monitor-threshold:\n\n");
    for (number, (kind, event)) in events.iter().enumerate() {
        let Summary {
            mean_ms,
            deviation_ms,
            period_s,
        } = Summary::of(event);
        // Writing to a String cannot fail.
        let _ = writeln!(
            report,
            "{}. {kind}: {} latency spikes (average {mean_ms}ms, mean deviation {deviation_ms}ms, \
             period {period_s:.2} sec). Worst all time event {}ms.",
            number + 1,
            event.samples.len(),
            event.max_ms,
        );
    }
    report.push_str("\nWhat to look at:\n\n");
    for kind in events.keys() {
        report.push_str(advice(kind));
    }
    if config.slowlog_log_slower_than.is_none() {
        report.push_str(
            "- The slow log is off. CONFIG SET slowlog-log-slower-than 10000 turns it on; it names \
             the commands.\n",
        );
    }
    report
}

fn nothing_seen(config: &Config) -> String {
    if config.latency_monitor_threshold.is_zero() {
        "Latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it \
         on: every event that takes longer is then kept.\n"
            .to_owned()
    } else {
        format!(
            "No event took longer than {} ms (latency-monitor-threshold) so far.\n",
            config.latency_monitor_threshold.as_millis()
        )
    }
}

fn advice(kind: &str) -> &'static str {
    match kind {
        "command" => {
            "- Slow commands: SLOWLOG GET shows which. Those that visit all keys (KEYS, FLUSHALL) \
             or long values take long by nature; SCAN goes in small steps.\n"
        }
        "fast-command" => {
            "- Commands that are quick by nature took long: the process was not running. Look for \
             too little processor time, swapping, or a machine under it that is overcommitted.\n"
        }
        "expire-cycle" => {
            "- Removing expired keys took long: very many, or very long ones, expire at the same \
             time. Spread their expiries.\n"
        }
        _ => "",
    }
}

/// What the samples of an event have in common.
struct Summary {
    mean_ms: u64,
    /// The mean distance from the mean.
    deviation_ms: u64,
    /// The mean time from one to the next, in s.
    period_s: f64,
}

impl Summary {
    fn of(event: &Event) -> Self {
        let count = u64::try_from(event.samples.len())
            .unwrap_or(u64::MAX)
            .max(1);
        let millis = || event.samples.iter().map(|&(_, millis)| u64::from(millis));
        let mean_ms = millis().sum::<u64>() / count;
        let deviation_ms = millis().map(|one| one.abs_diff(mean_ms)).sum::<u64>() / count;
        let first = event.samples.front().map_or(0, |&(at, _)| at);
        let last = event.samples.back().map_or(0, |&(at, _)| at);
        #[expect(clippy::cast_precision_loss, reason = "seconds that fit 52 bits")]
        let period_s = last.saturating_sub(first) as f64 / count as f64;
        Self {
            mean_ms,
            deviation_ms,
            period_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_each_event_and_says_what_to_look_at() {
        let event = Event {
            samples: [(10, 300), (20, 500)].into_iter().collect(),
            max_ms: 500,
        };
        let report = report(&BTreeMap::from([("command", event)]), &Config::default());
        assert!(
            report.contains(
                "1. command: 2 latency spikes (average 400ms, mean deviation 100ms, period 5.00 \
                 sec). Worst all time event 500ms.\n"
            ),
            "{report}"
        );
        assert!(report.contains("SLOWLOG GET"), "{report}");
    }

    #[test]
    fn without_events_it_says_whether_anybody_looks() {
        let nothing = BTreeMap::new();
        assert!(report(&nothing, &Config::default()).starts_with("Latency monitoring is off."));
        let config = Config::default()
            .set(&[(b"latency-monitor-threshold", b"100")])
            .unwrap();
        assert!(report(&nothing, &config).starts_with("No event took longer than 100 ms"));
    }
}
