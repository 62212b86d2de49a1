//! What a client says of its connection, and what is remembered of it.
//!
//! It is told again to a private connection when the client comes to need one.

use std::sync::atomic::Ordering;

use super::Front;
use super::class::{Class, Verb};
use super::client::BATCH_MAX;
use crate::command::connection::is_same_secret;
use crate::config::Config;
use crate::instance::clients::Client;
use crate::resp::{Limits, Protocol, Request};
use crate::upstream::session::{Effect, Session as Openings, effect};

/// A client's state.
pub(super) struct Session {
    pub(super) protocol: Protocol,
    pub(super) database: u32,
    /// Whether it may do more than authenticate.
    pub(super) is_authenticated: bool,
    /// Whether its reads may be answered from the near cache.
    pub(super) is_near: bool,
    /// Whether it has a private connection already.
    pub(super) has_own_connection: bool,
    /// What a private connection is told.
    pub(super) openings: Openings,
}

/// What becomes of something that a client said of its connection.
pub(super) enum Said {
    /// This reply.
    Answer(Vec<u8>),
    /// Upstream is asked, over a shared connection, with this request or with the client's own;
    /// and if it agrees, this.
    Ask {
        request: Option<Vec<u8>>,
        then: Then,
    },
    /// It is as any other command.
    Plain,
    /// It needs a connection of the client's own.
    Private,
    /// The client leaves.
    Goodbye,
}

/// What holds once upstream has agreed.
pub(super) enum Then {
    Select(u32),
    Hello {
        protocol: Protocol,
        name: Option<Vec<u8>>,
    },
}

const OK: &[u8] = b"+OK\r\n";
const BAD_NAME: &[u8] =
    b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n";

impl Session {
    pub(super) fn new(front: &Front) -> Self {
        let config = front.instance.config();
        Self {
            protocol: Protocol::Resp2,
            database: front.upstream.url.database,
            is_authenticated: config.requirepass.is_empty(),
            is_near: config.near_cache,
            has_own_connection: false,
            openings: Openings::default(),
        }
    }

    /// The client is back from its private connection, of which this is known.
    pub(super) fn come_back(&mut self, front: &Front, client: &Client, mut openings: Openings) {
        let told = openings.told();
        if std::mem::take(&mut openings.was_reset) {
            self.is_authenticated = front.instance.config().requirepass.is_empty();
        }
        self.openings = openings;
        self.is_authenticated |= told.is_other_user;
        self.database = told.database.unwrap_or(front.upstream.url.database);
        self.protocol = if told.speaks_resp3 {
            Protocol::Resp3
        } else {
            Protocol::Resp2
        };
        front.note_database(self.database);
        client.said.lock().name = told.name;
    }

    /// How much its requests may claim, and how many may be decoded by that: before it has
    /// authenticated, a request's limits depend on the one before it.
    pub(super) fn limits(&self, front: &Front) -> (Limits, usize) {
        if self.is_authenticated {
            return (Limits::authenticated(BULK_BYTES_MAX), BATCH_MAX);
        }
        let bulk_bytes_max = front.instance.config().proto_max_bulk_len;
        (Limits::unauthenticated(bulk_bytes_max), 1)
    }

    /// Whether it may send such a request.
    pub(super) fn may(&self, class: Class) -> bool {
        let is_introduction = matches!(
            class,
            Class::Session(Verb::Hello | Verb::Auth | Verb::Reset | Verb::Quit)
        );
        self.is_authenticated || is_introduction
    }

    /// Lets it in if nobody is asked for a password any more.
    pub(super) fn is_let_in(&mut self, front: &Front) -> bool {
        self.is_authenticated = front.instance.config().requirepass.is_empty();
        self.is_authenticated
    }

    /// What becomes of what the client says.
    pub(super) fn say(
        &mut self,
        front: &Front,
        client: &Client,
        verb: Verb,
        request: &Request<'_>,
    ) -> Said {
        match verb {
            Verb::Quit => Said::Goodbye,
            Verb::Reset => {
                *self = Self::new(front);
                *client.said.lock() = crate::instance::clients::Said::default();
                client.doing.protocol.store(2, Ordering::Relaxed);
                Said::Answer(b"+RESET\r\n".to_vec())
            }
            Verb::Select => self.select(front, request),
            Verb::Auth => self.authenticate(front, request),
            Verb::Hello => self.hello(front, request),
            Verb::SetName => {
                let name = request.argument(2);
                if !is_printable(name) {
                    return Said::Answer(BAD_NAME.to_vec());
                }
                self.set_name(client, name);
                Said::Answer(OK.to_vec())
            }
            Verb::GetName => Said::Answer(self.name_of(client)),
            Verb::SetInfo => {
                let (what, value) = (request.argument(2), request.argument(3));
                if !is_printable(value) {
                    let what = String::from_utf8_lossy(what).to_lowercase();
                    let error = format!(
                        "-ERR {what} cannot contain spaces, newlines or special characters.\r\n"
                    );
                    return Said::Answer(error.into_bytes());
                }
                let mut said = client.said.lock();
                if what.eq_ignore_ascii_case(b"LIB-NAME") {
                    said.lib_name = value.to_vec();
                } else if what.eq_ignore_ascii_case(b"LIB-VER") {
                    said.lib_version = value.to_vec();
                } else {
                    let what = String::from_utf8_lossy(what).replace(['\r', '\n'], " ");
                    return Said::Answer(format!("-ERR Unrecognized option '{what}'\r\n").into());
                }
                Said::Answer(OK.to_vec())
            }
        }
    }

