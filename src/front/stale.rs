//! `stale-if-error`: copies that are not known to be fresh, where upstream fails.
//!
//! A read that failed is answered by such a copy, if there is one; one that would fail, as upstream
//! is known to be down, at once. What was voided is never served, nor is anything to a client whose
//! own writes may have changed it unseen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Front;
use super::client::Shared;
use super::outbox::Parts;
use super::waiting::Keys;
use crate::command::spec::Command;
use crate::near::{Line, Now, Place};
use crate::resp::Request;

/// What there is to say of a read if upstream fails.
pub(super) struct Fallback {
    db: u16,
    line_id: u32,
    arguments: Box<[u8]>,
    /// It reads several keys, each by this line.
    is_each: bool,
}

impl Fallback {
    /// Stale copies of these keys, as the reply. None if one of them is not here.
    pub(super) fn answer(&self, front: &Front, keys: &Keys) -> Option<Vec<u8>> {
        let (store, now) = (&front.instance.store, front.now());
        let line = Line {
            id: self.line_id,
            arguments: &self.arguments,
        };
        let stale = |key: &[u8]| -> Option<Box<[u8]>> {
            let place = Place {
                db: self.db,
                key: store.key(key),
            };
            let mut reply = Vec::new();
            front.near.get_stale(store, place, line, now, &mut reply)?;
            Some(reply.into())
        };
        let reply = if self.is_each {
            let parts = keys.0.iter().map(|key| stale(key).map(Some));
            let parts = Parts::new(parts.collect::<Option<_>>()?, b"");
            let mut reply = Vec::new();
            parts.write(&mut reply);
            reply
        } else {
            stale(keys.0.first()?)?.into()
        };
        front.begin_stale();
        Some(reply)
    }
}

impl Shared {
    /// What there is to say of a read that is sent now, if it fails: nothing where stale copies are
    /// not served.
    pub(super) fn fallback(&self, db: u16, line: Line<'_>, is_each: bool) -> Option<Box<Fallback>> {
        let may_be_stale = self.front.near.serves_stale() && !self.outbox.has_unknown();
        may_be_stale.then(|| {
            Box::new(Fallback {
                db,
                line_id: line.id,
                arguments: line.arguments.into(),
                is_each,
            })
        })
    }

    /// Answers by a stale copy at once, if upstream is known to be down. True if it did.
    pub(super) fn answer_stale(&self, place: Place<'_>, line: Line<'_>, now: Now) -> bool {
        let near = &self.front.near;
        if !near.serves_stale() || !self.link().shown().is_down() {
            return false;
        }
        let store = &self.front.instance.store;
        let answered = self.outbox.answer(|reply| {
            let age = near.get_stale(store, place, line, now, reply);
            age.map(drop).ok_or(())
        });
        if answered.is_ok() {
            self.front.begin_stale();
        }
        answered.is_ok()
    }

    /// A read of several keys over a connection whose changes are not told.
    pub(super) fn observe_each(
        &self,
        command: &Command,
        request: &Request<'_>,
        raw: &[u8],
        otherwise: Option<Box<Fallback>>,
    ) {
        if let Some(stale) = &otherwise
            && self.link().shown().is_down()
        {
            let keys = Keys(request.iter_from(1).map(Into::into).collect());
            if let Some(reply) = stale.answer(&self.front, &keys) {
                return self.outbox.say(&reply);
            }
        }
        self.observe_or(command, request, raw, otherwise);
    }
}

/// A time in which upstream fails, and stale copies are served.
#[derive(Default)]
pub(super) struct Episode {
    is_on: AtomicBool,
    /// When the last one was, by the near cache's clock.
    last_ns: AtomicU64,
}

/// It is over when none was served for so long, and no connection is down.
const QUIET_NS: u64 = 1_000_000_000;

impl Front {
    /// A stale copy is served.
    pub(super) fn begin_stale(&self) {
        let now_ns = self.now().mono_ns;
        self.stale.last_ns.store(now_ns, Ordering::Relaxed);
        if !self.stale.is_on.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                upstream = self.upstream.shown(),
                "upstream fails: stale copies are served (stale-if-error)"
            );
        }
    }

    /// Tells when upstream answers again. To be called now and then.
    pub(super) fn end_stale(&self) {
        if !self.stale.is_on.load(Ordering::Relaxed) {
            return;
        }
        let last_ns = self.stale.last_ns.load(Ordering::Relaxed);
        if self.now().mono_ns.saturating_sub(last_ns) < QUIET_NS {
            return;
        }
        let is_down =
            self.links.lock().iter().any(|(_, _, shown)| {
                shown.is_down() || matches!(shown.state(), "connecting" | "lost")
            });
        if !is_down && self.stale.is_on.swap(false, Ordering::Relaxed) {
            tracing::info!(
                upstream = self.upstream.shown(),
                "upstream answers: no stale copies are served any more"
            );
        }
    }
}
