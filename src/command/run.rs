//! How requests come to run: checks, locks, handler, bookkeeping.
//!
//! A pipeline is run in batches of up to [`BATCH_MAX`]. First all names are looked up and all keys
//! announced to the store, so that their cache misses overlap; then the requests run in order. The
//! clock is read around the batch rather than around each request: of quick commands each is booked
//! the same part of the time, one that may be slow is timed alone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::key_spec::{KeySearch, Keys};
use super::keys_of::for_each_key;
use super::lookup::{self, LookupError};
use super::server::shown;
use super::spec::{Command, Flags};
use super::{CommandError, Context, reads, through, transactions};
use crate::clock;
use crate::config::{MaxmemoryPolicy, ProtectedCommand};
use crate::instance::Instance;
use crate::instance::session::{Passed, Replies, Session};
use crate::keyspace::View;
use crate::metrics::ThreadMetrics;
use crate::metrics::slow_log::{SlowEntry, shortened};
use crate::resp::{Decoder, Reply, Request};
use crate::store::{Announced, Locked};

/// Requests that are looked at together.
pub const BATCH_MAX: usize = 32;

/// Replies that wait for the socket before no further command is run.
const REPLY_BYTES_HIGH: usize = 256 * 1024;
/// A request or a reply beyond this many bytes is timed alone.
const QUICK_BYTES_MAX: usize = 16 * 1024;
/// With a slow log for anything below this, each command is timed alone.
const AVERAGED_BELOW: Duration = Duration::from_millis(1);

/// Why a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it ran.
    Done,
    /// The replies so far should be sent first.
    ReplyIsLong,
    /// The connection is to be closed behind the replies.
    Closing,
    /// The next request waits for values, or for origins to take what it writes; they are in the
    /// session.
    Waits,
    /// The next request has to wait for the end of a pause.
    Paused {
        /// Whether it may change keys.
        writes: bool,
    },
}

/// A request on its way.
#[derive(Clone, Copy)]
struct Resolved {
    command: Result<&'static Command, LookupError>,
    /// The hash of its only key.
    hash: Option<u64>,
    /// Where that key is to be looked for.
    announced: Option<Announced>,
}

/// Where the replies of a batch go, and who counts.
pub struct Runner<'a> {
    /// What all threads share.
    pub instance: &'a Instance,
    /// The client.
    pub session: &'a mut Session,
    /// Its write buffer.
    pub reply: &'a mut Reply,
}

