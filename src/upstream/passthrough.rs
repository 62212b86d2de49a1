//! One client in front of an upstream, and nothing cached: what it sends goes to the upstream as
//! it was sent, what the upstream answers comes back as it was answered.
//!
//! Each client has an upstream connection of its own, opened by its first request. So
//! transactions, subscriptions, blocking commands, `MONITOR`, scripts, `SELECT` and the pushes of
//! RESP3 need no care: they work because the upstream sees the very session the client means.
//! What is added is what a wire does not do:
//!
//! - *Somebody answers.* Replies are counted against requests (`ledger.rs`), so when the
//!   upstream refuses, hangs or dies, each reply it owes becomes an error that says so.
//! - *The client stays*, where what it sends next cannot mean something else on a new
//!   connection. What can be told again (`SELECT`, `AUTH` …, `session.rs`) is told again;
//!   what cannot (`MULTI`, `WATCH`, subscriptions, tracking, a blocked command) ends with the
//!   connection, and the client with it. No request that may have reached the upstream is ever
//!   sent twice.
//! - *Memory is bounded.* Two buffers, [`REQUESTS_BYTES_MAX`] and [`REPLIES_BYTES_MAX`]; whoever
//!   does not read stops the other from being read. Requests are held until they are complete,
//!   so that a dead upstream leaves none half sent; longer ones than [`REQUEST_BYTES_HELD`]
//!   pass through as a stream, and replies always do.
//!
//! All of it is one state machine that is polled, not two tasks: the order in which things are
//! looked at matters. The upstream's end is noticed before the next request is sent to it.
//!
//! When we lose count (a protocol error, replication, something unknown), we stop counting and
//! pass bytes on for as long as both sides live: a client must never get worse than a wire.
//!
//! Some requests are the server's own to answer, and to some replies it adds (`host.rs`).
//!
//! A client of a front with a near cache is passed through only while it must have a connection of
//! its own ([`visit`], `guard.rs`).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::buffer::Buffer;
use super::connect::{Connection, Opening, Upstream, count};
use super::ledger::{Ledger, Owed, Words};
use super::own::Monitored;
use super::session::Session;
use crate::resp::frame::FrameScanner;
use crate::resp::{Decoder, Limits, Request};

/// Bytes of requests held at most: those that wait for the upstream to read, and those that are
/// not complete.
pub const REQUESTS_BYTES_MAX: usize = 128 * 1024;

/// Bytes of one incomplete request that are held back; a longer one is forwarded as it comes.
/// More than an inline request may have, since those cannot be followed in pieces.
pub const REQUEST_BYTES_HELD: usize = Limits::INLINE_BYTES_MAX + 1024;

/// Bytes of replies held at most until the client reads. Errors of our own may add to it, of which
/// there are at most [`OWED_REPLIES_MAX`].
pub const REPLIES_BYTES_MAX: usize = 64 * 1024;

/// Requests under way at most. Behind those, the client is not read until replies come.
pub const OWED_REPLIES_MAX: usize = 16 * 1024;

/// How long a client may take to read on, and then to close, once we have ended.
pub const CLOSING_PATIENCE: Duration = Duration::from_secs(5);

const _: () = assert!(REQUEST_BYTES_HELD < REQUESTS_BYTES_MAX);

mod busy;
mod guard;
mod host;
mod link;
mod replies;
mod requests;
#[cfg(test)]
mod tests;

use guard::Guarded;
pub(crate) use guard::Touched;
use host::Hosted;
pub(crate) use host::{Answer, Host};
use link::{Farewell, Link, Loss, Open};

/// Requests decoded at once.
const BATCH_REQUESTS: usize = 128;

/// What a forwarded request may claim: as much as any upstream allows, which knows its limits.
const LIMITS: Limits = Limits {
    arguments_max: Limits::ARGUMENTS_MAX,
    bulk_bytes_max: 1 << 40,
    inline_bytes_max: Limits::INLINE_BYTES_MAX,
};

/// Whether a client is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// It goes on.
    #[default]
    No,
    /// Nothing more is read from it; what was read is answered, unless it blocks, and then it
    /// ends. What is not answered by then is not.
    Drain {
        /// When it ends at the latest.
        by: Instant,
    },
    /// It ends now.
    Now,
}

/// How a client's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It goes on, but nothing binds it to its connection: see [`Visit`].
    Free,
    /// The client closed, or its connection broke.
    ClientClosed,
    /// The client sent `QUIT`.
    Quit,
    /// The upstream ended, and with it what the client's next requests would have relied on.
    UpstreamLost,
    /// It was told to.
    Stopped,
}

