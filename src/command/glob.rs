//! Glob patterns, with the answers of Redis's `stringmatchlen`.
//!
//! `*` any bytes, `?` any one byte, `[abc]`, `[^a-z]` one byte in or not in a class, `\x` the byte
//! x. A pattern can come from any client, so the cost is bounded: Redis backs up to every star,
//! this only to the last one, which gives the same answers in at most |pattern| × |text| steps.
//!
//! Redis's corners are kept, since SCAN and PSUBSCRIBE clients may lean on them: an unterminated
//! class ends with the pattern; `[z-a]` is `[a-z]`; ranges compare bytes as signed; in a class an
//! escaped byte is compared exactly even when case is ignored; and an empty text matches only the
//! empty pattern, not even `*`.

/// Whether letters differ by case. Only ASCII letters have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `a` is not `A`: keys and channels.
    Sensitive,
    /// `a` is `A`: names of settings and commands.
    Insensitive,
}

/// Whether the whole text matches the pattern.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let mut pattern = pattern;
    let mut text = text;
    // What follows the last star, and the text it was tried on: one byte is given to the star and
    // the rest tried again. An earlier star need not be widened: its part has matched already, and
    // as early as possible.
    let mut retry: Option<(&[u8], &[u8])> = None;
    let mut stars = 0;
    loop {
        if let Some(rest) = skip_stars(pattern) {
            if rest.is_empty() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((rest, text));
            pattern = rest;
        }
        match (match_one(pattern, text, case), retry) {
            (Some((rest_of_pattern, rest_of_text)), _) => {
                pattern = rest_of_pattern;
                text = rest_of_text;
                if text.is_empty() {
                    // Every token takes one byte, so a later start could only run out earlier.
                    return skip_stars(pattern).unwrap_or(pattern).is_empty();
                }
            }
            (None, Some((rest_of_pattern, [_, rest_of_text @ ..]))) if !rest_of_text.is_empty() => {
                retry = Some((rest_of_pattern, rest_of_text));
                pattern = rest_of_pattern;
                text = rest_of_text;
            }
            (None, _) => return false,
        }
    }
}

/// Stars, and runs of them, that a text is followed through; behind more nothing matches, as in
/// Redis, which recurses at each.
const STARS_MAX: usize = 1000;

/// What follows the stars a pattern begins with; None if it begins with none.
fn skip_stars(pattern: &[u8]) -> Option<&[u8]> {
    let stars = pattern.iter().take_while(|&&byte| byte == b'*').count();
    (stars > 0).then(|| &pattern[stars..])
}

/// Matches the pattern's first token, not a star, with the text's first byte: gives what is left of
/// both, or None if they do not match or either is empty.
fn match_one<'p, 't>(
    pattern: &'p [u8],
    text: &'t [u8],
    case: Case,
) -> Option<(&'p [u8], &'t [u8])> {
    let (&byte, rest_of_text) = text.split_first()?;
    let (is_match, rest_of_pattern) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'[', b'^', class @ ..] => {
            let (is_member, rest) = match_class(class, byte, case);
            (!is_member, rest)
        }
        [b'[', class @ ..] => match_class(class, byte, case),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (same(*literal, byte, case), rest),
    };
    is_match.then_some((rest_of_pattern, rest_of_text))
}

