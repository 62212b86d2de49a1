//! Writes that go to the origin first, and then to the cache: write-through.
//!
//! The writes of one key go one after the other, from before the origin is asked until the cache is
//! written, so both end with the same one. What the origin refuses changes nothing. Where it is not
//! known what the origin did, or nobody is left to write the cache, the key is removed: the next
//! read asks the origin.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Active, Policy, Table};
use crate::clock;
use crate::keyspace::{Place, View};
use crate::origin::{Call, Failure, FailureKind};
use crate::store::Stamp;

/// One key of a write.
pub struct Through {
    /// The database, as clients number it.
    pub db: u16,
    /// The key.
    pub key: Box<[u8]>,
    /// Its value from now on; none: it is to be deleted.
    pub value: Option<Box<[u8]>>,
    /// How long the value is meant to last.
    pub ttl: Option<Duration>,
    active: Arc<Active>,
}

/// What the origin has to take before the cache may be written.
pub struct Passing {
    done: oneshot::Receiver<Result<Passage, Refused>>,
}

/// An origin did not take it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What clients are told, with its code.
    pub text: Arc<str>,
    /// Whether an origin may have taken a part of it all the same. What the cache has of the keys
    /// is not to be trusted then; our own store has nothing of them any more.
    pub is_doubtful: bool,
}

impl Refused {
    fn before(text: impl Into<Arc<str>>) -> Self {
        Self {
            text: text.into(),
            is_doubtful: false,
        }
    }
}

/// The origin has taken it. No other write of these keys goes on before this is dropped.
pub struct Passage {
    policy: Arc<Policy>,
    /// When it was asked, to be compared with when tags were invalidated.
    since: Stamp,
    /// What the cache does not have yet.
    writes: Vec<Through>,
    _turns: Vec<OwnedMutexGuard<()>>,
}

impl Passage {
    /// When the origin was asked.
    #[must_use]
    pub fn since(&self) -> Stamp {
        self.since
    }

    /// The cache has been written too.
    pub fn complete(mut self) {
        self.writes.clear();
    }
}

impl Drop for Passage {
    /// Nobody was left to write the cache, or it would not take it.
    fn drop(&mut self) {
        for write in &self.writes {
            self.policy.forget(write);
        }
    }
}

/// Whose turn it is to write a key through.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// The turns of all keys.
pub(super) struct Writers {
    turns: HashMap<(u16, Box<[u8]>), Turn>,
    /// Of how many keys those are looked for that nobody writes.
    swept_at: usize,
}

impl Default for Writers {
    fn default() -> Self {
        Self {
            turns: HashMap::new(),
            swept_at: WRITERS_SWEPT,
        }
    }
}

impl Writers {
    fn turn(&mut self, (db, key): (u16, &[u8])) -> Turn {
        if self.turns.len() >= self.swept_at {
            // Whoever holds a turn, or waits for it, holds its count as well.
            self.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            // Not before as many came as were looked at: each key pays for one look.
            self.swept_at = WRITERS_SWEPT.max(self.turns.len() * 2);
        }
        Arc::clone(self.turns.entry((db, key.into())).or_default())
    }
}

impl Table {
    /// The write of a key to its origin, where its rule says so and the origin has a way to do it.
    #[must_use]
    pub fn through(
        &self,
        place: Place<'_>,
        value: Option<&[u8]>,
        ttl: Option<Duration>,
    ) -> Option<Through> {
        let active = self.writes_through(place.key.bytes)?;
        let origin = active.rule.origin.as_ref()?;
        let can = if value.is_some() {
            origin.can_store()
        } else {
            origin.can_delete()
        };
        can.then(|| Through {
            db: place.db,
            key: place.key.bytes.into(),
            value: value.map(Into::into),
            ttl,
            active: Arc::clone(active),
        })
    }

    /// The rule of a key, if it says that writes go to the origin first.
    #[must_use]
    pub fn writes_through(&self, key: &[u8]) -> Option<&Arc<Active>> {
        if !self.has_through {
            return None;
        }
        self.find(key).filter(|active| active.writes_through())
    }
}

