//! What a load brings is kept upstream; and where fronts share their loads, one of them does it.
//!
//! With `coalesce-across-fronts`, a front that is about to load a key puts a placeholder beside it
//! upstream, which lives for a second and is renewed for as long as the load lasts. Whoever finds
//! one there looks for the value instead, until that has come or the placeholder is gone: its owner
//! may have died. Who has put one looks as well before it loads: another's load may have ended
//! between the read that found nothing and the placeholder.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::pool::Pool;
use super::tags;
use super::waiting::Waiting;
use super::wire::request_of;
use crate::policy::{Brought, Keep, Permit};
use crate::resp::frame::Kind;
use crate::upstream::shared::Link;

/// Sees to it that a load begins, and stores what it brings.
pub(super) async fn keep(pool: Rc<Pool>, keep: Keep, place: Whether) {
    let Keep {
        db,
        key,
        brought,
        permit,
        is_shared,
        has_tags,
    } = keep;
    let Some(permit) = permit else {
        return store(&pool, brought, place, None).await;
    };
    if !is_shared {
        let since = begin(&pool, db, has_tags).await;
        let _ = permit.send(Permit::Load);
        return store(&pool, brought, place, since).await;
    }
    let placeholder = Placeholder::new(&pool, db, &key);
    loop {
        let is_ours = placeholder.put().await;
        // Another may have stored it since it was asked for here. The value that a refresh is to
        // replace says nothing.
        let tells = !is_ours || place == Whether::Absent;
        if tells && let Some(value) = look(&pool, db, &key).await {
            // Nobody may be waiting for it any more.
            let _ = permit.send(Permit::Found(value));
            if is_ours {
                placeholder.take_away().await;
            }
            return;
        }
        if is_ours {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        if permit.is_closed() {
            return;
        }
    }
    let since = begin(&pool, db, has_tags).await;
    let _ = permit.send(Permit::Load);
    let storing = store(&pool, brought, place, since);
    placeholder.hold(storing).await;
}

/// Upstream's count of invalidated tags, where a load that begins now may have any.
async fn begin(pool: &Rc<Pool>, db: u16, has_tags: bool) -> Option<u64> {
    if !has_tags {
        return None;
    }
    let link = Rc::clone(pool.any_link()?);
    tags::count_now(&link, u32::from(db)).await
}

/// The value that upstream has.
async fn look(pool: &Rc<Pool>, db: u16, key: &[u8]) -> Option<Bytes> {
    let reply = ask(pool, db, &[b"GET", key]).await?;
    value_of(&reply).map(Bytes::copy_from_slice)
}

/// What has to be there still for a loaded value to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whether {
    Absent,
    Present,
}

/// Says upstream that a key is being loaded.
struct Placeholder<'p> {
    pool: &'p Rc<Pool>,
    db: u16,
    name: Vec<u8>,
    /// Its value: whose it is.
    owner: String,
}

impl<'p> Placeholder<'p> {
    fn new(pool: &'p Rc<Pool>, db: u16, key: &[u8]) -> Self {
        Self {
            pool,
            db,
            name: [PLACEHOLDER, key].concat(),
            owner: format!("{:032x}", rand::random::<u128>()),
        }
    }

    /// Puts it there, unless there is one. Where upstream does not take it, as it is full or these
    /// keys are not allowed, each front loads for itself.
    async fn put(&self) -> bool {
        let (name, owner) = (&self.name, self.owner.as_bytes());
        let words: [&[u8]; 6] = [b"SET", name, owner, b"PX", PLACEHOLDER_MS, b"NX"];
        let reply = ask(self.pool, self.db, &words).await;
        reply.is_some_and(|reply| reply.starts_with(b"+") || reply.starts_with(b"-"))
    }

    /// Renews it until `work` ends, then takes it away.
    async fn hold(&self, work: impl Future<Output = ()>) {
        tokio::pin!(work);
        while tokio::time::timeout(RENEW_EVERY, &mut work).await.is_err() {
            self.run(RENEW_IF_SAME).await;
        }
        self.take_away().await;
    }

    async fn take_away(&self) {
        self.run(DELETE_IF_SAME).await;
    }

    async fn run(&self, script: &[u8]) {
        let (name, owner) = (&self.name, self.owner.as_bytes());
        let words: [&[u8]; 6] = [b"EVAL", script, b"1", name, owner, PLACEHOLDER_MS];
        ask(self.pool, self.db, &words).await;
    }
}

