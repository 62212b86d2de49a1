//! The arithmetic of INCRBYFLOAT: 80-bit extended precision in software.
//!
//! Redis on x86-64 adds `long double`s: a 64-bit significand and a 15-bit exponent, rounded to
//! nearest even. Its replies show the difference to doubles (`0.1 + 0.2` is `0.3`), so clients
//! depend on it. Rust has no such type; here a number is parsed, added and printed exactly as
//! `strtold`, the x87 unit and `%.17Lf` do. Work is bounded: a text has at most [`MAX_TEXT_BYTES`],
//! and no integer in between has more than some 35 000 bits.

use std::fmt;

use num_bigint::BigUint;

use super::numbers::{self, BinaryFormat, Digits, Magnitude};

/// A text this long, or longer, is not a float: Redis's `MAX_LONG_DOUBLE_CHARS`.
pub const MAX_TEXT_BYTES: usize = 5 * 1024;

/// Adds two numbers as INCRBYFLOAT does and gives the text that is stored and replied.
pub fn add(value: &[u8], increment: &[u8]) -> Result<String, FloatError> {
    let value = LongDouble::parse(value).ok_or(FloatError::NotAFloat)?;
    let increment = LongDouble::parse(increment).ok_or(FloatError::NotAFloat)?;
    let sum = value.plus(increment).ok_or(FloatError::NotFinite)?;
    Ok(sum.to_string())
}

/// Why two numbers were not added. Displays as the error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatError {
    /// One of the texts is not a number, or too long, or out of range.
    NotAFloat,
    /// The sum has no finite value.
    NotFinite,
}

impl fmt::Display for FloatError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotAFloat => "ERR value is not a valid float",
            Self::NotFinite => "ERR increment would produce NaN or Infinity",
        })
    }
}

/// A number of the x87 extended format; never NaN.
///
/// Displays as Redis prints it for people: 17 decimals, trailing zeros removed, no `-0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    is_negative: bool,
    size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Infinite,
    /// `significand * 2^exponent`. Normalised: the exponent is [`EXTENDED`]'s least, or the
    /// significand's top bit is set.
    Finite {
        significand: u64,
        exponent: i64,
    },
}

impl LongDouble {
    /// Reads a number as Redis's `string2ld` does: all that `strtold` takes, except NaN,
    /// surrounding space, trailing bytes, and finite numbers that overflow or vanish.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= MAX_TEXT_BYTES {
            return None;
        }
        let scanned = numbers::scan_float(text)?;
        let size = match scanned.magnitude {
            Magnitude::Infinity => Size::Infinite,
            Magnitude::Decimal(digits) if digits.are_all_zero() => ZERO,
            Magnitude::Hexadecimal(digits) if digits.are_all_zero() => ZERO,
            Magnitude::Decimal(digits) => nearest_to_decimal(&digits)?,
            Magnitude::Hexadecimal(digits) => {
                let (significand, is_inexact, exponent) = digits.hexadecimal_value();
                nonzero(significand, is_inexact, exponent)?
            }
        };
        Some(Self {
            is_negative: scanned.is_negative,
            size,
        })
    }

    /// Whether it is not an infinity, which HINCRBYFLOAT refuses as an increment.
    pub fn is_finite(self) -> bool {
        self.size != Size::Infinite
    }

    /// The sum, rounded to nearest even; None if it would be NaN or infinite.
    pub fn plus(self, other: Self) -> Option<Self> {
        let Size::Finite {
            significand: mine,
            exponent: my_exponent,
        } = self.size
        else {
            return None;
        };
        let Size::Finite {
            significand: theirs,
            exponent: their_exponent,
        } = other.size
        else {
            return None;
        };
        if my_exponent < their_exponent {
            return other.plus(self);
        }
        let aligned = align(mine, theirs, my_exponent - their_exponent);
        let (is_negative, significand, is_inexact) = if self.is_negative == other.is_negative {
            (
                self.is_negative,
                aligned.larger + aligned.smaller,
                aligned.is_inexact,
            )
        } else if aligned.larger >= aligned.smaller {
            // What was cut off the smaller makes the difference a little less: one unit down,
            // and a little above that.
            let borrow = u128::from(aligned.is_inexact);
            let difference = aligned.larger - aligned.smaller - borrow;
            (self.is_negative, difference, aligned.is_inexact)
        } else {
            (other.is_negative, aligned.smaller - aligned.larger, false)
        };
        let exponent = my_exponent - i64::from(aligned.shift);
        let (significand, exponent) =
            numbers::round_binary(significand, is_inexact, exponent, &EXTENDED)?;
        Some(Self {
            is_negative,
            size: Size::Finite {
                significand,
                exponent,
            },
        })
    }
}

