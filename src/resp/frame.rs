//! Finds the end of one reply in a stream of bytes, without understanding it.
//!
//! What an upstream sends is passed on as it came; all that must be known is where one reply ends
//! and the next begins, so that replies can be counted. A reply may be a tree of any depth and
//! size, yet its end needs only two numbers: how many elements are still to come, whatever their
//! depth, and how many bytes of the present one. Hence no recursion, no stack, no buffer: the
//! scanner may be shown the bytes in any pieces, looks at each header byte once and at the bytes
//! of a bulk not at all. A reply of gigabytes passes through it as a stream.
//!
//! Both dialects are read alike, since no type byte means two things. The streamed types of RESP3
//! (`$?`, `*?` …), which no Redis sends, are refused.

use std::fmt;

/// What a finished frame was, as far as counting replies needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer to a request.
    Reply,
    /// The answer to a request, and an error: `-` or `!`.
    Error,
    /// `>`: sent without being asked for; answers nothing.
    Push,
}

/// What [`FrameScanner::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// How many of the bytes shown belong to the present frame. All of them, unless it ended.
    pub len: usize,
    /// Set when the frame ended behind those bytes. The next one begins there.
    pub ended: Option<Kind>,
}

/// Why bytes are no reply. The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A frame or an element begins with a byte that is no type of RESP2 or RESP3.
    UnknownType {
        /// The byte found there.
        found: u8,
    },
    /// A length that is no decimal number, or negative where there is no null.
    InvalidLength,
    /// A streamed aggregate or string (`*?`, `$?`).
    Streamed,
    /// A length of more digits than [`LENGTH_DIGITS_MAX`].
    LengthTooLong,
    /// More elements, or a longer one, than can be counted.
    TooBig,
    /// Something else than a line end behind a length or a bulk.
    MissingLineEnd,
}

impl fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::UnknownType { found } => {
                return write!(formatter, "a reply begins with '{}'", found.escape_ascii());
            }
            Self::InvalidLength => "a length in a reply is no number",
            Self::Streamed => "a reply is of a streamed type",
            Self::LengthTooLong => "a length in a reply has too many digits",
            Self::TooBig => "a reply announces more than can be counted",
            Self::MissingLineEnd => "a line end is missing in a reply",
        })
    }
}

impl std::error::Error for FrameError {}

/// Digits of a length, a minus sign included: as many as an `i64` has.
pub const LENGTH_DIGITS_MAX: u8 = 20;

/// The resumable scanner of one stream of replies.
#[derive(Clone, Debug, Default)]
pub struct FrameScanner {
    state: State,
    /// Elements the present frame still lacks, at all depths together; 0 between frames.
    missing: u64,
    /// What the present frame is, once its type byte was seen: attributes may precede it.
    kind: Option<Kind>,
}

/// Where in an element the next byte stands.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// At a type byte.
    #[default]
    Type,
    /// In the digits of a length.
    Length(Length),
    /// Behind the `\r` of a length.
    LengthEnd(Length),
    /// In a line that is an element itself; `true` behind a `\r`.
    Line(bool),
    /// In a bulk of which so many bytes are to come.
    Bulk(u64),
    /// Behind a bulk.
    BulkEnd,
    /// Behind the `\r` that is behind a bulk.
    BulkLineEnd,
}

/// A length under way.
#[derive(Clone, Copy, Debug)]
struct Length {
    of: Counted,
    digits: u8,
    negative: bool,
    value: u64,
}

/// What a length counts.
#[derive(Clone, Copy, Debug)]
enum Counted {
    /// Bytes: `$`, `=`, `!`.
    Bytes,
    /// Elements: `*`, `~`, `>`.
    Elements,
    /// Two elements each: `%`.
    Pairs,
    /// The same, in front of a reply: `|`.
    Attributes,
}

