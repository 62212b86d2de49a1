//! `COMMAND` and its subcommands: the command table, told to clients.
//!
//! For a command of Redis the replies are Redis 7.0.15's byte for byte, but for the order of
//! commands, which is by name here and by chance there.

use super::docs::{Argument, ArgumentFlags};
use super::key_spec::{BeginSearch, FindKeys, KeyFlags, KeySpec};
use super::keys_of::{KeyPosition, Words, keys_of_words};
use super::spec::{Categories, Command, Flags};
use super::table::{COMMANDS, top_level};
use super::{CommandError, Context, glob, lookup};
use crate::resp::{Reply, Request};

/// `COMMAND`: what is known about every command.
pub(super) fn command(context: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    let reply = &mut *context.reply;
    reply.array(top_level().count());
    top_level().for_each(|command| write_info(reply, command));
    Ok(())
}

/// `COMMAND COUNT`
pub(super) fn command_count(
    context: &mut Context<'_>,
    _: &Request<'_>,
) -> Result<(), CommandError> {
    context.reply.count(top_level().count());
    Ok(())
}

/// `COMMAND INFO [name …]`: what is known about these commands, or about every one.
pub(super) fn command_info(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result<(), CommandError> {
    if request.len() == 2 {
        return command(context, request);
    }
    let reply = &mut *context.reply;
    reply.array(request.len() - 2);
    for name in request.iter_from(2) {
        match lookup::find_full(name) {
            Some(command) => write_info(reply, command),
            None => reply.null(),
        }
    }
    Ok(())
}

/// `COMMAND DOCS [name …]`: the manual of these commands, or of every one. Unknown ones are
/// passed over.
pub(super) fn command_docs(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result<(), CommandError> {
    let reply = &mut *context.reply;
    if request.len() == 2 {
        reply.map(top_level().count());
        top_level().for_each(|command| write_named_docs(reply, command));
    } else {
        let named = || request.iter_from(2).filter_map(lookup::find_full);
        reply.map(named().count());
        named().for_each(|command| write_named_docs(reply, command));
    }
    Ok(())
}

/// `COMMAND GETKEYS name [argument …]`: the keys of a request.
pub(super) fn command_getkeys(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result<(), CommandError> {
    write_keys(context.reply, request, |reply, key, _| reply.bulk(key))
}

/// `COMMAND GETKEYSANDFLAGS name [argument …]`: the keys of a request, and what it does to each.
pub(super) fn command_getkeysandflags(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result<(), CommandError> {
    write_keys(context.reply, request, |reply, key, flags| {
        reply.array(2);
        reply.bulk(key);
        write_key_flags(reply, flags);
    })
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN glob]`: names, those of
/// subcommands included.
pub(super) fn command_list(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result<(), CommandError> {
    let reply = &mut *context.reply;
    let filter = Filter::parse(request).ok_or(CommandError::Syntax)?;
    let listed = || COMMANDS.iter().filter(|command| filter.admits(command));
    reply.array(listed().count());
    listed().for_each(|command| reply.text(command.name));
    Ok(())
}

/// `COMMAND HELP`
pub(super) fn command_help(context: &mut Context<'_>, _: &Request<'_>) -> Result<(), CommandError> {
    context.reply.array(HELP.len());
    HELP.iter().for_each(|line| context.reply.simple(line));
    Ok(())
}

/// Which commands `COMMAND LIST` lists.
enum Filter<'a> {
    All,
    /// Those of a module. There are none, as there are no modules.
    Module,
    /// Those of an ACL category; none of a category that does not exist.
    Category(Option<Categories>),
    Pattern(&'a [u8]),
}

impl<'a> Filter<'a> {
    fn parse(request: &Request<'a>) -> Option<Self> {
        if request.len() == 2 {
            return Some(Self::All);
        }
        if request.len() != 5 || !request.argument(2).eq_ignore_ascii_case(b"filterby") {
            return None;
        }
        let (kind, value) = (request.argument(3), request.argument(4));
        if kind.eq_ignore_ascii_case(b"module") {
            Some(Self::Module)
        } else if kind.eq_ignore_ascii_case(b"aclcat") {
            let mut categories = Categories::ALL.iter();
            let found = categories.find(|(_, name)| value.eq_ignore_ascii_case(name.as_bytes()));
            Some(Self::Category(found.map(|&(category, _)| category)))
        } else if kind.eq_ignore_ascii_case(b"pattern") {
            Some(Self::Pattern(value))
        } else {
            None
        }
    }

    fn admits(&self, command: &Command) -> bool {
        match self {
            Self::All => true,
            Self::Module => false,
            Self::Category(category) => {
                category.is_some_and(|category| command.categories.contains(category))
            }
            Self::Pattern(pattern) => {
                glob::matches(pattern, command.name.as_bytes(), glob::Case::Insensitive)
            }
        }
    }
}

/// Finds the keys of the request that a `COMMAND GETKEYS…` request carries.
fn write_keys(
    reply: &mut Reply,
    request: &Request<'_>,
    write: impl Fn(&mut Reply, &[u8], KeyFlags),
) -> Result<(), CommandError> {
    let words = Words::behind(request, 2);
    let command =
        find_carried(words).ok_or_else(|| CommandError::other("ERR Invalid command specified"))?;
    if !command.has_keys() {
        return Err(CommandError::other("ERR The command has no key arguments"));
    }
    if !command.arity.admits(words.len()) {
        return Err(CommandError::other(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let keys = keys_of_words(command, words);
    if keys.is_empty() && !command.flags.contains(Flags::NO_MANDATORY_KEYS) {
        return Err(CommandError::other(
            "ERR Invalid arguments specified for command",
        ));
    }
    reply.array(keys.len());
    for KeyPosition { index, flags } in keys {
        write(reply, words.get(index).unwrap_or_default(), flags);
    }
    Ok(())
}

/// The command of a request within another one's arguments.
fn find_carried(words: Words<'_>) -> Option<&'static Command> {
    let command = lookup::find(words.get(0)?)?;
    match words.get(1) {
        Some(name) if command.is_container() => lookup::find_subcommand(command, name),
        Some(_) | None => Some(command),
    }
}

/// A command as `COMMAND INFO` tells it.
fn write_info(reply: &mut Reply, command: &Command) {
    reply.array(10);
    reply.text(command.name);
    reply.integer(command.arity.number());
    let flags = command.flags.without(Flags::HIDDEN);
    reply.set(flags.len());
    flags.names().for_each(|name| reply.simple(name));
    reply.integer(i64::from(command.keys.first));
    reply.integer(i64::from(command.keys.last));
    reply.integer(i64::from(command.keys.step));
    reply.set(command.categories.len());
    command
        .categories
        .names()
        .for_each(|name| reply.simple(&format!("@{name}")));
    reply.set(command.tips().len());
    command.tips().iter().for_each(|tip| reply.text(tip));
    reply.set(command.key_specs().len());
    command
        .key_specs()
        .iter()
        .for_each(|spec| write_key_spec(reply, spec));
    if command.is_container() {
        reply.array(command.subcommands().len());
        command
            .subcommands()
            .iter()
            .for_each(|subcommand| write_info(reply, subcommand));
    } else {
        reply.set(0);
    }
}

fn write_key_spec(reply: &mut Reply, spec: &KeySpec) {
    if spec.notes.is_empty() {
        reply.map(3);
    } else {
        reply.map(4);
        write_pair(reply, "notes", spec.notes);
    }
    reply.text("flags");
    write_key_flags(reply, spec.flags);
    reply.text("begin_search");
    match spec.begin {
        BeginSearch::Unknown => write_search(reply, "unknown", 0),
        BeginSearch::Index(index) => {
            write_search(reply, "index", 1);
            write_number(reply, "index", index);
        }
        BeginSearch::Keyword { word, start_from } => {
            write_search(reply, "keyword", 2);
            write_pair(reply, "keyword", word);
            write_number(reply, "startfrom", start_from);
        }
    }
    reply.text("find_keys");
    match spec.find {
        FindKeys::Unknown => write_search(reply, "unknown", 0),
        FindKeys::Range { last, step, limit } => {
            write_search(reply, "range", 3);
            write_number(reply, "lastkey", last);
            write_number(reply, "keystep", step);
            write_number(reply, "limit", limit);
        }
        FindKeys::KeyNum {
            count_at,
            first,
            step,
        } => {
            write_search(reply, "keynum", 3);
            write_number(reply, "keynumidx", count_at);
            write_number(reply, "firstkey", first);
            write_number(reply, "keystep", step);
        }
    }
}

/// The head of one half of a key spec; its `numbers` pairs follow.
fn write_search(reply: &mut Reply, kind: &str, numbers: usize) {
    reply.map(2);
    write_pair(reply, "type", kind);
    reply.text("spec");
    reply.map(numbers);
}

fn write_key_flags(reply: &mut Reply, flags: KeyFlags) {
    reply.set(flags.len());
    flags.names().for_each(|name| reply.simple(name));
}

fn write_pair(reply: &mut Reply, name: &str, value: &str) {
    reply.text(name);
    reply.text(value);
}

fn write_number(reply: &mut Reply, name: &str, value: i8) {
    reply.text(name);
    reply.integer(i64::from(value));
}

/// A pair, if it has a value.
fn write_present(reply: &mut Reply, name: &str, value: &str) {
    if !value.is_empty() {
        write_pair(reply, name, value);
    }
}

/// A command as `COMMAND DOCS` tells it, its name before it.
fn write_named_docs(reply: &mut Reply, command: &Command) {
    reply.text(command.name);
    let docs = command.docs;
    let doc_flags: Vec<_> = [(docs.deprecated, "deprecated"), (docs.syscmd, "syscmd")]
        .into_iter()
        .filter_map(|(is_set, name)| is_set.then_some(name))
        .collect();
    reply.map(
        1 + [
            docs.summary,
            docs.since,
            docs.complexity,
            docs.deprecated_since,
            docs.replaced_by,
        ]
        .iter()
        .filter(|text| !text.is_empty())
        .count()
            + usize::from(!doc_flags.is_empty())
            + usize::from(!docs.history.is_empty())
            + usize::from(!docs.arguments.is_empty())
            + usize::from(command.is_container()),
    );
    write_present(reply, "summary", docs.summary);
    write_present(reply, "since", docs.since);
    write_pair(reply, "group", docs.group.name());
    write_present(reply, "complexity", docs.complexity);
    if !doc_flags.is_empty() {
        reply.text("doc_flags");
        reply.set(doc_flags.len());
        doc_flags.iter().for_each(|name| reply.simple(name));
    }
    write_present(reply, "deprecated_since", docs.deprecated_since);
    write_present(reply, "replaced_by", docs.replaced_by);
    if !docs.history.is_empty() {
        reply.text("history");
        reply.set(docs.history.len());
        for change in docs.history {
            reply.array(2);
            write_pair(reply, change.since, change.what);
        }
    }
    if !docs.arguments.is_empty() {
        reply.text("arguments");
        write_arguments(reply, docs.arguments);
    }
    if command.is_container() {
        reply.text("subcommands");
        reply.map(command.subcommands().len());
        command
            .subcommands()
            .iter()
            .for_each(|subcommand| write_named_docs(reply, subcommand));
    }
}

/// The syntax tree of a command.
fn write_arguments(reply: &mut Reply, arguments: &[Argument]) {
    reply.array(arguments.len());
    for argument in arguments {
        let texts = [
            ("token", argument.token),
            ("summary", argument.summary),
            ("since", argument.since),
            ("deprecated_since", argument.deprecated_since),
        ];
        reply.map(
            2 + usize::from(argument.key_spec.is_some())
                + texts.iter().filter(|(_, text)| text.is_some()).count()
                + usize::from(argument.flags != ArgumentFlags::NONE)
                + usize::from(!argument.arguments.is_empty()),
        );
        write_pair(reply, "name", argument.name);
        write_pair(reply, "type", argument.kind.name());
        if let Some(index) = argument.key_spec {
            reply.text("key_spec_index");
            reply.integer(i64::from(index));
        }
        for (name, text) in texts {
            if let Some(text) = text {
                write_pair(reply, name, text);
            }
        }
        if argument.flags != ArgumentFlags::NONE {
            reply.text("flags");
            reply.set(argument.flags.len());
            argument.flags.names().for_each(|name| reply.simple(name));
        }
        if !argument.arguments.is_empty() {
            reply.text("arguments");
            write_arguments(reply, argument.arguments);
        }
    }
}

/// The reply to `COMMAND HELP`.
const HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full Redis command.",
    "HELP",
    "    Prints this help.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Protocol;
    use crate::resp::decode::OwnedRequest;

    /// What `write` replies, a space for each line end.
    fn written(protocol: Protocol, write: impl Fn(&mut Reply)) -> String {
        let mut reply = Reply::new(protocol);
        write(&mut reply);
        String::from_utf8(reply.bytes().to_vec())
            .unwrap()
            .replace("\r\n", " ")
    }

    fn find(name: &str) -> &'static Command {
        lookup::find_full(name.as_bytes()).unwrap()
    }

    fn getkeys(line: &str) -> String {
        let arguments: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        let request = OwnedRequest::of(&arguments);
        written(Protocol::Resp2, |reply| {
            let write = |reply: &mut Reply, key: &[u8], _| reply.bulk(key);
            if let Err(error) = write_keys(reply, &request.as_request(), write) {
                reply.error(error.to_string());
            }
        })
    }

    fn listed(line: &str) -> Option<Vec<&'static str>> {
        let arguments: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        let request = OwnedRequest::of(&arguments);
        let filter = Filter::parse(&request.as_request())?;
        let listed = COMMANDS.iter().filter(|command| filter.admits(command));
        Some(listed.map(|command| command.name).collect())
    }

    /// The replies of redis-server 7.0.15.
    #[test]
    fn info_is_worded_as_redis_words_it() {
        assert_eq!(
            written(Protocol::Resp3, |reply| write_info(reply, find("migrate"))),
            "*10 $7 migrate :-6 ~2 +write +movablekeys :3 :3 :1 \
             ~4 +@keyspace +@write +@slow +@dangerous ~1 $23 nondeterministic_output \
             ~2 %3 $5 flags ~3 +RW +access +delete $12 begin_search %2 $4 type $5 index \
             $4 spec %1 $5 index :3 $9 find_keys %2 $4 type $5 range $4 spec %3 $7 lastkey :0 \
             $7 keystep :1 $5 limit :0 %3 $5 flags ~4 +RW +access +delete +incomplete \
             $12 begin_search %2 $4 type $7 keyword $4 spec %2 $7 keyword $4 KEYS $9 startfrom :-2 \
             $9 find_keys %2 $4 type $5 range $4 spec %3 $7 lastkey :-1 $7 keystep :1 $5 limit :0 \
             ~0 "
        );
        assert_eq!(
            written(Protocol::Resp2, |reply| write_info(reply, find("get"))),
            "*10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@string +@fast *0 *1 *6 \
             $5 flags *2 +RO +access $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :1 \
             $9 find_keys *4 $4 type $5 range $4 spec *6 $7 lastkey :0 $7 keystep :1 $5 limit :0 \
             *0 "
        );
    }

    #[test]
    fn docs_are_worded_as_redis_words_them() {
        let docs = |protocol| written(protocol, |reply| write_named_docs(reply, find("getset")));
        assert_eq!(
            docs(Protocol::Resp3),
            "$6 getset %8 $7 summary $54 Set the string value of a key and return its old value \
             $5 since $5 1.0.0 $5 group $6 string $10 complexity $4 O(1) \
             $9 doc_flags ~1 +deprecated $16 deprecated_since $5 6.2.0 \
             $11 replaced_by $30 `SET` with the `!GET` argument \
             $9 arguments *2 %3 $4 name $3 key $4 type $3 key $14 key_spec_index :0 \
             %2 $4 name $5 value $4 type $6 string "
        );
        let resp2 = docs(Protocol::Resp3).replace('~', "*").replace("%8", "*16");
        assert_eq!(
            docs(Protocol::Resp2),
            resp2.replace("%3", "*6").replace("%2", "*4")
        );
    }

    #[test]
    fn getkeys_finds_the_keys_of_a_request_or_says_why_not() {
        assert_eq!(getkeys("COMMAND GETKEYS mget a b"), "*2 $1 a $1 b ");
        assert_eq!(getkeys("COMMAND GETKEYS memory usage a"), "*1 $1 a ");
        assert_eq!(getkeys("COMMAND GETKEYS eval s 0"), "*0 ");
        assert_eq!(
            getkeys("COMMAND GETKEYS zunion 0 a"),
            "-ERR Invalid arguments specified for command "
        );
        assert_eq!(
            getkeys("COMMAND GETKEYS nope a"),
            "-ERR Invalid command specified "
        );
        assert_eq!(
            getkeys("COMMAND GETKEYS config nope"),
            "-ERR Invalid command specified "
        );
        assert_eq!(
            getkeys("COMMAND GETKEYS ping"),
            "-ERR The command has no key arguments "
        );
        assert_eq!(
            getkeys("COMMAND GETKEYS get a b"),
            "-ERR Invalid number of arguments specified for command "
        );
    }

    #[test]
    fn list_filters_by_category_and_pattern() {
        assert_eq!(
            listed("COMMAND LIST").map(|names| names.len()),
            Some(COMMANDS.len())
        );
        assert_eq!(
            listed("command list filterby pattern MEMORY|*O*").unwrap(),
            ["memory|doctor", "memory|malloc-stats"]
        );
        assert_eq!(
            listed("COMMAND LIST FILTERBY ACLCAT Transaction").unwrap(),
            ["discard", "exec", "multi", "unwatch", "watch"]
        );
        for nothing in ["FILTERBY ACLCAT nope", "FILTERBY MODULE m"] {
            assert_eq!(listed(&format!("COMMAND LIST {nothing}")).unwrap(), [""; 0]);
        }
        for wrong in [
            "x",
            "FILTERBY",
            "FILTERBY PATTERN",
            "FILTERBY x y",
            "FILTERBY PATTERN x y",
        ] {
            assert_eq!(listed(&format!("COMMAND LIST {wrong}")), None);
        }
    }
}
