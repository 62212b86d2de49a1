//! One client of the front, while it shares a connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::class::{Class, Verb, classify, is_paused_with_writes};
use super::guard::VisitGuard;
use super::host::FrontHost;
use super::outbox::Outbox;
use super::own::{Asked, Asker, Standing};
use super::pool::Pool;
use super::session::{Said, Session, Then};
use super::stale::Fallback;
use super::unread::Unread;
use super::waiting::{Keys, Selected, Waiting};
use super::{Front, kill, passing, pause, waiting};
use crate::command::keys_of::for_each_key;
use crate::command::spec::Command;
use crate::instance::clients::{Client, Told};
use crate::near::{Now, Why};
use crate::resp::{Decoder, Request};
use crate::store::Announced;
use crate::upstream::buffer::Buffer;
use crate::upstream::passthrough::{Ended, Visit};
use crate::upstream::shared::{Coherence as _, Link};

/// Requests that are looked at together.
pub(super) const BATCH_MAX: usize = 32;
/// A longer request is a private connection's business: there it passes through in pieces.
pub(super) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Bytes of requests held.
const REQUESTS_BYTES_MAX: usize = REQUEST_BYTES_MAX + 128 * 1024;
/// Replies owed to one client, bytes of the requests that they are for, and bytes of them that it
/// has not taken: beyond any, no further request is looked at.
const OWED_MAX: usize = 1024;
const ASKED_BYTES_MAX: usize = 1024 * 1024;
const HELD_BYTES_MAX: usize = 256 * 1024;
/// Memory that an idle client's buffer may keep.
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// How a client's time over the shared connection ended.
pub(super) enum Left {
    /// It is over.
    Ended,
    /// Its next request needs a connection of its own.
    Private,
}

/// What is known of a request before it is served.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) command: Option<&'static Command>,
    pub(super) class: Class,
    /// The hash of its only key, where it is looked up.
    hash: u64,
    /// Where it is to be looked for.
    announced: Option<Announced>,
}

/// Serves a client until its connection is over.
pub async fn serve(
    pool: Rc<Pool>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    client: Arc<Client>,
) {
    let mut shared = Shared::new(&pool, &client);
    let front = Arc::clone(&pool.front);
    let visit_guard = Arc::new(VisitGuard::new(&pool));
    let mut visit = Visit::default();
    while let Left::Private = shared.run(&mut stream).await {
        if std::mem::take(&mut shared.pauses_writes) {
            front.settle().await;
        }
        front.privates.fetch_add(1, Ordering::Relaxed);
        visit.requests = std::mem::take(&mut shared.requests);
        visit.session = std::mem::take(&mut shared.session.openings);
        let guard = Arc::<VisitGuard>::clone(&visit_guard);
        client.doing.is_private.store(true, Ordering::Relaxed);
        let host = FrontHost {
            instance: Arc::clone(&front.instance),
            client: Arc::clone(&client),
            thread: pool.thread,
            shared: Some((Arc::clone(&front), shared.session.is_authenticated)),
        };
        let visiting = passing::visit(&front.upstream, &mut stream, &mut visit, guard, host);
        if Box::pin(visiting).await != Ended::Free {
            return;
        }
        client.doing.is_private.store(false, Ordering::Relaxed);
        if visit_guard.take_seen() {
            // What it has seen there must not be newer than what it will see here.
            let _ = front.tracker.fence().await;
        }
        shared.requests = std::mem::take(&mut visit.requests);
        let openings = std::mem::take(&mut visit.session);
        shared.session.come_back(&front, &client, openings);
        shared.session.has_own_connection = visit.keeps_connection();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pool.leave(self.client.id);
        self.front.instance.policy.leave_elsewhere(self.client.id);
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "any of them may hold without the others"
)]
pub(super) struct Shared {
    pub(super) pool: Rc<Pool>,
    pub(super) front: Arc<Front>,
    pub(super) client: Arc<Client>,
    pub(super) session: Session,
    pub(super) outbox: Rc<Outbox>,
    /// From the client.
    pub(super) requests: Buffer,
    decoder: Decoder,
    /// For the client, in order.
    pub(super) replies: Buffer,
    unflushed: bool,
    unread: Unread,
    /// What is to be done when the reply that it depends on has come.
    pending: Option<(Rc<Cell<Selected>>, Then)>,
    wants_private: bool,
    /// What comes next has to wait for all replies that are owed.
    pub(super) waits_for_replies: bool,
    /// Its next request is one to pause writes.
    pauses_writes: bool,
    /// Nothing more is read from it.
    is_ending: bool,
    /// What it sent behind QUIT means nothing.
    has_quit: bool,
    pub(super) arguments: Vec<u8>,
}