impl Runner<'_> {
    /// Runs the decoded requests from index `first` on. Returns how many ran, and why it ended.
    pub fn run(&mut self, decoder: &Decoder, buffer: &[u8], first: usize) -> (usize, Ended) {
        self.session.refresh_config(self.instance);
        let count = decoder.len() - first;
        debug_assert!(count <= BATCH_MAX, "the decoder was asked for no more");
        let mut resolved = [Resolved {
            command: Err(LookupError::UnknownCommand),
            hash: None,
            announced: None,
        }; BATCH_MAX];
        for (index, slot) in resolved.iter_mut().enumerate().take(count) {
            let request = decoder.at(first + index, buffer);
            *slot = self.resolve(&request);
        }
        // The buckets are on their way while the clocks are read.
        let metrics = &self.instance.metrics.threads[self.session.thread];
        let mut timing = Timing::start(self.session);
        let now_ms = clock::unix_ms();
        let announced = resolved[..count].iter().filter_map(|slot| slot.announced);
        announced.for_each(Announced::prefetch_item);
        let mut ended = Ended::Done;
        let mut ran = 0;
        for slot in &resolved[..count] {
            let request = decoder.at(first + ran, buffer);
            if let Some(pause) = self.pause(slot) {
                ended = pause;
                break;
            }
            let reply_len = self.reply.len();
            let Some(passed) = self.pass(slot, &request) else {
                ended = Ended::Waits;
                break;
            };
            timing.begin(metrics, slot, &request);
            let replies = self.session.replies;
            self.one(metrics, slot, &request, now_ms, passed);
            if !self.session.reads.waits.is_empty() {
                // A reply that is to be skipped is that of the run that has one.
                self.session.replies = replies;
                let behind = (first + ran + 1..decoder.len()).map(|at| decoder.at(at, buffer));
                reads::look_ahead(self.instance, self.session, behind, now_ms);
                ended = Ended::Waits;
                break;
            }
            let reply_len = self.reply.len().saturating_sub(reply_len);
            timing.end(self, metrics, slot, &request, reply_len);
            reads::ran(self.session, slot.command.ok());
            ran += 1;
            if self.session.closing {
                ended = Ended::Closing;
                break;
            }
            if self.reply.len() > REPLY_BYTES_HIGH && ran < count {
                ended = Ended::ReplyIsLong;
                break;
            }
        }
        timing.finish(metrics);
        metrics.requests.add(ran as u64);
        if ended == Ended::Done {
            self.session.reads.arrived.clear();
        }
        (ran, ended)
    }

    /// Runs one request by itself: of a client whose other requests go elsewhere.
    pub fn run_one(&mut self, request: &Request<'_>) {
        self.session.refresh_config(self.instance);
        let slot = self.resolve(request);
        let metrics = &self.instance.metrics.threads[self.session.thread];
        let mut timing = Timing::start(self.session);
        let reply_len = self.reply.len();
        self.one(metrics, &slot, request, clock::unix_ms(), Ok(()));
        let reply_len = self.reply.len().saturating_sub(reply_len);
        timing.end(self, metrics, &slot, request, reply_len);
        timing.finish(metrics);
    }

    #[inline]
    fn resolve(&self, request: &Request<'_>) -> Resolved {
        let command = lookup::resolve(request);
        let hash = match command {
            Ok(command) if has_one_key(command) => {
                Some(self.instance.store.hash(request.argument(1)))
            }
            Ok(_) | Err(_) => None,
        };
        let (store, db) = (&self.instance.store, self.session.db);
        Resolved {
            command,
            hash,
            announced: hash.and_then(|hash| store.announce(db, hash)),
        }
    }

    fn pause(&self, slot: &Resolved) -> Option<Ended> {
        let Ok(command) = slot.command else {
            return None;
        };
        let writes = command.flags.contains(Flags::WRITE)
            || command.flags.contains(Flags::MAY_REPLICATE)
            || transactions::writes(self.session, command);
        if !self.instance.pause.concerns(writes) || command.name == "client|unpause" {
            return None;
        }
        if !self.session.is_authenticated && !command.flags.contains(Flags::NO_AUTH) {
            return None; // It is refused at once.
        }
        Some(Ended::Paused { writes })
    }

    /// Has a request written to its origins first, where rules say so: nothing, if origins have to
    /// be asked now; else, whether it is refused.
    fn pass(&mut self, slot: &Resolved, request: &Request<'_>) -> Option<Result<(), Vec<u8>>> {
        let table = self.session.reads.table.as_ref();
        let Some(table) = table.filter(|table| table.has_through()).cloned() else {
            return Some(Ok(()));
        };
        let Ok(command) = self.admit(slot, request) else {
            return Some(Ok(()));
        };
        match std::mem::take(&mut self.session.reads.through) {
            Passed::Answered(Ok(passage)) => {
                self.session.reads.through = Passed::Open(passage);
                return Some(Ok(()));
            }
            Passed::Answered(Err(refused)) => return Some(Err(refused.text.as_bytes().to_vec())),
            Passed::No | Passed::Asked(_) | Passed::Open(_) => {}
        }
        let is_queued = transactions::is_queued(self.session, command);
        let (db, asked) = (self.session.db, (command, request));
        match through::needs(self.instance, &table, db, asked, is_queued) {
            through::Needs::Nothing => Some(Ok(())),
            through::Needs::Refusal(error) => Some(Err(error.to_string().into_bytes())),
            through::Needs::Origins(writes) => {
                self.session.reads.through = Passed::Asked(writes);
                None
            }
        }
    }

    /// Behind a write that origins took: if the cache did not take it, its keys are removed. Other
    /// writes of them may go on.
    #[cold]
    fn passed(&mut self, reply_len: usize) {
        let is_refused = self.reply.bytes().get(reply_len) == Some(&b'-');
        let passed = std::mem::take(&mut self.session.reads.through);
        if let Passed::Open(passage) = passed
            && !is_refused
        {
            passage.complete();
        }
    }

    /// One request, whatever comes of it.
    fn one(
        &mut self,
        metrics: &ThreadMetrics,
        slot: &Resolved,
        request: &Request<'_>,
        now_ms: u64,
        passed: Result<(), Vec<u8>>,
    ) {
        let reply_len = self.reply.len();
        // What is skipped is the reply of the command after CLIENT REPLY SKIP.
        if self.session.replies == Replies::SkipNext {
            self.session.replies = Replies::Skip;
        }
        match passed.and_then(|()| self.admit(slot, request)) {
            Ok(command) if transactions::is_queued(self.session, command) => {
                transactions::queue(self.session, self.reply, command, request);
            }
            Ok(command) => self.call(metrics, command, slot.hash, request, now_ms),
            Err(_) if is_from_browser(slot, request) => {
                tracing::warn!(
                    client = self.session.client.peer,
                    "possible attack: somebody is sending POST or Host: commands, likely a browser \
                     that was made to (cross protocol scripting); connection closed"
                );
                self.session.closing = true;
            }
            Err(error) => {
                let error = transactions::refusal(slot.command, error);
                transactions::spoil(self.session, self.instance, &error);
                if let Ok(command) | Err(LookupError::WrongArity(command)) = slot.command {
                    metrics.commands[command.index()].rejected.add(1);
                }
                self.instance.metrics.errors.count(&error);
                self.reply.error(&error);
            }
        }
        if matches!(self.session.reads.through, Passed::Open(_)) {
            self.passed(reply_len);
        }
        match self.session.replies {
            Replies::On | Replies::SkipNext => {}
            Replies::Off => self.reply.truncate(reply_len),
            Replies::Skip => {
                self.reply.truncate(reply_len);
                self.session.replies = Replies::On;
            }
        }
    }

    /// The checks before a command runs, in Redis's order.
    fn admit(&self, slot: &Resolved, request: &Request<'_>) -> Result<&'static Command, Vec<u8>> {
        let command = slot.command.map_err(|error| error.text(request))?;
        if command.flags.contains(Flags::PROTECTED) && !self.may_debug() {
            return Err(DEBUG_DENIED.to_vec());
        }
        if !self.session.is_authenticated && !command.flags.contains(Flags::NO_AUTH) {
            return Err(b"NOAUTH Authentication required.".to_vec());
        }
        if self.session.transaction.is_some() {
            if command.flags.contains(Flags::NO_MULTI) {
                return Err(b"ERR Command not allowed inside a transaction".to_vec());
            }
            if command.flags.contains(Flags::DENYOOM) && self.is_hopelessly_full() {
                return Err(CommandError::OutOfMemory.to_string().into_bytes());
            }
            if transactions::needs_memory(self.session, command) && self.is_hopelessly_full() {
                let error = CommandError::OutOfMemory;
                return Err(
                    format!("EXECABORT Transaction discarded because of: {error}").into_bytes(),
                );
            }
        }
        Ok(command)
    }

    fn may_debug(&self) -> bool {
        match self.session.config.enable_debug_command {
            ProtectedCommand::No => false,
            ProtectedCommand::Yes => true,
            ProtectedCommand::Local => self.session.client.is_local,
        }
    }

    /// Whether not even the smallest item has room, and none can be made.
    fn is_hopelessly_full(&self) -> bool {
        let budget = self.instance.store.budget();
        let evicts = self.session.config.maxmemory_policy != MaxmemoryPolicy::NoEviction;
        let needed = if evicts { 0 } else { budget.used() } + SMALLEST_ITEM_BYTES;
        budget.max().is_some_and(|max| needed > max)
    }

    fn call(
        &mut self,
        metrics: &ThreadMetrics,
        command: &'static Command,
        hash: Option<u64>,
        request: &Request<'_>,
        now_ms: u64,
    ) {
        let locked = match hash {
            Some(hash) => self.instance.store.lock(hash),
            None => lock_keys(self.instance, self.session.db, command, request),
        };
        let mut context = Context {
            instance: self.instance,
            session: self.session,
            reply: self.reply,
            view: View::new(locked, now_ms),
            metrics,
        };
        invoke(&mut context, command, request);
    }
}

