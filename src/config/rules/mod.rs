//! Rules, origins and events: the tables `[[rule]]`, `[[origin]]` and `[[event]]` of the TOML file,
//! read and checked.
//!
//! A rule says for which keys, by a glob, a missing value comes from which origin, and how long it
//! is fresh, stale, remembered. An origin says where that is: an HTTP service, a database, a
//! command, another Redis. What a rule's stars caught stands in an origin's templates as `{1}` to
//! `{9}`. An event says which keys and tags are invalidated by the messages of something outside.
//!
//! Invariants: [`Rules`] are valid however they were made, alone and together: a rule's origin is
//! there, can do what the rule asks of it, and names no star that the rule does not have. What is
//! wrong is refused with the line it stands in and what would be right, and nothing of the file is
//! taken.

pub(super) mod docs;
mod error;
mod events;
pub mod naming;
mod origins;
pub mod pattern;
mod read_rules;
mod reader;
pub mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml_edit::Document;

pub use error::Error;
pub(super) use error::shown;
use naming::Naming;
use reader::{Table, tables};
use template::Template;

/// All rules and origins of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// Where values come from.
    pub origins: Vec<OriginSpec>,
    /// Which keys are treated how; the first that matches counts.
    pub rules: Vec<RuleSpec>,
    /// Who tells that something changed.
    pub events: Vec<EventSpec>,
}

/// How the keys of one pattern are treated.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// For people: in logs and figures. The pattern, unless it is set.
    pub name: String,
    /// The glob that keys must match, as Redis has globs.
    pub pattern: String,
    /// The name of the origin that missing values come from.
    pub origin: Option<String>,
    /// How long a loaded value is fresh. `None`: until it is evicted or written over.
    pub ttl: Option<Duration>,
    /// How long a copy in a near cache is fresh at most.
    pub near_ttl: Option<Duration>,
    /// XFetch's β: above 1 refreshes earlier, 0 never does.
    pub beta: f64,
    /// How long after `ttl` a value is served while it is loaded again.
    pub stale_while_revalidate: Duration,
    /// How long after `ttl` a value is served while its origin fails.
    pub stale_if_error: Duration,
    /// How long a client waits where there is a stale value. Zero: as long as without one.
    pub soft_timeout: Duration,
    /// How long a load may take.
    pub timeout: Duration,
    /// How long the origin's "there is none" is remembered.
    pub negative_ttl: Duration,
    /// How long a failed load is remembered.
    pub error_ttl: Duration,
    /// The part of `ttl` by which it is shortened at most, at random.
    pub jitter: f64,
    /// How long clients wait for the one that computes a missing value. Zero: they do not.
    pub lease: Duration,
    /// The tags of a loaded value, templates as an origin's.
    pub tags: Vec<Template>,
    /// Whether clients' writes go to the origin too.
    pub write: WriteMode,
    /// Whether many fronts of one upstream load a key once together.
    pub coalesce_across: bool,
}

/// Where clients' writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// To the cache only; the application writes to the origin itself.
    Around,
    /// To the origin first, then to the cache.
    Through,
}

/// A place that values come from, and how hard it may be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginSpec {
    /// What rules call it.
    pub name: String,
    /// What it is.
    pub kind: OriginKind,
    /// Calls under way at most.
    pub concurrency: usize,
    /// Calls that wait for their turn at most; one more fails at once.
    pub queue: usize,
    /// The longest value that is taken, in bytes.
    pub max_value: usize,
    /// Early refreshes under way at most.
    pub refresh_concurrency: usize,
    /// When the origin is left alone.
    pub breaker: BreakerSpec,
}

/// When an origin that fails is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSpec {
    /// Failures in a row until it opens. 0: it never does.
    pub failures: u32,
    /// How long it stays open before a probe is let through.
    pub open: Duration,
    /// Probes under way at a time, and in a row that must succeed until it closes.
    pub probes: u32,
}

/// The kinds of origin.
#[derive(Debug, Clone, PartialEq)]
pub enum OriginKind {
    /// A service that speaks HTTP.
    Http(HttpSpec),
    /// A database.
    Sql(SqlSpec),
    /// A program that is run.
    Command(CommandSpec),
    /// Another Redis.
    Redis(RedisSpec),
}

