//! From a request's words to its command: the last time anything compares a name.
//!
//! [`find`] is on every request's path, so it is one probe of a small open-addressing table built
//! at compile time: a name of up to sixteen bytes fits two machine words, and equal words of equal
//! length are equal names. Only the few longer names are compared byte by byte.

use super::spec::{Command, container_len};
use super::table::{COMMAND_COUNT, COMMANDS};
use crate::resp::Request;

/// The command of this name, in any case. Subcommands are not found by their full name: nobody
/// can send it.
#[must_use]
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let words = Words::of(name);
    let mut at = words.slot();
    loop {
        let slot = &SLOTS[at];
        if slot.name_len == 0 {
            return None;
        }
        if usize::from(slot.name_len) == name.len() && slot.words == words {
            let command = &COMMANDS[usize::from(slot.index)];
            if name.len() <= 16 || command.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(command);
            }
        }
        at = (at + 1) % SLOT_COUNT;
    }
}

/// A container's subcommand of this name, in any case.
#[must_use]
pub fn find_subcommand(container: &Command, name: &[u8]) -> Option<&'static Command> {
    container
        .subcommands()
        .iter()
        .find(|subcommand| subcommand.own_name().as_bytes().eq_ignore_ascii_case(name))
}

/// The command or subcommand of this full name (`get`, `config|get`), in any case.
#[must_use]
pub fn find_full(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|&byte| byte == b'|') {
        None => find(name),
        Some(bar) => find_subcommand(find(&name[..bar])?, &name[bar + 1..]),
    }
}

/// The command or subcommand that runs this request; its number of arguments is right.
///
/// # Errors
/// When there is no such command or subcommand, or the number of arguments is wrong.
#[inline]
pub fn resolve(request: &Request<'_>) -> Result<&'static Command, LookupError> {
    let mut command = find(request.argument(0)).ok_or(LookupError::UnknownCommand)?;
    if command.is_container()
        && let Some(name) = request.get(1)
    {
        command = find_subcommand(command, name).ok_or(LookupError::UnknownSubcommand)?;
    }
    if command.arity.admits(request.len()) {
        Ok(command)
    } else {
        Err(LookupError::WrongArity(command))
    }
}

/// Why no command can run a request.
#[derive(Clone, Copy, Debug)]
pub enum LookupError {
    /// There is no command of this name.
    UnknownCommand,
    /// The command has no such subcommand.
    UnknownSubcommand,
    /// Too many or too few arguments.
    WrongArity(&'static Command),
}

impl LookupError {
    /// The error reply to the request that could not be resolved, byte for byte Redis's. It may
    /// hold line ends, as it quotes the request.
    #[must_use]
    pub fn text(self, request: &Request<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        match self {
            Self::UnknownCommand => {
                text.extend_from_slice(b"ERR unknown command '");
                text.extend_from_slice(quotable(request.argument(0), QUOTED_BYTES_MAX));
                text.extend_from_slice(b"', with args beginning with: ");
                quote_arguments(&mut text, request);
            }
            Self::UnknownSubcommand => {
                text.extend_from_slice(b"ERR unknown subcommand '");
                let name = request.get(1).unwrap_or_default();
                text.extend_from_slice(quotable(name, QUOTED_BYTES_MAX));
                text.extend_from_slice(b"'. Try ");
                text.extend(request.argument(0).iter().map(u8::to_ascii_uppercase));
                text.extend_from_slice(b" HELP.");
            }
            Self::WrongArity(command) => {
                text.extend_from_slice(b"ERR wrong number of arguments for '");
                text.extend_from_slice(command.name.as_bytes());
                text.extend_from_slice(b"' command");
            }
        }
        text
    }
}

/// Quotes arguments while those quoted, quotes included, are shorter than the limit.
fn quote_arguments(text: &mut Vec<u8>, request: &Request<'_>) {
    let start = text.len();
    for argument in request.iter_from(1) {
        let quoted = text.len() - start;
        if quoted >= QUOTED_BYTES_MAX {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(quotable(argument, QUOTED_BYTES_MAX - quoted));
        text.extend_from_slice(b"' ");
    }
}

/// What C's `%.*s` prints: at most `len_max` bytes, and none from a zero byte on.
fn quotable(bytes: &[u8], len_max: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(len_max)];
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

/// The first and the last eight bytes of a name in lower case; a shorter name is all in `head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Words {
    head: u64,
    tail: u64,
}

impl Words {
    /// Names of one length, up to sixteen, have the same words only if they are the same.
    #[inline]
    const fn of(name: &[u8]) -> Self {
        let (head, tail) = if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk())
        {
            (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
        } else if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) {
            let (head, tail) = (u32::from_le_bytes(*head), u32::from_le_bytes(*tail));
            (head as u64 | (tail as u64) << 32, 0)
        } else if let [first, .., last] = name {
            (
                *first as u64 | (name[name.len() / 2] as u64) << 8 | (*last as u64) << 16,
                0,
            )
        } else if let [only] = name {
            (*only as u64, 0)
        } else {
            (0, 0)
        };
        Self {
            head: lower_case(head),
            tail: lower_case(tail),
        }
    }

    /// Where the search for these words begins.
    #[inline]
    const fn slot(self) -> usize {
        let mixed = (self.head ^ self.tail.rotate_left(29)).wrapping_mul(MIXER);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "as many bits as a place has"
        )]
        let slot = (mixed >> (u64::BITS - SLOT_COUNT.ilog2())) as usize;
        slot
    }
}