/// Whether a request is a line of HTTP: `POST` or `Host:`, by which Redis knows it too.
#[cold]
fn is_from_browser(slot: &Resolved, request: &Request<'_>) -> bool {
    let name = request.argument(0);
    matches!(slot.command, Err(LookupError::UnknownCommand))
        && (name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:"))
}

/// Locks the shards of the keys of a request.
fn lock_keys<'a>(
    instance: &'a Instance,
    db: u16,
    command: &Command,
    request: &Request<'_>,
) -> Locked<'a> {
    if !command.has_keys() {
        return instance.store.lock_none();
    }
    let hashes = hashes_of(instance, command, request);
    let locked = instance.store.lock_many(hashes.iter().copied());
    if hashes.len() > 1 {
        locked.announce(db, &hashes);
    }
    locked
}

/// The hashes of the keys of a request.
pub(super) fn hashes_of(instance: &Instance, command: &Command, request: &Request<'_>) -> Vec<u64> {
    let mut hashes = Vec::new();
    for_each_key(command, request, |index| {
        hashes.push(instance.store.hash(request.argument(index)));
    });
    hashes
}

/// Calls a handler whose keys are locked, and books what came of it.
pub(super) fn invoke(context: &mut Context<'_>, command: &'static Command, request: &Request<'_>) {
    let reply_len = context.reply.len();
    if let Err(error) = (command.handler)(context, request) {
        if error == CommandError::Waits {
            // As if it had not run.
            context.reply.truncate(reply_len);
            context.view.take_counts();
            return;
        }
        let error = error.to_string();
        context.instance.metrics.errors.count(error.as_bytes());
        context.metrics.commands[command.index()].failed.add(1);
        context.reply.truncate(reply_len);
        context.reply.error(error);
    }
    book_counts(context);
    if context.instance.clients.has_monitors()
        && !command.flags.contains(Flags::SKIP_MONITOR)
        && !command.flags.contains(Flags::ADMIN)
    {
        show_monitors(context, command, request);
    }
}

