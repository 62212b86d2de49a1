//! Writes of keys whose rule says that the origin is written first: only what the origin took goes
//! upstream.
//!
//! The client's later requests wait meanwhile. Where it is not known what the origin has, the key
//! is removed upstream, and the next read asks the origin. What a client sends over a connection of
//! its own (transactions, scripts) passes the origin by.

use std::rc::Rc;

use super::client::{Flow, Shared};
use super::pool::Pool;
use super::waiting::{Keys, Waiting};
use super::wire::request_of;
use crate::command::spec::Command;
use crate::command::through::{Needs, needs};
use crate::policy::{Passage, Through};
use crate::resp::Request;
use crate::resp::frame::Kind;

impl Shared {
    /// A write, where there are rules.
    pub(super) fn write_by_rule(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        raw: &[u8],
    ) -> Flow {
        let instance = &self.front.instance;
        let table = instance.policy.table();
        let (Some(db), true) = (self.near_database(), table.has_through()) else {
            self.write_keys(command, request, raw);
            return Flow::Taken;
        };
        match needs(instance, &table, db, (command, request), false) {
            Needs::Nothing => {
                self.write_keys(command, request, raw);
                Flow::Taken
            }
            Needs::Refusal(error) => {
                self.outbox.say(format!("-{error}\r\n").as_bytes());
                Flow::Taken
            }
            Needs::Origins(_) if !self.outbox.is_idle() => Flow::Wait,
            Needs::Origins(writes) => {
                self.waits_for_replies = true;
                self.write_through(command, request, raw, writes);
                Flow::TakenAndWait
            }
        }
    }

    fn write_through(
        &self,
        command: &Command,
        request: &Request<'_>,
        raw: &[u8],
        writes: Vec<Through>,
    ) {
        let place = self.expect();
        let keys = self.begin_write(Some(command), request);
        let (pool, link) = (Rc::clone(&self.pool), Rc::clone(self.link()));
        let (database, raw) = (self.session.database, raw.to_vec());
        let passing = self.front.instance.policy.write_through(writes);
        tokio::task::spawn_local(async move {
            match passing.end().await {
                Ok(passage) => {
                    let passed = Passed {
                        passage: Some(passage),
                        database,
                        keys,
                    };
                    link.send(
                        database,
                        &raw,
                        Waiting::Passed(pool, place, Box::new(passed)),
                    );
                }
                Err(refused) => {
                    if refused.is_doubtful {
                        link.send(database, &removal(&keys), Waiting::Nobody);
                    }
                    pool.void(&keys);
                    let error = format!("-{}\r\n", refused.text);
                    place.put(error.as_bytes(), Some(Kind::Error));
                }
            }
        });
    }
}

/// A write that origins took, on its way upstream.
pub(super) struct Passed {
    passage: Option<Passage>,
    database: u32,
    pub(super) keys: Keys,
}

impl Passed {
    /// Upstream has answered; if it did not take it, what it has is removed there.
    pub(super) fn settle(&mut self, pool: &Pool, kind: Kind) {
        if let Some(passage) = self.passage.take() {
            passage.complete();
        }
        if kind == Kind::Error
            && let Some(link) = pool.any_link()
        {
            link.send(self.database, &removal(&self.keys), Waiting::Nobody);
        }
    }
}

/// Takes away what the origin has another value of.
fn removal(keys: &Keys) -> Vec<u8> {
    let mut words: Vec<&[u8]> = vec![b"DEL"];
    words.extend(keys.0.iter().map(|key| &**key));
    request_of(&words)
}
