//! Transactions of a cluster's client: at one master, and of one slot.
//!
//! Where the slot moves on meanwhile, what was watched counts as changed, as moving removes it.

use super::node::Expect;
use super::{CROSS_SLOT, Flow, Many, SLOT_DOWN, TRY_AGAIN};
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
    /// How many `WATCH` are not answered an error, and the number of the first one's reply.
    watches: usize,
    watches_since: u64,
    queue: Queue,
    /// It was answered an error here, which its master does not know of.
    is_spoilt: bool,
    /// Its slot has moved, and with it what was watched.
    has_moved: bool,
}

/// Whether requests are queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Queue {
    #[default]
    None,
    /// `MULTI` is still to be sent.
    Announced,
    Begun,
}

impl Transaction {
    /// Whether requests are queued.
    pub(super) fn is_open(&self) -> bool {
        self.in_multi() || self.master.is_some()
    }

    fn in_multi(&self) -> bool {
        self.queue != Queue::None
    }

    pub(super) fn is_at(&self, endpoint: &Endpoint) -> bool {
        self.master.as_ref() == Some(endpoint)
    }

    pub(super) fn spoil(&mut self) {
        self.is_spoilt |= self.in_multi();
    }

    /// The reply with this number is the error of a `WATCH`: it binds to no master.
    pub(super) fn lose_watch(&mut self, number: u64) {
        if self.watches == 0 || number < self.watches_since {
            return;
        }
        self.watches -= 1;
        if self.watches == 0 && !self.in_multi() && !self.has_moved {
            *self = Self::default();
        }
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
            Effect::Begin if self.transaction.in_multi() => {
                self.say(b"-ERR MULTI calls can not be nested\r\n");
            }
            Effect::Begin => {
                self.transaction.queue = Queue::Announced;
                if let Some(master) = self.transaction.master.clone() {
                    self.begin(&master);
                }
                self.say(b"+OK\r\n");
            }
            // The error is Redis's to say; what is watched stays so.
            Effect::End if !self.transaction.in_multi() => self.ask_any(raw),
            Effect::End => self.end_transaction(request, raw),
            Effect::Watch if self.transaction.in_multi() => {
                self.say(b"-ERR WATCH inside MULTI is not allowed\r\n");
            }
            Effect::Watch => self.watch(raw, route),
            Effect::Unwatch => {
                self.queue(raw, route);
                if !self.transaction.in_multi() {
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
                if self.transaction.in_multi() {
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

    fn begin(&mut self, master: &Endpoint) {
        self.node(master).ask(MULTI, Expect::Nobody);
        self.transaction.queue = Queue::Begun;
    }

    fn watch(&mut self, raw: &[u8], route: &Route) {
        if let Route::Slot(slot) = route
            && self.transaction.slot == Some(*slot)
            && self.transaction.master.as_ref() != self.map.owner(*slot)
        {
            self.transaction.has_moved = true;
            self.transaction.master = None;
        }
        let number = self.first + self.owed.len() as u64;
        self.queue(raw, route);
        let Some(owed) = self.owed.back_mut().filter(|owed| owed.is_fixed) else {
            return;
        };
        owed.is_watch = true;
        if self.transaction.watches == 0 {
            self.transaction.watches_since = number;
        }
        self.transaction.watches += 1;
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
        let (before, at) = (self.transaction.slot, &self.transaction.master);
        let is_elsewhere = at.is_some() && owner.is_some() && *at != owner;
        match before {
            Some(_) if slot.is_some() && before != slot => return self.refuse(CROSS_SLOT),
            Some(_) if is_elsewhere => return self.refuse(TRY_AGAIN),
            None if is_elsewhere => return self.refuse(CROSS_SLOT),
            Some(_) | None => {}
        }
        let master = self.transaction.master.clone().or(owner);
        let master = master.unwrap_or_else(|| self.map.masters()[0].clone());
        self.transaction.master = Some(master.clone());
        self.transaction.slot = self.transaction.slot.or(slot);
        if self.transaction.queue == Queue::Announced {
            self.begin(&master);
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
        let is_begun = transaction.queue == Queue::Begun;
        let master = transaction.master.filter(|_| is_begun);
        let said = match (is_exec, &master) {
            (true, _) if transaction.is_spoilt => ABORTED,
            (true, _) if transaction.has_moved && self.is_resp3 => b"_\r\n",
            (true, _) if transaction.has_moved => b"*-1\r\n",
            (true, None) => b"*0\r\n",
            (false, None) => b"+OK\r\n",
            (_, Some(master)) => {
                self.ask_one(raw, master);
                if let Some(owed) = self.owed.back_mut() {
                    owed.is_fixed = true;
                }
                return;
            }
        };
        if let Some(master) = master {
            self.node(&master).ask(DISCARD, Expect::Nobody);
        }
        self.say(said);
    }
}

const ABORTED: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
