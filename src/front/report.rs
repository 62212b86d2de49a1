//! What the front tells of itself: numbers for INFO and metrics, sentences for `CACHE.EXPLAIN`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::reads::line;
use super::removal::Order;
use super::wire::request_of;
use super::{Front, Letter, channel};
use crate::command::lookup;
use crate::command::table::COMMANDS;
use crate::instance::front::{Asked, LinkReport, Report, Watched};
use crate::near::{Explained, ExplainedVariant, Miss, Place};
use crate::resp::Protocol;
use crate::upstream::shared::{Coherence as _, Rung, Shown, TRACKER};

impl Watched for Front {
    fn report(&self) -> Report {
        let near = self.near.stats(&self.instance.store);
        let generation = self.generation(TRACKER);
        let links = self.links.lock();
        let mut links: Vec<_> = links
            .iter()
            .map(|(thread, protocol, shown)| LinkReport {
                thread: *thread,
                protocol: *protocol,
                state: shown.state(),
                waiting: shown.waiting(),
                is_armed: shown.is_armed(generation),
            })
            .collect();
        links.sort_by_key(|link| (link.thread, link.protocol.version()));
        Report {
            since_reset: near.since(&self.baseline.lock()),
            near,
            is_coherent: self.tracker.is_coherent(),
            rung: self.tracker.rung().name(),
            fences: self.tracker.fenced.load(Ordering::Relaxed),
            private_visits: self.privates.load(Ordering::Relaxed),
            tracker_losses: self.tracker.lost.load(Ordering::Relaxed),
            staleness_bound: self.bound(),
            shadow: self.shadow.report(),
            touched: self.touched.load(Ordering::Relaxed),
            links,
        }
    }

    fn remove(
        &self,
        database: u32,
        keys: Vec<Box<[u8]>>,
    ) -> oneshot::Receiver<Result<usize, String>> {
        let (tell, told) = oneshot::channel();
        self.order(Letter::Remove(Order {
            database,
            keys,
            tell,
        }));
        told
    }

    fn invalidate_tags(
        &self,
        database: u32,
        tags: Vec<Box<[u8]>>,
    ) -> oneshot::Receiver<Result<usize, String>> {
        let (tell, told) = oneshot::channel();
        self.order(Letter::Untag(database, tags, tell));
        told
    }

    fn ask(&self, database: u32, words: &[&[u8]]) -> oneshot::Receiver<Vec<u8>> {
        let (tell, told) = oneshot::channel();
        self.order(Letter::Ask(database, request_of(words), tell));
        told
    }

    fn counted(&self) -> (u64, u64) {
        let near = self.near.counted();
        (near.hits, near.misses())
    }

    fn reset(&self) {
        *self.baseline.lock() = self.near.counted();
    }

    fn rules_changed(&self) {
        // A key that had no value may have an origin now, and a copy a shorter time.
        self.near.void_all(&self.instance.store, self.now());
    }

    fn explain(&self, asked: &Asked<'_>) -> Vec<(&'static str, String)> {
        let store = &self.instance.store;
        let is_known = asked.database < store.databases();
        let place = Place {
            db: asked.database,
            key: store.key(asked.key),
        };
        let now = self.now();
        let explained = is_known.then(|| self.near.explain(store, place, now));
        let mut told = vec![
            ("mode", "front".to_owned()),
            ("database", asked.database.to_string()),
            ("coherence", self.coherence()),
        ];
        if let Some(explained) = &explained {
            let copies = explained.variants.len();
            told.push(("copies", copies.to_string()));
            for variant in &explained.variants {
                told.push(("copy", self.copy(variant)));
            }
            if copies == 0 {
                told.push(("lost", reason(explained.otherwise).to_owned()));
            }
            told.push(("reads-under-way", explained.flights.to_string()));
        }
        told.push(("client", client(asked.is_private).to_owned()));
        let policy = &self.instance.policy;
        let by_rule = policy.explain_elsewhere(asked.database, asked.key);
        told.extend(by_rule.facts);
        told.push(("get", self.get(asked, explained.as_ref())));
        let is_plain = asked.is_private || !self.instance.config().near_cache;
        if let Some(get) = by_rule.get
            && !is_plain
            && is_known
            && self.selection.has(asked.key)
        {
            told.push(("get-if-nil", get));
        }
        told
    }
}

impl Front {
    fn coherence(&self) -> String {
        let bound = self.bound();
        match (self.tracker.is_coherent(), self.tracker.rung()) {
            (true, rung) => {
                let rung = rung.name();
                format!("yes: upstream tells what changes ({rung}), and was heard of lately")
            }
            (false, Rung::TtlOnly) => {
                format!("no: upstream tells no changes; copies are kept for {bound:?} only")
            }
            (false, Rung::Unknown) => {
                "no: there is no connection yet over which upstream would tell changes".to_owned()
            }
            (false, Rung::Redirect | Rung::Broadcast) => {
                format!("no: upstream was not heard of for longer than {bound:?}")
            }
        }
    }

