//! Which arguments of a request are keys.
//!
//! The answers are those of Redis 7.0.15 (`getKeysFromCommandWithSpecs`), the ones to nonsense
//! included: a front must void exactly what upstream will write, and clients ask `COMMAND
//! GETKEYS`. Nearly every command's keys are told by one triple, and then nothing is searched;
//! else the key specs are followed, and where they give up there is a rule of the command's own.
//!
//! No request makes this panic or allocate more than its own arguments' number of positions; a
//! request whose arity was not checked just has fewer keys.

use super::key_spec::{BeginSearch, FindKeys, KeyFlags, KeySearch, KeySpec, Keys};
use super::spec::Command;
use crate::resp::Request;

/// An argument that is a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPosition {
    /// Which argument, the command's name being 0.
    pub index: usize,
    /// What the command does with it; empty where Redis does not tell.
    pub flags: KeyFlags,
}

/// Calls `visit` with the index of each argument that is a key, in Redis's order, without
/// allocating. A request whose keys cannot be told has none.
///
/// These are the keys of [`keys_of`], and one more: `PFMERGE` with a destination alone is a right
/// request that writes its key, but Redis's key specs do not find it.
#[inline]
pub fn for_each_key(command: &Command, request: &Request<'_>, mut visit: impl FnMut(usize)) {
    match command.key_search {
        KeySearch::None => {}
        KeySearch::Triple | KeySearch::Set | KeySearch::Bitfield => {
            for index in triple(command.keys, request.len()) {
                visit(index);
            }
        }
        KeySearch::Specs
        | KeySearch::Counted { .. }
        | KeySearch::Sort
        | KeySearch::SortRo
        | KeySearch::Migrate
        | KeySearch::XReadGroup => {
            search(command, Words::of(request), &mut |key| visit(key.index));
        }
    }
}

/// Each argument that is a key, and what the command does with it, in Redis's order. Empty if
/// there are none, or if they cannot be told.
#[must_use]
pub fn keys_of(command: &Command, request: &Request<'_>) -> Vec<KeyPosition> {
    keys_of_words(command, Words::of(request))
}

/// The same for a request within another one's arguments, as `COMMAND GETKEYS` has it.
pub(super) fn keys_of_words(command: &Command, words: Words<'_>) -> Vec<KeyPosition> {
    let mut keys = Vec::new();
    search(command, words, &mut |key| keys.push(key));
    keys
}

/// The words of a request, beginning with the command's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    request: &'a Request<'a>,
    first: usize,
}

impl<'a> Words<'a> {
    /// All of the request.
    pub(super) fn of(request: &'a Request<'a>) -> Self {
        Self { request, first: 0 }
    }

    /// What follows the first `first` arguments of the request.
    pub(super) fn behind(request: &'a Request<'a>, first: usize) -> Self {
        Self { request, first }
    }

    /// How many there are.
    pub(super) fn len(self) -> usize {
        self.request.len().saturating_sub(self.first)
    }

    /// Word `index`, if there is one.
    pub(super) fn get(self, index: usize) -> Option<&'a [u8]> {
        self.request.get(self.first.checked_add(index)?)
    }

    /// Whether word `index` is `word`, in any case. As in C, a zero byte ends a word.
    fn is(self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|bytes| {
            let len = memchr::memchr(0, bytes).unwrap_or(bytes.len());
            bytes[..len].eq_ignore_ascii_case(word.as_bytes())
        })
    }

    /// Whether word `index` is any of these.
    fn is_any(self, index: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(index, word))
    }
}

/// The positions that a triple tells, in a request of `len` words.
#[inline]
fn triple(keys: Keys, len: usize) -> impl Iterator<Item = usize> {
    let first = usize::try_from(keys.first).unwrap_or(0);
    let step = usize::try_from(keys.step).unwrap_or(1).max(1);
    let end = match usize::try_from(keys.last) {
        Ok(last) => (last + 1).min(len),
        Err(_) => (len + 1).saturating_sub(usize::from(keys.last.unsigned_abs())),
    };
    (first..end).step_by(step)
}

