//! What the manual says about commands: the types of `docs_data.rs`, the same for the commands
//! that Redis 7.0 does not have, and docs/COMMANDS.md.

use std::fmt::Write as _;

use super::bitset::bitset;
use super::key_spec::{BeginSearch, FindKeys, KeyFlags, KeySpec};
use super::spec::{Arity, Categories, Command, Group};
use super::table;

/// What `COMMAND` and `COMMAND DOCS` tell about a command beside its row in the table.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    /// The command's full name; ties this to the command's row.
    pub name: &'static str,
    /// Its chapter.
    pub group: Group,
    /// The Redis version that brought it; for our own commands, ours.
    pub since: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What its time depends on.
    pub complexity: &'static str,
    /// ACL categories, without those that its flags imply.
    pub categories: Categories,
    /// Hints to proxies.
    pub tips: &'static [&'static str],
    /// Where its keys are.
    pub key_specs: &'static [KeySpec],
    /// There is a better one now.
    pub deprecated: bool,
    /// Not for people.
    pub syscmd: bool,
    /// Since when it is deprecated; may be empty.
    pub deprecated_since: &'static str,
    /// What to use instead; may be empty.
    pub replaced_by: &'static str,
    /// What later versions changed.
    pub history: &'static [Change],
    /// Its syntax.
    pub arguments: &'static [Argument],
}

impl Docs {
    /// Where a literal takes the fields from that have nothing to say.
    pub(super) const NONE: Self = Self {
        name: "",
        group: Group::Generic,
        since: "",
        summary: "",
        complexity: "",
        categories: Categories::NONE,
        tips: &[],
        key_specs: &[],
        deprecated: false,
        syscmd: false,
        deprecated_since: "",
        replaced_by: "",
        history: &[],
        arguments: &[],
    };
}

/// What a later version changed.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// That version.
    pub since: &'static str,
    /// The change.
    pub what: &'static str,
}

/// A part of a command's syntax.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// What the manual calls it.
    pub name: &'static str,
    /// What it holds.
    pub kind: ArgumentKind,
    /// Which of the command's key specs is about it.
    pub key_spec: Option<u8>,
    /// The word that goes before it, or that it is.
    pub token: Option<&'static str>,
    /// What it is for.
    pub summary: Option<&'static str>,
    /// The version that brought it.
    pub since: Option<&'static str>,
    /// Since when it is deprecated.
    pub deprecated_since: Option<&'static str>,
    /// Whether it must be there, and once.
    pub flags: ArgumentFlags,
    /// The parts of a block, the choices of a oneof.
    pub arguments: &'static [Self],
}

impl Argument {
    /// Where a literal takes the fields from that have nothing to say.
    pub(super) const NONE: Self = Self {
        name: "",
        kind: ArgumentKind::String,
        key_spec: None,
        token: None,
        summary: None,
        since: None,
        deprecated_since: None,
        flags: ArgumentFlags::NONE,
        arguments: &[],
    };
}

/// What an argument holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentKind {
    /// Any bytes.
    String,
    /// A whole number.
    Integer,
    /// A floating-point number.
    Double,
    /// A key.
    Key,
    /// A glob pattern.
    Pattern,
    /// Seconds or milliseconds since 1970.
    UnixTime,
    /// Nothing but its word.
    PureToken,
    /// One of its parts.
    Oneof,
    /// All of its parts.
    Block,
}

impl ArgumentKind {
    /// As `COMMAND DOCS` writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Key => "key",
            Self::Pattern => "pattern",
            Self::UnixTime => "unix-time",
            Self::PureToken => "pure-token",
            Self::Oneof => "oneof",
            Self::Block => "block",
        }
    }
}

bitset! {
    /// Whether an argument must be there, and once.
    ArgumentFlags(u8) {
        /// It may be left out.
        OPTIONAL = 0 "optional",
        /// It may be repeated.
        MULTIPLE = 1 "multiple",
        /// Each time with its word.
        MULTIPLE_TOKEN = 2 "multiple_token",
    }
}

/// One of our own that concerns operators or the cache.
const fn ours(name: &'static str, summary: &'static str) -> Docs {
    Docs {
        name,
        group: Group::Corral,
        since: "0.1.0",
        summary,
        complexity: "O(1)",
        ..Docs::NONE
    }
}

/// A command's one key, its first argument.
const fn first_key(flags: KeyFlags) -> KeySpec {
    KeySpec {
        flags,
        begin: BeginSearch::Index(1),
        find: FindKeys::Range {
            last: 0,
            step: 1,
            limit: 0,
        },
        notes: "",
    }
}

const KEY: Argument = Argument {
    name: "key",
    kind: ArgumentKind::Key,
    key_spec: Some(0),
    ..Argument::NONE
};

const TAG: Argument = Argument {
    name: "tag",
    ..Argument::NONE
};

