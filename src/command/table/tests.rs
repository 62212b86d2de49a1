//! The table beside Redis's own description, and what is derived from its rows.

use super::*;

/// What redis-server 7.0.15 replies to COMMAND, one line per command:
/// name, arity, flags, first key, last key, step, ACL categories.
const REDIS: &str = include_str!("../../../tests/fixtures/command_7.0.15.txt");

fn fixture_line(command: &Command) -> String {
    let flags: Vec<_> = command.flags.without(Flags::HIDDEN).names().collect();
    let flags = if flags.is_empty() {
        String::from("-")
    } else {
        flags.join(",")
    };
    let categories: Vec<_> = command.categories.names().collect();
    let Keys { first, last, step } = command.keys;
    let (name, arity) = (command.name, command.arity.number());
    format!(
        "{name} {arity} {flags} {first} {last} {step} {}",
        categories.join(",")
    )
}

#[test]
fn every_command_of_redis_is_known_as_redis_describes_it() {
    let ours = |command: &&Command| !docs::OURS.iter().any(|docs| docs.name == command.name);
    let described: Vec<_> = COMMANDS.iter().filter(ours).map(fixture_line).collect();

    assert_eq!(described, REDIS.lines().collect::<Vec<_>>());
}

#[test]
fn a_command_is_found_at_its_index() {
    for (index, command) in COMMANDS.iter().enumerate() {
        assert_eq!(command.index(), index);
    }
}

#[test]
fn a_container_has_its_subcommands_and_nothing_else_has_any() {
    let config: Vec<_> = COMMANDS
        .iter()
        .find(|command| command.name == "config")
        .map(|config| config.subcommands().iter().map(Command::own_name).collect())
        .unwrap();

    assert_eq!(config, ["get", "help", "resetstat", "rewrite", "set"]);
    for command in &COMMANDS {
        assert!(
            command
                .subcommands()
                .iter()
                .all(|sub| sub.container_name() == command.name)
        );
        assert!(!(command.is_container() && command.is_subcommand()));
    }
    let subcommands: usize = top_level().map(|command| command.subcommands().len()).sum();
    assert_eq!(top_level().count() + subcommands, COMMAND_COUNT);
}

#[test]
fn only_what_depends_on_nothing_but_its_keys_is_cached() {
    let cacheable = |name: &str| {
        COMMANDS
            .iter()
            .any(|command| command.name == name && command.cacheable)
    };

    for name in [
        "get",
        "mget",
        "exists",
        "strlen",
        "hgetall",
        "zrange",
        "geosearch",
    ] {
        assert!(cacheable(name), "{name} is cached");
    }
    // Time, chance, cursors, other keys, the server's state, the version, writes.
    for name in [
        "ttl",
        "expiretime",
        "object|idletime",
        "touch",
        "randomkey",
        "srandmember",
        "hrandfield",
        "zrandmember",
        "scan",
        "sscan",
        "sort_ro",
        "keys",
        "dbsize",
        "dump",
        "memory|usage",
        "xread",
        "xpending",
        "xinfo|stream",
        "eval_ro",
        "fcall_ro",
        "getex",
        "getdel",
        "getset",
        "pfcount",
    ] {
        assert!(!cacheable(name), "{name} is not cached");
    }
    for command in COMMANDS.iter().filter(|command| command.cacheable) {
        assert!(
            command.flags.contains(READ) && command.has_keys(),
            "{}",
            command.name
        );
        assert!(
            !command.flags.intersects(WRITE.and(BLOCKING)),
            "{}",
            command.name
        );
        assert!(
            !command.tips().contains(&"nondeterministic_output"),
            "{}",
            command.name
        );
    }
}

#[test]
fn what_we_run_ourselves_is_marked_as_such() {
    let standalone = |name: &str| {
        COMMANDS
            .iter()
            .any(|command| command.name == name && command.is_standalone())
    };

    assert!(standalone("get") && standalone("config|get") && standalone("config"));
    assert!(!standalone("sentinel") && !standalone("cluster") && !standalone("migrate"));
}
