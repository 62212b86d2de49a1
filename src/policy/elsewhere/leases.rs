//! Leases of keys whose values clients make, and store in the Redis behind a front.
//!
//! Who reads and who writes a key holds no lock of a shard, and what was written is seen only by
//! reading again. So whoever waits looks again after each change, and asks once more if there is
//! still nothing; but nobody waits for longer than one lease. What a client has or waits for is
//! noted by its number, as its reads may be answered on any thread.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::clock;
use crate::keyspace::Place;
use crate::policy::lease::{Asked, ClientId, Lease};
use crate::policy::reads::WORKS_MAX;
use crate::policy::sync::Mutex;
use crate::policy::works::Work;
use crate::policy::{Active, Policy, Wait, millis};

/// What a read that found nothing elsewhere comes to, where clients make the values.
pub enum Turn {
    /// Nil: the client holds the lease, or nobody is to be waited for.
    Nil,
    /// To be read again after this, unless the lease was inherited: then, nil.
    Wait(Wait),
}

/// What clients hold, and wait for.
#[derive(Default)]
pub(in crate::policy) struct Roles {
    clients: Mutex<HashMap<ClientId, Vec<Role>>>,
}

struct Role {
    db: u16,
    key: Box<[u8]>,
    /// When it was given, or when the client began to wait for it.
    since: Instant,
    kind: Kind,
    /// For a holder, how often tags had been invalidated upstream when it got the lease.
    gone: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Holder,
    /// The read of that number waits, or waited and found a value.
    Waiting(u64),
}

impl Role {
    fn is_of(&self, db: u16, key: &[u8]) -> bool {
        self.db == db && *self.key == *key
    }
}

impl Roles {
    /// Since when this read has waited for this lease, if it has.
    fn since(&self, (client, read): (ClientId, u64), (db, key): (u16, &[u8])) -> Option<Instant> {
        let clients = self.clients.lock();
        let mut roles = clients.get(&client)?.iter();
        let role = roles.find(|role| role.is_of(db, key) && role.kind == Kind::Waiting(read));
        role.map(|role| role.since)
    }

    /// The key that the client was given the last lease of.
    fn last_held(&self, client: ClientId) -> Option<(u16, Box<[u8]>)> {
        let clients = self.clients.lock();
        let mut roles = clients.get(&client)?.iter();
        let role = roles.rfind(|role| role.kind == Kind::Holder)?;
        Some((role.db, role.key.clone()))
    }

    fn set(&self, client: ClientId, role: Role) {
        let mut clients = self.clients.lock();
        let roles = clients.entry(client).or_default();
        roles.retain(|other| !other.is_of(role.db, &role.key));
        if roles.len() == ROLES_MAX {
            roles.remove(0);
        }
        roles.push(role);
    }

    /// Takes a client's role for a key.
    fn take(&self, client: ClientId, (db, key): (u16, &[u8])) -> Option<Role> {
        let mut clients = self.clients.lock();
        let roles = clients.get_mut(&client)?;
        let at = roles.iter().position(|role| role.is_of(db, key))?;
        let role = roles.remove(at);
        if roles.is_empty() {
            clients.remove(&client);
        }
        Some(role)
    }
}

impl Policy {
    /// A client's read, which has a number, found nothing under a key that clients make.
    pub fn lease_elsewhere(
        self: &Arc<Self>,
        active: &Arc<Active>,
        (db, key): (u16, &[u8]),
        (client, read): (ClientId, u64),
    ) -> Turn {
        let (now, lease) = (clock::now(), active.rule.spec.lease);
        let roles = &self.shared.roles;
        let is_holder = self.is_holder_elsewhere(client);
        let since = roles.since((client, read), (db, key)).unwrap_or(now);
        let counts = &active.counts;
        if now >= since + lease {
            roles.take(client, (db, key));
            counts.lease_nils.add();
            return Turn::Nil;
        }
        let works = &self.shared.works;
        let waits = works.with(db, key, |work| {
            let asked = match work {
                Some(Work::Lease(held)) => held.ask(client, now),
                Some(Work::Load(_)) => Asked::Nil,
                Some(Work::Kept(_)) | None if works.len() >= WORKS_MAX => Asked::Nil,
                Some(Work::Kept(_)) | None => {
                    *work = Some(Work::Lease(Lease::new(client, now, active.terms())));
                    Asked::Leased
                }
            };
            match (asked, work) {
                (Asked::Held, Some(Work::Lease(held))) if !is_holder => Ok(held.wait(client)),
                (asked, _) => Err(asked),
            }
        });
        let role = |kind, since| Role {
            db,
            key: key.into(),
            since,
            kind,
            gone: None,
        };
        match waits {
            Ok(told) => {
                counts.lease_waits.add();
                roles.set(client, role(Kind::Waiting(read), since));
                let key = self.store.key(key);
                let place = Place { db, key };
                let wait = Wait::for_lease((place, db), (self, active), client, told);
                Turn::Wait(wait.at_most_until(since + lease))
            }
            Err(Asked::Leased) => {
                counts.leases.add();
                roles.set(client, role(Kind::Holder, now));
                Turn::Nil
            }
            Err(Asked::Held) => {
                counts.lease_nils.add();
                Turn::Nil
            }
            Err(Asked::Nil) => Turn::Nil,
        }
    }

