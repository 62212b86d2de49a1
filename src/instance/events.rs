//! Events: who tells that something changed, as far as the whole server knows of them.
//!
//! Here stands which there are, and how they are; the room `events` runs them, and takes up others
//! when it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::clock;
use crate::config::Config;
use crate::config::rules::{EventKind, EventSpec, Secret};
use crate::upstream::url::Servers;
use crate::upstream::{Upstream, UpstreamUrl};

/// All events in force.
#[derive(Default)]
pub struct Events {
    sources: RwLock<Arc<[Arc<Source>]>>,
    changed: Notify,
}

/// One event.
pub struct Source {
    /// What the file says of it.
    pub spec: EventSpec,
    /// Where it is. `None`: at the upstream, or the file says it in another way.
    pub address: Option<Address>,
    /// How it is. An event of the same name goes on with it.
    pub status: Arc<Status>,
}

/// A server that messages come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Its URL.
    pub url: Secret<String>,
    /// The password, instead of the URL's.
    pub password: Option<Secret<String>>,
}

/// How an event is.
#[derive(Default)]
pub struct Status {
    /// What is counted.
    pub counts: Counts,
    standing: Mutex<Standing>,
}

/// What is counted of an event. Only ever grows.
#[derive(Default)]
pub struct Counts {
    /// Messages taken.
    pub received: AtomicU64,
    /// Keys that they named.
    pub keys: AtomicU64,
    /// Those that were there.
    pub removed: AtomicU64,
    /// Tags that they named.
    pub tags: AtomicU64,
    /// Keys of these tags that were there.
    pub of_tags: AtomicU64,
    /// Messages of which a key or a tag could not be made.
    pub unusable: AtomicU64,
    /// Times that the connection was lost, or could not be made.
    pub lost: AtomicU64,
    /// Keys that may have changed unseen and were made stale or removed.
    pub swept: AtomicU64,
    /// Unix time in ms of the last message; 0: there was none.
    pub last_ms: AtomicU64,
}

/// Whether messages come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing was connected to so far.
    #[default]
    Connecting,
    /// They do.
    Connected,
    /// They do not.
    Lost,
}

impl State {
    /// Its name, in INFO.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Lost => "lost",
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Standing {
    state: State,
    /// Unix time in ms.
    since_ms: u64,
}

impl Status {
    /// Whether messages come, and for how many seconds that has been so.
    #[must_use]
    pub fn state(&self) -> (State, u64) {
        let Standing { state, since_ms } = *self.standing.lock();
        let for_ms = clock::unix_ms().saturating_sub(since_ms);
        (state, if since_ms == 0 { 0 } else { for_ms / 1000 })
    }

    /// Whether messages come from now on. Whether that is new.
    pub fn turn(&self, state: State) -> bool {
        let mut standing = self.standing.lock();
        let is_new = standing.state != state || standing.since_ms == 0;
        if is_new {
            *standing = Standing {
                state,
                since_ms: clock::unix_ms(),
            };
        }
        is_new
    }

    /// Seconds since the last message, if there was one.
    #[must_use]
    pub fn idle_s(&self) -> Option<u64> {
        let last_ms = self.counts.last_ms.load(Ordering::Relaxed);
        (last_ms > 0).then(|| clock::unix_ms().saturating_sub(last_ms) / 1000)
    }
}

impl Counts {
    /// What each is called in INFO, what it means, and how to read it.
    pub const MEANINGS: [(&'static str, &'static str); 8] = [
        ("received", "Messages of an event that were taken."),
        ("keys", "Keys that messages of an event named."),
        (
            "removed",
            "Keys that messages of an event named and that were there.",
        ),
        ("tags", "Tags that messages of an event named."),
        (
            "of_tags",
            "Keys of the tags that messages of an event named.",
        ),
        (
            "unusable",
            "Messages of an event of which a key or a tag could not be made.",
        ),
        (
            "lost",
            "Times that the connection of an event was lost or could not be made.",
        ),
        (
            "swept",
            "Keys that were made stale or removed as messages of an event may have been lost.",
        ),
    ];

    /// What was counted, in the order of [`Self::MEANINGS`].
    #[must_use]
    pub fn each(&self) -> [u64; Self::MEANINGS.len()] {
        [
            &self.received,
            &self.keys,
            &self.removed,
            &self.tags,
            &self.of_tags,
            &self.unusable,
            &self.lost,
            &self.swept,
        ]
        .map(|count| count.load(Ordering::Relaxed))
    }
}

impl Events {
    /// All of them, in the order of the file.
    #[must_use]
    pub fn sources(&self) -> Arc<[Arc<Source>]> {
        Arc::clone(&self.sources.read())
    }

    /// Puts others in force.
    pub fn set(&self, sources: Vec<Arc<Source>>) {
        *self.sources.write() = sources.into();
        self.changed.notify_one();
    }

