//! What can be asked: the command table, its handlers, and how a request comes to run.
//!
//! [`table`] knows every command; [`run`] takes requests through the checks that its rows ask for,
//! locks the shards of their keys and calls the handler; a file per family holds the handlers. A
//! handler is a plain function over the locked keys: it writes its reply, or fails with a
//! [`CommandError`] that takes back what it wrote.

pub mod bitfield;
pub mod bitmaps;
pub mod bits;
mod bitset;
mod cache;
pub mod client;
pub mod connection;
mod corral;
pub mod docs;
mod docs_data;
pub mod error;
pub mod glob;
pub mod introspect;
pub mod key_spec;
pub mod keys;
pub mod keys_of;
pub mod lcs;
pub mod lolwut;
pub mod long_double;
pub mod lookup;
pub mod numbers;
pub mod options;
mod reads;
pub mod run;
pub mod server;
pub mod spec;
pub mod strings;
pub mod table;
pub mod tags;
pub mod through;
pub mod transactions;

pub use error::CommandError;
pub use spec::{Command, Flags};

use crate::instance::Instance;
use crate::instance::session::Session;
use crate::keyspace::{Place, View};
use crate::metrics::ThreadMetrics;
use crate::resp::{Reply, Request};

/// What a handler works with.
pub struct Context<'a> {
    /// What all threads share.
    pub instance: &'a Instance,
    /// The client who asks.
    pub session: &'a mut Session,
    /// Where the reply goes.
    pub reply: &'a mut Reply,
    /// The keys of the command, locked.
    pub view: View<'a>,
    /// The counters of the thread.
    pub metrics: &'a ThreadMetrics,
}

impl Context<'_> {
    /// The place of a key in the client's database.
    #[inline]
    #[must_use]
    pub fn place<'k>(&self, key: &'k [u8]) -> Place<'k> {
        Place {
            db: self.session.db,
            key: self.instance.store.key(key),
        }
    }

    /// The longest string there may be, in bytes (`proto-max-bulk-len`).
    #[must_use]
    pub fn string_bytes_max(&self) -> usize {
        self.session
            .config
            .proto_max_bulk_len
            .min(crate::store::item::LENGTH_MAX)
    }
}

/// The handler of commands that only a Redis behind us can run.
pub(crate) fn unsupported(_: &mut Context<'_>, request: &Request<'_>) -> Result<(), CommandError> {
    let name = lookup::resolve(request).map_or("", |command| command.name);
    Err(CommandError::Unsupported(name))
}

/// The reply of a container's HELP: what it has, and how to ask.
pub(crate) fn help(context: &mut Context<'_>, container: &str, lines: &[&str]) {
    let reply = &mut *context.reply;
    reply.array(lines.len() + 3);
    reply.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Prints this help.");
}
