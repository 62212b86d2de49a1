//! The types of settings that are more than a number, a word or a text.
//!
//! Their error texts are those of Redis 7.0's `config.c`.

use std::fmt;
use std::time::Duration;

use super::kind::{Kind, ValueError};
use super::value::{Value, memory};

/// Redis's `CONFIG_BINDADDR_MAX`.
const ADDRESSES_MAX: usize = 16;

const BAD_LIMIT: &str =
    "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
const NOT_BOUND: &str = "Failed to bind to specified addresses.";
/// What Redis says of TLS settings that cannot work.
pub(super) const TLS_REFUSED: &str = "Unable to update TLS configuration. Check server logs.";

/// The TLS versions that are spoken: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    tls12: bool,
    tls13: bool,
}

impl TlsVersions {
    /// TLS 1.2 and TLS 1.3.
    pub const BOTH: Self = Self {
        tls12: true,
        tls13: true,
    };

    /// Whether TLS 1.2 is spoken.
    #[must_use]
    pub fn has_tls12(self) -> bool {
        self.tls12
    }

    /// Whether TLS 1.3 is spoken.
    #[must_use]
    pub fn has_tls13(self) -> bool {
        self.tls13
    }
}

/// The empty text stands for both, as in Redis.
impl Value for TlsVersions {
    fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
        let mut versions = Self {
            tls12: false,
            tls13: false,
        };
        for word in text.split_ascii_whitespace() {
            match word.to_ascii_lowercase().as_str() {
                "tlsv1.2" => versions.tls12 = true,
                "tlsv1.3" => versions.tls13 = true,
                _ => return Err(TLS_REFUSED.into()),
            }
        }
        *self = if versions.tls12 || versions.tls13 {
            versions
        } else {
            Self::BOTH
        };
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        match (self.tls12, self.tls13) {
            (true, false) => "TLSv1.2",
            (false, true) => "TLSv1.3",
            _ => "TLSv1.2 TLSv1.3",
        }
        .to_owned()
    }
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindAddress {
    /// An IP address, a host name, `*` (every IPv4 address) or `::*` (every IPv6 address).
    pub name: String,
    /// Whether the server starts without it where the machine does not have it. Written as a
    /// leading `-`.
    pub optional: bool,
}

impl BindAddress {
    /// An address that must be there.
    #[must_use]
    pub fn required(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            optional: false,
        }
    }

    /// An address that may be missing.
    #[must_use]
    pub fn optional(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            optional: true,
        }
    }

    /// What to give to the resolver: the name, with the wildcards as the addresses they mean.
    #[must_use]
    pub fn host(&self) -> &str {
        match self.name.as_str() {
            "*" => "0.0.0.0",
            "::*" => "::",
            name => name,
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let (name, optional) = match word.strip_prefix('-') {
            Some(name) => (name, true),
            None => (word, false),
        };
        // An interface may follow an IPv6 address: fe80::1%eth0.
        let address = name.split('%').next().unwrap_or(name);
        let is_address = address.parse::<std::net::IpAddr>().is_ok();
        let is_number = name
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_host_name = !is_number
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let is_valid = matches!(name, "*" | "::*") || is_address || is_host_name;
        is_valid.then(|| Self {
            name: name.to_owned(),
            optional,
        })
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.optional {
            f.write_str("-")?;
        }
        f.write_str(&self.name)
    }
}

impl Value for Vec<BindAddress> {
    fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.len() > ADDRESSES_MAX {
            return Err("Too many bind addresses specified.".into());
        }
        let addresses: Option<Self> = words.into_iter().map(BindAddress::parse).collect();
        *self = addresses.ok_or(NOT_BOUND)?;
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        self.iter()
            .map(BindAddress::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// How much of its replies a client of one class may leave unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimit {
    /// Past this the client is disconnected at once. Bytes; 0 is no limit.
    pub hard_bytes: u64,
    /// Past this for longer than `soft_time` it is disconnected too. Bytes; 0 is no limit.
    pub soft_bytes: u64,
    /// How long the soft limit may be passed.
    pub soft_time: Duration,
}

impl BufferLimit {
    const fn of(hard_bytes: u64, soft_bytes: u64, seconds: u64) -> Self {
        Self {
            hard_bytes,
            soft_bytes,
            soft_time: Duration::from_secs(seconds),
        }
    }

