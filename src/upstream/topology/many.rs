//! One connection to a whole cluster, which is to who holds it as one to a plain Redis.
//!
//! Requests are taken one by one, go to the masters of their keys, and their replies come back in
//! order. There are connections to those masters only that something was sent to. A request that
//! was answered by a redirection was not run, and goes where that says.
//!
//! The order of requests for a key holds: it has one master at a time, and when the map changes,
//! nothing more is taken until all that is under way is answered.
//!
//! What is said of the connection (`HELLO`, `CLIENT SETNAME` …) is said to every master, and again
//! to one that is connected to later. What cannot be followed at several masters (subscriptions,
//! `MONITOR`) makes it a plain connection to one of them.
//!
//! When a connection to a master is lost, so is the whole: what was read over it is not tracked any
//! more.

mod node;
mod transaction;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::cluster::Cluster;
use super::route::{Join, Route, Router, cursor_of};
use super::slots::{Redirection, SlotMap};
use crate::resp::frame::Kind;
use crate::resp::{Decoder, Limits, Request};
use crate::upstream::buffer::Buffer;
use crate::upstream::connect::Opening;
use crate::upstream::session::{self, Change, Effect, Session};
use crate::upstream::url::Endpoint;
use node::{Expect, Node, Told};
use transaction::Transaction;

/// Requests under way at most.
const OWED_MAX: usize = 16 * 1024;
/// Bytes of requests that wait, beyond which no more are taken while others are under way.
const INPUT_BYTES_MAX: usize = 256 * 1024;
/// The longest request: it is held, since it may have to be sent twice.
const REQUEST_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bytes of replies that wait to be read, beyond which no more are taken in.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// How often a request is redirected.
const HOPS_MAX: u8 = 5;

const LIMITS: Limits = Limits {
    arguments_max: Limits::ARGUMENTS_MAX,
    bulk_bytes_max: REQUEST_BYTES_MAX,
    inline_bytes_max: Limits::INLINE_BYTES_MAX,
};

const CROSS_SLOT: &[u8] = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n";
const NO_SUCH_CLIENT: &[u8] = b"-ERR The client ID you want redirect to does not exist\r\n";
const SLOT_DOWN: &[u8] = b"-CLUSTERDOWN Hash slot not served\r\n";
const TRY_AGAIN: &[u8] = b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n";

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Purpose {
    /// Requests.
    Requests,
    /// To be told what changes, by all masters.
    Tracking,
}

pub(in crate::upstream) struct Many {
    cluster: Arc<Cluster>,
    router: Arc<dyn Router>,
    timeout: Duration,
    version: u64,
    map: Arc<SlotMap>,
    /// The number of a tracking connection.
    tracker: Option<u64>,
    input: Buffer,
    decoder: Decoder,
    nodes: Vec<Node>,
    owed: VecDeque<Owed>,
    /// The number of the first one owed.
    first: u64,
    output: Buffer,
    session: Session,
    is_resp3: bool,
    told: Told,
    transaction: Transaction,
    /// Nothing more is taken until all that is under way is answered.
    is_waiting: bool,
    /// It is a plain connection to this master.
    wire: Option<Endpoint>,
    /// The end, behind what is to be read.
    is_over: bool,
    lost: Option<String>,
}

/// A reply that is owed.
struct Owed {
    join: Join,
    parts: Vec<Part>,
    missing: usize,
    /// What holds once it is no error.
    change: Option<Box<Change>>,
    /// Redirections mean nothing to it.
    is_fixed: bool,
    is_watch: bool,
}

/// A part of a reply.
struct Part {
    request: Vec<u8>,
    reply: Vec<u8>,
    hops: u8,
    /// Any master would do.
    is_any: bool,
}

/// Whether a request was taken.
enum Flow {
    Taken,
    /// Nothing must be under way.
    Wait,
}

