//! What all threads of one server share: the store, the settings in force, the clients, the logs.
//!
//! Knows no socket and no command: the transport above it serves connections with it, the handlers
//! work on it. Nothing here is locked while a command waits for something.

pub mod clients;
pub mod events;
pub mod front;
pub mod pause;
pub mod session;
pub mod soft_limit;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::clock;
use crate::config::{self, Config, MaxmemoryPolicy, Rules, SetError};
use crate::metrics::{LatencyMonitor, Metrics, SlowLog};
use crate::policy::Policy;
use crate::store::{self, Options, Store, Tuning};
use crate::upstream::Upstream;

use clients::Clients;
use events::Events;
use front::Watched;
use pause::Pause;

/// One server.
pub struct Instance {
    /// Our own keys.
    pub store: Arc<Store>,
    /// Rules, and what is under way by them.
    pub policy: Arc<Policy>,
    /// Who tells that something changed.
    pub events: Events,
    /// Everybody who is connected.
    pub clients: Clients,
    /// What is counted.
    pub metrics: Metrics,
    /// Commands that took long.
    pub slow_log: SlowLog,
    /// Events that took long.
    pub latency: LatencyMonitor,
    /// `CLIENT PAUSE`.
    pub pause: Pause,
    /// The Redis in front of which this server stands, if it does.
    pub upstream: Option<Arc<Upstream>>,
    /// Whether expired keys are removed that nobody asks for (`DEBUG SET-ACTIVE-EXPIRE`).
    pub active_expiry: AtomicBool,
    /// Asked to stop.
    pub stopping: Stopping,
    /// 40 hexadecimal digits, new at each start.
    pub run_id: String,
    /// When it was started: by the wall clock in ms, and by the other.
    pub started_ms: u64,
    started: Instant,
    config: RwLock<Arc<Config>>,
    config_generation: AtomicU64,
    /// Whether memory must still shrink after `maxmemory` was lowered.
    pub shrinking: AtomicBool,
    /// Held while rules are read anew.
    reloading: Mutex<()>,
    /// Who opens and closes sockets when settings change; there once the server runs.
    pub listeners: OnceLock<Box<dyn Listeners + Send + Sync>>,
    /// The front with a near cache that was built on it, if one was.
    front: OnceLock<Weak<dyn Watched>>,
}

/// Who opens and closes listening sockets.
pub trait Listeners {
    /// Puts changed settings into effect.
    ///
    /// # Errors
    /// When a socket cannot be opened or a file cannot be read; then nothing has changed.
    fn change(&self, before: &Config, after: &Config) -> Result<(), SetError>;
}

/// How a server is asked to stop.
#[derive(Default)]
pub struct Stopping {
    asked: AtomicBool,
    now: AtomicBool,
    told: tokio::sync::Notify,
}

impl Stopping {
    /// Asks it to stop. `now`: without waiting for clients to finish.
    pub fn ask(&self, now: bool) {
        self.now.fetch_or(now, Ordering::Relaxed);
        self.asked.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Whether clients are not to be waited for.
    #[must_use]
    pub fn is_now(&self) -> bool {
        self.now.load(Ordering::Relaxed)
    }

    /// Ends when it was asked.
    pub async fn wait(&self) {
        let told = self.told.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        if !self.is_asked() {
            told.await;
        }
    }
}

impl Instance {
    /// A server with these settings, with nothing in it yet.
    #[must_use]
    pub fn new(config: Config, upstream: Option<Arc<Upstream>>) -> Self {
        let now_ms = clock::unix_ms();
        let store = Arc::new(Store::new(&Options {
            shards: shards_for(config.io_threads),
            databases: u16::try_from(config.databases).unwrap_or(u16::MAX),
            bytes_max: bytes_max(&config),
            tuning: tuning(&config),
            now_ms,
        }));
        Self {
            policy: Policy::new(Arc::clone(&store)),
            store,
            events: Events::default(),
            clients: Clients::default(),
            metrics: Metrics::new(config.io_threads),
            slow_log: SlowLog::default(),
            latency: LatencyMonitor::default(),
            pause: Pause::default(),
            upstream,
            active_expiry: AtomicBool::new(true),
            stopping: Stopping::default(),
            run_id: (0..5)
                .map(|_| format!("{:08x}", rand::random::<u32>()))
                .collect(),
            started_ms: now_ms,
            started: clock::now(),
            config: RwLock::new(Arc::new(config)),
            config_generation: AtomicU64::new(0),
            shrinking: AtomicBool::new(false),
            reloading: Mutex::new(()),
            listeners: OnceLock::new(),
            front: OnceLock::new(),
        }
    }

    /// The front with a near cache, where there is one.
    #[must_use]
    pub fn front(&self) -> Option<Arc<dyn Watched>> {
        self.front.get()?.upgrade()
    }

