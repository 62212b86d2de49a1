//! Tags of keys that are upstream's.
//!
//! What a tag's keys are is kept upstream too, under names that begin with `corral:`, by scripts:
//! it outlives this server, and all fronts of one upstream share it. A request about tags goes
//! upstream as the script that does it, over whichever connection it would have gone, in a
//! transaction as well.
//!
//! `TAG.INVALIDATE` removes the keys, some at a time so that upstream hears others between, and is
//! answered when the last is gone and all copies are void that were read before: who begins to
//! read then, here or directly, finds none. Other fronts are told as of any change. A value whose
//! making began before is not stored after: whoever makes one notes upstream's count of
//! invalidations (`corral:seq`) when it begins.
//!
//! The scripts name keys as they find them, which a Cluster does not allow: [`cluster`] has the
//! steps that do the same there.

mod cluster;

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) use cluster::Steps;

use super::client::{Flow, Shared};
use super::keeping::ask_over;
use super::pool::Pool;
use super::waiting::{Waiting, failure};
use super::wire::request_of;
use crate::command::error::TOO_MANY_TAGS;
use crate::command::keys_of::for_each_key;
use crate::command::spec::Command;
use crate::command::strings::tags_in_set;
use crate::command::{lookup, tags as own};
use crate::near::Why;
use crate::resp::frame::Kind;
use crate::resp::{Protocol, Reply, Request};
use crate::upstream::Upstream;
use crate::upstream::shared::Link;

/// A script, behind what all have in common.
macro_rules! script {
    ($name:literal) => {
        concat!(
            include_str!("tags/common.lua"),
            include_str!(concat!("tags/", $name, ".lua"))
        )
        .as_bytes()
    };
}

const SET: &[u8] = script!("set");
const ADD: &[u8] = script!("add");
const REM: &[u8] = script!("rem");
const OF: &[u8] = script!("of");
const MEMBERS: &[u8] = script!("members");
const INVALIDATE: &[u8] = script!("invalidate");
const UNTAG: &[u8] = script!("untag");
const OVERWRITE: &[u8] = script!("overwrite");
const RENAME: &[u8] = script!("rename");
const SWEEP: &[u8] = script!("sweep");

/// A request that asks upstream to run a script.
fn eval(script: &[u8], keys: &[&[u8]], arguments: &[&[u8]]) -> Vec<u8> {
    let count = keys.len().to_string();
    let mut words = vec![&b"EVAL"[..], script, count.as_bytes()];
    words.extend(keys);
    words.extend(arguments);
    request_of(&words)
}

/// What goes upstream instead of a request about tags, if it is one, and is to be understood, and
/// one request can do it.
pub(super) fn translate(upstream: &Upstream, request: &Request<'_>) -> Option<Vec<u8>> {
    // Of all names that pass by, few are this long, have a point, or are SET's.
    match request.argument(0) {
        [b't' | b'T', _, _, b'.', ..] => instead_of(request, upstream.is_cluster()),
        [b's' | b'S', b'e' | b'E', b't' | b'T'] if !upstream.is_cluster() => {
            instead_of_set(request)
        }
        _ => None,
    }
}

fn instead_of(request: &Request<'_>, is_cluster: bool) -> Option<Vec<u8>> {
    let command = lookup::resolve(request).ok()?;
    let key = request.argument(1);
    if is_cluster && command.name != "tag.scan" {
        return cluster::in_one_step(command.name, key);
    }
    let behind: Vec<_> = request.iter_from(2).collect();
    Some(match command.name {
        "tag.add" => {
            own::check(request.iter_from(2)).ok()?;
            let most = own::TAGS_PER_KEY_MAX.to_string();
            let mut arguments = vec![most.as_bytes(), TOO_MANY_TAGS.as_bytes()];
            arguments.extend(behind);
            eval(ADD, &[key], &arguments)
        }
        "tag.rem" => eval(REM, &[key], &behind),
        "tag.of" => eval(OF, &[key], &[]),
        "tag.members" => eval(MEMBERS, &[], &[key]),
        "tag.card" => request_of(&[b"ZCARD", &[MEMBERS_OF, key].concat()]),
        "tag.scan" => {
            own::Scan::parse(request).ok()?;
            let mut words = vec![&b"SSCAN"[..], NAMES, key];
            words.extend(behind);
            request_of(&words)
        }
        "tag.invalidate" => {
            let mut arguments: Vec<&[u8]> = vec![b"", b""];
            arguments.extend(own::invalidated(request));
            eval(INVALIDATE, &[], &arguments)
        }
        _ => return None,
    })
}