/// Serves one client until it ends. `first`: what was read from it already.
pub async fn run<C: AsyncRead + AsyncWrite + Unpin>(
    client: C,
    first: Vec<u8>,
    upstream: Arc<Upstream>,
    mut control: watch::Receiver<Stop>,
) -> Ended {
    Passthrough::new(client, first, upstream)
        .run(&mut control)
        .await
}

/// The same for a server that answers some requests itself.
pub(crate) async fn run_hosted<C: AsyncRead + AsyncWrite + Unpin>(
    client: C,
    upstream: Arc<Upstream>,
    host: Arc<dyn Host>,
    mut control: watch::Receiver<Stop>,
) -> Ended {
    let mut passthrough = Passthrough::new(client, Vec::new(), upstream);
    passthrough.hosted = Some(Hosted::new(host));
    passthrough.run(&mut control).await
}

/// A client that is passed through for only as long as it must have a connection of its own.
///
/// What it brings along, and takes along when it leaves: see [`visit`].
#[derive(Default)]
pub struct Visit {
    /// What was read from it.
    pub(crate) requests: Buffer,
    /// What is known of its session.
    pub(crate) session: Session,
    /// Its connection from last time, and what that was told.
    kept: Option<(Open, Vec<Opening>)>,
}

/// What ends when all that has changed before is known.
pub(crate) type Fence = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who must know of writes that pass through before their replies do.
pub(crate) trait Guard: Send + Sync {
    /// What this request, which is about to be sent, does to keys, if that is to be known when its
    /// reply has come. No request: one that is too long to be looked at.
    fn touches(&self, request: Option<&Request<'_>>, session: &Session) -> Option<Touched>;

    /// Its reply has come, or never will: that is done now. The reply waits for the fence, if
    /// there is one.
    fn settle(&self, touched: Touched) -> Option<Fence>;

    /// A connection that was told just this and of which nobody has made use, if there is one.
    fn connection(&self, openings: &[Opening]) -> Option<Box<dyn Connection>>;

    /// Until when the upstream keeps requests waiting because it was told to.
    fn held_until(&self) -> Option<Instant>;

    /// Whether a client of this identity of its own may leave.
    fn lets_go(&self, session: &Session) -> bool;
}

/// Serves a client until it ends or has nothing more that needs a connection of its own.
pub(crate) async fn visit<C: AsyncRead + AsyncWrite + Unpin>(
    client: C,
    visit: &mut Visit,
    upstream: Arc<Upstream>,
    guard: Arc<dyn Guard>,
    host: Arc<dyn Host>,
    mut control: watch::Receiver<Stop>,
) -> Ended {
    let mut passthrough = Passthrough::new(client, Vec::new(), upstream);
    passthrough.hosted = Some(Hosted::new(host));
    passthrough.enter(visit, guard);
    let ended = passthrough.run(&mut control).await;
    passthrough.leave(visit);
    ended
}

/// How far the requests are understood.
enum Requests {
    /// They are held until complete, decoded and counted.
    Whole,
    /// So is the rest of one that is too long to be held, and counted already.
    Long(FrameScanner),
    /// The same, but the upstream it was for is lost: the rest is thrown away.
    Discarded(FrameScanner),
    /// Bytes, passed on as they come.
    Stream,
}

/// Whether more requests may be counted and sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// `RESET` was sent to a connection that must then be opened anew.
    Reset,
    /// `QUIT` was sent: what the client sends behind it means nothing.
    Quit,
}

/// Whether something has moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Headway {
    Some,
    None,
}

/// The end, which has begun: what is still for the client is delivered.
struct Ending {
    how: Ended,
    /// When patience ends; it begins anew with every byte the client takes.
    by: Option<Instant>,
    /// The client was told that no more will come.
    told: bool,
}

struct Passthrough<C> {
    client: C,
    /// The client will send no more.
    client_ended: bool,
    /// Bytes written to the client may still sit in TLS.
    client_unflushed: bool,

    upstream: Arc<Upstream>,
    link: Link,
    /// Since when the upstream has kept us waiting.
    waiting_since: Option<Instant>,

    /// From the client.
    requests: Buffer,
    /// Bytes at its front that are counted, and may be sent.
    ready: usize,
    understood: Requests,
    decoder: Decoder,
    gate: Gate,

