//! One client's life: read, decode, run, write, until it leaves or must.
//!
//! What was read is decoded and run in batches; the replies of all of it leave in one write. A
//! client that does not take its replies is not read from meanwhile, and is closed where
//! `client-output-buffer-limit` says so: so its buffers never hold more than one reply beyond a
//! fixed size.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::stream::Stream;
use crate::command::Command;
use crate::command::lookup;
use crate::command::run::{BATCH_MAX, Ended, Runner, publish};
use crate::instance::Instance;
use crate::instance::clients::{Client, Told};
use crate::instance::session::{Passed, Replies, Session};
use crate::instance::soft_limit::{Overdue, SoftLimit};
use crate::policy::{Leases, Wait};
use crate::resp::{Decoder, Limits, Protocol, Reply};

/// A connection ends; the reason is known to who ended it.
struct Over;

/// Serves a client until the connection is over.
pub(super) async fn serve(
    instance: Arc<Instance>,
    stream: Stream,
    client: Arc<Client>,
    thread: usize,
) {
    let session = Session::new(&instance, Arc::clone(&client), thread);
    let mut connection = Connection {
        instance: Arc::clone(&instance),
        stream,
        session,
        decoder: Decoder::default(),
        buffer: Vec::new(),
        start: 0,
        is_read_full: false,
        used_max: 0,
        small_batches: 0,
        reply: Reply::new(Protocol::Resp2),
        soft_limit: SoftLimit::default(),
    };
    let Over = connection.live().await;
    connection.say_goodbye().await;
    connection.session.unwatch(&instance);
    let session = &mut connection.session;
    instance
        .policy
        .leave(session.client.id, &mut session.reads.leases);
    instance.clients.remove(&client);
}

struct Connection {
    instance: Arc<Instance>,
    stream: Stream,
    session: Session,
    decoder: Decoder,
    /// What was read. What lies before `start` was run.
    buffer: Vec<u8>,
    start: usize,
    /// Whether the last read filled its room: there may be more.
    is_read_full: bool,
    /// The most the buffer held since the last batch, and how many batches in a row held little.
    used_max: usize,
    small_batches: u32,
    reply: Reply,
    soft_limit: SoftLimit,
}

impl Connection {
    async fn live(&mut self) -> Over {
        loop {
            if let Err(over) = self.run_all().await {
                return over;
            }
            if self.flush().await.is_err() {
                return Over;
            }
            if self.session.client.is_finishing() {
                return Over;
            }
            match self.next().await {
                Ok(()) => {}
                Err(over) => return over,
            }
        }
    }

    /// Runs everything that is complete in the buffer.
    async fn run_all(&mut self) -> Result<(), Over> {
        let mut last: Option<&'static Command> = None;
        loop {
            // Before it authenticated, a request's limits depend on the one before it.
            let bulk_bytes_max = self.session.config.proto_max_bulk_len;
            let (limits, batch) = if self.session.is_authenticated {
                (Limits::authenticated(bulk_bytes_max), BATCH_MAX)
            } else {
                (Limits::unauthenticated(bulk_bytes_max), 1)
            };
            let decoded = self
                .decoder
                .decode(&self.buffer[self.start..], batch, &limits);
            let count = self.decoder.len();
            if count > 0 {
                let newest = self.decoder.at(count - 1, &self.buffer[self.start..]);
                last = lookup::resolve(&newest).ok().or(last);
                let query = self.buffer.len() - self.start;
                self.session
                    .client
                    .doing
                    .query
                    .store(query, Ordering::Relaxed);
                self.run_decoded().await?;
            }
            self.start += self.decoder.consume();
            if let Err(error) = decoded {
                if self.session.replies == Replies::On {
                    self.reply.error(error.reply_text());
                }
                let _ = self.flush().await;
                return Err(Over);
            }
            if count < batch {
                break;
            }
        }
        if last.is_some() {
            publish(&self.session, &self.reply, &self.instance, last);
        }
        self.reclaim();
        Ok(())
    }