/// Whether a request was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Taken,
    /// It was taken, and the next one must wait for what comes of it.
    TakenAndWait,
    /// It is to be looked at again when all replies owed have come.
    Wait,
    Private,
    /// It was taken, and it is the last one.
    End,
}

impl Shared {
    pub(super) fn new(pool: &Rc<Pool>, client: &Arc<Client>) -> Self {
        let front = Arc::clone(&pool.front);
        Self {
            pool: Rc::clone(pool),
            session: Session::new(&front),
            front,
            client: Arc::clone(client),
            outbox: pool.join(client.id),
            requests: Buffer::default(),
            decoder: Decoder::default(),
            replies: Buffer::default(),
            unflushed: false,
            unread: Unread::default(),
            pending: None,
            wants_private: false,
            waits_for_replies: false,
            pauses_writes: false,
            is_ending: false,
            has_quit: false,
            arguments: Vec::new(),
        }
    }

    /// Serves the client until it leaves, or needs a connection of its own.
    pub(super) async fn run(&mut self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Left {
        self.wants_private = false;
        poll_fn(|context| self.poll(context, stream)).await
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Poll<Left> {
        self.outbox.register(context);
        if self.outbox.is_torn() {
            self.wants_private = false;
            self.end();
        }
        loop {
            let mut moved = false;
            while self.take_requests() {
                moved = true;
            }
            match self.write(context, stream) {
                Ok(wrote) => moved |= wrote,
                Err(_) => return Poll::Ready(Left::Ended),
            }
            match self.read(context, stream) {
                Ok(read) => moved |= read,
                Err(_) => return Poll::Ready(Left::Ended),
            }
            let is_done = self.outbox.is_idle()
                && self.replies.is_empty()
                && !self.unflushed
                && !self.outbox.has_ready();
            if is_done && self.wants_private {
                return Poll::Ready(Left::Private);
            }
            if is_done && self.is_ending && !moved {
                return Poll::Ready(Left::Ended);
            }
            if !moved {
                match self.client.poll_told(context) {
                    Poll::Ready(Told::Close) => return Poll::Ready(Left::Ended),
                    Poll::Ready(Told::Finish) if !self.is_ending => self.is_ending = true,
                    Poll::Ready(Told::Quiet) => {
                        self.requests.release();
                        self.client.doing.query_free.store(0, Ordering::Relaxed);
                    }
                    Poll::Ready(Told::Pushes) => {
                        let pushes = self.client.take_pushes();
                        self.replies.extend(&pushes);
                    }
                    Poll::Ready(Told::Finish) | Poll::Pending => return Poll::Pending,
                }
            }
        }
    }

    /// Writes what is in order. An error means that the client has gone.
    fn write(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<bool> {
        let mut moved = false;
        loop {
            if self.replies.is_empty() {
                if !self.outbox.has_ready() {
                    break;
                }
                let mut spare = std::mem::take(&mut self.replies).into_room();
                if spare.capacity() > SPARE_BYTES_MAX {
                    spare = Vec::new();
                }
                self.replies = Buffer::of(self.outbox.take(spare));
            }
            let len = self.replies.len();
            match self.replies.poll_drain(context, stream, len) {
                Poll::Pending => {
                    if self.is_over_output_limit(context) {
                        return Err(io::ErrorKind::OutOfMemory.into());
                    }
                    return Ok(moved);
                }
                Poll::Ready(Ok(written)) => {
                    let thread = &self.front.instance.metrics.threads[self.pool.thread];
                    thread.writes.add(1);
                    thread.bytes_out.add(written as u64);
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
            self.unflushed = true;
            moved = true;
        }
        let config = || self.front.instance.config();
        self.unread
            .drain(|| config().client_output_buffer_limit.normal);
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(stream).poll_flush(context)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(moved)
    }

    fn is_over_output_limit(&mut self, context: &mut Context<'_>) -> bool {
        let instance = &self.front.instance;
        let limit = instance.config().client_output_buffer_limit.normal;
        let bytes = self.outbox.bytes() + self.replies.len();
        let is_over = self.unread.is_over(context, limit, bytes as u64);
        if is_over {
            instance.metrics.output_limit_closes.add_shared(1);
            tracing::warn!(
                client = self.client.id,
                peer = self.client.peer,
                bytes,
                "closing client that does not take its replies (client-output-buffer-limit)"
            );
        }
        is_over
    }

    /// Reads from the client, if there is room. An error means that it has gone.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<bool> {
        if self.is_ending
            || self.wants_private
            || self.requests.len() >= REQUESTS_BYTES_MAX
            || self.is_full()
        {
            return Ok(false);
        }
        match self.requests.poll_fill(context, stream, REQUESTS_BYTES_MAX) {
            Poll::Pending => return Ok(false),
            Poll::Ready(read) => {
                let read = read?;
                self.is_ending = read == 0;
                let thread = &self.front.instance.metrics.threads[self.pool.thread];
                thread.reads.add(1);
                thread.bytes_in.add(read as u64);
                let room = self.requests.room();
                self.client.doing.query_free.store(room, Ordering::Relaxed);
            }
        }
        Ok(true)
    }

    /// Whether so much is owed to it that no more is taken.
    fn is_full(&self) -> bool {
        self.outbox.owed() >= OWED_MAX
            || self.outbox.asked() >= ASKED_BYTES_MAX
            || self.outbox.bytes() + self.replies.len() >= HELD_BYTES_MAX
    }

    /// Takes what is complete of the requests. True if something was done.
    fn take_requests(&mut self) -> bool {
        if self.wants_private || self.has_quit || self.is_full() || !self.settle_pending() {
            return false;
        }
        if self.waits_for_replies && !self.outbox.is_idle() {
            return false;
        }
        self.waits_for_replies = false;
        let requests = std::mem::take(&mut self.requests);
        let mut decoder = std::mem::take(&mut self.decoder);
        let (limits, batch) = self.session.limits(&self.front);
        let decoded = decoder.decode(requests.bytes(), batch, &limits);
        let count = decoder.len();
        let taken = self.take_batch(&decoder, requests.bytes());
        self.requests = requests;
        if self.has_quit {
            self.end();
            return true;
        }
        if count == 0 {
            let held = self.requests.len();
            if decoded.is_ok() && held + decoder.wanted(self.requests.bytes()) > REQUEST_BYTES_MAX {
                self.wants_private = true;
                self.decoder = Decoder::default();
                return true;
            }
        }
        if taken == count {
            let consumed = decoder.consume();
            self.requests.consume(consumed);
            self.decoder = decoder;
            if let Err(error) = decoded {
                let mut reply = b"-".to_vec();
                reply.extend_from_slice(&error.reply_text());
                reply.extend_from_slice(b"\r\n");
                self.outbox.say(&reply);
                self.end();
                return true;
            }
            if self.is_ending && count == 0 {
                self.requests.consume(self.requests.len());
            }
            return count > 0 || consumed > 0;
        }
        if taken > 0 {
            self.requests.consume(decoder.end_of(taken - 1));
        }
        // What was not taken is decoded again.
        taken > 0 || self.wants_private
    }

    fn end(&mut self) {
        self.is_ending = true;
        self.requests.consume(self.requests.len());
        self.decoder = Decoder::default();
    }

    /// Does what had to wait for a reply. False if it has not come.
    fn settle_pending(&mut self) -> bool {
        let Some((selected, _)) = &self.pending else {
            return true;
        };
        if !self.outbox.is_idle() {
            return false;
        }
        let succeeded = selected.get() == Selected::Yes;
        if let Some((_, then)) = self.pending.take()
            && succeeded
        {
            self.session.apply(&self.front, &self.client, then);
        }
        true
    }

    /// Serves decoded requests, as many as can be; returns how many were taken.
    fn take_batch(&mut self, decoder: &Decoder, bytes: &[u8]) -> usize {
        let count = decoder.len();
        if count == 0 {
            return 0;
        }
        let store = &self.front.instance.store;
        let mut known = [Known {
            command: None,
            class: Class::Private,
            hash: 0,
            announced: None,
        }; BATCH_MAX];
        let near_database = self.near_database();
        for (at, known) in known.iter_mut().enumerate().take(count) {
            let request = decoder.at(at, bytes);
            let (command, class) = classify(&request);
            let (mut hash, mut announced) = (0, None);
            if class == Class::Near {
                hash = store.hash(request.argument(1));
                announced = near_database.and_then(|db| self.announce(db, hash));
            }
            *known = Known {
                command,
                class,
                hash,
                announced,
            };
        }
        let now = self.front.now();
        let announced = known[..count].iter().filter_map(|known| known.announced);
        // One alone has nothing to do while its item is fetched.
        if count > 1 {
            announced.for_each(Announced::prefetch_item);
        }
        let mut taken = 0;
        let mut start = 0;
        for (at, known) in known.iter().enumerate().take(count) {
            let request = decoder.at(at, bytes);
            let end = decoder.end_of(at);
            if self.is_behind_joined(&request, known) {
                break;
            }
            let flow = self.take(&request, &bytes[start..end], *known, now);
            match flow {
                Flow::Wait => break,
                Flow::Private => {
                    self.wants_private = true;
                    break;
                }
                Flow::Taken | Flow::TakenAndWait | Flow::End => taken += 1,
            }
            start = end;
            self.has_quit |= flow == Flow::End;
            if flow != Flow::Taken || self.is_full() {
                break;
            }
        }
        let metrics = &self.front.instance.metrics;
        metrics.threads[self.pool.thread].requests.add(taken as u64);
        self.publish(known[count - 1].command, now);
        taken
    }

    /// What others see of the client.
    fn publish(&self, last: Option<&'static Command>, now: Now) {
        let doing = &self.client.doing;
        doing
            .active_ms
            .store(now.mono_ns / 1_000_000, Ordering::Relaxed);
        let database = usize::try_from(self.session.database).unwrap_or(usize::MAX);
        doing.db.store(database, Ordering::Relaxed);
        if let Some(last) = last {
            doing.command.store(last.index() + 1, Ordering::Relaxed);
        }
    }

    fn take(&mut self, request: &Request<'_>, raw: &[u8], known: Known, now: Now) -> Flow {
        if self.front.tracker.is_locked_out() && known.class != Class::Session(Verb::Quit) {
            return Flow::Private;
        }
        if !self.session.may(known.class) && !self.session.is_let_in(&self.front) {
            self.outbox.say(b"-NOAUTH Authentication required.\r\n");
            return Flow::Taken;
        }
        if is_paused_with_writes(known.command, known.class) && self.front.holds_writes(now.mono_ns)
        {
            return Flow::Private;
        }
        match (known.class, known.command) {
            (Class::Near, Some(command)) => self.near(request, raw, command, known.hash, now),
            (Class::NearEach, Some(command)) => self.near_each(request, raw, command, now),
            (Class::Writes, Some(command)) => {
                if let Some(flow) = self.set_in_steps(command, request) {
                    return flow;
                }
                let raw = self.with_tags(command, request, raw);
                if self.front.instance.policy.is_on() {
                    return self.write_by_rule(command, request, &raw);
                }
                self.write_keys(command, request, &raw);
            }
            (Class::Unknown, command) => {
                let place = self.expect();
                let keys = self.begin_write(command, request);
                self.outbox.begin_unknown();
                let pool = Rc::clone(&self.pool);
                self.send(raw, Waiting::Unknown(pool, place, keys, Vec::new()));
            }
            (Class::Sweeps, _) => {
                self.front.flush();
                self.outbox.begin_unknown();
                let place = self.expect();
                self.send(raw, Waiting::Sweeps(Rc::clone(&self.pool), place));
            }
            (Class::Session(verb), _) => {
                if !self.outbox.is_idle() {
                    return Flow::Wait;
                }
                return self.say(verb, request, raw);
            }
            (Class::Own, command) => {
                let about_tags = command.and_then(|command| self.about_tags(command, request));
                return about_tags.unwrap_or_else(|| self.own(request));
            }
            (Class::Kill, _) => {
                // Each takes a connection.
                if !self.outbox.is_idle() {
                    return Flow::Wait;
                }
                let at = self.outbox.expect();
                kill::send(&self.front.upstream, raw, &self.outbox, at);
            }
            (Class::Private, Some(command)) if command.name == "client|pause" => {
                if let Some(ms) = pause::of_writes(request) {
                    self.front.pause_writes(ms);
                    self.pauses_writes = true;
                }
                return Flow::Private;
            }
            (Class::Private, _) => return Flow::Private,
            (Class::Plain, Some(command)) if command.has_keys() => {
                self.front.near.note_uncacheable();
                self.observe(command, request, raw);
            }
            (Class::Plain | Class::Near | Class::NearEach | Class::Writes, _) => self.plain(raw),
        }
        Flow::Taken
    }

    pub(super) fn write_keys(&self, command: &Command, request: &Request<'_>, raw: &[u8]) {
        let place = self.expect();
        let keys = self.begin_write(Some(command), request);
        let pool = Rc::clone(&self.pool);
        self.send(raw, Waiting::Writes(pool, place, keys));
        self.tag_by_rules(command, request);
    }

    pub(super) fn plain(&mut self, raw: &[u8]) {
        let place = self.expect();
        self.send(raw, Waiting::Plain(place));
    }

    pub(super) fn expect(&self) -> waiting::Place {
        waiting::Place {
            at: self.outbox.expect(),
            outbox: Rc::clone(&self.outbox),
        }
    }

    pub(super) fn link(&self) -> &Rc<Link<Waiting>> {
        self.pool.link(self.session.protocol, self.client.id)
    }

    pub(super) fn send(&self, raw: &[u8], waiting: Waiting) {
        self.outbox.ask(raw.len());
        self.link().send(self.session.database, raw, waiting);
    }

    /// A read that is not kept, of keys that may be.
    pub(super) fn observe(&mut self, command: &Command, request: &Request<'_>, raw: &[u8]) {
        self.observe_or(command, request, raw, None);
    }

    /// The same, of which there is something else to say if upstream fails.
    pub(super) fn observe_or(
        &self,
        command: &Command,
        request: &Request<'_>,
        raw: &[u8],
        otherwise: Option<Box<Fallback>>,
    ) {
        let place = self.expect();
        let keys = self.use_keys(command, request);
        let pool = Rc::clone(&self.pool);
        self.send(raw, Waiting::Observes(pool, place, keys, otherwise));
    }

    /// The keys of the request whose place was just taken.
    fn use_keys(&self, command: &Command, request: &Request<'_>) -> Keys {
        let mut keys = Keys(Vec::new());
        for_each_key(command, request, |at| {
            keys.0.push(request.argument(at).into());
        });
        let store = &self.front.instance.store;
        for key in &keys.0 {
            self.outbox.use_key(store.hash(key));
        }
        keys
    }

    /// A write begins, at the place that was just taken: voids what it will write, of what is
    /// known of that.
    pub(super) fn begin_write(&self, command: Option<&Command>, request: &Request<'_>) -> Keys {
        let Some(command) = command else {
            return Keys(Vec::new());
        };
        let keys = self.use_keys(command, request);
        let policy = &self.front.instance.policy;
        let db = u16::try_from(self.session.database);
        for key in &keys.0 {
            self.front.void(key, Why::WriteStart);
            if let Ok(db) = db {
                policy.made_elsewhere(self.client.id, db, key);
            }
        }
        keys
    }

    /// What the front is asked of itself.
    fn own(&self, request: &Request<'_>) -> Flow {
        let asker = Asker {
            instance: &self.front.instance,
            client: &self.client,
            thread: self.pool.thread,
            database: self.session.database,
            protocol: self.session.protocol,
            standing: Standing::Operator,
        };
        let (reply, ended) = asker.ask(request);
        self.outbox.say(&reply);
        self.front.follow_settings();
        match ended {
            Asked::Stays => Flow::Taken,
            Asked::Leaves => Flow::End,
        }
    }

    /// What a client says of its connection.
    fn say(&mut self, verb: Verb, request: &Request<'_>, raw: &[u8]) -> Flow {
        match self.session.say(&self.front, &self.client, verb, request) {
            Said::Answer(reply) => {
                self.outbox.say(&reply);
                Flow::Taken
            }
            Said::Ask { request, then } => {
                let selected = Rc::new(Cell::new(Selected::Unknown));
                let waiting = Waiting::Select(self.expect(), Rc::clone(&selected));
                let link = match then {
                    Then::Hello { protocol, .. } => self.pool.link(protocol, self.client.id),
                    Then::Select(_) => self.link(),
                };
                let bytes = request.as_deref().unwrap_or(raw);
                if matches!(then, Then::Select(_)) {
                    link.send_select(bytes, waiting);
                } else {
                    link.send(self.session.database, bytes, waiting);
                }
                self.pending = Some((selected, then));
                Flow::TakenAndWait
            }
            Said::Plain => {
                self.plain(raw);
                Flow::Taken
            }
            Said::Private => Flow::Private,
            Said::Goodbye => {
                self.outbox.say(b"+OK\r\n");
                Flow::End
            }
        }
    }
}