/// The commands that Redis 7.0 does not have, sorted by name.
pub(super) static OURS: [Docs; 30] = [
    Docs {
        key_specs: &[first_key(KeyFlags::RO)],
        arguments: &[KEY],
        ..ours(
            "cache.explain",
            "Tell what is here of a key, and what a GET of it would do now",
        )
    },
    Docs {
        key_specs: &[KeySpec {
            flags: KeyFlags::RO,
            begin: BeginSearch::Index(1),
            find: FindKeys::Range {
                last: 0,
                step: 1,
                limit: 0,
            },
            notes: "",
        }],
        arguments: &[
            Argument {
                name: "key",
                kind: ArgumentKind::Key,
                key_spec: Some(0),
                ..Argument::NONE
            },
            Argument {
                name: "beta",
                kind: ArgumentKind::Double,
                token: Some("BETA"),
                flags: ArgumentFlags::OPTIONAL,
                ..Argument::NONE
            },
        ],
        ..ours(
            "cache.get",
            "Get a value, its times to live and to make in ms, and whether to make the next one",
        )
    },
    Docs {
        complexity: "O(N)",
        key_specs: &[KeySpec {
            flags: KeyFlags::RO,
            begin: BeginSearch::Index(1),
            find: FindKeys::Range {
                last: -1,
                step: 1,
                limit: 0,
            },
            notes: "",
        }],
        arguments: &[Argument {
            name: "key",
            kind: ArgumentKind::Key,
            key_spec: Some(0),
            flags: ArgumentFlags::MULTIPLE,
            ..Argument::NONE
        }],
        ..ours(
            "cache.refresh",
            "Begin to load keys from their origins, and get how many loads began",
        )
    },
    ours(
        "cache.stats",
        "Get hits, misses, what leaves, and the likely cause of a low hit rate",
    ),
    Docs {
        group: Group::Connection,
        categories: Categories::CONNECTION,
        arguments: &[Argument {
            name: "status",
            kind: ArgumentKind::Oneof,
            arguments: &[
                Argument {
                    name: "on",
                    kind: ArgumentKind::PureToken,
                    token: Some("ON"),
                    ..Argument::NONE
                },
                Argument {
                    name: "off",
                    kind: ArgumentKind::PureToken,
                    token: Some("OFF"),
                    ..Argument::NONE
                },
            ],
            ..Argument::NONE
        }],
        ..ours(
            "client|cache-info",
            "Precede values by an attribute with their age, time to live and freshness",
        )
    },
    // Redis 7.2's: clients send it whatever the server's version is.
    Docs {
        name: "client|setinfo",
        group: Group::Connection,
        since: "7.2.0",
        summary: "Sets information specific to the client or connection.",
        complexity: "O(1)",
        categories: Categories::CONNECTION,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        arguments: &[Argument {
            name: "attr",
            kind: ArgumentKind::Oneof,
            arguments: &[
                Argument {
                    name: "libname",
                    token: Some("LIB-NAME"),
                    ..Argument::NONE
                },
                Argument {
                    name: "libver",
                    token: Some("LIB-VER"),
                    ..Argument::NONE
                },
            ],
            ..Argument::NONE
        }],
        ..Docs::NONE
    },
    ours(
        "corral.client",
        "A container for commands about this server's clients",
    ),
    ours(
        "corral.client|help",
        "Show helpful text about the subcommands",
    ),
    ours(
        "corral.client|kill",
        "Close connections of clients to this server",
    ),
    ours(
        "corral.client|list",
        "Get the list of this server's clients",
    ),
    ours(
        "corral.config",
        "A container for commands about this server's settings",
    ),
    ours(
        "corral.config|get",
        "Get the values of this server's settings",
    ),
    ours(
        "corral.config|help",
        "Show helpful text about the subcommands",
    ),
    ours(
        "corral.config|resetstat",
        "Begin this server's statistics anew",
    ),
    ours(
        "corral.config|rewrite",
        "Write this server's settings to its file",
    ),
    ours(
        "corral.config|set",
        "Change this server's settings while it runs",
    ),
    ours(
        "corral.info",
        "Get information and statistics about this server",
    ),
    ours(
        "corral.reload",
        "Put the rules and origins in force that the config file has now",
    ),
    ours(
        "corral.slowlog",
        "A container for commands about this server's slow log",
    ),
    ours(
        "corral.slowlog|get",
        "Get the entries of this server's slow log",
    ),
    ours(
        "corral.slowlog|help",
        "Show helpful text about the subcommands",
    ),
    ours(
        "corral.slowlog|len",
        "Get the number of entries of this server's slow log",
    ),
    ours("corral.slowlog|reset", "Clear this server's slow log"),
    Docs {
        key_specs: &[first_key(KeyFlags::RW.union(KeyFlags::UPDATE))],
        arguments: &[
            KEY,
            Argument {
                flags: ArgumentFlags::MULTIPLE,
                ..TAG
            },
        ],
        complexity: "O(N) where N is the number of tags",
        ..ours("tag.add", "Add a key to tags")
    },
    Docs {
        arguments: &[TAG],
        ..ours("tag.card", "Count the keys of a tag")
    },
    Docs {
        arguments: &[
            Argument {
                name: "soft",
                kind: ArgumentKind::PureToken,
                token: Some("SOFT"),
                flags: ArgumentFlags::OPTIONAL,
                ..Argument::NONE
            },
            Argument {
                flags: ArgumentFlags::MULTIPLE,
                ..TAG
            },
        ],
        complexity: "O(N) where N is the number of tags, however many keys they have; \
                     as a front, also the number of keys",
        ..ours("tag.invalidate", "Invalidate all keys of tags at once")
    },
    Docs {
        arguments: &[TAG],
        complexity: "O(N) where N is the number of keys",
        ..ours("tag.members", "Get the keys of a tag")
    },
    Docs {
        key_specs: &[first_key(KeyFlags::RO)],
        arguments: &[KEY],
        complexity: "O(N) where N is the number of tags",
        ..ours("tag.of", "Get the tags of a key")
    },
    Docs {
        key_specs: &[first_key(KeyFlags::RW.union(KeyFlags::UPDATE))],
        arguments: &[
            KEY,
            Argument {
                flags: ArgumentFlags::MULTIPLE,
                ..TAG
            },
        ],
        complexity: "O(N) where N is the number of tags",
        ..ours("tag.rem", "Remove a key from tags")
    },
    Docs {
        arguments: &[
            Argument {
                name: "cursor",
                kind: ArgumentKind::Integer,
                ..Argument::NONE
            },
            Argument {
                name: "pattern",
                kind: ArgumentKind::Pattern,
                token: Some("MATCH"),
                flags: ArgumentFlags::OPTIONAL,
                ..Argument::NONE
            },
            Argument {
                name: "count",
                kind: ArgumentKind::Integer,
                token: Some("COUNT"),
                flags: ArgumentFlags::OPTIONAL,
                ..Argument::NONE
            },
        ],
        complexity: "O(1) for every call, O(N) for all of them, where N is the number of tags",
        ..ours("tag.scan", "Iterate over the tags that have keys")
    },
];