/// Finds the keys by all means there are, in the order in which Redis tries them.
fn search(command: &Command, words: Words<'_>, found: &mut dyn FnMut(KeyPosition)) {
    let specs = command.key_specs();
    match command.key_search {
        KeySearch::None => {}
        KeySearch::Set => one(words, set_flags(words), found),
        KeySearch::Bitfield => one(words, bitfield_flags(words), found),
        KeySearch::Sort => sort(words, found),
        KeySearch::SortRo => one(words, READ, found),
        KeySearch::Triple | KeySearch::Specs => {
            let _ = by_specs(specs, words, found);
        }
        KeySearch::Migrate => {
            if by_specs(specs, words, found).is_err() {
                migrate(words, found);
            }
        }
        KeySearch::XReadGroup => {
            if by_specs(specs, words, found).is_err() {
                xreadgroup(words, found);
            }
        }
        KeySearch::Counted { count_at, stores } => {
            if by_specs(specs, words, found).is_err() {
                counted(usize::from(count_at), stores, words, found);
            }
        }
    }
}

/// The specs do not tell this request's keys: its arguments are wrong, or they never tell all.
struct GaveUp;

/// Follows the key specs. They tell all keys or none, so they are followed once to see whether
/// they do, and once again to tell.
fn by_specs(
    specs: &[KeySpec],
    words: Words<'_>,
    found: &mut dyn FnMut(KeyPosition),
) -> Result<(), GaveUp> {
    let real = || {
        specs
            .iter()
            .filter(|spec| !spec.flags.contains(KeyFlags::NOT_KEY))
    };
    for spec in real() {
        range(spec, words)?;
    }
    for spec in real() {
        if let Some(range) = range(spec, words)? {
            for index in (range.first..=range.last).step_by(range.step) {
                found(KeyPosition {
                    index,
                    flags: spec.flags,
                });
            }
        }
    }
    Ok(())
}

/// Where one spec's keys are: every `step`-th word from `first` to `last`.
struct KeyRange {
    first: usize,
    last: usize,
    step: usize,
}

/// Where one spec's keys are. None if the word that goes before them is not there.
fn range(spec: &KeySpec, words: Words<'_>) -> Result<Option<KeyRange>, GaveUp> {
    let len = i64::try_from(words.len()).unwrap_or(i64::MAX);
    let begin = match spec.begin {
        BeginSearch::Unknown => return Err(GaveUp),
        BeginSearch::Index(index) => i64::from(index),
        BeginSearch::Keyword { word, start_from } => match keyword(word, start_from, words) {
            Some(index) => index,
            None => return Ok(None),
        },
    };
    let (first, last, step) = match spec.find {
        FindKeys::Unknown => return Err(GaveUp),
        FindKeys::Range {
            last: to @ 0..,
            step,
            ..
        } => (begin, begin + i64::from(to), step),
        FindKeys::Range {
            last: to,
            step,
            limit: 0,
        } => (begin, len + i64::from(to), step),
        FindKeys::Range {
            last: to,
            step,
            limit,
        } => (
            begin,
            begin + (len - begin) / i64::from(limit) + i64::from(to),
            step,
        ),
        FindKeys::KeyNum {
            count_at,
            first,
            step,
        } => {
            let count = at(words, begin + i64::from(count_at)).and_then(decimal);
            let count = count.filter(|count| *count >= 0).ok_or(GaveUp)?;
            let first = begin + i64::from(first);
            (first, first + i64::from(low_half(count)) - 1, step)
        }
    };
    if last >= len || last < first || first >= len || spec.flags.contains(KeyFlags::INCOMPLETE) {
        return Err(GaveUp);
    }
    let index = |position| usize::try_from(position).map_err(|_| GaveUp);
    let step = usize::try_from(step).unwrap_or(1).max(1);
    Ok(Some(KeyRange {
        first: index(first)?,
        last: index(last)?,
        step,
    }))
}

