//! The connection that one client has to the upstream, or not.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::upstream::connect::{ConnectError, Connection};

pub(super) type Connecting =
    Pin<Box<dyn Future<Output = Result<Box<dyn Connection>, ConnectError>> + Send>>;

/// The connection to the upstream.
pub(super) enum Link {
    /// None, until the next request.
    Closed,
    Connecting(Connecting),
    Open(Open),
}

/// A connection that can be used.
pub(super) struct Open {
    pub(super) connection: Box<dyn Connection>,
    /// It takes no more, but may still have something to say.
    pub(super) deaf: bool,
    /// Bytes written may still sit in TLS.
    pub(super) unflushed: bool,
    pub(super) farewell: Farewell,
}

/// Whether a peer was told that no more will be sent to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// There is no reason to.
    No,
    /// It is to be told.
    Due,
    Told,
}

impl Open {
    pub(super) fn new(connection: Box<dyn Connection>) -> Self {
        Self {
            connection,
            deaf: false,
            unflushed: false,
            farewell: Farewell::No,
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) {
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.connection).poll_flush(context)
        {
            self.unflushed = false;
            self.deaf |= flushed.is_err();
        }
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) {
        if self.farewell == Farewell::Due
            && Pin::new(&mut self.connection)
                .poll_shutdown(context)
                .is_ready()
        {
            self.farewell = Farewell::Told;
        }
    }
}

/// How an open connection was lost.
pub(super) enum Loss {
    Closed,
    Failed(io::Error),
    Silent(Duration),
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => formatter.write_str("closed the connection"),
            Self::Failed(error) => write!(formatter, "broke the connection: {error}"),
            Self::Silent(after) => write!(formatter, "did not answer within {after:?}"),
        }
    }
}
