//! The front: any Redis client before its Redis, with a near cache in between.
//!
//! A client is served in one of two ways, and changes between them as its requests ask for it:
//!
//! - *shared* (`client.rs`): what it reads is looked up in the near cache; what is not there, and
//!   every plain command, goes over a connection that it shares with others. What a connection is
//!   told by a handshake (`HELLO`, `SELECT`, `CLIENT SETNAME` …) is known here and costs upstream
//!   nothing.
//! - *private*: what concerns the connection itself, blocks, or belongs together (`MULTI`,
//!   `WATCH`, subscriptions, `CLIENT ID` …) needs a connection of the client's own: then the client
//!   is passed through ([`upstream::passthrough`](crate::upstream::passthrough)), until nothing
//!   binds it to that connection any more.
//!
//! What keeps it coherent:
//!
//! - A read's flight is registered before its request is sent. A message that the key has changed,
//!   a write that begins or ends here, a lost connection: each voids it, and it is not stored.
//! - A client's requests go over one connection, in its order. A read behind a write of unknown
//!   keys joins no flight of others.
//! - A reply to what may have written unknown keys, and a client's return from its private
//!   connection if it was told there what may be newer than a copy, wait for a fence: all that
//!   changed before is voided by then.

mod ahead;
mod class;
mod client;
mod guard;
mod host;
mod keeping;
mod kill;
mod loads;
mod outbox;
mod own;
mod passing;
mod pause;
mod pool;
mod reads;
mod removal;
mod report;
mod route;
mod selection;
mod session;
mod shadow;
mod stale;
mod tags;
mod through;
mod touch;
mod unread;
mod waiting;
mod wire;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::clock;
use crate::config::UpstreamTracking;
use crate::instance::Instance;
use crate::instance::front::Watched;
use crate::near::{self, Near, Now, Why};
use crate::policy::Moment;
use crate::resp::Protocol;
use crate::upstream::Upstream;
use crate::upstream::shared::{Coherence, Rung, Shown, Slot, Tracker};

pub use client::serve;
pub use passing::pass_through;
pub use pool::Pool;
pub use route::Table;
use selection::Selection;

/// Who waits for a flight: a place in some client's replies.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// The client's I/O thread.
    thread: u16,
    /// Which part of the reply, of those that are put together; else [`WHOLE`].
    part: u32,
    client: u64,
    /// The reply's number.
    at: u64,
}

/// A reply that is not one of several parts.
const WHOLE: u32 = u32::MAX;

/// A reply for seats on another thread.
struct Parcel {
    seats: Vec<Seat>,
    reply: Arc<[u8]>,
}

/// What is sent to an I/O thread.
enum Letter {
    Parcel(Parcel),
    /// To be dropped when what its shared connections have under way is answered.
    Settle(mpsc::Sender<()>),
    /// Keys to be removed upstream.
    Remove(removal::Order),
    /// Tags to be invalidated upstream in a database, and who wants to know how many keys they had.
    Untag(u32, Vec<Box<[u8]>>, oneshot::Sender<removal::Removed>),
    /// A request to be asked upstream in a database, and who wants the reply.
    Ask(u32, Vec<u8>, oneshot::Sender<Vec<u8>>),
}

/// What all threads share of the front.
pub struct Front {
    /// Copies of upstream's values.
    pub near: Near<Seat>,
    /// Tells what changes.
    pub tracker: Arc<Tracker>,
    /// The Redis behind.
    pub upstream: Arc<Upstream>,
    instance: Arc<Instance>,
    mailboxes: Vec<mpsc::UnboundedSender<Letter>>,
    /// Databases that upstream is known to have.
    databases: Mutex<Vec<u32>>,
    /// When the clock of the near cache began: with the server.
    began: Instant,
    /// Clients that were given a private connection, ever.
    pub privates: AtomicU64,
    /// The connections that clients share: thread, protocol, and how they are.
    links: Mutex<Vec<(usize, Protocol, Arc<Shown>)>>,
    /// What the near cache had counted at the last `CONFIG RESETSTAT`.
    baseline: Mutex<near::Stats>,
    /// Which keys are cached, if not all are.
    selection: Selection,
    /// Which hits are looked at more closely.
    hits: shadow::Sampling,
    shadow: shadow::Shadow,
    /// Keys that upstream was told to take for used.
    touched: AtomicU64,
    /// Whether stale copies are served, as far as the log was told.
    stale: stale::Episode,
    /// Until when upstream holds back writes.
    pause: pause::Pause,
    /// What is known of the tags upstream.
    tags: tags::Tags,
}

