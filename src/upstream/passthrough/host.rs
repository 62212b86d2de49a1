//! What the server adds by which a client is passed through: it answers some requests itself, and
//! has something to say behind some replies.
//!
//! A request of its own is answered when all before it are; it is not sent to the upstream. A reply
//! to which something is added is held back until it is whole, as its length comes first; one
//! that is longer than [`ADDED_TO_BYTES_MAX`] passes unchanged.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Ended, Passthrough, REPLIES_BYTES_MAX};
use crate::resp::frame::Kind;
use crate::resp::{Decoder, Request};
use crate::upstream::ledger::Settled;
use crate::upstream::session::{Replies, Session};

/// The longest reply that something is added to, in bytes.
const ADDED_TO_BYTES_MAX: usize = 60 * 1024;

// Else it could not be held back whole.
const _: () = assert!(ADDED_TO_BYTES_MAX < REPLIES_BYTES_MAX);

/// A server that passes clients through.
pub(crate) trait Host: Send + Sync {
    /// Whether this request is not for the upstream.
    fn is_own(&self, request: &Request<'_>) -> bool;

    /// Whether the client has to say first who it is: then all but that is the server's to refuse.
    fn is_stranger(&self, session: &Session) -> bool;

    /// Answers such a request. `was_served`: the upstream has accepted a command of this client.
    fn answer(&self, request: &Request<'_>, session: &Session, was_served: bool) -> Answer;

    /// What goes upstream in the place of this request, if that is something else.
    fn instead_of(&self, request: &Request<'_>) -> Option<Vec<u8>>;

    /// Whether there is something to add to the reply to this request.
    fn adds_to(&self, request: &Request<'_>) -> bool;

    /// What that is: lines of text.
    fn addition(&self) -> String;
}

/// An answer of the server's own.
pub(crate) struct Answer {
    /// The reply in wire form.
    pub(crate) reply: Vec<u8>,
    /// Whether the connection ends behind it.
    pub(crate) is_last: bool,
}

/// The server, and where its additions belong.
pub(super) struct Hosted {
    host: Arc<dyn Host>,
    was_served: bool,
    /// The numbers of replies to which something is added.
    added_to: VecDeque<usize>,
    /// Bytes of such a reply that have come, while it is held back.
    collected: Option<usize>,
}

impl Hosted {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Self {
            host,
            was_served: false,
            added_to: VecDeque::new(),
            collected: None,
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Passthrough<C> {
    /// Whether the server itself answers this request: not within a transaction, of which the
    /// upstream has the other commands, and not where replies are not wanted.
    pub(super) fn is_own(&self, request: &Request<'_>) -> bool {
        let is_plain = !self.session.in_transaction && self.session.replies == Replies::On;
        let Some(hosted) = &self.hosted else {
            return false;
        };
        is_plain && hosted.host.is_own(request) || self.is_stranger() && !introduces(request)
    }

    /// Whether the client has to say first who it is.
    pub(super) fn is_stranger(&self) -> bool {
        let hosted = self.hosted.as_ref();
        hosted.is_some_and(|hosted| hosted.host.is_stranger(&self.session))
    }

    /// Answers the request that was decoded first, of which nothing was sent, once nothing is owed
    /// before it. True if it was answered.
    fn answer_own(&mut self) -> bool {
        let is_due = self.ready == 0
            && self.ledger.is_empty()
            && !self.scanner.is_within_frame()
            && !self.replies_stream
            && !self.is_held();
        let (Some(hosted), true) = (&self.hosted, is_due) else {
            return false;
        };
        let request = self.decoder.at(0, self.requests.bytes());
        let answer = hosted
            .host
            .answer(&request, &self.session, hosted.was_served);
        let end = self.decoder.end_of(0);
        self.decoder = Decoder::default();
        self.requests.consume(end);
        self.replies.extend(&answer.reply);
        if answer.is_last {
            self.end(Ended::Quit);
        }
        true
    }

    /// Whether this request does not go upstream as it is.
    pub(super) fn is_intercepted(&self, request: &Request<'_>) -> bool {
        self.is_own(request) || self.instead_of(request).is_some()
    }

    /// Answers the request that was decoded first, or puts another in its place, if it does not go
    /// upstream as it is: whether something was done.
    pub(super) fn intercept_first(&mut self) -> Option<bool> {
        if self.decoder.is_empty() {
            return None;
        }
        let request = self.decoder.at(0, &self.requests.bytes()[self.ready..]);
        if self.is_own(&request) {
            return Some(self.answer_own());
        }
        let instead = self.instead_of(&request)?;
        let end = self.ready + self.decoder.end_of(0);
        self.requests.replace(self.ready..end, &instead);
        self.decoder = Decoder::default();
        Some(true)
    }

    /// What goes upstream in the place of this request, if that is something else.
    fn instead_of(&self, request: &Request<'_>) -> Option<Vec<u8>> {
        self.hosted.as_ref()?.host.instead_of(request)
    }

    /// Whether something is to be added to the reply to this request.
    pub(super) fn is_added_to(&self, request: &Request<'_>) -> bool {
        let hosted = self.hosted.as_ref();
        !self.session.in_transaction && hosted.is_some_and(|hosted| hosted.host.adds_to(request))
    }

    /// The request that was counted last is one of those.
    pub(super) fn note_added_to(&mut self) {
        let last = self.ledger.last();
        if let Some(hosted) = &mut self.hosted {
            hosted.added_to.push_back(last);
        }
    }

    /// A frame begins: holds it back if something is to be added to it.
    pub(super) fn begin_frame(&mut self, first: u8) {
        let next = self.ledger.settled() + 1;
        if let Some(hosted) = &mut self.hosted {
            let is_next = hosted.added_to.front() == Some(&next);
            hosted.collected = (is_next && matches!(first, b'$' | b'=')).then_some(0);
        }
    }

    /// More bytes of the frame have come.
    pub(super) fn collect(&mut self, len: usize) {
        if let Some(hosted) = &mut self.hosted
            && let Some(collected) = &mut hosted.collected
        {
            *collected += len;
            if *collected > ADDED_TO_BYTES_MAX {
                hosted.collected = None;
            }
        }
    }

    /// A frame has ended, at this place among the replies held. Returns where it ends now.
    pub(super) fn end_frame(&mut self, end: usize) -> usize {
        let Some(hosted) = &mut self.hosted else {
            return end;
        };
        let Some(len) = hosted.collected.take() else {
            return end;
        };
        let start = end - len;
        let held = &self.replies.bytes()[start..];
        let Some(longer) = with(&held[..len], &hosted.host.addition()) else {
            return end;
        };
        let behind = held[len..].to_vec();
        self.replies.truncate(start);
        self.replies.extend(&longer);
        self.replies.extend(&behind);
        start + longer.len()
    }

    /// A frame has been settled.
    pub(super) fn note_served(&mut self, settled: &Settled, kind: Kind) {
        let last = self.ledger.settled();
        let Some(hosted) = &mut self.hosted else {
            return;
        };
        if matches!(settled, Settled::Unasked) {
            return;
        }
        let is_past = |at: &usize| *at <= last;
        while hosted.added_to.front().is_some_and(is_past) {
            hosted.added_to.pop_front();
        }
        // RESET is allowed to everybody.
        hosted.was_served |= kind == Kind::Reply && !matches!(settled, Settled::Reset);
    }

    /// The replies that were to come will not.
    pub(super) fn forget_additions(&mut self) {
        if let Some(hosted) = &mut self.hosted {
            hosted.added_to.clear();
            hosted.collected = None;
        }
    }

    /// Bytes at the end of the replies that are held back, to be added to.
    pub(super) fn collected(&self) -> usize {
        let hosted = self.hosted.as_ref();
        hosted.and_then(|hosted| hosted.collected).unwrap_or(0)
    }
}

/// Whether a client says by it who it is, or that it leaves.
fn introduces(request: &Request<'_>) -> bool {
    let is = |word: &[u8], name: &[u8]| word.eq_ignore_ascii_case(name);
    let name = request.argument(0);
    let is_auth = |at| request.get(at).is_some_and(|word| is(word, b"AUTH"));
    let is_named = || request.get(2).is_some_and(|word| is(word, b"SETNAME"));
    let authenticates = || is_auth(2) || is_named() && is_auth(4);
    is(name, b"AUTH")
        || is(name, b"RESET")
        || is(name, b"QUIT")
        || is(name, b"HELLO") && authenticates()
}

/// A bulk or verbatim string with another section behind it.
fn with(frame: &[u8], addition: &str) -> Option<Vec<u8>> {
    let header = memchr::memchr(b'\n', frame)? + 1;
    let digits = std::str::from_utf8(frame[..header].get(1..header - 2)?).ok()?;
    let len: usize = digits.parse().ok()?;
    let text = frame.get(header..header + len)?;
    let is_empty = text.is_empty() || frame[0] == b'=' && text == b"txt:";
    let between = match text {
        _ if is_empty => "",
        _ if text.ends_with(b"\n") => "\r\n",
        _ => "\r\n\r\n",
    };
    let len = len + between.len() + addition.len();
    let mut longer = vec![frame[0]];
    longer.extend_from_slice(format!("{len}\r\n").as_bytes());
    longer.extend_from_slice(text);
    longer.extend_from_slice(between.as_bytes());
    longer.extend_from_slice(addition.as_bytes());
    longer.extend_from_slice(b"\r\n");
    Some(longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(frame: &str) -> Option<String> {
        with(frame.as_bytes(), "# Z\r\nz:1\r\n").map(|frame| String::from_utf8(frame).unwrap())
    }

    #[test]
    fn the_length_of_a_string_grows_by_what_is_added() {
        for (frame, longer) in [
            ("$0\r\n\r\n", "$10\r\n# Z\r\nz:1\r\n\r\n"),
            ("$5\r\na:1\r\n\r\n", "$17\r\na:1\r\n\r\n# Z\r\nz:1\r\n\r\n"),
            ("$1\r\na\r\n", "$15\r\na\r\n\r\n# Z\r\nz:1\r\n\r\n"),
            ("=4\r\ntxt:\r\n", "=14\r\ntxt:# Z\r\nz:1\r\n\r\n"),
            (
                "=9\r\ntxt:a:1\r\n\r\n",
                "=21\r\ntxt:a:1\r\n\r\n# Z\r\nz:1\r\n\r\n",
            ),
        ] {
            assert_eq!(added(frame).as_deref(), Some(longer), "{frame}");
        }
    }

    #[test]
    fn nothing_is_added_to_a_null() {
        assert_eq!(added("$-1\r\n"), None);
    }
}