    async fn run_decoded(&mut self) -> Result<(), Over> {
        let mut first = 0;
        while first < self.decoder.len() {
            let mut runner = Runner {
                instance: &self.instance,
                session: &mut self.session,
                reply: &mut self.reply,
            };
            let (ran, ended) = runner.run(&self.decoder, &self.buffer[self.start..], first);
            first += ran;
            match ended {
                Ended::Done => {}
                Ended::ReplyIsLong => self.flush().await?,
                Ended::Closing => {
                    let _ = self.flush().await;
                    return Err(Over);
                }
                Ended::Waits => {
                    self.flush().await?;
                    self.wait_for_values().await?;
                }
                Ended::Paused { writes } => {
                    self.flush().await?;
                    self.wait_for_unpause(writes).await?;
                }
            }
        }
        Ok(())
    }

    async fn wait_for_unpause(&mut self, writes: bool) -> Result<(), Over> {
        let client = &self.session.client;
        client.doing.paused.store(true, Ordering::Relaxed);
        let result = tokio::select! {
            () = self.instance.pause.wait(writes) => Ok(()),
            () = client.closed() => Err(Over),
            () = self.instance.stopping.wait() => Err(Over),
        };
        client.doing.paused.store(false, Ordering::Relaxed);
        result
    }

    /// Waits for what the next request and those behind it wait for.
    async fn wait_for_values(&mut self) -> Result<(), Over> {
        // Whoever ends this, the leases stay with the session: others inherit them from there.
        let mut leases = std::mem::take(&mut self.session.reads.leases);
        let waited = self.wait_for_each(&mut leases).await;
        self.session.reads.leases = leases;
        waited
    }

    async fn wait_for_each(&mut self, leases: &mut Leases) -> Result<(), Over> {
        let policy = Arc::clone(&self.instance.policy);
        let waits = std::mem::take(&mut self.session.reads.waits);
        if !waits.is_empty() {
            let arrived = self.read_until(Wait::end_all(waits, leases)).await?;
            for one in arrived {
                self.session.reads.arrived.push(one);
            }
        }
        if let Passed::Asked(writes) = std::mem::take(&mut self.session.reads.through) {
            let answered = self.read_until(policy.write_through(writes).end()).await?;
            self.session.reads.through = Passed::Answered(answered);
        }
        Ok(())
    }

    /// Waits for the end of something. A client that goes is not waited with, and what it sends
    /// meanwhile may come.
    async fn read_until<T>(&mut self, end: impl Future<Output = T>) -> Result<T, Over> {
        let instance = Arc::clone(&self.instance);
        let client = Arc::clone(&self.session.client);
        tokio::pin!(end);
        loop {
            let may_read = self.buffer.len() - self.start < READ_AHEAD_MAX;
            tokio::select! {
                biased;
                ended = &mut end => return Ok(ended),
                () = client.closed(), if !may_read => return Err(Over),
                () = instance.stopping.wait() => return Err(Over),
                read = self.read(), if may_read => {
                    if let Some(told) = read? {
                        self.heed(told)?;
                    }
                }
            }
        }
    }

    /// Drops what was run from the buffer, and memory that a big request left behind.
    fn reclaim(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
        if self.buffer.capacity() > READ_BYTES_KEPT && self.buffer.len() < READ_BYTES_KEPT {
            self.buffer.shrink_to(READ_BYTES_KEPT);
        }
        self.shrink_if_unused();
        let doing = &self.session.client.doing;
        let free = self.buffer.capacity() - self.buffer.len();
        doing.query.store(self.buffer.len(), Ordering::Relaxed);
        doing.query_free.store(free, Ordering::Relaxed);
        let memory = self.buffer.capacity() + self.reply.heap_bytes() + self.decoder.heap_bytes();
        doing.memory.store(memory, Ordering::Relaxed);
    }

