//! Where a command's keys are among its arguments.
//!
//! Redis says it twice: in one triple, which clients have known since 2.8.13 and which cannot say
//! everything, and since 7.0 in key specs, of which the triple is derived. How the keys of a
//! concrete request are found ([`KeySearch`]) is derived too; `keys_of.rs` does it.

use super::bitset::bitset;

/// Where a command's keys are, as `COMMAND` has always said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first key's index, the command's name being 0; 0: no keys.
    pub first: i8,
    /// The last key's index; negative: counted from the end, -1 being the last argument.
    pub last: i8,
    /// How far keys are apart.
    pub step: i8,
}

impl Keys {
    /// No keys, or none that a triple can tell.
    pub const NONE: Self = Self {
        first: 0,
        last: 0,
        step: 0,
    };

    /// What one triple can tell of `specs`, and whether it fails to tell all
    /// (`populateCommandLegacyRangeSpec`).
    pub(super) const fn of(specs: &[KeySpec]) -> (Self, bool) {
        if let [spec] = specs
            && let (BeginSearch::Index(first), FindKeys::Range { last, step, .. }) =
                (spec.begin, spec.find)
        {
            let last = if last >= 0 { last + first } else { last };
            return (
                Self { first, last, step },
                spec.flags.contains(KeyFlags::INCOMPLETE),
            );
        }
        let mut keys = Self::NONE;
        let mut movable = false;
        let mut at = 0;
        while at < specs.len() {
            let spec = &specs[at];
            at += 1;
            let (BeginSearch::Index(first), FindKeys::Range { last, step: 1, .. }) =
                (spec.begin, spec.find)
            else {
                movable = true;
                continue;
            };
            if keys.last != 0 && keys.last != first - 1 {
                movable = true; // Not behind the ones before it.
                continue;
            }
            movable |= spec.flags.contains(KeyFlags::INCOMPLETE);
            let last = if last >= 0 { last + first } else { last };
            if keys.first == 0 || first < keys.first {
                keys.first = first;
            }
            // From the end is behind all that is counted from the start.
            if keys.last >= 0 && (last < 0 || last > keys.last) {
                keys.last = last;
            }
            keys.step = 1;
        }
        (keys, movable)
    }
}

/// One place where a command has keys: where to begin, and how to go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// What is done with the keys.
    pub flags: KeyFlags,
    /// Where the search begins.
    pub begin: BeginSearch,
    /// Which keys there are from there.
    pub find: FindKeys,
    /// What else there is to say; may be empty.
    pub notes: &'static str,
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginSearch {
    /// No rule can tell.
    Unknown,
    /// At this argument, the command's name being 0.
    Index(i8),
    /// Behind a word.
    Keyword {
        /// The word, in any case.
        word: &'static str,
        /// Where to begin to look for it; negative: from the end, and backwards.
        start_from: i8,
    },
}

/// Which keys there are from where the search began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindKeys {
    /// No rule can tell.
    Unknown,
    /// All to the last one.
    Range {
        /// The last key, counted from the first; negative: from the last argument.
        last: i8,
        /// How far keys are apart.
        step: i8,
        /// With `last` -1: only the first of so many parts of the arguments are keys. 0: all.
        limit: i8,
    },
    /// As many as an argument says.
    KeyNum {
        /// The argument that says how many, counted from where the search began.
        count_at: i8,
        /// The first key, likewise.
        first: i8,
        /// How far keys are apart.
        step: i8,
    },
}

bitset! {
    /// What a command does with a key.
    KeyFlags(u16) {
        /// Reads the value, or facts about it.
        RO = 0 "RO",
        /// Changes the value.
        RW = 1 "RW",
        /// Overwrites the value.
        OW = 2 "OW",
        /// Removes the key.
        RM = 3 "RM",
        /// Returns, copies or uses the user's data.
        ACCESS = 4 "access",
        /// Changes data, the new depending on the old.
        UPDATE = 5 "update",
        /// Adds data, changes none.
        INSERT = 6 "insert",
        /// Deletes data.
        DELETE = 7 "delete",
        /// Only routed like a key.
        NOT_KEY = 8 "not_key",
        /// The spec may not tell all keys.
        INCOMPLETE = 9 "incomplete",
        /// The flags depend on the arguments.
        VARIABLE_FLAGS = 10 "variable_flags",
    }
}

/// How the keys of a request are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeySearch {
    /// There are none.
    None,
    /// [`Command::keys`] tells all of them, whatever the arguments are.
    Triple,
    /// By the key specs.
    Specs,
    /// By the key specs or, where they give up, by the argument at `count_at`, read as C's
    /// `atoi` does: so many keys behind it, and argument 1 if it is stored to.
    Counted { count_at: u8, stores: bool },
    /// As [`Self::Triple`]; the key is only read unless a word among the arguments says else.
    Set,
    /// The same, for `BITFIELD`.
    Bitfield,
    /// `SORT`: the key, and the one behind the last `STORE`.
    Sort,
    /// `SORT_RO`: the key, as `BY` and `GET` name none that could be told.
    SortRo,
    /// `MIGRATE`: the third argument, or all behind `KEYS`.
    Migrate,
    /// `XREADGROUP`: by the key specs or, where they give up, what is behind `STREAMS` when the
    /// options before it are read one by one.
    XReadGroup,
}

impl KeySearch {
    /// The search for a command's keys. The names are those of the commands that have a
    /// `get_keys_function` in Redis, except where its result is always that of the specs.
    pub(super) const fn of(name: &str, specs: &[KeySpec], movable: bool) -> Self {
        match name.as_bytes() {
            b"sort" => Self::Sort,
            b"sort_ro" => Self::SortRo,
            b"migrate" => Self::Migrate,
            b"xreadgroup" => Self::XReadGroup,
            b"set" => Self::Set,
            b"bitfield" => Self::Bitfield,
            b"lmpop" | b"sintercard" | b"zdiff" | b"zinter" | b"zintercard" | b"zmpop"
            | b"zunion" => Self::counted(1, false),
            b"blmpop" | b"bzmpop" | b"eval" | b"eval_ro" | b"evalsha" | b"evalsha_ro"
            | b"fcall" | b"fcall_ro" => Self::counted(2, false),
            b"zdiffstore" | b"zinterstore" | b"zunionstore" => Self::counted(2, true),
            _ if !has_real_key(specs) => Self::None,
            _ if movable || has_unreal_key(specs) => Self::Specs,
            _ => Self::Triple,
        }
    }

    const fn counted(count_at: u8, stores: bool) -> Self {
        Self::Counted { count_at, stores }
    }
}

/// Whether any spec is about keys that are keys.
const fn has_real_key(specs: &[KeySpec]) -> bool {
    let mut at = 0;
    while at < specs.len() {
        if !specs[at].flags.contains(KeyFlags::NOT_KEY) {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether any spec is about arguments that are only routed like keys.
const fn has_unreal_key(specs: &[KeySpec]) -> bool {
    let mut at = 0;
    while at < specs.len() {
        if specs[at].flags.contains(KeyFlags::NOT_KEY) {
            return true;
        }
        at += 1;
    }
    false
}