/// A service that speaks HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSpec {
    /// What is asked for; what stars caught is escaped as a path segment or a query component.
    pub url: Template,
    /// The method of a store. `None`: it cannot store.
    pub store_method: Option<String>,
    /// The method of a delete. `None`: it cannot delete.
    pub delete_method: Option<String>,
    /// Headers of every request.
    pub headers: Vec<(String, Secret<Header>)>,
    /// `user:password`.
    pub basic_auth: Option<Secret<Text>>,
    /// The token of `authorization: Bearer`.
    pub bearer_token: Option<Secret<Text>>,
    /// Statuses that say that there is no such value.
    pub absent_status: Vec<u16>,
    /// Whether `cache-control` says how long the value is fresh.
    pub ttl_from_cache_control: bool,
    /// The response header that has the value's tags.
    pub tag_header: Option<String>,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Certificates of the authorities that the server's must come from (PEM). `None`: the
    /// system's.
    pub tls_ca_cert_file: Option<PathBuf>,
    /// The certificate to show, and its key (PEM).
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// How connections are made and kept.
    pub pool: PoolSpec,
}

/// The value of a header.
#[derive(Clone, PartialEq)]
pub enum Header {
    /// With places.
    Template(Template),
    /// To be read elsewhere.
    Elsewhere(Text),
}

/// A database.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlSpec {
    /// Whose.
    pub dialect: Dialect,
    /// Where it is.
    pub url: Secret<Text>,
    /// The password, instead of the URL's.
    pub password: Option<Secret<Text>>,
    /// The statement that loads a value.
    pub load: Template,
    /// The statement that stores one.
    pub store: Option<Template>,
    /// The statement that deletes one.
    pub delete: Option<Template>,
    /// The column that has the value's tags.
    pub tag_column: Option<String>,
    /// The column that has how many seconds the value is fresh.
    pub ttl_column: Option<String>,
    /// How connections are made and kept.
    pub pool: PoolSpec,
}

/// Whose SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
    /// A file of SQLite.
    Sqlite,
}

/// A program that is run. Each element of a list is one argument, whatever stands in it.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandSpec {
    /// Prints a value.
    pub load: Vec<Template>,
    /// Reads a value from its standard input.
    pub store: Option<Vec<Template>>,
    /// Removes a value.
    pub delete: Option<Vec<Template>>,
    /// The exit code that says that there is no such value.
    pub absent_exit: i32,
    /// Variables of its environment: `NAME` is ours, `NAME=value` as it says.
    pub environment: Vec<String>,
    /// Where it runs.
    pub directory: PathBuf,
}

/// Another Redis.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisSpec {
    /// Where it is.
    pub url: Secret<Text>,
    /// The password, instead of the URL's.
    pub password: Option<Secret<Text>>,
    /// The key there.
    pub key: Template,
    /// Whether its time to live is the value's.
    pub ttl_from_pttl: bool,
    /// How connections are made and kept.
    pub pool: PoolSpec,
}

/// Who tells that something changed, and what is invalidated then.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSpec {
    /// For people: in logs and figures.
    pub name: String,
    /// Where messages come from.
    pub kind: EventKind,
    /// The keys that a message invalidates.
    pub keys: Vec<Naming>,
    /// The tags that it invalidates.
    pub tags: Vec<Naming>,
    /// Whether that may be served stale.
    pub is_soft: bool,
    /// The database of keys and tags. `None`: that of a client that selects none.
    pub db: Option<u16>,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// Messages of channels of a Redis.
    Pubsub(PubsubSpec),
    /// Entries of a stream of a Redis.
    Stream(StreamSpec),
    /// Notifications of a Redis about its keys.
    Keyspace(KeyspaceSpec),
    /// NOTIFY of a PostgreSQL.
    Postgres(PostgresSpec),
    /// Messages of a topic of Kafka.
    Kafka(KafkaSpec),
}

