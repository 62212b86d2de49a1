//! The sections of `CORRAL.INFO` that only a front has, and the one that it adds to its upstream's
//! `INFO`.

use std::sync::atomic::Ordering;

use super::{Facts, Lines, Section};
use crate::VERSION;
use crate::instance::Instance;
use crate::instance::front::{Report, hit_rate};

/// Those there are.
pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "Near",
        names: &["near"],
        is_default: true,
        write: near,
    },
    Section {
        title: "Upstream",
        names: &["upstream"],
        is_default: true,
        write: upstream,
    },
];

fn near(lines: &mut Lines, facts: &Facts<'_>) {
    let Some(report) = &facts.front else {
        lines.line("near_cache", "no");
        return;
    };
    let near = &report.since_reset;
    let misses = near.misses();
    lines.line("near_cache", "yes");
    lines.line("coherent", u8::from(report.is_coherent));
    lines.line("rung", report.rung);
    lines.line("staleness_bound_ms", report.staleness_bound.as_millis());
    lines.line("near_hits", near.hits);
    lines.line("near_misses", misses);
    for (cause, count) in near.causes() {
        lines.line(&format!("near_misses_{}", cause.replace('-', "_")), count);
    }
    lines.line("near_hit_rate", four_digits(near.hits, misses));
    for (name, count) in [
        ("near_stale_hits", near.stale_hits),
        ("near_joined", near.joined),
        ("near_round_trips_saved", near.hits + near.joined),
        ("near_fills", near.fills),
        ("near_discards", near.race_discards),
        ("near_refused_fills", near.refused_fills),
        ("near_full_fills", near.full_fills),
        ("near_picky", near.is_picky.into()),
        ("near_passed_over", near.passed_over),
        ("near_invalidations", near.invalidations),
        ("near_invalidations_effective", near.invalidations_effective),
        ("near_flushes", near.flushes),
        ("near_entries", near.entries as u64),
        ("near_bytes", near.bytes as u64),
        ("near_flights", near.flights as u64),
        ("shadow_checks", report.shadow.checks),
        ("shadow_races", report.shadow.races),
        ("stale_served_total", report.shadow.stale),
        ("upstream_touched_keys", report.touched),
        ("fences", report.fences),
        ("private_visits", report.private_visits),
        ("tracker_losses", report.tracker_losses),
    ] {
        lines.line(name, count);
    }
}

fn upstream(lines: &mut Lines, facts: &Facts<'_>) {
    let Some(upstream) = &facts.instance.upstream else {
        return;
    };
    lines.line("upstream_url", &upstream.url);
    let counters = &upstream.counters;
    for (name, counter) in [
        ("connections", &counters.connections),
        ("connect_failures", &counters.connect_failures),
        ("connections_lost", &counters.connections_lost),
        ("timeouts", &counters.timeouts),
        ("bytes_sent", &counters.bytes_sent),
        ("bytes_received", &counters.bytes_received),
        ("requests", &counters.requests),
        ("replies", &counters.replies),
        ("errors", &counters.errors),
    ] {
        let count = counter.load(Ordering::Relaxed);
        lines.line(&format!("upstream_{name}"), count);
    }
    let links = facts.front.iter().flat_map(|report| &report.links);
    for (number, link) in links.enumerate() {
        lines.line(
            &format!("upstream_connection_{}", number + 1),
            format_args!(
                "thread={},protocol={},state={},waiting={},armed={}",
                link.thread,
                link.protocol.version(),
                link.state,
                link.waiting,
                u8::from(link.is_armed)
            ),
        );
    }
}

/// The section `# Corral`, as it stands behind those of the upstream's `INFO`.
pub(crate) fn section_for_upstreams_info(instance: &Instance) -> String {
    let mut lines = Lines::default();
    lines.begin("Corral");
    lines.line("corral_version", VERSION);
    lines.line("mode", "front");
    if let Some(front) = instance.front() {
        counted(&mut lines, &front.report());
    } else {
        lines.line("near_cache", "no");
    }
    lines.0
}

fn counted(lines: &mut Lines, report: &Report) {
    let near = &report.since_reset;
    let misses = near.misses();
    lines.line("near_cache", "yes");
    lines.line("coherent", u8::from(report.is_coherent));
    lines.line("rung", report.rung);
    lines.line("near_hits", near.hits);
    lines.line("near_misses", misses);
    lines.line("near_hit_rate", four_digits(near.hits, misses));
    lines.line("near_entries", near.entries);
    lines.line("near_bytes", near.bytes);
}

fn four_digits(hits: u64, misses: u64) -> String {
    format!("{:.4}", hit_rate(hits, misses))
}