/// docs/COMMANDS.md: every command by group, what it is, and in which mode it works.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEADER);
    for &group in Group::ALL {
        let rows = || {
            table::COMMANDS
                .iter()
                .filter(move |row| row.group() == group)
        };
        let standalone = rows().filter(|row| row.is_standalone()).count();
        let title = title(group);
        let _ = write!(
            page,
            "\n## {title}\n\n{standalone} of {} work standalone.\n",
            rows().count()
        );
        page.push_str(TABLE_HEADER);
        for command in rows() {
            line(&mut page, command);
        }
    }
    page
}

/// One command's line of its group's table.
fn line(page: &mut String, command: &Command) {
    let name = command.name.replace('|', " ").to_ascii_uppercase();
    let arity = match command.arity {
        Arity::Exactly(words) => format!("{words}"),
        Arity::AtLeast(words) => format!("{words}+"),
    };
    let standalone = if command.is_standalone() { "yes" } else { "" };
    let cached = if command.cacheable { "yes" } else { "" };
    let summary = command
        .docs
        .summary
        .trim_end_matches(['.', ' '])
        .replace('|', "\\|");
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "| `{name}` | {arity} | {} | {summary} | {standalone} | {cached} |",
        command.since()
    );
}

/// A group's name as a heading.
fn title(group: Group) -> String {
    let name = group.name().replace('-', " ");
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

const HEADER: &str = "\
# Commands

Generated from the command table (`src/command/table.rs`): do not edit.

- **words**: how many a request has, the name's own included; `3+`: three or more.
- **since**: the Redis version that brought the command; for our own commands, ours.
- **standalone**: corral runs it itself. As a front it passes every command on to upstream, but for
  those of the first chapter, which it answers in every mode.
- **cached**: as a front, corral keeps its reply in the near cache until one of its keys changes.
";

const TABLE_HEADER: &str = "
| command | words | since | what it does | standalone | cached |
| --- | --- | --- | --- | --- | --- |
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_one_line_for_every_command() {
        let page = markdown();

        let lines = page.lines().filter(|line| line.starts_with("| `"));
        assert_eq!(lines.count(), table::COMMAND_COUNT);
        assert!(page.contains("| `GET` | 2 | 1.0.0 | Get the value of a key | yes | yes |\n"));
        assert!(page.contains("| `CONFIG GET` | 3+ | 2.0.0 |"));
    }
}
