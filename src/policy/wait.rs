//! Reads that wait: for a load, or for the client that has the lease of a key.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::lease::{ClientId, Late, Told};
use super::reads::Leases;
use super::works::Work;
use super::{Active, Policy, flight};
use crate::clock;
use crate::keyspace::Place;
use crate::store::Stamp;

/// A read that waits.
pub struct Wait {
    /// The database, as clients number it.
    db: u16,
    key: Box<[u8]>,
    active: Arc<Active>,
    until: Until,
}

enum Until {
    Load {
        landed: watch::Receiver<Option<flight::Outcome>>,
        /// Whether a tag was invalidated between its beginning and that of the read.
        is_late: bool,
        /// When the reader gives up.
        deadline: Instant,
    },
    Lease {
        waiting: Waiting,
        /// When the holder is late.
        late_at: Instant,
        deadline: Instant,
    },
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The value that was loaded; there may be a newer one by now.
    Value(Bytes),
    /// There is no value.
    Absent,
    /// It is not known. The text with its code.
    Failed(Arc<str>),
    /// What came is older than an invalidation that the read began after: it is to ask once more.
    Again,
}

/// A read that has waited, and is to be asked again with what came of it.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The database, as clients number it.
    pub db: u16,
    /// The key.
    pub key: Box<[u8]>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What reads of one client have waited for and not yet been answered with.
#[derive(Debug, Default)]
pub struct Arrivals(HashMap<Box<[u8]>, (u16, Outcome)>);

impl Arrivals {
    /// Adds one.
    pub fn push(&mut self, arrived: Arrived) {
        self.0.insert(arrived.key, (arrived.db, arrived.outcome));
    }

    /// What came of the wait for a key, if there was one.
    #[must_use]
    pub fn get(&self, place: Place<'_>) -> Option<&Outcome> {
        let (db, outcome) = self.0.get(place.key.bytes)?;
        (*db == place.db).then_some(outcome)
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        if !self.0.is_empty() {
            self.0 = HashMap::default();
        }
    }
}

