//! One shared connection: a queue of requests, and who waits for the replies.
//!
//! Requests are handed over by [`Link::send`], which never waits; [`Link::run`] moves them. All
//! that many clients ask for in one turn of the event loop leaves in one write. Replies are passed
//! on in pieces as they come, so a long one is never held here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::backoff::Backoff;
use super::queue::{Queue, Refused, Tracks, Waiting};
use super::tracker::{Rung, Tracker, is_for_good};
use super::{Coherence, Slot, TRACKER, Waiter};
use crate::clock;
use crate::resp::Protocol;
use crate::resp::frame::{FrameScanner, Kind};
use crate::upstream::buffer::Buffer;
use crate::upstream::connect::{Connection, Opening, Upstream, count};
use crate::upstream::own;

/// Bytes of replies read at once.
const READ_BYTES: usize = 64 * 1024;
/// A connection that lived for so long was a good one.
const LONG_LIVED: Duration = Duration::from_secs(1);
/// Heartbeats within the time in which a connection must have been heard of.
const HEARTBEATS_PER_BOUND: u32 = 4;

/// One shared connection.
pub struct Link<W> {
    slot: Slot,
    protocol: Protocol,
    /// The database in which a new connection begins.
    database: u32,
    queue: RefCell<Queue<W>>,
    /// The tracker's generation for which reads over this connection are tracked.
    armed: Cell<Option<u32>>,
    /// The same and more, for other threads.
    shown: Arc<Shown>,
    waker: RefCell<Option<Waker>>,
}

/// How a connection is, as other threads may see it.
#[derive(Debug)]
pub struct Shown {
    state: AtomicU8,
    waiting: AtomicUsize,
    /// The tracker's generation, or [`UNARMED`].
    armed: AtomicU64,
    /// The last attempt to connect failed, or upstream fell silent, and it was not heard of since.
    down: AtomicBool,
}

const IDLE: u8 = 0;
const CONNECTING: u8 = 1;
const OPEN: u8 = 2;
const LOST: u8 = 3;
/// No generation of the tracker's.
const UNARMED: u64 = u64::MAX;

impl Shown {
    /// `idle` (it was not needed so far), `connecting`, `open` or `lost`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.state.load(Ordering::Relaxed) {
            CONNECTING => "connecting",
            OPEN => "open",
            LOST => "lost",
            _ => "idle",
        }
    }

    /// Requests that were not answered when it last looked.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether changes of what is read over it are told, at this generation of the tracker.
    #[must_use]
    pub fn is_armed(&self, generation: u32) -> bool {
        self.armed.load(Ordering::Relaxed) == u64::from(generation)
    }

    /// Whether upstream is known not to answer: requests are likely to fail, now or later.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    fn become_state(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

impl<W: Waiter> Link<W> {
    /// A connection that is opened when it is first used, and begins in this database.
    #[must_use]
    pub fn new(slot: Slot, protocol: Protocol, database: u32) -> Self {
        Self {
            slot,
            protocol,
            database,
            queue: RefCell::new(Queue::new(database)),
            armed: Cell::new(None),
            shown: Arc::new(Shown {
                state: AtomicU8::new(IDLE),
                waiting: AtomicUsize::new(0),
                armed: AtomicU64::new(UNARMED),
                down: AtomicBool::new(false),
            }),
            waker: RefCell::new(None),
        }
    }

    /// Its number.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The dialect in which it is answered.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How it is, to be looked at by other threads.
    #[must_use]
    pub fn shown(&self) -> &Arc<Shown> {
        &self.shown
    }

    fn set_armed(&self, generation: Option<u32>) {
        self.armed.set(generation);
        let shown = generation.map_or(UNARMED, u64::from);
        self.shown.armed.store(shown, Ordering::Relaxed);
    }

    fn show_waiting(&self) {
        let waiting = self.queue.borrow().waiting.len();
        self.shown.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Requests that are not yet answered.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.borrow().waiting.len()
    }

