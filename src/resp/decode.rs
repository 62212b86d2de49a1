//! Turns the bytes a client sent into requests: flat, resumable, every length bounded.
//!
//! The decoder owns no bytes. It is shown the connection's read buffer, remembers how far it
//! understood it, and hands out requests whose arguments are slices of that buffer. Split the
//! bytes anywhere, even one at a time, and the requests and the error are the same: no byte is
//! looked at twice, except for those of an unfinished line, which has a limit. It reserves no
//! memory by a length that a peer announced, and has no recursion, since a request is never nested.
//!
//! What it accepts and refuses, and in which words, is what Redis's `networking.c` does, down to
//! not looking at the two bytes behind an argument, and to a line that holds a zero byte: it never
//! ends, since C looks for its end no further. Only where Redis lets the length of its reads decide
//! whether a line is too long, our limit is exact.

use std::fmt;

use super::Limits;
use super::words::{Unbalanced, split_words};

/// Where an argument lies, counted from its request's first byte.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    len: usize,
}

/// One decoded request's place in the decoder's lists and in the read buffer.
#[derive(Clone, Copy, Debug)]
struct Decoded {
    /// First byte in the read buffer, or in the scratch buffer of an inline request.
    start: usize,
    /// First span, and how many.
    first_span: usize,
    spans: usize,
    inline: bool,
    /// Bytes of the read buffer up to and with this request.
    end: usize,
}

/// A complete request: the command's name and its arguments, as slices of the read buffer.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Request<'a> {
    /// Number of arguments, the command's name included; never 0.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a request has at least its name"
    )]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Argument `index`, 0 being the command's name. Panics if there is no such argument.
    #[must_use]
    pub fn argument(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        &self.bytes[span.start..span.start + span.len]
    }

    /// About how many bytes its arguments have together.
    #[must_use]
    #[inline]
    pub fn bytes_len(&self) -> usize {
        self.spans.last().map_or(0, |span| span.start + span.len)
    }

    /// Argument `index`, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.spans.len()).then(|| self.argument(index))
    }

    /// All arguments from `first` on.
    pub fn iter_from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let (bytes, spans) = (self.bytes, self.spans.get(first..).unwrap_or_default());
        spans
            .iter()
            .map(move |span| &bytes[span.start..span.start + span.len])
    }

    /// The command's name and all arguments, owned (MULTI queues them).
    #[must_use]
    pub fn to_owned(&self) -> OwnedRequest {
        let total = self.spans.iter().map(|span| span.len).sum();
        let mut bytes = Vec::with_capacity(total);
        let mut spans = Vec::with_capacity(self.spans.len());
        for argument in self.iter_from(0) {
            spans.push(Span {
                start: bytes.len(),
                len: argument.len(),
            });
            bytes.extend_from_slice(argument);
        }
        OwnedRequest { bytes, spans }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(
                self.iter_from(0)
                    .map(|argument| argument.escape_ascii().to_string()),
            )
            .finish()
    }
}

/// A request that outlives the read buffer.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnedRequest {
    /// Builds a request of these arguments, the command's name first. At least the name is needed.
    #[must_use]
    pub fn of(arguments: &[&[u8]]) -> Self {
        debug_assert!(!arguments.is_empty(), "a request has at least its name");
        let mut bytes = Vec::new();
        let mut spans = Vec::with_capacity(arguments.len());
        for argument in arguments {
            spans.push(Span {
                start: bytes.len(),
                len: argument.len(),
            });
            bytes.extend_from_slice(argument);
        }
        Self { bytes, spans }
    }

    /// The same request, borrowed.
    #[must_use]
    pub fn as_request(&self) -> Request<'_> {
        Request {
            bytes: &self.bytes,
            spans: &self.spans,
        }
    }

    /// Bytes of heap memory it holds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }
}

/// What broke the framing. One error reply, then the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A multibulk length that is no number or out of bounds.
    InvalidMultibulkLength,
    /// More arguments than a client may send before it authenticates.
    UnauthenticatedMultibulkLength,
    /// A bulk length that is no number, negative or over `proto-max-bulk-len`.
    InvalidBulkLength,
    /// A longer argument than a client may send before it authenticates.
    UnauthenticatedBulkLength,
    /// Something else than `$` where an argument should begin.
    ExpectedDollar {
        /// The byte found there.
        found: u8,
    },
    /// An inline request without a line end within its limit.
    TooBigInline,
    /// A multibulk header without a line end within the limit of a line.
    TooBigMultibulkCount,
    /// A bulk header without a line end within the limit of a line.
    TooBigBulkCount,
    /// Quotes that do not close, or are followed by something else than a space.
    UnbalancedQuotes,
}

