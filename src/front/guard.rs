//! What a client on a private connection may change, and when it may come back.
//!
//! Of most requests the keys are known: those that they write are void before their replies go out,
//! as over a shared connection. What a transaction does to keys is done by its `EXEC`. A request of
//! which the keys are not known waits for a fence.
//!
//! Of what a client was told of keys, only that matters of which there are copies or reads under
//! way: they may be older. Then its return waits for a fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Front;
use super::ahead::Ahead;
use super::class::{Class, classify, is_administration, tells_of_keys};
use super::pause::Announced;
use super::pool::Pool;
use crate::command::keys_of::for_each_key;
use crate::command::spec::{Command, Flags};
use crate::config::ClientIdentity;
use crate::near::Why;
use crate::resp::Request;
use crate::upstream::connect::{Connection, Opening};
use crate::upstream::passthrough::{Fence, Guard, Touched};
use crate::upstream::session::Session;
use crate::upstream::shared::Coherence as _;

/// The guard of one client.
pub(super) struct VisitGuard {
    front: Arc<Front>,
    ahead: Arc<Ahead>,
    /// The client may have seen something that is newer than a copy.
    has_seen: AtomicBool,
    /// What its next `EXEC` does and tells.
    transaction: Mutex<Touched>,
    pauses: Announced,
}

impl VisitGuard {
    pub(super) fn new(pool: &Pool) -> Self {
        Self {
            front: Arc::clone(&pool.front),
            ahead: Arc::clone(&pool.ahead),
            has_seen: AtomicBool::new(false),
            transaction: Mutex::default(),
            pauses: Announced::default(),
        }
    }

    /// Whether what the client did since it was last asked tells of keys.
    pub(super) fn take_seen(&self) -> bool {
        self.has_seen.swap(false, Ordering::Relaxed)
    }

    fn see(&self) {
        self.has_seen.store(true, Ordering::Relaxed);
    }

    /// What a command does that is neither queued nor part of a transaction's frame.
    fn touched_by(
        &self,
        command: Option<&Command>,
        class: Class,
        request: &Request<'_>,
    ) -> Touched {
        let tells = tells_of_keys(command, class);
        let writes = may_write(command, class);
        let named = command.map_or_else(Vec::new, |command| keys_of(command, request));
        let is_write = command.is_some_and(|command| command.flags.contains(Flags::WRITE));
        let is_known = !named.is_empty() && command.is_some_and(uses_named_keys_only);
        if writes && is_write && is_known {
            return Touched::writing(named);
        }
        if !writes && tells && is_known {
            return Touched::telling(named);
        }
        if tells {
            self.see();
        }
        if !writes {
            return Touched::default();
        }
        let mut touched = Touched::anything();
        // Upstream does not tell what SWAPDB changes.
        if command.is_some_and(|command| command.name == "swapdb") {
            touched.sweeps = true;
            self.front.flush();
        }
        touched
    }

    /// The same of any request, if it is to be known when its reply has come.
    fn touched(&self, request: &Request<'_>, session: &Session) -> Option<Touched> {
        let (command, class) = classify(request);
        let name = command.map_or("", |command| command.name);
        let queued = session.in_transaction && name != "exec";
        if !name.is_empty() {
            self.pauses.hear(&self.front, name, request, queued);
        }
        let mut transaction = self.transaction.lock();
        match name {
            "multi" => return None,
            "exec" => return Some(std::mem::take(&mut *transaction)),
            "discard" if !queued => return None,
            "discard" | "reset" => {
                *transaction = Touched::default();
                return None;
            }
            "unwatch" => return None,
            // EXEC tells whether they have changed.
            "watch" => {
                let keys = command.map_or_else(Vec::new, |command| keys_of(command, request));
                transaction.join(Touched::telling(keys));
                return None;
            }
            _ => {}
        }
        let touched = self.touched_by(command, class, request);
        if queued {
            transaction.join(touched);
            return None;
        }
        Some(touched)
    }
}

/// Whether it may change what some key holds.
fn may_write(command: Option<&Command>, class: Class) -> bool {
    let Some(command) = command else {
        return class != Class::Plain;
    };
    match class {
        Class::Near
        | Class::NearEach
        | Class::Plain
        | Class::Kill
        | Class::Session(_)
        | Class::Own => false,
        Class::Writes | Class::Unknown | Class::Sweeps => true,
        Class::Private => {
            let is_admin = command.flags.contains(Flags::ADMIN);
            command.flags.contains(Flags::WRITE)
                || is_admin && !is_administration(command) && command.name != "monitor"
                || matches!(command.name, "eval" | "evalsha" | "fcall")
                // What others sent meanwhile was held back.
                || command.name == "client|unpause"
        }
    }
}

/// Whether the keys that it names are all that it reads and writes. Scripts may do as they please,
/// and SORT follows patterns.
fn uses_named_keys_only(command: &Command) -> bool {
    !matches!(
        command.name,
        "eval" | "evalsha" | "fcall" | "eval_ro" | "evalsha_ro" | "fcall_ro" | "sort" | "sort_ro"
    )
}

fn keys_of(command: &Command, request: &Request<'_>) -> Vec<Box<[u8]>> {
    let mut keys = Vec::new();
    for_each_key(command, request, |at| {
        keys.push(request.argument(at).into());
    });
    keys
}

impl Guard for VisitGuard {
    fn touches(&self, request: Option<&Request<'_>>, session: &Session) -> Option<Touched> {
        let touched = match request {
            Some(request) => self.touched(request, session)?,
            None if session.in_transaction => {
                self.transaction.lock().join(Touched::anything());
                return None;
            }
            None => Touched::anything(),
        };
        if touched.is_nothing() {
            return None;
        }
        // When it has been done is told by no reply of its own.
        if session.is_silent() {
            self.see();
            return Some(touched.forgetting());
        }
        Some(touched)
    }

    fn settle(&self, touched: Touched) -> Option<Fence> {
        let front = &self.front;
        for key in &touched.written {
            front.void(key, Why::WriteEnd);
        }
        let (near, store) = (&front.near, &front.instance.store);
        if touched.told.iter().any(|key| near.knows(store, key)) {
            self.see();
        }
        if touched.sweeps {
            front.flush();
        }
        if !touched.writes_any {
            return None;
        }
        self.see();
        self.pauses.came_about(front);
        let front = Arc::clone(front);
        Some(Box::pin(async move { front.settle_write().await }))
    }

    fn connection(&self, openings: &[Opening]) -> Option<Box<dyn Connection>> {
        self.ahead.take(openings)
    }

    fn held_until(&self) -> Option<Instant> {
        self.front.holds_writes_until()
    }

    fn lets_go(&self, session: &Session) -> bool {
        let identity = self.front.instance.config().client_identity;
        let is_known = identity == ClientIdentity::Front || !session.told().is_other_user;
        is_known && !self.front.tracker.is_locked_out()
    }
}
