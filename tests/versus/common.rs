//! Servers to compare, and a client that returns what they send, byte for byte.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use corral::clock;
use corral::resp::frame::{FrameScanner, Kind};

pub(crate) use super::servers::{PATIENCE, Server, corral, free_port, request};

impl Server {
    /// Ours, in front of another.
    pub(crate) fn front(upstream: &Self, args: &[&str]) -> Self {
        let url = format!("redis://127.0.0.1:{}", upstream.port);
        Self::corral(&[&["--upstream", &url], args].concat())
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Client::new(stream)
    }
}

/// Why there is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Nothing came in time.
    Silence,
    /// The server closed the connection.
    Closed,
}

/// A connection that is written requests and read frames.
pub(crate) struct Client {
    stream: TcpStream,
    scanner: FrameScanner,
    unread: Vec<u8>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            scanner: FrameScanner::new(),
            unread: Vec::new(),
        }
    }

    /// Writes requests. That the server has closed is seen at the next [`Self::frame`].
    pub(crate) fn send(&mut self, requests: &[u8]) {
        self.stream.write_all(requests).ok();
    }

    /// The next reply or push, whole, which must come within `patience`.
    pub(crate) fn frame_within(&mut self, patience: Duration) -> Result<Vec<u8>, Missing> {
        let mut scanned = 0;
        let since = clock::now();
        loop {
            let scan = self.scanner.scan(&self.unread[scanned..]);
            let scan = scan.unwrap_or_else(|error| {
                panic!("{error}: {}", self.unread.escape_ascii());
            });
            scanned += scan.len;
            if scan.ended.is_some() {
                return Ok(self.unread.drain(..scanned).collect());
            }
            let left = patience.saturating_sub(since.elapsed());
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("an option");
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Missing::Closed),
                Ok(len) => self.unread.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(Missing::Silence);
                }
                Err(_) => return Err(Missing::Closed),
            }
        }
    }

    /// The next reply or push.
    pub(crate) fn frame(&mut self) -> Result<Vec<u8>, Missing> {
        self.frame_within(PATIENCE)
    }

    /// Sends one command and returns its reply.
    pub(crate) fn ask(&mut self, arguments: &[&[u8]]) -> Vec<u8> {
        self.send(&request(arguments));
        self.frame().unwrap_or_else(|missing| {
            panic!("{missing:?} after {}", Shown(arguments));
        })
    }

    /// Sends a command of words without blanks and returns its reply as text.
    pub(crate) fn say(&mut self, words: &str) -> String {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.ask(&words)).into_owned()
    }

    /// Sends a command whose reply is an integer.
    pub(crate) fn number(&mut self, words: &str) -> i64 {
        let reply = self.say(words);
        let number = reply
            .strip_prefix(':')
            .and_then(|rest| rest.trim_end().parse().ok());
        number.unwrap_or_else(|| panic!("{words}: {reply:?}"))
    }

    /// One line of INFO.
    pub(crate) fn info(&mut self, name: &str) -> String {
        let info = self.say("INFO everything");
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let line = lines.find(|(key, _)| *key == name);
        let line = line.unwrap_or_else(|| panic!("INFO has no {name}: {info}"));
        line.1.to_owned()
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = clock::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The value of a key, which must be one.
#[track_caller]
pub(crate) fn value(client: &mut Client, key: &str) -> String {
    let reply = client.say(&format!("GET {key}"));
    assert!(reply.starts_with('$'), "{reply}");
    String::from_utf8_lossy(text(reply.as_bytes())).into_owned()
}

/// How often a server, of which this is a client, ran GET.
pub(crate) fn reads(client: &mut Client) -> u64 {
    let stats = client.say("INFO commandstats");
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.map_or(0, |line| {
        let calls = line.split(',').next().expect("a part");
        calls.parse().expect("a number")
    })
}

/// A command for people.
pub(crate) struct Shown<'a, T>(pub(crate) &'a [T]);

impl<T: AsRef<[u8]>> fmt::Display for Shown<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for argument in self.0 {
            let argument = argument.as_ref();
            if argument.is_empty() || argument.contains(&b' ') {
                write!(formatter, "\"{}\" ", argument.escape_ascii())?;
            } else {
                write!(formatter, "{} ", argument.escape_ascii())?;
            }
        }
        Ok(())
    }
}

/// The elements of an aggregate, each in wire form; of a map, each key with its value. None if it
/// is none.
pub(crate) fn elements(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let first = *frame.first()?;
    if !matches!(first, b'*' | b'~' | b'%' | b'>') {
        return None;
    }
    let head = frame.iter().position(|&byte| byte == b'\n')? + 1;
    let mut rest = &frame[head..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let mut len = end_of_frame(rest);
        if first == b'%' {
            len += end_of_frame(&rest[len..]);
        }
        found.push(&rest[..len]);
        rest = &rest[len..];
    }
    Some(found)
}

fn end_of_frame(bytes: &[u8]) -> usize {
    let scan = FrameScanner::new().scan(bytes).expect("a checked frame");
    assert!(
        scan.ended.is_some_and(|kind| kind != Kind::Push),
        "an element"
    );
    scan.len
}

/// What a bulk or a simple string holds.
pub(crate) fn text(frame: &[u8]) -> &[u8] {
    let line_end = frame.iter().position(|&byte| byte == b'\n');
    let line_end = line_end.expect("a frame has a line");
    match frame[0] {
        b'$' if frame.len() > line_end + 1 => &frame[line_end + 1..frame.len() - 2],
        _ => &frame[1..line_end - 1],
    }
}
