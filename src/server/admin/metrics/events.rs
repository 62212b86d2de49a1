//! What Prometheus is told of events.

use std::sync::Arc;

use prometheus::proto::{Metric, MetricType};

use super::gauge_metric as gauge;
use super::{Labelled as _, Page, counter_metric, float_of_u64};
use crate::instance::events::{Counts, Source, State};

/// Adds them, if there are any.
pub(super) fn write(page: &mut Page, sources: &[Arc<Source>]) {
    let mut family = |name: &str, help: &str, kind, metric: &dyn Fn(&Source) -> Option<Metric>| {
        let metrics = sources.iter().filter_map(|source| {
            let metric = metric(source)?;
            Some(metric.labelled("event", &source.spec.name))
        });
        page.family(name, help, kind, metrics.collect());
    };
    for (index, (name, help)) in Counts::MEANINGS.iter().enumerate() {
        let name = format!("event_{name}_total");
        family(&name, help, MetricType::COUNTER, &|source| {
            Some(counter_metric(source.status.counts.each()[index]))
        });
    }
    family(
        "event_connected",
        "Whether the messages of an event come.",
        MetricType::GAUGE,
        &|source| {
            let is_connected = source.status.state().0 == State::Connected;
            Some(gauge(f64::from(u8::from(is_connected))))
        },
    );
    family(
        "event_idle_seconds",
        "How long ago the last message of an event was taken.",
        MetricType::GAUGE,
        &|source| source.status.idle_s().map(|idle| gauge(float_of_u64(idle))),
    );
}
