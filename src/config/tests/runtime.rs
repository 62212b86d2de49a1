//! CONFIG GET and CONFIG SET, whose error texts are what Redis 7.0.15 replies.

use std::time::Duration;

use super::*;

#[test]
fn get_knows_names_and_aliases_in_any_case_and_lists_nothing_twice() {
    let config = Config::default();
    let found = |patterns: &[&str]| -> Vec<String> {
        get(&config, patterns)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(found(&["PORT", "port", "nothing"]), ["PORT"]);
    assert_eq!(
        found(&["hash-max-z*"]),
        ["hash-max-ziplist-entries", "hash-max-ziplist-value"]
    );
    assert_eq!(
        found(&["maxmemory-s*", "maxmemory-samples"]),
        ["maxmemory-samples"]
    );
    assert_eq!(found(&["slaveof", "replicaof"]), ["slaveof", "replicaof"]);
    let aliases = settings()
        .filter(|setting| setting.shape.alias.is_some())
        .count();
    assert_eq!(found(&["*"]).len(), settings().count() + aliases);
}

#[test]
fn what_get_prints_set_takes() {
    let config = Config::default();
    for (name, value) in get(&config, &["*"]) {
        if find(&name).unwrap().0.shape.is_mutable {
            assert_eq!(set(&config, &[(&name, &value)]).unwrap(), config, "{name}");
        }
    }
}

#[test]
fn set_replies_with_redis_s_words() {
    let config = Config::default();
    let failed = |name: &str, why: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
    };
    let int = |max: i64| format!("argument must be between 0 and {max} inclusive");
    let cases = [
        ("port", "abc", "argument couldn't be parsed into an integer"),
        ("port", " 1", "argument couldn't be parsed into an integer"),
        ("port", "01", "argument couldn't be parsed into an integer"),
        ("port", "+1", "argument couldn't be parsed into an integer"),
        ("port", "65536", &int(65_535)),
        ("timeout", "-1", &int(2_147_483_647)),
        ("slowlog-max-len", "-1", &int(i64::MAX)),
        (
            "maxclients",
            "0",
            "argument must be between 1 and 4294967295 inclusive",
        ),
        ("maxmemory", "1kbb", "argument must be a memory value"),
        ("maxmemory", "-1", "argument must be a memory value"),
        (
            "proto-max-bulk-len",
            "1",
            "argument must be between 1048576 and 9223372036854775807 inclusive",
        ),
        (
            "maxmemory-clients",
            "200%",
            "percentage argument must be less or equal to 100",
        ),
        (
            "maxmemory-clients",
            "x",
            "argument must be a memory or percent value",
        ),
        ("protected-mode", "x", "argument must be 'yes' or 'no'"),
        (
            "tls-auth-clients",
            "x",
            "argument(s) must be one of the following: no, yes, optional",
        ),
        ("databases", "16", "can't set immutable config"),
        (
            "notify-keyspace-events",
            "Q",
            "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
        ),
        ("save", "1", "Invalid save parameters"),
        (
            "tls-port",
            "1",
            "Unable to update TLS configuration. Check server logs.",
        ),
    ];
    for (name, value, why) in cases {
        assert_eq!(
            set(&config, &[(name, value)]),
            Err(failed(name, why)),
            "{name} {value}"
        );
    }
}

#[test]
fn set_names_the_first_setting_that_is_wrong_names_before_values() {
    let config = Config::default();
    let error = |pairs: &[(&str, &str)]| set(&config, pairs).unwrap_err();
    assert_eq!(
        error(&[("port", "x"), ("foo", "1"), ("databases", "1")]),
        "ERR Unknown option or number of arguments for CONFIG SET - 'foo'"
    );
    assert_eq!(
        error(&[("Databases", "1"), ("foo", "1")]),
        "ERR CONFIG SET failed (possibly related to argument 'Databases') - can't set immutable \
         config"
    );
    assert_eq!(
        error(&[("maxmemory", "1"), ("MAXMEMORY", "x")]),
        "ERR CONFIG SET failed (possibly related to argument 'MAXMEMORY') - duplicate parameter"
    );
    assert_eq!(
        error(&[("TIMEOUT", "x"), ("port", "x")]),
        "ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be \
         parsed into an integer"
    );
    assert_eq!(
        error(&[("a\r\nb", "x")]),
        "ERR Unknown option or number of arguments for CONFIG SET - 'a  b'"
    );
}

#[test]
fn set_changes_all_or_nothing() {
    let config = Config::default();
    let next = set(&config, &[("maxmemory", "1kb"), ("timeout", "5")]).unwrap();
    assert_eq!(
        (next.maxmemory, next.timeout),
        (1024, Duration::from_secs(5))
    );
    let mut expected = config.clone();
    (expected.maxmemory, expected.timeout) = (1024, Duration::from_secs(5));
    assert_eq!(next, expected);
    assert!(set(&config, &[("maxmemory", "1kb"), ("timeout", "x")]).is_err());
}

#[test]
fn an_alias_sets_the_same_and_counts_as_a_name_of_its_own() {
    let pairs = [
        ("hash-max-ziplist-entries", "1"),
        ("hash-max-listpack-entries", "2"),
    ];
    assert_eq!(
        set(&Config::default(), &pairs)
            .unwrap()
            .hash_max_listpack_entries,
        2
    );
}

#[test]
fn tls_can_be_turned_on_while_the_server_runs() {
    let pairs = [
        ("tls-port", "1"),
        ("tls-cert-file", "c"),
        ("tls-key-file", "k"),
        ("tls-ca-cert-file", "a"),
    ];
    assert_eq!(set(&Config::default(), &pairs).unwrap().tls_port, 1);
}

#[test]
fn a_fixed_setting_takes_its_value_and_no_other() {
    let config = Config::default();
    set(
        &config,
        &[
            ("appendonly", "NO"),
            ("save", ""),
            ("lazyfree-lazy-expire", "no"),
        ],
    )
    .unwrap();
    assert_eq!(
        set(&config, &[("save", "900 1")]).unwrap_err(),
        "ERR CONFIG SET failed (possibly related to argument 'save') - not supported by corral, \
         which only has '': Nothing is written to disk."
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let config = Config::default();
    let error = config
        .set(&[(b"requirepass", b"\xff")])
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("argument must be valid UTF-8"), "{error}");
    assert!(matches!(
        config.set(&[(b"\xff", b"1")]),
        Err(SetError::Unknown(_))
    ));
}