/// `SET … TAGS`
fn instead_of_set(request: &Request<'_>) -> Option<Vec<u8>> {
    if request.len() < SET_TAGS_LEN_MIN {
        return None;
    }
    let (first, count) = tags_in_set(request)?;
    let tagged = Tagged {
        tags: request
            .iter_from(first)
            .take(count)
            .map(<[u8]>::to_vec)
            .collect(),
        left_out: first - 2..first + count,
        since: None,
    };
    Some(tagged.request(request))
}

/// Sets a key to a value, by words of `SET`, with these tags. Its making began at `since`, by
/// upstream's count of invalidations.
pub(super) fn set_tagged(
    key: &[u8],
    words: &[&[u8]],
    tags: &[&[u8]],
    since: Option<u64>,
) -> Vec<u8> {
    let since = since.map_or_else(String::new, |since| since.to_string());
    let count = tags.len().to_string();
    let mut arguments = vec![since.as_bytes(), count.as_bytes()];
    arguments.extend(tags);
    arguments.extend(words);
    eval(SET, &[key], &arguments)
}

/// Takes keys out of all their tags.
pub(super) fn untag(keys: &[Box<[u8]>]) -> Vec<u8> {
    let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
    eval(UNTAG, &keys, &[])
}

/// What a front knows of the tags upstream.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// Whether there are, or have been, any: else keys need not be looked after.
    are_used: AtomicBool,
}

impl Tags {
    pub(super) fn are_used(&self) -> bool {
        self.are_used.load(Ordering::Relaxed)
    }

    pub(super) fn note_use(&self) {
        if !self.are_used() {
            self.are_used.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    /// `TAG.*`; nothing where it is the front's own handler's to say what is wrong.
    pub(super) fn about_tags(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let is_cluster = self.front.upstream.is_cluster();
        if command.name == "tag.invalidate" {
            let tags: Vec<Box<[u8]>> = own::invalidated(request).map(Box::from).collect();
            let (pool, link) = (Rc::clone(&self.pool), Rc::clone(self.link()));
            let database = self.session.database;
            return Some(self.in_steps(async move {
                let removed = remove_tagged(&link, (is_cluster, database), &tags).await;
                pool.front.settle_write().await;
                removed.map(number_reply)
            }));
        }
        if let Some(instead) = translate(&self.front.upstream, request) {
            self.front.tags.note_use();
            self.plain(&instead);
            return Some(Flow::Taken);
        }
        if is_cluster {
            return self.about_tags_in_steps(command, request);
        }
        None
    }

    /// The same, in front of a Cluster.
    fn about_tags_in_steps(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let steps = Steps(Rc::clone(self.link()));
        let first = Box::<[u8]>::from(request.argument(1));
        let tags: Vec<Box<[u8]>> = request.iter_from(2).map(Box::from).collect();
        let protocol = self.session.protocol;
        match command.name {
            "tag.add" if own::check(request.iter_from(2)).is_ok() => {
                self.front.tags.note_use();
                Some(self.in_steps(async move {
                    steps.add(&first, &borrowed(&tags)).await.map(number_reply)
                }))
            }
            "tag.rem" => Some(self.in_steps(async move {
                let removed = steps.remove(&first, &borrowed(&tags)).await;
                removed.map(number_reply)
            })),
            "tag.card" => Some(self.in_steps(async move {
                let keys = steps.members(&first).await?;
                Ok(number_reply(keys.len() as u64))
            })),
            "tag.members" => Some(self.in_steps(async move {
                let keys = steps.members(&first).await?;
                let mut reply = Reply::new(protocol);
                reply.set(keys.len());
                keys.iter().for_each(|key| reply.bulk(key));
                Ok(reply.bytes().to_vec())
            })),
            _ => None,
        }
    }

    /// Does what takes several requests; what the client asks next waits for its reply.
    fn in_steps(
        &mut self,
        steps: impl Future<Output = Result<Vec<u8>, Vec<u8>>> + 'static,
    ) -> Flow {
        if !self.outbox.is_idle() {
            return Flow::Wait;
        }
        self.waits_for_replies = true;
        self.outbox.begin_unknown();
        let place = self.expect();
        tokio::task::spawn_local(async move {
            let reply = steps.await;
            place.outbox.end_unknown();
            match reply {
                Ok(reply) => place.put(&reply, Some(Kind::Reply)),
                Err(error) => place.put(&error, Some(Kind::Error)),
            }
        });
        Flow::TakenAndWait
    }

    /// A write as it goes upstream: what it does to the tags of its keys goes with it.
    pub(super) fn with_tags<'r>(
        &self,
        command: &Command,
        request: &Request<'_>,
        raw: &'r [u8],
    ) -> Cow<'r, [u8]> {
        let tags = &self.front.tags;
        if let Some(tagged) = self.tagged(command, request) {
            tags.note_use();
            return Cow::Owned(tagged.request(request));
        }
        if !tags.are_used() {
            return Cow::Borrowed(raw);
        }
        let is_cluster = self.front.upstream.is_cluster();
        if let "rename" | "renamenx" | "copy" = command.name
            && !is_cluster
            && let Some(instead) = renamed(command, request)
        {
            return Cow::Owned(instead);
        }
        if command.name == "set" && !is_cluster {
            return Cow::Owned(Tagged::default().request(request));
        }
        if let Some(if_absent) = leaves_tags(command.name, request)
            && let Some(instead) = overwriting(command, request, if_absent, is_cluster)
        {
            return Cow::Owned(instead);
        }
        Cow::Borrowed(raw)
    }

