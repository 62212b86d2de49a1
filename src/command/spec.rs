//! The vocabulary of the command table: what is known about a command before it runs.
//!
//! Everything here is plain data that can be built at compile time. The names, the bits and the
//! derivations (ACL categories, `movablekeys`) are those of Redis 7.0.15, so that `COMMAND` can
//! tell clients exactly what a Redis would have told them.

use super::bitset::bitset;
use super::docs::Docs;
use super::key_spec::{KeySearch, KeySpec, Keys};
use super::table::{COMMANDS, UNSUPPORTED};
use super::{CommandError, Context};
use crate::resp::Request;

/// Runs a command whose name, arity and rights have been checked.
pub type Handler = fn(&mut Context<'_>, &Request<'_>) -> Result<(), CommandError>;

/// Everything the server knows about one command or subcommand. `COMMAND`, arity checks,
/// per-command statistics and docs/COMMANDS.md are all derived from it.
#[derive(Debug)]
pub struct Command {
    /// Lower case. A subcommand has its full name: `config|get`.
    pub name: &'static str,
    /// How many words a request has, the name's own included.
    pub arity: Arity,
    /// What it does and when it may run, `MOVABLE_KEYS` included.
    pub flags: Flags,
    /// Its ACL categories, the implied ones included.
    pub categories: Categories,
    /// Where its keys are, as far as one triple can say it. All zero: no keys, or not sayable.
    pub keys: Keys,
    /// Whether a reply may be kept and served again until one of its keys changes: it reads
    /// keys, and depends on nothing but their values and its arguments.
    pub cacheable: bool,
    /// What runs it.
    pub handler: Handler,
    /// Group, summary, key specs and all else that only `COMMAND` and the manual ask for.
    pub docs: &'static Docs,
    /// How its keys are found.
    pub(super) key_search: KeySearch,
    /// Its place in [`COMMANDS`].
    pub(super) index: u16,
    /// Its subcommands follow it in [`COMMANDS`]: how many.
    pub(super) subcommands_len: u16,
}

impl Command {
    /// Its place in [`COMMANDS`]: dense, below
    /// [`COMMAND_COUNT`](super::table::COMMAND_COUNT), the same for the life of the process.
    #[must_use]
    pub fn index(&self) -> usize {
        usize::from(self.index)
    }

    /// Its subcommands, sorted by name; empty unless it is a container.
    #[must_use]
    pub fn subcommands(&self) -> &'static [Self] {
        let first = self.index() + 1;
        &COMMANDS[first..first + usize::from(self.subcommands_len)]
    }

    /// Whether its first argument names a subcommand.
    #[must_use]
    pub fn is_container(&self) -> bool {
        self.subcommands_len > 0
    }

    /// Whether it is one itself (`config|get`).
    #[must_use]
    pub fn is_subcommand(&self) -> bool {
        container_len(self.name) < self.name.len()
    }

    /// The container of a subcommand (`config` of `config|get`), else its name.
    #[must_use]
    pub fn container_name(&self) -> &'static str {
        &self.name[..container_len(self.name)]
    }

    /// A subcommand's own name (`get` of `config|get`), else its name.
    #[must_use]
    pub fn own_name(&self) -> &'static str {
        let len = container_len(self.name);
        if len < self.name.len() {
            &self.name[len + 1..]
        } else {
            self.name
        }
    }

    /// Where its keys are among the arguments, exactly.
    #[must_use]
    pub fn key_specs(&self) -> &'static [KeySpec] {
        self.docs.key_specs
    }

    /// Whether we run it ourselves; a container: any of its subcommands.
    #[must_use]
    pub fn is_standalone(&self) -> bool {
        !std::ptr::fn_addr_eq(self.handler, UNSUPPORTED)
            || self.subcommands().iter().any(Self::is_standalone)
    }

    /// Whether every request of it has just one key, its first argument.
    #[inline]
    #[must_use]
    pub fn has_one_key(&self) -> bool {
        let first = Keys {
            first: 1,
            last: 1,
            step: 1,
        };
        let is_told_by_triple = matches!(
            self.key_search,
            KeySearch::Triple | KeySearch::Set | KeySearch::Bitfield
        );
        is_told_by_triple && self.keys == first
    }

    /// Whether a request of it can have keys at all.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !matches!(self.key_search, KeySearch::None)
    }

    /// Hints to proxies (`request_policy:all_shards`).
    #[must_use]
    pub fn tips(&self) -> &'static [&'static str] {
        self.docs.tips
    }

    /// Its chapter in the manual.
    #[must_use]
    pub fn group(&self) -> Group {
        self.docs.group
    }

    /// The Redis version that brought it; for our own commands, ours.
    #[must_use]
    pub fn since(&self) -> &'static str {
        self.docs.since
    }
}