impl ProtocolError {
    /// The text of the error reply, its code included: bytes, since it may quote one of the peer's.
    #[must_use]
    pub fn reply_text(self) -> Vec<u8> {
        let mut text = b"ERR Protocol error: ".to_vec();
        text.extend_from_slice(match self {
            Self::InvalidMultibulkLength => b"invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => b"unauthenticated multibulk length",
            Self::InvalidBulkLength => b"invalid bulk length",
            Self::UnauthenticatedBulkLength => b"unauthenticated bulk length",
            Self::TooBigInline => b"too big inline request",
            Self::TooBigMultibulkCount => b"too big mbulk count string",
            Self::TooBigBulkCount => b"too big bulk count string",
            Self::UnbalancedQuotes => b"unbalanced quotes in request",
            Self::ExpectedDollar { found } => {
                text.extend_from_slice(b"expected '$', got '");
                text.extend_from_slice(&[found, b'\'']);
                return text;
            }
        });
        text
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.reply_text();
        let text = text.strip_prefix(b"ERR ").unwrap_or(&text);
        write!(formatter, "{}", text.escape_ascii())
    }
}

impl std::error::Error for ProtocolError {}

/// The resumable decoder of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    requests: Vec<Decoded>,
    spans: Vec<Span>,
    /// Unescaped arguments of inline requests.
    scratch: Vec<u8>,
    /// Bytes of the buffer that are understood, those of an unfinished request included.
    position: usize,
    /// Where the unfinished request begins.
    start: usize,
    first_span: usize,
    /// Arguments the unfinished request still lacks.
    missing: usize,
    /// The announced length of the argument at `position`.
    bulk_len: Option<usize>,
}

impl Decoder {
    /// Decodes complete requests, until there are `requests_max` or the buffer has no more.
    ///
    /// `buffer` is all that was received and not yet [consumed](Self::consume). Requests
    /// decoded before an error are valid, and to be answered first.
    ///
    /// # Errors
    /// When the bytes are no request, or pass a limit. The connection must then be closed.
    pub fn decode(
        &mut self,
        buffer: &[u8],
        requests_max: usize,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        while self.requests.len() < requests_max {
            let complete = if self.missing > 0 {
                self.arguments(buffer, limits)?
            } else {
                match buffer.get(self.position) {
                    None => return Ok(()),
                    Some(b'*') => self.header(buffer, limits)? && self.arguments(buffer, limits)?,
                    Some(_) => self.inline(buffer, limits)?,
                }
            };
            if !complete {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The requests decoded and not yet consumed. `buffer` is the one given to [`Self::decode`].
    pub fn requests<'a>(
        &'a self,
        buffer: &'a [u8],
    ) -> impl ExactSizeIterator<Item = Request<'a>> + DoubleEndedIterator {
        self.requests
            .iter()
            .map(move |decoded| self.request(decoded, buffer))
    }

    /// Request `index` of those decoded.
    #[must_use]
    pub fn at<'a>(&'a self, index: usize, buffer: &'a [u8]) -> Request<'a> {
        self.request(&self.requests[index], buffer)
    }

    /// Bytes of the buffer up to and with request `index`.
    #[must_use]
    pub fn end_of(&self, index: usize) -> usize {
        self.requests[index].end
    }

    /// How many requests are decoded and not yet consumed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether no request is waiting to be run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Forgets the decoded requests and tells how many bytes to drop from the buffer's front.
    pub fn consume(&mut self) -> usize {
        let dropped = self.start;
        self.requests.clear();
        self.scratch.clear();
        self.spans.drain(..self.first_span);
        self.first_span = 0;
        self.position -= dropped;
        self.start = 0;
        if self.spans.is_empty() && self.spans.capacity() > SPANS_KEPT {
            self.spans.shrink_to(SPANS_KEPT);
        }
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        }
        dropped
    }

    /// How many more bytes the argument under way needs; 0 if its length is not known.
    #[must_use]
    pub fn wanted(&self, buffer: &[u8]) -> usize {
        self.bulk_len.map_or(0, |len| {
            (self.position + len + LINE_END_BYTES).saturating_sub(buffer.len())
        })
    }

