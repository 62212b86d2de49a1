//! Reads that may be answered from the near cache: looked up, joined, or led.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::class::Class;
use super::client::{Known, Shared};
use super::loads::Ruled;
use super::outbox::Parts;
use super::pool::Pool;
use super::waiting::{Digits, Reading, Waiting};
use super::wire::{request_of, write_request};
use super::{Seat, WHOLE, channel};
use crate::command::keys_of::for_each_key;
use crate::command::lookup;
use crate::command::spec::Command;
use crate::command::table::COMMANDS;
use crate::near::{Entered, Late, Line, Miss, Now, Place, Token};
use crate::resp::{Protocol, Request};
use crate::store::{Announced, Key};
use crate::upstream::own;
use crate::upstream::shared::{Coherence as _, Link, TRACKER};

/// More missing keys of one `MGET` are asked for by one `MGET`.
const EACH_MAX: usize = 64;

impl Shared {
    /// A read of one key.
    pub(super) fn near(
        &mut self,
        request: &Request<'_>,
        raw: &[u8],
        command: &Command,
        hash: u64,
        now: Now,
    ) {
        let is_kept = self.session.is_near && self.front.selection.has(request.argument(1));
        let (Some(db), true) = (self.near_database(), is_kept) else {
            self.front.near.note_uncacheable();
            return self.plain(raw);
        };
        let mut arguments = std::mem::take(&mut self.arguments);
        arguments.clear();
        for argument in request.iter_from(2) {
            arguments.extend_from_slice(&(argument.len() as u64).to_le_bytes());
            arguments.extend_from_slice(argument);
        }
        let key = Key {
            bytes: request.argument(1),
            hash,
        };
        let place = Place { db, key };
        let line = line(command, self.session.protocol, &arguments);
        let is_busy = self.outbox.is_busy(hash);
        let mut is_to_make = false;
        let is_hit = !is_busy && {
            let (near, store) = (&self.front.near, &self.front.instance.store);
            let is_get = command.name == "get";
            let got = self.outbox.answer(|reply| {
                let len = reply.len();
                let left_ms = near.get_with_end(store, place, line, now, reply)?;
                if let Some(left_ms) = left_ms.filter(|_| is_get && self.is_ruled())
                    && self.look_after(place, left_ms)
                {
                    reply.truncate(len);
                    is_to_make = true;
                    return Err(Miss::Expired);
                }
                Ok(())
            });
            got.is_ok()
        };
        if is_to_make {
            self.arguments = arguments;
            return self.let_make(place);
        }
        if is_busy {
            self.front.near.note_uncacheable();
        }
        if is_hit && self.front.hits.are_sampled() {
            self.sample_hit(raw, command, place, line, now);
        }
        let is_answered = is_hit || (!is_busy && self.answer_stale(place, line, now));
        if !is_answered && self.is_armed(self.link()) {
            self.miss(raw, place, line, !is_busy, now);
        } else if !is_answered {
            let otherwise = self.fallback(db, line, false);
            self.observe_or(command, request, raw, otherwise);
        }
        self.arguments = arguments;
    }

    /// The database as the near cache numbers it, if it keeps copies of that one.
    pub(super) fn near_database(&self) -> Option<u16> {
        let db = u16::try_from(self.session.database).ok()?;
        (db < self.front.instance.store.databases()).then_some(db)
    }

    /// Has the memory fetched that a read looks at; the result tells where its item is.
    pub(super) fn announce(&self, db: u16, hash: u64) -> Option<Announced> {
        self.front.near.prefetch(db, hash);
        self.front.instance.store.announce(db, hash)
    }

    /// A read that is not here: joins a flight, if it may, or leads one.
    fn miss(&self, raw: &[u8], place: Place<'_>, line: Line<'_>, may_join: bool, now: Now) {
        let seat = self.seat(self.outbox.expect(), WHOLE);
        self.outbox.use_key(place.key.hash);
        let (near, slot) = (&self.front.near, channel(self.link().slot()));
        match near.enter(place, line, may_join, slot, now, seat) {
            Entered::Joined => self.outbox.note_joined(place.key.hash),
            Entered::Leads(token) => self.read_value(raw, place.key.bytes, line, token),
        }
    }

