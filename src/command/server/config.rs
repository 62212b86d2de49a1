//! `CONFIG`: the settings, while the server runs.
//!
//! CONFIG SET changes everything it names or nothing. What can fail, the opening of sockets, is
//! done before the new settings are in force; what cannot, after.

use std::sync::atomic::Ordering;

use super::super::glob::{self, Case};
use super::super::{CommandError, Context, help};
use super::totals::departures;
use super::{Result, is_in_transaction};
use crate::clock;
use crate::config::{Config, SetError};
use crate::instance::{Instance, bytes_max, tuning};
use crate::logging;
use crate::resp::Request;

/// `CONFIG GET pattern …`
pub(in crate::command) fn config_get(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let patterns: Vec<&[u8]> = request.iter_from(2).collect();
    let found = context.instance.config().get(&patterns, |pattern, name| {
        glob::matches(pattern, name, Case::Insensitive)
    });
    context.reply.map(found.len());
    for (name, value) in &found {
        context.reply.text(name);
        match &context.instance.upstream {
            // The URL may hold a password, which is not one of ours to tell.
            Some(upstream) if name.eq_ignore_ascii_case("upstream") => {
                context.reply.text(&upstream.url.to_string());
            }
            Some(_) | None => context.reply.text(value),
        }
    }
    Ok(())
}

/// `CONFIG SET name value …`
pub(in crate::command) fn config_set(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let words: Vec<&[u8]> = request.iter_from(2).collect();
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|&[name, value]| (name, value)).collect();
    let instance = context.instance;
    let changed = instance.change_config(|before| {
        let after = before.set(&pairs)?;
        if instance.upstream.is_some() && !after.near_cache && !after.requirepass.is_empty() {
            return Err(SetError::failed("requirepass", NEEDS_NEAR_CACHE));
        }
        // Under the lock of the settings, so that two changes cannot cross.
        if concerns_listeners(&pairs)
            && let Some(listeners) = instance.listeners.get()
        {
            listeners.change(before, &after)?;
        }
        Ok::<_, SetError>(after)
    });
    let (before, after) = changed.map_err(|error| CommandError::other(error.to_string()))?;
    context.session.refresh_config(instance);
    if (bytes_max(&before), tuning(&before)) != (bytes_max(&after), tuning(&after)) {
        if is_in_transaction(context) {
            // Its locks are in the way: left to the background work.
            instance.shrinking.store(true, Ordering::Release);
        } else {
            limit_memory(instance, EVICTIONS_AT_ONCE);
        }
    }
    if before.loglevel != after.loglevel {
        latest(instance, |config| logging::set_level(config.loglevel));
    }
    if let Some(upstream) = &instance.upstream
        && before.upstream_timeout != after.upstream_timeout
    {
        latest(instance, |config| {
            upstream.set_timeout(config.upstream_timeout);
        });
    }
    context.reply.ok();
    Ok(())
}

/// Without it, clients authenticate to the upstream.
const NEEDS_NEAR_CACHE: &str = "with an upstream, it needs the near cache";

/// Whether sockets depend on one of the settings. Also if its value stays the same: a certificate
/// is read again by naming its file again.
fn concerns_listeners(pairs: &[(&[u8], &[u8])]) -> bool {
    pairs.iter().any(|(name, _)| {
        let name = name.to_ascii_lowercase();
        matches!(name.as_slice(), b"bind" | b"port") || name.starts_with(b"tls-")
    })
}

/// Gives the store the bounds that are in force, and evicts at most so many items to keep them; if
/// that is not enough, notes that there is more to do. The caller must hold no lock of the store.
pub(crate) fn limit_memory(instance: &Instance, evictions: usize) {
    // First: whoever sets it from now on wants the bounds looked at once more.
    instance.shrinking.store(false, Ordering::Release);
    latest(instance, |config| {
        let store = &instance.store;
        store.set_limits(bytes_max(config), tuning(config));
    });
    if !instance.store.shrink(clock::unix_ms(), evictions) {
        instance.shrinking.store(true, Ordering::Release);
    }
}

/// Does something with the settings in force, again if they have changed meanwhile: of two
/// changes at once the later one wins, whoever is slower.
fn latest(instance: &Instance, apply: impl Fn(&Config)) {
    loop {
        let generation = instance.config_generation();
        apply(&instance.config());
        if instance.config_generation() == generation {
            return;
        }
    }
}

/// Items that CONFIG SET itself evicts, so that a small store is within its bound when it replies.
const EVICTIONS_AT_ONCE: usize = 1000;

/// `CONFIG RESETSTAT`
pub(in crate::command) fn config_resetstat(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let departures = departures(context.instance, &mut context.view);
    context.instance.metrics.reset(departures);
    if let Some(front) = context.instance.front() {
        front.reset();
    }
    context.reply.ok();
    Ok(())
}

/// `CONFIG REWRITE`
pub(in crate::command) fn config_rewrite(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let rewritten = context.instance.config().rewrite();
    if let Err(error) = rewritten {
        tracing::warn!(%error, "CONFIG REWRITE failed");
        return Err(CommandError::other(error.to_string()));
    }
    tracing::info!("the config file was rewritten");
    context.reply.ok();
    Ok(())
}

/// `CONFIG HELP`
pub(in crate::command) fn config_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    help(context, "CONFIG", CONFIG_HELP);
    Ok(())
}

pub(in crate::command) const CONFIG_HELP: &[&str] = &[
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
];