impl Many {
    pub(in crate::upstream) fn new(
        cluster: &Arc<Cluster>,
        purpose: Purpose,
        timeout: Duration,
    ) -> Option<Self> {
        let (version, map) = cluster.map();
        let tracker = match purpose {
            Purpose::Requests => None,
            Purpose::Tracking => Some(cluster.begin_tracker()),
        };
        Some(Self {
            router: Arc::clone(cluster.router.get()?),
            cluster: Arc::clone(cluster),
            timeout,
            version,
            map: map?,
            tracker,
            input: Buffer::default(),
            decoder: Decoder::default(),
            nodes: Vec::new(),
            owed: VecDeque::new(),
            first: 0,
            output: Buffer::default(),
            session: Session::default(),
            is_resp3: false,
            told: Told::Nothing,
            transaction: Transaction::default(),
            is_waiting: false,
            wire: None,
            is_over: false,
            lost: None,
        })
    }

    /// Moves what can be moved.
    fn drive(&mut self, context: &mut Context<'_>) {
        while self.lost.is_none() {
            let mut moved = self.take_requests();
            moved |= self.follow_masters();
            for at in (0..self.nodes.len()).rev() {
                moved |= self.drive_node(at, context);
            }
            moved |= self.release();
            if !moved {
                return;
            }
        }
    }

    // Requests.

    /// Takes what is complete of the requests, as far as it may be sent.
    fn take_requests(&mut self) -> bool {
        let mut moved = false;
        while self.lost.is_none() && !self.is_over {
            if let Some(endpoint) = self.wire.clone() {
                if self.input.is_empty() {
                    return moved;
                }
                let input = std::mem::take(&mut self.input);
                self.node(&endpoint).send(input.bytes());
                return true;
            }
            let is_new = self.version != self.cluster.version();
            if self.is_waiting || is_new {
                if !self.owed.is_empty() {
                    return moved;
                }
                self.is_waiting = false;
                if is_new {
                    self.take_map();
                }
            }
            if self.owed.len() >= OWED_MAX || self.output.len() >= OUTPUT_BYTES_MAX {
                return moved;
            }
            if !self.take_request() {
                return moved;
            }
            moved = true;
        }
        moved
    }

    fn take_map(&mut self) {
        let (version, map) = self.cluster.map();
        self.version = version;
        if let Some(map) = map {
            self.map = map;
        }
    }

    fn take_request(&mut self) -> bool {
        let mut decoder = std::mem::take(&mut self.decoder);
        let input = std::mem::take(&mut self.input);
        let decoded = decoder.decode(input.bytes(), 1, &LIMITS);
        let flow = if decoder.is_empty() {
            if let Err(error) = decoded {
                self.lost = Some(format!("cannot follow a request: {error}"));
            }
            None
        } else {
            let request = decoder.at(0, input.bytes());
            let raw = &input.bytes()[..decoder.end_of(0)];
            Some(self.take(&request, raw))
        };
        self.input = input;
        match flow {
            Some(Flow::Wait) => {
                self.is_waiting = true;
                // It is decoded again.
                return !self.owed.is_empty();
            }
            Some(Flow::Taken) | None => {
                let consumed = decoder.consume();
                self.input.consume(consumed);
                self.decoder = decoder;
                if flow.is_none() && self.input.len() > REQUEST_BYTES_MAX {
                    self.lost = Some("cannot take so long a request".to_owned());
                }
            }
        }
        flow.is_some()
    }

    fn take(&mut self, request: &Request<'_>, raw: &[u8]) -> Flow {
        let route = self.router.route(request, self.is_resp3);
        if let Route::Answer(reply) = route {
            self.transaction.spoil();
            self.say(reply);
            return Flow::Taken;
        }
        let effect = session::effect(request);
        if self.transaction.is_open() || matches!(effect, Effect::Begin | Effect::Watch) {
            return self.take_in_transaction(request, raw, &effect, &route);
        }
        match effect {
            Effect::None | Effect::Kill | Effect::Shutdown | Effect::Bind => {
                if self.tracker.is_some() && is_client_id(request) {
                    return self.answer_number();
                }
                self.take_routed(raw, route, request);
            }
            Effect::End | Effect::Unwatch => self.take_routed(raw, Route::Any, request),
            _ if !self.owed.is_empty() => return Flow::Wait,
            Effect::Block => {
                self.take_routed(raw, route, request);
                self.is_waiting = true;
            }
            Effect::Change(change) => {
                self.tell_all(raw, Some(change));
                self.is_waiting = true;
            }
            Effect::Track(is_on) => self.track(request, raw, is_on),
            Effect::Quit => {
                self.say(b"+OK\r\n");
                self.is_over = true;
            }
            Effect::Reset => {
                self.nodes.clear();
                self.session = Session::default();
                self.told = Told::Nothing;
                self.is_resp3 = false;
                self.say(b"+RESET\r\n");
            }
            Effect::Begin
            | Effect::Watch
            | Effect::Mute
            | Effect::Subscribe(..)
            | Effect::Unsubscribe(..)
            | Effect::ReplyOn
            | Effect::ReplyOff
            | Effect::ReplySkip
            | Effect::Monitor
            | Effect::Stream => self.become_wire(raw, &route),
        }
        Flow::Taken
    }

