//! Numbers as Redis reads and prints them.
//!
//! Clients store numbers as text and expect the text back unchanged, so the rules are strict where
//! Redis's are (integers have one spelling) and lax where C's `strtod` is (floats have many:
//! `1e3`, `.5`, `0x1p-2`, `Infinity`). Nothing here allocates by a length a client announced, and
//! every function is linear in its input.

use std::num::FpCategory;

/// Reads a signed integer in its one canonical spelling, as Redis's `string2ll` does.
///
/// No spaces, no `+`, no leading zeros, no `-0`: what is accepted prints back to the same bytes.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => match parse_unsigned(digits)? {
            0 => None,
            magnitude => 0_i64.checked_sub_unsigned(magnitude),
        },
        digits => i64::try_from(parse_unsigned(digits)?).ok(),
    }
}

/// Reads an unsigned integer in its one canonical spelling; see [`parse_integer`].
pub fn parse_unsigned(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    text.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Reads a double as Redis's `getDoubleFromObject` does: all that `strtod` takes, except NaN,
/// surrounding space, trailing bytes, and finite numbers that overflow or vanish.
///
/// Infinity by name is accepted; a denormal is accepted.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let scanned = scan_float(text)?;
    let magnitude = match scanned.magnitude {
        Magnitude::Infinity => f64::INFINITY,
        Magnitude::Decimal(digits) => {
            let parsed: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            accept_unless_lost(parsed.abs(), &digits)?
        }
        Magnitude::Hexadecimal(digits) => {
            let (significand, is_inexact, exponent) = digits.hexadecimal_value();
            let rounded = round_binary(significand, is_inexact, exponent, &DOUBLE)?;
            accept_unless_lost(double_from_parts(rounded), &digits)?
        }
    };
    Some(if scanned.is_negative {
        -magnitude
    } else {
        magnitude
    })
}

/// Prints a double as Redis 7.0 does in replies: C's `%.17g`, and `inf`, `-inf`, `nan`.
pub fn format_double(value: f64) -> String {
    match value.classify() {
        FpCategory::Nan => "nan".to_owned(),
        FpCategory::Infinite if value > 0.0 => "inf".to_owned(),
        FpCategory::Infinite => "-inf".to_owned(),
        FpCategory::Zero if value.is_sign_negative() => "-0".to_owned(),
        FpCategory::Zero => "0".to_owned(),
        FpCategory::Normal | FpCategory::Subnormal => format_general(value),
    }
}

/// `%.17g` of a finite number other than zero.
fn format_general(value: f64) -> String {
    // One digit, a point, sixteen digits, `e`, the exponent: the correctly rounded decimal.
    let scientific = format!("{:.*e}", SIGNIFICANT_DIGITS - 1, value.abs());
    let (digits, exponent) = scientific
        .split_once('e')
        .expect("the format just asked for has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a small integer");
    let digits: String = digits
        .chars()
        .filter(|&character| character != '.')
        .collect();
    let digits = digits.trim_end_matches('0');

    let sign = if value < 0.0 { "-" } else { "" };
    let point = usize::try_from(exponent).map_or(0, |exponent| exponent + 1);
    match exponent {
        -4..=-1 => {
            let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
            format!("{sign}0.{zeros}{digits}")
        }
        0..=16 if digits.len() <= point => format!("{sign}{digits:0<point$}"),
        0..=16 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let exponent_sign = if exponent < 0 { '-' } else { '+' };
            let exponent = exponent.unsigned_abs();
            format!("{sign}{first}{point}{rest}e{exponent_sign}{exponent:02}")
        }
    }
}

/// A floating-point number's text, taken apart and not yet rounded to any format.
pub(super) struct Scanned<'a> {
    /// Whether a minus sign led it.
    pub(super) is_negative: bool,
    /// What followed the sign.
    pub(super) magnitude: Magnitude<'a>,
}

/// The number without its sign.
pub(super) enum Magnitude<'a> {
    /// `inf` or `infinity`, in any case.
    Infinity,
    /// Decimal digits; the exponent counts powers of ten.
    Decimal(Digits<'a>),
    /// Hexadecimal digits after `0x`; the exponent counts powers of two.
    Hexadecimal(Digits<'a>),
}

/// Digits around an optional point, at least one in all, and an exponent.
pub(super) struct Digits<'a> {
    /// Before the point.
    pub(super) whole: &'a [u8],
    /// Behind the point.
    pub(super) fraction: &'a [u8],
    /// Saturated at ±[`EXPONENT_BOUND`].
    pub(super) exponent: i64,
}

