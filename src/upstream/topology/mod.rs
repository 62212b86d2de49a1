//! Which server the upstream is now, where that can change.
//!
//! A URL with one host means that host, for ever. One with Sentinels means whichever server they
//! name as the master: a watcher (`sentinel.rs`) asks them and listens to them, and what it finds
//! is kept here, in a [`Place`].
//!
//! What holds:
//! - Connections are only opened to a server that was found to be the master since the last
//!   connection to it was lost: who was away may have been replaced meanwhile.
//! - When the upstream moves, everything that was read from the old server is void before anybody
//!   is connected to the new one, and all connections to the old one end (`tether.rs`).

mod cluster;
mod many;
mod route;
mod sentinel;
mod slots;
mod tether;

pub use route::{Join, Route, Router};
pub use slots::{SLOTS, slot_of};

pub(super) use many::Purpose;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::connect::{Cause, Connection, Tls, Upstream};
use super::shared::{Coherence, TRACKER};
use super::url::{Endpoint, Servers, UpstreamUrl};
use cluster::Cluster;
use many::Many;

/// Where the upstream is.
#[derive(Debug)]
pub(super) enum Place {
    /// There, for ever.
    Fixed(Endpoint),
    /// Where a watcher says.
    Watched(Arc<Watched>),
    /// At many places.
    Cluster(Arc<Cluster>),
}

/// What is known of an upstream that may move.
pub(super) struct Watched {
    /// Its name, for people.
    name: String,
    state: watch::Sender<State>,
    /// The watcher is wanted.
    wanted: Notify,
    /// What is voided when the upstream moves.
    coherence: Mutex<Option<Weak<dyn Coherence>>>,
}

/// What was found, and for which question.
#[derive(Clone, Debug)]
struct State {
    /// Counts the reasons to look again.
    asked: u64,
    /// All reasons up to this one were there before what was found was looked for.
    answered: u64,
    /// The server that was found last, unless it is known to be the upstream no more.
    last: Option<Current>,
    /// Why nobody is to be connected to it now.
    trouble: Option<String>,
}

/// The server that is the upstream now.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) endpoint: Endpoint,
    /// Cancelled when it is the upstream no more; none where it always is.
    term: Option<(CancellationToken, Arc<Watched>)>,
}

impl Place {
    pub(super) fn new(url: &UpstreamUrl, tls: Option<&Tls>) -> Self {
        match &url.servers {
            Servers::Cluster(seeds) => Self::Cluster(Arc::new(Cluster::new(url, seeds, tls))),
            Servers::One(endpoint) => Self::Fixed(endpoint.clone()),
            Servers::Sentinel(sentinels) => Self::Watched(Arc::new(Watched {
                name: format!("'{}'", sentinels.master),
                state: watch::Sender::new(State {
                    asked: 1,
                    answered: 0,
                    last: None,
                    trouble: None,
                }),
                wanted: Notify::new(),
                coherence: Mutex::default(),
            })),
        }
    }

    /// Its name, or its address where that is its name.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Fixed(endpoint) => endpoint.to_string(),
            Self::Watched(watched) => watched.name.clone(),
            Self::Cluster(cluster) => cluster.name(),
        }
    }

    /// Its address, or its name where it has none now.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Fixed(endpoint) => endpoint.to_string(),
            Self::Watched(watched) => match &watched.state.borrow().last {
                Some(current) => current.endpoint.to_string(),
                None => watched.name.clone(),
            },
            Self::Cluster(cluster) => cluster.name(),
        }
    }

    /// The server to connect to. Waits while one is being looked for.
    pub(super) async fn current(&self) -> Result<Current, Cause> {
        let watched = match self {
            Self::Fixed(endpoint) => {
                return Ok(Current {
                    endpoint: endpoint.clone(),
                    term: None,
                });
            }
            Self::Watched(watched) => watched,
            Self::Cluster(_) => return Err(Cause::NoMaster("it is a cluster".to_owned())),
        };
        let mut state = watched.state.subscribe();
        let asked = state.borrow().asked;
        let answered = state.wait_for(|state| state.answered >= asked).await;
        let Ok(state) = answered else {
            return Err(Cause::NoMaster("nobody looks for it".to_owned()));
        };
        match (&state.last, &state.trouble) {
            (Some(current), None) => Ok(current.clone()),
            (_, Some(why)) => Err(Cause::NoMaster(why.clone())),
            (None, None) => Err(Cause::NoMaster("nobody is known to be it".to_owned())),
        }
    }

    /// Ends when there is a server to connect to.
    pub(super) async fn found(&self) {
        match self {
            Self::Fixed(_) => {}
            Self::Watched(watched) => {
                let mut state = watched.state.subscribe();
                // Not dropped while it is borrowed.
                let _ = state.wait_for(State::is_settled).await;
            }
            Self::Cluster(cluster) => cluster.found().await,
        }
    }

    /// Tells a cluster who knows where requests go.
    pub(super) fn route_by(&self, router: Arc<dyn Router>) {
        if let Self::Cluster(cluster) = self {
            let _ = cluster.router.set(router);
        }
    }

    /// There is a reason to doubt that the upstream is still where it was.
    pub(super) fn suspect(&self) {
        match self {
            Self::Fixed(_) => {}
            Self::Watched(watched) => watched.suspect(),
            Self::Cluster(cluster) => cluster.suspect(),
        }
    }
}

