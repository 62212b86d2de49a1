//! From the upstream to the client: which bytes are replies, and what is answered in its place.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::busy::busy_reply;
use super::link::{Farewell, Link, Loss, Open};
use super::{
    BATCH_REQUESTS, Ended, Gate, LIMITS, Passthrough, REPLIES_BYTES_MAX, REQUEST_BYTES_HELD,
    Requests,
};
use crate::resp::Decoder;
use crate::resp::frame::Kind;
use crate::upstream::connect::{ConnectError, count};
use crate::upstream::ledger::{Owed, Settled, Words};
use crate::upstream::own::Monitored;
use crate::upstream::session::{self, Effect};

impl<C: AsyncRead + AsyncWrite + Unpin> Passthrough<C> {
    /// Opens a connection, unless all that is asked for is to end.
    pub(super) fn open_link(&mut self) -> bool {
        if !self.decoder.is_empty()
            && let Effect::Quit = session::effect(&self.decoder.at(0, self.requests.bytes()))
        {
            self.replies.extend(b"+OK\r\n");
            self.end(Ended::Quit);
            return true;
        }
        let upstream = Arc::clone(&self.upstream);
        let openings = self.session.openings();
        if let Some(connection) = self.connection(&openings) {
            self.link = Link::Open(Open::new(connection));
            return true;
        }
        let connecting = async move { upstream.connect_as(&openings).await };
        self.link = Link::Connecting(Box::pin(connecting));
        true
    }

    /// Moves what can be moved over the upstream connection. True if something has moved.
    pub(super) fn poll_link(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.link {
            Link::Closed => false,
            Link::Connecting(connecting) => match connecting.as_mut().poll(context) {
                Poll::Pending => false,
                Poll::Ready(Ok(connection)) => {
                    self.link = Link::Open(Open::new(connection));
                    true
                }
                Poll::Ready(Err(error)) => {
                    self.link = Link::Closed;
                    match busy_reply(&error) {
                        Some(busy) => self.answer_busy(busy),
                        None => {
                            self.refuse(&error);
                            true
                        }
                    }
                }
            },
            Link::Open(_) => {
                let read = self.read_upstream(context);
                self.write_upstream(context) || read
            }
        }
    }

