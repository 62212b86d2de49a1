//! `CORRAL.CLIENT`, `CORRAL.CONFIG`, `CORRAL.SLOWLOG`: of Redis's commands about a server those
//! that mean this server also where Redis's own names mean the one behind it. And `CORRAL.RELOAD`.
//!
//! Their handlers are those of Redis's names; only the help is shorter.

use super::{CommandError, Context, help};
use crate::resp::Request;

type Result = std::result::Result<(), CommandError>;

/// `CORRAL.CLIENT HELP`
pub(super) fn client_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    help(
        context,
        "CORRAL.CLIENT",
        &[
            "KILL <ip:port>",
            "    Kill connection made from <ip:port>.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Kill connections. Options are those of CLIENT KILL.",
            "LIST [options ...]",
            "    Return information about client connections. Options are those of CLIENT LIST.",
        ],
    );
    Ok(())
}

/// `CORRAL.CONFIG HELP`
pub(super) fn config_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    help(context, "CORRAL.CONFIG", super::server::CONFIG_HELP);
    Ok(())
}

/// `CORRAL.SLOWLOG HELP`
pub(super) fn slowlog_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    help(context, "CORRAL.SLOWLOG", super::server::SLOWLOG_HELP);
    Ok(())
}

/// `CORRAL.RELOAD`: puts the rules and origins in force that the config file has now; if something
/// is wrong there, the old ones stay.
pub(super) fn reload(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    // It reads a small file, as CONFIG REWRITE does.
    let reloaded = context.instance.reload_rules();
    reloaded.map_err(|why| CommandError::other(format!("ERR {why}")))?;
    context.reply.ok();
    Ok(())
}
