//! The globs of rules, taken apart.
//!
//! The language is that of Redis's KEYS: `*` any bytes, `?` any one byte, `[abc]`, `[^a-z]` one
//! byte in or not in a class, `\x` the byte x. As there, an unterminated class ends with the
//! pattern, and `[z-a]` is `[a-z]`.

/// One token of a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Any bytes, which are caught.
    Star,
    /// Any one byte.
    Any,
    /// This byte.
    Byte(u8),
    /// A byte for which this says yes.
    Class(Box<[bool; 256]>),
}

/// The tokens of a glob.
#[must_use]
pub fn tokens(pattern: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        tokens.push(match first {
            b'*' => Token::Star,
            b'?' => Token::Any,
            b'\\' if !rest.is_empty() => {
                let escaped = rest[0];
                rest = &rest[1..];
                Token::Byte(escaped)
            }
            b'[' => {
                let (class, after) = class(rest);
                rest = after;
                Token::Class(class)
            }
            byte => Token::Byte(byte),
        });
    }
    tokens
}

/// How many stars a glob has; more than 255 count as that.
#[must_use]
pub fn stars(pattern: &[u8]) -> u8 {
    let count = tokens(pattern)
        .iter()
        .filter(|token| **token == Token::Star)
        .count();
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// A class and what follows it, from behind its bracket.
fn class(pattern: &[u8]) -> (Box<[bool; 256]>, &[u8]) {
    let mut class = Box::new([false; 256]);
    let (is_negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    loop {
        match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', byte, after @ ..] => {
                class[usize::from(*byte)] = true;
                rest = after;
            }
            [from, b'-', to, after @ ..] => {
                // As signed bytes, which is how Redis compares them.
                let (from, to) = (from.cast_signed(), to.cast_signed());
                for byte in from.min(to)..=from.max(to) {
                    class[usize::from(byte.cast_unsigned())] = true;
                }
                rest = after;
            }
            [byte, after @ ..] => {
                class[usize::from(*byte)] = true;
                rest = after;
            }
        }
    }
    if is_negated {
        for is_in in class.iter_mut() {
            *is_in = !*is_in;
        }
    }
    (class, rest)
}
