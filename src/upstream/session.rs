//! What a client's requests leave behind in its upstream connection, told from the requests
//! alone: what a new connection can be told again, and what is lost with the old one.
//!
//! Only commands that change a connection are known here by name; every other one is
//! [`Effect::None`], so commands of any version and any module pass through.

use crate::resp::{Decoder, Limits, Request};

use super::connect::Opening;
use super::ledger::Family;

/// What a request does beyond being answered once.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// It may wait for as long as it pleases.
    Block,
    /// It never has a reply.
    Mute,
    /// `MULTI`
    Begin,
    /// `EXEC`, `DISCARD`: the end of `MULTI` and of every `WATCH`.
    End,
    /// `WATCH`
    Watch,
    /// `UNWATCH`
    Unwatch,
    /// `CLIENT KILL`, perhaps of itself.
    Kill,
    /// `CLIENT TRACKING`, on or off.
    Track(bool),
    /// It changes what can be told again to a new connection, once it succeeded.
    Change(Box<Change>),
    /// It leaves something that cannot be told again.
    Bind,
    /// `SUBSCRIBE` and its like, with so many channels.
    Subscribe(Family, u64),
    /// `UNSUBSCRIBE` and its like; no number: all channels.
    Unsubscribe(Family, Option<u64>),
    /// `CLIENT REPLY ON`
    ReplyOn,
    /// `CLIENT REPLY OFF`
    ReplyOff,
    /// `CLIENT REPLY SKIP`
    ReplySkip,
    /// `MONITOR`
    Monitor,
    /// What follows is no sequence of requests and replies: replication, the script debugger.
    Stream,
    /// `RESET`
    Reset,
    /// `QUIT`
    Quit,
    /// `SHUTDOWN`: its success is the end of the connection.
    Shutdown,
}

/// What one successful request changes.
#[derive(Debug, Default)]
pub(crate) struct Change {
    updates: Vec<(Slot, Opening)>,
}

impl Change {
    /// Whether what follows means something else without this change: another user, database or
    /// protocol. A name or a comfort can be missing.
    pub(crate) fn is_binding(&self) -> bool {
        let binding = |slot: &Slot| {
            matches!(
                slot,
                Slot::Auth | Slot::Hello | Slot::Cluster | Slot::Select
            )
        };
        self.updates.iter().any(|(slot, _)| binding(slot))
    }

    fn of(slot: Slot, name: &'static str, request: &Request<'_>) -> Effect {
        let mut change = Self::default();
        let arguments: Vec<&[u8]> = request.iter_from(0).collect();
        change.set(slot, name, &arguments);
        change.into_effect()
    }

    fn set(&mut self, slot: Slot, name: &'static str, arguments: &[&[u8]]) {
        self.updates.push((slot, Opening::new(name, arguments)));
    }

    fn into_effect(self) -> Effect {
        let bytes: usize = self
            .updates
            .iter()
            .map(|(_, opening)| opening.bytes.len())
            .sum();
        if bytes > CHANGE_BYTES_MAX {
            return Effect::Bind;
        }
        if self.updates.is_empty() {
            return Effect::None;
        }
        Effect::Change(Box::new(self))
    }
}

/// Bytes that a client may have us remember of one request, to tell it again.
pub(crate) const CHANGE_BYTES_MAX: usize = 4 * 1024;

/// A part of a connection's state; a later change of it replaces an earlier one. They are told
/// again in this order: who it is first, since everything else may need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Auth,
    Hello,
    Name,
    LibraryName,
    LibraryVersion,
    NoEvict,
    NoTouch,
    Cluster,
    Select,
}

/// What a connection was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// It authenticated, beyond what the URL says.
    pub(crate) is_other_user: bool,
    pub(crate) speaks_resp3: bool,
    pub(crate) name: Vec<u8>,
    /// Not the URL's.
    pub(crate) database: Option<u32>,
}

/// Whether a client wants replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    #[default]
    On,
    Off,
    /// All but the next one.
    Skip,
}