/// Which Redis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RedisSource {
    /// Where it is. `None`: the upstream.
    pub url: Option<Secret<Text>>,
    /// The password, instead of the URL's.
    pub password: Option<Secret<Text>>,
}

/// Messages of channels of a Redis.
#[derive(Debug, Clone, PartialEq)]
pub struct PubsubSpec {
    /// Which Redis.
    pub source: RedisSource,
    /// Channels, or globs of them.
    pub channels: Vec<String>,
}

/// Entries of a stream of a Redis.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSpec {
    /// Which Redis.
    pub source: RedisSource,
    /// The stream's key.
    pub stream: String,
    /// The consumer group.
    pub group: String,
    /// Who this is in it. `None`: the host's name and the port.
    pub consumer: Option<String>,
    /// How long an entry may wait for its consumer until another takes it over.
    pub claim_after: Duration,
}

/// Notifications of a Redis about its keys.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyspaceSpec {
    /// Which Redis.
    pub source: RedisSource,
    /// The glob of keys.
    pub pattern: String,
    /// Names of notifications; none is all.
    pub events: Vec<String>,
}

/// NOTIFY of a PostgreSQL.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresSpec {
    /// Where it is.
    pub url: Secret<Text>,
    /// The password, instead of the URL's.
    pub password: Option<Secret<Text>>,
    /// Names of LISTEN.
    pub channels: Vec<String>,
}

/// Messages of a topic of Kafka.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaSpec {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
}

/// How connections are made and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSpec {
    /// Connections that are kept while nobody uses them, at most.
    pub idle: usize,
    /// How long they are.
    pub idle_timeout: Duration,
    /// How long it may take to connect.
    pub connect_timeout: Duration,
}

/// What must not be seen in logs: shows nothing of itself.
#[derive(Clone, PartialEq)]
pub struct Secret<T>(pub T);

/// A text that the file has, or says where to read.
#[derive(Clone, PartialEq, Eq)]
pub enum Text {
    /// As it stands.
    Plain(String),
    /// `env:NAME`: a variable of our environment.
    Variable(String),
    /// `file:PATH`: what stands in a file, without a line's end.
    File(PathBuf),
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

impl Text {
    /// `env:` and `file:` are understood, all else is the text itself.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if let Some(name) = text.strip_prefix("env:") {
            Self::Variable(name.to_owned())
        } else if let Some(path) = text.strip_prefix("file:") {
            Self::File(path.into())
        } else {
            Self::Plain(text.to_owned())
        }
    }

    /// What it says, or what is said where it points. Reads a file.
    ///
    /// # Errors
    /// The variable or the file is not there.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Variable(name) => {
                std::env::var(name).map_err(|_| format!("the variable {name} is not set"))
            }
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
        }
    }
}

impl EventSpec {
    /// Its kind, as the file has it.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            EventKind::Pubsub(_) => "pubsub",
            EventKind::Stream(_) => "stream",
            EventKind::Keyspace(_) => "keyspace",
            EventKind::Postgres(_) => "postgres",
            EventKind::Kafka(_) => "kafka",
        }
    }

    /// Which Redis it comes from, if it does from one.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisSource> {
        match &self.kind {
            EventKind::Pubsub(spec) => Some(&spec.source),
            EventKind::Stream(spec) => Some(&spec.source),
            EventKind::Keyspace(spec) => Some(&spec.source),
            EventKind::Postgres(_) | EventKind::Kafka(_) => None,
        }
    }
}

