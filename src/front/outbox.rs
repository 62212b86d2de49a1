//! A client's replies, in the order of its requests, whenever they come.
//!
//! Each request that is not answered at once takes a place. The reply to the oldest one goes out
//! as it comes in; replies to later ones wait behind it. A reply of which a part went out and the
//! rest will not come is the last thing that the client is sent.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Waker};

/// A client's replies.
#[derive(Default)]
pub(super) struct Outbox {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In order, to be written.
    ready: Vec<u8>,
    places: VecDeque<Owed>,
    /// The number of the first place.
    first: u64,
    /// Bytes in places.
    held: usize,
    /// Bytes of the reply at the first place are in `ready`, or have left.
    has_begun: bool,
    /// What is in `ready` ends in the middle of a reply.
    is_torn: bool,
    /// Bytes of requests under way.
    asked: usize,
    /// Keys of requests under way, in the order of their places.
    busy: VecDeque<Use>,
    /// How many of them are of reads that joined another client's.
    joined: usize,
    /// The last place of such a read for whose key there was no room: until it is done with, any
    /// key may be one.
    joined_crowded: Option<u64>,
    /// The last place of a request with keys of which there was no room for all: until it is done
    /// with, any key may be busy.
    crowded: Option<u64>,
    /// Requests under way that may write any key.
    unknown: usize,
    waker: Option<Waker>,
    /// Nobody takes replies any more.
    is_closed: bool,
}

/// Keys of requests under way that are remembered, and compared with that of each next one.
const BUSY_MAX: usize = 1024;

/// A key of a request under way.
struct Use {
    /// The number of the request's place.
    at: u64,
    /// The key's.
    hash: u64,
    /// It is a read that joined another client's.
    is_joined: bool,
}

/// A reply that is owed.
struct Owed {
    place: Place,
    /// Bytes that were sent upstream for it.
    asked: usize,
}

enum Place {
    /// What came so far.
    Open(Vec<u8>),
    Done(Vec<u8>),
    /// An array that is put together.
    Parts(Parts),
}

/// An array that is put together.
pub(super) struct Parts {
    /// Those that are still to come are `None`.
    pub(super) parts: Vec<Option<Box<[u8]>>>,
    /// What stands for an element that is no string.
    pub(super) null: &'static [u8],
    missing: usize,
    /// Why there will be no array.
    error: Option<Box<[u8]>>,
}

impl Parts {
    pub(super) fn new(parts: Vec<Option<Box<[u8]>>>, null: &'static [u8]) -> Self {
        Self {
            missing: parts.iter().filter(|part| part.is_none()).count(),
            parts,
            null,
            error: None,
        }
    }

    fn bytes(&self) -> usize {
        self.parts.iter().flatten().map(|part| part.len()).sum()
    }

    fn put(&mut self, part: usize, reply: &[u8]) {
        let Some(place @ None) = self.parts.get_mut(part) else {
            return;
        };
        self.missing -= 1;
        if reply.starts_with(b"-WRONGTYPE") {
            *place = Some(self.null.into());
        } else if reply.starts_with(b"-") {
            *place = Some(Box::default());
            self.error = Some(reply.into());
        } else {
            *place = Some(reply.into());
        }
    }

    pub(super) fn write(&self, reply: &mut Vec<u8>) {
        if let Some(error) = &self.error {
            reply.extend_from_slice(error);
            return;
        }
        reply.extend_from_slice(format!("*{}\r\n", self.parts.len()).as_bytes());
        for part in self.parts.iter().flatten() {
            reply.extend_from_slice(part);
        }
    }
}

impl Outbox {
    /// Takes a place for the reply to the next request.
    pub(super) fn expect(&self) -> u64 {
        self.push(Place::Open(Vec::new()))
    }

    /// The same for an array of which some parts are there.
    pub(super) fn expect_parts(&self, parts: Parts) -> u64 {
        self.inner.borrow_mut().held += parts.bytes();
        self.push(Place::Parts(parts))
    }

    fn push(&self, place: Place) -> u64 {
        let mut inner = self.inner.borrow_mut();
        inner.places.push_back(Owed { place, asked: 0 });
        inner.first + inner.places.len() as u64 - 1
    }

