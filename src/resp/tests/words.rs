use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let (mut words, mut ranges) = (b"before".to_vec(), Vec::new());
    split_words(line, &mut words, |range| ranges.push(range))?;
    Ok(ranges
        .into_iter()
        .map(|range| words[range].to_vec())
        .collect())
}

/// What redis-server 7.0.15 made of these lines, put behind an `ECHO`, or as a command.
#[test]
fn lines_are_split_as_redis_splits_them() {
    let cases: &[(&[u8], &[&[u8]])] = &[
        (b"", &[]),
        (b" \t\r", &[]),
        (b"  ECHO   x  ", &[b"ECHO", b"x"]),
        (b"\tECHO\tx\r", &[b"ECHO", b"x"]),
        (b"ECHO a\rb", &[b"ECHO", b"a", b"b"]),
        (b"\x0bECHO\x0bx\x0c", &[b"ECHO\x0bx\x0c"]),
        (b"\"a b\"", &[b"a b"]),
        (b"'a b'", &[b"a b"]),
        (b"\"\" ''", &[b"", b""]),
        (b"a\"b\"", &[b"ab"]),
        (b"a'b'", &[b"ab"]),
        (b"'a'\t'b'\x0b'c'", &[b"a", b"b", b"c"]),
        (b"\"\\x41\\x4a\\xzz\"", &[b"AJxzz"]),
        (b"\"\\x4\"", &[b"x4"]),
        (b"\"\\x\"", &[b"x"]),
        (b"\\x41", &[b"\\x41"]),
        (b"\"\\n\\r\\t\\b\\a\\\\\\\"\\q\"", &[b"\n\r\t\x08\x07\\\"q"]),
        (b"'it\\'s \\n'", &[b"it's \\n"]),
        (b"\xff\xfe", &[b"\xff\xfe"]),
    ];
    for (line, words) in cases {
        let words = words.iter().map(|word| word.to_vec()).collect();
        assert_eq!(split(line), Ok(words), "{}", line.escape_ascii());
    }
}

#[test]
fn quotes_close_and_end_their_word() {
    for line in [
        &b"\"abc"[..],
        b"'abc",
        b"\"a\"b",
        b"'a'b",
        b"a\"b\"c",
        b"'a''b'",
        b"\"a\\\"",
        b"'a\\'",
        b"\"",
        b"\"\\",
        b"\"\\x4",
    ] {
        assert_eq!(split(line), Err(Unbalanced), "{}", line.escape_ascii());
    }
}

proptest! {
    #[test]
    fn quoted_words_are_read_back(words in vec(vec(any::<u8>(), 0..20), 0..6)) {
        let quote = |word: &Vec<u8>| {
            let hex: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{hex}\"")
        };
        let line = words.iter().map(quote).collect::<Vec<_>>().join(" ");
        prop_assert_eq!(split(line.as_bytes()), Ok(words));
    }

    #[test]
    fn any_line_is_words_or_unbalanced(line in vec(any::<u8>(), 0..60)) {
        if let Ok(words) = split(&line) {
            prop_assert!(words.iter().map(Vec::len).sum::<usize>() <= line.len());
        }
    }
}
