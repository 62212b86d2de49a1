//! Flags, environment and file.

use super::*;

#[test]
fn without_anything_the_server_runs_on_redis_s_port_of_this_machine() {
    let config = start(&[], &[]).unwrap();
    assert_eq!(
        (config.port, value(&config, "bind").as_str()),
        (6379, "127.0.0.1 -::1")
    );
    assert_eq!(config.maxmemory_policy, MaxmemoryPolicy::AllkeysTinylfu);
    assert_eq!(config.file(), None);
    assert_eq!(config, Config::default());
}

#[test]
fn half_of_the_machine_s_memory_is_the_default_bound_and_0_is_none() {
    let half = memory_limit_of_machine().unwrap() / 2;
    assert_eq!(Config::default().maxmemory, half);
    assert_eq!(start(&["--maxmemory", "0"], &[]).unwrap().maxmemory, 0);
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let file = TomlFile::with("port = 1\ntimeout = 1\nhz = 1\n");
    let variables = [("CORRAL_PORT", "2"), ("CORRAL_TIMEOUT", "2")];
    let config = file.start(&["--port", "3"], &variables).unwrap();
    let seconds = config.timeout.as_secs();
    assert_eq!(
        (config.port, seconds, value(&config, "hz").as_str()),
        (3, 2, "1")
    );
    assert_eq!(config.file(), Some(file.0.as_path()));
}

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key() {
    for setting in SETTINGS {
        let (name, text) = (setting.name, unusual(setting));
        let file = TomlFile::with(&format!("{name} = '{text}'\n"));
        let starts = [
            start(&[&format!("--{name}={text}")], &[]),
            start(&[], &[(&setting.variable(), text)]),
            file.start(&[], &[]),
        ];
        let mut expected = Config::default();
        setting.assign(&mut expected, text).unwrap();
        for config in starts {
            match (config, expected.conflict()) {
                (Ok(config), _) => assert_eq!(setting.value(&config), setting.value(&expected)),
                // It was read, but is of no use alone.
                (Err(error), Some(conflict)) => assert_eq!(error, conflict.why()),
                (Err(error), None) => panic!("{name}: {error}"),
            }
        }
    }
}

#[test]
fn a_file_may_use_toml_s_own_types() {
    let file = TomlFile::with(
        "protected-mode = false\nmaxmemory = 100_000\nunixsocketperm = 0o700\n\
         bind = ['127.0.0.1', '-::1']\nlatency-tracking-info-percentiles = [50, 99.9]\n\
         requirepass = \"p\\u0000q\"\n",
    );
    let config = file.start(&[], &[]).unwrap();
    assert!(!config.protected_mode);
    assert_eq!(config.maxmemory, 100_000);
    assert_eq!(config.unixsocketperm, 0o700);
    assert_eq!(
        config.bind,
        [
            BindAddress::required("127.0.0.1"),
            BindAddress::optional("::1")
        ]
    );
    assert_eq!(config.latency_tracking_info_percentiles, [50.0, 99.9]);
    assert_eq!(config.requirepass, "p\0q");
}

#[test]
fn a_bad_value_is_refused_with_its_place_and_what_would_be_right() {
    assert_eq!(
        start(&["--port", "65536"], &[]).unwrap_err(),
        "--port: \"65536\" is not a whole number from 0 to 65535"
    );
    assert_eq!(
        start(&[], &[("CORRAL_LOGLEVEL", "warn")]).unwrap_err(),
        "CORRAL_LOGLEVEL: \"warn\" is not one of debug, verbose, notice, warning; did you mean \
         warning?"
    );
    assert_eq!(
        TomlFile::with("port = 1\nmaxmemory = \"1 GB\" # all\n").refusal(),
        "corral.toml:2: \"1 GB\" is not a number of bytes from 0, such as 100mb or 2gb\n  \
         2 | maxmemory = \"1 GB\" # all"
    );
    assert_eq!(
        TomlFile::with("requirepass = 12345\n").refusal(),
        "corral.toml:1: expected text, found a TOML integer\n  1 | requirepass = ..."
    );
}