    /// Bytes of heap memory it holds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.scratch.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.requests.capacity() * size_of::<Decoded>()
    }

    fn request<'a>(&'a self, decoded: &Decoded, buffer: &'a [u8]) -> Request<'a> {
        let source = if decoded.inline {
            &self.scratch[..]
        } else {
            buffer
        };
        Request {
            bytes: &source[decoded.start..],
            spans: &self.spans[decoded.first_span..decoded.first_span + decoded.spans],
        }
    }

    /// `*N`: how many arguments follow. An empty request is passed over, as Redis does.
    fn header(&mut self, buffer: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        let rest = &buffer[self.position..];
        // One digit is nearly all there is, and within any limit: no search for the line's end.
        if let [b'*', digit @ b'1'..=b'9', b'\r', b'\n', ..] = rest {
            self.position += 2 + LINE_END_BYTES;
            self.missing = usize::from(digit - b'0');
            return Ok(true);
        }
        let line = match header_line(rest, limits) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(false),
            Err(TooLong) => return Err(ProtocolError::TooBigMultibulkCount),
        };
        let count = length(&line[1..]).ok_or(ProtocolError::InvalidMultibulkLength)?;
        if count > Limits::ARGUMENTS_MAX as i64 {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        let count = usize::try_from(count).unwrap_or(0);
        if count > limits.arguments_max {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.position += line.len() + LINE_END_BYTES;
        if count == 0 {
            self.start = self.position;
        }
        self.missing = count;
        Ok(true)
    }

    /// The arguments behind a header; true when they are all there.
    fn arguments(&mut self, buffer: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        if self.missing == 0 {
            return Ok(true); // An empty request: nothing to finish.
        }
        while self.missing > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.bulk_header(buffer, limits)? {
                    Some(len) => len,
                    None => return Ok(false),
                },
            };
            if buffer.len() - self.position < len + LINE_END_BYTES {
                self.bulk_len = Some(len);
                return Ok(false);
            }
            self.spans.push(Span {
                start: self.position - self.start,
                len,
            });
            self.position += len + LINE_END_BYTES;
            self.bulk_len = None;
            self.missing -= 1;
        }
        self.finish(self.start, false);
        Ok(true)
    }

    /// `$N`: how long the next argument is.
    #[inline]
    fn bulk_header(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        // One and two digits are nearly all there is: no search for the line's end, and no limit,
        // since none is so low.
        debug_assert!(
            limits.bulk_bytes_max >= 99,
            "checked for three digits and more"
        );
        if let [b'$', tens, b'\r', b'\n', ..] = buffer[self.position..]
            && tens.is_ascii_digit()
        {
            self.position += 4;
            return Ok(Some(usize::from(tens - b'0')));
        }
        if let [b'$', tens @ b'1'..=b'9', ones, b'\r', b'\n', ..] = buffer[self.position..]
            && ones.is_ascii_digit()
        {
            self.position += 5;
            return Ok(Some(
                usize::from(tens - b'0') * 10 + usize::from(ones - b'0'),
            ));
        }
        let line = match header_line(&buffer[self.position..], limits) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(None),
            Err(TooLong) => return Err(ProtocolError::TooBigBulkCount),
        };
        let Some((b'$', digits)) = line.split_first() else {
            let found = line.first().copied().unwrap_or(b'\r');
            return Err(ProtocolError::ExpectedDollar { found });
        };
        let len = length(digits)
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| *len <= limits.bulk_bytes_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if len > Limits::UNAUTHENTICATED_BULK_BYTES_MAX && limits.is_unauthenticated() {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.position += line.len() + LINE_END_BYTES;
        Ok(Some(len))
    }

    /// A line typed by hand: words, with redis-cli's quoting.
    fn inline(&mut self, buffer: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        let rest = &buffer[self.position..];
        let newline = match line_end(b'\n', rest, limits) {
            Ok(Some(newline)) => newline,
            Ok(None) => return Ok(false),
            Err(TooLong) => return Err(ProtocolError::TooBigInline),
        };
        let line = &rest[..newline];
        let start = self.scratch.len();
        let words = split_words(line, &mut self.scratch, |range| {
            self.spans.push(Span {
                start: range.start - start,
                len: range.len(),
            });
        });
        words.map_err(|Unbalanced| ProtocolError::UnbalancedQuotes)?;
        self.position += newline + 1;
        if self.spans.len() > self.first_span {
            self.finish(start, true);
        } else {
            self.start = self.position; // An empty line is passed over.
        }
        Ok(true)
    }

    fn finish(&mut self, start: usize, inline: bool) {
        self.requests.push(Decoded {
            start,
            first_span: self.first_span,
            spans: self.spans.len() - self.first_span,
            inline,
            end: self.position,
        });
        self.first_span = self.spans.len();
        self.start = self.position;
    }
}

/// A line has no end within its limit.
struct TooLong;

/// The line at the front of `rest` without its end. Like Redis, it takes the byte behind `\r` for
/// the `\n` it should be.
fn header_line<'a>(rest: &'a [u8], limits: &Limits) -> Result<Option<&'a [u8]>, TooLong> {
    let end = line_end(b'\r', rest, limits)?;
    Ok(end
        .filter(|end| end + LINE_END_BYTES <= rest.len())
        .map(|end| &rest[..end]))
}

/// Where the line at the front of `rest` ends. Behind a zero byte nothing is looked for.
fn line_end(end: u8, rest: &[u8], limits: &Limits) -> Result<Option<usize>, TooLong> {
    let max = limits.inline_bytes_max;
    let within = &rest[..rest.len().min(max + 1)];
    match memchr::memchr2(end, 0, within) {
        Some(found) if within[found] == end => Ok(Some(found)),
        Some(_) | None if rest.len() > max => Err(TooLong),
        Some(_) | None => Ok(None),
    }
}

/// A decimal number as Redis's `string2ll` takes it: no sign but `-`, no leading zero.
fn length(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // Counted below zero, where there is one number more.
    let mut value: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_sub(i64::from(digit - b'0'))?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

/// `\r\n`
const LINE_END_BYTES: usize = 2;
/// Room for spans that a connection keeps between requests.
const SPANS_KEPT: usize = 1024;
/// Room for unescaped inline requests that a connection keeps, in bytes.
const SCRATCH_BYTES_KEPT: usize = 4096;

#[cfg(test)]
#[path = "tests/decode.rs"]
mod tests;