/// One client's state in its upstream connection.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "any of them may hold without the others"
)]
pub(crate) struct Session {
    /// Sorted by slot; what the upstream confirmed.
    openings: Vec<(Slot, Opening)>,
    /// Between `MULTI` and `EXEC`, by what was sent.
    pub(crate) in_transaction: bool,
    watching: bool,
    tracking: bool,
    /// The last request was one to kill clients: if the connection ends now, it meant this one.
    killing: bool,
    bound: bool,
    /// `RESET` succeeded: whoever it was before, it is not any more.
    pub(crate) was_reset: bool,
    pub(crate) replies: Replies,
}

impl Session {
    /// Whether there is something that a new connection would not have, and could not be told.
    pub(crate) fn is_bound(&self) -> bool {
        self.in_transaction
            || self.watching
            || self.tracking
            || self.killing
            || self.bound
            || self.replies != Replies::On
    }

    /// Whether its next request has no reply.
    pub(crate) fn is_silent(&self) -> bool {
        self.replies != Replies::On
    }

    /// What a new connection must be told.
    pub(crate) fn openings(&self) -> Vec<Opening> {
        self.openings
            .iter()
            .map(|(_, opening)| opening.clone())
            .collect()
    }

    /// What the connection is told of: who, in which dialect, by which name, in which database.
    pub(crate) fn told(&self) -> Told {
        let mut told = Told::default();
        for (slot, opening) in &self.openings {
            let mut decoder = Decoder::default();
            let decoded = decoder.decode(&opening.bytes, 1, &Limits::default());
            if decoded.is_err() || decoder.is_empty() {
                continue;
            }
            let request = decoder.at(0, &opening.bytes);
            let last = request.argument(request.len() - 1);
            let text = std::str::from_utf8(last).unwrap_or_default();
            match slot {
                Slot::Auth => told.is_other_user = true,
                Slot::Hello => told.speaks_resp3 = text == "3",
                Slot::Name => told.name = last.to_vec(),
                Slot::Select => told.database = text.parse().ok(),
                Slot::LibraryName
                | Slot::LibraryVersion
                | Slot::NoEvict
                | Slot::NoTouch
                | Slot::Cluster => {}
            }
        }
        told
    }

    /// Notes a change that succeeded.
    pub(crate) fn confirm(&mut self, change: Change) {
        for (slot, opening) in change.updates {
            match self.openings.binary_search_by_key(&slot, |(slot, _)| *slot) {
                Ok(at) => self.openings[at].1 = opening,
                Err(at) => self.openings.insert(at, (slot, opening)),
            }
        }
    }

    /// Notes something that cannot be told again.
    pub(crate) fn bind(&mut self) {
        self.bound = true;
    }

    /// `RESET` succeeded. What was sent behind it holds.
    pub(crate) fn reset(&mut self) {
        self.openings.clear();
        self.bound = false;
        self.was_reset = true;
    }

    /// Notes what holds from the moment a request is sent. True if it will not be answered.
    pub(crate) fn sent(&mut self, effect: &Effect) -> bool {
        let silent = self.replies != Replies::On;
        if self.replies == Replies::Skip {
            self.replies = Replies::On;
        }
        self.killing = matches!(effect, Effect::Kill);
        match effect {
            Effect::Begin => self.in_transaction = true,
            Effect::End => {
                self.in_transaction = false;
                self.watching = false;
            }
            Effect::Watch => self.watching = true,
            Effect::Unwatch => self.watching = false,
            Effect::Track(on) => self.tracking = *on,
            Effect::Bind => self.bound = true,
            Effect::Change(_) if self.in_transaction => self.bound = true,
            Effect::ReplyOn => self.replies = Replies::On,
            Effect::ReplyOff => self.replies = Replies::Off,
            Effect::ReplySkip if self.replies == Replies::On => self.replies = Replies::Skip,
            Effect::Reset => {
                self.in_transaction = false;
                self.watching = false;
                self.tracking = false;
                self.replies = Replies::On;
            }
            Effect::None
            | Effect::Block
            | Effect::Mute
            | Effect::Kill
            | Effect::Change(_)
            | Effect::Subscribe(..)
            | Effect::Unsubscribe(..)
            | Effect::ReplySkip
            | Effect::Monitor
            | Effect::Stream
            | Effect::Quit
            | Effect::Shutdown => {}
        }
        silent
    }
}