#[test]
fn a_message_shows_no_more_than_100_characters_of_a_line() {
    let line = format!("bind = '{}'", ",".repeat(1000));
    let error = TomlFile::with(&line).refusal();
    let excerpt = format!("  1 | {}", &line[..100]);
    assert_eq!(error.lines().last(), Some(excerpt.as_str()));
}

#[test]
fn an_unknown_name_is_refused_with_the_one_that_was_meant() {
    let flag = start(&["--maxmemory-polcy", "noeviction"], &[]).unwrap_err();
    assert!(
        flag.starts_with("unexpected argument '--maxmemory-polcy' found"),
        "{flag}"
    );
    assert!(flag.contains("'--maxmemory-policy'"), "{flag}");
    assert_eq!(
        start(&[], &[("CORRAL_MAX_MEMORY", "1gb")]).unwrap_err(),
        "CORRAL_MAX_MEMORY: there is no such setting; did you mean CORRAL_MAXMEMORY?"
    );
    assert_eq!(
        TomlFile::with("\nmax_memory = 1\n").refusal(),
        "corral.toml:2: there is no such setting; did you mean maxmemory?\n  2 | max_memory = 1"
    );
    assert_eq!(
        TomlFile::with("[quite.another]\nthing = 1\n").refusal(),
        "corral.toml:1: there is no such setting\n  1 | [quite.another]"
    );
}

#[test]
fn rules_and_origins_come_with_the_settings_and_stop_the_start_when_they_are_wrong() {
    let file = TomlFile::with("port = 1\n[[rule]]\nmatch = 'user:*'\nlease = '2s'\n");
    let config = file.start(&[], &[]).unwrap();
    assert_eq!(config.rules().rules[0].pattern, "user:*");
    assert_eq!(*load_rules(&file.0).unwrap(), *config.rules());
    fs::write(
        &file.0,
        "port = 1\n[[rule]]\nmatch = 'user:*'\nlaese = '2s'\n",
    )
    .unwrap();
    assert_eq!(
        file.refusal(),
        "corral.toml:4: laese: there is no such setting here; did you mean lease?\n  \
         4 | laese = '2s'"
    );
    assert!(load_rules(&file.0).is_err());
    fs::write(&file.0, "port = 'many'\n").unwrap();
    let error = load_rules(&file.0).unwrap_err().to_string();
    assert!(error.contains("corral.toml:1: \"many\" is not"), "{error}");
}