#[inline]
fn book_counts(context: &mut Context<'_>) {
    let (hits, misses, changes) = context.view.take_counts();
    let metrics = context.metrics;
    for (counter, count) in [
        (&metrics.hits, hits),
        (&metrics.misses, misses),
        (&metrics.changes, changes),
    ] {
        if count > 0 {
            counter.add(count);
        }
    }
}

fn show_monitors(context: &Context<'_>, command: &Command, request: &Request<'_>) {
    let at = clock::unix_micros();
    let client = &context.session.client;
    let peer = if client.is_unix {
        format!("unix:{}", client.peer)
    } else {
        client.peer.clone()
    };
    let mut line = format!(
        "+{}.{:06} [{} {}]",
        at / 1_000_000,
        at % 1_000_000,
        context.session.db,
        peer.trim_end_matches(":0")
    )
    .into_bytes();
    for argument in shown(command, request) {
        line.push(b' ');
        quote(&mut line, argument);
    }
    line.extend_from_slice(b"\r\n");
    let hard = context
        .session
        .config
        .client_output_buffer_limit
        .normal
        .hard_bytes;
    let limit = usize::try_from(hard).unwrap_or(usize::MAX);
    let limit = if limit == 0 { MONITOR_BYTES_MAX } else { limit };
    context.instance.clients.show_monitors(&line, limit);
}