    /// Halves a buffer that has been larger than needed for a while.
    fn shrink_if_unused(&mut self) {
        let capacity = self.buffer.capacity();
        if capacity <= READ_BYTES_FIRST || self.used_max >= capacity / 4 {
            self.small_batches = 0;
        } else {
            self.small_batches += 1;
        }
        if self.small_batches == SMALL_BATCHES {
            self.small_batches = 0;
            self.buffer.shrink_to(capacity / 2);
        }
        self.used_max = self.buffer.len();
    }

    /// Waits for more bytes, and for what others have to tell.
    async fn next(&mut self) -> Result<(), Over> {
        let told = self.read().await?;
        match told {
            None => {
                let limit = self.session.config.client_query_buffer_limit;
                if self.buffer.len() > limit {
                    self.instance.metrics.query_limit_closes.add_shared(1);
                    tracing::warn!(
                        client = self.session.client.id,
                        bytes = self.buffer.len(),
                        "closing client that reached max query buffer length"
                    );
                    return Err(Over);
                }
                Ok(())
            }
            Some(told) => self.heed(told),
        }
    }

    /// Does what others ask for.
    fn heed(&mut self, told: Told) -> Result<(), Over> {
        match told {
            Told::Close => return Err(Over),
            Told::Finish => {}
            Told::Quiet => {
                if self.buffer.is_empty() {
                    self.buffer = Vec::new();
                    self.reclaim();
                }
            }
            Told::Pushes => self.reply.raw(&self.session.client.take_pushes()),
        }
        Ok(())
    }

