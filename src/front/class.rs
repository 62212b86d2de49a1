//! What the front does with a request, by its row in the command table.

use std::sync::LazyLock;

use crate::command::lookup::{self, LookupError};
use crate::command::spec::{Command, Flags, Group};
use crate::command::table::{COMMAND_COUNT, COMMANDS};
use crate::resp::Request;

/// How a request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// From the near cache: a read of one key.
    Near,
    /// The same of several, one by one: `MGET`.
    NearEach,
    /// Over the shared connection; it writes nothing.
    Plain,
    /// The same, and it writes the keys that it names.
    Writes,
    /// The same, and it may write keys that it does not name.
    Unknown,
    /// The same, and it writes all keys.
    Sweeps,
    /// By the front itself: the state of the client's session.
    Session(Verb),
    /// By the front itself: what it is asked of itself, as standalone (`CORRAL.INFO` …).
    Own,
    /// Over a connection of the request's own: it ends a script that holds up the others.
    Kill,
    /// Over a connection of the client's own.
    Private,
}

/// What a client says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Hello,
    Auth,
    Select,
    SetName,
    GetName,
    SetInfo,
    Reset,
    Quit,
}

/// The command of a request, if it is known, and how it is served.
pub(super) fn classify(request: &Request<'_>) -> (Option<&'static Command>, Class) {
    match lookup::resolve(request) {
        Ok(command) => (Some(command), CLASSES[command.index()]),
        Err(LookupError::UnknownCommand) => (None, Class::Unknown),
        Err(_) if is_own(request) => (None, Class::Own),
        // Upstream may know more of them.
        Err(LookupError::UnknownSubcommand) => (None, Class::Private),
        // The error is upstream's to say.
        Err(LookupError::WrongArity(command)) => match CLASSES[command.index()] {
            Class::Private => (None, Class::Private),
            Class::Unknown => (None, Class::Unknown),
            Class::Near
            | Class::NearEach
            | Class::Plain
            | Class::Writes
            | Class::Sweeps
            | Class::Own
            | Class::Kill
            | Class::Session(_) => (None, Class::Plain),
        },
    }
}

/// Whether a client may have learnt by it what some key holds, or that it has changed.
pub(super) fn tells_of_keys(command: Option<&Command>, class: Class) -> bool {
    let Some(command) = command else {
        return true;
    };
    match class {
        Class::Session(_) | Class::Own | Class::Kill => false,
        Class::Plain => command.has_keys(),
        Class::Private => command.name == "client|tracking" || !is_administration(command),
        Class::Near | Class::NearEach | Class::Writes | Class::Unknown | Class::Sweeps => true,
    }
}

/// Whether upstream holds it back while writes are paused: it writes, or is told to replicas. What
/// is not known may write.
pub(super) fn is_paused_with_writes(command: Option<&Command>, class: Class) -> bool {
    match class {
        Class::Writes | Class::Unknown | Class::Sweeps => true,
        Class::Plain => command.is_some_and(|command| {
            let flags = command.flags;
            flags.contains(Flags::WRITE) || flags.contains(Flags::MAY_REPLICATE)
        }),
        Class::Near
        | Class::NearEach
        | Class::Session(_)
        | Class::Own
        | Class::Kill
        | Class::Private => false,
    }
}

/// Whether it is about the server or about connections only: it writes no key.
pub(super) fn is_administration(command: &Command) -> bool {
    let containers = ["acl", "client", "config", "latency", "slowlog"];
    containers.contains(&command.container_name()) || command.name == "info"
}

/// Whether a request is for this server, whatever stands behind it.
pub(super) fn is_own(request: &Request<'_>) -> bool {
    let name = request.argument(0);
    // Of all names that pass by, few begin with a C or a T and have a point in the middle.
    matches!(name.first(), Some(b'c' | b'C' | b't' | b'T'))
        && name.contains(&b'.')
        && lookup::find(name).is_some_and(|command| command.group() == Group::Corral)
}

static CLASSES: LazyLock<[Class; COMMAND_COUNT]> =
    LazyLock::new(|| std::array::from_fn(|index| class_of(&COMMANDS[index])));

fn class_of(command: &Command) -> Class {
    if let Some(verb) = verb(command.name) {
        return Class::Session(verb);
    }
    if command.group() == Group::Corral {
        return Class::Own;
    }
    let flags = command.flags;
    match command.name {
        "mget" => return Class::NearEach,
        "flushall" | "flushdb" => return Class::Sweeps,
        // While a script runs for too long, upstream still hears others: those behind it on a
        // shared connection it would not.
        "eval" | "evalsha" | "fcall" | "eval_ro" | "evalsha_ro" | "fcall_ro" => {
            return Class::Private;
        }
        "script|kill" | "function|kill" => return Class::Kill,
        // It waits for another server, and for long.
        "migrate" => return Class::Private,
        _ => {}
    }
    // What scripts must not call is about a connection (WATCH) or keeps it waiting.
    let is_bound = flags.contains(Flags::BLOCKING)
        || flags.contains(Flags::ADMIN)
        || flags.contains(Flags::NOSCRIPT);
    let is_about_server = matches!(command.container_name(), "object" | "memory" | "debug");
    if !is_keyless_plain(command) && (is_bound || is_about_server || !command.has_keys()) {
        return Class::Private;
    }
    if flags.contains(Flags::WRITE) {
        Class::Writes
    } else if command.cacheable && command.has_one_key() {
        Class::Near
    } else {
        Class::Plain
    }
}

