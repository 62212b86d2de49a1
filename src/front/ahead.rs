//! Private connections that are opened ahead of need.
//!
//! A request that needs a connection of the client's own would else be sent only when that has been
//! opened, and what others ask for meanwhile would come upstream before it: a `BLPOP`, say, after
//! the `RPUSH` that a client sent behind it. So when a client is given a connection, others like it
//! are opened for those who come next. Nobody has used them, and nobody can tell them from those
//! that are opened on demand.
//!
//! Only connections of which all clients' are alike are opened so: as the front itself, without a
//! name. Those that nobody takes are closed after a while.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::clock;
use crate::upstream::Upstream;
use crate::upstream::connect::{Connection, Opening};

/// Connections opened ahead of one kind, and kinds of which there are some, on each thread.
const AHEAD_MAX: usize = 4;
const KINDS_MAX: usize = 4;

/// How long nobody takes one until it is closed, and how often that is looked at.
const KEPT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Those of one thread.
pub(super) struct Ahead {
    upstream: Arc<Upstream>,
    kinds: Mutex<Vec<Kind>>,
}

/// Connections that were told the same.
struct Kind {
    openings: Vec<Opening>,
    ready: Vec<(Box<dyn Connection>, Instant)>,
    /// So many are being opened.
    under_way: usize,
}

impl Ahead {
    pub(super) fn new(upstream: &Arc<Upstream>) -> Arc<Self> {
        Arc::new(Self {
            upstream: Arc::clone(upstream),
            kinds: Mutex::default(),
        })
    }

    /// A connection that was told just this, if there is one; more are opened for who comes next.
    pub(super) fn take(self: &Arc<Self>, openings: &[Opening]) -> Option<Box<dyn Connection>> {
        let is_alike = |opening: &Opening| matches!(opening.name, "HELLO" | "SELECT");
        // Connections to a cluster are several, and bound to the client's ways.
        if self.upstream.is_cluster() || !openings.iter().all(is_alike) {
            return None;
        }
        let mut kinds = self.kinds.lock();
        let at = kinds.iter().position(|kind| kind.openings == openings);
        let at = match at {
            Some(at) => at,
            None if kinds.len() >= KINDS_MAX => return None,
            None => {
                kinds.push(Kind {
                    openings: openings.to_vec(),
                    ready: Vec::new(),
                    under_way: 0,
                });
                kinds.len() - 1
            }
        };
        let kind = &mut kinds[at];
        let mut taken = None;
        while let Some((mut connection, _)) = kind.ready.pop() {
            if is_quiet(connection.as_mut()) {
                taken = Some(connection);
                break;
            }
        }
        for _ in kind.ready.len() + kind.under_way..AHEAD_MAX {
            kind.under_way += 1;
            tokio::task::spawn_local(Arc::clone(self).open(kind.openings.clone()));
        }
        taken
    }

    /// Opens one more.
    async fn open(self: Arc<Self>, openings: Vec<Opening>) {
        let connected = self.upstream.connect_as(&openings).await;
        let mut kinds = self.kinds.lock();
        let Some(kind) = kinds.iter_mut().find(|kind| kind.openings == openings) else {
            return;
        };
        kind.under_way -= 1;
        // Who needs one will be told what is wrong.
        if let Ok(connection) = connected {
            kind.ready.push((connection, clock::now()));
        }
    }

    /// Closes what nobody has taken for long, now and then.
    pub(super) async fn look_after(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = clock::now();
            let mut kinds = self.kinds.lock();
            for kind in kinds.iter_mut() {
                kind.ready
                    .retain(|(_, since)| now.duration_since(*since) < KEPT);
            }
            kinds.retain(|kind| kind.under_way > 0 || !kind.ready.is_empty());
        }
    }
}

/// Whether upstream has neither closed it nor said anything.
fn is_quiet(connection: &mut dyn Connection) -> bool {
    let mut byte = [0];
    let mut context = Context::from_waker(Waker::noop());
    let read = std::pin::Pin::new(connection).poll_read(&mut context, &mut ReadBuf::new(&mut byte));
    matches!(read, Poll::Pending)
}
