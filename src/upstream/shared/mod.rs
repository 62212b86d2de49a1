//! Connections to the upstream that many clients share.
//!
//! A [`Link`] is one such connection: requests of many clients go out on it in the order in which
//! they were handed over, and each reply goes to whom it is owed. A link belongs to one I/O
//! thread, and so do the clients that use it. A client uses one link only, so that its requests
//! are executed in the order in which it sent them.
//!
//! The [`Tracker`] is one connection for the whole server, on a thread of its own: there the
//! upstream tells which keys have changed that were read over any link (`CLIENT TRACKING` with
//! `REDIRECT`, or `BCAST`). What is done about it is a near cache's business: [`Coherence`].

mod backoff;
mod link;
mod pace;
mod queue;
mod tracker;

pub(crate) use backoff::Backoff;
pub use link::{Link, Shown};
pub use tracker::{Rung, Tracker};

use tokio::time::Instant;

use crate::resp::frame::Kind;

/// A shared connection's number: the same for as long as the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u16);

/// The tracker's.
pub const TRACKER: Slot = Slot(0);

/// Who waits for a reply.
pub trait Waiter: 'static {
    /// The next bytes of the reply; `ended` with the last of them.
    fn take(&mut self, bytes: &[u8], ended: Option<Kind>);

    /// The reply, or the rest of it, will not come.
    fn lose(self, why: &str);
}

/// What must be known of connections by who keeps copies of what was read over them.
pub trait Coherence: Send + Sync {
    /// Counts how often this connection was lost.
    fn generation(&self, slot: Slot) -> u32;

    /// The connection is lost: what was read over it is not known to be fresh any more.
    fn lose(&self, slot: Slot);

    /// The connection has answered what was sent at this time: so it was whole then, and so is
    /// all that it told before.
    fn heard(&self, slot: Slot, sent: Instant);

    /// The key has changed, in whichever database.
    fn invalidate(&self, key: &[u8]);

    /// Every key may have changed.
    fn flush(&self);
}