    /// Whether changes of what is read from now on will be told, at the tracker's present
    /// generation.
    #[must_use]
    pub fn is_armed(&self, generation: u32) -> bool {
        self.armed.get() == Some(generation)
    }

    /// Sends a request in its wire form, to be run in this database.
    pub fn send(&self, database: u32, request: &[u8], waiter: W) {
        let mut queue = self.queue.borrow_mut();
        if let Some(why) = queue.refusal() {
            drop(queue);
            waiter.lose(&why);
            return;
        }
        queue.select(database);
        queue.push(request, Waiting::Client(waiter));
        drop(queue);
        self.wake();
    }

    /// Whether upstream is asked to track every read that is sent from now on, or only those of
    /// [`Link::send_read`]. Where it cannot be asked, it tracks them all.
    pub fn choose(&self, is_each_announced: bool) {
        self.queue.borrow_mut().choose(is_each_announced);
    }

    /// Sends a read that is tracked, and a request that belongs to it, each with who waits for it,
    /// to be run in this database; `write` appends the second one.
    pub fn send_read(
        &self,
        database: u32,
        first: (&[u8], W),
        write: impl FnOnce(&mut Vec<u8>),
        second: W,
    ) {
        let mut queue = self.queue.borrow_mut();
        if let Some(why) = queue.refusal() {
            drop(queue);
            first.1.lose(&why);
            second.lose(&why);
            return;
        }
        queue.select(database);
        queue.announce();
        queue.push(first.0, Waiting::Client(first.1));
        write(&mut queue.requests);
        queue.push(b"", Waiting::Client(second));
        drop(queue);
        self.wake();
    }

    /// Sends a request that is the same in every database.
    pub fn send_anywhere(&self, request: &[u8], waiter: W) {
        let mut queue = self.queue.borrow_mut();
        if let Some(why) = queue.refusal() {
            drop(queue);
            waiter.lose(&why);
            return;
        }
        queue.push(request, Waiting::Client(waiter));
        drop(queue);
        self.wake();
    }

    /// Sends a `SELECT` that may fail.
    pub fn send_select(&self, request: &[u8], waiter: W) {
        let mut queue = self.queue.borrow_mut();
        if let Some(why) = queue.refusal() {
            drop(queue);
            waiter.lose(&why);
            return;
        }
        queue.push(request, Waiting::Client(waiter));
        queue.database = None;
        drop(queue);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn register(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => *waker = Some(context.waker().clone()),
        }
    }