    fn become_wire(&mut self, raw: &[u8], route: &Route) {
        let owner = if let Route::Slot(slot) = route {
            self.map.owner(*slot).cloned()
        } else {
            None
        };
        let endpoint = owner.unwrap_or_else(|| self.map.masters()[0].clone());
        self.node(&endpoint).send(raw);
        self.wire = Some(endpoint);
    }

    fn take_routed(&mut self, raw: &[u8], route: Route, request: &Request<'_>) {
        match route {
            Route::Slot(slot) => match self.map.owner(slot).cloned() {
                Some(master) => self.ask_one(raw, &master),
                None => self.say(SLOT_DOWN),
            },
            Route::Any | Route::Answer(_) => self.ask_any(raw),
            Route::CrossSlot => self.say(CROSS_SLOT),
            Route::Every(join) => {
                let masters = self.map.masters().to_vec();
                self.ask_all(masters, raw, join);
            }
            Route::Open => {
                let open = self.nodes.iter().filter(|node| node.is_open());
                let masters: Vec<_> = open.map(|node| node.endpoint.clone()).collect();
                if masters.is_empty() {
                    self.ask_any(raw);
                } else {
                    self.ask_all(masters, raw, Join::Same);
                }
            }
            Route::Split(join, requests) => self.ask_split(join, requests),
            Route::Scan => self.scan(request, raw),
        }
    }

    fn ask_split(&mut self, join: Join, requests: Vec<(u16, Vec<u8>)>) {
        let owners: Vec<_> = requests
            .iter()
            .map(|(slot, _)| self.map.owner(*slot).cloned())
            .collect();
        if owners.iter().any(Option::is_none) {
            return self.say(SLOT_DOWN);
        }
        let at = self.owe(
            join,
            requests.into_iter().map(|(_, request)| request).collect(),
        );
        for (part, owner) in owners.into_iter().flatten().enumerate() {
            self.send(at, part, &owner);
        }
    }

    /// `SCAN`: the master that its cursor names.
    fn scan(&mut self, request: &Request<'_>, raw: &[u8]) {
        let cursor = request.get(1).and_then(cursor_of);
        let count = self.map.masters().len();
        let Some((master, cursor)) = cursor else {
            return self.ask_any(raw); // The error is Redis's to say.
        };
        let Some(endpoint) = self.map.masters().get(master).cloned() else {
            let empty = b"*2\r\n$1\r\n0\r\n*0\r\n";
            return self.say(empty); // There were more masters.
        };
        let digits = cursor.to_string();
        let mut words: Vec<&[u8]> = vec![b"SCAN", digits.as_bytes()];
        words.extend(request.iter_from(2));
        let is_last = master + 1 == count;
        let request = Opening::new("SCAN", &words).bytes;
        let at = self.owe(Join::Scan { master, is_last }, vec![request]);
        self.send(at, 0, &endpoint);
    }

    fn ask_one(&mut self, raw: &[u8], master: &Endpoint) {
        let at = self.owe(Join::Same, vec![raw.to_vec()]);
        self.send(at, 0, master);
    }

    fn ask_any(&mut self, raw: &[u8]) {
        let open = self.nodes.iter().find(|node| node.is_open());
        let master = open.map_or_else(
            || self.map.masters()[0].clone(),
            |node| node.endpoint.clone(),
        );
        let at = self.owe(Join::Same, vec![raw.to_vec()]);
        if let Some(owed) = self.owed.back_mut() {
            owed.parts[0].is_any = true;
        }
        self.send(at, 0, &master);
    }

    fn ask_all(&mut self, masters: Vec<Endpoint>, raw: &[u8], join: Join) {
        let at = self.owe(join, vec![raw.to_vec(); masters.len()]);
        for (part, master) in masters.into_iter().enumerate() {
            self.send(at, part, &master);
        }
    }

