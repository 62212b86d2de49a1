//! How the copies of a key lie in one value: the replies to several lines, the newest first.
//!
//! ```text
//! 0    4           8               10     12        16        20      24              32        36
//! | id | reply_len | arguments_len | slot | channel | tracker | epoch | expires_at_ns | life_ms |
//! | arguments … | reply … |
//! ```
//!
//! A key that is only ever read by GET has one variant, without arguments: found by two compares.

use super::Line;
use super::channels::Slot;
use super::stamp::Stamp;

/// Most variants of a key.
pub const VARIANTS_MAX: usize = 32;
/// Most bytes that the variants of a key take together, unless a single one takes more.
pub const KEY_BYTES_MAX: usize = 256 * 1024;
/// Longest arguments of a line whose reply is kept.
pub const ARGUMENTS_BYTES_MAX: usize = 4096;
/// Longest reply that is kept, whatever the settings say.
pub const REPLY_BYTES_MAX: usize = 1 << 30;

/// Longest life of a copy, in ms: 24 days. The bit above tells whether its value ends then.
pub(super) const LIFE_MS_MAX: u32 = u32::MAX >> 1;

const HEADER: usize = 36;
const _: () = assert!(ARGUMENTS_BYTES_MAX <= u16::MAX as usize, "arguments_len");
const _: () = assert!(REPLY_BYTES_MAX <= u32::MAX as usize, "reply_len");

/// What is known of one copy, but for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Under which it was read.
    pub(super) stamp: Stamp,
    /// When it ceases to be fresh, by the monotonic clock.
    pub(super) expires_at_ns: u64,
    /// How long before that it was read.
    pub(super) life_ms: u32,
    /// Whether its value ends then, rather than what a copy may be kept.
    pub(super) is_end: bool,
}

/// One copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant<'a> {
    pub(super) line: Line<'a>,
    pub(super) terms: Terms,
    pub(super) reply: &'a [u8],
}

impl<'a> Variant<'a> {
    /// Takes the first one off. None at the end.
    #[inline]
    fn take(value: &mut &'a [u8]) -> Option<Self> {
        let (header, rest) = value.split_first_chunk::<HEADER>()?;
        let u16_at = |at| u16::from_le_bytes(std::array::from_fn(|index| header[at + index]));
        let u32_at = |at| u32::from_le_bytes(std::array::from_fn(|index| header[at + index]));
        let u64_at = |at| u64::from_le_bytes(std::array::from_fn(|index| header[at + index]));
        let (arguments, rest) = rest.split_at_checked(usize::from(u16_at(8)))?;
        let (reply, rest) = rest.split_at_checked(u32_at(4) as usize)?;
        *value = rest;
        Some(Self {
            line: Line {
                id: u32_at(0),
                arguments,
            },
            terms: Terms {
                stamp: Stamp {
                    slot: Slot::new(u16_at(10))?,
                    channel: u32_at(12),
                    tracker: u32_at(16),
                    epoch: u32_at(20),
                },
                expires_at_ns: u64_at(24),
                life_ms: u32_at(32) & LIFE_MS_MAX,
                is_end: u32_at(32) > LIFE_MS_MAX,
            },
            reply,
        })
    }

    fn len(&self) -> usize {
        HEADER + self.line.arguments.len() + self.reply.len()
    }

    fn put(&self, value: &mut Vec<u8>) {
        let Terms {
            stamp,
            expires_at_ns,
            life_ms,
            is_end,
        } = self.terms;
        let life = life_ms | if is_end { LIFE_MS_MAX + 1 } else { 0 };
        let reply_len = u32::try_from(self.reply.len()).expect("REPLY_BYTES_MAX");
        let arguments_len = u16::try_from(self.line.arguments.len()).expect("ARGUMENTS_BYTES_MAX");
        value.extend_from_slice(&self.line.id.to_le_bytes());
        value.extend_from_slice(&reply_len.to_le_bytes());
        value.extend_from_slice(&arguments_len.to_le_bytes());
        value.extend_from_slice(&stamp.slot.number().to_le_bytes());
        value.extend_from_slice(&stamp.channel.to_le_bytes());
        value.extend_from_slice(&stamp.tracker.to_le_bytes());
        value.extend_from_slice(&stamp.epoch.to_le_bytes());
        value.extend_from_slice(&expires_at_ns.to_le_bytes());
        value.extend_from_slice(&life.to_le_bytes());
        value.extend_from_slice(self.line.arguments);
        value.extend_from_slice(self.reply);
    }
}

/// The copies in a value, the newest first.
pub(super) fn all(mut value: &[u8]) -> impl Iterator<Item = Variant<'_>> {
    std::iter::from_fn(move || Variant::take(&mut value))
}

/// The copy for this line.
#[inline]
pub(super) fn find<'a>(value: &'a [u8], line: Line<'_>) -> Option<Variant<'a>> {
    all(value).find(|variant| variant.line == line)
}

/// A value of these copies: `new` for its line, and of the others those that `keep` keeps, as far
/// as the limits go; and when the last of them ceases to be fresh.
pub(super) fn with(old: &[u8], new: Variant<'_>, keep: impl Fn(&Terms) -> bool) -> (Vec<u8>, u64) {
    let others = || all(old).filter(|variant| variant.line != new.line && keep(&variant.terms));
    let (mut count, mut len) = (1, new.len());
    for other in others() {
        if count == VARIANTS_MAX || len + other.len() > KEY_BYTES_MAX {
            break;
        }
        (count, len) = (count + 1, len + other.len());
    }
    let mut value = Vec::with_capacity(len);
    new.put(&mut value);
    let mut expires_at_ns = new.terms.expires_at_ns;
    for other in others().take(count - 1) {
        other.put(&mut value);
        expires_at_ns = expires_at_ns.max(other.terms.expires_at_ns);
    }
    (value, expires_at_ns)
}