impl std::fmt::Debug for Wait {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Wait")
            .field("db", &self.db)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Wait {
    pub(super) fn for_load(
        place: (u16, &[u8]),
        active: &Arc<Active>,
        flight: &flight::Flight,
        (now, deadline): (Stamp, Instant),
    ) -> Self {
        let until = Until::Load {
            landed: flight.join(),
            is_late: flight.since != now,
            deadline,
        };
        Self::new(place, active, until)
    }

    pub(super) fn for_lease(
        (place, physical): (Place<'_>, u16),
        (policy, active): (&Arc<Policy>, &Arc<Active>),
        client: ClientId,
        (told, late_at): (oneshot::Receiver<Told>, Instant),
    ) -> Self {
        let waiting = Waiting {
            policy: Arc::clone(policy),
            db: physical,
            key: place.key.bytes.into(),
            client,
            told,
            is_over: false,
        };
        let until = Until::Lease {
            waiting,
            late_at,
            deadline: clock::now() + active.rule.spec.lease,
        };
        Self::new((place.db, place.key.bytes), active, until)
    }

    fn new((db, key): (u16, &[u8]), active: &Arc<Active>, until: Until) -> Self {
        Self {
            db,
            key: key.into(),
            active: Arc::clone(active),
            until,
        }
    }

    /// The same; the client waits until then at most.
    pub(super) fn at_most_until(mut self, at: Instant) -> Self {
        match &mut self.until {
            Until::Load { deadline, .. } | Until::Lease { deadline, .. } => {
                *deadline = at.min(*deadline);
            }
        }
        self
    }

    /// The same, of a read that was told [`Outcome::Again`]. What it waits for now began when the
    /// load that it waited for first was over or void, so after the read: what comes is for it,
    /// however often tags are invalidated meanwhile, and it asks no third time.
    #[must_use]
    pub fn once_more(mut self) -> Self {
        if let Until::Load { is_late, .. } = &mut self.until {
            *is_late = false;
        }
        self
    }

    /// Whether this is a wait for that key.
    #[must_use]
    pub fn is_for(&self, place: Place<'_>) -> bool {
        self.db == place.db && *self.key == *place.key.bytes
    }

    /// Waits. What the client inherits is added to its leases.
    pub async fn end(self, leases: &mut Leases) -> Arrived {
        let (arrived, inherited) = self.arrive().await;
        if let Some((db, until, since)) = inherited {
            leases.add((db, &arrived.key), until, since);
        }
        arrived
    }

    /// Waits for all of them. Who inherits a lease has a value to make, for which others wait now:
    /// it waits for no other client any more.
    pub async fn end_all(waits: Vec<Self>, leases: &mut Leases) -> Vec<Arrived> {
        let (of_leases, of_loads) = waits
            .into_iter()
            .partition::<Vec<_>, _>(|wait| matches!(wait.until, Until::Lease { .. }));
        let absent = |wait: &Self| Arrived {
            db: wait.db,
            key: wait.key.clone(),
            outcome: Outcome::Absent,
        };
        // That comes of a lease in any case: there is a value to be found, or there is none.
        let mut arrived: Vec<Arrived> = of_leases.iter().map(absent).collect();
        let mut ends: FuturesUnordered<_> = of_leases.into_iter().map(Self::arrive).collect();
        while let Some((heir, inherited)) = ends.next().await {
            if let Some((db, until, since)) = inherited {
                leases.add((db, &heir.key), until, since);
                break;
            }
        }
        drop(ends);
        for wait in of_loads {
            arrived.push(wait.end(leases).await);
        }
        arrived
    }

    /// Waits. With it, where a lease was inherited: its database, as the tables are numbered,
    /// when it ends, and when it began.
    async fn arrive(self) -> (Arrived, Option<(u16, Instant, Stamp)>) {
        let mut inherited = None;
        let outcome = match self.until {
            Until::Load {
                landed,
                is_late,
                deadline,
            } => match load(landed, deadline, &self.active).await {
                flight::Outcome::Outdated(_) if is_late => Outcome::Again,
                flight::Outcome::Value(value) | flight::Outcome::Outdated(value) => {
                    Outcome::Value(value)
                }
                flight::Outcome::Absent => Outcome::Absent,
                flight::Outcome::Failed(text) => Outcome::Failed(text),
            },
            Until::Lease {
                mut waiting,
                late_at,
                deadline,
            } => {
                if waiting.wait(late_at, deadline).await {
                    self.active.counts.leases_inherited.add();
                    let until = clock::now() + self.active.rule.spec.lease;
                    let since = waiting.policy.store.tags().now();
                    inherited = Some((waiting.db, until, since));
                }
                Outcome::Absent
            }
        };
        let arrived = Arrived {
            db: self.db,
            key: self.key,
            outcome,
        };
        (arrived, inherited)
    }
}

async fn load(
    mut landed: watch::Receiver<Option<flight::Outcome>>,
    deadline: Instant,
    active: &Active,
) -> flight::Outcome {
    let name = || active.rule.spec.origin.as_deref().unwrap_or_default();
    let failed = |text: String| flight::Outcome::Failed(text.into());
    match timeout_at(deadline, landed.wait_for(Option::is_some)).await {
        Ok(Ok(outcome)) => outcome.clone().unwrap_or(flight::Outcome::Absent),
        // A load lands in any case before its flight is dropped.
        Ok(Err(_)) => failed(format!("ORIGIN {}: the load was lost", name())),
        Err(_) => {
            active.counts.timed_out.add();
            failed(format!("ORIGIN {}: no answer in time", name()))
        }
    }
}

/// One who waits for the holder of a lease, from the moment on that the lease knows of it.
struct Waiting {
    policy: Arc<Policy>,
    /// The database, as its tables are numbered.
    db: u16,
    key: Box<[u8]>,
    client: ClientId,
    told: oneshot::Receiver<Told>,
    /// Whether what it was told has been heeded.
    is_over: bool,
}

impl Waiting {
    /// Waits until there is a value, or nobody is to be waited for. Whether the lease is ours.
    async fn wait(&mut self, mut late_at: Instant, deadline: Instant) -> bool {
        loop {
            let late = match timeout_at(late_at.min(deadline), &mut self.told).await {
                Ok(Ok(Told::Inherited)) => Late::Inherited,
                Ok(Ok(Told::Look) | Err(_)) => Late::Open,
                Err(_) => self.look(deadline),
            };
            match late {
                Late::Held(until) if !self.is_over => late_at = until,
                Late::Held(_) | Late::Open | Late::Inherited => {
                    self.is_over = true;
                    return late == Late::Inherited;
                }
            }
        }
    }

    /// The holder is late, or we have waited for long enough.
    fn look(&mut self, deadline: Instant) -> Late {
        let key = self.policy.store.key(&self.key);
        let _locked = self.policy.store.lock(key.hash);
        // Somebody may have handed over to us meanwhile.
        match self.told.try_recv() {
            Ok(Told::Inherited) => return Late::Inherited,
            Ok(Told::Look) => return Late::Open,
            Err(_) => {}
        }
        let now = clock::now();
        let works = &self.policy.shared.works;
        let late = works.with(self.db, &self.key, |work| match work {
            Some(Work::Lease(lease)) => lease.late(self.client, now),
            Some(Work::Load(_) | Work::Kept(_)) | None => Late::Open,
        });
        if !matches!(late, Late::Held(_)) || now >= deadline {
            // From here on, nobody hands over to us.
            self.told.close();
            self.is_over = true;
        }
        late
    }
}

impl Drop for Waiting {
    /// A client that goes while it waits passes on what it was given and never heard of.
    ///
    /// The lock of the key's shard may be held where nothing can have been given to it yet.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // From here on, nobody hands over to us.
        self.told.close();
        if self.told.try_recv() == Ok(Told::Inherited) {
            self.policy.pass_on(self.db, &self.key, self.client);
        }
    }
}
