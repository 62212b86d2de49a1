//! What a shared connection has yet to send, and who waits for the replies.

use std::collections::VecDeque;
use std::rc::Rc;

use tokio::time::Instant;

use super::pace::Pace;
use crate::clock;
use crate::upstream::connect::Opening;
use crate::upstream::own;

/// The next read is tracked. The name is written as [`own`] says.
const ANNOUNCEMENT: &[u8] = b"*3\r\n$6\r\ncLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n";

pub(super) struct Queue<W> {
    /// Not yet on their way.
    pub(super) requests: Vec<u8>,
    /// For the replies, in order; those of requests under way included.
    pub(super) waiting: VecDeque<Waiting<W>>,
    /// The database that the next request finds, if that is known.
    pub(super) database: Option<u32>,
    /// Requests ever handed over on this connection.
    pub(super) queued: u64,
    /// After a loss: requests leave a few at a time.
    pub(super) pace: Option<Pace>,
    /// There is no connection, and there will be none for now.
    pub(super) refused: Option<Refused>,
    /// The reads that upstream tracks, of those that come next.
    pub(super) tracks: Tracks,
}

/// The reads whose keys' changes upstream tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracks {
    /// Which ones is not for the connection to say.
    Unsaid,
    /// All of them, to the client of this id.
    All(u64),
    /// Those that are announced, to the client of this id.
    Announced(u64),
}

pub(super) struct Refused {
    pub(super) until: Instant,
    pub(super) why: Rc<str>,
}

pub(super) enum Waiting<W> {
    Client(W),
    /// The reply to a request of our own means nothing.
    Nobody,
    /// `CLIENT TRACKING`; of this generation of the tracker.
    Arming(u32),
    /// What says which reads are tracked: without it, what was read is not known to be.
    Choosing,
}

impl<W> Queue<W> {
    /// Of a connection that was not opened yet, and begins in this database.
    pub(super) fn new(database: u32) -> Self {
        Self {
            requests: Vec::new(),
            waiting: VecDeque::new(),
            database: Some(database),
            queued: 0,
            pace: Some(Pace::new(0, 0)),
            refused: None,
            tracks: Tracks::Unsaid,
        }
    }

    /// The connection is lost; the next one begins in this database. Who waits will get nothing.
    pub(super) fn lose(&mut self, database: u32) -> VecDeque<Waiting<W>> {
        self.requests.clear();
        self.database = Some(database);
        self.tracks = Tracks::Unsaid;
        self.pace = Some(Pace::new(0, self.queued));
        std::mem::take(&mut self.waiting)
    }

    /// Why nothing is taken now, if nothing is.
    pub(super) fn refusal(&mut self) -> Option<Rc<str>> {
        let refused = self.refused.as_ref()?;
        if clock::now() < refused.until {
            return Some(Rc::clone(&refused.why));
        }
        self.refused = None;
        None
    }

    /// The next request is to be run in this database.
    pub(super) fn select(&mut self, database: u32) {
        if self.database != Some(database) {
            let digits = database.to_string();
            let select = Opening::new("SELECT", &[own::SELECT, digits.as_bytes()]);
            self.push(&select.bytes, Waiting::Nobody);
            self.database = Some(database);
        }
    }

    /// Has all reads tracked from now on, or only those that are announced, where that can be said.
    pub(super) fn choose(&mut self, is_each_announced: bool) {
        let (client_id, chosen) = match self.tracks {
            Tracks::All(id) if is_each_announced => (id, Tracks::Announced(id)),
            Tracks::Announced(id) if !is_each_announced => (id, Tracks::All(id)),
            Tracks::Unsaid | Tracks::All(_) | Tracks::Announced(_) => return,
        };
        let on = Opening::redirect_to(client_id, is_each_announced);
        self.push(&on.bytes, Waiting::Choosing);
        self.tracks = chosen;
    }

    /// The next request is a read whose key's changes are to be told.
    pub(super) fn announce(&mut self) {
        if matches!(self.tracks, Tracks::Announced(_)) {
            self.push(ANNOUNCEMENT, Waiting::Choosing);
        }
    }

    /// Appends a request, unless its bytes are there, and who waits for its reply.
    pub(super) fn push(&mut self, request: &[u8], waiting: Waiting<W>) {
        self.requests.extend_from_slice(request);
        self.waiting.push_back(waiting);
        self.queued += 1;
        if let Some(pace) = &mut self.pace {
            pace.note(self.requests.len(), self.queued);
        }
    }

    /// From now on, requests leave a few at a time.
    pub(super) fn slow_down(&mut self, now: Instant) {
        let (bytes, upto) = (self.requests.len(), self.queued);
        let pace = self.pace.get_or_insert_with(|| Pace::new(bytes, upto));
        pace.go_on_from(now);
    }

    /// Takes what may leave, so many requests having been answered: bytes, and the number of
    /// requests up to their end.
    pub(super) fn leave(
        &mut self,
        spare: Vec<u8>,
        answered: u64,
        now: Instant,
    ) -> Option<(Vec<u8>, u64)> {
        if self.pace.as_ref().is_some_and(|pace| pace.is_over(now)) {
            self.pace = None;
        }
        let (rest, upto) = match &mut self.pace {
            None => (spare, self.queued),
            Some(pace) => {
                let portion = pace.take(answered)?;
                (self.requests.split_off(portion.bytes), portion.upto)
            }
        };
        Some((std::mem::replace(&mut self.requests, rest), upto))
    }
}
