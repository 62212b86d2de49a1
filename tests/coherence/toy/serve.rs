//! One client of the toy: its requests one after the other, each answered before the next is sent.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corral::clock;

use super::{Copy, Flight, Shared, Wrong};
use crate::client::Value;
use crate::servers::request;

/// How long Redis may take to answer; then the client is disconnected.
const UPSTREAM_MAX: Duration = Duration::from_secs(1);
/// One request in so many is swallowed by a toy that swallows requests.
const SWALLOWED_IN: u64 = 2000;

/// A client, and its own connection to Redis.
struct Session<'a> {
    shared: &'a Shared,
    upstream: TcpStream,
    unread: Vec<u8>,
    db: u32,
    is_resp3: bool,
    is_queueing: bool,
    is_watching: bool,
}

/// Serves a client until it or Redis goes away.
pub(super) fn serve(shared: &Shared, mut client: TcpStream) {
    let Ok(upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream)) else {
        return;
    };
    let options = [
        upstream.set_nodelay(true),
        upstream.set_read_timeout(Some(UPSTREAM_MAX)),
        client.set_nodelay(true),
    ];
    if options.iter().any(Result::is_err) {
        return;
    }
    let mut session = Session {
        shared,
        upstream,
        unread: Vec::new(),
        db: 0,
        is_resp3: false,
        is_queueing: false,
        is_watching: false,
    };
    let mut requests = Vec::new();
    let mut bytes = [0; 16 * 1024];
    while let Ok(len @ 1..) = client.read(&mut bytes) {
        requests.extend_from_slice(&bytes[..len]);
        while let Some((words, used)) = Value::parse(&requests) {
            requests.drain(..used);
            let Some(reply) = session.answer(&words) else {
                return;
            };
            if client.write_all(&reply).is_err() {
                return;
            }
        }
    }
}

