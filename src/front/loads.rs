//! Keys that are neither here nor upstream, and whose rule names an origin.
//!
//! A read that upstream answered with nil waits for one load, whoever else asks meanwhile, on
//! whichever thread. What the load brings is stored upstream with the rule's time to live, under a
//! key that is still not there, and comes into the near cache with the next read, as any value
//! does. No nil of such a key is kept: what is not there is remembered by the rule.

use std::rc::Rc;
use std::sync::Arc;

use super::client::Shared;
use super::keeping::{Whether, keep};
use super::pool::Pool;
use super::reads::{Asked, line, null};
use super::tags;
use super::waiting::Waiting;
use super::wire::request_of;
use super::{Seat, WHOLE};
use crate::clock;
use crate::command::lookup;
use crate::near::{Place, Ttl};
use crate::policy::{Active, Elsewhere, Ending, Leases, Outcome, Turn, Wait};
use crate::resp::{Protocol, Reply};
use crate::upstream::shared::Link;

/// A read under way of a key that a rule is about.
pub(super) struct Ruled {
    active: Arc<Active>,
    db: u16,
    key: Box<[u8]>,
    /// Whether it asks for the whole value of a string.
    is_get: bool,
    protocol: Protocol,
    link: Rc<Link<Waiting>>,
    began: tokio::time::Instant,
}

impl Ruled {
    /// What a rule makes of a read that is about to be sent over this connection, if one is about
    /// its key.
    pub(super) fn new(pool: &Pool, link: &Rc<Link<Waiting>>, asked: &Asked<'_>) -> Option<Self> {
        let policy = &pool.front.instance.policy;
        if !policy.is_on() {
            return None;
        }
        let active = Arc::clone(policy.table().find(asked.key)?);
        let get = line(lookup::find(b"GET")?, link.protocol(), &[]);
        Some(Self {
            active,
            db: u16::try_from(asked.database).ok()?,
            key: asked.key.into(),
            is_get: asked.line.id == get.id && asked.line.arguments.is_empty(),
            protocol: link.protocol(),
            link: Rc::clone(link),
            began: clock::now(),
        })
    }

    /// How long a reply may be kept: no longer than the rule says.
    pub(super) fn shorten(&self, ttl: Ttl) -> Ttl {
        let Some(cap) = self.active.rule.spec.near_ttl else {
            return ttl;
        };
        let cap_ms = u64::try_from(cap.as_millis()).unwrap_or(u64::MAX);
        match ttl {
            Ttl::Millis(ms) if ms <= cap_ms => ttl,
            Ttl::Millis(_) | Ttl::None => Ttl::Within(cap_ms),
            Ttl::Within(ms) => Ttl::Within(ms.min(cap_ms)),
            Ttl::Absent | Ttl::Unknown => ttl,
        }
    }

    /// Whether a value that upstream does not have is to be loaded.
    pub(super) fn loads(&self, reply: &[u8]) -> bool {
        self.is_get && self.active.rule.origin.is_some() && reply == null(self.protocol)
    }

    /// Whether a value that upstream does not have is to be made by one client, while others wait.
    pub(super) fn leases(&self, reply: &[u8]) -> bool {
        self.is_get && self.active.has_lease() && reply == null(self.protocol)
    }

    /// Upstream has no value for these: the first is told so and makes one, the others wait.
    pub(super) async fn lease(self: Box<Self>, pool: Rc<Pool>, seats: Vec<Seat>) {
        // What upstream told before this nil is heard first, such as that the value expired: it is
        // not what those who wait now wait for.
        let _ = pool.front.tracker.fence().await;
        let policy = Arc::clone(&pool.front.instance.policy);
        let ruled = Rc::new(*self);
        let gone = tags::count_now(&ruled.link, u32::from(ruled.db)).await;
        let mut nils = Vec::new();
        for seat in seats {
            let place = (ruled.db, &*ruled.key);
            match policy.lease_elsewhere(&ruled.active, place, (seat.client, seat.at)) {
                Turn::Nil => {
                    if let Some(gone) = gone {
                        policy.begins_elsewhere(seat.client, place, gone);
                    }
                    nils.push(seat);
                }
                Turn::Wait(wait) => {
                    let wait = Rc::clone(&ruled).wait(Rc::clone(&pool), seat, wait);
                    tokio::task::spawn_local(wait);
                }
            }
        }
        pool.deliver(nils, null(ruled.protocol));
    }

