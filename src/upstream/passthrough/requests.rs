//! From the client to the upstream: which bytes are requests, and what is owed for them.

use tokio::io::{AsyncRead, AsyncWrite};

use super::link::Link;
use super::{
    BATCH_REQUESTS, Ended, Gate, LIMITS, OWED_REPLIES_MAX, Passthrough, REQUEST_BYTES_HELD,
    Requests,
};
use crate::resp::Decoder;
use crate::resp::frame::FrameScanner;
use crate::upstream::connect::count;
use crate::upstream::ledger::Owed;
use crate::upstream::session::{self, Effect};

impl<C: AsyncRead + AsyncWrite + Unpin> Passthrough<C> {
    /// Counts requests, as far as they may be sent.
    pub(super) fn account(&mut self) -> bool {
        let mut moved = false;
        loop {
            let again = match self.understood {
                Requests::Whole => self.account_whole(),
                Requests::Long(_) | Requests::Discarded(_) => self.account_long(),
                Requests::Stream => {
                    let before = std::mem::replace(&mut self.ready, self.requests.len());
                    return moved || before < self.ready;
                }
            };
            if !again || self.ending.is_some() {
                return moved;
            }
            moved = true;
        }
    }

    /// Counts what is complete of the requests held. True if something was done.
    pub(super) fn account_whole(&mut self) -> bool {
        match self.gate {
            Gate::Open => {}
            Gate::Reset => return false,
            Gate::Quit => {
                self.requests.truncate(self.ready);
                return false;
            }
        }
        if self.ledger.len() >= OWED_REPLIES_MAX {
            return false;
        }
        let held = &self.requests.bytes()[self.ready..];
        let decoded = self.decoder.decode(held, BATCH_REQUESTS, &LIMITS);
        let is_long = held.len() + self.decoder.wanted(held) > REQUEST_BYTES_HELD;
        if self.decoder.is_empty() && decoded.is_ok() && !is_long {
            return self.pass_over_empty_lines();
        }
        if let Some(moved) = self.intercept_first() {
            return moved;
        }
        if let Some(busy) = self.busy.take() {
            return self.answer_busy(busy);
        }
        match &self.link {
            Link::Open(_) => {}
            Link::Connecting(_) => return false,
            Link::Closed => return self.open_link(),
        }
        if self.decoder.is_empty() {
            if self.is_stranger() {
                self.end(Ended::ClientClosed);
            } else if decoded.is_ok() {
                self.begin_long(false);
            } else {
                self.begin_stream();
            }
            return true;
        }
        for at in 0..self.decoder.len() {
            let held = &self.requests.bytes()[self.ready..];
            let request = self.decoder.at(at, held);
            if at > 0 && self.is_intercepted(&request) {
                // To be looked at again when its turn comes.
                self.ready += self.decoder.end_of(at - 1);
                self.decoder = Decoder::default();
                return true;
            }
            let effect = session::effect(&request);
            let touched = self.touched(Some(&request));
            let is_added_to = self.is_added_to(&request);
            let end = self.decoder.end_of(at);
            let owed = self.ledger.len();
            self.owe(effect);
            self.note_owed(touched);
            if is_added_to && self.ledger.len() > owed {
                self.note_added_to();
            }
            let goes_on = self.gate == Gate::Open
                && matches!(self.understood, Requests::Whole)
                && self.ledger.len() < OWED_REPLIES_MAX;
            if !goes_on {
                // What is behind it is to be looked at again, or never.
                self.ready += end;
                self.decoder = Decoder::default();
                return true;
            }
        }
        self.ready += self.decoder.consume();
        true
    }

    /// Empty lines in front of an incomplete request mean nothing and are not answered.
    pub(super) fn pass_over_empty_lines(&mut self) -> bool {
        let empty = self.decoder.consume();
        if matches!(self.link, Link::Open(_)) {
            self.ready += empty;
        } else {
            self.requests.consume(empty);
        }
        empty > 0
    }

    /// Begins with a request too long to be held; its name is in what is held.
    pub(super) fn begin_long(&mut self, discarded: bool) {
        let (name, arguments) = name_of_long(&self.requests.bytes()[self.ready..]);
        let effect = session::effect_of_long(name, arguments);
        self.decoder = Decoder::default();
        if discarded {
            self.understood = Requests::Discarded(FrameScanner::new());
        } else {
            self.understood = Requests::Long(FrameScanner::new());
            let touched = self.touched(None);
            self.owe(effect);
            self.note_owed(touched);
        }
    }

