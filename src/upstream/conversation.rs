//! A connection over which the server itself is asked and told: what comes is understood.
//!
//! What is said in one go may be answered one by one; what is pushed is heard like an answer. Only
//! so much is taken of one frame, however long it claims to be.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::resp::frame::FrameScanner;
use crate::upstream::connect::{Cause, ConnectError, Connection, Opening, Upstream};
use crate::upstream::url::{Credentials, Endpoint};

/// Bytes that one answer may have, unless who asks says otherwise.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How deep one may be nested; `CLUSTER SLOTS` of Redis 7 goes to 4.
const DEPTH_MAX: usize = 8;
/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A string, or a number's digits.
    Text(Vec<u8>),
    Null,
    Array(Vec<Self>),
    /// Without the `-`.
    Error(String),
}

impl Value {
    /// Its elements; none if it is no array.
    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            Self::Text(_) | Self::Null | Self::Error(_) => &[],
        }
    }

    /// Its text, if it is a string.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Array(_) | Self::Error(_) => None,
        }
    }
}

/// A connection over which one question is asked after the other.
pub(crate) struct Conversation {
    connection: Box<dyn Connection>,
    read: Vec<u8>,
    /// How much of what was read has been scanned.
    scanned: usize,
    scanner: FrameScanner,
    answer_bytes_max: usize,
    /// The present answer is too long, and what has come of it was dropped.
    is_skipping: bool,
}

/// What has come of an answer.
pub(crate) enum Heard {
    Value(Value),
    /// It was too long, and is passed over.
    TooLong,
    NotYet,
}

impl Conversation {
    /// One over this connection, with answers of so many bytes at most.
    pub(crate) fn over(connection: Box<dyn Connection>, answer_bytes_max: usize) -> Self {
        Self {
            connection,
            read: Vec::new(),
            scanned: 0,
            scanner: FrameScanner::new(),
            answer_bytes_max,
            is_skipping: false,
        }
    }

    /// Opens one. `timeout`: for all of it, TLS and `AUTH` included.
    ///
    /// # Errors
    /// When there is none within `timeout`.
    pub(crate) async fn open(
        upstream: &Upstream,
        endpoint: &Endpoint,
        credentials: Option<&Credentials>,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let auth: Vec<Opening> = credentials.map(Credentials::opening).into_iter().collect();
        let opening = upstream.connect_to(endpoint, &auth);
        let opened = tokio::time::timeout(timeout, opening).await;
        let connection = opened.unwrap_or(Err(Cause::TimedOut(timeout)));
        match connection {
            Ok(connection) => Ok(Self::over(connection, ANSWER_BYTES_MAX)),
            Err(cause) => Err(ConnectError::new(endpoint.to_string(), cause)),
        }
    }

    /// Asks, and waits for the answer, errors included.
    ///
    /// # Errors
    /// What happened to the connection.
    pub(crate) async fn ask(&mut self, words: &[&[u8]], timeout: Duration) -> Result<Value, Cause> {
        self.say(words).await?;
        let heard = tokio::time::timeout(timeout, self.hear()).await;
        heard.unwrap_or(Err(Cause::TimedOut(timeout)))
    }

    /// Asks, and does not wait.
    pub(crate) async fn say(&mut self, words: &[&[u8]]) -> Result<(), Cause> {
        let request = Opening::new("", words).bytes;
        self.connection
            .write_all(&request)
            .await
            .map_err(Cause::Io)?;
        self.connection.flush().await.map_err(Cause::Io)
    }

    /// Waits for the next answer. What was read is kept if it is dropped.
    pub(crate) async fn hear(&mut self) -> Result<Value, Cause> {
        self.hear_or_skip().await?.ok_or(Cause::NotRedis)
    }

