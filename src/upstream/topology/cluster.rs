//! A Redis Cluster as one upstream: what all connections to it share.
//!
//! Which master has which slot is asked of the nodes, once a second and whenever there is a
//! reason to: a lost connection, or a redirection. What changes voids everything that was read:
//! it is rare.
//!
//! Changes of keys are told by each master over a connection of its own, by its own number; all of
//! them together are *one* tracking connection ([`many`](super::many)), with a number of ours.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::route::Router;
use super::slots::SlotMap;
use crate::upstream::connect::{
    Cause, ConnectError, Connection, Opening, Tls, Upstream, introduce, open,
};
use crate::upstream::conversation::{Conversation, Value};
use crate::upstream::shared::Coherence;
use crate::upstream::url::{Credentials, Endpoint, UpstreamUrl};

/// How long a node may take to tell its map, unless `upstream-timeout` is shorter.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often is asked while there is a reason to.
const SEEK_EVERY: Duration = Duration::from_millis(100);
/// How often is asked at most.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(20);
/// How often is asked though there is no reason to.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Our numbers of tracking connections are above: no master has had so many clients.
const TRACKERS_FROM: u64 = 1 << 48;

/// What all connections to a cluster share.
pub(in crate::upstream) struct Cluster {
    seeds: Vec<Endpoint>,
    tls: Option<Tls>,
    wants_tls: bool,
    auth: Option<Opening>,
    /// The map, its version, and why there is none.
    known: watch::Sender<Known>,
    wanted: Notify,
    pub(super) router: OnceLock<Arc<dyn Router>>,
    pub(super) coherence: Mutex<Option<Weak<dyn Coherence>>>,
    /// Of each tracking connection, by our number for it, each master's number for it.
    trackers: watch::Sender<HashMap<u64, HashMap<Endpoint, u64>>>,
    last_tracker: AtomicU64,
}

#[derive(Clone, Default)]
struct Known {
    version: u64,
    map: Option<Arc<SlotMap>>,
    trouble: String,
}

impl Cluster {
    pub(in crate::upstream) fn new(
        url: &UpstreamUrl,
        seeds: &[Endpoint],
        tls: Option<&Tls>,
    ) -> Self {
        Self {
            seeds: seeds.to_vec(),
            tls: tls.cloned(),
            wants_tls: url.tls,
            auth: url.credentials.as_ref().map(Credentials::opening),
            known: watch::Sender::new(Known {
                trouble: "no node has answered yet".to_owned(),
                ..Known::default()
            }),
            wanted: Notify::new(),
            router: OnceLock::new(),
            coherence: Mutex::default(),
            trackers: watch::Sender::new(HashMap::new()),
            last_tracker: AtomicU64::new(TRACKERS_FROM),
        }
    }

    /// Its name, for people: the nodes of its URL.
    pub(in crate::upstream) fn name(&self) -> String {
        let seeds: Vec<_> = self.seeds.iter().map(ToString::to_string).collect();
        seeds.join(",")
    }

    /// Waits for the map.
    pub(in crate::upstream) async fn ready(&self) -> Result<(), Cause> {
        let mut known = self.known.subscribe();
        let answered = known.wait_for(|known| known.version > 0).await;
        match answered {
            Ok(known) if known.map.is_some() => Ok(()),
            Ok(known) => Err(Cause::NoMaster(known.trouble.clone())),
            Err(_) => Err(Cause::NoMaster("nobody looks for it".to_owned())),
        }
    }

    /// Ends when there is a map.
    pub(super) async fn found(&self) {
        let mut known = self.known.subscribe();
        let _ = known.wait_for(|known| known.map.is_some()).await;
    }

    pub(super) fn version(&self) -> u64 {
        self.known.borrow().version
    }

    pub(super) fn map(&self) -> (u64, Option<Arc<SlotMap>>) {
        let known = self.known.borrow();
        (known.version, known.map.clone())
    }

    /// There is a reason to ask for the map.
    pub(in crate::upstream) fn suspect(&self) {
        self.wanted.notify_one();
    }

    /// A node says that a slot is at this master.
    pub(super) fn moved(&self, slot: u16, master: Endpoint) {
        let (_, map) = self.map();
        if let Some(map) = map
            && map.owner(slot) != Some(&master)
            && let Some(map) = map.with(slot, master)
        {
            self.publish(map);
        }
        self.suspect();
    }

    fn publish(&self, map: SlotMap) {
        let is_new = self.known.borrow().map.as_deref() != Some(&map);
        if !is_new {
            return;
        }
        // Whoever still reads by the old map is not stored.
        self.flush();
        let masters = map.masters().len();
        self.known.send_modify(|known| {
            known.version += 1;
            known.map = Some(Arc::new(map));
            known.trouble = String::new();
        });
        self.flush();
        tracing::info!(
            cluster = self.name(),
            masters,
            "the cluster's slots are known"
        );
    }

    fn flush(&self) {
        let coherence = self.coherence.lock().as_ref().and_then(Weak::upgrade);
        if let Some(coherence) = coherence {
            coherence.flush();
        }
    }