impl State {
    fn is_settled(&self) -> bool {
        self.last.is_some() && self.trouble.is_none() && self.answered >= self.asked
    }
}

impl Watched {
    fn suspect(&self) {
        self.state.send_modify(|state| state.asked += 1);
        self.wanted.notify_one();
    }

    /// What is looked for from now on is the answer to reasons up to this one.
    fn asked(&self) -> u64 {
        self.state.borrow().asked
    }

    fn last(&self) -> Option<Current> {
        self.state.borrow().last.clone()
    }

    /// Whether the upstream is known, and there is no reason to look again.
    fn is_settled(&self) -> bool {
        self.state.borrow().is_settled()
    }

    /// This server is the upstream.
    fn found(self: &Arc<Self>, endpoint: Endpoint, asked: u64) {
        let last = self.last();
        let is_same = last.is_some_and(|last| last.endpoint == endpoint);
        if !is_same {
            self.leave();
            tracing::info!(master = self.name, address = %endpoint, "upstream is here");
        }
        self.state.send_modify(|state| {
            if state.trouble.is_some() && is_same {
                tracing::info!(master = self.name, address = %endpoint, "upstream is back");
            }
            state.answered = asked;
            state.trouble = None;
            if !is_same {
                let term = Some((CancellationToken::new(), Arc::clone(self)));
                state.last = Some(Current { endpoint, term });
            }
        });
    }

    /// Nobody was found; the connections that there are may still be good.
    fn missed(&self, why: String, asked: u64) {
        self.state.send_modify(|state| {
            if state.trouble.as_ref() != Some(&why) {
                tracing::warn!(master = self.name, why, "no upstream to connect to");
            }
            state.answered = asked;
            state.trouble = Some(why);
        });
    }

    /// Who was the upstream is so no more. Voids what was read from it, then ends its connections:
    /// in this order, so that who is connected anew never sees what was read before.
    fn leave(&self) {
        let Some(Current { term, .. }) = self.last() else {
            return;
        };
        let coherence = self.coherence.lock().as_ref().and_then(Weak::upgrade);
        if let Some(coherence) = coherence {
            coherence.lose(TRACKER);
            coherence.flush();
        }
        if let Some((term, _)) = term {
            term.cancel();
        }
        self.state.send_modify(|state| state.last = None);
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Watched").field(&self.name).finish()
    }
}

impl Current {
    /// A connection to this server, which ends when the server is the upstream no more.
    pub(super) fn tether(self, connection: Box<dyn Connection>) -> Box<dyn Connection> {
        match self.term {
            None => connection,
            Some((term, watched)) => Box::new(tether::Tethered::new(connection, term, watched)),
        }
    }
}

/// Keeps looking where the upstream is, for as long as it is polled; at once over if it cannot
/// move. `coherence`: who voids what was read when it moves.
pub async fn watch(upstream: Arc<Upstream>, coherence: Option<Weak<dyn Coherence>>) {
    match (&upstream.place, &upstream.url.servers) {
        (Place::Watched(watched), Servers::Sentinel(sentinels)) => {
            *watched.coherence.lock() = coherence;
            sentinel::watch(&upstream, watched, sentinels).await;
        }
        (Place::Cluster(cluster), _) => {
            *cluster.coherence.lock() = coherence;
            cluster.watch(&upstream).await;
        }
        _ => {}
    }
}