#[test]
fn a_line_that_may_have_a_secret_in_it_is_not_shown() {
    let origin = "[[origin]]\nname = 'o'\nkind = 'http'\nurl = 'http://h/'\n";
    for line in [
        "bearer-token = 'hunter2",
        "password = hunter2",
        "headers = { x = 'hunter2 }",
        "basic-auth = ['u:hunter2']",
        "bearer-token = ['hunter2']",
        "headers = { a = 'x', b = ['hunter2'] }",
        "url2 = 'http://u:hunter2@h/'",
    ] {
        let error = TomlFile::with(&format!("{origin}{line}\n")).refusal();
        assert!(error.starts_with("corral.toml:5: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_the_line() {
    let error = TomlFile::with("port = 1\nbind 127.0.0.1\n").refusal();
    assert!(error.starts_with("corral.toml:2: "), "{error}");
    assert!(error.ends_with("\n  2 | bind 127.0.0.1"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let error = start(&["--config", "/nowhere/corral.toml"], &[]).unwrap_err();
    assert_eq!(error, "/nowhere/corral.toml: No such file or directory");
}

#[test]
fn a_setting_may_not_stand_in_the_file_under_both_of_its_names() {
    let error =
        TomlFile::with("hash-max-ziplist-entries = 1\nhash-max-listpack-entries = 2\n").refusal();
    assert!(
        error.starts_with("corral.toml:1: hash-max-listpack-entries is set too"),
        "{error}"
    );
}

#[test]
fn variables_of_kubernetes_and_empty_ones_are_left_alone() {
    let variables = [
        ("CORRAL_PORT", "tcp://10.0.0.1:6379"),
        ("CORRAL_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
        ("CORRAL_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("CORRAL_SERVICE_HOST", "10.0.0.1"),
        ("CORRAL_SERVICE_PORT", "6379"),
        ("CORRAL_SERVICE_PORT_REDIS", "6379"),
        ("CORRAL_ADMIN_PORT", "tcp://10.0.0.2:80"),
        ("CORRAL_MAXMEMORY", ""),
        ("HOME", "/"),
    ];
    assert_eq!(start(&[], &variables).unwrap(), Config::default());
}

#[test]
fn a_variable_is_named_in_capitals() {
    let error = start(&[], &[("CORRAL_port", "1")]).unwrap_err();
    assert_eq!(
        error,
        "CORRAL_port: there is no such setting; did you mean CORRAL_PORT?"
    );
}

#[test]
fn redis_s_own_flags_for_a_cache_are_taken_and_those_for_a_database_refused() {
    start(&["--save", "", "--appendonly", "no"], &[]).unwrap();
    assert_eq!(
        start(&["--appendonly", "yes"], &[]).unwrap_err(),
        "--appendonly: \"yes\" is not supported by corral, which only has 'no': Nothing is written \
         to disk."
    );
    assert_eq!(
        start(&["--appendonly", "on"], &[]).unwrap_err(),
        "--appendonly: \"on\" is not yes or no"
    );
}

#[test]
fn values_that_begin_with_a_dash_are_values() {
    let flags = ["--bind", "-::1", "--slowlog-log-slower-than", "-1"];
    let config = start(&flags, &[]).unwrap();
    assert_eq!(config.bind, [BindAddress::optional("::1")]);
    assert_eq!(config.slowlog_log_slower_than, None);
}

#[test]
fn settings_that_do_not_go_together_stop_the_start() {
    let refusal = |flags: &[&str]| start(flags, &[]).unwrap_err();
    assert!(refusal(&["--port", "0"]).starts_with("nothing to listen on"));
    assert!(refusal(&["--bind", ""]).starts_with("nothing to listen on"));
    start(&["--port", "0", "--unixsocket", "c.sock"], &[]).unwrap();
    assert_eq!(
        refusal(&["--tls-port", "1"]),
        "tls-port needs tls-cert-file"
    );
    let tls = ["--tls-port", "1", "--tls-cert-file", "c"];
    assert_eq!(refusal(&tls), "tls-port needs tls-key-file");
    let tls = [&tls[..], &["--tls-key-file", "k"]].concat();
    assert!(refusal(&tls).starts_with("tls-auth-clients needs tls-ca-cert-file"));
    start(&[&tls[..], &["--tls-auth-clients", "no"]].concat(), &[]).unwrap();
    start(&[&tls[..], &["--tls-ca-cert-dir", "d"]].concat(), &[]).unwrap();
    assert!(refusal(&["--upstream-tls-key-file", "k"]).ends_with("need each other"));
}

#[test]
fn help_version_and_check_are_texts_for_main_to_print() {
    let Ok(Invocation::Help(short)) = invoke(&["-h"], &[]) else {
        panic!()
    };
    let Ok(Invocation::Help(long)) = invoke(&["--help"], &[]) else {
        panic!()
    };
    let Ok(Invocation::Version(version)) = invoke(&["--version"], &[]) else {
        panic!()
    };
    assert_eq!(
        version.trim(),
        concat!("corral ", env!("CARGO_PKG_VERSION"))
    );
    for setting in SETTINGS {
        assert!(
            long.contains(&format!("--{} <", setting.name)),
            "{}",
            setting.name
        );
    }
    assert!(short.lines().count() < 80);
    assert!(!long.contains("--appendonly"));
    assert!(matches!(
        invoke(&["--check-config"], &[]),
        Ok(Invocation::Check(_))
    ));
    assert!(invoke(&["--check-config", "--port", "x"], &[]).is_err());
}

#[test]
fn secrets_are_not_shown_for_debugging() {
    let config = start(
        &["--requirepass", "s3cret", "--upstream", "redis://:s3cret@h"],
        &[],
    );
    assert!(!format!("{:?}", config.unwrap()).contains("s3cret"));
}