/// The end of what is sent to one I/O thread.
pub struct Mailbox(mpsc::UnboundedReceiver<Letter>);

impl Front {
    /// The front of this upstream, and a mailbox for each of its threads. The tracker's thread is
    /// running.
    ///
    /// # Errors
    /// When that thread cannot be made.
    pub fn start(
        instance: &Arc<Instance>,
        upstream: &Arc<Upstream>,
    ) -> io::Result<(Arc<Self>, Vec<Mailbox>)> {
        let config = instance.config();
        let (mailboxes, receivers) = (0..config.io_threads)
            .map(|_| {
                // Bounded by what each client may be owed.
                let (sender, receiver) = mpsc::unbounded_channel();
                (sender, Mailbox(receiver))
            })
            .unzip();
        let best = match config.upstream_tracking {
            UpstreamTracking::Auto => Rung::Redirect,
            UpstreamTracking::Broadcast => Rung::Broadcast,
            UpstreamTracking::None => Rung::TtlOnly,
        };
        let front = Arc::new(Self {
            near: Near::new(&near::Options {
                stripes: STRIPES,
                near_ttl_ms: 0,
                stale_ms: 0,
                value_bytes_max: 0,
                bytes_max: usize::try_from(config.maxmemory).unwrap_or(usize::MAX),
            }),
            tracker: Arc::new(Tracker::new(best)),
            upstream: Arc::clone(upstream),
            instance: Arc::clone(instance),
            mailboxes,
            databases: Mutex::default(),
            began: instance.started(),
            privates: AtomicU64::new(0),
            links: Mutex::default(),
            baseline: Mutex::default(),
            selection: Selection::default(),
            hits: shadow::Sampling::default(),
            shadow: shadow::Shadow::default(),
            touched: AtomicU64::new(0),
            stale: stale::Episode::default(),
            pause: pause::Pause::default(),
            tags: tags::Tags::default(),
        });
        let watched: Weak<dyn Watched> = Arc::<Self>::downgrade(&front);
        instance.set_front(watched);
        front.follow_settings();
        let tracking = Arc::clone(&front);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("corral-tracker".to_owned())
            .spawn(move || runtime.block_on(tracking.track()))?;
        Ok((front, receivers))
    }

    /// Follows what changes upstream until the server stops.
    async fn track(self: Arc<Self>) {
        let stopping = Arc::clone(&self.instance);
        let coherence: Arc<dyn Coherence> = Arc::<Self>::clone(&self);
        let tracker = Arc::clone(&self.tracker);
        let bound = || self.bound();
        tokio::select! {
            () = tracker.run(Arc::clone(&self.upstream), coherence, bound) => {}
            () = self.look_after() => {}
            () = stopping.stopping.wait() => {}
        }
    }