    async fn wait(self: Rc<Self>, pool: Rc<Pool>, seat: Seat, wait: Wait) {
        let mut inherited = Leases::default();
        wait.end(&mut inherited).await;
        if inherited.is_empty() {
            return self.read_again(&pool, vec![seat]);
        }
        let (policy, place) = (&pool.front.instance.policy, (self.db, &*self.key));
        policy.inherited_elsewhere(seat.client, place);
        note_beginning(&pool, &self.link, place, &[seat]).await;
        pool.deliver(vec![seat], null(self.protocol));
    }

    /// Upstream has no value for these: has it loaded.
    pub(super) fn load(&self, pool: &Rc<Pool>, seats: Vec<Seat>) {
        let policy = Arc::clone(&pool.front.instance.policy);
        let place = (self.db, &*self.key);
        match policy.elsewhere(&self.active, place, self.began) {
            Elsewhere::Nil => pool.deliver(seats, null(self.protocol)),
            Elsewhere::Failed(text) => {
                let mut reply = Reply::new(self.protocol);
                reply.error(&*text);
                pool.deliver(seats, reply.bytes());
            }
            Elsewhere::Again => self.read_again(pool, seats),
            Elsewhere::Wait(wait, begun) => {
                if let Some(begun) = begun {
                    tokio::task::spawn_local(keep(Rc::clone(pool), begun, Whether::Absent));
                }
                let pool = Rc::clone(pool);
                let mut reply = Reply::new(self.protocol);
                tokio::task::spawn_local(async move {
                    let arrived = wait.end(&mut Leases::default()).await;
                    match arrived.outcome {
                        Outcome::Value(value) => reply.bulk(&value),
                        Outcome::Absent | Outcome::Again => reply.null(),
                        Outcome::Failed(text) => reply.error(&*text),
                    }
                    pool.deliver(seats, reply.bytes());
                });
            }
        }
    }

    /// It has been stored since this read began.
    fn read_again(&self, pool: &Rc<Pool>, seats: Vec<Seat>) {
        let Some(get) = lookup::find(b"GET") else {
            return;
        };
        let front = &pool.front;
        let line = line(get, self.protocol, &[]);
        let key = front.instance.store.key(&self.key);
        let place = Place { db: self.db, key };
        let raw = request_of(&[b"GET", &self.key]);
        pool.enter_again(&self.link, (place, line), &raw, seats);
    }
}

impl Shared {
    /// Tells this client that there is no value, so that it makes the next one.
    #[cold]
    pub(super) fn let_make(&self, place: Place<'_>) {
        let seat = self.seat(self.outbox.expect(), WHOLE);
        let (pool, link) = (Rc::clone(&self.pool), Rc::clone(self.link()));
        let (db, key) = (place.db, Box::<[u8]>::from(place.key.bytes));
        let protocol = self.session.protocol;
        tokio::task::spawn_local(async move {
            note_beginning(&pool, &link, (db, &key), &[seat]).await;
            pool.deliver([seat], null(protocol));
        });
    }

    /// A read is answered by a value that ends in so many ms: sees to the next one, if it is time.
    /// Whether this client is to make it: then it is to be told that there is none.
    #[cold]
    pub(super) fn look_after(&self, place: Place<'_>, left_ms: u32) -> bool {
        let policy = &self.front.instance.policy;
        let key = (place.db, place.key.bytes);
        match policy.hit_elsewhere(key, left_ms, self.client.id) {
            Ending::Serve => false,
            Ending::Nil => true,
            Ending::Keep(begun) => {
                let pool = Rc::clone(&self.pool);
                tokio::task::spawn_local(keep(pool, begun, Whether::Present));
                false
            }
        }
    }
}

/// Notes when those begin who hold the lease of a key and are to be told so.
async fn note_beginning(
    pool: &Pool,
    link: &Rc<Link<Waiting>>,
    place: (u16, &[u8]),
    holders: &[Seat],
) {
    if let Some(gone) = tags::count_now(link, u32::from(place.0)).await {
        let policy = &pool.front.instance.policy;
        for seat in holders {
            policy.begins_elsewhere(seat.client, place, gone);
        }
    }
}