    /// Opens the connection, at once or when there is something to send, keeps it open, and moves
    /// what there is. Never ends; to be run on the thread that sends.
    pub async fn run(
        &self,
        at_once: bool,
        upstream: &Upstream,
        tracker: &Tracker,
        coherence: &dyn Coherence,
        bound: impl Fn() -> Duration,
    ) {
        if !at_once {
            self.demand().await;
        }
        let openings = match self.protocol {
            Protocol::Resp2 => Vec::new(),
            Protocol::Resp3 => vec![Opening::new("HELLO", &[b"HELLO", b"3"])],
        };
        let mut backoff = Backoff::default();
        loop {
            self.queue.borrow_mut().refused = None;
            self.shown.become_state(CONNECTING);
            match upstream.connect_as(&openings).await {
                Ok(connection) => {
                    self.shown.become_state(OPEN);
                    let began = clock::now();
                    let mut live = Live::new(self, upstream, connection, tracker, coherence);
                    let lost = live.run(&bound).await;
                    if matches!(lost, Lost::Silent(_)) {
                        self.shown.down.store(true, Ordering::Relaxed);
                    }
                    self.set_armed(None);
                    coherence.lose(self.slot);
                    count(&upstream.counters.connections_lost, 1);
                    let why = format!("{} {lost}", upstream.shown());
                    if began.elapsed() >= LONG_LIVED {
                        backoff = Backoff::default();
                        self.lose_all(upstream, &why);
                    } else {
                        // One that lets us in and throws us out is asked as seldom as one that
                        // does not let us in.
                        let until = self.refuse_for(backoff.next(), upstream, &why);
                        tokio::time::sleep_until(until).await;
                    }
                }
                Err(error) => {
                    self.shown.become_state(LOST);
                    self.shown.down.store(true, Ordering::Relaxed);
                    let until = self.refuse_for(backoff.next(), upstream, &error.to_string());
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = upstream.found_after(&error) => backoff = Backoff::default(),
                    }
                }
            }
        }
    }

    /// Fails what waits, and for so long what comes.
    fn refuse_for(&self, time: Duration, upstream: &Upstream, why: &str) -> Instant {
        let until = clock::now() + time;
        self.queue.borrow_mut().refused = Some(Refused {
            until,
            why: Rc::from(why),
        });
        self.lose_all(upstream, why);
        until
    }

    /// Waits until there is something to send.
    async fn demand(&self) {
        poll_fn(|context| {
            self.register(context);
            if self.queue.borrow().waiting.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    fn lose_all(&self, upstream: &Upstream, why: &str) {
        let mut queue = self.queue.borrow_mut();
        let waiting = queue.lose(self.database);
        drop(queue);
        self.show_waiting();
        for waiting in waiting {
            if let Waiting::Client(waiter) = waiting {
                count(&upstream.counters.errors, 1);
                waiter.lose(why);
            }
        }
    }
}

/// How an open connection was lost.
enum Lost {
    Closed,
    Failed(std::io::Error),
    Silent(Duration),
    /// What it says cannot be followed.
    NotRedis,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => formatter.write_str("closed the connection"),
            Self::Failed(error) => write!(formatter, "broke the connection: {error}"),
            Self::Silent(after) => write!(formatter, "did not answer within {after:?}"),
            Self::NotRedis => formatter.write_str("does not speak RESP"),
        }
    }
}

/// Whether upstream can be told which reads to track.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// As far as is known.
    Free,
    /// It has refused it.
    Refused,
    /// It is several servers, and what announces a read had to go where that goes.
    None,
}

/// An open connection.
struct Live<'a, W> {
    link: &'a Link<W>,
    upstream: &'a Upstream,
    tracker: &'a Tracker,
    coherence: &'a dyn Coherence,
    connection: Box<dyn Connection>,
    /// On their way.
    requests: Buffer,
    unflushed: bool,
    /// The tracker's generation when requests were last sent.
    tracked: u32,
    choice: Choice,
    /// It was told to track before.
    was_armed: bool,
    /// For each write: how many requests had been handed over by then, and when it began.
    sent: VecDeque<(u64, Instant)>,
    /// Replies that have ended.
    answered: u64,
    replies: Buffer,
    scanner: FrameScanner,
    /// Who gets the reply that is coming in.
    present: Option<Waiting<W>>,
    /// It is a push, and nobody's.
    is_push: bool,
    /// Since when there was something to wait for, and nothing came.
    waiting_since: Option<Instant>,
}

impl<'a, W: Waiter> Live<'a, W> {
    fn new(
        link: &'a Link<W>,
        upstream: &'a Upstream,
        connection: Box<dyn Connection>,
        tracker: &'a Tracker,
        coherence: &'a dyn Coherence,
    ) -> Self {
        let mut queue = link.queue.borrow_mut();
        let answered = queue.queued - queue.waiting.len() as u64;
        queue.slow_down(clock::now());
        drop(queue);
        Self {
            link,
            upstream,
            tracker,
            coherence,
            connection,
            requests: Buffer::default(),
            unflushed: false,
            tracked: coherence.generation(TRACKER),
            choice: if upstream.is_cluster() {
                Choice::None
            } else {
                Choice::Free
            },
            was_armed: false,
            sent: VecDeque::new(),
            answered,
            replies: Buffer::default(),
            scanner: FrameScanner::new(),
            present: None,
            is_push: false,
            waiting_since: None,
        }
    }