/// Length of the part of a full name that names the container.
pub(super) const fn container_len(name: &str) -> usize {
    let name = name.as_bytes();
    let mut at = 0;
    while at < name.len() && name[at] != b'|' {
        at += 1;
    }
    at
}

/// How many words a request has, the command's name (and subcommand's) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Neither more nor fewer.
    Exactly(u8),
    /// So many or more.
    AtLeast(u8),
}

impl Arity {
    /// Whether a request of `len` words has the right number of them.
    #[must_use]
    #[inline]
    pub const fn admits(self, len: usize) -> bool {
        match self {
            Self::Exactly(words) => len == words as usize,
            Self::AtLeast(words) => len >= words as usize,
        }
    }

    /// As `COMMAND` writes it: negative for "or more".
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Exactly(words) => i64::from(words),
            Self::AtLeast(words) => -i64::from(words),
        }
    }
}

bitset! {
    /// What a command does, and when it may run.
    Flags(u32) {
        /// Changes keys.
        WRITE = 0 "write",
        /// Reads keys.
        READONLY = 1 "readonly",
        /// May need memory: refused when there is none to be had.
        DENYOOM = 2 "denyoom",
        /// For operators.
        ADMIN = 3 "admin",
        /// Publishes or subscribes.
        PUBSUB = 4 "pubsub",
        /// Refused in scripts.
        NOSCRIPT = 5 "noscript",
        /// May keep its client waiting.
        BLOCKING = 6 "blocking",
        /// Allowed while data is loaded.
        LOADING = 7 "loading",
        /// Allowed on a replica that lost its master.
        STALE = 8 "stale",
        /// Not shown to `MONITOR`.
        SKIP_MONITOR = 9 "skip_monitor",
        /// Not in the slow log, as it may carry secrets.
        SKIP_SLOWLOG = 10 "skip_slowlog",
        /// Implies `ASKING` in a cluster.
        ASKING = 11 "asking",
        /// Constant or logarithmic time.
        FAST = 12 "fast",
        /// Allowed before authentication.
        NO_AUTH = 13 "no_auth",
        /// Is replicated though it is no write.
        MAY_REPLICATE = 14 "may_replicate",
        /// May come without any key.
        NO_MANDATORY_KEYS = 15 "no_mandatory_keys",
        /// Off by default, as it can harm the server or its host.
        PROTECTED = 16 "protected",
        /// Refused while a replica loads data behind its clients' backs.
        NO_ASYNC_LOADING = 17 "no_async_loading",
        /// Refused in a transaction.
        NO_MULTI = 18 "no_multi",
        /// One triple does not tell all its keys: ask `COMMAND GETKEYS`.
        MOVABLE_KEYS = 19 "movablekeys",
        /// Allowed while a script runs for too long.
        ALLOW_BUSY = 20 "allow_busy",
        /// Touches keys that its arguments do not name.
        TOUCHES_ARBITRARY_KEYS = 21 "touches_arbitrary_keys",
    }
}

impl Flags {
    /// What Redis keeps to itself in the replies of `COMMAND`.
    pub const HIDDEN: Self = Self::MAY_REPLICATE
        .union(Self::PROTECTED)
        .union(Self::TOUCHES_ARBITRARY_KEYS);

    /// [`Self::union`], in the words of the command table.
    pub(super) const fn and(self, other: Self) -> Self {
        self.union(other)
    }