/// The index behind a word. As in Redis, it is looked for from `start_from` on to the last
/// argument but one, from the end on to the second.
fn keyword(word: &str, start_from: i8, words: Words<'_>) -> Option<i64> {
    let len = words.len();
    let found = match usize::try_from(start_from) {
        Ok(start) => (start..len.saturating_sub(1)).find(|&index| words.is(index, word)),
        Err(_) => {
            let start = len.checked_sub(usize::from(start_from.unsigned_abs()))?;
            (2..=start).rev().find(|&index| words.is(index, word))
        }
    };
    i64::try_from(found? + 1).ok()
}

/// Key 1, if it is there.
fn one(words: Words<'_>, flags: KeyFlags, found: &mut dyn FnMut(KeyPosition)) {
    if words.len() > 1 {
        found(KeyPosition { index: 1, flags });
    }
}

/// `COMMAND [destination] … count key [key …] …`, the count read as C's `atoi` does.
fn counted(count_at: usize, stores: bool, words: Words<'_>, found: &mut dyn FnMut(KeyPosition)) {
    let first = count_at + 1;
    let Some(count) = words
        .get(count_at)
        .and_then(|text| usize::try_from(atoi(text)).ok())
    else {
        return;
    };
    if count < 1 || count > words.len().saturating_sub(first) {
        return;
    }
    for index in first..first + count {
        found(KeyPosition {
            index,
            flags: KeyFlags::NONE,
        });
    }
    if stores {
        found(KeyPosition {
            index: 1,
            flags: KeyFlags::NONE,
        });
    }
}

/// `SET` overwrites, unless it has to return the old value.
fn set_flags(words: Words<'_>) -> KeyFlags {
    let gets = (3..words.len()).any(|index| words.is(index, "get"));
    if gets { CHANGE } else { OVERWRITE }
}

/// `BITFIELD` reads if all it does is `GET`. After nonsense, a change is the safer guess.
fn bitfield_flags(words: Words<'_>) -> KeyFlags {
    let mut index = 2;
    while index < words.len() {
        let rest = words.len() - index - 1;
        if words.is(index, "get") && rest >= 2 {
            index += 3;
        } else if words.is(index, "overflow") && rest >= 1 {
            index += 2;
        } else {
            return CHANGE;
        }
    }
    READ
}

/// `SORT key … [STORE destination]`: of several destinations the last one counts, as in `SORT`
/// itself. A destination's name may be an option's, and is then taken for one, as in Redis.
fn sort(words: Words<'_>, found: &mut dyn FnMut(KeyPosition)) {
    one(words, READ, found);
    let mut stored = None;
    let mut index = 2;
    while index < words.len() {
        if words.is(index, "limit") {
            index += 2;
        } else if words.is_any(index, &["get", "by"]) {
            index += 1;
        } else if words.is(index, "store") && index + 1 < words.len() {
            stored = Some(index + 1);
        }
        index += 1;
    }
    if let Some(index) = stored {
        found(KeyPosition {
            index,
            flags: OVERWRITE,
        });
    }
}

/// `MIGRATE host port key …`, or `MIGRATE host port "" … KEYS key [key …]`.
fn migrate(words: Words<'_>, found: &mut dyn FnMut(KeyPosition)) {
    let mut keys = 3..words.len().min(4);
    let mut index = 6;
    while index < words.len() {
        if words.is(index, "keys") {
            let is_key_empty = words.get(3).is_some_and(<[u8]>::is_empty);
            keys = if is_key_empty {
                index + 1..words.len()
            } else {
                0..0
            };
            break;
        }
        index += if words.is(index, "auth") {
            2
        } else if words.is(index, "auth2") {
            3
        } else {
            1
        };
    }
    for index in keys {
        found(KeyPosition { index, flags: MOVE });
    }
}

