//! NOTIFY of a PostgreSQL.
//!
//! What was sent while nobody listened is lost with the connection. The driver would connect again
//! by itself and say so late; here a lost connection ends, so that what may have been missed is
//! swept. A connection that says nothing is asked whether it is still there.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgNotification, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Error as SqlError};
use tokio::time::timeout;

use super::feed::{Batch, Feed, Opened};
use super::message::Message;
use crate::instance::events::Address;

/// How long a connection may be silent until it is asked, and how long it may take to answer.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The LISTEN of one event.
pub(super) struct Postgres {
    options: PgConnectOptions,
    channels: Vec<String>,
    listener: Option<PgListener>,
}

impl Postgres {
    /// That of these channels.
    ///
    /// # Errors
    /// The URL is none.
    pub(super) fn new(address: &Address, channels: &[String]) -> Result<Self, String> {
        // Its own words have the URL in them.
        let options = PgConnectOptions::from_str(&address.url.0)
            .map_err(|_| "the URL is none of PostgreSQL")?
            .application_name("corral")
            .disable_statement_logging();
        Ok(Self {
            options: match &address.password {
                Some(password) => options.password(&password.0),
                None => options,
            },
            channels: channels.to_vec(),
            listener: None,
        })
    }

    async fn listen(&self) -> Result<PgListener, SqlError> {
        // The listener needs a pool, which tries for long where nobody listens and does not say so.
        PgConnection::connect_with(&self.options)
            .await?
            .close()
            .await?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(self.options.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        let channels = self.channels.iter().map(String::as_str);
        listener.listen_all(channels).await?;
        Ok(listener)
    }
}

/// The next notification; one that does not come is waited for by asking.
async fn hear(listener: &mut PgListener) -> Result<PgNotification, String> {
    loop {
        let why = match timeout(SILENCE_MAX, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => return Ok(notification),
            Ok(Ok(None)) => return Err("closed the connection".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => timeout(SILENCE_MAX, listener.execute("SELECT 1")).await,
        };
        match why {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("did not answer within {SILENCE_MAX:?}")),
        }
    }
}

fn message(notification: &PgNotification) -> Message {
    Message {
        whole: notification.channel().as_bytes().to_vec(),
        captures: Vec::new(),
        payload: Some(notification.payload().as_bytes().to_vec()),
        fields: None,
    }
}

impl Feed for Postgres {
    async fn open(&mut self) -> Result<Opened, String> {
        self.listener = None;
        let listener = self.listen().await;
        self.listener = Some(listener.map_err(|error| error.to_string())?);
        Ok(Opened::Anew)
    }

    async fn next(&mut self, batch: &mut Batch) -> Result<(), String> {
        let Some(mut listener) = self.listener.take() else {
            return Err("is not connected".to_owned());
        };
        let notification = hear(&mut listener).await?;
        batch.push(Ok(message(&notification)));
        self.listener = Some(listener);
        Ok(())
    }
}