    /// What is done now and then: settings taken up, memory of void copies given back.
    async fn look_after(&self) {
        loop {
            self.follow_settings();
            self.end_stale();
            self.near.adapt();
            let is_done = self.near.reclaim(&self.instance.store, self.now());
            let pause = if is_done {
                LOOK_AFTER_EVERY
            } else {
                SLICE_EVERY
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn follow_settings(&self) {
        let config = self.instance.config();
        if self.selection.follow(&config) {
            // Copies of keys that are left out now would be there still if they came in again.
            self.flush();
        }
        self.hits.follow(&config);
        let settings = &self.near.settings;
        let mut ttl = config.near_ttl;
        if self.tracker.rung() == Rung::TtlOnly {
            ttl = ttl.min(config.staleness_bound);
            // Nothing will be told, so there is nothing to wait for.
            self.near.channels.heard(near::Slot::TRACKER, u64::MAX);
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        settings.near_ttl_ms.store(ms(ttl), Ordering::Relaxed);
        let stale = ms(config.stale_if_error);
        settings.stale_ms.store(stale, Ordering::Relaxed);
        let bytes = usize::try_from(config.near_max_value).unwrap_or(usize::MAX);
        settings.value_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Shared connections for each protocol on each thread.
    fn links_per_thread(&self) -> usize {
        let (threads, wanted) = (
            self.mailboxes.len(),
            self.instance.config().upstream_connections,
        );
        let most = (usize::from(near::CHANNELS_MAX) - 1) / (2 * threads);
        wanted.div_ceil(threads).clamp(1, most)
    }

    /// A moment, as the near cache has it.
    fn now(&self) -> Now {
        Now {
            unix_ms: clock::unix_ms(),
            mono_ns: self.nanos(clock::now()),
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    /// `staleness-bound`
    fn bound(&self) -> Duration {
        self.instance.config().staleness_bound
    }

    /// Whether upstream is known to have this database.
    fn has_database(&self, database: u32) -> bool {
        database == self.upstream.url.database || self.databases.lock().contains(&database)
    }

    fn note_database(&self, database: u32) {
        let mut databases = self.databases.lock();
        if !databases.contains(&database) && databases.len() < DATABASES_NOTED_MAX {
            databases.push(database);
        }
    }

    /// The databases that upstream is known to have.
    fn databases_known(&self) -> Vec<u32> {
        let mut known = self.databases.lock().clone();
        if !known.contains(&self.upstream.url.database) {
            known.push(self.upstream.url.database);
        }
        known
    }

    /// Ends when all is void that a write of unknown keys may have changed: who is told that it has
    /// written is not served what was there before, be it as stale.
    async fn settle_write(&self) {
        if !self.tracker.fence().await {
            // Nobody told which keys they were.
            self.flush();
        }
    }

    /// Whether it is remembered that a key is absent.
    fn keeps_absent(&self) -> bool {
        // While a slot is on its way, its next master gets the key unseen. And while writes are
        // paused, what has expired is still there: the next read is to remove it.
        !self.upstream.is_cluster() && !self.holds_writes(self.now().mono_ns)
    }

    fn void(&self, key: &[u8], why: Why) {
        self.near.void(&self.instance.store, key, why);
        let moment = match why {
            Why::Push => Moment::Told,
            Why::WriteStart => Moment::Begins,
            Why::WriteEnd | Why::Request => Moment::Ended,
        };
        self.instance.policy.changed_elsewhere(key, moment);
    }
}

/// Locks on the flights.
const STRIPES: usize = 256;
/// How often settings are looked at.
const LOOK_AFTER_EVERY: Duration = Duration::from_millis(100);
/// How often a slice of void copies is given back.
const SLICE_EVERY: Duration = Duration::from_millis(2);
/// Databases remembered at most; others are asked for again.
const DATABASES_NOTED_MAX: usize = 1024;

impl Coherence for Front {
    fn generation(&self, slot: Slot) -> u32 {
        self.near.channels.generation(channel(slot))
    }

    fn lose(&self, slot: Slot) {
        self.near.channels.lose(channel(slot));
    }

    fn heard(&self, slot: Slot, sent: Instant) {
        let until = self.nanos(sent + self.bound());
        self.near.channels.heard(channel(slot), until);
    }

    fn invalidate(&self, key: &[u8]) {
        if key == tags::SEQ {
            self.instance.policy.tags_gone_elsewhere();
        }
        self.void(key, Why::Push);
    }

    fn flush(&self) {
        self.near.void_all(&self.instance.store, self.now());
        self.instance.policy.all_changed_elsewhere();
        self.instance.policy.tags_gone_elsewhere();
    }
}

/// A shared connection as the near cache numbers it.
fn channel(slot: Slot) -> near::Slot {
    near::Slot::new(slot.0).expect("there are no more connections than channels")
}
