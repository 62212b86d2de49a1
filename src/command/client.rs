//! `CLIENT`: oneself and the others who are connected.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::connection::check_name;
use super::options::{Rest, integer, is_word};
use super::server::unknown_subcommand;
use super::table::COMMANDS;
use super::{CommandError, Context, lookup, run};
use crate::instance::Instance;
use crate::instance::clients::Client;
use crate::instance::pause::Paused;
use crate::instance::session::Replies;
use crate::resp::{Protocol, Request};

type Result = std::result::Result<(), CommandError>;

pub(super) fn client_id(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context
        .reply
        .integer(i64::try_from(context.session.client.id).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn client_getname(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let name = context.session.client.said.lock().name.clone();
    if name.is_empty() {
        context.reply.null();
    } else {
        context.reply.bulk(&name);
    }
    Ok(())
}

pub(super) fn client_setname(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    check_name(request.argument(2))?;
    context.session.client.said.lock().name = request.argument(2).to_vec();
    context.reply.ok();
    Ok(())
}

pub(super) fn client_setinfo(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let (option, value) = (request.argument(2), request.argument(3));
    let mut said = context.session.client.said.lock();
    let (name, place) = if is_word(option, "lib-name") {
        ("lib-name", &mut said.lib_name)
    } else if is_word(option, "lib-ver") {
        ("lib-ver", &mut said.lib_version)
    } else {
        let option = String::from_utf8_lossy(option);
        return Err(CommandError::other(format!(
            "ERR Unrecognized option '{option}'"
        )));
    };
    if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Err(CommandError::other(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        )));
    }
    *place = value.to_vec();
    drop(said);
    context.reply.ok();
    Ok(())
}

/// `CLIENT CACHE-INFO ON|OFF`: whether a value is preceded by an attribute that tells its age and
/// its time to live, in ms, and whether it is fresh, stale, or was loaded for this read.
pub(super) fn client_cache_info(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let is_on = if is_word(request.argument(2), "on") {
        true
    } else if is_word(request.argument(2), "off") {
        false
    } else {
        return Err(CommandError::Syntax);
    };
    if is_on && context.reply.protocol() != Protocol::Resp3 {
        return Err(CommandError::other(
            "ERR CLIENT CACHE-INFO needs RESP3: RESP2 has no attributes (HELLO 3)",
        ));
    }
    context.session.reads.are_told = is_on;
    context.reply.ok();
    Ok(())
}

pub(super) fn client_getredir(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context.reply.integer(-1); // Tracking is off.
    Ok(())
}

pub(super) fn client_trackinginfo(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let reply = &mut *context.reply;
    reply.map(3);
    reply.text("flags");
    reply.set(1);
    reply.text("off");
    reply.text("redirect");
    reply.integer(-1);
    reply.text("prefixes");
    reply.array(0);
    Ok(())
}

pub(super) fn client_no_evict(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let on = if is_word(request.argument(2), "on") {
        true
    } else if is_word(request.argument(2), "off") {
        false
    } else {
        return Err(CommandError::Syntax);
    };
    context
        .session
        .client
        .doing
        .no_evict
        .store(on, Ordering::Relaxed);
    context.reply.ok();
    Ok(())
}

