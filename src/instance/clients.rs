//! Everybody who is connected, as the others see them: `CLIENT LIST`, `CLIENT KILL`, `MONITOR`.
//!
//! A connection owns its [`Session`](super::session::Session); what others may read or ask of it
//! stands in its [`Client`], in words they can read without waiting for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use dashmap::DashMap;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock;

use super::{Places, Seat};

/// A client, as the others see it.
pub struct Client {
    /// Never used again.
    pub id: u64,
    /// `ip:port`, or `/path:0` of a Unix socket.
    pub peer: String,
    /// Our side of the connection.
    pub local: String,
    /// Whether it came over the Unix socket.
    pub is_unix: bool,
    /// Whether it is on this machine.
    pub is_local: bool,
    /// The socket's file descriptor, for people.
    pub fd: i32,
    /// Since when.
    pub connected: Instant,
    /// What was said by CLIENT SETNAME and SETINFO, and AUTH.
    pub said: Mutex<Said>,
    /// What it is doing.
    pub doing: Doing,
    signal: AtomicU8,
    waker: AtomicWaker,
    /// Lines for it from others (MONITOR), not yet in its write buffer.
    pushes: Mutex<Vec<u8>>,
    _seat: Seat,
}

/// What a client said of itself.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// CLIENT SETNAME
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER
    pub lib_version: Vec<u8>,
}

/// What a client is doing, written by its connection after each batch.
#[derive(Default)]
pub struct Doing {
    /// The database it chose.
    pub db: AtomicUsize,
    /// Index of its last command, plus one; 0: none yet.
    pub command: AtomicUsize,
    /// When it last sent something, in ms since the server's start.
    pub active_ms: AtomicU64,
    /// Commands queued by MULTI, plus one; 0: no transaction.
    pub queued: AtomicUsize,
    /// Bytes of the queued commands.
    pub queued_bytes: AtomicUsize,
    /// Whether it monitors.
    pub monitors: AtomicBool,
    /// Whether it watches keys.
    pub watches: AtomicBool,
    /// Whether it said CLIENT NO-EVICT ON.
    pub no_evict: AtomicBool,
    /// Whether it waits for CLIENT UNPAUSE.
    pub paused: AtomicBool,
    /// Whether it has a connection to upstream of its own, as the client of a front.
    pub is_private: AtomicBool,
    /// Whether it is passed through to an upstream, which alone knows when it is idle.
    pub passed: AtomicBool,
    /// Bytes read and not yet run, and room behind them.
    pub query: AtomicUsize,
    /// Room in the read buffer.
    pub query_free: AtomicUsize,
    /// Bytes of replies it has not taken yet.
    pub reply: AtomicUsize,
    /// Bytes that its buffers hold.
    pub memory: AtomicUsize,
    /// 2 or 3.
    pub protocol: AtomicU8,
}

/// What a connection is told by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To close at once.
    Close,
    /// That there are lines to send.
    Pushes,
    /// To finish what was read, and close: the server stops.
    Finish,
    /// To give back what its read buffer holds: it has been quiet.
    Quiet,
}

const CLOSE: u8 = 1;
const PUSHES: u8 = 2;
const FINISH: u8 = 4;
const QUIET: u8 = 8;

impl Client {
    /// Closes its connection.
    pub fn close(&self) {
        self.tell(CLOSE);
    }

    /// Lets it finish what was read, and closes its connection.
    pub fn finish(&self) {
        self.tell(FINISH);
    }

    /// Asks it to give back what its read buffer holds, if that is empty.
    pub fn be_quiet(&self) {
        self.tell(QUIET);
    }

    /// Sends it bytes between replies. If it has not taken `bytes_max` of them, it is closed: a
    /// queue for somebody who does not read must end somewhere.
    pub fn push(&self, bytes: &[u8], bytes_max: usize) {
        let mut pushes = self.pushes.lock();
        if pushes.len() + bytes.len() > bytes_max {
            drop(pushes);
            self.close();
            return;
        }
        pushes.extend_from_slice(bytes);
        drop(pushes);
        self.tell(PUSHES);
    }

