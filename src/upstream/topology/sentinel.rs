//! Sentinels: who of a group of servers is the master, and when that changes.
//!
//! Two things go on: every Sentinel of the URL is listened to (`+switch-master`), and at each
//! message, each lost connection and now and then, one of them is asked. Its word is checked with
//! the server itself (`ROLE`), since Sentinels too may be behind: a master that was replaced and
//! comes back says that it is one until it is told otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Watched;
use crate::upstream::connect::{Cause, ConnectError, Upstream};
use crate::upstream::conversation::{Conversation, Value};
use crate::upstream::url::{Endpoint, Sentinels};

/// How long a Sentinel, or who it names, may take for each step, unless `upstream-timeout` is
/// shorter: there are others to ask.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often is asked at most.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);
/// How often is asked while nobody is known to be the master.
const SEEK_EVERY: Duration = Duration::from_millis(100);
/// How often is asked though there is no reason to: no message may ever have come.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// How often a Sentinel that is listened to is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// After so many unanswered ones it is not.
const PINGS_LOST_MAX: u32 = 3;
/// How long until one that was lost is listened to again.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Keeps looking for the master.
pub(super) async fn watch(upstream: &Upstream, watched: &Arc<Watched>, sentinels: &Sentinels) {
    let watch = Watch {
        upstream,
        watched,
        sentinels,
        first: AtomicUsize::new(0),
    };
    let listening = (0..sentinels.addresses.len()).map(|at| watch.listen(at));
    tokio::join!(watch.look(), futures_util::future::join_all(listening));
}

struct Watch<'a> {
    upstream: &'a Upstream,
    watched: &'a Arc<Watched>,
    sentinels: &'a Sentinels,
    /// The Sentinel to ask first: the last that answered, or told something.
    first: AtomicUsize,
}

/// What became of a Sentinel's word.
enum Found {
    Master(Endpoint),
    /// This one was named, and is none.
    Replica(Endpoint),
    /// Nobody, for this reason.
    Nobody(String),
}

