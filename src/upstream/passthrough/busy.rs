//! While a script holds it up, an upstream refuses what a new connection has to be told first.
//!
//! To the client that is the answer that it would have had on a connection from before: `BUSY`, to
//! every request. Only `MULTI` is allowed even then; the transaction it begins is refused as a
//! whole, as `EXEC` says, since nothing of it was sent: it must not be run in part once the script
//! has ended.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{BATCH_REQUESTS, Ended, LIMITS, Passthrough};
use crate::upstream::connect::{Cause, ConnectError, count};
use crate::upstream::session::{self, Effect};

const EXEC_ABORTED: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";

/// The error reply of an upstream that is busy with a script, if that is why there is no
/// connection.
pub(super) fn busy_reply(error: &ConnectError) -> Option<Vec<u8>> {
    match error.cause() {
        Cause::Rejected { error, .. } if error.starts_with("BUSY ") => {
            Some(format!("-{error}\r\n").into_bytes())
        }
        Cause::Rejected { .. }
        | Cause::NoMaster(_)
        | Cause::Refused
        | Cause::TimedOut(_)
        | Cause::Unresolved(_)
        | Cause::Io(_)
        | Cause::Tls(_)
        | Cause::TlsNotConfigured
        | Cause::Closed
        | Cause::NotRedis => None,
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Passthrough<C> {
    /// Answers what is complete of the requests held, of which nothing was sent, and remembers the
    /// answer until a transaction that was refused ends. True if something was done.
    pub(super) fn answer_busy(&mut self, busy: Vec<u8>) -> bool {
        let held = self.requests.bytes();
        let decoded = self.decoder.decode(held, BATCH_REQUESTS, &LIMITS);
        let mut replies = Vec::new();
        let (mut taken, mut errors, mut quits, mut resets) = (0, 0, false, false);
        for at in 0..self.decoder.len() {
            let request = self.decoder.at(at, self.requests.bytes());
            if quits || self.is_own(&request) {
                break;
            }
            let effect = session::effect(&request);
            if matches!(effect, Effect::Reset) && self.session.in_transaction {
                // It ends the transaction, and is then to be sent.
                self.session.sent(&effect);
                resets = true;
                break;
            }
            taken = self.decoder.end_of(at);
            match effect {
                Effect::Mute => continue,
                Effect::Quit => quits = true,
                Effect::Begin if !self.session.in_transaction => {}
                Effect::End if self.session.in_transaction => {
                    let is_exec = request.argument(0).eq_ignore_ascii_case(b"EXEC");
                    self.session.sent(&effect);
                    replies.extend_from_slice(if is_exec { EXEC_ABORTED } else { b"+OK\r\n" });
                    continue;
                }
                Effect::None
                | Effect::Block
                | Effect::Begin
                | Effect::End
                | Effect::Watch
                | Effect::Unwatch
                | Effect::Kill
                | Effect::Track(_)
                | Effect::Change(_)
                | Effect::Bind
                | Effect::Subscribe(..)
                | Effect::Unsubscribe(..)
                | Effect::ReplyOn
                | Effect::ReplyOff
                | Effect::ReplySkip
                | Effect::Monitor
                | Effect::Stream
                | Effect::Reset
                | Effect::Shutdown => {
                    errors += 1;
                    replies.extend_from_slice(&busy);
                    continue;
                }
            }
            self.session.sent(&effect);
            replies.extend_from_slice(b"+OK\r\n");
        }
        if resets {
            // It is looked at again.
        } else if taken == 0 && decoded.is_err() {
            // On no connection can this be told.
            self.end(Ended::UpstreamLost);
        } else if taken == 0 {
            errors += 1;
            replies.extend_from_slice(&busy);
            self.begin_long(true);
        }
        self.decoder = crate::resp::Decoder::default();
        self.requests.consume(taken);
        self.replies.extend(&replies);
        count(&self.upstream.counters.errors, errors);
        self.busy = self.session.in_transaction.then_some(busy);
        if quits {
            self.end(Ended::Quit);
        }
        true
    }
}
