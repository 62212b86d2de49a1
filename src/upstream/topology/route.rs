//! To which masters of a cluster a request goes, and how their replies become one.

use crate::resp::Request;

/// Who knows commands: tells where a request is to go.
pub trait Router: Send + Sync {
    /// Where this request is to go. `is_resp3`: the dialect of its replies.
    fn route(&self, request: &Request<'_>, is_resp3: bool) -> Route;

    /// Calls `visit` with each key of a request.
    fn for_each_key(&self, request: &Request<'_>, visit: &mut dyn FnMut(&[u8]));
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the master of this slot.
    Slot(u16),
    /// To any master, but always to the same.
    Any,
    /// Nowhere: its keys are in several slots.
    CrossSlot,
    /// Requests in wire form go to the masters of these slots.
    Split(Join, Vec<(u16, Vec<u8>)>),
    /// To all masters.
    Every(Join),
    /// To all masters with which there is a connection.
    Open,
    /// To the master that the cursor names.
    Scan,
    /// Nowhere: this is the reply.
    Answer(&'static [u8]),
}

/// How several replies become one. An error among them is the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// There is one, or all are the same.
    Same,
    /// Each is an element; an error that the type is wrong is `null`.
    Each {
        /// What stands for no value.
        null: &'static [u8],
    },
    /// Numbers are added.
    Sum,
    /// Arrays are put behind one another.
    Concat,
    /// The first that is not null.
    Found,
    /// Arrays of numbers of which each is the least at its place.
    Least,
    /// The reply to `SCAN` of the master with this number; another one follows it or not.
    Scan {
        /// The master's number.
        master: usize,
        /// Whether there is a next one.
        is_last: bool,
    },
}

/// How far the number of a master is shifted in a cursor. Cursors of a master are less: they
/// number buckets.
const CURSOR_SHIFT: u32 = 48;

/// The master of a cursor, and its cursor there.
pub(super) fn cursor_of(digits: &[u8]) -> Option<(usize, u64)> {
    let cursor: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let master = usize::try_from(cursor >> CURSOR_SHIFT).ok()?;
    Some((master, cursor & ((1 << CURSOR_SHIFT) - 1)))
}

impl Join {
    /// One reply of several, all of them whole.
    pub(super) fn join(self, parts: &[Vec<u8>]) -> Vec<u8> {
        let is_error = |part: &&Vec<u8>| {
            let is_wrong_type =
                part.starts_with(b"-WRONGTYPE ") && matches!(self, Self::Each { .. });
            matches!(part.first(), Some(b'-' | b'!')) && !is_wrong_type
        };
        if let Some(error) = parts.iter().find(is_error) {
            return error.clone();
        }
        let first = || parts.first().cloned().unwrap_or_default();
        match self {
            Self::Same => first(),
            Self::Found => {
                let is_there = |part: &&Vec<u8>| !matches!(part.as_slice(), b"$-1\r\n" | b"_\r\n");
                parts.iter().find(is_there).cloned().unwrap_or_else(first)
            }
            Self::Each { null } => {
                let mut reply = format!("*{}\r\n", parts.len()).into_bytes();
                for part in parts {
                    let is_wrong_type = part.starts_with(b"-");
                    reply.extend_from_slice(if is_wrong_type { null } else { part });
                }
                reply
            }
            Self::Sum => {
                let sum: i64 = parts.iter().filter_map(|part| number(part)).sum();
                format!(":{sum}\r\n").into_bytes()
            }
            Self::Concat => {
                let (mut count, mut body) = (0, Vec::new());
                for part in parts {
                    let (len, elements) = array(part);
                    count += len;
                    body.extend_from_slice(elements);
                }
                [format!("*{count}\r\n").into_bytes(), body].concat()
            }
            Self::Least => {
                let mut least: Vec<i64> = Vec::new();
                for (at, part) in parts.iter().enumerate() {
                    let lines = array(part).1.split_inclusive(|byte| *byte == b'\n');
                    let numbers: Vec<i64> = lines.filter_map(number).collect();
                    if at == 0 {
                        least = numbers;
                    } else {
                        for (one, other) in least.iter_mut().zip(numbers) {
                            *one = other.min(*one);
                        }
                    }
                }
                let mut reply = format!("*{}\r\n", least.len());
                for number in least {
                    reply.push_str(&format!(":{number}\r\n"));
                }
                reply.into_bytes()
            }
            Self::Scan { master, is_last } => scanned(&first(), master, is_last),
        }
    }
}

/// A reply to `SCAN` with the cursor that our client is to go on with.
fn scanned(reply: &[u8], master: usize, is_last: bool) -> Vec<u8> {
    // *2, the length of the cursor, the cursor, the keys.
    let mut lines = reply.splitn(4, |byte| *byte == b'\n');
    let cursor = lines.nth(2).map(<[u8]>::trim_ascii_end);
    let (Some(cursor), Some(keys)) = (cursor, lines.next()) else {
        return reply.to_vec();
    };
    let number = std::str::from_utf8(cursor)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let Some(cursor) = number else {
        return reply.to_vec();
    };
    let master = if cursor == 0 { master + 1 } else { master } as u64;
    let cursor = if cursor == 0 && is_last {
        0
    } else {
        (master << CURSOR_SHIFT) | cursor
    };
    let digits = cursor.to_string();
    let mut joined = format!("*2\r\n${}\r\n{digits}\r\n", digits.len()).into_bytes();
    joined.extend_from_slice(keys);
    joined
}

fn number(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.trim_ascii_end();
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The number of elements of an array, and the elements.
fn array(reply: &[u8]) -> (usize, &[u8]) {
    let end = memchr::memchr(b'\n', reply).map_or(reply.len(), |at| at + 1);
    let (head, elements) = reply.split_at(end);
    let digits = head.get(1..).unwrap_or_default().trim_ascii_end();
    let len = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok());
    (len.unwrap_or(0), elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(join: Join, parts: &[&str]) -> String {
        let parts: Vec<_> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        String::from_utf8(join.join(&parts)).unwrap()
    }

    #[test]
    fn replies_are_joined_as_their_command_asks() {
        let null = b"$-1\r\n";
        assert_eq!(joined(Join::Sum, &[":1\r\n", ":41\r\n"]), ":42\r\n");
        let parts = ["$1\r\na\r\n", "$-1\r\n", "-WRONGTYPE x\r\n"];
        let reply = "*3\r\n$1\r\na\r\n$-1\r\n$-1\r\n";
        assert_eq!(joined(Join::Each { null }, &parts), reply);
        assert_eq!(joined(Join::Same, &["+OK\r\n", "-ERR x\r\n"]), "-ERR x\r\n");
        let parts = ["*1\r\n+a\r\n", "*0\r\n", "*2\r\n+b\r\n+c\r\n"];
        assert_eq!(joined(Join::Concat, &parts), "*3\r\n+a\r\n+b\r\n+c\r\n");
        assert_eq!(joined(Join::Found, &["$-1\r\n", "+a\r\n"]), "+a\r\n");
        assert_eq!(joined(Join::Found, &["_\r\n", "_\r\n"]), "_\r\n");
        let parts = ["*2\r\n:1\r\n:0\r\n", "*2\r\n:1\r\n:1\r\n"];
        assert_eq!(joined(Join::Least, &parts), "*2\r\n:1\r\n:0\r\n");
    }

    #[test]
    fn a_cursor_names_its_master_and_ends_with_the_last() {
        let reply = "*2\r\n$1\r\n5\r\n*1\r\n$1\r\nk\r\n";
        let next = joined(
            Join::Scan {
                master: 2,
                is_last: true,
            },
            &[reply],
        );
        let cursor = (2_u64 << CURSOR_SHIFT) | 5;
        assert!(next.starts_with(&format!("*2\r\n$15\r\n{cursor}\r\n*1\r\n$1\r\nk\r\n")));
        assert_eq!(cursor_of(cursor.to_string().as_bytes()), Some((2, 5)));
        let end = "*2\r\n$1\r\n0\r\n*0\r\n";
        let next = joined(
            Join::Scan {
                master: 0,
                is_last: false,
            },
            &[end],
        );
        let cursor = 1_u64 << CURSOR_SHIFT;
        assert!(next.contains(&cursor.to_string()), "{next}");
        let last = joined(
            Join::Scan {
                master: 1,
                is_last: true,
            },
            &[end],
        );
        assert_eq!(last, end);
    }
}
