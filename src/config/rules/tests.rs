//! Rules and origins as an operator writes them: what is read, and what is refused in which words.

use super::*;
use template::{Allowed, Part, Place, Type};

const COMMAND: &str = "[[origin]]\nname = 'c'\nkind = 'command'\nload = ['true', '{1}']\n";

/// The error of a file, without the line that is shown.
fn refusal(text: &str) -> String {
    let error = parse(text).unwrap_err();
    format!("{}: {}", error.line, error.why)
}

#[test]
fn a_file_without_them_has_none() {
    assert_eq!(parse("port = 1\n").unwrap(), Rules::default());
}

#[test]
fn a_rule_has_defaults() {
    let rules = parse("[[rule]]\nmatch = 'a*'\n").unwrap();
    let rule = &rules.rules[0];
    assert_eq!((rule.name.as_str(), rule.pattern.as_str()), ("a*", "a*"));
    assert_eq!(
        (rule.ttl, rule.near_ttl, rule.origin.as_deref()),
        (None, None, None)
    );
    assert_eq!(
        (rule.timeout.as_millis(), rule.negative_ttl.as_secs()),
        (2000, 5)
    );
    assert_eq!(
        (rule.error_ttl.as_millis(), rule.lease.as_millis()),
        (500, 0)
    );
    assert_eq!(
        (rule.write, rule.coalesce_across),
        (WriteMode::Around, false)
    );
    assert!((rule.beta - 1.0).abs() < f64::EPSILON && rule.jitter.abs() < f64::EPSILON);
}

#[test]
fn the_example_of_the_documentation_is_read() {
    let text = "\
        [[origin]]\nname = 'users'\nkind = 'http'\nurl = 'http://127.0.0.1:8000/users/{1}'\n\
        [[rule]]\nmatch = 'user:*'\norigin = 'users'\nttl = '5m'\nnear-ttl = '30s'\nbeta = 1.0\n\
        stale-while-revalidate = '30s'\nstale-if-error = '10m'\nsoft-timeout = '100ms'\n\
        timeout = '2s'\nnegative-ttl = '5s'\nerror-ttl = '500ms'\njitter = 0.1\nlease = '0ms'\n\
        tags = ['user:{1}']\nwrite = 'through'\n";
    let rules = parse(text).unwrap();
    let rule = &rules.rules[0];
    assert_eq!(rule.ttl, Some(Duration::from_secs(300)));
    assert_eq!(rule.stale_if_error, Duration::from_secs(600));
    assert_eq!(rule.write, WriteMode::Through);
    let OriginKind::Http(http) = &rules.origins[0].kind else {
        panic!("an HTTP origin");
    };
    assert_eq!(http.absent_status, [404, 410]);
    assert_eq!(http.store_method.as_deref(), Some("PUT"));
}

/// Rules, and what is said of them.
const WRONG_RULES: &[(&str, &str)] = &[
    ("[[rule]]\n", "1: [[rule]]: match is missing"),
    ("[[rule]]\nmatch = ''\n", "2: match: may not be empty"),
    ("[[rule]]\nmatch = 1\n", "2: match: 1 is not a text"),
    (
        "[rule]\nmatch = 'a'\n",
        "1: rule must be written as tables: [[rule]]",
    ),
    ("rule = 1\n", "1: rule must be written as tables: [[rule]]"),
    (
        "[[rule]]\nmatch = 'a'\nnear-tl = '1s'\n",
        "3: near-tl: there is no such setting here; did you mean near-ttl?",
    ),
    (
        "[[rule]]\nmatch = 'a'\nzzz = '1s'\n",
        "3: zzz: there is no such setting here",
    ),
    (
        "[[rule]]\nmatch = 'a'\nttl = '0s'\n",
        "3: ttl: must be more than 0",
    ),
    (
        "[[rule]]\nmatch = 'a'\nbeta = -1\n",
        "3: beta: -1 is not a number from 0 to 100",
    ),
    (
        "[[rule]]\nmatch = 'a'\nbeta = nan\n",
        "3: beta: nan is not a number from 0 to 100",
    ),
    (
        "[[rule]]\nmatch = 'a'\njitter = 0.6\n",
        "3: jitter: 0.6 is not a number from 0 to 0.5",
    ),
    (
        "[[rule]]\nmatch = 'a'\nwrite = 'trough'\n",
        "3: write: \"trough\" is not one of around, through; did you mean \"through\"?",
    ),
    (
        "[[rule]]\nmatch = 'a'\nwrite = 'through'\n",
        "3: write: \"through\" needs an origin",
    ),
    (
        "[[rule]]\nmatch = 'a'\norigin = 'u'\n",
        "3: origin: there is no origin \"u\"",
    ),
    (
        "[[rule]]\nmatch = 'a'\n[[rule]]\nmatch = 'a'\n",
        "4: match: there is another rule \"a\"",
    ),
    (
        "[[rule]]\nmatch = 'a'\ntags = 'x'\n",
        "3: tags: \"x\" is not a list of texts",
    ),
    (
        "[[rule]]\nmatch = 'a'\ntags = [1]\n",
        "3: tags: [1] is not a list of texts",
    ),
    (
        "[[rule]]\nmatch = 'a*'\ntags = ['{2}']\n",
        "3: tags: {2} is asked for, and the match has 1 stars",
    ),
    (
        "[[rule]]\nmatch = 'a'\n[rule.ttl]\nx = 1\n",
        "3: ttl: expected a duration such as \"250ms\", \"2s\", \"5m\", \"1h\" or \"7d\", found \
         a TOML table",
    ),
];

