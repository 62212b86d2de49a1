//! What the policy knows of one key, and what a GET of it would come to, for people. Changes
//! nothing and counts nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::lease::{ClientId, Lease};
use super::memory::Recalled;
use super::reads::Window;
use super::works::Work;
use super::{Active, Policy, Table, millis, xfetch};
use crate::clock;
use crate::keyspace::{Place, View};

/// What is known of a key: names and sentences.
#[derive(Debug, Default)]
pub struct KeyReport {
    /// How it stands.
    pub facts: Vec<(&'static str, String)>,
    /// What a GET would do, where that is not plain: a hit or a miss.
    pub get: Option<String>,
}

/// What is at work on a key.
enum Under {
    Nothing,
    Load,
    Lease(Leased),
}

/// How a lease stands.
struct Leased {
    holder: Option<ClientId>,
    waiting: usize,
    left: Duration,
}

impl Leased {
    fn of(lease: &Lease) -> Self {
        Self {
            holder: lease.holder(),
            waiting: lease.waiting(),
            left: lease.until().saturating_duration_since(clock::now()),
        }
    }
}

impl Policy {
    /// Tells of a key, to this client. The shard of the key is locked.
    pub fn explain(
        &self,
        table: Option<&Table>,
        view: &mut View<'_>,
        place: Place<'_>,
        client: ClientId,
    ) -> KeyReport {
        let mut report = KeyReport::default();
        let active = table.and_then(|table| table.find(place.key.bytes));
        let db = view.locked().physical(place.db);
        let under = self.under(db, place.key.bytes);
        let recalled = active.and_then(|active| self.recall(active, db, place.key.bytes));
        report.rule(table, active);
        report.freshness(view, place, active, recalled.as_ref());
        report.work(&under);
        if let Some(active) = active {
            report.origin(active);
            let window = active.window(view, place);
            if !view.contains(place) {
                report.get = would(active, recalled, window, &under, client);
            }
        }
        report
    }

    /// The same of a key that is kept elsewhere, by the Redis behind a front: what a GET does that
    /// finds nothing there.
    pub fn explain_elsewhere(&self, db: u16, key: &[u8]) -> KeyReport {
        let mut report = KeyReport::default();
        let table = self.is_on().then(|| self.table());
        let active = table.as_deref().and_then(|table| table.find(key));
        report.rule(table.as_deref(), active);
        let Some(active) = active.filter(|active| active.rule.origin.is_some()) else {
            return report;
        };
        let recalled = self.recall(active, db, key);
        let under = self.under(db, key);
        report.remembered(recalled.as_ref());
        report.work(&under);
        report.origin(active);
        report.get = Some(would_load(active, recalled, None, &under));
        report
    }

    fn under(&self, db: u16, key: &[u8]) -> Under {
        self.shared.works.with(db, key, |work| match work {
            Some(Work::Load(_)) => Under::Load,
            Some(Work::Lease(lease)) => Under::Lease(Leased::of(lease)),
            Some(Work::Kept(_)) | None => Under::Nothing,
        })
    }
}

impl KeyReport {
    fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.facts.push((name, text.into()));
    }

    fn rule(&mut self, table: Option<&Table>, active: Option<&Arc<Active>>) {
        match (table, active) {
            (_, Some(active)) => {
                let (name, pattern) = (&active.rule.spec.name, &active.rule.spec.pattern);
                let number = active.rule.index + 1;
                self.add("rule", format!("{number}: {name} (match {pattern})"));
            }
            (Some(table), None) => {
                let count = table.rules().len();
                self.add("rule", format!("none of {count} matches"));
            }
            (None, None) => self.add("rule", "none: there are no rules"),
        }
    }

    fn freshness(
        &mut self,
        view: &mut View<'_>,
        place: Place<'_>,
        active: Option<&Arc<Active>>,
        recalled: Option<&Recalled>,
    ) {
        let now_ms = view.now_ms();
        let is_fresh = view.contains(place);
        let entry = view
            .peek(place)
            .map(|entry| (entry.expires_at(), entry.loaded()));
        let left_over = || {
            view.peek_stale(place)
                .map(|entry| (entry.expires_at(), entry.loaded()))
        };
        let entry = entry.or_else(left_over);
        let times = entry.and_then(|(expires_at, loaded)| Some((expires_at?.get(), loaded?)));
        let freshness = match (is_fresh, entry, recalled) {
            (true, ..) => "fresh".to_owned(),
            (false, _, Some(Recalled::Absent(_))) => {
                "remembered absent: its origin has none".to_owned()
            }
            (false, None, Some(Recalled::Failed(text))) => format!("remembered failure: {text}"),
            (false, Some(_), Some(Recalled::Failed(text))) => format!("stale, and failed: {text}"),
            (false, Some((Some(at), _)), None) => {
                format!("stale for {} ms", now_ms.saturating_sub(at.get()))
            }
            (false, Some((None, _)) | None, None) => "absent".to_owned(),
        };
        self.add("freshness", freshness);
        if let Some((expires_at, loaded)) = times
            && loaded.ttl_ms > 0
        {
            let age_ms = (now_ms + u64::from(loaded.ttl_ms)).saturating_sub(expires_at);
            self.add("age", format!("{age_ms} ms of {}", loaded.ttl_ms));
        }
        if let Some((_, Some(loaded))) = entry
            && loaded.delta_ms > 0
        {
            self.add("delta", format!("{} ms to make it", loaded.delta_ms));
        }
        let Some(active) = active else { return };
        let beta = active.rule.spec.beta;
        let mut line = format!("{beta}");
        if let Some((expires_at, loaded)) = times.filter(|_| is_fresh) {
            let chance = xfetch::chance(expires_at.saturating_sub(now_ms), loaded, beta);
            let _ = write!(line, ": a read now refreshes by a chance of {chance:.6}");
        }
        self.add("beta", line);
        self.windows(active);
    }

