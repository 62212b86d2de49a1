//! How much of its replies a client may leave unread: `client-output-buffer-limit`.
//!
//! It is only looked at when the client takes nothing, so who reads what it is sent costs no look.

use std::pin::Pin;
use std::task::Context;

use tokio::time::Sleep;

use crate::config::BufferLimit;
use crate::instance::soft_limit::{Overdue, SoftLimit};

/// What one client leaves unread.
#[derive(Default)]
pub(super) struct Unread {
    soft_limit: SoftLimit,
    /// Bytes, at the last look.
    seen: u64,
    /// Until the next look, though nothing happens.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Unread {
    /// The client takes nothing now, and so many bytes are unread. True if that is too much; if not
    /// now, it may come to be, and then the task is woken.
    pub(super) fn is_over(
        &mut self,
        context: &mut Context<'_>,
        limit: BufferLimit,
        bytes: u64,
    ) -> bool {
        self.look(limit, bytes);
        if limit.hard_bytes > 0 && bytes > limit.hard_bytes {
            return true;
        }
        loop {
            match self.soft_limit.next_look(limit) {
                Err(Overdue) => return true,
                Ok(None) => {
                    self.sleep = None;
                    return false;
                }
                Ok(Some(at)) => {
                    let new = || Box::pin(tokio::time::sleep_until(at));
                    let sleep = self.sleep.get_or_insert_with(new);
                    if sleep.deadline() != at {
                        sleep.as_mut().reset(at);
                    }
                    if sleep.as_mut().poll(context).is_pending() {
                        return false;
                    }
                }
            }
        }
    }

    /// The client has taken everything.
    #[inline]
    pub(super) fn drain(&mut self, limit: impl FnOnce() -> BufferLimit) {
        if self.seen > 0 {
            self.look(limit(), 0);
            self.sleep = None;
        }
    }

    fn look(&mut self, limit: BufferLimit, bytes: u64) {
        if bytes > self.seen {
            self.soft_limit.added(limit, bytes);
        } else if bytes < self.seen {
            self.soft_limit.taken(limit, bytes);
        }
        self.seen = bytes;
    }
}
