//! Splits a line into words, with redis-cli's quoting (`sdssplitargs`).

use std::ops::Range;

/// Quotes that do not close, or are followed by something else than a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbalanced;

/// Splits a line into words as redis-cli and redis.conf do (`sdssplitargs`): double quotes know
/// `\n \r \t \b \a \\ \" \xHH`, single quotes only `\'`. The unescaped words are appended to
/// `words`, and each one's range in it is given to `found`.
///
/// # Errors
/// When quotes do not close, or a closing quote is not followed by a space or the end.
pub fn split_words(
    line: &[u8],
    words: &mut Vec<u8>,
    mut found: impl FnMut(Range<usize>),
) -> Result<(), Unbalanced> {
    // C strings end at a zero byte, and so does Redis's line.
    let line = &line[..memchr::memchr(0, line).unwrap_or(line.len())];
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_space(byte)) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = words.len();
        while let Some(&byte) = line.get(at) {
            match byte {
                b'"' => at = double_quoted(line, at + 1, words)?,
                b'\'' => at = single_quoted(line, at + 1, words)?,
                b' ' | b'\t' | b'\n' | b'\r' => break,
                _ => {
                    words.push(byte);
                    at += 1;
                    continue;
                }
            }
            break; // A closing quote ends the word.
        }
        found(start..words.len());
    }
}

/// Reads up to the closing `"`; returns the index behind it.
fn double_quoted(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match line[at.min(line.len())..] {
            [] => return Err(Unbalanced),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                words.push(hex(high) * 16 + hex(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                words.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            [b'"', ref rest @ ..] => return closed(rest, at + 1),
            [byte, ..] => {
                words.push(byte);
                at += 1;
            }
        }
    }
}

/// Reads up to the closing `'`; returns the index behind it.
fn single_quoted(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match line[at.min(line.len())..] {
            [] => return Err(Unbalanced),
            [b'\\', b'\'', ..] => {
                words.push(b'\'');
                at += 2;
            }
            [b'\'', ref rest @ ..] => return closed(rest, at + 1),
            [byte, ..] => {
                words.push(byte);
                at += 1;
            }
        }
    }
}

/// A closing quote must be the end of its word.
fn closed(rest: &[u8], at: usize) -> Result<usize, Unbalanced> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => Err(Unbalanced),
        Some(_) | None => Ok(at),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// C's `isspace`. The two rare ones of it (`\v`, `\f`) may stand before a word and behind a closing
/// quote, but do not end a word without quotes.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
#[path = "tests/words.rs"]
mod tests;
