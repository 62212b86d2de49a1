//! The toy's tracking connection: pushes in, PINGs out, and who waits for which PONG.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use corral::clock;
use tokio::time::Instant;

use super::{Shared, Wrong};
use crate::client::{Value, words};
use crate::servers::request;

/// How often it is asked whether it is there.
const BEAT: Duration = Duration::from_millis(40);
/// How long a reply may be held back for the PONG behind it. After that, all copies go instead.
const FENCE_MAX: Duration = Duration::from_millis(800);
/// How often a silent reader looks whether all is over, and a lost one tries again.
const TICK: Duration = Duration::from_millis(20);

/// A PING under way: when it was sent, and who waits for its PONG.
type Ping = (Instant, Option<Sender<()>>);

#[derive(Debug)]
struct Line {
    stream: TcpStream,
    pings: VecDeque<Ping>,
}

impl Line {
    fn ping(&mut self, waiter: Option<Sender<()>>) {
        self.pings.push_back((clock::now(), waiter));
        // If it broke, its reader says so.
        self.stream.write_all(&request(&["PING"])).ok();
    }
}

/// The connection, if there is one, and when it was last known to be whole.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    line: Mutex<Option<Line>>,
    heard: Mutex<Option<Instant>>,
}

impl Tracker {
    /// For how long a change may have gone unnoticed.
    pub(super) fn silence(&self) -> Duration {
        let heard = self.heard.lock().expect("no thread panics with it");
        heard.map_or(Duration::MAX, |heard| heard.elapsed())
    }

    /// Waits until every push that Redis sent before now was taken in. False: that is not known.
    pub(super) fn fence(&self) -> bool {
        let (sender, receiver) = channel();
        {
            let mut line = self.line.lock().expect("no thread panics with it");
            let Some(line) = line.as_mut() else {
                return false;
            };
            line.ping(Some(sender));
        }
        receiver.recv_timeout(FENCE_MAX).is_ok()
    }

    fn pong(&self) {
        let mut line = self.line.lock().expect("no thread panics with it");
        let ping = line.as_mut().and_then(|line| line.pings.pop_front());
        let Some((sent, waiter)) = ping else { return };
        *self.heard.lock().expect("no thread panics with it") = Some(sent);
        if let Some(waiter) = waiter {
            // It may have given up.
            waiter.send(()).ok();
        }
    }
}

/// Sends PINGs for ever.
pub(super) fn beat(shared: &Shared) {
    while !shared.is_over() {
        if let Some(line) = &mut *shared
            .tracker
            .line
            .lock()
            .expect("no thread panics with it")
        {
            line.ping(None);
        }
        std::thread::sleep(BEAT);
    }
}

/// Takes in pushes for ever, over one connection after the other.
pub(super) fn follow(shared: &Shared) {
    while !shared.is_over() {
        if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream)) {
            // It ends when the connection does, for whatever reason.
            follow_one(shared, stream).ok();
            *shared
                .tracker
                .line
                .lock()
                .expect("no thread panics with it") = None;
            if !shared.is(Wrong::SurvivesLostTracking) {
                *shared
                    .tracker
                    .heard
                    .lock()
                    .expect("no thread panics with it") = None;
                shared.copies().void_all();
            }
        }
        std::thread::sleep(TICK);
    }
}

fn follow_one(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    for hello in ["HELLO 3", "CLIENT TRACKING ON BCAST"] {
        stream.write_all(&request(&words(hello)))?;
    }
    let mut replies_due = 2;
    let mut unread = Vec::new();
    while !shared.is_over() {
        let mut bytes = [0; 16 * 1024];
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(len) => unread.extend_from_slice(&bytes[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        while let Some((value, used)) = Value::parse(&unread) {
            unread.drain(..used);
            if let Value::Push(push) = value {
                take_in(shared, &push);
            } else if replies_due == 0 {
                shared.tracker.pong();
            } else {
                replies_due -= 1;
                if replies_due == 0 {
                    let stream = stream.try_clone()?;
                    let pings = VecDeque::new();
                    let line = Some(Line { stream, pings });
                    *shared
                        .tracker
                        .line
                        .lock()
                        .expect("no thread panics with it") = line;
                }
            }
        }
    }
    Ok(())
}

fn take_in(shared: &Shared, push: &[Value]) {
    if shared.is(Wrong::NeverInvalidates) {
        return;
    }
    let mut copies = shared.copies();
    match push.get(1) {
        Some(Value::Array(keys)) => {
            for key in keys {
                if let Value::Text(key) = key {
                    copies.void(key);
                }
            }
        }
        _ if shared.is(Wrong::IgnoresNullPush) => {}
        _ => copies.void_all(),
    }
}