    fn select(&mut self, front: &Front, request: &Request<'_>) -> Said {
        let digits = std::str::from_utf8(request.argument(1)).unwrap_or_default();
        let Ok(database) = digits.parse::<u32>() else {
            return Said::Plain; // The error is upstream's to say.
        };
        if digits.starts_with(['+', '0']) && digits != "0" {
            return Said::Plain;
        }
        let then = Then::Select(database);
        if !front.has_database(database) {
            return Said::Ask {
                request: None,
                then,
            };
        }
        self.set_database(database);
        Said::Answer(OK.to_vec())
    }

    fn set_database(&mut self, database: u32) {
        self.database = database;
        self.open_with(&[b"SELECT", database.to_string().as_bytes()]);
    }

    fn set_name(&mut self, client: &Client, name: &[u8]) {
        client.said.lock().name = name.to_vec();
        self.open_with(&[b"CLIENT", b"SETNAME", name]);
    }

    /// Notes what a private connection is to be told.
    fn open_with(&mut self, words: &[&[u8]]) {
        let request = crate::resp::decode::OwnedRequest::of(words);
        if let Effect::Change(change) = effect(&request.as_request()) {
            self.openings.confirm(*change);
        }
    }

    fn name_of(&self, client: &Client) -> Vec<u8> {
        let name = &client.said.lock().name;
        match self.protocol {
            _ if !name.is_empty() => {
                let mut reply = format!("${}\r\n", name.len()).into_bytes();
                reply.extend_from_slice(name);
                reply.extend_from_slice(b"\r\n");
                reply
            }
            Protocol::Resp2 => b"$-1\r\n".to_vec(),
            Protocol::Resp3 => b"_\r\n".to_vec(),
        }
    }

    /// `AUTH [user] password`: as the front, or as somebody else, which upstream must judge.
    fn authenticate(&mut self, front: &Front, request: &Request<'_>) -> Said {
        let (user, password) = match request.len() {
            2 => (None, request.argument(1)),
            3 => (Some(request.argument(1)), request.argument(2)),
            _ => return Said::Plain,
        };
        if !is_front(front, &front.instance.config(), user, password) {
            return Said::Private;
        }
        self.is_authenticated = true;
        Said::Answer(OK.to_vec())
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`
    fn hello(&mut self, front: &Front, request: &Request<'_>) -> Said {
        let protocol = match request.get(1) {
            None => self.protocol,
            Some(b"2") => Protocol::Resp2,
            Some(b"3") => Protocol::Resp3,
            Some(_) => return self.upstreams_to_refuse(),
        };
        let (mut at, mut name, mut is_told_password) = (2, None, false);
        while at < request.len() {
            let option = request.argument(at);
            if option.eq_ignore_ascii_case(b"AUTH")
                && let (Some(user), Some(password)) = (request.get(at + 1), request.get(at + 2))
            {
                let config = front.instance.config();
                if !is_front(front, &config, Some(user), password) {
                    return Said::Private;
                }
                self.is_authenticated = true;
                is_told_password = true;
                at += 3;
            } else if option.eq_ignore_ascii_case(b"SETNAME")
                && let Some(wanted) = request.get(at + 1)
            {
                if !is_printable(wanted) {
                    return Said::Answer(BAD_NAME.to_vec());
                }
                name = Some(wanted.to_vec());
                at += 2;
            } else {
                return self.upstreams_to_refuse();
            }
        }
        if !self.is_authenticated {
            return Said::Answer(
                b"-NOAUTH HELLO must be called with the client already authenticated, otherwise \
                  the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the \
                  client and select the RESP protocol version at the same time\r\n"
                    .to_vec(),
            );
        }
        if self.has_own_connection && !is_told_password {
            // The id in its reply is the one that CLIENT ID told the client.
            return Said::Private;
        }
        let version = protocol.version().to_string();
        let asked = super::wire::request_of(&[b"HELLO", version.as_bytes()]);
        Said::Ask {
            request: Some(asked),
            then: Then::Hello { protocol, name },
        }
    }

    /// A `HELLO` that no server accepts, and so changes no connection.
    fn upstreams_to_refuse(&self) -> Said {
        if self.is_authenticated {
            Said::Plain
        } else {
            Said::Private
        }
    }

    /// Upstream has agreed.
    pub(super) fn apply(&mut self, front: &Front, client: &Client, then: Then) {
        match then {
            Then::Select(database) => {
                front.note_database(database);
                self.set_database(database);
            }
            Then::Hello { protocol, name } => {
                self.protocol = protocol;
                let version = protocol.version();
                self.open_with(&[b"HELLO", version.to_string().as_bytes()]);
                let version = u8::try_from(version).unwrap_or(2);
                client.doing.protocol.store(version, Ordering::Relaxed);
                if let Some(name) = name {
                    self.set_name(client, &name);
                }
            }
        }
    }
}

/// Whether these are credentials of the front: those by which it knows upstream, or those that it
/// asks for itself.
fn is_front(front: &Front, config: &Config, user: Option<&[u8]>, password: &[u8]) -> bool {
    let user = user.unwrap_or(b"default");
    let own = !config.requirepass.is_empty()
        && user == b"default"
        && is_same_secret(password, config.requirepass.as_bytes());
    let upstreams = front.upstream.url.credentials.as_ref();
    own || upstreams.is_some_and(|credentials| {
        credentials.user.as_deref().unwrap_or(b"default") == user
            && is_same_secret(password, &credentials.password)
    })
}

/// What Redis allows in names.
fn is_printable(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// As much as any upstream allows, which knows its limits.
const BULK_BYTES_MAX: usize = 1 << 40;