/// Whether what a client sends after this request means something else if it failed; what
/// [`Session::is_bound`] tells of it by itself is left out.
pub(crate) fn is_premise(effect: &Effect) -> bool {
    match effect {
        Effect::Change(change) => change.is_binding(),
        Effect::Subscribe(..)
        | Effect::ReplyOff
        | Effect::ReplySkip
        | Effect::Monitor
        | Effect::Stream => true,
        Effect::None
        | Effect::Block
        | Effect::Mute
        | Effect::Kill
        | Effect::Begin
        | Effect::End
        | Effect::Watch
        | Effect::Unwatch
        | Effect::Track(_)
        | Effect::Bind
        | Effect::Unsubscribe(..)
        | Effect::ReplyOn
        | Effect::Reset
        | Effect::Quit
        | Effect::Shutdown => false,
    }
}

/// The longest name looked at.
const NAME_BYTES_MAX: usize = 16;

/// What a request does, by its name and arguments.
pub(crate) fn effect(request: &Request<'_>) -> Effect {
    let mut upper = [0; NAME_BYTES_MAX];
    match uppercase(request.argument(0), &mut upper) {
        b"AUTH" => Change::of(Slot::Auth, "AUTH", request),
        b"CLIENT" => client(request),
        b"HELLO" => hello(request),
        b"READONLY" | b"READWRITE" => Change::of(Slot::Cluster, "READONLY", request),
        b"REPLCONF" => replconf(request),
        b"SCRIPT" => script(request),
        b"SELECT" => Change::of(Slot::Select, "SELECT", request),
        b"XREAD" | b"XREADGROUP" if has_block(request) => Effect::Block,
        name => by_name(name, request.len()),
    }
}

/// What a request does of which only the name and the number of arguments (the name included)
/// are at hand, since it is too long to be held.
pub(crate) fn effect_of_long(name: &[u8], arguments: u64) -> Effect {
    let mut upper = [0; NAME_BYTES_MAX];
    match uppercase(name, &mut upper) {
        b"AUTH" | b"CLIENT" | b"HELLO" | b"SELECT" | b"REPLCONF" => Effect::Bind,
        // Without BLOCK it is answered at once, and then it does not matter.
        b"XREAD" | b"XREADGROUP" => Effect::Block,
        name => by_name(name, usize::try_from(arguments).unwrap_or(usize::MAX)),
    }
}

fn by_name(name: &[u8], len: usize) -> Effect {
    let channels = u64::try_from(len - 1).unwrap_or(u64::MAX);
    let some = (channels > 0).then_some(channels);
    match name {
        b"BLPOP" | b"BRPOP" | b"BRPOPLPUSH" | b"BLMOVE" | b"BLMPOP" | b"BZPOPMIN" | b"BZPOPMAX"
        | b"BZMPOP" | b"WAIT" | b"WAITAOF" => Effect::Block,
        b"MULTI" => Effect::Begin,
        b"EXEC" | b"DISCARD" => Effect::End,
        b"WATCH" => Effect::Watch,
        b"UNWATCH" => Effect::Unwatch,
        b"SUBSCRIBE" => Effect::Subscribe(Family::Channels, channels),
        b"PSUBSCRIBE" => Effect::Subscribe(Family::Patterns, channels),
        b"SSUBSCRIBE" => Effect::Subscribe(Family::Shards, channels),
        b"UNSUBSCRIBE" => Effect::Unsubscribe(Family::Channels, some),
        b"PUNSUBSCRIBE" => Effect::Unsubscribe(Family::Patterns, some),
        b"SUNSUBSCRIBE" => Effect::Unsubscribe(Family::Shards, some),
        b"MONITOR" => Effect::Monitor,
        b"SYNC" | b"PSYNC" => Effect::Stream,
        b"RESET" => Effect::Reset,
        b"QUIT" => Effect::Quit,
        b"SHUTDOWN" => Effect::Shutdown,
        _ => Effect::None,
    }
}

/// The name in upper case; empty if it is longer than any that is looked for.
fn uppercase<'a>(name: &[u8], upper: &'a mut [u8; NAME_BYTES_MAX]) -> &'a [u8] {
    let Some(upper) = upper.get_mut(..name.len()) else {
        return b"";
    };
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    upper
}

fn is(argument: Option<&[u8]>, word: &str) -> bool {
    argument.is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
}