    /// A `SET` whose value gets tags, in front of a Cluster.
    pub(super) fn set_in_steps(
        &mut self,
        command: &Command,
        request: &Request<'_>,
    ) -> Option<Flow> {
        if !self.front.upstream.is_cluster() {
            return None;
        }
        let tagged = self.tagged(command, request)?;
        let key = Box::<[u8]>::from(request.argument(1));
        if self.front.instance.policy.writes_through(&key) {
            self.outbox.say(NOT_THROUGH);
            return Some(Flow::Taken);
        }
        if !self.outbox.is_idle() {
            return Some(Flow::Wait);
        }
        self.front.tags.note_use();
        let words = tagged.words(request).map(Box::from);
        let words: Vec<Box<[u8]>> = words.collect();
        let (pool, link) = (Rc::clone(&self.pool), Rc::clone(self.link()));
        for_each_key(command, request, |at| {
            self.front.void(request.argument(at), Why::WriteStart);
        });
        let db = u16::try_from(self.session.database).unwrap_or_default();
        let policy = &self.front.instance.policy;
        policy.made_elsewhere(self.client.id, db, &key);
        Some(self.in_steps(async move {
            let tags: Vec<&[u8]> = tagged.tags.iter().map(Vec::as_slice).collect();
            let steps = Steps(link);
            let reply = steps
                .set(&key, &borrowed(&words), &tags, tagged.since)
                .await;
            pool.front.void(&key, Why::WriteEnd);
            reply
        }))
    }

    /// What there is of tags in a `SET`, if its value gets any: the client's, and those that a rule
    /// gives to its key.
    fn tagged(&self, command: &Command, request: &Request<'_>) -> Option<Tagged> {
        if command.name != "set" {
            return None;
        }
        let policy = &self.front.instance.policy;
        let key = request.argument(1);
        let of_rule = if policy.is_on() {
            policy.tags_of(key)
        } else {
            Vec::new()
        };
        if request.len() < SET_TAGS_LEN_MIN && of_rule.is_empty() {
            return None;
        }
        let given = tags_in_set(request);
        if given.is_none() && of_rule.is_empty() {
            return None;
        }
        let left_out = given.map_or(0..0, |(first, count)| first - 2..first + count);
        let given = request.iter_from(left_out.start + 2);
        let given = given.take(left_out.len().saturating_sub(2));
        let db = u16::try_from(self.session.database).ok();
        Some(Tagged {
            tags: given.map(<[u8]>::to_vec).chain(of_rule).collect(),
            left_out,
            since: db.and_then(|db| policy.began_elsewhere(self.client.id, db, key)),
        })
    }
}

/// A `SET` whose value gets tags, or gets rid of them.
#[derive(Default)]
struct Tagged {
    tags: Vec<Vec<u8>>,
    /// The arguments that say so.
    left_out: Range<usize>,
    /// Upstream's count of invalidations when the value's making began, if that was before now.
    since: Option<u64>,
}

impl Tagged {
    /// The value, and the options but for the tags.
    fn words<'r>(&self, request: &Request<'r>) -> impl Iterator<Item = &'r [u8]> {
        let arguments = request.iter_from(2).enumerate();
        let is_left_out = |at: usize| self.left_out.contains(&(at + 2));
        arguments
            .filter(move |(at, _)| !is_left_out(*at))
            .map(|(_, word)| word)
    }

    fn request(&self, request: &Request<'_>) -> Vec<u8> {
        let words: Vec<_> = self.words(request).collect();
        let tags: Vec<_> = self.tags.iter().map(Vec::as_slice).collect();
        set_tagged(request.argument(1), &words, &tags, self.since)
    }
}