    /// Tells all masters with which there is a connection, or one where there is none.
    fn tell_all(&mut self, raw: &[u8], change: Option<Box<Change>>) {
        let masters: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.endpoint.clone())
            .collect();
        if masters.is_empty() {
            self.ask_any(raw);
        } else {
            self.ask_all(masters, raw, Join::Same);
        }
        if let Some(owed) = self.owed.back_mut() {
            owed.change = change;
        }
    }

    /// `CLIENT TRACKING`: a redirection to one of our tracking connections is, at each master, one
    /// to that master's part of it.
    fn track(&mut self, request: &Request<'_>, raw: &[u8], is_on: bool) {
        let words: Vec<&[u8]> = request.iter_from(3).collect();
        let redirect = words
            .iter()
            .position(|word| word.eq_ignore_ascii_case(b"REDIRECT"));
        let number = redirect.and_then(|at| {
            let digits = words.get(at + 1)?;
            std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
        });
        self.is_waiting = true;
        let Some(number) = number else {
            self.told = if is_on {
                Told::Track(raw.to_vec())
            } else {
                Told::Nothing
            };
            return self.tell_all(raw, None);
        };
        if !Cluster::is_tracker(number) {
            // A client is known to one master only.
            return self.say(NO_SUCH_CLIENT);
        }
        self.told = Told::Redirect(number);
        // Who is not told of it must be connected to anew.
        let cluster = Arc::clone(&self.cluster);
        let is_known = |node: &Node| cluster.tracker(number, &node.endpoint).is_some();
        self.nodes.retain(|node| node.is_open() && is_known(node));
        if self.nodes.is_empty() {
            return self.say(b"+OK\r\n");
        }
        let requests: Vec<(Endpoint, Vec<u8>)> = self
            .nodes
            .iter()
            .filter_map(|node| {
                let theirs = cluster.tracker(number, &node.endpoint)?;
                Some((
                    node.endpoint.clone(),
                    Opening::redirect_to(theirs, false).bytes,
                ))
            })
            .collect();
        let (masters, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let at = self.owe(Join::Same, requests);
        for (part, master) in masters.into_iter().enumerate() {
            self.send(at, part, &master);
        }
    }

    /// `CLIENT ID` of a tracking connection: the number of it that is ours.
    fn answer_number(&mut self) -> Flow {
        let number = self.tracker.unwrap_or(0);
        self.say(format!(":{number}\r\n").as_bytes());
        Flow::Taken
    }

    // Replies.

    /// Owes a reply of so many parts, and returns its number.
    fn owe(&mut self, join: Join, requests: Vec<Vec<u8>>) -> u64 {
        let part = |request| Part {
            request,
            reply: Vec::new(),
            hops: 0,
            is_any: false,
        };
        self.owed.push_back(Owed {
            join,
            missing: requests.len(),
            parts: requests.into_iter().map(part).collect(),
            change: None,
            is_fixed: false,
            is_watch: false,
        });
        self.first + self.owed.len() as u64 - 1
    }

    /// Answers a request by itself.
    fn say(&mut self, reply: &[u8]) {
        self.owe(Join::Same, vec![Vec::new()]);
        if let Some(owed) = self.owed.back_mut() {
            owed.parts[0].reply = reply.to_vec();
            owed.missing = 0;
        }
    }

    fn owed_at(&mut self, at: u64) -> Option<&mut Owed> {
        let index = usize::try_from(at.checked_sub(self.first)?).ok()?;
        self.owed.get_mut(index)
    }

    /// Sends a part of a request to a master.
    fn send(&mut self, at: u64, part: usize, master: &Endpoint) {
        let Some(owed) = self.owed_at(at) else { return };
        let request = std::mem::take(&mut owed.parts[part].request);
        self.node(master).ask(&request, Expect::Part { at, part });
        if let Some(owed) = self.owed_at(at) {
            owed.parts[part].request = request;
        }
    }

    /// The reply to a part has come.
    fn settle(&mut self, from: &Endpoint, at: u64, part: usize, reply: Vec<u8>, kind: Kind) {
        if kind == Kind::Error && self.redirect(from, at, part, &reply) {
            return;
        }
        let Some(owed) = self.owed_at(at) else { return };
        let reply = if owed.is_fixed && Redirection::of(&reply, from).is_some() {
            TRY_AGAIN.to_vec()
        } else {
            reply
        };
        owed.parts[part].reply = reply;
        owed.parts[part].request = Vec::new();
        owed.missing -= 1;
    }

    /// Sends it elsewhere if that is what the error says. False if it is the reply.
    fn redirect(&mut self, from: &Endpoint, at: u64, part: usize, error: &[u8]) -> bool {
        if error.starts_with(b"-CLUSTERDOWN ") {
            self.cluster.suspect();
        }
        let Some(redirection) = Redirection::of(error, from) else {
            return false;
        };
        if let Redirection::Moved(slot, master) = &redirection {
            self.cluster.moved(*slot, master.clone());
        }
        let Some(owed) = self.owed_at(at) else {
            return false;
        };
        if owed.is_fixed || owed.parts[part].hops == HOPS_MAX {
            return false;
        }
        owed.parts[part].hops += 1;
        match redirection {
            Redirection::Moved(_, master) => self.send(at, part, &master),
            Redirection::Ask(master) => {
                self.void_keys(at, part);
                let asking = b"*1\r\n$6\r\nASKING\r\n";
                self.node(&master).ask(asking, Expect::Nobody);
                self.send(at, part, &master);
            }
        }
        true
    }

    /// What is read from a master that a slot is on its way to is not to be kept.
    fn void_keys(&mut self, at: u64, part: usize) {
        let (cluster, router) = (Arc::clone(&self.cluster), Arc::clone(&self.router));
        let Some(owed) = self.owed_at(at) else { return };
        let mut decoder = Decoder::default();
        let bytes = &owed.parts[part].request;
        if decoder.decode(bytes, 1, &LIMITS).is_ok() && !decoder.is_empty() {
            router.for_each_key(&decoder.at(0, bytes), &mut |key| cluster.void(key));
        }
    }

    /// Moves replies that are whole and in order to the output.
    fn release(&mut self) -> bool {
        let mut moved = false;
        while let Some(owed) = self.owed.front()
            && owed.missing == 0
        {
            let reply = match owed.parts.as_slice() {
                [part] if owed.join == Join::Same => part.reply.clone(),
                parts => {
                    let parts: Vec<_> = parts.iter().map(|part| part.reply.clone()).collect();
                    owed.join.join(&parts)
                }
            };
            let is_error = matches!(reply.first(), Some(b'-' | b'!'));
            self.output.extend(&reply);
            if is_error && owed.is_watch {
                self.transaction.lose_watch(self.first);
            }
            if let Some(owed) = self.owed.pop_front()
                && let Some(change) = owed.change
                && !is_error
            {
                self.session.confirm(*change);
                self.is_resp3 = self.session.told().speaks_resp3;
            }
            self.first += 1;
            moved = true;
        }
        moved
    }
}