impl FrameScanner {
    /// A scanner at the beginning of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a frame has begun and not ended.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.missing > 0
    }

    /// Follows the present frame through `bytes`, which continue those of the last call. Stops
    /// where the frame ends: what is behind it is to be shown again.
    ///
    /// # Errors
    /// When the bytes are no reply. The scanner is of no use from then on.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scan, FrameError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::Type => {
                    self.begin(byte)?;
                    at += 1;
                }
                State::Length(length) => {
                    self.state = length.with(byte)?;
                    at += 1;
                }
                State::LengthEnd(length) => {
                    line_end(byte, b'\n')?;
                    self.counted(length)?;
                    at += 1;
                }
                State::Line(_) => at += self.line(&bytes[at..]),
                State::Bulk(left) => {
                    let here = u64::try_from(bytes.len() - at)
                        .unwrap_or(u64::MAX)
                        .min(left);
                    at += usize::try_from(here).unwrap_or(usize::MAX);
                    self.state = match left - here {
                        0 => State::BulkEnd,
                        left => State::Bulk(left),
                    };
                }
                State::BulkEnd => {
                    line_end(byte, b'\r')?;
                    self.state = State::BulkLineEnd;
                    at += 1;
                }
                State::BulkLineEnd => {
                    line_end(byte, b'\n')?;
                    self.element();
                    at += 1;
                }
            }
            if self.missing == 0 {
                let ended = Some(self.kind.take().unwrap_or(Kind::Reply));
                return Ok(Scan { len: at, ended });
            }
        }
        Ok(Scan {
            len: at,
            ended: None,
        })
    }

    /// A type byte.
    fn begin(&mut self, byte: u8) -> Result<(), FrameError> {
        self.state = match byte {
            b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => State::Line(false),
            b'$' | b'=' | b'!' => Length::of(Counted::Bytes),
            b'*' | b'~' | b'>' => Length::of(Counted::Elements),
            b'%' => Length::of(Counted::Pairs),
            b'|' => Length::of(Counted::Attributes),
            found => return Err(FrameError::UnknownType { found }),
        };
        self.missing = self.missing.max(1);
        // With one element missing and the kind open, this is the reply's own type byte: all
        // that an attribute holds is counted on top of the reply it precedes.
        if self.missing == 1 && self.kind.is_none() {
            self.kind = match byte {
                b'|' => None,
                b'>' => Some(Kind::Push),
                b'-' | b'!' => Some(Kind::Error),
                _ => Some(Kind::Reply),
            };
        }
        Ok(())
    }

    /// A complete length.
    fn counted(&mut self, length: Length) -> Result<(), FrameError> {
        let value = length.value;
        let more = match length.of {
            Counted::Bytes if !length.negative => {
                self.state = if value == 0 {
                    State::BulkEnd
                } else {
                    State::Bulk(value)
                };
                return Ok(());
            }
            Counted::Bytes => 0,
            Counted::Elements => value,
            Counted::Pairs | Counted::Attributes => {
                value.checked_mul(2).ok_or(FrameError::TooBig)?
            }
        };
        let missing = match length.of {
            Counted::Attributes => self.missing,
            Counted::Bytes | Counted::Elements | Counted::Pairs => self.missing - 1,
        };
        self.missing = missing.checked_add(more).ok_or(FrameError::TooBig)?;
        self.state = State::Type;
        Ok(())
    }

    /// Follows a line; returns how many of `bytes` belong to it. It ends at the first `\r\n`.
    fn line(&mut self, bytes: &[u8]) -> usize {
        if matches!(self.state, State::Line(true)) && bytes.first() == Some(&b'\n') {
            self.element();
            return 1;
        }
        let Some(end) = memchr::memchr(b'\r', bytes) else {
            self.state = State::Line(false);
            return bytes.len();
        };
        self.state = State::Line(true);
        end + 1
    }

    /// An element that is complete and holds no others.
    fn element(&mut self) {
        self.missing -= 1;
        self.state = State::Type;
    }
}

impl Length {
    fn of(of: Counted) -> State {
        State::Length(Self {
            of,
            digits: 0,
            negative: false,
            value: 0,
        })
    }

