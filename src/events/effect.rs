//! What it is to invalidate keys and tags, for all who say from outside that something changed:
//! events, and `POST /invalidate`.
//!
//! Standalone, a key leaves the keyspace, and a load of it under way leaves nothing behind; a tag
//! is invalidated as by `TAG.INVALIDATE`. As a front, keys, and those of tags, are removed upstream
//! by writes of the front's own, so that copies here are void before it is over, and those of
//! others by what upstream tells them.

use std::fmt;
use std::sync::Arc;

use crate::clock;
use crate::instance::Instance;
use crate::instance::front::Watched;
use crate::keyspace::{Place, View};

/// What is to be invalidated.
#[derive(Debug, Default)]
pub struct Invalidation {
    /// The database. `None`: that of a client that selects none.
    pub db: Option<u16>,
    /// Keys.
    pub keys: Vec<Box<[u8]>>,
    /// Tags.
    pub tags: Vec<Box<[u8]>>,
    /// Whether that may be served stale, where a rule allows it.
    pub is_soft: bool,
}

/// What was invalidated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Invalidated {
    /// Keys that were there.
    pub keys: usize,
    /// Keys of the tags, one that carries several counted for each.
    pub of_tags: usize,
}

/// Why nothing, or not all, was invalidated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be in this mode.
    Unsupported(&'static str),
    /// Upstream did not do it, or did not say so.
    Upstream(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(why) => formatter.write_str(why),
            Self::Upstream(why) => formatter.write_str(why),
        }
    }
}

/// Invalidates keys and tags.
///
/// # Errors
/// [`Refused`]. To try again does no harm.
pub async fn invalidate(instance: &Instance, asked: Invalidation) -> Result<Invalidated, Refused> {
    let Invalidation {
        db,
        keys,
        tags,
        is_soft,
    } = asked;
    let Some(upstream) = &instance.upstream else {
        let db = db.unwrap_or(0);
        return Ok(Invalidated {
            of_tags: invalidate_tags_here(instance, db, &tags, is_soft),
            keys: remove_here(instance, db, &keys, is_soft),
        });
    };
    let database = db.map_or(upstream.url.database, u32::from);
    Ok(Invalidated {
        of_tags: invalidate_tags_upstream(instance, database, tags).await?,
        keys: remove_upstream(instance, database, keys).await?,
    })
}

/// Invalidates tags: how many keys carried them.
pub(super) fn invalidate_tags_here(
    instance: &Instance,
    db: u16,
    tags: &[Box<[u8]>],
    is_soft: bool,
) -> usize {
    let mut view = View::new(instance.store.lock_none(), clock::unix_ms());
    view.invalidate_tags(db, tags.iter().map(|tag| &**tag), is_soft)
}

/// Takes keys out of the keyspace, or lets them expire: how many were there.
pub(super) fn remove_here(
    instance: &Instance,
    db: u16,
    keys: &[Box<[u8]>],
    is_soft: bool,
) -> usize {
    let now_ms = clock::unix_ms();
    let removed = |key: &&[u8]| {
        let key = instance.store.key(key);
        let mut view = View::new(instance.store.lock(key.hash), now_ms);
        let place = Place { db, key };
        if is_soft {
            view.soften(place)
        } else {
            view.remove(place)
        }
    };
    keys.iter().map(|key| &**key).filter(removed).count()
}

/// Removes keys upstream: how many were there.
pub(super) async fn remove_upstream(
    instance: &Instance,
    database: u32,
    keys: Vec<Box<[u8]>>,
) -> Result<usize, Refused> {
    if keys.is_empty() {
        return Ok(0);
    }
    let told = front_of(instance)?.remove(database, keys);
    settled(told.await)
}

/// Removes the keys of tags upstream: how many there were.
pub(super) async fn invalidate_tags_upstream(
    instance: &Instance,
    database: u32,
    tags: Vec<Box<[u8]>>,
) -> Result<usize, Refused> {
    if tags.is_empty() {
        return Ok(0);
    }
    let told = front_of(instance)?.invalidate_tags(database, tags);
    settled(told.await)
}

fn front_of(instance: &Instance) -> Result<Arc<dyn Watched>, Refused> {
    instance.front().ok_or(Refused::Unsupported(
        "keys are upstream's: there is an upstream, and no near cache",
    ))
}

/// What a front told; nothing, if it ended.
fn settled<E>(told: Result<Result<usize, String>, E>) -> Result<usize, Refused> {
    match told {
        Ok(done) => done.map_err(Refused::Upstream),
        Err(_) => Err(Refused::Upstream("the server is stopping".to_owned())),
    }
}