impl Digits<'_> {
    /// Whether the number is zero as written, whatever its exponent.
    pub(super) fn are_all_zero(&self) -> bool {
        self.whole
            .iter()
            .chain(self.fraction)
            .all(|&digit| digit == b'0')
    }

    /// The hexadecimal value as `significand * 2^exponent`, and whether non-zero bits beyond the
    /// significand were dropped. The significand has at least 120 bits if any were.
    pub(super) fn hexadecimal_value(&self) -> (u128, bool, i64) {
        let mut significand = 0_u128;
        let mut is_inexact = false;
        let mut exponent = self.exponent;
        let fraction = self.fraction.iter().map(|&digit| (digit, -4));
        for (digit, step) in self.whole.iter().map(|&digit| (digit, 0)).chain(fraction) {
            let digit = u128::from((digit as char).to_digit(16).unwrap_or(0));
            if significand >> 120 == 0 {
                significand = significand << 4 | digit;
                exponent += step;
            } else {
                is_inexact |= digit != 0;
                exponent += 4 + step;
            }
        }
        (significand, is_inexact, exponent)
    }
}

/// Takes a float's text apart by the grammar of C's `strtod`, without leading space and NaN.
pub(super) fn scan_float(text: &[u8]) -> Option<Scanned<'_>> {
    let (is_negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let is_infinity =
        unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity");
    let magnitude = match unsigned {
        _ if is_infinity => Magnitude::Infinity,
        [b'0', b'x' | b'X', hexadecimal @ ..] => {
            Magnitude::Hexadecimal(scan_digits(hexadecimal, u8::is_ascii_hexdigit, b'p')?)
        }
        decimal => Magnitude::Decimal(scan_digits(decimal, u8::is_ascii_digit, b'e')?),
    };
    Some(Scanned {
        is_negative,
        magnitude,
    })
}

fn scan_digits(text: &[u8], is_digit: fn(&u8) -> bool, marker: u8) -> Option<Digits<'_>> {
    let (whole, rest) = split_digits(text, is_digit);
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => split_digits(rest, is_digit),
        rest => (&[][..], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [byte, exponent @ ..] if byte.to_ascii_lowercase() == marker => scan_exponent(exponent)?,
        _ => return None,
    };
    Some(Digits {
        whole,
        fraction,
        exponent,
    })
}

fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0_i64, |value, &byte| {
        (value * 10 + i64::from(byte - b'0')).min(EXPONENT_BOUND)
    });
    Some(sign * magnitude)
}

fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !is_digit(byte))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A binary floating-point format: numbers are `significand * 2^exponent`.
pub(super) struct BinaryFormat {
    /// Bits of the significand, at most 64.
    pub(super) precision: u32,
    /// The exponent of the smallest denormal.
    pub(super) min_exponent: i64,
    /// The exponent of the largest finite number.
    pub(super) max_exponent: i64,
}

/// Rounds `significand * 2^exponent` to the nearest number of a format, ties to even.
///
/// `is_inexact` says that the true value is a little above (by less than one unit of the
/// significand), which must then be at least two bits wider than the format's precision.
/// The significand has at most 127 bits. None: too large for the format.
pub(super) fn round_binary(
    significand: u128,
    is_inexact: bool,
    exponent: i64,
    format: &BinaryFormat,
) -> Option<(u64, i64)> {
    if significand == 0 {
        return Some((0, format.min_exponent));
    }
    let width = u128::BITS - significand.leading_zeros();
    debug_assert!(width < u128::BITS);
    debug_assert!(!is_inexact || width >= format.precision + 2);
    let normal = exponent + i64::from(width) - i64::from(format.precision);
    let mut target = normal.max(format.min_exponent);
    let mut kept = match u32::try_from(target - exponent) {
        Ok(0) => significand,
        Ok(drop) if drop <= width => {
            let kept = significand >> drop;
            let half = 1_u128 << (drop - 1);
            let dropped = significand & ((half << 1) - 1);
            let is_above_half = dropped > half || (dropped == half && is_inexact);
            let is_tie = dropped == half && !is_inexact;
            kept + u128::from(is_above_half || (is_tie && kept & 1 == 1))
        }
        // Less than half of the smallest denormal.
        Ok(_) => 0,
        // Narrower than the format: the bits below are zeros.
        Err(_) if target < exponent => significand << (exponent - target),
        Err(_) => 0,
    };
    if kept >> format.precision != 0 {
        kept >>= 1;
        target += 1;
    }
    if target > format.max_exponent {
        return None;
    }
    Some((
        u64::try_from(kept).expect("a precision of at most 64 bits"),
        target,
    ))
}

