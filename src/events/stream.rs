//! Entries of a stream of a Redis, read as a consumer of a group.
//!
//! What is read is owed to the group until it is acknowledged, which is done after its effect; so
//! after a restart, what this consumer was given and did not finish comes first, and nothing is
//! lost but what was removed from the stream before it was read. That is looked for: at each
//! connection and now and then, by what the stream says of itself.

use std::time::Duration;

use tokio::time::Instant;

use super::feed::{BATCH_MAX, Batch, Feed, Opened};
use super::message::{MESSAGE_BYTES_MAX, Message, Unusable};
use super::redis::Redis;
use crate::clock;
use crate::config::rules::StreamSpec;
use crate::upstream::conversation::{Conversation, Value};

/// The longest answer: some entries. One that is longer is asked for entry by entry.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a request waits for entries.
const BLOCK: Duration = Duration::from_secs(2);
/// How often is looked for what others left lying, at most and at least.
const CLAIM_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A consumer of a group.
pub(super) struct Stream {
    redis: Redis,
    spec: StreamSpec,
    consumer: String,
    connection: Option<Conversation>,
    /// Where to go on.
    phase: Phase,
    /// Entries that are asked for at once.
    count: usize,
    /// Those that were taken last.
    taken: Vec<Vec<u8>>,
    /// When others' entries are looked for next.
    claims_at: Instant,
    /// The group was there before. If it is not any more, what it owed is lost, and what the stream
    /// has now is all new.
    had_group: bool,
}

/// Which entries come next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Those that this consumer was given before.
    Own,
    /// Those that another one left lying, from here on.
    Others(Vec<u8>),
    /// New ones.
    New,
}

impl Stream {
    pub(super) fn new(redis: Redis, spec: &StreamSpec, consumer: String) -> Self {
        Self {
            redis,
            spec: spec.clone(),
            consumer,
            connection: None,
            phase: Phase::Own,
            count: BATCH_MAX,
            taken: Vec::new(),
            claims_at: clock::now(),
            had_group: false,
        }
    }

    fn names(&self) -> (&[u8], &[u8], &[u8]) {
        let StreamSpec { stream, group, .. } = &self.spec;
        (
            stream.as_bytes(),
            group.as_bytes(),
            self.consumer.as_bytes(),
        )
    }