    /// Reads what the upstream says, if there is room.
    pub(super) fn read_upstream(&mut self, context: &mut Context<'_>) -> bool {
        if self.is_held() {
            return false;
        }
        let Link::Open(open) = &mut self.link else {
            return false;
        };
        if self.replies.len() >= REPLIES_BYTES_MAX {
            return false;
        }
        let connection = open.connection.as_mut();
        match self
            .replies
            .poll_fill(context, connection, REPLIES_BYTES_MAX)
        {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) => self.lose(&Loss::Closed),
            Poll::Ready(Ok(read)) => {
                count(&self.upstream.counters.bytes_received, read);
                self.waiting_since = None;
                self.count_replies(read);
            }
            Poll::Ready(Err(error)) => self.lose(&Loss::Failed(error)),
        }
        true
    }

    /// Writes the requests that are counted. When that fails the upstream may still have said
    /// why: what remains is read first.
    pub(super) fn write_upstream(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Open(open) = &mut self.link else {
            return false;
        };
        let mut moved = false;
        while self.ready > 0 {
            if open.deaf {
                self.requests.consume(self.ready);
                self.ready = 0;
                return true;
            }
            let connection = open.connection.as_mut();
            match self.requests.poll_drain(context, connection, self.ready) {
                Poll::Pending => break,
                Poll::Ready(Ok(written)) => {
                    count(&self.upstream.counters.bytes_sent, written);
                    self.ready -= written;
                    self.waiting_since = None;
                    open.unflushed = true;
                    moved = true;
                }
                Poll::Ready(Err(_)) => open.deaf = true,
            }
        }
        open.poll_flush(context);
        if self.ready == 0 {
            open.poll_shutdown(context);
        }
        moved
    }

    /// Counts the replies in the last `new` bytes read.
    pub(super) fn count_replies(&mut self, new: usize) {
        let mut at = self.replies.len() - new;
        loop {
            if matches!(self.ledger.next(), Some(Owed::Stream)) {
                self.replies_stream = true;
            }
            if self.replies_stream || at == self.replies.len() {
                return self.leave_out_own(at);
            }
            if !self.scanner.is_within_frame() {
                self.words = self.ledger.is_curious().then(Words::default);
                self.begin_frame(self.replies.bytes()[at]);
            }
            let rest = &self.replies.bytes()[at..];
            let Ok(scan) = self.scanner.scan(rest) else {
                return self.lose_count();
            };
            if let Some(words) = &mut self.words {
                words.take(&rest[..scan.len]);
            }
            at += scan.len;
            self.collect(scan.len);
            if let Some(kind) = scan.ended {
                at = self.end_frame(at);
                count(&self.upstream.counters.replies, 1);
                self.settle(kind);
                if self.hold(self.replies.len() - at) {
                    return;
                }
                if self.ending.is_some() || !matches!(self.link, Link::Open(_)) {
                    return;
                }
            }
        }
    }

    /// Of what `MONITOR` shows, leaves out what no client asked for, from this place on.
    fn leave_out_own(&mut self, at: usize) {
        if let Some(monitored) = &mut self.monitored {
            let passed = monitored.pass(&self.replies.bytes()[at..]);
            self.replies.truncate(at);
            self.replies.extend(&passed);
        }
    }

    /// Does what a finished reply asks for.
    pub(super) fn settle(&mut self, kind: Kind) {
        let settled = self.ledger.settle(kind, self.words.as_ref());
        self.note_served(&settled, kind);
        match settled {
            Settled::Unasked | Settled::Reply => {}
            Settled::Changed(change) => self.session.confirm(*change),
            Settled::StreamBegins | Settled::Unexpected => self.lose_count(),
            Settled::MonitorBegins => {
                self.lose_count();
                self.monitored = Some(Monitored::default());
            }
            Settled::Reset => {
                self.session.reset();
                if self.gate == Gate::Reset {
                    self.gate = Gate::Open;
                    self.link = Link::Closed;
                }
            }
            Settled::Quit => self.end(Ended::Quit),
        }
    }

    /// Passes bytes on from here, both ways, and counts nothing any more.
    pub(super) fn lose_count(&mut self) {
        self.forget_additions();
        self.replies_stream = true;
        self.understood = Requests::Stream;
        self.decoder = Decoder::default();
    }

    /// There is no connection to be had: answers what is complete of the requests.
    pub(super) fn refuse(&mut self, error: &ConnectError) {
        let mut errors = 0;
        let mut premise = false;
        loop {
            let held = self.requests.bytes();
            let decoded = self.decoder.decode(held, BATCH_REQUESTS, &LIMITS);
            for at in 0..self.decoder.len() {
                let held = self.requests.bytes();
                let request = self.decoder.at(at, held);
                if self.is_own(&request) {
                    let before = at.checked_sub(1).map_or(0, |at| self.decoder.end_of(at));
                    self.decoder = Decoder::default();
                    self.requests.consume(before);
                    self.answer_errors(errors, error);
                    if premise || self.session.is_bound() {
                        self.end(Ended::UpstreamLost);
                    }
                    return;
                }
                let effect = session::effect(&request);
                if matches!(effect, Effect::Quit) {
                    self.answer_errors(errors, error);
                    self.replies.extend(b"+OK\r\n");
                    return self.end(Ended::Quit);
                }
                errors += usize::from(!matches!(effect, Effect::Mute));
                premise |= session::is_premise(&effect);
                self.session.sent(&effect);
            }
            let is_last = self.decoder.len() < BATCH_REQUESTS;
            let refused = self.decoder.consume();
            self.requests.consume(refused);
            if let Err(malformed) = decoded {
                self.answer_errors(errors, error);
                self.replies
                    .extend(format!("-ERR {malformed}\r\n").as_bytes());
                return self.end(Ended::UpstreamLost);
            }
            if is_last {
                break;
            }
        }
        let wanted = self.decoder.wanted(self.requests.bytes());
        if self.requests.len() + wanted > REQUEST_BYTES_HELD {
            errors += 1;
            self.begin_long(true);
        }
        self.answer_errors(errors, error);
        if premise || self.session.is_bound() {
            self.end(Ended::UpstreamLost);
        }
    }

    /// The connection is gone: answers what was owed, and decides whether the client can stay.
    pub(super) fn lose(&mut self, loss: &Loss) {
        self.forget_additions();
        self.forget_writes();
        let link = std::mem::replace(&mut self.link, Link::Closed);
        if matches!(&link, Link::Open(open) if open.farewell != Farewell::No) {
            return self.end(Ended::ClientClosed); // As asked for.
        }
        count(&self.upstream.counters.connections_lost, 1);
        self.waiting_since = None;
        let quitting = self.gate == Gate::Quit;
        self.gate = Gate::Open;
        self.requests.consume(self.ready);
        self.ready = 0;
        let counted = !self.replies_stream && !matches!(self.understood, Requests::Stream);
        let is_bound = !counted || self.ledger.is_bound() || self.session.is_bound();
        let is_cut = std::mem::take(&mut self.scanner).is_within_frame();
        let written_off = self.ledger.write_off();
        if is_cut || self.replies_stream {
            // An error in the middle of a reply would be taken for a part of it.
            let how = if quitting {
                Ended::Quit
            } else {
                Ended::UpstreamLost
            };
            return self.end(how);
        }
        let happened = format!("{} {loss}", self.upstream.shown());
        self.answer_errors(written_off.errors, &happened);
        if written_off.quit {
            self.replies.extend(b"+OK\r\n");
        }
        if written_off.quit || quitting {
            return self.end(Ended::Quit);
        }
        if written_off.shut_down || is_bound {
            return self.end(Ended::UpstreamLost);
        }
        if let Requests::Long(scanner) = &mut self.understood {
            self.understood = Requests::Discarded(std::mem::take(scanner));
        }
    }

    /// Answers so many requests with what happened to the upstream.
    pub(super) fn answer_errors(&mut self, errors: usize, happened: &impl fmt::Display) {
        if errors == 0 {
            return;
        }
        count(&self.upstream.counters.errors, errors);
        let text = match happened.to_string() {
            text if text.contains(['\r', '\n']) => text.replace(['\r', '\n'], " "),
            text => text,
        };
        let line = format!("-ERR upstream {text}\r\n");
        self.replies.extend(line.repeat(errors).as_bytes());
    }
}