    fn copy(&self, variant: &ExplainedVariant) -> String {
        let index = usize::try_from(variant.line_id / 2).unwrap_or(usize::MAX);
        let name = COMMANDS.get(index).map_or("?", |command| command.name);
        let mut text = name.to_ascii_uppercase();
        for argument in arguments(&variant.arguments) {
            text.push(' ');
            text.push_str(&argument.escape_ascii().to_string());
        }
        let protocol = 2 + variant.line_id % 2;
        let channel = variant.slot;
        let is_heard = self.near.channels.is_fresh(channel, self.now().mono_ns);
        let heard = if is_heard { "heard of" } else { "silent" };
        let verdict = match variant.verdict {
            Ok(()) => "fresh".to_owned(),
            Err(miss) => format!("not served: {}", reason(miss)),
        };
        let stale = if variant.is_stale_candidate && variant.verdict.is_err() {
            ", served as stale if upstream failed"
        } else {
            ""
        };
        format!(
            "{text} (RESP{protocol}): {} bytes, read {} ms ago over connection {} ({heard}), \
             expires in {} ms, {verdict}{stale}",
            variant.reply_bytes,
            variant.age_ms,
            channel.number(),
            variant.expires_in_ms,
        )
    }

    /// What a GET would do now, and why.
    fn get(&self, asked: &Asked<'_>, explained: Option<&Explained>) -> String {
        let config = self.instance.config();
        if asked.is_private {
            return "pass over the client's own connection, as long as something binds it to that \
                    (MULTI, WATCH, a subscription, tracking, another user)"
                .to_owned();
        }
        if !config.near_cache {
            return "pass plainly: near-cache is no".to_owned();
        }
        if !self.selection.has(asked.key) {
            return "pass plainly: near-keys and near-keys-except leave this key out".to_owned();
        }
        let Some(explained) = explained else {
            let databases = self.instance.store.databases();
            return format!("pass plainly: copies are kept of {databases} databases (databases)");
        };
        let wanted = lookup::find(b"GET").map(|get| line(get, asked.protocol, &[]).id);
        let is_get =
            |copy: &&ExplainedVariant| Some(copy.line_id) == wanted && copy.arguments.is_empty();
        let verdict = explained
            .variants
            .iter()
            .find(is_get)
            .map_or(Err(explained.otherwise), |copy| copy.verdict);
        let why = match verdict {
            Ok(()) => return "be answered from memory".to_owned(),
            Err(miss) => reason(miss),
        };
        let generation = self.generation(TRACKER);
        let is_armed = |(_, protocol, shown): &(usize, Protocol, Arc<Shown>)| {
            *protocol == asked.protocol && shown.is_armed(generation)
        };
        let tracker = self
            .near
            .channels
            .is_fresh(channel(TRACKER), self.now().mono_ns);
        if !tracker || !self.links.lock().iter().any(is_armed) {
            format!("ask upstream, and not keep the reply, as no change would be told: {why}")
        } else if explained.flights > 0 {
            format!("wait for the read under way, if it is the same, or ask upstream: {why}")
        } else if explained.is_passed_over {
            format!(
                "ask upstream, and not keep the reply before it is read again, as copies hardly \
                 ever are at present: {why}"
            )
        } else {
            format!("ask upstream, and keep the reply: {why}")
        }
    }
}

/// Why a copy is not here, or not served.
fn reason(miss: Miss) -> &'static str {
    match miss {
        Miss::Cold => "the key was not read before, as far as is remembered (cold)",
        Miss::Expired => "its copy has expired (expired)",
        Miss::Evicted => "its copy had to go for want of memory (evicted)",
        Miss::Invalidated => "the key has changed since it was read (invalidated)",
        Miss::Flushed => {
            "everything was flushed, or the connection was lost that it was read over (flushed)"
        }
        Miss::Incoherent => {
            "upstream was not heard of for longer than staleness-bound (incoherent)"
        }
        Miss::RaceDiscarded => "the key has changed while it was read last (race-discarded)",
        Miss::Variant => "only other replies of the key are here (variant)",
    }
}

fn client(is_private: bool) -> &'static str {
    if is_private {
        "private: it has a connection of its own"
    } else {
        "shared: it has no connection of its own"
    }
}

/// The arguments of a line, as a read of it puts them together.
fn arguments(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut arguments = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<8>() {
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let Some((argument, rest)) = rest.split_at_checked(len) else {
            break;
        };
        arguments.push(argument);
        bytes = rest;
    }
    arguments
}
