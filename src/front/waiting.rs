//! What becomes of a reply that came over a shared connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::keeping::take_asked;
use super::loads::Ruled;
use super::outbox::Outbox;
use super::pool::Pool;
use super::removal::Removing;
use super::shadow::Check;
use super::stale::Fallback;
use super::through::Passed;
use super::{Letter, Parcel, Seat, WHOLE};
use crate::near::{Finished, Token, Ttl, Why};
use crate::resp::frame::Kind;
use crate::upstream::shared::{Link, Waiter};

/// Who waits for a reply, and for what.
pub(super) enum Waiting {
    /// A client, for bytes.
    Plain(Place),
    /// The same; it tells of these keys, of which there may be older copies. These may be served
    /// if upstream fails, where it says so.
    Observes(Rc<Pool>, Place, Keys, Option<Box<Fallback>>),
    /// The same; these keys are then written.
    Writes(Rc<Pool>, Place, Keys),
    /// The same; an origin has taken it already.
    Passed(Rc<Pool>, Place, Box<Passed>),
    /// The same; unknown keys are then written.
    Unknown(Rc<Pool>, Place, Keys, Vec<u8>),
    /// The same; all keys are then written.
    Sweeps(Rc<Pool>, Place),
    /// A client, for its `SELECT` of a database that upstream may not have.
    Select(Place, Rc<Cell<Selected>>),
    /// Nobody.
    Nobody,
    /// Who keeps a loaded value, for a whole reply.
    Asked(Vec<u8>, Option<oneshot::Sender<Vec<u8>>>),
    /// Who has a key removed.
    Removes(Box<Removing>),
    /// Who waits until this is dropped.
    #[expect(dead_code, reason = "to be held is all that it is for")]
    Settled(mpsc::Sender<()>),
    /// A copy that was served, for what it is compared with.
    Shadow(Box<Check>),
    /// A flight, for its value.
    Value(Rc<Reading>),
    /// The same, for how long it holds.
    Ttl(Rc<Reading>, Digits),
}

/// What came of a `SELECT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Selected {
    #[default]
    Unknown,
    Yes,
    No,
}

/// A place in a client's replies.
pub(super) struct Place {
    pub(super) outbox: Rc<Outbox>,
    pub(super) at: u64,
}

impl Place {
    pub(super) fn put(&self, bytes: &[u8], ended: Option<Kind>) {
        self.outbox.put(self.at, bytes, ended.is_some());
    }

    fn fail(&self, why: &str) {
        self.outbox.fail(self.at, &failure(why));
    }
}

/// A reply that is a number, as far as it came.
#[derive(Default)]
pub(super) struct Digits {
    room: [u8; DIGITS_MAX],
    len: usize,
}

/// A colon, a sign, 19 digits and a line end.
const DIGITS_MAX: usize = 23;

impl Digits {
    fn take(&mut self, bytes: &[u8]) {
        let more = bytes.len().min(DIGITS_MAX - self.len);
        self.room[self.len..self.len + more].copy_from_slice(&bytes[..more]);
        self.len += more;
    }

    fn bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

/// Keys of a request that outlive it.
pub(super) struct Keys(pub(super) Vec<Box<[u8]>>);

/// A read under way for a flight.
pub(super) struct Reading {
    pub(super) pool: Rc<Pool>,
    pub(super) link: Rc<Link<Waiting>>,
    pub(super) token: Cell<Option<Token>>,
    pub(super) value: RefCell<Vec<u8>>,
    /// Whether it may be stored, and so [`Waiting::Ttl`] follows.
    pub(super) is_kept: bool,
    /// Whether a stale copy will do if upstream fails.
    pub(super) may_be_stale: bool,
    /// What a rule makes of it.
    pub(super) ruled: Cell<Option<Box<Ruled>>>,
}

impl Waiter for Waiting {
    fn take(&mut self, bytes: &[u8], ended: Option<Kind>) {
        match self {
            Self::Plain(place) => place.put(bytes, ended),
            Self::Observes(pool, place, keys, otherwise) => {
                let otherwise = otherwise.take();
                if let Some(otherwise) = otherwise
                    && ended == Some(Kind::Error)
                    && is_failure(bytes)
                    && let Some(stale) = otherwise.answer(&pool.front, keys)
                {
                    return place.put(&stale, ended);
                }
                match bytes.split_last() {
                    Some((last, rest)) if ended.is_some() && pool.knows(keys) => {
                        place.put(rest, None);
                        release_behind_fence(pool, place, vec![*last], After::Read);
                    }
                    Some(_) | None => place.put(bytes, ended),
                }
            }
            Self::Writes(pool, place, keys) => {
                if ended.is_some() {
                    pool.void(keys);
                }
                place.put(bytes, ended);
            }
            Self::Passed(pool, place, passed) => {
                if let Some(kind) = ended {
                    pool.void(&passed.keys);
                    passed.settle(pool, kind);
                }
                place.put(bytes, ended);
            }
            Self::Unknown(pool, place, keys, held) => {
                held.extend_from_slice(bytes);
                if ended.is_some() {
                    pool.void(keys);
                    release_behind_fence(pool, place, std::mem::take(held), After::Write);
                }
            }
            Self::Sweeps(pool, place) => {
                if ended.is_some() {
                    pool.flush();
                    place.outbox.end_unknown();
                }
                place.put(bytes, ended);
            }
            Self::Select(place, selected) => {
                if let Some(kind) = ended {
                    selected.set(if kind == Kind::Error {
                        Selected::No
                    } else {
                        Selected::Yes
                    });
                }
                place.put(bytes, ended);
            }
            Self::Nobody | Self::Settled(_) => {}
            Self::Asked(reply, tell) => take_asked(reply, tell, bytes, ended),
            Self::Removes(removing) => removing.take(bytes, ended),
            Self::Shadow(check) => check.take(bytes, ended),
            Self::Value(reading) => reading.take(bytes, ended),
            Self::Ttl(reading, digits) => {
                digits.take(bytes);
                if ended.is_some() {
                    let ttl = ttl_of(digits.bytes());
                    let is_kept = ttl != Ttl::Absent || reading.pool.front.keeps_absent();
                    reading.finish(if is_kept { ttl } else { Ttl::Unknown });
                }
            }
        }
    }

