//! The right of one client to make a missing value, while others wait for it: a lease.
//!
//! The first who misses a key gets nil and holds its lease until it stores a value; who comes
//! meanwhile waits, for as long as a lease lasts at most. A holder that leaves, or whose key is
//! removed, hands over to exactly one of those who wait; so does one that is late, once. A lease
//! that ends without a value and without an heir opens its key for a while: there may be no value,
//! and nobody should wait for it again and again. After Nishtala et al., "Scaling Memcache at
//! Facebook", NSDI 2013, for clients that know nothing of it.
//!
//! Plain states and plain times: who calls holds the lock of the key's shard.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// A client, by the number of its connection.
pub type ClientId = u64;

/// What one who waited is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// There is a value, or the key is open: look again, and take what is there.
    Look,
    /// It has inherited the lease: it gets nil, and should store a value.
    Inherited,
}

/// A lease, or what is left of one.
pub struct Lease {
    state: State,
    /// How long one lasts, and how long the key is open when it ended without a value.
    terms: Terms,
    waiting: VecDeque<Waiter>,
    /// With so many of them, those who have gone are forgotten.
    clean_at: usize,
}

/// The times of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long a holder has, and how long anybody waits.
    pub lease: Duration,
    /// How long the key stays open behind a lease without a value.
    pub open: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Held {
        by: ClientId,
        since: Instant,
        kind: Kind,
        /// Whether it was told nil once more, in spite of a value that is stale.
        was_told_twice: bool,
    },
    Open {
        until: Instant,
    },
}

/// How a lease came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Somebody missed the key.
    First,
    /// The holder before was late.
    Second,
    /// There is a value still; it is to be replaced before it expires.
    Early,
}

struct Waiter {
    client: ClientId,
    told: oneshot::Sender<Told>,
}

/// What one who misses the key is to do.
#[derive(Debug)]
pub enum Asked {
    /// It gets nil: it holds the lease already, or the key is open.
    Nil,
    /// It gets nil and holds the lease from now on.
    Leased,
    /// Somebody else holds it.
    Held,
}

/// What one who waited is to do when the lease has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It has inherited the lease.
    Inherited,
    /// Somebody else holds it until then.
    Held(Instant),
    /// The key is open.
    Open,
}

impl Lease {
    /// A lease for this client, from now on.
    #[must_use]
    pub fn new(by: ClientId, now: Instant, terms: Terms) -> Self {
        Self::of_kind(Kind::First, by, now, terms)
    }

    /// The same while there is a value still, which is to be replaced before it expires.
    #[must_use]
    pub fn early(by: ClientId, now: Instant, terms: Terms) -> Self {
        Self::of_kind(Kind::Early, by, now, terms)
    }

    fn of_kind(kind: Kind, by: ClientId, since: Instant, terms: Terms) -> Self {
        Self {
            state: held(by, since, kind),
            terms,
            waiting: VecDeque::new(),
            clean_at: CLEAN_AT_MIN,
        }
    }

    /// Somebody misses the key.
    pub fn ask(&mut self, client: ClientId, now: Instant) -> Asked {
        match self.state {
            State::Open { until } if now < until => Asked::Nil,
            State::Open { .. } => {
                self.give(client, now, Kind::First);
                Asked::Leased
            }
            State::Held { by, .. } if by == client => Asked::Nil,
            State::Held { since, .. } if now < since + self.terms.lease => Asked::Held,
            State::Held { .. } => match self.lapse(client, now) {
                Late::Inherited => Asked::Leased,
                Late::Held(_) => Asked::Held,
                Late::Open => Asked::Nil,
            },
        }
    }

    /// Somebody misses the key, and what is left of its value may be served. Then nobody has to
    /// wait for a holder, late ones included, so that the key never opens: there is one at a time.
    ///
    /// The holder may look once more before it begins, as those do who take a lock of their own
    /// first. After that it has failed, and is served as others are.
    pub fn ask_beside_stale(&mut self, client: ClientId, now: Instant) -> Asked {
        match &mut self.state {
            State::Held {
                by,
                since,
                was_told_twice,
                ..
            } if now < *since + self.terms.lease => {
                if *by != client || std::mem::replace(was_told_twice, true) {
                    return Asked::Held;
                }
                Asked::Nil
            }
            State::Held { .. } | State::Open { .. } => {
                self.give(client, now, Kind::First);
                Asked::Leased
            }
        }
    }

    /// Whether somebody who misses the key now may get the lease.
    #[must_use]
    pub fn is_free(&self, now: Instant) -> bool {
        now >= self.until()
    }