    /// Makes its front known; there is one at most.
    pub fn set_front(&self, front: Weak<dyn Watched>) {
        let is_first = self.front.set(front).is_ok();
        debug_assert!(is_first, "an instance has one front");
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    /// Counts up with every change of the settings: who keeps a copy looks here first.
    #[inline]
    #[must_use]
    pub fn config_generation(&self) -> u64 {
        self.config_generation.load(Ordering::Acquire)
    }

    /// Puts other settings in force. `change` makes them from the present ones, under a lock.
    ///
    /// # Errors
    /// Whatever `change` fails with; then nothing has changed.
    pub fn change_config<E>(
        &self,
        change: impl FnOnce(&Config) -> Result<Config, E>,
    ) -> Result<(Arc<Config>, Arc<Config>), E> {
        let mut config = self.config.write();
        let before = Arc::clone(&config);
        let after = Arc::new(change(&before)?);
        *config = Arc::clone(&after);
        self.config_generation.fetch_add(1, Ordering::AcqRel);
        Ok((before, after))
    }

    /// Puts the rules and origins in force that the config file has now. Blocks while it reads.
    ///
    /// # Errors
    /// There is no file, or something is wrong with it; then nothing has changed. The log has it,
    /// too.
    pub fn reload_rules(&self) -> Result<(), String> {
        // Of two at once, the one that reads later also has the last word.
        let _reloading = self.reloading.lock();
        let reloaded = self.rules_of_file().and_then(|rules| {
            let are_other = !self.policy.table().set().is_as(&rules);
            let events = self.build_events(&rules)?;
            self.policy.set_rules(&rules)?;
            self.events.set(events);
            if are_other && let Some(front) = self.front() {
                front.rules_changed();
            }
            Ok(rules)
        });
        match reloaded {
            Ok(rules) => {
                let events = rules.events.len();
                let (rules, origins) = (rules.rules.len(), rules.origins.len());
                tracing::info!(rules, origins, events, "rules and origins were read anew");
                Ok(())
            }
            Err(why) => {
                tracing::warn!(why, "rules and origins stay as they were");
                Err(why)
            }
        }
    }

    /// Puts the rules, origins and events of the settings in force.
    ///
    /// # Errors
    /// What they need is not there; then nothing has changed.
    pub fn start_rules(&self) -> Result<(), String> {
        let config = self.config();
        let events = self.build_events(config.rules())?;
        self.policy.set_rules(config.rules())?;
        self.events.set(events);
        Ok(())
    }

    fn build_events(&self, rules: &Rules) -> Result<Vec<Arc<events::Source>>, String> {
        let config = self.config();
        self.events
            .build(&rules.events, &config, self.upstream.as_deref())
    }

    fn rules_of_file(&self) -> Result<Arc<Rules>, String> {
        let config = self.config();
        let path = config
            .file()
            .ok_or("The server is running without a config file")?;
        config::load_rules(path).map_err(|error| error.to_string().replace('\n', " "))
    }

    /// When it was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How long it has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Milliseconds since the start, on the clock that never goes back.
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// `maxmemory` as the store takes it.
#[must_use]
pub fn bytes_max(config: &Config) -> Option<usize> {
    (config.maxmemory > 0).then(|| usize::try_from(config.maxmemory).unwrap_or(usize::MAX))
}

/// The policy's settings as the store takes them.
#[must_use]
pub fn tuning(config: &Config) -> Tuning {
    Tuning {
        policy: match config.maxmemory_policy {
            MaxmemoryPolicy::NoEviction => store::Policy::NoEviction,
            MaxmemoryPolicy::AllkeysLru => store::Policy::AllKeysLru,
            MaxmemoryPolicy::AllkeysLfu => store::Policy::AllKeysLfu,
            MaxmemoryPolicy::AllkeysRandom => store::Policy::AllKeysRandom,
            MaxmemoryPolicy::AllkeysTinylfu => store::Policy::AllKeysTinyLfu,
            MaxmemoryPolicy::VolatileLru => store::Policy::VolatileLru,
            MaxmemoryPolicy::VolatileLfu => store::Policy::VolatileLfu,
            MaxmemoryPolicy::VolatileRandom => store::Policy::VolatileRandom,
            MaxmemoryPolicy::VolatileTtl => store::Policy::VolatileTtl,
        },
        samples: u16::try_from(config.maxmemory_samples).unwrap_or(u16::MAX),
        lfu_log_factor: config.lfu_log_factor,
        lfu_decay_minutes: config.lfu_decay_time,
    }
}

/// Locks for this many threads: enough that two seldom want the same.
fn shards_for(io_threads: usize) -> usize {
    (io_threads * SHARDS_PER_THREAD)
        .next_power_of_two()
        .clamp(SHARDS_MIN, SHARDS_MAX)
}

const SHARDS_PER_THREAD: usize = 16;
const SHARDS_MIN: usize = 64;
const SHARDS_MAX: usize = 512;

/// Counts connections against `maxclients`; what it gives is to be kept while the client is there.
#[derive(Default)]
pub struct Places {
    taken: AtomicUsize,
}

impl Places {
    /// A place, if fewer than `max` are taken.
    pub fn take(self: &Arc<Self>, max: usize) -> Option<Seat> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let seat = Seat {
            places: Arc::clone(self),
        };
        (taken < max).then_some(seat)
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// One taken place; given back when dropped.
pub struct Seat {
    places: Arc<Places>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