    fn lose(self, why: &str) {
        match self {
            Self::Plain(place) => place.fail(why),
            Self::Observes(pool, place, keys, otherwise) => {
                match otherwise.and_then(|otherwise| otherwise.answer(&pool.front, &keys)) {
                    Some(stale) => place.put(&stale, Some(Kind::Reply)),
                    None => place.fail(why),
                }
            }
            // It may have been run all the same.
            Self::Writes(pool, place, keys) => {
                pool.void(&keys);
                place.fail(why);
            }
            // Whether upstream has it is not known; that the origin has it is.
            Self::Passed(pool, place, mut passed) => {
                pool.void(&passed.keys);
                passed.settle(&pool, Kind::Error);
                place.fail(why);
            }
            Self::Unknown(pool, place, keys, _) => {
                pool.void(&keys);
                release_behind_fence(&pool, &place, failure(why), After::LostWrite);
            }
            Self::Sweeps(pool, place) => {
                pool.flush();
                place.outbox.end_unknown();
                place.fail(why);
            }
            Self::Select(place, selected) => {
                selected.set(Selected::No);
                place.fail(why);
            }
            Self::Nobody | Self::Settled(_) | Self::Asked(..) => {}
            Self::Removes(removing) => removing.lose(why),
            Self::Shadow(mut check) => check.give_up(),
            Self::Value(reading) => reading.fail(why),
            Self::Ttl(reading, _) => reading.finish(Ttl::Unknown),
        }
    }
}

impl Reading {
    fn take(&self, bytes: &[u8], ended: Option<Kind>) {
        self.value.borrow_mut().extend_from_slice(bytes);
        if ended.is_some() && !self.is_kept {
            self.finish(Ttl::Unknown);
        }
    }

    fn finish(&self, ttl: Ttl) {
        let Some(token) = self.token.take() else {
            return;
        };
        let front = &self.pool.front;
        let value = self.value.take();
        if is_failure(&value) {
            return self.end(token, &value);
        }
        let store = &front.instance.store;
        let ruled = self.ruled.take();
        if let Some(ruled) = ruled.as_ref().filter(|ruled| ruled.loads(&value)) {
            // No nil of it is kept.
            let finished = front
                .near
                .finish(store, token, &value, Ttl::Unknown, front.now());
            let seats = finished.waiters.into_iter().collect();
            return ruled.load(&self.pool, seats);
        }
        if ruled.as_ref().is_some_and(|ruled| ruled.leases(&value)) {
            let finished = front
                .near
                .finish(store, token, &value, Ttl::Unknown, front.now());
            let seats = finished.waiters.into_iter().collect();
            if let Some(ruled) = ruled {
                tokio::task::spawn_local(ruled.lease(Rc::clone(&self.pool), seats));
            }
            return;
        }
        let ttl = ruled.map_or(ttl, |ruled| ruled.shorten(ttl));
        let now = front.now();
        let token = match front.near.try_finish(store, token, &value, ttl, now) {
            Ok(finished) => return settle(&self.pool, &self.link, finished, value),
            Err(token) => token,
        };
        // Whoever sees this reply must not be served older copies of other lines next, whether it
        // is this client, or another that is served the copy.
        let (pool, link) = (Rc::clone(&self.pool), Rc::clone(&self.link));
        tokio::task::spawn_local(async move {
            let front = &pool.front;
            let _ = front.tracker.fence().await;
            let (near, store) = (&front.near, &front.instance.store);
            let finished = near.finish(store, token, &value, ttl, front.now());
            settle(&pool, &link, finished, value);
        });
    }

