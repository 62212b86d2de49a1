//! What Prometheus is told of rules and origins.

use std::sync::Arc;

use prometheus::proto::{Metric, MetricType};

use super::gauge_metric as gauge;
use super::{Labelled as _, MILLIS_PER_SECOND, Page, counter_metric, float_of, float_of_u64};
use crate::policy::counts::Counts;
use crate::policy::{BreakerState, FailureKind, OriginReport, Table};

const STATES: [BreakerState; 3] = [
    BreakerState::Closed,
    BreakerState::Open,
    BreakerState::HalfOpen,
];

/// Adds them, if there are any.
pub(super) fn write(page: &mut Page, table: &Arc<Table>) {
    let rules = || {
        let rules = table.rules().iter();
        rules.map(|active| (active.rule.spec.name.as_str(), &*active.counts))
    };
    for (index, (name, help)) in Counts::MEANINGS.iter().enumerate() {
        let of_rule = |(rule, counts): (&str, &Counts)| {
            let count = counts.each().nth(index).map_or(0, |(_, count)| count);
            counter_metric(count).labelled("rule", rule)
        };
        let metrics = rules().map(of_rule).collect();
        let name = format!("rule_{name}_total");
        page.family(&name, help, MetricType::COUNTER, metrics);
    }
    let deltas = rules().map(|(rule, counts)| {
        let seconds = float_of_u64(counts.delta.get()) / MILLIS_PER_SECOND;
        gauge(seconds).labelled("rule", rule)
    });
    page.family(
        "rule_delta_seconds",
        "How long loads of a rule, or its clients, took lately to make a value.",
        MetricType::GAUGE,
        deltas.collect(),
    );
    let origins = table.set().origins().iter();
    let reports: Vec<(&str, OriginReport)> = origins
        .map(|origin| (origin.spec().name.as_str(), origin.report()))
        .collect();
    of_origins(page, &reports);
}

fn of_origins(page: &mut Page, reports: &[(&str, OriginReport)]) {
    let mut family = |name: &str, help: &str, kind, metric: fn(&OriginReport) -> Metric| {
        let metrics = reports.iter();
        let metrics = metrics.map(|(origin, report)| metric(report).labelled("origin", origin));
        page.family(name, help, kind, metrics.collect());
    };
    for (name, help, count) in [
        (
            "origin_calls_total",
            "Calls of an origin that were made.",
            (|report| counter_metric(report.calls)) as fn(&OriginReport) -> Metric,
        ),
        (
            "origin_succeeded_total",
            "Those that brought, stored or deleted a value.",
            |report| counter_metric(report.succeeded),
        ),
        (
            "origin_absent_total",
            "Those that were told that there is none.",
            |report| counter_metric(report.absent),
        ),
        (
            "origin_breaker_opened_total",
            "How often an origin was left alone as it failed.",
            |report| counter_metric(report.breaker_opened),
        ),
    ] {
        family(name, help, MetricType::COUNTER, count);
    }
    family(
        "origin_calls_under_way",
        "Calls of an origin under way.",
        MetricType::GAUGE,
        |report| gauge(float_of(report.under_way)),
    );
    family(
        "origin_calls_queued",
        "Calls that wait for their turn.",
        MetricType::GAUGE,
        |report| gauge(float_of(report.queued)),
    );
    let failures = reports.iter().flat_map(|(origin, report)| {
        let kinds = FailureKind::ALL.iter().zip(report.failures);
        kinds.map(|(kind, count)| {
            let metric = counter_metric(count).labelled("origin", origin);
            metric.labelled("kind", kind.name())
        })
    });
    page.family(
        "origin_failures_total",
        "Calls of an origin that failed, those that were not made included.",
        MetricType::COUNTER,
        failures.collect(),
    );
    let breakers = reports.iter().flat_map(|(origin, report)| {
        STATES.iter().map(|state| {
            let is_it = f64::from(u8::from(*state == report.breaker));
            let metric = gauge(is_it).labelled("origin", origin);
            metric.labelled("state", state.name())
        })
    });
    page.family(
        "origin_breaker",
        "Where the breaker of an origin stands: 1 for the state that holds.",
        MetricType::GAUGE,
        breakers.collect(),
    );
}