    /// Voids a key whose reply must not be kept.
    pub(super) fn void(&self, key: &[u8]) {
        let coherence = self.coherence.lock().as_ref().and_then(Weak::upgrade);
        if let Some(coherence) = coherence {
            coherence.invalidate(key);
        }
    }

    /// Opens a connection to a node, and says this first on it.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        openings: &[Opening],
    ) -> Result<Box<dyn Connection>, Cause> {
        let mut connection = open(endpoint, self.wants_tls, self.tls.as_ref()).await?;
        let all: Vec<Opening> = self.auth.iter().chain(openings).cloned().collect();
        introduce(&mut connection, &all).await?;
        Ok(connection)
    }

    /// Whether this is or was the number of a tracking connection of ours.
    pub(super) fn is_tracker(number: u64) -> bool {
        number > TRACKERS_FROM
    }

    /// A number for a new tracking connection.
    pub(super) fn begin_tracker(&self) -> u64 {
        let number = self.last_tracker.fetch_add(1, Ordering::Relaxed) + 1;
        self.trackers.send_modify(|trackers| {
            trackers.insert(number, HashMap::new());
        });
        number
    }

    /// A master's number for a tracking connection.
    pub(super) fn note_tracker(&self, number: u64, master: Endpoint, theirs: u64) {
        self.trackers.send_modify(|trackers| {
            if let Some(tracker) = trackers.get_mut(&number) {
                tracker.insert(master, theirs);
            }
        });
        // What was read there before is not told of.
        self.flush();
    }

    /// Waits until a tracking connection is open at this master, if there is any at all.
    pub(super) async fn tracked(&self, master: &Endpoint) {
        let mut trackers = self.trackers.subscribe();
        let is_there = |trackers: &HashMap<u64, HashMap<Endpoint, u64>>| {
            trackers.is_empty() || trackers.values().any(|at| at.contains_key(master))
        };
        let _ = trackers.wait_for(is_there).await;
    }

    /// A tracking connection is gone.
    pub(super) fn end_tracker(&self, number: u64) {
        self.trackers.send_modify(|trackers| {
            trackers.remove(&number);
        });
    }

    /// A master's number for a tracking connection, if that is open there.
    pub(super) fn tracker(&self, number: u64, master: &Endpoint) -> Option<u64> {
        self.trackers.borrow().get(&number)?.get(master).copied()
    }

    /// The same, which waits until it is open there; `None` when it is gone.
    pub(super) async fn tracker_there(&self, number: u64, master: &Endpoint) -> Option<u64> {
        let mut trackers = self.trackers.subscribe();
        let is_decided = |trackers: &HashMap<u64, HashMap<Endpoint, u64>>| {
            trackers
                .get(&number)
                .is_none_or(|at| at.contains_key(master))
        };
        let trackers = trackers.wait_for(is_decided).await.ok()?;
        trackers.get(&number)?.get(master).copied()
    }

    /// Keeps asking for the map.
    pub(super) async fn watch(&self, upstream: &Upstream) {
        loop {
            let found = self.look(upstream).await;
            let pause = if found.is_ok() {
                CHECK_EVERY
            } else {
                SEEK_EVERY
            };
            match found {
                Ok(map) => self.publish(map),
                Err(why) => self.known.send_modify(|known| {
                    if known.map.is_none() {
                        known.version += 1;
                    }
                    known.trouble = why;
                }),
            }
            tokio::time::sleep(LOOK_EVERY_MIN).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    async fn look(&self, upstream: &Upstream) -> Result<SlotMap, String> {
        let known = self.known.borrow().map.clone();
        let masters = known.iter().flat_map(|map| map.masters()).cloned();
        let mut nodes: Vec<Endpoint> = masters.chain(self.seeds.iter().cloned()).collect();
        let from = usize::try_from(rand::random::<u32>()).unwrap_or(0) % nodes.len();
        nodes.rotate_left(from);
        let mut trouble = String::new();
        for node in &nodes {
            match ask(upstream, node).await {
                Ok(map) => return Ok(map),
                Err(why) => trouble = why,
            }
        }
        Err(trouble)
    }
}

/// Asks a node for the map.
async fn ask(upstream: &Upstream, node: &Endpoint) -> Result<SlotMap, String> {
    let patience = PATIENCE.min(upstream.timeout());
    let credentials = upstream.url.credentials.as_ref();
    let opened = Conversation::open(upstream, node, credentials, patience).await;
    let mut conversation = opened.map_err(|error| error.to_string())?;
    let answer = conversation.ask(&[b"CLUSTER", b"SLOTS"], patience).await;
    match answer {
        Ok(Value::Error(error)) => Err(format!("{node} says: {error}")),
        Ok(answer) => SlotMap::of(&answer, node)
            .ok_or_else(|| format!("{node} knows of no master with slots")),
        Err(cause) => Err(ConnectError::new(node.to_string(), cause).to_string()),
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Cluster")
            .field(&self.name())
            .finish()
    }
}