    /// Reads a hard limit, a soft limit and seconds, which Redis keeps in 31 bits.
    fn parse(words: &[&str]) -> Option<Self> {
        let &[hard, soft, seconds] = words else {
            return None;
        };
        let seconds = seconds.parse::<i32>().ok()?;
        let seconds = u64::try_from(seconds).ok()?;
        Some(Self::of(memory(hard)?, memory(soft)?, seconds))
    }
}

/// The limits of unread replies for each class of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBufferLimits {
    /// Clients that ask and are answered.
    pub normal: BufferLimit,
    /// Replicas. There are none here: kept for the tools that read and write it.
    pub replica: BufferLimit,
    /// Clients that subscribe to a channel.
    pub pubsub: BufferLimit,
}

impl Default for OutputBufferLimits {
    fn default() -> Self {
        Self {
            normal: BufferLimit::of(0, 0, 0),
            replica: BufferLimit::of(256 << 20, 64 << 20, 60),
            pubsub: BufferLimit::of(32 << 20, 8 << 20, 60),
        }
    }
}

/// Classes that the text does not name keep the limits they have.
impl Value for OutputBufferLimits {
    fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        let mut limits = *self;
        for group in words.chunks_exact(4) {
            let class = match group[0].to_ascii_lowercase().as_str() {
                "normal" => &mut limits.normal,
                "slave" | "replica" => &mut limits.replica,
                "pubsub" => &mut limits.pubsub,
                _ => {
                    let text = "Invalid client class specified in buffer limit configuration.";
                    return Err(text.into());
                }
            };
            *class = BufferLimit::parse(&group[1..]).ok_or(BAD_LIMIT)?;
        }
        *self = limits;
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        let one = |class: &str, limit: BufferLimit| {
            let seconds = limit.soft_time.as_secs();
            format!(
                "{class} {} {} {seconds}",
                limit.hard_bytes, limit.soft_bytes
            )
        };
        // "slave", as Redis prints it: tools look for the word.
        let (normal, replica) = (one("normal", self.normal), one("slave", self.replica));
        format!("{normal} {replica} {}", one("pubsub", self.pubsub))
    }
}

/// How often a second background work is done: at least once, at most 500 times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hertz(u32);

impl Hertz {
    /// Redis's default.
    pub const DEFAULT: Self = Self(10);
    const MIN: u32 = 1;
    const MAX: u32 = 500;

    /// Turns a second.
    #[must_use]
    pub fn per_second(self) -> u32 {
        self.0
    }

    /// The time between two turns.
    #[must_use]
    pub fn period(self) -> Duration {
        Duration::from_secs(1) / self.0
    }
}

/// Any number is taken and brought into bounds, as Redis does.
impl Value for Hertz {
    fn assign(&mut self, text: &str, kind: Kind) -> Result<(), ValueError> {
        let mut times = 0_u32;
        times.assign(text, kind)?;
        self.0 = times.clamp(Self::MIN, Self::MAX);
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        self.0.to_string()
    }
}

/// A part of all, from none (0) to all of it (1).
impl Value for f64 {
    fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
        let share = text.parse().ok();
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        *self = share.ok_or("argument must be between 0 and 1 inclusive")?;
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        self.to_string()
    }
}

