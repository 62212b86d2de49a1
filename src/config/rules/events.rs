//! `[[event]]`: its keys for each kind, and how they are read.

use std::time::Duration;

use super::error::Error;
use super::naming::{Naming, Says, Whole};
use super::origins::read_address;
use super::pattern;
use super::reader::{Key, Table, key};
use super::{
    EventKind, EventSpec, KafkaSpec, KeyspaceSpec, PostgresSpec, PubsubSpec, RedisSource, Secret,
    StreamSpec, Text,
};

/// The kinds, in the order of [`read_kind`]'s arms.
const KINDS: &[&str] = &["pubsub", "stream", "keyspace", "postgres", "kafka"];
/// Names of keys, or of tags, that one message makes.
const NAMES_MAX: usize = 64;
/// Channels of one event.
const CHANNELS_MAX: usize = 1000;
/// The longest channel, stream, group, topic or glob, in bytes.
const NAME_BYTES_MAX: usize = 4096;
/// The longest name of a channel that PostgreSQL has, in bytes.
const POSTGRES_CHANNEL_BYTES_MAX: usize = 63;
/// How long the consumer of an entry may have been silent until another takes it over.
const CLAIM_AFTER: Duration = Duration::from_secs(60);

pub(super) const KEYS: &[Key] = &[
    key("name", "text", "needed", "What figures and logs call it."),
    key(
        "kind",
        "`pubsub`, `stream`, `keyspace`, `postgres`, `kafka`",
        "needed",
        "What it is.",
    ),
    key(
        "keys",
        "a list of texts with places",
        "none",
        "The keys that a message invalidates. One of `keys` and `tags` is needed.",
    ),
    key(
        "tags",
        "a list of texts with places",
        "none",
        "The tags that it invalidates.",
    ),
    key(
        "soft",
        "true or false",
        "false",
        "Whether what is invalidated may be served stale, where a rule has a stale window for it.",
    ),
    key(
        "db",
        "a number from 0",
        "that of a client that selects none",
        "The database of the keys and tags.",
    ),
];

pub(super) const REDIS_KEYS: &[Key] = &[
    key(
        "url",
        "a URL",
        "as a front, the upstream",
        "`redis://host:6379/0`, `rediss://…`, `unix:///path`. May be `env:NAME` or `file:PATH`.",
    ),
    key(
        "password",
        "text",
        "the URL's",
        "The password. May be `env:NAME` or `file:PATH`. Needs a `url`.",
    ),
];

pub(super) const PUBSUB_KEYS: &[Key] = &[key(
    "channels",
    "a list of texts",
    "needed",
    "Channels, or globs of channels.",
)];

pub(super) const STREAM_KEYS: &[Key] = &[
    key("stream", "a key", "needed", "The stream."),
    key(
        "group",
        "text",
        "needed",
        "The consumer group. Made at the end of the stream if it is not there.",
    ),
    key(
        "consumer",
        "text",
        "the name of the host, and the port",
        "Who it is in the group: the same after a restart.",
    ),
    key(
        "claim-after",
        "a duration",
        "`1m`",
        "How long an entry may have waited for its consumer until this one takes it over.",
    ),
];

pub(super) const KEYSPACE_KEYS: &[Key] = &[
    key("match", "a glob", "needed", "Keys there."),
    key(
        "events",
        "a list of texts",
        "all",
        "Names of notifications, such as `set`, `del`, `expired`.",
    ),
];

pub(super) const POSTGRES_KEYS: &[Key] = &[
    key(
        "url",
        "a URL",
        "needed",
        "`postgres://user@host/database`. May be `env:NAME` or `file:PATH`.",
    ),
    key(
        "password",
        "text",
        "the URL's",
        "The password. May be `env:NAME` or `file:PATH`.",
    ),
    key("channels", "a list of texts", "needed", "Names of LISTEN."),
];

pub(super) const KAFKA_KEYS: &[Key] = &[
    key(
        "brokers",
        "a list of texts",
        "needed",
        "`host:port` of some brokers.",
    ),
    key("topic", "text", "needed", "The topic."),
    key(
        "group",
        "text",
        "needed",
        "The consumer group. It begins at the end of the topic if it has read nothing yet.",
    ),
];

pub(super) fn read(table: &Table<'_>) -> Result<EventSpec, Error> {
    let name = table.needed_text("name")?;
    table.needed_text("kind")?;
    let kind = table.choice("kind", KINDS)?.unwrap_or_default();
    let kind = read_kind(table, kind)?;
    let says = says(&kind);
    let (keys, tags) = (names(table, "keys", says)?, names(table, "tags", says)?);
    if keys.is_empty() && tags.is_empty() {
        return Err(table.error("", "one of keys and tags is needed"));
    }
    let db = table.has("db");
    let number = table.number("db", 0..=i64::from(u16::MAX), 0)?;
    Ok(EventSpec {
        name,
        kind,
        keys,
        tags,
        is_soft: table.flag("soft", false)?,
        db: u16::try_from(number).ok().filter(|_| db),
    })
}

