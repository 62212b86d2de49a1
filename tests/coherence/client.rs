//! A client of our own: it knows when the first byte left and when the last one came, speaks RESP2
//! and RESP3, and never waits longer than [`REPLY_MAX`].

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use corral::clock;

use super::history::Act;
use super::history::{ClientId, Clock, Hang, History, Key, Nanos, Op, Route, Seen, Write};
use super::servers::request;
use super::upstream::Door;

/// A request that takes longer hangs. The fronts' `upstream-timeout` is well below.
pub(crate) const REPLY_MAX: Duration = Duration::from_secs(4);
/// Before a client whose connection failed tries again.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// A reply, of either protocol. A map is an array of its keys and values in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Nil,
    Text(Vec<u8>),
    Integer(i64),
    Error(String),
    Array(Vec<Self>),
    Push(Vec<Self>),
}

impl Value {
    /// The first value of these bytes and its length, or `None` if it is not complete.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(bytes.get(1..end)?).into_owned();
        let used = end + 2;
        let number = || line.parse::<i64>().expect("a number in a header");
        let value = match bytes[0] {
            b'+' | b',' | b'(' | b'#' => Self::Text(line.into_bytes()),
            b'-' => Self::Error(line),
            b':' => Self::Integer(number()),
            b'_' => Self::Nil,
            b'$' | b'=' => {
                let Ok(len) = usize::try_from(number()) else {
                    return Some((Self::Nil, used));
                };
                let text = bytes.get(used..used + len)?.to_vec();
                bytes.get(used + len..used + len + 2)?;
                return Some((Self::Text(text), used + len + 2));
            }
            kind @ (b'*' | b'~' | b'%' | b'>') => {
                let Ok(len) = usize::try_from(number()) else {
                    return Some((Self::Nil, used));
                };
                let len = if kind == b'%' { 2 * len } else { len };
                let (values, used) = Self::parse_many(bytes, used, len)?;
                let value = match kind {
                    b'>' => Self::Push(values),
                    _ => Self::Array(values),
                };
                return Some((value, used));
            }
            kind => panic!("no RESP: {:?}", char::from(kind)),
        };
        Some((value, used))
    }

    fn parse_many(bytes: &[u8], mut used: usize, len: usize) -> Option<(Vec<Self>, usize)> {
        let mut values = Vec::new();
        for _ in 0..len {
            let (value, more) = Self::parse(&bytes[used..])?;
            values.push(value);
            used += more;
        }
        Some((values, used))
    }

    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// The bytes of a string.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nil | Self::Integer(_) | Self::Error(_) | Self::Array(_) | Self::Push(_) => None,
        }
    }

    /// The elements of an array.
    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(values) | Self::Push(values) => values,
            Self::Nil | Self::Text(_) | Self::Integer(_) | Self::Error(_) => &[],
        }
    }

    /// It as a version of this key, if it is a value at all.
    pub(crate) fn seen(&self, key: &Key) -> Option<Seen> {
        match self {
            Self::Nil => Some(Seen::Nil),
            Self::Integer(number) => u64::try_from(*number).ok().map(Seen::Version),
            Self::Text(text) if text.is_empty() => Some(Seen::Nil),
            Self::Text(text) => Some(seen_in(&String::from_utf8_lossy(text), key)),
            Self::Error(_) | Self::Array(_) | Self::Push(_) => None,
        }
    }
}

/// The value of a version: it names its key, so that no other's can be taken for it.
pub(crate) fn value_of(key: &Key, version: u64, padding: usize) -> String {
    let Key { db, name } = key;
    format!("{db}/{name}@{version}:{}", "x".repeat(padding))
}

fn seen_in(text: &str, key: &Key) -> Seen {
    let version = if key.is_shared() {
        text.parse().ok()
    } else {
        let of_key = text.strip_prefix(&format!("{}/{}@", key.db, key.name));
        let version = of_key.and_then(|rest| rest.split_once(':'));
        version.and_then(|(version, _)| version.parse().ok())
    };
    let foreign = || Seen::Foreign(text.chars().take(40).collect());
    version.map_or_else(foreign, Seen::Version)
}

/// A command.
pub(crate) type Request = Vec<String>;

/// A command of words without blanks.
pub(crate) fn words(text: &str) -> Request {
    text.split(' ').map(str::to_owned).collect()
}

/// The commands by which strings and hashes are read here.
const READS: &[&str] = &["GET", "MGET", "GETRANGE", "HGET", "HMGET", "HGETALL"];

/// Whether Redis counts it as a read: also a script that calls one, as each that reads here does.
fn is_read(request: &Request) -> bool {
    let script = request.get(1).filter(|_| request[0] == "EVAL");
    READS.contains(&request[0].as_str()) || script.is_some_and(|script| script.contains("'GET'"))
}