/// Percentages of the latency distributions that INFO shows.
impl Value for Vec<f64> {
    fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
        let mut percentiles = Self::new();
        for word in text.split_ascii_whitespace() {
            let percentile: f64 = word
                .parse()
                .ok()
                .filter(|number: &f64| !number.is_nan())
                .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&percentile) {
                let text = "latency-tracking-info-percentiles parameters should sit between \
                            [0.0,100.0]";
                return Err(text.into());
            }
            percentiles.push(percentile);
        }
        *self = percentiles;
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        let one = |percentile: &f64| {
            let text = format!("{percentile:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        self.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The printed form of a text, or the error.
    fn read<V: Value>(mut value: V, kind: Kind, text: &str) -> Result<String, String> {
        value
            .assign(text, kind)
            .map_err(|error| error.to_string())?;
        Ok(value.print(kind))
    }

    #[test]
    fn addresses_may_be_wildcards_optional_and_host_names() {
        let bind = |text: &str| read(Vec::<BindAddress>::new(), Kind::Addresses, text);
        for text in [
            "",
            "* -::*",
            "127.0.0.1 -::1",
            "fe80::1%eth0",
            "cache-1.example.org",
        ] {
            assert_eq!(bind(text), Ok(text.to_owned()));
        }
        for text in [
            "-",
            "127.0.0.1:6379",
            "1.2.3",
            "300.0.0.1",
            "a,b",
            "--::1",
            "x/y",
        ] {
            assert_eq!(bind(text), Err(NOT_BOUND.to_owned()), "{text}");
        }
        assert_eq!(BindAddress::required("*").host(), "0.0.0.0");
        assert_eq!(BindAddress::optional("::*").host(), "::");
        assert_eq!(BindAddress::optional("::1").host(), "::1");
    }

    #[test]
    fn addresses_are_at_most_16() {
        let bind = |count| {
            read(
                Vec::<BindAddress>::new(),
                Kind::Addresses,
                "::1 ".repeat(count).trim(),
            )
        };
        assert!(bind(ADDRESSES_MAX).is_ok());
        assert_eq!(
            bind(ADDRESSES_MAX + 1),
            Err("Too many bind addresses specified.".to_owned())
        );
    }

    #[test]
    fn buffer_limits_change_only_the_classes_that_are_named() {
        let set = |text: &str| read(OutputBufferLimits::default(), Kind::BufferLimits, text);
        assert_eq!(
            set("replica 1kb 2mb 3"),
            Ok("normal 0 0 0 slave 1024 2097152 3 pubsub 33554432 8388608 60".to_owned())
        );
        let error = |text| set(text).unwrap_err();
        let bad = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
        let class = "Invalid client class specified in buffer limit configuration.";
        assert_eq!(
            error("wrong number"),
            "Wrong number of arguments in buffer limit configuration."
        );
        assert_eq!(error("invalid_class 10mb 10mb 60"), class);
        assert_eq!(error("master 10mb 10mb 60"), class);
        assert_eq!(error("normal 10mbs 10mb 60"), bad);
        assert_eq!(error("replica 10mb 10mbs 60"), bad);
        assert_eq!(error("pubsub 10mb 10mb 60s"), bad);
        assert_eq!(error("pubsub 10mb 10mb -1"), bad);
        assert_eq!(error("pubsub 10mb 10mb 2147483648"), bad);
    }

    #[test]
    fn percentiles_print_as_redis_prints_them() {
        let set = |text: &str| read(0.0, Kind::Share, text);
        assert_eq!(set("0.001").unwrap(), "0.001");
        assert_eq!(set("1").unwrap(), "1");
        for text in ["", "-0.1", "1.1", "nan", "inf", "x"] {
            assert!(set(text).is_err(), "{text}");
        }
        let set = |text: &str| read(Vec::<f64>::new(), Kind::Percentiles, text);
        assert_eq!(
            set("0.0 50.0 1e1 2.50 99.9999999"),
            Ok("0 50 10 2.5 100".to_owned())
        );
        assert_eq!(set(""), Ok(String::new()));
        for (text, error) in [
            (
                "10.0 a",
                "Invalid latency-tracking-info-percentiles parameters",
            ),
            (
                "nan",
                "Invalid latency-tracking-info-percentiles parameters",
            ),
            (
                "100.1",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
            (
                "-1",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
        ] {
            assert_eq!(set(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn hertz_are_brought_into_bounds() {
        let kind = Kind::Integer {
            min: 0,
            max: 1 << 31,
            unit: super::super::Unit::None,
        };
        for (text, hertz) in [("0", "1"), ("10", "10"), ("500", "500"), ("501", "500")] {
            assert_eq!(read(Hertz::DEFAULT, kind, text), Ok(hertz.to_owned()));
        }
        assert_eq!(Hertz::DEFAULT.period(), Duration::from_millis(100));
    }

    #[test]
    fn tls_versions_below_1_2_are_refused_and_none_is_both() {
        let set = |text: &str| read(TlsVersions::BOTH, Kind::TlsVersions, text);
        assert_eq!(set("tlsv1.3"), Ok("TLSv1.3".to_owned()));
        assert_eq!(set("TLSv1.2"), Ok("TLSv1.2".to_owned()));
        assert_eq!(set(""), Ok("TLSv1.2 TLSv1.3".to_owned()));
        assert_eq!(set("TLSv1.1 TLSv1.2"), Err(TLS_REFUSED.to_owned()));
    }
}
