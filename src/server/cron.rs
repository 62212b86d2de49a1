//! What is done without being asked for, `hz` times a second: expired items are removed, idle
//! clients closed, memory that is over its bound freed, rates sampled.
//!
//! Every I/O thread looks after its share of the shards; the first one does what is there once. All
//! work is done in slices of well under a millisecond, between which clients are served.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock;
use crate::command::server::limit_memory;
use crate::instance::Instance;

/// Items removed under one lock.
const REMOVED_AT_ONCE: usize = 200;
/// Items evicted at once.
const EVICTED_AT_ONCE: usize = 100;
/// Items looked at at once after their tag was invalidated.
const RECLAIMED_AT_ONCE: u32 = 64;
/// Time for one kind of work in one turn.
const TURN_MAX: Duration = Duration::from_millis(5);
/// The pause after a turn that could not finish: a quarter of the thread's time, as in Redis, goes
/// to work that does not end.
const PAUSE_WHEN_BEHIND: Duration = Duration::from_millis(15);
/// A client that said nothing for so long gives its read buffer back.
const QUIET_AFTER: Duration = Duration::from_secs(2);
/// How often idle clients are looked for.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// Works for one I/O thread until it is dropped.
pub async fn run(instance: Arc<Instance>, thread: usize) {
    let mut idle_checked = clock::now();
    let mut sweep = Sweep {
        instance: &instance,
        thread,
        next: thread,
    };
    loop {
        let mut is_behind = sweep.turn().await;
        if thread == 0 {
            is_behind |= free_memory(&instance).await;
            is_behind |= reclaim(&instance).await;
            instance.metrics.rates.sample(&instance.metrics);
            instance.metrics.peak.note(instance.store.items_bytes());
            if clock::now().duration_since(idle_checked) >= IDLE_CHECK {
                idle_checked = clock::now();
                look_after_idle(&instance);
                instance.policy.sweep();
            }
        }
        let period = instance.config().hz.period();
        tokio::time::sleep(if is_behind {
            period.min(PAUSE_WHEN_BEHIND)
        } else {
            period
        })
        .await;
    }
}

/// The removal of expired items from the shards of one thread.
struct Sweep<'a> {
    instance: &'a Instance,
    thread: usize,
    /// The shard to go on with.
    next: usize,
}

impl Sweep<'_> {
    /// One turn. Whether there is more to do.
    async fn turn(&mut self) -> bool {
        let threads = self.instance.metrics.threads.len();
        let shards = self.instance.store.shards();
        let own = (shards + threads - 1 - self.thread % threads) / threads;
        let mut time = Allowance::default();
        let mut done = 0;
        while done < own && self.instance.active_expiry.load(Ordering::Relaxed) {
            if time.is_spent() {
                note_latency(self.instance, time.spent);
                return true;
            }
            let (is_done, took) = self.slice();
            if is_done {
                done += 1;
                self.next += threads;
                if self.next >= shards {
                    self.next = self.thread;
                }
            }
            time.spend(took).await;
        }
        note_latency(self.instance, time.spent);
        false
    }

    /// Removes some expired items of the present shard. Whether none is left, and how long it took
    /// once the shard was locked: to wait for a command is not this work's time.
    fn slice(&self) -> (bool, Duration) {
        let mut locked = self.instance.store.lock_index(self.next);
        let since = clock::now();
        let mut budget = REMOVED_AT_ONCE;
        let now_ms = clock::unix_ms();
        locked.with_shard(self.next, |shard| shard.remove_expired(now_ms, &mut budget));
        (budget > 0, clock::now() - since)
    }
}

/// The working time of a turn.
#[derive(Default)]
struct Allowance {
    spent: Duration,
}

impl Allowance {
    fn is_spent(&self) -> bool {
        self.spent >= TURN_MAX
    }

    /// Books some work; lets clients be served if it took its time.
    async fn spend(&mut self, took: Duration) {
        self.spent += took;
        if took >= SLICE_LONG {
            tokio::task::yield_now().await;
        }
    }
}

/// After a slice that took longer, clients come first.
const SLICE_LONG: Duration = Duration::from_micros(20);

fn note_latency(instance: &Instance, took: Duration) {
    let threshold = instance.config().latency_monitor_threshold;
    if !threshold.is_zero() && took >= threshold {
        let millis = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        instance
            .latency
            .add("expire-cycle", clock::unix_ms() / 1000, millis);
    }
}

/// Takes out what invalidated tags have left. Whether there is more to do.
async fn reclaim(instance: &Instance) -> bool {
    let mut time = Allowance::default();
    while !time.is_spent() {
        let since = clock::now();
        if !instance.store.reclaim(clock::unix_ms(), RECLAIMED_AT_ONCE) {
            return false;
        }
        time.spend(clock::now() - since).await;
    }
    true
}

