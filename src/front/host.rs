//! What the front answers to clients that are passed through, and adds to the upstream's `INFO`.

use std::sync::Arc;

use super::Front;
use super::class;
use super::own::{Asked, Asker, Standing};
use super::tags;
use crate::command::options::is_word;
use crate::command::server::section_for_upstreams_info;
use crate::config::ClientIdentity;
use crate::instance::Instance;
use crate::instance::clients::Client;
use crate::resp::{Protocol, Request};
use crate::upstream::passthrough::{Answer, Host};
use crate::upstream::session::Session;

/// The front, as the host of one client.
pub(super) struct FrontHost {
    pub(super) instance: Arc<Instance>,
    pub(super) client: Arc<Client>,
    /// The client's I/O thread.
    pub(super) thread: usize,
    /// Where there is a near cache: it, and whether the client had authenticated before it came to
    /// have a connection of its own.
    pub(super) shared: Option<(Arc<Front>, bool)>,
}

impl FrontHost {
    /// What the client may ask, by what it has said of itself.
    fn standing(&self, session: &Session, was_served: bool) -> Standing {
        let is_other_user = session.told().is_other_user;
        let config = self.instance.config();
        let Some((front, was_authenticated)) = &self.shared else {
            let upstream = self.instance.upstream.as_ref();
            let has_credentials =
                upstream.is_some_and(|upstream| upstream.url.credentials.is_some());
            return match (has_credentials, is_other_user) {
                (true, false) | (false, true) => Standing::Operator,
                (false, false) if was_served => Standing::Operator,
                (false | true, _) => Standing::User,
            };
        };
        let is_locked_out = front.tracker.is_locked_out();
        let has_password = !config.requirepass.is_empty();
        if is_other_user {
            // Without credentials of the front's own, clients' are all there are.
            let is_same = is_locked_out || config.client_identity == ClientIdentity::Front;
            return if is_same {
                Standing::Operator
            } else {
                Standing::User
            };
        }
        let is_known = *was_authenticated && !(session.was_reset && has_password);
        if is_known && (has_password || !is_locked_out) {
            Standing::Operator
        } else {
            Standing::Stranger
        }
    }
}

impl Host for FrontHost {
    fn is_own(&self, request: &Request<'_>) -> bool {
        class::is_own(request) && self.instead_of(request).is_none()
    }

    fn instead_of(&self, request: &Request<'_>) -> Option<Vec<u8>> {
        let instead = tags::translate(self.instance.upstream.as_ref()?, request)?;
        if let Some((front, _)) = &self.shared {
            front.tags.note_use();
        }
        Some(instead)
    }

    fn is_stranger(&self, session: &Session) -> bool {
        let Some((_, was_authenticated)) = &self.shared else {
            return false;
        };
        (!*was_authenticated || session.was_reset)
            && !self.instance.config().requirepass.is_empty()
            && !session.told().is_other_user
    }

    fn answer(&self, request: &Request<'_>, session: &Session, was_served: bool) -> Answer {
        let told = session.told();
        let url = self
            .instance
            .upstream
            .as_ref()
            .map(|upstream| &upstream.url);
        let asker = Asker {
            instance: &self.instance,
            client: &self.client,
            thread: self.thread,
            database: told
                .database
                .or_else(|| url.map(|url| url.database))
                .unwrap_or_default(),
            protocol: if told.speaks_resp3 {
                Protocol::Resp3
            } else {
                Protocol::Resp2
            },
            standing: self.standing(session, was_served),
        };
        let (reply, asked) = asker.ask(request);
        if let Some((front, _)) = &self.shared {
            front.follow_settings();
        }
        Answer {
            reply,
            is_last: asked == Asked::Leaves,
        }
    }

    fn adds_to(&self, request: &Request<'_>) -> bool {
        let asks = |word: &[u8]| {
            let words = ["all", "everything", "default", "corral"];
            words.iter().any(|all| is_word(word, all))
        };
        request.argument(0).eq_ignore_ascii_case(b"INFO")
            && (request.len() == 1 || request.iter_from(1).any(asks))
    }

    fn addition(&self) -> String {
        section_for_upstreams_info(&self.instance)
    }
}
