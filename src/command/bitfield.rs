//! BITFIELD: integers of 1 to 64 bits at any bit of a string.
//!
//! A field is read and written most significant bit first, behind the string's end it reads as
//! zero. Overflow is Redis's to the bit, including that SET, given a value below any the type can
//! hold by so much that the distance itself overflows, counts it as too large.

use std::fmt;

use super::bits::{self, OffsetError};
use super::numbers::parse_integer;

/// An integer's type: `i8`, `u63`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    sign: Sign,
    /// 1 to 64, or to 63 if unsigned: replies are signed 64-bit numbers.
    bits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Signed,
    Unsigned,
}

/// What becomes of a number its type cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The bits that fit remain.
    #[default]
    Wrap,
    /// The nearest number that fits.
    Saturate,
    /// Nothing is written.
    Fail,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The number to reply: for SET the old one, for INCRBY the new one.
    pub reply: i64,
    /// Whether the field holds another number than before.
    pub is_changed: bool,
}

impl FieldType {
    /// Reads a type: `i` and 1 to 64, or `u` and 1 to 63.
    pub fn parse(text: &[u8]) -> Result<Self, TypeError> {
        let (sign, width, max) = match text {
            [b'i', width @ ..] => (Sign::Signed, width, 64),
            [b'u', width @ ..] => (Sign::Unsigned, width, 63),
            _ => return Err(TypeError),
        };
        let bits = parse_integer(width).and_then(|bits| u32::try_from(bits).ok());
        match bits {
            Some(bits) if (1..=max).contains(&bits) => Ok(Self { sign, bits }),
            Some(_) | None => Err(TypeError),
        }
    }

    /// Reads an offset, the number of the field's first bit: plain, or as `#n`, the n-th field of
    /// this width. It must begin within a string of at most `max_bytes`.
    pub fn parse_offset(self, text: &[u8], max_bytes: u64) -> Result<usize, OffsetError> {
        let offset = match text {
            [b'#', index @ ..] => {
                parse_integer(index).and_then(|index| index.checked_mul(i64::from(self.bits)))
            }
            plain => parse_integer(plain),
        };
        bits::check_offset(offset, max_bytes)
    }

    /// How long a string must be to hold the field, in bytes.
    pub fn byte_len(self, offset: usize) -> usize {
        (offset + self.bits as usize).div_ceil(8)
    }

    /// The number at an offset. Bits behind the string's end are zero.
    pub fn get(self, bytes: &[u8], offset: usize) -> i64 {
        let value = self.mask() & window(bytes, offset, self.bits);
        match self.sign {
            Sign::Signed => self.extend_sign(value),
            Sign::Unsigned => value.cast_signed(),
        }
    }

    /// Writes a number and gives the one that was there; None if overflow fails.
    ///
    /// The string must be at least [`byte_len`](Self::byte_len) long.
    pub fn set(
        self,
        bytes: &mut [u8],
        offset: usize,
        value: i64,
        overflow: Overflow,
    ) -> Option<Written> {
        let before = self.get(bytes, offset);
        let after = self.fit(value, 0, overflow)?;
        self.put(bytes, offset, after);
        // A type that can hold the value stores it as given, so this compares numbers, not bits.
        Some(Written {
            reply: before,
            is_changed: before != after,
        })
    }

    /// Adds to a number and gives the sum; None if overflow fails.
    ///
    /// The string must be at least [`byte_len`](Self::byte_len) long.
    pub fn increment(
        self,
        bytes: &mut [u8],
        offset: usize,
        by: i64,
        overflow: Overflow,
    ) -> Option<Written> {
        let before = self.get(bytes, offset);
        let after = self.fit(before, by, overflow)?;
        self.put(bytes, offset, after);
        Some(Written {
            reply: after,
            is_changed: before != after,
        })
    }

    /// `value + by` as this type holds it; None if it cannot and overflow fails.
    fn fit(self, value: i64, by: i64, overflow: Overflow) -> Option<i64> {
        let limit = match self.sign {
            Sign::Signed => self.exceeded_signed(value, by),
            Sign::Unsigned => self.exceeded_unsigned(value, by),
        };
        let sum = value.wrapping_add(by);
        match (limit, overflow) {
            (None, _) => Some(sum),
            (Some(limit), Overflow::Saturate) => Some(limit),
            (Some(_), Overflow::Fail) => None,
            (Some(_), Overflow::Wrap) => Some(match self.sign {
                Sign::Signed => self.extend_sign(sum.cast_unsigned()),
                Sign::Unsigned => (sum.cast_unsigned() & self.mask()).cast_signed(),
            }),
        }
    }