    /// Answers the next request at once. `write` appends the reply, or returns false.
    pub(super) fn answer<R>(
        &self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), R>,
    ) -> Result<(), R> {
        let mut inner = self.inner.borrow_mut();
        if inner.places.is_empty() {
            return write(&mut inner.ready);
        }
        let mut reply = Vec::new();
        write(&mut reply)?;
        inner.held += reply.len();
        let place = Place::Done(reply);
        inner.places.push_back(Owed { place, asked: 0 });
        Ok(())
    }

    /// Answers the next request with these bytes.
    pub(super) fn say(&self, reply: &[u8]) {
        let said: Result<(), ()> = self.answer(|ready| {
            ready.extend_from_slice(reply);
            Ok(())
        });
        debug_assert!(said.is_ok(), "nothing here fails");
    }

    /// The next bytes of the reply at a place; `ended` with the last of them.
    pub(super) fn put(&self, at: u64, bytes: &[u8], ended: bool) {
        let mut inner = self.inner.borrow_mut();
        let Some(index) = inner.index(at) else { return };
        if index == 0 {
            inner.ready.extend_from_slice(bytes);
            inner.has_begun |= !bytes.is_empty();
            if ended {
                inner.pop();
                inner.advance();
            }
        } else if let Place::Open(reply) = &mut inner.places[index].place {
            reply.extend_from_slice(bytes);
            if ended {
                let reply = std::mem::take(reply);
                inner.places[index].place = Place::Done(reply);
            }
            inner.held += bytes.len();
        }
        inner.wake();
    }

    /// The rest of the reply at a place will not come: it is this error instead, or, where the
    /// client was sent a part of it, the end of all replies.
    pub(super) fn fail(&self, at: u64, error: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        let Some(index) = inner.index(at) else { return };
        if index == 0 && inner.has_begun {
            return inner.tear();
        }
        if let Place::Open(reply) = &mut inner.places[index].place {
            let came = std::mem::take(reply);
            inner.held -= came.len();
        }
        drop(inner);
        self.put(at, error, true);
    }

    /// Whether a reply will not be whole: when what is ready is written, the client must go.
    pub(super) fn is_torn(&self) -> bool {
        self.inner.borrow().is_torn
    }

    /// One part of the array at a place.
    pub(super) fn put_part(&self, at: u64, part: usize, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        let Some(index) = inner.index(at) else { return };
        if let Place::Parts(parts) = &mut inner.places[index].place {
            let before = parts.bytes();
            parts.put(part, bytes);
            let more = parts.bytes() - before;
            inner.held += more;
            if index == 0 {
                inner.advance();
                inner.wake();
            }
        }
    }

    /// The request at the last place uses this key.
    pub(super) fn use_key(&self, hash: u64) {
        let mut inner = self.inner.borrow_mut();
        let last = inner.last();
        if inner.busy.len() < BUSY_MAX {
            inner.busy.push_back(Use {
                at: last,
                hash,
                is_joined: false,
            });
        } else {
            inner.crowded = Some(last);
        }
    }

    /// The read at the last place, whose key was used last, has joined another client's.
    pub(super) fn note_joined(&self, hash: u64) {
        let inner = &mut *self.inner.borrow_mut();
        let at = inner.last();
        let used = inner.busy.back_mut();
        match used.filter(|used| used.at == at && used.hash == hash) {
            Some(used) => {
                inner.joined += usize::from(!used.is_joined);
                used.is_joined = true;
            }
            None => inner.joined_crowded = Some(at),
        }
    }

    /// Whether a read under way has joined another client's: it may be run after what this client
    /// asks for next.
    #[inline]
    pub(super) fn has_joined(&self) -> bool {
        let inner = self.inner.borrow();
        inner.joined > 0 || inner.joined_crowded.is_some()
    }

    /// The same of reads of this key.
    pub(super) fn has_joined_for(&self, hash: u64) -> bool {
        let inner = self.inner.borrow();
        let mut joined = inner.busy.iter().filter(|used| used.is_joined);
        inner.joined_crowded.is_some() || joined.any(|used| used.hash == hash)
    }

    /// So many bytes are sent upstream for the last place.
    pub(super) fn ask(&self, bytes: usize) {
        let mut inner = self.inner.borrow_mut();
        if let Some(owed) = inner.places.back_mut() {
            owed.asked += bytes;
            inner.asked += bytes;
        }
    }

    /// A request that may write any key is under way.
    pub(super) fn begin_unknown(&self) {
        self.inner.borrow_mut().unknown += 1;
    }

    /// It has ended.
    pub(super) fn end_unknown(&self) {
        self.inner.borrow_mut().unknown -= 1;
    }

    /// Whether a request under way may use this key: then the next one must follow it, and not be
    /// answered by what was known before.
    #[inline]
    pub(super) fn is_busy(&self, hash: u64) -> bool {
        let inner = self.inner.borrow();
        inner.unknown > 0
            || inner.crowded.is_some()
            || inner.busy.iter().any(|used| used.hash == hash)
    }

    /// Whether a request under way may write any key.
    pub(super) fn has_unknown(&self) -> bool {
        self.inner.borrow().unknown > 0
    }

    /// Whether no reply is owed.
    pub(super) fn is_idle(&self) -> bool {
        self.inner.borrow().places.is_empty()
    }

    /// Replies owed.
    pub(super) fn owed(&self) -> usize {
        self.inner.borrow().places.len()
    }

    /// Bytes of requests whose replies are owed.
    pub(super) fn asked(&self) -> usize {
        self.inner.borrow().asked
    }

    /// Bytes that wait, to be written or for others before them.
    pub(super) fn bytes(&self) -> usize {
        let inner = self.inner.borrow();
        inner.ready.len() + inner.held
    }

    /// Takes what is ready to be written, and leaves an empty buffer.
    pub(super) fn take(&self, spare: Vec<u8>) -> Vec<u8> {
        debug_assert!(spare.is_empty(), "it would be written twice");
        std::mem::replace(&mut self.inner.borrow_mut().ready, spare)
    }

    /// Whether something is ready to be written.
    pub(super) fn has_ready(&self) -> bool {
        !self.inner.borrow().ready.is_empty()
    }

    /// Who is to be woken by the next reply.
    pub(super) fn register(&self, context: &Context<'_>) {
        let mut inner = self.inner.borrow_mut();
        match &inner.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => inner.waker = Some(context.waker().clone()),
        }
    }

    /// The client has gone: what still comes is thrown away.
    pub(super) fn close(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.is_closed = true;
        inner.ready = Vec::new();
        inner.forget_places();
        inner.waker = None;
    }
}