    /// These flags without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

bitset! {
    /// ACL categories: groups of commands that a user may be given or denied.
    Categories(u32) {
        /// Keys of any type, databases.
        KEYSPACE = 0 "keyspace",
        /// Reads values.
        READ = 1 "read",
        /// Writes values.
        WRITE = 2 "write",
        /// Sets.
        SET = 3 "set",
        /// Sorted sets.
        SORTED_SET = 4 "sortedset",
        /// Lists.
        LIST = 5 "list",
        /// Hashes.
        HASH = 6 "hash",
        /// Strings.
        STRING = 7 "string",
        /// Bits of strings.
        BITMAP = 8 "bitmap",
        /// Approximate counts.
        HYPERLOGLOG = 9 "hyperloglog",
        /// Places.
        GEO = 10 "geo",
        /// Streams.
        STREAM = 11 "stream",
        /// Publishing and subscribing.
        PUBSUB = 12 "pubsub",
        /// For operators.
        ADMIN = 13 "admin",
        /// Constant or logarithmic time.
        FAST = 14 "fast",
        /// All that is not fast.
        SLOW = 15 "slow",
        /// May keep its client waiting.
        BLOCKING = 16 "blocking",
        /// Can harm others.
        DANGEROUS = 17 "dangerous",
        /// The state of one's own connection, or of others'.
        CONNECTION = 18 "connection",
        /// `MULTI` and what belongs to it.
        TRANSACTION = 19 "transaction",
        /// Scripts and functions.
        SCRIPTING = 20 "scripting",
    }
}

impl Categories {
    /// These categories and those that a command with `flags` has by itself
    /// (`setImplicitACLCategories`).
    #[must_use]
    pub const fn with_implied(self, flags: Flags) -> Self {
        let mut all = self;
        if flags.contains(Flags::WRITE) {
            all = all.union(Self::WRITE);
        }
        if flags.contains(Flags::READONLY) && !self.contains(Self::SCRIPTING) {
            all = all.union(Self::READ);
        }
        if flags.contains(Flags::ADMIN) {
            all = all.union(Self::ADMIN).union(Self::DANGEROUS);
        }
        if flags.contains(Flags::PUBSUB) {
            all = all.union(Self::PUBSUB);
        }
        if flags.contains(Flags::FAST) {
            all = all.union(Self::FAST);
        }
        if flags.contains(Flags::BLOCKING) {
            all = all.union(Self::BLOCKING);
        }
        if all.contains(Self::FAST) {
            all
        } else {
            all.union(Self::SLOW)
        }
    }
}

/// A chapter of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// Strings.
    String,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Sorted sets.
    SortedSet,
    /// Hashes.
    Hash,
    /// Publishing and subscribing.
    Pubsub,
    /// Transactions.
    Transactions,
    /// One's own connection, and others'.
    Connection,
    /// The server itself.
    Server,
    /// Scripts and functions.
    Scripting,
    /// Approximate counts.
    Hyperloglog,
    /// Redis Cluster.
    Cluster,
    /// Places.
    Geo,
    /// Streams.
    Stream,
    /// Bits of strings.
    Bitmap,
    /// What Redis does not have.
    Corral,
}

impl Group {
    /// Every group, in the manual's order.
    pub const ALL: &'static [Self] = &[
        Self::Corral,
        Self::Generic,
        Self::String,
        Self::Hash,
        Self::List,
        Self::Set,
        Self::SortedSet,
        Self::Bitmap,
        Self::Hyperloglog,
        Self::Geo,
        Self::Stream,
        Self::Transactions,
        Self::Pubsub,
        Self::Scripting,
        Self::Connection,
        Self::Server,
        Self::Cluster,
    ];

    /// As `COMMAND DOCS` writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "sorted-set",
            Self::Hash => "hash",
            Self::Pubsub => "pubsub",
            Self::Transactions => "transactions",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Scripting => "scripting",
            Self::Hyperloglog => "hyperloglog",
            Self::Cluster => "cluster",
            Self::Geo => "geo",
            Self::Stream => "stream",
            Self::Bitmap => "bitmap",
            Self::Corral => "corral",
        }
    }
}