    /// For the client.
    replies: Buffer,
    /// They are counted no more.
    replies_stream: bool,
    /// What of them passes, once it monitors.
    monitored: Option<Monitored>,
    scanner: FrameScanner,
    /// Of the present frame, if they matter.
    words: Option<Words>,

    ledger: Ledger,
    session: Session,
    /// What answers a transaction that began while the upstream was busy.
    busy: Option<Vec<u8>>,
    timer: Option<Pin<Box<Sleep>>>,
    ending: Option<Ending>,

    guarded: Option<Guarded>,
    hosted: Option<Hosted>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Passthrough<C> {
    async fn run(&mut self, control: &mut watch::Receiver<Stop>) -> Ended {
        loop {
            let stop = *control.borrow_and_update();
            tokio::select! {
                biased;
                changed = control.changed() => if changed.is_err() {
                    // Nobody is left to say anything else.
                    return poll_fn(|context| self.poll(context, stop)).await;
                },
                ended = poll_fn(|context| self.poll(context, stop)) => return ended,
            }
        }
    }

    fn new(client: C, first: Vec<u8>, upstream: Arc<Upstream>) -> Self {
        Self {
            client,
            client_ended: false,
            client_unflushed: false,
            upstream,
            link: Link::Closed,
            waiting_since: None,
            requests: Buffer::of(first),
            ready: 0,
            understood: Requests::Whole,
            decoder: Decoder::default(),
            gate: Gate::Open,
            replies: Buffer::default(),
            replies_stream: false,
            monitored: None,
            scanner: FrameScanner::new(),
            words: None,
            ledger: Ledger::default(),
            session: Session::default(),
            busy: None,
            timer: None,
            ending: None,
            guarded: None,
            hosted: None,
        }
    }

    /// Moves what can be moved, until all that is left must be waited for.
    fn poll(&mut self, context: &mut Context<'_>, stop: Stop) -> Poll<Ended> {
        if stop == Stop::Now {
            return Poll::Ready(Ended::Stopped);
        }
        loop {
            let Ok(headway) = self.headway(context, stop) else {
                return Poll::Ready(Ended::ClientClosed);
            };
            if let Some(ending) = &self.ending
                && self.replies.is_empty()
                && !self.client_unflushed
            {
                let how = ending.how;
                if self.poll_farewell(context).is_ready() {
                    return Poll::Ready(how);
                }
            }
            if headway == Headway::Some {
                continue;
            }
            if stop == Stop::No && self.is_free() {
                return Poll::Ready(Ended::Free);
            }
            self.requests.relax();
            self.replies.relax();
            match self.poll_timer(context, stop) {
                Timer::Waits => return Poll::Pending,
                Timer::Acted => {}
                Timer::Ended(how) => return Poll::Ready(how),
            }
        }
    }

    /// One round over all that can move. An error means that the client has gone.
    fn headway(&mut self, context: &mut Context<'_>, stop: Stop) -> io::Result<Headway> {
        let mut moved = self.poll_fence(context);
        moved |= self.write_client(context)?;
        if self.ending.is_none() {
            moved |= self.poll_link(context);
        }
        if self.ending.is_none() && stop == Stop::No {
            moved |= self.read_client(context)?;
        }
        if self.ending.is_none() {
            moved |= self.account();
        }
        if self.ending.is_none() && !moved {
            moved = self.see_the_end(stop);
        }
        Ok(if moved { Headway::Some } else { Headway::None })
    }

    // The client's side.

    /// Writes what is for the client. An error means that it has gone.
    fn write_client(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while self.released() > 0 {
            let len = self.released();
            match self.replies.poll_drain(context, &mut self.client, len) {
                Poll::Pending => break,
                Poll::Ready(written) => written?,
            };
            self.client_unflushed = true;
            moved = true;
        }
        if self.client_unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.client).poll_flush(context)
        {
            flushed?;
            self.client_unflushed = false;
        }
        if moved && let Some(ending) = &mut self.ending {
            ending.by = None;
        }
        Ok(moved)
    }

    /// Reads from the client, if there is room. An error means that it has gone.
    fn read_client(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if self.client_ended || self.requests.len() >= REQUESTS_BYTES_MAX {
            return Ok(false);
        }
        match self
            .requests
            .poll_fill(context, &mut self.client, REQUESTS_BYTES_MAX)
        {
            Poll::Pending => return Ok(false),
            Poll::Ready(read) => self.client_ended = read? == 0,
        }
        Ok(true)
    }

    // Ends.