impl fmt::Display for LongDouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.size {
            Size::Infinite => "inf".to_owned(),
            Size::Finite {
                significand,
                exponent,
            } => format_finite(significand, exponent),
        };
        if self.is_negative && text != "0" {
            formatter.write_str("-")?;
        }
        formatter.write_str(&text)
    }
}

/// Two significands on one scale, `shift` bits below the larger one's own.
struct Aligned {
    larger: u128,
    smaller: u128,
    /// Whether non-zero bits of the smaller were cut off.
    is_inexact: bool,
    shift: u32,
}

/// Brings two significands, the second `distance >= 0` binary places below the first, to one scale.
fn align(larger: u64, smaller: u64, distance: i64) -> Aligned {
    // 62 bits below the larger's last leave 127 in all, so that a sum still fits, and are far
    // more than rounding needs.
    const MAX_SHIFT: u32 = 62;
    let distance = u32::try_from(distance).unwrap_or(u32::MAX);
    let shift = distance.min(MAX_SHIFT);
    let cut = distance - shift;
    let kept = smaller.checked_shr(cut).unwrap_or(0);
    let is_inexact = kept.checked_shl(cut).unwrap_or(0) != smaller;
    Aligned {
        larger: u128::from(larger) << shift,
        smaller: u128::from(kept),
        is_inexact,
        shift,
    }
}

/// The number nearest to digits that are not all zero; None if out of range.
fn nearest_to_decimal(digits: &Digits<'_>) -> Option<Size> {
    let fraction_len = i64::try_from(digits.fraction.len()).ok()?;
    let text = [digits.whole, digits.fraction].concat();
    let first = text.iter().position(|&digit| digit != b'0')?;
    let last = text.iter().rposition(|&digit| digit != b'0')?;
    let significant = &text[first..=last];
    let trailing = i64::try_from(text.len() - 1 - last).ok()?;
    let exponent = digits.exponent - fraction_len + trailing;

    // The number is in [10^(magnitude - 1), 10^magnitude): settle the hopeless without arithmetic.
    let magnitude = i64::try_from(significant.len()).ok()? + exponent;
    if !(MIN_MAGNITUDE..=MAX_MAGNITUDE).contains(&magnitude) {
        return None;
    }
    let mut numerator = BigUint::parse_bytes(significant, 10)?;
    let mut denominator = BigUint::from(1_u32);
    let power = BigUint::from(10_u32).pow(u32::try_from(exponent.unsigned_abs()).ok()?);
    if exponent < 0 {
        denominator = power;
    } else {
        numerator *= power;
    }

    // Scaled so that the quotient has 67 or 68 bits: the 64 to keep, and some to round by.
    const QUOTIENT_BITS: i64 = 67;
    let scale = i64::try_from(denominator.bits()).ok()? - i64::try_from(numerator.bits()).ok()?
        + QUOTIENT_BITS;
    if scale < 0 {
        denominator <<= scale.unsigned_abs();
    } else {
        numerator <<= scale.unsigned_abs();
    }
    let quotient = &numerator / &denominator;
    let is_inexact = &quotient * &denominator != numerator;
    nonzero(u128::try_from(quotient).ok()?, is_inexact, -scale)
}

/// Rounds a number that is not zero; None if it overflows or vanishes.
fn nonzero(significand: u128, is_inexact: bool, exponent: i64) -> Option<Size> {
    let (significand, exponent) =
        numbers::round_binary(significand, is_inexact, exponent, &EXTENDED)?;
    (significand != 0).then_some(Size::Finite {
        significand,
        exponent,
    })
}

