//! The connection over which the upstream tells what has changed.
//!
//! It speaks RESP3 and does nothing else, on a thread of its own, so that no client's work delays
//! an invalidation. A heartbeat bounds how old the knowledge is: all that the upstream told before
//! it answered a `PING` has been seen by then, so what is not voided was true when that `PING`
//! was sent.
//!
//! A [`fence`](Tracker::fence) uses the same: what has changed before it began is voided when it
//! ends.
//!
//! Not every server can do all of it. The [`Rung`] of the ladder that holds is found by trying.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWrite as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::{Coherence, TRACKER};
use crate::clock;
use crate::resp::frame::{FrameScanner, Kind};
use crate::upstream::buffer::Buffer;
use crate::upstream::connect::{Cause, ConnectError, Connection, Opening, Upstream, count};
use crate::upstream::own;

/// How an upstream tells what has changed: the best that it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rung {
    /// Nothing was tried yet.
    Unknown = 0,
    /// Each key that was read is told once when it changes (`CLIENT TRACKING ON REDIRECT`).
    Redirect = 1,
    /// Each key that changes is told (`CLIENT TRACKING ON BCAST`).
    Broadcast = 2,
    /// Nothing is told: a copy can only be kept for as long as it may be stale.
    TtlOnly = 3,
}

impl Rung {
    fn of(number: u8) -> Self {
        match number {
            1 => Self::Redirect,
            2 => Self::Broadcast,
            3 => Self::TtlOnly,
            _ => Self::Unknown,
        }
    }

    /// Its name, in the log, in INFO and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "none",
            Self::Redirect => "tracking",
            Self::Broadcast => "broadcast",
            Self::TtlOnly => "ttl",
        }
    }
}

/// Where changes are to be told.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// How.
    pub rung: Rung,
    /// The tracker's `CLIENT ID` upstream.
    pub client_id: u64,
    /// Its generation.
    pub generation: u32,
}

/// What all threads know of the tracker, and may ask of it.
pub struct Tracker {
    /// The best rung that may be tried.
    best: AtomicU8,
    rung: AtomicU8,
    target: Mutex<Option<Target>>,
    /// Unanswered for longer than the bound.
    silent: AtomicBool,
    /// Upstream asks for a password, and the URL has none.
    locked_out: AtomicBool,
    fences: Mutex<Vec<oneshot::Sender<()>>>,
    asked: Notify,
    /// Fences ever asked for, and times the connection was lost.
    pub fenced: AtomicU64,
    /// How often it was lost.
    pub lost: AtomicU64,
}