    /// Makes the group, if it is not there. Whether it was not.
    async fn make_group(&self, conversation: &mut Conversation) -> Result<bool, String> {
        let (stream, group, _) = self.names();
        let from: &[u8] = if self.had_group { b"0" } else { b"$" };
        let words: [&[u8]; 6] = [b"XGROUP", b"CREATE", stream, group, from, b"MKSTREAM"];
        match self.redis.ask(conversation, &words).await {
            Ok(_) => Ok(true),
            Err(error) if error.starts_with("BUSYGROUP") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether entries were removed that the group had not read, as far as that can be told.
    async fn has_lost(&self, conversation: &mut Conversation) -> Result<bool, String> {
        let (stream, group, _) = self.names();
        let of_stream = [&b"XINFO"[..], b"STREAM", stream];
        let of_stream = self.redis.ask(conversation, &of_stream).await?;
        let groups = [&b"XINFO"[..], b"GROUPS", stream];
        let groups = self.redis.ask(conversation, &groups).await?;
        let mut groups = groups.elements().iter();
        let is_own = |of: &&Value| field(of, b"name").and_then(Value::text) == Some(group);
        Ok(groups
            .find(is_own)
            .is_some_and(|own| is_ahead(&of_stream, own)))
    }

    async fn read(
        &mut self,
        conversation: &mut Conversation,
        batch: &mut Batch,
    ) -> Result<(), String> {
        self.taken.clear();
        if self.phase == Phase::New && clock::now() >= self.claims_at {
            if self.has_lost(conversation).await? {
                batch.push(Err(Unusable::Gone));
            }
            self.phase = Phase::Others(b"0-0".to_vec());
        }
        let answer = match self.phase.clone() {
            Phase::Own => self.read_group(conversation, b"0", false).await?,
            Phase::New => self.read_group(conversation, b">", true).await?,
            Phase::Others(cursor) => return self.claim(conversation, &cursor, batch).await,
        };
        let Some(answer) = answer else {
            return self.too_long(conversation, batch).await;
        };
        let entries = answer.elements().first();
        let entries = entries.and_then(|of_stream| of_stream.elements().get(1));
        let entries = entries.map(Value::elements).unwrap_or_default();
        if entries.is_empty() && self.phase == Phase::Own {
            self.count = BATCH_MAX;
            self.phase = Phase::Others(b"0-0".to_vec());
        }
        self.take(entries, batch);
        Ok(())
    }

    /// `None`: the answer is too long.
    async fn read_group(
        &self,
        conversation: &mut Conversation,
        from: &[u8],
        waits: bool,
    ) -> Result<Option<Value>, String> {
        let (stream, group, consumer) = self.names();
        let (count, block) = (self.count.to_string(), BLOCK.as_millis().to_string());
        let mut words: Vec<&[u8]> = vec![b"XREADGROUP", b"GROUP", group, consumer];
        words.extend([&b"COUNT"[..], count.as_bytes()]);
        if waits {
            words.extend([&b"BLOCK"[..], block.as_bytes()]);
        }
        words.extend([&b"STREAMS"[..], stream, from]);
        self.redis.ask_or_skip(conversation, &words, BLOCK).await
    }

    /// Takes over what others left lying.
    async fn claim(
        &mut self,
        conversation: &mut Conversation,
        cursor: &[u8],
        batch: &mut Batch,
    ) -> Result<(), String> {
        let (stream, group, consumer) = self.names();
        let idle = self.spec.claim_after.as_millis().to_string();
        let count = self.count.to_string();
        let mut words: Vec<&[u8]> = vec![b"XAUTOCLAIM", stream, group, consumer];
        words.extend([idle.as_bytes(), cursor, b"COUNT", count.as_bytes()]);
        let answer = self.redis.ask_or_skip(conversation, &words, BLOCK).await?;
        let Some(answer) = answer else {
            // They are its own by now.
            return self.too_long(conversation, batch).await;
        };
        let parts = answer.elements();
        let next = parts.first().and_then(Value::text).unwrap_or(b"0-0");
        self.phase = match next {
            b"0-0" => Phase::New,
            next => Phase::Others(next.to_vec()),
        };
        let every = self.spec.claim_after / 2;
        self.claims_at = clock::now() + every.clamp(CLAIM_EVERY.0, CLAIM_EVERY.1);
        let removed = parts.get(2).map(Value::elements).unwrap_or_default();
        if !removed.is_empty() {
            batch.push(Err(Unusable::Gone));
        }
        let entries = parts.get(1).map(Value::elements).unwrap_or_default();
        self.take(entries, batch);
        Ok(())
    }

    /// An answer was too long: its entries are this consumer's, and are read one by one. One that
    /// is too long by itself is passed over.
    async fn too_long(
        &mut self,
        conversation: &mut Conversation,
        batch: &mut Batch,
    ) -> Result<(), String> {
        if self.count > 1 || self.phase != Phase::Own {
            self.count = 1;
            self.phase = Phase::Own;
            return Ok(());
        }
        let (stream, group, consumer) = self.names();
        let words: [&[u8]; 7] = [b"XPENDING", stream, group, b"-", b"+", b"1", consumer];
        let pending = self.redis.ask(conversation, &words).await?;
        let first = pending.elements().first();
        let id = first.and_then(|entry| entry.elements().first());
        let id = id.and_then(Value::text);
        self.taken.extend(id.map(<[u8]>::to_vec));
        batch.push(Err(Unusable::TooLong));
        Ok(())
    }

    fn take(&mut self, entries: &[Value], batch: &mut Batch) {
        for entry in entries {
            let parts = entry.elements();
            let Some(id) = parts.first().and_then(Value::text) else {
                continue;
            };
            self.taken.push(id.to_vec());
            batch.push(match parts.get(1) {
                Some(Value::Array(fields)) => message(fields),
                Some(Value::Text(_) | Value::Null | Value::Error(_)) | None => Err(Unusable::Gone),
            });
        }
    }
}

impl Feed for Stream {
    async fn open(&mut self) -> Result<Opened, String> {
        self.connection = None;
        let mut conversation = self.redis.connect(ANSWER_BYTES_MAX).await?;
        let is_new = self.make_group(&mut conversation).await?;
        let has_lost = is_new || self.has_lost(&mut conversation).await?;
        self.phase = Phase::Own;
        self.connection = Some(conversation);
        let had_group = std::mem::replace(&mut self.had_group, true);
        Ok(match (is_new, has_lost) {
            (true, _) if had_group => Opened::Gone,
            (true, _) => Opened::Anew,
            (false, true) => Opened::Gone,
            (false, false) => Opened::Resumed,
        })
    }

    async fn next(&mut self, batch: &mut Batch) -> Result<(), String> {
        let Some(mut conversation) = self.connection.take() else {
            return Err("is not connected".to_owned());
        };
        let read = self.read(&mut conversation, batch).await;
        self.connection = Some(conversation);
        read
    }

    async fn done(&mut self) -> Result<(), String> {
        if self.taken.is_empty() {
            return Ok(());
        }
        let Some(mut conversation) = self.connection.take() else {
            return Err("is not connected".to_owned());
        };
        let (stream, group, _) = self.names();
        let mut words: Vec<&[u8]> = vec![b"XACK", stream, group];
        words.extend(self.taken.iter().map(Vec::as_slice));
        let done = self.redis.ask(&mut conversation, &words).await;
        self.connection = Some(conversation);
        done.map(drop)
    }
}

/// An entry as a message.
fn message(fields: &[Value]) -> Result<Message, Unusable> {
    let text = |value: &Value| value.text().unwrap_or_default().to_vec();
    let pairs = fields.chunks_exact(2);
    let pairs: Vec<_> = pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    let bytes: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > MESSAGE_BYTES_MAX {
        return Err(Unusable::TooLong);
    }
    Ok(Message {
        fields: Some(pairs),
        ..Message::default()
    })
}

/// A field of an answer that is names and values in turn.
fn field<'v>(answer: &'v Value, name: &[u8]) -> Option<&'v Value> {
    let mut pairs = answer.elements().chunks_exact(2);
    let pair = pairs.find(|pair| pair[0].text() == Some(name))?;
    Some(&pair[1])
}

