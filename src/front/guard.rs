//! What a client on a private connection may change, and when it may come back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use super::Front;
use super::class::{Class, classify, is_administration, tells_of_keys};
use super::pause::Announced;
use crate::command::spec::Flags;
use crate::config::ClientIdentity;
use crate::resp::Request;
use crate::upstream::passthrough::Guard;
use crate::upstream::session::Session;
use crate::upstream::shared::Coherence as _;

/// The guard of one client.
pub(super) struct VisitGuard {
    front: Arc<Front>,
    /// All keys may have changed since the last fence, without a word from upstream.
    sweeps: AtomicBool,
    /// The client may have seen something that is newer than a copy.
    has_seen: AtomicBool,
    pauses: Announced,
}

impl VisitGuard {
    pub(super) fn new(front: &Arc<Front>) -> Self {
        Self {
            front: Arc::clone(front),
            sweeps: AtomicBool::new(false),
            has_seen: AtomicBool::new(false),
            pauses: Announced::default(),
        }
    }

    /// Whether what the client did since it was last asked tells of keys.
    pub(super) fn take_seen(&self) -> bool {
        self.has_seen.swap(false, Ordering::Relaxed)
    }
}

impl Guard for VisitGuard {
    fn is_write(&self, request: &Request<'_>, session: &Session) -> bool {
        let (command, class) = classify(request);
        if tells_of_keys(command, class) {
            self.has_seen.store(true, Ordering::Relaxed);
        }
        let Some(command) = command else {
            return class != Class::Plain;
        };
        let queued = session.in_transaction && command.name != "exec";
        self.pauses.hear(&self.front, command.name, request, queued);
        // Upstream does not tell what SWAPDB changes.
        if command.name == "swapdb" {
            self.sweeps.store(true, Ordering::Relaxed);
            self.front.flush();
        }
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
                    || matches!(command.name, "exec" | "eval" | "evalsha" | "fcall")
                    // What others sent meanwhile was held back.
                    || command.name == "client|unpause"
            }
        }
    }

    fn held_until(&self) -> Option<Instant> {
        self.front.holds_writes_until()
    }

    fn lets_go(&self, session: &Session) -> bool {
        let identity = self.front.instance.config().client_identity;
        let is_known = identity == ClientIdentity::Front || !session.told().is_other_user;
        is_known && !self.front.tracker.is_locked_out()
    }

    fn fence(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let front = Arc::clone(&self.front);
        let sweeps = self.sweeps.swap(false, Ordering::Relaxed);
        self.pauses.came_about(&self.front);
        Box::pin(async move {
            if sweeps {
                front.flush();
            }
            front.settle_write().await;
        })
    }
}