fn is_client_id(request: &Request<'_>) -> bool {
    let is = |at, word: &[u8]| {
        let argument = request.get(at);
        argument.is_some_and(|argument| argument.eq_ignore_ascii_case(word))
    };
    request.len() == 2 && is(0, b"CLIENT") && is(1, b"ID")
}

impl AsyncRead for Many {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.drive(context);
        if !self.output.is_empty() {
            let len = self.output.len().min(buffer.remaining());
            buffer.put_slice(&self.output.bytes()[..len]);
            self.output.consume(len);
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = &self.lost {
            return Poll::Ready(Err(io::Error::other(why.clone())));
        }
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Many {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(why) = &self.lost {
            return Poll::Ready(Err(io::Error::other(why.clone())));
        }
        if self.input.len() >= INPUT_BYTES_MAX {
            self.drive(context);
            let is_stuck = !self.owed.is_empty() || !self.output.is_empty() || self.wire.is_some();
            if self.input.len() >= INPUT_BYTES_MAX && is_stuck {
                return Poll::Pending;
            }
        }
        self.input.extend(bytes);
        self.drive(context);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drive(context);
        Poll::Ready(Ok(()))
    }

    /// What is under way is given up: a blocked command must not take anything any more.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_over = true;
        self.nodes.clear();
        self.owed.clear();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        if let Some(number) = self.tracker {
            self.cluster.end_tracker(number);
        }
    }
}
