//! The life of one event: connect, take messages, invalidate, acknowledge; and again.
//!
//! A [`Feed`] is a kind of event. It is asked for the next messages only when those before are
//! done, so what comes faster than it can be done waits where it comes from. Whatever happened
//! while nobody listened is swept before the first message is taken, unless the feed goes on where
//! it was.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::effect::{Invalidation, Refused, invalidate};
use super::message::{Message, Names, Unusable};
use super::sweep::sweep;
use crate::clock;
use crate::instance::Instance;
use crate::instance::events::{Source, State};
use crate::upstream::shared::Backoff;

/// Messages that are taken together.
pub(super) const BATCH_MAX: usize = 256;
/// Keys and tags that are invalidated together.
const NAMES_AT_ONCE: usize = 1024;
/// How long it may take to connect, and to acknowledge.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A connection that lived for so long was a good one.
const LONG_LIVED: Duration = Duration::from_secs(5);
/// How often the log is told of messages that cannot be used, and of upstream's refusals.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A kind of event.
pub(super) trait Feed {
    /// Connects. Called again after the connection was lost.
    async fn open(&mut self) -> Result<Opened, String>;

    /// Waits for messages, and takes some.
    ///
    /// # Errors
    /// How the connection was lost.
    async fn next(&mut self, batch: &mut Batch) -> Result<(), String>;