fn verb(name: &str) -> Option<Verb> {
    Some(match name {
        "hello" => Verb::Hello,
        "auth" => Verb::Auth,
        "select" => Verb::Select,
        "client|setname" => Verb::SetName,
        "client|getname" => Verb::GetName,
        "client|setinfo" => Verb::SetInfo,
        "reset" => Verb::Reset,
        "quit" => Verb::Quit,
        _ => return None,
    })
}

/// Commands without keys that are about the data or the server, not about a connection, and that
/// many may ask for over one.
fn is_keyless_plain(command: &Command) -> bool {
    match command.container_name() {
        "command" | "pubsub" => true,
        "script" => command.name != "script|debug",
        "function" => true,
        name => matches!(
            name,
            "ping"
                | "echo"
                | "time"
                | "dbsize"
                | "randomkey"
                | "keys"
                | "scan"
                | "publish"
                | "spublish"
                | "lolwut"
                | "lastsave"
                // A server that is no cluster refuses them.
                | "readonly"
                | "readwrite"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(class: Class) -> Vec<&'static str> {
        let commands = COMMANDS.iter().enumerate();
        commands
            .filter(|(index, command)| CLASSES[*index] == class && !command.is_container())
            .map(|(_, command)| command.name)
            .collect()
    }

    #[test]
    fn every_command_of_a_connection_is_private() {
        let private = named(Class::Private);
        for name in [
            "multi",
            "exec",
            "discard",
            "watch",
            "unwatch",
            "subscribe",
            "psubscribe",
            "ssubscribe",
            "unsubscribe",
            "monitor",
            "client|id",
            "client|tracking",
            "client|reply",
            "client|kill",
            "blpop",
            "blmpop",
            "bzpopmin",
            "xread",
            "xreadgroup",
            "wait",
            "config|set",
            "info",
            "object|freq",
            "debug",
            "swapdb",
            "shutdown",
            "psync",
            "acl|whoami",
            "latency|doctor",
            "slowlog|get",
            "asking",
            "migrate",
            "eval",
            "fcall_ro",
        ] {
            assert!(private.contains(&name), "{name} is not");
        }
    }

    #[test]
    fn no_cached_command_writes_and_no_write_passes_unseen() {
        for command in &COMMANDS {
            let class = CLASSES[command.index()];
            let is_write = command.flags.contains(Flags::WRITE);
            match class {
                Class::Near | Class::NearEach => assert!(command.cacheable && !is_write),
                Class::Plain => assert!(!is_write, "{}", command.name),
                Class::Writes | Class::Unknown | Class::Sweeps => {}
                Class::Session(_) | Class::Private | Class::Own | Class::Kill => {}
            }
        }
        assert_eq!(named(Class::Sweeps), ["flushall", "flushdb"]);
        assert!(named(Class::Unknown).is_empty(), "only what is not known");
        assert_eq!(named(Class::NearEach), ["mget"]);
        let own = named(Class::Own);
        let families = ["corral.", "cache.", "tag."];
        let is_of_ours = |name: &&str| families.iter().any(|family| name.starts_with(family));
        assert!(own.iter().all(is_of_ours));
    }

    #[test]
    fn no_read_is_paused_with_writes() {
        for command in &COMMANDS {
            let class = CLASSES[command.index()];
            if class == Class::Near || command.name == "get" {
                assert!(!command.flags.contains(Flags::MAY_REPLICATE));
            }
            let is_upstream = !matches!(class, Class::Private | Class::Own);
            let is_shared_write = command.flags.contains(Flags::WRITE) && is_upstream;
            if is_shared_write {
                assert!(
                    is_paused_with_writes(Some(command), class),
                    "{}",
                    command.name
                );
            }
        }
        for name in [
            "publish",
            "spublish",
            "pfcount",
            "function|load",
            "flushall",
        ] {
            let command = COMMANDS.iter().find(|command| command.name == name);
            let class = command.map(|command| CLASSES[command.index()]);
            assert!(
                is_paused_with_writes(command, class.unwrap()),
                "{name} is not"
            );
        }
        let script_load = COMMANDS
            .iter()
            .find(|command| command.name == "script|load");
        assert!(!is_paused_with_writes(script_load, Class::Plain));
        assert!(is_paused_with_writes(None, Class::Unknown));
    }

    #[test]
    fn what_is_about_the_server_only_tells_of_no_key() {
        let tells = |name: &str| {
            let command = COMMANDS.iter().find(|command| command.name == name);
            let class = command.map_or(Class::Unknown, |command| CLASSES[command.index()]);
            tells_of_keys(command, class)
        };
        for name in ["config|set", "slowlog|get", "client|list", "info", "select"] {
            assert!(!tells(name), "{name} does");
        }
        for name in [
            "exec",
            "eval",
            "monitor",
            "subscribe",
            "client|tracking",
            "debug",
            "object|freq",
            "xread",
            "not-a-command",
        ] {
            assert!(tells(name), "{name} does not");
        }
    }

    #[test]
    fn what_needs_no_key_and_no_connection_is_shared() {
        let plain = named(Class::Plain);
        for name in [
            "ping",
            "echo",
            "time",
            "dbsize",
            "scan",
            "keys",
            "publish",
            "script|load",
        ] {
            assert!(plain.contains(&name), "{name} is not");
        }
    }
}