/// Puts together what [`round_binary`] gave for [`DOUBLE`].
fn double_from_parts((significand, exponent): (u64, i64)) -> f64 {
    const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    const FRACTION: u64 = (1 << FRACTION_BITS) - 1;
    if significand <= FRACTION {
        return f64::from_bits(significand); // zero or denormal: the exponent field is zero
    }
    let field = (exponent - DOUBLE.min_exponent + 1).unsigned_abs();
    f64::from_bits(field << FRACTION_BITS | (significand & FRACTION))
}

/// Refuses what `strtod` reports as out of range: infinity from digits, zero from others than 0.
fn accept_unless_lost(magnitude: f64, digits: &Digits<'_>) -> Option<f64> {
    let is_lost = magnitude.is_infinite() || (magnitude == 0.0 && !digits.are_all_zero());
    (!is_lost).then_some(magnitude)
}

/// IEEE 754 double precision.
const DOUBLE: BinaryFormat = BinaryFormat {
    precision: 53,
    min_exponent: -1074,
    max_exponent: 971,
};

/// As many digits as tell any two doubles apart.
const SIGNIFICANT_DIGITS: usize = 17;

/// Larger than any exponent that matters, small enough that digit counts add to it safely.
const EXPONENT_BOUND: i64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_spelling() {
        assert_eq!(parse_integer(b"0"), Some(0));
        assert_eq!(parse_integer(b"-1"), Some(-1));
        assert_eq!(parse_integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        let refused: [&[u8]; 12] = [
            b"", b"-", b"-0", b"+1", b"01", b"00", b" 1", b"1 ", b"1.0", b"1\0", b"--1", b"0x1",
        ];
        for text in refused {
            assert_eq!(parse_integer(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn an_integer_past_its_type_is_refused() {
        assert_eq!(parse_integer(b"9223372036854775808"), None);
        assert_eq!(parse_integer(b"-9223372036854775809"), None);
        assert_eq!(parse_integer(b"99999999999999999999999999"), None);
        assert_eq!(parse_unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_unsigned(b"18446744073709551616"), None);
        assert_eq!(parse_unsigned(b"-1"), None);
    }

    #[test]
    fn floats_have_the_spellings_of_strtod() {
        let accepted: [(&[u8], f64); 14] = [
            (b"3.0", 3.0),
            (b"1.", 1.0),
            (b".5", 0.5),
            (b"+1e3", 1000.0),
            (b"-1E-2", -0.01),
            (b"007", 7.0),
            (b"inf", f64::INFINITY),
            (b"-Infinity", f64::NEG_INFINITY),
            (b"0x1.8p1", 3.0),
            (b"-0X.8", -0.5),
            (b"0x10", 16.0),
            (b"0e99999999999999999999", 0.0),
            (b"5e-324", 5e-324),
            (b"0x1p-1074", 5e-324),
        ];
        for (text, value) in accepted {
            assert_eq!(parse_float(text), Some(value), "{}", text.escape_ascii());
        }
        assert!(parse_float(b"-0").is_some_and(f64::is_sign_negative));
    }

    #[test]
    fn what_strtod_leaves_over_or_loses_is_refused() {
        let refused: [&[u8]; 21] = [
            b"",
            b"+",
            b".",
            b"e5",
            b" 1",
            b"1 ",
            b"1e",
            b"1e+",
            b"1\0",
            b"0x",
            b"0x.",
            b"0x1p",
            b"0xg",
            b"nan",
            b"-nan",
            b"infinit",
            b"1e400",
            b"1e-400",
            b"0x1p1024",
            b"0x1p-1075",
            b"1_0",
        ];
        for text in refused {
            assert_eq!(parse_float(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn hexadecimal_floats_round_to_even() {
        assert_eq!(parse_float(b"0x1.00000000000008p0"), Some(1.0));
        assert_eq!(
            parse_float(b"0x1.000000000000080000000000000000000000000000001p0"),
            { Some(1.0 + f64::EPSILON) }
        );
        assert_eq!(
            parse_float(b"0x1.00000000000018p0"),
            Some(1.0 + 2.0 * f64::EPSILON)
        );
        assert_eq!(parse_float(b"0x1.fffffffffffff8p1023"), None);
        assert_eq!(parse_float(b"0x1.fffffffffffff7p1023"), Some(f64::MAX));
        assert_eq!(
            parse_float(b"0x0.00000000000000000000000000000000000001p152"),
            Some(1.0)
        );
        assert_eq!(parse_float(b"0x1.8p-1075"), Some(5e-324));
    }

    #[test]
    fn doubles_print_as_seventeen_significant_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.10000000000000001"),
            (100.0, "100"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1_125_899_906_842_624.0 + 0.25, "1125899906842624.2"),
            (1_125_899_906_842_624.0 + 0.75, "1125899906842624.8"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(format_double(value), text);
        }
    }
}