    /// Lets somebody wait; until when the present holder has.
    pub fn wait(&mut self, client: ClientId) -> (oneshot::Receiver<Told>, Instant) {
        let (told, receiver) = oneshot::channel();
        // Not each time: a herd would look at all that came before, for each that comes.
        if self.waiting.len() >= self.clean_at {
            self.forget_gone();
            self.clean_at = CLEAN_AT_MIN.max(self.waiting.len() * 2);
        }
        self.waiting.push_back(Waiter { client, told });
        (receiver, self.until())
    }

    /// One who waited finds that the holder is late.
    pub fn late(&mut self, client: ClientId, now: Instant) -> Late {
        match self.state {
            State::Open { until } if now < until => Late::Open,
            State::Open { .. } => {
                self.give(client, now, Kind::First);
                Late::Inherited
            }
            // It waited for it twice, and got it the other time.
            State::Held { by, .. } if by == client => Late::Open,
            State::Held { since, .. } if now < since + self.terms.lease => Late::Held(self.until()),
            State::Held { .. } => self.lapse(client, now),
        }
    }

    /// The holder is late, and this client is there: it inherits, once. Then the key is open for a
    /// while; so it is if nobody waited. That a value was not replaced early says nothing.
    fn lapse(&mut self, client: ClientId, now: Instant) -> Late {
        let State::Held { since, kind, .. } = self.state else {
            return Late::Open;
        };
        let open_until = since + self.terms.lease + self.terms.open;
        let next = match kind {
            Kind::Early => Kind::First,
            Kind::First if self.has_waiting() => Kind::Second,
            Kind::First | Kind::Second if now < open_until => {
                self.state = State::Open { until: open_until };
                self.tell_all();
                return Late::Open;
            }
            Kind::First | Kind::Second => Kind::First,
        };
        self.give(client, now, next);
        Late::Inherited
    }

    fn give(&mut self, by: ClientId, since: Instant, kind: Kind) {
        self.state = held(by, since, kind);
    }

    /// The holder is gone, or what it makes is void: one of those who wait inherits. Whether one
    /// did; if not, the lease is no more.
    pub fn hand_over(&mut self, now: Instant) -> bool {
        let kind = match self.state {
            State::Held {
                kind: Kind::Second, ..
            } => Kind::Second,
            State::Held { .. } | State::Open { .. } => Kind::First,
        };
        while let Some(waiter) = self.waiting.pop_front() {
            if waiter.told.send(Told::Inherited).is_ok() {
                self.give(waiter.client, now, kind);
                return true;
            }
        }
        false
    }

    /// There is a value: all who wait are told.
    pub fn tell_all(&mut self) {
        for waiter in self.waiting.drain(..) {
            // Who is gone need not know.
            let _ = waiter.told.send(Told::Look);
        }
    }

    /// A client that waits for it does no more.
    pub fn forget(&mut self, client: ClientId) {
        self.waiting.retain(|waiter| waiter.client != client);
    }

    /// Whether it was given while there was a value still.
    #[must_use]
    pub fn is_early(&self) -> bool {
        matches!(
            self.state,
            State::Held {
                kind: Kind::Early,
                ..
            }
        )
    }

    /// Who holds it.
    #[must_use]
    pub fn holder(&self) -> Option<ClientId> {
        match self.state {
            State::Held { by, .. } => Some(by),
            State::Open { .. } => None,
        }
    }

    /// How long the holder has had it, if this is the holder.
    #[must_use]
    pub fn held_for(&self, client: ClientId, now: Instant) -> Option<Duration> {
        match self.state {
            State::Held { by, since, .. } if by == client => Some(now.duration_since(since)),
            State::Held { .. } | State::Open { .. } => None,
        }
    }

    /// Whether nothing would be lost with it.
    pub fn is_over(&mut self, now: Instant) -> bool {
        let over = match self.state {
            State::Open { until } => until,
            State::Held {
                since,
                kind: Kind::Early,
                ..
            } => since + self.terms.lease,
            State::Held { since, .. } => since + self.terms.lease + self.terms.open,
        };
        now >= over && !self.has_waiting()
    }

    /// How many wait for it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn has_waiting(&mut self) -> bool {
        self.forget_gone();
        !self.waiting.is_empty()
    }

    fn forget_gone(&mut self) {
        self.waiting.retain(|waiter| !waiter.told.is_closed());
    }

    /// Until when the holder has, or the key is open.
    #[must_use]
    pub fn until(&self) -> Instant {
        match self.state {
            State::Held { since, .. } => since + self.terms.lease,
            State::Open { until } => until,
        }
    }
}

fn held(by: ClientId, since: Instant, kind: Kind) -> State {
    State::Held {
        by,
        since,
        kind,
        was_told_twice: false,
    }
}

/// Fewer than so many who have gone are not worth a look.
const CLEAN_AT_MIN: usize = 16;

#[cfg(test)]
mod tests;