    /// What was taken last is done.
    ///
    /// # Errors
    /// How the connection was lost.
    async fn done(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// What was sent before a feed was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Comes still.
    Resumed,
    /// Is lost.
    Anew,
    /// Is lost in part, of what this server should have taken.
    Gone,
}

/// Messages that were taken together, or why one cannot be used.
pub(super) type Batch = Vec<Result<Message, Unusable>>;

/// What runs one event.
pub(super) struct Runner {
    pub(super) instance: Arc<Instance>,
    pub(super) source: Arc<Source>,
    pub(super) stop: watch::Receiver<bool>,
    /// Messages may have been lost that named keys of ours.
    may_have_missed: bool,
    /// They have been, and that is not swept yet.
    must_sweep: bool,
    unusable: Seldom,
    refused: Seldom,
}

/// What the log is told now and then, however often it happens.
#[derive(Default)]
struct Seldom {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// It happened. How often since the log was told, if it is to be told.
    fn happened(&mut self) -> Option<u64> {
        self.untold += 1;
        let now = clock::now();
        if self.told.is_some_and(|told| now - told < LOG_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Runner {
    /// `is_restarted`: there was one of that name, and nobody listened since it ended.
    pub(super) fn new(
        instance: Arc<Instance>,
        source: Arc<Source>,
        stop: watch::Receiver<bool>,
        is_restarted: bool,
    ) -> Self {
        Self {
            // What a store has may have come in since the server began. What upstream has is older
            // than we are: to remove it all at each start would be a stampede at each start.
            may_have_missed: instance.upstream.is_none() || is_restarted,
            must_sweep: false,
            instance,
            source,
            stop,
            unusable: Seldom::default(),
            refused: Seldom::default(),
        }
    }

    /// Runs it until it is told to stop.
    pub(super) async fn run(mut self, mut feed: impl Feed) {
        let mut backoff = Backoff::default();
        while !*self.stop.borrow() {
            let opened = tokio::select! {
                _ = self.stop.changed() => break,
                opened = timeout(ANSWER_MAX, feed.open()) => opened,
            };
            let opened = opened.unwrap_or_else(|_| Err(no_answer()));
            let began = clock::now();
            let why = match opened {
                Ok(opened) => match self.serve(&mut feed, opened).await {
                    Ok(()) => break,
                    Err(why) => why,
                },
                Err(why) => why,
            };
            if began.elapsed() > LONG_LIVED {
                backoff = Backoff::default();
            }
            self.lost(&why);
            tokio::select! {
                _ = self.stop.changed() => {}
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    fn lost(&mut self, why: &str) {
        self.may_have_missed = true;
        let status = &self.source.status;
        status.counts.lost.fetch_add(1, Ordering::Relaxed);
        let event = &self.source.spec.name;
        if status.turn(State::Lost) {
            tracing::warn!(event, why, "no events come: the connection is lost");
        } else {
            tracing::debug!(event, why, "no events come: cannot connect");
        }
    }

    /// Takes messages until it is told to stop.
    async fn serve(&mut self, feed: &mut impl Feed, opened: Opened) -> Result<(), String> {
        let event = self.source.spec.name.clone();
        self.must_sweep |= match opened {
            Opened::Resumed => false,
            Opened::Anew => self.may_have_missed,
            Opened::Gone => true,
        };
        self.sweep_if_needed().await?;
        self.may_have_missed = false;
        if self.source.status.turn(State::Connected) {
            tracing::info!(event, "events come");
        }
        let mut batch = Batch::new();
        loop {
            batch.clear();
            tokio::select! {
                biased;
                _ = self.stop.changed() => return Ok(()),
                taken = feed.next(&mut batch) => taken?,
            }
            let mut messages = batch.iter();
            self.must_sweep = messages.any(|message| message == &Err(Unusable::Gone));
            self.sweep_if_needed().await?;
            if !self.apply(&batch).await {
                return Ok(());
            }
            let done = timeout(ANSWER_MAX, feed.done()).await;
            done.unwrap_or_else(|_| Err(no_answer()))?;
            // Others have events, too.
            tokio::task::yield_now().await;
        }
    }

    async fn sweep_if_needed(&mut self) -> Result<(), String> {
        if !self.must_sweep {
            return Ok(());
        }
        let spec = &self.source.spec;
        let swept = sweep(&self.instance, spec).await?;
        let count = u64::try_from(swept).unwrap_or(u64::MAX);
        let counts = &self.source.status.counts;
        counts.swept.fetch_add(count, Ordering::Relaxed);
        let is_first = self.source.status.state().0 == State::Connecting;
        if swept > 0 || !is_first {
            let event = &spec.name;
            tracing::warn!(
                event,
                keys = swept,
                "events may have been lost: what they could have named is stale or removed"
            );
        }
        self.must_sweep = false;
        Ok(())
    }

    /// Does what messages say. False: it was told to stop, and it is not done.
    async fn apply(&mut self, batch: &Batch) -> bool {
        let counts = &self.source.status.counts;
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if count > 0 {
            counts.received.fetch_add(count, Ordering::Relaxed);
            counts.last_ms.store(clock::unix_ms(), Ordering::Relaxed);
        }
        let mut names = Names::default();
        for message in batch {
            let made = match message {
                Ok(message) => names.add(message, &self.source.spec),
                Err(why) => Err(why.clone()),
            };
            if let Err(why) = made {
                self.cannot_use(&why);
            }
            if names.len() >= NAMES_AT_ONCE && !self.invalidate(&mut names).await {
                return false;
            }
        }
        names.len() == 0 || self.invalidate(&mut names).await
    }

    fn cannot_use(&mut self, why: &Unusable) {
        let counts = &self.source.status.counts;
        counts.unusable.fetch_add(1, Ordering::Relaxed);
        if let Some(messages) = self.unusable.happened() {
            let event = &self.source.spec.name;
            tracing::warn!(event, %why, messages, "a message cannot be used");
        }
    }

    /// Invalidates, for as long as it takes. False: it was told to stop, and it is not done.
    async fn invalidate(&mut self, names: &mut Names) -> bool {
        let names = std::mem::take(names);
        let (keys, tags) = (names.keys.len(), names.tags.len());
        let mut backoff = Backoff::default();
        let spec = &self.source.spec;
        loop {
            let asked = Invalidation {
                db: spec.db,
                keys: names.keys.clone(),
                tags: names.tags.clone(),
                is_soft: spec.is_soft,
            };
            let refused = match invalidate(&self.instance, asked).await {
                Ok(done) => {
                    let counts = &self.source.status.counts;
                    for (counter, more) in [
                        (&counts.keys, keys),
                        (&counts.tags, tags),
                        (&counts.removed, done.keys),
                        (&counts.of_tags, done.of_tags),
                    ] {
                        let more = u64::try_from(more).unwrap_or(u64::MAX);
                        counter.fetch_add(more, Ordering::Relaxed);
                    }
                    return true;
                }
                Err(Refused::Upstream(why)) => why,
                Err(refused @ Refused::Unsupported(_)) => refused.to_string(),
            };
            if let Some(times) = self.refused.happened() {
                let event = &spec.name;
                tracing::warn!(
                    event,
                    why = refused,
                    times,
                    "cannot invalidate: tries again"
                );
            }
            tokio::select! {
                _ = self.stop.changed() => return false,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }
}

fn no_answer() -> String {
    format!("did not answer within {ANSWER_MAX:?}")
}