fn borrowed(words: &[Box<[u8]>]) -> Vec<&[u8]> {
    words.iter().map(|word| &**word).collect()
}

fn number_reply(number: u64) -> Vec<u8> {
    let mut reply = Reply::new(Protocol::Resp2);
    reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
    reply.bytes().to_vec()
}

impl Shared {
    /// Gives the keys that were just written the tags of their rules; `SET` had them with it.
    pub(super) fn tag_by_rules(&self, command: &Command, request: &Request<'_>) {
        let policy = &self.front.instance.policy;
        if !policy.is_on() || command.name == "set" {
            return;
        }
        let most = own::TAGS_PER_KEY_MAX.to_string();
        for_each_key(command, request, |at| {
            let key = request.argument(at);
            let tags = policy.tags_of(key);
            if !tags.is_empty() && self.front.upstream.is_cluster() {
                let (key, steps) = (Box::<[u8]>::from(key), Steps(Rc::clone(self.link())));
                tokio::task::spawn_local(async move {
                    let tags: Vec<_> = tags.iter().map(Vec::as_slice).collect();
                    // Told to nobody, as nobody asked for it.
                    let _ = steps.add(&key, &tags).await;
                });
            } else if !tags.is_empty() {
                let mut arguments = vec![most.as_bytes(), TOO_MANY_TAGS.as_bytes()];
                arguments.extend(tags.iter().map(Vec::as_slice));
                let add = eval(ADD, &[key], &arguments);
                let database = self.session.database;
                self.link().send(database, &add, Waiting::Nobody);
            }
        });
    }
}

/// `RENAME`, `RENAMENX`, and `COPY` within its database, with which the tags go along.
fn renamed(command: &Command, request: &Request<'_>) -> Option<Vec<u8>> {
    let mut options = request.iter_from(3);
    if options.any(|word| !word.eq_ignore_ascii_case(b"REPLACE")) {
        return None;
    }
    let mut arguments = vec![command.name.as_bytes()];
    arguments.extend(request.iter_from(3));
    let keys = [request.argument(1), request.argument(2)];
    Some(eval(RENAME, &keys, &arguments))
}

/// A command that overwrites or removes its keys, which leave their tags by it. Nothing where it
/// cannot be done in one step.
fn overwriting(
    command: &Command,
    request: &Request<'_>,
    if_absent: &[u8],
    is_cluster: bool,
) -> Option<Vec<u8>> {
    if request.len() > WORDS_MAX {
        return None;
    }
    let mut keys = Vec::new();
    for_each_key(command, request, |at| keys.push(request.argument(at)));
    let words: Vec<_> = request.iter_from(0).collect();
    if is_cluster {
        let [key] = keys[..] else {
            return None;
        };
        return Some(cluster::overwriting(key, if_absent, &words));
    }
    let arguments: Vec<_> = std::iter::once(if_absent).chain(words).collect();
    Some(eval(OVERWRITE, &keys, &arguments))
}

/// Whether a command overwrites or removes its keys: `1` if it does so only with those that are not
/// there.
fn leaves_tags(name: &str, request: &Request<'_>) -> Option<&'static [u8]> {
    match name {
        "set" => {
            let mut options = request.iter_from(3);
            let only_new = options.any(|word| word.eq_ignore_ascii_case(b"NX"));
            Some(if only_new { b"1" } else { b"0" })
        }
        "setnx" | "msetnx" => Some(b"1"),
        "setex" | "psetex" | "getset" | "mset" | "del" | "unlink" | "getdel" => Some(b"0"),
        _ => None,
    }
}

/// Removes the keys of tags upstream. How many there were.
///
/// # Errors
/// The reply that says what is wrong.
pub(super) async fn remove_tagged(
    link: &Rc<Link<Waiting>>,
    (is_cluster, database): (bool, u32),
    tags: &[Box<[u8]>],
) -> Result<u64, Vec<u8>> {
    if is_cluster {
        return Steps(Rc::clone(link)).invalidate(tags).await;
    }
    let (mut began, mut removed, mut tags) = (Vec::new(), 0, tags);
    loop {
        let mut arguments = vec![KEYS_AT_ONCE, &began];
        arguments.extend(tags.iter().map(|tag| &**tag));
        let request = eval(INVALIDATE, &[], &arguments);
        let reply = ask_over(link, database, &request).await;
        let reply = reply.ok_or_else(|| failure("connection lost"))?;
        let Some(slice) = Slice::of(&reply) else {
            return Err(reply);
        };
        removed += slice.removed;
        if !slice.has_more {
            return Ok(removed);
        }
        began = slice.began.to_vec();
        // Else many tags would be looked through again for each slice.
        tags = tags.get(slice.done..).unwrap_or_default();
    }
}

/// What `invalidate.lua` returns.
struct Slice<'r> {
    removed: u64,
    began: &'r [u8],
    has_more: bool,
    /// Tags without keys that were there when it began.
    done: usize,
}