    /// The limit of a signed type that `value + by` exceeds.
    fn exceeded_signed(self, value: i64, by: i64) -> Option<i64> {
        let max = (self.mask() >> 1).cast_signed();
        let min = -max - 1;
        // Both distances may wrap if the value is out of range itself, which only SET's can be.
        // Above the range that is settled before they are looked at; far enough below it, Redis
        // sees a negative distance up to the maximum.
        let up = max.wrapping_sub(value);
        let down = min.wrapping_sub(value);
        let is_full_width = self.bits == i64::BITS;
        if value > max || (by > up && (!is_full_width || (value >= 0 && by > 0))) {
            Some(max)
        } else if value < min || (by < down && (!is_full_width || (value < 0 && by < 0))) {
            Some(min)
        } else {
            None
        }
    }

    /// The limit of an unsigned type that `value + by` exceeds. A negative value is SET's, and
    /// stands for the unsigned number of the same bits, so it is too large.
    fn exceeded_unsigned(self, value: i64, by: i64) -> Option<i64> {
        let max = self.mask().cast_signed();
        if !(0..=max).contains(&value) || by > max - value {
            Some(max)
        } else if by < -value {
            Some(0)
        } else {
            None
        }
    }

    /// Ones in as many low bits as the type has.
    fn mask(self) -> u64 {
        u64::MAX >> (u64::BITS - self.bits)
    }

    /// The low bits as a signed number, whatever is above them.
    fn extend_sign(self, value: u64) -> i64 {
        let unused = u64::BITS - self.bits;
        (value << unused).cast_signed() >> unused
    }

    /// Writes the low bits of a value.
    fn put(self, bytes: &mut [u8], offset: usize, value: i64) {
        let first = offset / 8;
        let Some(bytes) = bytes.get_mut(first..self.byte_len(offset)) else {
            debug_assert!(false, "the caller makes room for the field");
            return;
        };
        // The at most nine bytes it touches, as one number with the field shifted into place.
        let behind = bytes.len() * 8 - offset % 8 - self.bits as usize;
        let mask = u128::from(self.mask()) << behind;
        let field = u128::from(value.cast_unsigned() & self.mask()) << behind;
        let before = bytes
            .iter()
            .fold(0_u128, |number, &byte| number << 8 | u128::from(byte));
        let after = ((before & !mask) | field).to_be_bytes();
        bytes.copy_from_slice(&after[after.len() - bytes.len()..]);
    }
}

/// The `width` bits from an offset, at the low end of a number with more bits above them.
fn window(bytes: &[u8], offset: usize, width: u32) -> u64 {
    let mut padded = [0; 16];
    let bytes = bytes.get(offset / 8..).unwrap_or_default();
    let len = bytes.len().min(9);
    padded[..len].copy_from_slice(&bytes[..len]);
    let above = u128::from_be_bytes(padded) << (offset % 8);
    let top = u64::try_from(above >> u64::BITS).expect("the upper half of 128 bits");
    top >> (u64::BITS - width)
}

/// A type that does not exist. Displays as the error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeError;

