//! Events: messages of something outside that say what changed, and what they invalidate.
//!
//! Each event is a task on one thread that no client depends on. It takes messages one after the
//! other ([`feed`]), makes names of keys and tags of them ([`message`]) and invalidates these
//! ([`effect`]), which is the one way for all who say from outside that something changed.
//!
//! Invariants:
//! - The next messages are taken when those before are done: nothing is queued here.
//! - What can be acknowledged is acknowledged after it was done, a message that cannot be used
//!   included.
//! - Where messages may have been lost, all that they could have named is made stale or removed
//!   before the next one is taken ([`sweep`]).

pub mod effect;
mod feed;
#[cfg(feature = "kafka")]
mod kafka;
mod keyspace;
mod message;
mod postgres;
mod pubsub;
mod redis;
mod stream;
mod sweep;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::{JoinHandle as Task, LocalSet};

use crate::config::rules::{EventKind, StreamSpec};
use crate::instance::Instance;
use crate::instance::events::Source;

use feed::Runner;
use keyspace::Keyspace;
use postgres::Postgres;
use pubsub::Pubsub;
use redis::Redis;
use stream::Stream;

/// How long an event that is to end may take to finish what it does.
const STOP_MAX: Duration = Duration::from_secs(2);

/// How TLS is spoken with servers that events come from.
pub type ClientTls = fn() -> Result<Arc<ClientConfig>, String>;

/// Runs the events of an instance, those to come included, on a thread of its own, until the server
/// stops.
///
/// # Errors
/// When that thread cannot be made.
pub fn start(instance: &Arc<Instance>, tls: ClientTls) -> std::io::Result<JoinHandle<()>> {
    let instance = Arc::clone(instance);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("corral-events".to_owned())
        .spawn(move || LocalSet::new().block_on(&runtime, run(instance, tls)))
}

/// An event that runs.
struct Running {
    source: Arc<Source>,
    stop: watch::Sender<bool>,
    task: Task<()>,
}

impl Running {
    fn start(instance: &Arc<Instance>, source: &Arc<Source>, tls: ClientTls, again: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let runner = Runner::new(Arc::clone(instance), Arc::clone(source), stopped, again);
        Self {
            source: Arc::clone(source),
            stop,
            task: tokio::task::spawn_local(serve(runner, tls)),
        }
    }

    /// Lets it finish what it does.
    async fn end(mut self) {
        // It may have ended by itself.
        let _ = self.stop.send(true);
        if tokio::time::timeout(STOP_MAX, &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
        }
    }
}

async fn run(instance: Arc<Instance>, tls: ClientTls) {
    let mut running: Vec<Running> = Vec::new();
    loop {
        let sources = instance.events.sources();
        let mut goes_on = Vec::new();
        let mut ending = Vec::new();
        for one in running {
            if sources
                .iter()
                .any(|source| Arc::ptr_eq(source, &one.source))
            {
                goes_on.push(one);
            } else {
                ending.push(one);
            }
        }
        running = goes_on;
        let names: Vec<String> = ending
            .iter()
            .map(|one| one.source.spec.name.clone())
            .collect();
        futures_util::future::join_all(ending.into_iter().map(Running::end)).await;
        for source in sources.iter() {
            if !running.iter().any(|one| Arc::ptr_eq(source, &one.source)) {
                let is_again = names.contains(&source.spec.name);
                running.push(Running::start(&instance, source, tls, is_again));
            }
        }
        tokio::select! {
            () = instance.events.changed() => {}
            () = instance.stopping.wait() => break,
        }
    }
    futures_util::future::join_all(running.into_iter().map(Running::end)).await;
}

/// Runs one event.
async fn serve(runner: Runner, tls: ClientTls) {
    let redis = || Redis::of(&runner.instance, &runner.source, tls);
    let spec = runner.source.spec.clone();
    let failed = match &spec.kind {
        EventKind::Pubsub(pubsub) => match redis() {
            Ok(redis) => return runner.run(Pubsub::new(redis, &pubsub.channels)).await,
            Err(why) => why,
        },
        EventKind::Stream(stream) => match redis() {
            Ok(redis) => {
                let consumer = consumer(&runner.instance, stream);
                return runner.run(Stream::new(redis, stream, consumer)).await;
            }
            Err(why) => why,
        },
        EventKind::Keyspace(keyspace) => match redis() {
            Ok(redis) => {
                let of_upstream = runner.source.address.is_none();
                let own = spec.db.map(u32::from).filter(|_| of_upstream);
                let database = own.unwrap_or_else(|| redis.database());
                let keyspace = Keyspace::new(&spec.name, keyspace, database);
                return runner.run(Pubsub::of_keys(redis, keyspace)).await;
            }
            Err(why) => why,
        },
        EventKind::Postgres(postgres) => {
            let address = runner.source.address.as_ref();
            let address = address.ok_or_else(|| "the url is missing".to_owned());
            match address.and_then(|address| Postgres::new(address, &postgres.channels)) {
                Ok(postgres) => return runner.run(postgres).await,
                Err(why) => why,
            }
        }
        #[cfg(feature = "kafka")]
        EventKind::Kafka(kafka) => return runner.run(kafka::Kafka::new(kafka)).await,
        // Such a file is refused when it is read.
        #[cfg(not(feature = "kafka"))]
        EventKind::Kafka(_) => "it was not built with kafka".to_owned(),
    };
    tracing::error!(event = spec.name, why = failed, "no events come");
}

/// Who this is in a group: the same after a restart, and another for each server of a host.
fn consumer(instance: &Instance, stream: &StreamSpec) -> String {
    stream.consumer.clone().unwrap_or_else(|| {
        let host = nix::unistd::gethostname().unwrap_or_default();
        format!("{}:{}", host.to_string_lossy(), instance.config().port)
    })
}