    /// Ends when there are others.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Events that are like these: one that is as it was is the very same.
    ///
    /// # Errors
    /// What an event names is not there, or it cannot be in this mode.
    pub fn build(
        &self,
        specs: &[EventSpec],
        config: &Config,
        upstream: Option<&Upstream>,
    ) -> Result<Vec<Arc<Source>>, String> {
        let before = self.sources();
        let source = |spec: &EventSpec| {
            let wrong = |why| format!("event {:?}: {why}", spec.name);
            check(spec, config, upstream).map_err(wrong)?;
            let address = Address::of(spec).map_err(wrong)?;
            let mut known = before.iter();
            let known = known.find(|known| known.spec.name == spec.name);
            Ok(match known {
                Some(known) if known.spec == *spec && known.address == address => Arc::clone(known),
                _ => Arc::new(Source {
                    spec: spec.clone(),
                    address,
                    status: known.map_or_else(Arc::default, |known| Arc::clone(&known.status)),
                }),
            })
        };
        specs.iter().map(source).collect()
    }
}

/// Whether an event can be in this mode.
fn check(spec: &EventSpec, config: &Config, upstream: Option<&Upstream>) -> Result<(), String> {
    let is_of_upstream = spec.redis().is_some_and(|redis| redis.url.is_none());
    let Some(upstream) = upstream else {
        if is_of_upstream {
            return Err("url is missing: there is no upstream".to_owned());
        }
        if spec.db.is_some_and(|db| u32::from(db) >= config.databases) {
            return Err("db: there is no such database".to_owned());
        }
        return Ok(());
    };
    if !config.near_cache {
        return Err("events with an upstream need the near cache".to_owned());
    }
    if is_of_upstream && upstream.is_cluster() {
        return Err("url is missing: the upstream is a cluster, name a node of it".to_owned());
    }
    Ok(())
}

impl Address {
    /// Where an event comes from.
    fn of(spec: &EventSpec) -> Result<Option<Self>, String> {
        let (url, password) = match &spec.kind {
            EventKind::Postgres(postgres) => (&postgres.url, postgres.password.as_ref()),
            EventKind::Pubsub(_) | EventKind::Stream(_) | EventKind::Keyspace(_) => {
                let Some(own) = spec.redis().and_then(|redis| redis.own()) else {
                    return Ok(None);
                };
                own
            }
            EventKind::Kafka(_) => return Ok(None),
        };
        let address = Self {
            url: Secret(url.0.read()?),
            password: match password {
                Some(password) => Some(Secret(password.0.read()?)),
                None => None,
            },
        };
        if spec.redis().is_some() {
            address.redis()?;
        }
        Ok(Some(address))
    }

    /// The same as that of a Redis.
    ///
    /// # Errors
    /// It is no URL of one Redis.
    pub fn redis(&self) -> Result<UpstreamUrl, String> {
        let url: Result<UpstreamUrl, _> = self.url.0.parse();
        let mut url = url.map_err(|error| format!("url: {error}"))?;
        if !matches!(url.servers, Servers::One(_)) {
            return Err("url: must be that of one Redis".to_owned());
        }
        if let Some(password) = &self.password {
            let user = url.credentials.take().and_then(|known| known.user);
            let password = password.0.clone().into_bytes();
            url.credentials = Some(crate::upstream::url::Credentials { user, password });
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::parse;

    fn built(events: &Events, text: &str) -> Result<Vec<Arc<Source>>, String> {
        let specs = parse(text).unwrap().events;
        events.build(&specs, &Config::default(), None)
    }

    fn event(name: &str, more: &str) -> String {
        format!("[[event]]\nname = '{name}'\nkind = 'pubsub'\nchannels = ['c']\n{more}\n")
    }

    #[test]
    fn an_event_that_is_as_it_was_is_the_same_and_one_of_its_name_goes_on_counting() {
        let events = Events::default();
        let url = "url = 'redis://h'\nkeys = ['k']";
        let first = built(&events, &(event("a", url) + &event("b", url))).unwrap();
        events.set(first.clone());
        let other = "url = 'redis://h'\nkeys = ['other']";
        let second = built(&events, &(event("b", url) + &event("a", other))).unwrap();
        assert!(Arc::ptr_eq(&first[1], &second[0]));
        assert!(!Arc::ptr_eq(&first[0], &second[1]));
        assert!(Arc::ptr_eq(&first[0].status, &second[1].status));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        let refusal = |more: &str| built(&Events::default(), &event("a", more)).err().unwrap();
        for (more, said) in [
            ("keys = ['k']", "url is missing: there is no upstream"),
            (
                "url = 'redis://h'\nkeys = ['k']\ndb = 16",
                "db: there is no such database",
            ),
            (
                "url = 'redis://h/x'\nkeys = ['k']",
                "url: the database 'x' is not a number",
            ),
            (
                "url = 'env:CORRAL_NO_SUCH'\nkeys = ['k']",
                "the variable CORRAL_NO_SUCH is not set",
            ),
        ] {
            assert_eq!(refusal(more), format!("event \"a\": {said}"), "{more}");
        }
    }

    #[test]
    fn a_front_has_events_of_its_upstream_unless_that_is_a_cluster() {
        let refusal = |url: &str, more: &str, config: &Config| {
            let timeout = std::time::Duration::from_secs(1);
            let upstream = Upstream::new(url.parse().unwrap(), None, timeout);
            let specs = parse(&event("a", more)).unwrap().events;
            let built = Events::default().build(&specs, config, Some(&upstream));
            built.err()
        };
        let config = Config::default();
        let lists = "keys = ['k']\ntags = ['t']";
        assert_eq!(refusal("redis://h", lists, &config), None);
        let cluster = "redis+cluster://h";
        assert_eq!(
            refusal(cluster, lists, &config).unwrap(),
            "event \"a\": url is missing: the upstream is a cluster, name a node of it"
        );
        let url = "url = 'redis://h'\nkeys = ['k']\ntags = ['t']";
        assert_eq!(refusal(cluster, url, &config), None);
        let mut config = Config::default();
        config.near_cache = false;
        assert_eq!(
            refusal("redis://h", "keys = ['k']", &config).unwrap(),
            "event \"a\": events with an upstream need the near cache"
        );
    }
}