/// How many commands that read have reached Redis since it was started.
pub(crate) fn reads_counted(direct: &mut Client) -> u64 {
    let info = direct.ask("INFO commandstats");
    let info = info.as_ref().and_then(Value::text).unwrap_or_default();
    let info = String::from_utf8_lossy(info).to_ascii_uppercase();
    let calls = info.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("CMDSTAT_")?.split_once(":CALLS=")?;
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        READS.contains(&name).then_some(calls)
    });
    calls.sum()
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Closed,
    Silent,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    port: u16,
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    fn open(port: u16) -> Result<Self, Broken> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|_| Broken::Closed)?;
        stream.set_nodelay(true).map_err(|_| Broken::Closed)?;
        let unread = Vec::new();
        Ok(Self {
            port,
            stream,
            unread,
        })
    }

    fn send(&mut self, requests: &[Request]) -> Result<(), Broken> {
        let bytes: Vec<u8> = requests.iter().flat_map(|words| request(words)).collect();
        self.stream.write_all(&bytes).map_err(|_| Broken::Closed)
    }

    /// The next value that is no push.
    fn reply(&mut self) -> Result<Value, Broken> {
        let since = clock::now();
        loop {
            while let Some((value, used)) = Value::parse(&self.unread) {
                self.unread.drain(..used);
                if !matches!(value, Value::Push(_)) {
                    return Ok(value);
                }
            }
            let left = REPLY_MAX.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(Broken::Silent);
            }
            let timeout = self.stream.set_read_timeout(Some(left));
            timeout.map_err(|_| Broken::Closed)?;
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Broken::Closed),
                Ok(len) => self.unread.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Broken::Silent),
                Err(_) => return Err(Broken::Closed),
            }
        }
    }
}

/// A reply and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) value: Value,
    pub(crate) end: Nanos,
}

/// A client that keeps a history of what it did.
#[derive(Debug)]
pub(crate) struct Client {
    id: ClientId,
    pub(crate) route: Route,
    door: Door,
    is_resp3: bool,
    /// The database it selects when it connects.
    db: u32,
    connection: Option<Connection>,
    pub(crate) clock: Clock,
    pub(crate) history: History,
}

impl Client {
    pub(crate) fn new(id: u32, route: Route, door: Door, clock: Clock) -> Self {
        Self {
            id: ClientId(id),
            route,
            door,
            is_resp3: id % 2 == 1,
            db: 0,
            connection: None,
            clock,
            history: History::default(),
        }
    }

    /// The same, of another database.
    pub(crate) fn in_db(self, db: u32) -> Self {
        Self { db, ..self }
    }

    /// Sends these in one go; the replies, as far as they came, and when it began. A connection
    /// that broke is opened again by the next call.
    pub(crate) fn run(&mut self, requests: &[Request]) -> (Nanos, Vec<Answer>) {
        self.ensure_open();
        self.run_here(requests)
    }

    /// The same, but only on the connection there is.
    pub(crate) fn run_here(&mut self, requests: &[Request]) -> (Nanos, Vec<Answer>) {
        let begin = self.clock.now();
        let mut answers = Vec::new();
        self.leave_if_moved();
        let Some(connection) = &mut self.connection else {
            return (begin, answers);
        };
        let reads = requests.iter().filter(|request| is_read(request)).count() as u64;
        self.history.reads_sent[usize::from(self.route != Route::Direct)] += reads;
        let mut broken = connection.send(requests).err();
        while broken.is_none() && answers.len() < requests.len() {
            match connection.reply() {
                Ok(value) => {
                    let end = self.clock.now();
                    if value.is_error() {
                        let command = requests[answers.len()].join(" ");
                        self.history.failures += 1;
                        self.history
                            .note_failure(|| format!("{command}: {value:?}"));
                    }
                    answers.push(Answer { value, end });
                }
                Err(why) => broken = Some(why),
            }
        }
        if let Some(why) = broken {
            self.connection = None;
            self.history.failures += 1;
            self.history
                .note_failure(|| format!("the connection broke: {why:?}"));
            // How long Redis itself is silent is no fault of a front.
            if why == Broken::Silent && self.route != Route::Direct {
                let command = requests[answers.len()].join(" ");
                let client = self.id;
                self.history.hangs.push(Hang {
                    client,
                    command: command.chars().take(100).collect(),
                    begin,
                });
            }
        }
        (begin, answers)
    }

    /// The reply to one command.
    pub(crate) fn ask(&mut self, text: &str) -> Option<Value> {
        let (_, mut answers) = self.run(&[words(text)]);
        answers.pop().map(|answer| answer.value)
    }

    /// Gives up a connection to where its server is no more.
    fn leave_if_moved(&mut self) {
        let port = self.door.port();
        self.connection
            .take_if(|connection| connection.port != port);
    }

    fn ensure_open(&mut self) {
        self.leave_if_moved();
        if self.connection.is_some() {
            return;
        }
        let Ok(connection) = Connection::open(self.door.port()) else {
            self.history.failures += 1;
            std::thread::sleep(RETRY_AFTER);
            return;
        };
        self.connection = Some(connection);
        let mut hello = Vec::new();
        if self.is_resp3 {
            hello.push(words("HELLO 3"));
        }
        if self.route == Route::Direct {
            hello.push(words("CLIENT SETNAME direct"));
        }
        hello.push(words(&format!("SELECT {}", self.db)));
        let (_, answers) = self.run_here(&hello);
        if answers.len() < hello.len() || answers.iter().any(|answer| answer.value.is_error()) {
            self.connection = None;
            std::thread::sleep(RETRY_AFTER);
        }
    }

    /// Notes a read.
    pub(crate) fn note_read(
        &mut self,
        key: &Key,
        (begin, end): (Nanos, Nanos),
        seen: Seen,
        command: &'static str,
    ) {
        let act = Act::Read { seen, command };
        self.note(key, (begin, end), act);
    }

    /// Notes a write.
    pub(crate) fn note_write(&mut self, key: &Key, span: (Nanos, Nanos), write: Write) {
        self.note(key, span, Act::Write(write));
    }

    fn note(&mut self, key: &Key, (begin, end): (Nanos, Nanos), act: Act) {
        self.history.ops.push(Op {
            client: self.id,
            route: self.route,
            key: key.clone(),
            begin,
            end,
            act,
        });
    }
}