    /// Reads what there is, or learns what others tell.
    async fn read(&mut self) -> Result<Option<Told>, Over> {
        // A client that is not heard of has no buffer: its first bytes come by way of the stack.
        let mut first = Vec::new();
        let is_first = self.buffer.capacity() == 0;
        if !is_first {
            self.make_room();
        }
        let metrics = &self.instance.metrics.threads[self.session.thread];
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        let client = &self.session.client;
        let read = poll_fn(|context| {
            let polled = if is_first {
                poll_first(stream, &mut first, context)
            } else {
                tokio_util::io::poll_read_buf(Pin::new(&mut *stream), context, buffer)
            };
            match polled {
                Poll::Ready(result) => Poll::Ready(Ok(result)),
                Poll::Pending => client.poll_told(context).map(Err),
            }
        });
        match read.await {
            Err(told) => Ok(Some(told)),
            Ok(Ok(0) | Err(_)) => Err(Over),
            Ok(Ok(count)) => {
                if is_first {
                    *buffer = first;
                }
                metrics.reads.add(1);
                metrics.bytes_in.add(count as u64);
                self.is_read_full = self.buffer.len() == self.buffer.capacity();
                self.used_max = self.used_max.max(self.buffer.len());
                if client.is_closed() {
                    Err(Over)
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Room for the next read: little for a quiet client, more the more it sends.
    fn make_room(&mut self) {
        let free = self.buffer.capacity() - self.buffer.len();
        // A full-grown buffer grows on only for a request that needs it: to grow and shrink by
        // turns would leave holes in the heap that only items fill, never a buffer again.
        let is_grown = self.buffer.capacity() >= READ_BYTES_KEPT;
        if free >= READ_BYTES_MIN && (is_grown || !self.is_read_full) {
            return;
        }
        // An argument under way takes what it announced, but never more than as much again as
        // has come: what a peer only claims costs nothing.
        let wanted = self
            .decoder
            .wanted(&self.buffer[self.start..])
            .min(self.buffer.len());
        let more = self.buffer.capacity() * READ_GROWTH;
        let more = more.clamp(READ_BYTES_FIRST, READ_BYTES_KEPT);
        self.buffer.reserve_exact(wanted.max(more));
    }

    /// Sends all replies.
    async fn flush(&mut self) -> Result<(), Over> {
        if self.reply.is_empty() {
            return Ok(());
        }
        let metrics = &self.instance.metrics.threads[self.session.thread];
        let limit = self.session.config.client_output_buffer_limit.normal;
        self.soft_limit.added(limit, self.reply.len() as u64);
        let mut sent = 0;
        while sent < self.reply.len() {
            let (stream, client) = (&mut self.stream, &self.session.client);
            let rest = &self.reply.bytes()[sent..];
            client.doing.reply.store(rest.len(), Ordering::Relaxed);
            let is_over_hard = limit.hard_bytes > 0 && rest.len() as u64 > limit.hard_bytes;
            let write = poll_fn(|context| {
                if let Poll::Ready(result) = Pin::new(&mut *stream).poll_write(context, rest) {
                    return Poll::Ready(result.map_err(|_| Over));
                }
                // The socket takes no more now.
                if client.poll_closed(context).is_ready() || is_over_hard {
                    return Poll::Ready(Err(Over));
                }
                Poll::Pending
            });
            let wrote = match self.soft_limit.next_look(limit) {
                Ok(None) => write.await,
                Ok(Some(look)) => match tokio::time::timeout_at(look, write).await {
                    Ok(wrote) => wrote,
                    Err(_) => continue,
                },
                Err(Overdue) => {
                    self.note_output_limit(sent);
                    return Err(Over);
                }
            };
            match wrote {
                Ok(count) if count > 0 => sent += count,
                Ok(_) | Err(Over) => {
                    if is_over_hard {
                        self.note_output_limit(sent);
                    }
                    return Err(Over);
                }
            }
            let unread = self.reply.len() - sent;
            self.soft_limit.taken(limit, unread as u64);
            metrics.writes.add(1);
        }
        metrics.bytes_out.add(sent as u64);
        let (stream, client) = (&mut self.stream, &self.session.client);
        // TLS may hold a record back.
        let flushed = poll_fn(|context| {
            if let Poll::Ready(result) = Pin::new(&mut *stream).poll_flush(context) {
                return Poll::Ready(result.map_err(|_| Over));
            }
            client.poll_closed(context).map(|()| Err(Over))
        });
        flushed.await?;
        client.doing.reply.store(0, Ordering::Relaxed);
        self.reply.clear();
        Ok(())
    }

    /// Tells the client that this is the end: over TLS, it could not tell from a cut otherwise.
    /// Waits for nothing.
    async fn say_goodbye(&mut self) {
        let stream = &mut self.stream;
        poll_fn(|context| {
            let _ = Pin::new(&mut *stream).poll_shutdown(context);
            Poll::Ready(())
        })
        .await;
    }

    fn note_output_limit(&self, sent: usize) {
        self.instance.metrics.output_limit_closes.add_shared(1);
        tracing::warn!(
            client = self.session.client.id,
            peer = self.session.client.peer,
            bytes = self.reply.len() - sent,
            "closing client that does not take its replies (client-output-buffer-limit)"
        );
    }
}

/// Reads by way of the stack; only what came gets memory.
fn poll_first(
    stream: &mut Stream,
    buffer: &mut Vec<u8>,
    context: &mut std::task::Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut bytes = [0; READ_BYTES_ON_STACK];
    let mut room = ReadBuf::new(&mut bytes);
    std::task::ready!(Pin::new(stream).poll_read(context, &mut room))?;
    let came = room.filled();
    if !came.is_empty() {
        buffer.reserve_exact(READ_BYTES_FIRST);
        buffer.extend_from_slice(came);
    }
    Poll::Ready(Ok(came.len()))
}

/// What a client may send ahead while one of its reads waits.
const READ_AHEAD_MAX: usize = 64 * 1024;
/// Room that every read has.
const READ_BYTES_MIN: usize = 512;
/// The first bytes of a client that was quiet.
const READ_BYTES_ON_STACK: usize = 1024;
/// The read buffer of a client that is not quiet, at first.
const READ_BYTES_FIRST: usize = 16 * 1024;
/// A buffer that so many batches in a row used less than a quarter of is halved.
const SMALL_BATCHES: u32 = 8;
/// A client that fills its room gets so much more of it.
const READ_GROWTH: usize = 4;
/// Read-buffer memory that a connection keeps between requests; one read takes at most as much.
const READ_BYTES_KEPT: usize = 64 * 1024;