#[test]
fn what_is_wrong_with_a_rule_is_said_with_its_line() {
    for (text, expected) in WRONG_RULES {
        assert_eq!(refusal(text), *expected, "{text}");
    }
    let long = format!("[[rule]]\nmatch = '{}'\n", "a".repeat(4097));
    assert_eq!(refusal(&long), "2: match: is longer than 4096 bytes");
}

#[test]
fn what_is_wrong_between_a_rule_and_its_origin_is_said() {
    let cases = [
        (
            "match = 'a'\norigin = 'c'\n",
            "6: match: the origin \"c\": {1} is asked for, and the match has 0 stars",
        ),
        (
            "match = 'a\\*'\norigin = 'c'\n",
            "6: match: the origin \"c\": {1} is asked for, and the match has 0 stars",
        ),
        (
            "match = 'a[*]'\norigin = 'c'\n",
            "6: match: the origin \"c\": {1} is asked for, and the match has 0 stars",
        ),
        (
            "match = 'a*'\norigin = 'cc'\n",
            "7: origin: there is no origin \"cc\"; did you mean \"c\"?",
        ),
        (
            "match = 'a*'\norigin = 'c'\nwrite = 'through'\n",
            "8: write: the origin \"c\" has no way to store",
        ),
    ];
    for (rule, expected) in cases {
        assert_eq!(
            refusal(&format!("{COMMAND}[[rule]]\n{rule}")),
            expected,
            "{rule}"
        );
    }
    let twice = format!("{COMMAND}{COMMAND}");
    assert_eq!(refusal(&twice), "6: name: there is another origin \"c\"");
}

const HTTP: &str = "kind = 'http'\nurl = 'http://h/{1}'\n";
const SQL: &str = "kind = 'postgres'\nurl = 'postgres://h/d'\nload = 'SELECT {1}'\n";
const CAT: &str = "kind = 'command'\nload = ['cat', '{1}']\n";
const REDIS: &str = "kind = 'redis'\nurl = 'redis://h'\n";