    /// The length with one more byte of its line.
    fn with(mut self, byte: u8) -> Result<State, FrameError> {
        match byte {
            b'0'..=b'9' => {
                self.value = (self.value.checked_mul(10))
                    .and_then(|value| value.checked_add(u64::from(byte - b'0')))
                    .ok_or(FrameError::TooBig)?;
            }
            b'-' if self.digits == 0 => self.negative = true,
            b'\r' => return self.finished(),
            b'?' if self.digits == 0 => return Err(FrameError::Streamed),
            _ => return Err(FrameError::InvalidLength),
        }
        self.digits += 1;
        if self.digits > LENGTH_DIGITS_MAX {
            return Err(FrameError::LengthTooLong);
        }
        Ok(State::Length(self))
    }

    /// At the `\r`: only `$-1` and `*-1` are negative, and are nulls.
    fn finished(mut self) -> Result<State, FrameError> {
        if self.digits == u8::from(self.negative) {
            return Err(FrameError::InvalidLength);
        }
        if self.negative {
            match self.of {
                Counted::Bytes | Counted::Elements if self.value == 1 => self.value = 0,
                Counted::Bytes | Counted::Elements | Counted::Pairs | Counted::Attributes => {
                    return Err(FrameError::InvalidLength);
                }
            }
        }
        Ok(State::LengthEnd(self))
    }
}

fn line_end(found: u8, wanted: u8) -> Result<(), FrameError> {
    if found == wanted {
        Ok(())
    } else {
        Err(FrameError::MissingLineEnd)
    }
}

