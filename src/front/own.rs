//! What the front answers itself: `CORRAL.*`, `CACHE.*`.
//!
//! Their handlers are the standalone ones; they run on the front's instance, on behalf of a client
//! whose other requests go upstream.

use std::sync::Arc;

use crate::command::lookup;
use crate::command::run::Runner;
use crate::command::spec::Flags;
use crate::instance::Instance;
use crate::instance::clients::Client;
use crate::instance::session::Session;
use crate::resp::{Protocol, Reply, Request};

/// Who asks, and how it is to be answered.
pub(super) struct Asker<'a> {
    pub(super) instance: &'a Instance,
    pub(super) client: &'a Arc<Client>,
    /// The client's I/O thread.
    pub(super) thread: usize,
    pub(super) database: u32,
    pub(super) protocol: Protocol,
    pub(super) standing: Standing,
}

/// What somebody may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: it has to authenticate first.
    Stranger,
    /// How the front is: it is not known here what it may do. It is a user of the upstream's
    /// other than the front, or the upstream has not accepted a command of it so far.
    User,
    /// Everything: it is known as the front itself is.
    Operator,
}

/// What becomes of who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It stays.
    Stays,
    /// Its connection is to be closed behind the reply (`CORRAL.CLIENT KILL`).
    Leaves,
}

impl Asker<'_> {
    /// Answers a request.
    pub(super) fn ask(&self, request: &Request<'_>) -> (Vec<u8>, Asked) {
        let mut reply = Reply::new(self.protocol);
        if let Some(refusal) = self.refusal(request) {
            reply.error(refusal);
            return (reply.bytes().to_vec(), Asked::Stays);
        }
        let mut session = Session::new(self.instance, Arc::clone(self.client), self.thread);
        session.db = u16::try_from(self.database).unwrap_or(u16::MAX);
        session.is_authenticated = true;
        Runner {
            instance: self.instance,
            session: &mut session,
            reply: &mut reply,
        }
        .run_one(request);
        let asked = if session.closing {
            Asked::Leaves
        } else {
            Asked::Stays
        };
        (reply.bytes().to_vec(), asked)
    }

    fn refusal(&self, request: &Request<'_>) -> Option<String> {
        match self.standing {
            Standing::Operator => None,
            Standing::Stranger => Some("NOAUTH Authentication required.".to_owned()),
            Standing::User => {
                let command = lookup::resolve(request).ok()?;
                command.flags.contains(Flags::ADMIN).then(|| {
                    let name = command.name;
                    format!("NOPERM this user has no permissions to run the '{name}' command")
                })
            }
        }
    }
}