/// Stores what a load brings upstream.
async fn store(
    pool: &Rc<Pool>,
    brought: oneshot::Receiver<Brought>,
    place: Whether,
    since: Option<u64>,
) {
    // Without a value there is nothing to keep.
    let Ok(brought) = brought.await else {
        return;
    };
    if brought.is_void() {
        return;
    }
    let (db, key) = (brought.db, &*brought.key);
    let ttl = brought.ttl_ms.map(|ms| ms.to_string());
    let condition: &[u8] = match place {
        Whether::Absent => b"NX",
        Whether::Present => b"XX",
    };
    let mut words: Vec<&[u8]> = vec![&brought.value, condition];
    if let Some(ttl) = &ttl {
        words.extend([&b"PX"[..], ttl.as_bytes()]);
    }
    let is_stored = is_ok(send(pool, &brought, &words, since).await.as_deref());
    if is_stored && brought.is_void() {
        // It was changed while the value was on its way, perhaps before that got there.
        ask(
            pool,
            db,
            &[b"EVAL", DELETE_IF_SAME, b"1", key, &brought.value],
        )
        .await;
    }
}

/// Sends a loaded value, by words of `SET`: the reply. Nothing, if it has tags, and it is not known
/// since when.
async fn send(
    pool: &Rc<Pool>,
    brought: &Brought,
    words: &[&[u8]],
    since: Option<u64>,
) -> Option<Vec<u8>> {
    let (front, link) = (&pool.front, Rc::clone(pool.any_link()?));
    let (key, is_cluster) = (&*brought.key, front.upstream.is_cluster());
    let tags: Vec<_> = brought.tags.iter().map(Vec::as_slice).collect();
    if !tags.is_empty() {
        front.tags.note_use();
        since?;
    }
    if is_cluster && !tags.is_empty() {
        return tags::Steps(link).set(key, words, &tags, since).await.ok();
    }
    let request = if is_cluster || !front.tags.are_used() {
        let mut all = vec![&b"SET"[..], key];
        all.extend(words);
        request_of(&all)
    } else {
        tags::set_tagged(key, words, &tags, since)
    };
    ask_over(&link, u32::from(brought.db), &request).await
}

/// Upstream's reply to a request, if there is one.
async fn ask(pool: &Rc<Pool>, db: u16, words: &[&[u8]]) -> Option<Vec<u8>> {
    let link = Rc::clone(pool.any_link()?);
    ask_over(&link, u32::from(db), &request_of(words)).await
}

/// The same, over this connection.
pub(super) async fn ask_over(
    link: &Link<Waiting>,
    database: u32,
    request: &[u8],
) -> Option<Vec<u8>> {
    let (tell, told) = oneshot::channel();
    link.send(database, request, Waiting::Asked(Vec::new(), Some(tell)));
    told.await.ok()
}

/// Takes a part of the reply to [`ask`]; tells all of it at its end.
pub(super) fn take_asked(
    reply: &mut Vec<u8>,
    tell: &mut Option<oneshot::Sender<Vec<u8>>>,
    bytes: &[u8],
    ended: Option<Kind>,
) {
    reply.extend_from_slice(bytes);
    if ended.is_some()
        && let Some(tell) = tell.take()
    {
        // Who asked may be gone.
        let _ = tell.send(std::mem::take(reply));
    }
}

fn is_ok(reply: Option<&[u8]>) -> bool {
    reply.is_some_and(|reply| reply.starts_with(b"+"))
}

/// The string in a reply.
fn value_of(reply: &[u8]) -> Option<&[u8]> {
    let head = reply.strip_prefix(b"$")?;
    let end = memchr::memchr(b'\n', head)?;
    let value = head.get(end + 1..head.len().checked_sub(2)?)?;
    (!head.starts_with(b"-")).then_some(value)
}

/// What the name of a placeholder begins with; the key follows.
const PLACEHOLDER: &[u8] = b"corral:loading:";
/// How long one lives after its owner died, in ms.
const PLACEHOLDER_MS: &[u8] = b"1000";
const RENEW_EVERY: Duration = Duration::from_millis(300);
/// How often a value that another front loads is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(25);
const RENEW_IF_SAME: &[u8] = b"if redis.call('GET', KEYS[1]) == ARGV[1] then \
    return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
/// Takes a value back that should not have been stored, unless there is another by now.
const DELETE_IF_SAME: &[u8] =
    b"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
