//! Notifications of a Redis about its keys, by its pub/sub: `__keyspace@0__:key` and the name of
//! what happened.
//!
//! A Redis tells only what its `notify-keyspace-events` says. That is its operator's to set: here
//! it is only looked at, and said what is missing.

use super::message::Message;
use super::redis::Redis;
use crate::config::rules::KeyspaceSpec;
use crate::policy::rules::Pattern;
use crate::upstream::conversation::{Conversation, Value};

/// What `A` stands for.
const ALL: &str = "g$lshzxetd";
/// What there is of that in every version that notifies.
const NEEDED_FOR_ALL: &str = "g$lshzxet";
/// Names of notifications, by the letter of their class.
const CLASSES: &[(char, &[&str])] = &[
    (
        'g',
        &[
            "del",
            "rename_from",
            "rename_to",
            "move_from",
            "move_to",
            "copy_to",
            "restore",
            "expire",
            "persist",
        ],
    ),
    ('$', &["set", "setrange", "incrby", "incrbyfloat", "append"]),
    (
        'l',
        &[
            "lpush", "rpush", "lpop", "rpop", "linsert", "lset", "lrem", "ltrim",
        ],
    ),
    (
        'h',
        &[
            "hset",
            "hdel",
            "hincrby",
            "hincrbyfloat",
            "hexpire",
            "hexpired",
            "hpersist",
        ],
    ),
    (
        's',
        &[
            "sadd",
            "srem",
            "spop",
            "sinterstore",
            "sunionstore",
            "sdiffstore",
        ],
    ),
    (
        'z',
        &[
            "zadd",
            "zincr",
            "zrem",
            "zremrangebyscore",
            "zremrangebyrank",
            "zremrangebylex",
            "zdiffstore",
            "zinterstore",
            "zunionstore",
            "zrangestore",
        ],
    ),
    ('t', &["xadd", "xdel", "xtrim", "xsetid"]),
    ('x', &["expired"]),
    ('e', &["evicted"]),
    ('n', &["new"]),
    ('m', &["keymiss"]),
];

/// Which notifications count.
pub(super) struct Keyspace {
    event: String,
    spec: KeyspaceSpec,
    pattern: Pattern,
    /// What their channels begin with.
    prefix: String,
}

impl Keyspace {
    /// Those of this database, for an event of this name.
    pub(super) fn new(event: &str, spec: &KeyspaceSpec, database: u32) -> Self {
        Self {
            event: event.to_owned(),
            spec: spec.clone(),
            pattern: Pattern::new(spec.pattern.as_bytes()),
            prefix: format!("__keyspace@{database}__:"),
        }
    }

    /// The channels.
    pub(super) fn channels(&self) -> String {
        format!("{}{}", self.prefix, self.spec.pattern)
    }

    /// A notification as a message, if it counts.
    pub(super) fn message(&self, channel: &[u8], event: &[u8]) -> Option<Message> {
        let events = &self.spec.events;
        if !events.is_empty() && !events.iter().any(|own| own.as_bytes() == event) {
            return None;
        }
        let key = channel.strip_prefix(self.prefix.as_bytes())?;
        let captures = self.pattern.captures(key).into_iter();
        Some(Message {
            whole: key.to_vec(),
            captures: captures.map(<[u8]>::to_vec).collect(),
            payload: Some(event.to_vec()),
            fields: None,
        })
    }

    /// Says in the log what the Redis would have to be told to notify of all that counts.
    pub(super) async fn check(&self, redis: &Redis, conversation: &mut Conversation) {
        let words: [&[u8]; 3] = [b"CONFIG", b"GET", b"notify-keyspace-events"];
        let event = &self.event;
        let answer = match redis.ask(conversation, &words).await {
            Ok(answer) => answer,
            Err(why) => {
                tracing::info!(event, why, "cannot see whether it notifies of its keys");
                return;
            }
        };
        let present = answer.elements().get(1).and_then(Value::text);
        let present = String::from_utf8_lossy(present.unwrap_or_default());
        if let Some(needed) = needed(&present, &self.spec.events) {
            tracing::warn!(
                event,
                "the Redis does not notify of all that this event needs: \
                 CONFIG SET notify-keyspace-events {needed}"
            );
        }
    }
}

/// What `notify-keyspace-events` has to be for these events, if it is not enough as it is.
fn needed(present: &str, events: &[String]) -> Option<String> {
    let has = |class: char| present.contains(class) || present.contains('A') && ALL.contains(class);
    let classes: String = if events.is_empty() {
        NEEDED_FOR_ALL.to_owned()
    } else {
        let of = |event: &String| {
            let mut classes = CLASSES.iter();
            classes.find(|(_, names)| names.contains(&event.as_str()))
        };
        events
            .iter()
            .filter_map(of)
            .map(|(class, _)| *class)
            .collect()
    };
    let mut missing: Vec<char> = Vec::new();
    for class in std::iter::once('K').chain(classes.chars()) {
        if !has(class) && !missing.contains(&class) {
            missing.push(class);
        }
    }
    if missing.is_empty() {
        return None;
    }
    let missing: String = missing.into_iter().collect();
    Some(if missing.ends_with(NEEDED_FOR_ALL) {
        format!("{present}{}A", missing.trim_end_matches(NEEDED_FOR_ALL))
    } else {
        format!("{present}{missing}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_redis_would_have_to_be_told_is_what_it_lacks() {
        for (present, events, said) in [
            ("", &[][..], Some("KA")),
            ("E", &[], Some("EKA")),
            ("AK", &[], None),
            ("AE", &[], Some("AEK")),
            ("g$lshzxetdK", &[], None),
            ("", &["set", "del", "expired"], Some("K$gx")),
            ("xK", &["set", "expired"], Some("xK$")),
            ("AK", &["set", "new", "who-knows"], Some("AKn")),
            ("$K", &["set"], None),
        ] {
            let events: Vec<String> = events.iter().map(|&event| event.to_owned()).collect();
            assert_eq!(
                needed(present, &events).as_deref(),
                said,
                "{present:?} {events:?}"
            );
        }
    }

    #[test]
    fn a_notification_counts_by_its_name_and_its_database() {
        let spec = |events: &[&str]| KeyspaceSpec {
            source: crate::config::rules::RedisSource::default(),
            pattern: "user:*:*".to_owned(),
            events: events.iter().map(|&event| event.to_owned()).collect(),
        };
        let keyspace = Keyspace::new("e", &spec(&["set"]), 3);
        assert_eq!(keyspace.channels(), "__keyspace@3__:user:*:*");
        let channel = b"__keyspace@3__:user:7:x:y";
        let message = keyspace.message(channel, b"set").unwrap();
        assert_eq!(message.whole, b"user:7:x:y");
        assert_eq!(message.captures, [b"7".to_vec(), b"x:y".to_vec()]);
        assert_eq!(keyspace.message(channel, b"del"), None);
        assert_eq!(keyspace.message(b"__keyspace@2__:user:7:x", b"set"), None);
        let all = Keyspace::new("e", &spec(&[]), 3);
        assert_eq!(
            all.message(channel, b"del").unwrap().payload.unwrap(),
            b"del"
        );
    }
}
