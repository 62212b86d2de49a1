//! One client's state, as its own commands change it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Config;
use crate::policy::{Arrivals, Leases, Passage, Refused, Table, Through, Wait};
use crate::resp::decode::OwnedRequest;
use crate::store::watch::Dirty;

use super::Instance;
use super::clients::Client;

/// What a client has said and chosen so far.
pub struct Session {
    /// As the others see it.
    pub client: Arc<Client>,
    /// The thread that serves it.
    pub thread: usize,
    /// The database it chose.
    pub db: u16,
    /// Whether it may do more than authenticate.
    pub is_authenticated: bool,
    /// Whether replies are sent.
    pub replies: Replies,
    /// Its transaction, between MULTI and EXEC.
    pub transaction: Option<Transaction>,
    /// Keys it watches.
    pub watching: Watching,
    /// Set when the connection is to close behind this reply.
    pub closing: bool,
    /// The settings in force when its present batch began.
    pub config: Arc<Config>,
    config_generation: u64,
    /// What the rules make of its reads.
    pub reads: Reads,
}

/// How far a write to origins has come.
#[derive(Default)]
pub enum Passed {
    /// None is under way.
    #[default]
    No,
    /// They are to be asked.
    Asked(Vec<Through>),
    /// They took it, or did not.
    Answered(Result<Passage, Refused>),
    /// They took it: the cache is to be written now.
    Open(Passage),
}

/// A client's reads and writes by rule.
#[derive(Default)]
pub struct Reads {
    /// The rules in force when its present batch began, if there are any.
    pub table: Option<Arc<Table>>,
    generation: u64,
    /// The leases that it holds.
    pub leases: Leases,
    /// What the present request waits for, and what can be begun for those behind it.
    pub waits: Vec<Wait>,
    /// What requests of the present batch have waited for.
    pub arrived: Arrivals,
    /// What origins have to take before the present request may run, and what they said.
    pub through: Passed,
    /// Whether replies are preceded by how old their values are (`CLIENT CACHE-INFO`).
    pub are_told: bool,
    /// Whether EXEC runs its commands: nothing waits then, and nothing is begun.
    pub is_atomic: bool,
}

/// `CLIENT REPLY`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// All.
    On,
    /// None.
    Off,
    /// Not that of the next command.
    SkipNext,
    /// Not that of this command.
    Skip,
}

/// What MULTI collects.
#[derive(Default)]
pub struct Transaction {
    /// The commands, with their index in the table.
    pub queue: Vec<(usize, OwnedRequest)>,
    /// Bytes of all of them.
    pub bytes: usize,
    /// Whether a command could not be queued: EXEC will refuse.
    pub is_broken: bool,
}

/// The keys a client watches, and whether one was touched.
#[derive(Default)]
pub struct Watching {
    /// Database and key.
    pub keys: Vec<(u16, Box<[u8]>)>,
    /// Shared with the shards of the keys.
    pub dirty: Dirty,
}

impl Session {
    /// The session of a client that just connected.
    #[must_use]
    pub fn new(instance: &Instance, client: Arc<Client>, thread: usize) -> Self {
        let config = instance.config();
        Self {
            client,
            thread,
            db: 0,
            is_authenticated: config.requirepass.is_empty(),
            replies: Replies::On,
            transaction: None,
            watching: Watching::default(),
            closing: false,
            config,
            config_generation: instance.config_generation(),
            reads: Reads::default(),
        }
    }

    /// Takes up settings that were changed meanwhile.
    #[inline]
    pub fn refresh_config(&mut self, instance: &Instance) {
        let generation = instance.config_generation();
        if generation != self.config_generation {
            self.config_generation = generation;
            self.config = instance.config();
            // Where nobody has to authenticate any more, nobody waits for it.
            self.is_authenticated |= self.config.requirepass.is_empty();
        }
        let generation = instance.policy.generation();
        if generation != self.reads.generation {
            self.reads.generation = generation;
            let is_on = instance.policy.is_on();
            self.reads.table = is_on.then(|| instance.policy.table());
        }
    }

    /// Watches no key any more.
    pub fn unwatch(&mut self, instance: &Instance) {
        for (db, key) in std::mem::take(&mut self.watching.keys) {
            let hash = instance.store.hash(&key);
            let mut locked = instance.store.lock(hash);
            let db = locked.physical(db);
            locked
                .shard(hash)
                .watchers
                .remove(db, &key, &self.watching.dirty);
        }
        self.watching.dirty = Arc::new(AtomicBool::new(false));
        self.client.doing.watches.store(false, Ordering::Relaxed);
    }

    /// Whether a watched key was touched.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.watching.dirty.load(Ordering::Acquire)
    }
}