/// Whether what is left of a stream begins behind where its group is: then something between the
/// two may have been removed.
fn is_ahead(stream: &Value, group: &Value) -> bool {
    let number = |of: &Value, name: &[u8]| -> Option<u64> {
        std::str::from_utf8(field(of, name)?.text()?)
            .ok()?
            .parse()
            .ok()
    };
    let removed = || {
        let added = number(stream, b"entries-added")?;
        added.checked_sub(number(stream, b"length")?)
    };
    match (removed(), number(group, b"entries-read")) {
        (Some(0), _) => return false,
        (Some(removed), Some(read)) => return removed > read,
        (Some(_) | None, _) => {}
    }
    // Before Redis 7, or where it lost count.
    let first = field(stream, b"first-entry");
    let first = first.and_then(|entry| entry.elements().first());
    let delivered = field(group, b"last-delivered-id").and_then(id);
    match (first.and_then(id), delivered) {
        (Some(first), Some(delivered)) => first > delivered,
        (None, Some(delivered)) => {
            let last = field(stream, b"last-generated-id").and_then(id);
            last.is_some_and(|last| last > delivered)
        }
        (_, None) => false,
    }
}

/// An id: a time and a number.
fn id(value: &Value) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(value.text()?).ok()?;
    let (ms, number) = text.split_once('-')?;
    Some((ms.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Value {
        let text = |text: &str| Value::Text(text.into());
        let each = |&(name, value): &(&str, &str)| {
            let value = match name {
                "first-entry" if value.is_empty() => Value::Null,
                "first-entry" => Value::Array(vec![text(value), Value::Array(Vec::new())]),
                _ if value.is_empty() => Value::Null,
                _ => text(value),
            };
            [text(name), value]
        };
        Value::Array(pairs.iter().flat_map(each).collect())
    }

    #[test]
    fn what_was_removed_before_it_was_read_is_noticed() {
        for (added, length, first, last, read, delivered, is_lost) in [
            // Counted.
            ("10", "4", "7-0", "10-0", "6", "6-0", false),
            ("10", "4", "7-0", "10-0", "5", "5-0", true),
            ("10", "0", "", "10-0", "10", "10-0", false),
            ("10", "0", "", "10-0", "9", "9-0", true),
            ("3", "3", "1-0", "3-0", "", "0-0", false),
            // Not counted.
            ("", "4", "7-0", "10-0", "", "7-0", false),
            ("", "4", "7-0", "10-0", "", "6-9", true),
            ("10", "4", "7-0", "10-0", "", "12-0", false),
            ("", "0", "", "10-1", "", "10-1", false),
            ("", "0", "", "10-1", "", "9-7", true),
        ] {
            let stream = pairs(&[
                ("length", length),
                ("entries-added", added),
                ("first-entry", first),
                ("last-generated-id", last),
            ]);
            let group = pairs(&[("last-delivered-id", delivered), ("entries-read", read)]);
            assert_eq!(is_ahead(&stream, &group), is_lost, "{stream:?} {group:?}");
        }
    }
}
