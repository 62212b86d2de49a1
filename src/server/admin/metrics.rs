//! What Prometheus is told: the counters since the start, the present sizes, and the distribution
//! of every command's run time.
//!
//! Names begin with `corral_`, units are seconds and bytes. Labels are names of commands, error
//! codes, numbers of databases, rules, origins and events of the file: never anything a client can
//! make up.

mod events;
mod loads;

use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus::proto::{Bucket, Counter as CounterValue, Gauge, Histogram, LabelPair};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{Error, TextEncoder};

use crate::command::server::{Memory, Totals};
use crate::command::table::COMMANDS;
use crate::instance::Instance;
use crate::instance::front::{Report, STALE_AGES_MS, ShadowReport};
use crate::keyspace::View;
use crate::metrics::Snapshot;
use crate::metrics::histogram::Totals as Durations;
use crate::metrics::process::{self, ProcessorTime};
use crate::metrics::snapshot::CommandCounts;
use crate::upstream::Counters;
use crate::{VERSION, clock};

/// The metrics of this moment in Prometheus's text format.
///
/// # Errors
/// When a metric is malformed, which a test excludes.
pub(super) fn render(instance: &Instance) -> Result<String, Error> {
    let mut view = View::new(instance.store.lock_none(), clock::unix_ms());
    let totals = Totals::of(instance, &mut view);
    let snapshot = instance.metrics.since_start(totals.departures);
    let mut page = Page::default();
    for counter in snapshot.counts.named() {
        page.counter(
            &format!("{}_total", counter.name),
            counter.help,
            counter.value,
        );
    }
    commands(&mut page, &snapshot);
    // The items of a front are copies.
    match instance.front() {
        Some(front) => near(&mut page, &front.report()),
        None => keyspace(&mut page, &totals),
    }
    loads::write(&mut page, &instance.policy.table());
    events::write(&mut page, &instance.events.sources());
    memory(&mut page, instance, &totals);
    server(&mut page, instance);
    if let Some(upstream) = &instance.upstream {
        upstream_counters(&mut page, &upstream.counters);
    }
    TextEncoder::new().encode_to_string(&page.families)
}

fn commands(page: &mut Page, snapshot: &Snapshot) {
    let known = || {
        let both = COMMANDS.iter().zip(&snapshot.commands);
        both.filter(|(_, counts)| !counts.is_silent())
    };
    let mut counter = |name: &str, help: &str, count: fn(&CommandCounts) -> u64| {
        let metrics = known().map(|(command, counts)| {
            counter_metric(count(counts)).labelled("command", command.name)
        });
        page.family(name, help, MetricType::COUNTER, metrics.collect());
    };
    counter("commands_total", "Commands run.", |counts| counts.calls);
    counter(
        "command_failures_total",
        "Commands that ran and replied an error.",
        |counts| counts.failed,
    );
    counter(
        "command_rejections_total",
        "Commands refused before they ran.",
        |counts| counts.rejected,
    );
    let durations = known().filter_map(|(command, counts)| {
        let durations = counts.histogram.as_ref()?;
        Some(histogram_metric(durations, counts.nanos).labelled("command", command.name))
    });
    page.family(
        "command_duration_seconds",
        "How long commands ran, while latency-tracking is on.",
        MetricType::HISTOGRAM,
        durations.collect(),
    );
    let errors = snapshot.errors.iter();
    let errors = errors.map(|(code, &count)| counter_metric(count).labelled("code", code));
    page.family(
        "error_replies_total",
        "Error replies by their code.",
        MetricType::COUNTER,
        errors.collect(),
    );
}

fn keyspace(page: &mut Page, totals: &Totals) {
    let filled = || {
        totals
            .databases
            .iter()
            .enumerate()
            .filter(|(_, database)| database.keys > 0)
    };
    let keys = filled().map(|(number, database)| {
        gauge_metric(float_of(database.keys)).labelled("db", &number.to_string())
    });
    page.family(
        "keys",
        "Keys in a database.",
        MetricType::GAUGE,
        keys.collect(),
    );
    let volatile = filled().map(|(number, database)| {
        gauge_metric(float_of(database.volatile)).labelled("db", &number.to_string())
    });
    page.family(
        "keys_with_expiry",
        "Keys in a database that expire.",
        MetricType::GAUGE,
        volatile.collect(),
    );
}

fn memory(page: &mut Page, instance: &Instance, totals: &Totals) {
    let memory = Memory::of(instance, totals);
    let bound = instance.store.budget().max().unwrap_or(0);
    page.gauge(
        "memory_used_bytes",
        "What keys and values take.",
        float_of(memory.used),
    );
    page.gauge(
        "memory_peak_bytes",
        "The most they ever took.",
        float_of(memory.peak),
    );
    page.gauge(
        "memory_max_bytes",
        "What they may take; 0 is no bound.",
        float_of(bound),
    );
    page.gauge(
        "memory_tables_bytes",
        "The part of it that tables take.",
        float_of(memory.lists),
    );
    page.gauge(
        "client_buffers_bytes",
        "What clients' buffers take.",
        float_of(memory.clients),
    );
    page.gauge(
        "process_resident_memory_bytes",
        "What the process has in RAM.",
        float_of(memory.resident),
    );
}