pub(super) fn client_reply(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let word = request.argument(2);
    if is_word(word, "on") {
        context.session.replies = Replies::On;
        context.reply.ok();
    } else if is_word(word, "off") {
        context.session.replies = Replies::Off;
    } else if is_word(word, "skip") {
        if context.session.replies != Replies::Off {
            context.session.replies = Replies::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(())
}

pub(super) fn client_pause(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let what = match request.get(3) {
        None => Paused::All,
        Some(_) if request.len() > 4 => return Err(unknown_subcommand(request)),
        Some(word) if is_word(word, "all") => Paused::All,
        Some(word) if is_word(word, "write") => Paused::Writes,
        Some(_) => {
            return Err(CommandError::other(
                "ERR CLIENT PAUSE mode must be WRITE or ALL",
            ));
        }
    };
    let millis = integer(request.argument(2))
        .map_err(|_| CommandError::other("ERR timeout is not an integer or out of range"))?;
    let millis =
        u64::try_from(millis).map_err(|_| CommandError::other("ERR timeout is negative"))?;
    context
        .instance
        .pause
        .begin(what, Duration::from_millis(millis));
    context.reply.ok();
    Ok(())
}

pub(super) fn client_unpause(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context.instance.pause.end();
    context.reply.ok();
    Ok(())
}

pub(super) fn client_unblock(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    if request.len() > 4 {
        return Err(unknown_subcommand(request));
    }
    if let Some(word) = request.get(3)
        && !is_word(word, "timeout")
        && !is_word(word, "error")
    {
        return Err(CommandError::other(
            "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
        ));
    }
    integer(request.argument(2))?;
    context.reply.integer(0); // No command blocks.
    Ok(())
}

pub(super) fn client_info(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    publish(context, b"client|info");
    let line = describe(context.instance, &context.session.client);
    context.reply.verbatim("txt", &line);
    Ok(())
}

/// Brings what is told of this client up to date.
fn publish(context: &Context<'_>, command: &[u8]) {
    let command = lookup::find_full(command);
    run::publish(context.session, context.reply, context.instance, command);
}

/// What kind of client somebody is, as CLIENT LIST and KILL tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    /// None of ours: replicas, their master, subscribers.
    Other,
}

impl Kind {
    fn parse(word: &[u8]) -> std::result::Result<Self, CommandError> {
        if is_word(word, "normal") {
            return Ok(Self::Normal);
        }
        let others = ["slave", "replica", "pubsub", "master"];
        if others.iter().any(|other| is_word(word, other)) {
            return Ok(Self::Other);
        }
        let word = String::from_utf8_lossy(word);
        Err(CommandError::other(format!(
            "ERR Unknown client type '{word}'"
        )))
    }

    fn of(client: &Client) -> Self {
        // Redis counts a monitor among the replicas, whose output it shares.
        if client.doing.monitors.load(Ordering::Relaxed) {
            Self::Other
        } else {
            Self::Normal
        }
    }
}

pub(super) fn client_list(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let is_ours = request.argument(0).len() > b"client".len();
    publish(
        context,
        if is_ours {
            b"corral.client|list"
        } else {
            b"client|list"
        },
    );
    let mut clients = context.instance.clients.list();
    match request.get(2) {
        None => {}
        Some(word) if is_word(word, "type") && request.len() == 4 => {
            let kind = Kind::parse(request.argument(3))?;
            clients.retain(|client| Kind::of(client) == kind);
        }
        Some(word) if is_word(word, "id") && request.len() > 3 => {
            let ids: Vec<i64> = request
                .iter_from(3)
                .map(|id| {
                    super::numbers::parse_integer(id)
                        .ok_or_else(|| CommandError::other("ERR Invalid client ID"))
                })
                .collect::<std::result::Result<_, _>>()?;
            let ids = ids.into_iter().filter_map(|id| u64::try_from(id).ok());
            clients = ids
                .filter_map(|id| context.instance.clients.find(id))
                .collect();
        }
        Some(_) => return Err(CommandError::Syntax),
    }
    let mut text = Vec::new();
    for client in &clients {
        text.extend_from_slice(&describe(context.instance, client));
    }
    context.reply.verbatim("txt", &text);
    Ok(())
}

/// One line of CLIENT LIST.
fn describe(instance: &Instance, client: &Client) -> Vec<u8> {
    let doing = &client.doing;
    let said = client.said.lock().clone();
    let queued = i64::try_from(doing.queued.load(Ordering::Relaxed)).unwrap_or(i64::MAX) - 1;
    let active = Duration::from_millis(doing.active_ms.load(Ordering::Relaxed));
    let idle = instance.uptime().saturating_sub(active).as_secs();
    let command = doing.command.load(Ordering::Relaxed).checked_sub(1);
    let name = command.map_or("NULL", |index| COMMANDS[index].name);
    let mut line = format!("id={} addr={}", client.id, client.peer);
    let _ = write!(line, " laddr={} fd={} name=", client.local, client.fd);
    line.push_str(&String::from_utf8_lossy(&said.name));
    let _ = write!(
        line,
        " age={} idle={idle}",
        client.connected.elapsed().as_secs()
    );
    let _ = write!(
        line,
        " flags={} db={}",
        flags(client),
        doing.db.load(Ordering::Relaxed)
    );
    let _ = write!(line, " sub=0 psub=0 ssub=0 multi={queued}");
    let load = |number: &std::sync::atomic::AtomicUsize| number.load(Ordering::Relaxed);
    let _ = write!(
        line,
        " qbuf={} qbuf-free={}",
        load(&doing.query),
        load(&doing.query_free)
    );
    let _ = write!(line, " argv-mem=0 multi-mem={}", load(&doing.queued_bytes));
    let _ = write!(
        line,
        " rbs={} rbp={}",
        load(&doing.reply),
        load(&doing.reply)
    );
    let _ = write!(line, " obl={} oll=0 omem=0", load(&doing.reply));
    let _ = write!(line, " tot-mem={} events=r cmd={name}", load(&doing.memory));
    let _ = write!(line, " user=default redir=-1");
    let _ = writeln!(line, " resp={}", doing.protocol.load(Ordering::Relaxed));
    line.into_bytes()
}

fn flags(client: &Client) -> String {
    let doing = &client.doing;
    let mut flags = String::new();
    let mut add = |is_set: bool, letter: char| {
        if is_set {
            flags.push(letter);
        }
    };
    add(doing.monitors.load(Ordering::Relaxed), 'O');
    add(doing.queued.load(Ordering::Relaxed) > 0, 'x');
    add(doing.paused.load(Ordering::Relaxed), 'b');
    add(client.is_unix, 'U');
    add(doing.no_evict.load(Ordering::Relaxed), 'e');
    if flags.is_empty() {
        flags.push('N');
    }
    flags
}

/// Whom CLIENT KILL means.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    kind: Option<Kind>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    skip_me: bool,
}

