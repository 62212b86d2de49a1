//! `[[rule]]`: its keys, and how they are read.

use std::time::Duration;

use super::error::Error;
use super::reader::{Key, Table, key};
use super::{RuleSpec, WriteMode};

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

pub(super) const KEYS: &[Key] = &[
    key(
        "match",
        "a glob, as for KEYS",
        "needed",
        "Which keys. The first rule that matches a key is its rule.",
    ),
    key(
        "name",
        "text",
        "the glob",
        "What the rule is called in figures and logs.",
    ),
    key(
        "origin",
        "an origin's name",
        "none",
        "Where a value comes from that is nowhere.",
    ),
    key(
        "ttl",
        "a duration",
        "no end",
        "How long a loaded value is fresh.",
    ),
    key(
        "near-ttl",
        "a duration",
        "as `ttl`",
        "How long it is in a near cache, at most.",
    ),
    key(
        "beta",
        "a number from 0 to 100",
        "`1.0`",
        "How early a value that is read often is loaded again before it expires (XFetch). 0 is \
         never.",
    ),
    key(
        "stale-while-revalidate",
        "a duration",
        "`0`",
        "How long after `ttl` a value is served while it is loaded again.",
    ),
    key(
        "stale-if-error",
        "a duration",
        "`0`",
        "How long after `ttl` a value is served while its origin fails.",
    ),
    key(
        "soft-timeout",
        "a duration",
        "`0`",
        "How long a client waits for a load where there is a stale value. 0 is as long as \
         without one.",
    ),
    key(
        "timeout",
        "a duration",
        "`2s`",
        "How long a load may take, waiting for its turn included.",
    ),
    key(
        "negative-ttl",
        "a duration",
        "`5s`",
        "How long it is remembered that the origin has no value.",
    ),
    key(
        "error-ttl",
        "a duration",
        "`500ms`",
        "How long it is remembered that a load failed.",
    ),
    key(
        "jitter",
        "a number from 0 to 0.5",
        "`0`",
        "By which part `ttl` is shortened at most, at random. What a client sets itself is not.",
    ),
    key(
        "lease",
        "a duration",
        "`0`",
        "How long clients that read a missing value wait for the first of them to set it. 0 is \
         not at all.",
    ),
    key(
        "tags",
        "a list of texts",
        "none",
        "The tags of its keys, with `{1}` for what a star caught.",
    ),
    key(
        "write",
        "`around`, `through`",
        "`around`",
        "Whether SET and DEL of clients go to the origin first (`through`).",
    ),
    key(
        "coalesce-across-fronts",
        "true or false",
        "false",
        "Whether the fronts of one upstream load a key once together.",
    ),
];

pub(super) fn read(table: &Table<'_>) -> Result<RuleSpec, Error> {
    table.only(&[KEYS])?;
    let pattern = table.needed_text("match")?;
    if pattern.len() > PATTERN_BYTES_MAX {
        let why = format!("is longer than {PATTERN_BYTES_MAX} bytes");
        return Err(table.error("match", why));
    }
    let or = |key: &str, default| Ok(table.duration(key)?.unwrap_or(default));
    let write = table.choice("write", &["around", "through"])?;
    Ok(RuleSpec {
        name: match table.text("name")? {
            Some(name) if !name.is_empty() => name,
            Some(_) | None => pattern.clone(),
        },
        pattern,
        origin: table.text("origin")?,
        ttl: table.positive("ttl")?,
        near_ttl: table.positive("near-ttl")?,
        beta: table.real("beta", 0.0, 100.0)?.unwrap_or(1.0),
        stale_while_revalidate: or("stale-while-revalidate", Duration::ZERO)?,
        stale_if_error: or("stale-if-error", Duration::ZERO)?,
        soft_timeout: or("soft-timeout", Duration::ZERO)?,
        timeout: table.positive("timeout")?.unwrap_or(Duration::from_secs(2)),
        negative_ttl: or("negative-ttl", Duration::from_secs(5))?,
        error_ttl: or("error-ttl", Duration::from_millis(500))?,
        jitter: table.real("jitter", 0.0, 0.5)?.unwrap_or(0.0),
        lease: or("lease", Duration::ZERO)?,
        tags: table.templates("tags")?.unwrap_or_default(),
        write: match write {
            Some(1) => WriteMode::Through,
            Some(_) | None => WriteMode::Around,
        },
        coalesce_across: table.flag("coalesce-across-fronts", false)?,
    })
}