    /// Moves what there is until the connection is lost.
    async fn run(&mut self, bound: &impl Fn() -> Duration) -> Lost {
        let mut heartbeat = heartbeats(bound());
        self.arm();
        let lost = poll_fn(|context| {
            while heartbeat.poll_tick(context).is_ready() {
                if let Some(lost) = self.beat(bound()) {
                    return Poll::Ready(lost);
                }
                let wanted = bound() / HEARTBEATS_PER_BOUND;
                if heartbeat.period() != wanted && !wanted.is_zero() {
                    heartbeat = heartbeats(bound());
                }
            }
            self.poll(context)
        })
        .await;
        if let Some(Waiting::Client(waiter)) = self.present.take() {
            waiter.lose(&format!("{} {lost}", self.upstream.shown()));
        }
        lost
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Lost> {
        self.link.register(context);
        loop {
            let mut moved = false;
            match self.poll_write(context) {
                Poll::Ready(Ok(())) => moved = true,
                // It may still have said why.
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(lost)) => return Poll::Ready(lost),
                Poll::Pending => {}
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Writes once. Ready if something has moved.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.requests.is_empty() {
            let mut queue = self.link.queue.borrow_mut();
            if queue.requests.is_empty() {
                drop(queue);
                return self.poll_flush(context);
            }
            let spare = std::mem::take(&mut self.requests).into_room();
            let now = clock::now();
            let generation = self.coherence.generation(TRACKER);
            if std::mem::replace(&mut self.tracked, generation) != generation {
                queue.slow_down(now);
            }
            let Some((requests, upto)) = queue.leave(spare, self.answered, now) else {
                drop(queue);
                return self.poll_flush(context);
            };
            let new = upto - self.sent.back().map_or(self.answered, |(upto, _)| *upto);
            count(
                &self.upstream.counters.requests,
                usize::try_from(new).unwrap_or(usize::MAX),
            );
            self.sent.push_back((upto, now));
            let waiting = queue.waiting.len();
            self.link.shown.waiting.store(waiting, Ordering::Relaxed);
            self.waiting_since.get_or_insert(now);
            self.requests = Buffer::of(requests);
        }
        let len = self.requests.len();
        let written = ready!(
            self.requests
                .poll_drain(context, self.connection.as_mut(), len)
        )?;
        count(&self.upstream.counters.bytes_sent, written);
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.connection).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    /// Reads once, and passes on what came.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let connection = self.connection.as_mut();
        match ready!(self.replies.poll_fill(context, connection, READ_BYTES)) {
            Ok(0) => return Poll::Ready(Err(Lost::Closed)),
            Ok(read) => count(&self.upstream.counters.bytes_received, read),
            Err(error) => return Poll::Ready(Err(Lost::Failed(error))),
        }
        let understood = self.pass_on();
        self.replies.consume(self.replies.len());
        let now = clock::now();
        let is_idle = self
            .sent
            .back()
            .is_none_or(|(upto, _)| *upto <= self.answered);
        self.waiting_since = (!is_idle).then_some(now);
        let mut heard = None;
        while let Some((upto, at)) = self.sent.front()
            && *upto <= self.answered
        {
            heard = Some(*at);
            self.sent.pop_front();
        }
        if let Some(at) = heard {
            self.coherence.heard(self.link.slot, at);
        }
        self.link.show_waiting();
        Poll::Ready(understood)
    }

    /// Passes the replies on to whom they are owed.
    fn pass_on(&mut self) -> Result<(), Lost> {
        let mut at = 0;
        let mut ended = 0;
        while at < self.replies.len() {
            let rest = &self.replies.bytes()[at..];
            if !self.scanner.is_within_frame() {
                self.is_push = rest[0] == b'>';
            }
            let scan = self.scanner.scan(rest).map_err(|_| Lost::NotRedis)?;
            let piece = &rest[..scan.len];
            at += scan.len;
            if self.is_push {
                continue;
            }
            if self.present.is_none() {
                let next = self.link.queue.borrow_mut().waiting.pop_front();
                self.present = Some(next.ok_or(Lost::NotRedis)?);
            }
            match &mut self.present {
                Some(Waiting::Client(waiter)) => waiter.take(piece, scan.ended),
                Some(Waiting::Arming(generation)) if scan.ended == Some(Kind::Error) => {
                    self.link.set_armed(None);
                    self.coherence.lose(self.link.slot);
                    self.tracker.refused(*generation, piece);
                }
                Some(Waiting::Choosing) if scan.ended == Some(Kind::Error) => {
                    let error = String::from_utf8_lossy(piece).into_owned();
                    self.choice_refused(&error);
                }
                Some(Waiting::Nobody | Waiting::Arming(_) | Waiting::Choosing) | None => {}
            }
            if scan.ended.is_some() {
                self.present = None;
                self.answered += 1;
                ended += 1;
            }
        }
        if ended > 0 {
            self.link.shown.down.store(false, Ordering::Relaxed);
        }
        count(&self.upstream.counters.replies, ended);
        Ok(())
    }

    /// Has changes of what is read over this connection told to the tracker.
    fn arm(&mut self) {
        let Some(target) = self.tracker.target() else {
            return;
        };
        if self.link.armed.get() == Some(target.generation) {
            return;
        }
        let mut queue = self.link.queue.borrow_mut();
        queue.tracks = Tracks::Unsaid;
        if target.rung == Rung::Redirect {
            if std::mem::replace(&mut self.was_armed, true) {
                let off = Opening::new("CLIENT", &[own::CLIENT, b"TRACKING", b"OFF"]);
                queue.push(&off.bytes, Waiting::Nobody);
            }
            let on = Opening::redirect_to(target.client_id, false);
            queue.push(&on.bytes, Waiting::Arming(target.generation));
            if self.choice == Choice::Free {
                queue.tracks = Tracks::All(target.client_id);
            }
        }
        self.link.set_armed(Some(target.generation));
        drop(queue);
        self.link.wake();
    }

    /// What was read while upstream was thought to track what it was told is not known to be
    /// tracked. It may say so for now (a script holds it up, the tracker has just gone), or for
    /// good.
    #[cold]
    fn choice_refused(&mut self, error: &str) {
        // It took OPTIN and does not know it.
        let is_ignored = self.link.armed.get().is_some() && error.contains("OPTIN");
        if (is_for_good(error) || is_ignored) && self.choice == Choice::Free {
            self.choice = Choice::Refused;
            tracing::warn!(
                error = error.trim(),
                "upstream cannot be told which reads to track (CLIENT TRACKING with OPTIN); \
                 all are"
            );
        }
        self.link.queue.borrow_mut().tracks = Tracks::Unsaid;
        self.link.set_armed(None);
        self.coherence.lose(self.link.slot);
    }

    /// Looks after the connection a few times within the bound.
    fn beat(&mut self, bound: Duration) -> Option<Lost> {
        self.arm();
        let now = clock::now();
        let timeout = self.upstream.timeout();
        if let Some(since) = self.waiting_since
            && now.duration_since(since) >= timeout
        {
            count(&self.upstream.counters.timeouts, 1);
            return Some(Lost::Silent(timeout));
        }
        let mut queue = self.link.queue.borrow_mut();
        let is_quiet = queue.requests.is_empty()
            && self.requests.is_empty()
            && self
                .sent
                .back()
                .is_none_or(|(_, at)| now.duration_since(*at) >= bound / HEARTBEATS_PER_BOUND);
        if is_quiet {
            queue.push(&Opening::new("", &[own::PING]).bytes, Waiting::Nobody);
        }
        None
    }
}

fn heartbeats(bound: Duration) -> Interval {
    let period = (bound / HEARTBEATS_PER_BOUND).max(Duration::from_millis(1));
    let mut heartbeats = tokio::time::interval(period);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeats
}
