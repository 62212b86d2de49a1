//! A client that comes for a visit: what it brings, when it may leave, and what its writes wait
//! for.
//!
//! While others read copies of what it writes, those who keep them are told of the keys of a write
//! before its reply goes out. The reply to one of which the keys are not known is held back until
//! whatever has changed is known: all but its last byte may go out before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::link::Link;
use super::{Fence, Gate, Guard, Passthrough, Requests, Visit};
use crate::resp::Request;
use crate::upstream::connect::{Connection, Opening};

/// What there is to know of a visitor.
pub(super) struct Guarded {
    guard: Arc<dyn Guard>,
    /// What requests under way do to keys, by the numbers of their replies.
    touched: VecDeque<(usize, Touched)>,
    /// Bytes of all that.
    bytes: usize,
    held: Option<Held>,
}

/// What a request does to keys, as far as those must know who keep copies.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// It may write these.
    pub(crate) written: Vec<Box<[u8]>>,
    /// It tells of these.
    pub(crate) told: Vec<Box<[u8]>>,
    /// It may write any.
    pub(crate) writes_any: bool,
    /// The same, and upstream does not tell which.
    pub(crate) sweeps: bool,
}

/// Bytes of the keys of requests under way, and of those of a transaction, that are remembered. Of
/// what is beyond, any key may be written.
const KEYS_BYTES_MAX: usize = 256 * 1024;

/// What it costs to remember a key, beside its bytes.
const KEY_BYTES: usize = 32;

impl Touched {
    /// Of a request that writes these keys.
    pub(crate) fn writing(written: Vec<Box<[u8]>>) -> Self {
        Self {
            written,
            ..Self::default()
        }
    }

    /// Of a request that tells of these keys.
    pub(crate) fn telling(told: Vec<Box<[u8]>>) -> Self {
        Self {
            told,
            ..Self::default()
        }
    }

    /// Of a request of which the keys are not known.
    pub(crate) fn anything() -> Self {
        Self {
            writes_any: true,
            ..Self::default()
        }
    }

    /// The same, with keys that are not remembered.
    pub(crate) fn forgetting(self) -> Self {
        Self {
            sweeps: self.sweeps,
            ..Self::anything()
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        !self.writes_any && self.written.is_empty() && self.told.is_empty()
    }

    /// Bytes of memory.
    fn bytes(&self) -> usize {
        let keys = self.written.iter().chain(&self.told);
        keys.map(|key| key.len() + KEY_BYTES).sum()
    }

    /// One request more that is answered with this one.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.writes_any |= other.writes_any;
        self.sweeps |= other.sweeps;
        if self.writes_any || self.bytes() + other.bytes() > KEYS_BYTES_MAX {
            *self = std::mem::take(self).forgetting();
            return;
        }
        self.written.append(&mut other.written);
        self.told.append(&mut other.told);
    }
}

impl Guarded {
    fn next(&mut self) -> Option<Touched> {
        let (_, touched) = self.touched.pop_front()?;
        self.bytes -= touched.bytes();
        Some(touched)
    }
}

/// A reply that is held back.
struct Held {
    fence: Fence,
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
            touched: VecDeque::new(),
            bytes: 0,
            held: None,
        });
    }

    /// A connection that was opened for whoever needs one.
    pub(super) fn connection(&self, openings: &[Opening]) -> Option<Box<dyn Connection>> {
        self.guarded.as_ref()?.guard.connection(openings)
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

    /// What a request that is about to be counted does to keys.
    pub(super) fn touched(&self, request: Option<&Request<'_>>) -> Option<Touched> {
        let guarded = self.guarded.as_ref()?;
        guarded.guard.touches(request, &self.session)
    }

    /// A request was counted.
    pub(super) fn note_owed(&mut self, touched: Option<Touched>) {
        let last = self.ledger.last();
        let (Some(guarded), Some(mut touched)) = (&mut self.guarded, touched) else {
            return;
        };
        if guarded.bytes + touched.bytes() > KEYS_BYTES_MAX {
            touched = touched.forgetting();
        }
        guarded.bytes += touched.bytes();
        guarded.touched.push_back((last, touched));
    }

    /// The replies that are owed will not come. What was asked for may have been done.
    pub(super) fn forget_writes(&mut self) {
        let Some(guarded) = &mut self.guarded else {
            return;
        };
        while let Some(touched) = guarded.next() {
            // Nobody was told that a write has come about.
            drop(guarded.guard.settle(touched));
        }
    }

    /// Does what the reply that has just ended asks for, and holds it back if it is to be;
    /// `behind`: bytes read behind it.
    pub(super) fn hold(&mut self, behind: usize) -> bool {
        let settled = self.ledger.settled();
        let Some(guarded) = &mut self.guarded else {
            return false;
        };
        let mut fence = None;
        while guarded
            .touched
            .front()
            .is_some_and(|(at, _)| *at <= settled)
            && let Some(touched) = guarded.next()
        {
            fence = guarded.guard.settle(touched).or(fence);
        }
        let Some(fence) = fence else {
            return false;
        };
        guarded.held = Some(Held { fence, behind });
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