fn server(page: &mut Page, instance: &Instance) {
    let config = instance.config();
    let cpu = ProcessorTime::of_process();
    let cpu = [("user", cpu.user), ("system", cpu.system)];
    page.gauge(
        "connected_clients",
        "Clients connected.",
        float_of(instance.clients.len()),
    );
    page.gauge(
        "connected_clients_max",
        "Clients that may be connected (maxclients).",
        f64::from(config.maxclients),
    );
    page.gauge(
        "slowlog_entries",
        "Entries in the slow log.",
        float_of(instance.slow_log.len()),
    );
    page.family(
        "process_cpu_seconds_total",
        "Processor time used.",
        MetricType::COUNTER,
        cpu.map(|(mode, time)| float_counter_metric(time.as_secs_f64()).labelled("mode", mode))
            .into(),
    );
    page.gauge(
        "process_open_fds",
        "File descriptors in use.",
        float_of(process::open_files()),
    );
    let started = Duration::from_millis(instance.started_ms).as_secs_f64();
    page.gauge(
        "process_start_time_seconds",
        "When it was started, unix time.",
        started,
    );
    let version = gauge_metric(1.0).labelled("version", VERSION);
    page.family(
        "build_info",
        "The version that runs.",
        MetricType::GAUGE,
        vec![version],
    );
}

fn near(page: &mut Page, report: &Report) {
    let stats = &report.near;
    for (name, help, count) in [
        ("near_hits", "Reads answered by a fresh copy.", stats.hits),
        (
            "near_stale_hits",
            "Reads answered by a stale copy, the upstream having failed.",
            stats.stale_hits,
        ),
        (
            "near_joined",
            "Reads that joined one under way.",
            stats.joined,
        ),
        ("near_fills", "Replies kept.", stats.fills),
        (
            "near_discards",
            "Replies not kept, as their key was voided on their way.",
            stats.race_discards,
        ),
        (
            "near_refused_fills",
            "Replies not kept for what they are.",
            stats.refused_fills,
        ),
        (
            "near_full_fills",
            "Replies not kept, as there was no room.",
            stats.full_fills,
        ),
        (
            "near_passed_over",
            "Replies not kept, as the first of their key while few copies are read again.",
            stats.passed_over,
        ),
        (
            "near_invalidations",
            "Invalidations received from the upstream.",
            stats.invalidations,
        ),
        (
            "near_invalidations_effective",
            "Those that removed a copy or voided a read.",
            stats.invalidations_effective,
        ),
        (
            "near_flushes",
            "Times everything was voided at once.",
            stats.flushes,
        ),
    ] {
        page.counter(&format!("{name}_total"), help, count);
    }
    misses(page, report);
    shadow(page, report);
    coherence(page, report);
}

fn shadow(page: &mut Page, report: &Report) {
    let shadow = &report.shadow;
    for (name, help, count) in [
        (
            "shadow_checks",
            "Reads answered from memory that were compared with the upstream.",
            shadow.checks,
        ),
        (
            "shadow_races",
            "Those that differed as their key was changing.",
            shadow.races,
        ),
        (
            "stale_served",
            "Those that were stale: the upstream had not told of the change.",
            shadow.stale,
        ),
        (
            "upstream_touched_keys",
            "Keys that the upstream was told to take for used.",
            report.touched,
        ),
    ] {
        page.counter(&format!("{name}_total"), help, count);
    }
    page.family(
        "stale_served_age_seconds",
        "How long before a stale copy that was served had been read.",
        MetricType::HISTOGRAM,
        vec![stale_ages(shadow)],
    );
}

