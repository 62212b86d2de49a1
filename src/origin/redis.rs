//! Another Redis: GET, SET, DEL of one key.
//!
//! A value is never read further than `max-value`: its first bytes are asked for by GETRANGE, which
//! does not tell an empty value from none, hence the EXISTS before it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError, cmd, pipe};

use crate::config::rules::RedisSpec;
use crate::config::rules::template::Template;

use super::pool::Pool;
use super::{Call, Failure, FailureKind, Found, Verb, fill, read};

pub(super) struct Loader {
    client: Client,
    key: Template,
    ttl_from_pttl: bool,
    pool: Pool<MultiplexedConnection>,
}

impl Loader {
    pub(super) fn build(spec: &RedisSpec) -> Result<Self, String> {
        let url = read(&spec.url)?;
        let wrong = |error: RedisError| format!("the URL: {}", error.category());
        let mut info = url.as_str().into_connection_info().map_err(wrong)?;
        if let Some(password) = &spec.password {
            let settings = info.redis_settings().clone();
            info = info.set_redis_settings(settings.set_password(read(password)?));
        }
        Ok(Self {
            client: Client::open(info).map_err(wrong)?,
            key: spec.key.clone(),
            ttl_from_pttl: spec.ttl_from_pttl,
            pool: Pool::new(spec.pool),
        })
    }

    pub(super) async fn run(
        &self,
        call: &Call<'_>,
        verb: Verb<'_>,
        max_value: usize,
    ) -> Result<Option<Found>, Failure> {
        let key = fill::plain(&self.key, call);
        let is_load = matches!(verb, Verb::Load);
        if let Some(mut connection) = self.pool.take() {
            // One that has been closed meanwhile is no failure. What writes must know before.
            let is_there = is_load || ping(&mut connection).await.is_ok();
            if is_there {
                match self.ask(&mut connection, &key, verb, max_value).await {
                    Err(Error::Redis(error)) if is_load && error.is_unrecoverable_error() => {}
                    outcome => return self.end(connection, outcome),
                }
            }
            self.pool.clear();
        }
        let mut connection = self.pool.connect(self.connect()).await?;
        let outcome = self.ask(&mut connection, &key, verb, max_value).await;
        self.end(connection, outcome)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        // The deadline of the call is the one that counts.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    fn end(
        &self,
        connection: MultiplexedConnection,
        outcome: Result<Option<Found>, Error>,
    ) -> Result<Option<Found>, Failure> {
        let is_broken =
            matches!(&outcome, Err(Error::Redis(error)) if error.is_unrecoverable_error());
        if !is_broken {
            self.pool.give(connection);
        }
        outcome.map_err(|error| match error {
            Error::Redis(error) => failed(error),
            Error::Failure(failure) => failure,
        })
    }

    async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
        key: &[u8],
        verb: Verb<'_>,
        max_value: usize,
    ) -> Result<Option<Found>, Error> {
        match verb {
            Verb::Load => self.load(connection, key, max_value).await,
            Verb::Store(value, ttl) => {
                let mut set = cmd("SET");
                set.arg(key).arg(value);
                if let Some(ttl) = ttl {
                    // Zero is no expiry that SET takes.
                    let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
                    set.arg("PX").arg(ms);
                }
                let () = set.query_async(connection).await?;
                Ok(Some(Found::of(Vec::new())))
            }
            Verb::Delete => {
                let () = cmd("DEL").arg(key).query_async(connection).await?;
                Ok(None)
            }
        }
    }

    async fn load(
        &self,
        connection: &mut MultiplexedConnection,
        key: &[u8],
        max_value: usize,
    ) -> Result<Option<Found>, Error> {
        let mut all = pipe();
        all.cmd("EXISTS").arg(key);
        all.cmd("GETRANGE").arg(key).arg(0).arg(max_value);
        all.cmd("PTTL").arg(key);
        let (exists, mut value, pttl): (bool, Vec<u8>, i64) = all.query_async(connection).await?;
        if !exists {
            return Ok(None);
        }
        if value.is_empty() {
            // Empty, or gone since it was seen.
            let now: Option<Vec<u8>> = cmd("GET").arg(key).query_async(connection).await?;
            match now {
                Some(now) => value = now,
                None => return Ok(None),
            }
        }
        if value.len() > max_value {
            return Err(Error::Failure(Failure::too_large(max_value)));
        }
        value.shrink_to_fit();
        let mut found = Found::of(value);
        if self.ttl_from_pttl {
            // -1: it does not expire; -2: it has, since it was read.
            found.ttl = match u64::try_from(pttl) {
                Ok(ms) => Some(Duration::from_millis(ms)),
                Err(_) if pttl == -1 => None,
                Err(_) => Some(Duration::ZERO),
            };
        }
        Ok(Some(found))
    }
}

/// Why a request failed: in Redis's words, or in ours.
enum Error {
    Redis(RedisError),
    Failure(Failure),
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

async fn ping(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    cmd("PING").query_async(connection).await
}

fn failed(error: RedisError) -> Failure {
    if error.is_unrecoverable_error() || error.is_io_error() {
        return Failure::new(FailureKind::Lost, error.to_string());
    }
    if let ErrorKind::UnexpectedReturnType | ErrorKind::Parse = error.kind() {
        return Failure::new(FailureKind::BadValue, error.to_string());
    }
    let text = error.to_string();
    let errors = error.into_server_errors();
    let Some((_, error)) = errors.as_deref().and_then(<[_]>::first) else {
        return Failure::new(FailureKind::Refused, text);
    };
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    match error.code() {
        "WRONGTYPE" => Failure::new(FailureKind::BadValue, text),
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "OOM" => {
            Failure::ill(text)
        }
        _ => Failure::new(FailureKind::Refused, text),
    }
}
