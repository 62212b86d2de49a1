//! `INFO`: everything about the server, in Redis's sections and by Redis's names, so that whoever
//! reads them of a Redis (exporters, clients, people) finds them here.
//!
//! What corral does not have (persistence, replication, scripts) has the values of a Redis that
//! does not use it.

mod events;
mod front;
mod loads;
mod sections;

use std::fmt::{Display, Write as _};

use super::super::Context;
use super::super::options::is_word;
use super::Result;
use super::memory::Memory;
use super::totals::Totals;
use crate::instance::front::Report;
use crate::metrics::Snapshot;
use crate::resp::Request;

pub(crate) use front::section_for_upstreams_info;

/// `INFO [section …]`
pub(in crate::command) fn info(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let is_front = context.instance.upstream.is_some();
    let instance = context.instance;
    let has_events = !instance.events.sources().is_empty();
    let wanted = wanted(request, is_front, instance.policy.is_on(), has_events);
    let mut lines = Lines::default();
    if !wanted.is_empty() {
        let facts = Facts::gather(context);
        for section in wanted {
            lines.begin(section.title);
            (section.write)(&mut lines, &facts);
        }
    }
    context.reply.verbatim("txt", lines.0.as_bytes());
    Ok(())
}

/// The sections that are asked for, each once, in their order.
fn wanted(
    request: &Request<'_>,
    is_front: bool,
    has_rules: bool,
    has_events: bool,
) -> Vec<&'static Section> {
    let asks = |words: &[&str]| {
        request
            .iter_from(1)
            .any(|asked| words.iter().any(|word| is_word(asked, word)))
    };
    let all = asks(&["all", "everything"]);
    let default = request.len() == 1 || asks(&["default"]);
    let is_wanted =
        |section: &&Section| all || (default && section.is_default) || asks(section.names);
    let of_front: &[Section] = if is_front { front::SECTIONS } else { &[] };
    // Who has no rules, and does not ask, is not told of them.
    let has_loads = has_rules || asks(loads::SECTIONS[0].names);
    let of_rules: &[Section] = if has_loads { loads::SECTIONS } else { &[] };
    let has_events = has_events || asks(events::SECTIONS[0].names);
    let of_events: &[Section] = if has_events { events::SECTIONS } else { &[] };
    let sections = of_front.iter().chain(sections::SECTIONS);
    let sections = sections.chain(of_rules).chain(of_events);
    sections.filter(is_wanted).collect()
}

/// A part of INFO.
struct Section {
    title: &'static str,
    /// What it can be asked for by.
    names: &'static [&'static str],
    /// Whether it is told where no section is asked for.
    is_default: bool,
    write: fn(&mut Lines, &Facts<'_>),
}

/// What all sections are written from: one moment.
struct Facts<'a> {
    instance: &'a crate::instance::Instance,
    totals: Totals,
    memory: Memory,
    /// Since the last CONFIG RESETSTAT.
    snapshot: Snapshot,
    /// Of a front with a near cache.
    front: Option<Report>,
}

impl<'a> Facts<'a> {
    fn gather(context: &mut Context<'a>) -> Self {
        let totals = Totals::of(context.instance, &mut context.view);
        let instance = context.instance;
        Self {
            instance,
            memory: Memory::of(instance, &totals),
            snapshot: instance.metrics.since_reset(totals.departures),
            totals,
            front: instance.front().map(|front| front.report()),
        }
    }
}

/// The text: `name:value` lines under `# Title` lines.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn begin(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\r\n");
        }
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# {title}\r\n");
    }

    fn line(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// Lines whose values are known beforehand.
    fn constants(&mut self, lines: &[(&str, &str)]) {
        for (name, value) in lines {
            self.line(name, value);
        }
    }

    /// A number of bytes, and the same in a unit that people can read.
    fn bytes(&mut self, name: &str, bytes: usize) {
        self.line(name, bytes);
        self.human(name, bytes);
    }

    fn human(&mut self, name: &str, bytes: usize) {
        let _ = write!(self.0, "{name}_human:{}\r\n", human(bytes));
    }
}

/// A number of bytes as people read it: `1.50M`.
fn human(bytes: usize) -> String {
    let mut unit = 1024_usize;
    for letter in ['K', 'M', 'G', 'T', 'P'] {
        let next = unit.saturating_mul(1024);
        if (unit..next).contains(&bytes) {
            return format!("{:.2}{letter}", super::memory::ratio(bytes, unit));
        }
        unit = next;
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::OwnedRequest;

    fn titles(line: &str) -> Vec<&'static str> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let owned = OwnedRequest::of(&words);
        wanted(&owned.as_request(), false, false, false)
            .iter()
            .map(|section| section.title)
            .collect()
    }

    #[test]
    fn sections_come_once_and_in_their_order_however_they_are_asked_for() {
        assert_eq!(titles("info KEYSPACE cpu Keyspace"), ["CPU", "Keyspace"]);
        assert_eq!(titles("info all cpu").len(), sections::SECTIONS.len());
        assert_eq!(titles("info default"), titles("info"));
        assert!(!titles("info").contains(&"Commandstats"));
        assert!(titles("info default commandstats").contains(&"Commandstats"));
        assert!(titles("info sentinel").is_empty());
    }

    #[test]
    fn bytes_are_told_as_redis_tells_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_572_864, "1.50M"),
            (25_276_510_208, "23.54G"),
            (1 << 40, "1.00T"),
            (1 << 60, "1152921504606846976B"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
