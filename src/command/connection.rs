//! One's own connection: who one is, which database, which protocol.

use super::options::{integer, is_word};
use super::{CommandError, Context};
use crate::instance::session::Replies;
use crate::resp::{Protocol, Request};

type Result = std::result::Result<(), CommandError>;

/// The one user there is.
const USER: &[u8] = b"default";

pub(super) fn ping(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    match request.len() {
        1 => context.reply.simple("PONG"),
        2 => context.reply.bulk(request.argument(1)),
        _ => return Err(CommandError::WrongArity { command: "ping" }),
    }
    Ok(())
}

pub(super) fn echo(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    context.reply.bulk(request.argument(1));
    Ok(())
}

pub(super) fn quit(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context.reply.ok();
    context.session.closing = true;
    Ok(())
}

pub(super) fn select(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    context.session.db = super::keys::database(context, request.argument(1))?;
    context.reply.ok();
    Ok(())
}

pub(super) fn auth(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let (user, password) = match request.len() {
        2 if context.session.config.requirepass.is_empty() => {
            return Err(CommandError::other(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        }
        2 => (USER, request.argument(1)),
        3 => (request.argument(1), request.argument(2)),
        _ => return Err(CommandError::Syntax),
    };
    log_in(context, user, password)?;
    context.reply.ok();
    Ok(())
}

fn log_in(context: &mut Context<'_>, user: &[u8], password: &[u8]) -> Result {
    let wanted = context.session.config.requirepass.as_bytes();
    // Without a password the user may log in with any, as Redis's default user (`nopass`).
    if user == USER && (wanted.is_empty() || is_same_secret(password, wanted)) {
        context.session.is_authenticated = true;
        return Ok(());
    }
    context.instance.metrics.denied_logins.add_shared(1);
    Err(CommandError::other(
        "WRONGPASS invalid username-password pair or user is disabled.",
    ))
}

/// Compares secrets in a time that tells nothing of where the two differ.
#[must_use]
pub fn is_same_secret(given: &[u8], wanted: &[u8]) -> bool {
    let differing = given
        .iter()
        .zip(wanted)
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    differing == 0 && given.len() == wanted.len()
}

pub(super) fn hello(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let protocol = match request.get(1) {
        None => context.reply.protocol(),
        Some(version) => match integer(version) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err(CommandError::other("NOPROTO unsupported protocol version")),
            Err(_) => {
                return Err(CommandError::other(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        },
    };
    let mut name = None;
    let mut index = 2;
    while let Some(option) = request.get(index) {
        let left = request.len() - index - 1;
        if is_word(option, "auth") && left >= 2 {
            log_in(
                context,
                request.argument(index + 1),
                request.argument(index + 2),
            )?;
            index += 3;
        } else if is_word(option, "setname") && left >= 1 {
            name = Some(request.argument(index + 1));
            check_name(request.argument(index + 1))?;
            index += 2;
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(CommandError::other(format!(
                "ERR Syntax error in HELLO option '{option}'"
            )));
        }
    }
    if !context.session.is_authenticated {
        return Err(CommandError::other(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO AUTH <user> <pass> option can be used to authenticate the client and select the \
             RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        context.session.client.said.lock().name = name.to_vec();
    }
    // RESP2 has no attributes.
    context.session.reads.are_told &= protocol == Protocol::Resp3;
    context.reply.set_protocol(protocol);
    introduce(context);
    Ok(())
}

fn introduce(context: &mut Context<'_>) {
    let id = i64::try_from(context.session.client.id).unwrap_or(i64::MAX);
    let reply = &mut *context.reply;
    let version = reply.protocol().version();
    reply.map(7);
    reply.text("server");
    reply.text("redis");
    reply.text("version");
    reply.text(crate::REDIS_VERSION);
    reply.text("proto");
    reply.integer(version);
    reply.text("id");
    reply.integer(id);
    reply.text("mode");
    reply.text("standalone");
    reply.text("role");
    reply.text("master");
    reply.text("modules");
    reply.array(0);
}

/// Names are shown in CLIENT LIST, between spaces.
pub(super) fn check_name(name: &[u8]) -> Result {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(CommandError::other(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

pub(super) fn reset(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let session = &mut *context.session;
    session.transaction = None;
    session.unwatch(context.instance);
    session.db = 0;
    session.replies = Replies::On;
    session.is_authenticated = session.config.requirepass.is_empty();
    context.instance.clients.stop_monitoring(&session.client);
    session.client.said.lock().name.clear();
    session.reads.are_told = false;
    context.reply.set_protocol(Protocol::Resp2);
    context.reply.simple("RESET");
    Ok(())
}