    /// Whether it was told to close.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.signal.load(Ordering::Acquire) & CLOSE != 0
    }

    /// Takes the lines for it.
    pub fn take_pushes(&self) -> Vec<u8> {
        std::mem::take(&mut self.pushes.lock())
    }

    /// Ready when it was told something. To be polled by its connection only.
    pub fn poll_told(&self, context: &Context<'_>) -> Poll<Told> {
        self.waker.register(context.waker());
        let told = self.signal.load(Ordering::Acquire);
        if told == 0 {
            return Poll::Pending;
        }
        if told & CLOSE != 0 {
            return Poll::Ready(Told::Close);
        }
        if told & PUSHES != 0 {
            self.signal.fetch_and(!PUSHES, Ordering::AcqRel);
            return Poll::Ready(Told::Pushes);
        }
        if told & QUIET != 0 {
            self.signal.fetch_and(!QUIET, Ordering::AcqRel);
            return Poll::Ready(Told::Quiet);
        }
        Poll::Ready(Told::Finish)
    }

    /// Ready when it was told to close; whatever else it was told waits. To be polled by its
    /// connection only.
    pub fn poll_closed(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.is_closed() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether it was told to finish.
    #[must_use]
    pub fn is_finishing(&self) -> bool {
        self.signal.load(Ordering::Acquire) & FINISH != 0
    }

    /// Ends when it was told to finish or to close.
    pub async fn finishing(&self) {
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            let told = self.is_closed() || self.is_finishing();
            if told { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Ends when it was told to close.
    pub async fn closed(&self) {
        std::future::poll_fn(|context| self.poll_closed(context)).await;
    }

    fn tell(&self, what: u8) {
        self.signal.fetch_or(what, Ordering::AcqRel);
        self.waker.wake();
    }
}

/// How a client came to us.
pub struct Arrival {
    /// See [`Client::peer`].
    pub peer: String,
    /// See [`Client::local`].
    pub local: String,
    /// See [`Client::is_unix`].
    pub is_unix: bool,
    /// See [`Client::is_local`].
    pub is_local: bool,
    /// See [`Client::fd`].
    pub fd: i32,
}

/// Everybody.
#[derive(Default)]
pub struct Clients {
    by_id: DashMap<u64, Arc<Client>>,
    monitors: DashMap<u64, Arc<Client>>,
    monitoring: AtomicUsize,
    last_id: AtomicU64,
    places: Arc<Places>,
}

impl Clients {
    /// Adds a client, if fewer than `max` are connected.
    pub fn add(&self, arrival: Arrival, max: usize) -> Option<Arc<Client>> {
        let seat = self.places.take(max)?;
        let client = Arc::new(Client {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer: arrival.peer,
            local: arrival.local,
            is_unix: arrival.is_unix,
            is_local: arrival.is_local,
            fd: arrival.fd,
            connected: clock::now(),
            said: Mutex::default(),
            doing: Doing::default(),
            signal: AtomicU8::new(0),
            waker: AtomicWaker::new(),
            pushes: Mutex::default(),
            _seat: seat,
        });
        client.doing.protocol.store(2, Ordering::Relaxed);
        self.by_id.insert(client.id, Arc::clone(&client));
        Some(client)
    }

    /// Forgets a client whose connection has ended.
    pub fn remove(&self, client: &Client) {
        self.stop_monitoring(client);
        self.by_id.remove(&client.id);
    }

    /// The client of this id.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.get(&id).map(|client| Arc::clone(&client))
    }

    /// Everybody, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Client>> {
        let mut clients: Vec<_> = self
            .by_id
            .iter()
            .map(|client| Arc::clone(&client))
            .collect();
        clients.sort_unstable_by_key(|client| client.id);
        clients
    }

    /// How many are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nobody is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many ids were given out.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.last_id.load(Ordering::Relaxed)
    }

    /// Shows a client all commands from now on.
    pub fn start_monitoring(&self, client: &Arc<Client>) {
        if self
            .monitors
            .insert(client.id, Arc::clone(client))
            .is_none()
        {
            self.monitoring.fetch_add(1, Ordering::Relaxed);
            client.doing.monitors.store(true, Ordering::Relaxed);
        }
    }

    /// Shows a client no commands any more.
    pub fn stop_monitoring(&self, client: &Client) {
        if self.monitors.remove(&client.id).is_some() {
            self.monitoring.fetch_sub(1, Ordering::Relaxed);
            client.doing.monitors.store(false, Ordering::Relaxed);
        }
    }

    /// Whether anybody monitors.
    #[inline]
    #[must_use]
    pub fn has_monitors(&self) -> bool {
        self.monitoring.load(Ordering::Relaxed) > 0
    }

    /// Shows all monitors a line.
    pub fn show_monitors(&self, line: &[u8], bytes_max: usize) {
        for monitor in &self.monitors {
            monitor.push(line, bytes_max);
        }
    }
}