impl<'r> Slice<'r> {
    fn of(reply: &'r [u8]) -> Option<Self> {
        let mut lines = reply
            .split(|&byte| byte == b'\n')
            .map(<[u8]>::trim_ascii_end);
        if lines.next()? != b"*4" {
            return None;
        }
        let removed = number(lines.next()?)?;
        let began = lines.nth(1)?;
        Some(Self {
            removed,
            began,
            has_more: number(lines.next()?)? == 1,
            done: usize::try_from(number(lines.next()?)?).ok()?,
        })
    }
}

/// The number of a line `:n`.
fn number(line: &[u8]) -> Option<u64> {
    std::str::from_utf8(line.strip_prefix(b":")?)
        .ok()?
        .parse()
        .ok()
}

/// Upstream's count of invalidations, to be told with what begins to be made now.
pub(super) async fn count_now(link: &Rc<Link<Waiting>>, database: u32) -> Option<u64> {
    let reply = ask_over(link, database, &request_of(&[b"GET", SEQ])).await?;
    if reply.starts_with(b"$-") || reply.starts_with(b"_") {
        return Some(0);
    }
    let line = reply.split(|&byte| byte == b'\n').nth(1)?;
    std::str::from_utf8(line.trim_ascii_end())
        .ok()?
        .parse()
        .ok()
}

/// Finds out whether there are tags upstream, and forgets what keys they had that are gone.
pub(super) async fn look_after(pool: Rc<Pool>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(link) = pool.any_link().map(Rc::clone) else {
            continue;
        };
        let is_cluster = pool.front.upstream.is_cluster();
        for database in pool.front.databases_known() {
            if !pool.front.tags.are_used() {
                let exists = request_of(&[b"EXISTS", NAMES, SEQ]);
                let reply = ask_over(&link, database, &exists).await;
                if matches!(reply.as_deref(), Some(b":1\r\n" | b":2\r\n")) {
                    pool.front.tags.note_use();
                }
            }
            if pool.front.tags.are_used() && is_cluster {
                let steps = Steps(Rc::clone(&link));
                // Told to nobody: it is tried again.
                let _ = steps.sweep(SWEPT_TAGS, SWEPT_KEYS).await;
            } else if pool.front.tags.are_used() {
                sweep(&link, database).await;
            }
        }
    }
}

/// Looks for keys that are gone, for as long as there are many of them.
async fn sweep(link: &Rc<Link<Waiting>>, database: u32) {
    for _ in 0..SWEEPS_AT_ONCE {
        let random = (rand::random::<u32>() >> 1).to_string();
        let arguments = [SWEPT_TAGS, SWEPT_KEYS, random.as_bytes()];
        let request = eval(SWEEP, &[SWEEPING], &arguments);
        let Some(reply) = ask_over(link, database, &request).await else {
            return;
        };
        let mut numbers = reply.split(|&byte| byte == b'\n').skip(1);
        let mut next = || {
            numbers
                .next()
                .and_then(|line| number(line.trim_ascii_end()))
        };
        let (Some(looked), Some(gone)) = (next(), next()) else {
            return;
        };
        if gone * 4 <= looked {
            return;
        }
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

/// A write that an origin takes first goes upstream as it is.
const NOT_THROUGH: &[u8] =
    b"-ERR in front of a cluster, a key that is written through has no tags\r\n";
/// Names of keys upstream, as `common.lua` has them.
const NAMES: &[u8] = b"corral:tags";
const MEMBERS_OF: &[u8] = b"corral:members:";
pub(super) const SEQ: &[u8] = b"corral:seq";
const SWEEPING: &[u8] = b"corral:sweeping";

/// Words of the shortest `SET` with tags.
const SET_TAGS_LEN_MIN: usize = 6;
/// Keys that one script removes at most: others wait as long.
const KEYS_AT_ONCE: &[u8] = b"256";
/// Words of a command that a script can pass on. Keys of a longer one keep their tags.
const WORDS_MAX: usize = 4096;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What one sweep looks at: so many tags, and so many keys of each.
const SWEPT_TAGS: &[u8] = b"16";
const SWEPT_KEYS: &[u8] = b"16";
/// Sweeps in a row, and the time between them: longer than others are kept from it.
const SWEEPS_AT_ONCE: usize = 64;
const SWEEP_PAUSE: Duration = Duration::from_millis(60);