impl<'a> Filter<'a> {
    fn parse(request: &Request<'a>) -> std::result::Result<Self, CommandError> {
        let mut filter = Self {
            skip_me: true,
            ..Self::default()
        };
        let mut rest = Rest::from(request, 2);
        while let Some(word) = rest.next() {
            let value = rest.required()?;
            if is_word(word, "id") {
                let id = super::numbers::parse_integer(value).filter(|&id| id > 0);
                let error = CommandError::other("ERR client-id should be greater than 0");
                filter.id = Some(id.and_then(|id| u64::try_from(id).ok()).ok_or(error)?);
            } else if is_word(word, "type") {
                filter.kind = Some(Kind::parse(value)?);
            } else if is_word(word, "addr") {
                filter.addr = Some(value);
            } else if is_word(word, "laddr") {
                filter.laddr = Some(value);
            } else if is_word(word, "user") {
                if value != b"default" {
                    let user = String::from_utf8_lossy(value);
                    return Err(CommandError::other(format!("ERR No such user '{user}'")));
                }
            } else if is_word(word, "skipme") && is_word(value, "yes") {
                filter.skip_me = true;
            } else if is_word(word, "skipme") && is_word(value, "no") {
                filter.skip_me = false;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(filter)
    }

    fn accepts(&self, client: &Client) -> bool {
        self.id.is_none_or(|id| client.id == id)
            && self.kind.is_none_or(|kind| Kind::of(client) == kind)
            && self.addr.is_none_or(|addr| client.peer.as_bytes() == addr)
            && self
                .laddr
                .is_none_or(|laddr| client.local.as_bytes() == laddr)
    }
}

pub(super) fn client_kill(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let is_old_form = request.len() == 3;
    let filter = if is_old_form {
        Filter {
            addr: Some(request.argument(2)),
            ..Filter::default()
        }
    } else {
        Filter::parse(request)?
    };
    let own = Arc::clone(&context.session.client);
    let mut killed = 0;
    for client in context.instance.clients.list() {
        if !filter.accepts(&client) || filter.skip_me && client.id == own.id {
            continue;
        }
        killed += 1;
        if client.id == own.id {
            context.session.closing = true;
        } else {
            client.close();
        }
    }
    match killed {
        0 if is_old_form => return Err(CommandError::other("ERR No such client")),
        _ if is_old_form => context.reply.ok(),
        _ => context.reply.integer(killed),
    }
    Ok(())
}

pub(super) fn client_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    super::help(context, "CLIENT", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "CACHE-INFO (ON|OFF)",
    "    Precede values by their age, time to live and freshness (RESP3).",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
];
