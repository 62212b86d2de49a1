//! How values are read and printed.
//!
//! Reading follows redis.conf to the letter where clients can see it: `1k` is 1000 and `1kb` is
//! 1024, an integer has no leading zeros or plus sign, `yes` and `no` come in any case. The error
//! texts are those of Redis 7.0's `config.c`.

use std::path::PathBuf;
use std::time::Duration;

use super::kind::{Kind, Unit, ValueError};

/// A type a setting can have.
pub(super) trait Value {
    /// Takes the value `text` stands for. On an error `self` is as it was.
    fn assign(&mut self, text: &str, kind: Kind) -> Result<(), ValueError>;

    /// The canonical text, which `assign` reads back to the same value.
    fn print(&self, kind: Kind) -> String;
}

const NOT_AN_INTEGER: &str = "argument couldn't be parsed into an integer";
const NOT_MEMORY: &str = "argument must be a memory value";
const NOT_MEMORY_OR_PERCENT: &str = "argument must be a memory or percent value";
const NOT_OCTAL: &str = "argument couldn't be parsed as an octal number";
const NOT_YES_NO: &str = "argument must be 'yes' or 'no'";

impl Kind {
    /// Reads a number of a numeric kind and checks its bounds.
    fn number(self, text: &str) -> Result<i128, ValueError> {
        let (number, min, max) = match self {
            Self::Integer { min, max, unit: _ } => {
                let number = integer(text).ok_or(NOT_AN_INTEGER)?;
                (i128::from(number), i128::from(min), i128::from(max))
            }
            Self::Memory { min, max } => {
                let bytes = memory(text).ok_or(NOT_MEMORY)?;
                (i128::from(bytes), i128::from(min), i128::from(max))
            }
            Self::Octal { max } => {
                let bits = i64::from_str_radix(text, 8).map_err(|_| NOT_OCTAL)?;
                if !(0..=i64::from(max)).contains(&bits) {
                    let text = format!("argument must be between 0 and {max:o} inclusive");
                    return Err(text.into());
                }
                return Ok(i128::from(bits));
            }
            Self::YesNo
            | Self::MemoryOrPercent
            | Self::Choice(_)
            | Self::Text
            | Self::Path
            | Self::Addresses
            | Self::BufferLimits
            | Self::Share
            | Self::Percentiles
            | Self::TlsVersions
            | Self::CipherSuites(_)
            | Self::SavePoints
            | Self::EventClasses => return Err(NOT_AN_INTEGER.into()),
        };
        if !(min..=max).contains(&number) {
            return Err(format!("argument must be between {min} and {max} inclusive").into());
        }
        Ok(number)
    }

    /// The canonical form of a text of this kind, for settings that have no field of their own.
    pub(super) fn canonical(self, text: &str) -> Result<String, ValueError> {
        match self {
            Self::YesNo => {
                let mut value = false;
                value.assign(text, self)?;
                Ok(value.print(self))
            }
            Self::Integer { .. } | Self::Memory { .. } | Self::Octal { .. } => {
                let number = self.number(text)?;
                Ok(print_number(number, self))
            }
            Self::MemoryOrPercent => memory_or_percent(text),
            Self::Choice(words) => Ok(find_word(text, words)?.to_owned()),
            Self::SavePoints => save_points(text),
            Self::EventClasses => event_classes(text),
            Self::Text
            | Self::Path
            | Self::Addresses
            | Self::BufferLimits
            | Self::Share
            | Self::Percentiles
            | Self::TlsVersions
            | Self::CipherSuites(_) => Ok(text.to_owned()),
        }
    }
}

/// Redis's `string2ll`: decimal digits and perhaps a minus sign, nothing else.
fn integer(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Redis's `memtoull`, with two of its accidents left out: a text without digits is no number here
/// (there it is 0), and what does not fit saturates (there it may wrap).
pub(super) fn memory(text: &str) -> Option<u64> {
    const DIGITS_MAX: usize = 127; // Redis's buffer
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits > DIGITS_MAX {
        return None;
    }
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1000 * 1000,
        "mb" => 1 << 20,
        "g" => 1000 * 1000 * 1000,
        "gb" => 1 << 30,
        _ => return None,
    };
    // All digits, so that it can only fail by being too large.
    let number: u64 = number.parse().unwrap_or(u64::MAX);
    Some(number.saturating_mul(factor))
}

fn memory_or_percent(text: &str) -> Result<String, ValueError> {
    if let Some(bytes) = memory(text) {
        return Ok(bytes.to_string());
    }
    match text.strip_suffix('%').and_then(integer) {
        Some(percent @ 0..=100) => Ok(format!("{percent}%")),
        Some(101..) => Err("percentage argument must be less or equal to 100".into()),
        Some(_) | None => Err(NOT_MEMORY_OR_PERCENT.into()),
    }
}

/// Bytes as redis.conf would say them: in the largest unit that divides them.
pub(super) fn print_memory(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

fn save_points(text: &str) -> Result<String, ValueError> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let are_valid = words.len().is_multiple_of(2)
        && words.chunks_exact(2).all(|pair| {
            let number = |word: &str| word.parse::<i64>().ok();
            number(pair[0]) >= Some(1) && number(pair[1]) >= Some(0)
        });
    if !are_valid {
        return Err("Invalid save parameters".into());
    }
    Ok(words.join(" "))
}

fn event_classes(text: &str) -> Result<String, ValueError> {
    if text.chars().all(|class| "Ag$lshzxeKEtmdn".contains(class)) {
        Ok(text.to_owned())
    } else {
        Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into())
    }
}

/// The word of the list that `text` is, in any case.
pub(super) fn find_word(
    text: &str,
    words: &'static [&'static str],
) -> Result<&'static str, ValueError> {
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| {
        format!(
            "argument(s) must be one of the following: {}",
            words.join(", ")
        )
        .into()
    })
}

