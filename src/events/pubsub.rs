//! Messages of channels of a Redis, those among them that tell of its keys.
//!
//! Nothing tells what was sent while nobody was subscribed, so that is lost with the connection. A
//! connection that says nothing is asked whether it is still there.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::timeout;

use super::feed::{BATCH_MAX, Batch, Feed, Opened};
use super::keyspace::Keyspace;
use super::message::{MESSAGE_BYTES_MAX, Message, Unusable};
use super::redis::Redis;
use crate::policy::rules::Pattern;
use crate::upstream::conversation::{Conversation, Heard, Value};

/// How long a connection may be silent until it is asked, and then until it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Messages that may come before all subscriptions are confirmed.
const EARLY_MAX: usize = 4096;

/// The subscriptions of one event.
pub(super) struct Pubsub {
    redis: Redis,
    keyspace: Option<Keyspace>,
    plain: Vec<String>,
    globs: Vec<(String, Pattern)>,
    connection: Option<Connection>,
}

struct Connection {
    conversation: Conversation,
    /// It was asked whether it is there.
    is_asked: bool,
    /// What came before all was subscribed to.
    early: VecDeque<Option<Value>>,
}

impl Pubsub {
    /// Those of channels, and of globs of channels.
    pub(super) fn new(redis: Redis, channels: &[String]) -> Self {
        let is_glob = |channel: &&String| channel.contains(['*', '?', '[', '\\']);
        let (globs, plain): (Vec<_>, Vec<_>) = channels.iter().partition(is_glob);
        let glob = |glob: &String| (glob.clone(), Pattern::new(glob.as_bytes()));
        Self {
            redis,
            keyspace: None,
            plain: plain.into_iter().cloned().collect(),
            globs: globs.into_iter().map(glob).collect(),
            connection: None,
        }
    }

    /// That of notifications about keys of a database.
    pub(super) fn of_keys(redis: Redis, keyspace: Keyspace) -> Self {
        let channels = [keyspace.channels()];
        Self {
            keyspace: Some(keyspace),
            ..Self::new(redis, &channels)
        }
    }

    async fn subscribe(&self) -> Result<Connection, String> {
        let lost = |cause| self.redis.lost(cause);
        // A message has a channel and a pattern as well.
        let mut conversation = self.redis.connect(MESSAGE_BYTES_MAX * 2).await?;
        if let Some(keyspace) = &self.keyspace {
            keyspace.check(&self.redis, &mut conversation).await;
        }
        let plain = self.plain.iter().map(String::as_bytes);
        let globs = self.globs.iter().map(|(glob, _)| glob.as_bytes());
        let subscribe: Vec<&[u8]> = std::iter::once(&b"SUBSCRIBE"[..]).chain(plain).collect();
        let psubscribe: Vec<&[u8]> = std::iter::once(&b"PSUBSCRIBE"[..]).chain(globs).collect();
        for words in [subscribe, psubscribe] {
            if words.len() > 1 {
                conversation.say(&words).await.map_err(lost)?;
            }
        }
        let mut left = self.plain.len() + self.globs.len();
        let mut early = VecDeque::new();
        while left > 0 {
            let heard = conversation.hear_or_skip().await.map_err(lost)?;
            match &heard {
                Some(Value::Error(error)) => return Err(error.clone()),
                Some(value) if is_confirmation(value) => left -= 1,
                Some(_) | None if early.len() < EARLY_MAX => early.push_back(heard),
                Some(_) | None => return Err("subscribed to too much at once".to_owned()),
            }
        }
        Ok(Connection {
            conversation,
            is_asked: false,
            early,
        })
    }

    /// What was heard as a message, if it is one.
    fn message(&self, heard: Option<Value>) -> Option<Result<Message, Unusable>> {
        let Some(heard) = heard else {
            return Some(Err(Unusable::TooLong));
        };
        let texts: Vec<&[u8]> = heard.elements().iter().filter_map(Value::text).collect();
        let (glob, channel, payload) = match texts[..] {
            [b"message", channel, payload] => (None, channel, payload),
            [b"pmessage", glob, channel, payload] => (Some(glob), channel, payload),
            _ => return None,
        };
        if let Some(keyspace) = &self.keyspace {
            return keyspace.message(channel, payload).map(Ok);
        }
        if payload.len() > MESSAGE_BYTES_MAX {
            return Some(Err(Unusable::TooLong));
        }
        let mut globs = self.globs.iter();
        let glob = glob.and_then(|glob| globs.find(|(own, _)| own.as_bytes() == glob));
        let captures = match glob {
            Some((_, pattern)) => pattern.captures(channel),
            None => crate::policy::rules::Captures::new(),
        };
        Some(Ok(Message {
            whole: channel.to_vec(),
            captures: captures.into_iter().map(<[u8]>::to_vec).collect(),
            payload: Some(payload.to_vec()),
            fields: None,
        }))
    }
}

fn is_confirmation(value: &Value) -> bool {
    let first = value.elements().first().and_then(Value::text);
    matches!(first, Some(b"subscribe" | b"psubscribe"))
}

impl Connection {
    /// The next that is heard.
    async fn hear(&mut self, redis: &Redis) -> Result<Option<Value>, String> {
        if let Some(early) = self.early.pop_front() {
            return Ok(early);
        }
        loop {
            match timeout(SILENCE_MAX, self.conversation.hear_or_skip()).await {
                Ok(heard) => {
                    self.is_asked = false;
                    return heard.map_err(|cause| redis.lost(cause));
                }
                Err(_) if self.is_asked => {
                    return Err(format!("did not answer within {SILENCE_MAX:?}"));
                }
                Err(_) => {
                    self.is_asked = true;
                    let asked = self.conversation.say(&[b"PING"]).await;
                    asked.map_err(|cause| redis.lost(cause))?;
                }
            }
        }
    }

    /// The same, if it is there already.
    fn heard(&mut self, redis: &Redis) -> Result<Heard, String> {
        match self.early.pop_front() {
            Some(early) => Ok(early.map_or(Heard::TooLong, Heard::Value)),
            None => self.conversation.heard().map_err(|cause| redis.lost(cause)),
        }
    }
}

impl Feed for Pubsub {
    async fn open(&mut self) -> Result<Opened, String> {
        self.connection = None;
        self.connection = Some(self.subscribe().await?);
        Ok(Opened::Anew)
    }

    async fn next(&mut self, batch: &mut Batch) -> Result<(), String> {
        let Some(mut connection) = self.connection.take() else {
            return Err("is not connected".to_owned());
        };
        let first = connection.hear(&self.redis).await?;
        batch.extend(self.message(first));
        while batch.len() < BATCH_MAX {
            let heard = match connection.heard(&self.redis)? {
                Heard::Value(value) => Some(value),
                Heard::TooLong => None,
                Heard::NotYet => break,
            };
            batch.extend(self.message(heard));
        }
        self.connection = Some(connection);
        Ok(())
    }
}