impl Inner {
    /// Where a place is, if it is still there.
    fn index(&self, at: u64) -> Option<usize> {
        if self.is_closed {
            return None;
        }
        let index = usize::try_from(at.checked_sub(self.first)?).ok()?;
        (index < self.places.len()).then_some(index)
    }

    /// The number of the last place, of which there is one.
    fn last(&self) -> u64 {
        self.first + self.places.len() as u64 - 1
    }

    /// Moves what is in order to what is ready.
    fn advance(&mut self) {
        while let Some(owed) = self.places.front_mut() {
            match &mut owed.place {
                Place::Done(reply) => {
                    self.ready.extend_from_slice(reply);
                    self.held -= reply.len();
                }
                Place::Parts(parts) if parts.missing == 0 => {
                    self.held -= parts.bytes();
                    parts.write(&mut self.ready);
                }
                Place::Open(reply) => {
                    // From here on it goes out as it comes in.
                    self.held -= reply.len();
                    self.has_begun |= !reply.is_empty();
                    self.ready.append(reply);
                    return;
                }
                Place::Parts(_) => return,
            }
            self.pop();
        }
    }

    /// The oldest place is done with.
    fn pop(&mut self) {
        if let Some(owed) = self.places.pop_front() {
            self.asked -= owed.asked;
        }
        self.first += 1;
        self.has_begun = false;
        self.crowded = self.crowded.filter(|at| *at >= self.first);
        self.joined_crowded = self.joined_crowded.filter(|at| *at >= self.first);
        while let Some(done) = self.busy.pop_front_if(|used| used.at < self.first) {
            self.joined -= usize::from(done.is_joined);
        }
    }

    /// The reply that goes out will not be whole, so nothing can follow it.
    fn tear(&mut self) {
        self.is_torn = true;
        self.forget_places();
        self.wake_now();
    }