    /// The same; one that is too long is passed over, and is `None`.
    pub(crate) async fn hear_or_skip(&mut self) -> Result<Option<Value>, Cause> {
        loop {
            match self.heard()? {
                Heard::Value(value) => return Ok(Some(value)),
                Heard::TooLong => return Ok(None),
                Heard::NotYet => {}
            }
            let mut chunk = [0; READ_BYTES];
            match self.connection.read(&mut chunk).await.map_err(Cause::Io)? {
                0 => return Err(Cause::Closed),
                read => self.read.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// The next answer, as far as it has come.
    pub(crate) fn heard(&mut self) -> Result<Heard, Cause> {
        let scan = self.scanner.scan(&self.read[self.scanned..]);
        let scan = scan.map_err(|_| Cause::NotRedis)?;
        self.scanned += scan.len;
        if scan.ended.is_none() {
            if self.scanned > self.answer_bytes_max {
                self.is_skipping = true;
            }
            if self.is_skipping {
                self.read.clear();
                self.scanned = 0;
            }
            return Ok(Heard::NotYet);
        }
        let is_skipped = std::mem::take(&mut self.is_skipping);
        let value = value(&mut &self.read[..self.scanned], DEPTH_MAX);
        self.read.drain(..self.scanned);
        self.scanned = 0;
        if is_skipped {
            return Ok(Heard::TooLong);
        }
        value.ok_or(Cause::NotRedis).map(Heard::Value)
    }
}

impl Value {
    /// The value that a whole frame is.
    pub(crate) fn of(mut frame: &[u8]) -> Option<Self> {
        value(&mut frame, DEPTH_MAX)
    }
}

/// Takes one value off a whole frame.
fn value(rest: &mut &[u8], depth: usize) -> Option<Value> {
    let end = memchr::memchr(b'\n', rest)?;
    let line = rest.get(1..end)?.strip_suffix(b"\r")?;
    let kind = *rest.first()?;
    *rest = rest.get(end + 1..)?;
    let number = || std::str::from_utf8(line).ok()?.parse::<i64>().ok();
    match kind {
        b'+' | b':' => Some(Value::Text(line.to_vec())),
        b'-' => Some(Value::Error(String::from_utf8_lossy(line).into_owned())),
        b'_' => Some(Value::Null),
        b'$' => {
            let Ok(len) = usize::try_from(number()?) else {
                return Some(Value::Null);
            };
            let text = rest.get(..len)?.to_vec();
            *rest = rest.get(len + 2..)?;
            Some(Value::Text(text))
        }
        b'*' | b'>' => {
            let Ok(len) = usize::try_from(number()?) else {
                return Some(Value::Null);
            };
            let deeper = depth.checked_sub(1)?;
            (0..len)
                .map(|_| value(rest, deeper))
                .collect::<Option<_>>()
                .map(Value::Array)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut frame: &[u8]) -> Option<Value> {
        value(&mut frame, DEPTH_MAX)
    }

    #[test]
    fn answers_are_understood() {
        let text = |text: &str| Value::Text(text.into());
        let role = b"*3\r\n$6\r\nmaster\r\n:7\r\n*0\r\n";
        let parts = vec![text("master"), text("7"), Value::Array(Vec::new())];
        assert_eq!(read(role), Some(Value::Array(parts)));
        assert_eq!(read(b"*-1\r\n"), Some(Value::Null));
        assert_eq!(read(b"$-1\r\n"), Some(Value::Null));
        assert_eq!(
            read(b"-NOAUTH x\r\n"),
            Some(Value::Error("NOAUTH x".into()))
        );
    }

    #[test]
    fn what_is_too_deep_or_of_another_kind_is_none() {
        let nested = |depth| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        assert!(read(&nested(DEPTH_MAX)).is_some());
        assert_eq!(read(&nested(DEPTH_MAX + 1)), None);
        assert_eq!(read(b"%1\r\n+a\r\n+b\r\n"), None);
        // Claims more than there is.
        assert_eq!(read(b"*1000000000000\r\n"), None);
        assert_eq!(read(b"$10\r\nab\r\n"), None);
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_passed_over_and_the_next_one_heard() {
        let (near, mut far) = tokio::io::duplex(64);
        let long = "x".repeat(1000);
        let frames = format!("+a\r\n${}\r\n{long}\r\n*1\r\n+b\r\n", long.len());
        let say = async move { far.write_all(frames.as_bytes()).await.unwrap() };
        let hear = async {
            let mut conversation = Conversation::over(Box::new(near), 100);
            let mut heard = Vec::new();
            for _ in 0..3 {
                heard.push(conversation.hear_or_skip().await.unwrap());
                assert!(conversation.read.capacity() < 1000);
            }
            heard
        };
        let (heard, ()) = tokio::join!(hear, say);
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(
            heard,
            [Some(text("a")), None, Some(Value::Array(vec![text("b")]))]
        );
    }
}
