//! A client that comes for a visit: what it brings, when it may leave, and what its writes wait
//! for.
//!
//! While others read copies of what it writes, a reply to a write is held back until whatever has
//! changed is known to those who keep them: all but the reply's last byte may go out before.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::link::Link;
use super::{Gate, Guard, Passthrough, Requests, Visit};
use crate::resp::Request;
use crate::upstream::session::Effect;

/// What there is to know of a visitor.
pub(super) struct Guarded {
    guard: Arc<dyn Guard>,
    /// The numbers of replies that are to be held back.
    writes: VecDeque<usize>,
    held: Option<Held>,
}

/// A reply that is held back.
struct Held {
    fence: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Bytes behind it that were read.
    behind: usize,
}

impl Visit {
    /// Whether the client has a connection of its own from last time.
    pub(crate) fn keeps_connection(&self) -> bool {
        self.kept.is_some()
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Passthrough<C> {
    /// The client arrives.
    pub(super) fn enter(&mut self, visit: &mut Visit, guard: Arc<dyn Guard>) {
        self.requests = std::mem::take(&mut visit.requests);
        self.session = std::mem::take(&mut visit.session);
        let told = self.session.openings();
        if let Some((open, before)) = visit.kept.take()
            && before == told
        {
            self.link = Link::Open(open);
        }
        self.guarded = Some(Guarded {
            guard,
            writes: VecDeque::new(),
            held: None,
        });
    }

    /// The client leaves, and takes its connection along.
    pub(super) fn leave(&mut self, visit: &mut Visit) {
        visit.requests = std::mem::take(&mut self.requests);
        visit.session = std::mem::take(&mut self.session);
        // What became a plain connection to one master of a cluster stays that.
        if let Link::Open(open) = std::mem::replace(&mut self.link, Link::Closed)
            && !self.upstream.is_cluster()
        {
            visit.kept = Some((open, visit.session.openings()));
        }
    }

    /// Whether nothing binds the client to its connection, and nothing is on its way.
    pub(super) fn is_free(&self) -> bool {
        let Some(guarded) = &self.guarded else {
            return false;
        };
        let is_quiet = self.ending.is_none()
            && self.ready == 0
            && self.ledger.is_empty()
            && self.replies.is_empty()
            && !self.client_unflushed
            && !self.client_ended
            && guarded.held.is_none();
        let is_whole = self.gate == Gate::Open
            && !self.replies_stream
            && matches!(self.understood, Requests::Whole)
            && !matches!(self.link, Link::Connecting(_));
        is_quiet
            && is_whole
            && !self.ledger.is_subscribed()
            && !self.session.is_bound()
            && guarded.guard.lets_go(&self.session)
    }

    /// Whether the reply to this request is to be held back.
    pub(super) fn is_guarded_write(&self, request: &Request<'_>, effect: &Effect) -> bool {
        let session = &self.session;
        let is_write = |guarded: &Guarded| guarded.guard.is_write(request, session);
        // What is queued is written by EXEC.
        let is_queued = self.session.in_transaction && !matches!(effect, Effect::End);
        self.guarded.as_ref().is_some_and(is_write) && !is_queued
    }

    /// A request was counted.
    pub(super) fn note_owed(&mut self, is_write: bool) {
        let last = self.ledger.last();
        if let Some(guarded) = &mut self.guarded
            && is_write
        {
            guarded.writes.push_back(last);
        }
    }

    /// The replies that were to be held back will not come.
    pub(super) fn forget_writes(&mut self) {
        if let Some(guarded) = &mut self.guarded {
            guarded.writes.clear();
        }
    }

    /// Holds back the reply that has just ended, if it is to be; `behind`: bytes read behind it.
    pub(super) fn hold(&mut self, behind: usize) -> bool {
        let settled = self.ledger.settled();
        let Some(guarded) = &mut self.guarded else {
            return false;
        };
        let is_due = |at: &usize| *at <= settled;
        if !guarded.writes.front().is_some_and(is_due) {
            return false;
        }
        while guarded.writes.front().is_some_and(is_due) {
            guarded.writes.pop_front();
        }
        guarded.held = Some(Held {
            fence: guarded.guard.fence(),
            behind,
        });
        true
    }

    /// Until when the upstream is known to be silent without being dead.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.guarded.as_ref()?.guard.held_until()
    }

    pub(super) fn is_held(&self) -> bool {
        self.guarded
            .as_ref()
            .is_some_and(|guarded| guarded.held.is_some())
    }

    /// Bytes of replies that may be written.
    pub(super) fn released(&self) -> usize {
        let held = self
            .guarded
            .as_ref()
            .and_then(|guarded| guarded.held.as_ref());
        let kept = held.map_or_else(|| self.collected(), |held| held.behind + 1);
        self.replies.len().saturating_sub(kept)
    }

    /// Goes on behind a reply that was held back. True if one was.
    pub(super) fn poll_fence(&mut self, context: &mut Context<'_>) -> bool {
        let Some(guarded) = &mut self.guarded else {
            return false;
        };
        let Some(held) = &mut guarded.held else {
            return false;
        };
        if held.fence.as_mut().poll(context).is_pending() {
            return false;
        }
        let behind = held.behind;
        guarded.held = None;
        self.count_replies(behind);
        true
    }
}
