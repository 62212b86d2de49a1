//! A connection to a server that is the upstream for a term only.
//!
//! It fails when the term ends, so that nothing is read from the server or sent to it any more; and
//! it tells the watcher of what is a reason to look again: that it was lost, or that the server
//! answered as a replica does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Watched;
use crate::upstream::connect::Connection;

/// What a replica answers to a write. Behind what was read first, or behind a line end: that it is
/// found in a value as well makes the watcher look once too often, no more.
const READ_ONLY: &[u8] = b"-READONLY ";

pub(super) struct Tethered {
    connection: Box<dyn Connection>,
    term: CancellationToken,
    /// Woken by the end of the term.
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    watched: Arc<Watched>,
}

impl Tethered {
    pub(super) fn new(
        connection: Box<dyn Connection>,
        term: CancellationToken,
        watched: Arc<Watched>,
    ) -> Self {
        Self {
            connection,
            end: Box::pin(term.clone().cancelled_owned()),
            term,
            watched,
        }
    }

    fn is_over(&self) -> io::Result<()> {
        if self.term.is_cancelled() {
            return Err(io::Error::other("it is not the master any more"));
        }
        Ok(())
    }
}

impl AsyncRead for Tethered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(self.is_over());
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.connection).poll_read(context, buffer));
        let new = &buffer.filled()[before..];
        if read.is_err() || new.is_empty() || memchr::memmem::find(new, READ_ONLY).is_some() {
            self.watched.suspect();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Tethered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_over()?;
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_over()?;
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