/// A connection to all of a cluster.
pub(super) async fn connect_all(
    cluster: &Arc<Cluster>,
    purpose: Purpose,
    timeout: Duration,
) -> Result<Box<dyn Connection>, Cause> {
    cluster.ready().await?;
    let many = Many::new(cluster, purpose, timeout);
    let many = many.ok_or_else(|| Cause::NoMaster("nobody routes requests".to_owned()))?;
    Ok(Box::new(many))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

    use super::*;
    use crate::upstream::shared::Slot;

    /// Notes what it is told.
    #[derive(Default)]
    struct Notes(Mutex<Vec<&'static str>>);

    impl Coherence for Notes {
        fn generation(&self, _: Slot) -> u32 {
            0
        }

        fn lose(&self, slot: Slot) {
            assert_eq!(slot, TRACKER);
            self.0.lock().push("lose");
        }

        fn heard(&self, _: Slot, _: Instant) {}

        fn invalidate(&self, _: &[u8]) {}

        fn flush(&self) {
            self.0.lock().push("flush");
        }
    }

    struct Fixture {
        upstream: Arc<Upstream>,
        watched: Arc<Watched>,
        notes: Arc<Notes>,
    }

    impl Fixture {
        fn new() -> Self {
            let url = "redis+sentinel://127.0.0.1:1/m".parse().unwrap();
            let upstream = Arc::new(Upstream::new(url, None, Duration::from_secs(20)));
            let Place::Watched(watched) = &upstream.place else {
                panic!("it may move");
            };
            let watched = Arc::clone(watched);
            let notes = Arc::new(Notes::default());
            let noting: Arc<dyn Coherence> = Arc::<Notes>::clone(&notes);
            *watched.coherence.lock() = Some(Arc::downgrade(&noting));
            Self {
                upstream,
                watched,
                notes,
            }
        }

        /// Connects, and returns both ends.
        async fn connect(&self, to: &TcpListener) -> (Box<dyn Connection>, TcpStream) {
            let (connected, accepted) = tokio::join!(self.upstream.connect(), to.accept());
            (connected.unwrap(), accepted.unwrap().0)
        }
    }

    async fn server() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = "127.0.0.1".to_owned();
        (listener, Endpoint::Tcp { host, port })
    }

    #[tokio::test]
    async fn a_move_voids_what_was_read_and_then_ends_the_old_connections() {
        let fixture = Fixture::new();
        let ((old, at_old), (new, at_new)) = (server().await, server().await);
        fixture.watched.found(at_old.clone(), 1);
        let (mut connection, _old_end) = fixture.connect(&old).await;
        // The same again is no move.
        fixture.watched.found(at_old, 1);
        assert!(fixture.notes.0.lock().is_empty());
        let mut byte = [0];
        let reading = connection.read(&mut byte);
        tokio::pin!(reading);
        assert!(reading.as_mut().now_or_never().is_none());
        fixture.watched.found(at_new, 1);
        assert_eq!(*fixture.notes.0.lock(), ["lose", "flush"]);
        let error = reading.await.unwrap_err().to_string();
        assert_eq!(error, "it is not the master any more");
        assert!(connection.write_all(b"x").await.is_err());
        // Who connects now is connected to the new one.
        let (mut connection, mut new_end) = fixture.connect(&new).await;
        new_end.write_all(b"y").await.unwrap();
        assert_eq!(connection.read(&mut byte).await.unwrap(), 1);
        assert!(fixture.watched.is_settled());
    }

    #[tokio::test]
    async fn a_lost_connection_and_a_replicas_error_make_it_look_again_before_who_comes_next() {
        for said in [
            "",
            "$1\r\nv\r\n-READONLY You can't write against a read only replica.\r\n",
        ] {
            let fixture = Fixture::new();
            let (server, at) = server().await;
            fixture.watched.found(at.clone(), 1);
            let (mut connection, mut end) = fixture.connect(&server).await;
            assert!(fixture.watched.is_settled());
            end.write_all(said.as_bytes()).await.unwrap();
            drop(end);
            let mut bytes = [0; 100];
            let read = connection.read(&mut bytes).await.unwrap();
            assert_eq!(read, said.len());
            assert!(!fixture.watched.is_settled());
            let connecting = fixture.upstream.connect();
            tokio::pin!(connecting);
            assert!(connecting.as_mut().now_or_never().is_none());
            fixture
                .watched
                .missed("why".to_owned(), fixture.watched.asked());
            let error = connecting.await.err().unwrap().to_string();
            assert_eq!(error, "'m' has no master now: why");
            let found = fixture.upstream.place.found();
            tokio::pin!(found);
            assert!(found.as_mut().now_or_never().is_none());
            fixture.watched.found(at, fixture.watched.asked());
            found.await;
            assert!(fixture.upstream.connect().await.is_ok());
        }
    }
}