/// `%.17Lf` without trailing zeros, and without the point if nothing follows it.
fn format_finite(significand: u64, exponent: i64) -> String {
    if exponent >= 0 {
        return (BigUint::from(significand) << exponent.unsigned_abs()).to_string();
    }
    // Below 2^64 * 10^17 < 2^121. Rounded to nearest even at the last decimal.
    let scaled = u128::from(significand) * DECIMAL_SCALE;
    let drop = exponent.unsigned_abs();
    let rounded = if drop > 127 {
        0
    } else {
        let kept = scaled >> drop;
        let half = 1_u128 << (drop - 1);
        let dropped = scaled & ((half << 1) - 1);
        kept + u128::from(dropped > half || (dropped == half && kept & 1 == 1))
    };
    let (whole, fraction) = (rounded / DECIMAL_SCALE, rounded % DECIMAL_SCALE);
    let text = format!("{whole}.{fraction:0width$}", width = DECIMALS as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The x87 extended format: 64 bits of significand, exponents as of `long double` on x86-64.
const EXTENDED: BinaryFormat = BinaryFormat {
    precision: 64,
    min_exponent: -16445,
    max_exponent: 16320,
};

const ZERO: Size = Size::Finite {
    significand: 0,
    exponent: EXTENDED.min_exponent,
};

/// 1.19e4932, the largest number, is below 10^4933.
const MAX_MAGNITUDE: i64 = 4933;

/// 1.82e-4951, half of the smallest denormal, is at least 10^-4951.
const MIN_MAGNITUDE: i64 = -4950;

/// Decimals printed before trailing zeros are removed.
const DECIMALS: u32 = 17;
const DECIMAL_SCALE: u128 = 10_u128.pow(DECIMALS);

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(value: &str, increment: &str) -> Result<String, FloatError> {
        add(value.as_bytes(), increment.as_bytes())
    }

    #[test]
    fn sums_carry_the_precision_of_x87() {
        for (value, increment, expected) in [
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-1.5", "1.5"),
            ("1", "1e-17", "1.00000000000000001"),
            ("1", "1e-18", "1"),
            ("9007199254740993", "0.5", "9007199254740993.5"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "3", "18446744073709551620"),
            ("1e19", "-1", "9999999999999999999"),
            ("0x1p-3", "0x1p-3", "0.25"),
        ] {
            assert_eq!(
                sum(value, increment).as_deref(),
                Ok(expected),
                "{value} + {increment}"
            );
        }
    }

    #[test]
    fn nothing_prints_as_minus_zero() {
        assert_eq!(sum("-0", "-0").as_deref(), Ok("0"));
        assert_eq!(sum("1.5", "-1.5").as_deref(), Ok("0"));
        assert_eq!(sum("-1e-30", "0").as_deref(), Ok("0"));
        assert_eq!(sum("-1e-17", "0").as_deref(), Ok("-0.00000000000000001"));
    }

    #[test]
    fn printing_rounds_half_to_even() {
        // 2^-18 ends in 5 at its 18th decimal.
        assert_eq!(sum("0x1p-18", "0").as_deref(), Ok("0.00000381469726562"));
        assert_eq!(sum("0x3p-18", "0").as_deref(), Ok("0.00001144409179688"));
    }

    #[test]
    fn a_sum_that_is_not_finite_is_an_error() {
        for (value, increment) in [("inf", "1"), ("inf", "-inf"), ("1", "Infinity")] {
            assert_eq!(sum(value, increment), Err(FloatError::NotFinite));
        }
        assert_eq!(sum("1.1e4932", "1.1e4932"), Err(FloatError::NotFinite));
    }

    #[test]
    fn what_is_out_of_range_is_not_a_float() {
        for text in [
            "",
            " 1",
            "1 ",
            "abc",
            "nan",
            "1.2e4932",
            "1.8e-4951",
            "1e-99999999999",
            "0x",
        ] {
            assert_eq!(sum("1", text), Err(FloatError::NotAFloat), "{text}");
        }
        for text in ["1.18e4932", "1.9e-4951", "0e99999999999"] {
            assert!(sum("1", text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_text_is_refused_from_its_limit_on() {
        let longest = "1".repeat(MAX_TEXT_BYTES - 1);
        assert!(LongDouble::parse(b"0".repeat(MAX_TEXT_BYTES - 1).as_slice()).is_some());
        assert!(LongDouble::parse(b"0".repeat(MAX_TEXT_BYTES).as_slice()).is_none());
        assert!(LongDouble::parse(longest.as_bytes()).is_none(), "overflows");
        let deep = format!("{longest}e-9999");
        assert!(LongDouble::parse(&deep.as_bytes()[10..]).is_some());
    }

    #[test]
    fn the_smallest_and_the_largest_survive() {
        let largest = sum("1.18973149535723176502e4932", "0").unwrap();
        assert_eq!(largest.len(), 4933);
        assert!(largest.starts_with("118973149535723176502126385303"));
        assert_eq!(sum(&largest, "0"), Ok(largest.clone()));
        assert_eq!(sum(&largest, "1"), Ok(largest.clone()));
        assert_eq!(sum(&largest, &format!("-{largest}")).as_deref(), Ok("0"));
        assert_eq!(sum("0x1p-16445", "0x1p-16445").as_deref(), Ok("0"));
        assert_eq!(sum("0x1p-16446", "0"), Err(FloatError::NotAFloat));
        assert_eq!(sum("0x1.8p-16446", "0").as_deref(), Ok("0"));
    }
}
