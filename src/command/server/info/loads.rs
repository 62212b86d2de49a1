//! The section of INFO about rules and origins: what came of their loads and leases.

use std::fmt::Write as _;

use super::{Facts, Lines, Section};
use crate::policy::{Active, FailureKind, Origin};

/// The one there is. It is told where there are rules, or who asks for it by its name.
pub(super) const SECTIONS: &[Section] = &[Section {
    title: "Loads",
    names: &["loads"],
    is_default: true,
    write: loads,
}];

fn loads(lines: &mut Lines, facts: &Facts<'_>) {
    let policy = &facts.instance.policy;
    let table = policy.table();
    lines.line("rules", table.rules().len());
    lines.line("origins", table.set().origins().len());
    lines.line("keys_under_way", policy.under_way());
    for (number, active) in table.rules().iter().enumerate() {
        lines.line(&format!("rule_{number}"), rule(active));
    }
    for (number, origin) in table.set().origins().iter().enumerate() {
        lines.line(&format!("origin_{number}"), of_origin(origin));
    }
}

/// What was counted since there is a rule of that name.
fn rule(active: &Active) -> String {
    let spec = &active.rule.spec;
    let mut line = format!("name={}", word(&spec.name));
    let origin = spec.origin.as_deref().unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(line, ",origin={}", word(origin));
    for (name, count) in active.counts.each() {
        let _ = write!(line, ",{name}={count}");
    }
    let _ = write!(line, ",delta_ms={}", active.counts.delta.get());
    line
}

fn of_origin(origin: &Origin) -> String {
    let report = origin.report();
    let mut line = format!("name={}", word(&origin.spec().name));
    let _ = write!(line, ",breaker={}", report.breaker.name());
    for (name, count) in [
        ("breaker_opened", report.breaker_opened),
        ("under_way", report.under_way as u64),
        ("queued", report.queued as u64),
        ("calls", report.calls),
        ("succeeded", report.succeeded),
        ("absent", report.absent),
    ] {
        let _ = write!(line, ",{name}={count}");
    }
    for (kind, count) in FailureKind::ALL.iter().zip(report.failures) {
        let _ = write!(line, ",failed_{}={count}", kind.name());
    }
    line
}

/// A name as it can stand between commas.
pub(super) fn word(name: &str) -> String {
    let shown = |c: char| {
        if c == ',' || c.is_control() { '?' } else { c }
    };
    name.chars().map(shown).collect()
}