impl Tracker {
    /// A tracker that was not connected yet, and tries no better rung than this.
    #[must_use]
    pub fn new(best: Rung) -> Self {
        Self {
            best: AtomicU8::new(best as u8),
            rung: AtomicU8::new(Rung::Unknown as u8),
            target: Mutex::new(None),
            silent: AtomicBool::new(false),
            locked_out: AtomicBool::new(false),
            fences: Mutex::default(),
            asked: Notify::new(),
            fenced: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// The rung that holds.
    #[must_use]
    pub fn rung(&self) -> Rung {
        Rung::of(self.rung.load(Ordering::Acquire))
    }

    /// Whether changes are told, and were within the bound.
    #[must_use]
    pub fn is_coherent(&self) -> bool {
        matches!(self.rung(), Rung::Redirect | Rung::Broadcast)
            && self.target.lock().is_some()
            && !self.silent.load(Ordering::Acquire)
    }

    /// Whether upstream asks for a password that is not known here: it is for the clients to tell.
    #[inline]
    #[must_use]
    pub fn is_locked_out(&self) -> bool {
        self.locked_out.load(Ordering::Relaxed)
    }

    /// Where changes are to be told, if anywhere.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        *self.target.lock()
    }

    /// The upstream refuses to tell over this connection what is read over others.
    pub(super) fn refused(&self, generation: u32, error: &[u8]) {
        let target = self.target();
        let is_present = target.is_some_and(|target| target.generation == generation);
        let error = String::from_utf8_lossy(error);
        if is_present && is_for_good(&error) && self.rung() == Rung::Redirect {
            tracing::warn!(
                error = error.trim(),
                "upstream refuses CLIENT TRACKING with REDIRECT; trying BCAST"
            );
            self.best.store(Rung::Broadcast as u8, Ordering::Release);
            self.asked.notify_one();
        }
    }

    /// Ends when all that changed before it began is voided: true then. False, and at once, where
    /// nothing is told; false if the connection is lost meanwhile: then nothing is fresh.
    pub async fn fence(&self) -> bool {
        let (passed, passing) = oneshot::channel();
        {
            let mut fences = self.fences.lock();
            // Under the lock under which a lost connection drops them: none waits for the next.
            if !matches!(self.rung(), Rung::Redirect | Rung::Broadcast) || self.target().is_none() {
                return false;
            }
            fences.push(passed);
        }
        self.fenced.fetch_add(1, Ordering::Relaxed);
        self.asked.notify_one();
        // Dropped with a lost connection: then everything is void.
        passing.await.is_ok()
    }

    /// Keeps the connection. Never ends; to be run once.
    pub async fn run(
        self: Arc<Self>,
        upstream: Arc<Upstream>,
        coherence: Arc<dyn Coherence>,
        bound: impl Fn() -> Duration,
    ) {
        let mut backoff = Backoff::default();
        loop {
            if self.best.load(Ordering::Acquire) == Rung::TtlOnly as u8 {
                self.settle_for_ttl(coherence.generation(TRACKER));
                return std::future::pending().await;
            }
            let hello = Opening::new("HELLO", &[b"HELLO", b"3"]);
            match upstream.connect_tracker(std::slice::from_ref(&hello)).await {
                Ok(connection) => {
                    self.locked_out.store(false, Ordering::Relaxed);
                    let generation = coherence.generation(TRACKER);
                    let mut live = Live {
                        tracker: &self,
                        upstream: &upstream,
                        coherence: coherence.as_ref(),
                        connection,
                        generation,
                        requests: Buffer::default(),
                        replies: Buffer::default(),
                        scanner: FrameScanner::new(),
                        frame: Vec::new(),
                        waiting: VecDeque::new(),
                        beaten: clock::now(),
                        bound: bound(),
                    };
                    let began = clock::now();
                    let why = live.run(&bound).await;
                    drop(live);
                    self.lose(coherence.as_ref(), &why, &upstream);
                    if began.elapsed() > LONG_LIVED {
                        backoff = Backoff::default();
                    }
                }
                Err(error) => {
                    self.note_failure(&error);
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next()) => {}
                        () = upstream.found_after(&error) => backoff = Backoff::default(),
                    }
                    continue;
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn lose(&self, coherence: &dyn Coherence, why: &Why, upstream: &Upstream) {
        // First, as a fence that finds no target says that nothing is fresh.
        coherence.lose(TRACKER);
        *self.target.lock() = None;
        self.fences.lock().clear();
        self.lost.fetch_add(1, Ordering::Relaxed);
        count(&upstream.counters.connections_lost, 1);
        match why {
            Why::NextRung => {}
            Why::Lost(why) => tracing::warn!(
                upstream = upstream.shown(),
                why,
                "lost the tracking connection: nothing is served from memory until it is back"
            ),
        }
    }

    fn note_failure(&self, error: &ConnectError) {
        if let Cause::Rejected { request, error } = error.cause()
            && request == "HELLO"
        {
            if error.starts_with("NOAUTH") {
                self.locked_out.store(true, Ordering::Relaxed);
            } else if is_for_good(error) {
                self.best.store(Rung::TtlOnly as u8, Ordering::Release);
            }
        }
        if !self.silent.swap(true, Ordering::AcqRel) {
            tracing::warn!(%error, "no tracking connection: nothing is served from memory");
        }
    }

    fn settle_for_ttl(&self, generation: u32) {
        self.rung.store(Rung::TtlOnly as u8, Ordering::Release);
        *self.target.lock() = Some(Target {
            rung: Rung::TtlOnly,
            client_id: 0,
            generation,
        });
        tracing::warn!(
            "upstream tells no changes (it refuses HELLO 3 or CLIENT TRACKING): \
             what is read is kept for staleness-bound only"
        );
    }
}

/// Whether an error says that a command will never be run, and not that it cannot be run now: the
/// tracker that was redirected to has just gone, the upstream has too many clients or is loading.
pub(super) fn is_for_good(error: &str) -> bool {
    let error = error.trim_start_matches('-').to_ascii_lowercase();
    let is_refused = ["noperm", "noproto"]
        .iter()
        .any(|code| error.starts_with(code));
    let words = [
        "unknown", "syntax", "support", "allowed", "disabled", "denied",
    ];
    is_refused || words.iter().any(|word| error.contains(word))
}

/// A connection that lived for so long was a good one.
const LONG_LIVED: Duration = Duration::from_secs(5);
/// Heartbeats within the bound.
const HEARTBEATS_PER_BOUND: u32 = 5;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// A reply or a push beyond this many bytes is given up, and everything void with it.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

enum Why {
    Lost(String),
    /// The next rung of the ladder is to be tried.
    NextRung,
}

/// A reply that is owed.
enum Owed {
    /// To `CLIENT ID`.
    Id,
    /// To `CLIENT TRACKING`.
    Tracking,
    /// To `PING`, with those who wait for it.
    Pong {
        sent: Instant,
        fences: Vec<oneshot::Sender<()>>,
    },
}

struct Live<'a> {
    tracker: &'a Tracker,
    upstream: &'a Upstream,
    coherence: &'a dyn Coherence,
    connection: Box<dyn Connection>,
    generation: u32,
    requests: Buffer,
    replies: Buffer,
    scanner: FrameScanner,
    /// The frame that is coming in.
    frame: Vec<u8>,
    waiting: VecDeque<Owed>,
    /// When the last `PING` was sent.
    beaten: Instant,
    bound: Duration,
}

impl Live<'_> {
    async fn run(&mut self, bound: &impl Fn() -> Duration) -> Why {
        self.ask(&[own::CLIENT, b"ID"], Owed::Id);
        loop {
            self.bound = bound();
            let period = (self.bound / HEARTBEATS_PER_BOUND).max(Duration::from_millis(1));
            let (tracker, next) = (self.tracker, self.beaten + period);
            tokio::select! {
                why = poll_fn(|context| self.poll(context)) => return why,
                // Who asks while others are waiting goes with the next one.
                () = tracker.asked.notified() => if self.is_fencing() {
                    continue;
                },
                () = tokio::time::sleep_until(next) => {}
            }
            if let Some(why) = self.beat() {
                return why;
            }
        }
    }

    /// Whether somebody waits for a `PONG`.
    fn is_fencing(&self) -> bool {
        let mut owed = self.waiting.iter();
        owed.any(|owed| matches!(owed, Owed::Pong { fences, .. } if !fences.is_empty()))
    }

    /// Sends a `PING`, which passes the fences that wait.
    fn beat(&mut self) -> Option<Why> {
        let best = self.tracker.best.load(Ordering::Acquire);
        if best > self.tracker.rung.load(Ordering::Acquire) && self.tracker.target().is_some() {
            return Some(Why::NextRung);
        }
        let now = clock::now();
        let oldest = self.waiting.iter().find_map(|owed| match owed {
            Owed::Pong { sent, .. } => Some(*sent),
            Owed::Id | Owed::Tracking => None,
        });
        if let Some(sent) = oldest {
            let silent = now.duration_since(sent);
            if silent > self.bound && !self.tracker.silent.swap(true, Ordering::AcqRel) {
                tracing::warn!(
                    upstream = self.upstream.shown(),
                    bound = ?self.bound,
                    "the tracking connection is silent: nothing is served from memory"
                );
            }
            if silent > self.upstream.timeout() {
                count(&self.upstream.counters.timeouts, 1);
                let timeout = self.upstream.timeout();
                return Some(Why::Lost(format!("did not answer within {timeout:?}")));
            }
        }
        let fences = std::mem::take(&mut *self.tracker.fences.lock());
        self.beaten = now;
        self.ask(&[own::PING], Owed::Pong { sent: now, fences });
        None
    }

    fn ask(&mut self, words: &[&[u8]], owed: Owed) {
        self.requests.extend(&Opening::new("", words).bytes);
        self.waiting.push_back(owed);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Why> {
        loop {
            let written = self.poll_write(context);
            match ready!(self.poll_read(context)) {
                Ok(()) => {}
                Err(why) => return Poll::Ready(why),
            }
            // What could not be written is told by the read.
            drop(written);
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.requests.is_empty() {
            let len = self.requests.len();
            ready!(
                self.requests
                    .poll_drain(context, self.connection.as_mut(), len)
            )?;
        }
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Why>> {
        let connection = self.connection.as_mut();
        match ready!(self.replies.poll_fill(context, connection, READ_BYTES)) {
            Ok(0) => return Poll::Ready(Err(Why::Lost("closed the connection".to_owned()))),
            Ok(read) => count(&self.upstream.counters.bytes_received, read),
            Err(error) => return Poll::Ready(Err(Why::Lost(error.to_string()))),
        }
        let mut at = 0;
        while at < self.replies.len() {
            let rest = &self.replies.bytes()[at..];
            let scan = match self.scanner.scan(rest) {
                Ok(scan) => scan,
                Err(error) => return Poll::Ready(Err(Why::Lost(error.to_string()))),
            };
            if self.frame.len() + scan.len > FRAME_BYTES_MAX {
                return Poll::Ready(Err(Why::Lost("sent too long a push".to_owned())));
            }
            self.frame.extend_from_slice(&rest[..scan.len]);
            at += scan.len;
            if let Some(kind) = scan.ended {
                let frame = std::mem::take(&mut self.frame);
                if let Err(why) = self.settle(&frame, kind) {
                    return Poll::Ready(Err(why));
                }
                self.frame = frame;
                self.frame.clear();
            }
        }
        self.replies.consume(self.replies.len());
        Poll::Ready(Ok(()))
    }

    fn settle(&mut self, frame: &[u8], kind: Kind) -> Result<(), Why> {
        if kind == Kind::Push {
            self.told(frame);
            return Ok(());
        }
        match self.waiting.pop_front() {
            Some(Owed::Pong { sent, fences }) if kind == Kind::Reply => {
                self.coherence.heard(TRACKER, sent);
                for fence in fences {
                    let _ = fence.send(());
                }
                self.heard(sent);
                if !self.tracker.fences.lock().is_empty() {
                    return self.beat().map_or(Ok(()), Err);
                }
                Ok(())
            }
            Some(Owed::Id) if kind == Kind::Reply => {
                let id = frame
                    .get(1..)
                    .and_then(|digits| std::str::from_utf8(digits).ok()?.trim_end().parse().ok());
                let Some(id) = id else {
                    return Err(Why::Lost("does not tell its CLIENT ID".to_owned()));
                };
                self.climb(id);
                Ok(())
            }
            Some(Owed::Tracking) if kind == Kind::Reply => {
                self.publish(Rung::Broadcast, 0);
                Ok(())
            }
            Some(Owed::Tracking | Owed::Id) => {
                let error = String::from_utf8_lossy(frame);
                if !is_for_good(&error) {
                    return Err(Why::Lost(error.trim().to_owned()));
                }
                tracing::warn!(error = error.trim(), "upstream refuses CLIENT TRACKING");
                self.tracker
                    .best
                    .store(Rung::TtlOnly as u8, Ordering::Release);
                Err(Why::NextRung)
            }
            Some(Owed::Pong { .. }) => {
                let error = String::from_utf8_lossy(frame);
                Err(Why::Lost(format!("refuses PING: {}", error.trim())))
            }
            None => Err(Why::Lost("answers what was not asked".to_owned())),
        }
    }

    fn climb(&mut self, id: u64) {
        if self.tracker.best.load(Ordering::Acquire) <= Rung::Redirect as u8 {
            self.publish(Rung::Redirect, id);
        } else {
            self.ask(&[own::CLIENT, b"TRACKING", b"ON", b"BCAST"], Owed::Tracking);
        }
    }

    fn publish(&mut self, rung: Rung, client_id: u64) {
        let before = self.tracker.rung.swap(rung as u8, Ordering::AcqRel);
        *self.tracker.target.lock() = Some(Target {
            rung,
            client_id,
            generation: self.generation,
        });
        if before == rung as u8 {
            tracing::info!(rung = rung.name(), "the tracking connection is back");
        } else {
            tracing::info!(
                upstream = self.upstream.shown(),
                rung = rung.name(),
                "upstream tells what changes"
            );
        }
        self.beat();
    }

    fn heard(&self, sent: Instant) {
        if sent.elapsed() < self.bound && self.tracker.silent.swap(false, Ordering::AcqRel) {
            tracing::info!("the tracking connection answers: serving from memory again");
        }
    }

    /// An invalidation: `>2 invalidate` and an array of keys, or null for all.
    fn told(&self, frame: &[u8]) {
        let Some(payload) = invalidated(frame) else {
            return;
        };
        match keys_of(payload) {
            Some(keys) => keys.for_each(|key| self.coherence.invalidate(key)),
            None => self.coherence.flush(),
        }
    }
}

/// The keys of an invalidation; none for a null, which means all.
fn keys_of(payload: &[u8]) -> Option<Bulks<'_>> {
    let is_array = payload.starts_with(b"*") && !payload.starts_with(b"*-");
    is_array.then(|| Bulks(line_end(payload)))
}

/// What follows the word in a push that is an invalidation.
fn invalidated(frame: &[u8]) -> Option<&[u8]> {
    let rest = line_end(frame);
    let mut words = Bulks(rest);
    (words.next()? == b"invalidate").then_some(words.0)
}

/// What follows the first line.
fn line_end(bytes: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', bytes).map_or(&[], |at| &bytes[at + 1..])
}

/// Bulk strings in a row.
struct Bulks<'a>(&'a [u8]);

impl<'a> Iterator for Bulks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let header_end = memchr::memchr(b'\n', self.0)?;
        let digits = self.0.get(1..header_end)?.trim_ascii_end();
        let len: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let bulk = self.0.get(header_end + 1..)?.get(..len)?;
        self.0 = self.0.get(header_end + 1 + len + 2..)?;
        Some(bulk)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Slot;
    use super::*;

    fn keys(frame: &[u8]) -> Option<Vec<&[u8]>> {
        keys_of(invalidated(frame).expect("an invalidation")).map(Iterator::collect)
    }

    #[test]
    fn an_invalidation_names_its_keys_whatever_bytes_they_have() {
        let frame = b">2\r\n$10\r\ninvalidate\r\n*3\r\n$1\r\na\r\n$0\r\n\r\n$4\r\n\r\n$1\r\n";
        assert_eq!(keys(frame), Some(vec![&b"a"[..], b"", b"\r\n$1"]));
    }

    #[test]
    fn a_null_names_all_keys() {
        for frame in [
            &b">2\r\n$10\r\ninvalidate\r\n_\r\n"[..],
            b">2\r\n$10\r\ninvalidate\r\n*-1\r\n",
        ] {
            assert_eq!(keys(frame), None, "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn only_an_error_that_will_not_pass_costs_a_rung() {
        for error in [
            "-ERR unknown command 'HELLO'",
            "-NOPERM this user has no permissions to run the 'client|tracking' command",
            "NOPROTO unsupported protocol version",
            "-ERR syntax error",
        ] {
            assert!(is_for_good(error), "{error}");
        }
        for error in [
            "-ERR The client ID you want redirect to does not exist",
            "-ERR max number of clients reached",
            "-LOADING Redis is loading the dataset in memory",
        ] {
            assert!(!is_for_good(error), "{error}");
        }
    }

    /// Whether there still was a target when everything was voided.
    struct Voids<'a> {
        tracker: &'a Tracker,
        has_target: AtomicBool,
    }

    impl Coherence for Voids<'_> {
        fn generation(&self, _: Slot) -> u32 {
            0
        }

        fn lose(&self, _: Slot) {
            let has_target = self.tracker.target().is_some();
            self.has_target.store(has_target, Ordering::Relaxed);
        }

        fn heard(&self, _: Slot, _: Instant) {}

        fn invalidate(&self, _: &[u8]) {}

        fn flush(&self) {}
    }

    #[tokio::test]
    async fn whoever_is_told_that_nothing_is_told_any_more_finds_everything_void() {
        let url = "redis://127.0.0.1:1".parse().unwrap();
        let upstream = Upstream::new(url, None, Duration::from_secs(1));
        let tracker = Tracker::new(Rung::Redirect);
        tracker.rung.store(Rung::Redirect as u8, Ordering::Release);
        *tracker.target.lock() = Some(Target {
            rung: Rung::Redirect,
            client_id: 1,
            generation: 0,
        });
        let voids = Voids {
            tracker: &tracker,
            has_target: AtomicBool::new(false),
        };
        tracker.lose(&voids, &Why::NextRung, &upstream);
        assert!(voids.has_target.load(Ordering::Relaxed), "until then");
        assert!(!tracker.fence().await);
        assert!(tracker.fences.lock().is_empty());
    }

    #[test]
    fn other_pushes_and_torn_ones_void_nothing() {
        assert_eq!(
            invalidated(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"),
            None
        );
        assert_eq!(invalidated(b">2\r\n$10\r\ninval"), None);
        assert_eq!(invalidated(b">2\r\n"), None);
    }
}