/// Eight ASCII letters at once: sets bit 5 of every byte from `A` to `Z`.
#[inline]
const fn lower_case(bytes: u64) -> u64 {
    const EVERY: u64 = u64::from_ne_bytes([1; 8]);
    let low_bits = bytes & (EVERY * 0x7f);
    let from_a = low_bits + EVERY * (0x80 - b'A' as u64);
    let beyond_z = low_bits + EVERY * (0x7f - b'Z' as u64);
    let is_letter = (from_a ^ beyond_z) & !bytes & (EVERY * 0x80);
    bytes | is_letter >> 2
}

/// One place of the table; empty if `name_len` is 0.
#[derive(Clone, Copy)]
struct Slot {
    words: Words,
    name_len: u8,
    index: u16,
}

/// The table: each command where its words say, or in the next free place.
static SLOTS: [Slot; SLOT_COUNT] = {
    let mut slots = [EMPTY; SLOT_COUNT];
    let mut at = 0;
    while at < COMMAND_COUNT {
        let command = &COMMANDS[at];
        if container_len(command.name) == command.name.len() {
            insert(&mut slots, command);
        }
        at += 1;
    }
    slots
};

const fn insert(slots: &mut [Slot; SLOT_COUNT], command: &Command) {
    let name = command.name.as_bytes();
    assert!(
        name.len() <= NAME_BYTES_MAX,
        "find() looks at names up to this length"
    );
    let words = Words::of(name);
    let mut at = words.slot();
    while slots[at].name_len != 0 {
        at = (at + 1) % SLOT_COUNT;
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most NAME_BYTES_MAX")]
    let name_len = name.len() as u8;
    slots[at] = Slot {
        words,
        name_len,
        index: command.index,
    };
}

const EMPTY: Slot = Slot {
    words: Words { head: 0, tail: 0 },
    name_len: 0,
    index: 0,
};

/// Places of the table: a power of two, at most half of them taken.
const SLOT_COUNT: usize = (2 * COMMAND_COUNT).next_power_of_two();

/// Any odd number with bits well spread; this is 2⁶⁴ divided by the golden ratio.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

/// No command's name is longer.
const NAME_BYTES_MAX: usize = 20;

/// How many bytes of a request an error quotes.
const QUOTED_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::OwnedRequest;
    use proptest::prelude::*;

    fn error(arguments: &[&[u8]]) -> String {
        let request = OwnedRequest::of(arguments);
        let request = request.as_request();
        let error = resolve(&request).expect_err("no command runs this");
        String::from_utf8(error.text(&request)).unwrap()
    }

    /// What `find` must say, found the slow way.
    fn find_slowly(name: &[u8]) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| {
            !command.is_subcommand() && command.name.as_bytes().eq_ignore_ascii_case(name)
        })
    }

    #[test]
    fn every_command_is_found_in_any_case() {
        for command in COMMANDS.iter().filter(|command| !command.is_subcommand()) {
            for name in [command.name.to_owned(), command.name.to_ascii_uppercase()] {
                assert_eq!(
                    find(name.as_bytes()).map(Command::index),
                    Some(command.index())
                );
            }
        }
    }

    #[test]
    fn a_name_that_differs_in_one_byte_is_another_name() {
        for command in &COMMANDS {
            let mut name = command.name.as_bytes().to_vec();
            for at in 0..name.len() {
                let byte = name[at];
                for other in [0, b'a', byte ^ 1, byte ^ 0x20, byte ^ 0x40, byte | 0x80] {
                    name[at] = other;
                    let (found, right) = (find(&name), find_slowly(&name));
                    assert_eq!(
                        found.map(Command::index),
                        right.map(Command::index),
                        "{name:?}"
                    );
                }
                name[at] = byte;
            }
        }
    }

    #[test]
    fn a_subcommand_is_found_behind_its_container_only() {
        let request = OwnedRequest::of(&[b"CoNfIg", b"gEt", b"port"]);

        assert_eq!(resolve(&request.as_request()).unwrap().name, "config|get");
        assert!(find(b"config|get").is_none());
        assert_eq!(
            find_full(b"CONFIG|GET").map(|command| command.name),
            Some("config|get")
        );
        assert!(find_full(b"get|x").is_none() && find_full(b"config|").is_none());
    }

    #[test]
    fn errors_are_worded_as_redis_words_them() {
        assert_eq!(
            error(&[b"nope"]),
            "ERR unknown command 'nope', with args beginning with: "
        );
        assert_eq!(
            error(&[b"foo", b"a", b"b"]),
            "ERR unknown command 'foo', with args beginning with: 'a' 'b' "
        );
        assert_eq!(
            error(&[b"CONFIG", b"x"]),
            "ERR unknown subcommand 'x'. Try CONFIG HELP."
        );
        assert_eq!(
            error(&[b"config", b"get"]),
            "ERR wrong number of arguments for 'config|get' command"
        );
        assert_eq!(
            error(&[b"CONFIG"]),
            "ERR wrong number of arguments for 'config' command"
        );
        assert_eq!(
            error(&[b"GET", b"a", b"b"]),
            "ERR wrong number of arguments for 'get' command"
        );
    }

    #[test]
    fn errors_quote_no_more_than_128_bytes_and_nothing_behind_a_zero_byte() {
        let long = [b'a'; 200];
        let a = |count| "a".repeat(count);
        assert_eq!(
            error(&[&long, &long[..125], b"bcd", b"e"]),
            format!(
                "ERR unknown command '{}', with args beginning with: '{}' ",
                a(128),
                a(125)
            )
        );
        assert_eq!(
            error(&[b"x", &long[..124], b"bcd", b"e"]),
            format!(
                "ERR unknown command 'x', with args beginning with: '{}' 'b' ",
                a(124)
            )
        );
        assert_eq!(
            error(&[b"config", &long]),
            format!("ERR unknown subcommand '{}'. Try CONFIG HELP.", a(128))
        );
        assert_eq!(
            error(&[b"x\0y", b"\0z"]),
            "ERR unknown command 'x', with args beginning with: '' "
        );
    }

    proptest! {
        #[test]
        fn any_name_is_found_only_if_it_is_one(
            name in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (found, right) = (find(&name), find_slowly(&name));
            prop_assert_eq!(found.map(Command::index), right.map(Command::index));
        }

        #[test]
        fn lower_case_is_that_of_ascii(bytes in any::<[u8; 8]>()) {
            let lower = lower_case(u64::from_le_bytes(bytes)).to_le_bytes();
            prop_assert_eq!(lower, bytes.map(|byte| byte.to_ascii_lowercase()));
        }
    }
}
