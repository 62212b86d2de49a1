//! Questions about the topology, and their answers: one at a time, and understood.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::resp::frame::FrameScanner;
use crate::upstream::connect::{Cause, ConnectError, Connection, Opening, Upstream};
use crate::upstream::url::{Credentials, Endpoint};

/// Bytes that one answer may have.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How deep one may be nested; `CLUSTER SLOTS` of Redis 7 goes to 4.
const DEPTH_MAX: usize = 8;
/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A string, or a number's digits.
    Text(Vec<u8>),
    Null,
    Array(Vec<Self>),
    /// Without the `-`.
    Error(String),
}

impl Value {
    /// Its elements; none if it is no array.
    pub(super) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            Self::Text(_) | Self::Null | Self::Error(_) => &[],
        }
    }

    /// Its text, if it is a string.
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Array(_) | Self::Error(_) => None,
        }
    }
}

/// A connection over which one question is asked after the other.
pub(super) struct Conversation {
    connection: Box<dyn Connection>,
    read: Vec<u8>,
}

impl Conversation {
    /// Opens one. `timeout`: for all of it, TLS and `AUTH` included.
    ///
    /// # Errors
    /// When there is none within `timeout`.
    pub(super) async fn open(
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
            Ok(connection) => Ok(Self {
                connection,
                read: Vec::new(),
            }),
            Err(cause) => Err(ConnectError::new(endpoint.to_string(), cause)),
        }
    }

    /// Asks, and waits for the answer, errors included.
    ///
    /// # Errors
    /// What happened to the connection.
    pub(super) async fn ask(&mut self, words: &[&[u8]], timeout: Duration) -> Result<Value, Cause> {
        self.say(words).await?;
        let heard = tokio::time::timeout(timeout, self.hear()).await;
        heard.unwrap_or(Err(Cause::TimedOut(timeout)))
    }

    /// Asks, and does not wait.
    pub(super) async fn say(&mut self, words: &[&[u8]]) -> Result<(), Cause> {
        let request = Opening::new("", words).bytes;
        self.connection
            .write_all(&request)
            .await
            .map_err(Cause::Io)?;
        self.connection.flush().await.map_err(Cause::Io)
    }

    /// Waits for the next answer. What was read is kept if it is dropped.
    pub(super) async fn hear(&mut self) -> Result<Value, Cause> {
        loop {
            let scan = FrameScanner::new().scan(&self.read);
            let scan = scan.map_err(|_| Cause::NotRedis)?;
            if scan.ended.is_some() {
                let value = value(&mut &self.read[..scan.len], DEPTH_MAX);
                self.read.drain(..scan.len);
                return value.ok_or(Cause::NotRedis);
            }
            if self.read.len() > ANSWER_BYTES_MAX {
                return Err(Cause::NotRedis);
            }
            let mut chunk = [0; READ_BYTES];
            match self.connection.read(&mut chunk).await.map_err(Cause::Io)? {
                0 => return Err(Cause::Closed),
                read => self.read.extend_from_slice(&chunk[..read]),
            }
        }
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
}
