//! Strings as bitmaps: BITCOUNT, BITPOS, BITOP, GETBIT and SETBIT on plain slices.
//!
//! Bit 0 is the most significant bit of the first byte, and whatever lies behind a string's end
//! reads as zero. Ranges are inclusive, and count from the end when negative, as Redis's are.
//! Integers of odd widths inside a bitmap are in [`bitfield`](super::bitfield).

use std::fmt;

use super::numbers::parse_integer;

/// What a range counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `BYTE`, the default.
    Byte,
    /// `BIT`.
    Bit,
}

/// A range as the client gave it: inclusive, negative from the end, not yet cut to a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first unit.
    pub start: i64,
    /// The last unit. BITPOS alone may leave it out: up to the string's end.
    pub end: Option<i64>,
    /// What both count.
    pub unit: Unit,
}

impl Range {
    /// The whole string, as if no range were given.
    pub const ALL: Self = Self {
        start: 0,
        end: None,
        unit: Unit::Byte,
    };

    /// The bits of a string that are in the range: the first, and one past the last.
    fn resolve(self, byte_len: usize) -> Option<(usize, usize)> {
        let (unit_bits, len) = match self.unit {
            Unit::Byte => (8, byte_len),
            Unit::Bit => (1, byte_len.checked_mul(8)?),
        };
        let last = len.checked_sub(1)?;
        let from_start = |index: i64| match usize::try_from(index.unsigned_abs()) {
            Ok(distance) if index < 0 => len.saturating_sub(distance),
            Ok(distance) => distance,
            Err(_) if index < 0 => 0,
            Err(_) => usize::MAX,
        };
        let start = from_start(self.start);
        let end = self.end.map_or(last, |end| from_start(end).min(last));
        (start <= end).then(|| (start * unit_bits, (end + 1) * unit_bits))
    }
}

/// One bit's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bit {
    /// 0.
    Clear,
    /// 1.
    Set,
}

/// How BITOP combines its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    /// Set where all are.
    And,
    /// Set where any is.
    Or,
    /// Set where an odd number is.
    Xor,
}

/// How many bits of a string are set.
pub fn count(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words
        .iter()
        .map(|word| u64::from_ne_bytes(*word).count_ones());
    let rest = rest.iter().map(|byte| byte.count_ones());
    words.chain(rest).map(u64::from).sum()
}

/// How many bits in a range of a string are set.
pub fn count_range(bytes: &[u8], range: Range) -> u64 {
    // Redis compares the ends before it cuts them to the string, but only if both are negative:
    // -3 -5 is empty even on a string so short that both mean its first unit.
    if let Some(end) = range.end
        && end < range.start
        && range.start < 0
    {
        return 0;
    }
    let Some((start, end)) = range.resolve(bytes.len()) else {
        return 0;
    };
    let bytes = &bytes[start / 8..end.div_ceil(8)];
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return 0;
    };
    let before = first & !(u8::MAX >> (start % 8));
    let behind = if end % 8 == 0 {
        0
    } else {
        last & (u8::MAX >> (end % 8))
    };
    count(bytes) - u64::from(before.count_ones()) - u64::from(behind.count_ones())
}

/// The position of the first bit of a value in a range, counted from the string's start.
///
/// Without an end the string is followed by zeros, so the first clear bit of a string of ones is
/// the one behind it. An empty range, and so any of an empty string, has no bits at all. (A key
/// that does not exist is not an empty string: Redis replies 0 for its first clear bit.)
pub fn position(bytes: &[u8], bit: Bit, range: Range) -> Option<usize> {
    let (start, end) = range.resolve(bytes.len())?;
    match (find(bytes, bit, start, end), bit, range.end) {
        (Some(position), _, _) => Some(position),
        (None, Bit::Clear, None) => Some(end),
        (None, _, _) => None,
    }
}

/// The first bit of a value in `start..end`, which is not empty and within the string.
fn find(bytes: &[u8], bit: Bit, start: usize, end: usize) -> Option<usize> {
    // The search is for a set bit in `byte ^ flip`.
    let flip = match bit {
        Bit::Clear => u8::MAX,
        Bit::Set => 0,
    };
    let first = start / 8;
    let after_first = (bytes[first] ^ flip) & (u8::MAX >> (start % 8));
    let byte = if after_first != 0 {
        first
    } else {
        let rest = &bytes[first + 1..end.div_ceil(8)];
        let (words, _) = rest.as_chunks::<8>();
        let skipped = 8 * words.iter().take_while(|word| **word == [flip; 8]).count();
        first + 1 + skipped + rest[skipped..].iter().position(|&byte| byte != flip)?
    };
    let found = if byte == first {
        after_first
    } else {
        bytes[byte] ^ flip
    };
    let position = byte * 8 + found.leading_zeros() as usize;
    (position < end).then_some(position)
}

