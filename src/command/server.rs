//! What an operator asks of the server itself: `INFO`, `CONFIG`, `SLOWLOG`, `LATENCY`, `MEMORY`,
//! `DEBUG`, and the commands that stand alone.

mod cache;
mod config;
mod debug;
mod explain;
mod info;
mod latency;
mod memory;
mod redact;
mod slowlog;
mod totals;

pub(super) use cache::cache_stats;
pub(crate) use config::limit_memory;
pub(super) use config::{
    CONFIG_HELP, config_get, config_help, config_resetstat, config_rewrite, config_set,
};
pub(super) use debug::debug;
pub(super) use explain::cache_explain;
pub(super) use info::info;
pub(crate) use info::section_for_upstreams_info;
pub(super) use latency::{
    latency_doctor, latency_graph, latency_help, latency_histogram, latency_history,
    latency_latest, latency_reset,
};
pub(crate) use memory::Memory;
pub(super) use memory::{
    memory_doctor, memory_help, memory_malloc_stats, memory_purge, memory_stats, memory_usage,
};
pub(super) use redact::shown;
pub(super) use slowlog::{SLOWLOG_HELP, slowlog_get, slowlog_help, slowlog_len, slowlog_reset};
pub(crate) use totals::Totals;

use super::options::is_word;
use super::{CommandError, Context, lolwut as corral};
use crate::clock;
use crate::resp::Request;

type Result = std::result::Result<(), CommandError>;

/// `TIME`: seconds since 1970, and µs.
pub(super) fn time(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let now = clock::unix_micros();
    context.reply.array(2);
    context.reply.text(&(now / 1_000_000).to_string());
    context.reply.text(&(now % 1_000_000).to_string());
    Ok(())
}

/// `ROLE`: a master without replicas, to those who look for one.
pub(super) fn role(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context.reply.array(3);
    context.reply.text("master");
    context.reply.integer(0);
    context.reply.array(0);
    Ok(())
}

/// `LOLWUT [VERSION version] [size …]`
pub(super) fn lolwut(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let arguments: Vec<&[u8]> = request.iter_from(1).collect();
    let picture = corral::draw(&arguments, rand::random())
        .map_err(|error| CommandError::other(error.to_string()))?;
    context.reply.verbatim("txt", picture.as_bytes());
    Ok(())
}

/// `MONITOR`: from now on the client is shown every command.
pub(super) fn monitor(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    if is_in_transaction(context) {
        return Err(CommandError::other(
            "ERR MONITOR isn't allowed for DENY BLOCKING client",
        ));
    }
    context
        .instance
        .clients
        .start_monitoring(&context.session.client);
    context.reply.ok();
    Ok(())
}

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`
pub(super) fn shutdown(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let [mut save, mut nosave, mut now, mut force, mut abort] = [false; 5];
    for word in request.iter_from(1) {
        if is_word(word, "save") {
            save = true;
        } else if is_word(word, "nosave") {
            nosave = true;
        } else if is_word(word, "now") {
            now = true;
        } else if is_word(word, "force") {
            force = true;
        } else if is_word(word, "abort") {
            abort = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if (abort && (save || nosave || now || force)) || (save && nosave) {
        return Err(CommandError::Syntax);
    }
    if abort {
        // Once it was asked for, nothing is waited for that could be called off.
        return Err(CommandError::other("ERR No shutdown in progress."));
    }
    if save && !force {
        tracing::warn!("SHUTDOWN SAVE refused: corral keeps nothing on disk; use NOSAVE or FORCE");
        return Err(CommandError::other(
            "ERR Errors trying to SHUTDOWN. Check logs.",
        ));
    }
    tracing::warn!(
        client = context.session.client.peer,
        "a client asked to shut down"
    );
    context.instance.stopping.ask(now);
    context.session.closing = true;
    Ok(())
}

/// Whether EXEC runs this command. It holds locks; a command without keys holds none otherwise.
fn is_in_transaction(context: &mut Context<'_>) -> bool {
    !context.view.locked().is_none()
}

/// The reply to a subcommand with the wrong number of arguments, where Redis has one text for all.
pub(super) fn unknown_subcommand(request: &Request<'_>) -> CommandError {
    let name = String::from_utf8_lossy(&request.argument(1)[..request.argument(1).len().min(128)]);
    let container = String::from_utf8_lossy(request.argument(0)).to_ascii_uppercase();
    CommandError::other(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."
    ))
}

#[cfg(test)]
mod tests;