/// `XREADGROUP [option …] STREAMS key [key …] id [id …]`: as many keys as ids.
fn xreadgroup(words: Words<'_>, found: &mut dyn FnMut(KeyPosition)) {
    let mut index = 1;
    while !words.is(index, "streams") {
        index += if words.is(index, "noack") {
            1
        } else if words.is_any(index, &["block", "count"]) {
            2
        } else if words.is(index, "group") {
            3
        } else {
            return;
        };
    }
    let first = index + 1;
    let count = words.len().saturating_sub(first);
    if count.is_multiple_of(2) {
        for index in first..first + count / 2 {
            found(KeyPosition {
                index,
                flags: KeyFlags::NONE,
            });
        }
    }
}

/// The word at a position that may be anywhere.
fn at(words: Words<'_>, position: i64) -> Option<&[u8]> {
    words.get(usize::try_from(position).ok()?)
}

/// A whole number as Redis's `string2ll` takes it: nothing but digits and a minus, and no digits
/// that need not be there.
fn decimal(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if is_plain {
        std::str::from_utf8(text).ok()?.parse().ok()
    } else {
        None
    }
}

/// What C's `atoi` makes of any text: spaces, a sign, digits, and whatever follows.
fn atoi(text: &[u8]) -> i32 {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text
        .iter()
        .position(|byte| !is_space(byte))
        .unwrap_or(text.len());
    let (is_negative, digits) = match &text[start..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let mut value: i64 = 0;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        let digit = i64::from(digit - b'0');
        value = value.saturating_mul(10);
        value = if is_negative {
            value.saturating_sub(digit)
        } else {
            value.saturating_add(digit)
        };
    }
    low_half(value)
}

/// What is left of a number that C keeps in an `int`.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
fn low_half(value: i64) -> i32 {
    value as i32
}

