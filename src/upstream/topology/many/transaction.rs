//! Transactions of a cluster's client: at one master, and of one slot.

use super::node::Expect;
use super::{CROSS_SLOT, Flow, Many, SLOT_DOWN};
use crate::resp::Request;
use crate::upstream::session::Effect;
use crate::upstream::topology::route::Route;
use crate::upstream::url::Endpoint;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";

/// What is between `WATCH` or `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Where it is, once it is anywhere.
    master: Option<Endpoint>,
    slot: Option<u16>,
    in_multi: bool,
    /// `MULTI` was sent.
    is_begun: bool,
    /// It was answered an error here, which its master does not know of.
    is_spoilt: bool,
}

impl Transaction {
    /// Whether requests are queued.
    pub(super) fn is_open(&self) -> bool {
        self.in_multi || self.master.is_some()
    }

    pub(super) fn is_at(&self, endpoint: &Endpoint) -> bool {
        self.master.as_ref() == Some(endpoint)
    }

    pub(super) fn spoil(&mut self) {
        self.is_spoilt |= self.in_multi;
    }
}

impl Many {
    /// A request of a transaction, or one that begins it.
    pub(super) fn take_in_transaction(
        &mut self,
        request: &Request<'_>,
        raw: &[u8],
        effect: &Effect,
        route: &Route,
    ) -> Flow {
        match effect {
            Effect::Begin if self.transaction.in_multi => {
                self.say(b"-ERR MULTI calls can not be nested\r\n");
            }
            Effect::Begin => {
                self.transaction.in_multi = true;
                if let Some(master) = self.transaction.master.clone() {
                    self.node(&master).ask(MULTI, Expect::Nobody);
                    self.transaction.is_begun = true;
                }
                self.say(b"+OK\r\n");
            }
            // The error is Redis's to say; what is watched stays so.
            Effect::End if !self.transaction.in_multi => self.ask_any(raw),
            Effect::End => self.end_transaction(request, raw),
            Effect::Watch if self.transaction.in_multi => {
                self.say(b"-ERR WATCH inside MULTI is not allowed\r\n");
            }
            Effect::Watch | Effect::Unwatch => {
                self.queue(raw, route);
                if matches!(effect, Effect::Unwatch) && !self.transaction.in_multi {
                    self.transaction = Transaction::default();
                }
            }
            Effect::Quit | Effect::Reset => {
                if !self.owed.is_empty() {
                    return Flow::Wait;
                }
                self.transaction = Transaction::default();
                self.nodes.clear();
                return self.take(request, raw);
            }
            Effect::None
            | Effect::Block
            | Effect::Mute
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
            | Effect::Shutdown => {
                if self.transaction.in_multi {
                    self.queue(raw, route);
                    return Flow::Taken;
                }
                // Watched keys are at one master; what is read meanwhile may be anywhere.
                let kept = std::mem::take(&mut self.transaction);
                let flow = self.take(request, raw);
                self.transaction = kept;
                return flow;
            }
        }
        Flow::Taken
    }

    /// Sends a request to where the transaction is.
    fn queue(&mut self, raw: &[u8], route: &Route) {
        let (slot, owner) = match route {
            Route::Slot(slot) => match self.map.owner(*slot).cloned() {
                Some(owner) => (Some(*slot), Some(owner)),
                None => return self.refuse(SLOT_DOWN),
            },
            Route::CrossSlot | Route::Split(..) => return self.refuse(CROSS_SLOT),
            Route::Any | Route::Every(_) | Route::Open | Route::Scan | Route::Answer(_) => {
                (None, None)
            }
        };
        let is_other = |before: Option<&Endpoint>| owner.is_some() && before != owner.as_ref();
        let is_other_slot = self.transaction.slot.is_some() && slot.is_some();
        if is_other_slot && self.transaction.slot != slot
            || self.transaction.master.is_some() && is_other(self.transaction.master.as_ref())
        {
            return self.refuse(CROSS_SLOT);
        }
        let master = self.transaction.master.clone().or(owner);
        let master = master.unwrap_or_else(|| self.map.masters()[0].clone());
        self.transaction.master = Some(master.clone());
        self.transaction.slot = self.transaction.slot.or(slot);
        if self.transaction.in_multi && !self.transaction.is_begun {
            self.node(&master).ask(MULTI, Expect::Nobody);
            self.transaction.is_begun = true;
        }
        self.ask_one(raw, &master);
        if let Some(owed) = self.owed.back_mut() {
            owed.is_fixed = true;
        }
    }

    fn refuse(&mut self, error: &[u8]) {
        self.transaction.spoil();
        self.say(error);
    }

    /// `EXEC` or `DISCARD`.
    fn end_transaction(&mut self, request: &Request<'_>, raw: &[u8]) {
        let is_exec = request.argument(0).eq_ignore_ascii_case(b"EXEC");
        let transaction = std::mem::take(&mut self.transaction);
        let Some(master) = transaction.master.filter(|_| transaction.is_begun) else {
            return match transaction.is_spoilt {
                true if is_exec => self.say(ABORTED),
                false if is_exec => self.say(b"*0\r\n"),
                _ => self.say(b"+OK\r\n"),
            };
        };
        if transaction.is_spoilt && is_exec {
            self.node(&master).ask(DISCARD, Expect::Nobody);
            return self.say(ABORTED);
        }
        self.ask_one(raw, &master);
        if let Some(owed) = self.owed.back_mut() {
            owed.is_fixed = true;
        }
    }
}

const ABORTED: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
