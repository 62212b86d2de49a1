//! Connections to the Redis that an event comes from: one of its own, or the upstream.

use std::sync::Arc;
use std::time::Duration;

use crate::instance::Instance;
use crate::instance::events::Source;
use crate::upstream::connect::{Cause, ConnectError};
use crate::upstream::conversation::{Conversation, Value};
use crate::upstream::{Tls, Upstream};

use super::ClientTls;

/// The Redis of an event.
pub(super) struct Redis {
    upstream: Arc<Upstream>,
}

impl Redis {
    /// That of this event.
    ///
    /// # Errors
    /// It is not known where it is, or TLS cannot be spoken.
    pub(super) fn of(instance: &Instance, source: &Source, tls: ClientTls) -> Result<Self, String> {
        let Some(address) = &source.address else {
            let upstream = instance.upstream.as_ref().ok_or("there is no upstream")?;
            return Ok(Self {
                upstream: Arc::clone(upstream),
            });
        };
        let url = address.redis()?;
        let tls = if url.tls {
            let config = tls()?;
            Some(Tls { config, name: None })
        } else {
            None
        };
        let timeout = instance.config().upstream_timeout;
        Ok(Self {
            upstream: Arc::new(Upstream::new(url, tls, timeout)),
        })
    }

    /// Opens a connection with answers of so many bytes at most.
    pub(super) async fn connect(&self, answer_bytes_max: usize) -> Result<Conversation, String> {
        let connection = self.upstream.connect_as(&[]).await;
        let connection = connection.map_err(|error| error.to_string())?;
        Ok(Conversation::over(connection, answer_bytes_max))
    }

    /// The database that its connections are in.
    pub(super) fn database(&self) -> u32 {
        self.upstream.url.database
    }

    /// Asks something that takes no time, and takes the answer if it is no error.
    pub(super) async fn ask(
        &self,
        conversation: &mut Conversation,
        words: &[&[u8]],
    ) -> Result<Value, String> {
        let asked = conversation.ask(words, self.upstream.timeout()).await;
        match asked.map_err(|cause| self.lost(cause))? {
            Value::Error(error) => Err(error),
            answer @ (Value::Text(_) | Value::Null | Value::Array(_)) => Ok(answer),
        }
    }

    /// The same for what may wait for so long, and whose answer may be too long: that is `None`.
    pub(super) async fn ask_or_skip(
        &self,
        conversation: &mut Conversation,
        words: &[&[u8]],
        waits: Duration,
    ) -> Result<Option<Value>, String> {
        let said = conversation.say(words).await;
        said.map_err(|cause| self.lost(cause))?;
        let patience = self.upstream.timeout() + waits;
        let heard = tokio::time::timeout(patience, conversation.hear_or_skip()).await;
        match heard.unwrap_or(Err(Cause::TimedOut(patience))) {
            Ok(Some(Value::Error(error))) => Err(error),
            Ok(answer) => Ok(answer),
            Err(cause) => Err(self.lost(cause)),
        }
    }

    /// How a connection was lost, in words.
    pub(super) fn lost(&self, cause: Cause) -> String {
        ConnectError::new(self.upstream.shown(), cause).to_string()
    }
}