/// Evicts what is over the bound since `maxmemory` was lowered. Whether there is more to do.
async fn free_memory(instance: &Instance) -> bool {
    let mut time = Allowance::default();
    while instance.shrinking.load(Ordering::Acquire) {
        if time.is_spent() {
            return true;
        }
        let since = clock::now();
        limit_memory(instance, EVICTED_AT_ONCE);
        time.spend(clock::now() - since).await;
    }
    false
}

/// Closes clients that have asked for nothing for longer than `timeout`.
fn look_after_idle(instance: &Instance) {
    let timeout = instance.config().timeout;
    for client in instance.clients.list() {
        let doing = &client.doing;
        let waits = [&doing.monitors, &doing.paused, &doing.passed];
        let waits = waits.iter().any(|waits| waits.load(Ordering::Relaxed));
        let active_ms = doing.active_ms.load(Ordering::Relaxed);
        let silent = Duration::from_millis(instance.uptime_ms().saturating_sub(active_ms));
        // One that never asked for anything has been idle since it came.
        let idle = silent.min(client.connected.elapsed());
        if idle >= QUIET_AFTER && doing.query_free.load(Ordering::Relaxed) > 0 {
            client.be_quiet();
        }
        if !waits && !timeout.is_zero() && idle > timeout && !client.is_closed() {
            tracing::debug!(client = client.peer, "closed: idle for too long");
            instance.metrics.idle_closes.add_shared(1);
            client.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::config::Config;
    use crate::instance::clients::Arrival;
    use crate::keyspace::{Place, View};

    fn instance(pairs: &[(&[u8], &[u8])]) -> Arc<Instance> {
        let config = Config::default().set(pairs).unwrap();
        Arc::new(Instance::new(config, None))
    }

    fn fill(instance: &Instance, count: usize, value: &[u8], expires_at: Option<u64>) {
        for number in 0..count {
            let key = number.to_string();
            let key = instance.store.key(key.as_bytes());
            let mut view = View::new(instance.store.lock(key.hash), clock::unix_ms());
            let place = Place { db: 0, key };
            view.set(place, value, expires_at.and_then(NonZeroU64::new))
                .unwrap();
        }
    }

    fn keys(instance: &Instance) -> usize {
        View::new(instance.store.lock_none(), clock::unix_ms()).len(0)
    }

    /// Waits for something the background work does.
    async fn until(instance: &Arc<Instance>, is_done: impl Fn() -> bool) {
        let threads = instance.metrics.threads.len();
        let mut work = tokio::task::JoinSet::new();
        for thread in 0..threads {
            work.spawn_local(run(Arc::clone(instance), thread));
        }
        while !is_done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn expired_items_are_removed_though_nobody_asks_for_them() {
        let instance = instance(&[]);
        fill(&instance, 5000, b"v", Some(clock::unix_ms() + 50));
        let all = tokio::task::LocalSet::new();
        all.run_until(until(&instance, || keys(&instance) == 0))
            .await;
        assert_eq!(instance.store.departures(), (0, 5000));
    }

    #[tokio::test]
    async fn expired_items_stay_where_active_expiry_is_off() {
        let instance = instance(&[]);
        instance.active_expiry.store(false, Ordering::Relaxed);
        fill(&instance, 10, b"v", Some(clock::unix_ms() + 1));
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut sweep = Sweep {
            instance: &instance,
            thread: 0,
            next: 0,
        };
        assert!(!sweep.turn().await);
        assert_eq!(keys(&instance), 10);
    }

    #[tokio::test]
    async fn memory_is_freed_when_its_bound_was_lowered() {
        let instance = instance(&[(b"maxmemory", b"100mb")]);
        fill(&instance, 20_000, &[b'v'; 100], None);
        let lower = |config: &Config| config.set(&[(b"maxmemory", b"1mb")]);
        instance.change_config(lower).unwrap();
        instance.shrinking.store(true, Ordering::Release);
        let all = tokio::task::LocalSet::new();
        all.run_until(until(&instance, || {
            !instance.shrinking.load(Ordering::Acquire)
        }))
        .await;
        assert!(
            instance.store.items_bytes() <= 1 << 20,
            "{}",
            instance.store.items_bytes()
        );
    }

    #[tokio::test]
    async fn idle_clients_are_closed_but_not_those_who_monitor() {
        let instance = instance(&[(b"timeout", b"1")]);
        let arrival = || Arrival {
            peer: "p".to_owned(),
            local: "l".to_owned(),
            is_unix: false,
            is_local: true,
            fd: 0,
        };
        let [idle, monitor] = [(); 2].map(|()| instance.clients.add(arrival(), 10).unwrap());
        instance.clients.start_monitoring(&monitor);
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(900)).await;
        look_after_idle(&instance);
        assert!(!idle.is_closed());
        tokio::time::advance(Duration::from_millis(200)).await;
        look_after_idle(&instance);
        assert!(idle.is_closed() && !monitor.is_closed());
        assert_eq!(instance.metrics.idle_closes.value(), 1);
    }
}