/// Origins, in two parts, and what is said of them.
const WRONG_ORIGINS: &[(&str, &str, &str)] = &[
    ("", "", "1: [[origin]]: kind is missing"),
    (
        "",
        "kind = 'htp'\n",
        "3: kind: \"htp\" is not one of http, postgres, mysql, sqlite, command, redis; did you \
         mean \"http\"?",
    ),
    ("", "kind = 'http'\n", "1: [[origin]]: url is missing"),
    (
        "",
        "kind = 'http'\nurl = 'ftp://h/'\n",
        "4: url: does not begin with http:// or https://",
    ),
    (
        "",
        "kind = 'http'\nurl = '{1}'\n",
        "4: url: does not begin with http:// or https://",
    ),
    (
        "",
        "kind = 'http'\nurl = 'http://{1}/x'\n",
        "4: url: a place can stand in the path or the query only",
    ),
    (
        "",
        "kind = 'http'\nurl = 'http://h{1}'\n",
        "4: url: a place can stand in the path or the query only",
    ),
    (
        "",
        "kind = 'http'\nurl = 'http://h/{1}#x'\n",
        "4: url: a fragment (#) is never sent: write %23",
    ),
    (
        "",
        "kind = 'http'\nurl = 'http:///'\n",
        "4: url: is no URL: empty host",
    ),
    (
        "",
        "kind = 'http'\nurl = 'http://h/{10}'\n",
        "4: url: {10}: the places are {0} or {key}, and {1} to {9}; {{ and }} are braces",
    ),
    (
        "",
        "kind = 'http'\nurl = 'http://h/{1:int}'\n",
        "4: url: {1:int}: only SQL statements have types",
    ),
    (
        "",
        "kind = 'http'\nurl = 'http://h/{'\n",
        "4: url: a brace alone: {{ and }} are braces",
    ),
    (
        HTTP,
        "headers = { host = 'x' }\n",
        "5: headers: host: cannot be set",
    ),
    (
        HTTP,
        "headers = { 'a b' = 'x' }\n",
        "5: headers: a b: cannot be set",
    ),
    (
        HTTP,
        "headers = { a = 'é' }\n",
        "5: headers: a: may have visible ASCII in it only",
    ),
    (
        HTTP,
        "headers = { a = 1 }\n",
        "5: headers: the value is not a table of texts such as { accept = \"text/plain\" }",
    ),
    (
        HTTP,
        "headers = 1\n",
        "5: headers: expected a table of texts such as { accept = \"text/plain\" }, found a \
         TOML integer",
    ),
    (
        HTTP,
        "store-method = 'put it'\n",
        "5: store-method: is not a method such as PUT, or none",
    ),
    (
        HTTP,
        "basic-auth = 'a:b'\nbearer-token = 'x'\n",
        "6: bearer-token: basic-auth is set too, and there can be only one",
    ),
    (
        HTTP,
        "tls-cert-file = 'a'\n",
        "5: tls-cert-file: needs tls-key-file",
    ),
    (
        HTTP,
        "absent-status = [404, 600]\n",
        "5: absent-status: [404, 600] is not a list of whole numbers from 100 to 599",
    ),
    (
        HTTP,
        "ttl-from = 'expires'\n",
        "5: ttl-from: \"expires\" is not one of cache-control",
    ),
    (
        HTTP,
        "load = 'x'\n",
        "5: load: there is no such setting here",
    ),
    (
        HTTP,
        "concurrency = 0\n",
        "5: concurrency: 0 is not a whole number from 1 to 1000000",
    ),
    (
        HTTP,
        "queue = -1\n",
        "5: queue: -1 is not a whole number from 0 to 1000000",
    ),
    (
        HTTP,
        "max-value = '1gb'\n",
        "5: max-value: \"1gb\" is not a number of bytes from 0 to 536870912, such as \"1mb\"",
    ),
    (
        HTTP,
        "breaker-open = '0s'\n",
        "5: breaker-open: must be more than 0",
    ),
    (
        "",
        "kind = 'postgres'\nurl = 'mysql://h/d'\nload = 'SELECT 1'\n",
        "4: url: does not begin with postgres:// or postgresql://",
    ),
    (
        "",
        "kind = 'mysql'\nurl = 'mysql://h/d'\n",
        "1: [[origin]]: load is missing",
    ),
    (
        "",
        "kind = 'postgres'\nurl = 'postgres://h/d'\nload = \"SELECT '{1}'\"\n",
        "5: load: write {1}, not '{1}': it is a bind parameter",
    ),
    (
        SQL,
        "delete = 'DELETE {value}'\n",
        "6: delete: {value} stands in SQL's store statements only",
    ),
    (
        SQL,
        "store = 'INSERT {1:float}'\n",
        "6: store: {1:float}: the types are text, int and bytes",
    ),
    (
        "",
        "kind = 'command'\nload = []\n",
        "4: load: must begin with a program, which no place is part of",
    ),
    (
        "",
        "kind = 'command'\nload = ['{1}']\n",
        "4: load: must begin with a program, which no place is part of",
    ),
    (
        "",
        "kind = 'command'\nload = ['/opt/{1}/run']\n",
        "4: load: must begin with a program, which no place is part of",
    ),
    (
        "",
        "kind = 'command'\nload = 'cat {1}'\n",
        "4: load: \"cat {1}\" is not a list of texts",
    ),
    (
        "",
        "kind = 'command'\nload = ['sh', '-c', 'cat {1}']\n",
        "4: load: what follows -c is code: give it {1} as an argument behind, $1 in a shell",
    ),
    (
        "",
        "kind = 'command'\nload = ['/usr/bin/env', 'bash', '-lc', '{key}']\n",
        "4: load: what follows -lc is code: give it {1} as an argument behind, $1 in a shell",
    ),
    (
        "",
        "kind = 'command'\nload = ['python3.11', '-c', 'print({1})']\n",
        "4: load: what follows -c is code: give it {1} as an argument behind, $1 in a shell",
    ),
    (
        CAT,
        "environment = ['=x']\n",
        "5: environment: \"=x\" is neither NAME nor NAME=value",
    ),
    (
        CAT,
        "absent-exit = 0\n",
        "5: absent-exit: 0 is not a whole number from 1 to 255",
    ),
    (CAT, "pool = 1\n", "5: pool: there is no such setting here"),
    (
        REDIS,
        "key = '{value}'\n",
        "5: key: {value} stands in SQL's store statements only",
    ),
    (
        "",
        "kind = 'redis'\nurl = 'http://h'\n",
        "4: url: does not begin with redis:// or rediss:// or unix://",
    ),
];

