//! Where a missing value comes from: HTTP services, databases, commands, another Redis.
//!
//! An [`Origin`] is asked for one value at a time by [`Origin::load`], told of one by
//! [`Origin::store`] and [`Origin::delete`]. All of them go through the same gate: the breaker
//! leaves an origin alone that fails, and at most `concurrency` calls are under way while `queue`
//! more wait in order.
//!
//! Invariants: a call ends by its deadline, waiting for its turn and connecting included. Whatever
//! ends it, a panic and a caller that is gone included, frees its slot, its connection and its
//! process. What a client sent is filled into templates as a whole: a path segment, a bind
//! parameter, an argument, never a part of the language around it. Nothing here blocks a thread.

mod breaker;
mod command;
mod failure;
mod fill;
mod gate;
mod http;
mod pool;
mod redis;
mod sql;
#[cfg(test)]
pub(crate) mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};

use crate::config::rules::{OriginKind, OriginSpec, Secret, Text};

pub use breaker::State as BreakerState;
pub use failure::{Failure, FailureKind};
use gate::Gate;
pub use gate::OriginReport;

/// One call: which value, until when.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The whole key.
    pub key: &'a [u8],
    /// What the stars of the rule's pattern caught, the first star's first.
    pub captures: &'a [&'a [u8]],
    /// When the caller gives up.
    pub deadline: Instant,
}

/// A value that an origin has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value. Owns its bytes and no more than them.
    pub value: Bytes,
    /// How long it is fresh, where the origin says so. Zero: it is not to be kept.
    pub ttl: Option<Duration>,
    /// Its tags, where the origin says so.
    pub tags: Vec<Vec<u8>>,
}

impl Found {
    /// A value of which nothing else is known.
    fn of(value: Vec<u8>) -> Self {
        Self {
            value: Bytes::from(value),
            ttl: None,
            tags: Vec::new(),
        }
    }
}

/// What a call does, with the value to store where it does that.
#[derive(Debug, Clone, Copy)]
enum Verb<'a> {
    Load,
    Store(&'a [u8], Option<Duration>),
    Delete,
}

/// A place that values come from.
pub struct Origin {
    spec: OriginSpec,
    gate: Arc<Gate>,
    loader: Loader,
}

enum Loader {
    Http(http::Loader),
    Sql(sql::Loader),
    Command(command::Loader),
    Redis(redis::Loader),
    #[cfg(test)]
    Fake(tests::Fake),
}

impl Origin {
    /// An origin as its settings say. Nothing is connected to yet.
    ///
    /// # Errors
    /// What the settings name is not there: a variable, a certificate, a program.
    pub fn build(spec: &OriginSpec) -> Result<Arc<Self>, String> {
        Self::build_after(spec, None)
    }

    /// The same in the place of one of that name. Where the settings are the same, breaker, turns
    /// and counters go on; files and variables that they name are read anew.
    ///
    /// # Errors
    /// As for [`Self::build`].
    pub fn build_after(spec: &OriginSpec, before: Option<&Self>) -> Result<Arc<Self>, String> {
        let loader = match &spec.kind {
            OriginKind::Http(http) => Loader::Http(http::Loader::build(http)?),
            OriginKind::Sql(sql) => Loader::Sql(sql::Loader::build(sql)?),
            OriginKind::Command(command) => Loader::Command(command::Loader::build(command)),
            OriginKind::Redis(redis) => Loader::Redis(redis::Loader::build(redis)?),
        };
        let before = before.filter(|before| before.spec == *spec);
        let gate = before.map(|before| Arc::clone(&before.gate));
        Ok(Arc::new(Self {
            gate: gate.unwrap_or_else(|| Arc::new(Gate::new(spec))),
            spec: spec.clone(),
            loader,
        }))
    }

    #[cfg(test)]
    fn with(spec: &OriginSpec, loader: Loader) -> Arc<Self> {
        Arc::new(Self {
            gate: Arc::new(Gate::new(spec)),
            spec: spec.clone(),
            loader,
        })
    }

    /// The settings it was built from.
    #[must_use]
    pub fn spec(&self) -> &OriginSpec {
        &self.spec
    }

    /// Asks for the value. `None`: the origin says that there is none.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn load(&self, call: &Call<'_>) -> Result<Option<Found>, Failure> {
        self.run(call, Verb::Load).await
    }

    /// Tells it the value, and how long it is meant to last.
    ///
    /// # Errors
    /// Why it is not certain that it has the value now; of what was refused it is certain that it
    /// has not.
    pub async fn store(
        &self,
        call: &Call<'_>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), Failure> {
        match self.run(call, Verb::Store(value, ttl)).await? {
            Some(_) => Ok(()),
            None => {
                let text = "the origin has no place for this value";
                Err(Failure::new(FailureKind::Refused, text))
            }
        }
    }

    /// Tells it to forget the value. That it has none is no failure.
    ///
    /// # Errors
    /// Why it is not certain that it has none.
    pub async fn delete(&self, call: &Call<'_>) -> Result<(), Failure> {
        self.run(call, Verb::Delete).await.map(drop)
    }

    /// Whether it has a way to store a value.
    #[must_use]
    pub fn can_store(&self) -> bool {
        self.spec.can_store()
    }

    /// Whether it has a way to delete one.
    #[must_use]
    pub fn can_delete(&self) -> bool {
        self.spec.can_delete()
    }

    /// How it fares.
    #[must_use]
    pub fn report(&self) -> OriginReport {
        self.gate.report()
    }

    /// Runs a call through the gate, to its deadline.
    async fn run(&self, call: &Call<'_>, verb: Verb<'_>) -> Result<Option<Found>, Failure> {
        let slot = match self.gate.enter(call.deadline).await {
            Ok(slot) => slot,
            Err(failure) => return Err(self.gate.refused(failure)),
        };
        let asked = AssertUnwindSafe(self.ask(call, verb)).catch_unwind();
        let outcome = match timeout_at(call.deadline, asked).await {
            Ok(Ok(outcome)) => outcome.and_then(|found| self.bounded(found)),
            Ok(Err(_)) => Err(Failure::new(FailureKind::Crashed, "the loader crashed")),
            Err(_) => Err(Failure::new(FailureKind::Timeout, "no answer in time")),
        };
        slot.leave(&outcome);
        outcome
    }

    async fn ask(&self, call: &Call<'_>, verb: Verb<'_>) -> Result<Option<Found>, Failure> {
        let max_value = self.spec.max_value;
        match &self.loader {
            Loader::Http(http) => http.run(call, verb, max_value).await,
            Loader::Sql(sql) => sql.run(call, verb).await,
            Loader::Command(command) => command.run(call, verb, max_value).await,
            Loader::Redis(redis) => redis.run(call, verb, max_value).await,
            #[cfg(test)]
            Loader::Fake(fake) => fake.run(call).await,
        }
    }

    /// No loader gives more than was asked for, whatever its library hands out.
    fn bounded(&self, found: Option<Found>) -> Result<Option<Found>, Failure> {
        match found {
            Some(found) if found.value.len() > self.spec.max_value => {
                Err(Failure::too_large(self.spec.max_value))
            }
            other => Ok(other),
        }
    }
}

/// What a setting says, or the place it names. Blocks: for a start and a reload.
fn read(text: &Secret<Text>) -> Result<String, String> {
    text.0.read()
}
