//! A front that is wrong on purpose, one way at a time, so that the checker can be seen to find it.
//!
//! Without a wrong way it is right, if slow: it caches GET alone, learns of changes from a
//! broadcast tracking connection ([`tracker`]), stores what it read only under a whole token, keeps
//! PTTL, stops answering from copies when the tracker was silent for the bound, and releases no
//! reply that came from Redis before a PING on the tracking connection has come back: all pushes
//! that the command caused, or that a read must have seen, lie before its PONG.

mod serve;
#[cfg(test)]
mod tests;
mod tracker;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use tokio::time::Instant;

use super::bed::BOUND;
use super::client::Value;
use tracker::Tracker;

/// What the toy does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Nothing.
    Nothing,
    /// Stores what it read though the key has changed meanwhile.
    FillsWithoutToken,
    /// Takes no notice of pushes.
    NeverInvalidates,
    /// Takes no notice of the push that voids everything.
    IgnoresNullPush,
    /// Keeps a copy longer than its value lives.
    OutlivesTtl,
    /// Goes on with its copies when the tracking connection was lost.
    SurvivesLostTracking,
    /// Takes silence for "nothing has changed".
    TrustsSilence,
    /// Gives a reader the result of a read that began before a write it must see.
    JoinsOldFlights,
    /// Lets a write's reply go before the pushes it caused were taken in.
    ReleasesWritesEarly,
    /// The same of a read's reply, which may be newer than the copies.
    ReleasesReadsEarly,
    /// Answers reads under WATCH from copies.
    AnswersWatchedReads,
    /// Thinks nothing of SWAPDB, for which Redis sends no push.
    ForgetsSwapdb,
    /// Has one copy of a key for all databases.
    MixesDatabases,
    /// Sometimes does not answer.
    SwallowsRequests,
}

/// A copy of a value, or of its absence.
#[derive(Clone, Debug)]
struct Copy {
    value: Value,
    expires: Option<Instant>,
}

/// What was true of a key when a read of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    epoch: u64,
    version: u64,
}

#[derive(Debug, Default)]
struct Copies {
    /// By key, then by database: a push names no database.
    of_key: HashMap<Vec<u8>, HashMap<u32, Copy>>,
    versions: HashMap<Vec<u8>, u64>,
    epoch: u64,
}

impl Copies {
    fn token(&self, key: &[u8]) -> Token {
        Token {
            epoch: self.epoch,
            version: self.versions.get(key).copied().unwrap_or(0),
        }
    }

    fn void(&mut self, key: &[u8]) {
        *self.versions.entry(key.to_vec()).or_default() += 1;
        self.of_key.remove(key);
    }

    fn void_all(&mut self) {
        self.epoch += 1;
        self.of_key.clear();
    }
}

/// A read that others wait for.
#[derive(Debug, Default)]
struct Flight {
    /// Outside: whether it ended; inside: with what.
    landed: Mutex<Option<Option<Value>>>,
    changed: Condvar,
}

/// The reads under way, by database and key.
type Flights = HashMap<(u32, Vec<u8>), Arc<Flight>>;

/// What all connections of a toy share.
#[derive(Debug)]
struct Shared {
    upstream: u16,
    wrong: Wrong,
    copies: Mutex<Copies>,
    flights: Mutex<Flights>,
    tracker: Tracker,
    requests: AtomicU64,
    is_over: AtomicBool,
}

impl Shared {
    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().expect("no thread panics with it")
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Whether copies may be served now.
    fn is_coherent(&self) -> bool {
        self.trusts_blindly() || self.tracker.silence() < BOUND
    }

    fn trusts_blindly(&self) -> bool {
        self.is(Wrong::TrustsSilence) || self.is(Wrong::SurvivesLostTracking)
    }
}

/// The toy front. Ends when dropped, but for connections that are still open.
#[derive(Debug)]
pub(crate) struct Toy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Toy {
    pub(crate) fn start(upstream: u16, wrong: Wrong) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            upstream,
            wrong,
            copies: Mutex::default(),
            flights: Mutex::default(),
            tracker: Tracker::default(),
            requests: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        for task in [tracker::follow, tracker::beat] {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || task(&shared));
        }
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.is_over() {
                    break;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || serve::serve(&shared, client));
            }
        });
        Self { port, shared }
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; it may be gone already.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}
