//! The wire format: RESP requests in, RESP2 and RESP3 replies out.
//!
//! Knows no command and no cache. A request is a flat array of bulk strings or an inline line, so
//! its decoder ([`decode`]) needs no recursion; a reply is written straight into the connection's
//! write buffer ([`encode`]); the replies of an upstream are not understood, only their ends are
//! found ([`frame`]). Every length a peer can send has a limit in [`Limits`].

pub mod decode;
pub mod encode;
pub mod frame;
pub mod words;

pub use decode::{Decoder, ProtocolError, Request};
pub use encode::Reply;

/// The dialect a client speaks, chosen by `HELLO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// What every client speaks that never sent `HELLO 3`.
    Resp2,
    /// Maps, sets, doubles, booleans, one null, and pushes.
    Resp3,
}

impl Protocol {
    /// The number that `HELLO` takes and `CLIENT LIST` prints.
    #[must_use]
    pub fn version(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// How much a request may claim before it is refused as a protocol error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of one request, its name included.
    pub arguments_max: usize,
    /// Bytes of one argument (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Bytes of an inline request, and of the line that announces a length.
    pub inline_bytes_max: usize,
}

impl Limits {
    /// Arguments of one request of a client that has not authenticated where it must (as in Redis).
    pub const UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;

    /// Bytes of one argument of such a client (as in Redis).
    pub const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;

    /// Redis's `PROTO_INLINE_MAX_SIZE`.
    pub const INLINE_BYTES_MAX: usize = 64 * 1024;

    /// Redis's bound of a multibulk length (`INT_MAX`).
    pub const ARGUMENTS_MAX: usize = i32::MAX as usize;

    /// The limits of an authenticated client.
    #[must_use]
    pub fn authenticated(bulk_bytes_max: usize) -> Self {
        Self {
            arguments_max: Self::ARGUMENTS_MAX,
            bulk_bytes_max,
            inline_bytes_max: Self::INLINE_BYTES_MAX,
        }
    }

    /// The limits of a client that has not authenticated where it must.
    #[must_use]
    pub fn unauthenticated(bulk_bytes_max: usize) -> Self {
        Self {
            arguments_max: Self::UNAUTHENTICATED_ARGUMENTS_MAX,
            ..Self::authenticated(bulk_bytes_max)
        }
    }

    /// Whether they are those of a client that has not authenticated.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        self.arguments_max == Self::UNAUTHENTICATED_ARGUMENTS_MAX
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::authenticated(512 * 1024 * 1024)
    }
}