/// What the messages of a kind have, for the places of names.
fn says(kind: &EventKind) -> Says {
    let (whole, stars, payload, fields) = match kind {
        EventKind::Pubsub(pubsub) => {
            let stars = |channel: &String| pattern::stars(channel.as_bytes());
            let stars = pubsub.channels.iter().map(stars).min().unwrap_or(0);
            (Whole::Channel, stars, true, true)
        }
        EventKind::Stream(_) => (Whole::None, 0, false, true),
        EventKind::Keyspace(keyspace) => {
            let stars = pattern::stars(keyspace.pattern.as_bytes());
            (Whole::Key, stars, true, false)
        }
        EventKind::Postgres(_) => (Whole::Channel, 0, true, true),
        EventKind::Kafka(_) => (Whole::Key, 0, true, true),
    };
    Says {
        whole,
        stars,
        payload,
        fields,
    }
}

fn names(table: &Table<'_>, key: &str, says: Says) -> Result<Vec<Naming>, Error> {
    let texts = table.texts(key)?.unwrap_or_default();
    if texts.len() > NAMES_MAX {
        return Err(table.error(key, format!("are more than {NAMES_MAX}")));
    }
    let parse = |text: &String| Naming::parse(text, says).map_err(|why| table.error(key, why));
    texts.iter().map(parse).collect()
}

fn read_kind(table: &Table<'_>, kind: usize) -> Result<EventKind, Error> {
    Ok(match kind {
        0 => {
            table.only(&[KEYS, REDIS_KEYS, PUBSUB_KEYS])?;
            EventKind::Pubsub(PubsubSpec {
                source: read_source(table)?,
                channels: channels(table, NAME_BYTES_MAX)?,
            })
        }
        1 => EventKind::Stream(read_stream(table)?),
        2 => EventKind::Keyspace(read_keyspace(table)?),
        3 => {
            table.only(&[KEYS, POSTGRES_KEYS])?;
            EventKind::Postgres(PostgresSpec {
                url: read_address(table, &["postgres://", "postgresql://"])?,
                password: table.secret("password")?,
                channels: channels(table, POSTGRES_CHANNEL_BYTES_MAX)?,
            })
        }
        _ => EventKind::Kafka(read_kafka(table)?),
    })
}

fn read_source(table: &Table<'_>) -> Result<RedisSource, Error> {
    if !table.has("url") {
        if table.has("password") {
            return Err(table.error("password", "needs a url"));
        }
        return Ok(RedisSource::default());
    }
    Ok(RedisSource {
        url: Some(read_address(
            table,
            &["redis://", "rediss://", "unix:", "redis+unix://"],
        )?),
        password: table.secret("password")?,
    })
}

fn read_stream(table: &Table<'_>) -> Result<StreamSpec, Error> {
    table.only(&[KEYS, REDIS_KEYS, STREAM_KEYS])?;
    let consumer = match table.text("consumer")? {
        Some(_) => Some(named(table, "consumer")?),
        None => None,
    };
    Ok(StreamSpec {
        source: read_source(table)?,
        stream: named(table, "stream")?,
        group: named(table, "group")?,
        consumer,
        claim_after: table.positive("claim-after")?.unwrap_or(CLAIM_AFTER),
    })
}

fn read_keyspace(table: &Table<'_>) -> Result<KeyspaceSpec, Error> {
    table.only(&[KEYS, REDIS_KEYS, KEYSPACE_KEYS])?;
    let events = table.texts("events")?.unwrap_or_default();
    if table.has("events") && events.is_empty() {
        return Err(table.error("events", "may not be empty"));
    }
    Ok(KeyspaceSpec {
        source: read_source(table)?,
        pattern: named(table, "match")?,
        events,
    })
}

fn read_kafka(table: &Table<'_>) -> Result<KafkaSpec, Error> {
    table.only(&[KEYS, KAFKA_KEYS])?;
    if !cfg!(feature = "kafka") {
        let why = "\"kafka\" needs a server that was built with it: cargo build --release \
                   --features kafka";
        return Err(table.error("kind", why));
    }
    let brokers = table.texts("brokers")?.unwrap_or_default();
    // What they are joined by.
    let is_broker = |broker: &String| !broker.is_empty() && !broker.contains(',');
    if brokers.is_empty() || !brokers.iter().all(is_broker) {
        let why = "is a list such as [\"10.0.0.5:9092\"], with one at least";
        return Err(table.error("brokers", why));
    }
    Ok(KafkaSpec {
        brokers,
        topic: named(table, "topic")?,
        group: named(table, "group")?,
    })
}

fn channels(table: &Table<'_>, bytes_max: usize) -> Result<Vec<String>, Error> {
    let channels = table.texts("channels")?.unwrap_or_default();
    let is_wrong = |channel: &String| channel.is_empty() || channel.len() > bytes_max;
    let why = if channels.is_empty() {
        "at least one channel is needed".to_owned()
    } else if channels.len() > CHANNELS_MAX {
        format!("are more than {CHANNELS_MAX}")
    } else if channels.iter().any(is_wrong) {
        format!("a channel has 1 to {bytes_max} bytes")
    } else {
        return Ok(channels);
    };
    Err(table.error("channels", why))
}