impl OriginSpec {
    /// An origin of this kind, everything else as it is by default.
    #[must_use]
    pub fn new(name: &str, kind: OriginKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            concurrency: 64,
            queue: 1024,
            max_value: 1 << 20,
            refresh_concurrency: 8,
            breaker: BreakerSpec {
                failures: 5,
                open: Duration::from_secs(1),
                probes: 1,
            },
        }
    }

    /// Whether it has a way to store a value.
    #[must_use]
    pub fn can_store(&self) -> bool {
        match &self.kind {
            OriginKind::Http(http) => http.store_method.is_some(),
            OriginKind::Sql(sql) => sql.store.is_some(),
            OriginKind::Command(command) => command.store.is_some(),
            OriginKind::Redis(_) => true,
        }
    }

    /// Whether it has a way to delete one.
    #[must_use]
    pub fn can_delete(&self) -> bool {
        match &self.kind {
            OriginKind::Http(http) => http.delete_method.is_some(),
            OriginKind::Sql(sql) => sql.delete.is_some(),
            OriginKind::Command(command) => command.delete.is_some(),
            OriginKind::Redis(_) => true,
        }
    }

    /// All its templates.
    fn templates(&self) -> Vec<&Template> {
        match &self.kind {
            OriginKind::Http(http) => std::iter::once(&http.url)
                .chain(http.headers.iter().filter_map(|(_, value)| match &value.0 {
                    Header::Template(template) => Some(template),
                    Header::Elsewhere(_) => None,
                }))
                .collect(),
            OriginKind::Sql(sql) => std::iter::once(&sql.load)
                .chain(&sql.store)
                .chain(&sql.delete)
                .collect(),
            OriginKind::Command(command) => [&command.store, &command.delete]
                .into_iter()
                .flatten()
                .chain([&command.load])
                .flatten()
                .collect(),
            OriginKind::Redis(redis) => vec![&redis.key],
        }
    }
}

impl PoolSpec {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        idle: 16,
        idle_timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(1),
    };
}

/// Reads `[[origin]]`, `[[rule]]` and `[[event]]` of a whole file; its settings are not looked at.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Rules, Error> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Error::at(text, at, error.message().replace('\n', ", "))
    })?;
    let mut rules = Rules::default();
    for table in tables(&document, "origin", text)? {
        let origin = origins::read(&table)?;
        if rules.origins.iter().any(|known| known.name == origin.name) {
            let why = format!("there is another origin {:?}", origin.name);
            return Err(table.error("name", why));
        }
        rules.origins.push(origin);
    }
    for table in tables(&document, "rule", text)? {
        let rule = read_rules::read(&table)?;
        check(&table, &rule, &rules)?;
        rules.rules.push(rule);
    }
    for table in tables(&document, "event", text)? {
        let event = events::read(&table)?;
        if rules.events.iter().any(|known| known.name == event.name) {
            let why = format!("there is another event {:?}", event.name);
            return Err(table.error("name", why));
        }
        rules.events.push(event);
    }
    Ok(rules)
}

/// What a rule and the others, or its origin, must have in common.
fn check(table: &Table<'_>, rule: &RuleSpec, rules: &Rules) -> Result<(), Error> {
    if rules.rules.iter().any(|known| known.name == rule.name) {
        let key = if table.has("name") { "name" } else { "match" };
        let why = format!("there is another rule {:?}", rule.name);
        return Err(table.error(key, why));
    }
    let stars = pattern::stars(rule.pattern.as_bytes());
    let beyond = |template: &Template| template.last_star().filter(|last| *last > stars);
    if let Some(last) = rule.tags.iter().find_map(beyond) {
        return Err(table.error("tags", too_few_stars(last, stars)));
    }
    let Some(name) = &rule.origin else {
        if rule.write == WriteMode::Through {
            return Err(table.error("write", "\"through\" needs an origin".to_owned()));
        }
        return Ok(());
    };
    let Some(origin) = rules.origins.iter().find(|known| known.name == *name) else {
        let names = rules.origins.iter().map(|origin| origin.name.as_str());
        let meant = super::table::closest(name, names)
            .map(|meant| format!("; did you mean {meant:?}?"))
            .unwrap_or_default();
        let why = format!("there is no origin {name:?}{meant}");
        return Err(table.error("origin", why));
    };
    if rule.write == WriteMode::Through && !origin.can_store() {
        let why = format!("the origin {name:?} has no way to store");
        return Err(table.error("write", why));
    }
    match origin.templates().into_iter().find_map(beyond) {
        Some(last) => {
            let why = format!("the origin {name:?}: {}", too_few_stars(last, stars));
            Err(table.error("match", why))
        }
        None => Ok(()),
    }
}

fn too_few_stars(asked: u8, stars: u8) -> String {
    format!("{{{asked}}} is asked for, and the match has {stars} stars")
}
