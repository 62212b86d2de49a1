//! The section of INFO about events: who tells what changed, and what came of it.

use std::fmt::Write as _;

use super::loads::word;
use super::{Facts, Lines, Section};
use crate::instance::events::{Counts, Source};

/// The one there is. It is told where there are events, or who asks for it by its name.
pub(super) const SECTIONS: &[Section] = &[Section {
    title: "Events",
    names: &["events"],
    is_default: true,
    write: events,
}];

fn events(lines: &mut Lines, facts: &Facts<'_>) {
    let sources = facts.instance.events.sources();
    lines.line("events", sources.len());
    for (number, source) in sources.iter().enumerate() {
        lines.line(&format!("event_{number}"), event(source));
    }
}

fn event(source: &Source) -> String {
    let (state, for_s) = source.status.state();
    let mut line = format!("name={}", word(&source.spec.name));
    // Writing to a String cannot fail.
    let _ = write!(line, ",kind={}", source.spec.kind_name());
    let _ = write!(line, ",state={},state_s={for_s}", state.name());
    let counts = source.status.counts.each();
    for ((name, _), count) in Counts::MEANINGS.iter().zip(counts) {
        let _ = write!(line, ",{name}={count}");
    }
    match source.status.idle_s() {
        Some(seconds) => drop(write!(line, ",last_event_s={seconds}")),
        None => line.push_str(",last_event_s=-1"),
    }
    line
}