/// A text that is neither missing nor too long.
fn named(table: &Table<'_>, key: &str) -> Result<String, Error> {
    let name = table.needed_text(key)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(table.error(key, format!("is longer than {NAME_BYTES_MAX} bytes")));
    }
    Ok(name)
}

impl RedisSource {
    /// The URL and the password, where it has ones of its own.
    #[must_use]
    pub fn own(&self) -> Option<(&Secret<Text>, Option<&Secret<Text>>)> {
        let url = self.url.as_ref()?;
        Some((url, self.password.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::rules::{EventKind, parse};

    fn refusal(text: &str) -> String {
        let error = parse(text).unwrap_err();
        format!("{}: {}", error.line, error.why)
    }

    #[test]
    fn events_of_all_kinds_are_read() {
        let text = "\
            [[event]]\nname = 'a'\nkind = 'pubsub'\nchannels = ['order.*', '*']\n\
            keys = ['order:{1}', '{id}', '{payload}']\n\
            [[event]]\nname = 'b'\nkind = 'stream'\nurl = 'redis://h'\nstream = 's'\n\
            group = 'g'\ntags = ['{user}', '{payload}']\nsoft = true\ndb = 3\n\
            [[event]]\nname = 'c'\nkind = 'keyspace'\nmatch = 'user:*:*'\n\
            events = ['set']\nkeys = ['{key}', '{2}', '{payload}']\n\
            [[event]]\nname = 'd'\nkind = 'postgres'\nurl = 'env:URL'\n\
            channels = ['changes']\nkeys = ['{0}:{id}']\n";
        let events = parse(text).unwrap().events;
        let kinds: Vec<_> = events.iter().map(|event| event.kind_name()).collect();
        assert_eq!(kinds, ["pubsub", "stream", "keyspace", "postgres"]);
        let EventKind::Stream(stream) = &events[1].kind else {
            panic!("a stream");
        };
        assert_eq!(
            (&stream.consumer, stream.claim_after.as_secs()),
            (&None, 60)
        );
        assert_eq!((events[0].is_soft, events[0].db), (false, None));
        assert_eq!((events[1].is_soft, events[1].db), (true, Some(3)));
    }

    /// Events, and what is said of them.
    const WRONG: &[(&str, &str)] = &[
        ("", "1: [[event]]: name is missing"),
        ("name = 'a'\n", "1: [[event]]: kind is missing"),
        (
            "name = 'a'\nkind = 'stram'\n",
            "3: kind: \"stram\" is not one of pubsub, stream, keyspace, postgres, kafka; did you \
             mean \"stream\"?",
        ),
        (
            "name = 'a'\nkind = 'pubsub'\nchannels = ['c']\n",
            "1: [[event]]: one of keys and tags is needed",
        ),
        (
            "name = 'a'\nkind = 'pubsub'\nkeys = ['k']\n",
            "1: [[event]]: at least one channel is needed",
        ),
        (
            "name = 'a'\nkind = 'pubsub'\nchannel = ['c']\nkeys = ['k']\n",
            "4: channel: there is no such setting here; did you mean channels?",
        ),
        (
            "name = 'a'\nkind = 'pubsub'\nchannels = ['a.*', 'b']\nkeys = ['{1}']\n",
            "5: keys: {1} is asked for, and there are 0 stars",
        ),
        (
            "name = 'a'\nkind = 'pubsub'\nchannels = ['a']\nkeys = ['k']\npassword = 'p'\n",
            "6: password: needs a url",
        ),
        (
            "name = 'a'\nkind = 'stream'\nstream = 's'\nkeys = ['k']\n",
            "1: [[event]]: group is missing",
        ),
        (
            "name = 'a'\nkind = 'keyspace'\nmatch = 'a*'\nkeys = ['{id}']\n",
            "5: keys: {id}: these messages have no fields",
        ),
        (
            "name = 'a'\nkind = 'postgres'\nurl = 'mysql://h'\nchannels = ['a']\nkeys = ['k']\n",
            "4: url: does not begin with postgres:// or postgresql://",
        ),
    ];

    #[test]
    fn what_is_wrong_with_an_event_is_said() {
        for (text, said) in WRONG {
            assert_eq!(refusal(&format!("[[event]]\n{text}")), *said, "{text}");
        }
        let twice = "[[event]]\nname = 'a'\nkind = 'pubsub'\nchannels = ['c']\nkeys = ['k']\n";
        let said = refusal(&twice.repeat(2));
        assert_eq!(said, "7: name: there is another event \"a\"");
    }

    #[cfg(not(feature = "kafka"))]
    #[test]
    fn kafka_names_the_feature_that_it_needs() {
        let said = refusal(
            "[[event]]\nname = 'a'\nkind = 'kafka'\nbrokers = ['h:1']\ntopic = 't'\n\
             group = 'g'\nkeys = ['k']\n",
        );
        assert_eq!(
            said,
            "3: kind: \"kafka\" needs a server that was built with it: cargo build --release \
             --features kafka"
        );
    }
}