#[test]
fn what_is_wrong_with_an_origin_is_said_with_its_line() {
    for origin in [HTTP, SQL, CAT, REDIS] {
        assert!(parse(&format!("[[origin]]\nname = 'o'\n{origin}")).is_ok());
    }
    for (origin, more, expected) in WRONG_ORIGINS {
        let text = format!("[[origin]]\nname = 'o'\n{origin}{more}");
        assert_eq!(refusal(&text), *expected, "{text}");
    }
}

#[test]
fn shells_take_keys_as_arguments() {
    let text = "[[origin]]\nname = 'o'\nkind = 'command'\n\
     load = ['sh', '-c', 'cat -- \"$1\"', 'sh', '{1}']\n";
    assert!(parse(text).is_ok());
}

#[test]
fn a_duration_is_a_whole_number_with_a_unit() {
    let cases = [
        ("0", Some(0)),
        ("0ms", Some(0)),
        ("250ms", Some(250)),
        ("2s", Some(2000)),
        ("5m", Some(300_000)),
        ("1h", Some(3_600_000)),
        ("7d", Some(604_800_000)),
        ("36500d", Some(3_153_600_000_000)),
        ("36501d", None),
        ("99999999999999999999s", None),
        ("18446744073709551615m", None),
        ("5", None),
        ("", None),
        ("s", None),
        ("1.5s", None),
        ("-1s", None),
        ("1 s", None),
        ("1S", None),
        ("1us", None),
    ];
    for (text, expected) in cases {
        let expected = expected.map(Duration::from_millis);
        assert_eq!(reader::duration(text), expected, "{text}");
    }
}

#[test]
fn a_template_is_texts_and_places() {
    let parts =
        |text| Template::parse(text, Allowed::TypedCapturesAndValue).map(|t| t.parts().to_vec());
    let text = |text: &str| Part::Text(text.to_owned());
    assert_eq!(parts("").unwrap(), []);
    assert_eq!(parts("a{{b}}").unwrap(), [text("a{b}")]);
    assert_eq!(
        parts("{0}{key}-{9}{value}{1:int}").unwrap(),
        [
            Part::Place(Place::Key, Type::Inferred),
            Part::Place(Place::Key, Type::Inferred),
            text("-"),
            Part::Place(Place::Star(9), Type::Inferred),
            Part::Place(Place::Value, Type::Inferred),
            Part::Place(Place::Star(1), Type::Int),
        ]
    );
    for wrong in [
        "{", "}", "{}", "{10}", "{-1}", "{x}", "{1", "1}", "{1:}", "{{1}", "{1}}",
    ] {
        assert!(parts(wrong).is_err(), "{wrong}");
    }
    let long = "a".repeat(template::TEMPLATE_BYTES_MAX);
    assert!(parts(&long).is_ok());
    assert!(parts(&format!("{long}a")).is_err());
}

#[test]
fn stars_are_counted_where_they_are_stars() {
    let cases: [(&str, u8); 7] = [
        ("", 0),
        ("*", 1),
        ("a*b*", 2),
        ("**", 2),
        ("\\*", 0),
        ("[*]*", 1),
        ("[*", 0),
    ];
    for (pattern, stars) in cases {
        assert_eq!(pattern::stars(pattern.as_bytes()), stars, "{pattern}");
    }
    assert_eq!(pattern::stars("*".repeat(300).as_bytes()), 255);
}

#[test]
fn secrets_are_not_seen_in_what_is_logged() {
    let text = "\
        [[origin]]\nname = 'a'\nkind = 'http'\nurl = 'http://h/'\nbearer-token = 'hunter2'\n\
        headers = { x-key = 'hunter2' }\n\
        [[origin]]\nname = 'b'\nkind = 'postgres'\nurl = 'postgres://u:hunter2@h/d'\n\
         load = 'SELECT 1'\n\
        [[origin]]\nname = 'c'\nkind = 'redis'\nurl = 'redis://:hunter2@h'\npassword = 'hunter2'\n";
    let shown = format!("{:?}", parse(text).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}