fn client(request: &Request<'_>) -> Effect {
    let (verb, value) = (request.get(1), request.get(2));
    if is(verb, "SETNAME") {
        Change::of(Slot::Name, "CLIENT SETNAME", request)
    } else if is(verb, "SETINFO") && is(value, "LIB-NAME") {
        Change::of(Slot::LibraryName, "CLIENT SETINFO", request)
    } else if is(verb, "SETINFO") {
        Change::of(Slot::LibraryVersion, "CLIENT SETINFO", request)
    } else if is(verb, "NO-EVICT") {
        Change::of(Slot::NoEvict, "CLIENT NO-EVICT", request)
    } else if is(verb, "NO-TOUCH") {
        Change::of(Slot::NoTouch, "CLIENT NO-TOUCH", request)
    } else if is(verb, "KILL") {
        Effect::Kill
    } else if is(verb, "TRACKING") {
        Effect::Track(!is(value, "OFF"))
    } else if is(verb, "REPLY") && is(value, "ON") {
        Effect::ReplyOn
    } else if is(verb, "REPLY") && is(value, "OFF") {
        Effect::ReplyOff
    } else if is(verb, "REPLY") && is(value, "SKIP") {
        Effect::ReplySkip
    } else {
        Effect::None
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`: up to three changes at once, kept
/// apart, since a later `AUTH` or `CLIENT SETNAME` replaces its part of it.
fn hello(request: &Request<'_>) -> Effect {
    let mut change = Change::default();
    if let Some(version) = request.get(1) {
        change.set(Slot::Hello, "HELLO", &[b"HELLO", version]);
    }
    let mut at = 2;
    while at < request.len() {
        if is(request.get(at), "AUTH")
            && let (Some(user), Some(password)) = (request.get(at + 1), request.get(at + 2))
        {
            change.set(Slot::Auth, "AUTH", &[b"AUTH", user, password]);
            at += 3;
        } else if is(request.get(at), "SETNAME")
            && let Some(name) = request.get(at + 1)
        {
            let arguments: [&[u8]; 3] = [b"CLIENT", b"SETNAME", name];
            change.set(Slot::Name, "CLIENT SETNAME", &arguments);
            at += 2;
        } else {
            break; // It will be refused.
        }
    }
    change.into_effect()
}

/// A replica's report is not answered; what else it says of itself belongs to the connection.
fn replconf(request: &Request<'_>) -> Effect {
    let report = |word| is(Some(word), "ACK") || is(Some(word), "GETACK");
    if request.iter_from(1).step_by(2).any(report) {
        Effect::Mute
    } else {
        Effect::Bind
    }
}

/// `SCRIPT DEBUG` makes of the next `EVAL` a dialogue of its own.
fn script(request: &Request<'_>) -> Effect {
    if is(request.get(1), "DEBUG") && !is(request.get(2), "NO") {
        Effect::Stream
    } else {
        Effect::None
    }
}

fn has_block(request: &Request<'_>) -> bool {
    request
        .iter_from(1)
        .take_while(|argument| !is(Some(argument), "STREAMS"))
        .any(|argument| is(Some(argument), "BLOCK"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::OwnedRequest;

    fn effect_of(line: &str) -> Effect {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        effect(&OwnedRequest::of(&words).as_request())
    }

    /// What a new connection is told after these succeeded.
    fn told_after(lines: &[&str]) -> String {
        let mut session = Session::default();
        for line in lines {
            let effect = effect_of(line);
            session.sent(&effect);
            if let Effect::Change(change) = effect {
                session.confirm(*change);
            }
        }
        assert!(!session.is_bound());
        let bytes: Vec<u8> = session
            .openings()
            .into_iter()
            .flat_map(|opening| opening.bytes)
            .collect();
        let text = String::from_utf8(bytes).unwrap();
        let words: Vec<&str> = text
            .split("\r\n")
            .filter(|line| !line.starts_with('$'))
            .collect();
        words.join(" ").trim().to_owned()
    }

    #[test]
    fn effects_are_told_by_name_and_argument_in_any_case() {
        for (line, effect) in [
            ("get k", "None"),
            ("an-unknown-command-of-a-module", "None"),
            ("blpop k 0", "Block"),
            ("XREAD COUNT 1 block 0 STREAMS s 0", "Block"),
            ("XREADGROUP GROUP g c BLOCK 1 STREAMS s >", "Block"),
            ("XREAD COUNT 1 STREAMS block 0", "None"),
            ("multi", "Begin"),
            ("exec", "End"),
            ("discard", "End"),
            ("subscribe a b", "Subscribe(Channels, 2)"),
            ("punsubscribe", "Unsubscribe(Patterns, None)"),
            ("sunsubscribe a", "Unsubscribe(Shards, Some(1))"),
            ("client reply skip", "ReplySkip"),
            ("client reply", "None"),
            ("client list", "None"),
            ("client kill skipme no", "Kill"),
            ("client tracking off", "Track(false)"),
            ("CLIENT TRACKING ON BCAST", "Track(true)"),
            ("script debug yes", "Stream"),
            ("script debug no", "None"),
            ("script load x", "None"),
            ("replconf ack 1", "Mute"),
            ("replconf capa eof capa psync2", "Bind"),
            ("psync ? -1", "Stream"),
        ] {
            assert_eq!(format!("{:?}", effect_of(line)), effect, "{line}");
        }
    }

    #[test]
    fn a_later_change_replaces_its_part_of_an_earlier_one() {
        assert_eq!(told_after(&["GET k", "HELLO"]), "");
        assert_eq!(told_after(&["select 1", "SELECT 2"]), "*2 SELECT 2");
        assert_eq!(
            told_after(&["SELECT 2", "HELLO 3 SETNAME a AUTH u p", "auth v q"]),
            "*3 auth v q *2 HELLO 3 *3 CLIENT SETNAME a *2 SELECT 2"
        );
        assert_eq!(
            told_after(&[
                "client setinfo LIB-NAME n",
                "client setinfo LIB-VER 1",
                "READONLY"
            ]),
            "*4 client setinfo LIB-NAME n *4 client setinfo LIB-VER 1 *1 READONLY"
        );
        assert_eq!(told_after(&["READONLY", "READWRITE"]), "*1 READWRITE");
    }

    #[test]
    fn what_is_remembered_of_a_request_is_bounded() {
        let name = "n".repeat(CHANGE_BYTES_MAX);
        assert!(matches!(
            effect_of(&format!("CLIENT SETNAME {name}")),
            Effect::Bind
        ));
        let name = &name[..CHANGE_BYTES_MAX - 100];
        assert!(matches!(
            effect_of(&format!("CLIENT SETNAME {name}")),
            Effect::Change(_)
        ));
    }

    #[test]
    fn replies_are_wanted_again_after_one_was_skipped() {
        let mut session = Session::default();
        let silent: Vec<bool> = [
            "CLIENT REPLY SKIP",
            "GET a",
            "GET b",
            "CLIENT REPLY OFF",
            "GET c",
            "CLIENT REPLY SKIP",
            "GET d",
            "CLIENT REPLY ON",
            "GET e",
        ]
        .iter()
        .map(|line| session.sent(&effect_of(line)))
        .collect();
        assert_eq!(
            silent,
            [false, true, false, false, true, true, true, true, false]
        );
    }

    #[test]
    fn a_transaction_binds_until_it_ends() {
        let mut session = Session::default();
        for (line, bound) in [
            ("WATCH k", true),
            ("MULTI", true),
            ("EXEC", false),
            ("WATCH k", true),
            ("UNWATCH", false),
            ("MULTI", true),
            ("RESET", false),
            ("CLIENT TRACKING ON", true),
            ("CLIENT TRACKING OFF", false),
            ("MULTI", true),
            ("SELECT 1", true),
            ("EXEC", true),
        ] {
            session.sent(&effect_of(line));
            assert_eq!(session.is_bound(), bound, "{line}");
        }
    }

    #[test]
    fn the_name_of_a_long_request_is_enough() {
        assert!(matches!(effect_of_long(b"set", 3), Effect::None));
        assert!(matches!(effect_of_long(b"Auth", 3), Effect::Bind));
        assert!(matches!(
            effect_of_long(b"SUBSCRIBE", 9000),
            Effect::Subscribe(Family::Channels, 8999)
        ));
        assert!(matches!(effect_of_long(b"", 1), Effect::None));
    }
}