    /// Follows a request that passes through in pieces. True if something was done.
    pub(super) fn account_long(&mut self) -> bool {
        let bytes = &self.requests.bytes()[self.ready..];
        if bytes.is_empty() {
            return false;
        }
        let (scanned, discarded) = match &mut self.understood {
            Requests::Long(scanner) => (scanner.scan(bytes), false),
            Requests::Discarded(scanner) => (scanner.scan(bytes), true),
            Requests::Whole | Requests::Stream => return false,
        };
        match scanned {
            Ok(scan) => {
                if discarded {
                    self.requests.consume(scan.len);
                } else {
                    self.ready += scan.len;
                }
                if scan.ended.is_some() {
                    self.understood = Requests::Whole;
                }
            }
            // The upstream will say what is wrong with it.
            Err(_) if !discarded => self.begin_stream(),
            Err(_) => self.end(Ended::UpstreamLost),
        }
        true
    }

    /// Notes a request that will be sent: what is owed for it, and what it does to the session.
    pub(super) fn owe(&mut self, effect: Effect) {
        count(&self.upstream.counters.requests, 1);
        let queued = self.session.in_transaction;
        let silent = self.session.sent(&effect);
        match effect {
            Effect::Stream => self.begin_stream(),
            Effect::Subscribe(..)
            | Effect::Unsubscribe(..)
            | Effect::Monitor
            | Effect::ReplyOn
            | Effect::ReplyOff
            | Effect::ReplySkip
                if queued =>
            {
                // EXEC would answer in a form that cannot be counted.
                self.begin_stream();
            }
            Effect::Subscribe(..) | Effect::Unsubscribe(..) | Effect::Monitor | Effect::Reset
                if silent =>
            {
                self.begin_stream();
            }
            Effect::ReplyOn => self.ledger.owe_reply(),
            Effect::Mute | Effect::ReplyOff | Effect::ReplySkip => {}
            Effect::Quit => {
                self.gate = Gate::Quit;
                if !silent {
                    self.ledger.owe(Owed::Quit);
                }
            }
            Effect::Change(_) if silent => self.session.bind(),
            _ if silent => {}
            Effect::Change(change) if !queued => self.ledger.owe(Owed::Change(change)),
            Effect::Block if !queued => self.ledger.owe(Owed::Blocking),
            Effect::Subscribe(family, channels) if channels > 0 => {
                self.ledger.owe(Owed::Subscribe(family, channels));
            }
            Effect::Unsubscribe(family, channels) => {
                self.ledger.owe(Owed::Unsubscribe(family, channels));
            }
            Effect::Monitor => self.ledger.owe(Owed::Monitor),
            Effect::Shutdown => self.ledger.owe(Owed::Shutdown),
            Effect::Reset => {
                if self.upstream.has_openings() {
                    self.gate = Gate::Reset;
                }
                self.ledger.owe(Owed::Reset);
            }
            Effect::None
            | Effect::Block
            | Effect::Kill
            | Effect::Begin
            | Effect::End
            | Effect::Watch
            | Effect::Unwatch
            | Effect::Track(_)
            | Effect::Change(_)
            | Effect::Bind
            | Effect::Subscribe(..) => self.ledger.owe_reply(),
        }
    }

    /// From here on requests are bytes, and so are replies once those owed so far have come.
    pub(super) fn begin_stream(&mut self) {
        self.understood = Requests::Stream;
        self.decoder = Decoder::default();
        self.ledger.owe(Owed::Stream);
    }
}

/// The name of a request that begins with `bytes`, and how many arguments it has, itself
/// included. No name where that alone is longer than what is held.
fn name_of_long(bytes: &[u8]) -> (&[u8], u64) {
    let mut lines = bytes.splitn(4, |&byte| byte == b'\n');
    let arguments = lines.next().and_then(|line| {
        std::str::from_utf8(line.get(1..)?)
            .ok()?
            .trim_end()
            .parse()
            .ok()
    });
    let name = lines.nth(1).unwrap_or_default().trim_ascii_end();
    (name, arguments.unwrap_or(1))
}