/// Combines sources bit by bit. A shorter one counts as followed by zeros up to the longest's end.
pub fn combine(logic: Logic, sources: &[&[u8]]) -> Vec<u8> {
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let Some((first, others)) = sources.split_first() else {
        return Vec::new();
    };
    let mut result = Vec::with_capacity(len);
    result.extend_from_slice(first);
    result.resize(len, 0);
    for source in others {
        let both = result.iter_mut().zip(*source);
        match logic {
            Logic::And => {
                both.for_each(|(result, byte)| *result &= byte);
                result[source.len()..].fill(0);
            }
            Logic::Or => both.for_each(|(result, byte)| *result |= byte),
            Logic::Xor => both.for_each(|(result, byte)| *result ^= byte),
        }
    }
    result
}

/// Flips every bit: BITOP NOT.
pub fn invert(source: &[u8]) -> Vec<u8> {
    source.iter().map(|byte| !byte).collect()
}

/// The bit at an offset; clear behind the end.
pub fn get(bytes: &[u8], offset: usize) -> Bit {
    match bytes.get(offset / 8) {
        Some(byte) if byte & mask(offset) != 0 => Bit::Set,
        Some(_) | None => Bit::Clear,
    }
}

/// Sets the bit at an offset, which must be within the slice, and gives the one that was there.
pub fn set(bytes: &mut [u8], offset: usize, bit: Bit) -> Bit {
    let before = get(bytes, offset);
    match bit {
        Bit::Set => bytes[offset / 8] |= mask(offset),
        Bit::Clear => bytes[offset / 8] &= !mask(offset),
    }
    before
}