    /// Whether a request must wait for reads that joined another client's: that one may have been
    /// sent over another connection, and be run after what is sent over this client's.
    pub(super) fn is_behind_joined(&self, request: &Request<'_>, known: &Known) -> bool {
        if !self.outbox.has_joined() {
            return false;
        }
        match (known.class, known.command) {
            // What is asked of tags may remove any key.
            (Class::Unknown | Class::Sweeps | Class::Own, _) => true,
            (Class::Near | Class::NearEach | Class::Plain | Class::Writes, Some(command)) => {
                let store = &self.front.instance.store;
                let mut is_behind = false;
                for_each_key(command, request, |at| {
                    is_behind |= self.outbox.has_joined_for(store.hash(request.argument(at)));
                });
                is_behind
            }
            (_, _) => false,
        }
    }

    /// Whether changes of what is read now will be told.
    pub(super) fn is_armed(&self, link: &Link<Waiting>) -> bool {
        link.is_armed(self.front.generation(TRACKER))
    }

    fn is_ruled(&self) -> bool {
        self.front.instance.policy.is_on()
    }

    pub(super) fn seat(&self, at: u64, part: u32) -> Seat {
        Seat {
            thread: u16::try_from(self.pool.thread).unwrap_or(u16::MAX),
            part,
            client: self.client.id,
            at,
        }
    }

    /// Reads a key's value for a flight, and how long it holds.
    fn read_value(&self, raw: &[u8], key: &[u8], line: Line<'_>, token: Token) {
        let asked = Asked {
            database: self.session.database,
            raw,
            key,
            line,
            may_be_stale: !self.outbox.has_unknown(),
        };
        self.outbox.ask(raw.len());
        self.pool.read_value(self.link(), &asked, token);
    }

    /// `MGET`: each key by itself, as `GET` has it.
    pub(super) fn near_each(
        &mut self,
        request: &Request<'_>,
        raw: &[u8],
        command: &Command,
        now: Now,
    ) {
        let (Some(db), Some(get)) = (self.near_database(), lookup::find(b"GET")) else {
            return self.plain(raw);
        };
        let link = Rc::clone(self.link());
        let store = &self.front.instance.store;
        let is_busy = request
            .iter_from(1)
            .any(|key| self.outbox.is_busy(store.hash(key)));
        let selection = &self.front.selection;
        let is_kept =
            self.session.is_near && !is_busy && request.iter_from(1).all(|key| selection.has(key));
        let line = line(get, self.session.protocol, &[]);
        if !is_kept {
            self.front.near.note_uncacheable();
            return self.observe(command, request, raw);
        }
        if !self.is_armed(&link) {
            self.front.near.note_uncacheable();
            let otherwise = self.fallback(db, line, true);
            return self.observe_each(command, request, raw, otherwise);
        }
        let (near, store) = (&self.front.near, &self.front.instance.store);
        let place = |key| Place {
            db,
            key: store.key(key),
        };
        let mut parts: Vec<Option<Box<[u8]>>> = Vec::with_capacity(request.len() - 1);
        let mut missing = 0;
        for key in request.iter_from(1) {
            let mut reply = Vec::new();
            let got = near.get(store, place(key), line, now, &mut reply);
            if got.is_ok() && self.front.hits.are_sampled() {
                let raw = request_of(&[b"GET", key]);
                self.sample_hit(&raw, get, place(key), line, now);
            }
            missing += usize::from(got.is_err());
            parts.push(got.is_ok().then(|| reply.into()));
        }
        if missing > EACH_MAX {
            return self.observe(command, request, raw);
        }
        let null = null(self.session.protocol);
        let absent: Vec<usize> = (0..parts.len()).filter(|&at| parts[at].is_none()).collect();
        let parts = Parts::new(parts, null);
        if missing == 0 {
            let answered: Result<(), ()> = self.outbox.answer(|reply| {
                parts.write(reply);
                Ok(())
            });
            debug_assert!(answered.is_ok(), "nothing here fails");
            return;
        }
        let at = self.outbox.expect_parts(parts);
        for part in absent {
            let key = request.argument(1 + part);
            let seat = self.seat(at, u32::try_from(part).unwrap_or(u32::MAX - 1));
            let place = place(key);
            self.outbox.use_key(place.key.hash);
            match near.enter(place, line, true, channel(link.slot()), now, seat) {
                Entered::Joined => self.outbox.note_joined(place.key.hash),
                Entered::Leads(token) => {
                    self.read_value(&request_of(&[b"GET", key]), key, line, token);
                }
            }
        }
    }
}