    fn fail(&self, why: &str) {
        let Some(token) = self.token.take() else {
            return;
        };
        self.end(token, &failure(why));
    }

    /// Upstream failed: serves a stale copy where that is allowed, else says what happened.
    fn end(&self, token: Token, error: &[u8]) {
        let front = &self.pool.front;
        let (near, store) = (&front.near, &front.instance.store);
        if !self.may_be_stale || !near.serves_stale() {
            return self.pool.deliver(near.fail(token), error);
        }
        let mut stale = Vec::new();
        match near.fail_to_stale(store, token, front.now(), &mut stale) {
            (seats, None) => self.pool.deliver(seats, error),
            (seats, Some(_)) => {
                front.begin_stale();
                self.pool.deliver(seats, &stale);
            }
        }
    }
}

/// Tells who waits for a read.
fn settle(pool: &Rc<Pool>, link: &Rc<Link<Waiting>>, finished: Finished<Seat>, value: Vec<u8>) {
    if let Some(late) = finished.late {
        pool.read_anew(link, *late);
    }
    pool.deliver(finished.waiters, &value);
    pool.give_back(value);
}

/// What a reply that waits for a fence is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Read,
    /// A write of unknown keys, that was answered.
    Write,
    /// One of which nobody knows whether it was run.
    LostWrite,
}

/// Passes a reply on once all that has changed by now is voided.
fn release_behind_fence(pool: &Rc<Pool>, place: &Place, reply: Vec<u8>, after: After) {
    let (outbox, at) = (Rc::clone(&place.outbox), place.at);
    let front = Arc::clone(&pool.front);
    tokio::task::spawn_local(async move {
        if after == After::Write {
            front.settle_write().await;
        } else {
            let _ = front.tracker.fence().await;
        }
        if after != After::Read {
            outbox.end_unknown();
        }
        outbox.put(at, &reply, true);
    });
}

/// Whether an upstream says that it cannot answer now, whatever is asked.
fn is_failure(reply: &[u8]) -> bool {
    reply.first() == Some(&b'-')
        && (reply.starts_with(b"-LOADING ") || reply.starts_with(b"-MASTERDOWN "))
}

/// What `PTTL` said.
fn ttl_of(reply: &[u8]) -> Ttl {
    let digits = reply.strip_prefix(b":").map(<[u8]>::trim_ascii_end);
    let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<i64>().ok());
    match number {
        Some(-1) => Ttl::None,
        Some(-2) => Ttl::Absent,
        Some(ms) => u64::try_from(ms).map_or(Ttl::Unknown, Ttl::Millis),
        None => Ttl::Unknown,
    }
}

/// The error reply that says what happened to the upstream.
pub(super) fn failure(why: &str) -> Vec<u8> {
    let why = why.replace(['\r', '\n'], " ");
    format!("-ERR upstream {why}\r\n").into_bytes()
}

impl Pool {
    /// Gives a reply to all who wait for it, on whichever thread.
    pub(super) fn deliver(&self, seats: impl IntoIterator<Item = Seat>, reply: &[u8]) {
        let mut others: Vec<(u16, Vec<Seat>)> = Vec::new();
        for seat in seats {
            if usize::from(seat.thread) == self.thread {
                self.hand_over(seat, reply);
            } else if let Some((_, seats)) = others.iter_mut().find(|(at, _)| *at == seat.thread) {
                seats.push(seat);
            } else {
                others.push((seat.thread, vec![seat]));
            }
        }
        if others.is_empty() {
            return;
        }
        let reply: Arc<[u8]> = reply.into();
        for (thread, seats) in others {
            let parcel = Parcel {
                seats,
                reply: Arc::clone(&reply),
            };
            // A thread that has ended has no clients any more.
            let _ = self.front.mailboxes[usize::from(thread)].send(Letter::Parcel(parcel));
        }
    }

    /// Gives a reply to a client of this thread.
    pub(super) fn hand_over(&self, seat: Seat, reply: &[u8]) {
        let Some(outbox) = self.outbox(seat.client) else {
            // What it was given since it left is somebody else's.
            self.front.instance.policy.leave_elsewhere(seat.client);
            return;
        };
        if seat.part == WHOLE {
            outbox.put(seat.at, reply, true);
        } else {
            let part = usize::try_from(seat.part).unwrap_or(usize::MAX);
            outbox.put_part(seat.at, part, reply);
        }
    }

    /// Drops the copies of these keys.
    pub(super) fn void(&self, keys: &Keys) {
        for key in &keys.0 {
            self.front.void(key, Why::WriteEnd);
        }
    }

    /// Whether there may be copies of any of these keys.
    fn knows(&self, keys: &Keys) -> bool {
        let (near, store) = (&self.front.near, &self.front.instance.store);
        keys.0.iter().any(|key| near.knows(store, key))
    }

    /// Drops all copies.
    pub(super) fn flush(&self) {
        use crate::upstream::shared::Coherence as _;
        self.front.flush();
    }
}