    /// Ends once nothing more can come of going on. Called when nothing moves.
    fn see_the_end(&mut self, stop: Stop) -> bool {
        let draining = stop != Stop::No;
        let pending = self.ready > 0
            || matches!(self.link, Link::Connecting(_))
            || self.gate == Gate::Reset
            || self.ledger.len() >= OWED_REPLIES_MAX;
        if !(draining || self.client_ended) || pending {
            return false;
        }
        let Link::Open(open) = &mut self.link else {
            self.end(if draining {
                Ended::Stopped
            } else {
                Ended::ClientClosed
            });
            return true;
        };
        let endless = self.replies_stream
            || matches!(self.understood, Requests::Long(_)) && self.ledger.len() <= 1
            || matches!(self.ledger.next(), Some(Owed::Blocking | Owed::Stream));
        if draining && (endless || self.ledger.is_empty()) {
            self.end(Ended::Stopped);
        } else if self.client_ended && !endless && self.ledger.is_empty() {
            self.end(Ended::ClientClosed);
        } else if self.client_ended && endless && open.farewell == Farewell::No {
            // A blocked command of a client that went must not take anything any more.
            open.farewell = Farewell::Due;
        } else {
            return false;
        }
        true
    }

    fn end(&mut self, how: Ended) {
        self.link = Link::Closed;
        self.ending = Some(Ending {
            how,
            by: None,
            told: false,
        });
    }

    /// Tells the client that no more will come, and waits for it to close: closing while it is
    /// still sending could take back what it has not read.
    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(ending) = &mut self.ending else {
            return Poll::Ready(());
        };
        if !ending.told {
            if std::task::ready!(Pin::new(&mut self.client).poll_shutdown(context)).is_err() {
                return Poll::Ready(());
            }
            ending.told = true;
        }
        while !self.client_ended {
            self.requests.consume(self.requests.len());
            let read = self
                .requests
                .poll_fill(context, &mut self.client, REQUESTS_BYTES_MAX);
            self.client_ended = matches!(std::task::ready!(read), Ok(0) | Err(_));
        }
        Poll::Ready(())
    }

    /// How long the upstream may be silent, if it keeps us waiting: if it owes something, or does
    /// not read, and neither the client nor the nature of a command is the reason.
    fn patience(&self) -> Option<Duration> {
        let Link::Open(open) = &self.link else {
            return None;
        };
        if self.replies.len() >= REPLIES_BYTES_MAX || self.is_held() {
            return None;
        }
        if open.farewell != Farewell::No {
            return Some(CLOSING_PATIENCE);
        }
        let waits = match self.ledger.next() {
            _ if self.replies_stream => false,
            None => self.ready > 0,
            Some(Owed::Blocking | Owed::Stream) => false,
            Some(_) => {
                let unfinished = matches!(self.understood, Requests::Long(_));
                self.ready > 0 || self.ledger.len() > usize::from(unfinished)
            }
        };
        let timeout = self.upstream.timeout();
        (waits && !timeout.is_zero()).then_some(timeout)
    }

    /// Waits for the next deadline, or does what one asks for that has passed.
    fn poll_timer(&mut self, context: &mut Context<'_>, stop: Stop) -> Timer {
        let deadline = self.deadline(stop);
        let Some(deadline) = deadline else {
            return Timer::Waits;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // Put off only when it goes off: most replies come long before.
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if deadline > Instant::now() {
                timer.as_mut().reset(deadline);
                continue;
            }
            if let Some(ending) = &self.ending {
                return Timer::Ended(ending.how);
            }
            if let Stop::Drain { by } = stop
                && by <= deadline
            {
                return Timer::Ended(Ended::Stopped);
            }
            count(&self.upstream.counters.timeouts, 1);
            self.lose(&Loss::Silent(self.upstream.timeout()));
            return Timer::Acted;
        }
        Timer::Waits
    }

    fn deadline(&mut self, stop: Stop) -> Option<Instant> {
        let drained = match stop {
            Stop::Drain { by } => Some(by),
            Stop::No | Stop::Now => None,
        };
        let own = if let Some(ending) = &mut self.ending {
            Some(
                *ending
                    .by
                    .get_or_insert_with(|| Instant::now() + CLOSING_PATIENCE),
            )
        } else if let Some(patience) = self.patience() {
            let since = *self.waiting_since.get_or_insert_with(Instant::now);
            since
                .max(self.held_until().unwrap_or(since))
                .checked_add(patience)
        } else {
            self.waiting_since = None;
            None
        };
        drained.into_iter().chain(own).min()
    }
}

/// What became of the next deadline.
enum Timer {
    Waits,
    Acted,
    Ended(Ended),
}