impl fmt::Display for TypeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "ERR Invalid bitfield type. Use something like i16 u8. \
             Note that u64 is not supported but i64 is.",
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(name: &str) -> FieldType {
        FieldType::parse(name.as_bytes()).unwrap()
    }

    fn reply(written: Option<Written>) -> Option<i64> {
        written.map(|written| written.reply)
    }

    #[test]
    fn types_are_i1_to_i64_and_u1_to_u63() {
        for text in ["i1", "i64", "u1", "u63"] {
            assert!(FieldType::parse(text.as_bytes()).is_ok(), "{text}");
        }
        for text in [
            "", "i", "i0", "i65", "u64", "u0", "I8", "8", "i08", "i-1", "i8 ",
        ] {
            assert_eq!(FieldType::parse(text.as_bytes()), Err(TypeError), "{text}");
        }
    }

    #[test]
    fn an_offset_counts_bits_or_with_a_hash_fields() {
        let offset = |text: &str| field("u8").parse_offset(text.as_bytes(), 100);
        assert_eq!(offset("3"), Ok(3));
        assert_eq!(offset("#3"), Ok(24));
        assert_eq!(offset("799"), Ok(799));
        assert_eq!(offset("#99"), Ok(792));
        for text in [
            "800",
            "#100",
            "-1",
            "#-1",
            "#",
            "",
            "##1",
            "#4611686018427387905",
        ] {
            assert_eq!(offset(text), Err(OffsetError), "{text}");
        }
    }

    #[test]
    fn a_field_is_stored_most_significant_bit_first() {
        let mut bytes = [0; 2];
        assert_eq!(
            reply(field("u5").set(&mut bytes, 7, 23, Overflow::Wrap)),
            Some(0)
        );
        assert_eq!(bytes, [0b0000_0001, 0b0111_0000]);
        assert_eq!(field("u5").get(&bytes, 7), 23);
        assert_eq!(field("i5").get(&bytes, 7), -9);
        assert_eq!(
            field("u8").get(&bytes, 12),
            0,
            "half of it is behind the end"
        );
        assert_eq!(field("i64").get(&bytes, usize::MAX / 8), 0);
        assert_eq!(field("u5").byte_len(7), 2);
        assert_eq!(field("i64").byte_len(1), 9);
    }

    #[test]
    fn overflow_wraps_saturates_or_fails() {
        let mut bytes = [0xff; 9];
        let u2 = field("u2");
        assert_eq!(reply(u2.increment(&mut bytes, 0, 1, Overflow::Fail)), None);
        assert_eq!(
            reply(u2.increment(&mut bytes, 0, 1, Overflow::Saturate)),
            Some(3)
        );
        assert_eq!(
            reply(u2.increment(&mut bytes, 0, 1, Overflow::Wrap)),
            Some(0)
        );
        assert_eq!(
            reply(u2.increment(&mut bytes, 0, -1, Overflow::Saturate)),
            Some(0)
        );
        assert_eq!(
            reply(u2.set(&mut bytes, 0, -1, Overflow::Saturate)),
            Some(0)
        );
        assert_eq!(
            u2.get(&bytes, 0),
            3,
            "a negative number is too large, not too small"
        );

        let i64 = field("i64");
        assert_eq!(
            reply(i64.set(&mut bytes, 3, i64::MAX, Overflow::Wrap)),
            Some(-1)
        );
        assert_eq!(reply(i64.increment(&mut bytes, 3, 1, Overflow::Fail)), None);
        assert_eq!(
            reply(i64.increment(&mut bytes, 3, 1, Overflow::Saturate)),
            Some(i64::MAX)
        );
        assert_eq!(
            reply(i64.increment(&mut bytes, 3, 1, Overflow::Wrap)),
            Some(i64::MIN)
        );
        assert_eq!(
            reply(i64.increment(&mut bytes, 3, -1, Overflow::Saturate)),
            Some(i64::MIN)
        );
        assert_eq!(
            bytes[8] & 0b1_1111,
            0b1_1111,
            "its neighbours are left alone"
        );
    }

    #[test]
    fn a_number_too_far_below_counts_as_too_large() {
        let mut bytes = [0];
        let i8 = field("i8");
        assert!(
            i8.set(&mut bytes, 0, i64::MIN, Overflow::Saturate)
                .is_some()
        );
        assert_eq!(i8.get(&bytes, 0), 127);
        assert!(i8.set(&mut bytes, 0, -1_000, Overflow::Saturate).is_some());
        assert_eq!(i8.get(&bytes, 0), -128);
    }

    #[test]
    fn a_write_tells_whether_it_changed_anything() {
        let mut bytes = [7];
        let u8 = field("u8");
        assert!(
            u8.set(&mut bytes, 0, 7, Overflow::Wrap)
                .is_some_and(|it| !it.is_changed)
        );
        assert!(
            u8.set(&mut bytes, 0, 8, Overflow::Wrap)
                .is_some_and(|it| it.is_changed)
        );
        assert!(
            u8.increment(&mut bytes, 0, 0, Overflow::Wrap)
                .is_some_and(|it| !it.is_changed)
        );
    }

    proptest! {
        #[test]
        fn what_fits_is_read_back_and_touches_nothing_else(
            string in proptest::collection::vec(any::<u8>(), 16),
            width in 1_u32..=64,
            offset in 0_usize..64,
            value: i64,
        ) {
            let field = field(&format!("i{width}"));
            let value = field.extend_sign(value.cast_unsigned());
            let mut bytes = string.clone();
            field.set(&mut bytes, offset, value, Overflow::Fail).unwrap();
            prop_assert_eq!(field.get(&bytes, offset), value);
            for bit in (0..offset).chain(offset + width as usize..string.len() * 8) {
                prop_assert_eq!(bits::get(&bytes, bit), bits::get(&string, bit));
            }
        }
    }
}
