//! What is said to this room, and what it answers.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use smallvec::SmallVec;

use super::stats::Tally;
use crate::store::Key;

/// Which reply of a key.
#[derive(Clone, Copy, Debug, Eq)]
pub struct Line<'a> {
    /// The client's protocol and command.
    pub id: u32,
    /// The command's arguments but for the key; none for GET.
    pub arguments: &'a [u8],
}

/// Nearly all lines have no arguments, and then no bytes are compared: an empty slice may point
/// anywhere, and a masked load from there, even of nothing, costs a microcode assist (a quarter of
/// a deep pipeline's time, measured).
impl PartialEq for Line<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.arguments.len() == other.arguments.len()
            && (self.arguments.is_empty() || self.arguments == other.arguments)
    }
}

/// A key in a database.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// As `SELECT` numbers them.
    pub db: u16,
    /// The key and its hash.
    pub key: Key<'a>,
}

/// A moment, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Unix time in ms, by which the store's items expire.
    pub unix_ms: u64,
    /// The monotonic clock in ns, by which copies are fresh: a step of the other one lengthens no
    /// copy's life.
    pub mono_ns: u64,
}

/// How the room is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Locks on flights; a power of two.
    pub stripes: usize,
    /// See [`Settings::near_ttl_ms`].
    pub near_ttl_ms: u64,
    /// See [`Settings::stale_ms`].
    pub stale_ms: u64,
    /// See [`Settings::value_bytes_max`].
    pub value_bytes_max: usize,
    /// Bytes that all copies may take; 0: any number.
    pub bytes_max: usize,
}

/// What can be changed while it runs.
#[derive(Debug)]
pub struct Settings {
    /// How long a copy is fresh at most, in ms; 0: nothing is stored.
    pub near_ttl_ms: AtomicU64,
    /// For how long a copy that is not fresh any more may be served when upstream fails, in ms.
    pub stale_ms: AtomicU64,
    /// Longest reply that is stored, in bytes.
    pub value_bytes_max: AtomicUsize,
}

/// Why a read was not answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The key was never here, as far as is remembered.
    Cold,
    /// Its copy has expired.
    Expired,
    /// Its copy had to go for want of memory.
    Evicted,
    /// Its copy was removed by an invalidation or a local write.
    Invalidated,
    /// Its copy is from before a flush, or from before its connection was lost.
    Flushed,
    /// The connection of its copy, or the tracker, was not heard of for too long.
    Incoherent,
    /// Its last read was voided on its way.
    RaceDiscarded,
    /// Other lines of the key are here.
    Variant,
}

impl Miss {
    /// Its name, for people and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Invalidated => "invalidated",
            Self::Flushed => "flushed",
            Self::Incoherent => "incoherent",
            Self::RaceDiscarded => "race-discarded",
            Self::Variant => "variant",
        }
    }

    pub(super) fn tally(self) -> Tally {
        match self {
            Self::Cold => Tally::misses_cold,
            Self::Expired => Tally::misses_expired,
            Self::Evicted => Tally::misses_evicted,
            Self::Invalidated => Tally::misses_invalidated,
            Self::Flushed => Tally::misses_flushed,
            Self::Incoherent => Tally::misses_incoherent,
            Self::RaceDiscarded => Tally::misses_race_discarded,
            Self::Variant => Tally::misses_variant,
        }
    }
}

/// How long a stale copy has not been fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleAge {
    /// In ms, rounded down; 0 also for a copy that is still fresh.
    pub ms: u64,
}

/// A flight of whose read the holder is the leader. Every token is given back, to
/// [`finish`](super::Near::finish) or [`fail`](super::Near::fail): until then, its waiters wait.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    pub(super) hash: u64,
    pub(super) id: u64,
    pub(super) is_kept: bool,
}

impl Token {
    /// Whether the reply may be stored. If not, nobody need know how long its value lives:
    /// [`Ttl::Unknown`].
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }
}

/// What came of asking to read.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// Somebody else reads; the waiter is given back with the answer.
    Joined,
    /// The caller is to read.
    Leads(Token),
}

/// What PTTL said beside the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// So many ms.
    Millis(u64),
    /// More, but it is to be kept for so many ms at most.
    Within(u64),
    /// −1: the key has no expiry.
    None,
    /// −2: there is no such key.
    Absent,
    /// It was not asked, or did not answer.
    Unknown,
}

/// What became of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// It is here now.
    Stored,
    /// Something voided it on its way.
    Raced,
    /// Nobody watched over it: a channel was not fresh when it began, or there were too many
    /// flights.
    Unguarded,
    /// It is an error.
    Error,
    /// It is too long.
    TooLong,
    /// It is about to expire, or nobody knows when.
    Fleeting,
    /// There was no room.
    Full,
    /// It was the first read of its key, and copies are hardly ever read again.
    PassedOver,
}

/// Who waits for a read; most often its leader alone.
pub type Waiters<W> = SmallVec<[W; 1]>;

/// Who joined a read of a value that has expired since: to be read again for them.
#[derive(Debug, PartialEq, Eq)]
pub struct Late<W> {
    /// Who they are.
    pub waiters: Waiters<W>,
    /// The database of the key.
    pub db: u16,
    /// The key.
    pub key: Box<[u8]>,
    /// [`Line::id`] of their line.
    pub line_id: u32,
    /// [`Line::arguments`] of it.
    pub arguments: Box<[u8]>,
}

/// What a read that is answered leaves to do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Finished<W> {
    /// Whom to answer, the leader first.
    pub waiters: Waiters<W>,
    /// Whom not: the value has expired since it was read, perhaps before they asked for it.
    pub late: Option<Box<Late<W>>>,
    /// What became of the reply.
    pub fill: Fill,
}

/// What voided a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Upstream said so.
    Push,
    /// A write is about to be sent.
    WriteStart,
    /// A write was answered, or failed in whatever way.
    WriteEnd,
    /// Somebody asked for it.
    Request,
}

/// What there was to void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voided {
    /// Databases with copies of the key.
    pub copies: usize,
    /// Reads under way.
    pub flights: usize,
}
