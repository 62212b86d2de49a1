//! `CACHE.EXPLAIN`: what is here of one key, in words for people.

use super::super::{Context, strings};
use super::Result;
use crate::clock;
use crate::instance::front::Asked;
use crate::keyspace::View;
use crate::resp::{Protocol, Request};
use crate::store::Policy;

/// `CACHE.EXPLAIN key`: names and sentences; a map in RESP3, lines in RESP2. No use of the key, and
/// nothing is counted.
pub(in crate::command) fn cache_explain(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result {
    let key = request.argument(1);
    let told = match context.instance.front() {
        Some(front) => {
            // The near cache locks the key's shard itself.
            let instance = context.instance;
            context.view = View::new(instance.store.lock_none(), clock::unix_ms());
            front.explain(&Asked {
                database: context.session.db,
                key,
                protocol: context.reply.protocol(),
                is_private: is_private(context),
            })
        }
        None if context.instance.upstream.is_some() => vec![
            ("mode", "front".to_owned()),
            ("get", "pass plainly: near-cache is no".to_owned()),
        ],
        None => of_keyspace(context, key),
    };
    let reply = &mut *context.reply;
    if reply.protocol() == Protocol::Resp3 {
        // A name that comes more than once is one key of the map, with an array of sentences.
        let mut names: Vec<&str> = told.iter().map(|(name, _)| *name).collect();
        names.dedup();
        reply.map(names.len());
        for name in names {
            reply.text(name);
            let lines = || told.iter().filter(|(of, _)| *of == name);
            if name == MANY {
                reply.array(lines().count());
            }
            lines().for_each(|(_, line)| reply.text(line));
        }
    } else {
        reply.array(told.len());
        for (name, line) in &told {
            reply.text(&format!("{name}: {line}"));
        }
    }
    Ok(())
}

/// The one name that may come more than once.
const MANY: &str = "copy";

fn is_private(context: &Context<'_>) -> bool {
    let doing = &context.session.client.doing;
    doing.is_private.load(std::sync::atomic::Ordering::Relaxed)
}

/// What is known of a key of our own.
fn of_keyspace(context: &mut Context<'_>, key: &[u8]) -> Vec<(&'static str, String)> {
    let place = context.place(key);
    let (hash, now_ms) = (place.key.hash, context.view.now_ms());
    let eviction = context.view.locked().shard(hash).tuning().policy;
    let mut told = vec![
        ("mode", "standalone".to_owned()),
        ("database", context.session.db.to_string()),
    ];
    let (table, client) = (&context.session.reads.table, context.session.client.id);
    let policy = &context.instance.policy;
    let report = policy.explain(table.as_deref(), &mut context.view, place, client);
    let Some(entry) = context.view.peek(place) else {
        told.push(("key", "is not there".to_owned()));
        told.extend(report.facts);
        let get = report
            .get
            .unwrap_or_else(|| "reply nil, and count a miss".to_owned());
        told.push(("get", get));
        return told;
    };
    let encoding = strings::encoding(entry.value(), entry.is_grown());
    told.push(("type", format!("string ({encoding})")));
    told.push(("value-bytes", entry.value().len().to_string()));
    told.push(("charged-bytes", entry.charge().to_string()));
    told.push((
        "ttl",
        match entry.expires_at() {
            Some(at) => format!("{} ms", at.get().saturating_sub(now_ms)),
            None => "none: it does not expire".to_owned(),
        },
    ));
    let (idle, clock) = (entry.idle_seconds(now_ms), entry.clock());
    if eviction.is_lfu() || eviction == Policy::AllKeysTinyLfu {
        let shard = context.view.locked().shard(hash);
        let frequency = shard.frequency(clock, hash, now_ms);
        told.push(("frequency", frequency.to_string()));
    }
    if !eviction.is_lfu() {
        told.push(("idle-seconds", idle.to_string()));
    }
    told.extend(report.facts);
    told.push((
        "get",
        "be answered with the value, and count a hit".to_owned(),
    ));
    told
}
