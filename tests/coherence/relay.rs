//! A TCP relay between a front and its Redis that can misbehave: late in either direction, silent
//! though open, or cut. It passes bytes in order, as TCP does; it never invents or reorders any.
//!
//! Each connection is a [`Link`] of its own, so that one may be slow while the others are not: that
//! is how a push of one connection comes late for a reply of another.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use corral::clock;
use tokio::time::Instant;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToFront,
}

impl Way {
    fn index(self) -> usize {
        match self {
            Self::ToServer => 0,
            Self::ToFront => 1,
        }
    }
}

/// What a link does to its bytes, one entry for each [`Way`].
#[derive(Debug, Default)]
struct Condition {
    delay: [Duration; 2],
    is_held: [bool; 2],
    is_cut: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    front: TcpStream,
    server: TcpStream,
    condition: Mutex<Condition>,
    changed: Condvar,
}

impl Link {
    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().expect("no thread panics with it")
    }

    /// From now on, bytes take this long.
    pub(crate) fn delay(&self, way: Way, by: Duration) {
        self.condition().delay[way.index()] = by;
        self.changed.notify_all();
    }

    /// Bytes are taken and not passed on: the connection is open, and silent.
    pub(crate) fn hold(&self, way: Way) {
        self.condition().is_held[way.index()] = true;
    }

    /// What was held goes on, and nothing is late any more.
    pub(crate) fn heal(&self) {
        let mut condition = self.condition();
        condition.is_held = [false; 2];
        condition.delay = [Duration::ZERO; 2];
        self.changed.notify_all();
    }

    /// Ends the connection; what was under way is lost.
    pub(crate) fn cut(&self) {
        self.condition().is_cut = true;
        self.changed.notify_all();
        // They may have ended already.
        self.front.shutdown(Shutdown::Both).ok();
        self.server.shutdown(Shutdown::Both).ok();
    }

    /// Waits until bytes that came at `since` may go on. False: they are lost.
    fn wait(&self, way: Way, since: Instant) -> bool {
        let mut condition = self.condition();
        loop {
            if condition.is_cut {
                return false;
            }
            let left = condition.delay[way.index()].saturating_sub(since.elapsed());
            let is_held = condition.is_held[way.index()];
            if !is_held && left.is_zero() {
                return true;
            }
            let left = if is_held { HELD_TICK } else { left };
            let waited = self.changed.wait_timeout(condition, left);
            condition = waited.expect("no thread panics with it").0;
        }
    }
}

/// How often a held link looks around, beside being told.
const HELD_TICK: Duration = Duration::from_secs(1);

/// The relay. Cut when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
    is_over: Arc<AtomicBool>,
}

impl Relay {
    /// A relay to this port. `prepare` sees each new link before its first byte.
    pub(crate) fn start(to: u16, prepare: impl Fn(&Link) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let relay = Self {
            port,
            links: Arc::default(),
            is_over: Arc::default(),
        };
        let (links, is_over) = (Arc::clone(&relay.links), Arc::clone(&relay.is_over));
        std::thread::spawn(move || {
            for front in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                // With nobody to go on to, the connection ends as it would at a dead port.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else {
                    continue;
                };
                let link = Arc::new(Link {
                    front,
                    server,
                    condition: Mutex::default(),
                    changed: Condvar::new(),
                });
                prepare(&link);
                if link.pump().is_err() {
                    continue;
                }
                let mut links = links.lock().expect("no thread panics with it");
                links.retain(|link| !link.condition().is_cut);
                links.push(link);
            }
        });
        relay
    }

    /// The connections there are.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        let mut links = self.links.lock().expect("no thread panics with it");
        links.retain(|link| !link.condition().is_cut);
        links.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for link in self.links() {
            link.cut();
        }
        // Wakes the thread that accepts; it may be gone already.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

impl Link {
    /// Starts to pass bytes on, both ways.
    fn pump(self: &Arc<Self>) -> std::io::Result<()> {
        self.front.set_nodelay(true)?;
        self.server.set_nodelay(true)?;
        for way in [Way::ToServer, Way::ToFront] {
            let (from, to) = match way {
                Way::ToServer => (&self.front, &self.server),
                Way::ToFront => (&self.server, &self.front),
            };
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let (sender, receiver) = channel();
            let link = Arc::clone(self);
            std::thread::spawn(move || take(from, &sender));
            std::thread::spawn(move || {
                pass(&link, way, to, &receiver);
                link.cut();
            });
        }
        Ok(())
    }
}

fn take(mut from: TcpStream, sender: &Sender<(Instant, Vec<u8>)>) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if sender.send((clock::now(), bytes[..len].to_vec())).is_err() {
            break;
        }
    }
}

fn pass(link: &Link, way: Way, mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    for (since, bytes) in receiver {
        if !link.wait(way, since) || to.write_all(&bytes).is_err() {
            break;
        }
    }
}