    /// Whether a client holds a lease: then others may wait for it, and it must not wait.
    ///
    /// Those that have ended are forgotten until one is found that has not.
    fn is_holder_elsewhere(&self, client: ClientId) -> bool {
        let roles = &self.shared.roles;
        while let Some((db, key)) = roles.last_held(client) {
            let is_held = self.shared.works.with(db, &key, |work| match work {
                Some(Work::Lease(lease)) => {
                    lease.holder() == Some(client) && !lease.is_free(clock::now())
                }
                Some(Work::Load(_) | Work::Kept(_)) | None => false,
            });
            if is_held {
                return true;
            }
            roles.take(client, (db, &key));
        }
        false
    }

    /// Gives one reader of a value that is still there the lease of the next one.
    pub(super) fn lease_early_elsewhere(
        &self,
        active: &Arc<Active>,
        (db, key): (u16, &[u8]),
        client: ClientId,
    ) -> bool {
        let (now, works) = (clock::now(), &self.shared.works);
        let is_leased = works.with(db, key, |work| {
            let is_over = match work {
                Some(Work::Lease(lease)) => lease.is_over(now),
                Some(Work::Load(_)) => false,
                Some(Work::Kept(_)) | None => works.len() < WORKS_MAX,
            };
            if is_over {
                *work = Some(Work::Lease(Lease::early(client, now, active.terms())));
            }
            is_over
        });
        if is_leased {
            active.counts.early_leases.add();
            let role = Role {
                db,
                key: key.into(),
                since: now,
                kind: Kind::Holder,
                gone: None,
            };
            self.shared.roles.set(client, role);
        }
        is_leased
    }

    /// A client that waited has inherited a lease.
    pub fn inherited_elsewhere(&self, client: ClientId, (db, key): (u16, &[u8])) {
        let roles = &self.shared.roles;
        // Who has left meanwhile has no role any more, and has passed it on.
        if roles.take(client, (db, key)).is_some() {
            let role = Role {
                db,
                key: key.into(),
                since: clock::now(),
                kind: Kind::Holder,
                gone: None,
            };
            roles.set(client, role);
        }
    }

    /// A client that holds a lease begins to make the value now, by upstream's count of
    /// invalidated tags.
    pub fn begins_elsewhere(&self, client: ClientId, (db, key): (u16, &[u8]), gone: u64) {
        let mut clients = self.shared.roles.clients.lock();
        let roles = clients.get_mut(&client).into_iter().flatten();
        for role in roles.filter(|role| role.is_of(db, key) && role.kind == Kind::Holder) {
            role.gone = Some(gone);
        }
    }

    /// The count that a client noted when it began to make a value, if it holds the lease.
    #[must_use]
    pub fn began_elsewhere(&self, client: ClientId, db: u16, key: &[u8]) -> Option<u64> {
        let clients = self.shared.roles.clients.lock();
        let mut roles = clients.get(&client)?.iter();
        roles.find(|role| role.is_of(db, key))?.gone
    }

    /// A client is about to store values under keys that it may have the leases of: notes how long
    /// it took to make them. The others are told when they are there.
    pub fn made_elsewhere(&self, client: ClientId, db: u16, key: &[u8]) {
        let roles = &self.shared.roles;
        if !self.is_on() || roles.take(client, (db, key)).is_none() {
            return;
        }
        let took = self.shared.works.with(db, key, |work| match work {
            Some(Work::Lease(lease)) => lease.held_for(client, clock::now()),
            Some(Work::Load(_) | Work::Kept(_)) | None => None,
        });
        if let (Some(took), Some(active)) = (took, self.shared.table.read().find(key)) {
            active.counts.leases_kept.add();
            active.counts.delta.note(millis(took));
        }
    }

    /// A client of the front leaves: others inherit its leases, and it none.
    pub fn leave_elsewhere(&self, client: ClientId) {
        let left = self.shared.roles.clients.lock().remove(&client);
        let now = clock::now();
        for Role { db, key, .. } in left.into_iter().flatten() {
            self.shared.works.with(db, &key, |work| {
                let Some(Work::Lease(lease)) = work else {
                    return;
                };
                lease.forget(client);
                if lease.holder() == Some(client) && !lease.hand_over(now) {
                    *work = None;
                }
            });
        }
    }
}

/// Keys that one client may hold or wait for; beyond that, the oldest are forgotten.
const ROLES_MAX: usize = 128;
