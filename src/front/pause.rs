//! `CLIENT PAUSE … WRITE` of a client of this front: until when upstream holds back writes.
//!
//! Upstream holds back a connection, not a request: a write on a shared connection would keep
//! waiting all that others send behind it. So while a pause is on, what upstream would hold back
//! goes over connections of the clients' own. A pause that is thought to last too long costs such a
//! connection; one that is thought to be over too soon may stall a shared one. So it begins here
//! when the request is seen, and ends with upstream's reply to `CLIENT UNPAUSE`. A pause of all
//! commands is none of this: nobody could pass.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Front, Letter};
use crate::clock;
use crate::command::options::is_word;
use crate::resp::Request;

/// Until when writes are held back.
#[derive(Default)]
pub(super) struct Pause {
    until_ns: AtomicU64,
}

/// What a client has said of pauses that is still to come about.
#[derive(Default)]
pub(super) struct Announced {
    /// Of a pause within its transaction, in ms; else 0.
    queued_ms: AtomicU64,
    ends: AtomicBool,
}

/// How long writes are to be held back by this `CLIENT PAUSE`, in ms, if by this one they are.
pub(super) fn of_writes(request: &Request<'_>) -> Option<u64> {
    let (ms, mode) = (request.get(2)?, request.get(3)?);
    let ms = std::str::from_utf8(ms).ok()?.parse().ok()?;
    is_word(mode, "write").then_some(ms)
}

impl Announced {
    /// A request about to be sent; `command`: its name in the table.
    pub(super) fn hear(&self, front: &Front, command: &str, request: &Request<'_>, queued: bool) {
        match command {
            "client|pause" => match of_writes(request) {
                Some(ms) if queued => self.queued_ms.store(ms, Ordering::Relaxed),
                Some(ms) => front.pause_writes(ms),
                None => {}
            },
            "client|unpause" => self.ends.store(true, Ordering::Relaxed),
            "exec" => match self.queued_ms.swap(0, Ordering::Relaxed) {
                0 => {}
                ms => front.pause_writes(ms),
            },
            "discard" | "reset" => {
                self.queued_ms.store(0, Ordering::Relaxed);
                self.ends.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Upstream has replied to what was heard.
    pub(super) fn came_about(&self, front: &Front) {
        if self.ends.swap(false, Ordering::Relaxed) {
            front.pause.until_ns.store(0, Ordering::Relaxed);
        }
    }
}

impl Front {
    /// Upstream will hold back writes for so long. As there, a pause is only ever extended.
    pub(super) fn pause_writes(&self, ms: u64) {
        let until = self
            .nanos(clock::now())
            .saturating_add(ms.saturating_mul(1_000_000));
        self.pause.until_ns.fetch_max(until, Ordering::Relaxed);
    }

    /// Whether upstream holds back writes at this time.
    pub(super) fn holds_writes(&self, mono_ns: u64) -> bool {
        self.pause.until_ns.load(Ordering::Relaxed) > mono_ns
    }

    /// When it stops doing so.
    pub(super) fn holds_writes_until(&self) -> Option<Instant> {
        let until = self.pause.until_ns.load(Ordering::Relaxed);
        let is_on = until > self.nanos(clock::now());
        let until = is_on.then(|| self.began.checked_add(Duration::from_nanos(until)));
        until.flatten()
    }

    /// Ends when all that was sent over the shared connections before is answered: a write that
    /// comes upstream just behind the pause would stall one of them.
    pub(super) async fn settle(&self) {
        let (settled, mut settling) = mpsc::channel(1);
        for mailbox in &self.mailboxes {
            // A thread that has ended sends nothing any more.
            let _ = mailbox.send(Letter::Settle(settled.clone()));
        }
        drop(settled);
        // None, once all who held it have dropped it.
        let _ = settling.recv().await;
    }
}
