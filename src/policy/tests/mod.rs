//! What this room promises. With the feature `shuttle`, only what its scheduler runs.

#[cfg(feature = "shuttle")]
mod interleavings;
#[cfg(not(feature = "shuttle"))]
mod journeys;

use super::*;
use crate::config::rules;
use crate::origin::Found;
use crate::origin::tests::{Step, origin_with};
use crate::store::{Options, Tuning};

/// A policy whose only origin is the test's. Its loads run on this runtime.
fn policy_on(
    runtime: Handle,
    rule: &str,
    answer: impl Fn() -> Step + Send + Sync + 'static,
) -> Arc<Policy> {
    let store = Store::new(&Options {
        shards: 4,
        databases: 2,
        bytes_max: None,
        tuning: Tuning::default(),
        now_ms: clock::unix_ms(),
    });
    let policy = Policy::new(Arc::new(store));
    policy.runtime.set(runtime).unwrap();
    let no_limits = |spec: &mut rules::OriginSpec| {
        (spec.concurrency, spec.queue) = (1_000_000, 0);
        spec.breaker.failures = 0;
    };
    let set = RuleSet::build(&rules::parse(rule).unwrap()).unwrap();
    let set = set.with_origin(&origin_with(no_limits, answer));
    policy.store.observe();
    *policy.shared.table.write() = Arc::new(Table::new(set, &Table::default()));
    policy.shared.is_on.store(true, Ordering::Release);
    policy
}

fn value(number: usize) -> Found {
    Found {
        value: bytes::Bytes::from(number.to_string()),
        ttl: None,
        tags: Vec::new(),
    }
}