impl Policy {
    /// Has the origins take these writes, or one of them refuse.
    #[must_use]
    pub fn write_through(self: &Arc<Self>, writes: Vec<Through>) -> Passing {
        let (sender, done) = oneshot::channel();
        let (policy, since) = (Arc::clone(self), self.store.tags().now());
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(async move {
                // Where nobody waits for it any more, what was taken is dropped here.
                let _ = sender.send(policy.pass(writes, since).await);
            });
        }
        Passing { done }
    }

    async fn pass(self: Arc<Self>, writes: Vec<Through>, since: Stamp) -> Result<Passage, Refused> {
        let turns = self.turns(&writes).await?;
        for (index, write) in writes.iter().enumerate() {
            let Err(failure) = write.run().await else {
                continue;
            };
            let counts = &write.active.counts;
            counts.writes_failed.add();
            // What was taken before this one is not what the cache has.
            writes[..index].iter().for_each(|write| self.forget(write));
            if is_doubtful(&failure) {
                self.forget(write);
            }
            return Err(Refused {
                text: write.told(&failure.text),
                is_doubtful: index > 0 || is_doubtful(&failure),
            });
        }
        Ok(Passage {
            policy: self,
            since,
            writes,
            _turns: turns,
        })
    }

    /// Waits for the turn of all these keys, in an order that is the same for all.
    async fn turns(&self, writes: &[Through]) -> Result<Vec<OwnedMutexGuard<()>>, Refused> {
        let mut keys: Vec<(&(u16, &[u8]), Instant)> = Vec::new();
        let places: Vec<(u16, &[u8])> =
            writes.iter().map(|write| (write.db, &*write.key)).collect();
        for (place, write) in places.iter().zip(writes) {
            keys.push((place, clock::now() + write.active.rule.spec.timeout));
        }
        keys.sort_unstable();
        keys.dedup_by_key(|(place, _)| **place);
        let mut turns = Vec::with_capacity(keys.len());
        for ((db, key), deadline) in keys {
            let turn = self.writers.lock().turn((*db, *key));
            match timeout_at(deadline, turn.lock_owned()).await {
                Ok(turn) => turns.push(turn),
                Err(_) => {
                    return Err(Refused::before(
                        "ORIGIN another write of the key is under way",
                    ));
                }
            }
        }
        Ok(turns)
    }

    /// Removes a key of which it is not known what the origin has.
    fn forget(&self, write: &Through) {
        let key = self.store.key(&write.key);
        let mut view = View::new(self.store.lock(key.hash), clock::unix_ms());
        let db = write.db;
        view.remove(Place { db, key });
    }
}

impl Through {
    async fn run(&self) -> Result<(), Failure> {
        let Some(origin) = self.active.rule.origin.as_ref() else {
            return Ok(());
        };
        let captures = self.active.rule.captures(&self.key);
        let call = Call {
            key: &self.key,
            captures: &captures,
            deadline: clock::now() + self.active.rule.spec.timeout,
        };
        let counts = &self.active.counts;
        if let Some(value) = &self.value {
            counts.stores.add();
            origin.store(&call, value, self.ttl).await
        } else {
            counts.deletes.add();
            origin.delete(&call).await
        }
    }

    /// The text of a failure, as clients are told.
    fn told(&self, why: &str) -> Arc<str> {
        let origin = self.active.rule.spec.origin.as_deref();
        format!("ORIGIN {}: {why}", origin.unwrap_or_default()).into()
    }
}

impl Passing {
    /// Waits for the origins.
    ///
    /// # Errors
    /// One of them did not take it.
    pub async fn end(self) -> Result<Passage, Refused> {
        match self.done.await {
            Ok(passed) => passed,
            Err(_) => Err(Refused {
                text: "ORIGIN the write was lost".into(),
                is_doubtful: true,
            }),
        }
    }
}

/// Whether the origin may have done what it was asked for.
fn is_doubtful(failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::Timeout | FailureKind::Lost | FailureKind::Crashed | FailureKind::BadValue => {
            true
        }
        FailureKind::QueueFull
        | FailureKind::BreakerOpen
        | FailureKind::Connect
        | FailureKind::Refused
        | FailureKind::TooLarge => false,
    }
}

/// So many keys are remembered at least, then those that nobody writes are forgotten.
const WRITERS_SWEPT: usize = 1024;

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    fn turn(writers: &mut Writers, number: usize) -> Turn {
        writers.turn((0, &number.to_le_bytes()))
    }

    #[test]
    fn keys_that_nobody_writes_are_forgotten_and_no_others() {
        let mut writers = Writers::default();
        let held = turn(&mut writers, 0);
        for number in 1..10 * WRITERS_SWEPT {
            turn(&mut writers, number);
            assert!(writers.turns.len() <= WRITERS_SWEPT);
        }
        assert!(Arc::ptr_eq(&held, &turn(&mut writers, 0)));
    }

    #[test]
    fn however_many_keys_are_written_at_once_they_are_seldom_looked_through() {
        let mut writers = Writers::default();
        let (mut held, mut sweeps) = (Vec::new(), 0);
        for number in 0..32 * WRITERS_SWEPT {
            let before = writers.swept_at;
            held.push(turn(&mut writers, number));
            sweeps += usize::from(writers.swept_at != before);
        }
        assert_eq!(sweeps, 5, "at each doubling");
        drop(held);
        for number in 0..=64 * WRITERS_SWEPT {
            turn(&mut writers, usize::MAX - number);
        }
        assert!(writers.turns.len() <= WRITERS_SWEPT, "they are forgotten");
        assert_eq!(writers.swept_at, WRITERS_SWEPT);
    }
}
