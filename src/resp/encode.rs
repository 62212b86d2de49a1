//! Replies, written straight into the connection's write buffer, in RESP2 or RESP3.
//!
//! The types RESP3 added have the RESP2 form that Redis gives them: a map is a flat array, a
//! double a bulk string, a boolean an integer, the null a null bulk.

use super::Protocol;

/// The write buffer of one connection and the dialect it is written in.
#[derive(Debug)]
pub struct Reply {
    bytes: Vec<u8>,
    protocol: Protocol,
}

impl Reply {
    /// An empty buffer.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self {
            bytes: Vec::new(),
            protocol,
        }
    }

    /// The dialect in use.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Changes the dialect of what is written from now on.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// The bytes written and not yet sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes written and not yet sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of heap memory it holds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes back what was written since the buffer was `len` long.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Empties the buffer, and gives memory back that a big reply left behind.
    pub fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > BUFFER_BYTES_KEPT {
            self.bytes.shrink_to(BUFFER_BYTES_KEPT);
        }
    }

    /// `+text`. The text must not hold a line end.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
        self.bytes.push(b'+');
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// `-text`, the code included (`ERR …`). Line ends become spaces, as Redis does, since an
    /// error may quote what the client sent.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.bytes.push(b'-');
        let text = text.as_ref();
        self.bytes.extend(text.iter().map(|&byte| match byte {
            b'\r' | b'\n' => b' ',
            other => other,
        }));
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// `:value`
    #[inline]
    pub fn integer(&mut self, value: i64) {
        match value {
            0 => self.bytes.extend_from_slice(b":0\r\n"),
            1 => self.bytes.extend_from_slice(b":1\r\n"),
            _ => self.header(b':', value),
        }
    }

    /// `:value` of a count.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// `$len value`
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        self.bytes.reserve(value.len() + HEADER_BYTES_MAX);
        self.length(b'$', value.len());
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A bulk string of text.
    pub fn text(&mut self, value: &str) {
        self.bulk(value.as_bytes());
    }

    /// A bulk string that holds a decimal number.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(value).as_bytes());
    }

    /// The absent value: a null bulk in RESP2, the null in RESP3.
    #[inline]
    pub fn null(&mut self) {
        self.bytes.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The absent array: a null array in RESP2, the null in RESP3.
    pub fn null_array(&mut self) {
        self.bytes.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The header of an array of `len` elements, which follow.
    pub fn array(&mut self, len: usize) {
        self.length(b'*', len);
    }

    /// The header of a map of `len` pairs, which follow: key, value, key, value …
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', len * 2),
            Protocol::Resp3 => self.length(b'%', len),
        }
    }

    /// The header of an attribute of the reply that follows it, of `len` pairs. RESP3 only.
    pub fn attribute(&mut self, len: usize) {
        debug_assert_eq!(self.protocol, Protocol::Resp3, "RESP2 has none");
        self.length(b'|', len);
    }

    /// The header of a set of `len` elements, which follow.
    pub fn set(&mut self, len: usize) {
        self.length(
            if self.protocol == Protocol::Resp3 {
                b'~'
            } else {
                b'*'
            },
            len,
        );
    }

    /// The header of an out-of-band push of `len` elements (an array in RESP2).
    pub fn push(&mut self, len: usize) {
        self.length(
            if self.protocol == Protocol::Resp3 {
                b'>'
            } else {
                b'*'
            },
            len,
        );
    }

    /// A boolean; an integer in RESP2.
    pub fn boolean(&mut self, value: bool) {
        self.bytes.extend_from_slice(match (self.protocol, value) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// A double given in its decimal form; a bulk string in RESP2.
    pub fn double(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.text(digits),
            Protocol::Resp3 => {
                self.bytes.push(b',');
                self.bytes.extend_from_slice(digits.as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Text for people, with its format (`txt`, `mkd`); a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, value: &[u8]) {
        debug_assert_eq!(format.len(), 3, "the format has three letters");
        match self.protocol {
            Protocol::Resp2 => self.bulk(value),
            Protocol::Resp3 => {
                self.length(b'=', value.len() + 4);
                self.bytes.extend_from_slice(format.as_bytes());
                self.bytes.push(b':');
                self.bytes.extend_from_slice(value);
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A number of any size; a bulk string in RESP2.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.text(digits),
            Protocol::Resp3 => {
                self.bytes.push(b'(');
                self.bytes.extend_from_slice(digits.as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Bytes that are already in wire form.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A header with a length that is known only after its elements: remembers the place.
    #[must_use]
    pub fn deferred(&mut self) -> Deferred {
        Deferred {
            at: self.bytes.len(),
        }
    }

    /// Puts the array header in at its place.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a place is good for one header"
    )]
    pub fn finish_array(&mut self, place: Deferred, len: usize) {
        let mut header = Self::new(self.protocol);
        header.array(len);
        self.bytes.splice(place.at..place.at, header.bytes);
    }

    #[inline]
    fn length(&mut self, kind: u8, len: usize) {
        self.header(kind, i64::try_from(len).unwrap_or(i64::MAX));
    }

    #[inline]
    fn header(&mut self, kind: u8, value: i64) {
        if (0..10).contains(&value) {
            let digit = b'0' + u8::try_from(value).unwrap_or(0);
            self.bytes.extend_from_slice(&[kind, digit, b'\r', b'\n']);
            return;
        }
        let mut digits = itoa::Buffer::new();
        self.bytes.push(kind);
        self.bytes
            .extend_from_slice(digits.format(value).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// The place of a header whose length is not known yet.
#[derive(Debug)]
pub struct Deferred {
    at: usize,
}

/// `$`, twenty digits, two line ends.
const HEADER_BYTES_MAX: usize = 25;

/// Write-buffer memory that a connection keeps between replies.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

#[cfg(test)]
#[path = "tests/encode.rs"]
mod tests;