/// Whether a byte is in a class, which begins behind `[` or `[^`, and what follows the class.
fn match_class(class: &[u8], byte: u8, case: Case) -> (bool, &[u8]) {
    let mut class = class;
    let mut is_member = false;
    loop {
        class = match class {
            [] => return (is_member, class),
            [b'\\', literal, rest @ ..] => {
                is_member |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => return (is_member, rest),
            [low, b'-', high, rest @ ..] => {
                is_member |= in_range(*low, *high, byte, case);
                rest
            }
            [literal, rest @ ..] => {
                is_member |= same(*literal, byte, case);
                rest
            }
        };
    }
}

fn in_range(low: u8, high: u8, byte: u8, case: Case) -> bool {
    // Bytes are C's signed chars here. The ends are ordered before their case is dropped, as in
    // Redis, so that `[Z-a]` ignoring case is empty.
    let (low, high) = (low.cast_signed(), high.cast_signed());
    let (low, high) = (low.min(high), low.max(high));
    let fold = |byte: i8| match case {
        Case::Sensitive => byte,
        Case::Insensitive => byte.cast_unsigned().to_ascii_lowercase().cast_signed(),
    };
    (fold(low)..=fold(high)).contains(&fold(byte.cast_signed()))
}

fn same(literal: u8, byte: u8, case: Case) -> bool {
    match case {
        Case::Sensitive => literal == byte,
        Case::Insensitive => literal.eq_ignore_ascii_case(&byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive)
    }

    fn is_match_ignoring_case(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), Case::Insensitive)
    }

    #[test]
    fn stars_take_any_bytes() {
        for (pattern, text) in [
            ("*", "a"),
            ("user:*", "user:"),
            ("user:*", "user:42"),
            ("*:42", "user:42"),
            ("a*b*c", "a-b-b-c"),
            ("**a**", "a"),
            ("a*a", "aa"),
            ("*ab", "aaab"),
        ] {
            assert!(is_match(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a*a", "a"), ("a*b", "abc"), ("*a", "b"), ("a*b*c", "acb")] {
            assert!(!is_match(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn an_empty_text_matches_only_an_empty_pattern() {
        assert!(is_match("", ""));
        assert!(!is_match("*", ""));
        assert!(!is_match("", "a"));
    }

    #[test]
    fn a_class_takes_one_byte() {
        assert!(is_match("h[ae]llo", "hallo"));
        assert!(!is_match("h[ae]llo", "hillo"));
        assert!(is_match("h[^e]llo", "hallo"));
        assert!(!is_match("h[^e]llo", "hello"));
        assert!(is_match("[a-c]", "b") && is_match("[c-a]", "b"));
        assert!(!is_match("[a-c]", "d"));
        assert!(is_match("[a\\]b]", "]"));
        assert!(!is_match("[]", "a"));
        assert!(is_match("[^]", "a"));
        assert!(is_match("[-a]", "-"));
    }

    #[test]
    fn an_unterminated_class_ends_with_the_pattern() {
        assert!(is_match("[abc", "b"));
        assert!(is_match("x[^abc", "xd"));
        assert!(!is_match("[", "a"));
        assert!(is_match("[^", "a"));
        assert!(is_match("[\\", "\\"));
        assert!(is_match("[a-]", "_"), "a range up to ], and no end");
    }

    #[test]
    fn a_backslash_takes_the_next_byte_as_it_is() {
        assert!(is_match("\\*", "*"));
        assert!(!is_match("\\*", "a"));
        assert!(is_match("a\\", "a\\"), "a last backslash is itself");
        assert!(is_match("\\\\", "\\"));
    }

    #[test]
    fn ranges_compare_bytes_as_signed() {
        assert!(matches(b"[\x80-a]", b"\0", Case::Sensitive));
        assert!(!matches(b"[a-\xff]", b"z", Case::Sensitive));
        assert!(matches(b"[a-\xff]", b"A", Case::Sensitive));
    }

    #[test]
    fn case_is_ignored_on_request() {
        assert!(is_match_ignoring_case("MAX*", "maxmemory"));
        assert!(!is_match("MAX*", "maxmemory"));
        assert!(is_match_ignoring_case("[A-C][x]", "bX"));
        assert!(
            !is_match_ignoring_case("[\\A]", "a"),
            "an escape in a class is exact"
        );
        assert!(is_match_ignoring_case("\\A", "a"));
        assert!(!is_match_ignoring_case("[Z-a]", "z"));
    }

    #[test]
    fn many_stars_cost_no_more_than_one() {
        // Backing up to every star would not end.
        let pattern = "a*".repeat(5_000) + "b";
        assert!(!is_match(&pattern, &"a".repeat(50_000)));
    }

    proptest! {
        #[test]
        fn the_answers_are_those_of_full_backtracking(
            pattern in "[ab*?\\[\\]^\\\\-]{0,10}",
            text in "[abA^*\\]\\\\-]{0,8}",
            is_sensitive: bool,
        ) {
            let case = if is_sensitive { Case::Sensitive } else { Case::Insensitive };
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            let expected = if text.is_empty() {
                pattern.is_empty()
            } else {
                matches_by_trying_everything(pattern, text, case)
            };
            prop_assert_eq!(matches(pattern, text, case), expected);
        }
    }

    /// The definition: a star takes nothing, or one byte and then again.
    fn matches_by_trying_everything(pattern: &[u8], text: &[u8], case: Case) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => {
                matches_by_trying_everything(rest, text, case)
                    || (!text.is_empty() && matches_by_trying_everything(pattern, &text[1..], case))
            }
            _ => match_one(pattern, text, case)
                .is_some_and(|(pattern, text)| matches_by_trying_everything(pattern, text, case)),
        }
    }
}