fn print_number(number: i128, kind: Kind) -> String {
    if matches!(kind, Kind::Octal { .. }) {
        format!("{number:o}")
    } else {
        number.to_string()
    }
}

fn unit_of(kind: Kind) -> Unit {
    if let Kind::Integer { unit, .. } = kind {
        unit
    } else {
        Unit::None
    }
}

impl Value for bool {
    fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
        *self = match text.to_ascii_lowercase().as_str() {
            "yes" => true,
            "no" => false,
            _ => return Err(NOT_YES_NO.into()),
        };
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn assign(&mut self, text: &str, kind: Kind) -> Result<(), ValueError> {
                // A row's bounds fit its field's type: a test reads every bound back.
                *self = Self::try_from(kind.number(text)?).map_err(|_| NOT_AN_INTEGER)?;
                Ok(())
            }

            fn print(&self, kind: Kind) -> String {
                // No field's type is wider than 64 bits.
                i128::try_from(*self).map_or_else(|_| self.to_string(), |n| print_number(n, kind))
            }
        }
    )+};
}

numbers!(u16, u32, u64, usize, i32);

impl Value for Duration {
    fn assign(&mut self, text: &str, kind: Kind) -> Result<(), ValueError> {
        let number = u64::try_from(kind.number(text)?).map_err(|_| NOT_AN_INTEGER)?;
        *self = match unit_of(kind) {
            Unit::Seconds | Unit::None => Self::from_secs(number),
            Unit::Milliseconds => Self::from_millis(number),
            Unit::Microseconds => Self::from_micros(number),
        };
        Ok(())
    }

    fn print(&self, kind: Kind) -> String {
        match unit_of(kind) {
            Unit::Seconds | Unit::None => self.as_secs().to_string(),
            Unit::Milliseconds => self.as_millis().to_string(),
            Unit::Microseconds => self.as_micros().to_string(),
        }
    }
}

/// A duration that -1 turns off.
impl Value for Option<Duration> {
    fn assign(&mut self, text: &str, kind: Kind) -> Result<(), ValueError> {
        if kind.number(text)? < 0 {
            *self = None;
            return Ok(());
        }
        let mut duration = Duration::ZERO;
        duration.assign(text, kind)?;
        *self = Some(duration);
        Ok(())
    }

    fn print(&self, kind: Kind) -> String {
        self.map_or_else(|| "-1".to_owned(), |duration| duration.print(kind))
    }
}

impl Value for String {
    fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
        text.clone_into(self);
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        self.clone()
    }
}

/// The empty path is none.
impl Value for Option<PathBuf> {
    fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
        *self = (!text.is_empty()).then(|| PathBuf::from(text));
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        self.as_deref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_read_as_redis_conf_has_it() {
        let cases = [
            ("0", 0),
            ("100", 100),
            ("1b", 1),
            ("1k", 1000),
            ("1kb", 1024),
            ("1M", 1_000_000),
            ("1Mb", 1 << 20),
            ("2g", 2_000_000_000),
            ("2GB", 2 << 30),
            ("007", 7),
            ("18446744073709551615", u64::MAX),
            ("99999999999999999999", u64::MAX),
            ("18446744073709551615gb", u64::MAX),
        ];
        for (text, bytes) in cases {
            assert_eq!(memory(text), Some(bytes), "{text}");
        }
        for text in [
            "", "kb", "-1", "+1", " 1", "1 kb", "1kib", "1tb", "1.5gb", "0x10", "1%",
        ] {
            assert_eq!(memory(text), None, "{text}");
        }
        assert_eq!(memory(&"9".repeat(127)), Some(u64::MAX));
        assert_eq!(memory(&"9".repeat(128)), None);
    }

    #[test]
    fn a_percentage_of_memory_is_at_most_100() {
        assert_eq!(memory_or_percent("100%").unwrap(), "100%");
        assert_eq!(memory_or_percent("1kb").unwrap(), "1024");
        for text in ["101%", "-1%", "%", "x"] {
            assert!(memory_or_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn octal_is_bounded_in_octal() {
        let kind = Kind::Octal { max: 0o777 };
        let mut bits = 0_u32;
        bits.assign("0755", kind).unwrap();
        assert_eq!((bits, bits.print(kind).as_str()), (0o755, "755"));
        assert_eq!(bits.assign("888", kind).unwrap_err().to_string(), NOT_OCTAL);
        let error = bits.assign("1000", kind).unwrap_err().to_string();
        assert_eq!(error, "argument must be between 0 and 777 inclusive");
    }

    #[test]
    fn save_points_are_pairs() {
        assert_eq!(save_points("900 1  60 0").unwrap(), "900 1 60 0");
        assert_eq!(save_points("").unwrap(), "");
        for text in ["900", "0 1", "1 -1", "a b"] {
            assert!(save_points(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn memory_reads_back_what_it_prints(bytes: u64) {
            prop_assert_eq!(memory(&print_memory(bytes)), Some(bytes));
            prop_assert_eq!(memory(&bytes.to_string()), Some(bytes));
        }

        #[test]
        fn integers_read_back_what_they_print(number: i64) {
            prop_assert_eq!(integer(&number.to_string()), Some(number));
        }

        #[test]
        fn no_text_makes_a_value_panic(text in ".*") {
            for setting in super::super::settings() {
                let mut config = super::super::Config::default();
                if setting.assign(&mut config, &text).is_ok() {
                    let printed = setting.value(&config);
                    let mut again = super::super::Config::default();
                    prop_assert!(setting.assign(&mut again, &printed).is_ok());
                    prop_assert_eq!(setting.value(&again), printed);
                }
            }
        }
    }
}