impl Watch<'_> {
    /// Looks for the master whenever there is a reason to.
    async fn look(&self) {
        loop {
            let asked = self.watched.asked();
            self.look_once(asked).await;
            let pause = if self.watched.is_settled() {
                CHECK_EVERY
            } else {
                SEEK_EVERY
            };
            // However many reasons there are.
            tokio::time::sleep(LOOK_EVERY_MIN).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.watched.wanted.notified() => {}
            }
        }
    }

    async fn look_once(&self, asked: u64) {
        let count = self.sentinels.addresses.len();
        let first = self.first.load(Ordering::Relaxed);
        // What a Sentinel says of the master tells more than that another one says nothing.
        let (mut silence, mut trouble) = (None, None);
        for at in (0..count).map(|step| (first + step) % count) {
            match self.ask(at).await {
                Ok(Found::Master(endpoint)) => {
                    self.first.store(at, Ordering::Relaxed);
                    return self.watched.found(endpoint, asked);
                }
                Ok(Found::Replica(endpoint)) => {
                    let last = self.watched.last();
                    if last.is_some_and(|last| last.endpoint == endpoint) {
                        self.watched.leave();
                    }
                    trouble = Some(format!("{endpoint} is a replica"));
                }
                Ok(Found::Nobody(why)) => trouble = Some(why),
                Err(why) => silence = Some(why),
            }
        }
        if let Some(current) = self.watched.last()
            && let Ok(true) = self.is_master(&current.endpoint).await
        {
            // No Sentinel has named another one.
            return self.watched.found(current.endpoint, asked);
        }
        let why = trouble.or(silence).unwrap_or_default();
        self.watched.missed(why, asked);
    }

    fn patience(&self) -> Duration {
        PATIENCE.min(self.upstream.timeout())
    }

    async fn converse(&self, at: usize) -> Result<Conversation, ConnectError> {
        let own = self.sentinels.credentials.as_ref();
        let address = &self.sentinels.addresses[at];
        Conversation::open(self.upstream, address, own, self.patience()).await
    }

    /// Asks a Sentinel for the master, and that one for its role. An error means that the Sentinel
    /// does not answer.
    async fn ask(&self, at: usize) -> Result<Found, String> {
        let name = &self.sentinels.master;
        let sentinel = format!("Sentinel {}", self.sentinels.addresses[at]);
        let opened = self.converse(at).await;
        let mut conversation = opened.map_err(|error| format!("Sentinel {error}"))?;
        let question: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()];
        let answer = conversation.ask(&question, self.patience()).await;
        let endpoint = match answer.map_err(|cause| trouble(&sentinel, cause))? {
            Value::Error(error) => return Ok(Found::Nobody(format!("{sentinel} says: {error}"))),
            Value::Null => return Ok(Found::Nobody(format!("{sentinel} knows no such master"))),
            answer @ (Value::Text(_) | Value::Array(_)) => {
                endpoint_of(&answer).ok_or_else(|| trouble(&sentinel, Cause::NotRedis))?
            }
        };
        Ok(match self.is_master(&endpoint).await {
            Ok(true) => Found::Master(endpoint),
            Ok(false) => Found::Replica(endpoint),
            Err(why) => Found::Nobody(why),
        })
    }

    /// Whether a server is a master, as far as it says.
    async fn is_master(&self, endpoint: &Endpoint) -> Result<bool, String> {
        let credentials = self.upstream.url.credentials.as_ref();
        let opened =
            Conversation::open(self.upstream, endpoint, credentials, self.patience()).await;
        let mut conversation = opened.map_err(|error| error.to_string())?;
        let answer = conversation.ask(&[b"ROLE"], self.patience()).await;
        match answer.map_err(|cause| trouble(&endpoint.to_string(), cause))? {
            // It leaves it to each client to say who it is, or this user may not ask: then the
            // Sentinel's word stands.
            Value::Error(error) if error.starts_with("NOAUTH") || error.starts_with("NOPERM") => {
                Ok(true)
            }
            Value::Error(error) => Err(format!("{endpoint} says: {error}")),
            answer @ (Value::Text(_) | Value::Null | Value::Array(_)) => {
                let role = answer.elements().first().and_then(Value::text);
                Ok(role == Some(b"master"))
            }
        }
    }

    /// Listens to a Sentinel, whenever it is there.
    async fn listen(&self, at: usize) {
        loop {
            let heard = self.listen_once(at).await;
            // What it would have told meanwhile is not known.
            if heard.is_ok() {
                self.watched.suspect();
            }
            tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
        }
    }

    /// Listens until the connection is lost. An error means that there was none.
    async fn listen_once(&self, at: usize) -> Result<(), String> {
        let opened = self.converse(at).await;
        let mut conversation = opened.map_err(|error| error.to_string())?;
        let subscribed = conversation
            .ask(&[b"SUBSCRIBE", b"+switch-master"], self.patience())
            .await;
        let confirmed = subscribed.map_err(|cause| trouble("", cause))?;
        if let Value::Error(error) = confirmed {
            let sentinel = &self.sentinels.addresses[at];
            tracing::warn!(%sentinel, error, "a Sentinel refuses SUBSCRIBE");
            return Err(error);
        }
        // It may have been told before.
        self.watched.suspect();
        let mut unanswered = 0;
        loop {
            let heard = tokio::select! {
                heard = conversation.hear() => heard,
                () = tokio::time::sleep(PING_EVERY) => {
                    if unanswered == PINGS_LOST_MAX || conversation.say(&[b"PING"]).await.is_err() {
                        return Ok(());
                    }
                    unanswered += 1;
                    continue;
                }
            };
            unanswered = 0;
            match heard {
                Ok(message) if self.is_about_us(&message) => {
                    self.first.store(at, Ordering::Relaxed);
                    self.watched.suspect();
                }
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
        }
    }

    /// Whether a message is `+switch-master` of our master:
    /// `name old-address old-port new-address new-port`.
    fn is_about_us(&self, message: &Value) -> bool {
        let elements = message.elements();
        let is_message = elements.first().and_then(Value::text) == Some(b"message");
        let payload = elements.get(2).and_then(Value::text).unwrap_or_default();
        let rest = payload.strip_prefix(self.sentinels.master.as_bytes());
        is_message && rest.is_some_and(|rest| rest.starts_with(b" "))
    }
}

/// A cause in words, of a connection that was there.
fn trouble(with: &str, cause: Cause) -> String {
    ConnectError::new(with.to_owned(), cause).to_string()
}

/// The address in the answer to `GET-MASTER-ADDR-BY-NAME`.
fn endpoint_of(answer: &Value) -> Option<Endpoint> {
    let [host, port] = answer.elements() else {
        return None;
    };
    let host = String::from_utf8(host.text()?.to_vec()).ok()?;
    let port = std::str::from_utf8(port.text()?).ok()?.parse().ok()?;
    (!host.is_empty()).then_some(Endpoint::Tcp { host, port })
}