fn mask(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

/// Reads the offset of SETBIT and GETBIT: a bit's number, in a string of at most `max_bytes`.
pub fn parse_offset(text: &[u8], max_bytes: u64) -> Result<usize, OffsetError> {
    let offset = parse_integer(text).ok_or(OffsetError)?;
    check_offset(Some(offset), max_bytes)
}

/// Accepts a bit's number that is not negative and falls in a string of at most `max_bytes`.
pub(super) fn check_offset(offset: Option<i64>, max_bytes: u64) -> Result<usize, OffsetError> {
    let offset = offset
        .and_then(|offset| usize::try_from(offset).ok())
        .ok_or(OffsetError)?;
    if (offset / 8) as u64 >= max_bytes {
        Err(OffsetError)
    } else {
        Ok(offset)
    }
}

/// An offset that is no number, negative, or past the largest string. Displays as the error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetError;

impl fmt::Display for OffsetError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ERR bit offset is not an integer or out of range")
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    const fn bits(start: i64, end: i64) -> Range {
        Range {
            start,
            end: Some(end),
            unit: Unit::Bit,
        }
    }

    const fn bytes(start: i64, end: i64) -> Range {
        Range {
            start,
            end: Some(end),
            unit: Unit::Byte,
        }
    }

    #[test]
    fn set_bits_are_counted_in_a_range() {
        assert_eq!(count(b"foobar"), 26);
        assert_eq!(count(b"foobarfoobarfoobar"), 78);
        assert_eq!(count_range(b"foobar", bytes(0, 0)), 4);
        assert_eq!(count_range(b"foobar", bytes(1, 1)), 6);
        assert_eq!(count_range(b"foobar", bytes(-2, -1)), 7);
        assert_eq!(count_range(b"foobar", bits(5, 30)), 17);
        assert_eq!(count_range(b"foobar", bits(1, 1)), 1);
        assert_eq!(count_range(b"foobar", bytes(0, i64::MAX)), 26);
        assert_eq!(count_range(b"foobar", bytes(i64::MIN, i64::MAX)), 26);
        assert_eq!(count_range(b"foobar", bytes(i64::MAX, i64::MAX)), 0);
        assert_eq!(count_range(b"", bytes(0, -1)), 0);
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_empty() {
        assert_eq!(count_range(b"foobar", bytes(3, 2)), 0);
        assert_eq!(count_range(b"f", bytes(-3, -5)), 0);
        assert_eq!(
            count_range(b"f", bytes(-5, -3)),
            4,
            "both are cut to the first byte"
        );
        assert_eq!(
            position(b"f", Bit::Set, bytes(-3, -5)),
            Some(1),
            "BITPOS only cuts"
        );
    }

    #[test]
    fn a_clear_bit_is_found_behind_the_end_only_if_no_end_was_given() {
        let ones = [0xff; 20];
        assert_eq!(position(&ones, Bit::Clear, Range::ALL), Some(160));
        let open = Range {
            start: 4,
            ..Range::ALL
        };
        assert_eq!(position(&ones, Bit::Clear, open), Some(160));
        assert_eq!(position(&ones, Bit::Clear, bytes(0, -1)), None);
        assert_eq!(
            position(
                &ones,
                Bit::Clear,
                Range {
                    start: 20,
                    ..Range::ALL
                }
            ),
            None
        );
        assert_eq!(position(&[0; 20], Bit::Set, Range::ALL), None);
        assert_eq!(position(b"", Bit::Clear, Range::ALL), None);
    }

    #[test]
    fn a_bit_is_found_from_the_start_of_the_string() {
        assert_eq!(position(b"\xff\xf0\x00", Bit::Clear, Range::ALL), Some(12));
        assert_eq!(position(b"\x00\xff\xf0", Bit::Set, bytes(2, -1)), Some(16));
        assert_eq!(position(b"\x00\xff\xf0", Bit::Set, bits(7, 15)), Some(8));
        assert_eq!(position(b"\x00\xff\xf0", Bit::Set, bits(7, 7)), None);
        assert_eq!(position(b"\xff\xff\xff", Bit::Clear, bits(7, 15)), None);
    }

    #[test]
    fn shorter_sources_count_as_followed_by_zeros() {
        let sources: [&[u8]; 2] = [b"\xff\x0f\xaa", b"\xf0"];
        assert_eq!(combine(Logic::And, &sources), b"\xf0\0\0");
        assert_eq!(combine(Logic::Or, &sources), b"\xff\x0f\xaa");
        assert_eq!(combine(Logic::Xor, &sources), b"\x0f\x0f\xaa");
        assert_eq!(combine(Logic::And, &[b"", b"ab"]), b"\0\0");
        assert_eq!(combine(Logic::Or, &[b"a"]), b"a");
        assert!(combine(Logic::Or, &[]).is_empty());
        assert_eq!(invert(b"\xff\x0f"), b"\0\xf0");
    }

    #[test]
    fn single_bits_are_read_and_written() {
        let mut bytes = [0; 2];
        assert_eq!(set(&mut bytes, 7, Bit::Set), Bit::Clear);
        assert_eq!(set(&mut bytes, 8, Bit::Set), Bit::Clear);
        assert_eq!(bytes, [0x01, 0x80]);
        assert_eq!(set(&mut bytes, 7, Bit::Clear), Bit::Set);
        assert_eq!(get(&bytes, 8), Bit::Set);
        assert_eq!(get(&bytes, 1_000_000), Bit::Clear);
    }

    #[test]
    fn an_offset_falls_within_the_largest_string() {
        assert_eq!(parse_offset(b"0", 512), Ok(0));
        assert_eq!(parse_offset(b"4095", 512), Ok(4095));
        for text in [
            &b"4096"[..],
            b"-1",
            b"",
            b"x",
            b"#1",
            b"9223372036854775808",
        ] {
            assert_eq!(parse_offset(text, 512), Err(OffsetError));
        }
    }

    proptest! {
        #[test]
        fn counting_and_finding_agree_with_looking_at_every_bit(
            string in collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 0..40),
            start in -350_i64..350,
            end in -350_i64..350,
            is_bit: bool,
        ) {
            let unit = if is_bit { Unit::Bit } else { Unit::Byte };
            let range = Range { start, end: Some(end), unit };
            let (first, past) = range.resolve(string.len()).unwrap_or((0, 0));
            let set = (first..past).filter(|&offset| get(&string, offset) == Bit::Set);
            if !(start < 0 && end < start) {
                prop_assert_eq!(count_range(&string, range), set.clone().count() as u64);
            }
            prop_assert_eq!(position(&string, Bit::Set, range), set.min());
            let clear = (first..past).find(|&offset| get(&string, offset) == Bit::Clear);
            prop_assert_eq!(position(&string, Bit::Clear, range), clear);
        }
    }
}