    fn remembered(&mut self, recalled: Option<&Recalled>) {
        let remembered = match recalled {
            Some(Recalled::Absent(_)) => "its origin has none".to_owned(),
            Some(Recalled::Failed(text)) => format!("a failure: {text}"),
            None => return,
        };
        self.add("remembered", remembered);
    }

    fn windows(&mut self, active: &Active) {
        let spec = &active.rule.spec;
        let windows = [
            ("while it is loaded again", spec.stale_while_revalidate),
            ("if that fails", spec.stale_if_error),
        ];
        let told: Vec<String> = windows
            .iter()
            .filter(|(_, window)| !window.is_zero())
            .map(|(when, window)| format!("{} ms {when}", millis(*window)))
            .collect();
        let told = if told.is_empty() {
            "never".to_owned()
        } else {
            told.join(", ")
        };
        self.add("stale-served", told);
    }

    fn work(&mut self, under: &Under) {
        match under {
            Under::Nothing => {}
            Under::Load => self.add("load", "under way"),
            Under::Lease(Leased {
                holder,
                waiting,
                left,
            }) => {
                let left_ms = millis(*left);
                let line = match holder {
                    Some(holder) => format!(
                        "held by client {holder} for {left_ms} ms more, {waiting} wait for it"
                    ),
                    None => format!("ended without a value; nobody waits for {left_ms} ms more"),
                };
                self.add("lease", line);
            }
        }
    }

    fn origin(&mut self, active: &Active) {
        let Some(origin) = &active.rule.origin else {
            return;
        };
        let report = origin.report();
        let (name, breaker) = (&origin.spec().name, report.breaker.name());
        let (under_way, queued) = (report.under_way, report.queued);
        self.add(
            "origin",
            format!("{name}: breaker {breaker}, {under_way} calls under way, {queued} wait"),
        );
    }
}

/// What a GET of a key without a fresh value would do.
fn would(
    active: &Active,
    recalled: Option<Recalled>,
    window: Option<Window>,
    under: &Under,
    client: ClientId,
) -> Option<String> {
    if active.rule.origin.is_some() {
        return Some(would_load(active, recalled, window, under));
    }
    if !active.has_lease() {
        return None;
    }
    let is_stale = window.is_some();
    Some(match under {
        Under::Lease(lease) if lease.holder == Some(client) => {
            "reply nil: this client has the lease, and is to set the key".to_owned()
        }
        Under::Lease(Leased { left, .. }) if left.is_zero() => {
            "reply nil, and give this client the lease, as its holder is late".to_owned()
        }
        Under::Lease(lease) => match lease.holder {
            None => "reply nil: the last lease ended without a value".to_owned(),
            Some(holder) if is_stale => {
                format!("be answered with the stale value, while client {holder} makes the next")
            }
            Some(holder) => format!("wait until client {holder} has set the key"),
        },
        Under::Nothing | Under::Load => {
            "reply nil, and give this client the lease: others wait for it".to_owned()
        }
    })
}

fn would_load(
    active: &Active,
    recalled: Option<Recalled>,
    window: Option<Window>,
    under: &Under,
) -> String {
    let origin = active.rule.spec.origin.as_deref().unwrap_or_default();
    match (recalled, window) {
        (Some(Recalled::Absent(_)), _) => {
            "reply nil: it is remembered that the origin has none".to_owned()
        }
        (Some(Recalled::Failed(_)), Some(_)) => {
            "be answered with the stale value, as the last load failed".to_owned()
        }
        (Some(Recalled::Failed(_)), None) => "reply the failure that is remembered".to_owned(),
        (None, Some(Window::WhileRevalidate)) => {
            "be answered with the stale value, while it is loaded again".to_owned()
        }
        (None, Some(Window::IfError) | None) => match under {
            Under::Load => "wait for the load that is under way".to_owned(),
            Under::Nothing | Under::Lease(_) => format!("wait for a load from {origin}"),
        },
    }
}