impl Session<'_> {
    /// The reply to a request, or `None` if Redis is gone.
    fn answer(&mut self, request: &Value) -> Option<Vec<u8>> {
        let words: Vec<&[u8]> = request.elements().iter().filter_map(Value::text).collect();
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        if self.shared.is(Wrong::SwallowsRequests) && number % SWALLOWED_IN == SWALLOWED_IN - 1 {
            return Some(Vec::new());
        }
        let name = words.first()?.to_ascii_uppercase();
        let watches = self.is_watching && !self.shared.is(Wrong::AnswersWatchedReads);
        match (name.as_slice(), words.as_slice()) {
            (b"GET", [_, key]) if !self.is_queueing && !watches => self.cached(key),
            _ => self.pass(&name, &words),
        }
    }

    /// Sends a request on, and holds its reply until its pushes were taken in.
    fn pass(&mut self, name: &[u8], words: &[&[u8]]) -> Option<Vec<u8>> {
        self.void(name, words);
        let (value, reply) = self.ask(words)?;
        self.void(name, words);
        match name {
            _ if value.is_error() => {}
            b"SELECT" => {
                let db = words.get(1).map(|db| String::from_utf8_lossy(db));
                self.db = db.and_then(|db| db.parse().ok()).unwrap_or(0);
            }
            b"HELLO" => self.is_resp3 = true,
            b"MULTI" => self.is_queueing = true,
            b"WATCH" => self.is_watching = true,
            b"UNWATCH" => self.is_watching = false,
            b"EXEC" | b"DISCARD" => (self.is_queueing, self.is_watching) = (false, false),
            _ => {}
        }
        let is_quick = matches!(name, b"SELECT" | b"HELLO" | b"WATCH" | b"UNWATCH");
        let reads = matches!(name, b"MGET" | b"GETRANGE" | b"GET");
        if !is_quick && !self.is_queueing {
            self.fence(if reads {
                Wrong::ReleasesReadsEarly
            } else {
                Wrong::ReleasesWritesEarly
            });
        }
        Some(reply)
    }

    /// Every word may be a key that is written: that is more than enough, but for scripts.
    fn void(&self, name: &[u8], words: &[&[u8]]) {
        let mut copies = self.shared.copies();
        if name == b"SWAPDB" && !self.shared.is(Wrong::ForgetsSwapdb) {
            copies.void_all();
        }
        let is_script = name == b"EVAL";
        if !is_script && !matches!(name, b"MGET" | b"GETRANGE" | b"GET" | b"WATCH") {
            for word in &words[1..] {
                copies.void(word);
            }
        }
    }

    fn fence(&self, unless: Wrong) {
        let is_whole = self.shared.is(unless) || self.shared.tracker.fence();
        if !is_whole && !self.shared.trusts_blindly() {
            self.shared.copies().void_all();
        }
    }

    /// Answers GET from a copy, or makes one.
    fn cached(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let is_mixed = self.shared.is(Wrong::MixesDatabases);
        let db = if is_mixed { 0 } else { self.db };
        let token = {
            let copies = self.shared.copies();
            let copy = copies.of_key.get(key).and_then(|of_db| of_db.get(&db));
            let is_live = |copy: &&Copy| copy.expires.is_none_or(|at| clock::now() < at);
            if let Some(copy) = copy.filter(is_live)
                && self.shared.is_coherent()
            {
                return Some(self.encode(&copy.value));
            }
            copies.token(key)
        };
        if self.shared.is(Wrong::JoinsOldFlights) && !self.is_watching {
            return self.join(db, key);
        }
        let (value, copy) = self.load(key)?;
        let mut copies = self.shared.copies();
        let is_whole = copies.token(key) == token || self.shared.is(Wrong::FillsWithoutToken);
        if let (Some(copy), true) = (copy, is_whole) {
            copies
                .of_key
                .entry(key.to_vec())
                .or_default()
                .insert(db, copy);
        }
        drop(copies);
        self.fence(Wrong::ReleasesReadsEarly);
        Some(self.encode(&value))
    }

    /// Reads a value with its expiry, which counts from before the reading.
    fn load(&mut self, key: &[u8]) -> Option<(Value, Option<Copy>)> {
        let sent = clock::now();
        let requests: [&[&[u8]]; 4] = [&[b"MULTI"], &[b"PTTL", key], &[b"GET", key], &[b"EXEC"]];
        for words in requests {
            self.upstream.write_all(&request(words)).ok()?;
        }
        for _ in 0..3 {
            self.reply()?;
        }
        let (replies, _) = self.reply()?;
        let [Value::Integer(pttl), value] = replies.elements() else {
            return None;
        };
        let ttl = u64::try_from(*pttl).ok().map(Duration::from_millis);
        let expires = ttl.map(|ttl| sent + ttl);
        let expires = expires.filter(|_| !self.shared.is(Wrong::OutlivesTtl));
        let copy = Copy {
            value: value.clone(),
            expires,
        };
        let is_stored = !value.is_error() && *pttl != 0;
        Some((value.clone(), is_stored.then_some(copy)))
    }

    /// Waits for whoever reads this key already, whenever that began.
    fn join(&mut self, db: u32, key: &[u8]) -> Option<Vec<u8>> {
        let place = (db, key.to_vec());
        let mut flights = self
            .shared
            .flights
            .lock()
            .expect("no thread panics with it");
        if let Some(flight) = flights.get(&place).map(Arc::clone) {
            drop(flights);
            let landed = flight.landed.lock().expect("no thread panics with it");
            let landed = flight.changed.wait_while(landed, |landed| landed.is_none());
            let landed = landed.expect("no thread panics with it");
            return landed.clone().flatten().map(|value| self.encode(&value));
        }
        let flight = Arc::new(Flight::default());
        flights.insert(place.clone(), Arc::clone(&flight));
        drop(flights);
        let loaded = self.load(key).map(|(value, _)| value);
        self.fence(Wrong::ReleasesReadsEarly);
        let flights = self.shared.flights.lock();
        flights.expect("no thread panics with it").remove(&place);
        *flight.landed.lock().expect("no thread panics with it") = Some(loaded.clone());
        flight.changed.notify_all();
        loaded.map(|value| self.encode(&value))
    }

    fn ask(&mut self, words: &[&[u8]]) -> Option<(Value, Vec<u8>)> {
        self.upstream.write_all(&request(words)).ok()?;
        self.reply()
    }

    /// The next reply of Redis, understood and as it came.
    fn reply(&mut self) -> Option<(Value, Vec<u8>)> {
        loop {
            if let Some((value, used)) = Value::parse(&self.unread) {
                return Some((value, self.unread.drain(..used).collect()));
            }
            let mut bytes = [0; 16 * 1024];
            match self.upstream.read(&mut bytes) {
                Ok(len @ 1..) => self.unread.extend_from_slice(&bytes[..len]),
                _ => return None,
            }
        }
    }

    fn encode(&self, value: &Value) -> Vec<u8> {
        if let Some(text) = value.text() {
            let head = format!("${}\r\n", text.len());
            return [head.as_bytes(), text, b"\r\n"].concat();
        }
        match value {
            Value::Error(text) => format!("-{text}\r\n").into_bytes(),
            Value::Nil if self.is_resp3 => b"_\r\n".to_vec(),
            Value::Nil | Value::Text(_) | Value::Integer(_) | Value::Array(_) | Value::Push(_) => {
                b"$-1\r\n".to_vec()
            }
        }
    }
}