/// Text in double quotes, as Redis quotes it (`sdscatrepr`).
pub fn quote(line: &mut Vec<u8>, text: &[u8]) {
    line.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x07 => line.extend_from_slice(b"\\a"),
            0x08 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            other => line.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

/// Who ran for how long.
struct Timing {
    since: Instant,
    /// Quick commands since then.
    quick: [u16; BATCH_MAX],
    quick_len: usize,
    each_alone: bool,
    tracks: bool,
}

impl Timing {
    fn start(session: &Session) -> Self {
        let config = &session.config;
        let each_alone = config
            .slowlog_log_slower_than
            .is_some_and(|than| than < AVERAGED_BELOW)
            || !config.latency_monitor_threshold.is_zero();
        Self {
            since: clock::now(),
            quick: [0; BATCH_MAX],
            quick_len: 0,
            each_alone,
            tracks: config.latency_tracking,
        }
    }

    #[inline]
    fn begin(&mut self, metrics: &ThreadMetrics, slot: &Resolved, request: &Request<'_>) {
        if self.quick_len > 0 && self.is_alone(slot, request) {
            self.finish(metrics);
        }
    }

    #[inline]
    fn end(
        &mut self,
        runner: &Runner<'_>,
        metrics: &ThreadMetrics,
        slot: &Resolved,
        request: &Request<'_>,
        reply_len: usize,
    ) {
        let Ok(command) = slot.command else { return };
        if reply_len > QUICK_BYTES_MAX || self.is_alone(slot, request) {
            let now = clock::now();
            let took = now - self.since;
            self.since = now;
            metrics.commands[command.index()].ran(1, nanos(took), self.tracks);
            book_slow(runner.instance, runner.session, command, request, took);
        } else {
            self.quick[self.quick_len] = command.index;
            self.quick_len += 1;
        }
    }

    /// Books the time since the last look at the clock to the quick commands, in equal parts.
    fn finish(&mut self, metrics: &ThreadMetrics) {
        if self.quick_len == 0 {
            return;
        }
        let now = clock::now();
        let each = nanos(now - self.since) / self.quick_len as u64;
        self.since = now;
        for &index in &self.quick[..self.quick_len] {
            metrics.commands[usize::from(index)].ran(1, each, self.tracks);
        }
        self.quick_len = 0;
    }

    #[inline]
    fn is_alone(&self, slot: &Resolved, request: &Request<'_>) -> bool {
        let Ok(command) = slot.command else {
            return false;
        };
        self.each_alone || !is_quick(command) || request.bytes_len() > QUICK_BYTES_MAX
    }
}

/// Whether every request of it has just one key, its first argument.
#[inline]
fn has_one_key(command: &Command) -> bool {
    matches!(
        command.key_search,
        KeySearch::Triple | KeySearch::Set | KeySearch::Bitfield
    ) && command.keys
        == Keys {
            first: 1,
            last: 1,
            step: 1,
        }
}

/// Whether it takes about the same short time whatever its arguments, unless they are long.
#[inline]
fn is_quick(command: &Command) -> bool {
    // SET is not FAST in Redis, which may have to free a big value of another type for it.
    command.flags.contains(Flags::FAST) || command.name == "set"
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// Notes a command in slow log and latency monitor, if it took that long.
pub(super) fn book_slow(
    instance: &Instance,
    session: &Session,
    command: &Command,
    request: &Request<'_>,
    took: Duration,
) {
    let config = &session.config;
    let threshold = config.latency_monitor_threshold;
    if !threshold.is_zero() && took >= threshold {
        let fast = command.flags.contains(Flags::FAST);
        let kind = if fast { "fast-command" } else { "command" };
        let millis = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        instance.latency.add(kind, clock::unix_ms() / 1000, millis);
    }
    let Some(than) = config.slowlog_log_slower_than else {
        return;
    };
    if took < than || command.flags.contains(Flags::SKIP_SLOWLOG) {
        return;
    }
    let entry = SlowEntry {
        id: 0,
        at: clock::unix_ms() / 1000,
        micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        arguments: shortened(shown(command, request).into_iter()),
        peer: session.client.peer.clone(),
        name: session.client.said.lock().name.clone(),
    };
    instance.slow_log.add(entry, config.slowlog_max_len);
}

/// Tells the others what this client is doing; once for a batch.
pub fn publish(session: &Session, reply: &Reply, instance: &Instance, command: Option<&Command>) {
    let doing = &session.client.doing;
    doing.db.store(usize::from(session.db), Ordering::Relaxed);
    doing
        .active_ms
        .store(instance.uptime_ms(), Ordering::Relaxed);
    if let Some(command) = command {
        doing.command.store(command.index() + 1, Ordering::Relaxed);
    }
    let transaction = session.transaction.as_ref();
    doing.queued.store(
        transaction.map_or(0, |t| t.queue.len() + 1),
        Ordering::Relaxed,
    );
    doing
        .queued_bytes
        .store(transaction.map_or(0, |t| t.bytes), Ordering::Relaxed);
    let protocol = if reply.protocol().version() == 3 {
        3
    } else {
        2
    };
    doing.protocol.store(protocol, Ordering::Relaxed);
}

/// Redis's words for a DEBUG that `enable-debug-command` does not allow.
const DEBUG_DENIED: &[u8] = b"ERR DEBUG command not allowed. If the enable-debug-command option \
is set to \"local\", you can run it from a local connection, otherwise you need to set this option \
in the configuration file, and then restart the server.";
/// What a monitor may leave unread where `client-output-buffer-limit` sets no bound.
const MONITOR_BYTES_MAX: usize = 64 * 1024 * 1024;
/// No item costs less.
const SMALLEST_ITEM_BYTES: usize = 48;