// What a command does with a key, where its arguments decide.
const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const CHANGE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE);
const OVERWRITE: KeyFlags = KeyFlags::OW.union(KeyFlags::UPDATE);
const MOVE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::lookup;
    use crate::command::table::COMMANDS;
    use crate::resp::decode::OwnedRequest;
    use proptest::prelude::*;

    /// The keys of a request, as `a(RW access update) b()`.
    fn keys(line: &str) -> String {
        let arguments: Vec<_> = line.split(' ').map(|word| word.trim_matches('"')).collect();
        let arguments: Vec<_> = arguments.iter().map(|word| word.as_bytes()).collect();
        let request = OwnedRequest::of(&arguments);
        let request = request.as_request();
        let command = lookup::resolve(&request).unwrap();
        let keys = keys_of(command, &request)
            .into_iter()
            .map(|KeyPosition { index, flags }| {
                let flags: Vec<_> = flags.names().collect();
                format!(
                    "{}({})",
                    request.argument(index).escape_ascii(),
                    flags.join(" ")
                )
            });
        keys.collect::<Vec<_>>().join(" ")
    }

    /// Each expectation is what redis-server 7.0.15 replies to COMMAND GETKEYSANDFLAGS.
    #[test]
    fn keys_are_those_of_redis() {
        for (request, expected) in [
            ("GET k", "k(RO access)"),
            ("PING", ""),
            ("MSET a 1 b 2", "a(OW update) b(OW update)"),
            ("DEL a b", "a(RM delete) b(RM delete)"),
            ("RENAME a b", "a(RW access delete) b(OW update)"),
            ("BITOP AND d a b", "d(OW update) a(RO access) b(RO access)"),
            ("BLPOP a b 0", "a(RW access delete) b(RW access delete)"),
            ("OBJECT FREQ k", "k(RO)"),
            ("SET k v", "k(OW update)"),
            ("SET k v EX 1 get", "k(RW access update)"),
            ("BITFIELD k GET u8 0 OVERFLOW SAT", "k(RO access)"),
            ("BITFIELD k GET u8 0 SET u8 0 1", "k(RW access update)"),
            ("EVAL s 2 a b c", "a(RW access update) b(RW access update)"),
            ("EVAL s 0 a", ""),
            ("EVAL s 2x a b c", "a() b()"),
            ("EVAL s 9 a b", ""),
            ("EVAL s 4294967297 a b", "a(RW access update)"),
            (
                "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
                "d(OW update) a(RO access) b(RO access)",
            ),
            ("ZUNIONSTORE d 2x a b", "a() b() d()"),
            ("LMPOP 1 a LEFT", "a(RW access delete)"),
            (
                "SORT a LIMIT 0 1 GET store STORE x STORE d",
                "a(RO access) d(OW update)",
            ),
            ("SORT_RO a BY w_*", "a(RO access)"),
            ("GEORADIUS k 1 2 3 m STORE d", "k(RO access) d(OW update)"),
            ("XREAD COUNT 1 STREAMS a b 0 0", "a(RO access) b(RO access)"),
            ("XREADGROUP GROUP g STREAMS STREAMS a 0", "a(RO access)"),
            ("XREADGROUP STREAMS a b c d STREAMS x", "a() b() c()"),
            ("MIGRATE h 1 k 0 9 COPY", "k(RW access delete)"),
            (
                "MIGRATE h 1 \"\" 0 9 AUTH keys KEYS a b",
                "a(RW access delete) b(RW access delete)",
            ),
            ("MIGRATE h 1 k 0 9 KEYS a b", ""),
            ("SSUBSCRIBE a", ""),
        ] {
            assert_eq!(keys(request), expected, "{request}");
        }
    }

    /// Words that mean something somewhere, and some that do not.
    fn word() -> impl Strategy<Value = Vec<u8>> {
        const KNOWN: &[&str] = &[
            "",
            "k",
            "0",
            "1",
            "2",
            "3",
            "-1",
            "1x",
            "4294967298",
            "9223372036854775807",
            "STORE",
            "storedist",
            "STREAMS",
            "GROUP",
            "COUNT",
            "BLOCK",
            "NOACK",
            "KEYS",
            "AUTH",
            "AUTH2",
            "GET",
            "SET",
            "INCRBY",
            "OVERFLOW",
            "BY",
            "LIMIT",
        ];
        prop_oneof![
            9 => proptest::sample::select(KNOWN).prop_map(|word| word.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..5),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn no_request_panics_and_all_keys_are_arguments(
            index in 0..COMMANDS.len(),
            words in proptest::collection::vec(word(), 0..16),
        ) {
            let command = &COMMANDS[index];
            let mut arguments: Vec<&[u8]> = command.name.split('|').map(str::as_bytes).collect();
            arguments.extend(words.iter().map(Vec::as_slice));
            let request = OwnedRequest::of(&arguments);
            let request = request.as_request();

            let told: Vec<_> = keys_of(command, &request).iter().map(|key| key.index).collect();
            let mut visited = Vec::new();
            for_each_key(command, &request, |index| visited.push(index));

            prop_assert!(visited.iter().all(|&index| (1..request.len()).contains(&index)));
            let is_bare_pfmerge = command.name == "pfmerge" && request.len() == 2;
            if command.arity.admits(request.len()) && !is_bare_pfmerge {
                prop_assert_eq!(told, visited);
            }
        }

        #[test]
        fn a_shortened_request_does_not_panic_either(index in 0..COMMANDS.len()) {
            let command = &COMMANDS[index];
            let request = OwnedRequest::of(&[command.name.as_bytes()]);

            for_each_key(command, &request.as_request(), |_| unreachable!("it has no arguments"));
            prop_assert!(keys_of(command, &request.as_request()).is_empty());
        }
    }
}