    fn forget_places(&mut self) {
        self.first += self.places.len() as u64;
        self.places.clear();
        self.held = 0;
        self.asked = 0;
        self.busy.clear();
        self.joined = 0;
        self.joined_crowded = None;
        self.crowded = None;
    }

    fn wake(&mut self) {
        if !self.ready.is_empty() {
            self.wake_now();
        }
    }

    fn wake_now(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(outbox: &Outbox) -> Vec<u8> {
        outbox.take(Vec::new())
    }

    #[test]
    fn replies_leave_in_the_order_of_requests_whenever_they_come() {
        let outbox = Outbox::default();
        let (first, second) = (outbox.expect(), outbox.expect());
        outbox.say(b"+third\r\n");
        outbox.put(second, b"+second\r\n", true);
        assert_eq!(ready(&outbox), b"");
        outbox.put(first, b"+first\r\n", true);
        assert_eq!(ready(&outbox), b"+first\r\n+second\r\n+third\r\n");
        assert!(outbox.is_idle());
        outbox.say(b"+at once\r\n");
        assert_eq!(ready(&outbox), b"+at once\r\n");
    }

    #[test]
    fn the_oldest_reply_leaves_in_pieces_and_so_does_the_next_once_it_is_the_oldest() {
        let outbox = Outbox::default();
        let (first, second) = (outbox.expect(), outbox.expect());
        outbox.put(second, b"$4\r\nab", false);
        outbox.put(first, b"$3\r\nx", false);
        assert_eq!(ready(&outbox), b"$3\r\nx");
        outbox.put(first, b"yz\r\n", true);
        assert_eq!(ready(&outbox), b"yz\r\n$4\r\nab");
        outbox.put(second, b"cd\r\n", true);
        assert_eq!(ready(&outbox), b"cd\r\n");
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn an_array_is_put_together_of_parts_that_come_in_any_order() {
        let outbox = Outbox::default();
        let known: Option<Box<[u8]>> = Some((*b"$1\r\nb\r\n").into());
        let parts = vec![None, known, None];
        let at = outbox.expect_parts(Parts::new(parts, b"$-1\r\n"));
        outbox.put_part(at, 2, b"-WRONGTYPE of a list\r\n");
        assert_eq!(ready(&outbox), b"");
        outbox.put_part(at, 0, b"$1\r\na\r\n");
        assert_eq!(ready(&outbox), b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn an_array_of_which_a_part_failed_is_that_error() {
        let outbox = Outbox::default();
        let at = outbox.expect_parts(Parts::new(vec![None, None], b"_\r\n"));
        outbox.put_part(at, 0, b"-ERR upstream has gone\r\n");
        outbox.put_part(at, 1, b"$1\r\nb\r\n");
        assert_eq!(ready(&outbox), b"-ERR upstream has gone\r\n");
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_key_is_busy_until_the_reply_to_its_request_has_left() {
        let outbox = Outbox::default();
        let first = outbox.expect();
        outbox.use_key(7);
        let second = outbox.expect();
        outbox.use_key(8);
        outbox.put(second, b":1\r\n", true);
        assert!(outbox.is_busy(7) && outbox.is_busy(8) && !outbox.is_busy(9));
        outbox.put(first, b":1\r\n", true);
        assert!(!outbox.is_busy(7) && !outbox.is_busy(8));
        outbox.begin_unknown();
        assert!(outbox.is_busy(9), "a script may write any key");
        outbox.end_unknown();
        assert!(!outbox.is_busy(9));
    }

    #[test]
    fn a_reply_that_breaks_off_when_it_has_begun_is_the_last_and_else_an_error() {
        let outbox = Outbox::default();
        let (first, second, third) = (outbox.expect(), outbox.expect(), outbox.expect());
        outbox.put(second, b"$4\r\nab", false);
        outbox.fail(second, b"-ERR gone\r\n");
        outbox.put(third, b"$4\r\nab", false);
        outbox.put(first, b"+first\r\n", true);
        assert_eq!(ready(&outbox), b"+first\r\n-ERR gone\r\n$4\r\nab");
        assert!(!outbox.is_torn());
        outbox.say(b"+fourth\r\n");
        outbox.fail(third, b"-ERR gone\r\n");
        assert!(outbox.is_torn() && outbox.is_idle());
        assert_eq!(ready(&outbox), b"");
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_reply_of_which_nothing_came_fails_as_an_error() {
        let outbox = Outbox::default();
        let (first, second) = (outbox.expect(), outbox.expect());
        outbox.put(first, b"$2\r\na", false);
        outbox.put(first, b"b\r\n", true);
        outbox.fail(second, b"-ERR gone\r\n");
        assert_eq!(ready(&outbox), b"$2\r\nab\r\n-ERR gone\r\n");
        assert!(!outbox.is_torn() && outbox.is_idle());
    }

    #[test]
    fn where_there_are_too_many_keys_to_remember_any_may_be_busy() {
        let outbox = Outbox::default();
        let (first, second) = (outbox.expect(), outbox.expect());
        for hash in 0..=BUSY_MAX as u64 {
            assert!(!outbox.is_busy(u64::MAX), "{hash}");
            outbox.use_key(hash);
        }
        assert!(outbox.is_busy(u64::MAX));
        outbox.put(first, b":1\r\n", true);
        assert!(outbox.is_busy(u64::MAX));
        outbox.put(second, b":1\r\n", true);
        assert!(!outbox.is_busy(u64::MAX) && !outbox.is_busy(0));
    }

    #[test]
    fn a_read_that_joined_another_is_known_by_its_key_until_its_reply_has_left() {
        let outbox = Outbox::default();
        let first = outbox.expect();
        outbox.use_key(7);
        assert!(!outbox.has_joined() && !outbox.has_joined_for(7));
        outbox.note_joined(7);
        let second = outbox.expect();
        outbox.use_key(8);
        assert!(outbox.has_joined() && outbox.has_joined_for(7) && !outbox.has_joined_for(8));
        outbox.put(first, b":1\r\n", true);
        assert!(!outbox.has_joined() && !outbox.has_joined_for(7));
        outbox.put(second, b":1\r\n", true);
    }

    #[test]
    fn a_read_that_joined_another_is_not_forgotten_for_want_of_room() {
        let outbox = Outbox::default();
        let (first, second) = (outbox.expect(), outbox.expect());
        for hash in 0..=BUSY_MAX as u64 {
            outbox.use_key(hash);
        }
        assert!(!outbox.has_joined());
        outbox.note_joined(BUSY_MAX as u64);
        assert!(outbox.has_joined_for(u64::MAX), "there was no room for it");
        outbox.put(first, b":1\r\n", true);
        let third = outbox.expect();
        outbox.use_key(7);
        outbox.note_joined(7);
        outbox.put(second, b":1\r\n", true);
        assert!(outbox.has_joined(), "it came when there was no room");
        outbox.put(third, b":1\r\n", true);
        assert!(!outbox.has_joined());
        // And where there was room again, before those that had none were done with.
        let crowded = outbox.expect();
        outbox.use_key(1);
        let crowd = outbox.expect();
        (0..BUSY_MAX as u64).for_each(|hash| outbox.use_key(hash));
        outbox.put(crowded, b":1\r\n", true);
        let joined = outbox.expect();
        outbox.use_key(7);
        outbox.note_joined(7);
        outbox.put(crowd, b":1\r\n", true);
        assert!(outbox.has_joined_for(7), "that is of a later place");
        outbox.put(joined, b":1\r\n", true);
        assert!(!outbox.has_joined());
    }

    #[test]
    fn a_request_counts_until_its_reply_has_left() {
        let outbox = Outbox::default();
        outbox.ask(7);
        assert_eq!(outbox.asked(), 0, "no reply is owed for that");
        let first = outbox.expect();
        outbox.ask(100);
        outbox.ask(10);
        let second = outbox.expect();
        outbox.ask(1);
        outbox.put(second, b"+second\r\n", true);
        assert_eq!(outbox.asked(), 111);
        outbox.put(first, b"+first\r\n", true);
        assert_eq!(outbox.asked(), 0);
    }

    #[test]
    fn replies_to_a_client_that_has_gone_are_thrown_away() {
        let outbox = Outbox::default();
        let at = outbox.expect();
        outbox.close();
        outbox.put(at, b"+late\r\n", true);
        outbox.put_part(at, 0, b"+late\r\n");
        assert_eq!(ready(&outbox), b"");
    }
}
