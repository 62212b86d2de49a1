//! All that messages could have named while nobody heard them.
//!
//! A place of a name stands for anything, so what is looked for is a glob. Standalone, keys and
//! tags that fit are made stale where a rule has a stale window for them, else they are gone; as a
//! front, the keys are removed upstream. A few at a time, so that no client waits for it.

use crate::clock;
use crate::config::rules::EventSpec;
use crate::config::rules::naming::Naming;
use crate::instance::Instance;
use crate::keyspace::View;
use crate::policy::rules::Pattern;
use crate::upstream::conversation::Value;

use super::effect::{invalidate_tags_here, invalidate_tags_upstream, remove_here, remove_upstream};

/// Keys looked at in one go.
const SLICE: usize = 128;
/// The same, as upstream is asked for it.
const SLICE_UPSTREAM: &[u8] = b"512";
/// The set of all tags upstream, and what the names of all begin with that is kept there of tags.
const TAGS: &[u8] = b"corral:tags";
const OWN: &[u8] = b"corral:";

/// Sweeps what an event could have named: how many keys that were.
///
/// # Errors
/// Upstream's words. It must be begun again then.
pub(super) async fn sweep(instance: &Instance, spec: &EventSpec) -> Result<usize, String> {
    let Some(upstream) = &instance.upstream else {
        return Ok(sweep_here(instance, spec).await);
    };
    // What is being loaded may be from before.
    instance.policy.all_changed_elsewhere();
    let database = spec.db.map_or(upstream.url.database, u32::from);
    let mut swept = 0;
    for naming in &spec.keys {
        let glob = naming.glob();
        let keys = Looked::Keys;
        swept += sweep_upstream(instance, database, &glob, keys).await?;
    }
    for naming in &spec.tags {
        let glob = naming.glob();
        swept += sweep_upstream(instance, database, &glob, Looked::Tags).await?;
    }
    Ok(swept)
}

async fn sweep_here(instance: &Instance, spec: &EventSpec) -> usize {
    let db = spec.db.unwrap_or(0);
    let now_ms = clock::unix_ms;
    {
        // What is being loaded may be from before, whichever key it is for.
        let mut view = View::new(instance.store.lock_all(), now_ms());
        let physical = view.locked().physical(db);
        view.locked().tell_all(physical);
    }
    let mut swept = 0;
    let globs = |names: &[Naming]| -> Vec<Pattern> {
        let glob = |naming: &Naming| Pattern::new(&naming.glob());
        names.iter().map(glob).collect()
    };
    let fits = |globs: &[Pattern], name: &[u8]| globs.iter().any(|glob| glob.matches(name));
    let (keys, tags) = (globs(&spec.keys), globs(&spec.tags));
    let mut cursor = 0;
    while !keys.is_empty() {
        let mut found: Vec<Box<[u8]>> = Vec::new();
        cursor = View::new(instance.store.lock_none(), now_ms()).scan(db, cursor, SLICE, |entry| {
            if fits(&keys, entry.key()) {
                found.push(entry.key().into());
            }
        });
        swept += remove_here(instance, db, &found, true);
        if cursor == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    while !tags.is_empty() {
        let mut found: Vec<Box<[u8]>> = Vec::new();
        let view = View::new(instance.store.lock_none(), now_ms());
        cursor = view.scan_tags(db, cursor, SLICE, |tag| {
            if fits(&tags, tag) {
                found.push(tag.into());
            }
        });
        drop(view);
        swept += invalidate_tags_here(instance, db, &found, true);
        if cursor == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    swept
}

/// What is looked for upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Keys,
    Tags,
}

async fn sweep_upstream(
    instance: &Instance,
    database: u32,
    glob: &[u8],
    looked: Looked,
) -> Result<usize, String> {
    let mut cursor = b"0".to_vec();
    let mut swept = 0;
    loop {
        let mut words: Vec<&[u8]> = match looked {
            Looked::Keys => vec![b"SCAN"],
            Looked::Tags => vec![b"SSCAN", TAGS],
        };
        words.extend([&cursor[..], b"MATCH", glob, b"COUNT", SLICE_UPSTREAM]);
        let (next, found) = ask_for_names(instance, database, &words).await?;
        let removed = match looked {
            Looked::Keys => {
                // What is kept there of tags goes with their keys.
                let mut keys = found;
                keys.retain(|key| !key.starts_with(OWN));
                remove_upstream(instance, database, keys).await
            }
            Looked::Tags => invalidate_tags_upstream(instance, database, found).await,
        };
        swept += removed.map_err(|refused| refused.to_string())?;
        cursor = next;
        if cursor == b"0" {
            return Ok(swept);
        }
    }
}

/// One turn of a scan: the cursor to go on with, and names.
async fn ask_for_names(
    instance: &Instance,
    database: u32,
    words: &[&[u8]],
) -> Result<(Vec<u8>, Vec<Box<[u8]>>), String> {
    let front = instance.front().ok_or("the server is stopping")?;
    let told = front.ask(database, words);
    drop(front);
    let reply = told.await.map_err(|_| "upstream is not connected")?;
    let Some(reply) = Value::of(&reply) else {
        return Err("upstream answered a scan with something else".to_owned());
    };
    match reply.elements() {
        [Value::Text(next), names] => {
            let names = names.elements().iter().filter_map(Value::text);
            Ok((next.clone(), names.map(Box::from).collect()))
        }
        _ => match reply {
            Value::Error(error) => Err(error),
            Value::Text(_) | Value::Null | Value::Array(_) => {
                Err("upstream answered a scan with something else".to_owned())
            }
        },
    }
}
