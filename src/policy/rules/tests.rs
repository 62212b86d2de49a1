//! Matching, beside a regular expression of the same meaning and beside the glob of commands.

use proptest::prelude::*;

use super::*;
use crate::config::rules;

fn rule_set(text: &str) -> RuleSet {
    RuleSet::build(&rules::parse(text).unwrap()).unwrap()
}

fn one(pattern: &str) -> RuleSet {
    rule_set(&format!("[[rule]]\nmatch = '{pattern}'\n"))
}

/// What the stars catch of a key; `None`: it does not match.
fn caught(pattern: &str, key: &str) -> Option<Vec<String>> {
    let rules = one(pattern);
    let rule = rules.find(key.as_bytes())?;
    let text = |bytes: &&[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(rule.captures(key.as_bytes()).iter().map(text).collect())
}

#[test]
fn stars_catch_the_fewest_bytes_from_the_left_and_the_last_what_is_left() {
    let cases: &[(&str, &str, Option<&[&str]>)] = &[
        ("user:*", "user:42", Some(&["42"])),
        ("user:*", "user:", Some(&[""])),
        ("user:*", "users:42", None),
        ("user:42", "user:42", Some(&[])),
        ("user:42", "user:421", None),
        ("a:*:*", "a:1:2:3", Some(&["1", "2:3"])),
        ("a:*:*:z", "a:1:z:2:z", Some(&["1", "z:2"])),
        ("*:name", "a:name:name", Some(&["a:name"])),
        ("*ab*", "aabab", Some(&["a", "ab"])),
        ("*ab*ab", "abab", Some(&["", ""])),
        ("*ab*ab", "aab", None),
        ("**", "ab", Some(&["", "ab"])),
        ("*", "", Some(&[""])),
        ("?:*", "x:1", Some(&["1"])),
        ("*:[0-9]*", "a:b:1c", Some(&["a:b", "c"])),
        ("[^a]*", "ab", None),
        ("\\*:*", "*:1", Some(&["1"])),
        ("*", "a\nb", Some(&["a\nb"])),
    ];
    for (pattern, key, expected) in cases {
        let expected = expected.map(|parts| parts.iter().map(|&part| part.to_owned()).collect());
        assert_eq!(caught(pattern, key), expected, "{pattern} {key}");
    }
}

#[test]
fn the_first_rule_that_matches_is_the_key_s() {
    let rules = rule_set(
        "[[rule]]\nmatch = 'a:b:*'\n[[rule]]\nmatch = 'a:*'\n[[rule]]\nname = 'all'\nmatch = '*'\n",
    );
    let name = |key: &[u8]| rules.find(key).map(|rule| rule.spec.name.clone());
    assert_eq!(name(b"a:b:c").as_deref(), Some("a:b:*"));
    assert_eq!(name(b"a:c").as_deref(), Some("a:*"));
    assert_eq!(name(b"\xff").as_deref(), Some("all"));
    assert_eq!(rules.rules()[2].index, 2);
    assert!(RuleSet::default().find(b"a").is_none() && RuleSet::default().is_empty());
}

#[test]
fn rules_share_their_origin() {
    let rules = rule_set(
        "[[origin]]\nname = 'o'\nkind = 'command'\nload = ['true']\n\
         [[rule]]\nmatch = 'a'\norigin = 'o'\n[[rule]]\nmatch = 'b'\norigin = 'o'\n",
    );
    let of = |key: &[u8]| rules.find(key).unwrap().origin.clone().unwrap();
    assert!(Arc::ptr_eq(&of(b"a"), &of(b"b")));
    assert_eq!(rules.origins().len(), 1);
}

#[test]
fn what_an_origin_needs_and_is_not_there_is_said_with_its_name() {
    let text = "[[origin]]\nname = 'o'\nkind = 'http'\nurl = 'http://h/'\n\
                bearer-token = 'env:CORRAL_NO_SUCH_VARIABLE'\n";
    let built = RuleSet::build(&rules::parse(text).unwrap());
    let expected = "origin \"o\": the variable CORRAL_NO_SUCH_VARIABLE is not set";
    assert_eq!(built.err().as_deref(), Some(expected));
}

#[test]
fn tags_are_filled_in() {
    let rules = rule_set("[[rule]]\nmatch = 'a:*:*'\ntags = ['x', 'a:{2}', '{key}']\n");
    let rule = rules.find(b"a:1:2").unwrap();
    assert_eq!(rule.tags_of(b"a:1:2"), [&b"x"[..], b"a:2", b"a:1:2"]);
}

/// A regular expression of the same meaning.
fn regex_of(pattern: &str) -> regex::bytes::Regex {
    let mut text = String::from("(?s-u)\\A");
    let all = tokens(pattern.as_bytes());
    let last_star = all.iter().rposition(|token| *token == Token::Star);
    for (index, token) in all.iter().enumerate() {
        match token {
            Token::Star if Some(index) == last_star => text.push_str("(.*)"),
            Token::Star => text.push_str("(.*?)"),
            Token::Any => text.push('.'),
            Token::Byte(byte) => text.push_str(&format!("\\x{byte:02x}")),
            Token::Class(class) => {
                let bytes = (0..=255_u8).filter(|byte| class[usize::from(*byte)]);
                let bytes: String = bytes.map(|byte| format!("\\x{byte:02x}")).collect();
                // An empty class matches nothing.
                let class = if bytes.is_empty() {
                    "[^\\x00-\\xff]".to_owned()
                } else {
                    format!("[{bytes}]")
                };
                text.push_str(&class);
            }
        }
    }
    text.push_str("\\z");
    regex::bytes::Regex::new(&text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn patterns_match_and_catch_as_regular_expressions_do(
        pattern in "[ab:*?\\\\\\[\\]^-]{1,10}",
        key in "[ab:*-]{0,14}",
    ) {
        let expected = regex_of(&pattern).captures(key.as_bytes()).map(|captures| {
            let groups = captures.iter().skip(1);
            groups.map(|group| group.unwrap().as_bytes().to_vec()).collect::<Vec<_>>()
        });
        let rule = Pattern::new(pattern.as_bytes());
        let mut found = Vec::new();
        let is_match = rule.run(key.as_bytes(), |part| found.push(part.to_vec()));
        prop_assert_eq!(is_match.then_some(found), expected);
    }

    #[test]
    fn patterns_match_as_those_of_commands_do(
        pattern in "[ab:*?\\\\\\[\\]^-]{1,10}",
        // The commands' glob takes no empty text for a match.
        key in "[ab:*-]{1,14}",
    ) {
        use crate::command::glob::{Case, matches};
        let rule = Pattern::new(pattern.as_bytes());
        let expected = matches(pattern.as_bytes(), key.as_bytes(), Case::Sensitive);
        prop_assert_eq!(rule.matches(key.as_bytes()), expected);
    }
}