#[cfg(test)]
#[expect(
    clippy::panic_in_result_fn,
    reason = "the errors are what is tested, asserts fail"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redis_protocol::{resp2, resp3};

    /// Length and kind of each complete frame, and bytes of the unfinished one.
    type Frames = (Vec<(usize, Kind)>, usize);

    /// The frames in `bytes`, shown in `pieces` of so many bytes, and what is unfinished.
    fn frames(bytes: &[u8], pieces: &[usize]) -> Result<Frames, FrameError> {
        let mut scanner = FrameScanner::new();
        let (mut found, mut len, mut at) = (Vec::new(), 0, 0);
        let mut pieces = pieces.iter().cycle();
        while at < bytes.len() {
            let end = bytes
                .len()
                .min(at + pieces.next().copied().unwrap_or(bytes.len()).max(1));
            while at < end {
                let scan = scanner.scan(&bytes[at..end])?;
                assert!(scan.len > 0, "a scan makes headway");
                at += scan.len;
                len += scan.len;
                if let Some(kind) = scan.ended {
                    assert!(!scanner.is_within_frame());
                    found.push((len, kind));
                    len = 0;
                }
            }
        }
        assert_eq!(scanner.is_within_frame(), len > 0);
        Ok((found, len))
    }

    fn one(bytes: &[u8]) -> Result<Frames, FrameError> {
        let whole = frames(bytes, &[]);
        assert_eq!(whole, frames(bytes, &[1]), "byte by byte");
        whole
    }

    #[test]
    fn every_type_ends_where_its_last_byte_is() {
        for (bytes, kind) in [
            (&b"+OK\r\n"[..], Kind::Reply),
            (b"+\r\n", Kind::Reply),
            (b"+a\rb\nc\r\r\n", Kind::Reply),
            (b"-ERR no\r\n", Kind::Error),
            (b":-12\r\n", Kind::Reply),
            (b",inf\r\n", Kind::Reply),
            (b"#t\r\n", Kind::Reply),
            (
                b"(3492890328409238509324850943850943825024385\r\n",
                Kind::Reply,
            ),
            (b"_\r\n", Kind::Reply),
            (b"$0\r\n\r\n", Kind::Reply),
            (b"$5\r\n\r\n+x\r\r\n", Kind::Reply),
            (b"$-1\r\n", Kind::Reply),
            (b"=7\r\ntxt:abc\r\n", Kind::Reply),
            (b"!3\r\nERR\r\n", Kind::Error),
            (b"*-1\r\n", Kind::Reply),
            (b"*0\r\n", Kind::Reply),
            (b"*2\r\n*1\r\n:1\r\n-in\r\n", Kind::Reply),
            (b"%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n", Kind::Reply),
            (b">2\r\n+invalidate\r\n_\r\n", Kind::Push),
            (b"|1\r\n+ttl\r\n:10\r\n$1\r\na\r\n", Kind::Reply),
            (b"|1\r\n+ttl\r\n:10\r\n-ERR\r\n", Kind::Error),
            (b"|1\r\n-ttl\r\n>1\r\n:1\r\n>1\r\n:3\r\n", Kind::Push),
            (b"|0\r\n|0\r\n:1\r\n", Kind::Reply),
            (b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", Kind::Reply),
        ] {
            let shown = bytes.escape_ascii();
            assert_eq!(one(bytes), Ok((vec![(bytes.len(), kind)], 0)), "{shown}");
            let cut = &bytes[..bytes.len() - 1];
            assert_eq!(one(cut), Ok((vec![], cut.len())), "{shown} cut");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for (bytes, error) in [
            (&b"HTTP/1.1"[..], FrameError::UnknownType { found: b'H' }),
            (b"\n", FrameError::UnknownType { found: b'\n' }),
            (b";4\r\n", FrameError::UnknownType { found: b';' }),
            (b"*1\r\n.\r\n", FrameError::UnknownType { found: b'.' }),
            (b"$?\r\n", FrameError::Streamed),
            (b"%?\r\n", FrameError::Streamed),
            (b"$\r\n", FrameError::InvalidLength),
            (b"$-\r\n", FrameError::InvalidLength),
            (b"$-2\r\n", FrameError::InvalidLength),
            (b"%-1\r\n", FrameError::InvalidLength),
            (b"$1x\r\n", FrameError::InvalidLength),
            (b"$1-\r\n", FrameError::InvalidLength),
            (b"$1\rx", FrameError::MissingLineEnd),
            (b"$1\r\nab\r\n", FrameError::MissingLineEnd),
            (b"$1\r\na\r\r", FrameError::MissingLineEnd),
            (b"*18446744073709551616\r\n", FrameError::TooBig),
            (b"%9223372036854775808\r\n", FrameError::TooBig),
            (b"*2\r\n*18446744073709551615\r\n", FrameError::TooBig),
        ] {
            assert_eq!(one(bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_length_has_a_limited_number_of_digits() {
        let zeros = |digits: u8| format!("${}\r\n\r\n", "0".repeat(usize::from(digits)));
        let most = zeros(LENGTH_DIGITS_MAX);
        assert_eq!(
            one(most.as_bytes()),
            Ok((vec![(most.len(), Kind::Reply)], 0))
        );
        let more = zeros(LENGTH_DIGITS_MAX + 1);
        assert_eq!(one(more.as_bytes()), Err(FrameError::LengthTooLong));
    }

    #[test]
    fn a_hundred_thousand_nested_arrays_need_no_stack() {
        let mut bytes = b"*1\r\n".repeat(100_000);
        assert_eq!(one(&bytes), Ok((vec![], bytes.len())));
        bytes.extend_from_slice(b":1\r\n");
        assert_eq!(one(&bytes), Ok((vec![(bytes.len(), Kind::Reply)], 0)));
    }

    #[test]
    fn a_bulk_of_any_announced_size_is_followed_without_memory() {
        let mut scanner = FrameScanner::new();
        let mut shown = scanner.scan(b"$18446744073709551615\r\n");
        for _ in 0..3 {
            assert!(matches!(shown, Ok(Scan { ended: None, .. })));
            shown = scanner.scan(&[0; 4096]);
        }
    }

    /// A frame of either dialect, in wire form.
    fn frame(resp3: bool) -> BoxedStrategy<Vec<u8>> {
        let line = |kind: char, pattern: &str| {
            let text = proptest::string::string_regex(pattern).expect("a valid pattern");
            text.prop_map(move |text| format!("{kind}{text}\r\n").into_bytes())
        };
        let bulk = |kind: char, prefix: &'static str| {
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(move |bytes| {
                let len = bytes.len() + prefix.len();
                [
                    format!("{kind}{len}\r\n{prefix}").as_bytes(),
                    &bytes,
                    b"\r\n",
                ]
                .concat()
            })
        };
        let both = prop_oneof![
            line('+', "[a-zA-Z ]{0,12}"),
            line('-', "ERR [a-z]{0,12}"),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            bulk('$', ""),
        ];
        let leaf = if resp3 {
            let utf8 = proptest::string::string_regex("[a-z\r\n]{0,9}").expect("a valid pattern");
            prop_oneof![
                both,
                utf8.prop_map(|text| format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into()),
                bulk('!', ""),
                Just(b"_\r\n".to_vec()),
                Just(b"#f\r\n".to_vec()),
                Just(b",1.25\r\n".to_vec()),
                line('(', "[1-9][0-9]{20,30}"),
            ]
            .boxed()
        } else {
            prop_oneof![both, Just(b"$-1\r\n".to_vec()), Just(b"*-1\r\n".to_vec())].boxed()
        };
        leaf.prop_recursive(5, 40, 6, move |inner| {
            let some = proptest::collection::vec(inner, 0..6);
            let array = some.clone().prop_map(|elements| {
                [
                    format!("*{}\r\n", elements.len()).into_bytes(),
                    elements.concat(),
                ]
                .concat()
            });
            if !resp3 {
                return array.boxed();
            }
            // Keys differ, since the oracle reads sets and maps into hash tables.
            let map = some.prop_map(|elements| {
                let mut bytes = format!("%{}\r\n", elements.len()).into_bytes();
                for (key, value) in elements.iter().enumerate() {
                    bytes.extend_from_slice(format!(":{key}\r\n").as_bytes());
                    bytes.extend_from_slice(value);
                }
                bytes
            });
            let set = (0..6u8).prop_map(|len| {
                let members = (0..len).map(|member| format!(":{member}\r\n"));
                format!("~{len}\r\n{}", members.collect::<String>()).into_bytes()
            });
            prop_oneof![array, map, set].boxed()
        })
        .boxed()
    }

    fn stream() -> impl Strategy<Value = (bool, Vec<Vec<u8>>)> {
        any::<bool>()
            .prop_flat_map(|resp3| (Just(resp3), proptest::collection::vec(frame(resp3), 1..8)))
    }

    proptest! {
        #[test]
        fn any_split_gives_the_frames_that_were_sent(
            (_, sent) in stream(),
            pieces in proptest::collection::vec(1..20usize, 1..10),
        ) {
            let lens: Vec<usize> = sent.iter().map(Vec::len).collect();
            let (whole, rest) = frames(&sent.concat(), &[]).expect("valid frames");
            prop_assert_eq!(whole.iter().map(|(len, _)| *len).collect::<Vec<_>>(), lens);
            prop_assert_eq!(rest, 0);
            prop_assert_eq!(frames(&sent.concat(), &pieces), Ok((whole, rest)));
        }

        #[test]
        fn frames_end_where_redis_protocol_ends_them((resp3, sent) in stream()) {
            let bytes = sent.concat();
            let mut rest = &bytes[..];
            for (len, _) in frames(&bytes, &[]).expect("valid frames").0 {
                let oracle = if resp3 {
                    resp3::decode::complete::decode(rest).expect("valid").map(|(_, len)| len)
                } else {
                    resp2::decode::decode(rest).expect("valid").map(|(_, len)| len)
                };
                prop_assert_eq!(Some(len), oracle);
                rest = &rest[len..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_frames_or_an_error_but_never_a_panic(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(&b"*$%|>~+-:01239\r\n"[..])],
                0..200,
            ),
        ) {
            prop_assert_eq!(frames(&bytes, &[]).ok(), frames(&bytes, &[1]).ok());
        }
    }
}