/// A read of one key.
pub(super) struct Asked<'a> {
    pub(super) database: u32,
    pub(super) raw: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) line: Line<'a>,
    /// Whether a stale copy will do if upstream fails.
    pub(super) may_be_stale: bool,
}

impl Pool {
    /// Reads a key's value for a flight, and how long it holds if it may be stored.
    pub(super) fn read_value(
        self: &Rc<Self>,
        link: &Rc<Link<Waiting>>,
        asked: &Asked<'_>,
        token: Token,
    ) {
        let is_kept = token.is_kept();
        let reading = Rc::new(Reading {
            pool: Rc::clone(self),
            link: Rc::clone(link),
            token: Cell::new(Some(token)),
            value: RefCell::new(self.spare()),
            is_kept,
            may_be_stale: asked.may_be_stale,
            ruled: Cell::new(Ruled::new(self, link, asked).map(Box::new)),
        });
        let value = Waiting::Value(Rc::clone(&reading));
        link.choose(self.front.near.is_picky());
        if !is_kept {
            return link.send(asked.database, asked.raw, value);
        }
        let value = (asked.raw, value);
        let ttl = Waiting::Ttl(reading, Digits::default());
        let ask = |requests: &mut Vec<u8>| write_request(requests, &[own::PTTL, asked.key]);
        link.send_read(asked.database, value, ask, ttl);
    }
}

impl Pool {
    /// Reads a line for these once more, as if they asked now.
    pub(super) fn enter_again(
        self: &Rc<Self>,
        link: &Rc<Link<Waiting>>,
        (place, line): (Place<'_>, Line<'_>),
        raw: &[u8],
        seats: impl IntoIterator<Item = Seat>,
    ) {
        let (near, slot) = (&self.front.near, channel(link.slot()));
        for seat in seats {
            match near.enter(place, line, true, slot, self.front.now(), seat) {
                Entered::Joined => {}
                Entered::Leads(token) => {
                    let asked = Asked {
                        database: u32::from(place.db),
                        raw,
                        key: place.key.bytes,
                        line,
                        may_be_stale: false,
                    };
                    self.read_value(link, &asked, token);
                }
            }
        }
    }

    /// Reads once more what expired while these waited for it.
    #[cold]
    pub(super) fn read_anew(self: &Rc<Self>, link: &Rc<Link<Waiting>>, late: Late<Seat>) {
        let line = Line {
            id: late.line_id,
            arguments: &late.arguments,
        };
        let place = Place {
            db: late.db,
            key: self.front.instance.store.key(&late.key),
        };
        let raw = request_of(&words_of(line, &late.key));
        self.enter_again(link, (place, line), &raw, late.waiters);
    }
}

/// The words of a request, by its line and its key.
fn words_of<'a>(line: Line<'a>, key: &'a [u8]) -> Vec<&'a [u8]> {
    let command = usize::try_from(line.id / 2).ok();
    let command = command.and_then(|index| COMMANDS.get(index));
    let name = command.map_or(&b""[..], |command| command.name.as_bytes());
    let mut words = vec![name, key];
    let mut rest = line.arguments;
    while let Some((len, behind)) = rest.split_first_chunk() {
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let Some((word, behind)) = behind.split_at_checked(len) else {
            break;
        };
        words.push(word);
        rest = behind;
    }
    words
}

/// What stands in an array for no value.
pub(super) fn null(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    }
}

/// The line of a request: the dialect, the command, and its arguments but the key.
pub(super) fn line<'a>(command: &Command, protocol: Protocol, arguments: &'a [u8]) -> Line<'a> {
    let index = u32::try_from(command.index()).unwrap_or(u32::MAX / 2);
    Line {
        id: index * 2 + u32::from(protocol == Protocol::Resp3),
        arguments,
    }
}