fn stale_ages(shadow: &ShadowReport) -> Metric {
    let mut upto = 0;
    let buckets = STALE_AGES_MS
        .iter()
        .zip(&shadow.ages)
        .map(|(bound, count)| {
            upto += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(float_of_u64(*bound) / MILLIS_PER_SECOND);
            bucket.set_cumulative_count(upto);
            bucket
        });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(shadow.ages.iter().sum());
    histogram.set_sample_sum(float_of_u64(shadow.ages_sum_ms) / MILLIS_PER_SECOND);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

fn misses(page: &mut Page, report: &Report) {
    let stats = &report.near;
    let causes = stats.causes();
    let causes = causes.iter();
    let misses = causes.map(|(cause, count)| counter_metric(*count).labelled("cause", cause));
    page.family(
        "near_misses_total",
        "Reads not answered from memory.",
        MetricType::COUNTER,
        misses.collect(),
    );
    page.gauge("near_entries", "Keys with copies.", float_of(stats.entries));
    page.gauge("near_bytes", "What the copies take.", float_of(stats.bytes));
    page.gauge(
        "near_picky",
        "1 while only what is read for the second time is kept.",
        f64::from(u8::from(stats.is_picky)),
    );
    page.gauge("near_flights", "Reads under way.", float_of(stats.flights));
}

fn coherence(page: &mut Page, report: &Report) {
    for (name, help, count) in [
        (
            "fences",
            "Replies that waited until what had changed was known.",
            report.fences,
        ),
        (
            "private_visits",
            "Times a client was given an upstream connection of its own.",
            report.private_visits,
        ),
        (
            "tracker_losses",
            "Times the connection was lost over which changes are told.",
            report.tracker_losses,
        ),
    ] {
        page.counter(&format!("{name}_total"), help, count);
    }
    page.gauge(
        "coherent",
        "Whether the upstream tells what changes, and did within the bound.",
        f64::from(u8::from(report.is_coherent)),
    );
    let rungs = ["tracking", "broadcast", "ttl", "none"].iter().map(|rung| {
        let holds = f64::from(u8::from(*rung == report.rung));
        gauge_metric(holds).labelled("rung", rung)
    });
    page.family(
        "rung",
        "How the upstream tells what changes: 1 for the way in force.",
        MetricType::GAUGE,
        rungs.collect(),
    );
    page.gauge(
        "staleness_bound_seconds",
        "How old a value from memory can be at most.",
        report.staleness_bound.as_secs_f64(),
    );
    shared_connections(page, report);
}

fn shared_connections(page: &mut Page, report: &Report) {
    let states = ["idle", "connecting", "open", "lost"].iter().map(|state| {
        let links = report.links.iter().filter(|link| link.state == *state);
        gauge_metric(float_of(links.count())).labelled("state", state)
    });
    page.family(
        "upstream_shared_connections",
        "Connections that clients share, by their state.",
        MetricType::GAUGE,
        states.collect(),
    );
    let waiting = report.links.iter().map(|link| link.waiting).sum();
    page.gauge(
        "upstream_shared_waiting",
        "Requests over them that are not yet answered.",
        float_of(waiting),
    );
    let armed = report.links.iter().filter(|link| link.is_armed).count();
    page.gauge(
        "upstream_shared_armed",
        "Those of them of whose reads changes are told.",
        float_of(armed),
    );
}

fn upstream_counters(page: &mut Page, counters: &Counters) {
    for (name, help, counter) in [
        (
            "connections",
            "Connections opened to the upstream.",
            &counters.connections,
        ),
        (
            "connect_failures",
            "Connections that could not be opened.",
            &counters.connect_failures,
        ),
        (
            "connections_lost",
            "Connections that ended without us asking for it.",
            &counters.connections_lost,
        ),
        (
            "timeouts",
            "Connections given up as the upstream was silent.",
            &counters.timeouts,
        ),
        (
            "sent_bytes",
            "Bytes sent to the upstream.",
            &counters.bytes_sent,
        ),
        (
            "received_bytes",
            "Bytes received from the upstream.",
            &counters.bytes_received,
        ),
        (
            "requests",
            "Requests passed on to the upstream.",
            &counters.requests,
        ),
        (
            "replies",
            "Replies and pushes passed on from the upstream.",
            &counters.replies,
        ),
        (
            "errors",
            "Error replies made here, as the upstream gave none.",
            &counters.errors,
        ),
    ] {
        page.counter(
            &format!("upstream_{name}_total"),
            help,
            counter.load(Ordering::Relaxed),
        );
    }
}

/// Families of metrics in the making.
#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    /// Adds a family; one without a metric is left out.
    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(format!("corral_{name}"));
        family.set_help(help.trim().to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, MetricType::COUNTER, vec![counter_metric(value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, MetricType::GAUGE, vec![gauge_metric(value)]);
    }
}

fn counter_metric(value: u64) -> Metric {
    float_counter_metric(float_of_u64(value))
}

fn float_counter_metric(value: f64) -> Metric {
    let mut counter = CounterValue::default();
    counter.set_value(value);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric
}

fn gauge_metric(value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    Metric::from_gauge(gauge)
}

/// A histogram with a bucket for each power of four from 1 µs to 4 s, at which ours end too.
fn histogram_metric(durations: &Durations, nanos: u64) -> Metric {
    let buckets = (FIRST_POWER..=LAST_POWER).step_by(2).map(|power| {
        let bound = 1_u64 << power;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(float_of_u64(bound) / NANOS_PER_SECOND);
        bucket.set_cumulative_count(durations.count_below(bound));
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.count());
    histogram.set_sample_sum(float_of_u64(nanos) / NANOS_PER_SECOND);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

const FIRST_POWER: u32 = 10;
const LAST_POWER: u32 = 32;
const NANOS_PER_SECOND: f64 = 1e9;
const MILLIS_PER_SECOND: f64 = 1e3;

/// Gives a metric one more label.
trait Labelled {
    fn labelled(self, name: &str, value: &str) -> Self;
}

impl Labelled for Metric {
    fn labelled(mut self, name: &str, value: &str) -> Self {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        let mut labels = self.get_label().to_vec();
        labels.push(label);
        self.set_label(labels);
        self
    }
}

fn float_of(count: usize) -> f64 {
    float_of_u64(count as u64)
}

/// Prometheus's numbers are floats: exact up to 2⁵³.
#[expect(
    clippy::cast_precision_loss,
    reason = "the format has no other numbers"
)]
fn float_of_u64(count: u64) -> f64 {
    count as f64
}
